//! Tenants: the same addresses several times over, each host reached by its own packets only.
//!
//! ```text
//! no tenant  10.0.0.0/24              --- port 0 [        ]
//! red        10.0.0.0/24              --- port 2 [ algate ] port 1 --- the world
//! blue       10.0.0.0/24, 10.7.0.0/24 --- port 3 [        ]
//! ```

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_config::{Config, IcmpRefusal};
use algate_engine::drop_reason::DropReason;
use algate_engine::ids::TenantId;
use algate_engine::nat::deterministic::{Deterministic, Owner};
use algate_engine::nat::key::Host;

use crate::common::packets::{
    ACK, SYN, Seen, at, echo_reply, echo_request, icmp, raw, sum, tcp, tcp_between, udp, udp_between,
    with_ip_byte,
};
use crate::common::{INSIDE, Net, OUTSIDE, ROUTER_MACS};

pub(crate) const RED: u16 = 2;
pub(crate) const BLUE: u16 = 3;
/// Wires with the same hosts, and the tenants behind them.
const WIRES: [(u16, TenantId); 3] = [(INSIDE, TenantId::NONE), (RED, TenantId(1)), (BLUE, TenantId(2))];

const HOST: &str = "10.0.0.2:5000";
const SERVER: &str = "198.51.100.1:53";

/// Two tenants more than the site has.
pub(crate) const TENANTS: &str = r#"
[[nic_port]]
name = "p2"
device = { driver = "null" }

[[nic_port]]
name = "p3"
device = { driver = "null" }

[[interface]]
name = "red"
nic_port = "p2"
side = "internal"
tenant = 1
addresses = ["10.0.0.1/24"]

[[interface]]
name = "blue"
nic_port = "p3"
side = "internal"
tenant = 2
addresses = ["10.0.0.1/24", "10.7.0.1/24"]
"#;

fn net() -> Net {
    with("", |_| {})
}

fn with(toml: &str, change: impl FnOnce(&mut Config)) -> Net {
    Net::with(&format!("{TENANTS}{toml}"), change)
}

/// The frame as it is sent on `wire`.
pub(crate) fn on(wire: u16, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&ROUTER_MACS[usize::from(wire)]);
    frame
}

/// Sends from the same endpoint on every wire; returns the three external endpoints.
fn all(net: &mut Net, frame: &[u8]) -> [SocketAddrV4; 3] {
    WIRES.map(|(wire, _)| {
        let out = net.one(wire, &on(wire, frame.to_vec()));
        assert_eq!(out.nic_port, OUTSIDE, "{out:?}");
        out.source
    })
}

fn are_different<T: PartialEq>([a, b, c]: &[T; 3]) -> bool {
    a != b && b != c && a != c
}

#[test]
fn s_25_equal_hosts_talk_to_one_server_at_once() {
    let mut net = net();
    let externals = all(&mut net, &udp(HOST, SERVER, b"question"));
    assert!(are_different(&externals), "{externals:?}");
    let pings = all(&mut net, &echo_request("10.0.0.2", "198.51.100.1", 7));
    assert!(are_different(&pings), "{pings:?}");
    let connections = all(&mut net, &tcp(HOST, SERVER, SYN));
    assert!(are_different(&connections), "{connections:?}");
    for (at_wire, (wire, tenant)) in WIRES.into_iter().enumerate() {
        let back = net.one(OUTSIDE, &udp_between(at(SERVER), externals[at_wire], b"answer"));
        assert_eq!((back.nic_port, back.source, back.destination), (wire, at(SERVER), at(HOST)));
        let ping = pings[at_wire];
        let back = net.one(OUTSIDE, &echo_reply("198.51.100.1", &ping.ip().to_string(), ping.port()));
        assert_eq!((back.nic_port, back.destination), (wire, at("10.0.0.2:7")));
        let back = net.one(OUTSIDE, &tcp_between(at(SERVER), connections[at_wire], SYN | ACK, b""));
        assert_eq!((back.nic_port, back.destination), (wire, at(HOST)));
        // A hit goes the same way as the first packet.
        assert_eq!(net.one(wire, &on(wire, tcp(HOST, SERVER, ACK))).source, connections[at_wire]);
        assert_eq!(net.sessions().iter().filter(|row| row.tenant == tenant).count(), 3);
        assert_eq!(net.mappings().iter().filter(|row| row.tenant == tenant).count(), 3);
    }
}

