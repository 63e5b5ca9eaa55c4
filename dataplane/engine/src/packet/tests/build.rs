//! Built packets, seen by etherparse, and frames in plain memory.

use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, PacketIo};
use crate::ids::NicPortId;
use crate::packet::arp::{ArpOperation, ArpPacket};
use crate::packet::build::{self, Ipv4Fields, TcpFields};
use crate::packet::checksum;
use crate::packet::parse::L4Class;
use crate::packet::vec_frame::{VecFrame, VecIo};
use crate::packet::{BROADCAST_MAC, ETHERTYPE_IPV4};

/// The frame's bytes with an Ethernet header in place.
fn on_the_wire(frame: &mut VecFrame) -> Vec<u8> {
    assert!(build::ethernet(frame.head_mut(), OWN_MAC, PEER_MAC, 0, ETHERTYPE_IPV4));
    frame.bytes()
}

const FIELDS: TcpFields =
    TcpFields { seq: 0x1122_3344, ack: 0x5566_7788, flags: 0x18, window: 8_192, urgent: 0 };

#[test]
fn builds_the_tcp_segment_that_etherparse_builds() {
    let mut frame = VecFrame::new();
    let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let ip = Ipv4Fields::new(SRC, DST);
    assert!(build::tcp(&mut frame, &ip, (4001, 21), &FIELDS, &options, b"USER a\r\n"));
    assert_eq!(on_the_wire(&mut frame), tcp_frame(b"USER a\r\n"));
}

#[test]
fn builds_the_udp_datagram_that_etherparse_builds() {
    let mut frame = VecFrame::new();
    assert!(build::udp(&mut frame, &Ipv4Fields::new(SRC, DST), (4001, 53), b"question"));
    assert_eq!(on_the_wire(&mut frame), udp_frame(b"question"));
}

#[test]
fn refuses_what_does_not_fit() {
    let ip = Ipv4Fields::new(SRC, DST);
    let mut frame = VecFrame::new();
    assert!(!build::udp(&mut frame, &ip, (1, 2), &[0; 3_000]), "frame too small");
    assert!(
        !build::udp(&mut VecFrame::with_capacity(80_000), &ip, (1, 2), &[0; 65_508]),
        "more than IPv4 carries"
    );
    assert!(!build::tcp(&mut frame, &ip, (1, 2), &FIELDS, &[1; 44], b""), "too many options");
    assert!(!build::tcp(&mut frame, &ip, (1, 2), &FIELDS, &[1; 3], b""), "options without padding");
}

#[test]
fn an_icmp_error_quotes_at_most_576_bytes() {
    for (payload_bytes, packet_bytes) in [(10, 66), (519, 575), (520, 576), (521, 576), (1_400, 576)] {
        let original = udp_frame(&vec![0x42; payload_bytes]);
        let mut frame = VecFrame::new();
        assert!(build::icmp_error(&mut frame, &Ipv4Fields::new(DST, SRC), (3, 4), 1_280, &original[14..]));
        let bytes = on_the_wire(&mut frame);
        assert_checksums(&bytes);
        let view = ipv4_view(&bytes);
        assert_eq!((view.packet_bytes(), view.class), (packet_bytes, L4Class::IcmpError));
        assert_eq!(bytes[38..42], 1_280u32.to_be_bytes());
        assert_eq!(bytes[42..], original[14..14 + bytes.len() - 42]);
    }
}

#[test]
fn turns_an_echo_request_into_its_reply() {
    for payload in [&b""[..], b"abc", &[0xFF; 56]] {
        let mut bytes = echo_frame(true, payload);
        let view = ipv4_view(&bytes);
        assert!(build::echo_reply(&mut bytes, &view));
        assert_checksums(&bytes);
        let reply = ipv4_view(&bytes);
        assert_eq!((reply.src, reply.dst, reply.class), (DST, SRC, L4Class::IcmpQueryReply));
        assert_eq!((reply.dst_port, reply.ttl), (7, 64));
        assert_eq!(&bytes[42..], payload);
    }
}

