//! The Transport header (RFC 2326 section 12.39, RFC 7826 section 18.54).
//!
//! ```text
//! Transport: RTP/AVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast;interleaved=0-1
//! Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001;source=192.0.2.9
//! Transport: RTP/AVP;unicast;dest_addr=":5000"/":5001";src_addr="192.0.2.9:6000"/"192.0.2.9:6001"
//! ```
//!
//! Alternatives stand between commas, their parameters between semicolons; both may stand in quotes. Clients
//! in the wild write two ports with a slash, or an endpoint as the destination.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::head::trimmed;
use crate::decimal::{dotted, number};

/// One alternative, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Transport {
    /// It travels inside the control session, or over a TCP session of its own.
    pub(super) is_tcp: bool,
    /// It names channels of the control session.
    pub(super) is_interleaved: bool,
    /// It goes to a group.
    pub(super) is_multicast: bool,
    /// `client_port` or `dest_addr`.
    pub(super) client: Option<Ports>,
    /// `server_port` or `src_addr`.
    pub(super) server: Option<Ports>,
    /// `destination`, when it is an IPv4 address.
    pub(super) destination: Option<Place>,
    /// `source`, when it is an IPv4 address.
    pub(super) source: Option<Place>,
    /// A parameter of ports or addresses does not parse.
    pub(super) is_malformed: bool,
}

/// One port, or two adjacent ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// The lower.
    pub(super) first: Place,
    /// The next above it.
    pub(super) second: Option<Place>,
}

/// An address, a port, or both, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The address.
    pub(super) address: Option<(Ipv4Addr, Range<usize>)>,
    /// The port.
    pub(super) l4_port: Option<(u16, Range<usize>)>,
}

impl Ports {
    /// Both places.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// The lower port.
    pub(super) fn l4_port(&self) -> u16 {
        self.first.port()
    }
}

impl Place {
    /// The port, 0 if there is none.
    pub(super) fn port(&self) -> u16 {
        self.l4_port.as_ref().map_or(0, |(l4_port, _)| *l4_port)
    }
}

/// The alternatives of the header at `value`.
pub(super) fn alternatives(text: &[u8], value: Range<usize>) -> impl Iterator<Item = Transport> {
    split(text, value, b',').map(|at| read(text, at))
}

/// The parts of `value` between separators that stand outside quotes, without the blanks around them.
pub(super) fn split(text: &[u8], value: Range<usize>, separator: u8) -> impl Iterator<Item = Range<usize>> {
    let mut next = Some(value.start);
    std::iter::from_fn(move || {
        let start = next?;
        let mut quoted = false;
        let rest = text.get(start..value.end).unwrap_or_default();
        let end = rest.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte == separator && !quoted
        });
        next = end.map(|end| start + end + 1);
        Some(trimmed(text, start..end.map_or(value.end, |end| start + end)))
    })
}

/// Name and value of a parameter `name=value`; the value is empty where there is none.
pub(super) fn parameter(text: &[u8], at: Range<usize>) -> (&[u8], Range<usize>) {
    let inside = text.get(at.clone()).unwrap_or_default();
    let name = inside.iter().position(|&byte| byte == b'=').unwrap_or(inside.len());
    let value = (at.start + name + 1).min(at.end);
    (inside.get(..name).unwrap_or_default().trim_ascii(), trimmed(text, value..at.end))
}

fn read(text: &[u8], at: Range<usize>) -> Transport {
    let mut transport = Transport::default();
    for (index, part) in split(text, at, b';').enumerate() {
        let (name, value) = parameter(text, part);
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if index == 0 {
            transport.is_tcp = name.len() >= 4
                && name.get(name.len() - 4..).is_some_and(|end| end.eq_ignore_ascii_case(b"/TCP"));
        } else if is(b"interleaved") {
            transport.is_interleaved = true;
        } else if is(b"multicast") {
            transport.is_multicast = true;
        } else if is(b"client_port") || is(b"server_port") {
            let ports = ports(text, value);
            transport.is_malformed |= ports.is_none();
            *(if is(b"client_port") { &mut transport.client } else { &mut transport.server }) = ports;
        } else if is(b"dest_addr") || is(b"src_addr") {
            let ports = endpoints(text, value);
            transport.is_malformed |= ports.is_none();
            *(if is(b"dest_addr") { &mut transport.client } else { &mut transport.server }) = ports;
        } else if is(b"destination") {
            transport.destination = named(text, value);
        } else if is(b"source") {
            transport.source = named(text, value);
        }
    }
    transport
}

/// `a`, `a-b` or `a/b`.
fn ports(text: &[u8], value: Range<usize>) -> Option<Ports> {
    let inside = text.get(value.clone())?;
    let middle = inside.iter().position(|byte| matches!(byte, b'-' | b'/'));
    let port = |at: Range<usize>| {
        let at = trimmed(text, at);
        let l4_port = number(text.get(at.clone())?, 5, u16::MAX)?;
        Some(Place { address: None, l4_port: Some((l4_port, at)) })
    };
    match middle {
        None => pair(port(value)?, None),
        Some(middle) => {
            let middle = value.start + middle;
            pair(port(value.start..middle)?, Some(port(middle + 1..value.end)?))
        }
    }
}

