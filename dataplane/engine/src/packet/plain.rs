//! The ordinary packet: what the fast path reads of it, and writes.
//!
//! Ordinary is an Ethernet frame, untagged or with one tag, that carries an IPv4 packet without options, not a
//! fragment, with TCP or UDP in it. Nine of ten packets are, and for these fixed offsets, one check
//! of the length and whole words replace the steps of [`parse`](super::parse) and
//! [`rewrite`](super::rewrite). Everything else, and everything that is wrong with a packet, is theirs: here it only
//! says "not ordinary".
//!
//! Verified here: lengths and the IPv4 header checksum. The destination MAC address is the caller's to compare: it must
//! be the station's own. Martian addresses are not looked for, since no session has any.

use crate::frame::{RxChecksum, RxChecksums};
use crate::packet::checksum::{Delta, is_ipv4_header_valid};
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class};
use crate::packet::rewrite::TcpNumbers;
use crate::packet::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_VLAN, IPV4_BYTES, PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES,
    UDP_BYTES, VLAN_BYTES,
};

/// What decides the fate of an ordinary packet besides its flow, as far as possible in the words it came in: what is only
/// compared or passed on need not be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// The first 8 bytes of the IPv4 header: lengths, identification, fragment fields.
    first: u64,
    /// The next 4 bytes of the IPv4 header: TTL, protocol, checksum.
    middle: u32,
    /// Length of the L4 header, bytes. So wide that the record has no gap, which copies would have to keep.
    l4_bytes: u16,
    /// Where the IPv4 header begins, bytes.
    pub l3: u8,
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
}

/// Whose an ordinary packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Source address (high half), destination address.
    pub addresses: u64,
    /// Source port (high half), destination port.
    pub l4_ports: u32,
    /// VLAN id; 0: untagged.
    pub vlan: u16,
}

/// What an ordinary packet becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Becomes {
    /// New source address (high half) and destination address.
    pub addresses: u64,
    /// New source port (high half) and destination port.
    pub l4_ports: u32,
    /// Change of the IPv4 header's sum by the addresses and a TTL of one less.
    pub ip_delta: Delta,
    /// Change of the L4 sum.
    pub l4_delta: Delta,
    /// New identification, if it gets one.
    pub identification: Option<u16>,
}

impl Plain {
    /// No packet.
    pub const NONE: Self = Self { first: 0, middle: 0, l4_bytes: 0, l3: 0, tcp_flags: 0 };

