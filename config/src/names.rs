//! Names that entries give themselves and others refer to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::read::{Located, Place};
use crate::schema::enumerate;

/// The position of the entry that a name refers to; `names` are those of all entries, empty where one
/// could not be read. `what` says what they name.
pub(crate) fn find_by_name(wanted: &Located<'_, String>, what: &str, names: &[&str]) -> Option<usize> {
    let found = names.iter().position(|name| *name == wanted.value);
    let are_all_known = names.iter().all(|name| !name.is_empty());
    if found.is_none() && are_all_known {
        let shown: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        wanted.place.refuse(format!("names no {what}"), enumerate(what, &shown));
    }
    found
}

/// The names claimed so far in one list, with their places, to refuse one given twice.
#[derive(Default)]
pub(crate) struct Names<'a>(HashMap<String, Place<'a>>);

impl<'a> Names<'a> {
    /// Claims a name.
    pub(crate) fn claim(&mut self, name: &Option<Located<'a, String>>) {
        let Some(name) = name else { return };
        match self.0.entry(name.value.clone()) {
            Entry::Occupied(first) => name
                .place
                .refuse(format!("is taken already (line {})", first.get().line()), "choose another name"),
            Entry::Vacant(free) => {
                free.insert(name.place.clone());
            }
        }
    }
}
