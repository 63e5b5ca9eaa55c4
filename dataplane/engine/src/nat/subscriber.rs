//! Subscribers: internal hosts with state, what each one holds, and what it may hold (RFC 6888 REQ-4). Hosts of
//! two tenants are two subscribers, whatever their addresses.
//!
//! A subscriber exists while a session, a mapping or a block of ports is its own, each of which holds a
//! reference. Everything is counted when it is made and when it ends, never on a hit. A quota refuses
//! the new flow; what lives is never ended for its sake.
//!
//! The creation rate is a virtual schedule (GCRA) in one word: each session moves it on by one interval,
//! and a session that would move it more than a second ahead of the clock is refused.
//!
//! Memory (RFC 6888 REQ-5) is that of its sessions and mappings in all tables. Which quotas are full is kept in a word, so
//! that the event is recorded once; a quota has room again when an eighth of it is free.

use algate_config::Limits;

use crate::drop_reason::DropReason;
use crate::nat::counted::Counted;
use crate::nat::key::Host;
use crate::nat::ports::PortSpace;
use crate::nat::{mapping, session};
use crate::table::hash::HashKey;
use crate::table::record::{Line, Lines};
use crate::table::sync::{Ordering, Writers};
use crate::time::Instant;

/// The table of subscribers, shared by all workers.
#[derive(Debug)]
pub struct Subscribers {
    table: Counted,
    lines: Lines,
    limits: Limits,
    /// What the ALGs may have outstanding for one, all its control sessions together.
    most_expectations: u64,
    writers: Writers,
}

/// What one subscriber holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Whose holdings they are.
    pub host: Host,
    /// TCP, UDP and ICMP sessions.
    pub sessions: [u32; 3],
    /// TCP, UDP and ICMP ports.
    pub ports: [u32; 3],
    /// Its external address, once it has one.
    pub external: Option<u32>,
}

impl Subscribers {
    /// Room for `capacity` subscribers, each bound by `limits`, and for `most_expectations` of each.
    #[must_use]
    pub fn new(
        capacity: usize,
        limits: Limits,
        most_expectations: u32,
        key: HashKey,
        writers: Writers,
    ) -> Self {
        Self {
            table: Counted::new(capacity, key, writers),
            lines: Lines::new(capacity),
            limits,
            most_expectations: u64::from(most_expectations),
            writers,
        }
    }

