//! Mappings: internal endpoint to external endpoint, within a [`Scope`].
//!
//! An endpoint-independent mapping (RFC 4787 REQ-1) serves all remote endpoints and is found by either of
//! its own. One that depends on the remote endpoint serves that alone: its external endpoint belongs
//! to it only together with the remote one, and may serve others elsewhere.
//!
//! A mapping is found by either endpoint and counted: every session that uses it, every expectation
//! that reserves it and every port forward holds one reference. The last *firm* one ends it: from then
//! on nobody finds it. The last of all frees its slot and port, after a grace period.
//!
//! A session that a stranger opened (endpoint-independent filtering) holds its mapping loosely until the
//! internal host answers. Otherwise the world could keep a mapping for ever by sending from one new port
//! after the other, which RFC 4787 REQ-6 and RFC 7857 section 7 leave to the internal host.

use crate::ids::TenantId;
use crate::nat::key::Endpoint;
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted, Load};
use crate::table::slots::SlotPool;
use crate::table::sync::{AtomicU64, Ordering, Writers};

/// Who may use a mapping from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Anyone (RFC 4787 REQ-8, endpoint-independent filtering).
    EndpointIndependent,
    /// Addresses that the internal endpoint has a session with.
    AddressDependent,
    /// Endpoints that the internal endpoint has a session with: those are found as sessions.
    AddressAndPortDependent,
    /// Only sessions that exist and expectations: the mapping was reserved for an expected flow.
    Expected,
}

/// How a reference holds its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Keeps it alive.
    Firm,
    /// Keeps its slot and port from being given to another, no more.
    Loose,
}

impl Hold {
    const fn count(self) -> u64 {
        match self {
            Self::Firm => FIRM | 1,
            Self::Loose => 1,
        }
    }
}

/// Why no mapping was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// The table is full.
    Full,
    /// The internal endpoint already has this one, made by another worker a moment ago.
    Exists(u32),
    /// The external endpoint serves the same remote one already, for another internal endpoint.
    Shared,
}

/// Which flows of an internal endpoint a mapping serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that rules of this pool and filtering translate.
    Pool {
        /// The pool.
        pool: u16,
        /// Their filtering; what is reserved counts as endpoint-independent, or as expected where it stands beside such.
        filtering: Filtering,
    },
    /// Those to this remote endpoint.
    Remote(Endpoint),
}

/// A mapping's two ends. The internal one is its tenant's, the external one everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// IP protocol.
    pub protocol: u8,
    /// The host's own endpoint.
    pub internal: Endpoint,
    /// What the world sees.
    pub external: Endpoint,
    /// Who may use it from outside.
    pub filtering: Filtering,
    /// Which flows it serves.
    pub scope: Scope,
    /// Slot of the subscriber whose port it is; `None`: a port forward's.
    pub subscriber: Option<u32>,
}

/// Memory that a mapping takes in each table, bytes, by part.
pub const PARTS: [(&str, usize); 3] =
    [("record", size_of::<Record>()), ("two keys", KEYS_BYTES), ("slot, its subscriber's", 4)];

/// Memory that one mapping takes in all tables, bytes.
pub const RECORD_BYTES: u64 = (KEYS_BYTES + size_of::<Record>() + 4) as u64;

const KEYS_BYTES: usize = Load::MISSES.bytes(2);

/// The table of mappings, shared by all workers.
#[derive(Debug)]
pub struct Mappings {
    index: IndexTable,
    /// Their words: slot of the subscriber + 1, or 0.
    slots: SlotPool,
    records: Box<[Record]>,
    key: HashKey,
    writers: Writers,
}

/// Half a cache line.
#[derive(Debug, Default)]
#[repr(C, align(32))]
struct Record {
    /// As [`Endpoint::to_u64`] has it.
    internal: AtomicU64,
    /// The same, of no tenant, with the protocol (bits 48..56) and the filtering (56..58) in its place.
    external: AtomicU64,
    scope: AtomicU64,
    /// All references (low half), firm ones (high half), or [`FRESH`].
    references: AtomicU64,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Record>() == 32);

