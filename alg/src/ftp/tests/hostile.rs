//! What must open nothing, and bytes that are no FTP at all.

use super::*;
use crate::contract::Verdict;

/// S-01: FTP bounce (RFC 2577 section 3), and ports that no client of FTP listens on.
#[test]
fn s_01_a_port_command_for_anything_but_the_client_opens_nothing() {
    let rows: [(&str, &[u8], Event, bool); 18] = [
        ("another external host", b"PORT 203,0,113,77,15,161\r\n", Event::ForeignAddress, false),
        ("the server", b"PORT 203,0,113,9,15,161\r\n", Event::ForeignAddress, false),
        ("another internal host", b"PORT 10,0,0,3,15,161\r\n", Event::ForeignAddress, true),
        ("its own external address", b"PORT 198,51,100,240,15,161\r\n", Event::ForeignAddress, false),
        ("loopback", b"PORT 127,0,0,1,15,161\r\n", Event::ForeignAddress, false),
        ("broadcast", b"PORT 255,255,255,255,15,161\r\n", Event::ForeignAddress, false),
        ("unspecified", b"PORT 0,0,0,0,15,161\r\n", Event::ForeignAddress, false),
        ("port 0", b"PORT 10,0,0,2,0,0\r\n", Event::PortZero, true),
        ("port 22", b"PORT 10,0,0,2,0,22\r\n", Event::PrivilegedPort, true),
        ("port 1023", b"PORT 10,0,0,2,3,255\r\n", Event::PrivilegedPort, true),
        ("port 65536", b"PORT 10,0,0,2,256,0\r\n", Event::Malformed, false),
        ("a number that wraps", b"PORT 10,0,0,2,4294967311,161\r\n", Event::Malformed, false),
        ("five numbers", b"PORT 10,0,0,2,15\r\n", Event::Malformed, false),
        ("no number", b"PORT\r\n", Event::Malformed, false),
        ("EPRT for another host", b"EPRT |1|10.0.0.3|4001|\r\n", Event::ForeignAddress, true),
        ("EPRT port 0", b"EPRT |1|10.0.0.2|0|\r\n", Event::PortZero, true),
        ("EPRT port 22", b"EPRT |1|10.0.0.2|22|\r\n", Event::PrivilegedPort, true),
        ("EPRT port 65536", b"EPRT |1|10.0.0.2|65536|\r\n", Event::Malformed, false),
    ];
    for (name, line, event, names_inside) in rows {
        let mut driver = greeted(internal_client());
        driver.feed(C, line);
        // The server learns of no host behind NAT.
        assert_eq!(driver.outcome().original, if names_inside { b"" } else { line }, "{name}");
        let refused = u64::from(names_inside);
        assert_eq!((driver.count_of(event), driver.count_of(Event::Removed)), (1, refused), "{name}");
        assert!(driver.nat.calls.is_empty(), "{name}");
        if !names_inside {
            driver.feed(S, b"200 ok\r\n");
        }
        driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
        assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:4001")], "{name}: the session goes on");
    }
}

/// S-02: a server that sends the client elsewhere.
#[test]
fn s_02_a_227_for_anything_but_the_server_opens_nothing() {
    let rows: [(&str, &[u8], Event, bool); 9] = [
        ("another internal host", b"227 (10,0,0,3,15,161)\r\n", Event::ForeignAddress, true),
        ("another external host", b"227 (203,0,113,77,15,161)\r\n", Event::ForeignAddress, false),
        ("the client", b"227 (203,0,113,50,15,161)\r\n", Event::ForeignAddress, false),
        ("the address it is seen with", b"227 (198,51,100,7,15,161)\r\n", Event::ForeignAddress, false),
        ("port 0", b"227 (10,0,0,9,0,0)\r\n", Event::PortZero, true),
        ("port 22", b"227 (10,0,0,9,0,22)\r\n", Event::PrivilegedPort, true),
        ("port 65536", b"227 (10,0,0,9,256,0)\r\n", Event::Malformed, false),
        ("no number", b"227 Entering Passive Mode\r\n", Event::Malformed, false),
        (
            "foreign, twice",
            b"227-(10,0,0,3,15,161)\r\n227 (10,0,0,3,15,161)\r\n",
            Event::ForeignAddress,
            true,
        ),
    ];
    for (name, reply, event, names_inside) in rows {
        let mut driver = greeted(internal_server());
        driver.feed(C, b"PASV\r\n");
        driver.feed(S, reply);
        assert_eq!(driver.outcome().reply.ends_with(reply), !names_inside, "{name}");
        assert_eq!(driver.outcome().reply.starts_with(b"220 ready\r\n425"), names_inside, "{name}");
        let refused = u64::from(names_inside);
        assert_eq!((driver.count_of(event), driver.count_of(Event::Denied)), (1, refused), "{name}");
        assert!(driver.nat.calls.is_empty(), "{name}");
    }
    for reply in [&b"229 (|||65536|)\r\n"[..], b"229 (|1|10.0.0.3|4001|)\r\n"] {
        let mut driver = greeted(internal_server());
        driver.feed(C, b"EPSV\r\n");
        driver.feed(S, reply);
        assert!(driver.outcome().reply.ends_with(reply));
        assert_eq!(counted(&driver), [(Event::Malformed, 1)], "{}", reply.escape_ascii());
    }
}

