//! Entries of one kind on one list, by their keys, sorted: one text for all, and where each ends. A
//! million names take 24 MB so.

use std::cmp::Ordering;

/// Keys in ascending order, each once.
#[derive(Debug, Default, Clone)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    /// Takes one more, at the end; [`Keys::sort`] when all are there. A set has room for fewer bytes
    /// than 32 bits count.
    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.extend(key);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)? as usize;
        let start = at
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.key(at))
    }

    /// Bytes they take in a chunk: what each has in common with the one before is written as its
    /// length.
    pub(super) fn packed_bytes(&self) -> u64 {
        let mut before: &[u8] = &[];
        let mut sum = 0;
        for key in self.iter() {
            let pairs = key.iter().zip(before);
            let shared = pairs.take_while(|(one, other)| one == other).count();
            sum += 2 + (key.len() - shared) as u64;
            before = key;
        }
        sum
    }

    /// Puts them in order, and drops what is there twice.
    pub(super) fn sort(&mut self) {
        let mut order: Vec<&[u8]> = self.iter().collect();
        order.sort_unstable();
        order.dedup();
        let mut sorted = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            ends: Vec::with_capacity(order.len()),
        };
        order.into_iter().for_each(|key| sorted.push(key));
        *self = sorted;
    }

    /// What has come since `before`, and what has gone.
    pub(super) fn changes<'a>(&'a self, before: &'a Self) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        let (mut new, mut old) = (self.iter().peekable(), before.iter().peekable());
        loop {
            let order = match (new.peek(), old.peek()) {
                (None, None) => return (come, gone),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(new), Some(old)) => new.cmp(old),
            };
            if order.is_le() {
                let key = new.next();
                come.extend(key.filter(|_| order.is_lt()));
            }
            if order.is_ge() {
                let key = old.next();
                gone.extend(key.filter(|_| order.is_gt()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &[&str]) -> Keys {
        let mut keys = Keys::default();
        words.iter().for_each(|word| keys.push(word.as_bytes()));
        keys.sort();
        keys
    }

    #[test]
    fn sorted_and_once() {
        let keys = keys(&["b", "a", "", "b", "ab"]);
        let words: Vec<&[u8]> = keys.iter().collect();
        assert_eq!(words, [b"".as_slice(), b"a", b"ab", b"b"]);
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn what_comes_and_goes() {
        let check = |before: &[&str], after: &[&str], come: &[&str], gone: &[&str]| {
            let (before, after) = (keys(before), keys(after));
            let (came, went) = after.changes(&before);
            let bytes = |words: &[&str]| -> Vec<Vec<u8>> {
                words.iter().map(|word| word.as_bytes().to_vec()).collect()
            };
            assert_eq!((came, went), (slices(&bytes(come)), slices(&bytes(gone))));
        };
        check(&["a", "b"], &["a", "b"], &[], &[]);
        check(&["a", "c"], &["b", "c", "d"], &["b", "d"], &["a"]);
        check(&[], &["a"], &["a"], &[]);
        check(&["a", "b"], &[], &[], &["a", "b"]);
    }

    fn slices(words: &[Vec<u8>]) -> Vec<&[u8]> {
        words.iter().map(Vec::as_slice).collect()
    }
}