impl Record {
    #[inline]
    fn fill(&self, mapping: &Mapping, references: u64) {
        self.internal.store(mapping.internal.to_u64(), Ordering::Relaxed);
        let external = mapping.external.in_tenant(TenantId::NONE).to_u64();
        let kind = (mapping.filtering.bits() << 8) | u64::from(mapping.protocol);
        self.external.store((kind << KIND_SHIFT) | external, Ordering::Relaxed);
        self.scope.store(mapping.scope.word(), Ordering::Relaxed);
        self.references.store(references, Ordering::Relaxed);
    }

    fn internal(&self) -> Endpoint {
        Endpoint::from_u64(self.internal.load(Ordering::Relaxed))
    }

    /// The external endpoint, the protocol and the filtering.
    fn external(&self) -> (Endpoint, u8, Filtering) {
        let word = self.external.load(Ordering::Relaxed);
        let kind = word >> KIND_SHIFT;
        (Endpoint::from_u64(word & ((1 << KIND_SHIFT) - 1)), kind as u8, Filtering::of_bits(kind >> 8))
    }

    fn is_alive(&self) -> bool {
        is_alive(self.references.load(Ordering::Relaxed))
    }

    /// Adds `count` while a firm reference is there.
    fn add(&self, count: u64, writers: Writers) -> bool {
        let add = |held| is_alive(held).then_some(held + count);
        // Relaxed: the record was published by the index; the count only keeps it alive.
        writers.update(&self.references, Ordering::Relaxed, add)
    }
}

