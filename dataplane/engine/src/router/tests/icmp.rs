//! ICMP that algate itself sends.

use super::*;
use crate::drop_reason::DropReason;
use crate::packet::parse::{L4Class, Parsed};
use crate::packet::tests::{assert_checksums, echo_frame, tagged, with_header};
use crate::router::icmp::{IcmpError, IcmpSource, Offender, TokenBucket, echo_reply};

/// A frame from 10.0.0.9 as it comes in on the internal interface.
fn from_inside(dst: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = VecFrame::new();
    let ip = Ipv4Fields::new(address("10.0.0.9"), address(dst));
    assert!(build::udp(&mut frame, &ip, (1_000, 2_000), payload));
    assert!(build::ethernet(crate::frame::Frame::head_mut(&mut frame), INTERNAL_MAC, HOST_MAC, 0, 0x0800));
    frame.bytes()
}

/// A bench whose neighbour 10.0.0.9 is known.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.arp(INTERNAL, ArpOperation::Request, "10.0.0.9", "10.0.0.1").unwrap();
    bench.sent();
    bench
}

fn report(bench: &mut Bench, source: &mut IcmpSource, head: &[u8], error: IcmpError) -> bool {
    let Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) = parse_frame(head) else { panic!("not IPv4") };
    let offender = Offender { head, view: &view, interface: INTERNAL };
    bench.with_context(|context, egress, io| source.send_error(context, egress, io, offender, error))
}

#[test]
fn tells_the_sender_from_the_address_it_sent_through() {
    let rows = [
        (IcmpError::TimeExceeded, [11, 0], 0),
        (IcmpError::FragmentationNeeded { mtu: 1_280 }, [3, 4], 1_280u32),
        (IcmpError::DestinationUnreachable { code: 1 }, [3, 1], 0),
    ];
    for (error, type_and_code, rest) in rows {
        let mut bench = bench();
        let head = from_inside("203.0.113.5", b"question");
        let mut source = IcmpSource::new(10, bench.now);
        assert!(report(&mut bench, &mut source, &head, error));
        let sent = bench.sent();
        let (nic_port, bytes) = &sent[0];
        assert_eq!((*nic_port, &bytes[..6]), (NicPortId(0), &HOST_MAC[..]));
        assert_checksums(bytes);
        let view = as_ipv4(bytes);
        assert_eq!((view.src, view.dst), (address("10.0.0.1"), address("10.0.0.9")));
        assert_eq!(bytes[34..36], type_and_code);
        assert_eq!(bytes[38..42], rest.to_be_bytes());
        assert_eq!(bytes[42..], head[14..]);
    }
}

#[test]
fn reports_no_error_where_rfc_1812_forbids_it() {
    let plain = from_inside("203.0.113.5", b"question");
    let mut icmp_error = with_header(&plain, |header| header[9] = 1);
    icmp_error[34] = 3;
    let rows = [
        ("about an ICMP error", icmp_error),
        ("about a later fragment", with_header(&plain, |header| header[7] = 1)),
        ("about a broadcast", from_inside("192.0.2.255", b"x")),
        ("to a broadcast", with_header(&plain, |header| header[15] = 255)),
        ("to itself", with_header(&plain, |header| header[15] = 1)),
    ];
    for (name, head) in rows {
        let mut bench = bench();
        let mut source = IcmpSource::new(10, bench.now);
        assert!(!report(&mut bench, &mut source, &head, IcmpError::TimeExceeded), "{name}");
        assert_eq!(bench.sent().len(), 0, "{name}");
    }
    // The first fragment, and an ICMP query, may be reported.
    let mut query = with_header(&plain, |header| header[9] = 1);
    query[34] = 8;
    for head in [with_header(&plain, |header| header[6] = 0x20), query] {
        let mut bench = bench();
        let mut source = IcmpSource::new(10, bench.now);
        assert!(report(&mut bench, &mut source, &head, IcmpError::TimeExceeded));
    }
}

#[test]
fn sends_errors_at_the_configured_rate() {
    let mut bench = bench();
    let head = from_inside("203.0.113.5", b"question");
    let mut source = IcmpSource::new(10, at(0));
    let mut reported_in = |bench: &mut Bench, milliseconds: std::ops::Range<u64>| {
        milliseconds
            .filter(|millisecond| {
                bench.now = at(*millisecond);
                report(bench, &mut source, &head, IcmpError::TimeExceeded)
            })
            .count()
    };
    assert_eq!(reported_in(&mut bench, 0..1), 1);
    assert_eq!(reported_in(&mut bench, 1..1_000), 9 + 9, "a second's worth at once, then one every 100 ms");
    assert_eq!(reported_in(&mut bench, 1_000..3_000), 20);
}

