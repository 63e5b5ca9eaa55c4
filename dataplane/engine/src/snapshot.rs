//! What `show` tells: plain rows, read from the shared tables without stopping a worker.
//!
//! A row is true for a moment: its session may end while it is read. The reader holds no index across
//! rows, so it needs no place among the participants: a slot that is reused meanwhile yields the new
//! entry's row.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_alg::{Direction, Event, ProtocolId};

use crate::alg_stage::protocols::gateway;
use crate::counters::{Counter, ProtocolCounters, WorkerCounters};
use crate::drop_reason::DropReason;
use crate::engine::Engine;
use crate::ids::{InterfaceId, TenantId};
use crate::nat::mapping::{Filtering, Mapping, Scope};
use crate::nat::session::{Facing, Session};
use crate::pcp::message::ResultCode;
use crate::router::neighbor::NeighborState;
use crate::time::{Instant, Tick};

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// IP protocol.
    pub protocol: u8,
    /// Tenant of the internal host.
    pub tenant: TenantId,
    /// The internal host, as it knows itself.
    pub internal: SocketAddrV4,
    /// The internal host, as the world sees it.
    pub external: SocketAddrV4,
    /// The other end, as the internal host addresses it.
    pub remote: SocketAddrV4,
    /// Whether the first packet came from the internal side.
    pub is_outbound: bool,
    /// TCP state, or `active`.
    pub state: &'static str,
    /// Time since the last packet that counts against ageing.
    pub idle: Duration,
    /// Time until it ends, should nothing come.
    pub expires: Duration,
    /// Time since it was made.
    pub age: Duration,
    /// Whether an ALG reads it.
    pub is_alg: bool,
    /// Whether an ALG expected it.
    pub is_child: bool,
    /// Sessions that live under it.
    pub children: u32,
}

/// One mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingRow {
    /// IP protocol.
    pub protocol: u8,
    /// Tenant of the internal host.
    pub tenant: TenantId,
    /// The internal host, as it knows itself.
    pub internal: SocketAddrV4,
    /// The same, as the world sees it.
    pub external: SocketAddrV4,
    /// The one remote endpoint it serves; `None`: all.
    pub remote: Option<SocketAddrV4>,
    /// Who may use it from outside.
    pub filtering: &'static str,
    /// Sessions, expectations and forwards that hold it.
    pub references: u64,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectationRow {
    /// IP protocol.
    pub protocol: u8,
    /// Tenant of the target.
    pub tenant: TenantId,
    /// Who may come; address 0: anyone, port 0: from any. `None`: whoever the mapping's filtering lets in.
    pub peer: Option<SocketAddrV4>,
    /// The endpoint it was told.
    pub announced: SocketAddrV4,
    /// Where its flow arrives.
    pub target: SocketAddrV4,
    /// Flows that may still come.
    pub uses: u32,
    /// Time until it ends.
    pub expires: Duration,
}

/// What became of one protocol's control sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgRow {
    /// Its name.
    pub protocol: &'static str,
    /// Whether it is read at all.
    pub enabled: bool,
    /// Control sessions begun.
    pub flows: u64,
    /// Messages that the ALG decided about.
    pub messages: u64,
    /// Those that left with their addresses translated.
    pub rewritten: u64,
    /// Those that policy refused.
    pub denied: u64,
    /// Control sessions that turned out to be another protocol's.
    pub detached: u64,
    /// Expectations made.
    pub expectations: u64,
    /// Those that wait now.
    pub open: u64,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborRow {
    /// The interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address; zeros where none is known.
    pub mac: [u8; 6],
    /// Its state.
    pub state: &'static str,
}