    /// A reference on the subscriber that this host is, which is made if it is new. `None`: the table is full.
    #[inline]
    #[must_use]
    pub fn enter(&self, host: Host) -> Option<u32> {
        self.table.enter(host.to_u64(), |slot| {
            if let Some(line) = self.lines.line(slot) {
                line.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        })
    }

    /// A reference on the subscriber in `slot`, which was this host's at an earlier packet of the burst: the slot is nobody
    /// else's before the next quiescent point. `false`: it is ending, or was.
    #[inline]
    #[must_use]
    pub fn enter_again(&self, slot: u32, host: Host) -> bool {
        self.table.key(slot) == Some(host.to_u64()) && self.table.hold(slot)
    }

    /// Starts to fetch what [`Subscribers::enter`] looks at first.
    pub fn prefetch(&self, host: Host) {
        self.table.prefetch(host.to_u64());
    }

    /// Takes one more reference on a subscriber that the caller holds already.
    #[inline]
    pub fn hold(&self, slot: u32) {
        let is_held = self.table.hold(slot);
        debug_assert!(is_held, "subscriber {slot} has ended under its holder");
    }

    /// Gives a reference back. `true`: it was the last, and the caller retires the slot.
    #[must_use]
    pub fn release(&self, slot: u32) -> bool {
        self.table.release(slot)
    }

    /// Gives the slot of an ended subscriber back, after the grace period. Returns the external address
    /// it was paired with.
    pub fn free(&self, slot: u32) -> Option<u32> {
        let paired = self.holdings(slot).and_then(|holdings| holdings.external);
        self.table.free(slot);
        paired
    }

    /// Counts a new session.
    ///
    /// # Errors
    /// [`DropReason::QuotaSessions`], [`DropReason::QuotaMemory`] or [`DropReason::QuotaRate`]: nothing is
    /// counted.
    #[inline]
    pub fn take_session(&self, slot: u32, space: PortSpace, now: Instant) -> Result<(), DropReason> {
        let Some(line) = self.lines.line(slot) else { return Err(DropReason::SubscriberTableFull) };
        let limits = &self.limits;
        let own = match space {
            PortSpace::Tcp => limits.sessions_tcp,
            PortSpace::Udp => limits.sessions_udp,
            PortSpace::Icmp => limits.sessions_icmp,
        };
        if !Tally(line, SESSIONS).take(space, own, limits.sessions, self.writers) {
            return Err(DropReason::QuotaSessions);
        }
        if !self.take_memory(line, session::RECORD_BYTES) {
            Tally(line, SESSIONS).give(space, self.writers);
            return Err(DropReason::QuotaMemory);
        }
        if !is_in_time(line, limits.sessions_per_second, now, self.writers) {
            Tally(line, SESSIONS).give(space, self.writers);
            self.give_memory(line, session::RECORD_BYTES);
            return Err(DropReason::QuotaRate);
        }
        Ok(())
    }

    /// Counts the end of a session.
    pub fn give_session(&self, slot: u32, space: PortSpace) {
        if let Some(line) = self.lines.line(slot) {
            Tally(line, SESSIONS).give(space, self.writers);
            self.give_memory(line, session::RECORD_BYTES);
        }
    }

    /// Counts a port taken, and the mapping's memory.
    ///
    /// # Errors
    /// [`DropReason::QuotaPorts`] or [`DropReason::QuotaMemory`]: nothing is counted.
    #[inline]
    pub fn take_port(&self, slot: u32, space: PortSpace) -> Result<(), DropReason> {
        let Some(line) = self.lines.line(slot) else { return Err(DropReason::SubscriberTableFull) };
        if !Tally(line, PORTS).take(space, 0, self.limits.ports, self.writers) {
            return Err(DropReason::QuotaPorts);
        }
        if !self.take_memory(line, mapping::RECORD_BYTES) {
            Tally(line, PORTS).give(space, self.writers);
            return Err(DropReason::QuotaMemory);
        }
        Ok(())
    }

    /// Counts a port given back.
    pub fn give_port(&self, slot: u32, space: PortSpace) {
        if let Some(line) = self.lines.line(slot) {
            Tally(line, PORTS).give(space, self.writers);
            self.give_memory(line, mapping::RECORD_BYTES);
        }
    }

    #[inline]
    fn take_memory(&self, line: &Line, bytes: u64) -> bool {
        let limit = self.limits.memory_bytes;
        let next = |held: u64| (held + bytes <= limit).then_some(held + bytes);
        limit == 0 || self.writers.update(line.word(MEMORY), Ordering::Relaxed, next)
    }

    fn give_memory(&self, line: &Line, bytes: u64) {
        if self.limits.memory_bytes > 0 {
            self.writers.subtract(line.word(MEMORY), bytes, Ordering::Relaxed);
        }
    }

    /// Notes that a quota is full, which packets die of `reason` for. `true`: it was not noted yet.
    #[must_use]
    pub fn begin_shortage(&self, slot: u32, reason: DropReason) -> bool {
        let (Some(line), Some(flag)) = (self.lines.line(slot), flag_of(reason)) else { return false };
        let levels = (total(line, SESSIONS) << SESSIONS_LEVEL) | (total(line, PORTS) << PORTS_LEVEL);
        let next = |word: u64| (word & flag == 0).then_some(levels | (word & FLAGS) | flag);
        // Relaxed, here and below: the word stands for itself.
        line.word(SHORT).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Forgets the quotas that have room again at `now`, or all of them at the subscriber's end, and tells
    /// what packets died of. One load while nothing is short.
    #[inline]
    pub fn end_shortages(&self, slot: u32, now: Option<Instant>) -> impl Iterator<Item = DropReason> + use<> {
        let ended = self.lines.line(slot).map_or(0, |line| match line.word(SHORT).load(Ordering::Relaxed) {
            0 => 0,
            word => self.relieve(line, word, now),
        });
        let quotas = if ended == 0 { &[] } else { QUOTAS.as_slice() };
        quotas.iter().zip(0..).filter(move |(_, bit)| ended & (1 << bit) != 0).map(|(reason, _)| *reason)
    }

    #[cold]
    fn relieve(&self, line: &Line, word: u64, now: Option<Instant>) -> u64 {
        let limits = &self.limits;
        let has_room = |reason: DropReason| {
            let Some(now) = now else { return true };
            match reason {
                DropReason::QuotaSessions => {
                    let own = [limits.sessions_tcp, limits.sessions_udp, limits.sessions_icmp];
                    let counts = counts_of(line.word(SESSIONS).load(Ordering::Relaxed));
                    counts.iter().zip(own).all(|(count, limit)| is_relieved((*count).into(), limit.into()))
                        && is_relieved(total(line, SESSIONS), limits.sessions.into())
                }
                DropReason::QuotaPorts => {
                    total(line, PORTS) <= below((word >> PORTS_LEVEL) & LEVEL)
                        && is_relieved(total(line, PORTS), limits.ports.into())
                }
                DropReason::QuotaRate => {
                    line.word(RATE).load(Ordering::Relaxed) <= now.as_nanos() + ONE_SECOND / 2
                }
                DropReason::QuotaMemory => {
                    is_relieved(line.word(MEMORY).load(Ordering::Relaxed), limits.memory_bytes)
                }
                _ => total(line, SESSIONS) <= below((word >> SESSIONS_LEVEL) & LEVEL),
            }
        };
        let set = QUOTAS.iter().zip(0..).filter(|(_, bit)| word & (1 << bit) != 0);
        let ended: u64 = set.filter(|(reason, _)| has_room(**reason)).map(|(_, bit)| 1 << bit).sum();
        let left = if word & FLAGS == ended { 0 } else { word & !ended };
        // Another thread that changed it meanwhile has a fresher view.
        let is_ours =
            line.word(SHORT).compare_exchange(word, left, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_ours { ended } else { 0 }
    }

    /// The host that the subscriber in `slot` is, live or not.
    #[must_use]
    pub fn host(&self, slot: u32) -> Option<Host> {
        self.table.key(slot).map(Host::from_u64)
    }

    /// Counts an expectation of one of its control sessions. `false`: it has as many as it may.
    #[must_use]
    pub fn take_expectation(&self, slot: u32) -> bool {
        let Some(line) = self.lines.line(slot) else { return false };
        let next = |count: u64| (count < self.most_expectations).then_some(count + 1);
        // Relaxed: a count, and nothing else, is agreed on.
        line.word(EXPECTATIONS).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Counts the end of an expectation.
    pub fn give_expectation(&self, slot: u32) {
        if let Some(line) = self.lines.line(slot) {
            let before = line.word(EXPECTATIONS).fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "given back more than taken");
        }
    }

    /// The external address that the subscriber is paired with.
    #[inline]
    #[must_use]
    pub fn paired(&self, slot: u32) -> Option<u32> {
        let word = self.lines.line(slot)?.word(PAIRED).load(Ordering::Relaxed);
        (word & PAIRED_FLAG != 0).then_some(word as u32)
    }

    /// Pairs the subscriber with an external address, unless another worker just has. `true`: it was us.
    #[must_use]
    pub fn pair(&self, slot: u32, address: u32) -> bool {
        let Some(line) = self.lines.line(slot) else { return false };
        let word = PAIRED_FLAG | u64::from(address);
        // Relaxed: the word stands for itself.
        line.word(PAIRED).compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// What the subscriber in `slot` holds, live or not.
    #[must_use]
    pub fn holdings(&self, slot: u32) -> Option<Holdings> {
        let line = self.lines.line(slot)?;
        Some(Holdings {
            host: Host::from_u64(self.table.key(slot)?),
            sessions: Tally(line, SESSIONS).counts(),
            ports: Tally(line, PORTS).counts(),
            external: self.paired(slot),
        })
    }

    /// Live subscribers, with what they hold.
    pub fn iter(&self) -> impl Iterator<Item = Holdings> {
        (0..self.table.high_water())
            .filter(|slot| self.table.references(*slot) > 0)
            .filter_map(|slot| self.holdings(slot))
    }

    /// Slots in use, ending ones included.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.table.in_use()
    }
}

/// Three counts of 21 bits in one word: TCP, UDP, ICMP.
struct Tally<'a>(&'a Line, usize);

impl Tally<'_> {
    /// Counts one more, unless the class or all classes together are at their limit; 0: no limit.
    #[inline]
    fn take(&self, space: PortSpace, limit: u32, limit_in_all: u32, writers: Writers) -> bool {
        let shift = shift_of(space);
        let next = |word: u64| {
            let own = (word >> shift) & COUNT_MASK;
            let in_all = || counts_of(word).iter().map(|count| u64::from(*count)).sum::<u64>();
            let has_room = own < COUNT_MASK
                && (limit == 0 || own < u64::from(limit))
                && (limit_in_all == 0 || in_all() < u64::from(limit_in_all));
            has_room.then(|| word + (1 << shift))
        };
        // Relaxed: the word stands for itself.
        writers.update(self.0.word(self.1), Ordering::Relaxed, next)
    }

    fn give(&self, space: PortSpace, writers: Writers) {
        let before = writers.subtract(self.0.word(self.1), 1 << shift_of(space), Ordering::Relaxed);
        debug_assert!((before >> shift_of(space)) & COUNT_MASK > 0, "given back more than taken");
    }

    fn counts(&self) -> [u32; 3] {
        counts_of(self.0.word(self.1).load(Ordering::Relaxed))
    }
}

/// Whether a session fits into the schedule of `rate` a second; moves it on if so.
#[inline]
fn is_in_time(line: &Line, rate: u32, now: Instant, writers: Writers) -> bool {
    let Some(interval) = ONE_SECOND.checked_div(u64::from(rate)) else { return true };
    let now = now.as_nanos();
    let next = |due: u64| {
        let due = due.max(now) + interval;
        (due - now <= ONE_SECOND).then_some(due)
    };
    writers.update(line.word(RATE), Ordering::Relaxed, next)
}

fn total(line: &Line, word: usize) -> u64 {
    counts_of(line.word(word).load(Ordering::Relaxed)).iter().map(|count| u64::from(*count)).sum()
}

/// Whether an eighth of a quota is free; 0: there is none.
const fn is_relieved(held: u64, limit: u64) -> bool {
    limit == 0 || held <= below(limit)
}

/// An eighth less, one at least.
const fn below(level: u64) -> u64 {
    let margin = level / 8;
    level.saturating_sub(if margin == 0 { 1 } else { margin })
}

fn flag_of(reason: DropReason) -> Option<u64> {
    QUOTAS.iter().position(|quota| *quota == reason).map(|bit| 1 << bit)
}

fn counts_of(word: u64) -> [u32; 3] {
    SPACES.map(|space| ((word >> shift_of(space)) & COUNT_MASK) as u32)
}

const fn shift_of(space: PortSpace) -> u32 {
    match space {
        PortSpace::Tcp => 0,
        PortSpace::Udp => 21,
        PortSpace::Icmp => 42,
    }
}

const SPACES: [PortSpace; 3] = [PortSpace::Tcp, PortSpace::Udp, PortSpace::Icmp];
const COUNT_MASK: u64 = (1 << 21) - 1;
const PAIRED_FLAG: u64 = 1 << 32;
const ONE_SECOND: u64 = 1_000_000_000;

const SESSIONS: usize = 0;
const PORTS: usize = 1;
/// When the schedule of sessions stands, nanoseconds.
const RATE: usize = 2;
const PAIRED: usize = 3;
/// Bytes, while there is a quota on them.
const MEMORY: usize = 4;
/// Quotas that are full (bits 0..8, in the order of [`QUOTAS`]), with the number of all sessions (8..36) and
/// ports (36..64) when the last one became so.
const SHORT: usize = 5;
const FLAGS: u64 = 0xff;
const SESSIONS_LEVEL: u32 = 8;
const PORTS_LEVEL: u32 = 36;
const LEVEL: u64 = (1 << 28) - 1;

/// What packets that find a quota full die of.
const QUOTAS: [DropReason; 5] = [
    DropReason::QuotaSessions,
    DropReason::QuotaPorts,
    DropReason::QuotaRate,
    DropReason::QuotaMemory,
    DropReason::QuotaMappingMemory,
];
/// Expectations of its control sessions.
const EXPECTATIONS: usize = 6;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::TenantId;

