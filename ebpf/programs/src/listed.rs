//! Address match: is an end of a flow in the tables of listed addresses?
//!
//! Reads the tables through [`Tables`], so that the walk is the same over kernel maps and, in
//! tests, over plain vectors. Where an address lies is told by [`picket_abi::addresses`].

use picket_abi::addresses::{CODE_SOME, CODE_WHOLE, bucket_places, code_place, ipv6_place};
use picket_abi::{AddressConfig, BUCKET_ALONE, Bucket, FlowKey, verdict};

/// The tables of one half.
pub trait Tables {
    /// A word of /24 codes; 0 where there is none.
    fn codes(&self, word: u32) -> u64;
    /// A bucket of addresses.
    fn bucket(&self, place: u32) -> Option<&Bucket>;
    /// Buckets in the table, less one (a power of two, less one).
    fn bucket_mask(&self) -> u32;
    /// The same number, of which the verifier knows nothing more: it would follow each way through
    /// the tables to the end of the program.
    fn forget(&self, value: u64) -> u64 {
        value
    }
    /// Whether a network of the IPv6 trie covers this address.
    fn covers(&self, address: [u64; 2]) -> bool;
}

/// Looks both ends of a flow up; bits in [`verdict`].
#[inline(always)]
pub fn lookup(tables: &impl Tables, config: &AddressConfig, half: usize, key: &FlowKey) -> u8 {
    let remote = contains(tables, config, half, key.remote);
    let remote = tables.forget(if remote {
        u64::from(verdict::REMOTE)
    } else {
        0
    });
    let local = contains(tables, config, half, key.local);
    let local = tables.forget(if local { u64::from(verdict::LOCAL) } else { 0 });
    (remote | local) as u8
}

#[inline(always)]
fn contains(tables: &impl Tables, config: &AddressConfig, half: usize, address: [u64; 2]) -> bool {
    match FlowKey::ipv4(address) {
        Some(address) => config.ipv4_entries[half & 1] != 0 && contains_ipv4(tables, address),
        None => {
            (config.ipv6_addresses[half & 1] != 0 && contains_ipv6(tables, address))
                || (config.ipv6_entries[half & 1] != 0 && tables.covers(address))
        }
    }
}

#[inline(always)]
fn contains_ipv4(tables: &impl Tables, address: u32) -> bool {
    let (word, shift) = code_place(address);
    let code = tables.codes(word) >> shift;
    if code & CODE_WHOLE != 0 {
        return true;
    }
    // 0 marks a free place in a bucket; 0.0.0.0 is listed by its /24 alone.
    if code & CODE_SOME == 0 || address == 0 {
        return false;
    }
    let places = bucket_places(address, tables.bucket_mask());
    hold(|one| tables.bucket(one), places, address)
}

#[inline(always)]
fn contains_ipv6(tables: &impl Tables, address: [u64; 2]) -> bool {
    let place = ipv6_place(address, tables.bucket_mask());
    hold(|one| tables.bucket(one), place.buckets, place.tag)
}

/// Whether an entry is in one of the two buckets it may be in.
///
/// The second is asked only where the first is so full that something may have gone there. That is
/// seldom, and told by what has been fetched already.
#[inline(always)]
pub(crate) fn hold<'a>(
    bucket: impl Fn(u32) -> Option<&'a Bucket>,
    places: (u32, u32),
    entry: u32,
) -> bool {
    let Some(first) = bucket(places.0) else {
        return false;
    };
    if holds(first, entry) {
        return true;
    }
    first[BUCKET_ALONE - 1] != 0 && bucket(places.1).is_some_and(|second| holds(second, entry))
}

