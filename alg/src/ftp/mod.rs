//! FTP: RFC 959, with RFC 2428 (EPRT, EPSV), RFC 4217 (AUTH TLS), RFC 1579 and RFC 2577.
//!
//! Reads both directions of a control session line by line, rewrites the endpoint a client announces
//! (PORT, EPRT) or a server announces (227, 229), and asks NAT to admit the data session that follows.
//!
//! What it holds on to:
//! - *First bytes decide.* The server speaks first, with 220 (or 120, 421); a client that spoke
//!   before, a line that is no command, a method of HTTP, a line that is no reply: the session is
//!   detached for good. Nothing is ever looked for inside a line.
//! - *Own endpoints only* (RFC 2577 section 3): the address is the sender's own, the port not below
//!   1024. Anything else passes unchanged and opens nothing.
//! - *Answers only.* A 227 or 229 is read only while its PASV or EPSV is outstanding.
//! - *One at a time.* An announcement replaces the session's unused expectation once its own reply is
//!   positive; it is withdrawn when that is negative. PORT, LIST, 550, PORT again is normal.
//! - *No guess across TLS.* While an AUTH is outstanding the client's bytes are held: only its reply
//!   tells whether they are commands; when they can be held no longer, the session is detached. After
//!   234 nothing is read in either direction.
//!
//! ```text
//! state     client line            server line              becomes
//! Greeting  any: detach            120, 421: pass           Greeting
//!                                  220 (its last line)      Dialogue
//!                                  other: detach            Done
//! Dialogue  command: queue it      1yz: pass                Dialogue
//!           not a command: detach  2yz..6yz: answers first  Dialogue
//!                                  234 answers AUTH         Done (opaque)
//! Done      pass, unread           pass, unread             Done
//! ```
//!
//! A reply of more lines is read as RFC 959 section 4.2 says. Clients take the numbers of a 227 from
//! its first line or from its last, so both are read (each line that starts with the code), and the
//! same endpoint gets the same translation in each; text between them is never read.
//!
//! Departures: an empty line counts as no command, since servers differ on answering it. A 227, 229
//! or 234 answers the first PASV, EPSV or AUTH outstanding even if replies to earlier commands never
//! came, because servers that answer ABOR once instead of twice exist.
//!
//! Policy judges each command by its verb, its argument and the user that the server has let in (230). A refused one
//! is taken out and answered in its turn ([`policy`]). While a login is outstanding what follows it is held: who asks must be
//! known before it is judged. AUTH is a command like any other: a rule that denies it keeps the session readable.
//! What a server tells about itself may be hidden, line by line ([`about`]). A line that cannot be read passes, unless
//! policy refuses that, too: a command is answered, a malformed PORT with 501; a server's line ends the session.
//!
//! LPRT and LPSV (RFC 1639) are answered with 502 and never reach the server: their addresses are not translated, and every
//! client that knows them knows PORT and PASV, too. A 228 answers neither then; it passes, and is counted.
//!
//! Not here: FTP64 (RFC 6384), TLS.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::contract::{
    Alg, Announced, Context, Direction, Event, Expectation, ExpectationId, Peer, Protocol, Ruling, Step,
    Subject, Verdict,
};
use crate::decimal::Text;
use crate::framing::{Framed, LineFramer};

use about::About;
use address::{AddressError, AddressText, Form, Written};
use command::Command;
use outstanding::{Awaited, Outstanding};
use policy::{LONGEST_REFUSAL, Name, Refusal};
use reply::Code;

mod about;
mod address;
mod command;
mod outstanding;
mod policy;
mod reply;
#[cfg(test)]
mod tests;

/// How FTP is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FtpSettings {
    /// The longest line that is read, with its end. Must be below what the stream layer holds of one
    /// direction. Longer ones pass; of their addresses nothing is read.
    pub line_bytes: usize,
    /// How long a data session may take to come.
    pub expectation_lifetime: Duration,
    /// How many commands may wait for their reply, at most 64. What a client pipelines beyond is held; when no more can be held,
    /// the session is detached.
    pub max_outstanding: usize,
}

