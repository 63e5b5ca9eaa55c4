//! From hash to record index: a fixed hash table of buckets, each one cache line.

use super::record::{LINE_WORDS, Line, Lines};
use super::sync::{AtomicU64, Ordering, fence, spin_loop};

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The value is in the table.
    New,
    /// The key was there already, or another worker was faster: its value. Ours is not in the table.
    Exists(u32),
    /// Both buckets of the key are full. Ours is not in the table.
    Full,
}

/// A lock-free hash table of 31-bit values; the keys lie in the caller's records.
#[derive(Debug)]
pub struct IndexTable {
    buckets: Lines,
    mask: u32,
}

impl IndexTable {
    /// A table in which `entries` entries make at most 60 % load: 64 bytes per 4.8 entries, rounded
    /// up to a power of two, so 13..27 bytes per entry. `entries` is at most 2^31.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        let buckets = entries
            .min(1 << VALUE_BITS)
            .saturating_mul(LOAD_DIVISOR)
            .div_ceil(LOAD_DIVIDEND * SLOTS)
            .max(2)
            .next_power_of_two();
        Self { buckets: Lines::new(buckets), mask: (buckets - 1) as u32 }
    }

    /// Starts to fetch the first bucket of `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.buckets.prefetch(self.place(hash).first);
    }

    /// A value that [`Self::find`] will probably return for `hash`, for prefetching its record: only
    /// the tag is compared. Looks into the first bucket only; when nothing is there, starts to fetch
    /// the second one.
    #[inline]
    #[must_use]
    pub fn peek(&self, hash: u64) -> Option<u32> {
        let place = self.place(hash);
        let found = self.find_in(place.first, place.committed_tag(), |_| true);
        if found.is_none() {
            self.buckets.prefetch(place.second);
        }
        found
    }

    /// The value under `hash` for which `is_match` says that the record has the wanted key.
    ///
    /// Never misses an entry whose insert returned before. Everything that was stored before the
    /// insert is visible to `is_match`.
    #[inline]
    pub fn find(&self, hash: u64, is_match: impl Fn(u32) -> bool) -> Option<u32> {
        let place = self.place(hash);
        match self.find_in(place.first, place.committed_tag(), &is_match) {
            None => self.find_in(place.second, place.committed_tag(), &is_match),
            found => found,
        }
    }

    /// Puts `value` (below 2^31) under `hash`, unless `same_key` says that an entry has the same key.
    ///
    /// Several workers may insert the same key at once: one gets `New`, the others `Exists` with its
    /// value. The record of `value` must be filled before; `same_key` may be asked about a record that
    /// is being given up, so it reads atomics only.
    pub fn insert(&self, hash: u64, value: u32, same_key: impl Fn(u32) -> bool) -> Inserted {
        debug_assert!(value <= VALUE_MASK as u32);
        let place = self.place(hash);
        let tentative = place.word(TENTATIVE, value);
        for round in 0..ROUNDS {
            let (position, slot) = match self.survey(place, &same_key) {
                Survey::Free(position, slot) => (position, slot),
                Survey::Exists(winner) => return Inserted::Exists(winner),
                Survey::Full { has_rival: false } => return Inserted::Full,
                Survey::Full { has_rival: true } => {
                    spin_loop();
                    continue;
                }
            };
            // Release: pairs with the Acquire loads of `survey`, `settle` and `find_in`.
            if slot.compare_exchange(EMPTY, tentative, Ordering::Release, Ordering::Relaxed).is_err() {
                continue;
            }
            // Pairs with itself in a rival: of two that published, at least one sees the other.
            fence(Ordering::SeqCst);
            match self.settle(place, position, round >= POLITE_ROUNDS, &same_key) {
                Settled::Alone => {
                    // Fails when a rival killed us. Release: pairs with the Acquire load of `find_in`.
                    let committed = place.word(COMMITTED, value);
                    if slot
                        .compare_exchange(tentative, committed, Ordering::Release, Ordering::Relaxed)
                        .is_ok()
                    {
                        return Inserted::New;
                    }
                }
                Settled::Exists(winner) => {
                    withdraw(slot, tentative);
                    return Inserted::Exists(winner);
                }
                Settled::Yield => {
                    withdraw(slot, tentative);
                    spin_loop();
                }
            }
        }
        Inserted::Full
    }

    /// Takes the entry of `value` under `hash` out. Of several callers one gets `true`.
    ///
    /// Readers may hold the value for the rest of their burst: see [`super::quiescence`].
    pub fn remove(&self, hash: u64, value: u32) -> bool {
        let place = self.place(hash);
        let committed = place.word(COMMITTED, value);
        self.slots(place).any(|(_, slot)| {
            slot.load(Ordering::Relaxed) == committed
                // Release: the record is read and marked before; pairs with the fence in
                // `Quiescence::advance`.
                && slot.compare_exchange(committed, EMPTY, Ordering::Release, Ordering::Relaxed).is_ok()
        })
    }

    /// Calls `f` with each value. What is inserted or removed meanwhile may be seen or not.
    pub fn for_each(&self, mut f: impl FnMut(u32)) {
        for bucket in self.buckets.iter() {
            for slot in bucket.words.iter().take(SLOTS) {
                // Acquire: pairs with the Release of `insert`.
                let word = slot.load(Ordering::Acquire);
                if word & STATE_MASK == COMMITTED {
                    f(value_of(word));
                }
            }
        }
    }

    /// Slots in all buckets.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.buckets.count() * SLOTS
    }

    #[inline]
    fn place(&self, hash: u64) -> Place {
        let tag = hash >> TAG_SHIFT;
        let first = hash as u32 & self.mask;
        // Depends on the tag alone, so that two keys with equal tags share both buckets or none; odd,
        // so that the buckets differ.
        let distance = (tag as u32).wrapping_mul(0x9e37_79b1) | 1;
        Place { first, second: first ^ (distance & self.mask), tag }
    }

    #[inline]
    fn find_in(&self, bucket: u32, wanted: u64, is_match: impl Fn(u32) -> bool) -> Option<u32> {
        let bucket: &Line = self.buckets.line(bucket)?;
        bucket.words.iter().take(SLOTS).find_map(|slot| {
            // Acquire: pairs with the Release of `insert`.
            let word = slot.load(Ordering::Acquire);
            (word >> VALUE_BITS == wanted && is_match(value_of(word))).then(|| value_of(word))
        })
    }

    /// The slots of both buckets, numbered in the order in which all inserters of this hash see them.
    fn slots(&self, place: Place) -> impl Iterator<Item = (usize, &AtomicU64)> {
        [place.first, place.second]
            .into_iter()
            .filter_map(|bucket| self.buckets.line(bucket))
            .flat_map(|line| line.words.iter().take(SLOTS))
            .enumerate()
    }

    /// Looks for the key and for the slot to take.
    fn survey(&self, place: Place, same_key: &impl Fn(u32) -> bool) -> Survey<'_> {
        let mut used = [0_usize; 2];
        let mut free: [Option<(usize, &AtomicU64)>; 2] = [None; 2];
        let mut has_rival = false;
        for (position, slot) in self.slots(place) {
            // Acquire: pairs with the Release of `insert`.
            let word = slot.load(Ordering::Acquire);
            let [first, second] = &mut used;
            let [first_free, second_free] = &mut free;
            let (used, free) = if position < SLOTS { (first, first_free) } else { (second, second_free) };
            if word == EMPTY {
                free.get_or_insert((position, slot));
                continue;
            }
            *used += 1;
            if word >> TAG_SHIFT == place.tag && same_key(value_of(word)) {
                if word & STATE_MASK == COMMITTED {
                    return Survey::Exists(value_of(word));
                }
                has_rival = true;
            }
        }
        let [first_used, second_used] = used;
        let [first, second] = free;
        let preferred = if first_used < FIRST_BUCKET_LIMIT || first_used <= second_used {
            first.or(second)
        } else {
            second
        };
        match preferred {
            Some((position, slot)) => Survey::Free(position, slot),
            None => Survey::Full { has_rival },
        }
    }

    /// Compares our published entry at `own` with all others.
    fn settle(&self, place: Place, own: usize, kills_all: bool, same_key: &impl Fn(u32) -> bool) -> Settled {
        for (position, slot) in self.slots(place) {
            // Acquire: pairs with the Release of `insert`.
            let word = slot.load(Ordering::Acquire);
            if position == own || word == EMPTY || word >> TAG_SHIFT != place.tag || !same_key(value_of(word))
            {
                continue;
            }
            if word & STATE_MASK == COMMITTED {
                return Settled::Exists(value_of(word));
            }
            let has_priority = own < position || kills_all;
            if !has_priority
                || slot.compare_exchange(word, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                return Settled::Yield;
            }
        }
        Settled::Alone
    }
}

