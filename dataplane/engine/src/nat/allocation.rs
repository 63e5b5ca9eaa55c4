//! What a new flow takes of what is scarce, and how that comes back: a place among the subscribers, a
//! session of its quota, an external address, a port.
//!
//! Whatever is refused leaves nothing behind. A port comes back when no worker can hold its mapping's
//! index any more, and, where a late packet could reach the wrong host, after it has rested
//! (RFC 6888 REQ-8). Its exceptions: TCP, which is tracked to its end; deterministic blocks, which stay
//! with their host; filtering that depends on the remote address.

use std::collections::VecDeque;

use algate_config::{Hold, Pairing};

use crate::drop_reason::DropReason;
use crate::event::Kind;
use crate::nat::block::{Shortage, Site};
use crate::nat::key::{Endpoint, Host};
use crate::nat::mapping::{self, End, Filtering, Mapping, Scope};
use crate::nat::policy::Translating;
use crate::nat::ports::{AddressPorts, CANDIDATES, Parity, PoolPlan, PortSpace, Window};
use crate::nat::{Nat, NatWorker, Refusal, Retiree};
use crate::time::{Instant, Tick};

/// One flow's claim on what its subscriber may have: a reference and a counted session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    /// The subscriber's slot.
    pub(super) subscriber: u32,
    space: PortSpace,
}

/// A port that rests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resting {
    until: Tick,
    external: Endpoint,
    space: PortSpace,
}

/// The ports whose rest one worker watches over, the oldest first.
#[derive(Debug)]
pub(super) struct Rests {
    ports: VecDeque<Resting>,
    capacity: usize,
}

impl Rests {
    pub(super) fn new(hold: Hold) -> Self {
        Self { ports: VecDeque::with_capacity(hold.ports), capacity: hold.ports }
    }
}

impl Nat {
    /// Counts a new session for an internal host.
    ///
    /// # Errors
    /// The table of subscribers is full, or a quota of this one is.
    #[inline]
    pub(super) fn seat(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        host: Host,
        now: Instant,
    ) -> Result<Seat, Refusal> {
        let space = PortSpace::counted_as(protocol);
        let Some(subscriber) = self.enter(worker, host) else {
            self.note_full_table(worker, DropReason::SubscriberTableFull);
            return Err(Refusal::Drop(DropReason::SubscriberTableFull));
        };
        if let Err(reason) = self.subscribers.take_session(subscriber, space, now) {
            return Err(self.refuse_seat(worker, subscriber, reason));
        }
        self.note_relief(worker, subscriber);
        Ok(Seat { subscriber, space })
    }

    /// A reference on the subscriber that `host` is.
    #[inline]
    fn enter(&self, worker: &mut NatWorker, host: Host) -> Option<u32> {
        match worker.burst.host {
            Some((last, slot)) if last == host && self.subscribers.enter_again(slot, host) => Some(slot),
            _ => {
                let slot = self.subscribers.enter(host)?;
                worker.burst.host = Some((host, slot));
                Some(slot)
            }
        }
    }

    #[cold]
    fn refuse_seat(&self, worker: &mut NatWorker, subscriber: u32, reason: DropReason) -> Refusal {
        self.note_full_quota(worker, subscriber, reason);
        self.leave_subscriber(worker, subscriber);
        Refusal::Drop(reason)
    }

    /// Gives a seat back: its session ended, or never came to be.
    pub(super) fn unseat(&self, worker: &mut NatWorker, seat: Seat) {
        self.subscribers.give_session(seat.subscriber, seat.space);
        self.note_relief(worker, seat.subscriber);
        self.leave_subscriber(worker, seat.subscriber);
    }

    /// The seat of a session with this protocol and subscriber.
    pub(super) const fn seat_of(protocol: u8, subscriber: u32) -> Seat {
        Seat { subscriber, space: PortSpace::counted_as(protocol) }
    }

    /// Drops one reference on a subscriber.
    pub(super) fn leave_subscriber(&self, worker: &mut NatWorker, subscriber: u32) {
        if self.subscribers.release(subscriber) {
            self.record_end_of_subscriber(worker, subscriber);
            worker.retire(Retiree::Subscriber(subscriber));
        }
    }