    fn host_at(address: u32) -> Host {
        Host { tenant: TenantId::NONE, address }
    }

    fn subscribers(limits: Limits) -> Subscribers {
        Subscribers::new(4, limits, 64, HashKey::from_seed([1, 2, 3, 4]), Writers::Many)
    }

    #[test]
    fn c_03_each_protocol_and_all_together_have_their_quota() {
        let limits = Limits { sessions: 5, sessions_tcp: 3, ports: 2, ..Limits::default() };
        let (table, now) = (subscribers(limits), Instant::default());
        let host = table.enter(host_at(0x0a00_0002)).expect("there is room");
        for space in [PortSpace::Tcp; 3] {
            assert_eq!(table.take_session(host, space, now), Ok(()));
        }
        assert_eq!(table.take_session(host, PortSpace::Tcp, now), Err(DropReason::QuotaSessions));
        assert_eq!(table.take_session(host, PortSpace::Udp, now), Ok(()));
        assert_eq!(table.take_session(host, PortSpace::Icmp, now), Ok(()));
        assert_eq!(table.take_session(host, PortSpace::Udp, now), Err(DropReason::QuotaSessions));
        table.give_session(host, PortSpace::Tcp);
        assert_eq!(table.take_session(host, PortSpace::Udp, now), Ok(()));
        assert_eq!(table.take_port(host, PortSpace::Tcp), Ok(()));
        assert_eq!(table.take_port(host, PortSpace::Icmp), Ok(()));
        assert_eq!(table.take_port(host, PortSpace::Udp), Err(DropReason::QuotaPorts));
        let namesake = Host { tenant: TenantId(7), address: 0x0a00_0002 };
        for other in [host_at(0x0a00_0003), namesake] {
            let other = table.enter(other).expect("there is room");
            assert_eq!(table.take_session(other, PortSpace::Tcp, now), Ok(()), "others are not affected");
        }
    }

