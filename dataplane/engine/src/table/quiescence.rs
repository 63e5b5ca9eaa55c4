//! When may an index be used again? Quiescent-state based reclamation.
//!
//! A reader of the tables is a *participant*. It takes no reference and writes nothing on a find; it
//! says once per burst that it holds no index any more. What was unlinked may be used again as soon as
//! every online participant has said so since.

use std::collections::VecDeque;
use std::sync::Arc;

use super::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// The epochs of all participants.
#[derive(Debug)]
pub struct Quiescence {
    epoch: Arc<Padded>,
    participants: Box<[Seat]>,
}

impl Quiescence {
    /// For `participants` threads that hold indexes: workers, ALG cores, the main thread.
    #[must_use]
    pub fn new(participants: usize) -> Self {
        Self {
            epoch: Arc::new(Padded(AtomicU64::new(FIRST_EPOCH))),
            participants: (0..participants).map(|_| Seat::default()).collect(),
        }
    }

    /// Participant `index`, online. `None` when there is no such, or it is taken: a participant is one
    /// thread's own. Dropping it takes it offline and lets it be taken again.
    #[must_use]
    pub fn participant(&self, index: usize) -> Option<Participant> {
        let seat = self.participants.get(index)?;
        // Acquire: pairs with the Release of `Participant::drop`.
        if seat.is_taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let participant = Participant {
            epoch: Arc::clone(&self.epoch),
            seen: Arc::clone(&seat.seen),
            is_taken: Arc::clone(&seat.is_taken),
        };
        participant.online();
        Some(participant)
    }

    /// Starts a new epoch. A participant that has seen it finds nothing that the caller unlinked
    /// before the call.
    fn advance(&self) -> u64 {
        // Release: the unlinking; pairs with the Acquire of `quiescent` and `online`.
        self.epoch.0.fetch_add(1, Ordering::Release) + 1
    }

    /// The oldest epoch that an online participant may still be in.
    fn oldest(&self) -> u64 {
        // Pairs with the fence of `online`: either we see the participant online, or it finds nothing
        // that we unlinked before.
        fence(Ordering::SeqCst);
        self.participants
            .iter()
            // Acquire: what the participant did with its indexes is over; pairs with the Release of
            // `quiescent` and `offline`.
            .map(|seat| seat.seen.0.load(Ordering::Acquire))
            .min()
            .unwrap_or(OFFLINE)
    }
}

/// One thread's place among the participants.
#[derive(Debug)]
pub struct Participant {
    epoch: Arc<Padded>,
    seen: Arc<Padded>,
    is_taken: Arc<AtomicBool>,
}

impl Participant {
    /// Says that this thread holds no index of before. Once per burst; a load and a store. Does
    /// nothing while offline.
    #[inline]
    pub fn quiescent(&self) {
        if self.seen.0.load(Ordering::Relaxed) == OFFLINE {
            return;
        }
        // Acquire: from here on nothing is found that was unlinked before that epoch; pairs with the
        // Release of `advance`.
        let epoch = self.epoch.0.load(Ordering::Acquire);
        // Release: all uses of indexes so far; pairs with the Acquire of `oldest`.
        self.seen.0.store(epoch, Ordering::Release);
    }

    /// Says that this thread holds no index and will touch no table until [`Self::online`]: before it
    /// sleeps or blocks, so that nobody waits for it.
    pub fn offline(&self) {
        // Release: as in `quiescent`.
        self.seen.0.store(OFFLINE, Ordering::Release);
    }

    /// Says that this thread may hold indexes again.
    pub fn online(&self) {
        // Acquire: as in `quiescent`.
        let epoch = self.epoch.0.load(Ordering::Acquire);
        // Release: uses of indexes before `offline`, as in `quiescent`.
        self.seen.0.store(epoch, Ordering::Release);
        // Pairs with the fence of `oldest`.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.offline();
        // Release: pairs with the Acquire of `Quiescence::participant`.
        self.is_taken.store(false, Ordering::Release);
    }
}

/// What one thread unlinked and may not use again yet: a queue of fixed capacity.
#[derive(Debug)]
pub struct Retired<T> {
    /// Oldest first. The last `unstamped` of them wait for their epoch.
    items: VecDeque<(u64, T)>,
    unstamped: usize,
    capacity: usize,
}

impl<T> Retired<T> {
    /// A queue for `capacity` items; the only allocation.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { items: VecDeque::with_capacity(capacity), unstamped: 0, capacity }
    }

    /// Queues `item`, which nobody can find any more. Gives it back when the queue is full: call
    /// [`Self::reclaim`] and try again after the next burst.
    pub fn retire(&mut self, item: T) -> Result<(), T> {
        if self.items.len() >= self.capacity {
            return Err(item);
        }
        self.items.push_back((OFFLINE, item));
        self.unstamped += 1;
        Ok(())
    }

    /// Hands to `free` each item that nobody can hold any more. Once per burst, after
    /// [`Participant::quiescent`]; costs one load when the queue is empty.
    pub fn reclaim(&mut self, quiescence: &Quiescence, mut free: impl FnMut(T)) {
        if self.items.is_empty() {
            return;
        }
        if self.unstamped > 0 {
            let epoch = quiescence.advance();
            for (stamp, _) in self.items.iter_mut().rev().take(self.unstamped) {
                *stamp = epoch;
            }
            self.unstamped = 0;
        }
        let oldest = quiescence.oldest();
        while self.items.front().is_some_and(|(stamp, _)| *stamp <= oldest) {
            if let Some((_, item)) = self.items.pop_front() {
                free(item);
            }
        }
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[derive(Debug)]
struct Seat {
    /// The epoch this participant has seen, or [`OFFLINE`].
    seen: Arc<Padded>,
    is_taken: Arc<AtomicBool>,
}

impl Default for Seat {
    fn default() -> Self {
        Self { seen: Arc::new(Padded(AtomicU64::new(OFFLINE))), is_taken: Arc::new(AtomicBool::new(false)) }
    }
}

/// A cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Padded(AtomicU64);

const FIRST_EPOCH: u64 = 1;
/// Later than any epoch: nobody waits for who is offline.
const OFFLINE: u64 = u64::MAX;
