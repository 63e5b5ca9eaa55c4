//! A simulated site: the engine between internal hosts and the world, with a clock of its own.
//!
//! ```text
//! 10.0.0.0/24 --- port 0, 10.0.0.1 [ algate ] 203.0.113.2, port 1 --- 203.0.113.1 (router) --- the world
//!                                   pool 203.0.113.10-11, ports 1024-65535
//! ```
//!
//! Hosts answer ARP by themselves. When a [`Net`] is dropped its ledger is checked: every frame is
//! accounted for, every port is some mapping's, and after all timeouts nothing is left.

pub(crate) mod by_hand;
pub(crate) mod hosts;
pub(crate) mod packets;
pub(crate) mod talk;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use algate_config::{Config, Machine};
use algate_engine::alg_stage::handover::Handover;
use algate_engine::counters::{Counter, WorkerCounters};
use algate_engine::drop_reason::DropReason;
use algate_engine::engine::Engine;
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::nat::Nat;
use algate_engine::nat::subscriber::Holdings;
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use algate_engine::snapshot::{EGRESS_DROPS, MappingRow, SessionRow};
use algate_engine::time::Instant;
use algate_engine::worker::Worker;

use packets::{Seen, arp_reply_to, mac_on};

pub(crate) const INSIDE: u16 = 0;
pub(crate) const OUTSIDE: u16 = 1;
/// Of all ports; most sites have two.
pub(crate) const ROUTER_MACS: [[u8; 6]; 4] =
    [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4]];

const SITE: &str = r#"
[workers]
cores = [1]

[[nic_port]]
name = "p0"
device = { driver = "null" }

[[nic_port]]
name = "p1"
device = { driver = "null" }

[[interface]]
name = "lan"
nic_port = "p0"
side = "internal"
addresses = ["10.0.0.1/24"]

[[interface]]
name = "wan"
nic_port = "p1"
side = "external"
addresses = ["203.0.113.2/24"]

