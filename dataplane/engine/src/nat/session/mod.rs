//! Sessions: what a hit needs, in one cache line, and the little that only the slow path needs.
//!
//! A session joins two flow keys: the *internal* one (an outbound packet as it arrives from the
//! internal side) and the *external* one (an inbound packet as it arrives from the external side). What
//! an outbound packet becomes is the external key reversed, and the other way round; so both keys
//! together are the whole translation, remote ends included (hairpin, twice NAT).
//!
//! Life of a session: a slot is taken and filled, then both keys are published. Expiry is a CAS of the
//! state word from `live` to `dying`, after which every reader treats it as a miss; both keys are
//! unlinked, and the slot is reused only after a grace period ([`crate::table::quiescence`]).
//!
//! The state word is the only one that a hit writes, and only when the tick or the TCP state changed.

mod passage;
mod record;

use std::num::NonZeroU32;
use std::time::Duration;

use algate_alg::{Direction, ProtocolId};

use crate::drop_reason::DropReason;
use crate::ids::WorkerId;
use crate::nat::idle_times::IdleTimes;
use crate::nat::key::FlowKey;
use crate::nat::mapping::Hold;
use crate::nat::state_word::{INBOUND_FLAG, LIVE, LOOSE_FLAG, PRESSED_FLAG, StateWord};
use crate::nat::tcp_state::{TcpEvent, TcpState, TcpTimeout, is_tracked};
use crate::nat::tcp_window::{Fit, Segment, TcpWindow, is_heeded};
use crate::packet::parse::Ipv4View;
use crate::packet::sctp::Chunk;
use crate::router::egress::NextHop;
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted, KEY_BYTES};
use crate::table::record::{Line, Lines};
use crate::table::slots::{Handle, SlotPool};
use crate::table::sync::prefetch;
use crate::table::sync::{AtomicU32, Ordering};
use crate::time::{Instant, Tick};

pub use self::passage::Passage;
pub use self::record::Session;
use self::record::{Cold, EXTERNAL_ADDRESSES, EXTERNAL_PORTS, INTERNAL_ADDRESSES, INTERNAL_PORTS, STATE};

/// Which key of a session a packet matched: the side it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facing {
    /// From the internal side: outbound.
    Internal,
    /// From the external side: inbound.
    External,
}

impl Facing {
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Internal => Self::External,
            Self::External => Self::Internal,
        }
    }
}

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
            initiator: Facing::Internal,
            internal_hop,
            external_hop,
            mapping: None,
            hold: Hold::Firm,
            remote_mapping: None,
            parent: None,
            alg_owner: None,
            subscriber,
        }
    }

    const fn key(&self, facing: Facing) -> FlowKey {
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
    /// As many TCP and SCTP sessions are half-open as may be.
    HalfOpenFull,
    /// Its mapping has as many sessions as may be.
    MappingFull,
    /// One of its flows has a session already, in this slot: made by another worker a moment ago, or another
    /// session whose translation collides.
    Exists(u32),
}

/// What the sweep does with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ageing {
    /// Nothing there, or not yet due.
    Stays,
    /// It was idle for too long and is now `dying`; the caller unlinks and retires it.
    Expired,
}

/// The session that a hash probably names: only a tag was compared.
#[derive(Debug, Clone, Copy)]
pub struct Candidate(NonZeroU32);

impl Candidate {
    #[inline(always)]
    fn new(value: u32) -> Self {
        Self(NonZeroU32::MIN | (value << 1))
    }

    #[inline(always)]
    const fn value(self) -> u32 {
        self.0.get() >> 1
    }
}

/// Memory that one session takes in all tables, bytes: two keys in an index at half load, the record with all its
/// parts, its place in the list of free ones.
pub const RECORD_BYTES: u64 =
    (2 * KEY_BYTES + size_of::<Line>() + size_of::<TcpWindow>() + size_of::<Cold>() + 4 + 8) as u64;

