//! Packets that are larger than the outgoing MTU.

use crate::site::{INSIDE, OUTSIDE, SERVER, Site, ends, l4, pieces, received, udp, with_header, word};

#[test]
fn u_14_what_may_be_cut_leaves_in_fragments_in_order() {
    for (mtu, bytes, fragments) in
        [(1_280, 1_500, 2), (1_280, 1_281, 2), (1_280, 1_280, 1), (68, 1_500, 31), (68, 69, 2)]
    {
        let mut site = Site::with(1, mtu, "");
        let packet = udp("10.0.0.2:4001", SERVER, 7, bytes);
        let seen = site.send(INSIDE, std::slice::from_ref(&packet));
        let name = format!("{bytes} bytes over {mtu}");
        assert_eq!(seen.len(), fragments, "{name}");
        assert!(seen.iter().all(|part| part.len() <= usize::from(mtu)), "{name}");
        let offsets: Vec<u16> = seen.iter().map(|part| word(part, 6) & 0x1fff).collect();
        assert!(offsets.is_sorted(), "{name}: {offsets:?}");
        let whole = received(&seen);
        assert_eq!(whole.len(), 1, "{name}");
        assert_eq!(l4(&whole[0])[8..], l4(&packet)[8..], "{name}");
        let (cut, made) = (site.total(|c| &c.packets_fragmented), site.total(|c| &c.fragments_made));
        assert_eq!((cut, made), if fragments > 1 { (1, fragments as u64) } else { (0, 0) }, "{name}");
    }
}

#[test]
fn u_14_what_must_not_be_cut_is_reported_with_the_mtu() {
    let mut site = Site::with(1, 1_280, "");
    let packet = with_header(udp("10.0.0.2:4001", SERVER, 7, 1_500), |header| header[6] = 0x40);
    let seen = site.send(INSIDE, std::slice::from_ref(&packet));
    assert_eq!((seen.len(), &l4(&seen[0])[..2], word(l4(&seen[0]), 6)), (1, &[3, 4][..], 1_280));
    assert_eq!(seen[0][16..20], [10, 0, 0, 2]);
    assert_eq!(site.drops(), [("fragmentation_needed", 1)]);
}

#[test]
fn fragments_are_cut_again() {
    let mut site = Site::with(1, 576, "");
    let packet = udp("10.0.0.2:4001", SERVER, 7, 4_000);
    let mut cut = pieces(&packet, 1_480);
    cut.reverse();
    let seen = site.send(INSIDE, &cut);
    assert!(seen.iter().all(|part| part.len() <= 576));
    let whole = received(&seen);
    assert_eq!(l4(&whole[0])[8..], l4(&packet)[8..]);
}

#[test]
fn options_are_copied_as_their_flag_says() {
    // Record route (7, not copied), loose source route (0x83, copied), no operation; then end of options.
    let record_route = [7, 7, 4, 0, 0, 0, 0];
    let source_route = [0x83, 7, 4, 192, 0, 2, 1];
    let mut site = Site::with(1, 576, "");
    let plain = udp("10.0.0.2:4001", SERVER, 7, 1_200);
    let mut packet = plain[..20].to_vec();
    packet.extend(record_route.iter().chain(&source_route).chain(&[1, 0]));
    packet.extend(&plain[20..]);
    let total = packet.len() as u16;
    packet[0] = 0x49;
    let packet = with_header(packet, |header| header[2..4].copy_from_slice(&total.to_be_bytes()));
    let seen = site.send(INSIDE, std::slice::from_ref(&packet));
    assert_eq!(seen[0][20..36], packet[20..36], "the first fragment has all");
    for part in &seen[1..] {
        assert_eq!(part[0], 0x47);
        assert_eq!(part[20..27], source_route);
        assert_eq!(part[27], 0);
    }
    let lengths: Vec<usize> = seen.iter().map(Vec::len).collect();
    assert_eq!(lengths, [572, 572, 1_180 - 536 - 544 + 28], "each is as large as fits");
    assert_eq!(received(&seen).len(), 1);
}

#[test]
fn malformed_options_are_cut_somehow() {
    for options in [[7, 200, 4, 0], [0x83, 0, 0, 0], [0x83, 1, 0x83, 1], [1, 1, 1, 0x83], [0xff; 4]] {
        let mut site = Site::with(1, 576, "");
        let plain = udp("10.0.0.2:4001", SERVER, 7, 1_200);
        let mut packet = [&plain[..20], &options, &plain[20..]].concat();
        packet[0] = 0x46;
        let packet = with_header(packet, |header| header[2..4].copy_from_slice(&1_204_u16.to_be_bytes()));
        assert_eq!(received(&site.send(INSIDE, &[packet])).len(), 1, "{options:?}");
    }
}

#[test]
fn inbound_packets_are_cut_too() {
    let toml = "\n[[interface]]\nname = \"narrow\"\nnic_port = \"p0\"\nvlan = 7\nside = \"internal\"\n\
                addresses = [\"10.7.0.1/24\"]\nmtu = 68\n\
                [[nat.forward]]\nprotocol = \"udp\"\nexternal = \"203.0.113.10:77\"\ninternal = \"10.7.0.7:7\"\n";
    let mut site = Site::with(1, 1_500, toml);
    let packet = udp(SERVER, "203.0.113.10:77", 7, 300);
    // So that its neighbour is known.
    site.send(OUTSIDE, &[udp(SERVER, "203.0.113.10:77", 6, 60)]);
    let seen = site.send(OUTSIDE, std::slice::from_ref(&packet));
    assert_eq!(seen.len(), 6);
    let whole = received(&seen);
    assert_eq!((l4(&whole[0])[8..].to_vec(), word(&whole[0], 4)), (l4(&packet)[8..].to_vec(), 7));
}

#[test]
fn an_empty_mempool_ends_the_cutting() {
    let mut site = Site::with(1, 68, "");
    site.send(INSIDE, &[udp("10.0.0.2:4001", SERVER, 7, 60)]);
    site.limit_mempool(3);
    let seen = site.send(INSIDE, &[udp("10.0.0.2:4001", SERVER, 7, 1_500)]);
    assert_eq!(seen.len(), 3);
    assert_eq!(site.total(|c| &c.fragments_made), 3);
    assert_eq!(ends(&seen[0]).1, SERVER.parse().unwrap());
}
