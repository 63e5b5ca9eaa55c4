//! Expectations: as many flows as promised come in, and one thread ends each.

use std::sync::Arc;

use super::{HOST, PUBLIC, REMOTE, key, model, race};
use crate::nat::expectation::{Admission, Expectation, Expectations};
use crate::table::slots::Handle;
use crate::time::{Instant, Tick};

const UDP: u8 = 17;
const PARENT: Handle = Handle { index: 9, generation: 0 };

fn promised(uses: u32) -> (Arc<Expectations>, Handle) {
    let table = Arc::new(Expectations::new(2, key()));
    let promise = Expectation {
        protocol: UDP,
        announced: PUBLIC,
        target: HOST,
        peer: Some(REMOTE),
        uses,
        expires: Tick(100),
        parent: PARENT,
        mapping: None,
    };
    let handle = table.create(&promise, 0, false).expect("there is room");
    (table, handle)
}

/// Whether a flow from the peer came in, and whether it was the last one, which ends the expectation.
fn admit(table: &Expectations) -> (bool, bool) {
    match table.admit(UDP, REMOTE, PUBLIC, Instant::default()) {
        Admission::Admitted { expectation, used_up } => {
            assert_eq!((expectation.target, expectation.parent), (HOST, PARENT));
            (true, used_up.is_some())
        }
        Admission::Refused | Admission::Unknown => (false, false),
    }
}

#[test]
fn loom_one_use_admits_one_of_two_flows() {
    model(None, || {
        let (table, handle) = promised(1);
        let (theirs, ours) = race(&table, admit, admit);
        assert!(theirs != ours && [theirs, ours].contains(&(true, true)), "{theirs:?} {ours:?}");
        assert!(!table.is_waiting(handle));
    });
}

#[test]
fn loom_two_uses_admit_two_flows_and_the_last_one_ends_it() {
    model(None, || {
        let (table, handle) = promised(2);
        let (theirs, ours) = race(&table, admit, admit);
        assert!(theirs.0 && ours.0 && theirs.1 != ours.1, "{theirs:?} {ours:?}");
        assert!(!table.is_waiting(handle) && table.unlink(handle.index).is_some());
    });
}

/// Two flows and the control session's own end, with two uses.
#[test]
fn loom_one_of_flows_and_withdrawal_ends_an_expectation() {
    model(Some(3), || {
        let (table, handle) = promised(2);
        let shared = Arc::clone(&table);
        let first = loom::thread::spawn(move || admit(&shared));
        let (second, is_withdrawn) = race(&table, admit, |table| table.withdraw(handle));
        let first = first.join().expect("the first flow ends");
        let ends = [first.1, second.1, is_withdrawn].into_iter().filter(|is_end| *is_end).count();
        assert_eq!(ends, 1, "{first:?} {second:?} {is_withdrawn}");
        // Without a withdrawal in time both come in.
        assert!(is_withdrawn || (first.0 && second.0));
        assert!(!table.is_waiting(handle));
    });
}

#[test]
fn loom_ageing_and_withdrawal_end_it_once() {
    model(None, || {
        let (table, handle) = promised(3);
        let late = Instant::default().plus(std::time::Duration::from_secs(60));
        let (is_aged, is_withdrawn) = race(
            &table,
            move |table| table.age(handle.index, late, |_| true),
            |table| table.withdraw(handle),
        );
        assert!(is_aged != is_withdrawn);
    });
}

#[test]
fn loom_a_longer_life_does_not_bring_back_a_use() {
    model(None, || {
        let (table, handle) = promised(1);
        let (admitted, is_renewed) =
            race(&table, admit, |table| table.renew(handle, Tick(500), Some(REMOTE)));
        assert_eq!(admitted, (true, true), "renewed or not, the flow is expected");
        assert!(!table.is_waiting(handle));
        let expires = table.expectation(handle.index).expect("it is there").expires;
        assert!(expires == if is_renewed { Tick(500) } else { Tick(100) });
    });
}
