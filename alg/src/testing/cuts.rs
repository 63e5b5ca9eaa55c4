//! What the tests of segmentation share: a dialogue has one outcome, however its turns are cut, and none makes an ALG panic.

use crate::contract::{Alg, Direction};

use super::{Driver, Outcome};

/// Plays the turns as they are.
pub(crate) fn play<A: Alg>(driver: Driver<A>, turns: &[(Direction, impl AsRef<[u8]>)]) -> Outcome {
    play_cut(driver, turns, usize::MAX, &[])
}

/// Plays every cut of every turn into two, and into three with at most `apart` bytes between the cuts. Expects the outcome
/// of the turns as they are, and returns it; `finish` takes out of an outcome what may differ.
pub(crate) fn every_cut<A: Alg>(
    name: &str,
    driver: impl Fn() -> Driver<A>,
    turns: &[(Direction, impl AsRef<[u8]>)],
    apart: usize,
    finish: impl Fn(Outcome) -> Outcome,
) -> Outcome {
    let whole = finish(play(driver(), turns));
    for (number, (_, bytes)) in turns.iter().enumerate() {
        for second in 0..=bytes.as_ref().len() {
            for first in second.saturating_sub(apart)..=second {
                let cut = finish(play_cut(driver(), turns, number, &[first, second]));
                assert_eq!(cut, whole, "{name}: turn {number} at {first}, {second}");
            }
        }
    }
    whole
}

/// Turns in the form that [`super::fuzz_streams`] reads; `true`: from the server.
pub(crate) fn encoded(turns: impl IntoIterator<Item = (bool, Vec<u8>)>) -> Vec<u8> {
    let mut data = Vec::new();
    for (from_server, bytes) in turns {
        for piece in bytes.chunks(0x7f) {
            data.push(if from_server { 0x80 } else { 0 } | u8::try_from(piece.len()).unwrap());
            data.extend_from_slice(piece);
        }
    }
    data
}

/// Plays the turns, the one numbered `cut_turn` in the pieces that end at `cuts`.
fn play_cut<A: Alg>(
    mut driver: Driver<A>,
    turns: &[(Direction, impl AsRef<[u8]>)],
    cut_turn: usize,
    cuts: &[usize],
) -> Outcome {
    for (number, (direction, bytes)) in turns.iter().enumerate() {
        let bytes = bytes.as_ref();
        let mut from = 0;
        for &to in cuts.iter().filter(|_| number == cut_turn) {
            driver.feed(*direction, &bytes[from..to]);
            from = to;
        }
        driver.feed(*direction, &bytes[from..]);
    }
    driver.outcome()
}

/// Tests that run `$fuzz` over turns that `$turns` makes, over the same with a byte wrong, and over any bytes.
macro_rules! properties_of_random_turns {
    ($fuzz:path, $turns:expr) => {
        proptest! {
            #[test]
            fn random_turns_give_the_same_outcome_byte_by_byte(data in $turns) {
                $fuzz(&data);
            }

            #[test]
            fn random_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..2000)) {
                $fuzz(&data);
            }

            /// One byte of a good dialogue changed, removed or doubled.
            #[test]
            fn mutated_dialogues_never_panic(
                data in $turns,
                at: prop::sample::Index,
                byte: u8,
                kind in 0..3,
            ) {
                let mut data = data;
                let at = at.index(data.len());
                match kind {
                    0 => data[at] = byte,
                    1 => { data.remove(at); }
                    _ => data.insert(at, data[at]),
                }
                $fuzz(&data);
            }
        }
    };
}

pub(crate) use properties_of_random_turns;
