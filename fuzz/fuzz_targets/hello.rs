//! Bodies of ClientHellos.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::told;
use picket_sense::decode::tls::ClientHello;

fuzz_target!(|body: &[u8]| {
    if let Some(hello) = ClientHello::read(body) {
        told::client_hello(&hello);
    }
});
