//! A hit allocates nothing (design: the fast path), in either direction, for each protocol; nor does a packet that dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use algate_config::{Config, Machine};
use algate_engine::alg_stage::handover::Handover;
use algate_engine::engine::Engine;
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use algate_engine::time::Instant;
use algate_engine::worker::Worker;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's, with the caller's own arguments; the counter is a plain
// thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's own contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SITE: &str = r#"
nic_port = [{ name = "p0", device = { driver = "null" } }, { name = "p1", device = { driver = "null" } }]
interface = [
    { name = "lan", nic_port = "p0", side = "internal", addresses = ["10.0.0.1/24"] },
    { name = "wan", nic_port = "p1", side = "external", addresses = ["203.0.113.2/24"] },
]
[workers]
cores = [1]
[events]
sessions = true
addresses = true
mappings = "always"
ring_records = 64
[tables]
sessions = 1024
alg_flows = 4
[nat]
pool = [{ name = "public", addresses = ["203.0.113.10"] }]
rule = [{ internal = "10.0.0.0/24", pool = "public" }]
"#;

const HOST: [u8; 4] = [10, 0, 0, 2];
const SERVER: [u8; 4] = [203, 0, 113, 50];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

fn arp(port: usize, address: [u8; 4], router: [u8; 4]) -> Vec<u8> {
    let mut frame = MACS[port].to_vec();
    frame.extend([6, 0, 0, 0, 0, address[3], 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 6, 0, 0, 0, 0, address[3]]);
    frame.extend(address);
    frame.extend([0; 6]);
    frame.extend(router);
    frame
}

fn packet(port: usize, from: [u8; 4], to: [u8; 4], kind: &str, ports: (u16, u16)) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2([6, 0, 0, 0, 0, from[3]], MACS[port]).ipv4(from, to, 64);
    let mut frame = Vec::new();
    match kind {
        "udp" => ip.udp(ports.0, ports.1).write(&mut frame, b"payload"),
        "syn" => ip.tcp(ports.0, ports.1, 1, 512).syn().write(&mut frame, b""),
        "tcp" => ip.tcp(ports.0, ports.1, 1, 512).ack(1).write(&mut frame, b"payload"),
        "ping" => ip.icmpv4_echo_request(ports.0, 1).write(&mut frame, b"payload"),
        _ => ip.icmpv4_echo_reply(ports.1, 1).write(&mut frame, b"payload"),
    }
    .unwrap();
    frame
}

/// The three fragments of a UDP datagram, the second one first.
fn fragments(source: [u8; 4], identification: u16) -> Vec<Vec<u8>> {
    let whole = packet(0, HOST, SERVER, "udp", (5000, 53));
    let data = [&whole[34..42], &[0; 40]].concat();
    let fragment = |(start, end): (usize, usize)| {
        let mut header = Ipv4Header::new((end - start) as u16, 64, IpNumber::UDP, source, SERVER).unwrap();
        header.dont_fragment = false;
        header.identification = identification;
        header.more_fragments = end < data.len();
        header.fragment_offset = IpFragOffset::try_new((start / 8) as u16).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut frame = whole[..14].to_vec();
        header.write(&mut frame).unwrap();
        frame.extend(&data[start..end]);
        frame
    };
    [(16, 32), (0, 16), (32, 48)].map(fragment).to_vec()
}

