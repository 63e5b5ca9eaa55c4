//! The operator's rules about messages, compiled: the first one that matches decides.
//!
//! One grammar for all protocols. A rule names what a message must be (command, argument, file type, user, who, where
//! to, which way) and what becomes of it; what it leaves open matches anything. Without a matching rule a message is
//! allowed.
//!
//! - *Text* is compared without regard to the case of ASCII letters: FTP servers on half of all systems do so, and a rule that
//!   a capital letter evades is none. `*` stands for any bytes, `?` for one.
//! - *Arguments* are compared as the server will understand them: `\` is `/`, `//`, `/./` and `/../` are resolved, and
//!   in URIs `%41` is `A`. What climbs above its start keeps its `..`.
//! - *File types* are what follows the last dot of the last part; blanks and dots behind it are ignored, as
//!   Windows does.
//! - *Users* are those that the dialogue has proved; before that, a rule with users matches nobody.
//! - *Cut* messages, whose argument is not all there: a rule that refuses matches, whatever argument it asks for, and one
//!   that allows does not. Else a long line would be the way round every rule.
//! - *Unreadable* messages are those and what does not parse. A rule may be for them only; it is asked when that is
//!   known, behind what was allowed by the rules before it.
//! - *Masks* are rules about what an end says of itself: they do not judge messages, and an earlier rule that allows spares from them.
//!
//! Work is bounded: each pattern takes one step per byte, whatever the pattern (Shift-And: one bit per place that a
//! match may have reached), and nothing is allocated after [`Rules::new`].

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contract::{Direction, Ruling, Subject};
use crate::registry::ProtocolId;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The internal end sends it.
    Outbound,
    /// The external end sends it.
    Inbound,
}

/// A text with `*` and `?`, compiled.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// For each byte, the places it may stand at.
    accepts: Box<[u64; 256]>,
    /// Places in front of which any bytes may stand.
    loops: u64,
    /// The place behind the last one.
    end: u64,
}

/// Why a text is no pattern: it has more than [`Pattern::PLACES`] bytes without its `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Pattern {
    /// Bytes a pattern may have, `*` not counted.
    pub const PLACES: usize = 63;

    /// Compiles `text`.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let mut accepts = Box::new([0; 256]);
        let (mut loops, mut place) = (0_u64, 0_usize);
        for byte in text.bytes() {
            if byte == b'*' {
                loops |= 1 << place;
                continue;
            }
            if place == Self::PLACES {
                return Err(TooLong);
            }
            for (candidate, places) in (0..=u8::MAX).zip(accepts.iter_mut()) {
                if byte == b'?' || byte.eq_ignore_ascii_case(&candidate) {
                    *places |= 1 << place;
                }
            }
            place += 1;
        }
        Ok(Self { accepts, loops, end: 1 << place })
    }

    /// Whether all of `text` matches. One step per byte.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let mut reached = 1_u64;
        for byte in text {
            let accepts = self.accepts.get(usize::from(*byte)).copied().unwrap_or(0);
            reached = (reached & self.loops) | ((reached & accepts) << 1);
            if reached == 0 {
                return false;
            }
        }
        reached & self.end != 0
    }
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The first address.
    pub network: Ipv4Addr,
    /// How many bits they share, 0 to 32.
    pub length: u8,
}

impl Prefix {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.length.min(32))).unwrap_or(0);
        (u32::from(address) ^ u32::from(self.network)) & mask == 0
    }
}

/// One rule. Empty and `None`: anything.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The protocol.
    pub protocol: Option<ProtocolId>,
    /// Commands or methods.
    pub commands: Vec<Pattern>,
    /// Arguments: paths, URIs, file names.
    pub arguments: Vec<Pattern>,
    /// File types, without the dot.
    pub file_types: Vec<Pattern>,
    /// Users.
    pub users: Vec<Pattern>,
    /// The internal end.
    pub internal: Vec<Prefix>,
    /// The other end.
    pub peer: Vec<Prefix>,
    /// Which way it goes.
    pub way: Option<Way>,
    /// The internal end's tenant.
    pub tenant: Option<u16>,
    /// Only messages that cannot be read.
    pub is_unreadable: bool,
    /// What it does.
    pub action: Action,
    /// So many a second are allowed, and only what comes above that gets the ruling.
    pub rate_per_second: Option<u32>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It judges messages.
    Rule(Ruling),
    /// It hides what an end says of itself.
    Mask,
}

/// What the rules are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A message.
    Message,
    /// One whose argument is not all there.
    Cut,
    /// One that is not readable, and which no rule for all messages has refused.
    Unreadable,
    /// A text that an end says of itself.
    Text,
}

