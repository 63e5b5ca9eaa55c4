//! The ALG stage: owns control sessions, runs the stream layer over them, sends what comes out.
//!
//! One [`AlgStage`] per thread (a worker, or an ALG core). A flow belongs to one stage from its SYN on;
//! packets that another thread receives come over [`handover`]. All flows and their buffers are taken at
//! start. When they are used up, segments of new control sessions are dropped and counted: TCP sends
//! them again, and no other traffic notices.
//!
//! A segment with a wrong L4 checksum never reaches the stream layer: it is translated like any other
//! packet and left as wrong as it came, so its receiver drops it.

pub mod emitter;
pub mod handover;
pub mod nat_port;

use algate_alg::{Event, Events, Instance, ProtocolId, SessionEndpoints, Settings};
use algate_config::Config;
use hashbrown::HashMap;

use crate::alg_stage::emitter::{Emitter, HeaderTemplate};
use crate::alg_stage::nat_port::{NatPort, Promises};
use crate::counters::AlgCounters;
use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo, RxChecksum};
use crate::nat::session::{Facing, Session};
use crate::nat::tcp_state::TcpEvent;
use crate::nat::{Nat, NatWorker};
use crate::packet::icmp_error::IcmpErrorView;
use crate::packet::parse::Ipv4View;
use crate::packet::{PROTOCOL_TCP, checksum};
use crate::router::egress::{Context, Egress};
use crate::stream::segment::{TcpFlags, TcpSegment};
use crate::stream::seq::SeqNum;
use crate::stream::{FragmentationNeeded, Outcome, StreamContext, StreamLimits, StreamMemory, TcpStream};
use crate::table::slots::Handle;
use crate::time::Instant;

/// What the stage needs of the thread that runs it.
pub struct Surroundings<'a, P: PacketIo> {
    /// Router, drop counters, time.
    pub context: &'a Context<'a>,
    /// The shared tables.
    pub nat: &'a Nat,
    /// The thread's part of NAT.
    pub nat_worker: &'a mut NatWorker,
    /// The thread's way out.
    pub egress: &'a mut Egress<P::Frame>,
    /// Frames and ports.
    pub io: &'a mut P,
    /// Where the stage counts.
    pub counters: &'a AlgCounters,
}

/// What became of a packet given to the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// The stream layer took it; its bytes travel in segments of the stage.
    Taken,
    /// It dies.
    Drop(DropReason),
    /// It is none of the stage's business: translate it like any other packet.
    Forward,
}

/// What becomes of an ICMP error about a packet of an ALG flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpVerdict {
    /// It goes to the sender of the packet, about the byte `tcp_seq` as that sender counts.
    Forward {
        /// The embedded sequence number to write; `None`: as it is.
        tcp_seq: Option<u32>,
    },
    /// It was about an edit of ours: we cut smaller from now on, and the sender need not know.
    Heeded,
}

/// The control sessions that one thread owns.
#[derive(Debug)]
pub struct AlgStage {
    flows: Vec<Flow>,
    free: Vec<usize>,
    /// Session slot to flow.
    by_session: HashMap<u32, usize>,
    memory: StreamMemory,
    limits: StreamLimits,
    settings: Settings,
    /// No flow needs its timer before this.
    next_timer: Instant,
    /// When ended sessions are looked for again.
    next_review: Instant,
}

/// One control session.
#[derive(Debug)]
struct Flow {
    /// `None`: free.
    session: Option<Handle>,
    endpoints: SessionEndpoints,
    stream: TcpStream,
    alg: Instance,
    promises: Promises,
    templates: [HeaderTemplate; 2],
}

