//! What some put in front of a protocol, in the same bytes: it is taken off, and what follows is
//! looked at as the start of a stream.
//!
//! - The PROXY protocol, by which load balancers tell whom they speak for (HAProxy's
//!   `proxy-protocol.txt`): a line of text, or in version 2
//!   `| signature (12) | version, command | family | length (2) | addresses … |`.
//! - The packet header of TDS around the TLS handshake with a database (MS-TDS 2.2.3.1):
//!   `| type (1) | status (1) | length (2) | process (2) | number (1) | window (1) |`.

use super::Decoded;
use super::bytes::Bytes;
use super::stream::{Claim, Step, StreamProtocol, StreamView};

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const SIGNED_HEADER_BYTES: usize = 16;
/// Type of the packets that hold the handshake (MS-TDS 2.2.3.1.1).
const TDS_PRELOGIN: u8 = 0x12;
const TDS_HEADER_BYTES: usize = 8;
/// `ContentType` and major version of a TLS handshake record.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// Any of them.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        let bytes = view.bytes;
        if let [TDS_PRELOGIN, status, ..] = bytes {
            let mut header = Bytes::new(bytes);
            return match (header.take(TDS_HEADER_BYTES), header.array()) {
                (Some(_), Some(TLS_HANDSHAKE)) if *status <= 1 => Claim::Yes,
                _ => Claim::No,
            };
        }
        if !view.first {
            return Claim::No;
        }
        for start in [LINE_START, SIGNATURE] {
            if bytes.starts_with(start) {
                return Claim::Yes;
            }
            if start.starts_with(bytes) {
                return Claim::Unsure;
            }
        }
        Claim::No
    }

    fn advance(&self, view: &StreamView<'_>, _out: &mut dyn FnMut(Decoded)) -> Step {
        let mut bytes = Bytes::new(view.bytes);
        let length = match view.bytes {
            [TDS_PRELOGIN, ..] => TDS_HEADER_BYTES,
            [b'P', ..] => match bytes.line() {
                Some(_) if view.bytes.len() - bytes.rest().len() > LINE_BYTES_MAX => {
                    return Step::Leave;
                }
                Some(_) => view.bytes.len() - bytes.rest().len(),
                None if view.bytes.len() < LINE_BYTES_MAX => return Step::Wait,
                None => return Step::Leave,
            },
            signed => match signed.first_chunk::<SIGNED_HEADER_BYTES>() {
                Some(&[.., a, b]) => SIGNED_HEADER_BYTES + usize::from(u16::from_be_bytes([a, b])),
                None => return Step::Wait,
            },
        };
        if view.bytes.len() < length {
            return Step::Wait;
        }
        Step::Hand(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    #[track_caller]
    fn check(parts: &[&[u8]], expected: &[&str]) {
        let names: Vec<String> = over_tcp(parts)
            .into_iter()
            .map(|message| match message {
                Decoded::ClientHello(hello) => hello.sni.unwrap_or_default(),
                other => other.kind().to_owned(),
            })
            .collect();
        assert_eq!(names, expected);
    }

    fn hello() -> Vec<u8> {
        tls_record(&client_hello("a.example"))
    }

    #[test]
    fn a_line_for_whom() {
        let line = &b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n"[..];
        let whole = [line, &hello()].concat();
        check(&[&whole], &["a.example"]);
        check(&[line, &hello()], &["a.example"]);
        check(&whole.chunks(1).collect::<Vec<_>>(), &["a.example"]);
        check(&[line, b"GET / HTTP/1.1\r\n\r\n"], &["http"]);
        let endless = [LINE_START, &[b'a'; LINE_BYTES_MAX], b"\r\n", &hello()].concat();
        check(
            &[&endless[..LINE_BYTES_MAX], &endless[LINE_BYTES_MAX..]],
            &[],
        );
    }

    #[test]
    fn a_signed_header() {
        let header = [SIGNATURE, &[0x21, 0x11, 0, 12], &[7; 12]].concat();
        let whole = [&header[..], &hello()].concat();
        check(&[&whole], &["a.example"]);
        check(&whole.chunks(1).collect::<Vec<_>>(), &["a.example"]);
        let local = [SIGNATURE, &[0x20, 0, 0, 0], &hello()].concat();
        check(&[&local], &["a.example"]);
        check(&[&header[..27]], &[]);
        // Not at the start.
        check(&[b"hello", &whole], &[]);
    }

    #[test]
    fn a_handshake_in_database_packets() {
        let login = [0x12, 1, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6];
        let hello = hello();
        let length = (hello.len() as u16 + 8).to_be_bytes();
        let header = [0x12, 1, length[0], length[1], 0, 0, 1, 0];
        let wrapped = [&header[..], &hello].concat();
        check(&[&login, &wrapped], &["a.example"]);
        check(&[&login, &login], &[]);
        let other = [&[0x11][..], &wrapped[1..]].concat();
        check(&[&other], &[]);
    }
}
