//! Where listed domain names lie in the tables that the kernel side reads and the agent fills.
//!
//! A name is hashed from its right end, label by label, so that one walk gives the hashes of all
//! its parents. A label is hashed as it stands in a message, its length byte before it, in words
//! of eight bytes, the last filled up with zeros; a length is below 64 and no letter, so that
//! labels cannot run into each other. Letters count as lower case (RFC 4343).
//!
//! A bit of the filter says that names with this hash may be listed, so that most lookups end
//! after one load. Then a bucket, the same cache line of sixteen as addresses lie in, holds tags
//! of 32 bits; a tag is in one of two buckets. So one lookup in some hundred millions finds what
//! is not listed: the agent asks the indicator set for the name itself. What is listed is always
//! found. The salt is drawn at each start, so that nobody can aim names at a bucket.
//!
//! The tables are there twice and change together with those of the addresses: see
//! [`crate::AddressConfig::epoch`].

/// Labels from the right end of a name that are looked up at most: a longer listed name is listed
/// by its last eight. Bounds what a crafted name costs.
pub const DEPTH_MAX: u32 = 8;

/// Bytes of a name in a message at most, its root included (RFC 1035 2.3.4).
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a label at most (RFC 1035 2.3.4); a length byte beyond is a pointer or no label.
pub const LABEL_BYTES_MAX: u8 = 63;

/// Bits of the filter: one in eight is set by a million names.
const FILTER_BITS: u32 = 23;

/// Words of 64 bits in one half of the filter.
pub const FILTER_WORDS: u32 = 1 << (FILTER_BITS - 6);

/// A word of a label mixed into the hash of what stands right of it. Multiplier: the odd constant
/// of xxHash64.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b1_85eb_ca87);
    mixed ^ (mixed >> 32)
}

/// Eight bytes with the letters among them in lower case. Adding `0x80 - 'A'` to seven bits sets
/// the top bit from `A` on, adding `0x7f - 'Z'` from `[` on; a letter has the one and not the other.
#[inline(always)]
#[must_use]
pub const fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let low = word & !TOPS;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let after_z = low + (0x7f - b'Z' as u64) * ONES;
    let letters = (from_a ^ after_z) & !word & TOPS;
    word | letters >> 2
}

/// The hash of a label in front of a name with this hash, as [`mix`] makes it of its words.
/// Bytes beyond [`LABEL_BYTES_MAX`] are left out.
#[must_use]
pub fn label_hash(hash: u64, label: &[u8]) -> u64 {
    let label = &label[..label.len().min(LABEL_BYTES_MAX as usize)];
    // The length is the lowest byte of the first word.
    let (mut hash, mut word, mut filled) = (hash, label.len() as u64, 1);
    for byte in label {
        if filled == 8 {
            hash = mix(hash, lower(word));
            (word, filled) = (0, 0);
        }
        word |= u64::from(*byte) << (filled * 8);
        filled += 1;
    }
    // Where the last word is full, another of zeros would be one too many.
    if filled > 0 {
        hash = mix(hash, lower(word));
    }
    hash
}

/// Where a name lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamePlace {
    /// Word of the filter.
    pub word: u32,
    /// The bit in it.
    pub bit: u32,
    /// What stands in the bucket; never 0, which marks a free place.
    pub tag: u32,
    /// The buckets it may be in.
    pub buckets: (u32, u32),
}

/// The place of a name by its hash, in tables of `mask + 1` buckets (a power of two).
///
/// Multipliers and shifts are those of MurmurHash3's 64-bit finaliser. The tag is the lower half
/// of the mixed word, filter and first bucket come from the upper half, and the second bucket is
/// mixed once more, so that it does not depend on the first.
#[inline(always)]
#[must_use]
pub const fn name_place(hash: u64, mask: u32) -> NamePlace {
    let mut mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 33;
    let again = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bit = (mixed >> (64 - FILTER_BITS)) as u32;
    NamePlace {
        word: bit >> 6,
        bit: bit & 63,
        tag: mixed as u32 | (mixed as u32 == 0) as u32,
        buckets: ((mixed >> 32) as u32 & mask, (again >> 32) as u32 & mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_letters_become_lower_case() {
        for byte in 0..=u8::MAX {
            let word = u64::from_ne_bytes([byte, b'A', byte, b'Z', b'z', byte, b'@', b'[']);
            let expected = word.to_ne_bytes().map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower(word).to_ne_bytes(), expected, "{byte:#x}");
        }
    }

    #[test]
    fn labels_do_not_run_into_each_other() {
        let hash = |labels: &[&[u8]]| {
            labels
                .iter()
                .rev()
                .fold(7, |hash, one| label_hash(hash, one))
        };
        assert_eq!(hash(&[b"a", b"Example"]), hash(&[b"A", b"eXAMPLE"]));
        assert_ne!(hash(&[b"a", b"bc"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"ab"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"a\x01b"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"1234567"]), hash(&[b"1234567\0"]));
        let long = [b'x'; 63];
        assert_ne!(hash(&[&long]), hash(&[&long[1..]]));
        // Another salt, another hash.
        assert_ne!(label_hash(1, b"example"), label_hash(2, b"example"));
    }

    #[test]
    fn places_spread_evenly_and_independently() {
        let (mut first, mut second, mut same) = ([0u32; 256], [0u32; 256], 0);
        for number in 0..65_536u64 {
            let place = name_place(mix(3, number), 255);
            first[place.buckets.0 as usize] += 1;
            second[place.buckets.1 as usize] += 1;
            same += u32::from(place.buckets.0 == place.buckets.1);
            assert!(place.tag != 0 && place.word < FILTER_WORDS && place.bit < 64);
        }
        // 256 expected in each; six standard deviations of the binomial are 96.
        for counts in [first, second] {
            assert!(counts.iter().all(|count| count.abs_diff(256) < 96));
        }
        assert!(same.abs_diff(256) < 96, "{same}");
    }
}
