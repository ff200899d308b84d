//! The kernel's reading of headers against the decoder's: the same flow, class and sizes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::headers::agree;

fuzz_target!(|frame: &[u8]| agree(frame));
