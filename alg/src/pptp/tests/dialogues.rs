//! What is legal: the life of calls in both roles, at both sides.

use std::time::Duration;

use super::*;
use crate::contract::{ExpectError, Expectation, ExpectationId, Peer, Protocol, Ruling};
use crate::testing::{FakePolicy, NatCall};

#[test]
fn an_internal_client_calls_and_hangs_up() {
    let mut driver = started(internal_client());
    assert_eq!(pass(&mut driver, C, &call(7)), call(20_000));
    assert_eq!(pass(&mut driver, S, &reply(500, 20_000, 1)), reply(500, 7, 1));
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:7"), at("203.0.113.9:500")]);
    assert_eq!(pass(&mut driver, C, &about_peer(15, 500)), about_peer(15, 500));
    assert_eq!(pass(&mut driver, S, &about_peer(15, 20_000)), about_peer(15, 7));
    assert_eq!(pass(&mut driver, S, &about_peer(14, 20_000)), about_peer(14, 7));
    assert_eq!(pass(&mut driver, C, &clear(7)), clear(20_000));
    assert_eq!(driver.nat.open_targets().len(), 2, "it is not over before the other end says so");
    assert_eq!(pass(&mut driver, S, &disconnect(500)), disconnect(500));
    assert!(driver.nat.open_targets().is_empty());
    assert_eq!(counted(&driver), [(Event::Rewritten, 5)]);
}

#[test]
fn an_internal_server_is_called() {
    let mut driver = started(internal_server());
    assert_eq!(pass(&mut driver, C, &call(7)), call(7));
    assert_eq!(pass(&mut driver, S, &reply(500, 7, 1)), reply(20_000, 7, 1));
    assert_eq!(driver.nat.open_targets(), [at("203.0.113.50:7"), at("10.0.0.9:500")]);
    assert_eq!(pass(&mut driver, C, &about_peer(15, 20_000)), about_peer(15, 500));
    assert_eq!(pass(&mut driver, C, &clear(7)), clear(7));
    assert_eq!(pass(&mut driver, S, &disconnect(500)), disconnect(20_000));
    assert!(driver.nat.open_targets().is_empty());
}

#[test]
fn two_internal_hosts_reach_each_other_through_their_external_endpoints() {
    let mut endpoints = internal_client();
    (endpoints.responder, endpoints.responder_seen) =
        (internal_server().responder, internal_server().responder_seen);
    let mut driver = started(endpoints);
    assert_eq!(pass(&mut driver, C, &call(7)), call(20_000));
    assert_eq!(pass(&mut driver, S, &reply(7, 20_000, 1)), reply(20_001, 7, 1));
    assert_eq!(pass(&mut driver, C, &about_peer(15, 20_001)), about_peer(15, 7));
    assert_eq!(pass(&mut driver, S, &disconnect(7)), disconnect(20_001));
    assert!(driver.nat.open_targets().is_empty());
}

#[test]
fn a_server_that_disconnects_by_the_client_s_number_is_understood() {
    let mut driver = started(internal_client());
    pass(&mut driver, C, &call(7));
    pass(&mut driver, S, &reply(500, 20_000, 1));
    assert_eq!(pass(&mut driver, S, &disconnect(20_000)), disconnect(7));
    assert!(driver.nat.open_targets().is_empty());
}

#[test]
fn a_call_may_come_from_the_server() {
    let mut driver = started(internal_client());
    assert_eq!(pass(&mut driver, S, &incoming(500)), incoming(500));
    assert_eq!(pass(&mut driver, C, &incoming_reply(7, 500, 1)), incoming_reply(20_000, 500, 1));
    assert_eq!(pass(&mut driver, S, &about_peer(11, 20_000)), about_peer(11, 7));
    assert_eq!(driver.nat.open_targets(), [at("203.0.113.9:500"), at("10.0.0.2:7")]);
    // An internal concentrator that opens the control session asks for incoming calls itself.
    assert_eq!(pass(&mut driver, C, &incoming(8)), incoming(20_001));
    assert_eq!(pass(&mut driver, S, &incoming_reply(501, 20_001, 1)), incoming_reply(501, 8, 1));
    assert_eq!(pass(&mut driver, C, &about_peer(11, 501)), about_peer(11, 501));
    assert_eq!(pass(&mut driver, C, &disconnect(8)), disconnect(20_001));
    assert_eq!(driver.nat.open_targets(), [at("203.0.113.9:500"), at("10.0.0.2:7")]);
}

#[test]
fn sixteen_calls_have_one_control_session() {
    let mut driver = started(internal_client());
    for number in 0..16 {
        assert_eq!(pass(&mut driver, C, &call(number + 1)), call(20_000 + number));
    }
    // Answered in another order.
    for number in (0..16).rev() {
        let seen = pass(&mut driver, S, &reply(500 + number, 20_000 + number, 1));
        assert_eq!(seen, reply(500 + number, number + 1, 1));
    }
    assert_eq!(driver.nat.open_targets().len(), 32);
    assert_eq!(pass(&mut driver, C, &call(17)), call(17), "one more passes unchanged");
    assert_eq!(driver.count_of(Event::ExpectationRefused), 1);
    pass(&mut driver, S, &disconnect(503));
    assert_eq!(driver.nat.open_targets().len(), 30);
    assert_eq!(pass(&mut driver, C, &call(17)), call(20_016));
    pass(&mut driver, S, &message(4, 16, &[0x0100]));
    assert!(driver.nat.open_targets().is_empty(), "Stop-Control-Connection-Reply ends them all");
}

