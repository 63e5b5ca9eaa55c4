//! Slots of sessions, by what belongs to them: the lower its number, the more a slot has.
//!
//! ```text
//! 0 .. related        line, TCP windows, relations
//! related .. windowed line, TCP windows
//! windowed .. all     line
//! ```
//!
//! So most sessions take no memory for what they never need, and where a part lies follows from the slot alone. A session
//! takes the plainest slot that will do, and a richer one when those are used up: while any slot is free a session
//! without needs is never refused.

use super::{CreateError, NewSession};
use crate::nat::tcp_state::is_tracked;
use crate::table::slots::{Handle, SlotPool};
use crate::table::sync::{AtomicU32, Writers};

/// How many sessions there may be, and how many of them with more than a translation.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// All of them.
    pub sessions: usize,
    /// Those that may be TCP or SCTP sessions.
    pub tcp: usize,
    /// Those that may belong to an ALG, to another session, or to two mappings; they have windows too.
    pub related: usize,
}

impl Capacity {
    /// Room for `sessions` of any kind.
    #[must_use]
    pub const fn of_any_kind(sessions: usize) -> Self {
        Self { sessions, tcp: sessions, related: sessions }
    }

    /// The same with no more of any kind than there are in all.
    pub(super) fn bounded(self) -> Self {
        let related = self.related.min(self.sessions);
        Self { sessions: self.sessions, tcp: self.tcp.clamp(related, self.sessions), related }
    }
}

/// What a session needs of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Relations,
    Windows,
    Nothing,
}

impl Need {
    pub(super) fn of(new: &NewSession) -> Self {
        if new.parent.is_some() || new.alg_owner.is_some() || new.remote_mapping.is_some() {
            Self::Relations
        } else if is_tracked(new.internal_key.protocol()) {
            Self::Windows
        } else {
            Self::Nothing
        }
    }
}

/// Which slots are in use.
#[derive(Debug)]
pub(super) struct Slots {
    /// The richest first.
    classes: [Class; 3],
}

#[derive(Debug)]
struct Class {
    first: u32,
    pool: SlotPool,
}

impl Slots {
    /// All free.
    pub(super) fn new(capacity: Capacity, writers: Writers) -> Self {
        let Capacity { sessions, tcp, related } = capacity.bounded();
        let class = |from: usize, to: usize| {
            let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
            Class { first: number(from), pool: SlotPool::with_generations(number(to - from), writers) }
        };
        Self { classes: [class(0, related), class(related, tcp), class(tcp, sessions)] }
    }

    /// A slot that will do.
    #[inline]
    pub(super) fn alloc(&self, need: Need) -> Result<u32, CreateError> {
        let [related, windowed, plain] = &self.classes;
        match need {
            Need::Relations => related.alloc().ok_or(CreateError::RelatedFull),
            Need::Windows => windowed.alloc().or_else(|| related.alloc()).ok_or(CreateError::TcpFull),
            Need::Nothing => plain
                .alloc()
                .or_else(|| windowed.alloc())
                .or_else(|| related.alloc())
                .ok_or(CreateError::Full),
        }
        .map_err(|error| {
            if self.in_use(Need::Nothing) >= self.capacity() { CreateError::Full } else { error }
        })
    }

    /// See [`SlotPool::free`].
    pub(super) fn free(&self, index: u32) {
        let class = self.class_of(index);
        class.pool.free(index - class.first);
    }

    /// See [`SlotPool::word`].
    pub(super) fn word(&self, index: u32) -> Option<&AtomicU32> {
        let class = self.class_of(index);
        class.pool.word(index - class.first)
    }

    pub(super) fn handle(&self, index: u32) -> Handle {
        let class = self.class_of(index);
        Handle { index, generation: class.pool.generation(index - class.first) }
    }

    pub(super) fn is_current(&self, handle: Handle) -> bool {
        self.handle(handle.index) == handle
    }

    /// Slots in use that have what `need` says.
    pub(super) fn in_use(&self, need: Need) -> u32 {
        let classes = match need {
            Need::Relations => 1,
            Need::Windows => 2,
            Need::Nothing => 3,
        };
        self.classes.iter().take(classes).map(|class| class.pool.in_use()).sum()
    }

