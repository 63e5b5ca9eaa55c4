//! DCC as CTCP text carries it: `DCC type argument...`.
//!
//! ```text
//! DCC CHAT|SCHAT chat ADDRESS PORT [TOKEN]            offer; with port 0 and a token: passive
//! DCC SEND|TSEND|SSEND|MOVE NAME ADDRESS PORT [SIZE [TOKEN]]     the same
//! DCC RESUME NAME PORT POSITION [TOKEN]               from the receiver, names the offer's port
//! DCC ACCEPT NAME PORT POSITION [TOKEN]               the offerer's answer, names it again
//! ```
//!
//! An address is a 32-bit number in decimal, or dotted as some clients write it. A name with blanks stands in
//! quotes; the quote that ends it has a blank behind it. All places are counted from the line's start.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::message::{skip_blanks, word};
use crate::decimal::{Text, dotted, number};

/// What a DCC text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dcc {
    /// `DCC` and its type.
    pub(super) command: Range<usize>,
    /// The file's name, without its quotes.
    pub(super) name: Range<usize>,
    /// What kind, with its numbers.
    pub(super) body: Body,
}

/// The numbers of a DCC text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// An endpoint is offered.
    Offer(Result<Offer, OfferError>),
    /// RESUME with its port.
    Resume(Option<Port>),
    /// ACCEPT with its port.
    Accept(Option<Port>),
    /// Another type: nothing is read.
    Other,
}

/// An offered endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Where the address stands.
    pub(super) address_at: Range<usize>,
    /// The address.
    pub(super) address: Ipv4Addr,
    /// How it is written.
    pub(super) form: Form,
    /// The port.
    pub(super) port: Port,
    /// A token follows: with port 0 the other user is to offer an endpoint.
    pub(super) has_token: bool,
}

/// A port and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// Where it stands.
    pub(super) at: Range<usize>,
    /// The number.
    pub(super) l4_port: u16,
}

/// How an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `167772162`
    Number,
    /// `10.0.0.2`
    Dotted,
}

/// Why an offer was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferError {
    /// It does not parse.
    Malformed,
    /// It offers an IPv6 address.
    OtherFamily,
}

impl Dcc {
    /// Whether its numbers do not parse.
    pub(super) const fn is_malformed(&self) -> bool {
        matches!(self.body, Body::Offer(Err(OfferError::Malformed)) | Body::Resume(None) | Body::Accept(None))
    }
}

/// Reads the CTCP text at `ctcp` of `line`. `None`: it is no DCC.
pub(super) fn parse(line: &[u8], ctcp: Range<usize>) -> Option<Dcc> {
    let line = line.get(..ctcp.end)?;
    let tag = word(line, ctcp.start);
    if !line.get(tag.clone())?.eq_ignore_ascii_case(b"DCC") {
        return None;
    }
    let kind_at = word(line, skip_blanks(line, tag.end));
    let kind = line.get(kind_at.clone()).filter(|kind| !kind.is_empty())?;
    let (name, after) = name(line, skip_blanks(line, kind_at.end));
    let is = |names: &[&[u8]]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
    let body = if is(&[b"CHAT", b"SCHAT"]) {
        Body::Offer(offer(line, after, 0))
    } else if is(&[b"SEND", b"TSEND", b"SSEND", b"MOVE"]) {
        Body::Offer(offer(line, after, 1))
    } else if is(&[b"RESUME"]) {
        Body::Resume(port(line, after))
    } else if is(&[b"ACCEPT"]) {
        Body::Accept(port(line, after))
    } else {
        Body::Other
    };
    Some(Dcc { command: tag.start..kind_at.end, name, body })
}

/// Writes `address` in `form`.
pub(super) fn write(address: Ipv4Addr, form: Form) -> Text<15> {
    let mut text = Text::new();
    match form {
        Form::Number => text.push_decimal(address.into()),
        Form::Dotted => text.push_address(address),
    }
    text
}

/// The name at `at`, and what comes behind it.
fn name(line: &[u8], at: usize) -> (Range<usize>, usize) {
    if let Some(quoted) = line.get(at..).and_then(|rest| rest.strip_prefix(b"\""))
        && let Some(length) = quoted.windows(2).position(|pair| pair == b"\" ")
    {
        return (at + 1..at + 1 + length, at + 1 + length + 1);
    }
    let plain = word(line, at);
    (plain.clone(), plain.end)
}

