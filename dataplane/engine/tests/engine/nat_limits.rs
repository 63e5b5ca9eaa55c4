//! Full tables and pools: what is new is refused and counted, what lives is not touched (RFC 6888 REQ-11).

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{at, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

#[test]
fn c_09_s_21_a_full_session_table_refuses_the_new_and_keeps_the_old() {
    let mut net = Net::with("", |config| config.tables.sessions = 8);
    fills_up(&mut net, 8, DropReason::SessionTableFull);
}

#[test]
fn c_09_s_21_a_full_mapping_table_refuses_the_new_and_keeps_the_old() {
    let mut net = Net::with("", |config| config.tables.mappings = 8);
    fills_up(&mut net, 8, DropReason::MappingTableFull);
}

#[test]
fn c_09_s_21_a_full_pool_refuses_the_new_and_keeps_the_old() {
    let mut net = Net::with("", |config| {
        config.nat.pools[0].l4_ports = (3000, 3007);
        config.nat.pools[0].ranges[0].1 = config.nat.pools[0].ranges[0].0;
    });
    fills_up(&mut net, 8, DropReason::PoolExhausted);
}

#[test]
fn a_freed_place_is_used_again_for_as_long_as_you_like() {
    let mut net = Net::with("", |config| config.tables.sessions = 8);
    for round in 0..20_u16 {
        for port in 0..8 {
            let source = format!("10.0.0.2:{}", 5000 + round * 8 + port);
            net.one(INSIDE, &udp(&source, "198.51.100.1:1", b""));
        }
        net.advance(Duration::from_secs(301));
    }
}

/// Fills a table of `room`, then asks for more.
fn fills_up(net: &mut Net, room: u16, reason: DropReason) {
    let outs: Vec<_> = (0..room)
        .map(|port| net.one(INSIDE, &udp(&format!("10.0.0.2:{}", 5000 + port), "198.51.100.1:1", b"")))
        .collect();
    let mut told = 0;
    for port in 0..300_u64 {
        let seen = net.send(INSIDE, &udp(&format!("10.0.0.3:{}", 5000 + port), "198.51.100.1:1", b""));
        assert!(seen.iter().all(|error| error.icmp == Some((3, 1))), "{seen:?}");
        assert_eq!(net.dropped(reason), port + 1);
        told += seen.len();
    }
    // Within one second, as many as algate may tell in one.
    assert_eq!(told, 100);
    assert_eq!(net.sessions().len(), usize::from(room));
    for (out, port) in outs.iter().zip(5000..) {
        let seen = net.one(OUTSIDE, &udp_between(at("198.51.100.1:1"), out.source, b""));
        assert_eq!(seen.destination, at(&format!("10.0.0.2:{port}")));
        assert_eq!(
            net.one(INSIDE, &udp(&format!("10.0.0.2:{port}"), "198.51.100.1:1", b"")).source,
            out.source
        );
    }
}
