//! What belongs to a session beside its line: found by its slot, and there for those slots only that have it
//! ([`super::slots`]).

use super::slots::Capacity;
use super::{AlgOwner, NewSession};
use crate::nat::tcp_window::TcpWindow;
use crate::table::slots::Handle;
use crate::table::sync::{AtomicU32, AtomicU64, Ordering};

/// The parts of all sessions.
#[derive(Debug)]
pub(super) struct Parts {
    /// Slot of the subscriber that a session is counted for: of every one.
    pub(super) subscribers: Box<[AtomicU32]>,
    /// Touched by TCP and SCTP packets only.
    pub(super) windows: Box<[TcpWindow]>,
    pub(super) relations: Box<[Relations]>,
}

impl Parts {
    pub(super) fn new(capacity: Capacity) -> Self {
        let Capacity { sessions, tcp, related } = capacity.bounded();
        Self {
            subscribers: (0..sessions).map(|_| AtomicU32::new(0)).collect(),
            windows: (0..tcp).map(|_| TcpWindow::default()).collect(),
            relations: (0..related).map(|_| Relations::default()).collect(),
        }
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
