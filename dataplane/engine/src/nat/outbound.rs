//! The first packet of a flow from an internal host to the external side, or through a rule that sends it elsewhere: the
//! usual first packet. What may happen to it otherwise is in functions of its own, so that its way is one.

use std::cell::Cell;
use std::num::NonZeroU64;

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::nat::allocation::{Seat, Unmapped};
use crate::nat::expectation::{Admission, Expectation};
use crate::nat::key::{Endpoint, FlowKey};
use crate::nat::mapping::{Filtering, Hold, Scope};
use crate::nat::opener::{Opener, Refusal};
use crate::nat::policy::{Translating, Treatment, reserved_scope};
use crate::nat::reservation::apart_scope;
use crate::nat::session::{Facing, NewSession};
use crate::nat::slow_path::{Opened, Source};
use crate::nat::{Nat, NatWorker};
use crate::table::slots::Handle;
use crate::time::Instant;

impl Nat {
    /// A flow from an internal host to the external side, or to where a rule sends it.
    ///
    /// # Errors
    /// No route or neighbour, no rule, a full quota, table or pool: nothing was taken.
    #[inline]
    pub(super) fn open_outbound(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        let Opener { key, router, now, .. } = *opener;
        let back = opener.way_back(Side::Internal)?;
        let internal_hop = worker.burst.resolve(Side::Internal, router, back, now)?;
        let is_static = self.statics.external_of(key.source().host()).is_some();
        let elsewhere = if is_static { None } else { self.policy.destination(key) };
        let remote = elsewhere.unwrap_or(key.destination()).in_tenant(key.tenant());
        let hop = worker.burst.way(&router.routes, remote.tenant, remote.address);
        let hop = hop.ok_or(Refusal::Drop(DropReason::NoRoute))?;
        let external_hop = worker.burst.resolve(Side::External, router, hop, now)?;
        // What it answers arrives in the tenant of the interface behind which it is.
        let remote = remote.in_tenant(router.interfaces.tenant_of(external_hop.interface));
        let is_outside = router.interfaces.side_of(external_hop.interface) == Some(Side::External);
        let is_translated = is_outside || elsewhere.is_some();
        let treatment = if is_translated { self.treatment(key)? } else { Treatment::None };
        let seat = self.seat(worker, key.protocol(), key.source().host(), now)?;
        // The session's other key, as soon as it is known.
        let fetched = Cell::new(None);
        let begin = |external| {
            let replies = FlowKey::new(key.protocol(), remote, external);
            fetched.set(NonZeroU64::new(self.sessions.prefetch_own(replies)));
        };
        let source = match self.map_source(worker, key, treatment, seat, now, begin) {
            Ok(source) => source,
            Err(refusal) => {
                self.unseat(worker, seat);
                return Err(refusal);
            }
        };
        // An ALG has announced what the host was to see; untranslated, to be met in the host's tenant.
        let announced = key.destination();
        let announced = if elsewhere.is_some() { announced } else { announced.in_tenant(key.tenant()) };
        let parent = self.admit_outbound(worker, key, announced, now);
        let new = NewSession {
            mapping: source.mapping,
            hold: source.hold,
            is_alone: source.mapping.is_some_and(|mapping| self.mappings.references(mapping) == 1),
            parent,
            hashes: [NonZeroU64::new(opener.hash), fetched.get()],
            alg_owner: self.alg_owner((key.protocol(), source.endpoint), &[remote], parent, opener.owner),
            ..NewSession::between(
                (key, internal_hop),
                (FlowKey::new(key.protocol(), remote, source.endpoint), external_hop),
                seat.subscriber,
            )
        };
        self.create(worker, &new, seat, now).map(|slot| (slot, Facing::Internal))
    }

    /// The parent of an outbound flow that an ALG expects (the data connection of an internal server).
    /// Outbound flows need no permission, so a refusal changes nothing.
    #[inline]
    pub(super) fn admit_outbound(
        &self,
        worker: &mut NatWorker,
        key: FlowKey,
        remote: Endpoint,
        now: Instant,
    ) -> Option<Handle> {
        // Most of the time nothing is expected, and this is every new flow's way.
        let is_any = self.expectations.in_use() > 0;
        let expected = if is_any { self.expected_outbound(worker, key, remote, now) } else { None };
        expected.map(|expectation| expectation.parent)
    }

