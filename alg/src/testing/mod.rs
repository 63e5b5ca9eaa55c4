//! What tests of an ALG need: a stage without a network, and a NAT that only takes notes.
//!
//! [`Driver`] does to two streams what the engine's stage does, without segments or sequence numbers:
//! it holds undecided bytes, applies edits, and shows the other direction again after each verdict.
//! It checks the invariants of the contract on every call and panics where one is broken. Present in
//! this crate's tests and behind the feature `testing`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::contract::{
    Alg, Announced, Context, Direction, Edits, Event, Events, ExpectError, Expectation, ExpectationId,
    Injections, Nat, Peer, Policy, Protocol, Ruling, SessionEndpoints, Step, Subject, Verdict,
};
use crate::sip::{CallTable, Sip, SipSettings};

#[cfg(test)]
pub(crate) mod cuts;
mod fuzz;

pub use fuzz::*;

/// A NAT that announces the end's address as the peer sees it, with ports counted up from 20,000
/// where that differs from its own, and records what it was asked. The same request gets the same
/// expectation as long as that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeNat {
    /// Refuses everything when set.
    pub refusal: Option<ExpectError>,
    /// Refuses pairs when set.
    pub pair_refusal: Option<ExpectError>,
    /// Announces this address instead of the one the peer sees.
    pub announced_address: Option<Ipv4Addr>,
    /// What was asked, in order.
    pub calls: Vec<NatCall>,
    /// Expectations to which signalling comes.
    pub control: Vec<ExpectationId>,
    /// Endpoints that other flows were announced, each with what is behind it.
    pub announced: Vec<(SocketAddrV4, SocketAddrV4)>,
    /// Hosts besides the owner that may be asked for.
    pub others: Vec<Ipv4Addr>,
    live: Vec<(Announced, Expectation)>,
    endpoints: SessionEndpoints,
    next_id: u64,
    next_l4_port: u16,
}

/// One call of [`Nat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatCall {
    /// An expectation was asked for, with this answer.
    Expect(Expectation, Result<Announced, ExpectError>),
    /// Two adjacent ones were asked for, with this answer.
    ExpectPair(Expectation, Result<[Announced; 2], ExpectError>),
    /// One was given more time, perhaps a new peer, and existed or not.
    Renew(ExpectationId, Duration, Option<Peer>, bool),
    /// One was withdrawn.
    Withdraw(ExpectationId),
}

impl FakeNat {
    /// A NAT between these ends.
    #[must_use]
    pub fn new(endpoints: SessionEndpoints) -> Self {
        Self {
            refusal: None,
            pair_refusal: None,
            announced_address: None,
            calls: Vec::new(),
            control: Vec::new(),
            announced: Vec::new(),
            others: Vec::new(),
            live: Vec::new(),
            endpoints,
            next_id: 1,
            next_l4_port: 20_000,
        }
    }

    /// The targets of the expectations that are open, oldest first.
    #[must_use]
    pub fn open_targets(&self) -> Vec<SocketAddrV4> {
        self.live.iter().map(|(_, expectation)| expectation.target).collect()
    }
}

impl FakeNat {
    fn answer(&mut self, request: &Expectation) -> Result<Announced, ExpectError> {
        let own = self.endpoints.sender(request.owner);
        let seen = self.endpoints.sender_seen(request.owner);
        let is_owned = request.target.ip() == own.ip() || self.others.contains(request.target.ip());
        assert!(is_owned, "a target must be its owner's: {request:?}");
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if let Some((announced, _)) = self.live.iter().find(|(_, live)| live == request) {
            return Ok(*announced);
        }
        let endpoint = if seen.ip() == own.ip() {
            request.target
        } else {
            self.next_l4_port += 1;
            SocketAddrV4::new(self.announced_address.unwrap_or(*seen.ip()), self.next_l4_port - 1)
        };
        let announced = Announced { id: ExpectationId(self.next_id), endpoint };
        self.next_id += 1;
        self.live.push((announced, *request));
        Ok(announced)
    }
}

impl Nat for FakeNat {
    fn expect(&mut self, request: &Expectation) -> Result<Announced, ExpectError> {
        let answer = self.answer(request);
        self.calls.push(NatCall::Expect(*request, answer));
        answer
    }

