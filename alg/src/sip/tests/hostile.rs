//! What attackers send, from either side.

use super::*;

/// An unasked registration of a service port, as slipstreaming smuggles it.
const REGISTER: &str = "REGISTER sip:203.0.113.5;transport=TCP SIP/2.0\r\n\
    Via: SIP/2.0/TCP 10.0.0.2:8888;branch=I9hG4bK-d8754z-c2ac7de1b3ce90f7-1---d8754z-;rport;transport=TCP\r\n\
    Max-Forwards: 70\r\nContact: <sip:samy@10.0.0.2:8888;rinstance=v40f3f83b335139c;transport=TCP>\r\n\
    To: <sip:samy@example.com;transport=TCP>\r\nFrom: <sip:samy@example.com;transport=TCP>;tag=U7c3d519\r\n\
    Call-ID: aaaaaaaaaaaaaaaaa0404aaaaaaaaaaaabbbbbbZjQ4M2M.\r\nCSeq: 1 REGISTER\r\nExpires: 70\r\n\
    Allow: REGISTER, INVITE, ACK, CANCEL, BYE\r\nContent-Length: 0\r\n\r\n";

#[test]
fn s_04_a_length_beyond_32_bits_does_not_make_a_second_message() {
    // 2^32 + 32: cut to 32 bits, the tail would be read as a message of its own.
    let text = String::from_utf8(invite("n", "", "")).unwrap();
    let text = text.replace("Content-Length: 0", "Content-Length: 4294967328") + &"x".repeat(32) + REGISTER;
    let mut driver = udp(phone());
    same(&through(&mut driver, O, text.as_bytes()), text.as_bytes());
    assert_eq!(counted(&driver), [(Event::Malformed, 1)]);
    assert!(driver.nat.calls.is_empty());
    let mut driver = tcp(stream_phone());
    driver.feed(O, text.as_bytes());
    same(&String::from_utf8(driver.outcome().original).unwrap(), text.as_bytes());
    assert_eq!(counted(&driver), [(Event::Malformed, 1), (Event::Detached, 1)]);
    assert!(driver.nat.calls.is_empty());
}

#[test]
fn s_04_a_length_that_gains_a_digit_overruns_nothing() {
    let body = audio("10.0.0.2", 4000);
    let body = format!("{body}a=x:{}\n", "p".repeat(999 - lines(&body).len() - 6));
    let text = invite("n", "", &body);
    assert!(String::from_utf8_lossy(&text).contains("Content-Length: 999\r\n"));
    let mut driver = udp(phone());
    assert!(through(&mut driver, O, &text).contains("Content-Length: 1008\r\n"));
}

#[test]
fn s_04_a_long_list_of_contacts_does_not_wrap_the_growth() {
    let contacts = |count| format!("Contact: {}\n", vec!["<sip:a@10.0.0.2>"; count].join(", "));
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &invite("n", &contacts(50), ""));
    assert_eq!(got.matches("<sip:a@198.51.100.7:30000>").count(), 50);
    for count in [70, 120, 200] {
        let text = invite("n", &contacts(count), "");
        let mut driver = udp(phone());
        same(&through(&mut driver, O, &text), &text);
        assert_eq!(counted(&driver), [(Event::LineTooLong, 1)], "{count}");
    }
}

#[test]
fn s_04_numbers_at_the_very_end_are_not_read_past_it() {
    let text = invite("n", "", &audio("10.0.0.2", 4000));
    for end in 1..text.len() {
        let mut driver = udp(phone());
        let cut = &text[..end];
        assert_eq!(driver.datagram(O, cut), [(O, cut.to_vec())], "{end}");
        assert!(driver.nat.calls.is_empty());
    }
    let rows =
        ["m=audio 4000", "m=audio 4000/", "c=IN IP4 10.0.0.", "a=rtcp:", "a=rtcp:99999999999999999999"];
    for tail in rows {
        let body = lines(&format!("{}{tail}", audio("10.0.0.2", 4000)));
        let text = String::from_utf8(invite("n", "", "")).unwrap();
        let body = body.trim_end();
        let text = text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + body;
        let _ = udp(phone()).datagram(O, text.as_bytes());
    }
}

#[test]
fn s_04_lines_headers_and_messages_have_bounds() {
    let line = |length: usize| format!("X: {}\n", "y".repeat(length - 5));
    let rows = [
        ("line of 4096", line(4096), None),
        ("line of 4097", line(4097), Some(Event::LineTooLong)),
        ("118 headers", "X: y\n".repeat(110), None),
        ("129 headers", "X: y\n".repeat(121), Some(Event::LineTooLong)),
        ("message", line(4000).repeat(5), Some(Event::LineTooLong)),
    ];
    for (name, extra, event) in rows {
        let text = invite("n", &extra, "");
        let mut driver = udp(phone());
        let got = through(&mut driver, O, &text);
        assert_eq!(got.as_bytes() == text, event.is_some(), "{name}");
        assert_eq!(counted(&driver), [(event.unwrap_or(Event::Rewritten), 1)], "{name}");
    }
}

#[test]
fn a_long_body_over_tcp_passes_and_the_next_message_is_read() {
    let mut driver = tcp(stream_phone());
    let long = String::from_utf8(in_dialog("MESSAGE", "l", "b")).unwrap();
    let body = REGISTER.repeat(60);
    let long = long.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body;
    let next = String::from_utf8(in_dialog("INFO", "l", "b")).unwrap();
    for piece in (long.clone() + &next).as_bytes().chunks(1000) {
        driver.feed(O, piece);
    }
    let got = String::from_utf8(driver.outcome().original).unwrap();
    same(&got, (long + &next.replace("10.0.0.2:5060", "198.51.100.7:20000")).as_bytes());
    assert_eq!(counted(&driver), [(Event::Rewritten, 1), (Event::LineTooLong, 1)]);
}

