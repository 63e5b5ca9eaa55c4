//! TFTP dialogues through [`Driver`], datagram by datagram.

use std::net::SocketAddrV4;
use std::time::Duration;

use proptest::prelude::*;

use super::{Tftp, TftpSettings};
use crate::contract::{
    Direction, Event, ExpectError, Expectation, ExpectationId, Peer, Protocol, Ruling, SessionEndpoints,
    Subject, Verdict,
};
use crate::testing::{Driver, FakePolicy, NatCall};

/// Client and server, as senders.
const C: Direction = Direction::Original;
const S: Direction = Direction::Reply;

/// As tftp-hpa sends it: octet, with options.
const RRQ: &[u8] = b"\0\x01pxelinux.0\0octet\0tsize\x000\0blksize\x001408\0";
const WRQ: &[u8] = b"\0\x02backup.cfg\0netascii\0";
const DATA: &[u8] = b"\0\x03\0\x01some bytes";
const ACK: &[u8] = b"\0\x04\0\0";
const ERROR: &[u8] = b"\0\x05\0\x01File not found\0";
const OACK: &[u8] = b"\0\x06tsize\x0026579\0blksize\x001408\0";

/// The port NAT announces: [`Driver`]'s counts up from 20,000.
fn endpoints() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("10.0.0.2:2070"),
        originator_seen: at("198.51.100.240:20000"),
        responder: at("203.0.113.9:69"),
        responder_seen: at("203.0.113.9:69"),
    }
}

/// An external client, an internal server behind a forward.
fn internal_server() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("203.0.113.50:40000"),
        originator_seen: at("203.0.113.50:40000"),
        responder: at("10.0.0.9:69"),
        responder_seen: at("198.51.100.7:69"),
    }
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn session(endpoints: SessionEndpoints) -> Driver<Tftp> {
    Driver::new(Tftp::new(TftpSettings::default()), endpoints)
}

