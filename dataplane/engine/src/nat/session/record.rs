//! One session, seen through its table: what its cache line says, and what only the slow path reads.
//!
//! The words of the line, in order: both keys, the checksum deltas of both directions, both next hops, the state word, and the
//! mapping with both interfaces. All are constant after publication, except the next hops and the state.

use algate_alg::{Direction, ProtocolId};

use super::parts::{Parts, Relations};
use super::{Facing, NewSession};
use crate::ids::{InterfaceId, TenantId, WorkerId};
use crate::nat::key::FlowKey;
use crate::nat::mapping::Hold;
use crate::nat::shift::Shifts;
use crate::nat::state_word::{ALG_FLAG, LIVE, LOOSE_FLAG, SHIFT_FLAG, StateWord};
use crate::nat::tcp_state::{TcpState, is_tracked};
use crate::packet::checksum::Delta;
use crate::packet::other::has_pseudo_header;
use crate::packet::rewrite::Translation;
use crate::router::egress::NextHop;
use crate::router::neighbor::NeighborRef;
use crate::table::record::Line;
use crate::table::slots::Handle;
use crate::table::sync::Ordering;
use crate::time::Tick;

/// One session, seen through its table.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    pub(super) index: u32,
    pub(super) line: &'a Line,
    pub(super) parts: &'a Parts,
}

