//! `[log]`: what is written.

use crate::model::{Log, LogLevel};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section =
    Section { path: "log", form: Form::Table, about: "The log.", keys: &[LEVEL] };

const LEVEL: Key = Key {
    name: "level",
    example: "\"info\"",
    reason: "error, warn, info or debug; info tells start, stop, links and configuration, never traffic.",
};

const LEVELS: Choices<LogLevel> = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Log {
    let table = root.table(&SECTION);
    Log { level: table.get(&LEVEL, value::choice(LEVELS)).unwrap_or(LogLevel::Info) }
}

/// Prints the table.
pub(crate) fn print(log: &Log, out: &mut Printer) {
    out.table(&SECTION).key(&LEVEL, quoted(value::word_of(LEVELS, log.level)));
}
