//! JA3 and JA4: what a ClientHello tells of the program that made it.
//!
//! JA3: MD5 over `version,ciphers,extensions,groups,point formats`, decimal, in the order sent.
//! JA4: transport, version, SNI or not, how many ciphers and extensions, first ALPN, then the
//! sorted ciphers and the sorted extensions with the signature algorithms, each hashed. Both leave
//! out the values that clients put in at random (GREASE, RFC 8701).

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use super::Fields;

/// Extensions JA4 counts but does not hash: they change with the server, not with the client.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Values of the form 0x?A?A with equal bytes (RFC 8701 2).
const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn without_grease(values: &[u16]) -> impl Iterator<Item = u16> + '_ {
    values.iter().copied().filter(|value| !is_grease(*value))
}

pub(super) fn ja3(fields: &Fields<'_>) -> String {
    let mut text = fields.legacy_version.to_string();
    for list in [&fields.ciphers, &fields.extensions, &fields.groups] {
        text.push(',');
        push_joined(&mut text, without_grease(list));
    }
    text.push(',');
    push_joined(
        &mut text,
        fields.point_formats.iter().map(|format| u16::from(*format)),
    );
    format!("{:x}", md5::compute(text))
}

fn push_joined(text: &mut String, values: impl Iterator<Item = u16>) {
    for (at, value) in values.enumerate() {
        // Writing to a string does not fail.
        let _ = write!(text, "{}{value}", if at == 0 { "" } else { "-" });
    }
}

/// `transport` is `t` for TCP, `q` for QUIC.
pub(super) fn ja4(fields: &Fields<'_>, transport: char) -> String {
    let version = without_grease(&fields.versions)
        .max()
        .unwrap_or(fields.legacy_version);
    let mut ciphers: Vec<u16> = without_grease(&fields.ciphers).collect();
    let mut extensions: Vec<u16> = without_grease(&fields.extensions).collect();
    let sni = if extensions.contains(&SERVER_NAME) {
        'd'
    } else {
        'i'
    };
    let counts = (ciphers.len().min(99), extensions.len().min(99));
    ciphers.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    extensions.sort_unstable();

    let mut hashed = hex_list(&extensions);
    let algorithms: Vec<u16> = without_grease(&fields.signature_algorithms).collect();
    if !algorithms.is_empty() {
        hashed.push('_');
        hashed.push_str(&hex_list(&algorithms));
    }
    format!(
        "{transport}{}{sni}{:02}{:02}{}_{}_{}",
        version_mark(version),
        counts.0,
        counts.1,
        alpn_mark(fields.alpn.first().copied().unwrap_or_default()),
        if ciphers.is_empty() {
            "000000000000".into()
        } else {
            short_hash(&hex_list(&ciphers))
        },
        if extensions.is_empty() {
            "000000000000".into()
        } else {
            short_hash(&hashed)
        },
    )
}

fn hex_list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len() * 5);
    for (at, value) in values.iter().enumerate() {
        let _ = write!(text, "{}{value:04x}", if at == 0 { "" } else { "," });
    }
    text
}

/// The first 12 hex digits of SHA-256.
fn short_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    let mut out = String::with_capacity(12);
    for byte in hash.as_ref().iter().take(6) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

const fn version_mark(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

/// First and last character of the first protocol; the outer hex digits if either is not
/// alphanumeric.
fn alpn_mark(protocol: &[u8]) -> String {
    match (protocol.first(), protocol.last()) {
        (Some(first), Some(last))
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() =>
        {
            [char::from(*first), char::from(*last)].iter().collect()
        }
        (Some(first), Some(last)) => format!("{:x}{:x}", first >> 4, last & 0x0f),
        _ => "00".into(),
    }
}
