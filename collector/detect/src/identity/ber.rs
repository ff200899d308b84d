//! A walk through BER (X.690): elements one after the other, of definite or indefinite length.
//!
//! ```text
//! identifier  1 byte      tags above 30, in several bytes, are refused: nothing of ours has one
//! length      < 0x80      that many bytes
//!             0x81-0x84   that many bytes of length follow
//!             0x80        until two zero bytes where an identifier should be
//! ```
//!
//! What it returns are slices of the input; nothing is copied, and nothing is allocated but by
//! [`Element::octets`], which is bounded by the input.

/// How deep elements may lie in each other; a signature of an identity document has seven levels.
const DEPTH_MAX: usize = 16;

/// Constructed bit of an identifier.
const CONSTRUCTED: u8 = 0x20;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The constructed context-specific tag of a number below 31.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Why bytes are no BER, or not the BER that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    /// An element ends after its surroundings.
    #[error("element of tag {tag:#04x} is cut short")]
    Short {
        /// Its tag.
        tag: u8,
    },
    /// A length or tag in a form that nothing of ours has.
    #[error("element of tag {tag:#04x} has a length or tag of unexpected form")]
    Form {
        /// Its tag.
        tag: u8,
    },
    /// More levels than anything of ours has.
    #[error("more than {DEPTH_MAX} levels")]
    Deep,
    /// Another element, or none, where one was expected.
    #[error("no element of tag {expected:#04x} where it should be")]
    Missing {
        /// The tag that was expected.
        expected: u8,
    },
    /// Bytes behind what should be the last element.
    #[error("other bytes follow")]
    Trailing,
}

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// All of it, identifier and length included.
    pub(super) whole: &'a [u8],
    /// Whether its length is written in front.
    pub(super) is_definite: bool,
}

impl<'a> Element<'a> {
    /// Goes through what it holds.
    pub(super) fn walk(&self) -> Walk<'a> {
        Walk { rest: self.content }
    }

    /// The bytes of an octet string, which in BER may come in pieces.
    pub(super) fn octets(&self) -> Result<Vec<u8>, BerError> {
        let mut out = Vec::new();
        gather(self, &mut out, 0)?;
        Ok(out)
    }
}

fn gather(element: &Element<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), BerError> {
    if depth > DEPTH_MAX {
        return Err(BerError::Deep);
    }
    if element.tag & !CONSTRUCTED & 0x3f != OCTET_STRING & 0x3f && depth > 0 {
        return Err(BerError::Missing {
            expected: OCTET_STRING,
        });
    }
    if element.tag & CONSTRUCTED == 0 {
        out.extend_from_slice(element.content);
        return Ok(());
    }
    let mut pieces = element.walk();
    while let Some(piece) = pieces.next()? {
        gather(&piece, out, depth + 1)?;
    }
    Ok(())
}

/// Elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next element, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, BerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (element, rest) = element(self.rest, 0)?;
        self.rest = rest;
        Ok(Some(element))
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, BerError> {
        let missing = BerError::Missing { expected: tag };
        let found = self.next()?.ok_or(missing)?;
        if found.tag == tag {
            Ok(found)
        } else {
            Err(missing)
        }
    }

    /// The next element if it has this tag; else it stays.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<Element<'a>>, BerError> {
        if self.rest.first() == Some(&tag) {
            self.next()
        } else {
            Ok(None)
        }
    }

    /// Says that nothing may follow.
    pub(super) fn end(&self) -> Result<(), BerError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(BerError::Trailing)
        }
    }
}

/// The first element of `bytes`, and what follows it.
fn element(bytes: &[u8], depth: usize) -> Result<(Element<'_>, &[u8]), BerError> {
    if depth > DEPTH_MAX {
        return Err(BerError::Deep);
    }
    let tag = *bytes.first().ok_or(BerError::Short { tag: 0 })?;
    if tag & 0x1f == 0x1f {
        return Err(BerError::Form { tag });
    }
    let short = BerError::Short { tag };
    let first = *bytes.get(1).ok_or(short)?;
    let (head, len) = match first {
        0..0x80 => (2, usize::from(first)),
        0x80 => return indefinite(bytes, tag, depth),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let digits = bytes.get(2..2 + count).ok_or(short)?;
            let len = digits
                .iter()
                .fold(0, |len: usize, digit| len << 8 | usize::from(*digit));
            (2 + count, len)
        }
        _ => return Err(BerError::Form { tag }),
    };
    let end = head.checked_add(len).ok_or(short)?;
    let whole = bytes.get(..end).ok_or(short)?;
    let element = Element {
        tag,
        content: &whole[head..],
        whole,
        is_definite: true,
    };
    Ok((element, &bytes[end..]))
}

/// An element whose end is marked.
fn indefinite(bytes: &[u8], tag: u8, depth: usize) -> Result<(Element<'_>, &[u8]), BerError> {
    if tag & CONSTRUCTED == 0 {
        return Err(BerError::Form { tag });
    }
    let content = bytes.get(2..).ok_or(BerError::Short { tag })?;
    let mut rest = content;
    loop {
        if let Some(after) = rest.strip_prefix(&[0, 0]) {
            let content = &content[..content.len() - rest.len()];
            let whole = &bytes[..bytes.len() - after.len()];
            let element = Element {
                tag,
                content,
                whole,
                is_definite: false,
            };
            return Ok((element, after));
        }
        if rest.is_empty() {
            return Err(BerError::Short { tag });
        }
        rest = element(rest, depth + 1)?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<&[u8], BerError>) {
        let found = Walk::new(bytes).next().map(|found| found.unwrap().content);
        assert_eq!(found, expected, "{bytes:02x?}");
    }

    #[test]
    fn lengths_in_every_form() {
        check(&[0x04, 0x01, 7], Ok(&[7]));
        check(&[0x04, 0x81, 0x01, 7], Ok(&[7]));
        check(&[0x04, 0x84, 0, 0, 0, 1, 7, 8], Ok(&[7]));
        check(&[0x30, 0x80, 0x04, 0x01, 7, 0, 0], Ok(&[0x04, 0x01, 7]));
        check(
            &[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0],
            Ok(&[0x30, 0x80, 0, 0]),
        );
    }

    #[test]
    fn what_is_cut_short_or_of_unknown_form() {
        let short = |tag| Err(BerError::Short { tag });
        let form = |tag| Err(BerError::Form { tag });
        check(&[0x04], short(0x04));
        check(&[0x04, 0x02, 7], short(0x04));
        check(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], short(0x04));
        check(&[0x04, 0x85, 0, 0, 0, 0, 0], form(0x04));
        check(&[0x04, 0x80, 0, 0], form(0x04));
        check(&[0x1f, 0x01, 0], form(0x1f));
        check(&[0x30, 0x80, 0], short(0));
        check(&[0x30, 0x80], short(0x30));
        let deep = [0x30, 0x80].repeat(DEPTH_MAX + 2);
        check(&deep, Err(BerError::Deep));
    }

    #[test]
    fn octets_come_in_pieces() {
        let pieces = [0x24, 0x80, 0x04, 1, 1, 0x04, 2, 2, 3, 0, 0];
        let element = Walk::new(&pieces).next().unwrap().unwrap();
        assert_eq!(element.octets(), Ok(vec![1, 2, 3]));
        let foreign = [0x24, 0x80, 0x02, 1, 1, 0, 0];
        let element = Walk::new(&foreign).next().unwrap().unwrap();
        assert!(element.octets().is_err());
    }
}
