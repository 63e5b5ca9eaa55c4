//! `[alg.sip]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::duration;
use crate::model::{Sip, Transport};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "alg.sip",
    form: Form::Table,
    about: "SIP (RFC 3261), over UDP and TCP.",
    keys: &[
        common::ENABLED,
        CONTROL_PORTS,
        common::EXPECTATION_LIFETIME,
        common::EXPECTATIONS,
        common::INTERNAL,
        common::TENANTS,
        common::SHADOW,
        CALL_LIFETIME,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[5060]");
const CALL_LIFETIME: Key = Key {
    name: "call_lifetime",
    example: "\"30m\"",
    reason: "How long an answered call without Session-Expires may begin new media, 1m to 1d; what flows lives on.",
};

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Udp, Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 5060,
    lifetime: Duration::from_secs(180),
    expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Sip {
    let table = alg.table(&SECTION);
    let lifetime = value::duration(Duration::from_secs(60)..=Duration::from_secs(86_400));
    Sip {
        gateway: common::read(&PROTOCOL, &table, claims),
        call_lifetime: table.get(&CALL_LIFETIME, lifetime).unwrap_or(Duration::from_secs(1_800)),
    }
}

pub(crate) fn print(sip: &Sip, out: &mut Printer) {
    common::print(&PROTOCOL, &sip.gateway, out)
        .key(&CALL_LIFETIME, quoted(duration::print(sip.call_lifetime)));
}
