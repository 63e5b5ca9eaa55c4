//! Neighbours: the MAC addresses behind next hops, one table for all workers.
//!
//! RFC 826 and RFC 1122 section 2.3.2.1 (validation), with the states of RFC 4861 section 7.3.2 where ARP
//! has none:
//!
//! | state | meaning | at its due time |
//! |---|---|---|
//! | `Incomplete` | asked by broadcast, packets wait | asks again; after 3 requests: `Failed` |
//! | `Reachable` | MAC address known | used since the last proof: `Probe`, else freed |
//! | `Probe` | still believed, asked by unicast | asks again; after 3 requests: `Incomplete` |
//! | `Failed` | did not answer, packets are refused | wanted meanwhile: `Incomplete`, else freed |
//!
//! A proof (a reply we asked for, a request addressed to us) makes any of them `Reachable`. So a neighbour in
//! use is validated before its time runs out, and its sessions never wait.
//!
//! Concurrency: an entry's MAC address, generation and state share one atomic word, so the packet path
//! reads it with one load and no lock. Transitions are compare-and-swap on that word; the right
//! to act at a due time is a compare-and-swap on the time. Only creating and freeing an entry take a
//! mutex: that is the first packet to a new next hop, never a packet of a known one. The index of keys is
//! read without the lock; a reader that meets a concurrent removal may miss an entry, and then
//! looks again under the lock before it creates one.
//!
//! A freed slot goes to the end of the queue of free ones and its generation moves on, so a
//! [`NeighborRef`] kept by a session notices. Generations have 13 bits: a reference can be
//! mistaken only after its slot was reused 8,192 times, with all other free slots in between.
//!
//! When the table is full, an entry that no packet used lately gives way; where none is found within
//! 64 entries, the new neighbour is refused.

mod index;
mod word;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::ids::InterfaceId;
use crate::router::neighbor::index::Index;
use crate::router::neighbor::word::Word;
use crate::time::Instant;

pub use crate::router::neighbor::word::{NeighborRef, NeighborState};

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Its MAC address.
    Known([u8; 6]),
    /// It has been asked for.
    Pending,
    /// It did not answer.
    Unreachable,
    /// The reference is of another time: resolve again.
    Gone,
}

/// One neighbour, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborEntry {
    /// The interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: u32,
    /// Its MAC address; zeros where none is known.
    pub mac: [u8; 6],
    /// Its state.
    pub state: NeighborState,
}

/// An ARP request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Out of this interface.
    pub interface: InterfaceId,
    /// Who has this address?
    pub address: u32,
    /// Ask this station alone; `None`: all.
    pub unicast: Option<[u8; 6]>,
}

/// What an ARP packet proves about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A request addressed to us: worth an entry, its sender will want an answer.
    Request,
    /// A reply addressed to us: settles what we asked, and creates nothing.
    Reply,
    /// Anything else: only moves an address that is already resolved (RFC 826, "merge").
    Overheard,
}

/// The table of neighbours.
#[derive(Debug)]
pub struct Neighbors {
    entries: Box<[Entry]>,
    index: Index,
    owner: Mutex<Owner>,
    /// Moves when a waiting packet may have something to gain.
    epoch: AtomicU32,
    /// When the next chunk of entries is looked at, nanoseconds.
    next_sweep: AtomicU64,
    sweep_cursor: AtomicUsize,
    /// Entries from here on were never used.
    high_water: AtomicUsize,
    lifetime: Duration,
}

#[derive(Debug, Default)]
struct Entry {
    /// MAC address (48 bits), generation (13), state (3).
    word: AtomicU64,
    /// Interface (32 bits), address (32).
    key: AtomicU64,
    /// When something is to be done, nanoseconds.
    due: AtomicU64,
    /// Whether a packet wanted it since the last proof or failure.
    used: AtomicBool,
    /// Requests sent in this state.
    attempts: AtomicU8,
}

/// What the mutex guards: the right to create and free.
#[derive(Debug)]
struct Owner {
    free: VecDeque<usize>,
    evict_cursor: usize,
}