impl AlgStage {
    /// Memory for `config.tables.alg_flows` control sessions.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let count = config.tables.alg_flows;
        let limits = StreamLimits { held_bytes: config.alg.held_bytes, ..StreamLimits::default() };
        let mut settings = Settings::default();
        settings.ftp.line_bytes = config.alg.ftp.line_bytes;
        settings.ftp.expectation_lifetime = config.alg.ftp.expectation_lifetime;
        let flow = || Flow {
            session: None,
            endpoints: NOWHERE,
            stream: TcpStream::new(),
            alg: Instance::new(ProtocolId::Ftp, &settings),
            promises: Promises::new(config.alg.ftp.expectations),
            templates: [HeaderTemplate::default(); 2],
        };
        Self {
            flows: (0..count).map(|_| flow()).collect(),
            free: (0..count).rev().collect(),
            // Twice the flows: a table at most half full cleans up in place, and never grows.
            by_session: HashMap::with_capacity(count * 2),
            memory: StreamMemory::new(limits, busy_streams(count)),
            limits,
            settings,
            next_timer: Instant::default(),
            next_review: Instant::default(),
        }
    }

    /// Takes a TCP packet of `session` that came from `facing`.
    pub fn receive<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        frame: &mut P::Frame,
        view: &Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) -> Handled {
        if !frame.linearize() {
            return Handled::Drop(DropReason::ChainedHeaders);
        }
        if !is_intact(frame, view) {
            return Handled::Forward;
        }
        let Some(tcp) = frame.head().get(usize::from(view.l4)..usize::from(view.end)) else {
            return Handled::Drop(DropReason::Truncated);
        };
        let Ok(segment) = TcpSegment::parse(tcp) else { return Handled::Drop(DropReason::BadL4Header) };
        let Some(at) = self.flow_of(around, &session, &segment) else {
            return Handled::Drop(DropReason::AlgStageFull);
        };
        let handled = self.segment(around, at, &session, facing, view, frame.head(), &segment);
        self.settle(around, at, &session);
        handled
    }

    /// An ICMP error about a packet of `session`, from `facing`: who must hear of it, and of which byte.
    pub fn icmp_error<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        head: &[u8],
        error: &IcmpErrorView,
        session: Session<'_>,
        facing: Facing,
    ) -> IcmpVerdict {
        let as_it_came = IcmpVerdict::Forward { tcp_seq: None };
        let handle = around.nat.sessions.handle(&session);
        let at = self.by_session.get(&handle.index).copied();
        let Some(flow) = at.and_then(|at| self.flows.get_mut(at)) else { return as_it_came };
        let (true, Some(seq)) = (flow.session == Some(handle), error.tcp_seq) else { return as_it_came };
        // The packet it is about travelled towards the error's author.
        let direction = session.direction(facing.opposite());
        let Some(seq) = flow.stream.map_embedded_seq(direction, SeqNum(seq)) else { return as_it_came };
        if let Some(mtu) = error.path_mtu(head) {
            let now = around.context.now;
            let outcome = flow.with_stream(around, &mut self.memory, session, |stream, cx| {
                stream.frag_needed(now, direction, mtu, cx)
            });
            if outcome == FragmentationNeeded::Heeded {
                return IcmpVerdict::Heeded;
            }
        }
        IcmpVerdict::Forward { tcp_seq: Some(seq.0) }
    }

    /// Runs due timers, and lets go of flows whose session has ended. Returns whether it did anything.
    pub fn poll<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>) -> bool {
        let now = around.context.now;
        if self.by_session.is_empty() {
            return false;
        }
        let review = now >= self.next_review;
        if review {
            self.next_review = now.plus(REVIEW_PERIOD);
            self.review(around);
        }
        let timers = now >= self.next_timer;
        if timers {
            self.run_timers(around);
        }
        review || timers
    }

    /// Control sessions it owns.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.by_session.len()
    }

    /// The flow of `session`, begun by its SYN if need be. `None`: no room, or the SYN was never seen.
    fn flow_of<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        session: &Session<'_>,
        segment: &TcpSegment<'_>,
    ) -> Option<usize> {
        let handle = around.nat.sessions.handle(session);
        if let Some(&at) = self.by_session.get(&handle.index) {
            if self.flows.get(at)?.session == Some(handle) {
                return Some(at);
            }
            // The slot has a new session; the old one's flow was not yet reviewed.
            self.release(around.nat, around.nat_worker, at);
        }
        if !segment.flags.has(TcpFlags::SYN) || segment.flags.has(TcpFlags::ACK) {
            return None;
        }
        let at = self.free.pop()?;
        let flow = self.flows.get_mut(at)?;
        flow.session = Some(handle);
        flow.endpoints = endpoints_of(session);
        flow.alg = Instance::new(ProtocolId::Ftp, &self.settings);
        flow.templates = [HeaderTemplate::default(); 2];
        around.counters.flows.add(1);
        self.by_session.insert(handle.index, at);
        Some(at)
    }

    #[expect(clippy::too_many_arguments, reason = "the packet as it came, and what was found out about it")]
    fn segment<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        at: usize,
        session: &Session<'_>,
        facing: Facing,
        view: &Ipv4View,
        head: &[u8],
        segment: &TcpSegment<'_>,
    ) -> Handled {
        let direction = session.direction(facing);
        let now = around.context.now;
        let Some(flow) = self.flows.get_mut(at) else { return Handled::Drop(DropReason::AlgStageFull) };
        flow.note_header(direction, view, head);
        let outcome = flow.with_stream(around, &mut self.memory, *session, |stream, cx| {
            stream.segment(now, direction, segment, cx)
        });
        match outcome {
            Outcome::Taken | Outcome::Closed => Handled::Taken,
            Outcome::Dropped(reason) => Handled::Drop(reason),
            Outcome::Reopened => {
                flow.stream.reset(&mut self.memory);
                flow.alg = Instance::new(ProtocolId::Ftp, &self.settings);
                flow.promises.withdraw_all(around.nat, around.nat_worker);
                flow.with_stream(around, &mut self.memory, *session, |stream, cx| {
                    stream.segment(now, direction, segment, cx)
                });
                Handled::Taken
            }
        }
    }

    /// After each turn of a flow: its timer, its end, its way back to the fast path.
    fn settle<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>, at: usize, session: &Session<'_>) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        if let Some(deadline) = flow.stream.deadline(&self.limits) {
            self.next_timer = self.next_timer.min(deadline);
        }
        let is_unshifted =
            flow.stream.settled().is_some_and(|deltas| deltas.iter().all(|delta| delta.0 == 0));
        if flow.stream.status().closed {
            // Goes away after four silent minutes, unless data follows (RFC 7857 section 2.2).
            let now = around.context.now;
            around.nat.sessions.touch(session, Facing::External, Some(TcpEvent::Rst), now);
            flow.promises.withdraw_all(around.nat, around.nat_worker);
        } else if is_unshifted {
            session.leave_alg();
            self.release(around.nat, around.nat_worker, at);
        }
    }

    fn run_timers<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>) {
        let now = around.context.now;
        self.next_timer = now.plus(FAR);
        for at in 0..self.flows.len() {
            let Some(flow) = self.flows.get_mut(at) else { return };
            let Some(handle) = flow.session else { continue };
            let nat = around.nat;
            let Some(session) = nat.sessions.by_handle(handle) else { continue };
            if flow.stream.deadline(&self.limits).is_some_and(|deadline| deadline <= now) {
                flow.with_stream(around, &mut self.memory, session, |stream, cx| stream.on_timer(now, cx));
            }
            self.settle(around, at, &session);
        }
    }

    /// Lets go of flows whose session is gone.
    fn review<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>) {
        for at in 0..self.flows.len() {
            let gone = self
                .flows
                .get(at)
                .and_then(|flow| flow.session)
                .is_some_and(|handle| around.nat.sessions.by_handle(handle).is_none());
            if gone {
                self.release(around.nat, around.nat_worker, at);
            }
        }
    }

    fn release(&mut self, nat: &Nat, worker: &mut NatWorker, at: usize) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        if let Some(handle) = flow.session.take() {
            flow.stream.reset(&mut self.memory);
            flow.promises.withdraw_all(nat, worker);
            self.by_session.remove(&handle.index);
            self.free.push(at);
        }
    }
}