#[test]
fn s_25_equal_hosts_have_tunnels_of_their_own() {
    let rule = "[[nat.rule]]\ninternal = \"10.0.0.0/24\"\npool = \"public\"\nprotocol = \"gre\"\n";
    let mut net = with(rule, |config| {
        let (first, _) = config.nat.pools[0].ranges[0];
        config.nat.pools[0].ranges = vec![(first, first)];
    });
    // One external address: a tunnel to each of three servers.
    for (wire, tenant) in WIRES {
        let server = format!("198.51.100.{}", wire + 1);
        let out = net.one(wire, &on(wire, raw("10.0.0.2", &server, 47, &[7; 20])));
        let back = net.one(OUTSIDE, &raw(&server, &out.source.ip().to_string(), 47, &[8; 20]));
        assert_eq!((back.nic_port, back.destination), (wire, at("10.0.0.2:0")));
        assert_eq!(net.sessions().iter().filter(|row| row.tenant == tenant).count(), 1);
    }
    // Equal addresses are different hosts.
    net.send(RED, &on(RED, raw("10.0.0.2", "198.51.100.1", 47, &[7; 20])));
    assert_eq!(net.dropped(DropReason::AddressInUse), 1);
}

#[test]
fn s_25_hairpins_lead_to_the_tenant_behind_the_external_endpoint() {
    let mut net = net();
    let servers = all(&mut net, &udp("10.0.0.3:7000", SERVER, b""));
    // The same endpoint as the server's too: it is another host.
    for client in ["10.0.0.2:5000", "10.0.0.3:7000"] {
        let clients = all(&mut net, &udp(client, SERVER, b""));
        for ((from, _), seen_as) in WIRES.into_iter().zip(clients) {
            for ((to, _), server) in WIRES.into_iter().zip(servers) {
                if client == "10.0.0.3:7000" && from == to {
                    continue;
                }
                let asked = net.one(from, &on(from, udp_between(at(client), server, b"question")));
                assert_eq!((asked.nic_port, asked.source), (to, seen_as));
                assert_eq!(asked.destination, at("10.0.0.3:7000"));
                let answer = on(to, udp_between(at("10.0.0.3:7000"), seen_as, b"answer"));
                let answered = net.one(to, &answer);
                assert_eq!((answered.nic_port, answered.source), (from, server));
                assert_eq!(answered.destination, at(client));
            }
        }
    }
}

#[test]
fn s_25_tenants_meet_at_external_endpoints_only() {
    let allow = "[[filter]]\nname = \"all\"\naction = \"allow\"\n";
    let mut net = with(allow, |_| {});
    // Within a tenant the hosts' own addresses lead to the hosts, three times over.
    for (wire, tenant) in WIRES {
        let there = net.one(wire, &on(wire, udp(HOST, "10.0.0.3:7000", b"")));
        assert_eq!((there.nic_port, there.source, there.destination), (wire, at(HOST), at("10.0.0.3:7000")));
        let back = net.one(wire, &on(wire, udp("10.0.0.3:7000", HOST, b"")));
        assert_eq!((back.nic_port, back.source, back.destination), (wire, at("10.0.0.3:7000"), at(HOST)));
        assert_eq!(net.sessions().iter().filter(|row| row.tenant == tenant).count(), 1);
    }
    // What only blue has is the world's to others.
    let blue_host = "10.7.0.9:7000";
    assert_eq!(net.one(BLUE, &on(BLUE, udp(HOST, blue_host, b""))).nic_port, BLUE);
    for wire in [INSIDE, RED] {
        let out = net.one(wire, &on(wire, udp(HOST, blue_host, b"")));
        assert_eq!((out.nic_port, out.destination), (OUTSIDE, at(blue_host)));
        assert_ne!(out.source, at(HOST));
        net.refused(wire, &on(wire, udp(blue_host, SERVER, b"")), DropReason::SpoofedSource);
    }
    // From outside, without translation, nobody's tenant is reached, whatever the filter allows.
    net.refused(OUTSIDE, &udp(SERVER, blue_host, b""), DropReason::NoMapping);
    assert_eq!(net.one(OUTSIDE, &udp(SERVER, "10.0.0.8:7000", b"")).nic_port, INSIDE);
}

