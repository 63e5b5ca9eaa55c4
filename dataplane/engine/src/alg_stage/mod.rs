//! The ALG stage: owns control sessions, runs the stream layer over them, sends what comes out.
//!
//! One [`AlgStage`] per thread (a worker, or an ALG core). A flow belongs to one stage from its first packet on;
//! packets that another thread receives come over [`handover`]. All flows and their buffers are taken at
//! start. When they are used up, packets of new control sessions are dropped and counted: their senders repeat
//! them, and no other traffic notices.
//!
//! Over TCP the stream layer reads a flow and sends segments of its own ([`crate::stream`]); over UDP each datagram is read for
//! itself and goes on in its own frame ([`datagram`]). Which protocol it is, the session says: NAT has found it by its
//! control port ([`protocols`]).
//!
//! A packet with a wrong L4 checksum is never read: it is translated like any other packet and left as wrong as it came, so
//! its receiver drops it.

pub mod breaker;
mod datagram;
pub mod emitter;
mod flow;
pub mod footprint;
mod guard;
pub mod handover;
pub mod nat_port;
pub mod oversight;
pub mod protocols;
pub mod records;

use std::time::Duration;

use algate_alg::{Direction, Memory, ProtocolId, Scratch, Settings};
use algate_config::Config;
use hashbrown::HashMap;

use crate::alg_stage::datagram::DatagramMemory;
use crate::alg_stage::flow::{Flow, Shared};
use crate::alg_stage::oversight::Oversight;
use crate::counters::AlgCounters;
use crate::drop_reason::DropReason;
use crate::fragment::identification::Identifications;
use crate::frame::{Frame, PacketIo, RxChecksum};
use crate::ids::WorkerId;
use crate::nat::session::{Facing, Session};
use crate::nat::shift::Shifts;
use crate::nat::tcp_state::TcpEvent;
use crate::nat::{Nat, NatWorker};
use crate::packet::icmp_error::IcmpErrorView;
use crate::packet::parse::{Ipv4View, L4Class};
use crate::packet::{PROTOCOL_TCP, checksum};
use crate::router::egress::{Context, Egress};
use crate::stream::segment::{TcpFlags, TcpSegment};
use crate::stream::seq::SeqNum;
use crate::stream::{FragmentationNeeded, Outcome, StreamLimits, StreamMemory, TcpStream};
use crate::time::Instant;

/// Where messages are judged and changed ones kept, and what ALGs share: memory of a stage.
#[derive(Debug)]
struct PolicyMemory {
    scratch: Scratch,
    changed: Vec<u8>,
    shared: Memory,
}

impl PolicyMemory {
    fn new(bytes: usize, shared: Memory) -> Self {
        Self { scratch: Scratch::new(bytes), changed: Vec::with_capacity(bytes), shared }
    }
}

/// What the stage needs of the thread that runs it.
pub struct Surroundings<'a, P: PacketIo> {
    /// Router, drop counters, time.
    pub context: &'a Context<'a>,
    /// The shared tables.
    pub nat: &'a Nat,
    /// The thread's part of NAT.
    pub nat_worker: &'a mut NatWorker,
    /// IPv4 identifications of packets that may be cut.
    pub identifications: &'a Identifications,
    /// The thread's way out.
    pub egress: &'a mut Egress<P::Frame>,
    /// Frames and ports.
    pub io: &'a mut P,
    /// Where the stage counts.
    pub counters: &'a AlgCounters,
    /// What stands over the ALGs.
    pub oversight: &'a Oversight,
    /// The thread.
    pub thread: WorkerId,
    /// Nothing that others received is on its way to the thread.
    pub is_caught_up: bool,
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
    /// Those no flow has at the moment.
    #[expect(clippy::vec_box, reason = "a box moves into the flow that borrows it, and back")]
    streams: Vec<Box<TcpStream>>,
    memory: StreamMemory,
    datagrams: DatagramMemory,
    limits: StreamLimits,
    settings: Settings,
    /// Expectations outstanding that a control session may have, by protocol.
    expectations: [usize; ProtocolId::ALL.len()],
    /// How long a control session may be silent while its data sessions live, by protocol.
    keepalives: [Option<Duration>; ProtocolId::ALL.len()],
    policy: PolicyMemory,
    /// No flow needs its timer before this.
    next_timer: Instant,
    /// When ended sessions are looked for again.
    next_review: Instant,
}

