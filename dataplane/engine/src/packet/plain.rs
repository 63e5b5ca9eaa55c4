//! The ordinary packet: what the fast path reads of it, and writes.
//!
//! Ordinary is an Ethernet frame, untagged or with one tag, that carries an IPv4 packet without options, not a
//! fragment, with TCP or UDP in it. Nine of ten packets are, and for these fixed offsets, one check
//! of the length and whole words replace the steps of [`parse`](super::parse) and
//! [`rewrite`](super::rewrite). Everything else, and everything that is wrong with a packet, is theirs: here it only
//! says "not ordinary".
//!
//! Verified here: lengths, the IPv4 header checksum, a unicast destination MAC address. Martian addresses are not
//! looked for, since no session has any.

use crate::frame::{RxChecksum, RxChecksums};
use crate::packet::checksum::{Delta, fold};
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class};
use crate::packet::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_VLAN, IPV4_BYTES, PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES,
    UDP_BYTES, VLAN_BYTES,
};

/// What decides the fate of an ordinary packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Source address (high half), destination address.
    pub addresses: u64,
    /// Source port (high half), destination port.
    pub l4_ports: u32,
    /// Length of the IPv4 packet, bytes.
    pub packet_bytes: u16,
    /// VLAN id; 0: untagged.
    pub vlan: u16,
    /// Where the IPv4 header begins, bytes.
    pub l3: u8,
    /// IPv4 protocol number, that of TCP or UDP.
    pub protocol: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    /// Length of the L4 header, bytes.
    pub l4_bytes: u8,
    /// The DF bit.
    pub dont_fragment: bool,
}

/// What an ordinary packet becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Becomes {
    /// New source address (high half) and destination address.
    pub addresses: u64,
    /// New source port (high half) and destination port.
    pub l4_ports: u32,
    /// Change of the IPv4 header's sum by the addresses.
    pub ip_delta: Delta,
    /// Change of the L4 sum.
    pub l4_delta: Delta,
    /// New identification, if it gets one.
    pub identification: Option<u16>,
}

impl Plain {
    /// Reads the frame whose first segment is `head` and whose length is `frame_length` bytes. `None`: it is not
    /// an ordinary packet, or something is wrong with it.
    #[inline(always)]
    #[must_use]
    pub fn read(head: &[u8], frame_length: usize, rx: RxChecksums) -> Option<Self> {
        let (ethernet, after) = head.split_first_chunk::<ETHERNET_BYTES>()?;
        if ethernet[0] & 1 != 0 {
            return None;
        }
        let ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
        if ethertype == ETHERTYPE_IPV4 {
            return Self::read_packet(after, ETHERNET_BYTES, 0, frame_length, rx);
        }
        let (tag, after) = after.split_first_chunk::<VLAN_BYTES>()?;
        if ethertype != ETHERTYPE_VLAN || u16::from_be_bytes([tag[2], tag[3]]) != ETHERTYPE_IPV4 {
            return None;
        }
        let vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0FFF;
        Self::read_packet(after, ETHERNET_BYTES + VLAN_BYTES, vlan, frame_length, rx)
    }

