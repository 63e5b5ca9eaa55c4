//! Event records: each once, in order, with nothing in them that nobody asked for (RFC 6888 REQ-11 to REQ-14).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::{Assignment, Config, IcmpRefusal, MappingBehavior, MappingEvents, Pairing, PortBlocks};
use algate_engine::drop_reason::DropReason;
use algate_engine::event::{Kind, Record};
use algate_engine::ids::WorkerId;
use algate_engine::nat::{mapping, session};
use proptest::prelude::*;

use crate::common::packets::{SYN, at, echo_request, tcp, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const REMOTE: &str = "198.51.100.1:1";

fn drain(net: &Net) -> Vec<Record> {
    let mut records = Vec::new();
    net.engine.events.drain(&mut records);
    records
}

fn kinds(records: &[Record]) -> Vec<Kind> {
    records.iter().map(|record| record.kind).collect()
}

fn everything(config: &mut Config) {
    let events = &mut config.events;
    (events.sessions, events.addresses, events.mappings) = (true, true, MappingEvents::Always);
}

/// The first pool with `addresses` addresses and these ports.
fn shrink(config: &mut Config, addresses: u32, l4_ports: (u16, u16)) {
    let pool = &mut config.nat.pools[0];
    pool.ranges[0].1 = (u32::from(pool.ranges[0].0) + addresses - 1).into();
    pool.l4_ports = l4_ports;
    config.icmp.refusal = IcmpRefusal::None;
}

fn blocks(ports: u16, per_host: u16) -> Option<PortBlocks> {
    let idle_hold = Duration::from_secs(60);
    Some(PortBlocks { ports, per_host, idle_hold, assignment: Assignment::Dynamic })
}

fn open(net: &mut Net, host: u32, l4_port: u16) -> bool {
    !net.send(INSIDE, &udp(&format!("10.0.0.{host}:{l4_port}"), REMOTE, b"")).is_empty()
}

#[test]
fn c_17_a_flow_leaves_one_record_of_each_kind_in_order() {
    let mut net = Net::with("", everything);
    let before = net.now;
    let external = net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b"")).source;
    for _ in 0..3 {
        net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b""));
        net.one(OUTSIDE, &udp_between(at(REMOTE), external, b""));
    }
    let begun = drain(&net);
    assert_eq!(kinds(&begun), [Kind::AddressBound, Kind::MappingCreated, Kind::SessionCreated]);
    for record in &begun {
        let l4_ports = if record.kind == Kind::AddressBound { (0, 0) } else { (5000, external.port()) };
        assert_eq!(record.at, before);
        assert_eq!(SocketAddrV4::from(record.internal), SocketAddrV4::new([10, 0, 0, 2].into(), l4_ports.0));
        assert_eq!(SocketAddrV4::from(record.external), SocketAddrV4::new(*external.ip(), l4_ports.1));
        assert_eq!(record.protocol, if record.kind == Kind::AddressBound { 0 } else { 17 });
        assert_eq!((record.remote, record.cause, record.last_l4_port), (None, None, 0));
    }
    net.advance(Duration::from_secs(302));
    let ended = drain(&net);
    assert_eq!(kinds(&ended), [Kind::SessionDeleted, Kind::MappingDeleted, Kind::AddressUnbound]);
    for (begin, end) in [(2, 0), (1, 1), (0, 2)] {
        let (begin, end) = (&begun[begin], &ended[end]);
        assert_eq!((begin.internal, begin.external), (end.internal, end.external));
        assert!(end.at.since(before) >= Duration::from_secs(300));
    }
    assert_eq!(net.engine.events.lost(), 0);
}

