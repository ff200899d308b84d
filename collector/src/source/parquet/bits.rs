//! Numbers packed into bits: runs (levels, indices of dictionaries) and differences.
//!
//! Nothing is decoded ahead: each decoder is a place in the bytes of a page, which are handed in for each value.
//! Source: `Encodings.md` of Apache Parquet, "Run Length Encoding / Bit-Packing Hybrid" and "Delta Encoding".

use super::ParquetError;

const END: ParquetError = ParquetError::Page("ends in the middle");

/// Runs of one value, and groups of eight packed ones, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    at: usize,
    end: usize,
    width: u8,
    left: u64,
    /// The value of the run, or where its next one begins, in bits.
    run: Run,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Same(u32),
    Packed(usize),
}

impl Default for Run {
    fn default() -> Self {
        Self::Same(0)
    }
}

impl Runs {
    /// Values of `width` bits in this part of a page.
    pub(super) fn new(at: usize, end: usize, width: u8) -> Result<Self, ParquetError> {
        if width > 32 {
            return Err(ParquetError::Page("numbers wider than 32 bits"));
        }
        Ok(Self {
            at,
            end,
            width,
            ..Self::default()
        })
    }

    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<u32, ParquetError> {
        let bytes = bytes.get(..self.end).ok_or(END)?;
        // Each turn takes a byte at least.
        while self.left == 0 {
            let head = varint(bytes, &mut self.at)?;
            if head & 1 == 1 {
                let groups = head >> 1;
                self.left = groups.checked_mul(8).ok_or(END)?;
                self.run = Run::Packed(self.at.checked_mul(8).ok_or(END)?);
                let length = groups.checked_mul(u64::from(self.width)).ok_or(END)?;
                let length = usize::try_from(length).map_err(|_| END)?;
                // The last group may be cut where its values end.
                self.at = self.at.saturating_add(length).min(self.end);
            } else {
                self.left = head >> 1;
                let mut value = 0;
                for byte in 0..usize::from(self.width.div_ceil(8)) {
                    let one = *bytes.get(self.at + byte).ok_or(END)?;
                    value |= u32::from(one) << (8 * byte);
                }
                self.at += usize::from(self.width.div_ceil(8));
                self.run = Run::Same(value);
            }
        }
        self.left -= 1;
        match &mut self.run {
            Run::Same(value) => Ok(*value),
            Run::Packed(bit) => {
                let value = bits(bytes, *bit, self.width)?;
                *bit += usize::from(self.width);
                // No more than 32 bits wide.
                Ok(value as u32)
            }
        }
    }
}

/// Values told by how far each is from the one before.
#[derive(Debug, Clone)]
pub(super) struct Deltas {
    at: usize,
    /// Values that are still to come.
    pub(super) left: u64,
    is_first: bool,
    last: i64,
    per_mini: u64,
    minis: usize,
    /// Of the block: the smallest difference, and the width of each miniblock.
    least: i64,
    widths: Vec<u8>,
    /// The miniblock, how many values it has left, and where the next begins, in bits.
    mini: usize,
    mini_left: u64,
    bit: usize,
}

