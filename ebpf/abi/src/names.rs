//! Where listed domain names lie in the tables that the kernel side reads and the agent fills.
//!
//! A name is hashed from its right end, label by label, so that one walk gives the hashes of all
//! its parents. Each label is brought to one word, without regard to what stands right of it, so
//! that a processor can do several at a time; then one multiplication joins it to its parent. A
//! label is taken as it stands in a message, its length byte before it, in words of eight bytes,
//! the last filled up with zeros; a length is below 64 and no letter, so that labels cannot run
//! into each other. Letters count as lower case (RFC 4343).
//!
//! A filter says that names with this hash may be listed, so that most lookups end after one load.
//! All names that end in the same two labels share a line of eight words: what memory has to fetch
//! for a name and its parents is then one line. A name sets two bits in one of its words, and its
//! last two labels three, whatever else is below them: where nothing listed ends as a name does,
//! that alone says so, and what stands further left is not even hashed. Where very many names end
//! alike (below a suffix that anyone may register under) their line is full and says nothing, and
//! the lookup goes on to the buckets. Which numbers of labels are listed at all, each half says for
//! itself; so the last label is hardly ever looked up alone.
//!
//! A bucket, the same cache line of sixteen as addresses lie in, holds tags of 32 bits; a tag is in
//! one of two buckets, see [`crate::addresses`]. So one lookup in a thousand million finds what is
//! not listed: the agent asks the indicator set for the name itself. What is listed is always
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

/// Bits of the filter: a million names that end in as many ways set almost half of them, and one
/// unlisted name in eighteen is looked up in a bucket.
const FILTER_BITS: u32 = 23;

/// Bits of a line of the filter: 64 bytes, as memory fetches them.
const LINE_BITS: u32 = 9;

/// Labels from the right end of a name that choose its line of the filter.
pub const LINE_LABELS: u32 = 2;

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

/// A label as one word: itself where it fits into one, its length byte before it, else its words
/// mixed one into the other. Bytes beyond [`LABEL_BYTES_MAX`] are left out.
#[must_use]
pub fn label_word(salt: u64, label: &[u8]) -> u64 {
    let label = &label[..label.len().min(LABEL_BYTES_MAX as usize)];
    let mut bytes = [0; 1 + LABEL_BYTES_MAX as usize];
    // At most 63, as cut above.
    bytes[0] = label.len() as u8;
    bytes[1..=label.len()].copy_from_slice(label);
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        lower(u64::from_le_bytes(word))
    };
    if label.len() < 8 {
        return word(0);
    }
    (0..=label.len())
        .step_by(8)
        .fold(salt, |hash, at| mix(hash, word(at)))
}

/// The hash of a name made of a label before a parent with this hash; of a name of one label, the
/// salt takes the place of the parent's.
#[must_use]
pub fn name_hash(salt: u64, parent: u64, label: &[u8]) -> u64 {
    mix(parent, label_word(salt, label))
}

/// Where the filter tells of all names that end in the same [`LINE_LABELS`] labels, of which this is
/// the hash: which word of it, and the bits that are all set there if one of them is listed.
/// Multiplier: the second odd constant of xxHash64.
#[inline(always)]
#[must_use]
pub const fn filter_end(end: u64) -> (u32, u64) {
    let mixed = end.wrapping_mul(LINE_MULTIPLIER);
    let bits = 1 << (mixed >> 41 & 63) | 1 << (mixed >> 35 & 63) | 1 << (mixed >> 29 & 63);
    ((mixed >> (64 - (FILTER_BITS - 6))) as u32, bits)
}

/// Where the filter tells of a name: which word of it, and the bits that are all set there if the
/// name is listed. `end` is the hash of its last [`LINE_LABELS`] labels, or of the one it has.
/// Multiplier: the third odd constant of xxHash64.
#[inline(always)]
#[must_use]
pub const fn filter_name(end: u64, hash: u64) -> (u32, u64) {
    let line = end.wrapping_mul(LINE_MULTIPLIER) >> (64 - (FILTER_BITS - LINE_BITS));
    let mixed = hash.wrapping_mul(0x1656_67b1_9e37_79f9);
    let bits = 1 << (mixed >> 41 & 63) | 1 << (mixed >> 35 & 63);
    ((line << 3 | mixed >> 61) as u32, bits)
}

const LINE_MULTIPLIER: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// Where a name or an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagPlace {
    /// What stands in the bucket; never 0, which marks a free place.
    pub tag: u32,
    /// The buckets it may be in.
    pub buckets: (u32, u32),
}

/// The place of a tag by its hash, in tables of `mask + 1` buckets (a power of two).
///
/// Multipliers and shifts are those of MurmurHash3's 64-bit finaliser. The tag is the lower half
/// of the mixed word, the first bucket comes from the upper half, and the second bucket is
/// mixed once more, so that it does not depend on the first.
#[inline(always)]
#[must_use]
pub const fn tag_place(hash: u64, mask: u32) -> TagPlace {
    let mut mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 33;
    let again = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    TagPlace {
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
                .fold(7, |parent, one| name_hash(7, parent, one))
        };
        assert_eq!(hash(&[b"a", b"Example"]), hash(&[b"A", b"eXAMPLE"]));
        assert_ne!(hash(&[b"a", b"bc"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"ab"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"a\x01b"]), hash(&[b"a", b"b"]));
        assert_ne!(hash(&[b"1234567"]), hash(&[b"1234567\0"]));
        assert_ne!(hash(&[b"1234567abcdefgh"]), hash(&[b"abcdefgh1234567"]));
        let long = [b'x'; 63];
        assert_ne!(hash(&[&long]), hash(&[&long[1..]]));
        // Another salt, another hash, of short labels and of long ones.
        assert_ne!(name_hash(1, 1, b"example"), name_hash(2, 2, b"example"));
        assert_ne!(label_word(1, b"examples"), label_word(2, b"examples"));
    }

    #[test]
    fn places_spread_evenly_and_independently() {
        let (mut first, mut second, mut same) = ([0u32; 256], [0u32; 256], 0);
        let (mut ends, mut words, mut fewer) = ([0u32; 256], [0u32; 256], 0);
        for number in 0..65_536u64 {
            let hash = mix(3, number);
            let place = tag_place(hash, 255);
            first[place.buckets.0 as usize] += 1;
            second[place.buckets.1 as usize] += 1;
            same += u32::from(place.buckets.0 == place.buckets.1);
            let (end, end_bits) = filter_end(hash);
            let (word, bits) = filter_name(hash, hash);
            assert!(end / 8 == word / 8 && bits.count_ones() <= 2);
            ends[(end / (FILTER_WORDS / 32) * 8 + end % 8) as usize] += 1;
            assert!(place.tag != 0 && word < FILTER_WORDS);
            // Lines, and words within them.
            words[(word / (FILTER_WORDS / 32) * 8 + word % 8) as usize] += 1;
            fewer += u32::from(end_bits.count_ones() < 3);
        }
        // 256 expected in each; six standard deviations of the binomial are 96.
        for counts in [first, second, ends, words] {
            assert!(counts.iter().all(|count| count.abs_diff(256) < 96));
        }
        assert!(same.abs_diff(256) < 96, "{same}");
        // What ends in the same labels is in one line.
        let word = |number| filter_name(5, mix(3, number)).0;
        assert!((0..100).all(|number| word(number) >> 3 == word(0) >> 3));
        // Two of three bits are the same one in 1 − 63/64 × 62/64: 3,024; six deviations are 322.
        assert!(fewer.abs_diff(3_024) < 322, "{fewer}");
    }
}