#[test]
fn s_25_each_tenant_sees_the_own_addresses_of_its_interfaces() {
    let mut net = net();
    for (wire, _) in WIRES {
        for own in ["10.0.0.1", "203.0.113.2"] {
            let answer = net.one(wire, &on(wire, echo_request("10.0.0.2", own, 9)));
            assert_eq!((answer.nic_port, answer.icmp), (wire, Some((0, 0))));
            assert_eq!(answer.source.ip().to_string(), own);
        }
    }
    let ping = echo_request("10.0.0.2", "10.7.0.1", 9);
    let answer = net.one(BLUE, &on(BLUE, ping.clone()));
    assert_eq!((answer.nic_port, answer.icmp), (BLUE, Some((0, 0))));
    let passed = net.one(RED, &on(RED, ping));
    assert_eq!((passed.nic_port, passed.icmp), (OUTSIDE, Some((8, 0))), "no host of red knows that address");
    // The broadcast address of blue's prefix is a host of the world to red.
    let broadcast = udp(HOST, "10.7.0.255:7", b"");
    net.refused(BLUE, &on(BLUE, broadcast.clone()), DropReason::MartianDestination);
    assert_eq!(net.one(RED, &on(RED, broadcast)).nic_port, OUTSIDE);
}

#[test]
fn s_25_a_quota_is_one_host_s_of_one_tenant() {
    let mut net = with("[nat.limits]\nsessions_udp = 2\n", |config| config.icmp.refusal = IcmpRefusal::None);
    for (wire, _) in WIRES {
        let question = |l4_port: u16| on(wire, udp(&format!("10.0.0.2:{l4_port}"), SERVER, b""));
        net.one(wire, &question(5000));
        net.one(wire, &question(5001));
        net.refused(wire, &question(5002), DropReason::QuotaSessions);
    }
    let mut tenants: Vec<_> = net.engine.nat.subscribers.iter().map(|held| held.host.tenant).collect();
    tenants.sort();
    assert_eq!(tenants, WIRES.map(|(_, tenant)| tenant));
}

#[test]
fn s_25_rules_and_forwards_are_their_tenant_s() {
    let rules = r#"
        [[nat.pool]]
        name = "red"
        addresses = ["203.0.113.20"]
        [[nat.forward]]
        protocol = "udp"
        external = "203.0.113.20:7"
        internal = "10.0.0.9:7"
        tenant = 1
        [[nat.forward]]
        protocol = "udp"
        external = "203.0.113.11:7"
        internal = "10.0.0.9:7"
        tenant = 2
    "#;
    let mut net = with(rules, |config| {
        let mut rule = config.nat.rules[0].clone();
        (rule.tenant, rule.action) = (Some(1), algate_config::NatAction::Translate(1));
        config.nat.rules.insert(0, rule);
        config.nat.rules[1].tenant = Some(2);
    });
    let red = net.one(RED, &on(RED, udp(HOST, SERVER, b"")));
    assert_eq!(*red.source.ip(), Ipv4Addr::new(203, 0, 113, 20));
    let blue = net.one(BLUE, &on(BLUE, udp(HOST, SERVER, b"")));
    assert_ne!(*blue.source.ip(), Ipv4Addr::new(203, 0, 113, 20));
    net.refused(INSIDE, &udp(HOST, SERVER, b""), DropReason::NoNatRule);
    for (wire, external) in [(RED, "203.0.113.20:7"), (BLUE, "203.0.113.11:7")] {
        let seen = net.one(OUTSIDE, &udp(SERVER, external, b""));
        assert_eq!((seen.nic_port, seen.destination), (wire, at("10.0.0.9:7")));
        // The server leaves from its forward's address, also on its own behalf.
        assert_eq!(net.one(wire, &on(wire, udp("10.0.0.9:7", "198.51.100.2:1", b""))).source, at(external));
    }
}

