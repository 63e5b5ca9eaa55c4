//! Loom models of the tables; see [`super::sync`] for how to run them and what they cannot show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use loom::{cell::UnsafeCell, thread};

use super::index::{IndexTable, Inserted};
use super::quiescence::{Quiescence, Retired};
use super::record::Lines;
use super::slots::SlotPool;
use super::sync::{Ordering, Writers};

/// A table of one bucket pair and its records; word 0 of a record is its key.
struct Flows {
    table: IndexTable,
    records: Lines,
    /// Stands for the plain memory of record 0: loom reports a use that is not ordered before its
    /// reuse, even where no value betrays it.
    memory: UnsafeCell<()>,
}

// SAFETY: nobody dereferences `memory`; loom itself checks its accesses.
unsafe impl Sync for Flows {}

impl Flows {
    fn new() -> Arc<Self> {
        Self::written_by(Writers::Many)
    }

    fn written_by(writers: Writers) -> Arc<Self> {
        let table = IndexTable::with_capacity(1, writers);
        Arc::new(Self { table, records: Lines::new(3), memory: UnsafeCell::new(()) })
    }

    /// Both buckets are full of other keys: the next entry goes to the stash.
    fn crowded() -> Arc<Self> {
        let flows = Self::new();
        for (hash, value) in FILLERS {
            assert_eq!(flows.table.insert(hash, value, |_| panic!("no such tag")), Inserted::New);
        }
        flows
    }

    fn key(&self, index: u32) -> u64 {
        self.records.line(index).unwrap().words[0].load(Ordering::Relaxed)
    }

    fn fill(&self, index: u32, key: u64) {
        self.records.line(index).unwrap().words[0].store(key, Ordering::Relaxed);
    }

    fn insert(&self, index: u32) -> Inserted {
        self.fill(index, KEY);
        self.table.insert(HASH, index, |other| self.key(other) == KEY)
    }

    fn find(&self) -> Option<u32> {
        self.table.find(HASH, |other| self.key(other) == KEY)
    }

    fn entries(&self) -> Vec<u32> {
        let mut entries = Vec::new();
        self.table.for_each(|value| entries.push(value));
        entries.retain(|entry| FILLERS.iter().all(|(_, filler)| entry != filler));
        entries
    }
}

/// A thread that finds nothing, or record 0 with its key.
fn reader_of_record_0(flows: &Arc<Flows>) -> thread::JoinHandle<()> {
    let flows = Arc::clone(flows);
    thread::spawn(move || match flows.find() {
        None => {}
        Some(index) => assert_eq!((index, flows.key(index)), (0, KEY)),
    })
}

#[test]
fn loom_what_one_writer_inserts_others_find_filled() {
    model(Some(3), || {
        let flows = Flows::written_by(Writers::One);
        let reader = reader_of_record_0(&flows);
        assert_eq!(flows.insert(0), Inserted::New);
        assert_eq!(flows.insert(1), Inserted::Exists(0));
        reader.join().unwrap();
        assert_eq!(flows.entries(), [0]);
        assert!(flows.table.remove(HASH, 0));
        assert_eq!(flows.entries(), []);
    });
}

#[test]
fn loom_what_one_writer_puts_late_others_find_filled() {
    model(Some(3), || {
        let flows = Flows::written_by(Writers::One);
        let reader = reader_of_record_0(&flows);
        flows.fill(0, KEY);
        assert_eq!(flows.table.insert_late(HASH, 0, |_| false), Inserted::New);
        assert!(flows.table.catch_up());
        reader.join().unwrap();
        assert_eq!(flows.find(), Some(0));
    });
}

/// Inserters of one key at once. Checks that at most one of them commits and that whoever is told of
/// a winner is told of that one.
fn race_of_inserters(others: &[u32], preemptions: usize, may_give_up: bool) {
    let others = others.to_vec();
    model(Some(preemptions), move || {
        let flows = Flows::new();
        let threads: Vec<_> = others
            .iter()
            .map(|&index| {
                let other = Arc::clone(&flows);
                thread::spawn(move || other.insert(index))
            })
            .collect();
        let mut outcomes = vec![flows.insert(0)];
        outcomes.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        let entries = flows.entries();
        assert!(entries.len() <= 1, "{entries:?}");
        for (index, outcome) in (0..).zip(outcomes) {
            match outcome {
                Inserted::New => assert_eq!(entries, [index]),
                Inserted::Exists(winner) => assert_eq!(entries, [winner], "seen by {index}"),
                Inserted::Full => assert!(may_give_up, "{index} gave up"),
            }
        }
    });
}

#[test]
fn loom_two_inserters_of_a_key_agree_on_one_winner() {
    race_of_inserters(&[1], 5, false);
}

/// One preemption: with two it takes longer than all other models together, for whoever loses its first round looks again.
#[test]
fn loom_three_inserters_of_a_key_agree_on_one_winner() {
    race_of_inserters(&[1, 2], 1, false);
}

/// With enough preemptions at the worst moments, an inserter can lose all its rounds.
#[test]
fn loom_two_inserters_never_both_commit() {
    race_of_inserters(&[1], 6, true);
}

#[test]
fn loom_two_inserters_that_find_both_buckets_full_agree_on_one_winner() {
    race_over_full_buckets(false, 3);
}

/// One that looks before the removal and one that looks after it: one goes to the stash, the other does not.
#[test]
fn loom_inserters_into_the_stash_and_a_freed_slot_agree_on_one_winner() {
    race_over_full_buckets(true, 2);
}

