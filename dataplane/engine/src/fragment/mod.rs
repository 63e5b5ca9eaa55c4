//! Fragmented datagrams: virtual reassembly, whole reassembly where it must be, fragmentation on the way out.
//!
//! RFC 791 section 3.2, RFC 815 (what a reassembler keeps), RFC 4787 section 11 (REQ-14: out of order too), RFC 3022
//! section 2.7, RFC 1858 and 3128 (tiny fragments), RFC 8900 section 3.7 (limits). CVE-2018-5391: every walk here is
//! bounded.
//!
//! Only the first fragment has the ports that name the session. It is looked up like any packet; what was
//! found is noted here, and every other fragment of the datagram is translated the same way (addresses
//! and identification only). No byte is copied and nothing is merged. What comes before the first fragment
//! is kept, frame and all, until that comes:
//!
//! ```text
//! state    on the first fragment          on a later fragment     leaves
//! Waiting  session: Opening               kept                    2 s after it began: kept ones dropped
//! Opening  -                              -                       at the end of the same packet's handling
//! Open     refused (it is a repetition)   forwarded at once       when every byte has passed
//! Whole    refused (it is a repetition)   kept                    when all are there: goes on as one packet
//! Refused  dropped                        dropped                 2 s after it began
//! ```
//!
//! `Whole` is for what algate itself must read: ALG flows, and packets to its own addresses. The packet must fit
//! into one frame.
//!
//! **Limits.** 64 fragments a datagram, `fragments.per_source` kept frames of one source, a quarter of the table
//! for one source, `fragments.kept` frames and `fragments.datagrams` datagrams per worker, `fragments.lifetime` from
//! the first arrival on. A new datagram is refused when a limit is reached; no other one is evicted for
//! it. Sources are counted under a keyed hash, so two of them may share a count, but nobody can choose with
//! whom. A frame that would have to be kept when it must not be condemns its datagram, whose other fragments
//! would be useless. Datagrams whose first fragment was refused are remembered in half of the table at most, so
//! that a flood of them leaves room for those that pass; beyond that their later fragments wait in vain.
//!
//! **Overlap** condemns the datagram (`extents`). Fragments that were forwarded before are not called
//! back; the receiver never gets the rest.
//!
//! **Concurrency.** One [`Fragments`] per worker, without locks. All fragments of a source belong to one worker, chosen
//! by a keyed hash of the source address; a worker that receives another one's hands it over through a
//! bounded queue of its own kind, so that a flood of fragments takes no room from ALG flows. Two alternatives
//! were weighed: to trust RSS, which most NICs compute over the addresses alone for any fragment, but not all do, nor
//! does a kernel interface; and a shared table, whose entries change with every fragment. With one worker,
//! nothing is handed over.
//!
//! **Not done**: ICMP time exceeded (code 1) for datagrams that never became whole, which only the final receiver
//! owes (RFC 1122 section 3.3.2; those to algate itself are pings); IPv6.

mod assemble;
pub mod cut;
mod datagrams;
mod extents;
pub mod identification;
mod kept;
pub mod piece;

use std::time::Duration;

use crate::counters::DropCounters;
use crate::drop_reason::DropReason;
use crate::fragment::datagrams::Datagrams;
pub use crate::fragment::kept::Kept;
use crate::fragment::kept::Pool;
use crate::fragment::piece::{DatagramKey, Piece};
use crate::nat::session::Facing;
use crate::packet::parse::Ipv4View;
use crate::table::hash::HashKey;
use crate::table::slots::Handle;
use crate::time::Instant;

/// How the fragments of a datagram are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The session of its first fragment.
    pub session: Handle,
    /// The side it came from.
    pub facing: Facing,
    /// The identification it leaves with; `None`: as it came.
    pub identification: Option<u16>,
}

/// What becomes of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first one: find its session, call [`Fragments::open`] or [`Fragments::gather`], and in any case
    /// [`Fragments::settle`].
    First(Datagram),
    /// It must wait: [`Fragments::keep`].
    Keep(Datagram),
    /// It goes where the first one went; then [`Fragments::finish`].
    Forward(Datagram, Route),
    /// It dies.
    Drop(DropReason),
}

/// A datagram in the table, valid until the next call of [`Fragments::admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram(u32);

/// The fragmented datagrams that one worker has in hand.
#[derive(Debug)]
pub struct Fragments<F> {
    datagrams: Datagrams,
    pool: Pool<F>,
    /// By source hash.
    sources: Box<[Share]>,
    kept_per_source: u16,
    datagrams_per_source: u32,
    lifetime: Duration,
    /// Datagrams that were refused with their first fragment.
    refused: usize,
    refused_limit: usize,
    key: HashKey,
}

