//! Snappy, as Parquet packs pages with it: a block without a frame.
//!
//! ```text
//! length of the whole, varint; then literals and copies, told by the two lowest bits of their first byte
//! 00 literal    01 copy, 11 bits of offset    10 copy, 16 bits    11 copy, 32 bits
//! ```
//! Source: `format_description.txt` of Snappy.

use super::ParquetError;

const BAD: ParquetError = ParquetError::Page("does not unpack");

/// Unpacks a block of `length` bytes.
pub(super) fn unpack(packed: &[u8], length: usize) -> Result<Vec<u8>, ParquetError> {
    let mut at = 0;
    let mut number = |bytes: usize| -> Result<usize, ParquetError> {
        let part = packed.get(at..at + bytes).ok_or(BAD)?;
        at += bytes;
        Ok((part.iter().rev()).fold(0, |whole, byte| whole << 8 | usize::from(*byte)))
    };
    let (mut said, mut shift) = (0, 0);
    loop {
        let byte = number(1)?;
        said |= (byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
        if shift > 28 {
            return Err(BAD);
        }
    }
    if said != length {
        return Err(BAD);
    }
    let mut out: Vec<u8> = Vec::new();
    while let Ok(tag) = number(1) {
        let (count, offset) = match tag & 3 {
            0 => {
                let count = match tag >> 2 {
                    short @ 0..60 => short,
                    long => number(long - 59)?,
                };
                (count + 1, 0)
            }
            1 => ((tag >> 2 & 7) + 4, (tag >> 5) << 8 | number(1)?),
            2 => ((tag >> 2) + 1, number(2)?),
            _ => ((tag >> 2) + 1, number(4)?),
        };
        if count > length - out.len() {
            return Err(BAD);
        }
        if tag & 3 == 0 {
            for _ in 0..count {
                // One byte.
                out.push(number(1)? as u8);
            }
            continue;
        }
        let from = out.len().checked_sub(offset).filter(|_| offset > 0);
        let from = from.ok_or(BAD)?;
        for at in from..from + count {
            // What is copied may be what was copied just before.
            out.push(out[at]);
        }
    }
    if out.len() == length {
        Ok(out)
    } else {
        Err(BAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_unpacked_or_refused() {
        // "ab" as a literal, then eight bytes from two before.
        let block = [10, 0x04, b'a', b'b', 0x11, 0x02];
        assert_eq!(unpack(&block, 10).unwrap(), b"ababababab");
        for bad in [
            &block[..5],
            &block[..4],
            &[10, 0x04, b'a', b'b', 0x11, 0x03],
            &[10, 0x04, b'a', b'b', 0x11, 0x00],
            &[2, 0x04, b'a', b'b', 0x11, 0x02],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[],
        ] {
            assert_eq!(unpack(bad, 10), Err(BAD), "{bad:?}");
        }
    }
}
