//! What holds for all datagrams, cuts and orders; and garbage.

use algate_engine::fragment::cut::cut;
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use proptest::prelude::*;

use crate::site::{INSIDE, OUTSIDE, SERVER, Site, l4, piece, received, udp, with_header};

/// The fragments of a packet at these borders (in units of eight bytes).
fn cut_at(packet: &[u8], borders: &[usize]) -> Vec<Vec<u8>> {
    let length = l4(packet).len();
    let mut borders: Vec<usize> =
        borders.iter().map(|at| at * 8).filter(|at| (1..length).contains(at)).collect();
    borders.extend([0, length]);
    borders.sort_unstable();
    borders.dedup();
    borders.windows(2).map(|pair| piece(packet, pair[0], pair[1])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_in_any_order_passes_whole(
        bytes in 37_usize..9_000,
        borders in proptest::collection::vec(1_usize..1_100, 1..15),
        seed in any::<u64>(),
        burst in 1_usize..40,
        mtu in 68_u16..1_500,
    ) {
        let packet = udp("10.0.0.2:4001", SERVER, 7, bytes);
        let mut parts = cut_at(&packet, &borders);
        parts.retain(|part| part.len() <= 1_500);
        prop_assume!(parts.iter().map(|part| l4(part).len()).sum::<usize>() == bytes - 20);
        let mut state = seed;
        for at in (1..parts.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            parts.swap(at, (state >> 33) as usize % (at + 1));
        }
        let mut site = Site::with(1, mtu, "");
        site.burst = burst;
        let seen = site.send(INSIDE, &parts);
        let whole = received(&seen);
        prop_assert_eq!(whole.len(), 1, "{:?}", site.drops());
        prop_assert_eq!(&l4(&whole[0])[8..], &l4(&packet)[8..]);
        prop_assert_eq!(site.kept(), 0);
    }

    #[test]
    fn what_is_cut_is_whole_when_put_together(
        bytes in 28_usize..4_000,
        mtu in 68_u16..1_500,
        options in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let plain = udp("10.0.0.2:4001", SERVER, 7, bytes);
        let options = &options[..options.len() / 4 * 4];
        let packet = [&plain[..20], options, &plain[20..]].concat();
        let total = packet.len() as u16;
        let packet = with_header(with_length(packet, options.len()), |h| h[2..4].copy_from_slice(&total.to_be_bytes()));
        let mut parts = Vec::new();
        let send = |_: &mut VecIo, frame: VecFrame| parts.push(frame.bytes()[3..].to_vec());
        let frame = [&[0; 3][..], &packet, &[0xee; 9]].concat();
        let (made, outcome) = cut(&mut VecIo::default(), &frame, 3, mtu, send);
        prop_assert_eq!((made as usize, outcome), (parts.len(), Ok(())));
        prop_assert!(parts.iter().all(|part| part.len() <= usize::from(mtu)));
        prop_assert_eq!(received(&parts), vec![packet]);
    }

    #[test]
    fn what_comes_out_never_overlaps(
        pieces in proptest::collection::vec((0_usize..12, 1_usize..6), 1..60),
        burst in 1_usize..40,
    ) {
        // 96 data bytes; the last piece that is cut from it says that it is the last.
        let packet = udp("10.0.0.2:4001", SERVER, 7, 116);
        let parts: Vec<_> = pieces
            .iter()
            .map(|(start, length)| piece(&packet, start * 8, 96.min((start + length) * 8)))
            .collect();
        let mut site = Site::new();
        site.burst = burst;
        // Each datagram that algate believes in has an identification of its own outside; `received` refuses
        // overlaps and repetitions in it.
        for whole in received(&site.send(INSIDE, &parts)) {
            prop_assert_eq!(&l4(&whole)[8..], &l4(&packet)[8..]);
        }
    }

    #[test]
    fn garbage_never_panics(
        packets in proptest::collection::vec(
            (0_u16..2, 0_u16..4, any::<u16>(), prop_oneof![Just(1_u8), Just(6), Just(17), any::<u8>()], 0_usize..60, any::<bool>()),
            1..80,
        ),
    ) {
        let mut site = Site::new();
        for (nic_port, identification, place, protocol, length, is_near) in packets {
            let (source, destination) = if nic_port == OUTSIDE { (SERVER, "203.0.113.10:53") } else { ("10.0.0.2:4001", SERVER) };
            let packet = udp(source, destination, identification, 100);
            // Near: among the first 64 bytes, so that fragments of one datagram meet.
            let place = if is_near { place & 0x2007 } else { place };
            let packet = with_header(piece(&packet, 0, length), |header| {
                header[6..8].copy_from_slice(&place.to_be_bytes());
                header[9] = protocol;
            });
            site.send(nic_port, &[packet]);
        }
        site.check_ledger();
    }
}

/// The header's length after options were put in.
fn with_length(mut packet: Vec<u8>, option_bytes: usize) -> Vec<u8> {
    packet[0] = 0x45 + (option_bytes / 4) as u8;
    packet
}
