//! The client's side of a dialogue: commands are judged, matched with the replies that will come, and announce endpoints.

use crate::contract::{Context, Direction, Event, Ruling, Step, Subject, Verdict};
use crate::decimal::Text;
use crate::framing::Framed;

use super::about::About;
use super::address::AddressError;
use super::command::{self, Command};
use super::data::refuse;
use super::outstanding::Awaited;
use super::policy::{LONGEST_REFUSAL, Name, Refusal};
use super::verb::Verb;
use super::{Ftp, State};

impl Ftp {
    /// Reads what the client sends.
    pub(super) fn inspect_client(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
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
            Command::Active(read) => {
                let opened = match &read {
                    // RFC 2428 section 4: only EPSV from here on.
                    _ if extended_only => refuse(Event::OutOfPlace, cx),
                    Ok(text) => self.open(Direction::Original, text.endpoint, text, cx),
                    // Counted already.
                    Err(AddressError::Malformed) => None,
                    Err(AddressError::OtherFamily) => refuse(Event::ForeignAddress, cx),
                };
                let unopened = read.ok().filter(|_| opened.is_none());
                let ruling = unopened.map_or(Ruling::Allow, |text| {
                    self.judge_unopened(Direction::Original, text.endpoint, cx)
                });
                if ruling != Ruling::Allow {
                    self.refuse_command(ruling, Refusal::Endpoint, cx);
                    return Step::Message { length, verdict: Verdict::Remove };
                }
                verdict = opened.map_or(Verdict::Pass, |(_, verdict)| verdict);
                if extended_only {
                    Awaited::Other
                } else {
                    Awaited::Active(opened.map(|(announced, _)| announced.id))
                }
            }
            Command::Pasv if extended_only => {
                cx.events.count(Event::OutOfPlace);
                Awaited::Other
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
        let Some((verb, argument)) = command::words(text) else { return Awaited::Other };
        match Verb::of(verb) {
            USER => {
                self.claimed = Name::new(argument);
                Awaited::User
            }
            PASS | ACCT => Awaited::Login,
            _ => About::of(verb, argument).map_or(Awaited::Other, Awaited::About),
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

    /// Answers refused commands whose turn it is, where a reply may stand. Without room for it, later.
    pub(super) fn answer_refused(&mut self, cx: &mut Context<'_>) {
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
}

/// Refused commands that are answered at once: as many replies as fit into what a message may add.
const REFUSALS: usize = 40;
const USER: Verb = Verb::of(b"USER");
const PASS: Verb = Verb::of(b"PASS");
const ACCT: Verb = Verb::of(b"ACCT");
