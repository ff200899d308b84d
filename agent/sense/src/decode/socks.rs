//! What a SOCKS proxy is asked for: version 4 with and without names, and version 5 (RFC 1928).
//!
//! ```text
//! version 4: | 4 | command | port (2) | address (4) | user | 0 | name, if the address is 0.0.0.x | 0 |
//! version 5: | 5 | count | methods |                              then, once the proxy has chosen,
//!            | 1 | length | user | length | password |            maybe (RFC 1929), then
//!            | 5 | command | 0 | type | address or name | port (2) |
//! ```
//!
//! Behind the request stands what it was made for: TLS, HTTP, a miner. User and password are
//! passed over.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};

/// Methods a client offers at most. Ten are registered; chosen by hand.
const METHODS_MAX: u8 = 16;

/// Bytes of a user or of a name in version 4, which go up to a zero.
const TEXT_BYTES_MAX: usize = 255;

/// A request to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// 4 or 5.
    pub version: u8,
    /// `connect`, `bind` or `associate`.
    pub command: &'static str,
    /// Name or address asked for.
    pub target: String,
    /// Port asked for.
    pub target_port: u16,
}

/// SOCKS, on any port: known by the first bytes of its client.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        match *view.bytes {
            _ if !view.first => Claim::No,
            [4 | 5] => Claim::Unsure,
            [4, 1 | 2, ..] => {
                let mut bytes = Bytes::new(view.bytes);
                match version_4(&mut bytes) {
                    Some(Read::Request(_)) => Claim::Yes,
                    Some(Read::Nothing | Read::Broken) => Claim::No,
                    None if view.bytes.len() < 2 * TEXT_BYTES_MAX => Claim::Unsure,
                    None => Claim::No,
                }
            }
            // The methods and no more: the client waits for the proxy's choice.
            [5, 1..=METHODS_MAX, ref methods @ ..] => {
                let count = usize::from(view.bytes.get(1).copied().unwrap_or_default());
                match methods.len().cmp(&count) {
                    std::cmp::Ordering::Less => Claim::Unsure,
                    _ => Claim::Yes,
                }
            }
            _ => Claim::No,
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        let mut bytes = Bytes::new(view.bytes);
        let read = match view.bytes.first() {
            Some(4) => version_4(&mut bytes),
            Some(5) if view.first => methods(&mut bytes),
            Some(5) => version_5(&mut bytes),
            Some(1) if !view.first => login(&mut bytes),
            _ => Some(Read::Broken),
        };
        let taken = view.bytes.len() - bytes.rest().len();
        match read {
            None => Step::Wait,
            Some(Read::Nothing) => Step::Took(taken),
            Some(Read::Request(request)) => {
                out(Decoded::Socks(request));
                Step::Hand(taken)
            }
            Some(Read::Broken) => Step::Leave,
        }
    }
}

enum Read {
    Request(Request),
    /// Something that says nothing.
    Nothing,
    Broken,
}

const fn command(byte: u8) -> Option<&'static str> {
    match byte {
        1 => Some("connect"),
        2 => Some("bind"),
        3 => Some("associate"),
        _ => None,
    }
}

fn methods(bytes: &mut Bytes<'_>) -> Option<Read> {
    bytes.u8()?;
    bytes.slice8().map(|_| Read::Nothing)
}

fn login(bytes: &mut Bytes<'_>) -> Option<Read> {
    bytes.u8()?;
    bytes.slice8()?;
    bytes.slice8().map(|_| Read::Nothing)
}

fn version_5(bytes: &mut Bytes<'_>) -> Option<Read> {
    let [_, wanted, reserved, kind] = bytes.array::<4>()?;
    let Some(command) = command(wanted).filter(|_| reserved == 0) else {
        return Some(Read::Broken);
    };
    let target = match kind {
        1 => Ipv4Addr::from(bytes.array::<4>()?).to_string(),
        3 => escaped(bytes.slice8()?),
        4 => Ipv6Addr::from(bytes.array::<16>()?).to_string(),
        _ => return Some(Read::Broken),
    };
    Some(Read::Request(Request {
        version: 5,
        command,
        target,
        target_port: bytes.u16()?,
    }))
}

