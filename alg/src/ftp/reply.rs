//! What a server says: one reply, one or more lines (RFC 959 section 4.2).
//!
//! A reply of more lines opens with `ddd-` and ends at the first line that starts with the same code
//! and a blank; what is between is free text. Codes are 100 to 699: RFC 2228 added 6yz. A line that
//! is only a code counts as one with empty text, because such servers exist.

/// A reply code.
pub(super) type Code = u16;

/// The head of a line that opens, continues or ends a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplyLine {
    /// The code.
    pub(super) code: Code,
    /// More lines follow.
    pub(super) more: bool,
}

/// Reads the head of a line. `None`: it does not start with a code.
pub(super) fn parse(line: &[u8]) -> Option<ReplyLine> {
    let code = match line.get(..3)? {
        &[a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Code::from(a - b'0') * 100 + Code::from(b - b'0') * 10 + Code::from(c - b'0')
        }
        _ => return None,
    };
    match line.get(3) {
        Some(b'-') => Some(ReplyLine { code, more: true }),
        None | Some(b' ' | b'\r') => Some(ReplyLine { code, more: false }),
        Some(_) => None,
    }
}

/// Whether the start of a line can still become one with a code, and at the very first (`greeting`)
/// one of those. Once `false`, it stays so with more bytes.
pub(super) fn may_become_reply(start: &[u8], greeting: bool) -> bool {
    if start.len() > 3 {
        return parse(start).is_some_and(|line| !greeting || is_greeting(line.code));
    }
    if greeting {
        return GREETINGS_TEXT.iter().any(|code| code.starts_with(start));
    }
    start
        .iter()
        .enumerate()
        .all(|(at, byte)| byte.is_ascii_digit() && (at > 0 || (b'1'..=b'6').contains(byte)))
}

/// Whether a server may open the dialogue with `code` (RFC 959 section 5.4, connection establishment).
pub(super) fn is_greeting(code: Code) -> bool {
    matches!(code, READY | READY_LATER | NOT_AVAILABLE)
}

/// 220: ready for a new user.
pub(super) const READY: Code = 220;
/// 120: ready in some minutes, and 220 then.
pub(super) const READY_LATER: Code = 120;
/// 421: not available, closing.
pub(super) const NOT_AVAILABLE: Code = 421;
/// 230: logged in.
pub(super) const LOGGED_IN: Code = 230;
/// 425: the data connection cannot be opened.
pub(super) const NO_DATA_CONNECTION: Code = 425;
/// 227: entering passive mode.
pub(super) const PASSIVE: Code = 227;
/// 228: entering long passive mode (RFC 1639).
pub(super) const LONG_PASSIVE: Code = 228;
/// 229: entering extended passive mode.
pub(super) const EXTENDED_PASSIVE: Code = 229;
/// 234: the security mechanism is accepted, TLS starts (RFC 4217 section 4).
pub(super) const SECURITY_ACCEPTED: Code = 234;

/// Where the text of a line starts that starts with a code.
pub(super) const TEXT_AT: usize = 4;

const GREETINGS_TEXT: [&[u8]; 3] = [b"220", b"120", b"421"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_codes_and_whether_more_lines_follow() {
        type Row<'a> = (&'a [u8], Option<(Code, bool)>);
        let rows: [Row<'_>; 12] = [
            (b"220 ready", Some((220, false))),
            (b"220-ready", Some((220, true))),
            (b"220", Some((220, false))),
            (b"631 MFRG", Some((631, false))),
            (b"099 x", None),
            (b"700 x", None),
            (b"22", None),
            (b"220x", None),
            (b"2200 x", None),
            (b" 220", None),
            (b"HTTP/1.1 200 OK", None),
            (b"", None),
        ];
        for (line, want) in rows {
            let want = want.map(|(code, more)| ReplyLine { code, more });
            assert_eq!(parse(line), want, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_start_is_refused_only_when_no_continuation_is_a_reply() {
        for line in [&b"220 a\r\n"[..], b"120-\r\n", b"421\r\n"] {
            for cut in 0..line.len() - 1 {
                assert!(may_become_reply(&line[..cut], true), "{}", line[..cut].escape_ascii());
            }
        }
        assert!(may_become_reply(b"33", false) && !may_become_reply(b"33", true));
        for start in [&b"\r"[..], b"7", b"22x", b"220x", b"H"] {
            assert!(!may_become_reply(start, false), "{}", start.escape_ascii());
        }
    }
}
