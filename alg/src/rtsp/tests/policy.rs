//! What policy hides and refuses beyond whole requests.

use super::*;
use crate::contract::{Ruling, Verdict};
use crate::testing::FakePolicy;

fn last(driver: &Driver<Rtsp>) -> Option<Verdict> {
    driver.outcome().decided.last().map(|decided| decided.verdict)
}

#[test]
fn a_product_is_hidden_and_the_rest_of_the_message_is_translated_as_ever() {
    let mut driver = session(internal_client());
    driver.masks = |subject| subject.command == b"Server" || subject.argument.starts_with(b"Foo");
    let asked = setup(1, "RTP/AVP;client_port=5000-5001").replace("CSeq", "User-Agent: Foo/1 (x)\r\nCSeq");
    let answered = answer(1, "RTP/AVP;client_port=20000-20001;server_port=6000-6001")
        .replace("Session", "server: Bar/2\r\n x\r\nUser-Agent: Baz\r\nSession");
    feed(&mut driver, &[(C, &asked), (S, &answered)]);
    let want = asked.replace("5000-5001", "20000-20001").replace("Foo/1 (x)", "masked");
    assert_eq!(read(&driver, C), want);
    let want = answered.replace("20000-20001", "5000-5001").replace("Bar/2\r\n x", "masked");
    assert_eq!(read(&driver, S), want);
    assert_eq!(counted(&driver), [(Event::Rewritten, 2), (Event::Masked, 2)]);
}

#[test]
fn a_product_is_hidden_in_a_message_that_is_not_translated() {
    let mut driver = session(internal_client());
    driver.masks = |_| true;
    let foreign = setup(1, "RTP/AVP;destination=10.0.0.9;client_port=5000-5001");
    let long = "x".repeat(9000);
    let turns = [
        foreign.replace("CSeq", "User-Agent: a\r\nCSeq"),
        format!("PLAY a RTSP/1.0\r\nUser-Agent: masked\r\nContent-Length: 9000\r\n\r\n{long}"),
        format!("ANNOUNCE a RTSP/1.0\r\nUser-Agent: a\r\nContent-Length: 9000\r\n\r\nServer: {}", &long[8..]),
    ];
    turns.iter().for_each(|turn| feed(&mut driver, &[(C, turn)]));
    assert_eq!(read(&driver, C), turns.concat().replace("User-Agent: a\r", "User-Agent: masked\r"));
    assert_eq!(counted(&driver), [(Event::ForeignAddress, 1), (Event::Masked, 2)]);
}

#[test]
fn a_transport_that_does_not_parse_is_answered_with_461_where_policy_refuses_it() {
    let malformed = setup(3, "RTP/AVP;client_port=70000-70001");
    let mut driver = session(internal_client());
    feed(&mut driver, &[(C, &malformed)]);
    assert_eq!(read(&driver, C), malformed, "as it is, without a rule");
    for (ruling, answer) in
        [(Ruling::Deny, "RTSP/1.0 461 Unsupported transport\r\nCSeq: 3\r\n\r\n"), (Ruling::Drop, "")]
    {
        let mut driver = session(internal_client());
        driver.unreadable = match ruling {
            Ruling::Deny => |subject| if subject.command == b"SETUP" { Ruling::Deny } else { Ruling::Allow },
            _ => |_| Ruling::Drop,
        };
        feed(&mut driver, &[(C, &malformed)]);
        assert_eq!((read(&driver, C).as_str(), read(&driver, S).as_str()), ("", answer));
        assert_eq!(counted(&driver), [(Event::Malformed, 1), (Event::Removed, 1), (Event::Denied, 1)]);
    }
}

#[test]
fn a_head_that_cannot_be_read_ends_the_session_where_policy_refuses_the_request() {
    let heads = [
        format!("SETUP rtsp://a/secret RTSP/1.0\r\nX: {}", "x".repeat(9000)),
        "SETUP rtsp://a/secret RTSP/1.0\r\nContent-Length: x\r\n\r\n".to_owned(),
    ];
    for head in &heads {
        let mut driver = session(internal_client());
        feed(&mut driver, &[(C, head)]);
        assert_eq!(last(&driver), Some(Verdict::Detach));
        let mut driver = session(internal_client());
        driver.policy = FakePolicy(|subject| match subject.argument {
            b"rtsp://a/secret" => Ruling::Deny,
            _ => Ruling::Allow,
        });
        feed(&mut driver, &[(C, head)]);
        assert_eq!(last(&driver), Some(Verdict::Terminate), "a long head is no way round a rule");
        let mut driver = session(internal_client());
        driver.unreadable = |subject| if subject.command == b"SETUP" { Ruling::Drop } else { Ruling::Allow };
        feed(&mut driver, &[(C, head)]);
        assert_eq!(last(&driver), Some(Verdict::Terminate));
        assert_eq!(driver.count_of(Event::Denied), 1);
    }
}