impl Flow {
    /// Calls `act` with the stream and everything it needs, and adds up what was counted.
    fn with_stream<P: PacketIo, R>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        memory: &mut StreamMemory,
        session: Session<'_>,
        act: impl FnOnce(&mut TcpStream, &mut StreamContext<'_>) -> R,
    ) -> R {
        let mut events = Events::default();
        let mut nat = NatPort {
            nat: around.nat,
            worker: around.nat_worker,
            session: around.nat.sessions.handle(&session),
            endpoints: &self.endpoints,
            promises: &mut self.promises,
            now: around.context.now,
        };
        let mut out = Emitter {
            context: around.context,
            io: around.io,
            egress: around.egress,
            session,
            templates: self.templates,
            made: 0,
        };
        let mut cx = StreamContext {
            alg: &mut self.alg,
            endpoints: &self.endpoints,
            nat: &mut nat,
            events: &mut events,
            memory,
            out: &mut out,
        };
        let result = act(&mut self.stream, &mut cx);
        around.counters.segments_out.add(out.made);
        around.counters.add(&events);
        if events.of(Event::Detached) > 0 {
            self.promises.withdraw_all(around.nat, around.nat_worker);
        }
        result
    }

    fn note_header(&mut self, direction: algate_alg::Direction, view: &Ipv4View, head: &[u8]) {
        let traffic_class = head.get(usize::from(view.l3) + 1).copied().unwrap_or(0);
        let template = HeaderTemplate { ttl: view.ttl.saturating_sub(1), traffic_class };
        let [original, reply] = &mut self.templates;
        match direction {
            algate_alg::Direction::Original => *original = template,
            algate_alg::Direction::Reply => *reply = template,
        }
    }
}

