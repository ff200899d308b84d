//! Programs run on frames that we make.

use std::net::{IpAddr, Ipv4Addr};

use aya::programs::{TestRun as _, TestRunOptions};
use picket_agent::capture::ebpf::EbpfCapture;

use crate::golden::{ethernet, ipv4};

/// An IPv4 address.
pub(crate) fn v4(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(octets))
}

/// Runs a program on a frame.
pub(crate) fn run(capture: &mut EbpfCapture, program: &str, frame: &[u8]) {
    run_as(capture, program, frame, None);
}

/// Runs a program on a frame as a GSO packet of so many segments of a size.
pub(crate) fn run_as(
    capture: &mut EbpfCapture,
    program: &str,
    frame: &[u8],
    gso: Option<(u32, u32)>,
) {
    assert_eq!(
        answer(capture, program, frame, gso),
        -1,
        "the packet must go on"
    );
}

/// What a program answers to a frame, as a GSO packet of so many segments of a size.
pub(crate) fn answer(
    capture: &mut EbpfCapture,
    program: &str,
    frame: &[u8],
    gso: Option<(u32, u32)>,
) -> i32 {
    /// Places in `struct __sk_buff` (include/uapi/linux/bpf.h).
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0u8; 192];
    if let Some((segments, bytes)) = gso {
        context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&segments.to_ne_bytes());
        context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&bytes.to_ne_bytes());
    }
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = Some(&context);
    let result = capture
        .program(program)
        .expect("load")
        .test_run(options)
        .expect("run");
    result.return_value.cast_signed()
}

/// A frame from 10.0.0.1 to any address.
pub(crate) fn frame_to(remote: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x0800, &ipv4(protocol, payload));
    frame[30..34].copy_from_slice(&remote.to_be_bytes());
    frame
}