impl Default for FtpSettings {
    fn default() -> Self {
        Self {
            line_bytes: 512,
            expectation_lifetime: Duration::from_secs(60),
            max_outstanding: outstanding::CAPACITY,
        }
    }
}

/// The dialogue of one FTP control session. The client is the session's originator.
#[derive(Debug)]
pub struct Ftp {
    expectation_lifetime: Duration,
    client_lines: LineFramer,
    server_lines: LineFramer,
    state: State,
    outstanding: Outstanding,
    /// The code of the reply whose last line has not come yet.
    open_reply: Option<Code>,
    /// What the reply being read has announced so far.
    passive: Option<Passive>,
    /// The expectation of the last announcement that was accepted.
    accepted: Option<ExpectationId>,
    /// EPSV ALL was accepted.
    extended_only: bool,
    /// The user named last.
    claimed: Name,
    /// The user that the server has let in.
    proved: Name,
    /// What follows of a client's line that was not all there goes the way of its head: out.
    rest_removed: bool,
    /// The server's last line is not at its end.
    server_mid_line: bool,
    /// What follows of a server's line that was not all there is hidden.
    server_rest_hidden: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Dialogue,
    Done,
}

/// Where a line stands in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the first of several.
    First,
    /// Neither the first nor the last.
    Between,
    /// It is the last, or the only one.
    Last,
}

#[derive(Debug, Clone, Copy)]
struct Passive {
    target: SocketAddrV4,
    /// `None`: nothing was opened for it.
    announced: Option<Announced>,
}

