//! The validated model: what the rest of algate reads.
//!
//! Every value here has been checked against every other one (indexes are in range, addresses do not
//! overlap, counts fit), so its readers need no error path. Lists are in file order; indexes into
//! them (`nic_port`, `interface`, `pool`) are positions in the lists of [`Config`].

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;

mod alg;
mod alg_rule;
mod nat;

pub use alg::*;
pub use alg_rule::*;
pub use nat::*;

/// A whole, valid `algate.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How DPDK's environment abstraction layer (EAL) is started.
    pub eal: Eal,
    /// Poll loops: which cores, how they idle.
    pub workers: Workers,
    /// DPDK ports, physical or virtual.
    pub nic_ports: Vec<NicPort>,
    /// Routed interfaces on those ports: untagged or one VLAN each.
    pub interfaces: Vec<Interface>,
    /// Static routes; connected routes follow from the interfaces' addresses.
    pub routes: Vec<Route>,
    /// Address translation.
    pub nat: Nat,
    /// Who may open a flow: the first matching rule decides.
    pub filter: Vec<FilterRule>,
    /// Application-level gateways.
    pub alg: Alg,
    /// Idle times after which state goes away.
    pub timeouts: Timeouts,
    /// `[tcp]`
    pub tcp: Tcp,
    /// Fragmented datagrams in hand.
    pub fragments: Fragments,
    /// Sizes of everything that is allocated at start.
    pub tables: Tables,
    /// ICMP messages that algate itself originates.
    pub icmp: Icmp,
    /// Port control for internal hosts: PCP and NAT-PMP.
    pub pcp: Pcp,
    /// What is recorded.
    pub events: Events,
    /// The Unix socket that `algate show` speaks to.
    pub control: Control,
    /// The log.
    pub log: Log,
}

/// `[eal]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eal {
    /// Whether the mbuf pool lies in hugepages.
    pub hugepages: Hugepages,
    /// DPDK's `--file-prefix`: separates processes on one machine.
    pub file_prefix: String,
    /// Core of the main (control) thread, which never touches packets.
    pub main_core: usize,
}

/// Whether EAL uses hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hugepages {
    /// Use them where the machine has enough free ones, else run without and say so.
    Auto,
    /// Refuse to start without them.
    Require,
    /// Never use them (`--no-huge`).
    Never,
}

/// `[workers]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// One worker is pinned to each of these cores.
    pub cores: Vec<usize>,
    /// One ALG core thread is pinned to each of these; empty: the ALG stage runs inline in the workers.
    pub alg_cores: Vec<usize>,
    /// Frames taken from a queue at once, 1 to 256.
    pub burst: u16,
    /// What a worker does after many empty polls.
    pub idle: Idle,
    /// Packets that one hand-over queue (worker to ALG flow owner) holds, a power of two.
    pub handover_packets: usize,
}

/// What a poll loop does when nothing arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Sleep when the machine has two cores or fewer, else poll.
    Auto,
    /// Poll without pause: lowest latency, a whole core.
    Poll,
    /// Sleep about 50 us after many empty polls.
    Sleep,
}

/// `[[nic_port]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicPort {
    /// The name that interfaces refer to.
    pub name: String,
    /// What DPDK opens.
    pub device: Device,
    /// Receive descriptors per queue, a power of two.
    pub rx_descriptors: u16,
    /// Transmit descriptors per queue, a power of two.
    pub tx_descriptors: u16,
    /// Largest IP packet that is received or sent, bytes (68 to 9,000).
    pub mtu: u16,
    /// Receive frames for every destination MAC address.
    pub promiscuous: bool,
}

/// A DPDK device: physical, or one of the virtual ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A NIC by PCI address (`0000:01:00.0`), bound to vfio-pci.
    Pci {
        /// Domain, bus, device and function.
        address: String,
    },
    /// A kernel interface through `AF_PACKET`.
    AfPacket {
        /// The kernel interface's name.
        interface: String,
    },
    /// A kernel interface through `AF_XDP`.
    AfXdp {
        /// The kernel interface's name.
        interface: String,
    },
    /// A kernel TAP interface that algate creates.
    Tap {
        /// The name the new kernel interface gets.
        interface: String,
    },
    /// Shared memory to another process.
    Memif {
        /// Which side creates the socket.
        role: MemifRole,
        /// The connection's number on its socket.
        id: u32,
        /// The socket's path.
        socket: PathBuf,
    },
    /// Two capture files: packets are read from one and written to the other.
    Pcap {
        /// Frames to receive; read once, from beginning to end.
        rx: PathBuf,
        /// Where transmitted frames are written.
        tx: PathBuf,
    },
    /// A software ring: what is sent is received again.
    Ring {
        /// The ring's name.
        name: String,
    },
    /// Receives nothing, sends nowhere.
    Null,
}

