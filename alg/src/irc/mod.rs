//! IRC (RFC 1459, RFC 2812) with DCC, the file transfers and chats that two users hold without the server.
//!
//! Reads both directions of a client's session with its server line by line, rewrites the endpoint in a DCC
//! offer of the client, and asks NAT to admit the one TCP session that follows. RESUME and ACCEPT name an
//! offer's port again and are translated with it, in both directions.
//!
//! What it holds on to:
//! - *First bytes decide.* A client begins with a command of the registration, a server with a prefix or one
//!   of the few commands that servers send without. Anything else (HTTP, TLS) is detached for good.
//! - *CTCP at its place only* (see [`message`]), and only after the server has welcomed the client (001):
//!   before, no client can send to another (RFC 2812 section 3.1). What looks like DCC elsewhere in a client's line is
//!   counted.
//! - *Only a client offers.* What the server passes on was written by some other user. An offer in it names
//!   that user's own, public endpoint; if it names an internal server's address, a stranger wrote that, and
//!   nothing is opened.
//! - *Own endpoints only*: the address is the client's own, the port not below 1024. Anything else passes
//!   unchanged and opens nothing.
//! - *Passive offers* (port 0 and a token) open nothing; of the client's own, the address is translated. The
//!   endpoint that answers is an offer like any other.
//! - *No line beyond 512 bytes* by our doing: a server cuts it (RFC 2812 section 2.3).
//!
//! Who will connect cannot be known: the other user's address never passes here. By default anyone may, once
//! and within the lifetime; [`DccPeer::Server`] narrows it to the server, which suits bots that run there.
//!
//! ```text
//! state        client line                server line             becomes
//! Start        empty: pass                first is no IRC: detach Start
//!              registration: pass                                 Registering
//!              other: detach                                      Done
//! Registering  pass, DCC opens nothing    001                     Welcomed
//! Welcomed     DCC offers, ACCEPT         RESUME                  Welcomed
//! any of these STARTTLS                   670 answers it          Done (opaque)
//!              binary: detach             binary: detach          Done
//! Done         pass, unread               pass, unread            Done
//! ```
//!
//! Policy judges each client line by its command and first parameter, and DCC in both directions by `DCC` with
//! its type and the name of the file. A refused line is taken out, and the client reads a NOTICE. A line over the limit is
//! judged by its head: what might be refused is, with its rest.
//!
//! Not here: TLS from the first byte (port 6697), XMIT and other DCC types, more than eight offers at a time
//! (the oldest is withdrawn).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use crate::contract::{
    Alg, Announced, Context, Direction, Event, Expectation, ExpectationId, Peer, Protocol, Ruling, Step,
    Subject, Verdict,
};
use crate::decimal::Text;
use crate::framing::{Framed, LineFramer};

use dcc::{Body, Dcc, Offer, OfferError, Port};
use message::Message;

mod dcc;
mod message;
#[cfg(test)]
mod tests;

/// How IRC is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IrcSettings {
    /// The longest line that is read, with its end. Must be below what the stream layer holds of one
    /// direction. Longer ones pass; of their addresses nothing is read.
    pub line_bytes: usize,
    /// How long the other user may take to accept an offer.
    pub expectation_lifetime: Duration,
    /// Who may connect to an offered endpoint.
    pub peer: DccPeer,
}

/// Who may connect to an endpoint offered by DCC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DccPeer {
    /// Anyone, because the other user's address is unknown.
    Any,
    /// Only the server's host.
    Server,
}

impl Default for IrcSettings {
    fn default() -> Self {
        Self {
            // Tags of 4,096 bytes and a message of 512.
            line_bytes: 4608,
            expectation_lifetime: Duration::from_secs(300),
            peer: DccPeer::Any,
        }
    }
}

/// The dialogue of one IRC session. The client is the session's originator.
#[derive(Debug)]
pub struct Irc {
    expectation_lifetime: Duration,
    peer: DccPeer,
    client_lines: LineFramer,
    server_lines: LineFramer,
    state: State,
    /// The server's first line has been read.
    server_opened: bool,
    /// What the server has sent does not end with a line.
    server_mid_line: bool,
    /// What follows of a line that was not all there goes the way of its head: out. By direction.
    rest_removed: [bool; 2],
    /// The client has sent STARTTLS.
    tls_asked: bool,
    offers: [Option<Offered>; OFFERS],
    /// The slot of the offer that gives way to the next one.
    oldest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Registering,
    Welcomed,
    Done,
}