/// One counter, added up over all threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterRow {
    /// Its dotted name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Engine {
    /// Live sessions, at most `limit`, in the order of their slots.
    pub fn session_rows(&self, now: Instant, limit: usize) -> Vec<SessionRow> {
        let sessions = &self.nat.sessions;
        (0..sessions.rows())
            .flat_map(|row| sessions.row(row))
            .filter_map(|index| sessions.session(index))
            .filter(Session::is_live)
            .take(limit)
            .map(|session| self.session_row(&session, now))
            .collect()
    }

    /// Live mappings, at most `limit`.
    pub fn mapping_rows(&self, limit: usize) -> Vec<MappingRow> {
        let mappings = &self.nat.mappings;
        (0..mappings.high_water())
            .filter(|index| mappings.references(*index) > 0)
            .filter_map(|index| Some((index, mappings.mapping(index)?, mappings.references(index))))
            .take(limit)
            .map(|(index, mapping, references)| MappingRow {
                protocol: mapping.protocol,
                tenant: mapping.internal.tenant,
                internal: mapping.internal.into(),
                external: mapping.external.into(),
                filtering: self.filtering_text(index, &mapping),
                remote: match mapping.scope {
                    Scope::Remote(remote) => Some(remote.into()),
                    Scope::Pool { .. } => None,
                },
                references,
            })
            .collect()
    }

    /// Expectations that still wait, at most `limit`.
    pub fn expectation_rows(&self, now: Instant, limit: usize) -> Vec<ExpectationRow> {
        let expectations = &self.nat.expectations;
        (0..expectations.high_water())
            .filter_map(|slot| expectations.expectation(slot))
            .filter(|expectation| expectation.uses > 0)
            .take(limit)
            .map(|expectation| ExpectationRow {
                protocol: expectation.protocol,
                tenant: expectation.target.tenant,
                peer: expectation.peer.map(SocketAddrV4::from),
                announced: expectation.announced.into(),
                target: expectation.target.into(),
                uses: expectation.uses,
                expires: expectation.expires.since(Tick::of(now)),
            })
            .collect()
    }

    /// Each protocol with an ALG.
    #[must_use]
    pub fn alg_rows(&self) -> Vec<AlgRow> {
        let expectations = &self.nat.expectations;
        let mut open = ProtocolId::ALL.map(|_| 0);
        let waiting = (0..expectations.high_water())
            .filter_map(|slot| expectations.expectation(slot))
            .filter(|expectation| expectation.uses > 0);
        for expectation in waiting {
            let parent = self.nat.sessions.by_handle(expectation.parent);
            let protocol = parent.and_then(|parent| parent.alg_protocol());
            if let Some(count) = protocol.and_then(|protocol| open.get_mut(usize::from(protocol.number()))) {
                *count += 1;
            }
        }
        let row = |(protocol, open): (ProtocolId, u64)| {
            let total = |read: fn(&ProtocolCounters) -> u64| {
                self.counters().iter().map(|counters| read(counters.alg.of(protocol))).sum()
            };
            AlgRow {
                protocol: protocol.name(),
                enabled: gateway(&self.config.alg, protocol).enabled,
                flows: total(|counters| counters.flows.value()),
                messages: total(|counters| counters.messages.value()),
                rewritten: total(|counters| counters.of(Event::Rewritten)),
                denied: total(|counters| counters.of(Event::Denied)),
                detached: total(|counters| counters.of(Event::Detached)),
                expectations: total(|counters| counters.expectations.value()),
                open,
            }
        };
        ProtocolId::ALL.into_iter().zip(open).map(row).collect()
    }

    /// Neighbours, at most `limit`.
    pub fn neighbor_rows(&self, limit: usize) -> Vec<NeighborRow> {
        self.router
            .neighbors
            .iter()
            .take(limit)
            .map(|entry| NeighborRow {
                interface: entry.interface,
                address: Ipv4Addr::from(entry.address),
                mac: entry.mac,
                state: match entry.state {
                    NeighborState::Incomplete => "incomplete",
                    NeighborState::Reachable => "reachable",
                    NeighborState::Probe => "probe",
                    NeighborState::Failed => "failed",
                },
            })
            .collect()
    }

    /// Every counter of the engine (its rows `drop.*` are of received packets, and of [`EGRESS_DROPS`]), and the gauges of its tables.
    #[must_use]
    pub fn counter_rows(&self) -> Vec<CounterRow> {
        let total = |read: &dyn Fn(&WorkerCounters) -> u64| self.counters().iter().map(read).sum();
        let of = |name: &str, value: u64| CounterRow { name: name.to_owned(), value };
        let mut rows: Vec<CounterRow> = NAMED
            .iter()
            .map(|(name, counter)| of(name, total(&|counters| counter(counters).value())))
            .collect();
        rows.extend(DropReason::ALL.iter().map(|reason| {
            of(
                &format!("drop.{}", reason.text()),
                total(&|counters| counters.drops.of(*reason) + counters.egress_drops.of(*reason)),
            )
        }));
        // Of those, what was counted before as forwarded, or was made here.
        let egress = |counters: &WorkerCounters| {
            DropReason::ALL.iter().map(|reason| counters.egress_drops.of(*reason)).sum()
        };
        rows.push(of(EGRESS_DROPS, total(&egress)));
        for protocol in ProtocolId::ALL {
            let name = protocol.name();
            rows.extend(OF_PROTOCOL.iter().map(|(what, counter)| {
                let count = total(&|counters| counter(counters.alg.of(protocol)).value());
                of(&format!("alg.{name}.{what}"), count)
            }));
            rows.extend(Event::ALL.iter().map(|event| {
                let count = total(&|counters| counters.alg.of(protocol).of(*event));
                of(&format!("alg.{name}.{}", event.text()), count)
            }));
            rows.push(of(&format!("alg.{name}.off"), self.oversight.breaker.is_off(protocol).into()));
        }
        rows.extend(ResultCode::ALL.iter().map(|result| {
            of(&format!("pcp.{}", result.text()), total(&|counters| counters.pcp.of(*result)))
        }));
        rows.push(of("alg.records_lost", self.oversight.records.lost()));
        rows.push(of("events.recorded", self.events.recorded()));
        rows.push(of("events.lost", self.events.lost()));
        rows.push(of("table.sessions", u64::from(self.nat.sessions.in_use())));
        rows.push(of("table.mappings", u64::from(self.nat.mappings.in_use())));
        rows.push(of("table.expectations", u64::from(self.nat.expectations.in_use())));
        rows.push(of("table.explicit_mappings", u64::from(self.nat.explicit.in_use())));
        rows.push(of("table.external_ports", self.nat.ports.taken()));
        rows.push(of("table.resting_ports", self.nat.ports.resting()));
        rows.push(of("table.port_blocks", self.nat.blocks.assigned()));
        rows.push(of("table.subscribers", u64::from(self.nat.subscribers.in_use())));
        rows
    }

    /// What a host asked for overrides what the mapping was made with.
    fn filtering_text(&self, index: u32, mapping: &Mapping) -> &'static str {
        let explicit = &self.nat.explicit;
        match (explicit.holder(index, mapping.protocol, mapping.internal), mapping.filtering) {
            (Some(slot), _) if explicit.filters(slot).next().is_some() => "explicit_filtered",
            (Some(_), _) => "explicit",
            (None, Filtering::EndpointIndependent) => "endpoint_independent",
            (None, Filtering::AddressDependent) => "address_dependent",
            (None, Filtering::AddressAndPortDependent) => "address_and_port_dependent",
            (None, Filtering::Expected) => "expected",
        }
    }

    fn session_row(&self, session: &Session<'_>, now: Instant) -> SessionRow {
        let key = session.internal_key();
        let tick = Tick::of(now);
        let idle = tick.since(session.last_seen());
        SessionRow {
            protocol: key.protocol(),
            tenant: key.tenant(),
            internal: key.source().into(),
            external: session.external_key().destination().into(),
            remote: key.destination().into(),
            is_outbound: session.direction(Facing::Internal) == Direction::Original,
            state: session.tcp_state().map_or("active", |state| state.text()),
            idle,
            expires: self.nat.sessions.idle_of(session).saturating_sub(idle),
            age: tick.since(self.nat.sessions.created(session)),
            is_alg: session.is_alg(),
            is_child: session.parent().is_some(),
            children: session.children(),
        }
    }
}

