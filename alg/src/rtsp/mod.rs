//! RTSP 1.0 (RFC 2326) and 2.0 (RFC 7826).
//!
//! Reads both directions of a control session message by message. In a SETUP it rewrites the ports where an
//! internal client waits for media and asks NAT to admit them as an even and odd pair; in the answer it puts
//! the client's own ports back. The ports of an internal server are opened and announced in its answer. Where
//! a server that is translated names itself, in URLs and descriptions, its translated address is put.
//!
//! What it holds on to:
//! - *First bytes decide.* The client begins with a request line of RTSP 1.0 or 2.0. Anything else, HTTP and
//!   so RTSP tunnelled in HTTP too, is detached for good; so is a session whose framing is lost.
//! - *Messages are whole*: head and body are decided together, up to `message_bytes`; a longer body passes
//!   unread. Interleaved data (`$`, channel, length) passes unread in both directions, once a SETUP has asked
//!   for it; of a frame no more than its four bytes of header are held.
//! - *Own endpoints only*: an address in a SETUP is the client's own, ports are not below 1024. Anything else
//!   passes unchanged as a whole and opens nothing.
//! - *Answers only*: a server's ports are opened in the answer to a SETUP, found by its CSeq.
//! - *Media come from the other end.* [`MediaSource::Named`] lets a server name another host in its answer.
//! - *A stream lives as long as its session*: each request of the session gives its expectations the session's
//!   timeout anew; TEARDOWN withdraws them; whatever is open ends with the control session.
//!
//! ```text
//! state     from the client              from the server             becomes
//! Start     request: as below            anything: detach            Dialogue
//!           other: detach                                            Done
//! Dialogue  SETUP: open, remember        answer 2yz: accept          Dialogue
//!           TEARDOWN: withdraw           answer 3yz..5yz: withdraw   Dialogue
//!           others: renew                request: URLs only          Dialogue
//!           $ unasked, other: detach     the same                    Done
//! Done      pass, unread                 pass, unread                Done
//! ```
//!
//! Policy judges each request by method and URI; a refused one is taken out and answered with 403, as soon as
//! the other direction is between two messages. Where it refuses what cannot be read, a SETUP whose Transport does not
//! parse is answered with 461, and a head that is too long or malformed ends the session.
//!
//! Departures: a request with credentials keeps its URI, since a digest may cover it (RFC 7616 section 3.4).
//! TEARDOWN withdraws before it is answered: media that flow are not touched by that.
//!
//! Not here: multicast (nothing to open), media over TCP sessions of their own (RFC 7826 appendix C), ICE,
//! descriptions that a client sends (ANNOUNCE).

use std::ops::Range;
use std::time::Duration;

use crate::contract::{Alg, Context, Direction, Event, Ruling, Step, Subject, Verdict};
use crate::decimal::Text;
use crate::masks::hide_products;

use changes::Changes;
use head::{Common, FirstLine, Start};
use streams::Streams;

mod changes;
mod head;
mod places;
mod setup;
mod streams;
#[cfg(test)]
mod tests;
mod transport;

/// How RTSP is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtspSettings {
    /// The longest message that is read whole; a head must not be longer. Must be below what the stream layer
    /// holds of one direction.
    pub message_bytes: usize,
    /// How long media may take to come, and how much longer than its timeout a session is kept.
    pub expectation_lifetime: Duration,
    /// Where media may come from.
    pub media_source: MediaSource,
}

/// Where media may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaSource {
    /// The other end of the control session.
    Server,
    /// The host that the server's answer names, if it names one.
    Named,
}

impl Default for RtspSettings {
    fn default() -> Self {
        Self {
            message_bytes: 8192,
            expectation_lifetime: Duration::from_secs(60),
            media_source: MediaSource::Server,
        }
    }
}

/// The dialogue of one RTSP control session. The client is the session's originator.
#[derive(Debug)]
pub struct Rtsp {
    settings: RtspSettings,
    state: State,
    /// A SETUP has asked for interleaved data.
    interleaved: bool,
    client_side: Side,
    server_side: Side,
    streams: Streams,
    /// How long an accepted stream is kept without a request.
    session_lifetime: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Dialogue,
    Done,
}

/// What one direction's stream is in the middle of.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    /// Bytes of a body or frame that pass unread.
    unread_bytes: u32,
    /// They are taken out instead.
    unread_removed: bool,
    /// Refusals to be sent in this direction after those.
    owed: [Option<Refusal>; OWED],
}