/// How much of a line could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// All of it.
    Whole,
    /// Its head, for it is not all there.
    Cut,
    /// All but its DCC, which does not parse.
    Malformed,
}

/// An offer that RESUME and ACCEPT may name again.
#[derive(Debug, Clone, Copy)]
struct Offered {
    own_l4_port: u16,
    announced_l4_port: u16,
    expectation: ExpectationId,
}

/// Offers of one client that are kept.
const OFFERS: usize = 8;

impl Irc {
    /// The ALG of a session at byte 0 of both directions. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: IrcSettings) -> Self {
        Self {
            expectation_lifetime: settings.expectation_lifetime,
            peer: settings.peer,
            client_lines: LineFramer::new(settings.line_bytes),
            server_lines: LineFramer::new(settings.line_bytes),
            state: State::Start,
            server_opened: false,
            server_mid_line: false,
            rest_removed: [false; 2],
            tls_asked: false,
            offers: [None; OFFERS],
            oldest: 0,
        }
    }

    fn inspect_client(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        match self.client_lines.next(input, cx.at_end) {
            Framed::Incomplete if self.client_may_start(input) => Step::Incomplete,
            Framed::Incomplete => self.leave(input, cx),
            Framed::Line { text, length } => {
                let is_opening = self.state != State::Start || message::is_client_opening(text);
                if text.is_empty() {
                    Step::Message { length, verdict: Verdict::Pass }
                } else if is_opening && !is_binary(text) {
                    Step::Message { length, verdict: self.on_client_line(text, length, cx) }
                } else {
                    self.leave(input, cx)
                }
            }
            Framed::TooLong { head } | Framed::Cut { head } if !self.client_may_start(head) => {
                self.leave(head, cx)
            }
            Framed::TooLong { head } => {
                self.open_dialogue();
                cx.events.count(Event::LineTooLong);
                self.on_head(Direction::Original, head, cx)
            }
            Framed::Cut { head } => self.on_head(Direction::Original, head, cx),
            Framed::Rest { length } => self.on_rest(Direction::Original, length),
        }
    }

    fn inspect_server(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        let step = match self.server_lines.next(input, cx.at_end) {
            Framed::Incomplete if self.server_may_start(input) => return Step::Incomplete,
            Framed::Incomplete => return self.leave(input, cx),
            Framed::Line { text, length } => {
                let is_opening = self.server_opened || message::is_server_opening(text);
                if text.is_empty() {
                    Step::Message { length, verdict: Verdict::Pass }
                } else if is_opening && !is_binary(text) {
                    self.server_opened = true;
                    Step::Message { length, verdict: self.on_server_line(text, cx) }
                } else {
                    return self.leave(input, cx);
                }
            }
            Framed::TooLong { head } | Framed::Cut { head } if !self.server_may_start(head) => {
                return self.leave(head, cx);
            }
            Framed::TooLong { head } => {
                self.server_opened = true;
                cx.events.count(Event::LineTooLong);
                self.on_head(Direction::Reply, head, cx)
            }
            Framed::Cut { head } => self.on_head(Direction::Reply, head, cx),
            Framed::Rest { length } => self.on_rest(Direction::Reply, length),
        };
        if let Step::Message { length, verdict } = step {
            let ends = input.get(..length).is_some_and(|message| message.ends_with(b"\n"));
            self.server_mid_line = !ends && verdict != Verdict::Remove;
        }
        step
    }

    /// The head of a line that is not all there: nothing is opened for it.
    fn on_head(&mut self, direction: Direction, head: &[u8], cx: &mut Context<'_>) -> Step {
        let ruled = message::parse(head).and_then(|message| {
            let dcc = message.ctcp.clone().and_then(|at| dcc::parse(head, at));
            self.judge(Reading::Cut, direction, head, &message, dcc.as_ref(), cx)
        });
        *self.rest_removed(direction) = ruled.is_some();
        Step::Message { length: head.len(), verdict: ruled.unwrap_or(Verdict::Pass) }
    }

    fn on_rest(&mut self, direction: Direction, length: usize) -> Step {
        let verdict = if *self.rest_removed(direction) { Verdict::Remove } else { Verdict::Pass };
        Step::Message { length, verdict }
    }

    fn rest_removed(&mut self, direction: Direction) -> &mut bool {
        let [original, reply] = &mut self.rest_removed;
        match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }
    }

    fn client_may_start(&self, start: &[u8]) -> bool {
        if self.state == State::Start { message::may_open_client(start) } else { !is_binary(start) }
    }

    fn server_may_start(&self, start: &[u8]) -> bool {
        if self.server_opened { !is_binary(start) } else { message::may_open_server(start) }
    }

    fn open_dialogue(&mut self) {
        if self.state == State::Start {
            self.state = State::Registering;
        }
    }

    fn on_client_line(&mut self, line: &[u8], length: usize, cx: &mut Context<'_>) -> Verdict {
        self.open_dialogue();
        let Some(message) = message::parse(line) else {
            count_misplaced(line, None, cx);
            return Verdict::Pass;
        };
        let dcc = message.ctcp.clone().and_then(|at| dcc::parse(line, at));
        if let Some(verdict) =
            self.judge(Reading::Whole, Direction::Original, line, &message, dcc.as_ref(), cx)
        {
            return verdict;
        }
        count_misplaced(line, message.ctcp.as_ref(), cx);
        if message.command.eq_ignore_ascii_case(b"STARTTLS") {
            self.tls_asked = true;
        }
        let room = (MESSAGE_LIMIT + message.tags_end).saturating_sub(length);
        if dcc.as_ref().is_some_and(Dcc::is_malformed)
            && let Some(verdict) =
                self.judge(Reading::Malformed, Direction::Original, line, &message, dcc.as_ref(), cx)
        {
            cx.events.count(Event::Malformed);
            return verdict;
        }
        match dcc.map(|dcc| dcc.body) {
            Some(Body::Offer(_) | Body::Accept(_)) if self.state != State::Welcomed => {
                refuse(Event::OutOfPlace, cx)
            }
            Some(Body::Offer(Ok(offer))) => self.on_offer(&offer, room, cx),
            Some(Body::Offer(Err(OfferError::Malformed)) | Body::Accept(None)) => {
                refuse(Event::Malformed, cx)
            }
            Some(Body::Offer(Err(OfferError::OtherFamily))) => refuse(Event::ForeignAddress, cx),
            Some(Body::Accept(Some(port))) => {
                let offer = self.find(|offer| offer.own_l4_port == port.l4_port);
                write_port(&port, offer.map(|offer| offer.announced_l4_port), room, cx)
            }
            Some(Body::Resume(_) | Body::Other) | None => Verdict::Pass,
        }
    }

    fn on_server_line(&mut self, line: &[u8], cx: &mut Context<'_>) -> Verdict {
        let Some(message) = message::parse(line) else { return Verdict::Pass };
        match message.command {
            WELCOME if self.state == State::Registering => self.state = State::Welcomed,
            TLS_STARTS if self.tls_asked => {
                self.state = State::Done;
                cx.events.count(Event::Opaque);
                return Verdict::Opaque;
            }
            _ => {}
        }
        let Some(dcc) = message.ctcp.clone().and_then(|at| dcc::parse(line, at)) else {
            return Verdict::Pass;
        };
        let ruled = self.judge(Reading::Whole, Direction::Reply, line, &message, Some(&dcc), cx);
        if let Some(verdict) = ruled {
            return verdict;
        }
        if dcc.is_malformed()
            && let Some(verdict) =
                self.judge(Reading::Malformed, Direction::Reply, line, &message, Some(&dcc), cx)
        {
            cx.events.count(Event::Malformed);
            return verdict;
        }
        match dcc.body {
            Body::Resume(Some(port)) => {
                let offer = self.find(|offer| offer.announced_l4_port == port.l4_port);
                write_port(&port, offer.map(|offer| offer.own_l4_port), usize::MAX, cx)
            }
            Body::Resume(None) => refuse(Event::Malformed, cx),
            Body::Offer(_) | Body::Accept(_) | Body::Other => Verdict::Pass,
        }
    }

    /// `None`: read on.
    fn judge(
        &self,
        reading: Reading,
        direction: Direction,
        line: &[u8],
        message: &Message<'_>,
        dcc: Option<&Dcc>,
        cx: &mut Context<'_>,
    ) -> Option<Verdict> {
        let text = |at: &Range<usize>| line.get(at.clone()).unwrap_or_default();
        let (command, argument) =
            dcc.map_or((message.command, message.parameter), |dcc| (text(&dcc.command), text(&dcc.name)));
        let subject = Subject { direction, command, argument, user: b"" };
        let ruling = match (reading, direction) {
            (Reading::Whole, _) => cx.policy.judge(&subject),
            (Reading::Cut, Direction::Original) => cx.policy.judge_cut(&subject),
            // Of a server's lines only DCC is judged as long as they can be read.
            (Reading::Cut, Direction::Reply) | (Reading::Malformed, _) => {
                cx.policy.judge_unreadable(&subject)
            }
        };
        match ruling {
            Ruling::Allow => return None,
            Ruling::Deny => {
                // In the middle of a line it would become part of that.
                if !self.server_mid_line {
                    let mut notice = Text::<128>::new();
                    notice.push(b":algate NOTICE * :");
                    notice.push(command);
                    notice.push(b" refused by policy\r\n");
                    let bytes = notice.finished().unwrap_or(b":algate NOTICE * :Refused by policy\r\n");
                    // Without room for it, the line is refused all the same.
                    let _ = cx.inject.push(Direction::Reply, bytes);
                }
            }
            Ruling::Drop => {}
        }
        cx.events.count(Event::Denied);
        cx.events.count(Event::Removed);
        Some(Verdict::Remove)
    }

    /// `room`: how much longer the line may become.
    fn on_offer(&mut self, offer: &Offer, room: usize, cx: &mut Context<'_>) -> Verdict {
        let own = *cx.endpoints.sender(Direction::Original).ip();
        let seen = *cx.endpoints.sender_seen(Direction::Original).ip();
        match offer.port.l4_port {
            0 if !offer.has_token => return refuse(Event::PortZero, cx),
            // What stands there is often a dummy: it says nothing about the client.
            0 if offer.address != own || own == seen => return Verdict::Pass,
            0 => return write_offer(offer, seen, None, room, cx).unwrap_or(Verdict::Pass),
            _ if offer.address != own => return refuse(Event::ForeignAddress, cx),
            1..FIRST_UNPRIVILEGED => return refuse(Event::PrivilegedPort, cx),
            FIRST_UNPRIVILEGED.. => {}
        }
        let request = Expectation {
            protocol: Protocol::Tcp,
            owner: Direction::Original,
            target: SocketAddrV4::new(own, offer.port.l4_port),
            peer: match self.peer {
                DccPeer::Any => Peer::Any,
                DccPeer::Server => Peer::OtherEnd,
            },
            peer_l4_port: None,
            uses: 1,
            lifetime: self.expectation_lifetime,
        };
        let Ok(announced) = cx.nat.expect(&request) else {
            return refuse(Event::ExpectationRefused, cx);
        };
        let verdict = if announced.endpoint == request.target {
            Some(Verdict::Pass)
        } else {
            write_offer(offer, *announced.endpoint.ip(), Some(announced.endpoint.port()), room, cx)
        };
        if verdict.is_some() {
            self.remember(offer.port.l4_port, announced, cx);
        } else {
            cx.nat.withdraw(announced.id);
        }
        verdict.unwrap_or(Verdict::Pass)
    }

    /// Keeps an offer in the place of those that its ports no longer mean, else of the oldest.
    fn remember(&mut self, own_l4_port: u16, announced: Announced, cx: &mut Context<'_>) {
        let announced_l4_port = announced.endpoint.port();
        let outdated = |offer: &Offered| {
            offer.own_l4_port == own_l4_port || offer.announced_l4_port == announced_l4_port
        };
        for slot in &mut self.offers {
            if let Some(offer) = slot.take_if(|offer| outdated(offer))
                && offer.expectation != announced.id
            {
                cx.nat.withdraw(offer.expectation);
            }
        }
        let at = self.offers.iter().position(Option::is_none).unwrap_or(self.oldest);
        let Some(slot) = self.offers.get_mut(at) else { return };
        let offer = Offered { own_l4_port, announced_l4_port, expectation: announced.id };
        if let Some(oldest) = slot.replace(offer) {
            cx.nat.withdraw(oldest.expectation);
        }
        self.oldest = (at + 1) % OFFERS;
    }

    fn find(&self, is_meant: impl Fn(&Offered) -> bool) -> Option<Offered> {
        self.offers.iter().flatten().copied().find(is_meant)
    }

    /// The bytes at the head of `input` are no IRC: TLS if the client has asked for it.
    fn leave(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        self.state = State::Done;
        if self.tls_asked && input.first() == Some(&TLS_HANDSHAKE) {
            cx.events.count(Event::Opaque);
            return Step::Message { length: 1, verdict: Verdict::Opaque };
        }
        cx.events.count(Event::Detached);
        Step::Message { length: input.len(), verdict: Verdict::Detach }
    }
}

