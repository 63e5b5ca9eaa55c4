//! `[nat]`: external addresses, who uses them and how much of them, and which internal servers the
//! world may reach.

pub(crate) mod forward;
pub(crate) mod limits;
pub(crate) mod pool;
pub(crate) mod rule;
pub(crate) mod statics;

use crate::interface::Draft;
use crate::model::{Nat, Route};
use crate::print::Printer;
use crate::read::{Located, Table};
use crate::schema::{Form, Section};

/// Holds the lists and tables below it and no key of its own.
pub(crate) const SECTION: Section = Section { path: "nat", form: Form::Table, about: "", keys: &[] };

/// Reads the table; the session table has room for `table_sessions`.
pub(crate) fn read<'a>(
    root: &Table<'a>,
    interfaces: &[Draft<'a>],
    routes: &[Located<'a, Route>],
    table_sessions: usize,
) -> Nat {
    let table = root.table(&SECTION);
    let pools = pool::read(&table, interfaces, routes);
    let statics = statics::read(&table, &pools, interfaces, routes);
    let rules = rule::read(&table, &pools, &statics, interfaces);
    let forwards = forward::read(&table, &pools, &statics, interfaces, routes);
    let limits = limits::read(&table, &pools, table_sessions);
    let hold = limits::read_hold(&table);
    pools.iter().enumerate().for_each(|(index, pool)| pool.refuse_too_many_hosts(index, &rules));
    let pools = pools.into_iter().map(pool::Draft::into_model).collect();
    let statics = statics.into_iter().map(statics::Draft::into_model).collect();
    Nat { pools, statics, rules, forwards, limits, hold }
}

/// Prints all of it.
pub(crate) fn print(nat: &Nat, out: &mut Printer) {
    pool::print(&nat.pools, out);
    statics::print(&nat.statics, out);
    rule::print(&nat.rules, &nat.pools, out);
    forward::print(&nat.forwards, out);
    limits::print(&nat.limits, &nat.hold, out);
}
