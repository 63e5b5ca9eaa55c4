//! The way out: Ethernet header, next hop, transmission; and the frames that wait for ARP.
//!
//! One [`Egress`] per worker. Waiting frames are few by design: 4 per neighbour, of which the latest are kept
//! (RFC 1122 section 2.3.2.2), and 64 per worker. They leave in the order they came, before any later frame
//! to the same neighbour that the same worker sends.

use std::collections::VecDeque;

use crate::counters::DropCounters;
use crate::drop_reason::DropReason;
use crate::fragment::cut::{CutError, cut};
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::packet::arp::{ArpOperation, ArpPacket};
use crate::packet::bytes::read_u16;
use crate::packet::{BROADCAST_MAC, ETHERTYPE_IPV4, build};
use crate::router::Router;
use crate::router::interface::Interface;
use crate::router::neighbor::{Lookup, NeighborRef, Request};
use crate::router::route::Hop;
use crate::time::Instant;

/// What every step of the router needs: the shared tables, where frames that die on their way out are
/// counted, the time.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Interfaces, routes, neighbours.
    pub router: &'a Router,
    /// Where they are counted: the worker's own.
    pub drops: &'a DropCounters,
    /// Time of the burst.
    pub now: Instant,
}

/// A next hop as sessions cache it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Outgoing interface.
    pub interface: InterfaceId,
    /// The neighbour on it.
    pub neighbor: NeighborRef,
}

/// A worker's way out.
#[derive(Debug)]
pub struct Egress<F> {
    waiting: VecDeque<Waiting<F>>,
    seen_epoch: u32,
    cuts: Cuts,
}

/// What was cut into fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// Packets.
    pub packets: u64,
    /// Fragments they became.
    pub fragments: u64,
}

#[derive(Debug)]
struct Waiting<F> {
    frame: F,
    l3_offset: usize,
    next_hop: NextHop,
}

impl<F> Default for Egress<F> {
    fn default() -> Self {
        Self { waiting: VecDeque::with_capacity(WAITING_PER_WORKER), seen_epoch: 0, cuts: Cuts::default() }
    }
}

impl<F: Frame> Egress<F> {
    /// Sends the IPv4 packet that begins `l3_offset` bytes into `frame` to `next_hop`, or keeps it until
    /// the neighbour has answered, or drops and counts it. The Ethernet header is written here, whatever
    /// stood in front.
    ///
    /// # Errors
    ///
    /// Gives the frame back when `next_hop` is of another time: route again ([`Router::next_hop`]).
    #[inline]
    pub fn send<P: PacketIo<Frame = F>>(
        &mut self,
        context: &Context<'_>,
        io: &mut P,
        frame: F,
        l3_offset: usize,
        next_hop: NextHop,
    ) -> Result<(), F> {
        match context.router.neighbors.mac(next_hop.neighbor) {
            Lookup::Known(mac) => {
                if !self.waiting.is_empty() {
                    self.flush(context, io);
                }
                self.transmit(context, io, frame, l3_offset, next_hop.interface, mac);
            }
            Lookup::Pending => self.wait(context, io, Waiting { frame, l3_offset, next_hop }),
            Lookup::Unreachable => context.drops.count(DropReason::NeighborUnreachable),
            Lookup::Gone => return Err(frame),
        }
        Ok(())
    }

    /// Sends a packet to `hop` that no session has cached.
    pub fn send_to<P: PacketIo<Frame = F>>(
        &mut self,
        context: &Context<'_>,
        io: &mut P,
        frame: F,
        l3_offset: usize,
        hop: Hop,
    ) {
        match context.router.neighbors.resolve(hop.interface, hop.address, context.now) {
            Ok(neighbor) => {
                let next_hop = NextHop { interface: hop.interface, neighbor };
                if self.send(context, io, frame, l3_offset, next_hop).is_err() {
                    // Freed by another worker since the line above: as good as unreachable.
                    context.drops.count(DropReason::NeighborUnreachable);
                }
            }
            Err(reason) => context.drops.count(reason),
        }
    }

    /// Sends due ARP requests and the frames whose neighbour has answered; drops those whose neighbour
    /// has not. Call it once per burst: two loads when there is nothing to do.
    pub fn poll<P: PacketIo<Frame = F>>(&mut self, context: &Context<'_>, io: &mut P) {
        context.router.neighbors.sweep(context.now, |request| ask(context, io, request));
        if !self.waiting.is_empty() && context.router.neighbors.epoch() != self.seen_epoch {
            self.flush(context, io);
        }
    }

    /// Frames that wait for ARP.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What was cut since the last call.
    pub fn take_cuts(&mut self) -> Cuts {
        std::mem::take(&mut self.cuts)
    }

    #[cold]
    fn wait<P: PacketIo<Frame = F>>(&mut self, context: &Context<'_>, io: &mut P, waiting: Waiting<F>) {
        let neighbor = waiting.next_hop.neighbor;
        let is_same = |other: &Waiting<F>| other.next_hop.neighbor == neighbor;
        if self.waiting.iter().filter(|other| is_same(other)).count() >= WAITING_PER_NEIGHBOR
            && let Some(oldest) = self.waiting.iter().position(is_same)
        {
            self.waiting.remove(oldest);
            context.drops.count(DropReason::NeighborQueueFull);
        }
        if self.waiting.len() >= WAITING_PER_WORKER {
            context.drops.count(DropReason::NeighborQueueFull);
            return;
        }
        self.waiting.push_back(waiting);
        if let Some(request) = context.router.neighbors.advance(neighbor, context.now) {
            ask(context, io, request);
        }
    }

