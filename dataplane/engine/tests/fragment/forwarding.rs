//! Honest fragments, in whatever order.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::site::{
    INSIDE, OUTSIDE, POOL, SERVER, Site, ends, icmp, l4, piece, pieces, received, udp, with_header, word,
};

/// Every order of three things.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn u_15_three_fragments_pass_in_every_order_and_direction() {
    let rows = [
        ("outbound", INSIDE, udp("10.0.0.2:4001", SERVER, 7, 4_000)),
        ("inbound to a forward", OUTSIDE, udp(SERVER, "203.0.113.10:53", 7, 4_000)),
        ("hairpin", INSIDE, udp("10.0.0.2:4001", "203.0.113.10:53", 7, 4_000)),
        ("echo request", INSIDE, icmp("10.0.0.2", "203.0.113.99", (8, 0), [0, 9, 0, 1], 4_028)),
    ];
    for (name, nic_port, packet) in rows {
        for (order, burst) in ORDERS.iter().flat_map(|order| [(order, 1), (order, 32)]) {
            let mut site = Site::new();
            site.burst = burst;
            let cut = pieces(&packet, 1_480);
            let seen = site.send(nic_port, &order.map(|at| cut[at].clone()));
            let whole = received(&seen);
            assert_eq!(whole.len(), 1, "{name} {order:?} {:?}", site.drops());
            assert_eq!(l4(&whole[0])[8..], l4(&packet)[8..], "{name} {order:?}");
            assert_eq!(whole[0][8], 63, "{name}: TTL");
            assert_eq!((site.kept(), site.drops()), (0, vec![]), "{name} {order:?}");
        }
    }
}

#[test]
fn an_answer_in_fragments_finds_its_way_back() {
    let mut site = Site::new();
    let asked = site.send(INSIDE, &[udp("10.0.0.2:4001", SERVER, 1, 60)]);
    let (external, _) = ends(&asked[0]);
    let answer = udp(SERVER, &external.to_string(), 99, 4_000);
    let mut cut = pieces(&answer, 1_480);
    cut.swap(0, 1);
    let whole = received(&site.send(OUTSIDE, &cut));
    assert_eq!(ends(&whole[0]).1, "10.0.0.2:4001".parse().unwrap());
    // From outside the identification is its sender's business: it is already unique.
    assert_eq!(word(&whole[0], 4), 99);

    let asked =
        site.send(INSIDE, &pieces(&icmp("10.0.0.2", "203.0.113.99", (8, 0), [0, 9, 0, 1], 4_028), 1_480));
    let [_, _, _, _, high, low, ..] = l4(&received(&asked)[0])[..] else { panic!("no identifier") };
    let answer = icmp("203.0.113.99", &POOL.to_string(), (0, 0), [high, low, 0, 1], 4_028);
    let whole = received(&site.send(OUTSIDE, &pieces(&answer, 1_480)));
    assert_eq!(l4(&whole[0])[4..6], [0, 9]);
}

#[test]
fn u_15_sixty_thousand_bytes_pass_in_order_and_in_modest_disorder() {
    let packet = udp("10.0.0.2:4001", SERVER, 7, 60_000);
    let cut = pieces(&packet, 1_480);
    assert_eq!(cut.len(), 41);
    for (name, stride, burst) in [("in order", 1, 32), ("in threes", 3, 1), ("in twelves, backwards", 12, 32)]
    {
        let mut site = Site::new();
        site.burst = burst;
        let mixed: Vec<_> =
            cut.chunks(stride).flat_map(|part| part.iter().rev().cloned().collect::<Vec<_>>()).collect();
        let whole = received(&site.send(INSIDE, &mixed));
        assert_eq!(whole.len(), 1, "{name} {:?}", site.drops());
        assert_eq!(l4(&whole[0])[8..], l4(&packet)[8..], "{name}");
    }
}

#[test]
fn a_repetition_alone_is_refused() {
    let cut = pieces(&udp("10.0.0.2:4001", SERVER, 7, 4_000), 1_480);
    for order in [[0, 0, 1, 2], [0, 1, 1, 2], [1, 1, 0, 2], [2, 2, 1, 0], [2, 1, 2, 0]] {
        let mut site = Site::new();
        let seen = site.send(INSIDE, &order.map(|at| cut[at].clone()));
        assert_eq!(received(&seen).len(), 1, "{order:?}");
        assert_eq!(site.drops(), [("fragment_duplicate", 1)], "{order:?}");
    }
}

#[test]
fn an_identification_serves_again_as_soon_as_its_datagram_is_through() {
    let mut site = Site::new();
    for _ in 0..5 {
        assert_eq!(
            received(&site.send(INSIDE, &pieces(&udp("10.0.0.2:4001", SERVER, 7, 4_000), 1_480))).len(),
            1
        );
    }
    assert_eq!(site.drops(), []);
}

#[test]
fn datagrams_interleave() {
    let mut site = Site::new();
    let datagrams: Vec<Vec<Vec<u8>>> = (0..10)
        .map(|host| {
            pieces(&udp(&format!("10.0.0.{}:4001", 2 + host % 5), SERVER, 7 + host / 5, 4_000), 1_480)
        })
        .collect();
    let mixed: Vec<_> =
        [2, 0, 1].iter().flat_map(|at| datagrams.iter().map(|cut| cut[*at].clone())).collect();
    assert_eq!(received(&site.send(INSIDE, &mixed)).len(), 10, "{:?}", site.drops());
}

