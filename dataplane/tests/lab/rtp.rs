//! RTP (RFC 3550) in captures: what was sent, and whether all of it arrived.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::capture::udp_payload;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where from.
    pub source: SocketAddrV4,
    /// Where to.
    pub destination: SocketAddrV4,
    /// Header and media.
    pub bytes: Vec<u8>,
}

/// The packets in a capture whose payload is PCMU (type 0), in order.
pub fn packets(frames: &[Vec<u8>]) -> Vec<Packet> {
    let packet = |frame: &Vec<u8>| {
        let bytes = udp_payload(frame).filter(|payload| payload.len() >= 12 && payload[0] == 0x80)?;
        let is_pcmu = bytes[1] & 0x7f == 0;
        let ip = &frame[14..];
        let udp = &ip[usize::from(ip[0] & 0x0f) * 4..];
        let endpoint = |address: &[u8], l4_port: &[u8]| {
            let address: [u8; 4] = address.try_into().expect("four bytes");
            SocketAddrV4::new(
                Ipv4Addr::from(address),
                u16::from_be_bytes(l4_port.try_into().expect("two bytes")),
            )
        };
        is_pcmu.then(|| Packet {
            source: endpoint(&ip[12..16], &udp[..2]),
            destination: endpoint(&ip[16..20], &udp[2..4]),
            bytes: bytes.to_vec(),
        })
    };
    frames.iter().filter_map(packet).collect()
}

/// What may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// One run among so many at the beginning: media and its description overtook each other.
    pub early: usize,
    /// So many at the end: sent after a BYE had passed, which the sender had not seen yet.
    pub late: usize,
    /// One in five, and others may come twice or late: the cable is a bad one.
    pub loss: bool,
}

/// Expects what an address sent on one cable to be on the other, packet by packet in the same order, and at least so many.
pub fn assert_arrived(
    sent: &[Packet],
    from: Ipv4Addr,
    arrived: &[Packet],
    least: usize,
    tolerance: Tolerance,
) {
    let sent: Vec<&[u8]> =
        sent.iter().filter(|packet| *packet.source.ip() == from).map(|packet| &packet.bytes[..]).collect();
    assert!(sent.len() >= least, "{from} sent {} packets only", sent.len());
    let of_sender: HashSet<&[u8]> = sent.iter().copied().collect();
    let arrived: Vec<&[u8]> =
        arrived.iter().map(|packet| &packet.bytes[..]).filter(|bytes| of_sender.contains(bytes)).collect();
    if tolerance.loss {
        let arrived: HashSet<&[u8]> = arrived.into_iter().collect();
        let wanted = sent.len().saturating_sub(tolerance.early) * 4 / 5;
        assert!(arrived.len() >= wanted, "{} of {} packets from {from}", arrived.len(), sent.len());
        return;
    }
    let has_arrived: HashSet<&[u8]> = arrived.iter().copied().collect();
    let missing: Vec<usize> = (0..sent.len()).filter(|&at| !has_arrived.contains(sent[at])).collect();
    let (early, late): (Vec<usize>, Vec<usize>) = missing.iter().partition(|at| **at < tolerance.early);
    let last = sent.len();
    let is_one_run = early.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let is_at_the_end = late.iter().rev().zip(1..).all(|(at, index)| at + index == last);
    let is_borne = is_one_run && is_at_the_end && late.len() <= tolerance.late;
    assert!(is_borne, "of {last} packets from {from} did not arrive: {early:?} and {late:?}");
    let expected: Vec<&[u8]> = sent.iter().copied().filter(|bytes| has_arrived.contains(bytes)).collect();
    assert!(arrived == expected, "packets from {from} arrived twice, or in another order");
}
