//! Heads of RTSP messages: a first line, header lines, an empty line (RFC 2326 sections 4 to 7, RFC 7826
//! sections 5 to 8).
//!
//! A header whose next lines begin with a blank goes on there (folding); its value is then read with the line
//! ends in it, which count as blanks. Lines end with LF, with or without a CR before it.

use std::ops::Range;

use crate::decimal::number;

/// The first line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FirstLine {
    /// A request.
    Request {
        /// `SETUP` and the like.
        method: Range<usize>,
        /// What it is about.
        uri: Range<usize>,
    },
    /// A response.
    Response {
        /// 100 to 599.
        code: u32,
    },
}

/// What is at the start of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// A first line that may still become complete.
    Unfinished,
    /// A first line of RTSP 1.0 or 2.0.
    Line(FirstLine),
    /// Something else.
    Wrong,
}

/// Reads the first line.
pub(super) fn start(input: &[u8]) -> Start {
    let token = input.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'_').count();
    let is_response = input.get(..token) == Some(b"RTSP") && matches!(input.get(token), Some(b'/'));
    let may_be_request =
        (1..=LONGEST_METHOD).contains(&token) && matches!(input.get(token), None | Some(b' '));
    if !is_response && !may_be_request {
        return Start::Wrong;
    }
    let Some(line) = input.iter().position(|&byte| byte == b'\n').and_then(|end| input.get(..end)) else {
        return Start::Unfinished;
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let first = if is_response { response(line) } else { request(line, token) };
    first.map_or(Start::Wrong, Start::Line)
}

/// The length of a head with the empty line that ends it, once that is there.
pub(super) fn length(input: &[u8]) -> Option<usize> {
    let mut empty = false;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'\n' if empty => return Some(at + 1),
            b'\n' => empty = true,
            b'\r' if empty && input.get(at + 1) == Some(&b'\n') => {}
            _ => empty = false,
        }
    }
    None
}

/// The headers of a whole head: name and place of the value, blanks around it not counted.
pub(super) fn headers(head: &[u8]) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let mut at = line_end(head, 0);
    std::iter::from_fn(move || {
        while at < head.len() {
            let line = at;
            at = line_end(head, line);
            while matches!(head.get(at), Some(b' ' | b'\t')) {
                at = line_end(head, at);
            }
            let Some(text) = head.get(line..at) else { continue };
            if let Some(colon) = text.iter().position(|&byte| byte == b':') {
                let name = text.get(..colon).unwrap_or_default().trim_ascii();
                return Some((name, trimmed(head, line + colon + 1..at)));
            }
        }
        None
    })
}

/// What framing, order and identity of a message depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Common {
    /// Bytes behind the head, and where it says so.
    pub(super) content_length: Option<(u32, Range<usize>)>,
    /// CSeq
    pub(super) cseq: Option<u32>,
    /// The name of the session, its parameters not counted.
    pub(super) session: Option<Range<usize>>,
    /// The seconds of its `timeout` parameter.
    pub(super) timeout_seconds: Option<u32>,
    /// The body is a session description.
    pub(super) is_sdp: bool,
    /// It carries credentials, which may cover the URI.
    pub(super) is_authorized: bool,
}

/// Reads the headers that every message may have. `None`: the length of the body is in doubt.
pub(super) fn common(head: &[u8]) -> Option<Common> {
    let mut common = Common::default();
    for (name, at) in headers(head) {
        let value = head.get(at.clone())?;
        if name.eq_ignore_ascii_case(b"Content-Length") {
            let length = number(value, 9, u32::MAX)?;
            if common.content_length.as_ref().is_some_and(|(before, _)| *before != length) {
                return None;
            }
            common.content_length.get_or_insert((length, at));
        } else if name.eq_ignore_ascii_case(b"CSeq") {
            common.cseq = number(value, 10, u32::MAX);
        } else if name.eq_ignore_ascii_case(b"Session") {
            let length = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
            common.session = Some(trimmed(head, at.start..at.start + length));
            let timeout = value.get(length + 1..).unwrap_or_default().trim_ascii().strip_prefix(b"timeout=");
            common.timeout_seconds = timeout.and_then(|seconds| number(seconds.trim_ascii(), 6, u32::MAX));
        } else if name.eq_ignore_ascii_case(b"Content-Type") {
            let kind = value.split(|&byte| byte == b';').next().unwrap_or_default();
            common.is_sdp = kind.trim_ascii().eq_ignore_ascii_case(b"application/sdp");
        } else if name.eq_ignore_ascii_case(b"Authorization") {
            common.is_authorized = true;
        }
    }
    Some(common)
}

/// `at` without the blanks at its ends.
pub(super) fn trimmed(text: &[u8], at: Range<usize>) -> Range<usize> {
    let inside = text.get(at.clone()).unwrap_or_default();
    let start = at.end - inside.trim_ascii_start().len();
    start..(at.start + inside.trim_ascii_end().len()).max(start)
}

