//! SIP over UDP and TCP: RFC 3261, with offers and answers of RFC 3264 in descriptions of RFC 8866.
//!
//! Either end of the flow may be translated, or both. What the sender writes of itself (top Via, Contact,
//! routes, identities, its media) is replaced by what NAT announces for it; what names the receiver as
//! the other side knows it is turned back. The rest of a message goes on byte for byte: From, To,
//! Call-ID, Replaces, Authorization, Identity, keys and fingerprints, host names, addresses of others.
//!
//! What it holds on to:
//! - *First bytes decide.* A stream is read from its byte 0, message by message by Content-Length; what
//!   is no start line there ends the reading for good. A flow of datagrams must begin with a message;
//!   keepalives and STUN (RFC 5626) pass, at any time, and decide nothing.
//! - *Own addresses only.* An expectation is for the sender's own address and a port from 1024 on.
//!   Signalling is expected from the other end of the flow; media from there too, until the other
//!   party's description in the same call names where they come from.
//! - *Signalling is read wherever it comes.* What is announced in Contact, Via or a route is marked: a call to it is
//!   read whatever its port, and from another proxy than the registrar where filtering lets that in.
//! - *Never half.* A message is read to its end before a token of it is replaced. Whatever is in doubt
//!   (a header that does not parse, a port that may not be opened, NAT refusing one of several) leaves
//!   the whole message as it was, takes back what was opened for it, and is counted. What was replaced
//!   is read again before it leaves ([`writing::reads_back`]).
//! - *No harm* to ends that traverse by themselves: descriptions with ICE, and endpoints the sender
//!   already writes as they are seen, stay.
//! - *Nothing is dropped*, unless policy refuses it: methods, media types and headers nobody here
//!   knows, low ports and odd numbers pass.
//!
//! - *Third parties by policy only.* Media of another internal host are opened where the operator lets one host speak
//!   for others ([`SipSettings::media_hosts`]), else they stay. Two internal ends are told each other's own endpoints only
//!   where he lets media stay inside ([`SipSettings::direct_media`]).
//!
//! Bounds: 16 media sections, 128 headers, 128 tokens and 64 replacements a message, 16,384 bytes. One with more is never
//! translated in part: it goes on untouched, or is refused where policy says so of what cannot be read, and is counted.
//!
//! Not here: TLS (5061 and `sips` hops detach), SIP over SCTP and WebSocket, hiding of more topology than the host of a
//! Call-ID ([`hiding`]), signed or encoded bodies, MSRP itself, IPv6.
//!
//! Cost: a message is read once, and each of its lines once more that was rewritten. Over TCP the search for its end goes on
//! where it had stopped.

use crate::contract::{Alg, Context, Direction, Edits, Event, Events, Protocol, Ruling, Step, Verdict};
use crate::masks::hide_products;

use aliases::Aliases;
use asking::Asking;
use calls::Calls;
pub use hiding::CallIdKey;
use message::Start;
use reader::Message;
use refusal::{Reason, judge, judge_unreadable, refuse};
use registrations::Registrations;
use scratch::{Again, Scratch};
use sdp::Sdp;
pub use settings::{MediaPeer, SipSettings};
pub use table::{CallTable, SURE_CALLS};
use table::{FlowCalls, Hosts};
use tokens::Tokens;

mod aliases;
mod asking;
mod call;
mod calls;
mod hiding;
mod message;
mod multipart;
mod reader;
mod refusal;
mod registrations;
mod rewrite;
mod scratch;
mod sdp;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod uri;
mod writing;

/// The dialogue of one signalling flow.
///
/// Its calls are kept in a [`CallTable`] that all flows of a thread share: [`Sip::lend`] one before it is asked. Without one every
/// message passes unchanged.
#[derive(Debug)]
pub struct Sip {
    settings: SipSettings,
    transport: Protocol,
    halves: [Half; 2],
    state: State,
    calls: FlowCalls,
    table: Option<Box<CallTable>>,
}

