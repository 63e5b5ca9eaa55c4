//! TCP: rows of RFC 5382, RFC 7857 and RFC 5961 that take a whole site to see.

use std::net::SocketAddrV4;

use algate_config::{FilteringBehavior, RuleProtocol};
use algate_engine::drop_reason::DropReason;
use etherparse::{PacketBuilder, TcpHeader};

use crate::common::packets::{
    ACK, FIN, RST, SYN, Seen, at, icmp, mac_of, tcp, tcp_between, udp, udp_between,
};
use crate::common::{INSIDE, Net, OUTSIDE, ROUTER_MACS};

const CLIENT: &str = "10.0.0.2:4000";
const SERVER: &str = "198.51.100.1:80";
const FTP_SERVER: &str = "198.51.100.1:21";

/// A segment with these numbers, its checksum right.
pub(crate) fn numbered(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    (seq, ack): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut header = TcpHeader::new(source.port(), destination.port(), seq, 8_192);
    (header.ack, header.acknowledgment_number) = (true, ack);
    let wire = usize::from(source.ip().octets()[0] != 10);
    let (from, to) = (source.ip().octets(), destination.ip().octets());
    let builder = PacketBuilder::ethernet2(mac_of(from), ROUTER_MACS[wire]).ipv4(from, to, 64);
    let mut frame = Vec::new();
    builder.tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

/// A control session on which the server has greeted; the client's external endpoint.
pub(crate) fn greeted(net: &mut Net) -> SocketAddrV4 {
    let external = net.one(INSIDE, &tcp(CLIENT, FTP_SERVER, SYN)).source;
    net.one(OUTSIDE, &tcp_between(at(FTP_SERVER), external, SYN | ACK, b""));
    net.one(INSIDE, &tcp(CLIENT, FTP_SERVER, ACK));
    net.one(OUTSIDE, &numbered(at(FTP_SERVER), external, (1_001, 1_001), b"220 Ready.\r\n"));
    external
}

/// What the server gets when the client's next bytes are a PORT command.
pub(crate) fn port_command(net: &mut Net) -> Seen {
    let command = numbered(at(CLIENT), at(FTP_SERVER), (1_001, 1_013), b"PORT 10,0,0,2,15,161\r\n");
    let seen = net.send(INSIDE, &command);
    seen.into_iter().find(|seen| seen.nic_port == OUTSIDE && !seen.payload.is_empty()).expect("the command")
}

#[test]
fn t_06_u_11_by_default_no_tcp_payload_is_touched_and_the_alg_has_a_switch() {
    for (toml, is_touched) in [("", false), ("[alg.ftp]\nenabled = true\n", true)] {
        let mut net = Net::with(toml, |_| {});
        greeted(&mut net);
        let seen = port_command(&mut net);
        assert_eq!(seen.payload != b"PORT 10,0,0,2,15,161\r\n", is_touched, "{toml}");
        assert_eq!(net.engine.expectation_rows(net.now, 9).len(), usize::from(is_touched));
        assert_eq!(net.workers[0].alg_flows(), usize::from(is_touched));
    }
}

#[test]
fn t_02_data_on_a_syn_and_repeated_handshakes_pass() {
    let mut net = Net::new();
    let begin = tcp_between(at(CLIENT), at(SERVER), SYN, b"early");
    let external = net.one(INSIDE, &begin).source;
    let again = net.one(INSIDE, &begin);
    assert_eq!((again.source, again.tcp_flags, again.payload.as_slice()), (external, SYN, &b"early"[..]));
    for _ in 0..2 {
        let answer = net.one(OUTSIDE, &tcp_between(at(SERVER), external, SYN | ACK, b""));
        assert_eq!((answer.destination, answer.tcp_flags), (at(CLIENT), SYN | ACK));
        net.one(INSIDE, &tcp(CLIENT, SERVER, ACK));
    }
    assert_eq!(net.sessions().iter().map(|row| row.state).collect::<Vec<_>>(), ["established"]);
}

#[test]
fn t_03_strangers_are_filtered_as_configured_for_each_protocol_apart() {
    let open = FilteringBehavior::EndpointIndependent;
    let closed = FilteringBehavior::AddressAndPortDependent;
    for (of_tcp, of_udp) in [(open, closed), (closed, open), (closed, closed), (open, open)] {
        let mut net = Net::with("", |config| {
            let mut udp_rule = config.nat.rules[0].clone();
            (udp_rule.protocol, udp_rule.filtering) = (Some(RuleProtocol::Udp), of_udp);
            config.nat.rules[0].protocol = Some(RuleProtocol::Tcp);
            config.nat.rules[0].filtering = of_tcp;
            config.nat.rules.push(udp_rule);
        });
        let tcp_external = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN)).source;
        let udp_external = net.one(INSIDE, &udp(CLIENT, SERVER, b"")).source;
        let stranger = at("198.51.100.9:1234");
        let comes_in = |seen: Vec<Seen>| seen.iter().any(|seen| seen.destination == at(CLIENT));
        let syn = net.send(OUTSIDE, &tcp_between(stranger, tcp_external, SYN, b""));
        assert_eq!(comes_in(syn), of_tcp == open);
        let datagram = net.send(OUTSIDE, &udp_between(stranger, udp_external, b""));
        assert_eq!(comes_in(datagram), of_udp == open);
    }
}

