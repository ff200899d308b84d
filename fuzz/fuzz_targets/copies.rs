//! A packet that the kernel copied tells the records that its frame tells, and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_sense::decode::{Decoder, Event};
use picket_sense::input::{Frame, LinkType, PacketCopy, Way};

fuzz_target!(|packet: &[u8]| {
    let wire_bytes = packet.len() as u32;
    let mut records = Vec::new();
    let mut counted = 0;
    let frame = Frame {
        ts_ns: 1,
        link: LinkType::RAW_IP,
        wire_bytes,
        data: packet,
    };
    Decoder::new().on_frame(&frame, &mut |event| match event {
        Event::Record(record) => records.push(record),
        event => counted += u32::from(event.tunnel().is_none()),
    });
    assert_eq!(counted, 1, "a frame is one thing");
    let copy = PacketCopy {
        ts_ns: 1,
        data: packet,
        wire_bytes,
        way: Way::In,
        ifindex: 1,
        tunnel: None,
        owner: None,
    };
    let mut copied = Vec::new();
    Decoder::new().on_copy(&copy, &mut |event| match event {
        Event::Record(record) => copied.push(record),
        event => assert!(event.tunnel().is_some(), "counted twice: {event:?}"),
    });
    assert_eq!(copied, records);
});
