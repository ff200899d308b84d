//! Capture files: the classic format of libpcap with nanoseconds, Ethernet.
//!
//! ```text
//! file   magic a1b23c4d · version 2.4 · zone 0 · accuracy 0 · snaplen · link type 1
//! packet seconds · nanoseconds · captured bytes · wire bytes · the bytes
//! ```

use std::time::Duration;

/// A frame and when it passed, since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub at: Duration,
    /// Ethernet header and what follows, without the checksum at the end.
    pub frame: Vec<u8>,
}

const SNAPLEN: u32 = 262_144;

/// Writes `frames` as a capture file.
pub fn capture<'a>(frames: impl IntoIterator<Item = &'a Timed>) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAPLEN, 1] {
        out.extend(u32::to_le_bytes(word));
    }
    for timed in frames {
        let length = u32::try_from(timed.frame.len()).unwrap_or(u32::MAX);
        // Seconds since the epoch fit until 2106.
        let seconds = timed.at.as_secs() as u32;
        for word in [seconds, timed.at.subsec_nanos(), length, length] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&timed.frame);
    }
    out
}
