//! Messages out of bytes: start line, header lines, Content-Length (RFC 3261 sections 7 and 18.3).
//!
//! Line ends are CR LF, or LF alone. A line that begins with white space continues the one before it
//! (section 7.3.1). A CR that ends no line and a NUL are read differently by different readers, so
//! with one of them in its header a message is not read at all.

use memchr::memchr;

use super::Fault;
use super::text::{Span, find, find_end, is_space, is_token, is_word, number};

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

/// The bytes before the first LF, or all.
pub(super) fn first_line(bytes: &[u8]) -> &[u8] {
    memchr(b'\n', bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes)
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
    matches!(
        method,
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"DELETE" | b"CONNECT" | b"TRACE" | b"PATCH" | b"PRI"
    )
}

/// Where the header ends (behind its empty line). Line ends before `from` have been looked at.
pub(super) fn head_end(input: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(b'\n', input.get(at..)?)? + 1;
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
    /// What is behind the colon, trimmed; line ends inside are white space. Of [`Name::Other`] nothing.
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
        let at = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
        Self { head, at }
    }

    /// Behind the empty line, where that is next. After the last header it is.
    pub(super) fn end(&self) -> Option<usize> {
        match self.head.get(self.at..)? {
            [b'\n', ..] => Some(self.at + 1),
            [b'\r', b'\n', ..] => Some(self.at + 2),
            _ => None,
        }
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
        let (mut end, mut stray, mut whole) = (0, false, None);
        while let Some(at) = find_end(rest.get(end..).unwrap_or_default()) {
            let found = end + at;
            end = found + 1;
            match (rest.get(found), rest.get(end)) {
                (Some(b'\r'), Some(b'\n')) => end += 1,
                (Some(b'\n'), _) => {}
                // The last byte of all.
                (Some(b'\r'), None) => continue,
                _ => {
                    stray = true;
                    continue;
                }
            }
            if !rest.get(end).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                whole = Some(end);
                break;
            }
        }
        let line = Span::new(self.at, self.at + whole.unwrap_or(rest.len()));
        self.at = line.end;
        Some(header(self.head, line, stray))
    }
}

/// `stray`: it has a NUL, or a CR that ends no line.
fn header(head: &[u8], line: Span, stray: bool) -> Header {
    let text = line.of(head);
    let mut found = Header { name: Name::Other, line, value: Span::new(line.end, line.end), fault: None };
    if stray {
        found.fault = Some(Fault::Control);
        return found;
    }
    if text.len() > MAX_LINE_BYTES {
        found.fault = Some(Fault::TooLong);
    }
    let colon = find(b':', text).unwrap_or(0);
    let spelled = text.get(..colon).unwrap_or_default().trim_ascii_end();
    found.name = Name::of(spelled);
    if found.name != Name::Other {
        found.value = Span::new(line.start + colon + 1, line.end).trimmed(head);
    } else if spelled.is_empty() || !spelled.iter().all(|byte| is_token(*byte)) {
        found.fault = found.fault.or(Some(Fault::Malformed));
    }
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
        let first = text.first().map_or(0, u8::to_ascii_lowercase);
        let (spelled, name): (&[u8], Self) = match (text.len(), first) {
            (1, b'i') => return Self::CallId,
            (1, b'm') => return Self::Contact,
            (1, b'e') => return Self::ContentEncoding,
            (1, b'l') => return Self::ContentLength,
            (1, b'c') => return Self::ContentType,
            (1, b'f') => return Self::From,
            (1, b'x') => return Self::SessionExpires,
            (1, b't') => return Self::To,
            (1, b'v') => return Self::Via,
            (1, b'r') => return Self::Addresses,
            (1, b'b') => return Self::Identities,
            (2, b't') => (b"to", Self::To),
            (3, b'v') => (b"via", Self::Via),
            (4, b'c') => (b"cseq", Self::CSeq),
            (4, b'f') => (b"from", Self::From),
            (4, b'p') => (b"path", Self::Addresses),
            (4, b'j') => (b"join", Self::CallIds),
            (5, b'r') => (b"route", Self::Addresses),
            (7, b'c') if text.get(4) == Some(&b'-') => (b"call-id", Self::CallId),
            (7, b'c') => (b"contact", Self::Contact),
            (7, b'e') => (b"expires", Self::Expires),
            (7, b'w') => (b"warning", Self::Warning),
            (8, b'r') if text.get(5) == Some(&b'-') => (b"refer-to", Self::Addresses),
            (8, b'r') => (b"replaces", Self::CallIds),
            (11, b'r') => (b"referred-by", Self::Identities),
            (11, b'i') => (b"in-reply-to", Self::CallIds),
            (12, b'c') => (b"content-type", Self::ContentType),
            (12, b'r') => (b"record-route", Self::Addresses),
            (13, b's') => (b"service-route", Self::Addresses),
            (13, b't') => (b"target-dialog", Self::CallIds),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (15, b's') => (b"session-expires", Self::SessionExpires),
            (16, b'c') => (b"content-encoding", Self::ContentEncoding),
            (19, b'p') => (b"p-asserted-identity", Self::Identities),
            (20, b'p') => (b"p-preferred-identity", Self::Identities),
            _ => return Self::Other,
        };
        if is_word(text, spelled) { name } else { Self::Other }
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
