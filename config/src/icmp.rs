//! `[icmp]`: messages that algate itself originates.

use crate::model::Icmp;
use crate::print::Printer;
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "icmp",
    form: Form::Table,
    about: "ICMP messages that algate itself originates.",
    keys: &[RATE_PER_SECOND],
};

const RATE_PER_SECOND: Key = Key {
    name: "rate_per_second",
    example: "100",
    reason: "Per worker, at most 100000 (RFC 1812 section 4.3.2.8); a flood must not be answered in kind.",
};

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Icmp {
    let table = root.table(&SECTION);
    Icmp { rate_per_second: table.get(&RATE_PER_SECOND, value::integer(0..=100_000)).unwrap_or(100) }
}

/// Prints the table.
pub(crate) fn print(icmp: &Icmp, out: &mut Printer) {
    out.table(&SECTION).key(&RATE_PER_SECOND, icmp.rate_per_second);
}
