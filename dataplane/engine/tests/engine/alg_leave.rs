//! A control session that nobody reads any more goes on without its stage, its numbers moved by a constant.

use std::net::SocketAddrV4;

use algate_engine::drop_reason::DropReason;
use etherparse::{PacketBuilder, TcpHeader};
use smoltcp::iface::SocketHandle;

use crate::common::hosts::{Faults, Host, Lab};
use crate::common::packets::{ACK, RST, SYN, Seen, at, icmp, mac_of};
use crate::common::{INSIDE, Net, OUTSIDE, ROUTER_MACS};

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

const CLIENT: &str = "10.0.0.2:4000";
const SERVER: &str = "198.51.100.1:21";
const REFUSAL: &[u8] = b"502 Refused by policy.\r\n";

/// One end, as it counts.
struct End {
    own: SocketAddrV4,
    peer: SocketAddrV4,
    next: u32,
    heard: u32,
    wire: u16,
}

/// A session by hand: what each end sends is what the other one's answers to it acknowledge.
struct Session {
    net: Net,
    client: End,
    server: End,
}

fn segment(end: &End, flags: u8, seq: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(end.own.port(), end.peer.port(), seq, 8_192);
    (header.syn, header.rst, header.ack) = (flags & SYN != 0, flags & RST != 0, flags & ACK != 0);
    header.acknowledgment_number = if header.ack { end.heard } else { 0 };
    header.set_options_raw(options).unwrap();
    let (source, destination) = (end.own.ip().octets(), end.peer.ip().octets());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac_of(source), ROUTER_MACS[usize::from(end.wire)])
        .ipv4(source, destination, 64)
        .tcp_header(header)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// The 32-bit word of a packet's TCP header at `at`.
fn word(seen: &Seen, at: usize) -> u32 {
    u32::from_be_bytes(seen.packet[20 + at..24 + at].try_into().unwrap())
}

impl Session {
    /// Open, with first numbers just below the wrap.
    fn open(mut net: Net) -> Self {
        let mut client =
            End { own: at(CLIENT), peer: at(SERVER), next: u32::MAX - 30, heard: 0, wire: INSIDE };
        let options = [2, 4, 5, 180, 4, 2, 3, 3, 2, 1, 1, 1];
        let syn = net.one(INSIDE, &segment(&client, SYN, client.next, &options, b""));
        client.next = client.next.wrapping_add(1);
        let mut server = End {
            own: at(SERVER),
            peer: syn.source,
            next: u32::MAX - 45,
            heard: word(&syn, 4).wrapping_add(1),
            wire: OUTSIDE,
        };
        net.one(OUTSIDE, &segment(&server, SYN | ACK, server.next, &options, b""));
        server.next = server.next.wrapping_add(1);
        client.heard = server.next;
        net.one(INSIDE, &segment(&client, ACK, client.next, &[], b""));
        Self { net, client, server }
    }

    /// Sends bytes from one end; what comes out is taken in at both, acknowledgements included.
    fn say(&mut self, wire: u16, text: &[u8]) -> Vec<u8> {
        let end = if wire == INSIDE { &mut self.client } else { &mut self.server };
        let frame = segment(end, ACK, end.next, &[], text);
        end.next = end.next.wrapping_add(text.len() as u32);
        let mut outgoing = vec![(wire, frame)];
        let mut said = Vec::new();
        while let Some((wire, frame)) = outgoing.pop() {
            for seen in self.net.send(wire, &frame) {
                let end = if seen.nic_port == INSIDE { &mut self.client } else { &mut self.server };
                if !seen.payload.is_empty() {
                    assert_eq!(word(&seen, 4), end.heard, "{seen:?}");
                    end.heard = end.heard.wrapping_add(seen.payload.len() as u32);
                    said.extend(&seen.payload);
                    outgoing.push((seen.nic_port, segment(end, ACK, end.next, &[], b"")));
                }
            }
        }
        said
    }

    /// Ends of both ends' streams as the other one counts: `(client's, server's)`.
    fn moved(&self) -> (u32, u32) {
        (self.server.heard.wrapping_sub(self.client.next), self.client.heard.wrapping_sub(self.server.next))
    }

    /// A grown command, a refused one, and TLS.
    fn become_opaque(&mut self) {
        self.say(OUTSIDE, b"220 ready\r\n");
        assert!(self.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n").starts_with(b"PORT 203,0,113,1"));
        self.say(OUTSIDE, b"200 ok\r\n");
        assert_eq!(self.say(INSIDE, b"SITE x\r\n"), REFUSAL);
        self.say(INSIDE, b"AUTH TLS\r\n");
        assert_eq!(self.flows(), 1);
        self.say(OUTSIDE, b"234 go\r\n");
    }

    fn flows(&self) -> usize {
        self.net.workers.iter().map(|worker| worker.alg_flows()).sum()
    }
}

fn left() -> Session {
    let mut session = Session::open(Net::with(FTP, |_| {}));
    session.become_opaque();
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
    session.become_opaque();
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
