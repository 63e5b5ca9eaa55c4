//! One worker of a whole engine on recycled frames, and traffic for it.
//!
//! Internal hosts and the rest of the world each lie behind one router, whose MAC address the engine
//! learns from an ARP request at start. Flow number `n` is one UDP flow: 64 of them share an
//! internal host.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use algate_config::{Config, Machine};
use algate_engine::alg_stage::handover::Handover;
use algate_engine::engine::Engine;
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::nat::tcp_state::FLAG_SYN;
use algate_engine::packet::arp::{ArpOperation, ArpPacket};
use algate_engine::packet::build::{self, Ipv4Fields, TcpFields};
use algate_engine::packet::{BROADCAST_MAC, ETHERTYPE_IPV4};
use algate_engine::time::Instant;
use algate_engine::worker::Worker;

use crate::frames::{PoolFrame, PoolIo};

/// A worker and its engine.
#[derive(Debug)]
pub struct Rig {
    /// The shared tables.
    pub engine: Arc<Engine>,
    /// Frames.
    pub io: PoolIo,
    /// Time given to the engine.
    pub now: Instant,
    handover: Arc<Handover<PoolFrame>>,
    worker: Worker<PoolFrame>,
    alg_core: Option<Box<Rig>>,
    burst: Vec<PoolFrame>,
}

/// How the engine of a rig gives out ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// One by one; mappings are not recorded.
    SinglePorts,
    /// In blocks of each host's own, which are recorded.
    PortBlocks,
    /// The same, for TCP: every session may be one of TCP, and wait for its answer.
    TcpPortBlocks,
}

/// Who reads control sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgPlace {
    /// The worker that receives them.
    Worker,
    /// An ALG core, to which the worker hands them over.
    AlgCore,
}

impl Rig {
    /// Room for `sessions` sessions.
    ///
    /// # Panics
    /// When the built-in configuration is not accepted.
    #[must_use]
    pub fn new(sessions: usize) -> Self {
        Self::at(Site::SinglePorts, sessions)
    }

    /// As [`Rig::new`], with ports given out as `site` says.
    ///
    /// # Panics
    /// When the built-in configuration is not accepted.
    #[must_use]
    pub fn at(site: Site, sessions: usize) -> Self {
        Self::with_workers(site, sessions, 1)
    }

    /// As [`Rig::at`], of an engine for `workers` workers, the first of which this is.
    ///
    /// # Panics
    /// When the built-in configuration is not accepted.
    #[must_use]
    pub fn with_workers(site: Site, sessions: usize, workers: usize) -> Self {
        let cores: Vec<String> = (1..=workers).map(|core| core.to_string()).collect();
        let (pool, events) = match site {
            Site::SinglePorts => ("", "mappings = \"never\""),
            Site::PortBlocks | Site::TcpPortBlocks => ("block_size = 64\nblocks_per_host = 4", ""),
        };
        // Where UDP is measured, room for other sessions is small enough not to count.
        let tcp = if site == Site::TcpPortBlocks { sessions } else { sessions.min(64) };
        let text =
            CONFIG.replace("TCP_SESSIONS", &tcp.to_string()).replace("SESSIONS", &sessions.to_string());
        let text = text.replace("RELATED", &tcp.min(64).to_string());
        let text =
            text.replace("CORES", &cores.join(", ")).replace("POOL_KEYS", pool).replace("EVENT_KEYS", events);
        Self::configured(&text)
    }

    /// With room for `sessions` sessions, reading every protocol that has an ALG, at `place`.
    ///
    /// # Panics
    /// When the built-in configuration is not accepted.
    #[must_use]
    pub fn reading(place: AlgPlace, sessions: usize) -> Self {
        let cores = match place {
            AlgPlace::Worker => "1]",
            AlgPlace::AlgCore => "1]\nalg_cores = [2]",
        };
        let text = CONFIG.replace("TCP_SESSIONS", "64").replace("RELATED", "64").replace("CORES]", cores);
        let text = text.replace("SESSIONS", &sessions.to_string());
        let text = text.replace("POOL_KEYS", "").replace("EVENT_KEYS", "mappings = \"never\"");
        let others = OTHER_ALGS.map(|alg| format!("\n[alg.{alg}]\nenabled = true\n")).concat();
        let mut rig = Self::configured(&(text + &others));
        if place == AlgPlace::AlgCore {
            rig.alg_core = Some(Box::new(rig.beside(WorkerId(1))));
        }
        rig
    }

