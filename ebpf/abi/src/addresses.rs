//! Where listed addresses lie in the tables that the kernel side reads and the agent fills.
//!
//! IPv4: a code of two bits for each /24 (4 MiB for all of them). Bit 0 says "look in the
//! buckets", bit 1 says "the whole /24 is listed", so that a net of /24 or shorter costs no more
//! than its codes and most lookups end after one load. A bucket is one cache line of sixteen
//! addresses; an address is in one of two buckets, chosen by a mixed hash. When both are full
//! the agent lists the whole /24 instead: the tables may say too much, never too little, and the
//! agent asks the indicator set again. An IPv6 address lies in the same buckets as a tag of 32 bits
//! of its hash, with the same reservation; IPv6 networks lie in a trie of longest prefixes.
//!
//! All tables are there twice. [`AddressConfig::epoch`] says which half is read; the agent fills
//! the other one and then moves the epoch.

use crate::Plain;
use crate::names::{TagPlace, mix, tag_place};

/// Addresses in one bucket: a cache line of them. 0 marks a free place.
pub const BUCKET_ENTRIES: usize = 16;

/// Entries of a bucket, which are filled from the front, that are taken before the second bucket of
/// an entry comes into play: while the last of them is free, whatever has this bucket as its first
/// is in it or nowhere. With tables two thirds full, the most there are, one entry in fifteen lies
/// in its second bucket; with twelve of sixteen none is left without a place (simulated: five times
/// 1.4 million; with fifteen some are).
pub const BUCKET_ALONE: usize = 12;

/// One cache line of listed IPv4 addresses, as numbers.
pub type Bucket = [u32; BUCKET_ENTRIES];

/// Words of 64 bits that hold the codes of all 2^24 networks of length 24, in one half.
pub const CODE_WORDS: u32 = (1 << 24) / CODES_PER_WORD;
const CODES_PER_WORD: u32 = 32;

/// Bit of a code: some address of the /24 is in the buckets.
pub const CODE_SOME: u64 = 1;
/// Bit of a code: the whole /24 is listed.
pub const CODE_WHOLE: u64 = 2;

/// The word that holds the code of an address's /24, and how far to shift it right.
#[inline(always)]
#[must_use]
pub const fn code_place(address: u32) -> (u32, u32) {
    let network = address >> 8;
    (network / CODES_PER_WORD, (network % CODES_PER_WORD) * 2)
}

/// The two buckets an address may be in, of a table of `mask + 1` buckets (a power of two).
///
/// The multipliers and shifts are those of MurmurHash3's 64-bit finaliser, so that the two
/// places, taken from both ends of the mixed word, do not depend on each other.
#[inline(always)]
#[must_use]
pub const fn bucket_places(address: u32, mask: u32) -> (u32, u32) {
    let mut mixed = address as u64 ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^= mixed >> 33;
    (mixed as u32 & mask, (mixed >> 32) as u32 & mask)
}

/// The tag of an IPv6 address and the two buckets it may be in, of a table of `mask + 1` buckets.
/// `address` is as in [`crate::FlowKey`].
#[inline(always)]
#[must_use]
pub const fn ipv6_place(address: [u64; 2], mask: u32) -> TagPlace {
    tag_place(mix(mix(0, address[0]), address[1]), mask)
}

/// What the kernel side reads with every packet: which half of the tables is in force.
///
/// The half is the lowest bit of the epoch. An epoch of 0 means that nothing has been loaded.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressConfig {
    /// Counts the loads; cached in each flow's slot to see when a verdict has aged.
    pub epoch: u64,
    /// Version of the indicator set in each half.
    pub set_versions: [u64; 2],
    /// IPv6 networks in each half: 0 spares the lookup.
    pub ipv6_entries: [u32; 2],
    /// IPv4 networks and addresses in each half: 0 spares the lookup.
    pub ipv4_entries: [u32; 2],
    /// How many labels listed names of each half have: the lowest bit is set if there are such of
    /// one label, the next for two, and so on to [`crate::names::DEPTH_MAX`]. 0 spares the lookup.
    pub name_depths: [u32; 2],
    /// Counts the changes of what is blocked; its low 8 bits are cached in each flow's slot, and
    /// are 0 only before the first change. When they come round, `epoch` moves by two, which has
    /// every flow forget what it cached.
    pub block_epoch: u32,
    /// Blocked networks and endpoints: 0 spares the lookups.
    pub block_entries: u32,
    /// IPv6 addresses in the buckets of each half: 0 spares the lookup.
    pub ipv6_addresses: [u32; 2],
}

const _: () = assert!(size_of::<AddressConfig>() == 64);

// SAFETY: repr(C), integers only; 8 + 16 + 5 × 8 bytes are the 64 asserted above.
unsafe impl Plain for AddressConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_neighbouring_networks_do_not_overlap() {
        assert_eq!(code_place(0), (0, 0));
        assert_eq!(code_place(0x0000_01ff), (0, 2));
        assert_eq!(code_place(0x0000_2000), (1, 0));
        assert_eq!(code_place(u32::MAX), (CODE_WORDS - 1, 62));
    }

    #[test]
    fn buckets_fill_evenly_and_independently() {
        let mask = 255;
        let (mut first, mut second, mut same) = ([0u32; 256], [0u32; 256], 0);
        // Neighbouring addresses, as lists have them.
        for address in 0x0a00_0000..0x0a01_0000 {
            let (one, two) = bucket_places(address, mask);
            first[one as usize] += 1;
            second[two as usize] += 1;
            same += u32::from(one == two);
        }
        // 256 expected in each; six standard deviations of the binomial are 96.
        for counts in [first, second] {
            assert!(counts.iter().all(|count| count.abs_diff(256) < 96));
        }
        // The two places agree by chance alone: 256 expected.
        assert!(same.abs_diff(256) < 96, "{same}");
    }
}
