//! URIs and the headers made of them (RFC 3261 sections 19.1, 20 and 25.1): name-addr and addr-spec,
//! comma lists, quoted strings, parameters, Via, Warning.
//!
//! What is looked for are host literals of IPv4. A host name, an IPv6 literal and a URI of another
//! scheme than `sip` and `sips` give no token: they are never replaced.

use memchr::memchr3;

use crate::contract::Protocol;

use super::Fault;
use super::hiding::hidden;
use super::text::{Span, address, find, find_either, is_token, is_word, l4_port, number};
use super::tokens::{Place, RPORT, Token, Tokens, Value};

/// One element of a list of addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) uri: Span,
    /// The header's own parameters, behind the URI.
    pub(super) parameters: Span,
}

/// The elements of a comma list; commas in quotes and between angle brackets separate nothing.
pub(super) struct Elements<'a> {
    bytes: &'a [u8],
    rest: Span,
}

impl<'a> Elements<'a> {
    pub(super) const fn new(bytes: &'a [u8], value: Span) -> Self {
        Self { bytes, rest: value }
    }
}

impl Iterator for Elements<'_> {
    type Item = Result<Span, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.start < self.rest.end {
            let text = self.rest.of(self.bytes);
            let mut at = 0;
            let end = loop {
                let Some(found) = memchr3(b'"', b'<', b',', text.get(at..).unwrap_or_default()) else {
                    break self.rest.end;
                };
                let behind = at + found + 1;
                let closed = match text.get(at + found) {
                    Some(b'"') => quote_end(text, behind),
                    Some(b'<') => match bracket_end(text, behind) {
                        Ok(closed) => closed,
                        Err(fault) => return Some(Err(fault)),
                    },
                    _ => break self.rest.start + at + found,
                };
                let Some(closed) = closed else {
                    self.rest.start = self.rest.end;
                    return Some(Err(Fault::Malformed));
                };
                at = closed;
                // Most lists have one element without parameters.
                if at == text.len() {
                    break self.rest.end;
                }
            };
            let element = Span::new(self.rest.start, end).trimmed(self.bytes);
            self.rest.start = (end + 1).min(self.rest.end);
            if element.start < element.end {
                return Some(Ok(element));
            }
        }
        None
    }
}

/// Behind the bracket that ends what begins at `at`.
fn bracket_end(text: &[u8], at: usize) -> Result<Option<usize>, Fault> {
    let inside = text.get(at..).unwrap_or_default();
    match find_either(b'<', b'>', inside) {
        Some(length) if inside.get(length) == Some(&b'<') => Err(Fault::Malformed),
        length => Ok(length.map(|length| at + length + 1)),
    }
}

/// Behind the quote that ends a text, which begins at `at`; a backslash hides what is behind it.
fn quote_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + find_either(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Takes an element apart.
pub(super) fn element(bytes: &[u8], span: Span) -> Result<Element, Fault> {
    let text = span.of(bytes);
    let mut at = 0;
    while let Some(found) = find_either(b'"', b'<', text.get(at..).unwrap_or_default()) {
        let behind = at + found + 1;
        if text.get(at + found) == Some(&b'<') {
            let inside = Span::new(span.start + behind, span.end);
            let (uri, parameters) = inside.split(bytes, b'>').ok_or(Fault::Malformed)?;
            return Ok(Element { uri: uri.trimmed(bytes), parameters });
        }
        at = quote_end(text, behind).unwrap_or(text.len());
    }
    // Without brackets, what is behind the first semicolon belongs to the header (section 20).
    let (uri, parameters) = match span.split(bytes, b';') {
        Some((uri, parameters)) => (uri, Span::new(parameters.start - 1, parameters.end)),
        None => (span, Span::new(span.end, span.end)),
    };
    Ok(Element { uri: uri.trimmed(bytes), parameters })
}

/// The parameters of a header or a URI: name, and value where there is one. Quoted values keep their quotes.
pub(super) struct Parameters<'a> {
    bytes: &'a [u8],
    rest: Span,
}

impl<'a> Parameters<'a> {
    /// Reads from the first semicolon of `span` on.
    pub(super) fn new(bytes: &'a [u8], span: Span) -> Self {
        let rest = span.split(bytes, b';').map_or(Span::new(span.end, span.end), |(_, rest)| rest);
        Self { bytes, rest }
    }
}

impl Iterator for Parameters<'_> {
    type Item = (Span, Option<Span>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.start >= self.rest.end {
            return None;
        }
        let text = self.rest.of(self.bytes);
        // What is in quotes separates nothing.
        let mut end = 0;
        while let Some(found) = find_either(b';', b'"', text.get(end..).unwrap_or_default()) {
            end += found;
            if text.get(end) == Some(&b';') {
                break;
            }
            end = quote_end(text, end + 1).unwrap_or(text.len());
        }
        if text.get(end) != Some(&b';') {
            end = text.len();
        }
        let one = Span::new(self.rest.start, self.rest.start + end);
        self.rest.start = (one.end + 1).min(self.rest.end);
        Some(match one.split(self.bytes, b'=') {
            Some((name, value)) => (name.trimmed(self.bytes), Some(value.trimmed(self.bytes))),
            None => (one.trimmed(self.bytes), None),
        })
    }
}