impl Mappings {
    /// Room for `capacity` mappings.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey, writers: Writers) -> Self {
        Self {
            index: IndexTable::with_load(capacity * 2, Load::MISSES, writers),
            slots: SlotPool::new(u32::try_from(capacity).unwrap_or(u32::MAX), writers),
            records: (0..capacity).map(|_| Record::default()).collect(),
            key,
            writers,
        }
    }

    /// What the mapping of an internal endpoint for a scope is looked for by.
    #[inline]
    #[must_use]
    pub fn inside(&self, protocol: u8, endpoint: Endpoint, scope: Scope) -> End {
        self.end(Key::internal(protocol, endpoint, scope))
    }

    /// What a mapping of this scope at an external endpoint will be found by, the first of its buckets being fetched:
    /// [`Mappings::create_absent`] mostly needs no other.
    #[inline]
    #[must_use]
    pub fn outside(&self, protocol: u8, endpoint: Endpoint, scope: Scope) -> End {
        let end = self.end(Key::external_of(protocol, endpoint, scope));
        self.index.prefetch(end.hash);
        end
    }

    /// The mapping of an internal endpoint for a scope, with a firm reference taken.
    #[inline]
    #[must_use]
    pub fn acquire_internal(&self, protocol: u8, endpoint: Endpoint, scope: Scope) -> Option<u32> {
        self.acquire_inside(&self.inside(protocol, endpoint, scope))
    }

    /// The mapping at an internal `end`, with a firm reference taken.
    #[inline]
    #[must_use]
    pub fn acquire_inside(&self, end: &End) -> Option<u32> {
        let index = self.find(end)?;
        self.acquire(index, Hold::Firm).then_some(index)
    }

    /// The mapping of an external endpoint that serves all remote ones, with a reference taken.
    #[must_use]
    pub fn acquire_external(&self, protocol: u8, endpoint: Endpoint, hold: Hold) -> Option<u32> {
        let index = self.find(&self.end(Key::external(protocol, endpoint, None)))?;
        self.acquire(index, hold).then_some(index)
    }

    /// Starts to fetch what [`Mappings::acquire_internal`] and [`Mappings::create`] look at for an internal endpoint.
    pub fn prefetch_internal(&self, protocol: u8, endpoint: Endpoint, scope: Scope) {
        self.index.prefetch_pair(self.inside(protocol, endpoint, scope).hash);
    }

    /// The internal end of an external endpoint's mapping, for a look: no reference is taken.
    #[must_use]
    pub fn internal_of(&self, protocol: u8, external: Endpoint) -> Option<Endpoint> {
        let index = self.find(&self.end(Key::external(protocol, external, None)))?;
        self.mapping(index).map(|mapping| mapping.internal)
    }

    /// Makes a mapping with one firm reference, held by the caller. A forward whose internal endpoint is
    /// taken by another forward is found from outside only.
    ///
    /// # Errors
    /// [`CreateError`]: nothing was made, the external port is still the caller's. A slot that was
    /// already published goes to `retire`, to be freed after the grace period.
    pub fn create(&self, mapping: &Mapping, retire: impl FnOnce(u32)) -> Result<u32, CreateError> {
        let ends = keys_of(mapping).map(|key| self.end(key));
        self.make(mapping, ends, false, retire)
    }

    /// As [`Mappings::create`], by who has just looked at the internal one of its `ends` in vain, and who has the port of a
    /// mapping for all remote endpoints to himself.
    ///
    /// # Errors
    /// As [`Mappings::create`].
    #[inline]
    pub fn create_absent(
        &self,
        mapping: &Mapping,
        ends: [End; 2],
        retire: impl FnOnce(u32),
    ) -> Result<u32, CreateError> {
        self.make(mapping, ends, true, retire)
    }

    #[inline]
    fn make(
        &self,
        mapping: &Mapping,
        ends: [End; 2],
        is_absent: bool,
        retire: impl FnOnce(u32),
    ) -> Result<u32, CreateError> {
        let slot = self.slots.alloc().ok_or(CreateError::Full)?;
        let Some(record) = self.records.get(slot as usize) else { return Err(CreateError::Full) };
        // Nobody may use it before both keys are in: the second may be refused.
        self.fill(slot, record, mapping, FRESH);
        let [first, second] = in_order(mapping.scope, ends);
        // The endpoint outside of one for a single remote endpoint may be another's, too.
        let is_alone = is_absent && matches!(mapping.scope, Scope::Pool { .. });
        let (as_first, as_second) = match (is_absent, is_alone) {
            (_, true) => (Known::Absent, Known::Own),
            (true, false) => (Known::Nothing, Known::Absent),
            (false, false) => (Known::Nothing, Known::Nothing),
        };
        match self.publish(slot, &first, as_first) {
            Inserted::New => {}
            refused => {
                self.discard(record, slot);
                return Err(refusal(first.key, refused));
            }
        }
        let refused = match self.publish(slot, &second, as_second) {
            Inserted::New => {
                record.references.store(Hold::Firm.count(), Ordering::Relaxed);
                return Ok(slot);
            }
            refused => refusal(second.key, refused),
        };
        record.references.store(0, Ordering::Relaxed);
        self.index.remove(first.hash, value_of(slot, &first.key));
        retire(slot);
        Err(refused)
    }

    /// Gives a slot back that nobody has found.
    #[cold]
    fn discard(&self, record: &Record, slot: u32) {
        record.references.store(0, Ordering::Relaxed);
        self.slots.free(slot);
    }

    /// Makes a mapping that is found from outside only: a second forward to the same internal
    /// endpoint. Called at start, before any packet.
    pub fn create_external_only(&self, mapping: &Mapping) {
        let Some(slot) = self.slots.alloc() else { return };
        if let Some(record) = self.records.get(slot as usize) {
            self.fill(slot, record, mapping, Hold::Firm.count());
            let end = self.end(Key::external(mapping.protocol, mapping.external, None));
            self.publish(slot, &end, Known::Nothing);
        }
    }

    /// Takes a reference; `false` when the mapping is ending.
    #[must_use]
    pub fn acquire(&self, index: u32, hold: Hold) -> bool {
        self.records.get(index as usize).is_some_and(|record| record.add(hold.count(), self.writers))
    }

    /// Gives a reference back; the last firm one takes the mapping out of the table. `true` when it was
    /// the last of all: the caller retires the mapping.
    #[must_use]
    pub fn release(&self, index: u32, hold: Hold) -> bool {
        let Some(record) = self.records.get(index as usize) else { return false };
        // AcqRel: what other holders did with the mapping happens before its end.
        let held = self.writers.subtract(&record.references, hold.count(), Ordering::AcqRel);
        if hold == Hold::Firm
            && held / FIRM == 1
            && let Some(mapping) = self.mapping(index)
        {
            // Another thread may retire the slot meanwhile; it is not free before our burst is over.
            for key in in_order(mapping.scope, keys_of(&mapping)) {
                self.index.remove(key.hash(&self.key), value_of(index, &key));
            }
        }
        held % FIRM == 1
    }

    /// Gives the slot of an ended mapping back, after the grace period.
    pub fn free(&self, index: u32) {
        self.slots.free(index);
    }

    /// The ends of the mapping in slot `index`, live or not.
    #[must_use]
    pub fn mapping(&self, index: u32) -> Option<Mapping> {
        let record = self.records.get(index as usize)?;
        let (external, protocol, filtering) = record.external();
        let subscriber = self.slots.word(index)?.load(Ordering::Relaxed);
        Some(Mapping {
            protocol,
            internal: record.internal(),
            external,
            filtering,
            scope: Scope::of_word(record.scope.load(Ordering::Relaxed)),
            subscriber: subscriber.checked_sub(1),
        })
    }

    /// The external endpoint of the mapping in slot `index`, live or not.
    #[must_use]
    pub fn external_of(&self, index: u32) -> Option<Endpoint> {
        self.records.get(index as usize).map(|record| record.external().0)
    }

    /// Who may use the mapping in slot `index`, live or not, from outside.
    #[inline]
    #[must_use]
    pub fn filtering_of(&self, index: u32) -> Option<Filtering> {
        self.records.get(index as usize).map(|record| record.external().2)
    }

    /// References held on slot `index`; zero when it is free.
    #[inline]
    #[must_use]
    pub fn references(&self, index: u32) -> u64 {
        self.records.get(index as usize).map_or(0, |record| record.references.load(Ordering::Relaxed) % FIRM)
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

    #[inline]
    fn end(&self, key: Key) -> End {
        End { key, hash: key.hash(&self.key) }
    }

    #[inline]
    fn find(&self, end: &End) -> Option<u32> {
        let is_match = |value| {
            self.is_at(value, &end.key)
                && self.records.get((value >> 1) as usize).is_some_and(Record::is_alive)
        };
        self.index.find(end.hash, is_match).map(|value| value >> 1)
    }

    fn is_at(&self, value: u32, key: &Key) -> bool {
        let Some(record) = self.records.get((value >> 1) as usize) else { return false };
        let (external, protocol, _) = record.external();
        if key.is_external != (value & 1 == 1) || key.protocol != protocol {
            return false;
        }
        let scope = record.scope.load(Ordering::Relaxed);
        let (endpoint, scope) =
            if key.is_external { (external, external_scope(scope)) } else { (record.internal(), scope) };
        (endpoint, scope) == (key.endpoint, key.scope)
    }

    fn is_fresh_or_alive(&self, value: u32) -> bool {
        let record = self.records.get((value >> 1) as usize);
        record.is_some_and(|record| {
            let references = record.references.load(Ordering::Relaxed);
            references == FRESH || is_alive(references)
        })
    }

    /// Fills what belongs to `slot`, before anybody can find it.
    #[inline]
    fn fill(&self, slot: u32, record: &Record, mapping: &Mapping, references: u64) {
        record.fill(mapping, references);
        if let Some(subscriber) = self.slots.word(slot) {
            subscriber.store(mapping.subscriber.map_or(0, |slot| slot + 1), Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn publish(&self, slot: u32, end: &End, known: Known) -> Inserted {
        let value = value_of(slot, &end.key);
        let same_key = |other| self.is_at(other, &end.key) && self.is_fresh_or_alive(other);
        match known {
            Known::Nothing => self.index.insert(end.hash, value, same_key),
            Known::Absent => self.index.insert_absent(end.hash, value, same_key),
            Known::Own => self.index.insert_late(end.hash, value, same_key),
        }
    }

    /// Makes what was made late findable: see [`IndexTable::catch_up`].
    #[inline(always)]
    pub fn catch_up(&self) -> bool {
        self.index.catch_up()
    }
}

/// What the maker of a mapping knows of the key of an end.
#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    /// It was not there a moment ago.
    Absent,
    /// It is there for nobody, and nobody looks for it yet.
    Own,
}

/// One end of a mapping as it is looked for.
#[derive(Debug, Clone, Copy)]
pub struct End {
    key: Key,
    hash: u64,
}

/// What a mapping is found by, from one side.
#[derive(Debug, Clone, Copy)]
struct Key {
    is_external: bool,
    protocol: u8,
    endpoint: Endpoint,
    scope: u64,
}

impl Key {
    const fn internal(protocol: u8, endpoint: Endpoint, scope: Scope) -> Self {
        Self { is_external: false, protocol, endpoint, scope: scope.word() }
    }

    /// `remote`: of a mapping that serves that one alone.
    const fn external(protocol: u8, endpoint: Endpoint, remote: Option<Endpoint>) -> Self {
        let scope = match remote {
            Some(remote) => Scope::Remote(remote).word(),
            None => 0,
        };
        Self { is_external: true, protocol, endpoint, scope }
    }

    /// Of a mapping with this scope.
    const fn external_of(protocol: u8, endpoint: Endpoint, scope: Scope) -> Self {
        match scope {
            Scope::Pool { .. } => Self::external(protocol, endpoint, None),
            Scope::Remote(remote) => Self::external(protocol, endpoint, Some(remote)),
        }
    }

    #[inline]
    fn hash(&self, key: &HashKey) -> u64 {
        key.hash2(
            self.endpoint.to_u64(),
            (self.scope << 9) | (u64::from(self.is_external) << 8) | u64::from(self.protocol),
        )
    }
}

impl Scope {
    /// A remote endpoint (bits 0..48, it is no tenant's) under [`REMOTE`], or pool (0..16) and filtering (16..18).
    const fn word(self) -> u64 {
        match self {
            Self::Pool { pool, filtering } => pool as u64 | (filtering.bits() << 16),
            Self::Remote(endpoint) => REMOTE | endpoint.in_tenant(TenantId::NONE).to_u64(),
        }
    }

    const fn of_word(word: u64) -> Self {
        if word & REMOTE != 0 {
            return Self::Remote(Endpoint::from_u64(word & (REMOTE - 1)));
        }
        Self::Pool { pool: word as u16, filtering: Filtering::of_bits(word >> 16) }
    }
}

impl Filtering {
    const fn bits(self) -> u64 {
        match self {
            Self::EndpointIndependent => 0,
            Self::AddressDependent => 1,
            Self::AddressAndPortDependent => 2,
            Self::Expected => 3,
        }
    }

    const fn of_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::EndpointIndependent,
            1 => Self::AddressDependent,
            2 => Self::AddressAndPortDependent,
            _ => Self::Expected,
        }
    }
}

