//! One control session in its owner's hands.

use algate_alg::{
    Alg, Context as AlgContext, Direction, Edits, Event, Events, Injections, Instance, Memory, Protocol,
    ProtocolId, SessionEndpoints, Settings, Step,
};

use crate::alg_stage::emitter::{Emitter, HeaderTemplate};
use crate::alg_stage::guard::{Guard, Health};
use crate::alg_stage::nat_port::{NatPort, Promises};
use crate::alg_stage::oversight::{Judge, Watched};
use crate::alg_stage::{PolicyMemory, Surroundings};
use crate::frame::PacketIo;
use crate::nat::session::{Facing, Session};
use crate::packet::PROTOCOL_TCP;
use crate::packet::parse::Ipv4View;
use crate::stream::{StreamContext, StreamMemory, TcpStream};
use crate::table::slots::Handle;
use crate::time::Instant;

/// One control session.
#[derive(Debug)]
pub(super) struct Flow {
    /// `None`: free.
    pub(super) session: Option<Handle>,
    pub(super) protocol: ProtocolId,
    endpoints: SessionEndpoints,
    /// Over TCP: lent by the stage.
    pub(super) stream: Option<Box<TcpStream>>,
    alg: Instance,
    health: Health,
    pub(super) promises: Promises,
    /// When a segment of it came last, or was asked for.
    pub(super) heard: Instant,
    templates: [HeaderTemplate; 2],
}

/// What all flows of a stage share while one is handled.
pub(super) struct Shared<'a> {
    pub(super) memory: &'a mut StreamMemory,
    pub(super) policy: &'a mut PolicyMemory,
}

impl Flow {
    /// A free one, with room for `promises`.
    pub(super) fn new(promises: usize, settings: &Settings) -> Self {
        let [protocol, ..] = ProtocolId::ALL;
        Self {
            session: None,
            protocol,
            endpoints: NOWHERE,
            stream: None,
            alg: Instance::new(protocol, Protocol::Tcp, settings),
            health: Health::default(),
            promises: Promises::new(promises),
            heard: Instant::default(),
            templates: [HeaderTemplate::default(); 2],
        }
    }

    /// Becomes the flow of `session`.
    pub(super) fn begin(
        &mut self,
        handle: Handle,
        session: &Session<'_>,
        protocol: ProtocolId,
        settings: &Settings,
        promises: usize,
    ) {
        self.session = Some(handle);
        self.protocol = protocol;
        self.endpoints = endpoints_of(session);
        let transport = match session.internal_key().protocol() {
            PROTOCOL_TCP => Protocol::Tcp,
            _ => Protocol::Udp,
        };
        self.alg = Instance::new(protocol, transport, settings);
        self.health = Health::default();
        self.promises.begin(promises);
        self.templates = [HeaderTemplate::default(); 2];
    }

    /// The dialogue over TCP begins anew: the same endpoints have opened another connection.
    pub(super) fn reopen(&mut self, settings: &Settings, shared: &mut Memory) {
        self.end(shared);
        self.alg = Instance::new(self.protocol, Protocol::Tcp, settings);
        self.health = Health::default();
    }

    /// The dialogue is over: nothing of it stays in the memory that ALGs share.
    pub(super) fn end(&mut self, shared: &mut Memory) {
        self.alg.end(shared);
    }

    /// Calls `act` with the stream and everything it needs, and adds up what was counted. `None`: it has no stream.
    pub(super) fn with_stream<P: PacketIo, R>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        shared: Shared<'_>,
        session: Session<'_>,
        act: impl FnOnce(&mut TcpStream, &mut StreamContext<'_>) -> R,
    ) -> Option<R> {
        let stream = self.stream.as_mut()?;
        let counters = around.counters.of(self.protocol);
        let mut events = Events::default();
        let handle = around.nat.sessions.handle(&session);
        let watched =
            Watched::new(around.oversight, around.thread, around.context.now, self.protocol, &session);
        let mut nat = NatPort {
            nat: around.nat,
            worker: around.nat_worker,
            session: handle,
            endpoints: &self.endpoints,
            promises: &mut self.promises,
            counters,
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
        let PolicyMemory { scratch, changed, shared: of_all } = shared.policy;
        self.alg.lend(of_all);
        let mut judge = Judge { watched, scratch };
        let mut alg = Guard {
            alg: &mut self.alg,
            health: &mut self.health,
            watched,
            session: handle,
            counters,
            changed,
        };
        let mut cx = StreamContext {
            alg: &mut alg,
            endpoints: &self.endpoints,
            nat: &mut nat,
            policy: &mut judge,
            events: &mut events,
            memory: shared.memory,
            out: &mut out,
        };
        let result = act(stream, &mut cx);
        self.alg.lend(of_all);
        around.counters.segments_out.add(out.made);
        counters.add(&events);
        if events.of(Event::Detached) > 0 {
            self.promises.withdraw_all(around.nat, around.nat_worker);
        }
        Some(result)
    }

    /// Shows the ALG one datagram.
    pub(super) fn inspect<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        policy: &mut PolicyMemory,
        session: &Session<'_>,
        answer: (&mut Edits, &mut Injections),
        direction: Direction,
        datagram: &[u8],
    ) -> Option<Step> {
        let counters = around.counters.of(self.protocol);
        let mut events = Events::default();
        let handle = self.session?;
        let watched =
            Watched::new(around.oversight, around.thread, around.context.now, self.protocol, session);
        let mut nat = NatPort {
            nat: around.nat,
            worker: around.nat_worker,
            session: handle,
            endpoints: &self.endpoints,
            promises: &mut self.promises,
            counters,
            now: around.context.now,
        };
        let PolicyMemory { scratch, changed, shared } = policy;
        self.alg.lend(shared);
        let mut judge = Judge { watched, scratch };
        let mut alg = Guard {
            alg: &mut self.alg,
            health: &mut self.health,
            watched,
            session: handle,
            counters,
            changed,
        };
        let (edits, inject) = answer;
        edits.clear();
        inject.clear();
        let mut cx = AlgContext {
            endpoints: &self.endpoints,
            nat: &mut nat,
            policy: &mut judge,
            edits,
            inject,
            events: &mut events,
            at_end: true,
        };
        let step = alg.inspect(direction, datagram, &mut cx);
        self.alg.lend(shared);
        counters.add(&events);
        Some(step)
    }

    /// Notes what the headers of one direction say, for segments made here.
    pub(super) fn note_header(&mut self, direction: Direction, view: &Ipv4View, head: &[u8]) {
        let traffic_class = head.get(usize::from(view.l3) + 1).copied().unwrap_or(0);
        let template = HeaderTemplate { ttl: view.ttl.saturating_sub(1), traffic_class };
        let [original, reply] = &mut self.templates;
        match direction {
            Direction::Original => *original = template,
            Direction::Reply => *reply = template,
        }
    }
}

/// Who is who in a control session: keys say what each end sends, reversed keys what it sees.
fn endpoints_of(session: &Session<'_>) -> SessionEndpoints {
    let first = session.facing(Direction::Original);
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
