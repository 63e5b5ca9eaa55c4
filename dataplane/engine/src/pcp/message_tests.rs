//! The codec against the drawings of RFC 6887, and against garbage.

use proptest::prelude::*;

use super::*;

const HOST: u32 = 0x0a00_0002;

/// A request of version 2 from [`HOST`].
fn request(opcode: u8, lifetime: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, opcode, 0, 0];
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend([0; 10]);
    bytes.extend([0xff, 0xff, 10, 0, 0, 2]);
    bytes.extend(rest);
    bytes
}

/// MAP of TCP port 80 that suggests 203.0.113.10:8080, with options.
fn map(options: &[u8]) -> Vec<u8> {
    let mut body = vec![7; 12];
    body.extend([6, 0, 0, 0, 0, 80, 0x1f, 0x90]);
    body.extend([0; 10]);
    body.extend([0xff, 0xff, 203, 0, 113, 10]);
    body.extend(options);
    request(MAP, 3_600, &body)
}

fn filter(prefix_length: u8, l4_port: u16, address: [u8; 4]) -> Vec<u8> {
    let [high, low] = l4_port.to_be_bytes();
    let mut option = vec![FILTER, 0, 0, 20, 0, prefix_length, high, low];
    option.extend([0; 10]);
    option.extend([0xff, 0xff]);
    option.extend(address);
    option
}

#[test]
fn p_01_reads_a_map_request_as_section_11_1_draws_it() {
    let target = Target {
        nonce: Nonce([7; 12]),
        protocol: 6,
        internal_port: 80,
        suggested: Endpoint::new(0xcb00_710a, 8_080),
    };
    let parsed = parse(&map(&[]), HOST).unwrap();
    assert_eq!(parsed.operation, Operation::Map(target));
    assert_eq!((parsed.lifetime_seconds, parsed.options), (3_600, Options::default()));
}

#[test]
fn p_01_writes_a_map_response_as_section_11_1_draws_it() {
    let mut options = vec![0x90, 0, 0, 1, 9, 0, 0, 0];
    options.extend(filter(120, 0, [198, 51, 100, 0]));
    let request = map(&options);
    let external = Some(Endpoint::new(0xcb00_710b, 4_096));
    let response =
        Response { result: ResultCode::Success, lifetime_seconds: 600, epoch_seconds: 5, external };
    let mut out = [0xee; MAX_BYTES];
    let length = response.emit(&request, &mut out);
    let mut expected = vec![2, 0x81, 0, 0, 0, 0, 2, 88, 0, 0, 0, 5];
    expected.extend([0; 12]);
    expected.extend([7; 12]);
    expected.extend([6, 0, 0, 0, 0, 80, 0x10, 0]);
    expected.extend([0; 10]);
    expected.extend([0xff, 0xff, 203, 0, 113, 11]);
    // The unknown optional option is left out, the filter is repeated.
    expected.extend(filter(120, 0, [198, 51, 100, 0]));
    assert_eq!(out[..length], expected);
}

#[test]
fn p_02_refuses_each_mistake_with_its_own_code() {
    use ResultCode as Code;
    let with = |mut bytes: Vec<u8>, at: usize, byte: u8| {
        bytes[at] = byte;
        bytes
    };
    let third_party = [&[1, 0, 0, 16][..], &[0; 16]].concat();
    let long = [map(&[]), vec![0; MAX_BYTES + 4 - 60]].concat();
    let rows: &[(&str, Vec<u8>, ParseError)] = &[
        ("one byte", vec![2], ParseError::Silence),
        ("nothing", vec![], ParseError::Silence),
        ("R bit", with(map(&[]), 1, 0x81), ParseError::Silence),
        ("version 3", with(map(&[]), 0, 3), ParseError::Refused(Code::UnsuppVersion)),
        ("version 1, two bytes", vec![1, 1], ParseError::Refused(Code::UnsuppVersion)),
        ("opcode 99", with(map(&[]), 1, 99), ParseError::Refused(Code::UnsuppOpcode)),
        ("1,101 bytes", long[..1_101].to_vec(), ParseError::Refused(Code::MalformedRequest)),
        ("1,104 bytes", long, ParseError::Refused(Code::MalformedRequest)),
        ("no multiple of four", [map(&[]), vec![0]].concat(), ParseError::Refused(Code::MalformedRequest)),
        ("cut", map(&[])[..56].to_vec(), ParseError::Refused(Code::MalformedRequest)),
        ("another client", with(map(&[]), 23, 3), ParseError::Refused(Code::AddressMismatch)),
        ("IPv6 client", with(map(&[]), 8, 0x20), ParseError::Refused(Code::AddressMismatch)),
        ("all protocols, one port", with(map(&[]), 36, 0), ParseError::Refused(Code::MalformedRequest)),
        ("THIRD_PARTY", map(&third_party), ParseError::Refused(Code::UnsuppOption)),
        ("unknown mandatory option", map(&[99, 0, 0, 0]), ParseError::Refused(Code::UnsuppOption)),
        ("option beyond the end", map(&[2, 0, 0, 4]), ParseError::Refused(Code::MalformedOption)),
        ("PREFER_FAILURE with data", map(&[2, 0, 0, 1, 0, 0, 0, 0]), malformed_option()),
        ("PREFER_FAILURE twice", map(&[2, 0, 0, 0, 2, 0, 0, 0]), malformed_option()),
        ("FILTER too short", map(&[3, 0, 0, 4, 0, 0, 0, 0]), malformed_option()),
        ("FILTER of IPv6", map(&filter(64, 0, [0; 4])), malformed_option()),
        ("FILTER beyond 128 bits", map(&filter(129, 0, [0; 4])), malformed_option()),
        (
            "nine filters",
            map(&(0..9).flat_map(|n| filter(128, 0, [1, 1, 1, n])).collect::<Vec<_>>()),
            ParseError::Refused(Code::ExcessiveRemotePeers),
        ),
        ("PEER cut", with(map(&[]), 1, PEER), ParseError::Refused(Code::MalformedRequest)),
    ];
    for (name, bytes, expected) in rows {
        assert_eq!(parse(bytes, HOST), Err(*expected), "{name}");
    }
}

