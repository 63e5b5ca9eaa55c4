//! UDP: rows of RFC 4787 and RFC 6888 that take a whole site to see.

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{
    SYN, Seen, at, echo_request, icmp, tcp, udp, udp_between, with_ip_byte, with_ttl,
};
use crate::common::{INSIDE, Net, OUTSIDE};

#[test]
fn u_04_external_ports_are_those_of_the_pool_whatever_the_internal_one_is() {
    // By default none below 1024, also for a source that has one; and as configured.
    for (configured, allowed) in [(None, 1_024..=65_535), (Some((512, 767)), 512..=767)] {
        let mut net = Net::with("", |config| {
            config.nat.pools[0].l4_ports = configured.unwrap_or(config.nat.pools[0].l4_ports);
        });
        for l4_port in [7, 80, 1_023, 1_024, 40_000, 65_535] {
            for host in 2..12 {
                let source = format!("10.0.0.{host}:{l4_port}");
                let external = net.one(INSIDE, &udp(&source, "198.51.100.1:53", b"")).source;
                assert!(allowed.contains(&external.port()), "{source} {external}");
                let external = net.one(INSIDE, &tcp(&source, "198.51.100.1:80", SYN)).source;
                assert!(allowed.contains(&external.port()), "{source} {external}");
            }
        }
    }
}

/// What a SIP phone sends, with the address that an ALG would change.
const INVITE: &[u8] = b"INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060\r\n\
    Contact: <sip:alice@10.0.0.2:5060>\r\nContent-Length: 26\r\n\r\nv=0\r\nc=IN IP4 10.0.0.2\r\n\r\n";

#[test]
fn u_11_by_default_no_udp_payload_is_touched() {
    let mut net = Net::new();
    for remote in ["198.51.100.1:5060", "198.51.100.1:69", "198.51.100.1:53"] {
        let out = net.one(INSIDE, &udp("10.0.0.2:5060", remote, INVITE));
        assert_eq!(out.payload, INVITE);
        let back = net.one(OUTSIDE, &udp_between(at(remote), out.source, INVITE));
        assert_eq!(back.payload, INVITE);
    }
    assert_eq!((net.engine.expectation_rows(net.now, 9).len(), net.workers[0].alg_flows()), (0, 0));
}

/// U-01 and U-09 as any host sees them: one endpoint for all, open to strangers, on whichever worker.
#[track_caller]
fn behaves_like_a_nat(net: &mut Net, host: SocketAddrV4) {
    let mut external = HashSet::new();
    for (worker, remote) in ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.2:1"].into_iter().enumerate() {
        net.receiver = worker % net.workers.len();
        external.insert(net.one(INSIDE, &udp_between(host, at(remote), b"")).source);
    }
    assert_eq!(external.len(), 1, "{external:?}");
    let external = external.into_iter().next().unwrap();
    for worker in 0..net.workers.len() {
        net.receiver = worker;
        let stranger = SocketAddrV4::new([198, 51, 100, 99].into(), 9_000 + worker as u16);
        assert_eq!(net.one(OUTSIDE, &udp_between(stranger, external, b"hi")).destination, host);
    }
}

#[test]
fn u_12_a_pool_that_is_99_percent_full_behaves_like_an_empty_one() {
    let mut net = Net::with("", |config| {
        config.workers.cores = vec![1, 2];
        let pool = &mut config.nat.pools[0];
        (pool.ranges[0].1, pool.l4_ports) = (pool.ranges[0].0, (2_000, 2_999));
        config.icmp.refusal = algate_config::IcmpRefusal::None;
    });
    behaves_like_a_nat(&mut net, at("10.0.0.2:5000"));
    for taken in 1..990_u16 {
        net.receiver = usize::from(taken % 2);
        let host = SocketAddrV4::new([10, 0, 0, 3 + (taken / 100) as u8].into(), 6_000 + taken);
        net.one(INSIDE, &udp_between(host, at("198.51.100.1:1"), b""));
    }
    assert_eq!(net.engine.nat.ports.taken(), 990);
    for l4_port in 5_000..5_010 {
        behaves_like_a_nat(&mut net, SocketAddrV4::new([10, 0, 0, 2].into(), l4_port));
    }
    net.advance(Duration::from_secs(100));
    behaves_like_a_nat(&mut net, at("10.0.0.2:5000"));
}

