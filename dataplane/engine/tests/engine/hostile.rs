//! Packets that no honest host sends: nothing panics, everything is counted, garbage opens nothing.

use algate_engine::drop_reason::DropReason;
use algate_engine::packet::vec_frame::VecFrame;
use proptest::prelude::*;

use crate::common::packets::{
    ACK, SYN, Seen, at, echo_reply, echo_request, icmp, sum, tcp, tcp_between, udp, udp_between, with_ip_byte,
};
use crate::common::{INSIDE, Net, OUTSIDE};

/// A site with one session of each kind, and packets that hit them or open more: port, frame.
fn traffic(net: &mut Net) -> Vec<(u16, Vec<u8>)> {
    let udp_out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b"question"));
    let tcp_out = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", SYN));
    net.one(OUTSIDE, &tcp_between(at("198.51.100.1:80"), tcp_out.source, SYN | ACK, b""));
    let tcp_out = net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:80", ACK));
    let ftp_out = net.one(INSIDE, &tcp("10.0.0.2:4001", "198.51.100.1:21", SYN));
    let ping = net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7));
    let pool = ping.source.ip().to_string();
    vec![
        (INSIDE, udp("10.0.0.2:5000", "198.51.100.1:53", b"question")),
        (OUTSIDE, udp_between(at("198.51.100.1:53"), udp_out.source, b"answer")),
        (OUTSIDE, udp_between(at("198.51.100.9:53"), udp_out.source, b"stranger")),
        (INSIDE, udp_between(at("10.0.0.3:9"), udp_out.source, b"hairpin")),
        (INSIDE, tcp_between(at("10.0.0.2:4000"), at("198.51.100.1:80"), ACK, b"GET")),
        (OUTSIDE, tcp_between(at("198.51.100.1:80"), tcp_out.source, SYN | ACK, b"")),
        (OUTSIDE, tcp_between(at("198.51.100.1:21"), ftp_out.source, SYN | ACK, b"")),
        (INSIDE, echo_request("10.0.0.2", "198.51.100.1", 7)),
        (OUTSIDE, echo_reply("198.51.100.1", &pool, ping.source.port())),
        (OUTSIDE, icmp("203.0.113.1", &pool, (3, 1), [0; 4], &udp_out.packet)),
        (OUTSIDE, icmp("203.0.113.1", &pool, (3, 4), [0, 0, 2, 0], &tcp_out.packet)),
        (OUTSIDE, icmp("203.0.113.1", &pool, (11, 0), [0; 4], &ping.packet[..28])),
        (INSIDE, echo_request("10.0.0.2", "10.0.0.1", 7)),
        (INSIDE, udp("10.0.0.3:77", "198.51.100.3:99", b"new")),
    ]
}

const WITH_FTP: &str = "[alg.ftp]\nenabled = true\n";

#[test]
fn s_19_a_frame_cut_at_any_byte_opens_nothing() {
    let mut net = Net::with(WITH_FTP, |_| {});
    let frames = traffic(&mut net);
    let sessions = net.sessions().len();
    for (nic_port, frame) in &frames {
        for bytes in 0..frame.len() {
            assert_eq!(net.send(*nic_port, &frame[..bytes]), [], "cut at {bytes}");
        }
    }
    assert_eq!(net.sessions().len(), sessions);
}

