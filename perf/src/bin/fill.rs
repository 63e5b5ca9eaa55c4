//! `fill`: how much memory sessions take, and how fast they are made and ended.
//!
//! `fill [SESSIONS...]` builds an engine for as many sessions (1,048,576 and 4,194,304 when none is named), opens
//! them all, each with a mapping of its own (the worst case: 64 flows of a host, no two from one
//! endpoint), lets their time run out, and prints bytes per session, sessions made per second and sessions ended per second.
//!
//! Memory is what the process grew by until all were open, so every table, bitmap and list of the engine is in it. The
//! first table says what the parts of a session take by their sizes. The lines of a size: UDP with ports one by one; UDP with
//! port blocks and event records; the same with TCP, whose sessions have windows (`tables.tcp_sessions`).

use std::time::{Duration, Instant};

use algate::huge_pages::HugePages;
use algate_engine::nat::{mapping, session};
use algate_perf::rig::{INTERNAL, Rig, Site};

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() {
    let named: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if named.is_empty() { DEFAULT_SIZES.to_vec() } else { named };
    for (table, parts) in [("session", session::PARTS.as_slice()), ("mapping", mapping::PARTS.as_slice())] {
        let parts: Vec<_> = parts.iter().map(|(part, bytes)| format!("{part} {bytes}")).collect();
        println!("{table}, bytes: {}", parts.join(", "));
    }
    println!(
        "{:>10} {:<20} {:>14} {:>12} {:>10} {:>12}",
        "sessions", "ports", "bytes/session", "made/s", "median-ns", "ended/s"
    );
    for sessions in sizes {
        for (site, name) in SITES {
            let filled = fill(sessions, site);
            println!(
                "{sessions:>10} {name:<20} {:>14.1} {:>12.0} {:>10.0} {:>12.0}",
                filled.bytes as f64 / f64::from(sessions),
                f64::from(sessions) / filled.time.as_secs_f64(),
                filled.median_nanos,
                f64::from(sessions) / filled.ending.as_secs_f64(),
            );
        }
    }
}

struct Filled {
    bytes: u64,
    time: Duration,
    median_nanos: f64,
    ending: Duration,
}

fn fill(sessions: u32, site: Site) -> Filled {
    let before = resident_bytes();
    let mut rig = Rig::at(site, sessions as usize);
    let (mut next, mut records) = (0, Vec::with_capacity(RECORDS));
    let mut bursts: Vec<Duration> = Vec::with_capacity(sessions as usize / BURST as usize + 1);
    let own = bursts.capacity() * size_of::<Duration>();
    while next < sessions {
        let end = sessions.min(next + BURST);
        let frames: Vec<_> = (next..end)
            .map(|flow| match site {
                Site::TcpPortBlocks => rig.outbound_syn(flow),
                Site::SinglePorts | Site::PortBlocks => rig.outbound(flow),
            })
            .collect();
        let start = Instant::now();
        rig.receive(INTERNAL, frames);
        rig.poll();
        bursts.push(start.elapsed());
        rig.io.recycle();
        rig.engine.events.drain(&mut records);
        records.clear();
        next = end;
    }
    let made = rig.engine.nat.sessions.in_use();
    assert_eq!(made, sessions, "not all sessions were made");
    let bytes = resident_bytes().saturating_sub(before + own as u64);
    bursts.sort_unstable();
    let median = bursts.get(bursts.len() / 2).copied().unwrap_or_default();
    Filled {
        bytes,
        time: bursts.iter().sum(),
        median_nanos: median.as_nanos() as f64 / f64::from(BURST),
        ending: end_all(&mut rig),
    }
}

/// The worker's time until every session has ended, all of them being idle for too long.
fn end_all(rig: &mut Rig) -> Duration {
    let (mut spent, mut records) = (Duration::ZERO, Vec::with_capacity(RECORDS));
    rig.pass(LONGER_THAN_ANY_IDLE_TIME);
    while rig.engine.nat.sessions.in_use() > 0 {
        rig.pass(TURN);
        let start = Instant::now();
        rig.poll();
        spent += start.elapsed();
        rig.engine.events.drain(&mut records);
        records.clear();
    }
    spent
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

const DEFAULT_SIZES: [u32; 2] = [1 << 20, 1 << 22];
const SITES: [(Site, &str); 3] = [
    (Site::SinglePorts, "UDP, single"),
    (Site::PortBlocks, "UDP, blocks, events"),
    (Site::TcpPortBlocks, "TCP, blocks, events"),
];
const BURST: u32 = 32;
const RECORDS: usize = 1 << 16;
const LONGER_THAN_ANY_IDLE_TIME: Duration = Duration::from_secs(3 * 3_600);
const TURN: Duration = Duration::from_millis(1);
