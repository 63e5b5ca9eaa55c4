//! IPv4 packets made byte by byte: what the kernel of these machines has no protocol for, fragments in an order of our
//! choice, and floods. The sums are computed here, independently of the engine.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

use super::{Lab, PATIENCE, Side};

/// Raw sockets of one protocol in a namespace.
pub struct Raw {
    sending: OwnedFd,
    receiving: OwnedFd,
}

impl Raw {
    /// Sends any IPv4 packets, and receives those of one protocol. To have it open keeps the kernel from answering that
    /// the protocol is unreachable.
    pub fn open(lab: &Lab, side: Side, protocol: u8) -> Self {
        let raw = |number: u8| {
            let protocol = NonZeroU32::new(number.into()).map(Protocol::from_raw);
            socket(AddressFamily::INET, SocketType::RAW, protocol).expect("root may open raw sockets")
        };
        let (sending, receiving) = lab.within(side, || (raw(ONLY_SENDS), raw(protocol)));
        set_socket_timeout(&receiving, Timeout::Recv, Some(PATIENCE)).expect("it takes a timeout");
        Self { sending, receiving }
    }

    /// Sends one packet, its header included, where its header says; `false` if the queue is full.
    pub fn send(&self, packet: &[u8]) -> bool {
        let octets: [u8; 4] = packet[16..20].try_into().expect("four bytes");
        let destination = SocketAddrV4::new(Ipv4Addr::from(octets), 0);
        sendto(&self.sending, packet, SendFlags::empty(), &destination).is_ok()
    }

    /// The next packet, its header included; silence for [`PATIENCE`] fails.
    pub fn receive(&self) -> Vec<u8> {
        let mut packet = vec![0; 65_535];
        let (length, _) =
            recv(&self.receiving, packet.as_mut_slice(), RecvFlags::empty()).expect("a packet comes");
        packet.truncate(length);
        packet
    }
}

/// An IPv4 packet without options.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    piece(source, destination, protocol, 1, 0, payload)
}

/// A part of a datagram: `offset_field` is the header's word with offset in units of eight and the bit that more follow.
pub fn piece(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    identification: u16,
    offset_field: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend(identification.to_be_bytes());
    packet.extend(offset_field.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = internet_checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram with its header.
pub fn udp(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut datagram = Vec::with_capacity(usize::from(length));
    for word in [source.port(), destination.port(), length, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    let pseudo = pseudo_header(*source.ip(), *destination.ip(), 17, length);
    let sum = match internet_checksum(&[&pseudo, &datagram]) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// The first segment of a TCP connection, without options.
pub fn tcp_syn(source: SocketAddrV4, destination: SocketAddrV4) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    let sum = internet_checksum(&[&pseudo_header(*source.ip(), *destination.ip(), 6, 20), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An SCTP packet (RFC 9260 section 3): common header and chunks.
pub fn sctp(source_port: u16, destination_port: u16, tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source_port.to_be_bytes());
    packet.extend(destination_port.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(chunks);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// Expects the header's sum to be right, and these addresses in it; returns the payload.
pub fn payload_between(packet: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> &[u8] {
    let header = usize::from(packet[0] & 0x0f) * 4;
    assert_eq!(internet_checksum(&[&packet[..header]]), 0, "IPv4 checksum of {packet:02x?}");
    assert_eq!(packet[12..16], source.octets(), "source of {packet:02x?}");
    assert_eq!(packet[16..20], destination.octets(), "destination of {packet:02x?}");
    &packet[header..]
}

/// The source of a packet.
pub fn source_of(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15])
}

/// Expects the CRC of an SCTP packet to be right.
pub fn assert_sctp_checksum(packet: &[u8]) {
    let mut zeroed = packet.to_vec();
    zeroed[8..12].fill(0);
    assert_eq!(crc32c(&zeroed).to_le_bytes(), packet[8..12], "SCTP checksum");
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    [&source.octets()[..], &destination.octets(), &[0, protocol, high, low]].concat()
}

/// The sum of RFC 1071 over parts of even length (the last may be odd); zero over data that contains its right sum.
fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&b| b.into())).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// CRC-32C, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The protocol number that makes a raw socket one that only sends, with headers.
const ONLY_SENDS: u8 = 255;