#[test]
fn c_17_the_numbers_are_those_of_the_registry() {
    let numbers: Vec<_> = Kind::ALL.iter().map(|kind| (kind.text(), kind.nat_event())).collect();
    assert_eq!(
        numbers,
        [
            ("session_created", Some(4)),
            ("session_deleted", Some(5)),
            ("mapping_created", Some(8)),
            ("mapping_deleted", Some(9)),
            ("address_bound", Some(14)),
            ("address_unbound", Some(15)),
            ("block_assigned", Some(16)),
            ("block_released", Some(17)),
            ("addresses_exhausted", Some(3)),
            ("addresses_available", None),
            ("ports_exhausted", Some(12)),
            ("ports_available", None),
            ("quota_exceeded", Some(13)),
            ("quota_available", None),
        ]
    );
}

#[test]
fn c_10_no_record_names_a_destination_unless_asked_for() {
    for destinations in [false, true] {
        let mut net = Net::with("", |config| {
            everything(config);
            config.events.destinations = destinations;
            config.nat.rules[0].mapping = MappingBehavior::AddressAndPortDependent;
            config.nat.rules[0].filtering = algate_config::FilteringBehavior::AddressAndPortDependent;
        });
        net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.7:53", b""));
        net.one(INSIDE, &tcp("10.0.0.2:5000", "198.51.100.7:443", SYN));
        net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.7", 9));
        net.advance(Duration::from_secs(400));
        let records = drain(&net);
        let of_flows = records.iter().filter(|record| record.protocol != 0);
        assert_eq!(of_flows.clone().count(), 12);
        for record in of_flows {
            let remote = record.remote.map(|remote| SocketAddrV4::from(remote).ip().octets());
            assert_eq!(remote, destinations.then_some([198, 51, 100, 7]), "{record:?}");
        }
    }
}

#[test]
fn c_11_with_blocks_there_are_records_of_blocks_and_nothing_else() {
    let mut net = Net::with("", |config| {
        shrink(config, 2, (1024, 1024 + 8191));
        config.nat.pools[0].blocks = blocks(64, 4);
        (config.tables.sessions, config.tables.mappings) = (8_192, 8_192);
    });
    for host in 2..42 {
        assert_eq!((0..100).filter(|port| open(&mut net, host, 5000 + port)).count(), 100);
    }
    let assigned = drain(&net);
    assert!(assigned.iter().all(|record| record.kind == Kind::BlockAssigned), "{assigned:?}");
    assert_eq!(assigned.len() as u64, net.engine.nat.blocks.assigned());
    assert!(assigned.iter().all(|record| record.last_l4_port - record.external.l4_port == 63));
    let owner: HashMap<_, _> = assigned
        .iter()
        .map(|record| ((record.external.address, record.external.l4_port / 64), record.internal.address))
        .collect();
    for row in net.mappings() {
        let block = (u32::from(*row.external.ip()), row.external.port() / 64);
        assert_eq!(owner.get(&block), Some(&u32::from(*row.internal.ip())));
    }
    // Sessions, then ports, then blocks rest.
    net.advance(Duration::from_secs(302 + 121 + 62));
    let released = drain(&net);
    assert_eq!(kinds(&released), vec![Kind::BlockReleased; assigned.len()]);
    let places = |records: &[Record]| {
        let place = |record: &Record| (record.internal, record.external, record.last_l4_port);
        records.iter().map(place).collect::<HashSet<_>>()
    };
    assert_eq!(places(&assigned), places(&released));
}

#[test]
fn c_16_computed_blocks_leave_no_record_and_further_ones_do() {
    let mut net = Net::with("", |config| {
        shrink(config, 2, (1024, 1024 + 64 * 160 - 1));
        config.nat.pools[0].blocks =
            blocks(64, 2).map(|blocks| PortBlocks { assignment: Assignment::Deterministic, ..blocks });
    });
    for host in [2, 3] {
        assert_eq!((0..64).filter(|port| open(&mut net, host, 5000 + port)).count(), 64);
    }
    assert_eq!(drain(&net), []);
    assert!(open(&mut net, 3, 6000));
    let records = drain(&net);
    assert_eq!(kinds(&records), [Kind::BlockAssigned]);
    assert_eq!(records[0].internal.address, 0x0a00_0003);
}

