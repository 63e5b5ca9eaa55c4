//! Expectations: permission for a coming flow, asked for by an ALG.
//!
//! An expectation is found by the endpoint that was announced to the peer. It names the peer that may
//! come and nobody else, admits a stated number of flows, and ends with its lifetime, its uses or its
//! parent, whichever is first. One that admits as many as come keeps a parent over UDP alive, as a child would: what was
//! promised for an hour (a registered phone, the media of a call on hold) must not end with the first silent minutes
//! of the signalling. Where the announced endpoint is external it holds a reference on the
//! mapping behind it, so that an internal host that sends first leaves from the announced port.
//!
//! One without a peer admits nobody: it only keeps its mapping, whose filtering says who may come. It is in the index only
//! where signalling comes to it. Several may be announced at one endpoint, each for a peer of its own.
//!
//! An ALG may mark one: what comes to it is a control session of its protocol, on whatever ports.

use algate_alg::ProtocolId;

use crate::ids::TenantId;
use crate::nat::key::Endpoint;
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted};
use crate::table::record::{Line, Lines};
use crate::table::slots::{Handle, SlotPool};
use crate::table::sync::{Ordering, Writers};
use crate::time::{Instant, Tick};

/// An expectation to be made, or as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// IP protocol.
    pub protocol: u8,
    /// The endpoint that the peer was told; where it is not translated, in the tenant of the peer's packets.
    pub announced: Endpoint,
    /// Where its flow arrives, as that host knows itself, in its tenant.
    pub target: Endpoint,
    /// Who may come; address 0: any host, port 0: from any port. `None`: whoever the filtering of the mapping lets in.
    pub peer: Option<Endpoint>,
    /// How many flows may still come; [`UNLIMITED`]: as many as do.
    pub uses: u32,
    /// When it ends.
    pub expires: Tick,
    /// The control session.
    pub parent: Handle,
    /// The mapping behind the announced endpoint, if that is translated.
    pub mapping: Option<u32>,
}

/// What an ended expectation held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// A reference on this mapping.
    pub mapping: Option<u32>,
    /// A count and a reference of this subscriber.
    pub subscriber: u32,
    /// The control session that it has kept alive.
    pub kept: Option<Handle>,
}

/// What a packet to an announced endpoint meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing is expected there.
    Unknown,
    /// Something is, but not from this peer.
    Refused,
    /// The flow is let in, as a child of `parent`.
    Admitted {
        /// The expectation as it stood.
        expectation: Expectation,
        /// Its slot, when this was the last use: the caller ends it.
        used_up: Option<u32>,
    },
}

/// The table of expectations, shared by all workers.
#[derive(Debug)]
pub struct Expectations {
    index: IndexTable,
    slots: SlotPool,
    lines: Lines,
    key: HashKey,
}