    /// The expectation that an outbound flow fulfils.
    pub(super) fn expected_outbound(
        &self,
        worker: &mut NatWorker,
        key: FlowKey,
        remote: Endpoint,
        now: Instant,
    ) -> Option<Expectation> {
        match self.expectations.admit(key.protocol(), key.source(), remote, now) {
            Admission::Admitted { expectation, used_up } => {
                if let Some(slot) = used_up {
                    self.end_expectation(worker, slot);
                }
                Some(expectation)
            }
            Admission::Unknown | Admission::Refused => None,
        }
    }

    /// What is done with an outbound flow: by the static address of its host, else by rule.
    #[inline]
    pub(super) fn treatment(&self, key: FlowKey) -> Result<Treatment, Refusal> {
        if let Some(address) = self.statics.external_of(key.source().host()) {
            return Ok(Treatment::Static(address));
        }
        self.policy.treatment(key).ok_or(Refusal::Drop(DropReason::NoNatRule))
    }

    /// The mapping of the sender that its rule asks for, made if there is none. What a forward or an ALG
    /// has reserved for its endpoint comes first. `taken` is told a new mapping's external endpoint before the mapping is
    /// made.
    #[inline]
    pub(super) fn map_source(
        &self,
        worker: &mut NatWorker,
        key: FlowKey,
        treatment: Treatment,
        seat: Seat,
        now: Instant,
        taken: impl Fn(Endpoint),
    ) -> Result<Source, Refusal> {
        let (protocol, internal) = (key.protocol(), key.source());
        let translating = match treatment {
            Treatment::None => return Ok(Source::unmapped(internal)),
            Treatment::Static(address) => {
                return Ok(Source::unmapped(Endpoint::new(address, internal.l4_port)));
            }
            Treatment::Translate(translating) => translating,
        };
        let inside = self.mappings.inside(protocol, internal, translating.scope);
        let index = self
            .acquire_reserved(worker, protocol, internal, &translating)
            .or_else(|| self.acquire_announced(worker, key, translating.pool))
            .or_else(|| self.mappings.acquire_inside(&inside))
            .or_else(|| self.acquire_apart(protocol, internal, translating.pool));
        let index = match index {
            Some(index) => index,
            None => {
                let unmapped = Unmapped::new((protocol, internal), seat.subscriber, &translating, now)?;
                self.create_mapping(worker, &unmapped, inside, taken)?
            }
        };
        // Always there: the slot is the table's own.
        let endpoint = self.mappings.external_of(index).ok_or(Refusal::Drop(DropReason::MappingTableFull))?;
        Ok(Source { endpoint, mapping: Some(index), hold: Hold::Firm })
    }

    /// Starts to fetch what an outbound flow of `key` will take when it is new.
    pub fn prefetch_outbound(&self, key: FlowKey) {
        self.subscribers.prefetch(key.source().host());
        if let Some(scope) = self.policy.likely_scope(key) {
            self.mappings.prefetch_internal(key.protocol(), key.source(), scope);
        }
    }

    /// The reserved mapping of an endpoint whose rule would make one of its own.
    #[inline]
    fn acquire_reserved(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        internal: Endpoint,
        translating: &Translating,
    ) -> Option<u32> {
        let scope = reserved_scope(translating.pool);
        if translating.scope == scope {
            return None;
        }
        self.acquire_reserved_in(scope, worker, protocol, internal)
    }

    fn acquire_reserved_in(
        &self,
        scope: Scope,
        worker: &mut NatWorker,
        protocol: u8,
        internal: Endpoint,
    ) -> Option<u32> {
        let index = self.mappings.acquire_internal(protocol, internal, scope)?;
        let is_reserved = self
            .mappings
            .mapping(index)
            .is_some_and(|mapping| mapping.filtering == Filtering::Expected || mapping.subscriber.is_none());
        if !is_reserved {
            self.release_mapping(worker, Some(index), Hold::Firm);
        }
        is_reserved.then_some(index)
    }

    /// What an ALG has reserved for an endpoint beside its mapping, when that has ended.
    #[inline]
    pub(super) fn acquire_apart(&self, protocol: u8, internal: Endpoint, pool: usize) -> Option<u32> {
        match self.expectations.in_use() {
            0 => None,
            _ => self.acquire_reserved_apart(protocol, internal, pool),
        }
    }

    #[inline(never)]
    fn acquire_reserved_apart(&self, protocol: u8, internal: Endpoint, pool: usize) -> Option<u32> {
        self.mappings.acquire_internal(protocol, internal, apart_scope(pool))
    }
}
