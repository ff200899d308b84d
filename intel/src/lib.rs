//! Indicators: what is known to be bad, read from lists and matched by both sides.
//!
//! A list file goes through one parser of [`format`] into a [`SetBuilder`]; the finished
//! [`IndicatorSet`] answers for addresses, endpoints and domains. No IO: the caller reads files and
//! passes their name and bytes. What a category means for a finding is the collector's business.
#![forbid(unsafe_code)]

pub mod category;
pub mod format;
pub mod indicator;
pub mod limits;
pub mod list;
mod names;
pub mod set;
mod version;

pub use category::Category;
pub use format::{FormatError, ListReport, Refused};
pub use indicator::{Indicator, IndicatorError};
pub use list::{Direction, List};
pub use set::{IndicatorSet, Match, SetBuilder, SetError};
