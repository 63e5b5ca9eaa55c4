//! What a client says: one line, one command (RFC 959 section 5.3, RFC 2428, RFC 2228).
//!
//! A verb is 3 to 7 letters and digits, the first a letter, in any case: RFC 959 stops at four, the
//! extensions in use do not (`XSHA256`). Telnet commands before it are skipped: BSD clients send
//! IAC IP IAC DM before ABOR (RFC 959 section 4.1). What has another shape, and the methods of
//! HTTP although they have this one, is not FTP.

use super::address::{self, AddressError, AddressText};
use super::verb::Verb;

/// A command, as far as the ALG cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// PORT or EPRT with its argument.
    Active(Result<AddressText, AddressError>),
    /// PASV
    Pasv,
    /// EPSV, or EPSV with a network protocol.
    Epsv,
    /// EPSV ALL
    EpsvAll,
    /// AUTH with any mechanism.
    Auth,
    /// LPRT or LPSV.
    Long,
    /// Any other.
    Other,
    /// An empty line. Servers differ on answering it.
    Blank,
}

/// What the first bytes of a line can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start<'a> {
    /// A verb, and where its argument starts.
    Whole { verb: &'a [u8], argument_at: usize },
    /// Nothing yet that could not be a verb.
    Unfinished,
    /// Not a command.
    Wrong,
}

/// Reads a complete line. `None`: not FTP.
pub(super) fn parse(line: &[u8]) -> Option<Command> {
    let (verb, argument_at) = match start(line) {
        Start::Whole { verb, argument_at } => (verb, argument_at),
        Start::Unfinished if line.len() <= telnet_prefix(line) => return Some(Command::Blank),
        // The line's end ends the verb.
        Start::Unfinished => match line.get(telnet_prefix(line)..) {
            Some(verb) if is_verb(verb) => (verb, line.len()),
            _ => return None,
        },
        Start::Wrong => return None,
    };
    if HTTP_VERSIONS.iter().any(|version| line.ends_with(version)) {
        return None;
    }
    let argument = line.get(argument_at..).unwrap_or_default();
    Some(match Verb::of(verb) {
        PORT => Command::Active(address::read_port(argument, argument_at)),
        EPRT => Command::Active(address::read_eprt(argument, argument_at)),
        PASV => Command::Pasv,
        EPSV if argument.trim_ascii().eq_ignore_ascii_case(b"ALL") => Command::EpsvAll,
        EPSV => Command::Epsv,
        AUTH => Command::Auth,
        LPRT | LPSV => Command::Long,
        _ => Command::Other,
    })
}

/// Whether `verb` announces, or asks for, an address of any family (RFC 1639).
pub(super) fn is_long(verb: &[u8]) -> bool {
    matches!(Verb::of(verb), LPRT | LPSV)
}

/// The verb of a line and its argument. `None`: it has no verb.
pub(super) fn words(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = telnet_prefix(line);
    let rest = line.get(start..)?;
    let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (verb, argument) = rest.split_at(length);
    is_verb(verb).then(|| (verb, argument.strip_prefix(b" ").unwrap_or(argument).trim_ascii_end()))
}

/// Whether the start of a line can still become a command. Once `false`, it stays so with more bytes.
pub(super) fn may_become_command(head: &[u8]) -> bool {
    start(head) != Start::Wrong
}

fn start(text: &[u8]) -> Start<'_> {
    let start = telnet_prefix(text);
    let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) else {
        return Start::Unfinished;
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let verb = rest.get(..length).unwrap_or_default();
    let is_alphabetic_first = verb.first().is_none_or(u8::is_ascii_alphabetic);
    match rest.get(length) {
        None if length <= LONGEST_VERB && is_alphabetic_first => Start::Unfinished,
        // A CR that the line's end may follow.
        Some(b'\r') if length == 0 && rest.len() == 1 => Start::Unfinished,
        Some(b' ' | b'\r') if is_verb(verb) => Start::Whole { verb, argument_at: start + length },
        _ => Start::Wrong,
    }
}

fn is_verb(verb: &[u8]) -> bool {
    (SHORTEST_VERB..=LONGEST_VERB).contains(&verb.len())
        && verb.first().is_some_and(u8::is_ascii_alphabetic)
        && verb.iter().all(u8::is_ascii_alphanumeric)
        && !HTTP_METHODS.contains(&Verb::of(verb))
}

