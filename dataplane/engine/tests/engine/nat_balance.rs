//! Port forwards of ranges, and to several servers that share the clients.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, FIN, RST, SYN, at, tcp, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const RANGE: &str = r#"
[[nat.forward]]
protocol = "tcp+udp"
external = "203.0.113.11:5000-5099"
internal = "10.0.0.9:6000-6099"
"#;

const SHARED: &str = r#"
[[nat.forward]]
protocol = "tcp"
external = "203.0.113.10:80"
internal = ["10.0.0.7:8080", "10.0.0.8:8080", "10.0.0.9:8080"]

[[nat.forward]]
protocol = "udp"
external = "203.0.113.10:7000-7009"
internal = ["10.0.0.7:7000-7009", "10.0.0.8:7000-7009"]
affinity = "none"
"#;

/// The server that the SYN of `client` reaches.
fn server_of(net: &mut Net, client: SocketAddrV4) -> SocketAddrV4 {
    let seen = net.one(OUTSIDE, &tcp_between(client, at("203.0.113.10:80"), SYN, b""));
    assert_eq!((seen.nic_port, seen.source), (INSIDE, client));
    seen.destination
}

/// Its answers could not be told from what it has begun by its rule.
#[test]
fn a_client_that_its_server_speaks_to_already_is_refused_for_that() {
    let mut net = Net::with(SHARED, |_| {});
    let client = "198.51.100.1:4000";
    for server in ["10.0.0.7:7003", "10.0.0.8:7003"] {
        net.one(INSIDE, &udp(server, client, b"first"));
    }
    net.refused(OUTSIDE, &udp(client, "203.0.113.10:7003", b"?"), DropReason::FlowInUse);
    let other = net.one(OUTSIDE, &udp("198.51.100.1:4001", "203.0.113.10:7003", b"?"));
    assert_eq!(other.destination.port(), 7003);
}

#[test]
fn every_port_of_a_range_keeps_its_place() {
    let mut net = Net::with(RANGE, |_| {});
    for (outside, inside) in [
        ("203.0.113.11:5000", "10.0.0.9:6000"),
        ("203.0.113.11:5042", "10.0.0.9:6042"),
        ("203.0.113.11:5099", "10.0.0.9:6099"),
    ] {
        let seen = net.one(OUTSIDE, &tcp("198.51.100.1:4000", outside, SYN));
        assert_eq!(seen.destination, at(inside));
        let back = net.one(INSIDE, &tcp(inside, "198.51.100.1:4000", SYN | ACK));
        assert_eq!((back.source, back.destination), (at(outside), at("198.51.100.1:4000")));
        assert_eq!(net.one(OUTSIDE, &udp("198.51.100.1:4000", outside, b"?")).destination, at(inside));
        assert_eq!(net.one(INSIDE, &udp(inside, "198.51.100.1:4000", b"!")).source, at(outside));
    }
    for beside in ["203.0.113.11:4999", "203.0.113.11:5100", "203.0.113.10:5000"] {
        net.refused(OUTSIDE, &udp("198.51.100.1:4000", beside, b""), DropReason::NoMapping);
    }
    // A server that speaks first uses its forwarded endpoint, and its address for all else.
    assert_eq!(
        net.one(INSIDE, &udp("10.0.0.9:6007", "198.51.100.7:53", b"")).source,
        at("203.0.113.11:5007")
    );
    assert_eq!(
        net.one(INSIDE, &udp("10.0.0.9:53", "198.51.100.7:53", b"")).source.ip(),
        at("203.0.113.11:0").ip()
    );
}

#[test]
fn no_mapping_is_ever_given_a_port_of_a_range() {
    for forwards in [RANGE.to_string(), SHARED.replace("203.0.113.10:7000-7009", "203.0.113.11:5000-5009")] {
        let last = if forwards == RANGE { 5_099 } else { 5_009 };
        let mut net = Net::with(&forwards, |config| {
            config.nat.pools[0].l4_ports = (5_000, last + 1);
            config.nat.pools[0].ranges[0].0 = "203.0.113.11".parse().unwrap();
            config.nat.forwards.retain(|forward| forward.external.ip().octets()[3] == 11);
        });
        let only = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:1", b"")).source;
        assert_eq!(only, at(&format!("203.0.113.11:{}", last + 1)));
        assert_eq!(net.one(INSIDE, &udp("10.0.0.3:5000", "198.51.100.1:1", b"")).icmp, Some((3, 1)));
    }
}

