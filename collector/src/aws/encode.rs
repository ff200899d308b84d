//! Percent-encoding as Signature Version 4 wants it, and the way back for keys in notifications.

use std::fmt::Write as _;

/// Encodes all but letters, digits, `-`, `.`, `_` and `~`; `/` stays where `keeps_slash`.
pub(super) fn encode(text: &str, keeps_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if is_plain || (keeps_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Decodes `%XX` and `+` for a space, as keys stand in notifications and listings. `None` if it is no
/// UTF-8 behind that, or if a `%` is none of these.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                // Two hex digits are below 256.
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in [
            "",
            "a/b c+d%",
            "AWSLogs/1/x_y-z~.json.gz",
            "käse/ü",
            "\u{0}\u{7f}=&?#",
        ] {
            assert_eq!(decode(&encode(text, true)).as_deref(), Some(text));
            assert!(!encode(text, false).contains('/'), "{text}");
        }
        assert_eq!(encode("a b/ü", true), "a%20b/%C3%BC");
    }

    #[test]
    fn keys_of_notifications_are_decoded() {
        for (text, expected) in [
            ("a%2Fb+c%2Bd", Some("a/b c+d")),
            ("plain/key.gz", Some("plain/key.gz")),
            ("%c3%bc", Some("ü")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
    }
}
