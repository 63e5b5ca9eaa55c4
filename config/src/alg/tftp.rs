//! `[alg.tftp]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::model::{Gateway, Transport};
use crate::print::Printer;
use crate::read::Table;
use crate::schema::{Form, Key, Section};

pub(crate) const SECTION: Section = Section {
    path: "alg.tftp",
    form: Form::Table,
    about: "TFTP (RFC 1350, RFC 2347).",
    keys: &[
        common::ENABLED,
        CONTROL_PORTS,
        common::EXPECTATION_LIFETIME,
        common::EXPECTATIONS,
        common::INTERNAL,
        common::TENANTS,
        common::INTERFACES,
        common::SHADOW,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[69]");

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Udp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 69,
    lifetime: Duration::from_secs(60),
    expectations: 1,
    most_expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Gateway {
    common::read(&PROTOCOL, &alg.table(&SECTION), claims)
}

pub(crate) fn print(tftp: &Gateway, out: &mut Printer) {
    common::print(&PROTOCOL, tftp, out);
}
