//! Mappings: internal endpoint to external endpoint, independent of the remote end (RFC 4787 REQ-1).
//!
//! A mapping is found by either endpoint and counted: every session that uses it, every expectation
//! that reserves it and every port forward holds one reference. The last *firm* one ends it: from then
//! on nobody finds it. The last of all frees its slot and port, after a grace period.
//!
//! A session that a stranger opened (endpoint-independent filtering) holds its mapping loosely until the
//! internal host answers. Otherwise the world could keep a mapping for ever by sending from one new port
//! after the other, which RFC 4787 REQ-6 and RFC 7857 section 7 leave to the internal host.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::nat::key::Endpoint;
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted};
use crate::table::slots::SlotPool;

/// Who may use a mapping from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Anyone (RFC 4787 REQ-8, endpoint-independent filtering).
    EndpointIndependent,
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
}

/// A mapping's two ends.
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
}

/// The table of mappings, shared by all workers.
#[derive(Debug)]
pub struct Mappings {
    index: IndexTable,
    slots: SlotPool,
    records: Box<[Record]>,
    key: HashKey,
}

/// Endpoint (bits 16..64), filtering (bit 8), protocol (bits 0..8); see [`Endpoint::to_u64`].
#[derive(Debug, Default)]
struct Record {
    internal: AtomicU64,
    external: AtomicU64,
    /// All references (low half), firm ones (high half), or [`FRESH`].
    references: AtomicU64,
}

impl Record {
    fn is_alive(&self) -> bool {
        is_alive(self.references.load(Ordering::Relaxed))
    }

