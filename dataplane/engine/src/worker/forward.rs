//! From a parsed packet to its next hop: hits, first packets, ALG flows.

use algate_alg::Direction;
use algate_config::{IcmpRefusal, Side};

use crate::alg_stage::Handled;
use crate::alg_stage::handover::Handed;
use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::nat::key::FlowKey;
use crate::nat::session::{Facing, Session};
use crate::nat::tcp_state::{FLAG_ACK, FLAG_RST, FLAG_SYN, TcpEvent, TcpState};
use crate::nat::{Opened, Opener, Refusal};
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class};
use crate::packet::rewrite::{clamp_mss, decrement_ttl, set_identification, translate};
use crate::packet::shift::{shift_ack, shift_seq};
use crate::router::egress::NextHop;
use crate::router::icmp::{IcmpError, Offender};
use crate::router::interface::Interface;
use crate::worker::admission::Admission;
use crate::worker::sctp::check_association_opener;
use crate::worker::{Owned, Turn};

impl<'a, P: PacketIo> Turn<'a, P> {
    /// A packet of a known session.
    #[inline]
    pub(super) fn hit(
        &mut self,
        mut frame: P::Frame,
        view: &Ipv4View,
        came_in: InterfaceId,
        session: Session<'_>,
        facing: Facing,
    ) {
        if !self.came_from_its_side(came_in, session, facing) {
            return self.drop(DropReason::MartianSource);
        }
        let next_hop = session.next_hop(facing);
        if let Err(error) = self.check_transit(view, next_hop) {
            return self.refuse(&frame, view, came_in, error);
        }
        if is_query_backwards(view.class, session.direction(facing)) {
            return self.drop(DropReason::BadIcmp);
        }
        if view.tcp_flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN && begins_anew(session, facing) {
            self.engine.nat.sessions.return_to_alg(&session);
        }
        // Looked at once: it may leave its stage at any moment.
        let is_alg = session.is_alg();
        if is_alg && view.fragment == FragmentKind::None && session.alg_owner() != self.id {
            return self.hand_over(frame, view, came_in, (session, facing));
        }
        let shifts = session.shifts().filter(|_| !is_alg && view.class == L4Class::Tcp);
        if let Some(shifts) = shifts {
            shift_ack(frame.head_mut(), view, shifts.of_ack(session.direction(facing)));
        }
        let sessions = &self.engine.nat.sessions;
        let tcp_event = match view.class {
            // The stage judges resets by numbers of its own, and tells what became of the session.
            L4Class::Tcp if is_alg => Some(TcpEvent::of_flags(view.tcp_flags & !FLAG_RST)),
            L4Class::Tcp => match sessions.judge_segment(&session, facing, frame.head(), view) {
                None => return self.drop(DropReason::TcpRstOutOfWindow),
                heeded => heeded,
            },
            L4Class::Sctp => match self.judge_sctp(&mut frame, view, session, facing) {
                Ok(event) => Some(event),
                Err(reason) => return self.drop(reason),
            },
            _ => None,
        };
        if sessions.touch(&session, facing, tcp_event, self.context.now) {
            self.engine.nat.keep_mapping(&mut self.owned.nat, &session);
        }
        if let Some(shifts) = shifts {
            shift_seq(frame.head_mut(), view, shifts.of_seq(session.direction(facing)));
        }
        if view.fragment != FragmentKind::None {
            return self.open_datagram(frame, view, came_in, (session, facing, is_alg));
        }
        if is_alg {
            return self.alg_packet(frame, view, session, facing);
        }
        self.translate_and_send(frame, view, session, facing);
    }

    /// A packet that is not a fragment, step by step.
    pub(super) fn look_up(&mut self, frame: P::Frame, view: &Ipv4View, interface: InterfaceId) {
        let key = FlowKey::of(view, self.engine.router.interfaces.tenant_of(interface));
        let hash = self.engine.nat.sessions.hash(key);
        match self.engine.nat.find(hash, key) {
            Some((session, facing)) => self.hit(frame, view, interface, session, facing),
            None => self.miss(frame, view, interface, (key, hash)),
        }
    }

