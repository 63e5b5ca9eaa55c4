//! What is legal: each kind of DCC in each of its spellings.

use std::time::Duration;

use super::*;
use crate::contract::{ExpectError, Expectation, Peer, Protocol, Ruling};
use crate::testing::{FakePolicy, NatCall};

/// Name, turns after the registration, what the server and the client read of them, targets open at the end.
type Row<'a> = (&'a str, &'a [Turn<'a>], &'a [u8], &'a [u8], &'a [&'a str]);

fn check(endpoints: SessionEndpoints, rows: &[Row<'_>]) {
    for (name, turns, server_reads, client_reads, open) in rows {
        let mut driver = welcomed(endpoints);
        feed(&mut driver, turns);
        assert_eq!(after_registration(&driver, C), server_reads.escape_ascii().to_string(), "{name}");
        assert_eq!(after_registration(&driver, S), client_reads.escape_ascii().to_string(), "{name}");
        assert_eq!(driver.nat.open_targets(), open.iter().map(|text| at(text)).collect::<Vec<_>>(), "{name}");
        let rewritten: usize = [(C, server_reads), (S, client_reads)]
            .iter()
            .map(|(from, reads)| differing(turns, *from, reads))
            .sum();
        assert_eq!(driver.count_of(Event::Rewritten), rewritten as u64, "{name}");
    }
}

/// How many lines of `from` were read otherwise than sent.
fn differing(turns: &[Turn<'_>], from: Direction, reads: &[u8]) -> usize {
    let sent: Vec<u8> = turns.iter().filter(|turn| turn.0 == from).flat_map(|turn| turn.1.to_vec()).collect();
    let lines = |bytes: &[u8]| bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    lines(&sent).iter().zip(lines(reads)).filter(|(sent, read)| *sent != read).count()
}

#[test]
fn translates_what_an_internal_client_offers() {
    check(
        internal_client(),
        &[
            (
                "SEND",
                &[(C, b"PRIVMSG bob :\x01DCC SEND a.txt 167772162 5000 12\x01\r\n")],
                b"PRIVMSG bob :\x01DCC SEND a.txt 3325256944 20000 12\x01\r\n",
                b"",
                &["10.0.0.2:5000"],
            ),
            (
                "SEND of a name with blanks, in the middle of other lines",
                &[(C, b"PING a\r\nPRIVMSG bob :\x01DCC SEND \"a b c.txt\" 167772162 1024 12\x01\nPING b\r\n")],
                b"PING a\r\nPRIVMSG bob :\x01DCC SEND \"a b c.txt\" 3325256944 20000 12\x01\nPING b\r\n",
                b"",
                &["10.0.0.2:1024"],
            ),
            (
                "CHAT with a prefix, in a NOTICE, without an end",
                &[(C, b":al NOTICE bob :\x01DCC CHAT chat 167772162 65535\r\n")],
                b":al NOTICE bob :\x01DCC CHAT chat 3325256944 20000\r\n",
                b"",
                &["10.0.0.2:65535"],
            ),
            (
                "lower case, tags, a dotted address and blanks",
                &[(C, b"@label=7 privmsg bob  :\x01dcc tsend  a  10.0.0.2  5000  12\x01\r\n")],
                b"@label=7 privmsg bob  :\x01dcc tsend  a  198.51.100.240  20000  12\x01\r\n",
                b"",
                &["10.0.0.2:5000"],
            ),
            (
                "two offers, SCHAT and MOVE",
                &[
                    (C, b"PRIVMSG bob :\x01DCC SCHAT chat 167772162 5000\x01\r\n"),
                    (C, b"PRIVMSG eve :\x01DCC MOVE a 167772162 5001\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC SCHAT chat 3325256944 20000\x01\r\nPRIVMSG eve :\x01DCC MOVE a 3325256944 20001\x01\r\n",
                b"",
                &["10.0.0.2:5000", "10.0.0.2:5001"],
            ),
            (
                "the same offer again",
                &[
                    (C, b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n"),
                    (C, b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC CHAT chat 3325256944 20000\x01\r\nPRIVMSG bob :\x01DCC CHAT chat 3325256944 20000\x01\r\n",
                b"",
                &["10.0.0.2:5000"],
            ),
        ],
    );
}

#[test]
fn resume_and_accept_name_the_port_that_their_reader_knows() {
    check(
        internal_client(),
        &[
            (
                "of the client's offer",
                &[
                    (C, b"PRIVMSG bob :\x01DCC SEND a 167772162 5000 12\x01\r\n"),
                    (S, b":bob!b@h PRIVMSG al :\x01DCC RESUME file.ext 20000 4\x01\r\n"),
                    (C, b"PRIVMSG bob :\x01DCC ACCEPT file.ext 5000 4\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC SEND a 3325256944 20000 12\x01\r\nPRIVMSG bob :\x01DCC ACCEPT file.ext 20000 4\x01\r\n",
                b":bob!b@h PRIVMSG al :\x01DCC RESUME file.ext 5000 4\x01\r\n",
                &["10.0.0.2:5000"],
            ),
            (
                "of the other user's, although its port is that of an offer of the client",
                &[
                    (C, b"PRIVMSG bob :\x01DCC SEND a 167772162 5000 12\x01\r\n"),
                    (S, b":eve!e@h PRIVMSG al :\x01DCC SEND b 3405803776 5000 12\x01\r\n"),
                    (C, b"PRIVMSG eve :\x01DCC RESUME b 5000 4\x01\r\n"),
                    (S, b":eve!e@h PRIVMSG al :\x01DCC ACCEPT b 20000 4\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC SEND a 3325256944 20000 12\x01\r\nPRIVMSG eve :\x01DCC RESUME b 5000 4\x01\r\n",
                b":eve!e@h PRIVMSG al :\x01DCC SEND b 3405803776 5000 12\x01\r\n:eve!e@h PRIVMSG al :\x01DCC ACCEPT b 20000 4\x01\r\n",
                &["10.0.0.2:5000"],
            ),
            (
                "of nobody's",
                &[
                    (S, b":bob!b@h PRIVMSG al :\x01DCC RESUME a 20000 4\x01\r\n"),
                    (C, b"PRIVMSG bob :\x01DCC ACCEPT a 5000 4\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC ACCEPT a 5000 4\x01\r\n",
                b":bob!b@h PRIVMSG al :\x01DCC RESUME a 20000 4\x01\r\n",
                &[],
            ),
        ],
    );
}

#[test]
fn a_passive_offer_opens_nothing_and_its_answer_does() {
    check(
        internal_client(),
        &[
            (
                "the client's offer: only its address is translated",
                &[
                    (C, b"PRIVMSG bob :\x01DCC SEND a 167772162 0 12 7\x01\r\n"),
                    (S, b":bob!b@h PRIVMSG al :\x01DCC SEND a 3405803776 6000 12 7\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC SEND a 3325256944 0 12 7\x01\r\n",
                b":bob!b@h PRIVMSG al :\x01DCC SEND a 3405803776 6000 12 7\x01\r\n",
                &[],
            ),
            (
                "with a dummy for an address",
                &[(C, b"PRIVMSG bob :\x01DCC CHAT chat 199 0 7\x01\r\n")],
                b"PRIVMSG bob :\x01DCC CHAT chat 199 0 7\x01\r\n",
                b"",
                &[],
            ),
            (
                "the client's answer",
                &[
                    (S, b":bob!b@h PRIVMSG al :\x01DCC SEND a 16843009 0 12 7\x01\r\n"),
                    (C, b"PRIVMSG bob :\x01DCC SEND a 167772162 5000 12 7\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC SEND a 3325256944 20000 12 7\x01\r\n",
                b":bob!b@h PRIVMSG al :\x01DCC SEND a 16843009 0 12 7\x01\r\n",
                &["10.0.0.2:5000"],
            ),
            (
                "resumed",
                &[
                    (S, b":bob!b@h PRIVMSG al :\x01DCC RESUME a 0 4 7\x01\r\n"),
                    (C, b"PRIVMSG bob :\x01DCC ACCEPT a 0 4 7\x01\r\n"),
                ],
                b"PRIVMSG bob :\x01DCC ACCEPT a 0 4 7\x01\r\n",
                b":bob!b@h PRIVMSG al :\x01DCC RESUME a 0 4 7\x01\r\n",
                &[],
            ),
        ],
    );
}

#[test]
fn asks_for_one_tcp_session_from_anyone_or_from_the_server() {
    for (setting, peer) in [(DccPeer::Any, Peer::Any), (DccPeer::Server, Peer::OtherEnd)] {
        let lifetime = Duration::from_secs(77);
        let settings =
            IrcSettings { peer: setting, expectation_lifetime: lifetime, ..IrcSettings::default() };
        let mut driver = Driver::new(Irc::new(settings), internal_client());
        feed(&mut driver, &REGISTRATION);
        driver.feed(C, b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n");
        let want = Expectation {
            protocol: Protocol::Tcp,
            owner: C,
            target: at("10.0.0.2:5000"),
            peer,
            peer_l4_port: None,
            uses: 1,
            lifetime,
        };
        assert!(matches!(driver.nat.calls[..], [NatCall::Expect(seen, Ok(_))] if seen == want));
    }
}

#[test]
fn an_external_client_of_an_internal_server_says_the_truth() {
    let offer = b"PRIVMSG bob :\x01DCC CHAT chat 3405803826 5000\x01\r\n";
    check(internal_server(), &[("CHAT", &[(C, offer)], offer, b"", &["203.0.113.50:5000"])]);
}

#[test]
fn the_ninth_offer_takes_the_place_of_the_first() {
    let mut driver = welcomed(internal_client());
    for l4_port in 5000..5009 {
        driver.feed(C, format!("PRIVMSG bob :\x01DCC CHAT chat 167772162 {l4_port}\x01\r\n").as_bytes());
    }
    let open: Vec<_> = driver.nat.open_targets().iter().map(SocketAddrV4::port).collect();
    assert_eq!(open, (5001..5009).collect::<Vec<_>>());
}

#[test]
fn nothing_is_read_once_tls_has_started() {
    let offer = b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n";
    let mut driver = session(internal_client());
    feed(&mut driver, &[(C, b"STARTTLS\r\n"), (S, b":irc.example.net 691 * :no\r\n"), (C, b"NICK al\r\n")]);
    feed(&mut driver, &[(S, b":irc.example.net 001 al :hi\r\n"), (C, offer)]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5000")], "it was refused");

    for turns in [
        &[(C, &b"STARTTLS\r\n"[..]), (S, b":irc.example.net 670 * :go ahead\r\n\x16\x03\x03")][..],
        &[(C, b"NICK al\r\nSTARTTLS\r\n\x16\x03\x01\x02")],
    ] {
        let mut driver = session(internal_client());
        feed(&mut driver, turns);
        feed(&mut driver, &[(S, b":irc.example.net 001 al :hi\r\n"), (C, offer)]);
        assert_eq!(counted(&driver), [(Event::Opaque, 1)]);
        assert!(driver.nat.calls.is_empty());
    }
}

#[test]
fn a_refusal_by_nat_passes_the_offer_unchanged() {
    let offer = b"PRIVMSG bob :\x01DCC CHAT chat 167772162 5000\x01\r\n";
    let mut driver = welcomed(internal_client());
    driver.nat.refusal = Some(ExpectError::PoolExhausted);
    driver.feed(C, offer);
    assert_eq!(after_registration(&driver, C), offer.escape_ascii().to_string());
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 1)]);
}

#[test]
fn what_policy_refuses_is_taken_out_and_the_client_is_told() {
    let policy = FakePolicy(|subject| match (subject.direction, subject.command, subject.argument) {
        (_, b"DCC SEND", name) if name.ends_with(b".exe") => Ruling::Deny,
        (C, b"JOIN", b"#secret") => Ruling::Deny,
        (C, b"JOIN", b"#quiet") => Ruling::Drop,
        _ => Ruling::Allow,
    });
    let mut driver = welcomed(internal_client());
    driver.policy = policy;
    feed(
        &mut driver,
        &[
            (C, b"JOIN #a\r\nJOIN #secret\r\nJOIN #quiet\r\n"),
            (C, b"PRIVMSG bob :\x01DCC SEND \"a b.exe\" 167772162 5000 12\x01\r\n"),
            (S, b":bob!b@h PRIVMSG al :\x01DCC SEND b.exe 3405803776 6000 12\x01\r\n:bob!b@h PRIVMSG al :b\r\n"),
        ],
    );
    assert_eq!(after_registration(&driver, C), "JOIN #a\\r\\n");
    let told = ":algate NOTICE * :JOIN refused by policy\\r\\n\
         :algate NOTICE * :DCC SEND refused by policy\\r\\n\
         :algate NOTICE * :DCC SEND refused by policy\\r\\n\
         :bob!b@h PRIVMSG al :b\\r\\n";
    assert_eq!(after_registration(&driver, S), told);
    assert_eq!(counted(&driver), [(Event::Removed, 4), (Event::Denied, 4)]);
    assert!(driver.nat.calls.is_empty());
}

#[test]
fn a_notice_never_lands_in_the_middle_of_a_line() {
    let mut driver = welcomed(internal_client());
    driver.policy = FakePolicy(|_| Ruling::Deny);
    driver.feed(S, &[b'x'; 5000]);
    driver.feed(C, b"JOIN #a\r\n");
    driver.feed(S, b"\r\n");
    driver.feed(C, b"JOIN #a\r\n");
    let read = after_registration(&driver, S);
    assert!(read.ends_with("xx\\r\\n:algate NOTICE * :JOIN refused by policy\\r\\n"), "{read}");
    assert_eq!(read.matches("NOTICE").count(), 1);
}
