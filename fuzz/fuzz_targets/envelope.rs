//! Envelopes: what verifies opens or is refused, and what opens can be sealed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::Sealed;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sealed) = Sealed::parse(bytes)
        && let Ok(verified) = sealed.verify_as_claimed()
    {
        let _ = verified.open();
    }
});
