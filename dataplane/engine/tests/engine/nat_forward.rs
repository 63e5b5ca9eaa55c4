//! Port forwards: servers inside that the world knows.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, SYN, at, tcp, tcp_between, udp};
use crate::common::{INSIDE, Net, OUTSIDE};

const FORWARDS: &str = r#"
[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:80"
internal = "10.0.0.9:8080"

[[nat.forward]]
protocol = "udp"
external = "203.0.113.11:53"
internal = "10.0.0.9:53"

[[nat.forward]]
protocol = "udp"
external = "203.0.113.11:40053"
internal = "10.0.0.9:53"
"#;

#[test]
fn the_world_reaches_a_server_and_sees_its_external_endpoint() {
    let mut net = Net::with(FORWARDS, |_| {});
    let seen = net.one(OUTSIDE, &tcp("198.51.100.1:4000", "203.0.113.11:80", SYN));
    assert_eq!(
        (seen.nic_port, seen.source, seen.destination),
        (INSIDE, at("198.51.100.1:4000"), at("10.0.0.9:8080"))
    );
    let back = net.one(INSIDE, &tcp("10.0.0.9:8080", "198.51.100.1:4000", SYN | ACK));
    assert_eq!((back.source, back.destination), (at("203.0.113.11:80"), at("198.51.100.1:4000")));

    let seen = net.one(OUTSIDE, &udp("198.51.100.1:4000", "203.0.113.11:53", b"?"));
    assert_eq!(seen.destination, at("10.0.0.9:53"));
    assert_eq!(net.one(INSIDE, &udp("10.0.0.9:53", "198.51.100.1:4000", b"!")).source, at("203.0.113.11:53"));

    net.refused(OUTSIDE, &udp("198.51.100.1:4000", "203.0.113.11:80", b""), DropReason::NoMapping);
    net.refused(OUTSIDE, &tcp("198.51.100.1:4000", "203.0.113.11:53", SYN), DropReason::NoMapping);
}

#[test]
fn two_forwards_to_one_server_each_answer_for_themselves() {
    let mut net = Net::with(FORWARDS, |_| {});
    net.one(OUTSIDE, &udp("198.51.100.1:4000", "203.0.113.11:53", b"?"));
    net.one(OUTSIDE, &udp("198.51.100.1:4001", "203.0.113.11:40053", b"?"));
    let answer = |net: &mut Net, to: &str| net.one(INSIDE, &udp("10.0.0.9:53", to, b"!")).source;
    assert_eq!(answer(&mut net, "198.51.100.1:4000"), at("203.0.113.11:53"));
    assert_eq!(answer(&mut net, "198.51.100.1:4001"), at("203.0.113.11:40053"));
}

#[test]
fn a_server_that_speaks_first_uses_its_forwarded_endpoint_and_address() {
    let mut net = Net::with(FORWARDS, |_| {});
    assert_eq!(net.one(INSIDE, &udp("10.0.0.9:53", "198.51.100.7:53", b"")).source, at("203.0.113.11:53"));
    let other = net.one(INSIDE, &udp("10.0.0.9:5000", "198.51.100.7:53", b"")).source;
    assert_eq!(*other.ip(), *at("203.0.113.11:0").ip());
}

#[test]
fn no_mapping_is_ever_given_a_forwarded_port() {
    let mut net = Net::with(FORWARDS, |config| {
        config.nat.pools[0].l4_ports = (40_053, 40_054);
        config.nat.pools[0].ranges[0].0 = "203.0.113.11".parse().unwrap();
    });
    assert_eq!(
        net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:1", b"")).source,
        at("203.0.113.11:40054")
    );
    assert_eq!(net.one(INSIDE, &udp("10.0.0.3:5000", "198.51.100.1:1", b"")).icmp, Some((3, 1)));
}

#[test]
fn a_forward_outlives_its_sessions() {
    let mut net = Net::with(FORWARDS, |_| {});
    for l4_port in 4000..4003 {
        let client = at(&format!("198.51.100.1:{l4_port}"));
        net.one(OUTSIDE, &tcp_between(client, at("203.0.113.11:80"), SYN, b""));
        net.advance(Duration::from_secs(241));
        assert_eq!((net.sessions().len(), net.mappings().len()), (0, 3));
    }
}

#[test]
fn an_internal_client_reaches_the_server_by_its_external_endpoint() {
    let mut net = Net::with(FORWARDS, |_| {});
    let seen = net.one(INSIDE, &tcp("10.0.0.2:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.9:8080")));
    assert_ne!(seen.source.ip(), at("10.0.0.2:0").ip());
    let back = net.one(INSIDE, &tcp_between(at("10.0.0.9:8080"), seen.source, SYN | ACK, b""));
    assert_eq!((back.source, back.destination), (at("203.0.113.11:80"), at("10.0.0.2:4000")));
}
