//! One whole message, read: what the dialogue needs of it, and its [`Tokens`].

use super::Fault;
use super::hiding::CallIdKey;
use super::message::{Headers, MAX_LINE_BYTES, Name, Start, first_line};
use super::multipart::{Content, find_part};
use super::sdp::Sdp;
use super::text::{Span, hash, hash_hosted, number, short_hash};
use super::tokens::{Kind, Place, Token, Tokens, Value};
use super::uri::{
    element, parameter, read_addresses, read_call_id, read_call_ids, read_uri, read_via, read_warning,
};

/// Methods that change what is kept; all others are only translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Update,
    Prack,
    #[default]
    Other,
}

impl Method {
    pub(super) fn of(text: &[u8]) -> Self {
        match text {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"REGISTER" => Self::Register,
            b"UPDATE" => Self::Update,
            b"PRACK" => Self::Prack,
            _ => Self::Other,
        }
    }

    /// Whether its messages carry offers and answers (RFC 3261 section 13.2.1, RFC 3262, RFC 3311).
    pub(super) const fn carries_offers(self) -> bool {
        matches!(self, Self::Invite | Self::Ack | Self::Update | Self::Prack)
    }
}

/// A message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Message {
    /// The status code of a response.
    pub(super) status: Option<u16>,
    /// The method of the request, also in its responses (CSeq).
    pub(super) method: Method,
    /// Names the Call-ID.
    pub(super) call: u64,
    /// What is before its `@`, and the token of an address behind it.
    call_local: Span,
    call_host: Option<usize>,
    /// Names the tags, 0 where there is none.
    pub(super) from_tag: u32,
    pub(super) to_tag: u32,
    pub(super) from_uri: Span,
    pub(super) to_uri: Span,
    /// Expires, in seconds.
    pub(super) expires: Option<u32>,
    /// Session-Expires, in seconds.
    pub(super) session_expires: Option<u32>,
    /// There was a Contact, with a URI of any kind or `*`.
    pub(super) has_contact: bool,
    /// The token of Content-Length.
    pub(super) length: Option<usize>,
    /// The body, as long as Content-Length says.
    pub(super) body: Span,
    /// It has a description.
    pub(super) has_sdp: bool,
}

/// Reads the message that `bytes` start with, and nothing else into `tokens` and `sdp`. It starts with `start`; its body is what is
/// behind the empty line, or as much of it as Content-Length says.
pub(super) fn read(bytes: &[u8], start: Start, tokens: &mut Tokens, sdp: &mut Sdp) -> Result<Message, Fault> {
    tokens.clear();
    let line = first_line(bytes);
    if line.len() > MAX_LINE_BYTES {
        return Err(Fault::TooLong);
    }
    let mut message = Message::default();
    match start {
        Start::Request { uri, .. } => {
            tokens.begin_line(Kind::Start, Span::new(0, line.len() + 1));
            read_uri(bytes, uri, Place::RequestUri, tokens)?;
        }
        Start::Response(status) => message.status = Some(status),
    }
    let mut seen = Seen::default();
    let mut headers = Headers::new(bytes);
    for count in 0.. {
        let Some(header) = headers.next() else { break };
        if count >= MAX_HEADERS {
            return Err(Fault::TooLong);
        }
        if let Some(fault) = header.fault {
            return Err(fault);
        }
        if header.name != Name::Other {
            tokens.begin_line(Kind::Header, header.line);
            message.read_header(bytes, header.name, header.value, &mut seen, tokens)?;
        }
    }
    let head = headers.end().ok_or(Fault::Malformed)?;
    message.body = Span::new(head, bytes.len());
    let length = message.length.and_then(|index| tokens.get(index)).map(|token| token.value);
    if let Some(Value::Number(length)) = length {
        let end = usize::try_from(length).ok().and_then(|length| head.checked_add(length));
        message.body.end = end.filter(|end| *end <= bytes.len()).ok_or(Fault::Malformed)?;
    }
    let complete = seen.via && seen.from && seen.to && seen.call && seen.cseq;
    let agrees = match start {
        Start::Request { method, .. } => seen.method.of(bytes) == method.of(bytes),
        Start::Response(_) => true,
    };
    if !complete || !agrees {
        return Err(Fault::Malformed);
    }
    if !seen.encoded && message.method.carries_offers() {
        let part = match seen.content {
            Content::Other => None,
            Content::Sdp => Some(message.body),
            Content::Multipart(boundary) => find_part(bytes, message.body, boundary, tokens)?,
        };
        if let Some(part) = part.filter(|part| part.start < part.end) {
            sdp.read(bytes, part, tokens)?;
            message.has_sdp = true;
        }
    }
    Ok(message)
}

