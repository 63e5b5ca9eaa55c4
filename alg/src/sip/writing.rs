//! New values of tokens as edits of the message, and the proof that it reads back as meant.
//!
//! An edit changes one line and ends none. So only lines with a new value are read again, by what has read them before; all
//! others are the same bytes, and are read as they were. What goes beyond a line is compared by itself: the name of the call,
//! and each length with what was really written behind it.

use std::iter::Peekable;
use std::ops::Range;

use crate::contract::{Edits, Event};

use super::hiding::CallIdKey;
use super::message::{Headers, MAX_LINE_BYTES, Start, first_line, start_line};
use super::reader::{Message, Seen};
use super::scratch::Again;
use super::sdp::{self, Sdp};
use super::text::Span;
use super::tokens::{Kind, Line, Place, Token, Tokens, Value};
use super::uri::read_uri;
use super::{MAX_EDITS, MAX_GROWTH_BYTES};

/// Gives the lengths the values they have after all replacements, and makes edits of them.
///
/// # Errors
/// The bounds on replacements and growth, which are the message's own fault: [`Event::LineTooLong`].
pub(super) fn write(
    message: &Message,
    sdp: &Sdp,
    tokens: &mut Tokens,
    edits: &mut Edits,
) -> Result<(), Event> {
    let grown = |tokens: &[Token]| -> i32 { tokens.iter().map(|token| token.growth).sum() };
    if message.has_sdp {
        let mut growth = grown(tokens.as_slice().get(sdp.first_token..).unwrap_or_default());
        // From the innermost part outwards: each contains the length of the one within.
        for index in (0..sdp.first_token).rev() {
            if tokens.get(index).is_some_and(|token| token.place == Place::PartLength) {
                growth += grow(tokens, index, growth)?;
            }
        }
        message.length.map_or(Ok(0), |index| grow(tokens, index, growth))?;
    }
    let replaced = tokens.as_slice().iter().filter(|token| token.new.is_some());
    if replaced.clone().count() > MAX_EDITS
        || grown(tokens.as_slice()) > i32::try_from(MAX_GROWTH_BYTES).unwrap_or(0)
    {
        return Err(Event::LineTooLong);
    }
    for token in replaced {
        let Some(new) = token.new else { continue };
        if !edits.replace(token.span.start..token.span.end, new.written().as_bytes()) {
            return Err(Event::LineTooLong);
        }
    }
    Ok(())
}

/// Returns how much longer the number itself becomes.
fn grow(tokens: &mut Tokens, index: usize, growth: i32) -> Result<i32, Event> {
    let Some(Value::Number(length)) = tokens.get(index).map(|token| token.value) else { return Ok(0) };
    let length = length.checked_add_signed(growth).ok_or(Event::Malformed)?;
    tokens.set(index, Value::Number(length));
    Ok(tokens.get(index).map_or(0, |token| token.growth))
}

/// Whether the message, with its edits made, says what was meant: every line with a new value is one line of the same kind,
/// and has the same tokens, each where the new lengths put it, with its new value or else its old one; there is no other
/// edit; the call has the same name; and each length has grown by as much as what it counts.
pub(super) fn reads_back(
    bytes: &[u8],
    message: &Message,
    tokens: &Tokens,
    edits: &Edits,
    hiding: Option<CallIdKey>,
    room: &mut Again,
) -> bool {
    let mut left = edits.iter().peekable();
    for of_line in tokens.as_slice().chunk_by(|one, other| one.line == other.line) {
        let Some(Token { line, .. }) = of_line.first().filter(|_| is_changed(of_line)) else { continue };
        let Some(length) = render(bytes, line.span, &mut left, &mut room.bytes) else { return false };
        let text = room.bytes.get(..length).unwrap_or_default();
        if !is_read_as_meant(text, line.kind, message, hiding, &mut room.tokens)
            || !has_tokens(room.tokens.as_slice(), *line, of_line)
        {
            return false;
        }
    }
    left.next().is_none() && tokens.as_slice().iter().all(|token| is_length_right(token, message, edits))
}

fn is_changed(tokens: &[Token]) -> bool {
    tokens.iter().any(|token| token.new.is_some())
}