    /// Reads the frame whose first segment is `head` and whose length is `frame_length` bytes. `None`: it is not
    /// an ordinary packet, or something is wrong with it.
    #[inline(always)]
    #[must_use]
    pub fn read(head: &[u8], frame_length: usize, rx: RxChecksums) -> Option<(Self, Ends)> {
        let [.., high, low] = *head.first_chunk::<ETHERNET_BYTES>()?;
        let (l3, vlan) = match u16::from_be_bytes([high, low]) {
            ETHERTYPE_IPV4 => (ETHERNET_BYTES, 0),
            ETHERTYPE_VLAN => (ETHERNET_BYTES + VLAN_BYTES, vlan_before_ipv4(head)?),
            _ => return None,
        };
        // In whole words: version, length and fragment fields are compared at once.
        let bytes = head.get(l3..)?;
        let (header, l4) = bytes.split_first_chunk::<HEADERS_BYTES>()?;
        let [a, b, c, d, e, f, g, h, rest @ ..] = *header;
        let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, rest @ ..] = rest;
        let middle = u32::from_be_bytes([a, b, c, d]);
        let [a, b, c, d, e, f, g, h, rest @ ..] = rest;
        let addresses = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, udp_high, udp_low, ..] = rest;
        let l4_ports = u32::from_be_bytes([a, b, c, d]);
        let packet_bytes = (first >> 32) as u16;
        if first & ORDINARY_MASK != ORDINARY || l3 + usize::from(packet_bytes) > frame_length {
            return None;
        }
        // Ten instructions: to ask whether the NIC has found it good takes as many.
        if rx.ipv4 == RxChecksum::Bad || !is_ipv4_header_valid(first, middle, addresses) {
            return None;
        }
        let (l4_bytes, tcp_flags) = match (middle >> 16) as u8 {
            PROTOCOL_UDP => {
                let length = usize::from(u16::from_be_bytes([udp_high, udp_low]));
                if length < UDP_BYTES || IPV4_BYTES + length > usize::from(packet_bytes) {
                    return None;
                }
                (UDP_BYTES, 0)
            }
            PROTOCOL_TCP => {
                let rest = l4.first_chunk::<{ TCP_BYTES - UDP_BYTES }>()?;
                let l4_bytes = usize::from(rest[4] >> 4) * 4;
                let fits = l4_bytes >= TCP_BYTES
                    && IPV4_BYTES + l4_bytes <= usize::from(packet_bytes)
                    && IPV4_BYTES + l4_bytes <= bytes.len();
                if !fits {
                    return None;
                }
                (l4_bytes, rest[5])
            }
            _ => return None,
        };
        let plain = Self { first, middle, l4_bytes: l4_bytes as u16, l3: l3 as u8, tcp_flags };
        Some((plain, Ends { addresses, l4_ports, vlan }))
    }

    /// Length of the IPv4 packet, bytes.
    #[inline(always)]
    #[must_use]
    pub const fn packet_bytes(&self) -> u16 {
        (self.first >> 32) as u16
    }

    /// IPv4 protocol number, that of TCP or UDP.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        (self.middle >> 16) as u8
    }

    /// The numbers of the TCP segment in the frame whose first segment is `head`.
    #[inline(always)]
    #[must_use]
    pub fn tcp_numbers(&self, head: &[u8]) -> Option<TcpNumbers> {
        let l4 = head.get(usize::from(self.l3) + IPV4_BYTES..)?.first_chunk::<TCP_BYTES>()?;
        let [_, _, _, _, a, b, c, d, e, f, g, h, _, _, i, j, ..] = *l4;
        let [seq, ack] = [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes);
        Some(TcpNumbers { seq, ack, window: u16::from_be_bytes([i, j]) })
    }

    /// Time to live as received.
    #[inline(always)]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        (self.middle >> 24) as u8
    }

    /// The DF bit.
    #[inline(always)]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.first & DONT_FRAGMENT != 0
    }

    /// The same as the parser tells it, of a packet with these `addresses` and ports ([`Ends`]).
    #[inline]
    #[must_use]
    pub const fn view(&self, addresses: u64, l4_ports: u32) -> Ipv4View {
        let (l3, l4) = (self.l3 as u16, self.l3 as u16 + IPV4_BYTES as u16);
        Ipv4View {
            l3,
            l4,
            payload: l4 + self.l4_bytes,
            end: l3 + self.packet_bytes(),
            src: (addresses >> 32) as u32,
            dst: addresses as u32,
            src_port: (l4_ports >> 16) as u16,
            dst_port: l4_ports as u16,
            protocol: self.protocol(),
            ttl: self.ttl(),
            tcp_flags: self.tcp_flags,
            class: if self.protocol() == PROTOCOL_TCP { L4Class::Tcp } else { L4Class::Udp },
            fragment: FragmentKind::None,
            dont_fragment: self.dont_fragment(),
            has_options: false,
        }
    }

    /// Translates the packet that was read from `head`, takes one off its TTL and puts an Ethernet header before it: the address
    /// in the upper 48 bits of `dst`, then `rest`. Returns whether it did: not when `head` is of another frame.
    #[inline(always)]
    #[must_use]
    pub fn translate(&self, head: &mut [u8], to: &Becomes, dst: u64, rest: &EthernetRest) -> bool {
        let packet = if usize::from(self.l3) == ETHERNET_BYTES {
            let Some((header, packet)) = head.split_first_chunk_mut() else { return false };
            rest.put(dst, header);
            packet
        } else {
            let Some((header, packet)) = head.split_first_chunk_mut() else { return false };
            rest.put_tagged(dst, header);
            packet
        };
        if self.protocol() == PROTOCOL_TCP {
            let Some(headers) = packet.first_chunk_mut::<{ IPV4_BYTES + TCP_BYTES }>() else { return false };
            let field = to.l4_delta.apply(u16::from_be_bytes([headers[36], headers[37]]));
            headers[36..38].copy_from_slice(&field.to_be_bytes());
        } else {
            let Some(headers) = packet.first_chunk_mut::<HEADERS_BYTES>() else { return false };
            let field = to.l4_delta.apply_udp(u16::from_be_bytes([headers[26], headers[27]]));
            headers[26..28].copy_from_slice(&field.to_be_bytes());
        }
        let Some(headers) = packet.first_chunk_mut::<HEADERS_BYTES>() else { return false };
        let mut field = self.middle as u16;
        if let Some(identification) = to.identification {
            field = Delta::of_u16((self.first >> 16) as u16, identification).apply(field);
            headers[4..6].copy_from_slice(&identification.to_be_bytes());
        }
        field = to.ip_delta.apply(field);
        headers[8] = self.ttl().wrapping_sub(1);
        headers[10..12].copy_from_slice(&field.to_be_bytes());
        headers[12..20].copy_from_slice(&to.addresses.to_be_bytes());
        headers[20..24].copy_from_slice(&to.l4_ports.to_be_bytes());
        true
    }
}

