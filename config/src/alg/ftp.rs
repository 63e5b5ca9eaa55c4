//! `[alg.ftp]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::model::{Ftp, Transport, Unopened};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "alg.ftp",
    form: Form::Table,
    about: "FTP (RFC 959, RFC 2428).",
    keys: &[
        common::ENABLED,
        CONTROL_PORTS,
        common::EXPECTATION_LIFETIME,
        common::EXPECTATIONS,
        common::INTERNAL,
        common::TENANTS,
        common::INTERFACES,
        common::KEEPALIVE,
        common::SHADOW,
        LINE_BYTES,
        UNOPENED,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[21]");
const LINE_BYTES: Key = Key {
    name: "line_bytes",
    example: "512",
    reason: "Longest line that is parsed, 64 to 4096 bytes with its end; 512 leaves room for long file names.",
};
const UNOPENED: Key = Key {
    name: "unopened",
    example: "\"deny\"",
    reason: "An internal address that is announced and cannot be opened: deny: the client reads 504 to PORT, 425 for 227; allow: it passes; drop: PORT is taken out, a 227 ends the session.",
};
const RULINGS: Choices<Unopened> =
    &[("deny", Unopened::Deny), ("allow", Unopened::Allow), ("drop", Unopened::Drop)];

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 21,
    lifetime: Duration::from_secs(60),
    expectations: 8,
    most_expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Ftp {
    let table = alg.table(&SECTION);
    Ftp {
        gateway: common::read(&PROTOCOL, &table, claims),
        line_bytes: table.get(&LINE_BYTES, value::integer(64..=4096)).unwrap_or(512),
        unopened: table.get(&UNOPENED, value::choice(RULINGS)).unwrap_or(Unopened::Deny),
    }
}

pub(crate) fn print(ftp: &Ftp, out: &mut Printer) {
    common::print(&PROTOCOL, &ftp.gateway, out)
        .key(&LINE_BYTES, ftp.line_bytes)
        .key(&UNOPENED, quoted(value::word_of(RULINGS, ftp.unopened)));
}
