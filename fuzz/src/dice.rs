//! Choices that a few bytes of the input decide: where to cut, what to send first.

/// A stream of numbers that always is the same for the same seed (xorshift, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Takes the seed off the front of the input: four bytes. `None` if there are none.
    #[must_use]
    pub fn from_front(input: &[u8]) -> Option<(Self, &[u8])> {
        let (seed, rest) = input.split_first_chunk::<4>()?;
        let seed = u64::from(u32::from_le_bytes(*seed));
        Some((Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), rest))
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    /// Mixes a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }

    /// Cuts `0..len` into at most `pieces_max` spans that touch each other; none is empty.
    pub fn cuts(&mut self, len: usize, pieces_max: usize) -> Vec<(usize, usize)> {
        let count = self.below(pieces_max);
        let mut places: Vec<usize> = (0..count).map(|_| self.below(len)).collect();
        places.extend([0, len]);
        places.sort_unstable();
        places.dedup();
        places.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }
}
