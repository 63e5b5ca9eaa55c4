//! What a path shows of itself through the NAT: its hops, its MTU, fragments, and the load it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};

use lab::raw::{Raw, piece, udp};
use lab::{FORWARDED, Lab, PATIENCE, SERVER, Side, assert_same, wait_until, write_random};

#[test]
fn two_thousand_parallel_http_connections_have_no_failed_request() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "nginx");
    let config = lab.config(&[]).replace("= 4096", "= 16384");
    lab.start_from(&config);
    write_random(&lab.home(Side::Ex).join("page"), 1_000);
    let url = format!("http://{SERVER}/pub/page");
    let ab = lab
        .command(Side::In, "prlimit")
        .args([
            "--nofile=8192",
            "ab",
            "-q",
            "-k",
            "-s",
            "60",
            "-c",
            "2000",
            "-t",
            "100",
            "-n",
            "10000000",
            &url,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Until all take part: a SYN that finds the cable's ring full is sent again after a second, or another two. A connection takes
    // three frames, and a request four at most.
    let all_take_part = || {
        let counters = lab.counters();
        counters["table.sessions"] >= 2_000 && counters["forwarded"] >= 2_000 * 3 + 10_000 * 4
    };
    let have_met = wait_until(3 * PATIENCE, all_take_part);
    // It tells then how it went.
    let interrupted = Command::new("kill").args(["-INT", &ab.id().to_string()]).status();
    assert!(interrupted.is_ok_and(|status| status.success()));
    let text = String::from_utf8(ab.wait_with_output().unwrap().stdout).unwrap();
    assert!(have_met, "{text}; {:?}", lab.counters());
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse::<u64>().unwrap()
    };
    assert!(number("Complete requests:") >= 6_000, "{text}");
    assert_eq!(number("Failed requests:"), 0, "{text}");
    lab.stop();
}

/// A lab with a host behind a router outside, and algate running.
fn with_router(extra: &str) -> Option<Lab> {
    let mut lab = Lab::up()?;
    lab.add_far_host();
    let config = lab.config(&[]) + extra;
    lab.start_from(&config);
    Some(lab)
}

#[test]
fn traceroute_shows_every_hop() {
    let Some(mut lab) = with_router("") else { return };
    for method in [&[][..], &["-I"], &["-T", "-p", "80"]] {
        let arguments = [&["-n", "-q", "1", "-w", "3", "-m", "5"], method, &["192.0.2.2"]].concat();
        let text = lab.expect(Side::In, "traceroute", &arguments);
        let hops: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, ["10.0.0.1", "203.0.113.2", "192.0.2.2"], "{text}");
    }
    lab.stop();
}

#[test]
fn a_sender_inside_learns_of_a_narrow_hop() {
    let forward = format!(
        "\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:80\"\ninternal = \"10.0.0.2:80\"\n"
    );
    let Some(mut lab) = with_router(&forward) else { return };
    lab.expect(Side::Ex, "ip", &["route", "add", "192.0.2.2/32", "dev", "far0", "mtu", "lock", "1280"]);
    // The server inside sends full segments with DF; only the router's ICMP makes them smaller.
    lab.serve(Side::In, "nginx");
    let (page, copy) = (lab.home(Side::In).join("page"), lab.state.join("page"));
    write_random(&page, 5_000_000);
    let url = format!("http://{FORWARDED}/pub/page");
    lab.expect(
        Side::Far,
        "curl",
        &["--silent", "--show-error", "--fail", "--max-time", "20", "--output", copy.to_str().unwrap(), &url],
    );
    assert_same(&page, &copy);
    let route = lab.expect(Side::In, "ip", &["route", "get", "192.0.2.2"]);
    assert!(route.contains("mtu 1280"), "{route}");

    let output = lab.run(Side::In, "ping", &["-c", "1", "-W", "2", "-M", "do", "-s", "1300", "192.0.2.2"]);
    assert!(!output.status.success());
    let text = lab.expect(Side::In, "ping", &["-c", "1", "-W", "2", "-M", "do", "-s", "1252", "192.0.2.2"]);
    assert!(text.contains("1 received"), "{text}");
    lab.stop();
}