/// Refusals that wait for the end of one frame.
const OWED: usize = 4;

/// A response that refuses a request.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    is_version_2: bool,
    /// Code and phrase.
    status: &'static [u8],
    cseq: Option<u32>,
}

/// A whole message.
struct Message<'a> {
    direction: Direction,
    bytes: &'a [u8],
    head_length: usize,
    first: FirstLine,
    common: Common,
}

impl Rtsp {
    /// The ALG of a session at byte 0 of both directions. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: RtspSettings) -> Self {
        Self {
            settings,
            state: State::Start,
            interleaved: false,
            client_side: Side::default(),
            server_side: Side::default(),
            streams: Streams::new(),
            session_lifetime: DEFAULT_TIMEOUT.saturating_add(settings.expectation_lifetime),
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Original => &mut self.client_side,
            Direction::Reply => &mut self.server_side,
        }
    }

    /// Passes or takes out bytes that are not read, and pays what is owed behind them.
    fn pass_unread(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let side = self.side(direction);
        let length = input.len().min(usize::try_from(side.unread_bytes).unwrap_or(usize::MAX));
        side.unread_bytes = side.unread_bytes.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
        let verdict = if side.unread_removed { Verdict::Remove } else { Verdict::Pass };
        if side.unread_bytes == 0 {
            for refusal in std::mem::take(&mut side.owed).iter().flatten() {
                refusal.inject(direction, cx);
            }
        }
        Step::Message { length, verdict }
    }

    /// A message, or the start of one.
    fn on_input(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let window = input.get(..self.settings.message_bytes).unwrap_or(input);
        let is_full = window.len() == self.settings.message_bytes;
        let first = match head::start(window) {
            Start::Line(first) => first,
            Start::Unfinished if is_full => return self.lose(Event::LineTooLong, direction, input, None, cx),
            Start::Unfinished => return self.incomplete(input, cx),
            Start::Wrong => return self.detach(input, cx),
        };
        if self.state == State::Start && matches!(first, FirstLine::Response { .. }) {
            return self.detach(input, cx);
        }
        let Some(head_length) = head::length(window) else {
            if is_full {
                return self.lose(Event::LineTooLong, direction, input, Some(&first), cx);
            }
            return self.incomplete(input, cx);
        };
        let Some(common) = input.get(..head_length).and_then(head::common) else {
            return self.lose(Event::Malformed, direction, input, Some(&first), cx);
        };
        let body = common.content_length.as_ref().map_or(0, |(length, _)| *length);
        let whole = head_length.saturating_add(usize::try_from(body).unwrap_or(usize::MAX));
        let is_whole = whole <= window.len();
        if !is_whole && whole <= self.settings.message_bytes && !cx.at_end {
            return Step::Incomplete;
        }
        let length = if is_whole { whole } else { head_length };
        self.state = State::Dialogue;
        let bytes = input.get(..length).unwrap_or_default();
        let message = Message { direction, bytes, head_length, first, common };
        let mut verdict = self.on_message(&message, cx);
        if matches!(verdict, Verdict::Pass | Verdict::Rewrite) && hide_products(direction, bytes, cx) {
            verdict = Verdict::Rewrite;
        }
        if !is_whole {
            let side = self.side(direction);
            side.unread_bytes = body;
            side.unread_removed = verdict == Verdict::Remove;
        }
        Step::Message { length, verdict }
    }

    fn on_message(&mut self, message: &Message<'_>, cx: &mut Context<'_>) -> Verdict {
        if let Some(verdict) = self.judge(message, cx) {
            return verdict;
        }
        let mut changes = Changes::new();
        translate_server(message, cx, &mut changes);
        match (&message.first, message.direction) {
            (FirstLine::Request { method, uri }, Direction::Original) => {
                let (method, uri) = (message.text(method), streams::hash(message.text(uri)));
                if method == b"SETUP" {
                    return self.on_setup(message, uri, changes, cx);
                }
                self.on_session(message, method == b"TEARDOWN", uri, cx);
            }
            (&FirstLine::Response { code: code @ 200.. }, Direction::Reply) => {
                return self.on_answer(message, code, changes, cx);
            }
            (FirstLine::Request { .. }, Direction::Reply) | (FirstLine::Response { .. }, _) => {}
        }
        write(changes, cx).unwrap_or(Verdict::Pass)
    }

    /// `None`: read on.
    fn judge(&mut self, message: &Message<'_>, cx: &mut Context<'_>) -> Option<Verdict> {
        let FirstLine::Request { method, uri } = &message.first else { return None };
        let (command, argument) = (message.text(method), message.text(uri));
        let ruling = cx.policy.judge(&Subject { direction: message.direction, command, argument, user: b"" });
        self.refuse(message, ruling, FORBIDDEN, cx)
    }

    /// `None`: the ruling is to read on.
    fn refuse(
        &mut self,
        message: &Message<'_>,
        ruling: Ruling,
        status: &'static [u8],
        cx: &mut Context<'_>,
    ) -> Option<Verdict> {
        match ruling {
            Ruling::Allow => return None,
            Ruling::Deny => {
                let line_end = head::line_end(message.bytes, 0);
                let line = message.text(&(0..line_end)).trim_ascii_end();
                let is_version_2 = line.ends_with(b"2.0");
                let refusal = Refusal { is_version_2, status, cseq: message.common.cseq };
                let back = message.direction.reversed();
                let side = self.side(back);
                if side.unread_bytes == 0 {
                    refusal.inject(back, cx);
                } else if let Some(slot) = side.owed.iter_mut().find(|slot| slot.is_none()) {
                    *slot = Some(refusal);
                }
            }
            Ruling::Drop => {}
        }
        cx.events.count(Event::Denied);
        cx.events.count(Event::Removed);
        Some(Verdict::Remove)
    }

    /// Asks policy about a SETUP whose Transport does not parse.
    fn judge_transport(&mut self, message: &Message<'_>, cx: &mut Context<'_>) -> Option<Verdict> {
        let FirstLine::Request { method, uri } = &message.first else { return None };
        let (command, argument) = (message.text(method), message.text(uri));
        let subject = Subject { direction: message.direction, command, argument, user: b"" };
        let ruling = cx.policy.judge_unreadable(&subject);
        self.refuse(message, ruling, UNSUPPORTED_TRANSPORT, cx)
    }

    /// A request of the client other than SETUP.
    fn on_session(&mut self, message: &Message<'_>, ends: bool, url: u32, cx: &mut Context<'_>) {
        let Some(session) = message.session() else { return };
        if ends {
            self.streams.tear_down(session, url, cx);
        } else {
            self.streams.renew(session, self.session_lifetime, cx);
        }
    }

    fn incomplete(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        // Unread they cannot go on: where the next message starts would be a guess.
        if cx.at_end { self.detach(input, cx) } else { Step::Incomplete }
    }

    /// A head that cannot be read: nobody knows where the next message begins. A request that policy would refuse has
    /// no way round it.
    fn lose(
        &mut self,
        event: Event,
        direction: Direction,
        input: &[u8],
        first: Option<&FirstLine>,
        cx: &mut Context<'_>,
    ) -> Step {
        cx.events.count(event);
        if let Some(FirstLine::Request { method, uri }) = first {
            let text = |at: &Range<usize>| input.get(at.clone()).unwrap_or_default();
            let subject = Subject { direction, command: text(method), argument: text(uri), user: b"" };
            if cx.policy.judge(&subject) != Ruling::Allow
                || cx.policy.judge_unreadable(&subject) != Ruling::Allow
            {
                cx.events.count(Event::Denied);
                self.state = State::Done;
                return Step::Message { length: input.len(), verdict: Verdict::Terminate };
            }
        }
        self.detach(input, cx)
    }

    fn detach(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        self.state = State::Done;
        cx.events.count(Event::Detached);
        Step::Message { length: input.len(), verdict: Verdict::Detach }
    }
}

