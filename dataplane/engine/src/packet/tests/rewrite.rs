//! Translations, seen by etherparse.

use proptest::prelude::*;

use super::*;
use crate::packet::parse::L4Class;
use crate::packet::rewrite::{
    TcpNumbers, Translation, Tuple, decrement_ttl, set_tcp_numbers, tcp_numbers, translate,
};

fn tuple(view: &Ipv4View) -> Tuple {
    Tuple { src: view.src, dst: view.dst, src_port: view.src_port, dst_port: view.dst_port }
}

/// `bytes` translated to `to`.
fn translated(bytes: &[u8], to: Tuple) -> Vec<u8> {
    let view = ipv4_view(bytes);
    let mut bytes = bytes.to_vec();
    translate(&mut bytes, &view, &Translation::new(view.class, tuple(&view), to)).unwrap();
    bytes
}

const OUTSIDE: Tuple = Tuple { src: 0xCB00_7107, dst: DST, src_port: 20_112, dst_port: 21 };

#[test]
fn changes_addresses_ports_and_checksums_and_nothing_else() {
    let before = tcp_frame(b"USER anonymous\r\n");
    let after = translated(&before, OUTSIDE);
    assert_checksums(&after);
    assert_eq!(tuple(&ipv4_view(&after)), OUTSIDE);
    let changed: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    let allowed = [24, 25, 26, 27, 28, 29, 34, 35, 50, 51];
    assert!(changed.iter().all(|at| allowed.contains(at)), "changed {changed:?}");
}

#[test]
fn changes_only_the_identifier_of_an_icmp_query() {
    let request = translated(&echo_frame(true, b"abcd"), Tuple { src_port: 9_999, dst_port: 0, ..OUTSIDE });
    assert_checksums(&request);
    assert_eq!(request[38..40], 9_999u16.to_be_bytes());
    let reply = translated(&echo_frame(false, b"abcd"), Tuple { src_port: 0, dst_port: 4_242, ..OUTSIDE });
    assert_checksums(&reply);
    assert_eq!(reply[38..40], 4_242u16.to_be_bytes());
}

#[test]
fn keeps_a_missing_udp_checksum_missing() {
    let mut bytes = udp_frame(b"data");
    bytes[40..42].fill(0);
    let after = translated(&bytes, OUTSIDE);
    assert_eq!(after[40..42], [0, 0]);
    assert_checksums(&after);
}

#[test]
fn writes_no_port_into_a_later_fragment() {
    let later = with_header(&udp_frame(b"0123456789abcdef"), |header| header[7] = 3);
    let after = translated(&later, OUTSIDE);
    assert_eq!(after[34..], later[34..]);
    assert_eq!(reference_checksum(&after[14..34]), 0);
    assert_eq!(ipv4_view(&after).src, OUTSIDE.src);
}

#[test]
fn leaves_other_protocols_below_the_header_alone() {
    let gre = with_header(&udp_frame(b"0123456789"), |header| header[9] = 47);
    let after = translated(&gre, OUTSIDE);
    assert_eq!(ipv4_view(&after).class, L4Class::Other);
    assert_eq!(after[34..], gre[34..]);
    assert_eq!(reference_checksum(&after[14..34]), 0);
}

#[test]
fn writes_nothing_when_the_view_is_of_a_longer_frame() {
    let bytes = tcp_frame(b"");
    let view = ipv4_view(&bytes);
    let to = Translation::new(view.class, tuple(&view), OUTSIDE);
    for length in 0..54 {
        let mut short = bytes[..length].to_vec();
        assert_eq!(translate(&mut short, &view, &to), Err(DropReason::ChainedHeaders));
        assert_eq!(short, bytes[..length]);
    }
}

#[test]
fn takes_one_off_every_ttl() {
    for ttl in 2..=255 {
        let mut bytes = with_header(&udp_frame(b"x"), |header| header[8] = ttl);
        let view = ipv4_view(&bytes);
        decrement_ttl(&mut bytes, &view);
        assert_eq!(bytes[22], ttl - 1);
        assert_checksums(&bytes);
    }
}

proptest! {
    #[test]
    fn translated_checksums_are_right(
        kind in 0u8..3,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        addresses in (0x0100_0000u32..0x7F00_0000, 0x8000_0000u32..0xE000_0000),
        ports in any::<(u16, u16)>(),
    ) {
        let bytes = match kind {
            0 => tcp_frame(&payload),
            1 => udp_frame(&payload),
            _ => echo_frame(true, &payload),
        };
        let dst_port = if kind == 2 { 0 } else { ports.1 };
        let to = Tuple { src: addresses.0, dst: addresses.1, src_port: ports.0, dst_port };
        let after = translated(&bytes, to);
        assert_checksums(&after);
        prop_assert_eq!(tuple(&ipv4_view(&after)), to);
        // And back: the same bytes as before, but for the two forms of a zero checksum.
        let back = translated(&after, tuple(&ipv4_view(&bytes)));
        prop_assert_eq!(&back[26..34], &bytes[26..34]);
        assert_checksums(&back);
    }

    #[test]
    fn moved_tcp_numbers_keep_the_checksum_right(
        seq in any::<u32>(),
        ack in any::<u32>(),
        window in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..32),
    ) {
        let mut bytes = tcp_frame(&payload);
        let view = ipv4_view(&bytes);
        let to = TcpNumbers { seq, ack, window };
        set_tcp_numbers(&mut bytes, &view, to);
        prop_assert_eq!(tcp_numbers(&bytes, &view), Some(to));
        assert_checksums(&bytes);
    }
}
