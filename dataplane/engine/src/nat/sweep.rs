//! Ageing: each worker looks at its share of all slots twice a second.
//!
//! So an entry ends within a second after its time: a quarter for the tick, a half for the pass, and
//! a quarter to spare. The work is spread over the bursts of a pass, so no burst pays for all of it. Rows of
//! slots are dealt to the workers in turn. While the queue of retired entries is nearly full the sweep
//! waits: expiry is late then, never lost.

use std::time::Duration;

use crate::event::Kind;
use crate::nat::block::Block;
use crate::nat::mapping::Hold;
use crate::nat::session::Ageing;
use crate::nat::tcp_state::TcpState;
use crate::nat::{Nat, NatWorker, Retiree};
use crate::time::Instant;

/// Where a worker's sweep stands.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) number: u32,
    pub(super) workers: u32,
    /// Next row of sessions, counted over the worker's own rows.
    row: u32,
    /// When the present pass began.
    began: Instant,
    /// When expectations are due again.
    expectations: Instant,
    /// Next port block.
    port_block: u32,
    /// When the next pass over the port blocks begins.
    port_blocks_due: Instant,
    /// When shortages are looked at again.
    pub(super) shortages: Instant,
    /// When explicit mappings are.
    pub(super) explicit: Instant,
}

impl Cursor {
    pub(super) fn new(number: u16, workers: u16) -> Self {
        Self {
            number: u32::from(number),
            workers: u32::from(workers.max(1)),
            row: 0,
            began: Instant::default(),
            expectations: Instant::default(),
            port_block: 0,
            port_blocks_due: Instant::default(),
            shortages: Instant::default(),
            explicit: Instant::default(),
        }
    }
}

impl Nat {
    /// Does the part of the sweep that is due at `now`. Returns how many entries ended.
    pub fn sweep(&self, worker: &mut NatWorker, now: Instant) -> usize {
        self.sweep_blocks(worker, now);
        self.sweep_shortages(worker, now);
        self.sweep_expectations(worker, now)
            + self.sweep_explicit(worker, now)
            + self.sweep_sessions(worker, now)
    }

    /// Looks at the next few of the worker's share of the port blocks, all of them once a second.
    fn sweep_blocks(&self, worker: &mut NatWorker, now: Instant) {
        let Cursor { number, workers, port_block, port_blocks_due, .. } = worker.sweep;
        if now < port_blocks_due || !worker.has_room_to_retire() {
            return;
        }
        let end = port_block.saturating_add(PORT_BLOCKS);
        let is_own = port_block / PORT_BLOCKS % workers == number;
        if is_own {
            let freed = |block: Block| {
                self.record_block(worker, Kind::BlockReleased, &block);
                self.leave_subscriber(worker, block.subscriber);
            };
            self.blocks.sweep(port_block..end, now, freed);
        }
        worker.sweep.port_block = end;
        if end >= self.blocks.count() {
            worker.sweep.port_block = 0;
            worker.sweep.port_blocks_due = now.plus(PORT_BLOCK_PERIOD);
        }
    }

    fn sweep_sessions(&self, worker: &mut NatWorker, now: Instant) -> usize {
        let own_rows = self.sessions.rows().div_ceil(worker.sweep.workers);
        let elapsed = now.since(worker.sweep.began);
        // The row that should be reached by now, were the pass spread evenly over its time.
        let pass = PASS.as_micros() as u64;
        let share = (elapsed.as_micros() as u64).min(pass) * u64::from(own_rows) / pass;
        let target = u32::try_from(share).unwrap_or(own_rows);
        let mut ended = 0;
        while worker.sweep.row < target && worker.has_room_to_retire() {
            let row = worker.sweep.row * worker.sweep.workers + worker.sweep.number;
            worker.sweep.row += 1;
            for index in self.sessions.row(row) {
                if self.sessions.age(index, now) == Ageing::Expired {
                    self.end_session(worker, index, now);
                    ended += 1;
                }
            }
        }
        if worker.sweep.row >= own_rows && elapsed >= PASS {
            worker.sweep.row = 0;
            worker.sweep.began = now;
        }
        ended
    }

    /// Unlinks a session that this thread has just made `dying`, and gives its mapping back.
    pub(super) fn end_session(&self, worker: &mut NatWorker, index: u32, now: Instant) {
        if let Some(session) = self.sessions.session(index) {
            let ([own, remote], hold) = (session.mappings(), session.hold());
            self.forget_contact(worker, &session);
            let (internal_key, external_key) = (session.internal_key(), session.external_key());
            self.record_session(worker, Kind::SessionDeleted, internal_key, external_key);
            self.unseat(worker, Self::seat_of(internal_key.protocol(), session.subscriber()));
            self.sessions.unlink(index, now);
            self.release_mapping(worker, own, hold);
            self.release_mapping(worker, remote, Hold::Firm);
        }
        worker.retire(Retiree::Session(index));
    }

    fn sweep_expectations(&self, worker: &mut NatWorker, now: Instant) -> usize {
        if now < worker.sweep.expectations {
            return 0;
        }
        worker.sweep.expectations = now.plus(EXPECTATION_PERIOD);
        let mut ended = 0;
        for slot in 0..self.expectations.high_water() {
            let mine = slot % worker.sweep.workers == worker.sweep.number;
            let lives = |parent| {
                // Both ends have closed it: nothing it announced is still wanted.
                let parent = self.sessions.by_handle(parent);
                parent.is_some_and(|parent| parent.tcp_state() != Some(TcpState::FinBoth))
            };
            if mine && worker.has_room_to_retire() && self.expectations.age(slot, now, lives) {
                self.end_expectation(worker, slot);
                ended += 1;
            }
        }
        ended
    }
}

/// How long a pass over all sessions takes.
const PASS: Duration = Duration::from_millis(500);
/// Port blocks looked at in one go.
const PORT_BLOCKS: u32 = 1_024;
/// Between passes over the port blocks.
const PORT_BLOCK_PERIOD: Duration = Duration::from_secs(1);
/// How often expectations are looked at: they end within a second of their parent.
const EXPECTATION_PERIOD: Duration = Duration::from_millis(500);