/// Writes a line as it will leave, and returns its length. `None`: the next edit is not in it, or there is no room.
fn render<'a>(
    bytes: &[u8],
    line: Span,
    edits: &mut Peekable<impl Iterator<Item = (Range<usize>, &'a [u8])>>,
    buffer: &mut [u8],
) -> Option<usize> {
    let (mut read, mut written) = (line.start, 0);
    let mut put = |part: &[u8]| {
        buffer.get_mut(written..written + part.len())?.copy_from_slice(part);
        written += part.len();
        Some(())
    };
    while let Some((range, with)) = edits.next_if(|(range, _)| range.end <= line.end) {
        put(bytes.get(read..range.start)?)?;
        put(with)?;
        read = range.end;
    }
    put(bytes.get(read..line.end)?)?;
    Some(written)
}

/// Reads a line into `tokens`: it must be one, and no other call's.
fn is_read_as_meant(
    text: &[u8],
    kind: Kind,
    message: &Message,
    hiding: Option<CallIdKey>,
    tokens: &mut Tokens,
) -> bool {
    tokens.clear();
    match kind {
        Kind::Start => {
            let line = first_line(text);
            let start = start_line(line.strip_suffix(b"\r").unwrap_or(line));
            let Some(Start::Request { uri, .. }) = start else { return false };
            line.len() + 1 == text.len()
                && line.len() <= MAX_LINE_BYTES
                && read_uri(text, uri, Place::RequestUri, tokens).is_ok()
        }
        Kind::Header | Kind::PartHeader => {
            let header = Headers::of_part(text).next();
            let Some(header) = header.filter(|header| header.line.end == text.len()) else { return false };
            if header.fault.is_some() {
                return false;
            }
            let (mut found, mut seen) = (Message::default(), Seen::default());
            if found.read_header(text, header.name, header.value, &mut seen, tokens).is_err() {
                return false;
            }
            found.name_call(text, tokens, hiding);
            found.call == 0 || found.call == message.call
        }
        Kind::Description => sdp::read_again(text, Span::new(0, text.len()), tokens).is_ok(),
    }
}

/// Whether `found` are the tokens of `line` with their new values.
fn has_tokens(found: &[Token], line: Line, of_line: &[Token]) -> bool {
    let mut moved = 0;
    found.len() == of_line.len()
        && of_line.iter().zip(found).all(|(old, new)| {
            let start = (old.span.start - line.span.start).checked_add_signed(moved);
            moved += isize::try_from(old.growth).unwrap_or(0);
            let end = (old.span.end - line.span.start).checked_add_signed(moved);
            // In a part of the body it is read as one of the message.
            let place = if old.place == Place::PartLength { Place::Length } else { old.place };
            (start, end) == (Some(new.span.start), Some(new.span.end))
                && new.place == place
                && new.value == old.new.unwrap_or(old.value)
        })
}

/// Whether a length has grown as much as the edits have made what it counts: all behind it in the body.
fn is_length_right(token: &Token, message: &Message, edits: &Edits) -> bool {
    let (Place::Length | Place::PartLength, Value::Number(old)) = (token.place, token.value) else {
        return true;
    };
    let behind = token.span.end.max(message.body.start);
    let length =
        edits.iter().filter(|(range, _)| range.start >= behind).try_fold(old, |sum, (range, with)| {
            let with = u32::try_from(with.len()).ok()?;
            sum.checked_add(with)?.checked_sub(u32::try_from(range.len()).ok()?)
        });
    length.is_some_and(|length| token.new.unwrap_or(token.value) == Value::Number(length))
}