/// S-08: every line is complete and bounded before it is read.
#[test]
fn s_08_lines_of_any_length_pass_and_only_bounded_ones_are_read() {
    for length in [0, 1, 2, 20, 127, 128, 255, 256, 511, 512, 513, 4095, 4096, 65_536] {
        // A command padded with blanks to `length` bytes.
        let line = match length {
            0 => Vec::new(),
            1 => b"\n".to_vec(),
            2 => b"\r\n".to_vec(),
            _ => [&b"PORT "[..], &vec![b' '; length.max(22) - 22], b"10,0,0,2,15,161\r\n"].concat(),
        };
        let mut driver = greeted(internal_client());
        driver.feed(C, &line);
        driver.feed(S, b"200 ok\r\n");
        let (read, long) = ((20..=512).contains(&length), length > 512);
        assert_eq!(driver.nat.open_targets().len(), usize::from(read), "{length}");
        assert_eq!(driver.count_of(Event::LineTooLong), u64::from(long), "{length}");
        if !read {
            assert_eq!(driver.outcome().original, line, "{length}");
        }
        // The next command is read again, and its reply is its own.
        driver.feed(C, b"PORT 10,0,0,2,15,162\r\n");
        driver.feed(S, b"500 no\r\n");
        assert_eq!(driver.nat.open_targets().len(), usize::from(read), "{length}");
        assert_eq!(driver.nat.calls.len(), usize::from(read) + 2, "{length}");
    }
}

#[test]
fn an_announcement_behind_the_limit_is_not_read_but_its_reply_still_counts() {
    let mut driver = greeted(internal_server());
    let reply = [&b"227 "[..], &[b'x'; 600], b" (10,0,0,9,4,5)\r\n"].concat();
    driver.feed(C, b"PASV\r\nPASV\r\n");
    driver.feed(S, &reply);
    assert!(driver.outcome().reply.ends_with(&reply));
    assert_eq!(counted(&driver), [(Event::LineTooLong, 1)]);
    driver.feed(S, b"227 (10,0,0,9,4,5)\r\n");
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.9:1029")]);
}

#[test]
fn s_08_a_line_without_end_passes_in_bounded_pieces() {
    let mut driver = greeted(internal_client());
    driver.feed(C, b"STOR ");
    for _ in 0..256 {
        driver.feed(C, &[b'a'; 256]);
        assert!(driver.held(C).len() < 512);
    }
    assert_eq!(driver.outcome().original.len(), 5 + 65_536);
    assert_eq!(counted(&driver), [(Event::LineTooLong, 1)]);
    assert!(driver.inspections() < 600);
}

