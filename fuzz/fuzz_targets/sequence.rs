//! A file of envelopes is cut into the same ones however little of it is there at a time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::item_bytes;

fuzz_target!(|bytes: &[u8]| {
    let whole = item_bytes(bytes);
    for end in 0..bytes.len().min(512) {
        match (item_bytes(&bytes[..end]), &whole) {
            // More may tell; an error or a length stays.
            (Ok(None), _) => {}
            (cut, whole) => assert_eq!(&cut, whole, "at {end}"),
        }
    }
    if let Ok(Some(length)) = whole {
        assert!((1..=bytes.len()).contains(&length));
    }
});
