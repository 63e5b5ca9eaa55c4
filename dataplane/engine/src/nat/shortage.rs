//! What is full at the moment, so that a shortage is recorded once when it begins and once when it ends.
//!
//! ```text
//!            a packet is refused                 a sixteenth is free again (looked at once a second)
//!   room ------------------------> short (recorded) ------------------------------------> room (recorded)
//! ```
//!
//! The margin keeps a full pool, in which ports come and go, from filling the records. Quotas of one
//! subscriber are kept with the subscriber ([`super::subscriber`]), with a margin of an eighth.

use std::time::Duration;

use algate_config::Config;

use crate::drop_reason::DropReason;
use crate::event::{Kind, Record};
use crate::nat::key::Endpoint;
use crate::nat::ports::PortSpace;
use crate::nat::{Nat, NatWorker};
use crate::table::sync::{AtomicBool, AtomicU32, Ordering};
use crate::time::Instant;

/// Which tables, pools and addresses are short, shared by all workers.
#[derive(Debug)]
pub(super) struct Shortages {
    /// How many there are: while none, nobody looks.
    active: AtomicU32,
    tables: [AtomicBool; TABLES.len()],
    room: [u32; TABLES.len()],
    /// Addresses of all pools, three port spaces each.
    addresses: Box<[AtomicBool]>,
    pools: Vec<Pool>,
}

#[derive(Debug)]
struct Pool {
    /// Number of its first address among those of all pools.
    first: u32,
    count: u32,
    /// Addresses that are short, by port space.
    short: [AtomicU32; 3],
}

/// The end of one port space of one pool address.
#[derive(Debug, Clone, Copy)]
struct Place {
    pool: usize,
    address_number: u32,
    space: PortSpace,
}

impl Shortages {
    /// Nothing is short.
    pub(super) fn new(config: &Config) -> Self {
        let (mut first, mut pools) = (0, Vec::new());
        for pool in &config.nat.pools {
            let count = pool.ranges.iter().map(|(low, high)| u32::from(*high) - u32::from(*low) + 1).sum();
            pools.push(Pool { first, count, short: Default::default() });
            first += count;
        }
        let tables = &config.tables;
        let sizes = [
            tables.sessions,
            tables.tcp_sessions,
            tables.related_sessions,
            tables.half_open,
            tables.mappings,
            tables.subscribers,
        ];
        Self {
            active: AtomicU32::new(0),
            tables: Default::default(),
            room: sizes.map(|size| with_margin(u32::try_from(size).unwrap_or(u32::MAX))),
            addresses: (0..first as usize * SPACES.len()).map(|_| AtomicBool::new(false)).collect(),
            pools,
        }
    }

