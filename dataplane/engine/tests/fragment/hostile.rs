//! Fragments that nobody sends honestly.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::site::{INSIDE, OUTSIDE, SERVER, Site, icmp, piece, pieces, received, udp, with_header};

const LIFETIME: Duration = Duration::from_secs(2);

/// A 4,000-byte datagram and pieces of it by their first and last data byte.
fn cut(ranges: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let packet = udp("10.0.0.2:4001", SERVER, 7, 4_000);
    ranges.iter().map(|(start, end)| piece(&packet, *start, *end)).collect()
}

#[test]
fn s_18_an_overlap_condemns_the_datagram() {
    type Ranges = &'static [(usize, usize)];
    // Data bytes 0 to 3,980. What has gone on before the overlap is no whole datagram.
    let rows: [(&str, Ranges, u64); 7] = [
        ("teardrop: inside the first one", &[(0, 1_480), (24, 48), (1_480, 2_960), (2_960, 3_980)], 3),
        ("across the border of two", &[(0, 1_480), (1_480, 2_960), (1_472, 1_488), (2_960, 3_980)], 2),
        ("longer than the one it repeats", &[(0, 1_480), (1_480, 2_960), (1_480, 2_968), (2_960, 3_980)], 2),
        ("shorter than the one it repeats", &[(0, 1_480), (1_480, 2_960), (1_480, 1_488), (2_960, 3_980)], 2),
        ("before the first one has come", &[(1_480, 2_960), (1_488, 2_968), (0, 1_480), (2_960, 3_980)], 4),
        ("with the first one, which comes late", &[(1_472, 2_960), (0, 1_480), (2_960, 3_980)], 3),
        ("around another one", &[(1_480, 1_488), (1_472, 1_496), (0, 1_480), (2_960, 3_980)], 4),
    ];
    for (name, ranges, dropped) in rows {
        let mut site = Site::new();
        assert_eq!(received(&site.send(INSIDE, &cut(ranges))).len(), 0, "{name}");
        assert_eq!(site.drops(), [("fragment_overlap", dropped)], "{name}");
        assert_eq!(site.kept(), 0, "{name}");
        // The next datagram with this identification, after a while, is another one.
        site.advance(LIFETIME);
        let honest = pieces(&udp("10.0.0.2:4001", SERVER, 7, 4_000), 1_480);
        assert_eq!(received(&site.send(INSIDE, &honest)).len(), 1, "{name}");
    }
}

#[test]
fn s_18_fragments_that_disagree_about_the_end_condemn_the_datagram() {
    let packet = udp("10.0.0.2:4001", SERVER, 7, 4_000);
    let last = |start, end| with_header(piece(&packet, start, end), |header| header[6] &= !0x20);
    let (first, beyond) = (piece(&packet, 0, 1_480), piece(&packet, 2_960, 3_000));
    for (name, parts, dropped) in [
        ("two ends", [last(1_480, 2_960), last(2_960, 3_980), first.clone()], 3),
        ("an end before what has come", [first.clone(), beyond.clone(), last(1_480, 2_960)], 1),
        ("data beyond the end", [last(1_480, 2_960), beyond, first], 3),
    ] {
        let mut site = Site::new();
        assert_eq!(received(&site.send(INSIDE, &parts)).len(), 0, "{name}");
        assert_eq!(site.drops(), [("fragment_overlap", dropped)], "{name}");
    }
}

