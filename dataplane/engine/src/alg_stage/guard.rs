//! An ALG at work, and what keeps it in its place: the circuit breaker ([`super::breaker`]), the shadow and the audit.
//!
//! In shadow the ALG sees every message and is answered as if NAT had opened what it asks for, so that it goes on as it
//! would; but its edits, injections and removals are thrown away, and nothing is reserved. Counters and the audit then
//! say what it would have done.

use std::net::SocketAddrV4;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use algate_alg::{
    Alg, Announced, Context, Direction, Edits, Event, ExpectError, Expectation, ExpectationId, Instance, Nat,
    Peer, SessionEndpoints, Step, Verdict, mask,
};

use crate::alg_stage::breaker::{PANICS_PER_FLOW, SCANNED_BYTES};
use crate::alg_stage::oversight::Watched;
use crate::alg_stage::records::{Exchange, What};
use crate::counters::ProtocolCounters;
use crate::table::slots::Handle;

/// How one control session has behaved so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Health {
    panics: u8,
    /// Bytes looked at since the last decision.
    scanned: usize,
    /// Expectations that were only pretended.
    pretended: u64,
}

/// [`Alg`] for the stage.
pub(super) struct Guard<'a> {
    pub(super) alg: &'a mut Instance,
    pub(super) health: &'a mut Health,
    pub(super) watched: Watched<'a>,
    pub(super) session: Handle,
    pub(super) counters: &'a ProtocolCounters,
    /// Where a changed message is put together.
    pub(super) changed: &'a mut Vec<u8>,
}

impl Alg for Guard<'_> {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let step = self.decide(direction, input, cx);
        if step != Step::Incomplete {
            self.counters.messages.add(1);
            self.health.scanned = 0;
        }
        step
    }
}

impl Guard<'_> {
    fn decide(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let oversight = self.watched.oversight;
        let protocol = self.watched.facts.protocol;
        if oversight.breaker.is_off(protocol) {
            return detach(input, cx);
        }
        self.health.scanned = self.health.scanned.saturating_add(input.len());
        if self.health.scanned > SCANNED_BYTES {
            self.counters.work_budget.add(1);
            self.watched.note(What::WorkBudget);
            return detach(input, cx);
        }
        let is_shadow = oversight.is_shadow(protocol);
        let alg = &mut *self.alg;
        let pretended = &mut self.health.pretended;
        let rechecks_failed = cx.events.of(Event::RecheckFailed);
        // What a panic leaves half done: the ALG's own state, which is of plain values and whose worst is a wrong verdict,
        // and `cx`, which is cleared.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            if is_shadow {
                in_shadow(alg, pretended, direction, input, cx)
            } else {
                alg.inspect(direction, input, cx)
            }
        }));
        let Ok(step) = answer else { return self.panicked(input, cx) };
        if cx.events.of(Event::RecheckFailed) != rechecks_failed {
            self.watched.note(What::RecheckFailed);
        }
        if oversight.records.keeps_exchanges() {
            self.audit(direction, input, step, is_shadow, cx);
        }
        match step {
            Step::Message { length, verdict } if is_shadow => {
                cx.edits.clear();
                cx.inject.clear();
                Step::Message { length, verdict: without_effect(verdict) }
            }
            step => step,
        }
    }

    /// The message passes unread.
    fn panicked(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        let Watched { oversight, now, facts, .. } = self.watched;
        cx.edits.clear();
        cx.inject.clear();
        self.counters.panics.add(1);
        self.health.panics += 1;
        self.watched.note(What::Panicked);
        if oversight.breaker.panicked(facts.protocol, now) {
            self.watched.note(What::AlgOff);
            return detach(input, cx);
        }
        if self.health.panics >= PANICS_PER_FLOW {
            self.watched.note(What::FlowOff);
            return detach(input, cx);
        }
        Step::Message { length: input.len(), verdict: Verdict::Pass }
    }

    /// Keeps a message that was changed, or would have been, with what became of it.
    fn audit(&mut self, direction: Direction, input: &[u8], step: Step, is_shadow: bool, cx: &Context<'_>) {
        let Step::Message { length, verdict } = step else { return };
        if verdict == Verdict::Pass && cx.inject.iter().next().is_none() {
            return;
        }
        let Watched { oversight, thread, now, facts, internal, peer } = self.watched;
        let message = input.get(..length).unwrap_or_default();
        let changed = &mut *self.changed;
        changed.clear();
        match verdict {
            Verdict::Rewrite => write_edited(message, cx.edits, changed),
            Verdict::Pass | Verdict::Opaque | Verdict::Detach => push(changed, message),
            Verdict::Remove | Verdict::Terminate => {}
        }
        for (_, bytes) in cx.inject.iter() {
            push(changed, bytes);
        }
        let keep = |message: &[u8], kept: &mut Vec<u8>| {
            kept.resize(kept.capacity(), 0);
            let length = mask(facts.protocol, message, kept);
            kept.truncate(length);
        };
        oversight.records.keep(thread, |exchange| {
            let Exchange { before, after, .. } = exchange;
            keep(message, before);
            keep(changed, after);
            exchange.at = now;
            exchange.session = self.session;
            exchange.protocol = facts.protocol;
            exchange.internal = internal;
            exchange.peer = peer;
            exchange.is_outbound = direction == facts.outbound;
            exchange.verdict = verdict;
            exchange.is_shadow = is_shadow;
        });
    }
}