/// The value of the parameter `name`.
pub(super) fn parameter(bytes: &[u8], span: Span, name: &[u8]) -> Option<Span> {
    let mut found = Parameters::new(bytes, span);
    found.find(|(spelled, _)| is_word(spelled.of(bytes), name)).and_then(|(_, value)| value)
}

/// The user of a URI.
pub(super) fn user(bytes: &[u8], uri: Span) -> Span {
    let parts = uri.split(bytes, b':').and_then(|(_, rest)| rest.split(bytes, b'@'));
    let Some((userinfo, _)) = parts else { return Span::new(uri.start, uri.start) };
    userinfo.split(bytes, b':').map_or(userinfo, |(user, _)| user)
}

/// Notes the host of a URI, and its `maddr`. Returns the index of the host's token.
pub(super) fn read_uri(
    bytes: &[u8],
    uri: Span,
    place: Place,
    tokens: &mut Tokens,
) -> Result<Option<usize>, Fault> {
    let Some((scheme, rest)) = uri.split(bytes, b':') else { return Ok(None) };
    let secure = match scheme.end - scheme.start {
        3 if is_word(scheme.of(bytes), b"sip") => false,
        4 if is_word(scheme.of(bytes), b"sips") => true,
        _ => return Ok(None),
    };
    let rest = match rest.split(bytes, b'@') {
        Some((_, host)) if host.of(bytes).contains(&b'@') => return Err(Fault::Malformed),
        Some((_, host)) => host,
        None => rest,
    };
    let (rest, headers) = rest.split(bytes, b'?').unwrap_or((rest, Span::new(rest.end, rest.end)));
    let (host, has_parameters) = rest.split(bytes, b';').map_or((rest, false), |(before, _)| (before, true));
    let mut index = None;
    if let Some(value) = host_port(host.of(bytes))? {
        let mut token = Token::new(host, place, value);
        token.default_l4_port = if secure { 5061 } else { 5060 };
        let transport = if has_parameters { parameter(bytes, rest, b"transport") } else { None };
        token.transport = match transport.map(|value| value.of(bytes)) {
            Some(text) if is_word(text, b"udp") => Some(Protocol::Udp),
            Some(_) => Some(Protocol::Tcp),
            None if secure => Some(Protocol::Tcp),
            None => None,
        };
        index = Some(tokens.push(token)?);
    }
    if has_parameters && let Some(span) = parameter(bytes, rest, b"maddr") {
        push_address(bytes, span, Place::UriMaddr, tokens)?;
    }
    read_embedded(bytes, headers, tokens)?;
    Ok(index)
}

/// Notes the Call-IDs in the headers that a URI asks for (section 19.1.1): `Replaces=1%40192.0.2.1%3Bto-tag%3D7`.
fn read_embedded(bytes: &[u8], headers: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    let mut rest = headers;
    while rest.start < rest.end {
        let (header, behind) = rest.split(bytes, b'&').unwrap_or((rest, Span::new(rest.end, rest.end)));
        rest = behind;
        let Some((name, value)) = header.split(bytes, b'=') else { continue };
        let names_a_call = [&b"replaces"[..], b"join", b"target-dialog", b"in-reply-to"]
            .iter()
            .any(|known| name.of(bytes).eq_ignore_ascii_case(known));
        let text = value.of(bytes);
        let Some(at) = text.windows(3).position(|three| three == b"%40").filter(|_| names_a_call) else {
            continue;
        };
        let host = text.get(at + 3..).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b'%' | b';' | b',');
        let length = host.iter().position(is_end).unwrap_or(host.len());
        let start = value.start + at + 3;
        push_call_host(bytes, Span::new(start, start + length), tokens)?;
    }
    Ok(())
}

