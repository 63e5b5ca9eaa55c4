//! Entries that live as long as somebody holds them: found by a 64-bit key, counted, lock-free.
//!
//! The last holder unlinks an entry and retires its slot; a worker that looks for the key meanwhile
//! makes a new entry. What else belongs to an entry lies with the caller, by slot.

use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted};
use crate::table::slots::SlotPool;
use crate::table::sync::{AtomicU32, AtomicU64, Ordering, Writers};

/// A fixed-size table of counted entries.
#[derive(Debug)]
pub struct Counted {
    index: IndexTable,
    slots: SlotPool,
    entries: Box<[Entry]>,
    key: HashKey,
    writers: Writers,
}

#[derive(Debug, Default)]
struct Entry {
    key: AtomicU64,
    references: AtomicU32,
}

impl Counted {
    /// Room for `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey, writers: Writers) -> Self {
        Self {
            index: IndexTable::with_capacity(capacity, writers),
            slots: SlotPool::new(u32::try_from(capacity).unwrap_or(u32::MAX), writers),
            entries: (0..capacity).map(|_| Entry::default()).collect(),
            key,
            writers,
        }
    }

    /// Whether somebody holds `key`.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        self.index.find(self.key.hash1(key), |slot| self.is_at(slot, key)).is_some()
    }

    /// Starts to fetch the first bucket of `key`.
    pub fn prefetch(&self, key: u64) {
        self.index.prefetch(self.key.hash1(key));
    }

    /// A reference on the entry of `key`, which is made if there is none: `prepare` fills what belongs
    /// to its slot before anybody can find it. `None`: the table is full.
    #[inline]
    #[must_use]
    pub fn enter(&self, key: u64, prepare: impl Fn(u32)) -> Option<u32> {
        let hash = self.key.hash1(key);
        match self.index.find(hash, |slot| self.is_at(slot, key)) {
            Some(slot) if self.hold(slot) => Some(slot),
            _ => self.make(hash, key, prepare),
        }
    }

    /// The same where a look has found nothing that lives.
    #[cold]
    #[inline(never)]
    fn make(&self, hash: u64, key: u64, prepare: impl Fn(u32)) -> Option<u32> {
        for _ in 0..ROUNDS {
            if let Some(slot) = self.index.find(hash, |slot| self.is_at(slot, key)) {
                if self.hold(slot) {
                    return Some(slot);
                }
                continue;
            }
            let slot = self.slots.alloc()?;
            let entry = self.entries.get(slot as usize)?;
            prepare(slot);
            entry.key.store(key, Ordering::Relaxed);
            entry.references.store(1, Ordering::Relaxed);
            match self.index.insert(hash, slot, |other| self.is_at(other, key)) {
                Inserted::New => return Some(slot),
                Inserted::Exists(_) => {
                    self.cancel(entry, slot);
                }
                Inserted::Full => {
                    self.cancel(entry, slot);
                    return None;
                }
            }
        }
        None
    }

    /// The entry of `key`, with a reference taken, if there is one.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<u32> {
        let slot = self.index.find(self.key.hash1(key), |slot| self.is_at(slot, key))?;
        self.hold(slot).then_some(slot)
    }

    /// Takes one more reference; `false`: the entry is ending.
    #[inline]
    #[must_use]
    pub fn hold(&self, slot: u32) -> bool {
        let Some(entry) = self.entries.get(slot as usize) else { return false };
        if self.writers == Writers::One {
            let held = entry.references.load(Ordering::Relaxed);
            if held > 0 {
                entry.references.store(held + 1, Ordering::Relaxed);
            }
            return held > 0;
        }
        let held = |references: u32| (references > 0).then(|| references + 1);
        // Relaxed: the entry was published by the index; the count only keeps it alive.
        entry.references.fetch_update(Ordering::Relaxed, Ordering::Relaxed, held).is_ok()
    }

    /// Gives a reference back. `true`: it was the last, the entry is unlinked, and the caller retires
    /// its slot.
    #[must_use]
    pub fn release(&self, slot: u32) -> bool {
        let Some(entry) = self.entries.get(slot as usize) else { return false };
        // AcqRel: what other holders did with the entry happens before its end.
        let held = match self.writers {
            Writers::Many => entry.references.fetch_sub(1, Ordering::AcqRel),
            Writers::One => {
                let held = entry.references.load(Ordering::Relaxed);
                entry.references.store(held.wrapping_sub(1), Ordering::Relaxed);
                held
            }
        };
        if held != 1 {
            return false;
        }
        self.index.remove(self.key.hash1(entry.key.load(Ordering::Relaxed)), slot);
        true
    }

    /// Gives the slot of an ended entry back, after the grace period.
    pub fn free(&self, slot: u32) {
        self.slots.free(slot);
    }

    /// The key in `slot`, held or not.
    #[must_use]
    pub fn key(&self, slot: u32) -> Option<u64> {
        self.entries.get(slot as usize).map(|entry| entry.key.load(Ordering::Relaxed))
    }

    /// References on `slot`; zero when it is free or ending.
    #[must_use]
    pub fn references(&self, slot: u32) -> u32 {
        self.entries.get(slot as usize).map_or(0, |entry| entry.references.load(Ordering::Relaxed))
    }

    /// How many entries there may be.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Slots that were ever used.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.slots.high_water()
    }

    /// Slots in use, ending ones included.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    /// The slot was never found by anybody: `insert` did not commit it.
    fn cancel(&self, entry: &Entry, slot: u32) {
        entry.references.store(0, Ordering::Relaxed);
        self.slots.free(slot);
    }

    fn is_at(&self, slot: u32, key: u64) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| {
            entry.key.load(Ordering::Relaxed) == key && entry.references.load(Ordering::Relaxed) > 0
        })
    }
}

