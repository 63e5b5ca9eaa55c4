//! Bodies, and descriptions in parts of them (RFC 2046 section 5.1, RFC 5621).
//!
//! Looked for is one session description in plain text. Signed and encoded bodies are passed over.

use super::Fault;
use super::message::{Headers, Name, head_end};
use super::text::{Span, number};
use super::tokens::{Kind, Place, Token, Tokens, Value};
use super::uri::parameter;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// None, or one that is not read.
    Other,
    /// A session description.
    Sdp,
    /// `multipart/mixed` (or another multipart without a signature) with this boundary.
    Multipart(Span),
}

impl Content {
    /// From a Content-Type.
    pub(super) fn of_type(bytes: &[u8], value: Span) -> Self {
        let kind = value.split(bytes, b';').map_or(value, |(kind, _)| kind).trimmed(bytes).of(bytes);
        if kind == b"application/sdp" || kind.eq_ignore_ascii_case(b"application/sdp") {
            return Self::Sdp;
        }
        let multipart = [&b"multipart/mixed"[..], b"multipart/related", b"multipart/alternative"];
        if !multipart.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            return Self::Other;
        }
        let Some(boundary) = parameter(bytes, value, b"boundary") else { return Self::Other };
        let text = boundary.of(bytes);
        let quoted = text.len() >= 2 && text.starts_with(b"\"") && text.ends_with(b"\"");
        let boundary = if quoted { Span::new(boundary.start + 1, boundary.end - 1) } else { boundary };
        let length = boundary.end - boundary.start;
        if (1..=70).contains(&length) { Self::Multipart(boundary) } else { Self::Other }
    }
}

/// Finds the description in a multipart body (RFC 2046 section 5.1.1), also where that is part of another one (RFC 5621). Own
/// Content-Lengths of the parts around it become tokens.
///
/// # Errors
/// [`Fault::Malformed`] when a body has no end, or two descriptions: only one would be translated.
/// [`Fault::TooLong`] when bodies are nested deeper than [`MAX_NESTING`].
pub(super) fn find_part(
    bytes: &[u8],
    body: Span,
    boundary: Span,
    tokens: &mut Tokens,
) -> Result<Option<Span>, Fault> {
    find_nested(bytes, body, boundary, MAX_NESTING, tokens)
}

fn find_nested(
    bytes: &[u8],
    body: Span,
    boundary: Span,
    depth: usize,
    tokens: &mut Tokens,
) -> Result<Option<Span>, Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::TooLong)?;
    let (mut part, mut found) = (None, None);
    let mut at = body.start;
    while at < body.end {
        let rest = Span::new(at, body.end);
        let next = rest.split(bytes, b'\n').map_or(body.end, |(_, behind)| behind.start);
        let line = Span::new(at, next).of(bytes);
        let tail = line.strip_prefix(b"--").and_then(|text| text.strip_prefix(boundary.of(bytes)));
        let last = tail.is_some_and(|tail| tail.starts_with(b"--"));
        if tail.is_some_and(|tail| last || tail.trim_ascii().is_empty()) {
            if let Some(start) = part {
                // The line end before a boundary belongs to the boundary.
                let content = Span::new(start, at).of(bytes);
                let content = content.strip_suffix(b"\n").unwrap_or(content);
                let content = content.strip_suffix(b"\r").unwrap_or(content);
                let read = read_part(bytes, Span::new(start, start + content.len()), depth, tokens)?;
                if read.is_some() && found.is_some() {
                    return Err(Fault::Malformed);
                }
                found = found.or(read);
            }
            part = Some(next);
            if last {
                return Ok(found);
            }
        }
        at = next;
    }
    if body.start < body.end { Err(Fault::Malformed) } else { Ok(None) }
}

/// The body of one part, if it is a session description in plain text, or has one in a part of its own.
fn read_part(bytes: &[u8], part: Span, depth: usize, tokens: &mut Tokens) -> Result<Option<Span>, Fault> {
    let text = part.of(bytes);
    let Some(end) = head_end(text, 0) else { return Ok(None) };
    let head = text.get(..end).unwrap_or_default();
    let (mut content, mut length) = (Content::Other, None);
    for header in Headers::of_part(head) {
        if let Some(fault) = header.fault {
            return Err(fault);
        }
        let value = header.value.moved(part.start);
        match header.name {
            Name::ContentType => content = Content::of_type(bytes, value),
            Name::ContentEncoding if !value.of(bytes).eq_ignore_ascii_case(b"identity") => return Ok(None),
            Name::ContentLength => length = Some((value, header.line.moved(part.start))),
            _ => {}
        }
    }
    if content == Content::Other {
        return Ok(None);
    }
    let body = Span::new(part.start + end, part.end);
    let before = tokens.as_slice().len();
    if let Some((span, line)) = length {
        let value = number(span.of(bytes), 9, u32::MAX).ok_or(Fault::Malformed)?;
        // Writers differ on whether the line end before the boundary counts.
        let actual = u32::try_from(body.end - body.start).map_err(|_| Fault::TooLong)?;
        if !(actual..=actual + 2).contains(&value) {
            return Err(Fault::Malformed);
        }
        tokens.begin_line(Kind::PartHeader, line);
        tokens.push(Token::new(span, Place::PartLength, Value::Number(value)))?;
    }
    let Content::Multipart(boundary) = content else { return Ok(Some(body)) };
    let found = find_nested(bytes, body, boundary, depth, tokens)?;
    if found.is_none() {
        tokens.truncate(before);
    }
    Ok(found)
}

/// Multipart bodies within each other, the message's own included.
const MAX_NESTING: usize = 4;
