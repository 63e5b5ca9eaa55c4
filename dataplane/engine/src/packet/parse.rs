//! One pass over the headers of a received frame: offsets and host-order values.
//!
//! RFC 1812 section 5.2.2 (IPv4 header validation), 5.3.7 (martian addresses), 5.3.4 (link-layer broadcasts);
//! RFC 791; RFC 9293 section 3.1; RFC 768; RFC 792. One 802.1Q or 802.1ad tag is read.
//!
//! Verified here: that every header lies inside the packet, the IPv4 header checksum, L4 header
//! lengths, addresses that no forwarded packet may carry. Not verified: L4 checksums (they are
//! translated incrementally and stay as wrong as they came) and IPv4 options, which are skipped.
//!
//! Invariant: every offset of an [`Ipv4View`] satisfies `l3 < l4 <= payload <= end <= frame length`, and the
//! bytes before `payload` lie in the frame's first segment.

use crate::drop_reason::DropReason;
use crate::frame::{RxChecksum, RxChecksums};
use crate::packet::{
    ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN,
    ICMP_BYTES, ICMP_TIMESTAMP_BYTES, IPV4_BYTES, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_BYTES,
    UDP_BYTES, VLAN_BYTES,
};
use crate::packet::{checksum, other};

/// A received frame, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// VLAN id; 0: untagged, or tagged for priority only.
    pub vlan: u16,
    /// What it carries.
    pub kind: ParsedKind,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedKind {
    /// An IPv4 packet with a valid header.
    Ipv4(Ipv4View),
    /// An ARP packet, not yet looked at.
    Arp {
        /// Where it begins, bytes from the Ethernet header's start.
        offset: u16,
    },
}

/// An IPv4 packet: offsets from the start of the frame, and the fields that decide its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4View {
    /// IPv4 header.
    pub l3: u16,
    /// L4 header, or the data of a fragment other than the first.
    pub l4: u16,
    /// What follows the L4 header.
    pub payload: u16,
    /// End of the IPv4 packet; Ethernet padding beyond it is not part of the packet.
    pub end: u16,
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port, if the protocol has one. ICMP query: the identifier in a request, 0 in a reply. Otherwise 0.
    pub src_port: u16,
    /// Destination port, if the protocol has one. ICMP query: the identifier in a reply, 0 in a request. GRE of
    /// a PPTP call: the call id. Otherwise 0.
    pub dst_port: u16,
    /// IPv4 protocol number.
    pub protocol: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// TCP flags (`FIN` = 0x01 ... `CWR` = 0x80); 0 for other protocols.
    pub tcp_flags: u8,
    /// What the L4 header is.
    pub class: L4Class,
    /// Whether, and which, fragment it is.
    pub fragment: FragmentKind,
    /// The DF bit.
    pub dont_fragment: bool,
    /// Whether the IPv4 header carries options.
    pub has_options: bool,
}

impl Ipv4View {
    /// Length of the IPv4 packet, bytes.
    #[must_use]
    #[inline]
    pub const fn packet_bytes(&self) -> u16 {
        self.end - self.l3
    }

    /// Length of what follows the L4 header, bytes.
    #[must_use]
    #[inline]
    pub const fn payload_bytes(&self) -> u16 {
        self.end - self.payload
    }
}

/// What an L4 header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4Class {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo or timestamp request.
    IcmpQueryRequest,
    /// ICMP echo or timestamp reply.
    IcmpQueryReply,
    /// ICMP message about another packet, which it embeds (types 3, 4, 5, 11, 12).
    IcmpError,
    /// Any other ICMP message.
    IcmpOther,
    /// SCTP.
    Sctp,
    /// UDP-Lite.
    UdpLite,
    /// DCCP.
    Dccp,
    /// GRE version 1: of a PPTP call.
    GreCall,
    /// Another protocol, known by its addresses, or a fragment other than the first.
    Other,
}

/// Place in a fragmented packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FragmentKind {
    /// Not fragmented.
    None,
    /// The first fragment; it has the L4 header.
    First,
    /// A later fragment; it has no L4 header.
    Later,
}

