//! CloudTrail logs: however the bytes are cut into pushes, the same events come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_detect::logs::{ApiCall, Piece, Splitter};

fn events(bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::default();
    let mut out = Vec::new();
    let mut drain = |splitter: &mut Splitter| {
        while let Some(piece) = splitter.next_piece() {
            if let Piece::Event(event) = piece {
                let _ = ApiCall::parse(event.json, 0);
                out.push(event.json.to_vec());
            }
        }
    };
    for part in bytes.chunks(chunk) {
        splitter.push(part);
        drain(&mut splitter);
    }
    splitter.end();
    drain(&mut splitter);
    out
}

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(events(bytes, bytes.len().max(1)), events(bytes, 7));
});
