//! TLS by policy (RFC 4217): passed, denied by a rule, or refused by the server; in both modes, on both sides of NAT.

use super::*;
use crate::contract::Ruling;
use crate::testing::FakePolicy;

const MECHANISMS: [&str; 5] = ["AUTH TLS", "AUTH SSL", "auth tls-c", "AUTH TLS-P", "AUTH GSSAPI"];

/// An internal client with PORT and EPRT, an internal server with PASV and EPSV; what the other end reads in the end.
fn sides() -> [(SessionEndpoints, [Turn<'static>; 4], &'static str); 2] {
    [
        (
            internal_client(),
            [
                (C, b"PORT 10,0,0,2,15,161\r\n"),
                (S, b"200 ok\r\n"),
                (C, b"EPRT |1|10.0.0.2|4002|\r\n"),
                (S, b"200 ok\r\n"),
            ],
            "PORT 198,51,100,240,78,32\r\nEPRT |1|198.51.100.240|20001|\r\n",
        ),
        (
            internal_server(),
            [
                (C, b"PASV\r\n"),
                (S, b"227 (10,0,0,9,15,161)\r\n"),
                (C, b"EPSV\r\n"),
                (S, b"229 (|||4002|)\r\n"),
            ],
            "227 (198,51,100,7,78,32)\r\n229 (|||20001|)\r\n",
        ),
    ]
}

/// The session behind its greeting and `auth`, and what the end that knows the announced endpoints has read of them.
fn announced(endpoints: SessionEndpoints, turns: &[Turn<'_>], denies_auth: bool) -> (Driver<Ftp>, String) {
    let mut driver = greeted(endpoints);
    if denies_auth {
        driver.policy = FakePolicy(|subject| {
            if subject.command.eq_ignore_ascii_case(b"AUTH") { Ruling::Deny } else { Ruling::Allow }
        });
    }
    turns.iter().for_each(|(direction, bytes)| driver.feed(*direction, bytes));
    let outcome = driver.outcome();
    let reader = if endpoints == internal_client() { outcome.original } else { outcome.reply };
    let text = String::from_utf8_lossy(&reader).into_owned();
    (driver, text)
}

#[test]
fn a_denied_auth_leaves_both_modes_working_on_both_sides() {
    for mechanism in MECHANISMS {
        let asked = format!("{mechanism}\r\n");
        for (endpoints, modes, want) in sides() {
            let turns = [&[(C, asked.as_bytes())], &modes[..]].concat();
            let (driver, text) = announced(endpoints, &turns, true);
            assert!(text.ends_with(want), "{mechanism}: {text}");
            assert!(String::from_utf8_lossy(&driver.outcome().reply).contains("534 Refused by policy.\r\n"));
            assert!(!String::from_utf8_lossy(&driver.outcome().original).contains(mechanism));
            assert_eq!(driver.nat.open_targets().len(), 1, "the second announcement replaced the first");
        }
    }
}

#[test]
fn an_auth_that_the_server_refuses_leaves_both_modes_working_on_both_sides() {
    for reply in
        ["500 what\r\n", "502 no\r\n", "504 not this\r\n", "530 in first\r\n", "534 no\r\n", "431 later\r\n"]
    {
        for (endpoints, modes, want) in sides() {
            let turns = [&[(C, &b"AUTH TLS\r\n"[..]), (S, reply.as_bytes())], &modes[..]].concat();
            let (driver, text) = announced(endpoints, &turns, false);
            assert!(text.ends_with(want), "{reply}: {text}");
            assert_eq!(driver.count_of(Event::Opaque), 0);
        }
    }
}

#[test]
fn behind_an_accepted_auth_nothing_is_rewritten_on_either_side() {
    for mechanism in MECHANISMS {
        let asked = format!("{mechanism}\r\n");
        for (endpoints, modes, _) in sides() {
            let turns = [&[(C, asked.as_bytes()), (S, &b"234 go\r\n"[..])], &modes[..]].concat();
            let (driver, _) = announced(endpoints, &turns, false);
            let sent =
                |from| turns.iter().filter(move |turn| turn.0 == from).flat_map(|turn| turn.1.to_vec());
            let outcome = driver.outcome();
            assert_eq!(outcome.original, sent(C).collect::<Vec<_>>(), "{mechanism}");
            assert_eq!(outcome.reply[b"220 ready\r\n".len()..], sent(S).collect::<Vec<_>>());
            assert_eq!(counted(&driver), [(Event::Opaque, 1)], "{mechanism}");
            assert!(driver.nat.calls.is_empty());
        }
    }
}

/// CCC (RFC 4217 section 6) outside of TLS is a command like any other.
#[test]
fn commands_that_belong_to_other_worlds_change_nothing() {
    for (asked, answer) in [
        (&b"CCC\r\n"[..], &b"200 clear\r\n"[..]),
        (b"PBSZ 0\r\n", b"503 AUTH first\r\n"),
        (b"PROT P\r\n", b"503 AUTH first\r\n"),
        (b"QUIT\r\n", b"227 Logout.\r\n"),
    ] {
        for (endpoints, modes, want) in sides() {
            let turns = [&[(C, asked), (S, answer)], &modes[..]].concat();
            let (driver, text) = announced(endpoints, &turns, false);
            assert!(text.ends_with(want), "{}: {text}", asked.escape_ascii());
            let outcome = driver.outcome();
            assert!(outcome.original.starts_with(asked));
            assert!(outcome.reply[b"220 ready\r\n".len()..].starts_with(answer));
        }
    }
}

/// LPRT and LPSV (RFC 1639) never reach the server, and the client reads in its turn that it must do without.
#[test]
fn long_addresses_are_refused_in_the_servers_name() {
    for asked in [&b"LPRT 4,4,10,0,0,2,2,15,161\r\n"[..], b"LPSV\r\n", b"lpsv \r\n", b"LPRT x\r\n"] {
        for (endpoints, modes, want) in sides() {
            let turns = [&[(C, &b"SYST\r\n"[..]), (C, asked), (S, b"215 a\r\n")], &modes[..]].concat();
            let (driver, text) = announced(endpoints, &turns, false);
            assert!(text.ends_with(want), "{}: {text}", asked.escape_ascii());
            let outcome = driver.outcome();
            assert!(!outcome.original.windows(3).any(|word| word.eq_ignore_ascii_case(&asked[..3])));
            assert!(outcome.reply.starts_with(b"220 ready\r\n215 a\r\n502 Not implemented.\r\n"));
            assert_eq!(driver.count_of(Event::Removed), 1);
        }
    }
    // One that is too long to be read goes with its rest.
    let long = [&b"LPRT 4,4"[..], &b",0".repeat(600), b"\r\nNOOP\r\n"].concat();
    let driver = talk(internal_client(), &[(S, b"220 ready\r\n"), (C, &long)]);
    assert_eq!(driver.outcome().original, b"NOOP\r\n");
    assert!(driver.outcome().reply.ends_with(b"502 Not implemented.\r\n"));
    // What nobody asked for is text that answers the oldest command.
    let reply = b"228 Entering Long Passive Mode (4,4,10,0,0,9,2,15,161)\r\n";
    let driver = talk(internal_server(), &[(S, b"220 ready\r\n"), (C, b"NOOP\r\n"), (S, reply)]);
    assert!(driver.outcome().reply.ends_with(reply));
    assert_eq!(counted(&driver), [(Event::OutOfPlace, 1)]);
    assert!(driver.nat.calls.is_empty());
}