#[test]
fn s_25_a_filter_rule_s_out_interface_is_that_of_the_tenant_behind_a_mapping() {
    let rule = "[[filter]]\nname = \"red\"\naction = \"deny\"\nout_interface = \"red\"\n";
    let mut net = with(rule, |_| {});
    let externals = all(&mut net, &udp(HOST, SERVER, b""));
    for ((wire, _), external) in WIRES.into_iter().zip(externals) {
        let stranger = udp_between(at("198.51.100.9:9"), external, b"");
        if wire == RED {
            net.refused(OUTSIDE, &stranger, DropReason::FilterDeny);
        } else {
            assert_eq!(net.one(OUTSIDE, &stranger).nic_port, wire);
        }
        // To its neighbour by his own address: the rule sees where that leads in the sender's tenant.
        let neighbour = on(wire, udp(HOST, "10.0.0.3:7000", b""));
        if wire == RED {
            net.refused(RED, &neighbour, DropReason::FilterDeny);
        } else {
            assert_eq!(net.one(wire, &neighbour).nic_port, wire);
        }
    }
}

#[test]
fn s_25_icmp_errors_reach_the_tenant_whose_packet_it_was() {
    let mut net = net();
    for (wire, _) in WIRES {
        let out = net.one(wire, &on(wire, udp(HOST, SERVER, b"question")));
        let external = out.source.ip().to_string();
        let error = icmp("203.0.113.1", &external, (3, 1), [0; 4], &out.packet);
        let seen = net.one(OUTSIDE, &error);
        assert_eq!((seen.nic_port, *seen.destination.ip()), (wire, *at(HOST).ip()));
        assert_eq!((seen.embedded().source, seen.embedded().destination), (at(HOST), at(SERVER)));
        // The other way: the host refuses what it was sent, in its own external address's name.
        let into = net.one(OUTSIDE, &udp_between(at(SERVER), out.source, b"answer"));
        let refusal = icmp("10.0.0.2", "198.51.100.1", (3, 3), [0; 4], &into.packet);
        let seen = net.one(wire, &on(wire, refusal));
        assert_eq!((seen.nic_port, seen.source.ip()), (OUTSIDE, out.source.ip()));
        assert_eq!(seen.embedded().destination, out.source);
    }
}