#[test]
fn clients_are_shared_and_each_keeps_its_server() {
    let mut net = Net::with(SHARED, |_| {});
    let mut servers = BTreeSet::new();
    for client in 1..30 {
        let chosen = server_of(&mut net, at(&format!("198.51.100.{client}:4000")));
        assert_eq!(server_of(&mut net, at(&format!("198.51.100.{client}:4001"))), chosen);
        // The SYN once more, as if the first had been lost behind algate.
        assert_eq!(server_of(&mut net, at(&format!("198.51.100.{client}:4000"))), chosen);
        let back =
            net.one(INSIDE, &tcp_between(chosen, at(&format!("198.51.100.{client}:4000")), SYN | ACK, b""));
        assert_eq!(back.source, at("203.0.113.10:80"));
        servers.insert(chosen);
    }
    assert_eq!(servers.len(), 3);
    assert_eq!(net.mappings().len(), 0);
}

#[test]
fn flows_of_one_client_are_shared_without_affinity() {
    let mut net = Net::with(SHARED, |_| {});
    let mut servers = BTreeSet::new();
    for l4_port in 4000..4030 {
        let client = at(&format!("198.51.100.1:{l4_port}"));
        let seen = net.one(OUTSIDE, &udp_between(client, at("203.0.113.10:7003"), b"?"));
        assert_eq!(seen.destination.port(), 7003);
        assert_eq!(
            net.one(INSIDE, &udp_between(seen.destination, client, b"!")).source,
            at("203.0.113.10:7003")
        );
        servers.insert(seen.destination);
    }
    assert_eq!(servers.len(), 2);
}

#[test]
fn a_server_among_several_leaves_by_its_rule() {
    let mut net = Net::with(SHARED, |_| {});
    let seen = net.one(INSIDE, &tcp("10.0.0.7:8080", "198.51.100.1:4000", SYN));
    assert_ne!(seen.source, at("203.0.113.10:80"));
    assert_eq!(net.mappings().len(), 1);
}

#[test]
fn u_10_internal_clients_reach_ranges_and_shared_servers() {
    let mut net = Net::with(&format!("{RANGE}{SHARED}"), |_| {});
    for (to, l4_port) in [("203.0.113.11:5042", 6042), ("203.0.113.10:80", 8080)] {
        let seen = net.one(INSIDE, &tcp("10.0.0.2:4000", to, SYN));
        assert_eq!((seen.nic_port, seen.destination.port(), seen.ttl), (INSIDE, l4_port, 63));
        assert_ne!(seen.source.ip(), at("10.0.0.2:0").ip());
        let back = net.one(INSIDE, &tcp_between(seen.destination, seen.source, SYN | ACK, b""));
        assert_eq!((back.source, back.destination), (at(to), at("10.0.0.2:4000")));
    }
    assert_eq!(net.sessions().len(), 2);
}

#[test]
fn t_07_a_server_that_is_its_own_client_opens_and_closes() {
    // The first server has nearly every client, itself among them.
    let shared = SHARED.replace("\"]\n\n", "\"]\nweights = [100, 1, 1]\n\n");
    let mut net = Net::with(&shared, |_| {});
    let client = at("10.0.0.7:4000");
    let seen = net.one(INSIDE, &tcp_between(client, at("203.0.113.10:80"), SYN, b""));
    assert_eq!(seen.destination, at("10.0.0.7:8080"));
    for flags in [SYN | ACK, ACK, FIN | ACK, RST] {
        let back = net.one(INSIDE, &tcp_between(at("10.0.0.7:8080"), seen.source, flags, b"x"));
        assert_eq!((back.source, back.destination), (at("203.0.113.10:80"), client));
        let there = net.one(INSIDE, &tcp_between(client, at("203.0.113.10:80"), flags, b"x"));
        assert_eq!((there.source, there.destination), (seen.source, seen.destination));
    }
    // From the very endpoint that it would reach: both directions would be one flow.
    let to_itself = tcp("10.0.0.7:8080", "203.0.113.10:80", SYN);
    net.refused(INSIDE, &to_itself, DropReason::MartianDestination);
}
