//! Readers of addresses, prefixes and endpoints (IPv4).
//!
//! Like those in [`crate::value`], each judges one [`Field`] and notes what is wrong with it.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

use crate::read::Field;
use crate::value::text;

/// An IPv4 address that one host may have.
pub(crate) fn host_address(field: &Field<'_>) -> Option<Ipv4Addr> {
    let written = text(field)?;
    match written.parse() {
        Ok(address) => unicast(field, address),
        Err(_) => {
            field
                .place
                .refuse("is not an IPv4 address", "write four numbers with dots, e.g. \"203.0.113.1\"");
            None
        }
    }
}

/// An address with its connected prefix: `10.0.0.1/24`.
pub(crate) fn own_address(field: &Field<'_>) -> Option<Ipv4Net> {
    let network = any_network(field, "10.0.0.1/24")?;
    let address = unicast(field, network.addr())?;
    if network.prefix_len() < 8 {
        field
            .place
            .refuse("has a prefix shorter than /8", "give the length of the connected prefix, e.g. /24");
        return None;
    }
    let has_broadcast = network.prefix_len() <= 30;
    let remedy = || {
        let first = network.hosts().next().unwrap_or(address);
        format!("choose a host's address, e.g. {first}/{}", network.prefix_len())
    };
    if has_broadcast && address == network.network() {
        field.place.refuse(format!("is the network address of {}", network.trunc()), remedy());
        return None;
    }
    if has_broadcast && address == network.broadcast() {
        field.place.refuse(format!("is the broadcast address of {}", network.trunc()), remedy());
        return None;
    }
    Some(network)
}

/// A prefix without host bits: `10.0.0.0/24`.
pub(crate) fn prefix(field: &Field<'_>) -> Option<Ipv4Net> {
    let network = any_network(field, "10.0.0.0/24")?;
    if network.trunc() == network {
        return Some(network);
    }
    field.place.refuse("has host bits set", format!("write \"{}\"", network.trunc()));
    None
}

/// An address or a prefix without host bits, of addresses that hosts may have.
pub(crate) fn address_or_prefix(field: &Field<'_>) -> Option<Ipv4Net> {
    if !text(field)?.contains('/') {
        return host_address(field).map(Ipv4Net::from);
    }
    let network = prefix(field)?;
    unicast_range(field, (network.network(), network.broadcast())).map(|_| network)
}

/// An address with one L4 port or several in a row: `203.0.113.10:21`, `203.0.113.10:5000-5099`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// The first one.
    pub(crate) first: SocketAddrV4,
    /// How many.
    pub(crate) ports: u16,
}

impl Endpoints {
    /// Whether both name the same endpoint.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.first.ip() == other.first.ip()
            && self.first.port() <= other.last_port()
            && other.first.port() <= self.last_port()
    }

    fn last_port(&self) -> u16 {
        self.first.port().saturating_add(self.ports.saturating_sub(1))
    }
}

impl Display for Endpoints {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.ports {
            1 => self.first.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last_port()),
        }
    }
}

/// Reads [`Endpoints`].
pub(crate) fn endpoints(field: &Field<'_>) -> Option<Endpoints> {
    let Some((first, last)) = text(field)?.split_once('-') else {
        return endpoint(field).map(|first| Endpoints { first, ports: 1 });
    };
    let (Ok(first), Ok(last)) = (first.trim().parse::<SocketAddrV4>(), last.trim().parse::<u16>()) else {
        let remedy = "write address:first-last, e.g. \"203.0.113.10:5000-5099\"";
        field.place.refuse("is not a range of endpoints", remedy);
        return None;
    };
    if last < first.port() {
        let remedy = format!("write \"{}:{last}-{}\"", first.ip(), first.port());
        field.place.refuse("ends before it begins", remedy);
        return None;
    }
    let first = usable(field, first)?;
    Some(Endpoints { first, ports: last - first.port() + 1 })
}

/// An address and an L4 port: `203.0.113.10:21`.
fn endpoint(field: &Field<'_>) -> Option<SocketAddrV4> {
    let written = text(field)?;
    let Ok(endpoint) = written.parse::<SocketAddrV4>() else {
        field.place.refuse("is not an endpoint", "write address:port, e.g. \"203.0.113.10:21\"");
        return None;
    };
    usable(field, endpoint)
}

fn usable(field: &Field<'_>, endpoint: SocketAddrV4) -> Option<SocketAddrV4> {
    if endpoint.port() == 0 {
        field.place.refuse("has port 0, which no host can use", "choose a port from 1 to 65535");
        return None;
    }
    unicast(field, *endpoint.ip())?;
    Some(endpoint)
}

/// Refuses a range with an address that no host on a link can have (RFC 6890).
pub(crate) fn unicast_range(field: &Field<'_>, range: (Ipv4Addr, Ipv4Addr)) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let ([first, ..], [last, ..]) = (range.0.octets(), range.1.octets());
    let special = SPECIAL_BLOCKS.iter().find(|(block, _)| first <= *block.end() && *block.start() <= last);
    let Some((_, name)) = special else { return Some(range) };
    field.place.refuse(format!("is in {name}"), "choose unicast addresses, e.g. 10.0.0.1");
    None
}

fn any_network(field: &Field<'_>, example: &str) -> Option<Ipv4Net> {
    let written = text(field)?;
    let network = written.parse().ok();
    if network.is_none() {
        let problem = match written.parse::<Ipv4Addr>() {
            Ok(_) => "has no prefix length",
            Err(_) => "is not an IPv4 prefix",
        };
        field.place.refuse(problem, format!("write address/length, e.g. \"{example}\""));
    }
    network
}

fn unicast(field: &Field<'_>, address: Ipv4Addr) -> Option<Ipv4Addr> {
    unicast_range(field, (address, address)).map(|_| address)
}

/// First octets that no host's address has.
const SPECIAL_BLOCKS: [(RangeInclusive<u8>, &str); 4] = [
    (0..=0, "0.0.0.0/8, which names no host"),
    (127..=127, "127.0.0.0/8, the loopback addresses"),
    (224..=239, "224.0.0.0/4, the multicast addresses"),
    (240..=255, "240.0.0.0/4, which is reserved"),
];
