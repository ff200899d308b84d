//! Name match: does the question of a DNS message ask for a listed name or for one below it?
//!
//! Reads the name through [`Text`] and the tables through [`NameTables`], so that the walk is the
//! same over kernel maps and, in tests, over plain vectors. Where a name lies is told by
//! [`picket_abi::names`].
//!
//! The walk goes forward over the labels to their end, noting where the last eight begin, and
//! then back from the root, hashing a label at a time. Everything that a loop carries goes
//! through [`Text::forget`]: the verifier would otherwise follow each combination of lengths.

use picket_abi::Bucket;
use picket_abi::names::{DEPTH_MAX, LABEL_BYTES_MAX, lower, mix, name_place};

use crate::listed::holds;

/// Bytes of the header before the question (RFC 1035 4.1.1).
pub const HEADER_BYTES: u32 = 12;

/// Labels of a name at most: each takes two bytes of 255 and the root one.
const LABELS_MAX: u32 = 127;

/// The bytes of a name, with room for the beginnings of its labels.
pub trait Text {
    /// The byte at a place; only its lower eight bits count.
    fn byte(&self, at: u32) -> u8;
    /// Eight bytes, `further` bytes (at most 56) behind a place; what lies behind the name is
    /// anything.
    fn word(&self, at: u32, further: u32) -> u64;
    /// Notes where a label begins; only the lower three bits of its number count.
    fn note(&mut self, label: u32, at: u32);
    /// Where a label begins that was noted.
    fn noted(&self, label: u32) -> u32;
    /// The same number, of which the verifier knows nothing more.
    fn forget(&mut self, value: u64) -> u64 {
        value
    }
}

/// The tables of one half.
pub trait NameTables {
    /// A word of the filter; 0 where there is none.
    fn filter(&self, word: u32) -> u64;
    /// A bucket of tags.
    fn bucket(&self, place: u32) -> Option<&Bucket>;
    /// Buckets in the table, less one (a power of two, less one).
    fn bucket_mask(&self) -> u32;
}

/// Whether a header is that of a message whose question may be looked at: a query with at least
/// one question. `flags` and `questions` are its second and third 16-bit words in host order.
#[inline(always)]
#[must_use]
pub const fn is_query(flags: u16, questions: u16) -> bool {
    flags & 0x8000 == 0 && questions != 0
}

/// A name of which a suffix is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Hash of the listed suffix, the shortest if there are several.
    pub hash: u64,
    /// Bytes of the name, its root included.
    pub name_bytes: u32,
}

/// Looks a name up and its parents of at most `depth` labels. `loaded` is how many bytes there
/// are, at most 256. `None` as well when they are no whole name.
#[inline(always)]
pub fn lookup<T: Text>(
    text: &mut T,
    tables: &impl NameTables,
    loaded: u32,
    salt: u64,
    depth: u32,
) -> Option<Found> {
    let (labels, name_bytes) = labels(text, loaded)?;
    let mut hash = salt;
    let mut back = 0;
    while back < DEPTH_MAX {
        if back >= depth || back >= labels {
            return None;
        }
        let start = text.noted(labels - 1 - back);
        hash = label_hash(text, hash, start);
        hash = text.forget(hash);
        if contains(tables, hash) {
            return Some(Found { hash, name_bytes });
        }
        back += 1;
    }
    None
}

/// How many labels a name has, and how many bytes.
#[inline(always)]
fn labels<T: Text>(text: &mut T, loaded: u32) -> Option<(u32, u32)> {
    let (mut at, mut labels) = (0, 0);
    let mut round = 0;
    while round <= LABELS_MAX {
        if at >= loaded {
            return None;
        }
        let length = text.byte(at);
        if length == 0 {
            return Some((labels, at + 1));
        }
        if length > LABEL_BYTES_MAX {
            return None;
        }
        text.note(labels, at);
        at = text.forget(u64::from(at + 1 + u32::from(length))) as u32;
        labels = text.forget(u64::from(labels + 1)) as u32;
        round += 1;
    }
    None
}

/// The hash of the label that begins at a place, in front of a name with this hash.
#[inline(always)]
fn label_hash<T: Text>(text: &T, before: u64, start: u32) -> u64 {
    let length = u32::from(text.byte(start) & LABEL_BYTES_MAX);
    let mut hash = before;
    let mut further = 0;
    while further <= u32::from(LABEL_BYTES_MAX) {
        if further > length {
            break;
        }
        let left = length + 1 - further;
        // What lies behind the label is shifted out.
        let behind = if left < 8 { (8 - left) * 8 } else { 0 };
        let word = text.word(start, further) << behind >> behind;
        hash = mix(hash, lower(word));
        further += 8;
    }
    hash
}

#[inline(always)]
fn contains(tables: &impl NameTables, hash: u64) -> bool {
    let place = name_place(hash, tables.bucket_mask());
    if tables.filter(place.word) >> place.bit & 1 == 0 {
        return false;
    }
    holds(tables.bucket(place.buckets.0), place.tag)
        || holds(tables.bucket(place.buckets.1), place.tag)
}

#[cfg(test)]
mod tests {
    use picket_abi::BUCKET_ENTRIES;
    use picket_abi::names::{FILTER_WORDS, label_hash as hash_of_label};

    use super::*;

    const SALT: u64 = 0x5eed;

    struct Plain {
        bytes: Vec<u8>,
        starts: [u32; 8],
    }

