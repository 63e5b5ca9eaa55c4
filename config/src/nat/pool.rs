//! `[[nat.pool]]`: external addresses to translate to.
//!
//! Ranges are disjoint within and between pools, and outside internal subnets and own addresses
//! (RFC 4787 REQ-7: internal and external addresses must not conflict).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::address;
use crate::interface::Draft as Interface;
use crate::model::{Pool, Route, Side};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::read::{Field, Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "nat.pool",
    form: Form::List,
    about: "External addresses to translate to.",
    keys: &[NAME, ADDRESSES, L4_PORTS],
};

const NAME: Key = Key { name: "name", example: "\"public\"", reason: "What rules call it." };
const ADDRESSES: Key = Key {
    name: "addresses",
    example: "[\"203.0.113.10-203.0.113.20\"]",
    reason: "Single addresses, ranges, or prefixes of which every address counts.",
};
const L4_PORTS: Key = Key {
    name: "l4_ports",
    example: "\"1024-65535\"",
    reason: "Ports that mappings use; never below 1024, where services live (RFC 4787 REQ-3).",
};

/// A pool as far as it could be read.
pub(crate) struct Draft<'a> {
    name: Option<Located<'a, String>>,
    ranges: Vec<Located<'a, Range>>,
    l4_ports: (u16, u16),
    /// Whether all of it could be read.
    pub(crate) is_sound: bool,
}

/// Addresses of all pools together.
const MAX_ADDRESSES: u64 = 16_384;

/// Inclusive range of addresses.
type Range = (Ipv4Addr, Ipv4Addr);

impl Draft<'_> {
    /// The name, for messages and for rules.
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().map_or("", |name| name.value.as_str())
    }

    /// Whether the address is in the pool.
    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.value.0 <= address && address <= range.value.1)
    }

    /// The model's pool; a wrong value's place is taken by one that nobody will see.
    pub(crate) fn into_model(self) -> Pool {
        Pool {
            name: self.name.map(|name| name.value).unwrap_or_default(),
            ranges: self.ranges.into_iter().map(|range| range.value).collect(),
            l4_ports: self.l4_ports,
        }
    }
}

/// Reads the list.
pub(crate) fn read<'a>(
    nat: &Table<'a>,
    interfaces: &[Interface<'a>],
    routes: &[Located<'a, Route>],
) -> Vec<Draft<'a>> {
    let mut names = names::Names::default();
    let mut pools: Vec<Draft<'a>> = Vec::new();
    let mut addresses = 0;
    for table in nat.tables(&SECTION) {
        let mistakes_before = table.place.mistakes();
        let ranges = table.require(&ADDRESSES, value::non_empty(value::list(address_range)));
        let pool = Draft {
            name: table.require(&NAME, value::name),
            ranges: ranges.map(|ranges| ranges.value).unwrap_or_default(),
            l4_ports: table.get(&L4_PORTS, l4_port_range).unwrap_or((1024, 65535)),
            is_sound: table.place.mistakes() == mistakes_before,
        };
        names.claim(&pool.name);
        for (index, range) in pool.ranges.iter().enumerate() {
            refuse_repeated(range, pool.ranges.iter().take(index).map(|other| (&pool, other)));
            refuse_repeated(range, pools.iter().flat_map(|pool| pool.ranges.iter().map(move |r| (pool, r))));
            refuse_internal(range, interfaces, routes);
            refuse_own(range, interfaces);
            refuse_next_hops(range, routes);
            addresses += u64::from(u32::from(range.value.1) - u32::from(range.value.0)) + 1;
            refuse_too_many(range, addresses);
        }
        pools.push(pool);
    }
    pools
}

/// Prints the list.
pub(crate) fn print(pools: &[Pool], out: &mut Printer) {
    for pool in pools {
        let (low, high) = pool.l4_ports;
        out.table(&SECTION)
            .key(&NAME, quoted(&pool.name))
            .key(&ADDRESSES, list(pool.ranges.iter().map(|range| quoted(text(*range)))))
            .key(&L4_PORTS, quoted(format_args!("{low}-{high}")));
    }
}

fn refuse_repeated<'d, 'a: 'd>(
    range: &Located<'a, Range>,
    mut earlier: impl Iterator<Item = (&'d Draft<'a>, &'d Located<'a, Range>)>,
) {
    let overlapping = earlier.find(|(_, other)| overlap(range.value, other.value));
    if let Some((pool, other)) = overlapping {
        range.place.refuse(
            format!("overlaps {} of pool {:?} (line {})", text(other.value), pool.name(), other.place.line()),
            "give each address to one pool, once",
        );
    }
}

