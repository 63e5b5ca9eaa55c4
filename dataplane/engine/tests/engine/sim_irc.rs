//! IRC through the engine: files and chats that a user inside offers to others (DCC).

use std::net::{Ipv4Addr, SocketAddrV4};

use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{ACK, SYN, at, tcp, tcp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};

const OTHER: &str = "198.51.100.7:3000";

/// A user inside that the server has welcomed.
fn welcomed(settings: &str, change: impl FnOnce(&mut algate_config::Config)) -> (Lab, Talk) {
    let net = Net::with(&format!("[alg.irc]\nenabled = true\n{settings}"), change);
    let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 3);
    let talk = Talk::open(&mut lab, (0, 4_000), at("203.0.113.50:6667"), (1, 6667));
    for (from, line) in [
        (SERVER, "NOTICE AUTH :*** Looking up your hostname\r\n"),
        (CLIENT, "NICK al\r\nUSER al 0 * :Al\r\n"),
        (SERVER, ":irc.example.net 001 al :Welcome\r\n"),
    ] {
        assert_eq!(say(&mut lab, &talk, from, line), line);
    }
    (lab, talk)
}

fn say(lab: &mut Lab, talk: &Talk, from: usize, line: &str) -> String {
    String::from_utf8(talk.say(lab, from, line.as_bytes())).unwrap()
}

fn offer(endpoint: &str) -> String {
    let endpoint = at(endpoint);
    format!("PRIVMSG bob :\x01DCC SEND a.txt {} {} 12\x01\r\n", u32::from(*endpoint.ip()), endpoint.port())
}

/// The endpoint in an offer.
#[track_caller]
fn offered(line: &str) -> SocketAddrV4 {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u32>().unwrap_or_else(|_| panic!("{line}"));
    SocketAddrV4::new(Ipv4Addr::from(number(5)), number(6) as u16)
}

fn expected(net: &Net) -> usize {
    net.engine.expectation_rows(net.now, usize::MAX).len()
}

#[test]
fn a_04_one_user_takes_up_an_offer_and_no_other() {
    let (mut lab, talk) = welcomed("", |_| {});
    let line = say(&mut lab, &talk, CLIENT, &offer("10.0.0.2:5000"));
    let announced = offered(&line);
    assert_eq!(line, offer(&announced.to_string()));
    assert_eq!((announced.ip(), expected(&lab.net)), (talk.client_seen.ip(), 1));
    let net = &mut lab.net;
    let taken = net.one(OUTSIDE, &tcp_between(at(OTHER), announced, SYN, b""));
    assert_eq!((taken.source, taken.destination), (at(OTHER), at("10.0.0.2:5000")));
    let accepted = net.one(INSIDE, &tcp("10.0.0.2:5000", OTHER, SYN | ACK));
    assert_eq!((accepted.source, accepted.destination), (announced, at(OTHER)));
    net.one(OUTSIDE, &tcp_between(at(OTHER), announced, ACK, b""));
    assert_eq!(expected(net), 0, "once");
    for stranger in ["198.51.100.8:3000", "198.51.100.7:3001", "203.0.113.50:3000"] {
        net.refused(OUTSIDE, &tcp_between(at(stranger), announced, SYN, b""), DropReason::NoMapping);
    }
    assert!(net.sessions().iter().any(|row| row.is_child && row.remote == at(OTHER)));
}

#[test]
fn a_04_a_file_is_fetched_from_a_user_outside() {
    let (mut lab, talk) = welcomed("", |_| {});
    let line = format!(":bob!b@example.net {}", offer(OTHER).replace("bob", "al"));
    assert_eq!(say(&mut lab, &talk, SERVER, &line), line, "another's offer stays as it is");
    assert_eq!(expected(&lab.net), 0);
    let out = lab.net.one(INSIDE, &tcp("10.0.0.2:40000", OTHER, SYN));
    let back = tcp_between(at(OTHER), out.source, SYN | ACK, b"");
    assert_eq!(lab.net.one(OUTSIDE, &back).destination, at("10.0.0.2:40000"));
}

#[test]
fn a_04_only_the_server_takes_an_offer_up_where_the_operator_says_so() {
    let (mut lab, talk) = welcomed("dcc_peer = \"server\"\n", |_| {});
    let announced = offered(&say(&mut lab, &talk, CLIENT, &offer("10.0.0.2:5000")));
    let other = tcp_between(at(OTHER), announced, SYN, b"");
    lab.net.refused(OUTSIDE, &other, DropReason::ExpectationPeer);
    let bot = tcp_between(at("203.0.113.50:3000"), announced, SYN, b"");
    assert_eq!(lab.net.one(OUTSIDE, &bot).destination, at("10.0.0.2:5000"));
}

#[test]
fn a_09_an_offer_ends_with_its_time_and_with_the_session() {
    let (mut lab, talk) = welcomed("expectation_lifetime = \"100s\"\n", |_| {});
    let announced = offered(&say(&mut lab, &talk, CLIENT, &offer("10.0.0.2:5000")));
    lab.net.advance(std::time::Duration::from_secs(101));
    assert_eq!(expected(&lab.net), 0);
    lab.net.refused(OUTSIDE, &tcp_between(at(OTHER), announced, SYN, b""), DropReason::NoMapping);
    say(&mut lab, &talk, CLIENT, &offer("10.0.0.2:5002"));
    talk.close(&mut lab);
    lab.net.advance(std::time::Duration::from_secs(1));
    assert_eq!(expected(&lab.net), 0);
}

/// CVE-2022-2663: a page or a server made the client repeat what the ALG then took for its own offer.
#[test]
fn s_03_what_the_server_makes_the_client_say_opens_nothing() {
    let (mut lab, talk) = welcomed("", |_| {});
    let inner = "\x01DCC SEND a.txt 167772162 5000 12\x01";
    for (from, line) in [
        (SERVER, format!("PING :{inner}\r\n")),
        (CLIENT, format!("PONG :{inner}\r\n")),
        (CLIENT, format!("PONG irc.example.net :x {inner}\r\n")),
        (CLIENT, format!("PRIVMSG bob :look {inner}\r\n")),
        (CLIENT, format!("QUIT :{inner}\r\n")),
        (SERVER, format!(":eve!e@x PRIVMSG al :{inner}\r\n")),
        (SERVER, format!("PRIVMSG bob :{inner}\r\n")),
    ] {
        assert_eq!(say(&mut lab, &talk, from, &line), line);
        assert_eq!(expected(&lab.net), 0, "{line}");
    }
}

#[test]
fn s_06_an_offer_for_another_host_or_a_service_opens_nothing() {
    let (mut lab, talk) = welcomed("", |_| {});
    for endpoint in ["10.0.0.3:5000", "198.51.100.9:5000", "127.0.0.1:5000", "10.0.0.2:22", "10.0.0.2:3389"] {
        let line = offer(endpoint);
        assert_eq!(say(&mut lab, &talk, CLIENT, &line), line);
        assert_eq!(expected(&lab.net), 0, "{endpoint}");
    }
}

#[test]
fn a_05_an_offer_is_read_however_it_is_cut() {
    let (mut lab, talk) = welcomed("", |_| {});
    let line = offer("10.0.0.2:5000");
    let mut want = None;
    for cut in 1..line.len() {
        let pieces = [&line.as_bytes()[..cut], &line.as_bytes()[cut..]];
        let read = String::from_utf8(talk.say_in_pieces(&mut lab, CLIENT, &pieces)).unwrap();
        assert_eq!(read, *want.get_or_insert_with(|| offer(&offered(&read).to_string())), "cut at {cut}");
    }
}
