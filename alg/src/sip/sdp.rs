//! Session descriptions (RFC 8866).
//!
//! Read are `o=`, `c=`, `m=`, `a=rtcp` (RFC 3605), `a=rtcp-mux` (RFC 5761), `a=group:BUNDLE` and `a=mid`
//! (RFC 9143), `a=setup` (RFC 4145), `a=path` (RFC 4975), and whether there is anything of ICE (RFC 8839).
//! `a=crypto`, `a=fingerprint` and all other lines are passed over.

use std::net::Ipv4Addr;

use crate::contract::Protocol;

use super::Fault;
use super::text::{Span, address, find_end, l4_port, number, short_hash};
use super::tokens::{Kind, Place, Token, Tokens, Value};
use super::uri::host_port;

/// What `c=` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// There is none.
    Absent,
    /// One IPv4 address, 0.0.0.0 (hold, RFC 3264 section 8.4) included.
    Address(Ipv4Addr),
    /// A name, IPv6, multicast.
    Other,
}

/// One media section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub(super) l4_port: u16,
    /// The token of the port.
    pub(super) l4_port_token: usize,
    /// `/n` behind the port, 1 where there is none.
    pub(super) layers: u16,
    pub(super) protocol: Protocol,
    /// RTP, with RTCP on a port of its own.
    pub(super) rtp: bool,
    pub(super) connection: Connection,
    connection_token: Option<usize>,
    pub(super) rtcp: Option<Rtcp>,
    pub(super) mux: bool,
    /// This end opens the connection itself: `a=setup:active`.
    pub(super) active: bool,
    mid: u32,
}

/// `a=rtcp`: a port, its token, and that of the address if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rtcp {
    pub(super) l4_port: u16,
    pub(super) l4_port_token: usize,
    pub(super) address_token: Option<usize>,
}

/// One session description: the last that was read.
#[derive(Debug)]
pub(super) struct Sdp {
    sections: [Section; MAX_SECTIONS],
    count: usize,
    session: Connection,
    /// It has candidates or credentials of ICE.
    pub(super) ice: bool,
    bundle: [u32; MAX_SECTIONS],
    /// The tokens of it are those from this index on.
    pub(super) first_token: usize,
}

/// What one line says, besides its tokens.
enum Said {
    Nothing,
    Media(Section),
    /// With its token.
    Connection(Connection, Option<usize>),
    Ice,
    /// The tags of a bundle.
    Bundle(Span),
    Mid(u32),
    Mux,
    /// Whether this end opens the connection.
    Setup(bool),
    Rtcp(Rtcp),
}

impl Sdp {
    pub(super) const fn new() -> Self {
        Self {
            sections: [Section::NONE; MAX_SECTIONS],
            count: 0,
            session: Connection::Absent,
            ice: false,
            bundle: [0; MAX_SECTIONS],
            first_token: 0,
        }
    }

    pub(super) fn sections(&self) -> &[Section] {
        self.sections.get(..self.count).unwrap_or_default()
    }

    /// Where the media of a section go to.
    pub(super) fn connection_of(&self, section: &Section) -> Connection {
        match section.connection {
            Connection::Absent => self.session,
            own => own,
        }
    }

    /// Whether a section is in the bundle, and not the one whose endpoint all of it uses.
    pub(super) fn follows_in_bundle(&self, section: &Section) -> bool {
        section.mid != 0 && self.bundle.iter().skip(1).any(|mid| *mid == section.mid)
    }

    /// The section whose endpoint the bundle uses.
    pub(super) fn bundle_leader(&self) -> Option<usize> {
        let first = self.bundle.first().copied().filter(|mid| *mid != 0)?;
        self.sections().iter().position(|section| section.mid == first)
    }

    /// Whether the token at `index` is the `c=` of a section that is switched off.
    pub(super) fn is_of_disabled(&self, index: usize) -> bool {
        let of = self.sections().iter().find(|section| section.connection_token == Some(index));
        of.is_some_and(|section| section.l4_port == 0)
    }

