//! Packets: the first byte chooses the link type, the rest is cut into frames of two-byte length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_sense::input::{Frame, LinkType};
use picket_sense::inspect::Inspector;

const LINKS: [u32; 8] = [0, 1, 9, 101, 113, 228, 229, 276];

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let link = LinkType(LINKS[usize::from(first) % LINKS.len()]);
    let mut inspector = Inspector::new();
    let mut ts_ns = 0;
    while let Some((head, tail)) = rest.split_first_chunk::<2>() {
        let (data, after) = tail.split_at(usize::from(u16::from_le_bytes(*head)).min(tail.len()));
        let frame = Frame {
            ts_ns,
            link,
            wire_bytes: data.len() as u32,
            data,
        };
        inspector.on_frame(&frame, &mut |_| {});
        ts_ns += 1_000_000;
        rest = after;
    }
    inspector.end_capture("fuzz", &mut |_| {});
    inspector.end(&mut |_| {});
});
