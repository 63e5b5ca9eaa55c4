//! `[[filter]]`: who may open a flow; the first matching rule decides.
//!
//! A rule sees a packet as it arrives, before translation: a forward is protected by its external
//! endpoint. Without a matching rule, internal hosts may open flows and the world may not, unless an
//! expectation, a mapping or a forward admits it.

mod cover;

use ipnet::Ipv4Net;

use crate::address;
use crate::filter::cover::Reach;
use crate::interface::Draft as Interface;
use crate::model::{self, FilterAction, FilterDirection, FilterRule, Side};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::protocol::{self, ICMP, TCP, UDP};
use crate::read::{Field, Located, Place, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "filter",
    form: Form::List,
    about: "Who may open a flow: the first match decides; without one, only internal hosts may.",
    keys: &[
        NAME,
        ACTION,
        DIRECTION,
        IN_INTERFACE,
        OUT_INTERFACE,
        PROTOCOL,
        SOURCE,
        DESTINATION,
        SOURCE_PORTS,
        DESTINATION_PORTS,
        ICMP_TYPES,
    ],
};

const NAME: Key = Key { name: "name", example: "\"no-smtp\"", reason: "What output calls it." };
const ACTION: Key = Key {
    name: "action",
    example: "\"deny\"",
    reason: "allow; deny: drop in silence; reject: drop and tell the sender (TCP reset or ICMP).",
};
const DIRECTION: Key = Key {
    name: "direction",
    example: "\"outbound\"",
    reason: "outbound: it arrives on an internal interface; inbound: on an external one.",
};
const IN_INTERFACE: Key = Key { name: "in_interface", example: "\"lan\"", reason: "Where it arrives." };
const OUT_INTERFACE: Key =
    Key { name: "out_interface", example: "\"wan\"", reason: "Where it would leave, after translation." };
const PROTOCOL: Key = Key {
    name: "protocol",
    example: "\"tcp\"",
    reason: "A name (tcp, udp, icmp, gre, esp, sctp, ...) or a number.",
};
const SOURCE: Key =
    Key { name: "source", example: "[\"10.0.0.0/24\"]", reason: "Source prefixes, as the packet arrives." };
const DESTINATION: Key = Key {
    name: "destination",
    example: "[\"203.0.113.10/32\"]",
    reason: "Destination prefixes, as the packet arrives: inbound, a pool's or forward's address.",
};
const SOURCE_PORTS: Key =
    Key { name: "source_ports", example: "[\"1024-65535\"]", reason: "Source ports, of TCP or UDP." };
const DESTINATION_PORTS: Key = Key {
    name: "destination_ports",
    example: "[\"25\", \"6000-6010\"]",
    reason: "Destination ports, of TCP or UDP.",
};
const ICMP_TYPES: Key =
    Key { name: "icmp_types", example: "[8]", reason: "ICMP types; errors pass with their session." };

const ACTIONS: Choices<FilterAction> =
    &[("allow", FilterAction::Allow), ("deny", FilterAction::Deny), ("reject", FilterAction::Reject)];
const DIRECTIONS: Choices<FilterDirection> =
    &[("inbound", FilterDirection::Inbound), ("outbound", FilterDirection::Outbound)];

/// ICMP errors belong to the session they are about and never open one.
const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];

/// Rules of one file: each costs two bits a dimension and prefix in the compiled filter.
const MAX_RULES: usize = 16_384;