/// The table of sessions, shared by all workers.
#[derive(Debug)]
pub struct Sessions {
    index: IndexTable,
    slots: SlotPool,
    lines: Lines,
    /// Touched by TCP segments and ICMP errors only.
    windows: Box<[TcpWindow]>,
    cold: Box<[Cold]>,
    /// Tick before which the sweep need not look at a session.
    not_before: Box<[AtomicU32]>,
    key: HashKey,
    idle_times: IdleTimes,
    /// TCP sessions in [`TcpState::Init`].
    half_open: AtomicU32,
    half_open_max: u32,
}

impl Sessions {
    /// Room for `capacity` sessions, of which `half_open` may be half-open TCP sessions.
    #[must_use]
    pub fn new(capacity: usize, half_open: usize, key: HashKey, idle_times: IdleTimes) -> Self {
        Self {
            index: IndexTable::with_capacity(capacity * 2),
            slots: SlotPool::new(u32::try_from(capacity).unwrap_or(u32::MAX)),
            lines: Lines::new(capacity),
            windows: (0..capacity).map(|_| TcpWindow::default()).collect(),
            cold: (0..capacity).map(|_| Cold::default()).collect(),
            not_before: (0..capacity).map(|_| AtomicU32::new(0)).collect(),
            key,
            idle_times,
            half_open: AtomicU32::new(0),
            half_open_max: u32::try_from(half_open).unwrap_or(u32::MAX),
        }
    }

