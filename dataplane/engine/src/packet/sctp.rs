//! SCTP packets (RFC 9260 section 3): ports, verification tag, first chunk, and what translation changes.
//!
//! The checksum covers neither addresses nor a pseudo header, so a kept port costs nothing; a changed one is
//! carried into the checksum by its linearity ([`crc32c::change`]), which needs the whole packet's length: a
//! fragment whose port changes is refused. Only the first chunk is looked at. What matters here either stands
//! alone (INIT, INIT ACK, SHUTDOWN COMPLETE) or first (COOKIE ECHO); an ABORT behind other chunks is not seen.
//!
//! An INIT that lists addresses (sections 3.3.2.1.1 to 3.3.2.1.3) would name internal ones to the world. Through
//! a translation each such parameter becomes padding of the same length (RFC 4820 section 4), so both ends use the
//! address that the packet came from (section 5.1.2 A), and the association has one path. ASCONF (RFC 5061) is
//! authenticated and passes unread.

use crate::drop_reason::DropReason;
use crate::packet::bytes::{read_u16, read_u32};
use crate::packet::crc32c;
use crate::packet::parse::{FragmentKind, Ipv4View};
use crate::packet::rewrite::Translation;

/// Length of the common header, bytes.
pub const SCTP_BYTES: usize = 12;

/// What the first chunk of a packet says about its association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// INIT: the sender's tag.
    Init {
        /// What packets to its sender shall carry.
        tag: u32,
    },
    /// INIT ACK: the sender's tag.
    InitAck {
        /// What packets to its sender shall carry.
        tag: u32,
    },
    /// COOKIE ECHO: its sender accepts the INIT ACK.
    CookieEcho,
    /// ABORT or SHUTDOWN COMPLETE.
    End {
        /// The T bit: it carries its sender's tag, since its sender does not know the other.
        is_reflected: bool,
    },
    /// Any other, or none.
    Other,
}

/// The verification tag of the SCTP packet `view` found in `head`.
#[must_use]
pub fn verification_tag(head: &[u8], view: &Ipv4View) -> u32 {
    read_u32(head, usize::from(view.l4) + 4).unwrap_or_default()
}

/// Whether the first chunk is of a type that [`first_chunk`] tells from others, or lies beyond `head`.
#[must_use]
pub fn may_be_control(head: &[u8], view: &Ipv4View) -> bool {
    let kind = head.get(usize::from(view.payload));
    kind.is_none_or(|kind| [INIT, INIT_ACK, ABORT, COOKIE_ECHO, SHUTDOWN_COMPLETE].contains(kind))
}

/// The first chunk of the SCTP packet `view` found in `head`. A control chunk must all be there.
#[must_use]
pub fn first_chunk(head: &[u8], view: &Ipv4View) -> Chunk {
    let chunks = head.get(usize::from(view.payload)..usize::from(view.end)).unwrap_or_default();
    let tag = read_u32(chunks, 4);
    match (chunks, tag) {
        (&[INIT, ..], Some(tag)) => Chunk::Init { tag },
        (&[INIT_ACK, ..], Some(tag)) => Chunk::InitAck { tag },
        (&[ABORT | SHUTDOWN_COMPLETE, flags, ..], _) => Chunk::End { is_reflected: flags & T_BIT != 0 },
        (&[COOKIE_ECHO, ..], _) => Chunk::CookieEcho,
        _ => Chunk::Other,
    }
}

/// Whether the checksum of the SCTP packet `view` found in `head` is right; it must all be there.
#[must_use]
pub fn is_valid(head: &[u8], view: &Ipv4View) -> bool {
    let packet = head.get(usize::from(view.l4)..usize::from(view.end)).and_then(<[u8]>::split_first_chunk);
    let Some((header, chunks)) = packet else { return false };
    let &[a, b, c, d, e, f, g, h, sum @ ..]: &[u8; SCTP_BYTES] = header;
    let whole = crc32c::sum([&[a, b, c, d, e, f, g, h, 0, 0, 0, 0], chunks]);
    whole == u32::from_le_bytes(sum)
}

/// Turns every address that an INIT or INIT ACK lists into padding, checksum included. Returns how many.
pub fn hide_addresses(head: &mut [u8], view: &Ipv4View) -> u32 {
    let Some(packet) = head.get_mut(usize::from(view.l4)..usize::from(view.end)) else { return 0 };
    let Some(chunk_bytes) = read_u16(packet, SCTP_BYTES + 2) else { return 0 };
    let end = (SCTP_BYTES + usize::from(chunk_bytes)).min(packet.len());
    let (mut at, mut hidden) = (SCTP_BYTES + INIT_BYTES, 0);
    // Each turn moves on by four bytes at least.
    while let (Some(kind), Some(length)) = (read_u16(packet, at), read_u16(packet, at + 2))
        && at + 4 <= end
    {
        if matches!(kind, IPV4_ADDRESS | IPV6_ADDRESS | HOST_NAME) {
            let ([a, b], [c, d]) = (PADDING.to_be_bytes(), length.to_be_bytes());
            set_word(packet, at, [a, b, c, d]);
            hidden += 1;
        }
        at += usize::from(length).next_multiple_of(4).max(4);
    }
    hidden
}

/// Whether `view` is a fragment of a packet whose port `to` changes: its checksum cannot be mended.
#[must_use]
pub fn is_untranslatable(view: &Ipv4View, to: &Translation) -> bool {
    view.fragment != FragmentKind::None && (view.src_port, view.dst_port) != (to.src_port, to.dst_port)
}

/// Writes new ports into the packet at `l4`.
pub(super) fn translate(l4: &mut [u8], view: &Ipv4View, to: &Translation) -> Result<(), DropReason> {
    if (view.src_port, view.dst_port) == (to.src_port, to.dst_port) {
        return Ok(());
    }
    if view.fragment != FragmentKind::None {
        return Err(DropReason::SctpFragment);
    }
    let header = l4.first_chunk_mut::<SCTP_BYTES>().ok_or(DropReason::ChainedHeaders)?;
    let ([a, b], [c, d]) = (to.src_port.to_be_bytes(), to.dst_port.to_be_bytes());
    let after = (view.end - view.l4).saturating_sub(4);
    write_word(header, 0, [a, b, c, d], after);
    Ok(())
}

fn set_word(packet: &mut [u8], at: usize, new: [u8; 4]) {
    let after = u16::try_from(packet.len().saturating_sub(at + 4)).unwrap_or_default();
    write_word(packet, at, new, after);
}

/// Replaces the word at `at`, `after` bytes before the packet's end, and updates the checksum.
fn write_word(packet: &mut [u8], at: usize, new: [u8; 4], after: u16) {
    let Some(word) = packet.get_mut(at..).and_then(|tail| tail.first_chunk_mut::<4>()) else { return };
    let old = std::mem::replace(word, new);
    let field = packet.get_mut(CHECKSUM..).and_then(|tail| tail.first_chunk_mut::<4>());
    if let Some(field) = field {
        *field = (u32::from_le_bytes(*field) ^ crc32c::change(old, new, after)).to_le_bytes();
    }
}

const CHECKSUM: usize = 8;
/// Of an INIT or INIT ACK without parameters (RFC 9260 section 3.3.2).
const INIT_BYTES: usize = 20;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;
const SHUTDOWN_COMPLETE: u8 = 14;
const T_BIT: u8 = 1;
const IPV4_ADDRESS: u16 = 5;
const IPV6_ADDRESS: u16 = 6;
const HOST_NAME: u16 = 11;
const PADDING: u16 = 0x8005;