#[test]
fn builds_an_arp_request_as_rfc_826_draws_it() {
    let packet = ArpPacket {
        operation: ArpOperation::Request,
        sender_mac: OWN_MAC,
        sender: 0x0A00_0001,
        target_mac: [0; 6],
        target: 0x0A00_0002,
    };
    let mut frame = VecFrame::new();
    assert!(build::arp(&mut frame, BROADCAST_MAC, 0, &packet));
    #[rustfmt::skip]
    let expected = [
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
        0, 1, 0x08, 0x00, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
        0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];
    assert_eq!(frame.bytes(), expected);
    assert!(build::arp(&mut frame, BROADCAST_MAC, 7, &packet));
    assert_eq!(frame.bytes(), tagged(&expected, 0x8100, 7));
    assert_eq!(ArpPacket::parse(&expected[14..]), Ok(packet));
}

#[test]
fn refuses_malformed_arp() {
    let good = ArpPacket {
        operation: ArpOperation::Reply,
        sender_mac: PEER_MAC,
        sender: SRC,
        target_mac: OWN_MAC,
        target: DST,
    };
    for length in 0..28 {
        assert_eq!(ArpPacket::parse(&good.emit()[..length]), Err(DropReason::Truncated));
    }
    for (at, value, name) in [
        (1, 6, "hardware type"),
        (2, 0x86, "protocol type"),
        (4, 8, "hardware length"),
        (5, 16, "protocol length"),
        (7, 0, "operation 0"),
        (7, 3, "RARP"),
        (8, 1, "group address as sender"),
    ] {
        let mut bytes = good.emit();
        bytes[at] = value;
        assert_eq!(ArpPacket::parse(&bytes), Err(DropReason::BadArp), "{name}");
    }
}

#[test]
fn a_frame_keeps_to_its_buffer() {
    let mut frame = VecFrame::from_bytes(b"abcdef");
    assert!(frame.grow_front(128) && !frame.grow_front(1));
    assert_eq!(frame.len(), 134);
    assert!(frame.shrink_front(129));
    assert_eq!(frame.head(), b"bcdef");
    assert!(!frame.shrink_front(6));
    assert!(frame.resize(2_047) && !frame.resize(2_048));
    let mut long = VecFrame::from_segments(&[b"abc", &[1; 2_000], &[2; 100]]);
    assert_eq!((long.len(), long.head().len()), (2_103, 3));
    assert!(!long.linearize() && !long.resize(10));
    assert_eq!(long.head(), b"abc");
}

#[test]
fn the_list_of_sent_frames_completes_offloaded_checksums() {
    for whole in [tcp_frame(b"abc"), udp_frame(b"abc")] {
        let view = ipv4_view(&whole);
        let mut frame = VecFrame::from_bytes(&whole);
        let l4_bytes = view.end - view.l4;
        let partial = checksum::fold(checksum::pseudo_header(SRC, DST, view.protocol, l4_bytes));
        let field = if view.class == L4Class::Tcp { 50 } else { 40 };
        frame.head_mut()[field..field + 2].copy_from_slice(&partial.to_be_bytes());
        frame.head_mut()[24..26].fill(0);
        frame.offload_tx_checksum(14, 20, view.protocol);
        let mut io = VecIo::default();
        io.transmit(NicPortId(3), frame);
        let sent = io.take();
        assert_eq!((sent[0].0, sent[0].1.bytes()), (NicPortId(3), whole));
    }
}

proptest! {
    #[test]
    fn parses_what_it_builds(
        seq in any::<u32>(),
        flags in any::<u8>(),
        ports in any::<(u16, u16)>(),
        option_words in 0usize..=10,
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut frame = VecFrame::new();
        let fields = TcpFields { seq, flags, ..FIELDS };
        let options = vec![1; option_words * 4];
        prop_assert!(build::tcp(&mut frame, &Ipv4Fields::new(SRC, DST), ports, &fields, &options, &payload));
        let bytes = on_the_wire(&mut frame);
        assert_checksums(&bytes);
        let view = ipv4_view(&bytes);
        prop_assert_eq!((view.src_port, view.dst_port, view.tcp_flags), (ports.0, ports.1, flags));
        prop_assert_eq!(&bytes[usize::from(view.payload)..usize::from(view.end)], &payload[..]);
    }
}
