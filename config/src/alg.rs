//! `[alg]` and `[alg.ftp]`: application-level gateways.
//!
//! RFC 4787 REQ-10 and RFC 5382 REQ-6 ask for ALGs to be off by default and to have one switch each.

use std::time::Duration;

use crate::model::{Alg, Ftp};
use crate::print::{Printer, list, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::{duration, value};

pub(crate) const SECTION: Section = Section {
    path: "alg",
    form: Form::Table,
    about: "What every application-level gateway (ALG) shares.",
    keys: &[HELD_BYTES],
};

pub(crate) const FTP: Section = Section {
    path: "alg.ftp",
    form: Form::Table,
    about: "FTP (RFC 959, RFC 2428).",
    keys: &[ENABLED, CONTROL_PORTS, LINE_BYTES, EXPECTATION_LIFETIME, EXPECTATIONS],
};

const HELD_BYTES: Key = Key {
    name: "held_bytes",
    example: "16384",
    reason: "Bytes of one direction that may wait for the rest of their line, 512 to 65536.",
};
const ENABLED: Key = Key {
    name: "enabled",
    example: "true",
    reason: "Off until the operator wants it (RFC 4787 REQ-10, RFC 5382 REQ-6).",
};
const CONTROL_PORTS: Key =
    Key { name: "control_ports", example: "[21]", reason: "TCP ports where control sessions are expected." };
const LINE_BYTES: Key = Key {
    name: "line_bytes",
    example: "512",
    reason: "Longest line that is parsed, 64 to 4096 bytes with its end; 512 leaves room for long file names.",
};
const EXPECTATION_LIFETIME: Key = Key {
    name: "expectation_lifetime",
    example: "\"60s\"",
    reason: "How long a promised data connection may take to come, 1s to 5m; clients need a moment.",
};
const EXPECTATIONS: Key = Key {
    name: "expectations",
    example: "8",
    reason: "Promised data connections outstanding per control session, 1 to 64; clients need one at a time.",
};

/// Reads both tables.
pub(crate) fn read(root: &Table<'_>) -> Alg {
    let table = root.table(&SECTION);
    Alg {
        held_bytes: table.get(&HELD_BYTES, value::integer(512..=65_536)).unwrap_or(16_384),
        ftp: read_ftp(&table.table(&FTP)),
    }
}

/// Prints both tables.
pub(crate) fn print(alg: &Alg, out: &mut Printer) {
    out.table(&SECTION).key(&HELD_BYTES, alg.held_bytes);
    out.table(&FTP)
        .key(&ENABLED, alg.ftp.enabled)
        .key(&CONTROL_PORTS, list(&alg.ftp.control_ports))
        .key(&LINE_BYTES, alg.ftp.line_bytes)
        .key(&EXPECTATION_LIFETIME, quoted(duration::print(alg.ftp.expectation_lifetime)))
        .key(&EXPECTATIONS, alg.ftp.expectations);
}

fn read_ftp(table: &Table<'_>) -> Ftp {
    let l4_port = value::integer(1..=65_535);
    let control_ports = table.get(&CONTROL_PORTS, value::non_empty(value::distinct(l4_port)));
    let lifetime = value::duration(Duration::from_secs(1)..=Duration::from_secs(300));
    Ftp {
        enabled: table.get(&ENABLED, value::boolean).unwrap_or(false),
        control_ports: control_ports.map_or(vec![21], |ports: Vec<Located<'_, u16>>| {
            ports.into_iter().map(|l4_port| l4_port.value).collect()
        }),
        line_bytes: table.get(&LINE_BYTES, value::integer(64..=4096)).unwrap_or(512),
        expectation_lifetime: table.get(&EXPECTATION_LIFETIME, lifetime).unwrap_or(Duration::from_secs(60)),
        expectations: table.get(&EXPECTATIONS, value::integer(1..=64)).unwrap_or(8),
    }
}
