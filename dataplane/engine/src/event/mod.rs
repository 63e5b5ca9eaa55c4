//! Event records: who had which external address and ports, and what ran out.
//!
//! A worker writes a record when something has really happened, once, into a ring of its own ([`ring`]); the
//! main thread takes them out and knows what to do with them. A worker never waits: what finds its ring full
//! is counted and lost. What is recorded at all is the operator's choice ([`Selection`]); destinations are
//! not unless asked for (RFC 6888 REQ-12).
//!
//! Kinds carry the numbers of the IANA registry "natEvent" (IPFIX information element 230), so that every
//! exporter means the same. The registry knows no end of a shortage: those records have none.

pub mod ring;

use algate_config::{Config, MappingEvents};

use crate::drop_reason::DropReason;
use crate::nat::key::Endpoint;
use crate::time::Instant;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session was made.
    SessionCreated,
    /// It ended.
    SessionDeleted,
    /// A mapping was made.
    MappingCreated,
    /// Its last user is gone.
    MappingDeleted,
    /// A host was paired with an external address.
    AddressBound,
    /// The host has no state any more.
    AddressUnbound,
    /// A host got a block of ports.
    BlockAssigned,
    /// It is nobody's again.
    BlockReleased,
    /// No address of a pool has a port left.
    AddressesExhausted,
    /// One has.
    AddressesAvailable,
    /// An external address has no port left.
    PortsExhausted,
    /// It has a sixteenth of them again.
    PortsAvailable,
    /// A table, or a host's quota, is full.
    QuotaExceeded,
    /// It has room again: a sixteenth of the table, an eighth of what the host held.
    QuotaAvailable,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::SessionCreated,
        Self::SessionDeleted,
        Self::MappingCreated,
        Self::MappingDeleted,
        Self::AddressBound,
        Self::AddressUnbound,
        Self::BlockAssigned,
        Self::BlockReleased,
        Self::AddressesExhausted,
        Self::AddressesAvailable,
        Self::PortsExhausted,
        Self::PortsAvailable,
        Self::QuotaExceeded,
        Self::QuotaAvailable,
    ];

    /// Its natEvent number.
    #[must_use]
    pub const fn nat_event(self) -> Option<u8> {
        match self {
            Self::AddressesExhausted => Some(3),
            Self::SessionCreated => Some(4),
            Self::SessionDeleted => Some(5),
            Self::MappingCreated => Some(8),
            Self::MappingDeleted => Some(9),
            Self::PortsExhausted => Some(12),
            Self::QuotaExceeded => Some(13),
            Self::AddressBound => Some(14),
            Self::AddressUnbound => Some(15),
            Self::BlockAssigned => Some(16),
            Self::BlockReleased => Some(17),
            Self::AddressesAvailable | Self::PortsAvailable | Self::QuotaAvailable => None,
        }
    }

    /// The name in logs and tables.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SessionCreated => "session_created",
            Self::SessionDeleted => "session_deleted",
            Self::MappingCreated => "mapping_created",
            Self::MappingDeleted => "mapping_deleted",
            Self::AddressBound => "address_bound",
            Self::AddressUnbound => "address_unbound",
            Self::BlockAssigned => "block_assigned",
            Self::BlockReleased => "block_released",
            Self::AddressesExhausted => "addresses_exhausted",
            Self::AddressesAvailable => "addresses_available",
            Self::PortsExhausted => "ports_exhausted",
            Self::PortsAvailable => "ports_available",
            Self::QuotaExceeded => "quota_exceeded",
            Self::QuotaAvailable => "quota_available",
        }
    }
}

/// One record. What a kind does not have is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When: the burst in which it happened.
    pub at: Instant,
    /// What.
    pub kind: Kind,
    /// IP protocol; 0: all.
    pub protocol: u8,
    /// The host's own endpoint; port 0: the host as a whole. With its tenant it names the
    /// subscriber.
    pub internal: Endpoint,
    /// What the world sees of it, the first port of a block; of a pool, its first address.
    pub external: Endpoint,
    /// The last port of a block.
    pub last_l4_port: u16,
    /// The other end, where destinations are recorded.
    pub remote: Option<Endpoint>,
    /// Which table or quota is full: packets die of this.
    pub cause: Option<DropReason>,
}

impl Record {
    /// A record of `kind` with nothing in it. Its time is set when it is recorded.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            at: Instant::from_nanos(0),
            kind,
            protocol: 0,
            internal: NOBODY,
            external: NOBODY,
            last_l4_port: 0,
            remote: None,
            cause: None,
        }
    }
}

/// What the operator wants recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Sessions.
    pub sessions: bool,
    /// Mappings.
    pub mappings: MappingEvents,
    /// Port blocks.
    pub blocks: bool,
    /// Bindings of addresses.
    pub addresses: bool,
    /// Shortages.
    pub exhaustion: bool,
    /// Remote ends.
    pub destinations: bool,
}

impl Selection {
    /// As configured.
    #[must_use]
    pub const fn new(config: &Config) -> Self {
        let events = &config.events;
        Self {
            sessions: events.sessions,
            mappings: events.mappings,
            blocks: events.blocks,
            addresses: events.addresses,
            exhaustion: events.exhaustion,
            destinations: events.destinations,
        }
    }
}

const NOBODY: Endpoint = Endpoint::new(0, 0);

const _: () = assert!(size_of::<Record>() <= 56, "a place in the ring is one cache line");
