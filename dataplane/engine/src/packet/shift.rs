//! Moving the numbers of a TCP segment by a constant: sequence number, acknowledgement, SACK edges (RFC 2018), in place.
//!
//! For streams that were edited and are read no more. Checksums are updated incrementally, so a wrong one stays exactly as wrong
//! as it came.

use crate::packet::TCP_BYTES;
use crate::packet::bytes::{read_u16, read_u32, write_u16, write_u32};
use crate::packet::checksum::Delta;
use crate::packet::parse::Ipv4View;
use crate::stream::segment::TcpFlags;

/// Adds `by` to the sequence number of the TCP segment `view` describes.
pub fn shift_seq(head: &mut [u8], view: &Ipv4View, by: i32) {
    if let Some(tcp) = header(head, view) {
        let change = add(tcp, 4, by);
        apply(tcp, change);
    }
}

/// Adds `by` to the acknowledgement number of the TCP segment `view` describes, if it has one, and to the edges of its SACK
/// blocks.
pub fn shift_ack(head: &mut [u8], view: &Ipv4View, by: i32) {
    let has_ack = TcpFlags(view.tcp_flags).has(TcpFlags::ACK);
    let Some(tcp) = header(head, view).filter(|_| has_ack) else { return };
    let mut change = add(tcp, 8, by);
    let mut at = TCP_BYTES;
    // Each turn moves on by one byte at least; a malformed option ends the list, as it does in every host.
    while let Some(&kind) = tcp.get(at) {
        let length = match kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => usize::from(tcp.get(at + 1).copied().unwrap_or(0)),
        };
        let is_whole = length > 0 && at + length <= tcp.len() && (kind == OPTION_NOP || length > 1);
        if !is_whole {
            break;
        }
        if kind == OPTION_SACK {
            for edge in (0..(length - 2) / 4).map(|edge| at + 2 + edge * 4) {
                change = change + add(tcp, edge, by);
            }
        }
        at += length;
    }
    apply(tcp, change);
}

/// The TCP header with its options.
fn header<'a>(head: &'a mut [u8], view: &Ipv4View) -> Option<&'a mut [u8]> {
    head.get_mut(usize::from(view.l4)..usize::from(view.payload))
}

/// Adds `by` to the number at `at`. Returns how the sum changes.
fn add(tcp: &mut [u8], at: usize, by: i32) -> Delta {
    let Some(old) = read_u32(tcp, at) else { return Delta::default() };
    let new = old.wrapping_add_signed(by);
    write_u32(tcp, at, new);
    let delta = Delta::of_u32(old, new);
    // At an odd place each byte lies in the other half of its word.
    if at.is_multiple_of(2) { delta } else { Delta::from_bits(delta.to_bits().swap_bytes()) }
}

fn apply(tcp: &mut [u8], change: Delta) {
    if let Some(field) = read_u16(tcp, 16) {
        write_u16(tcp, 16, change.apply(field));
    }
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_SACK: u8 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::RxChecksums;
    use crate::packet::checksum::{internet, is_valid, pseudo_header};
    use crate::packet::parse::{ParsedKind, parse};

    const ADDRESSES: (u32, u32) = (0x0a00_0002, 0xcb00_7132);

    /// A frame with these option bytes, a multiple of four, and its view.
    fn frame(seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> (Vec<u8>, Ipv4View) {
        let mut tcp = vec![0x10, 0, 0, 21];
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([((20 + options.len()) / 4 * 16) as u8, flags, 0x20, 0, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        let sum = internet(&tcp, pseudo_header(ADDRESSES.0, ADDRESSES.1, 6, tcp.len() as u16));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + tcp.len() as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(ADDRESSES.0.to_be_bytes());
        frame.extend(ADDRESSES.1.to_be_bytes());
        let sum = internet(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(tcp);
        let parsed = parse(&frame, frame.len(), RxChecksums::default()).unwrap();
        let ParsedKind::Ipv4(view) = parsed.kind else { panic!("IPv4") };
        (frame, view)
    }

    fn checksum_is_right(frame: &[u8]) -> bool {
        let tcp = &frame[34..];
        is_valid(tcp, pseudo_header(ADDRESSES.0, ADDRESSES.1, 6, tcp.len() as u16))
    }

    fn word(frame: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(frame[34 + at..34 + at + 4].try_into().unwrap())
    }

    #[test]
    fn numbers_move_across_the_wrap_and_the_sum_stays_right() {
        let sack = [1, 1, 5, 10, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 9];
        let (mut frame, view) = frame(u32::MAX - 2, 3, 0x10, &sack, b"data");
        shift_seq(&mut frame, &view, 7);
        shift_ack(&mut frame, &view, -5);
        assert_eq!((word(&frame, 4), word(&frame, 8)), (4, u32::MAX - 1));
        assert_eq!((word(&frame, 24), word(&frame, 28)), (u32::MAX - 6, 4));
        assert!(checksum_is_right(&frame));
    }

    #[test]
    fn an_absent_acknowledgement_is_left_alone() {
        let (mut frame, view) = frame(1, 0, 0x04, &[], b"");
        let before = frame.clone();
        shift_ack(&mut frame, &view, 100);
        assert_eq!(frame, before);
    }

    #[test]
    fn broken_option_lists_end_where_they_break() {
        for options in [[5, 0, 0, 0], [5, 1, 0, 0], [5, 40, 0, 0], [1, 1, 1, 5], [0, 5, 10, 0]] {
            let (mut frame, view) = frame(1, 2, 0x10, &options, b"");
            shift_ack(&mut frame, &view, 1);
            assert_eq!(frame[54..58], options);
            assert!(checksum_is_right(&frame));
        }
    }

    proptest! {
        #[test]
        fn a_right_checksum_stays_right_and_back_again_is_the_same(
            seq: u32, ack: u32, by: i32, pad in 0_usize..4, edges in proptest::collection::vec(any::<u32>(), 0..=6),
        ) {
            let edges = &edges[..edges.len() / 2 * 2];
            let mut options = vec![1; pad];
            options.extend([5, (2 + edges.len() * 4) as u8]);
            edges.iter().for_each(|edge| options.extend(edge.to_be_bytes()));
            options.resize(options.len().next_multiple_of(4), 0);
            let (mut frame, view) = frame(seq, ack, 0x18, &options, b"odd");
            let before = frame.clone();
            shift_seq(&mut frame, &view, by);
            shift_ack(&mut frame, &view, by.wrapping_neg());
            prop_assert!(checksum_is_right(&frame));
            for (number, edge) in edges.iter().enumerate() {
                prop_assert_eq!(word(&frame, 20 + pad + 2 + number * 4), edge.wrapping_sub(by as u32));
            }
            shift_seq(&mut frame, &view, by.wrapping_neg());
            shift_ack(&mut frame, &view, by);
            prop_assert_eq!(frame, before);
        }
    }
}
