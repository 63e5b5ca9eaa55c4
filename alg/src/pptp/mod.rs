//! PPTP, RFC 2637: the control session, and the Call IDs of its tunnels.
//!
//! Payload travels in GRE whose key names the receiver's Call ID. Two internal hosts may choose the same one,
//! so each Call ID of a translated end is replaced by one of NAT's choice, in every control message that
//! carries it, in both directions, and NAT is asked to admit the GRE that will name it. All fields have a
//! fixed size: no message grows. Either end may be internal, and either may ask for a call.
//!
//! What it holds on to:
//! - *First bytes decide.* A session opens with a Start-Control-Connection-Request and its reply, 156 bytes
//!   each with the cookie; bytes that are no message, then or later, detach the session for good.
//! - *Own Call IDs only.* A Call ID is learnt from the end that chose it, in the request or the reply of a
//!   call; what names an unknown one passes unchanged.
//! - *Answers only.* A reply counts when its Peer's Call ID names a call that the other end has asked for.
//! - *A tunnel lives as long as its control session*: Echo-Requests give its expectations their lifetime anew;
//!   Call-Disconnect-Notify and Stop-Control-Connection-Reply withdraw them.
//!
//! ```text
//! message                      Call ID field           what becomes of the call
//!  7, 9 call request           sender's: announce      opened for the sender
//!  8, 10 reply, accepted       sender's: announce      opened for the sender, too
//!                              peer's: put back
//!  8, 10 reply, refused        peer's: put back        closed
//!  11, 14, 15                  peer's: put back        -
//!  12 Call-Clear-Request       sender's, or peer's     -
//!  13 Call-Disconnect-Notify   sender's, or peer's     closed
//! ```
//!
//! Policy judges requests of sessions and calls by their names in RFC 2637 and the number that is called; a
//! refused one is taken out and answered with the reply that says so.
//!
//! Departures: RFC 2637 sections 2.12 and 2.13 have the sender's Call ID in messages 12 and 13; where that is
//! none of the sender's, it is taken for the receiver's, because such servers exist.
//!
//! Not here: GRE itself; more than sixteen calls of one control session, which pass unchanged.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::contract::{
    Alg, Context, Direction, Event, Expectation, Peer, Protocol, Ruling, Step, Subject, Verdict,
};

use calls::{Calls, End};
use message::{CALL_ID_AT, Framed, Kind, PEER_CALL_ID_AT};

mod calls;
mod message;
#[cfg(test)]
mod tests;

/// How PPTP is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PptpSettings {
    /// How long a tunnel is let in after the last sign of life of its control session. Ends send an
    /// Echo-Request after 60 silent seconds (RFC 2637 section 3.1.4).
    pub expectation_lifetime: Duration,
}

impl Default for PptpSettings {
    fn default() -> Self {
        Self { expectation_lifetime: Duration::from_secs(600) }
    }
}

/// The dialogue of one PPTP control session.
#[derive(Debug)]
pub struct Pptp {
    expectation_lifetime: Duration,
    state: State,
    calls: Calls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was said.
    Start,
    /// The originator has.
    Asked,
    /// Both have.
    Dialogue,
    Done,
}

impl Pptp {
    /// The ALG of a session at byte 0 of both directions. Takes no memory beyond the value.
    #[must_use]
    pub fn new(settings: PptpSettings) -> Self {
        Self { expectation_lifetime: settings.expectation_lifetime, state: State::Start, calls: Calls::new() }
    }