#[test]
fn s_25_fragments_of_equal_datagrams_never_mix() {
    let mut net = net();
    net.verifies = false;
    // Equal in address, port, protocol and identification; of each, its first fragment comes last.
    let datagrams = WIRES.map(|(wire, tenant)| (wire, halves(&udp(HOST, SERVER, &[tenant.0 as u8; 2_000]))));
    let mut seen = Vec::new();
    for half in [1, 0] {
        for (wire, halves) in &datagrams {
            seen.extend(net.send(*wire, &on(*wire, halves[half].clone())));
        }
    }
    assert_eq!(seen.len(), 6, "{:?}", net.drops());
    let mut ports = Vec::new();
    for (_, tenant) in WIRES {
        let is_first = |seen: &&Seen| seen.packet[20 + 8] == tenant.0 as u8 && seen.packet[7] == 0;
        let first = seen.iter().find(is_first).unwrap_or_else(|| panic!("the first one of {tenant:?}"));
        let rest = seen.iter().find(|other| {
            other.packet[7] != 0
                && other.packet[4..6] == first.packet[4..6]
                && other.source.ip() == first.source.ip()
        });
        let whole = [&first.packet[20..], &rest.expect("its other half").packet[20..]].concat();
        assert!(whole[8..].iter().all(|byte| *byte == tenant.0 as u8), "{tenant:?}");
        let pseudo: u64 =
            first.packet[12..20].chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum();
        assert_eq!(sum(&whole, pseudo + 17 + whole.len() as u64), 0xffff);
        ports.push(whole[..2].to_vec());
    }
    assert!(ports[0] != ports[1] && ports[1] != ports[2], "{ports:?}");
}

/// A datagram's two fragments, with an identification that every caller's have.
fn halves(frame: &[u8]) -> [Vec<u8>; 2] {
    let (head, data) = frame.split_at(34);
    let (first, second) = data.split_at(1_000);
    [(first, 0x2000_u16), (second, 1_000 / 8)].map(|(part, place)| {
        let mut fragment = [head, part].concat();
        fragment[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        fragment[18..20].copy_from_slice(&77_u16.to_be_bytes());
        fragment[20..22].copy_from_slice(&place.to_be_bytes());
        with_ip_byte(fragment, 8, 64)
    })
}

#[test]
fn s_25_port_control_maps_equal_endpoints_of_each_tenant() {
    let mut net = with("[pcp]\nenabled = true\nper_subscriber = 1\n", |_| {});
    let ask = |net: &mut Net, wire, internal_port: u16, lifetime: u32| {
        let mut request = vec![2, 1, 0, 0];
        request.extend(lifetime.to_be_bytes());
        request.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
        request.extend([7; 12]);
        request.extend([17, 0, 0, 0]);
        request.extend(internal_port.to_be_bytes());
        request.extend([0; 18]);
        let answer = net.one(wire, &on(wire, udp("10.0.0.2:40000", "10.0.0.1:5351", &request)));
        assert_eq!(answer.nic_port, wire);
        let bytes = &answer.payload;
        let address = Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[56..60]).unwrap());
        (bytes[3], SocketAddrV4::new(address, u16::from_be_bytes([bytes[42], bytes[43]])))
    };
    let externals = WIRES.map(|(wire, _)| {
        let (result, external) = ask(&mut net, wire, 7000, 3_600);
        assert_eq!(result, 0);
        // One mapping each: the others' do not count.
        assert_eq!(ask(&mut net, wire, 7001, 3_600).0, 10, "user exceeded quota");
        external
    });
    assert!(are_different(&externals), "{externals:?}");
    for ((wire, _), external) in WIRES.into_iter().zip(externals) {
        assert_eq!(ask(&mut net, wire, 7000, 3_600), (0, external), "renewed");
        let seen = net.one(OUTSIDE, &udp_between(at(SERVER), external, b""));
        assert_eq!((seen.nic_port, seen.destination), (wire, at("10.0.0.2:7000")));
    }
    // One ends; the others stay.
    assert_eq!(ask(&mut net, RED, 7000, 0).0, 0);
    net.advance(Duration::from_secs(400));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.2:1"), externals[1], b""), DropReason::NoMapping);
    for at_wire in [0, 2] {
        let seen = net.one(OUTSIDE, &udp_between(at("198.51.100.2:1"), externals[at_wire], b""));
        assert_eq!(seen.nic_port, WIRES[at_wire].0);
    }
}

