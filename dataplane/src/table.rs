//! Reports as text: columns for a terminal.

use std::net::SocketAddrV4;

use crate::event_log::line::EventRow;
use crate::report::{
    AlgAuditRow, AlgMemoryRow, AlgRow, AlgRuleRow, CounterRow, ExpectationRow, FilterRow, InterfaceRow,
    MappingRow, NeighborRow, PortRow, Report, RouteRow, SessionRow, WorkerRow,
};

/// The report as a table, with a heading and one line per row.
#[must_use]
pub fn render(report: &Report) -> String {
    match report {
        Report::Sessions(rows) => table(rows),
        Report::Mappings(rows) => table(rows),
        Report::Expectations(rows) => table(rows),
        Report::Counters(rows) => table(rows),
        Report::Alg(rows) => table(rows),
        Report::AlgRules(rows) => table(rows),
        Report::AlgAudit(rows) => table(rows),
        Report::AlgMemory(rows) => table(rows),
        Report::Ports(rows) => table(rows),
        Report::Interfaces(rows) => table(rows),
        Report::Neighbors(rows) => table(rows),
        Report::Routes(rows) => table(rows),
        Report::Filter(rows) => table(rows),
        Report::Events(rows) => table(rows),
        Report::Workers(rows) => table(rows),
    }
}

/// A row of a table.
trait Row {
    /// The headings.
    const COLUMNS: &'static [&'static str];
    /// One text per heading.
    fn cells(&self) -> Vec<String>;
}

/// Declares the columns of a row: heading and expression for each.
macro_rules! columns {
    ($row:ident as $self:ident: $($heading:literal = $cell:expr,)+) => {
        impl Row for $row {
            const COLUMNS: &'static [&'static str] = &[$($heading,)+];
            fn cells(&self) -> Vec<String> {
                let $self = self;
                vec![$($cell.to_string(),)+]
            }
        }
    };
}

columns! { SessionRow as row:
    "protocol" = row.protocol,
    "tenant" = optional(row.tenant),
    "internal" = row.internal,
    "external" = row.external,
    "remote" = row.remote,
    "direction" = row.direction,
    "state" = row.state,
    "idle" = seconds(row.idle_seconds),
    "expires" = seconds(row.expires_seconds),
    "alg" = optional(row.alg.as_ref()),
}
columns! { MappingRow as row:
    "protocol" = row.protocol,
    "tenant" = optional(row.tenant),
    "internal" = row.internal,
    "external" = row.external,
    "remote" = row.remote.map_or_else(|| "all".to_owned(), |remote| remote.to_string()),
    "filtering" = row.filtering,
    "references" = row.references,
}
columns! { ExpectationRow as row:
    "protocol" = row.protocol,
    "tenant" = optional(row.tenant),
    "peer" = row.peer.map_or_else(|| "by filtering".to_owned(), peer),
    "announced" = row.announced,
    "target" = row.target,
    "uses" = if row.uses == u32::MAX { ANY.to_owned() } else { row.uses.to_string() },
    "expires" = seconds(row.expires_seconds),
}
columns! { AlgRow as row:
    "alg" = row.protocol,
    "state" = if row.enabled { "on" } else { "off" },
    "flows" = row.flows,
    "messages" = row.messages,
    "rewritten" = row.rewritten,
    "denied" = row.denied,
    "detached" = row.detached,
    "expectations" = row.expectations,
    "open" = row.open,
}
columns! { CounterRow as row:
    "counter" = row.name,
    "value" = row.value,
}
columns! { PortRow as row:
    "nic_port" = row.name,
    "link" = row.link,
    "mac" = row.mac,
    "queues rx/tx" = format!("{}/{}", row.rx_queues, row.tx_queues),
    "rx packets" = row.rx_packets,
    "rx bytes" = row.rx_bytes,
    "tx packets" = row.tx_packets,
    "tx bytes" = row.tx_bytes,
    "missed" = row.rx_missed,
    "no mbuf" = row.rx_no_mbuf,
    "errors rx/tx" = format!("{}/{}", row.rx_errors, row.tx_errors),
}
columns! { InterfaceRow as row:
    "interface" = row.name,
    "nic_port" = row.nic_port,
    "vlan" = optional(row.vlan),
    "side" = row.side,
    "tenant" = optional(row.tenant),
    "addresses" = row.addresses.join(" "),
    "mtu" = row.mtu,
    "mac" = row.mac,
}
columns! { NeighborRow as row:
    "interface" = row.interface,
    "address" = row.address,
    "mac" = optional(row.mac.as_ref()),
    "state" = row.state,
}
columns! { RouteRow as row:
    "prefix" = row.prefix,
    "via" = row.via.as_deref().unwrap_or("connected"),
    "interface" = row.interface,
}
columns! { FilterRow as row:
    "rule" = row.name,
    "action" = row.action,
    "hits" = row.hits,
    "direction" = row.direction.as_deref().unwrap_or(ANY),
    "in" = row.in_interface.as_deref().unwrap_or(ANY),
    "out" = row.out_interface.as_deref().unwrap_or(ANY),
    "protocol" = row.protocol.as_deref().unwrap_or(ANY),
    "source" = some_or_any(&row.source),
    "source ports" = some_or_any(&row.source_ports),
    "destination" = some_or_any(&row.destination),
    "ports or types" = some_or_any(&ports_or_types(row)),
}
columns! { AlgRuleRow as row:
    "rule" = row.name,
    "action" = row.action,
    "hits" = row.hits,
    "alg" = row.alg.as_deref().unwrap_or(ANY),
    "command" = some_or_any(&row.command),
    "argument" = some_or_any(&row.argument),
    "file type" = some_or_any(&row.file_type),
    "user" = some_or_any(&row.user),
    "internal" = some_or_any(&row.internal),
    "peer" = some_or_any(&row.peer),
    "direction" = row.direction.as_deref().unwrap_or(ANY),
    "tenant" = row.tenant.map_or_else(|| ANY.to_owned(), |tenant| tenant.to_string()),
    "rate" = optional(row.rate_per_second),
}
columns! { AlgAuditRow as row:
    "alg" = row.alg,
    "tenant" = optional(row.tenant),
    "internal" = row.internal,
    "peer" = row.peer,
    "direction" = row.direction,
    "age" = seconds(row.age_seconds),
    "verdict" = row.verdict,
    "shadow" = row.shadow,
    "before" = row.before,
    "after" = row.after,
}
columns! { AlgMemoryRow as row:
    "what" = row.what,
    "bytes" = row.bytes,
    "room" = row.room,
    "threads" = row.threads,
    "total bytes" = optional(row.total_bytes),
}
columns! { EventRow as row:
    "time" = row.time,
    "event" = row.event,
    "tenant" = optional(row.tenant),
    "protocol" = optional(row.protocol.as_ref()),
    "internal" = optional(row.internal.as_ref()),
    "external" = optional(row.external.as_ref()),
    "ports" = optional(row.l4_ports.map(|(first, last)| format!("{first}-{last}"))),
    "remote" = optional(row.remote),
    "cause" = optional(row.cause.as_ref()),
}
columns! { WorkerRow as row:
    "thread" = row.name,
    "core" = row.core,
    "polls" = row.polls,
    "busy polls" = row.busy_polls,
    "naps" = row.sleeps,
    "rx packets" = row.rx_packets,
    "tx packets" = row.tx_packets,
    "events lost" = row.events_lost,
}