/// What has come by so far.
#[derive(Debug)]
pub(super) struct Seen {
    via: bool,
    from: bool,
    to: bool,
    call: bool,
    cseq: bool,
    method: Span,
    encoded: bool,
    content: Content,
}

impl Default for Seen {
    fn default() -> Self {
        let method = Span::default();
        let content = Content::Other;
        Self { via: false, from: false, to: false, call: false, cseq: false, method, encoded: false, content }
    }
}

impl Message {
    /// Notes what one header says.
    pub(super) fn read_header(
        &mut self,
        bytes: &[u8],
        name: Name,
        value: Span,
        seen: &mut Seen,
        tokens: &mut Tokens,
    ) -> Result<(), Fault> {
        let seconds = || number(value.word_before(bytes).of(bytes), 9, u32::MAX);
        match name {
            Name::Via => {
                if !seen.via {
                    read_via(bytes, value, tokens)?;
                }
                seen.via = true;
            }
            Name::Contact => {
                self.has_contact = true;
                read_addresses(bytes, value, Place::Contact, tokens)?;
            }
            Name::Addresses => read_addresses(bytes, value, Place::Uri, tokens)?,
            Name::Identities => read_addresses(bytes, value, Place::Identity, tokens)?,
            Name::CallIds => read_call_ids(bytes, value, tokens)?,
            Name::Warning => read_warning(bytes, value, tokens)?,
            Name::From | Name::To => {
                let element = element(bytes, value)?;
                let tag = parameter(bytes, element.parameters, b"tag");
                let tag = tag.map_or(0, |tag| short_hash(tag.of(bytes)));
                let slot = if name == Name::From { &mut seen.from } else { &mut seen.to };
                // Two of them: the ends may read different ones.
                if std::mem::replace(slot, true) {
                    return Err(Fault::Malformed);
                }
                if name == Name::From {
                    (self.from_tag, self.from_uri) = (tag, element.uri);
                } else {
                    (self.to_tag, self.to_uri) = (tag, element.uri);
                }
            }
            Name::CallId => {
                if std::mem::replace(&mut seen.call, true) || value.start == value.end {
                    return Err(Fault::Malformed);
                }
                self.call = hash(value.of(bytes));
                self.call_local = value.split(bytes, b'@').map_or(value, |(local, _)| local);
                self.call_host = read_call_id(bytes, value, tokens)?;
            }
            Name::CSeq => {
                let (digits, rest) = value.word(bytes);
                let digits_only = digits.of(bytes).iter().all(u8::is_ascii_digit);
                if std::mem::replace(&mut seen.cseq, true) || digits.start == digits.end || !digits_only {
                    return Err(Fault::Malformed);
                }
                seen.method = rest.word(bytes).0;
                self.method = Method::of(seen.method.of(bytes));
            }
            Name::ContentLength => {
                let length = number(value.of(bytes), 9, u32::MAX).ok_or(Fault::Malformed)?;
                if self.length.is_some() {
                    return Err(Fault::Malformed);
                }
                let token = Token::new(value, Place::Length, Value::Number(length));
                self.length = Some(tokens.push(token)?);
            }
            Name::ContentType => seen.content = Content::of_type(bytes, value),
            Name::ContentEncoding => seen.encoded = !value.of(bytes).eq_ignore_ascii_case(b"identity"),
            // What does not parse here counts as absent: it decides no more than how long something is held.
            Name::Expires => self.expires = seconds(),
            Name::SessionExpires => self.session_expires = seconds(),
            Name::Other => {}
        }
        Ok(())
    }
}

impl Message {
    /// Gives the call the name that both sides know it by, whichever of them reads a hidden host in its Call-ID.
    pub(super) fn name_call(&mut self, bytes: &[u8], tokens: &Tokens, hiding: Option<CallIdKey>) {
        let Some(key) = hiding else { return };
        let host = self.call_host.and_then(|index| tokens.get(index)).map(|token| token.value);
        let address = match host {
            Some(Value::Host(address, _)) => Some(address),
            Some(Value::Hidden(name)) => key.reveal(name),
            _ => None,
        };
        if let Some(address) = address {
            self.call = hash_hosted(self.call_local.of(bytes), address);
        }
    }
}

impl Span {
    /// The value without its parameters.
    fn word_before(self, bytes: &[u8]) -> Self {
        self.split(bytes, b';').map_or(self, |(before, _)| before).trimmed(bytes)
    }
}

/// Header lines of one message; one with more passes unread.
const MAX_HEADERS: usize = 128;
