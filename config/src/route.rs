//! `[[route]]`: static routes. Connected routes follow from the interfaces' addresses.
//!
//! A route is its interface's tenant's; those of external interfaces are everybody's, where a tenant has none of
//! its own with the same prefix.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::address;
use crate::interface::{self, Draft};
use crate::model::{Interface, Route};
use crate::names;
use crate::print::{Printer, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "route",
    form: Form::List,
    about: "A static route; the longest matching prefix wins.",
    keys: &[PREFIX, VIA, INTERFACE],
};

const PREFIX: Key =
    Key { name: "prefix", example: "\"0.0.0.0/0\"", reason: "Destinations; 0.0.0.0/0 is the default route." };
const VIA: Key = Key {
    name: "via",
    example: "\"203.0.113.254\"",
    reason: "The next hop, in a connected prefix of the interface.",
};
const INTERFACE: Key = Key {
    name: "interface",
    example: "\"wan\"",
    reason: "Where it leaves; by default the interface whose connected prefix holds the next hop.",
};

/// Reads the list; routes whose next hop cannot be told are noted and left out.
pub(crate) fn read<'a>(root: &Table<'a>, interfaces: &[Draft<'a>]) -> Vec<Located<'a, Route>> {
    let mut seen: Vec<(u16, Located<'a, Ipv4Net>)> = Vec::new();
    let mut routes = Vec::new();
    for table in root.tables(&SECTION) {
        let prefix = table.require(&PREFIX, address::prefix);
        let via = table.require(&VIA, address::host_address);
        let named = table.get_located(&INTERFACE, value::name);
        let named = named.and_then(|name| find_named(&name, interfaces));
        let is_name_wrong = table.has(&INTERFACE) && named.is_none();
        let via = via.filter(|_| !is_name_wrong);
        let interface = via.as_ref().and_then(|via| find_next_hop(via, named, interfaces));
        if let Some(prefix) = &prefix {
            let tenant = interface.and_then(|index| interfaces.get(index)).map_or(0, |draft| draft.tenant);
            refuse_known(prefix, tenant, &seen, interfaces);
            seen.push((tenant, prefix.clone()));
        }
        if let (Some(prefix), Some(via), Some(interface)) = (prefix, via, interface) {
            let value = Route { prefix: prefix.value, via: via.value, interface };
            routes.push(Located { value, place: table.place.clone() });
        }
    }
    routes
}

/// Prints the list.
pub(crate) fn print(routes: &[Route], interfaces: &[Interface], out: &mut Printer) {
    for route in routes {
        let interface = interfaces.get(route.interface).map_or("", |interface| interface.name.as_str());
        out.table(&SECTION)
            .key(&PREFIX, quoted(route.prefix))
            .key(&VIA, quoted(route.via))
            .key(&INTERFACE, quoted(interface));
    }
}

fn refuse_known(
    prefix: &Located<'_, Ipv4Net>,
    tenant: u16,
    seen: &[(u16, Located<'_, Ipv4Net>)],
    interfaces: &[Draft<'_>],
) {
    let is_same = |(its, other): &&(u16, Located<'_, Ipv4Net>)| *its == tenant && other.value == prefix.value;
    if let Some((_, other)) = seen.iter().find(is_same) {
        prefix
            .place
            .refuse(format!("has a route already (line {})", other.place.line()), "keep one of the two");
    }
    let connected =
        interface::own_addresses(interfaces, tenant).find(|own| own.value.trunc() == prefix.value);
    if let Some(own) = connected {
        let problem = format!("is a connected prefix (line {})", own.place.line());
        prefix.place.refuse(problem, "remove the route: connected prefixes need none");
    }
}

fn find_named(name: &Located<'_, String>, interfaces: &[Draft<'_>]) -> Option<usize> {
    let names: Vec<&str> = interfaces.iter().map(|interface| interface.name()).collect();
    names::find_by_name(name, "interface", &names)
}

/// The interface through which the next hop is reached.
fn find_next_hop(
    via: &Located<'_, Ipv4Addr>,
    named: Option<usize>,
    interfaces: &[Draft<'_>],
) -> Option<usize> {
    let near: Vec<_> = interface::connected_to(interfaces, via.value).collect();
    let named = named.and_then(|index| Some((index, interfaces.get(index)?)));
    let chosen = named.or(near.first().copied());
    let mut own = interface::own_addresses(interfaces, chosen.map_or(0, |(_, draft)| draft.tenant));
    if let Some(own) = own.find(|own| own.value.addr() == via.value) {
        let problem = format!("is an own address (line {})", own.place.line());
        via.place.refuse(problem, "give the address of the next router");
        return None;
    }
    match (named, near.as_slice()) {
        (_, []) if interfaces.iter().any(|interface| !interface.is_sound) => None,
        (_, []) => {
            via.place.refuse(
                "is in no connected prefix",
                "give a next hop in the prefix of one of the interface addresses",
            );
            None
        }
        (Some((_, interface)), _) if interface.connected(via.value).is_none() => {
            via.place.refuse(
                format!("is in no connected prefix of interface {:?}", interface.name()),
                "name the interface it is connected to, or leave the key interface out",
            );
            None
        }
        (None, [(_, one), (_, other), ..]) => {
            let problem = format!("is in prefixes of interfaces {:?} and {:?}", one.name(), other.name());
            via.place.refuse(problem, "name the interface: it tells whose route it is");
            None
        }
        _ => chosen.map(|(index, _)| index),
    }
}