/// What is known of a message's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its protocol.
    pub protocol: ProtocolId,
    /// The internal end, as it knows itself.
    pub internal: Ipv4Addr,
    /// The other end, as it knows itself.
    pub peer: Ipv4Addr,
    /// The internal end's tenant; 0: none.
    pub tenant: u16,
    /// The direction in which the internal end sends.
    pub outbound: Direction,
}

/// What the rules say about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The rule's place in the list.
    pub rule: usize,
    /// What becomes of the message; of a text, [`Ruling::Allow`] lets it be and anything else hides it.
    pub ruling: Ruling,
}

/// All rules, in their order. Shared by all threads.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Box<[Limited]>,
}

#[derive(Debug)]
struct Limited {
    rule: Rule,
    /// When the next message would be on time, nanoseconds (the generic cell rate algorithm, ITU-T I.371): one second's worth
    /// may come at once.
    due: AtomicU64,
}

/// Where an argument is resolved: memory taken once.
#[derive(Debug)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// Room for arguments of `bytes`; a longer one counts as cut.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }
}

impl Rules {
    /// Rules in their order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into_iter().map(|rule| Limited { rule, due: AtomicU64::new(0) }).collect() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether one of them hides texts.
    #[must_use]
    pub fn may_mask(&self) -> bool {
        self.rules.iter().any(|limited| matches!(limited.rule.action, Action::Mask))
    }

    /// What the first matching rule says. `nanos`: now, of a clock that never goes back.
    pub fn judge(
        &self,
        facts: &Facts,
        subject: &Subject<'_>,
        question: Question,
        nanos: u64,
        scratch: &mut Scratch,
    ) -> Option<Judgement> {
        let is_cut = question == Question::Cut;
        // Resolved when the first rule asks for it.
        let mut argument: Option<Argument<'_>> = None;
        let Scratch(memory) = scratch;
        let mut memory = Some(memory);
        for (place, limited) in self.rules.iter().enumerate() {
            let rule = &limited.rule;
            if !rule.answers(question) || !rule.admits(facts, subject) {
                continue;
            }
            if !rule.arguments.is_empty() || !rule.file_types.is_empty() {
                if let Some(memory) = memory.take() {
                    argument = Some(Argument::resolve(facts.protocol, subject.argument, is_cut, memory));
                }
                if !argument.as_ref().is_some_and(|argument| rule.admits_argument(argument)) {
                    continue;
                }
            }
            let ruling = match rule.action {
                // It has judged this message already, or is not meant to: it only spares it from the rules behind.
                Action::Rule(Ruling::Allow) if question.is_second() && !rule.is_unreadable => return None,
                Action::Rule(_) if limited.is_within_rate(nanos) => Ruling::Allow,
                Action::Rule(ruling) => ruling,
                Action::Mask => Ruling::Drop,
            };
            return Some(Judgement { rule: place, ruling });
        }
        None
    }
}

impl Question {
    /// Whether rules for all messages were asked before.
    const fn is_second(self) -> bool {
        matches!(self, Self::Unreadable | Self::Text)
    }
}

impl Rule {
    /// Whether it has anything to say about that.
    const fn answers(&self, question: Question) -> bool {
        match (question, self.action) {
            (Question::Message, Action::Rule(_)) => !self.is_unreadable,
            (Question::Cut, Action::Rule(_)) | (Question::Text, Action::Mask) => true,
            (Question::Unreadable, Action::Rule(ruling)) => {
                self.is_unreadable || matches!(ruling, Ruling::Allow)
            }
            (Question::Text, Action::Rule(ruling)) => !self.is_unreadable && matches!(ruling, Ruling::Allow),
            (Question::Message | Question::Cut | Question::Unreadable, Action::Mask) => false,
        }
    }

    fn admits(&self, facts: &Facts, subject: &Subject<'_>) -> bool {
        let way = if subject.direction == facts.outbound { Way::Outbound } else { Way::Inbound };
        self.protocol.is_none_or(|protocol| protocol == facts.protocol)
            && self.way.is_none_or(|wanted| wanted == way)
            && self.tenant.is_none_or(|tenant| tenant == facts.tenant)
            && (self.internal.is_empty()
                || self.internal.iter().any(|prefix| prefix.contains(facts.internal)))
            && (self.peer.is_empty() || self.peer.iter().any(|prefix| prefix.contains(facts.peer)))
            && is_any(&self.commands, subject.command)
            && (self.users.is_empty() || (!subject.user.is_empty() && is_any(&self.users, subject.user)))
    }

