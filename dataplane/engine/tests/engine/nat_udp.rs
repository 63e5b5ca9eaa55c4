//! UDP as RFC 4787 wants it.

use std::collections::HashSet;
use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{at, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

#[test]
fn u_01_one_external_endpoint_for_all_remotes() {
    let mut net = Net::new();
    let remotes = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1", "203.0.113.77:9"];
    let seen: HashSet<_> = remotes
        .iter()
        .map(|remote| {
            let out = net.one(INSIDE, &udp("10.0.0.2:5000", remote, b"hello"));
            assert_eq!((out.nic_port, out.destination, out.ttl), (OUTSIDE, at(remote), 63));
            assert_eq!(out.payload, b"hello");
            out.source
        })
        .collect();
    assert_eq!(seen.len(), 1);
    let external = seen.into_iter().next().unwrap();
    assert!(external.port() >= 1024);
    for remote in remotes {
        let back = net.one(OUTSIDE, &udp_between(at(remote), external, b"answer"));
        assert_eq!((back.nic_port, back.source, back.destination), (INSIDE, at(remote), at("10.0.0.2:5000")));
    }
    assert_eq!((net.sessions().len(), net.mappings().len()), (4, 1));
}

#[test]
fn u_02_all_flows_of_a_host_leave_with_one_address() {
    use crate::common::packets::{SYN, echo_request, tcp};
    let mut net = Net::new();
    for host in 2..40 {
        let mut addresses = HashSet::new();
        for l4_port in 6000..6010 {
            let host = format!("10.0.0.{host}:{l4_port}");
            addresses.insert(*net.one(INSIDE, &udp(&host, "198.51.100.1:53", b"")).source.ip());
            addresses.insert(*net.one(INSIDE, &tcp(&host, "198.51.100.2:80", SYN)).source.ip());
        }
        let ping = echo_request(&format!("10.0.0.{host}"), "198.51.100.3", 7);
        addresses.insert(*net.one(INSIDE, &ping).source.ip());
        assert_eq!(addresses.len(), 1, "host {host}");
    }
    let used: HashSet<_> = net.mappings().iter().map(|row| *row.external.ip()).collect();
    assert_eq!(used.len(), 2, "both pool addresses are used");
}

#[test]
fn u_03_two_internal_endpoints_never_share_an_external_one() {
    let mut net = Net::with("", |config| config.nat.pools[0].l4_ports = (2000, 2001));
    let mut owners = HashSet::new();
    let mut refused = 0;
    for host in 2..32 {
        let seen = net.send(INSIDE, &udp(&format!("10.0.0.{host}:5000"), "198.51.100.1:1", b""));
        match seen.as_slice() {
            [out] if out.nic_port == OUTSIDE => assert!(owners.insert(out.source), "{out:?}"),
            [error] => {
                assert_eq!((error.icmp, error.nic_port), (Some((3, 1)), INSIDE), "{error:?}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((owners.len(), refused), (4, 26));
    assert_eq!(net.dropped(DropReason::PoolExhausted), 26);
}

#[test]
fn u_06_a_reply_passes_until_five_minutes_of_outbound_silence() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.advance(Duration::from_secs(300));
    net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b""));
    net.advance(Duration::from_millis(1_000));
    assert_eq!((net.sessions().len(), net.mappings().len()), (0, 0));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b""), DropReason::NoMapping);
}

#[test]
fn u_07_outbound_packets_keep_a_mapping_and_inbound_ones_do_not() {
    let mut net = Net::new();
    let outbound = udp("10.0.0.2:5000", "198.51.100.1:53", b"");
    let out = net.one(INSIDE, &outbound);
    for _ in 0..12 {
        net.advance(Duration::from_secs(100));
        assert_eq!(net.one(INSIDE, &outbound).source, out.source);
    }
    let inbound = udp_between(at("198.51.100.1:53"), out.source, b"");
    for _ in 0..3 {
        net.advance(Duration::from_secs(90));
        net.one(OUTSIDE, &inbound);
    }
    net.advance(Duration::from_secs(32));
    net.refused(OUTSIDE, &inbound, DropReason::NoMapping);
}

#[test]
fn u_07_c_14_strangers_cannot_hold_a_mapping_with_ever_new_sessions() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    for l4_port in 7000..7004 {
        net.advance(Duration::from_secs(74));
        net.one(OUTSIDE, &udp_between(at(&format!("198.51.100.66:{l4_port}")), out.source, b""));
    }
    net.advance(Duration::from_secs(6));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.66:7004"), out.source, b""), DropReason::NoMapping);
}

#[test]
fn u_07_an_answer_to_a_stranger_makes_his_session_count() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    let inbound = udp_between(at("198.51.100.66:7000"), out.source, b"");
    let answer = udp("10.0.0.2:5000", "198.51.100.66:7000", b"");
    net.one(OUTSIDE, &inbound);
    net.advance(Duration::from_secs(200));
    assert_eq!(net.one(INSIDE, &answer).source, out.source);
    net.advance(Duration::from_secs(200));
    assert_eq!(net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.9:9", b"")).source, out.source);
}

