//! Port control as RFC 6887 and RFC 6886 want it, over the wire.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{SYN, Seen, TCP, UDP, at, raw, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const HOST: &str = "10.0.0.2:40000";
const SERVER: &str = "10.0.0.1:5351";
const LIFETIME: u32 = 3_600;

const SUCCESS: u8 = 0;
const UNSUPP_VERSION: u8 = 1;
const NOT_AUTHORIZED: u8 = 2;
const MALFORMED_REQUEST: u8 = 3;
const UNSUPP_OPCODE: u8 = 4;
const UNSUPP_OPTION: u8 = 5;
const NO_RESOURCES: u8 = 8;
const UNSUPP_PROTOCOL: u8 = 9;
const USER_EX_QUOTA: u8 = 10;
const CANNOT_PROVIDE_EXTERNAL: u8 = 11;
const ADDRESS_MISMATCH: u8 = 12;
const EXCESSIVE_REMOTE_PEERS: u8 = 13;

const PREFER_FAILURE: &[u8] = &[2, 0, 0, 0];

/// A site whose hosts may ask; lifetimes short enough to be waited for.
fn net(more: &str) -> Net {
    Net::with(&format!("[pcp]\nenabled = true\nmax_lifetime = \"2h\"\n{more}"), |_| {})
}

/// What a host asks by MAP.
#[derive(Clone)]
struct Map {
    opcode: u8,
    host: &'static str,
    nonce: u8,
    protocol: u8,
    internal_port: u16,
    suggested: SocketAddrV4,
    lifetime: u32,
    rest: Vec<u8>,
}

impl Map {
    fn new(protocol: u8, internal_port: u16) -> Self {
        let suggested = at("0.0.0.0:0");
        let (host, lifetime) = (HOST, LIFETIME);
        Self { opcode: 1, host, nonce: 7, protocol, internal_port, suggested, lifetime, rest: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, self.opcode, 0, 0];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(mapped(*at(self.host).ip()));
        bytes.extend([self.nonce; 12]);
        bytes.extend([self.protocol, 0, 0, 0]);
        bytes.extend(self.internal_port.to_be_bytes());
        bytes.extend(self.suggested.port().to_be_bytes());
        bytes.extend(mapped(*self.suggested.ip()));
        bytes.extend(&self.rest);
        bytes
    }

    #[track_caller]
    fn ask(&self, net: &mut Net) -> Answer {
        Answer::of(&net.one(INSIDE, &udp(self.host, SERVER, &self.bytes())))
    }

