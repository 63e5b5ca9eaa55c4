//! NAPT for IPv4: sessions, mappings, external ports, expectations, and who may open what.
//!
//! Follows RFC 4787, 5382, 5508 and 6888: mapping and filtering as the rules say, endpoint-independent by
//! default, address pooling "paired" (one external address per internal one), random ports, in blocks
//! of each subscriber's own where the pool has some, quotas per subscriber. An ALG's expectations reserve
//! mappings with a peer filter of their own.
//!
//! All tables are shared by all workers. What one thread owns (entries waiting for their grace period,
//! its random numbers) is in [`NatWorker`]. A hit goes through [`Nat::find`], everything else through
//! [`Nat::open`] (`slow_path`).

mod allocation;
pub mod block;
mod burst;
mod by_address;
pub mod counted;
mod creation;
pub mod deterministic;
pub mod expectation;
pub mod explicit;
pub mod forward;
pub mod idle_times;
pub mod key;
pub mod mapping;
#[cfg(all(test, loom))]
pub(crate) mod models;
mod opener;
mod outbound;
mod own_name;
mod owners;
pub mod policy;
pub mod ports;
mod records;
mod reservation;
pub mod sctp_state;
pub mod session;
pub mod shift;
mod shortage;
mod slow_path;
mod state_word;
pub mod statics;
pub mod subscriber;
mod succession;
mod sweep;
pub mod tcp_state;
pub mod tcp_window;

use algate_alg::ExpectError;
use algate_config::{Config, FilteringBehavior, NatRule, Tables};

use crate::alg_stage::protocols::ControlPorts;
use crate::event::ring::Recorder;
use crate::nat::allocation::Rests;
use crate::nat::block::Blocks;
use crate::nat::burst::Burst;
use crate::nat::counted::Counted;
use crate::nat::expectation::{Ended, Expectation, Expectations, UNLIMITED};
use crate::nat::forward::Forwards;
use crate::nat::idle_times::IdleTimes;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{Hold, Mappings};
pub use crate::nat::opener::{Opener, Refusal};
use crate::nat::owners::Owners;
use crate::nat::policy::Policy;
use crate::nat::ports::PortPools;
use crate::nat::session::{Capacity, Facing, Session, Sessions};
use crate::nat::shortage::Shortages;
pub use crate::nat::slow_path::Opened;
use crate::nat::statics::Statics;
use crate::nat::subscriber::Subscribers;
use crate::packet::PROTOCOL_UDP;
use crate::pcp::table::ExplicitMappings;
use crate::table::hash::HashKey;
use crate::table::quiescence::{Quiescence, Retired};
use crate::table::slots::Handle;
use crate::table::sync::Writers;
use crate::time::Instant;

/// The NAT state that all workers share.
#[derive(Debug)]
pub struct Nat {
    /// Sessions.
    pub sessions: Sessions,
    /// Mappings.
    pub mappings: Mappings,
    /// Expectations.
    pub expectations: Expectations,
    /// What hosts have asked for by port control.
    pub explicit: ExplicitMappings,
    /// Hosts with external addresses of their own.
    pub statics: Statics,
    /// Port forwards.
    pub forwards: Forwards,
    /// External ports.
    pub ports: PortPools,
    /// Blocks of them.
    pub blocks: Blocks,
    /// Internal hosts with state.
    pub subscribers: Subscribers,
    /// Internal endpoints under address-dependent filtering, by mapping, and whom they have sessions with.
    contacts: Counted,
    policy: Policy,
    shortages: Shortages,
    /// References that one mapping may have; [`u64::MAX`]: any number.
    mapping_references: u64,
    hold: algate_config::Hold,
    control_ports: ControlPorts,
    owners: Owners,
    key: HashKey,
}

/// The NAT state of one worker.
#[derive(Debug)]
pub struct NatWorker {
    retired: Retired<Retiree>,
    rests: Rests,
    random: Random,
    /// What the first packets of this burst have in common.
    pub(crate) burst: Burst,
    sweep: sweep::Cursor,
    events: Recorder,
}

/// An entry nobody can find any more, waiting for its grace period.
#[derive(Debug, Clone, Copy)]
enum Retiree {
    Session(u32),
    Mapping(u32),
    /// A mapping slot whose external port was never its own.
    MappingSlot(u32),
    Expectation(u32),
    Subscriber(u32),
    Contact(u32),
    Explicit(u32),
}

