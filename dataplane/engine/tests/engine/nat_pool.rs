//! Pools, port blocks, quotas, and mapping and filtering by rule (RFC 4787, 6888, 7422, 7857).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::{
    Assignment, Config, FilteringBehavior, IcmpRefusal, MappingBehavior, NatAction, Pairing, PortBlocks,
    RuleProtocol,
};
use algate_engine::drop_reason::DropReason;
use algate_engine::nat::deterministic::{Deterministic, Owner};

use crate::common::packets::{RST, SYN, at, tcp, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const REMOTE: &str = "198.51.100.1:1";

/// The first pool with `addresses` addresses and these ports.
fn shrink(config: &mut Config, addresses: u32, l4_ports: (u16, u16)) {
    let pool = &mut config.nat.pools[0];
    pool.ranges[0].1 = (u32::from(pool.ranges[0].0) + addresses - 1).into();
    pool.l4_ports = l4_ports;
}

fn blocks(ports: u16, per_host: u16) -> Option<PortBlocks> {
    let idle_hold = Duration::from_secs(300);
    Some(PortBlocks { ports, per_host, idle_hold, assignment: Assignment::Dynamic })
}

/// A new UDP flow of host `10.0.0.host`; where it leaves from, or `None` when it is refused.
fn open(net: &mut Net, host: u32, l4_port: u16) -> Option<SocketAddrV4> {
    let seen = net.send(INSIDE, &udp(&format!("10.0.0.{host}:{l4_port}"), REMOTE, b""));
    seen.into_iter().find(|seen| seen.icmp.is_none()).map(|seen| seen.source)
}

fn while_not_refused(net: &mut Net, host: u32) {
    let mut l4_ports = 5000..;
    while open(net, host, l4_ports.next().unwrap()).is_some() {}
}

#[test]
fn c_03_a_full_quota_of_ports_refuses_the_host_and_nobody_else() {
    let mut net = Net::with("[nat.limits]\nports = 512", |config| {
        config.icmp.rate_per_second = 1;
    });
    for port in 0..400 {
        net.one(INSIDE, &udp(&format!("10.0.0.2:{}", 5000 + port), REMOTE, b""));
    }
    for port in 0..112 {
        net.one(INSIDE, &tcp(&format!("10.0.0.2:{}", 5000 + port), REMOTE, SYN));
    }
    let refused = net.one(INSIDE, &tcp("10.0.0.2:9000", REMOTE, SYN));
    assert_eq!(refused.icmp, Some((3, 1)));
    assert_eq!(refused.embedded().source, at("10.0.0.2:9000"));
    net.refused(INSIDE, &udp("10.0.0.2:9000", REMOTE, b""), DropReason::QuotaPorts);
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.2:2", b""));
    net.one(INSIDE, &udp("10.0.0.3:9000", REMOTE, b""));
    assert_eq!(net.dropped(DropReason::QuotaPorts), 2);
}

#[test]
fn c_03_a_full_quota_of_sessions_counts_those_of_strangers_too() {
    let mut net = Net::with("[nat.limits]\nsessions_udp = 3\nsessions = 4", |_| {});
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b""));
    for stranger in 1..=2 {
        let stranger = at(&format!("198.51.100.9:{stranger}"));
        net.one(OUTSIDE, &udp_between(stranger, out.source, b""));
    }
    net.refused(OUTSIDE, &udp_between(at("198.51.100.9:3"), out.source, b""), DropReason::QuotaSessions);
    net.one(INSIDE, &tcp("10.0.0.2:5000", REMOTE, SYN));
    assert_eq!(net.one(INSIDE, &tcp("10.0.0.2:5001", REMOTE, SYN)).icmp, Some((3, 1)));
    net.advance(Duration::from_secs(302));
    net.one(INSIDE, &udp("10.0.0.2:5001", REMOTE, b""));
}

