//! The tables against plain models, at load, and under real threads.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::hash::HashKey;
use super::index::{IndexTable, Inserted, Load};
use super::quiescence::{Quiescence, Retired};
use super::record::{Line, Lines};
use super::slots::{Handle, SlotPool};
use super::sync::Writers;

#[test]
fn each_input_bit_flips_half_of_the_hash_bits() {
    let mut random = Random(1);
    let samples = 2_000;
    for bit in 0..128 {
        let mut flips = [0_u32; 64];
        for _ in 0..samples {
            let key = HashKey::from_seed([random.next(), random.next(), random.next(), random.next()]);
            // Few bits set, as in addresses of one subnet.
            let (a, b) = (random.next() & 0xff_0000_00ff, random.next() & 0xffff);
            let flip = 1_u128 << bit;
            let difference = key.hash2(a, b) ^ key.hash2(a ^ flip as u64, b ^ (flip >> 64) as u64);
            for (position, count) in flips.iter_mut().enumerate() {
                *count += (difference >> position & 1) as u32;
            }
        }
        // 6 standard deviations of a fair coin are 134.
        for (position, &count) in flips.iter().enumerate() {
            assert!((866..=1134).contains(&count), "in {bit} out {position}: {count} of {samples}");
        }
    }
}

#[test]
fn s_13_keys_that_collide_under_one_key_are_random_under_others() {
    let bucket = |key: &HashKey, a: u64| key.hash2(a, 53) & 0x3ff;
    let known = HashKey::from_seed([0; 4]);
    let flood: Vec<u64> =
        (0_u64..).map(|i| 0x0a00_0000_0000 + i).filter(|&a| bucket(&known, a) == 0).take(1024).collect();
    let mut random = Random(2);
    for _ in 0..100 {
        let key = HashKey::from_seed([random.next(), random.next(), random.next(), random.next()]);
        let mut counts = [0_u32; 1024];
        flood.iter().for_each(|&a| counts[bucket(&key, a) as usize] += 1);
        // 1024 balls in 1024 urns: more than 12 in one has a chance of 1e-7.
        assert!(counts.iter().all(|&count| count <= 12), "{:?}", counts.iter().max());
        let pairs: u32 = counts.iter().map(|&count| count * count).sum();
        // Expected 2047, standard deviation 45.
        assert!((1780..=2320).contains(&pairs), "{pairs}");
    }
}

#[test]
fn bucket_and_tag_are_independent() {
    let mut random = Random(3);
    for _ in 0..20 {
        let key = HashKey::from_seed([random.next(), random.next(), random.next(), random.next()]);
        let mut counts = [0_u32; 256];
        for i in 0..25_600_u64 {
            let hash = key.hash1(i);
            counts[((hash & 15) << 4 | hash >> 60) as usize] += 1;
        }
        // Chi-square of 255 degrees of freedom: 255, standard deviation 23. Counting keys may lie more
        // evenly than random ones, which does no harm.
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 100.0).powi(2) / 100.0).sum();
        assert!(chi < 390.0, "{chi}");
    }
}

#[test]
fn lines_are_aligned_zeroed_and_bounded() {
    let lines = Lines::new(3);
    assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
    for index in 0..3 {
        let line = lines.line(index).unwrap();
        assert!(line.words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(std::ptr::from_ref(line) as usize % 64, 0);
    }
    assert!(lines.line(3).is_none());
    lines.prefetch(3);
}

#[test]
fn pool_hands_out_each_index_once_and_counts_generations() {
    let pool = SlotPool::with_generations(3, Writers::Many);
    let all: BTreeSet<u32> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all, BTreeSet::from([0, 1, 2]));
    assert_eq!((pool.in_use(), pool.alloc()), (3, None));
    let handle = pool.handle(1);
    assert!(pool.is_current(handle));
    pool.free(1);
    assert_eq!(pool.in_use(), 2);
    assert!(!pool.is_current(handle));
    assert_eq!(pool.alloc(), Some(1));
    assert!(!pool.is_current(handle));
    assert_eq!(pool.generation(1), 1);
}

#[test]
fn handles_survive_a_word() {
    let handle = Handle { index: 0x7fff_fffe, generation: u32::MAX };
    assert_eq!(Handle::from_u64(handle.to_u64()), handle);
}

