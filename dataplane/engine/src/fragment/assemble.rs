//! Whole reassembly: the kept fragments of a datagram become one packet in one frame.

use crate::counters::DropCounters;
use crate::drop_reason::DropReason;
use crate::fragment::kept::Kept;
use crate::fragment::{Datagram, Fragments, State};
use crate::frame::Frame;
use crate::packet::build::{self, L3_OFFSET};
use crate::packet::bytes::{read_u16, write_u16};
use crate::packet::parse::FragmentKind;
use crate::packet::{ETHERTYPE_IPV4, checksum};

impl<F: Frame> Fragments<F> {
    /// Makes the empty `frame` the packet whose fragments are all kept, and forgets the datagram. Its header is
    /// that of the first fragment (RFC 791 section 3.2, RFC 815 section 8); the Ethernet header in front has no
    /// addresses. Returns how many fragments there were.
    ///
    /// # Errors
    ///
    /// Why it cannot be done. The fragments are gone and counted in `drops`.
    pub fn assemble(
        &mut self,
        datagram: Datagram,
        frame: &mut F,
        drops: &DropCounters,
    ) -> Result<u64, DropReason> {
        let (header_bytes, data_bytes) = self.whole_bytes(datagram);
        let is_sized = frame.resize(L3_OFFSET + header_bytes + data_bytes);
        let mut outcome = if is_sized { Ok(()) } else { Err(DropReason::FragmentTooLong) };
        let mut fragments = 0;
        while let Some(kept) = self.take_kept(datagram) {
            fragments += 1;
            outcome = outcome.and_then(|()| place(frame, header_bytes, kept));
        }
        match outcome.and_then(|()| complete_header(frame, header_bytes, data_bytes)) {
            Ok(()) => {
                self.finish(datagram);
                Ok(fragments)
            }
            Err(reason) => {
                drops.add(reason, fragments);
                self.refuse(datagram, reason, drops);
                Err(reason)
            }
        }
    }

    /// Length of the header and of the data of a gathered datagram.
    fn whole_bytes(&self, datagram: Datagram) -> (usize, usize) {
        let Some(datagram) = self.datagrams.get(datagram.0) else { return (0, 0) };
        let header_bytes = match datagram.state {
            State::Whole { header_bytes } => header_bytes,
            State::Waiting | State::Opening | State::Open(_) | State::Refused(_) => 0,
        };
        (usize::from(header_bytes), usize::from(datagram.extents.total().unwrap_or(0)))
    }
}

/// Copies what a fragment carries to its place in `frame`.
fn place<F: Frame>(frame: &mut F, header_bytes: usize, kept: Kept<F>) -> Result<(), DropReason> {
    let Kept { frame: mut fragment, view } = kept;
    if !fragment.linearize() {
        return Err(DropReason::ChainedHeaders);
    }
    let from = fragment.head();
    let header = from.get(usize::from(view.l3)..usize::from(view.l4)).ok_or(DropReason::Truncated)?;
    let data = from.get(usize::from(view.l4)..usize::from(view.end)).ok_or(DropReason::Truncated)?;
    let start = usize::from(read_u16(header, 6).unwrap_or_default() & 0x1FFF) * 8;
    let at = L3_OFFSET + header_bytes + start;
    let to = frame.head_mut().get_mut(at..at + data.len()).ok_or(DropReason::FragmentTooLong)?;
    to.copy_from_slice(data);
    if view.fragment == FragmentKind::First {
        let to = frame.head_mut().get_mut(L3_OFFSET..L3_OFFSET + header.len());
        to.ok_or(DropReason::FragmentTooLong)?.copy_from_slice(header);
    }
    Ok(())
}

/// The header of a packet that is not a fragment; DF stays as the first fragment had it.
fn complete_header<F: Frame>(
    frame: &mut F,
    header_bytes: usize,
    data_bytes: usize,
) -> Result<(), DropReason> {
    let total_length = u16::try_from(header_bytes + data_bytes).map_err(|_| DropReason::FragmentTooLong)?;
    let head = frame.head_mut();
    let header = head.get_mut(L3_OFFSET..L3_OFFSET + header_bytes).ok_or(DropReason::FragmentTooLong)?;
    let place = read_u16(header, 6).unwrap_or_default();
    write_u16(header, 2, total_length);
    write_u16(header, 6, place & 0x4000);
    write_u16(header, 10, 0);
    let field = checksum::internet(header, 0);
    write_u16(header, 10, field);
    if build::ethernet(head, [0; 6], [0; 6], 0, ETHERTYPE_IPV4) {
        Ok(())
    } else {
        Err(DropReason::NoHeadroom)
    }
}
