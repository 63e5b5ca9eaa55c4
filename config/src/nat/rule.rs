//! `[[nat.rule]]`: which internal addresses use which pool; the first match counts.

use ipnet::Ipv4Net;

use crate::address;
use crate::model::{NatRule, Pool};
use crate::names;
use crate::nat::pool;
use crate::print::{Printer, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "nat.rule",
    form: Form::List,
    about: "Who is translated to which pool; the first match counts, no match means no translation.",
    keys: &[INTERNAL, POOL],
};

const INTERNAL: Key =
    Key { name: "internal", example: "\"10.0.0.0/24\"", reason: "Internal source addresses." };
const POOL: Key = Key { name: "pool", example: "\"public\"", reason: "The pool they leave from." };

/// Reads the list.
pub(crate) fn read<'a>(nat: &Table<'a>, pools: &[pool::Draft<'a>]) -> Vec<NatRule> {
    let mut seen: Vec<Located<'a, Ipv4Net>> = Vec::new();
    let mut rules = Vec::new();
    for table in nat.tables(&SECTION) {
        let internal = table.require(&INTERNAL, address::prefix);
        let pool = table.require(&POOL, value::name).and_then(|name| find_pool(&name, pools));
        let Some(internal) = internal else { continue };
        if let Some(earlier) = seen.iter().find(|earlier| earlier.value.contains(&internal.value)) {
            let problem = format!(
                "can never match: {} is matched first (line {})",
                earlier.value,
                earlier.place.line()
            );
            internal.place.refuse(problem, "move the narrower rule up, or remove it");
        }
        rules.push(NatRule { internal: internal.value, pool: pool.unwrap_or_default() });
        seen.push(internal);
    }
    rules
}

/// Prints the list.
pub(crate) fn print(rules: &[NatRule], pools: &[Pool], out: &mut Printer) {
    for rule in rules {
        let pool = pools.get(rule.pool).map_or("", |pool| pool.name.as_str());
        out.table(&SECTION).key(&INTERNAL, quoted(rule.internal)).key(&POOL, quoted(pool));
    }
}

fn find_pool(name: &Located<'_, String>, pools: &[pool::Draft<'_>]) -> Option<usize> {
    let names: Vec<&str> = pools.iter().map(|pool| pool.name()).collect();
    names::find_by_name(name, "pool", &names)
}
