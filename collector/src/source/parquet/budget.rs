//! How much work the pages of one file may be: no more than a packed file of its size may unpack to.

use std::sync::atomic::{AtomicBool, Ordering};

use super::ParquetError;
use crate::source::limits::{INFLATE_RATIO_FROM_BYTES, INFLATE_RATIO_MAX, INFLATED_BYTES_MAX};

/// Bytes that a page counts besides those it has: as long as it takes to look for its header (chosen by hand).
const PAGE_BYTES_MIN: u64 = 4_096;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    left: u64,
    whole: u64,
    is_stopping: &'a AtomicBool,
}

impl<'a> Budget<'a> {
    /// That of a file of so many bytes.
    pub(super) fn new(bytes: u64, is_stopping: &'a AtomicBool) -> Self {
        let whole = bytes
            .saturating_mul(INFLATE_RATIO_MAX)
            .clamp(INFLATE_RATIO_FROM_BYTES, INFLATED_BYTES_MAX);
        Self {
            left: whole,
            whole,
            is_stopping,
        }
    }

    /// Takes a page of so many bytes off it.
    pub(super) fn page(&mut self, bytes: u64) -> Result<(), ParquetError> {
        self.charge(bytes.saturating_add(PAGE_BYTES_MIN))
    }

    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), ParquetError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(ParquetError::Pages(self.whole))?;
        Ok(())
    }

    /// Fails if the process is to end.
    pub(super) fn look(&self) -> Result<(), ParquetError> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(ParquetError::Stopping);
        }
        Ok(())
    }
}