    #[test]
    fn c_03_the_creation_rate_lets_a_second_s_worth_through_at_once_and_no_more() {
        let table = subscribers(Limits { sessions_per_second: 100, ..Limits::default() });
        let host = table.enter(host_at(1)).expect("there is room");
        let passed = |now: Instant| {
            (0..1_000).filter(|_| table.take_session(host, PortSpace::Udp, now).is_ok()).count()
        };
        let start = Instant::from_nanos(5_000_000_000);
        assert_eq!(passed(start), 100);
        assert_eq!(passed(start.plus(Duration::from_millis(250))), 25);
        assert_eq!(passed(start.plus(Duration::from_secs(60))), 100);
        assert_eq!(table.holdings(host).expect("it is there").sessions, [0, 225, 0]);
    }

    #[test]
    fn a_reused_slot_begins_anew() {
        let table = subscribers(Limits::default());
        let host = table.enter(host_at(1)).expect("there is room");
        assert_eq!(table.take_port(host, PortSpace::Tcp), Ok(()));
        assert!(table.pair(host, 77) && !table.pair(host, 78));
        assert!(table.release(host));
        assert_eq!(table.free(host), Some(77));
        let again = table.enter(host_at(2)).expect("there is room");
        let fresh = Holdings { host: host_at(2), sessions: [0; 3], ports: [0; 3], external: None };
        assert_eq!((again, table.holdings(again)), (host, Some(fresh)));
    }