    fn on_message(&mut self, direction: Direction, message: &[u8], cx: &mut Context<'_>) -> Verdict {
        if let Some(verdict) = judge(direction, message, cx) {
            return verdict;
        }
        match (self.state, direction) {
            (State::Start, _) => self.state = State::Asked,
            (State::Asked, Direction::Reply) => self.state = State::Dialogue,
            (State::Asked, Direction::Original) | (State::Dialogue | State::Done, _) => {}
        }
        match message::kind(message) {
            Kind::CallRequest { call_id, .. } => self.on_request(direction, call_id, cx),
            Kind::CallReply { call_id, peer_call_id, is_accepted } => {
                self.on_reply(direction, call_id, peer_call_id, is_accepted, cx)
            }
            Kind::AboutPeer { peer_call_id } => {
                let index = self.calls.by_announced(direction.reversed(), peer_call_id);
                let end = index.and_then(|index| self.calls.end(index, direction.reversed()));
                match end {
                    Some(end) => write(&[(CALL_ID_AT, peer_call_id, end.own)], cx),
                    None => refuse(Event::OutOfPlace, cx),
                }
            }
            Kind::Clear { call_id, is_over } => self.on_clear(direction, call_id, is_over, cx),
            Kind::Stopped => {
                self.calls.close_all(cx);
                Verdict::Pass
            }
            Kind::Echo => {
                self.calls.renew(self.expectation_lifetime, cx);
                Verdict::Pass
            }
            Kind::Malformed => {
                cx.events.count(Event::Malformed);
                let subject = Subject { direction, command: b"", argument: b"", user: b"" };
                match cx.policy.judge_unreadable(&subject) {
                    Ruling::Allow => Verdict::Pass,
                    // Nothing tells which answer it would have.
                    Ruling::Deny | Ruling::Drop => {
                        cx.events.count(Event::Denied);
                        cx.events.count(Event::Removed);
                        Verdict::Remove
                    }
                }
            }
            Kind::Start | Kind::Other => Verdict::Pass,
        }
    }

    fn on_request(&mut self, direction: Direction, call_id: u16, cx: &mut Context<'_>) -> Verdict {
        if let Some(before) = self.calls.by_own(direction, call_id) {
            self.calls.close(before, cx);
        }
        if self.calls.is_full() {
            return refuse(Event::ExpectationRefused, cx);
        }
        let end = self.open(direction, call_id, cx);
        // There is room.
        let _ = self.calls.add(direction, end);
        write(&[(CALL_ID_AT, call_id, end.announced)], cx)
    }

    fn on_reply(
        &mut self,
        direction: Direction,
        call_id: u16,
        peer_call_id: u16,
        is_accepted: bool,
        cx: &mut Context<'_>,
    ) -> Verdict {
        let back = direction.reversed();
        let index = self.calls.by_announced(back, peer_call_id);
        let Some((index, peer)) = index.and_then(|index| Some((index, self.calls.end(index, back)?))) else {
            return refuse(Event::OutOfPlace, cx);
        };
        let put_back = (PEER_CALL_ID_AT, peer_call_id, peer.own);
        if !is_accepted {
            self.calls.close(index, cx);
            return write(&[put_back], cx);
        }
        let end = match self.calls.end(index, direction) {
            Some(end) if end.own == call_id => end,
            // The call is answered already.
            Some(_) => return refuse(Event::OutOfPlace, cx),
            None => self.open(direction, call_id, cx),
        };
        self.calls.answer(index, direction, end);
        write(&[(CALL_ID_AT, call_id, end.announced), put_back], cx)
    }

    fn on_clear(
        &mut self,
        direction: Direction,
        call_id: u16,
        is_over: bool,
        cx: &mut Context<'_>,
    ) -> Verdict {
        let back = direction.reversed();
        let of_sender = self.calls.by_own(direction, call_id);
        let of_sender = of_sender.and_then(|at| Some((at, self.calls.end(at, direction)?.announced)));
        let of_receiver = self.calls.by_announced(back, call_id);
        let of_receiver = of_receiver.and_then(|at| Some((at, self.calls.end(at, back)?.own)));
        let Some((index, translated)) = of_sender.or(of_receiver) else {
            return refuse(Event::OutOfPlace, cx);
        };
        if is_over {
            self.calls.close(index, cx);
        }
        write(&[(CALL_ID_AT, call_id, translated)], cx)
    }

