//! Protocols other than TCP, UDP and ICMP, and floods: packets made by hand, for no program here speaks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lab::raw::{Raw, assert_sctp_checksum, ipv4, payload_between, piece, sctp, source_of, tcp_syn, udp};
use lab::{Lab, SERVER, Side, assert_same, is_of_pool, write_random};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// A lab whose rules name these protocols.
fn with_protocols(names: &[&str]) -> Option<Lab> {
    let mut lab = Lab::up()?;
    let rule = |name: &&str| {
        format!("\n[[nat.rule]]\ninternal = \"10.0.0.0/24\"\nprotocol = \"{name}\"\npool = \"pool\"\n")
    };
    let config = lab.config(&[]) + &names.iter().map(rule).collect::<String>();
    lab.start_from(&config);
    // The first packet to a neighbour waits for ARP.
    lab.expect(Side::In, "ping", &["-c", "1", "-W", "2", SERVER]);
    Some(lab)
}

#[test]
fn gre_esp_and_6in4_pass_both_ways_by_address() {
    let Some(mut lab) = with_protocols(&["gre", "esp", "6in4"]) else { return };
    let gre = [&[0x20, 0, 0x08, 0, 0, 0, 0x12, 0x34][..], b"a packet in a tunnel"].concat();
    let esp = [&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1][..], &[0x5a; 64]].concat();
    let ipv6 = [&[0x60, 0, 0, 0, 0, 4, 59, 64][..], &[0x20; 16], &[0x30; 16], b"four"].concat();
    for (protocol, payload) in [(47, gre), (50, esp), (41, ipv6)] {
        let (inside, outside) = (Raw::open(&lab, Side::In, protocol), Raw::open(&lab, Side::Ex, protocol));
        let mut external = Ipv4Addr::UNSPECIFIED;
        for size in [payload.len(), 1_000, 1_480] {
            let mut payload = payload.clone();
            payload.resize(size, 0x77);
            assert!(inside.send(&ipv4(CLIENT, PEER, protocol, &payload)));
            let packet = outside.receive();
            external = source_of(&packet);
            assert!(is_of_pool(external), "{external} is not of the pool");
            assert!(payload_between(&packet, external, PEER) == payload, "protocol {protocol}");
            assert!(outside.send(&ipv4(PEER, external, protocol, &payload)));
            assert!(payload_between(&inside.receive(), PEER, CLIENT) == payload, "protocol {protocol}");
        }
        let sessions = lab.show("sessions");
        let has_session = sessions.iter().any(|row| {
            row["protocol"].as_str() == Some(&protocol.to_string())
                && row["external"].as_str().is_some_and(|text| text.starts_with(&external.to_string()))
        });
        assert!(has_session, "protocol {protocol}: {sessions:?}");
    }
    lab.stop();
}

#[test]
fn an_sctp_association_passes_with_right_checksums() {
    let Some(mut lab) = with_protocols(&["sctp"]) else { return };
    let (inside, outside) = (Raw::open(&lab, Side::In, 132), Raw::open(&lab, Side::Ex, 132));
    let chunk = |kind: u8, body: &[u8]| {
        let mut chunk = [&[kind, 3][..], &(4 + body.len() as u16).to_be_bytes(), body].concat();
        chunk[1] = if kind == 0 { 3 } else { 0 };
        chunk
    };
    let init = |tag: u32| [&tag.to_be_bytes()[..], &[0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]].concat();
    let (client_tag, server_tag) = (0x1111_1111, 0x2222_2222);
    let cookie = [&init(server_tag)[..], &[0, 7, 0, 8], b"biscuit!"[..4].as_ref()].concat();
    let data = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], b"some data to carry.."].concat();
    let mut external = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let exchange = [
        ((0, chunk(1, &init(client_tag))), (client_tag, chunk(2, &cookie))),
        ((server_tag, chunk(10, b"bisc")), (client_tag, chunk(11, &[]))),
        ((server_tag, chunk(0, &data)), (client_tag, chunk(0, &data))),
    ];
    for ((tag, chunks), (reply_tag, reply)) in exchange {
        assert!(inside.send(&ipv4(CLIENT, PEER, 132, &sctp(5_000, 7_000, tag, &chunks))));
        let packet = outside.receive();
        let source = source_of(&packet);
        let seen = payload_between(&packet, source, PEER);
        assert_sctp_checksum(seen);
        assert_eq!(seen[2..8], [&7_000_u16.to_be_bytes()[..], &tag.to_be_bytes()].concat());
        assert_eq!(seen[12..], chunks);
        let l4_port = u16::from_be_bytes([seen[0], seen[1]]);
        assert!(is_of_pool(source), "{source} is not of the pool");
        assert!(external.port() == 0 || external == SocketAddrV4::new(source, l4_port));
        external = SocketAddrV4::new(source, l4_port);

        assert!(outside.send(&ipv4(PEER, source, 132, &sctp(7_000, l4_port, reply_tag, &reply))));
        let packet = inside.receive();
        let seen = payload_between(&packet, PEER, CLIENT);
        assert_sctp_checksum(seen);
        assert_eq!(seen[..4], [7_000_u16.to_be_bytes(), 5_000_u16.to_be_bytes()].concat());
        assert_eq!(seen[12..], reply);
    }
    lab.stop();
}

