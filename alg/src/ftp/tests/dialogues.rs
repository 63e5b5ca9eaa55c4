//! What is legal: each announcement in each of its spellings, and the order of commands and replies.

use super::*;
use crate::contract::{
    Alg, AllowAll, Context, Edits, Events, ExpectError, ExpectationId, Injections, Ruling, Step, Verdict,
};
use crate::testing::{FakeNat, NatCall};

/// Name, turns after the greeting, what the server and the client read of them, targets open at the
/// end, events.
type Row<'a> = (&'a str, &'a [Turn<'a>], &'a [u8], &'a [u8], &'a [&'a str], &'a [(Event, u64)]);

fn check(endpoints: SessionEndpoints, rows: &[Row<'_>]) {
    for (name, turns, server_reads, client_reads, open, events) in rows {
        let mut driver = greeted(endpoints);
        for (direction, bytes) in *turns {
            driver.feed(*direction, bytes);
        }
        let outcome = driver.outcome();
        assert_eq!(
            outcome.original.escape_ascii().to_string(),
            server_reads.escape_ascii().to_string(),
            "{name}"
        );
        let client_reads = [b"220 ready\r\n", *client_reads].concat();
        assert_eq!(
            outcome.reply.escape_ascii().to_string(),
            client_reads.escape_ascii().to_string(),
            "{name}"
        );
        assert_eq!(driver.nat.open_targets(), open.iter().map(|text| at(text)).collect::<Vec<_>>(), "{name}");
        assert_eq!(counted(&driver), *events, "{name}");
    }
}

#[test]
fn translates_what_an_internal_client_announces() {
    let rewritten: &[(Event, u64)] = &[(Event::Rewritten, 1)];
    check(
        internal_client(),
        &[
            (
                "PORT",
                &[(C, b"PORT 10,0,0,2,15,161\r\n"), (S, b"200 ok\r\n")],
                b"PORT 198,51,100,240,78,32\r\n",
                b"200 ok\r\n",
                &["10.0.0.2:4001"],
                rewritten,
            ),
            (
                "PORT in lower case, with blanks and a bare line feed",
                &[(C, b"port  10,0,0,2,4,0 \n")],
                b"port  198,51,100,240,78,32 \n",
                b"",
                &["10.0.0.2:1024"],
                rewritten,
            ),
            (
                "PORT with leading zeros",
                &[(C, b"PORT 010,000,000,002,015,161\r\n")],
                b"PORT 198,51,100,240,78,32\r\n",
                b"",
                &["10.0.0.2:4001"],
                rewritten,
            ),
            (
                "EPRT",
                &[(C, b"EPRT |1|10.0.0.2|4001|\r\n")],
                b"EPRT |1|198.51.100.240|20000|\r\n",
                b"",
                &["10.0.0.2:4001"],
                rewritten,
            ),
            (
                "EPRT with another delimiter",
                &[(C, b"eprt ~1~10.0.0.2~65535~\n")],
                b"eprt ~1~198.51.100.240~20000~\n",
                b"",
                &["10.0.0.2:65535"],
                rewritten,
            ),
            (
                "PORT behind Telnet commands",
                &[(C, b"\xff\xf4\xff\xf2PORT 10,0,0,2,15,161\r\n")],
                b"\xff\xf4\xff\xf2PORT 198,51,100,240,78,32\r\n",
                b"",
                &["10.0.0.2:4001"],
                rewritten,
            ),
            (
                "EPRT for IPv6",
                &[(C, b"EPRT |2|2001:db8::2|4001|\r\n")],
                b"EPRT |2|2001:db8::2|4001|\r\n",
                b"",
                &[],
                &[(Event::ForeignAddress, 1)],
            ),
            (
                "PASV to an external server opens, and changes nothing",
                &[(C, b"PASV\r\n"), (S, b"227 Entering Passive Mode (203,0,113,9,78,32).\r\n")],
                b"PASV\r\n",
                b"227 Entering Passive Mode (203,0,113,9,78,32).\r\n",
                &["203.0.113.9:20000"],
                &[],
            ),
            (
                "pipelined, with Telnet before ABOR",
                &[
                    (C, b"USER a\r\nPASS b\r\nPORT 10,0,0,2,15,161\r\nRETR x\r\n\xff\xf4\xff\xf2ABOR\r\nQUIT\r\n"),
                    (S, b"331 \r\n230-hi\r\n\r\n230 in\r\n200\r\n150 go\r\n426 cut\r\n226 ok\r\n221 bye\r\n"),
                ],
                b"USER a\r\nPASS b\r\nPORT 198,51,100,240,78,32\r\nRETR x\r\n\xff\xf4\xff\xf2ABOR\r\nQUIT\r\n",
                b"331 \r\n230-hi\r\n\r\n230 in\r\n200\r\n150 go\r\n426 cut\r\n226 ok\r\n221 bye\r\n",
                &["10.0.0.2:4001"],
                rewritten,
            ),
            (
                "unknown commands, empty lines and unsolicited replies",
                &[(C, b"\r\nXYZZY a,b\xe9\r\nXPRT 4,4,10,0,0,2,2,15,161\r\n"), (S, b"500 x\n500 y\n500 z\n421 bye\n")],
                b"\r\nXYZZY a,b\xe9\r\nXPRT 4,4,10,0,0,2,2,15,161\r\n",
                b"500 x\n500 y\n500 z\n421 bye\n",
                &[],
                &[],
            ),
        ],
    );
}

#[test]
fn translates_what_an_internal_server_announces() {
    let rewritten: &[(Event, u64)] = &[(Event::Rewritten, 1)];
    let own: &[&str] = &["10.0.0.9:1029"];
    check(
        internal_server(),
        &[
            (
                "227",
                &[(C, b"PASV\r\n"), (S, b"227 Entering Passive Mode (10,0,0,9,4,5).\r\n")],
                b"PASV\r\n",
                b"227 Entering Passive Mode (198,51,100,7,78,32).\r\n",
                own,
                rewritten,
            ),
            (
                "227 without parentheses",
                &[(C, b"PASV\r\n"), (S, b"227 Entering Passive Mode. 10,0,0,9,4,5\r\n")],
                b"PASV\r\n",
                b"227 Entering Passive Mode. 198,51,100,7,78,32\r\n",
                own,
                rewritten,
            ),
            (
                "227 of more lines, numbers in the last",
                &[(C, b"PASV\n"), (S, b"227-Entering\n 10,0,0,9,4,5\n227 Mode (10,0,0,9,4,5)\n")],
                b"PASV\n",
                b"227-Entering\n 10,0,0,9,4,5\n227 Mode (198,51,100,7,78,32)\n",
                own,
                rewritten,
            ),
            (
                "227 of more lines, the same numbers in the first and the last",
                &[(C, b"PASV\n"), (S, b"227-Entering (10,0,0,9,4,5)\n227 Mode (10,0,0,9,4,5)\n")],
                b"PASV\n",
                b"227-Entering (198,51,100,7,78,32)\n227 Mode (198,51,100,7,78,32)\n",
                own,
                &[(Event::Rewritten, 2)],
            ),
            (
                "227 of more lines, other numbers in the last",
                &[(C, b"PASV\n"), (S, b"227-Entering (10,0,0,9,4,5)\n227 Mode (10,0,0,9,4,6)\n")],
                b"PASV\n",
                b"227-Entering (198,51,100,7,78,32)\n227 Mode (10,0,0,9,4,6)\n",
                own,
                &[(Event::Rewritten, 1), (Event::Malformed, 1)],
            ),
            (
                "229",
                &[(C, b"EPSV\r\n"), (S, b"229 Entering Extended Passive Mode (|||1029|)\r\n")],
                b"EPSV\r\n",
                b"229 Entering Extended Passive Mode (|||20000|)\r\n",
                own,
                rewritten,
            ),
            (
                "229 with another delimiter after EPSV 1",
                &[(C, b"epsv 1\n"), (S, b"229 ok (!!!1029!)\n")],
                b"epsv 1\n",
                b"229 ok (!!!20000!)\n",
                own,
                rewritten,
            ),
            (
                "227 as the answer to QUIT is text",
                &[(C, b"QUIT\r\n"), (S, b"227 Logout.\r\n")],
                b"QUIT\r\n",
                b"227 Logout.\r\n",
                &[],
                &[],
            ),
            (
                "227 and 229 without their command are text",
                &[
                    (S, b"227 (10,0,0,9,4,5)\r\n"),
                    (C, b"PASV\r\n"),
                    (S, b"229 (|||1029|)\r\n227 (10,0,0,9,4,5)\r\n"),
                ],
                b"PASV\r\n",
                b"227 (10,0,0,9,4,5)\r\n229 (|||1029|)\r\n227 (10,0,0,9,4,5)\r\n",
                &[],
                &[],
            ),
            (
                "227 after a server that answered ABOR once",
                &[
                    (C, b"RETR x\r\nABOR\r\n"),
                    (S, b"226 cut\r\n"),
                    (C, b"PASV\r\n"),
                    (S, b"227 (10,0,0,9,4,5)\r\n"),
                ],
                b"RETR x\r\nABOR\r\nPASV\r\n",
                b"226 cut\r\n227 (198,51,100,7,78,32)\r\n",
                own,
                rewritten,
            ),
            (
                "PORT of an external client opens towards it, and changes nothing",
                &[(C, b"PORT 203,0,113,50,78,32\r\n")],
                b"PORT 203,0,113,50,78,32\r\n",
                b"",
                &["203.0.113.50:20000"],
                &[],
            ),
        ],
    );
}

#[test]
fn a_greeting_may_come_late_or_in_many_lines() {
    for greeting in [
        &b"220\n"[..],
        b"220-Welcome\r\nPORT 10,0,0,2,15,161\r\n  230 x\r\n220-more\r\n220 ready\r\n",
        b"120 Ready in 003 minutes\r\n220 ready\r\n",
        b"120-wait\r\n120 wait\r\n220-go\r\n220 go\r\n",
    ] {
        let driver = talk(internal_client(), &[(S, greeting), (C, b"PORT 10,0,0,2,15,161\r\n")]);
        assert_eq!(driver.outcome().reply, greeting);
        assert_eq!(
            driver.outcome().original,
            b"PORT 198,51,100,240,78,32\r\n",
            "{}",
            greeting.escape_ascii()
        );
    }
}

#[test]
fn an_announcement_replaces_the_one_before_once_it_is_accepted() {
    let (first, second) = (&b"PORT 10,0,0,2,15,161\r\n"[..], &b"EPRT |1|10.0.0.2|4002|\r\n"[..]);
    let rows: [(&str, &[Turn<'_>], &[&str]); 14] = [
        ("neither accepted nor refused", &[(C, first), (S, b"350 and?\r\n")], &[]),
        (
            "a preliminary reply answers nothing yet",
            &[(C, b"RETR x\r\n"), (C, first), (S, b"150 go\r\n226 ok\r\n500 no\r\n")],
            &[],
        ),
        (
            "a code inside a reply of more lines answers nothing",
            &[(C, b"STAT\r\n"), (C, first), (S, b"211-a\r\n200 b\r\n211 c\r\n500 no\r\n")],
            &[],
        ),
        (
            "PASV is answered, PORT before it never",
            &[(C, first), (C, b"PASV\r\n"), (S, b"227 =203,0,113,9,78,32\r\n")],
            &["203.0.113.9:20000"],
        ),
        (
            "the same again, accepted",
            &[(C, first), (S, b"200 ok\r\n"), (C, first), (S, b"200 ok\r\n")],
            &["10.0.0.2:4001"],
        ),
        (
            "the same again, rejected",
            &[(C, first), (S, b"200 ok\r\n"), (C, first), (S, b"421 no\r\n")],
            &["10.0.0.2:4001"],
        ),
        ("accepted alone", &[(C, first), (S, b"200 ok\r\n")], &["10.0.0.2:4001"]),
        ("rejected alone", &[(C, first), (S, b"500 no\r\n")], &[]),
        (
            "not answered yet",
            &[(C, first), (S, b"200 ok\r\n"), (C, second)],
            &["10.0.0.2:4001", "10.0.0.2:4002"],
        ),
        (
            "PORT, LIST, 550, EPRT",
            &[
                (C, first),
                (S, b"200 ok\r\n"),
                (C, b"LIST\r\n"),
                (S, b"550 none\r\n"),
                (C, second),
                (S, b"200-o\r\n200 k\r\n"),
            ],
            &["10.0.0.2:4002"],
        ),
        (
            "the second is rejected",
            &[(C, first), (S, b"200 ok\r\n"), (C, second), (S, b"522 no\r\n")],
            &["10.0.0.2:4001"],
        ),
        (
            "PASV replaces PORT",
            &[(C, first), (S, b"200 ok\r\n"), (C, b"PASV\r\n"), (S, b"227 =203,0,113,9,78,32\r\n")],
            &["203.0.113.9:20000"],
        ),
        (
            "PASV is rejected",
            &[(C, first), (S, b"200 ok\r\n"), (C, b"PASV\r\n"), (S, b"502 no\r\n")],
            &["10.0.0.2:4001"],
        ),
        (
            "pipelined",
            &[(C, first), (C, second), (C, b"EPSV\r\n"), (S, b"200 a\r\n200 b\r\n229 (|||2000|)\r\n")],
            &["203.0.113.9:2000"],
        ),
    ];
    for (name, turns, open) in rows {
        let mut driver = greeted(internal_client());
        for (direction, bytes) in turns {
            driver.feed(*direction, bytes);
        }
        assert_eq!(driver.nat.open_targets(), open.iter().map(|text| at(text)).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn the_expectation_says_who_may_come_and_how_often() {
    let settings =
        FtpSettings { expectation_lifetime: std::time::Duration::from_secs(77), ..FtpSettings::default() };
    let mut driver = Driver::new(Ftp::new(settings), internal_client());
    driver.feed(S, b"220 ready\r\n");
    driver.feed(C, b"PORT 10,0,0,2,15,161\r\n");
    driver.feed(S, b"500 no\r\n");
    let [NatCall::Expect(expectation, Ok(announced)), NatCall::Withdraw(withdrawn)] = driver.nat.calls[..]
    else {
        panic!("{:?}", driver.nat.calls);
    };
    assert_eq!((expectation.owner, expectation.target), (C, at("10.0.0.2:4001")));
    assert_eq!((expectation.uses, expectation.peer_l4_port), (1, None));
    assert_eq!(expectation.lifetime.as_secs(), 77);
    assert_eq!((withdrawn, announced.id), (ExpectationId(1), ExpectationId(1)));
}

#[test]
fn a_refused_expectation_leaves_the_message_as_it_is_if_the_operator_wants_that() {
    let mut driver = unopened::greeted_with(Ruling::Allow, internal_client());
    driver.nat.refusal = Some(ExpectError::PoolExhausted);
    driver.feed(C, b"PORT 10,0,0,2,15,161\r\nPASV\r\n");
    driver.feed(S, b"200 ok\r\n227 (203,0,113,9,78,32)\r\n");
    assert_eq!(driver.outcome().original, b"PORT 10,0,0,2,15,161\r\nPASV\r\n");
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 2)]);
}

/// S-16: however many announcements, one that is accepted and one that waits for its reply.
#[test]
fn s_16_a_thousand_announcements_leave_one_expectation() {
    let mut driver = greeted(internal_client());
    for l4_port in 2000..3000u16 {
        driver.feed(C, format!("EPRT |1|10.0.0.2|{l4_port}|\r\n").as_bytes());
        assert!(driver.nat.open_targets().len() <= 2);
        driver.feed(S, b"200 ok\r\n");
    }
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:2999")]);
}

#[test]
fn a_229_is_not_rewritten_for_an_address_the_client_is_not_connected_to() {
    let mut driver = greeted(internal_server());
    driver.nat.announced_address = Some([198, 51, 100, 8].into());
    driver.feed(C, b"EPSV\r\nPASV\r\n");
    driver.feed(S, b"229 (|||1029|)\r\n");
    assert!(driver.outcome().reply.ends_with(b"425 Can't open data connection.\r\n"));
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 1), (Event::Denied, 1)]);
    assert_eq!(driver.nat.open_targets(), []);
    driver.feed(S, b"227 (10,0,0,9,4,5)\r\n");
    assert!(driver.outcome().reply.ends_with(b"227 (198,51,100,8,78,33)\r\n"), "a 227 can name it");
}

