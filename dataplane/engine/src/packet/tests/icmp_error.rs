//! ICMP errors (requirements I-02, I-03, I-09, I-10).

use proptest::prelude::*;

use super::*;
use crate::packet::icmp_error::{IcmpErrorTranslation, IcmpErrorView, parse, translate_icmp_error};
use crate::packet::parse::L4Class;
use crate::packet::rewrite::Tuple;

const ROUTER: u32 = 0xC000_0201;
const INSIDE: u32 = 0x0A00_0009;

/// An ICMP error from [`ROUTER`] to [`SRC`] about `embedded`.
fn error_about(icmp_type: u8, code: u8, rest: [u8; 4], embedded: &[u8]) -> Vec<u8> {
    let mut icmp = vec![icmp_type, code, 0, 0];
    icmp.extend(rest);
    icmp.extend(embedded);
    let field = reference_checksum(&icmp);
    icmp[2..4].copy_from_slice(&field.to_be_bytes());
    let builder =
        PacketBuilder::ethernet2(PEER_MAC, OWN_MAC).ipv4(ROUTER.to_be_bytes(), SRC.to_be_bytes(), 60);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, etherparse::IpNumber::ICMP, &icmp).unwrap();
    bytes
}

fn parsed(bytes: &[u8]) -> Result<IcmpErrorView, DropReason> {
    parse(bytes, &ipv4_view(bytes))
}

const REVERTED: IcmpErrorTranslation = IcmpErrorTranslation {
    outer_src: ROUTER,
    outer_dst: INSIDE,
    tuple: Tuple { src: INSIDE, dst: DST, src_port: 1_234, dst_port: 21 },
    tcp_seq: None,
};

fn translated(bytes: &[u8], to: &IcmpErrorTranslation) -> Vec<u8> {
    let view = ipv4_view(bytes);
    let error = parse(bytes, &view).unwrap();
    let mut bytes = bytes.to_vec();
    translate_icmp_error(&mut bytes, &view, &error, to).unwrap();
    bytes
}

#[test]
fn reads_the_embedded_tuple() {
    let rows = [
        (tcp_frame(b"data"), L4Class::Tcp, 4001, 21, Some(0x1122_3344)),
        (udp_frame(b"data"), L4Class::Udp, 4001, 53, None),
        (echo_frame(true, b"data"), L4Class::IcmpQueryRequest, 7, 0, None),
        (echo_frame(false, b"data"), L4Class::IcmpQueryReply, 0, 7, None),
    ];
    for (embedded, class, src_port, dst_port, tcp_seq) in rows {
        let view = parsed(&error_about(3, 1, [0; 4], &embedded[14..])).unwrap();
        assert_eq!((view.icmp_type, view.code, view.class), (3, 1, class));
        assert_eq!(view.tuple, Tuple { src: SRC, dst: DST, src_port, dst_port });
        assert_eq!(view.tcp_seq, tcp_seq);
    }
}

#[test]
fn reverts_outer_and_embedded_headers() {
    // Whole packets inside, so that etherparse can check the embedded L4 checksum too.
    for (embedded, dst_port) in [(tcp_frame(b"abc"), 21), (udp_frame(b"abcd"), 53)] {
        let tuple = Tuple { dst_port, ..REVERTED.tuple };
        let after = translated(
            &error_about(11, 0, [0; 4], &embedded[14..]),
            &IcmpErrorTranslation { tuple, ..REVERTED },
        );
        assert_checksums(&after);
        assert_eq!((ipv4_view(&after).src, ipv4_view(&after).dst), (ROUTER, INSIDE));
        assert_eq!(parsed(&after).unwrap().tuple, tuple);
        let mut inner = embedded[..14].to_vec();
        inner.extend(&after[42..]);
        assert_checksums(&inner);
    }
}

#[test]
fn reverts_an_embedded_icmp_query() {
    for is_request in [true, false] {
        let ports = if is_request { (77, 0) } else { (0, 77) };
        let tuple = Tuple { src: INSIDE, dst: DST, src_port: ports.0, dst_port: ports.1 };
        let embedded = echo_frame(is_request, b"data");
        let after = translated(
            &error_about(3, 1, [0; 4], &embedded[14..]),
            &IcmpErrorTranslation { tuple, ..REVERTED },
        );
        assert_eq!(parsed(&after).unwrap().tuple, tuple);
        assert_eq!(reference_checksum(&after[62..]), 0, "embedded ICMP checksum");
        assert_checksums(&after);
    }
}

#[test]
fn maps_an_embedded_sequence_number_back() {
    let bytes = error_about(3, 4, [0, 0, 5, 0], &tcp_frame(b"abc")[14..]);
    let after = translated(&bytes, &IcmpErrorTranslation { tcp_seq: Some(0xFFFF_FFF0), ..REVERTED });
    assert_eq!(parsed(&after).unwrap().tcp_seq, Some(0xFFFF_FFF0));
    let mut inner = tcp_frame(b"")[..14].to_vec();
    inner.extend(&after[42..]);
    assert_checksums(&inner);
    assert_eq!(after[40..42], [5, 0], "the MTU of the next hop");
}

#[test]
fn keeps_a_missing_embedded_udp_checksum_missing() {
    let mut embedded = udp_frame(b"data");
    embedded[40..42].fill(0);
    let after = translated(&error_about(3, 3, [0; 4], &embedded[14..]), &REVERTED);
    assert_eq!(after[68..70], [0, 0]);
}