#[test]
fn t_07_a_tcp_port_belongs_to_one_endpoint() {
    let mut net = Net::with("", |config| {
        let pool = &mut config.nat.pools[0];
        (pool.ranges[0].1, pool.l4_ports) = (pool.ranges[0].0, (3_000, 3_000));
    });
    let first = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN)).source;
    for (host, remote) in
        [("10.0.0.3:4000", SERVER), ("10.0.0.2:4001", SERVER), ("10.0.0.3:9", "192.0.2.7:443")]
    {
        let told = net.one(INSIDE, &tcp(host, remote, SYN));
        assert_eq!((told.nic_port, told.icmp), (INSIDE, Some((3, 1))), "{host}");
    }
    let back = net.one(OUTSIDE, &tcp_between(at(SERVER), first, SYN | ACK, b""));
    assert_eq!((back.destination, net.mappings().len()), (at(CLIENT), 1));
}

#[test]
fn t_08_icmp_errors_about_a_connection_are_translated_and_end_nothing() {
    let mut net = Net::new();
    let external = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN)).source;
    net.one(OUTSIDE, &tcp_between(at(SERVER), external, SYN | ACK, b""));
    let out = net.one(INSIDE, &tcp(CLIENT, SERVER, ACK));
    let into = net.one(OUTSIDE, &tcp_between(at(SERVER), external, ACK, b"data"));
    let (pool, unreachable) = (external.ip().to_string(), (0..=15).map(|code| (3, code)));
    for type_and_code in unreachable.chain([(11, 0), (11, 1), (12, 0)]) {
        net.advance(std::time::Duration::from_secs(1));
        let from_outside = icmp("203.0.113.1", &pool, type_and_code, [0, 0, 5, 0], &out.packet);
        let seen = net.one(OUTSIDE, &from_outside);
        assert_eq!((seen.icmp, seen.destination.ip()), (Some(type_and_code), at(CLIENT).ip()));
        assert_eq!((seen.embedded().source, seen.embedded().destination), (at(CLIENT), at(SERVER)));
        let from_inside = icmp("10.0.0.2", "198.51.100.1", type_and_code, [0, 0, 5, 0], &into.packet);
        let seen = net.one(INSIDE, &from_inside);
        assert_eq!((seen.icmp, seen.source.ip()), (Some(type_and_code), external.ip()));
        assert_eq!((seen.embedded().source, seen.embedded().destination), (at(SERVER), external));
        let states: Vec<_> = net.sessions().iter().map(|row| row.state).collect();
        assert_eq!((states.as_slice(), net.mappings().len()), (&["established"][..], 1));
    }
    assert_eq!(net.one(OUTSIDE, &tcp_between(at(SERVER), external, ACK, b"data")).destination, at(CLIENT));
}

/// Who begins, then who sends what and the state after it.
type Walk = &'static [(Who, u8, &'static str)];

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Inside,
    Outside,
}
use Who::{Inside, Outside};