    /// Makes a mapping, one reference taken. The caller has looked at `inside` in vain.
    /// `taken` is told each external endpoint that is tried.
    ///
    /// # Errors
    /// [`Refusal`]: no port, no slot, or another worker was faster.
    #[inline]
    pub(super) fn create_mapping(
        &self,
        worker: &mut NatWorker,
        unmapped: &Unmapped<'_>,
        inside: End,
        taken: impl Fn(Endpoint),
    ) -> Result<u32, Refusal> {
        let Unmapped { subscriber, space, .. } = *unmapped;
        if let Err(reason) = self.subscribers.take_port(subscriber, space) {
            self.note_full_quota(worker, subscriber, reason);
            return Err(Refusal::Drop(reason));
        }
        let made = match self.try_mapping(worker, unmapped, inside, &taken) {
            Err(Failure::Shared) => self.try_mapping_again(worker, unmapped, inside, &taken),
            made => made,
        };
        made.map_err(|failure| {
            self.subscribers.give_port(subscriber, space);
            failure.refusal()
        })
    }

    /// Makes the mapping at an endpoint that chance chooses.
    #[inline]
    fn try_mapping(
        &self,
        worker: &mut NatWorker,
        unmapped: &Unmapped<'_>,
        inside: End,
        taken: &impl Fn(Endpoint),
    ) -> Result<u32, Failure> {
        let Unmapped { protocol, internal, subscriber, space, translating, now } = *unmapped;
        let external = self.take_endpoint(worker, unmapped).map_err(Failure::NoPort)?;
        let outside = self.mappings.outside(protocol, external, translating.scope);
        taken(external);
        let new = Mapping {
            protocol,
            internal,
            external,
            filtering: translating.filtering,
            scope: translating.scope,
            subscriber: Some(subscriber),
        };
        let retire = |slot| worker.retire(Retiree::MappingSlot(slot));
        // The port is ours.
        match self.mappings.create_absent(&new, [inside, outside], retire) {
            Ok(index) => {
                // The mapping's own reference.
                self.subscribers.hold(subscriber);
                self.record_mapping(worker, Kind::MappingCreated, &new, Some(translating.pool));
                Ok(index)
            }
            Err(error) => {
                self.free_port(external, space, now);
                Err(self.failure(worker, error))
            }
        }
    }

    /// The same where the first endpoint serves the same remote one already.
    #[cold]
    #[inline(never)]
    fn try_mapping_again(
        &self,
        worker: &mut NatWorker,
        unmapped: &Unmapped<'_>,
        inside: End,
        taken: &impl Fn(Endpoint),
    ) -> Result<u32, Failure> {
        let mut attempts = (1..SHARING_ATTEMPTS).map(|_| self.try_mapping(worker, unmapped, inside, taken));
        attempts.find(|made| !matches!(made, Err(Failure::Shared))).unwrap_or(Err(Failure::Shared))
    }

    #[cold]
    fn failure(&self, worker: &mut NatWorker, error: mapping::CreateError) -> Failure {
        match error {
            mapping::CreateError::Shared => Failure::Shared,
            mapping::CreateError::Exists(_) => Failure::Raced,
            mapping::CreateError::Full => {
                self.note_full_table(worker, DropReason::MappingTableFull);
                Failure::Full
            }
        }
    }

    /// Ends a mapping that was just unlinked: its subscriber has the port no longer.
    pub(super) fn end_mapping(&self, worker: &mut NatWorker, index: u32) {
        if let Some(mapping) = self.mappings.mapping(index)
            && let Some(subscriber) = mapping.subscriber
            && let Some(space) = PortSpace::of_protocol(mapping.protocol)
        {
            let place = self.ports.place_of(mapping.external.address);
            self.record_mapping(worker, Kind::MappingDeleted, &mapping, place.map(|(pool, _)| pool));
            self.subscribers.give_port(subscriber, space);
            self.note_relief(worker, subscriber);
            self.leave_subscriber(worker, subscriber);
        }
        worker.retire(Retiree::Mapping(index));
    }

