//! `[pcp]`: the port control server on the internal side.
//!
//! RFC 6887 section 15 recommends the least lifetime and a day at most; RFC 6888 REQ-9 asks for a server,
//! and leaves it to the operator to switch it on.

use std::time::Duration;

use crate::model::{Pcp, Tables};
use crate::print::{Printer, quoted};
use crate::read::Table;
use crate::schema::{Form, Key, Section};
use crate::{duration, value};

pub(crate) const SECTION: Section = Section {
    path: "pcp",
    form: Form::Table,
    about: "Port control for internal hosts: PCP (RFC 6887) and NAT-PMP (RFC 6886), UDP port 5351.",
    keys: &[ENABLED, NAT_PMP, MAPPINGS, PER_SUBSCRIBER, MIN_LIFETIME, MAX_LIFETIME, REQUESTS_PER_SECOND],
};

const ENABLED: Key = Key {
    name: "enabled",
    example: "true",
    reason: "Off until the operator wants it: hosts then open ports for the world by themselves.",
};
const NAT_PMP: Key =
    Key { name: "nat_pmp", example: "true", reason: "Whether the older protocol is answered, too." };
const MAPPINGS: Key = Key {
    name: "mappings",
    example: "4096",
    reason: "Mappings that hosts have asked for, at one time; at most 65536 and tables.mappings.",
};
const PER_SUBSCRIBER: Key = Key {
    name: "per_subscriber",
    example: "32",
    reason: "Of these, how many one internal address may have; a home has a dozen.",
};
const MIN_LIFETIME: Key = Key {
    name: "min_lifetime",
    example: "\"120s\"",
    reason: "Shorter requests are raised to it, 120s at least: renewals must not become a load.",
};
const MAX_LIFETIME: Key = Key {
    name: "max_lifetime",
    example: "\"24h\"",
    reason: "Longer requests are cut to it, 24h at most: what a host forgets must go away.",
};
const REQUESTS_PER_SECOND: Key = Key {
    name: "requests_per_second",
    example: "100",
    reason: "Per worker, at most 10000, a quarter of it from one host; the rest is dropped unanswered.",
};

/// Reads the table.
pub(crate) fn read(root: &Table<'_>, tables: &Tables) -> Pcp {
    let table = root.table(&SECTION);
    let lifetime = || value::duration(MIN..=MAX);
    let mappings = table.get_located(&MAPPINGS, value::integer(1..=65_536));
    if let Some(mappings) = mappings.as_ref().filter(|mappings| mappings.value > tables.mappings) {
        let problem = format!("is more than the {} of tables.mappings", tables.mappings);
        mappings.place.refuse(problem, "lower it, or raise tables.mappings");
    }
    let mappings = mappings.map_or(tables.mappings.min(4_096), |mappings| mappings.value);
    let per_subscriber = table.get_located(&PER_SUBSCRIBER, value::integer(1..=65_536));
    if let Some(quota) = per_subscriber.as_ref().filter(|quota| quota.value > mappings) {
        let problem = format!("is more than all {mappings} mappings together");
        quota.place.refuse(problem, "lower it, or raise pcp.mappings");
    }
    let min_lifetime = table.get(&MIN_LIFETIME, lifetime()).unwrap_or(MIN);
    let max_lifetime = table.get_located(&MAX_LIFETIME, lifetime());
    if let Some(max) = max_lifetime.as_ref().filter(|max| max.value < min_lifetime) {
        let min = duration::print(min_lifetime);
        max.place.refuse(format!("is below pcp.min_lifetime, {min}"), format!("choose {min} or more"));
    }
    Pcp {
        enabled: table.get(&ENABLED, value::boolean).unwrap_or(false),
        nat_pmp: table.get(&NAT_PMP, value::boolean).unwrap_or(true),
        mappings,
        per_subscriber: per_subscriber.map_or(mappings.min(32), |quota| quota.value),
        min_lifetime,
        max_lifetime: max_lifetime.map_or(MAX, |max| max.value),
        requests_per_second: table.get(&REQUESTS_PER_SECOND, value::integer(1..=10_000)).unwrap_or(100),
    }
}

/// Prints the table.
pub(crate) fn print(pcp: &Pcp, out: &mut Printer) {
    out.table(&SECTION)
        .key(&ENABLED, pcp.enabled)
        .key(&NAT_PMP, pcp.nat_pmp)
        .key(&MAPPINGS, pcp.mappings)
        .key(&PER_SUBSCRIBER, pcp.per_subscriber)
        .key(&MIN_LIFETIME, quoted(duration::print(pcp.min_lifetime)))
        .key(&MAX_LIFETIME, quoted(duration::print(pcp.max_lifetime)))
        .key(&REQUESTS_PER_SECOND, pcp.requests_per_second);
}

const MIN: Duration = Duration::from_secs(120);
const MAX: Duration = Duration::from_secs(86_400);