impl Nat {
    /// Empty tables of the configured sizes, with the port forwards in place.
    #[must_use]
    pub fn new(config: &Config, key: &HashKey) -> Self {
        let tables = &config.tables;
        // Threads that handle packets; the main thread reads, and writes before them.
        let writers = match config.workers.cores.len() + config.workers.alg_cores.len() {
            1 => Writers::One,
            _ => Writers::Many,
        };
        let idle_times = IdleTimes::new(&config.timeouts, config.tcp.pressed_half_open);
        let ports = PortPools::new(&config.nat, writers);
        let filters_by_address = |rule: &NatRule| rule.filtering == FilteringBehavior::AddressDependent;
        let contacts = if config.nat.rules.iter().any(filters_by_address) { tables.sessions } else { 0 };
        let nat = Self {
            sessions: Sessions::new(capacity(tables), tables.half_open, key.clone(), idle_times, writers),
            mappings: Mappings::new(
                tables.mappings + Self::forward_mappings(&config.nat.forwards),
                key.clone(),
                writers,
            ),
            expectations: Expectations::new(tables.expectations, key.clone()),
            explicit: explicit(config, key),
            blocks: Blocks::new(&config.nat, tables.subscribers, writers),
            subscribers: Subscribers::new(
                tables.subscribers,
                config.nat.limits,
                config.alg.expectations_per_host,
                key.clone(),
                writers,
            ),
            contacts: Counted::new(contacts, key.clone(), writers),
            policy: Policy::new(config, &ports),
            forwards: Forwards::new(&config.nat.forwards, key),
            statics: Statics::new(&config.nat.statics),
            shortages: Shortages::new(config),
            mapping_references: mapping_references(config.nat.limits.mapping_memory_bytes),
            ports,
            hold: config.nat.hold,
            control_ports: ControlPorts::new(&config.alg),
            owners: Owners::new(config, key),
            key: key.clone(),
        };
        config.nat.forwards.iter().for_each(|forward| nat.install(forward));
        nat
    }

    /// The live session of a flow, and the side its packet came from.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: FlowKey) -> Option<(Session<'_>, Facing)> {
        self.sessions.find(hash, key)
    }

    /// Whether `address` stands for a host with all its ports, internal or (twice NAT) external: what an ALG
    /// announces there needs no mapping.
    #[must_use]
    pub fn keeps_ports(&self, address: u32) -> bool {
        self.statics.internal_of(address).is_some() || self.policy.rewrites(address)
    }

    /// The internal host that a packet to an external endpoint goes to, for a look: nothing is taken.
    #[must_use]
    pub fn leads_to(&self, key: FlowKey) -> Option<Host> {
        let to = key.destination();
        let mapped = || self.mappings.internal_of(key.protocol(), to);
        let forwarded = || self.forwards.server(key).or_else(mapped).map(Endpoint::host);
        self.statics.internal_of(to.address).or_else(forwarded)
    }

    /// Makes findable from outside what the batch has made, and says whether there was anything; by whoever made it.
    #[inline(always)]
    pub fn catch_up(&self) -> bool {
        let mappings = self.mappings.catch_up();
        self.sessions.catch_up() || mappings
    }

    /// Gives back what nobody can hold any more, and what has rested. Once per burst.
    pub fn reclaim(&self, worker: &mut NatWorker, quiescence: &Quiescence, now: Instant) {
        let NatWorker { retired, rests, .. } = worker;
        self.wake_ports(rests, now);
        retired.reclaim(quiescence, |retiree| match retiree {
            Retiree::Session(index) => self.sessions.release(index),
            Retiree::Expectation(index) => self.expectations.free(index),
            Retiree::Explicit(slot) => self.explicit.free(slot),
            Retiree::MappingSlot(index) => self.mappings.free(index),
            Retiree::Contact(index) => self.contacts.free(index),
            Retiree::Subscriber(index) => {
                if let Some(address) = self.subscribers.free(index) {
                    self.ports.remove_host(address);
                }
            }
            Retiree::Mapping(index) => {
                self.release_port(rests, index, now);
                self.mappings.free(index);
            }
        });
    }

    /// Publishes an expectation, which takes over the reference on its mapping and is counted for the subscriber of
    /// its parent.
    ///
    /// # Errors
    /// The table is full, the same one is there already, or the subscriber has as many as it may; the
    /// reference is given back.
    pub fn promise(&self, worker: &mut NatWorker, expectation: &Expectation) -> Result<Handle, ExpectError> {
        let made = self.publish(worker, expectation);
        if made.is_err() {
            self.release_mapping(worker, expectation.mapping, Hold::Firm);
        }
        made
    }

    fn publish(&self, worker: &mut NatWorker, expectation: &Expectation) -> Result<Handle, ExpectError> {
        let parent = self.sessions.by_handle(expectation.parent).ok_or(ExpectError::TableFull)?;
        // The parent's reference keeps the subscriber until this one is taken.
        let subscriber = parent.subscriber();
        if !self.subscribers.take_expectation(subscriber) {
            return Err(ExpectError::SessionBudget);
        }
        self.subscribers.hold(subscriber);
        // A TCP session has hours of its own, and its end is the end of what it has promised.
        let keeps = expectation.uses == UNLIMITED && parent.internal_key().protocol() == PROTOCOL_UDP;
        if keeps {
            self.sessions.keep(expectation.parent);
        }
        self.expectations.create(expectation, subscriber, keeps).ok_or_else(|| {
            if keeps {
                self.sessions.leave(expectation.parent);
            }
            self.subscribers.give_expectation(subscriber);
            self.leave_subscriber(worker, subscriber);
            ExpectError::TableFull
        })
    }

    /// Ends an expectation that is still unused; one already used or gone is left alone.
    pub fn withdraw(&self, worker: &mut NatWorker, handle: Handle) {
        if self.expectations.withdraw(handle) {
            self.end_expectation(worker, handle.index);
        }
    }

    /// Ends a session before its time: an ALG says so.
    pub fn end(&self, worker: &mut NatWorker, session: &Session<'_>, now: Instant) {
        if self.sessions.end(session) {
            self.end_session(worker, session.index(), now);
        }
    }

    /// Drops one reference on a mapping, and retires it when that was the last.
    fn release_mapping(&self, worker: &mut NatWorker, mapping: Option<u32>, hold: Hold) {
        if let Some(mapping) = mapping.filter(|mapping| self.mappings.release(*mapping, hold)) {
            self.end_mapping(worker, mapping);
        }
    }

    /// The internal host has answered on a session that a stranger opened: from now on the session keeps
    /// its mapping. Where the mapping is ending, the session goes on alone.
    #[cold]
    pub fn keep_mapping(&self, worker: &mut NatWorker, session: &Session<'_>) {
        let [mapping, _] = session.mappings();
        if mapping.is_some_and(|mapping| self.mappings.acquire(mapping, Hold::Firm)) {
            // One of the two is given back: the loose one, or ours when another worker was faster.
            let surplus = if session.set_firm() { Hold::Loose } else { Hold::Firm };
            self.release_mapping(worker, mapping, surplus);
        }
    }

    /// Ends an expectation that was just withdrawn, aged or used up.
    fn end_expectation(&self, worker: &mut NatWorker, slot: u32) {
        if let Some(Ended { mapping, subscriber, kept }) = self.expectations.unlink(slot) {
            kept.into_iter().for_each(|parent| self.sessions.leave(parent));
            self.subscribers.give_expectation(subscriber);
            self.leave_subscriber(worker, subscriber);
            self.release_mapping(worker, mapping, Hold::Firm);
        }
        worker.retire(Retiree::Expectation(slot));
    }
}