/// `"host:port"` or `"host:port"/"host:port"`, the host perhaps left out.
fn endpoints(text: &[u8], value: Range<usize>) -> Option<Ports> {
    let mut parts = split(text, value, b'/');
    let first = endpoint(text, unquoted(text, parts.next()?)?)?;
    let second = match parts.next() {
        Some(at) => Some(endpoint(text, unquoted(text, at)?)?),
        None => None,
    };
    if parts.next().is_some() {
        return None;
    }
    pair(first, second)
}

/// Two ports must be adjacent, and two hosts the same.
fn pair(first: Place, second: Option<Place>) -> Option<Ports> {
    let host = |place: &Place| place.address.as_ref().map(|(address, _)| *address);
    let fits = second.as_ref().is_none_or(|second| {
        first.port().checked_add(1) == Some(second.port()) && host(&first) == host(second)
    });
    fits.then_some(Ports { first, second })
}

fn endpoint(text: &[u8], at: Range<usize>) -> Option<Place> {
    let inside = text.get(at.clone())?;
    let colon = inside.iter().position(|&byte| byte == b':')?;
    let host = at.start..at.start + colon;
    let port = at.start + colon + 1..at.end;
    let l4_port = number(text.get(port.clone())?, 5, u16::MAX)?;
    let address = match text.get(host.clone())? {
        b"" => None,
        name => Some((dotted(name)?, host)),
    };
    Some(Place { address, l4_port: Some((l4_port, port)) })
}

/// An address or an endpoint; a name is neither.
fn named(text: &[u8], at: Range<usize>) -> Option<Place> {
    let at = unquoted(text, at.clone()).unwrap_or(at);
    match dotted(text.get(at.clone())?) {
        Some(address) => Some(Place { address: Some((address, at)), l4_port: None }),
        None => endpoint(text, at).filter(|place| place.address.is_some()),
    }
}

fn unquoted(text: &[u8], at: Range<usize>) -> Option<Range<usize>> {
    let inside = text.get(at.clone())?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(at.start + 1..at.start + 1 + inside.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Transport> {
        alternatives(text.as_bytes(), 0..text.len()).collect()
    }

    #[test]
    fn reads_ports_in_every_spelling() {
        type Row<'a> = (&'a str, Option<(Option<&'a str>, u16, bool)>);
        let rows: [Row<'_>; 14] = [
            ("client_port=5000-5001", Some((None, 5000, true))),
            ("Client_Port = 5000 - 5001 ", Some((None, 5000, true))),
            ("client_port=5000/5001", Some((None, 5000, true))),
            ("client_port=5000", Some((None, 5000, false))),
            ("dest_addr=\":5000\"/\":5001\"", Some((None, 5000, true))),
            ("dest_addr=\"10.0.0.2:5000\"/\"10.0.0.2:5001\"", Some((Some("10.0.0.2"), 5000, true))),
            ("dest_addr=\"10.0.0.2:5000\"", Some((Some("10.0.0.2"), 5000, false))),
            ("client_port=5000-5002", None),
            ("client_port=65535-65536", None),
            ("client_port=65536", None),
            ("client_port=", None),
            ("dest_addr=\":5000\"/\"10.0.0.2:5001\"", None),
            ("dest_addr=\"[2001:db8::2]:5000\"", None),
            ("dest_addr=\":5000\"/\":5001\"/\":5002\"", None),
        ];
        for (text, want) in rows {
            let seen = all(&format!("RTP/AVP;unicast;{text}")).remove(0);
            assert_eq!(seen.is_malformed, want.is_none(), "{text}");
            let seen = seen.client.map(|ports| {
                let address = ports.first.address.as_ref().map(|(address, _)| address.to_string());
                (address, ports.l4_port(), ports.second.is_some())
            });
            assert_eq!(seen, want.map(|(host, a, b)| (host.map(str::to_owned), a, b)), "{text}");
        }
    }

    #[test]
    fn tells_alternatives_and_kinds_apart() {
        let text = "RTP/AVP/UDP;unicast;client_port=5000-5001,\r\n RTP/AVP/tcp;interleaved=0-1, RTP/AVP;multicast;ttl=1";
        let seen: Vec<_> =
            all(text).iter().map(|one| (one.is_tcp, one.is_interleaved, one.is_multicast)).collect();
        assert_eq!(seen, [(false, false, false), (true, true, false), (false, false, true)]);
        let quoted = "RTP/AVP;x=\"a,b;client_port=1-2\";destination=10.0.0.2:5000;source=\"192.0.2.9\"";
        let seen = all(quoted);
        let [Transport { client: None, destination: Some(destination), source: Some(source), .. }] =
            &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert_eq!((destination.port(), source.port()), (5000, 0));
        assert_eq!(&quoted[source.address.clone().unwrap().1], "192.0.2.9");
        assert_eq!(all("RTP/AVP;destination=host.example;source=[::1]"), [Transport::default()]);
    }
}
