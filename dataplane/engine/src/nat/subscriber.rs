//! Subscribers: internal hosts with state, what each one holds, and what it may hold (RFC 6888 REQ-4). Hosts of
//! two tenants are two subscribers, whatever their addresses.
//!
//! A subscriber exists while a session, a mapping or a block of ports is its own, each of which holds a
//! reference. Everything is counted when it is made and when it ends, never on a hit. A quota refuses
//! the new flow; what lives is never ended for its sake.
//!
//! The creation rate is a virtual schedule (GCRA) in one word: each session moves it on by one interval,
//! and a session that would move it more than a second ahead of the clock is refused.

use std::sync::atomic::Ordering;

use algate_config::Limits;

use crate::drop_reason::DropReason;
use crate::nat::counted::Counted;
use crate::nat::key::Host;
use crate::nat::ports::PortSpace;
use crate::table::hash::HashKey;
use crate::table::record::{Line, Lines};
use crate::time::Instant;

/// The table of subscribers, shared by all workers.
#[derive(Debug)]
pub struct Subscribers {
    table: Counted,
    lines: Lines,
    limits: Limits,
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
    /// Room for `capacity` subscribers, each bound by `limits`.
    #[must_use]
    pub fn new(capacity: usize, limits: Limits, key: HashKey) -> Self {
        Self { table: Counted::new(capacity, key), lines: Lines::new(capacity), limits }
    }

    /// A reference on the subscriber that this host is, which is made if it is new. `None`: the table is full.
    #[must_use]
    pub fn enter(&self, host: Host) -> Option<u32> {
        self.table.enter(host.to_u64(), |slot| {
            if let Some(line) = self.lines.line(slot) {
                line.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        })
    }

    /// Takes one more reference on a subscriber that the caller holds already.
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
    /// [`DropReason::QuotaSessions`] or [`DropReason::QuotaRate`]: nothing is counted.
    pub fn take_session(&self, slot: u32, space: PortSpace, now: Instant) -> Result<(), DropReason> {
        let Some(line) = self.lines.line(slot) else { return Err(DropReason::SubscriberTableFull) };
        let limits = &self.limits;
        let own = match space {
            PortSpace::Tcp => limits.sessions_tcp,
            PortSpace::Udp => limits.sessions_udp,
            PortSpace::Icmp => limits.sessions_icmp,
        };
        if !Tally(line, SESSIONS).take(space, own, limits.sessions) {
            return Err(DropReason::QuotaSessions);
        }
        if !is_in_time(line, limits.sessions_per_second, now) {
            Tally(line, SESSIONS).give(space);
            return Err(DropReason::QuotaRate);
        }
        Ok(())
    }

    /// Counts the end of a session.
    pub fn give_session(&self, slot: u32, space: PortSpace) {
        if let Some(line) = self.lines.line(slot) {
            Tally(line, SESSIONS).give(space);
        }
    }

    /// Counts a port taken.
    ///
    /// # Errors
    /// [`DropReason::QuotaPorts`]: nothing is counted.
    pub fn take_port(&self, slot: u32, space: PortSpace) -> Result<(), DropReason> {
        let Some(line) = self.lines.line(slot) else { return Err(DropReason::SubscriberTableFull) };
        let is_taken = Tally(line, PORTS).take(space, 0, self.limits.ports);
        if is_taken { Ok(()) } else { Err(DropReason::QuotaPorts) }
    }

    /// Counts a port given back.
    pub fn give_port(&self, slot: u32, space: PortSpace) {
        if let Some(line) = self.lines.line(slot) {
            Tally(line, PORTS).give(space);
        }
    }

    /// The external address that the subscriber is paired with.
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
    fn take(&self, space: PortSpace, limit: u32, limit_in_all: u32) -> bool {
        let shift = shift_of(space);
        let next = |word: u64| {
            let own = (word >> shift) & COUNT_MASK;
            let in_all: u64 = counts_of(word).iter().map(|count| u64::from(*count)).sum();
            let is_below = |count: u64, limit: u32| limit == 0 || count < u64::from(limit);
            let has_room = own < COUNT_MASK && is_below(own, limit) && is_below(in_all, limit_in_all);
            has_room.then(|| word + (1 << shift))
        };
        // Relaxed: a count, and nothing else, is agreed on.
        self.0.word(self.1).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn give(&self, space: PortSpace) {
        let before = self.0.word(self.1).fetch_sub(1 << shift_of(space), Ordering::Relaxed);
        debug_assert!((before >> shift_of(space)) & COUNT_MASK > 0, "given back more than taken");
    }

    fn counts(&self) -> [u32; 3] {
        counts_of(self.0.word(self.1).load(Ordering::Relaxed))
    }
}

/// Whether a session fits into the schedule of `rate` a second; moves it on if so.
fn is_in_time(line: &Line, rate: u32, now: Instant) -> bool {
    let Some(interval) = ONE_SECOND.checked_div(u64::from(rate)) else { return true };
    let now = now.as_nanos();
    let next = |due: u64| {
        let due = due.max(now) + interval;
        (due - now <= ONE_SECOND).then_some(due)
    };
    line.word(RATE).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
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
        Subscribers::new(4, limits, HashKey::from_seed([1, 2, 3, 4]))
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
