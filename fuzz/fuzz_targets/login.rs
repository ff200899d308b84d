//! What servers say of logins: the same however the stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::stream::{Ends, check};

fuzz_target!(|input: &[u8]| {
    check(Ends::server(21), input);
});