/// What one direction has shown.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    /// A message has come.
    started: bool,
    /// Bytes of a message still to pass unread.
    rest: usize,
    /// The end of the header is not before this offset of the undecided bytes. Only saves a search.
    searched: usize,
    /// The message at hand is this long, once its header is there; 0 before. Only saves a search.
    needed: usize,
}

/// What is kept from message to message.
#[derive(Debug)]
struct State {
    aliases: Aliases,
    registrations: Registrations,
}

/// A message as it was read.
struct Read<'a> {
    bytes: &'a [u8],
    message: &'a Message,
    /// Its own, if it has one.
    sdp: &'a Sdp,
}

/// Why a message is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It does not parse.
    Malformed,
    /// A line, or a number of things in it, is over its bound.
    TooLong,
    /// A CR or NUL where readers differ on what it means.
    Control,
}

impl Fault {
    const fn event(self) -> Event {
        match self {
            Self::Malformed | Self::Control => Event::Malformed,
            Self::TooLong => Event::LineTooLong,
        }
    }
}

impl Sip {
    /// The ALG of a flow at its first byte, carried by `transport` ([`Protocol::Udp`] or
    /// [`Protocol::Tcp`]). Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: SipSettings, transport: Protocol) -> Self {
        let settings =
            SipSettings { message_bytes: settings.message_bytes.min(MAX_MESSAGE_BYTES), ..settings };
        let state = State { aliases: Aliases::new(), registrations: Registrations::new() };
        Self {
            settings,
            transport,
            halves: [Half::default(); 2],
            state,
            calls: FlowCalls::new(),
            table: None,
        }
    }

    /// Exchanges the table it has, or none, for `table`: lends it, or takes it back.
    pub fn lend(&mut self, table: &mut Option<Box<CallTable>>) {
        std::mem::swap(&mut self.table, table);
    }

    /// The flow has ended: its calls leave the table.
    pub fn end(&mut self, table: &mut CallTable) {
        table.end(&mut self.calls);
    }

    fn inspect_datagram(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let pass = Step::Message { length: input.len(), verdict: Verdict::Pass };
        if message::is_keepalive(input) || message::is_stun(input) {
            return pass;
        }
        let line = message::first_line(input);
        let start = message::start_line(line.strip_suffix(b"\r").unwrap_or(line));
        let half = self.half(direction);
        let Some(start) = start else {
            if !half.started {
                return detach(input.len(), cx);
            }
            cx.events.count(Event::Malformed);
            return match judge_unreadable(direction, input, None, cx) {
                Ruling::Allow => pass,
                Ruling::Deny | Ruling::Drop => {
                    Step::Message { length: input.len(), verdict: Verdict::Remove }
                }
            };
        };
        half.started = true;
        if input.len() > self.settings.message_bytes {
            return self.pass_unread(direction, input, start, Event::LineTooLong, cx);
        }
        self.decide_whole(direction, input, start, cx)
    }

    fn inspect_stream(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let limit = self.settings.message_bytes;
        let half = self.half(direction);
        if half.rest > 0 {
            let length = half.rest.min(input.len());
            half.rest -= length;
            return Step::Message { length, verdict: Verdict::Pass };
        }
        if input.len() < half.needed && !cx.at_end {
            return Step::Incomplete;
        }
        // RFC 3261 section 7.5: line ends before a message mean nothing. RFC 5626: they keep the flow alive.
        match input {
            [b'\n', ..] => return Step::Message { length: 1, verdict: Verdict::Pass },
            [b'\r', b'\n', ..] => return Step::Message { length: 2, verdict: Verdict::Pass },
            [b'\r'] if !cx.at_end => return Step::Incomplete,
            _ => {}
        }
        let window = input.get(..message::MAX_LINE_BYTES).unwrap_or(input);
        let Some(line_end) = memchr::memchr(b'\n', window) else {
            let may_go_on = !cx.at_end && window.len() == input.len();
            return match message::may_become_start(window) && may_go_on {
                true => Step::Incomplete,
                false => detach(input.len(), cx),
            };
        };
        let line = input.get(..line_end).unwrap_or_default();
        let Some(start) = message::start_line(line.strip_suffix(b"\r").unwrap_or(line)) else {
            return detach(input.len(), cx);
        };
        let Some(head) = message::head_end(input, half.searched).filter(|head| *head <= limit) else {
            if cx.at_end || input.len() > limit {
                cx.events.count(Event::LineTooLong);
                return detach(input.len(), cx);
            }
            half.searched = input.len().saturating_sub(2);
            return Step::Incomplete;
        };
        let length = message::content_length(input.get(..head).unwrap_or_default());
        // RFC 3261 section 18.3: over a stream there must be one. Without it nobody knows where the next begins.
        let Ok(Some(body)) = length else {
            cx.events.count(Event::Malformed);
            return detach(input.len(), cx);
        };
        let total = head + body;
        if total > limit {
            *half = Half { started: true, rest: body, ..Half::default() };
            let head = input.get(..head).unwrap_or_default();
            return self.pass_unread(direction, head, start, Event::LineTooLong, cx);
        }
        let Some(message) = input.get(..total) else {
            if !cx.at_end {
                half.needed = total;
                return Step::Incomplete;
            }
            *half = Half { started: true, rest: total - input.len(), ..Half::default() };
            return self.pass_unread(direction, input, start, Event::Malformed, cx);
        };
        *half = Half { started: true, ..Half::default() };
        self.decide_whole(direction, message, start, cx)
    }

    /// A message that is too long to be read, or not all there. Policy still sees what it asks for.
    fn pass_unread(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        start: Start,
        event: Event,
        cx: &mut Context<'_>,
    ) -> Step {
        cx.events.count(event);
        let ruling = match judge(direction, bytes, start, &[], cx) {
            Ruling::Allow => judge_unreadable(direction, bytes, Some(start), cx),
            ruling => ruling,
        };
        // Its body follows in pieces: it cannot be taken out of a stream any more.
        if ruling != Ruling::Allow && self.half(direction).rest > 0 {
            return Step::Message { length: bytes.len(), verdict: Verdict::Terminate };
        }
        let verdict = match ruling {
            Ruling::Allow if hide_products(direction, bytes, cx) => Verdict::Rewrite,
            Ruling::Allow => Verdict::Pass,
            Ruling::Deny | Ruling::Drop => Verdict::Remove,
        };
        Step::Message { length: bytes.len(), verdict }
    }

    /// Decides a whole message, in the memory that comes with the table. Without a table, where every message passes,
    /// it takes its own.
    fn decide_whole(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        start: Start,
        cx: &mut Context<'_>,
    ) -> Step {
        let lent = self.table.as_mut().and_then(|table| table.scratch.take());
        let mut scratch = lent.unwrap_or_default();
        let step = self.decide(direction, bytes, start, &mut scratch, cx);
        if let Some(table) = &mut self.table {
            table.scratch = Some(scratch);
        }
        step
    }

    fn decide(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        start: Start,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Step {
        let length = bytes.len();
        let Scratch { tokens, sdp, again } = scratch;
        let read = reader::read(bytes, start, tokens, sdp);
        let user = read.as_ref().map_or(&[][..], |message| uri::user(bytes, message.from_uri).of(bytes));
        let user = if self.state.registrations.has(direction, user) { user } else { &[] };
        let ruling = judge(direction, bytes, start, user, cx);
        if ruling != Ruling::Allow {
            if ruling == Ruling::Deny {
                refuse(direction, bytes, start, Reason::Forbidden, cx);
            }
            cx.events.count(Event::Removed);
            return Step::Message { length, verdict: Verdict::Remove };
        }
        let decided = read.map_err(Fault::event).and_then(|mut message| {
            message.name_call(bytes, tokens, self.settings.call_id_key);
            let table = self.table.as_deref_mut().ok_or(Event::TooManyOutstanding)?;
            let mut calls = Calls::of(&message, table, &mut self.calls, Hosts::of(cx.endpoints));
            let (before, call) = (self.state.aliases, calls.snapshot());
            let mut asking =
                Asking::new(direction, cx.endpoints, &mut *cx.nat, self.settings, self.transport);
            let of = Read { bytes, message: &message, sdp };
            let translated =
                self.state.translate(&of, tokens, again, &mut calls, &mut asking, cx.edits, cx.events);
            if translated.is_err() {
                asking.undo();
                calls.restore(call.as_ref());
                self.state.aliases = before;
            }
            translated
        });
        if let Err(event) = decided {
            cx.events.count(event);
            cx.edits.clear();
            if matches!(event, Event::Malformed | Event::LineTooLong) {
                let ruling = judge_unreadable(direction, bytes, Some(start), cx);
                if ruling == Ruling::Deny {
                    refuse(direction, bytes, start, Reason::Unreadable, cx);
                }
                if ruling != Ruling::Allow {
                    return Step::Message { length, verdict: Verdict::Remove };
                }
            }
        }
        let mut verdict = Verdict::Pass;
        if cx.edits.iter().next().is_some() {
            cx.events.count(Event::Rewritten);
            verdict = Verdict::Rewrite;
        }
        if hide_products(direction, bytes, cx) {
            verdict = Verdict::Rewrite;
        }
        Step::Message { length, verdict }
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        let [original, reply] = &mut self.halves;
        match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }
    }
}