    fn configured(text: &str) -> Self {
        let config = match Config::parse(text, "rig", &Machine::unchecked()) {
            Ok(config) => config,
            #[expect(clippy::panic, reason = "the configuration is part of this file")]
            Err(errors) => {
                panic!("{}", errors.iter().map(|error| format!("{error}\n")).collect::<String>())
            }
        };
        let engine = Arc::new(Engine::new(&config, &[DEVICE_MAC; 2], [1, 2, 3, 4]));
        let handover = Arc::new(Handover::new(engine.threads(), config.workers.handover_packets));
        let mut rig = Self::worker_of(engine, handover, WorkerId(0), Instant::from_nanos(1_000_000_000));
        rig.introduce(INTERNAL, INTERNAL_ROUTER);
        rig.introduce(EXTERNAL, EXTERNAL_ROUTER);
        rig
    }

    /// Another worker of the same engine.
    ///
    /// # Panics
    /// When the engine has no place for it, or it is there already.
    #[must_use]
    pub fn beside(&self, number: WorkerId) -> Self {
        Self::worker_of(Arc::clone(&self.engine), Arc::clone(&self.handover), number, self.now)
    }

    fn worker_of(
        engine: Arc<Engine>,
        handover: Arc<Handover<PoolFrame>>,
        number: WorkerId,
        now: Instant,
    ) -> Self {
        let worker = Worker::new(Arc::clone(&engine), Arc::clone(&handover), number, now);
        #[expect(clippy::expect_used, reason = "the caller knows how many workers the engine has")]
        let worker = worker.expect("a place for the worker");
        Self {
            engine,
            io: PoolIo::new(POOL_FRAMES),
            now,
            handover,
            worker,
            alg_core: None,
            burst: Vec::with_capacity(POOL_FRAMES),
        }
    }

    /// An empty frame.
    #[must_use]
    pub fn frame(&mut self) -> PoolFrame {
        self.io.alloc().unwrap_or_default()
    }

    /// Lets the worker handle `frames`, received on `nic_port`, as one burst.
    #[inline]
    pub fn receive(&mut self, nic_port: NicPortId, frames: impl IntoIterator<Item = PoolFrame>) {
        self.burst.extend(frames);
        self.worker.receive(&mut self.io, self.now, nic_port, &mut self.burst);
    }

    /// What the worker does between bursts.
    pub fn poll(&mut self) {
        self.worker.poll(&mut self.io, self.now);
    }

