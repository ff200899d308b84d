//! The first message of a TLS client (RFC 8446 4.1.2, RFC 5246 7.4.1.2), over TCP; QUIC carries
//! the same without the records, see [`super::quic`].
//!
//! ```text
//! | 22 | version (2) | length (2) |                        record
//!     | 1 | length (3) |                                   handshake message, maybe over records
//!     | version (2) | random (32) |
//!     | length (1) | session id | length (2) | ciphers | length (1) | compression methods |
//!     | length (2) | extensions: type (2), length (2), data |
//! ```
//!
//! After a HelloRetryRequest the client sends a second one, which is a record of its own. Of one
//! whose rest is missing, or that contradicts itself, we tell what stands before that; it has no
//! fingerprint. Old clients send theirs in the form of SSL 2.0, see [`version2`].

mod fingerprint;
mod version2;

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};

/// `ContentType` of handshake and change-cipher-spec records (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
/// `HandshakeType` of a ClientHello and of the answer to it.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Bytes a record may hold: 2^14, and 2,048 more for old padding (RFC 5246 6.2.3).
const RECORD_BYTES_MAX: u16 = (1 << 14) + 2048;
/// Bytes a ClientHello may have before we take it for something else. The largest in use, with
/// post-quantum keys and tickets, take a few kilobytes.
const HELLO_BYTES_MAX: u32 = 48 << 10;

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// Whether all of it was there and agreed with itself. If not, what is absent may have been said.
    pub complete: bool,
    /// Server name (RFC 6066 3), bytes outside 0x21-0x7e and `\` as `\DDD`.
    pub sni: Option<String>,
    /// Application protocols (RFC 7301), escaped alike.
    pub alpn: Vec<String>,
    /// MD5 of version, ciphers, extensions, groups and point formats, in hex.
    pub ja3: Option<String>,
    /// JA4 fingerprint of a TLS client.
    pub ja4: Option<String>,
}

/// What carries a ClientHello, as JA4 marks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decode) enum Carrier {
    Tcp,
    Quic,
}

/// The fields of a ClientHello that are looked at.
#[derive(Debug, Default)]
struct Fields<'a> {
    legacy_version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    groups: Vec<u16>,
    point_formats: &'a [u8],
    signature_algorithms: Vec<u16>,
    versions: Vec<u16>,
    sni: Option<&'a [u8]>,
    alpn: Vec<&'a [u8]>,
}

impl ClientHello {
    /// Reads the body of a ClientHello: what stands behind the handshake header.
    ///
    /// Returns `None` if its fixed part, its ciphers or the frame of its extensions are not there.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        Self::read_over(body, Carrier::Tcp)
    }

    pub(in crate::decode) fn read_over(body: &[u8], carrier: Carrier) -> Option<Self> {
        let mut fields = Fields::default();
        fields.read(body)?;
        let mark = match carrier {
            Carrier::Tcp => 't',
            Carrier::Quic => 'q',
        };
        Some(Self {
            complete: true,
            ja3: Some(fingerprint::ja3(&fields)),
            ja4: Some(fingerprint::ja4(&fields, mark)),
            ..Self::names(&fields)
        })
    }

    /// Reads what there is of a body that is cut.
    pub(super) fn read_cut(body: &[u8]) -> Self {
        let mut fields = Fields::default();
        // It ends early; what came before is in the fields.
        let _ = fields.read(body);
        Self::names(&fields)
    }

    fn names(fields: &Fields<'_>) -> Self {
        let protocols = fields.alpn.iter();
        Self {
            complete: false,
            sni: fields.sni.map(escaped),
            alpn: protocols.map(|protocol| escaped(protocol)).collect(),
            ja3: None,
            ja4: None,
        }
    }
}

impl<'a> Fields<'a> {
    /// Reads until something is missing, which makes it `None`.
    fn read(&mut self, body: &'a [u8]) -> Option<()> {
        let mut bytes = Bytes::new(body);
        self.legacy_version = bytes.u16()?;
        bytes.take(32)?;
        bytes.slice8()?;
        self.ciphers = words(bytes.slice16()?);
        bytes.slice8()?;
        if bytes.is_empty() {
            // Before TLS 1.2 there need be no extensions.
            return Some(());
        }
        let length = usize::from(bytes.u16()?);
        let there = bytes.rest().get(..length).unwrap_or(bytes.rest());
        let mut extensions = Bytes::new(there);
        while !extensions.is_empty() {
            let (kind, data) = (extensions.u16()?, extensions.slice16()?);
            self.extensions.push(kind);
            // An extension that contradicts itself says nothing, but it is there.
            self.read_extension(kind, data);
        }
        (there.len() == length).then_some(())
    }

