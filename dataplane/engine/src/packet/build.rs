//! New packets, written into a frame with correct checksums.
//!
//! IPv4 packets begin at [`L3_OFFSET`]; the Ethernet header in front is written when the frame leaves
//! ([`ethernet`]), because only then interface and next hop are known. ARP frames are written
//! whole. RFC 791, 792, 768, 9293; RFC 1812 section 4.3.2.3 for the size of ICMP errors.
//!
//! Every builder returns `false`, and leaves a frame of undefined content, when the packet does not fit
//! into the frame or into an IPv4 packet.

use crate::frame::Frame;
use crate::packet::arp::ArpPacket;
use crate::packet::bytes::write_u16;
use crate::packet::checksum::{self, Delta};
use crate::packet::parse::Ipv4View;
use crate::packet::{
    ARP_BYTES, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_VLAN, ICMP_BYTES, IPV4_BYTES, PROTOCOL_ICMP,
    PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES, UDP_BYTES, VLAN_BYTES,
};

/// Where builders put the IPv4 header: room for an untagged Ethernet header in front.
pub const L3_OFFSET: usize = ETHERNET_BYTES;

/// TTL of packets that algate itself originates (RFC 1700's recommended default).
pub const DEFAULT_TTL: u8 = 64;

/// Largest ICMP error, bytes of IPv4 packet (RFC 1812 section 4.3.2.3).
pub const ICMP_ERROR_BYTES: usize = 576;

/// What an IPv4 header says besides its lengths and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Fields {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN, the whole byte.
    pub traffic_class: u8,
    /// Identification; free to choose when the packet cannot be fragmented (RFC 6864 section 4.1).
    pub identification: u16,
    /// The DF bit.
    pub dont_fragment: bool,
}

impl Ipv4Fields {
    /// From algate to a host: default TTL, no DSCP, DF set.
    #[must_use]
    pub const fn new(src: u32, dst: u32) -> Self {
        Self { src, dst, ttl: DEFAULT_TTL, traffic_class: 0, identification: 0, dont_fragment: true }
    }
}

/// What a TCP header says besides its ports, length and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFields {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, `FIN` = 0x01 ... `CWR` = 0x80.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

/// Bytes of an Ethernet header: 14, or 18 with a tag (`vlan` not 0).
#[must_use]
#[inline]
pub const fn ethernet_bytes(vlan: u16) -> usize {
    if vlan == 0 { ETHERNET_BYTES } else { ETHERNET_BYTES + VLAN_BYTES }
}

/// Writes an Ethernet header of [`ethernet_bytes`] at the start of `head`. Returns `false` when `head` is
/// shorter.
#[must_use]
#[inline]
pub fn ethernet(head: &mut [u8], dst: [u8; 6], src: [u8; 6], vlan: u16, ethertype: u16) -> bool {
    let Some((header, rest)) = head.split_first_chunk_mut::<ETHERNET_BYTES>() else { return false };
    header[0..6].copy_from_slice(&dst);
    header[6..12].copy_from_slice(&src);
    if vlan == 0 {
        header[12..14].copy_from_slice(&ethertype.to_be_bytes());
        return true;
    }
    let Some(tag) = rest.first_chunk_mut::<VLAN_BYTES>() else { return false };
    header[12..14].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
    tag[0..2].copy_from_slice(&vlan.to_be_bytes());
    tag[2..4].copy_from_slice(&ethertype.to_be_bytes());
    true
}

/// Makes `frame` a UDP datagram.
#[must_use]
pub fn udp<F: Frame>(
    frame: &mut F,
    ip: &Ipv4Fields,
    (src_port, dst_port): (u16, u16),
    payload: &[u8],
) -> bool {
    let l4_bytes = UDP_BYTES + payload.len();
    let Some(l4) = ipv4(frame, ip, PROTOCOL_UDP, l4_bytes) else { return false };
    let Some((header, body)) = l4.split_first_chunk_mut::<UDP_BYTES>() else { return false };
    body.copy_from_slice(payload);
    header[0..2].copy_from_slice(&src_port.to_be_bytes());
    header[2..4].copy_from_slice(&dst_port.to_be_bytes());
    header[4..6].copy_from_slice(&(l4_bytes as u16).to_be_bytes());
    header[6..8].fill(0);
    let pseudo_header = checksum::pseudo_header(ip.src, ip.dst, PROTOCOL_UDP, l4_bytes as u16);
    let field = checksum::udp(l4, pseudo_header);
    write_u16(l4, 6, field);
    true
}

/// Makes `frame` a TCP segment. `options`: 0 to 40 bytes, a multiple of 4.
#[must_use]
pub fn tcp<F: Frame>(
    frame: &mut F,
    ip: &Ipv4Fields,
    (src_port, dst_port): (u16, u16),
    fields: &TcpFields,
    options: &[u8],
    payload: &[u8],
) -> bool {
    if options.len() > 40 || !options.len().is_multiple_of(4) {
        return false;
    }
    let l4_bytes = TCP_BYTES + options.len() + payload.len();
    let Some(l4) = ipv4(frame, ip, PROTOCOL_TCP, l4_bytes) else { return false };
    let Some((header, body)) = l4.split_first_chunk_mut::<TCP_BYTES>() else { return false };
    let Some((option_bytes, payload_bytes)) = body.split_at_mut_checked(options.len()) else { return false };
    option_bytes.copy_from_slice(options);
    payload_bytes.copy_from_slice(payload);
    header[0..2].copy_from_slice(&src_port.to_be_bytes());
    header[2..4].copy_from_slice(&dst_port.to_be_bytes());
    header[4..8].copy_from_slice(&fields.seq.to_be_bytes());
    header[8..12].copy_from_slice(&fields.ack.to_be_bytes());
    header[12] = (((TCP_BYTES + options.len()) / 4) as u8) << 4;
    header[13] = fields.flags;
    header[14..16].copy_from_slice(&fields.window.to_be_bytes());
    header[16..18].fill(0);
    header[18..20].copy_from_slice(&fields.urgent.to_be_bytes());
    let pseudo_header = checksum::pseudo_header(ip.src, ip.dst, PROTOCOL_TCP, l4_bytes as u16);
    let field = checksum::internet(l4, pseudo_header);
    write_u16(l4, 16, field);
    true
}

