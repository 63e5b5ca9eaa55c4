//! The validated model: what the rest of algate reads.
//!
//! Every value here has been checked against every other one (indexes are in range, addresses do not
//! overlap, counts fit), so its readers need no error path. Lists are in file order; indexes into
//! them (`nic_port`, `interface`, `pool`) are positions in the lists of [`Config`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::protocol;

mod alg_rule;

pub use alg_rule::*;

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

/// `[nat]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// External addresses to translate to.
    pub pools: Vec<Pool>,
    /// Internal addresses that have external ones of their own; before the rules.
    pub statics: Vec<Static>,
    /// Which internal addresses use which pool; the first match counts.
    pub rules: Vec<NatRule>,
    /// External endpoints that lead to internal servers.
    pub forwards: Vec<Forward>,
    /// What one internal host may hold.
    pub limits: Limits,
    /// How long a released port rests.
    pub hold: Hold,
}

/// `[[nat.pool]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The name that rules refer to.
    pub name: String,
    /// Inclusive address ranges, disjoint within and between pools.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Inclusive range of external L4 ports that dynamic mappings use.
    pub l4_ports: (u16, u16),
    /// Whether each internal host gets blocks of ports of its own; `None`: single ports, from all.
    pub blocks: Option<PortBlocks>,
    /// Whether a host may leave from a second address.
    pub pairing: Pairing,
    /// Whether an even internal port gets an even external one, an odd an odd (RFC 4787 REQ-4).
    pub keeps_parity: bool,
}

/// Blocks of ports per internal host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBlocks {
    /// Ports of a block, a power of two; divides the pool's range.
    pub ports: u16,
    /// Blocks that one host may have.
    pub per_host: u16,
    /// How long a block without ports in use stays with its host.
    pub idle_hold: Duration,
    /// Who decides which block a host gets first.
    pub assignment: Assignment,
}

/// Who decides which block of ports an internal host gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// Chance, at the time.
    Dynamic,
    /// The configuration alone, for a host's first block (RFC 7422).
    Deterministic,
}

/// Address pooling behaviour (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// A host has one external address; when that is full it waits.
    Strict,
    /// When a host's address is full its new mappings use another one.
    Soft,
}

/// `[[nat.static]]`: address for address, every protocol, ports as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Static {
    /// External prefix, in no pool.
    pub external: Ipv4Net,
    /// Internal prefix of the same length.
    pub internal: Ipv4Net,
    /// The hosts' tenant; 0: of an interface without one.
    pub tenant: u16,
    /// What the external side may open.
    pub inbound: StaticInbound,
}

/// Which flows from the external side a static address lets in. Internal hosts may always use it: they
/// reach the host by its own address, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaticInbound {
    /// Those that a filter rule allows.
    Filter,
    /// All that no filter rule refuses.
    Allow,
}

/// `[[nat.rule]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatRule {
    /// Internal source prefix.
    pub internal: Ipv4Net,
    /// The tenant of the sources (0: of interfaces without one); `None`: any.
    pub tenant: Option<u16>,
    /// Which protocol; `None`: TCP, UDP and ICMP. Any other must be named.
    pub protocol: Option<RuleProtocol>,
    /// Destination prefix.
    pub destination: Ipv4Net,
    /// Inclusive range of destination ports; `None`: all, and protocols without ports.
    pub destination_l4_ports: Option<(u16, u16)>,
    /// The prefix that stands in place of `destination` when the packet leaves, as long as that;
    /// `None`: it keeps its destination.
    pub destination_to: Option<Ipv4Net>,
    /// What is done.
    pub action: NatAction,
    /// What a new mapping depends on; only TCP, UDP and ICMP have mappings.
    pub mapping: MappingBehavior,
    /// Who may use a mapping from outside; as above.
    pub filtering: FilteringBehavior,
}

impl NatRule {
    /// The internal addresses that `rules` translate to a pool: disjoint prefixes, ascending.
    #[must_use]
    pub fn hosts(rules: &[Self], pool: usize) -> Vec<Ipv4Net> {
        let own = rules.iter().filter(|rule| rule.action == NatAction::Translate(pool));
        Ipv4Net::aggregate(&own.map(|rule| rule.internal).collect())
    }

    /// The tenant of [`NatRule::hosts`], where the rules name one.
    #[must_use]
    pub fn tenant_of_hosts(rules: &[Self], pool: usize) -> Option<u16> {
        rules.iter().find(|rule| rule.action == NatAction::Translate(pool)).and_then(|rule| rule.tenant)
    }
}

/// What a NAT rule does with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatAction {
    /// It passes as it is.
    None,
    /// Its source is translated to an address of this pool, by its index in [`Nat::pools`].
    Translate(usize),
}

/// A protocol that a NAT rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP queries
    Icmp,
    /// Another one, by its number: never that of TCP, UDP or ICMP.
    Other(u8),
}

impl RuleProtocol {
    /// From an IP protocol number.
    #[must_use]
    pub const fn of_number(number: u8) -> Self {
        match number {
            protocol::TCP => Self::Tcp,
            protocol::UDP => Self::Udp,
            protocol::ICMP => Self::Icmp,
            other => Self::Other(other),
        }
    }

    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
            Self::Icmp => protocol::ICMP,
            Self::Other(number) => number,
        }
    }

    /// Whether it has L4 ports where TCP and UDP have theirs.
    #[must_use]
    pub fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp => true,
            Self::Icmp => false,
            Self::Other(number) => protocol::OTHERS_WITH_PORTS.contains(&number),
        }
    }
}