    #[test]
    fn two_threads_never_pass_a_quota_together() {
        let table = Arc::new(subscribers(Limits { sessions: 1_000, ..Limits::default() }));
        let host = table.enter(host_at(1)).expect("there is room");
        let threads = [PortSpace::Tcp, PortSpace::Udp].map(|space| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || {
                (0..900).filter(|_| table.take_session(host, space, Instant::default()).is_ok()).count()
            })
        });
        let taken: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(taken, 1_000);
    }

    proptest! {
        #[test]
        fn counts_follow_any_order_of_taking_and_giving(
            steps in proptest::collection::vec((0_usize..3, any::<bool>()), 0..200),
        ) {
            let limits = Limits { sessions: 20, sessions_udp: 9, ..Limits::default() };
            let table = subscribers(limits);
            let host = table.enter(host_at(1)).expect("there is room");
            let mut model = [0_u32; 3];
            for (class, takes) in steps {
                if takes {
                    let has_room = model.iter().sum::<u32>() < 20 && (class != 1 || model[1] < 9);
                    let taken = table.take_session(host, SPACES[class], Instant::default());
                    prop_assert_eq!(taken.is_ok(), has_room);
                    model[class] += u32::from(has_room);
                } else if model[class] > 0 {
                    table.give_session(host, SPACES[class]);
                    model[class] -= 1;
                }
                prop_assert_eq!(table.holdings(host).expect("it is there").sessions, model);
            }
        }
    }
}
