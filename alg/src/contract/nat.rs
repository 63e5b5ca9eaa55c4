//! What an ALG asks of NAT: endpoints to announce, and permission for the flows that come there.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::Direction;

/// What an ALG asks of NAT.
pub trait Nat {
    /// Reserves a mapping for a coming flow. Returns the endpoint that must be announced to the
    /// peer; it equals `request.target` where that end is not translated. Asked again for the target of
    /// an unused expectation, NAT may return that one.
    ///
    /// # Errors
    /// [`ExpectError`] says why nothing was reserved.
    fn expect(&mut self, request: &Expectation) -> Result<Announced, ExpectError>;

    /// As [`Nat::expect`], for two flows with adjacent ports: the target and the next port above it. The
    /// announced ports are adjacent, too, and the lower one is even (RTP and RTCP, RFC 3550 section 11).
    ///
    /// # Errors
    /// As [`Nat::expect`]; nothing is reserved then, not even one of the two.
    fn expect_pair(&mut self, request: &Expectation) -> Result<[Announced; 2], ExpectError>;

    /// Gives an expectation `lifetime` more from now on, and a new peer where one is given (the address that
    /// an answer names). Returns whether it still exists.
    fn renew(&mut self, expectation: ExpectationId, lifetime: Duration, peer: Option<Peer>) -> bool;

    /// Withdraws an expectation that no flow has used yet; one already used or gone is left alone.
    fn withdraw(&mut self, expectation: ExpectationId);

    /// Says that signalling comes to an expectation: flows from and to what it announces are control sessions of this
    /// one's protocol, whatever their ports.
    fn mark_control(&mut self, expectation: ExpectationId) {
        let _ = expectation;
    }

    /// Says that the owner of an expectation may have begun to speak to `remote` before its endpoint was announced: from
    /// now on such packets leave from there.
    fn go_on(&mut self, expectation: ExpectationId, remote: SocketAddrV4) {
        let _ = (expectation, remote);
    }

    /// The host and port behind `announced`, where some ALG has announced it and the sender of `reader` is in the same
    /// network as that host.
    fn internal_of(
        &self,
        protocol: Protocol,
        announced: SocketAddrV4,
        reader: Direction,
    ) -> Option<SocketAddrV4> {
        let _ = (protocol, announced, reader);
        None
    }
}

/// Names one expectation of the control session, or of another one between the same two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExpectationId(pub u64);

/// A reserved expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub id: ExpectationId,
    /// Where the peer must connect to.
    pub endpoint: SocketAddrV4,
}

/// Permission for a coming flow: from `peer` to `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// Transport protocol of the coming flow.
    pub protocol: Protocol,
    /// Which end of the control session owns `target`: the sender in this direction.
    pub owner: Direction,
    /// Where the flow shall arrive, as its owner knows itself. The address is the owner's, or that of a host
    /// in the owner's network for which the operator lets it speak. With
    /// [`Protocol::Gre`] the port is the call id.
    pub target: SocketAddrV4,
    /// Who may come.
    pub peer: Peer,
    /// The peer's source port, or `None` for any.
    pub peer_l4_port: Option<u16>,
    /// How many flows it admits; `u16::MAX`: as many as come.
    pub uses: u16,
    /// How long it waits for the first one; where it admits as many as come, how long it lasts.
    pub lifetime: Duration,
}

/// Who may use an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The other end of the control session.
    OtherEnd,
    /// A host that the other end has named, as algate's side of it sees it.
    Address(Ipv4Addr),
    /// Whoever the filtering of the mapping lets in: the expectation only keeps the mapping alive.
    ByFiltering,
    /// Anyone. Only for a protocol that never says who will come (DCC of IRC), for a single flow, and as far
    /// as the operator's settings allow it.
    Any,
}

/// Transport protocol of an expected flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// Enhanced GRE, RFC 2637
    Gre,
}

/// Why an expectation was refused. What becomes of the message is the ALG's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectError {
    /// This control session, or its subscriber, has as many outstanding as it may.
    SessionBudget,
    /// The table of expectations is full.
    TableFull,
    /// No external port, or pair of them, is free on the session's external address.
    PoolExhausted,
    /// The target is the port of a service that is never opened to the world.
    ServicePort,
}
