//! A worker's turn: a burst of frames in, frames out.
//!
//! The burst goes through as a batch. Every frame is parsed and its bucket prefetched before the first lookup, and its
//! session prefetched before the first translation, so that the cache misses of a batch overlap with each other and
//! with work. A hit is translated in place; a miss takes the slow path ([`crate::nat`]) in the same worker; ALG flows go
//! to their owner's stage. One `now` holds for the whole burst.
//!
//! ALG cores run the same [`Worker`], with nothing to receive but what is handed over.

mod admission;
mod batch;
mod fast_path;
mod forward;
mod fragment;
mod held_syn;
mod icmp_error;
mod local;
mod port_control;
mod sctp;

use std::sync::Arc;

use crate::alg_stage::handover::{Handed, Handover};
use crate::alg_stage::{AlgStage, Surroundings};
use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::engine::Engine;
use crate::fragment::{Datagram, Fragments};
use crate::frame::PacketIo;
use crate::ids::{NicPortId, WorkerId};
use crate::nat::NatWorker;
use crate::nat::session::Session;
use crate::packet::parse::L4Class;
use crate::pcp::server::PcpServer;
use crate::router::arp;
use crate::router::egress::{Context, Egress};
use crate::router::icmp::IcmpSource;
use crate::table::quiescence::Participant;
use crate::time::Instant;
use crate::worker::batch::Batch;
use crate::worker::held_syn::HeldSyns;

/// One thread that handles packets, and all it owns.
#[derive(Debug)]
pub struct Worker<F> {
    engine: Arc<Engine>,
    handover: Arc<Handover<F>>,
    id: WorkerId,
    participant: Participant,
    owned: Owned<F>,
    batch: Batch,
    has_fast_path: bool,
}

/// What the thread changes while it handles a packet.
#[derive(Debug)]
struct Owned<F> {
    nat: NatWorker,
    egress: Egress<F>,
    icmp: IcmpSource,
    held_syns: HeldSyns,
    stage: AlgStage,
    fragments: Fragments<F>,
    /// The datagram whose first fragment is being handled.
    opening: Option<Datagram>,
    pcp: PcpServer,
}

/// What every step of a turn needs.
struct Turn<'a, P: PacketIo> {
    engine: &'a Engine,
    handover: &'a Handover<P::Frame>,
    id: WorkerId,
    owned: &'a mut Owned<P::Frame>,
    counters: &'a WorkerCounters,
    context: Context<'a>,
    io: &'a mut P,
}

impl<F: crate::frame::Frame> Worker<F> {
    /// Thread number `id` of `engine`: a worker, or behind the workers an ALG core. Takes all its
    /// memory here. `None`: there is no such thread, or it exists already.
    #[must_use]
    pub fn new(engine: Arc<Engine>, handover: Arc<Handover<F>>, id: WorkerId, now: Instant) -> Option<Self> {
        let participant = engine.quiescence.participant(usize::from(id.0))?;
        engine.nat.explicit.begin(now);
        let workers = u16::try_from(engine.workers()).unwrap_or(u16::MAX);
        let events = engine.events.recorder(id)?;
        let owned = Owned {
            nat: NatWorker::new(id.0, workers, &engine.key, engine.config.nat.hold, events),
            egress: Egress::default(),
            icmp: IcmpSource::new(engine.config.icmp.rate_per_second, now),
            held_syns: HeldSyns::default(),
            stage: AlgStage::new(&engine.config),
            fragments: Fragments::new(&engine.fragment_limits(id), &engine.key),
            opening: None,
            pcp: PcpServer::new(&engine.config.pcp, &engine.key, now),
        };
        Some(Self { engine, handover, id, participant, owned, batch: Batch::default(), has_fast_path: true })
    }

    /// The same thread with every packet handled step by step: what a test compares the fast path with.
    #[doc(hidden)]
    #[must_use]
    pub fn without_fast_path(self) -> Self {
        Self { has_fast_path: false, ..self }
    }

    /// Announces algate's addresses to the neighbours (gratuitous ARP). Returns how many addresses
    /// were left out because there are too many. Once, by one worker.
    pub fn announce<P: PacketIo<Frame = F>>(&mut self, io: &mut P, now: Instant) -> usize {
        let (turn, _) = self.turn(io, now);
        turn.owned.pcp.begin_announcing(now);
        arp::announce(&turn.context, turn.io)
    }

    /// Handles the frames of `burst`, received on `nic_port`, and leaves it empty.
    pub fn receive<P: PacketIo<Frame = F>>(
        &mut self,
        io: &mut P,
        now: Instant,
        nic_port: NicPortId,
        burst: &mut Vec<F>,
    ) {
        let has_fast_path = self.has_fast_path;
        let (mut turn, batch) = self.turn(io, now);
        turn.counters.received.add(burst.len() as u64);
        let mut frames = burst.drain(..);
        match turn.engine.router.interfaces.port(nic_port) {
            Some(port) if has_fast_path => {
                turn.handle_burst(batch, port, nic_port, &mut frames);
            }
            _ => {
                frames.for_each(|frame| turn.take(nic_port, frame));
                turn.engine.nat.catch_up();
            }
        }
        turn.count_cuts();
    }

