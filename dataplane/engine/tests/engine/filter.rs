//! The filter and the check of sources, seen from the wires.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;
use etherparse::TcpHeader;

use crate::common::packets::{
    ACK, FIN, RST, SYN, Seen, at, echo_reply, echo_request, raw, tcp, tcp_between, udp, udp_between,
};
use crate::common::{INSIDE, Net, OUTSIDE, ROUTER_MACS};

const FORWARD: &str = r#"
[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:80"
internal = "10.0.0.9:8080"
"#;

fn rule(name: &str, action: &str, rest: &str) -> String {
    format!("[[filter]]\nname = \"{name}\"\naction = \"{action}\"\n{rest}\n")
}

fn hits(net: &Net) -> Vec<u64> {
    (0..4).map(|rule| net.engine.filter.hits(rule)).collect()
}

fn tcp_header(seen: &Seen) -> TcpHeader {
    TcpHeader::from_slice(&seen.packet[20..]).unwrap().0
}

#[test]
fn a_rule_costs_a_flows_first_packet_only_and_the_answers_need_none() {
    let rules =
        rule("dns", "allow", "direction = \"outbound\"\nprotocol = \"udp\"\ndestination_ports = [\"53\"]")
            + &rule("rest", "deny", "");
    let mut net = Net::with(&rules, |_| {});
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"?"));
    for _ in 0..3 {
        net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"?"));
        net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b"!"));
    }
    assert_eq!(hits(&net), [1, 0, 0, 0]);
    net.refused(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:54", b"?"), DropReason::FilterDeny);
    net.refused(INSIDE, &tcp("10.0.0.2:5000", "198.51.100.1:53", SYN), DropReason::FilterDeny);
    assert_eq!(hits(&net), [1, 2, 0, 0]);
    assert_eq!(net.sessions().len(), 1);
    assert_eq!(net.mappings().len(), 1);
}

#[test]
fn deny_protects_a_forward_and_an_exception_above_it_does_not_suffer() {
    let rules = rule("friend", "allow", "direction = \"inbound\"\nsource = [\"198.51.100.7/32\"]")
        + &rule("web", "deny", "in_interface = \"wan\"\ndestination = [\"203.0.113.11/32\"]");
    let mut net = Net::with(&(FORWARD.to_owned() + &rules), |_| {});
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "203.0.113.11:80", SYN), DropReason::FilterDeny);
    let seen = net.one(OUTSIDE, &tcp("198.51.100.7:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.9:8080")));
    // Allowed, but nothing is there: a rule makes no translation.
    net.refused(OUTSIDE, &tcp("198.51.100.7:4000", "203.0.113.11:81", SYN), DropReason::NoMapping);
    assert_eq!(hits(&net), [2, 1, 0, 0]);
}

#[test]
fn deny_closes_an_endpoint_independent_mapping_to_new_peers_only() {
    let rules = rule("closed", "deny", "direction = \"inbound\"\nprotocol = \"udp\"");
    let mut net = Net::with(&rules, |_| {});
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"?"));
    let stranger = udp_between(at("198.51.100.2:53"), out.source, b"!");
    net.refused(OUTSIDE, &stranger, DropReason::FilterDeny);
    net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b"!"));
    // Once the internal host has spoken to it, it may answer.
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.2:53", b"?"));
    net.one(OUTSIDE, &stranger);
}

#[test]
fn where_a_packet_would_leave_is_the_side_of_the_host_behind_the_mapping() {
    let rules = rule("far", "deny", "direction = \"inbound\"\nout_interface = \"lan\"\nprotocol = \"tcp\"");
    let mut net = Net::with(&(FORWARD.to_owned() + &rules), |_| {});
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "203.0.113.11:80", SYN), DropReason::FilterDeny);
    // Nobody is behind this one, so it leaves nowhere.
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "203.0.113.11:81", SYN), DropReason::NoMapping);
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "10.0.0.9:8080", SYN), DropReason::FilterDeny);
    assert_eq!(hits(&net), [2, 0, 0, 0]);
}