/// Where a hash may lie.
#[derive(Clone, Copy)]
struct Place {
    first: u32,
    second: u32,
    tag: u64,
}

impl Place {
    #[inline]
    fn word(self, state: u64, value: u32) -> u64 {
        self.tag << TAG_SHIFT | state | u64::from(value) & VALUE_MASK
    }

    /// The upper bits of a committed slot of this hash.
    #[inline]
    fn committed_tag(self) -> u64 {
        self.word(COMMITTED, 0) >> VALUE_BITS
    }
}

enum Survey<'a> {
    Free(usize, &'a AtomicU64),
    Exists(u32),
    Full { has_rival: bool },
}

enum Settled {
    Alone,
    Exists(u32),
    Yield,
}

/// Takes our tentative entry out, unless a rival has done so already.
fn withdraw(slot: &AtomicU64, tentative: u64) {
    let _ = slot.compare_exchange(tentative, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
}

#[inline]
fn value_of(word: u64) -> u32 {
    (word & VALUE_MASK) as u32
}

const SLOTS: usize = if cfg!(loom) { 2 } else { LINE_WORDS };
const LOAD_DIVIDEND: usize = 3;
const LOAD_DIVISOR: usize = 5;
const FIRST_BUCKET_LIMIT: usize = 6;
const ROUNDS: u32 = 64;
const POLITE_ROUNDS: u32 = 8;

const VALUE_BITS: u32 = 31;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;
const TAG_SHIFT: u32 = VALUE_BITS + 2;
const STATE_MASK: u64 = 3 << VALUE_BITS;
const EMPTY: u64 = 0;
const TENTATIVE: u64 = 1 << VALUE_BITS;
const COMMITTED: u64 = 2 << VALUE_BITS;
