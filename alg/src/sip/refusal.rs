//! What policy is asked about a message, and the answer to a request that it refuses: `403 Forbidden`, or `400 Bad Request`
//! where it cannot be read, made from the request (RFC 3261 section 8.2.6).

use crate::contract::{Context, Direction, Event, Ruling, Subject};

use super::message::{Headers, Name, Start, head_end};
use super::reader::Method;
use super::text::{Span, Written, hash};
use super::uri::{element, parameter};

/// Asks policy about a request; responses follow what was allowed.
pub(super) fn judge(
    direction: Direction,
    bytes: &[u8],
    start: Start,
    user: &[u8],
    cx: &mut Context<'_>,
) -> Ruling {
    let Start::Request { method, uri } = start else { return Ruling::Allow };
    let ruling =
        cx.policy.judge(&Subject { direction, command: method.of(bytes), argument: uri.of(bytes), user });
    if ruling != Ruling::Allow {
        cx.events.count(Event::Denied);
    }
    ruling
}

/// Asks policy about a message that passes unread otherwise.
pub(super) fn judge_unreadable(
    direction: Direction,
    bytes: &[u8],
    start: Option<Start>,
    cx: &mut Context<'_>,
) -> Ruling {
    let (command, argument) = match start {
        Some(Start::Request { method, uri }) => (method.of(bytes), uri.of(bytes)),
        Some(Start::Response { .. }) | None => (&[][..], &[][..]),
    };
    let ruling = cx.policy.judge_unreadable(&Subject { direction, command, argument, user: b"" });
    if ruling != Ruling::Allow {
        cx.events.count(Event::Denied);
        cx.events.count(Event::Removed);
    }
    ruling
}

/// Answers a request in the place of its receiver. An ACK has no answer.
pub(super) fn refuse(direction: Direction, bytes: &[u8], start: Start, reason: Reason, cx: &mut Context<'_>) {
    let Start::Request { method, .. } = start else { return };
    if Method::of(method.of(bytes)) == Method::Ack {
        return;
    }
    let Some(head) = head_end(bytes, 0).and_then(|head| bytes.get(..head)) else { return };
    if let Some(refusal) = Refusal::of(head, hash(head), reason) {
        // Without room for it the sender gives up by its own timers.
        let _ = cx.inject.push(direction.reversed(), refusal.as_bytes());
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Policy does not want it.
    Forbidden,
    /// Policy does not want what cannot be read.
    Unreadable,
}

/// A response being written.
pub(super) struct Refusal {
    bytes: [u8; LONGEST],
    length: usize,
    whole: bool,
}

impl Refusal {
    /// The answer to the request whose header is `head`; `None` when it is longer than a refusal may be.
    pub(super) fn of(head: &[u8], tag: u64, reason: Reason) -> Option<Self> {
        let mut refusal = Self { bytes: [0; LONGEST], length: 0, whole: true };
        refusal.push(match reason {
            Reason::Forbidden => b"SIP/2.0 403 Forbidden\r\n",
            Reason::Unreadable => b"SIP/2.0 400 Bad Request\r\n",
        });
        for header in Headers::new(head) {
            if header.fault.is_some() {
                return None;
            }
            match header.name {
                Name::Via | Name::From | Name::CallId | Name::CSeq => refusal.push(header.line.of(head)),
                Name::To => refusal.push_to(head, header.line, header.value, tag),
                _ => {}
            }
        }
        refusal.push(b"Content-Length: 0\r\n\r\n");
        refusal.whole.then_some(refusal)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// A final response has a tag in To (section 8.2.6.2).
    fn push_to(&mut self, head: &[u8], line: Span, value: Span, tag: u64) {
        let tagged = element(head, value).is_ok_and(|to| parameter(head, to.parameters, b"tag").is_some());
        if tagged {
            self.push(line.of(head));
            return;
        }
        self.push(Span::new(line.start, value.end).of(head));
        self.push(b";tag=");
        let mut text = Written::new();
        text.push_number(u32::try_from(tag & 0xffff_ffff).unwrap_or(0));
        self.push(text.as_bytes());
        self.push(b"\r\n");
    }

    fn push(&mut self, text: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                self.length += text.len();
            }
            None => self.whole = false,
        }
    }
}

/// Bytes of a refusal: what may be injected.
const LONGEST: usize = 1024;