#[test]
fn c_03_ten_thousand_new_flows_a_second_are_held_to_the_rate() {
    let mut net = Net::with("[nat.limits]\nsessions_per_second = 100", |config| {
        config.icmp.refusal = IcmpRefusal::None;
    });
    for port in 0..1_000 {
        net.send(INSIDE, &udp(&format!("10.0.0.2:{}", 5000 + port), REMOTE, b""));
    }
    assert_eq!(net.sessions().len(), 100);
    assert_eq!(net.dropped(DropReason::QuotaRate), 900);
    net.one(INSIDE, &udp("10.0.0.3:5000", REMOTE, b""));
    net.advance(Duration::from_secs(1));
    net.one(INSIDE, &udp("10.0.0.2:9000", REMOTE, b""));
}

#[test]
fn i_07_the_operator_chooses_what_a_refused_sender_is_told() {
    for (refusal, told) in [
        (IcmpRefusal::HostUnreachable, Some((3, 1))),
        (IcmpRefusal::AdminProhibited, Some((3, 13))),
        (IcmpRefusal::None, None),
    ] {
        let mut net = Net::with("", |config| {
            shrink(config, 1, (3000, 3000));
            config.icmp.refusal = refusal;
        });
        net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b""));
        let seen = net.send(INSIDE, &udp("10.0.0.3:5000", REMOTE, b""));
        assert_eq!(seen.first().and_then(|seen| seen.icmp), told);
        assert_eq!(net.dropped(DropReason::PoolExhausted), 1);
    }
}

#[test]
fn a_full_table_of_hosts_refuses_the_next_one() {
    let mut net = Net::with("", |config| config.tables.subscribers = 2);
    for host in [2, 3, 2, 3] {
        assert!(open(&mut net, host, 5000).is_some());
    }
    assert_eq!(open(&mut net, 4, 5000), None);
    assert_eq!(net.dropped(DropReason::SubscriberTableFull), 1);
}

#[test]
fn c_07_a_released_udp_port_rests_for_two_minutes_and_a_tcp_port_does_not() {
    let mut net = Net::with("", |config| {
        shrink(config, 1, (3000, 3000));
        config.icmp.refusal = IcmpRefusal::None;
    });
    assert!(open(&mut net, 2, 5000).is_some());
    net.one(INSIDE, &tcp("10.0.0.2:5000", REMOTE, SYN));
    net.one(INSIDE, &tcp("10.0.0.2:5000", REMOTE, RST));
    while net.mappings().iter().any(|row| row.protocol == 6) {
        net.advance(Duration::from_secs(1));
    }
    net.one(INSIDE, &tcp("10.0.0.3:5000", REMOTE, SYN));
    while net.mappings().iter().any(|row| row.protocol == 17) {
        net.advance(Duration::from_millis(100));
    }
    net.advance(Duration::from_secs(119));
    assert_eq!(open(&mut net, 3, 5000), None);
    assert_eq!(open(&mut net, 2, 5000), None, "not even to the one who had it");
    net.advance(Duration::from_secs(2));
    assert!(open(&mut net, 3, 5000).is_some());
}

#[test]
fn c_07_no_more_ports_rest_than_configured() {
    let mut net = Net::with("[nat.hold]\nports = 4", |config| shrink(config, 1, (3000, 3007)));
    for port in 0..8 {
        assert!(open(&mut net, 2, 5000 + port).is_some());
    }
    net.advance(Duration::from_secs(302));
    assert_eq!(net.engine.nat.ports.resting(), 4);
    let opened = (0..8).filter(|port| open(&mut net, 3, 6000 + port).is_some()).count();
    assert_eq!(opened, 4);
}

