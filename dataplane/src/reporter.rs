//! Makes the reports for `algate show`.
//!
//! The main thread fills them from counters with one writer each and from tables that are read
//! without a lock: no worker is stopped or waits. A report is therefore not one moment's truth: two
//! of its rows may be some microseconds apart.

use std::sync::Arc;

use algate_config::{Config, FilterAction, FilterDirection, FilterRule, Side};
use algate_engine::counters::Counter;
use algate_engine::drop_reason::DropReason;
use algate_engine::engine::Engine;
use algate_engine::ids::{TenantId, WorkerId};
use algate_engine::snapshot::{self, EGRESS_DROPS};

use crate::alg_memory;
use crate::alg_watch::AlgWatch;
use crate::dpdk::clock::Clock;
use crate::dpdk::mempool::Mempool;
use crate::dpdk::nic_port::NicPort;
use crate::dpdk::queue::{IoCounters, PortCounters};
use crate::edge::Edge;
use crate::event_log::EventLog;
use crate::report::{
    CounterRow, FilterRow, InterfaceRow, NeighborRow, PortRow, Report, RouteRow, Subject, WorkerRow,
    mac_text, protocol_text, tenant_of,
};
use crate::worker::LoopCounters;

/// What a thread leaves with the main thread.
#[derive(Debug)]
pub struct ThreadReport {
    /// `worker-N` or `alg-N`.
    pub name: String,
    /// The core it is pinned to.
    pub core: usize,
    /// Its counters at the edge.
    pub io: Arc<IoCounters>,
    /// Its loop's counters.
    pub poll_loop: Arc<LoopCounters>,
}

/// Makes reports.
pub struct Reporter {
    config: Config,
    nic_ports: Vec<Arc<NicPort>>,
    threads: Vec<ThreadReport>,
    pool: Arc<Mempool>,
    clock: Clock,
    engine: Arc<Engine>,
    events: EventLog,
    alg_watch: AlgWatch,
}

impl Reporter {
    /// Over a running edge and engine; the log of events begins here.
    #[must_use]
    pub fn new(
        config: &Config,
        edge: &Edge,
        threads: Vec<ThreadReport>,
        engine: Arc<Engine>,
        mut events: EventLog,
    ) -> Self {
        events.begin(edge.clock.now());
        Self {
            events,
            alg_watch: AlgWatch::new(config),
            config: config.clone(),
            nic_ports: edge.nic_ports.clone(),
            threads,
            pool: Arc::clone(&edge.pool),
            clock: edge.clock,
            engine,
        }
    }

    /// Takes over what the workers have recorded. Several times a second.
    pub fn take_events(&mut self) {
        self.events.take(&self.engine.events, self.clock.now());
        self.alg_watch.take(&self.engine.oversight);
    }

    /// The same for the last time, when the workers have ended.
    pub fn end_events(&mut self) {
        self.events.end(&self.engine.events, self.clock.now());
        self.alg_watch.take(&self.engine.oversight);
    }

    /// The report on `subject`: at most `limit` rows; of counters all, or those that are not zero.
    #[must_use]
    pub fn report(&self, subject: Subject, limit: usize, all: bool) -> Report {
        let now = self.clock.now();
        let shown = |mut rows: Vec<CounterRow>| {
            rows.retain(|row| all || row.value != 0);
            rows
        };
        match subject {
            Subject::Sessions => Report::Sessions(rows(self.engine.session_rows(now, limit))),
            Subject::Mappings => Report::Mappings(rows(self.engine.mapping_rows(limit))),
            Subject::Expectations => Report::Expectations(rows(self.engine.expectation_rows(now, limit))),
            Subject::Counters => Report::Counters(shown(self.counters())),
            Subject::Ports => Report::Ports(self.ports()),
            Subject::Interfaces => Report::Interfaces(self.interfaces()),
            Subject::Neighbors => Report::Neighbors(self.neighbors(limit)),
            Subject::Routes => Report::Routes(self.routes()),
            Subject::Filter => Report::Filter(self.filter(limit)),
            Subject::Alg => Report::Alg(rows(self.engine.alg_rows())),
            Subject::AlgRules => Report::AlgRules(self.alg_watch.rule_rows(&self.engine.oversight, limit)),
            Subject::AlgAudit => Report::AlgAudit(self.alg_watch.audit_rows(now, limit)),
            Subject::AlgMemory => Report::AlgMemory(alg_memory::rows(&self.config)),
            Subject::Events => Report::Events(self.events.rows(limit)),
            Subject::Workers => Report::Workers(self.workers()),
        }
    }

