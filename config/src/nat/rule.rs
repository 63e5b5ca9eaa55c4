//! `[[nat.rule]]`: which flows are translated to which pool, and how; the first match counts.

use ipnet::Ipv4Net;

use crate::address;
use crate::interface::{self, Draft as Interface};
use crate::model::{FilteringBehavior, MappingBehavior, NatAction, NatRule, Pool, RuleProtocol};
use crate::names;
use crate::nat::{pool, statics};
use crate::print::{Printer, quoted};
use crate::protocol;
use crate::read::{Field, Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "nat.rule",
    form: Form::List,
    about: "Which flows are translated to which pool; the first match counts, a packet to the outside without a match is dropped.",
    keys: &[
        INTERNAL,
        TENANT,
        PROTOCOL,
        DESTINATION,
        DESTINATION_L4_PORTS,
        DESTINATION_TO,
        ACTION,
        POOL,
        MAPPING,
        FILTERING,
    ],
};

const INTERNAL: Key =
    Key { name: "internal", example: "\"10.0.0.0/24\"", reason: "Internal source addresses." };
const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "Tenant of the sources; 0: those of interfaces without one; without the line: any.",
};
const PROTOCOL: Key = Key {
    name: "protocol",
    example: "\"udp\"",
    reason: "any: tcp, udp and icmp; others by name (gre, esp, sctp, udplite, dccp, ipip, 6in4) or number.",
};
const DESTINATION: Key =
    Key { name: "destination", example: "\"192.0.2.0/24\"", reason: "Destination addresses." };
const DESTINATION_L4_PORTS: Key = Key {
    name: "destination_l4_ports",
    example: "\"53-53\"",
    reason: "Destination ports; without it: all, and protocols without ports.",
};
const DESTINATION_TO: Key = Key {
    name: "destination_to",
    example: "\"198.51.100.0/24\"",
    reason: "Where the packet goes instead (twice NAT): an address, or a prefix as long as destination, address for address.",
};
const ACTION: Key = Key {
    name: "action",
    example: "\"translate\"",
    reason: "translate; none: the flow passes as it is (RFC 6888 REQ-6).",
};
const POOL: Key = Key { name: "pool", example: "\"public\"", reason: "The pool they leave from." };
const MAPPING: Key = Key {
    name: "mapping",
    example: "\"endpoint_independent\"",
    reason: "endpoint_independent (RFC 4787 REQ-1); address_and_port_dependent saves ports, breaks peer-to-peer.",
};
const FILTERING: Key = Key {
    name: "filtering",
    example: "\"endpoint_independent\"",
    reason: "Who may come in by it: endpoint_independent (RFC 6888 REQ-7), address_dependent, address_and_port_dependent.",
};

const ANY: &str = "any";
const ACTIONS: Choices<bool> = &[("translate", true), ("none", false)];
const MAPPINGS: Choices<MappingBehavior> = &[
    ("endpoint_independent", MappingBehavior::EndpointIndependent),
    ("address_and_port_dependent", MappingBehavior::AddressAndPortDependent),
];
const FILTERINGS: Choices<FilteringBehavior> = &[
    ("endpoint_independent", FilteringBehavior::EndpointIndependent),
    ("address_dependent", FilteringBehavior::AddressDependent),
    ("address_and_port_dependent", FilteringBehavior::AddressAndPortDependent),
];

