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
    keys: &[HELD_BYTES, EXPECTATIONS_PER_HOST, AUDIT_FLOWS, AUDIT_BYTES],
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

const AUDIT_BYTES: Key = Key {
    name: "audit_bytes",
    example: "2048",
    reason: "Bytes it keeps of a message, 64 to 16384; a SIP message with its description has some 1500.",
};

const EXPECTATIONS_PER_HOST: Key = Key {
    name: "expectations_per_host",
    example: "256",
    reason: "Promised data sessions of one internal host, 1 to 65536; a call has two to four, for a telephone exchange many.",
};

/// Reads all tables.
pub(crate) fn read(root: &Table<'_>, interfaces: &[Interface<'_>]) -> Alg {
    let table = root.table(&SECTION);
    let mut claims = Claims::new(interfaces);
    let alg = Alg {
        held_bytes: table.get(&HELD_BYTES, value::integer(512..=65_536)).unwrap_or(16_384),
        expectations_per_host: table
            .get(&EXPECTATIONS_PER_HOST, value::integer(1..=65_536))
            .unwrap_or(DEFAULT_EXPECTATIONS_PER_HOST),
        audit_flows: table.get(&AUDIT_FLOWS, value::integer(0..=4_096)).unwrap_or(0),
        audit_bytes: table.get(&AUDIT_BYTES, value::integer(64..=16_384)).unwrap_or(2_048),
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
    out.table(&SECTION)
        .key(&HELD_BYTES, alg.held_bytes)
        .key(&EXPECTATIONS_PER_HOST, alg.expectations_per_host)
        .key(&AUDIT_FLOWS, alg.audit_flows)
        .key(&AUDIT_BYTES, alg.audit_bytes);
    ftp::print(&alg.ftp, out);
    tftp::print(&alg.tftp, out);
    sip::print(&alg.sip, out);
    rtsp::print(&alg.rtsp, out);
    irc::print(&alg.irc, out);
    pptp::print(&alg.pptp, out);
    rule::print(&alg.rules, out);
}

/// Calls of sixty phones at once, each with sound, picture and their control.
const DEFAULT_EXPECTATIONS_PER_HOST: u32 = 256;