/// Parses the headers of a frame whose first segment is `head` and whose length over all segments is
/// `frame_length` bytes.
///
/// # Errors
///
/// The reason to drop the frame. [`DropReason::ChainedHeaders`]: headers continue beyond `head`; make the
/// frame one segment and parse again.
#[inline]
pub fn parse(head: &[u8], frame_length: usize, rx: RxChecksums) -> Result<Parsed, DropReason> {
    let Some((ethernet, _)) = head.split_first_chunk::<ETHERNET_BYTES>() else {
        return Err(missing(ETHERNET_BYTES, frame_length));
    };
    let [d0, d1, d2, d3, d4, d5, _, _, _, _, _, _, type_high, type_low] = *ethernet;
    let dst_mac = [d0, d1, d2, d3, d4, d5];
    match u16::from_be_bytes([type_high, type_low]) {
        ETHERTYPE_IPV4 => parse_ipv4(head, &Link { dst_mac, vlan: 0, l3: ETHERNET_BYTES, frame_length, rx }),
        ethertype => parse_uncommon(head, dst_mac, ethertype, frame_length, rx),
    }
}

/// Tagged frames, ARP, and what is refused.
#[cold]
#[inline(never)]
fn parse_uncommon(
    head: &[u8],
    dst_mac: [u8; 6],
    ethertype: u16,
    frame_length: usize,
    rx: RxChecksums,
) -> Result<Parsed, DropReason> {
    let (vlan, ethertype, l3) = match ethertype {
        ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => {
            let l3 = ETHERNET_BYTES + VLAN_BYTES;
            let tag = head.get(ETHERNET_BYTES..).and_then(|tail| tail.first_chunk::<VLAN_BYTES>());
            let Some(&[control_high, control_low, type_high, type_low]) = tag else {
                return Err(missing(l3, frame_length));
            };
            let control = u16::from_be_bytes([control_high, control_low]);
            (control & 0x0FFF, u16::from_be_bytes([type_high, type_low]), l3)
        }
        _ => (0, ethertype, ETHERNET_BYTES),
    };
    match ethertype {
        ETHERTYPE_IPV4 => parse_ipv4(head, &Link { dst_mac, vlan, l3, frame_length, rx }),
        ETHERTYPE_ARP => Ok(Parsed { dst_mac, vlan, kind: ParsedKind::Arp { offset: l3 as u16 } }),
        ETHERTYPE_IPV6 => Err(DropReason::Ipv6),
        _ => Err(DropReason::UnknownEthertype),
    }
}

/// What is known of a frame before its IPv4 header.
struct Link {
    dst_mac: [u8; 6],
    vlan: u16,
    /// Where the IPv4 header begins, bytes.
    l3: usize,
    /// Of the whole frame, bytes.
    frame_length: usize,
    rx: RxChecksums,
}

#[inline(always)]
fn parse_ipv4(head: &[u8], link: &Link) -> Result<Parsed, DropReason> {
    match head.get(link.l3..).and_then(|tail| tail.split_first_chunk::<IPV4_BYTES>()) {
        Some((header, after)) if header[0] == 0x45 => parse_packet(header, &[], after, link),
        Some((header, after)) => parse_with_options(header, after, link),
        None => Err(missing(link.l3 + IPV4_BYTES, link.frame_length)),
    }
}

#[cold]
#[inline(never)]
fn parse_with_options(header: &[u8; IPV4_BYTES], after: &[u8], link: &Link) -> Result<Parsed, DropReason> {
    let header_bytes = usize::from(header[0] & 0x0F) * 4;
    if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES {
        return Err(DropReason::BadIpv4Header);
    }
    match after.split_at_checked(header_bytes - IPV4_BYTES) {
        Some((options, after)) => parse_packet(header, options, after, link),
        None => Err(missing(link.l3 + header_bytes, link.frame_length)),
    }
}

