//! The server's side of a dialogue: replies answer the oldest command, what they tell of the server may be hidden.

use crate::contract::{Context, Direction, Event, Ruling, Step, Subject, Verdict};
use crate::decimal::Text;
use crate::framing::Framed;

use super::about::About;
use super::outstanding::Awaited;
use super::policy::Name;
use super::reply::{self, Code};
use super::{Ftp, State};

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

impl Ftp {
    /// Reads what the server sends.
    pub(super) fn inspect_server(&mut self, input: &[u8], cx: &mut Context<'_>) -> Step {
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

    /// What becomes of a server's line that cannot be read: nothing stands for it, so the session ends with it.
    pub(super) fn unreadable_reply(&self, line: &[u8], cx: &mut Context<'_>) -> Verdict {
        let command = line.get(..reply::TEXT_AT - 1).unwrap_or_default();
        let user = self.proved.as_bytes();
        let subject = Subject { direction: Direction::Reply, command, argument: b"", user };
        if cx.policy.judge_unreadable(&subject) == Ruling::Allow {
            return Verdict::Pass;
        }
        cx.events.count(Event::Denied);
        Verdict::Terminate
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
}

/// The one command whose answer `code` can be.
pub(super) const fn answers_only(code: Code) -> Option<Awaited> {
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