/// Reads the list.
pub(crate) fn read(root: &Table<'_>, interfaces: &[Interface<'_>]) -> Vec<FilterRule> {
    let mut names = names::Names::default();
    let mut rules = Vec::new();
    let mut seen: Vec<(Reach, String, Place<'_>)> = Vec::new();
    for table in root.tables(&SECTION) {
        if rules.len() == MAX_RULES {
            let problem = format!("is one more than the {MAX_RULES} rules supported");
            table.place.refuse(problem, "put several prefixes or ports into one rule");
            break;
        }
        let mistakes_before = table.place.mistakes();
        let name = table.require(&NAME, value::name);
        names.claim(&name);
        let rule = read_one(&table, name.as_ref().map_or("", |name| &name.value), interfaces);
        if table.place.mistakes() == mistakes_before {
            let side_of = |index: usize| interfaces.get(index).and_then(|interface| interface.side);
            let reach = Reach::of(&rule, side_of);
            if let Some((_, earlier, place)) = seen.iter().find(|(earlier, ..)| earlier.covers(&reach)) {
                let problem =
                    format!("can never match: rule {earlier:?} (line {}) matches first", place.line());
                table.place.refuse(problem, "move the narrower rule up, or remove it");
            }
            seen.push((reach, rule.name.clone(), table.place.clone()));
        }
        rules.push(rule);
    }
    rules
}

/// Prints the list.
pub(crate) fn print(rules: &[FilterRule], interfaces: &[model::Interface], out: &mut Printer) {
    let interface = |index: usize| quoted(interfaces.get(index).map_or("", |interface| &interface.name));
    for rule in rules {
        out.table(&SECTION)
            .key(&NAME, quoted(&rule.name))
            .key(&ACTION, quoted(value::word_of(ACTIONS, rule.action)));
        if let Some(direction) = rule.direction {
            out.key(&DIRECTION, quoted(value::word_of(DIRECTIONS, direction)));
        }
        if let Some(index) = rule.in_interface {
            out.key(&IN_INTERFACE, interface(index));
        }
        if let Some(index) = rule.out_interface {
            out.key(&OUT_INTERFACE, interface(index));
        }
        if let Some(number) = rule.protocol {
            out.key(&PROTOCOL, protocol::text(number));
        }
        for (key, prefixes) in [(&SOURCE, &rule.source), (&DESTINATION, &rule.destination)] {
            if !prefixes.is_empty() {
                out.key(key, list(prefixes.iter().map(quoted)));
            }
        }
        for (key, ports) in
            [(&SOURCE_PORTS, &rule.source_ports), (&DESTINATION_PORTS, &rule.destination_ports)]
        {
            if !ports.is_empty() {
                out.key(key, list(ports.iter().map(|range| quoted(ports_text(*range)))));
            }
        }
        if !rule.icmp_types.is_empty() {
            out.key(&ICMP_TYPES, list(&rule.icmp_types));
        }
    }
}

fn read_one(table: &Table<'_>, name: &str, interfaces: &[Interface<'_>]) -> FilterRule {
    let action = table.require(&ACTION, value::choice(ACTIONS));
    let direction = table.get_located(&DIRECTION, value::choice(DIRECTIONS));
    let in_interface = find_interface(table, &IN_INTERFACE, interfaces);
    if let Some(direction) = &direction {
        refuse_other_side(direction, in_interface, interfaces);
    }
    let protocol = table.get(&PROTOCOL, protocol::read);
    let source_ports = table.get_located(&SOURCE_PORTS, value::non_empty(value::list(l4_ports)));
    let destination_ports = table.get_located(&DESTINATION_PORTS, value::non_empty(value::list(l4_ports)));
    let icmp_types = table.get_located(&ICMP_TYPES, value::non_empty(value::distinct(icmp_type)));
    let is_protocol_known = protocol.is_some() || !table.has(&PROTOCOL);
    if is_protocol_known && !matches!(protocol, Some(TCP | UDP)) {
        for ports in [&source_ports, &destination_ports].into_iter().flatten() {
            let remedy = "add protocol = \"tcp\" or protocol = \"udp\"; both take two rules";
            ports.place.refuse("needs a protocol that has ports", remedy);
        }
    }
    if let Some(types) = icmp_types.as_ref().filter(|_| is_protocol_known && protocol != Some(ICMP)) {
        types.place.refuse("needs ICMP", "add protocol = \"icmp\"");
    }
    FilterRule {
        name: name.to_string(),
        action: action.map_or(FilterAction::Deny, |action| action.value),
        direction: direction.map(|direction| direction.value),
        in_interface,
        out_interface: find_interface(table, &OUT_INTERFACE, interfaces),
        protocol,
        source: prefixes(table, &SOURCE),
        destination: prefixes(table, &DESTINATION),
        source_ports: values(source_ports),
        destination_ports: values(destination_ports),
        icmp_types: values(icmp_types),
    }
}

fn find_interface(table: &Table<'_>, key: &'static Key, interfaces: &[Interface<'_>]) -> Option<usize> {
    let name = table.get_located(key, value::name)?;
    let names: Vec<&str> = interfaces.iter().map(Interface::name).collect();
    names::find_by_name(&name, "interface", &names)
}

/// The side of the interface a packet arrives on is its direction.
fn refuse_other_side(
    direction: &Located<'_, FilterDirection>,
    in_interface: Option<usize>,
    interfaces: &[Interface<'_>],
) {
    let Some(interface) = in_interface.and_then(|index| interfaces.get(index)) else { return };
    let side = match (direction.value, interface.side) {
        (FilterDirection::Inbound, Some(Side::Internal)) => "internal",
        (FilterDirection::Outbound, Some(Side::External)) => "external",
        _ => return,
    };
    let problem = format!("can never match: in_interface {:?} is {side}", interface.name());
    direction.place.refuse(problem, "remove the line: in_interface tells the direction");
}

fn prefixes(table: &Table<'_>, key: &'static Key) -> Vec<Ipv4Net> {
    values(table.get_located(key, value::non_empty(value::distinct(address::prefix))))
}

fn values<'a, T>(list: Option<Located<'a, Vec<Located<'a, T>>>>) -> Vec<T> {
    list.into_iter().flat_map(|list| list.value).map(|entry| entry.value).collect()
}

fn icmp_type(field: &Field<'_>) -> Option<u8> {
    let number = value::integer(0..=255)(field)?;
    if ICMP_ERRORS.contains(&number) {
        field.place.refuse(
            "is an ICMP error, which passes with the session it is about and no other way",
            "remove it from the list",
        );
        return None;
    }
    Some(number)
}

/// `21`, or `6000-6010`.
fn l4_ports(field: &Field<'_>) -> Option<(u16, u16)> {
    let written = value::text(field)?;
    let (low, high) = written.split_once('-').unwrap_or((written, written));
    let (Ok(low), Ok(high)) = (low.trim().parse(), high.trim().parse()) else {
        field.place.refuse("is no L4 port and no range", "write e.g. \"21\" or \"6000-6010\"");
        return None;
    };
    if low > high {
        field.place.refuse("ends before it begins", format!("write \"{high}-{low}\""));
        return None;
    }
    Some((low, high))
}

fn ports_text((low, high): (u16, u16)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}
