//! `[icmp]`: messages that algate itself originates.

use crate::model::{Icmp, IcmpRefusal};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "icmp",
    form: Form::Table,
    about: "ICMP messages that algate itself originates.",
    keys: &[RATE_PER_SECOND, REFUSAL],
};

const RATE_PER_SECOND: Key = Key {
    name: "rate_per_second",
    example: "100",
    reason: "Per worker, at most 100000 (RFC 1812 section 4.3.2.8); a flood must not be answered in kind.",
};

const REFUSAL: Key = Key {
    name: "refusal",
    example: "\"host_unreachable\"",
    reason: "To new flows without room: host_unreachable (RFC 6888 REQ-11), admin_prohibited (RFC 5508 REQ-8), none.",
};

const REFUSALS: Choices<IcmpRefusal> = &[
    ("host_unreachable", IcmpRefusal::HostUnreachable),
    ("admin_prohibited", IcmpRefusal::AdminProhibited),
    ("none", IcmpRefusal::None),
];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Icmp {
    let table = root.table(&SECTION);
    Icmp {
        rate_per_second: table.get(&RATE_PER_SECOND, value::integer(0..=100_000)).unwrap_or(100),
        refusal: table.get(&REFUSAL, value::choice(REFUSALS)).unwrap_or(IcmpRefusal::HostUnreachable),
    }
}

/// Prints the table.
pub(crate) fn print(icmp: &Icmp, out: &mut Printer) {
    out.table(&SECTION)
        .key(&RATE_PER_SECOND, icmp.rate_per_second)
        .key(&REFUSAL, quoted(value::word_of(REFUSALS, icmp.refusal)));
}