impl Ftp {
    /// The ALG of a session at byte 0 of both directions. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: FtpSettings) -> Self {
        Self {
            expectation_lifetime: settings.expectation_lifetime,
            client_lines: LineFramer::new(settings.line_bytes),
            server_lines: LineFramer::new(settings.line_bytes),
            state: State::Greeting,
            outstanding: Outstanding::new(settings.max_outstanding),
            open_reply: None,
            passive: None,
            accepted: None,
            extended_only: false,
            claimed: Name::NOBODY,
            proved: Name::NOBODY,
            rest_removed: false,
            server_mid_line: false,
            server_rest_hidden: false,
        }
    }

    fn inspect_client(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        if self.state == State::Greeting {
            return self.detach(input.len(), cx);
        }
        if self.outstanding.contains(Awaited::Auth) {
            // Unread they cannot go on: whether a line starts behind them would be a guess.
            return if cx.at_end { self.detach(input.len(), cx) } else { Step::Incomplete };
        }
        let is_logging_in = [Awaited::User, Awaited::Login].iter().any(|one| self.outstanding.contains(*one));
        let waits = is_logging_in || self.outstanding.is_full();
        if waits && !cx.at_end && command::may_become_command(input) {
            return Step::Incomplete;
        }
        match self.client_lines.next(input, cx.at_end) {
            Framed::Incomplete if command::may_become_command(input) => Step::Incomplete,
            Framed::Incomplete => self.detach(input.len(), cx),
            Framed::Line { text, length } => match command::parse(text) {
                Some(command) => self.on_command(command, text, length, cx),
                None => self.detach(length, cx),
            },
            Framed::TooLong { head } => {
                let step = self.on_unread_command(head, cx);
                self.count_too_long(cx);
                step
            }
            Framed::Cut { head } => self.on_unread_command(head, cx),
            Framed::Rest { length } => {
                let verdict = if self.rest_removed { Verdict::Remove } else { Verdict::Pass };
                Step::Message { length, verdict }
            }
        }
    }

    fn inspect_server(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
        let may_be_text = self.open_reply.is_some();
        let greeting = self.state == State::Greeting;
        let framed = self.server_lines.next(input, cx.at_end);
        self.server_mid_line = match framed {
            Framed::Incomplete => self.server_mid_line,
            Framed::Line { .. } => false,
            Framed::TooLong { .. } | Framed::Cut { .. } => true,
            Framed::Rest { length } => input.get(length - 1) != Some(&b'\n'),
        };
        let step = match framed {
            Framed::Incomplete if may_be_text || reply::may_become_reply(input, greeting) => Step::Incomplete,
            Framed::Incomplete => self.detach(input.len(), cx),
            Framed::Line { text, length } => self.on_reply_line(text, length, true, cx),
            Framed::TooLong { head } => {
                let step = self.on_reply_line(head, head.len(), false, cx);
                self.count_too_long(cx);
                step
            }
            Framed::Cut { head } => self.on_reply_line(head, head.len(), false, cx),
            Framed::Rest { length } if self.server_rest_hidden => {
                Step::Message { length, verdict: Verdict::Remove }
            }
            Framed::Rest { length } => Step::Message { length, verdict: Verdict::Pass },
        };
        self.server_mid_line &= !self.server_rest_hidden;
        if step != Step::Incomplete {
            self.answer_refused(cx);
        }
        step
    }

    /// A line over the limit. If its head was no FTP, that was counted, and could be before the limit
    /// was reached: how the bytes came must not show in the counters.
    fn count_too_long(&self, cx: &mut Context<'_>) {
        if self.state != State::Done {
            cx.events.count(Event::LineTooLong);
        }
    }

    fn on_command(&mut self, command: Command, text: &[u8], length: usize, cx: &mut Context<'_>) -> Step {
        if self.outstanding.is_full() && command != Command::Blank {
            return self.lose_track(length, cx);
        }
        let is_malformed = matches!(command, Command::Active(Err(AddressError::Malformed)));
        if !self.is_allowed(text, false, cx) || is_malformed && !self.is_allowed_malformed(text, cx) {
            return Step::Message { length, verdict: Verdict::Remove };
        }
        if command == Command::Long {
            return self.refuse_long(length, cx);
        }
        let extended_only = self.extended_only || self.outstanding.contains(Awaited::EpsvAll);
        let mut verdict = Verdict::Pass;
        let awaited = match command {
            Command::Blank | Command::Long => return Step::Message { length, verdict },
            // RFC 2428 section 4: only EPSV from here on.
            Command::Active(_) | Command::Pasv if extended_only => {
                cx.events.count(Event::OutOfPlace);
                Awaited::Other
            }
            Command::Active(read) => {
                let opened = match read {
                    Ok(text) => self.open(Direction::Original, text.endpoint, &text, cx),
                    // Counted already.
                    Err(AddressError::Malformed) => None,
                    Err(AddressError::OtherFamily) => refuse(Event::ForeignAddress, cx),
                };
                verdict = opened.map_or(Verdict::Pass, |(_, verdict)| verdict);
                Awaited::Active(opened.map(|(announced, _)| announced.id))
            }
            Command::Pasv => Awaited::Pasv,
            Command::Epsv => Awaited::Epsv,
            Command::EpsvAll => Awaited::EpsvAll,
            Command::Auth => Awaited::Auth,
            Command::Other => self.other(text),
        };
        self.outstanding.push(awaited);
        Step::Message { length, verdict }
    }

    /// A command whose line is not all there opens nothing, but it will be answered like any other.
    fn on_unread_command(&mut self, head: &[u8], cx: &mut Context<'_>) -> Step {
        let length = head.len();
        if !command::may_become_command(head) {
            return self.detach(length, cx);
        }
        if self.outstanding.is_full() {
            return self.lose_track(length, cx);
        }
        self.rest_removed = !self.is_allowed(head, true, cx);
        if self.rest_removed {
            return Step::Message { length, verdict: Verdict::Remove };
        }
        if command::words(head).is_some_and(|(verb, _)| command::is_long(verb)) {
            self.rest_removed = true;
            return self.refuse_long(length, cx);
        }
        self.outstanding.push(Awaited::Other);
        Step::Message { length, verdict: Verdict::Pass }
    }

    /// Answers LPRT or LPSV in the server's place, in its turn.
    fn refuse_long(&mut self, length: usize, cx: &mut Context<'_>) -> Step {
        cx.events.count(Event::Removed);
        self.outstanding.push(Awaited::Refused(Refusal::Unsupported));
        self.answer_refused(cx);
        Step::Message { length, verdict: Verdict::Remove }
    }

    /// A command that only policy cares about.
    fn other(&mut self, text: &[u8]) -> Awaited {
        match command::words(text) {
            Some((verb, argument)) if verb.eq_ignore_ascii_case(b"USER") => {
                self.claimed = Name::new(argument);
                Awaited::User
            }
            Some((verb, _)) if [b"PASS", b"ACCT"].iter().any(|one| verb.eq_ignore_ascii_case(*one)) => {
                Awaited::Login
            }
            Some((verb, argument)) => About::of(verb, argument).map_or(Awaited::Other, Awaited::About),
            None => Awaited::Other,
        }
    }

    /// Asks policy about a command. One that it refuses is answered, in its turn.
    fn is_allowed(&mut self, line: &[u8], is_cut: bool, cx: &mut Context<'_>) -> bool {
        let Some((command, argument)) = command::words(line) else { return true };
        let user = self.proved.as_bytes();
        let subject = Subject { direction: Direction::Original, command, argument, user };
        let ruling = if is_cut { cx.policy.judge_cut(&subject) } else { cx.policy.judge(&subject) };
        if ruling == Ruling::Allow {
            self.answer_refused(cx);
            return true;
        }
        self.refuse_command(ruling, Refusal::of(command), cx);
        false
    }

    /// Asks policy about a command whose argument does not parse.
    fn is_allowed_malformed(&mut self, line: &[u8], cx: &mut Context<'_>) -> bool {
        cx.events.count(Event::Malformed);
        let (command, argument) = command::words(line).unwrap_or_default();
        let user = self.proved.as_bytes();
        let subject = Subject { direction: Direction::Original, command, argument, user };
        let ruling = cx.policy.judge_unreadable(&subject);
        if ruling != Ruling::Allow {
            self.refuse_command(ruling, Refusal::Syntax, cx);
        }
        ruling == Ruling::Allow
    }

    fn refuse_command(&mut self, ruling: Ruling, refusal: Refusal, cx: &mut Context<'_>) {
        cx.events.count(Event::Denied);
        cx.events.count(Event::Removed);
        if ruling == Ruling::Deny {
            self.outstanding.push(Awaited::Refused(refusal));
            self.answer_refused(cx);
        }
    }

    /// What becomes of a server's line that cannot be read: nothing stands for it, so the session ends with it.
    fn unreadable_reply(&self, line: &[u8], cx: &mut Context<'_>) -> Verdict {
        let command = line.get(..reply::TEXT_AT - 1).unwrap_or_default();
        let user = self.proved.as_bytes();
        let subject = Subject { direction: Direction::Reply, command, argument: b"", user };
        if cx.policy.judge_unreadable(&subject) == Ruling::Allow {
            return Verdict::Pass;
        }
        cx.events.count(Event::Denied);
        Verdict::Terminate
    }

    /// Answers refused commands whose turn it is, where a reply may stand. Without room for it, later.
    fn answer_refused(&mut self, cx: &mut Context<'_>) {
        if self.open_reply.is_some() || self.server_mid_line {
            return;
        }
        let mut replies = Text::<{ REFUSALS * LONGEST_REFUSAL }>::new();
        let mut count = 0;
        for refusal in self.outstanding.refused().take(REFUSALS) {
            replies.push(refusal.text());
            count += 1;
        }
        if let Some(replies) = replies.finished().filter(|replies| !replies.is_empty())
            && cx.inject.push(Direction::Reply, replies)
        {
            for _ in 0..count {
                self.outstanding.pop();
            }
        }
    }

    fn on_reply_line(&mut self, text: &[u8], length: usize, whole: bool, cx: &mut Context<'_>) -> Step {
        self.server_rest_hidden = false;
        let line = reply::parse(text);
        let (code, more) = match (line, self.open_reply) {
            (Some(line), Some(open)) if line.code == open => (line.code, line.more),
            (_, Some(open)) => {
                let verdict = match self.hide(open, Place::Between, text, length, whole, cx) {
                    Some(verdict) => verdict,
                    None if whole => Verdict::Pass,
                    None => self.unreadable_reply(text, cx),
                };
                return Step::Message { length, verdict };
            }
            (Some(line), None) => (line.code, line.more),
            (None, None) => return self.detach(length, cx),
        };
        if self.state == State::Greeting && !reply::is_greeting(code) {
            return self.detach(length, cx);
        }
        let place = match (self.open_reply.is_some(), more) {
            (true, true) => Place::Between,
            (false, true) => Place::First,
            (_, false) => Place::Last,
        };
        let mut verdict = match self.hide(code, place, text, length, whole, cx) {
            Some(verdict) => verdict,
            None if whole => self.on_passive_text(code, more, text, cx),
            None => self.unreadable_reply(text, cx),
        };
        self.open_reply = more.then_some(code);
        if !more && self.on_reply(code, cx) == Verdict::Opaque && verdict != Verdict::Terminate {
            verdict = Verdict::Opaque;
        }
        Step::Message { length, verdict }
    }

    /// Hides one line of a reply with this code, if it tells about the server what policy wants hidden.
    fn hide(
        &mut self,
        code: Code,
        place: Place,
        text: &[u8],
        length: usize,
        whole: bool,
        cx: &mut Context<'_>,
    ) -> Option<Verdict> {
        let about = match self.state {
            State::Greeting => Some(About::Greeting),
            State::Dialogue => self.outstanding.asked_about(),
            State::Done => None,
        };
        let about = about.filter(|about| about.is_told_by(code))?;
        let has_code = place != Place::Between || reply::parse(text).is_some_and(|line| line.code == code);
        let said = text.get(if has_code { reply::TEXT_AT } else { 0 }..).unwrap_or_default().trim_ascii();
        let subject = Subject {
            direction: Direction::Reply,
            command: about.name(),
            argument: said,
            user: self.proved.as_bytes(),
        };
        if said.is_empty() || !cx.policy.masks(&subject) {
            return None;
        }
        let verdict = match place {
            Place::Between => Verdict::Remove,
            Place::First | Place::Last => {
                let end = if whole { text.len() } else { length };
                let written = about.written(text, place == Place::First, !whole);
                let written = written.as_ref().and_then(Text::finished);
                if !written.is_some_and(|written| cx.edits.replace(reply::TEXT_AT..end, written)) {
                    cx.events.count(Event::RecheckFailed);
                    return None;
                }
                Verdict::Rewrite
            }
        };
        self.server_rest_hidden = !whole;
        cx.events.count(Event::Masked);
        Some(verdict)
    }

    /// A whole reply has come: it answers the oldest command.
    fn on_reply(&mut self, code: Code, cx: &mut Context<'_>) -> Verdict {
        if self.state == State::Greeting {
            if code == reply::READY {
                self.state = State::Dialogue;
            }
            return Verdict::Pass;
        }
        if is_preliminary(code) {
            return Verdict::Pass;
        }
        if code == reply::LONG_PASSIVE {
            cx.events.count(Event::OutOfPlace);
        }
        let passive = self.passive.take();
        let answered = match answers_only(code) {
            Some(awaited) if self.outstanding.contains(awaited) => self.answer(awaited, cx),
            _ => self.pop_asked(cx),
        };
        let positive = is_positive(code);
        match answered {
            Some(Awaited::Active(expectation)) if positive => self.accept(expectation, cx),
            Some(Awaited::Pasv | Awaited::Epsv) if answers_only(code) == answered => {
                let announced = passive.and_then(|passive| passive.announced);
                self.accept(announced.map(|announced| announced.id), cx);
            }
            Some(Awaited::EpsvAll) if positive => self.extended_only = true,
            Some(awaited @ (Awaited::User | Awaited::Login)) => {
                let is_in = code == reply::LOGGED_IN && !self.outstanding.contains(Awaited::User);
                if is_in {
                    self.proved = self.claimed;
                } else if awaited == Awaited::User {
                    self.proved = Name::NOBODY;
                }
            }
            Some(Awaited::Auth) if code == reply::SECURITY_ACCEPTED => {
                cx.events.count(Event::Opaque);
                self.state = State::Done;
                return Verdict::Opaque;
            }
            Some(awaited) => self.reject(awaited, cx),
            None => {}
        }
        Verdict::Pass
    }

    /// Reads the endpoint in one line of a reply, if the reply is one that announces an endpoint.
    fn on_passive_text(&mut self, code: Code, more: bool, line: &[u8], cx: &mut Context<'_>) -> Verdict {
        let found = match answers_only(code) {
            Some(awaited) if !self.outstanding.contains(awaited) => return Verdict::Pass,
            Some(Awaited::Pasv) => address::find_decimals(line, reply::TEXT_AT),
            Some(Awaited::Epsv) => address::find_extended(line, reply::TEXT_AT),
            _ => return Verdict::Pass,
        };
        let Some(text) = found else {
            if !more && self.passive.is_none() {
                cx.events.count(Event::Malformed);
                return self.unreadable_reply(line, cx);
            }
            return Verdict::Pass;
        };
        let target = match text.form {
            // RFC 2428 section 3: the address is that of the control session.
            Form::Port => {
                SocketAddrV4::new(*cx.endpoints.sender(Direction::Reply).ip(), text.endpoint.port())
            }
            Form::Decimals | Form::Delimited(_) => text.endpoint,
        };
        match self.passive {
            Some(passive) if passive.target == target => {
                let again =
                    passive.announced.and_then(|announced| write(target, announced.endpoint, &text, cx));
                again.unwrap_or(Verdict::Pass)
            }
            Some(_) => {
                cx.events.count(Event::Malformed);
                self.unreadable_reply(line, cx)
            }
            None => {
                let opened = self.open(Direction::Reply, target, &text, cx);
                self.passive = Some(Passive { target, announced: opened.map(|(announced, _)| announced) });
                opened.map_or(Verdict::Pass, |(_, verdict)| verdict)
            }
        }
    }

    /// Asks NAT to admit a data session to `target`, if its `owner` may announce that, and writes what
    /// is announced in its place.
    fn open(
        &self,
        owner: Direction,
        target: SocketAddrV4,
        text: &AddressText,
        cx: &mut Context<'_>,
    ) -> Option<(Announced, Verdict)> {
        if target.ip() != cx.endpoints.sender(owner).ip() {
            return refuse(Event::ForeignAddress, cx);
        }
        match target.port() {
            0 => return refuse(Event::PortZero, cx),
            1..FIRST_UNPRIVILEGED => return refuse(Event::PrivilegedPort, cx),
            FIRST_UNPRIVILEGED.. => {}
        }
        let request = Expectation {
            protocol: Protocol::Tcp,
            owner,
            target,
            // RFC 959 section 3.2 has servers send from port 20; those without privileges cannot.
            peer: Peer::OtherEnd,
            peer_l4_port: None,
            uses: 1,
            lifetime: self.expectation_lifetime,
        };
        let Ok(announced) = cx.nat.expect(&request) else {
            return refuse(Event::ExpectationRefused, cx);
        };
        // A 229 has no place for an address other than the one the peer is connected to.
        let fits = text.form != Form::Port || announced.endpoint.ip() == cx.endpoints.sender_seen(owner).ip();
        if let Some(verdict) = fits.then(|| write(target, announced.endpoint, text, cx)).flatten() {
            return Some((announced, verdict));
        }
        cx.nat.withdraw(announced.id);
        refuse(Event::ExpectationRefused, cx)
    }

    /// An announcement was accepted: it replaces the one before.
    fn accept(&mut self, expectation: Option<ExpectationId>, cx: &mut Context<'_>) {
        let before = std::mem::replace(&mut self.accepted, expectation);
        if let Some(before) = before.filter(|before| expectation != Some(*before)) {
            cx.nat.withdraw(before);
        }
    }

    /// Takes the oldest command that the server was asked.
    fn pop_asked(&mut self, cx: &mut Context<'_>) -> Option<Awaited> {
        while let Some(oldest) = self.outstanding.pop() {
            if !matches!(oldest, Awaited::Refused(_)) {
                return Some(oldest);
            }
            self.reject(oldest, cx);
        }
        None
    }

    /// Takes the oldest `awaited`, and those before it, whose replies never came.
    fn answer(&mut self, awaited: Awaited, cx: &mut Context<'_>) -> Option<Awaited> {
        while let Some(oldest) = self.outstanding.pop() {
            if oldest == awaited {
                return Some(oldest);
            }
            self.reject(oldest, cx);
        }
        None
    }

    /// A command was not accepted: what was opened for it is closed.
    fn reject(&self, awaited: Awaited, cx: &mut Context<'_>) {
        match awaited {
            Awaited::Active(Some(expectation)) if self.accepted != Some(expectation) => {
                cx.nat.withdraw(expectation);
            }
            Awaited::Refused(refusal) => {
                // Without room for it the client misses a reply, as it does the one that the server left out.
                let _ = cx.inject.push(Direction::Reply, refusal.text());
            }
            _ => {}
        }
    }

    /// Replies can no longer be matched: nothing may be concluded from them.
    fn lose_track(&mut self, length: usize, cx: &mut Context<'_>) -> Step {
        cx.events.count(Event::TooManyOutstanding);
        self.detach(length, cx)
    }

    fn detach(&mut self, length: usize, cx: &mut Context<'_>) -> Step {
        self.state = State::Done;
        cx.events.count(Event::Detached);
        Step::Message { length, verdict: Verdict::Detach }
    }
}

