//! What of a message may be kept for people to read: credentials are masked.
//!
//! Masked are the arguments of FTP's PASS, ACCT, ADAT, MIC, CONF and ENC and of IRC's PASS, OPER and AUTHENTICATE (also behind Telnet or an
//! IRC prefix), what users tell IRC services, the values of `Authorization` headers and their kin in SIP and RTSP with
//! their folded lines, user information in URLs, passwords in SIP URIs, and the keys of media in SDP (`a=crypto`, `k=`). A mask does not tell the
//! length of what is behind it.

use crate::registry::ProtocolId;

/// Copies the head of `message` into `kept`, masked, and says how many bytes were written. One pass.
pub fn mask(protocol: ProtocolId, message: &[u8], kept: &mut [u8]) -> usize {
    let mut out = Out { kept, length: 0 };
    let mut is_secret = false;
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if out.length == out.kept.len() {
            break;
        }
        let is_folded = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        let shown = match protocol {
            ProtocolId::Tftp | ProtocolId::Pptp => None,
            ProtocolId::Ftp => after_word(line, FTP_SECRETS),
            ProtocolId::Irc => irc_secret(line),
            ProtocolId::Sip | ProtocolId::Rtsp if is_secret && is_folded => Some(1),
            ProtocolId::Sip | ProtocolId::Rtsp => header_secret(line),
        };
        is_secret = shown.is_some();
        match shown {
            Some(shown) => {
                out.push(line.get(..shown).unwrap_or_default());
                out.push(MASK);
                out.push(line_end(line));
            }
            None if matches!(protocol, ProtocolId::Sip | ProtocolId::Rtsp) => out.push_without_users(line),
            None => out.push(line),
        }
    }
    out.length
}

struct Out<'a> {
    kept: &'a mut [u8],
    length: usize,
}

impl Out<'_> {
    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.kept.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
        }
        self.length = self.kept.len().min(self.length + bytes.len());
    }

    /// A line with the user information of the URLs in it masked, and the passwords of SIP URIs:
    /// `rtsp://user:secret@host/`, `sip:user:secret@host`.
    fn push_without_users(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some((at, is_url)) = next_uri(rest) {
            let (head, tail) = rest.split_at(at);
            self.push(head);
            let is_end = |byte: &u8| matches!(byte, b'/' | b' ' | b'\r' | b'\n' | b'>' | b'"');
            let authority = tail.iter().position(is_end).unwrap_or(tail.len());
            let authority = tail.get(..authority).unwrap_or_default();
            let user = authority.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
            let name = authority.get(..user).unwrap_or_default();
            let shown = match name.iter().position(|byte| *byte == b':') {
                Some(colon) if !is_url => Some(colon + 1),
                _ => (is_url && user > 0).then_some(0),
            };
            // What was looked through is not looked through again.
            let passed = match shown {
                Some(shown) => {
                    self.push(name.get(..shown).unwrap_or_default());
                    self.push(MASK);
                    user
                }
                None if is_url => 0,
                None => {
                    let passed = if user > 0 { user } else { authority.len() };
                    self.push(tail.get(..passed).unwrap_or_default());
                    passed
                }
            };
            rest = tail.get(passed..).unwrap_or_default();
        }
        self.push(rest);
    }
}

/// Behind the next `://`, `sip:` or `sips:`, and whether it is the first of these.
fn next_uri(text: &[u8]) -> Option<(usize, bool)> {
    let is_sip = |head: &[u8]| head.eq_ignore_ascii_case(b"sip") || head.eq_ignore_ascii_case(b"ips");
    text.iter().enumerate().filter(|(_, byte)| **byte == b':').find_map(|(at, _)| {
        if text.get(at + 1..at + 3) == Some(b"//") {
            return Some((at + 3, true));
        }
        text.get(at.checked_sub(3)?..at).is_some_and(is_sip).then_some((at + 1, false))
    })
}

/// How much of the line is shown, if it begins with one of these words: up to the blank behind it.
fn after_word(line: &[u8], words: &[&[u8]]) -> Option<usize> {
    let start = line.iter().position(u8::is_ascii_alphabetic)?;
    let word = line.get(start..)?;
    let length = word.iter().position(|byte| !byte.is_ascii_alphanumeric())?;
    let is_secret =
        words.iter().any(|secret| word.get(..length).unwrap_or_default().eq_ignore_ascii_case(secret));
    (is_secret && word.get(length) == Some(&b' ')).then_some(start + length + 1)
}

/// A command may have tags and a prefix in front of it.
fn irc_secret(line: &[u8]) -> Option<usize> {
    let mut at = 0;
    while line.get(at).is_some_and(|byte| matches!(byte, b'@' | b':')) {
        at += line.get(at..)?.iter().position(|byte| *byte == b' ')? + 1;
    }
    let command = line.get(at..)?;
    if let Some(shown) = after_word(command, IRC_SECRETS) {
        return Some(at + shown);
    }
    // PRIVMSG NickServ :IDENTIFY secret
    let shown = at + after_word(command, IRC_TALK)?;
    let target = line.get(shown..)?;
    let length = target.iter().position(|byte| *byte == b' ')?;
    let name = target.get(..length)?;
    let is_service = name.len() >= 4 && name.get(name.len() - 4..)?.eq_ignore_ascii_case(b"serv");
    (is_service || after_word(command, IRC_SERVICES).is_some()).then_some(shown + length + 1)
}

