//! NAT slipstreaming with real TCP: a browser inside posts to an attacker, whose page has padded the body so that a forged
//! message begins at any byte of a segment. Nothing may open, at no alignment and no segment size.
//!
//! Each run tries a few alignments that matter, `ALGATE_LAB=full` all of them. Linux opens the door to these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::time::Duration;

use lab::capture::{Capture, tcp_payload};
use lab::drill::{Knocks, Talk, VICTIM_PORT, Victim, assert_nothing_open, config, endpoint_of};
use lab::raw::{Raw, ipv4, piece, udp};
use lab::{Lab, PATIENCE, SERVER, Side, is_full, is_of_pool, wait_until};

/// What a page slips in.
struct Slip {
    l4_port: u16,
    /// What the attacker's server says before it has read anything.
    greeting: &'static str,
    forged: String,
    /// How it confirms.
    reply: &'static str,
}

/// Counters say `alg.ftp.` and `alg.sip.`.
fn slips() -> [Slip; 4] {
    let ok = "SIP/2.0 200 OK\r\nCall-ID: drill\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n";
    let (port, eprt) = ("PORT 10,0,0,2,34,184\r\n", "EPRT |1|10.0.0.2|8888|\r\n");
    [
        Slip { l4_port: 21, greeting: "", forged: port.into(), reply: "200 PORT command successful\r\n" },
        Slip {
            l4_port: 21,
            greeting: "220 ready\r\n",
            forged: eprt.into(),
            reply: "200 EPRT successful\r\n",
        },
        Slip { l4_port: 5060, greeting: "", forged: register("TCP"), reply: ok },
        Slip { l4_port: 5060, greeting: ok, forged: register("TCP"), reply: ok },
    ]
}

/// The victim registers a contact on its service's port.
fn register(transport: &str) -> String {
    format!(
        "REGISTER sip:{SERVER} SIP/2.0\r\nVia: SIP/2.0/{transport} 10.0.0.2:{VICTIM_PORT};branch=z9hG4bK1\r\n\
         From: <sip:u@{SERVER}>;tag=1\r\nTo: <sip:u@{SERVER}>\r\nCall-ID: drill\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:u@10.0.0.2:{VICTIM_PORT}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A browser's POST that ends with the forged message, which begins at this byte of the stream. Behind the padding there is
/// the end of a line, or none.
fn post(slip: &Slip, at: usize, ends_line: bool) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {SERVER}:{}\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n\r\n",
        slip.l4_port
    );
    let end = if ends_line { "\r\n" } else { "" };
    let padding = "a".repeat(at - head.len() - end.len());
    format!("{head}{padding}{end}{}", slip.forged).into_bytes()
}

/// Where in its segment the forged message begins.
fn alignments(mss: usize) -> Vec<usize> {
    if is_full() {
        return (0..mss).collect();
    }
    // At the start, near it, cut within its first word, and wholly in the segment behind.
    vec![0, 1, 2, mss / 2, mss - 24, mss - 5, mss - 4, mss - 1]
}

/// Makes the browser's segments this long, exactly: no option beside the data.
fn set_segment_size(lab: &Lab, mss: usize) {
    lab.expect(Side::In, "sysctl", &["-qw", "net.ipv4.tcp_timestamps=0"]);
    let mss = mss.to_string();
    let network = ["203.0.113.0/24", "dev", "eth0", "proto", "kernel", "scope", "link", "src", SERVER];
    lab.expect(Side::Ex, "ip", &[&["route", "replace"], &network[..], &["advmss", &mss]].concat());
}

/// The drill at one segment size; the names of tests say which.
fn slipstream(mss: usize) {
    let Some(mut lab) = Lab::up() else { return };
    set_segment_size(&lab, mss);
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &[]);
    let listeners = [21, 5060].map(|l4_port: u16| lab.listener(Side::Ex, &format!("{SERVER}:{l4_port}")));
    let capture = (!is_full()).then(|| Capture::start(&lab, Side::In));
    let mut posts = 0;
    // A port that is used again within four minutes belongs to the session it had, whose ALG has gone.
    let mut source_ports = 10_000_u16..;
    for slip in slips() {
        let listener = &listeners[usize::from(slip.l4_port == 5060)];
        for ends_line in [true, false] {
            let name = format!("{} at mss {mss}, line ended: {ends_line}", &slip.forged[..8]);
            let alignments = alignments(mss);
            for batch in alignments.chunks(128) {
                let mut knocks = Knocks::default();
                for &at in batch {
                    let source = format!("10.0.0.2:{}", source_ports.next().unwrap());
                    let post = post(&slip, mss + at, ends_line);
                    knocks.knock(&lab, attempt(&lab, listener, &source, &slip, &post));
                }
                knocks.expect_nobody_in(&victim, &name);
                assert_nothing_open(&lab, &name);
            }
            posts += alignments.len();
        }
    }
    let counters = lab.counters();
    assert_eq!(counters["alg.ftp.rewritten"] + counters["alg.sip.rewritten"], 0);
    assert_eq!(counters["alg.ftp.detached"], posts as u64 / 2, "each is known for what it is");
    assert_eq!(counters["alg.sip.detached"], posts as u64 / 2, "each is known for what it is");
    if let Some(capture) = capture {
        assert_aligned(&capture.frames(), mss, posts);
    }
    door_can_be_seen_open(&lab, &listeners[0], &victim);
    lab.stop();
}

