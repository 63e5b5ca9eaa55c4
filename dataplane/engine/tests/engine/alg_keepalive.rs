//! A control session that is silent while its data flow: other NATs on the way see a sign of it.

use std::time::Duration;

use crate::common::by_hand::{Session, segment, word};
use crate::common::packets::{ACK, SYN, tcp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const FTP: &str = "[alg.ftp]\nenabled = true\nkeepalive = \"60s\"\n";

/// A dialogue whose data session is open; its announced endpoint has been called.
fn transferring(toml: &str) -> Session {
    let mut session = Session::open(Net::with(toml, |_| {}));
    session.say(OUTSIDE, b"220 ready\r\n");
    let heard = String::from_utf8(session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n")).unwrap();
    session.say(OUTSIDE, b"200 ok\r\n");
    let n: Vec<u16> = heard.trim_end()[5..].split(',').map(|n| n.parse().unwrap()).collect();
    let announced = format!("203.0.113.{}:{}", n[3], n[4] * 256 + n[5]).parse().unwrap();
    let data =
        session.net.one(OUTSIDE, &tcp_between("198.51.100.1:20".parse().unwrap(), announced, SYN, b""));
    let answer = tcp_between(data.destination, data.source, SYN | ACK, b"");
    session.net.one(INSIDE, &answer);
    session
}

#[test]
fn both_ends_of_a_silent_control_session_are_probed_and_their_answers_swallowed() {
    let mut session = transferring(FTP);
    let mut probes = 0;
    for _ in 0..600 {
        for seen in session.net.advance(Duration::from_secs(1)) {
            probes += 1;
            let end = if seen.nic_port == INSIDE { &session.client } else { &session.server };
            assert_eq!((seen.tcp_flags, seen.payload.as_slice()), (ACK, &b""[..]));
            // Below what the end expects: it answers, and takes nothing in.
            assert_eq!((word(&seen, 4), word(&seen, 8)), (end.heard.wrapping_sub(1), end.next));
            let answer = segment(end, ACK, end.next, &[], b"");
            assert_eq!(session.net.send(end.wire, &answer), [], "the answer is not for the other end");
        }
    }
    assert!((2 * 9..=2 * 10).contains(&probes), "{probes} probes in ten minutes");
    // The dialogue goes on as if nothing had happened.
    assert_eq!(session.say(INSIDE, b"NOOP\r\n"), b"NOOP\r\n");
    assert_eq!(session.say(OUTSIDE, b"200 ok\r\n"), b"200 ok\r\n");
    assert_eq!(session.flows(), 1);
}

#[test]
fn a_dialogue_that_speaks_is_not_probed() {
    let mut session = transferring(FTP);
    for _ in 0..10 {
        for _ in 0..50 {
            assert_eq!(session.net.advance(Duration::from_secs(1)), []);
        }
        session.say(INSIDE, b"NOOP\r\n");
        session.say(OUTSIDE, b"200 ok\r\n");
    }
}

#[test]
fn nobody_is_probed_without_data_sessions_or_without_the_key() {
    let mut idle = Session::open(Net::with(FTP, |_| {}));
    idle.say(OUTSIDE, b"220 ready\r\n");
    let unasked = transferring("[alg.ftp]\nenabled = true\n");
    for mut session in [idle, unasked] {
        for _ in 0..300 {
            assert_eq!(session.net.advance(Duration::from_secs(1)), []);
        }
    }
}
