//! Writes to translated fields, in place: addresses, ports, ICMP identifiers, TTL, IPv4 identification, TCP numbers, each with
//! the incremental update of its checksums (RFC 1624; RFC 3022 section 4.1; RFC 5508 section 4.2).
//!
//! A wrong checksum stays exactly as wrong as it came, so the receiver still finds the damage. UDP's
//! "no checksum" is kept. Fragments other than the first have no L4 header: only addresses change
//! there, and the first fragment's checksum carries the whole difference.

use crate::drop_reason::DropReason;
use crate::packet::bytes::{read_u16, read_u32, write_u16, write_u32};
use crate::packet::checksum::Delta;
use crate::packet::other;
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class};
use crate::packet::{IPV4_BYTES, TCP_BYTES, UDP_BYTES};

/// New addresses and ports of one direction of a session, with what they change in the checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Translation {
    /// New source address.
    pub src: u32,
    /// New destination address.
    pub dst: u32,
    /// New source port, or the identifier of an ICMP request.
    pub src_port: u16,
    /// New destination port, or the identifier of an ICMP reply.
    pub dst_port: u16,
    /// Change of the IPv4 header's sum.
    pub ip_delta: Delta,
    /// Change of the L4 sum: pseudo header and ports for TCP, UDP, UDP-Lite and DCCP, the identifier alone for ICMP.
    pub l4_delta: Delta,
}

/// Addresses and ports of a packet, as in [`Ipv4View`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tuple {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port, or the identifier of an ICMP request.
    pub src_port: u16,
    /// Destination port, or the identifier of an ICMP reply.
    pub dst_port: u16,
}

impl Translation {
    /// From what packets of a flow carry to what they shall carry. ICMP has no pseudo header, so for
    /// `class` without one the L4 sum changes by the ports (identifiers) alone.
    #[must_use]
    pub fn new(class: L4Class, from: Tuple, to: Tuple) -> Self {
        let ip_delta = Delta::of_u32(from.src, to.src) + Delta::of_u32(from.dst, to.dst);
        let ports_delta =
            Delta::of_u16(from.src_port, to.src_port) + Delta::of_u16(from.dst_port, to.dst_port);
        let l4_delta = match class {
            L4Class::Tcp | L4Class::Udp | L4Class::UdpLite | L4Class::Dccp => ip_delta + ports_delta,
            _ => ports_delta,
        };
        Self { src: to.src, dst: to.dst, src_port: to.src_port, dst_port: to.dst_port, ip_delta, l4_delta }
    }
}

/// Translates the packet `view` describes. No loop, no copy of the packet.
///
/// # Errors
///
/// [`DropReason::ChainedHeaders`] when `head` is shorter than the headers of `view`: the view is of
/// another frame. [`DropReason::SctpFragment`]: see [`crate::packet::sctp`]. Nothing has been written then.
#[inline]
pub fn translate(head: &mut [u8], view: &Ipv4View, to: &Translation) -> Result<(), DropReason> {
    let (Some(l3), l4_offset) = (head.get_mut(usize::from(view.l3)..), usize::from(view.l4 - view.l3)) else {
        return Err(DropReason::ChainedHeaders);
    };
    let Some((l3, l4)) = l3.split_at_mut_checked(l4_offset) else { return Err(DropReason::ChainedHeaders) };
    let Some(header) = l3.first_chunk_mut::<IPV4_BYTES>() else { return Err(DropReason::ChainedHeaders) };
    if view.fragment != FragmentKind::Later {
        translate_l4(l4, view, to)?;
    }
    let header_checksum = to.ip_delta.apply(u16::from_be_bytes([header[10], header[11]]));
    header[10..12].copy_from_slice(&header_checksum.to_be_bytes());
    header[12..16].copy_from_slice(&to.src.to_be_bytes());
    header[16..20].copy_from_slice(&to.dst.to_be_bytes());
    Ok(())
}

#[inline]
fn translate_l4(l4: &mut [u8], view: &Ipv4View, to: &Translation) -> Result<(), DropReason> {
    match view.class {
        L4Class::Tcp => {
            let header = l4.first_chunk_mut::<TCP_BYTES>().ok_or(DropReason::ChainedHeaders)?;
            let field = to.l4_delta.apply(u16::from_be_bytes([header[16], header[17]]));
            header[16..18].copy_from_slice(&field.to_be_bytes());
            header[0..2].copy_from_slice(&to.src_port.to_be_bytes());
            header[2..4].copy_from_slice(&to.dst_port.to_be_bytes());
        }
        L4Class::Udp => {
            let header = l4.first_chunk_mut::<UDP_BYTES>().ok_or(DropReason::ChainedHeaders)?;
            let field = to.l4_delta.apply_udp(u16::from_be_bytes([header[6], header[7]]));
            header[6..8].copy_from_slice(&field.to_be_bytes());
            header[0..2].copy_from_slice(&to.src_port.to_be_bytes());
            header[2..4].copy_from_slice(&to.dst_port.to_be_bytes());
        }
        L4Class::IcmpQueryRequest | L4Class::IcmpQueryReply => {
            let header = l4.first_chunk_mut::<8>().ok_or(DropReason::ChainedHeaders)?;
            let identifier = if view.class == L4Class::IcmpQueryRequest { to.src_port } else { to.dst_port };
            let field = to.l4_delta.apply(u16::from_be_bytes([header[2], header[3]]));
            header[2..4].copy_from_slice(&field.to_be_bytes());
            header[4..6].copy_from_slice(&identifier.to_be_bytes());
        }
        L4Class::IcmpError | L4Class::IcmpOther | L4Class::Other => {}
        L4Class::Sctp | L4Class::UdpLite | L4Class::Dccp | L4Class::GreCall => {
            other::translate(l4, view, to)?
        }
    }
    Ok(())
}