#[test]
fn c_01_a_host_whose_address_is_full_waits_or_gets_another_as_configured() {
    for (pairing, addresses) in [(Pairing::Strict, 1), (Pairing::Soft, 2)] {
        let mut net = Net::with("", |config| {
            shrink(config, 2, (3000, 3009));
            config.nat.pools[0].pairing = pairing;
        });
        let opened: Vec<_> = (0..25).filter_map(|port| open(&mut net, 2, 5000 + port)).collect();
        assert_eq!(opened.len(), addresses * 10);
        let used: HashSet<_> = opened.iter().map(SocketAddrV4::ip).collect();
        assert_eq!(used.len(), addresses);
        assert!(opened[..10].iter().all(|endpoint| endpoint.ip() == opened[0].ip()), "its own one first");
        assert_eq!(net.dropped(DropReason::PoolExhausted), 25 - opened.len() as u64);
    }
}

#[test]
fn u_05_parity_is_kept_while_ports_of_that_parity_are_left() {
    let mut net = Net::with("", |config| {
        shrink(config, 1, (3000, 3019));
        config.nat.pools[0].keeps_parity = true;
    });
    let even: Vec<_> = (0..10).map(|n| open(&mut net, 2, 5004 + 2 * n).unwrap().port()).collect();
    assert!(even.iter().all(|port| port % 2 == 0), "{even:?}");
    assert!(open(&mut net, 2, 6000).is_some_and(|endpoint| endpoint.port() % 2 == 1));
    assert!(open(&mut net, 2, 6001).is_some_and(|endpoint| endpoint.port() % 2 == 1));
}

#[test]
fn c_11_a_hundred_hosts_with_blocks_use_nine_tenths_of_a_pool() {
    for size in [64, 128, 256] {
        let mut net = Net::with("", |config| {
            shrink(config, 2, (1024, 1024 + 8192 - 1));
            config.nat.pools[0].blocks = blocks(size, 512 / size);
            (config.tables.sessions, config.tables.mappings) = (20_000, 20_000);
            config.icmp.refusal = IcmpRefusal::None;
        });
        for host in 2..102 {
            while_not_refused(&mut net, host);
        }
        let used = net.engine.nat.ports.taken();
        assert!(used >= 16_384 * 9 / 10, "{used} of 16384 with blocks of {size}");
        let mut owners = HashMap::new();
        for row in net.mappings() {
            let block = (*row.external.ip(), (row.external.port() - 1024) / size);
            let owner = owners.entry(block).or_insert(*row.internal.ip());
            assert_eq!(owner, row.internal.ip(), "a block has one owner");
        }
    }
}

#[test]
fn blocks_are_limited_held_while_idle_and_given_back() {
    let mut net = Net::with("[nat.hold]\ntime = \"0s\"", |config| {
        shrink(config, 1, (1024, 1024 + 255));
        config.nat.pools[0].blocks = blocks(64, 2);
    });
    let opened = (0..200).filter(|port| open(&mut net, 2, 5000 + port).is_some()).count();
    assert_eq!((opened, net.dropped(DropReason::QuotaPorts)), (128, 72));
    assert!(open(&mut net, 3, 5000).is_some() && open(&mut net, 4, 5000).is_some());
    assert_eq!(open(&mut net, 5, 5000), None, "four blocks are all there are");
    assert_eq!(net.dropped(DropReason::PoolExhausted), 1);
    net.advance(Duration::from_secs(302));
    assert_eq!((net.sessions().len(), net.engine.nat.blocks.assigned()), (0, 4));
    assert_eq!(open(&mut net, 5, 5000), None, "idle blocks are still held");
    let again = open(&mut net, 2, 5000).unwrap();
    net.advance(Duration::from_secs(298));
    net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b""));
    net.advance(Duration::from_secs(5));
    assert_eq!(net.engine.nat.blocks.assigned(), 1, "only the one in use");
    assert_eq!(net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b"")).source, again);
    assert!(open(&mut net, 5, 5000).is_some());
}

