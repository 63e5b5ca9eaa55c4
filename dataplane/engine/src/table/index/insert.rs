//! How an entry gets into the table when several workers may insert the same key.
//!
//! A compare-exchange on an empty slot decides nothing, as the two may take different slots. So an
//! inserter publishes, verifies, commits:
//!
//! ```text
//!             publish: CAS                  commit: CAS
//!   empty ----------------> tentative ----------------------> committed
//!     ^                       |    |                              |
//!     |   withdraw, by owner  |    |  kill, by a rival            |  remove
//!     +-----------------------+----+------------------------------+
//! ```
//!
//! After it published, it looks at all its slots once more. A committed entry of the same key: it
//! withdraws and returns that. A tentative one: the lower position has priority; who has it kills the
//! other's slot, who has it not withdraws and starts over. No rival left: it commits, which fails if
//! it was killed meanwhile; then it starts over. Finds see committed slots only.
//!
//! *At most one commits.* Let A and B publish the same key. Both publish before they look, in the one order of all
//! `SeqCst` operations and barriers, so one of them, say A, sees B's slot as B published it or later. If it is committed,
//! A withdraws. If it is tentative, A withdraws or kills it; B's commit and A's kill are
//! compare-exchanges of the same word, so one fails: A's, and it starts over, or B's, and it does.
//! This holds whoever may kill whom; priority serves progress alone.
//!
//! *No slot is mistaken.* Only its owner publishes a value, and a value cannot be reused while a
//! remover's or reader's burst lasts ([`crate::table::quiescence`]). A kill that comes late can hit a later
//! publication of the same word by the same owner, which starts over and loses nothing.
//!
//! *It ends.* A rival ahead is given `POLITE_ROUNDS` rounds, in which the one with the lowest
//! position has nobody who may kill it and needs some 20 loads to commit. If it does not, its thread
//! is not running: from then on everybody kills, so nobody waits for a thread that sleeps. Whoever
//! has lost `ROUNDS` rounds all the same gives up with `Full`: an insert is at most 64 x 48 loads,
//! whatever the others do, and the packet's sender tries again.

use super::{
    COMMITTED, EMPTY, IndexTable, Inserted, Place, STATE_MASK, TENTATIVE, VALUE_MASK, tagged, value_of,
};
use crate::table::sync::{AtomicU64, Ordering, Writers, exchange_sequence, spin_loop};
use crate::table::tags::slots_tagged;

impl IndexTable {
    /// Puts `value` (below 2^31) under `hash`, unless `same_key` says that an entry has the same key.
    ///
    /// Several workers may insert the same key at once: one gets `New`, the others `Exists` with its
    /// value. The record of `value` must be filled before; `same_key` may be asked about a record that
    /// is being given up, so it reads atomics only.
    #[inline(never)]
    pub fn insert(&self, hash: u64, value: u32, same_key: impl Fn(u32) -> bool) -> Inserted {
        debug_assert!(value <= VALUE_MASK as u32);
        let place = self.place(hash);
        if self.writers == Writers::One {
            return self.insert_alone(place, value, same_key);
        }
        let tentative = place.word(TENTATIVE, value);
        for round in 0..ROUNDS {
            let is_polite = round < POLITE_ROUNDS;
            // The caller has just looked for the key in vain, and `settle` looks again.
            let guess = if round == 0 { self.vacancy(place) } else { None };
            let found = guess.map_or_else(
                || self.survey(place, is_polite, &same_key),
                |(position, slot)| Survey::Free(position, slot),
            );
            let (position, slot) = match found {
                Survey::Free(position, slot) => (position, slot),
                Survey::Exists(winner) => return Inserted::Exists(winner),
                Survey::Full => return Inserted::Full,
                Survey::Rival => {
                    spin_loop();
                    continue;
                }
            };
            // SeqCst, and in order before the loads of `settle`: of two that published, at least one sees the
            // other. And a Release, for the Acquire loads of `survey`, `settle` and `find_in`.
            if slot.compare_exchange(EMPTY, tentative, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                continue;
            }
            exchange_sequence();
            match self.settle(place, position, is_polite, &same_key) {
                Settled::Alone => {
                    // Fails when a rival killed us. Release: pairs with the Acquire load of `find_in`.
                    let committed = place.word(COMMITTED, value);
                    if slot
                        .compare_exchange(tentative, committed, Ordering::Release, Ordering::Relaxed)
                        .is_ok()
                    {
                        return Inserted::New;
                    }
                }
                Settled::Exists(winner) => {
                    withdraw(slot, tentative);
                    return Inserted::Exists(winner);
                }
                Settled::Yield => {
                    withdraw(slot, tentative);
                    spin_loop();
                }
            }
        }
        Inserted::Full
    }