/// Index values and keys in the order in which they are published: the one first that may be refused
/// because it is taken. The external endpoint of a mapping for all remotes is its maker's alone. That
/// of a mapping for one remote may be taken, and nobody looks for such a mapping from outside.
#[inline]
fn in_order<T>(scope: Scope, [inside, outside]: [T; 2]) -> [T; 2] {
    match scope {
        Scope::Pool { .. } => [inside, outside],
        Scope::Remote(_) => [outside, inside],
    }
}

/// Both keys of a mapping.
#[inline]
const fn keys_of(mapping: &Mapping) -> [Key; 2] {
    [
        Key::internal(mapping.protocol, mapping.internal, mapping.scope),
        Key::external_of(mapping.protocol, mapping.external, mapping.scope),
    ]
}

/// What the index has under a key of the mapping in `slot`.
#[inline]
fn value_of(slot: u32, key: &Key) -> u32 {
    (slot << 1) | u32::from(key.is_external)
}

fn refusal(key: Key, refused: Inserted) -> CreateError {
    match refused {
        Inserted::Exists(_) if key.is_external => CreateError::Shared,
        Inserted::Exists(other) => CreateError::Exists(other >> 1),
        Inserted::New | Inserted::Full => CreateError::Full,
    }
}

/// Whether a firm reference is held.
const fn is_alive(references: u64) -> bool {
    references & !FRESH >= FIRM
}

/// What tells external endpoints apart: a mapping for all remotes has its own.
const fn external_scope(scope: u64) -> u64 {
    if scope & REMOTE != 0 { scope } else { 0 }
}

const REMOTE: u64 = 1 << 48;
const KIND_SHIFT: u32 = 48;
/// One firm reference.
const FIRM: u64 = 1 << 32;
/// In place of references: being made.
const FRESH: u64 = 1 << 63;
