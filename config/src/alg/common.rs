//! The keys that every `[alg.<protocol>]` has, and what must hold between protocols.

use std::time::Duration;

use crate::alg::rule;
use crate::duration;
use crate::interface::{Draft as Interface, MAX_TENANT};
use crate::model::{Gateway, Side, Transport};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::read::{Located, Place, Table};
use crate::schema::{Key, Section};
use crate::value;

/// What the common keys are for one protocol.
pub(crate) struct Protocol {
    /// Its table.
    pub(crate) section: &'static Section,
    /// What carries its control sessions.
    pub(crate) transports: &'static [Transport],
    /// Its [`control_ports`].
    pub(crate) control_ports: &'static Key,
    /// Its registered port.
    pub(crate) default_l4_port: u16,
    /// How long an expectation waits, by default.
    pub(crate) lifetime: Duration,
    /// Expectations of one control session, by default.
    pub(crate) expectations: usize,
    /// The same, at most.
    pub(crate) most_expectations: u64,
}

pub(crate) const ENABLED: Key = Key {
    name: "enabled",
    example: "true",
    reason: "Off until the operator wants it (RFC 4787 REQ-10, RFC 5382 REQ-6).",
};
pub(crate) const EXPECTATION_LIFETIME: Key = Key {
    name: "expectation_lifetime",
    example: "\"60s\"",
    reason: "How long a promised data session may take to come, 1s to 1h; hosts need a moment.",
};
pub(crate) const EXPECTATIONS: Key = Key {
    name: "expectations",
    example: "8",
    reason: "Promised data sessions outstanding per control session, 1 to 64, of SIP 8192; few are needed at a time.",
};

pub(crate) const INTERNAL: Key = Key {
    name: "internal",
    example: "[\"10.0.0.0/24\"]",
    reason: "Internal hosts whose control sessions are read; without the line: all.",
};
pub(crate) const TENANTS: Key = Key {
    name: "tenants",
    example: "[7]",
    reason: "Tenants whose control sessions are read, 0: interfaces without one; without the line: all.",
};
pub(crate) const INTERFACES: Key = Key {
    name: "internal_interfaces",
    example: "[\"lan\"]",
    reason: "Interfaces behind which the internal host of a control session that is read is; without the line: all.",
};
pub(crate) const SHADOW: Key = Key {
    name: "shadow",
    example: "false",
    reason: "Whether it only counts and records what it would do, and changes and opens nothing.",
};

/// Of protocols over TCP.
pub(crate) const KEEPALIVE: Key = Key {
    name: "keepalive",
    example: "\"60s\"",
    reason: "Probes both ends of a control session that is silent this long while its data flow, 10s to 1h, for other NATs' sake; without the line: never.",
};

/// The key for control ports of a protocol, with those it has by default.
pub(crate) const fn control_ports(example: &'static str) -> Key {
    Key { name: "control_ports", example, reason: "Ports where control sessions are expected." }
}

/// Reads the common keys of `table`, the protocol's own.
pub(crate) fn read<'a>(protocol: &'static Protocol, table: &Table<'a>, claims: &mut Claims<'a>) -> Gateway {
    let l4_port = value::integer(1..=65_535);
    let written = table.get(protocol.control_ports, value::non_empty(value::distinct(l4_port)));
    let lifetime = value::duration(Duration::from_secs(1)..=Duration::from_secs(3_600));
    let gateway = Gateway {
        enabled: table.get(&ENABLED, value::boolean).unwrap_or(false),
        control_ports: match &written {
            Some(written) => written.iter().map(|l4_port| l4_port.value).collect(),
            None => vec![protocol.default_l4_port],
        },
        expectation_lifetime: table.get(&EXPECTATION_LIFETIME, lifetime).unwrap_or(protocol.lifetime),
        expectations: table
            .get(&EXPECTATIONS, value::integer(1..=protocol.most_expectations))
            .unwrap_or(protocol.expectations),
        internal: rule::prefixes(table, &INTERNAL),
        tenants: tenants(table),
        interfaces: claims.interfaces(table),
        shadow: table.get(&SHADOW, value::boolean).unwrap_or(false),
        keepalive: if protocol.transports.contains(&Transport::Tcp) {
            table.get(&KEEPALIVE, value::duration(Duration::from_secs(10)..=Duration::from_secs(3_600)))
        } else {
            None
        },
    };
    if gateway.enabled {
        claims.add(protocol, &gateway, written.unwrap_or_default());
    }
    gateway
}