/// Makes `frame` an ICMP message about `original` (an IPv4 packet from its header on), with as much of it as
/// an ICMP error may hold. `rest`: the second 32-bit word of the ICMP header.
#[must_use]
pub fn icmp_error<F: Frame>(
    frame: &mut F,
    ip: &Ipv4Fields,
    (icmp_type, code): (u8, u8),
    rest: u32,
    original: &[u8],
) -> bool {
    let room = ICMP_ERROR_BYTES - IPV4_BYTES - ICMP_BYTES;
    let original = original.get(..room).unwrap_or(original);
    let l4_bytes = ICMP_BYTES + original.len();
    let Some(l4) = ipv4(frame, ip, PROTOCOL_ICMP, l4_bytes) else { return false };
    let Some((header, body)) = l4.split_first_chunk_mut::<ICMP_BYTES>() else { return false };
    body.copy_from_slice(original);
    header[0] = icmp_type;
    header[1] = code;
    header[2..4].fill(0);
    header[4..8].copy_from_slice(&rest.to_be_bytes());
    let field = checksum::internet(l4, 0);
    write_u16(l4, 2, field);
    true
}

/// Turns an ICMP echo request without IPv4 options into its reply, in place (RFC 792, RFC 1812
/// section 4.3.3.6). Returns `false` when `head` is too short for `view` or the header has options.
#[must_use]
pub fn echo_reply(head: &mut [u8], view: &Ipv4View) -> bool {
    let Some(l3) = head.get_mut(usize::from(view.l3)..usize::from(view.l4)) else { return false };
    let Ok(header) = <&mut [u8; IPV4_BYTES]>::try_from(l3) else { return false };
    header[8] = DEFAULT_TTL;
    header[10..12].fill(0);
    header[12..16].copy_from_slice(&view.dst.to_be_bytes());
    header[16..20].copy_from_slice(&view.src.to_be_bytes());
    let field = checksum::internet(header, 0);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    let l4 = head.get_mut(usize::from(view.l4)..).and_then(|l4| l4.first_chunk_mut::<ICMP_BYTES>());
    let Some(icmp) = l4 else { return false };
    let change = Delta::of_u16(u16::from_be_bytes([icmp[0], icmp[1]]), u16::from_be_bytes([0, icmp[1]]));
    let field = change.apply(u16::from_be_bytes([icmp[2], icmp[3]]));
    icmp[0] = 0;
    icmp[2..4].copy_from_slice(&field.to_be_bytes());
    true
}

/// Makes `frame` an ARP packet from `packet.sender_mac` to `dst_mac`, Ethernet header included.
#[must_use]
pub fn arp<F: Frame>(frame: &mut F, dst_mac: [u8; 6], vlan: u16, packet: &ArpPacket) -> bool {
    let l2_bytes = ethernet_bytes(vlan);
    if !frame.resize(l2_bytes + ARP_BYTES) {
        return false;
    }
    let head = frame.head_mut();
    if let Some(body) = head.get_mut(l2_bytes..) {
        body.copy_from_slice(&packet.emit());
    }
    ethernet(head, dst_mac, packet.sender_mac, vlan, ETHERTYPE_ARP)
}

/// Sizes `frame` for an IPv4 packet, writes its header and returns the `l4_bytes` behind it.
pub(crate) fn ipv4<'a, F: Frame>(
    frame: &'a mut F,
    ip: &Ipv4Fields,
    protocol: u8,
    l4_bytes: usize,
) -> Option<&'a mut [u8]> {
    let total_length = u16::try_from(IPV4_BYTES + l4_bytes).ok()?;
    if !frame.resize(L3_OFFSET + usize::from(total_length)) {
        return None;
    }
    let (header, l4) = frame.head_mut().get_mut(L3_OFFSET..)?.split_first_chunk_mut::<IPV4_BYTES>()?;
    let flags: u16 = if ip.dont_fragment { 0x4000 } else { 0 };
    header[0] = 0x45;
    header[1] = ip.traffic_class;
    header[2..4].copy_from_slice(&total_length.to_be_bytes());
    header[4..6].copy_from_slice(&ip.identification.to_be_bytes());
    header[6..8].copy_from_slice(&flags.to_be_bytes());
    header[8] = ip.ttl;
    header[9] = protocol;
    header[10..12].fill(0);
    header[12..16].copy_from_slice(&ip.src.to_be_bytes());
    header[16..20].copy_from_slice(&ip.dst.to_be_bytes());
    let field = checksum::internet(header, 0);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    Some(l4)
}
