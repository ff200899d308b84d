//! The modifiers that encode what a rule looks for.

use super::fault::At;

/// A step that turns a value into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Windash,
    Utf16Le,
    Utf16Be,
    Utf16,
    Base64,
    Base64Offset,
}

/// Encodes a text step by step.
pub(super) fn encoded(text: String, steps: &[Step], line: usize) -> Result<Vec<String>, At> {
    let mut all = vec![text.into_bytes()];
    for step in steps {
        let mut next = Vec::new();
        for bytes in all {
            match step {
                Step::Windash => {
                    return Err(At::wrong(line, "windash behind an encoding"));
                }
                Step::Base64 => next.push(base64(&bytes).into_bytes()),
                Step::Base64Offset => {
                    next.extend((0..3).map(|offset| base64_at(&bytes, offset).into_bytes()));
                }
                Step::Utf16Le | Step::Utf16Be | Step::Utf16 => {
                    let text = String::from_utf8(bytes).map_err(|_| {
                        At::unsupported(line, "an encoding of an encoding that is no text")
                    })?;
                    next.push(utf16(&text, *step));
                }
            }
        }
        all = next;
    }
    let texts = all.into_iter().map(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| At::unsupported(line, "UTF-16 of such text without base64 behind it"))
    });
    texts.collect()
}

fn utf16(text: &str, step: Step) -> Vec<u8> {
    let mark = (step == Step::Utf16).then_some(0xfeff);
    let units = mark.into_iter().chain(text.encode_utf16());
    units
        .flat_map(|unit| match step {
            Step::Utf16Be => unit.to_be_bytes(),
            _ => unit.to_le_bytes(),
        })
        .collect()
}

/// Base64 (RFC 4648, 4), with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) & 63;
            let digit = DIGITS.get(digit as usize).copied().unwrap_or(b'=');
            out.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    out
}

/// The digits of `bytes` that do not depend on what stands round them, where `offset` bytes of a
/// group stand before them.
fn base64_at(bytes: &[u8], offset: usize) -> String {
    let mut shifted = vec![0; offset];
    shifted.extend(bytes);
    let text = base64(&shifted);
    // Digits that hold bits of what stands before, and of what stands behind.
    let start = [0, 2, 3].get(offset).copied().unwrap_or_default();
    let end = text.len() - [0, 3, 2][shifted.len() % 3];
    text.get(start..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_its_offsets() {
        for (plain, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
        // Whatever stands round it, one of the three is in there.
        let word = b"iam:PassRole";
        for before in 0..6 {
            for after in 0..6 {
                let mut all = vec![b'x'; before];
                all.extend(word);
                all.extend(vec![b'y'; after]);
                let text = base64(&all);
                let found = (0..3).any(|offset| text.contains(&base64_at(word, offset)));
                assert!(found, "{before} {after}");
            }
        }
    }

    #[test]
    fn utf16_in_its_orders() {
        assert_eq!(utf16("cm", Step::Utf16Le), b"c\0m\0");
        assert_eq!(utf16("cm", Step::Utf16Be), b"\0c\0m");
        assert_eq!(utf16("c", Step::Utf16), b"\xff\xfec\0");
    }
}
