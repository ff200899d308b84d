//! Summaries: what is read writes to something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::Summary;

fuzz_target!(|bytes: &[u8]| {
    // Unknown keys are skipped, so only what is written again must read the same.
    if let Ok(summary) = Summary::from_bytes(bytes) {
        let again = Summary::from_bytes(&summary.to_bytes());
        assert_eq!(again.as_ref(), Ok(&summary));
    }
});