#[test]
fn u_13_no_icmp_message_ends_a_mapping_and_errors_pass_whoever_sends_them() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let pool = out.source.ip().to_string();
    let unreachable = (0..=15).map(|code| (3, code));
    let others = [(4, 0), (5, 0), (5, 1), (5, 2), (5, 3), (11, 0), (11, 1), (12, 0), (12, 1), (12, 2)];
    for type_and_code in unreachable.chain(others) {
        net.advance(Duration::from_millis(1_500));
        // The far end, a router on the way, and one whose address no route explains.
        for author in ["198.51.100.1", "203.0.113.1", "192.0.2.200"] {
            let error = icmp(author, &pool, type_and_code, [0, 0, 5, 0], &out.packet);
            if matches!(type_and_code.0, 4 | 5) {
                net.refused(OUTSIDE, &error, DropReason::IcmpObsolete);
                continue;
            }
            let seen = net.one(OUTSIDE, &error);
            assert_eq!((seen.nic_port, seen.icmp), (INSIDE, Some(type_and_code)));
            assert_eq!(seen.source.ip().to_string(), author);
            assert_eq!(seen.embedded().source, at("10.0.0.2:5000"));
        }
        assert_eq!(net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"")).source, out.source);
        net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b""));
    }
    assert_eq!((net.sessions().len(), net.mappings().len()), (1, 1));
}

/// RFC 5780: a client that asks a server with two addresses and two ports what NAT it is behind.
#[test]
fn c_06_a_stun_client_finds_independent_mapping_and_filtering() {
    let mut net = Net::new();
    let client = at("10.0.0.2:50000");
    let [primary, other_port, other_address, other_both] =
        ["198.51.100.1:3478", "198.51.100.1:3479", "198.51.100.2:3478", "198.51.100.2:3479"].map(at);
    let ask =
        |net: &mut Net, server| net.one(INSIDE, &udp_between(client, server, b"binding request")).source;
    // Section 4.4, filtering: the answer may come from another address and port, before those were contacted.
    let mapped = ask(&mut net, primary);
    assert_ne!(mapped, client);
    for server in [other_both, other_port] {
        let answer: Seen = net.one(OUTSIDE, &udp_between(server, mapped, b"binding response"));
        assert_eq!((answer.source, answer.destination), (server, client));
    }
    // Section 4.3, mapping: tests I, II and III.
    for server in [primary, other_address, other_both] {
        assert_eq!(ask(&mut net, server), mapped);
    }
    assert_eq!(net.mappings()[0].filtering, "endpoint_independent");
}

#[test]
fn c_14_no_error_that_a_host_sends_refreshes_its_mapping() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    let into = net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b"x"));
    net.advance(Duration::from_secs(299));
    let error = icmp("10.0.0.2", "198.51.100.1", (3, 3), [0; 4], &into.packet);
    assert_eq!(net.one(INSIDE, &error).icmp, Some((3, 3)));
    net.advance(Duration::from_secs(2));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b""), DropReason::NoMapping);
}

/// Every cause a known number of times, and nothing else.
#[test]
fn c_19_counters_are_exact_to_the_packet_and_drops_are_by_cause() {
    let mut net = Net::with("[nat.limits]\nports = 6\n", |config| {
        config.icmp.refusal = algate_config::IcmpRefusal::None;
    });
    let outs: Vec<_> = (0..5)
        .map(|n| net.one(INSIDE, &udp(&format!("10.0.0.2:{}", 5_000 + n), "198.51.100.1:53", b"")).source)
        .collect();
    net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7));
    for _ in 0..3 {
        for external in &outs {
            net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), *external, b""));
        }
    }
    let ttl = with_ttl(udp("10.0.0.2:5000", "198.51.100.1:53", b""), 1);
    let fragment = with_ip_byte(udp("10.0.0.3:5000", "198.51.100.1:53", b"a"), 6, 0x20);
    let causes = [
        (4, INSIDE, tcp("10.0.0.2:9000", "198.51.100.1:80", SYN), DropReason::QuotaPorts),
        (3, OUTSIDE, udp("198.51.100.1:53", "203.0.113.10:9", b""), DropReason::NoMapping),
        (2, INSIDE, ttl, DropReason::TtlExceeded),
        (5, INSIDE, fragment, DropReason::FragmentBadLength),
        (1, INSIDE, udp("10.9.0.5:1", "198.51.100.1:53", b""), DropReason::NoNatRule),
    ];
    for (times, nic_port, frame, _) in &causes {
        (0..*times).for_each(|_| drop(net.send(*nic_port, frame)));
    }
    let mut expected: Vec<_> = causes.iter().map(|(times, _, _, reason)| (reason.text(), *times)).collect();
    let mut counted = net.drops();
    expected.sort_unstable();
    counted.sort_unstable();
    assert_eq!(counted, expected);
    let frames = 6 + 15 + 4 + 3 + 2 + 5 + 1;
    // Two hosts and the way out were asked for by ARP, and answered.
    let arp = net.total(|c| &c.arp);
    assert_eq!((net.total(|c| &c.received), net.total(|c| &c.forwarded)), (frames + arp, 21));
    assert_eq!((net.total(|c| &c.icmp_sent), net.total(|c| &c.sessions_created)), (2, 6));
    assert_eq!((net.sessions().len(), net.mappings().len()), (6, 6));
    net.advance(Duration::from_secs(302));
    assert_eq!(net.total(|c| &c.aged), 6);
}