#[test]
fn s_25_an_alg_expects_in_the_tenant_of_its_control_session() {
    let mut net = with("[alg.ftp]\nenabled = true\n", |_| {});
    let (client, server) = (at("10.0.0.2:4000"), at("198.51.100.1:21"));
    let announced = WIRES.map(|(wire, _)| announce(&mut net, (wire, client), (OUTSIDE, server)));
    assert!(are_different(&announced), "{announced:?}");
    assert_eq!(expecting(&net), WIRES.map(|(_, tenant)| tenant));
    for ((wire, _), announced) in WIRES.into_iter().zip(announced) {
        let data = net.one(OUTSIDE, &tcp_between(at("198.51.100.1:20"), announced, SYN, b""));
        assert_eq!((data.nic_port, data.destination), (wire, at("10.0.0.2:4001")));
        let answer = on(wire, tcp("10.0.0.2:4001", "198.51.100.1:20", SYN | ACK));
        assert_eq!(net.one(wire, &answer).source, announced);
    }
    assert_eq!(net.sessions().iter().filter(|row| row.is_child).count(), 3);
}

#[test]
fn s_25_an_alg_expects_equal_endpoints_within_each_tenant() {
    let mut net = with("[alg.ftp]\nenabled = true\n", |_| {});
    let (client, server) = (at("10.0.0.2:4000"), at("10.0.0.3:21"));
    for (wire, _) in WIRES {
        let announced = announce(&mut net, (wire, client), (wire, server));
        assert_eq!(announced, at("10.0.0.2:4001"), "nothing is translated");
    }
    assert_eq!(expecting(&net), WIRES.map(|(_, tenant)| tenant));
    for (number, (wire, tenant)) in WIRES.into_iter().enumerate() {
        let data = net.one(wire, &on(wire, tcp("10.0.0.3:20", "10.0.0.2:4001", SYN)));
        assert_eq!((data.nic_port, data.destination), (wire, at("10.0.0.2:4001")));
        let rows = net.sessions();
        assert!(rows.iter().any(|row| row.tenant == tenant && row.is_child), "{rows:?}");
        assert_eq!(expecting(&net).len(), 2 - number);
    }
}

/// A control session between a client and a server, each on its wire, up to a PORT command for the client's port 4001;
/// returns what the server is told.
fn announce(net: &mut Net, (at_client, client): Station, (at_server, server): Station) -> SocketAddrV4 {
    let seen_as = net.one(at_client, &on(at_client, tcp_between(client, server, SYN, b""))).source;
    let from_server = |flags, payload: &[u8]| on(at_server, tcp_between(server, seen_as, flags, payload));
    let from_client = |payload: &[u8]| on(at_client, tcp_between(client, server, ACK, payload));
    assert_eq!(net.one(at_server, &from_server(SYN | ACK, b"")).nic_port, at_client);
    net.send(at_client, &from_client(b""));
    let greeting = net.send(at_server, &from_server(ACK, b"220 ready\r\n"));
    assert!(greeting.iter().any(|seen| seen.nic_port == at_client && seen.payload == b"220 ready\r\n"));
    let port = net.send(at_client, &from_client(b"PORT 10,0,0,2,15,161\r\n"));
    let port = port.iter().find(|seen| seen.payload.starts_with(b"PORT ")).expect("the command passes");
    assert_eq!(port.nic_port, at_server);
    let text = String::from_utf8(port.payload[5..].to_vec()).unwrap();
    let n: Vec<u8> = text.trim_end().split(',').map(|number| number.parse().unwrap()).collect();
    SocketAddrV4::new([n[0], n[1], n[2], n[3]].into(), u16::from_be_bytes([n[4], n[5]]))
}

/// A host's wire and endpoint.
type Station = (u16, SocketAddrV4);

/// Tenants in which something is expected.
fn expecting(net: &Net) -> Vec<TenantId> {
    let mut tenants: Vec<_> = net.engine.expectation_rows(net.now, 9).iter().map(|row| row.tenant).collect();
    tenants.sort();
    tenants
}

