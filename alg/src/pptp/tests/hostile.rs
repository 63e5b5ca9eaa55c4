//! What must open nothing, and bytes that are no PPTP at all.

use super::*;

#[test]
fn what_names_an_unknown_call_passes_unchanged_and_opens_nothing() {
    let rows = [
        (S, reply(500, 20_000, 1)),
        (C, incoming_reply(7, 500, 1)),
        (S, about_peer(11, 20_000)),
        (S, about_peer(14, 20_000)),
        (C, about_peer(15, 500)),
        (C, clear(7)),
        (S, disconnect(500)),
    ];
    for (direction, bytes) in rows {
        let mut driver = started(internal_client());
        assert_eq!(pass(&mut driver, direction, &bytes), bytes, "{}", bytes.escape_ascii());
        assert_eq!(counted(&driver), [(Event::OutOfPlace, 1)], "{}", bytes.escape_ascii());
        assert!(driver.nat.calls.is_empty());
    }
}

#[test]
fn a_call_is_answered_once() {
    let mut driver = started(internal_client());
    pass(&mut driver, C, &call(7));
    pass(&mut driver, S, &reply(500, 20_000, 1));
    assert_eq!(pass(&mut driver, S, &reply(500, 20_000, 1)), reply(500, 7, 1), "the same again");
    let other = reply(501, 20_000, 1);
    assert_eq!(pass(&mut driver, S, &other), other);
    assert_eq!(counted(&driver), [(Event::Rewritten, 3), (Event::OutOfPlace, 1)]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:7"), at("203.0.113.9:500")]);
}

#[test]
fn an_end_cannot_answer_its_own_call() {
    let mut driver = started(internal_client());
    pass(&mut driver, C, &call(7));
    let own = reply(8, 7, 1);
    assert_eq!(pass(&mut driver, C, &own), own);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:7")]);
}

#[test]
fn call_id_zero_is_one_like_others() {
    // pptpd gives it to its first call.
    let mut driver = started(internal_client());
    assert_ne!(pass(&mut driver, C, &call(0)), call(0));
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:0")]);
}

#[test]
fn a_message_of_another_size_passes_unread() {
    for (control_type, size) in [(7, 32), (7, 169), (8, 16), (9, 168), (10, 12), (13, 16), (5, 12)] {
        let mut driver = started(internal_client());
        let bytes = message(control_type, size, &[]);
        assert_eq!(pass(&mut driver, C, &bytes), bytes, "{control_type} of {size}");
        assert_eq!(counted(&driver), [(Event::Malformed, 1)], "{control_type} of {size}");
        assert!(driver.nat.calls.is_empty());
        assert_eq!(pass(&mut driver, C, &call(7)), call(20_000), "the session goes on");
    }
}

/// NAT slipstreaming, and what else opens a TCP session to port 1723.
#[test]
fn what_is_not_pptp_from_its_first_byte_is_never_read() {
    let rows: [Turn; 11] = [
        (C, b"POST / HTTP/1.1\r\n\r\n".to_vec()),
        (C, b"\x16\x03\x01\x02\x00".to_vec()),
        (C, vec![0]),
        (C, call(7)),
        (C, start_reply()),
        (C, message(1, 32, &[])),
        (C, message(1, 511, &[])),
        (C, [start_request(), b"\x00\x10\x00\x02".to_vec()].concat()),
        (C, [start_request(), b"\x02\x00".to_vec()].concat()),
        (S, start_reply()),
        (S, b"220 ready\r\n".to_vec()),
    ];
    for (direction, bytes) in rows {
        let mut driver = Driver::new(Pptp::new(PptpSettings::default()), internal_client());
        driver.feed(direction, &bytes);
        driver.feed(C, &start_request());
        driver.feed(S, &start_reply());
        driver.feed(C, &call(7));
        assert!(driver.outcome().original.ends_with(&call(7)));
        assert_eq!(counted(&driver), [(Event::Detached, 1)], "{}", bytes.escape_ascii());
        assert!(driver.nat.calls.is_empty(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_server_that_does_not_start_the_session_is_not_read() {
    let mut driver = Driver::new(Pptp::new(PptpSettings::default()), internal_client());
    driver.feed(C, &[start_request(), call(7)].concat());
    assert_eq!(driver.nat.open_targets().len(), 1);
    driver.feed(S, &reply(500, 20_000, 1));
    assert!(driver.nat.open_targets().is_empty(), "what was opened is withdrawn");
    assert_eq!(counted(&driver), [(Event::Rewritten, 1), (Event::Detached, 1)]);
}
