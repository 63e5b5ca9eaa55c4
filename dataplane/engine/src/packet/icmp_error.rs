//! ICMP errors and the packet they embed: who it was about, and its translation.
//!
//! RFC 792; RFC 5508 sections 4 and 7 (REQ-3 to REQ-5); RFC 4884 (an extension may follow the embedded
//! packet; it is covered by the outer checksum and is otherwise left alone).
//!
//! An error is believed only when its own checksum and the embedded IPv4 header's are right (REQ-3 a, b).
//! Embedded options are skipped, and the embedded L4 checksum is not verified, since most of what it
//! covers is not there (REQ-3 c, d); where the field itself is there it is translated like any other.
//! What cannot belong to a session is refused: later fragments, fewer than 8 bytes behind the inner header,
//! errors about errors.

use etherparse::Ipv4HeaderSlice;

use crate::drop_reason::DropReason;
use crate::packet::bytes::{read_u16, read_u32, write_u16, write_u32};
use crate::packet::checksum::{self, Delta};
use crate::packet::other;
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class, icmp_class};
use crate::packet::rewrite::{Translation, Tuple};
use crate::packet::{ICMP_BYTES, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};

/// An ICMP error and the packet it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpErrorView {
    /// ICMP type: 3, 4, 5, 11 or 12.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// Embedded IPv4 header, bytes from the frame's start.
    pub l3: u16,
    /// Embedded L4 header; at least 8 bytes of it are there.
    pub l4: u16,
    /// End of what is there of the embedded packet.
    pub end: u16,
    /// Embedded IPv4 protocol number.
    pub protocol: u8,
    /// What the embedded L4 header is; of ICMP: query request or reply.
    pub class: L4Class,
    /// Embedded addresses and ports, as the packet was when the error's author saw it.
    pub tuple: Tuple,
    /// Embedded TCP sequence number.
    pub tcp_seq: Option<u32>,
    /// Embedded SCTP verification tag.
    pub sctp_tag: Option<u32>,
}

impl IcmpErrorView {
    /// The MTU of the next hop, when the message is "fragmentation needed" (RFC 1191 section 4); 0 from
    /// routers older than that. `head`: the frame it was parsed from.
    #[must_use]
    pub fn path_mtu(&self, head: &[u8]) -> Option<u16> {
        let mtu_offset = usize::from(self.l3).checked_sub(2)?;
        if (self.icmp_type, self.code) == (3, 4) { read_u16(head, mtu_offset) } else { None }
    }
}

/// What a translated ICMP error shall carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpErrorTranslation {
    /// Outer source address.
    pub outer_src: u32,
    /// Outer destination address.
    pub outer_dst: u32,
    /// Embedded addresses and ports.
    pub tuple: Tuple,
    /// Embedded TCP sequence number; `None`: as it is.
    pub tcp_seq: Option<u32>,
}

/// Parses the ICMP error that `view` found in `head`.
///
/// # Errors
///
/// [`DropReason::ChainedHeaders`]: the message continues beyond `head`; make the frame one segment and
/// try again. Otherwise why the message is not believed, or belongs to no session.
pub fn parse(head: &[u8], view: &Ipv4View) -> Result<IcmpErrorView, DropReason> {
    if view.class != L4Class::IcmpError {
        return Err(DropReason::BadIcmp);
    }
    if view.fragment != FragmentKind::None {
        return Err(DropReason::FragmentIcmpError);
    }
    let message = head.get(usize::from(view.l4)..usize::from(view.end)).ok_or(DropReason::ChainedHeaders)?;
    if !checksum::is_valid(message, 0) {
        return Err(DropReason::BadL4Checksum);
    }
    let Some((&[icmp_type, code, _, _, _, length_words, _, _], body)) =
        message.split_first_chunk::<ICMP_BYTES>()
    else {
        return Err(DropReason::BadIcmp);
    };
    let embedded = body.get(..embedded_bytes(icmp_type, length_words, body.len())).unwrap_or(body);
    let header = Ipv4HeaderSlice::from_slice(embedded).map_err(|_| DropReason::BadIcmp)?;
    if !checksum::is_valid(header.slice(), 0) || header.fragments_offset().value() != 0 {
        return Err(DropReason::BadIcmp);
    }
    let header_bytes = header.slice().len();
    let l4 = embedded.get(header_bytes..).unwrap_or_default();
    let (class, src_port, dst_port) = embedded_ports(header.protocol().0, l4)?;
    let l3 = view.l4 + ICMP_BYTES as u16;
    Ok(IcmpErrorView {
        icmp_type,
        code,
        l3,
        l4: l3 + header_bytes as u16,
        end: l3 + embedded.len() as u16,
        protocol: header.protocol().0,
        class,
        tuple: Tuple {
            src: header.source_addr().into(),
            dst: header.destination_addr().into(),
            src_port,
            dst_port,
        },
        tcp_seq: read_u32(l4, 4).filter(|_| class == L4Class::Tcp),
        sctp_tag: read_u32(l4, 4).filter(|_| class == L4Class::Sctp),
    })
}