impl AlgStage {
    /// Memory for `config.tables.alg_flows` control sessions; see [`footprint`].
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let count = config.tables.alg_flows;
        let limits = limits(config);
        let settings = protocols::settings(&config.alg);
        let expectations =
            ProtocolId::ALL.map(|protocol| protocols::gateway(&config.alg, protocol).expectations);
        let is_on = |protocol| protocols::gateway(&config.alg, protocol).enabled;
        let most = ProtocolId::ALL.iter().zip(&expectations).filter(|(protocol, _)| is_on(**protocol));
        let most = most.map(|(_, most)| *most).max().unwrap_or(0);
        let shared = Memory::new(&settings, count, is_on);
        Self {
            flows: (0..count).map(|_| Flow::new(most, &settings)).collect(),
            free: (0..count).rev().collect(),
            // Twice the flows: a table at most half full cleans up in place, and never grows.
            by_session: HashMap::with_capacity(count * 2),
            streams: (0..count).map(|_| Box::new(TcpStream::new())).collect(),
            memory: StreamMemory::new(limits, busy_streams(count)),
            datagrams: DatagramMemory::default(),
            limits,
            settings,
            expectations,
            keepalives: ProtocolId::ALL.map(|protocol| protocols::gateway(&config.alg, protocol).keepalive),
            policy: PolicyMemory::new(limits.held_bytes.max(usize::from(u16::MAX)), shared),
            next_timer: Instant::default(),
            next_review: Instant::default(),
        }
    }

    /// Takes a packet of `session` that came from `facing`. `view` is of what is in `frame`, also afterwards.
    pub fn receive<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        frame: &mut P::Frame,
        view: &mut Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) -> Handled {
        if !around.oversight.reads(&session) && self.known_flow(around, &session).is_none() {
            session.leave_alg(Shifts::default());
            return Handled::Forward;
        }
        match view.class {
            L4Class::Tcp => self.receive_segment(around, frame, view, session, facing),
            _ => self.receive_datagram(around, frame, view, session, facing),
        }
    }

    /// Takes a TCP packet of `session` that came from `facing`.
    fn receive_segment<P: PacketIo>(
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
        let Some(seq) =
            flow.stream.as_ref().and_then(|stream| stream.map_embedded_seq(direction, SeqNum(seq)))
        else {
            return as_it_came;
        };
        if let Some(mtu) = error.path_mtu(head) {
            let now = around.context.now;
            let shared = Shared { memory: &mut self.memory, policy: &mut self.policy };
            let outcome = flow.with_stream(around, shared, session, |stream, cx| {
                stream.frag_needed(now, direction, mtu, cx)
            });
            if outcome == Some(FragmentationNeeded::Heeded) {
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
        if let Some(at) = self.known_flow(around, session) {
            return Some(at);
        }
        if !segment.flags.has(TcpFlags::SYN) || segment.flags.has(TcpFlags::ACK) {
            return None;
        }
        let at = self.begin(around, session)?;
        // There are as many streams as flows.
        self.flows.get_mut(at)?.stream = self.streams.pop();
        Some(at)
    }

    /// The flow that `session` has.
    fn known_flow<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        session: &Session<'_>,
    ) -> Option<usize> {
        let handle = around.nat.sessions.handle(session);
        let at = *self.by_session.get(&handle.index)?;
        if self.flows.get(at)?.session == Some(handle) {
            return Some(at);
        }
        // The slot has a new session; the old one's flow was not yet reviewed.
        self.release(around.nat, around.nat_worker, at);
        None
    }

    /// A new flow for `session`. `None`: no room.
    fn begin<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        session: &Session<'_>,
    ) -> Option<usize> {
        let handle = around.nat.sessions.handle(session);
        let protocol = session.alg_protocol()?;
        let promises = *self.expectations.get(usize::from(protocol.number()))?;
        let at = self.free.pop()?;
        self.flows.get_mut(at)?.begin(handle, session, protocol, &self.settings, promises);
        around.counters.of(protocol).flows.add(1);
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
        flow.heard = now;
        let shared = Shared { memory: &mut self.memory, policy: &mut self.policy };
        let outcome = flow
            .with_stream(around, shared, *session, |stream, cx| stream.segment(now, direction, segment, cx));
        match outcome {
            None => Handled::Drop(DropReason::AlgStageFull),
            Some(Outcome::Taken | Outcome::Closed) => Handled::Taken,
            Some(Outcome::Dropped(reason)) => Handled::Drop(reason),
            Some(Outcome::Reopened) => {
                if let Some(stream) = &mut flow.stream {
                    stream.reset(&mut self.memory);
                }
                flow.reopen(&self.settings, &mut self.policy.shared);
                flow.promises.withdraw_all(around.nat, around.nat_worker);
                let shared = Shared { memory: &mut self.memory, policy: &mut self.policy };
                flow.with_stream(around, shared, *session, |stream, cx| {
                    stream.segment(now, direction, segment, cx)
                });
                Handled::Taken
            }
        }
    }

    /// After each turn of a flow: its timer, its end, its way back to the fast path.
    fn settle<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>, at: usize, session: &Session<'_>) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        let Some(stream) = &flow.stream else { return };
        if let Some(deadline) = stream.deadline(&self.limits) {
            self.next_timer = self.next_timer.min(deadline);
        }
        if stream.status().closed {
            // Goes away after four silent minutes, unless data follows (RFC 7857 section 2.2).
            let now = around.context.now;
            around.nat.sessions.touch(session, Facing::External, Some(TcpEvent::Rst), now);
            flow.promises.withdraw_all(around.nat, around.nat_worker);
        } else if stream.is_read_out() && !flow.protocol.announces_beyond_its_end() {
            flow.promises.withdraw_all(around.nat, around.nat_worker);
        }
        self.let_go(around, at, session);
    }

    /// Gives a flow that nobody reads any more back to the fast path, unless a packet of it may be on its way here. Both ends of
    /// one that is closed go on without the stage, too: its place is free for the next one.
    fn let_go<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>, at: usize, session: &Session<'_>) {
        let Some(flow) = self.flows.get_mut(at).filter(|_| around.is_caught_up) else { return };
        let Some(stream) = &flow.stream else { return };
        let status = stream.status();
        let Some(shifts) = stream.settled().and_then(Shifts::of) else { return };
        if let (Some([original, reply]), Some(windows)) =
            (stream.edges(), around.nat.sessions.windows(session))
        {
            let of = |facing| match session.direction(facing) {
                Direction::Original => original,
                Direction::Reply => reply,
            };
            windows.resume([of(Facing::Internal), of(Facing::External)]);
        }
        if !status.opaque && !status.closed {
            // It has been read to its end: what it has announced stands.
            flow.promises.leave_all();
        }
        session.leave_alg(shifts);
        self.release(around.nat, around.nat_worker, at);
    }

    fn run_timers<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>) {
        let now = around.context.now;
        self.next_timer = now.plus(FAR);
        for at in 0..self.flows.len() {
            let Some(flow) = self.flows.get_mut(at) else { return };
            let Some(handle) = flow.session else { continue };
            let nat = around.nat;
            let Some(session) = nat.sessions.by_handle(handle) else { continue };
            let deadline = flow.stream.as_ref().and_then(|stream| stream.deadline(&self.limits));
            // One that nothing is due of stays as it is: a closed one would be taken for touched, and live for ever.
            let Some(deadline) = deadline else { continue };
            if deadline > now {
                self.next_timer = self.next_timer.min(deadline);
                continue;
            }
            let shared = Shared { memory: &mut self.memory, policy: &mut self.policy };
            flow.with_stream(around, shared, session, |stream, cx| stream.on_timer(now, cx));
            self.settle(around, at, &session);
        }
    }

    /// Lets go of flows whose session is gone or that could not leave when their last packet came, and keeps silent ones alive
    /// that have data sessions.
    fn review<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>) {
        for at in 0..self.flows.len() {
            let Some(handle) = self.flows.get(at).and_then(|flow| flow.session) else { continue };
            let nat = around.nat;
            match nat.sessions.by_handle(handle) {
                Some(session) => {
                    self.keep_alive(around, at, session);
                    self.let_go(around, at, &session);
                }
                None => self.release(around.nat, around.nat_worker, at),
            }
        }
    }

    fn keep_alive<P: PacketIo>(&mut self, around: &mut Surroundings<'_, P>, at: usize, session: Session<'_>) {
        let now = around.context.now;
        let Some(flow) = self.flows.get_mut(at) else { return };
        let period = self.keepalives.get(usize::from(flow.protocol.number())).copied().flatten();
        let is_due = period.is_some_and(|period| flow.heard.plus(period) <= now);
        if is_due && session.children() > 0 {
            flow.heard = now;
            let shared = Shared { memory: &mut self.memory, policy: &mut self.policy };
            flow.with_stream(around, shared, session, |stream, cx| stream.keep_alive(cx));
        }
    }

    fn release(&mut self, nat: &Nat, worker: &mut NatWorker, at: usize) {
        let Some(flow) = self.flows.get_mut(at) else { return };
        if let Some(handle) = flow.session.take() {
            if let Some(mut stream) = flow.stream.take() {
                stream.reset(&mut self.memory);
                self.streams.push(stream);
            }
            flow.end(&mut self.policy.shared);
            flow.promises.withdraw_all(nat, worker);
            self.by_session.remove(&handle.index);
            self.free.push(at);
        }
    }
}

/// What bounds the streams of a stage.
fn limits(config: &Config) -> StreamLimits {
    StreamLimits { held_bytes: config.alg.held_bytes, ..StreamLimits::default() }
}

/// How many of `flows` control sessions may have bytes in care at one moment: most of them are idle.
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

const MIN_BUSY_STREAMS: usize = 16;
const REVIEW_PERIOD: Duration = Duration::from_millis(500);
const FAR: Duration = Duration::from_secs(3600);