/// Notes the host of a Call-ID. Returns the index of its token.
pub(super) fn read_call_id(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<Option<usize>, Fault> {
    match value.split(bytes, b'@') {
        Some((_, host)) => push_call_host(bytes, host, tokens),
        None => Ok(None),
    }
}

/// Notes the hosts of the Call-IDs that a header refers to: one with parameters (Replaces, Join, Target-Dialog), or a list.
pub(super) fn read_call_ids(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    let value = value.split(bytes, b';').map_or(value, |(before, _)| before);
    let mut rest = value;
    while rest.start < rest.end {
        let (one, behind) = rest.split(bytes, b',').unwrap_or((rest, Span::new(rest.end, rest.end)));
        rest = behind;
        read_call_id(bytes, one.trimmed(bytes), tokens)?;
    }
    Ok(())
}

fn push_call_host(bytes: &[u8], host: Span, tokens: &mut Tokens) -> Result<Option<usize>, Fault> {
    let text = host.of(bytes);
    let value = match address(text) {
        Some(address) => Some(Value::Host(address, None)),
        None => hidden(text).map(Value::Hidden),
    };
    value.map(|value| tokens.push(Token::new(host, Place::CallId, value))).transpose()
}

/// Notes all URIs of a header.
pub(super) fn read_addresses(
    bytes: &[u8],
    value: Span,
    place: Place,
    tokens: &mut Tokens,
) -> Result<(), Fault> {
    if place == Place::Contact && value.of(bytes) == b"*" {
        return Ok(());
    }
    for span in Elements::new(bytes, value) {
        let element = element(bytes, span?)?;
        let index = read_uri(bytes, element.uri, place, tokens)?;
        let expires = parameter(bytes, element.parameters, b"expires");
        if let (Some(index), Some(expires)) = (index, expires)
            && let Some(token) = tokens.as_mut_slice().get_mut(index)
        {
            token.expires = number(expires.of(bytes), 9, u32::MAX);
        }
    }
    Ok(())
}

/// Notes the tokens of the first element of the first Via: the one that the sender of a request has
/// put there, and that the receiver of a response has (RFC 3261 section 18).
pub(super) fn read_via(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    let top = Elements::new(bytes, value).next().ok_or(Fault::Malformed)??;
    let mut rest = top;
    for _ in 0..2 {
        rest = rest.split(bytes, b'/').ok_or(Fault::Malformed)?.1;
    }
    let (transport, rest) = rest.word(bytes);
    if transport.start == transport.end || !transport.of(bytes).iter().all(|byte| is_token(*byte)) {
        return Err(Fault::Malformed);
    }
    let sent_by = rest.split(bytes, b';').map_or(rest, |(before, _)| before).trimmed(bytes);
    if let Some(value) = host_port(sent_by.of(bytes))? {
        let mut token = Token::new(sent_by, Place::SentBy, value);
        if is_word(transport.of(bytes), b"tls") {
            token.default_l4_port = 5061;
        }
        tokens.push(token)?;
    }
    // It stands right behind the sent-by, or would; elsewhere it is not replaced.
    let behind = Span::new(sent_by.end, rest.end).of(bytes);
    let is_flag = behind.starts_with(RPORT)
        && !behind.get(RPORT.len()).is_some_and(|byte| is_token(*byte) || *byte == b'=');
    let length = if is_flag { RPORT.len() } else { 0 };
    let flag =
        Token::new(Span::new(sent_by.end, sent_by.end + length), Place::RportFlag, Value::Flag(is_flag));
    let flag = tokens.push(flag)?;
    let mut has_rport = false;
    for (name, value) in Parameters::new(bytes, rest) {
        match name.of(bytes) {
            name if is_word(name, b"rport") => {
                has_rport = true;
                if let Some((span, l4_port)) = value.and_then(|span| Some((span, l4_port(span.of(bytes))?))) {
                    tokens.push(Token::new(span, Place::Rport, Value::Number(l4_port.into())))?;
                }
            }
            name => {
                let Some(value) = value else { continue };
                if is_word(name, b"maddr") {
                    push_address(bytes, value, Place::ViaMaddr, tokens)?;
                } else if is_word(name, b"received") {
                    push_address(bytes, value, Place::Received, tokens)?;
                }
            }
        }
    }
    if has_rport && !is_flag {
        tokens.remove(flag);
    }
    Ok(())
}

/// Notes the agents of a Warning (section 20.43): `code agent "text"`.
pub(super) fn read_warning(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    for span in Elements::new(bytes, value) {
        let (_, rest) = span?.word(bytes);
        let (agent, _) = rest.word(bytes);
        if let Ok(Some(value)) = host_port(agent.of(bytes)) {
            tokens.push(Token::new(agent, Place::Identity, value))?;
        }
    }
    Ok(())
}

fn push_address(bytes: &[u8], span: Span, place: Place, tokens: &mut Tokens) -> Result<(), Fault> {
    if let Some(address) = address(span.of(bytes)) {
        tokens.push(Token::new(span, place, Value::Host(address, None)))?;
    }
    Ok(())
}

/// `host[:port]` with an IPv4 literal for host; `None` for any other host. Via allows blanks round the colon.
pub(super) fn host_port(text: &[u8]) -> Result<Option<Value>, Fault> {
    let host = text.trim_ascii_start();
    if !host.first().is_some_and(u8::is_ascii_digit) {
        return Ok(None);
    }
    let Some(colon) = find(b':', host) else {
        return Ok(address(host.trim_ascii_end()).map(|host| Value::Host(host, None)));
    };
    let (host, digits) = host.split_at(colon);
    let Some(host) = address(host.trim_ascii_end()) else { return Ok(None) };
    let digits = digits.get(1..).unwrap_or_default().trim_ascii();
    Ok(Some(Value::Host(host, Some(l4_port(digits).ok_or(Fault::Malformed)?))))
}
