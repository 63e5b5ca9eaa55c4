//! A dialogue has one outcome, however its turns are cut into segments.

use proptest::prelude::*;

use super::*;
use crate::testing::cuts::{encoded, every_cut, play, properties_of_random_turns};
use crate::testing::fuzz_ftp;

/// Dialogues that touch every state; a small limit of lines, so that some are too long.
const CORPUS: [(&str, &[Turn<'_>]); 10] = [
    ("active", &[(S, b"220-a\r\n 9\r\n220 b\r\n"), (C, b"PORT 10,0,0,2,15,161\r\n"), (S, b"200 ok\r\n")]),
    ("extended active", &[(S, b"220\n"), (C, b"EPRT |1|10.0.0.2|4001|\r\nQUIT\n"), (S, b"500\r\n221 a\r\n")]),
    (
        "passive",
        &[(S, b"220 a\n"), (C, b"PASV\r\nRETR x\r\n"), (S, b"227-a\n227 203,0,113,9,9,9\n150 b\n226\n")],
    ),
    (
        "extended passive",
        &[(S, b"220 a\n"), (C, b"EPSV ALL\nEPSV\nPASV\n"), (S, b"200 a\n229 (|||2000|)\n500\n")],
    ),
    ("auth rejected", &[(S, b"220 a\n"), (C, b"AUTH X\nPORT 10,0,0,2,9,9\n"), (S, b"504 a\n200 b\n")]),
    (
        "auth accepted",
        &[(S, b"220 a\n"), (C, b"AUTH X\n\x16\x03PASV\r\n"), (S, b"234-a\n234 b\n\x16\x03a\n")],
    ),
    ("long", &[(S, b"220 a\n"), (C, b"NOOP\nLPSV\nPASV\n"), (S, b"200 a\n228 b\n")]),
    (
        "too long",
        &[
            (S, b"220 a\n"),
            (C, b"STOR 789012345678901234567890123456789PORT 1\r\nPORT 10,0,0,2,9,9\r\n"),
            (S, b"150 678901234567890123456789012345678901234\n226 a\n200 b\n"),
        ],
    ),
    // How much was there when it was refused must not show in the counters.
    ("too long and not FTP", &[(S, b"220 a\n"), (C, b"Host: 678901234567890123456789012345678901\n")]),
    (
        "not FTP",
        &[(S, b"220 a\n"), (C, b"\xff\xf4\xf2NOOP\r\nGET / HTTP/1.1\r\nPORT 10,0,0,2,9,9\r\n"), (S, b"2x\n")],
    ),
];

fn session_of_short_lines() -> Driver<Ftp> {
    Driver::new(Ftp::new(FtpSettings { line_bytes: 32, ..FtpSettings::default() }), internal_client())
}

/// A-01: every cut of every turn into two and into three segments.
#[test]
fn every_cut_into_two_or_three_gives_the_same_outcome() {
    for (name, turns) in CORPUS {
        every_cut(name, session_of_short_lines, turns, usize::MAX, |outcome| outcome);
    }
}

/// The corpus does what it is there for.
#[test]
fn the_corpus_reaches_every_kind_of_step() {
    let mut reached = [0; Event::ALL.len()];
    for (_, turns) in CORPUS {
        let outcome = play(session_of_short_lines(), turns);
        for (sum, event) in reached.iter_mut().zip(Event::ALL) {
            *sum += outcome.events.of(event);
        }
    }
    let missing: Vec<_> =
        Event::ALL.iter().zip(reached).filter(|(_, count)| *count == 0).map(|(event, _)| *event).collect();
    let not_meant = [
        Event::ForeignAddress,
        Event::PrivilegedPort,
        Event::PortZero,
        Event::Malformed,
        Event::ExpectationRefused,
        Event::TooManyOutstanding,
        Event::Denied,
        Event::RecheckFailed,
        Event::Masked,
    ];
    assert_eq!(missing, not_meant);
}

/// Pieces of FTP and of what is nearly FTP.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let texts: [&'static [u8]; 30] = [
        b"PORT 10,0,0,2,15,161\r\n",
        b"PORT 10,0,0,3,15,161\n",
        b"PORT 10,0,0,2,256,0\r\n",
        b"EPRT |1|10.0.0.2|4001|\r\n",
        b"EPRT |2|::1|4001|\r\n",
        b"PASV\r\n",
        b"EPSV\r\n",
        b"EPSV ALL\r\n",
        b"AUTH TLS\r\n",
        b"NOOP\r\n",
        b"\xff\xf4\xff\xf2ABOR\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\r\n",
        b"220 a\r\n",
        b"220-a\r\n",
        b"120 a\r\n",
        b"200 a\r\n",
        b"150 a\r\n",
        b"421 a\r\n",
        b"500 a\r\n",
        b"227 (203,0,113,9,15,161)\r\n",
        b"227-203,0,113,9,15,161\r\n",
        b"227 (203,0,113,8,15,161)\r\n",
        b"229 (|||4001|)\r\n",
        b"234 a\r\n",
        b"234-a\r\n",
        b" a\r\n",
        b"PORT 10,0,",
        b"22",
        b"\r",
    ];
    prop_oneof![
        12 => prop::sample::select(texts.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..120),
    ]
}

/// Turns in the form that [`fuzz_ftp`] reads, mostly of the right end.
fn turns() -> impl Strategy<Value = Vec<u8>> {
    let turn = (any::<bool>(), prop::collection::vec(fragment(), 1..4));
    prop::collection::vec(turn, 0..24).prop_map(|turns| {
        let fragments = turns.into_iter().flat_map(|(from_server, fragments)| {
            fragments.into_iter().map(move |fragment| {
                let is_reply = fragment.first().is_some_and(u8::is_ascii_digit);
                (is_reply || from_server && fragment.len() < 4, fragment)
            })
        });
        encoded([(true, b"220 a\r\n".to_vec())].into_iter().chain(fragments))
    })
}

properties_of_random_turns!(fuzz_ftp, turns());

proptest! {
    /// Any cut of any dialogue of the corpus, all turns at once.
    #[test]
    fn any_cuts_give_the_same_outcome(number in 0..CORPUS.len(), sizes in prop::collection::vec(1..9usize, 1..20)) {
        let turns = CORPUS[number].1;
        let mut driver = session_of_short_lines();
        let mut sizes = sizes.iter().cycle();
        for (direction, bytes) in turns {
            let mut rest = *bytes;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                driver.feed(*direction, piece);
                rest = behind;
            }
        }
        prop_assert_eq!(driver.outcome(), play(session_of_short_lines(), turns));
    }

    /// A rewritten line reads back as the announced endpoint, and is the line it was around it.
    #[test]
    fn a_rewritten_command_differs_only_in_its_address(l4_port in 1024u16.., spaces in 1..5usize, extended: bool) {
        let blanks = " ".repeat(spaces);
        let (high, low) = (l4_port >> 8, l4_port & 0xff);
        let (before, after) = if extended {
            (format!("EPRT{blanks}!1!10.0.0.2!{l4_port}!\n"), format!("EPRT{blanks}!1!198.51.100.240!20000!\n"))
        } else {
            (format!("PORT{blanks}10,0,0,2,{high},{low} \n"), format!("PORT{blanks}198,51,100,240,78,32 \n"))
        };
        let mut driver = greeted(internal_client());
        driver.feed(C, before.as_bytes());
        prop_assert_eq!(driver.outcome().original, after.as_bytes());
        prop_assert_eq!(driver.nat.open_targets(), [SocketAddrV4::new([10, 0, 0, 2].into(), l4_port)]);
    }
}