fn detach(input: &[u8], cx: &mut Context<'_>) -> Step {
    cx.events.count(Event::Detached);
    Step::Message { length: input.len(), verdict: Verdict::Detach }
}

fn in_shadow(
    alg: &mut Instance,
    pretended: &mut u64,
    direction: Direction,
    input: &[u8],
    cx: &mut Context<'_>,
) -> Step {
    let mut nat = PretendedNat { endpoints: cx.endpoints, pretended };
    let mut inner = Context {
        endpoints: cx.endpoints,
        nat: &mut nat,
        policy: &mut *cx.policy,
        edits: &mut *cx.edits,
        inject: &mut *cx.inject,
        events: &mut *cx.events,
        at_end: cx.at_end,
    };
    alg.inspect(direction, input, &mut inner)
}

/// What is left of a verdict in shadow.
const fn without_effect(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Pass | Verdict::Rewrite | Verdict::Remove | Verdict::Terminate => Verdict::Pass,
        Verdict::Opaque => Verdict::Opaque,
        Verdict::Detach => Verdict::Detach,
    }
}

/// A NAT that announces the owner's address as its peer sees it, with the port asked for, and reserves nothing.
struct PretendedNat<'a> {
    endpoints: &'a SessionEndpoints,
    pretended: &'a mut u64,
}

impl PretendedNat<'_> {
    fn announce(&mut self, owner: Direction, target: SocketAddrV4) -> Announced {
        *self.pretended += 1;
        let (own, seen) = (self.endpoints.sender(owner), self.endpoints.sender_seen(owner));
        let endpoint = if target == own { seen } else { SocketAddrV4::new(*seen.ip(), target.port()) };
        Announced { id: ExpectationId(*self.pretended), endpoint }
    }
}

impl Nat for PretendedNat<'_> {
    fn expect(&mut self, request: &Expectation) -> Result<Announced, ExpectError> {
        Ok(self.announce(request.owner, request.target))
    }

    fn expect_pair(&mut self, request: &Expectation) -> Result<[Announced; 2], ExpectError> {
        let port = request.target.port().checked_add(1).ok_or(ExpectError::PoolExhausted)?;
        let upper = SocketAddrV4::new(*request.target.ip(), port);
        Ok([self.announce(request.owner, request.target), self.announce(request.owner, upper)])
    }

    fn renew(&mut self, _: ExpectationId, _: Duration, _: Option<Peer>) -> bool {
        true
    }

    fn withdraw(&mut self, _: ExpectationId) {}
}

fn write_edited(message: &[u8], edits: &Edits, into: &mut Vec<u8>) {
    let mut at = 0;
    for (range, with) in edits.iter() {
        push(into, message.get(at..range.start).unwrap_or_default());
        push(into, with);
        at = range.end;
    }
    push(into, message.get(at..).unwrap_or_default());
}

/// As far as the memory goes.
fn push(into: &mut Vec<u8>, bytes: &[u8]) {
    let room = into.capacity() - into.len();
    into.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}