#[test]
fn allow_admits_from_outside_what_needs_no_translation() {
    let rules = rule(
        "server",
        "allow",
        "in_interface = \"wan\"\nprotocol = \"tcp\"\ndestination = [\"10.9.0.5/32\", \"192.0.2.1/32\"]\ndestination_ports = [\"443\"]",
    );
    let mut net = Net::with(&rules, |_| {});
    let to_router = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&ROUTER_MACS[1]);
        frame
    };
    let seen = net.one(OUTSIDE, &to_router(tcp("198.51.100.8:4000", "10.9.0.5:443", SYN)));
    assert_eq!((seen.nic_port, seen.source), (INSIDE, at("198.51.100.8:4000")));
    assert_eq!((seen.destination, seen.ttl), (at("10.9.0.5:443"), 63));
    let back = net.one(INSIDE, &tcp("10.9.0.5:443", "198.51.100.8:4000", SYN | ACK));
    assert_eq!((back.nic_port, back.source), (OUTSIDE, at("10.9.0.5:443")));
    assert_eq!(net.mappings(), []);
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "10.9.0.5:80", SYN), DropReason::NoMapping);
    // No rule makes algate a router between two outsiders.
    net.refused(OUTSIDE, &tcp("198.51.100.8:4000", "192.0.2.1:443", SYN), DropReason::NoMapping);
    net.refused(OUTSIDE, &tcp("198.51.100.8:4001", "10.9.0.5:443", ACK | FIN), DropReason::TcpNoSession);
}

