//! Indicators: what is known to be bad, read from lists and matched by both sides.
//!
//! A feed as published goes through one parser of [`format`](mod@format) into a [`SetBuilder`], which leaves out
//! what no list may name and what the operator allows; the finished [`IndicatorSet`] answers for
//! addresses, endpoints and domains. [`folder`] says how a folder of feeds is read. No IO and no
//! clock: the caller reads files and says what time it is. What a category means for a finding is
//! the collector's business.
#![forbid(unsafe_code)]

mod allow;
pub mod category;
mod clue;
mod date;
mod exclude;
pub mod feeds_file;
pub mod folder;
pub mod format;
pub mod indicator;
pub mod limits;
pub mod list;
mod names;
mod range;
pub mod report;
mod seed;
pub mod set;
pub mod share;
mod sink;
mod version;

pub use category::Category;
pub use exclude::{Suffix, Suffixes, embedded_v4, public_resolver};
pub use feeds_file::FeedsFile;
pub use folder::{Folder, FolderReport};
pub use format::{Feed, FormatError, Kind};
pub use indicator::{Indicator, IndicatorError};
pub use list::{Direction, List};
pub use report::{ListReport, Note, Place, Reason};
pub use set::{IndicatorSet, Listed, Match, SetBuilder, SetError};
pub use sink::Sink;
