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

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

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
    #[must_use]
    pub const fn sender(&self, direction: Direction) -> SocketAddrV4 {
        match direction {
            Direction::Original => self.originator,
            Direction::Reply => self.responder,
        }
    }

    /// The endpoint of whoever sends in `direction`, as the other end sees it.
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

/// What the operator allows an ALG's users to do.
pub trait Policy {
    /// Judges one message. Counting, logging and alarms are the policy's own.
    fn judge(&mut self, subject: &Subject<'_>) -> Ruling;

    /// The same for a message whose argument is not all there: what might be refused is.
    fn judge_cut(&mut self, subject: &Subject<'_>) -> Ruling {
        self.judge(subject)
    }

    /// Judges a message once more that was allowed, or is none that is judged, and then turns out not to be readable.
    fn judge_unreadable(&mut self, subject: &Subject<'_>) -> Ruling {
        let _ = subject;
        Ruling::Allow
    }

    /// Whether [`Policy::masks`] may ever say yes: where not, nobody looks for such texts.
    fn may_mask(&self) -> bool {
        false
    }

    /// Whether a text that an end says about itself is hidden from the other one. The subject's command is the
    /// command that is answered, or the header it stands in; the argument is the text.
    fn masks(&mut self, subject: &Subject<'_>) -> bool {
        let _ = subject;
        false
    }
}

/// A message as policy rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Who sends it.
    pub direction: Direction,
    /// The command or method, as it came: `RETR`, `INVITE`, `SETUP`, `DCC SEND`.
    pub command: &'a [u8],
    /// What it is about: a path, a request URI, a file name. May be empty.
    pub argument: &'a [u8],
    /// The user, as far as the dialogue has proved one. May be empty.
    pub user: &'a [u8],
}

/// What a [`Policy`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// Read on.
    Allow,
    /// Refuse it with the protocol's own error reply.
    Deny,
    /// Take it out without a word.
    Drop,
}

/// No rules: everything is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn judge(&mut self, _subject: &Subject<'_>) -> Ruling {
        Ruling::Allow
    }
}

/// Replacements inside one message, in ascending order. Memory is taken once and reused.
#[derive(Debug)]
pub struct Edits {
    items: Vec<(Range<usize>, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Edits {
    /// Room for `items` replacements of `bytes` new bytes in all.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self { items: Vec::with_capacity(items), bytes: Vec::with_capacity(bytes) }
    }

    /// Replaces `range` of the message by `with`. Returns `false`, and changes nothing, when the
    /// room taken at start is used up or `range` does not lie behind the previous one.
    #[must_use]
    pub fn replace(&mut self, range: Range<usize>, with: &[u8]) -> bool {
        let behind = self.items.last().is_none_or(|(last, _)| last.end <= range.start);
        let fits = self.items.len() < self.items.capacity()
            && self.bytes.len() + with.len() <= self.bytes.capacity();
        if !behind || !fits || range.start > range.end {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(with);
        self.items.push((range, start..self.bytes.len()));
        true
    }

    /// As [`Edits::replace`], but anywhere between the others. Returns `false`, and changes nothing, when the room is
    /// used up or `range` meets that of another replacement.
    #[must_use]
    pub fn insert(&mut self, range: Range<usize>, with: &[u8]) -> bool {
        let place = self.items.iter().position(|(other, _)| other.start >= range.end);
        let place = place.unwrap_or(self.items.len());
        let before = place.checked_sub(1).and_then(|place| self.items.get(place));
        let is_free = before.is_none_or(|(other, _)| other.end <= range.start);
        let fits = self.items.len() < self.items.capacity()
            && self.bytes.len() + with.len() <= self.bytes.capacity();
        if !is_free || !fits || range.start > range.end {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(with);
        self.items.insert(place, (range, start..self.bytes.len()));
        true
    }

    /// Each replaced range with its new bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[u8])> {
        self.items.iter().map(|(range, at)| (range.clone(), self.bytes.get(at.clone()).unwrap_or_default()))
    }

    /// Forgets all replacements, keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}

/// Bytes an ALG adds to a stream, at the place the stream of that direction has reached: behind the
/// message being decided when it is of that direction, else behind the last decided one.
#[derive(Debug)]
pub struct Injections {
    items: Vec<(Direction, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Injections {
    /// Room for `items` injections of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self { items: Vec::with_capacity(items), bytes: Vec::with_capacity(bytes) }
    }

    /// Adds `bytes` to the stream of `direction`. Returns `false`, and adds nothing, when the room
    /// taken at start is used up.
    #[must_use]
    pub fn push(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        if self.items.len() == self.items.capacity() || self.bytes.len() + bytes.len() > self.bytes.capacity()
        {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.items.push((direction, start..self.bytes.len()));
        true
    }

    /// Each injection in the order it was asked for.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, &[u8])> {
        self.items.iter().map(|(direction, at)| (*direction, self.bytes.get(at.clone()).unwrap_or_default()))
    }

    /// Forgets all injections, keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}

/// What an ALG counts. One list for all protocols; `show counters` prints [`Event::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// A message left with its addresses translated.
    Rewritten,
    /// A message names an address that is not its sender's own: nothing opened.
    ForeignAddress,
    /// A message names a port below 1024: nothing opened.
    PrivilegedPort,
    /// A message names port 0: nothing opened.
    PortZero,
    /// A line is longer than the limit: passed, not read.
    LineTooLong,
    /// A command of this protocol that does not parse: passed, nothing opened.
    Malformed,
    /// NAT refused the expectation: nothing opened.
    ExpectationRefused,
    /// The session turned opaque (TLS).
    Opaque,
    /// The first bytes were not the protocol's: no longer read.
    Detached,
    /// A message was taken out of the stream.
    Removed,
    /// The dialogue does not allow this message here: passed, nothing opened.
    OutOfPlace,
    /// More commands without a reply than are tracked: no longer read.
    TooManyOutstanding,
    /// Policy refused a message.
    Denied,
    /// A rewritten message did not read back as meant: the original passed.
    RecheckFailed,
    /// Policy hid what an end said about itself.
    Masked,
}

impl Event {
    /// All events, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Rewritten,
        Self::ForeignAddress,
        Self::PrivilegedPort,
        Self::PortZero,
        Self::LineTooLong,
        Self::Malformed,
        Self::ExpectationRefused,
        Self::Opaque,
        Self::Detached,
        Self::Removed,
        Self::OutOfPlace,
        Self::TooManyOutstanding,
        Self::Denied,
        Self::RecheckFailed,
        Self::Masked,
    ];

    /// The name in counters and logs.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::ForeignAddress => "foreign_address",
            Self::PrivilegedPort => "privileged_port",
            Self::PortZero => "port_zero",
            Self::LineTooLong => "line_too_long",
            Self::Malformed => "malformed",
            Self::ExpectationRefused => "expectation_refused",
            Self::Opaque => "opaque",
            Self::Detached => "detached",
            Self::Removed => "removed",
            Self::OutOfPlace => "out_of_place",
            Self::TooManyOutstanding => "too_many_outstanding",
            Self::Denied => "denied",
            Self::RecheckFailed => "recheck_failed",
            Self::Masked => "masked",
        }
    }
}

/// Counts of [`Event`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    counts: [u64; Event::ALL.len()],
}

