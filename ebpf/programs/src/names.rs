//! Name match: does the question of a DNS message ask for a listed name or for one below it?
//!
//! Reads the name through [`Text`] and the tables through [`NameTables`], so that the walk is the
//! same over kernel maps and, in tests, over plain vectors. Where a name lies is told by
//! [`picket_abi::names`].
//!
//! The walk goes forward over the labels to their end, noting where the last eight begin, and
//! then back from the root, joining a label at a time to its parent. What one step needs of the
//! step before it is kept to the least: the processor does several at once. What the verifier
//! need not know goes through [`Text::forget`], after the loops and not within.

use picket_abi::Bucket;
use picket_abi::names::{
    DEPTH_MAX, LABEL_BYTES_MAX, LINE_LABELS, filter_end, filter_name, lower, mix, tag_place,
};

use crate::listed::hold;

/// Bytes of the header before the question (RFC 1035 4.1.1).
pub const HEADER_BYTES: u32 = 12;

/// Labels of a name at most: each takes two bytes of 255 and the root one.
const LABELS_MAX: u64 = 127;

/// The bytes of a name, with room for the beginnings of its labels.
pub trait Text {
    /// The byte at a place; only the place's lower eight bits count.
    fn byte(&self, at: u64) -> u64;
    /// Eight bytes, `further` bytes (a multiple of 8, at most 56) behind a place; what lies behind
    /// the name is anything.
    fn word(&self, at: u64, further: u64) -> u64;
    /// Notes where a label begins; only the lower three bits of its number count.
    fn note(&mut self, label: u64, at: u64);
    /// Where a label begins that was noted.
    fn noted(&self, label: u64) -> u64;
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

/// Looks a name up and its parents, as far as any listed name has as many labels: `depths` has a
/// bit for each number of them, see [`picket_abi::AddressConfig::name_depths`]. `loaded` is how many
/// bytes there are, at most 256. `None` as well when they are no whole name.
#[inline(always)]
pub fn lookup<T: Text>(
    text: &mut T,
    tables: &impl NameTables,
    loaded: u32,
    salt: u64,
    depths: u32,
) -> Option<Found> {
    let (labels, name_bytes) = labels(text, u64::from(loaded))?;
    let (mut hash, mut end) = (salt, salt);
    let mut back = 0;
    while back < u64::from(DEPTH_MAX) {
        let depths = depths >> back;
        if depths == 0 || back >= labels {
            return None;
        }
        let start = text.noted(labels - 1 - back);
        hash = mix(hash, label_word(text, salt, start));
        back += 1;
        if back <= u64::from(LINE_LABELS) {
            end = hash;
            if back == u64::from(LINE_LABELS) && !filter_has(tables, filter_end(end)) {
                return None;
            }
        }
        if depths & 1 != 0 && contains(tables, end, hash) {
            return Some(Found {
                hash,
                name_bytes: name_bytes as u32,
            });
        }
    }
    None
}

/// How many labels a name has, and how many bytes.
///
/// The loop asks of a label only whether it is the root: lengths that are none, and an end beyond
/// what is loaded, are as true after it. Until then places are taken from the bytes there are.
#[inline(always)]
fn labels<T: Text>(text: &mut T, loaded: u64) -> Option<(u64, u64)> {
    let (mut at, mut lengths, mut labels) = (0, 0, 0);
    loop {
        let length = text.byte(at);
        if length == 0 {
            break;
        }
        if labels == LABELS_MAX {
            return None;
        }
        lengths |= length;
        text.note(labels, at);
        at += 1 + length;
        labels += 1;
    }
    let walked = text.forget(at << 32 | labels << 8 | lengths);
    let (at, labels, lengths) = (walked >> 32, walked >> 8 & 0xff, walked as u8);
    (at < loaded && lengths <= LABEL_BYTES_MAX).then_some((labels, at + 1))
}

/// The label that begins at a place, as one word.
#[inline(always)]
fn label_word<T: Text>(text: &T, salt: u64, start: u64) -> u64 {
    let first = text.word(start, 0);
    let bytes = (first & u64::from(LABEL_BYTES_MAX)) + 1;
    if bytes <= 8 {
        return lower(cut(first, bytes));
    }
    let mut hash = mix(salt, lower(first));
    let mut further = 8;
    while further + 8 <= bytes {
        hash = mix(hash, lower(text.word(start, further)));
        further += 8;
    }
    if further < bytes {
        let last = cut(text.word(start, further), bytes - further);
        hash = mix(hash, lower(last));
    }
    hash
}

/// The first bytes of a word: one to eight.
#[inline(always)]
const fn cut(word: u64, bytes: u64) -> u64 {
    let behind = (8 - bytes) * 8;
    word << behind >> behind
}

#[inline(always)]
fn contains(tables: &impl NameTables, end: u64, hash: u64) -> bool {
    if !filter_has(tables, filter_name(end, hash)) {
        return false;
    }
    let place = tag_place(hash, tables.bucket_mask());
    hold(|one| tables.bucket(one), place.buckets, place.tag)
}

#[inline(always)]
fn filter_has(tables: &impl NameTables, (word, bits): (u32, u64)) -> bool {
    tables.filter(word) & bits == bits
}

#[cfg(test)]
mod tests {
    use picket_abi::BUCKET_ENTRIES;
    use picket_abi::names::{FILTER_WORDS, name_hash};

