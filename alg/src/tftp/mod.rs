//! TFTP: RFC 1350, with RFC 2347 (options; the values of RFC 2348, 2349 and 7440 are none of our business).
//!
//! A client asks port 69 for a file; the server answers from a port of its own choice to the port the client has asked
//! from, and the transfer stays between those two. So nothing is rewritten: a request opens the way from the server's
//! address, any port, to the client's endpoint, once.
//!
//! What it holds on to:
//! - *First bytes decide.* The first datagram is a request, or the session is detached for good.
//! - *The endpoint it came from.* No message names an address; where NAT would have to announce another endpoint than the
//!   one the server sees, nothing is opened.
//! - *One at a time.* A repeated request replaces the unused expectation of the one before; an ERROR withdraws it.
//!
//! ```text
//! state    from the client             from the server       becomes
//! Begun    request: expect             any: detach           Asked
//!          other: detach                                     Done
//! Asked    request: expect             ERROR: withdraw       Asked
//!          ERROR: withdraw             other: pass           Asked
//!          ACK, DATA, OACK: pass                             Asked
//!          other: malformed                                  Asked
//! Done     pass, unread                pass, unread          Done
//! ```
//!
//! Departure: servers that answer from port 69 itself exist (RFC 1350 section 4 has them choose another port); what they
//! send passes, for the session of the request carries it.
//!
//! Not here: multicast (RFC 2090), whose OACK names a group; the data session itself, which no ALG reads.

mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::contract::{
    Alg, Context, Direction, Event, Expectation, ExpectationId, Peer, Protocol, Ruling, Step, Subject,
    Verdict,
};

use request::{Kind, Request};

/// How TFTP is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TftpSettings {
    /// How long the server's first answer may take to come.
    pub expectation_lifetime: Duration,
}

impl Default for TftpSettings {
    fn default() -> Self {
        Self { expectation_lifetime: Duration::from_secs(60) }
    }
}

/// The requests that a client sends from one port to one server. The client is the session's originator.
#[derive(Debug)]
pub struct Tftp {
    expectation_lifetime: Duration,
    state: State,
    /// The expectation of the last request.
    asked: Option<ExpectationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Asked,
    Done,
}

impl Tftp {
    /// The ALG of a session before its first datagram. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: TftpSettings) -> Self {
        Self { expectation_lifetime: settings.expectation_lifetime, state: State::Begun, asked: None }
    }

    fn inspect_client(&mut self, input: &[u8], cx: &mut Context<'_>) -> Verdict {
        match (request::opcode(input), request::parse(input)) {
            (_, Some(request)) => self.on_request(&request, cx),
            (Some(request::RRQ | request::WRQ), None) if !is_allowed_malformed(input, cx) => remove(cx),
            _ if self.state == State::Begun => self.detach(cx),
            (Some(request::ERROR), None) => self.on_error(cx),
            (Some(request::DATA | request::ACK | request::OACK), None) => Verdict::Pass,
            // Asked already.
            (Some(request::RRQ | request::WRQ), None) => Verdict::Pass,
            (_, None) => {
                if is_allowed_malformed(input, cx) {
                    Verdict::Pass
                } else {
                    remove(cx)
                }
            }
        }
    }

    fn inspect_server(&mut self, input: &[u8], cx: &mut Context<'_>) -> Verdict {
        match (self.state, request::opcode(input)) {
            (State::Begun, _) => self.detach(cx),
            (State::Asked, Some(request::ERROR)) => self.on_error(cx),
            (State::Asked | State::Done, _) => Verdict::Pass,
        }
    }

    fn on_request(&mut self, request: &Request<'_>, cx: &mut Context<'_>) -> Verdict {
        self.state = State::Asked;
        let command = match request.kind {
            Kind::Read => READ,
            Kind::Write => WRITE,
        };
        let subject =
            Subject { direction: Direction::Original, command, argument: request.file_name, user: b"" };
        match cx.policy.judge(&subject) {
            Ruling::Allow => {
                self.expect_answer(cx);
                Verdict::Pass
            }
            Ruling::Deny => {
                cx.events.count(Event::Denied);
                // Without room for it the client hears nothing, and asks again.
                let _told = cx.inject.push(Direction::Reply, ACCESS_VIOLATION);
                remove(cx)
            }
            Ruling::Drop => {
                cx.events.count(Event::Denied);
                remove(cx)
            }
        }
    }

    fn expect_answer(&mut self, cx: &mut Context<'_>) {
        let target = cx.endpoints.originator;
        if target.port() < 1024 {
            return cx.events.count(Event::PrivilegedPort);
        }
        let expected = cx.nat.expect(&Expectation {
            protocol: Protocol::Udp,
            owner: Direction::Original,
            target,
            peer: Peer::OtherEnd,
            peer_l4_port: None,
            uses: 1,
            lifetime: self.expectation_lifetime,
        });
        match expected {
            Ok(announced) if announced.endpoint == cx.endpoints.originator_seen => {
                self.asked = Some(announced.id);
            }
            Ok(announced) => {
                // The server will answer to where the request came from: this one is of no use.
                cx.nat.withdraw(announced.id);
                cx.events.count(Event::ExpectationRefused);
            }
            Err(_) => cx.events.count(Event::ExpectationRefused),
        }
    }

    fn on_error(&mut self, cx: &mut Context<'_>) -> Verdict {
        if let Some(asked) = self.asked.take() {
            cx.nat.withdraw(asked);
        }
        Verdict::Pass
    }

    fn detach(&mut self, cx: &mut Context<'_>) -> Verdict {
        self.state = State::Done;
        cx.events.count(Event::Detached);
        Verdict::Detach
    }
}

impl Alg for Tftp {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let verdict = match (self.state, direction) {
            (State::Done, _) => Verdict::Pass,
            (State::Begun | State::Asked, Direction::Original) => self.inspect_client(input, cx),
            (State::Begun | State::Asked, Direction::Reply) => self.inspect_server(input, cx),
        };
        Step::Message { length: input.len(), verdict }
    }
}

/// Asks policy about what the client sends and what is no request, though it may look like one.
fn is_allowed_malformed(datagram: &[u8], cx: &mut Context<'_>) -> bool {
    cx.events.count(Event::Malformed);
    let command: &[u8] = match request::opcode(datagram) {
        Some(request::RRQ) => READ,
        Some(request::WRQ) => WRITE,
        _ => b"",
    };
    let subject = Subject { direction: Direction::Original, command, argument: b"", user: b"" };
    let ruling = cx.policy.judge_unreadable(&subject);
    if ruling == Ruling::Deny {
        // Without room for it the client hears nothing, and asks again.
        let _told = cx.inject.push(Direction::Reply, ILLEGAL_OPERATION);
    }
    if ruling != Ruling::Allow {
        cx.events.count(Event::Denied);
    }
    ruling == Ruling::Allow
}

fn remove(cx: &mut Context<'_>) -> Verdict {
    cx.events.count(Event::Removed);
    Verdict::Remove
}

/// What rules call the requests (RFC 1350 section 5).
const READ: &[u8] = b"RRQ";
const WRITE: &[u8] = b"WRQ";
/// ERROR 4, RFC 1350 section 5 and its appendix.
const ILLEGAL_OPERATION: &[u8] = b"\x00\x05\x00\x04Illegal TFTP operation\x00";
/// ERROR 2, RFC 1350 section 5 and its appendix.
const ACCESS_VIOLATION: &[u8] = b"\x00\x05\x00\x02Access violation\x00";
