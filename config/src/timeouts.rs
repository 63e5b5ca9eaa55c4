//! `[timeouts]`: idle times after which state goes away.
//!
//! RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-2 set minimums; `allow_short` lifts them, for labs
//! that cannot wait.

use std::time::Duration;

use crate::duration;
use crate::model::Timeouts;
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "timeouts",
    form: Form::Table,
    about: "Idle times after which state goes away; at most 30 days each.",
    keys: &[
        TCP_ESTABLISHED.key,
        TCP_TRANSITORY.key,
        UDP.key,
        UDP_INBOUND_REFRESH,
        ICMP.key,
        OTHER.key,
        ARP.key,
        ALLOW_SHORT,
    ],
};

pub(crate) const UDP_PORT: Section = Section {
    path: "timeouts.udp_port",
    form: Form::List,
    about: "A UDP service whose sessions have an idle time of their own.",
    keys: &[L4_PORT, IDLE],
};

const L4_PORT: Key =
    Key { name: "l4_port", example: "53", reason: "The port of the side that did not begin." };
const IDLE: Key = Key {
    name: "idle",
    example: "\"30s\"",
    reason: "Below 2m for well-known ports only, 0 to 1023 (RFC 4787 REQ-5 a): one question, one answer.",
};

/// One idle time: its default, and the least value a standard allows.
struct Timeout {
    key: Key,
    default: Duration,
    min: Duration,
    /// Who sets the minimum; empty: nobody.
    standard: &'static str,
}

const TCP_ESTABLISHED: Timeout = Timeout {
    key: Key {
        name: "tcp_established",
        example: "\"2h4m\"",
        reason: "Handshake complete: two hours of keep-alive interval and the time to probe.",
    },
    default: Duration::from_secs(7440),
    min: Duration::from_secs(7440),
    standard: "RFC 5382 REQ-5",
};
const TCP_TRANSITORY: Timeout = Timeout {
    key: Key {
        name: "tcp_transitory",
        example: "\"4m\"",
        reason: "Half-open, closing or reset: twice the maximum segment lifetime.",
    },
    default: Duration::from_secs(240),
    min: Duration::from_secs(240),
    standard: "RFC 5382 REQ-5",
};
const UDP: Timeout = Timeout {
    key: Key { name: "udp", example: "\"5m\"", reason: "What RFC 4787 REQ-5 recommends; 2m at least." },
    default: Duration::from_secs(300),
    min: Duration::from_secs(120),
    standard: "RFC 4787 REQ-5",
};
const UDP_INBOUND_REFRESH: Key = Key {
    name: "udp_inbound_refresh",
    example: "false",
    reason: "Whether inbound packets keep a session alive too; then the world can (RFC 4787 REQ-6).",
};
const ICMP: Timeout = Timeout {
    key: Key {
        name: "icmp",
        example: "\"60s\"",
        reason: "Queries such as ping: the least RFC 5508 REQ-2 allows.",
    },
    default: Duration::from_secs(60),
    min: Duration::from_secs(60),
    standard: "RFC 5508 REQ-2",
};
const OTHER: Timeout = Timeout {
    key: Key {
        name: "other",
        example: "\"10m\"",
        reason: "GRE, ESP, SCTP and the like; an SCTP association that opens or closes: tcp_transitory.",
    },
    default: Duration::from_secs(600),
    min: SHORTEST,
    standard: "",
};
const ARP: Timeout = Timeout {
    key: Key {
        name: "arp",
        example: "\"20m\"",
        reason: "How long a neighbour is believed without new proof.",
    },
    default: Duration::from_secs(1200),
    min: SHORTEST,
    standard: "",
};
const ALLOW_SHORT: Key = Key {
    name: "allow_short",
    example: "false",
    reason: "Allows values below the standards' minimum: for labs that cannot wait, never for users.",
};

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Timeouts {
    let table = root.table(&SECTION);
    let allows_short = table.get(&ALLOW_SHORT, value::boolean).unwrap_or(false);
    let read = |timeout: &'static Timeout| {
        let written = table.get_located(&timeout.key, value::duration(SHORTEST..=LONGEST));
        if let Some(short) = written.as_ref().filter(|written| written.value < timeout.min && !allows_short) {
            let min = duration::print(timeout.min);
            let problem = format!("is below the minimum {min} of {}", timeout.standard);
            short.place.refuse(
                problem,
                format!("choose {min} or more, or in a lab set timeouts.allow_short = true"),
            );
        }
        written.map_or(timeout.default, |written| written.value)
    };
    Timeouts {
        tcp_established: read(&TCP_ESTABLISHED),
        tcp_transitory: read(&TCP_TRANSITORY),
        udp: read(&UDP),
        udp_ports: read_udp_ports(&table, allows_short),
        udp_inbound_refresh: table.get(&UDP_INBOUND_REFRESH, value::boolean).unwrap_or(false),
        icmp: read(&ICMP),
        other: read(&OTHER),
        arp: read(&ARP),
    }
}

fn read_udp_ports(timeouts: &Table<'_>, allows_short: bool) -> Vec<(u16, Duration)> {
    let mut ports: Vec<(u16, Duration)> = Vec::new();
    for table in timeouts.tables(&UDP_PORT) {
        let l4_port = table.require(&L4_PORT, value::integer::<u16>(1..=65_535));
        let timeout = table.require(&IDLE, value::duration(SHORTEST..=LONGEST));
        let (Some(l4_port), Some(timeout)) = (l4_port, timeout) else { continue };
        if l4_port.value >= 1024 && timeout.value < UDP.min && !allows_short {
            let min = duration::print(UDP.min);
            let problem = format!("is below the minimum {min} of {} for a port above 1023", UDP.standard);
            let remedy = format!("choose {min} or more, or in a lab set timeouts.allow_short = true");
            timeout.place.refuse(problem, remedy);
        }
        if ports.iter().any(|(earlier, _)| *earlier == l4_port.value) {
            l4_port.place.refuse("has an idle time already", "remove one of the two");
        }
        ports.push((l4_port.value, timeout.value));
    }
    ports.sort_unstable();
    ports
}

/// Prints the table; `allow_short` is not in the model, for it follows from the values.
pub(crate) fn print(timeouts: &Timeouts, out: &mut Printer) {
    let values = [
        (&TCP_ESTABLISHED, timeouts.tcp_established),
        (&TCP_TRANSITORY, timeouts.tcp_transitory),
        (&UDP, timeouts.udp),
        (&ICMP, timeouts.icmp),
        (&OTHER, timeouts.other),
        (&ARP, timeouts.arp),
    ];
    out.table(&SECTION);
    for (timeout, value) in values {
        out.key(&timeout.key, quoted(duration::print(value)));
    }
    let is_short = |(l4_port, timeout): &(u16, Duration)| *l4_port >= 1024 && *timeout < UDP.min;
    let allows_short =
        values.iter().any(|(timeout, value)| *value < timeout.min) || timeouts.udp_ports.iter().any(is_short);
    out.key(&UDP_INBOUND_REFRESH, timeouts.udp_inbound_refresh).key(&ALLOW_SHORT, allows_short);
    for (l4_port, timeout) in &timeouts.udp_ports {
        out.table(&UDP_PORT).key(&L4_PORT, l4_port).key(&IDLE, quoted(duration::print(*timeout)));
    }
}

const SHORTEST: Duration = Duration::from_secs(1);
/// 30 days.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 86_400);
