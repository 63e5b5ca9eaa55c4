//! A dialogue has one outcome, however its turns are cut into segments.

use proptest::prelude::*;

use super::*;
use crate::testing::cuts::{encoded, every_cut, properties_of_random_turns};
use crate::testing::{Outcome, fuzz_rtsp};

/// Dialogues that touch every state.
const CORPUS: [&[Turn<'_>]; 4] = [
    &[
        (
            C,
            "SETUP a RTSP/1.0\r\nCSeq: 1\r\nTransport: A;client_port=5000-5001\r\n\r\n\r\nOPTIONS * RTSP/1.0\n\n",
        ),
        (S, "RTSP/1.0 200 OK\r\nCSeq: 1\nSession: a\nTransport: A;client_port=20000-20001\r\n\r\n"),
        (C, "TEARDOWN a RTSP/1.0\nSession: a\n\n"),
    ],
    &[
        (C, "SETUP a RTSP/1.0\nCSeq: 1\nTransport: A/TCP;interleaved=0-1\n\n"),
        (S, "$\0\0\x03a\nbRTSP/1.0 200 OK\nCSeq: 1\nContent-Length: 3\n\nc\nd$\0\0\0"),
        (C, "$\x01\0\x02\r\nPLAY a RTSP/2.0\n\nHELO\r\n"),
    ],
    &[
        (
            C,
            "ANNOUNCE a RTSP/1.0\nContent-Length: 150\n\n1\n2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\nPLAY a RTSP/1.0\n\n",
        ),
        (
            S,
            "RTSP/1.0 200 OK\nX: 901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890\n\n",
        ),
    ],
    &[(C, "OPTIONS * HTTP/1.1\r\nCSeq: 1\r\n\r\n"), (S, "RTSP/1.0 200 OK\n\n")],
];

fn session_of_short_messages() -> Driver<Rtsp> {
    Driver::new(Rtsp::new(RtspSettings { message_bytes: 120, ..RtspSettings::default() }), internal_client())
}

/// A-01: every cut of every turn into two and into three segments.
#[test]
fn every_cut_into_two_or_three_gives_the_same_outcome() {
    let outcomes = CORPUS.map(|turns| {
        every_cut(&format!("{turns:?}"), session_of_short_messages, turns, usize::MAX, Outcome::joined)
    });
    let reached = |number: usize, event| outcomes[number].events.of(event);
    let each = [
        reached(0, Event::Rewritten),
        reached(1, Event::Detached),
        reached(2, Event::LineTooLong),
        reached(3, Event::Detached),
    ];
    assert_eq!(each, [2, 1, 1, 1], "the corpus does what it is there for");
}

/// Pieces of RTSP and of what is nearly RTSP, at most 127 bytes each.
fn fragment() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let from_client: [&'static str; 12] = [
        "SETUP rtsp://10.0.0.9/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;client_port=5000-5001\r\n\r\n",
        "SETUP a RTSP/2.0\nCSeq: 2\nTransport: A;dest_addr=\":5002\"/\":5003\",A/TCP;interleaved=0-1\n\n",
        "SETUP a RTSP/1.0\nCSeq: 3\nTransport: A;client_port=5004;destination=10.0.0.3\n\n",
        "TEARDOWN a RTSP/1.0\r\nCSeq: 4\r\nSession: ab\r\n\r\n",
        "OPTIONS rtsp://198.51.100.7/a RTSP/1.0\r\nSession: ab\r\n\r\n",
        "ANNOUNCE a RTSP/1.0\r\nContent-Length: 20\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "SETUP a RTSP/1.0\r\nCSeq",
        "$\x01\0\x05",
        "$\x01\0\x05abcde",
        "\r\n",
        "\r",
    ];
    let from_server: [&'static str; 8] = [
        "RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: ab;timeout=5\r\nTransport: A;client_port=20000-20001\r\n\r\n",
        "RTSP/1.0 200 OK\nCSeq: 1\nSession: ab\nTransport: A;server_port=6000-6001;source=10.0.0.9\n\n",
        "RTSP/1.0 454 a\r\nCSeq: 2\r\n\r\n",
        "RTSP/1.0 200 OK\nContent-Type: application/sdp\nContent-Length: 22\n\nc=IN IP4 10.0.0.9\na=b\n\n",
        "REDIRECT * RTSP/1.0\r\nLocation: rtsp://10.0.0.9:554/a\r\n\r\n",
        "$\0\0\x05abcde",
        "RTSP/1.0 200 OK\nCSeq: 2\nTransport: A/TCP;interleaved=0-1\n\n",
        "RTSP/1.0 2",
    ];
    prop_oneof![
        12 => prop::sample::select(from_client.to_vec()).prop_map(|text| (false, text.as_bytes().to_vec())),
        8 => prop::sample::select(from_server.to_vec()).prop_map(|text| (true, text.as_bytes().to_vec())),
        1 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..120)),
    ]
}

/// Turns in the form that [`fuzz_rtsp`] reads.
fn turns() -> impl Strategy<Value = Vec<u8>> {
    let opening = (false, b"OPTIONS * RTSP/1.0\r\n\r\n".to_vec());
    prop::collection::vec(fragment(), 1..24)
        .prop_map(move |fragments| encoded([opening.clone()].into_iter().chain(fragments)))
}

properties_of_random_turns!(fuzz_rtsp, turns());

proptest! {
    /// A rewritten SETUP is what it was around its ports.
    #[test]
    fn a_rewritten_setup_differs_only_in_its_ports(l4_port in 1024u16..65535, blanks in "[ \t]{0,4}") {
        let text = |low: u32, high: u32| setup(1, &format!("{blanks}RTP/AVP;client_port={blanks}{low}{blanks}-{high};x=y"));
        let driver = talk(internal_client(), &[(C, &text(l4_port.into(), u32::from(l4_port) + 1))]);
        prop_assert_eq!(read(&driver, C), text(20_000, 20_001));
    }
}
