//! Several workers over one engine: a flow's two directions on different workers, first packets at the same moment.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use algate_engine::alg_stage::handover::Handover;
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use algate_engine::time::Instant;
use algate_engine::worker::Worker;

use crate::common::packets::{ACK, FIN, SYN, Seen, at, tcp_between, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::tenants::{BLUE, RED, TENANTS, on};

fn two_workers() -> Net {
    Net::with("", |config| config.workers.cores = vec![1, 2])
}

#[test]
fn each_direction_may_be_received_by_another_worker() {
    let mut net = two_workers();
    let (client, server) = (at("10.0.0.2:4000"), at("198.51.100.1:80"));
    let mut external = client;
    for (flags, answer) in [(SYN, SYN | ACK), (ACK, ACK), (FIN | ACK, FIN | ACK)] {
        net.receiver = 0;
        let out = net.one(INSIDE, &tcp_between(client, server, flags, b""));
        assert!(external == client || external == out.source);
        external = out.source;
        net.receiver = 1;
        let back = net.one(OUTSIDE, &tcp_between(server, external, answer, b""));
        assert_eq!(back.destination, client);
    }
    assert_eq!(net.sessions().iter().map(|row| row.state).collect::<Vec<_>>(), ["fin_both"]);
}

#[test]
fn u_12_a_mapping_is_the_same_on_every_worker() {
    let mut net = two_workers();
    let mut seen = HashSet::new();
    for (remote, worker) in (1..100).zip([0, 1, 1, 0, 1].into_iter().cycle()) {
        net.receiver = worker;
        let remote = format!("198.51.100.{remote}:53");
        seen.insert(net.one(INSIDE, &udp("10.0.0.2:5000", &remote, b"")).source);
    }
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_slot_is_not_used_again_while_another_worker_may_hold_it() {
    let mut net = two_workers();
    let out = net.one(INSIDE, &udp("10.0.0.2:5000", "198.51.100.1:53", b""));
    net.advance(Duration::from_secs(299));
    net.now = net.now.plus(Duration::from_secs(5));
    // Only the second worker takes turns: it ends its half of the table and cannot give it back.
    let engine = Arc::clone(&net.engine);
    for _ in 0..10 {
        net.now = net.now.plus(Duration::from_millis(600));
        net.workers[0].poll(&mut net.io, net.now);
    }
    assert_eq!(engine.session_rows(net.now, 9).len(), 0);
    assert_eq!((engine.nat.sessions.in_use(), engine.nat.ports.taken()), (1, 1));
    // A worker that sleeps holds nobody up.
    net.workers[1].pause();
    for _ in 0..3 {
        net.workers[0].poll(&mut net.io, net.now);
    }
    assert_eq!((engine.nat.sessions.in_use(), engine.nat.ports.taken()), (0, 0));
    net.workers[1].resume();
    assert_ne!(out.source.port(), 0);
}

#[test]
fn threads_that_race_for_the_same_flows_agree_on_every_translation() {
    race("", |flow| (INSIDE, 5000 + flow));
}

#[test]
fn s_25_threads_that_race_for_equal_flows_of_two_tenants_keep_them_apart() {
    race(TENANTS, |flow| (if flow % 2 == 0 { RED } else { BLUE }, 5000 + flow / 2));
}

/// Two threads send the same flows and their answers, as fast as they can, over tables that are always nearly full.
/// `ends`: wire and port of a flow's host.
fn race(toml: &str, ends: impl Fn(u16) -> (u16, u16) + Sync) {
    const FLOWS: u16 = 64;
    const ROUNDS: u64 = 60;
    let mut net = Net::with(toml, |config| {
        config.workers.cores = vec![1, 2];
        // The threads end before the ports they watch over would have rested.
        config.nat.hold.time = Duration::ZERO;
        config.tables.sessions = 96;
        config.tables.mappings = 96;
        config.timeouts.arp = Duration::from_secs(30 * 86_400);
    });
    // Everyone's MAC address is known before the race.
    let wires: HashSet<u16> = (0..FLOWS).map(|flow| ends(flow).0).collect();
    for wire in wires {
        let out = net.one(wire, &on(wire, udp("10.0.0.2:1", "198.51.100.1:1", b"")));
        assert_eq!(net.one(OUTSIDE, &udp_between(at("198.51.100.1:1"), out.source, b"")).nic_port, wire);
    }

    let engine = Arc::clone(&net.engine);
    net.workers.clear();
    let handover = Arc::new(Handover::new(2, 64));
    let clock = AtomicU64::new(net.now.as_nanos());
    let gone = std::sync::Barrier::new(2);
    let run = |id: u16| {
        let mut worker = Worker::new(
            Arc::clone(&engine),
            Arc::clone(&handover),
            WorkerId(id),
            Instant::from_nanos(clock.load(Ordering::Relaxed)),
        )
        .unwrap();
        let mut io = VecIo::default();
        let (mut pairs, mut answers) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let now = Instant::from_nanos(clock.load(Ordering::Relaxed));
            for flow in 0..FLOWS {
                // The same flow at the same moment, from both ends of the list in turn.
                let flow = if (round + u64::from(id)) % 2 == 0 { flow } else { FLOWS - 1 - flow };
                let (wire, l4_port) = ends(flow);
                let frame = on(wire, udp(&format!("10.0.0.2:{l4_port}"), "198.51.100.1:53", b""));
                let mut burst = vec![VecFrame::from_bytes(&frame)];
                worker.receive(&mut io, now, NicPortId(wire), &mut burst);
                for (nic_port, frame) in io.take() {
                    let bytes = frame.bytes();
                    if nic_port.0 == OUTSIDE && bytes[12..14] == [8, 0] {
                        let seen = Seen::new(OUTSIDE, &bytes);
                        pairs.push((round, flow, seen.source));
                        let back = udp_between(at("198.51.100.1:53"), seen.source, b"");
                        let mut burst = vec![VecFrame::from_bytes(&back)];
                        worker.receive(&mut io, now, NicPortId(OUTSIDE), &mut burst);
                        let back = io.take().pop().map(|(wire, frame)| Seen::new(wire.0, &frame.bytes()));
                        answers.push((flow, back.map(|back| (back.nic_port, back.destination))));
                    }
                }
                worker.poll(&mut io, now);
            }
            gone.wait();
            // All sessions of this round end, and their slots are used again in the next.
            if id == 0 {
                clock.fetch_add(302_000_000_000, Ordering::Relaxed);
            }
            gone.wait();
            for _ in 0..4 {
                let now = Instant::from_nanos(clock.load(Ordering::Relaxed));
                worker.poll(&mut io, now.plus(Duration::from_secs(1)));
                gone.wait();
            }
        }
        for _ in 0..4 {
            worker.poll(&mut io, Instant::from_nanos(clock.load(Ordering::Relaxed)));
            gone.wait();
        }
        (pairs, answers)
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| run(1));
        (run(0), second.join().unwrap())
    });
    // Judged here, for a thread that fails would leave the other one waiting for ever.
    for (flow, back) in first.1.iter().chain(&second.1) {
        let (wire, l4_port) = ends(*flow);
        assert_eq!(*back, Some((wire, at(&format!("10.0.0.2:{l4_port}")))), "the answer comes back in");
    }
    // What went out and what came back.
    net.transmitted += 2 * (first.0.len() + second.0.len()) as u64;
    let mut by_flow = std::collections::HashMap::new();
    for (round, flow, external) in first.0.into_iter().chain(second.0) {
        assert_eq!(*by_flow.entry((round, flow)).or_insert(external), external, "flow {flow}");
    }
    assert_eq!(by_flow.len(), usize::from(FLOWS) * ROUNDS as usize);
    for round in 0..ROUNDS {
        let externals: HashSet<_> =
            by_flow.iter().filter(|((of, _), _)| *of == round).map(|(_, external)| external).collect();
        assert_eq!(externals.len(), usize::from(FLOWS), "round {round}");
    }
    assert_eq!((engine.nat.sessions.in_use(), engine.nat.ports.taken()), (0, 0));
}
