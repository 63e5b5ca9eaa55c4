//! The lines of the event log: one JSON object each, the same that `algate show events --json` shows.
//!
//! A line is an event, or a milestone: algate started (whatever was before has ended; with the part of the
//! configuration that says who had which port), goes on in a new file, or stopped.

use std::net::{Ipv4Addr, SocketAddrV4};

use algate_config::{Assignment, Nat, NatRule, Transport};
use algate_engine::event::{Kind, Record};
use algate_engine::ids::TenantId;
use algate_engine::nat::deterministic::Deterministic;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report::{protocol_text, tenant_of};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// When: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// What.
    pub event: String,
    /// Its number in IANA's registry natEvent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_event: Option<u8>,
    /// `tcp`, `udp`, `icmp`, else the IP protocol's number; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The tenant of `internal`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u16>,
    /// The internal endpoint, or the host as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<String>,
    /// The external endpoint or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// First and last port of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l4_ports: Option<(u16, u16)>,
    /// The other end, where destinations are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddrV4>,
    /// What packets die of while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A line that is no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MilestoneRow {
    /// When: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// Which.
    pub event: Milestone,
    /// What is in force from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
}

/// What a milestone marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Milestone {
    /// algate started: nothing of what was before is left.
    Started,
    /// The file begins, algate ran before.
    Continued,
    /// algate stopped.
    Stopped,
}

/// The part of a configuration that says who has which external endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Pools.
    pub pools: Vec<PoolPart>,
    /// Port forwards.
    pub forwards: Vec<ForwardPart>,
    /// Addresses of single hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statics: Vec<StaticPart>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPart {
    /// Its name.
    pub name: String,
    /// Inclusive ranges.
    pub addresses: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Ports that mappings use.
    pub l4_ports: (u16, u16),
    /// How first blocks are computed, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deterministic: Option<DeterministicPart>,
}

/// What first blocks are computed from, beside the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeterministicPart {
    /// Whose hosts they are; none: there is one tenant only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u16>,
    /// Ports of a block.
    pub block_size: u16,
    /// Inclusive ranges of internal addresses, in the order in which they are numbered.
    pub hosts: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// One port forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardPart {
    /// `tcp`, `udp`, or `tcp and udp`.
    pub protocol: String,
    /// The first endpoint that the world connects to.
    pub external: SocketAddrV4,
    /// How many ports, from the first one on.
    pub ports: u16,
    /// The first endpoint of each server.
    pub internal: Vec<SocketAddrV4>,
    /// Their tenant, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u16>,
}

/// One prefix of static addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPart {
    /// First and last external address.
    pub external: (Ipv4Addr, Ipv4Addr),
    /// The internal address of the first.
    pub internal: Ipv4Addr,
    /// The hosts' tenant, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u16>,
}

impl EventRow {
    /// What `record` says; it happened `wall_ms` milliseconds after 1970.
    #[must_use]
    pub fn new(wall_ms: i64, record: &Record) -> Self {
        let Record { kind, protocol, internal, external, remote, cause, .. } = *record;
        let has_l4_ports = matches!(
            kind,
            Kind::SessionCreated | Kind::SessionDeleted | Kind::MappingCreated | Kind::MappingDeleted
        );
        let text = |endpoint: algate_engine::nat::key::Endpoint| match endpoint.address {
            0 => None,
            _ if has_l4_ports => Some(endpoint.to_string()),
            address => Some(Ipv4Addr::from(address).to_string()),
        };
        let is_block = matches!(kind, Kind::BlockAssigned | Kind::BlockReleased);
        Self {
            time: time_text(wall_ms),
            event: kind.text().to_owned(),
            nat_event: kind.nat_event(),
            protocol: (protocol != 0).then(|| protocol_text(protocol)),
            tenant: tenant_of(internal.tenant),
            internal: text(internal),
            external: text(external),
            l4_ports: is_block.then_some((external.l4_port, record.last_l4_port)),
            remote: remote.map(SocketAddrV4::from),
            cause: cause.map(|cause| cause.text().to_owned()),
        }
    }
}

impl Configuration {
    /// Of a whole one.
    #[must_use]
    pub fn of(nat: &Nat) -> Self {
        let pools = nat.pools.iter().enumerate().map(|(index, pool)| PoolPart {
            name: pool.name.clone(),
            addresses: pool.ranges.clone(),
            l4_ports: pool.l4_ports,
            deterministic: pool.blocks.filter(|blocks| blocks.assignment == Assignment::Deterministic).map(
                |blocks| DeterministicPart {
                    tenant: NatRule::tenant_of_hosts(&nat.rules, index),
                    block_size: blocks.ports,
                    hosts: NatRule::hosts(&nat.rules, index)
                        .iter()
                        .map(|prefix| (prefix.network(), prefix.broadcast()))
                        .collect(),
                },
            ),
        });
        let forwards = nat.forwards.iter().map(|forward| ForwardPart {
            protocol: match forward.protocol {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::TcpAndUdp => "tcp and udp",
            }
            .to_owned(),
            external: forward.external,
            ports: forward.ports,
            internal: forward.servers.iter().map(|server| server.internal).collect(),
            tenant: tenant_of(TenantId(forward.tenant)),
        });
        let statics = nat.statics.iter().map(|pair| StaticPart {
            external: (pair.external.network(), pair.external.broadcast()),
            internal: pair.internal.network(),
            tenant: tenant_of(TenantId(pair.tenant)),
        });
        Self { pools: pools.collect(), forwards: forwards.collect(), statics: statics.collect() }
    }
}

impl StaticPart {
    /// The internal address behind `external`, if it is one of these.
    #[must_use]
    pub fn host_of(&self, external: Ipv4Addr) -> Option<Ipv4Addr> {
        let (first, last) = self.external;
        let offset = u32::from(external).checked_sub(first.into()).filter(|_| external <= last)?;
        Some(Ipv4Addr::from(u32::from(self.internal) + offset))
    }
}

impl ForwardPart {
    /// The servers' endpoints behind `address` and `l4_port`; none where it is another's.
    #[must_use]
    pub fn servers_of(&self, address: Ipv4Addr, l4_port: u16) -> Vec<SocketAddrV4> {
        let offset = l4_port.checked_sub(self.external.port());
        let offset = offset.filter(|offset| *offset < self.ports && *self.external.ip() == address);
        offset.map_or_else(Vec::new, |offset| {
            let moved =
                |first: &SocketAddrV4| SocketAddrV4::new(*first.ip(), first.port().saturating_add(offset));
            self.internal.iter().map(moved).collect()
        })
    }
}

impl PoolPart {
    /// The arithmetic of its first blocks.
    #[must_use]
    pub fn arithmetic(&self) -> Option<Deterministic> {
        let DeterministicPart { tenant, block_size, hosts } = self.deterministic.as_ref()?;
        Deterministic::of_ranges(tenant.map(TenantId), hosts, &self.addresses, *block_size, self.l4_ports)
    }
}

/// `2026-11-22T04:33:00.123Z`
#[must_use]
pub fn time_text(wall_ms: i64) -> String {
    let time = Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}
