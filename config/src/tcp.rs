//! `[tcp]`: what is done to TCP beyond its translation.

use std::time::Duration;

use crate::model::{Tcp, UnsolicitedSyn};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};
use crate::{duration, timeouts};

pub(crate) const SECTION: Section = Section {
    path: "tcp",
    form: Form::Table,
    about: "What is done to TCP beyond its translation.",
    keys: &[MSS_CLAMP, UNSOLICITED_SYN, PRESSED_HALF_OPEN],
};

const MSS_CLAMP: Key = Key {
    name: "mss_clamp",
    example: "true",
    reason: "Whether SYNs announce no more than both MTUs carry: path MTU discovery fails too often.",
};
const UNSOLICITED_SYN: Key = Key {
    name: "unsolicited_syn",
    example: "\"silent\"",
    reason: "silent, or unreachable: ICMP after the 6 s in which the inside may open (RFC 5382 REQ-4).",
};
const PRESSED_HALF_OPEN: Key = Key {
    name: "pressed_half_open",
    example: "\"30s\"",
    reason: "Life of half-open sessions begun while three quarters of tables.half_open are used; \
             by default timeouts.tcp_transitory, as RFC 5382 REQ-5 asks.",
};

const UNSOLICITED: Choices<UnsolicitedSyn> =
    &[("silent", UnsolicitedSyn::Silent), ("unreachable", UnsolicitedSyn::Unreachable)];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Tcp {
    let table = root.table(&SECTION);
    let pressed = value::duration(Duration::from_secs(5)..=timeouts::LONGEST);
    Tcp {
        mss_clamp: table.get(&MSS_CLAMP, value::boolean).unwrap_or(true),
        unsolicited_syn: table
            .get(&UNSOLICITED_SYN, value::choice(UNSOLICITED))
            .unwrap_or(UnsolicitedSyn::Silent),
        pressed_half_open: table.get(&PRESSED_HALF_OPEN, pressed),
    }
}

/// Prints the table.
pub(crate) fn print(tcp: &Tcp, out: &mut Printer) {
    out.table(&SECTION)
        .key(&MSS_CLAMP, tcp.mss_clamp)
        .key(&UNSOLICITED_SYN, quoted(value::word_of(UNSOLICITED, tcp.unsolicited_syn)));
    if let Some(pressed) = tcp.pressed_half_open {
        out.key(&PRESSED_HALF_OPEN, quoted(duration::print(pressed)));
    }
}