#[test]
fn c_09_a_full_pool_is_told_once_and_once_more_when_it_has_room() {
    let mut net = Net::with("[nat.hold]\ntime = \"0s\"\n[events]\nmappings = \"never\"", |config| {
        shrink(config, 2, (3000, 3031));
        config.nat.pools[0].pairing = Pairing::Soft;
    });
    let opened = (0..200).filter(|port| open(&mut net, 2, 5000 + port)).count();
    assert_eq!(opened, 64);
    let records = drain(&net);
    assert_eq!(kinds(&records), [Kind::PortsExhausted, Kind::PortsExhausted, Kind::AddressesExhausted]);
    assert!(records.iter().all(|record| record.protocol == 17 && record.cause.is_none()));
    assert_ne!(records[0].external.address, records[1].external.address);
    // One port comes and goes: too little to speak of.
    net.advance(Duration::from_secs(200));
    for port in 0..63 {
        open(&mut net, 2, 5000 + port);
    }
    net.advance(Duration::from_secs(103));
    assert_eq!((net.mappings().len(), drain(&net)), (63, vec![]));
    net.advance(Duration::from_secs(200));
    let records = drain(&net);
    assert_eq!(kinds(&records), [Kind::AddressesAvailable, Kind::PortsAvailable, Kind::PortsAvailable]);
}

#[test]
fn c_09_each_full_table_is_told_once_and_once_more_when_it_has_room() {
    type Shrink = fn(&mut Config);
    let tables: [(DropReason, Shrink); 4] = [
        (DropReason::SessionTableFull, |config| config.tables.sessions = 8),
        (DropReason::HalfOpenFull, |config| config.tables.half_open = 8),
        (DropReason::MappingTableFull, |config| config.tables.mappings = 8),
        (DropReason::SubscriberTableFull, |config| config.tables.subscribers = 8),
    ];
    for (reason, change) in tables {
        let mut net = Net::with("[events]\nmappings = \"never\"", |config| {
            change(config);
            config.icmp.refusal = IcmpRefusal::None;
        });
        for host in 2..60 {
            net.send(INSIDE, &tcp(&format!("10.0.0.{host}:5000"), REMOTE, SYN));
        }
        assert_eq!((net.sessions().len(), net.dropped(reason)), (8, 50));
        let records = drain(&net);
        assert_eq!(kinds(&records), [Kind::QuotaExceeded]);
        assert_eq!(records[0].cause, Some(reason));
        net.advance(Duration::from_secs(245));
        let records = drain(&net);
        assert_eq!(kinds(&records), [Kind::QuotaAvailable]);
        assert_eq!(records[0].cause, Some(reason));
    }
}

#[test]
fn c_09_each_full_quota_is_told_once_with_its_host() {
    for (limits, reason) in [
        ("sessions = 16", DropReason::QuotaSessions),
        ("sessions_udp = 16", DropReason::QuotaSessions),
        ("ports = 16", DropReason::QuotaPorts),
        ("sessions_per_second = 16", DropReason::QuotaRate),
        ("memory_bytes = 4096", DropReason::QuotaMemory),
    ] {
        let mut net =
            Net::with(&format!("[nat.limits]\n{limits}\n[events]\nmappings = \"never\""), |config| {
                config.icmp.refusal = IcmpRefusal::None;
            });
        for port in 0..100 {
            open(&mut net, 2, 5000 + port);
        }
        assert!(net.dropped(reason) >= 80, "{limits}: {:?}", net.drops());
        let records = drain(&net);
        assert_eq!(kinds(&records), [Kind::QuotaExceeded], "{limits}");
        assert_eq!((records[0].cause, records[0].internal.address), (Some(reason), 0x0a00_0002));
        net.advance(Duration::from_secs(303));
        let records = drain(&net);
        assert_eq!(kinds(&records), [Kind::QuotaAvailable], "{limits}");
        assert_eq!((records[0].cause, records[0].internal.address), (Some(reason), 0x0a00_0002));
    }
}

