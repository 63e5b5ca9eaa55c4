//! RTP (RFC 3550) in captures: what was sent, and whether all of it arrived.

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

/// Expects what an address sent on one cable to be on the other, packet by packet in the same order, and `least` of it. The
/// first `early` may be missing: they were sent before the other end's description had passed. Returns how many there were.
pub fn assert_arrived(
    sent: &[Packet],
    from: Ipv4Addr,
    arrived: &[Packet],
    (least, early): (usize, usize),
) -> usize {
    let sent: Vec<&Packet> = sent.iter().filter(|packet| *packet.source.ip() == from).collect();
    let is_of_sender = |packet: &&Packet| sent.iter().any(|other| other.bytes == packet.bytes);
    let arrived: Vec<&[u8]> = arrived.iter().filter(is_of_sender).map(|packet| &packet.bytes[..]).collect();
    let missing = sent.len().checked_sub(arrived.len()).expect("nothing arrived twice");
    assert!(missing <= early, "{missing} of {} packets from {from} did not arrive", sent.len());
    assert!(sent.len() >= least, "{from} sent {} packets only", sent.len());
    let expected: Vec<&[u8]> = sent[missing..].iter().map(|packet| &packet.bytes[..]).collect();
    assert!(arrived == expected, "packets from {from} are missing in the middle, or in another order");
    arrived.len()
}