fn version_4(bytes: &mut Bytes<'_>) -> Option<Read> {
    let [_, wanted] = bytes.array::<2>()?;
    let target_port = bytes.u16()?;
    let address = bytes.array::<4>()?;
    let Some(command) = command(wanted).filter(|_| target_port != 0) else {
        return Some(Read::Broken);
    };
    let user = bytes.zero_ended()?;
    let mut name = None;
    if let [0, 0, 0, 1..=255] = address {
        name = Some(bytes.zero_ended()?);
    }
    if user.len() > TEXT_BYTES_MAX || name.is_some_and(|name| name.len() > TEXT_BYTES_MAX) {
        return Some(Read::Broken);
    }
    Some(Read::Request(Request {
        version: 4,
        command,
        target: name.map_or_else(|| Ipv4Addr::from(address).to_string(), escaped),
        target_port,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{client_hello, over_tcp, tls_record};

    #[track_caller]
    fn check(parts: &[&[u8]], expected: &[&str]) {
        let told: Vec<String> = over_tcp(parts)
            .iter()
            .map(|message| match message {
                Decoded::Socks(request) => {
                    let Request {
                        version,
                        command,
                        target,
                        target_port,
                    } = request;
                    format!("{version} {command} {target}:{target_port}")
                }
                Decoded::ClientHello(hello) => hello.sni.clone().unwrap_or_default(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn requests_of_both_versions() {
        let hello = b"\x05\x01\0";
        let request = b"\x05\x01\0\x03\x0cpool.example\x0d\x05";
        check(&[hello, request], &["5 connect pool.example:3333"]);
        let bytes = [&hello[..], request].concat();
        check(
            &bytes.chunks(1).collect::<Vec<_>>(),
            &["5 connect pool.example:3333"],
        );
        check(
            &[hello, b"\x05\x02\0\x01\xc0\0\x02\x01\0\x50"],
            &["5 bind 192.0.2.1:80"],
        );
        let v6 = b"\x05\x01\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb";
        check(&[hello, v6], &["5 connect 2001:db8::1:443"]);
        let login = b"\x01\x04user\x06s3cret";
        check(
            &[b"\x05\x02\0\x02", login, request],
            &["5 connect pool.example:3333"],
        );
        check(
            &[b"\x04\x01\0\x50\xc0\0\x02\x01user\0"],
            &["4 connect 192.0.2.1:80"],
        );
        check(
            &[b"\x04\x01\0\x50\0\0\0\x01\0a.onion\0"],
            &["4 connect a.onion:80"],
        );
    }

    #[test]
    fn what_stands_behind_is_read() {
        let hello = tls_record(&client_hello("a.example"));
        let parts = [b"\x05\x01\0", &b"\x05\x01\0\x03\x01b\x01\xbb"[..], &hello];
        check(&parts, &["5 connect b:443", "a.example"]);
    }

    #[test]
    fn near_misses() {
        check(&[b"\x05\x00", b"\x05\x01\0\x03\x01b\x01\xbb"], &[]);
        check(&[b"\x05\x01\0", b"\x05\x01\x01\x03\x01b\x01\xbb"], &[]);
        check(&[b"\x05\x01\0", b"\x05\x01\0\x02\x01b\x01\xbb"], &[]);
        check(&[b"\x05\x01\0", b"\x05\x09\0\x03\x01b\x01\xbb"], &[]);
        check(&[b"\x04\x01\0\0\xc0\0\x02\x01\0"], &[]);
        check(&[b"\x04\x03\0\x50\xc0\0\x02\x01\0"], &[]);
        check(&[b"\x04\x01\0\x50\xc0\0\x02\x01no end"], &[]);
        check(&[b"first", b"\x04\x01\0\x50\xc0\0\x02\x01\0"], &[]);
        check(
            &[&[
                b"\x04\x01\0\x50\xc0\0\x02\x01".as_slice(),
                &[b'x'; 300],
                &[0],
            ]
            .concat()],
            &[],
        );
    }
}
