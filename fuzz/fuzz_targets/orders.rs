//! Orders to block: what opens must seal to something that opens to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::{Orders, Signer};

fuzz_target!(|bytes: &[u8]| {
    let signer = Signer::development();
    let key = signer.public_key();
    let _ = Orders::open(bytes, &key);
    // The same bytes as a payload that is signed well.
    if let Ok(orders) = Orders::open(&Orders::seal_payload(bytes, &signer), &key) {
        assert_eq!(Orders::open(&orders.seal(&signer), &key), Ok(orders));
    }
});
