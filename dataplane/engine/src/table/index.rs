//! From hash to record index: a fixed hash table of buckets, each one cache line.
//!
//! A slot is one word: 30 bits of the hash as tag, 2 bits of state, then 31 bits of value. A hash names
//! two buckets of eight slots, and a third one of the [stash](#stash), which is rarely needed. An entry
//! lies in one of these slots and never moves, so a find looks at three cache lines at most and misses
//! nothing that was there all the time. The keys themselves lie in the caller's records; the caller
//! compares them, in about one of 2^27 finds in vain.
//!
//! Where several threads write, an insert publishes, verifies and commits: `index/insert.rs` argues why that suffices.
//!
//! # Stash
//!
//! Both buckets of one key in some millions are full, even where the table is not (see "Load"). Its entry goes to a
//! third bucket, which it shares with the keys of [`BUCKETS_OF_A_STASH`] buckets: few lines, which stay in the cache
//! (Kirsch, Mitzenmacher and Wieder, "More Robust Hashing: Cuckoo Hashing with a Stash", 2009). Until the first entry
//! goes there nobody looks at it. Who puts one there says so *before* it publishes. Of two that publish the same key,
//! one here and one in a bucket, the argument of "at most one commits" (`index/insert.rs`) holds as before: the first
//! sees the other's slot, or the other sees that the stash is in use, and then the slot in it.
//!
//! # One writer
//!
//! Where one thread alone inserts and removes ([`Writers::One`]), nobody can take a slot or publish the key between its look
//! at both buckets and its store: it stores the committed word at once. That is a third of the instructions and saves
//! two locked operations; finds of other threads see the record filled as before.
//!
//! It may also put an entry late ([`IndexTable::insert_late`]): the keys under which replies to a first packet will come are
//! known just before they are put, when their buckets are still on their way from memory. So they wait until 32
//! do or the batch is done ([`IndexTable::catch_up`]), and the waiting of them all overlaps. Inserts and removals see them.
//!
//! # Load
//!
//! A find that ends in the first bucket saves a cache miss, so inserts prefer it; but the more they
//! do, the earlier both buckets of some key are full. An insert takes the first bucket while it has
//! less than K used slots or no more than the second, else the second. Simulated, 2^18 buckets for
//! the first refusal, 2^16 (*2^20) for the rest, random replacement of all entries 11..60 times:
//!
//! | K | first refusal, only inserts | entries in second bucket at load 0.50 | refused at 0.50 | at 0.60 |
//! |---|---|---|---|---|
//! | 3 | 0.67 | 38.0 % | 0 of 16 M | 6e-6 |
//! | 4 | 0.69 | 35.8 % | 0 of 16 M | 5e-6 |
//! | 5 | 0.64 | 27.4 % | 0 of 16 M | 9e-6 |
//! | **6** | 0.61 | **15.8 %** | 0 of 16 M, *1 of 50 M | 3e-5 |
//! | 7 | 0.40 | | | 4e-4 |
//! | 8 | 0.26 | | | 6e-3 |
//!
//! "Refused" are those that go to the stash. K = 6, and the configured number of entries makes at most half load. (Just
//! filling it, without replacement, has 4..5 % in the second bucket.) Displacing entries would bear more load, but a find
//! could miss one on its way.
//!
//! Where there are millions of entries, bytes count too ([`Load`]); 2^21 buckets, all entries replaced twice:
//!
//! | | K | load | only inserts | refused | in second bucket |
//! |---|---|---|---|---|---|
//! | [`Load::HITS`] | 6 | 0.53 | 0 of 9 M | 6e-7 | 19.5 % |
//! | [`Load::MISSES`]: both buckets are looked at anyway | 4 | 0.60 | 0 of 10 M | 4e-6 | 38 % |
//!
//! So a stash's bucket has 0.3 entries where the load is highest, and a ninth one in a table of 10^10: "full" practically
//! means that the records are used up.

mod insert;
mod late;

use self::late::LateEntries;
use super::record::{Line, Lines};
use super::sync::{AtomicBool, AtomicU64, Ordering, Writers};
use super::tags::{SLOTS, slots_with};

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The value is in the table.
    New,
    /// The key was there already, or another worker was faster: its value. Ours is not in the table.
    Exists(u32),
    /// All buckets of the key are full. Ours is not in the table.
    Full,
}

/// A lock-free hash table of 31-bit values; the keys lie in the caller's records.
#[derive(Debug)]
pub struct IndexTable {
    buckets: Lines,
    /// Third buckets: see "Stash".
    stash: Lines,
    /// Whether an entry ever went to `stash`.
    is_stash_used: AtomicBool,
    late: LateEntries,
    /// K of "Load".
    first_bucket_limit: usize,
    writers: Writers,
}