/// The end of the line at `from`, its LF included.
pub(super) fn line_end(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| from + at + 1)
}

fn request(line: &[u8], method_end: usize) -> Option<FirstLine> {
    let uri_end = VERSIONS.iter().find_map(|version| line.strip_suffix(*version))?.strip_suffix(b" ")?.len();
    let uri = trimmed(line, method_end..uri_end);
    let text = line.get(uri.clone())?;
    let is_one_word = !text.is_empty() && !text.contains(&b' ');
    is_one_word.then_some(FirstLine::Request { method: 0..method_end, uri })
}

fn response(line: &[u8]) -> Option<FirstLine> {
    let rest = VERSIONS.iter().find_map(|version| line.strip_prefix(*version))?.strip_prefix(b" ")?;
    let code = number(rest.get(..3)?, 3, 599)?;
    (code >= 100 && matches!(rest.get(3), None | Some(b' '))).then_some(FirstLine::Response { code })
}

const VERSIONS: [&[u8]; 2] = [b"RTSP/1.0", b"RTSP/2.0"];
/// Methods are open to extension (RFC 2326 section 6.1); none in use is longer than `GET_PARAMETER`.
const LONGEST_METHOD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_of_rtsp_or_wrong_as_soon_as_it_can_be_told() {
        let rows: [(&[u8], Option<bool>); 18] = [
            (b"SETUP rtsp://a/b RTSP/1.0\r\n", Some(true)),
            (b"PLAY_NOTIFY * RTSP/2.0\n", Some(true)),
            (b"RTSP/1.0 200 OK\r\n", Some(true)),
            (b"RTSP/2.0 454\r\n", Some(true)),
            (b"SETUP rtsp://a/b RTSP/1.0", None),
            (b"RTS", None),
            (b"RTSP/", None),
            (b"SETUP", None),
            (b"OPTIONS * HTTP/1.1\r\n", Some(false)),
            (b"POST / HTTP/1.0\r\n", Some(false)),
            (b"SETUP  RTSP/1.0\r\n", Some(false)),
            (b"SETUP a b RTSP/1.0\r\n", Some(false)),
            (b"RTSP/3.0 200 OK\r\n", Some(false)),
            (b"RTSP/1.0 600 OK\r\n", Some(false)),
            (b"RTSP/1.0 2000\r\n", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (b"setup", Some(false)),
            (b"$\x00\x00\x04", Some(false)),
        ];
        for (input, want) in rows {
            let seen = match start(input) {
                Start::Unfinished => None,
                Start::Line(_) => Some(true),
                Start::Wrong => Some(false),
            };
            assert_eq!(seen, want, "{}", input.escape_ascii());
            if want != Some(false) {
                for cut in 1..input.len() - 1 {
                    assert_eq!(start(&input[..cut]), Start::Unfinished, "{}", input[..cut].escape_ascii());
                }
            }
        }
        let want = FirstLine::Request { method: 0..5, uri: 6..16 };
        assert_eq!(start(b"SETUP rtsp://a/b RTSP/1.0\r\n"), Start::Line(want));
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        let rows: [(&[u8], Option<usize>); 7] = [
            (b"a\r\n\r\nb", Some(5)),
            (b"a\n\nb", Some(3)),
            (b"a\r\n\nb", Some(4)),
            (b"a\r\n\r", None),
            (b"a\r\n\rb\n", None),
            (b"a\r\nb\r\n", None),
            (b"", None),
        ];
        for (input, want) in rows {
            assert_eq!(length(input), want, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn reads_headers_folded_and_of_any_case() {
        let head = b"A\r\nX:  1 \r\nno colon\r\nTransport: a,\r\n\t b\r\nY:\r\n\r\n";
        let seen: Vec<_> = headers(head).map(|(name, at)| (name, &head[at])).collect();
        assert_eq!(seen, [(&b"X"[..], &b"1"[..]), (b"Transport", b"a,\r\n\t b"), (b"Y", b"")]);

        let head =
            b"A\ncontent-length: 7\nCSEQ: 9\nSession: ab12 ;timeout=30\ncontent-type: application/SDP;a\n\n";
        let common = common(head).unwrap();
        assert_eq!(common.content_length.map(|(length, _)| length), Some(7));
        assert_eq!((common.cseq, common.timeout_seconds, common.is_sdp), (Some(9), Some(30), true));
        assert_eq!(common.session.map(|at| &head[at]), Some(&b"ab12"[..]));
    }

    #[test]
    fn a_length_in_doubt_is_none() {
        for lines in [
            "Content-Length: 4294967297",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 1 2",
            "Content-Length: 1\r\nContent-Length: 2",
        ] {
            assert_eq!(common(format!("A\r\n{lines}\r\n\r\n").as_bytes()), None, "{lines}");
        }
        assert!(common(b"A\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n").is_some());
    }
}