/// Life of a datagram; the table is in the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Opening,
    Open(Route),
    Whole {
        /// Of the first fragment, with options.
        header_bytes: u16,
    },
    Refused(DropReason),
}

/// What one source has in hand.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    datagrams: u32,
    kept: u16,
}

impl<F> Fragments<F> {
    /// An empty table of the configured size.
    #[must_use]
    pub fn new(config: &algate_config::Fragments, key: &HashKey) -> Self {
        let sources = config.datagrams.next_power_of_two() * 4;
        Self {
            datagrams: Datagrams::new(config.datagrams),
            pool: Pool::new(config.kept),
            sources: vec![Share::default(); sources].into(),
            kept_per_source: config.per_source,
            datagrams_per_source: u32::try_from(config.datagrams.div_ceil(4)).unwrap_or(u32::MAX),
            lifetime: config.lifetime,
            refused: 0,
            refused_limit: config.datagrams / 2,
            key: key.clone(),
        }
    }

    /// Decides about the fragment that carries `piece` of the datagram `key`. Kept frames that die with it are
    /// counted in `drops`.
    pub fn admit(&mut self, key: DatagramKey, piece: &Piece, now: Instant, drops: &DropCounters) -> Verdict {
        let at = match self.find_current(key, now, drops) {
            Some(at) => at,
            None => match self.begin(key, piece, now) {
                Ok(at) => at,
                Err(reason) => return Verdict::Drop(reason),
            },
        };
        let Some(datagram) = self.datagrams.get_mut(at) else {
            return Verdict::Drop(DropReason::FragmentTableFull);
        };
        if let State::Refused(reason) = datagram.state {
            return Verdict::Drop(reason);
        }
        match datagram.extents.add(piece) {
            Ok(()) => {}
            Err(DropReason::FragmentDuplicate) => return Verdict::Drop(DropReason::FragmentDuplicate),
            Err(reason) => {
                self.refuse(Datagram(at), reason, drops);
                return Verdict::Drop(reason);
            }
        }
        match datagram.state {
            State::Waiting if piece.is_first() => {
                datagram.state = State::Opening;
                Verdict::First(Datagram(at))
            }
            State::Waiting | State::Whole { .. } => {
                let source = datagram.source;
                match self.may_keep(source) {
                    Ok(()) => Verdict::Keep(Datagram(at)),
                    Err(reason) => {
                        self.refuse(Datagram(at), reason, drops);
                        Verdict::Drop(reason)
                    }
                }
            }
            State::Open(route) => Verdict::Forward(Datagram(at), route),
            State::Opening => Verdict::Drop(DropReason::FragmentRefused),
            State::Refused(reason) => Verdict::Drop(reason),
        }
    }

    /// The first fragment has been handled: if that opened nothing, the datagram dies with it.
    pub fn settle(&mut self, at: Datagram, drops: &DropCounters) {
        if self.datagrams.get(at.0).is_some_and(|datagram| datagram.state == State::Opening) {
            self.refuse(at, DropReason::FragmentRefused, drops);
            self.refused += 1;
            if self.refused > self.refused_limit {
                self.forget(at.0);
            }
        }
    }

    /// From now on fragments are forwarded along `route`; those kept are to be taken with
    /// [`Fragments::take_kept`].
    pub fn open(&mut self, datagram: Datagram, route: Route) {
        if let Some(datagram) = self.datagrams.get_mut(datagram.0) {
            datagram.state = State::Open(route);
        }
    }

    /// From now on fragments are kept until all are there. `first`: the first one, which is kept next.
    pub fn gather(&mut self, datagram: Datagram, first: &Ipv4View) {
        if let Some(datagram) = self.datagrams.get_mut(datagram.0) {
            datagram.state = State::Whole { header_bytes: first.l4 - first.l3 };
        }
    }

    /// Keeps a fragment. Returns whether it completes a datagram that is gathered: then take them all.
    ///
    /// # Errors
    ///
    /// There is no room, and the datagram is condemned.
    pub fn keep(&mut self, at: Datagram, kept: Kept<F>, drops: &DropCounters) -> Result<bool, DropReason> {
        let room = self.datagrams.get(at.0).map(|datagram| self.may_keep(datagram.source));
        if let Err(reason) = room.unwrap_or(Err(DropReason::FragmentTableFull)) {
            self.refuse(at, reason, drops);
            return Err(reason);
        }
        let Some(datagram) = self.datagrams.get_mut(at.0) else { return Err(DropReason::FragmentTableFull) };
        if self.pool.push(&mut datagram.kept, kept).is_err() {
            return Err(DropReason::FragmentTableFull);
        }
        datagram.kept_count += 1;
        if let Some(share) = self.sources.get_mut(datagram.source as usize) {
            share.kept += 1;
        }
        Ok(matches!(datagram.state, State::Whole { .. }) && datagram.extents.is_complete())
    }

