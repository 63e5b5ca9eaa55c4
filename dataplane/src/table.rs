//! Reports as text: columns for a terminal.

use crate::report::{
    CounterRow, ExpectationRow, InterfaceRow, MappingRow, NeighborRow, PortRow, Report, RouteRow, SessionRow,
    WorkerRow,
};

/// The report as a table, with a heading and one line per row.
#[must_use]
pub fn render(report: &Report) -> String {
    match report {
        Report::Sessions(rows) => table(rows),
        Report::Mappings(rows) => table(rows),
        Report::Expectations(rows) => table(rows),
        Report::Counters(rows) | Report::Alg(rows) => table(rows),
        Report::Ports(rows) => table(rows),
        Report::Interfaces(rows) => table(rows),
        Report::Neighbors(rows) => table(rows),
        Report::Routes(rows) => table(rows),
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
    "internal" = row.internal,
    "external" = row.external,
    "filtering" = row.filtering,
    "references" = row.references,
}
columns! { ExpectationRow as row:
    "protocol" = row.protocol,
    "peer" = row.peer,
    "announced" = row.announced,
    "target" = row.target,
    "uses" = row.uses,
    "expires" = seconds(row.expires_seconds),
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
columns! { WorkerRow as row:
    "thread" = row.name,
    "core" = row.core,
    "polls" = row.polls,
    "busy polls" = row.busy_polls,
    "naps" = row.sleeps,
    "rx packets" = row.rx_packets,
    "tx packets" = row.tx_packets,
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

fn seconds(seconds: u64) -> String {
    format!("{seconds} s")
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

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
    fn an_empty_table_still_says_what_it_would_hold() {
        assert_eq!(render(&Report::Routes(vec![])), "prefix  via  interface\n");
    }
}
