//! Floods and hostile patterns at a scale that a second or two of test allows.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_engine::drop_reason::DropReason;
use algate_engine::ids::NicPortId;
use algate_engine::packet::vec_frame::VecFrame;

use crate::common::packets::{ACK, SYN, Seen, at, tcp, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::rows_tcp::{greeted, numbered, port_command};

const SERVER: &str = "198.51.100.1:80";

fn host(number: u8, l4_port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([10, 0, 0, number].into(), l4_port)
}

/// The low bits of a CRC32C, by which a table might be indexed without a secret.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn s_13_flows_that_collide_under_a_crc_find_room_in_a_table_that_is_half_full() {
    let mut net = Net::with("", |config| config.icmp.refusal = algate_config::IcmpRefusal::None);
    let tuple = |n: u32| (host(2 + (n % 8) as u8, (1_024 + n / 8 % 60_000) as u16), (n / 480_000) as u8 + 1);
    let colliding = (0_u32..).map(tuple).filter(|(from, to)| {
        let mut key = from.ip().octets().to_vec();
        key.extend([198, 51, 100, *to]);
        key.extend(from.port().to_be_bytes());
        key.extend([0, 53, 17]);
        crc32c(&key) & 0x1ff == 0
    });
    // In one bucket of 512 by that hash: a table that went by it would hold sixteen of them.
    for (from, to) in colliding.take(1_500) {
        let to = SocketAddrV4::new([198, 51, 100, to].into(), 53);
        net.one(INSIDE, &udp_between(from, to, b""));
    }
    assert_eq!((net.sessions().len(), net.drops()), (1_500, vec![]));
}

