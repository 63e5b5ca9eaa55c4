//! `[[nat.static]]`: internal addresses that have external ones of their own (1:1).
//!
//! An external address of this kind is like a pool's: algate answers for it, so it must be nobody else's.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::address;
use crate::interface::{self, Draft as Interface};
use crate::model::{Route, Static, StaticInbound};
use crate::nat::{forward, pool};
use crate::print::{Printer, quoted};
use crate::read::{Located, Place, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "nat.static",
    form: Form::List,
    about: "Internal hosts with external addresses of their own: every protocol and port, both ways, before any rule or forward.",
    keys: &[EXTERNAL, INTERNAL, TENANT, INBOUND],
};

const EXTERNAL: Key = Key {
    name: "external",
    example: "\"203.0.113.32/29\"",
    reason: "An address, or a prefix whose addresses belong to the internal ones in their order; in no pool.",
};
const INTERNAL: Key = Key {
    name: "internal",
    example: "\"10.0.0.32/29\"",
    reason: "The host, or a prefix of the same length, behind an internal interface.",
};
const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "The hosts' tenant; without it: they are behind interfaces without one.",
};
const INBOUND: Key = Key {
    name: "inbound",
    example: "\"filter\"",
    reason: "filter: the world opens only what a filter rule allows; allow: all that none refuses: the whole host is open.",
};

const INBOUNDS: Choices<StaticInbound> =
    &[("filter", StaticInbound::Filter), ("allow", StaticInbound::Allow)];

/// A static translation as far as it could be read.
pub(crate) struct Draft<'a> {
    external: Option<Located<'a, Ipv4Net>>,
    internal: Option<Located<'a, Ipv4Net>>,
    tenant: Option<u16>,
    inbound: StaticInbound,
}

impl Draft<'_> {
    /// The model's; a wrong value's place is taken by one that nobody will see.
    pub(crate) fn into_model(self) -> Static {
        Static {
            external: self.external.map(|external| external.value).unwrap_or_default(),
            internal: self.internal.map(|internal| internal.value).unwrap_or_default(),
            tenant: self.tenant.unwrap_or_default(),
            inbound: self.inbound,
        }
    }
}