/// Rounds against workers that make or end the same entry at the same moment.
const ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::table::quiescence::{Quiescence, Retired};

    #[test]
    fn the_last_holder_ends_an_entry_and_the_table_refuses_when_full() {
        let table = Counted::new(2, HashKey::from_seed([1, 2, 3, 4]), Writers::Many);
        let a = table.enter(7, |_| {}).expect("there is room");
        assert_eq!(table.enter(7, |_| {}), Some(a));
        let b = table.enter(8, |_| {}).expect("there is room");
        assert_eq!(table.enter(9, |_| {}), None);
        assert!(!table.release(a) && table.contains(7));
        assert!(table.release(a) && !table.contains(7) && table.contains(8));
        table.free(a);
        assert_eq!((table.enter(9, |_| {}), table.references(b)), (Some(a), 1));
    }

    #[test]
    fn threads_that_enter_and_leave_the_same_keys_lose_and_double_nothing() {
        let table = Arc::new(Counted::new(256, HashKey::from_seed([1, 2, 3, 4]), Writers::Many));
        let quiescence = Arc::new(Quiescence::new(2));
        let run = |number: u64| {
            let (table, quiescence) = (Arc::clone(&table), Arc::clone(&quiescence));
            thread::spawn(move || {
                let participant = quiescence.participant(number as usize).expect("a place is free");
                let mut retired: Retired<u32> = Retired::new(64);
                let mut entered = 0;
                for round in 0..20_000_u64 {
                    let key = (round * 7 + number) % 5;
                    if let Some(slot) = table.enter(key, |_| {}) {
                        entered += 1;
                        assert_eq!(table.key(slot), Some(key));
                        if table.release(slot) {
                            retired.retire(slot).expect("the queue is reclaimed every round");
                        }
                    }
                    participant.quiescent();
                    retired.reclaim(&quiescence, |slot| table.free(slot));
                    while retired.len() > 32 {
                        thread::yield_now();
                        participant.quiescent();
                        retired.reclaim(&quiescence, |slot| table.free(slot));
                    }
                }
                participant.offline();
                while !retired.is_empty() {
                    thread::yield_now();
                    retired.reclaim(&quiescence, |slot| table.free(slot));
                }
                entered
            })
        };
        let threads = [run(0), run(1)];
        let entered = threads.map(|thread| thread.join().expect("no thread panics"));
        assert!(entered.iter().all(|entered| *entered > 15_000), "{entered:?}");
        assert_eq!(table.in_use(), 0);
        assert!((0..5).all(|key| !table.contains(key)));
    }
}