#[test]
fn a_bucket_of_rate_zero_gives_nothing_and_time_may_stand_still() {
    assert!(!TokenBucket::new(0, at(0)).take(at(10_000)));
    let mut bucket = TokenBucket::new(2, at(5_000));
    let taken: Vec<bool> = [5_000, 5_000, 5_000, 4_000, 5_499, 5_500].map(|ms| bucket.take(at(ms))).into();
    assert_eq!(taken, [true, true, false, false, false, true]);
}

#[test]
fn a_full_mempool_is_counted() {
    let mut bench = bench();
    bench.io.mempool_frames = Some(0);
    let mut source = IcmpSource::new(10, bench.now);
    assert!(!report(&mut bench, &mut source, &from_inside("203.0.113.5", b""), IcmpError::TimeExceeded));
    assert_eq!(bench.drops.of(DropReason::MempoolExhausted), 1);
}

/// An echo request from 10.0.0.9 to algate.
fn ping(payload: &[u8]) -> Vec<u8> {
    with_header(&echo_frame(true, payload), |header| {
        header[12..16].copy_from_slice(&address("10.0.0.9").to_be_bytes());
        header[16..20].copy_from_slice(&address("10.0.0.1").to_be_bytes());
    })
}

fn answer(bench: &mut Bench, frame: VecFrame) -> Result<(), DropReason> {
    let Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) = parse_frame(&frame.bytes()) else {
        panic!("not IPv4")
    };
    bench.with_context(|context, egress, io| echo_reply(context, egress, io, frame, &view, TenantId::NONE))
}

#[test]
fn answers_an_echo_request_without_its_padding() {
    let mut bench = bench();
    let mut padded = ping(b"abc");
    padded.resize(60, 0xEE);
    answer(&mut bench, VecFrame::from_segments(&[&padded[..40], &padded[40..]])).unwrap();
    let sent = bench.sent();
    assert_checksums(&sent[0].1);
    let view = as_ipv4(&sent[0].1);
    assert_eq!(
        (view.src, view.dst, view.class),
        (address("10.0.0.1"), address("10.0.0.9"), L4Class::IcmpQueryReply)
    );
    assert_eq!(sent[0].1[42..], *b"abc");
}

#[test]
fn answers_an_echo_request_in_a_tagged_frame() {
    let mut bench = Bench::new();
    bench.arp(TAGGED, ArpOperation::Request, "172.16.0.9", "172.16.0.1").unwrap();
    bench.sent();
    let request = with_header(&ping(b"abc"), |header| {
        header[12..16].copy_from_slice(&address("172.16.0.9").to_be_bytes());
        header[16..20].copy_from_slice(&address("172.16.0.1").to_be_bytes());
    });
    answer(&mut bench, VecFrame::from_bytes(&tagged(&request, 0x8100, 7))).unwrap();
    let sent = bench.sent();
    assert_eq!(sent[0].1[12..18], [0x81, 0, 0, 7, 8, 0]);
    assert_checksums(&sent[0].1);
}

#[test]
fn does_not_answer_other_echo_requests() {
    let mut wrong = ping(b"abc");
    wrong[44] ^= 1;
    let mut timestamp = ping(&[0; 12]);
    timestamp[34] = 13;
    let with_options = {
        let plain = ping(b"abc");
        let mut bytes = plain[..34].to_vec();
        bytes.extend([1; 4]);
        bytes.extend(&plain[34..]);
        bytes[14] = 0x46;
        with_header(&bytes, |header| header[3] += 4)
    };
    let long = {
        let mut config = config();
        config.interfaces[0].mtu = 100;
        (config, ping(&[0; 73]))
    };
    let rows = [
        ("a wrong checksum", wrong, DropReason::BadL4Checksum),
        ("a timestamp request", timestamp, DropReason::LocalUnhandled),
        ("options", with_options, DropReason::LocalUnhandled),
        ("a fragment", with_header(&ping(b"abc"), |header| header[6] = 0x20), DropReason::LocalUnhandled),
        (
            "from a broadcast",
            with_header(&ping(b"abc"), |header| header[15] = 255),
            DropReason::MartianSource,
        ),
        ("from itself", with_header(&ping(b"abc"), |header| header[15] = 1), DropReason::MartianSource),
    ];
    for (name, bytes, reason) in rows {
        let mut bench = bench();
        assert_eq!(answer(&mut bench, VecFrame::from_bytes(&bytes)), Err(reason), "{name}");
        assert_eq!(bench.sent().len(), 0, "{name}");
    }
    let mut small = Bench::with(&long.0);
    assert_eq!(answer(&mut small, VecFrame::from_bytes(&long.1)), Err(DropReason::TooBig));
}