    use super::*;

    const SALT: u64 = 0x5eed;

    struct Plain {
        bytes: Vec<u8>,
        starts: [u64; 8],
    }

    impl Text for Plain {
        fn byte(&self, at: u64) -> u64 {
            u64::from(self.bytes[at as usize & 255])
        }
        fn word(&self, at: u64, further: u64) -> u64 {
            assert!(further <= 56 && further.is_multiple_of(8));
            let from = (at as usize & 255) + further as usize;
            u64::from_ne_bytes(self.bytes[from..from + 8].try_into().unwrap())
        }
        fn note(&mut self, label: u64, at: u64) {
            self.starts[label as usize & 7] = at;
        }
        fn noted(&self, label: u64) -> u64 {
            self.starts[label as usize & 7]
        }
    }

    struct Listed {
        filter: Vec<u64>,
        buckets: Vec<Bucket>,
        depths: u32,
    }

    impl Listed {
        fn new(names: &[&str]) -> Self {
            let mut listed = Self {
                filter: vec![0; FILTER_WORDS as usize],
                buckets: vec![[0; BUCKET_ENTRIES]; 64],
                depths: 0,
            };
            for name in names {
                let labels = name.rsplit('.').take(DEPTH_MAX as usize);
                let (mut hash, mut end, mut depth) = (SALT, SALT, 0);
                for label in labels {
                    hash = name_hash(SALT, hash, label.as_bytes());
                    end = if depth < 2 { hash } else { end };
                    depth += 1;
                }
                let place = tag_place(hash, 63);
                listed.depths |= 1 << (depth - 1);
                for (word, bits) in [filter_end(end), filter_name(end, hash)] {
                    listed.filter[word as usize] |= bits;
                }
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

    fn look_raw(listed: &[&str], bytes: &[u8]) -> Option<Found> {
        look_among(&Listed::new(listed), bytes)
    }

    fn look_among(listed: &Listed, bytes: &[u8]) -> Option<Found> {
        // What a packet before this one left behind must not matter.
        let mut text = Plain {
            bytes: [bytes, &[b'x'; 320]].concat(),
            starts: [99; 8],
        };
        let loaded = bytes.len().min(256) as u32;
        lookup(&mut text, listed, loaded, SALT, listed.depths)
    }

    fn found(listed: &[&str], name: &str) -> bool {
        look_raw(listed, &wire(name)).is_some()
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
        let all = look_raw(&listed, &wire("www.evil.example")).unwrap();
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
    fn only_as_many_labels_as_listed_names_have() {
        let mut listed = Listed::new(&["test", "c.evil.example", "evil.example"]);
        let mut found = |depths: u32, name: &str| {
            listed.depths = depths;
            look_among(&listed, &wire(name)).map(|found| found.hash)
        };
        let (two, three) = (
            found(0b010, "d.c.evil.example"),
            found(0b100, "d.c.evil.example"),
        );
        assert!(two.is_some() && three.is_some() && two != three);
        // The shortest first, whichever there are.
        assert_eq!(found(0b111, "d.c.evil.example"), two);
        assert_eq!(found(0b1101, "d.c.evil.example"), three);
        assert_eq!(found(0b1000, "d.c.evil.example"), None);
        assert!(found(0b001, "a.b.test").is_some() && found(0b111, "test").is_some());
        assert_eq!(found(0b110, "a.b.test"), None);
        assert_eq!(found(0, "evil.example"), None);
    }

    #[test]
    fn what_ends_as_nothing_listed_does_is_looked_at_no_further() {
        let mut listed = Listed::new(&["c.evil.example"]);
        assert!(look_among(&listed, &wire("c.evil.example")).is_some());
        let end = "evil.example"
            .rsplit('.')
            .fold(SALT, |hash, label| name_hash(SALT, hash, label.as_bytes()));
        let (word, bits) = filter_end(end);
        listed.filter[word as usize] &= !bits;
        assert!(look_among(&listed, &wire("c.evil.example")).is_none());
    }

    #[test]
    fn what_is_no_whole_name_is_left() {
        let whole = wire("evil.example");
        for end in 0..whole.len() {
            assert!(
                look_raw(&["evil.example"], &whole[..end]).is_none(),
                "{end}"
            );
        }
        // A pointer, a label too long, labels without an end.
        assert!(look_raw(&["example"], b"\x01a\xc0\x0c").is_none());
        assert!(look_raw(&["example"], &[64; 256]).is_none());
        assert!(look_raw(&["example"], &[1; 256]).is_none());
        let mut endless = wire(&vec!["a"; 127].join("."));
        endless[254] = 1;
        endless.extend_from_slice(b"a\0");
        assert!(look_raw(&["a.a"], &endless).is_none());
    }

    #[test]
    fn only_queries_have_a_question_of_interest() {
        assert!(is_query(0x0100, 1) && is_query(0, 2));
        assert!(!is_query(0x8180, 1) && !is_query(0x0100, 0));
    }
}
