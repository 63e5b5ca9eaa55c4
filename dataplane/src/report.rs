//! What `algate show` shows: one plain struct per subject, the same in JSON and in the tables.

use std::net::{Ipv4Addr, SocketAddrV4};

use algate_engine::ids::TenantId;
use algate_engine::snapshot;
use serde::{Deserialize, Serialize};

use crate::event_log::line::EventRow;

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Sessions: both directions of a flow, with its translation
    Sessions,
    /// Mappings: internal endpoint to external endpoint
    Mappings,
    /// Expectations: flows that an ALG has announced
    Expectations,
    /// Packets dropped, by reason, and other events
    Counters,
    /// NIC ports: link, queues, packets, losses
    Ports,
    /// Routed interfaces and their addresses
    Interfaces,
    /// Neighbours and their MAC addresses (ARP)
    Neighbors,
    /// Connected and static routes
    Routes,
    /// Filter rules in their order, and how many packets each decided about
    Filter,
    /// ALGs: what each protocol's read, rewrote and refused, and what it expects; alg rules: the rules and their hits;
    /// alg audit: changed messages; alg memory: what control sessions cost
    Alg,
    /// `show alg rules`
    #[value(skip)]
    AlgRules,
    /// `show alg audit`
    #[value(skip)]
    AlgAudit,
    /// `show alg memory`
    #[value(skip)]
    AlgMemory,
    /// What was recorded last: addresses, blocks and mappings given out and back, shortages
    Events,
    /// Worker and ALG threads and how busy they are
    Workers,
}

/// The rows of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "subject", content = "rows", rename_all = "lowercase")]
#[expect(missing_docs, reason = "each variant is the Subject of the same name")]
pub enum Report {
    Sessions(Vec<SessionRow>),
    Mappings(Vec<MappingRow>),
    Expectations(Vec<ExpectationRow>),
    Counters(Vec<CounterRow>),
    Ports(Vec<PortRow>),
    Interfaces(Vec<InterfaceRow>),
    Neighbors(Vec<NeighborRow>),
    Routes(Vec<RouteRow>),
    Filter(Vec<FilterRow>),
    Alg(Vec<AlgRow>),
    AlgRules(Vec<AlgRuleRow>),
    AlgAudit(Vec<AlgAuditRow>),
    AlgMemory(Vec<AlgMemoryRow>),
    Events(Vec<EventRow>),
    Workers(Vec<WorkerRow>),
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// `tcp`, `udp`, `icmp`, else the IP protocol's number.
    pub protocol: String,
    /// Tenant of the internal host, if it has one.
    pub tenant: Option<u16>,
    /// The internal host, as it knows itself; for ICMP the port is the query id.
    pub internal: SocketAddrV4,
    /// The internal host, as the world sees it.
    pub external: SocketAddrV4,
    /// The other end.
    pub remote: SocketAddrV4,
    /// `outbound` or `inbound`: where the first packet went.
    pub direction: String,
    /// TCP state, or `active`.
    pub state: String,
    /// Since the last packet that counts against ageing.
    pub idle_seconds: u64,
    /// Until it ends, should nothing come.
    pub expires_seconds: u64,
    /// Since it was made.
    pub age_seconds: u64,
    /// `control`: an ALG reads it; `expected`: an ALG announced it.
    pub alg: Option<String>,
    /// Sessions that live under it.
    pub children: u32,
}

/// One mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MappingRow {
    /// `tcp`, `udp`, `icmp`, else the IP protocol's number.
    pub protocol: String,
    /// Tenant of the internal host, if it has one.
    pub tenant: Option<u16>,
    /// The internal host, as it knows itself.
    pub internal: SocketAddrV4,
    /// The same, as the world sees it.
    pub external: SocketAddrV4,
    /// The one remote endpoint it serves; none: all.
    pub remote: Option<SocketAddrV4>,
    /// Who may use it from outside.
    pub filtering: String,
    /// Sessions, expectations and forwards that hold it.
    pub references: u64,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectationRow {
    /// `tcp`, `udp`, `icmp`, else the IP protocol's number.
    pub protocol: String,
    /// Tenant of the target, if it has one.
    pub tenant: Option<u16>,
    /// Who may come; address 0: anyone, port 0: from any. None: whoever the mapping's filtering lets in.
    pub peer: Option<SocketAddrV4>,
    /// The endpoint it was told.
    pub announced: SocketAddrV4,
    /// Where its flow is led to.
    pub target: SocketAddrV4,
    /// Flows that may still come.
    pub uses: u32,
    /// Until it ends unused.
    pub expires_seconds: u64,
}