    /// Reads the description that is `body` of `bytes`, in the place of the one before.
    pub(super) fn read(&mut self, bytes: &[u8], body: Span, tokens: &mut Tokens) -> Result<(), Fault> {
        (self.count, self.session, self.ice) = (0, Connection::Absent, false);
        self.bundle = [0; MAX_SECTIONS];
        self.first_token = tokens.as_slice().len();
        let mut at = body.start;
        let text = Span::new(0, body.end).of(bytes);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let length = find_end(rest).unwrap_or(rest.len());
            let ending = match rest.get(length..).unwrap_or_default() {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] | [b'\r'] => 1,
                [] => 0,
                _ => return Err(Fault::Malformed),
            };
            let line = Span::new(at, at + length);
            at = line.end + ending;
            tokens.begin_line(Kind::Description, Span::new(line.start, at));
            let said = read_line(bytes, line, self.count > 0, tokens)?;
            self.take(bytes, said)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], said: Said) -> Result<(), Fault> {
        match said {
            Said::Nothing => {}
            Said::Media(section) => {
                *self.sections.get_mut(self.count).ok_or(Fault::TooLong)? = section;
                self.count += 1;
            }
            Said::Connection(connection, token) => match self.last() {
                Some(section) => (section.connection, section.connection_token) = (connection, token),
                None => self.session = connection,
            },
            Said::Ice => self.ice = true,
            Said::Bundle(tags) => {
                let mut free = self.bundle.iter_mut();
                for tag in tags.of(bytes).split(|byte| *byte == b' ').filter(|tag| !tag.is_empty()) {
                    *free.next().ok_or(Fault::TooLong)? = short_hash(tag);
                }
            }
            Said::Mid(mid) => self.last().into_iter().for_each(|section| section.mid = mid),
            Said::Mux => self.last().into_iter().for_each(|section| section.mux = true),
            Said::Setup(active) => self.last().into_iter().for_each(|section| section.active = active),
            Said::Rtcp(rtcp) => self.last().into_iter().for_each(|section| section.rtcp = Some(rtcp)),
        }
        Ok(())
    }

    fn last(&mut self) -> Option<&mut Section> {
        self.sections.get_mut(self.count.checked_sub(1)?)
    }
}

impl Section {
    const NONE: Self = Self {
        l4_port: 0,
        l4_port_token: 0,
        layers: 1,
        protocol: Protocol::Udp,
        rtp: false,
        connection: Connection::Absent,
        connection_token: None,
        rtcp: None,
        mux: false,
        active: false,
        mid: 0,
    };

