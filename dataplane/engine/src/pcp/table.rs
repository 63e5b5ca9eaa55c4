//! The mappings that hosts have asked for: who asked, for how long, and which peers may use them.
//!
//! ```text
//!          create                claim               settle
//!   free ---------> LIVE <--------------> LIVE+BUSY ---------> LIVE
//!     ^                                       |
//!     |  free, after the grace period         |  end
//!     +---------------------------------------+
//! ```
//!
//! An entry is found by its internal endpoint, kind and peer. Endpoint, peer, nonce and mapping are
//! constant while it lives. Lifetime and filters change only under a claim, which one thread has at a
//! time; nobody waits for a claim, the client's next try will find it gone. Readers on the data path
//! take no claim: they may see the filters between two states, each of which is whole.

use crate::ids::TenantId;
use crate::nat::key::{Endpoint, Host};
use crate::pcp::message::{Filter, MAX_FILTERS, Nonce};
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted};
use crate::table::record::{Line, Lines};
use crate::table::slots::SlotPool;
use crate::table::sync::{AtomicU64, Ordering, Writers, fence};
use crate::time::{Instant, Tick};

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryKey {
    /// IP protocol.
    pub protocol: u8,
    /// The host's own endpoint.
    pub internal: Endpoint,
    /// The one peer of a PEER entry; `None`: a MAP entry.
    pub peer: Option<Endpoint>,
}

/// An entry as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is found by.
    pub key: EntryKey,
    /// Who may change it.
    pub nonce: Nonce,
    /// The mapping it holds.
    pub mapping: u32,
    /// When it ends.
    pub expires: Tick,
}

/// Why no entry was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// The table is full.
    Full,
    /// The address has as many as it may have.
    Quota,
    /// Another worker has just made it.
    Exists,
}

/// The right to change or end an entry, one thread's at a time.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    /// The entry's slot.
    pub slot: u32,
}

/// The table, shared by all workers.
#[derive(Debug)]
pub struct ExplicitMappings {
    index: IndexTable,
    slots: SlotPool,
    /// Two lines an entry: itself, and its filters.
    lines: Lines,
    /// The internal host of each slot's entry, 0 for none: what quota and sweep walk.
    owners: Box<[AtomicU64]>,
    per_subscriber: usize,
    /// Nanoseconds: when the table was empty, [`NEVER`] until the first thread says it.
    began: AtomicU64,
    key: HashKey,
}

impl ExplicitMappings {
    /// Room for `capacity` entries (0: nobody is served), `per_subscriber` of one address.
    #[must_use]
    pub fn new(capacity: usize, per_subscriber: usize, key: HashKey) -> Self {
        Self {
            index: IndexTable::with_capacity(capacity, Writers::Many),
            slots: SlotPool::new(u32::try_from(capacity).unwrap_or(u32::MAX), Writers::Many),
            lines: Lines::new(capacity * LINES_PER_ENTRY as usize),
            owners: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
            per_subscriber,
            began: AtomicU64::new(NEVER),
            key,
        }
    }