/// How many of `flows` control sessions may have bytes in care at one moment: most of them are idle, and
/// each busy one takes some 80 KiB.
const fn busy_streams(flows: usize) -> usize {
    let share = flows / 4;
    if share < MIN_BUSY_STREAMS { MIN_BUSY_STREAMS } else { share }
}

/// Whether the TCP checksum is right, as the NIC says or by computing it in full.
fn is_intact<F: Frame>(frame: &F, view: &Ipv4View) -> bool {
    match frame.rx_checksums().l4 {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => {
            let l4 = frame.head().get(usize::from(view.l4)..usize::from(view.end)).unwrap_or_default();
            let pseudo_header =
                checksum::pseudo_header(view.src, view.dst, PROTOCOL_TCP, view.end.saturating_sub(view.l4));
            checksum::is_valid(l4, pseudo_header)
        }
    }
}

/// Who is who in a control session: keys say what each end sends, reversed keys what it sees.
fn endpoints_of(session: &Session<'_>) -> SessionEndpoints {
    let first = session.facing(algate_alg::Direction::Original);
    let (sent, other) = match first {
        Facing::Internal => (session.internal_key(), session.external_key()),
        Facing::External => (session.external_key(), session.internal_key()),
    };
    SessionEndpoints {
        originator: sent.source().into(),
        originator_seen: other.destination().into(),
        responder: other.source().into(),
        responder_seen: sent.destination().into(),
    }
}

const NOWHERE: SessionEndpoints = {
    let nowhere = std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
    SessionEndpoints {
        originator: nowhere,
        originator_seen: nowhere,
        responder: nowhere,
        responder_seen: nowhere,
    }
};

const MIN_BUSY_STREAMS: usize = 16;
const REVIEW_PERIOD: std::time::Duration = std::time::Duration::from_millis(500);
const FAR: std::time::Duration = std::time::Duration::from_secs(3600);
