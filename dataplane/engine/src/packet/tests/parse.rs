//! Named frames and their verdicts, then everything that may go wrong at once.

use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, RxChecksum};
use crate::packet::parse::{FragmentKind, L4Class};
use crate::packet::vec_frame::VecFrame;

#[test]
fn reads_a_tcp_segment() {
    let bytes = tcp_frame(b"USER a\r\n");
    let parsed = parse_frame(&bytes).unwrap();
    assert_eq!((parsed.dst_mac, parsed.vlan), (OWN_MAC, 0));
    let view = ipv4_view(&bytes);
    assert_eq!(
        view,
        Ipv4View {
            l3: 14,
            l4: 34,
            payload: 66,
            end: 74,
            src: SRC,
            dst: DST,
            src_port: 4001,
            dst_port: 21,
            protocol: 6,
            ttl: 64,
            tcp_flags: 0x18,
            class: L4Class::Tcp,
            fragment: FragmentKind::None,
            dont_fragment: true,
            has_options: false,
        }
    );
    assert_eq!((view.packet_bytes(), view.payload_bytes()), (60, 8));
}

#[test]
fn reads_a_udp_datagram_and_ignores_ethernet_padding() {
    let mut bytes = udp_frame(b"x");
    bytes.resize(60, 0xAA);
    let view = ipv4_view(&bytes);
    assert_eq!((view.payload, view.end, view.class), (42, 43, L4Class::Udp));
    assert_eq!((view.src_port, view.dst_port), (4001, 53));
}

#[test]
fn puts_icmp_identifiers_where_ports_would_be() {
    let request = ipv4_view(&echo_frame(true, b"abc"));
    assert_eq!(request.class, L4Class::IcmpQueryRequest);
    assert_eq!((request.src_port, request.dst_port, request.payload), (7, 0, 42));
    let reply = ipv4_view(&echo_frame(false, b"abc"));
    assert_eq!(reply.class, L4Class::IcmpQueryReply);
    assert_eq!((reply.src_port, reply.dst_port), (0, 7));
}

#[test]
fn tells_icmp_messages_apart_by_type() {
    let rows = [
        (0, L4Class::IcmpQueryReply),
        (3, L4Class::IcmpError),
        (4, L4Class::IcmpError),
        (5, L4Class::IcmpError),
        (8, L4Class::IcmpQueryRequest),
        (9, L4Class::IcmpOther),
        (11, L4Class::IcmpError),
        (12, L4Class::IcmpError),
        (13, L4Class::IcmpQueryRequest),
        (14, L4Class::IcmpQueryReply),
        (17, L4Class::IcmpOther),
        (255, L4Class::IcmpOther),
    ];
    let mut bytes = echo_frame(true, &[0; 12]);
    for (icmp_type, class) in rows {
        bytes[34] = icmp_type;
        assert_eq!(ipv4_view(&bytes).class, class, "type {icmp_type}");
    }
}

#[test]
fn drops_an_icmp_timestamp_without_all_of_its_times() {
    for icmp_type in [13, 14] {
        let timestamp = |time_bytes| {
            let mut bytes = echo_frame(true, &vec![0; time_bytes]);
            bytes[34] = icmp_type;
            bytes
        };
        for time_bytes in [0, 4, 11] {
            assert_eq!(parse_frame(&timestamp(time_bytes)), Err(DropReason::BadL4Header), "{time_bytes}");
        }
        // Probes may be padded; hosts answer them all the same.
        for time_bytes in [12, 13, 100] {
            parse_frame(&timestamp(time_bytes)).unwrap();
        }
        let first_fragment = with_header(&timestamp(4), |header| header[6] = 0x20);
        assert_eq!(parse_frame(&first_fragment), Err(DropReason::FragmentTiny));
    }
}

#[test]
fn reads_one_vlan_tag() {
    for (tag_type, control, vlan) in
        [(0x8100, 42, 42), (0x88A8, 42, 42), (0x8100, 0xE02A, 42), (0x8100, 0, 0)]
    {
        let bytes = tagged(&tcp_frame(b""), tag_type, control);
        let parsed = parse_frame(&bytes).unwrap();
        assert_eq!(parsed.vlan, vlan);
        let view = ipv4_view(&bytes);
        assert_eq!((view.l3, view.l4, view.dst_port), (18, 38, 21));
    }
}

#[test]
fn skips_ipv4_options() {
    // Router alert (RFC 2113) before the L4 header.
    let plain = udp_frame(b"data");
    let mut bytes = plain[..34].to_vec();
    bytes.extend([0x94, 4, 0, 0]);
    bytes.extend(&plain[34..]);
    let bytes = with_options_length(&bytes);
    let view = ipv4_view(&bytes);
    assert!(view.has_options);
    assert_eq!((view.l4, view.payload, view.src_port), (38, 46, 4001));
}

fn with_options_length(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[14] = 0x46;
    with_header(&bytes, |header| header[3] += 4)
}