    /// Looks for the key and for the slot to take.
    fn survey(&self, place: Place, is_polite: bool, same_key: &impl Fn(u32) -> bool) -> Survey<'_> {
        let mut has_rival = false;
        for (_, line) in self.lines(place) {
            for (_, word) in tagged(line, slots_tagged(line, place.tag as u32), place) {
                if same_key(value_of(word)) {
                    if word & STATE_MASK == COMMITTED {
                        return Survey::Exists(value_of(word));
                    }
                    has_rival = true;
                }
            }
        }
        if has_rival && is_polite {
            return Survey::Rival;
        }
        self.vacancy(place).map_or(Survey::Full, |(position, slot)| Survey::Free(position, slot))
    }

    /// Compares our published entry at `own` with all others.
    #[inline]
    fn settle(&self, place: Place, own: usize, is_polite: bool, same_key: &impl Fn(u32) -> bool) -> Settled {
        let others = self
            .lines(place)
            .fold(0, |others, (base, line)| others | (slots_tagged(line, place.tag as u32) << base));
        if others & !(1 << own) == 0 {
            return Settled::Alone;
        }
        self.settle_among(place, own, is_polite, same_key)
    }

    /// The same where other entries have the tag.
    #[cold]
    fn settle_among(
        &self,
        place: Place,
        own: usize,
        is_polite: bool,
        same_key: &impl Fn(u32) -> bool,
    ) -> Settled {
        for (base, line) in self.lines(place) {
            for (at, word) in tagged(line, slots_tagged(line, place.tag as u32), place) {
                let position = base + at;
                if position == own || !same_key(value_of(word)) {
                    continue;
                }
                if word & STATE_MASK == COMMITTED {
                    return Settled::Exists(value_of(word));
                }
                let has_priority = own < position || !is_polite;
                let is_killed = || {
                    let kill = |slot: &AtomicU64| {
                        slot.compare_exchange(word, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                    };
                    line.words.get(at).is_some_and(kill)
                };
                if !has_priority || !is_killed() {
                    return Settled::Yield;
                }
            }
        }
        Settled::Alone
    }
}

/// What an inserter finds before it publishes.
enum Survey<'a> {
    /// The key is not there; the slot to take.
    Free(usize, &'a AtomicU64),
    /// The key is there, with this value.
    Exists(u32),
    /// Another inserter of the key is ahead.
    Rival,
    /// No slot is empty.
    Full,
}

/// What an inserter finds after it published.
enum Settled {
    /// Nobody else can commit this key before us.
    Alone,
    /// The key is there, with this value.
    Exists(u32),
    /// A rival goes first.
    Yield,
}

/// Takes our tentative entry out, unless a rival has done so already.
fn withdraw(slot: &AtomicU64, tentative: u64) {
    let _ = slot.compare_exchange(tentative, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
}

/// See "It ends". A model has few preemptions, so few rounds suffice.
const ROUNDS: u32 = if cfg!(loom) { 9 } else { 64 };
const POLITE_ROUNDS: u32 = if cfg!(loom) { 3 } else { 16 };
