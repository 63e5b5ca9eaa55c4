//! SCTP packets: which ones open an association, end it, or name internal addresses.
//!
//! A chunk that decides about state is read only when the packet's checksum is right. All other packets cost one
//! look at the first chunk's type.

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::nat::session::{Facing, Session};
use crate::nat::tcp_state::TcpEvent;
use crate::packet::parse::{FragmentKind, Ipv4View};
use crate::packet::sctp::{self, Chunk};
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    /// What the packet means for the state of its association, in TCP's terms. Addresses that it lists are hidden
    /// where the session translates.
    ///
    /// # Errors
    /// Why it dies.
    pub(super) fn judge_sctp(
        &self,
        frame: &mut P::Frame,
        view: &Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) -> Result<TcpEvent, DropReason> {
        let chunk = first_chunk(frame, view)?;
        if chunk == Chunk::Other {
            return Ok(TcpEvent::Other);
        }
        let lists_addresses = matches!(chunk, Chunk::Init { .. } | Chunk::InitAck { .. });
        if view.fragment != FragmentKind::None || !sctp::is_valid(frame.head(), view) {
            return match (lists_addresses, view.fragment) {
                (false, _) => Ok(TcpEvent::Other),
                (true, FragmentKind::None) => Err(DropReason::BadL4Checksum),
                (true, _) => Err(DropReason::SctpFragment),
            };
        }
        let tag = sctp::verification_tag(frame.head(), view);
        let event = self.engine.nat.sessions.judge_chunk(&session, facing, chunk, tag)?;
        let to = session.translation(facing);
        if lists_addresses && (to.src, to.dst) != (view.src, view.dst) {
            sctp::hide_addresses(frame.head_mut(), view);
        }
        Ok(event)
    }
}

/// An association begins with an INIT that is right in itself.
///
/// # Errors
/// Why the packet opens nothing.
pub(super) fn check_association_opener<F: Frame>(frame: &mut F, view: &Ipv4View) -> Result<(), DropReason> {
    match first_chunk(frame, view)? {
        Chunk::Init { .. } if view.fragment != FragmentKind::None => Err(DropReason::SctpFragment),
        Chunk::Init { .. } if sctp::is_valid(frame.head(), view) => Ok(()),
        Chunk::Init { .. } => Err(DropReason::BadL4Checksum),
        _ => Err(DropReason::SctpNoAssociation),
    }
}

fn first_chunk<F: Frame>(frame: &mut F, view: &Ipv4View) -> Result<Chunk, DropReason> {
    let is_split = frame.head().len() < usize::from(view.end);
    if is_split && sctp::may_be_control(frame.head(), view) && !frame.linearize() {
        return Err(DropReason::ChainedHeaders);
    }
    Ok(sctp::first_chunk(frame.head(), view))
}