#[test]
fn slipstreaming_over_tcp_opens_nothing() {
    let post = "POST / HTTP/1.1\r\nHost: 203.0.113.5:5060\r\nContent-Length: 5000\r\n\r\n";
    let padding = "a".repeat(900) + "\r\n\r\n";
    let mut driver = tcp(stream_phone());
    let before = post.to_owned() + &padding;
    for segment in [post, &padding, REGISTER, REGISTER] {
        driver.feed(O, segment.as_bytes());
    }
    driver.feed(R, b"SIP/2.0 200 OK\r\nContact: <sip:samy@10.0.0.2:8888>\r\nl: 0\r\n\r\n");
    assert!(driver.nat.calls.is_empty());
    assert_eq!(driver.outcome().original, (before + REGISTER + REGISTER).into_bytes());
    assert_eq!(counted(&driver), [(Event::Detached, 1)]);
    for start in [
        "POST",
        "P",
        "GET / HTTP/1.1\r\n",
        "OPTIONS / HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "PUT sip:x SIP/2.0\r\n",
    ] {
        let mut driver = tcp(stream_phone());
        driver.feed(O, start.as_bytes());
        driver.feed(O, b" / HTTP/1.1\r\n\r\n");
        driver.feed(O, REGISTER.as_bytes());
        assert!(driver.nat.calls.is_empty(), "{start}");
        assert_eq!(driver.count_of(Event::Detached), 1, "{start}");
    }
}

#[test]
fn slipstreaming_over_udp_opens_nothing() {
    // A TURN request with a long user name, reassembled: it begins as STUN.
    let mut turn = b"\x00\x03\x05\x00\x21\x12\xa4\x42abcdefghijkl\x00\x06\x04\xf0".to_vec();
    turn.extend(std::iter::repeat_n(b'a', 1300));
    turn.extend_from_slice(REGISTER.as_bytes());
    let mut driver = udp(phone());
    assert_eq!(driver.datagram(O, &turn), [(O, turn.clone())]);
    assert!(driver.nat.calls.is_empty() && counted(&driver).is_empty());
    // Without the cookie it is nothing known, and ends the reading.
    turn[4] = 0;
    driver.datagram(O, &turn);
    driver.datagram(O, REGISTER.as_bytes());
    assert!(driver.nat.calls.is_empty());
    assert_eq!(counted(&driver), [(Event::Detached, 1)]);
}

#[test]
fn s_06_a_hostile_server_can_open_nothing_for_a_host_that_named_nothing() {
    let mut driver = udp(phone());
    through(&mut driver, O, &in_dialog("OPTIONS", "o", "b"));
    for text in [
        response("200 OK", "c1", "1 INVITE", "b1", &audio("10.0.0.2", 4000)),
        invite("c2", "", &audio("10.0.0.2", 4000)),
        response("200 OK", "c3", "1 REGISTER", "b1", ""),
        REGISTER.as_bytes().to_vec(),
    ] {
        through(&mut driver, R, &text);
    }
    assert!(driver.nat.calls.is_empty(), "{:?}", driver.nat.calls);
    assert_eq!(driver.count_of(Event::OutOfPlace), 1, "an answer to no REGISTER");
}

#[test]
fn s_06_a_flood_of_invites_from_outside_does_not_push_out_answered_calls() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("mine", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "mine", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    for call in 0..500 {
        through(&mut driver, R, &invite(&format!("flood{call}"), "", &audio("192.0.2.66", 7000)));
    }
    assert_eq!(open(&driver).len(), 2);
    through(&mut driver, O, &in_dialog("BYE", "mine", "b1"));
    assert!(open(&driver).is_empty(), "it was still known");
}

#[test]
fn s_06_media_of_third_hosts_are_neither_opened_nor_translated() {
    for address in ["10.0.0.3", "203.0.113.5", "127.0.0.1", "255.255.255.255", "010.0.0.2"] {
        let mut driver = udp(phone());
        let got = through(&mut driver, O, &invite("t", "", &audio(address, 4000)));
        assert!(got.contains(&format!("c=IN IP4 {address}\r\n")));
        assert!(driver.nat.calls.is_empty(), "{address}");
    }
}

#[test]
fn header_lines_that_readers_split_differently_are_not_read() {
    let plain = String::from_utf8(invite("n", "", &audio("10.0.0.2", 4000))).unwrap();
    for stray in ["Subject: a\rContact: <sip:x@10.0.0.2:8888>", "Subject: a\0b"] {
        let text = plain.replace("Max-Forwards: 70", stray);
        let mut driver = udp(phone());
        same(&through(&mut driver, O, text.as_bytes()), text.as_bytes());
        assert_eq!(counted(&driver), [(Event::Malformed, 1)]);
        let mut driver = tcp(stream_phone());
        driver.feed(O, text.as_bytes());
        assert_eq!(counted(&driver), [(Event::Malformed, 1), (Event::Detached, 1)]);
    }
}

#[test]
fn s_05_every_byte_of_a_slow_stream_is_asked_about_once() {
    let text = invite("slow", "", &audio("10.0.0.2", 4000));
    let mut driver = tcp(stream_phone());
    for byte in &text {
        driver.feed(O, &[*byte]);
    }
    // The driver asks twice where it is told to wait.
    assert!(driver.inspections() <= 2 * text.len(), "{}", driver.inspections());
    assert_eq!(driver.count_of(Event::Rewritten), 1);
}