[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.1"

[[route]]
prefix = "10.9.0.0/16"
via = "10.0.0.254"
interface = "lan"

[[nat.pool]]
name = "public"
addresses = ["203.0.113.10-203.0.113.11"]

[[nat.rule]]
internal = "10.0.0.0/24"
pool = "public"

[tables]
sessions = 2048
mappings = 2048
expectations = 64
alg_flows = 4
neighbors = 1024
"#;

/// Engine, threads, clock and wires.
pub(crate) struct Net {
    pub(crate) engine: Arc<Engine>,
    pub(crate) workers: Vec<Worker<VecFrame>>,
    pub(crate) io: VecIo,
    pub(crate) now: Instant,
    /// The thread that receives what is sent next.
    pub(crate) receiver: usize,
    /// Whether what comes out must have right checksums.
    pub(crate) verifies: bool,
    /// Frames that go in at once.
    pub(crate) burst: usize,
    /// IPv4 packets that came out.
    pub(crate) transmitted: u64,
    /// Mappings of forwards.
    forwards: usize,
    /// Ports of forwards that several servers share, which have no mappings.
    balanced_ports: u64,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self::with("", |_| {})
    }

    /// The site with more `toml`, and the checked configuration changed by `change`.
    pub(crate) fn with(toml: &str, change: impl FnOnce(&mut Config)) -> Self {
        let text = format!("{SITE}{toml}");
        let mut config = Config::parse(&text, "site.toml", &Machine::unchecked()).unwrap_or_else(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", errors.join("\n"))
        });
        change(&mut config);
        let engine = Arc::new(Engine::new(&config, &ROUTER_MACS, [1, 2, 3, 4]));
        let handover = Arc::new(Handover::new(engine.threads(), config.workers.handover_packets));
        let now = Instant::from_nanos(1_000_000_000);
        let workers = (0..engine.threads())
            .map(|id| {
                let id = WorkerId(u16::try_from(id).unwrap());
                Worker::new(Arc::clone(&engine), Arc::clone(&handover), id, now).unwrap()
            })
            .collect();
        Self {
            engine,
            workers,
            io: VecIo {
                more_room_bytes: usize::from(config.fragments.whole_bytes) - 2_048,
                ..VecIo::default()
            },
            now,
            receiver: 0,
            verifies: true,
            burst: 1,
            transmitted: 0,
            forwards: Nat::forward_mappings(&config.nat.forwards),
            balanced_ports: config
                .nat
                .forwards
                .iter()
                .filter(|forward| forward.servers.len() > 1)
                .map(|forward| u64::from(forward.ports) * forward.protocols().count() as u64)
                .sum(),
        }
    }

    /// Puts one frame on a port's wire and returns the IPv4 packets that come out, on any port.
    pub(crate) fn send(&mut self, nic_port: u16, frame: &[u8]) -> Vec<Seen> {
        self.send_frames(nic_port, vec![VecFrame::from_bytes(frame)])
    }

    /// The same for several frames, `burst` of them at once.
    pub(crate) fn send_all(&mut self, nic_port: u16, frames: &[Vec<u8>]) -> Vec<Seen> {
        self.send_frames(nic_port, frames.iter().map(|frame| VecFrame::from_bytes(frame)).collect())
    }

    pub(crate) fn send_frames(&mut self, nic_port: u16, frames: Vec<VecFrame>) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() {
            let mut burst = frames.by_ref().take(self.burst).collect();
            self.workers[self.receiver].receive(&mut self.io, self.now, NicPortId(nic_port), &mut burst);
            assert!(burst.is_empty());
            seen.extend(self.collect());
        }
        seen.extend(self.poll());
        seen
    }

    /// The one packet that comes out for one that goes in.
    #[track_caller]
    pub(crate) fn one(&mut self, nic_port: u16, frame: &[u8]) -> Seen {
        let mut seen = self.send(nic_port, frame);
        assert_eq!(seen.len(), 1, "{seen:?} {:?}", self.drops());
        seen.remove(0)
    }

    /// A packet that dies, silently, of `reason`.
    #[track_caller]
    pub(crate) fn refused(&mut self, nic_port: u16, frame: &[u8], reason: DropReason) {
        let before = self.dropped(reason);
        let seen = self.send(nic_port, frame);
        assert_eq!(seen, [], "{reason:?}");
        assert_eq!(self.dropped(reason), before + 1, "{reason:?}: {:?}", self.drops());
    }

    /// Lets every thread take its turn until nothing comes out any more.
    pub(crate) fn poll(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let mut is_busy = false;
            for worker in &mut self.workers {
                is_busy |= worker.poll(&mut self.io, self.now);
            }
            let sent = self.collect();
            if !is_busy && sent.is_empty() {
                return seen;
            }
            seen.extend(sent);
        }
    }

    /// Lets time pass, with turns ten times a second.
    pub(crate) fn advance(&mut self, by: Duration) -> Vec<Seen> {
        let until = self.now.plus(by);
        let mut seen = Vec::new();
        while self.now < until {
            self.now = self.now.plus(STEP).min(until);
            seen.extend(self.poll());
        }
        seen
    }

    pub(crate) fn sessions(&self) -> Vec<SessionRow> {
        self.engine.session_rows(self.now, usize::MAX)
    }

    pub(crate) fn mappings(&self) -> Vec<MappingRow> {
        self.engine.mapping_rows(usize::MAX)
    }

    /// Packets that died of `reason`.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.engine.counters().iter().map(|counters| counters.drops.of(reason)).sum()
    }

    /// All drops, for messages.
    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = DropReason::ALL.iter().map(|reason| (reason.text(), self.dropped(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn total(&self, counter: fn(&WorkerCounters) -> &Counter) -> u64 {
        self.engine.counters().iter().map(|counters| counter(counters).value()).sum()
    }

    /// Takes what was transmitted; ARP requests are answered by whom they ask for.
    fn collect(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let sent = self.io.take();
            if sent.is_empty() {
                return seen;
            }
            for (nic_port, frame) in sent {
                let bytes = frame.bytes();
                if let Some(reply) = arp_reply_to(nic_port.0, &bytes) {
                    let mut burst = vec![VecFrame::from_bytes(&reply)];
                    self.workers[self.receiver].receive(&mut self.io, self.now, nic_port, &mut burst);
                    self.workers[self.receiver].poll(&mut self.io, self.now);
                } else if bytes[12..14] == [8, 0] {
                    self.transmitted += 1;
                    let packet = Seen::new(nic_port.0, &bytes);
                    assert_eq!(bytes[6..12], ROUTER_MACS[usize::from(nic_port.0)], "source MAC");
                    let is_multicast = packet.destination.ip().is_multicast();
                    let station =
                        if is_multicast { ALL_HOSTS_MAC } else { mac_on(nic_port.0, next_hop_of(&packet)) };
                    assert_eq!(bytes[..6], station, "destination MAC of {packet:?}");
                    if self.verifies {
                        packet.verify();
                    }
                    seen.push(packet);
                }
            }
        }
    }

    /// Every frame received is counted once, every port is some mapping's.
    #[track_caller]
    pub(crate) fn check_ledger(&mut self) {
        let dropped: u64 = DropReason::ALL.iter().map(|reason| self.dropped(*reason)).sum();
        let accounted = self.total(|c| &c.forwarded)
            + self.total(|c| &c.arp)
            + self.total(|c| &c.local)
            + self.total(|c| &c.alg.segments_in)
            + self.total(|c| &c.fragments_merged)
            + self.workers.iter().map(|worker| worker.kept_fragments() as u64).sum::<u64>()
            + dropped;
        assert_eq!(self.total(|c| &c.received), accounted, "{:?}", self.drops());

        let lost: u64 = DropReason::ALL
            .iter()
            .map(|reason| self.engine.counters().iter().map(|c| c.egress_drops.of(*reason)).sum::<u64>())
            .sum();
        let shown = self.engine.counter_rows().into_iter().find(|row| row.name == EGRESS_DROPS);
        assert_eq!(shown.map(|row| row.value), Some(lost));
        let made = self.total(|c| &c.forwarded)
            + self.total(|c| &c.icmp_sent)
            + self.total(|c| &c.resets_sent)
            + self.total(|c| &c.alg.segments_out)
            + self.total(|c| &c.pcp.announced);
        let echoes = self.total(|c| &c.local);
        assert!((made..=made + echoes).contains(&(self.transmitted + lost)), "{made} {echoes} {lost}");

        let hosts: Vec<_> = self.engine.nat.subscribers.iter().collect();
        let counted = |of: fn(&Holdings) -> [u32; 3]| hosts.iter().flat_map(of).sum::<u32>() as usize;
        assert_eq!(counted(|host| host.sessions), self.sessions().len(), "{hosts:?}");
        // Those at algate's own addresses are no host's ports.
        let is_of_pool = |row: &MappingRow| self.engine.nat.ports.contains(u32::from(*row.external.ip()));
        let (mappings, own): (Vec<_>, Vec<_>) = self.mappings().into_iter().partition(is_of_pool);
        assert_eq!(counted(|host| host.ports), mappings.len() - self.forwards, "{hosts:?}");
        let ports: HashSet<_> = mappings.iter().map(|row| (row.protocol, row.external)).collect();
        let uses: HashSet<_> = mappings.iter().map(|row| (row.protocol, row.external, row.remote)).collect();
        assert_eq!(uses.len(), mappings.len(), "an external port is used twice: {mappings:?}");
        let shared = mappings.iter().filter(|row| row.remote.is_some()).count();
        assert!(ports.len() + shared >= mappings.len(), "a mapping for all shares its port: {mappings:?}");
        assert_eq!(self.engine.nat.ports.taken(), ports.len() as u64 + self.balanced_ports, "{mappings:?}");
        assert_eq!(self.engine.nat.mappings.in_use() as usize, mappings.len() + own.len());
    }

    /// After all timeouts nothing is left but the forwards.
    #[track_caller]
    pub(crate) fn drain(&mut self) {
        for _ in 0..4 {
            self.now = self.now.plus(Duration::from_secs(8_000));
            self.advance(Duration::from_secs(3));
        }
        let nat = &self.engine.nat;
        assert_eq!(nat.sessions.in_use(), 0, "{:?}", self.sessions());
        assert_eq!(nat.expectations.in_use(), 0);
        assert_eq!(nat.explicit.in_use(), 0);
        assert_eq!(nat.mappings.in_use() as usize, self.forwards, "{:?}", self.mappings());
        assert_eq!((nat.ports.taken(), nat.ports.resting()), (self.forwards as u64 + self.balanced_ports, 0));
        assert_eq!((nat.subscribers.in_use(), nat.blocks.assigned()), (0, 0));
        assert!(self.workers.iter().all(|worker| worker.alg_flows() == 0));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.poll();
            self.check_ledger();
            self.drain();
        }
    }
}

/// Who a packet to this destination is given to on the wire.
fn next_hop_of(packet: &Seen) -> [u8; 4] {
    match packet.destination.ip().octets() {
        [10, 9, ..] => [10, 0, 0, 254],
        [10, ..] if packet.nic_port != OUTSIDE => packet.destination.ip().octets(),
        [203, 0, 113, host] => [203, 0, 113, host],
        _ => [203, 0, 113, 1],
    }
}

const ALL_HOSTS_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const STEP: Duration = Duration::from_millis(100);
