//! Both ends of a flow translated by configuration: forwards in algate's own name, rules that lead elsewhere.

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, SYN, at, icmp, tcp, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const MASQUERADE: &str = r#"
[[nat.forward]]
protocol = "tcp+udp"
external = "203.0.113.11:80"
internal = "10.0.0.9:8080"
masquerade = true

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:81-82"
internal = ["10.0.0.7:81-82", "10.9.0.8:81-82"]
masquerade = true
"#;

#[test]
fn a_server_answers_algate_and_the_client_hears_the_forward() {
    let mut net = Net::with(MASQUERADE, |_| {});
    let mut names = Vec::new();
    for client in ["198.51.100.1:4000", "198.51.100.1:4001", "198.51.100.2:4000"] {
        let seen = net.one(OUTSIDE, &tcp(client, "203.0.113.11:80", SYN));
        assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.9:8080")));
        assert_eq!(seen.source.ip(), at("10.0.0.1:0").ip());
        assert!(!names.contains(&seen.source));
        names.push(seen.source);
        // The SYN once more is of the same flow.
        assert_eq!(net.one(OUTSIDE, &tcp(client, "203.0.113.11:80", SYN)).source, seen.source);
        let back = net.one(INSIDE, &tcp_between(at("10.0.0.9:8080"), seen.source, SYN | ACK, b""));
        assert_eq!(
            (back.nic_port, back.source, back.destination),
            (OUTSIDE, at("203.0.113.11:80"), at(client))
        );
    }
    let seen = net.one(OUTSIDE, &udp("198.51.100.1:4000", "203.0.113.11:80", b"?"));
    let back = net.one(INSIDE, &udp_between(at("10.0.0.9:8080"), seen.source, b"!"));
    assert_eq!((back.source, back.destination), (at("203.0.113.11:80"), at("198.51.100.1:4000")));
    // To algate itself, and from another than the server: nobody's.
    net.refused(INSIDE, &udp_between(at("10.0.0.8:8080"), seen.source, b"!"), DropReason::LocalUnhandled);
    // No port of a pool but the forwards' own.
    assert_eq!(net.engine.nat.ports.taken(), 4);
}

#[test]
fn shared_servers_answer_algate_too_also_behind_a_router() {
    let mut net = Net::with(MASQUERADE, |_| {});
    for client in 1..20 {
        let client = at(&format!("198.51.100.{client}:4000"));
        let seen = net.one(OUTSIDE, &tcp_between(client, at("203.0.113.11:82"), SYN, b""));
        assert_eq!((seen.source.ip(), seen.destination.port()), (at("10.0.0.1:0").ip(), 82));
        let back = net.one(INSIDE, &tcp_between(seen.destination, seen.source, SYN | ACK, b""));
        assert_eq!((back.source, back.destination), (at("203.0.113.11:82"), client));
    }
}