impl Alg for Irc {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        match (self.state, direction) {
            (State::Done, _) => Step::Message { length: input.len(), verdict: Verdict::Pass },
            (_, Direction::Original) => self.inspect_client(input, cx),
            (_, Direction::Reply) => self.inspect_server(input, cx),
        }
    }
}

/// Counts what looks like DCC to a reader that searches the line, and is text where it stands.
fn count_misplaced(line: &[u8], ctcp: Option<&Range<usize>>, cx: &mut Context<'_>) {
    if message::has_misplaced_dcc(line, ctcp) {
        cx.events.count(Event::OutOfPlace);
    }
}

/// Counts why nothing was opened.
fn refuse(event: Event, cx: &mut Context<'_>) -> Verdict {
    cx.events.count(event);
    Verdict::Pass
}

/// Puts `address`, and `l4_port` if there is one, in the place of what `offer` says. `None`: it does not fit,
/// and the message is as it was.
fn write_offer(
    offer: &Offer,
    address: Ipv4Addr,
    l4_port: Option<u16>,
    room: usize,
    cx: &mut Context<'_>,
) -> Option<Verdict> {
    let address = dcc::write(address, offer.form);
    let address = address.finished().unwrap_or_default();
    let mut port = Text::<5>::new();
    port.push_decimal(l4_port.unwrap_or(offer.port.l4_port).into());
    let port = port.finished().unwrap_or_default();
    let before = offer.address_at.len() + offer.port.at.len();
    if (address.len() + port.len()).saturating_sub(before) > room {
        cx.events.count(Event::LineTooLong);
        return None;
    }
    if !cx.edits.replace(offer.address_at.clone(), address) || !cx.edits.replace(offer.port.at.clone(), port)
    {
        cx.edits.clear();
        cx.events.count(Event::ExpectationRefused);
        return None;
    }
    cx.events.count(Event::Rewritten);
    Some(Verdict::Rewrite)
}

