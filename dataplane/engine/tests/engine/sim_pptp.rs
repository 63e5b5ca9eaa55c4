//! PPTP through the engine: control sessions between real TCP stacks, tunnels as GRE packets.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{Seen, at, icmp, raw};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};

const PPTP: &str = r#"
[alg.pptp]
enabled = true

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:1723"
internal = "10.0.0.9:1723"
"#;

const GRE: u8 = 47;
const REMOTE: &str = "203.0.113.50";

/// A control message of RFC 2637 section 2: 16-bit fields from byte 12 on, then a pattern.
fn message(control_type: u16, size: u16, fields: &[u16]) -> Vec<u8> {
    let head = [size, 1, 0x1a2b, 0x3c4d, control_type, 0];
    let mut bytes: Vec<u8> = head.iter().chain(fields).flat_map(|word| word.to_be_bytes()).collect();
    bytes.resize(usize::from(size), 0x5a);
    bytes
}

/// Enhanced GRE (RFC 2637 section 4.1) for the receiver's `call_id`.
fn gre(source: &str, destination: &str, call_id: u16) -> Vec<u8> {
    let [a, b] = call_id.to_be_bytes();
    raw(source, destination, GRE, &[0x30, 0x81, 0x88, 0x0b, 0, 4, a, b, 0, 0, 0, 1, 0xff, 3, 0xc0, 0x21])
}

fn call_id(seen: &Seen) -> u16 {
    u16::from_be_bytes([seen.packet[26], seen.packet[27]])
}

