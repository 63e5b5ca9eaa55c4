//! The fast path: an ordinary packet of a session that has nothing special about it.
//!
//! What it does is what `hit` does, for the packet for which each of its questions has the usual answer. Whatever
//! has not, takes the plain path from the start; so there is one place that decides about everything
//! unusual, and this one may be short. Both give the same packets: `tests/engine/fast_path.rs` holds
//! them against each other.

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::nat::key::FlowKey;
use crate::nat::session::{Facing, Session};
use crate::nat::tcp_state::{FLAG_FIN, FLAG_RST, FLAG_SYN};
use crate::packet::PROTOCOL_TCP;
use crate::packet::parse::check_martians;
use crate::packet::plain::Plain;
use crate::router::interface::Interface;
use crate::time::Tick;
use crate::worker::Turn;
use crate::worker::batch::Lane;

/// Where a packet leaves.
struct Way<'a> {
    interface: &'a Interface,
    dst_mac: [u8; 6],
}

impl<P: PacketIo> Turn<'_, P> {
    /// Sends the packet of `lane` on its way, by the fast path where it can.
    #[inline(always)]
    pub(super) fn forward(&mut self, lane: Lane<P::Frame>, tick: Tick) {
        let Lane { frame, key, hash, plain, candidate, interface } = lane;
        match self.engine.nat.sessions.find_candidate(candidate, hash, key) {
            Some(found) => self.pass(frame, &plain, interface, found, tick),
            None => self.open_lane(frame, &plain, interface, (key, hash), tick),
        }
    }

    /// A packet of a known session.
    #[inline(always)]
    fn pass(
        &mut self,
        mut frame: P::Frame,
        plain: &Plain,
        came_in: InterfaceId,
        (session, facing): (Session<'_>, Facing),
        tick: Tick,
    ) {
        let Some(way) = self.way(plain, came_in, session, facing) else {
            return self.hit_lane(frame, plain, came_in, session, facing);
        };
        let sessions = &self.engine.nat.sessions;
        if plain.protocol == PROTOCOL_TCP {
            self.note_segment(frame.head(), plain, session, facing);
        } else if session.last_seen() != tick {
            sessions.touch(&session, facing, None, self.context.now);
        }
        let mut to = session.becomes(facing);
        if !plain.dont_fragment && (to.addresses ^ plain.addresses) >> 32 != 0 {
            let (src, dst) = ((to.addresses >> 32) as u32, to.addresses as u32);
            to.identification = Some(self.engine.identifications.next(src, dst, plain.protocol));
        }
        let head = frame.head_mut();
        if !plain.translate(head, &to) || !way.interface.put_header(head, way.dst_mac) {
            return self.drop(DropReason::NoHeadroom);
        }
        self.counters.forwarded.add(1);
        self.io.transmit(way.interface.nic_port, frame);
    }

    /// The way out of a packet, if there is nothing to decide about it.
    #[inline(always)]
    fn way(
        &self,
        plain: &Plain,
        came_in: InterfaceId,
        session: Session<'_>,
        facing: Facing,
    ) -> Option<Way<'_>> {
        let hop = session.next_hop(facing);
        let interface = self.engine.router.interfaces.of(hop.interface)?;
        let is_usual = !session.needs_care()
            && session.next_hop(facing.opposite()).interface == came_in
            && plain.tcp_flags & (FLAG_SYN | FLAG_FIN | FLAG_RST) == 0
            && plain.ttl > 1
            && plain.packet_bytes <= interface.mtu
            && interface.l2_bytes() == usize::from(plain.l3)
            && self.owned.egress.waiting() == 0;
        if !is_usual {
            return None;
        }
        let dst_mac = self.engine.router.neighbors.known(hop.neighbor)?;
        Some(Way { interface, dst_mac })
    }

    /// A packet of a session that the fast path does not send, step by step.
    #[cold]
    #[inline(never)]
    fn hit_lane(
        &mut self,
        frame: P::Frame,
        plain: &Plain,
        interface: InterfaceId,
        session: Session<'_>,
        facing: Facing,
    ) {
        self.hit(frame, &plain.view(), interface, session, facing);
    }

    /// A packet of no session.
    #[cold]
    #[inline(never)]
    fn open_lane(
        &mut self,
        frame: P::Frame,
        plain: &Plain,
        interface: InterfaceId,
        key: (FlowKey, u64),
        tick: Tick,
    ) {
        let view = plain.view();
        if let Err(reason) = check_martians(view.src, view.dst) {
            return self.drop(reason);
        }
        if let Some((frame, found)) = self.open(frame, &view, interface, key) {
            self.pass(frame, plain, interface, found, tick);
        }
    }

    /// Notes a segment without SYN, FIN and RST, of which none is refused.
    #[inline]
    fn note_segment(&self, head: &[u8], plain: &Plain, session: Session<'_>, facing: Facing) {
        let sessions = &self.engine.nat.sessions;
        let event = sessions.judge_segment(&session, facing, head, &plain.view());
        sessions.touch(&session, facing, event, self.context.now);
    }
}
