//! Queues to the owners of ALG flows: one per thread, filled by all others.
//!
//! A flow under an ALG has one owner, fixed at its SYN, so its dialogue state needs no lock. Whoever
//! receives a packet of it hands it over here. Order within a flow's direction is kept, because one NIC
//! queue, and so one worker, receives a direction.

use crossbeam::queue::ArrayQueue;

use crate::ids::WorkerId;
use crate::nat::session::Facing;
use crate::packet::parse::Ipv4View;
use crate::table::slots::Handle;

/// A packet of an ALG flow on its way to the owner.
#[derive(Debug)]
pub struct Handed<F> {
    /// The frame, in one segment.
    pub frame: F,
    /// Its headers.
    pub view: Ipv4View,
    /// Its session; may have ended on the way.
    pub session: Handle,
    /// The side it came from.
    pub facing: Facing,
}

/// One bounded queue per thread.
#[derive(Debug)]
pub struct Handover<F> {
    queues: Box<[ArrayQueue<Handed<F>>]>,
}

impl<F> Handover<F> {
    /// Queues for `threads` threads, each for `packets` packets.
    #[must_use]
    pub fn new(threads: usize, packets: usize) -> Self {
        Self { queues: (0..threads).map(|_| ArrayQueue::new(packets.max(1))).collect() }
    }

    /// Hands a packet to `owner`.
    ///
    /// # Errors
    /// Gives it back when the queue is full; TCP sends it again.
    pub fn push(&self, owner: WorkerId, handed: Handed<F>) -> Result<(), Handed<F>> {
        match self.queues.get(usize::from(owner.0)) {
            Some(queue) => queue.push(handed),
            None => Err(handed),
        }
    }

    /// The oldest packet for `owner`.
    #[must_use]
    pub fn pop(&self, owner: WorkerId) -> Option<Handed<F>> {
        self.queues.get(usize::from(owner.0))?.pop()
    }
}
