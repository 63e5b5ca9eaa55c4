//! `[nat]` and its lists.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::protocol;

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