    /// What was counted, at the end.
    pub fn log_final_counters(&self) {
        for port in self.ports() {
            log::info!(
                "nic_port stopped name={} rx_packets={} rx_bytes={} tx_packets={} tx_bytes={} rx_missed={}",
                port.name,
                port.rx_packets,
                port.rx_bytes,
                port.tx_packets,
                port.tx_bytes,
                port.rx_missed
            );
        }
        for CounterRow { name, value } in self.counters() {
            if value != 0 {
                log::info!("counter name={name} value={value}");
            }
        }
    }

    /// The engine's counters, with what was lost at the edge added to its drops.
    fn counters(&self) -> Vec<CounterRow> {
        let mut rows: Vec<CounterRow> = rows(self.engine.counter_rows());
        for reason in DropReason::ALL {
            let lost: u64 = self.threads.iter().map(|thread| thread.io.drops.of(*reason)).sum();
            let name = format!("drop.{}", reason.text());
            for row in rows.iter_mut().filter(|row| row.name == name || row.name == EGRESS_DROPS) {
                row.value += lost;
            }
        }
        let uptime = self.clock.now().as_nanos() / 1_000_000_000;
        let (written, failed) = self.events.written_and_failed();
        rows.push(CounterRow { name: "events.written".to_owned(), value: written });
        rows.push(CounterRow { name: "events.not_written".to_owned(), value: failed });
        rows.push(CounterRow { name: "mbufs_in_use".to_owned(), value: self.pool.in_use().into() });
        rows.push(CounterRow { name: "uptime_seconds".to_owned(), value: uptime });
        rows
    }

    fn neighbors(&self, limit: usize) -> Vec<NeighborRow> {
        let row = |neighbor: snapshot::NeighborRow| NeighborRow {
            interface: self.interface_name(usize::from(neighbor.interface.0)),
            address: neighbor.address,
            mac: (neighbor.mac != [0; 6]).then(|| mac_text(neighbor.mac)),
            state: neighbor.state.to_owned(),
        };
        self.engine.neighbor_rows(limit).into_iter().map(row).collect()
    }

    fn interface_name(&self, index: usize) -> String {
        self.config.interfaces.get(index).map(|interface| interface.name.clone()).unwrap_or_default()
    }

    fn ports(&self) -> Vec<PortRow> {
        let row = |nic_port: &Arc<NicPort>| {
            let index = usize::from(nic_port.id().0);
            let sum = |of: fn(&PortCounters) -> &Counter| -> u64 {
                self.threads
                    .iter()
                    .filter_map(|t| t.io.nic_ports.get(index))
                    .map(|port| of(port).value())
                    .sum()
            };
            let (link, stats) = (nic_port.link(), nic_port.stats());
            PortRow {
                name: nic_port.name().to_owned(),
                link: if link.is_up { "up" } else { "down" }.to_owned(),
                megabits_per_second: link.megabits_per_second,
                mac: mac_text(nic_port.mac()),
                rx_queues: nic_port.rx_queues(),
                tx_queues: nic_port.tx_queues(),
                rx_packets: sum(|port| &port.rx_packets),
                rx_bytes: sum(|port| &port.rx_bytes),
                tx_packets: sum(|port| &port.tx_packets),
                tx_bytes: sum(|port| &port.tx_bytes),
                rx_missed: stats.rx_missed,
                rx_no_mbuf: stats.rx_no_mbuf,
                rx_errors: stats.rx_errors,
                tx_errors: stats.tx_errors,
            }
        };
        self.nic_ports.iter().map(row).collect()
    }