/// Prints the table's header and the common keys.
pub(crate) fn print<'a>(protocol: &Protocol, gateway: &Gateway, out: &'a mut Printer) -> &'a mut Printer {
    out.table(protocol.section)
        .key(&ENABLED, gateway.enabled)
        .key(protocol.control_ports, list(&gateway.control_ports))
        .key(&EXPECTATION_LIFETIME, quoted(duration::print(gateway.expectation_lifetime)))
        .key(&EXPECTATIONS, gateway.expectations);
    if !gateway.internal.is_empty() {
        out.key(&INTERNAL, list(gateway.internal.iter().map(quoted)));
    }
    if !gateway.tenants.is_empty() {
        out.key(&TENANTS, list(&gateway.tenants));
    }
    if !gateway.interfaces.is_empty() {
        out.key(&INTERFACES, list(gateway.interfaces.iter().map(quoted)));
    }
    if let Some(keepalive) = gateway.keepalive {
        out.key(&KEEPALIVE, quoted(duration::print(keepalive)));
    }
    out.key(&SHADOW, gateway.shadow)
}

fn tenants(table: &Table<'_>) -> Vec<u16> {
    let list = table.get(&TENANTS, value::non_empty(value::distinct(value::integer(0..=MAX_TENANT))));
    list.into_iter().flatten().map(|tenant| tenant.value).collect()
}

/// The control ports of all protocols that are on, and the interfaces whose names a protocol may give.
pub(crate) struct Claims<'a> {
    claims: Vec<Claim<'a>>,
    /// Name and side.
    interfaces: Vec<(String, Option<Side>)>,
}

struct Claim<'a> {
    section: &'static str,
    transports: &'static [Transport],
    l4_port: u16,
    /// `None`: by default.
    place: Option<Place<'a>>,
}

impl<'a> Claims<'a> {
    /// None yet.
    pub(crate) fn new(interfaces: &[Interface<'_>]) -> Self {
        let interfaces = interfaces.iter().map(|one| (one.name().to_owned(), one.side)).collect();
        Self { claims: Vec::new(), interfaces }
    }

    /// The internal interfaces that `table` names.
    fn interfaces(&self, table: &Table<'_>) -> Vec<String> {
        let names: Vec<&str> = self.interfaces.iter().map(|(name, _)| name.as_str()).collect();
        let list = table.get(&INTERFACES, value::non_empty(value::distinct(value::name)));
        let is_internal = |name: &Located<'_, String>| {
            let side =
                names::find_by_name(name, "interface", &names).and_then(|at| self.interfaces.get(at)?.1);
            if side == Some(Side::External) {
                name.place.refuse(
                    "is external, and internal hosts are behind another",
                    "name an internal interface",
                );
            }
            side == Some(Side::Internal)
        };
        list.into_iter().flatten().filter(is_internal).map(|name| name.value).collect()
    }

    fn add(&mut self, protocol: &Protocol, gateway: &Gateway, written: Vec<Located<'a, u16>>) {
        let mut places = written.into_iter().map(|l4_port| l4_port.place);
        self.claims.extend(gateway.control_ports.iter().map(|l4_port| Claim {
            section: protocol.section.path,
            transports: protocol.transports,
            l4_port: *l4_port,
            place: places.next(),
        }));
    }

    /// A port tells which ALG reads its sessions, so no two may have the same.
    pub(crate) fn refuse_shared_ports(&self) {
        for (earlier, later) in self.shared() {
            // Two that are by default are never the same.
            let (at, other) = if later.place.is_some() { (later, earlier) } else { (earlier, later) };
            if let Some(place) = &at.place {
                let problem = format!("is a control port of [{}] already", other.section);
                place.refuse(problem, "choose another port, or switch one of the two off");
            }
        }
    }

    fn shared(&self) -> impl Iterator<Item = (&Claim<'a>, &Claim<'a>)> {
        let is_shared = |earlier: &Claim<'_>, later: &Claim<'_>| {
            earlier.section != later.section
                && earlier.l4_port == later.l4_port
                && earlier.transports.iter().any(|transport| later.transports.contains(transport))
        };
        self.claims.iter().enumerate().flat_map(move |(index, later)| {
            self.claims
                .iter()
                .take(index)
                .filter(move |earlier| is_shared(earlier, later))
                .map(move |earlier| (earlier, later))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_shared_by_two_protocols_of_one_transport_only() {
        let claim = |section, transports, l4_port| Claim { section, transports, l4_port, place: None };
        let claims = vec![
            claim("alg.a", &[Transport::Tcp], 21),
            claim("alg.b", &[Transport::Udp], 21),
            claim("alg.b", &[Transport::Udp], 69),
            claim("alg.c", &[Transport::Udp, Transport::Tcp], 5060),
            claim("alg.d", &[Transport::Tcp], 5060),
            claim("alg.d", &[Transport::Tcp], 69),
        ];
        let claims = Claims { claims, interfaces: Vec::new() };
        let shared: Vec<_> = claims.shared().map(|(a, b)| (a.section, b.section, b.l4_port)).collect();
        assert_eq!(shared, [("alg.c", "alg.d", 5060)]);
    }
}