    /// Lets the ALG core, if there is one, do what was handed over to it. What it sends stands behind what the worker has sent.
    pub fn settle(&mut self) {
        if let Some(core) = &mut self.alg_core {
            core.poll();
            self.io.sent.append(&mut core.io.sent);
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// An outbound UDP packet of flow number `flow`, 64 bytes as a whole.
    #[must_use]
    pub fn outbound(&mut self, flow: u32) -> PoolFrame {
        let mut frame = self.frame();
        let (host, l4_port) = endpoint_of(flow);
        let ip = Ipv4Fields::new(host.into(), remote_of(flow).into());
        let is_built = build::udp(&mut frame, &ip, (l4_port, REMOTE_L4_PORT), &[0; 22])
            && build::ethernet(frame.head_mut(), DEVICE_MAC, ROUTER_MAC, 0, ETHERTYPE_IPV4);
        debug_assert!(is_built);
        frame
    }

    /// The SYN of the same flow over TCP.
    #[must_use]
    pub fn outbound_syn(&mut self, flow: u32) -> PoolFrame {
        let mut frame = self.frame();
        let (host, l4_port) = endpoint_of(flow);
        let ip = Ipv4Fields::new(host.into(), remote_of(flow).into());
        let fields = TcpFields { seq: flow, flags: FLAG_SYN, window: 8_192, ..TcpFields::default() };
        let is_built = build::tcp(&mut frame, &ip, (l4_port, REMOTE_L4_PORT), &fields, &[], &[])
            && build::ethernet(frame.head_mut(), DEVICE_MAC, ROUTER_MAC, 0, ETHERTYPE_IPV4);
        debug_assert!(is_built);
        frame
    }

    /// Opens the sessions of flows 0 to `flows`.
    pub fn open(&mut self, flows: u32) {
        let mut next = 0;
        while next < flows {
            let end = flows.min(next + 32);
            let frames: Vec<_> = (next..end).map(|flow| self.outbound(flow)).collect();
            self.receive(INTERNAL, frames);
            self.io.recycle();
            self.poll();
            next = end;
        }
    }

    fn introduce(&mut self, nic_port: NicPortId, router: Ipv4Addr) {
        let mut frame = self.frame();
        let own = if nic_port == INTERNAL { "10.0.0.1" } else { "198.18.0.1" };
        let packet = ArpPacket {
            operation: ArpOperation::Request,
            sender_mac: ROUTER_MAC,
            sender: router.into(),
            target_mac: [0; 6],
            target: own.parse::<Ipv4Addr>().map_or(0, u32::from),
        };
        let is_built = build::arp(&mut frame, BROADCAST_MAC, 0, &packet);
        debug_assert!(is_built);
        self.receive(nic_port, [frame]);
        self.io.recycle();
    }
}

/// Internal endpoint of flow number `flow`.
#[must_use]
pub fn endpoint_of(flow: u32) -> (Ipv4Addr, u16) {
    let host = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + flow / FLOWS_PER_HOST;
    (host.into(), 10_000 + (flow % FLOWS_PER_HOST) as u16)
}

/// Remote address of flow number `flow`: one of 64.
#[must_use]
pub fn remote_of(flow: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 113, 64)) + flow.wrapping_mul(0x9E37_79B1) / (1 << 26))
}

/// The port of the internal side.
pub const INTERNAL: NicPortId = NicPortId(0);
/// The port of the external side.
pub const EXTERNAL: NicPortId = NicPortId(1);
/// MAC address of both ports of the engine.
pub const DEVICE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the router on either side.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Frames of a rig.
pub const POOL_FRAMES: usize = 1024;

const INTERNAL_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const EXTERNAL_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const FLOWS_PER_HOST: u32 = 64;
const REMOTE_L4_PORT: u16 = 7;

const CONFIG: &str = r#"
[workers]
cores = [CORES]

[[nic_port]]
name = "int0"
device = { driver = "null" }

[[nic_port]]
name = "ext0"
device = { driver = "null" }

[[interface]]
name = "internal"
nic_port = "int0"
side = "internal"
addresses = ["10.0.0.1/24"]

[[interface]]
name = "external"
nic_port = "ext0"
side = "external"
addresses = ["198.18.0.1/24"]

[[route]]
prefix = "10.64.0.0/10"
via = "10.0.0.2"

[[route]]
prefix = "0.0.0.0/0"
via = "198.18.0.2"

[[nat.pool]]
name = "bench"
addresses = ["198.19.0.0/24"]
POOL_KEYS

[[nat.rule]]
internal = "10.64.0.0/10"
pool = "bench"

[alg.ftp]
enabled = true

[events]
EVENT_KEYS

[tables]
sessions = SESSIONS
tcp_sessions = TCP_SESSIONS
half_open = TCP_SESSIONS
related_sessions = RELATED
mappings = SESSIONS
alg_flows = 16
"#;

/// FTP is read by every rig.
const OTHER_ALGS: [&str; 5] = ["tftp", "sip", "rtsp", "irc", "pptp"];