fn word(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

/// A control session with one call.
struct Tunnel {
    talk: Talk,
    /// The caller's call id as the other end was told.
    announced: u16,
}

impl Tunnel {
    /// The client calls with `own`, the server answers with `theirs`; `told` is what the client reads of that.
    fn open(lab: &mut Lab, talk: Talk, (own, theirs): (u16, u16)) -> (Self, u16) {
        let start = message(1, 156, &[0x0100, 0]);
        assert_eq!(talk.say(lab, CLIENT, &start), start);
        let start = message(2, 156, &[0x0100, 0x0100]);
        assert_eq!(talk.say(lab, SERVER, &start), start);
        let asked = talk.say(lab, CLIENT, &message(7, 168, &[own, 1]));
        let announced = word(&asked, 12);
        assert_eq!(asked, message(7, 168, &[announced, 1]), "one field");
        let answered = talk.say(lab, SERVER, &message(8, 32, &[theirs, announced, 0x0100]));
        let told = word(&answered, 12);
        assert_eq!(answered, message(8, 32, &[told, own, 0x0100]), "the caller's id is put back");
        (Self { talk, announced }, told)
    }

    /// Ten packets each way: from `host` for `theirs`, and from the world for what it was told. Every one arrives.
    #[track_caller]
    fn carries(&self, net: &mut Net, host: &str, (own, theirs): (u16, u16)) {
        let external = self.talk.client_seen.ip().to_string();
        for _ in 0..10 {
            let out = net.one(INSIDE, &gre(host, REMOTE, theirs));
            assert_eq!((out.source.ip().to_string(), call_id(&out)), (external.clone(), theirs));
            let back = net.one(OUTSIDE, &gre(REMOTE, &external, self.announced));
            assert_eq!((back.destination.ip().to_string(), call_id(&back)), (host.to_string(), own));
        }
    }
}

fn lab(change: impl FnOnce(&mut algate_config::Config)) -> Lab {
    Lab::new(Net::with(PPTP, change), [10, 0, 0, 2], Faults::default(), 3)
}

fn dial(lab: &mut Lab, host: usize, l4_port: u16, ids: (u16, u16)) -> Tunnel {
    let talk = Talk::open(lab, (host, l4_port), at("203.0.113.50:1723"), (1, 1723));
    let (tunnel, told) = Tunnel::open(lab, talk, ids);
    assert_eq!(told, ids.1, "the server's id is its own");
    tunnel
}

fn expected(net: &Net) -> usize {
    net.engine.expectation_rows(net.now, usize::MAX).len()
}

#[test]
fn a_04_two_clients_with_one_call_id_have_tunnels_to_one_server() {
    // One external address for both, and no rule for GRE.
    for alg_cores in [vec![], vec![2]] {
        let mut lab = lab(|config| {
            let (first, _) = config.nat.pools[0].ranges[0];
            config.nat.pools[0].ranges = vec![(first, first)];
            config.nat.forwards.clear();
            config.workers.alg_cores = alg_cores;
        });
        let other = lab.add(INSIDE, [10, 0, 0, 3]);
        let first = dial(&mut lab, 0, 4_000, (7, 100));
        let second = dial(&mut lab, other, 4_000, (7, 101));
        assert_ne!(first.announced, second.announced);
        assert_eq!(first.talk.client_seen.ip(), second.talk.client_seen.ip());
        for _ in 0..2 {
            first.carries(&mut lab.net, "10.0.0.2", (7, 100));
            second.carries(&mut lab.net, "10.0.0.3", (7, 101));
        }
        let rows = lab.net.sessions();
        let control: Vec<_> = rows.iter().filter(|row| row.is_alg).map(|row| row.children).collect();
        assert_eq!(control, [2, 2], "each direction of a tunnel is a child: {rows:?}");
        // An error about a packet of one of them finds its host.
        let external = first.talk.client_seen.ip().to_string();
        let out = lab.net.one(INSIDE, &gre("10.0.0.3", REMOTE, 101));
        let error = lab.net.one(OUTSIDE, &icmp("203.0.113.1", &external, (3, 1), [0; 4], &out.packet));
        assert_eq!(error.destination.ip().to_string(), "10.0.0.3");
    }
}

#[test]
fn a_04_a_tunnel_belongs_to_its_two_ends() {
    let mut lab = lab(|_| {});
    let tunnel = dial(&mut lab, 0, 4_000, (7, 100));
    let net = &mut lab.net;
    let external = tunnel.talk.client_seen.ip().to_string();
    net.refused(OUTSIDE, &gre("198.51.100.9", &external, tunnel.announced), DropReason::ExpectationPeer);
    net.refused(INSIDE, &gre("10.0.0.4", REMOTE, 100), DropReason::ExpectationPeer);
    // What is no call, or another one, needs a rule as ever.
    let unknown = tunnel.announced.wrapping_add(1);
    for frame in [gre(REMOTE, &external, unknown), raw(REMOTE, &external, GRE, &[0; 8])] {
        net.refused(OUTSIDE, &frame, DropReason::UnsupportedProtocol);
    }
    for frame in [gre("10.0.0.2", REMOTE, 99), raw("10.0.0.2", REMOTE, GRE, &[0; 8])] {
        net.refused(INSIDE, &frame, DropReason::UnsupportedProtocol);
    }
    assert_eq!(net.sessions().len(), 1);
    tunnel.carries(net, "10.0.0.2", (7, 100));
}

#[test]
fn a_04_a_server_behind_a_forward_takes_calls_from_outside() {
    let mut lab = Lab::new(Net::with(PPTP, |_| {}), [10, 0, 0, 9], Faults::default(), 3);
    let talk = Talk::open(&mut lab, (1, 3_000), at("203.0.113.11:1723"), (0, 1723));
    assert_eq!(talk.client_seen, at("203.0.113.50:3000"));
    let (tunnel, told) = Tunnel::open(&mut lab, talk, (7, 500));
    assert_eq!(tunnel.announced, 7, "nobody translates the caller");
    let net = &mut lab.net;
    for _ in 0..10 {
        let inbound = net.one(OUTSIDE, &gre(REMOTE, "203.0.113.11", told));
        assert_eq!((inbound.destination.ip().to_string(), call_id(&inbound)), ("10.0.0.9".into(), 500));
        let outbound = net.one(INSIDE, &gre("10.0.0.9", REMOTE, 7));
        assert_eq!((outbound.source.ip().to_string(), call_id(&outbound)), ("203.0.113.11".into(), 7));
    }
    assert_eq!(net.sessions().iter().filter(|row| row.is_child).count(), 2);
}

#[test]
fn a_04_static_addresses_keep_their_call_ids() {
    let toml =
        "[alg.pptp]\nenabled = true\n[[nat.static]]\nexternal = \"203.0.113.30\"\ninternal = \"10.0.0.2\"\n";
    let mut lab = Lab::new(Net::with(toml, |_| {}), [10, 0, 0, 2], Faults::default(), 3);
    let tunnel = dial(&mut lab, 0, 4_000, (7, 100));
    assert_eq!((tunnel.announced, tunnel.talk.client_seen), (7, at("203.0.113.30:4000")));
    tunnel.carries(&mut lab.net, "10.0.0.2", (7, 100));
}

#[test]
fn a_04_a_call_that_is_cleared_lets_nobody_in_any_more() {
    let mut lab = lab(|_| {});
    let tunnel = dial(&mut lab, 0, 4_000, (7, 100));
    assert_eq!(expected(&lab.net), 2);
    let external = tunnel.talk.client_seen.ip().to_string();
    let clear = tunnel.talk.say(&mut lab, CLIENT, &message(12, 16, &[7, 0]));
    assert_eq!(word(&clear, 12), tunnel.announced);
    let notify = tunnel.talk.say(&mut lab, SERVER, &message(13, 148, &[100, 0x0400]));
    assert_eq!(word(&notify, 12), 100);
    assert_eq!(expected(&lab.net), 0);
    let late = gre(REMOTE, &external, tunnel.announced);
    lab.net.refused(OUTSIDE, &late, DropReason::UnsupportedProtocol);
    // The next call of the session is another one.
    let asked = tunnel.talk.say(&mut lab, CLIENT, &message(7, 168, &[8, 2]));
    assert_eq!(expected(&lab.net), 1);
    let again = gre(REMOTE, &external, word(&asked, 12));
    assert_eq!(call_id(&lab.net.one(OUTSIDE, &again)), 8);
}

#[test]
fn a_04_a_tunnel_ends_with_its_control_session_and_lives_with_its_echoes() {
    let mut lab = lab(|_| {});
    let tunnel = dial(&mut lab, 0, 4_000, (7, 100));
    // Eleven minutes of nothing but echoes; the expectation's lifetime is ten.
    for _ in 0..11 {
        lab.net.advance(Duration::from_secs(60));
        let echo = message(5, 16, &[0, 1]);
        assert_eq!(tunnel.talk.say(&mut lab, CLIENT, &echo), echo);
    }
    tunnel.carries(&mut lab.net, "10.0.0.2", (7, 100));
    tunnel.talk.close(&mut lab);
    lab.net.advance(Duration::from_secs(1));
    assert_eq!(expected(&lab.net), 0);
}

#[test]
fn s_06_what_is_no_pptp_opens_nothing() {
    let mut lab = lab(|_| {});
    let talk = Talk::open(&mut lab, (0, 4_000), at("203.0.113.50:1723"), (1, 1723));
    let call = message(7, 168, &[7, 1]);
    let slipstream = [&b"POST / HTTP/1.1\r\nContent-Length: 168\r\n\r\n"[..], &call].concat();
    assert_eq!(talk.say(&mut lab, CLIENT, &slipstream), slipstream);
    assert_eq!(talk.say(&mut lab, CLIENT, &call), call);
    assert_eq!((expected(&lab.net), lab.net.workers[0].alg_flows()), (0, 0));
    let external = talk.client_seen.ip().to_string();
    lab.net.refused(OUTSIDE, &gre(REMOTE, &external, 7), DropReason::UnsupportedProtocol);
}

#[test]
fn a_05_control_messages_are_read_however_they_are_cut() {
    let mut lab = lab(|_| {});
    let talk = Talk::open(&mut lab, (0, 4_000), at("203.0.113.50:1723"), (1, 1723));
    let start = message(1, 156, &[0x0100, 0]);
    assert_eq!(talk.say(&mut lab, CLIENT, &start), start);
    let start = message(2, 156, &[0x0100, 0x0100]);
    assert_eq!(talk.say(&mut lab, SERVER, &start), start);
    for cut in 1..168 {
        let own = cut as u16;
        let call = message(7, 168, &[own, 1]);
        let asked = talk.say_in_pieces(&mut lab, CLIENT, &[&call[..cut], &call[cut..]]);
        let announced = word(&asked, 12);
        assert_eq!(asked, message(7, 168, &[announced, 1]), "cut at {cut}");
        let refused = talk.say(&mut lab, SERVER, &message(8, 32, &[0, announced, 0x0700]));
        assert_eq!(refused, message(8, 32, &[0, own, 0x0700]));
        assert_eq!(expected(&lab.net), 0);
    }
}