fn counted(driver: &Driver<Tftp>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_request_expects_the_server_from_any_port_once() {
    for request in [RRQ, WRQ] {
        let mut driver = session(endpoints());
        assert_eq!(driver.datagram(C, request), [(C, request.to_vec())]);
        let asked = Expectation {
            protocol: Protocol::Udp,
            owner: C,
            target: at("10.0.0.2:2070"),
            peer: Peer::OtherEnd,
            peer_l4_port: None,
            uses: 1,
            lifetime: Duration::from_secs(60),
        };
        let calls = &driver.nat.calls;
        assert!(matches!(calls[..], [NatCall::Expect(expected, Ok(_))] if expected == asked), "{calls:?}");
        assert_eq!(counted(&driver), []);
    }
}

#[test]
fn the_client_of_an_internal_server_is_expected_at_its_own_endpoint() {
    let mut driver = session(internal_server());
    driver.datagram(C, RRQ);
    assert_eq!(driver.nat.open_targets(), [at("203.0.113.50:40000")]);
}

#[test]
fn requests_are_told_from_what_is_none() {
    let long: Vec<u8> = [b"\0\x01".as_slice(), &[b'a'; 504], b"\0octet\0"].concat();
    let longest = [b"\0\x01".as_slice(), &[b'a'; 503], b"\0octet\0"].concat();
    let padded = [WRQ, &[0; 100]].concat();
    for (name, datagram, is_request) in [
        ("with options", RRQ, true),
        ("without options", WRQ, true),
        ("a mode in capitals", b"\0\x01f\0OcTeT\0", true),
        ("the mode of RFC 783", b"\0\x02user\0mail\0", true),
        ("a file name in another script", b"\0\x01\xe7\x89\x88\0octet\0", true),
        ("zeros behind it", &padded, true),
        ("512 bytes", &longest, true),
        ("513 bytes", &long, false),
        ("an unknown mode", b"\0\x01f\0binary\0", false),
        ("no mode", b"\0\x01f\0", false),
        ("no file name", b"\0\x01\0octet\0", false),
        ("a mode that does not end", b"\0\x01f\0octet", false),
        ("an option without value", b"\0\x01f\0octet\0tsize\0", false),
        ("an option without end", b"\0\x01f\0octet\0tsize\x000", false),
        ("opcode 0", b"\0\0f\0octet\0", false),
        ("opcode 257", b"\x01\x01f\0octet\0", false),
        ("one byte", b"\0", false),
        ("data", DATA, false),
        ("an error", ERROR, false),
        ("a DNS query", b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\0\0\x01\0\x01", false),
    ] {
        let mut driver = session(endpoints());
        assert_eq!(driver.datagram(C, datagram), [(C, datagram.to_vec())], "{name}");
        let verdict = if is_request { Verdict::Pass } else { Verdict::Detach };
        assert_eq!(driver.outcome().decided[0].verdict, verdict, "{name}");
        assert_eq!(driver.nat.calls.len(), usize::from(is_request), "{name}");
        assert_eq!(driver.count_of(Event::Detached), u64::from(!is_request), "{name}");
    }
}

/// RFC 2347 with the options of RFC 2348, 2349 and 7440, and of RFC 2090, whose group nobody joins here.
#[test]
fn options_pass_in_both_directions_and_on_both_sides_and_change_nothing() {
    let options: [(&[u8], &[u8]); 6] = [
        (b"blksize\x001428\0", b"blksize\x001428\0"),
        (b"BLKSIZE\x0065464\0tsize\x000\0", b"tsize\x00673312\0"),
        (b"timeout\x001\0windowsize\x0016\0", b"windowsize\x0016\0"),
        (b"multicast\0\0", b"multicast\x00224.100.100.100,1758,1\0"),
        (b"x-unknown\0y\0", b""),
        (b"", b""),
    ];
    for side in [endpoints(), internal_server()] {
        for opcode in [1, 2] {
            for (asked, acknowledged) in options {
                let request = [&[0, opcode], b"f\0octet\0".as_slice(), asked].concat();
                let answer = [b"\0\x06".as_slice(), acknowledged].concat();
                let refusal = b"\0\x05\0\x08Option refused\0";
                let mut driver = session(side);
                for (direction, datagram) in [(C, &request[..]), (S, &answer[..]), (C, ACK), (S, DATA)] {
                    assert_eq!(driver.datagram(direction, datagram), [(direction, datagram.to_vec())]);
                }
                assert_eq!(driver.nat.open_targets().len(), 1);
                assert_eq!(driver.datagram(C, refusal), [(C, refusal.to_vec())]);
                assert_eq!(driver.nat.open_targets().len(), 0, "the client takes none of them");
            }
        }
    }
}

#[test]
fn answers_from_port_69_itself_pass() {
    let mut driver = session(endpoints());
    for (direction, datagram) in [(C, RRQ), (S, OACK), (C, ACK), (S, DATA), (C, ACK)] {
        assert_eq!(driver.datagram(direction, datagram), [(direction, datagram.to_vec())]);
    }
    assert_eq!((counted(&driver), driver.nat.calls.len()), (vec![], 1));
}

#[test]
fn an_error_withdraws_what_was_expected_whoever_sends_it() {
    for from in [C, S] {
        let mut driver = session(endpoints());
        driver.datagram(C, RRQ);
        driver.datagram(from, ERROR);
        driver.datagram(from, ERROR);
        let withdrawn = [NatCall::Withdraw(ExpectationId(1))];
        assert_eq!(driver.nat.calls[1..], withdrawn, "once");
        assert_eq!(driver.nat.open_targets(), []);
    }
}

#[test]
fn a_request_may_be_repeated_and_followed_by_another() {
    let mut driver = session(endpoints());
    for request in [RRQ, RRQ, WRQ] {
        driver.datagram(C, request);
    }
    assert_eq!((driver.nat.calls.len(), driver.nat.open_targets().len()), (3, 1));
}

#[test]
fn what_is_no_tftp_after_a_request_is_counted_and_passes() {
    let mut driver = session(endpoints());
    driver.datagram(C, RRQ);
    assert_eq!(driver.datagram(C, b"GET / HTTP/1.1"), [(C, b"GET / HTTP/1.1".to_vec())]);
    assert_eq!(counted(&driver), [(Event::Malformed, 1)]);
}

#[test]
fn a_privileged_port_and_a_refusal_open_nothing_and_are_counted() {
    let mut driver = session(SessionEndpoints { originator: at("10.0.0.2:514"), ..endpoints() });
    driver.datagram(C, RRQ);
    assert_eq!((counted(&driver), driver.nat.calls.len()), (vec![(Event::PrivilegedPort, 1)], 0));

    let mut driver = session(endpoints());
    driver.nat.refusal = Some(ExpectError::TableFull);
    assert_eq!(driver.datagram(C, RRQ), [(C, RRQ.to_vec())]);
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 1)]);
}