fn table<R: Row>(rows: &[R]) -> String {
    let heading = R::COLUMNS.iter().map(ToString::to_string).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..R::COLUMNS.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn some_or_any(list: &[String]) -> String {
    if list.is_empty() { ANY.to_owned() } else { list.join(" ") }
}

/// A rule has one of them at most: ports need TCP or UDP, types ICMP.
fn ports_or_types(row: &FilterRow) -> Vec<String> {
    let types = row.icmp_types.iter().map(ToString::to_string);
    row.destination_ports.iter().cloned().chain(types).collect()
}

/// Who may use an expectation.
fn peer(peer: SocketAddrV4) -> String {
    if peer.ip().is_unspecified() { ANY.to_owned() } else { peer.to_string() }
}

fn seconds(seconds: u64) -> String {
    format!("{seconds} s")
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What a filter rule or an expectation leaves open.
const ANY: &str = "any";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let row = |name: &str, value| CounterRow { name: name.to_owned(), value };
        let report = Report::Counters(vec![row("drop.no_route", 12), row("forwarded", 3_456)]);
        assert_eq!(render(&report), "counter        value\ndrop.no_route  12\nforwarded      3456\n");
    }

    #[test]
    fn a_filter_rule_says_any_where_it_names_nothing() {
        let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let row = FilterRow {
            name: "no-smtp".to_owned(),
            action: "reject".to_owned(),
            hits: 7,
            direction: Some("outbound".to_owned()),
            in_interface: None,
            out_interface: Some("wan".to_owned()),
            protocol: Some("tcp".to_owned()),
            source: text(&["10.0.0.0/24", "10.1.0.0/24"]),
            source_ports: vec![],
            destination: vec![],
            destination_ports: text(&["25", "465-587"]),
            icmp_types: vec![],
        };
        assert_eq!(
            row.cells(),
            text(&[
                "no-smtp",
                "reject",
                "7",
                "outbound",
                "any",
                "wan",
                "tcp",
                "10.0.0.0/24 10.1.0.0/24",
                "any",
                "any",
                "25 465-587"
            ])
        );
        let ping = FilterRow { destination_ports: vec![], icmp_types: vec![8, 13], ..row };
        assert_eq!(ping.cells().last().map(String::as_str), Some("8 13"));
        assert_eq!(ping.cells().len(), FilterRow::COLUMNS.len());
    }

    #[test]
    fn an_alg_says_whether_it_is_on_and_what_it_did() {
        let row = AlgRow {
            protocol: "sip".to_owned(),
            enabled: true,
            flows: 3,
            messages: 40,
            rewritten: 30,
            denied: 1,
            detached: 0,
            expectations: 12,
            open: 4,
        };
        let text = "alg  state  flows  messages  rewritten  denied  detached  expectations  open\n\
                    sip  on     3      40        30         1       0         12            4\n";
        assert_eq!(render(&Report::Alg(vec![row])), text);
    }

    #[test]
    fn an_empty_table_still_says_what_it_would_hold() {
        assert_eq!(render(&Report::Routes(vec![])), "prefix  via  interface\n");
    }
}
