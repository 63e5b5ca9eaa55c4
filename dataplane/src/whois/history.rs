//! Who held an external endpoint at a time, by the event log.
//!
//! The log is read once, from its beginning, whatever its size; only what concerns the endpoint is kept. Lines of
//! different workers may be some milliseconds out of order, so an end belongs to the oldest holding of the same
//! host that is still open. When algate started or stopped, everything ended.

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddrV4};

use jiff::Timestamp;

use crate::event_log::line::{Configuration, EventRow, Milestone, MilestoneRow};

/// What is asked: an endpoint during a time, milliseconds since 1970 with the end not included.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The external address.
    pub address: Ipv4Addr,
    /// Its port or ICMP identifier.
    pub l4_port: u16,
    /// When.
    pub time: (i64, i64),
}

/// Somebody's hold on the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// `block`, `mapping` or `session`.
    pub what: &'static str,
    /// None: all.
    pub protocol: Option<String>,
    /// The host's tenant, if it has one.
    pub tenant: Option<u16>,
    /// The host, or its endpoint.
    pub internal: String,
    /// First and last port.
    pub l4_ports: (u16, u16),
    /// Milliseconds since 1970.
    pub since: i64,
    /// The same; none: it still holds it.
    pub until: Option<i64>,
}

/// What a log says.
#[derive(Debug, Default)]
pub struct History {
    /// The configuration in force, the last one that began before the time asked for.
    pub configuration: Option<Configuration>,
    /// When that began, milliseconds since 1970.
    pub configured: Option<i64>,
    /// Who held the endpoint at the time, the oldest first.
    pub holdings: Vec<Holding>,
    /// When the first line was written.
    pub first: Option<i64>,
    /// Lines that are none.
    pub unreadable: u64,
    open: Vec<Holding>,
}

impl History {
    /// Reads on in a log; `progress` is told the bytes of each line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(
        &mut self,
        question: &Question,
        mut log: impl BufRead,
        mut progress: impl FnMut(usize),
    ) -> io::Result<()> {
        let needles = [format!("\"{}\"", question.address), format!("\"{}:", question.address)];
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = log.read_until(b'\n', &mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            progress(length);
            let Ok(line) = std::str::from_utf8(&bytes) else {
                self.unreadable += 1;
                continue;
            };
            let is_event = needles.iter().any(|needle| line.contains(needle.as_str()));
            let is_milestone = MILESTONES.iter().any(|needle| line.contains(needle));
            if !is_event && !is_milestone && self.first.is_some() || line.trim().is_empty() {
                continue;
            }
            if self.take(question, line).is_none() {
                self.unreadable += 1;
            }
        }
    }

    /// All logs are read: what is open now is held still.
    pub fn finish(&mut self, question: &Question) {
        for holding in std::mem::take(&mut self.open) {
            self.keep(question, holding);
        }
        self.holdings.sort_by_key(|holding| holding.since);
    }

    fn take(&mut self, question: &Question, line: &str) -> Option<()> {
        if let Ok(MilestoneRow { time, event, configuration }) = serde_json::from_str(line) {
            let time = millisecond(&time)?;
            self.first.get_or_insert(time);
            if event != Milestone::Continued {
                for holding in std::mem::take(&mut self.open) {
                    self.keep(question, Holding { until: Some(time), ..holding });
                }
            }
            if configuration.is_some() && time < question.time.1 {
                (self.configuration, self.configured) = (configuration, Some(time));
            }
            return Some(());
        }
        let row: EventRow = serde_json::from_str(line).ok()?;
        let time = millisecond(&row.time)?;
        self.first.get_or_insert(time);
        let (what, begins) = match row.event.as_str() {
            "block_assigned" => ("block", true),
            "block_released" => ("block", false),
            "mapping_created" => ("mapping", true),
            "mapping_deleted" => ("mapping", false),
            "session_created" => ("session", true),
            "session_deleted" => ("session", false),
            _ => return Some(()),
        };
        let external = row.external?;
        let (address, l4_ports) = match row.l4_ports {
            Some(l4_ports) => (external.parse().ok()?, l4_ports),
            None => {
                let endpoint: SocketAddrV4 = external.parse().ok()?;
                (*endpoint.ip(), (endpoint.port(), endpoint.port()))
            }
        };
        if address != question.address || !(l4_ports.0..=l4_ports.1).contains(&question.l4_port) {
            return Some(());
        }
        let (protocol, tenant, internal) = (row.protocol, row.tenant, row.internal?);
        if begins {
            self.open.push(Holding { what, protocol, tenant, internal, l4_ports, since: time, until: None });
            return Some(());
        }
        let is_it = |open: &Holding| {
            (open.what, &open.protocol, open.tenant, &open.internal) == (what, &protocol, tenant, &internal)
        };
        let ended = (0..).zip(&self.open).filter(|(_, open)| is_it(open)).min_by_key(|(_, open)| open.since);
        if let Some(at) = ended.map(|(at, _)| at) {
            let holding = self.open.remove(at);
            self.keep(question, Holding { until: Some(time), ..holding });
        }
        Some(())
    }

    fn keep(&mut self, question: &Question, holding: Holding) {
        let (from, to) = question.time;
        // What begins and ends in the same millisecond held it then.
        let until = holding.until.map_or(i64::MAX, |until| until.max(holding.since + 1));
        if holding.since < to && from < until {
            self.holdings.push(holding);
        }
    }
}

fn millisecond(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

const MILESTONES: [&str; 3] = ["\"event\":\"started\"", "\"event\":\"continued\"", "\"event\":\"stopped\""];