impl Expectations {
    /// Room for `capacity` expectations.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey) -> Self {
        Self {
            index: IndexTable::with_capacity(capacity, Writers::Many),
            slots: SlotPool::with_generations(u32::try_from(capacity).unwrap_or(u32::MAX), Writers::Many),
            lines: Lines::new(capacity),
            key,
        }
    }

    /// Publishes an expectation that is counted for `subscriber`, and for its parent if it `keeps` that. `None` when the
    /// table is full or the announced endpoint is already promised to the same peer.
    #[must_use]
    pub fn create(&self, new: &Expectation, subscriber: u32, keeps: bool) -> Option<Handle> {
        let slot = self.slots.alloc()?;
        let line = self.lines.line(slot)?;
        let set = |word: usize, value: u64| line.word(word).store(value, Ordering::Relaxed);
        set(ANNOUNCED, announced_word(new.protocol, new.announced));
        set(TARGET, new.target.to_u64());
        set(PEER, peer_word(new.peer));
        set(PARENT, new.parent.to_u64());
        let mapping = u64::from(new.mapping.map_or(0, |mapping| mapping + 1));
        set(MAPPING, tenant_word(new.announced) | mapping);
        set(SUBSCRIBER, if keeps { KEEPS } else { 0 } | u64::from(subscriber));
        // While it comes into the index it is seen by who announces the same, admits nobody, and is left alone by the sweep, or
        // two threads would give back what it holds.
        set(STATE, state_word(BEING_MADE, new.uses));
        if new.peer.is_some() && !self.index(slot, new) {
            set(STATE, 0);
            self.slots.free(slot);
            return None;
        }
        // Release: pairs with the Acquire of `age`, which then reads this expectation's words, not an older one's.
        line.word(STATE).store(state_word(new.expires, new.uses), Ordering::Release);
        Some(self.slots.handle(slot))
    }

    /// Gives the expectation that `handle` names a new end and a peer. `false`: it has ended, or another one has that
    /// peer already. The owner of the control session calls it, nobody else.
    #[must_use]
    pub fn renew(&self, handle: Handle, expires: Tick, peer: Option<Endpoint>) -> bool {
        let Some(line) = self.lines.line(handle.index).filter(|_| self.is_waiting(handle)) else {
            return false;
        };
        let old = read(line);
        line.word(PEER).store(peer_word(peer), Ordering::Relaxed);
        let hash = old.announced.hash(old.protocol, &self.key);
        match (old.peer, peer) {
            (None, Some(_)) if !self.index(handle.index, &Expectation { peer, ..old }) => {
                line.word(PEER).store(peer_word(None), Ordering::Relaxed);
                return false;
            }
            (Some(_), None) => {
                self.index.remove(hash, handle.index);
            }
            _ => {}
        }
        let later = |word: u64| (word & USES != 0).then_some(state_word(expires, word as u32));
        let renewed = line.word(STATE).fetch_update(Ordering::AcqRel, Ordering::Relaxed, later).is_ok();
        if !renewed {
            // It has ended meanwhile, perhaps before it was in the index.
            self.index.remove(hash, handle.index);
        }
        renewed
    }

    /// A first packet from `source` to `destination`: is it expected? Counts a use when it is.
    #[must_use]
    pub fn admit(&self, protocol: u8, source: Endpoint, destination: Endpoint, now: Instant) -> Admission {
        if self.slots.in_use() == 0 {
            return Admission::Unknown;
        }
        let hash = destination.hash(protocol, &self.key);
        let is_here = |slot| self.is_at(slot, protocol, destination) && self.has_peer(slot);
        let admits = |slot| {
            is_here(slot) && self.expectation(slot).is_some_and(|expected| expected.admits(source, now))
        };
        let Some(slot) = self.index.find(hash, admits) else {
            let is_expected = self.index.find(hash, is_here).is_some();
            return if is_expected { Admission::Refused } else { Admission::Unknown };
        };
        let Some(line) = self.lines.line(slot) else { return Admission::Unknown };
        let expectation = read(line);
        match take_use(line) {
            0 => Admission::Unknown,
            1 => Admission::Admitted { expectation, used_up: Some(slot) },
            _ => Admission::Admitted { expectation, used_up: None },
        }
    }

    /// Whether anything is expected at `announced`.
    #[must_use]
    pub fn is_announced(&self, protocol: u8, announced: Endpoint) -> bool {
        let hash = announced.hash(protocol, &self.key);
        self.index.find(hash, |slot| self.is_at(slot, protocol, announced) && self.has_peer(slot)).is_some()
    }

    /// Whether flows from `address` are expected at `announced`.
    #[must_use]
    pub fn awaits(&self, protocol: u8, announced: Endpoint, address: u32) -> bool {
        let hash = announced.hash(protocol, &self.key);
        let awaits = |slot| {
            let peer = self.expectation(slot).and_then(|expected| expected.peer);
            self.is_at(slot, protocol, announced) && peer.is_some_and(|peer| peer.address == address)
        };
        self.index.find(hash, awaits).is_some()
    }

    /// Marks the expectation that `handle` names: flows of what it announces are control sessions of `protocol`. The
    /// owner of the control session calls it, nobody else.
    pub fn mark_control(&self, handle: Handle, protocol: ProtocolId) {
        let Some(line) = self.lines.line(handle.index).filter(|_| self.is_waiting(handle)) else { return };
        let word = line.word(SUBSCRIBER).load(Ordering::Relaxed);
        if word & CONTROL != 0 {
            return;
        }
        let old = read(line);
        line.word(SUBSCRIBER).store(word | control_word(protocol), Ordering::Relaxed);
        if old.peer.is_some() {
            return;
        }
        let hash = old.announced.hash(old.protocol, &self.key);
        if self.index.insert(hash, handle.index, |_| false) != Inserted::New {
            line.word(SUBSCRIBER).store(word, Ordering::Relaxed);
        } else if !self.is_waiting(handle) {
            // It has ended meanwhile, perhaps before it was in the index.
            self.index.remove(hash, handle.index);
        }
    }

    /// The protocol of control sessions from and to `announced`, if a marked expectation is announced there.
    #[must_use]
    pub fn control_at(&self, protocol: u8, announced: Endpoint) -> Option<ProtocolId> {
        if self.slots.in_use() == 0 {
            return None;
        }
        let mark = |slot| {
            let word = self.lines.line(slot)?.word(SUBSCRIBER).load(Ordering::Relaxed) & CONTROL;
            let number = u8::try_from(word >> CONTROL_SHIFT).ok()?.checked_sub(1)?;
            ProtocolId::of_number(number)
        };
        let hash = announced.hash(protocol, &self.key);
        let is_marked = |slot| self.is_at(slot, protocol, announced) && mark(slot).is_some();
        self.index.find(hash, is_marked).and_then(mark)
    }

    /// Where what is announced at `announced` arrives.
    #[must_use]
    pub fn target_at(&self, protocol: u8, announced: Endpoint) -> Option<Endpoint> {
        let hash = announced.hash(protocol, &self.key);
        let slot =
            self.index.find(hash, |slot| self.is_at(slot, protocol, announced) && self.has_peer(slot))?;
        self.expectation(slot).map(|expectation| expectation.target)
    }

    /// The one that stands in the way of `new`: announced at the same endpoint, to the same peer.
    #[must_use]
    pub fn promised(&self, new: &Expectation) -> Option<Handle> {
        let is_same = |slot| {
            self.is_at(slot, new.protocol, new.announced)
                && self.expectation(slot).is_some_and(|other| other.peer == new.peer)
        };
        let hash = new.announced.hash(new.protocol, &self.key);
        self.index.find(hash, is_same).map(|slot| self.slots.handle(slot))
    }

    /// Whether the expectation that `handle` names still waits for a flow.
    #[must_use]
    pub fn is_waiting(&self, handle: Handle) -> bool {
        self.slots.is_current(handle) && self.lines.line(handle.index).is_some_and(|line| read(line).uses > 0)
    }

    /// Ends the expectation that `handle` names. `true` when this call ended it: the caller then calls
    /// [`Expectations::unlink`].
    #[must_use]
    pub fn withdraw(&self, handle: Handle) -> bool {
        self.slots.is_current(handle) && self.lines.line(handle.index).is_some_and(take_all_uses)
    }

    /// Ends the expectation in `slot` when its time is over. `true` when this call ended it.
    #[must_use]
    pub fn age(&self, slot: u32, now: Instant, parent_lives: impl Fn(Handle) -> bool) -> bool {
        let Some(line) = self.lines.line(slot) else { return false };
        // Acquire: pairs with the Release of `create`.
        if line.word(STATE).load(Ordering::Acquire) >> 32 == u64::from(BEING_MADE.0) {
            return false;
        }
        let expectation = read(line);
        expectation.uses > 0
            && (expectation.expires <= Tick::of(now) || !parent_lives(expectation.parent))
            && take_all_uses(line)
    }

    /// Takes an ended expectation out of the index and returns what it held.
    pub fn unlink(&self, slot: u32) -> Option<Ended> {
        let expectation = self.expectation(slot)?;
        let word = self.lines.line(slot)?.word(SUBSCRIBER).load(Ordering::Relaxed);
        if expectation.peer.is_some() || word & CONTROL != 0 {
            self.index.remove(expectation.announced.hash(expectation.protocol, &self.key), slot);
        }
        let kept = (word & KEEPS != 0).then_some(expectation.parent);
        Some(Ended { mapping: expectation.mapping, subscriber: word as u32, kept })
    }

    /// Gives the slot of an ended expectation back, after the grace period.
    pub fn free(&self, slot: u32) {
        self.slots.free(slot);
    }

    /// The expectation in `slot`, ended or not.
    #[must_use]
    pub fn expectation(&self, slot: u32) -> Option<Expectation> {
        self.lines.line(slot).map(read)
    }

    /// Slots that were ever used.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.slots.high_water()
    }

    /// Slots in use, ended ones included.
    #[inline]
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    fn has_peer(&self, slot: u32) -> bool {
        self.lines.line(slot).is_some_and(|line| line.word(PEER).load(Ordering::Relaxed) != NO_PEER)
    }

    fn index(&self, slot: u32, new: &Expectation) -> bool {
        let is_same = |other| {
            let has_peer = |other: Expectation| other.peer == new.peer;
            self.is_at(other, new.protocol, new.announced) && self.expectation(other).is_some_and(has_peer)
        };
        let hash = new.announced.hash(new.protocol, &self.key);
        self.index.insert(hash, slot, is_same) == Inserted::New
    }

    fn is_at(&self, slot: u32, protocol: u8, announced: Endpoint) -> bool {
        self.lines.line(slot).is_some_and(|line| {
            line.word(ANNOUNCED).load(Ordering::Relaxed) == announced_word(protocol, announced)
                && line.word(MAPPING).load(Ordering::Relaxed) & TENANT == tenant_word(announced)
                && line.word(STATE).load(Ordering::Relaxed) & USES != 0
        })
    }
}

