//! Blocks of ports: which belongs to which subscriber, and when it is free again.
//!
//! A block is a run of port numbers of one external address, for all protocols alike. Its state is one
//! word, so every change is one compare-exchange:
//!
//! ```text
//!          take: owner, 1 port             leave: last port           sweep: idle for long enough
//!   free ----------------------> in use ------------------> idle -----------------------> free
//!                                   ^                        |
//!                                   |  enter: owner's port   |
//!                                   +------------------------+
//! ```
//!
//! A subscriber's blocks are listed in its own row of slots. The row is a hint: the block's state says
//! whose it is. A block holds a reference on its subscriber, so the row outlives its entries. A block is nobody's, but
//! not free yet, while the sweep strikes it off the row: had its old owner taken it anew already, that entry would go
//! too, and with the place another block than the subscriber may have.

use algate_config::Nat as NatConfig;

use crate::nat::deterministic::Deterministic;
use crate::nat::key::Host;
use crate::table::sync::{AtomicU32, AtomicU64, Ordering, Writers};
use crate::time::Instant;

#[cfg(all(test, loom))]
mod models;

/// All blocks of all pools, and each subscriber's list.
#[derive(Debug)]
pub struct Blocks {
    states: Box<[AtomicU64]>,
    /// Stands for a block that is not there.
    nobodys: AtomicU64,
    plans: Vec<Option<Plan>>,
    /// Block number + 1, [`BUSY`], or 0, per subscriber and place in its row.
    owned: Box<[AtomicU32]>,
    row: usize,
    writers: Writers,
}

/// How a pool is cut into blocks.
#[derive(Debug)]
struct Plan {
    /// Number of its first block among all.
    first: u32,
    blocks: u32,
    per_address: u32,
    block_ports: u16,
    low: u16,
    idle_seconds: u16,
    /// This pool's places in a subscriber's row.
    places: std::ops::Range<usize>,
    deterministic: Option<Deterministic>,
}

/// A block that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its pool.
    pub pool: usize,
    /// Number of its address in the pool.
    pub address_number: u32,
    /// Its ports, inclusive.
    pub l4_ports: (u16, u16),
    /// Slot of its subscriber.
    pub subscriber: u32,
}

/// Where a port is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The pool.
    pub pool: usize,
    /// Number of the address in the pool.
    pub address_number: u32,
    /// Slot of the subscriber.
    pub subscriber: u32,
    /// The host that it is.
    pub host: Host,
}

/// Why there is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The subscriber's blocks are full, and it may have no more.
    Quota,
    /// Its address has no free block, or no free port.
    Pool,
}

impl Blocks {
    /// All blocks free; room for the lists of `subscribers`.
    #[must_use]
    pub fn new(config: &NatConfig, subscribers: usize, writers: Writers) -> Self {
        let (mut first, mut row) = (0, 0);
        let mut plans = Vec::new();
        for (index, pool) in config.pools.iter().enumerate() {
            let Some(blocks) = &pool.blocks else {
                plans.push(None);
                continue;
            };
            let addresses: u32 =
                pool.ranges.iter().map(|(first, last)| u32::from(*last) - u32::from(*first) + 1).sum();
            let (low, high) = pool.l4_ports;
            let per_address = (u32::from(high - low) + 1) / u32::from(blocks.ports);
            let places = row..row + usize::from(blocks.per_host);
            row = places.end;
            plans.push(Some(Plan {
                first,
                blocks: addresses * per_address,
                per_address,
                block_ports: blocks.ports,
                low,
                idle_seconds: u16::try_from(blocks.idle_hold.as_secs()).unwrap_or(u16::MAX),
                places,
                deterministic: Deterministic::new(config, index),
            }));
            first += addresses * per_address;
        }
        Self {
            states: (0..first).map(|_| AtomicU64::new(0)).collect(),
            nobodys: AtomicU64::new(u64::MAX),
            plans,
            owned: (0..subscribers * row).map(|_| AtomicU32::new(0)).collect(),
            row,
            writers,
        }
    }

    /// Whether the pool is cut into blocks.
    #[inline]
    #[must_use]
    pub fn has(&self, pool: usize) -> bool {
        self.plan(pool).is_some()
    }

    /// The arithmetic of a deterministic pool.
    #[inline]
    #[must_use]
    pub fn deterministic(&self, pool: usize) -> Option<&Deterministic> {
        self.plan(pool)?.deterministic.as_ref()
    }