#[test]
fn s_19_a_frame_in_two_or_three_segments_goes_the_way_of_a_whole_one() {
    let whole: Vec<Vec<Seen>> = {
        let mut net = Net::with(WITH_FTP, |_| {});
        let frames = traffic(&mut net);
        frames.iter().map(|(nic_port, frame)| net.send(*nic_port, frame)).collect()
    };
    let count = whole.len();
    for cut in 1..60 {
        for (first, second) in [(cut, cut), (cut / 2, cut), (cut, cut + 1)] {
            let mut net = Net::with(WITH_FTP, |_| {});
            let frames = traffic(&mut net);
            for at in 0..count {
                let (nic_port, bytes) = &frames[at];
                let (first, second) = (first.min(bytes.len()), second.min(bytes.len()));
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                let seen = net.send_frames(*nic_port, vec![VecFrame::from_segments(&parts)]);
                assert_eq!(seen, whole[at], "frame {at} cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn bursts_of_any_size_have_the_same_outcome() {
    let run = |burst: usize| {
        let mut net = Net::with(WITH_FTP, |_| {});
        let frames = traffic(&mut net);
        let mut seen = Vec::new();
        for side in [INSIDE, OUTSIDE, INSIDE] {
            let same_side = frames.iter().filter(|(nic_port, _)| *nic_port == side);
            let same_side: Vec<_> = same_side.map(|(_, frame)| frame.clone()).collect();
            net.burst = burst;
            let mut out = net.send_all(side, &same_side);
            // Errors are answered while their batch is parsed, so only the order may differ.
            out.sort_by(|a, b| a.packet.cmp(&b.packet));
            seen.extend(out);
        }
        (seen, net.drops())
    };
    let single = run(1);
    assert!(single.0.len() > 12);
    for burst in [2, 3, 4, 32, 64] {
        assert_eq!(run(burst), single, "bursts of {burst}");
    }
}

#[test]
fn wrong_lengths_and_checksums_are_refused_by_name() {
    let mut net = Net::new();
    let good = udp("10.0.0.2:5000", "198.51.100.1:53", b"payload");
    let mut bad = good.clone();
    bad[24] ^= 1;
    net.refused(INSIDE, &bad, DropReason::BadIpv4Checksum);
    for version in [0x35, 0x44, 0x65] {
        net.refused(INSIDE, &with_first_byte(&good, version), DropReason::BadIpv4Header);
    }
    net.refused(INSIDE, &with_ip_byte(good.clone(), 3, 200), DropReason::Truncated);
    net.refused(INSIDE, &with_ip_byte(good.clone(), 3, 27), DropReason::BadL4Header);
    net.refused(INSIDE, &with_ip_byte(good.clone(), 3, 19), DropReason::BadIpv4Header);
    let mut bad = good.clone();
    bad[39] = 7;
    net.refused(INSIDE, &bad, DropReason::BadL4Header);
    // 15 bytes behind the header: no fragment but the last may have so odd a length.
    net.refused(INSIDE, &with_ip_byte(good.clone(), 6, 0x20), DropReason::FragmentBadLength);
    for data_offset in [0x00, 0x40, 0xf0] {
        let mut bad = tcp("10.0.0.2:5000", "198.51.100.1:53", SYN);
        bad[46] = data_offset;
        net.refused(INSIDE, &bad, DropReason::BadL4Header);
    }
    assert_eq!(net.sessions().len(), 0);
    net.one(INSIDE, &good);
}

fn with_first_byte(frame: &[u8], byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[14] = byte;
    frame[24..26].fill(0);
    let field = !sum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&field.to_be_bytes());
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Real packets with some bytes changed, the IPv4 checksum repaired or not, cut and split anywhere.
    #[test]
    fn mutated_packets_never_panic_and_are_all_counted(
        mutations in prop::collection::vec(
            (0_usize..14, prop::collection::vec((0_usize..70, any::<u8>()), 0..6), any::<bool>(), 0_usize..120, 0_usize..70),
            1..120,
        ),
    ) {
        let mut net = Net::with(WITH_FTP, |_| {});
        let frames = traffic(&mut net);
        net.verifies = false;
        net.burst = 4;
        let mut bursts = [Vec::new(), Vec::new()];
        for (which, changes, repairs, length, split) in mutations {
            let (nic_port, mut frame) = frames[which].clone();
            for (at, byte) in changes {
                let at = at % frame.len();
                // The MAC addresses stay: a frame for somebody else is no test.
                frame[at.max(12)] = byte;
            }
            if repairs {
                frame[24..26].fill(0);
                let end = (14 + usize::from(frame[14] & 15) * 4).clamp(34, frame.len());
                let field = !sum(&frame[14..end], 0);
                frame[24..26].copy_from_slice(&field.to_be_bytes());
            }
            frame.truncate(length.max(20));
            let split = split.min(frame.len());
            bursts[usize::from(nic_port)].push(VecFrame::from_segments(&[&frame[..split], &frame[split..]]));
        }
        let [inside, outside] = bursts;
        net.send_frames(INSIDE, inside);
        net.send_frames(OUTSIDE, outside);
    }

    /// Noise behind a valid Ethernet header.
    #[test]
    fn noise_opens_nothing(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 1..60)) {
        let mut net = Net::new();
        for bytes in noise {
            let mut frame = udp("10.0.0.2:1", "198.51.100.1:1", b"")[..14].to_vec();
            frame.extend(bytes);
            prop_assert_eq!(net.send(INSIDE, &frame), []);
        }
        prop_assert_eq!(net.sessions().len(), 0);
    }
}
