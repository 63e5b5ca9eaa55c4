//! `[[nat.forward]]`: external endpoints that lead to internal servers.
//!
//! One port or a range of them, to one server or shared among several. The ports are the forward's
//! alone: no mapping is given one of them.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::address::{self, Endpoints};
use crate::interface::{self, Draft as Interface};
use crate::model::{Affinity, Forward, Route, Server, Side, Transport};
use crate::nat::{pool, statics};
use crate::print::{Printer, list, quoted};
use crate::read::{Field, Located, Place, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "nat.forward",
    form: Form::List,
    about: "External endpoints that lead to internal servers.",
    keys: &[PROTOCOL, EXTERNAL, INTERNAL, TENANT, WEIGHTS, AFFINITY, MASQUERADE],
};

const PROTOCOL: Key = Key { name: "protocol", example: "\"tcp\"", reason: "tcp, udp or tcp+udp." };
const EXTERNAL: Key = Key {
    name: "external",
    example: "\"203.0.113.10:21\"",
    reason: "What the world connects to, a port or a range like 5000-5099; the address is one of a pool's.",
};
const INTERNAL: Key = Key {
    name: "internal",
    example: "\"10.0.0.9:21\"",
    reason: "The server, behind an internal interface, with as many ports; or a list of up to 64 that share the clients.",
};
const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "The servers' tenant; without it: they are behind interfaces without one.",
};
const WEIGHTS: Key = Key {
    name: "weights",
    example: "[3, 1]",
    reason: "Each server's part of the clients, 1 to 100; without it: equal parts.",
};
const AFFINITY: Key = Key {
    name: "affinity",
    example: "\"source\"",
    reason: "source: a client address keeps its server until algate starts anew; none: each flow goes its own way.",
};
const MASQUERADE: Key = Key {
    name: "masquerade",
    example: "false",
    reason: "true: servers see algate's own address as the client, so answers come back though their routes lead elsewhere.",
};

const TRANSPORTS: Choices<Transport> =
    &[("tcp", Transport::Tcp), ("udp", Transport::Udp), ("tcp+udp", Transport::TcpAndUdp)];
const AFFINITIES: Choices<Affinity> = &[("source", Affinity::Source), ("none", Affinity::None)];

/// Each server is asked for its score when a flow begins.
const MAX_SERVERS: usize = 64;

/// Ports of all forwards and transports: each one has an entry in a table taken at start.
const MAX_PORTS: u64 = 262_144;

