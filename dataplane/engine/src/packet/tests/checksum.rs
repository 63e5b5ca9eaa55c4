//! Sums in full and by increments.

use proptest::prelude::*;

use super::reference_checksum;
use crate::packet::checksum::{Delta, internet, is_valid, udp};

/// RFC 1624 section 4: the worked example in which RFC 1141's equation goes wrong.
#[test]
fn follows_the_example_of_rfc_1624() {
    assert_eq!(Delta::of_u16(0x5555, 0x3285).apply(0xDD2F), 0x0000);
}

/// RFC 1071 section 3: the bytes 00 01 f2 03 f4 f5 f6 f7 sum up to ddf2.
#[test]
fn follows_the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
    assert_eq!(internet(&bytes, 0), !0xDDF2);
}

#[test]
fn never_sends_a_computed_udp_zero() {
    // One word of 0xFFFF sums up to zero.
    assert_eq!(internet(&[0xFF, 0xFF], 0), 0);
    assert_eq!(udp(&[0xFF, 0xFF], 0), 0xFFFF);
    let to_zero = Delta::of_u16(0x5555, 0x3285);
    assert_eq!(to_zero.apply_udp(0xDD2F), 0xFFFF);
}

#[test]
fn keeps_a_udp_datagram_without_checksum_as_it_is() {
    assert_eq!(Delta::of_u32(1, 2).apply_udp(0), 0);
}

#[test]
fn changes_nothing_when_nothing_changes() {
    for field in [0, 1, 0x1234, 0xFFFE, 0xFFFF] {
        assert_eq!(Delta::of_u32(0xC0A8_0001, 0xC0A8_0001).apply(field), field);
        assert_eq!((Delta::of_u16(1, 2) + Delta::of_u16(2, 1)).apply(field), field);
    }
}

proptest! {
    #[test]
    fn full_sum_equals_the_word_by_word_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(internet(&bytes, 0), reference_checksum(&bytes));
    }

    #[test]
    fn incremental_equals_full(
        mut words in proptest::collection::vec(any::<u16>(), 8..40),
        position in 0usize..3,
        new in any::<[u16; 3]>(),
    ) {
        // A checksum of all zeros has two forms; RFC 1624 covers data that is never all zero.
        words[7] = 1;
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let before = internet(&bytes(&words), 0);
        let double = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
        let delta = Delta::of_u16(words[position], new[0])
            + Delta::of_u32(double(words[4], words[5]), double(new[1], new[2]));
        words[position] = new[0];
        words[4] = new[1];
        words[5] = new[2];
        prop_assert_eq!(delta.apply(before), internet(&bytes(&words), 0));
    }

    #[test]
    fn a_wrong_checksum_stays_as_wrong_as_it_came(
        field in any::<u16>(),
        old in any::<u32>(),
        new in any::<u32>(),
    ) {
        // Apart from the two forms of zero, there and back is the identity.
        let there = Delta::of_u32(old, new).apply(field);
        let back = Delta::of_u32(new, old).apply(there);
        prop_assert!(back == field || (back ^ field) == 0xFFFF && (field == 0 || field == 0xFFFF));
    }

    #[test]
    fn validity_is_what_the_sender_computed(
        mut bytes in proptest::collection::vec(any::<u8>(), 4..100),
        initial in any::<u32>(),
    ) {
        bytes[2..4].fill(0);
        let field = internet(&bytes, u64::from(initial));
        bytes[2..4].copy_from_slice(&field.to_be_bytes());
        prop_assert!(is_valid(&bytes, u64::from(initial)));
        bytes[0] ^= 1;
        prop_assert!(!is_valid(&bytes, u64::from(initial)));
    }
}
