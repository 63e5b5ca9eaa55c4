//! `[[nat.pool]]`: external addresses to translate to.
//!
//! Ranges are disjoint within and between pools, and outside internal subnets and own addresses
//! (RFC 4787 REQ-7: internal and external addresses must not conflict).

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::address;
use crate::duration;
use crate::interface::Draft as Interface;
use crate::model::{Assignment, NatRule, Pairing, Pool, PortBlocks, Route, Side};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::read::{Field, Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "nat.pool",
    form: Form::List,
    about: "External addresses to translate to.",
    keys: &[
        NAME,
        ADDRESSES,
        L4_PORTS,
        PAIRING,
        KEEPS_PARITY,
        BLOCK_SIZE,
        BLOCKS_PER_HOST,
        BLOCK_IDLE_HOLD,
        ASSIGNMENT,
    ],
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

const PAIRING: Key = Key {
    name: "pairing",
    example: "\"strict\"",
    reason: "strict: a host keeps to one address (RFC 4787 REQ-2); soft: when that is full it may use another.",
};
const KEEPS_PARITY: Key = Key {
    name: "keeps_parity",
    example: "false",
    reason: "Whether even ports become even ones and odd ones odd, as old RTP needs (RFC 4787 REQ-4).",
};
const BLOCK_SIZE: Key = Key {
    name: "block_size",
    example: "512",
    reason: "Ports of a block, 64 to 4096, a power of two: each host gets blocks of its own; without it: single ports.",
};
const BLOCKS_PER_HOST: Key =
    Key { name: "blocks_per_host", example: "4", reason: "Blocks one host may have, 1 to 64." };
const BLOCK_IDLE_HOLD: Key = Key {
    name: "block_idle_hold",
    example: "\"5m\"",
    reason: "How long a block without ports in use stays with its host, up to 1h.",
};
const ASSIGNMENT: Key = Key {
    name: "assignment",
    example: "\"dynamic\"",
    reason: "Who chooses a host's first block: dynamic: chance; deterministic: this file (RFC 7422).",
};

const PAIRINGS: Choices<Pairing> = &[("strict", Pairing::Strict), ("soft", Pairing::Soft)];
const ASSIGNMENTS: Choices<Assignment> =
    &[("dynamic", Assignment::Dynamic), ("deterministic", Assignment::Deterministic)];

/// A pool as far as it could be read.
pub(crate) struct Draft<'a> {
    name: Option<Located<'a, String>>,
    ranges: Vec<Located<'a, Range>>,
    l4_ports: (u16, u16),
    pairing: Pairing,
    keeps_parity: bool,
    blocks: Option<Located<'a, PortBlocks>>,
    /// Whether all of it could be read.
    pub(crate) is_sound: bool,
}

/// Addresses of all pools together.
const MAX_ADDRESSES: u64 = 16_384;

/// A block counts its idle seconds in 16 bits.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// Inclusive range of addresses.
pub(super) type Range = (Ipv4Addr, Ipv4Addr);

impl Draft<'_> {
    /// The name, for messages and for rules.
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().map_or("", |name| name.value.as_str())
    }

    /// Whether the address is in the pool.
    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.value.0 <= address && address <= range.value.1)
    }

    /// The pool's range that shares an address with `range`.
    pub(super) fn overlapping(&self, range: Range) -> Option<&Located<'_, Range>> {
        self.ranges.iter().find(|own| overlap(own.value, range))
    }

    /// The model's pool; a wrong value's place is taken by one that nobody will see.
    pub(crate) fn into_model(self) -> Pool {
        Pool {
            name: self.name.map(|name| name.value).unwrap_or_default(),
            ranges: self.ranges.into_iter().map(|range| range.value).collect(),
            l4_ports: self.l4_ports,
            blocks: self.blocks.map(|blocks| blocks.value),
            pairing: self.pairing,
            keeps_parity: self.keeps_parity,
        }
    }

    /// Ports of all addresses and the three protocols that have some.
    pub(crate) fn port_count(&self) -> u64 {
        self.address_count() * u64::from(self.l4_ports.1 - self.l4_ports.0 + 1) * 3
    }

    /// Whether a host's first block follows from the configuration.
    pub(crate) fn is_deterministic(&self) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.value.assignment == Assignment::Deterministic)
    }

    /// The hosts of all rules must have room for their first blocks, when those are computed.
    pub(crate) fn refuse_too_many_hosts(&self, index: usize, rules: &[NatRule]) {
        let is_meant = self.is_deterministic() && self.is_sound;
        let Some(blocks) = self.blocks.as_ref().filter(|_| is_meant) else { return };
        let prefixes = NatRule::hosts(rules, index);
        let hosts: u64 = prefixes.iter().map(|prefix| 1_u64 << (32 - prefix.prefix_len())).sum();
        let ports = u64::from(self.l4_ports.1 - self.l4_ports.0) + 1;
        let room = self.address_count() * (ports / u64::from(blocks.value.ports));
        if hosts > room {
            blocks.place.refuse(
                format!("gives {room} blocks, but the pool's rules name {hosts} hosts"),
                "choose smaller blocks, add addresses, or name fewer hosts",
            );
        }
    }

    fn address_count(&self) -> u64 {
        let count = |(first, last): Range| u64::from(u32::from(last) - u32::from(first)) + 1;
        self.ranges.iter().map(|range| count(range.value)).sum()
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
        let l4_ports = table.get(&L4_PORTS, l4_port_range).unwrap_or((1024, 65535));
        let pool = Draft {
            blocks: read_blocks(&table, l4_ports),
            pairing: table.get(&PAIRING, value::choice(PAIRINGS)).unwrap_or(Pairing::Strict),
            keeps_parity: table.get(&KEEPS_PARITY, value::boolean).unwrap_or(false),
            name: table.require(&NAME, value::name),
            ranges: ranges.map(|ranges| ranges.value).unwrap_or_default(),
            l4_ports,
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
            .key(&L4_PORTS, quoted(format_args!("{low}-{high}")))
            .key(&PAIRING, quoted(value::word_of(PAIRINGS, pool.pairing)))
            .key(&KEEPS_PARITY, pool.keeps_parity);
        if let Some(blocks) = &pool.blocks {
            out.key(&BLOCK_SIZE, blocks.ports)
                .key(&BLOCKS_PER_HOST, blocks.per_host)
                .key(&BLOCK_IDLE_HOLD, quoted(duration::print(blocks.idle_hold)))
                .key(&ASSIGNMENT, quoted(value::word_of(ASSIGNMENTS, blocks.assignment)));
        }
    }
}

