//! Capture files: pcap and pcapng, plain or gzipped, through the decoders.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use picket_agent::capture::pcap::CaptureFile;
use picket_sense::inspect::Inspector;

fuzz_target!(|bytes: &[u8]| {
    let reader = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut capture) = CaptureFile::from_reader(Path::new("fuzz"), reader) else {
        return;
    };
    let mut inspector = Inspector::new();
    while let Ok(Some(frame)) = capture.next_frame() {
        inspector.on_frame(&frame, &mut |_| {});
    }
    inspector.end_capture("fuzz", &mut |_| {});
});
