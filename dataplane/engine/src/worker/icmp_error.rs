//! ICMP errors about packets of a session: translated like the packet they are about, only backwards.
//!
//! RFC 5508 section 4 (REQ-3 to REQ-5): inner addresses and ports are reverted; the outer destination becomes
//! the host whose packet it was. An error from the internal side leaves from the session's external
//! address when the session's own host sent it, from the static address of a router that has one, else from
//! algate's own address. The session is neither
//! refreshed nor ended (REQ-6). An error about a packet of an ALG flow goes through the owner of the
//! flow, who maps the embedded sequence number back.

use crate::alg_stage::IcmpVerdict;
use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, TenantId};
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::session::{Facing, Session};
use crate::packet::icmp_error::{self, IcmpErrorTranslation, IcmpErrorView};
use crate::packet::parse::{Ipv4View, L4Class};
use crate::packet::rewrite::{Tuple, decrement_ttl, set_identification};
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    /// An ICMP error that came in on `interface`: about a packet of a session, or of algate's own.
    #[cold]
    pub(super) fn icmp_error(&mut self, mut frame: P::Frame, view: &Ipv4View, interface: InterfaceId) {
        let tenant = self.engine.router.interfaces.tenant_of(interface);
        if !frame.linearize() {
            return self.drop(DropReason::ChainedHeaders);
        }
        let mut error = match icmp_error::parse(frame.head(), view) {
            Ok(error) => error,
            Err(reason) => return self.drop(reason),
        };
        let nat = &self.engine.nat;
        let is_own = self.engine.router.interfaces.is_own(tenant, view.dst);
        if !is_own && !nat.names(error.protocol) {
            return self.drop(DropReason::UnsupportedProtocol);
        }
        let find = |error: &IcmpErrorView| {
            let key = reply_key(error, tenant);
            nat.find(nat.sessions.hash(key), key)
        };
        let mut found = find(&error);
        if found.is_none() && error.class == L4Class::GreCall {
            // Of a call that has no session of its own.
            error =
                IcmpErrorView { class: L4Class::Other, tuple: Tuple { dst_port: 0, ..error.tuple }, ..error };
            found = find(&error);
        }
        let Some((session, facing)) = found else {
            if is_own {
                // About what algate itself sent, and not in a client's name: nothing depends on it.
                return self.counters.local.add(1);
            }
            return self.drop(DropReason::BadIcmp);
        };
        if view.ttl <= 1 {
            return self.drop(DropReason::TtlExceeded);
        }
        if !self.came_from_its_side(interface, session, facing) {
            return self.drop(DropReason::BadIcmp);
        }
        let out = self.engine.router.interfaces.of(session.next_hop(facing).interface);
        if view.dont_fragment && out.is_none_or(|interface| view.packet_bytes() > interface.mtu) {
            return self.drop(DropReason::TooBig);
        }
        // Looked at once: it may leave its stage at any moment.
        let is_alg = session.is_alg();
        let sent = if is_alg { None } else { sent_seq(&error, session, facing) };
        let as_sent = IcmpErrorView { tcp_seq: sent.or(error.tcp_seq), ..error };
        if let Err(reason) = self.believe(&frame, &as_sent, session, facing, is_alg) {
            return self.drop(reason);
        }
        if is_alg && session.alg_owner() != self.id {
            return self.hand_over(frame, view, interface, (session, facing));
        }
        if is_alg {
            return self.alg_icmp_error(frame, view, session, facing);
        }
        self.send_icmp_error(frame, view, &error, sent, session, facing);
    }

    /// Whether the error may be what it says (RFC 5927): a forger knows addresses and ports at best.
    fn believe(
        &self,
        frame: &P::Frame,
        error: &IcmpErrorView,
        session: Session<'_>,
        facing: Facing,
        is_alg: bool,
    ) -> Result<(), DropReason> {
        // RFC 6633 (source quench); RFC 1812 section 5.2.7.2 (a redirect is for the link it is sent on).
        if matches!(error.icmp_type, SOURCE_QUENCH | REDIRECT) {
            return Err(DropReason::IcmpObsolete);
        }
        let mtu = error.path_mtu(frame.head());
        // RFC 791: every link carries 68 bytes. Routers older than RFC 1191 say 0, and mean "less".
        if mtu.is_some_and(|mtu| (1..68).contains(&mtu)) {
            return Err(DropReason::IcmpTinyMtu);
        }
        let windows = self.engine.nat.sessions.windows(&session);
        // The stage knows the windows of its own flows.
        if let (Some(seq), Some(windows)) = (error.tcp_seq, windows)
            && !is_alg
            && !windows.is_in_flight(facing.opposite(), seq)
        {
            return Err(DropReason::IcmpOutOfWindow);
        }
        if let (Some(tag), Some(windows)) = (error.sctp_tag, windows)
            && !windows.tags().admits(facing.opposite(), tag)
        {
            return Err(DropReason::SctpBadTag);
        }
        let second = (self.context.now.as_nanos() / 1_000_000_000) as u32;
        if !session.admit_icmp_error(second, ERRORS_PER_SECOND) {
            return Err(DropReason::IcmpErrorRate);
        }
        if mtu.is_some_and(|mtu| mtu < SMALL_MTU) {
            self.counters.icmp_small_mtu.add(1);
        }
        Ok(())
    }

    /// The same in the hands of the flow's owner.
    pub(super) fn alg_icmp_error(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) {
        let error = match icmp_error::parse(frame.head(), view) {
            Ok(error) => error,
            Err(reason) => return self.drop(reason),
        };
        match self.with_stage(|stage, around| stage.icmp_error(around, frame.head(), &error, session, facing))
        {
            IcmpVerdict::Forward { tcp_seq } => {
                let tcp_seq = tcp_seq.or_else(|| sent_seq(&error, session, facing));
                self.send_icmp_error(frame, view, &error, tcp_seq, session, facing);
            }
            IcmpVerdict::Heeded => self.counters.local.add(1),
        }
    }

    fn send_icmp_error(
        &mut self,
        mut frame: P::Frame,
        view: &Ipv4View,
        error: &IcmpErrorView,
        tcp_seq: Option<u32>,
        session: Session<'_>,
        facing: Facing,
    ) {
        let offender = match facing {
            Facing::External => session.internal_key(),
            Facing::Internal => session.external_key(),
        };
        let to = IcmpErrorTranslation {
            outer_src: self.outer_source(view.src, session, facing),
            outer_dst: offender.source().address,
            tuple: Tuple {
                src: offender.source().address,
                dst: offender.destination().address,
                src_port: offender.source().l4_port,
                dst_port: offender.destination().l4_port,
            },
            tcp_seq,
        };
        if let Err(reason) = icmp_error::translate_icmp_error(frame.head_mut(), view, error, &to) {
            return self.drop(reason);
        }
        if !view.dont_fragment && to.outer_src != view.src {
            let identification = self.engine.identifications.next(to.outer_src, to.outer_dst, view.protocol);
            set_identification(frame.head_mut(), view, identification);
        }
        decrement_ttl(frame.head_mut(), view);
        self.send_translated(frame, usize::from(view.l3), session, facing);
    }

    fn outer_source(&self, author: u32, session: Session<'_>, facing: Facing) -> u32 {
        let from_here = match facing {
            Facing::Internal => session.internal_key(),
            Facing::External => session.external_key(),
        };
        if author == from_here.source().address {
            return session.translation(facing).src;
        }
        match facing {
            Facing::External => author,
            Facing::Internal => {
                let to = session.translation(facing).dst;
                let interface = self.engine.router.interfaces.of(session.next_hop(facing).interface);
                let host = Host { tenant: from_here.tenant(), address: author };
                let own = || interface.and_then(|interface| interface.address_towards(to));
                self.engine.nat.statics.external_of(host).or_else(own).unwrap_or(author)
            }
        }
    }
}

/// The embedded sequence number as the sender of the packet counts, where the session's numbers are shifted. The packet
/// travelled towards the error's author, who is at `facing`.
fn sent_seq(error: &IcmpErrorView, session: Session<'_>, facing: Facing) -> Option<u32> {
    let shifts = session.shifts()?;
    let by = shifts.of_seq(session.direction(facing.opposite()));
    error.tcp_seq.map(|seq| seq.wrapping_add_signed(-by))
}

/// A packet of the same flow in the direction of the error, which came from `tenant`: what its sender would
/// have answered.
fn reply_key(error: &IcmpErrorView, tenant: TenantId) -> FlowKey {
    let tuple = error.tuple;
    FlowKey::new(
        error.protocol,
        Endpoint { tenant, address: tuple.dst, l4_port: tuple.dst_port },
        Endpoint::new(tuple.src, tuple.src_port),
    )
}

const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
/// About one session: RFC 5927 section 4.2 asks for a limit, RFC 1812 section 4.3.2.8 for one at the source.
const ERRORS_PER_SECOND: u32 = 10;
/// RFC 5927 section 7.2: attackers announce less to slow a connection down.
const SMALL_MTU: u16 = 552;
