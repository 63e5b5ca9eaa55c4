//! Whatever comes in: no panic, no broken promise, no lost memory.
//!
//! Segments with numbers in, near and far from where they should be, from both ends, with any flags, and
//! timers in between. The promises are those of `stream_hostile`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod stream_hostile;

use algate_engine::stream::segment::TcpSegment;
use proptest::prelude::*;
use stream_hostile::{Event, run};

fn event() -> impl Strategy<Value = Event> {
    let near = || prop_oneof![6 => Just(0), 6 => -30_i32..30, 1 => any::<i32>()];
    let flags = prop_oneof![
        20 => Just(0x10_u8),
        10 => Just(0x18),
        3 => Just(0x11),
        2 => Just(0x38),
        1 => any::<u8>(),
    ];
    let window = prop_oneof![4 => Just(4000_u16), 2 => 0_u16..40, 1 => any::<u16>()];
    let byte = prop_oneof![4 => b'a'..=b'z', 1 => Just(b'\n')];
    let data = prop_oneof![
        1 => Just(Vec::new()),
        2 => prop::collection::vec(byte, 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    let options = prop_oneof![
        4 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..10).prop_map(|mut bytes| {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        }),
        1 => any::<[u8; 16]>().prop_map(|edges| [&[1, 1, 5, 18], &edges[..]].concat()),
    ];
    prop_oneof![
        30 => (any::<bool>(), near(), near(), flags, window, any::<u16>(), options, data).prop_map(
            |(is_original, seq, ack, flags, window, urgent, options, data)| Event::Segment {
                is_original, seq, ack, flags, window, urgent, options, data,
            }
        ),
        3 => (0_u64..200).prop_map(|seconds| Event::Wait { seconds }),
        1 => Just(Event::Detach),
        1 => (any::<bool>(), any::<u16>()).prop_map(|(is_original, mtu)| Event::Mtu { is_original, mtu }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_for_any_segments(events in prop::collection::vec(event(), 1..80)) {
        run(&events);
    }

    #[test]
    fn any_bytes_can_be_read_as_a_segment(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(segment) = TcpSegment::parse(&bytes) {
            prop_assert!(segment.payload.len() + segment.options.raw.len() + 20 == bytes.len());
        }
    }
}