impl Alg for Rtsp {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        if self.state == State::Done {
            return Step::Message { length: input.len(), verdict: Verdict::Pass };
        }
        if self.state == State::Start && direction == Direction::Reply {
            return self.detach(input, cx);
        }
        if self.side(direction).unread_bytes > 0 {
            return self.pass_unread(direction, input, cx);
        }
        match *input {
            // Lines left empty before a message (RFC 2326 section 4.1).
            [b'\n', ..] if self.state == State::Dialogue => {
                Step::Message { length: 1, verdict: Verdict::Pass }
            }
            [b'\r', b'\n', ..] if self.state == State::Dialogue => {
                Step::Message { length: 2, verdict: Verdict::Pass }
            }
            [b'\r'] if self.state == State::Dialogue => self.incomplete(input, cx),
            [b'$', _, high, low, ..] if self.interleaved => {
                let side = self.side(direction);
                side.unread_bytes = FRAME_HEADER_BYTES + u32::from(u16::from_be_bytes([high, low]));
                side.unread_removed = false;
                self.pass_unread(direction, input, cx)
            }
            [b'$', ..] if self.interleaved => self.incomplete(input, cx),
            _ => self.on_input(direction, input, cx),
        }
    }
}

impl<'a> Message<'a> {
    fn text(&self, at: &Range<usize>) -> &'a [u8] {
        self.bytes.get(at.clone()).unwrap_or_default()
    }

    fn head(&self) -> &'a [u8] {
        self.text(&(0..self.head_length))
    }

    fn session(&self) -> Option<u32> {
        self.common.session.as_ref().map(|at| streams::hash(self.text(at)))
    }

    /// The values of the headers called `name`.
    fn headers(&self, name: &'static [u8]) -> impl Iterator<Item = Range<usize>> {
        head::headers(self.head()).filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, at)| at)
    }
}