#[test]
fn c_04_a_host_holds_no_more_memory_than_it_may_and_others_are_not_affected() {
    let each = session::RECORD_BYTES + mapping::RECORD_BYTES;
    let limit = 25 * each + each / 2;
    let mut net = Net::with(&format!("[nat.limits]\nmemory_bytes = {limit}"), |config| {
        config.icmp.refusal = IcmpRefusal::None;
    });
    assert_eq!((0..100).filter(|port| open(&mut net, 2, 5000 + port)).count(), 25);
    assert_eq!(net.dropped(DropReason::QuotaMemory), 75);
    // A session on a mapping that is there takes less, but there is no room for it either.
    assert!(open(&mut net, 2, 5000), "what lives is not touched");
    assert!(open(&mut net, 3, 5000));
    net.advance(Duration::from_secs(302));
    assert_eq!((0..100).filter(|port| open(&mut net, 2, 5000 + port)).count(), 25);
}

#[test]
fn c_04_one_mapping_holds_no_more_memory_than_it_may() {
    let limit = mapping::RECORD_BYTES + 40 * session::RECORD_BYTES;
    let mut net = Net::with(&format!("[nat.limits]\nmapping_memory_bytes = {limit}"), |config| {
        config.icmp.refusal = IcmpRefusal::None;
    });
    let mut to = |source: &str, remote: u32| {
        let seen = net.send(INSIDE, &udp(source, &format!("198.51.100.{remote}:1"), b""));
        !seen.is_empty()
    };
    assert_eq!((1..100).filter(|remote| to("10.0.0.2:5000", *remote)).count(), 40);
    assert!(to("10.0.0.2:5001", 1), "another mapping of the same host");
    assert_eq!(net.dropped(DropReason::QuotaMappingMemory), 59);
    let records = drain(&net);
    let exceeded = records.iter().filter(|record| record.kind == Kind::QuotaExceeded);
    assert_eq!(
        exceeded.map(|record| record.cause).collect::<Vec<_>>(),
        [Some(DropReason::QuotaMappingMemory)]
    );
}

#[test]
fn a_full_ring_stops_no_packet_and_every_lost_record_is_counted() {
    let mut net = Net::with("[events]\nring_records = 64\nsessions = true\nmappings = \"never\"", |_| {});
    for port in 0..1_000 {
        assert!(open(&mut net, 2, 5000 + port));
    }
    assert_eq!((net.engine.events.recorded(), net.engine.events.lost_by(WorkerId(0))), (64, 936));
    let records = drain(&net);
    let l4_ports: Vec<u16> = records.iter().map(|record| record.internal.l4_port).collect();
    assert_eq!(l4_ports, (5000..5064).collect::<Vec<_>>(), "the oldest are kept");
    assert!(open(&mut net, 3, 5000));
    assert_eq!((drain(&net).len(), net.engine.events.lost()), (1, 936));
}

#[test]
fn a_reserved_port_of_a_forward_is_nobodys_event() {
    let net = Net::with(
        "[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"203.0.113.10:21\"\ninternal = \"10.0.0.9:21\"",
        everything,
    );
    assert_eq!(drain(&net), []);
}

/// What the records say is there.
#[derive(Default)]
struct Replay {
    sessions: HashSet<(u8, SocketAddrV4, SocketAddrV4, SocketAddrV4)>,
    mappings: HashSet<(u8, SocketAddrV4, SocketAddrV4)>,
    bindings: HashSet<(u32, u32)>,
    blocks: HashMap<(u32, u16), u32>,
}

