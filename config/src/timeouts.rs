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
    keys: &[TCP_ESTABLISHED.key, TCP_TRANSITORY.key, UDP.key, ICMP.key, ARP.key, ALLOW_SHORT],
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
        icmp: read(&ICMP),
        arp: read(&ARP),
    }
}

/// Prints the table; `allow_short` is not in the model, for it follows from the values.
pub(crate) fn print(timeouts: &Timeouts, out: &mut Printer) {
    let values = [
        (&TCP_ESTABLISHED, timeouts.tcp_established),
        (&TCP_TRANSITORY, timeouts.tcp_transitory),
        (&UDP, timeouts.udp),
        (&ICMP, timeouts.icmp),
        (&ARP, timeouts.arp),
    ];
    out.table(&SECTION);
    for (timeout, value) in values {
        out.key(&timeout.key, quoted(duration::print(value)));
    }
    out.key(&ALLOW_SHORT, values.iter().any(|(timeout, value)| *value < timeout.min));
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
