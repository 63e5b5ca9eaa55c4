//! The compiled filter against its rules read one by one, and tables of rules and packets.

use algate_config::{FilterAction, FilterDirection, FilterRule, Machine};
use ipnet::Ipv4Net;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Interfaces 0 `lan` (internal), 1 `wan` (external), 2 `guests` (internal).
fn config(rules: &str) -> Config {
    let text = format!(
        r#"
        nic_port = [{{ name = "p0", device = {{ driver = "null" }} }}, {{ name = "p1", device = {{ driver = "null" }} }}]
        interface = [
            {{ name = "lan", nic_port = "p0", side = "internal", addresses = ["10.0.0.1/24"] }},
            {{ name = "wan", nic_port = "p1", side = "external", addresses = ["203.0.113.1/24"] }},
            {{ name = "guests", nic_port = "p0", vlan = 7, side = "internal", addresses = ["10.0.7.1/24"] }},
        ]
        {rules}"#
    );
    Config::parse(&text, "test", &Machine::unchecked()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn with_rules(rules: Vec<FilterRule>) -> Filter {
    Filter::new(&Config { filter: rules, ..config("") }, 1)
}

fn rule(action: FilterAction) -> FilterRule {
    FilterRule {
        name: String::new(),
        action,
        direction: None,
        in_interface: None,
        out_interface: None,
        protocol: None,
        source: vec![],
        destination: vec![],
        source_ports: vec![],
        destination_ports: vec![],
        icmp_types: vec![],
    }
}

fn address(text: &str) -> u32 {
    text.parse::<std::net::Ipv4Addr>().unwrap().into()
}

/// From `lan` to `wan`.
fn opener(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Opener {
    Opener {
        in_interface: InterfaceId(0),
        out_interface: Some(InterfaceId(1)),
        source: address(source.0),
        destination: address(destination.0),
        protocol,
        source_port: source.1,
        destination_port: destination.1,
        icmp_type: 0,
    }
}

#[test]
fn the_first_rule_that_matches_in_every_field_decides() {
    let filter = Filter::new(
        &config(
            r#"
            [[filter]]
            name = "mail"
            action = "allow"
            protocol = "tcp"
            source = ["10.0.0.25/32", "10.0.0.128/25"]
            destination_ports = ["25", "465-587"]
            [[filter]]
            name = "no mail"
            action = "reject"
            direction = "outbound"
            protocol = "tcp"
            destination_ports = ["25", "465-587"]
            [[filter]]
            name = "guests apart"
            action = "deny"
            in_interface = "guests"
            out_interface = "lan"
            [[filter]]
            name = "ping"
            action = "deny"
            direction = "inbound"
            protocol = "icmp"
            icmp_types = [8, 13]
            [[filter]]
            name = "gre"
            action = "deny"
            protocol = 47
            [[filter]]
            name = "low ports"
            action = "deny"
            protocol = "udp"
            source_ports = ["0-1023"]
            destination = ["198.51.100.0/24"]
            "#
            .replace("no mail", "no-mail")
            .replace("guests apart", "guests-apart")
            .replace("low ports", "low-ports")
            .as_str(),
        ),
        1,
    );
    let from = |interface, opener| Opener { in_interface: InterfaceId(interface), ..opener };
    let to = |interface, opener| Opener { out_interface: interface, ..opener };
    let icmp = |icmp_type| Opener { icmp_type, ..opener(1, ("192.0.2.9", 77), ("203.0.113.10", 0)) };
    let mail = opener(6, ("10.0.0.9", 999), ("192.0.2.9", 25));
    let low = opener(17, ("10.0.0.9", 1023), ("198.51.100.255", 53));
    for (name, opener, expected) in [
        ("mail from the mail server", opener(6, ("10.0.0.25", 999), ("192.0.2.9", 25)), Some(0)),
        ("mail from its second prefix", opener(6, ("10.0.0.128", 999), ("192.0.2.9", 587)), Some(0)),
        ("mail from elsewhere", mail, Some(1)),
        ("mail by UDP", Opener { protocol: 17, ..mail }, None),
        ("one port below the range", Opener { destination_port: 464, ..mail }, None),
        ("one port above the range", Opener { destination_port: 588, ..mail }, None),
        ("mail from outside", from(1, mail), None),
        ("mail of guests", from(2, mail), Some(1)),
        ("guests to the office", to(Some(InterfaceId(0)), from(2, low)), Some(2)),
        ("guests to nobody knows where", to(None, from(2, low)), Some(5)),
        ("echo request from outside", from(1, icmp(8)), Some(3)),
        ("timestamp request from outside", from(1, icmp(13)), Some(3)),
        ("address mask request from outside", from(1, icmp(17)), None),
        ("echo request from inside", icmp(8), None),
        ("GRE", opener(47, ("10.0.0.9", 0), ("192.0.2.9", 0)), Some(4)),
        ("a low source port", low, Some(5)),
        ("a high source port", Opener { source_port: 1024, ..low }, None),
        ("the address behind the prefix", Opener { destination: low.destination + 1, ..low }, None),
    ] {
        assert_eq!(filter.first_match(&opener), expected, "{name}");
    }
}

#[test]
fn no_rules_say_nothing_and_an_open_rule_says_everything() {
    let packet = opener(6, ("10.0.0.9", 999), ("192.0.2.9", 25));
    assert_eq!(with_rules(vec![]).judge(WorkerId(0), &packet), None);
    assert!(!with_rules(vec![]).has_rules());
    let filter = with_rules(vec![rule(FilterAction::Deny), rule(FilterAction::Allow)]);
    assert_eq!(filter.judge(WorkerId(0), &packet), Some(FilterAction::Deny));
}

#[test]
fn a_direction_without_an_interface_of_its_side_matches_nothing() {
    let inbound = FilterRule { direction: Some(FilterDirection::Inbound), ..rule(FilterAction::Allow) };
    let mut config = config("");
    config.interfaces.retain(|interface| interface.side == Side::Internal);
    config.filter = vec![inbound];
    let filter = Filter::new(&config, 1);
    assert_eq!(filter.first_match(&opener(6, ("10.0.0.9", 999), ("192.0.2.9", 25))), None);
}

#[test]
fn hits_are_counted_by_rule_and_added_up_over_threads() {
    let udp = FilterRule { protocol: Some(17), ..rule(FilterAction::Deny) };
    let config = Config { filter: vec![udp, rule(FilterAction::Allow)], ..config("") };
    let filter = Filter::new(&config, 2);
    for (thread, protocol) in [(0, 17), (1, 17), (1, 6)] {
        filter.judge(WorkerId(thread), &opener(protocol, ("10.0.0.9", 1), ("192.0.2.9", 2)));
    }
    assert_eq!([filter.hits(0), filter.hits(1), filter.hits(2)], [2, 1, 0]);
}

/// One rule after the other, as the configuration reads.
fn model(rules: &[FilterRule], opener: &Opener) -> Option<usize> {
    let in_list = |list: &[Ipv4Net], address: u32| {
        list.is_empty() || list.iter().any(|net| net.contains(&std::net::Ipv4Addr::from(address)))
    };
    let in_ports = |list: &[(u16, u16)], port: u16| {
        list.is_empty() || list.iter().any(|(low, high)| (*low..=*high).contains(&port))
    };
    let direction = match opener.in_interface.0 {
        1 => FilterDirection::Inbound,
        _ => FilterDirection::Outbound,
    };
    rules.iter().position(|rule| {
        rule.direction.is_none_or(|wanted| wanted == direction)
            && rule.in_interface.is_none_or(|index| index == usize::from(opener.in_interface.0))
            && rule.out_interface.is_none_or(|index| {
                opener.out_interface.is_some_and(|interface| usize::from(interface.0) == index)
            })
            && rule.protocol.is_none_or(|protocol| protocol == opener.protocol)
            && in_list(&rule.source, opener.source)
            && in_list(&rule.destination, opener.destination)
            && in_ports(&rule.source_ports, opener.source_port)
            && in_ports(&rule.destination_ports, opener.destination_port)
            && (rule.icmp_types.is_empty() || rule.icmp_types.contains(&opener.icmp_type))
    })
}

/// Few bits, so that prefixes nest and packets hit them; both ends of the space are among them.
fn any_address() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..8, (u32::MAX - 7)..=u32::MAX, (0_u32..16).prop_map(|low| 0x0a00_0000 | low)]
}

fn any_prefix() -> impl Strategy<Value = Ipv4Net> {
    let length = prop_oneof![4 => 26_u8..=32, 1 => 0_u8..=32];
    (any_address(), length)
        .prop_map(|(address, length)| Ipv4Net::new(address.into(), length).unwrap().trunc())
}

fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![0_u16..4, 20_u16..26, (u16::MAX - 3)..=u16::MAX]
}

