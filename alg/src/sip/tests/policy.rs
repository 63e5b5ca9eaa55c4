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

#[test]
fn a_product_is_hidden_and_what_cannot_be_read_is_refused_where_policy_says_so() {
    let mut driver = udp(phone());
    driver.masks = |subject| subject.command == b"User-Agent" && subject.argument == b"Foo 1.2";
    let sent = String::from_utf8(invite("p", "User-Agent: Foo 1.2\r\n", &audio("10.0.0.2", 4000))).unwrap();
    let leaving = driver.datagram(O, sent.as_bytes());
    let [(O, heard)] = &leaving[..] else { panic!("{leaving:?}") };
    let heard = String::from_utf8_lossy(heard);
    assert!(heard.contains("\r\nUser-Agent: masked\r\n") && !heard.contains("10.0.0.2:5060"), "{heard}");
    assert_eq!(counted(&driver), [(Event::Rewritten, 1), (Event::Masked, 1)]);

    driver.unreadable = |subject| if subject.command == b"INVITE" { Ruling::Deny } else { Ruling::Allow };
    let malformed = sent.replace("CSeq: 1", "CSeq: x");
    let leaving = driver.datagram(O, malformed.as_bytes());
    let answers: Vec<_> = leaving.iter().map(|(direction, bytes)| (*direction, &bytes[..12])).collect();
    assert_eq!(answers, [(R, &b"SIP/2.0 400 "[..])]);
    let info = malformed.replace("INVITE", "INFO");
    let leaving = driver.datagram(O, info.as_bytes());
    assert_eq!(leaving, [(O, info.replace("Foo 1.2", "masked").into_bytes())], "only INVITE is refused");
}
