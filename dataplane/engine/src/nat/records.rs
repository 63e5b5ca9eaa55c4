//! Which moments of NAT become event records, and what they say.
//!
//! A record is written after the fact, by the worker that made it true: what lost a race writes none. An end
//! is written when nobody can find the thing any more, before its port can be given to another: so of
//! one external endpoint, the end of one holder comes before the beginning of the next.

use algate_config::MappingEvents;

use crate::drop_reason::DropReason;
use crate::event::{Kind, Record};
use crate::nat::block::Block;
use crate::nat::burst::Burst;
use crate::nat::deterministic::Owner;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{Mapping, Scope};
use crate::nat::{Nat, NatWorker};
use crate::time::Instant;

impl NatWorker {
    /// Begins a burst.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        self.events.begin(now);
        self.burst = Burst::default();
    }
}

impl Nat {
    /// A session began or ended.
    #[inline]
    pub(super) fn record_session(
        &self,
        worker: &mut NatWorker,
        kind: Kind,
        internal_key: FlowKey,
        external_key: FlowKey,
    ) {
        let selection = worker.events.selection;
        if selection.sessions {
            worker.events.record(Record {
                protocol: internal_key.protocol(),
                internal: internal_key.source(),
                external: external_key.destination(),
                remote: selection.destinations.then(|| internal_key.destination()),
                ..Record::of(kind)
            });
        }
    }

    /// A mapping began or ended, whose external address is of `pool`.
    #[inline]
    pub(super) fn record_mapping(
        &self,
        worker: &mut NatWorker,
        kind: Kind,
        mapping: &Mapping,
        pool: Option<usize>,
    ) {
        let is_wanted = match worker.events.selection.mappings {
            MappingEvents::Never => false,
            MappingEvents::Always => true,
            MappingEvents::WithoutBlocks => !pool.is_some_and(|pool| self.blocks.has(pool)),
        };
        if is_wanted {
            write_mapping(worker, kind, mapping);
        }
    }

    /// A host got a block, or has it no longer. Of those that the configuration determines there are no records
    /// (RFC 7422 section 1).
    pub(super) fn record_block(&self, worker: &mut NatWorker, kind: Kind, block: &Block) {
        let Block { pool, address_number, l4_ports: (first, last), subscriber } = *block;
        let (Some(address), Some(host)) =
            (self.ports.address(pool, u64::from(address_number)), self.subscribers.host(subscriber))
        else {
            return;
        };
        let owner = self.blocks.deterministic(pool).and_then(|computed| computed.owner(address, first));
        if worker.events.selection.blocks && !matches!(owner, Some(Owner::Host(_))) {
            worker.events.record(Record {
                internal: whole(host),
                external: Endpoint::new(address, first),
                last_l4_port: last,
                ..Record::of(kind)
            });
        }
    }

    /// A host was paired with an external address, or is no longer.
    pub(super) fn record_binding(&self, worker: &mut NatWorker, kind: Kind, host: Host, address: u32) {
        if worker.events.selection.addresses {
            let (internal, external) = (whole(host), Endpoint::new(address, 0));
            worker.events.record(Record { internal, external, ..Record::of(kind) });
        }
    }

    /// A subscriber is refused something; the first time since it had room, that is recorded.
    pub(super) fn note_full_quota(&self, worker: &mut NatWorker, subscriber: u32, reason: DropReason) {
        if worker.events.selection.exhaustion && self.subscribers.begin_shortage(subscriber, reason) {
            self.record_quota(worker, Kind::QuotaExceeded, subscriber, reason);
        }
    }

    /// A subscriber has given something back.
    #[inline]
    pub(super) fn note_relief(&self, worker: &mut NatWorker, subscriber: u32) {
        for reason in self.subscribers.end_shortages(subscriber, Some(worker.events.now())) {
            self.record_quota(worker, Kind::QuotaAvailable, subscriber, reason);
        }
    }

    /// The last reference on a subscriber is gone, and with it what was short and its external address.
    pub(super) fn record_end_of_subscriber(&self, worker: &mut NatWorker, subscriber: u32) {
        for reason in self.subscribers.end_shortages(subscriber, None) {
            self.record_quota(worker, Kind::QuotaAvailable, subscriber, reason);
        }
        if let (Some(host), Some(address)) =
            (self.subscribers.host(subscriber), self.subscribers.paired(subscriber))
        {
            self.record_binding(worker, Kind::AddressUnbound, host, address);
        }
    }

    fn record_quota(&self, worker: &mut NatWorker, kind: Kind, subscriber: u32, reason: DropReason) {
        let internal = self.subscribers.host(subscriber).map_or(Endpoint::new(0, 0), whole);
        worker.events.record(Record { internal, cause: Some(reason), ..Record::of(kind) });
    }
}

fn write_mapping(worker: &mut NatWorker, kind: Kind, mapping: &Mapping) {
    let remote = match mapping.scope {
        Scope::Remote(remote) if worker.events.selection.destinations => Some(remote),
        Scope::Remote(_) | Scope::Pool { .. } => None,
    };
    let Mapping { protocol, internal, external, .. } = *mapping;
    worker.events.record(Record { protocol, internal, external, remote, ..Record::of(kind) });
}

const fn whole(host: Host) -> Endpoint {
    Endpoint::new(host.address, 0).in_tenant(host.tenant)
}
