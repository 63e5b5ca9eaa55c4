//! Loom models of the port bitmaps: no port is handed out twice, none is lost.

use std::sync::Arc;

use super::*;
use crate::nat::models::{model, race};

/// One address with UDP ports 0..64.
fn pools() -> Arc<PortPools> {
    let space = || Bitmap { words: Box::new([AtomicU64::new(0)]), writers: Writers::Many };
    let address = AddressPorts {
        address: ADDRESS,
        pool: 0,
        number: 0,
        spaces: [space(), space(), space()],
        users: (0..64).map(|_| AtomicU16::new(0)).collect(),
        hosts: AtomicU32::new(0),
    };
    let range = AddressRange { first: ADDRESS, last: ADDRESS, position: 0 };
    Arc::new(PortPools {
        addresses: vec![address],
        pools: vec![],
        ranges: vec![range],
        held: AtomicU64::new(0),
        writers: Writers::Many,
    })
}

fn window(low: u16, high: u16) -> Window {
    Window { low, high, parity: Parity::Any }
}

fn on(ports: &PortPools) -> &AddressPorts {
    ports.on(ADDRESS).expect("it is in the pool")
}

fn take(ports: &PortPools) -> Option<u16> {
    on(ports).take(PortSpace::Tcp, window(4, 5), 0)
}

#[test]
fn loom_two_that_want_a_port_get_two() {
    model(None, || {
        let ports = pools();
        let (theirs, ours) = race(&ports, take, take);
        let mut both = [theirs, ours].map(|l4_port| l4_port.expect("two are free"));
        both.sort_unstable();
        assert_eq!((both, ports.taken()), ([4, 5], 2));
    });
}

#[test]
fn loom_a_single_port_a_pair_and_an_exact_one_never_overlap() {
    model(Some(3), || {
        let ports = pools();
        let shared = Arc::clone(&ports);
        let pair = loom::thread::spawn(move || shared.take_pair(ADDRESS, PortSpace::Tcp, (4, 7), 0));
        let (single, exact) =
            race(&ports, take, |ports| ports.take_exact(ADDRESS, PortSpace::Tcp, 5).then_some(5));
        let pair = pair.join().expect("the thread ends").expect("of two pairs one is left");
        let mut held: Vec<u16> = [Some(pair), Some(pair + 1), single, exact].into_iter().flatten().collect();
        assert_eq!(ports.taken(), held.len() as u64);
        held.sort_unstable();
        let count = held.len();
        held.dedup();
        assert_eq!(held.len(), count, "a port is out twice");
    });
}

#[test]
fn loom_a_port_given_back_disturbs_no_other_in_its_word() {
    model(None, || {
        let ports = pools();
        assert_eq!(take(&ports), Some(4));
        let (taken, ()) = race(&ports, take, |ports| ports.release(ADDRESS, PortSpace::Tcp, 4));
        assert_eq!((taken.is_some(), ports.taken()), (true, 1));
    });
}

/// A port of mappings for one remote each: a third host asks for a share, and another for a port of its own, while the
/// only user leaves.
#[test]
fn loom_a_shared_port_stays_taken_until_its_last_user_leaves() {
    let only = window(4, 4);
    model(Some(3), move || {
        let ports = pools();
        assert_eq!(on(&ports).take_shareable(PortSpace::Tcp, only, 0), Some(4));
        let shared = Arc::clone(&ports);
        let alone = loom::thread::spawn(move || on(&shared).take(PortSpace::Tcp, only, 0));
        let (share, ()) = race(
            &ports,
            move |ports| on(ports).share(PortSpace::Tcp, only, 0),
            |ports| ports.release(ADDRESS, PortSpace::Tcp, 4),
        );
        let alone = alone.join().expect("the thread ends");
        assert!(share.is_none() || alone.is_none(), "one port, for all remotes and for one");
        assert_eq!(ports.taken(), u64::from(share.is_some() || alone.is_some()));
        if share.or(alone).is_some() {
            ports.release(ADDRESS, PortSpace::Tcp, 4);
        }
        assert_eq!((ports.taken(), take(&ports)), (0, Some(4)));
    });
}

const ADDRESS: u32 = 0xcb00_710a;
