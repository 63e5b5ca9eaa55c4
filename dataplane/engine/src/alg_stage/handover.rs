//! Queues to the owners of ALG flows and of fragmented datagrams: one of each per thread, filled by all others.
//!
//! A flow under an ALG has one owner, fixed at its SYN, so its dialogue state needs no lock. Whoever
//! receives a packet of it hands it over here. Order within a flow's direction is kept, because one NIC
//! queue, and so one worker, receives a direction. Fragments have queues of their own, so that a flood of them
//! takes no room from ALG flows.

use crossbeam::queue::ArrayQueue;

use crate::ids::{InterfaceId, WorkerId};
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
    /// Where it came in.
    pub came_in: InterfaceId,
    /// Its session; may have ended on the way.
    pub session: Handle,
    /// The side it came from.
    pub facing: Facing,
}

/// A fragment on its way to the worker that owns its datagram.
#[derive(Debug)]
pub struct HandedFragment<F> {
    /// The frame.
    pub frame: F,
    /// Its headers.
    pub view: Ipv4View,
    /// Where it came in.
    pub interface: InterfaceId,
}

/// Two bounded queues per thread.
#[derive(Debug)]
pub struct Handover<F> {
    queues: Box<[ArrayQueue<Handed<F>>]>,
    fragments: Box<[ArrayQueue<HandedFragment<F>>]>,
}

impl<F> Handover<F> {
    /// Queues for `threads` threads, each one for `packets` packets.
    #[must_use]
    pub fn new(threads: usize, packets: usize) -> Self {
        let packets = packets.max(1);
        Self {
            queues: (0..threads).map(|_| ArrayQueue::new(packets)).collect(),
            fragments: (0..threads).map(|_| ArrayQueue::new(packets)).collect(),
        }
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

    /// Whether no packet is on its way to `owner`.
    #[must_use]
    pub fn is_empty(&self, owner: WorkerId) -> bool {
        self.queues.get(usize::from(owner.0)).is_none_or(ArrayQueue::is_empty)
    }

    /// Hands a fragment to `owner`.
    ///
    /// # Errors
    /// Gives it back when the queue is full; its datagram is lost.
    pub fn push_fragment(&self, owner: WorkerId, handed: HandedFragment<F>) -> Result<(), HandedFragment<F>> {
        match self.fragments.get(usize::from(owner.0)) {
            Some(queue) => queue.push(handed),
            None => Err(handed),
        }
    }

    /// The oldest fragment for `owner`.
    #[must_use]
    pub fn pop_fragment(&self, owner: WorkerId) -> Option<HandedFragment<F>> {
        self.fragments.get(usize::from(owner.0))?.pop()
    }
}
