//! `[alg.rtsp]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::model::{Rtsp, Transport};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "alg.rtsp",
    form: Form::Table,
    about: "RTSP (RFC 2326, RFC 7826).",
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
        MEDIA_SOURCE,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[554]");
const MEDIA_SOURCE: Key = Key {
    name: "media_source",
    example: "\"server\"",
    reason: "Who may send the media: server; named: any host that the server names as their source.",
};
const SOURCES: Choices<bool> = &[("server", false), ("named", true)];

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 554,
    lifetime: Duration::from_secs(60),
    expectations: 64,
    most_expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Rtsp {
    let table = alg.table(&SECTION);
    Rtsp {
        gateway: common::read(&PROTOCOL, &table, claims),
        follows_source: table.get(&MEDIA_SOURCE, value::choice(SOURCES)).unwrap_or(false),
    }
}

pub(crate) fn print(rtsp: &Rtsp, out: &mut Printer) {
    common::print(&PROTOCOL, &rtsp.gateway, out)
        .key(&MEDIA_SOURCE, quoted(value::word_of(SOURCES, rtsp.follows_source)));
}
