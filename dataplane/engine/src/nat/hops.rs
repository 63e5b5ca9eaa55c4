//! What the first packets of a burst have in common: the neighbours on both sides, the host that sends.

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::nat::key::Host;
use crate::nat::slow_path::Refusal;
use crate::router::Router;
use crate::router::egress::NextHop;
use crate::router::route::Hop;
use crate::time::Instant;

/// The neighbours of a burst, one of each side: most of its first packets come from, and go to, the same router. One that
/// is forgotten meanwhile is found missing as later packets of its sessions find it. And the last host that opened
/// something, with its slot among the subscribers, for hosts seldom open one session alone.
#[derive(Debug, Default)]
pub(super) struct Hops {
    internal: Option<(Hop, NextHop)>,
    external: Option<(Hop, NextHop)>,
    pub(super) host: Option<(Host, u32)>,
}

impl Hops {
    /// As [`Router::resolve`], where `hop` was not the last one on `side`.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        side: Side,
        router: &Router,
        hop: Hop,
        now: Instant,
    ) -> Result<NextHop, Refusal> {
        let last = match side {
            Side::Internal => &mut self.internal,
            Side::External => &mut self.external,
        };
        match *last {
            Some((same, neighbor)) if same == hop => Ok(neighbor),
            _ => {
                let neighbor = router.resolve(hop, now).map_err(Refusal::Drop)?;
                *last = Some((hop, neighbor));
                Ok(neighbor)
            }
        }
    }
}

/// The way `back` to a source, which must lead through the side that its packet came from: what comes from
/// elsewhere lies about its address (RFC 2827).
#[inline]
pub(super) fn way_back(router: &Router, back: Option<Hop>, side: Side) -> Result<Hop, Refusal> {
    let is_right = |hop: &Hop| router.interfaces.side_of(hop.interface) == Some(side);
    back.filter(is_right).ok_or(Refusal::Drop(DropReason::MartianSource))
}

/// The neighbour on the [`way_back`].
pub(super) fn reverse_hop(
    router: &Router,
    back: Option<Hop>,
    side: Side,
    now: Instant,
) -> Result<NextHop, Refusal> {
    router.resolve(way_back(router, back, side)?, now).map_err(Refusal::Drop)
}

/// The neighbour towards `host`.
pub(super) fn next_hop(router: &Router, host: Host, now: Instant) -> Result<NextHop, Refusal> {
    router.next_hop(host.tenant, host.address, now).map_err(Refusal::Drop)
}