impl<'a> Session<'a> {
    /// Its slot.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Whether it is neither free nor dying.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state().lifecycle() == LIVE
    }

    /// An outbound packet as it arrives.
    #[inline]
    #[must_use]
    pub fn internal_key(&self) -> FlowKey {
        FlowKey { addresses: self.load(INTERNAL_ADDRESSES), ports: self.load(INTERNAL_PORTS) }
    }

    /// An inbound packet as it arrives.
    #[inline]
    #[must_use]
    pub fn external_key(&self) -> FlowKey {
        FlowKey { addresses: self.load(EXTERNAL_ADDRESSES), ports: self.load(EXTERNAL_PORTS) }
    }

    /// What becomes of a packet that came from `facing`.
    #[inline]
    #[must_use]
    pub fn translation(&self, facing: Facing) -> Translation {
        let deltas = self.load(DELTAS);
        let (becomes, shift) = match facing {
            Facing::Internal => (self.external_key().reversed(), 32),
            Facing::External => (self.internal_key().reversed(), 0),
        };
        Translation {
            src: becomes.source().address,
            dst: becomes.destination().address,
            src_port: becomes.source().l4_port,
            dst_port: becomes.destination().l4_port,
            ip_delta: Delta::from_bits((deltas >> (shift + 16)) as u16) + Delta::OF_A_HOP.reversed(),
            l4_delta: Delta::from_bits((deltas >> shift) as u16),
        }
    }

    /// Where a packet that came from `facing` leaves.
    #[inline]
    #[must_use]
    pub fn next_hop(&self, facing: Facing) -> NextHop {
        let (hops, info) = (self.load(HOPS), self.load(INFO));
        match facing {
            Facing::Internal => NextHop {
                interface: InterfaceId((info >> 16) as u16),
                neighbor: NeighborRef::from_bits((hops >> 32) as u32),
            },
            Facing::External => {
                NextHop { interface: InterfaceId(info as u16), neighbor: NeighborRef::from_bits(hops as u32) }
            }
        }
    }

    /// The tenant into which a packet that came from `facing` leaves, and whose routes it follows.
    #[must_use]
    pub fn tenant_towards(&self, facing: Facing) -> TenantId {
        match facing {
            Facing::Internal => self.external_key().tenant(),
            Facing::External => self.internal_key().tenant(),
        }
    }

    /// Replaces the next hop of packets that came from `facing`: the old one was forgotten.
    pub fn renew_neighbor(&self, facing: Facing, neighbor: NeighborRef) {
        let old = self.load(HOPS);
        let bits = u64::from(neighbor.to_bits());
        let new = match facing {
            Facing::Internal => (old & 0xffff_ffff) | (bits << 32),
            Facing::External => (old & !0xffff_ffff) | bits,
        };
        // Relaxed: the word stands for itself; a lost race means that another worker renewed it.
        let _lost = self.line.word(HOPS).compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How it holds its own mapping.
    #[must_use]
    pub fn hold(&self) -> Hold {
        if self.state().0 & LOOSE_FLAG == 0 { Hold::Firm } else { Hold::Loose }
    }

    /// Notes that it holds its mapping firmly from now on. `false`: it did already, or it is ending.
    pub fn set_firm(&self) -> bool {
        let is_loose = |word: u64| StateWord(word).lifecycle() == LIVE && word & LOOSE_FLAG != 0;
        let firm = |word: u64| is_loose(word).then_some(word & !LOOSE_FLAG);
        self.line.word(STATE).fetch_update(Ordering::Relaxed, Ordering::Relaxed, firm).is_ok()
    }

    /// Whether an ALG reads it.
    #[inline]
    #[must_use]
    pub fn is_alg(&self) -> bool {
        self.state().0 & ALG_FLAG != 0
    }

    /// Takes the session from its ALG. From now on its numbers are shifted by `shifts`; without any it is for the
    /// fast path.
    pub fn leave_alg(&self, shifts: Shifts) {
        if let Some(relations) = self.relations() {
            relations.shifts.store(shifts.to_bits(), Ordering::Relaxed);
        }
        let flag = if shifts == Shifts::default() { 0 } else { SHIFT_FLAG };
        // Release: pairs with the Acquire of `shifts`.
        let left = |word: u64| Some((word & !ALG_FLAG) | flag);
        let _always = self.line.word(STATE).fetch_update(Ordering::Release, Ordering::Relaxed, left);
    }

    /// Gives the session back to the ALG that has left it. `false`: none has, or it is ending.
    pub(super) fn return_to_alg(&self) -> bool {
        let has_left = |word: u64| StateWord(word).lifecycle() == LIVE && word & ALG_FLAG == 0;
        let read = |word: u64| has_left(word).then_some((word | ALG_FLAG) & !SHIFT_FLAG);
        self.alg_protocol().is_some()
            && self.line.word(STATE).fetch_update(Ordering::Relaxed, Ordering::Relaxed, read).is_ok()
    }

    /// By how much its numbers are shifted, if they are: its streams were edited.
    #[must_use]
    pub fn shifts(&self) -> Option<Shifts> {
        let is_shifted = self.line.word(STATE).load(Ordering::Acquire) & SHIFT_FLAG != 0;
        let relations = self.relations().filter(|_| is_shifted)?;
        Some(Shifts::from_bits(relations.shifts.load(Ordering::Relaxed)))
    }

    /// The thread that owns its ALG flow.
    #[must_use]
    pub fn alg_owner(&self) -> WorkerId {
        WorkerId(self.alg_word() as u16)
    }

    /// The protocol that an ALG reads on it, or has read.
    #[must_use]
    pub fn alg_protocol(&self) -> Option<ProtocolId> {
        ProtocolId::of_number((self.alg_word() >> 16).checked_sub(1)? as u8)
    }

    fn alg_word(&self) -> u32 {
        self.relations().map_or(0, |relations| relations.alg_owner.load(Ordering::Relaxed))
    }

    /// The control session that expected it.
    #[must_use]
    pub fn parent(&self) -> Option<Handle> {
        self.relations()?.parent()
    }

    /// Sessions that live under it.
    #[must_use]
    pub fn children(&self) -> u32 {
        self.relations().map_or(0, |relations| relations.children.load(Ordering::Relaxed))
    }

    /// The mappings it holds a reference on: its own, and the remote end's when that is translated too.
    #[must_use]
    pub fn mappings(&self) -> [Option<u32>; 2] {
        let own = (self.load(INFO) >> 32) as u32;
        let remote = self.relations().map(|relations| relations.remote_mapping.load(Ordering::Relaxed));
        [own.checked_sub(1), remote.and_then(|remote| remote.checked_sub(1))]
    }

    /// Slot of the subscriber that it is counted for, with a reference held.
    #[must_use]
    pub fn subscriber(&self) -> u32 {
        let subscriber = self.parts.subscribers.get(self.index as usize);
        subscriber.map_or(0, |subscriber| subscriber.load(Ordering::Relaxed))
    }

    /// Counts an ICMP error about it in `second`. `false`: there were `limit`, at most 15, in it before.
    #[must_use]
    pub fn admit_icmp_error(&self, second: u32, limit: u32) -> bool {
        let admit = |word: u64| Some(StateWord(word).with_icmp_error(second, limit)?.0);
        // Relaxed: the count stands for itself.
        self.line.word(STATE).fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }

    /// Direction of a packet that came from `facing`.
    #[inline]
    #[must_use]
    pub fn direction(&self, facing: Facing) -> Direction {
        self.state().direction(facing)
    }

    /// The side from which packets of `direction` come.
    #[must_use]
    pub fn facing(&self, direction: Direction) -> Facing {
        if self.direction(Facing::Internal) == direction { Facing::Internal } else { Facing::External }
    }

    /// TCP state, for a session of TCP, or of SCTP in TCP's terms.
    #[must_use]
    pub fn tcp_state(&self) -> Option<TcpState> {
        is_tracked(self.internal_key().protocol()).then(|| TcpState::from_u8(self.state().tcp()))
    }

    /// Tick of the last packet that counts against ageing.
    #[must_use]
    pub fn last_seen(&self) -> Tick {
        self.state().last_seen()
    }

    /// What some have.
    pub(super) fn relations(&self) -> Option<&'a Relations> {
        self.parts.relations.get(self.index as usize)
    }

    /// Writes all that is there of it, `state` last.
    pub(super) fn fill(&self, new: &NewSession, state: StateWord) {
        let set = |word: usize, value: u64| self.line.word(word).store(value, Ordering::Relaxed);
        set(INTERNAL_ADDRESSES, new.internal_key.addresses);
        set(INTERNAL_PORTS, new.internal_key.ports);
        set(EXTERNAL_ADDRESSES, new.external_key.addresses);
        set(EXTERNAL_PORTS, new.external_key.ports);
        set(DELTAS, deltas(new.internal_key, new.external_key.reversed()));
        let hop = |hop: NextHop| u64::from(hop.neighbor.to_bits());
        set(HOPS, (hop(new.external_hop) << 32) | hop(new.internal_hop));
        let interfaces =
            (u64::from(new.external_hop.interface.0) << 16) | u64::from(new.internal_hop.interface.0);
        set(INFO, (u64::from(new.mapping.map_or(0, |mapping| mapping + 1)) << 32) | interfaces);
        if let Some(subscriber) = self.parts.subscribers.get(self.index as usize) {
            subscriber.store(new.subscriber, Ordering::Relaxed);
        }
        if let Some(relations) = self.relations() {
            relations.fill(new);
        }
        if let Some(windows) = self.parts.windows.get(self.index as usize) {
            windows.clear();
        }
        // Release: pairs with the Acquire of `Sessions::age`.
        self.line.word(STATE).store(state.0, Ordering::Release);
    }

    /// Makes the session `dying`. Its last word, if it was this call that did.
    pub(super) fn kill(&self) -> Option<StateWord> {
        let word = self.line.word(STATE);
        let mut seen = word.load(Ordering::Relaxed);
        while StateWord(seen).lifecycle() == LIVE {
            match word.compare_exchange(seen, StateWord(seen).dying().0, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Some(StateWord(seen)),
                Err(now) => seen = now,
            }
        }
        None
    }

    #[inline]
    pub(super) fn state(&self) -> StateWord {
        StateWord(self.load(STATE))
    }

    #[inline]
    pub(super) fn load(&self, word: usize) -> u64 {
        self.line.word(word).load(Ordering::Relaxed)
    }
}

