//! `[events]`: what is recorded about the life of translations, and where the records go.
//!
//! RFC 6888 REQ-12 to REQ-14: no destinations unless the operator asks for them; where ports come in blocks
//! the blocks are recorded, else the mappings.

use std::path::PathBuf;

use crate::model::{Events, MappingEvents};
use crate::print::{Printer, quoted};
use crate::read::{Field, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "events",
    form: Form::Table,
    about: "Records of who had which external address and port, and of what ran out.",
    keys: &[SESSIONS, MAPPINGS, BLOCKS, ADDRESSES, EXHAUSTION, DESTINATIONS, RING_RECORDS, LOG],
};

const SESSIONS: Key = Key {
    name: "sessions",
    example: "false",
    reason: "Each session's begin and end; mappings and blocks tell the same with far fewer records.",
};
const MAPPINGS: Key = Key {
    name: "mappings",
    example: "\"auto\"",
    reason: "Each mapping's begin and end: auto: where the pool gives no blocks (RFC 6888 REQ-14); always; never.",
};
const BLOCKS: Key = Key {
    name: "blocks",
    example: "true",
    reason: "Each block of ports that a host gets and gives back, but those that this file alone determines.",
};
const ADDRESSES: Key = Key {
    name: "addresses",
    example: "false",
    reason: "Which external address each host is paired with; mappings and blocks imply it.",
};
const EXHAUSTION: Key = Key {
    name: "exhaustion",
    example: "true",
    reason: "A pool, a table or a host's quota is full, and has room again (RFC 6888 REQ-11).",
};
const DESTINATIONS: Key = Key {
    name: "destinations",
    example: "false",
    reason: "Whether sessions and mappings are recorded with their remote end: whom users talk to (RFC 6888 REQ-12).",
};
const RING_RECORDS: Key = Key {
    name: "ring_records",
    example: "16384",
    reason: "Records of 64 bytes that one worker may have waiting, a power of two; what comes then is counted as lost.",
};
const LOG: Key = Key {
    name: "log",
    example: "\"/var/log/algate-events.jsonl\"",
    reason: "File that records are added to, a JSON object a line; without it only algate show events has them.",
};

const MAPPING_EVENTS: Choices<MappingEvents> = &[
    ("auto", MappingEvents::WithoutBlocks),
    ("always", MappingEvents::Always),
    ("never", MappingEvents::Never),
];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Events {
    let table = root.table(&SECTION);
    let flag = |key: &'static Key, default| table.get(key, value::boolean).unwrap_or(default);
    Events {
        sessions: flag(&SESSIONS, false),
        mappings: table.get(&MAPPINGS, value::choice(MAPPING_EVENTS)).unwrap_or(MappingEvents::WithoutBlocks),
        blocks: flag(&BLOCKS, true),
        addresses: flag(&ADDRESSES, false),
        exhaustion: flag(&EXHAUSTION, true),
        destinations: flag(&DESTINATIONS, false),
        ring_records: table.get(&RING_RECORDS, value::power_of_two(64..=1_048_576)).unwrap_or(16_384),
        log: table.get(&LOG, absolute_path),
    }
}

/// Prints the table.
pub(crate) fn print(events: &Events, out: &mut Printer) {
    let table = out.table(&SECTION);
    table
        .key(&SESSIONS, events.sessions)
        .key(&MAPPINGS, quoted(value::word_of(MAPPING_EVENTS, events.mappings)))
        .key(&BLOCKS, events.blocks)
        .key(&ADDRESSES, events.addresses)
        .key(&EXHAUSTION, events.exhaustion)
        .key(&DESTINATIONS, events.destinations)
        .key(&RING_RECORDS, events.ring_records);
    if let Some(log) = &events.log {
        table.key(&LOG, quoted(log.display()));
    }
}

/// The file is found again by `algate whois`, wherever that is started.
fn absolute_path(field: &Field<'_>) -> Option<PathBuf> {
    let path = value::path(field)?;
    if !path.is_absolute() {
        field.place.refuse("is not an absolute path", "begin it with /");
        return None;
    }
    Some(path)
}
