//! Static 1:1 translations: a host with an external address of its own.

use algate_config::StaticInbound;
use algate_engine::drop_reason::DropReason;
use algate_engine::ids::InterfaceId;

use crate::common::packets::{
    ACK, FIN, RST, SYN, at, echo_request, icmp, tcp, tcp_between, udp, udp_between,
};
use crate::common::{INSIDE, Net, OUTSIDE};

const STATIC: &str = r#"
[[nat.static]]
external = "203.0.113.30"
internal = "10.0.0.30"
inbound = "allow"

[[nat.static]]
external = "198.51.100.64/28"
internal = "10.0.0.64/28"

[[nat.static]]
external = "203.0.113.254"
internal = "10.9.0.254"
"#;

const DOOR: &str = r#"
[[filter]]
name = "door"
action = "allow"
direction = "inbound"
protocol = "tcp"
destination = ["198.51.100.66/32"]
destination_ports = ["443"]
"#;

#[test]
fn a_host_leaves_from_its_own_address_and_keeps_its_ports() {
    let mut net = Net::with(STATIC, |_| {});
    for (inside, outside) in [
        ("10.0.0.30:5000", "203.0.113.30:5000"),
        ("10.0.0.30:22", "203.0.113.30:22"),
        ("10.0.0.64:5000", "198.51.100.64:5000"),
        ("10.0.0.79:5000", "198.51.100.79:5000"),
    ] {
        let seen = net.one(INSIDE, &udp(inside, "192.0.2.1:53", b"?"));
        assert_eq!((seen.nic_port, seen.source), (OUTSIDE, at(outside)));
        let back = net.one(OUTSIDE, &udp("192.0.2.1:53", outside, b"!"));
        assert_eq!((back.nic_port, back.destination), (INSIDE, at(inside)));
        let syn = net.one(INSIDE, &tcp(inside, "192.0.2.1:80", SYN));
        assert_eq!(syn.source, at(outside));
    }
    assert_eq!((net.mappings().len(), net.engine.nat.ports.taken()), (0, 0));
    // Its neighbour leaves by rule.
    let other = net.one(INSIDE, &udp("10.0.0.80:5000", "192.0.2.1:53", b"?"));
    assert!(["203.0.113.10", "203.0.113.11"].contains(&other.source.ip().to_string().as_str()));
}

#[test]
fn the_world_comes_in_as_the_static_says() {
    let mut net = Net::with(&format!("{STATIC}{DOOR}"), |_| {});
    let seen = net.one(OUTSIDE, &tcp("192.0.2.1:4000", "203.0.113.30:22", SYN));
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.30:22")));
    let back = net.one(INSIDE, &tcp("10.0.0.30:22", "192.0.2.1:4000", SYN | ACK));
    assert_eq!((back.source, back.destination), (at("203.0.113.30:22"), at("192.0.2.1:4000")));

    let seen = net.one(OUTSIDE, &tcp("192.0.2.1:4000", "198.51.100.66:443", SYN));
    assert_eq!(seen.destination, at("10.0.0.66:443"));
    for closed in ["198.51.100.66:80", "198.51.100.67:443"] {
        net.refused(OUTSIDE, &tcp("192.0.2.1:4000", closed, SYN), DropReason::NoMapping);
    }
    net.refused(OUTSIDE, &udp("192.0.2.1:4000", "198.51.100.66:443", b""), DropReason::NoMapping);
    // What the host has asked for itself comes back, from there and from nowhere else.
    net.one(INSIDE, &udp("10.0.0.66:5000", "192.0.2.1:53", b"?"));
    net.one(OUTSIDE, &udp("192.0.2.1:53", "198.51.100.66:5000", b"!"));
    net.refused(OUTSIDE, &udp("192.0.2.2:53", "198.51.100.66:5000", b"!"), DropReason::NoMapping);
}

#[test]
fn a_filter_rule_closes_what_the_static_leaves_open() {
    let deny = DOOR.replace("allow", "deny").replace("198.51.100.66", "203.0.113.30");
    let mut net = Net::with(&format!("{STATIC}{deny}"), |_| {});
    net.refused(OUTSIDE, &tcp("192.0.2.1:4000", "203.0.113.30:443", SYN), DropReason::FilterDeny);
    net.one(OUTSIDE, &tcp("192.0.2.1:4000", "203.0.113.30:80", SYN));
}

#[test]
fn i_06_pings_reach_the_host_from_outside_and_by_hairpin() {
    let mut net = Net::with(STATIC, |_| {});
    let ping = net.one(OUTSIDE, &echo_request("192.0.2.1", "203.0.113.30", 7));
    assert_eq!((ping.icmp, ping.destination.ip()), (Some((8, 0)), at("10.0.0.30:0").ip()));
    let pong = net.one(INSIDE, &icmp("10.0.0.30", "192.0.2.1", (0, 0), [0, 7, 0, 1], b""));
    assert_eq!((pong.nic_port, pong.source.ip()), (OUTSIDE, at("203.0.113.30:0").ip()));

    let ping = net.one(INSIDE, &echo_request("10.0.0.66", "203.0.113.30", 9));
    assert_eq!((ping.nic_port, ping.source, ping.ttl), (INSIDE, at("198.51.100.66:9"), 63));
    assert_eq!(ping.destination.ip(), at("10.0.0.30:0").ip());
    let pong = net.one(INSIDE, &icmp("10.0.0.30", "198.51.100.66", (0, 0), [0, 9, 0, 1], b""));
    assert_eq!((pong.source.ip(), pong.destination), (at("203.0.113.30:0").ip(), at("10.0.0.66:9")));

    let seen = net.one(INSIDE, &udp("10.0.0.66:5000", "203.0.113.30:53", b"?"));
    let error = net.one(INSIDE, &icmp("10.0.0.30", "198.51.100.66", (3, 3), [0; 4], &seen.packet));
    assert_eq!(
        (error.source.ip(), error.destination.ip()),
        (at("203.0.113.30:0").ip(), at("10.0.0.66:0").ip())
    );
    assert_eq!(error.embedded().source, at("10.0.0.66:5000"));
}

