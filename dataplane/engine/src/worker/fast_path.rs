//! The fast path: an ordinary packet of a session that has nothing special about it.
//!
//! What it does is what `hit` does, for the packet for which each of its questions has the usual answer. Whatever
//! has not, takes the plain path from the start; so there is one place that decides about everything
//! unusual, and this one may be short. Both give the same packets: `tests/engine/fast_path.rs` holds
//! them against each other.

use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, NicPortId};
use crate::nat::session::Passage;
use crate::nat::tcp_state::{FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN};
use crate::packet::PROTOCOL_TCP;
use crate::packet::parse::check_martians;
use crate::packet::plain::Plain;
use crate::router::interface::Exit;
use crate::time::Tick;
use crate::worker::Turn;
use crate::worker::batch::Lane;

impl<P: PacketIo> Turn<'_, P> {
    /// Sends the packet of `lane` on its way, where that is an ordinary one; the caller counts it.
    ///
    /// # Errors
    /// Gives the frame back as it came.
    #[inline(always)]
    pub(super) fn forward(&mut self, mut frame: P::Frame, lane: &Lane, tick: Tick) -> Result<(), P::Frame> {
        let Lane { key, plain, candidate, interface, .. } = lane;
        let sessions = &self.engine.nat.sessions;
        let Some(passage) = sessions.find_ordinary(*candidate, *key) else { return Err(frame) };
        let Some((exit, dst)) = self.way(&frame, plain, *interface, &passage) else { return Err(frame) };
        if plain.protocol() == PROTOCOL_TCP {
            self.note_segment(frame.head(), plain, &passage, tick);
        } else {
            sessions.refresh(&passage, tick);
        }
        let mut to = passage.becomes();
        if !plain.dont_fragment() {
            to.identification = self.identify(lane, to.addresses);
        }
        if !plain.translate(frame.head_mut(), &to, dst, &exit.rest) {
            return Err(frame);
        }
        self.io.transmit(exit.nic_port, frame);
        Ok(())
    }

    /// The way out of a packet and the MAC address of who is there (upper 48 bits), if there is nothing to decide about
    /// it.
    #[inline(always)]
    fn way(
        &self,
        frame: &P::Frame,
        plain: &Plain,
        came_in: InterfaceId,
        passage: &Passage<'_>,
    ) -> Option<(&Exit, u64)> {
        let router = &self.engine.router;
        let (expected, leaves, neighbor) = passage.way();
        let exit = router.interfaces.exit(leaves)?;
        let is_usual = expected == came_in
            && plain.tcp_flags & (FLAG_SYN | FLAG_FIN | FLAG_RST) == 0
            && plain.ttl() > 1
            // The frame, which is no shorter than the packet: what is behind that must fit too, or be cut off.
            && frame.len() <= exit.frame_bytes as usize
            && exit.l2_bytes == plain.l3
            && self.owned.egress.waiting() == 0;
        if !is_usual {
            return None;
        }
        let dst = router.neighbors.known(neighbor)?;
        Some((exit, dst))
    }

    /// A frame whose lane is empty, or a packet that has no ordinary session or is no ordinary packet of it.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_otherwise(
        &mut self,
        frame: P::Frame,
        lane: &Lane,
        (nic_port, tick): (NicPortId, Tick),
    ) {
        if lane.is_empty() {
            return self.take(nic_port, frame);
        }
        match self.engine.nat.sessions.find_candidate(lane.candidate, lane.hash, lane.key) {
            Some((session, facing)) => self.hit(frame, &lane.view(), lane.interface, session, facing),
            None => self.open_lane(frame, lane, tick),
        }
    }

    /// A packet of no session.
    fn open_lane(&mut self, frame: P::Frame, lane: &Lane, tick: Tick) {
        let Lane { key, hash, interface, .. } = *lane;
        let view = lane.view();
        if let Err(reason) = check_martians(view.src, view.dst) {
            return self.drop(reason);
        }
        let Some((frame, (session, facing))) = self.open(frame, &view, interface, (key, hash)) else {
            return;
        };
        let candidate = Some(self.engine.nat.sessions.candidate(&session, facing));
        match self.forward(frame, &Lane { candidate, ..*lane }, tick) {
            Ok(()) => self.counters.forwarded.add(1),
            Err(frame) => self.hit(frame, &view, interface, session, facing),
        }
    }

    /// A new identification for a packet that somebody may fragment, where it is sent in another's name.
    #[inline(never)]
    fn identify(&self, lane: &Lane, becomes: u64) -> Option<u16> {
        let (src, dst) = ((becomes >> 32) as u32, becomes as u32);
        let is_another = lane.view().src != src;
        is_another.then(|| self.engine.identifications.next(src, dst, lane.plain.protocol()))
    }

    /// Notes a segment without SYN, FIN and RST, of which none is refused.
    #[inline(always)]
    fn note_segment(&self, head: &[u8], plain: &Plain, passage: &Passage<'_>, tick: Tick) {
        let sessions = &self.engine.nat.sessions;
        if let Some(numbers) = plain.tcp_numbers(head) {
            sessions.note_data(passage.index(), passage.facing(), numbers, plain.tcp_flags & FLAG_ACK != 0);
        }
        sessions.refresh_tcp(passage, tick, self.context.now);
    }
}
