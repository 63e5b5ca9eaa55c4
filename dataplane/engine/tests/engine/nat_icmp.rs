//! ICMP as RFC 5508 wants it.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{
    ACK, SYN, Seen, at, echo_reply, echo_request, icmp, raw, sum, tcp, tcp_between, udp, udp_between,
    with_dont_fragment, with_ip_byte, with_ttl,
};
use crate::common::{INSIDE, Net, OUTSIDE};

/// The three kinds of session, each with a packet that went out and one that came in, as their receivers saw them.
fn sessions_of_every_kind(net: &mut Net) -> Vec<(Seen, Seen)> {
    let udp_out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let udp_in = net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), udp_out.source, b"answer"));
    let tcp_out = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", SYN));
    net.one(OUTSIDE, &tcp_between(at("198.51.100.1:80"), tcp_out.source, SYN | ACK, b""));
    let tcp_out = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", ACK));
    let tcp_in = net.one(OUTSIDE, &tcp_between(at("198.51.100.1:80"), tcp_out.source, ACK, b"data"));
    let ping = net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7));
    let pong = echo_reply("198.51.100.1", &ping.source.ip().to_string(), ping.source.port());
    let pong = net.one(OUTSIDE, &pong);
    vec![(udp_out, udp_in), (tcp_out, tcp_in), (ping, pong)]
}

const INTERNAL: [(&str, &str); 3] = [
    ("10.0.0.2:5000", "198.51.100.1:53"),
    ("10.0.0.2:4000", "198.51.100.1:80"),
    ("10.0.0.2:7", "198.51.100.1:0"),
];

#[test]
fn i_01_the_identifier_is_mapped_independently_of_the_target() {
    let mut net = Net::new();
    let ids: Vec<SocketAddrV4> =
        [("10.0.0.2", "198.51.100.1"), ("10.0.0.2", "198.51.100.2"), ("10.0.0.3", "198.51.100.1")]
            .map(|(from, to)| net.one(INSIDE, &echo_request(from, to, 7)).source)
            .to_vec();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    net.advance(Duration::from_secs(59));
    let reply = echo_reply("198.51.100.1", &ids[0].ip().to_string(), ids[0].port());
    let seen = net.one(OUTSIDE, &reply);
    assert_eq!((seen.destination, seen.icmp), (at("10.0.0.2:7"), Some((0, 0))));
    net.advance(Duration::from_secs(2));
    net.refused(OUTSIDE, &reply, DropReason::BadIcmp);
}

#[test]
fn i_01_a_reply_nobody_asked_for_opens_nothing() {
    let mut net = Net::new();
    net.refused(INSIDE, &echo_reply("10.0.0.2", "198.51.100.1", 7), DropReason::BadIcmp);
    // With identifier 0 a request and a reply look alike to the table.
    net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 0));
    net.refused(INSIDE, &echo_reply("10.0.0.2", "198.51.100.1", 0), DropReason::BadIcmp);
}

#[test]
fn i_03_errors_from_outside_reach_the_host_whose_packet_it_was() {
    let mut net = Net::new();
    for ((out, _), (host, remote)) in sessions_of_every_kind(&mut net).into_iter().zip(INTERNAL) {
        let pool = out.source.ip().to_string();
        for type_and_code in [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (12, 0)] {
            net.advance(Duration::from_secs(1));
            // From the far end, and from a router on the way; 8 bytes of L4, and all of it.
            for author in ["198.51.100.1", "203.0.113.1"] {
                for bytes in [28, out.packet.len()] {
                    let frame = icmp(author, &pool, type_and_code, [0, 0, 5, 0], &out.packet[..bytes]);
                    let seen = net.one(OUTSIDE, &frame);
                    assert_eq!(seen.icmp, Some(type_and_code));
                    assert_eq!(seen.source.ip().to_string(), author);
                    assert_eq!((seen.nic_port, *seen.destination.ip()), (INSIDE, *at(host).ip()));
                    assert_eq!(sum(&seen.payload[..20], 0), 0xffff, "embedded header checksum");
                    if bytes == out.packet.len() {
                        let embedded = seen.embedded();
                        assert_eq!((embedded.source, embedded.destination), (at(host), at(remote)));
                        assert_eq!(embedded.l4_sum(), 0xffff, "embedded L4 checksum");
                    }
                }
            }
        }
        let none = icmp(
            "203.0.113.1",
            "203.0.113.10",
            (3, 1),
            [0; 4],
            &raw("203.0.113.10", "198.51.100.77", out.protocol, &out.packet[20..])[14..],
        );
        net.refused(OUTSIDE, &none, DropReason::BadIcmp);
    }
}

