//! Counters: one writer each, read by the main thread at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drop_reason::DropReason;

/// A counter with one writer. Readers see a value that was true a moment ago.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread calls this: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Drops by reason.
#[derive(Debug)]
#[repr(align(64))]
pub struct DropCounters {
    counts: Box<[Counter]>,
}

impl Default for DropCounters {
    fn default() -> Self {
        Self { counts: DropReason::ALL.iter().map(|_| Counter::default()).collect() }
    }
}

impl DropCounters {
    /// Counts one packet that died of `reason`.
    pub fn count(&self, reason: DropReason) {
        if let Some(counter) = self.counts.get(reason as usize) {
            counter.add(1);
        }
    }

    /// Packets that died of `reason`.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.counts.get(reason as usize).map_or(0, Counter::value)
    }
}
