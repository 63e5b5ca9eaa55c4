//! Mappings: the last firm reference ends one, and nobody gets hold of it after that.

use std::sync::Arc;

use super::{HOST, OTHER_HOST, PUBLIC, REMOTE, key, model, race};
use crate::nat::key::Endpoint;
use crate::nat::mapping::Hold::{Firm, Loose};
use crate::nat::mapping::{CreateError, Filtering, Mapping, Mappings, Scope};
use crate::table::sync::Writers;

const UDP: u8 = 17;
const SCOPE: Scope = Scope::Pool { pool: 0, filtering: Filtering::EndpointIndependent };

fn mapping(internal: Endpoint, external: Endpoint, scope: Scope) -> Mapping {
    let filtering = Filtering::EndpointIndependent;
    Mapping { protocol: UDP, internal, external, filtering, scope, subscriber: None }
}

fn mappings() -> Arc<Mappings> {
    Arc::new(Mappings::new(2, key(), Writers::Many))
}

/// The table with one mapping, held firmly once.
fn with_one() -> (Arc<Mappings>, u32) {
    let table = mappings();
    let made = table.create(&mapping(HOST, PUBLIC, SCOPE), |_| {}).expect("there is room");
    (table, made)
}

fn is_found(table: &Mappings) -> bool {
    let inside = table.acquire_internal(UDP, HOST, SCOPE);
    let outside = table.acquire_external(UDP, PUBLIC, Firm);
    assert_eq!(inside, outside, "by both endpoints or by none");
    inside.is_some()
}

#[test]
fn loom_who_finds_a_mapping_while_its_last_holder_leaves_keeps_it_or_gets_nothing() {
    for hold in [Firm, Loose] {
        model(None, move || {
            let (table, made) = with_one();
            let acquire = move |table: &Mappings| table.acquire_external(UDP, PUBLIC, hold);
            let (found, is_last) = race(&table, acquire, |table| table.release(made, Firm));
            assert_eq!(is_last, found.is_none(), "whoever leaves last retires it");
            // A loose holder keeps the slot, no more.
            assert_eq!(is_found(&table), found.is_some() && hold == Firm);
        });
    }
}

#[test]
fn loom_of_a_firm_and_a_loose_holder_that_leave_the_last_retires_the_mapping() {
    model(None, || {
        let (table, made) = with_one();
        assert!(table.acquire(made, Loose));
        let (theirs, ours) = race(
            &table,
            move |table| table.release(made, Loose),
            |table| {
                let is_last = table.release(made, Firm);
                assert!(!is_found(table), "it ends with its firm holder");
                is_last
            },
        );
        assert!(theirs != ours);
        assert_eq!(table.references(made), 0);
    });
}

/// What `keep_mapping` does: the host answers a stranger while its own last session ends.
#[test]
fn loom_a_loose_holder_that_becomes_firm_keeps_the_mapping_or_knows_that_it_ends() {
    model(None, || {
        let (table, made) = with_one();
        assert!(table.acquire(made, Loose));
        let (is_kept, is_last) = race(
            &table,
            move |table| {
                let is_kept = table.acquire(made, Firm);
                assert!(!is_kept || !table.release(made, Loose), "the firm reference is left");
                is_kept
            },
            |table| table.release(made, Firm),
        );
        assert!(!is_last, "the stranger's session is left");
        assert_eq!((is_found(&table), table.references(made) > 0), (is_kept, true));
    });
}

#[test]
fn loom_two_makers_for_one_internal_endpoint_agree_on_one_mapping() {
    let create = |port: u16| {
        move |table: &Mappings| {
            let mut retired = false;
            let external = Endpoint::new(PUBLIC.address, port);
            let made = table.create(&mapping(HOST, external, SCOPE), |_| retired = true);
            assert!(!retired, "the key that both want comes first");
            made
        }
    };
    model(Some(3), move || {
        let table = mappings();
        let (theirs, ours) = race(&table, create(1), create(2));
        match (theirs, ours) {
            (Ok(made), Err(CreateError::Exists(other))) | (Err(CreateError::Exists(other)), Ok(made)) => {
                assert_eq!(made, other);
            }
            both => panic!("{both:?}"),
        }
        assert_eq!(table.in_use(), 1, "nothing is left of the other one");
    });
}

#[test]
fn loom_an_external_endpoint_serves_one_host_for_each_remote() {
    let scope = Scope::Remote(REMOTE);
    let create =
        move |internal| move |table: &Mappings| table.create(&mapping(internal, PUBLIC, scope), |_| {});
    model(Some(3), move || {
        let table = mappings();
        let (theirs, ours) = race(&table, create(HOST), create(OTHER_HOST));
        let is_shared = |made| made == Err(CreateError::Shared);
        assert!(theirs.is_ok() != ours.is_ok() && (is_shared(theirs) || is_shared(ours)));
        let internal = if theirs.is_ok() { OTHER_HOST } else { HOST };
        assert_eq!(table.acquire_internal(UDP, internal, scope), None, "nothing is left of the other one");
    });
}

/// Nobody gets a mapping whose second key is not in yet: that may be refused.
#[test]
fn loom_a_mapping_is_found_whole() {
    model(Some(3), || {
        let table = mappings();
        let find = |table: &Mappings| table.acquire_internal(UDP, HOST, SCOPE);
        let (found, made) = race(&table, find, |table| table.create(&mapping(HOST, PUBLIC, SCOPE), |_| {}));
        let made = made.expect("there is room");
        assert!(found.is_none_or(|found| found == made));
        assert_eq!(table.references(made), 1 + u64::from(found.is_some()));
        assert!(is_found(&table));
    });
}
