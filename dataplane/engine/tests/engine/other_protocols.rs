//! Protocols other than TCP, UDP and ICMP: only by rule, by address or port, and never into the wrong hands.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::Pairing;
use algate_engine::drop_reason::DropReason;
use algate_engine::ids::NicPortId;
use algate_engine::nat::expectation::Expectation;
use algate_engine::nat::key::{Endpoint, FlowKey};
use algate_engine::packet::vec_frame::VecFrame;
use algate_engine::time::Tick;
use proptest::prelude::*;

use crate::common::packets::{Seen, at, icmp, raw, sum, udp, with_ip_byte};
use crate::common::{INSIDE, Net, OUTSIDE};

const HOST: &str = "10.0.0.2";
const OTHER_HOST: &str = "10.0.0.3";
const SERVER: &str = "198.51.100.1";

const DCCP: u8 = 33;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// A rule for the whole site that names `protocol`.
fn rule(protocol: u8) -> String {
    format!("[[nat.rule]]\ninternal = \"10.0.0.0/24\"\npool = \"public\"\nprotocol = {protocol}\n")
}

fn site(protocol: u8) -> Net {
    Net::with(&rule(protocol), |_| {})
}

/// With one external address only.
fn narrow_site(protocol: u8) -> Net {
    Net::with(&rule(protocol), |config| {
        let (first, _) = config.nat.pools[0].ranges[0];
        config.nat.pools[0].ranges = vec![(first, first)];
    })
}

fn l4(seen: &Seen) -> &[u8] {
    &seen.packet[20..]
}

fn ports(seen: &Seen) -> (u16, u16) {
    let l4 = l4(seen);
    (u16::from_be_bytes([l4[0], l4[1]]), u16::from_be_bytes([l4[2], l4[3]]))
}