#[test]
fn s_18_impossible_fragments_die_alone() {
    let packet = udp("10.0.0.2:4001", SERVER, 7, 4_000);
    let with_place = |start: usize, end: usize, place: u16| {
        with_header(piece(&packet, start, end), |header| header[6..8].copy_from_slice(&place.to_be_bytes()))
    };
    let tcp = |start: usize, end: usize| with_header(piece(&packet, start, end), |header| header[9] = 6);
    for (name, fragment, reason) in [
        ("no data", piece(&packet, 1_480, 1_480), DropReason::FragmentBadLength),
        ("7 bytes in the middle", with_place(8, 15, 0x2001), DropReason::FragmentBadLength),
        ("a first one of 12 bytes", with_place(0, 12, 0x2000), DropReason::FragmentBadLength),
        ("ends at 65,536 with its header", with_place(0, 12, 0x1ffc), DropReason::FragmentOverflow),
        ("ping of death", with_place(0, 1_480, 0x1fff), DropReason::FragmentOverflow),
        ("UDP header cut off", piece(&packet, 0, 0), DropReason::FragmentTiny),
        ("TCP header of 8 bytes", tcp(0, 8), DropReason::FragmentTiny),
        ("TCP flags in a later one", tcp(8, 16), DropReason::FragmentTiny),
        ("TCP urgent pointer in a later one", tcp(16, 24), DropReason::FragmentTiny),
        (
            "an ICMP error",
            piece(&icmp("10.0.0.2", "203.0.113.99", (3, 1), [0; 4], 1_000), 0, 480),
            DropReason::FragmentIcmpError,
        ),
        (
            "an unknown protocol",
            with_header(piece(&packet, 0, 480), |header| header[9] = 99),
            DropReason::UnsupportedProtocol,
        ),
    ] {
        let mut site = Site::new();
        let seen = site.send(INSIDE, &[fragment]);
        assert_eq!((seen.len(), site.dropped(reason)), (0, 1), "{name} {:?}", site.drops());
        assert_eq!(site.kept(), 0, "{name}");
    }
    // The largest datagram there is ends at 65,535 with its header.
    let mut site = Site::new();
    site.send(INSIDE, &[with_place(0, 11, 0x1ffc)]);
    assert_eq!((site.kept(), site.drops()), (1, vec![]));
}

#[test]
fn s_18_a_datagram_has_64_fragments_at_most() {
    for (fragments, passes) in [(64, true), (65, false)] {
        let mut site = Site::new();
        let packet = udp("10.0.0.2:4001", SERVER, 7, 20 + 64 * (fragments - 1) + 8);
        let cut = pieces(&packet, 64);
        assert_eq!(cut.len(), fragments);
        assert_eq!(received(&site.send(INSIDE, &cut)).len(), usize::from(passes), "{fragments}");
        assert_eq!(site.dropped(DropReason::FragmentTooMany), u64::from(!passes));
    }
}

#[test]
fn s_18_a_source_keeps_16_fragments_waiting() {
    let mut site = Site::new();
    let parts = pieces(&udp("10.0.0.2:4001", SERVER, 7, 60_000), 1_480);
    site.send(INSIDE, &parts[1..17]);
    assert_eq!((site.kept(), site.drops()), (16, vec![]));
    // Another datagram's wait would be one more: it leaves no trace.
    site.send(
        INSIDE,
        &cut(&[(1_480, 2_960)])
            .iter()
            .map(|part| with_header(part.clone(), |h| h[5] = 9))
            .collect::<Vec<_>>(),
    );
    assert_eq!((site.kept(), site.drops()), (16, vec![("fragment_source_limit", 1)]));
    // One more of the same datagram makes the others useless.
    site.send(INSIDE, &parts[17..18]);
    assert_eq!((site.kept(), site.drops()), (0, vec![("fragment_source_limit", 18)]));
    // Nobody else is concerned.
    let other = pieces(&udp("10.0.0.3:4001", SERVER, 7, 4_000), 1_480);
    assert_eq!(
        received(&site.send(INSIDE, &[other[1].clone(), other[0].clone(), other[2].clone()])).len(),
        1
    );
}

#[test]
fn s_18_what_waits_dies_after_two_seconds() {
    let mut site = Site::new();
    let parts = cut(&[(1_480, 2_960), (2_960, 3_980), (0, 1_480)]);
    site.send(INSIDE, &parts[..1]);
    site.advance(LIFETIME / 2);
    site.send(INSIDE, &parts[1..2]);
    site.advance(LIFETIME / 2 - Duration::from_millis(1));
    assert_eq!(site.kept(), 2);
    site.advance(Duration::from_millis(1));
    assert_eq!((site.kept(), site.drops()), (0, vec![("fragment_timeout", 2)]));
    // The late first one begins anew and waits for nobody.
    assert_eq!(site.send(INSIDE, &parts[2..]).len(), 1);
}

#[test]
fn s_18_time_is_kept_without_a_sweep() {
    let mut site = Site::new();
    let parts = cut(&[(1_480, 2_960), (2_960, 3_980), (0, 1_480)]);
    site.send(INSIDE, &parts[..2]);
    site.now = site.now.plus(LIFETIME);
    // Found before the sweep came by.
    let seen = site.send(INSIDE, &parts[2..]);
    assert_eq!((seen.len(), site.drops()), (1, vec![("fragment_timeout", 2)]));
}

