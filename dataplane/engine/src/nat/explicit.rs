//! Explicit mappings (RFC 6887 section 2.2): mappings that a host asked for, by [`crate::pcp`].
//!
//! They are ordinary mappings. What makes them explicit is the entry in [`Nat::explicit`] that holds a
//! firm reference on them until its lifetime ends.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::Kind;
use crate::nat::allocation::Unmapped;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{CreateError, Filtering, Hold, Mapping, Scope};
use crate::nat::policy::{Translating, Treatment, reserved_scope};
use crate::nat::ports::PortSpace;
use crate::nat::{Nat, NatWorker, Refusal, Retiree};
use crate::packet::PROTOCOL_UDP;
use crate::pcp::table::Claim;
use crate::time::Instant;

/// Why there is no mapping to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireError {
    /// No NAT rule covers the host.
    NoAddress,
    /// Its external endpoint is, or would be, another than the one it insists on.
    OtherExternal,
    /// Ports, mappings or subscribers are used up.
    Exhausted,
    /// The host has as many ports as it may have.
    Quota,
    /// Another worker is making it at this moment.
    Raced,
}

impl Nat {
    /// The external address that an internal host has, or gets.
    pub fn address_for(&self, worker: &mut NatWorker, host: Host) -> Option<u32> {
        let endpoint = Endpoint::new(host.address, 0).in_tenant(host.tenant);
        let translating = self.translating(PROTOCOL_UDP, endpoint)?;
        let subscriber = self.subscribers.enter(host)?;
        let address = self.steady_address(worker, subscriber, host, &translating);
        self.leave_subscriber(worker, subscriber);
        address
    }

    /// The mapping of `internal` with a firm reference: the one it has, else a new one at the `suggested`
    /// external endpoint where that can be had, else anywhere (or nowhere, when `insists`).
    ///
    /// # Errors
    /// [`AcquireError`]: nothing was taken.
    pub fn acquire_explicit(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        internal: Endpoint,
        suggested: Endpoint,
        insists: bool,
        now: Instant,
    ) -> Result<(u32, Endpoint), AcquireError> {
        let translating = self.translating(protocol, internal).ok_or(AcquireError::NoAddress)?;
        let inside = self.mappings.inside(protocol, internal, translating.scope);
        if let Some(index) = self.mappings.acquire_inside(&inside) {
            let external = self.mappings.mapping(index).map(|mapping| mapping.external);
            return match external {
                Some(external) if !insists || suits(suggested, external) => Ok((index, external)),
                _ => {
                    self.release_mapping(worker, Some(index), Hold::Firm);
                    Err(AcquireError::OtherExternal)
                }
            };
        }
        if !worker.has_room_to_open() {
            return Err(AcquireError::Exhausted);
        }
        let subscriber = self.subscribers.enter(internal.host()).ok_or(AcquireError::Exhausted)?;
        let made =
            match self.create_suggested(worker, protocol, internal, subscriber, &translating, suggested) {
                Err(AcquireError::OtherExternal) if !insists || suggested == ANY => {
                    Unmapped::new((protocol, internal), subscriber, &translating, now)
                        .and_then(|unmapped| self.create_mapping(worker, &unmapped, inside, |_| {}))
                        .map_err(|refusal| match refusal {
                            Refusal::Raced => AcquireError::Raced,
                            Refusal::Drop(DropReason::QuotaPorts | DropReason::QuotaMemory) => {
                                AcquireError::Quota
                            }
                            Refusal::Drop(_) => AcquireError::Exhausted,
                        })
                }
                made => made,
            };
        self.leave_subscriber(worker, subscriber);
        let index = made?;
        let external = self.mappings.mapping(index).map(|mapping| mapping.external);
        external.map(|external| (index, external)).ok_or(AcquireError::Exhausted)
    }