    /// Row number `row` of every class: `length` slots of each, those that were ever used.
    pub(super) fn row(&self, row: u32, length: u32) -> impl Iterator<Item = u32> + use<> {
        let part = |class: &Class| {
            let used = class.pool.high_water();
            let first = row.saturating_mul(length).min(used);
            class.first + first..class.first + first.saturating_add(length).min(used)
        };
        let [related, windowed, plain] = &self.classes;
        part(related).chain(part(windowed)).chain(part(plain))
    }

    /// How many rows there are.
    pub(super) fn rows(&self, length: u32) -> u32 {
        self.classes.iter().map(|class| class.pool.high_water().div_ceil(length)).max().unwrap_or(0)
    }

    fn capacity(&self) -> u32 {
        self.classes.iter().map(|class| class.pool.capacity()).sum()
    }

    fn class_of(&self, index: u32) -> &Class {
        let [related, windowed, plain] = &self.classes;
        if index >= plain.first {
            plain
        } else if index >= windowed.first {
            windowed
        } else {
            related
        }
    }
}

impl Class {
    fn alloc(&self) -> Option<u32> {
        // Without the look a class that is not there would cost two atomic operations.
        if self.pool.capacity() == 0 {
            return None;
        }
        self.pool.alloc().map(|slot| self.first + slot)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(Capacity { sessions: 6, tcp: 3, related: 1 }, Writers::Many)
    }

    #[test]
    fn a_session_takes_the_plainest_slot_that_will_do_and_a_richer_one_when_those_are_used_up() {
        let slots = slots();
        let take = |need| slots.alloc(need).expect("there is room");
        assert_eq!([(); 3].map(|()| take(Need::Nothing)), [3, 4, 5]);
        assert_eq!(take(Need::Windows), 1);
        assert_eq!([(); 2].map(|()| take(Need::Nothing)), [2, 0]);
        assert_eq!(slots.in_use(Need::Nothing), 6);
        for need in [Need::Nothing, Need::Windows, Need::Relations] {
            assert_eq!(slots.alloc(need), Err(CreateError::Full), "{need:?}");
        }
    }

    #[test]
    fn a_kind_that_is_used_up_is_told_from_a_full_table() {
        let slots = slots();
        assert_eq!(slots.alloc(Need::Relations), Ok(0));
        assert_eq!(slots.alloc(Need::Relations), Err(CreateError::RelatedFull));
        assert_eq!([(); 2].map(|()| slots.alloc(Need::Windows)), [Ok(1), Ok(2)]);
        assert_eq!(slots.alloc(Need::Windows), Err(CreateError::TcpFull));
        assert_eq!([Need::Relations, Need::Windows].map(|need| slots.in_use(need)), [1, 3]);
        assert_eq!(slots.alloc(Need::Nothing), Ok(3));
    }

    #[test]
    fn a_freed_slot_is_of_another_generation_whatever_its_class() {
        let slots = slots();
        for need in [Need::Nothing, Need::Windows, Need::Relations] {
            let slot = slots.alloc(need).expect("there is room");
            let handle = slots.handle(slot);
            assert!(slots.is_current(handle));
            slots.free(slot);
            assert!(!slots.is_current(handle) && slots.handle(slot).index == slot);
        }
    }

    #[test]
    fn rows_hold_every_used_slot_once() {
        let slots = Slots::new(Capacity { sessions: 100, tcp: 60, related: 7 }, Writers::Many);
        let needs = [(Need::Relations, 7), (Need::Windows, 20), (Need::Nothing, 33)];
        let mut taken: Vec<u32> = needs
            .iter()
            .flat_map(|(need, count)| (0..*count).map(|_| slots.alloc(*need).expect("there is room")))
            .collect();
        let mut seen: Vec<u32> = (0..slots.rows(8)).flat_map(|row| slots.row(row, 8)).collect();
        taken.sort_unstable();
        seen.sort_unstable();
        assert_eq!((seen, slots.rows(8)), (taken, 5));
    }

    #[test]
    fn more_of_a_kind_than_there_are_in_all_means_all() {
        let slots = Slots::new(Capacity { sessions: 2, tcp: 9, related: 9 }, Writers::Many);
        assert_eq!([(); 3].map(|()| slots.alloc(Need::Relations)), [Ok(0), Ok(1), Err(CreateError::Full)]);
    }
}
