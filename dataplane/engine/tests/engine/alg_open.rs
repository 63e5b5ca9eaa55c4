//! Control sessions that do not begin with SYN and SYN-ACK: whichever way the handshake goes, the dialogue is read.

use crate::common::by_hand::{End, OPTIONS, Session, segment, word};
use crate::common::packets::{ACK, SYN, Seen, at};
use crate::common::{INSIDE, Net, OUTSIDE};

const FTP: &str = "[alg.ftp]\nenabled = true\n";

/// A client's SYN has gone out: both ends, who have not heard of each other yet.
fn asked() -> Session {
    let mut net = Net::with(FTP, |_| {});
    let mut client =
        End { own: at("10.0.0.2:4000"), peer: at("198.51.100.1:21"), next: 5_000, heard: 0, wire: INSIDE };
    let syn = net.one(INSIDE, &segment(&client, SYN, client.next, &OPTIONS, b""));
    client.next += 1;
    let server = End { own: client.peer, peer: syn.source, next: u32::MAX - 3, heard: 5_001, wire: OUTSIDE };
    Session { net, client, server }
}

/// The responder's own SYN, without an acknowledgement.
fn server_syn(session: &mut Session) -> Seen {
    let Session { net, client, server } = session;
    let seen = net.one(OUTSIDE, &segment(server, SYN, server.next, &OPTIONS, b""));
    server.next = server.next.wrapping_add(1);
    client.heard = server.next;
    seen
}

fn assert_is_read(mut session: Session) {
    assert_eq!(session.say(OUTSIDE, b"220 ready\r\n"), b"220 ready\r\n");
    assert!(session.say(INSIDE, b"PORT 10,0,0,2,15,161\r\n").starts_with(b"PORT 203,0,113,1"));
    assert_eq!(session.say(OUTSIDE, b"200 ok\r\n"), b"200 ok\r\n");
    assert_eq!((session.flows(), session.moved().1), (1, 0));
    assert_ne!(session.moved().0, 0);
}

#[test]
fn t_02_a_simultaneous_open_is_read() {
    let mut session = asked();
    assert_eq!(server_syn(&mut session).tcp_flags, SYN);
    let Session { net, client, server } = &mut session;
    let seen = net.one(INSIDE, &segment(client, SYN | ACK, 5_000, &OPTIONS, b""));
    assert_eq!((seen.tcp_flags, word(&seen, 8)), (SYN | ACK, server.next));
    let seen = net.one(OUTSIDE, &segment(server, SYN | ACK, server.next.wrapping_sub(1), &OPTIONS, b""));
    assert_eq!((seen.tcp_flags, word(&seen, 8)), (SYN | ACK, client.next));
    assert_is_read(session);
}

#[test]
fn a_simultaneous_open_with_bare_acknowledgements_is_read() {
    let mut session = asked();
    server_syn(&mut session);
    let Session { net, client, server } = &mut session;
    let seen = net.one(INSIDE, &segment(client, ACK, client.next, &[], b""));
    assert_eq!((seen.tcp_flags, word(&seen, 8)), (ACK, server.next));
    let seen = net.one(OUTSIDE, &segment(server, ACK, server.next, &[], b""));
    assert_eq!((seen.tcp_flags, word(&seen, 8)), (ACK, client.next));
    assert_is_read(session);
}

#[test]
fn a_split_handshake_is_read_and_changes_no_roles() {
    let mut session = asked();
    let early = segment(&session.server, ACK, session.server.next, &[], b"");
    assert_eq!(session.net.send(OUTSIDE, &early), []);
    server_syn(&mut session);
    let Session { net, client, server } = &mut session;
    net.one(INSIDE, &segment(client, SYN | ACK, 5_000, &OPTIONS, b""));
    net.one(OUTSIDE, &segment(server, ACK, server.next, &[], b""));
    assert_is_read(session);
}
