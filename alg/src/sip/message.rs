//! Messages out of bytes: start line, header lines, Content-Length (RFC 3261 sections 7 and 18.3).
//!
//! Line ends are CR LF, or LF alone. A line that begins with white space continues the one before it
//! (section 7.3.1). A CR that ends no line and a NUL are read differently by different readers, so
//! with one of them in its header a message is not read at all.

use super::Fault;
use super::text::{Span, is_space, is_token, number};

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A request.
    Request {
        /// Its method.
        method: Span,
        /// Its URI.
        uri: Span,
    },
    /// A response with this status code.
    Response(u16),
}

/// Reads a first line (without its end).
pub(super) fn start_line(line: &[u8]) -> Option<Start> {
    if let Some(rest) = line.strip_prefix(b"SIP/2.0 ") {
        let status = number(rest.get(..3)?, 3, 699).filter(|status| *status >= 100)?;
        let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
        return ends.then_some(Start::Response(u16::try_from(status).ok()?));
    }
    let (method, rest) = Span::new(0, line.len()).split(line, b' ')?;
    let (uri, version) = rest.split(line, b' ')?;
    let starts = may_be_method(method.of(line)) && !is_http(method.of(line)) && may_be_uri(uri.of(line));
    let complete = method.end > 0 && uri.of(line).contains(&b':') && version.of(line) == b"SIP/2.0";
    (starts && complete).then_some(Start::Request { method, uri })
}

/// Whether `bytes`, in which no line has ended yet, can still become the first line of a message.
pub(super) fn may_become_start(bytes: &[u8]) -> bool {
    const STATUS: &[u8] = b"SIP/2.0 ";
    let common = bytes.len().min(STATUS.len());
    if bytes.get(..common) == STATUS.get(..common) {
        return true;
    }
    let mut words = bytes.splitn(3, |byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    if !may_be_method(method) {
        return false;
    }
    let Some(uri) = words.next() else { return true };
    if method.is_empty() || is_http(method) || !may_be_uri(uri) {
        return false;
    }
    words.next().is_none_or(|version| b"SIP/2.0\r".starts_with(version))
}

fn may_be_method(text: &[u8]) -> bool {
    text.len() <= LONGEST_METHOD && text.iter().all(|byte| is_token(*byte))
}

/// A scheme, and then no white space and no control character.
fn may_be_uri(text: &[u8]) -> bool {
    let scheme = text.split(|byte| *byte == b':').next().unwrap_or_default();
    let alphabetic = scheme.first().is_none_or(u8::is_ascii_alphabetic);
    alphabetic
        && scheme.iter().all(|byte| is_token(*byte))
        && text.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Methods of HTTP that are none of SIP.
fn is_http(method: &[u8]) -> bool {
    [&b"GET"[..], b"POST", b"PUT", b"HEAD", b"DELETE", b"CONNECT", b"TRACE", b"PATCH", b"PRI"]
        .contains(&method)
}

/// Where the header ends (behind its empty line). Line ends before `from` have been looked at.
pub(super) fn head_end(input: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += input.get(at..)?.iter().position(|byte| *byte == b'\n')? + 1;
        let rest = input.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'\n') {
            return Some(at + 1);
        }
        if rest.starts_with(b"\r\n") {
            return Some(at + 2);
        }
    }
}

/// One header line, with those that continue it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) name: Name,
    /// All of it, with its end.
    pub(super) line: Span,
    /// What is behind the colon, trimmed; line ends inside are white space.
    pub(super) value: Span,
    /// Why it cannot be read.
    pub(super) fault: Option<Fault>,
}

/// The header lines of `head`, which ends with the empty line.
pub(super) struct Headers<'a> {
    head: &'a [u8],
    at: usize,
}

impl<'a> Headers<'a> {
    /// From the line after the first.
    pub(super) fn new(head: &'a [u8]) -> Self {
        let at = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
        Self { head, at }
    }

    /// From the first line: the header of a body part has no start line.
    pub(super) const fn of_part(head: &'a [u8]) -> Self {
        Self { head, at: 0 }
    }
}

impl Iterator for Headers<'_> {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        let rest = self.head.get(self.at..)?;
        if rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return None;
        }
        let mut end = 0;
        loop {
            let tail = rest.get(end..).unwrap_or_default();
            end += tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |at| at + 1);
            if !rest.get(end).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                break;
            }
        }
        let line = Span::new(self.at, self.at + end);
        self.at = line.end;
        Some(header(self.head, line))
    }
}

