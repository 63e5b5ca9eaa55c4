//! ARP: answers, learns, announces (RFC 826, RFC 5227).
//!
//! Answered: requests for an interface's own addresses, and on external interfaces for the NAT's external
//! addresses. Learnt: senders inside the connected prefix, and only by a reply we asked for or by a
//! request addressed to us; anything else can at most move an entry that is resolved already (RFC 826).
//! A packet that claims an address algate speaks for is counted as a conflict and teaches nothing.

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::packet::arp::{ArpOperation, ArpPacket};
use crate::packet::{BROADCAST_MAC, build};
use crate::router::egress::{Context, send_arp};
use crate::router::interface::Interface;
use crate::router::neighbor::Proof;

/// Handles the ARP packet `offset` bytes into `frame`, received on `interface`. An answer leaves in the
/// same frame.
///
/// # Errors
///
/// Why the packet is not believed; the caller counts it.
pub fn receive<P: PacketIo>(
    context: &Context<'_>,
    io: &mut P,
    mut frame: P::Frame,
    offset: usize,
    interface: InterfaceId,
) -> Result<(), DropReason> {
    let router = context.router;
    let Some(interface) = router.interfaces.of(interface) else { return Err(DropReason::UnknownVlan) };
    if !frame.linearize() {
        return Err(DropReason::ChainedHeaders);
    }
    let packet = ArpPacket::parse(frame.head().get(offset..).unwrap_or_default())?;
    if packet.sender_mac == interface.mac {
        // Our own words, reflected by a loop or a ring.
        return Err(DropReason::BadArp);
    }
    let is_probe = packet.sender == 0;
    if !is_probe {
        if router.answers_for(interface.id, packet.sender) {
            return Err(DropReason::AddressConflict);
        }
        if !interface.is_connected(packet.sender) {
            return Err(DropReason::BadArp);
        }
    }
    let is_for_us = router.answers_for(interface.id, packet.target);
    if !is_probe {
        let proof = match packet.operation {
            ArpOperation::Request if is_for_us => Proof::Request,
            ArpOperation::Reply if is_for_us => Proof::Reply,
            ArpOperation::Request | ArpOperation::Reply => Proof::Overheard,
        };
        router.neighbors.learn(interface.id, packet.sender, packet.sender_mac, proof, context.now);
    }
    if is_for_us && packet.operation == ArpOperation::Request {
        let answer = ArpPacket {
            operation: ArpOperation::Reply,
            sender_mac: interface.mac,
            sender: packet.target,
            target_mac: packet.sender_mac,
            target: packet.sender,
        };
        if !build::arp(&mut frame, packet.sender_mac, interface.vlan, &answer) {
            return Err(DropReason::NoHeadroom);
        }
        io.transmit(interface.nic_port, frame);
    }
    Ok(())
}

/// Announces own addresses on every interface, and on external ones the NAT's addresses inside the
/// connected prefixes, so that neighbours drop what they remember of another box (RFC 5227 section 2.3).
/// At most [`ANNOUNCED_PER_INTERFACE`] NAT addresses an interface; returns how many were left out. Neighbours
/// find those when they ask.
pub fn announce<P: PacketIo>(context: &Context<'_>, io: &mut P) -> usize {
    let mut left_out = 0;
    for interface in context.router.interfaces.iter() {
        for own in &interface.addresses {
            announce_one(context, io, interface, own.address);
        }
        let mut room = ANNOUNCED_PER_INTERFACE;
        for own in &interface.addresses {
            for (first, last) in context.router.nat_addresses_in(interface, own) {
                let count = (last - first) as usize + 1;
                let announced = count.min(room);
                (first..=last)
                    .take(announced)
                    .for_each(|address| announce_one(context, io, interface, address));
                room -= announced;
                left_out += count - announced;
            }
        }
    }
    left_out
}

fn announce_one<P: PacketIo>(context: &Context<'_>, io: &mut P, interface: &Interface, address: u32) {
    let packet = ArpPacket {
        operation: ArpOperation::Request,
        sender_mac: interface.mac,
        sender: address,
        target_mac: [0; 6],
        target: address,
    };
    send_arp(context, io, interface, BROADCAST_MAC, &packet);
}

/// NAT addresses that one interface announces at start.
pub const ANNOUNCED_PER_INTERFACE: usize = 256;
