//! The tokens of a message that may be replaced: all of them, whether they will be or not.
//!
//! A message is rewritten by giving tokens new values, and in no other way. After that each line that has one is read
//! again ([`super::writing`]): it must consist of the same tokens, at the places the new lengths put them, with exactly the
//! values that were meant.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::contract::Protocol;

use super::Fault;
use super::hiding;
use super::text::{Span, Written, digits};

/// What a token is to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Host and port of the request's URI.
    RequestUri,
    /// Host and port of a URI in Contact.
    Contact,
    /// Host and port of a URI in a header that says where messages go: routes, Refer-To.
    Uri,
    /// Host and port in a header that says who somebody is: nobody is reached there.
    Identity,
    /// `maddr` of any of these URIs.
    UriMaddr,
    /// sent-by of the top Via.
    SentBy,
    /// `maddr` of the top Via.
    ViaMaddr,
    /// `received` of the top Via.
    Received,
    /// `rport` of the top Via, when it has a value.
    Rport,
    /// Where `rport` stands, or would: right behind the sent-by of the top Via.
    RportFlag,
    /// Host of a Call-ID, wherever one stands.
    CallId,
    /// Content-Length of the message.
    Length,
    /// Content-Length of the body part that is the session description.
    PartLength,
    /// The address in `o=`.
    Origin,
    /// The address in `c=` of the session, or of a media section.
    Connection,
    /// The port in `m=`.
    MediaPort,
    /// The port in `a=rtcp`.
    RtcpPort,
    /// The address in `a=rtcp`.
    RtcpAddress,
    /// Host and port of a URI in `a=path`.
    Path,
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// An address, and a port where one is written.
    Host(Ipv4Addr, Option<u16>),
    /// A number.
    Number(u32),
    /// The host of a Call-ID, hidden ([`super::hiding`]).
    Hidden(u64),
    /// A parameter without a value, there or not.
    Flag(bool),
}

impl Value {
    /// How many bytes [`Value::written`] has.
    fn length(self) -> usize {
        match self {
            Self::Host(address, l4_port) => {
                let octets: usize = address.octets().into_iter().map(|octet| digits(octet.into())).sum();
                octets + 3 + l4_port.map_or(0, |l4_port| 1 + digits(l4_port.into()))
            }
            Self::Number(value) => digits(value),
            Self::Hidden(_) => hiding::DIGITS + hiding::SUFFIX.len(),
            Self::Flag(there) => {
                if there {
                    RPORT.len()
                } else {
                    0
                }
            }
        }
    }

    pub(super) fn written(self) -> Written {
        let mut text = Written::new();
        match self {
            Self::Host(address, l4_port) => {
                text.push_address(address);
                if let Some(l4_port) = l4_port {
                    text.push_byte(b':');
                    text.push_number(l4_port.into());
                }
            }
            Self::Number(value) => text.push_number(value),
            Self::Hidden(name) => {
                for digit in (0..hiding::DIGITS).rev().map(|place| (name >> (4 * place)) & 0xf) {
                    let digit = u8::try_from(digit).unwrap_or(0);
                    text.push_byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
                }
                hiding::SUFFIX.iter().for_each(|byte| text.push_byte(*byte));
            }
            Self::Flag(there) => {
                let flag = if there { RPORT } else { b"" };
                flag.iter().for_each(|byte| text.push_byte(*byte));
            }
        }
        text
    }
}

/// How a line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first one of a request.
    Start,
    /// A header of the message, with the lines that continue it.
    Header,
    /// A header of a part of the body.
    PartHeader,
    /// A line of a session description.
    Description,
}

/// A line, with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) span: Span,
    /// The line it stands in.
    pub(super) line: Line,
    pub(super) place: Place,
    pub(super) value: Value,
    /// What stands there afterwards.
    pub(super) new: Option<Value>,
    /// How much longer it becomes.
    pub(super) growth: i32,
    /// The port meant where none is written.
    pub(super) default_l4_port: u16,
    /// The transport that the URI asks for.
    pub(super) transport: Option<Protocol>,
    /// `expires` of a Contact, in seconds.
    pub(super) expires: Option<u32>,
}

impl Token {
    pub(super) const fn new(span: Span, place: Place, value: Value) -> Self {
        Self {
            span,
            line: Line { kind: Kind::Start, span: Span::new(0, 0) },
            place,
            value,
            new: None,
            growth: 0,
            default_l4_port: 5060,
            transport: None,
            expires: None,
        }
    }

    /// The endpoint it names.
    pub(super) fn endpoint(&self) -> Option<SocketAddrV4> {
        match self.value {
            Value::Host(address, l4_port) => {
                Some(SocketAddrV4::new(address, l4_port.unwrap_or(self.default_l4_port)))
            }
            Value::Number(_) | Value::Hidden(_) | Value::Flag(_) => None,
        }
    }

    /// The address it names.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        match self.value {
            Value::Host(address, _) => Some(address),
            Value::Number(_) | Value::Hidden(_) | Value::Flag(_) => None,
        }
    }

    /// Whether a port is written.
    pub(super) const fn has_l4_port(&self) -> bool {
        matches!(self.value, Value::Host(_, Some(_)))
    }
}

/// The tokens of one message, in the order they stand in it.
#[derive(Debug)]
pub(super) struct Tokens {
    items: [Token; MAX_TOKENS],
    length: usize,
    line: Line,
}

impl Tokens {
    pub(super) const fn new() -> Self {
        let none = Token::new(Span::new(0, 0), Place::Length, Value::Number(0));
        Self { items: [none; MAX_TOKENS], length: 0, line: none.line }
    }

    /// Forgets all of them.
    pub(super) const fn clear(&mut self) {
        self.length = 0;
    }

    /// Those that are added from now on stand in this line.
    pub(super) const fn begin_line(&mut self, kind: Kind, span: Span) {
        self.line = Line { kind, span };
    }

    /// Adds one behind the others and returns its index.
    pub(super) fn push(&mut self, token: Token) -> Result<usize, Fault> {
        let slot = self.items.get_mut(self.length).ok_or(Fault::TooLong)?;
        *slot = Token { line: self.line, ..token };
        self.length += 1;
        Ok(self.length - 1)
    }

    pub(super) fn as_slice(&self) -> &[Token] {
        self.items.get(..self.length).unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Token] {
        self.items.get_mut(..self.length).unwrap_or_default()
    }

    /// Forgets the one at `index`.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some([_, ..]) = self.as_slice().get(index..) {
            self.items.copy_within(index + 1..self.length, index);
            self.length -= 1;
        }
    }

    /// Forgets all from `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(super) fn get(&self, index: usize) -> Option<&Token> {
        self.as_slice().get(index)
    }

    /// Gives the token at `index` a new value, unless it has that value.
    pub(super) fn set(&mut self, index: usize, new: Value) {
        if let Some(token) = self.as_mut_slice().get_mut(index) {
            token.new = (token.value != new).then_some(new);
            let before = token.span.end - token.span.start;
            let after = token.new.map_or(before, Value::length);
            let signed = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
            token.growth = signed(after).saturating_sub(signed(before));
        }
    }
}

/// The flag of a Via (RFC 3581 section 3).
pub(super) const RPORT: &[u8] = b";rport";
/// Tokens of one message; one with more passes unread. Enough for [`super::sdp::MAX_SECTIONS`] with four tokens each.
const MAX_TOKENS: usize = 128;