impl Refusal {
    fn inject(self, direction: Direction, cx: &mut Context<'_>) {
        let mut text = Text::<64>::new();
        text.push(if self.is_version_2 { b"RTSP/2.0" } else { b"RTSP/1.0" });
        text.push(b" ");
        text.push(self.status);
        text.push(b"\r\n");
        if let Some(cseq) = self.cseq {
            text.push(b"CSeq: ");
            text.push_decimal(cseq);
            text.push(b"\r\n");
        }
        text.push(b"\r\n");
        // Without room for it, the request is refused all the same.
        let _ = cx.inject.push(direction, text.finished().unwrap_or_default());
    }
}

/// Translates what names the server, where that is translated.
fn translate_server(message: &Message<'_>, cx: &Context<'_>, changes: &mut Changes) {
    let own = cx.endpoints.sender(Direction::Reply);
    let seen = cx.endpoints.sender_seen(Direction::Reply);
    if own == seen {
        return;
    }
    let (from, to) = match message.direction {
        Direction::Original => (seen, own),
        Direction::Reply => (own, seen),
    };
    if let FirstLine::Request { uri, .. } = &message.first
        && !message.common.is_authorized
    {
        places::translate_url(message.bytes, uri.clone(), from, to, changes);
    }
    if message.direction == Direction::Original {
        return;
    }
    for (name, at) in head::headers(message.head()) {
        if name.eq_ignore_ascii_case(b"RTP-Info") {
            places::translate_rtp_info(message.bytes, at, from, to, changes);
        } else if SERVER_URLS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            places::translate_url(message.bytes, at, from, to, changes);
        }
    }
    if let Some((length, at)) = message.common.content_length.as_ref().filter(|_| message.common.is_sdp) {
        let body = message.head_length..message.bytes.len();
        places::translate_description(message.bytes, body, from, to, changes);
        let growth = changes.growth_behind(message.head_length);
        if let Some(length) = u32::try_from(i64::from(*length) + growth).ok().filter(|_| growth != 0) {
            changes.put_number(at, length);
        }
    }
}

/// Hands `changes` over. `None`: they do not fit, and the message is as it was.
fn write(mut changes: Changes, cx: &mut Context<'_>) -> Option<Verdict> {
    if changes.is_empty() {
        return Some(Verdict::Pass);
    }
    if !changes.write(cx.edits) {
        cx.events.count(Event::ExpectationRefused);
        return None;
    }
    cx.events.count(Event::Rewritten);
    Some(Verdict::Rewrite)
}

/// RFC 2326 section 7.1.1
const FORBIDDEN: &[u8] = b"403 Forbidden";
const UNSUPPORTED_TRANSPORT: &[u8] = b"461 Unsupported transport";

/// Headers of a server whose value is a URL.
const SERVER_URLS: [&[u8]; 3] = [b"Content-Base", b"Content-Location", b"Location"];

/// RFC 2326 section 12.37
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// `$`, channel and length (RFC 2326 section 10.12).
const FRAME_HEADER_BYTES: u32 = 4;
