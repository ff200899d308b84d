//! Where the offline analysis gets its events: files, folders and stdin, in the order of event time.
//!
//! ```text
//! files → inflate → cloudtrail ┐
//!                   summaries  │
//!                   hosts      ┴→ sort (spills to disk) → events by time
//! ```
//!
//! A file may be damaged: what stands before the damage, and behind it where that can be found, is
//! taken; the damage is reported with file and place and makes the command fail at its end.

pub mod chains;
pub mod cloudtrail;
pub mod files;
pub mod guardduty;
pub mod hosts;
pub mod inflate;
pub mod intel;
pub mod limits;
pub(crate) mod lines;
pub(crate) mod parquet;
pub mod rds;
pub mod report;
pub mod signers;
pub mod sort;
pub mod summaries;

pub use report::Report;
pub use sort::{Origin, Record, Sorter};