    /// A port out of the subscriber's blocks on an address: `take_port` tries each block's range. When
    /// they are full the subscriber gets one more block, which is returned too: `hold` takes a reference on the
    /// subscriber for it, before a sweep can give that back.
    ///
    /// [`Shortage`]: there is no port.
    #[inline]
    pub fn take(
        &self,
        site: &Site,
        random: u64,
        now: Instant,
        hold: impl FnOnce(),
        take_port: &impl Fn(u16, u16) -> Option<u16>,
    ) -> (Result<u16, Shortage>, Option<Block>) {
        let Some(plan) = self.plan(site.pool) else { return (Err(Shortage::Pool), None) };
        let address = plan.first_on(site.address_number);
        for place in self.row_of(site.subscriber, plan) {
            let Some(block) = place.load(Ordering::Relaxed).checked_sub(1) else { continue };
            let within = block.checked_sub(address).filter(|within| *within < plan.per_address);
            if let Some(within) = within
                && self.enter(block, site.subscriber)
            {
                let (low, high) = plan.l4_ports(within);
                if let Some(l4_port) = take_port(low, high) {
                    return (Ok(l4_port), None);
                }
                self.leave_block(block, now);
            }
        }
        let another = match self.take_another(plan, site, random, hold) {
            Ok(another) => another,
            Err(shortage) => return (Err(shortage), None),
        };
        let (low, high) = another.l4_ports;
        let l4_port = take_port(low, high);
        if l4_port.is_none() {
            // Forwards and resting ports fill it.
            self.leave(site.pool, site.address_number, low, now);
        }
        (l4_port.ok_or(Shortage::Pool), Some(another))
    }