/// Which end of a memif connection algate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemifRole {
    /// Creates the socket and waits.
    Server,
    /// Connects to a server's socket.
    Client,
}

/// `[[interface]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name that routes, rules and output use.
    pub name: String,
    /// Index of its port in [`Config::nic_ports`].
    pub nic_port: usize,
    /// VLAN id (1 to 4094) of a sub-interface; `None`: untagged frames.
    pub vlan: Option<u16>,
    /// Which side of the NAT it is.
    pub side: Side,
    /// Whose address space its hosts are in (1 to 4095); 0: none of the tenants', as that of external ones.
    pub tenant: u16,
    /// Own addresses with their connected prefixes; the first one speaks for the interface.
    pub addresses: Vec<Ipv4Net>,
    /// Largest IP packet, bytes; at most the port's.
    pub mtu: u16,
    /// Whether a source must be routed back through an internal interface; always true on an external
    /// one, whose sources must not be internal.
    pub source_check: bool,
}

/// Side of the NAT (RFC 4787 section 1: internal, external).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Hosts whose addresses are translated.
    Internal,
    /// The rest of the world.
    External,
}

/// `[[route]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix; `0.0.0.0/0` is the default route.
    pub prefix: Ipv4Net,
    /// The next hop; lies in a connected prefix of `interface`.
    pub via: Ipv4Addr,
    /// Index of the outgoing interface in [`Config::interfaces`].
    pub interface: usize,
}

/// `[[filter]]`: an empty list, or `None`, matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// The name that output uses.
    pub name: String,
    /// What happens to a packet that it matches.
    pub action: FilterAction,
    /// Which way the packet goes.
    pub direction: Option<FilterDirection>,
    /// Index in [`Config::interfaces`] of where it arrives.
    pub in_interface: Option<usize>,
    /// Index in [`Config::interfaces`] of where it would leave.
    pub out_interface: Option<usize>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Sources, as the packet carries them on arrival.
    pub source: Vec<Ipv4Net>,
    /// Destinations, as the packet carries them on arrival.
    pub destination: Vec<Ipv4Net>,
    /// Inclusive ranges of source L4 ports; only with TCP or UDP.
    pub source_ports: Vec<(u16, u16)>,
    /// Inclusive ranges of destination L4 ports; only with TCP or UDP.
    pub destination_ports: Vec<(u16, u16)>,
    /// ICMP types; only with ICMP.
    pub icmp_types: Vec<u8>,
}

/// What a filter rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterAction {
    /// Lets the packet go on.
    Allow,
    /// Drops it in silence.
    Deny,
    /// Drops it and tells its sender.
    Reject,
}

/// Which way a packet goes (RFC 4787 section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterDirection {
    /// It arrived on an external interface.
    Inbound,
    /// It arrived on an internal interface.
    Outbound,
}

/// `[tcp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Whether SYNs announce no larger segments than both interfaces carry.
    pub mss_clamp: bool,
    /// What becomes of a SYN from outside that nothing admits, after 6 s.
    pub unsolicited_syn: UnsolicitedSyn,
    /// Idle time of half-open sessions made while many are half-open; `None`: as ever.
    pub pressed_half_open: Option<Duration>,
}

/// What becomes of a SYN from outside that nothing admits (RFC 5382 REQ-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsolicitedSyn {
    /// Nothing, ever.
    Silent,
    /// An ICMP error after 6 s, unless the inside has opened the same connection.
    Unreachable,
}

