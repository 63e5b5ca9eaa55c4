//! What NAT reserves for flows that an ALG expects: one external endpoint, or two adjacent ones.
//!
//! The mapping that the target has is used; else one is made that only expected flows may use
//! ([`Filtering::Expected`]), or one as the host's rule says. Every mapping returned has one reference taken. Two
//! endpoints (RTP and RTCP, RFC 3550 section 11) are reserved both or not at all.

use algate_alg::ExpectError;

use crate::drop_reason::DropReason;
use crate::nat::allocation::Unmapped;
use crate::nat::block::Site;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{Filtering, Hold, Mapping, Scope};
use crate::nat::policy::{Home, Translating, Treatment};
use crate::nat::ports::PortSpace;
use crate::nat::{Nat, NatWorker, Refusal, Retiree};
use crate::time::Instant;

/// An external endpoint and the mapping behind it.
pub(super) type Reserved = (Endpoint, u32);

impl Nat {
    /// Reserves an external endpoint on `address` for flows that an ALG expects at `target`.
    ///
    /// # Errors
    /// No port is free, or a table is full.
    pub fn reserve(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        address: u32,
        now: Instant,
    ) -> Result<Reserved, ExpectError> {
        let expected = self.expected_on(address)?;
        self.reserve_as(worker, protocol, target, &expected, now)
    }

    /// Reserves the external endpoint that the first of `ends` has, or would get, for flows to the second one:
    /// whoever comes is judged by the filtering of the host's rule. Where that names another pool, `address` gives
    /// way.
    ///
    /// # Errors
    /// No rule covers the host, no port is free, or a table is full.
    pub fn reserve_by_rule(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        (target, remote): (Endpoint, Endpoint),
        address: u32,
        now: Instant,
    ) -> Result<Reserved, ExpectError> {
        match self.policy.treatment(FlowKey::new(protocol, target, remote)) {
            None => Err(ExpectError::PoolExhausted),
            Some(Treatment::None | Treatment::Static(_)) => {
                self.reserve(worker, protocol, target, address, now)
            }
            Some(Treatment::Translate(by_rule)) => {
                let is_here = self.ports.place_of(address).is_some_and(|(pool, _)| pool == by_rule.pool);
                let address = if is_here { Some(address) } else { by_rule.address };
                self.reserve_as(worker, protocol, target, &Translating { address, ..by_rule }, now)
            }
        }
    }

    /// Reserves two external endpoints on `address` with adjacent ports, the lower one even, for `target` and the
    /// port above it.
    ///
    /// # Errors
    /// No such pair is free, or a table is full. Nothing is reserved then.
    pub fn reserve_pair(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        address: u32,
        now: Instant,
    ) -> Result<[Reserved; 2], ExpectError> {
        let l4_port = target.l4_port.checked_add(1).ok_or(ExpectError::PoolExhausted)?;
        let space = PortSpace::of_protocol(protocol).ok_or(ExpectError::TableFull)?;
        let translating = self.expected_on(address)?;
        let subscriber = self.subscribers.enter(target.host()).ok_or(ExpectError::TableFull)?;
        let wanted = Wanted { protocol, space, address, subscriber, translating, now };
        let made = self.pair(worker, &wanted, [target, Endpoint { l4_port, ..target }]);
        self.leave_subscriber(worker, subscriber);
        made
    }

    /// Takes one more reference on a mapping; `false`: it is ending.
    #[must_use]
    pub fn keep(&self, mapping: u32) -> bool {
        self.mappings.acquire(mapping, Hold::Firm)
    }

    /// Gives a reference back that was taken here.
    pub fn give_back(&self, worker: &mut NatWorker, mapping: Option<u32>) {
        self.release_mapping(worker, mapping, Hold::Firm);
    }

    /// How an expected flow is translated.
    fn expected_on(&self, address: u32) -> Result<Translating, ExpectError> {
        let (pool, _) = self.ports.place_of(address).ok_or(ExpectError::PoolExhausted)?;
        let reserved = Translating::reserved(Home { address, pool });
        Ok(Translating { filtering: Filtering::Expected, ..reserved })
    }

