//! The neighbour table: states over time, limits, and many threads at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::drop_reason::DropReason;
use crate::router::neighbor::{Lookup, NeighborRef, NeighborState, Neighbors, Proof, Request};

const LIFETIME: Duration = Duration::from_secs(60);

/// A table with one neighbour, and its requests over time.
struct Table {
    neighbors: Neighbors,
    neighbor: NeighborRef,
}

impl Table {
    fn new() -> Self {
        let neighbors = Neighbors::new(4, LIFETIME);
        let neighbor = neighbors.resolve(INTERNAL, 9, at(0)).unwrap();
        Self { neighbors, neighbor }
    }

    /// Sweeps every 100 ms from `from` to `to`, both milliseconds; returns when it asked, and whom.
    fn sweep(&self, from: u64, to: u64) -> Vec<(u64, Option<[u8; 6]>)> {
        let mut asked = Vec::new();
        for millisecond in (from..=to).step_by(100) {
            self.neighbors.sweep(at(millisecond), |request| asked.push((millisecond, request.unicast)));
        }
        asked
    }

    fn prove(&self, millisecond: u64, proof: Proof) -> bool {
        self.neighbors.learn(INTERNAL, 9, HOST_MAC, proof, at(millisecond))
    }

    fn state(&self) -> Option<NeighborState> {
        self.neighbors.iter().next().map(|entry| entry.state)
    }
}

/// Times of requests, to the second.
fn seconds(asked: &[(u64, Option<[u8; 6]>)]) -> Vec<u64> {
    asked.iter().map(|(millisecond, _)| millisecond / 1_000).collect()
}

#[test]
fn asks_three_times_a_second_apart_and_then_gives_up() {
    let table = Table::new();
    let asked = table.sweep(0, 2_900);
    assert_eq!(seconds(&asked), [0, 1, 2]);
    assert!(asked.iter().all(|(_, unicast)| unicast.is_none()));
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Pending);
    assert_eq!(seconds(&table.sweep(3_000, 3_500)), [0u64; 0]);
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Unreachable);
}

#[test]
fn asks_again_after_a_failure_only_while_packets_want_it() {
    let wanted = Table::new();
    wanted.sweep(0, 3_500);
    assert_eq!(wanted.neighbors.mac(wanted.neighbor), Lookup::Unreachable);
    assert_eq!(seconds(&wanted.sweep(3_600, 6_900)), [6]);
    assert_eq!(wanted.neighbors.mac(wanted.neighbor), Lookup::Pending);

    let unwanted = Table::new();
    unwanted.sweep(0, 3_500);
    assert_eq!(unwanted.sweep(3_600, 9_000), []);
    assert_eq!(unwanted.neighbors.mac(unwanted.neighbor), Lookup::Gone);
    assert_eq!(unwanted.state(), None);
}

#[test]
fn a_neighbour_in_use_is_asked_by_unicast_before_its_time_ends() {
    let table = Table::new();
    assert!(table.prove(100, Proof::Reply));
    for second in 1..57 {
        assert_eq!(table.sweep(second * 1_000, second * 1_000 + 900), [], "second {second}");
        assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Known(HOST_MAC));
    }
    let asked = table.sweep(57_000, 58_000);
    assert_eq!(asked.first().map(|(_, unicast)| *unicast), Some(Some(HOST_MAC)));
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Known(HOST_MAC));
    assert_eq!(table.state(), Some(NeighborState::Probe));
    assert!(table.prove(58_200, Proof::Reply));
    assert_eq!(table.state(), Some(NeighborState::Reachable));
    assert_eq!(table.sweep(58_300, 100_000), []);
}

#[test]
fn a_silent_neighbour_in_use_is_asked_by_broadcast_and_then_fails() {
    let table = Table::new();
    table.prove(0, Proof::Reply);
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Known(HOST_MAC));
    let asked = table.sweep(1_000, 70_000);
    let by_unicast: Vec<bool> = asked.iter().map(|(_, unicast)| unicast.is_some()).collect();
    assert_eq!(by_unicast, [true, true, true, false, false, false]);
    assert_eq!(seconds(&asked), [57, 58, 59, 60, 61, 62]);
}

#[test]
fn a_neighbour_out_of_use_goes_away_and_its_references_with_it() {
    let table = Table::new();
    table.prove(0, Proof::Reply);
    assert_eq!(table.sweep(0, 61_000), []);
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Gone);
    let again = table.neighbors.resolve(INTERNAL, 9, at(62_000)).unwrap();
    assert_ne!(again, table.neighbor);
    assert_eq!(table.neighbors.mac(again), Lookup::Pending);
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Gone);
}

#[test]
fn a_slot_in_its_next_life_does_not_answer_to_old_references() {
    let neighbors = Neighbors::new(1, LIFETIME);
    let mut seen = HashSet::new();
    for address in 0..100 {
        let millisecond = u64::from(address) * 100_000;
        let neighbor = neighbors.resolve(INTERNAL, address, at(millisecond)).unwrap();
        assert!(seen.insert(neighbor));
        assert!(neighbors.learn(INTERNAL, address, HOST_MAC, Proof::Reply, at(millisecond)));
        neighbors.sweep(at(millisecond + 90_000), |_| ());
        assert!(seen.iter().all(|old| neighbors.mac(*old) == Lookup::Gone));
    }
}

