//! Lines of IRC: optional tags (IRCv3 message tags), optional prefix, command, parameters (RFC 2812
//! section 2.3.1), and the CTCP text that a PRIVMSG or NOTICE may carry.
//!
//! CTCP is read at its place in the grammar only: it is the whole last parameter of a PRIVMSG or NOTICE with
//! one target, from the 0x01 that begins it to the next one or the end of the line. The same bytes anywhere
//! else, as in the argument of a PING that a client echoes (CVE-2022-2663), are text.

use std::ops::Range;

/// A line, cut at its blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// A word of letters or a number of three digits.
    pub(super) command: &'a [u8],
    /// The first parameter; empty when there is none.
    pub(super) parameter: &'a [u8],
    /// Where its CTCP text stands in the line, without the 0x01 at its ends.
    pub(super) ctcp: Option<Range<usize>>,
    /// Where the part begins that the limit of 512 bytes counts (RFC 2812 section 2.3).
    pub(super) tags_end: usize,
}

/// Cuts a line. `None`: it has no command.
pub(super) fn parse(line: &[u8]) -> Option<Message<'_>> {
    let mut at = 0;
    if line.first() == Some(&b'@') {
        at = word(line, 0).end;
    }
    let tags_end = skip_blanks(line, at);
    at = tags_end;
    if line.get(at) == Some(&b':') {
        at = skip_blanks(line, word(line, at).end);
    }
    let command_at = word(line, at);
    let command = line.get(command_at.clone()).filter(|command| !command.is_empty())?;
    if !command.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let parameter_at = word(line, skip_blanks(line, command_at.end));
    let parameter = line.get(parameter_at.clone()).unwrap_or_default();
    let carries_text = command.eq_ignore_ascii_case(b"PRIVMSG") || command.eq_ignore_ascii_case(b"NOTICE");
    let ctcp = (carries_text && !parameter.starts_with(b":")).then(|| ctcp(line, parameter_at.end)).flatten();
    Some(Message { command, parameter, ctcp, tags_end })
}

/// The next word at or after `at`, and its place.
pub(super) fn word(line: &[u8], at: usize) -> Range<usize> {
    let rest = line.get(at..).unwrap_or_default();
    at..at + rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len())
}

/// The first place at or after `at` that is no blank.
pub(super) fn skip_blanks(line: &[u8], at: usize) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| byte == b' ').count()
}

/// What a client's first line can be: a command of the registration (RFC 2812 section 3.1) or of a server
/// that links (RFC 2813 section 4.1).
pub(super) fn is_client_opening(line: &[u8]) -> bool {
    CLIENT_OPENINGS.iter().any(|verb| is_verb_of(verb, line))
}

/// Whether the start of a line can still become an opening. Once `false`, it stays so with more bytes.
pub(super) fn may_open_client(start: &[u8]) -> bool {
    start == b"\r" || CLIENT_OPENINGS.iter().any(|verb| may_become(verb, start))
}

/// What a server's first line can be: anything with a prefix or tags, or what servers say without.
pub(super) fn is_server_opening(line: &[u8]) -> bool {
    matches!(line.first(), Some(b':' | b'@')) || SERVER_OPENINGS.iter().any(|verb| is_verb_of(verb, line))
}

/// As [`may_open_client`], for a server.
pub(super) fn may_open_server(start: &[u8]) -> bool {
    start == b"\r" || is_server_opening(start) || SERVER_OPENINGS.iter().any(|verb| may_become(verb, start))
}

/// Whether `line` has the beginning of a DCC message anywhere but at `ctcp`, where the grammar has it.
pub(super) fn has_misplaced_dcc(line: &[u8], ctcp: Option<&Range<usize>>) -> bool {
    let place = ctcp.map(|at| at.start);
    let mut windows = (1..).zip(line.windows(DCC_START.len()));
    windows.any(|(start, window)| window.eq_ignore_ascii_case(DCC_START) && place != Some(start))
}

fn ctcp(line: &[u8], at: usize) -> Option<Range<usize>> {
    let colon = skip_blanks(line, at);
    let start = colon + 2;
    let inside = line.get(colon..)?.strip_prefix(b":\x01")?;
    Some(start..start + inside.iter().position(|&byte| byte == 1).unwrap_or(inside.len()))
}

