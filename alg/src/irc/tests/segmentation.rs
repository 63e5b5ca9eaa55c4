//! A dialogue has one outcome, however its turns are cut into segments.

use proptest::prelude::*;

use super::*;
use crate::testing::cuts::{encoded, every_cut, properties_of_random_turns};
use crate::testing::fuzz_irc;

/// Dialogues that touch every state.
const CORPUS: [&[Turn<'_>]; 5] = [
    &[
        (S, b"NOTICE AUTH :a\r\n"),
        (C, b"NICK a\nUSER a\n"),
        (S, b":b 001 a\r\n"),
        (C, b"PRIVMSG b :\x01DCC SEND a 167772162 5000 1\x01\r\nQ\n"),
        (S, b":b NOTICE a :\x01DCC RESUME a 20000 1\x01\n"),
        (C, b"NOTICE b :\x01DCC ACCEPT a 5000 1\x01\n"),
    ],
    &[(C, b"NICK a\nSTARTTLS\r\n"), (S, b":b 670 a\r\n\x16\x03PING\n"), (C, b"\x16\x03PRIVMSG a\n")],
    &[(C, b"NICK a\nSTARTTLS\r\n\x16\x03\n"), (S, b":b 001 a\n")],
    &[
        (C, b"\r\nNICK 8901234567890123456789012345678901234567890\nNICK a\n"),
        (S, b":b 901234567890123456789012345678901234567890123456\n"),
    ],
    &[(C, b"POST / HTTP/1.1\r\nNICK a\r\n"), (S, b":a 001 b\n")],
];

fn session_of_short_lines() -> Driver<Irc> {
    Driver::new(Irc::new(IrcSettings { line_bytes: 48, ..IrcSettings::default() }), internal_client())
}

/// A-01: every cut of every turn into two and into three segments.
#[test]
fn every_cut_into_two_or_three_gives_the_same_outcome() {
    let outcomes = CORPUS.map(|turns| {
        every_cut(&format!("{turns:?}"), session_of_short_lines, turns, usize::MAX, |outcome| outcome)
    });
    let reached = |number: usize, event| outcomes[number].events.of(event);
    let each = [
        reached(0, Event::Rewritten),
        reached(1, Event::Opaque),
        reached(2, Event::Opaque),
        reached(3, Event::LineTooLong),
        reached(4, Event::Detached),
    ];
    assert_eq!(each, [3, 1, 1, 2, 1], "the corpus does what it is there for");
}

/// Pieces of IRC and of what is nearly IRC.
fn fragment() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let from_client: [&'static [u8]; 14] = [
        b"PRIVMSG b :\x01DCC SEND a 167772162 5000 1\x01\r\n",
        b"PRIVMSG b :\x01DCC CHAT chat 167772162 5001\x01\n",
        b"NOTICE b :\x01DCC SEND \"a b\" 10.0.0.2 5002 1 2\r\n",
        b"PRIVMSG b :\x01DCC SEND a 167772162 0 1 7\x01\r\n",
        b"PRIVMSG b :\x01DCC SEND a 167772163 5000 1\x01\r\n",
        b"PRIVMSG b :\x01DCC ACCEPT a 5000 1\x01\r\n",
        b"PRIVMSG b :\x01DCC ",
        b"PONG :\x01DCC CHAT chat 167772162 5001\x01\n",
        b"STARTTLS\r\n",
        b"NICK a\r\n",
        b"\x16\x03\x01",
        b"\r",
        b"\r\n",
        b":a ",
    ];
    let from_server: [&'static [u8]; 7] = [
        b":a 001 b :c\r\n",
        b":a 670 b\r\n",
        b":a PRIVMSG b :\x01DCC RESUME a 20000 1\x01\r\n",
        b":a PRIVMSG b :\x01DCC SEND a 167772162 5000 1\x01\r\n",
        b"PING :a\r\n",
        b":a PRIV",
        b"\n",
    ];
    prop_oneof![
        12 => prop::sample::select(from_client.to_vec()).prop_map(|text| (false, text.to_vec())),
        6 => prop::sample::select(from_server.to_vec()).prop_map(|text| (true, text.to_vec())),
        1 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..120)),
    ]
}

/// Turns in the form that [`fuzz_irc`] reads, behind a registration.
fn turns() -> impl Strategy<Value = Vec<u8>> {
    let opening = [(false, b"NICK a\n".to_vec()), (true, b":a 001 b\n".to_vec())];
    prop::collection::vec(fragment(), 0..24)
        .prop_map(move |fragments| encoded(opening.clone().into_iter().chain(fragments)))
}

properties_of_random_turns!(fuzz_irc, turns());

proptest! {
    /// A rewritten offer is the line it was around its numbers.
    #[test]
    fn a_rewritten_offer_differs_only_in_its_endpoint(l4_port in 1024u16.., name in "[!-~ ]{1,40}") {
        let name = format!("\"{}\"", name.replace("\" ", "_"));
        let line = |numbers: &str| format!("PRIVMSG bob :\x01DCC SEND {name} {numbers} 12\x01\r\n");
        let mut driver = welcomed(internal_client());
        driver.feed(C, line(&format!("167772162 {l4_port}")).as_bytes());
        let want = line("3325256944 20000").as_bytes().escape_ascii().to_string();
        prop_assert_eq!(after_registration(&driver, C), want);
        prop_assert_eq!(driver.nat.open_targets(), [SocketAddrV4::new([10, 0, 0, 2].into(), l4_port)]);
    }
}
