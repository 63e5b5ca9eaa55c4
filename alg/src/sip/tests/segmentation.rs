//! The same bytes give the same dialogue, however a stream was cut.

use proptest::prelude::*;

use super::*;
use crate::testing::Outcome;

/// Three messages of the phone over TCP with line ends between them, and what comes back.
fn dialogue() -> Vec<(Direction, Vec<u8>)> {
    let over_tcp = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").into_bytes()
    };
    let mut first = over_tcp(invite("t1", "", &audio("10.0.0.2", 4000)));
    first.extend_from_slice(b"\r\n\r\n");
    first.extend(over_tcp(in_dialog("ACK", "t1", "b1")));
    first.extend(over_tcp(in_dialog("INFO", "t1", "b1")));
    let mut reply = over_tcp(response("180 Ringing", "t1", "1 INVITE", "b1", ""));
    reply.extend(over_tcp(response("200 OK", "t1", "1 INVITE", "b1", &audio("203.0.113.77", 7000))));
    reply.extend_from_slice(b"\r\n");
    vec![(O, first), (R, reply), (O, over_tcp(in_dialog("BYE", "t1", "b1")))]
}

fn outcome(cuts: impl Fn(usize) -> Vec<usize>) -> Outcome {
    let mut driver = tcp(stream_phone());
    for (direction, bytes) in dialogue() {
        let mut last = 0;
        for cut in cuts(bytes.len()) {
            driver.feed(direction, &bytes[last..cut]);
            last = cut;
        }
        driver.feed(direction, &bytes[last..]);
    }
    let mut outcome = driver.outcome();
    // Line ends between messages pass in the pieces they come in.
    outcome.decided.retain(|decided| !decided.bytes.starts_with(b"\r\n"));
    outcome
}

#[test]
fn every_cut_of_a_stream_gives_the_same_dialogue() {
    let whole = outcome(|_| Vec::new());
    let rewritten = String::from_utf8(whole.original.clone()).unwrap();
    assert!(rewritten.contains("m=audio 20002 RTP/AVP"), "{rewritten}");
    assert_eq!(outcome(|length| (1..length).collect()), whole, "byte by byte");
    for cut in 0..900 {
        assert_eq!(outcome(|length| vec![cut.min(length)]), whole, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_cuts_of_a_stream_give_the_same_dialogue(cuts in prop::collection::vec(0usize..1600, 0..12)) {
        let mut sorted = cuts;
        sorted.sort_unstable();
        let cut = outcome(|length| sorted.iter().copied().filter(|cut| *cut < length).collect());
        prop_assert_eq!(cut, outcome(|_| Vec::new()));
    }
}