#[test]
fn i_04_errors_from_inside_leave_with_an_address_the_world_may_see() {
    let mut net = Net::new();
    for ((out, into), (host, remote)) in sessions_of_every_kind(&mut net).into_iter().zip(INTERNAL) {
        for (author, shown) in [("10.0.0.2", out.source.ip().to_string()), ("10.0.0.9", "203.0.113.2".into())]
        {
            let frame = icmp(author, &at(remote).ip().to_string(), (3, 3), [0; 4], &into.packet);
            let seen = net.one(INSIDE, &frame);
            assert_eq!((seen.nic_port, seen.icmp), (OUTSIDE, Some((3, 3))));
            assert_eq!(seen.source.ip().to_string(), shown, "about {host}");
            assert_eq!(seen.destination.ip(), at(remote).ip());
            let embedded = seen.embedded();
            assert_eq!(embedded.destination, out.source);
            assert_eq!(embedded.source.ip(), at(remote).ip());
            assert_eq!(embedded.l4_sum(), 0xffff);
        }
    }
}

#[test]
fn i_05_a_thousand_errors_neither_refresh_nor_end_a_session() {
    let mut net = Net::new();
    let ping = net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7));
    net.advance(Duration::from_secs(30));
    let error = icmp("203.0.113.1", &ping.source.ip().to_string(), (3, 1), [0; 4], &ping.packet);
    let passed = (0..1_000).filter(|_| !net.send(OUTSIDE, &error).is_empty()).count();
    assert_eq!((passed, net.dropped(DropReason::IcmpErrorRate)), (10, 990));
    net.advance(Duration::from_secs(30));
    assert_eq!(net.sessions().len(), 1);
    net.advance(Duration::from_secs(1));
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn i_09_errors_about_what_cannot_be_a_session_are_dropped() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let pool = out.source.ip().to_string();
    let about = |embedded: &[u8]| icmp("203.0.113.1", &pool, (3, 1), [0; 4], embedded);
    for protocol in [47, 4, 50, 132, 0, 255] {
        let embedded = &raw(&pool, "198.51.100.1", protocol, &out.packet[20..])[14..];
        net.refused(OUTSIDE, &about(embedded), DropReason::UnsupportedProtocol);
    }
    for bytes in 0..28 {
        net.refused(OUTSIDE, &about(&out.packet[..bytes]), DropReason::BadIcmp);
    }
    let mut frame = vec![0; 14];
    frame.extend(&out.packet);
    let fragment = with_ip_byte(frame, 7, 9);
    net.refused(OUTSIDE, &about(&fragment[14..]), DropReason::BadIcmp);
    let mut wrong = about(&out.packet);
    wrong[36] ^= 1;
    net.refused(OUTSIDE, &wrong, DropReason::BadL4Checksum);
    let mut wrong = out.packet.clone();
    wrong[10] ^= 1;
    net.refused(OUTSIDE, &about(&wrong), DropReason::BadIcmp);
    // The right error from the wrong side.
    let mut forged = about(&out.packet);
    forged[..6].copy_from_slice(&crate::common::ROUTER_MACS[0]);
    net.refused(INSIDE, &forged, DropReason::BadIcmp);
}

#[test]
fn i_08_a_ttl_that_runs_out_is_told_to_the_sender_and_opens_nothing() {
    let mut net = Net::new();
    let frame = with_ttl(udp("10.0.0.2:5000", "198.51.100.1:53", b"traceroute"), 1);
    let error = net.one(INSIDE, &frame);
    assert_eq!((error.icmp, error.nic_port), (Some((11, 0)), INSIDE));
    assert_eq!(
        (error.source.ip().to_string(), *error.destination.ip()),
        ("10.0.0.1".into(), *at("10.0.0.2:0").ip())
    );
    assert_eq!(error.embedded().source, at("10.0.0.2:5000"));
    assert_eq!((net.sessions().len(), net.mappings().len()), (0, 0));

    let out = net.one(INSIDE, &with_ttl(frame.clone(), 2));
    assert_eq!(out.ttl, 1);
    assert_eq!(net.one(INSIDE, &frame).icmp, Some((11, 0)));
    let error = net.one(OUTSIDE, &with_ttl(udp_between(at("198.51.100.1:53"), out.source, b""), 1));
    assert_eq!((error.icmp, error.nic_port), (Some((11, 0)), OUTSIDE));
    assert_eq!(error.embedded().destination, out.source);
    assert_eq!(net.dropped(DropReason::TtlExceeded), 3);
}

#[test]
fn i_08_other_messages_pass_nowhere() {
    let mut net = Net::new();
    for icmp_type in [9, 10, 15, 16, 17, 18, 30, 42, 255] {
        net.refused(
            INSIDE,
            &icmp("10.0.0.2", "198.51.100.1", (icmp_type, 0), [0; 4], b""),
            DropReason::BadIcmp,
        );
    }
    let out = net.one(INSIDE, &icmp("10.0.0.2", "198.51.100.1", (13, 0), [0, 9, 0, 1], &[0; 12]));
    assert_eq!(out.icmp, Some((13, 0)));
}

