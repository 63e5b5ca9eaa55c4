//! Which thread owns a control session.
//!
//! Mostly whoever has received its first packet, or the ALG core that its hash names. Where dialogues of one control session go on
//! over others between the same two hosts (`ProtocolId::moves_dialogues`), those hosts choose: their addresses, as they
//! know themselves and whatever the side, give the same thread for all of them. A keyed hash spreads the pairs; nothing
//! outside can compute whose sessions share a thread. Packets come to it by handover, as to any other owner.

use algate_config::Config;

use crate::ids::WorkerId;
use crate::nat::session::{AlgOwner, NewSession};
use crate::table::hash::HashKey;

/// The threads that own control sessions: the ALG cores, or all workers.
#[derive(Debug)]
pub(super) struct Owners {
    first: u16,
    count: u16,
    key: HashKey,
}

impl Owners {
    pub(super) fn new(config: &Config, key: &HashKey) -> Self {
        let workers = &config.workers;
        // Bounded by the machine's cores.
        let number = |cores: usize| u16::try_from(cores).unwrap_or(u16::MAX);
        let (first, count) = match workers.alg_cores.len() {
            0 => (0, number(workers.cores.len())),
            cores => (number(workers.cores.len()), number(cores)),
        };
        Self { first, count, key: key.clone() }
    }

    /// The owner of `new`, which an ALG reads: `asked`, unless its two hosts say otherwise.
    pub(super) fn of(&self, new: &NewSession, asked: AlgOwner) -> AlgOwner {
        if self.count <= 1 || !asked.protocol.moves_dialogues() {
            return asked;
        }
        let [one, other] = [new.internal_key, new.external_key].map(|key| u64::from(key.source().address));
        // The high half, as for fragments: the low bits choose places in tables.
        let hash = self.key.hash2(one.min(other), one.max(other)) >> 32;
        AlgOwner { thread: WorkerId(self.first + (hash % u64::from(self.count)) as u16), ..asked }
    }
}