/// `words_before_token`: how many words may stand between the port and the token.
fn offer(line: &[u8], at: usize, words_before_token: usize) -> Result<Offer, OfferError> {
    let address_at = word(line, skip_blanks(line, at));
    let text = line.get(address_at.clone()).unwrap_or_default();
    if text.contains(&b':') {
        return Err(OfferError::OtherFamily);
    }
    let (address, form) = match number(text, 10, u32::MAX) {
        Some(value) => (Ipv4Addr::from(value), Form::Number),
        None => (dotted(text).ok_or(OfferError::Malformed)?, Form::Dotted),
    };
    let port = port(line, address_at.end).ok_or(OfferError::Malformed)?;
    let mut at = port.at.end;
    for _ in 0..words_before_token {
        at = word(line, skip_blanks(line, at)).end;
    }
    let has_token = !word(line, skip_blanks(line, at)).is_empty();
    Ok(Offer { address_at, address, form, port, has_token })
}

fn port(line: &[u8], at: usize) -> Option<Port> {
    let at = word(line, skip_blanks(line, at));
    let l4_port = number(line.get(at.clone())?, 5, u16::MAX)?;
    Some(Port { at, l4_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<Dcc> {
        parse(text, 0..text.len())
    }

    #[test]
    fn reads_offers_with_names_of_every_kind() {
        type Row<'a> = (&'a [u8], &'a [u8], &'a str, u16, bool);
        let rows: [Row<'_>; 10] = [
            (b"DCC SEND a.txt 167772162 5000 12", b"a.txt", "10.0.0.2", 5000, false),
            (b"DCC SEND a.txt 167772162 5000", b"a.txt", "10.0.0.2", 5000, false),
            (b"dcc send  a.txt  167772162  5000  12  7", b"a.txt", "10.0.0.2", 5000, true),
            (b"DCC SEND \"a b.txt\" 167772162 5000 12", b"a b.txt", "10.0.0.2", 5000, false),
            (b"DCC SEND \"a\"b\" 1 0 12 7", b"a\"b", "0.0.0.1", 0, true),
            (b"DCC SEND \"a 167772162 5000", b"\"a", "10.0.0.2", 5000, false),
            (b"DCC TSEND a 4294967295 65535 12", b"a", "255.255.255.255", 65535, false),
            (b"DCC CHAT chat 10.0.0.2 5000", b"chat", "10.0.0.2", 5000, false),
            (b"DCC CHAT chat 167772162 0 7", b"chat", "10.0.0.2", 0, true),
            (b"DCC SCHAT chat 0167772162 05000", b"chat", "10.0.0.2", 5000, false),
        ];
        for (text, name, address, l4_port, has_token) in rows {
            let dcc = read(text).unwrap();
            let Body::Offer(Ok(offer)) = dcc.body else { panic!("{}", text.escape_ascii()) };
            let seen = (&text[dcc.name], offer.address.to_string(), offer.port.l4_port, offer.has_token);
            assert_eq!(seen, (name, address.to_owned(), l4_port, has_token), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn refuses_offers_that_do_not_parse() {
        let rows: [(&[u8], OfferError); 9] = [
            (b"DCC SEND a", OfferError::Malformed),
            (b"DCC SEND a 167772162", OfferError::Malformed),
            (b"DCC SEND a 4294967296 5000", OfferError::Malformed),
            (b"DCC SEND a 04294967295 5000", OfferError::Malformed),
            (b"DCC SEND a 167772162 65536", OfferError::Malformed),
            (b"DCC SEND a 167772162 -1", OfferError::Malformed),
            (b"DCC SEND a b c 167772162 5000", OfferError::Malformed),
            (b"DCC CHAT chat 10.0.0.256 5000", OfferError::Malformed),
            (b"DCC SEND a 2001:db8::2 5000 1", OfferError::OtherFamily),
        ];
        for (text, error) in rows {
            assert_eq!(read(text).unwrap().body, Body::Offer(Err(error)), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn reads_the_port_of_resume_and_accept() {
        let rows: [(&[u8], Option<u16>); 4] = [
            (b"DCC RESUME a 5000 4096", Some(5000)),
            (b"DCC RESUME \"a b\" 5000 4096", Some(5000)),
            (b"DCC RESUME a 65536 1", None),
            (b"DCC RESUME", None),
        ];
        for (text, want) in rows {
            let Some(Dcc { body: Body::Resume(port), .. }) = read(text) else { panic!() };
            assert_eq!(port.map(|port| port.l4_port), want, "{}", text.escape_ascii());
        }
        let at = Port { at: 13..17, l4_port: 5000 };
        assert_eq!(read(b"DCC ACCEPT a 5000 1").unwrap().body, Body::Accept(Some(at)));
        assert_eq!(read(b"DCC REJECT SEND a").unwrap().body, Body::Other);
        for text in [&b"DCC"[..], b"DCC ", b"DCCSEND a 1 2", b"VERSION", b""] {
            assert_eq!(read(text), None, "{}", text.escape_ascii());
        }
    }
}
