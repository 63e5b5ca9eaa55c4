//! ICMP: rows of RFC 5508 that take a whole site to see.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{Seen, at, echo_reply, echo_request, icmp, sum, udp, with_ip_byte};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::rows_tcp::{greeted, numbered, port_command};

/// The packet with its IPv4 header grown by four options of one byte.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut longer = packet[..20].to_vec();
    longer.extend([1, 1, 1, 0]);
    longer.extend(&packet[20..]);
    let total = longer.len() as u16;
    longer[0] = 0x46;
    longer[2..4].copy_from_slice(&total.to_be_bytes());
    longer[10..12].fill(0);
    let field = !sum(&longer[..24], 0);
    longer[10..12].copy_from_slice(&field.to_be_bytes());
    longer
}

#[test]
fn i_02_what_an_error_embeds_may_be_damaged_behind_its_header_only() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let about = |embedded: &[u8]| icmp("203.0.113.1", &out.source.ip().to_string(), (3, 1), [0; 4], embedded);

    let mut outer = about(&out.packet);
    outer[36] ^= 0x55;
    net.refused(OUTSIDE, &outer, DropReason::BadL4Checksum);
    let mut inner = out.packet.clone();
    inner[11] ^= 1;
    net.refused(OUTSIDE, &about(&inner), DropReason::BadIcmp);

    let seen = net.one(OUTSIDE, &about(&with_options(&out.packet)));
    assert_eq!((seen.payload[0], &seen.payload[20..24]), (0x46, &[1, 1, 1, 0][..]));
    assert_eq!(sum(&seen.payload[..24], 0), 0xffff);
    assert_eq!(seen.payload[12..16], [10, 0, 0, 2]);
    assert_eq!(seen.payload[24..26], 5_000_u16.to_be_bytes());

    // A wrong embedded UDP checksum, as wrong behind the translation as before it.
    let mut inner = out.packet.clone();
    inner[27] ^= 1;
    let seen = net.one(OUTSIDE, &about(&inner));
    let embedded = seen.embedded();
    assert_eq!(embedded.source, at("10.0.0.2:5000"));
    assert_ne!(embedded.l4_sum(), 0xffff);
}

#[test]
fn i_06_a_hairpinned_echo_reaches_the_host_behind_the_identifier_and_comes_back() {
    let mut net = Net::new();
    // What the world calls one host's ping, another one pings.
    let one = net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7)).source;
    let pool = one.ip().to_string();
    let there = net.one(INSIDE, &echo_request("10.0.0.3", &pool, one.port()));
    assert_eq!((there.nic_port, there.icmp, there.ttl), (INSIDE, Some((8, 0)), 63));
    assert_eq!(there.destination.ip(), at("10.0.0.2:0").ip());
    assert_ne!(there.source.ip(), at("10.0.0.3:0").ip(), "it sees the other's external address");
    let reply = echo_reply("10.0.0.2", &there.source.ip().to_string(), there.source.port());
    let back: Seen = net.one(INSIDE, &reply);
    assert_eq!((back.icmp, back.source.ip()), (Some((0, 0)), one.ip()));
    assert_eq!(back.destination.to_string(), format!("10.0.0.3:{}", one.port()));
    // The host that the first ping's answers go to is not confused, and an identifier of nobody's is nobody.
    let pong = net.one(OUTSIDE, &echo_reply("198.51.100.1", &pool, one.port()));
    assert_eq!(pong.destination, at("10.0.0.2:7"));
    net.refused(INSIDE, &echo_request("10.0.0.3", &pool, one.port() ^ 1), DropReason::NoMapping);
    net.refused(OUTSIDE, &echo_request("198.51.100.9", &pool, one.port()), DropReason::NoMapping);
}

#[test]
fn i_07_what_refused_senders_are_told_is_rate_limited() {
    let mut net = Net::with("", |config| {
        let pool = &mut config.nat.pools[0];
        (pool.ranges[0].1, pool.l4_ports) = (pool.ranges[0].0, (3_000, 3_000));
        config.icmp.rate_per_second = 10;
    });
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    for second in 1..4 {
        let told: usize = (0..50)
            .map(|l4_port| {
                net.send(INSIDE, &udp(&format!("10.0.0.3:{}", 6_000 + l4_port), "198.51.100.1:53", b""))
            })
            .map(|seen| seen.len())
            .sum();
        assert_eq!((told, net.dropped(DropReason::PoolExhausted)), (10, second * 50));
        net.advance(Duration::from_secs(1));
    }
}

/// Path MTU discovery on a control session whose bytes have grown.
#[test]
fn i_10_an_error_about_an_edited_flow_names_the_senders_own_byte() {
    let mut net = Net::with("[alg.ftp]\nenabled = true\n", |_| {});
    let external = greeted(&mut net);
    let grown = port_command(&mut net).payload.len() as u32;
    assert!(grown > 22);
    let (client, server) = (at("10.0.0.2:4000"), at("198.51.100.1:21"));
    net.one(OUTSIDE, &numbered(server, external, (1_013, 1_001 + grown), b""));
    let long = format!("SITE {}\r\n", "x".repeat(300));
    let seen = net.send(INSIDE, &numbered(client, server, (1_023, 1_013), long.as_bytes()));
    let out = seen.iter().find(|seen| seen.payload == long.as_bytes()).expect("it passes as it is");
    let seq_of = |packet: &[u8]| u32::from_be_bytes(packet[24..28].try_into().unwrap());
    assert_eq!(seq_of(&out.packet), 1_001 + grown);
    // Larger than what the client itself has sent: only growth can have made a packet so large, so what is kept goes out again.
    let about = |mtu: [u8; 2]| {
        let rest = [0, 0, mtu[0], mtu[1]];
        icmp("203.0.113.1", &external.ip().to_string(), (3, 4), rest, &out.packet[..28])
    };
    let again = net.one(OUTSIDE, &about([2, 64]));
    assert_eq!((again.nic_port, &again.payload), (OUTSIDE, &out.payload));
    // Smaller: the client hears of it, and of a number that it knows.
    let seen = net.one(OUTSIDE, &about([1, 40]));
    assert_eq!((seen.icmp, seen.destination.ip()), (Some((3, 4)), client.ip()));
    assert_eq!((seq_of(&seen.payload), &seen.packet[26..28]), (1_023, &[1, 40][..]));
}

#[test]
fn s_10_pool_addresses_answer_no_ping_before_and_after_a_path_mtu_error() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", &[7; 1_000]));
    let pool = out.source.ip().to_string();
    let ask = |net: &mut Net| {
        let large = icmp("198.51.100.1", &pool, (8, 0), [0, 9, 0, 1], &[0; 1_400]);
        for ping in [echo_request("198.51.100.1", &pool, 9), large.clone(), with_ip_byte(large, 6, 0x40)] {
            net.refused(OUTSIDE, &ping, DropReason::NoMapping);
        }
    };
    ask(&mut net);
    net.one(OUTSIDE, &icmp("198.51.100.1", &pool, (3, 4), [0, 0, 2, 64], &out.packet));
    ask(&mut net);
    // Nor does algate remember the MTU for its own answers: what is forwarded is as large as before.
    let again = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", &[7; 1_000]));
    assert_eq!(again.packet.len(), out.packet.len());
}