    fn reserve_as(
        &self,
        worker: &mut NatWorker,
        protocol: u8,
        target: Endpoint,
        translating: &Translating,
        now: Instant,
    ) -> Result<Reserved, ExpectError> {
        let subscriber = self.subscribers.enter(target.host()).ok_or(ExpectError::TableFull)?;
        let inside = self.mappings.inside(protocol, target, translating.scope);
        let mut acquire = || match self.mappings.acquire_inside(&inside) {
            Some(index) => Ok(index),
            None => Unmapped::new((protocol, target), subscriber, translating, now)
                .and_then(|unmapped| self.create_mapping(worker, &unmapped, inside, |_| {})),
        };
        let acquired = match acquire() {
            Err(Refusal::Raced) => acquire(),
            acquired => acquired,
        };
        self.leave_subscriber(worker, subscriber);
        let index = acquired.map_err(|refusal| match refusal {
            Refusal::Drop(DropReason::PoolExhausted | DropReason::QuotaPorts | DropReason::QuotaMemory) => {
                ExpectError::PoolExhausted
            }
            Refusal::Drop(_) | Refusal::Raced => ExpectError::TableFull,
        })?;
        match self.mappings.mapping(index) {
            Some(mapping) => Ok((mapping.external, index)),
            None => Err(ExpectError::TableFull),
        }
    }

    /// What targets have that have sent already need not be a pair; such ones get a second mapping each, for what is
    /// expected alone.
    fn pair(
        &self,
        worker: &mut NatWorker,
        wanted: &Wanted,
        targets: [Endpoint; 2],
    ) -> Result<[Reserved; 2], ExpectError> {
        let translating = Translating { scope: apart_scope(wanted.translating.pool), ..wanted.translating };
        let apart = Wanted { translating, ..*wanted };
        match self.held(&apart, targets) {
            [Some(first), Some(second)] => return Ok([first, second]),
            others => self.give_all_back(worker, others),
        }
        match self.pair_in(worker, wanted, targets)? {
            Some(pair) => Ok(pair),
            None => self.pair_in(worker, &apart, targets)?.ok_or(ExpectError::PoolExhausted),
        }
    }

    /// The mappings of both targets in the wanted scope, with a reference on each that there is.
    fn held(&self, wanted: &Wanted, targets: [Endpoint; 2]) -> [Option<Reserved>; 2] {
        targets.map(|target| {
            let scope = wanted.translating.scope;
            let index = self.mappings.acquire_internal(wanted.protocol, target, scope)?;
            self.mappings.mapping(index).map(|mapping| (mapping.external, index))
        })
    }

    /// A pair of mappings in the wanted scope; `None`: the targets have some that cannot be one.
    fn pair_in(
        &self,
        worker: &mut NatWorker,
        wanted: &Wanted,
        targets: [Endpoint; 2],
    ) -> Result<Option<[Reserved; 2]>, ExpectError> {
        let held = self.held(wanted, targets);
        let [lower, upper] = targets;
        let made = match held {
            [Some(first), Some(second)] => is_pair(first.0, second.0).then_some([first, second]),
            [Some(first), None] => {
                let at = partner(first.0);
                let second = is_pair(first.0, at).then(|| self.make_exactly(worker, wanted, upper, at));
                second.flatten().map(|second| [first, second])
            }
            [None, Some(second)] => {
                let at = partner(second.0);
                let first = is_pair(at, second.0).then(|| self.make_exactly(worker, wanted, lower, at));
                first.flatten().map(|first| [first, second])
            }
            [None, None] => return self.make_pair(worker, wanted, targets).map(Some),
        };
        if made.is_none() {
            self.give_all_back(worker, held);
        }
        Ok(made)
    }

    fn give_all_back(&self, worker: &mut NatWorker, held: [Option<Reserved>; 2]) {
        for (_, mapping) in held.into_iter().flatten() {
            self.give_back(worker, Some(mapping));
        }
    }

    /// Makes the mapping of `internal` at exactly this external endpoint: inside the subscriber's own blocks
    /// where the pool has some.
    fn make_exactly(
        &self,
        worker: &mut NatWorker,
        wanted: &Wanted,
        internal: Endpoint,
        external: Endpoint,
    ) -> Option<Reserved> {
        let (pool, address_number) = self.ports.place_of(external.address)?;
        let (low, high) = self.ports.plan(pool)?.l4_ports;
        if !(low..=high).contains(&external.l4_port) {
            return None;
        }
        let has_blocks = self.blocks.has(pool);
        if has_blocks && !self.blocks.join(pool, address_number, external.l4_port, wanted.subscriber) {
            return None;
        }
        if !self.ports.take_exact(external.address, wanted.space, external.l4_port) {
            if has_blocks {
                self.blocks.leave(pool, address_number, external.l4_port, wanted.now);
            }
            return None;
        }
        self.make_at(worker, wanted, internal, external).ok()
    }

