//! ARP: who is answered, who is believed.

use super::*;
use crate::drop_reason::DropReason;
use crate::router::arp::announce;

fn learnt(bench: &Bench) -> Vec<u32> {
    bench.router.neighbors.iter().map(|entry| entry.address).collect()
}

#[test]
fn answers_for_own_addresses_and_outside_for_the_nats() {
    let rows = [
        (INTERNAL, "10.0.0.9", "10.0.0.1", true),
        (INTERNAL, "10.0.0.9", "10.0.0.2", false),
        // Another interface's address, and the NAT's, are not answered inside.
        (INTERNAL, "10.0.0.9", "192.0.2.1", false),
        (INTERNAL, "10.0.0.9", "192.0.2.10", false),
        (EXTERNAL, "192.0.2.254", "192.0.2.1", true),
        (EXTERNAL, "192.0.2.254", "192.0.2.10", true),
        (EXTERNAL, "192.0.2.254", "192.0.2.12", true),
        (EXTERNAL, "192.0.2.254", "198.51.100.3", true),
        (EXTERNAL, "192.0.2.254", "198.51.100.4", false),
    ];
    for (interface, sender, target, is_answered) in rows {
        let mut bench = Bench::new();
        bench.arp(interface, ArpOperation::Request, sender, target).unwrap();
        let sent = bench.sent();
        assert_eq!(sent.len(), usize::from(is_answered), "{target} asked by {sender}");
        assert_eq!(learnt(&bench).len(), usize::from(is_answered), "{target} asked by {sender}");
        if let [(nic_port, bytes)] = &sent[..] {
            let own_mac = if interface == INTERNAL { INTERNAL_MAC } else { EXTERNAL_MAC };
            let reply = as_arp(bytes).unwrap();
            assert_eq!(nic_port.0, interface.0);
            assert_eq!((&bytes[..6], &bytes[6..12]), (&HOST_MAC[..], &own_mac[..]));
            assert_eq!((reply.operation, reply.sender_mac), (ArpOperation::Reply, own_mac));
            assert_eq!((reply.sender, reply.target), (address(target), address(sender)));
        }
    }
}

#[test]
fn answers_a_probe_and_learns_nothing_from_it() {
    let mut bench = Bench::new();
    bench.arp(INTERNAL, ArpOperation::Request, "0.0.0.0", "10.0.0.1").unwrap();
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(learnt(&bench), []);
}

#[test]
fn learns_nothing_from_a_reply_that_was_not_asked_for() {
    let mut bench = Bench::new();
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
    bench.arp(INTERNAL, ArpOperation::Request, "10.0.0.9", "10.0.0.9").unwrap();
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.9").unwrap();
    assert_eq!(learnt(&bench), []);
}

