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
        common::KEEPALIVE,
        common::SHADOW,
        CALL_LIFETIME,
        CALLS_PER_FLOW,
        CALLS,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[5060]");
const CALL_LIFETIME: Key = Key {
    name: "call_lifetime",
    example: "\"30m\"",
    reason: "How long an answered call without Session-Expires may begin new media, 1m to 1d; what flows lives on.",
};
const CALLS_PER_FLOW: Key = Key {
    name: "calls_per_flow",
    example: "64",
    reason: "Calls of one signalling flow whose ends are noticed, 1 to 16384; a trunk has hundreds, each two expectations.",
};
const CALLS: Key = Key {
    name: "calls",
    example: "1024",
    reason: "Calls of all flows of a thread beyond the four each flow is sure of, 0 to 1048576; each takes 1 KiB.",
};

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Udp, Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 5060,
    lifetime: Duration::from_secs(180),
    expectations: 64,
    most_expectations: 8_192,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Sip {
    let table = alg.table(&SECTION);
    let lifetime = value::duration(Duration::from_secs(60)..=Duration::from_secs(86_400));
    Sip {
        gateway: common::read(&PROTOCOL, &table, claims),
        call_lifetime: table.get(&CALL_LIFETIME, lifetime).unwrap_or(Duration::from_secs(1_800)),
        calls_per_flow: table.get(&CALLS_PER_FLOW, value::integer(1..=16_384)).unwrap_or(64),
        calls: table.get(&CALLS, value::integer(0..=1_048_576)).unwrap_or(1_024),
    }
}

pub(crate) fn print(sip: &Sip, out: &mut Printer) {
    common::print(&PROTOCOL, &sip.gateway, out)
        .key(&CALL_LIFETIME, quoted(duration::print(sip.call_lifetime)))
        .key(&CALLS_PER_FLOW, sip.calls_per_flow)
        .key(&CALLS, sip.calls);
}
