//! Fragmentation of a packet that is larger than the outgoing MTU and may be cut (RFC 791 section 3.2, RFC 1812
//! section 4.2.2.7).
//!
//! Fragments leave in order, each as large as fits. A fragment is cut like a whole packet: offsets go on from
//! its own. Options whose copied flag is set are in every fragment, the others in the first only. Header
//! checksums are computed anew: the packet's own has been verified.

use crate::frame::{Frame, PacketIo};
use crate::packet::bytes::{read_u16, write_u16};
use crate::packet::{IPV4_BYTES, checksum};

/// Why a packet was not cut, or not to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutError {
    /// It must not be: DF is set.
    DontFragment,
    /// Its header or length is impossible.
    Malformed,
    /// There was no further frame, or it was too small.
    NoFrame,
}

/// Cuts the IPv4 packet that begins `l3` bytes into `head` (what follows its end is left out) into fragments of at
/// most `mtu` bytes (68 at least, RFC 791) and gives each to `send`: a frame of `io`, with its IPv4 header `l3` bytes
/// from the start and undefined bytes in front. Returns how many there were, and whether that was all.
pub fn cut<P: PacketIo>(
    io: &mut P,
    head: &[u8],
    l3: usize,
    mtu: u16,
    mut send: impl FnMut(&mut P, P::Frame),
) -> (u64, Result<(), CutError>) {
    let Some(packet) = Packet::read(head.get(l3..).unwrap_or_default()) else {
        return (0, Err(CutError::Malformed));
    };
    if packet.place & DONT_FRAGMENT != 0 {
        return (0, Err(CutError::DontFragment));
    }
    let (later_header, later_bytes) = packet.later_header();
    let later_header = later_header.get(..later_bytes).unwrap_or_default();
    let mut header = packet.header;
    let (mut rest, mut offset, mut made) = (packet.data, packet.place & OFFSET, 0);
    while !rest.is_empty() {
        // Eight bytes at least: no header is longer than 60.
        let room = usize::from(mtu).saturating_sub(header.len()).max(8);
        let is_end = rest.len() <= room;
        let (data, after) = rest.split_at_checked(room & !7).filter(|_| !is_end).unwrap_or((rest, &[]));
        let more = if is_end { packet.place & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let place = (packet.place & RESERVED) | more | (offset & OFFSET);
        let Some(frame) = io.alloc().and_then(|frame| write(frame, l3, header, place, data)) else {
            return (made, Err(CutError::NoFrame));
        };
        send(io, frame);
        made += 1;
        // A packet has fewer than 2^13 times eight bytes.
        offset += (data.len() / 8) as u16;
        (rest, header) = (after, later_header);
    }
    (made, Ok(()))
}

/// An IPv4 packet, taken apart.
struct Packet<'a> {
    /// With options.
    header: &'a [u8],
    data: &'a [u8],
    /// Flags and fragment offset.
    place: u16,
}

impl<'a> Packet<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let header_bytes = usize::from(bytes.first()? & 0x0F) * 4;
        let packet = bytes.get(..usize::from(read_u16(bytes, 2)?))?;
        let (header, data) = packet.split_at_checked(header_bytes)?;
        (header.len() >= IPV4_BYTES).then_some(Self { header, data, place: read_u16(header, 6)? })
    }

    /// The header of every fragment but the first: without the options that are not copied, padded to a multiple of four
    /// bytes.
    fn later_header(&self) -> ([u8; MAX_HEADER_BYTES], usize) {
        let mut copy = [0; MAX_HEADER_BYTES];
        let (fixed, mut options) = self.header.split_at_checked(IPV4_BYTES).unwrap_or((self.header, &[]));
        let mut bytes = 0;
        let mut push = |part: &[u8]| {
            if let Some(to) = copy.get_mut(bytes..bytes + part.len()) {
                to.copy_from_slice(part);
                bytes += part.len();
            }
        };
        push(fixed);
        while let Some((option, after)) = split_option(options) {
            if option.first().is_some_and(|kind| kind & COPIED != 0) {
                push(option);
            }
            options = after;
        }
        // End of options is zero, as the array is.
        let bytes = bytes.next_multiple_of(4);
        copy[0] = (copy[0] & 0xF0) | (bytes / 4) as u8;
        (copy, bytes)
    }
}

/// The first option and what follows it. `None`: the options end here, or are malformed.
fn split_option(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = match *options.first()? {
        END_OF_OPTIONS => return None,
        NO_OPERATION => 1,
        _ => usize::from(*options.get(1)?).max(2),
    };
    options.split_at_checked(length)
}

/// Writes one fragment.
fn write<F: Frame>(mut frame: F, l3: usize, header: &[u8], place: u16, data: &[u8]) -> Option<F> {
    let packet_bytes = header.len() + data.len();
    let total_length = u16::try_from(packet_bytes).ok()?;
    if !frame.resize(l3 + packet_bytes) {
        return None;
    }
    let (to_header, to_data) = frame.head_mut().get_mut(l3..)?.split_at_mut_checked(header.len())?;
    to_header.copy_from_slice(header);
    to_data.copy_from_slice(data);
    write_u16(to_header, 2, total_length);
    write_u16(to_header, 6, place);
    write_u16(to_header, 10, 0);
    let field = checksum::internet(to_header, 0);
    write_u16(to_header, 10, field);
    Some(frame)
}

const RESERVED: u16 = 0x8000;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1FFF;
const MAX_HEADER_BYTES: usize = 60;
/// RFC 791 section 3.1: the flag of an option that goes into every fragment.
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
