//! Tests of the packet modules, against etherparse as the second opinion.

mod build;
mod checksum;
mod icmp_error;
mod parse;
mod rewrite;

use etherparse::{Ethernet2Header, IcmpEchoHeader, Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};

use super::PROTOCOL_UDP;
use super::parse::{Ipv4View, Parsed, ParsedKind, parse};
use crate::drop_reason::DropReason;
use crate::frame::RxChecksums;

pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const SRC: u32 = 0x0A00_0002;
pub(crate) const DST: u32 = 0xC633_6401;

/// A whole frame: UDP 4001 -> 53, with `payload`.
pub(crate) fn udp_frame(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC)
        .ipv4(SRC.to_be_bytes(), DST.to_be_bytes(), 64)
        .udp(4001, 53);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A whole frame: TCP 4001 -> 21, PSH and ACK, with a timestamp option and `payload`.
pub(crate) fn tcp_frame(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC)
        .ipv4(SRC.to_be_bytes(), DST.to_be_bytes(), 64)
        .tcp(4001, 21, 0x1122_3344, 8_192)
        .psh()
        .ack(0x5566_7788)
        .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
        .unwrap();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A whole frame: ICMP echo, identifier 7, sequence 1, with `payload`.
pub(crate) fn echo_frame(is_request: bool, payload: &[u8]) -> Vec<u8> {
    let echo = IcmpEchoHeader { id: 7, seq: 1 };
    let icmp_type = if is_request { Icmpv4Type::EchoRequest(echo) } else { Icmpv4Type::EchoReply(echo) };
    let builder = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC)
        .ipv4(SRC.to_be_bytes(), DST.to_be_bytes(), 64)
        .icmpv4(icmp_type);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// `frame` with an 802.1Q (or other) tag.
pub(crate) fn tagged(frame: &[u8], tag_type: u16, vlan: u16) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    bytes.extend(tag_type.to_be_bytes());
    bytes.extend(vlan.to_be_bytes());
    bytes.extend(&frame[12..]);
    bytes
}

/// `frame` (untagged IPv4) with `change` made to its header, and the header checksum computed anew.
pub(crate) fn with_header(frame: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let end = 14 + usize::from(bytes[14] & 0x0F) * 4;
    change(&mut bytes[14..end]);
    bytes[24..26].fill(0);
    let field = reference_checksum(&bytes[14..end]);
    bytes[24..26].copy_from_slice(&field.to_be_bytes());
    bytes
}

pub(crate) fn parse_frame(bytes: &[u8]) -> Result<Parsed, DropReason> {
    parse(bytes, bytes.len(), RxChecksums::default())
}

pub(crate) fn ipv4_view(bytes: &[u8]) -> Ipv4View {
    match parse_frame(bytes).unwrap().kind {
        ParsedKind::Ipv4(view) => view,
        ParsedKind::Arp { .. } => panic!("an ARP packet"),
    }
}

/// RFC 1071 section 4.1, word by word.
pub(crate) fn reference_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// Panics unless etherparse finds every checksum of the IPv4 frame right.
pub(crate) fn assert_checksums(frame: &[u8]) {
    let (ethernet, _) = Ethernet2Header::from_slice(frame).unwrap();
    assert!(matches!(ethernet.ether_type.0, 0x0800 | 0x8100), "EtherType {:?}", ethernet.ether_type);
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
    let (source, destination) = (header.source, header.destination);
    match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let expected =
                tcp.to_header().calc_checksum_ipv4_raw(source, destination, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), expected, "TCP checksum");
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            assert_eq!(ip.payload_ip_number().0, PROTOCOL_UDP);
            let expected =
                udp.to_header().calc_checksum_ipv4_raw(source, destination, udp.payload()).unwrap();
            let expected = if expected == 0 { 0xFFFF } else { expected };
            assert_eq!(udp.checksum(), expected, "UDP checksum");
        }
        Some(TransportSlice::Udp(_)) => {}
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!(reference_checksum(icmp.slice()), 0, "ICMP checksum");
        }
        other => panic!("no known transport: {other:?}"),
    }
}