#[test]
fn a_rejected_segment_is_reset_as_the_host_it_was_for_would() {
    let mut net = Net::with(&rule("no", "reject", "protocol = \"tcp\""), |_| {});
    let (client, server) = (at("10.0.0.2:4000"), at("198.51.100.1:25"));
    for (name, flags, payload, seq, ack, answer) in [
        ("a SYN counts as one", SYN, &b""[..], 0, 1_001, RST | ACK),
        ("a FIN, too", FIN, b"", 0, 1_002, RST | ACK),
        ("data with a SYN", SYN, b"abc", 0, 1_004, RST | ACK),
        ("nothing acknowledged", 0, b"abc", 0, 1_004, RST | ACK),
        ("what is acknowledged", ACK, b"abc", 1_001, 0, RST),
        ("a SYN/ACK", SYN | ACK, b"", 1_001, 0, RST),
    ] {
        let seen = net.one(INSIDE, &tcp_between(client, server, flags, payload));
        let header = tcp_header(&seen);
        assert_eq!((seen.nic_port, seen.source, seen.destination), (INSIDE, server, client), "{name}");
        assert_eq!((seen.tcp_flags, seen.payload.len()), (answer, 0), "{name}");
        assert_eq!((header.sequence_number, header.acknowledgment_number), (seq, ack), "{name}");
        assert_eq!((header.window_size, header.checksum != 0), (0, true), "{name}");
    }
    net.refused(INSIDE, &tcp_between(client, server, RST, b""), DropReason::FilterReject);
    assert_eq!(hits(&net), [7, 0, 0, 0]);
    assert_eq!((net.dropped(DropReason::FilterReject), net.total(|c| &c.resets_sent)), (7, 6));
    assert_eq!(net.mappings(), []);
    // From outside, in the name of the forward's external endpoint.
    let seen = net.one(OUTSIDE, &tcp("198.51.100.1:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.nic_port, seen.source), (OUTSIDE, at("203.0.113.11:80")));
    assert_eq!((seen.destination, seen.tcp_flags), (at("198.51.100.1:4000"), RST | ACK));
}

#[test]
fn other_rejected_packets_are_told_administratively_prohibited() {
    let mut net = Net::with(&rule("no", "reject", ""), |_| {});
    for (name, frame) in [
        ("UDP", udp("10.0.0.2:4000", "198.51.100.1:53", b"abc")),
        ("an echo request", echo_request("10.0.0.2", "198.51.100.1", 7)),
        ("GRE", raw("10.0.0.2", "198.51.100.1", 47, &[0; 16])),
        ("to algate itself", echo_request("10.0.0.2", "10.0.0.1", 7)),
    ] {
        let seen = net.one(INSIDE, &frame);
        assert_eq!((seen.nic_port, seen.icmp), (INSIDE, Some((3, 13))), "{name}");
        assert_eq!((seen.source, seen.destination), (at("10.0.0.1:0"), at("10.0.0.2:0")), "{name}");
        assert_eq!(seen.payload, frame[14..], "{name}");
    }
    assert_eq!(hits(&net), [4, 0, 0, 0]);
}

#[test]
fn rejecting_is_limited_like_all_that_algate_originates() {
    let rules = rule("no", "reject", "direction = \"outbound\"") + "[icmp]\nrate_per_second = 3\n";
    let mut net = Net::with(&rules, |_| {});
    let attempt = |net: &mut Net| {
        let tcp = net.send(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:25", SYN)).len();
        tcp + net.send(INSIDE, &udp("10.0.0.2:4000", "198.51.100.1:53", b"")).len()
    };
    assert_eq!((0..5).map(|_| attempt(&mut net)).sum::<usize>(), 3);
    net.advance(Duration::from_secs(1));
    assert_eq!((0..5).map(|_| attempt(&mut net)).sum::<usize>(), 3);
    assert_eq!(net.dropped(DropReason::FilterReject), 20);
}

#[test]
fn an_icmp_type_is_told_from_another_and_an_error_from_both() {
    let rules = rule("ping", "deny", "direction = \"inbound\"\nprotocol = \"icmp\"\nicmp_types = [8]")
        + &rule("icmp", "deny", "direction = \"inbound\"\nprotocol = \"icmp\"");
    let mut net = Net::with(&rules, |_| {});
    net.refused(OUTSIDE, &echo_request("198.51.100.1", "203.0.113.2", 7), DropReason::FilterDeny);
    net.refused(OUTSIDE, &echo_reply("198.51.100.1", "203.0.113.10", 7), DropReason::FilterDeny);
    assert_eq!(hits(&net), [1, 1, 0, 0]);
    // The host's own ping, and an error about it, belong to a session.
    let out = net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7));
    let external = out.source.ip().to_string();
    net.one(OUTSIDE, &echo_reply("198.51.100.1", &external, out.source.port()));
    let error = crate::common::packets::icmp("198.51.100.9", &external, (11, 0), [0; 4], &out.packet);
    assert_eq!(net.one(OUTSIDE, &error).icmp, Some((11, 0)));
    assert_eq!(hits(&net), [1, 1, 0, 0]);
}

#[test]
fn s_12_internal_sources_must_be_routed_back_where_they_came_from() {
    let site = r#"
[[interface]]
name = "guests"
nic_port = "p0"
vlan = 7
side = "internal"
addresses = ["10.7.0.1/24"]
"#;
    let guest = udp("10.7.0.5:5000", "198.51.100.1:53", b"");
    let stranger = udp("10.200.0.5:5000", "198.51.100.1:53", b"");
    let mut net = Net::with(site, |_| {});
    net.refused(INSIDE, &guest, DropReason::SpoofedSource);
    net.refused(INSIDE, &stranger, DropReason::SpoofedSource);
    net.refused(INSIDE, &udp("10.7.0.5:5000", "10.0.0.1:53", b""), DropReason::SpoofedSource);
    // Behind a router on the right interface.
    net.refused(INSIDE, &udp("10.9.0.5:5000", "198.51.100.1:53", b""), DropReason::NoNatRule);
    drop(net);
    // Asymmetric, but internal: the operator may allow it. What leads outside is still a lie.
    let mut net = Net::with(site, |config| config.interfaces[0].source_check = false);
    net.refused(INSIDE, &guest, DropReason::NoNatRule);
    net.refused(INSIDE, &stranger, DropReason::SpoofedSource);
}

#[test]
fn a_lie_about_the_source_is_no_hit_of_any_rule_and_is_not_answered() {
    let mut net = Net::with(&rule("no", "reject", ""), |_| {});
    let mut forged = tcp("10.0.0.2:5000", "203.0.113.10:80", SYN);
    forged[..6].copy_from_slice(&ROUTER_MACS[1]);
    net.refused(OUTSIDE, &forged, DropReason::SpoofedSource);
    net.refused(OUTSIDE, &tcp("203.0.113.10:1", "203.0.113.11:80", SYN), DropReason::SpoofedSource);
    net.refused(INSIDE, &tcp("10.0.0.255:1", "198.51.100.1:80", SYN), DropReason::MartianSource);
    assert_eq!(hits(&net), [0; 4]);
}

#[test]
fn a_hairpin_is_outbound_and_goes_by_the_servers_external_endpoint() {
    let rules = rule(
        "loop",
        "deny",
        "direction = \"outbound\"\ndestination = [\"203.0.113.11/32\"]\nsource = [\"10.0.0.3/32\"]",
    );
    let mut net = Net::with(&(FORWARD.to_owned() + &rules), |_| {});
    net.refused(INSIDE, &tcp("10.0.0.3:4000", "203.0.113.11:80", SYN), DropReason::FilterDeny);
    let seen = net.one(INSIDE, &tcp("10.0.0.2:4000", "203.0.113.11:80", SYN));
    assert_eq!((seen.nic_port, seen.destination), (INSIDE, at("10.0.0.9:8080")));
}
