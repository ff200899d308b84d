//! The banners of SSH (RFC 4253 4.2): what each side calls itself, before all is encrypted.
//!
//! ```text
//! SSH-protocol-software SP comments CR LF
//! ```
//!
//! How a login went cannot be read; what its flow carried tells, see [`crate::summarise`].

use serde::Serialize;

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};

/// Bytes of a banner, CR and LF included (RFC 4253 4.2).
const BANNER_BYTES_MAX: usize = 255;

/// What one side calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Banner {
    /// Version of the protocol: `2.0`, or `1.99` for both.
    pub protocol: String,
    /// Software and its version.
    pub software: String,
    /// What it says besides, often the distribution.
    pub comments: Option<String>,
}

impl Banner {
    /// Reads a banner without its end of line.
    fn read(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"SSH-")?;
        let mut parts = rest.splitn(2, |byte| *byte == b'-');
        let (protocol, rest) = (parts.next()?, parts.next()?);
        let mut words = rest.splitn(2, |byte| *byte == b' ');
        let software = words.next().filter(|software| !software.is_empty())?;
        Some(Self {
            protocol: escaped(protocol),
            software: escaped(software),
            comments: words.next().map(escaped),
        })
    }
}

/// SSH, on any port: known by its banner.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        let starts = [&b"SSH-2.0-"[..], b"SSH-1."];
        if !view.first {
            Claim::No
        } else if starts.iter().any(|start| view.bytes.starts_with(start)) {
            Claim::Yes
        } else if starts.iter().any(|start| start.starts_with(view.bytes)) {
            Claim::Unsure
        } else {
            Claim::No
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        match Bytes::new(view.bytes).line() {
            Some(line) if line.len() <= BANNER_BYTES_MAX => {
                if let Some(banner) = Banner::read(line) {
                    out(Decoded::Ssh(banner));
                }
                Step::Leave
            }
            None if view.bytes.len() < BANNER_BYTES_MAX => Step::Wait,
            _ => Step::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::over_tcp;

    #[track_caller]
    fn check(parts: &[&[u8]], expected: Option<(&str, &str, Option<&str>)>) {
        let told = over_tcp(parts);
        let banner = told.first().map(|message| match message {
            Decoded::Ssh(banner) => banner,
            other => panic!("{other:?}"),
        });
        let got = banner.map(|banner| {
            let Banner {
                protocol,
                software,
                comments,
            } = banner;
            (protocol.as_str(), software.as_str(), comments.as_deref())
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn banners() {
        let full = b"SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.1\r\n\0\0\x04";
        let expected = Some(("2.0", "OpenSSH_8.9p1", Some("Ubuntu-3ubuntu0.1")));
        check(&[full], expected);
        check(&full.chunks(1).collect::<Vec<_>>(), expected);
        check(&[b"SSH-2.0-Go\n"], Some(("2.0", "Go", None)));
        check(
            &[b"SSH-1.99-dropbear-2022\r\n"],
            Some(("1.99", "dropbear-2022", None)),
        );
        check(&[b"SSH-2.0-a\x1b[2J\r\n"], Some(("2.0", r"a\027[2J", None)));
    }

    #[test]
    fn near_misses() {
        check(&[b"SSH-3.0-x\r\n"], None);
        check(&[b"SSH-2.0-\r\n"], None);
        check(&[b"ssh-2.0-x\r\n"], None);
        check(&[b"220 hello\r\n", b"SSH-2.0-x\r\n"], None);
        check(&[b"SSH-2.0-x"], None);
        check(
            &[&[b"SSH-2.0-".as_slice(), &[b'x'; 300], b"\r\n"].concat()],
            None,
        );
    }
}
