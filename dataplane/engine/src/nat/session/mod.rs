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

mod ageing;
mod creation;
mod parts;
mod passage;
mod record;
mod slots;

use std::num::{NonZeroU32, NonZeroU64};

use algate_alg::Direction;

use crate::drop_reason::DropReason;
use crate::nat::idle_times::IdleTimes;
use crate::nat::key::FlowKey;
use crate::nat::state_word::{LIVE, PRESSED_FLAG, StateWord};
use crate::nat::tcp_state::{TcpEvent, TcpState, TcpTimeout, is_tracked};
use crate::nat::tcp_window::{Fit, Segment, TcpWindow, is_heeded};
use crate::packet::parse::Ipv4View;
use crate::packet::rewrite::TcpNumbers;
use crate::packet::sctp::Chunk;
use crate::table::hash::HashKey;
use crate::table::index::{IndexTable, Inserted, Load};
use crate::table::record::{Line, Lines};
use crate::table::slots::Handle;
use crate::table::sync::prefetch;
use crate::table::sync::{AtomicU32, Ordering, Writers};
use crate::time::{Instant, Tick};

pub use self::creation::{AlgOwner, CreateError, NewSession};
use self::parts::{Parts, Relations};
pub use self::passage::Passage;
pub use self::record::Session;
use self::record::{EXTERNAL_ADDRESSES, EXTERNAL_PORTS, INTERNAL_ADDRESSES, INTERNAL_PORTS, STATE};
pub use self::slots::Capacity;
use self::slots::{Need, Slots};

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

/// Memory that a session takes in each table, bytes, by part; TCP windows and relations are there for some only.
pub const PARTS: [(&str, usize); 7] = [
    ("line", size_of::<Line>()),
    ("two keys", KEYS_BYTES),
    ("subscriber", 4),
    ("slot, when it was made", 8),
    ("ageing", 4),
    ("TCP windows", size_of::<TcpWindow>()),
    ("relations", size_of::<Relations>()),
];

/// Memory that a TCP session takes in all tables, bytes: all parts but the relations.
pub const RECORD_BYTES: u64 = (KEYS_BYTES + size_of::<Line>() + size_of::<TcpWindow>() + 4 + 8 + 4) as u64;

const KEYS_BYTES: usize = Load::HITS.bytes(2);

/// The table of sessions, shared by all workers.
#[derive(Debug)]
pub struct Sessions {
    index: IndexTable,
    /// Their words: tick of creation.
    slots: Slots,
    lines: Lines,
    parts: Parts,
    /// Tick before which the sweep need not look at a session.
    not_before: Box<[AtomicU32]>,
    key: HashKey,
    idle_times: IdleTimes,
    writers: Writers,
    /// TCP sessions in [`TcpState::Init`].
    half_open: AtomicU32,
    half_open_max: u32,
}

