//! A bounded table whose oldest rows make room for new ones.

use std::collections::hash_map::RandomState;
use std::hash::Hash;

use hashbrown::Equivalent;
use hashbrown::hash_map::{EntryRef, HashMap};

/// Rows by key, each with the event time it was last written at.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    rows: HashMap<K, Row<V>, RandomState>,
    rows_max: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Row<V> {
    written_ns: u64,
    value: V,
}

impl<K: Clone + Eq + Hash + Ord, V: Default> Table<K, V> {
    /// Holds at most `rows_max` rows.
    pub(crate) fn new(rows_max: usize) -> Self {
        Self {
            rows: HashMap::default(),
            rows_max,
            evicted: 0,
        }
    }

    /// The row of `key`, written at `now_ns`; made if absent, for which older ones may have to go.
    pub(crate) fn write(&mut self, key: K, now_ns: u64) -> &mut V {
        if self.rows.len() >= self.rows_max && !self.rows.contains_key(&key) {
            self.evict();
        }
        let row = self.rows.entry(key).or_insert_with(|| Row {
            written_ns: now_ns,
            value: V::default(),
        });
        row.written_ns = row.written_ns.max(now_ns);
        &mut row.value
    }

    /// As [`Table::write`], by what a key can be made of: it is made for a row that is absent only.
    pub(crate) fn write_by<Q>(&mut self, key: &Q, now_ns: u64) -> &mut V
    where
        Q: Hash + Equivalent<K> + ?Sized,
        for<'q> &'q Q: Into<K>,
    {
        if self.rows.len() >= self.rows_max && !self.rows.contains_key(key) {
            self.evict();
        }
        let row = match self.rows.entry_ref(key) {
            EntryRef::Occupied(row) => row.into_mut(),
            EntryRef::Vacant(place) => {
                let value = V::default();
                let written_ns = now_ns;
                place.insert_with_key(key.into(), Row { written_ns, value })
            }
        };
        row.written_ns = row.written_ns.max(now_ns);
        &mut row.value
    }

    /// The row of `key`.
    pub(crate) fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The row of `key`, which does not become younger by this.
    pub(crate) fn get_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        self.rows.get_mut(key).map(|row| &mut row.value)
    }

    /// The row of `key`, if it is there, written at `now_ns`.
    pub(crate) fn rewrite<Q>(&mut self, key: &Q, now_ns: u64) -> Option<&mut V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let row = self.rows.get_mut(key)?;
        row.written_ns = row.written_ns.max(now_ns);
        Some(&mut row.value)
    }

    /// Takes the row of `key` out.
    pub(crate) fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        self.rows.remove(key).map(|row| row.value)
    }

    /// The rows, in no order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// Lets go of rows last written before `before_ns`.
    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.rows.retain(|_, row| row.written_ns >= before_ns);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.rows.values().map(|row| &row.value)
    }

    /// The values, in no order, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.values_mut().map(|row| &mut row.value)
    }

    /// Rows that made room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Lets the sixteenth that was written longest ago go: all at once, so that a row costs little
    /// on average.
    pub(crate) fn evict(&mut self) {
        let mut ages: Vec<(u64, K)> = self
            .rows
            .iter()
            .map(|(key, row)| (row.written_ns, key.clone()))
            .collect();
        ages.sort_unstable();
        ages.truncate(ages.len().div_ceil(16));
        for (_, key) in ages {
            self.rows.remove(&key);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rows_make_room() {
        let mut table: Table<u64, u64> = Table::new(32);
        for key in 0..1_000 {
            *table.write(key, key) = key;
            assert!(table.len() <= 32);
            assert_eq!(table.get(&key), Some(&key));
        }
        assert_eq!(table.len() as u64 + table.evicted(), 1_000);
        assert_eq!(table.get(&0), None);
    }

    #[test]
    fn a_row_that_is_written_again_stays() {
        let mut table: Table<u64, u64> = Table::new(32);
        for key in 0..1_000 {
            *table.write(u64::MAX, key) += 1;
            table.write(key, key);
        }
        assert_eq!(table.get(&u64::MAX), Some(&1_000));
    }

    #[test]
    fn a_row_that_is_not_there_is_not_made_by_writing_it_again() {
        let mut table: Table<String, u64> = Table::new(32);
        assert_eq!(table.rewrite("a", 10), None);
        *table.write_by("a", 10) = 7;
        assert_eq!(table.rewrite("a", 20), Some(&mut 7));
        table.expire(20);
        assert_eq!(table.get("a"), Some(&7));
    }

    #[test]
    fn expired_rows_are_gone() {
        let mut table: Table<u64, u64> = Table::new(32);
        table.write(1, 10);
        table.write(2, 20);
        table.expire(20);
        assert_eq!((table.get(&1), table.get(&2)), (None, Some(&0)));
    }
}