    #[cold]
    fn flush<P: PacketIo<Frame = F>>(&mut self, context: &Context<'_>, io: &mut P) {
        // Before the lookups: what changes after this line is seen at the next poll.
        self.seen_epoch = context.router.neighbors.epoch();
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { return };
            match context.router.neighbors.mac(waiting.next_hop.neighbor) {
                Lookup::Known(mac) => {
                    let interface = waiting.next_hop.interface;
                    self.transmit(context, io, waiting.frame, waiting.l3_offset, interface, mac);
                }
                Lookup::Pending => self.waiting.push_back(waiting),
                Lookup::Unreachable | Lookup::Gone => context.drops.count(DropReason::NeighborUnreachable),
            }
        }
    }

    /// Puts the Ethernet header in front of the packet and hands the frame over; cuts what the interface
    /// does not take in one piece.
    #[inline]
    pub(crate) fn transmit<P: PacketIo<Frame = F>>(
        &mut self,
        context: &Context<'_>,
        io: &mut P,
        mut frame: F,
        l3_offset: usize,
        interface: InterfaceId,
        dst_mac: [u8; 6],
    ) {
        let Some(interface) = context.router.interfaces.of(interface) else {
            return context.drops.count(DropReason::NoRoute);
        };
        let l2_bytes = build::ethernet_bytes(interface.vlan);
        if place_l3(&mut frame, l3_offset, l2_bytes)
            && build::ethernet(frame.head_mut(), dst_mac, interface.mac, interface.vlan, ETHERTYPE_IPV4)
        {
            if frame.len() > l2_bytes + usize::from(interface.mtu) {
                return self.transmit_large(context, io, frame, interface);
            }
            io.transmit(interface.nic_port, frame);
        } else {
            context.drops.count(DropReason::NoHeadroom);
        }
    }

    /// A frame larger than the interface takes: cut into fragments, unless what is too much is no part of the
    /// packet.
    #[cold]
    fn transmit_large<P: PacketIo<Frame = F>>(
        &mut self,
        context: &Context<'_>,
        io: &mut P,
        mut frame: F,
        interface: &Interface,
    ) {
        let l2_bytes = build::ethernet_bytes(interface.vlan);
        if !frame.linearize() {
            return context.drops.count(DropReason::ChainedHeaders);
        }
        let packet_bytes = read_u16(frame.head(), l2_bytes + 2).unwrap_or(0);
        if packet_bytes <= interface.mtu {
            if frame.resize(l2_bytes + usize::from(packet_bytes)) {
                io.transmit(interface.nic_port, frame);
            }
            return;
        }
        let head = frame.head();
        let send = |io: &mut P, mut fragment: F| {
            if let (Some(to), Some(from)) = (fragment.head_mut().get_mut(..l2_bytes), head.get(..l2_bytes)) {
                to.copy_from_slice(from);
                io.transmit(interface.nic_port, fragment);
            }
        };
        let (fragments, outcome) = cut(io, head, l2_bytes, interface.mtu, send);
        if fragments > 0 {
            self.cuts.packets += 1;
            self.cuts.fragments += fragments;
        }
        match outcome {
            Ok(()) => {}
            Err(CutError::DontFragment) => context.drops.count(DropReason::FragmentationNeeded),
            Err(CutError::Malformed) => context.drops.count(DropReason::BadIpv4Header),
            Err(CutError::NoFrame) => context.drops.count(DropReason::MempoolExhausted),
        }
    }
}

/// Moves the start of the frame so that what begins at `l3_offset` begins at `l2_bytes`.
#[inline]
fn place_l3<F: Frame>(frame: &mut F, l3_offset: usize, l2_bytes: usize) -> bool {
    if l3_offset >= l2_bytes {
        l3_offset == l2_bytes || frame.shrink_front(l3_offset - l2_bytes)
    } else {
        frame.grow_front(l2_bytes - l3_offset)
    }
}

/// Sends an ARP request.
fn ask<P: PacketIo>(context: &Context<'_>, io: &mut P, request: Request) {
    let Some(interface) = context.router.interfaces.of(request.interface) else { return };
    let Some(sender) = interface.address_towards(request.address) else { return };
    let packet = ArpPacket {
        operation: ArpOperation::Request,
        sender_mac: interface.mac,
        sender,
        target_mac: [0; 6],
        target: request.address,
    };
    send_arp(context, io, interface, request.unicast.unwrap_or(BROADCAST_MAC), &packet);
}

/// Sends an ARP packet in a new frame.
pub(crate) fn send_arp<P: PacketIo>(
    context: &Context<'_>,
    io: &mut P,
    interface: &Interface,
    dst_mac: [u8; 6],
    packet: &ArpPacket,
) {
    let Some(mut frame) = io.alloc() else { return context.drops.count(DropReason::MempoolExhausted) };
    if build::arp(&mut frame, dst_mac, interface.vlan, packet) {
        io.transmit(interface.nic_port, frame);
    } else {
        context.drops.count(DropReason::NoHeadroom);
    }
}

/// Frames that wait for one neighbour, per worker.
pub const WAITING_PER_NEIGHBOR: usize = 4;
/// Frames that wait for all neighbours, per worker.
pub const WAITING_PER_WORKER: usize = 64;