impl State {
    #[expect(clippy::too_many_arguments, reason = "the message, what is kept, and what may be done")]
    fn translate(
        &mut self,
        of: &Read<'_>,
        tokens: &mut Tokens,
        again: &mut Again,
        calls: &mut Calls<'_>,
        asking: &mut Asking<'_>,
        edits: &mut Edits,
        events: &mut Events,
    ) -> Result<(), Event> {
        let Read { bytes, message, sdp } = *of;
        rewrite::translate_headers(message, tokens, &mut self.aliases, asking)?;
        if message.status.is_none() {
            calls.on_request(message, asking);
        }
        if message.has_sdp {
            rewrite::translate_sdp(message, sdp, tokens, calls, asking, events)?;
        }
        writing::write(message, sdp, tokens, edits)?;
        let hiding = asking.settings.call_id_key;
        if edits.iter().next().is_some() && !writing::reads_back(bytes, message, tokens, edits, hiding, again)
        {
            return Err(Event::RecheckFailed);
        }
        #[cfg(any(test, feature = "testing"))]
        assert!(
            writing::reads_back_whole(bytes, message, tokens, edits, hiding),
            "half a message would leave"
        );
        // Nothing fails from here on.
        if message.has_sdp {
            calls.go_on(asking);
        }
        if message.status.is_none() {
            self.registrations.on_request(message);
        } else {
            let user = || uri::user(bytes, message.to_uri).of(bytes);
            let aliases = &mut self.aliases;
            self.registrations.on_response(message, tokens.as_slice(), user, aliases, asking, events);
            calls.on_response(message, asking);
        }
        Ok(())
    }
}

impl Alg for Sip {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        if self.transport == Protocol::Udp {
            self.inspect_datagram(direction, input, cx)
        } else {
            self.inspect_stream(direction, input, cx)
        }
    }
}

fn detach(length: usize, cx: &mut Context<'_>) -> Step {
    cx.events.count(Event::Detached);
    Step::Message { length, verdict: Verdict::Detach }
}

/// The longest message that can be read.
const MAX_MESSAGE_BYTES: usize = 16_384;
/// Replacements in one message; the stage has room for as many.
const MAX_EDITS: usize = 64;
/// Bytes by which one message may grow.
const MAX_GROWTH_BYTES: usize = 2048;