/// An L4 header and payload that every parser accepts: port 5000 to 53, 20 bytes.
const PAYLOAD: [u8; 20] = [0x13, 0x88, 0, 53, 0, 20, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn others() -> impl Iterator<Item = u8> {
    (0..=255).filter(|protocol| ![1, 6, 17].contains(protocol))
}

#[test]
fn s_26_without_a_rule_nothing_but_three_protocols_passes() {
    let mut net = Net::new();
    for protocol in others() {
        net.refused(INSIDE, &raw(HOST, SERVER, protocol, &PAYLOAD), DropReason::UnsupportedProtocol);
        net.refused(
            OUTSIDE,
            &raw(SERVER, "203.0.113.10", protocol, &PAYLOAD),
            DropReason::UnsupportedProtocol,
        );
        net.refused(INSIDE, &raw(HOST, "203.0.113.10", protocol, &PAYLOAD), DropReason::UnsupportedProtocol);
    }
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn s_26_a_rule_for_one_protocol_opens_no_other() {
    for named in [GRE, ESP, SCTP, 0, 255] {
        let mut net = site(named);
        for protocol in others().filter(|protocol| *protocol != named) {
            net.refused(INSIDE, &raw(HOST, SERVER, protocol, &PAYLOAD), DropReason::UnsupportedProtocol);
        }
        assert_eq!(net.sessions().len(), 0, "{named}");
        // To SCTP the payload is no INIT.
        let unknown = if named == SCTP { DropReason::SctpNoAssociation } else { DropReason::NoMapping };
        net.refused(OUTSIDE, &raw(SERVER, "203.0.113.10", named, &PAYLOAD), unknown);
    }
}

#[test]
fn s_26_every_protocol_passes_by_its_rule_and_only_its_peer_answers() {
    for protocol in others().filter(|protocol| ![AH, DCCP, SCTP, UDPLITE].contains(protocol)) {
        let mut net = site(protocol);
        let out = net.one(INSIDE, &raw(HOST, SERVER, protocol, &PAYLOAD));
        assert_eq!((out.protocol, out.destination.ip().to_string()), (protocol, SERVER.to_string()));
        assert!(out.source.ip().octets().starts_with(&[203, 0, 113]), "{out:?}");
        assert_eq!(l4(&out), PAYLOAD, "{protocol}");
        let pool = out.source.ip().to_string();
        let back = net.one(OUTSIDE, &raw(SERVER, &pool, protocol, &PAYLOAD));
        assert_eq!((back.destination.ip().to_string(), l4(&back)), (HOST.to_string(), &PAYLOAD[..]));
        net.refused(OUTSIDE, &raw("198.51.100.9", &pool, protocol, &PAYLOAD), DropReason::NoMapping);
        assert_eq!(net.mappings().len(), 0, "no port of the pool is used");
    }
}

#[test]
fn ah_is_never_translated() {
    // Next header: none; five words; SPI, sequence number and check value.
    let header = [59, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    let to_itself = |config: &mut algate_config::Config| {
        let rule = algate_config::NatRule {
            protocol: Some(algate_config::RuleProtocol::of_number(AH)),
            ..config.nat.rules[0].clone()
        };
        config.nat.rules.push(rule);
    };
    Net::with("", to_itself).refused(INSIDE, &raw(HOST, SERVER, AH, &header), DropReason::AhTranslated);
    let untranslated = |config: &mut algate_config::Config| {
        to_itself(config);
        config.nat.rules[1].action = algate_config::NatAction::None;
    };
    let mut net = Net::with("", untranslated);
    let out = net.one(INSIDE, &raw(HOST, SERVER, AH, &header));
    assert_eq!((out.source.ip().to_string(), l4(&out)), (HOST.to_string(), &header[..]));
}

#[test]
fn one_internal_host_per_remote_host_and_external_address() {
    let mut net = narrow_site(ESP);
    net.one(INSIDE, &raw(HOST, SERVER, ESP, &PAYLOAD));
    let second = net.send(INSIDE, &raw(OTHER_HOST, SERVER, ESP, &PAYLOAD));
    assert_eq!((net.dropped(DropReason::AddressInUse), net.sessions().len()), (1, 1));
    assert_eq!(second.iter().map(|seen| seen.icmp).collect::<Vec<_>>(), [Some((3, 1))], "it is told");
    // Another remote host is another matter.
    net.one(INSIDE, &raw(OTHER_HOST, "198.51.100.2", ESP, &PAYLOAD));

    let mut net = Net::with(&rule(ESP), |config| config.nat.pools[0].pairing = Pairing::Soft);
    let hosts = [HOST, OTHER_HOST].map(|host| net.one(INSIDE, &raw(host, SERVER, ESP, &PAYLOAD)).source);
    assert_ne!(hosts[0], hosts[1], "under soft pairing there is a second address");
}

#[test]
fn s_26_the_filter_alone_admits_no_other_protocol() {
    let allow = "[[filter]]\nname = \"in\"\naction = \"allow\"\ndirection = \"inbound\"\n";
    for protocol in others().filter(|protocol| *protocol != AH) {
        let frame = raw(SERVER, "10.9.0.5", protocol, &PAYLOAD);
        Net::with(allow, |_| {}).refused(OUTSIDE, &frame, DropReason::UnsupportedProtocol);
        if protocol != SCTP {
            let mut net = Net::with(&format!("{allow}{}", rule(protocol)), |_| {});
            let seen = net.one(OUTSIDE, &frame);
            assert_eq!((seen.nic_port, seen.destination.ip().to_string()), (INSIDE, "10.9.0.5".to_string()));
        }
    }
}

#[test]
fn the_filter_judges_the_first_packet_only() {
    let deny = "[[filter]]\nname = \"in\"\naction = \"deny\"\ndirection = \"inbound\"\n";
    let mut net = Net::with(&format!("{deny}{}", rule(GRE)), |_| {});
    let pool = net.one(INSIDE, &call(HOST, SERVER, 77)).source.ip().to_string();
    net.one(OUTSIDE, &call(SERVER, &pool, 5));
    net.refused(OUTSIDE, &call("198.51.100.9", &pool, 5), DropReason::FilterDeny);
}

#[test]
fn other_protocols_are_forgotten_after_their_idle_time() {
    let mut net = site(GRE);
    let out = net.one(INSIDE, &raw(HOST, SERVER, GRE, &PAYLOAD));
    let back = raw(SERVER, &out.source.ip().to_string(), GRE, &PAYLOAD);
    net.advance(Duration::from_secs(599));
    net.one(OUTSIDE, &back);
    net.advance(Duration::from_secs(599));
    net.one(INSIDE, &raw(HOST, SERVER, GRE, &PAYLOAD));
    net.advance(Duration::from_secs(602));
    net.refused(OUTSIDE, &back, DropReason::NoMapping);
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn other_protocols_count_against_the_quota_of_udp() {
    let mut net = Net::with(&format!("{}[nat.limits]\nsessions_udp = 2\n", rule(GRE)), |_| {});
    net.one(INSIDE, &raw(HOST, SERVER, GRE, &PAYLOAD));
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.send(INSIDE, &raw(HOST, "198.51.100.2", GRE, &PAYLOAD));
    assert_eq!((net.dropped(DropReason::QuotaSessions), net.sessions().len()), (1, 2));
}

#[test]
fn later_fragments_follow_the_first_by_address() {
    let mut net = site(GRE);
    let first = with_ip_byte(raw(HOST, SERVER, GRE, &[7; 32]), 6, 0x20);
    let later = with_ip_byte(raw(HOST, SERVER, GRE, &[9; 11]), 7, 4);
    let seen = net.send_all(INSIDE, &[later, first]);
    assert_eq!(seen.len(), 2, "{:?}", net.drops());
    assert_eq!(seen[0].source.ip(), seen[1].source.ip());
}

// Checksums of these are right: computed by the definition in RFC 3828 and RFC 4340, not by the engine.
fn with_internet_checksum(
    source: &str,
    destination: &str,
    protocol: u8,
    covered: usize,
    l4: &[u8],
) -> Vec<u8> {
    let mut frame = raw(source, destination, protocol, l4);
    let pseudo: u64 = frame[26..34].chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum();
    let field = !sum(&frame[34..34 + covered], pseudo + u64::from(protocol) + l4.len() as u64);
    frame[40..42].copy_from_slice(&field.to_be_bytes());
    frame
}

#[track_caller]
fn assert_internet_checksum(seen: &Seen, covered: usize) {
    let pseudo: u64 = seen.packet[12..20].chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum();
    let start = pseudo + u64::from(seen.protocol) + l4(seen).len() as u64;
    assert_eq!(sum(&l4(seen)[..covered], start), 0xffff, "{seen:?}");
}

fn udplite(source: &str, destination: &str, ports: (u16, u16), coverage: u16) -> Vec<u8> {
    let mut l4 = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), coverage.to_be_bytes(), [0, 0]].concat();
    l4.extend(b"speech that may be damaged");
    let covered = if coverage == 0 { l4.len() } else { usize::from(coverage) };
    with_internet_checksum(source, destination, UDPLITE, covered, &l4)
}

#[test]
fn udplite_is_translated_whatever_its_checksum_covers() {
    for (coverage, covered) in [(8, 8), (20, 20), (34, 34), (0, 34)] {
        let mut net = site(UDPLITE);
        let out = net.one(INSIDE, &udplite(HOST, SERVER, (5_000, 5_004), coverage));
        assert_eq!(ports(&out), (5_000, 5_004), "a port that is free is kept");
        assert_internet_checksum(&out, covered);
        let pool = out.source.ip().to_string();
        let back = net.one(OUTSIDE, &udplite(SERVER, &pool, (5_004, 5_000), coverage));
        assert_internet_checksum(&back, covered);
        assert_eq!(back.destination.ip().to_string(), HOST);
    }
    let mut net = narrow_site(UDPLITE);
    net.one(INSIDE, &udplite(HOST, SERVER, (5_000, 5_004), 8));
    let second = net.one(INSIDE, &udplite(OTHER_HOST, SERVER, (5_000, 5_004), 8));
    let (drawn, _) = ports(&second);
    assert!(drawn != 5_000 && drawn >= 1_024);
    assert_internet_checksum(&second, 8);
    let back = net.one(OUTSIDE, &udplite(SERVER, "203.0.113.10", (5_004, drawn), 8));
    assert_eq!((back.destination.ip().to_string(), ports(&back)), (OTHER_HOST.to_string(), (5_004, 5_000)));
    assert_internet_checksum(&back, 8);
}

#[test]
fn udplite_with_an_impossible_coverage_is_refused() {
    let mut net = site(UDPLITE);
    for coverage in [1_u16, 7, 21, 65_535] {
        let [a, b] = coverage.to_be_bytes();
        let mut l4 = PAYLOAD;
        l4[4..6].copy_from_slice(&[a, b]);
        net.refused(INSIDE, &raw(HOST, SERVER, UDPLITE, &l4), DropReason::BadL4Header);
    }
}

#[test]
fn n_08_dccp_is_translated_by_address_and_keeps_its_ports() {
    // A DCCP-Request (RFC 4340 section 5.2): data offset 5 words, type 0, long sequence number, service code.
    let request = |source: &str, destination: &str, (from, to): (u16, u16)| {
        let [[a, b], [c, d]] = [from, to].map(u16::to_be_bytes);
        let l4 = [a, b, c, d, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, b'T', b'E', b'S', b'T'];
        with_internet_checksum(source, destination, DCCP, 20, &l4)
    };
    let mut net = narrow_site(DCCP);
    let out = net.one(INSIDE, &request(HOST, SERVER, (900, 5_001)));
    assert_eq!(ports(&out), (900, 5_001));
    assert_internet_checksum(&out, 20);
    let back = net.one(OUTSIDE, &request(SERVER, "203.0.113.10", (5_001, 900)));
    assert_eq!(back.destination.ip().to_string(), HOST);
    assert_internet_checksum(&back, 20);
    net.one(INSIDE, &request(OTHER_HOST, SERVER, (901, 5_001)));
    net.send(INSIDE, &request(OTHER_HOST, SERVER, (900, 5_001)));
    assert_eq!(net.dropped(DropReason::AddressInUse), 1);
}

/// Bit by bit, as RFC 9260 appendix A defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { (register >> 1) ^ 0x82F6_3B78 } else { register >> 1 };
        }
    }
    !register
}

