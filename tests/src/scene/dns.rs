//! Just enough of DNS to ask a question and to draw an answer (RFC 1035 section 4.1).

use std::net::IpAddr;

use serde::Deserialize;

/// Type of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Kind {
    /// An IPv4 address.
    #[default]
    A,
    /// An IPv6 address.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Text.
    #[serde(rename = "TXT")]
    Txt,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Txt => 16,
        }
    }
}

/// A question for `name` with recursion desired. Labels over 63 bytes are cut.
pub fn query(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut message = head(id, 0x0100, 0);
    question(&mut message, name, kind);
    message
}

/// The answer to [`query`]: `address` where it is of the kind asked for, else "no such name".
pub fn answer(id: u16, name: &str, kind: Kind, address: Option<IpAddr>) -> Vec<u8> {
    let data = match (kind, address) {
        (Kind::A, Some(IpAddr::V4(address))) => Some(address.octets().to_vec()),
        (Kind::Aaaa, Some(IpAddr::V6(address))) => Some(address.octets().to_vec()),
        _ => None,
    };
    let rcode = if address.is_some() { 0 } else { 3 };
    let mut message = head(id, 0x8180 | rcode, u16::from(data.is_some()));
    question(&mut message, name, kind);
    if let Some(data) = data {
        // The name again, as a pointer to the question's, which starts at byte 12.
        message.extend([0xc0, 12]);
        message.extend(kind.number().to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        message.extend(length.to_be_bytes());
        message.extend(data);
    }
    message
}

/// A response whose name points at itself: no end, however long one reads.
pub fn pointer_loop(id: u16) -> Vec<u8> {
    let mut message = head(id, 0x8180, 1);
    // The question's name is a pointer to where it stands.
    message.extend([0xc0, 12, 0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    message
}

fn head(id: u16, flags: u16, answers: u16) -> Vec<u8> {
    let mut head = Vec::with_capacity(64);
    for word in [id, flags, 1, answers, 0, 0] {
        head.extend(word.to_be_bytes());
    }
    head
}

fn question(message: &mut Vec<u8>, name: &str, kind: Kind) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        // At most 63, so the cast keeps it whole.
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend([0, 1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_answer() {
        let asked = query(0x1234, "a.example", Kind::A);
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01";
        assert_eq!(asked, expected);
        let answered = answer(
            0x1234,
            "a.example",
            Kind::A,
            Some(IpAddr::from([192, 0, 2, 7])),
        );
        assert_eq!(answered[2..8], [0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(answered[answered.len() - 4..], [192, 0, 2, 7]);
        let none = answer(1, "b.example", Kind::A, None);
        assert_eq!(none[3] & 15, 3);
        let other_kind = answer(
            1,
            "a.example",
            Kind::Aaaa,
            Some(IpAddr::from([192, 0, 2, 7])),
        );
        assert_eq!(other_kind[3] & 15, 0);
        assert_eq!(other_kind[7], 0);
    }
}