    fn admits_argument(&self, argument: &Argument<'_>) -> bool {
        if argument.is_cut {
            return self.action != Action::Rule(Ruling::Allow);
        }
        is_any(&self.arguments, argument.text)
            && (self.file_types.is_empty()
                || argument
                    .file_type()
                    .is_some_and(|name| self.file_types.iter().any(|one| one.matches(name))))
    }
}

impl Limited {
    /// Whether a message that matches is within what the rule allows. Takes its place.
    fn is_within_rate(&self, nanos: u64) -> bool {
        let Some(rate) = self.rule.rate_per_second.filter(|rate| *rate > 0) else { return false };
        let cost = SECOND / u64::from(rate);
        let next = |due: u64| {
            let start = due.max(nanos);
            (start - nanos <= SECOND - cost).then_some(start + cost)
        };
        // Relaxed: the word stands for itself.
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// No pattern at all is any text.
fn is_any(patterns: &[Pattern], text: &[u8]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
}

/// An argument as the server will understand it.
#[derive(Debug)]
struct Argument<'a> {
    text: &'a [u8],
    is_uri: bool,
    is_cut: bool,
}

impl<'a> Argument<'a> {
    fn resolve(protocol: ProtocolId, written: &[u8], is_cut: bool, memory: &'a mut Vec<u8>) -> Self {
        let is_uri = match protocol {
            ProtocolId::Sip | ProtocolId::Rtsp => true,
            ProtocolId::Ftp | ProtocolId::Tftp | ProtocolId::Irc | ProtocolId::Pptp => false,
        };
        memory.clear();
        let is_cut = is_cut || written.len() > memory.capacity();
        if !is_cut {
            decode(written, is_uri, memory);
            resolve_path(memory);
        }
        Self { text: memory, is_uri, is_cut }
    }

    /// What follows the last dot of the last part. `None`: there is no dot, or nothing behind it.
    fn file_type(&self) -> Option<&[u8]> {
        let mut path = self.text;
        if self.is_uri
            && let Some(end) = path.iter().position(|byte| matches!(byte, b'?' | b'#'))
        {
            path = path.get(..end)?;
        }
        let name = path.rsplit(|byte| *byte == b'/').next()?;
        // `a.exe::$DATA` is the file `a.exe` to Windows.
        let name = name.split(|byte| *byte == b':').next()?;
        let kept = name.iter().rposition(|byte| !matches!(byte, b'.' | b' '))? + 1;
        let name = name.get(..kept)?;
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        name.get(dot + 1..)
    }
}

/// Copies `written`; in a URI with its percent-encoded bytes decoded, once (RFC 3986 section 2.1). Never longer.
fn decode(written: &[u8], is_uri: bool, into: &mut Vec<u8>) {
    let digit = |at: usize| written.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while let Some(byte) = written.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) if is_uri => {
                // Two hexadecimal digits are a byte.
                into.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                into.push(*byte);
                at += 1;
            }
        }
    }
}

/// Writes `\` as `/`, and resolves empty parts, `.` and `..`, in place. What stands before `://` and the host behind it are no parts of a path.
fn resolve_path(text: &mut Vec<u8>) {
    for byte in text.iter_mut().filter(|byte| **byte == b'\\') {
        *byte = b'/';
    }
    let scheme = text.windows(3).position(|three| three == b"://").map(|at| at + 3);
    let root = match scheme {
        Some(at) => {
            let host = text.get(at..).unwrap_or_default().iter().position(|byte| *byte == b'/');
            host.map_or(text.len(), |length| at + length)
        }
        None => 0,
    };
    let is_absolute = text.get(root) == Some(&b'/');
    // Where the next part is written, and below which `..` does not go.
    let mut floor = root + usize::from(is_absolute);
    let mut end = floor;
    let mut read = floor;
    while read < text.len() {
        let rest = text.get(read..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let part = rest.get(..length).unwrap_or_default();
        let has_slash = length < rest.len();
        match part {
            b"" | b"." => {}
            b".." if end > floor => {
                let before = text.get(floor..end - 1).unwrap_or_default();
                end = before.iter().rposition(|byte| *byte == b'/').map_or(floor, |at| floor + at + 1);
            }
            b".." if is_absolute => {}
            _ => {
                let climbs = part == b"..";
                let bytes = length + usize::from(has_slash);
                text.copy_within(read..read + bytes, end);
                end += bytes;
                if climbs {
                    floor = end;
                }
            }
        }
        read += length + 1;
    }
    text.truncate(end);
}

const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