impl Deltas {
    /// Values from `at` on, of which there are `values_max` at most.
    pub(super) fn new(bytes: &[u8], mut at: usize, values_max: u64) -> Result<Self, ParquetError> {
        /// Values of a block, and its parts. Writers have 128 or 1,024, and 4 or 32.
        const BLOCK_MAX: u64 = 1 << 16;
        const MINIS_MAX: u64 = 512;
        let block = varint(bytes, &mut at)?;
        let minis = varint(bytes, &mut at)?;
        let left = varint(bytes, &mut at)?;
        let last = zigzag(varint(bytes, &mut at)?);
        let is_even = minis > 0 && block % minis == 0 && (block / minis) % 8 == 0;
        if !is_even || block == 0 || block > BLOCK_MAX || minis > MINIS_MAX {
            return Err(ParquetError::Page("blocks of an odd size"));
        }
        if left > values_max {
            return Err(ParquetError::Page("more values than it says"));
        }
        Ok(Self {
            at,
            left,
            is_first: true,
            last,
            per_mini: block / minis,
            // At most MINIS_MAX.
            minis: minis as usize,
            least: 0,
            widths: Vec::new(),
            mini: minis as usize,
            mini_left: 0,
            bit: 0,
        })
    }

    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<i64, ParquetError> {
        self.left = self.left.checked_sub(1).ok_or(END)?;
        if std::mem::take(&mut self.is_first) {
            return Ok(self.last);
        }
        if self.mini_left == 0 {
            self.mini += 1;
            if self.mini >= self.minis {
                self.least = zigzag(varint(bytes, &mut self.at)?);
                let end = self.at.checked_add(self.minis).ok_or(END)?;
                self.widths = bytes.get(self.at..end).ok_or(END)?.to_vec();
                self.at = end;
                self.mini = 0;
            }
            let width = u64::from(self.widths[self.mini]);
            if width > 64 {
                return Err(ParquetError::Page("numbers wider than 64 bits"));
            }
            self.mini_left = self.per_mini;
            self.bit = self.at.checked_mul(8).ok_or(END)?;
            // At most 64 times BLOCK_MAX.
            let length = (self.per_mini * width / 8) as usize;
            self.at = self.at.checked_add(length).ok_or(END)?;
        }
        self.mini_left -= 1;
        let width = self.widths[self.mini];
        let more = bits(bytes, self.bit, width)?;
        self.bit += usize::from(width);
        // Differences wrap, as the specification has it.
        self.last = self.last.wrapping_add(self.least).wrapping_add(more as i64);
        Ok(self.last)
    }

    /// Where what follows the last value begins.
    pub(super) fn end(&self, bytes: &[u8]) -> Result<usize, ParquetError> {
        let mut walk = self.clone();
        while walk.left > 0 {
            walk.next(bytes)?;
        }
        Ok(walk.at)
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, ParquetError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(END)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ParquetError::Page("number without an end"))
}

/// So many bits from a place on, the lowest first.
fn bits(bytes: &[u8], bit: usize, width: u8) -> Result<u64, ParquetError> {
    let (first, skip) = (bit / 8, bit % 8);
    let length = (skip + usize::from(width)).div_ceil(8);
    let end = first.checked_add(length).ok_or(END)?;
    let part = bytes.get(first..end).ok_or(END)?;
    // Nine bytes at most.
    let whole = (part.iter().rev()).fold(0_u128, |whole, byte| whole << 8 | u128::from(*byte));
    Ok((whole >> skip) as u64
        & 1_u64
            .checked_shl(u32::from(width))
            .unwrap_or(0)
            .wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification: 0 to 7, three bits each, and a run.
    #[test]
    fn runs_and_groups_are_read() {
        let bytes = [0x03, 0x88, 0xc6, 0xfa, 0x0a, 0x05];
        let mut runs = Runs::new(0, bytes.len(), 3).unwrap();
        let read: Vec<u32> = (0..13).map(|_| runs.next(&bytes).unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4, 5, 6, 7, 5, 5, 5, 5, 5]);
        assert!(runs.next(&bytes).is_err());
        let mut none = Runs::new(0, 2, 0).unwrap();
        assert_eq!(none.next(&[0x03, 0x00]), Ok(0));
        assert!(Runs::new(0, 2, 33).is_err());
    }

    /// The first example of the specification, in blocks of 128 values.
    #[test]
    fn differences_are_read() {
        // 1 2 3 4 5: all differences are 1.
        let bytes = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 0, 0, 0, 0];
        let mut deltas = Deltas::new(&bytes, 0, 5).unwrap();
        assert_eq!(deltas.end(&bytes), Ok(bytes.len()));
        let read: Vec<i64> = (0..5).map(|_| deltas.next(&bytes).unwrap()).collect();
        assert_eq!(read, [1, 2, 3, 4, 5]);
        assert!(deltas.next(&bytes).is_err());
        assert!(Deltas::new(&bytes, 0, 4).is_err());
        assert!(Deltas::new(&[0, 0, 0, 0], 0, 4).is_err());
    }

    #[test]
    fn bits_of_any_width_are_read() {
        let bytes = [0xff; 9];
        assert_eq!(bits(&bytes, 7, 64), Ok(u64::MAX));
        assert_eq!(bits(&bytes, 0, 0), Ok(0));
        assert_eq!(bits(&bytes, 70, 2), Ok(3));
        assert!(bits(&bytes, 71, 2).is_err());
    }
}