#[test]
fn reads_ports_in_the_first_fragment_only() {
    let whole = udp_frame(&[0x55; 64]);
    let first = with_header(&whole, |header| {
        header[6] = 0x20;
        // The datagram's length is more than this fragment holds.
        header[3] -= 16;
    });
    let view = ipv4_view(&first);
    assert_eq!((view.fragment, view.class, view.dst_port), (FragmentKind::First, L4Class::Udp, 53));
    let later = with_header(&whole, |header| {
        header[6] = 0x00;
        header[7] = 0x04;
    });
    let view = ipv4_view(&later);
    assert_eq!((view.fragment, view.class, view.dst_port), (FragmentKind::Later, L4Class::Other, 0));
    assert_eq!(view.payload, view.l4);
}

#[test]
fn refuses_what_may_not_be_forwarded() {
    type Change = fn(&mut [u8]);
    let rows: [(&str, Change, DropReason); 16] = [
        ("version 6", |h| h[0] = 0x65, DropReason::BadIpv4Header),
        ("header of 16 bytes", |h| h[0] = 0x44, DropReason::BadIpv4Header),
        ("total length below the header's", |h| h[2..4].copy_from_slice(&[0, 19]), DropReason::BadIpv4Header),
        ("total length beyond the frame", |h| h[2..4].copy_from_slice(&[0, 200]), DropReason::Truncated),
        ("source in 0/8", |h| h[12] = 0, DropReason::MartianSource),
        ("source in 127/8", |h| h[12] = 127, DropReason::MartianSource),
        ("multicast source", |h| h[12] = 224, DropReason::MartianSource),
        ("source in 240/4", |h| h[12] = 240, DropReason::MartianSource),
        ("broadcast source", |h| h[12..16].fill(255), DropReason::MartianSource),
        ("destination in 0/8", |h| h[16] = 0, DropReason::MartianDestination),
        ("destination in 127/8", |h| h[16] = 127, DropReason::MartianDestination),
        ("multicast destination", |h| h[16] = 239, DropReason::MartianDestination),
        ("destination in 240/4", |h| h[16] = 240, DropReason::MartianDestination),
        ("broadcast destination", |h| h[16..20].fill(255), DropReason::MartianDestination),
        ("UDP cut to 7 bytes", |h| h[3] = 27, DropReason::BadL4Header),
        ("TCP cut to 19 bytes", |h| (h[9], h[3]) = (6, 39), DropReason::BadL4Header),
    ];
    for (name, change, reason) in rows {
        let bytes = with_header(&udp_frame(&[0x50; 40]), change);
        assert_eq!(parse_frame(&bytes), Err(reason), "{name}");
    }
}

#[test]
fn refuses_impossible_l4_lengths() {
    for (offset, value, name) in [(38, 7, "UDP length below 8"), (38, 8 + 5, "UDP length beyond the packet")]
    {
        let mut bytes = udp_frame(b"data");
        bytes[offset..offset + 2].copy_from_slice(&(value as u16).to_be_bytes());
        assert_eq!(parse_frame(&bytes), Err(DropReason::BadL4Header), "{name}");
    }
    for data_offset in [0x40, 0xF0] {
        let mut bytes = tcp_frame(b"");
        bytes[46] = data_offset;
        assert_eq!(parse_frame(&bytes), Err(DropReason::BadL4Header), "TCP data offset {data_offset:#x}");
    }
}

#[test]
fn refuses_a_first_fragment_without_the_whole_l4_header() {
    let first = |bytes: Vec<u8>, data_bytes: u8| {
        parse_frame(&with_header(&bytes, |header| (header[3], header[6]) = (20 + data_bytes, 0x20))).err()
    };
    let options = |mut bytes: Vec<u8>| {
        bytes[46] = 0x80;
        bytes
    };
    for (name, reason, expected) in [
        ("TCP, 8 bytes", first(tcp_frame(&[0; 40]), 8), Some(DropReason::FragmentTiny)),
        ("TCP, 16 bytes", first(tcp_frame(&[0; 40]), 16), Some(DropReason::FragmentTiny)),
        ("TCP, 24 of 32 bytes", first(options(tcp_frame(&[0; 40])), 24), Some(DropReason::FragmentTiny)),
        ("TCP, 32 of 32 bytes", first(options(tcp_frame(&[0; 40])), 32), None),
        ("UDP, 8 bytes", first(udp_frame(&[0; 40]), 8), None),
        ("UDP, none", first(udp_frame(&[0; 40]), 0), Some(DropReason::FragmentTiny)),
    ] {
        assert_eq!(reason, expected, "{name}");
    }
}

#[test]
fn refuses_other_frames() {
    let mut ipv6 = tcp_frame(b"");
    ipv6[12..14].copy_from_slice(&[0x86, 0xDD]);
    assert_eq!(parse_frame(&ipv6), Err(DropReason::Ipv6));
    assert_eq!(parse_frame(&tagged(&ipv6, 0x8100, 5)), Err(DropReason::Ipv6));
    let two_tags = tagged(&tagged(&tcp_frame(b""), 0x8100, 5), 0x8100, 6);
    assert_eq!(parse_frame(&two_tags), Err(DropReason::UnknownEthertype));
    let mut broadcast = udp_frame(b"");
    broadcast[..6].fill(0xFF);
    assert_eq!(parse_frame(&broadcast), Err(DropReason::LinkBroadcast));
}