const WALKS: [Walk; 5] = [
    &[
        (Inside, SYN, "init"),
        (Outside, SYN | ACK, "established"),
        (Inside, ACK, "established"),
        (Outside, FIN | ACK, "fin_reply"),
        (Inside, ACK, "fin_reply"),
        (Inside, FIN | ACK, "fin_both"),
        (Outside, ACK, "fin_both"),
        (Outside, RST, "fin_both"),
    ],
    &[
        (Outside, SYN, "init"),
        (Inside, SYN | ACK, "established"),
        (Outside, ACK, "established"),
        (Outside, FIN | ACK, "fin_original"),
        (Inside, ACK, "fin_original"),
        (Inside, FIN | ACK, "fin_both"),
        (Outside, ACK, "fin_both"),
    ],
    &[
        (Outside, SYN, "init"),
        (Inside, SYN, "established"),
        (Outside, SYN | ACK, "established"),
        (Inside, SYN | ACK, "established"),
        (Inside, FIN | ACK, "fin_reply"),
        (Inside, RST, "transitory"),
    ],
    &[
        (Outside, SYN, "init"),
        (Inside, RST | ACK, "transitory"),
        (Outside, SYN, "init"),
        (Inside, SYN | ACK, "established"),
    ],
    &[
        (Inside, SYN, "init"),
        (Inside, FIN, "init"),
        (Inside, RST, "transitory"),
        (Inside, FIN, "transitory"),
        (Inside, ACK, "established"),
    ],
];

#[test]
fn t_09_the_states_are_walked_from_either_side() {
    for (number, walk) in WALKS.into_iter().enumerate() {
        let mut net = Net::new();
        // The mapping through which a stranger comes.
        let external = net.one(INSIDE, &tcp(CLIENT, "198.51.100.7:7", SYN)).source;
        for (step, (who, flags, state)) in walk.iter().enumerate() {
            let seen = match who {
                Inside => net.one(INSIDE, &tcp(CLIENT, SERVER, *flags)),
                Outside => net.one(OUTSIDE, &tcp_between(at(SERVER), external, *flags, b"")),
            };
            assert_eq!(seen.tcp_flags, *flags, "walk {number}, step {step}");
            let rows = net.sessions();
            let row = rows.iter().find(|row| row.remote == at(SERVER)).unwrap();
            assert_eq!(
                (row.state, row.is_outbound),
                (*state, walk[0].0 == Inside),
                "walk {number}, step {step}"
            );
        }
    }
}

/// A forger knows the server and tries every port of the pool with numbers across the whole space.
#[test]
fn s_09_a_sweep_over_ports_and_numbers_loses_none_of_a_thousand_sessions() {
    let mut net = Net::with("", |config| {
        config.nat.pools[0].l4_ports = (20_000, 23_999);
        config.nat.limits.sessions = 2_000;
    });
    let established: Vec<_> = (0..1_000_u16)
        .map(|n| {
            let client = SocketAddrV4::new([10, 0, 0, 2 + (n % 10) as u8].into(), 4_000 + n);
            let external = net.one(INSIDE, &tcp_between(client, at(SERVER), SYN, b"")).source;
            net.one(OUTSIDE, &tcp_between(at(SERVER), external, SYN | ACK, b""));
            net.one(INSIDE, &tcp_between(client, at(SERVER), ACK, b""));
            (client, external)
        })
        .collect();
    net.burst = 32;
    let mut passed = 0;
    for (round, guess) in (0..10_u32).map(|round| (round, 200_000 + round * 400_000_000)) {
        for address in ["203.0.113.10", "203.0.113.11"] {
            let resets: Vec<_> = (20_000..24_000)
                .map(|l4_port| {
                    let to = SocketAddrV4::new(address.parse().unwrap(), l4_port);
                    let mut frame = tcp_between(at(SERVER), to, RST, b"");
                    frame[38..42].copy_from_slice(&(guess + u32::from(l4_port)).to_be_bytes());
                    frame
                })
                .collect();
            passed += net.send_all(OUTSIDE, &resets).len();
        }
        assert_eq!((passed, net.sessions().len()), (0, 1_000), "round {round}");
    }
    assert_eq!(net.dropped(DropReason::TcpRstOutOfWindow), 10_000);
    assert!(net.sessions().iter().all(|row| row.state == "established"));
    for (client, external) in established {
        assert_eq!(net.one(OUTSIDE, &tcp_between(at(SERVER), external, ACK, b"on")).destination, client);
    }
}
