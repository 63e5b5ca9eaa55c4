//! `[alg]` and a table for each protocol: application-level gateways.
//!
//! RFC 4787 REQ-10 and RFC 5382 REQ-6 ask for ALGs to be off by default and to have one switch each. A new
//! protocol is a file beside `tftp.rs`, its line in [`read`], in [`print()`] and in the table of all sections, and a field of
//! [`Alg`].

pub(crate) mod common;
pub(crate) mod ftp;
pub(crate) mod irc;
mod mask;
pub(crate) mod pptp;
pub(crate) mod rtsp;
pub(crate) mod rule;
pub(crate) mod sip;
pub(crate) mod tftp;

use crate::interface::Draft as Interface;
use crate::model::Alg;
use crate::print::Printer;
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value;

use common::Claims;

pub(crate) const SECTION: Section = Section {
    path: "alg",
    form: Form::Table,
    about: "What every application-level gateway (ALG) shares.",
    keys: &[HELD_BYTES, AUDIT_FLOWS],
};

const HELD_BYTES: Key = Key {
    name: "held_bytes",
    example: "16384",
    reason: "Bytes of one direction that may wait for the rest of their line, 512 to 65536.",
};

const AUDIT_FLOWS: Key = Key {
    name: "audit_flows",
    example: "0",
    reason: "Control sessions whose last changed messages show alg audit keeps, 0 to 4096; credentials are masked.",
};

/// Reads all tables.
pub(crate) fn read(root: &Table<'_>, interfaces: &[Interface<'_>]) -> Alg {
    let table = root.table(&SECTION);
    let mut claims = Claims::default();
    let alg = Alg {
        held_bytes: table.get(&HELD_BYTES, value::integer(512..=65_536)).unwrap_or(16_384),
        audit_flows: table.get(&AUDIT_FLOWS, value::integer(0..=4_096)).unwrap_or(0),
        rules: rule::read(&table, interfaces),
        ftp: ftp::read(&table, &mut claims),
        tftp: tftp::read(&table, &mut claims),
        sip: sip::read(&table, &mut claims),
        rtsp: rtsp::read(&table, &mut claims),
        irc: irc::read(&table, &mut claims),
        pptp: pptp::read(&table, &mut claims),
    };
    claims.refuse_shared_ports();
    alg
}

/// Prints all tables.
pub(crate) fn print(alg: &Alg, out: &mut Printer) {
    out.table(&SECTION).key(&HELD_BYTES, alg.held_bytes).key(&AUDIT_FLOWS, alg.audit_flows);
    ftp::print(&alg.ftp, out);
    tftp::print(&alg.tftp, out);
    sip::print(&alg.sip, out);
    rtsp::print(&alg.rtsp, out);
    irc::print(&alg.irc, out);
    pptp::print(&alg.pptp, out);
    rule::print(&alg.rules, out);
}