fn any_ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    vec((any_port(), any_port()).prop_map(|(a, b)| (a.min(b), a.max(b))), 0..3)
}

fn any_rule() -> impl Strategy<Value = FilterRule> {
    let direction = option::of(prop_oneof![Just(FilterDirection::Inbound), Just(FilterDirection::Outbound)]);
    let protocol = option::of(prop_oneof![Just(1_u8), Just(6), Just(17), Just(47)]);
    let interfaces = (direction, option::weighted(0.3, 0_usize..3), option::weighted(0.3, 0_usize..3));
    let l4 = (protocol, any_ports(), any_ports(), vec(0_u8..4, 0..3));
    (interfaces, l4, vec(any_prefix(), 0..4), vec(any_prefix(), 0..4)).prop_map(
        |((direction, in_interface, out_interface), l4, source, destination)| {
            let (protocol, source_ports, destination_ports, icmp_types) = l4;
            let has_ports = matches!(protocol, Some(6 | 17));
            FilterRule {
                // Where both are written they agree, as the configuration makes sure.
                direction: direction.filter(|_| in_interface.is_none()),
                in_interface,
                out_interface,
                protocol,
                source,
                destination,
                source_ports: source_ports.into_iter().filter(|_| has_ports).collect(),
                destination_ports: destination_ports.into_iter().filter(|_| has_ports).collect(),
                icmp_types: icmp_types.into_iter().filter(|_| protocol == Some(1)).collect(),
                ..rule(FilterAction::Deny)
            }
        },
    )
}