impl Expectation {
    fn admits(&self, source: Endpoint, now: Instant) -> bool {
        let is_peer = |peer: Endpoint| {
            (peer.address == 0 || peer.host() == source.host())
                && (peer.l4_port == 0 || peer.l4_port == source.l4_port)
        };
        self.peer.is_some_and(is_peer) && self.expires > Tick::of(now)
    }
}

fn read(line: &Line) -> Expectation {
    let load = |word: usize| line.word(word).load(Ordering::Relaxed);
    let (announced, state, mapping) = (load(ANNOUNCED), load(STATE), load(MAPPING));
    let tenant = TenantId((mapping >> 32) as u16);
    Expectation {
        protocol: announced as u8,
        announced: Endpoint::from_u64(announced >> 16).in_tenant(tenant),
        target: Endpoint::from_u64(load(TARGET)),
        peer: match load(PEER) {
            NO_PEER => None,
            peer => Some(Endpoint::from_u64(peer)),
        },
        uses: (state & USES) as u32,
        expires: Tick((state >> 32) as u32),
        parent: Handle::from_u64(load(PARENT)),
        mapping: (mapping as u32).checked_sub(1),
    }
}

/// Takes one use; returns how many there were.
fn take_use(line: &Line) -> u64 {
    let word = line.word(STATE);
    let mut seen = word.load(Ordering::Relaxed);
    while seen & USES != 0 {
        if seen & USES == u64::from(UNLIMITED) {
            return seen & USES;
        }
        match word.compare_exchange_weak(seen, seen - 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return seen & USES,
            Err(now) => seen = now,
        }
    }
    0
}