    /// The first packet of a flow, or one that belongs to none.
    pub(super) fn miss(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        interface: InterfaceId,
        (mut key, mut hash): (FlowKey, u64),
    ) {
        let tenant = self.engine.router.interfaces.tenant_of(interface);
        let by_address = self.engine.nat.without_call(view, tenant);
        let view = by_address.as_ref().unwrap_or(view);
        if by_address.is_some() {
            key = FlowKey::of(view, tenant);
            hash = self.engine.nat.sessions.hash(key);
            if let Some((session, facing)) = self.engine.nat.find(hash, key) {
                return self.hit(frame, view, interface, session, facing);
            }
        }
        if let Some((frame, (session, facing))) = self.open(frame, view, interface, (key, hash)) {
            self.hit(frame, view, interface, session, facing);
        }
    }

    /// The session that a packet of none opens; or deals with it otherwise. Inlined so that what it returns is not copied: the
    /// copy would wait until every store before it is in the cache.
    #[inline(always)]
    pub(super) fn open(
        &mut self,
        mut frame: P::Frame,
        view: &Ipv4View,
        interface: InterfaceId,
        (key, hash): (FlowKey, u64),
    ) -> Option<(P::Frame, (Session<'a>, Facing))> {
        let engine = self.engine;
        let router = &engine.router;
        let Some(arrived) = router.interfaces.of(interface) else {
            self.drop(DropReason::UnknownVlan);
            return None;
        };
        if router.interfaces.is_broadcast(arrived.tenant, view.dst) {
            self.drop(DropReason::MartianDestination);
            return None;
        }
        let back = self.owned.nat.burst.way_back(&router.routes, arrived.tenant, view.src);
        let admission = self.admit(&frame, view, arrived, back)?;
        let owner = engine.alg_owner(self.id, hash);
        let by_rule = admission == Admission::ByRule;
        let opener = Opener { key, hash, arrived, back, by_rule, owner, router, now: self.context.now };
        if router.interfaces.is_own(arrived.tenant, view.dst) && !engine.nat.is_expected_here(&opener) {
            self.local(frame, view, arrived);
            return None;
        }
        if arrived.side == Side::Internal && view.ttl <= 1 {
            // Before anything is made for it: traceroute must not use up ports.
            let error = (DropReason::TtlExceeded, IcmpError::TimeExceeded);
            self.refuse(&frame, view, interface, error);
            return None;
        }
        if view.class == L4Class::Sctp
            && engine.nat.names(view.protocol)
            && let Err(reason) = check_association_opener(&mut frame, view)
        {
            self.drop(reason);
            return None;
        }
        match engine.nat.open(&mut self.owned.nat, view, &opener) {
            Ok(opened) => self.opened(frame, opened),
            Err(Refusal::Raced) => self.open_again(frame, view, &opener),
            Err(Refusal::Drop(reason)) => {
                self.refuse_opener(&frame, view, arrived, reason);
                None
            }
        }
    }

    /// The session that `frame` has opened, counted.
    #[inline(always)]
    fn opened(&self, frame: P::Frame, (slot, facing): Opened) -> Option<(P::Frame, (Session<'a>, Facing))> {
        self.counters.sessions_created.add(1);
        // Always there: the slot is the table's own.
        self.engine.nat.sessions.session(slot).map(|session| (frame, (session, facing)))
    }

    /// Another worker has just made the session, or the mapping it needs: once more. What has the flow then is translated
    /// in another way.
    #[cold]
    #[inline(never)]
    fn open_again(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        opener: &Opener<'_>,
    ) -> Option<(P::Frame, (Session<'a>, Facing))> {
        let engine = self.engine;
        if let Some(found) = engine.nat.find(opener.hash, opener.key) {
            return Some((frame, found));
        }
        match engine.nat.open(&mut self.owned.nat, view, opener) {
            Ok(opened) => return self.opened(frame, opened),
            Err(Refusal::Drop(reason)) => self.refuse_opener(&frame, view, opener.arrived, reason),
            Err(Refusal::Raced) => self.drop(DropReason::FlowInUse),
        }
        None
    }

    /// A packet that opens nothing is dropped for `reason`.
    #[inline(never)]
    fn refuse_opener(&mut self, frame: &P::Frame, view: &Ipv4View, arrived: &Interface, reason: DropReason) {
        let error = unreachable(reason, self.engine.config.icmp.refusal);
        match error.filter(|_| arrived.side == Side::Internal) {
            Some(error) => self.refuse(frame, view, arrived.id, (reason, error)),
            None => {
                if reason == DropReason::NoMapping {
                    self.hold_syn(frame, view, arrived.id);
                }
                self.drop(reason);
            }
        }
    }

    /// A packet of an ALG flow, in its owner's hands.
    fn alg_packet(&mut self, mut frame: P::Frame, view: &Ipv4View, session: Session<'_>, facing: Facing) {
        let mut view = *view;
        let handled =
            self.with_stage(|stage, around| stage.receive(around, &mut frame, &mut view, session, facing));
        match handled {
            Handled::Taken => self.counters.alg.segments_in.add(1),
            Handled::Drop(reason) => self.drop(reason),
            Handled::Forward => self.translate_and_send(frame, &view, session, facing),
        }
    }

    /// Gives a packet of an ALG flow to the flow's owner, who treats it as if it had come to him.
    pub(super) fn hand_over(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        came_in: InterfaceId,
        (session, facing): (Session<'_>, Facing),
    ) {
        let handle = self.engine.nat.sessions.handle(&session);
        let handed = Handed { frame, view: *view, came_in, session: handle, facing };
        match self.handover.push(session.alg_owner(), handed) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(_) => self.drop(DropReason::HandoverQueueFull),
        }
    }

    #[inline]
    pub(super) fn translate_and_send(
        &mut self,
        mut frame: P::Frame,
        view: &Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) {
        if view.tcp_flags & FLAG_SYN != 0 {
            self.clamp_mss(&mut frame, view, session);
        }
        let head = frame.head_mut();
        let to = session.translation(facing);
        if let Err(reason) = translate(head, view, &to) {
            return self.drop(reason);
        }
        if !view.dont_fragment && to.src != view.src {
            set_identification(head, view, self.engine.identifications.next(to.src, to.dst, view.protocol));
        }
        decrement_ttl(head, view);
        self.send_translated(frame, usize::from(view.l3), session, facing);
    }

    /// A SYN announces no larger segments than both interfaces of its session carry (RFC 4459 section 3.2).
    #[cold]
    fn clamp_mss(&self, frame: &mut P::Frame, view: &Ipv4View, session: Session<'_>) {
        if !self.engine.config.tcp.mss_clamp {
            return;
        }
        let mtu_of = |facing| {
            let interface = self.engine.router.interfaces.of(session.next_hop(facing).interface);
            interface.map_or(u16::MAX, |interface| interface.mtu)
        };
        let mtu = mtu_of(Facing::Internal).min(mtu_of(Facing::External));
        clamp_mss(frame.head_mut(), view, mtu.saturating_sub(HEADER_BYTES));
    }

    /// Sends a packet that has been translated, to the next hop of the session.
    #[inline]
    pub(super) fn send_translated(
        &mut self,
        frame: P::Frame,
        l3: usize,
        session: Session<'_>,
        facing: Facing,
    ) {
        self.counters.forwarded.add(1);
        let next_hop = session.next_hop(facing);
        if let Err(frame) = self.owned.egress.send(&self.context, self.io, frame, l3, next_hop) {
            self.send_anew(frame, l3, session, facing);
        }
    }

    /// The session's neighbour was forgotten: asks the routing table again.
    #[cold]
    fn send_anew(&mut self, frame: P::Frame, l3: usize, session: Session<'_>, facing: Facing) {
        let (tenant, dst) = (session.tenant_towards(facing), session.translation(facing).dst);
        match self.engine.router.next_hop(tenant, dst, self.context.now) {
            Ok(next_hop) => {
                session.renew_neighbor(facing, next_hop.neighbor);
                if self.owned.egress.send(&self.context, self.io, frame, l3, next_hop).is_err() {
                    self.context.drops.count(DropReason::NeighborUnreachable);
                }
            }
            Err(reason) => self.context.drops.count(reason),
        }
    }

    /// Whether a packet of a session came from where its sender is. A forger names the right flow from
    /// the wrong side.
    #[inline]
    pub(super) fn came_from_its_side(
        &self,
        came_in: InterfaceId,
        session: Session<'_>,
        facing: Facing,
    ) -> bool {
        let expected = session.next_hop(facing.opposite()).interface;
        let interfaces = &self.engine.router.interfaces;
        expected == came_in || interfaces.side_of(expected) == interfaces.side_of(came_in)
    }

    /// Whether the packet may leave on `next_hop`: TTL and size (RFC 1812 sections 5.3.1 and 4.2.2.7).
    #[inline]
    fn check_transit(&self, view: &Ipv4View, next_hop: NextHop) -> Result<(), (DropReason, IcmpError)> {
        if view.ttl <= 1 {
            return Err((DropReason::TtlExceeded, IcmpError::TimeExceeded));
        }
        let mtu = self.engine.router.interfaces.of(next_hop.interface).map_or(0, |interface| interface.mtu);
        // Without DF, what is too large is cut on the way out.
        if view.packet_bytes() <= mtu || !view.dont_fragment {
            return Ok(());
        }
        Err((DropReason::FragmentationNeeded, IcmpError::FragmentationNeeded { mtu }))
    }

    /// Drops a packet and tells its sender, as it was before translation.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        frame: &P::Frame,
        view: &Ipv4View,
        came_in: InterfaceId,
        (reason, error): (DropReason, IcmpError),
    ) {
        self.drop(reason);
        let offender = Offender { head: frame.head(), view, interface: came_in };
        let Owned { egress, icmp, .. } = &mut *self.owned;
        if icmp.send_error(&self.context, egress, self.io, offender, error) {
            self.counters.icmp_sent.add(1);
        }
    }
}

/// Whether a SYN from `facing` is the originator's next connection on the addresses of a session that has ended (RFC 6191).
#[cold]
fn begins_anew(session: Session<'_>, facing: Facing) -> bool {
    let has_ended = matches!(session.tcp_state(), Some(TcpState::FinBoth | TcpState::Transitory));
    has_ended && session.direction(facing) == Direction::Original
}

/// A reply where requests travel, or the other way round: with identifier 0 both have the same key.
#[inline]
const fn is_query_backwards(class: L4Class, direction: Direction) -> bool {
    matches!(
        (class, direction),
        (L4Class::IcmpQueryRequest, Direction::Reply) | (L4Class::IcmpQueryReply, Direction::Original)
    )
}

/// What an internal host is told when its packet opens nothing (RFC 1812 section 5.2.7.1). For want of room
/// RFC 5508 REQ-8 asks for code 13 and RFC 6888 REQ-11 for code 1: the operator chooses.
const fn unreachable(reason: DropReason, refusal: IcmpRefusal) -> Option<IcmpError> {
    let code = match reason {
        DropReason::NoRoute => 0,
        DropReason::PoolExhausted
        | DropReason::AddressInUse
        | DropReason::FlowInUse
        | DropReason::SessionTableFull
        | DropReason::TcpTableFull
        | DropReason::RelatedTableFull
        | DropReason::HalfOpenFull
        | DropReason::MappingTableFull
        | DropReason::SubscriberTableFull
        | DropReason::QuotaSessions
        | DropReason::QuotaPorts
        | DropReason::QuotaRate
        | DropReason::QuotaMemory
        | DropReason::QuotaMappingMemory => match refusal {
            IcmpRefusal::HostUnreachable => 1,
            IcmpRefusal::AdminProhibited => 13,
            IcmpRefusal::None => return None,
        },
        _ => return None,
    };
    Some(IcmpError::DestinationUnreachable { code })
}

/// IPv4 and TCP header without options (RFC 6691).
const HEADER_BYTES: u16 = 40;
