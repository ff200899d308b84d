//! Domain names on the wire (RFC 1035 3.1 and 4.1.4).
//!
//! ```text
//! | length 0-63 | that many bytes | … | 0 |          labels, up to the root
//! | 1 1 |  offset (14 bits)  |                     or the rest stands earlier in the message
//! ```

use std::fmt::{self, Write as _};

use super::DnsError;

/// Bytes a name may take, lengths and root included (RFC 1035 3.1).
const NAME_BYTES_MAX: usize = 255;

/// Pointers followed in one name: a name has at most 127 labels, and a pointer to a pointer says
/// nothing. Keeps a message full of pointers from costing its square.
const POINTERS_MAX: usize = 127;

/// A domain name: labels with their lengths, folded to lower case, without the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name {
    wire: Box<[u8]>,
}

impl Name {
    /// Reads the name at `at` and returns it with the place behind it.
    ///
    /// A pointer must lead to before the part of the name that it ends, so reading always ends.
    ///
    /// # Errors
    ///
    /// The name runs past the message, is too long, or is put together in a forbidden way.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), DnsError> {
        let mut wire = [0u8; NAME_BYTES_MAX];
        let (mut used, mut pointers) = (0, 0);
        // Where the part being read began, and where the caller goes on.
        let (mut from, mut here, mut behind) = (at, at, None);
        loop {
            let length = *message
                .get(here)
                .ok_or_else(|| DnsError::cut(message, here, 1))?;
            match length {
                0 => {
                    let wire = wire.get(..used).unwrap_or_default().into();
                    return Ok((Self { wire }, behind.unwrap_or(here + 1)));
                }
                1..=63 => {
                    let end = here + 1 + usize::from(length);
                    let label = message
                        .get(here..end)
                        .ok_or_else(|| DnsError::cut(message, here, end - here))?;
                    // The root's byte counts too.
                    if used + label.len() + 1 > NAME_BYTES_MAX {
                        return Err(DnsError::NameTooLong { at: place(at) });
                    }
                    for (to, byte) in wire.iter_mut().skip(used).zip(label) {
                        *to = byte.to_ascii_lowercase();
                    }
                    // A length is below 64, so folding left it alone.
                    used += label.len();
                    here = end;
                }
                0xc0.. => {
                    let low = *message
                        .get(here + 1)
                        .ok_or_else(|| DnsError::cut(message, here, 2))?;
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if to >= here {
                        return Err(DnsError::ForwardPointer {
                            at: place(here),
                            to: place(to),
                        });
                    }
                    if to >= from {
                        return Err(DnsError::PointerLoop {
                            at: place(here),
                            to: place(to),
                        });
                    }
                    pointers += 1;
                    if pointers > POINTERS_MAX {
                        return Err(DnsError::PointerChain { at: place(at) });
                    }
                    behind.get_or_insert(here + 2);
                    (from, here) = (to, to);
                }
                64..=0xbf => {
                    return Err(DnsError::LabelType {
                        at: place(here),
                        byte: length,
                    });
                }
            }
        }
    }

    /// Makes a name from its presentation form without escapes; for tests and indicators.
    ///
    /// # Errors
    ///
    /// A label is empty or longer than 63 bytes, or the name is too long.
    pub fn parse(text: &str) -> Result<Self, DnsError> {
        let mut wire = Vec::with_capacity(text.len() + 1);
        let text = text.strip_suffix('.').unwrap_or(text);
        for label in text.split('.').filter(|_| !text.is_empty()) {
            let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
            if !(1..=63).contains(&length) {
                return Err(DnsError::LabelType {
                    at: place(wire.len()),
                    byte: length,
                });
            }
            wire.push(length);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        if wire.len() >= NAME_BYTES_MAX {
            return Err(DnsError::NameTooLong { at: 0 });
        }
        Ok(Self { wire: wire.into() })
    }

    /// Labels with their lengths, lower case, without the root: what names are compared by.
    #[must_use]
    pub const fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether this is the root.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.wire.is_empty()
    }

    /// The labels, the leftmost first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        std::iter::from_fn(move || {
            let (&length, behind) = rest.split_first()?;
            let (label, behind) = behind.split_at_checked(usize::from(length))?;
            rest = behind;
            Some(label)
        })
    }
}

/// RFC 1035 presentation: lower case, no final dot, bytes outside 0x21-0x7e, `\` and dots inside
/// a label as `\DDD`. The root is the empty text.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_char('.')?;
            }
            for &byte in label {
                match byte {
                    b'\\' | b'.' => write!(f, "\\{byte:03}")?,
                    0x21..=0x7e => f.write_char(char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

/// A place in a message for an error; messages have at most 65,535 bytes.
pub(super) fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &[u8], at: usize, expected: Result<(&str, usize), DnsError>) {
        let got = Name::read(message, at).map(|(name, behind)| (name.to_string(), behind));
        assert_eq!(
            got,
            expected.map(|(name, behind)| (name.to_owned(), behind))
        );
    }

    #[test]
    fn names_as_they_are_presented() {
        check(
            b"\x03WWW\x07Example\x03com\0",
            0,
            Ok(("www.example.com", 17)),
        );
        check(b"\0", 0, Ok(("", 1)));
        check(b"\x05a b\\\x7f\0", 0, Ok((r"a\032b\092\127", 7)));
        check(b"\x03a.b\x01c\0", 0, Ok((r"a\046b.c", 7)));
        check(b"\x03com\0\x01a\xc0\x00", 5, Ok(("a.com", 9)));
        check(
            b"\x03com\0\x01a\xc0\x00\x01b\xc0\x05",
            9,
            Ok(("b.a.com", 13)),
        );
    }

    #[test]
    fn names_refused() {
        check(
            b"\xc0\x00",
            0,
            Err(DnsError::ForwardPointer { at: 0, to: 0 }),
        );
        check(
            b"\xc0\x05\0\0\0\0",
            0,
            Err(DnsError::ForwardPointer { at: 0, to: 5 }),
        );
        check(
            b"\x01a\xc0\x00",
            0,
            Err(DnsError::PointerLoop { at: 2, to: 0 }),
        );
        check(
            b"\x01a\xc0\x02\xc0\x00",
            4,
            Err(DnsError::ForwardPointer { at: 2, to: 2 }),
        );
        check(b"\x41a", 0, Err(DnsError::LabelType { at: 0, byte: 0x41 }));
        check(
            b"\x05abc",
            0,
            Err(DnsError::Truncated { len: 4, needed: 2 }),
        );
        check(b"\x01a", 0, Err(DnsError::Truncated { len: 2, needed: 1 }));
        check(b"\xc0", 0, Err(DnsError::Truncated { len: 1, needed: 1 }));
        let longest = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(3);
        let fits = [&longest[..], b"\x3d", &[b'b'; 61], b"\0"].concat();
        assert_eq!(
            Name::read(&fits, 0).map(|(name, _)| name.wire().len()),
            Ok(254)
        );
        let over = [&longest[..], b"\x3e", &[b'b'; 62], b"\0"].concat();
        check(&over, 0, Err(DnsError::NameTooLong { at: 0 }));
    }

    #[test]
    fn every_place_of_any_bytes_ends() {
        let mut state = 7u32;
        for _ in 0..200 {
            let message: Vec<u8> = (0..300)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    [0xc0, 0x01, 0x3f, (state >> 24) as u8][(state >> 16) as usize % 4]
                })
                .collect();
            for at in 0..=message.len() {
                if let Ok((name, behind)) = Name::read(&message, at) {
                    assert!(name.wire().len() < NAME_BYTES_MAX && behind <= message.len());
                }
            }
        }
    }
}
