//! What an ALG announces to a server that sees algate in place of its client (a forward that masquerades, see
//! [`super::forward`]): endpoints of algate's own, and the flows that come there.
//!
//! ```text
//!              server                       algate's own                        client
//!   FTP data   10.0.0.9:20  ------------->  10.0.0.1:24600   becomes            198.51.100.1:4001,
//!                                                                               from the server's external endpoint
//!   media      10.0.0.9:4000  <---------->  10.0.0.1:24602 and the one above    198.51.100.1:30000 and the one above
//! ```
//!
//! The place is a mapping whose internal end is the client: so both directions use it, whichever comes first, and it lasts
//! as long as the expectation and the sessions that hold it. No pool has its port. The ports are a range of their own:
//! below those that the clients of forwards share ([`super::forward`]), and above the one on which algate itself listens
//! (5351, PCP). What comes to such a port and is not expected is for algate itself, like anything else.
//!
//! Not done: flows without ports (GRE).

use algate_alg::ExpectError;
use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::nat::expectation::Admission;
use crate::nat::key::{Endpoint, FlowKey};
use crate::nat::mapping::{CreateError, Filtering, Hold, Mapping, Scope};
use crate::nat::ports::PortSpace;
use crate::nat::reservation::{Reserved, is_pair, partner};
use crate::nat::session::{Facing, NewSession};
use crate::nat::{Nat, NatWorker, Opened, Opener, Refusal, Retiree};

impl Nat {
    /// Reserves an endpoint on `address`, algate's own, for flows that a server is to send to the client `target`.
    ///
    /// # Errors
    /// No port was found, or the table of mappings is full.
    pub fn reserve_own(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        address: u32,
    ) -> Result<Reserved, ExpectError> {
        if let Some(held) = self.hold_own(worker, protocol, target, address) {
            return Ok(held);
        }
        for _ in 0..ATTEMPTS {
            let l4_port = random_port(worker);
            if let Some(made) = self.make_own(worker, protocol, target, Endpoint::new(address, l4_port))? {
                return Ok(made);
            }
        }
        Err(ExpectError::PoolExhausted)
    }

    /// Reserves two endpoints with adjacent ports, the lower one even, for `target` and the port above it.
    ///
    /// # Errors
    /// As [`Nat::reserve_own`]; nothing is reserved then.
    pub fn reserve_own_pair(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        address: u32,
    ) -> Result<[Reserved; 2], ExpectError> {
        let l4_port = target.l4_port.checked_add(1).ok_or(ExpectError::PoolExhausted)?;
        let upper = Endpoint { l4_port, ..target };
        let held = [target, upper].map(|target| self.hold_own(worker, protocol, target, address));
        let [lower_held, upper_held] = held;
        if let [Some(first), Some(second)] = held
            && is_pair(first.0, second.0)
        {
            return Ok([first, second]);
        }
        for (_, mapping) in held.into_iter().flatten() {
            self.give_back(worker, Some(mapping));
        }
        // What one of the two has already fixes where the other one must be.
        let fixed = lower_held.map(|(own, _)| own).or(upper_held.map(|(own, _)| partner(own)));
        for _ in 0..if fixed.is_some() { 1 } else { ATTEMPTS } {
            let lower = fixed.unwrap_or_else(|| Endpoint::new(address, random_port(worker) & !1));
            let places = [(target, lower), (upper, partner(lower))];
            if is_pair(lower, partner(lower))
                && let Some(made) = self.make_own_pair(worker, protocol, places)?
            {
                return Ok(made);
            }
        }
        Err(ExpectError::PoolExhausted)
    }

    /// The endpoint of algate's own that `client` was announced by, with a reference on the mapping.
    pub(super) fn hold_own(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        client: Endpoint,
        address: u32,
    ) -> Option<Reserved> {
        let index = self.mappings.acquire_internal(protocol, client, OWN)?;
        let place = self.mappings.external_of(index).filter(|own| own.address == address);
        if place.is_none() {
            // Announced to a server behind another interface.
            self.give_back(worker, Some(index));
        }
        place.map(|own| (own, index))
    }

    /// Whether a packet from inside comes to an endpoint of algate's own that an ALG has announced.
    #[inline]
    #[must_use]
    pub fn is_expected_here(&self, opener: &Opener<'_>) -> bool {
        let Opener { key, router, .. } = *opener;
        let to = key.destination().in_tenant(key.tenant());
        self.expectations.in_use() > 0
            && PortSpace::of_protocol(key.protocol()).is_some()
            && opener.arrived.side == Side::Internal
            && router.interfaces.is_own(key.tenant(), to.address)
            && self.expectations.is_announced(key.protocol(), to)
    }

