//! Loom models of the explicit mappings: one maker, one claim, and the quota of a host.

use std::sync::Arc;

use super::message::Nonce;
use super::table::{CreateError, Entry, EntryKey, ExplicitMappings};
use crate::nat::key::Endpoint;
use crate::nat::models::{HOST, key, model, race};
use crate::time::Tick;

fn table(per_subscriber: usize) -> Arc<ExplicitMappings> {
    Arc::new(ExplicitMappings::new(2, per_subscriber, key()))
}

fn create(l4_port: u16) -> impl Fn(&ExplicitMappings) -> Result<u32, CreateError> {
    move |table| {
        let internal = Endpoint { l4_port, ..HOST };
        let key = EntryKey { protocol: 17, internal, peer: None };
        let entry = Entry { key, nonce: Nonce([7; 12]), mapping: 3, expires: Tick(50) };
        table.create(&entry, std::iter::empty())
    }
}

#[test]
fn loom_two_requests_for_one_endpoint_make_one_entry() {
    model(Some(3), || {
        let table = table(2);
        let (theirs, ours) = race(&table, create(1), create(1));
        assert!(theirs.is_ok() != ours.is_ok(), "{theirs:?} {ours:?}");
        assert!([theirs, ours].contains(&Err(CreateError::Exists)));
        assert_eq!((table.in_use(), table.owned_by(HOST.host()).count()), (1, 1));
    });
}

#[test]
fn loom_two_requests_never_pass_the_quota_of_a_host_together() {
    model(Some(3), || {
        let table = table(1);
        let (theirs, ours) = race(&table, create(1), create(2));
        // Each may have counted the other one in.
        assert!(!(theirs.is_ok() && ours.is_ok()));
        assert_eq!(table.in_use(), u32::from(theirs.is_ok() || ours.is_ok()));
    });
}

#[test]
fn loom_one_thread_at_a_time_has_the_claim_of_an_entry() {
    model(None, || {
        let table = table(1);
        let slot = create(1)(&table).expect("there is room");
        // One renews, the other one ends it.
        let (is_renewed, is_ended) = race(
            &table,
            move |table| {
                let claim = table.claim(slot);
                claim.map(|claim| table.settle(claim, Tick(900))).is_some()
            },
            |table| {
                let claim = table.claim(slot);
                claim.map(|claim| table.end(&claim)).is_some()
            },
        );
        assert!(is_renewed || is_ended);
        let entry = table.entry(slot).expect("it is in the table");
        assert_eq!(table.find(&entry.key), (!is_ended).then_some(slot), "no renewal brings it back");
        assert!(is_ended || entry.expires == Tick(900));
        assert_eq!(table.owned_by(HOST.host()).count(), usize::from(!is_ended));
    });
}