/// A lab whose algate is on TAP interfaces, bridged to the cables: the af_packet driver would have the kernel put
/// fragments together before algate sees them.
fn on_tap() -> Option<Lab> {
    let mut lab = Lab::up()?;
    let mut config = lab.config(&[]);
    for side in ["int", "ext"] {
        let af_packet = format!("{{ driver = \"af_packet\", interface = \"{side}0\" }}");
        assert!(config.contains(&af_packet), "{config}");
        config = config.replace(&af_packet, &format!("{{ driver = \"tap\", interface = \"{side}-tap\" }}"));
    }
    lab.start_from(&config);
    for side in ["int", "ext"] {
        let script = format!(
            "sysctl -qw net.ipv6.conf.{side}-tap.disable_ipv6=1; ip link add br-{side} type bridge &&
             ip link set {side}0 master br-{side} && ip link set {side}-tap master br-{side} up &&
             ip link set br-{side} up"
        );
        lab.expect(Side::Gateway, "sh", &["-c", &script]);
    }
    Some(lab)
}

/// An order that fragments are sent in.
type Disorder = fn(&mut Vec<Vec<u8>>);

const ORDERS: [(&str, Disorder); 4] = [
    ("in order", |_| ()),
    ("neighbours swapped", |pieces| pieces.chunks_mut(2).for_each(<[_]>::reverse)),
    ("eights backwards", |pieces| pieces.chunks_mut(8).for_each(<[_]>::reverse)),
    ("the last one first", |pieces| pieces.rotate_right(1)),
];

/// Sends one UDP datagram in fragments of 1500 bytes.
fn send_in_fragments(raw: &Raw, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8], disorder: Disorder) {
    static IDENTIFICATION: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let identification = IDENTIFICATION.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let datagram = udp(from, to, payload);
    let count = datagram.len().div_ceil(FRAGMENT_BYTES);
    let cut = |(index, part): (usize, &[u8])| {
        let more = if index + 1 < count { 0x2000 } else { 0 };
        let offset = (index * FRAGMENT_BYTES / 8) as u16;
        piece(*from.ip(), *to.ip(), 17, identification, more | offset, part)
    };
    let mut pieces: Vec<Vec<u8>> = datagram.chunks(FRAGMENT_BYTES).enumerate().map(cut).collect();
    disorder(&mut pieces);
    for piece in pieces {
        assert!(raw.send(&piece));
    }
}

/// Receives one datagram and expects these bytes; returns whose it was.
fn expect_datagram(socket: &UdpSocket, payload: &[u8], name: &str) -> SocketAddrV4 {
    let mut received = vec![0; 65_535];
    let (length, from) = socket.recv_from(&mut received).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(length, payload.len(), "{name}");
    assert!(received[..length] == *payload, "{name}: other bytes");
    let SocketAddr::V4(from) = from else { panic!("{name}: {from}") };
    from
}

#[test]
fn large_datagrams_pass_in_fragments_both_ways_in_modest_disorder() {
    let Some(mut lab) = on_tap() else { return };
    let (inside, outside) = (Raw::open(&lab, Side::In, 255), Raw::open(&lab, Side::Ex, 255));
    let client = lab.udp(Side::In, "10.0.0.2:5000");
    let server = lab.udp(Side::Ex, "203.0.113.2:9000");
    let (from, to) = ("10.0.0.2:5000".parse().unwrap(), "203.0.113.2:9000".parse().unwrap());
    let random = lab.state.join("random");
    write_random(&random, 60_000);
    let random = fs::read(random).unwrap();
    // The first packet to a neighbour waits for ARP, which keeps one packet, not a datagram.
    client.send_to(b"hello", to).unwrap();
    let external = expect_datagram(&server, b"hello", "a first datagram");
    assert_ne!(external.ip(), &SERVER.parse::<std::net::Ipv4Addr>().unwrap());
    server.send_to(b"hello", external).unwrap();
    expect_datagram(&client, b"hello", "its answer");

    for payload in [&random[..4_000], &random] {
        for (order, disorder) in ORDERS {
            let name = format!("{} bytes, {order}", payload.len());
            send_in_fragments(&inside, from, to, payload, disorder);
            assert_eq!(expect_datagram(&server, payload, &name), external, "{name}");
            send_in_fragments(&outside, to, external, payload, disorder);
            assert_eq!(expect_datagram(&client, payload, &name), to, "{name}");
        }
    }
    lab.stop();
}

/// Payload of a fragment on Ethernet.
const FRAGMENT_BYTES: usize = 1_480;
