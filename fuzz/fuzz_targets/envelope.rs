//! Envelopes and summaries: what parses must encode to itself again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::{Sealed, Summary, item_bytes};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(len)) = item_bytes(bytes) {
        assert!(len <= bytes.len());
    }
    if let Ok(sealed) = Sealed::parse(bytes) {
        if let Ok(verified) = sealed.verify_as_claimed() {
            let _ = verified.open();
        }
    }
    // Unknown keys are skipped, so only what is written again must read the same.
    if let Ok(summary) = Summary::from_bytes(bytes) {
        assert_eq!(
            Summary::from_bytes(&summary.to_bytes()).as_ref(),
            Ok(&summary)
        );
    }
});
