//! A dialogue has one outcome, however its turns are cut into segments.

use proptest::prelude::*;

use super::*;
use crate::testing::cuts::{encoded, every_cut, properties_of_random_turns};
use crate::testing::fuzz_pptp;

/// A dialogue with each message about calls, and one that ends in something else.
fn corpus() -> [Vec<Turn>; 2] {
    [
        vec![
            (C, [start_request(), call(7)].concat()),
            (S, [start_reply(), reply(500, 20_000, 1), incoming(501), about_peer(14, 20_000)].concat()),
            (C, [incoming_reply(8, 501, 1), about_peer(15, 500), clear(7)].concat()),
            (S, [about_peer(11, 20_001), disconnect(500), message(5, 16, &[1, 2])].concat()),
        ],
        vec![
            (C, start_request()),
            (S, [start_reply(), b"\x00\x20\x00\x01\x1a\x2b\x3c\x4eabcdef".to_vec()].concat()),
        ],
    ]
}

fn fresh() -> Driver<Pptp> {
    Driver::new(Pptp::new(PptpSettings::default()), internal_client())
}

/// every cut of every turn into two, and into three a few bytes apart.
#[test]
fn every_cut_into_two_or_three_gives_the_same_outcome() {
    let outcomes =
        corpus().map(|turns| every_cut(&format!("{turns:?}"), fresh, &turns, 20, |outcome| outcome));
    let reached = |number: usize, event| outcomes[number].events.of(event);
    assert_eq!((reached(0, Event::Rewritten), reached(1, Event::Detached)), (6, 1));
}

/// Messages of calls with numbers from a small range, whole or cut off, at most 127 bytes each turn.
fn fragment() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let number = || prop_oneof![0..4u16, 19_999..20_006u16];
    let bytes = (0..9usize, number(), number(), prop_oneof![4 => Just(1u8), 1 => any::<u8>()]).prop_map(
        |(kind, a, b, result)| match kind {
            0 => call(a),
            1 => reply(a, b, result),
            2 => incoming(a),
            3 => incoming_reply(a, b, result),
            4 => about_peer(11, a),
            5 => about_peer(14 + b % 2, a),
            6 => clear(a),
            7 => disconnect(a),
            _ => message(4 + b % 2, 16, &[a, b]),
        },
    );
    let cut_off =
        (bytes, prop::option::weighted(0.05, any::<prop::sample::Index>())).prop_map(|(mut bytes, cut)| {
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        });
    (any::<bool>(), cut_off)
}

/// Turns in the form that [`fuzz_pptp`] reads.
fn turns() -> impl Strategy<Value = Vec<u8>> {
    let opening = [(false, start_request()), (true, start_reply())];
    prop::collection::vec(fragment(), 0..40)
        .prop_map(move |fragments| encoded(opening.clone().into_iter().chain(fragments)))
}

properties_of_random_turns!(fuzz_pptp, turns());

proptest! {
    /// Whatever the numbers, each end reads its own Call ID back, and no message changes elsewhere.
    #[test]
    fn each_end_reads_its_own_call_id_back(client in 1u16.., server in 1u16..) {
        let mut driver = started(internal_client());
        prop_assert_eq!(pass(&mut driver, C, &call(client)), call(20_000));
        prop_assert_eq!(pass(&mut driver, S, &reply(server, 20_000, 1)), reply(server, client, 1));
        prop_assert_eq!(pass(&mut driver, S, &about_peer(15, 20_000)), about_peer(15, client));
        prop_assert_eq!(pass(&mut driver, C, &about_peer(15, server)), about_peer(15, server));
        prop_assert_eq!(pass(&mut driver, C, &clear(client)), clear(20_000));
        prop_assert_eq!(pass(&mut driver, S, &disconnect(server)), disconnect(server));
    }
}