/// The VLAN id of a tagged frame whose tag is followed by an IPv4 packet.
#[inline(always)]
fn vlan_before_ipv4(head: &[u8]) -> Option<u16> {
    let [.., a, b, c, d] = *head.first_chunk::<{ ETHERNET_BYTES + VLAN_BYTES }>()?;
    (u16::from_be_bytes([c, d]) == ETHERTYPE_IPV4).then_some(u16::from_be_bytes([a, b]) & 0x0FFF)
}

/// What of an Ethernet header is the same for all IPv4 packets of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetRest {
    /// Source address, and the type of the packet or of the tag.
    source: [u8; 8],
    /// The tag, and the type of the packet.
    tag: [u8; VLAN_BYTES],
}

impl EthernetRest {
    /// From `mac`, on VLAN `vlan`; 0: untagged.
    #[must_use]
    pub fn new(mac: [u8; 6], vlan: u16) -> Self {
        let kind = if vlan == 0 { ETHERTYPE_IPV4 } else { ETHERTYPE_VLAN };
        let ([a, b, c, d, e, f], [g, h]) = (mac, kind.to_be_bytes());
        let ([v, w], [x, y]) = (vlan.to_be_bytes(), ETHERTYPE_IPV4.to_be_bytes());
        Self { source: [a, b, c, d, e, f, g, h], tag: [v, w, x, y] }
    }

    /// Two stores: the second one overwrites what the first writes too much.
    #[inline(always)]
    fn put(&self, dst: u64, header: &mut [u8; ETHERNET_BYTES]) {
        header[0..8].copy_from_slice(&dst.to_be_bytes());
        header[6..14].copy_from_slice(&self.source);
    }

    #[inline(always)]
    fn put_tagged(&self, dst: u64, header: &mut [u8; ETHERNET_BYTES + VLAN_BYTES]) {
        header[0..8].copy_from_slice(&dst.to_be_bytes());
        header[6..14].copy_from_slice(&self.source);
        header[14..18].copy_from_slice(&self.tag);
    }
}

/// IPv4 header without options and the smaller of the L4 headers.
const HEADERS_BYTES: usize = IPV4_BYTES + UDP_BYTES;
/// In the first 8 bytes of an IPv4 header: version and header length, more fragments and fragment offset.
const ORDINARY_MASK: u64 = 0xFF00_0000_0000_3FFF;
/// Version 4, five words, not a fragment.
const ORDINARY: u64 = 0x45 << 56;
/// The DF bit there.
const DONT_FRAGMENT: u64 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum::fold;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_header_check_in_words_agrees_with_the_sum(mut header in prop::array::uniform20(any::<u8>()), spoil in any::<bool>()) {
            header[0] = 0x45;
            if !spoil {
                header[10..12].fill(0);
                let field = crate::packet::checksum::internet(&header, 0);
                header[10..12].copy_from_slice(&field.to_be_bytes());
            }
            let words = (
                u64::from_be_bytes(*header.first_chunk().unwrap()),
                u32::from_be_bytes(*header[8..].first_chunk().unwrap()),
                u64::from_be_bytes(*header.last_chunk().unwrap()),
            );
            let expected = fold(crate::packet::checksum::sum(&header)) == 0xFFFF;
            prop_assert_eq!(is_ipv4_header_valid(words.0, words.1, words.2), expected);
            prop_assert!(expected || spoil);
        }
    }

    #[test]
    fn the_header_check_carries_twice() {
        for (first, middle, last) in
            [(u64::MAX, u32::MAX, u64::MAX), (u64::MAX, 0, 0), (u64::MAX, 1, u64::MAX), (1, 0, 0)]
        {
            let sum = [first >> 32, first & 0xFFFF_FFFF, u64::from(middle), last >> 32, last & 0xFFFF_FFFF];
            let expected = fold(sum.iter().sum()) == 0xFFFF;
            assert_eq!(is_ipv4_header_valid(first, middle, last), expected, "{first:x} {middle:x} {last:x}");
        }
    }

    #[test]
    fn writes_both_ethernet_headers() {
        let mac = [2, 3, 4, 5, 6, 7];
        for (vlan, expected) in [
            (0, vec![1, 1, 1, 1, 1, 9, 2, 3, 4, 5, 6, 7, 8, 0, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE]),
            (0x123, vec![1, 1, 1, 1, 1, 9, 2, 3, 4, 5, 6, 7, 0x81, 0, 1, 0x23, 8, 0, 0xEE]),
        ] {
            let (dst, rest) = (0x0101_0101_0109_5555, EthernetRest::new(mac, vlan));
            let mut bytes = [0xEE; 19];
            if vlan == 0 {
                rest.put(dst, bytes.first_chunk_mut().unwrap());
            } else {
                rest.put_tagged(dst, bytes.first_chunk_mut().unwrap());
            }
            assert_eq!(bytes.to_vec(), expected);
        }
    }
}
