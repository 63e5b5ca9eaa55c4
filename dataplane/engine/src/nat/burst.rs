//! What the first packets of a burst have in common: routes and neighbours on both sides, the host that sends.

use algate_config::Side;

use crate::ids::TenantId;
use crate::nat::key::Host;
use crate::nat::opener::Refusal;
use crate::router::Router;
use crate::router::egress::NextHop;
use crate::router::route::{Hop, Reach, Routes};
use crate::time::Instant;

/// The neighbours of a burst, one of each side: most of its first packets come from, and go to, the same router. One that
/// is forgotten meanwhile is found missing as later packets of its sessions find it. And the last host that opened
/// something, with its slot among the subscribers, for hosts seldom open one session alone. And where the last lookups of a
/// sender and of a destination led, for what lies in the same range of addresses.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    internal: Option<(Hop, NextHop)>,
    external: Option<(Hop, NextHop)>,
    pub(super) host: Option<(Host, u32)>,
    reached: [Option<Reach>; 2],
}

impl Burst {
    /// As [`Routes::lookup`], of a sender.
    #[inline]
    pub(crate) fn way_back(&mut self, routes: &Routes, tenant: TenantId, src: u32) -> Option<Hop> {
        let [last, _] = &mut self.reached;
        routes.lookup_again(last, tenant, src)
    }

    /// As [`Routes::lookup`], of a destination.
    #[inline]
    pub(super) fn way(&mut self, routes: &Routes, tenant: TenantId, dst: u32) -> Option<Hop> {
        let [_, last] = &mut self.reached;
        routes.lookup_again(last, tenant, dst)
    }

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
