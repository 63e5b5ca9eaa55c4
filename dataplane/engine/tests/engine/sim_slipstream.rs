//! NAT slipstreaming: a web page makes a host inside send what an ALG could take for its protocol. Nothing may open.
//!
//! The page controls the body of a POST and, by padding, where a segment or a fragment begins; the server it speaks to
//! controls the answers. PPTP's own case is in `sim_pptp`.

use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{SYN, at, fragment, tcp_between, udp, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{audio, message, request};

const ALGS: &str = r#"
[alg.ftp]
enabled = true
[alg.sip]
enabled = true
[alg.rtsp]
enabled = true
[alg.irc]
enabled = true
"#;

/// The victim's address and a service on it.
const VICTIM: &str = "10.0.0.2:8888";

/// Control port, what is slipped in, and how an accomplice would answer.
fn payloads() -> Vec<(u16, String, &'static str)> {
    let register = message(
        "REGISTER sip:203.0.113.50 SIP/2.0
        Via: SIP/2.0/TCP 10.0.0.2:8888;branch=z9hG4bK1
        From: <sip:u@203.0.113.50>;tag=1
        To: <sip:u@203.0.113.50>
        Call-ID: tcp
        CSeq: 1 REGISTER
        Contact: <sip:u@10.0.0.2:8888;transport=tcp>
        Expires: 3600",
        "",
    );
    let invite = request("INVITE", "tcp", (VICTIM, "203.0.113.50"), &audio(VICTIM));
    vec![
        (5060, register, "SIP/2.0 200 OK\r\nCall-ID: tcp\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"),
        (5060, invite, "SIP/2.0 200 OK\r\nCall-ID: tcp\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"),
        (21, "PORT 10,0,0,2,34,184\r\n".into(), "200 PORT command successful.\r\n"),
        (21, "EPRT |1|10.0.0.2|8888|\r\n".into(), "200 EPRT command successful.\r\n"),
        (6667, "PRIVMSG x :\x01DCC SEND f 167772162 8888 9\x01\r\n".into(), ":x 001 u :Welcome\r\n"),
        (
            554,
            "SETUP rtsp://203.0.113.50/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;client_port=8888-8889\r\n\r\n".into(),
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        ),
    ]
}

/// A POST whose header and padding fill `bytes`.
fn post(bytes: usize, l4_port: u16) -> String {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 203.0.113.50:{l4_port}\r\nContent-Type: text/plain\r\nContent-Length: 6000\r\n\r\n"
    );
    let padding = "A".repeat(bytes - head.len());
    head + &padding
}

fn assert_nothing_opened(lab: &mut Lab, talk: &Talk, name: &str) {
    let net = &mut lab.net;
    assert_eq!(net.engine.expectation_rows(net.now, 9), [], "{name}");
    // Wherever the accomplice tries: the service's own port, and the one that the connection has.
    for l4_port in [8_888, talk.client_seen.port()] {
        let to = std::net::SocketAddrV4::new(*talk.client_seen.ip(), l4_port);
        for from in ["203.0.113.50:20", "198.51.100.66:4000"] {
            let to_service = net.send(OUTSIDE, &tcp_between(at(from), to, SYN, b""));
            assert!(to_service.iter().all(|seen| seen.destination != at(VICTIM)), "{name}");
        }
        let datagram = udp_between(at("198.51.100.66:4000"), to, b"voice");
        net.refused(OUTSIDE, &datagram, DropReason::NoMapping);
    }
}