/// Reads the list.
pub(crate) fn read<'a>(
    nat: &Table<'a>,
    pools: &[pool::Draft<'a>],
    statics: &[statics::Draft<'a>],
    interfaces: &[Interface<'a>],
    routes: &[Located<'a, Route>],
) -> Vec<Forward> {
    let mut seen: Vec<(Transport, Located<'a, Endpoints>)> = Vec::new();
    let mut forwards = Vec::new();
    let mut ports = 0;
    for table in nat.tables(&SECTION) {
        let protocol = table.require(&PROTOCOL, value::choice(TRANSPORTS));
        let external = table.require(&EXTERNAL, address::endpoints);
        let internal = table.require(&INTERNAL, read_servers).map(|internal| internal.value);
        let tenant = interface::read_tenant(&table, &TENANT, interfaces);
        for server in internal.iter().flatten() {
            let Some(tenant) = tenant else { break };
            let address = *server.value.first.ip();
            refuse_unreachable(&server.place, address, tenant, interfaces, routes);
            statics::refuse_forward(&server.place, address, tenant, statics);
        }
        let weights = read_weights(&table, internal.as_deref());
        let affinity = table.get_located(&AFFINITY, value::choice(AFFINITIES));
        if let (Some([_]), Some(affinity)) = (internal.as_deref(), &affinity) {
            affinity.place.refuse("means nothing with one server", "leave it out");
        }
        let masquerade = table.get(&MASQUERADE, value::boolean).unwrap_or(false);
        let Some(external) = external else { continue };
        refuse_outside(&external, pools);
        refuse_other_counts(&external, internal.iter().flatten());
        let Some(protocol) = protocol else { continue };
        refuse_repeated(protocol.value, &external, &seen);
        ports += external.value.ports as u64 * protocol.value.protocols().len() as u64;
        if ports > MAX_PORTS {
            let problem = format!("makes {ports} forwarded ports in all; at most {MAX_PORTS} are possible");
            external.place.refuse(problem, "forward fewer ports, or give the host a static address");
        }
        if let Some(internal) = internal {
            let weights = weights.into_iter().chain(std::iter::repeat(1));
            let server = |(internal, weight): (Located<'_, Endpoints>, u16)| Server {
                internal: internal.value.first,
                weight,
            };
            forwards.push(Forward {
                protocol: protocol.value,
                external: external.value.first,
                ports: external.value.ports,
                servers: internal.into_iter().zip(weights).map(server).collect(),
                tenant: tenant.unwrap_or_default(),
                affinity: affinity.map_or(Affinity::Source, |affinity| affinity.value),
                masquerade,
            });
        }
        seen.push((protocol.value, external));
    }
    forwards
}

/// Prints the list.
pub(crate) fn print(forwards: &[Forward], out: &mut Printer) {
    for forward in forwards {
        let endpoints = |first: SocketAddrV4| quoted(Endpoints { first, ports: forward.ports });
        out.table(&SECTION)
            .key(&PROTOCOL, quoted(value::word_of(TRANSPORTS, forward.protocol)))
            .key(&EXTERNAL, endpoints(forward.external));
        match forward.servers.as_slice() {
            [server] => out.key(&INTERNAL, endpoints(server.internal)),
            servers => {
                out.key(&INTERNAL, list(servers.iter().map(|server| endpoints(server.internal))));
                if servers.iter().any(|server| server.weight != 1) {
                    out.key(&WEIGHTS, list(servers.iter().map(|server| server.weight)));
                }
                out.key(&AFFINITY, quoted(value::word_of(AFFINITIES, forward.affinity)))
            }
        };
        if forward.tenant != 0 {
            out.key(&TENANT, forward.tenant);
        }
        out.key(&MASQUERADE, forward.masquerade);
    }
}

/// One server, or a list of them.
fn read_servers<'a>(field: &Field<'a>) -> Option<Vec<Located<'a, Endpoints>>> {
    if field.entries().is_none() {
        let value = address::endpoints(field)?;
        return Some(vec![Located { value, place: field.place.clone() }]);
    }
    let servers = value::non_empty(value::distinct(address::endpoints))(field)?;
    if servers.len() > MAX_SERVERS {
        let problem = format!("has {} servers", servers.len());
        field.place.refuse(problem, format!("name {MAX_SERVERS} at most"));
    }
    // Wrong entries were noted and left out: without all of them, nothing can be said about the rest.
    (field.entries()?.len() == servers.len()).then_some(servers)
}

/// One for each server; none when they are equal.
fn read_weights(table: &Table<'_>, servers: Option<&[Located<'_, Endpoints>]>) -> Vec<u16> {
    let mistakes_before = table.place.mistakes();
    let Some(weights) = table.get_located(&WEIGHTS, value::list(value::integer(1..=100))) else {
        return Vec::new();
    };
    let count = weights.value.len();
    match servers {
        Some([_]) => weights.place.refuse("means nothing with one server", "leave it out"),
        Some(servers) if servers.len() != count && table.place.mistakes() == mistakes_before => {
            let problem = format!("has {count} weights for {} servers", servers.len());
            weights.place.refuse(problem, "give each server one, in the order of the list");
        }
        _ => {}
    }
    weights.value.into_iter().map(|weight| weight.value).collect()
}

fn refuse_repeated(
    protocol: Transport,
    external: &Located<'_, Endpoints>,
    seen: &[(Transport, Located<'_, Endpoints>)],
) {
    for (other_protocol, other) in seen {
        let shared = match (protocol, *other_protocol) {
            (Transport::TcpAndUdp, other) => other,
            (own, other) if own == other || other == Transport::TcpAndUdp => own,
            _ => continue,
        };
        if external.value.overlaps(&other.value) {
            let word = value::word_of(TRANSPORTS, shared);
            let problem = format!("is forwarded for {word} already (line {})", other.place.line());
            return external.place.refuse(problem, "choose another address or port");
        }
    }
}

fn refuse_other_counts<'d, 'a: 'd>(
    external: &Located<'a, Endpoints>,
    servers: impl Iterator<Item = &'d Located<'a, Endpoints>>,
) {
    let wanted = external.value.ports;
    for server in servers.filter(|server| server.value.ports != wanted) {
        let count = |ports: u16| if ports == 1 { "1 port".to_string() } else { format!("{ports} ports") };
        let problem =
            format!("has {}, but the external side has {}", count(server.value.ports), count(wanted));
        server.place.refuse(problem, "name as many ports on both sides");
    }
}

fn refuse_outside(external: &Located<'_, Endpoints>, pools: &[pool::Draft<'_>]) {
    let is_inside = pools.iter().any(|pool| pool.contains(*external.value.first.ip()));
    if !is_inside && pools.iter().all(|pool| pool.is_sound) {
        external
            .place
            .refuse("is outside every pool", "choose an address of a pool, or add this one to a pool");
    }
}

/// The server must be a host behind an internal interface.
pub(super) fn refuse_unreachable(
    place: &Place<'_>,
    server: Ipv4Addr,
    tenant: u16,
    interfaces: &[Interface<'_>],
    routes: &[Located<'_, Route>],
) {
    if let Some(own) = interface::own_addresses(interfaces, tenant).find(|own| own.value.addr() == server) {
        let problem = format!("is an own address of algate (line {})", own.place.line());
        place.refuse(problem, "give the server's address");
        return;
    }
    let problem = match route_to(server, tenant, interfaces, routes) {
        None if interfaces.iter().any(|interface| !interface.is_sound) => return,
        None => "is reached through no interface".to_string(),
        Some(interface) if interface.side == Some(Side::External) => {
            format!("is reached through external interface {:?}", interface.name())
        }
        Some(_) => return,
    };
    place.refuse(problem, "give a server in, or routed through, an internal interface's prefix");
}

/// The interface that a packet of a tenant to an address leaves by: the longest prefix wins, a connected one
/// before a route, the tenant's own before an external one.
fn route_to<'d, 'a>(
    address: Ipv4Addr,
    tenant: u16,
    interfaces: &'d [Interface<'a>],
    routes: &[Located<'a, Route>],
) -> Option<&'d Interface<'a>> {
    let matching = routes.iter().map(|route| &route.value).filter(|route| route.prefix.contains(&address));
    let routed = matching
        .filter_map(|route| Some((route.prefix.prefix_len(), false, interfaces.get(route.interface)?)));
    let connected = interfaces
        .iter()
        .filter_map(|interface| Some((interface.connected(address)?.value.prefix_len(), true, interface)));
    let seen = routed.chain(connected).filter(|(_, _, interface)| interface.is_seen_by(tenant));
    let rank = |(prefix_len, is_connected, interface): &(u8, bool, &Interface<'_>)| {
        (*prefix_len, interface.side == Some(Side::Internal), *is_connected)
    };
    seen.max_by_key(rank).map(|(_, _, interface)| interface)
}