impl Neighbors {
    /// An empty table for `capacity` neighbours (at most 65,535), each believed for `lifetime` after a proof.
    #[must_use]
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        let capacity = capacity.clamp(1, usize::from(u16::MAX));
        Self {
            entries: (0..capacity).map(|_| Entry::default()).collect(),
            index: Index::new(capacity),
            owner: Mutex::new(Owner { free: (0..capacity).collect(), evict_cursor: 0 }),
            epoch: AtomicU32::new(0),
            next_sweep: AtomicU64::new(0),
            sweep_cursor: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            lifetime,
        }
    }

    /// What is known behind `neighbor`. Two loads, one line; the first use after a proof also stores.
    #[must_use]
    #[inline]
    pub fn mac(&self, neighbor: NeighborRef) -> Lookup {
        let Some(entry) = self.entries.get(neighbor.index()) else { return Lookup::Gone };
        let word = Word(entry.word.load(Ordering::Acquire));
        if word.generation() != neighbor.generation() {
            return Lookup::Gone;
        }
        let lookup = match word.state() {
            Some(NeighborState::Reachable | NeighborState::Probe) => Lookup::Known(word.mac()),
            Some(NeighborState::Incomplete) => Lookup::Pending,
            Some(NeighborState::Failed) => Lookup::Unreachable,
            None => return Lookup::Gone,
        };
        // Read before write: the line stays shared between the workers.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        lookup
    }

    /// The MAC address behind `neighbor` in the upper 48 bits, when it needs neither a question nor a note; else ask
    /// [`Self::mac`].
    #[must_use]
    #[inline(always)]
    pub fn known(&self, neighbor: NeighborRef) -> Option<u64> {
        let entry = self.entries.get(neighbor.index())?;
        let word = Word(entry.word.load(Ordering::Acquire));
        let is_known = word.is_believed(neighbor.generation()) && entry.used.load(Ordering::Relaxed);
        is_known.then_some(word.0)
    }

    /// The neighbour `address` on `interface`, created `Incomplete` when it is new. Lock-free when it is
    /// known; takes the table's mutex when it is not.
    ///
    /// # Errors
    ///
    /// [`DropReason::NeighborTableFull`]: all entries are taken, and those looked at are in use.
    pub fn resolve(
        &self,
        interface: InterfaceId,
        address: u32,
        now: Instant,
    ) -> Result<NeighborRef, DropReason> {
        let key = pack_key(interface, address);
        if let Some(neighbor) = self.find(key) {
            return Ok(neighbor);
        }
        let mut owner = self.lock();
        if let Some(neighbor) = self.find(key) {
            return Ok(neighbor);
        }
        let state = Word::new([0; 6], 0, NeighborState::Incomplete);
        self.create(&mut owner, key, state, now.as_nanos()).ok_or(DropReason::NeighborTableFull)
    }

    /// Takes in what an ARP packet says: `address` on `interface` is at `mac`. Returns whether
    /// anything was learnt.
    pub fn learn(
        &self,
        interface: InterfaceId,
        address: u32,
        mac: [u8; 6],
        proof: Proof,
        now: Instant,
    ) -> bool {
        let key = pack_key(interface, address);
        let validate_at = now.plus(self.validate_after()).as_nanos();
        if let Some(neighbor) = self.find(key) {
            return self.confirm(neighbor, mac, proof, validate_at);
        }
        if proof != Proof::Request {
            return false;
        }
        let mut owner = self.lock();
        if self.find(key).is_some() {
            // Another worker was faster with the same news.
            return true;
        }
        let state = Word::new(mac, 0, NeighborState::Reachable);
        self.create(&mut owner, key, state, validate_at).is_some()
    }

    /// Takes the step of `neighbor` that is due at `now`, if one is, and returns the request to send for
    /// it. Of several workers that call this at once, one gets to act.
    pub fn advance(&self, neighbor: NeighborRef, now: Instant) -> Option<Request> {
        self.advance_entry(neighbor.index(), now)
    }

    /// Takes the steps that are due in the next chunk of entries, handing requests to `ask`. One load
    /// when nothing is due; at most 256 entries otherwise. Every entry is looked at 8 times a second
    /// as long as any worker calls this.
    pub fn sweep(&self, now: Instant, mut ask: impl FnMut(Request)) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        if now.as_nanos() < due {
            return;
        }
        let high_water = self.high_water.load(Ordering::Relaxed);
        let chunks = high_water.div_ceil(SWEEP_CHUNK).max(1);
        let next = now.plus(SWEEP_PERIOD / chunks as u32).as_nanos();
        // Which worker sweeps is all that is decided here: no data hangs on it.
        if self.next_sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let start = self.sweep_cursor.load(Ordering::Relaxed);
        let end = (start + SWEEP_CHUNK).min(high_water);
        self.sweep_cursor.store(if end < high_water { end } else { 0 }, Ordering::Relaxed);
        for index in start..end {
            if let Some(request) = self.advance_entry(index, now) {
                ask(request);
            }
        }
    }

    /// A number that moves whenever a neighbour got resolved, failed or was freed.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u32 {
        // Pairs with the Release in `bump_epoch`: who sees the number sees the word behind it.
        self.epoch.load(Ordering::Acquire)
    }

    /// All neighbours at this moment, for display.
    pub fn iter(&self) -> impl Iterator<Item = NeighborEntry> {
        self.entries.iter().filter_map(|entry| {
            let word = Word(entry.word.load(Ordering::Acquire));
            let (interface, address) = unpack_key(entry.key.load(Ordering::Acquire));
            Some(NeighborEntry { interface, address, mac: word.mac(), state: word.state()? })
        })
    }

    /// When a proof is to be renewed: early enough for three requests before the lifetime ends.
    fn validate_after(&self) -> Duration {
        self.lifetime.saturating_sub(RETRY_INTERVAL * u32::from(ATTEMPTS)).max(self.lifetime / 2)
    }

    fn confirm(&self, neighbor: NeighborRef, mac: [u8; 6], proof: Proof, validate_at: u64) -> bool {
        let Some(entry) = self.entries.get(neighbor.index()) else { return false };
        let mut old = Word(entry.word.load(Ordering::Acquire));
        loop {
            let is_welcome = match old.state() {
                Some(NeighborState::Reachable | NeighborState::Probe) => true,
                Some(NeighborState::Incomplete | NeighborState::Failed) => proof != Proof::Overheard,
                None => false,
            };
            if old.generation() != neighbor.generation() || !is_welcome {
                return false;
            }
            let new = Word::new(mac, old.generation(), NeighborState::Reachable);
            // Release: pairs with the Acquire of `mac`. The word is all there is to see.
            match entry.word.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    old = new;
                    break;
                }
                Err(current) => old = Word(current),
            }
        }
        entry.used.store(false, Ordering::Relaxed);
        // Only while the entry is still what it was made above: its slot may have a new tenant already.
        let mut due = entry.due.load(Ordering::Acquire);
        while entry.word.load(Ordering::Acquire) == old.0 {
            match entry.due.compare_exchange(due, validate_at, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(current) => due = current,
            }
        }
        self.bump_epoch();
        true
    }

    fn advance_entry(&self, index: usize, now: Instant) -> Option<Request> {
        let entry = self.entries.get(index)?;
        // The word before the time: a proof that comes in between changes the word, and the exchange
        // below fails.
        let word = Word(entry.word.load(Ordering::Acquire));
        let state = word.state()?;
        let due = entry.due.load(Ordering::Acquire);
        if now.as_nanos() < due {
            return None;
        }
        let retry_at = now.plus(RETRY_INTERVAL).as_nanos();
        // Pairs with the Release stores of `due`: the winner acts alone until `retry_at`.
        entry.due.compare_exchange(due, retry_at, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let (interface, address) = unpack_key(entry.key.load(Ordering::Acquire));
        let is_used = entry.used.load(Ordering::Relaxed);
        let attempts = entry.attempts.load(Ordering::Relaxed);
        let next = match state {
            NeighborState::Incomplete | NeighborState::Probe if attempts < ATTEMPTS => state,
            NeighborState::Incomplete => NeighborState::Failed,
            NeighborState::Probe => NeighborState::Incomplete,
            NeighborState::Reachable if is_used => NeighborState::Probe,
            NeighborState::Failed if is_used => NeighborState::Incomplete,
            NeighborState::Reachable | NeighborState::Failed => {
                self.free(&mut self.lock(), index, word);
                return None;
            }
        };
        if next == state {
            entry.attempts.store(attempts + 1, Ordering::Relaxed);
        } else {
            let mac = if next == NeighborState::Probe { word.mac() } else { [0; 6] };
            let new = Word::new(mac, word.generation(), next);
            // Release: pairs with the Acquire of `mac`.
            entry.word.compare_exchange(word.0, new.0, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            entry.attempts.store(1, Ordering::Relaxed);
        }
        if next == NeighborState::Failed {
            entry.used.store(false, Ordering::Relaxed);
            entry.due.store(now.plus(FAILED_HOLD).as_nanos(), Ordering::Release);
            self.bump_epoch();
            return None;
        }
        let unicast = (next == NeighborState::Probe).then(|| word.mac());
        Some(Request { interface, address, unicast })
    }

    fn bump_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Owner> {
        // A thread that died while it held the lock left atomics behind, each of them valid.
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks `key` up without the lock.
    fn find(&self, key: u64) -> Option<NeighborRef> {
        self.index.find(key, |index| self.matches(index, key))
    }

    /// The reference to entry `index` when it is alive and its key is `key`.
    fn matches(&self, index: usize, key: u64) -> Option<NeighborRef> {
        let entry = self.entries.get(index)?;
        let before = Word(entry.word.load(Ordering::Acquire));
        // Pairs with `create`: a live word shows the key of its generation or of a later one, and who sees
        // a later key sees the generation gone below.
        let has_key = entry.key.load(Ordering::Acquire) == key;
        let after = Word(entry.word.load(Ordering::Acquire));
        let is_same = before.state().is_some() && before.generation() == after.generation();
        (has_key && is_same).then(|| NeighborRef::new(index, before.generation()))
    }

    /// Takes a free entry, or one out of use, for `key`. The generation of `state` is filled in here.
    fn create(&self, owner: &mut Owner, key: u64, state: Word, due: u64) -> Option<NeighborRef> {
        let index = match owner.free.pop_front() {
            Some(index) => index,
            None => {
                self.evict(owner)?;
                owner.free.pop_front()?
            }
        };
        let entry = self.entries.get(index)?;
        // The generation moved on when the entry was freed, and its state says that it is not alive.
        let word = Word(entry.word.load(Ordering::Relaxed)).with(state);
        entry.key.store(key, Ordering::Release);
        entry.attempts.store(0, Ordering::Relaxed);
        entry.used.store(word.state() == Some(NeighborState::Incomplete), Ordering::Relaxed);
        entry.due.store(due, Ordering::Release);
        // Pairs with the Acquire loads of the word: who sees it alive sees its key.
        entry.word.store(word.0, Ordering::Release);
        self.high_water.fetch_max(index + 1, Ordering::Relaxed);
        self.index.insert(key, index);
        Some(NeighborRef::new(index, word.generation()))
    }

    /// Frees one entry that no packet used since its last proof or failure.
    fn evict(&self, owner: &mut Owner) -> Option<()> {
        for _ in 0..EVICT_LOOKS.min(self.entries.len()) {
            let index = owner.evict_cursor;
            owner.evict_cursor = (index + 1) % self.entries.len();
            let entry = self.entries.get(index)?;
            let word = Word(entry.word.load(Ordering::Acquire));
            let is_idle = !entry.used.load(Ordering::Relaxed) && word.state().is_some();
            if is_idle && self.free(owner, index, word) {
                return Some(());
            }
        }
        None
    }

    /// Frees entry `index` if its word is still `word`.
    fn free(&self, owner: &mut Owner, index: usize, word: Word) -> bool {
        let Some(entry) = self.entries.get(index) else { return false };
        let dead = word.freed();
        // Release: pairs with the Acquire of `mac`; references of the old generation are void from here on.
        if entry.word.compare_exchange(word.0, dead.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let key_of = |index: usize| Some(self.entries.get(index)?.key.load(Ordering::Relaxed));
        self.index.remove(entry.key.load(Ordering::Relaxed), index, key_of);
        owner.free.push_back(index);
        self.bump_epoch();
        true
    }
}

fn pack_key(interface: InterfaceId, address: u32) -> u64 {
    u64::from(interface.0) << 32 | u64::from(address)
}

fn unpack_key(key: u64) -> (InterfaceId, u32) {
    (InterfaceId((key >> 32) as u16), key as u32)
}

/// Between two requests for the same neighbour (RFC 1122 section 2.3.2.1: at most one a second).
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Requests before a neighbour counts as unreachable.
pub const ATTEMPTS: u8 = 3;
/// How long an unreachable neighbour is not asked again.
pub const FAILED_HOLD: Duration = Duration::from_secs(3);

const SWEEP_PERIOD: Duration = Duration::from_millis(125);
const SWEEP_CHUNK: usize = 256;
const EVICT_LOOKS: usize = 64;
