//! Where a server names itself: URLs in headers and descriptions, addresses in descriptions.
//!
//! A URL is touched when its host is the address to be translated and its port, 554 where it is left out, is
//! that of the control session: another port has no mapping behind it.

use std::net::SocketAddrV4;
use std::ops::Range;

use super::changes::Changes;
use super::head::{line_end, trimmed};
use super::transport::{parameter, split};
use crate::decimal::{dotted, number};

/// Translates the URL at `at` from one endpoint of the server to another.
pub(super) fn translate_url(
    text: &[u8],
    at: Range<usize>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    changes: &mut Changes,
) {
    let inside = text.get(at.clone()).unwrap_or_default();
    let quote = usize::from(inside.first() == Some(&b'"'));
    let url = inside.get(quote..).unwrap_or_default();
    let Some(scheme) = SCHEMES.iter().find(|scheme| has_prefix(url, scheme)) else { return };
    let host_at = at.start + quote + scheme.len();
    let rest = text.get(host_at..at.end).unwrap_or_default();
    let authority = rest.iter().position(|byte| b"/?#\" \r\n;".contains(byte)).unwrap_or(rest.len());
    let authority = rest.get(..authority).unwrap_or_default();
    let host = authority.split(|&byte| byte == b':').next().unwrap_or_default();
    let l4_port = match authority.get(host.len() + 1..) {
        Some(digits) => number(digits, 5, u16::MAX),
        None => Some(DEFAULT_L4_PORT),
    };
    if dotted(host) != Some(*from.ip()) || l4_port != Some(from.port()) {
        return;
    }
    if from.port() == to.port() {
        changes.put_address(&(host_at..host_at + host.len()), *to.ip());
    } else {
        changes.put_endpoint(&(host_at..host_at + authority.len()), to);
    }
}

/// Translates the URLs of an RTP-Info header.
pub(super) fn translate_rtp_info(
    text: &[u8],
    value: Range<usize>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    changes: &mut Changes,
) {
    for stream in split(text, value, b',') {
        for part in split(text, stream, b';') {
            // RFC 7826 section 18.45 has blanks between a stream's URL and its parameters.
            let (name, value) = parameter(text, part);
            if name.eq_ignore_ascii_case(b"url") {
                translate_url(text, value, from, to, changes);
            }
        }
    }
}

/// Translates the addresses of `o=` and `c=` and the URLs of `a=control` in the description at `body`.
pub(super) fn translate_description(
    text: &[u8],
    body: Range<usize>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    changes: &mut Changes,
) {
    let text = text.get(..body.end).unwrap_or_default();
    let mut at = body.start;
    while at < body.end {
        let line = trimmed(text, at..line_end(text, at));
        at = line_end(text, at);
        let inside = text.get(line.clone()).unwrap_or_default();
        if has_prefix(inside, b"a=control:") {
            translate_url(text, line.start + 10..line.end, from, to, changes);
        } else if inside.starts_with(b"c=") || inside.starts_with(b"o=") {
            let Some(kind) = inside.windows(5).position(|window| window == b" IP4 ") else { continue };
            let rest = inside.get(kind + 5..).unwrap_or_default();
            let length = rest.iter().position(|byte| b"/ ".contains(byte)).unwrap_or(rest.len());
            if rest.get(..length).and_then(dotted) == Some(*from.ip()) {
                let start = line.start + kind + 5;
                changes.put_address(&(start..start + length), *to.ip());
            }
        }
    }
}

fn has_prefix(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

const SCHEMES: [&[u8]; 2] = [b"rtsp://", b"rtspu://"];
/// RFC 2326 section 3.2
const DEFAULT_L4_PORT: u16 = 554;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Edits;

    type Translate = fn(&[u8], Range<usize>, SocketAddrV4, SocketAddrV4, &mut Changes);

    fn translated(text: &str, to: &str, translate: Translate) -> String {
        let mut changes = Changes::new();
        let from = "10.0.0.9:554".parse().unwrap();
        translate(text.as_bytes(), 0..text.len(), from, to.parse().unwrap(), &mut changes);
        let mut edits = Edits::with_capacity(16, 512);
        assert!(changes.write(&mut edits));
        let (mut output, mut at) = (String::new(), 0);
        for (range, with) in edits.iter() {
            output += &text[at..range.start];
            output += std::str::from_utf8(with).unwrap();
            at = range.end;
        }
        output + &text[at..]
    }

    #[test]
    fn translates_urls_that_name_the_control_session_s_server() {
        let (same, other) = ("198.51.100.7:554", "198.51.100.7:8554");
        let rows = [
            ("rtsp://10.0.0.9/a", same, "rtsp://198.51.100.7/a"),
            ("rtsp://10.0.0.9:554/a", same, "rtsp://198.51.100.7:554/a"),
            ("RTSP://10.0.0.9", same, "RTSP://198.51.100.7"),
            ("\"rtsp://10.0.0.9/a\"", same, "\"rtsp://198.51.100.7/a\""),
            ("rtsp://10.0.0.9/a", other, "rtsp://198.51.100.7:8554/a"),
            ("rtsp://10.0.0.9:554/10.0.0.9", other, "rtsp://198.51.100.7:8554/10.0.0.9"),
            ("rtsp://10.0.0.9:8000/a", same, "rtsp://10.0.0.9:8000/a"),
            ("rtsp://10.0.0.9:x/a", same, "rtsp://10.0.0.9:x/a"),
            ("rtsp://10.0.0.90/a", same, "rtsp://10.0.0.90/a"),
            ("rtsp://host.example/10.0.0.9", same, "rtsp://host.example/10.0.0.9"),
            ("http://10.0.0.9/a", same, "http://10.0.0.9/a"),
            ("track1", same, "track1"),
            ("*", same, "*"),
        ];
        for (text, to, want) in rows {
            assert_eq!(translated(text, to, translate_url), want, "{text} to {to}");
        }
    }

    #[test]
    fn translates_every_stream_of_rtp_info() {
        let text =
            "url=rtsp://10.0.0.9/a/1;seq=1;rtptime=2,\r\n url=\"rtsp://10.0.0.9/a/2\" ssrc=1:seq=2,url=x";
        let want = text.replace("10.0.0.9", "198.51.100.7");
        assert_eq!(translated(text, "198.51.100.7:554", translate_rtp_info), want);
    }

    #[test]
    fn translates_the_server_s_addresses_in_a_description() {
        let text = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=10.0.0.9\r\nc=IN IP4 10.0.0.9/127\r\n\
             a=control:rtsp://10.0.0.9:554/a/\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=control:track1\r\n";
        let want = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=10.0.0.9\r\nc=IN IP4 198.51.100.7/127\r\n\
             a=control:rtsp://198.51.100.7:554/a/\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=control:track1\r\n";
        assert_eq!(translated(text, "198.51.100.7:554", translate_description), want);
    }
}