/// One protocol with an ALG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlgRow {
    /// Its name, that of its table in the configuration.
    pub protocol: String,
    /// Whether it is read at all.
    pub enabled: bool,
    /// Control sessions begun.
    pub flows: u64,
    /// Messages decided about.
    pub messages: u64,
    /// Those that left with their addresses translated.
    pub rewritten: u64,
    /// Those that policy refused.
    pub denied: u64,
    /// Control sessions that were another protocol's.
    pub detached: u64,
    /// Expectations made.
    pub expectations: u64,
    /// Those that wait now.
    pub open: u64,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// Since the start.
    pub value: u64,
}

/// One NIC port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name in the configuration.
    pub name: String,
    /// `up` or `down`.
    pub link: String,
    /// 0: the device does not say.
    pub megabits_per_second: u32,
    /// The address algate answers to.
    pub mac: String,
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Frames that workers took from the port.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that the port took from workers.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames lost because workers were too slow.
    pub rx_missed: u64,
    /// Frames lost because the mempool was empty.
    pub rx_no_mbuf: u64,
    /// Damaged frames.
    pub rx_errors: u64,
    /// Frames the device failed to send.
    pub tx_errors: u64,
}

/// One routed interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its name in the configuration.
    pub name: String,
    /// The port it lies on.
    pub nic_port: String,
    /// Its VLAN, if tagged.
    pub vlan: Option<u16>,
    /// `internal` or `external`.
    pub side: String,
    /// Its tenant, if it has one.
    pub tenant: Option<u16>,
    /// Own addresses with their prefixes.
    pub addresses: Vec<String>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Its MAC address.
    pub mac: String,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborRow {
    /// The interface it is on.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address, once known.
    pub mac: Option<String>,
    /// State of the resolution.
    pub state: String,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Destinations.
    pub prefix: String,
    /// Next hop; none on a connected route.
    pub via: Option<String>,
    /// Outgoing interface.
    pub interface: String,
}

/// One filter rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterRow {
    /// Its name in the configuration.
    pub name: String,
    /// `allow`, `deny` or `reject`.
    pub action: String,
    /// Packets it decided about: those of no session.
    pub hits: u64,
    /// `inbound` or `outbound`; none: both.
    pub direction: Option<String>,
    /// Where packets arrive; none: anywhere.
    pub in_interface: Option<String>,
    /// Where they would leave; none: anywhere.
    pub out_interface: Option<String>,
    /// `tcp`, `udp`, `icmp`, else the IP protocol's number; none: all.
    pub protocol: Option<String>,
    /// Source prefixes; empty: all.
    pub source: Vec<String>,
    /// Source ports and ranges of them; empty: all.
    pub source_ports: Vec<String>,
    /// Destination prefixes; empty: all.
    pub destination: Vec<String>,
    /// Destination ports and ranges of them; empty: all.
    pub destination_ports: Vec<String>,
    /// ICMP types; empty: all.
    pub icmp_types: Vec<u8>,
}

/// One rule about messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlgRuleRow {
    /// Its name in the configuration.
    pub name: String,
    /// `allow`, `deny` or `drop`.
    pub action: String,
    /// Messages it decided about.
    pub hits: u64,
    /// Whose messages; none: every ALG's.
    pub alg: Option<String>,
    /// Commands; empty: all.
    pub command: Vec<String>,
    /// Arguments; empty: all.
    pub argument: Vec<String>,
    /// File types; empty: all.
    pub file_type: Vec<String>,
    /// Users; empty: all.
    pub user: Vec<String>,
    /// Prefixes of the internal end; empty: all.
    pub internal: Vec<String>,
    /// Prefixes of the other end; empty: all.
    pub peer: Vec<String>,
    /// `inbound` or `outbound`; none: both.
    pub direction: Option<String>,
    /// Tenant of the internal end; none: all.
    pub tenant: Option<u16>,
    /// Messages that pass all the same; none: no such rate.
    pub rate_per_second: Option<u32>,
}

