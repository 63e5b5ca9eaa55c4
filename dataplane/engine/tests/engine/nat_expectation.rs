//! Expectations: what an ALG may promise, who may come, and when it ends.
//!
//! The promises are made here as an ALG makes them, over the tables; a control session is any session.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_alg::ExpectError;
use algate_config::Hold;
use algate_engine::drop_reason::DropReason;
use algate_engine::ids::WorkerId;
use algate_engine::nat::NatWorker;
use algate_engine::nat::expectation::Expectation;
use algate_engine::nat::key::{Endpoint, FlowKey};
use algate_engine::table::hash::HashKey;
use algate_engine::table::quiescence::Quiescence;
use algate_engine::table::slots::Handle;
use algate_engine::time::{Instant, Tick};

use crate::common::packets::{ACK, FIN, SYN, at, tcp, tcp_between, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::strict;

const CLIENT: &str = "10.0.0.2:4000";
const SERVER: &str = "198.51.100.1:2121";
const DATA: &str = "10.0.0.2:4001";

/// A control session, and what its owner needs to promise something.
struct Control {
    net: Net,
    handle: Handle,
    external: SocketAddrV4,
    worker: NatWorker,
}

impl Control {
    fn new() -> Self {
        Self::with("")
    }

    fn with(toml: &str) -> Self {
        Self::on(Net::with(toml, |_| {}))
    }

    fn on(mut net: Net) -> Self {
        let external = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN)).source;
        net.one(OUTSIDE, &tcp_between(at(SERVER), external, SYN | ACK, b""));
        let key = FlowKey::new(6, at(CLIENT).into(), at(SERVER).into());
        let sessions = &net.engine.nat.sessions;
        let handle = sessions.handle(&sessions.find(sessions.hash(key), key).unwrap().0);
        let events = net.engine.events.recorder(WorkerId(0)).unwrap();
        let hold = Hold { time: Duration::ZERO, ports: 0 };
        let worker = NatWorker::new(7, 8, &HashKey::from_seed([9; 4]), hold, events);
        Self { net, handle, external, worker }
    }

    /// Promises `uses` flows from the server's address, any port, to [`DATA`]; returns what the server is told.
    fn promise(&mut self, uses: u32) -> (SocketAddrV4, Handle) {
        self.promise_for(uses, Duration::from_secs(60))
    }

    fn promise_for(&mut self, uses: u32, lifetime: Duration) -> (SocketAddrV4, Handle) {
        let nat = &self.net.engine.nat;
        let target = Endpoint::from(at(DATA));
        let address = u32::from(*self.external.ip());
        let (announced, mapping) =
            nat.reserve(&mut self.worker, 6, target, address, Instant::default()).unwrap();
        let expectation = Expectation {
            protocol: 6,
            announced,
            target,
            peer: Some(Endpoint { l4_port: 0, ..Endpoint::from(at(SERVER)) }),
            uses,
            expires: Tick::of(self.net.now).plus(lifetime),
            parent: self.handle,
            mapping: Some(mapping),
        };
        let handle = nat.promise(&mut self.worker, &expectation).unwrap();
        (announced.into(), handle)
    }

    fn expectations(&self) -> usize {
        self.net.engine.expectation_rows(self.net.now, usize::MAX).len()
    }

    /// Gives back what this end has retired; nobody else holds anything between turns.
    fn reclaim(&mut self) {
        self.net.engine.nat.reclaim(&mut self.worker, &Quiescence::new(0), Instant::default());
    }
}

#[test]
fn only_the_peer_may_come_and_only_so_often() {
    let mut control = Control::new();
    let (announced, _) = control.promise(1);
    let net = &mut control.net;
    for stranger in ["198.51.100.2:20", "203.0.113.50:20"] {
        net.refused(OUTSIDE, &tcp_between(at(stranger), announced, SYN, b""), DropReason::ExpectationPeer);
    }
    net.refused(OUTSIDE, &udp_between(at("198.51.100.1:20"), announced, b""), DropReason::NoMapping);
    let seen = net.one(OUTSIDE, &tcp_between(at("198.51.100.1:20"), announced, SYN, b""));
    assert_eq!((seen.source, seen.destination), (at("198.51.100.1:20"), at(DATA)));
    let back = net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", SYN | ACK));
    assert_eq!((back.source, back.destination), (announced, at("198.51.100.1:20")));
    net.refused(OUTSIDE, &tcp_between(at("198.51.100.1:21"), announced, SYN, b""), DropReason::NoMapping);
    let rows = net.sessions();
    assert_eq!(
        rows.iter().map(|row| (row.is_child, row.children)).collect::<Vec<_>>(),
        [(false, 1), (true, 0)]
    );
    assert_eq!(control.expectations(), 0);
}