    /// Adds `count` while a firm reference is there.
    fn add(&self, count: u64) -> bool {
        let add = |held| is_alive(held).then_some(held + count);
        // Relaxed: the record was published by the index; the count only keeps it alive.
        self.references.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

impl Mappings {
    /// Room for `capacity` mappings.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey) -> Self {
        Self {
            index: IndexTable::with_capacity(capacity * 2),
            slots: SlotPool::new(u32::try_from(capacity).unwrap_or(u32::MAX)),
            records: (0..capacity).map(|_| Record::default()).collect(),
            key,
        }
    }

    /// The mapping of an internal endpoint, with a firm reference taken.
    #[must_use]
    pub fn acquire_internal(&self, protocol: u8, endpoint: Endpoint) -> Option<u32> {
        let value = self.index.find(endpoint.hash(protocol, &self.key), |value| {
            value & 1 == 0 && self.is_at(value, protocol, endpoint) && self.is_alive(value)
        })?;
        self.acquire(value >> 1, Hold::Firm).then_some(value >> 1)
    }

    /// The mapping of an external endpoint, with a reference taken.
    #[must_use]
    pub fn acquire_external(&self, protocol: u8, endpoint: Endpoint, hold: Hold) -> Option<u32> {
        let value = self.index.find(endpoint.hash(protocol, &self.key), |value| {
            value & 1 == 1 && self.is_at(value, protocol, endpoint) && self.is_alive(value)
        })?;
        self.acquire(value >> 1, hold).then_some(value >> 1)
    }

    /// The internal end of an external endpoint's mapping, for a look: no reference is taken.
    #[must_use]
    pub fn internal_of(&self, protocol: u8, external: Endpoint) -> Option<Endpoint> {
        let value = self.index.find(external.hash(protocol, &self.key), |value| {
            value & 1 == 1 && self.is_at(value, protocol, external)
        })?;
        self.mapping(value >> 1).map(|mapping| mapping.internal)
    }

    /// Makes a mapping with one firm reference, held by the caller. A forward whose internal endpoint is
    /// taken by another forward is found from outside only.
    ///
    /// # Errors
    /// [`CreateError`]: nothing was made, the external port is still the caller's. A slot that was
    /// already published goes to `retire`, to be freed after the grace period.
    pub fn create(&self, mapping: &Mapping, retire: impl FnOnce(u32)) -> Result<u32, CreateError> {
        let slot = self.slots.alloc().ok_or(CreateError::Full)?;
        let Some(record) = self.records.get(slot as usize) else { return Err(CreateError::Full) };
        record.internal.store(word_of(mapping.internal, mapping), Ordering::Relaxed);
        record.external.store(word_of(mapping.external, mapping), Ordering::Relaxed);
        // Nobody may use it before both keys are in: the second may be refused.
        record.references.store(FRESH, Ordering::Relaxed);
        match self.publish(slot << 1, mapping.protocol, mapping.internal) {
            Inserted::New => {}
            refused => {
                record.references.store(0, Ordering::Relaxed);
                self.slots.free(slot);
                return Err(match refused {
                    Inserted::Exists(other) => CreateError::Exists(other >> 1),
                    Inserted::New | Inserted::Full => CreateError::Full,
                });
            }
        }
        // The port is ours alone, so only a full table can refuse the second key.
        if self.publish((slot << 1) | 1, mapping.protocol, mapping.external) == Inserted::New {
            record.references.store(Hold::Firm.count(), Ordering::Relaxed);
            return Ok(slot);
        }
        record.references.store(0, Ordering::Relaxed);
        self.index.remove(mapping.internal.hash(mapping.protocol, &self.key), slot << 1);
        retire(slot);
        Err(CreateError::Full)
    }

    /// Makes a mapping that is found from outside only: a second forward to the same internal
    /// endpoint. Called at start, before any packet.
    pub fn create_external_only(&self, mapping: &Mapping) {
        let Some(slot) = self.slots.alloc() else { return };
        if let Some(record) = self.records.get(slot as usize) {
            record.internal.store(word_of(mapping.internal, mapping), Ordering::Relaxed);
            record.external.store(word_of(mapping.external, mapping), Ordering::Relaxed);
            record.references.store(Hold::Firm.count(), Ordering::Relaxed);
            self.publish((slot << 1) | 1, mapping.protocol, mapping.external);
        }
    }

    /// Takes a reference; `false` when the mapping is ending.
    #[must_use]
    pub fn acquire(&self, index: u32, hold: Hold) -> bool {
        self.records.get(index as usize).is_some_and(|record| record.add(hold.count()))
    }

    /// Gives a reference back; the last firm one takes the mapping out of the table. `true` when it was
    /// the last of all: the caller retires the mapping.
    #[must_use]
    pub fn release(&self, index: u32, hold: Hold) -> bool {
        let Some(record) = self.records.get(index as usize) else { return false };
        // AcqRel: what other holders did with the mapping happens before its end.
        let held = record.references.fetch_sub(hold.count(), Ordering::AcqRel);
        if hold == Hold::Firm
            && held / FIRM == 1
            && let Some(mapping) = self.mapping(index)
        {
            // Another thread may retire the slot meanwhile; it is not free before our burst is over.
            self.index.remove(mapping.internal.hash(mapping.protocol, &self.key), index << 1);
            self.index.remove(mapping.external.hash(mapping.protocol, &self.key), (index << 1) | 1);
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
        let internal = record.internal.load(Ordering::Relaxed);
        Some(Mapping {
            protocol: internal as u8,
            internal: Endpoint::from_u64(internal >> 16),
            external: Endpoint::from_u64(record.external.load(Ordering::Relaxed) >> 16),
            filtering: if internal & EXPECTED == 0 {
                Filtering::EndpointIndependent
            } else {
                Filtering::Expected
            },
        })
    }

    /// References held on slot `index`; zero when it is free.
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

    fn is_at(&self, value: u32, protocol: u8, endpoint: Endpoint) -> bool {
        self.records.get((value >> 1) as usize).is_some_and(|record| {
            let word = if value & 1 == 0 { &record.internal } else { &record.external };
            let held = word.load(Ordering::Relaxed);
            held >> 16 == endpoint.to_u64() && held as u8 == protocol
        })
    }

    fn is_alive(&self, value: u32) -> bool {
        self.records.get((value >> 1) as usize).is_some_and(Record::is_alive)
    }

    fn is_fresh(&self, value: u32) -> bool {
        let record = self.records.get((value >> 1) as usize);
        record.is_some_and(|record| record.references.load(Ordering::Relaxed) == FRESH)
    }

    fn publish(&self, value: u32, protocol: u8, endpoint: Endpoint) -> Inserted {
        self.index.insert(endpoint.hash(protocol, &self.key), value, |other| {
            other & 1 == value & 1
                && self.is_at(other, protocol, endpoint)
                && (self.is_fresh(other) || self.is_alive(other))
        })
    }
}

const fn word_of(endpoint: Endpoint, mapping: &Mapping) -> u64 {
    let filtering = match mapping.filtering {
        Filtering::EndpointIndependent => 0,
        Filtering::Expected => EXPECTED,
    };
    (endpoint.to_u64() << 16) | filtering | mapping.protocol as u64
}

/// Whether a firm reference is held.
const fn is_alive(references: u64) -> bool {
    references & !FRESH >= FIRM
}

const EXPECTED: u64 = 1 << 8;
/// One firm reference.
const FIRM: u64 = 1 << 32;
/// In place of references: being made.
const FRESH: u64 = 1 << 63;
