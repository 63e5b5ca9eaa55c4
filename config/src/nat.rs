//! `[nat]`: external addresses, who uses them, and which internal servers the world may reach.

pub(crate) mod forward;
pub(crate) mod pool;
pub(crate) mod rule;

use crate::interface::Draft;
use crate::model::{Nat, Route};
use crate::print::Printer;
use crate::read::{Located, Table};
use crate::schema::{Form, Section};

/// Holds the three lists and no key of its own.
pub(crate) const SECTION: Section = Section { path: "nat", form: Form::Table, about: "", keys: &[] };

/// Reads the table.
pub(crate) fn read<'a>(root: &Table<'a>, interfaces: &[Draft<'a>], routes: &[Located<'a, Route>]) -> Nat {
    let table = root.table(&SECTION);
    let pools = pool::read(&table, interfaces, routes);
    let rules = rule::read(&table, &pools);
    let forwards = forward::read(&table, &pools, interfaces, routes);
    Nat { pools: pools.into_iter().map(pool::Draft::into_model).collect(), rules, forwards }
}

/// Prints the three lists.
pub(crate) fn print(nat: &Nat, out: &mut Printer) {
    pool::print(&nat.pools, out);
    rule::print(&nat.rules, &nat.pools, out);
    forward::print(&nat.forwards, out);
}
