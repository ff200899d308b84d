//! The version of a set: a number that names its content.
//!
//! Each value on a list is hashed and the hashes are added up, so that neither the order of lines
//! nor that of tables counts. Nobody is kept out by it: whoever writes the lists may choose what is
//! on them, and a version only says whether two sets are the same. So it is a fast hash, the same
//! on every machine; a cryptographic one took a third of an agent's start with a million addresses.

/// What a value is, so that an address and its four bytes as a name differ.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sort {
    List = 1,
    Address,
    Endpoint,
    Net,
    Domain,
}

/// Sums up what a set holds.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Adds a value of a list, which is named by its own [`hash`].
    pub(crate) fn add(&mut self, list: u64, sort: Sort, value: &[u8]) {
        self.0 = self.0.wrapping_add(hash(list, sort, value));
    }

    /// The version: 1..2³².
    pub(crate) fn version(&self) -> u64 {
        (self.0 >> 32).max(1)
    }
}

/// Hashes a value, eight bytes at a time. The first multiplier is that of xxHash64; how it ends is
/// the finaliser of MurmurHash3.
pub(crate) fn hash(seed: u64, sort: Sort, value: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b1_85eb_ca87);
        mixed ^ (mixed >> 32)
    };
    let mut mixed = mix(seed, (value.len() as u64) << 8 | sort as u64);
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        mixed = mix(mixed, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        mixed = mix(mixed, u64::from_le_bytes(last));
    }
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_hashes_differently() {
        let mut seen = std::collections::HashSet::new();
        for sort in [Sort::Address, Sort::Domain] {
            for value in [
                b"".as_slice(),
                b"\0",
                b"\0\0",
                b"1234567",
                b"12345678",
                b"123456789",
            ] {
                for seed in [0, 1] {
                    assert!(seen.insert(hash(seed, sort, value)), "{value:?}");
                }
            }
        }
        for number in 0..100_000u32 {
            assert!(seen.insert(hash(7, Sort::Address, &number.to_be_bytes())));
        }
    }

    /// Agents and collectors on different machines name a set alike.
    #[test]
    fn a_version_is_the_same_everywhere() {
        let mut sum = Fingerprint::default();
        let list = hash(0, Sort::List, b"c2\nlist");
        sum.add(list, Sort::Domain, b"evil.example");
        sum.add(list, Sort::Address, &[192, 0, 2, 1]);
        assert_eq!(sum.version(), 2_755_284_226);
    }
}