#[test]
fn u_14_a_packet_too_large_for_the_next_hop_is_told_its_mtu() {
    let mut net = Net::with("", |config| config.interfaces[1].mtu = 1280);
    let fits = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", &[7; 1252]));
    assert_eq!(fits.packet.len(), 1280);
    let error = net.one(INSIDE, &with_dont_fragment(udp("10.0.0.2:5000", "198.51.100.1:53", &[7; 1253])));
    assert_eq!((error.icmp, error.nic_port), (Some((3, 4)), INSIDE));
    assert_eq!(error.packet[26..28], 1280_u16.to_be_bytes());
    assert_eq!(net.dropped(DropReason::FragmentationNeeded), 1);
}

#[test]
fn algate_answers_pings_to_itself_and_swallows_errors_about_them() {
    let mut net = Net::new();
    let pong = net.one(INSIDE, &echo_request("10.0.0.2", "10.0.0.1", 3));
    assert_eq!((pong.icmp, pong.destination), (Some((0, 0)), at("10.0.0.2:3")));
    let pong = net.one(OUTSIDE, &echo_request("198.51.100.1", "203.0.113.2", 3));
    assert_eq!((pong.icmp, pong.nic_port), (Some((0, 0)), OUTSIDE));
    assert_eq!(net.send(OUTSIDE, &icmp("198.51.100.1", "203.0.113.2", (3, 1), [0; 4], &pong.packet)), []);
    net.refused(INSIDE, &tcp("10.0.0.2:4000", "10.0.0.1:22", SYN), DropReason::LocalUnhandled);
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn i_08_source_quench_and_redirects_are_dropped() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    for type_and_code in [(4, 0), (5, 0), (5, 1), (5, 3)] {
        let frame =
            icmp("203.0.113.1", &out.source.ip().to_string(), type_and_code, [203, 0, 113, 9], &out.packet);
        net.refused(OUTSIDE, &frame, DropReason::IcmpObsolete);
    }
}

#[test]
fn s_11_blind_errors_about_a_connection_do_not_pass() {
    let mut net = Net::new();
    let syn = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", SYN));
    net.one(OUTSIDE, &tcp_between(at("198.51.100.1:80"), syn.source, SYN | ACK, b""));
    let ack = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", ACK));
    let pool = syn.source.ip().to_string();
    for type_and_code in [(3, 4), (3, 1), (3, 2), (3, 3), (11, 0)] {
        for seq in [0_u32, 1_000, 1_001 + 8_192 + 1, 0x8000_0000, u32::MAX] {
            let mut embedded = ack.packet.clone();
            embedded[24..28].copy_from_slice(&seq.to_be_bytes());
            let forged = icmp("203.0.113.1", &pool, type_and_code, [0, 0, 5, 0], &embedded);
            net.refused(OUTSIDE, &forged, DropReason::IcmpOutOfWindow);
        }
    }
    let honest = icmp("203.0.113.1", &pool, (3, 4), [0, 0, 5, 0], &ack.packet);
    assert_eq!(net.one(OUTSIDE, &honest).icmp, Some((3, 4)));
}

#[test]
fn s_11_a_path_mtu_that_no_link_has_is_dropped_and_a_small_one_counted() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let pool = out.source.ip().to_string();
    for (mtu, small) in
        [(1_u16, None), (67, None), (68, Some(1)), (551, Some(2)), (552, Some(2)), (0, Some(3))]
    {
        let [a, b] = mtu.to_be_bytes();
        let frame = icmp("203.0.113.1", &pool, (3, 4), [0, 0, a, b], &out.packet);
        match small {
            None => net.refused(OUTSIDE, &frame, DropReason::IcmpTinyMtu),
            Some(small) => {
                net.one(OUTSIDE, &frame);
                assert_eq!(net.total(|counters| &counters.icmp_small_mtu), small, "{mtu}");
            }
        }
    }
}

/// RFC 4884: padded to 128 bytes, an extension behind; one byte less and one more than the edge.
#[test]
fn i_02_an_extension_travels_on_under_the_outer_checksum() {
    let mut net = Net::new();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", &[7; 200]));
    let pool = out.source.ip().to_string();
    for words in [31_usize, 32, 33] {
        net.advance(Duration::from_secs(1));
        let mut body = out.packet[..words * 4].to_vec();
        let extension = [0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0, 0x3e, 0x91, 1];
        body.extend(extension);
        let seen = net.one(OUTSIDE, &icmp("203.0.113.1", &pool, (11, 0), [0, words as u8, 0, 0], &body));
        assert_eq!(seen.payload[words * 4..], extension);
        assert_eq!(seen.packet[25], words as u8);
        assert_eq!(sum(&seen.payload[..20], 0), 0xffff);
        assert_eq!(*seen.destination.ip(), *at("10.0.0.2:0").ip());
    }
}