    /// A server opens a flow to its client, by the endpoint of algate's own that was announced to it.
    pub(super) fn open_to_client(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        let Opener { key, router, now, .. } = *opener;
        let internal_hop = opener.reverse_hop(Side::Internal)?;
        let announced = key.destination().in_tenant(key.tenant());
        let admission = self.expectations.admit(key.protocol(), key.source(), announced, now);
        let Admission::Admitted { expectation, used_up } = admission else {
            return Err(Refusal::Drop(DropReason::ExpectationPeer));
        };
        // The session's own reference, taken before the expectation's may go.
        let remote_mapping =
            expectation.mapping.filter(|mapping| self.mappings.acquire(*mapping, Hold::Firm));
        if let Some(slot) = used_up {
            self.end_expectation(worker, slot);
        }
        let client = expectation.target;
        // As if the server knew the client: its rule is asked for that flow.
        let flow = FlowKey::new(key.protocol(), key.source(), client);
        let made = opener.next_hop(client.host()).and_then(|external_hop| {
            let treatment = self.treatment(flow)?;
            let seat = self.seat(worker, key.protocol(), key.source().host(), now)?;
            match self.map_source(worker, flow, treatment, seat, now, |_| {}) {
                Ok(source) => Ok((external_hop, seat, source)),
                Err(refusal) => {
                    self.unseat(worker, seat);
                    Err(refusal)
                }
            }
        });
        let (external_hop, seat, source) = match made {
            Ok(made) => made,
            Err(refusal) => {
                self.release_mapping(worker, remote_mapping, Hold::Firm);
                return Err(refusal);
            }
        };
        let parent = Some(expectation.parent);
        let remote = client.in_tenant(router.interfaces.tenant_of(external_hop.interface));
        let new = NewSession {
            mapping: source.mapping,
            hold: source.hold,
            remote_mapping,
            parent,
            alg_owner: self.alg_owner((key.protocol(), announced), &[remote], parent, opener.owner),
            ..NewSession::between(
                (key, internal_hop),
                (FlowKey::new(key.protocol(), remote, source.endpoint), external_hop),
                seat.subscriber,
            )
        };
        self.create(worker, &new, seat, now).map(|slot| (slot, Facing::Internal))
    }

    fn make_own_pair(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        [lower, upper]: [(Endpoint, Endpoint); 2],
    ) -> Result<Option<[Reserved; 2]>, ExpectError> {
        let Some(first) = self.make_own(worker, protocol, lower.0, lower.1)? else { return Ok(None) };
        let second = self.make_own(worker, protocol, upper.0, upper.1);
        if !matches!(second, Ok(Some(_))) {
            self.give_back(worker, Some(first.1));
        }
        Ok(second?.map(|second| [first, second]))
    }

    /// Makes the place of `target` at `own`, or finds it there; `None`: that is another's.
    fn make_own(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        own: Endpoint,
    ) -> Result<Option<Reserved>, ExpectError> {
        if let Some(held) = self.hold_own(worker, protocol, target, own.address) {
            if held.0 == own {
                return Ok(Some(held));
            }
            self.give_back(worker, Some(held.1));
            return Ok(None);
        }
        if self.mappings.internal_of(protocol, own).is_some() {
            return Ok(None);
        }
        let filtering = Filtering::Expected;
        let new =
            Mapping { protocol, internal: target, external: own, filtering, scope: OWN, subscriber: None };
        match self.mappings.create(&new, |slot| worker.retire(Retiree::MappingSlot(slot))) {
            Ok(index) => Ok(Some((own, index))),
            Err(CreateError::Exists(_) | CreateError::Shared) => Ok(None),
            Err(CreateError::Full) => Err(ExpectError::TableFull),
        }
    }
}

fn random_port(worker: &mut NatWorker) -> u16 {
    FIRST_PORT | (worker.random.draw() as u16 & (PORTS - 1))
}

/// Of the mappings behind endpoints of algate's own. The configuration bounds the pools far below.
const OWN: Scope = Scope::Pool { pool: u16::MAX, filtering: Filtering::Expected };
const FIRST_PORT: u16 = 0x6000;
/// A power of two.
const PORTS: u16 = 0x2000;
const ATTEMPTS: usize = 32;