fn any_opener() -> impl Strategy<Value = Opener> {
    let protocol = prop_oneof![Just(1_u8), Just(6), Just(17), Just(47), Just(2)];
    let ends = (any_address(), any_address(), any_port(), any_port());
    (0_u16..3, option::of(0_u16..3), ends, protocol, 0_u8..5).prop_map(
        |(in_interface, out_interface, ends, protocol, icmp_type)| Opener {
            in_interface: InterfaceId(in_interface),
            out_interface: out_interface.map(InterfaceId),
            source: ends.0,
            destination: ends.1,
            protocol,
            source_port: ends.2,
            destination_port: ends.3,
            icmp_type: if protocol == 1 { icmp_type } else { 0 },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_the_rules_read_one_by_one_do(
        rules in prop_oneof![vec(any_rule(), 0..12), vec(any_rule(), 100..300)],
        openers in vec(any_opener(), 64),
    ) {
        let filter = with_rules(rules.clone());
        for opener in &openers {
            prop_assert_eq!(filter.first_match(opener), model(&rules, opener), "{:?}", opener);
        }
    }
}

/// An access list as operators have them: hosts, networks and services, some fields left open in turn.
fn ten_thousand_rules() -> Vec<FilterRule> {
    let net = |address: u32, length: u8| vec![Ipv4Net::new(address.into(), length).unwrap().trunc()];
    (0..10_000_u32)
        .map(|number| {
            let spread = number.wrapping_mul(0x9E37_79B1);
            let port = (spread >> 8) as u16;
            FilterRule {
                direction: (number % 3 == 0).then_some(FilterDirection::Outbound),
                protocol: Some(if number % 4 == 0 { 17 } else { 6 }),
                source: if number % 5 < 3 { net(0x0a00_0000 | spread >> 8, 28) } else { vec![] },
                destination: if number % 5 > 1 { net(spread, 16 + (number % 17) as u8) } else { vec![] },
                destination_ports: if number % 2 == 0 {
                    vec![(port, port.saturating_add(9))]
                } else {
                    vec![]
                },
                ..rule(FilterAction::Deny)
            }
        })
        .collect()
}

#[test]
fn classifies_ten_thousand_rules() {
    let rules = ten_thousand_rules();
    let filter = with_rules(rules.clone());
    let openers: Vec<Opener> = (0..2_000_u32)
        .map(|number| {
            // Every other packet is one that some rule was written for.
            let spread = number.wrapping_mul(5).wrapping_mul(0x9E37_79B1);
            Opener {
                in_interface: InterfaceId(if number % 3 == 0 { 1 } else { 0 }),
                out_interface: None,
                source: if number % 2 == 0 { 0x0a00_0000 | spread >> 8 } else { number * 7 },
                destination: spread ^ number,
                protocol: if number % 7 == 0 { 17 } else { 6 },
                source_port: 1,
                destination_port: (spread >> 8) as u16,
                icmp_type: 0,
            }
        })
        .collect();
    let began = std::time::Instant::now();
    let found: Vec<_> = openers.iter().map(|opener| filter.first_match(opener)).collect();
    let each = began.elapsed() / openers.len() as u32;
    println!("{each:?} each, {} KiB", filter.bytes() / 1024);
    assert!(found.iter().flatten().count() > 100 && found.contains(&None));
    for (opener, found) in openers.iter().zip(found).step_by(7) {
        assert_eq!(found, model(&rules, opener), "{opener:?}");
    }
    assert!(filter.bytes() < 8 << 20, "{} bytes", filter.bytes());
}
