//! `[[nat.forward]]`: external endpoints that lead to internal servers.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::address;
use crate::interface::{self, Draft as Interface};
use crate::model::{Forward, Route, Side, Transport};
use crate::nat::pool;
use crate::print::{Printer, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "nat.forward",
    form: Form::List,
    about: "An external endpoint that leads to an internal server.",
    keys: &[PROTOCOL, EXTERNAL, INTERNAL, TENANT],
};

const PROTOCOL: Key = Key { name: "protocol", example: "\"tcp\"", reason: "tcp or udp." };
const EXTERNAL: Key = Key {
    name: "external",
    example: "\"203.0.113.10:21\"",
    reason: "What the world connects to; the address is one of a pool's.",
};
const INTERNAL: Key =
    Key { name: "internal", example: "\"10.0.0.9:21\"", reason: "The server, behind an internal interface." };

const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "The server's tenant; without it: it is behind an interface without one.",
};

const TRANSPORTS: Choices<Transport> = &[("tcp", Transport::Tcp), ("udp", Transport::Udp)];

/// Reads the list.
pub(crate) fn read<'a>(
    nat: &Table<'a>,
    pools: &[pool::Draft<'a>],
    interfaces: &[Interface<'a>],
    routes: &[Located<'a, Route>],
) -> Vec<Forward> {
    let mut seen: Vec<(Transport, Located<'a, SocketAddrV4>)> = Vec::new();
    let mut forwards = Vec::new();
    for table in nat.tables(&SECTION) {
        let protocol = table.require(&PROTOCOL, value::choice(TRANSPORTS));
        let external = table.require(&EXTERNAL, address::endpoint);
        let internal = table.require(&INTERNAL, address::endpoint);
        if let Some(external) = &external {
            refuse_outside(external, pools);
        }
        let tenant = table.get_located(&TENANT, value::integer(1..=interface::MAX_TENANT));
        let is_tenant_wrong = table.has(&TENANT) && tenant.is_none();
        let has_tenant = |tenant: &Located<'_, u16>| {
            interface::refuse_unknown_tenant(tenant, interfaces);
            interface::has_tenant(interfaces, tenant.value)
        };
        let is_tenant_known = !is_tenant_wrong && tenant.as_ref().is_none_or(has_tenant);
        let tenant = tenant.map_or(0, |tenant| tenant.value);
        if let Some(internal) = internal.as_ref().filter(|_| is_tenant_known) {
            refuse_unreachable(internal, tenant, interfaces, routes);
        }
        let (Some(protocol), Some(external)) = (protocol, external) else { continue };
        let is_same = |(other, endpoint): &&(Transport, Located<'_, SocketAddrV4>)| {
            *other == protocol.value && endpoint.value == external.value
        };
        if let Some((_, other)) = seen.iter().find(is_same) {
            let word = value::word_of(TRANSPORTS, protocol.value);
            external.place.refuse(
                format!("is forwarded for {word} already (line {})", other.place.line()),
                "choose another address or port",
            );
        }
        if let Some(internal) = internal {
            forwards.push(Forward {
                protocol: protocol.value,
                external: external.value,
                internal: internal.value,
                tenant,
            });
        }
        seen.push((protocol.value, external));
    }
    forwards
}

/// Prints the list.
pub(crate) fn print(forwards: &[Forward], out: &mut Printer) {
    for forward in forwards {
        out.table(&SECTION)
            .key(&PROTOCOL, quoted(value::word_of(TRANSPORTS, forward.protocol)))
            .key(&EXTERNAL, quoted(forward.external))
            .key(&INTERNAL, quoted(forward.internal));
        if forward.tenant != 0 {
            out.key(&TENANT, forward.tenant);
        }
    }
}

fn refuse_outside(external: &Located<'_, SocketAddrV4>, pools: &[pool::Draft<'_>]) {
    let is_inside = pools.iter().any(|pool| pool.contains(*external.value.ip()));
    if !is_inside && pools.iter().all(|pool| pool.is_sound) {
        external
            .place
            .refuse("is outside every pool", "choose an address of a pool, or add this one to a pool");
    }
}

fn refuse_unreachable(
    internal: &Located<'_, SocketAddrV4>,
    tenant: u16,
    interfaces: &[Interface<'_>],
    routes: &[Located<'_, Route>],
) {
    let server = *internal.value.ip();
    if let Some(own) = interface::own_addresses(interfaces, tenant).find(|own| own.value.addr() == server) {
        let problem = format!("is an own address of algate (line {})", own.place.line());
        internal.place.refuse(problem, "give the server's address");
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
    internal.place.refuse(problem, "give a server in, or routed through, an internal interface's prefix");
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