/// Compares all sixteen places without a branch between them: less one, only a difference of 0
/// has its top bit set. With a comparison each, the verifier would follow every combination.
#[inline(always)]
fn holds(bucket: &Bucket, entry: u32) -> bool {
    let (entry, mut less_one) = (u64::from(entry), 0);
    for other in bucket {
        less_one |= (u64::from(*other) ^ entry).wrapping_sub(1);
    }
    less_one >> 63 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_abi::{BUCKET_ENTRIES, CODE_WORDS};

    struct Plain {
        codes: Vec<u64>,
        buckets: Vec<Bucket>,
        ipv6: Vec<[u8; 16]>,
    }

    impl Plain {
        fn new() -> Self {
            Self {
                codes: vec![0; CODE_WORDS as usize],
                buckets: vec![[0; BUCKET_ENTRIES]; 64],
                ipv6: Vec::new(),
            }
        }

        /// Puts others into a bucket, so that the second one comes into play.
        fn fill(&mut self, place: u32) {
            self.buckets[place as usize][..BUCKET_ALONE].fill(u32::MAX);
        }

        fn code(&mut self, address: u32, code: u64) {
            let (word, shift) = code_place(address);
            self.codes[word as usize] |= code << shift;
        }
    }

    impl Tables for Plain {
        fn codes(&self, word: u32) -> u64 {
            self.codes[word as usize]
        }
        fn bucket(&self, place: u32) -> Option<&Bucket> {
            self.buckets.get(place as usize)
        }
        fn bucket_mask(&self) -> u32 {
            self.buckets.len() as u32 - 1
        }
        fn covers(&self, address: [u64; 2]) -> bool {
            self.ipv6.contains(&FlowKey::octets(address))
        }
    }

    const CONFIG: AddressConfig = AddressConfig {
        epoch: 1,
        set_versions: [0; 2],
        ipv6_entries: [0, 1],
        ipv4_entries: [0, 1],
        name_depths: [0; 2],
        block_epoch: 0,
        block_entries: 0,
        ipv6_addresses: [0, 1],
    };

    fn key(local: u32, remote: u32) -> FlowKey {
        FlowKey {
            local: FlowKey::mapped(local.swap_bytes()),
            remote: FlowKey::mapped(remote.swap_bytes()),
            ports: 0,
        }
    }

    #[test]
    fn the_second_bucket_is_asked_where_the_first_is_full_enough() {
        let mut tables = Plain::new();
        let address = 0xc000_0207;
        let (first, second) = bucket_places(address, 63);
        assert_ne!(first, second);
        tables.buckets[second as usize][0] = address;
        tables.code(address, CODE_SOME);
        let found = |tables: &Plain| lookup(tables, &CONFIG, 1, &key(1, address)) != 0;
        // What is there is another's of the same number.
        assert!(!found(&tables));
        tables.buckets[first as usize][..BUCKET_ALONE - 1].fill(u32::MAX);
        assert!(!found(&tables));
        tables.fill(first);
        assert!(found(&tables));
    }

    #[test]
    fn an_address_is_found_in_either_bucket() {
        for second in [false, true] {
            let mut tables = Plain::new();
            let address = 0xc000_0207;
            let places = bucket_places(address, 63);
            let place = if second { places.1 } else { places.0 };
            tables.fill(places.0);
            tables.buckets[place as usize][BUCKET_ENTRIES - 1] = address;
            tables.code(address, CODE_SOME);
            assert_eq!(
                lookup(&tables, &CONFIG, 1, &key(1, address)),
                verdict::REMOTE
            );
            assert_eq!(
                lookup(&tables, &CONFIG, 1, &key(address, 1)),
                verdict::LOCAL
            );
            // Its neighbour shares the code but is not in the bucket.
            assert_eq!(lookup(&tables, &CONFIG, 1, &key(1, address + 1)), 0);
            // The other half says that nothing is loaded.
            assert_eq!(lookup(&tables, &CONFIG, 0, &key(1, address)), 0);
        }
    }

    #[test]
    fn a_whole_network_needs_no_bucket() {
        let mut tables = Plain::new();
        tables.code(0x0a01_0200, CODE_WHOLE);
        assert_eq!(
            lookup(&tables, &CONFIG, 1, &key(0x0a01_0201, 0x0a01_02ff)),
            verdict::LOCAL | verdict::REMOTE
        );
        assert_eq!(
            lookup(&tables, &CONFIG, 1, &key(0x0a01_0101, 0x0a01_0301)),
            0
        );
    }

    #[test]
    fn zero_is_not_found_in_free_places() {
        let mut tables = Plain::new();
        tables.code(0, CODE_SOME);
        assert_eq!(lookup(&tables, &CONFIG, 1, &key(0, 0)), 0);
    }

    #[test]
    fn an_ipv6_address_is_asked_of_the_trie() {
        let mut tables = Plain::new();
        let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        tables.ipv6.push(address);
        let word = |at: usize| picket_abi::read::<u64>(&address[at..]).unwrap();
        let key = FlowKey {
            local: [0, 0],
            remote: [word(0), word(8)],
            ports: 0,
        };
        assert_eq!(lookup(&tables, &CONFIG, 1, &key), verdict::REMOTE);
        assert_eq!(lookup(&tables, &CONFIG, 0, &key), 0);
    }

    #[test]
    fn an_ipv6_address_is_found_by_its_tag_in_either_bucket() {
        for second in [false, true] {
            let mut tables = Plain::new();
            let listed = [0x1122, 0x3344];
            let place = ipv6_place(listed, 63);
            let bucket = if second {
                place.buckets.1
            } else {
                place.buckets.0
            };
            tables.fill(place.buckets.0);
            tables.buckets[bucket as usize][BUCKET_ENTRIES - 1] = place.tag;
            let to = |remote| FlowKey {
                local: [5, 6],
                remote,
                ports: 0,
            };
            assert_eq!(lookup(&tables, &CONFIG, 1, &to(listed)), verdict::REMOTE);
            assert_eq!(lookup(&tables, &CONFIG, 0, &to(listed)), 0);
            for other in [[0x1122, 0x3345], [0x3344, 0x1122], [0, 0]] {
                assert_eq!(lookup(&tables, &CONFIG, 1, &to(other)), 0);
            }
        }
    }
}
