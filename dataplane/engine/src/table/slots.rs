//! Which record indexes are in use: a lock-free pool of `0..capacity`.
//!
//! Freed indexes form a stack linked through `next`; its head carries a tag that changes with every
//! operation, so that a pop which slept while its top was popped and pushed again fails instead of
//! linking a used index (ABA). The tag has 32 bits: a pop would have to sleep through exactly 2^32
//! operations to be fooled. Indexes never used before come from a counter, so that a new pool needs
//! no walk over its memory.
//!
//! An index that is out needs no link: in that place its owner may keep a word of its own ([`SlotPool::word`]).

#[cfg(debug_assertions)]
use super::sync::AtomicBool;
use super::sync::{AtomicU32, AtomicU64, Ordering, Writers, zeroed_words};

/// An index and the generation it was taken in, for what outlives a quiescent point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The slot.
    pub index: u32,
    /// [`SlotPool::generation`] of the slot at the time.
    pub generation: u32,
}

impl Handle {
    /// As one word, for a record.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// From [`Self::to_u64`].
    #[inline]
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// A pool of the indexes `0..capacity`.
#[derive(Debug)]
pub struct SlotPool {
    /// Tag in the upper half, link to the top of the stack in the lower.
    head: Padded,
    /// Indexes below it have been handed out at least once.
    fresh: AtomicU32,
    /// Indexes on the stack, or on their way there.
    freed: AtomicU32,
    /// Per slot: its owner's word, or the link to the one below it on the stack. A link is index + 1, or 0
    /// for none.
    next: Box<[AtomicU32]>,
    /// To find what is freed twice.
    #[cfg(debug_assertions)]
    out: Box<[AtomicBool]>,
    /// Empty where nobody keeps a [`Handle`].
    generations: Box<[AtomicU32]>,
    writers: Writers,
}

impl SlotPool {
    /// A pool of `capacity` indexes (at most 2^31), 4 bytes each, without generations. One thread, or several, take and
    /// free them.
    #[must_use]
    pub fn new(capacity: u32, writers: Writers) -> Self {
        Self {
            head: Padded(AtomicU64::new(0)),
            fresh: AtomicU32::new(0),
            freed: AtomicU32::new(0),
            next: zeroed_words(capacity.min(MAX_CAPACITY) as usize),
            #[cfg(debug_assertions)]
            out: (0..capacity.min(MAX_CAPACITY)).map(|_| AtomicBool::new(false)).collect(),
            generations: zeroed_words(0),
            writers,
        }
    }

    /// The same with generations, 8 bytes each.
    #[must_use]
    pub fn with_generations(capacity: u32, writers: Writers) -> Self {
        Self {
            generations: zeroed_words(capacity.min(MAX_CAPACITY) as usize),
            ..Self::new(capacity, writers)
        }
    }

    /// An index that nobody else has, or `None` when all are in use.
    #[inline]
    pub fn alloc(&self) -> Option<u32> {
        let index = self.pop().or_else(|| self.take_fresh())?;
        #[cfg(debug_assertions)]
        self.out.get(index as usize)?.store(true, Ordering::Relaxed);
        Some(index)
    }

    /// A word for who has `index`, until it is freed. It begins as anything.
    #[inline]
    #[must_use]
    pub fn word(&self, index: u32) -> Option<&AtomicU32> {
        self.next.get(index as usize)
    }

    /// Gives `index` back and starts its next generation. Only who has it may call this, and only
    /// when nobody can find it any more.
    pub fn free(&self, index: u32) {
        let Some(next) = self.next.get(index as usize) else {
            debug_assert!(false, "index {index} is not of this pool");
            return;
        };
        #[cfg(debug_assertions)]
        {
            let was_out = self.out.get(index as usize).is_some_and(|out| out.swap(false, Ordering::Relaxed));
            debug_assert!(was_out, "index {index} freed twice");
        }
        // Release: who sees the new generation sees what the old owner did before; pairs with the
        // Acquire of `generation`. Only the owner writes it, so no read-modify-write.
        if let Some(generation) = self.generations.get(index as usize) {
            generation.store(generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        }
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            next.store(head as u32, Ordering::Relaxed);
            let pushed = tagged(head, index + 1);
            // Release: the link and all the old owner did; pairs with the Acquire of `pop`.
            match self.replace_head(head, pushed, Ordering::Release) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        self.writers.add(&self.freed, 1);
    }

    /// How many indexes are out. While others allocate and free, off by what they do meanwhile.
    #[inline]
    #[must_use]
    pub fn in_use(&self) -> u32 {
        let freed = self.freed.load(Ordering::Relaxed);
        self.fresh.load(Ordering::Relaxed).saturating_sub(freed)
    }

    /// How many indexes have ever been out: none at or above it needs to be looked at.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// How many indexes there are.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.next.len() as u32
    }

    /// How often `index` has been freed, modulo 2^32.
    #[inline]
    #[must_use]
    pub fn generation(&self, index: u32) -> u32 {
        // Acquire: pairs with the Release of `free`.
        self.generations.get(index as usize).map_or(0, |generation| generation.load(Ordering::Acquire))
    }

    /// The handle of `index` in its present generation.
    #[inline]
    #[must_use]
    pub fn handle(&self, index: u32) -> Handle {
        Handle { index, generation: self.generation(index) }
    }

    /// Whether the slot of `handle` has not been freed since.
    #[inline]
    #[must_use]
    pub fn is_current(&self, handle: Handle) -> bool {
        self.generation(handle.index) == handle.generation
    }

    fn pop(&self) -> Option<u32> {
        // Acquire: pairs with the Release of `free`.
        let mut head = self.head.0.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            // Stale, or its new owner's word, when another pop was faster; then the tag has changed, and the exchange fails.
            let below = self.next.get(index as usize)?.load(Ordering::Relaxed);
            match self.replace_head(head, tagged(head, below), Ordering::Acquire) {
                Ok(_) => {
                    self.writers.add(&self.freed, u32::MAX);
                    return Some(index);
                }
                Err(now) => head = now,
            }
        }
    }

    /// Makes `new` the head where that is still `head`; else says what it is.
    #[inline]
    fn replace_head(&self, head: u64, new: u64, order: Ordering) -> Result<u64, u64> {
        if self.writers == Writers::One {
            self.head.0.store(new, Ordering::Relaxed);
            return Ok(head);
        }
        self.head.0.compare_exchange_weak(head, new, order, Ordering::Acquire)
    }

    #[inline]
    fn take_fresh(&self) -> Option<u32> {
        let capacity = self.capacity();
        if self.writers == Writers::One {
            let fresh = self.fresh.load(Ordering::Relaxed);
            return (fresh < capacity).then(|| {
                self.fresh.store(fresh + 1, Ordering::Relaxed);
                fresh
            });
        }
        self.fresh
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fresh| {
                (fresh < capacity).then_some(fresh + 1)
            })
            .ok()
    }
}

/// Keeps the head off the cache line of what is only read.
#[derive(Debug)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// `link` under the tag that follows that of `head`.
const fn tagged(head: u64, link: u32) -> u64 {
    ((head >> 32) as u32).wrapping_add(1) as u64 * (1 << 32) + link as u64
}

const MAX_CAPACITY: u32 = 1 << 31;
