//! Fragments: to the worker that owns their datagram, and from there on as its first fragment's session says.
//!
//! [`crate::fragment`] decides; here is what its verdicts mean. Fragments are handled as they are parsed, not
//! with the batch, so that the first one of a datagram is through before the next one is looked at.

use algate_config::Side;

use crate::alg_stage::handover::HandedFragment;
use crate::drop_reason::DropReason;
use crate::fragment::piece::{DatagramKey, Origin, Piece};
use crate::fragment::{Datagram, Kept, Route, Verdict};
use crate::frame::{Frame, PacketIo, RxChecksums};
use crate::ids::{InterfaceId, TenantId};
use crate::nat::session::{Facing, Session};
use crate::packet::parse::{Ipv4View, L4Class, ParsedKind, parse};
use crate::packet::rewrite::{decrement_ttl, set_identification, translate};
use crate::packet::sctp::is_untranslatable;
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    /// A fragment in the hands of whoever received it.
    #[cold]
    pub(super) fn fragment(&mut self, frame: P::Frame, view: Ipv4View, interface: InterfaceId) {
        let owner = self.engine.fragment_owner(view.src);
        if owner == self.id {
            return self.own_fragment(frame, view, interface);
        }
        match self.handover.push_fragment(owner, HandedFragment { frame, view, interface }) {
            Ok(()) => self.counters.handed_over.add(1),
            Err(_) => self.drop(DropReason::HandoverQueueFull),
        }
    }

    /// The same in the hands of its datagram's owner.
    pub(super) fn own_fragment(&mut self, frame: P::Frame, view: Ipv4View, interface: InterfaceId) {
        let piece = match Piece::of(frame.head(), &view) {
            Ok(piece) => piece,
            Err(reason) => return self.drop(reason),
        };
        let key = DatagramKey::new(&view, &piece, self.origin(interface));
        let verdict = self.owned.fragments.admit(key, &piece, self.context.now, &self.counters.drops);
        match verdict {
            Verdict::First(datagram) => self.first_fragment(frame, &view, interface, datagram),
            Verdict::Keep(datagram) => self.keep_fragment(frame, &view, interface, datagram),
            Verdict::Forward(datagram, route) => {
                self.forward_fragment(frame, &view, route);
                self.owned.fragments.finish(datagram);
            }
            Verdict::Drop(reason) => self.drop(reason),
        }
    }

    /// Handles the first fragment like any packet. Where its session is found it comes back to
    /// [`Turn::open_datagram`]; if it does not, the datagram is refused with it.
    fn first_fragment(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        interface: InterfaceId,
        datagram: Datagram,
    ) {
        let interfaces = &self.engine.router.interfaces;
        if view.class == L4Class::IcmpError {
            self.drop(DropReason::FragmentIcmpError);
        } else if interfaces.is_own(interfaces.tenant_of(interface), view.dst) {
            self.owned.fragments.gather(datagram, view);
            self.keep_fragment(frame, view, interface, datagram);
        } else {
            self.owned.opening = Some(datagram);
            self.look_up(frame, view, interface);
            self.owned.opening = None;
        }
        self.owned.fragments.settle(datagram, &self.counters.drops);
    }

    /// The session of a first fragment is known, and whether an ALG reads it: all fragments of its datagram follow.
    #[cold]
    pub(super) fn open_datagram(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        came_in: InterfaceId,
        (session, facing, is_alg): (Session<'_>, Facing, bool),
    ) {
        if view.class == L4Class::Sctp && is_untranslatable(view, &session.translation(facing)) {
            // Before it is open: what follows is refused with it.
            return self.drop(DropReason::SctpFragment);
        }
        let Some(datagram) = self.owned.opening.take() else {
            return self.drop(DropReason::FragmentRefused);
        };
        if is_alg {
            self.owned.fragments.gather(datagram, view);
            return self.keep_fragment(frame, view, came_in, datagram);
        }
        let to = session.translation(facing);
        let identification =
            (to.src != view.src).then(|| self.engine.identifications.next(to.src, to.dst, view.protocol));
        let route = Route { session: self.engine.nat.sessions.handle(&session), facing, identification };
        self.owned.fragments.open(datagram, route);
        self.forward_fragment(frame, view, route);
        while let Some(Kept { frame, view }) = self.owned.fragments.take_kept(datagram) {
            self.forward_fragment(frame, &view, route);
        }
        self.owned.fragments.finish(datagram);
    }

    /// Translates a fragment as its datagram's session says; the first one has the ports, the others addresses only.
    fn forward_fragment(&mut self, mut frame: P::Frame, view: &Ipv4View, route: Route) {
        let Some(session) = self.engine.nat.sessions.by_handle(route.session) else {
            return self.drop(DropReason::FragmentRefused);
        };
        if view.ttl <= 1 {
            // The first fragment has been through: nobody is told about a later one (RFC 1812 section 4.3.2.7).
            return self.drop(DropReason::TtlExceeded);
        }
        if let Err(reason) = translate(frame.head_mut(), view, &session.translation(route.facing)) {
            return self.drop(reason);
        }
        if let Some(identification) = route.identification {
            set_identification(frame.head_mut(), view, identification);
        }
        decrement_ttl(frame.head_mut(), view);
        self.send_translated(frame, usize::from(view.l3), session, route.facing);
    }

    fn keep_fragment(
        &mut self,
        frame: P::Frame,
        view: &Ipv4View,
        interface: InterfaceId,
        datagram: Datagram,
    ) {
        let kept = Kept { frame, view: *view };
        match self.owned.fragments.keep(datagram, kept, &self.counters.drops) {
            Ok(false) => {}
            Ok(true) => self.assemble(datagram, interface),
            Err(reason) => self.drop(reason),
        }
    }

    /// Every fragment of a gathered datagram is there: it goes on as one packet.
    fn assemble(&mut self, datagram: Datagram, interface: InterfaceId) {
        let drops = &self.counters.drops;
        let Some(mut frame) = self.io.alloc() else {
            return self.owned.fragments.refuse(datagram, DropReason::MempoolExhausted, drops);
        };
        let Ok(fragments) = self.owned.fragments.assemble(datagram, &mut frame, drops) else { return };
        self.counters.fragments_merged.add(fragments - 1);
        match parse(frame.head(), frame.len(), RxChecksums::default()) {
            Ok(parsed) => match parsed.kind {
                ParsedKind::Ipv4(view) => self.look_up(frame, &view, interface),
                ParsedKind::Arp { .. } => self.drop(DropReason::BadIpv4Header),
            },
            Err(reason) => self.drop(reason),
        }
    }

    fn origin(&self, interface: InterfaceId) -> Origin {
        let interface = self.engine.router.interfaces.of(interface);
        interface.map_or(Origin { side: Side::External, tenant: TenantId::NONE }, |interface| Origin {
            side: interface.side,
            tenant: interface.tenant,
        })
    }
}
