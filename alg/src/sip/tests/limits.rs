//! Trunks: hundreds of calls over one signalling flow, and what happens at the limits.

use super::*;
use crate::contract::Protocol;

/// A private exchange over one flow that may have `calls`.
fn trunk(calls: usize) -> Driver<Sip> {
    let settings = SipSettings { calls, calls_per_flow: calls, ..SipSettings::default() };
    Driver::new(sip(settings, Protocol::Udp), phone())
}

fn begin(driver: &mut Driver<Sip>, call: u16) {
    let name = format!("t{call}");
    let got = through(driver, O, &invite(&name, "", &audio("10.0.0.2", 4000 + 2 * call)));
    assert!(!got.contains("c=IN IP4 10.0.0.2"), "{call}: {got}");
}

fn answered(driver: &mut Driver<Sip>, call: u16) {
    let tag = format!("b{call}");
    let body = audio("203.0.113.77", 7000);
    through(driver, R, &response("200 OK", &format!("t{call}"), "1 INVITE", &tag, &body));
}

fn hang_up(driver: &mut Driver<Sip>, call: u16) {
    through(driver, O, &in_dialog("BYE", &format!("t{call}"), &format!("b{call}")));
}

#[test]
fn a_trunk_knows_the_ends_of_a_thousand_calls_at_a_time() {
    let mut driver = trunk(1_000);
    for call in 0..1_000 {
        begin(&mut driver, call);
        answered(&mut driver, call);
    }
    assert_eq!(open(&driver).len(), 2_000);
    for call in (0..1_000).step_by(2) {
        hang_up(&mut driver, call);
    }
    let left = driver.nat.open_targets();
    assert!(left.len() == 1_000 && left.iter().all(|target| target.port() % 4 >= 2), "{left:?}");
    for call in (1..1_000).step_by(2) {
        hang_up(&mut driver, call);
    }
    assert!(open(&driver).is_empty());
}

#[test]
fn beyond_the_limit_an_unanswered_call_makes_room_and_answered_ones_go_on() {
    let mut driver = trunk(8);
    for call in 0..7 {
        begin(&mut driver, call);
        answered(&mut driver, call);
    }
    begin(&mut driver, 7);
    begin(&mut driver, 8);
    assert!(!driver.nat.open_targets().contains(&at("10.0.0.2:4014")), "nobody had answered the eighth");
    answered(&mut driver, 8);
    begin(&mut driver, 9);
    // The first one was forgotten; its media are left to their lifetime, for it goes on.
    assert!(driver.nat.open_targets().contains(&at("10.0.0.2:4000")));
    for call in 0..9 {
        hang_up(&mut driver, call);
    }
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001", "10.0.0.2:4018", "10.0.0.2:4019"]);
    through(&mut driver, R, &response("487 Request Terminated", "t9", "1 INVITE", "b9", ""));
    assert_eq!(open(&driver).len(), 2);
}

#[test]
fn a_flow_that_ends_leaves_its_calls_to_others() {
    let mut table = Some(Box::new(crate::CallTable::new(2, 60, 64)));
    for round in 0..50 {
        let mut flow = Sip::new(SipSettings::default(), Protocol::Udp);
        flow.lend(&mut table);
        let mut driver = Driver::new(flow, phone());
        for call in 0..64 {
            begin(&mut driver, call);
        }
        let mut flow = driver.into_alg();
        flow.lend(&mut table);
        let calls = table.as_deref_mut().unwrap();
        assert_eq!(calls.len(), 64, "{round}");
        flow.end(calls);
        assert!(calls.is_empty(), "{round}");
    }
}

#[test]
fn without_memory_for_calls_messages_pass_as_they_are() {
    let mut driver = Driver::new(Sip::new(SipSettings::default(), Protocol::Udp), phone());
    let text = invite("none", "", &audio("10.0.0.2", 4000));
    same(&through(&mut driver, O, &text), &text);
    assert_eq!(counted(&driver), [(Event::TooManyOutstanding, 1)]);
}

/// An exchange with more users than are remembered is reachable until the registrar's grant is over.
#[test]
fn a_flow_with_hundreds_of_registered_users_is_held() {
    let mut driver = udp(phone());
    let register = |user: u16, expires: u32| {
        message(
            &format!(
                "REGISTER sip:example.com SIP/2.0
                Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKr
                From: <sip:u{user}@example.com>;tag=1
                To: <sip:u{user}@example.com>
                Call-ID: r{user}
                CSeq: 1 REGISTER
                Contact: <sip:u{user}@10.0.0.2>;expires={expires}"
            ),
            "",
        )
    };
    let granted = |user: u16, expires: u32| {
        let contact = if expires > 0 {
            format!("Contact: <sip:u{user}@198.51.100.7:30000>;expires={expires}")
        } else {
            String::new()
        };
        message(
            &format!(
                "SIP/2.0 200 OK
                Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bKr
                From: <sip:u{user}@example.com>;tag=1
                To: <sip:u{user}@example.com>;tag=2
                Call-ID: r{user}
                CSeq: 1 REGISTER
                {contact}"
            ),
            "",
        )
    };
    for user in 0..50 {
        through(&mut driver, O, &register(user, 600));
    }
    for user in 0..50 {
        through(&mut driver, R, &granted(user, 600));
    }
    assert_eq!(driver.count_of(Event::OutOfPlace), 0, "fifty at once");
    for user in 0..50 {
        through(&mut driver, O, &register(user, 0));
        assert_eq!(open(&driver), ["10.0.0.2:5060"], "{user} others are there");
        through(&mut driver, R, &granted(user, 0));
    }
    assert!(open(&driver).is_empty(), "the last has gone");
    for user in 0..300 {
        through(&mut driver, O, &register(user, 600));
        through(&mut driver, R, &granted(user, 600));
    }
    for user in 200..300 {
        through(&mut driver, O, &register(user, 0));
        through(&mut driver, R, &granted(user, 0));
    }
    assert_eq!(open(&driver), ["10.0.0.2:5060"], "two hundred are still registered");
}
