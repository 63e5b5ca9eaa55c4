//! May a packet of no session open one: its source first, then the filter.

use algate_config::FilterAction;

use crate::drop_reason::DropReason;
use crate::filter::{Opener, reject, source};
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::nat::key::{FlowKey, Host};
use crate::packet::parse::{Ipv4View, L4Class};
use crate::router::icmp::{IcmpError, Offender};
use crate::router::interface::Interface;
use crate::router::route::Hop;
use crate::worker::{Owned, Turn};

/// What a packet that was not refused may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// No rule names it: what is open to everyone.
    ByDefault,
    /// A rule allows it.
    ByRule,
}

impl<P: PacketIo> Turn<'_, P> {
    /// Judges a packet of no session, whose source the way `back` leads to. `None`: it is dropped, counted, and answered if it must be.
    #[inline]
    pub(super) fn admit(
        &mut self,
        frame: &P::Frame,
        view: &Ipv4View,
        arrived: &Interface,
        back: Option<Hop>,
    ) -> Option<Admission> {
        if self.engine.router.interfaces.is_broadcast(arrived.tenant, view.src) {
            self.drop(DropReason::MartianSource);
            return None;
        }
        if source::is_spoofed(&self.engine.router, arrived, view.src, back) {
            self.drop(DropReason::SpoofedSource);
            return None;
        }
        if !self.engine.filter.has_rules() {
            return Some(Admission::ByDefault);
        }
        self.judge(frame, view, arrived)
    }

    /// What the filter says.
    #[inline(never)]
    fn judge(&mut self, frame: &P::Frame, view: &Ipv4View, arrived: &Interface) -> Option<Admission> {
        let filter = &self.engine.filter;
        let mut opener = Opener::new(frame.head(), view, arrived.id);
        if filter.looks_at_out_interface() {
            opener.out_interface = self.out_interface(view, arrived);
        }
        match filter.judge(self.id, &opener) {
            None => Some(Admission::ByDefault),
            Some(FilterAction::Allow) => Some(Admission::ByRule),
            Some(FilterAction::Deny) => {
                self.drop(DropReason::FilterDeny);
                None
            }
            Some(FilterAction::Reject) => {
                self.reject(frame, view, arrived.id);
                None
            }
        }
    }

    /// Where a packet would leave: a pool's address leads to the host that its mapping names.
    fn out_interface(&self, view: &Ipv4View, arrived: &Interface) -> Option<InterfaceId> {
        let router = &self.engine.router;
        let towards = if router.is_nat_address(view.dst) {
            self.engine.nat.leads_to(FlowKey::of(view, arrived.tenant))?
        } else {
            Host { tenant: arrived.tenant, address: view.dst }
        };
        router.routes.lookup(towards.tenant, towards.address).map(|hop| hop.interface)
    }

    fn reject(&mut self, frame: &P::Frame, view: &Ipv4View, interface: InterfaceId) {
        if view.class != L4Class::Tcp {
            return self.refuse(frame, view, interface, (DropReason::FilterReject, ADMIN_PROHIBITED));
        }
        self.drop(DropReason::FilterReject);
        let offender = Offender { head: frame.head(), view, interface };
        let Owned { egress, icmp, .. } = &mut *self.owned;
        if reject::send_reset(&self.context, egress, icmp, self.io, offender) {
            self.counters.resets_sent.add(1);
        }
    }
}

/// RFC 1812 section 5.2.7.1: communication administratively prohibited.
const ADMIN_PROHIBITED: IcmpError = IcmpError::DestinationUnreachable { code: 13 };
