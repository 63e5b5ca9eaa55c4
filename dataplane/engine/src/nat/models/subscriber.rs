//! Subscribers: who enters while the last one leaves, quotas, and the one external address.

use std::sync::Arc;

use algate_config::Limits;

use super::{HOST, key, model, race};
use crate::nat::ports::PortSpace::{Tcp, Udp};
use crate::nat::session;
use crate::nat::subscriber::Subscribers;
use crate::table::sync::Writers;
use crate::time::Instant;

fn subscribers(limits: Limits) -> Arc<Subscribers> {
    Arc::new(Subscribers::new(2, limits, 64, key(), Writers::Many))
}

fn entered(table: &Subscribers) -> u32 {
    table.enter(HOST.host()).expect("there is room")
}

#[test]
fn loom_two_that_enter_a_new_host_share_one_entry() {
    model(Some(3), || {
        let table = subscribers(Limits::default());
        let (theirs, ours) = race(&table, entered, entered);
        assert_eq!((theirs, table.in_use()), (ours, 1));
        assert!(!table.release(ours) && table.release(ours), "two references");
    });
}

#[test]
fn loom_who_enters_while_the_last_one_leaves_has_a_live_entry() {
    model(None, || {
        let table = subscribers(Limits::default());
        let first = entered(&table);
        let (is_last, again) = race(&table, move |table| table.release(first), entered);
        // Either the same entry was kept, or it has ended and there is a new one beside it.
        assert_eq!((is_last, table.in_use()), if again == first { (false, 1) } else { (true, 2) });
        assert_eq!(table.iter().map(|held| held.host).collect::<Vec<_>>(), [HOST.host()]);
        assert!(table.release(again), "the only reference");
    });
}

#[test]
fn loom_the_last_of_two_that_leave_ends_the_entry() {
    model(None, || {
        let table = subscribers(Limits::default());
        let slot = entered(&table);
        table.hold(slot);
        let (theirs, ours) = race(&table, move |table| table.release(slot), |table| table.release(slot));
        assert!(theirs != ours, "one of them was the last");
        assert_eq!(table.iter().count(), 0);
    });
}

#[test]
fn loom_a_host_is_paired_once() {
    model(None, || {
        let table = subscribers(Limits::default());
        let slot = entered(&table);
        let pair = move |address| move |table: &Subscribers| (table.pair(slot, address), table.paired(slot));
        let ((is_theirs, theirs), (is_ours, ours)) = race(&table, pair(1), pair(2));
        assert!(is_theirs != is_ours);
        assert_eq!((theirs, ours), if is_theirs { (Some(1), Some(1)) } else { (Some(2), Some(2)) });
    });
}

/// One place left, by number of sessions, and by memory.
#[test]
fn loom_two_flows_never_pass_a_quota_together() {
    let by_number = Limits { sessions: 2, ..Limits::default() };
    let by_memory = Limits { memory_bytes: 2 * session::RECORD_BYTES, ..Limits::default() };
    for limits in [by_number, by_memory] {
        model(None, move || {
            let table = subscribers(limits);
            let slot = entered(&table);
            let take = move |space| {
                move |table: &Subscribers| table.take_session(slot, space, Instant::default()).is_ok()
            };
            assert!(take(Udp)(&table));
            let (theirs, ours) = race(&table, take(Tcp), take(Udp));
            let counted = [u32::from(theirs), 1 + u32::from(ours), 0];
            assert_eq!(table.holdings(slot).expect("it is there").sessions, counted);
            // By memory both may be refused: each may have been counted for a moment.
            assert!(!(theirs && ours) && (theirs || ours || limits.memory_bytes > 0));
            table.give_session(slot, Udp);
            assert!(take(Tcp)(&table), "what is given back may be taken");
        });
    }
}

#[test]
fn loom_what_one_gives_back_another_may_take() {
    model(None, || {
        let table = subscribers(Limits { ports: 1, ..Limits::default() });
        let slot = entered(&table);
        assert_eq!(table.take_port(slot, Udp), Ok(()));
        let (taken, ()) =
            race(&table, move |table| table.take_port(slot, Tcp).is_ok(), |table| table.give_port(slot, Udp));
        assert_eq!(table.holdings(slot).expect("it is there").ports, [u32::from(taken), 0, 0]);
    });
}