#[test]
fn s_21_neither_a_hit_nor_a_drop_nor_an_idle_turn_allocates() {
    let mut config = Config::parse(SITE, "site.toml", &Machine::unchecked()).unwrap();
    // No ARP request, whose frame this test's own mempool would allocate.
    config.timeouts.arp = Duration::from_secs(30 * 86_400);
    let engine = Arc::new(Engine::new(&config, &MACS, [1; 4]));
    let handover = Arc::new(Handover::new(1, 8));
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut worker = Worker::new(Arc::clone(&engine), handover, WorkerId(0), now).unwrap();
    let mut io = VecIo::default();
    let send = |worker: &mut Worker<VecFrame>, io: &mut VecIo, now, port: usize, frames: &[Vec<u8>]| {
        let mut burst: Vec<_> = frames.iter().map(|frame| VecFrame::from_bytes(frame)).collect();
        io.sent = Vec::with_capacity(frames.len());
        let before = ALLOCATIONS.get();
        worker.receive(io, now, NicPortId(port as u16), &mut burst);
        worker.poll(io, now);
        (ALLOCATIONS.get() - before, io.take())
    };
    send(&mut worker, &mut io, now, 0, &[arp(0, HOST, [10, 0, 0, 1])]);
    send(&mut worker, &mut io, now, 1, &[arp(1, SERVER, [203, 0, 113, 2])]);

    let outbound = [("udp", "udp", (5000, 53)), ("syn", "tcp", (4000, 80)), ("ping", "pong", (7, 0))];
    let first: Vec<_> =
        outbound.iter().map(|(kind, _, ports)| packet(0, HOST, SERVER, kind, *ports)).collect();
    // One by one: flows may overtake each other in a burst.
    let sent: Vec<_> = first
        .iter()
        .flat_map(|frame| send(&mut worker, &mut io, now, 0, std::slice::from_ref(frame)).1)
        .collect();
    assert_eq!(sent.len(), 3);
    let replies: Vec<_> = outbound
        .iter()
        .zip(&sent)
        .map(|((_, reply, (_, server)), (_, frame))| {
            let bytes = frame.bytes();
            let identifier_at = if *reply == "pong" { 38 } else { 34 };
            let external = u16::from_be_bytes([bytes[identifier_at], bytes[identifier_at + 1]]);
            packet(1, SERVER, [203, 0, 113, 10], reply, (*server, external))
        })
        .collect();
    for round in 0..20 {
        now = now.plus(Duration::from_millis(333));
        let hits: Vec<_> = first.iter().cycle().take(60).cloned().collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 0, &hits);
        assert_eq!((allocations, sent.len()), (0, 60), "outbound, round {round}");
        let hits: Vec<_> = replies.iter().cycle().take(60).cloned().collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 1, &hits);
        assert_eq!((allocations, sent.len()), (0, 60), "inbound, round {round}");
        let strays: Vec<_> =
            (0..60).map(|port| packet(1, SERVER, [203, 0, 113, 10], "tcp", (80, port))).collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 1, &strays);
        assert_eq!((allocations, sent.len()), (0, 0), "strays, round {round}");
        let datagrams: Vec<_> = (0..20).flat_map(|datagram| fragments(HOST, round * 20 + datagram)).collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 0, &datagrams);
        assert_eq!((allocations, sent.len()), (0, 60), "fragments, round {round}");
        let firstless: Vec<_> =
            (0..60).map(|datagram| fragments([10, 0, 0, 3], round * 60 + datagram).remove(2)).collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 0, &firstless);
        assert_eq!((allocations, sent.len()), (0, 0), "fragments without a first one, round {round}");
        // First packets, too, live in memory taken at start.
        let fresh: Vec<_> =
            (0..20).map(|port| packet(0, HOST, SERVER, "udp", (6000 + round * 20 + port, 53))).collect();
        let (allocations, sent) = send(&mut worker, &mut io, now, 0, &fresh);
        assert_eq!((allocations, sent.len()), (0, 20), "first packets, round {round}");
    }
    // And their end.
    let before = ALLOCATIONS.get();
    for _ in 0..10 {
        now = now.plus(Duration::from_secs(301));
        worker.poll(&mut io, now);
    }
    assert_eq!((ALLOCATIONS.get() - before, engine.nat.sessions.in_use()), (0, 0));
}

/// Rules, with paths to resolve and a rate, and the audit: all in memory taken at start.
#[test]
fn judging_and_keeping_a_message_allocates_nothing() {
    const RULES: &str = r#"
[alg]
audit_flows = 4
[alg.tftp]
enabled = true
[[alg.rule]]
name = "private"
argument = ["private/*"]
action = "deny"
alarm = true
[[alg.rule]]
name = "flood"
command = ["?RQ"]
action = "drop"
rate_per_second = 1000000
"#;
    let mut config = Config::parse(&format!("{SITE}{RULES}"), "site.toml", &Machine::unchecked()).unwrap();
    config.timeouts.arp = Duration::from_secs(30 * 86_400);
    let engine = Arc::new(Engine::new(&config, &MACS, [1; 4]));
    let now = Instant::from_nanos(1_000_000_000);
    let mut worker =
        Worker::new(Arc::clone(&engine), Arc::new(Handover::new(1, 8)), WorkerId(0), now).unwrap();
    let mut io = VecIo::default();
    let mut send = |port: u16, frame: Vec<u8>| {
        let mut burst = vec![VecFrame::from_bytes(&frame)];
        io.sent = Vec::with_capacity(1);
        let before = ALLOCATIONS.get();
        worker.receive(&mut io, now, NicPortId(port), &mut burst);
        worker.poll(&mut io, now);
        (ALLOCATIONS.get() - before, io.take().len())
    };
    send(0, arp(0, HOST, [10, 0, 0, 1]));
    send(1, arp(1, SERVER, [203, 0, 113, 2]));
    let request = |name: &str| {
        let payload = [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat();
        let mut frame = Vec::new();
        let ip = PacketBuilder::ethernet2([6, 0, 0, 0, 0, 2], MACS[0]).ipv4(HOST, SERVER, 64);
        ip.udp(2070, 69).write(&mut frame, &payload).unwrap();
        frame
    };
    for round in 0..20 {
        assert_eq!(send(0, request("public/./a")), (0, 1), "allowed, round {round}");
        let (allocations, sent) = send(0, request("public/../private/a"));
        // The answer's frame comes from this test's own mempool, which allocates it.
        assert_eq!((allocations <= FRAME_ALLOCATIONS, sent), (true, 1), "{allocations}, round {round}");
    }
    assert_eq!((engine.oversight.hits(0), engine.oversight.hits(1)), (20, 20));
}

/// What one frame of [`VecIo`] takes.
const FRAME_ALLOCATIONS: u64 = 2;