/// The counter of packets that were forwarded, or made by algate, and lost then: each is in a row `drop.*`, too.
pub const EGRESS_DROPS: &str = "egress_drops";

type OfProtocol = (&'static str, fn(&ProtocolCounters) -> &Counter);

const OF_PROTOCOL: &[OfProtocol] = &[
    ("flows", |counters| &counters.flows),
    ("messages", |counters| &counters.messages),
    ("expectations", |counters| &counters.expectations),
    ("service_port", |counters| &counters.service_ports),
    ("panics", |counters| &counters.panics),
    ("work_budget", |counters| &counters.work_budget),
];

type Named = (&'static str, fn(&WorkerCounters) -> &Counter);

const NAMED: &[Named] = &[
    ("received", |counters| &counters.received),
    ("forwarded", |counters| &counters.forwarded),
    ("arp", |counters| &counters.arp),
    ("local", |counters| &counters.local),
    ("icmp_sent", |counters| &counters.icmp_sent),
    ("resets_sent", |counters| &counters.resets_sent),
    ("handed_over", |counters| &counters.handed_over),
    ("fragments_merged", |counters| &counters.fragments_merged),
    ("packets_fragmented", |counters| &counters.packets_fragmented),
    ("fragments_made", |counters| &counters.fragments_made),
    ("sessions_created", |counters| &counters.sessions_created),
    ("aged", |counters| &counters.aged),
    ("pcp.nat_pmp", |counters| &counters.pcp.nat_pmp),
    ("pcp.announced", |counters| &counters.pcp.announced),
    ("alg.segments_in", |counters| &counters.alg.segments_in),
    ("alg.segments_out", |counters| &counters.alg.segments_out),
];