    /// The hash under which `key` is looked up.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: FlowKey) -> u64 {
        key.hash(&self.key)
    }

    /// Brings the buckets of `hash` into the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Brings the session that `hash` probably names into the cache, or its second bucket. What it says is
    /// for [`Sessions::find_candidate`], before the next quiescent point.
    #[inline]
    pub fn prefetch_record(&self, hash: u64) -> Option<Candidate> {
        let value = self.index.peek(hash)?;
        self.lines.prefetch(value >> 1);
        Some(Candidate::new(value))
    }

    /// As [`Sessions::prefetch_record`], of the second bucket, which that has started to fetch.
    #[must_use]
    pub fn prefetch_second(&self, hash: u64) -> Option<Candidate> {
        let value = self.index.peek_second(hash)?;
        self.lines.prefetch(value >> 1);
        Some(Candidate::new(value))
    }

    /// Starts to fetch what [`Sessions::create`] looks at for `key`.
    pub fn prefetch_insert(&self, key: FlowKey) {
        self.index.prefetch_pair(self.hash(key));
    }

    /// As [`Sessions::find`]; where `candidate` is right, without a second look at the bucket.
    #[inline]
    #[must_use]
    pub fn find_candidate(
        &self,
        candidate: Option<Candidate>,
        hash: u64,
        key: FlowKey,
    ) -> Option<(Session<'_>, Facing)> {
        match candidate {
            Some(candidate) if self.holds(candidate.value(), key) => {
                let value = candidate.value();
                Some((self.session(value >> 1)?, facing_of(value)))
            }
            _ => self.find(hash, key),
        }
    }

    /// The session of a flow as its packets need it, where `candidate` is right and the session is an ordinary one: live,
    /// read by no ALG, and holding its mapping firmly. `None` says nothing about the flow.
    #[inline(always)]
    #[must_use]
    pub fn find_ordinary(&self, candidate: Option<Candidate>, key: FlowKey) -> Option<Passage<'_>> {
        // No candidate is taken for that of slot 0, whose key then tells.
        let value = candidate.map_or(0, Candidate::value);
        Passage::find(self.lines.line(value >> 1)?, value >> 1, facing_of(value), key)
    }

    /// What [`Sessions::find_ordinary`] is asked with for a session at hand.
    #[must_use]
    pub fn candidate(&self, session: &Session<'_>, facing: Facing) -> Candidate {
        Candidate::new(value_of(session.index, facing))
    }

    /// The live session of a flow, and which of its keys matched.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: FlowKey) -> Option<(Session<'_>, Facing)> {
        let value = self.index.find(hash, |value| self.holds(value, key))?;
        Some((self.session(value >> 1)?, facing_of(value)))
    }

    /// The live session that `handle` names.
    #[must_use]
    pub fn by_handle(&self, handle: Handle) -> Option<Session<'_>> {
        let session = self.session(handle.index)?;
        (self.slots.is_current(handle) && session.is_live()).then_some(session)
    }

    /// Makes a session and publishes both its keys.
    ///
    /// # Errors
    /// [`CreateError`]: nothing was made. `Full` after the keys were partly published leaves a slot
    /// in `retired`, to be reclaimed.
    pub fn create(
        &self,
        new: &NewSession,
        now: Instant,
        mut retire: impl FnMut(u32),
    ) -> Result<Session<'_>, CreateError> {
        let is_tracked = is_tracked(new.internal_key.protocol());
        // Relaxed, here and below: the count stands for itself. Two workers may pass the limit by one each.
        let half_open = self.half_open();
        if is_tracked && half_open >= self.half_open_max {
            return Err(CreateError::HalfOpenFull);
        }
        let slot = self.slots.alloc().ok_or(CreateError::Full)?;
        let Some(session) = self.session(slot) else {
            self.slots.free(slot);
            return Err(CreateError::Full);
        };
        let is_pressed = is_tracked && half_open >= self.half_open_max - self.half_open_max / 4;
        if let Some(not_before) = self.not_before.get(slot as usize) {
            // However long this thread sleeps meanwhile, the sweep leaves alone what is not made yet.
            not_before.store(u32::MAX, Ordering::Relaxed);
        }
        session.fill(new, Tick::of(now), if is_pressed { PRESSED_FLAG } else { 0 });
        if let Some(windows) = self.windows.get(slot as usize) {
            windows.clear();
        }
        let idle = self.idle_of(&session);
        if is_tracked {
            // Before anybody can find it, whose packet would uncount it.
            self.half_open.fetch_add(1, Ordering::Relaxed);
        }
        // The key of replies first: who finds the session by the other may get a reply at once.
        let from = new.initiator;
        match self.publish(slot, new, from.opposite()) {
            Inserted::New => {}
            refused => {
                self.end(&session);
                session.line.word(STATE).store(0, Ordering::Relaxed);
                self.slots.free(slot);
                return Err(refusal(refused));
            }
        }
        match self.publish(slot, new, from) {
            Inserted::New => {
                self.adopt(new.parent);
                self.schedule_by(slot, Tick::of(now).plus(idle));
                Ok(session)
            }
            refused => {
                self.end(&session);
                self.index.remove(self.hash(new.key(from.opposite())), value_of(slot, from.opposite()));
                retire(slot);
                Err(refusal(refused))
            }
        }
    }

    /// The session in slot `index`, if it is live and is the one that `new` describes.
    #[must_use]
    pub fn same(&self, index: u32, new: &NewSession) -> Option<Session<'_>> {
        let session = self.session(index)?;
        let is_same =
            session.internal_key() == new.internal_key && session.external_key() == new.external_key;
        (is_same && session.is_live()).then_some(session)
    }

    /// What the TCP segment that `view` found in `head` means for the state of its session; `None`: it is a
    /// RST that its sender would not send.
    #[inline]
    #[must_use]
    pub fn judge_segment(
        &self,
        session: &Session<'_>,
        facing: Facing,
        head: &[u8],
        view: &Ipv4View,
    ) -> Option<TcpEvent> {
        let event = TcpEvent::of_flags(view.tcp_flags);
        let Some(windows) = self.windows.get(session.index as usize) else { return Some(event) };
        let Some(segment) = Segment::of(head, view) else { return Some(event) };
        let state = session.state();
        let may_reopen = matches!(
            TcpState::from_u8(state.tcp()),
            TcpState::Init | TcpState::FinBoth | TcpState::Transitory
        ) && state.direction(facing) == Direction::Original;
        let fit = windows.observe(facing, may_reopen, &segment);
        match event {
            TcpEvent::Rst if fit == Fit::Outside => None,
            _ if is_heeded(view.tcp_flags, fit) => Some(event),
            _ => Some(TcpEvent::Other),
        }
    }

    /// What an SCTP packet with this first `chunk` and verification `tag` means for the state of its association.
    ///
    /// # Errors
    /// [`DropReason::SctpBadTag`]: its sender would not send it.
    pub fn judge_chunk(
        &self,
        session: &Session<'_>,
        facing: Facing,
        chunk: Chunk,
        tag: u32,
    ) -> Result<TcpEvent, DropReason> {
        let Some(windows) = self.windows.get(session.index as usize) else { return Ok(TcpEvent::Other) };
        let state = TcpState::from_u8(session.state().tcp());
        windows.tags().judge(facing, state.timeout() == TcpTimeout::Transitory, chunk, tag)
    }

    /// The TCP windows of a session, and its count of ICMP errors.
    #[must_use]
    pub fn windows(&self, session: &Session<'_>) -> Option<&TcpWindow> {
        self.windows.get(session.index as usize)
    }

    /// A new connection begins on the addresses of a session that an ALG has read: it reads this one, too.
    pub fn return_to_alg(&self, session: &Session<'_>) {
        if session.return_to_alg()
            && let Some(windows) = self.windows(session)
        {
            // Its numbers are the stage's to know from now on.
            windows.clear();
        }
    }

    /// Brings the TCP windows of the session that `candidate` probably is into the cache.
    #[inline]
    pub fn prefetch_windows(&self, candidate: Candidate) {
        if let Some(windows) = self.windows.get((candidate.value() >> 1) as usize) {
            prefetch(windows);
        }
    }

    /// Notes a packet of a hit session: TCP state and last-seen time. `true`: it is an outbound packet on a
    /// session that holds its mapping loosely; see [`super::Nat::keep_mapping`].
    #[inline]
    pub fn touch(
        &self,
        session: &Session<'_>,
        facing: Facing,
        tcp_event: Option<TcpEvent>,
        now: Instant,
    ) -> bool {
        let word = session.line.word(STATE);
        let mut old = word.load(Ordering::Relaxed);
        let answers = facing == Facing::Internal && old & LOOSE_FLAG != 0;
        loop {
            let seen = StateWord(old);
            let state = TcpState::from_u8(seen.tcp());
            let (next, refreshes) = match tcp_event {
                Some(event) => (state.next(seen.direction(facing), event), true),
                // RFC 4787 REQ-6: outbound packets keep a mapping alive, inbound ones do not.
                None => (state, self.idle_times.is_refreshed_by(facing) || seen.is_internal_only()),
            };
            let tick = if refreshes { Tick::of(now) } else { seen.last_seen() };
            let new = seen.with(next, tick).0;
            if new == old || seen.lifecycle() != LIVE {
                return answers;
            }
            // Release: pairs with the swap of `age`, see `schedule_by`.
            match word.compare_exchange(old, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if next != state => {
                    self.count_half_open(state, next);
                    self.schedule_by(session.index, tick.plus(self.idle_of(session)));
                    return answers;
                }
                // Another worker's packet was faster: its time is as good as ours, its state is not.
                Err(now) if next != state => old = now,
                _ => return answers,
            }
        }
    }

    /// Looks at slot `index`: is its session idle for too long? Sessions with live children, and those that are kept, stay.
    pub fn age(&self, index: u32, now: Instant) -> Ageing {
        let tick = Tick::of(now);
        let Some(not_before) = self.not_before.get(index as usize) else { return Ageing::Stays };
        if not_before.load(Ordering::Relaxed) > tick.0 {
            return Ageing::Stays;
        }
        let Some(session) = self.session(index) else { return Ageing::Stays };
        let word = session.line.word(STATE);
        // One load for all that follows: a session that somebody else ends after it must not be ended again.
        // Acquire: pairs with the Release of `fill`; the second look at `not_before` is at the one of this session.
        let seen = word.load(Ordering::Acquire);
        if StateWord(seen).lifecycle() != LIVE || not_before.load(Ordering::Relaxed) > tick.0 {
            return Ageing::Stays;
        }
        let due = self.due(&session, seen);
        let has_children = session.cold.children.load(Ordering::Relaxed) > 0;
        if due > tick || has_children {
            // Acquire: a packet that asked for an earlier time before this swap is seen below; one that
            // asks later is not overwritten. Pairs with the Release of `schedule_by`.
            not_before.swap(due.max(Tick(tick.0 + 1)).0, Ordering::AcqRel);
            let due = self.due(&session, word.load(Ordering::Relaxed));
            self.schedule_by(index, due.max(Tick(tick.0 + 1)));
            return Ageing::Stays;
        }
        // Against the word that was judged: a packet in between keeps the session. Release pairs with
        // the Acquire of `is_live`, Acquire keeps the unlinking behind it.
        let dying = StateWord(seen).dying().0;
        match word.compare_exchange(seen, dying, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                self.uncount(&session, StateWord(seen));
                Ageing::Expired
            }
            Err(_) => Ageing::Stays,
        }
    }

    /// Takes a `dying` session out of the index. Its slot stays taken until [`Sessions::release`].
    pub fn unlink(&self, index: u32, now: Instant) {
        if let Some(session) = self.session(index) {
            let (internal, external) = (session.internal_key(), session.external_key());
            self.index.remove(self.hash(internal), value_of(index, Facing::Internal));
            self.index.remove(self.hash(external), value_of(index, Facing::External));
            self.disown(session.parent(), Tick::of(now));
        }
    }

    /// Ends a session before its time. `true`: it was this call; the caller unlinks and retires it.
    pub fn end(&self, session: &Session<'_>) -> bool {
        let killed = session.kill();
        if let Some(word) = killed {
            self.uncount(session, word);
        }
        killed.is_some()
    }

    /// Gives the slot back, after the grace period.
    pub fn release(&self, index: u32) {
        if let Some(session) = self.session(index) {
            session.line.word(STATE).store(0, Ordering::Relaxed);
        }
        self.slots.free(index);
    }

    /// Slots that were ever used: the sweep and `show` look no further.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.slots.high_water()
    }

    /// Slots in use, dying ones included.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    /// The session in slot `index`, live or not.
    #[inline]
    #[must_use]
    pub fn session(&self, index: u32) -> Option<Session<'_>> {
        let line = self.lines.line(index)?;
        let cold = self.cold.get(index as usize)?;
        Some(Session { index, line, cold })
    }

    /// The name of a session that stays valid across quiescent points.
    #[must_use]
    pub fn handle(&self, session: &Session<'_>) -> Handle {
        self.slots.handle(session.index)
    }

    /// How long `session` may still be silent.
    #[must_use]
    pub fn idle_of(&self, session: &Session<'_>) -> Duration {
        self.idle_in(session, session.state())
    }

    /// TCP and SCTP sessions that wait for the other side's SYN or INIT ACK.
    #[must_use]
    pub fn half_open(&self) -> u32 {
        // Two workers may note what became of one session in the other order: for a moment it is one less than none.
        self.half_open.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    #[inline]
    fn holds(&self, value: u32, key: FlowKey) -> bool {
        self.lines.line(value >> 1).is_some_and(|line| {
            let (addresses, ports) = match facing_of(value) {
                Facing::Internal => (INTERNAL_ADDRESSES, INTERNAL_PORTS),
                Facing::External => (EXTERNAL_ADDRESSES, EXTERNAL_PORTS),
            };
            line.word(addresses).load(Ordering::Relaxed) == key.addresses
                && line.word(ports).load(Ordering::Relaxed) == key.ports
                && StateWord(line.word(STATE).load(Ordering::Relaxed)).lifecycle() == LIVE
        })
    }

    fn publish(&self, slot: u32, new: &NewSession, facing: Facing) -> Inserted {
        let key = new.key(facing);
        self.index.insert(self.hash(key), value_of(slot, facing), |value| self.holds(value, key))
    }

    /// When the session whose state word is `word` has been silent for too long.
    fn due(&self, session: &Session<'_>, word: u64) -> Tick {
        StateWord(word).last_seen().plus(self.idle_in(session, StateWord(word)))
    }

    fn idle_in(&self, session: &Session<'_>, word: StateWord) -> Duration {
        let key = session.internal_key();
        let service = match word.0 & INBOUND_FLAG {
            0 => key.destination().l4_port,
            _ => key.source().l4_port,
        };
        let state = TcpState::from_u8(word.tcp());
        self.idle_times.of(key.protocol(), service, state, word.0 & PRESSED_FLAG != 0)
    }

    /// Keeps the count of half-open sessions when a session goes from one state to another.
    fn count_half_open(&self, from: TcpState, to: TcpState) {
        match (from == TcpState::Init, to == TcpState::Init) {
            (true, false) => self.half_open.fetch_sub(1, Ordering::Relaxed),
            (false, true) => self.half_open.fetch_add(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// Takes a session whose state word was `last` out of the count of half-open ones.
    fn uncount(&self, session: &Session<'_>, last: StateWord) {
        let protocol = session.internal_key().protocol();
        if is_tracked(protocol) && TcpState::from_u8(last.tcp()) == TcpState::Init {
            self.half_open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes sure that the sweep looks at a session by `tick`; a look too many does no harm.
    fn schedule_by(&self, index: u32, tick: Tick) {
        if let Some(not_before) = self.not_before.get(index as usize) {
            not_before.fetch_min(tick.0, Ordering::Release);
        }
    }

    fn adopt(&self, parent: Option<Handle>) {
        if let Some(parent) = parent.and_then(|parent| self.by_handle(parent)) {
            parent.cold.children.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps the session that `handle` names alive, as one more child would.
    pub fn keep(&self, handle: Handle) {
        self.adopt(Some(handle));
    }

    /// Takes back one [`Sessions::keep`]: what is idle by now ends.
    pub fn leave(&self, handle: Handle) {
        if let Some(kept) = self.by_handle(handle) {
            kept.cold.children.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A child's end counts as a packet of its parent, which may have been silent while the child worked.
    fn disown(&self, parent: Option<Handle>, now: Tick) {
        let Some(parent) = parent.and_then(|parent| self.by_handle(parent)) else { return };
        let word = parent.line.word(STATE);
        let seen = word.load(Ordering::Relaxed);
        let refreshed = StateWord(seen).with(TcpState::from_u8(StateWord(seen).tcp()), now).0;
        // A lost race leaves a packet's own note, or `dying`, which the parent then deserves.
        let _lost = word.compare_exchange(seen, refreshed, Ordering::Relaxed, Ordering::Relaxed);
        parent.cold.children.fetch_sub(1, Ordering::Relaxed);
    }
}

const fn value_of(slot: u32, facing: Facing) -> u32 {
    match facing {
        Facing::Internal => slot << 1,
        Facing::External => (slot << 1) | 1,
    }
}

const fn facing_of(value: u32) -> Facing {
    if value & 1 == 0 { Facing::Internal } else { Facing::External }
}

const fn refusal(refused: Inserted) -> CreateError {
    match refused {
        Inserted::Exists(value) => CreateError::Exists(value >> 1),
        Inserted::New | Inserted::Full => CreateError::Full,
    }
}
