//! `[alg.pptp]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::model::{Gateway, Transport};
use crate::print::Printer;
use crate::read::Table;
use crate::schema::{Form, Key, Section};

pub(crate) const SECTION: Section = Section {
    path: "alg.pptp",
    form: Form::Table,
    about: "PPTP (RFC 2637); tunnels need no rule for GRE: the control session admits them.",
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
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[1723]");

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 1723,
    lifetime: Duration::from_secs(600),
    expectations: 32,
    most_expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Gateway {
    common::read(&PROTOCOL, &alg.table(&SECTION), claims)
}

pub(crate) fn print(pptp: &Gateway, out: &mut Printer) {
    common::print(&PROTOCOL, pptp, out);
}
