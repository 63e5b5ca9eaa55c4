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
//!   1024. Anything else opens nothing.
//! - *No door that leads nowhere.* What a translated end announces and nothing is opened for would tell the other end an
//!   internal address, or a port of somebody else. Unless the operator wants it passed, PORT and EPRT are taken out and answered
//!   with 504 (RFC 2577 section 3), and 227 and 229 become 425; or, without a word, the former go and the latter end the session,
//!   for nothing could stand for them. What names no internal host passes: a third party's address, the end's own external one.
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

use std::time::Duration;

use crate::contract::{Alg, Context, Direction, Event, ExpectationId, Ruling, Step, Verdict};
use crate::framing::LineFramer;

use data::Passive;
use outstanding::Outstanding;
use policy::Name;
use reply::Code;

mod about;
mod address;
mod client;
mod command;
mod data;
mod outstanding;
mod policy;
mod reply;
mod server;
#[cfg(test)]
mod tests;
mod verb;

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
    /// What becomes of an internal host's endpoint that a translated end announces and nothing is opened for.
    pub unopened: Ruling,
}

impl Default for FtpSettings {
    fn default() -> Self {
        Self {
            line_bytes: 512,
            expectation_lifetime: Duration::from_secs(60),
            max_outstanding: outstanding::CAPACITY,
            unopened: Ruling::Deny,
        }
    }
}

/// The dialogue of one FTP control session. The client is the session's originator.
#[derive(Debug)]
pub struct Ftp {
    expectation_lifetime: Duration,
    unopened: Ruling,
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

impl Ftp {
    /// The ALG of a session at byte 0 of both directions. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: FtpSettings) -> Self {
        Self {
            expectation_lifetime: settings.expectation_lifetime,
            unopened: settings.unopened,
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

    /// A line over the limit. If its head was no FTP, that was counted, and could be before the limit
    /// was reached: how the bytes came must not show in the counters.
    fn count_too_long(&self, cx: &mut Context<'_>) {
        if self.state != State::Done {
            cx.events.count(Event::LineTooLong);
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