/// One flood, `packets` of it: where it comes in, and its packet number `n`.
type Flood = (&'static str, u16, fn(u32) -> Vec<u8>);

const FLOODS: [Flood; 4] = [
    ("SYNs of one host", INSIDE, |n| {
        tcp_between(
            host(66, (n % 60_000) as u16),
            SocketAddrV4::new((0xc633_6400 + n % 256).into(), 80),
            SYN,
            b"",
        )
    }),
    ("UDP of one host to random ports", INSIDE, |n| {
        let to = SocketAddrV4::new([198, 51, 100, 7].into(), (n.wrapping_mul(40_503) >> 3) as u16 | 1);
        udp_between(host(66, (n % 50_000) as u16 + 1), to, b"")
    }),
    ("SYNs from outside to the pool", OUTSIDE, |n| {
        let from = SocketAddrV4::new((0xc633_6400 + n % 250).into(), (n % 60_000) as u16 + 1);
        tcp_between(from, SocketAddrV4::new([203, 0, 113, 10].into(), (n * 7 % 65_536) as u16), SYN, b"")
    }),
    ("UDP from strangers to one mapped endpoint", OUTSIDE, |n| {
        let from = SocketAddrV4::new((0xc633_6400 + n % 250).into(), (n % 60_000) as u16 + 1);
        udp_between(from, SocketAddrV4::new([203, 0, 113, 10].into(), (n * 11 % 65_536) as u16), b"")
    }),
];

#[test]
fn s_14_s_21_floods_lose_no_established_flow_and_others_still_open_new_ones() {
    for (name, nic_port, packet) in FLOODS {
        let mut net = Net::with("[nat.limits]\nsessions = 400\n", |config| {
            config.tables.half_open = 1_024;
            config.icmp.refusal = algate_config::IcmpRefusal::None;
        });
        let established: Vec<_> = (0..100_u16)
            .map(|n| {
                let client = host(2 + (n % 10) as u8, 4_000 + n);
                let external = net.one(INSIDE, &tcp_between(client, at(SERVER), SYN, b"")).source;
                net.one(OUTSIDE, &tcp_between(at(SERVER), external, SYN | ACK, b""));
                net.one(INSIDE, &tcp_between(client, at(SERVER), ACK, b""));
                (client, external)
            })
            .collect();
        net.burst = 32;
        let mut opened = 0;
        for round in 0..200_u32 {
            let flood: Vec<_> = (0..100).map(|n| packet(round * 100 + n)).collect();
            net.send_all(nic_port, &flood);
            for (client, external) in established.iter().skip(round as usize % 10).step_by(10) {
                let back = net.one(OUTSIDE, &tcp_between(at(SERVER), *external, ACK, b"on"));
                assert_eq!(back.destination, *client, "{name}");
                let on = net.one(INSIDE, &tcp_between(*client, at(SERVER), ACK, b"on"));
                assert_eq!(on.source, *external, "{name}");
            }
            // A well-behaved host opens a flow, by TCP and by UDP in turn.
            let (client, server) =
                (host(20 + (round % 10) as u8, 7_000 + round as u16), at("198.51.100.5:443"));
            let first = if round % 2 == 0 {
                tcp_between(client, server, SYN, b"")
            } else {
                udp_between(client, server, b"")
            };
            opened += net.send(INSIDE, &first).iter().filter(|seen| seen.nic_port == OUTSIDE).count();
            net.now = net.now.plus(Duration::from_millis(10));
            net.poll();
            assert!(net.engine.nat.sessions.in_use() <= 100 + 200 + 400, "{name}: {:?}", net.drops());
        }
        assert!(opened >= 198, "{name}: {opened} of 200, {:?}", net.drops());
    }
}

/// RFC 6269 section 13: one of 64 hosts behind an address takes what it can get.
#[test]
fn c_20_one_abusive_host_of_64_costs_those_who_share_its_address_nothing() {
    let mut net = Net::with("[nat.limits]\nports = 300\n", |config| {
        let pool = &mut config.nat.pools[0];
        (pool.ranges[0].1, pool.l4_ports) = (pool.ranges[0].0, (10_000, 11_999));
        config.icmp.refusal = algate_config::IcmpRefusal::None;
    });
    let open = |net: &mut Net, number: u8, l4_port: u16| {
        net.send(INSIDE, &udp_between(host(number, l4_port), at("198.51.100.1:53"), b"")).len()
    };
    let taken: usize = (0..3_000).map(|n| open(&mut net, 2, 1_024 + n)).sum();
    assert_eq!((taken, net.dropped(DropReason::QuotaPorts)), (300, 2_700));
    for number in 3..66 {
        let opened: usize = (0..20).map(|n| open(&mut net, number, 5_000 + n)).sum();
        assert_eq!(opened, 20, "host {number}: {:?}", net.drops());
    }
}

#[test]
fn s_15_ageing_keeps_up_with_a_steady_stream_of_new_sessions() {
    const PER_SECOND: usize = 60;
    let mut net = Net::with("[timeouts]\nudp = \"2m\"\n", |config| {
        (config.tables.sessions, config.tables.mappings) = (8_192, 8_192);
        config.nat.hold.time = Duration::ZERO;
    });
    net.burst = 32;
    for second in 0..400_usize {
        let frames: Vec<_> = (0..PER_SECOND)
            .map(|n| {
                let flow = second * PER_SECOND + n;
                udp_between(host(2 + (n % 20) as u8, (1_024 + flow / 20) as u16), at("198.51.100.1:53"), b"")
            })
            .collect();
        net.send_all(INSIDE, &frames);
        net.advance(Duration::from_secs(1));
        // Each lives two minutes and is gone within the second after them.
        let begun = second + 1;
        let live = net.sessions().len();
        let (least, most) = (begun.min(120) * PER_SECOND, begun.min(121) * PER_SECOND);
        assert!((least..=most).contains(&live), "second {second}: {live}");
    }
    assert_eq!(net.drops(), []);
    net.advance(Duration::from_secs(121));
    assert_eq!((net.sessions().len(), net.engine.nat.sessions.in_use()), (0, 0));
}

/// An internal client that announces for ever: each is answered, none is used.
#[test]
fn s_16_a_flood_of_announcements_keeps_within_the_session_s_budget() {
    let mut net = Net::with("[alg.ftp]\nenabled = true\n", |_| {});
    let external = greeted(&mut net);
    let (client, server) = (at("10.0.0.2:4000"), at("198.51.100.1:21"));
    let (mut sent, mut answered) = (1_001 + 22, 1_013);
    let mut passed = 1_001 + port_command(&mut net).payload.len() as u32;
    for round in 0..3_000_u32 {
        let ok = numbered(server, external, (answered, passed), b"200 OK.\r\n");
        answered += 9;
        net.send(OUTSIDE, &ok);
        let command = format!("PORT 10,0,0,2,{},{}\r\n", 32 + round / 256, round % 256);
        let seen = net.send(INSIDE, &numbered(client, server, (sent, answered), command.as_bytes()));
        sent += command.len() as u32;
        let line: &Seen = seen.iter().find(|seen| seen.payload.starts_with(b"PORT")).expect("it goes on");
        passed += line.payload.len() as u32;
        // The one that was just announced, and the one before it until its end has been seen.
        assert!(net.engine.expectation_rows(net.now, usize::MAX).len() <= 2, "round {round}");
        assert!(net.mappings().len() <= 4, "round {round}");
        net.now = net.now.plus(Duration::from_millis(1));
    }
    assert!(!net.engine.expectation_rows(net.now, usize::MAX).is_empty(), "the last one still holds");
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
}

/// One worker has four fifths of the load and is late; the other one does not wait for it.
#[test]
fn s_29_a_worker_under_load_does_not_hold_up_the_others() {
    let mut net = Net::with("", |config| config.workers.cores = vec![1, 2]);
    let flow = |n: u16| (host(2 + (n % 20) as u8, 4_000 + n), at(SERVER));
    let externals: Vec<_> = (0..50)
        .map(|n| {
            let (client, server) = flow(n);
            let external = net.one(INSIDE, &tcp_between(client, server, SYN, b"")).source;
            net.one(OUTSIDE, &tcp_between(server, external, SYN | ACK, b""));
            external
        })
        .collect();
    // From here on the first worker takes no turn: its load lies in its queue.
    for round in 0..200_u16 {
        net.now = net.now.plus(Duration::from_millis(20));
        let mut burst: Vec<_> = externals
            .iter()
            .map(|external| VecFrame::from_bytes(&tcp_between(at(SERVER), *external, ACK, b"x")))
            .collect();
        net.workers[1].receive(&mut net.io, net.now, NicPortId(OUTSIDE), &mut burst);
        let (client, server) = flow(50 + round);
        let mut fresh = vec![VecFrame::from_bytes(&tcp_between(client, server, SYN, b""))];
        net.workers[1].receive(&mut net.io, net.now, NicPortId(INSIDE), &mut fresh);
        let sent = net.io.take();
        // Each in the very turn in which it came, a first packet, too.
        assert_eq!(sent.len(), externals.len() + 1, "round {round}");
        net.transmitted += sent.len() as u64;
        net.workers[1].poll(&mut net.io, net.now);
    }
    assert_eq!(net.dropped(DropReason::HandoverQueueFull), 0);
    assert_eq!(net.sessions().len(), 250);
    assert_eq!(net.one(OUTSIDE, &tcp_between(at(SERVER), externals[0], ACK, b"x")).tcp_flags, ACK);
    assert_eq!(net.one(INSIDE, &tcp("10.0.0.2:4000", SERVER, ACK)).source, externals[0]);
}