#[test]
fn u_15_a_flood_of_firstless_fragments_costs_others_nothing() {
    let mut site = Site::new();
    let flood = |source: u32, identification: u16| {
        let source = format!("10.0.0.{}:1", 20 + source % 200);
        piece(&udp(&source, SERVER, identification, 200), 80, 160)
    };
    site.send(INSIDE, &[udp("10.0.0.2:4001", SERVER, 1, 100)]);
    let mut passed = (0, 0);
    for round in 0..1_000_u16 {
        let burst: Vec<_> = (0..100).map(|at| flood(u32::from(at), round * 61 + at)).collect();
        site.send(INSIDE, &burst);
        // An established flow, a new flow, and a datagram in order.
        passed.0 += site.send(INSIDE, &[udp("10.0.0.2:4001", SERVER, round, 100)]).len();
        if round % 10 == 0 {
            let new = udp(&format!("10.0.0.3:{}", 5_000 + round), SERVER, round, 4_000);
            passed.1 += received(&site.send(INSIDE, &pieces(&new, 1_480))).len();
        }
        site.advance(Duration::from_micros(100));
        assert!(site.kept() <= 512);
    }
    assert_eq!(passed, (1_000, 100));
    let refused = site.dropped(DropReason::FragmentTableFull) + site.dropped(DropReason::FragmentSourceLimit);
    assert_eq!(refused + site.kept(), 100_000);
    site.advance(LIFETIME);
    for _ in 0..10 {
        site.poll();
    }
    assert_eq!(site.kept(), 0);
}

#[test]
fn one_source_has_a_quarter_of_the_table() {
    let mut site = Site::with(1, 1_500, "[fragments]\ndatagrams = 64\n");
    let first = |host: u32, identification| {
        piece(&udp(&format!("10.0.0.{host}:4001"), SERVER, identification, 200), 0, 80)
    };
    let mut passed = |host, count: u16| -> usize {
        (0..count).map(|identification| site.send(INSIDE, &[first(host, identification)]).len()).sum()
    };
    assert_eq!(passed(2, 30), 16);
    assert_eq!((passed(3, 30), passed(4, 30), passed(5, 30), passed(6, 30)), (16, 16, 16, 0));
    assert_eq!(site.drops(), [("fragment_source_limit", 4 * 14), ("fragment_table_full", 30)]);
}

#[test]
fn nobody_outside_spoils_a_datagram_of_an_inside_host() {
    let mut site = Site::new();
    let parts = cut(&[(0, 1_480), (1_480, 2_960), (2_960, 3_980)]);
    let mut seen = site.send(INSIDE, &parts[..2]);
    // The same source, destination and identification from the other side, and overlapping.
    site.send(OUTSIDE, &cut(&[(1_472, 2_960)]));
    seen.extend(site.send(INSIDE, &parts[2..]));
    assert_eq!(received(&seen).len(), 1);
}

#[test]
fn a_flood_of_refused_first_fragments_leaves_room_for_others() {
    let mut site = Site::with(1, 1_500, "[fragments]\ndatagrams = 64\n");
    for source in 0..200 {
        let closed = udp(&format!("198.51.100.{source}:9"), "203.0.113.10:9", 7, 200);
        assert_eq!(site.send(OUTSIDE, &[piece(&closed, 0, 80)]).len(), 0);
    }
    let late = udp("198.51.100.3:9", "203.0.113.10:9", 7, 200);
    site.send(OUTSIDE, &[piece(&late, 80, 160)]);
    assert_eq!(site.drops(), [("fragment_refused", 1), ("no_mapping", 200)]);
    for host in 2..=9 {
        let packet = udp(&format!("10.0.0.{host}:4001"), SERVER, 7, 4_000);
        let cut = pieces(&packet, 1_480);
        let order = [1, 0, 2].map(|at: usize| cut[at].clone());
        assert_eq!(received(&site.send(INSIDE, &order)).len(), 1, "{:?}", site.drops());
    }
}

#[test]
fn i_02_a_fragmented_icmp_error_dies_with_all_its_fragments() {
    let error = icmp(SERVER.split_once(':').unwrap().0, "203.0.113.10", (3, 3), [0; 4], 2_000);
    for order in [[0, 1], [1, 0]] {
        let mut site = Site::new();
        let cut = pieces(&error, 1_480);
        assert_eq!(site.send(OUTSIDE, &order.map(|at| cut[at].clone())).len(), 0);
        assert_eq!(site.drops(), [("fragment_refused", 1), ("fragment_icmp_error", 1)]);
        assert_eq!(site.kept(), 0);
    }
}