/// `true` when there was a use left and this call took the last of them.
fn take_all_uses(line: &Line) -> bool {
    line.word(STATE).fetch_and(!USES, Ordering::AcqRel) & USES != 0
}

const fn peer_word(peer: Option<Endpoint>) -> u64 {
    match peer {
        Some(peer) => peer.to_u64(),
        None => NO_PEER,
    }
}

const fn announced_word(protocol: u8, endpoint: Endpoint) -> u64 {
    (endpoint.to_u64() << 16) | protocol as u64
}

const fn control_word(protocol: ProtocolId) -> u64 {
    (protocol.number() as u64 + 1) << CONTROL_SHIFT
}

const fn state_word(expires: Tick, uses: u32) -> u64 {
    ((expires.0 as u64) << 32) | uses as u64
}

const fn tenant_word(announced: Endpoint) -> u64 {
    (announced.tenant.0 as u64) << 32
}

/// Uses of an expectation that ends by time only.
pub const UNLIMITED: u32 = u32::MAX;

const ANNOUNCED: usize = 0;
const TARGET: usize = 1;
const PEER: usize = 2;
const STATE: usize = 3;
const PARENT: usize = 4;
/// Mapping + 1 (low half), and the tenant of the announced endpoint, for which its own word has no room.
const MAPPING: usize = 5;
const TENANT: u64 = 0xffff_ffff << 32;
/// Subscriber (low half), whether it keeps its parent alive, and the protocol of control sessions that come, +1.
const SUBSCRIBER: usize = 6;
const KEEPS: u64 = 1 << 32;
const CONTROL_SHIFT: u32 = 40;
const CONTROL: u64 = 0xff << CONTROL_SHIFT;
/// Nobody's endpoint: the last port of the broadcast address.
const NO_PEER: u64 = u64::MAX;
/// Uses left, in the low half of the state word.
const USES: u64 = 0xffff_ffff;
/// The end, in the upper half, of one that is not in the index yet: past, so that it admits nobody.
const BEING_MADE: Tick = Tick(0);