#[test]
fn retired_waits_for_each_online_participant() {
    let quiescence = Quiescence::new(2);
    let [first, second] = [0, 1].map(|index| quiescence.participant(index).unwrap());
    assert!(quiescence.participant(0).is_none(), "taken");
    assert!(quiescence.participant(2).is_none(), "no such");
    let mut retired = Retired::new(2);
    let freed = |retired: &mut Retired<u32>| {
        let mut freed = Vec::new();
        retired.reclaim(&quiescence, |item| freed.push(item));
        freed
    };
    assert_eq!(retired.retire(7), Ok(()));
    assert_eq!(freed(&mut retired), []);
    first.quiescent();
    assert_eq!(freed(&mut retired), []);
    second.quiescent();
    assert_eq!(retired.retire(8), Ok(()));
    assert_eq!(retired.retire(9), Err(9), "full");
    assert_eq!(freed(&mut retired), [7]);
    first.quiescent();
    second.offline();
    second.quiescent();
    assert_eq!(freed(&mut retired), [8], "who is offline is not waited for");
    drop(first);
    assert!(quiescence.participant(0).is_some());
}

#[test]
fn holds_the_configured_number_through_replacement() {
    for bits in [6, 10, 14] {
        assert_eq!(refused_through_replacement(1 << bits, Load::HALF), 0, "2^{bits}");
    }
    for load in [Load::HITS, Load::MISSES] {
        assert_eq!(refused_through_replacement(1 << 14, load), 0, "{load:?}");
    }
}

/// Fills a table, then replaces each entry eight times by chance; how many inserts found no slot.
fn refused_through_replacement(entries: u32, load: Load) -> usize {
    let table = IndexTable::with_load(entries as usize, load, Writers::Many);
    assert_eq!(table.slot_count(), (load.bytes(entries as usize) / 8).next_multiple_of(8));
    let mut random = Random(entries.trailing_zeros().into());
    let mut refused = 0;
    let mut insert = |random: &mut Random, value| {
        loop {
            let hash = random.next();
            match table.insert(hash, value, |_| false) {
                Inserted::New => return hash,
                _ => refused += 1,
            }
        }
    };
    let mut hashes: Vec<u64> = (0..entries).map(|value| insert(&mut random, value)).collect();
    for _ in 0..8 * entries {
        let value = (random.next() % u64::from(entries)) as u32;
        let Some(hash) = hashes.get_mut(value as usize) else { continue };
        assert!(table.remove(*hash, value));
        *hash = insert(&mut random, value);
    }
    refused
}

#[test]
fn s_13_refuses_nothing_near_half_load_and_looks_at_three_buckets() {
    for bits in [6, 10, 14] {
        let table = IndexTable::with_capacity(1 << bits, Writers::Many);
        let mut random = Random(100 + bits);
        let mut count = 0_u32;
        while table.insert(random.next(), count, |_| false) == Inserted::New {
            count += 1;
        }
        let load = f64::from(count) / table.slot_count() as f64;
        assert!(load >= 0.56, "first refusal at {load} of 2^{bits}");
    }
    // One hash, so each slot has the wanted tag: the worst case of a find.
    let table = IndexTable::with_capacity(1000, Writers::Many);
    let inserted = (0..100).filter(|&value| table.insert(42, value, |_| false) == Inserted::New).count();
    assert_eq!(inserted, 24);
    let looks = AtomicU32::new(0);
    let found = table.find(42, |_| {
        looks.fetch_add(1, Ordering::Relaxed);
        false
    });
    assert_eq!((found, looks.into_inner()), (None, 24));
}

