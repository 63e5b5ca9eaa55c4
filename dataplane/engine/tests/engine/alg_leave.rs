//! A control session that nobody reads any more goes on without its stage, its numbers moved by a constant.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;
use smoltcp::iface::SocketHandle;

use crate::common::by_hand::{End, OPTIONS, Session, segment, word};
use crate::common::hosts::{Faults, Host, Lab};
use crate::common::packets::{ACK, FIN, RST, SYN, at, icmp};
use crate::common::{INSIDE, Net, OUTSIDE};

/// Commands called SITE are taken out and answered, so that both directions move.
const FTP: &str = r#"
[alg.ftp]
enabled = true

[[alg.rule]]
name = "no-site"
alg = "ftp"
command = ["SITE"]
action = "deny"
"#;

const REFUSAL: &[u8] = b"502 Refused by policy.\r\n";

/// A grown command, a refused one, and TLS.
fn become_opaque(session: &mut Session) {
    session.say(OUTSIDE, b"220 ready\r\n");
    assert!(session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n").starts_with(b"PORT 203,0,113,1"));
    session.say(OUTSIDE, b"200 ok\r\n");
    assert_eq!(session.say(INSIDE, b"SITE x\r\n"), REFUSAL);
    session.say(INSIDE, b"AUTH TLS\r\n");
    assert_eq!(session.flows(), 1);
    session.say(OUTSIDE, b"234 go\r\n");
}

fn left() -> Session {
    let mut session = Session::open(Net::with(FTP, |_| {}));
    become_opaque(&mut session);
    assert_eq!(session.flows(), 0, "the stage has let go");
    assert!(!session.net.sessions()[0].is_alg);
    let (client, server) = session.moved();
    assert_eq!(server, REFUSAL.len() as u32);
    assert!(client != 0);
    session
}

#[test]
fn a_session_that_was_edited_leaves_with_its_numbers_moved() {
    let mut session = left();
    let before = session.net.total(|counters| &counters.alg.segments_in);
    let (client, server) = session.moved();
    for round in 0..20_u8 {
        // Both ends' numbers go through the wrap.
        assert_eq!(session.say(INSIDE, &[round; 5]), [round; 5]);
        assert_eq!(session.say(OUTSIDE, &[round; 7]), [round; 7]);
        assert_eq!(session.moved(), (client, server));
    }
    assert!(session.client.next < 1_000 && session.server.next < 1_000, "wrapped");
    assert_eq!(session.net.total(|counters| &counters.alg.segments_in), before);
}

#[test]
fn edges_of_sack_blocks_move_with_the_acknowledgement() {
    let mut session = left();
    let (client, server) = session.moved();
    for (end, by) in [(&session.server, client), (&session.client, server)] {
        let (left, right) = (end.heard.wrapping_add(100), end.heard.wrapping_add(200));
        let mut options = vec![1, 1, 5, 10];
        options.extend([left.to_be_bytes(), right.to_be_bytes()].concat());
        let seen = session.net.one(end.wire, &segment(end, ACK, end.next, &options, b""));
        assert_eq!(word(&seen, 8), end.heard.wrapping_sub(by));
        assert_eq!((word(&seen, 24), word(&seen, 28)), (left.wrapping_sub(by), right.wrapping_sub(by)));
    }
}

#[test]
fn a_reset_of_a_session_that_left_counts_inside_the_window_only() {
    let mut session = left();
    let (_, moved) = session.moved();
    let server = &session.server;
    let blind = segment(server, RST, server.next.wrapping_add(0x4000_0000), &[], b"");
    session.net.refused(OUTSIDE, &blind, DropReason::TcpRstOutOfWindow);
    let reset = session.net.one(OUTSIDE, &segment(server, RST, server.next, &[], b""));
    assert_eq!(word(&reset, 4), server.next.wrapping_add(moved));
    assert_eq!(word(&reset, 8), 0, "no acknowledgement, no number");
}

#[test]
fn an_icmp_error_about_a_session_that_left_speaks_of_the_senders_number() {
    let mut session = left();
    let client = &session.client;
    let out = session.net.one(INSIDE, &segment(client, ACK, client.next, &[], b"12345678"));
    let about = &out.packet[..48];
    let error = icmp("198.51.100.7", "203.0.113.10", (3, 4), [0, 0, 2, 88], about);
    // Whichever of the two addresses of the pool it is.
    let error = match out.source.ip().octets() {
        [.., 10] => error,
        _ => icmp("198.51.100.7", "203.0.113.11", (3, 4), [0, 0, 2, 88], about),
    };
    let seen = session.net.one(OUTSIDE, &error);
    assert_eq!(seen.destination.ip(), client.own.ip());
    assert_eq!(word(&seen.embedded(), 4), client.next);
    // One about a number that is not on its way is not believed.
    let mut forged = about.to_vec();
    forged[24..28].copy_from_slice(&word(&out, 4).wrapping_add(0x4000_0000).to_be_bytes());
    let forged = icmp("198.51.100.7", &out.source.ip().to_string(), (3, 4), [0, 0, 2, 88], &forged);
    session.net.refused(OUTSIDE, &forged, DropReason::IcmpOutOfWindow);
}

#[test]
fn a_session_stays_while_a_packet_of_it_is_on_its_way_to_the_core() {
    let mut session = Session::open(Net::with(FTP, |config| config.workers.alg_cores = vec![2]));
    become_opaque(&mut session);
    assert_eq!(session.flows(), 0);
    // The same with the last acknowledgement and what follows in one burst: the core reads the first while the second waits.
    let mut session = Session::open(Net::with(FTP, |config| config.workers.alg_cores = vec![2]));
    session.say(OUTSIDE, b"220 ready\r\n");
    session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n");
    session.say(OUTSIDE, b"200 ok\r\n");
    session.say(INSIDE, b"AUTH TLS\r\n");
    let server = &mut session.server;
    let seen = session.net.one(OUTSIDE, &segment(server, ACK, server.next, &[], b"234 go\r\n"));
    server.next = server.next.wrapping_add(8);
    let client = &mut session.client;
    client.heard = client.heard.wrapping_add(seen.payload.len() as u32);
    session.net.burst = 2;
    let frames = [b"one", b"two"].map(|text| {
        let frame = segment(client, ACK, client.next, &[], text);
        client.next = client.next.wrapping_add(3);
        frame
    });
    let seen = session.net.send_all(INSIDE, &frames);
    let texts: Vec<&[u8]> = seen.iter().map(|seen| seen.payload.as_slice()).collect();
    assert_eq!(texts, [b"one", b"two"]);
    assert_eq!(word(&seen[0], 4), session.server.heard);
    assert_eq!(word(&seen[1], 4), session.server.heard.wrapping_add(3));
    assert_eq!(session.flows(), 0);
}

/// Both ends close; the last segment is the client's acknowledgement.
fn close(session: &mut Session) {
    let Session { net, client, server } = session;
    let last = close_but_for_the_last(net, client, server);
    net.send(INSIDE, &last);
}

/// Both ends close; the client's last acknowledgement.
fn close_but_for_the_last(net: &mut Net, client: &mut End, server: &mut End) -> Vec<u8> {
    net.send(INSIDE, &segment(client, ACK | FIN, client.next, &[], b""));
    client.next = client.next.wrapping_add(1);
    server.heard = server.heard.wrapping_add(1);
    net.send(OUTSIDE, &segment(server, ACK | FIN, server.next, &[], b""));
    server.next = server.next.wrapping_add(1);
    client.heard = client.heard.wrapping_add(1);
    segment(client, ACK, client.next, &[], b"")
}

#[test]
fn a_closed_session_leaves_its_place_to_the_next_one() {
    let mut session = Session::open(Net::with(FTP, |config| config.tables.alg_flows = 1));
    session.say(OUTSIDE, b"220 ready\r\n");
    session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n");
    session.say(OUTSIDE, b"200 ok\r\n");
    assert_eq!(session.net.engine.expectation_rows(session.net.now, 9).len(), 1);
    close(&mut session);
    assert_eq!(session.flows(), 0);
    assert_eq!(
        session.net.engine.expectation_rows(session.net.now, 9).len(),
        0,
        "no data connection can come"
    );
    // Its last segments, repeated, still have the right numbers.
    let (moved, _) = session.moved();
    let Session { net, client, server } = &mut session;
    let fin = net.one(INSIDE, &segment(client, ACK | FIN, client.next.wrapping_sub(1), &[], b""));
    assert_eq!(word(&fin, 4), client.next.wrapping_sub(1).wrapping_add(moved));
    assert_eq!(word(&fin, 4), server.heard.wrapping_sub(1));
    // The next connection on the same addresses is read from its beginning.
    client.next = 7_000;
    let syn = net.one(INSIDE, &segment(client, SYN, client.next, &OPTIONS, b""));
    assert_eq!((word(&syn, 4), net.workers[0].alg_flows()), (7_000, 1));
    (client.next, server.heard, server.next) = (7_001, 7_001, 9_000);
    net.one(OUTSIDE, &segment(server, SYN | ACK, server.next, &OPTIONS, b""));
    (server.next, client.heard) = (9_001, 9_001);
    net.one(INSIDE, &segment(client, ACK, client.next, &[], b""));
    session.say(OUTSIDE, b"220 ready\r\n");
    assert!(session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n").starts_with(b"PORT 203,0,113,1"));
}

/// A client that has gone answers the server's end with a reset.
#[test]
fn a_session_that_is_reset_behind_both_ends_leaves_its_place_to_the_next_one() {
    let mut session = Session::open(Net::with(FTP, |config| config.tables.alg_flows = 1));
    session.say(OUTSIDE, b"220 ready\r\n");
    session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n");
    session.say(OUTSIDE, b"200 ok\r\n");
    let Session { net, client, server } = &mut session;
    let _ = close_but_for_the_last(net, client, server);
    assert_eq!(net.workers[0].alg_flows(), 1);
    net.one(INSIDE, &segment(client, RST, client.next, &[], b""));
    assert_eq!(net.workers[0].alg_flows(), 0);
    assert!(!net.sessions()[0].is_alg, "{:?}", net.sessions());
}

/// A core that has more to do at the moment the last acknowledgement comes: nothing follows it, or a reset only.
#[test]
fn a_closed_session_leaves_though_another_one_has_packets_on_their_way() {
    for is_reset in [false, true] {
        let mut session = Session::open(Net::with(FTP, |config| config.workers.alg_cores = vec![2]));
        session.say(OUTSIDE, b"220 ready\r\n");
        session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n");
        session.say(OUTSIDE, b"200 ok\r\n");
        let Session { net, mut client, mut server } = session;
        let mut other = Session::open_at(net, "10.0.0.3:4000");
        let net = &mut other.net;
        let mut frames = vec![close_but_for_the_last(net, &mut client, &mut server)];
        frames.extend(is_reset.then(|| segment(&client, RST, client.next, &[], b"")));
        frames.push(segment(&other.client, ACK, other.client.next, &[], b""));
        net.burst = frames.len();
        net.send_all(INSIDE, &frames);
        net.advance(Duration::from_secs(1));
        assert_eq!(net.workers.iter().map(|worker| worker.alg_flows()).sum::<usize>(), 1, "{is_reset}");
        assert_eq!(net.sessions().iter().filter(|row| row.is_alg).count(), 1, "{:?}", net.sessions());
    }
}

/// The timers of one control session are no packets of another.
#[test]
fn a_session_that_was_reset_ends_though_others_have_timers() {
    let mut session = Session::open(Net::with(FTP, |_| {}));
    let Session { net, client, .. } = &mut session;
    net.one(INSIDE, &segment(client, RST | ACK, client.next, &[], b""));
    assert_eq!(net.sessions().len(), 1);
    net.advance(Duration::from_secs(200));
    // Another client never hears that its command was refused: the stage repeats it, for minutes.
    let net = std::mem::replace(net, Net::new());
    let mut other = Session::open_at(net, "10.0.0.3:4000");
    other.say(OUTSIDE, b"220 ready\r\n");
    let refused = segment(&other.client, ACK, other.client.next, &[], b"SITE x\r\n");
    assert_eq!(other.net.send(INSIDE, &refused).len(), 1);
    let repeated = other.net.advance(Duration::from_secs(70));
    assert!(repeated.len() > 3, "{repeated:?}");
    assert_eq!(other.net.sessions().len(), 1, "{:?}", other.net.sessions());
}

/// Bytes that differ everywhere.
fn secret(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// A server that answers lines, and after `AUTH TLS` sends everything back.
struct Echo {
    socket: SocketHandle,
    line: Vec<u8>,
    is_secret: bool,
    is_greeted: bool,
}

impl Echo {
    fn turn(&mut self, host: &mut Host) {
        if !self.is_greeted && host.socket(self.socket).may_send() {
            self.is_greeted = true;
            host.socket(self.socket).send_slice(b"220 ready\r\n").unwrap();
        }
        self.line.extend(host.read(self.socket));
        while !self.is_secret
            && let Some(end) = self.line.iter().position(|byte| *byte == b'\n')
        {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.is_secret = line.starts_with(b"AUTH");
            let reply: &[u8] = if self.is_secret { b"234 go\r\n" } else { b"200 ok\r\n" };
            host.socket(self.socket).send_slice(reply).unwrap();
        }
        if self.is_secret && host.socket(self.socket).can_send() {
            let sent = host.socket(self.socket).send_slice(&self.line).unwrap();
            self.line.drain(..sent);
        }
    }
}

/// An edited dialogue, then 30,000 secret bytes there and back, between real TCP stacks.
fn echo(change: fn(&mut algate_config::Config), faults: Faults, seed: u64) {
    let mut lab = Lab::new(Net::with(FTP, change), [10, 0, 0, 2], faults, seed);
    let (server, client) = (lab.hosts[1].tcp(), lab.hosts[0].tcp());
    lab.hosts[1].listen(server, 21);
    lab.hosts[0].connect(client, at("203.0.113.50:21"), 3_999);
    let mut echo = Echo { socket: server, line: Vec::new(), is_secret: false, is_greeted: false };
    let mut got = Vec::new();
    let mut say = |lab: &mut Lab, text: &[u8], wanted: usize| {
        let mut unsent = text;
        got.clear();
        lab.run(300, |[inside, outside]| {
            echo.turn(outside);
            if inside.socket(client).can_send() {
                let sent = inside.socket(client).send_slice(unsent).unwrap();
                unsent = &unsent[sent..];
            }
            got.extend(inside.read(client));
            got.len() >= wanted
        });
        got.clone()
    };
    say(&mut lab, b"", 11);
    say(&mut lab, b"PORT 10,0,0,2,15,161\r\nSITE x\r\nNOOP\r\n", 8 + REFUSAL.len() + 8);
    assert_eq!(say(&mut lab, b"AUTH TLS\r\n", 8), b"234 go\r\n");
    let secret = secret(30_000);
    assert!(say(&mut lab, &secret, secret.len()) == secret, "seed {seed}");
    let flows: usize = lab.net.workers.iter().map(|worker| worker.alg_flows()).sum();
    assert_eq!(flows, 0, "seed {seed}: the session is still with its stage");
    assert!(!lab.net.sessions()[0].is_alg);
}

#[test]
fn secret_bytes_behind_an_edited_dialogue_arrive_over_bad_wires() {
    let places: [fn(&mut algate_config::Config); 3] =
        [|_| {}, |config| config.workers.cores = vec![1, 2], |config| config.workers.alg_cores = vec![2]];
    for place in places {
        echo(place, Faults::default(), 1);
    }
    for seed in 2..8 {
        let faults = Faults { lost: 30, repeated: 20, delayed: 50 };
        echo(places[seed as usize % 3], faults, seed);
    }
}