#[test]
fn u_10_a_masqueraded_server_answers_internal_clients_through_algate() {
    let mut net = Net::with(MASQUERADE, |_| {});
    let seen = net.one(INSIDE, &tcp("10.0.0.2:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.nic_port, seen.source.ip()), (INSIDE, at("10.0.0.1:0").ip()));
    let back = net.one(INSIDE, &tcp_between(seen.destination, seen.source, SYN | ACK, b""));
    assert_eq!((back.source, back.destination), (at("203.0.113.11:80"), at("10.0.0.2:4000")));
    // The server itself as the client.
    let seen = net.one(INSIDE, &tcp("10.0.0.9:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.source.ip(), seen.destination), (at("10.0.0.1:0").ip(), at("10.0.0.9:8080")));
}

#[test]
fn i_06_errors_about_masqueraded_packets_find_the_client() {
    let mut net = Net::with(MASQUERADE, |_| {});
    let seen = net.one(OUTSIDE, &udp("198.51.100.1:4000", "203.0.113.11:80", b"?"));
    for (author, shown) in [("10.0.0.9", "203.0.113.11"), ("10.9.0.254", "203.0.113.2")] {
        let error = net.one(INSIDE, &icmp(author, "10.0.0.1", (3, 3), [0; 4], &seen.packet));
        assert_eq!((error.nic_port, error.source.ip().to_string().as_str()), (OUTSIDE, shown));
        assert_eq!(error.destination.ip(), at("198.51.100.1:0").ip());
        let embedded = error.embedded();
        assert_eq!((embedded.source, embedded.destination), (at("198.51.100.1:4000"), at("203.0.113.11:80")));
    }
    let back = net.one(INSIDE, &udp_between(at("10.0.0.9:8080"), seen.source, b"!"));
    let error = net.one(OUTSIDE, &icmp("198.51.100.1", "203.0.113.11", (3, 3), [0; 4], &back.packet));
    assert_eq!((error.nic_port, error.destination.ip()), (INSIDE, at("10.0.0.9:0").ip()));
    assert_eq!(error.source.ip(), seen.source.ip());
    assert_eq!(error.embedded().destination, seen.source);
}

/// Hosts know a partner's network 10.0.0.0/24 by 172.31.0.0/24, its addresses being their own, too.
fn partner(more: &str) -> Net {
    Net::with("", |config| {
        let mut rule = config.nat.rules[0].clone();
        rule.destination = "172.31.0.0/24".parse().unwrap();
        rule.destination_to = Some("192.0.2.0/24".parse().unwrap());
        match more {
            "address dependent" => rule.filtering = algate_config::FilteringBehavior::AddressDependent,
            "per remote" => {
                rule.mapping = algate_config::MappingBehavior::AddressAndPortDependent;
                rule.filtering = algate_config::FilteringBehavior::AddressAndPortDependent;
            }
            _ => {}
        }
        config.nat.rules.insert(0, rule);
    })
}

#[test]
fn a_rule_leads_a_network_elsewhere_and_hosts_see_none_of_it() {
    for more in ["", "address dependent", "per remote"] {
        let mut net = partner(more);
        let seen = net.one(INSIDE, &udp("10.0.0.2:5000", "172.31.0.7:53", b"?"));
        assert_eq!((seen.nic_port, seen.destination), (OUTSIDE, at("192.0.2.7:53")));
        let back = net.one(OUTSIDE, &udp_between(at("192.0.2.7:53"), seen.source, b"!"));
        assert_eq!((back.source, back.destination), (at("172.31.0.7:53"), at("10.0.0.2:5000")));
        let error =
            net.one(OUTSIDE, &icmp("192.0.2.7", &seen.source.ip().to_string(), (3, 3), [0; 4], &seen.packet));
        assert_eq!(
            (error.source.ip(), error.destination.ip()),
            (at("172.31.0.7:0").ip(), at("10.0.0.2:0").ip())
        );
        assert_eq!(error.embedded().destination, at("172.31.0.7:53"));
        let syn = net.one(INSIDE, &tcp("10.0.0.2:5000", "172.31.0.255:80", SYN));
        assert_eq!(syn.destination, at("192.0.2.255:80"));
        // Others go where they are sent.
        let other = net.one(INSIDE, &udp("10.0.0.2:5000", "172.31.1.7:53", b"?"));
        assert_eq!(other.destination, at("172.31.1.7:53"));
    }
}

#[test]
fn filtering_knows_the_partner_by_its_outer_address() {
    let mut net = partner("address dependent");
    let seen = net.one(INSIDE, &udp("10.0.0.2:5000", "172.31.0.7:53", b"?")).source;
    let other_port = net.one(OUTSIDE, &udp_between(at("192.0.2.7:99"), seen, b"!"));
    assert_eq!(other_port.destination, at("10.0.0.2:5000"));
    net.refused(OUTSIDE, &udp_between(at("172.31.0.7:53"), seen, b"!"), DropReason::NoMapping);
}