#[test]
fn skips_embedded_options() {
    let plain = tcp_frame(b"data");
    let mut embedded = plain[..34].to_vec();
    embedded.extend([1; 40]);
    embedded.extend(&plain[34..]);
    embedded[14] = 0x4F;
    let embedded = with_header(&embedded, |header| header[3] += 40);
    let after = translated(&error_about(3, 0, [0; 4], &embedded[14..]), &REVERTED);
    assert_eq!(parsed(&after).unwrap().tuple, REVERTED.tuple);
    assert_checksums(&after);
}

#[test]
fn does_not_believe_wrong_checksums_outside_or_in_the_embedded_header() {
    let good = error_about(3, 1, [0; 4], &udp_frame(b"data")[14..]);
    let mut outer = good.clone();
    outer[36] ^= 1;
    assert_eq!(parsed(&outer), Err(DropReason::BadL4Checksum));
    let mut embedded = udp_frame(b"data");
    embedded[24] ^= 1;
    assert_eq!(parsed(&error_about(3, 1, [0; 4], &embedded[14..])), Err(DropReason::BadIcmp));
    // REQ-3 d: the embedded L4 checksum may be anything.
    let mut embedded = udp_frame(b"data");
    embedded[40] ^= 1;
    assert!(parsed(&error_about(3, 1, [0; 4], &embedded[14..])).is_ok());
}

#[test]
fn leaves_an_extension_behind_the_embedded_packet_alone() {
    // RFC 4884: 128 bytes of embedded packet (32 words), then an extension that looks like anything.
    for payload_bytes in [100, 99, 98] {
        let mut embedded = udp_frame(&vec![0x42; payload_bytes])[14..].to_vec();
        embedded.resize(128, 0);
        let extension = [0x20, 0, 0xDE, 0xAD, 0, 8, 1, 1, 1, 2, 3, 4];
        let mut body = embedded.clone();
        body.extend(extension);
        let bytes = error_about(11, 0, [0, 32, 0, 0], &body);
        let view = parsed(&bytes).unwrap();
        assert_eq!(view.end - view.l3, 128);
        let after = translated(&bytes, &REVERTED);
        assert_eq!(after[after.len() - 12..], extension);
        assert_checksums(&after);
    }
}

#[test]
fn refuses_what_belongs_to_no_session() {
    let later = with_header(&udp_frame(b"0123456789"), |header| header[7] = 5);
    let about_error = with_header(&echo_frame(true, b""), |_| ());
    let rows = [
        ("later fragment", later, DropReason::BadIcmp),
        (
            "error about an error",
            {
                let mut e = about_error;
                e[34] = 3;
                e
            },
            DropReason::BadIcmp,
        ),
    ];
    for (name, embedded, reason) in rows {
        assert_eq!(parsed(&error_about(3, 1, [0; 4], &embedded[14..])), Err(reason), "{name}");
    }
}

#[test]
fn gives_a_verdict_for_every_inner_protocol_cut_anywhere() {
    let embedded = tcp_frame(b"0123456789");
    for protocol in 0..=255 {
        let whole = with_header(&embedded, |header| header[9] = protocol);
        for length in 0..=whole.len() - 14 {
            let bytes = error_about(3, 3, [0; 4], &whole[14..14 + length]);
            match parsed(&bytes) {
                Ok(view) => {
                    assert!(length >= 28, "{protocol} {length}");
                    let after = translated(&bytes, &REVERTED);
                    assert_eq!(reference_checksum(&after[34..]), 0);
                    assert_eq!(parsed(&after).unwrap().class, view.class);
                }
                Err(reason) => {
                    assert_eq!(reason, DropReason::BadIcmp, "{protocol} {length}");
                    assert!(length < 28 || protocol == 1, "{protocol} {length}");
                }
            }
        }
    }
}

#[test]
fn asks_for_one_segment_when_the_message_is_split() {
    let bytes = error_about(3, 1, [0; 4], &tcp_frame(b"data")[14..]);
    let view = ipv4_view(&bytes);
    for length in 42..bytes.len() {
        assert_eq!(parse(&bytes[..length], &view), Err(DropReason::ChainedHeaders));
    }
}

proptest! {
    #[test]
    fn never_panics_on_damage(
        icmp_type in prop::sample::select(vec![3u8, 4, 5, 11, 12]),
        rest in any::<[u8; 4]>(),
        damage in proptest::collection::vec((0usize..60, any::<u8>()), 0..4),
        cut in 0usize..70,
    ) {
        let mut embedded = tcp_frame(b"0123456789")[14..].to_vec();
        for (at, value) in damage {
            embedded[at] = value;
        }
        embedded.truncate(embedded.len() - cut.min(embedded.len()));
        // A damaged header with a right checksum gets further.
        if embedded.len() >= 20 {
            embedded[10..12].fill(0);
            let field = reference_checksum(&embedded[..20]);
            embedded[10..12].copy_from_slice(&field.to_be_bytes());
        }
        let bytes = error_about(icmp_type, 0, rest, &embedded);
        if parsed(&bytes).is_ok() {
            let after = translated(&bytes, &REVERTED);
            prop_assert_eq!(after.len(), bytes.len());
            prop_assert_eq!(reference_checksum(&after[34..]), 0);
        }
    }
}