#[test]
fn without_room_for_the_edit_nothing_is_opened() {
    let endpoints = internal_client();
    let mut nat = FakeNat::new(endpoints);
    let (mut edits, mut inject) = (Edits::with_capacity(1, 8), Injections::with_capacity(0, 0));
    let settings = FtpSettings { unopened: Ruling::Allow, ..FtpSettings::default() };
    let (mut events, mut ftp) = (Events::default(), Ftp::new(settings));
    let (greeting, port) = (b"220 ready\r\n", b"PORT 10,0,0,2,15,161\r\n");
    for (direction, input) in [(S, &greeting[..]), (C, port)] {
        let mut cx = Context {
            endpoints: &endpoints,
            nat: &mut nat,
            policy: &mut AllowAll,
            edits: &mut edits,
            inject: &mut inject,
            events: &mut events,
            at_end: false,
        };
        let step = ftp.inspect(direction, input, &mut cx);
        assert_eq!(step, Step::Message { length: input.len(), verdict: Verdict::Pass });
    }
    assert_eq!(nat.open_targets(), []);
    assert_eq!(events.of(Event::ExpectationRefused), 1);
}

#[test]
fn after_epsv_all_nothing_else_opens() {
    let port = b"PORT 10,0,0,2,15,161\r\n";
    let mut driver = greeted(internal_client());
    driver.feed(C, b"EPSV ALL\r\n");
    driver.feed(C, port);
    let refused = [(Event::Removed, 1), (Event::OutOfPlace, 1), (Event::Denied, 1)];
    assert_eq!(counted(&driver), refused, "sent, not answered");
    driver.feed(S, b"500 no\r\n");
    driver.feed(C, port);
    driver.feed(S, b"200 ok\r\n");
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:4001")], "rejected");
    driver.feed(C, b"epsv all\r\n");
    driver.feed(S, b"200 ok\r\n");
    driver.feed(C, b"PORT 10,0,0,2,15,162\r\nEPRT |1|10.0.0.2|4003|\r\nPASV\r\n");
    driver.feed(S, b"227 (203,0,113,9,78,32)\r\n");
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:4001")], "accepted");
    driver.feed(C, b"EPSV\r\n");
    driver.feed(S, b"229 (|||2000|)\r\n");
    assert_eq!(driver.nat.open_targets(), [at("203.0.113.9:2000")]);
    assert_eq!(driver.count_of(Event::OutOfPlace), 4);
}