#[test]
fn i_04_an_inside_router_with_a_static_address_reports_from_there() {
    let mut net = Net::with(STATIC, |config| config.nat.statics[2].inbound = StaticInbound::Allow);
    let seen = net.one(OUTSIDE, &udp("192.0.2.1:4000", "203.0.113.30:53", b"?"));
    for (router, reports_from) in [("10.9.0.254", "203.0.113.254"), ("10.9.0.253", "203.0.113.2")] {
        let error = net.one(INSIDE, &icmp(router, "192.0.2.1", (3, 1), [0; 4], &seen.packet));
        assert_eq!((error.nic_port, error.source.ip().to_string().as_str()), (OUTSIDE, reports_from));
        assert_eq!(error.embedded().destination, at("203.0.113.30:53"));
    }
}

#[test]
fn u_10_static_hosts_see_each_others_static_addresses() {
    let mut net = Net::with(STATIC, |_| {});
    let seen = net.one(INSIDE, &udp("10.0.0.30:5000", "198.51.100.66:6000", b"hello"));
    assert_eq!((seen.nic_port, seen.ttl), (INSIDE, 63));
    assert_eq!((seen.source, seen.destination), (at("203.0.113.30:5000"), at("10.0.0.66:6000")));
    let back = net.one(INSIDE, &udp("10.0.0.66:6000", "203.0.113.30:5000", b"hello"));
    assert_eq!((back.source, back.destination), (at("198.51.100.66:6000"), at("10.0.0.30:5000")));
    assert_eq!((net.sessions().len(), net.mappings().len()), (1, 0));
    // Both ends of a mapping, too.
    let mapped = net.one(INSIDE, &udp("10.0.0.2:5000", "203.0.113.30:53", b"?")).source;
    assert!(mapped.ip().to_string().starts_with("203.0.113.1"));
    let seen = net.one(INSIDE, &udp_between(at("10.0.0.66:6000"), mapped, b"?"));
    assert_eq!((seen.source, seen.destination), (at("198.51.100.66:6000"), at("10.0.0.2:5000")));
}

#[test]
fn u_10_a_static_host_reaches_itself() {
    let mut net = Net::with(STATIC, |_| {});
    let seen = net.one(INSIDE, &udp("10.0.0.30:5001", "203.0.113.30:5000", b"me"));
    assert_eq!((seen.source, seen.destination), (at("203.0.113.30:5001"), at("10.0.0.30:5000")));
    let back = net.one(INSIDE, &udp("10.0.0.30:5000", "203.0.113.30:5001", b"me"));
    assert_eq!((back.source, back.destination), (at("203.0.113.30:5000"), at("10.0.0.30:5001")));
    // Not even so: both directions would be one flow.
    let same = udp("10.0.0.30:5002", "203.0.113.30:5002", b"me");
    net.refused(INSIDE, &same, DropReason::MartianDestination);
}

#[test]
fn t_07_a_hairpinned_connection_to_a_static_host_opens_resets_and_closes() {
    let mut net = Net::with(STATIC, |_| {});
    let there = net.one(INSIDE, &tcp("10.0.0.2:4000", "203.0.113.30:80", SYN));
    for flags in [SYN | ACK, ACK, FIN | ACK, RST] {
        let back = net.one(INSIDE, &tcp_between(at("10.0.0.30:80"), there.source, flags, b"x"));
        assert_eq!((back.source, back.destination), (at("203.0.113.30:80"), at("10.0.0.2:4000")));
        let there = net.one(INSIDE, &tcp_between(at("10.0.0.2:4000"), at("203.0.113.30:80"), flags, b"x"));
        assert_eq!((there.destination, there.tcp_flags), (at("10.0.0.30:80"), flags));
    }
}

#[test]
fn algate_speaks_for_static_addresses_outside_only() {
    let mut net = Net::with(STATIC, |_| {});
    let router = &net.engine.router;
    for address in ["203.0.113.30", "198.51.100.64", "198.51.100.79", "203.0.113.254"] {
        let address = u32::from(*at(&format!("{address}:0")).ip());
        assert!(router.answers_for(InterfaceId(OUTSIDE), address));
        assert!(!router.answers_for(InterfaceId(INSIDE), address));
    }
    assert!(!router.answers_for(InterfaceId(OUTSIDE), u32::from(*at("198.51.100.80:0").ip())));
    // And nobody else may send in their name.
    let forged = udp("198.51.100.66:53", "203.0.113.30:53", b"");
    net.refused(OUTSIDE, &forged, DropReason::SpoofedSource);
}

/// A prefix of a whole network counts algate's own address and the broadcasts in.
#[test]
fn what_is_no_host_has_no_static_address() {
    let mut net = Net::with(STATIC, |config| {
        config.nat.statics[0].internal = "10.0.0.0/24".parse().unwrap();
        config.nat.statics[0].external = "192.0.2.0/24".parse().unwrap();
        config.nat.statics.truncate(1);
    });
    net.one(OUTSIDE, &udp("198.51.100.1:53", "192.0.2.2:53", b""));
    for nobody in ["192.0.2.0:53", "192.0.2.1:53", "192.0.2.255:53"] {
        net.refused(OUTSIDE, &udp("198.51.100.1:53", nobody, b""), DropReason::NoMapping);
        net.refused(INSIDE, &udp("10.0.0.2:53", nobody, b""), DropReason::NoMapping);
    }
}