fn is_verb_of(verb: &[u8], line: &[u8]) -> bool {
    line.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb))
        && matches!(line.get(verb.len()), None | Some(b' '))
}

fn may_become(verb: &[u8], start: &[u8]) -> bool {
    let common = start.len().min(verb.len());
    start.get(..common).unwrap_or_default().eq_ignore_ascii_case(verb.get(..common).unwrap_or_default())
        && matches!(start.get(common), None | Some(b' ' | b'\r'))
}

const DCC_START: &[u8] = b"\x01DCC ";

const CLIENT_OPENINGS: [&[u8]; 15] = [
    b"PASS",
    b"NICK",
    b"USER",
    b"CAP",
    b"WEBIRC",
    b"AUTHENTICATE",
    b"STARTTLS",
    b"SERVICE",
    b"SERVER",
    b"PROTOCTL",
    b"CAPAB",
    b"PING",
    b"PONG",
    b"QUIT",
    b"ERROR",
];

const SERVER_OPENINGS: [&[u8]; 9] =
    [b"NOTICE", b"PING", b"ERROR", b"CAP", b"AUTHENTICATE", b"PASS", b"SERVER", b"PROTOCTL", b"CAPAB"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ctcp_only_where_the_grammar_has_it() {
        let rows: [(&[u8], Option<&[u8]>); 16] = [
            (b"PRIVMSG bob :\x01DCC CHAT chat 1 2\x01", Some(b"DCC CHAT chat 1 2")),
            (b"privmsg  bob  :\x01VERSION", Some(b"VERSION")),
            (b"NOTICE bob :\x01VERSION a\x01", Some(b"VERSION a")),
            (b":al!a@h PRIVMSG bob :\x01A\x01b\x01", Some(b"A")),
            (b"@label=1;+x=a\\:b :al PRIVMSG bob :\x01A\x01", Some(b"A")),
            (b"@a PRIVMSG bob :\x01\x01", Some(b"")),
            (b"PRIVMSG bob :a \x01DCC CHAT chat 1 2\x01", None),
            (b"PRIVMSG bob : \x01A\x01", None),
            (b"PRIVMSG bob \x01A\x01", None),
            (b"PRIVMSG bob x :\x01A\x01", None),
            (b"PRIVMSG :\x01A\x01", None),
            (b"PRIVMSG :bob :\x01A\x01", None),
            (b"PONG :\x01DCC CHAT chat 1 2\x01", None),
            (b"PONG :PRIVMSG bob :\x01DCC CHAT chat 1 2\x01", None),
            (b"TOPIC #a :\x01A\x01", None),
            (b":al PRIVMSG bob", None),
        ];
        for (line, want) in rows {
            let message = parse(line).unwrap();
            assert_eq!(message.ctcp.map(|at| &line[at]), want, "{}", line.escape_ascii());
        }
        for line in [&b""[..], b":a", b"@a ", b": ", b"\x01", b"PRIV-MSG a :b"] {
            assert_eq!(parse(line), None, "{}", line.escape_ascii());
        }
        assert_eq!(parse(b"@a=b  :c 001 bob :hi").unwrap().tags_end, 6);
    }

    #[test]
    fn a_start_is_refused_only_when_no_continuation_opens_the_dialogue() {
        for line in [&b"NICK bob\r\n"[..], b"pass\n", b"CAP LS 302\r\n", b"\r\n"] {
            for cut in 1..line.len() {
                assert!(may_open_client(&line[..cut]), "{}", line[..cut].escape_ascii());
            }
        }
        for line in [&b":irc.example.net NOTICE * :a\r\n"[..], b"NOTICE AUTH :a\n", b"PING :1\n"] {
            for cut in 1..line.len() {
                assert!(may_open_server(&line[..cut]), "{}", line[..cut].escape_ascii());
            }
        }
        for start in [&b"G"[..], b"POST", b"\x16", b"NICKNAME", b"JOIN", b" NICK", b":a", b"PRIVMSG"] {
            assert!(!may_open_client(start) && !is_client_opening(start), "{}", start.escape_ascii());
        }
        for start in [&b"HTTP"[..], b"220", b"\x16", b"+OK"] {
            assert!(!may_open_server(start) && !is_server_opening(start), "{}", start.escape_ascii());
        }
    }
}
