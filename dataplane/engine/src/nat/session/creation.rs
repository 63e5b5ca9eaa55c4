//! What a session to be made is described by, and why none was made.

use std::num::NonZeroU64;

use algate_alg::ProtocolId;

use super::Facing;
use crate::drop_reason::DropReason;
use crate::ids::WorkerId;
use crate::nat::key::FlowKey;
use crate::nat::mapping::Hold;
use crate::router::egress::NextHop;
use crate::table::slots::Handle;

/// Who reads a control session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlgOwner {
    /// The thread.
    pub thread: WorkerId,
    /// The protocol.
    pub protocol: ProtocolId,
}

/// A session to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// An outbound packet as it arrives.
    pub internal_key: FlowKey,
    /// An inbound packet as it arrives.
    pub external_key: FlowKey,
    /// The hashes of both keys, as far as they are known; zero is found out anew.
    pub hashes: [Option<NonZeroU64>; 2],
    /// The side of the first packet.
    pub initiator: Facing,
    /// Towards the internal side.
    pub internal_hop: NextHop,
    /// Towards the external side.
    pub external_hop: NextHop,
    /// The mapping it uses, if its addresses are translated.
    pub mapping: Option<u32>,
    /// How it holds that mapping.
    pub hold: Hold,
    /// Whether nothing else uses that mapping, so that no other session can have the external key.
    pub is_alone: bool,
    /// The mapping of the other end, when that is translated too (hairpin).
    pub remote_mapping: Option<u32>,
    /// The control session that expected it.
    pub parent: Option<Handle>,
    /// Who owns its ALG flow, when an ALG reads it.
    pub alg_owner: Option<AlgOwner>,
    /// Slot of the subscriber that it is counted for.
    pub subscriber: u32,
}

impl NewSession {
    /// Between two flows, each with its hop, and counted for the subscriber in slot `subscriber`: begun from
    /// inside, without mapping, parent and ALG.
    #[must_use]
    pub const fn between(
        (internal_key, internal_hop): (FlowKey, NextHop),
        (external_key, external_hop): (FlowKey, NextHop),
        subscriber: u32,
    ) -> Self {
        Self {
            internal_key,
            external_key,
            hashes: [None; 2],
            initiator: Facing::Internal,
            internal_hop,
            external_hop,
            mapping: None,
            hold: Hold::Firm,
            is_alone: false,
            remote_mapping: None,
            parent: None,
            alg_owner: None,
            subscriber,
        }
    }

    pub(super) const fn key(&self, facing: Facing) -> FlowKey {
        match facing {
            Facing::Internal => self.internal_key,
            Facing::External => self.external_key,
        }
    }
}

/// Why no session was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateError {
    /// Every slot is taken.
    Full,
    /// Every slot that a TCP or SCTP session may have is taken.
    TcpFull,
    /// Every slot that a session of an ALG, or with two mappings, may have is taken.
    RelatedFull,
    /// As many TCP and SCTP sessions are half-open as may be.
    HalfOpenFull,
    /// Its mapping has as many sessions as may be.
    MappingFull,
    /// One of its flows has a session already, in this slot: made by another worker a moment ago, or another
    /// session whose translation collides.
    Exists(u32),
}

impl CreateError {
    /// What the packet dies of; `None`: there is a session of its flow.
    #[must_use]
    pub const fn reason(self) -> Option<DropReason> {
        match self {
            Self::Full => Some(DropReason::SessionTableFull),
            Self::TcpFull => Some(DropReason::TcpTableFull),
            Self::RelatedFull => Some(DropReason::RelatedTableFull),
            Self::HalfOpenFull => Some(DropReason::HalfOpenFull),
            Self::MappingFull => Some(DropReason::QuotaMappingMemory),
            Self::Exists(_) => None,
        }
    }
}
