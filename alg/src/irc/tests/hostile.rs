//! What must open nothing, and bytes that are no IRC at all.

use super::*;
use crate::contract::Verdict;

const OFFER: &[u8] = b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n";

#[test]
fn an_offer_for_anything_but_the_client_opens_nothing() {
    let rows: [(&str, &[u8], Event); 13] = [
        ("another internal host", b"167772163 5000", Event::ForeignAddress),
        ("the server", b"3405803785 5000", Event::ForeignAddress),
        ("its own external address", b"3325256944 5000", Event::ForeignAddress),
        ("loopback", b"2130706433 5000", Event::ForeignAddress),
        ("unspecified", b"0 5000", Event::ForeignAddress),
        ("broadcast", b"4294967295 5000", Event::ForeignAddress),
        ("IPv6", b"2001:db8::2 5000", Event::ForeignAddress),
        ("port 0 without a token", b"167772162 0", Event::PortZero),
        ("port 22", b"167772162 22", Event::PrivilegedPort),
        ("port 1023", b"167772162 1023", Event::PrivilegedPort),
        ("port 65536", b"167772162 65536", Event::Malformed),
        ("a number that wraps", b"4462739458 5000", Event::Malformed),
        ("nothing", b"", Event::Malformed),
    ];
    for (name, numbers, event) in rows {
        let line = [b"PRIVMSG bob :\x01DCC CHAT chat ", numbers, b"\x01\r\n"].concat();
        let mut driver = welcomed(internal_client());
        driver.feed(C, &line);
        assert_eq!(after_registration(&driver, C), line.escape_ascii().to_string(), "{name}");
        assert_eq!(counted(&driver), [(event, 1)], "{name}");
        assert!(driver.nat.calls.is_empty(), "{name}");
        driver.feed(C, OFFER);
        assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5000")], "{name}: the session goes on");
    }
}