#[test]
fn an_accepted_auth_ends_all_reading() {
    for mechanism in ["AUTH TLS\r\n", "auth ssl\r\n", "AUTH TLS-C\n", "AUTH TLS-P\r\n"] {
        let mut driver = greeted(internal_client());
        driver.feed(C, mechanism.as_bytes());
        driver.feed(S, b"234-go\r\n");
        driver.feed(S, b"234 on\r\n");
        let last = driver.outcome().decided.pop().unwrap();
        assert_eq!((last.verdict, last.bytes), (Verdict::Opaque, b"234 on\r\n".to_vec()));
        driver.feed(C, b"\x16\x03\x01PORT 10,0,0,2,15,161\r\n");
        driver.feed(S, b"\x16\x03\x03");
        assert!(driver.outcome().original.ends_with(b"\x16\x03\x01PORT 10,0,0,2,15,161\r\n"));
        assert_eq!(counted(&driver), [(Event::Opaque, 1)]);
        assert!(driver.nat.calls.is_empty());
    }
}

#[test]
fn what_follows_auth_waits_for_its_reply() {
    let port = b"PORT 10,0,0,2,15,161\r\n";
    let mut driver = greeted(internal_client());
    driver.feed(C, b"NOOP\r\nAUTH TLS\r\n");
    driver.feed(C, port);
    assert_eq!(driver.held(C), port);
    driver.feed(S, b"200 ok\r\n");
    assert_eq!(driver.held(C), port, "the reply to NOOP");
    driver.feed(S, b"504 no\r\n");
    assert_eq!(driver.held(C), b"");
    assert!(driver.outcome().original.ends_with(b"PORT 198,51,100,240,78,32\r\n"));

    let mut driver = greeted(internal_client());
    driver.feed(C, b"AUTH TLS\r\n\x16\x03PORT 10,0,0,2,15,161\r\n");
    driver.feed(S, b"234 on\r\n");
    assert_eq!(driver.outcome().original, b"AUTH TLS\r\n\x16\x03PORT 10,0,0,2,15,161\r\n");
    assert!(driver.nat.calls.is_empty());

    let mut driver = greeted(internal_client());
    driver.feed(C, b"AUTH TLS\r\n");
    driver.feed(C, port);
    driver.end(C);
    assert_eq!(driver.outcome().original, [b"AUTH TLS\r\n", &port[..]].concat(), "held no longer");
    assert_eq!(counted(&driver), [(Event::Detached, 1)]);
    assert!(driver.nat.calls.is_empty());
}