#[test]
fn s_06_a_post_with_a_command_at_a_segments_start_opens_nothing() {
    for (l4_port, slipped, reply) in payloads() {
        for mss in [536, 1_000, 1_460] {
            let net = Net::with(ALGS, |_| {});
            let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 3);
            let to = at(&format!("203.0.113.50:{l4_port}"));
            let talk = Talk::open(&mut lab, (0, 4_000), to, (1, l4_port));
            let name = format!("port {l4_port} mss {mss} {slipped:.20}");
            let head = post(mss, l4_port);
            let arrived = talk.say_in_pieces(&mut lab, CLIENT, &[head.as_bytes(), slipped.as_bytes()]);
            assert_eq!(String::from_utf8(arrived).unwrap(), head + &slipped, "{name}: byte for byte");
            assert_eq!(talk.say(&mut lab, SERVER, reply.as_bytes()), reply.as_bytes());
            assert_eq!(talk.say(&mut lab, CLIENT, slipped.as_bytes()), slipped.as_bytes(), "{name}: again");
            assert_nothing_opened(&mut lab, &talk, &name);
            assert_eq!(lab.net.workers[0].alg_flows(), 0, "{name}: it is read no more");
        }
    }
}

#[test]
fn s_06_tls_and_stun_over_tcp_open_nothing() {
    let hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let stun: &[u8] = b"\x00\x03\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x19\x00\x04\x11\x00\x00\x00";
    for (l4_port, slipped, _) in payloads() {
        for opening in [hello, stun] {
            let net = Net::with(ALGS, |_| {});
            let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 3);
            let to = at(&format!("203.0.113.50:{l4_port}"));
            let talk = Talk::open(&mut lab, (0, 4_000), to, (1, l4_port));
            let pieces = [opening, slipped.as_bytes()];
            assert_eq!(talk.say_in_pieces(&mut lab, CLIENT, &pieces), pieces.concat());
            assert_nothing_opened(&mut lab, &talk, &format!("port {l4_port}"));
        }
    }
}

/// A long user name of TURN over UDP makes the host cut the datagram where the attacker wants; the second fragment looks
/// like a datagram of its own.
#[test]
fn s_06_a_fragment_that_looks_like_a_register_opens_nothing() {
    let register = request("INVITE", "turn", ("10.0.0.2:8888", "203.0.113.50"), &audio(VICTIM));
    let inner = udp("10.0.0.2:4000", "203.0.113.50:5060", register.as_bytes());
    let mut turn = b"\x00\x03\x07\xd0\x21\x12\xa4\x42abcdefghijkl\x00\x06\x07\x00".to_vec();
    turn.resize(1_472, b'u');
    // A UDP header and the message, at the start of the second fragment.
    turn.extend(&inner[34..]);
    let whole = udp("10.0.0.2:4000", "203.0.113.50:5060", &turn);
    // It leaves in one piece.
    let mut net = Net::with(ALGS, |config| config.interfaces[1].mtu = 4_000);
    let pieces = [fragment(&whole, 0, 1_480, 7), fragment(&whole, 1_480, usize::MAX, 7)];
    let sent = net.send_all(INSIDE, &pieces);
    // It was put together, read from its first byte, and taken for STUN.
    assert_eq!(sent.iter().map(|seen| &seen.payload).collect::<Vec<_>>(), [&turn], "{:?}", net.drops());
    let counted =
        |name: &str| net.engine.counter_rows().into_iter().find(|row| row.name == name).unwrap().value;
    assert_eq!((counted("alg.sip.messages"), counted("alg.sip.rewritten")), (1, 0));
    assert_eq!(net.engine.expectation_rows(net.now, 9), []);
}

#[test]
fn a_page_cannot_speak_for_another_host() {
    // v2: the message names a host beside the victim.
    for (l4_port, slipped, _) in payloads().into_iter().filter(|(_, text, _)| text.contains("10.0.0.2:8888"))
    {
        let net = Net::with(ALGS, |_| {});
        let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 3);
        let talk = Talk::open(&mut lab, (0, 4_000), at(&format!("203.0.113.50:{l4_port}")), (1, l4_port));
        let other = slipped.replace("10.0.0.2", "10.0.0.7");
        assert_eq!(talk.say(&mut lab, CLIENT, other.as_bytes()), other.as_bytes());
        assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9), []);
    }
}