/// Puts `l4_port` in the place of `port`; `None`: no offer is meant.
fn write_port(port: &Port, l4_port: Option<u16>, room: usize, cx: &mut Context<'_>) -> Verdict {
    let Some(l4_port) = l4_port.filter(|l4_port| *l4_port != port.l4_port) else { return Verdict::Pass };
    let mut text = Text::<5>::new();
    text.push_decimal(l4_port.into());
    let text = text.finished().unwrap_or_default();
    if text.len().saturating_sub(port.at.len()) > room {
        return refuse(Event::LineTooLong, cx);
    }
    if !cx.edits.replace(port.at.clone(), text) {
        return Verdict::Pass;
    }
    cx.events.count(Event::Rewritten);
    Verdict::Rewrite
}

/// No line of IRC begins with a control character.
fn is_binary(start: &[u8]) -> bool {
    start.first().is_some_and(|byte| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n'))
}

/// RPL_WELCOME
const WELCOME: &[u8] = b"001";
/// RPL_STARTTLS of the IRCv3 extension `tls`.
const TLS_STARTS: &[u8] = b"670";
/// The content type that begins a TLS session (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The longest message with its end, tags not counted (RFC 2812 section 2.3).
const MESSAGE_LIMIT: usize = 512;
/// The first port that anyone may listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;
