//! Who goes on from an announced endpoint, and has begun from another one.
//!
//! A phone that is called speaks before its answer has told which port is its own: it has a session by rule then, from a
//! port that nobody was told. When the answer has passed, an expected session takes its place: what the phone sends
//! leaves from the announced endpoint. The other end may follow the first port for a while (phones do for ten packets),
//! so over UDP the first session is still found by what comes to it, until it is idle. A TCP connection that was begun
//! has one way only, and ends.
//!
//! The expected session is made by the first packet to the announced endpoint, or as soon as both ends' descriptions are
//! known ([`Nat::go_on`]): a far end that waits to be spoken to, and heeds no port but the announced one, is heard at once.

use algate_alg::Direction;

use crate::nat::expectation::UNLIMITED;
use crate::nat::key::{Endpoint, FlowKey};
use crate::nat::mapping::{Filtering, Hold};
use crate::nat::session::{Facing, NewSession, Session};
use crate::nat::tcp_state::TcpState;
use crate::nat::{Nat, NatWorker};
use crate::packet::PROTOCOL_UDP;
use crate::table::slots::Handle;
use crate::time::Instant;

impl Nat {
    /// What the expectation's target has begun to send to `remote`, both as it knows them, leaves from the announced endpoint
    /// from now on. Nothing happens where there is no such session, or it must stay.
    pub fn go_on(&self, worker: &mut NatWorker, expectation: Handle, remote: Endpoint, now: Instant) {
        if !self.expectations.is_waiting(expectation) {
            return;
        }
        let Some(expected) = self.expectations.expectation(expectation.index) else { return };
        let key = FlowKey::new(expected.protocol, expected.target, remote);
        let found = self.sessions.find(self.sessions.hash(key), key);
        let Some((begun, Facing::Internal)) = found else { return };
        let (Some(mapping), UNLIMITED, PROTOCOL_UDP) = (expected.mapping, expected.uses, expected.protocol)
        else {
            return;
        };
        let external_key = FlowKey::new(expected.protocol, begun.external_key().source(), expected.announced);
        let is_elsewhere = begun.external_key() != external_key;
        if !is_elsewhere || !self.may_give_way(&begun) || !self.mappings.acquire(mapping, Hold::Firm) {
            return;
        }
        let [_, remote_mapping] = begun.mappings();
        let remote_mapping = remote_mapping.filter(|mapping| self.mappings.acquire(*mapping, Hold::Firm));
        let Ok(seat) = self.seat(worker, expected.protocol, expected.target.host(), now) else {
            self.release_mapping(worker, Some(mapping), Hold::Firm);
            self.release_mapping(worker, remote_mapping, Hold::Firm);
            return;
        };
        let new = NewSession {
            mapping: Some(mapping),
            remote_mapping,
            parent: Some(expected.parent),
            ..NewSession::between(
                (key, begun.next_hop(Facing::External)),
                (external_key, begun.next_hop(Facing::Internal)),
                seat.subscriber,
            )
        };
        self.sessions.let_go(&begun);
        if self.create(worker, &new, seat, now).is_err() {
            self.sessions.take_back(&begun);
        }
    }

    /// What an ALG has reserved for the sender of `key` beside its mapping by rule, and announced to the receiver.
    #[inline]
    pub(super) fn acquire_announced(&self, worker: &mut NatWorker, key: FlowKey, pool: usize) -> Option<u32> {
        let index = self.acquire_apart(key.protocol(), key.source(), pool)?;
        let announced = self.mappings.external_of(index);
        let is_told = announced.is_some_and(|announced| {
            self.expectations.awaits(key.protocol(), announced, key.destination().address)
        });
        if !is_told {
            self.release_mapping(worker, Some(index), Hold::Firm);
        }
        is_told.then_some(index)
    }

    /// Whether `begun` keeps the expected session `new` out: the same flow of the same host, begun by it before the
    /// announcement had passed, and so from another external endpoint.
    pub(super) fn gives_way(&self, begun: &Session<'_>, new: &NewSession) -> bool {
        let answer = match new.initiator {
            Facing::Internal => new.external_key,
            Facing::External => new.internal_key,
        };
        new.parent.is_some()
            && begun.internal_key() == answer
            && begun.external_key() != new.external_key
            && self.may_give_way(begun)
    }

    /// Makes room for an expected session that has the flow of `begun`.
    pub(super) fn give_way(&self, worker: &mut NatWorker, begun: &Session<'_>, now: Instant) {
        match begun.internal_key().protocol() {
            PROTOCOL_UDP => self.sessions.let_go(begun),
            _ => self.end(worker, begun, now),
        }
    }

    /// A session of the host's own making, by rule. A connection that is established stays.
    fn may_give_way(&self, begun: &Session<'_>) -> bool {
        let [own, _] = begun.mappings();
        let is_by_rule = own
            .and_then(|own| self.mappings.filtering_of(own))
            .is_some_and(|filtering| filtering != Filtering::Expected);
        begun.facing(Direction::Original) == Facing::Internal
            && is_by_rule
            && !begun.is_alg()
            && begun.tcp_state().is_none_or(|state| state == TcpState::Init)
    }
}
