//! The play: what a scenario folder says, and the two ways to act it.
//!
//! [`scenario`] reads the folder, [`play`] acts it with real sockets in a lab, [`sketch`] draws the
//! same conversation as frames for a capture, [`expected`] says whether what came out was right.

pub mod dns;
pub mod expected;
pub mod frame;
pub mod pcap;
pub mod play;
pub mod scenario;
pub mod sketch;
pub mod template;

pub use expected::{Expected, Finding, Incident};
pub use scenario::{Scenario, Step};
