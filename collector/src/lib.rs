//! The collector: takes summaries and logs in, gives findings and alerts out. It does the IO; what
//! anything means is decided by `picket-detect`, which does none.
#![forbid(unsafe_code)]

pub mod command;
pub mod config;
pub mod source;