/// Reads the list.
pub(crate) fn read<'a>(
    nat: &Table<'a>,
    pools: &[pool::Draft<'a>],
    statics: &[statics::Draft<'a>],
    interfaces: &[Interface<'a>],
) -> Vec<NatRule> {
    let mut seen: Vec<(NatRule, Located<'a, Ipv4Net>)> = Vec::new();
    for table in nat.tables(&SECTION) {
        let internal = table.require(&INTERNAL, address::prefix);
        let tenant = table.get_located(&TENANT, value::integer(0..=interface::MAX_TENANT));
        if let Some(tenant) = &tenant {
            interface::refuse_unknown_tenant(tenant, interfaces);
        }
        let tenant = tenant.map(|tenant| tenant.value);
        let written = table.get_located(&PROTOCOL, read_protocol);
        let protocol = written.as_ref().and_then(|written| written.value);
        let ports = table.get_located(&DESTINATION_L4_PORTS, |field| value::l4_port_range(field, "53-53"));
        if let Some(ports) = ports.as_ref().filter(|_| protocol.is_some_and(|protocol| !protocol.has_ports()))
        {
            let problem = match protocol {
                Some(RuleProtocol::Icmp) => "can never match: ICMP has no ports",
                _ => "can never match: the protocol has no ports",
            };
            ports.place.refuse(problem, "leave it out, or choose tcp or udp");
        }
        let action = if table.get(&ACTION, value::choice(ACTIONS)).unwrap_or(true) {
            refuse_untranslatable(&table, written.as_ref());
            let name = table.require(&POOL, value::name);
            let pool = name.as_ref().and_then(|name| find_pool(name, pools));
            if let (Some(name), Some(pool)) = (&name, pool) {
                refuse_several_tenants(name, (pool, tenant), pools, &seen, interfaces);
            }
            NatAction::Translate(pool.unwrap_or_default())
        } else {
            refuse_for_untranslated(&table);
            NatAction::None
        };
        let mapping = table.get(&MAPPING, value::choice(MAPPINGS));
        let mapping = mapping.unwrap_or(MappingBehavior::EndpointIndependent);
        let Some(internal) = internal else { continue };
        let destination = table.get_located(&DESTINATION, address::prefix);
        let destination_to = table.get_located(&DESTINATION_TO, address::address_or_prefix);
        if let Some(to) = &destination_to {
            refuse_rewriting(to, destination.as_ref().map(|from| from.value), pools, statics, interfaces);
        }
        let rule = NatRule {
            internal: internal.value,
            tenant,
            protocol,
            destination: destination.map(|destination| destination.value).unwrap_or_default(),
            destination_to: destination_to.map(|to| to.value),
            destination_l4_ports: ports.map(|ports| ports.value),
            action,
            mapping,
            filtering: read_filtering(&table, mapping),
        };
        if let Some((earlier, place)) = seen.iter().find(|(earlier, _)| covers(earlier, &rule)) {
            let problem = format!(
                "can never match: {} is matched first (line {})",
                earlier.internal,
                place.place.line()
            );
            internal.place.refuse(problem, "move the narrower rule up, or remove it");
        }
        statics::refuse_shadowed(&internal, rule.tenant, statics, interfaces);
        seen.push((rule, internal));
    }
    seen.into_iter().map(|(rule, _)| rule).collect()
}

/// Prints the list.
pub(crate) fn print(rules: &[NatRule], pools: &[Pool], out: &mut Printer) {
    for rule in rules {
        let translates = rule.action != NatAction::None;
        out.table(&SECTION).key(&INTERNAL, quoted(rule.internal));
        if let Some(tenant) = rule.tenant {
            out.key(&TENANT, tenant);
        }
        out.key(&PROTOCOL, rule.protocol.map_or(quoted(ANY), |named| protocol::text(named.number())))
            .key(&DESTINATION, quoted(rule.destination));
        if let Some((low, high)) = rule.destination_l4_ports {
            out.key(&DESTINATION_L4_PORTS, quoted(format_args!("{low}-{high}")));
        }
        if let Some(to) = rule.destination_to {
            out.key(&DESTINATION_TO, quoted(to));
        }
        out.key(&ACTION, quoted(value::word_of(ACTIONS, translates)));
        if let NatAction::Translate(pool) = rule.action {
            out.key(&POOL, quoted(pools.get(pool).map_or("", |pool| pool.name.as_str())));
            if !matches!(rule.protocol, Some(RuleProtocol::Other(_))) {
                out.key(&MAPPING, quoted(value::word_of(MAPPINGS, rule.mapping)))
                    .key(&FILTERING, quoted(value::word_of(FILTERINGS, rule.filtering)));
            }
        }
    }
}

/// Whether every flow that `rule` matches is matched by `earlier`.
fn covers(earlier: &NatRule, rule: &NatRule) -> bool {
    let covers_ports = match (earlier.destination_l4_ports, rule.destination_l4_ports) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(rule)) => earlier.0 <= rule.0 && rule.1 <= earlier.1,
    };
    let covers_protocol = match (earlier.protocol, rule.protocol) {
        (None, Some(RuleProtocol::Other(_))) => false,
        (None, _) => true,
        (earlier, rule) => earlier == rule,
    };
    (earlier.tenant.is_none() || earlier.tenant == rule.tenant)
        && earlier.internal.contains(&rule.internal)
        && earlier.destination.contains(&rule.destination)
        && covers_protocol
        && covers_ports
}

/// Deterministic blocks follow from addresses alone: those of one tenant.
fn refuse_several_tenants(
    name: &Located<'_, String>,
    (pool, tenant): (usize, Option<u16>),
    pools: &[pool::Draft<'_>],
    earlier: &[(NatRule, Located<'_, Ipv4Net>)],
    interfaces: &[Interface<'_>],
) {
    if !pools.get(pool).is_some_and(pool::Draft::is_deterministic) {
        return;
    }
    const REMEDY: &str = "name one tenant in all its rules, or choose a pool for each";
    let mut others = earlier.iter().filter(|(rule, _)| rule.action == NatAction::Translate(pool));
    if let Some((_, other)) = others.find(|(rule, _)| rule.tenant != tenant) {
        let problem = format!(
            "is deterministic and serves one tenant, and another than this rule's (line {})",
            other.place.line()
        );
        name.place.refuse(problem, REMEDY);
    } else if tenant.is_none() && interface::has_several_tenants(interfaces) {
        name.place.refuse("is deterministic and serves one tenant, not any", REMEDY);
    }
}

/// A mapping that depends on the remote endpoint may share its port with others: only the remote
/// endpoint tells them apart.
fn read_filtering(table: &Table<'_>, mapping: MappingBehavior) -> FilteringBehavior {
    let written = table.get_located(&FILTERING, value::choice(FILTERINGS));
    match mapping {
        MappingBehavior::EndpointIndependent => {
            written.map_or(FilteringBehavior::EndpointIndependent, |written| written.value)
        }
        MappingBehavior::AddressAndPortDependent => {
            let strict = FilteringBehavior::AddressAndPortDependent;
            if let Some(written) = written.filter(|written| written.value != strict) {
                let problem = "is too wide for a mapping that depends on address and port";
                written.place.refuse(problem, "write \"address_and_port_dependent\", or leave it out");
            }
            strict
        }
    }
}

/// Neither side may be an external address of algate's: packets to those go in, whatever the rules say.
fn refuse_rewriting(
    to: &Located<'_, Ipv4Net>,
    from: Option<Ipv4Net>,
    pools: &[pool::Draft<'_>],
    statics: &[statics::Draft<'_>],
    interfaces: &[Interface<'_>],
) {
    let from = from.unwrap_or_default();
    let (wanted, length) = (from.prefix_len(), to.value.prefix_len());
    if wanted != length {
        let problem = format!("is a /{length}, but destination is a /{wanted}");
        return to.place.refuse(problem, "give both the same length");
    }
    for prefix in [to.value, from] {
        let range = pool::bounds(&prefix);
        let line = pools
            .iter()
            .find_map(|pool| pool.overlapping(range))
            .map(|range| range.place.line())
            .or_else(|| statics::external_overlapping(range, statics).map(|place| place.line()))
            .or_else(|| {
                let mut own = interfaces.iter().flat_map(|interface| &interface.addresses);
                own.find(|own| prefix.contains(&own.value.addr())).map(|own| own.place.line())
            });
        if let Some(line) = line {
            let problem = format!("cannot be: {prefix} holds an address of algate's own (line {line})");
            to.place.refuse(problem, "name addresses that algate does not answer for");
        }
    }
}

fn read_protocol(field: &Field<'_>) -> Option<Option<RuleProtocol>> {
    if field.value.as_str() == Some(ANY) {
        return Some(None);
    }
    protocol::read(field).map(|number| Some(RuleProtocol::of_number(number)))
}

/// AH covers the addresses, so it survives no translation (RFC 4302 section 3.3.3.1.1). Protocols other than TCP, UDP
/// and ICMP have no mappings: their sessions depend on the remote end.
fn refuse_untranslatable(table: &Table<'_>, written: Option<&Located<'_, Option<RuleProtocol>>>) {
    let Some(written) = written else { return };
    let Some(RuleProtocol::Other(number)) = written.value else { return };
    if number == protocol::AH {
        let remedy = "write action = \"none\", or leave the rule out";
        written.place.refuse("cannot be translated: AH covers the addresses", remedy);
    }
    for key in [&MAPPING, &FILTERING] {
        if table.has(key) {
            let place = table.place_absent(key.name);
            place.refuse("means nothing for this protocol: it is known by the remote end", "leave it out");
        }
    }
}

fn refuse_for_untranslated(table: &Table<'_>) {
    for key in [&POOL, &MAPPING, &FILTERING] {
        if table.has(key) {
            let place = table.place_absent(key.name);
            place.refuse("means nothing for action \"none\"", "leave it out");
        }
    }
}

fn find_pool(name: &Located<'_, String>, pools: &[pool::Draft<'_>]) -> Option<usize> {
    let names: Vec<&str> = pools.iter().map(|pool| pool.name()).collect();
    names::find_by_name(name, "pool", &names)
}