/// Reads the list.
pub(crate) fn read<'a>(
    nat: &Table<'a>,
    pools: &[pool::Draft<'a>],
    interfaces: &[Interface<'a>],
    routes: &[Located<'a, Route>],
) -> Vec<Draft<'a>> {
    let mut statics: Vec<Draft<'a>> = Vec::new();
    for table in nat.tables(&SECTION) {
        let draft = Draft {
            external: table.require(&EXTERNAL, address::address_or_prefix),
            internal: table.require(&INTERNAL, address::address_or_prefix),
            tenant: interface::read_tenant(&table, &TENANT, interfaces),
            inbound: table.get(&INBOUND, value::choice(INBOUNDS)).unwrap_or(StaticInbound::Filter),
        };
        if let (Some(external), Some(internal)) = (&draft.external, &draft.internal) {
            refuse_other_length(external.value, internal);
        }
        if let Some(external) = &draft.external {
            refuse_pooled(external, pools);
            let range = Located { value: pool::bounds(&external.value), place: external.place.clone() };
            pool::refuse_internal(&range, interfaces, routes);
            pool::refuse_own(&range, interfaces);
            pool::refuse_next_hops(&range, routes);
            refuse_repeated(external, statics.iter().filter_map(|other| other.external.as_ref()));
        }
        if let (Some(internal), Some(tenant)) = (&draft.internal, draft.tenant) {
            let (first, last) = pool::bounds(&internal.value);
            forward::refuse_unreachable(&internal.place, first, tenant, interfaces, routes);
            if last != first {
                forward::refuse_unreachable(&internal.place, last, tenant, interfaces, routes);
            }
            refuse_repeated(internal, internals(&statics, tenant));
        }
        statics.push(draft);
    }
    statics
}

/// Prints the list.
pub(crate) fn print(statics: &[Static], out: &mut Printer) {
    for Static { external, internal, tenant, inbound } in statics {
        out.table(&SECTION).key(&EXTERNAL, quoted(text(external))).key(&INTERNAL, quoted(text(internal)));
        if *tenant != 0 {
            out.key(&TENANT, *tenant);
        }
        out.key(&INBOUND, quoted(value::word_of(INBOUNDS, *inbound)));
    }
}

/// A rule for hosts that all have static addresses is never asked.
pub(super) fn refuse_shadowed(
    rule: &Located<'_, Ipv4Net>,
    tenant: Option<u16>,
    statics: &[Draft<'_>],
    interfaces: &[Interface<'_>],
) {
    let Some(tenant) = tenant.or_else(|| interface::only_tenant(interfaces)) else { return };
    if let Some(internal) = internals(statics, tenant).find(|internal| internal.value.contains(&rule.value)) {
        let problem = format!(
            "can never match: {} has static addresses (line {})",
            text(&internal.value),
            internal.place.line()
        );
        rule.place.refuse(problem, "remove the rule, or name other hosts");
    }
}

/// The first external side that shares an address with `range`.
pub(super) fn external_overlapping<'d, 'a>(
    range: pool::Range,
    statics: &'d [Draft<'a>],
) -> Option<&'d Place<'a>> {
    let mut externals = statics.iter().filter_map(|other| other.external.as_ref());
    externals.find(|own| pool::overlap(pool::bounds(&own.value), range)).map(|own| &own.place)
}

/// What a server with a static address sends would leave from there, not from its forward's address.
pub(super) fn refuse_forward(place: &Place<'_>, server: Ipv4Addr, tenant: u16, statics: &[Draft<'_>]) {
    if let Some(internal) = internals(statics, tenant).find(|internal| internal.value.contains(&server)) {
        let problem = format!("has a static address already (line {})", internal.place.line());
        place.refuse(problem, "remove the forward: the host is reached at its static address");
    }
}

/// The internal prefixes of a tenant.
fn internals<'d, 'a>(
    statics: &'d [Draft<'a>],
    tenant: u16,
) -> impl Iterator<Item = &'d Located<'a, Ipv4Net>> {
    statics
        .iter()
        .filter(move |other| other.tenant == Some(tenant))
        .filter_map(|other| other.internal.as_ref())
}

fn refuse_other_length(external: Ipv4Net, internal: &Located<'_, Ipv4Net>) {
    let (wanted, length) = (external.prefix_len(), internal.value.prefix_len());
    if wanted != length {
        let problem = format!("is a /{length}, but the external side is a /{wanted}");
        internal.place.refuse(problem, "give both sides the same length");
    }
}

fn refuse_pooled(external: &Located<'_, Ipv4Net>, pools: &[pool::Draft<'_>]) {
    let range = pool::bounds(&external.value);
    let overlapping = pools.iter().find_map(|pool| Some((pool.name(), pool.overlapping(range)?)));
    if let Some((name, other)) = overlapping {
        let problem =
            format!("overlaps {} of pool {name:?} (line {})", pool::text(other.value), other.place.line());
        external.place.refuse(problem, "choose addresses outside every pool, or take these out of the pool");
    }
}

fn refuse_repeated<'d, 'a: 'd>(
    prefix: &Located<'a, Ipv4Net>,
    mut earlier: impl Iterator<Item = &'d Located<'a, Ipv4Net>>,
) {
    let overlaps = |other: &&Located<'_, Ipv4Net>| {
        pool::overlap(pool::bounds(&prefix.value), pool::bounds(&other.value))
    };
    if let Some(other) = earlier.find(overlaps) {
        let problem = format!("overlaps {} (line {})", text(&other.value), other.place.line());
        prefix.place.refuse(problem, "translate each address once");
    }
}

/// A prefix as one would write it: of one address, without its length.
fn text(prefix: &Ipv4Net) -> String {
    if prefix.prefix_len() == 32 { prefix.addr().to_string() } else { prefix.to_string() }
}
