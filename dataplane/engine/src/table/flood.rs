//! Floods of keys that are built to share a bucket.

use super::hash::HashKey;
use super::index::{IndexTable, Inserted};
use super::sync::Writers;
use crate::nat::key::{Endpoint, FlowKey};

const BUCKETS: usize = 1_024;
const FLOWS: usize = 1_024;

/// A flow that one host can make by choosing ports and addresses.
fn flow(number: u32) -> FlowKey {
    let source = Endpoint::new(0x0a00_0000 | number >> 12, 1_024 + (number & 0xfff) as u16);
    FlowKey::new(17, source, Endpoint::new(0xcb00_7101, 53))
}

/// As the index chooses a first bucket of `BUCKETS`.
fn bucket(hash: u64) -> usize {
    (hash as u32 >> 22) as usize
}

/// The first flows that `lands` says to share a place.
fn colliding(lands: impl Fn(FlowKey) -> bool) -> Vec<FlowKey> {
    let flows: Vec<_> = (0..).map(flow).filter(|flow| lands(*flow)).take(FLOWS).collect();
    assert_eq!(flows.len(), FLOWS);
    flows
}

/// Flows in the fullest first bucket under `key`, and pairs of flows that share theirs.
fn crowd(flows: &[FlowKey], key: &HashKey) -> (usize, usize) {
    let mut counts = [0_usize; BUCKETS];
    for flow in flows {
        if let Some(count) = counts.get_mut(bucket(flow.hash(key))) {
            *count += 1;
        }
    }
    (
        counts.into_iter().max().unwrap_or(0),
        counts.iter().map(|count| count * count.saturating_sub(1) / 2).sum(),
    )
}

fn key(number: u64) -> HashKey {
    HashKey::from_seed([number, number ^ 0x5bd1_e995, !number, number.rotate_left(17)])
}

/// The table holds them all, and a find compares no more than a few records.
fn assert_ordinary(name: &str, flows: &[FlowKey], key: &HashKey) {
    let (fullest, _) = crowd(flows, key);
    // Chance puts more than 11 of 1,024 into some bucket of 1,024 once in a million tables.
    assert!(fullest <= 11, "{name}: {fullest} flows share a bucket");
    let table = IndexTable::with_capacity(BUCKETS * 4, Writers::One);
    for (value, flow) in (0..).zip(flows) {
        assert_eq!(table.insert(flow.hash(key), value, |_| false), Inserted::New, "{name}");
    }
    for (value, flow) in (0_u32..).zip(flows) {
        let compared = std::cell::Cell::new(0);
        let found = table.find(flow.hash(key), |other| {
            compared.set(compared.get() + 1);
            other == value
        });
        assert!(found == Some(value) && compared.get() <= 2, "{name}: {} compared", compared.get());
    }
}

#[test]
fn s_13_keys_that_collide_under_one_hash_key_are_ordinary_under_a_hundred_others() {
    let known = key(0);
    let flows = colliding(|flow| bucket(flow.hash(&known)) == 7);
    let under_known = crowd(&flows, &known);
    assert_eq!(under_known, (FLOWS, FLOWS * (FLOWS - 1) / 2));
    let mut pairs = 0;
    for number in 1..=100 {
        assert_ordinary("another key", &flows, &key(number));
        pairs += crowd(&flows, &key(number)).1;
    }
    // Chance has 511.5 pairs a table, with a deviation of 2.3 over 100 of them.
    assert!((49_900..52_400).contains(&pairs), "{pairs}");
}

#[test]
fn s_13_flows_that_collide_under_public_hashes_are_ordinary() {
    let bytes = |flow: FlowKey| {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&flow.addresses.to_be_bytes());
        bytes[8..].copy_from_slice(&((flow.ports >> 32) as u32).to_be_bytes());
        bytes
    };
    let floods = [
        ("Toeplitz", colliding(|flow| toeplitz(&bytes(flow)) & 127 == 0)),
        ("CRC32C", colliding(|flow| crc32c(&bytes(flow)) & 127 == 0)),
        ("Fx", colliding(|flow| fx(flow) >> 57 == 0)),
    ];
    for (name, flows) in floods {
        for number in 1..=10 {
            assert_ordinary(name, &flows, &key(number));
        }
    }
}

#[test]
fn s_13_even_who_knows_the_hash_key_makes_no_look_longer_than_three_buckets() {
    let known = key(0);
    let flows = colliding(|flow| bucket(flow.hash(&known)) == 7);
    let table = IndexTable::with_capacity(BUCKETS * 4, Writers::One);
    let inserted = (0..)
        .zip(&flows)
        .filter(|(value, flow)| table.insert(flow.hash(&known), *value, |_| false) == Inserted::New);
    // The first bucket's eight slots, those of the second ones, which the tag chooses, and the stash's.
    assert!(inserted.count() > FLOWS * 9 / 10);
    for flow in &flows {
        let compared = std::cell::Cell::new(0);
        let _ = table.find(flow.hash(&known), |_| {
            compared.set(compared.get() + 1);
            false
        });
        assert!(compared.get() <= 24, "{}", compared.get());
    }
}

/// As NICs compute it, under the key that most drivers come with.
fn toeplitz(input: &[u8]) -> u32 {
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    let mut hash = 0;
    for (window, byte) in KEY.windows(5).zip(input) {
        let wide = window.iter().fold(0_u64, |wide, byte| (wide << 8) | u64::from(*byte));
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (wide >> (8 - bit)) as u32;
            }
        }
    }
    hash
}

fn crc32c(input: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
    !input.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn fx(flow: FlowKey) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    mix(mix(0, flow.addresses), flow.ports)
}

#[test]
fn the_public_hashes_are_the_public_ones() {
    // The verification suite of Microsoft's RSS: 66.9.149.187:2794 to 161.142.100.80:1766.
    let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
    assert_eq!(toeplitz(&input), 0x51cc_c178);
    // RFC 3720 appendix B.4 prints the check value of CRC32C.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
