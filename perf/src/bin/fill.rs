//! `fill`: how much memory sessions take, and how fast they are made.
//!
//! `fill [SESSIONS...]` builds an engine for as many sessions (1,048,576 and 4,194,304 when none is named), opens
//! them all, each with a mapping of its own (the worst case: 64 flows of a host, no two from one
//! endpoint), and prints bytes per session and sessions per second. Memory is what the process grew by, so every
//! table, bitmap and list of the engine is in it; all of them are taken at start. The second line of each size has port
//! blocks and event records on.

use std::time::{Duration, Instant};

use algate::huge_pages::HugePages;
use algate_perf::rig::{INTERNAL, Rig, Site};

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() {
    let named: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if named.is_empty() { DEFAULT_SIZES.to_vec() } else { named };
    println!(
        "{:>10} {:<16} {:>14} {:>14} {:>12}",
        "sessions", "ports", "bytes/session", "sessions/s", "median ns"
    );
    for sessions in sizes {
        for (site, name) in [(Site::SinglePorts, "single"), (Site::PortBlocks, "blocks, events")] {
            let filled = fill(sessions, site);
            println!(
                "{sessions:>10} {name:<16} {:>14.1} {:>14.0} {:>12.0}",
                filled.bytes as f64 / f64::from(sessions),
                f64::from(sessions) / filled.time.as_secs_f64(),
                filled.median_nanos,
            );
        }
    }
}

struct Filled {
    bytes: u64,
    time: Duration,
    median_nanos: f64,
}

fn fill(sessions: u32, site: Site) -> Filled {
    let before = resident_bytes();
    let mut rig = Rig::at(site, sessions as usize);
    let (mut next, mut records) = (0, Vec::with_capacity(RECORDS));
    let mut bursts: Vec<Duration> = Vec::with_capacity(sessions as usize / BURST as usize + 1);
    let own = bursts.capacity() * size_of::<Duration>();
    while next < sessions {
        let end = sessions.min(next + BURST);
        let frames: Vec<_> = (next..end).map(|flow| rig.outbound(flow)).collect();
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
    bursts.sort_unstable();
    let median = bursts.get(bursts.len() / 2).copied().unwrap_or_default();
    Filled {
        bytes: resident_bytes().saturating_sub(before + own as u64),
        time: bursts.iter().sum(),
        median_nanos: median.as_nanos() as f64 / f64::from(BURST),
    }
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

const DEFAULT_SIZES: [u32; 2] = [1 << 20, 1 << 22];
const BURST: u32 = 32;
const RECORDS: usize = 1 << 16;