    /// Frees the port of a mapping that nobody can hold any more, or lets it rest.
    pub(super) fn release_port(&self, rests: &mut Rests, index: u32, now: Instant) {
        let Some(Mapping { protocol, external, filtering, .. }) = self.mappings.mapping(index) else {
            return;
        };
        let Some(space) = PortSpace::of_protocol(protocol) else { return };
        // No pool has the ports of algate's own addresses.
        let Some((pool, _)) = self.ports.place_of(external.address) else { return };
        let is_deterministic = self.blocks.deterministic(pool).is_some();
        let rests_at_all = space != PortSpace::Tcp
            && matches!(filtering, Filtering::EndpointIndependent | Filtering::Expected)
            && !is_deterministic
            && !self.hold.time.is_zero()
            && rests.capacity > 0;
        if !rests_at_all {
            return self.free_port(external, space, now);
        }
        if rests.ports.len() == rests.capacity {
            self.end_rest(rests, now);
        }
        self.ports.begin_rest();
        rests.ports.push_back(Resting { until: Tick::of(now).plus(self.hold.time), external, space });
    }

    /// Frees the ports that have rested.
    pub(super) fn wake_ports(&self, rests: &mut Rests, now: Instant) {
        while rests.ports.front().is_some_and(|resting| resting.until <= Tick::of(now)) {
            self.end_rest(rests, now);
        }
    }

    /// The external address of a host in `pool`: by its forward, by the pool's arithmetic, or the one it
    /// has been paired with, which is chosen here when there is none (RFC 4787 REQ-2).
    #[inline]
    pub(super) fn external_address(
        &self,
        worker: &mut NatWorker,
        subscriber: u32,
        host: Host,
        pool: usize,
    ) -> Option<&AddressPorts> {
        if let Some(deterministic) = self.blocks.deterministic(pool) {
            return self.ports.on(deterministic.first_block(host)?.address);
        }
        let here = |address| self.ports.on(address).filter(|ports| ports.pool == pool);
        if let Some(address) = self.subscribers.paired(subscriber) {
            // A host whose rules name several pools keeps to one address in each.
            let other = || self.ports.on(self.ports.address(pool, self.key.hash1(host.to_u64()))?);
            return here(address).or_else(other);
        }
        here(self.pair_host(worker, subscriber, host, pool)?)
    }

    /// Pairs a host with an address of `pool`, unless another worker just has.
    #[cold]
    fn pair_host(&self, worker: &mut NatWorker, subscriber: u32, host: Host, pool: usize) -> Option<u32> {
        let address = self.ports.quietest_address(pool, worker.random.draw())?;
        if self.subscribers.pair(subscriber, address) {
            self.ports.add_host(address);
            self.record_binding(worker, Kind::AddressBound, host, address);
            return Some(address);
        }
        self.subscribers.paired(subscriber)
    }

    /// Takes an external endpoint.
    #[inline]
    fn take_endpoint(&self, worker: &mut NatWorker, unmapped: &Unmapped<'_>) -> Result<Endpoint, DropReason> {
        let Unmapped { internal, subscriber, translating, .. } = *unmapped;
        let plan = self.ports.plan(translating.pool).ok_or(DropReason::PoolExhausted)?;
        let own = match translating.address {
            Some(address) => self.ports.on(address),
            None => self.external_address(worker, subscriber, internal.host(), translating.pool),
        };
        let own = own.ok_or(DropReason::PoolExhausted)?;
        match self.take_on(worker, unmapped, plan, own) {
            Err(refused) if plan.pairing == Pairing::Strict || translating.address.is_some() => Err(refused),
            Err(refused) => self.take_elsewhere(worker, unmapped, plan, own).ok_or(refused),
            taken => taken,
        }
    }

    /// Takes one on another address than the host's `own`.
    #[cold]
    fn take_elsewhere(
        &self,
        worker: &mut NatWorker,
        unmapped: &Unmapped<'_>,
        plan: &PoolPlan,
        own: &AddressPorts,
    ) -> Option<Endpoint> {
        let pool = unmapped.translating.pool;
        let first = worker.random.draw() >> 1;
        let mut others = (0..CANDIDATES as u64)
            .filter_map(|n| self.ports.on(self.ports.address(pool, first + n)?))
            .filter(|other| other.address != own.address);
        others.find_map(|other| self.take_on(worker, unmapped, plan, other).ok())
    }