/// One message that an ALG changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlgAuditRow {
    /// Its protocol.
    pub alg: String,
    /// Tenant of the internal end, if it has one.
    pub tenant: Option<u16>,
    /// The internal end of its session.
    pub internal: SocketAddrV4,
    /// The other end.
    pub peer: SocketAddrV4,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// Since it came.
    pub age_seconds: u64,
    /// What was decided.
    pub verdict: String,
    /// Nothing was really done.
    pub shadow: bool,
    /// Its head, credentials masked, control characters escaped.
    pub before: String,
    /// What became of it, the same way; what was sent back, if it was taken out.
    pub after: String,
}

/// What something that control sessions need takes of memory, all of it at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlgMemoryRow {
    /// What it is.
    pub what: String,
    /// Of one, bytes.
    pub bytes: usize,
    /// How many each thread has room for.
    pub room: usize,
    /// Threads that have them.
    pub threads: usize,
    /// All of it, bytes; none: it is part of another row.
    pub total_bytes: Option<usize>,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// `worker-N` or `alg-N`.
    pub name: String,
    /// The core it is pinned to.
    pub core: usize,
    /// Times round its loop.
    pub polls: u64,
    /// Those that found something to do.
    pub busy_polls: u64,
    /// Naps while idle.
    pub sleeps: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Event records it had no room for.
    pub events_lost: u64,
}

/// `02:00:00:00:00:01`
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl From<snapshot::SessionRow> for SessionRow {
    fn from(row: snapshot::SessionRow) -> Self {
        let role = if row.is_alg { Some("control") } else { row.is_child.then_some("expected") };
        Self {
            protocol: protocol_text(row.protocol),
            tenant: tenant_of(row.tenant),
            internal: row.internal,
            external: row.external,
            remote: row.remote,
            direction: if row.is_outbound { "outbound" } else { "inbound" }.to_owned(),
            state: row.state.to_owned(),
            idle_seconds: row.idle.as_secs(),
            expires_seconds: row.expires.as_secs(),
            age_seconds: row.age.as_secs(),
            alg: role.map(str::to_owned),
            children: row.children,
        }
    }
}

impl From<snapshot::MappingRow> for MappingRow {
    fn from(row: snapshot::MappingRow) -> Self {
        Self {
            protocol: protocol_text(row.protocol),
            tenant: tenant_of(row.tenant),
            internal: row.internal,
            external: row.external,
            remote: row.remote,
            filtering: row.filtering.to_owned(),
            references: row.references,
        }
    }
}

impl From<snapshot::ExpectationRow> for ExpectationRow {
    fn from(row: snapshot::ExpectationRow) -> Self {
        Self {
            protocol: protocol_text(row.protocol),
            tenant: tenant_of(row.tenant),
            peer: row.peer,
            announced: row.announced,
            target: row.target,
            uses: row.uses,
            expires_seconds: row.expires.as_secs(),
        }
    }
}

impl From<snapshot::AlgRow> for AlgRow {
    fn from(row: snapshot::AlgRow) -> Self {
        let snapshot::AlgRow {
            enabled,
            flows,
            messages,
            rewritten,
            denied,
            detached,
            expectations,
            open,
            ..
        } = row;
        let protocol = row.protocol.to_owned();
        Self { protocol, enabled, flows, messages, rewritten, denied, detached, expectations, open }
    }
}

impl From<snapshot::CounterRow> for CounterRow {
    fn from(row: snapshot::CounterRow) -> Self {
        Self { name: row.name, value: row.value }
    }
}

/// None where an interface names no tenant.
pub(crate) fn tenant_of(tenant: TenantId) -> Option<u16> {
    (tenant != TenantId::NONE).then_some(tenant.0)
}

/// `tcp`, `udp`, `icmp`, else the number.
pub(crate) fn protocol_text(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}