/// S-03 (CVE-2022-2663): a server makes the client echo what looks like an offer.
#[test]
fn s_03_an_offer_that_is_not_at_its_place_opens_nothing() {
    let rows: [(&[u8], bool); 12] = [
        (b"PONG :\x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"PONG :PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"NOTICE bob :\x01PING \x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"NOTICE bob :\x01VERSION\x01dcc CHAT chat 167772162 5000\x01\r\n", true),
        (b"PRIVMSG bob :hi \x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"PRIVMSG #a x :\x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"TOPIC #a :\x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"QUIT :\x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b":al \x01DCC CHAT chat 167772162 5000\x01\r\n", true),
        (b"PRIVMSG bob :DCC CHAT chat 167772162 5000\r\n", false),
        (b"PRIVMSG bob :\x01XDCC CHAT chat 167772162 5000\x01\r\n", false),
        (b"PRIVMSG bob :\x01DCCX CHAT chat 167772162 5000\x01\r\n", false),
    ];
    for (line, is_counted) in rows {
        let mut driver = welcomed(internal_client());
        driver.feed(S, b"PING :\x01DCC CHAT chat 167772162 5000\x01\r\n");
        driver.feed(C, line);
        assert_eq!(after_registration(&driver, C), line.escape_ascii().to_string());
        let want: &[_] = if is_counted { &[(Event::OutOfPlace, 1)] } else { &[] };
        assert_eq!(counted(&driver), want, "{}", line.escape_ascii());
        assert!(driver.nat.calls.is_empty(), "{}", line.escape_ascii());
    }
}

/// Whoever is on the channel writes what an internal server passes on.
#[test]
fn s_03_nothing_that_the_server_sends_opens_anything() {
    let lines: [&[u8]; 4] = [
        b":eve!e@h PRIVMSG al :\x01DCC CHAT chat 167772169 5000\x01\r\n",
        b":eve!e@h PRIVMSG al :\x01DCC SEND a 167772162 5000 1\x01\r\n",
        b":eve!e@h NOTICE al :\x01DCC ACCEPT a 5000 1\x01\r\n",
        b"PRIVMSG al :\x01DCC CHAT chat 3405803826 5000\x01\r\n",
    ];
    for endpoints in [internal_client(), internal_server()] {
        for line in lines {
            let mut driver = welcomed(endpoints);
            driver.feed(S, line);
            assert_eq!(after_registration(&driver, S), line.escape_ascii().to_string());
            assert!(driver.nat.calls.is_empty());
        }
    }
}

#[test]
fn a_client_that_is_not_welcome_offers_nothing() {
    let mut driver = session(internal_client());
    feed(&mut driver, &[(C, b"NICK al\r\nUSER al 0 * :Al\r\n"), (C, OFFER)]);
    assert_eq!(counted(&driver), [(Event::OutOfPlace, 1)]);
    // The welcome before the registration is none.
    let mut driver = session(internal_client());
    feed(&mut driver, &[(S, b":a 001 al :hi\r\n"), (C, b"NICK al\r\n"), (C, OFFER)]);
    assert_eq!(counted(&driver), [(Event::OutOfPlace, 1)]);
    // The line that links servers never leads to a welcome.
    let mut driver = session(internal_client());
    feed(
        &mut driver,
        &[(C, b"PASS x\r\nSERVER a 1 :a\r\n"), (S, b"PASS x\r\nSERVER b 1 :b\r\n"), (C, OFFER)],
    );
    assert_eq!(counted(&driver), [(Event::OutOfPlace, 1)]);
    assert!(driver.nat.calls.is_empty());
}

/// NAT slipstreaming: a browser's POST with a whole dialogue in its body.
#[test]
fn what_is_not_irc_from_its_first_byte_is_never_read() {
    let openings: [Turn<'_>; 12] = [
        (C, b"POST / HTTP/1.1\r\nHost: a\r\n\r\nNICK al\r\n"),
        (C, b"GET / HTTP/1.1\r\n\r\n"),
        (C, b"\x16\x03\x01\x02\x00\x01\x00NICK al\r\n"),
        (C, b"\x00\x01\x00\x08\x21\x12\xa4\x42"),
        (C, b"PRIVMSG bob :hi\r\n"),
        (C, b"JOIN #a\r\n"),
        (C, b":al NICK al\r\n"),
        (C, b"NICKNAME\r\n"),
        (C, b"NICK al\r\n\x16\x03\x01"),
        (S, b"HTTP/1.1 200 OK\r\n"),
        (S, b"220 ready\r\n"),
        (S, b"\x15\x03\x01\x00\x02\x02"),
    ];
    for (direction, bytes) in openings {
        let mut driver = session(internal_client());
        driver.feed(direction, bytes);
        feed(&mut driver, &REGISTRATION);
        driver.feed(C, OFFER);
        assert!(driver.outcome().original.ends_with(OFFER));
        assert_eq!(counted(&driver), [(Event::Detached, 1)], "{}", bytes.escape_ascii());
        assert!(driver.nat.calls.is_empty(), "{}", bytes.escape_ascii());
        let last = driver.outcome().decided.iter().filter(|one| one.verdict == Verdict::Detach).count();
        assert_eq!(last, 1);
    }
}

/// S-08: every line is complete and bounded before it is read.
#[test]
fn lines_of_any_length_pass_and_only_bounded_ones_are_read() {
    for length in [60, 127, 128, 511, 512, 513, 4607, 4608, 4609, 65_536] {
        // Blanks between the parameters count as little as tags do.
        let head: &[u8] = b"@a PRIVMSG bob :\x01DCC CHAT chat";
        let tail: &[u8] = b" 167772162 5000\x01\r\n";
        let tags = vec![b'b'; length - head.len() - tail.len()];
        let line = [b"@a", &tags[..], &head[2..], tail].concat();
        assert_eq!(line.len(), length);
        let mut driver = welcomed(internal_client());
        driver.feed(C, &line);
        let opened = length <= 4608;
        assert_eq!(driver.nat.open_targets().len(), usize::from(opened), "{length}");
        assert_eq!(driver.count_of(Event::LineTooLong), u64::from(!opened), "{length}");
        driver.feed(C, OFFER);
        assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5000")], "{length}: the session goes on");
    }
}

/// A server cuts what is longer than 512 bytes.
#[test]
fn a_line_never_grows_beyond_what_a_server_reads() {
    for (length, fits) in [(510, true), (511, false), (512, false), (513, false)] {
        let name = "n".repeat(length - 43);
        let line = format!("PRIVMSG bob :\x01DCC SEND {name} 167772162 5000 1\x01\r\n");
        assert_eq!(line.len(), length);
        let mut driver = welcomed(internal_client());
        driver.feed(C, line.as_bytes());
        let read = driver.outcome().original.len();
        let sent: usize = REGISTRATION.iter().filter(|turn| turn.0 == C).map(|turn| turn.1.len()).sum();
        assert_eq!(read - sent, if fits { 512 } else { length });
        assert_eq!(driver.nat.open_targets().len(), usize::from(fits), "{length}");
        assert_eq!(driver.count_of(Event::LineTooLong), u64::from(!fits), "{length}");
    }
}
