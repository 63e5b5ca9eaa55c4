//! `[eal]`: how DPDK's environment abstraction layer is started. Its arguments are derived, never typed.

use crate::machine::Machine;
use crate::model::{Eal, Hugepages};
use crate::print::{Printer, quoted};
use crate::read::{Field, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "eal",
    form: Form::Table,
    about: "DPDK's environment abstraction layer.",
    keys: &[HUGEPAGES, FILE_PREFIX, MAIN_CORE],
};

const HUGEPAGES: Key = Key {
    name: "hugepages",
    example: "\"auto\"",
    reason: "auto: use hugepages where enough are free, else run slower without; require; never.",
};
const FILE_PREFIX: Key = Key {
    name: "file_prefix",
    example: "\"algate\"",
    reason: "Keeps several DPDK processes on one machine apart; one name each.",
};
const MAIN_CORE: Key = Key {
    name: "main_core",
    example: "0",
    reason: "The control thread runs here; it never touches packets, so it may share the system's core.",
};

const HUGEPAGES_CHOICES: Choices<Hugepages> =
    &[("auto", Hugepages::Auto), ("require", Hugepages::Require), ("never", Hugepages::Never)];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>, machine: &Machine) -> Eal {
    let table = root.table(&SECTION);
    let cores = machine.usable_cores();
    let default_core = if cores.contains(&0) { 0 } else { cores.first().copied().unwrap_or(0) };
    Eal {
        hugepages: table.get(&HUGEPAGES, value::choice(HUGEPAGES_CHOICES)).unwrap_or(Hugepages::Auto),
        file_prefix: table.get(&FILE_PREFIX, file_prefix).unwrap_or_else(|| "algate".to_string()),
        main_core: table.get(&MAIN_CORE, machine.core()).unwrap_or(default_core),
    }
}

/// Prints the table.
pub(crate) fn print(eal: &Eal, out: &mut Printer) {
    out.table(&SECTION)
        .key(&HUGEPAGES, quoted(value::word_of(HUGEPAGES_CHOICES, eal.hugepages)))
        .key(&FILE_PREFIX, quoted(&eal.file_prefix))
        .key(&MAIN_CORE, eal.main_core);
}

/// The prefix becomes part of file names below `/run/dpdk`.
fn file_prefix(field: &Field<'_>) -> Option<String> {
    let written = value::text(field)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if (1..=32).contains(&written.len()) && written.chars().all(is_allowed) {
        return Some(written.to_string());
    }
    field.place.refuse("is not a file prefix", "use 1 to 32 letters, digits, _ and -");
    None
}