/// How close entries lie: see "Load" of the module.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    bytes_of_six: usize,
    first_bucket_limit: usize,
}

impl Load {
    /// Half full: 16 bytes an entry.
    pub const HALF: Self = Self { bytes_of_six: 96, first_bucket_limit: 6 };
    /// For what every packet looks up: 15 bytes.
    pub const HITS: Self = Self { bytes_of_six: 90, first_bucket_limit: 6 };
    /// For what first packets look up: 13.3 bytes.
    pub const MISSES: Self = Self { bytes_of_six: 80, first_bucket_limit: 4 };

    /// Memory that `entries` take.
    #[must_use]
    pub const fn bytes(self, entries: usize) -> usize {
        (entries * self.bytes_of_six).div_ceil(6)
    }
}

impl IndexTable {
    /// A table that holds `entries` (at most 2^31) at half load. Its own thread, or several, insert and remove.
    #[must_use]
    pub fn with_capacity(entries: usize, writers: Writers) -> Self {
        Self::with_load(entries, Load::HALF, writers)
    }

    /// A table that holds `entries` (at most 2^31) when it is as full as `load` says.
    #[must_use]
    pub fn with_load(entries: usize, load: Load, writers: Writers) -> Self {
        let slots = load.bytes(entries.min(1 << VALUE_BITS)) / size_of::<u64>();
        let buckets = Lines::new(slots.div_ceil(SLOTS).max(2));
        let stash = Lines::new(buckets.count().div_ceil(BUCKETS_OF_A_STASH));
        Self {
            buckets,
            stash,
            is_stash_used: AtomicBool::new(false),
            late: LateEntries::default(),
            first_bucket_limit: load.first_bucket_limit,
            writers,
        }
    }

