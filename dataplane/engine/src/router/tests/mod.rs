//! Tests of the router in virtual time, over frames in plain memory.

mod arp;
mod egress;
mod icmp;
mod neighbor;
mod table;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use algate_config as config;
use algate_config::{Config, Side};

use crate::counters::DropCounters;
use crate::ids::{InterfaceId, NicPortId, TenantId};
use crate::packet::arp::{ArpOperation, ArpPacket};
use crate::packet::build::{self, Ipv4Fields};
use crate::packet::parse::{Ipv4View, ParsedKind};
use crate::packet::tests::parse_frame;
use crate::packet::vec_frame::{VecFrame, VecIo};
use crate::router::Router;
use crate::router::egress::{Context, Egress};
use crate::time::Instant;

pub(crate) const INTERNAL: InterfaceId = InterfaceId(0);
pub(crate) const EXTERNAL: InterfaceId = InterfaceId(1);
pub(crate) const TAGGED: InterfaceId = InterfaceId(2);
pub(crate) const INTERNAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const EXTERNAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0xAA, 1];

pub(crate) fn address(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().into()
}

pub(crate) fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

/// Port 0: 10.0.0.1/24 internal. Port 1: 192.0.2.1/24 external, and VLAN 7 with 172.16.0.1/24 internal.
/// Default route by 192.0.2.254; pool 198.51.100.0-3 and 192.0.2.10-11.
pub(crate) fn config() -> Config {
    let nic_port = |name: &str| config::NicPort {
        name: name.into(),
        device: config::Device::Null,
        rx_descriptors: 512,
        tx_descriptors: 512,
        mtu: 1_500,
        promiscuous: false,
    };
    let interface = |name: &str, nic_port, vlan, side, net: &str, mtu| config::Interface {
        name: name.into(),
        nic_port,
        vlan,
        side,
        tenant: 0,
        source_check: true,
        addresses: vec![net.parse().unwrap()],
        mtu,
    };
    Config {
        eal: config::Eal { hugepages: config::Hugepages::Never, file_prefix: "t".into(), main_core: 0 },
        workers: config::Workers {
            cores: vec![1],
            alg_cores: vec![],
            burst: 32,
            idle: config::Idle::Poll,
            handover_packets: 64,
        },
        nic_ports: vec![nic_port("in"), nic_port("out")],
        interfaces: vec![
            interface("inside", 0, None, Side::Internal, "10.0.0.1/24", 1_500),
            interface("outside", 1, None, Side::External, "192.0.2.1/24", 1_500),
            interface("plant", 1, Some(7), Side::Internal, "172.16.0.1/24", 1_400),
        ],
        routes: vec![config::Route {
            prefix: "0.0.0.0/0".parse().unwrap(),
            via: Ipv4Addr::new(192, 0, 2, 254),
            interface: 1,
        }],
        nat: config::Nat {
            pools: vec![config::Pool {
                name: "pool".into(),
                ranges: vec![
                    (Ipv4Addr::new(198, 51, 100, 0), Ipv4Addr::new(198, 51, 100, 3)),
                    (Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 11)),
                ],
                l4_ports: (1_024, 65_535),
                blocks: None,
                pairing: config::Pairing::Strict,
                keeps_parity: false,
            }],
            statics: vec![],
            rules: vec![],
            forwards: vec![config::Forward {
                protocol: config::Transport::Tcp,
                external: "192.0.2.12:80".parse().unwrap(),
                ports: 1,
                servers: vec![config::Server { internal: "10.0.0.80:80".parse().unwrap(), weight: 1 }],
                tenant: 0,
                affinity: config::Affinity::Source,
                masquerade: false,
            }],
            limits: config::Limits::default(),
            hold: config::Hold { time: Duration::from_secs(120), ports: 16 },
        },
        filter: vec![],
        alg: crate::alg_stage::protocols::tests::config("").alg,
        tcp: config::Tcp {
            mss_clamp: true,
            unsolicited_syn: config::UnsolicitedSyn::Silent,
            pressed_half_open: None,
        },
        timeouts: config::Timeouts {
            tcp_established: Duration::from_secs(7_440),
            tcp_transitory: Duration::from_secs(240),
            udp: Duration::from_secs(300),
            udp_ports: Vec::new(),
            udp_inbound_refresh: false,
            icmp: Duration::from_secs(60),
            other: Duration::from_secs(60),
            arp: Duration::from_secs(60),
        },
        fragments: config::Fragments {
            datagrams: 64,
            kept: 64,
            per_source: 16,
            lifetime: Duration::from_secs(2),
            whole_bytes: 2_048,
        },
        tables: config::Tables {
            sessions: 16,
            tcp_sessions: 16,
            related_sessions: 16,
            half_open: 16,
            mappings: 16,
            expectations: 16,
            subscribers: 16,
            alg_flows: 16,
            neighbors: 128,
            mbufs: 1_024,
        },
        icmp: config::Icmp { rate_per_second: 10, refusal: config::IcmpRefusal::HostUnreachable },
        pcp: config::Pcp {
            enabled: false,
            nat_pmp: false,
            mappings: 1,
            per_subscriber: 1,
            min_lifetime: Duration::from_secs(120),
            max_lifetime: Duration::from_secs(120),
            requests_per_second: 1,
        },
        events: config::Events {
            sessions: false,
            mappings: config::MappingEvents::Never,
            blocks: false,
            addresses: false,
            exhaustion: false,
            destinations: false,
            ring_records: 64,
            log: None,
        },
        control: config::Control { socket: PathBuf::from("/run/algate.sock") },
        log: config::Log { level: config::LogLevel::Info },
    }
}