impl Sessions {
    /// Room for as many sessions as `capacity` says, of which `half_open` may be half-open TCP sessions.
    #[must_use]
    pub fn new(
        capacity: Capacity,
        half_open: usize,
        key: HashKey,
        idle_times: IdleTimes,
        writers: Writers,
    ) -> Self {
        Self {
            index: IndexTable::with_load(capacity.sessions * 2, Load::HITS, writers),
            slots: Slots::new(capacity, writers),
            lines: Lines::new(capacity.sessions),
            parts: Parts::new(capacity),
            not_before: (0..capacity.sessions).map(|_| AtomicU32::new(0)).collect(),
            key,
            idle_times,
            writers,
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

    /// Brings the session of `candidate`, which [`Sessions::prefetch_record`] has fetched, closer still.
    #[inline(always)]
    pub fn prefetch_near(&self, candidate: Candidate) {
        self.lines.prefetch_near(candidate.value() >> 1);
    }

    /// As [`Sessions::prefetch_record`], of the second bucket, which that has started to fetch.
    #[must_use]
    pub fn prefetch_second(&self, hash: u64) -> Option<Candidate> {
        let value = self.index.peek_second(hash)?;
        self.lines.prefetch(value >> 1);
        Some(Candidate::new(value))
    }

    /// Makes what was made late findable: see [`IndexTable::catch_up`].
    #[inline(always)]
    pub fn catch_up(&self) -> bool {
        self.index.catch_up()
    }

    /// Starts to fetch what [`Sessions::create`] looks at for a `key` that nobody else can have, and returns its hash.
    #[inline]
    #[must_use]
    pub fn prefetch_own(&self, key: FlowKey) -> u64 {
        let hash = self.hash(key);
        self.index.prefetch_absent(hash);
        hash
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
        // By its slot alone a session could be found while it is being made.
        let value = candidate?.value();
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

    /// The hash of the key that `facing` sees.
    #[inline]
    fn hash_of(&self, new: &NewSession, facing: Facing) -> u64 {
        let [internal, external] = new.hashes;
        let (known, key) = match facing {
            Facing::Internal => (internal, new.internal_key),
            Facing::External => (external, new.external_key),
        };
        debug_assert!(known.is_none_or(|known| known.get() == self.hash(key)), "not the hash of {key:?}");
        known.map_or_else(|| self.hash(key), NonZeroU64::get)
    }

    /// Makes a session and publishes both its keys, of which the caller has just looked for the initiator's in vain.
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
        let slot = self.slots.alloc(Need::of(new))?;
        let Some(session) = self.session(slot) else {
            self.slots.free(slot);
            return Err(CreateError::Full);
        };
        let is_pressed = is_tracked && half_open >= self.half_open_max - self.half_open_max / 4;
        if let Some(not_before) = self.not_before.get(slot as usize) {
            // However long this thread sleeps meanwhile, the sweep leaves alone what is not made yet.
            not_before.store(u32::MAX, Ordering::Relaxed);
        }
        if let Some(created) = self.slots.word(slot) {
            created.store(Tick::of(now).0, Ordering::Relaxed);
        }
        let pressed = if is_pressed { PRESSED_FLAG } else { 0 };
        let state = StateWord(StateWord::first(new, Tick::of(now)).0 | pressed);
        session.fill(new, state);
        if is_tracked {
            // Before anybody can find it, whose packet would uncount it.
            self.writers.add(&self.half_open, 1);
        }
        // The key of replies first: who finds the session by the other may get a reply at once. It can wait where this is the
        // only thread, which gets no reply before it catches up.
        let from = new.initiator;
        let (replies, value) = (new.key(from.opposite()), value_of(slot, from.opposite()));
        let reply_hash = self.hash_of(new, from.opposite());
        let same_key = |other| self.holds(other, replies);
        let published = match new.is_alone && from == Facing::Internal {
            true => self.index.insert_late(reply_hash, value, same_key),
            false => self.index.insert(reply_hash, value, same_key),
        };
        match published {
            Inserted::New => {}
            refused => {
                self.end(&session);
                session.line.word(STATE).store(0, Ordering::Relaxed);
                self.slots.free(slot);
                return Err(refusal(refused));
            }
        }
        let (first, value) = (new.key(from), value_of(slot, from));
        let published = match first == replies {
            // From an endpoint to itself: it would be its own answer.
            true => Inserted::Exists(value),
            false => {
                self.index.insert_absent(self.hash_of(new, from), value, |other| self.holds(other, first))
            }
        };
        match published {
            Inserted::New => {
                self.adopt(new.parent);
                self.schedule_by(slot, Tick::of(now).plus(self.idle_in(new.internal_key, state)));
                Ok(session)
            }
            refused => {
                self.end(&session);
                self.index.remove(reply_hash, value_of(slot, from.opposite()));
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
        let Some(windows) = self.parts.windows.get(session.index as usize) else { return Some(event) };
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
        let Some(windows) = self.parts.windows.get(session.index as usize) else {
            return Ok(TcpEvent::Other);
        };
        let state = TcpState::from_u8(session.state().tcp());
        windows.tags().judge(facing, state.timeout() == TcpTimeout::Transitory, chunk, tag)
    }

    /// The TCP windows of a session, when its slot has some.
    #[must_use]
    pub fn windows(&self, session: &Session<'_>) -> Option<&TcpWindow> {
        self.parts.windows.get(session.index as usize)
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

    /// Brings the TCP windows of the session that `candidate` probably is into the cache: a quarter of them lie in two lines.
    #[inline]
    pub fn prefetch_windows(&self, candidate: Candidate) {
        if let Some(windows) = self.parts.windows.get((candidate.value() >> 1) as usize) {
            prefetch(windows);
            prefetch(windows.last_word());
        }
    }

    /// Notes an ordinary segment without SYN and RST in the windows of the session in slot `index`. Apart, and with what lies in
    /// registers, so that packets other than TCP pay nothing.
    #[inline(never)]
    pub fn note_data(&self, index: u32, from: Facing, numbers: TcpNumbers, acknowledges: bool) {
        if let Some(windows) = self.parts.windows.get(index as usize) {
            windows.observe_data(from, numbers, acknowledges);
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

    /// Packets from the inside no longer find the session, those from the outside do: another one has that flow from now on.
    pub fn let_go(&self, session: &Session<'_>) {
        let key = session.internal_key();
        self.index.remove(self.hash(key), value_of(session.index, Facing::Internal));
    }

    /// Packets from the inside find the session again, unless they find another one.
    pub fn take_back(&self, session: &Session<'_>) {
        let key = session.internal_key();
        let value = value_of(session.index, Facing::Internal);
        let inserted = self.index.insert(self.hash(key), value, |other| self.holds(other, key));
        if inserted == Inserted::New && !session.is_live() {
            // It was unlinked meanwhile.
            self.index.remove(self.hash(key), value);
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

    /// Rows of slots that were ever used: the sweep and `show` look no further.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.slots.rows(ROW_SLOTS)
    }

    /// The slots of row number `row` that were ever used, at most 192.
    pub fn row(&self, row: u32) -> impl Iterator<Item = u32> + use<> {
        self.slots.row(row, ROW_SLOTS)
    }

    /// Slots in use, dying ones included.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.slots.in_use(Need::Nothing)
    }

    /// Those of them that have TCP windows.
    #[must_use]
    pub fn tcp_in_use(&self) -> u32 {
        self.slots.in_use(Need::Windows)
    }

    /// Those of them that have room for relations.
    #[must_use]
    pub fn related_in_use(&self) -> u32 {
        self.slots.in_use(Need::Relations)
    }

    /// The session in slot `index`, live or not.
    #[inline]
    #[must_use]
    pub fn session(&self, index: u32) -> Option<Session<'_>> {
        Some(Session { index, line: self.lines.line(index)?, parts: &self.parts })
    }

    /// Tick of creation of a session.
    #[must_use]
    pub fn created(&self, session: &Session<'_>) -> Tick {
        Tick(self.slots.word(session.index).map_or(0, |created| created.load(Ordering::Relaxed)))
    }

    /// The name of a session that stays valid across quiescent points.
    #[must_use]
    pub fn handle(&self, session: &Session<'_>) -> Handle {
        self.slots.handle(session.index)
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

/// Slots of each class in a row.
const ROW_SLOTS: u32 = 64;