    /// Takes the oldest kept fragment of a datagram.
    pub fn take_kept(&mut self, datagram: Datagram) -> Option<Kept<F>> {
        let datagram = self.datagrams.get_mut(datagram.0)?;
        let kept = self.pool.pop(&mut datagram.kept)?;
        datagram.kept_count -= 1;
        if let Some(share) = self.sources.get_mut(datagram.source as usize) {
            share.kept -= 1;
        }
        Some(kept)
    }

    /// Forgets a datagram all of whose fragments have come, so that its identification may be used again.
    pub fn finish(&mut self, datagram: Datagram) {
        let is_done = self
            .datagrams
            .get(datagram.0)
            .is_some_and(|datagram| datagram.extents.is_complete() && datagram.kept_count == 0);
        if is_done {
            self.forget(datagram.0);
        }
    }

    /// Condemns a datagram: its kept fragments die now, what still comes dies of `reason`.
    pub fn refuse(&mut self, at: Datagram, reason: DropReason, drops: &DropCounters) {
        while self.take_kept(at).is_some() {
            drops.count(reason);
        }
        if let Some(datagram) = self.datagrams.get_mut(at.0) {
            datagram.state = State::Refused(reason);
        }
    }

    /// Forgets datagrams whose time is over; at most 64 at a time. Returns how many there were.
    pub fn expire(&mut self, now: Instant, drops: &DropCounters) -> usize {
        for expired in 0..EXPIRED_PER_TURN {
            match self.datagrams.oldest() {
                Some((at, datagram)) if datagram.expires <= now => self.time_out(at, drops),
                _ => return expired,
            }
        }
        EXPIRED_PER_TURN
    }

    /// Frames that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.pool.in_use()
    }

    /// Datagrams in the table, condemned ones included.
    #[must_use]
    pub fn datagrams(&self) -> usize {
        self.datagrams.in_use()
    }

    /// A datagram whose time is over is not the one that `key` means now.
    fn find_current(&mut self, key: DatagramKey, now: Instant, drops: &DropCounters) -> Option<u32> {
        let at = self.datagrams.find(key.hash(&self.key), key)?;
        if self.datagrams.get(at)?.expires > now {
            return Some(at);
        }
        self.time_out(at, drops);
        None
    }

    fn begin(&mut self, key: DatagramKey, piece: &Piece, now: Instant) -> Result<u32, DropReason> {
        // As many sources as a power of two below 2^32.
        let source = (key.source_hash(&self.key) & (self.sources.len() as u64 - 1)) as u32;
        if !piece.is_first() {
            // Without room for it, it leaves no trace.
            self.may_keep(source)?;
        }
        let share = self.sources.get_mut(source as usize).ok_or(DropReason::FragmentTableFull)?;
        if share.datagrams >= self.datagrams_per_source {
            return Err(DropReason::FragmentSourceLimit);
        }
        let expires = now.plus(self.lifetime);
        let at = self.datagrams.insert(key.hash(&self.key), key, source, expires);
        let at = at.ok_or(DropReason::FragmentTableFull)?;
        share.datagrams += 1;
        Ok(at)
    }

    fn may_keep(&self, source: u32) -> Result<(), DropReason> {
        let kept = self.sources.get(source as usize).map_or(0, |share| share.kept);
        if kept >= self.kept_per_source {
            return Err(DropReason::FragmentSourceLimit);
        }
        if self.pool.is_full() {
            return Err(DropReason::FragmentTableFull);
        }
        Ok(())
    }

    fn time_out(&mut self, at: u32, drops: &DropCounters) {
        while self.take_kept(Datagram(at)).is_some() {
            drops.count(DropReason::FragmentTimeout);
        }
        self.forget(at);
    }

    fn forget(&mut self, at: u32) {
        let Some(datagram) = self.datagrams.get(at) else { return };
        if datagram.state == State::Refused(DropReason::FragmentRefused) {
            self.refused -= 1;
        }
        if let Some(share) = self.sources.get_mut(datagram.source as usize) {
            share.datagrams -= 1;
        }
        self.datagrams.remove(at);
    }
}

const EXPIRED_PER_TURN: usize = 64;
/// No record.
const NONE: u32 = u32::MAX;