/// Translates the ICMP error that `view` and `error` describe: outer and embedded addresses, embedded
/// ports (identifier), and every checksum that covers them.
///
/// # Errors
///
/// [`DropReason::ChainedHeaders`] when `head` is shorter than the views say: they are of another frame.
/// Nothing has been written then.
pub fn translate_icmp_error(
    head: &mut [u8],
    view: &Ipv4View,
    error: &IcmpErrorView,
    to: &IcmpErrorTranslation,
) -> Result<(), DropReason> {
    let packet = head.get_mut(usize::from(view.l3)..usize::from(view.end));
    let packet = packet.filter(|_| view.l3 < view.l4 && view.l4 < error.l3 && error.end <= view.end);
    let (outer, message) = packet
        .and_then(|packet| packet.split_at_mut_checked(usize::from(view.l4 - view.l3)))
        .ok_or(DropReason::ChainedHeaders)?;
    let embedded = message
        .get_mut(usize::from(error.l3 - view.l4)..usize::from(error.end - view.l4))
        .and_then(|embedded| embedded.split_at_mut_checked(usize::from(error.l4 - error.l3)));
    let (inner, l4) = embedded.ok_or(DropReason::ChainedHeaders)?;

    translate_addresses(outer, (view.src, view.dst), (to.outer_src, to.outer_dst));
    let (from, tuple) = (error.tuple, to.tuple);
    translate_addresses(inner, (from.src, from.dst), (tuple.src, tuple.dst));
    translate_l4(l4, error, to);
    // The message was verified in full when it was parsed, so its checksum may be computed anew.
    write_u16(message, 2, 0);
    let field = checksum::internet(message, 0);
    write_u16(message, 2, field);
    Ok(())
}

fn translate_addresses(header: &mut [u8], from: (u32, u32), to: (u32, u32)) {
    let delta = Delta::of_u32(from.0, to.0) + Delta::of_u32(from.1, to.1);
    let field = read_u16(header, 10).unwrap_or_default();
    write_u16(header, 10, delta.apply(field));
    write_u32(header, 12, to.0);
    write_u32(header, 16, to.1);
}

/// Translates what is there of an embedded L4 header: 8 bytes at least.
fn translate_l4(l4: &mut [u8], error: &IcmpErrorView, to: &IcmpErrorTranslation) {
    let translation = Translation::new(error.class, error.tuple, to.tuple);
    let delta = translation.l4_delta;
    match error.class {
        L4Class::Tcp => {
            let old_seq = error.tcp_seq.unwrap_or_default();
            let new_seq = to.tcp_seq.unwrap_or(old_seq);
            write_u16(l4, 0, to.tuple.src_port);
            write_u16(l4, 2, to.tuple.dst_port);
            write_u32(l4, 4, new_seq);
            if let Some(field) = read_u16(l4, 16) {
                write_u16(l4, 16, (delta + Delta::of_u32(old_seq, new_seq)).apply(field));
            }
        }
        L4Class::Udp => {
            write_u16(l4, 0, to.tuple.src_port);
            write_u16(l4, 2, to.tuple.dst_port);
            let field = read_u16(l4, 6).unwrap_or_default();
            write_u16(l4, 6, delta.apply_udp(field));
        }
        L4Class::IcmpQueryRequest | L4Class::IcmpQueryReply => {
            let is_request = error.class == L4Class::IcmpQueryRequest;
            write_u16(l4, 4, if is_request { to.tuple.src_port } else { to.tuple.dst_port });
            let field = read_u16(l4, 2).unwrap_or_default();
            write_u16(l4, 2, delta.apply(field));
        }
        L4Class::Sctp | L4Class::UdpLite | L4Class::Dccp | L4Class::GreCall => {
            if let Some(header) = l4.first_chunk_mut() {
                other::translate_fields(header, error.class, &translation);
            }
        }
        L4Class::IcmpError | L4Class::IcmpOther | L4Class::Other => {}
    }
}

/// How many of the `available` bytes are the embedded packet: all, unless RFC 4884's length field
/// (32-bit words, types 3, 11 and 12) says that an extension follows.
fn embedded_bytes(icmp_type: u8, length_words: u8, available: usize) -> usize {
    match (icmp_type, usize::from(length_words) * 4) {
        (3 | 11 | 12, bytes) if bytes > 0 => bytes.min(available),
        _ => available,
    }
}

/// Class and ports of the first 8 bytes of an embedded L4 header.
fn embedded_ports(protocol: u8, l4: &[u8]) -> Result<(L4Class, u16, u16), DropReason> {
    let &header = l4.first_chunk::<8>().ok_or(DropReason::BadIcmp)?;
    let [a, b, c, d, e, f, _, _] = header;
    let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let identifier = u16::from_be_bytes([e, f]);
    match protocol {
        PROTOCOL_TCP => Ok((L4Class::Tcp, first, second)),
        PROTOCOL_UDP => Ok((L4Class::Udp, first, second)),
        PROTOCOL_ICMP => match icmp_class(a) {
            class @ L4Class::IcmpQueryRequest => Ok((class, identifier, 0)),
            class @ L4Class::IcmpQueryReply => Ok((class, 0, identifier)),
            _ => Err(DropReason::BadIcmp),
        },
        _ => Ok(other::embedded(protocol, header)),
    }
}