    /// The external endpoint that is granted.
    #[track_caller]
    fn granted(&self, net: &mut Net) -> SocketAddrV4 {
        let answer = self.ask(net);
        assert_eq!(answer.result, SUCCESS, "{answer:?}");
        answer.external.unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    result: u8,
    lifetime: u32,
    epoch: u32,
    external: Option<SocketAddrV4>,
}

impl Answer {
    #[track_caller]
    fn of(seen: &Seen) -> Self {
        let bytes = &seen.payload;
        assert_eq!((seen.nic_port, seen.source), (INSIDE, at(SERVER)), "{seen:?}");
        assert_eq!((bytes[0], bytes[1] & 0x80, bytes.len() % 4), (2, 0x80, 0), "{bytes:?}");
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let external = bytes.get(42..60).map(|field| {
            SocketAddrV4::new(Ipv4Addr::from(word(56)), u16::from_be_bytes([field[0], field[1]]))
        });
        Self { result: bytes[3], lifetime: word(4), epoch: word(8), external }
    }
}

fn mapped(address: Ipv4Addr) -> [u8; 16] {
    address.to_ipv6_mapped().octets()
}

fn filter(prefix_length: u8, peer: &str) -> Vec<u8> {
    let peer = at(peer);
    let mut option = vec![3, 0, 0, 20, 0, prefix_length];
    option.extend(peer.port().to_be_bytes());
    option.extend(mapped(*peer.ip()));
    option
}

/// NAT-PMP: the answer to some bytes.
#[track_caller]
fn nat_pmp(net: &mut Net, request: &[u8]) -> Vec<u8> {
    net.one(INSIDE, &udp(HOST, SERVER, request)).payload
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn p_01_c_08_a_mapping_is_made_as_suggested_renewed_used_and_deleted() {
    let mut net = net("");
    let any = Map::new(TCP, 80);
    let address = *any.granted(&mut net).ip();
    Map { lifetime: 0, ..any.clone() }.ask(&mut net);
    net.advance(Duration::from_secs(1));
    let map = Map { suggested: SocketAddrV4::new(address, 8_080), ..any };
    let answer = map.ask(&mut net);
    let external = SocketAddrV4::new(address, 8_080);
    assert_eq!((answer.result, answer.lifetime, answer.external), (SUCCESS, LIFETIME, Some(external)));
    assert_eq!(net.mappings()[0].filtering, "explicit");

    // A renewal keeps it, whatever is suggested now.
    net.advance(Duration::from_secs(3_000));
    let renewal = Map { suggested: at("0.0.0.0:9999"), ..map.clone() };
    assert_eq!(renewal.granted(&mut net), external);
    net.advance(Duration::from_secs(3_500));
    let inbound = net.one(OUTSIDE, &tcp_between(at("198.51.100.1:1"), external, SYN, b""));
    assert_eq!(inbound.destination, at("10.0.0.2:80"));

    let stranger = Map { nonce: 8, ..map.clone() };
    assert_eq!(stranger.ask(&mut net).result, NOT_AUTHORIZED);
    assert_eq!(Map { lifetime: 0, ..stranger }.ask(&mut net).result, NOT_AUTHORIZED);
    let gone = Map { lifetime: 0, ..map.clone() };
    for _ in 0..2 {
        let answer = gone.ask(&mut net);
        assert_eq!((answer.result, answer.lifetime), (SUCCESS, 0));
    }
    let other = tcp_between(at("198.51.100.1:2"), external, SYN, b"");
    net.refused(OUTSIDE, &other, DropReason::NoMapping);
}

#[test]
fn p_01_lifetimes_are_raised_cut_and_end() {
    let mut net = net("");
    assert_eq!(Map { lifetime: u32::MAX, ..Map::new(UDP, 1) }.ask(&mut net).lifetime, 7_200);
    let short = Map { lifetime: 1, ..Map::new(UDP, 2) };
    assert_eq!(short.ask(&mut net).lifetime, 120);
    let external = short.granted(&mut net);
    net.advance(Duration::from_secs(119));
    net.one(OUTSIDE, &udp_between(at("198.51.100.1:1"), external, b""));
    net.advance(Duration::from_secs(2));
    net.refused(OUTSIDE, &udp_between(at("198.51.100.1:2"), external, b""), DropReason::NoMapping);
}

#[test]
fn p_01_a_mapping_that_exists_becomes_explicit_and_outlives_its_sessions() {
    let mut net = net("");
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    assert_eq!(Map::new(UDP, 5_000).granted(&mut net), out.source);
    net.advance(Duration::from_secs(400));
    assert_eq!((net.sessions().len(), net.mappings().len()), (0, 1));
    let again = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.9:53", b""));
    assert_eq!(again.source, out.source);
}

#[test]
fn p_01_a_wildcard_deletes_what_has_its_nonce_and_maps_nothing() {
    let mut net = net("");
    Map::new(TCP, 1).granted(&mut net);
    Map::new(UDP, 1).granted(&mut net);
    Map { nonce: 9, ..Map::new(TCP, 2) }.granted(&mut net);
    assert_eq!(Map::new(0, 0).ask(&mut net).result, UNSUPP_PROTOCOL);
    assert_eq!(Map::new(TCP, 0).ask(&mut net).result, UNSUPP_PROTOCOL);
    assert_eq!(Map::new(132, 5).ask(&mut net).result, UNSUPP_PROTOCOL);
    assert_eq!(net.mappings().len(), 3);
    assert_eq!(Map { lifetime: 0, ..Map::new(0, 0) }.ask(&mut net).result, SUCCESS);
    net.advance(Duration::from_secs(1));
    let left = net.mappings();
    assert_eq!((left.len(), left[0].internal), (1, at("10.0.0.2:2")));
}

#[test]
fn p_02_each_mistake_is_answered_by_its_code_or_by_silence() {
    let mut net = net("requests_per_second = 10000\n");
    let good = Map::new(TCP, 80).bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let third_party = [&good[..], &[1, 0, 0, 16], &mapped(Ipv4Addr::new(10, 0, 0, 3))].concat();
    let rows: &[(&str, Vec<u8>, u8)] = &[
        ("client address", with(23, 3), ADDRESS_MISMATCH),
        ("THIRD_PARTY", third_party, UNSUPP_OPTION),
        ("version 3", with(0, 3), UNSUPP_VERSION),
        ("opcode 99", with(1, 99), UNSUPP_OPCODE),
        ("1,101 bytes", [&good[..], &[0; 1_041]].concat(), MALFORMED_REQUEST),
        ("no multiple of 4", good[..59].to_vec(), MALFORMED_REQUEST),
    ];
    for (name, bytes, expected) in rows {
        let answer = Answer::of(&net.one(INSIDE, &udp(HOST, SERVER, bytes)));
        assert_eq!(answer.result, *expected, "{name}");
        assert!(answer.lifetime >= 30, "{name}: an error lasts");
    }
    net.refused(INSIDE, &udp(HOST, SERVER, &[2]), DropReason::PcpMalformed);
    net.refused(INSIDE, &udp(HOST, SERVER, &with(1, 0x81)), DropReason::PcpMalformed);
    assert_eq!(net.mappings(), []);
}

#[test]
fn p_02_a_wrong_checksum_is_not_answered_and_none_is() {
    let mut net = net("");
    let mut frame = udp(HOST, SERVER, &Map::new(TCP, 80).bytes());
    frame[14 + 20 + 6] ^= 0x55;
    net.refused(INSIDE, &frame, DropReason::BadL4Checksum);
    frame[14 + 20 + 6..14 + 20 + 8].fill(0);
    assert_eq!(Answer::of(&net.one(INSIDE, &frame)).result, SUCCESS);
    // A datagram whose length field leaves no room for its own header.
    let cut = raw("10.0.0.2", "10.0.0.1", UDP, &[0x9c, 0x40, 0x14, 0xe7, 0, 7, 0, 0, 2, 1]);
    net.refused(INSIDE, &cut, DropReason::BadL4Header);
}

#[test]
fn p_03_a_quota_is_kept_and_given_back() {
    let mut net = net("per_subscriber = 3\nmappings = 4\nrequests_per_second = 10000\n");
    for l4_port in 1..=3 {
        Map::new(TCP, l4_port).granted(&mut net);
    }
    assert_eq!(Map::new(TCP, 4).ask(&mut net).result, USER_EX_QUOTA);
    Map::new(TCP, 3).granted(&mut net);
    let neighbor = Map { host: "10.0.0.3:40000", ..Map::new(TCP, 1) };
    neighbor.granted(&mut net);
    assert_eq!(Map { internal_port: 2, ..neighbor }.ask(&mut net).result, NO_RESOURCES);
    Map { lifetime: 0, ..Map::new(TCP, 1) }.ask(&mut net);
    net.advance(Duration::from_secs(1));
    Map::new(TCP, 4).granted(&mut net);
    assert_eq!(net.mappings().len(), 4);
}

#[test]
fn p_03_prefer_failure_gets_what_it_suggests_or_nothing() {
    let mut net = net("");
    let external = Map::new(TCP, 80).granted(&mut net);
    let insisting = Map { suggested: external, rest: PREFER_FAILURE.to_vec(), ..Map::new(TCP, 81) };
    assert_eq!(insisting.ask(&mut net).result, CANNOT_PROVIDE_EXTERNAL);
    let free = SocketAddrV4::new(*external.ip(), external.port() ^ 1);
    let lucky = Map { suggested: free, ..insisting.clone() };
    assert_eq!(lucky.granted(&mut net), free);
    assert_eq!(Map { suggested: external, ..lucky.clone() }.ask(&mut net).result, CANNOT_PROVIDE_EXTERNAL);
    // Without the option it gets another one.
    let modest = Map { rest: Vec::new(), internal_port: 82, ..insisting.clone() };
    assert_ne!(modest.granted(&mut net), external);
    for suggested in ["192.0.2.1:9000", "0.0.0.0:80"] {
        let elsewhere = Map { suggested: at(suggested), internal_port: 83, ..insisting.clone() };
        assert_eq!(elsewhere.ask(&mut net).result, CANNOT_PROVIDE_EXTERNAL, "{suggested}");
    }
}

#[test]
fn p_03_filters_decide_which_peers_may_come() {
    let mut net = net("");
    let map = Map { rest: filter(120, "198.51.100.0:0"), ..Map::new(UDP, 5_000) };
    let external = map.granted(&mut net);
    assert_eq!(net.mappings()[0].filtering, "explicit_filtered");
    let from = |peer: &str| udp_between(at(peer), external, b"");
    net.one(OUTSIDE, &from("198.51.100.200:9"));
    net.refused(OUTSIDE, &from("192.0.2.1:9"), DropReason::NoMapping);

    // Added to those there are; and all of them replaced.
    Map { rest: filter(128, "192.0.2.1:9"), ..map.clone() }.granted(&mut net);
    net.one(OUTSIDE, &from("192.0.2.1:9"));
    net.refused(OUTSIDE, &from("192.0.2.1:10"), DropReason::NoMapping);
    net.one(OUTSIDE, &from("198.51.100.201:9"));
    let replaced = [filter(0, "0.0.0.0:0"), filter(128, "192.0.2.2:0")].concat();
    Map { rest: replaced, ..map.clone() }.granted(&mut net);
    net.refused(OUTSIDE, &from("198.51.100.202:9"), DropReason::NoMapping);
    net.one(OUTSIDE, &from("192.0.2.2:10"));

    let many: Vec<u8> = (0..8).flat_map(|n| filter(128, &format!("192.0.2.{}:1", 10 + n))).collect();
    assert_eq!(Map { rest: many, ..map.clone() }.ask(&mut net).result, EXCESSIVE_REMOTE_PEERS);
    net.refused(OUTSIDE, &from("192.0.2.10:1"), DropReason::NoMapping);
    Map { rest: filter(0, "0.0.0.0:0"), ..map }.granted(&mut net);
    net.one(OUTSIDE, &from("203.0.113.77:10"));
}

#[test]
fn p_03_peer_keeps_the_mapping_of_a_session_and_cannot_delete_it() {
    let mut net = net("");
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    let mut remote = 53_u16.to_be_bytes().to_vec();
    remote.extend([0, 0]);
    remote.extend(mapped(Ipv4Addr::new(198, 51, 100, 1)));
    let peer = Map { opcode: 2, rest: remote, ..Map::new(UDP, 5_000) };
    let answer = peer.ask(&mut net);
    assert_eq!((answer.result, answer.lifetime, answer.external), (SUCCESS, LIFETIME, Some(out.source)));
    assert_eq!(Map { nonce: 1, ..peer.clone() }.ask(&mut net).result, NOT_AUTHORIZED);
    assert!(Map { lifetime: 0, ..peer.clone() }.ask(&mut net).lifetime >= LIFETIME);
    net.advance(Duration::from_secs(1_000));
    assert_eq!((net.sessions().len(), net.mappings().len()), (0, 1));
    net.one(OUTSIDE, &udp_between(at("198.51.100.1:53"), out.source, b""));
    Map { nonce: 3, ..Map::new(UDP, 6_000) }.granted(&mut net);
    let other_nonce = Map { internal_port: 6_000, ..peer.clone() };
    assert_eq!(other_nonce.ask(&mut net).result, NOT_AUTHORIZED);
    let mut nowhere = peer;
    nowhere.rest[..2].fill(0);
    assert_eq!(nowhere.ask(&mut net).result, MALFORMED_REQUEST);
}

#[test]
fn p_04_the_epoch_counts_seconds_from_zero_and_is_announced_at_start() {
    let mut net = net("");
    let now = net.now;
    net.workers[0].announce(&mut net.io, now);
    let first = net.poll();
    let [announcement] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!((announcement.nic_port, announcement.source), (INSIDE, at(SERVER)));
    assert_eq!(announcement.destination, at("224.0.0.1:5350"));
    let mut expected = vec![0; 24];
    expected[..2].copy_from_slice(&[2, 0x80]);
    assert_eq!(announcement.payload, expected);
    // Ten in all, the intervals growing from 250 ms.
    assert_eq!(net.advance(Duration::from_secs(1)).len(), 2);
    assert_eq!(net.advance(Duration::from_secs(300)).len(), 7);

    let announce = [&[2, 0, 0, 0, 0, 0, 0, 0][..], &mapped(Ipv4Addr::new(10, 0, 0, 2))].concat();
    let answer = Answer::of(&net.one(INSIDE, &udp(HOST, SERVER, &announce)));
    assert_eq!((answer.result, answer.lifetime, answer.epoch), (SUCCESS, 0, 301));
}

#[test]
fn p_05_nobody_outside_is_answered() {
    let mut net = net("");
    let request = Map::new(TCP, 80).bytes();
    let unheard = DropReason::LocalUnhandled;
    for (nic_port, source, destination, reason) in [
        (OUTSIDE, "203.0.113.77:4000", "203.0.113.2:5351", unheard),
        (OUTSIDE, "203.0.113.77:4000", SERVER, unheard),
        (OUTSIDE, HOST, "203.0.113.2:5351", DropReason::SpoofedSource),
        (OUTSIDE, HOST, SERVER, DropReason::SpoofedSource),
        // From inside, but to the address on the other side.
        (INSIDE, HOST, "203.0.113.2:5351", unheard),
    ] {
        let mut frame = udp(source, destination, &request);
        frame[..6].copy_from_slice(&crate::common::ROUTER_MACS[usize::from(nic_port)]);
        net.refused(nic_port, &frame, reason);
    }
    let mut spoofed = udp("198.51.100.1:4000", SERVER, &request);
    spoofed[..6].copy_from_slice(&crate::common::ROUTER_MACS[0]);
    net.refused(INSIDE, &spoofed, DropReason::SpoofedSource);
    assert_eq!(net.mappings(), []);
}

#[test]
fn p_05_a_server_that_is_off_is_silent() {
    let mut net = Net::new();
    net.refused(INSIDE, &udp(HOST, SERVER, &Map::new(TCP, 80).bytes()), DropReason::LocalUnhandled);
}

#[test]
fn p_05_a_flood_of_one_host_costs_the_others_nothing() {
    let mut net = net("");
    let flood = udp(HOST, SERVER, &Map::new(TCP, 80).bytes());
    let mut answered = 0;
    // A tenth of a second of 10^5 requests per second.
    for _ in 0..10_000 {
        answered += net.send(INSIDE, &flood).len();
        net.now = net.now.plus(Duration::from_micros(10));
    }
    assert!((25..=28).contains(&answered), "{answered}");
    assert_eq!(net.dropped(DropReason::PcpRateLimited), 10_000 - answered as u64);
    Map { host: "10.0.0.3:40000", ..Map::new(TCP, 80) }.granted(&mut net);
    net.one(INSIDE, &udp("10.0.0.4:5000", "198.51.100.1:53", b""));
}

#[test]
fn p_06_nat_pmp_tells_the_address_maps_and_deletes() {
    let mut net = net("");
    let address = nat_pmp(&mut net, &[0, 0]);
    assert_eq!((address.len(), &address[..4]), (12, &[0, 128, 0, 0][..]));
    let external = Ipv4Addr::from(<[u8; 4]>::try_from(&address[8..]).unwrap());

    let map = [0, 2, 0, 0, 0, 22, 0x27, 0x10, 0, 0, 0x0e, 0x10];
    net.advance(Duration::from_secs(5));
    let granted = nat_pmp(&mut net, &map);
    assert_eq!(words(&granted), [130, 0, 0, 5, 22, 10_000, 0, 3_600]);
    let external = SocketAddrV4::new(external, 10_000);
    let inbound = net.one(OUTSIDE, &tcp_between(at("198.51.100.1:1"), external, SYN, b""));
    assert_eq!(inbound.destination, at("10.0.0.2:22"));

    // Taken: another port. Then UDP, and the deletion of all of TCP.
    let taken = nat_pmp(&mut net, &[0, 2, 0, 0, 0, 23, 0x27, 0x10, 0, 0, 0x0e, 0x10]);
    assert_ne!(words(&taken)[5], 10_000);
    assert_eq!(words(&nat_pmp(&mut net, &[0, 1, 0, 0, 0, 22, 0, 0, 0, 0, 0x0e, 0x10]))[..2], [129, 0]);
    assert_eq!(words(&nat_pmp(&mut net, &[0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), [130, 0, 0, 5, 0, 0, 0, 0]);
    let other = tcp_between(at("198.51.100.1:2"), external, SYN, b"");
    net.refused(OUTSIDE, &other, DropReason::NoMapping);

    assert_eq!(words(&nat_pmp(&mut net, &[0, 9])), [137, 5, 0, 5]);
    net.refused(INSIDE, &udp(HOST, SERVER, &[0]), DropReason::PcpMalformed);
    net.refused(INSIDE, &udp(HOST, SERVER, &map[..11]), DropReason::PcpMalformed);
}

#[test]
fn p_06_without_nat_pmp_version_0_is_an_unknown_version() {
    let mut net = net("nat_pmp = false\n");
    let answer = net.one(INSIDE, &udp(HOST, SERVER, &[0, 0]));
    assert_eq!((answer.payload.len(), &answer.payload[..4]), (24, &[2, 128, 0, UNSUPP_VERSION][..]));
}