/// The same for tests, the long way: the whole message is made, read from its first byte, and compared token by token.
#[cfg(any(test, feature = "testing"))]
pub(super) fn reads_back_whole(
    bytes: &[u8],
    message: &Message,
    tokens: &Tokens,
    edits: &Edits,
    hiding: Option<CallIdKey>,
) -> bool {
    use super::reader::read;

    let (mut whole, mut copied) = (Vec::new(), 0);
    for (range, with) in edits.iter() {
        whole.extend_from_slice(bytes.get(copied..range.start).unwrap_or_default());
        whole.extend_from_slice(with);
        copied = range.end;
    }
    whole.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    let line = first_line(&whole);
    let start = start_line(line.strip_suffix(b"\r").unwrap_or(line));
    let Some(start) = start else { return false };
    let (mut again, mut sdp) = (Tokens::new(), Sdp::new());
    let Ok(mut found) = read(&whole, start, &mut again, &mut sdp) else { return false };
    found.name_call(&whole, &again, hiding);
    let is_same = (found.status, found.method, found.call, found.from_tag, found.to_tag)
        == (message.status, message.method, message.call, message.from_tag, message.to_tag);
    let (before, after) = (tokens.as_slice(), again.as_slice());
    let mut moved = 0;
    let mut at_place = |old: &Token, new: &Token| {
        let start = old.span.start.checked_add_signed(moved);
        moved += isize::try_from(old.growth).unwrap_or(0);
        (start, old.span.end.checked_add_signed(moved)) == (Some(new.span.start), Some(new.span.end))
    };
    is_same
        && before.len() == after.len()
        && before.iter().zip(after).all(|(old, new)| {
            at_place(old, new) && new.place == old.place && new.value == old.new.unwrap_or(old.value)
        })
        // What is behind the body of a datagram stays behind it.
        && whole.len() - found.body.end == bytes.len() - message.body.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::reader::read;

    const MESSAGE: &[u8] = b"INVITE sip:10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\
        Content-Length: 38\r\n\r\nc=IN IP4 10.0.0.2\r\nm=audio 4000 RTP/AVP 0\r\n";
    /// Tokens of [`MESSAGE`].
    const URI: usize = 0;
    const VIA: usize = 1;
    const RPORT: usize = 2;
    const LENGTH: usize = 3;
    const CONNECTION: usize = 4;
    const MEDIA: usize = 5;
    const SEEN: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 7);

    /// What both ways say of a message whose tokens are no longer those that were written.
    fn verdict(break_it: impl Fn(&mut Tokens, &mut Edits)) -> bool {
        let (mut tokens, mut sdp) = (Tokens::new(), Sdp::new());
        let start = start_line(first_line(MESSAGE).trim_ascii()).unwrap();
        let message = read(MESSAGE, start, &mut tokens, &mut sdp).unwrap();
        tokens.set(URI, Value::Host(SEEN, Some(5060)));
        tokens.set(VIA, Value::Host(SEEN, None));
        tokens.set(CONNECTION, Value::Host(SEEN, None));
        tokens.set(MEDIA, Value::Number(20_000));
        let mut edits = Edits::with_capacity(8, 256);
        write(&message, &sdp, &mut tokens, &mut edits).unwrap();
        break_it(&mut tokens, &mut edits);
        let by_lines = reads_back(MESSAGE, &message, &tokens, &edits, None, &mut Again::new());
        assert_eq!(by_lines, reads_back_whole(MESSAGE, &message, &tokens, &edits, None));
        by_lines
    }

    #[test]
    fn what_does_not_read_back_as_meant_is_refused() {
        assert!(verdict(|_, _| {}));
        type Row = (&'static str, fn(&mut Tokens));
        let rows: [Row; 9] = [
            ("another value", |tokens| tokens.set(URI, Value::Host(SEEN, Some(5061)))),
            ("not meant", |tokens| tokens.set(VIA, Value::Host([10, 0, 0, 2].into(), None))),
            ("another place", |tokens| tokens.as_mut_slice()[VIA].span.start += 1),
            ("another token", |tokens| tokens.as_mut_slice()[VIA].place = Place::Uri),
            ("a flag that is not there", |tokens| tokens.set(RPORT, Value::Flag(true))),
            ("another length", |tokens| tokens.set(LENGTH, Value::Number(39))),
            ("no other length", |tokens| tokens.set(LENGTH, Value::Number(38))),
            ("another address", |tokens| {
                tokens.set(CONNECTION, Value::Host([198, 51, 100, 70].into(), None))
            }),
            ("no port", |tokens| tokens.set(MEDIA, Value::Number(4000))),
        ];
        for (name, break_it) in rows {
            assert!(!verdict(|tokens, _| break_it(tokens)), "{name}");
        }
    }

    #[test]
    fn an_edit_that_is_no_new_value_is_refused() {
        let place =
            |text: &str| MESSAGE.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
        let rows = [
            ("in a line of its own", "tag=1", "tag=2"),
            ("behind a token", "RTP/AVP 0", "RTP/AVP 0\r\nm=audio 5000 RTP/AVP 0"),
            ("a header more", ";branch=z", ";branch=z\r\nContent-Length: 0"),
            ("two lines of one", "\r\nm=audio", " "),
            ("a body", "Content-Type: application/sdp\r\n", ""),
        ];
        for (name, text, with) in rows {
            let at = place(text);
            assert!(
                !verdict(|_, edits| assert!(edits.insert(at..at + text.len(), with.as_bytes()))),
                "{name}"
            );
        }
    }
}