    /// One block more for the subscriber, with one port counted.
    #[cold]
    #[inline(never)]
    fn take_another(
        &self,
        plan: &Plan,
        site: &Site,
        random: u64,
        hold: impl FnOnce(),
    ) -> Result<Block, Shortage> {
        let row = self.row_of(site.subscriber, plan);
        let claim = |place: &&AtomicU32| {
            place.compare_exchange(0, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let place = row.iter().find(claim).ok_or(Shortage::Quota)?;
        let Some(block) = self.take_block(plan, site, random) else {
            place.store(0, Ordering::Relaxed);
            return Err(Shortage::Pool);
        };
        hold();
        place.store(block + 1, Ordering::Relaxed);
        Ok(self.block(site.pool, plan, block, site.subscriber))
    }

    /// Counts one more port of a block that the subscriber has: `l4_port`, which the caller takes. `false`: the block is
    /// not its own.
    #[must_use]
    pub fn join(&self, pool: usize, address_number: u32, l4_port: u16, subscriber: u32) -> bool {
        let Some(plan) = self.plan(pool) else { return false };
        let Some(offset) = l4_port.checked_sub(plan.low) else { return false };
        let within = u32::from(offset / plan.block_ports);
        within < plan.per_address && self.enter(plan.first_on(address_number) + within, subscriber)
    }

    /// Says that a port that [`Blocks::take`] gave is free again.
    pub fn leave(&self, pool: usize, address_number: u32, l4_port: u16, now: Instant) {
        let Some(plan) = self.plan(pool) else { return };
        let Some(offset) = l4_port.checked_sub(plan.low) else { return };
        let within = u32::from(offset / plan.block_ports);
        self.leave_block(plan.first_on(address_number) + within, now);
    }

    /// Frees those of the blocks `numbers` that have been idle for long enough, and tells each one: its
    /// reference on the subscriber is the caller's to give back.
    pub fn sweep(&self, numbers: std::ops::Range<u32>, now: Instant, mut freed: impl FnMut(Block)) {
        for (pool, plan) in self.plans.iter().enumerate() {
            let Some(plan) = plan else { continue };
            let own = numbers.start.max(plan.first)..numbers.end.min(plan.first + plan.blocks);
            let states = self.states.get(own.start as usize..own.end as usize).unwrap_or_default();
            for (state, number) in states.iter().zip(own) {
                let word = state.load(Ordering::Relaxed);
                // Most are free, or have ports in use.
                if word == 0 || word & PORTS != 0 {
                    continue;
                }
                let State { owner, idle_since, .. } = State::of(word);
                let idle = seconds_of(now).wrapping_sub(idle_since);
                let Some(subscriber) = owner.filter(|_| idle >= plan.idle_seconds) else { continue };
                // Acquire: the old owner's use of the ports is over; pairs with the AcqRel of `leave_block`.
                if state.compare_exchange(word, FREEING, Ordering::Acquire, Ordering::Relaxed).is_err() {
                    continue;
                }
                for place in self.row_of(subscriber, plan) {
                    let _other = place.compare_exchange(number + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
                }
                // Release: all of that is over before the next use begins; pairs with the AcqRel of `take_block`.
                state.store(0, Ordering::Release);
                freed(self.block(pool, plan, number, subscriber));
            }
        }
    }

    /// On one address, how many blocks are free that chance gives out, and how many such there are.
    #[must_use]
    pub fn free_on(&self, pool: usize, address_number: u32) -> (u32, u32) {
        let Some(plan) = self.plan(pool) else { return (0, 0) };
        let computed = plan.deterministic.as_ref().map_or(0, Deterministic::per_address);
        let first = plan.first_on(address_number);
        let numbers = (first + computed).min(first + plan.per_address)..first + plan.per_address;
        let count = numbers.end - numbers.start;
        let free = numbers.filter(|number| self.state(*number).load(Ordering::Relaxed) == 0).count();
        (free as u32, count)
    }

    /// How many blocks there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.states.len() as u32
    }

    /// Blocks that have an owner.
    #[must_use]
    pub fn assigned(&self) -> u64 {
        self.states.iter().filter(|state| state.load(Ordering::Relaxed) != 0).count() as u64
    }

    #[inline]
    fn plan(&self, pool: usize) -> Option<&Plan> {
        self.plans.get(pool)?.as_ref()
    }

    #[inline]
    fn row_of(&self, subscriber: u32, plan: &Plan) -> &[AtomicU32] {
        let row = subscriber as usize * self.row;
        self.owned.get(row + plan.places.start..row + plan.places.end).unwrap_or_default()
    }

    #[inline]
    fn state(&self, block: u32) -> &AtomicU64 {
        self.states.get(block as usize).unwrap_or(&self.nobodys)
    }

    fn block(&self, pool: usize, plan: &Plan, number: u32, subscriber: u32) -> Block {
        let (address_number, within) =
            ((number - plan.first) / plan.per_address, (number - plan.first) % plan.per_address);
        Block { pool, address_number, l4_ports: plan.l4_ports(within), subscriber }
    }

    /// One more port of a block that belongs to `subscriber`.
    #[inline]
    fn enter(&self, block: u32, subscriber: u32) -> bool {
        let next = |word| {
            let state = State::of(word);
            let is_own = state.owner == Some(subscriber);
            is_own.then(|| State { ports: state.ports + 1, ..state }.word())
        };
        self.writers.update(self.state(block), Ordering::AcqRel, next)
    }

    fn leave_block(&self, block: u32, now: Instant) {
        let next = |word| {
            let state = State::of(word);
            let ports = state.ports.checked_sub(1)?;
            let idle_since = if ports == 0 { seconds_of(now) } else { state.idle_since };
            Some(State { ports, idle_since, ..state }.word())
        };
        let has_left = self.writers.update(self.state(block), Ordering::AcqRel, next);
        debug_assert!(has_left, "block {block} has no port in use");
    }

    /// The host's computed block if that is free, else one that chance chooses among those that are
    /// nobody's first.
    fn take_block(&self, plan: &Plan, site: &Site, random: u64) -> Option<u32> {
        let address = plan.first_on(site.address_number);
        let taken = State { owner: Some(site.subscriber), ports: 1, idle_since: 0 }.word();
        let try_take = |block: &u32| {
            self.state(*block).compare_exchange(0, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let mut reserved = 0;
        if let Some(deterministic) = &plan.deterministic {
            reserved = deterministic.per_address();
            let own = deterministic.first_block(site.host);
            let own = own.filter(|own| own.address_number == site.address_number);
            if let Some(block) = own.map(|own| address + own.block).filter(try_take) {
                return Some(block);
            }
        }
        let count = plan.per_address.checked_sub(reserved).filter(|count| *count > 0)?;
        let start = (random >> 32) as u32 % count;
        let numbers = (start..count).chain(0..start).map(|number| address + reserved + number);
        numbers.filter(|block| self.state(*block).load(Ordering::Relaxed) == 0).find(try_take)
    }
}

impl Plan {
    /// The number of the first block of an address.
    #[inline]
    fn first_on(&self, address_number: u32) -> u32 {
        self.first + address_number * self.per_address
    }

    /// The ports of the block that is number `within` of its address.
    #[inline]
    fn l4_ports(&self, within: u32) -> (u16, u16) {
        // The configuration has been checked: the blocks lie within the port range.
        let low = self.low + within as u16 * self.block_ports;
        (low, low + (self.block_ports - 1))
    }
}

/// Owner + 1 (bits 32..64), ports in use (16..32), second at which the last one left (0..16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    owner: Option<u32>,
    ports: u16,
    idle_since: u16,
}

impl State {
    const fn of(word: u64) -> Self {
        Self {
            owner: ((word >> 32) as u32).checked_sub(1),
            ports: (word >> 16) as u16,
            idle_since: word as u16,
        }
    }

    const fn word(self) -> u64 {
        let owner = match self.owner {
            Some(owner) => owner as u64 + 1,
            None => 0,
        };
        (owner << 32) | ((self.ports as u64) << 16) | self.idle_since as u64
    }
}

/// The ports in use, in a state's word.
const PORTS: u64 = 0xffff << 16;

/// Seconds modulo 2^16: 18 hours, of which a block is idle for one at most.
const fn seconds_of(now: Instant) -> u16 {
    (now.as_nanos() / 1_000_000_000) as u16
}

/// The state of a block that its owner has no longer, and nobody may take yet: no owner, no port, a second of 1.
const FREEING: u64 = 1;
/// A place in a row whose block is being chosen.
const BUSY: u32 = u32::MAX;