/// Takes one off the TTL (RFC 1812 section 5.3.1). The caller has seen that it is at least 2.
#[inline]
pub fn decrement_ttl(head: &mut [u8], view: &Ipv4View) {
    let header = head.get_mut(usize::from(view.l3)..).and_then(|l3| l3.first_chunk_mut::<IPV4_BYTES>());
    if let Some(header) = header {
        header[8] = header[8].saturating_sub(1);
        let field = Delta::OF_A_HOP.apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&field.to_be_bytes());
    }
}

/// Clears DF in the packet `view` describes, and in `view`: it may leave in fragments.
pub fn allow_fragments(head: &mut [u8], view: &mut Ipv4View) {
    let header = head.get_mut(usize::from(view.l3)..).and_then(|l3| l3.first_chunk_mut::<IPV4_BYTES>());
    if let Some(header) = header {
        let old = u16::from_be_bytes([header[6], header[7]]);
        let new = old & !0x4000;
        header[6..8].copy_from_slice(&new.to_be_bytes());
        let field = Delta::of_u16(old, new).apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&field.to_be_bytes());
        view.dont_fragment = false;
    }
}

/// Sets the identification of the packet `view` describes.
#[inline]
pub fn set_identification(head: &mut [u8], view: &Ipv4View, identification: u16) {
    let header = head.get_mut(usize::from(view.l3)..).and_then(|l3| l3.first_chunk_mut::<IPV4_BYTES>());
    if let Some(header) = header {
        let delta = Delta::of_u16(u16::from_be_bytes([header[4], header[5]]), identification);
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        let field = delta.apply(u16::from_be_bytes([header[10], header[11]]));
        header[10..12].copy_from_slice(&field.to_be_bytes());
    }
}

/// The numbers of a TCP header that a stream edit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpNumbers {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled as in the header.
    pub window: u16,
}

/// Reads the numbers of the TCP segment `view` describes, or `None` when `head` is too short for it.
#[must_use]
#[inline]
pub fn tcp_numbers(head: &[u8], view: &Ipv4View) -> Option<TcpNumbers> {
    let l4 = head.get(usize::from(view.l4)..)?;
    Some(TcpNumbers { seq: read_u32(l4, 4)?, ack: read_u32(l4, 8)?, window: read_u16(l4, 14)? })
}

/// Sets the numbers of the TCP segment `view` describes, and updates its checksum.
#[inline]
pub fn set_tcp_numbers(head: &mut [u8], view: &Ipv4View, to: TcpNumbers) {
    let Some(from) = tcp_numbers(head, view) else { return };
    let Some(l4) = head.get_mut(usize::from(view.l4)..) else { return };
    let Some(field) = read_u16(l4, 16) else { return };
    let delta = Delta::of_u32(from.seq, to.seq)
        + Delta::of_u32(from.ack, to.ack)
        + Delta::of_u16(from.window, to.window);
    write_u32(l4, 4, to.seq);
    write_u32(l4, 8, to.ack);
    write_u16(l4, 14, to.window);
    write_u16(l4, 16, delta.apply(field));
}

/// Lowers the MSS that the SYN `view` describes announces to `most` bytes, and updates the checksum. A signed
/// segment (RFC 2385, RFC 5925) is left alone, for it must not change.
#[cold]
pub fn clamp_mss(head: &mut [u8], view: &Ipv4View, most: u16) {
    let Some(l4) = head.get_mut(usize::from(view.l4)..usize::from(view.payload)) else { return };
    let Some(field) = read_u16(l4, 16) else { return };
    let mut mss = None;
    let mut at = TCP_BYTES;
    // Each turn moves on by one byte at least; a malformed option ends the list, as it does in every host.
    while let Some(&kind) = l4.get(at) {
        let length = match kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            OPTION_MD5 | OPTION_AO => return,
            _ => usize::from(l4.get(at + 1).copied().unwrap_or(0)).max(2),
        };
        if kind == OPTION_MSS && length == 4 {
            mss = Some(at + 2);
        }
        at += length;
    }
    let Some(at) = mss else { return };
    let Some(announced) = read_u16(l4, at).filter(|announced| *announced > most) else { return };
    write_u16(l4, at, most);
    // At an odd place its bytes lie in two words of the sum.
    let in_sum = |mss: u16| if at % 2 == 0 { mss } else { mss.swap_bytes() };
    write_u16(l4, 16, Delta::of_u16(in_sum(announced), in_sum(most)).apply(field));
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MD5: u8 = 19;
const OPTION_AO: u8 = 29;