    impl Text for Plain {
        fn byte(&self, at: u32) -> u8 {
            self.bytes[at as usize & 255]
        }
        fn word(&self, at: u32, further: u32) -> u64 {
            let from = (at as usize & 255) + further as usize;
            u64::from_ne_bytes(self.bytes[from..from + 8].try_into().unwrap())
        }
        fn note(&mut self, label: u32, at: u32) {
            self.starts[label as usize & 7] = at;
        }
        fn noted(&self, label: u32) -> u32 {
            self.starts[label as usize & 7]
        }
    }

    struct Listed {
        filter: Vec<u64>,
        buckets: Vec<Bucket>,
    }

    impl Listed {
        fn new(names: &[&str]) -> Self {
            let mut listed = Self {
                filter: vec![0; FILTER_WORDS as usize],
                buckets: vec![[0; BUCKET_ENTRIES]; 64],
            };
            for name in names {
                let labels = name.rsplit('.').take(DEPTH_MAX as usize);
                let hash = labels.fold(SALT, |hash, label| hash_of_label(hash, label.as_bytes()));
                let place = name_place(hash, 63);
                listed.filter[place.word as usize] |= 1 << place.bit;
                let bucket = &mut listed.buckets[place.buckets.0 as usize];
                *bucket.iter_mut().find(|entry| **entry == 0).unwrap() = place.tag;
            }
            listed
        }
    }

    impl NameTables for Listed {
        fn filter(&self, word: u32) -> u64 {
            self.filter[word as usize]
        }
        fn bucket(&self, place: u32) -> Option<&Bucket> {
            self.buckets.get(place as usize)
        }
        fn bucket_mask(&self) -> u32 {
            self.buckets.len() as u32 - 1
        }
    }

    /// A name as it stands in a message, with something behind it.
    fn wire(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    fn look_raw(listed: &[&str], bytes: &[u8], depth: u32) -> Option<Found> {
        // What a packet before this one left behind must not matter.
        let mut text = Plain {
            bytes: [bytes, &[b'x'; 320]].concat(),
            starts: [99; 8],
        };
        let loaded = bytes.len().min(256) as u32;
        lookup(&mut text, &Listed::new(listed), loaded, SALT, depth)
    }

    fn found(listed: &[&str], name: &str) -> bool {
        look_raw(listed, &wire(name), DEPTH_MAX).is_some()
    }

    #[test]
    fn a_name_and_those_below_it_are_found() {
        let listed = [
            "evil.example",
            "Pool.miner-01.example".to_ascii_lowercase().leak(),
        ];
        for (name, expected) in [
            ("evil.example", true),
            ("EVIL.eXample", true),
            ("a.b.c.evil.example", true),
            ("pool.miner-01.example", true),
            ("xx.POOL.miner-01.example", true),
            ("miner-01.example", false),
            ("notevil.example", false),
            ("evil.example.com", false),
            ("example", false),
            ("evilexample", false),
            ("", false),
            (
                "a-rather-long-label-of-fifty-bytes-and-some-more-still.evil.example",
                true,
            ),
        ] {
            assert_eq!(found(&listed, name), expected, "{name}");
        }
        let all = look_raw(&listed, &wire("www.evil.example"), DEPTH_MAX).unwrap();
        assert_eq!(all.name_bytes as usize, wire("www.evil.example").len());
    }

    #[test]
    fn the_longest_names_are_walked_whole() {
        let labels = |count: usize| vec!["a"; count].join(".");
        assert_eq!(wire(&labels(127)).len(), 255);
        assert!(found(&["a.a"], &labels(127)));
        assert!(!found(&["a.b"], &labels(127)));
        let long = |last: &str| format!("{0}.{0}.{0}.{last}", "y".repeat(63));
        assert!(found(&["zz.example"], &long("zz.example")));
        // Deeper than the walk goes: listed by its last eight labels, which the agent sorts out.
        assert!(found(&["b.c.1.2.3.4.5.6.7.8"], "x.1.2.3.4.5.6.7.8"));
        assert!(!found(&["b.c.1.2.3.4.5.6.7.8"], "2.3.4.5.6.7.8"));
    }

    #[test]
    fn no_deeper_than_the_deepest_entry() {
        let at_depth = |depth| look_raw(&["c.evil.example"], &wire("d.c.evil.example"), depth);
        assert!(at_depth(2).is_none());
        assert!(at_depth(3).is_some());
        assert!(look_raw(&["evil.example"], &wire("evil.example"), 0).is_none());
    }

    #[test]
    fn what_is_no_whole_name_is_left() {
        let whole = wire("evil.example");
        for end in 0..whole.len() {
            assert!(
                look_raw(&["evil.example"], &whole[..end], 8).is_none(),
                "{end}"
            );
        }
        // A pointer, a label too long, labels without an end.
        assert!(look_raw(&["example"], b"\x01a\xc0\x0c", 8).is_none());
        assert!(look_raw(&["example"], &[64; 256], 8).is_none());
        assert!(look_raw(&["example"], &[1; 256], 8).is_none());
        let mut endless = wire(&vec!["a"; 127].join("."));
        endless[254] = 1;
        endless.extend_from_slice(b"a\0");
        assert!(look_raw(&["a.a"], &endless, 8).is_none());
    }

    #[test]
    fn only_queries_have_a_question_of_interest() {
        assert!(is_query(0x0100, 1) && is_query(0, 2));
        assert!(!is_query(0x8180, 1) && !is_query(0x0100, 0));
    }
}