fn header(head: &[u8], line: Span) -> Header {
    let text = line.of(head);
    let mut found = Header { name: Name::Other, line, value: Span::new(line.end, line.end), fault: None };
    let stray = text.windows(2).any(|pair| matches!(pair, [b'\r', next] if *next != b'\n'));
    if stray || text.contains(&0) {
        found.fault = Some(Fault::Control);
        return found;
    }
    if text.len() > MAX_LINE_BYTES {
        found.fault = Some(Fault::TooLong);
    }
    let split = line.split(head, b':').map(|(name, value)| (name, value.trimmed(head)));
    let Some((name, value)) = split else {
        found.fault = found.fault.or(Some(Fault::Malformed));
        return found;
    };
    let spelled = name.of(head).trim_ascii_end();
    if spelled.is_empty() || !spelled.iter().all(|byte| is_token(*byte)) {
        found.fault = found.fault.or(Some(Fault::Malformed));
        return found;
    }
    found.name = Name::of(spelled);
    found.value = value;
    found
}

/// The headers that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    CallId,
    Contact,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    Expires,
    From,
    SessionExpires,
    To,
    Via,
    Warning,
    /// Record-Route, Route, Path, Service-Route, Refer-To.
    Addresses,
    /// P-Asserted-Identity, P-Preferred-Identity, Referred-By.
    Identities,
    /// Replaces, Join, Target-Dialog, In-Reply-To.
    CallIds,
    /// Passed over; Authorization and Identity are among them.
    Other,
}

impl Name {
    fn of(text: &[u8]) -> Self {
        const NAMES: [(&[u8], Name); 35] = [
            (b"call-id", Name::CallId),
            (b"i", Name::CallId),
            (b"contact", Name::Contact),
            (b"m", Name::Contact),
            (b"content-encoding", Name::ContentEncoding),
            (b"e", Name::ContentEncoding),
            (b"content-length", Name::ContentLength),
            (b"l", Name::ContentLength),
            (b"content-type", Name::ContentType),
            (b"c", Name::ContentType),
            (b"cseq", Name::CSeq),
            (b"expires", Name::Expires),
            (b"from", Name::From),
            (b"f", Name::From),
            (b"session-expires", Name::SessionExpires),
            (b"x", Name::SessionExpires),
            (b"to", Name::To),
            (b"t", Name::To),
            (b"via", Name::Via),
            (b"v", Name::Via),
            (b"warning", Name::Warning),
            (b"record-route", Name::Addresses),
            (b"route", Name::Addresses),
            (b"path", Name::Addresses),
            (b"service-route", Name::Addresses),
            (b"p-asserted-identity", Name::Identities),
            (b"p-preferred-identity", Name::Identities),
            (b"refer-to", Name::Addresses),
            (b"r", Name::Addresses),
            (b"referred-by", Name::Identities),
            (b"b", Name::Identities),
            (b"replaces", Name::CallIds),
            (b"join", Name::CallIds),
            (b"target-dialog", Name::CallIds),
            (b"in-reply-to", Name::CallIds),
        ];
        let known = NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        known.map_or(Self::Other, |(_, name)| *name)
    }
}

/// The Content-Length of a header: `Ok(None)` when there is none.
///
/// # Errors
/// [`Fault::Malformed`] when it is no number, or there are two; [`Fault::Control`] when header lines
/// cannot be told apart with certainty.
pub(super) fn content_length(head: &[u8]) -> Result<Option<usize>, Fault> {
    let mut length = None;
    for header in Headers::new(head) {
        if header.fault == Some(Fault::Control) {
            return Err(Fault::Control);
        }
        if header.name == Name::ContentLength {
            let value = number(header.value.of(head), 9, u32::MAX).ok_or(Fault::Malformed)?;
            if length.replace(usize::try_from(value).map_err(|_| Fault::Malformed)?).is_some() {
                return Err(Fault::Malformed);
            }
        }
    }
    Ok(length)
}

/// Whether all of it is a keepalive: line ends (RFC 5626 section 3.5.1), or the NULs and blanks that
/// some phones send instead.
pub(super) fn is_keepalive(datagram: &[u8]) -> bool {
    datagram.len() <= 16 && datagram.iter().all(|byte| is_space(*byte) || *byte == 0)
}

/// Whether it is a STUN message: two zero bits, the magic cookie, a length that fits (RFC 8489 section 5).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= 20
        && datagram.first().is_some_and(|byte| byte & 0xc0 == 0)
        && datagram.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
}

/// The longest header line that is read, with its end and those that continue it.
pub(super) const MAX_LINE_BYTES: usize = 4096;
const LONGEST_METHOD: usize = 32;
