//! How current the indicators are that a host was given.

use minicbor::{CborLen, Decode, Encode};

use super::{SummaryError, bounded};
use crate::limits;

/// The bundle of indicators in use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Listing {
    /// Its version; 0 for none.
    #[n(0)]
    pub version: u64,
    /// When it was issued, milliseconds since the epoch; 0 for none.
    #[n(1)]
    pub issued_ms: u64,
    /// Why it is not current any more, in words; `None` if it is.
    #[n(2)]
    pub stale: Option<String>,
}

impl Listing {
    pub(super) fn validate(&self) -> Result<(), SummaryError> {
        let len = self.stale.as_ref().map_or(0, String::len);
        bounded(
            "why indicators are stale",
            len,
            limits::HEALTH_TEXT_BYTES_MAX,
        )
    }
}