/// A packet of a flood: its number decides ports and identification.
type Flood = fn(u32) -> Vec<u8>;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

/// The n-th pair of endpoints; the ports go round and round without a pattern.
fn endpoints(number: u32, source: Ipv4Addr, destination: Ipv4Addr) -> (SocketAddrV4, SocketAddrV4) {
    let random = number.wrapping_mul(0x9e37_79b1);
    let l4_port = |bits: u32| 1_024 + (bits as u16) % 60_000;
    (SocketAddrV4::new(source, l4_port(random)), SocketAddrV4::new(destination, l4_port(random >> 16)))
}

/// One address of the pool after the other.
fn of_pool(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 10 + (number % 11) as u8)
}

const FROM_INSIDE: [Flood; 3] = [
    |number| {
        let (from, to) = endpoints(number, ATTACKER, PEER);
        ipv4(*from.ip(), *to.ip(), 6, &tcp_syn(from, to))
    },
    |number| {
        let (from, to) = endpoints(number, ATTACKER, PEER);
        ipv4(*from.ip(), *to.ip(), 17, &udp(from, to, b"flood"))
    },
    |number| piece(ATTACKER, PEER, 17, number as u16, 0x2000 + (number % 3) as u16 * 100, &[0; 800]),
];

const FROM_OUTSIDE: [Flood; 3] = [
    |number| {
        let (from, to) = endpoints(number, PEER, of_pool(number));
        ipv4(*from.ip(), *to.ip(), 6, &tcp_syn(from, to))
    },
    |number| {
        let (from, to) = endpoints(number, PEER, of_pool(number));
        ipv4(*from.ip(), *to.ip(), 17, &udp(from, to, b"flood"))
    },
    |number| {
        let offset = 0x2000 + (number % 3) as u16 * 100;
        piece(PEER, of_pool(number), 17, number as u16, offset, &[0; 800])
    },
];

/// Sends these kinds in turn until it is told to end, some 10,000 packets a second, and counts how many went out.
fn flood(raw: &Raw, kinds: &[Flood], is_over: &AtomicBool, sent: &AtomicU64) {
    for (number, kind) in (0_u32..).zip(kinds.iter().cycle()) {
        sent.fetch_add(u64::from(raw.send(&kind(number))), Ordering::Relaxed);
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Fetches a page from an internal address within so many seconds.
fn fetch(lab: &Lab, source: &str, page: &str, seconds: u32) -> std::process::Command {
    let mut curl = lab.timed(Side::In, seconds, "curl");
    curl.args(["--silent", "--show-error", "--fail", "--interface", source, "--output"])
        .arg(lab.state.join(page))
        .arg(format!("http://{SERVER}/pub/{page}"))
        .stdin(Stdio::null());
    curl
}

#[test]
fn a_download_and_new_flows_of_others_survive_floods_from_both_sides() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "nginx");
    lab.expect(Side::In, "ip", &["address", "add", "10.0.0.4/24", "dev", "eth0"]);
    let config = lab.config(&[]) + "\n[nat.limits]\nsessions = 1000\n";
    lab.start_from(&config);
    for (page, size) in [("large", 30_000_000), ("small", 1_000)] {
        write_random(&lab.home(Side::Ex).join(page), size);
    }
    assert!(fetch(&lab, "10.0.0.2", "small", 5).status().unwrap().success());
    let before = lab.resident_kilobytes();

    let (inside, outside) = (Raw::open(&lab, Side::In, 255), Raw::open(&lab, Side::Ex, 255));
    let is_over = AtomicBool::new(false);
    let mut download = fetch(&lab, "10.0.0.2", "large", 50).arg("--limit-rate").arg("8M").spawn().unwrap();
    let sent = [AtomicU64::new(0), AtomicU64::new(0)];
    let are_floods = || sent.iter().all(|sent| sent.load(Ordering::Relaxed) > 20_000);
    let mut opened = 0;
    thread::scope(|scope| {
        for ((raw, kinds), sent) in
            [(&inside, &FROM_INSIDE), (&outside, &FROM_OUTSIDE)].into_iter().zip(&sent)
        {
            scope.spawn(|| flood(raw, kinds, &is_over, sent));
        }
        let mut is_served = true;
        while is_served && (opened < 10 || !are_floods()) {
            // A SYN may find the cable's ring full.
            is_served = fetch(&lab, "10.0.0.4", "small", 20).status().unwrap().success();
            opened += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(is_served, "flow {opened} of another host");
    });
    assert!(download.wait().unwrap().success());
    assert_same(&lab.home(Side::Ex).join("large"), &lab.state.join("large"));
    let grown = lab.resident_kilobytes().saturating_sub(before);
    assert!(grown < 4_096, "{grown} kB more after {sent:?} packets");
    let held = lab
        .show("sessions")
        .iter()
        .filter(|row| row["internal"].as_str().unwrap().starts_with("10.0.0.3:"))
        .count();
    assert!(held > 100 && held <= 1_000, "the attacker holds {held} sessions");
    lab.stop();
}
