//! Atomics of all state that workers share: std's, or a model checker's.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p algate-engine --lib loom_` runs the small models: one race of two or three
//! threads each, every interleaving up to a bound. `RUSTFLAGS="--cfg shuttle" cargo test -p algate-engine
//! --test engine shuttle_` runs the large ones: whole workers over tiny tables, random schedules; it takes every
//! ordering for `SeqCst`, so a missing barrier is loom's to find. Counters and neighbours keep std's atomics:
//! the former have one writer, the latter a lock, and neither checker interrupts them.
//!
//! What loom cannot see:
//!
//! - It treats a `SeqCst` load or store as acquire/release, so wherever the total order matters we use
//!   `fence(SeqCst)`, which it models, or [`exchange_sequence`].
//! - It remembers one last access per atomic. A thread that loads a word and then swaps it hides from
//!   loom that another has loaded the word before. So the models let the writer run first, in the
//!   main thread, and readers in threads of their own, and fail when too few executions were explored.
//! - A load never returns what is stored later. That a use comes after its reuse shows only in loom's
//!   own cells, so the models of reuse have one.
//! - It explores bounded preemptions, two or three threads and buckets of two slots, not eight: what
//!   needs more rivals than that is left to the stress tests with real threads.
//! - It does not model the wrap of the 32-bit tags and generations in [`super::slots`].

#[cfg(not(any(loom, shuttle)))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(shuttle)]
pub use shuttle::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

/// How many threads change a table while packets flow. Any number may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One: what it has just read stays as it is until it writes, so plain stores do, and no locked operation.
    One,
    /// Several.
    Many,
}

impl Writers {
    /// Replaces the number in `word` by what `next` makes of it; `false`: by nothing. `order` is that of the exchange: what
    /// one thread does it sees in order anyway.
    #[inline(always)]
    pub fn update(self, word: &AtomicU64, order: Ordering, mut next: impl FnMut(u64) -> Option<u64>) -> bool {
        match self {
            Self::Many => word.fetch_update(order, Ordering::Relaxed, next).is_ok(),
            Self::One => {
                let new = next(word.load(Ordering::Relaxed));
                new.is_some_and(|new| {
                    word.store(new, Ordering::Relaxed);
                    true
                })
            }
        }
    }

    /// Subtracts `count`, and says what was there before. `order` is that of the exchange, as in [`Writers::update`].
    #[inline(always)]
    pub fn subtract(self, word: &AtomicU64, count: u64, order: Ordering) -> u64 {
        match self {
            Self::Many => word.fetch_sub(count, order),
            Self::One => {
                let before = word.load(Ordering::Relaxed);
                word.store(before.wrapping_sub(count), Ordering::Relaxed);
                before
            }
        }
    }

    /// Adds `count`, modulo 2^32. Relaxed: the word stands for itself.
    #[inline(always)]
    pub fn add(self, word: &AtomicU32, count: u32) {
        match self {
            Self::Many => {
                word.fetch_add(count, Ordering::Relaxed);
            }
            Self::One => word.store(word.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed),
        }
    }
}

/// Between a `SeqCst` exchange and relaxed loads that must not be earlier. On x86 the exchange is a full barrier already,
/// and a second one would cost as much again.
#[inline(always)]
pub fn exchange_sequence() {
    #[cfg(any(loom, not(target_arch = "x86_64")))]
    fence(Ordering::SeqCst);
}

/// Asks the CPU to fetch the cache line of `target` into its second-level cache; `target` need not exist, for it is no
/// more than a hint. A core has more buffers for misses of that level than of the first: on Zen 4 a random line takes
/// 4 ns this way, where many are wanted at once, and 11 ns into the first.
#[inline(always)]
pub fn prefetch<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch never faults and reads or writes nothing that the program can see,
        // whatever its address; SSE belongs to every x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(target.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}

/// As [`prefetch`], into the first-level cache: for a line that has come near, shortly before it is used.
#[inline(always)]
pub fn prefetch_near<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(target.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}

/// `count` atomic words of value 0. The pages come from the system zeroed and untouched.
#[must_use]
pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU32]> {
    #[cfg(not(any(loom, shuttle)))]
    {
        let words = Box::<[AtomicU32]>::new_zeroed_slice(count);
        // SAFETY: `AtomicU32` has the layout of `u32`, of which all zeroes is a valid value.
        unsafe { words.assume_init() }
    }
    #[cfg(any(loom, shuttle))]
    (0..count).map(|_| AtomicU32::new(0)).collect()
}