    /// Starts to fetch the first bucket of `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.buckets.prefetch(self.first_bucket(hash).0);
    }

    /// Starts to fetch both buckets of `hash`, for an insert looks at both.
    #[inline]
    pub fn prefetch_pair(&self, hash: u64) {
        let place = self.place(hash);
        self.buckets.prefetch(place.first.0);
        self.buckets.prefetch(place.second.0);
    }

    /// Starts to fetch what [`Self::insert_absent`] looks at for `hash`.
    #[inline]
    pub fn prefetch_absent(&self, hash: u64) {
        match self.writers {
            Writers::One => self.prefetch(hash),
            Writers::Many => self.prefetch_pair(hash),
        }
    }

    /// A value that [`Self::find`] will probably return for `hash`, for prefetching its record: only
    /// the tag is compared. Looks into the first bucket only; when nothing is there, starts to fetch
    /// the second one.
    #[inline(always)]
    #[must_use]
    pub fn peek(&self, hash: u64) -> Option<u32> {
        let found = self.peek_in(self.first_bucket(hash), upper(hash, COMMITTED));
        if found.is_none() {
            self.buckets.prefetch(self.second_bucket(hash).0);
        }
        found
    }

    /// As [`Self::peek`], of the second bucket.
    #[inline]
    #[must_use]
    pub fn peek_second(&self, hash: u64) -> Option<u32> {
        let place = self.place(hash);
        self.peek_in(place.second, place.upper(COMMITTED))
    }

    /// The value under `hash` for which `is_match` says that the record has the wanted key.
    ///
    /// Never misses an entry whose insert returned before. Everything that was stored before the
    /// insert is visible to `is_match`.
    #[inline]
    pub fn find(&self, hash: u64, is_match: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_at(self.place(hash), is_match)
    }

    /// As [`Self::insert`], by who has just looked for the key in vain, or owns it: only another thread can have
    /// inserted it. Where there is none, one bucket is looked at most of the time.
    #[inline(always)]
    pub fn insert_absent(&self, hash: u64, value: u32, same_key: impl Fn(u32) -> bool) -> Inserted {
        match self.writers {
            Writers::One => self.put(self.place(hash), value),
            Writers::Many => self.insert(hash, value, same_key),
        }
    }

    /// As [`Self::insert`] where nobody else inserts.
    #[inline]
    fn insert_alone(&self, place: Place, value: u32, same_key: impl Fn(u32) -> bool) -> Inserted {
        self.catch_up();
        match self.find_at(place, same_key) {
            Some(other) => Inserted::Exists(other),
            None => self.put(place, value),
        }
    }

    /// Puts an entry into an empty slot, where nobody else inserts.
    #[inline(always)]
    fn put(&self, place: Place, value: u32) -> Inserted {
        let Some((_, slot)) = self.vacancy(place) else { return Inserted::Full };
        // Release: pairs with the Acquire load of `find_in`.
        slot.store(place.word(COMMITTED, value), Ordering::Release);
        Inserted::New
    }

    /// Takes the entry of `value` under `hash` out. Of several callers one gets `true`.
    ///
    /// Readers may hold the value for the rest of their burst: see [`super::quiescence`].
    pub fn remove(&self, hash: u64, value: u32) -> bool {
        if self.catch_up() && self.remove_late(hash, value) {
            return true;
        }
        let place = self.place(hash);
        let committed = place.word(COMMITTED, value);
        self.lines(place).any(|(_, line)| {
            tagged(line, slots_with(line, place.upper(COMMITTED)), place)
                .any(|(slot, word)| word == committed && self.empty(line.word(slot), committed))
        })
    }

    /// Takes `committed` out of a slot. `false`: somebody else has. Release: the record is read and marked before; pairs
    /// with the fence in `Quiescence::advance`.
    #[inline]
    fn empty(&self, slot: &AtomicU64, committed: u64) -> bool {
        match self.writers {
            Writers::One => {
                slot.store(EMPTY, Ordering::Release);
                true
            }
            Writers::Many => {
                slot.compare_exchange(committed, EMPTY, Ordering::Release, Ordering::Relaxed).is_ok()
            }
        }
    }

    /// Calls `f` with each value. What is inserted or removed meanwhile may be seen or not.
    pub fn for_each(&self, mut f: impl FnMut(u32)) {
        for bucket in self.buckets.iter().chain(self.stash.iter()) {
            for slot in bucket.words.iter().take(SLOTS) {
                // Acquire: pairs with the Release of `insert`.
                let word = slot.load(Ordering::Acquire);
                if word & STATE_MASK == COMMITTED {
                    f(value_of(word));
                }
            }
        }
    }

    /// Slots in all buckets, without those of the stash.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.buckets.count() * SLOTS
    }

    #[inline]
    fn place(&self, hash: u64) -> Place {
        let (first, second) = (self.first_bucket(hash), self.second_bucket(hash));
        Place { first, second, tag: hash >> TAG_SHIFT }
    }

    /// The low half of the hash as a fraction of all buckets.
    #[inline(always)]
    fn first_bucket(&self, hash: u64) -> Bucket {
        Bucket(scaled(hash as u32, self.buckets.count() as u64) as u32)
    }

    /// By the tag alone, as far from the first as to be another one.
    #[inline(always)]
    fn second_bucket(&self, hash: u64) -> Bucket {
        let (tag, buckets) = ((hash >> TAG_SHIFT) as u32, self.buckets.count() as u64);
        let second =
            u64::from(self.first_bucket(hash).0) + 1 + scaled(tag.wrapping_mul(0x9e37_79b1), buckets - 1);
        Bucket((if second >= buckets { second - buckets } else { second }) as u32)
    }

    /// The line of a bucket.
    #[inline(always)]
    fn line(&self, bucket: Bucket) -> &Line {
        // SAFETY: only `first_bucket` and `second_bucket` make one, of this table. The first is a part of the count, smaller
        // than 1, of at least 2 buckets. To that the second adds 1 to count - 1, and subtracts the count if it is reached.
        unsafe { self.buckets.line_unchecked(bucket.0) }
    }

    /// The value of the first slot whose upper half is `upper`, unchecked: the slot may change at any time.
    #[inline(always)]
    fn peek_in(&self, bucket: Bucket, upper: u32) -> Option<u32> {
        let bucket = self.line(bucket);
        let hits = slots_with(bucket, upper);
        let position = hits.trailing_zeros() as usize;
        (hits != 0).then(|| value_of(bucket.word(position).load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn find_at(&self, place: Place, is_match: impl Fn(u32) -> bool) -> Option<u32> {
        let upper = place.upper(COMMITTED);
        let find_in = |line: &Line| find_in(line, upper, &is_match);
        find_in(self.line(place.first))
            .or_else(|| find_in(self.line(place.second)))
            .or_else(|| find_in(self.used_stash(place)?))
    }

    /// Where entries of a hash may be, in the order in which all inserters of this hash see it, with the number
    /// of the first slot.
    #[inline(always)]
    fn lines(&self, place: Place) -> impl Iterator<Item = (usize, &Line)> {
        let [first, second] = [place.first, place.second].map(|bucket| self.line(bucket));
        let stash = self.used_stash(place).map(|line| (STASH_BASE, line));
        [(0, first), (SLOTS, second)].into_iter().chain(stash)
    }

    /// The stash's bucket, unless no entry ever went to the stash. Relaxed: who has inserted before the caller looks,
    /// as far as the two have an order, has said so before; see "Stash" for inserters that have none.
    #[inline(always)]
    fn used_stash(&self, place: Place) -> Option<&Line> {
        if self.is_stash_used.load(Ordering::Relaxed) { self.stash_of(place) } else { None }
    }

    #[cold]
    fn stash_of(&self, place: Place) -> Option<&Line> {
        self.stash.line(scaled((place.tag << (32 - TAG_BITS)) as u32, self.stash.count() as u64) as u32)
    }

    /// The slot to take and its number: see "Load". `None`: there is none.
    #[inline(always)]
    fn vacancy(&self, place: Place) -> Option<(usize, &AtomicU64)> {
        let first = self.line(place.first);
        let empty = slots_with(first, EMPTY_UPPER);
        if empty.count_ones() as usize > SLOTS.saturating_sub(self.first_bucket_limit) {
            return slot_of(first, empty, 0);
        }
        let second = self.line(place.second);
        let other_empty = slots_with(second, EMPTY_UPPER);
        if other_empty.count_ones() > empty.count_ones() {
            return slot_of(second, other_empty, SLOTS);
        }
        slot_of(first, empty, 0).or_else(|| self.vacancy_in_stash(place))
    }

    /// As [`Self::vacancy`], where both buckets are full.
    #[cold]
    fn vacancy_in_stash(&self, place: Place) -> Option<(usize, &AtomicU64)> {
        let line = self.stash_of(place)?;
        let vacancy = slot_of(line, slots_with(line, EMPTY_UPPER), STASH_BASE)?;
        // Before the slot is published, which is a `SeqCst` exchange, or a Release store.
        self.is_stash_used.store(true, Ordering::Relaxed);
        Some(vacancy)
    }
}

/// Compares all tags first and without branches: which slot holds the entry is random, and a
/// mispredicted branch costs more than eight comparisons.
#[inline(always)]
fn find_in(bucket: &Line, upper: u32, is_match: impl Fn(u32) -> bool) -> Option<u32> {
    let mut hits = slots_with(bucket, upper);
    while hits != 0 {
        let position = hits.trailing_zeros() as usize;
        hits &= hits - 1;
        // Again, since the slot may have changed. Acquire: pairs with the Release of `insert`.
        let word = bucket.word(position).load(Ordering::Acquire);
        if (word >> 32) as u32 == upper && is_match(value_of(word)) {
            return Some(value_of(word));
        }
    }
    None
}

/// The first of the slots in `seen`, and its number where those of its bucket begin with `base`.
#[inline(always)]
fn slot_of(line: &Line, seen: u32, base: usize) -> Option<(usize, &AtomicU64)> {
    let position = seen.trailing_zeros() as usize;
    Some((base + position, line.words.get(position)?))
}

/// Position and word of those slots in `seen` that still have the tag, whatever their state.
#[inline(always)]
fn tagged(line: &Line, seen: u32, place: Place) -> impl Iterator<Item = (usize, u64)> {
    let mut left = seen;
    std::iter::from_fn(move || {
        while left != 0 {
            let position = left.trailing_zeros() as usize;
            left &= left - 1;
            // Again, since the slot may have changed. A tag of zero is no tag of an empty slot.
            let word = line.words.get(position)?.load(Ordering::Acquire);
            if word != EMPTY && word >> TAG_SHIFT == place.tag {
                return Some((position, word));
            }
        }
        None
    })
}

/// `number` of 2^32 as the same part of `count`.
#[inline]
const fn scaled(number: u32, count: u64) -> u64 {
    (number as u64 * count) >> 32
}

/// The number of a bucket, below their count.
#[derive(Clone, Copy)]
struct Bucket(u32);

/// Where a hash may lie.
#[derive(Clone, Copy)]
struct Place {
    first: Bucket,
    second: Bucket,
    tag: u64,
}

impl Place {
    #[inline]
    fn word(self, state: u64, value: u32) -> u64 {
        self.tag << TAG_SHIFT | state | u64::from(value) & VALUE_MASK
    }

    #[inline]
    fn upper(self, state: u64) -> u32 {
        upper(self.tag << TAG_SHIFT, state)
    }
}

/// The upper half of a slot of `hash`: its tag and state.
#[inline(always)]
const fn upper(hash: u64, state: u64) -> u32 {
    (((hash >> TAG_SHIFT) << TAG_SHIFT | state) >> 32) as u32
}

#[inline]
fn value_of(word: u64) -> u32 {
    (word & VALUE_MASK) as u32
}

/// See "Stash".
const BUCKETS_OF_A_STASH: usize = 1 << 14;
/// The number of the stash's first slot.
const STASH_BASE: usize = 2 * SLOTS;

const VALUE_BITS: u32 = 31;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;
/// Tag and state are the upper half of a word, which [`slots_with`] compares.
const TAG_SHIFT: u32 = 34;
const TAG_BITS: u32 = u64::BITS - TAG_SHIFT;
const STATE_MASK: u64 = 3 << 32;
const EMPTY: u64 = 0;
/// Only an empty slot has no state.
const EMPTY_UPPER: u32 = 0;
const TENTATIVE: u64 = 1 << 32;
const COMMITTED: u64 = 2 << 32;