/// Bytes of Telnet commands at the head of `text` (RFC 854), the unfinished last one included.
fn telnet_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let length = match (text.get(at), text.get(at + 1)) {
            // Urgent data: a peer may see the DATA MARK without its IAC.
            (Some(&DATA_MARK), _) => 1,
            (Some(&IAC), Some(&(WILL..=DONT))) => 3,
            (Some(&IAC), Some(&IAC)) => return at,
            (Some(&IAC), _) => 2,
            _ => return at.min(text.len()),
        };
        at += length;
    }
}

const PORT: Verb = Verb::of(b"PORT");
const EPRT: Verb = Verb::of(b"EPRT");
const PASV: Verb = Verb::of(b"PASV");
const EPSV: Verb = Verb::of(b"EPSV");
const AUTH: Verb = Verb::of(b"AUTH");
const LPRT: Verb = Verb::of(b"LPRT");
const LPSV: Verb = Verb::of(b"LPSV");
const SHORTEST_VERB: usize = 3;
const LONGEST_VERB: usize = 7;
const IAC: u8 = 0xff;
const WILL: u8 = 0xfb;
const DONT: u8 = 0xfe;
const DATA_MARK: u8 = 0xf2;

/// Of the shape of a verb, and sent by what a browser can be made to open (RFC 9110 section 9.1,
/// RFC 5789, RFC 9113 section 3.4).
const HTTP_METHODS: [Verb; 10] = [
    Verb::of(b"GET"),
    Verb::of(b"HEAD"),
    Verb::of(b"POST"),
    Verb::of(b"PUT"),
    Verb::of(b"DELETE"),
    Verb::of(b"CONNECT"),
    Verb::of(b"OPTIONS"),
    Verb::of(b"TRACE"),
    Verb::of(b"PATCH"),
    Verb::of(b"PRI"),
];

/// A page can make up methods; it cannot leave this out.
const HTTP_VERSIONS: [&[u8]; 2] = [b" HTTP/1.0", b" HTTP/1.1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_verbs_in_any_case_behind_telnet_commands() {
        let rows: [(&[u8], Option<Command>); 26] = [
            (b"LPSV", Some(Command::Long)),
            (b"lprt 4,4,10,0,0,2,2,15,161", Some(Command::Long)),
            (b"PASV", Some(Command::Pasv)),
            (b"pAsV ", Some(Command::Pasv)),
            (b"PASV\r", Some(Command::Pasv)),
            (b"EPSV", Some(Command::Epsv)),
            (b"EPSV 1", Some(Command::Epsv)),
            (b"epsv all", Some(Command::EpsvAll)),
            (b"AUTH TLS-C", Some(Command::Auth)),
            (b"USER anonymous", Some(Command::Other)),
            (b"XSHA256 file", Some(Command::Other)),
            (b"CCC", Some(Command::Other)),
            (b"\xff\xf4\xff\xf2ABOR", Some(Command::Other)),
            (b"\xf2ABOR", Some(Command::Other)),
            (b"\xff\xfd\x06PASV", Some(Command::Pasv)),
            (b"", Some(Command::Blank)),
            (b"\xff\xf4", Some(Command::Blank)),
            (b"\xff\xffPASV", None),
            (b" PASV", None),
            (b"CD", None),
            (b"REGISTER sip:a SIP/2.0", None),
            (b"GET / HTTP/1.1", None),
            (b"post /x", None),
            (b"USER / HTTP/1.1", None),
            (b"Host: a", None),
            (b"\x16\x03\x01", None),
        ];
        for (line, want) in rows {
            assert_eq!(parse(line), want, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_start_is_refused_only_when_no_continuation_is_a_command() {
        for line in
            [&b"\xff\xf4\xff\xf2ABOR\r\n"[..], b"PORT 1\r\n", b"\r\n", b"XSHA256 a\r\n", b"\xff\xfb\x01CCC\n"]
        {
            for cut in 0..line.len() {
                assert!(may_become_command(&line[..cut]), "{}", line[..cut].escape_ascii());
            }
        }
        for start in [&b"\x16"[..], b"Host:", b"GET ", b" ", b"ABCDEFGH", b"1", b"AB "] {
            assert!(!may_become_command(start), "{}", start.escape_ascii());
        }
    }
}