/// Posts, and lets the attacker confirm and knock where a deceived gateway would have opened.
fn attempt(lab: &Lab, listener: &TcpListener, source: &str, slip: &Slip, post: &[u8]) -> SocketAddrV4 {
    let mut talk = Talk::outbound(lab, listener, source);
    assert_eq!(talk.outside_says(slip.greeting.as_bytes()), slip.greeting.as_bytes());
    let arrived = talk.inside_says(post);
    assert!(arrived == post, "{}", String::from_utf8_lossy(&arrived));
    assert_eq!(talk.outside_says(slip.reply.as_bytes()), slip.reply.as_bytes());
    assert!(is_of_pool(*talk.opener.ip()));
    SocketAddrV4::new(*talk.opener.ip(), VICTIM_PORT)
}

/// The browser's segments had the length that the alignments are made for, and the forged message was first in some.
fn assert_aligned(frames: &[Vec<u8>], mss: usize, posts: usize) {
    let beginning = |text: &str| {
        let payloads = frames.iter().filter_map(|frame| tcp_payload(frame));
        payloads.filter(|payload| payload.starts_with(text.as_bytes())).map(<[u8]>::len).collect::<Vec<_>>()
    };
    let heads = beginning("POST / ");
    assert!(heads.len() >= posts && heads.iter().all(|bytes| *bytes == mss), "{heads:?}");
    for slip in slips() {
        assert!(beginning(&slip.forged[..8]).len() >= 2, "{} never began a segment", &slip.forged[..8]);
    }
}

/// An honest client's announcement opens the door to its server: what the drill looks at would show it.
fn door_can_be_seen_open(lab: &Lab, listener: &TcpListener, victim: &Victim) {
    let mut talk = Talk::outbound(lab, listener, "10.0.0.2:9999");
    talk.agree(&[(Side::Ex, "220 ready"), (Side::In, "NOOP"), (Side::Ex, "200 so be it")]);
    let announced = endpoint_of(&talk.inside_announces("PORT 10,0,0,2,34,184"));
    assert!(is_of_pool(*announced.ip()), "{announced}");
    let mut knocks = Knocks::default();
    knocks.knock(lab, announced);
    knocks.expect_somebody_in(victim, "an honest PORT");
}

#[test]
fn a_post_opens_nothing_in_segments_of_536_bytes() {
    slipstream(536);
}

#[test]
fn a_post_opens_nothing_in_segments_of_1220_bytes() {
    slipstream(1_220);
}

#[test]
fn a_post_opens_nothing_in_segments_of_1460_bytes() {
    slipstream(1_460);
}

/// TURN's user name over UDP is as long as the page wants, so the host cuts the datagram where the page wants: the second
/// fragment looks like a datagram of SIP, with its UDP header.
#[test]
fn a_fragment_that_looks_like_sip_opens_nothing() {
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &[]);
    let attacker = lab.udp(Side::Ex, &format!("{SERVER}:5060"));
    attacker.set_nonblocking(true).unwrap();
    let raw = Raw::open(&lab, Side::In, 253);
    let [source, target]: [SocketAddrV4; 2] =
        ["10.0.0.2:4000", &format!("{SERVER}:5060")].map(|text| text.parse().unwrap());
    // Allocate with a user name of 700 bytes; the fragments are cut where the inner datagram begins.
    let inner = udp(source, target, register("UDP").as_bytes());
    let mut turn = b"\x00\x03\x02\xc0\x21\x12\xa4\x42abcdefghijkl\x00\x06\x02\xbc".to_vec();
    turn.resize(712, b'u');
    let whole = udp(source, target, &[&turn[..], &inner].concat());
    let cut = whole.len() - inner.len();
    assert_eq!(cut % 8, 0, "a fragment begins at a multiple of eight");
    let fragment = |number: u16, from: usize, to: usize| {
        let more = if to < whole.len() { 0x2000 } else { 0 };
        piece(*source.ip(), *target.ip(), 17, number, more | (from / 8) as u16, &whole[from..to])
    };
    let end = whole.len();
    let rows = [
        ("in order", vec![fragment(1, 0, cut), fragment(1, cut, end)], true),
        ("the second first", vec![fragment(2, cut, end), fragment(2, 0, cut)], true),
        ("the second alone", vec![fragment(3, cut, end)], false),
        // Two texts for the same bytes: which one is read where is anybody's guess.
        ("overlapping", vec![fragment(4, 0, cut + 8), fragment(4, cut, end)], false),
    ];
    let mut knocks = Knocks::default();
    for (name, fragments, passes) in rows {
        for fragment in &fragments {
            assert!(raw.send(fragment));
        }
        let mut datagram = [0; 3_000];
        let mut seen = None;
        let is_here = || {
            seen = attacker.recv_from(&mut datagram).ok();
            seen.is_some()
        };
        let limit = Duration::from_millis(if passes { 3_000 } else { 300 });
        assert_eq!(wait_until(limit, is_here), passes, "{name}");
        if let Some((length, SocketAddr::V4(from))) = seen {
            assert!(datagram[..length] == whole[8..], "{name}: not byte for byte");
            knocks.knock(&lab, SocketAddrV4::new(*from.ip(), VICTIM_PORT));
        }
        knocks.expect_nobody_in(&victim, name);
        assert_nothing_open(&lab, name);
    }
    let counters = lab.counters();
    assert_eq!((counters["alg.sip.messages"], counters["alg.sip.rewritten"]), (2, 0));
    // The same text as a datagram of its own is read.
    let alone = udp(source, target, register("UDP").as_bytes());
    assert!(raw.send(&ipv4(*source.ip(), *target.ip(), 17, &alone)));
    assert!(wait_until(PATIENCE, || lab.counter("alg.sip.rewritten") == 1));
    lab.stop();
}
