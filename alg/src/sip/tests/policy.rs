//! What the operator refuses.

use super::*;
use crate::contract::{Ruling, Subject};
use crate::testing::FakePolicy;

fn no_calls(subject: &Subject<'_>) -> Ruling {
    match (subject.command, subject.user) {
        (b"INVITE", b"alice") => Ruling::Allow,
        (b"INVITE" | b"ACK", _) => Ruling::Deny,
        (b"MESSAGE", _) => Ruling::Drop,
        _ => Ruling::Allow,
    }
}

#[test]
fn a_denied_request_is_answered_with_403_in_the_name_of_its_receiver() {
    let mut driver = udp(phone());
    driver.policy = FakePolicy(no_calls);
    let leaving = driver.datagram(O, &invite("p", "", &audio("10.0.0.2", 4000)));
    let [(R, answer)] = &leaving[..] else { panic!("{leaving:?}") };
    let answer = String::from_utf8(answer.clone()).unwrap();
    let (before, after) = answer
        .split_once(";tag=")
        .and_then(|(before, rest)| {
            let (_, rest) = rest.split_once("To: <sip:bob@example.com>;tag=")?;
            Some((before.to_owned(), rest.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()))
        })
        .unwrap();
    assert_eq!(
        before,
        "SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK776;rport\r\nFrom: \"Alice\" <sip:alice@10.0.0.2>"
    );
    assert_eq!(after, "\r\nCall-ID: p@10.0.0.2\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n");
    assert!(driver.datagram(O, &in_dialog("ACK", "p", "b")).is_empty(), "an ACK has no answer");
    assert!(driver.datagram(O, &in_dialog("MESSAGE", "p", "b")).is_empty(), "dropped without a word");
    assert!(driver.nat.calls.is_empty());
    assert_eq!(counted(&driver), [(Event::Removed, 3), (Event::Denied, 3)]);
}

#[test]
fn a_user_counts_once_the_registrar_has_accepted_it() {
    let register = |user: &str| {
        let text = String::from_utf8(in_dialog("REGISTER", user, "b")).unwrap();
        text.replace("alice@", &format!("{user}@")).replace("bob@", &format!("{user}@")).into_bytes()
    };
    let accepted = |user: &str, status: &str| {
        let text = String::from_utf8(response(status, user, "2 REGISTER", "b", "")).unwrap();
        let contact = format!("{user}@198.51.100.7:30000");
        text.replace("bob@203.0.113.77:5070", &contact)
            .replace("bob@example.com", &format!("{user}@example.com"))
    };
    let mut driver = udp(phone());
    driver.policy = FakePolicy(no_calls);
    driver.datagram(O, &register("alice"));
    driver.datagram(R, accepted("alice", "401 Unauthorized").as_bytes());
    assert_eq!(driver.datagram(O, &invite("p", "", ""))[0].0, R, "refused");
    driver.datagram(O, &register("alice"));
    driver.datagram(R, accepted("alice", "200 OK").as_bytes());
    assert_eq!(driver.datagram(O, &invite("p", "", ""))[0].0, O, "passes");
    assert_eq!(
        driver.datagram(R, &invite("p", "", ""))[0].0,
        O,
        "who is registered at the other end proves nothing"
    );
}

#[test]
fn a_denied_request_leaves_a_stream_and_its_answer_enters_the_other() {
    let mut driver = tcp(stream_phone());
    driver.policy = FakePolicy(no_calls);
    driver.feed(O, &invite("p", "", &audio("10.0.0.2", 4000)));
    driver.feed(O, &in_dialog("OPTIONS", "p", "b"));
    let outcome = driver.outcome();
    assert!(outcome.original.starts_with(b"OPTIONS "));
    assert!(outcome.reply.starts_with(b"SIP/2.0 403 Forbidden\r\n"));
}
