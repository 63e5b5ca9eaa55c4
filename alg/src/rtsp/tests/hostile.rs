//! What must open nothing, and bytes that are no RTSP at all.

use super::*;

#[test]
fn a_setup_for_anything_but_the_client_opens_nothing() {
    let rows = [
        ("another host", "RTP/AVP;client_port=5000-5001;destination=10.0.0.3", Event::ForeignAddress),
        ("the server", "RTP/AVP;destination=203.0.113.9;client_port=5000-5001", Event::ForeignAddress),
        ("a host of 2.0", "RTP/AVP;dest_addr=\"10.0.0.3:5000\"/\"10.0.0.3:5001\"", Event::ForeignAddress),
        ("its external address", "RTP/AVP;dest_addr=\"198.51.100.240:5000\"", Event::ForeignAddress),
        ("port 0", "RTP/AVP;client_port=0-1", Event::PortZero),
        ("port 22", "RTP/AVP;client_port=22-23", Event::PrivilegedPort),
        ("port 1023", "RTP/AVP;client_port=1023-1024", Event::PrivilegedPort),
        ("the last port", "RTP/AVP;client_port=65535-65536", Event::Malformed),
        ("a range", "RTP/AVP;client_port=5000-5009", Event::Malformed),
        ("a number that wraps", "RTP/AVP;client_port=4294972296", Event::Malformed),
        ("another port", "RTP/AVP;client_port=5000-5001;destination=10.0.0.2:22", Event::Malformed),
        (
            "the second alternative",
            "RTP/AVP;client_port=5000-5001,RTP/AVP;client_port=22-23",
            Event::PrivilegedPort,
        ),
        (
            "too many alternatives",
            "A;client_port=2000,A;client_port=2002,A;client_port=2004,A;client_port=2006,A;client_port=2008",
            Event::ExpectationRefused,
        ),
    ];
    for (name, transport, event) in rows {
        let asked = setup(1, transport);
        let mut driver = talk(internal_client(), &[(C, &asked)]);
        assert_eq!(read(&driver, C), asked, "{name}");
        assert_eq!(counted(&driver), [(event, 1)], "{name}");
        assert!(driver.nat.open_targets().is_empty(), "{name}");
        feed(&mut driver, &[(C, &setup(2, "RTP/AVP;client_port=5000-5001"))]);
        assert_eq!(driver.nat.open_targets().len(), 2, "{name}: the session goes on");
    }
}

#[test]
fn an_answer_for_anything_but_the_server_opens_nothing() {
    let rows = [
        ("another host", "RTP/AVP;server_port=6000-6001;source=10.0.0.3", Event::ForeignAddress),
        ("of 2.0", "RTP/AVP;src_addr=\"10.0.0.3:6000\"/\"10.0.0.3:6001\"", Event::ForeignAddress),
        ("port 0", "RTP/AVP;server_port=0-1", Event::PortZero),
        ("port 22", "RTP/AVP;server_port=22-23", Event::PrivilegedPort),
        ("a range", "RTP/AVP;server_port=6000-6009", Event::Malformed),
    ];
    for (name, transport, event) in rows {
        let reply = answer(1, transport);
        let driver = talk(internal_server(), &[(C, &setup(1, "RTP/AVP;client_port=5000-5001")), (S, &reply)]);
        assert_eq!(read(&driver, S), reply, "{name}");
        assert_eq!(counted(&driver), [(event, 1)], "{name}");
        assert_eq!(driver.nat.open_targets(), [at("203.0.113.50:5000"), at("203.0.113.50:5001")], "{name}");
    }
    for reply in [
        answer(2, "RTP/AVP;server_port=6000-6001"),
        setup(1, "RTP/AVP;client_port=6000-6001"),
        answer(1, "RTP/AVP;client_port=7000-7001;server_port=6000-6001"),
    ] {
        let asked = setup(1, "RTP/AVP;client_port=5000-5001");
        let driver = talk(internal_server(), &[(C, &asked), (S, &reply)]);
        assert_eq!(read(&driver, S), reply);
        assert_eq!(driver.nat.open_targets().len(), 2, "{reply}: nothing for the server");
    }
}

/// NAT slipstreaming: a browser's POST with a whole SETUP in its body; and a tunnel in HTTP.
#[test]
fn what_is_not_rtsp_from_its_first_byte_is_never_read() {
    let openings: [Turn<'_>; 12] = [
        (C, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (C, "GET /a HTTP/1.0\r\nx-sessioncookie: a\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n"),
        (C, "OPTIONS * HTTP/1.1\r\n\r\n"),
        (C, "\x16\x03\x01"),
        (C, "\0\x01\0\x08"),
        (C, "\r\n"),
        (C, "$\0\0\x04abcd"),
        (C, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        (C, "setup a RTSP/1.0\r\n"),
        (C, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\0\0\x04abcd"),
        (C, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\nOPTIONS * HTTP/1.1\r\n"),
        (S, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
    ];
    let asked = setup(1, "RTP/AVP;client_port=5000-5001");
    for opening in openings {
        let driver = talk(internal_client(), &[opening, (C, &asked)]);
        assert!(read(&driver, C).ends_with(&asked), "{}", opening.1);
        assert_eq!(counted(&driver), [(Event::Detached, 1)], "{}", opening.1);
        assert!(driver.nat.calls.is_empty(), "{}", opening.1);
    }
}

/// S-04: a length that could be read in two ways leaves no guess where the next message starts.
#[test]
fn s_04_a_length_in_doubt_detaches() {
    let asked = setup(1, "RTP/AVP;client_port=5000-5001");
    for length in ["4294967300", "-1", "", "1, 1", "4\r\nContent-Length: 5"] {
        let text = format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n{asked}");
        let driver = talk(internal_client(), &[(C, &text)]);
        assert_eq!(read(&driver, C), text);
        assert_eq!(counted(&driver), [(Event::Malformed, 1), (Event::Detached, 1)], "{length}");
        assert!(driver.nat.calls.is_empty());
    }
}

/// S-08: every head is complete and bounded before it is read.
#[test]
fn heads_of_any_length_pass_and_only_bounded_ones_are_read() {
    for length in [127, 128, 512, 4096, 8191, 8192, 8193, 65_536] {
        let asked = setup(1, "RTP/AVP;client_port=5000-5001");
        let padding = format!("X: {}\r\nCSeq", "x".repeat(length - asked.len() - 5));
        let text = asked.replacen("CSeq", &padding, 1);
        assert_eq!(text.len(), length);
        let driver = talk(internal_client(), &[(C, &text)]);
        assert_eq!(driver.nat.open_targets().len(), if length <= 8192 { 2 } else { 0 }, "{length}");
        assert_eq!(driver.count_of(Event::LineTooLong), u64::from(length > 8192), "{length}");
    }
}

#[test]
fn setups_without_an_answer_never_take_more_than_their_room() {
    let mut driver = session(internal_client());
    for cseq in 0..100 {
        let port = 5000 + 2 * cseq;
        feed(&mut driver, &[(C, &setup(cseq, &format!("RTP/AVP;client_port={port}-{}", port + 1)))]);
        assert!(driver.nat.open_targets().len() <= 24);
    }
    assert_eq!(driver.nat.open_targets().len(), 24);
}
