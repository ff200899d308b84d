//! The tables of listed names, built in our memory and then given to the kernel.
//!
//! Where a name lies is told by [`picket_abi::names`]. What does not fit is refused as a whole:
//! names are then matched on the copies of questions, and none is left out silently.

use picket_abi::names::{DEPTH_MAX, FILTER_WORDS, label_hash, name_place};
use picket_abi::{BUCKET_ENTRIES, Bucket};

use super::SetError;

/// What a load made of the names of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamesSize {
    /// Tags in the buckets. Names that end in the same eight labels share one.
    pub names: u32,
    /// Labels of the deepest name, [`DEPTH_MAX`] if it has more.
    pub depth: u32,
}

/// One half of the tables.
pub(in crate::capture::ebpf) struct NameImage {
    pub(in crate::capture::ebpf) filter: Vec<u64>,
    pub(in crate::capture::ebpf) buckets: Vec<Bucket>,
    pub(in crate::capture::ebpf) size: NamesSize,
    salt: u64,
    names_max: u32,
}

impl NameImage {
    /// An empty half with `buckets` buckets, a power of two.
    pub(in crate::capture::ebpf) fn new(buckets: usize, names_max: u32, salt: u64) -> Self {
        Self {
            filter: vec![0; FILTER_WORDS as usize],
            buckets: vec![[0; BUCKET_ENTRIES]; buckets],
            size: NamesSize::default(),
            salt,
            names_max,
        }
    }

    /// Adds a name: lower case, without a final dot.
    pub(in crate::capture::ebpf) fn add(&mut self, name: &str) -> Result<(), SetError> {
        let (mut hash, mut depth) = (self.salt, 0);
        for label in name.rsplit('.').take(DEPTH_MAX as usize) {
            hash = label_hash(hash, label.as_bytes());
            depth += 1;
        }
        let mask = u32::try_from(self.buckets.len() - 1).unwrap_or(u32::MAX);
        let place = name_place(hash, mask);
        let (first, second) = (place.buckets.0 as usize, place.buckets.1 as usize);
        if self.buckets[first].contains(&place.tag) || self.buckets[second].contains(&place.tag) {
            // Itself, or one that is found in its place; the agent tells them apart.
            self.list(place.word, place.bit, depth);
            return Ok(());
        }
        if self.size.names >= self.names_max {
            let max = self.names_max;
            return Err(SetError::TooManyNames { max });
        }
        let free = |place: usize| {
            let entries = self.buckets[place].iter();
            entries.filter(|entry| **entry == 0).count()
        };
        let emptier = if free(first) >= free(second) {
            first
        } else {
            second
        };
        let mut entries = self.buckets[emptier].iter_mut();
        let Some(entry) = entries.find(|entry| **entry == 0) else {
            let held = self.size.names;
            return Err(SetError::NamesCrowded { held });
        };
        *entry = place.tag;
        self.size.names += 1;
        self.list(place.word, place.bit, depth);
        Ok(())
    }

    fn list(&mut self, word: u32, bit: u32, depth: u32) {
        self.filter[word as usize] |= 1 << bit;
        self.size.depth = self.size.depth.max(depth);
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets_for;
    use super::*;

    fn image(max: u32) -> NameImage {
        NameImage::new(buckets_for(max) as usize, max, 7)
    }

    #[test]
    fn names_take_one_place_each() {
        let mut image = image(1000);
        for name in ["evil.example", "a.evil.example", "evil.example", "x.test"] {
            image.add(name).unwrap();
        }
        assert_eq!(image.size, NamesSize { names: 3, depth: 3 });
        let set: u32 = image.filter.iter().map(|word| word.count_ones()).sum();
        assert_eq!(set, 3);
        let filled = image.buckets.iter().flatten().filter(|tag| **tag != 0);
        assert_eq!(filled.count(), 3);
    }

    #[test]
    fn a_deep_name_is_listed_by_its_last_labels() {
        let mut image = image(1000);
        image.add("a.b.1.2.3.4.5.6.7.8").unwrap();
        image.add("c.1.2.3.4.5.6.7.8").unwrap();
        assert_eq!(
            image.size,
            NamesSize {
                names: 1,
                depth: DEPTH_MAX
            }
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut small = image(2);
        small.add("one.example").unwrap();
        small.add("two.example").unwrap();
        small.add("two.example").unwrap();
        let error = small.add("three.example");
        assert_eq!(error, Err(SetError::TooManyNames { max: 2 }));

        // One bucket for all: after sixteen there is no room.
        let mut crowded = NameImage::new(1, 1000, 7);
        for name in 0..16 {
            crowded.add(&format!("{name}.example")).unwrap();
        }
        let error = crowded.add("last.example");
        assert_eq!(error, Err(SetError::NamesCrowded { held: 16 }));
    }

    #[test]
    fn a_full_table_finds_room_for_all() {
        const NAMES: u32 = 100_000;
        let mut image = image(NAMES);
        for name in 0..NAMES {
            image.add(&format!("host-{name}.example")).unwrap();
        }
        // Two names with one tag in one bucket are as good as never met: 16 of 2³².
        assert!(image.size.names > NAMES - 4, "{}", image.size.names);
    }
}