    fn read_extension(&mut self, kind: u16, data: &'a [u8]) -> Option<()> {
        let mut bytes = Bytes::new(data);
        match kind {
            0 => {
                let mut names = Bytes::new(bytes.slice16()?);
                while !names.is_empty() {
                    let (name_type, name) = (names.u8()?, names.slice16()?);
                    if name_type == 0 && self.sni.is_none() {
                        self.sni = Some(name);
                    }
                }
            }
            10 => self.groups = words(bytes.slice16()?),
            11 => self.point_formats = bytes.slice8()?,
            13 => self.signature_algorithms = words(bytes.slice16()?),
            16 => {
                let mut protocols = Bytes::new(bytes.slice16()?);
                while !protocols.is_empty() {
                    self.alpn.push(protocols.slice8()?);
                }
            }
            43 => self.versions = words(bytes.slice8()?),
            _ => {}
        }
        Some(())
    }
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect()
}

/// TLS over TCP, on any port: known by its first bytes.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        let matches = |at: usize, accepted: &dyn Fn(u8) -> bool| match view.bytes.get(at) {
            Some(&byte) => accepted(byte),
            None => true,
        };
        let record = matches(0, &|byte| byte == HANDSHAKE)
            && matches(1, &|byte| byte == 3)
            && matches(2, &|byte| byte <= 4);
        if !record {
            return version2::claims(view.bytes);
        }
        let mut bytes = Bytes::new(view.bytes);
        let (Some(_), Some(length)) = (bytes.u24(), bytes.u16()) else {
            return Claim::Unsure;
        };
        if length == 0 || length > RECORD_BYTES_MAX {
            return Claim::No;
        }
        // A message may go on in the next record: what this one holds has to fit.
        let whole = bytes.rest().len() >= usize::from(length);
        let mut message = Bytes::new(bytes.rest().get(..length.into()).unwrap_or(bytes.rest()));
        match message.u8() {
            Some(CLIENT_HELLO) => {}
            // A server's side of it, certificates and all.
            Some(SERVER_HELLO) => return Claim::Over,
            Some(_) => return Claim::No,
            None => return Claim::Unsure,
        }
        match (message.u24(), message.u8()) {
            (Some(length), _) if length > HELLO_BYTES_MAX => Claim::No,
            (Some(_), Some(3)) => Claim::Yes,
            (Some(_), Some(_)) => Claim::No,
            _ if whole => Claim::Yes,
            _ => Claim::Unsure,
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        if version2::claims(view.bytes) == Claim::Yes {
            return version2::advance(view.bytes, out);
        }
        let mut bytes = Bytes::new(view.bytes);
        let mut run = match record(&mut bytes) {
            // Sent before the second ClientHello to please middleboxes (RFC 8446 D.4).
            Ok(Some((CHANGE_CIPHER_SPEC, _))) => {
                return Step::Took(view.bytes.len() - bytes.rest().len());
            }
            Ok(Some((HANDSHAKE, data))) if data.first() == Some(&CLIENT_HELLO) => Run::new(data),
            Ok(None) => return Step::Wait,
            _ => return Step::Leave,
        };
        loop {
            match run.tell(view.told, out) {
                Ok(true) => return Step::Took(view.bytes.len() - bytes.rest().len()),
                Ok(false) => {}
                Err(NotTls) => return Step::Leave,
            }
            match record(&mut bytes) {
                Ok(Some((HANDSHAKE, more))) => run.data.extend_from_slice(more),
                Ok(None) => return Step::Wait,
                _ => return Step::Leave,
            }
        }
    }

    fn cut(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) {
        let mut bytes = Bytes::new(view.bytes);
        let mut run = Run::new(&[]);
        while let Ok(Some((kind, data))) = record(&mut bytes) {
            match kind {
                HANDSHAKE => run.data.extend_from_slice(data),
                CHANGE_CIPHER_SPEC => {}
                _ => return,
            }
        }
        // The record that is cut.
        if let Some((&[HANDSHAKE, ..], part)) = bytes.rest().split_first_chunk::<5>() {
            run.data.extend_from_slice(part);
        }
        if run.tell(view.told, out) == Ok(false)
            && let Some((&[CLIENT_HELLO, _, _, _], body)) = run.left().split_first_chunk::<4>()
        {
            out(Decoded::ClientHello(Box::new(ClientHello::read_cut(body))));
        }
    }
}

/// The content of a run of handshake records: messages may lie over several records, and a record
/// may hold several messages.
struct Run {
    data: Vec<u8>,
    /// Where the first message stands that is not whole.
    at: usize,
    /// ClientHellos before that.
    hellos: u32,
}