    /// What is due besides received frames: packets handed over, timers, ARP, ageing, memory whose grace
    /// period is over. Once per loop. Returns whether there was anything to do.
    pub fn poll<P: PacketIo<Frame = F>>(&mut self, io: &mut P, now: Instant) -> bool {
        // Between bursts the thread holds no index of a shared table.
        self.participant.quiescent();
        let is_worker = usize::from(self.id.0) < self.engine.workers();
        let (mut turn, _) = self.turn(io, now);
        let mut busy = turn.take_handed_over();
        busy |= turn.owned.fragments.expire(now, &turn.counters.drops) > 0;
        turn.owned.egress.poll(&turn.context, turn.io);
        turn.answer_held_syns();
        turn.announce_epoch();
        busy |= turn.with_stage(|stage, around| stage.poll(around));
        if is_worker {
            let ended = turn.engine.nat.sweep(&mut turn.owned.nat, now);
            turn.counters.aged.add(ended as u64);
            busy |= ended > 0;
        }
        turn.engine.nat.catch_up();
        turn.count_cuts();
        turn.engine.nat.reclaim(&mut turn.owned.nat, &turn.engine.quiescence, now);
        busy
    }

    /// Says that the thread will touch no table until [`Worker::resume`]: before it sleeps.
    pub fn pause(&self) {
        self.participant.offline();
    }

    /// Ends a [`Worker::pause`].
    pub fn resume(&self) {
        self.participant.online();
    }

    /// Control sessions this thread owns.
    #[must_use]
    pub fn alg_flows(&self) -> usize {
        self.owned.stage.flows()
    }

    /// Frames that wait for the rest of their datagram.
    #[must_use]
    pub fn kept_fragments(&self) -> usize {
        self.owned.fragments.kept()
    }

    fn turn<'a, P: PacketIo<Frame = F>>(
        &'a mut self,
        io: &'a mut P,
        now: Instant,
    ) -> (Turn<'a, P>, &'a mut Batch) {
        let engine = &*self.engine;
        self.owned.nat.begin(now);
        #[expect(
            clippy::indexing_slicing,
            reason = "a participant exists for each thread with counters only"
        )]
        let counters = &engine.counters()[usize::from(self.id.0)];
        let context = Context { router: &engine.router, drops: &counters.egress_drops, now };
        let turn = Turn {
            engine,
            handover: &self.handover,
            id: self.id,
            owned: &mut self.owned,
            counters,
            context,
            io,
        };
        (turn, &mut self.batch)
    }
}

impl<P: PacketIo> Turn<'_, P> {
    /// Calls `act` with the thread's ALG stage and all it needs.
    fn with_stage<R>(&mut self, act: impl FnOnce(&mut AlgStage, &mut Surroundings<'_, P>) -> R) -> R {
        let Owned { nat, egress, stage, .. } = &mut *self.owned;
        let mut around = Surroundings {
            context: &self.context,
            nat: &self.engine.nat,
            nat_worker: nat,
            identifications: &self.engine.identifications,
            egress,
            io: self.io,
            counters: &self.counters.alg,
            oversight: &self.engine.oversight,
            thread: self.id,
            is_caught_up: self.handover.is_empty(self.id),
        };
        act(stage, &mut around)
    }

    fn take_handed_over(&mut self) -> bool {
        let mut taken = 0;
        while taken < HANDED_OVER_PER_TURN
            && let Some(handed) = self.handover.pop(self.id)
        {
            taken += 1;
            match self.engine.nat.sessions.by_handle(handed.session) {
                Some(session) => self.take_handed(handed, session),
                None if handed.view.class == L4Class::Tcp => self.drop(DropReason::TcpNoSession),
                None => self.drop(DropReason::NoMapping),
            }
        }
        for _ in 0..HANDED_OVER_PER_TURN {
            let Some(handed) = self.handover.pop_fragment(self.id) else { break };
            taken += 1;
            self.own_fragment(handed.frame, handed.view, handed.interface);
        }
        taken > 0
    }

    /// A packet of an ALG flow that this thread owns, or owned when it was sent here.
    fn take_handed(&mut self, handed: Handed<P::Frame>, session: Session<'_>) {
        let Handed { frame, view, came_in, facing, .. } = handed;
        match view.class {
            L4Class::IcmpError => self.alg_icmp_error(frame, &view, session, facing),
            _ => self.hit(frame, &view, came_in, session, facing),
        }
    }

    fn count_cuts(&mut self) {
        let cuts = self.owned.egress.take_cuts();
        if cuts.packets > 0 {
            self.counters.packets_fragmented.add(cuts.packets);
            self.counters.fragments_made.add(cuts.fragments);
        }
    }

    fn drop(&self, reason: DropReason) {
        self.counters.drops.count(reason);
    }
}

/// Packets taken from the hand-over queue in one turn: own queues must not starve.
const HANDED_OVER_PER_TURN: usize = 64;