/// IPv4 delta, with a TTL of one less in it, and L4 delta of a packet that turns from `old` into `new` (high half), and of
/// one that is turned back. An ICMP checksum covers the identifier only, those with a pseudo header cover the addresses
/// too.
fn deltas(old: FlowKey, new: FlowKey) -> u64 {
    let address = Delta::of_u64(old.addresses, new.addresses);
    let l4_ports = Delta::of_u32(old.l4_ports(), new.l4_ports());
    let l4 = if has_pseudo_header(old.protocol()) { address + l4_ports } else { l4_ports };
    let word = |address: Delta, l4: Delta| {
        u64::from((address + Delta::OF_A_HOP).to_bits()) << 16 | u64::from(l4.to_bits())
    };
    (word(address, l4) << 32) | word(address.reversed(), l4.reversed())
}

pub(super) const INTERNAL_ADDRESSES: usize = 0;
pub(super) const INTERNAL_PORTS: usize = 1;
pub(super) const EXTERNAL_ADDRESSES: usize = 2;
pub(super) const EXTERNAL_PORTS: usize = 3;
pub(super) const DELTAS: usize = 4;
pub(super) const HOPS: usize = 5;
pub(super) const STATE: usize = 6;
/// Mapping + 1 (high half), external interface, internal interface.
pub(super) const INFO: usize = 7;
