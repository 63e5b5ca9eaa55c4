//! Loom models of what the workers share above the tables: each is one race, seen in every interleaving up to its
//! bound. See [`crate::table::sync`] for how to run them and what loom cannot show.
//!
//! Bodies are small: one race, two or three threads, tables of two or three entries. What takes longer, whole
//! flows that open, answer and expire, is left to the models of the engine's integration tests (`shuttle_`).

mod expectation;
mod mapping;
mod session;
mod subscriber;

use std::sync::Arc;

use loom::thread;

use crate::nat::key::Endpoint;
use crate::table::hash::HashKey;
pub(crate) use crate::table::models::model;

/// Runs `other` in a second thread and `ours` in this one, on the same table.
pub(crate) fn race<T: Send + Sync + 'static, A: 'static, B>(
    table: &Arc<T>,
    other: impl FnOnce(&T) -> A + 'static,
    ours: impl FnOnce(&T) -> B,
) -> (A, B) {
    let shared = Arc::clone(table);
    let thread = thread::spawn(move || other(&shared));
    let ours = ours(table);
    (thread.join().expect("the other thread ends"), ours)
}

pub(crate) const fn seed() -> [u64; 4] {
    [1, 2, 3, 4]
}

pub(crate) fn key() -> HashKey {
    HashKey::from_seed(seed())
}

pub(crate) const HOST: Endpoint = Endpoint::new(0x0a00_0002, 5_000);
pub(crate) const OTHER_HOST: Endpoint = Endpoint::new(0x0a00_0003, 5_000);
pub(crate) const PUBLIC: Endpoint = Endpoint::new(0xcb00_710a, 20_000);
pub(crate) const REMOTE: Endpoint = Endpoint::new(0xc633_6401, 53);