#[test]
fn u_09_a_stranger_reaches_a_mapping_under_endpoint_independent_filtering() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    let stranger = udp_between(at("198.51.100.2:9999"), out.source, b"hi");
    let seen = net.one(OUTSIDE, &stranger);
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.2:5000")));
    let back = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.2:9999", b""));
    assert_eq!(back.source, out.source);
    let other_port = std::net::SocketAddrV4::new(*out.source.ip(), out.source.port() ^ 1);
    net.refused(OUTSIDE, &udp_between(at("198.51.100.2:9999"), other_port, b""), DropReason::NoMapping);
    net.refused(OUTSIDE, &udp("198.51.100.2:9", "10.0.0.2:5000", b""), DropReason::NoMapping);
}

#[test]
fn s_12_a_forged_source_matches_no_session() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    // From outside, in the internal host's name; built by hand, as the wire does not fit the address.
    let mut forged = udp("10.0.0.2:5000", "198.51.100.1:53", b"");
    forged[..6].copy_from_slice(&crate::common::ROUTER_MACS[1]);
    net.refused(OUTSIDE, &forged, DropReason::MartianSource);
    // From inside, in the server's name.
    let mut forged = udp_between(at("198.51.100.1:53"), out.source, b"");
    forged[..6].copy_from_slice(&crate::common::ROUTER_MACS[0]);
    net.refused(INSIDE, &forged, DropReason::MartianSource);
    // The same for flows nobody has.
    let mut forged = udp_between(at("10.0.0.77:1"), out.source, b"");
    forged[..6].copy_from_slice(&crate::common::ROUTER_MACS[1]);
    net.refused(OUTSIDE, &forged, DropReason::SpoofedSource);
    let mut forged = udp("198.51.100.7:7", "198.51.100.1:53", b"");
    forged[..6].copy_from_slice(&crate::common::ROUTER_MACS[0]);
    net.refused(INSIDE, &forged, DropReason::SpoofedSource);
    assert_eq!(net.sessions().len(), 1);
}

#[test]
fn s_12_sources_that_are_no_host_open_nothing() {
    let mut net = Net::new();
    for source in ["10.0.0.255:1", "10.0.0.0:1"] {
        net.refused(INSIDE, &udp(source, "198.51.100.1:53", b""), DropReason::MartianSource);
    }
    net.refused(OUTSIDE, &udp("203.0.113.255:1", "203.0.113.11:5000", b""), DropReason::MartianSource);
    net.refused(INSIDE, &udp("10.0.0.1:1", "198.51.100.1:53", b""), DropReason::SpoofedSource);
    for source in ["203.0.113.10:1", "203.0.113.2:1"] {
        net.refused(OUTSIDE, &udp(source, "203.0.113.11:5000", b""), DropReason::SpoofedSource);
    }
    net.refused(INSIDE, &udp("10.9.0.5:1", "198.51.100.1:53", b""), DropReason::NoNatRule);
}

#[test]
fn an_absent_udp_checksum_stays_absent() {
    let mut net = Net::new();
    let mut frame = udp("10.0.0.2:5000", "198.51.100.1:53", b"data");
    frame[40..42].fill(0);
    let out = net.one(INSIDE, &frame);
    assert_eq!(out.packet[26..28], [0, 0]);
    let mut frame = udp_between(at("198.51.100.1:53"), out.source, b"data");
    frame[40..42].fill(0);
    assert_eq!(net.one(OUTSIDE, &frame).packet[26..28], [0, 0]);
}

#[test]
fn a_wrong_l4_checksum_stays_equally_wrong() {
    let mut net = Net::new();
    net.verifies = false;
    for error in [1_u16, 0x1234, 0xfffe] {
        let mut frame = udp("10.0.0.2:5000", "198.51.100.1:53", b"data");
        let right = u16::from_be_bytes([frame[40], frame[41]]);
        frame[40..42].copy_from_slice(&right.wrapping_add(error).max(1).to_be_bytes());
        let before = crate::common::packets::Seen::new(INSIDE, &frame).l4_sum();
        assert_ne!(before, 0xffff);
        assert_eq!(net.one(INSIDE, &frame).l4_sum(), before);
    }
}

#[test]
fn u_06_a_well_known_port_may_have_a_shorter_life() {
    let toml = "[[timeouts.udp_port]]\nl4_port = 53\nidle = \"30s\"\n";
    let mut net = Net::with(toml, |_| {});
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.one(INSIDE, &udp("10.0.0.2:53", "198.51.100.1:5000", b""));
    net.advance(Duration::from_secs(29));
    assert_eq!(net.sessions().len(), 2);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.sessions().len(), 1, "the port of the side that began does not count");
}

#[test]
fn u_07_inbound_packets_refresh_when_the_operator_wants_it() {
    let mut net = Net::with("[timeouts]\nudp_inbound_refresh = true\n", |_| {});
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:9", b""));
    for _ in 0..4 {
        net.advance(Duration::from_secs(200));
        net.one(OUTSIDE, &udp_between(at("198.51.100.1:9"), out.source, b""));
    }
    net.advance(Duration::from_secs(302));
    assert_eq!(net.sessions().len(), 0);
}