impl Alg for Ftp {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        match (self.state, direction) {
            (State::Done, _) => Step::Message { length: input.len(), verdict: Verdict::Pass },
            (State::Greeting | State::Dialogue, Direction::Original) => self.inspect_client(input, cx),
            (State::Greeting | State::Dialogue, Direction::Reply) => self.inspect_server(input, cx),
        }
    }
}

/// Counts why nothing was opened.
fn refuse<T>(event: Event, cx: &mut Context<'_>) -> Option<T> {
    cx.events.count(event);
    None
}

/// Puts the announced endpoint in the place of the one read, where they differ. `None`: the room for
/// edits is used up, and the message is as it was.
fn write(
    target: SocketAddrV4,
    announced: SocketAddrV4,
    text: &AddressText,
    cx: &mut Context<'_>,
) -> Option<Verdict> {
    if target == announced {
        return Some(Verdict::Pass);
    }
    let written = Written::new(announced, text.form);
    if !cx.edits.replace(text.range.clone(), written.as_bytes()) {
        return None;
    }
    cx.events.count(Event::Rewritten);
    Some(Verdict::Rewrite)
}

/// The one command whose answer `code` can be.
const fn answers_only(code: Code) -> Option<Awaited> {
    match code {
        reply::PASSIVE => Some(Awaited::Pasv),
        reply::EXTENDED_PASSIVE => Some(Awaited::Epsv),
        reply::SECURITY_ACCEPTED => Some(Awaited::Auth),
        _ => None,
    }
}

/// 1yz: another reply to the same command follows.
const fn is_preliminary(code: Code) -> bool {
    code / 100 == 1
}

/// 2yz: done.
const fn is_positive(code: Code) -> bool {
    code / 100 == 2
}

/// Refused commands that are answered at once: as many replies as fit into what a message may add.
const REFUSALS: usize = 40;

/// The first port that anyone may listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;