fn sctp(source: SocketAddrV4, destination: SocketAddrV4, tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut l4 = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    l4.extend(tag.to_be_bytes());
    l4.extend([0; 4]);
    l4.extend(chunks);
    let checksum = crc32c(&l4);
    l4[8..12].copy_from_slice(&checksum.to_le_bytes());
    raw(&source.ip().to_string(), &destination.ip().to_string(), SCTP, &l4)
}

#[track_caller]
fn assert_crc32c(seen: &Seen) {
    let mut l4 = l4(seen).to_vec();
    let field = u32::from_le_bytes(l4[8..12].try_into().unwrap());
    l4[8..12].fill(0);
    assert_eq!(crc32c(&l4), field, "{seen:?}");
}

/// INIT (1) or INIT ACK (2) with `parameters`.
fn init(kind: u8, tag: u32, parameters: &[u8]) -> Vec<u8> {
    let length = (20 + parameters.len()) as u16;
    let mut chunk = vec![kind, 0];
    chunk.extend(length.to_be_bytes());
    chunk.extend(tag.to_be_bytes());
    chunk.extend([0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    chunk.extend(parameters);
    chunk
}

const COOKIE_ECHO: [u8; 8] = [10, 0, 0, 8, 1, 2, 3, 4];
const DATA: [u8; 20] = [0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'd', b'a', b't', b'a'];
const ABORT: [u8; 4] = [6, 0, 0, 4];
const ABORT_REFLECTED: [u8; 4] = [6, 1, 0, 4];
const SHUTDOWN_COMPLETE: [u8; 4] = [14, 0, 0, 4];

const CLIENT_TAG: u32 = 0x1111_2222;
const SERVER_TAG: u32 = 0x3333_4444;

/// Opens an association from `client`; returns its external endpoint.
fn associate(net: &mut Net, client: &str, server: &str) -> SocketAddrV4 {
    let (client, server) = (at(client), at(server));
    let out = net.one(INSIDE, &sctp(client, server, 0, &init(1, CLIENT_TAG, &[])));
    assert_crc32c(&out);
    let external = SocketAddrV4::new(*out.source.ip(), ports(&out).0);
    let back = net.one(OUTSIDE, &sctp(server, external, CLIENT_TAG, &init(2, SERVER_TAG, &[])));
    assert_crc32c(&back);
    assert_eq!((*back.destination.ip(), ports(&back)), (*client.ip(), (server.port(), client.port())));
    let echo = net.one(INSIDE, &sctp(client, server, SERVER_TAG, &[&COOKIE_ECHO[..], &DATA].concat()));
    assert_crc32c(&echo);
    assert_eq!(ports(&echo), (external.port(), server.port()));
    external
}

fn states(net: &Net) -> Vec<&'static str> {
    net.sessions().iter().map(|row| row.state).collect()
}

const CLIENT: &str = "10.0.0.2:36412";
const PEER: &str = "198.51.100.1:36412";

#[test]
fn sctp_keeps_its_port_where_it_can_and_mends_its_checksum_where_it_cannot() {
    let mut net = narrow_site(SCTP);
    assert_eq!(associate(&mut net, CLIENT, PEER).port(), 36_412);
    assert_eq!(states(&net), ["established"]);
    let second = associate(&mut net, "10.0.0.3:36412", PEER);
    assert!(second.port() != 36_412 && second.port() >= 1_024);
    // The same port serves another remote endpoint.
    assert_eq!(associate(&mut net, "10.0.0.3:36412", "198.51.100.2:36412").port(), 36_412);
    // A port outside the pool's range is never kept.
    assert!(associate(&mut net, "10.0.0.4:132", PEER).port() >= 1_024);
}

#[test]
fn a_wrong_sctp_checksum_stays_wrong() {
    let mut net = narrow_site(SCTP);
    associate(&mut net, CLIENT, PEER);
    let external = associate(&mut net, "10.0.0.3:36412", PEER);
    let mut frame = sctp(at("10.0.0.3:36412"), at(PEER), SERVER_TAG, &DATA);
    let last = frame.len() - 1;
    frame[last] ^= 0x40;
    let seen = net.one(INSIDE, &frame);
    assert_eq!(ports(&seen).0, external.port());
    let mut mended = l4(&seen).to_vec();
    *mended.last_mut().unwrap() ^= 0x40;
    let field = u32::from_le_bytes(mended[8..12].try_into().unwrap());
    mended[8..12].fill(0);
    assert_eq!(crc32c(&mended), field, "exactly as wrong as it came");
}

#[test]
fn an_association_begins_with_a_right_init() {
    let mut net = site(SCTP);
    let (client, server) = (at(CLIENT), at(PEER));
    for chunks in [&DATA[..], &ABORT, &COOKIE_ECHO, &init(2, 7, &[]), &[], &[1, 0]] {
        net.refused(INSIDE, &sctp(client, server, 0, chunks), DropReason::SctpNoAssociation);
    }
    let mut damaged = sctp(client, server, 0, &init(1, 7, &[]));
    damaged[60] ^= 1;
    net.refused(INSIDE, &damaged, DropReason::BadL4Checksum);
    net.refused(INSIDE, &raw(HOST, SERVER, SCTP, &[0; 11]), DropReason::BadL4Header);
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn only_who_knows_the_verification_tag_ends_an_association() {
    let mut net = site(SCTP);
    let external = associate(&mut net, CLIENT, PEER);
    let server = at(PEER);
    let mut forged = |tag, chunk: &[u8]| {
        net.refused(OUTSIDE, &sctp(server, external, tag, chunk), DropReason::SctpBadTag);
        assert_eq!(states(&net), ["established"]);
    };
    forged(SERVER_TAG, &ABORT);
    forged(CLIENT_TAG, &ABORT_REFLECTED);
    forged(1, &SHUTDOWN_COMPLETE);
    forged(1, &init(2, 666, &[]));
    // Damaged: it passes as it came, and counts for nothing.
    let mut damaged = sctp(server, external, CLIENT_TAG, &ABORT);
    damaged[42] ^= 1;
    net.one(OUTSIDE, &damaged);
    assert_eq!(states(&net), ["established"]);

    net.one(OUTSIDE, &sctp(server, external, SERVER_TAG, &ABORT_REFLECTED));
    assert_eq!(states(&net), ["transitory"]);
    net.one(INSIDE, &sctp(at(CLIENT), server, SERVER_TAG, &DATA));
    assert_eq!(states(&net), ["established"], "data brings it back");
    net.one(OUTSIDE, &sctp(server, external, CLIENT_TAG, &SHUTDOWN_COMPLETE));
    assert_eq!(states(&net), ["transitory"]);
    net.advance(Duration::from_secs(242));
    assert_eq!(states(&net), [""; 0]);
}

#[test]
fn addresses_in_an_init_become_padding() {
    let ipv4 = [0, 5, 0, 8, 10, 0, 0, 2];
    let ipv6 = [[0, 6, 0, 20].as_slice(), &[0xfd; 16]].concat();
    let supported = [0, 12, 0, 6, 0, 5, 0, 0];
    let parameters = [&supported[..], &ipv4, &ipv6, &ipv4].concat();
    let mut net = site(SCTP);
    let init = |kind| init(kind, CLIENT_TAG, &parameters);
    let out = net.one(INSIDE, &sctp(at(CLIENT), at(PEER), 0, &init(1)));
    assert_crc32c(&out);
    let mut expected = init(1);
    for at in [28, 36, 56] {
        expected[at..at + 2].copy_from_slice(&[0x80, 5]);
    }
    assert_eq!(l4(&out)[12..], expected);

    // Without translation nothing is hidden.
    let untranslated = |config: &mut algate_config::Config| {
        config.nat.rules[1].action = algate_config::NatAction::None;
    };
    let mut net = Net::with(&rule(SCTP), untranslated);
    let out = net.one(INSIDE, &sctp(at(CLIENT), at(PEER), 0, &init(1)));
    assert_eq!(l4(&out)[12..], init(1));
}

#[test]
fn parameters_of_any_length_end_the_list_and_nothing_else() {
    for (kind, length) in [(5_u8, 0_u8), (5, 3), (5, 255), (0, 1), (6, 20)] {
        let mut net = site(SCTP);
        let parameters = [0, kind, 0, length, 1, 2, 3, 4];
        let out = net.one(INSIDE, &sctp(at(CLIENT), at(PEER), 0, &init(1, 7, &parameters)));
        assert_crc32c(&out);
        assert_eq!(l4(&out).len(), 40);
    }
}

#[test]
fn a_split_sctp_packet_goes_the_way_of_a_whole_one() {
    for cut in 34..60 {
        let mut net = site(SCTP);
        let frame = sctp(at(CLIENT), at(PEER), 0, &init(1, CLIENT_TAG, &[0, 5, 0, 8, 10, 0, 0, 2]));
        let cut = cut.min(frame.len());
        let seen = net.send_frames(INSIDE, vec![VecFrame::from_segments(&[&frame[..cut], &frame[cut..]])]);
        assert_eq!(seen.len(), 1, "cut at {cut}: {:?}", net.drops());
        assert_crc32c(&seen[0]);
        assert_eq!(l4(&seen[0])[32..34], [0x80, 5]);
    }
}

#[test]
fn a_fragmented_sctp_packet_passes_with_its_port_and_not_without() {
    let mut net = narrow_site(SCTP);
    associate(&mut net, CLIENT, PEER);
    associate(&mut net, "10.0.0.3:36412", PEER);
    for (host, passes) in [(HOST, true), (OTHER_HOST, false)] {
        let whole = sctp(SocketAddrV4::new(host.parse().unwrap(), 36_412), at(PEER), SERVER_TAG, &DATA);
        let first = with_ip_byte(raw(host, SERVER, SCTP, &whole[34..58]), 6, 0x20);
        let later = with_ip_byte(raw(host, SERVER, SCTP, &whole[58..]), 7, 3);
        let seen = net.send_all(INSIDE, &[first, later]);
        assert_eq!(seen.len(), if passes { 2 } else { 0 }, "{host} {:?}", net.drops());
    }
    assert_eq!((net.dropped(DropReason::SctpFragment), net.dropped(DropReason::FragmentRefused)), (1, 1));
}

#[test]
fn half_open_associations_count_as_half_open() {
    let mut net = Net::with(&rule(SCTP), |config| config.tables.half_open = 4);
    for port in 0..4 {
        net.one(
            INSIDE,
            &sctp(SocketAddrV4::new(HOST.parse().unwrap(), 2_000 + port), at(PEER), 0, &init(1, 7, &[])),
        );
    }
    net.send(INSIDE, &sctp(at("10.0.0.2:3000"), at(PEER), 0, &init(1, 7, &[])));
    assert_eq!(net.dropped(DropReason::HalfOpenFull), 1);
}

/// Enhanced GRE of a PPTP call (RFC 2637 section 4.1).
fn call(source: &str, destination: &str, call_id: u16) -> Vec<u8> {
    let [a, b] = call_id.to_be_bytes();
    raw(source, destination, GRE, &[0x30, 0x81, 0x88, 0x0b, 0, 4, a, b, 0, 0, 0, 1, 1, 2, 3, 4])
}

fn call_id(seen: &Seen) -> u16 {
    u16::from_be_bytes([l4(seen)[6], l4(seen)[7]])
}

#[test]
fn a_pptp_call_that_nobody_expects_is_known_by_its_addresses() {
    let mut net = site(GRE);
    let out = net.one(INSIDE, &call(HOST, SERVER, 77));
    assert_eq!(call_id(&out), 77);
    let pool = out.source.ip().to_string();
    for id in [5, 6, 0] {
        let back = net.one(OUTSIDE, &call(SERVER, &pool, id));
        assert_eq!((back.destination.ip().to_string(), call_id(&back)), (HOST.to_string(), id));
    }
    assert_eq!(net.sessions().len(), 1);
    net.one(OUTSIDE, &raw(SERVER, &pool, GRE, &PAYLOAD));
    net.refused(OUTSIDE, &call("198.51.100.9", &pool, 5), DropReason::NoMapping);
}

#[test]
fn an_expected_pptp_call_is_a_flow_of_its_own() {
    let mut net = narrow_site(GRE);
    let control = net.one(INSIDE, &udp("10.0.0.3:5000", "198.51.100.1:53", b"")).source;
    let sessions = &net.engine.nat.sessions;
    let key = FlowKey::new(17, at("10.0.0.3:5000").into(), at("198.51.100.1:53").into());
    let (session, _) = sessions.find(sessions.hash(key), key).unwrap();
    let (parent, subscriber) = (sessions.handle(&session), session.subscriber());
    let end =
        |address: &str, call_id| Endpoint { l4_port: call_id, ..Endpoint::from(at(&format!("{address}:0"))) };
    let external = control.ip().to_string();
    let expect = |announced, target, peer| {
        let expires = Tick::of(net.now).plus(Duration::from_secs(60));
        let peer = Some(peer);
        let new =
            Expectation { protocol: GRE, announced, target, peer, uses: 1, expires, parent, mapping: None };
        let nat = &net.engine.nat;
        assert!(nat.subscribers.take_expectation(subscriber));
        nat.subscribers.hold(subscriber);
        nat.expectations.create(&new, subscriber, false).unwrap();
    };
    // The host's own id 9 is announced as 900; the server's is 4.
    expect(end(&external, 900), end(OTHER_HOST, 9), end(SERVER, 0));
    expect(end(SERVER, 4), end(SERVER, 4), end(OTHER_HOST, 0));
    // Another host has the addresses.
    net.one(INSIDE, &call(HOST, SERVER, 3));
    let out = net.one(INSIDE, &call(OTHER_HOST, SERVER, 4));
    assert_eq!((out.source.ip().to_string(), call_id(&out)), (external.clone(), 4));
    let back = net.one(OUTSIDE, &call(SERVER, &external, 900));
    assert_eq!((back.destination.ip().to_string(), call_id(&back)), (OTHER_HOST.to_string(), 9));
    let back = net.one(OUTSIDE, &call(SERVER, &external, 8));
    assert_eq!((back.destination.ip().to_string(), call_id(&back)), (HOST.to_string(), 8));
    // An error about the call finds its own host.
    let about = icmp("203.0.113.1", &external, (3, 1), [0; 4], &out.packet);
    assert_eq!(net.one(OUTSIDE, &about).destination.ip().to_string(), OTHER_HOST);
}

#[test]
fn i_09_an_error_about_another_protocol_comes_back_to_its_sender() {
    let cases: [(u8, Vec<u8>); 8] = [
        (4, raw(HOST, SERVER, 4, &PAYLOAD)),
        (0, raw(HOST, SERVER, 0, &PAYLOAD)),
        (255, raw(HOST, SERVER, 255, &PAYLOAD)),
        (ESP, raw(HOST, SERVER, ESP, &PAYLOAD)),
        (GRE, raw(HOST, SERVER, GRE, &PAYLOAD)),
        (GRE, call(HOST, SERVER, 77)),
        (UDPLITE, udplite(HOST, SERVER, (5_000, 5_004), 8)),
        (SCTP, sctp(at(CLIENT), at(PEER), 0, &init(1, CLIENT_TAG, &[]))),
    ];
    for (protocol, frame) in cases {
        let mut net = narrow_site(protocol);
        // The port that would be kept is taken.
        match protocol {
            UDPLITE => drop(net.one(INSIDE, &udplite(OTHER_HOST, SERVER, (5_000, 5_004), 8))),
            SCTP => drop(associate(&mut net, "10.0.0.3:36412", PEER)),
            _ => {}
        }
        let out = net.one(INSIDE, &frame);
        for bytes in 0..=out.packet.len() {
            let error = icmp("203.0.113.1", "203.0.113.10", (3, 1), [0; 4], &out.packet[..bytes]);
            if bytes < 28 {
                net.refused(OUTSIDE, &error, DropReason::BadIcmp);
                continue;
            }
            net.advance(Duration::from_secs(1));
            let seen = net.one(OUTSIDE, &error);
            assert_eq!(seen.destination.ip().to_string(), HOST);
            let sent = &frame[14 + 20..14 + bytes];
            let told = &seen.payload[20..bytes];
            if protocol == SCTP {
                assert_eq!(told[..8], sent[..8], "ports and tag");
            } else {
                assert_eq!(told, sent, "{protocol} {bytes}");
            }
        }
    }
}

/// A site whose rules name every protocol, one session of each kind, and packets that hit them: port, frame.
fn traffic() -> (Net, Vec<(u16, Vec<u8>)>) {
    let rules: String = [4, 33, 41, GRE, ESP, SCTP, UDPLITE].map(rule).concat();
    let mut net = Net::with(&rules, |_| {});
    let external = associate(&mut net, CLIENT, PEER);
    let pool = external.ip().to_string();
    let listed = init(1, 8, &[0, 5, 0, 8, 10, 0, 0, 2, 0, 6, 0, 20, 1, 2, 3, 4]);
    let frames = vec![
        (INSIDE, sctp(at(CLIENT), at(PEER), 0, &listed)),
        (INSIDE, sctp(at("10.0.0.2:9"), at(PEER), 0, &listed)),
        (OUTSIDE, sctp(at(PEER), external, CLIENT_TAG, &DATA)),
        (OUTSIDE, sctp(at(PEER), external, SERVER_TAG, &ABORT_REFLECTED)),
        (INSIDE, udplite(HOST, SERVER, (9, 5_004), 12)),
        (INSIDE, call(HOST, SERVER, 77)),
        (OUTSIDE, call(SERVER, &pool, 5)),
        (INSIDE, raw(HOST, SERVER, 4, &PAYLOAD)),
        (INSIDE, raw(HOST, SERVER, DCCP, &PAYLOAD)),
    ];
    (net, frames)
}

#[test]
fn a_packet_of_another_protocol_cut_at_any_byte_is_counted() {
    let (mut net, frames) = traffic();
    let sessions = net.sessions().len();
    for (nic_port, frame) in &frames {
        for bytes in 0..frame.len() {
            assert_eq!(net.send(*nic_port, &frame[..bytes]), [], "cut at {bytes}");
        }
    }
    assert_eq!(net.sessions().len(), sessions);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes behind the Ethernet header are changed, the IPv4 checksum is made right again, and the frame is split anywhere.
    #[test]
    fn damaged_packets_of_other_protocols_never_panic_and_are_all_counted(
        packets in prop::collection::vec(
            (0_usize..9, prop::collection::vec((20_usize..90, any::<u8>()), 0..6), 0_usize..90), 1..80,
        ),
    ) {
        let (mut net, frames) = traffic();
        net.verifies = false;
        for (which, changes, split) in packets {
            let (nic_port, mut frame) = frames[which].clone();
            for (at, byte) in changes {
                // The addresses stay: their hosts have answered ARP.
                if at < frame.len() && !(26..34).contains(&at) {
                    frame[at] = byte;
                }
            }
            let ttl = frame[22];
            let frame = with_ip_byte(frame, 8, ttl);
            let split = split.min(frame.len());
            // What comes out may be no packet that a second parser accepts.
            let burst = VecFrame::from_segments(&[&frame[..split], &frame[split..]]);
            net.workers[0].receive(&mut net.io, net.now, NicPortId(nic_port), &mut vec![burst]);
            net.transmitted += net.io.take().iter().filter(|(_, sent)| sent.bytes()[12..14] == [8, 0]).count() as u64;
        }
    }
}