impl Replay {
    /// Nothing begins twice or ends without having begun.
    fn take(&mut self, record: &Record) -> Result<(), TestCaseError> {
        let (internal, external) = (record.internal, record.external);
        let session = (
            record.protocol,
            internal.into(),
            external.into(),
            record.remote.map_or(at("0.0.0.0:0"), SocketAddrV4::from),
        );
        let mapping = (record.protocol, internal.into(), external.into());
        let block = (external.address, external.l4_port);
        let is_right = match record.kind {
            Kind::SessionCreated => self.sessions.insert(session),
            Kind::SessionDeleted => self.sessions.remove(&session),
            Kind::MappingCreated => self.mappings.insert(mapping),
            Kind::MappingDeleted => self.mappings.remove(&mapping),
            Kind::AddressBound => self.bindings.insert((internal.address, external.address)),
            Kind::AddressUnbound => self.bindings.remove(&(internal.address, external.address)),
            Kind::BlockAssigned => self.blocks.insert(block, internal.address).is_none(),
            Kind::BlockReleased => self.blocks.remove(&block) == Some(internal.address),
            _ => true,
        };
        prop_assert!(is_right, "{:?}", record);
        Ok(())
    }

    fn compare(&self, net: &Net) -> Result<(), TestCaseError> {
        let sessions = net.sessions().into_iter();
        let sessions: HashSet<_> =
            sessions.map(|row| (row.protocol, row.internal, row.external, row.remote)).collect();
        prop_assert_eq!(&self.sessions, &sessions);
        let mappings = net.mappings().into_iter();
        let mappings: HashSet<_> = mappings.map(|row| (row.protocol, row.internal, row.external)).collect();
        prop_assert_eq!(&self.mappings, &mappings);
        let hosts = net.engine.nat.subscribers.iter();
        let bindings: HashSet<_> =
            hosts.filter_map(|host| Some((host.host.address, host.external?))).collect();
        prop_assert_eq!(&self.bindings, &bindings);
        prop_assert_eq!(self.blocks.len() as u64, net.engine.nat.blocks.assigned());
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Outbound { host: u32, l4_port: u16, remote: u16, is_tcp: bool },
    Stranger { to: usize, from: u16 },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (2_u32..6, 0_u16..40, 0_u16..3, any::<bool>()).prop_map(|(host, l4_port, remote, is_tcp)| {
            Step::Outbound { host, l4_port: 5000 + l4_port, remote, is_tcp }
        }),
        2 => (0_usize..8, 1_u16..5).prop_map(|(to, from)| Step::Stranger { to, from }),
        1 => (1_u64..200).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_records_replayed_are_the_tables_at_any_moment(
        steps in prop::collection::vec(step(), 1..100), workers in 1_usize..3, with_blocks in any::<bool>(),
    ) {
        let mut net = Net::with("[nat.hold]\ntime = \"5s\"\n[nat.limits]\nsessions = 30", |config| {
            everything(config);
            shrink(config, 2, (1024, 1024 + 127));
            config.workers.cores = (1..=workers).collect();
            config.events.destinations = true;
            config.nat.pools[0].blocks = if with_blocks { blocks(16, 2) } else { None };
        });
        let mut replay = Replay::default();
        for (number, step) in steps.into_iter().enumerate() {
            net.receiver = number % workers;
            match step {
                Step::Outbound { host, l4_port, remote, is_tcp } => {
                    let (source, remote) = (format!("10.0.0.{host}:{l4_port}"), format!("198.51.100.1:{}", 80 + remote));
                    let frame = if is_tcp { tcp(&source, &remote, SYN) } else { udp(&source, &remote, b"") };
                    net.send(INSIDE, &frame);
                }
                Step::Stranger { to, from } => {
                    let external = net.mappings().get(to).filter(|row| row.protocol == 17).map(|row| row.external);
                    if let Some(external) = external {
                        net.send(OUTSIDE, &udp_between(at(&format!("198.51.100.9:{from}")), external, b""));
                    }
                }
                Step::Pass(seconds) => drop(net.advance(Duration::from_secs(seconds))),
            }
            for record in drain(&net) {
                replay.take(&record)?;
            }
            replay.compare(&net)?;
        }
        net.drain();
        for record in drain(&net) {
            replay.take(&record)?;
        }
        replay.compare(&net)?;
        prop_assert!(replay.sessions.is_empty() && replay.mappings.is_empty() && replay.blocks.is_empty());
    }
}
