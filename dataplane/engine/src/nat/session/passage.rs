//! A session as an ordinary packet needs it: found, checked and read in one cache line.
//!
//! What [`Session`](super::Session) tells about one of both directions by a choice, this one computes from the
//! direction's bit: half of the packets go either way, so a branch would be mispredicted as often.

use super::Facing;
use super::record::{DELTAS, EXTERNAL_ADDRESSES, HOPS, INFO, INTERNAL_ADDRESSES, STATE};
use crate::ids::InterfaceId;
use crate::nat::key::FlowKey;
use crate::nat::state_word::{ALG_FLAG, LIFECYCLE_MASK, LIVE, LOOSE_FLAG, SHIFT_FLAG, StateWord};
use crate::packet::checksum::Delta;
use crate::packet::plain::Becomes;
use crate::router::neighbor::NeighborRef;
use crate::table::record::Line;
use crate::table::sync::{AtomicU64, Ordering};

/// An ordinary session, and the side its packet came from.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    line: &'a Line,
    index: u32,
    state: StateWord,
    /// 0: its packet came from the internal side; 1: from the external one.
    from: u32,
}

impl<'a> Passage<'a> {
    /// The session of `line`, slot `index`, if it is an ordinary one and `key` is its key of `facing`.
    #[inline(always)]
    pub(super) fn find(line: &'a Line, index: u32, facing: Facing, key: FlowKey) -> Option<Self> {
        let from = u32::from(facing == Facing::External);
        let passage = Self { line, index, from, state: StateWord(line.word(STATE).load(Ordering::Relaxed)) };
        let (addresses, ports) = passage.key(from);
        // One branch for all that has to be right.
        let wrong = (addresses ^ key.addresses)
            | (ports ^ key.ports)
            | ((passage.state.0 & ORDINARY_MASK) ^ (LIVE << LIFECYCLE_MASK.trailing_zeros()));
        (wrong == 0).then_some(passage)
    }

    /// Its slot.
    #[inline(always)]
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The side its packet came from.
    #[inline(always)]
    #[must_use]
    pub const fn facing(&self) -> Facing {
        if self.from == 0 { Facing::Internal } else { Facing::External }
    }

    /// Its state as it was found, and the word of it.
    #[inline(always)]
    pub(super) fn state(&self) -> (StateWord, &'a AtomicU64) {
        (self.state, self.line.word(STATE))
    }

    /// What the packet becomes.
    #[inline(always)]
    #[must_use]
    pub fn becomes(&self) -> Becomes {
        let (addresses, ports) = self.key(self.from ^ 1);
        let deltas = self.half(DELTAS);
        Becomes {
            addresses: addresses.rotate_left(32),
            l4_ports: ((ports >> 32) as u32).rotate_left(16),
            ip_delta: Delta::from_bits((deltas >> 16) as u16),
            l4_delta: Delta::from_bits(deltas as u16),
            identification: None,
        }
    }

    /// The interface on which the packet should have come, that on which it leaves, and the neighbour there.
    #[inline(always)]
    #[must_use]
    pub fn way(&self) -> (InterfaceId, InterfaceId, NeighborRef) {
        let interfaces = (self.load(INFO) as u32).rotate_right(self.from * 16);
        let neighbor = NeighborRef::from_bits(self.half(HOPS));
        (InterfaceId(interfaces as u16), InterfaceId((interfaces >> 16) as u16), neighbor)
    }

    /// The half of a word that is about packets from this side: the upper one for the internal side.
    #[inline(always)]
    fn half(&self, word: usize) -> u32 {
        (self.load(word) >> ((self.from ^ 1) * 32)) as u32
    }

    /// Addresses and ports of the key of either side.
    #[inline(always)]
    fn key(&self, side: u32) -> (u64, u64) {
        let first = side as usize * (EXTERNAL_ADDRESSES - INTERNAL_ADDRESSES) + INTERNAL_ADDRESSES;
        (self.load(first), self.load(first + 1))
    }

    #[inline(always)]
    fn load(&self, word: usize) -> u64 {
        self.line.word(word).load(Ordering::Relaxed)
    }
}

const ORDINARY_MASK: u64 = LIFECYCLE_MASK | ALG_FLAG | LOOSE_FLAG | SHIFT_FLAG;