    /// Takes a port of `ports`: one with the wanted parity, else any (RFC 4787 REQ-4); one of its
    /// own, else one that may be shared.
    #[inline]
    fn take_on(
        &self,
        worker: &mut NatWorker,
        unmapped: &Unmapped<'_>,
        plan: &PoolPlan,
        ports: &AddressPorts,
    ) -> Result<Endpoint, DropReason> {
        let space = unmapped.space;
        let random = worker.random.draw();
        let may_share = matches!(unmapped.translating.scope, Scope::Remote(_));
        let parity = match plan.keeps_parity && space != PortSpace::Icmp {
            true => Parity::of(unmapped.internal.l4_port),
            false => Parity::Any,
        };
        let take_port = |low: u16, high: u16| {
            let window = Window { low, high, parity };
            match may_share {
                true => ports.take_or_share(space, window, random),
                false => ports.take_like(space, window, random),
            }
        };
        let at = |l4_port| Endpoint::new(ports.address, l4_port);
        let place = (ports.pool, ports.number);
        if !self.blocks.has(ports.pool) {
            let (low, high) = plan.l4_ports;
            return take_port(low, high).map(at).ok_or_else(|| {
                self.note_full_address(worker, place, space);
                DropReason::PoolExhausted
            });
        }
        let Unmapped { subscriber, internal, now, .. } = *unmapped;
        let (pool, address_number) = place;
        let site = Site { pool, address_number, subscriber, host: internal.host() };
        let hold = || self.subscribers.hold(subscriber);
        let (l4_port, assigned) = self.blocks.take(&site, random, now, hold, &take_port);
        if let Some(block) = assigned {
            self.record_block(worker, Kind::BlockAssigned, &block);
        }
        l4_port.map(at).map_err(|shortage| match shortage {
            Shortage::Quota => {
                self.note_full_quota(worker, subscriber, DropReason::QuotaPorts);
                DropReason::QuotaPorts
            }
            Shortage::Pool => {
                self.note_full_address(worker, place, space);
                DropReason::PoolExhausted
            }
        })
    }

    fn end_rest(&self, rests: &mut Rests, now: Instant) {
        if let Some(Resting { external, space, .. }) = rests.ports.pop_front() {
            self.ports.end_rest();
            self.free_port(external, space, now);
        }
    }

    pub(super) fn free_port(&self, external: Endpoint, space: PortSpace, now: Instant) {
        self.ports.release(external.address, space, external.l4_port);
        if let Some((pool, address_number)) = self.ports.place_of(external.address) {
            self.blocks.leave(pool, address_number, external.l4_port, now);
        }
    }
}

/// An internal endpoint that is to have a mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unmapped<'a> {
    protocol: u8,
    internal: Endpoint,
    subscriber: u32,
    space: PortSpace,
    translating: &'a Translating,
    now: Instant,
}

impl<'a> Unmapped<'a> {
    /// One of the `subscriber`, on which the caller holds a reference, for flows that `translating` covers.
    ///
    /// # Errors
    /// The protocol has no mappings.
    #[inline]
    pub(super) fn new(
        (protocol, internal): (u8, Endpoint),
        subscriber: u32,
        translating: &'a Translating,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let space = PortSpace::of_protocol(protocol).ok_or(Refusal::Drop(DropReason::UnsupportedProtocol))?;
        Ok(Self { protocol, internal, subscriber, space, translating, now })
    }
}

/// Why there is no mapping.
enum Failure {
    NoPort(DropReason),
    /// The endpoint serves the same remote one already, for another internal one.
    Shared,
    /// Another worker was faster.
    Raced,
    /// The table.
    Full,
}

impl Failure {
    const fn refusal(self) -> Refusal {
        match self {
            Self::NoPort(reason) => Refusal::Drop(reason),
            Self::Shared => Refusal::Drop(DropReason::PoolExhausted),
            Self::Raced => Refusal::Raced,
            Self::Full => Refusal::Drop(DropReason::MappingTableFull),
        }
    }
}

/// Endpoints tried for a mapping that may share one, when others have the same remote endpoint on each.
const SHARING_ATTEMPTS: u32 = 16;