/// `[timeouts]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, handshake complete (RFC 5382 REQ-5: 2 h 4 min or more).
    pub tcp_established: Duration,
    /// TCP, half-open, closing or reset (RFC 5382 REQ-5: 4 min or more).
    pub tcp_transitory: Duration,
    /// UDP (RFC 4787 REQ-5: 5 min recommended, 2 min at least).
    pub udp: Duration,
    /// UDP services with an idle time of their own, by ascending L4 port.
    pub udp_ports: Vec<(u16, Duration)>,
    /// Whether inbound UDP packets keep a session alive too (RFC 4787 REQ-6).
    pub udp_inbound_refresh: bool,
    /// ICMP queries (RFC 5508 REQ-2: 60 s or more).
    pub icmp: Duration,
    /// All protocols but TCP, UDP and ICMP.
    pub other: Duration,
    /// ARP: how long a resolved neighbour is believed without new proof.
    pub arp: Duration,
}

/// `[fragments]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragments {
    /// Datagrams of which fragments have come, per worker.
    pub datagrams: usize,
    /// Fragments that wait for the first one of their datagram, per worker; each holds a packet buffer.
    pub kept: usize,
    /// Such fragments of one source.
    pub per_source: u16,
    /// From the first fragment that comes to the last one.
    pub lifetime: Duration,
    /// The largest datagram that is put together: every packet buffer has room for one, bytes with its IPv4 header.
    pub whole_bytes: u16,
}

/// `[tables]`: everything is allocated at start and never grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Sessions.
    pub sessions: usize,
    /// Sessions that may be TCP or SCTP ones; at most `sessions`.
    pub tcp_sessions: usize,
    /// Sessions that may belong to an ALG, or be between two mapped hosts; at most `tcp_sessions`.
    pub related_sessions: usize,
    /// TCP sessions that are half-open; at most `sessions`.
    pub half_open: usize,
    /// Mappings (internal endpoint to external endpoint).
    pub mappings: usize,
    /// Expectations outstanding.
    pub expectations: usize,
    /// Internal hosts with state.
    pub subscribers: usize,
    /// Control sessions under an ALG at one time.
    pub alg_flows: usize,
    /// Neighbours (ARP), at most 65,535.
    pub neighbors: usize,
    /// Packet buffers in the mempool.
    pub mbufs: usize,
}

/// `[icmp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp {
    /// ICMP messages algate originates per second and worker (RFC 1812 section 4.3.2.8).
    pub rate_per_second: u32,
    /// What the sender of a new flow is told for which there is no room.
    pub refusal: IcmpRefusal,
}

/// What the sender of a new flow is told when a quota, a pool or a table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpRefusal {
    /// Type 3 code 13 (RFC 5508 REQ-8).
    AdminProhibited,
    /// Type 3 code 1 (RFC 6888 REQ-11).
    HostUnreachable,
    /// Nothing.
    None,
}

/// `[pcp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcp {
    /// Whether requests are answered at all.
    pub enabled: bool,
    /// Whether NAT-PMP (RFC 6886) is answered, too.
    pub nat_pmp: bool,
    /// Mappings that hosts have asked for, at one time.
    pub mappings: usize,
    /// How many of them one internal address may have.
    pub per_subscriber: usize,
    /// Least lifetime that is granted.
    pub min_lifetime: Duration,
    /// Longest lifetime that is granted.
    pub max_lifetime: Duration,
    /// Requests answered per second and worker, a quarter of it for one source.
    pub requests_per_second: u32,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Begin and end of sessions.
    pub sessions: bool,
    /// Begin and end of mappings.
    pub mappings: MappingEvents,
    /// Port blocks assigned and released, but those that the configuration alone determines.
    pub blocks: bool,
    /// External addresses that hosts are paired with.
    pub addresses: bool,
    /// What is full, and has room again.
    pub exhaustion: bool,
    /// Whether sessions and mappings are recorded with their remote end.
    pub destinations: bool,
    /// Records that one thread may have waiting, a power of two.
    pub ring_records: usize,
    /// File that records are added to.
    pub log: Option<PathBuf>,
}

/// Which mappings are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingEvents {
    /// Those in pools whose ports do not come in blocks.
    WithoutBlocks,
    /// All.
    Always,
    /// None.
    Never,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is written.
    pub level: LogLevel,
}

/// Log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The operator must act.
    Error,
    /// Degraded.
    Warn,
    /// Start, stop, link, configuration.
    Info,
    /// Slow-path decisions.
    Debug,
}
