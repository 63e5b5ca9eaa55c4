//! The life of a session after it was made: packets that keep it, the sweep that ends it, children that hold it.
//!
//! The sweep looks at a session no earlier than `not_before` says; a packet that makes the time earlier says so after it
//! has changed the state word, and the sweep looks at that word again after it has set the time.

use std::time::Duration;

use super::record::STATE;
use super::{Ageing, Facing, Passage, Session, Sessions};
use crate::nat::key::FlowKey;
use crate::nat::state_word::{INBOUND_FLAG, LIVE, LOOSE_FLAG, PRESSED_FLAG, StateWord};
use crate::nat::tcp_state::{TcpEvent, TcpState, is_tracked};
use crate::table::slots::Handle;
use crate::table::sync::{AtomicU64, Ordering, Writers};
use crate::time::{Instant, Tick};

impl Sessions {
    /// Notes a packet of a hit session: TCP state and last-seen time. `true`: it is an outbound packet on a
    /// session that holds its mapping loosely; see [`crate::nat::Nat::keep_mapping`].
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
            match self.replace(word, old, new) {
                Ok(()) if next != state => {
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

    /// Notes an ordinary packet other than TCP, received at `tick`. Where flows are many each packet is the first of its
    /// tick.
    #[inline(always)]
    pub fn refresh(&self, passage: &Passage<'_>, tick: Tick) {
        let (seen, word) = passage.state();
        if seen.last_seen() == tick
            || !(self.idle_times.is_refreshed_by(passage.facing()) || seen.is_internal_only())
        {
            return;
        }
        // Another worker's packet that was faster has a time as good as ours.
        let _ = self.replace(word, seen.0, seen.seen_at(tick).0);
    }

    /// The same of TCP without SYN, FIN and RST: that keeps the session whichever side it came from.
    #[inline(always)]
    pub fn refresh_tcp(&self, passage: &Passage<'_>, tick: Tick, now: Instant) {
        let (seen, word) = passage.state();
        if TcpState::from_u8(seen.tcp()) == TcpState::Transitory {
            return self.revive(passage.index(), passage.facing(), now);
        }
        if seen.last_seen() != tick {
            let _ = self.replace(word, seen.0, seen.seen_at(tick).0);
        }
    }

    /// Of all states only a transitory one is left by such a segment.
    #[cold]
    #[inline(never)]
    fn revive(&self, index: u32, from: Facing, now: Instant) {
        if let Some(session) = self.session(index) {
            self.touch(&session, from, Some(TcpEvent::Other), now);
        }
    }

    /// Puts `new` in the place of `old`, or says what is there by now. Release: pairs with the swap of `age`, see `schedule_by`.
    #[inline(always)]
    fn replace(&self, word: &AtomicU64, old: u64, new: u64) -> Result<(), u64> {
        match self.writers {
            Writers::One => {
                word.store(new, Ordering::Release);
                Ok(())
            }
            Writers::Many => {
                word.compare_exchange(old, new, Ordering::Release, Ordering::Relaxed).map(|_| ())
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
        let has_children = session.children() > 0;
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
        let ends = match self.writers {
            Writers::Many => word.compare_exchange(seen, dying, Ordering::AcqRel, Ordering::Relaxed).is_ok(),
            Writers::One => {
                word.store(dying, Ordering::Release);
                true
            }
        };
        if !ends {
            return Ageing::Stays;
        }
        self.uncount(&session, StateWord(seen));
        Ageing::Expired
    }

    /// How long `session` may still be silent.
    #[must_use]
    pub fn idle_of(&self, session: &Session<'_>) -> Duration {
        self.idle_in(session.internal_key(), session.state())
    }

    /// TCP and SCTP sessions that wait for the other side's SYN or INIT ACK.
    #[must_use]
    pub fn half_open(&self) -> u32 {
        // Two workers may note what became of one session in the other order: for a moment it is one less than none.
        self.half_open.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    /// When the session whose state word is `word` has been silent for too long.
    fn due(&self, session: &Session<'_>, word: u64) -> Tick {
        StateWord(word).last_seen().plus(self.idle_in(session.internal_key(), StateWord(word)))
    }

    #[inline]
    pub(super) fn idle_in(&self, key: FlowKey, word: StateWord) -> Duration {
        let service = match word.0 & INBOUND_FLAG {
            0 => key.destination().l4_port,
            _ => key.source().l4_port,
        };
        let state = TcpState::from_u8(word.tcp());
        self.idle_times.of(key.protocol(), service, state, word.0 & PRESSED_FLAG != 0)
    }

    /// Keeps the count of half-open sessions when a session goes from one state to another.
    pub(super) fn count_half_open(&self, from: TcpState, to: TcpState) {
        match (from == TcpState::Init, to == TcpState::Init) {
            (true, false) => self.writers.add(&self.half_open, u32::MAX),
            (false, true) => self.writers.add(&self.half_open, 1),
            _ => {}
        }
    }

    /// Takes a session whose state word was `last` out of the count of half-open ones.
    pub(super) fn uncount(&self, session: &Session<'_>, last: StateWord) {
        let protocol = session.internal_key().protocol();
        if is_tracked(protocol) && TcpState::from_u8(last.tcp()) == TcpState::Init {
            self.writers.add(&self.half_open, u32::MAX);
        }
    }

    /// Makes sure that the sweep looks at a session by `tick`; a look too many does no harm.
    pub(super) fn schedule_by(&self, index: u32, tick: Tick) {
        let Some(not_before) = self.not_before.get(index as usize) else { return };
        if self.writers == Writers::Many {
            not_before.fetch_min(tick.0, Ordering::Release);
        } else if not_before.load(Ordering::Relaxed) > tick.0 {
            not_before.store(tick.0, Ordering::Relaxed);
        }
    }

    pub(super) fn adopt(&self, parent: Option<Handle>) {
        let parent = parent.and_then(|parent| self.by_handle(parent));
        if let Some(relations) = parent.and_then(|parent| parent.relations()) {
            relations.children.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps the session that `handle` names alive, as one more child would.
    pub fn keep(&self, handle: Handle) {
        self.adopt(Some(handle));
    }

    /// Takes back one [`Sessions::keep`]: what is idle by now ends.
    pub fn leave(&self, handle: Handle) {
        if let Some(relations) = self.by_handle(handle).and_then(|kept| kept.relations()) {
            relations.children.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A child's end counts as a packet of its parent, which may have been silent while the child worked.
    pub(super) fn disown(&self, parent: Option<Handle>, now: Tick) {
        let Some(parent) = parent.and_then(|parent| self.by_handle(parent)) else { return };
        let word = parent.line.word(STATE);
        let seen = word.load(Ordering::Relaxed);
        let refreshed = StateWord(seen).with(TcpState::from_u8(StateWord(seen).tcp()), now).0;
        // A lost race leaves a packet's own note, or `dying`, which the parent then deserves.
        let _lost = word.compare_exchange(seen, refreshed, Ordering::Relaxed, Ordering::Relaxed);
        if let Some(relations) = parent.relations() {
            relations.children.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
