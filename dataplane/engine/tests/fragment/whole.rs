//! Datagrams that algate itself must read: put together first.

use std::net::SocketAddrV4;

use algate_engine::drop_reason::DropReason;
use etherparse::{PacketBuilder, TcpHeader};

use crate::site::{INSIDE, OWN, Site, ends, icmp, l4, pieces, received, with_header};

/// A TCP segment without DF.
fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: &str, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(source.port(), destination.port(), seq, 8_192);
    header.syn = flags.contains('S');
    header.ack = flags.contains('A');
    header.psh = flags.contains('P');
    header.acknowledgment_number = if header.ack { 9_001 } else { 0 };
    let builder = PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 64).tcp_header(header);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    with_header(packet, |header| header[4..8].copy_from_slice(&[0, 77, 0, 0]))
}

#[test]
fn a_control_command_in_fragments_is_rewritten() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut site = Site::new();
        let (client, server) = ("10.0.0.2:4001".parse().unwrap(), "203.0.113.99:21".parse().unwrap());
        let syn = site.send(INSIDE, &[tcp(client, server, "S", 1_000, b"")]);
        let (outside, _) = ends(&received(&syn)[0]);
        let mut answer = tcp(server, outside, "SA", 9_000, b"");
        let ack_at = 20 + 8;
        answer[ack_at..ack_at + 4].copy_from_slice(&1_001_u32.to_be_bytes());
        let answer = with_l4_checksum(answer);
        site.send(crate::site::OUTSIDE, &[answer]);
        site.send(INSIDE, &[tcp(client, server, "A", 1_001, b"")]);
        let mut greeting = tcp(server, outside, "PA", 9_001, b"220 ready\r\n");
        greeting[ack_at..ack_at + 4].copy_from_slice(&1_001_u32.to_be_bytes());
        site.send(crate::site::OUTSIDE, &[with_l4_checksum(greeting)]);

        let port = tcp(client, server, "PA", 1_001, b"PORT 10,0,0,2,20,21\r\n");
        let cut = pieces(&port, 24);
        assert_eq!(cut.len(), 2);
        // Two fragments of 24 and 17 bytes: an order of three picks those that exist.
        let parts: Vec<_> = order.iter().filter_map(|at| cut.get(*at).cloned()).collect();
        let seen = site.send(INSIDE, &parts);
        let commands: Vec<String> = received(&seen)
            .iter()
            .map(|packet| String::from_utf8_lossy(&l4(packet)[20..]).into_owned())
            .filter(|text| text.contains("PORT"))
            .collect();
        assert_eq!(commands.len(), 1, "{order:?} {:?}", site.drops());
        assert!(commands[0].starts_with("PORT 203,0,113,10,"), "{commands:?}");
        assert_eq!(site.total(|c| &c.fragments_merged), 1);
    }
}

fn with_l4_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[36..38].fill(0);
    let ip = etherparse::Ipv4HeaderSlice::from_slice(&packet).unwrap().to_header();
    let (header, payload) = TcpHeader::from_slice(&packet[20..]).unwrap();
    let checksum = header.calc_checksum_ipv4(&ip, payload).unwrap();
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn a_long_ping_of_algate_itself_is_answered_in_fragments() {
    for order in [[0, 1], [1, 0]] {
        let mut site = Site::new();
        let ping = icmp("10.0.0.2", OWN, (8, 0), [0, 9, 0, 1], 1_800);
        let cut = pieces(&ping, 1_480);
        let seen = site.send(INSIDE, &order.map(|at| cut[at].clone()));
        assert_eq!(seen.len(), 2, "{:?}", site.drops());
        let whole = received(&seen);
        assert_eq!(l4(&whole[0])[0], 0);
        assert_eq!(l4(&whole[0])[4..], l4(&ping)[4..]);
    }
}

#[test]
fn what_does_not_fit_into_one_frame_is_refused() {
    let mut site = Site::new();
    let ping = icmp("10.0.0.2", OWN, (8, 0), [0, 9, 0, 1], 4_028);
    assert_eq!(site.send(INSIDE, &pieces(&ping, 1_480)).len(), 0);
    assert_eq!(site.drops(), [("fragment_too_long", 3)]);
    assert_eq!(site.kept(), 0);
}

#[test]
fn without_a_frame_to_put_them_into_the_fragments_die() {
    let mut site = Site::new();
    site.limit_mempool(0);
    let ping = icmp("10.0.0.2", OWN, (8, 0), [0, 9, 0, 1], 1_800);
    site.send(INSIDE, &pieces(&ping, 1_480));
    assert_eq!((site.kept(), site.dropped(DropReason::MempoolExhausted)), (0, 2));
}
