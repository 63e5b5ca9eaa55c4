//! Fixed-size, lock-free tables shared by all workers.
//!
//! Sessions, mappings and expectations stand on five blocks:
//!
//! - [`hash`]: keyed hashes of fixed-width keys, which nobody outside can make collide.
//! - [`index`]: from hash to record index; buckets of one cache line.
//! - [`slots`]: which record indexes are in use, and their generation.
//! - [`record`]: the records, cache lines of atomic words.
//! - [`quiescence`]: when an index that was taken out of a table may be used again.
//!
//! Every table has its size from the configuration and takes its memory at start; nothing here
//! allocates, locks or waits afterwards. Tables hold indexes, never pointers.
//!
//! # Life of an entry
//!
//! 1. [`slots::SlotPool::alloc`] gives an index nobody else uses.
//! 2. Its owner fills the record with relaxed stores.
//! 3. [`index::IndexTable::insert`] publishes the index under each of its keys (Release). From here
//!    any worker can find it (Acquire) and sees the filled record.
//! 4. Whoever ends it marks the record as dying by a compare-exchange in the record, so that exactly
//!    one thread goes on, and readers treat it as a miss.
//! 5. That thread takes all its keys out ([`index::IndexTable::remove`]) and puts the index into its
//!    [`quiescence::Retired`]. Other workers may still hold the index of a find of this burst.
//! 6. When every participant has passed a quiescent point, [`quiescence::Retired::reclaim`] hands the
//!    index back, and only now the slot ([`slots::SlotPool::free`]) and the L4 port are free again.
//!
//! An index that `insert` refused (`Exists`, `Full`) was never found by anyone: it may be freed at
//! once, provided that none of its other keys was ever in a table.
//!
//! What must survive a quiescent point (a reference from another record, a timer) is kept as a
//! [`slots::Handle`], whose generation tells a reused slot from the one that was meant.

#[cfg(all(test, not(any(loom, shuttle))))]
mod flood;
pub mod hash;
pub mod index;
#[cfg(all(test, loom))]
pub(crate) mod models;
pub mod quiescence;
pub mod record;
pub mod slots;
pub mod sync;
mod tags;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