#[test]
fn c_12_ports_are_spread_evenly_and_follow_no_pattern_in_a_block_or_without() {
    for blocks in [blocks(4096, 1), None] {
        let mut net = Net::with("", |config| {
            shrink(config, 1, (4096, 4096 + 4095));
            config.nat.pools[0].blocks = blocks;
            (config.tables.sessions, config.tables.mappings) = (4_096, 4_096);
        });
        let ports: Vec<u16> =
            (0..1_024).map(|port| open(&mut net, 2, 5000 + port).unwrap().port() - 4096).collect();
        let mut buckets = [0_f64; 16];
        ports.iter().for_each(|port| buckets[usize::from(port / 256)] += 1.0);
        let chi_square: f64 = buckets.iter().map(|count| (count - 64.0).powi(2) / 64.0).sum();
        assert!(chi_square < 37.7, "15 degrees of freedom, p = 0.001: {chi_square}");
        let steps: HashSet<u16> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) % 4096).collect();
        assert!(steps.len() > 700, "successors are predictable: {} different steps", steps.len());
        let mean = 2047.5;
        let product = |pair: &[u16]| (f64::from(pair[0]) - mean) * (f64::from(pair[1]) - mean);
        let covariance: f64 = ports.windows(2).map(product).sum();
        let variance: f64 = ports.iter().map(|port| (f64::from(*port) - mean).powi(2)).sum();
        assert!((covariance / variance).abs() < 0.1, "serial correlation {}", covariance / variance);
    }
}

#[test]
fn c_16_deterministic_ports_lead_back_to_their_host_by_the_configuration_alone() {
    let mut site = None;
    let mut net = Net::with("", |config| {
        shrink(config, 2, (1024, 1024 + 64 * 160 - 1));
        config.nat.pools[0].blocks =
            blocks(64, 2).map(|blocks| PortBlocks { assignment: Assignment::Deterministic, ..blocks });
        config.icmp.refusal = IcmpRefusal::None;
        site = Some(config.nat.clone());
    });
    let pool = Deterministic::new(&site.unwrap(), 0).unwrap();
    for host in 2..14 {
        let opened: Vec<_> = (0..150).filter_map(|port| open(&mut net, host, 5000 + port)).collect();
        assert_eq!(opened.len(), 128);
        let owners = opened.iter().map(|external| {
            pool.owner(u32::from(*external.ip()), external.port()).expect("an address of the pool")
        });
        let owners: Vec<Owner> = owners.collect();
        assert!(owners[..64].iter().all(|owner| *owner == Owner::Host(0x0a00_0000 + host)));
        assert!(owners[64..].iter().all(|owner| *owner == Owner::Dynamic), "the overflow is logged");
    }
}

#[test]
fn c_05_a_rule_without_translation_lets_a_flow_pass_as_it_is() {
    let mut net = Net::with("", |config| {
        let mut rule = config.nat.rules[0].clone();
        rule.destination = "198.51.100.0/25".parse().unwrap();
        rule.destination_l4_ports = Some((1000, 1999));
        rule.protocol = Some(RuleProtocol::Udp);
        rule.action = NatAction::None;
        config.nat.rules.insert(0, rule);
    });
    let seen = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:1500", b"as it is"));
    assert_eq!((seen.source, seen.payload.as_slice()), (at("10.0.0.2:5000"), b"as it is".as_slice()));
    let back = net.one(OUTSIDE, &udp_between(at("198.51.100.1:1500"), at("10.0.0.2:5000"), b""));
    assert_eq!(back.destination, at("10.0.0.2:5000"));
    for (protocol, remote) in
        [(17, "198.51.100.1:2000"), (17, "198.51.100.200:1500"), (6, "198.51.100.1:1500")]
    {
        let frame = match protocol {
            6 => tcp("10.0.0.2:5000", remote, SYN),
            _ => udp("10.0.0.2:5000", remote, b""),
        };
        assert_ne!(net.one(INSIDE, &frame).source, at("10.0.0.2:5000"), "{remote}");
    }
    let uninvited = udp_between(at("198.51.100.1:1501"), at("10.0.0.2:5000"), b"");
    net.refused(OUTSIDE, &uninvited, DropReason::NoMapping);
}