    fn make_pair(
        &self,
        worker: &mut NatWorker,
        wanted: &Wanted,
        [lower, upper]: [Endpoint; 2],
    ) -> Result<[Reserved; 2], ExpectError> {
        let l4_port = self.take_pair(worker, wanted, lower.host()).ok_or(ExpectError::PoolExhausted)?;
        // The lower one is even, so there is one above.
        let at = |l4_port| Endpoint::new(wanted.address, l4_port);
        let (first, second) = (at(l4_port), at(l4_port | 1));
        let first = match self.make_at(worker, wanted, lower, first) {
            Ok(first) => first,
            Err(error) => {
                self.free_port(second, wanted.space, wanted.now);
                return Err(error);
            }
        };
        match self.make_at(worker, wanted, upper, second) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                self.give_back(worker, Some(first.1));
                Err(error)
            }
        }
    }

    /// Takes an even port and the one above it.
    fn take_pair(&self, worker: &mut NatWorker, wanted: &Wanted, host: Host) -> Option<u16> {
        let random = worker.random.draw();
        let take =
            |low: u16, high: u16| self.ports.take_pair(wanted.address, wanted.space, (low, high), random);
        let (pool, address_number) = self.ports.place_of(wanted.address)?;
        if !self.blocks.has(pool) {
            let (low, high) = self.ports.plan(pool)?.l4_ports;
            return take(low, high);
        }
        let site = Site { pool, address_number, subscriber: wanted.subscriber, host };
        let hold = || self.subscribers.hold(wanted.subscriber);
        let (l4_port, _) = self.blocks.take(&site, worker.random.draw(), wanted.now, hold, &take);
        let l4_port = l4_port.ok()?;
        // The block is held for the lower one; the upper one is a second port of it.
        let is_joined = self.blocks.join(pool, address_number, l4_port | 1, wanted.subscriber);
        debug_assert!(is_joined, "the block of port {l4_port} is the subscriber's");
        Some(l4_port)
    }

    /// Makes the mapping of `internal` at a port that was taken for it; gives the port back otherwise.
    fn make_at(
        &self,
        worker: &mut NatWorker,
        wanted: &Wanted,
        internal: Endpoint,
        external: Endpoint,
    ) -> Result<Reserved, ExpectError> {
        let Wanted { protocol, space, subscriber, translating, now, .. } = *wanted;
        if self.subscribers.take_port(subscriber, space).is_err() {
            self.free_port(external, space, now);
            return Err(ExpectError::PoolExhausted);
        }
        let Translating { filtering, scope, .. } = translating;
        let new = Mapping { protocol, internal, external, filtering, scope, subscriber: Some(subscriber) };
        match self.mappings.create(&new, |slot| worker.retire(Retiree::MappingSlot(slot))) {
            Ok(index) => {
                // The mapping's own reference.
                self.subscribers.hold(subscriber);
                Ok((external, index))
            }
            Err(_) => {
                self.subscribers.give_port(subscriber, space);
                self.free_port(external, space, now);
                Err(ExpectError::TableFull)
            }
        }
    }
}

/// The scope of what is reserved for an endpoint whose mappings by rule cannot serve.
pub(super) const fn apart_scope(pool: usize) -> Scope {
    Scope::Pool { pool: pool as u16, filtering: Filtering::Expected }
}

/// What a pair is wanted for.
struct Wanted {
    protocol: u8,
    space: PortSpace,
    address: u32,
    subscriber: u32,
    translating: Translating,
    now: Instant,
}

pub(super) fn is_pair(lower: Endpoint, upper: Endpoint) -> bool {
    lower.address == upper.address && lower.l4_port.is_multiple_of(2) && upper.l4_port == lower.l4_port | 1
}

/// The port that makes a pair with this one.
pub(super) const fn partner(external: Endpoint) -> Endpoint {
    Endpoint { l4_port: external.l4_port ^ 1, ..external }
}
