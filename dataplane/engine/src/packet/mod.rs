//! Packets as bytes: the only place where wire order is seen.
//!
//! [`parse`](parse::parse) turns a frame into offsets and host-order values once; everything above works
//! on those. All later writes to a packet go through [`rewrite`] (in place) or [`build`] (new packets),
//! so that checksums are kept in one place.
//!
//! Addresses are `u32` in host order here and in every key; `Ipv4Addr` is for the edges.

pub mod arp;
pub mod build;
pub(crate) mod bytes;
pub mod checksum;
pub mod crc32c;
pub mod datagram;
pub mod icmp_error;
pub mod other;
pub mod parse;
pub mod plain;
pub mod rewrite;
pub mod sctp;
pub mod shift;
pub mod vec_frame;

#[cfg(test)]
pub(crate) mod tests;

/// Length of an Ethernet header without VLAN tag, bytes.
pub const ETHERNET_BYTES: usize = 14;
/// Length of one 802.1Q tag, bytes.
pub const VLAN_BYTES: usize = 4;
/// Length of an IPv4 header without options, bytes.
pub const IPV4_BYTES: usize = 20;
/// Length of a UDP header, bytes.
pub const UDP_BYTES: usize = 8;
/// Length of a TCP header without options, bytes.
pub const TCP_BYTES: usize = 20;
/// Length of the fixed part of an ICMP message, bytes.
pub const ICMP_BYTES: usize = 8;
/// Length of an ICMP timestamp or timestamp reply (RFC 792), bytes.
pub const ICMP_TIMESTAMP_BYTES: usize = 20;
/// Length of an ARP packet for Ethernet and IPv4, bytes.
pub const ARP_BYTES: usize = 28;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86DD;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88A8;

/// IPv4 protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IPv4 protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IPv4 protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IPv4 protocol number of DCCP.
pub const PROTOCOL_DCCP: u8 = 33;
/// IPv4 protocol number of GRE.
pub const PROTOCOL_GRE: u8 = 47;
/// IPv4 protocol number of the IP authentication header.
pub const PROTOCOL_AH: u8 = 51;
/// IPv4 protocol number of SCTP.
pub const PROTOCOL_SCTP: u8 = 132;
/// IPv4 protocol number of UDP-Lite.
pub const PROTOCOL_UDPLITE: u8 = 136;

/// The Ethernet broadcast address.
pub const BROADCAST_MAC: [u8; 6] = [0xFF; 6];
