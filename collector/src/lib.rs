//! The collector: takes summaries and logs in, gives findings and alerts out. It does the IO; what
//! anything means is decided by `picket-detect`, which does none.
#![forbid(unsafe_code)]

mod alert;
mod analysis;
mod api;
mod aws;
mod claims;
mod clock;
pub mod command;
pub mod config;
mod digest;
mod enrol;
mod fetch;
mod files;
mod follow;
pub mod indicators;
mod ingest;
mod log;
mod manager;
mod metrics;
mod neighbourhood;
mod orders;
mod portions;
mod presence;
mod pull;
mod quiet;
mod registry;
mod rules;
mod signing;
pub mod source;
mod stop;
mod store;
mod tls;
mod trails;
mod usage;
