//! The contract between an ALG and the stage that runs it.
//!
//! The stage feeds each direction of a control session from its first byte, in order, without gaps.
//! It shows the ALG the undecided bytes of one direction and gets back a [`Step`]: wait for more, or
//! one complete message with its [`Verdict`]. Bytes that have a verdict are never shown again. A
//! verdict in one direction may free what the ALG holds in the other (a reply tells how to read the
//! commands behind it): after each, the stage shows the other direction's undecided bytes again,
//! before it goes on in this one.
//!
//! Over UDP each datagram is shown once, whole and with `at_end` set. It is one message: an answer of another
//! length than the datagram's, or [`Step::Incomplete`], passes it unchanged. An injection is a datagram of its own, and
//! [`Verdict::Remove`] drops the one shown.
//!
//! Invariants an ALG keeps:
//! - *Deterministic*: the same bytes in the same order give the same steps, whatever the
//!   segmentation. [`Step::Incomplete`] changes no state and asks for nothing. Only what is not read
//!   (the rest of a line over the limit, [`Verdict::Detach`]) is decided in the pieces it comes in.
//! - *Progress*: a message is at least one byte long, at most as long as the input.
//! - *Bounded work*: a constant number of passes over the input.
//! - *No panic* on any input; all reads are checked.
//! - *Counting* is the ALG's: the stage counts no [`Event`] of its own.

mod event;
mod nat;
mod output;
mod policy;

use std::net::SocketAddrV4;

pub use event::{Event, Events};
pub use nat::{Announced, ExpectError, Expectation, ExpectationId, Nat, Peer, Protocol};
pub use output::{Edits, Injections};
pub use policy::{AllowAll, Policy, Ruling, Subject};

/// Direction relative to the session's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the end that sent the first packet.
    Original,
    /// Towards it.
    Reply,
}

impl Direction {
    /// The other direction.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// The addresses of a control session, as each end knows them. Ends that are not translated have
/// `own == seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEndpoints {
    /// The originator's endpoint as the originator itself knows it.
    pub originator: SocketAddrV4,
    /// The originator's endpoint as the responder sees it.
    pub originator_seen: SocketAddrV4,
    /// The responder's endpoint as the responder itself knows it.
    pub responder: SocketAddrV4,
    /// The responder's endpoint as the originator sees it.
    pub responder_seen: SocketAddrV4,
}

impl SessionEndpoints {
    /// The endpoint of whoever sends in `direction`, as the sender itself knows it.
    #[inline]
    #[must_use]
    pub const fn sender(&self, direction: Direction) -> SocketAddrV4 {
        match direction {
            Direction::Original => self.originator,
            Direction::Reply => self.responder,
        }
    }

    /// The endpoint of whoever sends in `direction`, as the other end sees it.
    #[inline]
    #[must_use]
    pub const fn sender_seen(&self, direction: Direction) -> SocketAddrV4 {
        match direction {
            Direction::Original => self.originator_seen,
            Direction::Reply => self.responder_seen,
        }
    }
}

/// One ALG instance: the dialogue state of one control session.
pub trait Alg: Send {
    /// Looks at the undecided bytes of one `direction`. `input` starts where the last verdict of this
    /// direction ended (or at byte 0) and is not empty. `at_end` is set when nothing can follow
    /// (FIN seen, or the bound on held bytes reached): [`Step::Incomplete`] is then not accepted and
    /// the stage passes the bytes unchanged.
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step;
}

/// What an ALG found at the head of the undecided bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No complete message yet: hold the bytes and show them again with more behind them.
    Incomplete,
    /// The first `length` bytes are one message (or text that needs no reading) with this verdict.
    Message {
        /// Bytes decided, 1 to the length of the input.
        length: usize,
        /// What happens to them.
        verdict: Verdict,
    },
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on unchanged.
    Pass,
    /// It goes on with the replacements left in [`Context::edits`].
    Rewrite,
    /// It is taken out of the stream; an error reply, if any, was left in [`Context::inject`].
    Remove,
    /// It goes on unchanged, and nothing after it is read in either direction (AUTH TLS accepted).
    Opaque,
    /// This is not the protocol: it goes on unchanged, nothing after it is read in either direction,
    /// and every unused expectation of the session is withdrawn.
    Detach,
    /// The session is reset towards both ends.
    Terminate,
}

/// Where an ALG leaves what it wants done, valid for one call of [`Alg::inspect`].
pub struct Context<'a> {
    /// Addresses of the control session.
    pub endpoints: &'a SessionEndpoints,
    /// What the ALG may ask of NAT.
    pub nat: &'a mut dyn Nat,
    /// What the operator allows.
    pub policy: &'a mut dyn Policy,
    /// Replacements inside the message, for [`Verdict::Rewrite`].
    pub edits: &'a mut Edits,
    /// Bytes to add to a stream.
    pub inject: &'a mut Injections,
    /// Counters.
    pub events: &'a mut Events,
    /// Nothing can follow these bytes: [`Step::Incomplete`] is not accepted.
    pub at_end: bool,
}