/// The view is put together once, at the end, from values in registers: narrow stores that are read back
/// wide would cost more than all the rest. `after` begins at the L4 header.
#[inline(always)]
fn parse_packet(
    header: &[u8; IPV4_BYTES],
    options: &[u8],
    after: &[u8],
    link: &Link,
) -> Result<Parsed, DropReason> {
    let &Link { dst_mac, vlan, l3, frame_length, rx } = link;
    let header_bytes = IPV4_BYTES + options.len();
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let end = l3 + total_length;
    if total_length < header_bytes || end > usize::from(u16::MAX) {
        return Err(DropReason::BadIpv4Header);
    }
    if end > frame_length {
        return Err(DropReason::Truncated);
    }
    match rx.ipv4 {
        RxChecksum::Good => {}
        RxChecksum::Unknown if is_header_valid(header, options) => {}
        RxChecksum::Unknown | RxChecksum::Bad => return Err(DropReason::BadIpv4Checksum),
    }
    // RFC 1812 section 5.3.4: a unicast packet in a link-layer broadcast is not forwarded.
    if dst_mac[0] & 1 != 0 {
        return Err(DropReason::LinkBroadcast);
    }
    let src = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let dst = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    check_martians(src, dst)?;

    let flags_and_offset = u16::from_be_bytes([header[6], header[7]]);
    let fragment = match (flags_and_offset & 0x1FFF, flags_and_offset & 0x2000) {
        (0, 0) => FragmentKind::None,
        (0, _) => FragmentKind::First,
        _ => FragmentKind::Later,
    };
    let place =
        L4Place { offset: l3 + header_bytes, length: total_length - header_bytes, frame_length, fragment };
    let l4 = parse_l4(header[9], after, &place)?;
    let view = Ipv4View {
        l3: l3 as u16,
        l4: place.offset as u16,
        payload: (place.offset + l4.header_bytes) as u16,
        end: end as u16,
        src,
        dst,
        src_port: l4.src_port,
        dst_port: l4.dst_port,
        protocol: header[9],
        ttl: header[8],
        tcp_flags: l4.tcp_flags,
        class: l4.class,
        fragment,
        dont_fragment: flags_and_offset & 0x4000 != 0,
        has_options: !options.is_empty(),
    };
    Ok(Parsed { dst_mac, vlan, kind: ParsedKind::Ipv4(view) })
}

/// Where an L4 header lies, bytes.
pub(super) struct L4Place {
    /// From the frame's start.
    pub(super) offset: usize,
    /// To the end of the IPv4 packet.
    pub(super) length: usize,
    /// Of the whole frame.
    pub(super) frame_length: usize,
    pub(super) fragment: FragmentKind,
}

/// What an L4 header says.
pub(super) struct L4 {
    pub(super) class: L4Class,
    pub(super) header_bytes: usize,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) tcp_flags: u8,
}

impl L4 {
    /// Nothing is read of it.
    pub(super) const BY_ADDRESS: Self =
        Self { class: L4Class::Other, header_bytes: 0, src_port: 0, dst_port: 0, tcp_flags: 0 };
}

