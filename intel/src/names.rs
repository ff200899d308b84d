//! Names of a set with what each stands on: one text for all, and a hash table of places in it. A
//! million names of twenty bytes take 43 MB; in a map of strings they take twice as much.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A name's place in the text, and its value.
#[derive(Debug, Clone, Copy)]
struct Entry {
    from: u32,
    bytes: u8,
    value: u32,
}

/// Names, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Names {
    text: String,
    entries: Vec<Entry>,
    /// Places in `entries`, by hash of the name.
    index: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a name.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let at = self.place(self.hasher.hash_one(name), name)?;
        self.entries.get(at).map(|entry| entry.value)
    }

    /// The value of a name, to be changed; `new` if the name is. `None` for a name that is none, as
    /// it is too long, and for more than 4 GiB of them.
    pub(crate) fn entry(&mut self, name: &str, new: u32) -> Option<(&mut u32, bool)> {
        let hash = self.hasher.hash_one(name);
        let known = self.place(hash, name);
        let at = match known {
            Some(at) => at,
            None => {
                let from = u32::try_from(self.text.len()).ok()?;
                let bytes = u8::try_from(name.len()).ok()?;
                let at = self.entries.len();
                let place = u32::try_from(at).ok()?;
                self.text.push_str(name);
                let value = new;
                self.entries.push(Entry { from, bytes, value });
                let Self {
                    text,
                    entries,
                    index,
                    hasher,
                } = self;
                index.insert_unique(hash, place, |&at| {
                    let entry = entries.get(at as usize);
                    hasher.hash_one(entry.map_or("", |entry| entry.of(text)))
                });
                at
            }
        };
        let entry = self.entries.get_mut(at)?;
        Some((&mut entry.value, known.is_none()))
    }

    /// Every name with its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> + Send {
        let text = &self.text;
        self.entries
            .iter()
            .map(|entry| (entry.of(text), entry.value))
    }

    /// Keeps the names whose value, which may be changed, is to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut u32) -> bool) {
        let all = std::mem::take(self);
        for (name, mut value) in all.iter() {
            if keep(&mut value) {
                // There was room for it among more.
                let _ = self.entry(name, value);
            }
        }
    }

    /// Gives back what was asked for beyond what is needed.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn place(&self, hash: u64, name: &str) -> Option<usize> {
        let found = self.index.find(hash, |&at| {
            let entry = self.entries.get(at as usize);
            entry.is_some_and(|entry| entry.of(&self.text) == name)
        });
        found.map(|&at| at as usize)
    }
}

impl Entry {
    fn of(self, text: &str) -> &str {
        let from = self.from as usize;
        text.get(from..from + usize::from(self.bytes))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once_and_found() {
        let mut names = Names::default();
        assert!(names.is_empty() && names.find("a.example").is_none());
        for number in 0..1_000 {
            let name = format!("{number}.example");
            assert_eq!(names.entry(&name, number), Some((&mut { number }, true)));
        }
        let (value, new) = names.entry("7.example", 9).unwrap();
        assert_eq!((*value, new), (7, false));
        *value = 12;
        names.shrink();
        assert_eq!(names.find("7.example"), Some(12));
        assert_eq!(names.find("999.example"), Some(999));
        assert_eq!(names.find("999.exampl"), None);
        assert_eq!(names.find(""), None);
        assert_eq!(names.iter().count(), 1_000);
        assert_eq!(names.iter().nth(8), Some(("8.example", 8)));
        assert!(names.entry(&"x".repeat(256), 1).is_none());
    }
}