#[test]
fn what_is_not_ftp_is_detached_once() {
    let rows: [(&str, &[Turn<'_>]); 16] = [
        ("client first", &[(C, b"USER a\r\n")]),
        ("client first, one byte", &[(C, b"U")]),
        ("client before the greeting is whole", &[(S, b"220-hello\r\n"), (C, b"USER a\r\n")]),
        ("client after 120 alone", &[(S, b"120 soon\r\n"), (C, b"USER a\r\n")]),
        ("server is HTTP", &[(S, b"HTTP/1.1 200 OK\r\n")]),
        ("server is SSH", &[(S, b"S")]),
        ("server starts with another code", &[(S, b"230 in\r\n")]),
        ("server starts with an empty line", &[(S, b"\r\n")]),
        ("server loses its codes", &[(S, b"220 a\r\nhello\r\n")]),
        ("HTTP after a forged greeting", &[(S, b"220 a\r\n"), (C, b"POST / HTTP/1.1\r\n")]),
        ("a made-up method", &[(S, b"220 a\r\n"), (C, b"USER / HTTP/1.1\r\n")]),
        ("a header", &[(S, b"220 a\r\n"), (C, b"USER a\r\nHost: b\r\n")]),
        ("TLS", &[(S, b"220 a\r\n"), (C, b"\x16\x03\x01\x02\x00")]),
        ("STUN", &[(S, b"220 a\r\n"), (C, b"\x00\x01\x00\x08\x21\x12\xa4\x42")]),
        ("SIP", &[(S, b"220 a\r\n"), (C, b"REGISTER sip:a SIP/2.0\r\n")]),
        ("SOCKS", &[(S, b"220 a\r\n"), (C, b"\x05\x01\x00")]),
    ];
    for (name, turns) in rows {
        let mut driver = talk(internal_client(), turns);
        assert_eq!(driver.outcome().decided.last().unwrap().verdict, Verdict::Detach, "{name}");
        driver.feed(S, b"220 ready\r\n");
        driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
        assert_eq!(counted(&driver), [(Event::Detached, 1)], "{name}");
        assert!(driver.nat.calls.is_empty(), "{name}");
        assert!(driver.outcome().original.ends_with(b"PORT 10,0,0,2,15,161\r\n"), "{name}");
    }
}

/// NAT slipstreaming: a form is posted to port 21 and padded so that a segment starts with PORT. The
/// attacker's server may greet like FTP; wherever the line falls, it is never a command.
#[test]
fn s_06_a_posted_form_opens_nothing_wherever_its_port_line_falls() {
    let head = b"POST /x HTTP/1.1\r\nHost: 203.0.113.9:21\r\nContent-Length: 4000\r\n\r\n";
    let port = b"PORT 10,0,0,2,34,184\r\n";
    let body = vec![b'a'; 600];
    for greeting in [&b""[..], b"220 ready\r\n"] {
        for offset in 0..=head.len() + body.len() {
            let text = [&head[..], &body].concat();
            let (before, after) = text.split_at(offset);
            if before.is_empty() && !greeting.is_empty() {
                continue; // Then it is a client of FTP that says PORT.
            }
            let mut driver = session(internal_client());
            driver.feed(S, greeting);
            driver.feed(C, before);
            driver.feed(C, port);
            driver.feed(S, b"200 ok\r\n");
            driver.feed(C, after);
            assert_eq!(driver.outcome().original, [before, port, after].concat());
            assert!(driver.nat.calls.is_empty(), "at {offset}");
            assert_eq!(counted(&driver), [(Event::Detached, 1)], "at {offset}");
        }
    }
}

#[test]
fn more_commands_than_are_tracked_wait_for_replies() {
    let mut driver = greeted(internal_client());
    driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
    driver.feed(C, &b"NOOP\r\n".repeat(63));
    let passed = driver.outcome().original.len();
    let rest: &[u8] = b"NOOP\r\nPORT 10,0,0,2,15,162\r\n";
    driver.feed(C, rest);
    assert_eq!((driver.held(C), driver.outcome().original.len()), (rest, passed));
    driver.feed(S, b"200 ok\r\n");
    assert_eq!(driver.held(C), &rest[6..]);
    driver.feed(S, b"200 ok\r\n");
    assert_eq!(driver.held(C), b"");
    // The first one's expectation goes when the second one's reply comes.
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:4001"), at("10.0.0.2:4002")]);
    assert_eq!(counted(&driver), [(Event::Rewritten, 2)]);
}

#[test]
fn more_commands_than_can_be_held_end_the_reading() {
    let mut driver = greeted(internal_client());
    driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
    driver.feed(C, &b"NOOP\r\n".repeat(64));
    assert_eq!(counted(&driver), [(Event::Rewritten, 1)]);
    driver.end(C);
    assert_eq!(
        counted(&driver),
        [(Event::Rewritten, 1), (Event::Detached, 1), (Event::TooManyOutstanding, 1)]
    );
    assert_eq!(driver.nat.open_targets(), []);

    let settings = FtpSettings { max_outstanding: 1, ..FtpSettings::default() };
    let mut driver = Driver::new(Ftp::new(settings), internal_client());
    driver.feed(S, b"220 ready\r\n");
    driver.feed(C, b"NOOP\r\nPORT 10,0,0,2,15,161\r\n");
    driver.end(C);
    assert_eq!(driver.outcome().original, b"NOOP\r\nPORT 10,0,0,2,15,161\r\n");
    assert!(driver.nat.calls.is_empty());
}
