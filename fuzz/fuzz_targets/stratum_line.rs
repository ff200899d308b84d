//! A line of JSON that may be a miner's or its pool's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::told;
use picket_sense::decode::Decoded;
use picket_sense::decode::stratum::Call;

fuzz_target!(|line: &[u8]| {
    if let Some(call) = Call::read(line) {
        told::check(&Decoded::Stratum(Box::new(call)));
    }
});