impl Run {
    fn new(data: &[u8]) -> Self {
        Self {
            data: data.to_vec(),
            at: 0,
            hellos: 0,
        }
    }

    fn left(&self) -> &[u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// Tells the ClientHellos that are whole, but for the first `told`. Returns whether nothing is
    /// left behind them; an error if something else is.
    fn tell(&mut self, told: u32, out: &mut dyn FnMut(Decoded)) -> Result<bool, NotTls> {
        loop {
            match self.left().first() {
                None => return Ok(true),
                Some(&CLIENT_HELLO) => {}
                Some(_) => return Err(NotTls),
            }
            let Some((&[_, a, b, c], rest)) = self.left().split_first_chunk::<4>() else {
                return Ok(false);
            };
            let length = u32::from_be_bytes([0, a, b, c]);
            if length > HELLO_BYTES_MAX {
                return Err(NotTls);
            }
            let Some(body) = rest.get(..length as usize) else {
                return Ok(false);
            };
            let end = self.at + 4 + body.len();
            if self.hellos >= told {
                // One that contradicts itself still says what stands before the contradiction.
                let hello = ClientHello::read(body).unwrap_or_else(|| ClientHello::read_cut(body));
                out(Decoded::ClientHello(Box::new(hello)));
            }
            self.hellos += 1;
            self.at = end;
        }
    }
}

/// Takes a record: its type and its content; `None` while it is not all there.
fn record<'a>(bytes: &mut Bytes<'a>) -> Result<Option<(u8, &'a [u8])>, NotTls> {
    let mut ahead = *bytes;
    let Some(kind) = ahead.u8() else {
        return Ok(None);
    };
    match ahead.u16() {
        Some(version) if version >> 8 == 3 => {}
        Some(_) => return Err(NotTls),
        None => return Ok(None),
    }
    match ahead.u16() {
        Some(0) => Err(NotTls),
        Some(length) if length > RECORD_BYTES_MAX => Err(NotTls),
        Some(length) => Ok(ahead.take(usize::from(length)).map(|data| {
            *bytes = ahead;
            (kind, data)
        })),
        None => Ok(None),
    }
}

/// The bytes are no TLS record.
#[derive(Debug, PartialEq, Eq)]
struct NotTls;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::client_hello;

    #[test]
    fn what_a_hello_says() {
        let hello = ClientHello::read(&client_hello("a.example")[4..]).unwrap();
        assert_eq!(hello.sni.as_deref(), Some("a.example"));
        assert_eq!(hello.alpn, ["h2", "http/1.1"]);
        // Version 1.3, a name, two ciphers, six extensions, "h2"; GREASE left out.
        let ja4 = hello.ja4.unwrap();
        assert!(ja4.starts_with("t13d0206h2_"), "{ja4}");
    }

    #[test]
    fn fingerprints_of_a_known_client() {
        // The example in the text of JA4's authors.
        let fields = Fields {
            legacy_version: 0x0303,
            ciphers: vec![
                0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            signature_algorithms: vec![
                0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
            ],
            versions: vec![0x0304, 0x0303],
            alpn: vec![b"h2", b"http/1.1"],
            ..Fields::default()
        };
        assert_eq!(
            fingerprint::ja4(&fields, 't'),
            "t13d1516h2_8daaf6152771_e5627efa2ab1"
        );
    }

    #[test]
    fn names_are_safe_to_show() {
        let hello = ClientHello::read(&client_hello("a\u{1b}[2J\\é")[4..]).unwrap();
        assert_eq!(hello.sni.as_deref(), Some(r"a\027[2J\092\195\169"));
    }

    #[test]
    fn a_hello_without_extensions_or_cut() {
        let whole = client_hello("a.example");
        let body = &whole[4..];
        let fixed = 2 + 32 + 1 + 8 + 2;
        let hello = ClientHello::read(&body[..fixed]).unwrap();
        assert_eq!((hello.sni, hello.alpn.len()), (None, 0));
        let ja4 = hello.ja4.unwrap();
        assert!(ja4.starts_with("t12i020000_") && ja4.ends_with("_000000000000"));
        for cut in (0..body.len()).filter(|cut| *cut != fixed) {
            assert_eq!(ClientHello::read(&body[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_a_cut_hello_still_says() {
        let whole = client_hello("a.example");
        let body = &whole[4..];
        let name = body.windows(9).position(|bytes| bytes == b"a.example");
        let name_end = name.unwrap() + 9;
        for cut in 0..body.len() {
            let hello = ClientHello::read_cut(&body[..cut]);
            let told = hello.sni.as_deref() == Some("a.example");
            assert_eq!(told, cut >= name_end, "cut at {cut}");
            assert!(!hello.complete && hello.ja3.is_none() && hello.ja4.is_none());
        }
    }
}