#[test]
fn a_gratuitous_packet_does_not_settle_an_open_question() {
    let mut bench = Bench::new();
    bench.send("10.0.0.9", b"secret");
    bench.sent();
    let attacker = [2, 6, 6, 6, 6, 6];
    bench.arp_from(attacker, INTERNAL, ArpOperation::Request, "10.0.0.9", "10.0.0.9").unwrap();
    bench.arp_from(attacker, INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.77").unwrap();
    bench.run_until(at(0));
    assert_eq!(bench.egress.waiting(), 1);
    bench.arp(INTERNAL, ArpOperation::Reply, "10.0.0.9", "10.0.0.1").unwrap();
    let sent = bench.run_until(at(100));
    assert_eq!(sent.last().unwrap().1[..6], HOST_MAC);
}

#[test]
fn believes_no_sender_from_outside_the_connected_prefix() {
    for operation in [ArpOperation::Request, ArpOperation::Reply] {
        let mut bench = Bench::new();
        let verdict = bench.arp(INTERNAL, operation, "203.0.113.9", "10.0.0.1");
        assert_eq!(verdict, Err(DropReason::BadArp));
        assert_eq!((bench.sent().len(), learnt(&bench).len()), (0, 0));
    }
}

#[test]
fn counts_a_claim_to_its_own_addresses_and_learns_nothing() {
    for (interface, sender) in [(INTERNAL, "10.0.0.1"), (EXTERNAL, "192.0.2.1"), (EXTERNAL, "192.0.2.11")] {
        let mut bench = Bench::new();
        for operation in [ArpOperation::Request, ArpOperation::Reply] {
            let verdict = bench.arp(interface, operation, sender, "10.0.0.1");
            assert_eq!(verdict, Err(DropReason::AddressConflict), "{sender}");
        }
        assert_eq!(learnt(&bench), []);
    }
}

#[test]
fn ignores_its_own_words() {
    let mut bench = Bench::new();
    let verdict = bench.arp_from(INTERNAL_MAC, INTERNAL, ArpOperation::Request, "10.0.0.1", "10.0.0.9");
    assert_eq!(verdict, Err(DropReason::BadArp));
}

#[test]
fn reads_a_request_that_lies_in_two_segments() {
    let packet = ArpPacket {
        operation: ArpOperation::Request,
        sender_mac: HOST_MAC,
        sender: address("10.0.0.9"),
        target_mac: [0; 6],
        target: address("10.0.0.1"),
    };
    let mut whole = VecFrame::new();
    assert!(build::arp(&mut whole, [0xFF; 6], 0, &packet));
    let mut bytes = whole.bytes();
    bytes.resize(60, 0);
    for split in 14..60 {
        let mut bench = Bench::new();
        let frame = VecFrame::from_segments(&[&bytes[..split], &bytes[split..]]);
        bench
            .with_context(|context, _, io| crate::router::arp::receive(context, io, frame, 14, INTERNAL))
            .unwrap();
        assert_eq!(bench.sent()[0].1.len(), 42);
    }
}

#[test]
fn gives_a_verdict_on_an_arp_packet_cut_anywhere() {
    for length in 0..42 {
        let mut bench = Bench::new();
        let frame = VecFrame::from_bytes(&vec![0; length]);
        let verdict = bench
            .with_context(|context, _, io| crate::router::arp::receive(context, io, frame, 14, INTERNAL));
        assert_eq!(verdict, Err(DropReason::Truncated));
    }
}

#[test]
fn announces_its_addresses_at_start() {
    let mut bench = Bench::new();
    let left_out = bench.with_context(|context, _, io| announce(context, io));
    assert_eq!(left_out, 0);
    let sent = bench.sent();
    let announced: Vec<_> = sent
        .iter()
        .map(|(nic_port, bytes)| {
            let offset = if bytes[12..14] == [0x81, 0] { 18 } else { 14 };
            let packet = ArpPacket::parse(&bytes[offset..]).unwrap();
            assert_eq!((packet.operation, packet.sender), (ArpOperation::Request, packet.target));
            (nic_port.0, packet.sender)
        })
        .collect();
    // 198.51.100.0-3 is routed to us, nobody on the wire asks for it.
    let expected = ["10.0.0.1", "192.0.2.1", "192.0.2.10", "192.0.2.11", "192.0.2.12", "172.16.0.1"];
    let ports = [0, 1, 1, 1, 1, 1];
    assert_eq!(announced, ports.into_iter().zip(expected.map(address)).collect::<Vec<_>>());
}

#[test]
fn announces_only_the_first_addresses_of_a_large_pool() {
    let mut config = config();
    config.interfaces[1].addresses = vec!["192.0.0.1/16".parse().unwrap()];
    config.nat.pools[0].ranges = vec![(Ipv4Addr::new(192, 0, 16, 0), Ipv4Addr::new(192, 0, 19, 255))];
    config.nat.forwards.clear();
    let mut bench = Bench::with(&config);
    assert_eq!(bench.with_context(|context, _, io| announce(context, io)), 1_024 - 256);
    assert_eq!(bench.sent().len(), 3 + 256);
}
