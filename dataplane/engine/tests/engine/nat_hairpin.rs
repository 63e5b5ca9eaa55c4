//! Internal hosts that speak to each other through their external endpoints (RFC 4787 REQ-9).

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, FIN, RST, SYN, at, icmp, tcp, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net};

#[test]
fn u_10_both_ends_see_each_others_external_endpoint() {
    let mut net = Net::new();
    let one = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"")).source;
    let two = net.one(INSIDE, &udp("10.0.0.3:6000", "198.51.100.1:53", b"")).source;
    let seen = net.one(INSIDE, &udp_between(at("10.0.0.3:6000"), one, b"hello"));
    assert_eq!((seen.nic_port, seen.source, seen.destination), (INSIDE, two, at("10.0.0.2:5000")));
    assert_eq!(seen.ttl, 63);
    let back = net.one(INSIDE, &udp_between(at("10.0.0.2:5000"), two, b"hello"));
    assert_eq!((back.nic_port, back.source, back.destination), (INSIDE, one, at("10.0.0.3:6000")));
    assert_eq!(net.sessions().len(), 3);
}

#[test]
fn u_10_a_host_is_reached_in_the_burst_that_makes_its_mapping() {
    let first = udp("10.0.0.2:5000", "198.51.100.1:53", b"");
    // Networks with the same keys choose the same port.
    let one = Net::new().one(INSIDE, &first).source;
    let mut net = Net::new();
    net.burst = 3;
    let hello = udp_between(at("10.0.0.3:6000"), one, b"hello");
    let mut seen = net.send_all(INSIDE, &[first.clone(), hello, first]);
    seen.sort_by_key(|seen| seen.payload.len());
    assert_eq!(
        seen.iter().map(|seen| seen.payload.as_slice()).collect::<Vec<_>>(),
        [&b""[..], b"", b"hello"]
    );
    assert_eq!((seen[0].source, seen[1].source, seen[2].destination), (one, one, at("10.0.0.2:5000")));
    assert_eq!((net.sessions().len(), net.mappings().len()), (2, 2));
}

#[test]
fn u_10_packets_of_either_end_keep_a_hairpin() {
    let mut net = Net::new();
    let one = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"")).source;
    let two = net.one(INSIDE, &udp_between(at("10.0.0.3:6000"), one, b"hello")).source;
    for _ in 0..4 {
        net.advance(Duration::from_secs(200));
        net.one(INSIDE, &udp_between(at("10.0.0.2:5000"), two, b"stream"));
    }
}

#[test]
fn u_10_a_host_reaches_itself() {
    let mut net = Net::new();
    let own = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"")).source;
    let seen = net.one(INSIDE, &udp_between(at("10.0.0.2:5001"), own, b"me"));
    assert_eq!(seen.destination, at("10.0.0.2:5000"));
    assert_eq!(seen.source.ip(), own.ip());
    // Not even so: both directions would be one flow.
    net.refused(INSIDE, &udp_between(at("10.0.0.2:5000"), own, b""), DropReason::MartianDestination);
}

#[test]
fn u_10_an_endpoint_without_mapping_is_nobody() {
    let mut net = Net::new();
    net.refused(INSIDE, &udp("10.0.0.3:6000", "203.0.113.10:4711", b""), DropReason::NoMapping);
    assert_eq!(net.mappings().len(), 0);
}

#[test]
fn t_07_a_hairpinned_connection_opens_resets_and_closes() {
    let mut net = Net::new();
    let one = net.one(INSIDE, &tcp("10.0.0.2:80", "198.51.100.1:53", SYN)).source;
    let two = net.one(INSIDE, &tcp_between(at("10.0.0.3:6000"), one, SYN, b"")).source;
    for flags in [SYN | ACK, ACK, FIN | ACK, RST] {
        let there = net.one(INSIDE, &tcp_between(at("10.0.0.2:80"), two, flags, b"x"));
        assert_eq!((there.source, there.destination, there.tcp_flags), (one, at("10.0.0.3:6000"), flags));
        let back = net.one(INSIDE, &tcp_between(at("10.0.0.3:6000"), one, flags, b"x"));
        assert_eq!((back.source, back.destination), (two, at("10.0.0.2:80")));
    }
}

#[test]
fn i_06_errors_about_hairpinned_packets_find_their_sender() {
    let mut net = Net::new();
    let one = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"")).source;
    let seen = net.one(INSIDE, &udp_between(at("10.0.0.3:6000"), one, b"hello"));
    let frame = icmp("10.0.0.2", &seen.source.ip().to_string(), (3, 3), [0; 4], &seen.packet);
    let error = net.one(INSIDE, &frame);
    assert_eq!((error.source.ip(), error.destination.ip()), (one.ip(), at("10.0.0.3:0").ip()));
    let embedded = error.embedded();
    assert_eq!((embedded.source, embedded.destination), (at("10.0.0.3:6000"), one));
    // And about the reply, from the other end.
    let back = net.one(INSIDE, &udp_between(at("10.0.0.2:5000"), seen.source, b"hello"));
    let frame = icmp("10.0.0.3", &one.ip().to_string(), (3, 3), [0; 4], &back.packet);
    let error = net.one(INSIDE, &frame);
    assert_eq!((error.source.ip(), error.destination.ip()), (seen.source.ip(), at("10.0.0.2:0").ip()));
    assert_eq!(error.embedded().source, at("10.0.0.2:5000"));
}

#[test]
fn what_stays_inside_is_routed_untranslated() {
    let mut net = Net::new();
    let there = net.one(INSIDE, &udp("10.0.0.2:5000", "10.9.0.5:53", b""));
    assert_eq!(
        (there.nic_port, there.source, there.destination),
        (INSIDE, at("10.0.0.2:5000"), at("10.9.0.5:53"))
    );
    for _ in 0..3 {
        net.advance(Duration::from_secs(200));
        let back = net.one(INSIDE, &udp("10.9.0.5:53", "10.0.0.2:5000", b""));
        assert_eq!((back.source, back.destination), (at("10.9.0.5:53"), at("10.0.0.2:5000")));
    }
    assert_eq!((net.sessions().len(), net.mappings().len()), (1, 0));
}
