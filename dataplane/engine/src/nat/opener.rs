//! The first packet of a flow, as it asks for a session.

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::ids::WorkerId;
use crate::nat::key::{FlowKey, Host};
use crate::router::Router;
use crate::router::egress::NextHop;
use crate::router::interface::Interface;
use crate::router::route::Hop;
use crate::time::Instant;

/// The first packet of a flow: what it would open, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Opener<'a> {
    /// Its flow.
    pub key: FlowKey,
    /// That flow's hash among sessions.
    pub hash: u64,
    /// The interface it came in on.
    pub arrived: &'a Interface,
    /// The way back to its source, by the routes of that interface's tenant.
    pub back: Option<Hop>,
    /// Whether a filter rule allows it.
    pub by_rule: bool,
    /// The thread that will own the flow should an ALG read it.
    pub owner: WorkerId,
    /// Where it may go.
    pub router: &'a Router,
    /// When it came.
    pub now: Instant,
}

/// Why a packet opened nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It dies of this.
    Drop(DropReason),
    /// Another worker is making what it needs at the same moment: look it up again. Or another session has one of its
    /// flows for longer.
    Raced,
}

impl Opener<'_> {
    /// The way back to its source, which must lead through the `side` that it came from: what comes from elsewhere lies
    /// about its address (RFC 2827).
    #[inline]
    pub(super) fn way_back(&self, side: Side) -> Result<Hop, Refusal> {
        let is_right = |hop: &Hop| self.router.interfaces.side_of(hop.interface) == Some(side);
        self.back.filter(is_right).ok_or(Refusal::Drop(DropReason::MartianSource))
    }

    /// The neighbour on the [`Opener::way_back`].
    pub(super) fn reverse_hop(&self, side: Side) -> Result<NextHop, Refusal> {
        self.router.resolve(self.way_back(side)?, self.now).map_err(Refusal::Drop)
    }

    /// The neighbour towards `host`.
    pub(super) fn next_hop(&self, host: Host) -> Result<NextHop, Refusal> {
        self.router.next_hop(host.tenant, host.address, self.now).map_err(Refusal::Drop)
    }
}
