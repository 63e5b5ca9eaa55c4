//! What belongs to a session beside its line: found by its slot, and there for those slots only that have it
//! ([`super::slots`]).

use super::slots::Capacity;
use super::{AlgOwner, NewSession};
use crate::nat::tcp_window::TcpWindow;
use crate::table::slots::Handle;
use crate::table::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Tick;

/// The parts of all sessions.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) cold: Box<[Cold]>,
    /// Touched by TCP and SCTP packets only.
    pub(super) windows: Box<[TcpWindow]>,
    pub(super) relations: Box<[Relations]>,
}

impl Parts {
    pub(super) fn new(capacity: Capacity) -> Self {
        let Capacity { sessions, tcp, related } = capacity.bounded();
        Self {
            cold: (0..sessions).map(|_| Cold::default()).collect(),
            windows: (0..tcp).map(|_| TcpWindow::default()).collect(),
            relations: (0..related).map(|_| Relations::default()).collect(),
        }
    }
}

/// What only the slow path reads: of every session.
#[derive(Debug, Default)]
pub(super) struct Cold {
    /// Tick of creation.
    pub(super) created: AtomicU32,
    /// Slot of the subscriber that it is counted for.
    pub(super) subscriber: AtomicU32,
    /// Second, modulo 2^28 (bits 4..32), and ICMP errors in it.
    icmp_errors: AtomicU32,
}

impl Cold {
    pub(super) fn fill(&self, new: &NewSession, now: Tick) {
        // Relaxed, here and below: each word stands for itself, and the session's keys are published later.
        self.created.store(now.0, Ordering::Relaxed);
        self.subscriber.store(new.subscriber, Ordering::Relaxed);
        self.icmp_errors.store(0, Ordering::Relaxed);
    }

    /// Counts an ICMP error in `second`. `false`: there were `limit`, at most 15, in it before.
    pub(super) fn admit_icmp_error(&self, second: u32, limit: u32) -> bool {
        let admit = |word: u32| {
            let so_far = if word >> 4 == second << 4 >> 4 { word & 0xf } else { 0 };
            (so_far < limit).then_some((second << 4) | (so_far + 1))
        };
        self.icmp_errors.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }
}

/// To whom a session belongs: of one that an ALG reads or has announced, or with two mappings.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// Handle of the parent, or [`NO_PARENT`].
    parent: AtomicU64,
    /// Live sessions that name this one as their parent.
    pub(super) children: AtomicU32,
    /// Owner of the ALG flow (low half), and its protocol's number + 1.
    pub(super) alg_owner: AtomicU32,
    /// Mapping of the remote end + 1, or 0.
    pub(super) remote_mapping: AtomicU32,
    /// By how much sequence numbers are shifted, while the state word says that they are.
    pub(super) shifts: AtomicU32,
}

impl Relations {
    pub(super) fn fill(&self, new: &NewSession) {
        self.parent.store(new.parent.map_or(NO_PARENT, Handle::to_u64), Ordering::Relaxed);
        self.children.store(0, Ordering::Relaxed);
        let word =
            |owner: AlgOwner| ((u32::from(owner.protocol.number()) + 1) << 16) | u32::from(owner.thread.0);
        self.alg_owner.store(new.alg_owner.map_or(0, word), Ordering::Relaxed);
        let remote = new.remote_mapping.map_or(0, |mapping| mapping + 1);
        self.remote_mapping.store(remote, Ordering::Relaxed);
    }

    pub(super) fn parent(&self) -> Option<Handle> {
        match self.parent.load(Ordering::Relaxed) {
            NO_PARENT => None,
            parent => Some(Handle::from_u64(parent)),
        }
    }
}

const NO_PARENT: u64 = u64::MAX;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn ten_icmp_errors_a_second_are_admitted() {
        let cold = Cold::default();
        let admitted = |second| (0..20).filter(|_| cold.admit_icmp_error(second, 10)).count();
        assert_eq!([admitted(5), admitted(5), admitted(6)], [10, 0, 10]);
        assert_eq!([admitted(u32::MAX), admitted(u32::MAX)], [10, 0]);
    }
}