/// A worker with its router, in virtual time.
pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) drops: DropCounters,
    pub(crate) egress: Egress<VecFrame>,
    pub(crate) io: VecIo,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&config())
    }

    pub(crate) fn with(config: &Config) -> Self {
        Self {
            router: Router::new(config, &[INTERNAL_MAC, EXTERNAL_MAC]),
            drops: DropCounters::default(),
            egress: Egress::default(),
            io: VecIo::default(),
            now: at(0),
        }
    }

    /// Runs `act` with the worker's context, way out and frames.
    pub(crate) fn with_context<R>(
        &mut self,
        act: impl FnOnce(&Context<'_>, &mut Egress<VecFrame>, &mut VecIo) -> R,
    ) -> R {
        let context = Context { router: &self.router, drops: &self.drops, now: self.now };
        act(&context, &mut self.egress, &mut self.io)
    }

    /// Routes and sends a UDP datagram with `payload` to `dst`.
    pub(crate) fn send(&mut self, dst: &str, payload: &[u8]) {
        let dst = address(dst);
        let next_hop = self.router.next_hop(TenantId::NONE, dst, self.now).unwrap();
        let frame = datagram(dst, payload);
        self.with_context(|context, egress, io| egress.send(context, io, frame, 14, next_hop)).unwrap();
    }

    /// Polls every 100 ms of virtual time, up to and including `until`; returns what was sent and when.
    pub(crate) fn run_until(&mut self, until: Instant) -> Vec<(u64, Vec<u8>)> {
        let mut sent = Vec::new();
        loop {
            self.with_context(|context, egress, io| egress.poll(context, io));
            let millisecond = self.now.as_nanos() / 1_000_000;
            sent.extend(self.io.take().into_iter().map(|(_, frame)| (millisecond, frame.bytes())));
            if self.now >= until {
                return sent;
            }
            self.now = self.now.plus(Duration::from_millis(100)).min(until);
        }
    }

    /// Delivers an ARP packet from [`HOST_MAC`] at `sender`.
    pub(crate) fn arp(
        &mut self,
        interface: InterfaceId,
        operation: ArpOperation,
        sender: &str,
        target: &str,
    ) -> Result<(), crate::drop_reason::DropReason> {
        self.arp_from(HOST_MAC, interface, operation, sender, target)
    }

    /// The same from any station.
    pub(crate) fn arp_from(
        &mut self,
        sender_mac: [u8; 6],
        interface: InterfaceId,
        operation: ArpOperation,
        sender: &str,
        target: &str,
    ) -> Result<(), crate::drop_reason::DropReason> {
        let packet = ArpPacket {
            operation,
            sender_mac,
            sender: address(sender),
            target_mac: [0; 6],
            target: address(target),
        };
        let mut frame = VecFrame::new();
        assert!(build::arp(&mut frame, [0xFF; 6], 0, &packet));
        self.with_context(|context, _, io| super::arp::receive(context, io, frame, 14, interface))
    }

    /// What was sent since the last look.
    pub(crate) fn sent(&mut self) -> Vec<(NicPortId, Vec<u8>)> {
        self.io.take().into_iter().map(|(nic_port, frame)| (nic_port, frame.bytes())).collect()
    }
}

/// A UDP datagram without an Ethernet header of meaning.
pub(crate) fn datagram(dst: u32, payload: &[u8]) -> VecFrame {
    let mut frame = VecFrame::new();
    assert!(build::udp(&mut frame, &Ipv4Fields::new(address("10.0.0.5"), dst), (1_000, 2_000), payload));
    frame
}

/// The ARP packet in an untagged frame, or `None` when it is none.
pub(crate) fn as_arp(bytes: &[u8]) -> Option<ArpPacket> {
    (bytes[12..14] == [0x08, 0x06]).then(|| ArpPacket::parse(&bytes[14..]).unwrap())
}

/// The IPv4 packet in a frame.
pub(crate) fn as_ipv4(bytes: &[u8]) -> Ipv4View {
    match parse_frame(bytes).unwrap().kind {
        ParsedKind::Ipv4(view) => view,
        ParsedKind::Arp { .. } => panic!("an ARP packet"),
    }
}

/// The payload of the datagram in a frame.
pub(crate) fn payload(bytes: &[u8]) -> Vec<u8> {
    let view = as_ipv4(bytes);
    bytes[usize::from(view.payload)..usize::from(view.end)].to_vec()
}