#[test]
fn a_refused_call_is_forgotten_and_its_number_free_again() {
    let mut driver = started(internal_client());
    pass(&mut driver, C, &call(7));
    assert_eq!(pass(&mut driver, S, &reply(0, 20_000, 4)), reply(0, 7, 4));
    assert!(driver.nat.open_targets().is_empty());
    assert_eq!(pass(&mut driver, C, &call(7)), call(20_001));
    assert_eq!(pass(&mut driver, C, &call(7)), call(20_002), "asked for again without an answer");
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:7")]);
}

#[test]
fn asks_for_gre_from_the_other_end_and_keeps_it_by_echoes() {
    let lifetime = Duration::from_secs(77);
    let mut driver =
        Driver::new(Pptp::new(PptpSettings { expectation_lifetime: lifetime }), internal_client());
    driver.feed(C, &start_request());
    driver.feed(S, &start_reply());
    driver.feed(C, &call(7));
    let want = Expectation {
        protocol: Protocol::Gre,
        owner: C,
        target: at("10.0.0.2:7"),
        peer: Peer::OtherEnd,
        peer_l4_port: None,
        uses: u16::MAX,
        lifetime,
    };
    assert!(matches!(driver.nat.calls[..], [NatCall::Expect(seen, Ok(_))] if seen == want));
    for direction in [C, S] {
        driver.feed(direction, &message(5, 16, &[1, 2]));
        assert_eq!(driver.nat.calls.last(), Some(&NatCall::Renew(ExpectationId(1), lifetime, None, true)));
    }
    assert_eq!(driver.nat.calls.len(), 3);
}

#[test]
fn a_refusal_by_nat_passes_the_call_unchanged() {
    let mut driver = started(internal_client());
    driver.nat.refusal = Some(ExpectError::PoolExhausted);
    assert_eq!(pass(&mut driver, C, &call(7)), call(7));
    assert_eq!(pass(&mut driver, S, &reply(500, 7, 1)), reply(500, 7, 1));
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 2)]);
}

#[test]
fn messages_about_nothing_of_ours_pass_byte_equal() {
    let mut driver = started(internal_client());
    for (control_type, size) in [(3, 16), (6, 20), (16, 12), (99, 200), (0, 511)] {
        let bytes = message(control_type, size, &[]);
        for direction in [C, S] {
            assert_eq!(pass(&mut driver, direction, &bytes), bytes, "{control_type}");
        }
    }
    assert_eq!(counted(&driver), []);
}

#[test]
fn what_policy_refuses_is_answered_in_its_own_size() {
    let mut driver = started(internal_client());
    driver.policy = FakePolicy(|subject| match (subject.command, subject.argument) {
        (b"Outgoing-Call-Request", b"0900") => Ruling::Deny,
        (b"Incoming-Call-Request", _) if subject.direction == S => Ruling::Deny,
        (b"Incoming-Call-Request", _) => Ruling::Drop,
        _ => Ruling::Allow,
    });
    let mut dialled = call(7);
    dialled[36..38].copy_from_slice(&[0, 4]);
    dialled[40..44].copy_from_slice(b"0900");
    assert_eq!(pass(&mut driver, C, &dialled), b"");
    assert_eq!(pass(&mut driver, S, &incoming(500)), b"");
    assert_eq!(pass(&mut driver, C, &incoming(8)), b"");
    let refused = |control_type: u16, size: u16, peer: u16, result: u8| {
        let mut bytes = message(control_type, size, &[0, peer, u16::from_be_bytes([result, 0])]);
        bytes[18..].fill(0);
        bytes
    };
    assert_eq!(driver.outcome().reply, [start_reply(), refused(8, 32, 7, 7)].concat());
    assert_eq!(driver.outcome().original, [start_request(), refused(10, 24, 500, 3)].concat());
    assert_eq!(counted(&driver), [(Event::Removed, 3), (Event::Denied, 3)]);
    assert_eq!(pass(&mut driver, C, &call(9)), call(20_000));
}

#[test]
fn a_session_that_policy_refuses_is_told_so() {
    let mut driver = Driver::new(Pptp::new(PptpSettings::default()), internal_client());
    driver.policy = FakePolicy(|_| Ruling::Deny);
    driver.feed(C, &start_request());
    let outcome = driver.outcome();
    assert!(outcome.original.is_empty());
    let mut want = message(2, 156, &[0x0100, 0x0400]);
    want[16..].fill(0);
    assert_eq!(outcome.reply, want);
}