    /// Sets a flag; `true`: it was not set.
    fn begin(&self, flag: Option<&AtomicBool>) -> bool {
        // A look first: most refusals in a shortage are not the first. Relaxed: a flag stands for itself.
        let begins =
            flag.is_some_and(|flag| !flag.load(Ordering::Relaxed) && !flag.swap(true, Ordering::Relaxed));
        if begins {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
        begins
    }

    /// Clears a flag; `true`: it was set.
    fn end(&self, flag: Option<&AtomicBool>) -> bool {
        let ends = flag.is_some_and(|flag| flag.swap(false, Ordering::Relaxed));
        if ends {
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
        ends
    }

    fn flag(&self, place: Place) -> Option<&AtomicBool> {
        let number = self.pools.get(place.pool)?.first + place.address_number;
        self.addresses.get(number as usize * SPACES.len() + place.space as usize)
    }

    fn short_in(&self, place: Place) -> Option<(&AtomicU32, u32)> {
        let pool = self.pools.get(place.pool)?;
        Some((pool.short.get(place.space as usize)?, pool.count))
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.pools.iter().enumerate().flat_map(|(pool, Pool { count, .. })| {
            let at = move |address_number| SPACES.map(|space| Place { pool, address_number, space });
            (0..*count).flat_map(at)
        })
    }
}

impl Nat {
    /// A table has refused a packet, which dies of `reason`.
    pub(super) fn note_full_table(&self, worker: &mut NatWorker, reason: DropReason) {
        let Some(at) = TABLES.iter().position(|table| *table == reason) else { return };
        if worker.events.selection.exhaustion && self.shortages.begin(self.shortages.tables.get(at)) {
            worker.events.record(Record { cause: Some(reason), ..Record::of(Kind::QuotaExceeded) });
        }
    }

    /// An external address has refused a port.
    pub(super) fn note_full_address(
        &self,
        worker: &mut NatWorker,
        (pool, address_number): (usize, u32),
        space: PortSpace,
    ) {
        let place = Place { pool, address_number, space };
        if !worker.events.selection.exhaustion || !self.shortages.begin(self.shortages.flag(place)) {
            return;
        }
        worker.events.record(self.pool_record(Kind::PortsExhausted, place));
        if let Some((short, count)) = self.shortages.short_in(place)
            && short.fetch_add(1, Ordering::Relaxed) + 1 == count
        {
            let pool = Place { address_number: 0, ..place };
            worker.events.record(self.pool_record(Kind::AddressesExhausted, pool));
        }
    }

    /// Ends the shortages of this worker's share that are over. Once a second, while there is one.
    pub(super) fn sweep_shortages(&self, worker: &mut NatWorker, now: Instant) {
        if self.shortages.active.load(Ordering::Relaxed) == 0 || now < worker.sweep.shortages {
            return;
        }
        worker.sweep.shortages = now.plus(PERIOD);
        let (number, workers) = (worker.sweep.number, worker.sweep.workers);
        for (place, at) in self.shortages.places().zip(0..) {
            let flag = self.shortages.flag(place);
            let is_short = flag.is_some_and(|flag| flag.load(Ordering::Relaxed));
            if at % workers == number && is_short && self.has_room(place) && self.shortages.end(flag) {
                if let Some((short, count)) = self.shortages.short_in(place)
                    && short.fetch_sub(1, Ordering::Relaxed) == count
                {
                    let pool = Place { address_number: 0, ..place };
                    worker.events.record(self.pool_record(Kind::AddressesAvailable, pool));
                }
                worker.events.record(self.pool_record(Kind::PortsAvailable, place));
            }
        }
        let used = [
            self.sessions.in_use(),
            self.sessions.tcp_in_use(),
            self.sessions.related_in_use(),
            self.sessions.half_open(),
            self.mappings.in_use(),
            self.subscribers.in_use(),
        ];
        let tables = TABLES.iter().zip(used.iter().zip(self.shortages.room)).zip(&self.shortages.tables);
        for ((reason, (used, room)), flag) in tables {
            if number == 0 && *used <= room && self.shortages.end(Some(flag)) {
                worker.events.record(Record { cause: Some(*reason), ..Record::of(Kind::QuotaAvailable) });
            }
        }
    }

    fn has_room(&self, Place { pool, address_number, space }: Place) -> bool {
        if self.blocks.has(pool) {
            let (free, count) = self.blocks.free_on(pool, address_number);
            return count - free <= with_margin(count);
        }
        let Some(plan) = self.ports.plan(pool) else { return false };
        let (low, high) = plan.l4_ports;
        let taken = self
            .ports
            .address(pool, u64::from(address_number))
            .map_or(0, |address| self.ports.taken_within(address, space, plan.l4_ports));
        taken <= with_margin(u32::from(high - low) + 1)
    }

    fn pool_record(&self, kind: Kind, Place { pool, address_number, space }: Place) -> Record {
        let address = self.ports.address(pool, u64::from(address_number)).unwrap_or(0);
        let external = Endpoint::new(address, 0);
        Record { protocol: space.protocol(), external, ..Record::of(kind) }
    }
}

/// Of `size` places, how many may be taken when a shortage is over.
const fn with_margin(size: u32) -> u32 {
    let margin = size / 16;
    size.saturating_sub(if margin == 0 { 1 } else { margin })
}

/// What packets that find a table full die of.
const TABLES: [DropReason; 6] = [
    DropReason::SessionTableFull,
    DropReason::TcpTableFull,
    DropReason::RelatedTableFull,
    DropReason::HalfOpenFull,
    DropReason::MappingTableFull,
    DropReason::SubscriberTableFull,
];
const SPACES: [PortSpace; 3] = [PortSpace::Tcp, PortSpace::Udp, PortSpace::Icmp];
const PERIOD: Duration = Duration::from_secs(1);