#[test]
fn hearsay_moves_what_is_resolved_and_settles_nothing_else() {
    let table = Table::new();
    assert!(!table.prove(100, Proof::Overheard));
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Pending);
    assert!(table.prove(200, Proof::Reply));
    let moved = [2, 9, 9, 9, 9, 9];
    assert!(table.neighbors.learn(INTERNAL, 9, moved, Proof::Overheard, at(300)));
    assert_eq!(table.neighbors.mac(table.neighbor), Lookup::Known(moved));
}

#[test]
fn only_a_request_to_us_creates_an_entry() {
    let neighbors = Neighbors::new(4, LIFETIME);
    assert!(!neighbors.learn(INTERNAL, 5, HOST_MAC, Proof::Reply, at(0)));
    assert!(!neighbors.learn(INTERNAL, 5, HOST_MAC, Proof::Overheard, at(0)));
    assert_eq!(neighbors.iter().count(), 0);
    assert!(neighbors.learn(INTERNAL, 5, HOST_MAC, Proof::Request, at(0)));
    let neighbor = neighbors.resolve(INTERNAL, 5, at(0)).unwrap();
    assert_eq!(neighbors.mac(neighbor), Lookup::Known(HOST_MAC));
    let elsewhere = neighbors.resolve(EXTERNAL, 5, at(0)).unwrap();
    assert_eq!(neighbors.mac(elsewhere), Lookup::Pending);
}

#[test]
fn a_full_table_gives_up_idle_neighbours_and_no_others() {
    let neighbors = Neighbors::new(4, LIFETIME);
    let known: Vec<_> = (0..4)
        .map(|address| {
            neighbors.learn(INTERNAL, address, HOST_MAC, Proof::Request, at(0));
            neighbors.resolve(INTERNAL, address, at(0)).unwrap()
        })
        .collect();
    for used in [0, 1, 3] {
        assert_eq!(neighbors.mac(known[used]), Lookup::Known(HOST_MAC));
    }
    let new = neighbors.resolve(INTERNAL, 100, at(1)).unwrap();
    assert_eq!(neighbors.mac(known[2]), Lookup::Gone);
    assert_eq!(neighbors.mac(new), Lookup::Pending);
    assert_eq!(neighbors.resolve(INTERNAL, 101, at(1)), Err(DropReason::NeighborTableFull));
    assert!(!neighbors.learn(INTERNAL, 101, HOST_MAC, Proof::Request, at(1)));
    assert_eq!(neighbors.mac(known[0]), Lookup::Known(HOST_MAC));
}

#[test]
fn finds_every_neighbour_whatever_comes_and_goes() {
    let neighbors = Neighbors::new(64, LIFETIME);
    let mut random = 1u32;
    for round in 0..2_000u64 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let address = random >> 16 & 0x7F;
        let now = at(round * 5_000);
        neighbors.learn(INTERNAL, address, HOST_MAC, Proof::Request, now);
        neighbors.sweep(now, |_| ());
        let mut seen = HashSet::new();
        for entry in neighbors.iter() {
            assert!(seen.insert(entry.address), "twice in the table");
            let neighbor = neighbors.resolve(INTERNAL, entry.address, now).unwrap();
            assert_ne!(neighbors.mac(neighbor), Lookup::Gone);
        }
        let count = neighbors.iter().count();
        assert_eq!(count, seen.len(), "resolving known ones creates none");
    }
}

#[test]
fn a_large_table_is_swept_in_bounded_steps() {
    let neighbors = Neighbors::new(4_000, LIFETIME);
    for address in 0..4_000 {
        neighbors.resolve(INTERNAL, address, at(0)).unwrap();
    }
    let mut asked = HashSet::new();
    for millisecond in 0..200 {
        let mut step = 0;
        neighbors.sweep(at(millisecond), |request: Request| {
            step += 1;
            assert!(asked.insert(request.address), "asked twice");
        });
        assert!(step <= 256);
    }
    assert_eq!(asked.len(), 4_000);
}

#[test]
fn workers_agree_on_one_entry_and_one_request() {
    let neighbors = Neighbors::new(256, LIFETIME);
    let requests = AtomicUsize::new(0);
    let found: Vec<Vec<NeighborRef>> = std::thread::scope(|scope| {
        let worker = || {
            (0..200)
                .map(|address| {
                    let neighbor = neighbors.resolve(INTERNAL, address, at(0)).unwrap();
                    if neighbors.advance(neighbor, at(0)).is_some() {
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                    neighbor
                })
                .collect()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(requests.load(Ordering::Relaxed), 200);
}

#[test]
fn a_reference_never_yields_the_mac_of_another_neighbour() {
    // Each neighbour's MAC address spells its address. Two threads make the few slots change hands all
    // the time.
    let mac_of = |address: u32| {
        let [a, b, c, d] = address.to_be_bytes();
        [2, 0, a, b, c, d]
    };
    let neighbors = Neighbors::new(4, Duration::from_secs(8));
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let neighbors = &neighbors;
            scope.spawn(move || {
                for round in 0..20_000u64 {
                    let address = ((round * 7 + thread * 3) % 12) as u32;
                    let now = at(round * 1_000);
                    let Ok(neighbor) = neighbors.resolve(INTERNAL, address, now) else {
                        neighbors.sweep(now, |_| ());
                        continue;
                    };
                    neighbors.learn(INTERNAL, address, mac_of(address), Proof::Reply, now);
                    for _ in 0..3 {
                        if let Lookup::Known(mac) = neighbors.mac(neighbor) {
                            assert_eq!(mac, mac_of(address));
                        }
                    }
                    neighbors.sweep(now, |_| ());
                }
            });
        }
    });
}
