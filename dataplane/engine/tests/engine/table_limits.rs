//! Tables at their limit, and a thread that stands still: what lives goes on.

use std::time::Duration;

use algate_config::IcmpRefusal;
use algate_engine::drop_reason::DropReason;

use crate::common::packets::{SYN, tcp, udp};
use crate::common::{INSIDE, Net};

const REMOTE: &str = "198.51.100.1:4000";

fn host(number: u32, l4_port: u32) -> String {
    format!("10.0.0.{}:{}", 2 + number % 200, 5000 + l4_port)
}

#[test]
fn s_14_a_full_table_refuses_new_flows_and_forwards_every_live_session() {
    let mut net = Net::with("", |config| {
        config.tables.sessions = 512;
        config.icmp.refusal = IcmpRefusal::None;
    });
    for flow in 0..512 {
        net.one(INSIDE, &udp(&host(flow, flow), REMOTE, b"first"));
    }
    for flow in 512..612 {
        net.refused(INSIDE, &udp(&host(flow, flow), REMOTE, b"late"), DropReason::SessionTableFull);
    }
    for flow in 0..512 {
        net.one(INSIDE, &udp(&host(flow, flow), REMOTE, b"second"));
    }
    assert_eq!((net.sessions().len(), net.total(|c| &c.sessions_created)), (512, 512));
    // Ports and mappings of those refused are free again: the ledger of the harness counts them.
}

#[test]
fn s_14_tcp_sessions_have_a_limit_of_their_own_and_leave_the_rest_alone() {
    let mut net = Net::with("", |config| {
        config.tables.sessions = 64;
        config.tables.tcp_sessions = 24;
        config.tables.related_sessions = 8;
        config.icmp.refusal = IcmpRefusal::None;
    });
    for flow in 0..24 {
        net.one(INSIDE, &tcp(&host(flow, flow), REMOTE, SYN));
    }
    for flow in 24..40 {
        net.refused(INSIDE, &tcp(&host(flow, flow), REMOTE, SYN), DropReason::TcpTableFull);
    }
    for flow in 0..40 {
        net.one(INSIDE, &udp(&host(flow, flow), REMOTE, b""));
    }
    net.refused(INSIDE, &udp(&host(40, 40), REMOTE, b""), DropReason::SessionTableFull);
    assert_eq!(net.sessions().len(), 64);
    net.advance(Duration::from_secs(260));
    // The half-open ones are gone, and with them what was refused for their sake.
    net.one(INSIDE, &tcp(&host(50, 50), REMOTE, SYN));
}

#[test]
fn s_14_hairpin_sessions_have_a_limit_of_their_own() {
    let mut net = Net::with("", |config| {
        config.tables.sessions = 64;
        config.tables.tcp_sessions = 32;
        config.tables.related_sessions = 2;
        config.icmp.refusal = IcmpRefusal::None;
    });
    let callee = net.one(INSIDE, &udp("10.0.0.9:7000", REMOTE, b"")).source.to_string();
    for caller in 0..2 {
        net.one(INSIDE, &udp(&host(caller, caller), &callee, b"hello"));
    }
    net.refused(INSIDE, &udp(&host(2, 2), &callee, b"hello"), DropReason::RelatedTableFull);
    // It gave its mapping back; the way out is open to it.
    net.one(INSIDE, &udp(&host(2, 2), REMOTE, b"out"));
}

/// A worker that stands still holds up the reuse of what others end, and nothing else.
#[test]
fn s_15_a_worker_that_stalls_costs_the_others_no_packet() {
    let mut net = Net::with("", |config| config.workers.cores = vec![1, 2]);
    let stalled = net.workers.pop().unwrap();
    for flow in 0..200 {
        net.one(INSIDE, &udp(&host(flow, 0), REMOTE, b""));
    }
    // Half a second in turns of ten milliseconds, with new flows and old ones in each.
    for turn in 0..50 {
        net.now = net.now.plus(Duration::from_millis(10));
        for flow in 0..8 {
            net.one(INSIDE, &udp(&host(turn * 8 + flow, 1), REMOTE, b"new or known"));
            net.one(INSIDE, &udp(&host(flow, 0), REMOTE, b"known"));
        }
    }
    assert_eq!(net.drops(), []);
    let sessions = net.sessions().len();
    // The other ends its share of the idle sessions in time, but their slots stay taken until the stalled one has passed.
    net.advance(Duration::from_secs(400));
    assert!(net.sessions().len() < sessions);
    assert_eq!(net.engine.nat.sessions.in_use() as usize, sessions);
    net.workers.push(stalled);
    net.receiver = 1;
    net.one(INSIDE, &udp("10.0.0.2:5000", REMOTE, b"what waited in its queue"));
    net.advance(Duration::from_secs(1));
    assert_eq!((net.engine.nat.sessions.in_use(), net.drops()), (1, vec![]));
    net.receiver = 0;
}