    /// `bytes` begins at the IPv4 header, `l3` bytes into the frame.
    #[inline(always)]
    fn read_packet(bytes: &[u8], l3: usize, vlan: u16, frame_length: usize, rx: RxChecksums) -> Option<Self> {
        let (header, l4) = bytes.split_first_chunk::<HEADERS_BYTES>()?;
        let packet_bytes = u16::from_be_bytes([header[2], header[3]]);
        let flags_and_offset = u16::from_be_bytes([header[6], header[7]]);
        let is_whole = header[0] == 0x45
            && flags_and_offset & 0x3FFF == 0
            && usize::from(packet_bytes) >= HEADERS_BYTES
            && l3 + usize::from(packet_bytes) <= frame_length;
        if !is_whole || !is_header_valid(header, rx.ipv4) {
            return None;
        }
        let protocol = header[9];
        let (l4_bytes, tcp_flags) = match protocol {
            PROTOCOL_UDP => {
                let length = usize::from(u16::from_be_bytes([header[24], header[25]]));
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
        let [_, _, _, _, _, _, _, _, ttl, _, _, _, a, b, c, d, e, f, g, h, p, q, r, s, ..] = *header;
        Some(Self {
            addresses: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            l4_ports: u32::from_be_bytes([p, q, r, s]),
            packet_bytes,
            vlan,
            l3: l3 as u8,
            protocol,
            ttl,
            tcp_flags,
            l4_bytes: l4_bytes as u8,
            dont_fragment: flags_and_offset & 0x4000 != 0,
        })
    }

    /// The same as the parser tells it.
    #[inline]
    #[must_use]
    pub const fn view(&self) -> Ipv4View {
        let (l3, l4) = (self.l3 as u16, self.l3 as u16 + IPV4_BYTES as u16);
        Ipv4View {
            l3,
            l4,
            payload: l4 + self.l4_bytes as u16,
            end: l3 + self.packet_bytes,
            src: (self.addresses >> 32) as u32,
            dst: self.addresses as u32,
            src_port: (self.l4_ports >> 16) as u16,
            dst_port: self.l4_ports as u16,
            protocol: self.protocol,
            ttl: self.ttl,
            tcp_flags: self.tcp_flags,
            class: if self.protocol == PROTOCOL_TCP { L4Class::Tcp } else { L4Class::Udp },
            fragment: FragmentKind::None,
            dont_fragment: self.dont_fragment,
            has_options: false,
        }
    }

    /// Translates the packet that was read from `head` and takes one off its TTL. Returns whether it did: not when
    /// `head` is of another frame.
    #[inline(always)]
    #[must_use]
    pub fn translate(&self, head: &mut [u8], to: &Becomes) -> bool {
        let Some(bytes) = head.get_mut(usize::from(self.l3)..) else { return false };
        if self.protocol == PROTOCOL_TCP {
            let Some(headers) = bytes.first_chunk_mut::<{ IPV4_BYTES + TCP_BYTES }>() else { return false };
            let field = to.l4_delta.apply(u16::from_be_bytes([headers[36], headers[37]]));
            headers[36..38].copy_from_slice(&field.to_be_bytes());
        } else {
            let Some(headers) = bytes.first_chunk_mut::<HEADERS_BYTES>() else { return false };
            let field = to.l4_delta.apply_udp(u16::from_be_bytes([headers[26], headers[27]]));
            headers[26..28].copy_from_slice(&field.to_be_bytes());
        }
        let Some(headers) = bytes.first_chunk_mut::<HEADERS_BYTES>() else { return false };
        let mut sum = u64::from(!u16::from_be_bytes([headers[10], headers[11]]))
            + u64::from(to.ip_delta.to_bits())
            + u64::from(TTL_DELTA.to_bits());
        if let Some(identification) = to.identification {
            sum += u64::from(!u16::from_be_bytes([headers[4], headers[5]])) + u64::from(identification);
            headers[4..6].copy_from_slice(&identification.to_be_bytes());
        }
        headers[8] = self.ttl.wrapping_sub(1);
        headers[10..12].copy_from_slice(&(!fold(sum)).to_be_bytes());
        headers[12..20].copy_from_slice(&to.addresses.to_be_bytes());
        headers[20..24].copy_from_slice(&to.l4_ports.to_be_bytes());
        true
    }
}

/// Whether the checksum of the IPv4 header at the start of `header` is right, as the NIC says or by adding it up.
#[inline(always)]
fn is_header_valid(header: &[u8; HEADERS_BYTES], verdict: RxChecksum) -> bool {
    match verdict {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => {
            // In whatever byte order: a sum of swapped words is the swapped sum (RFC 1071 section 2).
            let (words, _) = header.as_chunks::<4>();
            let sum: u64 =
                words.iter().take(IPV4_BYTES / 4).map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
            fold(sum) == 0xFFFF
        }
    }
}

/// IPv4 header without options and the smaller of the L4 headers.
const HEADERS_BYTES: usize = IPV4_BYTES + UDP_BYTES;
/// One less in the high half of the word that TTL and protocol share.
const TTL_DELTA: Delta = Delta::of_u16(0x0100, 0x0000);