fn malformed_option() -> ParseError {
    ParseError::Refused(ResultCode::MalformedOption)
}

#[test]
fn p_02_an_error_repeats_the_request_cut_to_1100_bytes() {
    let refusal = Response {
        result: ResultCode::MalformedRequest,
        lifetime_seconds: 0,
        epoch_seconds: 9,
        external: None,
    };
    for (length, expected) in [(2, 24), (61, 64), (1_100, 1_100), (1_101, 1_100), (1_400, 1_100)] {
        let request: Vec<u8> = [map(&[]), vec![5; 1_400]].concat()[..length].to_vec();
        let mut out = [0xee; MAX_BYTES];
        assert_eq!(refusal.emit(&request, &mut out), expected, "{length}");
        assert_eq!(out[..12], [2, 0x81, 0, 3, 0, 0, 7, 8, 0, 0, 0, 9], "{length}");
        assert_eq!(out[12..24], [0; 12]);
        let repeated = length.clamp(24, 1_100);
        assert_eq!(out.get(24..repeated), request.get(24..repeated).or(Some(&[])));
    }
}

#[test]
fn p_03_a_filter_admits_its_prefix_and_port_only() {
    let parsed = parse(&map(&filter(120, 443, [198, 51, 100, 7])), HOST).unwrap();
    let filter = parsed.options.filters().next().unwrap();
    let peer = Endpoint::new;
    assert!(filter.admits(peer(0xc633_64ff, 443)));
    assert!(!filter.admits(peer(0xc633_64ff, 444)));
    assert!(!filter.admits(peer(0xc633_65ff, 443)));
    let all = Filter { address: 9, prefix_length: 0, l4_port: 0 };
    assert!(all.admits(peer(u32::MAX, 1)));
}

#[test]
fn p_03_a_filter_of_prefix_length_zero_clears_those_before_it() {
    let options = [filter(128, 0, [1, 1, 1, 1]), filter(0, 0, [0; 4]), filter(128, 0, [2, 2, 2, 2])].concat();
    let options = parse(&map(&options), HOST).unwrap().options;
    assert!(options.clears_filters);
    assert_eq!(options.filters().map(|filter| filter.address).collect::<Vec<_>>(), [0x0202_0202]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p_02_garbage_is_answered_within_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..1_300),
        looks_right in any::<bool>(),
        opcode in 0_u8..4,
        result in 0..ResultCode::ALL.len(),
    ) {
        let mut bytes = bytes;
        if looks_right {
            let head = request(opcode, 60, &[]);
            let count = head.len().min(bytes.len());
            bytes[..count].copy_from_slice(&head[..count]);
            bytes.truncate(bytes.len() / 4 * 4);
        }
        let parsed = parse(&bytes, HOST);
        let response = Response {
            result: if parsed.is_ok() { ResultCode::Success } else { ResultCode::ALL[result] },
            lifetime_seconds: 1,
            epoch_seconds: 2,
            external: Some(Endpoint::new(1, 1)),
        };
        let mut out = [0; MAX_BYTES];
        let length = response.emit(&bytes, &mut out);
        prop_assert!(length.is_multiple_of(4) && (24..=MAX_BYTES).contains(&length));
        prop_assert!(length <= bytes.len().next_multiple_of(4).max(24));
        prop_assert_eq!((out[0], out[1] & RESPONSE), (VERSION, RESPONSE));
    }
}