/// Reads the L4 header at the start of `bytes`, which may end early or run past the packet.
#[inline(always)]
fn parse_l4(protocol: u8, bytes: &[u8], place: &L4Place) -> Result<L4, DropReason> {
    if place.fragment == FragmentKind::Later {
        return Ok(L4::BY_ADDRESS);
    }
    match protocol {
        PROTOCOL_TCP => {
            let header = l4_header::<TCP_BYTES>(bytes, place)?;
            let header_bytes = usize::from(header[12] >> 4) * 4;
            if header_bytes < TCP_BYTES || header_bytes > place.length {
                return Err(too_short(header_bytes >= TCP_BYTES, place));
            }
            if header_bytes > bytes.len() {
                return Err(DropReason::ChainedHeaders);
            }
            Ok(L4 {
                class: L4Class::Tcp,
                header_bytes,
                src_port: u16::from_be_bytes([header[0], header[1]]),
                dst_port: u16::from_be_bytes([header[2], header[3]]),
                tcp_flags: header[13],
            })
        }
        PROTOCOL_UDP => {
            let header = l4_header::<UDP_BYTES>(bytes, place)?;
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            // The length of a fragmented datagram counts the later fragments too.
            if length < UDP_BYTES || (length > place.length && place.fragment == FragmentKind::None) {
                return Err(DropReason::BadL4Header);
            }
            Ok(L4 {
                class: L4Class::Udp,
                header_bytes: UDP_BYTES,
                src_port: u16::from_be_bytes([header[0], header[1]]),
                dst_port: u16::from_be_bytes([header[2], header[3]]),
                tcp_flags: 0,
            })
        }
        PROTOCOL_ICMP => {
            let header = l4_header::<ICMP_BYTES>(bytes, place)?;
            if matches!(header[0], ICMP_TIMESTAMP | ICMP_TIMESTAMP_REPLY) {
                l4_header::<ICMP_TIMESTAMP_BYTES>(bytes, place)?;
            }
            let identifier = u16::from_be_bytes([header[4], header[5]]);
            let class = icmp_class(header[0]);
            let (src_port, dst_port) = match class {
                L4Class::IcmpQueryRequest => (identifier, 0),
                L4Class::IcmpQueryReply => (0, identifier),
                _ => (0, 0),
            };
            Ok(L4 { class, header_bytes: ICMP_BYTES, src_port, dst_port, tcp_flags: 0 })
        }
        _ => other::parse(protocol, bytes, place),
    }
}

const ICMP_TIMESTAMP: u8 = 13;
const ICMP_TIMESTAMP_REPLY: u8 = 14;

/// What kind of ICMP message `icmp_type` is (RFC 792; RFC 5508 section 1.2). Address mask and
/// information messages are deprecated (RFC 6918) and count as other.
pub(crate) const fn icmp_class(icmp_type: u8) -> L4Class {
    match icmp_type {
        8 | ICMP_TIMESTAMP => L4Class::IcmpQueryRequest,
        0 | ICMP_TIMESTAMP_REPLY => L4Class::IcmpQueryReply,
        3 | 4 | 5 | 11 | 12 => L4Class::IcmpError,
        _ => L4Class::IcmpOther,
    }
}

/// The fixed part of an L4 header.
#[inline(always)]
pub(super) fn l4_header<'a, const N: usize>(
    bytes: &'a [u8],
    place: &L4Place,
) -> Result<&'a [u8; N], DropReason> {
    if place.length < N {
        return Err(too_short(true, place));
    }
    match bytes.first_chunk() {
        Some(header) => Ok(header),
        None => Err(missing(place.offset + N, place.frame_length)),
    }
}

/// Why a header that does not fit, or (not `is_possible`) that no packet may have, is refused: a first fragment
/// must hold all of it (RFC 1858 section 3.2.1), for nobody shall decide about the rest unseen.
#[cold]
fn too_short(is_possible: bool, place: &L4Place) -> DropReason {
    match place.fragment {
        FragmentKind::First if is_possible => DropReason::FragmentTiny,
        _ => DropReason::BadL4Header,
    }
}

/// RFC 1812 section 5.3.7, RFC 6890 section 2.2.2 (240/4 is not forwarded either way).
#[inline]
pub(crate) fn check_martians(src: u32, dst: u32) -> Result<(), DropReason> {
    let (src_net, dst_net) = (src >> 24, dst >> 24);
    // 0/8, 127/8, multicast, 240/4 and broadcast never send.
    if src_net == 0 || src_net == 127 || src_net >= 224 {
        return Err(DropReason::MartianSource);
    }
    // Nor does anybody answer from there: a session to such an address would admit what no parser does.
    if dst_net == 0 || dst_net == 127 || dst_net >= 224 {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

/// Whether the header's checksum is right.
#[inline(always)]
fn is_header_valid(header: &[u8; IPV4_BYTES], options: &[u8]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    if !options.is_empty() {
        sum += checksum::sum(options);
    }
    checksum::fold(sum) == 0xFFFF
}

/// Why `needed` bytes are not there: cut short, or continued in another segment.
#[cold]
fn missing(needed: usize, frame_length: usize) -> DropReason {
    if needed <= frame_length { DropReason::ChainedHeaders } else { DropReason::Truncated }
}
