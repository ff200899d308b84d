//! Requests to the metadata service and its answers: the same however the stream is cut, and no
//! secret in anything that is told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::stream::{Ends, check};

const SERVICE: [u8; 4] = [169, 254, 169, 254];

/// What a client would send, and the service answer, that nobody else may learn.
const TOKEN: &[u8] = b"\r\nX-aws-ec2-metadata-token: PICKET-SECRET\r\n\r\n";
const BODY: &[u8] = b"\r\n\r\n{\"SecretAccessKey\":\"PICKET-SECRET\"}";

fuzz_target!(|input: &[u8]| {
    let client = Ends {
        to: SERVICE,
        ..Ends::client(80)
    };
    let service = Ends {
        from: SERVICE,
        ..Ends::server(80)
    };
    for (ends, secret) in [(client, TOKEN), (service, BODY)] {
        check(ends, input);
        // A head that goes on into a header of ours, but for one that is already in its body, from
        // which a client may ask anything.
        let head = input.get(4..).unwrap_or_default();
        if !head.contains(&b'\n') && !head.contains(&0) {
            let told = format!("{:?}", check(ends, &[input, secret].concat()));
            assert!(!told.contains("PICKET-SECRET"), "{told}");
        }
    }
});