/// `None`: the pool has single ports.
fn read_blocks<'a>(table: &Table<'a>, l4_ports: (u16, u16)) -> Option<Located<'a, PortBlocks>> {
    let size = table.get_located(&BLOCK_SIZE, value::power_of_two::<u16>(64..=4096));
    let per_host = table.get_located(&BLOCKS_PER_HOST, value::integer(1..=64));
    let idle_hold = table.get(&BLOCK_IDLE_HOLD, value::duration(Duration::ZERO..=LONGEST_HOLD));
    let assignment = table.get(&ASSIGNMENT, value::choice(ASSIGNMENTS));
    if !table.has(&BLOCK_SIZE) {
        for key in [&BLOCKS_PER_HOST, &BLOCK_IDLE_HOLD, &ASSIGNMENT] {
            if table.has(key) {
                let place = table.place_absent(key.name);
                place.refuse("means nothing without blocks", "add a line like block_size = 512");
            }
        }
    }
    let size = size?;
    let ports = u32::from(l4_ports.1 - l4_ports.0) + 1;
    let blocks = ports / u32::from(size.value);
    if !ports.is_multiple_of(u32::from(size.value)) {
        let (low, high) = l4_ports;
        let problem = format!("does not divide the {ports} ports of {low}-{high}");
        let fitting = u32::from(high) + 1 - ports % u32::from(size.value);
        let remedy = match fitting.checked_sub(1).filter(|last| *last > u32::from(low)) {
            Some(last) => format!("choose another size, or l4_ports = \"{low}-{last}\""),
            None => "choose a smaller size, or more ports".to_owned(),
        };
        size.place.refuse(problem, remedy);
    }
    if let Some(per_host) = per_host.as_ref().filter(|per_host| u32::from(per_host.value) > blocks) {
        let problem = format!("is more than the {blocks} blocks of an address");
        per_host.place.refuse(problem, "lower it, or choose smaller blocks");
    }
    let value = PortBlocks {
        ports: size.value,
        per_host: per_host.map_or(u16::try_from(blocks.min(4)).unwrap_or(1), |per_host| per_host.value),
        idle_hold: idle_hold.unwrap_or(Duration::from_secs(300)),
        assignment: assignment.unwrap_or(Assignment::Dynamic),
    };
    Some(Located { value, place: size.place })
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

/// An address behind an internal interface is a host's.
pub(super) fn refuse_internal(
    range: &Located<'_, Range>,
    interfaces: &[Interface<'_>],
    routes: &[Located<'_, Route>],
) {
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
pub(super) fn refuse_own(range: &Located<'_, Range>, interfaces: &[Interface<'_>]) {
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
pub(super) fn refuse_next_hops(range: &Located<'_, Range>, routes: &[Located<'_, Route>]) {
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
    let (low, high) = value::l4_port_range(field, "1024-65535")?;
    if low < 1024 {
        field.place.refuse("begins below 1024, among the well-known ports", "begin at 1024 or above");
        return None;
    }
    Some((low, high))
}

/// First and last address.
pub(super) fn bounds(prefix: &Ipv4Net) -> Range {
    (prefix.network(), prefix.broadcast())
}

/// Whether two ranges share an address.
pub(super) fn overlap(a: Range, b: Range) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// A range as one would write it: an address, a prefix of four addresses or more, or both ends.
pub(super) fn text((first, last): Range) -> String {
    let host_bits = (u32::from(first) ^ u32::from(last)).count_ones();
    let prefix = Ipv4Net::new(first, 32_u8.saturating_sub(u8::try_from(host_bits).unwrap_or(32)));
    match prefix {
        _ if first == last => first.to_string(),
        Ok(prefix) if host_bits >= 2 && bounds(&prefix) == (first, last) => prefix.to_string(),
        _ => format!("{first}-{last}"),
    }
}