#[test]
fn passes_arp_on_whatever_its_destination() {
    let mut bytes = vec![0xFF; 42];
    bytes[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(parse_frame(&bytes).unwrap().kind, ParsedKind::Arp { offset: 14 });
    assert_eq!(parse_frame(&tagged(&bytes, 0x8100, 9)).unwrap().kind, ParsedKind::Arp { offset: 18 });
}

#[test]
fn believes_the_nic_about_the_header_checksum() {
    let mut bytes = udp_frame(b"data");
    let verdict = |bytes: &[u8], ipv4| {
        parse(bytes, bytes.len(), RxChecksums { ipv4, ..RxChecksums::default() }).map(|parsed| parsed.vlan)
    };
    assert_eq!(verdict(&bytes, RxChecksum::Bad), Err(DropReason::BadIpv4Checksum));
    bytes[24] ^= 1;
    assert_eq!(verdict(&bytes, RxChecksum::Unknown), Err(DropReason::BadIpv4Checksum));
    assert_eq!(verdict(&bytes, RxChecksum::Good), Ok(0));
}

#[test]
fn asks_for_one_segment_when_headers_are_split() {
    for whole in [tcp_frame(b"payload"), udp_frame(b"payload"), tagged(&tcp_frame(b"payload"), 0x8100, 3)] {
        let expected = parse_frame(&whole);
        let headers = usize::from(ipv4_view(&whole).payload);
        for first in 0..=whole.len() {
            for second in [first, (first + 3).min(whole.len()), whole.len()] {
                let segments = [&whole[..first], &whole[first..second], &whole[second..]];
                let mut frame = VecFrame::from_segments(&segments);
                let verdict = parse(frame.head(), frame.len(), RxChecksums::default());
                if first < headers {
                    assert_eq!(verdict, Err(DropReason::ChainedHeaders), "split at {first}");
                } else {
                    assert_eq!(verdict, expected, "split at {first}");
                }
                assert!(frame.linearize());
                assert_eq!(parse(frame.head(), frame.len(), RxChecksums::default()), expected);
            }
        }
    }
}

#[test]
fn calls_every_shorter_frame_truncated_or_bad() {
    for whole in [
        tcp_frame(b"data"),
        udp_frame(b"data"),
        echo_frame(true, b"data"),
        tagged(&udp_frame(b"x"), 0x8100, 1),
    ] {
        for length in 0..whole.len() {
            assert_eq!(parse_frame(&whole[..length]), Err(DropReason::Truncated), "{length} bytes");
        }
    }
}

#[test]
fn gives_a_verdict_for_every_protocol() {
    for protocol in 0..=255 {
        for length in 20..60u8 {
            let bytes =
                with_header(&tcp_frame(&[0; 40]), |header| (header[9], header[3]) = (protocol, length));
            let Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) = parse_frame(&bytes) else { continue };
            assert!(view.l4 <= view.payload && view.payload <= view.end);
            let has_header = matches!(protocol, 1 | 6 | 17 | 33 | 132 | 136);
            assert_eq!(has_header, view.class != L4Class::Other, "protocol {protocol}");
        }
    }
}

/// What etherparse says about addresses, protocol and ports of an unfragmented packet.
fn second_opinion(bytes: &[u8]) -> Option<(u32, u32, u8, u16, u16)> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return None };
    let header = ip.header();
    let (src_port, dst_port) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((
        header.source_addr().into(),
        header.destination_addr().into(),
        header.protocol().0,
        src_port,
        dst_port,
    ))
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..120), more in 0usize..2_000) {
        let _ = parse(&bytes, bytes.len() + more, RxChecksums::default());
    }

    #[test]
    fn agrees_with_etherparse_on_damaged_packets(
        is_tcp in any::<bool>(),
        damage in proptest::collection::vec((12usize..70, any::<u8>()), 0..4),
        cut in 0usize..80,
    ) {
        let mut bytes = if is_tcp { tcp_frame(b"0123456789") } else { udp_frame(b"0123456789") };
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len().max(20) - cut / 4);
        // Good: the damage shall reach the parser behind the checksum.
        let rx = RxChecksums { ipv4: RxChecksum::Good, ..RxChecksums::default() };
        if let Ok(Parsed { kind: ParsedKind::Ipv4(view), vlan: 0, .. }) = parse(&bytes, bytes.len(), rx) {
            prop_assert!(view.l3 < view.l4 && view.l4 <= view.payload && view.payload <= view.end);
            prop_assert!(usize::from(view.end) <= bytes.len());
            if matches!(view.class, L4Class::Tcp | L4Class::Udp) && view.fragment == FragmentKind::None {
                let ours = (view.src, view.dst, view.protocol, view.src_port, view.dst_port);
                prop_assert_eq!(second_opinion(&bytes), Some(ours));
            }
        }
    }
}