fn refuse_internal(range: &Located<'_, Range>, interfaces: &[Interface<'_>], routes: &[Located<'_, Route>]) {
    const REMEDY: &str = "choose addresses outside every internal subnet";
    let internal = || interfaces.iter().filter(|interface| interface.side == Some(Side::Internal));
    let connected =
        internal().flat_map(|interface| interface.addresses.iter().map(move |own| (interface, own)));
    for (interface, own) in connected.filter(|(_, own)| overlap(range.value, bounds(&own.value))) {
        let problem = format!(
            "overlaps internal subnet {} of interface {:?} (line {})",
            own.value.trunc(),
            interface.name(),
            own.place.line()
        );
        range.place.refuse(problem, REMEDY);
    }
    for route in routes {
        let is_internal =
            interfaces.get(route.value.interface).is_some_and(|i| i.side == Some(Side::Internal));
        let is_default = route.value.prefix.prefix_len() == 0;
        if is_internal && !is_default && overlap(range.value, bounds(&route.value.prefix)) {
            let problem = format!(
                "overlaps internal subnet {} (route, line {})",
                route.value.prefix,
                route.place.line()
            );
            range.place.refuse(problem, REMEDY);
        }
    }
}

/// The ports of every address are tracked in memory taken at start: 24 KiB an address.
fn refuse_too_many(range: &Located<'_, Range>, addresses: u64) {
    if addresses > MAX_ADDRESSES {
        range.place.refuse(
            format!("makes {addresses} addresses in all pools; at most {MAX_ADDRESSES} are possible"),
            "name fewer addresses",
        );
    }
}

/// An own address of an internal interface is within an internal subnet, which is refused already.
fn refuse_own(range: &Located<'_, Range>, interfaces: &[Interface<'_>]) {
    let others = interfaces.iter().filter(|interface| interface.side != Some(Side::Internal));
    for own in others.flat_map(|interface| &interface.addresses) {
        let address = own.value.addr();
        if overlap(range.value, (address, address)) {
            let problem = format!("holds the own address {address} (line {})", own.place.line());
            range.place.refuse(problem, "leave it out: algate answers on it itself");
        }
    }
}

/// algate answers ARP for a pool's addresses: it must not do so for the router it sends to.
fn refuse_next_hops(range: &Located<'_, Range>, routes: &[Located<'_, Route>]) {
    let via = |route: &&Located<'_, Route>| overlap(range.value, (route.value.via, route.value.via));
    if let Some(route) = routes.iter().find(via) {
        let problem = format!("holds the next hop {} (route, line {})", route.value.via, route.place.line());
        range.place.refuse(problem, "leave it out: it belongs to a router");
    }
}

/// `203.0.113.9`, `203.0.113.10-203.0.113.20` or `198.51.100.0/28`.
fn address_range(field: &Field<'_>) -> Option<Range> {
    let written = value::text(field)?;
    let (first, last) = if written.contains('/') {
        bounds(&address::prefix(field)?)
    } else {
        let (first, last) = written.split_once('-').unwrap_or((written, written));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse()) else {
            let remedy = "write e.g. \"203.0.113.9\", \"203.0.113.10-203.0.113.20\" or \"198.51.100.0/28\"";
            field.place.refuse("is not an address, range or prefix", remedy);
            return None;
        };
        (first, last)
    };
    if first > last {
        field.place.refuse("ends before it begins", format!("write \"{last}-{first}\""));
        return None;
    }
    address::unicast_range(field, (first, last))
}

/// `1024-65535`
fn l4_port_range(field: &Field<'_>) -> Option<(u16, u16)> {
    let written = value::text(field)?;
    let ports = written.split_once('-').map(|(low, high)| (low.trim().parse(), high.trim().parse()));
    let Some((Ok(low), Ok(high))) = ports else {
        field.place.refuse("is not a range of L4 ports", "write first-last, e.g. \"1024-65535\"");
        return None;
    };
    if low < 1024 {
        field.place.refuse("begins below 1024, among the well-known ports", "begin at 1024 or above");
        return None;
    }
    if low > high {
        field.place.refuse("ends before it begins", format!("write \"{high}-{low}\""));
        return None;
    }
    Some((low, high))
}

fn bounds(prefix: &Ipv4Net) -> Range {
    (prefix.network(), prefix.broadcast())
}

fn overlap(a: Range, b: Range) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// A range as one would write it: an address, a prefix of four addresses or more, or both ends.
fn text((first, last): Range) -> String {
    let host_bits = (u32::from(first) ^ u32::from(last)).count_ones();
    let prefix = Ipv4Net::new(first, 32_u8.saturating_sub(u8::try_from(host_bits).unwrap_or(32)));
    match prefix {
        _ if first == last => first.to_string(),
        Ok(prefix) if host_bits >= 2 && bounds(&prefix) == (first, last) => prefix.to_string(),
        _ => format!("{first}-{last}"),
    }
}