#[test]
fn s_25_deterministic_pools_serve_equal_hosts_of_a_tenant_each() {
    let pools = r#"
        [[nat.pool]]
        name = "fixed-red"
        addresses = ["203.0.113.20"]
        block_size = 128
        assignment = "deterministic"
        [[nat.pool]]
        name = "fixed-blue"
        addresses = ["203.0.113.21"]
        block_size = 128
        assignment = "deterministic"
    "#;
    let mut site = None;
    let mut net = with(pools, |config| {
        config.nat.rules = [1, 2]
            .map(|tenant| {
                let mut rule = config.nat.rules[0].clone();
                rule.tenant = Some(tenant);
                rule.action = algate_config::NatAction::Translate(usize::from(tenant));
                rule
            })
            .to_vec();
        site = Some(config.nat.clone());
    });
    let site = site.unwrap();
    for (wire, tenant) in [(RED, TenantId(1)), (BLUE, TenantId(2))] {
        let pool = Deterministic::new(&site, usize::from(tenant.0)).unwrap();
        let external = net.one(wire, &on(wire, udp(HOST, SERVER, b""))).source;
        let owner = pool.owner(u32::from(*external.ip()), external.port());
        assert_eq!((owner, pool.tenant()), (Some(Owner::Host(0x0a00_0002)), Some(tenant)));
        let stranger = Host { tenant: TenantId(9), address: 0x0a00_0002 };
        assert_eq!(pool.first_block(stranger), None);
    }
}

/// Everything at random for a while, on two workers: each packet arrives where a plain map says.
#[test]
fn s_25_soak_of_equal_inside_addresses() {
    for seed in [1_u64, 0x5eed, 0xdead_beef] {
        let mut net = with("", |config| config.workers.cores = vec![1, 2]);
        let mut random = seed;
        let mut draw = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let host = |number: usize| at(&format!("10.0.0.{}:{}", 2 + number / 3, 5_000 + number % 3));
        let remote = |number: usize| at(&format!("198.51.100.{}:53", 1 + number));
        let mut externals: HashMap<(u16, SocketAddrV4), SocketAddrV4> = HashMap::new();
        for _ in 0..1_500 {
            net.receiver = draw(2);
            let (wire, _) = WIRES[draw(3)];
            let (from, to) = (host(draw(9)), remote(draw(4)));
            match draw(8) {
                0..=3 => {
                    let out = net.one(wire, &on(wire, udp_between(from, to, b"out")));
                    let known = *externals.entry((wire, from)).or_insert(out.source);
                    assert_eq!((out.nic_port, out.source, out.destination), (OUTSIDE, known, to));
                }
                4 | 5 => {
                    let Some(&external) = externals.get(&(wire, from)) else { continue };
                    let seen = net.one(OUTSIDE, &udp_between(to, external, b"in"));
                    assert_eq!((seen.nic_port, seen.source, seen.destination), (wire, to, from));
                }
                6 => {
                    // To some other host's external endpoint, of whichever tenant.
                    let (target_wire, target) = (WIRES[draw(3)].0, host(draw(9)));
                    let known = [(wire, from), (target_wire, target)].map(|end| externals.get(&end).copied());
                    let [Some(seen_as), Some(external)] = known else { continue };
                    if (wire, from) != (target_wire, target) {
                        let seen = net.one(wire, &on(wire, udp_between(from, external, b"hairpin")));
                        assert_eq!(
                            (seen.nic_port, seen.source, seen.destination),
                            (target_wire, seen_as, target)
                        );
                    }
                }
                _ if draw(100) == 0 => {
                    net.advance(Duration::from_secs(700));
                    assert_eq!(net.sessions(), []);
                    externals.clear();
                }
                _ => {
                    net.advance(Duration::from_millis(100));
                }
            }
        }
        let used: std::collections::HashSet<_> = externals.values().collect();
        assert_eq!(used.len(), externals.len(), "an external endpoint is two hosts'");
    }
}