impl Events {
    /// Counts one `event`.
    pub fn count(&mut self, event: Event) {
        if let Some(count) = self.counts.get_mut(event as usize) {
            *count += 1;
        }
    }

    /// How often `event` happened.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.counts.get(event as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_their_order_and_their_room() {
        let mut edits = Edits::with_capacity(2, 8);
        let (items, bytes) = (edits.items.capacity(), edits.bytes.capacity());
        for _ in 0..3 {
            assert!(edits.replace(2..4, b"abc"));
            assert!(!edits.replace(3..5, b"d"), "overlaps the one before");
            assert!(!edits.replace(1..1, b"d"), "before the one before");
            #[expect(clippy::reversed_empty_ranges, reason = "what a careless caller passes")]
            let reversed = 9..5;
            assert!(!edits.replace(reversed, b"d"));
            assert!(!edits.replace(4..5, &vec![b'd'; bytes]), "more bytes than there is room");
            assert!(edits.replace(4..4, b""));
            let seen: Vec<_> = edits.iter().collect();
            assert_eq!(seen, [(2..4, &b"abc"[..]), (4..4, b"")]);
            for at in 5..5 + items {
                let _ = edits.replace(at..at, b"");
            }
            assert_eq!((edits.items.capacity(), edits.bytes.capacity()), (items, bytes), "memory was taken");
            edits.clear();
            assert_eq!(edits.iter().count(), 0);
        }
    }

    #[test]
    fn an_edit_is_inserted_where_no_other_is() {
        let mut edits = Edits::with_capacity(4, 8);
        assert!(edits.replace(4..6, b"b"));
        assert!(edits.insert(8..9, b"c") && edits.insert(0..4, b"a"));
        for taken in [0..1, 3..5, 5..6, 5..9, 4..6] {
            assert!(!edits.insert(taken.clone(), b""), "{taken:?}");
        }
        assert!(!edits.insert(20..21, b"123456"), "more bytes than there is room");
        assert!(edits.insert(6..8, b"d"));
        assert!(!edits.insert(20..21, b""), "more than there is room");
        let seen: Vec<_> = edits.iter().collect();
        assert_eq!(seen, [(0..4, &b"a"[..]), (4..6, b"b"), (6..8, b"d"), (8..9, b"c")]);
    }

    #[test]
    fn injections_keep_their_order_and_their_room() {
        let mut inject = Injections::with_capacity(2, 8);
        let (items, bytes) = (inject.items.capacity(), inject.bytes.capacity());
        for _ in 0..3 {
            assert!(inject.push(Direction::Reply, b"500 "));
            assert!(inject.push(Direction::Original, b"x"));
            assert!(!inject.push(Direction::Reply, &vec![b'x'; bytes]), "more bytes than there is room");
            let seen: Vec<_> = inject.iter().collect();
            assert_eq!(seen, [(Direction::Reply, &b"500 "[..]), (Direction::Original, b"x")]);
            for _ in 0..items {
                let _ = inject.push(Direction::Reply, b"");
            }
            assert_eq!(
                (inject.items.capacity(), inject.bytes.capacity()),
                (items, bytes),
                "memory was taken"
            );
            inject.clear();
            assert_eq!(inject.iter().count(), 0);
        }
    }

    #[test]
    fn every_event_has_a_count_and_a_name_of_its_own() {
        let mut events = Events::default();
        for (index, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, index);
            for _ in 0..=index {
                events.count(event);
            }
            assert_eq!(events.of(event), index as u64 + 1);
            assert_eq!(Event::ALL.iter().filter(|other| other.text() == event.text()).count(), 1);
        }
    }
}