#[test]
fn u_09_each_filtering_lets_in_whom_it_names() {
    for (filtering, same_address, stranger) in [
        (FilteringBehavior::EndpointIndependent, true, true),
        (FilteringBehavior::AddressDependent, true, false),
        (FilteringBehavior::AddressAndPortDependent, false, false),
    ] {
        let mut net = Net::with("", |config| config.nat.rules[0].filtering = filtering);
        let external = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:1000", b"")).source;
        for _ in 0..3 {
            net.one(OUTSIDE, &udp_between(at("198.51.100.1:1000"), external, b""));
            for (from, comes_in) in [("198.51.100.1:2000", same_address), ("198.51.100.2:1000", stranger)] {
                let seen = net.send(OUTSIDE, &udp_between(at(from), external, b""));
                assert_eq!(!seen.is_empty(), comes_in, "{filtering:?} {from}");
            }
        }
        let other = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.2:7", b"")).source;
        assert_eq!(other, external, "the mapping is endpoint-independent");
        let seen = net.send(OUTSIDE, &udp_between(at("198.51.100.2:1000"), external, b""));
        assert_eq!(!seen.is_empty(), same_address, "{filtering:?}: now he is known");
    }
}

#[test]
fn u_09_an_address_is_forgotten_with_the_last_session_to_it() {
    let mut net = Net::with("", |config| {
        config.nat.rules[0].filtering = FilteringBehavior::AddressDependent;
    });
    let external = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:1", b"")).source;
    net.advance(Duration::from_secs(200));
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.2:1", b""));
    net.advance(Duration::from_secs(102));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.1:9"), external, b""), DropReason::NoMapping);
    net.one(OUTSIDE, &udp_between(at("198.51.100.2:9"), external, b""));
}

#[test]
fn c_13_a_port_is_shared_only_by_dependent_mappings_of_different_remotes() {
    let mut net = Net::with("", |config| {
        shrink(config, 1, (3000, 3000));
        config.nat.rules[0].mapping = MappingBehavior::AddressAndPortDependent;
        config.nat.rules[0].filtering = FilteringBehavior::AddressAndPortDependent;
        config.icmp.refusal = IcmpRefusal::None;
    });
    let first = net.one(INSIDE, &tcp("10.0.0.2:5000", "198.51.100.1:80", SYN)).source;
    for (host, remote) in [(2, "198.51.100.1:81"), (3, "198.51.100.2:80"), (4, "198.51.100.3:80")] {
        let seen = net.one(INSIDE, &tcp(&format!("10.0.0.{host}:5000"), remote, SYN));
        assert_eq!(seen.source, first, "shared");
    }
    let same_remote = tcp("10.0.0.3:5000", "198.51.100.1:80", SYN);
    net.refused(INSIDE, &same_remote, DropReason::PoolExhausted);
    let replies = [("198.51.100.1:81", 2), ("198.51.100.2:80", 3)];
    for (remote, host) in replies {
        let reply = crate::common::packets::tcp_between(at(remote), first, SYN | 0x10, b"");
        assert_eq!(net.one(OUTSIDE, &reply).destination, at(&format!("10.0.0.{host}:5000")));
    }
    net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b""));
    assert_eq!(net.mappings().len(), 5);
}

#[test]
fn c_13_a_dependent_mapping_has_a_port_of_its_own_while_there_is_one() {
    let mut net = Net::with("", |config| {
        config.nat.rules[0].mapping = MappingBehavior::AddressAndPortDependent;
        config.nat.rules[0].filtering = FilteringBehavior::AddressAndPortDependent;
    });
    let ports: HashSet<u16> = (0..50)
        .map(|n| {
            net.one(INSIDE, &udp("10.0.0.2:5000", &format!("198.51.100.1:{}", 100 + n), b"")).source.port()
        })
        .collect();
    assert_eq!(ports.len(), 50);
}