    /// Asks NAT to admit GRE that names `call_id` of `owner`. Refused, the Call ID stays what it is.
    fn open(&self, owner: Direction, call_id: u16, cx: &mut Context<'_>) -> End {
        let unopened = End { own: call_id, announced: call_id, expectation: None };
        let request = Expectation {
            protocol: Protocol::Gre,
            owner,
            target: SocketAddrV4::new(*cx.endpoints.sender(owner).ip(), call_id),
            peer: Peer::OtherEnd,
            peer_l4_port: None,
            // A tunnel that was silent too long comes again as a new flow.
            uses: u16::MAX,
            lifetime: self.expectation_lifetime,
        };
        match cx.nat.expect(&request) {
            Ok(announced) => {
                End { announced: announced.endpoint.port(), expectation: Some(announced.id), ..unopened }
            }
            Err(_) => {
                cx.events.count(Event::ExpectationRefused);
                unopened
            }
        }
    }

    fn detach(&mut self, length: usize, cx: &mut Context<'_>) -> Step {
        self.state = State::Done;
        cx.events.count(Event::Detached);
        Step::Message { length, verdict: Verdict::Detach }
    }
}

impl Alg for Pptp {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let opening = match (self.state, direction) {
            (State::Done, _) => return Step::Message { length: input.len(), verdict: Verdict::Pass },
            (State::Start, Direction::Original) => Some(message::START_REQUEST),
            (State::Start, Direction::Reply) => return self.detach(input.len(), cx),
            (State::Asked, Direction::Reply) => Some(message::START_REPLY),
            (State::Asked, Direction::Original) | (State::Dialogue, _) => None,
        };
        match message::frame(input, opening) {
            Framed::Message(message) => {
                Step::Message { length: message.len(), verdict: self.on_message(direction, message, cx) }
            }
            Framed::Incomplete if !cx.at_end => Step::Incomplete,
            // Unread it cannot go on: where the next message starts would be a guess.
            Framed::Incomplete | Framed::Wrong => self.detach(input.len(), cx),
        }
    }
}

/// `None`: read on.
fn judge(direction: Direction, message: &[u8], cx: &mut Context<'_>) -> Option<Verdict> {
    let (command, argument) = message::request(message)?;
    match cx.policy.judge(&Subject { direction, command, argument, user: b"" }) {
        Ruling::Allow => return None,
        Ruling::Deny => {
            let refusal = message::refusal(message);
            let reply = refusal.as_ref().and_then(|(reply, length)| reply.get(..*length));
            // Without room for it, the request is refused all the same.
            let _ = cx.inject.push(direction.reversed(), reply.unwrap_or_default());
        }
        Ruling::Drop => {}
    }
    cx.events.count(Event::Denied);
    cx.events.count(Event::Removed);
    Some(Verdict::Remove)
}

/// Counts why a message was not read.
fn refuse(event: Event, cx: &mut Context<'_>) -> Verdict {
    cx.events.count(event);
    Verdict::Pass
}

/// Replaces Call IDs, each with its place, by those that differ.
fn write(fields: &[(usize, u16, u16)], cx: &mut Context<'_>) -> Verdict {
    let differing = fields.iter().filter(|(_, before, after)| before != after);
    let mut verdict = Verdict::Pass;
    for (at, _, after) in differing {
        if !cx.edits.replace(*at..at + 2, &after.to_be_bytes()) {
            cx.edits.clear();
            return refuse(Event::RecheckFailed, cx);
        }
        verdict = Verdict::Rewrite;
    }
    if verdict == Verdict::Rewrite {
        cx.events.count(Event::Rewritten);
    }
    verdict
}

/// S-27 (CVE-2014-9715): the calls have their room in the value itself, and the compiler has seen it.
const _: () =
    assert!(size_of::<Pptp>() > calls::CAPACITY * 2 * size_of::<End>() && size_of::<Pptp>() <= 1152);
