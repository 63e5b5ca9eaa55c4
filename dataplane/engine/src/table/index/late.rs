//! Entries that wait for their buckets: see "One writer" of the module.

use super::{IndexTable, Inserted};
use crate::table::sync::{AtomicU32, AtomicU64, Ordering, Writers};

/// Entries that their table's only writer has yet to put. Nobody else touches these words, so each access is Relaxed.
#[derive(Debug, Default)]
pub(super) struct LateEntries {
    count: AtomicU32,
    entries: [Entry; LATE_ENTRIES],
}

#[derive(Debug, Default)]
struct Entry {
    hash: AtomicU64,
    value: AtomicU32,
}

impl Entry {
    fn load(&self) -> (u64, u32) {
        (self.hash.load(Ordering::Relaxed), self.value.load(Ordering::Relaxed))
    }

    #[inline]
    fn store(&self, (hash, value): (u64, u32)) {
        self.hash.store(hash, Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
    }
}

impl LateEntries {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Notes an entry; `false`: there is no room.
    #[inline]
    fn push(&self, hash: u64, value: u32) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let Some(entry) = self.entries.get(count as usize) else { return false };
        entry.store((hash, value));
        self.count.store(count + 1, Ordering::Relaxed);
        true
    }

    /// Keeps the entries of which `is_kept` says so.
    fn retain(&self, mut is_kept: impl FnMut(u64, u32) -> bool) {
        let count = self.count.load(Ordering::Relaxed) as usize;
        let mut kept = 0;
        for entry in self.entries.iter().take(count).map(Entry::load).filter(|&(h, v)| is_kept(h, v)) {
            if let Some(place) = self.entries.get(kept as usize) {
                place.store(entry);
                kept += 1;
            }
        }
        self.count.store(kept, Ordering::Relaxed);
    }
}

impl IndexTable {
    /// As [`IndexTable::insert_absent`], of a key that nobody looks for before [`IndexTable::catch_up`]. Where one thread alone
    /// writes, the entry waits for its bucket, which the caller has prefetched: until then, or until so many others wait.
    #[inline(always)]
    pub fn insert_late(&self, hash: u64, value: u32, same_key: impl Fn(u32) -> bool) -> Inserted {
        match self.writers {
            Writers::Many => self.insert(hash, value, same_key),
            Writers::One if self.late.push(hash, value) => Inserted::New,
            Writers::One => self.put_behind_late(hash, value),
        }
    }

    /// Puts what waits to make room for an entry; where that has no slots, the entry goes to its own at once.
    #[inline(never)]
    fn put_behind_late(&self, hash: u64, value: u32) -> Inserted {
        self.put_late();
        if self.late.push(hash, value) { Inserted::New } else { self.put(self.place(hash), value) }
    }

    /// Puts what waits, and says whether anything did. By the only writer; without one nothing waits. What finds no slot waits
    /// for the next call: see "Load" for how seldom.
    #[inline(always)]
    pub fn catch_up(&self) -> bool {
        let is_behind = !self.late.is_empty();
        if is_behind {
            self.put_late();
        }
        is_behind
    }

    #[inline(never)]
    fn put_late(&self) {
        self.late.retain(|hash, value| self.put(self.place(hash), value) == Inserted::Full);
    }

    /// Takes an entry out that waits still; `false`: it does not.
    #[cold]
    pub(super) fn remove_late(&self, hash: u64, value: u32) -> bool {
        let mut is_found = false;
        self.late.retain(|other_hash, other| {
            let is_it = (other_hash, other) == (hash, value);
            is_found |= is_it;
            !is_it
        });
        is_found
    }
}

/// How many wait at most: enough that the first of them has come when the last is made.
const LATE_ENTRIES: usize = if cfg!(loom) { 1 } else { 32 };

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_late_entry_is_found_after_catching_up_and_removed_before_it() {
        let table = IndexTable::with_capacity(1000, Writers::One);
        for value in 0..40 {
            assert_eq!(table.insert_late(u64::from(value) << 40, value, |_| false), Inserted::New);
        }
        let is_found = |value: u32| table.find(u64::from(value) << 40, |other| other == value).is_some();
        // One more than may wait has put them all.
        assert_eq!((0..40).filter(|&value| is_found(value)).collect::<Vec<_>>(), (0..32).collect::<Vec<_>>());
        assert!(table.remove(35 << 40, 35), "before it was put");
        assert!(!table.remove(35 << 40, 35));
        assert_eq!((0..40).filter(|&value| is_found(value)).count(), 39, "a removal puts what waits");
        assert!(!table.catch_up());
    }

    #[test]
    fn a_late_entry_without_a_slot_waits_for_one() {
        let table = IndexTable::with_capacity(1000, Writers::One);
        for value in 0..26 {
            assert_eq!(table.insert_late(42, value, |_| false), Inserted::New);
        }
        let found = || (0..26).filter(|&value| table.find(42, |other| other == value).is_some()).count();
        assert!(table.catch_up());
        assert_eq!(found(), 24);
        assert!(table.remove(42, 3) && table.catch_up());
        assert_eq!(found(), 24, "one took its place");
        assert!(table.remove(42, 25), "waiting");
        assert!(!table.catch_up());
    }

    #[test]
    fn an_insert_meets_a_late_entry_of_its_key() {
        let table = IndexTable::with_capacity(1000, Writers::One);
        assert_eq!(table.insert_late(42, 7, |_| false), Inserted::New);
        assert_eq!(table.insert(42, 8, |other| other == 7), Inserted::Exists(7));
    }

    #[test]
    fn where_several_write_nothing_is_late() {
        let table = IndexTable::with_capacity(1000, Writers::Many);
        assert_eq!(table.insert_late(42, 7, |_| false), Inserted::New);
        assert!(!table.catch_up());
        assert_eq!(table.find(42, |other| other == 7), Some(7));
    }
}