fn race_over_full_buckets(is_slot_freed: bool, preemptions: usize) {
    model(Some(preemptions), move || {
        let flows = Flows::crowded();
        let other = Arc::clone(&flows);
        let thread = thread::spawn(move || other.insert(1));
        if is_slot_freed {
            let [.., (hash, value)] = FILLERS;
            assert!(flows.table.remove(hash, value));
        }
        let outcomes = [flows.insert(0), thread.join().unwrap()];
        let entries = flows.entries();
        match outcomes {
            [Inserted::New, Inserted::Exists(0)] => assert_eq!(entries, [0]),
            [Inserted::Exists(1), Inserted::New] => assert_eq!(entries, [1]),
            _ => panic!("{outcomes:?}, {entries:?}"),
        }
        assert_eq!(flows.find(), entries.first().copied());
    });
}

#[test]
fn loom_a_found_record_is_filled() {
    found_is_filled(Flows::new);
}

#[test]
fn loom_a_record_found_in_the_stash_is_filled() {
    found_is_filled(Flows::crowded);
}

fn found_is_filled(make: fn() -> Arc<Flows>) {
    model(None, move || {
        let flows = make();
        let other = Arc::clone(&flows);
        let finder = thread::spawn(move || {
            // Compares no key: whatever is found must have the key already.
            if let Some(index) = other.table.find(HASH, |_| true) {
                assert_eq!((index, other.key(index)), (1, KEY));
            }
        });
        assert_eq!(flows.insert(1), Inserted::New);
        finder.join().unwrap();
        assert_eq!(flows.find(), Some(1));
    });
}

#[test]
fn loom_insert_meets_removal_of_the_same_key() {
    model(None, || {
        let flows = Flows::new();
        assert_eq!(flows.insert(0), Inserted::New);
        let other = Arc::clone(&flows);
        let inserter = thread::spawn(move || other.insert(1));
        assert!(flows.table.remove(HASH, 0));
        let outcome = inserter.join().unwrap();
        match outcome {
            Inserted::New => assert_eq!(flows.entries(), [1]),
            Inserted::Exists(0) => assert_eq!(flows.entries(), []),
            _ => panic!("{outcome:?}"),
        }
    });
}

#[test]
fn loom_one_of_two_removers_wins() {
    model(None, || {
        let flows = Flows::new();
        assert_eq!(flows.insert(0), Inserted::New);
        let other = Arc::clone(&flows);
        let thread = thread::spawn(move || other.table.remove(HASH, 0));
        let ours = flows.table.remove(HASH, 0);
        assert!(ours != thread.join().unwrap());
        assert_eq!(flows.find(), None);
    });
}

/// The reader holds an index from find to use; the other thread removes the entry, and reuses the
/// record as soon as it may.
fn reader_against_reuse(sleeps_first: bool) {
    model(None, move || {
        let flows = Flows::new();
        let quiescence = Arc::new(Quiescence::new(1));
        let reader = quiescence.participant(0).unwrap();
        assert_eq!(flows.insert(0), Inserted::New);
        if sleeps_first {
            reader.offline();
        }
        let thread = thread::spawn({
            let flows = Arc::clone(&flows);
            move || {
                if sleeps_first {
                    reader.online();
                }
                for _ in 0..2 {
                    // Compares no key: a reused record must not be found in the first place.
                    if let Some(index) = flows.table.find(HASH, |_| true) {
                        assert_eq!(flows.key(index), KEY, "used after reuse");
                        flows.memory.with(|_| ());
                    }
                    reader.quiescent();
                }
                reader
            }
        });
        let mut retired = Retired::new(1);
        assert!(flows.table.remove(HASH, 0));
        assert_eq!(retired.retire(0), Ok(()));
        let mut is_reused = false;
        let mut reuse = |index| {
            flows.fill(index, OTHER_KEY);
            flows.memory.with_mut(|_| ());
            is_reused = true;
        };
        retired.reclaim(&quiescence, &mut reuse);
        retired.reclaim(&quiescence, &mut reuse);
        drop(thread.join().unwrap());
        retired.reclaim(&quiescence, &mut reuse);
        assert!(is_reused, "nobody is online, so nothing is held back");
    });
}

#[test]
fn loom_a_reader_never_sees_a_reused_record() {
    reader_against_reuse(false);
}

#[test]
fn loom_a_reader_that_wakes_never_sees_a_reused_record() {
    reader_against_reuse(true);
}

#[test]
fn loom_pool_never_hands_out_an_index_twice() {
    model(None, || {
        let pool = Arc::new(SlotPool::with_generations(2, Writers::Many));
        let [first, second] = [pool.alloc().unwrap(), pool.alloc().unwrap()];
        pool.free(first);
        pool.free(second);
        let other = Arc::clone(&pool);
        // Pops two and pushes the first back: a pop that slept meanwhile meets its old top again.
        let thread = thread::spawn(move || {
            let first = other.alloc();
            let second = other.alloc();
            if let Some(index) = first {
                other.free(index);
            }
            second
        });
        let ours = [pool.alloc(), pool.alloc()];
        let theirs = thread.join().unwrap();
        let mut held: Vec<u32> = ours.into_iter().chain([theirs]).flatten().collect();
        assert_eq!(pool.in_use() as usize, held.len());
        held.sort_unstable();
        let count = held.len();
        held.dedup();
        assert_eq!(held.len(), count, "an index is out twice");
    });
}

/// Every interleaving of `body` with at most so many `preemptions` (`None`: any number). It must be a race.
pub(crate) fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let executions = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        body();
    });
    let executions = executions.load(Relaxed);
    assert!(executions >= 3, "only {executions} executions: loom saw no race");
}

const HASH: u64 = 0x1234_5678_9abc_def0;
const KEY: u64 = 7;
const OTHER_KEY: u64 = 8;
/// Hashes with tags of their own, which fill both buckets, and their values.
const FILLERS: [(u64, u32); 4] = [(1 << 40, 100), (2 << 40, 101), (3 << 40, 102), (4 << 40, 103)];
