//! Cuts a stream of envelopes (a CBOR sequence, RFC 8742) into items without decoding them.

use crate::envelope::EnvelopeError;
use crate::limits::ENVELOPE_BYTES_MAX;

/// Says how many bytes the first CBOR item of `bytes` takes.
///
/// `Ok(None)` when the item goes on past the end of `bytes`: read more, or report a cut file.
/// Costs a walk over the heads of at most [`ENVELOPE_BYTES_MAX`] bytes.
///
/// # Errors
/// [`EnvelopeError::NotAnEnvelope`] when the bytes are no COSE_Sign1 head,
/// [`EnvelopeError::TooLarge`] when the item says it is larger than an envelope may be.
pub fn item_bytes(bytes: &[u8]) -> Result<Option<usize>, EnvelopeError> {
    // Tag 18 and an array of four: anything else is no envelope, however well-formed.
    match bytes {
        [] => return Ok(None),
        [0xd2] | [0xd2, 0x84, ..] => {}
        _ => return Err(EnvelopeError::NotAnEnvelope { at: 0 }),
    }
    let mut at = 2;
    for part in 0..4 {
        let Some(&first) = bytes.get(at) else {
            return Ok(None);
        };
        let (major, short) = (first >> 5, first & 0x1f);
        let head = match short {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            _ => return Err(EnvelopeError::NotAnEnvelope { at }),
        };
        let Some(tail) = bytes.get(at + 1..at + 1 + head) else {
            return Ok(None);
        };
        let value = if head == 0 {
            usize::from(short)
        } else {
            tail.iter()
                .fold(0usize, |value, &byte| value << 8 | usize::from(byte))
        };
        let body = match (part, major) {
            (1, 5) if value == 0 => 0,
            (0 | 2 | 3, 2) => value,
            _ => return Err(EnvelopeError::NotAnEnvelope { at }),
        };
        at += 1 + head + body;
        if at > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes: at });
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_an_item() {
        let item = [0xd2, 0x84, 0x41, 1, 0xa0, 0x42, 1, 2, 0x41, 9];
        let mut two = item.to_vec();
        two.extend(item);
        assert_eq!(item_bytes(&two), Ok(Some(10)));
        for cut in 0..item.len() {
            assert_eq!(item_bytes(&item[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn refuses_other_bytes() {
        assert_eq!(
            item_bytes(b"{\"a\":1}"),
            Err(EnvelopeError::NotAnEnvelope { at: 0 })
        );
        assert_eq!(
            item_bytes(&[0xd2, 0x84, 0x41, 1, 0xa1]),
            Err(EnvelopeError::NotAnEnvelope { at: 4 })
        );
        assert!(matches!(
            item_bytes(&[0xd2, 0x84, 0x5a, 0xff, 0xff, 0xff, 0xff]),
            Err(EnvelopeError::TooLarge { .. })
        ));
    }
}
