//! `[alg.irc]`

use std::time::Duration;

use crate::alg::common::{self, Claims, Protocol};
use crate::model::{Irc, Transport};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "alg.irc",
    form: Form::Table,
    about: "IRC (RFC 2812): files and chats that users offer each other (DCC).",
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
        DCC_PEER,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[6667]");
const DCC_PEER: Key = Key {
    name: "dcc_peer",
    example: "\"any\"",
    reason: "Who may take an offer up: any, for IRC never tells the other user's address; server: only the IRC server.",
};
const PEERS: Choices<bool> = &[("any", true), ("server", false)];

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 6667,
    lifetime: Duration::from_secs(300),
    expectations: 8,
    most_expectations: 64,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Irc {
    let table = alg.table(&SECTION);
    Irc {
        gateway: common::read(&PROTOCOL, &table, claims),
        admits_any: table.get(&DCC_PEER, value::choice(PEERS)).unwrap_or(true),
    }
}

pub(crate) fn print(irc: &Irc, out: &mut Printer) {
    common::print(&PROTOCOL, &irc.gateway, out).key(&DCC_PEER, quoted(value::word_of(PEERS, irc.admits_any)));
}