#[test]
fn several_uses_are_counted_down() {
    let mut control = Control::new();
    let (announced, _) = control.promise(3);
    for l4_port in 20..23 {
        let peer = at(&format!("198.51.100.1:{l4_port}"));
        control.net.one(OUTSIDE, &tcp_between(peer, announced, SYN, b""));
    }
    let late = tcp_between(at("198.51.100.1:23"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &late, DropReason::NoMapping);
}

#[test]
fn a_promise_ends_with_its_lifetime_and_frees_its_port() {
    let mut control = Control::new();
    let (announced, _) = control.promise(1);
    assert_eq!(control.net.mappings().len(), 2);
    control.net.advance(Duration::from_secs(59));
    assert_eq!(control.expectations(), 1);
    control.net.advance(Duration::from_secs(2));
    assert_eq!((control.expectations(), control.net.mappings().len()), (0, 1));
    let late = tcp_between(at("198.51.100.1:20"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &late, DropReason::NoMapping);
}

#[test]
fn a_09_a_promise_ends_within_a_second_of_its_parents_close() {
    let mut control = Control::new();
    let (announced, _) = control.promise(1);
    control.net.one(INSIDE, &tcp(CLIENT, SERVER, FIN | ACK));
    let external = control.external;
    control.net.one(OUTSIDE, &tcp_between(at(SERVER), external, FIN | ACK, b""));
    control.net.advance(Duration::from_secs(1));
    assert_eq!(control.expectations(), 0);
    let late = tcp_between(at("198.51.100.1:20"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &late, DropReason::NoMapping);
}

#[test]
fn a_promise_taken_back_is_gone_and_one_already_used_is_left_alone() {
    let mut control = Control::new();
    let (announced, handle) = control.promise(1);
    control.net.engine.nat.withdraw(&mut control.worker, handle);
    control.net.engine.nat.withdraw(&mut control.worker, handle);
    let late = tcp_between(at("198.51.100.1:20"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &late, DropReason::NoMapping);
    control.reclaim();
    let (announced, handle) = control.promise(1);
    control.net.one(OUTSIDE, &tcp_between(at("198.51.100.1:20"), announced, SYN, b""));
    control.net.engine.nat.withdraw(&mut control.worker, handle);
    control.net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", SYN | ACK));
    assert_eq!(control.net.sessions().len(), 2);
}

#[test]
fn a_host_that_sends_first_leaves_from_the_announced_port() {
    let mut control = Control::new();
    let (announced, handle) = control.promise(1);
    let out = control.net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", SYN));
    assert_eq!(out.source, announced);
    control.net.engine.nat.withdraw(&mut control.worker, handle);
    control.reclaim();
    // The port was reserved for the peer: it is open to nobody else.
    let stranger = tcp_between(at("198.51.100.9:1"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &stranger, DropReason::NoMapping);
}

/// The host has left by its rule before the promise. Its peer was told another endpoint.
#[test]
fn a_promise_ends_what_its_target_has_begun_but_no_connection() {
    for is_established in [false, true] {
        let mut control = Control::on(Net::with("", strict));
        let peer = "198.51.100.1:20";
        let early = control.net.one(INSIDE, &tcp(DATA, peer, SYN)).source;
        if is_established {
            control.net.one(OUTSIDE, &tcp_between(at(peer), early, SYN | ACK, b""));
            control.net.one(INSIDE, &tcp(DATA, peer, ACK));
        }
        let (announced, _) = control.promise(9);
        assert_ne!(announced, early);
        let syn = tcp_between(at(peer), announced, SYN, b"");
        if is_established {
            control.net.refused(OUTSIDE, &syn, DropReason::FlowInUse);
            assert_eq!(control.net.one(INSIDE, &tcp(DATA, peer, ACK)).source, early);
            continue;
        }
        assert_eq!(control.net.one(OUTSIDE, &syn).destination, at(DATA));
        assert_eq!(control.net.one(INSIDE, &tcp(DATA, peer, SYN | ACK)).source, announced);
        assert_eq!(control.net.sessions().len(), 2, "the control session and the promised one");
    }
}

#[test]
fn the_same_endpoint_is_promised_once() {
    let mut control = Control::new();
    let (_, handle) = control.promise(1);
    let nat = &control.net.engine.nat;
    let (announced, mapping) = nat
        .reserve(
            &mut control.worker,
            6,
            at(DATA).into(),
            u32::from(*control.external.ip()),
            Instant::default(),
        )
        .unwrap();
    let again = Expectation { announced, ..nat.expectations.expectation(handle.index).unwrap() };
    assert_eq!(again.mapping, Some(mapping));
    assert_eq!(nat.promise(&mut control.worker, &again), Err(ExpectError::TableFull));
    assert_eq!(nat.mappings.references(mapping), 1);
}

#[test]
fn a_parent_lives_while_a_child_does_and_one_more_period() {
    let mut control = Control::new();
    let (announced, _) = control.promise(1);
    let net = &mut control.net;
    net.one(OUTSIDE, &tcp_between(at("198.51.100.1:20"), announced, SYN, b""));
    net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", SYN | ACK));
    for _ in 0..3 {
        net.advance(Duration::from_secs(7_000));
        net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", ACK));
    }
    assert_eq!(net.sessions().len(), 2, "the control session was silent for 21,000 s");
    net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", FIN | ACK));
    net.one(OUTSIDE, &tcp_between(at("198.51.100.1:20"), announced, FIN | ACK, b""));
    net.advance(Duration::from_secs(242));
    assert_eq!(net.sessions().len(), 1);
    net.advance(Duration::from_secs(7_438));
    assert_eq!(net.sessions().len(), 1);
    net.advance(Duration::from_secs(5));
    assert_eq!(net.sessions().len(), 0);
}

/// Who ends: the control session, its child, the promise that is left.
const ORDERS: [[u8; 3]; 6] = [*b"pce", *b"pec", *b"cpe", *b"cep", *b"epc", *b"ecp"];

#[test]
fn s_17_parent_child_and_promise_may_end_in_every_order() {
    for order in ORDERS {
        let mut control = Control::new();
        let (announced, promise) = control.promise_for(2, Duration::from_secs(3_600));
        let peer = at("198.51.100.1:20");
        control.net.one(OUTSIDE, &tcp_between(peer, announced, SYN, b""));
        control.net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", SYN | ACK));
        let mut ended = Vec::new();
        for who in order {
            let external = control.external;
            let net = &mut control.net;
            match who {
                b'p' => {
                    net.one(INSIDE, &tcp(CLIENT, SERVER, FIN | ACK));
                    net.one(OUTSIDE, &tcp_between(at(SERVER), external, FIN | ACK, b""));
                }
                b'c' => {
                    net.one(INSIDE, &tcp(DATA, "198.51.100.1:20", FIN | ACK));
                    net.one(OUTSIDE, &tcp_between(peer, announced, FIN | ACK, b""));
                }
                _ => net.engine.nat.withdraw(&mut control.worker, promise),
            }
            control.net.advance(Duration::from_secs(242));
            control.reclaim();
            ended.push(who);
            let has_ended = |who| ended.contains(&who);
            let promised = usize::from(!has_ended(b'e') && !has_ended(b'p'));
            assert_eq!(control.expectations(), promised, "{order:?} {ended:?}");
            // The child stays while it lives, and its parent with it; the last one takes everything along.
            let data = control.net.send(INSIDE, &tcp(DATA, "198.51.100.1:20", ACK));
            assert_eq!(data.len(), usize::from(!has_ended(b'c')), "{order:?} {ended:?}");
        }
        control.net.advance(Duration::from_secs(242));
        control.reclaim();
        assert_eq!((control.net.sessions(), control.net.mappings()), (vec![], vec![]), "{order:?}");
    }
}

#[test]
fn a_filter_rule_that_denies_comes_before_a_promise_and_one_that_allows_adds_nothing() {
    let deny = "[[filter]]\nname = \"no\"\naction = \"deny\"\ndirection = \"inbound\"\n";
    let mut control = Control::with(deny);
    let (announced, _) = control.promise(1);
    control.net.refused(OUTSIDE, &data_of(announced), DropReason::FilterDeny);
    assert_eq!(control.net.engine.expectation_rows(control.net.now, 9).len(), 1, "the promise still holds");

    let mut control = Control::with(&deny.replace("deny", "allow"));
    let (announced, _) = control.promise(1);
    let other = tcp_between(at("198.51.100.2:2020"), announced, SYN, b"");
    control.net.refused(OUTSIDE, &other, DropReason::ExpectationPeer);
    let seen = control.net.one(OUTSIDE, &data_of(announced));
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at(DATA)));
}

fn data_of(announced: SocketAddrV4) -> Vec<u8> {
    tcp_between(at("198.51.100.1:2020"), announced, SYN, b"")
}
