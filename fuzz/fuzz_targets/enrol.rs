//! Messages of an enrolment: what opens seals to something that opens to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::Signer;
use picket_wire::enrol::{Challenge, Receipt, Request};

fuzz_target!(|bytes: &[u8]| {
    let signer = Signer::development();
    let key = signer.public_key();
    if let Ok(request) = Request::open(bytes)
        && request.key() == key
    {
        assert_eq!(Request::open(&request.seal(&signer)), Ok(request));
    }
    if let Ok(receipt) = Receipt::open(bytes, &key) {
        assert_eq!(Receipt::open(&receipt.seal(&signer), &key), Ok(receipt));
    }
    if let Ok(challenge) = Challenge::read(bytes) {
        assert_eq!(Challenge::read(&challenge.to_bytes()), Ok(challenge));
    }
});