    fn expect_pair(&mut self, request: &Expectation) -> Result<[Announced; 2], ExpectError> {
        if let Some(refusal) = self.pair_refusal {
            self.calls.push(NatCall::ExpectPair(*request, Err(refusal)));
            return Err(refusal);
        }
        self.next_l4_port += self.next_l4_port & 1;
        let upper = SocketAddrV4::new(*request.target.ip(), request.target.port().wrapping_add(1));
        let answer = match (self.answer(request), self.answer(&Expectation { target: upper, ..*request })) {
            (Ok(lower), Ok(upper)) => Ok([lower, upper]),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        self.calls.push(NatCall::ExpectPair(*request, answer));
        answer
    }

    fn renew(&mut self, expectation: ExpectationId, lifetime: Duration, peer: Option<Peer>) -> bool {
        let found = self.live.iter_mut().find(|(announced, _)| announced.id == expectation);
        let exists = found.is_some();
        if let Some((_, live)) = found {
            live.lifetime = lifetime;
            live.peer = peer.unwrap_or(live.peer);
        }
        self.calls.push(NatCall::Renew(expectation, lifetime, peer, exists));
        exists
    }

    fn mark_control(&mut self, expectation: ExpectationId) {
        self.control.push(expectation);
    }

    fn internal_of(&self, _: Protocol, announced: SocketAddrV4, _: Direction) -> Option<SocketAddrV4> {
        self.announced.iter().find(|(seen, _)| *seen == announced).map(|(_, internal)| *internal)
    }

    fn withdraw(&mut self, expectation: ExpectationId) {
        self.live.retain(|(announced, _)| announced.id != expectation);
        self.calls.push(NatCall::Withdraw(expectation));
    }
}

/// A policy of one function.
#[derive(Debug, Clone, Copy)]
pub struct FakePolicy(pub fn(&Subject<'_>) -> Ruling);

impl Policy for FakePolicy {
    fn judge(&mut self, subject: &Subject<'_>) -> Ruling {
        (self.0)(subject)
    }
}

/// What [`Driver`] shows an ALG: its policy, put together.
struct Judge {
    policy: FakePolicy,
    unreadable: fn(&Subject<'_>) -> Ruling,
    masks: fn(&Subject<'_>) -> bool,
}

impl Policy for Judge {
    fn judge(&mut self, subject: &Subject<'_>) -> Ruling {
        self.policy.judge(subject)
    }

    fn judge_cut(&mut self, subject: &Subject<'_>) -> Ruling {
        self.policy.judge_cut(subject)
    }

    fn judge_unreadable(&mut self, subject: &Subject<'_>) -> Ruling {
        (self.unreadable)(subject)
    }

    fn may_mask(&self) -> bool {
        true
    }

    fn masks(&mut self, subject: &Subject<'_>) -> bool {
        (self.masks)(subject)
    }
}

thread_local! {
    static PANICS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Lets ALGs of this thread panic: call number `i` from now on if bit `i` of `calls` is set.
pub fn panic_at(calls: u64) {
    PANICS.set(calls);
}

/// Panics if [`panic_at`] has asked for it.
pub(crate) fn panic_if_due() {
    let calls = PANICS.get();
    PANICS.set(calls >> 1);
    assert!(calls & 1 == 0, "asked for by a test");
}

/// One decided message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Who sent it.
    pub direction: Direction,
    /// As it came. Empty for `Detach` and `Terminate`, whose length says nothing.
    pub bytes: Vec<u8>,
    /// What was decided.
    pub verdict: Verdict,
}

/// All that a dialogue did: equal for every segmentation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The stream from the originator as the responder reads it.
    pub original: Vec<u8>,
    /// The stream from the responder as the originator reads it.
    pub reply: Vec<u8>,
    /// The verdicts, with the pieces of a line joined.
    pub decided: Vec<Decided>,
    /// What was counted.
    pub events: Events,
    /// What was asked of NAT.
    pub calls: Vec<NatCall>,
}

impl Outcome {
    /// With neighbouring pieces of one direction and one verdict joined: data that are not read are decided in
    /// the pieces they come in.
    #[must_use]
    pub fn joined(mut self) -> Self {
        self.decided.dedup_by(|next, last| {
            let is_piece = next.direction == last.direction
                && next.verdict == last.verdict
                && matches!(next.verdict, Verdict::Pass | Verdict::Remove);
            if is_piece {
                last.bytes.append(&mut next.bytes);
            }
            is_piece
        });
        self
    }
}

/// Runs one ALG over two streams.
#[derive(Debug)]
pub struct Driver<A> {
    alg: A,
    endpoints: SessionEndpoints,
    /// The NAT behind it.
    pub nat: FakeNat,
    /// What the operator allows.
    pub policy: FakePolicy,
    /// What becomes of messages that cannot be read.
    pub unreadable: fn(&Subject<'_>) -> Ruling,
    /// Which texts are hidden.
    pub masks: fn(&Subject<'_>) -> bool,
    edits: Edits,
    inject: Injections,
    events: Events,
    original: Stream,
    reply: Stream,
    decided: Vec<Decided>,
    unread: bool,
    inspections: usize,
}

#[derive(Debug, Default)]
struct Stream {
    held: Vec<u8>,
    output: Vec<u8>,
    at_end: bool,
}

impl<A: Alg> Driver<A> {
    /// A session between `endpoints` at byte 0.
    pub fn new(alg: A, endpoints: SessionEndpoints) -> Self {
        Self {
            alg,
            endpoints,
            nat: FakeNat::new(endpoints),
            policy: FakePolicy(|_| Ruling::Allow),
            unreadable: |_| Ruling::Allow,
            masks: |_| false,
            edits: Edits::with_capacity(64, 2048),
            inject: Injections::with_capacity(16, 1024),
            events: Events::default(),
            original: Stream::default(),
            reply: Stream::default(),
            decided: Vec::new(),
            unread: false,
            inspections: 0,
        }
    }

    /// Ends the session and gives the ALG back.
    pub fn into_alg(self) -> A {
        self.alg
    }

    /// Shows `bytes` sent in `direction` and carries out all verdicts that follow.
    pub fn feed(&mut self, direction: Direction, bytes: &[u8]) {
        self.stream(direction).held.extend_from_slice(bytes);
        self.run(direction);
    }

    /// Shows a whole datagram (a protocol over UDP) and returns those that leave, each with its direction:
    /// itself, unless it was taken out, and what was injected.
    pub fn datagram(&mut self, direction: Direction, bytes: &[u8]) -> Vec<(Direction, Vec<u8>)> {
        if self.unread || bytes.is_empty() {
            return vec![(direction, bytes.to_vec())];
        }
        let (length, verdict) = match self.ask(direction, bytes, true) {
            Step::Incomplete => (bytes.len(), Verdict::Pass),
            Step::Message { length, verdict } => (length, verdict),
        };
        let mut leaving = Vec::new();
        match verdict {
            Verdict::Remove => {}
            Verdict::Rewrite if length == bytes.len() => leaving.push((direction, self.edited(bytes))),
            _ => leaving.push((direction, bytes.to_vec())),
        }
        leaving.extend(self.inject.iter().map(|(into, bytes)| (into, bytes.to_vec())));
        self.unread = matches!(verdict, Verdict::Opaque | Verdict::Detach | Verdict::Terminate);
        self.decided.push(Decided { direction, bytes: bytes.to_vec(), verdict });
        leaving
    }

    /// Nothing follows in `direction`.
    pub fn end(&mut self, direction: Direction) {
        self.stream(direction).at_end = true;
        self.run(direction);
    }

    /// How often `event` was counted.
    #[must_use]
    pub fn count_of(&self, event: Event) -> u64 {
        self.events.of(event)
    }

    /// How often the ALG was asked.
    #[must_use]
    pub fn inspections(&self) -> usize {
        self.inspections
    }

    /// Bytes of `direction` that wait for a verdict.
    #[must_use]
    pub fn held(&self, direction: Direction) -> &[u8] {
        match direction {
            Direction::Original => &self.original.held,
            Direction::Reply => &self.reply.held,
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            original: self.original.output.clone(),
            reply: self.reply.output.clone(),
            decided: self.decided.clone(),
            events: self.events,
            calls: self.nat.calls.clone(),
        }
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Original => &mut self.original,
            Direction::Reply => &mut self.reply,
        }
    }

    /// What a verdict frees in the other direction comes before the next message of this one.
    fn run(&mut self, direction: Direction) {
        while self.decide(direction.reversed()) || self.decide(direction) {}
    }

    /// Takes one message of `direction`; `false` when none is complete.
    fn decide(&mut self, direction: Direction) -> bool {
        let at_end = self.stream(direction).at_end;
        let input = std::mem::take(&mut self.stream(direction).held);
        if input.is_empty() {
            return false;
        }
        if self.unread {
            self.stream(direction).output.extend_from_slice(&input);
            return true;
        }
        let step = self.ask(direction, &input, at_end);
        match step {
            Step::Incomplete if at_end => {
                self.stream(direction).output.extend_from_slice(&input);
                false
            }
            Step::Incomplete => {
                let (events, calls) = (self.events, self.nat.calls.len());
                assert_eq!(self.ask(direction, &input, at_end), step, "asked twice, answered differently");
                assert_eq!((events, calls), (self.events, self.nat.calls.len()), "Incomplete had an effect");
                self.stream(direction).held = input;
                false
            }
            Step::Message { length, verdict } => {
                assert!((1..=input.len()).contains(&length), "decided {length} of {} bytes", input.len());
                let (message, rest) = input.split_at(length);
                self.carry_out(direction, message, verdict);
                self.stream(direction).held = rest.to_vec();
                true
            }
        }
    }

    fn ask(&mut self, direction: Direction, input: &[u8], at_end: bool) -> Step {
        self.inspections += 1;
        self.edits.clear();
        self.inject.clear();
        let mut judge = Judge { policy: self.policy, unreadable: self.unreadable, masks: self.masks };
        let step = self.alg.inspect(
            direction,
            input,
            &mut Context {
                endpoints: &self.endpoints,
                nat: &mut self.nat,
                policy: &mut judge,
                edits: &mut self.edits,
                inject: &mut self.inject,
                events: &mut self.events,
                at_end,
            },
        );
        let rewrites = matches!(step, Step::Message { verdict: Verdict::Rewrite, .. });
        assert_eq!(rewrites, self.edits.iter().next().is_some(), "edits without Rewrite, or none with it");
        step
    }

    fn edited(&self, message: &[u8]) -> Vec<u8> {
        let (mut output, mut at) = (Vec::new(), 0);
        for (range, with) in self.edits.iter() {
            output.extend_from_slice(message.get(at..range.start).unwrap_or_default());
            output.extend_from_slice(with);
            assert!(range.end <= message.len(), "an edit behind the message");
            at = range.end;
        }
        output.extend_from_slice(message.get(at..).unwrap_or_default());
        output
    }

    fn carry_out(&mut self, direction: Direction, message: &[u8], verdict: Verdict) {
        let mut output = Vec::new();
        match verdict {
            Verdict::Remove => {}
            Verdict::Rewrite => output = self.edited(message),
            Verdict::Pass | Verdict::Opaque | Verdict::Detach | Verdict::Terminate => {
                output.extend_from_slice(message);
            }
        }
        self.unread = matches!(verdict, Verdict::Opaque | Verdict::Detach | Verdict::Terminate);
        if verdict == Verdict::Detach {
            self.nat.live.clear();
        }
        self.stream(direction).output.extend_from_slice(&output);
        let injected: Vec<_> = self.inject.iter().map(|(into, bytes)| (into, bytes.to_vec())).collect();
        for (into, bytes) in injected {
            self.stream(into).output.extend_from_slice(&bytes);
        }
        let is_end = matches!(verdict, Verdict::Detach | Verdict::Terminate);
        let bytes = if is_end { Vec::new() } else { message.to_vec() };
        match self.decided.last_mut() {
            // A further part of a line that is not read.
            Some(last)
                if last.direction == direction
                    && last.verdict == Verdict::Pass
                    && verdict == Verdict::Pass
                    && !last.bytes.ends_with(b"\n") =>
            {
                last.bytes.extend_from_slice(&bytes);
            }
            _ => self.decided.push(Decided { direction, bytes, verdict }),
        }
    }
}

/// An internal client 10.0.0.2 seen as 198.51.100.240, an external server 203.0.113.9.
#[must_use]
pub fn internal_client(l4_port: u16) -> SessionEndpoints {
    SessionEndpoints {
        originator: SocketAddrV4::new([10, 0, 0, 2].into(), 40_000),
        originator_seen: SocketAddrV4::new([198, 51, 100, 240].into(), 50_000),
        responder: SocketAddrV4::new([203, 0, 113, 9].into(), l4_port),
        responder_seen: SocketAddrV4::new([203, 0, 113, 9].into(), l4_port),
    }
}

/// An external client 203.0.113.50, an internal server 10.0.0.9 seen as 198.51.100.7.
#[must_use]
pub fn internal_server(l4_port: u16) -> SessionEndpoints {
    SessionEndpoints {
        originator: SocketAddrV4::new([203, 0, 113, 50].into(), 40_000),
        originator_seen: SocketAddrV4::new([203, 0, 113, 50].into(), 40_000),
        responder: SocketAddrV4::new([10, 0, 0, 9].into(), l4_port),
        responder_seen: SocketAddrV4::new([198, 51, 100, 7].into(), l4_port),
    }
}

/// SIP with a table of calls of its own.
#[must_use]
pub fn sip(settings: SipSettings, transport: Protocol) -> Sip {
    let mut sip = Sip::new(settings, transport);
    sip.lend(&mut Some(Box::new(CallTable::new(1, settings.calls, settings.calls_per_flow))));
    sip
}
