//! The ALG stage at its limits: what does not fit is dropped and counted, and nothing else notices.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, SYN, at, tcp, tcp_between, udp};
use crate::common::{INSIDE, Net};

const FTP: &str = "[alg.ftp]\nenabled = true\n";

#[test]
fn a_full_stage_drops_new_control_sessions_and_nothing_else() {
    let mut net = Net::with(FTP, |config| config.tables.alg_flows = 2);
    for l4_port in 4000..4002 {
        let control = net.one(INSIDE, &tcp(&format!("10.0.0.2:{l4_port}"), "198.51.100.1:21", SYN));
        assert_eq!(control.tcp_flags, SYN);
    }
    let third = tcp("10.0.0.2:4002", "198.51.100.1:21", SYN);
    net.refused(INSIDE, &third, DropReason::AlgStageFull);
    net.one(INSIDE, &tcp("10.0.0.2:4003", "198.51.100.1:80", SYN));
    assert_eq!(net.workers[0].alg_flows(), 2);
    // The half-open ones end, and their places are free for the client that tries again.
    net.advance(Duration::from_secs(243));
    assert_eq!(net.workers[0].alg_flows(), 0);
    net.one(INSIDE, &third);
    assert_eq!(net.workers[0].alg_flows(), 1);
}

#[test]
fn a_full_queue_to_an_alg_core_drops_segments_and_nothing_else() {
    let mut net = Net::with(FTP, |config| {
        config.workers.alg_cores = vec![2];
        config.workers.handover_packets = 4;
    });
    net.burst = 64;
    let control = tcp("10.0.0.2:4000", "198.51.100.1:21", SYN);
    let mut frames = vec![control; 6];
    frames.push(udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    // The core takes no turn before the burst is through.
    let seen = net.send_all(INSIDE, &frames);
    assert_eq!(net.dropped(DropReason::HandoverQueueFull), 2);
    assert_eq!(net.total(|counters| &counters.handed_over), 4);
    assert!(seen.iter().any(|seen| seen.protocol == 17), "{seen:?}");
    assert!(seen.iter().filter(|seen| seen.tcp_flags == SYN).count() >= 1, "{seen:?}");
    assert_eq!((net.workers[0].alg_flows(), net.workers[1].alg_flows()), (0, 1));
}

#[test]
fn a_segment_with_a_wrong_checksum_is_never_read() {
    let mut net = Net::with(FTP, |_| {});
    let client = at("10.0.0.2:4000");
    let server = at("198.51.100.1:21");
    net.one(INSIDE, &tcp_between(client, server, SYN, b""));
    let mut damaged = tcp_between(client, server, ACK, b"PORT 10,0,0,2,15,161\r\n");
    let end = damaged.len();
    damaged[end - 5] ^= 1;
    net.verifies = false;
    let out = net.one(INSIDE, &damaged);
    assert_ne!(out.l4_sum(), 0xffff, "its receiver finds the damage");
    assert_eq!(net.engine.expectation_rows(net.now, 9).len(), 0);
}

#[test]
fn an_empty_mempool_loses_segments_of_the_stage_and_nothing_is_left_behind() {
    let mut net = Net::with(FTP, |_| {});
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.io.mempool_frames = Some(0);
    assert_eq!(net.send(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:21", SYN)), []);
    net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.io.mempool_frames = None;
    net.one(INSIDE, &tcp("10.0.0.2:4000", "198.51.100.1:21", SYN));
}