fn header_secret(line: &[u8]) -> Option<usize> {
    if let Some(secret) = SDP_SECRETS.iter().find(|secret| line.starts_with(secret)) {
        return Some(secret.len());
    }
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    HEADER_SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret)).then_some(colon + 1)
}

fn line_end(line: &[u8]) -> &[u8] {
    let kept = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
    line.get(kept..).unwrap_or_default()
}

const MASK: &[u8] = b"***";
const FTP_SECRETS: &[&[u8]] = &[b"PASS", b"ACCT", b"ADAT", b"MIC", b"CONF", b"ENC"];
const IRC_SECRETS: &[&[u8]] = &[b"PASS", b"OPER", b"AUTHENTICATE"];
const IRC_TALK: &[&[u8]] = &[b"PRIVMSG", b"NOTICE", b"NICKSERV", b"NS", b"CHANSERV", b"CS"];
const IRC_SERVICES: &[&[u8]] = &[b"NICKSERV", b"NS", b"CHANSERV", b"CS"];
const SDP_SECRETS: &[&[u8]] = &[b"a=crypto:", b"k="];
const HEADER_SECRETS: &[&[u8]] = &[
    b"Authorization",
    b"Proxy-Authorization",
    b"WWW-Authenticate",
    b"Proxy-Authenticate",
    b"Authentication-Info",
    b"Proxy-Authentication-Info",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_and_nothing_else() {
        let rows: [(ProtocolId, &str, &str); 19] = [
            (ProtocolId::Ftp, "PASS s3cret\r\n", "PASS ***\r\n"),
            (ProtocolId::Ftp, "pass s3 cret\n", "pass ***\n"),
            (ProtocolId::Ftp, "ACCT 42", "ACCT ***"),
            (ProtocolId::Ftp, "PASV\r\n", "PASV\r\n"),
            (ProtocolId::Ftp, "USER bob\r\nPASS x\r\n", "USER bob\r\nPASS ***\r\n"),
            (ProtocolId::Irc, "@a=b :nick OPER god x\r\n", "@a=b :nick OPER ***\r\n"),
            (ProtocolId::Irc, "PRIVMSG NickServ :IDENTIFY x\r\n", "PRIVMSG NickServ ***\r\n"),
            (ProtocolId::Irc, "PRIVMSG #c :PASS x\r\n", "PRIVMSG #c :PASS x\r\n"),
            (
                ProtocolId::Sip,
                "authorization : Digest\r\n\tresponse=1\r\nTo: a\r\n",
                "authorization :***\r\n\t***\r\nTo: a\r\n",
            ),
            (ProtocolId::Sip, "Via: SIP\r\n x\r\n", "Via: SIP\r\n x\r\n"),
            (ProtocolId::Sip, "a=crypto:1 KEY\r\nk=clear:x\r\na=x\r\n", "a=crypto:***\r\nk=***\r\na=x\r\n"),
            (ProtocolId::Rtsp, "PLAY rtsp://u:p@cam/a RTSP/1.0\r\n", "PLAY rtsp://***@cam/a RTSP/1.0\r\n"),
            (ProtocolId::Rtsp, "PLAY rtsp://cam/a@b RTSP/1.0\r\n", "PLAY rtsp://cam/a@b RTSP/1.0\r\n"),
            (ProtocolId::Tftp, "PASS x\n", "PASS x\n"),
            (ProtocolId::Ftp, "MIC cGFzcyB4\r\n", "MIC ***\r\n"),
            (ProtocolId::Sip, "INVITE sip:a:b@c SIP/2.0\r\n", "INVITE sip:a:***@c SIP/2.0\r\n"),
            (ProtocolId::Sip, "To: <SIPS:a:b@c:1>, sip:d@e:5\r\n", "To: <SIPS:a:***@c:1>, sip:d@e:5\r\n"),
            (ProtocolId::Sip, "Via: a:1, http://u@h/\r\n", "Via: a:1, http://***@h/\r\n"),
            (ProtocolId::Rtsp, "A: rtsp://a, rtsp://u:p@b\r\n", "A: rtsp://a, rtsp://***@b\r\n"),
        ];
        for (protocol, message, want) in rows {
            let mut kept = [0; 128];
            let length = mask(protocol, message.as_bytes(), &mut kept);
            assert_eq!(String::from_utf8_lossy(&kept[..length]), want);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut kept = [0; 7];
        assert_eq!(mask(ProtocolId::Ftp, b"PASS abcdefgh\r\n", &mut kept), 7);
        assert_eq!(&kept, b"PASS **");
    }
}