    /// `<media> <port>["/"<number of ports>] <proto> <fmt> ...`: of any media, known or not.
    fn read(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<Self, Fault> {
        let (_, rest) = value.word(bytes);
        let (l4_port_text, rest) = rest.word(bytes);
        let (protocol, _) = rest.word(bytes);
        let (digits, layers) = match l4_port_text.split(bytes, b'/') {
            Some((digits, layers)) => {
                (digits, number(layers.of(bytes), 5, 65_535).filter(|n| *n > 0).ok_or(Fault::Malformed)?)
            }
            None => (l4_port_text, 1),
        };
        let l4_port = l4_port(digits.of(bytes)).ok_or(Fault::Malformed)?;
        let token = Token::new(digits, Place::MediaPort, Value::Number(l4_port.into()));
        let l4_port_token = tokens.push(token)?;
        let protocol = protocol.of(bytes);
        if protocol.is_empty() {
            return Err(Fault::Malformed);
        }
        let tcp = protocol.starts_with(b"TCP");
        Ok(Self {
            l4_port,
            l4_port_token,
            layers: u16::try_from(layers).map_err(|_| Fault::Malformed)?,
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
            rtp: !tcp && protocol.split(|byte| *byte == b'/').any(|part| part == b"RTP"),
            ..Self::NONE
        })
    }
}

/// Reads a line with a token again, and notes its tokens.
pub(super) fn read_again(bytes: &[u8], line: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    let text = line.of(bytes);
    let end = find_end(text).unwrap_or(text.len());
    if !matches!(text.get(end..), Some([] | b"\r" | b"\n" | b"\r\n")) {
        return Err(Fault::Malformed);
    }
    read_line(bytes, Span::new(line.start, line.start + end), true, tokens).map(drop)
}

/// One line, without its end. `in_section`: behind the first `m=`.
fn read_line(bytes: &[u8], line: Span, in_section: bool, tokens: &mut Tokens) -> Result<Said, Fault> {
    let value = Span::new((line.start + 2).min(line.end), line.end);
    match line.of(bytes) {
        [b'm', b'=', ..] => Section::read(bytes, value, tokens).map(Said::Media),
        [b'c', b'=', ..] => {
            let (connection, token) = read_address(bytes, value, Place::Connection, tokens)?;
            Ok(Said::Connection(connection, token))
        }
        [b'o', b'=', ..] => {
            // o=<username> <sess-id> <sess-version> <nettype> <addrtype> <unicast-address>
            let mut rest = value;
            for _ in 0..3 {
                rest = rest.word(bytes).1;
            }
            if rest.of(bytes).first() == Some(&b' ') {
                rest.start += 1;
            }
            read_address(bytes, rest, Place::Origin, tokens)?;
            Ok(Said::Nothing)
        }
        [b'a', b'=', ..] => read_attribute(bytes, value, in_section, tokens),
        _ => Ok(Said::Nothing),
    }
}

fn read_attribute(bytes: &[u8], line: Span, in_section: bool, tokens: &mut Tokens) -> Result<Said, Fault> {
    let (name, value) = line.split(bytes, b':').unwrap_or((line, Span::new(line.end, line.end)));
    let text = value.of(bytes);
    Ok(match name.of(bytes) {
        b"candidate" | b"remote-candidates" | b"ice-ufrag" | b"ice-pwd" => Said::Ice,
        b"group" if text.starts_with(BUNDLE) => {
            Said::Bundle(Span::new(value.start + BUNDLE.len(), value.end))
        }
        b"path" => {
            read_path(bytes, value, tokens)?;
            Said::Nothing
        }
        _ if !in_section => Said::Nothing,
        b"mid" => Said::Mid(short_hash(text.trim_ascii())),
        b"rtcp-mux" | b"rtcp-mux-only" => Said::Mux,
        b"setup" => Said::Setup(text.trim_ascii() == b"active"),
        b"rtcp" => {
            let (digits, rest) = value.word(bytes);
            let l4_port = l4_port(digits.of(bytes)).ok_or(Fault::Malformed)?;
            let token = Token::new(digits, Place::RtcpPort, Value::Number(l4_port.into()));
            let l4_port_token = tokens.push(token)?;
            let (_, address_token) = read_address(bytes, rest, Place::RtcpAddress, tokens)?;
            Said::Rtcp(Rtcp { l4_port, l4_port_token, address_token })
        }
        _ => Said::Nothing,
    })
}

/// `<nettype> <addrtype> <address>`.
fn read_address(
    bytes: &[u8],
    value: Span,
    place: Place,
    tokens: &mut Tokens,
) -> Result<(Connection, Option<usize>), Fault> {
    let rest = if value.of(bytes).starts_with(INTERNET) {
        Span::new(value.start + INTERNET.len(), value.end)
    } else {
        // In other white space.
        let (network, rest) = value.word(bytes);
        let (family, rest) = rest.word(bytes);
        if (network.of(bytes), family.of(bytes)) != (b"IN", b"IP4") {
            return Ok((Connection::Other, None));
        }
        rest
    };
    let (text, _) = rest.word(bytes);
    match address(text.of(bytes)) {
        Some(address) => {
            let token = tokens.push(Token::new(text, place, Value::Host(address, None)))?;
            Ok((Connection::Address(address), Some(token)))
        }
        None => Ok((Connection::Other, None)),
    }
}

/// `msrp://[user@]host:port/session;tcp`, one or more.
fn read_path(bytes: &[u8], value: Span, tokens: &mut Tokens) -> Result<(), Fault> {
    let mut rest = value;
    loop {
        let (uri, behind) = rest.word(bytes);
        if uri.start == uri.end {
            return Ok(());
        }
        rest = behind;
        let text = uri.of(bytes);
        let Some(at) = text.windows(3).position(|three| three == b"://") else { continue };
        let authority = Span::new(uri.start + at + 3, uri.end);
        let authority = authority.split(bytes, b'/').map_or(authority, |(before, _)| before);
        let authority = authority.split(bytes, b'@').map_or(authority, |(_, host)| host);
        if let Some(value) = host_port(authority.of(bytes))? {
            tokens.push(Token::new(authority, Place::Path, value))?;
        }
    }
}

/// Media sections of one description; one with more passes unread.
pub(super) const MAX_SECTIONS: usize = 16;
/// How nearly all write what is before an address.
const INTERNET: &[u8] = b"IN IP4 ";
const BUNDLE: &[u8] = b"BUNDLE ";
