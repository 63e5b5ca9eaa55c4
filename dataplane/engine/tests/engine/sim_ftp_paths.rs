//! FTP along every path a control session can take through NAT: in both modes, files or not, the data connection comes
//! where the reader of the announcement was told to go, and from whom it knows.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::at;
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net};

const FTP: &str = "[alg.ftp]\nenabled = true\n";

fn say(lab: &mut Lab, talk: &Talk, from: usize, text: &str) -> String {
    String::from_utf8(talk.say(lab, from, text.as_bytes())).unwrap()
}

fn decimals(endpoint: SocketAddrV4) -> String {
    let [a, b, c, d] = endpoint.ip().octets();
    let [high, low] = endpoint.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// The endpoint in a PORT or a 227.
#[track_caller]
fn announced(line: &str) -> SocketAddrV4 {
    let text =
        line.trim_start_matches("PORT ").trim_start_matches("227 (").trim_end_matches([')', '\r', '\n']);
    let n: Vec<u8> = text.split(',').map(|n| n.parse().unwrap_or_else(|_| panic!("{line}"))).collect();
    SocketAddrV4::new(Ipv4Addr::new(n[0], n[1], n[2], n[3]), u16::from_be_bytes([n[4], n[5]]))
}

/// One active and one passive data connection between two hosts of the lab; returns where the server was told to
/// connect to, and the client.
#[track_caller]
fn transfers(
    lab: &mut Lab,
    (client, client_own): (usize, &str),
    (server, server_own): (usize, &str),
    server_at: &str,
) -> [SocketAddrV4; 2] {
    let talk = Talk::open(lab, (client, 3_999), at(server_at), (server, 21));
    assert_eq!(say(lab, &talk, SERVER, "220 Ready.\r\n"), "220 Ready.\r\n");
    let own = at(&format!("{client_own}:4001"));
    let active = announced(&say(lab, &talk, CLIENT, &format!("PORT {}\r\n", decimals(own))));
    assert_eq!(say(lab, &talk, SERVER, "200 Fine.\r\n"), "200 Fine.\r\n");
    let data = Talk::open(lab, (server, 2_020), active, (client, 4_001));
    assert_eq!(data.say(lab, CLIENT, b"from the server"), b"from the server");
    assert_eq!(data.say(lab, SERVER, b"from the client"), b"from the client");
    data.close(lab);

    say(lab, &talk, CLIENT, "PASV\r\n");
    let own = at(&format!("{server_own}:4002"));
    let passive = announced(&say(lab, &talk, SERVER, &format!("227 ({})\r\n", decimals(own))));
    let data = Talk::open(lab, (client, 45_000), passive, (server, 4_002));
    assert_eq!(data.say(lab, SERVER, b"from the server"), b"from the server");
    assert_eq!(data.say(lab, CLIENT, b"from the client"), b"from the client");
    data.close(lab);
    [active, passive]
}

#[test]
fn s_22_both_modes_work_where_a_rule_leads_the_control_session_elsewhere() {
    let net = Net::with(FTP, |config| {
        let mut rule = config.nat.rules[0].clone();
        rule.destination = "172.31.0.0/24".parse().unwrap();
        rule.destination_to = Some("203.0.113.0/24".parse().unwrap());
        config.nat.rules.insert(0, rule);
    });
    let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 1);
    let [active, passive] = transfers(&mut lab, (0, "10.0.0.2"), (1, "203.0.113.50"), "172.31.0.50:21");
    assert_eq!(active.ip().octets()[..3], [203, 0, 113]);
    // The client stays with the address that it knows; the port stays, for the rule leads all of them.
    assert_eq!(passive, at("172.31.0.50:4002"));
}

#[test]
fn s_22_both_modes_work_between_two_internal_hosts_through_their_external_endpoints() {
    let forward =
        "[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"203.0.113.11:21\"\ninternal = \"10.0.0.9:21\"\n";
    let net = Net::with(&format!("{FTP}{forward}"), |_| {});
    let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 1);
    let server = lab.add(INSIDE, [10, 0, 0, 9]);
    let [active, passive] = transfers(&mut lab, (0, "10.0.0.2"), (server, "10.0.0.9"), "203.0.113.11:21");
    for announced in [active, passive] {
        assert_eq!(announced.ip().octets()[..3], [203, 0, 113], "neither end learns the other's own address");
    }
    assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9).len(), 0, "both were used");
}

/// Where neither end is translated nothing is rewritten, and the expectation lets the server in all the same.
#[test]
fn s_22_both_modes_work_where_a_rule_translates_nothing() {
    let net = Net::with(FTP, |config| config.nat.rules[0].action = algate_config::NatAction::None);
    let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 1);
    let announced = transfers(&mut lab, (0, "10.0.0.2"), (1, "203.0.113.50"), "203.0.113.50:21");
    assert_eq!(announced, [at("10.0.0.2:4001"), at("203.0.113.50:4002")]);
}

const MASQUERADE: &str = "[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"203.0.113.11:21\"\ninternal = \"10.0.0.9:21\"\nmasquerade = true\n";

/// The server connects to the client by an endpoint of algate's own, in the range that is for this.
#[test]
fn s_22_both_modes_work_through_a_forward_that_masquerades() {
    for inside in [false, true] {
        let net = Net::with(&format!("{FTP}{MASQUERADE}"), |_| {});
        let mut lab = Lab::new(net, [10, 0, 0, 9], Faults::default(), 1);
        let (client, own) = match inside {
            true => (lab.add(INSIDE, [10, 0, 0, 2]), "10.0.0.2"),
            false => (1, "203.0.113.50"),
        };
        let [active, passive] = transfers(&mut lab, (client, own), (0, "10.0.0.9"), "203.0.113.11:21");
        assert_eq!((active.ip(), active.port() >> 13), (at("10.0.0.1:0").ip(), 3), "inside: {inside}");
        assert_eq!(passive.ip(), at("203.0.113.11:0").ip(), "inside: {inside}");
        let rows = lab.net.engine.expectation_rows(lab.net.now, 9);
        assert_eq!(rows.len(), 0, "inside: {inside}, both were used");
    }
}
