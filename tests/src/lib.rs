//! The network-namespace lab, and what plays in it: `make demo`, `make lab` and the end-to-end tests.
//!
//! [`lab`] is the ground: an instance, a resolver, an internet and a collector's host, each a
//! network namespace of this process's own. [`scene`] is the play: what a scenario folder says,
//! acted live in the lab, or written as a capture where namespaces may not be made. [`product`]
//! starts the two binaries as a user would and asks them what they saw. [`aws`] stands in for what
//! they ask of AWS.
//!
//! Nothing here is part of the product, and nothing here knows more about it than its command line,
//! its config keys and its wire format.
#![forbid(unsafe_code)]

pub mod aws;
pub mod lab;
pub mod product;
pub mod scene;