    /// Starts the epoch, unless another thread has: the table is empty now.
    pub fn begin(&self, now: Instant) {
        // Relaxed: whichever of the starting threads is first, they agree.
        let _ = self.began.compare_exchange(NEVER, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Seconds since the table was empty (RFC 6887 section 8.5, RFC 6886 section 3.6).
    #[must_use]
    pub fn epoch_seconds(&self, now: Instant) -> u32 {
        let began = Instant::from_nanos(self.began.load(Ordering::Relaxed));
        u32::try_from(now.since(began).as_secs()).unwrap_or(u32::MAX)
    }

    /// Publishes `entry` with its filters. Walks the owners, some 2 us of 4,096.
    ///
    /// # Errors
    /// [`CreateError`]: nothing was made.
    pub fn create(&self, entry: &Entry, filters: impl Iterator<Item = Filter>) -> Result<u32, CreateError> {
        let slot = self.slots.alloc().ok_or(CreateError::Full)?;
        let (Some(line), Some(owner)) = (self.entry_line(slot), self.owners.get(slot as usize)) else {
            return Err(CreateError::Full);
        };
        // Counted with ourselves in, so two workers cannot both take the last place: of two fences one is the later,
        // and who has that sees the other's slot, high water included.
        owner.store(entry.key.internal.host().to_u64(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let undo = |error| {
            line.word(STATE).store(0, Ordering::Relaxed);
            owner.store(0, Ordering::Relaxed);
            self.slots.free(slot);
            Err(error)
        };
        if self.owned_by(entry.key.internal.host()).count() > self.per_subscriber {
            return undo(CreateError::Quota);
        }
        let [high, low] = nonce_words(entry.nonce);
        line.word(INTERNAL).store(internal_word(&entry.key), Ordering::Relaxed);
        line.word(PEER).store(peer_word(&entry.key), Ordering::Relaxed);
        line.word(NONCE).store(high, Ordering::Relaxed);
        line.word(MAPPING).store(low << 32 | u64::from(entry.mapping), Ordering::Relaxed);
        self.write_filters(slot, filters);
        line.word(STATE).store(state(entry.expires, LIVE), Ordering::Relaxed);
        match self.index.insert(self.hash(&entry.key), slot, |other| self.is_at(other, &entry.key)) {
            Inserted::New => Ok(slot),
            Inserted::Exists(_) => undo(CreateError::Exists),
            Inserted::Full => undo(CreateError::Full),
        }
    }

    /// The live entry with this key.
    #[must_use]
    pub fn find(&self, key: &EntryKey) -> Option<u32> {
        if self.owners.is_empty() {
            return None;
        }
        self.index.find(self.hash(key), |slot| self.is_at(slot, key))
    }

    /// The right to change the entry in `slot`; `None`: it has ended, or another thread has the right.
    #[must_use]
    pub fn claim(&self, slot: u32) -> Option<Claim> {
        let word = self.entry_line(slot)?.word(STATE);
        let seen = word.load(Ordering::Relaxed);
        let is_idle = seen & (LIVE | BUSY) == LIVE;
        // Acquire: what the last holder wrote; pairs with the Release of `settle`.
        let claimed =
            || word.compare_exchange(seen, seen | BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok();
        (is_idle && claimed()).then_some(Claim { slot })
    }

    /// Gives a claim back; the entry now lives until `expires`.
    pub fn settle(&self, claim: Claim, expires: Tick) {
        if let Some(line) = self.entry_line(claim.slot) {
            // Release: pairs with the Acquire of `claim`.
            line.word(STATE).store(state(expires, LIVE), Ordering::Release);
        }
    }

    /// Gives a claim back; nothing has changed.
    pub fn unclaim(&self, claim: Claim) {
        if let Some(line) = self.entry_line(claim.slot) {
            line.word(STATE).fetch_and(!BUSY, Ordering::Release);
        }
    }

    /// Ends the claimed entry: nobody finds it any more. The caller gives its mapping back and retires
    /// the slot.
    pub fn end(&self, claim: &Claim) {
        let (Some(entry), Some(line)) = (self.entry(claim.slot), self.entry_line(claim.slot)) else { return };
        line.word(STATE).store(0, Ordering::Release);
        self.index.remove(self.hash(&entry.key), claim.slot);
        if let Some(owner) = self.owners.get(claim.slot as usize) {
            owner.store(0, Ordering::Relaxed);
        }
    }

    /// Gives the slot of an ended entry back, after the grace period.
    pub fn free(&self, slot: u32) {
        self.slots.free(slot);
    }

    /// The entry in `slot`, ended or not.
    #[must_use]
    pub fn entry(&self, slot: u32) -> Option<Entry> {
        let line = self.entry_line(slot)?;
        let load = |word: usize| line.word(word).load(Ordering::Relaxed);
        let (internal, mapping) = (load(INTERNAL), load(MAPPING));
        // The peer is external: its word has the tenant of the other one.
        let peer = Endpoint::from_u64(load(PEER));
        Some(Entry {
            key: EntryKey {
                protocol: internal as u8,
                internal: Endpoint::from_u64(internal >> 16).in_tenant(peer.tenant),
                peer: (internal & IS_PEER != 0).then_some(peer.in_tenant(TenantId::NONE)),
            },
            nonce: nonce_of([load(NONCE), mapping >> 32]),
            mapping: mapping as u32,
            expires: Tick((load(STATE) >> 32) as u32),
        })
    }

    /// Whether the entry in `slot` is live and its time is over.
    #[must_use]
    pub fn is_due(&self, slot: u32, now: Instant) -> bool {
        let state = self.entry_line(slot).map_or(0, |line| line.word(STATE).load(Ordering::Relaxed));
        state & LIVE != 0 && (state >> 32) as u32 <= Tick::of(now).0
    }

    /// The slots of a host's entries.
    pub fn owned_by(&self, host: Host) -> impl Iterator<Item = u32> {
        let used = self.owners.iter().zip(0..self.slots.high_water());
        used.filter(move |(owner, _)| owner.load(Ordering::Relaxed) == host.to_u64()).map(|(_, slot)| slot)
    }

    /// The filters of the entry in `slot`.
    pub fn filters(&self, slot: u32) -> impl Iterator<Item = Filter> {
        let words = self.filter_line(slot).map_or(&[][..], |line| &line.words[..]);
        words.iter().map(|word| word.load(Ordering::Relaxed)).filter(|word| *word != 0).map(filter_of)
    }

    /// Sets the filters of an entry that is claimed, or not published yet.
    pub fn write_filters(&self, slot: u32, mut filters: impl Iterator<Item = Filter>) {
        let Some(line) = self.filter_line(slot) else { return };
        // In this order a reader never finds a filtered mapping without any filter.
        for word in &line.words {
            word.store(filters.next().map_or(0, filter_word), Ordering::Relaxed);
        }
    }

    /// The MAP entry of an endpoint, if it holds this `mapping`.
    #[must_use]
    pub fn holder(&self, mapping: u32, protocol: u8, internal: Endpoint) -> Option<u32> {
        let slot = self.find(&EntryKey { protocol, internal, peer: None })?;
        self.entry(slot).is_some_and(|entry| entry.mapping == mapping).then_some(slot)
    }

    /// What a host's own request says about an inbound flow to a mapping of its endpoint: `None`: it asked
    /// for nothing; else whether `peer` may come.
    #[must_use]
    pub fn admits(&self, mapping: u32, protocol: u8, internal: Endpoint, peer: Endpoint) -> Option<bool> {
        let slot = self.holder(mapping, protocol, internal)?;
        let mut is_filtered = false;
        for filter in self.filters(slot) {
            if filter.admits(peer) {
                return Some(true);
            }
            is_filtered = true;
        }
        Some(!is_filtered)
    }

    /// Slots that were ever used.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.slots.high_water()
    }

    /// Slots in use, ended ones included.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    fn entry_line(&self, slot: u32) -> Option<&Line> {
        self.lines.line(slot.checked_mul(LINES_PER_ENTRY)?)
    }

    fn filter_line(&self, slot: u32) -> Option<&Line> {
        self.lines.line(slot.checked_mul(LINES_PER_ENTRY)?.checked_add(1)?)
    }

    fn hash(&self, key: &EntryKey) -> u64 {
        self.key.hash2(internal_word(key), peer_word(key))
    }

    fn is_at(&self, slot: u32, key: &EntryKey) -> bool {
        self.entry_line(slot).is_some_and(|line| {
            line.word(INTERNAL).load(Ordering::Relaxed) == internal_word(key)
                && line.word(PEER).load(Ordering::Relaxed) == peer_word(key)
                && line.word(STATE).load(Ordering::Relaxed) & LIVE != 0
        })
    }
}

const fn internal_word(key: &EntryKey) -> u64 {
    let kind = if key.peer.is_some() { IS_PEER } else { 0 };
    key.internal.to_u64() << 16 | kind | key.protocol as u64
}

/// The peer, and the tenant of the internal endpoint, for which that one's word has no room.
fn peer_word(key: &EntryKey) -> u64 {
    key.peer.unwrap_or(Endpoint::new(0, 0)).in_tenant(key.internal.tenant).to_u64()
}

const fn state(expires: Tick, flags: u64) -> u64 {
    (expires.0 as u64) << 32 | flags
}

/// The nonce as 64 and 32 bits.
fn nonce_words(Nonce(bytes): Nonce) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from(u32::from_be_bytes([i, j, k, l]))]
}

fn nonce_of([high, low]: [u64; 2]) -> Nonce {
    let [a, b, c, d, e, f, g, h] = high.to_be_bytes();
    let [.., i, j, k, l] = low.to_be_bytes();
    Nonce([a, b, c, d, e, f, g, h, i, j, k, l])
}

fn filter_word(filter: Filter) -> u64 {
    u64::from(filter.address) << 32
        | u64::from(filter.l4_port) << 16
        | u64::from(filter.prefix_length) << 8
        | IS_FILTER
}

const fn filter_of(word: u64) -> Filter {
    Filter { address: (word >> 32) as u32, l4_port: (word >> 16) as u16, prefix_length: (word >> 8) as u8 }
}

const NEVER: u64 = u64::MAX;
const LINES_PER_ENTRY: u32 = 2;
const INTERNAL: usize = 0;
const PEER: usize = 1;
const NONCE: usize = 2;
const MAPPING: usize = 3;
const STATE: usize = 4;
/// In the internal word: the entry is for one peer.
const IS_PEER: u64 = 1 << 8;
/// In the state word.
const LIVE: u64 = 1;
const BUSY: u64 = 2;
/// Tells a filter for everybody from none.
const IS_FILTER: u64 = 1;

const _: () = assert!(MAX_FILTERS == crate::table::record::LINE_WORDS, "a line holds all filters");