    fn interfaces(&self) -> Vec<InterfaceRow> {
        let row = |interface: &algate_config::Interface| {
            let nic_port = self.nic_ports.get(interface.nic_port);
            InterfaceRow {
                name: interface.name.clone(),
                nic_port: nic_port.map(|nic_port| nic_port.name().to_owned()).unwrap_or_default(),
                vlan: interface.vlan,
                side: match interface.side {
                    Side::Internal => "internal",
                    Side::External => "external",
                }
                .to_owned(),
                tenant: tenant_of(TenantId(interface.tenant)),
                addresses: interface.addresses.iter().map(ToString::to_string).collect(),
                mtu: interface.mtu,
                mac: nic_port.map(|nic_port| mac_text(nic_port.mac())).unwrap_or_default(),
            }
        };
        self.config.interfaces.iter().map(row).collect()
    }

    fn routes(&self) -> Vec<RouteRow> {
        let interfaces = &self.config.interfaces;
        let connected = interfaces.iter().flat_map(|interface| {
            interface.addresses.iter().map(|address| RouteRow {
                prefix: address.trunc().to_string(),
                via: None,
                interface: interface.name.clone(),
            })
        });
        let configured = self.config.routes.iter().map(|route| RouteRow {
            prefix: route.prefix.to_string(),
            via: Some(route.via.to_string()),
            interface: self.interface_name(route.interface),
        });
        connected.chain(configured).collect()
    }

    fn filter(&self, limit: usize) -> Vec<FilterRow> {
        let interface = |index: Option<usize>| index.map(|index| self.interface_name(index));
        let row = |(place, rule): (usize, &FilterRule)| FilterRow {
            name: rule.name.clone(),
            action: action_text(rule.action).to_owned(),
            hits: self.engine.filter.hits(place),
            direction: rule.direction.map(|direction| direction_text(direction).to_owned()),
            in_interface: interface(rule.in_interface),
            out_interface: interface(rule.out_interface),
            protocol: rule.protocol.map(protocol_text),
            source: rule.source.iter().map(ToString::to_string).collect(),
            source_ports: rule.source_ports.iter().map(ports_text).collect(),
            destination: rule.destination.iter().map(ToString::to_string).collect(),
            destination_ports: rule.destination_ports.iter().map(ports_text).collect(),
            icmp_types: rule.icmp_types.clone(),
        };
        self.config.filter.iter().enumerate().take(limit).map(row).collect()
    }

    fn workers(&self) -> Vec<WorkerRow> {
        let row = |(id, thread): (u16, &ThreadReport)| {
            let sum =
                |of: fn(&PortCounters) -> &Counter| thread.io.nic_ports.iter().map(|p| of(p).value()).sum();
            WorkerRow {
                name: thread.name.clone(),
                core: thread.core,
                polls: thread.poll_loop.polls.value(),
                busy_polls: thread.poll_loop.busy_polls.value(),
                sleeps: thread.poll_loop.sleeps.value(),
                rx_packets: sum(|port| &port.rx_packets),
                tx_packets: sum(|port| &port.tx_packets),
                events_lost: self.engine.events.lost_by(WorkerId(id)),
            }
        };
        (0..).zip(&self.threads).map(row).collect()
    }
}

fn rows<E, R: From<E>>(engine_rows: Vec<E>) -> Vec<R> {
    engine_rows.into_iter().map(R::from).collect()
}

fn action_text(action: FilterAction) -> &'static str {
    match action {
        FilterAction::Allow => "allow",
        FilterAction::Deny => "deny",
        FilterAction::Reject => "reject",
    }
}

fn direction_text(direction: FilterDirection) -> &'static str {
    match direction {
        FilterDirection::Inbound => "inbound",
        FilterDirection::Outbound => "outbound",
    }
}

fn ports_text((low, high): &(u16, u16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}