#[test]
fn a_key_whose_buckets_are_full_is_found_and_removed_in_the_stash() {
    for writers in [Writers::One, Writers::Many] {
        let table = IndexTable::with_capacity(1000, writers);
        for value in 0..24 {
            assert_eq!(table.insert(42, value, |other| other == value), Inserted::New, "{value}");
        }
        assert_eq!(table.insert(42, 24, |_| false), Inserted::Full);
        assert_eq!(table.insert(42, 24, |other| other == 23), Inserted::Exists(23));
        let mut entries = BTreeSet::new();
        table.for_each(|value| assert!(entries.insert(value)));
        assert_eq!(entries, (0..24).collect());
        for value in 0..24 {
            assert_eq!(table.find(42, |other| other == value), Some(value));
            assert!(table.remove(42, value), "{value}");
            assert!(!table.remove(42, value) && table.find(42, |other| other == value).is_none());
        }
        assert_eq!(table.insert(42, 24, |_| false), Inserted::New);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Few keys and few hashes, so that tags collide and buckets fill up.
    #[test]
    fn behaves_like_a_map(
        steps in prop::collection::vec((0_u8..3, 0_u64..48), 1..200),
        writers in prop_oneof![Just(Writers::One), Just(Writers::Many)],
    ) {
        let table = IndexTable::with_capacity(32, writers);
        let hash = |key: u64| HashKey::from_seed([9; 4]).hash1(key % 24);
        let mut expected = HashMap::new();
        // The value is the key.
        for (operation, key) in steps {
            let value = key as u32;
            match operation {
                0 => match table.insert(hash(key), value, |other| other == value) {
                    Inserted::New => prop_assert_eq!(expected.insert(key, value), None),
                    Inserted::Exists(winner) => prop_assert_eq!(expected.get(&key), Some(&winner)),
                    Inserted::Full => prop_assert!(expected.len() >= 24),
                },
                1 => prop_assert_eq!(table.remove(hash(key), value), expected.remove(&key).is_some()),
                _ => prop_assert_eq!(
                    table.find(hash(key), |other| other == value),
                    expected.get(&key).copied()
                ),
            }
        }
        let mut entries = BTreeSet::new();
        table.for_each(|value| assert!(entries.insert(u64::from(value))));
        prop_assert_eq!(entries, expected.into_keys().collect());
    }
}

/// Threads insert, find and remove the same few keys through pool, records, table and quiescence; a
/// ledger per key counts who believes to have put it in and who to have taken it out.
#[test]
fn threads_agree_with_the_ledger() {
    const KEYS: u64 = 64;
    const THREADS: usize = 4;
    let hash_key = HashKey::from_seed([5; 4]);
    let table = IndexTable::with_capacity(256, Writers::Many);
    let records = Lines::new(1024);
    let pool = SlotPool::with_generations(1024, Writers::Many);
    let quiescence = Quiescence::new(THREADS);
    let ledger: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let key_of = |index| records.line(index).unwrap().words[0].load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (table, pool, quiescence, ledger, hash_key) =
                (&table, &pool, &quiescence, &ledger, &hash_key);
            let records = &records;
            scope.spawn(move || {
                let participant = quiescence.participant(thread).unwrap();
                let mut retired = Retired::new(128);
                let mut random = Random(thread as u64);
                for step in 0..60_000_u32 {
                    let key = random.next() % KEYS;
                    let hash = hash_key.hash1(key);
                    let found = table.find(hash, |index| key_of(index) == key);
                    match found {
                        // With a full queue, a worker leaves removals for the next burst.
                        Some(index) if retired.len() < 128 && random.next().is_multiple_of(2) => {
                            if table.remove(hash, index) {
                                ledger[key as usize].fetch_sub(1, Ordering::Relaxed);
                                retired.retire(index).unwrap();
                            }
                        }
                        Some(index) => assert_eq!(key_of(index), key, "reused while held"),
                        None => {
                            let index = pool.alloc().unwrap();
                            records.line(index).unwrap().words[0].store(key, Ordering::Relaxed);
                            match table.insert(hash, index, |other| key_of(other) == key) {
                                Inserted::New => {
                                    ledger[key as usize].fetch_add(1, Ordering::Relaxed);
                                }
                                Inserted::Exists(winner) => {
                                    assert_ne!(winner, index);
                                    pool.free(index);
                                }
                                Inserted::Full => pool.free(index),
                            }
                        }
                    }
                    if step % 32 == 0 {
                        participant.quiescent();
                        retired.reclaim(quiescence, |index| pool.free(index));
                    }
                }
                participant.offline();
                while !retired.is_empty() {
                    std::thread::yield_now();
                    retired.reclaim(quiescence, |index| pool.free(index));
                }
            });
        }
    });
    let mut present = vec![0; KEYS as usize];
    table.for_each(|index| present[key_of(index) as usize] += 1);
    let expected: Vec<u32> = ledger.into_iter().map(AtomicU32::into_inner).collect();
    assert_eq!(present, expected);
    assert!(present.iter().all(|&count| count <= 1), "{present:?}");
    assert_eq!(pool.in_use(), present.iter().sum::<u32>(), "an index leaked");
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