impl NatWorker {
    /// For worker number `number` of `workers` that share the sweep; `events` takes its records.
    #[must_use]
    pub fn new(
        number: u16,
        workers: u16,
        key: &HashKey,
        hold: algate_config::Hold,
        events: Recorder,
    ) -> Self {
        Self {
            events,
            rests: Rests::new(hold),
            retired: Retired::new(RETIRED_ENTRIES),
            random: Random { key: key.clone(), last: !u64::from(number), drawn: 0 },
            burst: Burst::default(),
            sweep: sweep::Cursor::new(number, workers),
        }
    }

    /// Entries that wait for their grace period.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// The sweep stops early, first packets are refused later, and what is left is room for the ALG stage:
    /// so the queue is never full.
    fn retire(&mut self, retiree: Retiree) {
        let refused = self.retired.retire(retiree);
        debug_assert!(refused.is_ok(), "{retiree:?} is lost");
    }

    fn has_room_to_retire(&self) -> bool {
        self.retired.len() + RETIRED_HEADROOM < RETIRED_ENTRIES
    }

    /// Whether a first packet may be looked at, which may retire what it could not finish.
    fn has_room_to_open(&self) -> bool {
        self.retired.len() + RETIRED_BY_ALG < RETIRED_ENTRIES
    }
}

/// Unpredictable numbers (RFC 6056): each is the keyed hash of the one before and of a counter, which keeps it from running in
/// a circle. Hashes of a counter alone would lie in a pattern.
#[derive(Debug)]
struct Random {
    key: HashKey,
    last: u64,
    drawn: u64,
}

impl Random {
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        self.last = self.key.hash2(self.last, self.drawn);
        self.last
    }
}

const fn capacity(tables: &Tables) -> Capacity {
    Capacity { sessions: tables.sessions, tcp: tables.tcp_sessions, related: tables.related_sessions }
}

/// How many sessions' memory one mapping may have, beside its own.
const fn mapping_references(bytes: u64) -> u64 {
    match bytes {
        0 => u64::MAX,
        bytes => bytes.saturating_sub(mapping::RECORD_BYTES) / session::RECORD_BYTES,
    }
}

fn explicit(config: &Config, key: &HashKey) -> ExplicitMappings {
    let capacity = if config.pcp.enabled { config.pcp.mappings } else { 0 };
    ExplicitMappings::new(capacity, config.pcp.per_subscriber, key.clone())
}

const RETIRED_ENTRIES: usize = 16_384;
const RETIRED_HEADROOM: usize = 4_096;
const RETIRED_BY_ALG: usize = 1_024;