#[test]
fn c_15_hosts_with_the_same_identification_do_not_share_one_outside() {
    let mut site = Site::new();
    let hosts = ["10.0.0.2:4001", "10.0.0.3:4001", "10.0.0.4:4001"];
    let cuts = hosts.map(|host| pieces(&udp(host, SERVER, 7, 4_000), 1_480));
    let mixed: Vec<_> = (0..3).flat_map(|at| cuts.iter().map(move |cut| cut[at].clone())).collect();
    let seen = site.send(INSIDE, &mixed);
    let whole = received(&seen);
    assert_eq!(whole.len(), 3, "each host's fragments have one identification, and nobody else's");
    let mut identifications: Vec<u16> = whole.iter().map(|packet| word(packet, 4)).collect();
    identifications.dedup();
    assert_eq!(identifications.len(), 3);

    // Not a fragment, but a router may make some of it: the same.
    let small = hosts.map(|host| udp(host, SERVER, 7, 100));
    let mut identifications: Vec<u16> =
        site.send(INSIDE, &small).iter().map(|packet| word(packet, 4)).collect();
    identifications.sort_unstable();
    identifications.dedup();
    assert_eq!(identifications.len(), 3);
}

#[test]
fn c_15_atomic_packets_keep_their_identification() {
    let mut site = Site::new();
    let atomic = with_header(udp("10.0.0.2:4001", SERVER, 7, 100), |header| header[6] = 0x40);
    assert_eq!(word(&site.send(INSIDE, &[atomic])[0], 4), 7);
    // DF on a fragment means nothing for its identification.
    let odd = pieces(&udp("10.0.0.2:4001", SERVER, 7, 3_000), 1_480);
    let odd: Vec<_> = odd.into_iter().map(|part| with_header(part, |header| header[6] |= 0x40)).collect();
    let seen = site.send(INSIDE, &odd);
    assert!(seen.iter().all(|part| part[6] & 0x40 != 0), "DF stays");
    assert_eq!(word(&seen[0], 4), word(&seen[1], 4));
    assert_ne!(word(&seen[0], 4), 7);
}

#[test]
fn workers_that_receive_parts_of_a_datagram_bring_them_together() {
    for order in ORDERS {
        for receivers in [[0, 1, 2], [2, 2, 0], [1, 0, 1]] {
            let mut site = Site::with(3, 1_500, "");
            for host in 2..10 {
                let packet = udp(&format!("10.0.0.{host}:4001"), SERVER, 7, 4_000);
                let cut = pieces(&packet, 1_480);
                let mut seen = Vec::new();
                for (at, receiver) in order.iter().zip(receivers) {
                    site.receiver = receiver;
                    seen.extend(site.send(INSIDE, &[cut[*at].clone()]));
                }
                assert_eq!(received(&seen).len(), 1, "{order:?} {receivers:?} {:?}", site.drops());
            }
            assert!(site.total(|c| &c.handed_over) > 0);
        }
    }
}

#[test]
fn what_the_first_fragment_is_refused_for_ends_its_datagram() {
    let mut site = Site::new();
    let cut = pieces(&udp(SERVER, "203.0.113.10:9", 7, 4_000), 1_480);
    assert_eq!(site.send(OUTSIDE, &[cut[1].clone(), cut[0].clone(), cut[2].clone()]), Vec::<Vec<u8>>::new());
    assert_eq!(site.drops(), [("fragment_refused", 2), ("no_mapping", 1)]);
    assert_eq!(site.kept(), 0);
}

#[test]
fn fragments_after_the_end_of_their_session_are_refused() {
    let mut site = Site::with(
        1,
        1_500,
        "[fragments]\nlifetime = \"60s\"\n[timeouts]\nudp = \"2s\"\nallow_short = true\n",
    );
    let cut = pieces(&udp("10.0.0.2:4001", SERVER, 7, 4_000), 1_480);
    assert_eq!(site.send(INSIDE, &cut[..1]).len(), 1);
    for _ in 0..400 {
        site.advance(Duration::from_millis(100));
    }
    assert_eq!(site.engine.nat.sessions.in_use(), 0);
    assert_eq!(site.send(INSIDE, &cut[1..2]).len(), 0);
    assert_eq!(site.dropped(DropReason::FragmentRefused), 1);
}

#[test]
fn a_fragment_out_of_hops_dies_alone() {
    let mut site = Site::new();
    let mut cut = pieces(&udp("10.0.0.2:4001", SERVER, 7, 4_000), 1_480);
    cut[1] = with_header(cut[1].clone(), |header| header[8] = 1);
    assert_eq!(site.send(INSIDE, &cut).len(), 2);
    assert_eq!(site.drops(), [("ttl_exceeded", 1)]);
    // The first one's sender is told, and nothing of its datagram passes.
    let mut cut = pieces(&udp("10.0.0.2:4001", SERVER, 8, 4_000), 1_480);
    cut[0] = with_header(cut[0].clone(), |header| header[8] = 1);
    let seen = site.send(INSIDE, &cut);
    assert_eq!((seen.len(), seen[0][9], l4(&seen[0])[0]), (1, 1, 11));
    assert_eq!(
        site.drops(),
        [("ttl_exceeded", 2), ("fragment_refused", 2)]
            .map(|row| row)
            .to_vec()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_fragment_of_a_fragment_is_one() {
    // A router before algate has cut the second fragment again.
    let packet = udp("10.0.0.2:4001", SERVER, 7, 4_000);
    let mut cut = pieces(&packet, 1_480);
    cut.splice(1..2, [piece(&packet, 1_480, 2_000), piece(&packet, 2_000, 2_960)]);
    assert_eq!(received(&Site::new().send(INSIDE, &cut)).len(), 1);
}