/// What a mapping depends on (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingBehavior {
    /// The internal endpoint alone.
    EndpointIndependent,
    /// The internal endpoint and the remote one; external ports may be shared between remote endpoints.
    AddressAndPortDependent,
}

/// Who may use a mapping from outside (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilteringBehavior {
    /// Anyone.
    EndpointIndependent,
    /// Hosts that the internal endpoint has a session with.
    AddressDependent,
    /// Endpoints that the internal endpoint has a session with.
    AddressAndPortDependent,
}

/// `[nat.limits]`: what one internal host may hold at one time; 0: no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Sessions of all protocols.
    pub sessions: u32,
    /// TCP sessions.
    pub sessions_tcp: u32,
    /// Sessions of UDP, and of all protocols but TCP and ICMP.
    pub sessions_udp: u32,
    /// ICMP query sessions.
    pub sessions_icmp: u32,
    /// External ports of all protocols.
    pub ports: u32,
    /// New sessions per second, and as many at once.
    pub sessions_per_second: u32,
    /// Memory of its sessions and mappings, bytes.
    pub memory_bytes: u64,
    /// Memory of one mapping with its sessions, bytes.
    pub mapping_memory_bytes: u64,
}

/// `[nat.hold]`: RFC 6888 REQ-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// How long a released UDP port or ICMP identifier is given to nobody.
    pub time: Duration,
    /// How many of them rest at one time, per worker; beyond that the oldest rests shorter.
    pub ports: usize,
}

/// `[[nat.forward]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Transport protocol.
    pub protocol: Transport,
    /// The first endpoint the world connects to; its address lies in a pool.
    pub external: SocketAddrV4,
    /// How many ports, from the first one on: 1 or more. Each server has as many.
    pub ports: u16,
    /// The servers behind it: 1 to 64.
    pub servers: Vec<Server>,
    /// The servers' tenant; 0: of an interface without one.
    pub tenant: u16,
    /// What decides between several servers.
    pub affinity: Affinity,
    /// Whether servers see algate's own address in place of the client's.
    pub masquerade: bool,
}

impl Forward {
    /// Its IP protocols.
    pub fn protocols(&self) -> impl Iterator<Item = u8> + use<> {
        self.protocol.protocols().iter().copied()
    }
}

/// A server behind a port forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Its first endpoint.
    pub internal: SocketAddrV4,
    /// Its part of the clients, 1 to 100.
    pub weight: u16,
}

/// What decides which of several servers a flow goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// The client's address.
    Source,
    /// The client's endpoint: each flow for itself.
    None,
}

/// Transport protocol of a port forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// Either
    TcpAndUdp,
}

impl Transport {
    /// Its IP protocols.
    #[must_use]
    pub const fn protocols(self) -> &'static [u8] {
        match self {
            Self::Tcp => &[6],
            Self::Udp => &[17],
            Self::TcpAndUdp => &[6, 17],
        }
    }
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

/// `[alg]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alg {
    /// Control sessions whose changed messages are kept for `algate show alg audit`; 0: none.
    pub audit_flows: usize,
    /// Which messages may pass, in their order.
    pub rules: Vec<AlgRule>,
    /// Undecided bytes one direction of a control session may hold, bytes.
    pub held_bytes: usize,
    /// `[alg.ftp]`
    pub ftp: Ftp,
    /// `[alg.tftp]`
    pub tftp: Gateway,
    /// `[alg.sip]`
    pub sip: Sip,
    /// `[alg.rtsp]`
    pub rtsp: Rtsp,
    /// `[alg.irc]`
    pub irc: Irc,
    /// `[alg.pptp]`
    pub pptp: Gateway,
}

/// What every `[alg.<protocol>]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whether control sessions of the protocol are read at all.
    pub enabled: bool,
    /// Ports on which a control session is expected.
    pub control_ports: Vec<u16>,
    /// How long a promised data session may take to come.
    pub expectation_lifetime: Duration,
    /// Promised data sessions outstanding per control session.
    pub expectations: usize,
    /// Internal hosts whose control sessions are read; empty: all.
    pub internal: Vec<Ipv4Net>,
    /// Tenants whose control sessions are read (0: of interfaces without one); empty: all.
    pub tenants: Vec<u16>,
    /// Whether it only says what it would do.
    pub shadow: bool,
}

/// `[alg.sip]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sip {
    /// What every protocol has; the lifetime is that of media while a call is not answered.
    pub gateway: Gateway,
    /// How long an answered call without Session-Expires may begin new media.
    pub call_lifetime: Duration,
}

/// `[alg.rtsp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtsp {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Whether media may come from a host that the server names.
    pub follows_source: bool,
}

/// `[alg.irc]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irc {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Whether anyone may take up an offer; else only the IRC server.
    pub admits_any: bool,
}

/// `[alg.ftp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ftp {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Longest command or reply line that is parsed, bytes with its end.
    pub line_bytes: usize,
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
}

/// `[tables]`: everything is allocated at start and never grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Sessions.
    pub sessions: usize,
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