    /// A new mapping at the suggested port of the host's own external address. Where ports come in
    /// blocks none can be chosen.
    fn create_suggested(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        internal: Endpoint,
        subscriber: u32,
        translating: &Translating,
        suggested: Endpoint,
    ) -> Result<u32, AcquireError> {
        let other = AcquireError::OtherExternal;
        let space = PortSpace::of_protocol(protocol).ok_or(AcquireError::NoAddress)?;
        let plan = self.ports.plan(translating.pool).ok_or(AcquireError::NoAddress)?;
        // Also where no port is suggested: what is made next then has this address.
        let address = self.steady_address(worker, subscriber, internal.host(), translating);
        let address = address.ok_or(AcquireError::Exhausted)?;
        let (low, high) = plan.l4_ports;
        if self.blocks.has(translating.pool) || !(low..=high).contains(&suggested.l4_port) {
            return Err(other);
        }
        let external = Endpoint::new(address, suggested.l4_port);
        if !suits(suggested, external) {
            return Err(other);
        }
        self.subscribers.take_port(subscriber, space).map_err(|reason| {
            self.note_full_quota(worker, subscriber, reason);
            AcquireError::Quota
        })?;
        let made = if self.ports.take_exact(address, space, external.l4_port) {
            let Translating { filtering, scope, .. } = *translating;
            let new =
                Mapping { protocol, internal, external, filtering, scope, subscriber: Some(subscriber) };
            let retire = |slot| worker.retire(Retiree::MappingSlot(slot));
            let made = self.mappings.create(&new, retire);
            if made.is_ok() {
                self.record_mapping(worker, Kind::MappingCreated, &new, Some(translating.pool));
            }
            made.map_err(|error| {
                self.ports.release(address, space, external.l4_port);
                match error {
                    CreateError::Exists(_) | CreateError::Shared => AcquireError::Raced,
                    CreateError::Full => AcquireError::Exhausted,
                }
            })
        } else {
            Err(other)
        };
        match made {
            // The mapping's own reference.
            Ok(_) => self.subscribers.hold(subscriber),
            Err(_) => self.subscribers.give_port(subscriber, space),
        }
        made
    }

    /// The external address of a host. One that has none yet gets the same each time it asks: it may have
    /// been told before it has any state here, and suggests it when it makes its mappings anew.
    fn steady_address(
        &self,
        worker: &mut NatWorker,
        subscriber: u32,
        host: Host,
        translating: &Translating,
    ) -> Option<u32> {
        let pool = translating.pool;
        if translating.address.is_some() {
            return translating.address;
        }
        if self.blocks.deterministic(pool).is_none()
            && self.subscribers.paired(subscriber).is_none()
            && let Some(address) = self.ports.address(pool, self.key.hash1(host.to_u64()))
            && self.subscribers.pair(subscriber, address)
        {
            self.ports.add_host(address);
            self.record_binding(worker, Kind::AddressBound, host, address);
        }
        self.external_address(worker, subscriber, host, pool).map(|ports| ports.address)
    }

    /// How an endpoint is translated for whoever comes. Where the rule gives each remote endpoint a
    /// mapping of its own, the explicit one is reserved, as an ALG's is, and serves them all.
    fn translating(&self, protocol: u8, internal: Endpoint) -> Option<Translating> {
        // A host with a static address has all ports of it, and needs none.
        match self.treatment(FlowKey::new(protocol, internal, ANY)).ok()? {
            Treatment::None | Treatment::Static(_) => None,
            Treatment::Translate(Translating { pool, address, scope: Scope::Remote(_), .. }) => {
                let filtering = Filtering::Expected;
                Some(Translating { pool, address, scope: reserved_scope(pool), filtering })
            }
            Treatment::Translate(translating) => Some(translating),
        }
    }

    /// Gives back what [`Nat::acquire_explicit`] took.
    pub fn release_explicit(&self, worker: &mut NatWorker, mapping: u32) {
        self.release_mapping(worker, Some(mapping), Hold::Firm);
    }

    /// Ends an entry that this thread has claimed, and gives its mapping back.
    pub fn end_explicit(&self, worker: &mut NatWorker, claim: Claim) {
        self.explicit.end(&claim);
        let mapping = self.explicit.entry(claim.slot).map(|entry| entry.mapping);
        self.release_mapping(worker, mapping, Hold::Firm);
        worker.retire(Retiree::Explicit(claim.slot));
    }

    /// Ends entries of this worker's share whose lifetime is over. Twice a second.
    pub(super) fn sweep_explicit(&self, worker: &mut NatWorker, now: Instant) -> usize {
        if now < worker.sweep.explicit {
            return 0;
        }
        worker.sweep.explicit = now.plus(PERIOD);
        let mut ended = 0;
        for slot in 0..self.explicit.high_water() {
            let mine = slot % worker.sweep.workers == worker.sweep.number;
            if mine
                && self.explicit.is_due(slot, now)
                && worker.has_room_to_retire()
                && let Some(claim) = self.explicit.claim(slot)
            {
                // Another worker may have renewed it before the claim.
                if self.explicit.is_due(slot, now) {
                    self.end_explicit(worker, claim);
                    ended += 1;
                } else {
                    self.explicit.unclaim(claim);
                }
            }
        }
        ended
    }
}

/// Whether an external endpoint is what a client suggested; zeros suit any.
pub(crate) const fn suits(suggested: Endpoint, external: Endpoint) -> bool {
    (suggested.address == 0 || suggested.address == external.address)
        && (suggested.l4_port == 0 || suggested.l4_port == external.l4_port)
}

const ANY: Endpoint = Endpoint::new(0, 0);
const PERIOD: Duration = Duration::from_millis(500);