#[test]
fn another_endpoint_than_the_server_sees_is_of_no_use() {
    let mut driver = session(SessionEndpoints { originator_seen: at("198.51.100.240:50000"), ..endpoints() });
    driver.datagram(C, RRQ);
    assert_eq!(
        (counted(&driver), driver.nat.open_targets().len()),
        (vec![(Event::ExpectationRefused, 1)], 0)
    );
}

#[test]
fn policy_sees_command_and_file_and_answers_with_the_protocols_error() {
    let judge = |subject: &Subject<'_>| match (subject.command, subject.argument) {
        (b"RRQ", b"pxelinux.0") => Ruling::Allow,
        (b"WRQ", _) => Ruling::Deny,
        _ => Ruling::Drop,
    };
    let mut driver = session(endpoints());
    driver.policy = FakePolicy(judge);
    assert_eq!(driver.datagram(C, WRQ), [(S, b"\0\x05\0\x02Access violation\0".to_vec())]);
    assert_eq!(driver.datagram(C, b"\0\x01/etc/passwd\0octet\0"), []);
    assert_eq!(driver.nat.calls, []);
    assert_eq!(counted(&driver), [(Event::Removed, 2), (Event::Denied, 2)]);
    assert_eq!(driver.datagram(C, RRQ), [(C, RRQ.to_vec())]);
    assert_eq!(driver.nat.open_targets().len(), 1);
}

#[test]
fn a_malformed_request_is_answered_with_error_4_where_policy_refuses_it() {
    const NO_MODE: &[u8] = b"\0\x01a\0sometimes\0";
    const ILLEGAL: &[u8] = b"\0\x05\0\x04Illegal TFTP operation\0";
    let mut driver = session(endpoints());
    driver.unreadable = |subject| match subject.command {
        b"RRQ" => Ruling::Deny,
        _ => Ruling::Drop,
    };
    assert_eq!(driver.datagram(C, NO_MODE), [(S, ILLEGAL.to_vec())]);
    assert_eq!(driver.datagram(C, RRQ), [(C, RRQ.to_vec())], "the session is read on");
    assert_eq!(driver.datagram(C, b"\0\x02a\0"), [], "dropped without a word");
    assert_eq!(driver.datagram(C, b"\0\x09a"), []);
    assert_eq!(counted(&driver), [(Event::Malformed, 3), (Event::Removed, 3), (Event::Denied, 3)]);
}

proptest! {
    #[test]
    fn whatever_comes_passes_unchanged_and_only_requests_open(
        datagrams in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 1..600), 0_u8..8), 1..12,
        ),
    ) {
        let mut driver = session(endpoints());
        for (from_server, mut bytes, opcode) in datagrams {
            if bytes.len() > 1 && opcode < 7 {
                bytes[0] = 0;
                bytes[1] = opcode;
            }
            let direction = if from_server { S } else { C };
            let before = driver.nat.calls.len();
            prop_assert_eq!(driver.datagram(direction, &bytes), vec![(direction, bytes.clone())]);
            let asked = matches!(driver.nat.calls[before..], [NatCall::Expect(..)]);
            prop_assert!(!asked || (direction == C && super::request::parse(&bytes).is_some()));
        }
    }

    #[test]
    fn a_request_made_of_any_texts_reads_back(
        name in "[^\0]{1,40}", options in proptest::collection::vec(("[a-z]{1,8}", "[0-9]{1,5}"), 0..6), writes in any::<bool>(),
    ) {
        let mut datagram = vec![0, if writes { 2 } else { 1 }];
        let texts = [name.as_str(), "octet"].into_iter().chain(options.iter().flat_map(|(a, b)| [a.as_str(), b]));
        for text in texts {
            datagram.extend(text.as_bytes());
            datagram.push(0);
        }
        let request = super::request::parse(&datagram);
        prop_assert_eq!(request.map(|request| request.file_name), Some(name.as_bytes()));
    }
}
