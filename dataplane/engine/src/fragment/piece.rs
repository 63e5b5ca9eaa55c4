//! One fragment: which datagram it belongs to, and which bytes of it it carries.
//!
//! RFC 791 section 3.2; RFC 1858 section 3 and RFC 3128 (tiny fragments).

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::ids::TenantId;
use crate::packet::bytes::read_u16;
use crate::packet::parse::{FragmentKind, Ipv4View};
use crate::packet::{PROTOCOL_TCP, TCP_BYTES};
use crate::table::hash::HashKey;

/// What all fragments of a datagram have in common (RFC 791: addresses, protocol, identification), and where
/// they come from: nobody outside can spoil a datagram of an inside host, no tenant another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramKey {
    addresses: u64,
    rest: u64,
}

/// Where fragments come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Side of the NAT.
    pub side: Side,
    /// Tenant of the interface.
    pub tenant: TenantId,
}

impl DatagramKey {
    /// The datagram that a fragment from `origin` belongs to.
    #[must_use]
    pub fn new(view: &Ipv4View, piece: &Piece, origin: Origin) -> Self {
        Self {
            addresses: (u64::from(view.src) << 32) | u64::from(view.dst),
            rest: (u64::from(origin.tenant.0) << 32)
                | (u64::from(piece.identification) << 16)
                | side_bit(origin.side) << 8
                | u64::from(view.protocol),
        }
    }

    /// Hash of the datagram.
    pub(super) fn hash(self, key: &HashKey) -> u64 {
        key.hash2(self.addresses, self.rest)
    }

    /// Hash of the datagram's source.
    pub(super) fn source_hash(self, key: &HashKey) -> u64 {
        key.hash2(self.addresses >> 32, self.rest & ORIGIN)
    }
}

/// The bytes that a fragment carries: offsets into the datagram's data, without its IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub start: u16,
    /// Behind its last byte.
    pub end: u16,
    /// Whether no fragment follows.
    pub is_last: bool,
    /// The identification of the datagram, as received.
    pub identification: u16,
}

impl Piece {
    /// What the fragment `view` in `head` carries.
    ///
    /// # Errors
    ///
    /// Why no datagram may have such a fragment.
    pub fn of(head: &[u8], view: &Ipv4View) -> Result<Self, DropReason> {
        let l3 = usize::from(view.l3);
        let (Some(identification), Some(place)) = (read_u16(head, l3 + 4), read_u16(head, l3 + 6)) else {
            return Err(DropReason::Truncated);
        };
        let start = (place & 0x1FFF) * 8;
        let is_last = place & 0x2000 == 0;
        let length = view.end - view.l4;
        if length == 0 || (!is_last && !length.is_multiple_of(8)) {
            return Err(DropReason::FragmentBadLength);
        }
        let header_bytes = view.l4 - view.l3;
        let end = match start.checked_add(length) {
            Some(end) if end <= u16::MAX - header_bytes => end,
            _ => return Err(DropReason::FragmentOverflow),
        };
        let hides_header = view.protocol == PROTOCOL_TCP && usize::from(start) < TCP_BYTES;
        if view.fragment == FragmentKind::Later && hides_header {
            return Err(DropReason::FragmentTiny);
        }
        Ok(Self { start, end, is_last, identification })
    }

    /// Whether it carries the L4 header.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.start == 0
    }
}

const fn side_bit(side: Side) -> u64 {
    match side {
        Side::Internal => 0,
        Side::External => 1,
    }
}

/// Side and tenant.
const ORIGIN: u64 = 0xFFFF_0000_FF00;
