//! `[control]`: the Unix socket that `algate show` speaks to.

use std::path::PathBuf;

use crate::model::Control;
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "control",
    form: Form::Table,
    about: "The Unix socket that `algate show` speaks to.",
    keys: &[SOCKET],
};

const SOCKET: Key = Key {
    name: "socket",
    example: "\"/run/algate/algate.sock\"",
    reason: "Absolute path, at most 107 bytes; /run is empty after a reboot, so nothing stale remains.",
};

/// Reads the table.
pub(crate) fn read(root: &Table<'_>) -> Control {
    let table = root.table(&SECTION);
    let default = || PathBuf::from("/run/algate/algate.sock");
    Control { socket: table.get(&SOCKET, value::socket_path).unwrap_or_else(default) }
}

/// Prints the table.
pub(crate) fn print(control: &Control, out: &mut Printer) {
    out.table(&SECTION).key(&SOCKET, quoted(control.socket.display()));
}
