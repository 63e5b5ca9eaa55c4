//! Loom models of the port blocks: a block has one owner, who knows of it as long as it is his.

use std::sync::Arc;

use super::*;
use crate::ids::TenantId;
use crate::nat::models::{model, race};

/// One address with `count` blocks of one port each, of which a subscriber may have `per_host`; idle blocks are
/// freed by the next sweep.
fn blocks(count: u32, per_host: usize) -> Arc<Blocks> {
    let plan = Plan {
        first: 0,
        blocks: count,
        per_address: count,
        block_ports: 1,
        low: LOW,
        idle_seconds: 0,
        places: 0..per_host,
        deterministic: None,
    };
    Arc::new(Blocks {
        states: (0..count).map(|_| AtomicU64::new(0)).collect(),
        nobodys: AtomicU64::new(u64::MAX),
        plans: vec![Some(plan)],
        owned: (0..2 * per_host).map(|_| AtomicU32::new(0)).collect(),
        row: per_host,
        writers: Writers::Many,
    })
}

const fn site(subscriber: u32) -> Site {
    let host = Host { tenant: TenantId::NONE, address: subscriber };
    Site { pool: 0, address_number: 0, subscriber, host }
}

/// A port in a block of `subscriber`; those of `full` blocks are taken by others.
fn take(blocks: &Blocks, subscriber: u32, full: &[u16]) -> Result<u16, Shortage> {
    let take_port = |low: u16, _: u16| (!full.contains(&low)).then_some(low);
    blocks.take(&site(subscriber), 0, Instant::default(), || (), &take_port).0
}

fn sweep(blocks: &Blocks) -> usize {
    let mut freed = 0;
    blocks.sweep(0..blocks.count(), Instant::default(), |_| freed += 1);
    freed
}

#[test]
fn loom_two_subscribers_never_share_a_block() {
    model(Some(3), || {
        let table = blocks(2, 1);
        let (theirs, ours) = race(&table, |blocks| take(blocks, 0, &[]), |blocks| take(blocks, 1, &[]));
        assert!(theirs.is_ok() && ours.is_ok() && theirs != ours, "{theirs:?} {ours:?}");
        assert_eq!(table.assigned(), 2);
    });
}

#[test]
fn loom_a_subscriber_on_two_workers_gets_no_more_blocks_than_it_may() {
    model(Some(3), || {
        let table = blocks(2, 1);
        let (theirs, ours) = race(&table, |blocks| take(blocks, 0, &[]), |blocks| take(blocks, 0, &[]));
        assert!(theirs.is_ok() || ours.is_ok());
        assert_eq!(table.assigned(), 1);
    });
}

#[test]
fn loom_an_idle_block_is_used_again_or_freed() {
    model(None, || {
        let table = blocks(1, 1);
        let l4_port = take(&table, 0, &[]).expect("a block is free");
        table.leave(0, 0, l4_port, Instant::default());
        let (is_joined, freed) = race(&table, move |blocks| blocks.join(0, 0, l4_port, 0), sweep);
        assert_eq!((is_joined, table.assigned()), if freed == 1 { (false, 0) } else { (true, 1) });
    });
}

#[test]
fn loom_two_sweeps_free_a_block_once() {
    model(None, || {
        let table = blocks(1, 1);
        let l4_port = take(&table, 0, &[]).expect("a block is free");
        table.leave(0, 0, l4_port, Instant::default());
        let (theirs, ours) = race(&table, sweep, sweep);
        assert_eq!((theirs + ours, table.assigned()), (1, 0));
        assert_eq!(take(&table, 1, &[]), Ok(l4_port), "it is anybody's again");
    });
}

/// Its owner takes the block anew while the sweep still clears away the old one: the owner's list must name it then, or
/// the subscriber would get one more than it may.
#[test]
fn loom_the_owner_of_a_block_has_it_on_its_list() {
    model(Some(3), || {
        let table = blocks(1, 2);
        let l4_port = take(&table, 0, &[]).expect("a block is free");
        table.leave(0, 0, l4_port, Instant::default());
        let (_, _) = race(&table, |blocks| take(blocks, 0, &[]), sweep);
        let listed = table.owned.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count();
        assert_eq!(listed as u64, table.assigned());
    });
}

/// A new block all of whose ports others hold is idle at once. The sweep that frees it gives back the reference on the
/// subscriber, which must have been taken by then.
#[test]
fn loom_a_block_is_held_before_it_can_be_freed() {
    model(Some(3), || {
        let table = blocks(1, 1);
        let references = Arc::new(AtomicU32::new(0));
        let held = Arc::clone(&references);
        let freed = move |blocks: &Blocks| {
            blocks.sweep(0..1, Instant::default(), |_| {
                assert_eq!(held.fetch_sub(1, Ordering::Relaxed), 1, "freed before it was held");
            });
        };
        let sweeps = freed.clone();
        race(&table, freed, |blocks| {
            let hold = || {
                references.fetch_add(1, Ordering::Relaxed);
            };
            let (taken, assigned) = blocks.take(&site(0), 0, Instant::default(), hold, &|_, _| None);
            assert_eq!((taken, assigned.is_some()), (Err(Shortage::Pool), true));
        });
        sweeps(&table);
        assert_eq!((table.assigned(), references.load(Ordering::Relaxed)), (0, 0));
    });
}

const LOW: u16 = 1_024;
