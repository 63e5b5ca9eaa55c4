//! RTP (RFC 3550) in captures: what was sent, and whether all of it arrived.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::capture::{Timed, udp_payload};

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it passed, in microseconds.
    pub at: u64,
    /// Where from.
    pub source: SocketAddrV4,
    /// Where to.
    pub destination: SocketAddrV4,
    /// Header and media.
    pub bytes: Vec<u8>,
}

/// The packets in a capture whose payload is PCMU (type 0), in order.
pub fn packets(frames: &[Timed]) -> Vec<Packet> {
    let packet = |(at, frame): &Timed| {
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
            at: *at,
            source: endpoint(&ip[12..16], &udp[..2]),
            destination: endpoint(&ip[16..20], &udp[2..4]),
            bytes: bytes.to_vec(),
        })
    };
    frames.iter().filter_map(packet).collect()
}

/// What may be missing besides what [`Talk`] explains.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// So many at the end, sent before a BYE had passed.
    pub late: usize,
    /// One in five, and others may come twice or late: the cable is a bad one.
    pub loss: bool,
}

/// When a call's media may pass, in microseconds; what a sender sends before and after may be lost.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    /// The caller was being sent the answer: it had left the gateway.
    pub answered: u64,
    /// A BYE was on a cable.
    pub ended: u64,
}

impl Talk {
    /// How many at either end may be lost: what was sent before the answer, or within a second of it to another place than in the end
    /// (which an answer had not named yet), and all behind a BYE.
    fn explained(self, sent: &[&Packet]) -> [usize; 2] {
        let Some(last) = sent.last() else { return [0; 2] };
        let is_elsewhere =
            |packet: &Packet| packet.at < self.answered + 1_000_000 && packet.destination != last.destination;
        let is_early = |packet: &&Packet| packet.at < self.answered || is_elsewhere(packet);
        let early = sent.iter().rposition(is_early).map_or(0, |at| at + 1);
        let late = sent.iter().filter(|packet| packet.at >= self.ended).count();
        [early, late]
    }
}

/// Expects what an address sent on one cable to be on the other, packet by packet in the same order, and at least so many.
pub fn assert_arrived(
    sent: &[Packet],
    from: Ipv4Addr,
    arrived: &[Packet],
    least: usize,
    tolerance: Tolerance,
    talk: Talk,
) {
    let sent: Vec<&Packet> = sent.iter().filter(|packet| *packet.source.ip() == from).collect();
    let [early_most, late_most] = talk.explained(&sent);
    let sent: Vec<&[u8]> = sent.iter().map(|packet| &packet.bytes[..]).collect();
    assert!(sent.len() >= least, "{from} sent {} packets only", sent.len());
    let of_sender: HashSet<&[u8]> = sent.iter().copied().collect();
    let arrived: Vec<&[u8]> =
        arrived.iter().map(|packet| &packet.bytes[..]).filter(|bytes| of_sender.contains(bytes)).collect();
    if tolerance.loss {
        let arrived: HashSet<&[u8]> = arrived.into_iter().collect();
        let wanted = sent.len().saturating_sub(early_most) * 4 / 5;
        assert!(arrived.len() >= wanted, "{} of {} packets from {from}", arrived.len(), sent.len());
        return;
    }
    let has_arrived: HashSet<&[u8]> = arrived.iter().copied().collect();
    let missing: Vec<usize> = (0..sent.len()).filter(|&at| !has_arrived.contains(sent[at])).collect();
    let (early, late): (Vec<usize>, Vec<usize>) = missing.iter().partition(|at| **at < early_most);
    let last = sent.len();
    let is_one_run = early.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let is_at_the_end = late.iter().rev().zip(1..).all(|(at, index)| at + index == last);
    let is_borne = is_one_run && is_at_the_end && late.len() <= late_most + tolerance.late;
    assert!(is_borne, "of {last} packets from {from} did not arrive: {early:?} and {late:?}");
    let expected: Vec<&[u8]> = sent.iter().copied().filter(|bytes| has_arrived.contains(bytes)).collect();
    assert!(arrived == expected, "packets from {from} arrived twice, or in another order");
}
