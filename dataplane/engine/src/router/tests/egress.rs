//! The way out, over virtual time.

use super::*;
use crate::drop_reason::DropReason;
use crate::frame::Frame;
use crate::packet::tests::{assert_checksums, tagged};

#[test]
fn resolves_and_then_sends_what_waited_in_order() {
    let mut bench = Bench::new();
    for text in [b"one", b"two"] {
        bench.send("10.0.0.9", text);
    }
    let asked = bench.sent();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0, &asked[0].1[..6]), (NicPortId(0), &[0xFF; 6][..]));
    let request = as_arp(&asked[0].1).unwrap();
    assert_eq!((request.sender, request.target), (address("10.0.0.1"), address("10.0.0.9")));
    assert_eq!(bench.egress.waiting(), 2);

    bench.now = at(40);
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
    // A frame that comes before the next poll does not overtake those that wait.
    bench.send("10.0.0.9", b"three");
    let sent = bench.sent();
    let payloads: Vec<_> = sent.iter().map(|(_, bytes)| payload(bytes)).collect();
    assert_eq!(payloads, [&b"one"[..], b"two", b"three"]);
    for (nic_port, bytes) in &sent {
        assert_eq!((*nic_port, &bytes[..6], &bytes[6..12]), (NicPortId(0), &HOST_MAC[..], &INTERNAL_MAC[..]));
        assert_checksums(bytes);
    }
    assert_eq!(bench.egress.waiting(), 0);
}

#[test]
fn a_poll_sends_what_waited() {
    let mut bench = Bench::new();
    bench.send("203.0.113.9", b"to the gateway");
    assert_eq!(as_arp(&bench.sent()[0].1).unwrap().target, address("192.0.2.254"));
    bench.arp(EXTERNAL, ArpOperation::Reply, "192.0.2.254", "192.0.2.1").unwrap();
    let sent = bench.run_until(at(100));
    assert_eq!(sent.len(), 1);
    assert_eq!(payload(&sent[0].1), b"to the gateway");
}

#[test]
fn drops_what_waited_for_a_neighbour_that_does_not_answer() {
    let mut bench = Bench::new();
    bench.send("10.0.0.9", b"lost");
    bench.send("10.0.0.9", b"lost too");
    let asked = bench.run_until(at(5_000));
    let seconds: Vec<u64> = asked.iter().map(|(millisecond, _)| millisecond / 1_000).collect();
    assert_eq!(seconds, [0, 1, 2]);
    assert_eq!(bench.drops.of(DropReason::NeighborUnreachable), 2);
    bench.send("10.0.0.9", b"refused");
    assert_eq!(bench.drops.of(DropReason::NeighborUnreachable), 3);
    assert_eq!((bench.egress.waiting(), bench.sent().len()), (0, 0));
}

#[test]
fn keeps_the_latest_four_for_one_neighbour() {
    let mut bench = Bench::new();
    for number in 0..6u8 {
        bench.send("10.0.0.9", &[number]);
    }
    assert_eq!(bench.egress.waiting(), 4);
    assert_eq!(bench.drops.of(DropReason::NeighborQueueFull), 2);
    bench.sent();
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
    let sent = bench.run_until(at(0));
    let payloads: Vec<_> = sent.iter().map(|(_, bytes)| payload(bytes)[0]).collect();
    assert_eq!(payloads, [2, 3, 4, 5]);
}

#[test]
fn keeps_sixty_four_for_all_neighbours() {
    let mut bench = Bench::new();
    for host in 2..72 {
        bench.send(&format!("10.0.0.{host}"), b"x");
    }
    assert_eq!(bench.egress.waiting(), 64);
    assert_eq!(bench.drops.of(DropReason::NeighborQueueFull), 6);
}

#[test]
fn traffic_goes_on_while_a_neighbour_is_validated() {
    let mut bench = Bench::new();
    bench.send("10.0.0.9", b"first");
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
    let next_hop = bench.router.next_hop(TenantId::NONE, address("10.0.0.9"), bench.now).unwrap();
    let mut requests = 0;
    bench.run_until(at(0));
    for second in 1..300 {
        for (_, bytes) in bench.run_until(at(second * 1_000)) {
            // The neighbour answers what is asked by unicast.
            assert_eq!(bytes[..6], HOST_MAC);
            assert_eq!(as_arp(&bytes).unwrap().operation, ArpOperation::Request);
            requests += 1;
            bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
        }
        let frame = datagram(address("10.0.0.9"), b"steady");
        let sent = bench.with_context(|context, egress, io| egress.send(context, io, frame, 14, next_hop));
        assert!(sent.is_ok());
        assert_eq!(bench.sent().len(), 1, "second {second}");
    }
    assert_eq!(requests, 5, "one every 57 seconds");
}

#[test]
fn gives_a_frame_back_when_the_next_hop_is_of_another_time() {
    let mut bench = Bench::new();
    bench.arp(INTERNAL, ArpOperation::Request, "10.0.0.9", "10.0.0.1").unwrap();
    let next_hop = bench.router.next_hop(TenantId::NONE, address("10.0.0.9"), bench.now).unwrap();
    bench.run_until(at(70_000));
    let frame = datagram(address("10.0.0.9"), b"kept");
    let back = bench.with_context(|context, egress, io| egress.send(context, io, frame, 14, next_hop));
    assert!(back.is_err_and(|frame| frame.len() == 46));
}

#[test]
fn pushes_and_pops_a_vlan_tag_by_moving_the_start() {
    let mut bench = Bench::new();
    bench.send("172.16.0.9", b"tagged");
    let request = &bench.sent()[0];
    assert_eq!((request.0, &request.1[12..18]), (NicPortId(1), &[0x81, 0, 0, 7, 8, 6][..]));
    bench.arp(TAGGED, ArpOperation::Reply, "172.16.0.9", "172.16.0.1").unwrap();
    let sent = bench.run_until(at(100));
    assert_eq!(sent[0].1[12..18], [0x81, 0, 0, 7, 8, 0]);
    assert_eq!((as_ipv4(&sent[0].1).l3, payload(&sent[0].1)), (18, b"tagged".to_vec()));

    bench.arp(INTERNAL, ArpOperation::Request, "10.0.0.9", "10.0.0.1").unwrap();
    bench.sent();
    let next_hop = bench.router.next_hop(TenantId::NONE, address("10.0.0.9"), bench.now).unwrap();
    let frame = VecFrame::from_bytes(&tagged(&datagram(address("10.0.0.9"), b"plain").bytes(), 0x8100, 7));
    bench.with_context(|context, egress, io| egress.send(context, io, frame, 18, next_hop)).unwrap();
    let sent = bench.sent();
    assert_eq!((as_ipv4(&sent[0].1).l3, payload(&sent[0].1)), (14, b"plain".to_vec()));
}

#[test]
fn counts_a_frame_without_room_for_its_header() {
    let mut bench = Bench::new();
    bench.arp(TAGGED, ArpOperation::Request, "172.16.0.9", "172.16.0.1").unwrap();
    let next_hop = bench.router.next_hop(TenantId::NONE, address("172.16.0.9"), bench.now).unwrap();
    let mut frame = datagram(address("172.16.0.9"), b"x");
    assert!(frame.grow_front(128));
    bench.sent();
    let sent = bench.with_context(|context, egress, io| egress.send(context, io, frame, 14, next_hop));
    assert!(sent.is_ok());
    assert_eq!((bench.sent().len(), bench.drops.of(DropReason::NoHeadroom)), (0, 1));
}
