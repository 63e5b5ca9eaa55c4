//! L4 headers of protocols other than TCP, UDP and ICMP: what tells their flows apart, and what translation changes.
//!
//! | protocol | flow | checksum |
//! |---|---|---|
//! | SCTP (RFC 9260) | ports | CRC32c over the packet alone ([`sctp`]) |
//! | UDP-Lite (RFC 3828) | ports | as UDP's, never absent; always covers the header |
//! | DCCP (RFC 4340) | ports, never changed | pseudo header, then as UDP's |
//! | GRE version 1 (RFC 2637) | call id of the receiver | none |
//! | all others | addresses | what they have is not known here |
//!
//! ESP is told apart by addresses, not by its SPI: one internal host per remote one and external address.

use crate::drop_reason::DropReason;
use crate::packet::parse::{FragmentKind, Ipv4View, L4, L4Class, L4Place, l4_header};
use crate::packet::rewrite::Translation;
use crate::packet::sctp::{self, SCTP_BYTES};
use crate::packet::{
    PROTOCOL_DCCP, PROTOCOL_GRE, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_UDPLITE, UDP_BYTES,
};

/// Whether checksums of the protocol cover addresses and ports as TCP's does (RFC 9293 section 3.1).
#[must_use]
#[inline]
pub const fn has_pseudo_header(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_DCCP | PROTOCOL_UDPLITE)
}

/// Whether the L4 header of the protocol, other than TCP, UDP and ICMP, has ports that may be changed.
#[must_use]
pub const fn has_changeable_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_SCTP | PROTOCOL_UDPLITE)
}

/// Reads the L4 header at the start of `bytes`, which may end early or run past the packet.
#[cold]
pub(super) fn parse(protocol: u8, bytes: &[u8], place: &L4Place) -> Result<L4, DropReason> {
    let with_ports = |class, header_bytes, [a, b, c, d]: [u8; 4]| L4 {
        class,
        header_bytes,
        src_port: u16::from_be_bytes([a, b]),
        dst_port: u16::from_be_bytes([c, d]),
        tcp_flags: 0,
    };
    match protocol {
        PROTOCOL_SCTP => {
            let &[a, b, c, d, ..] = l4_header::<SCTP_BYTES>(bytes, place)?;
            Ok(with_ports(L4Class::Sctp, SCTP_BYTES, [a, b, c, d]))
        }
        PROTOCOL_UDPLITE => {
            let &[a, b, c, d, e, f, _, _] = l4_header::<UDP_BYTES>(bytes, place)?;
            let coverage = usize::from(u16::from_be_bytes([e, f]));
            // 0 is the whole packet; a fragment does not know how much that is.
            let is_too_much = coverage > place.length && place.fragment == FragmentKind::None;
            if (1..UDP_BYTES).contains(&coverage) || is_too_much {
                return Err(DropReason::BadL4Header);
            }
            Ok(with_ports(L4Class::UdpLite, UDP_BYTES, [a, b, c, d]))
        }
        PROTOCOL_DCCP => {
            let &[a, b, c, d, ..] = l4_header::<DCCP_BYTES>(bytes, place)?;
            Ok(with_ports(L4Class::Dccp, DCCP_BYTES, [a, b, c, d]))
        }
        PROTOCOL_GRE if place.length >= GRE_CALL_BYTES => {
            let &header = l4_header::<GRE_CALL_BYTES>(bytes, place)?;
            match call_id(header) {
                Some(call_id) => Ok(L4 {
                    class: L4Class::GreCall,
                    header_bytes: GRE_CALL_BYTES,
                    dst_port: call_id,
                    ..L4::BY_ADDRESS
                }),
                None => Ok(L4::BY_ADDRESS),
            }
        }
        _ => Ok(L4::BY_ADDRESS),
    }
}

/// Class and ports of the first 8 bytes of a header that an ICMP error embeds.
pub(super) fn embedded(protocol: u8, header: [u8; 8]) -> (L4Class, u16, u16) {
    let [a, b, c, d, ..] = header;
    let class = match protocol {
        PROTOCOL_SCTP => L4Class::Sctp,
        PROTOCOL_UDPLITE => L4Class::UdpLite,
        PROTOCOL_DCCP => L4Class::Dccp,
        PROTOCOL_GRE => match call_id(header) {
            Some(call_id) => return (L4Class::GreCall, 0, call_id),
            None => return (L4Class::Other, 0, 0),
        },
        _ => return (L4Class::Other, 0, 0),
    };
    (class, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// Translates the L4 header at the start of `l4`.
#[cold]
pub(super) fn translate(l4: &mut [u8], view: &Ipv4View, to: &Translation) -> Result<(), DropReason> {
    match view.class {
        L4Class::Sctp => sctp::translate(l4, view, to),
        L4Class::UdpLite | L4Class::Dccp | L4Class::GreCall => {
            translate_fields(l4.first_chunk_mut().ok_or(DropReason::ChainedHeaders)?, view.class, to);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Translates what the first 8 bytes of an L4 header have: all but the checksum of SCTP, which nobody can
/// verify in an ICMP error anyway.
pub(super) fn translate_fields(header: &mut [u8; 8], class: L4Class, to: &Translation) {
    if class == L4Class::GreCall {
        header[6..8].copy_from_slice(&to.dst_port.to_be_bytes());
        return;
    }
    header[0..2].copy_from_slice(&to.src_port.to_be_bytes());
    header[2..4].copy_from_slice(&to.dst_port.to_be_bytes());
    let field = u16::from_be_bytes([header[6], header[7]]);
    let field = match class {
        L4Class::UdpLite => to.l4_delta.apply_udp(field),
        L4Class::Dccp => to.l4_delta.apply(field),
        _ => return,
    };
    header[6..8].copy_from_slice(&field.to_be_bytes());
}

/// The call id of an enhanced GRE packet (RFC 2637 section 4.1): version 1, PPP, with a key.
fn call_id(header: [u8; 8]) -> Option<u16> {
    let [flags, version, a, b, _, _, c, d] = header;
    let is_call = flags & GRE_KEY != 0 && version & 7 == 1 && u16::from_be_bytes([a, b]) == GRE_PPP;
    is_call.then_some(u16::from_be_bytes([c, d]))
}

/// Of the generic DCCP header with short sequence numbers (RFC 4340 section 5.1).
const DCCP_BYTES: usize = 12;
const GRE_CALL_BYTES: usize = 8;
const GRE_KEY: u8 = 0x20;
const GRE_PPP: u16 = 0x880B;
