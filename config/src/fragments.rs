//! `[fragments]`: IPv4 fragments in hand (RFC 8900 section 3.7: whatever is not bounded here is an attack).

use std::time::Duration;

use crate::model::{Alg, Fragments};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::{duration, value};

pub(crate) const SECTION: Section = Section {
    path: "fragments",
    form: Form::Table,
    about: "Fragmented IPv4 datagrams, which are translated as they come and not put together.",
    keys: &[DATAGRAMS, KEPT, PER_SOURCE, LIFETIME, WHOLE_BYTES],
};

const DATAGRAMS: Key = Key {
    name: "datagrams",
    example: "4096",
    reason: "Datagrams under way per worker; one source may have a quarter of them. More is refused.",
};
const KEPT: Key = Key {
    name: "kept",
    example: "512",
    reason: "Packet buffers per worker for fragments that came before the first one of their datagram.",
};
const PER_SOURCE: Key = Key {
    name: "per_source",
    example: "16",
    reason: "Such fragments of one source, 1 to 64; honest disorder needs a few.",
};
const LIFETIME: Key = Key {
    name: "lifetime",
    example: "\"2s\"",
    reason: "How long a datagram may take to come, 100ms to 60s; shorter withstands a flood better.",
};
const WHOLE_BYTES: Key = Key {
    name: "whole_bytes",
    example: "2048",
    reason: "Largest datagram that is put together to be read, 2048 to 16384, by default 4096 with SIP; every buffer has room.",
};

/// Reads the table.
pub(crate) fn read(root: &Table<'_>, alg: &Alg) -> Fragments {
    let table = root.table(&SECTION);
    let lifetime = value::duration(Duration::from_millis(100)..=Duration::from_secs(60));
    Fragments {
        datagrams: table.get(&DATAGRAMS, value::integer(16..=1_048_576)).unwrap_or(4096),
        kept: table.get(&KEPT, value::integer(16..=65_536)).unwrap_or(512),
        per_source: table.get(&PER_SOURCE, value::integer(1..=64)).unwrap_or(16),
        lifetime: table.get(&LIFETIME, lifetime).unwrap_or(Duration::from_secs(2)),
        // An INVITE with many codecs does not fit into the buffer of an ordinary frame.
        whole_bytes: table
            .get(&WHOLE_BYTES, value::integer(2_048..=16_384))
            .unwrap_or(if alg.sip.gateway.enabled { 4_096 } else { 2_048 }),
    }
}

/// Prints the table.
pub(crate) fn print(fragments: &Fragments, out: &mut Printer) {
    out.table(&SECTION)
        .key(&DATAGRAMS, fragments.datagrams)
        .key(&KEPT, fragments.kept)
        .key(&PER_SOURCE, fragments.per_source)
        .key(&LIFETIME, quoted(duration::print(fragments.lifetime)))
        .key(&WHOLE_BYTES, fragments.whole_bytes);
}
