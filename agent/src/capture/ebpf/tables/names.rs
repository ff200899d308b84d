//! The tables of listed names, built in our memory and then given to the kernel.
//!
//! Where a name lies is told by [`picket_abi::names`]. What does not fit is refused as a whole:
//! names are then matched on the copies of questions, and none is left out silently.

use picket_abi::names::{
    DEPTH_MAX, FILTER_WORDS, LINE_LABELS, TagPlace, filter_end, filter_name, name_hash, tag_place,
};
use picket_abi::{BUCKET_ENTRIES, Bucket};

use super::{SetError, is_held, room};

/// What a load made of the names of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamesSize {
    /// Tags in the buckets. Names that end in the same eight labels share one.
    pub names: u32,
    /// How many labels they have, [`DEPTH_MAX`] where they have more: see
    /// [`picket_abi::AddressConfig::name_depths`].
    pub depths: u32,
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

    /// Adds names, in lower case and without a final dot, many at a time: where they lie is far
    /// apart, so that memory is asked for all of a batch before any is needed. (Measured: a million
    /// take 0.15 s in place of 0.35.)
    pub(in crate::capture::ebpf) fn add_all<'a>(
        &mut self,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<(), SetError> {
        const BATCH: usize = 64;
        let (salt, mask) = (self.salt, self.mask());
        let mut batch = Vec::with_capacity(BATCH);
        let mut places = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            batch.extend(names.by_ref().take(BATCH));
            if batch.is_empty() {
                return Ok(());
            }
            let first_bytes = batch.iter().filter_map(|name| name.as_bytes().first());
            std::hint::black_box(first_bytes.fold(0, |sum, byte| sum ^ byte));
            places.clear();
            places.extend(batch.iter().map(|name| place_of(name, salt, mask)));
            let touched = places.iter().fold(0, |sum, name| {
                let (first, second) = name.tag.buckets;
                sum ^ self.buckets[first as usize][0]
                    ^ self.buckets[second as usize][0]
                    ^ self.filter[name.filter[0].0 as usize] as u32
            });
            std::hint::black_box(touched);
            for name in &places {
                self.put(name)?;
            }
        }
    }

    /// Adds a name of ours beside the listed ones, if there are any: it is in no count and needs no
    /// room of theirs. False where it is not listed now.
    pub(in crate::capture::ebpf) fn add_own(&mut self, name: &str) -> bool {
        let listed = self.size.names;
        if listed == 0 {
            return false;
        }
        let place = place_of(name, self.salt, self.mask());
        self.names_max += 1;
        let put = self.put(&place);
        self.names_max -= 1;
        self.size.names = listed;
        put.is_ok()
    }

    fn mask(&self) -> u32 {
        u32::try_from(self.buckets.len() - 1).unwrap_or(u32::MAX)
    }

    fn put(&mut self, name: &Place) -> Result<(), SetError> {
        let TagPlace { tag, buckets } = name.tag;
        if is_held(&self.buckets, buckets, tag) {
            // Itself, or one that is found in its place; the agent tells them apart.
            self.list(name);
            return Ok(());
        }
        if self.size.names >= self.names_max {
            let max = self.names_max;
            return Err(SetError::TooManyNames { max });
        }
        let Some(entry) = room(&mut self.buckets, buckets) else {
            let held = self.size.names;
            return Err(SetError::NamesCrowded { held });
        };
        *entry = tag;
        self.size.names += 1;
        self.list(name);
        Ok(())
    }

    fn list(&mut self, name: &Place) {
        for (word, bits) in name.filter {
            self.filter[word as usize] |= bits;
        }
        self.size.depths |= name.depth;
    }
}

/// Where a name lies.
struct Place {
    /// Words of the filter, both in one line, and the bits to set in them.
    filter: [(u32, u64); 2],
    tag: TagPlace,
    /// The bit for as many labels as count.
    depth: u32,
}

fn place_of(name: &str, salt: u64, mask: u32) -> Place {
    let (mut hash, mut end, mut count) = (salt, salt, 0);
    let labels = name.as_bytes().rsplit(|byte| *byte == b'.');
    for label in labels.take(DEPTH_MAX as usize) {
        hash = name_hash(salt, hash, label);
        count += 1;
        if count <= LINE_LABELS {
            end = hash;
        }
    }
    Place {
        filter: [filter_end(end), filter_name(end, hash)],
        tag: tag_place(hash, mask),
        depth: 1 << (count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets_for;
    use super::*;

    fn add(image: &mut NameImage, name: &str) -> Result<(), SetError> {
        image.add_all([name].into_iter())
    }

    fn image(max: u32) -> NameImage {
        NameImage::new(buckets_for(max) as usize, max, 7)
    }

    #[test]
    fn names_take_one_place_each() {
        let mut image = image(1000);
        for name in ["evil.example", "a.evil.example", "evil.example", "x.test"] {
            add(&mut image, name).unwrap();
        }
        assert_eq!(
            image.size,
            NamesSize {
                names: 3,
                depths: 0b110
            }
        );
        // Those that end in the same two labels are in one line of the filter.
        let lines = image.filter.chunks(8).filter(|line| **line != [0; 8]);
        assert_eq!(lines.count(), 2);
        let filled = image.buckets.iter().flatten().filter(|tag| **tag != 0);
        assert_eq!(filled.count(), 3);
    }

    #[test]
    fn a_deep_name_is_listed_by_its_last_labels() {
        let mut image = image(1000);
        add(&mut image, "a.b.1.2.3.4.5.6.7.8").unwrap();
        add(&mut image, "c.1.2.3.4.5.6.7.8").unwrap();
        assert_eq!(
            image.size,
            NamesSize {
                names: 1,
                depths: 1 << (DEPTH_MAX - 1)
            }
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut small = image(2);
        add(&mut small, "one.example").unwrap();
        add(&mut small, "two.example").unwrap();
        add(&mut small, "two.example").unwrap();
        let error = add(&mut small, "three.example");
        assert_eq!(error, Err(SetError::TooManyNames { max: 2 }));

        // One bucket for all: after sixteen there is no room.
        let mut crowded = NameImage::new(1, 1000, 7);
        for name in 0..16 {
            add(&mut crowded, &format!("{name}.example")).unwrap();
        }
        let error = add(&mut crowded, "last.example");
        assert_eq!(error, Err(SetError::NamesCrowded { held: 16 }));
    }

    #[test]
    fn a_full_table_finds_room_for_all() {
        const NAMES: u32 = 100_000;
        let mut image = image(NAMES);
        let names: Vec<String> = (0..NAMES).map(|n| format!("host-{n}.example")).collect();
        image.add_all(names.iter().map(String::as_str)).unwrap();
        // Two names with one tag in one bucket are as good as never met: 16 of 2³².
        assert!(image.size.names > NAMES - 4, "{}", image.size.names);
    }
}
