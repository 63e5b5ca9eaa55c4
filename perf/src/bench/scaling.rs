//! Two workers on one table, in process: what two threads of the engine carry together, by what one carries.
//!
//! Each thread has its own worker, frames and packets, as in the program; the engine, and so every table, is
//! shared. No NIC and no generator: packets are copied from prepared ones between measured chunks. The rate is that
//! of the median chunk, so a thread that loses its core for a while does not count against it. Each thread reads its core
//! every ten milliseconds ([`Reading`]); where there are enough chunks with a whole one, only they count.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use algate_engine::frame::Frame;
use algate_engine::ids::WorkerId;
use core_affinity::CoreId;
use serde::Serialize;

use crate::clock::ticks;
use crate::core_watch::Reading;
use crate::frames::PoolFrame;
use crate::items::{BURST, CHUNK, Random};
use crate::rig::{INTERNAL, Rig, Site};
use crate::sample::Samples;

/// Whose flows a worker sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Share {
    /// Its own half, as RSS gives each flow to one worker.
    Own,
    /// All of them, as if RSS had no idea: both write the same sessions.
    Any,
}

/// Rates of one and of two workers, million packets per second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Scaling {
    /// One alone.
    pub one: f64,
    /// Two at a time, together.
    pub two: f64,
    /// Whether each had a whole core for long enough.
    pub is_whole: bool,
}

impl Scaling {
    /// How many times as much.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.two / self.one
    }
}

/// Measures hits among `flows` flows with one worker, on the first core, and with two, each for `duration`, or up to three times as
/// long where a core is whole only now and then.
#[must_use]
pub fn measure(
    flows: u32,
    share: Share,
    cores: [usize; 2],
    duration: Duration,
    ticks_per_nano: f64,
) -> Scaling {
    let [own_core, other_core] = cores.map(|id| CoreId { id });
    let mut first = Rig::with_workers(Site::SinglePorts, flows as usize, 2);
    first.open(flows);
    let mut second = first.beside(WorkerId(1));
    let rate = |chunks: &Chunks| match chunks.cycles() {
        cycles if cycles > 0.0 => ticks_per_nano * 1e3 / cycles,
        _ => 0.0,
    };
    let mine = |number| match share {
        Share::Own => (number, 2),
        Share::Any => (0, 1),
    };
    core_affinity::set_for_current(own_core);
    let one = run(&mut first, flows, mine(0), duration, &Together::of(1));
    let together = Together::of(2);
    let (left, right) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            core_affinity::set_for_current(other_core);
            run(&mut second, flows, mine(1), duration, &together)
        });
        let own = run(&mut first, flows, mine(0), duration, &together);
        (own, other.join().unwrap_or_default())
    });
    Scaling {
        one: rate(&one),
        two: rate(&left) + rate(&right),
        is_whole: [one, left, right].iter().all(Chunks::is_whole),
    }
}

/// Workers that begin together, and go on until each has enough.
#[derive(Debug)]
struct Together {
    start: Barrier,
    /// Workers that have not enough yet.
    wanting: AtomicUsize,
}

impl Together {
    fn of(workers: usize) -> Self {
        Self { start: Barrier::new(workers), wanting: AtomicUsize::new(workers) }
    }
}

/// Ticks per packet of chunks.
#[derive(Debug, Default)]
struct Chunks {
    whole: Samples,
    shared: Samples,
    /// Since the last reading.
    pending: Samples,
    was_whole: bool,
}

impl Chunks {
    /// The chunks since the last reading had a whole core when both say so.
    fn sort(&mut self, reading: Reading) {
        let is_whole = reading.is_whole();
        let chunks = if is_whole && self.was_whole { &mut self.whole } else { &mut self.shared };
        chunks.append(std::mem::take(&mut self.pending));
        self.was_whole = is_whole;
    }

    fn is_whole(&self) -> bool {
        self.whole.count() >= ENOUGH_CHUNKS
    }

    /// The median of those that count.
    fn cycles(&self) -> f64 {
        if self.is_whole() {
            return self.whole.quantile(0.5);
        }
        let mut all = self.whole.clone();
        all.append(self.shared.clone());
        all.quantile(0.5)
    }
}

/// Of every `step` flows the worker sees number `first`.
fn run(
    rig: &mut Rig,
    flows: u32,
    (first, step): (u32, u32),
    duration: Duration,
    together: &Together,
) -> Chunks {
    let mut random = Random::default();
    let flow = |random: &mut Random| random.below(flows / step) * step + first;
    let templates: Vec<PoolFrame> = (0..TEMPLATES).map(|_| rig.outbound(flow(&mut random))).collect();
    let mut ready: Vec<PoolFrame> = Vec::with_capacity(CHUNK);
    let mut chunks = Chunks { was_whole: true, ..Chunks::default() };
    together.start.wait();
    let (start, mut read, mut is_wanting) = (Instant::now(), Instant::now(), true);
    while start.elapsed() < MOST_TIMES * duration && together.wanting.load(Ordering::Relaxed) > 0 {
        rig.io.recycle();
        for _ in 0..CHUNK {
            let mut frame = rig.frame();
            if let Some(template) = templates.get(random.below(TEMPLATES) as usize)
                && frame.resize(template.len())
            {
                frame.head_mut().copy_from_slice(template.head());
            }
            ready.push(frame);
        }
        let begin = ticks();
        while !ready.is_empty() {
            let rest = ready.len().saturating_sub(BURST);
            rig.receive(INTERNAL, ready.drain(rest..));
            rig.poll();
        }
        chunks.pending.push(ticks() - begin, rig.io.sent.len() as u64);
        if read.elapsed() >= READ_EVERY {
            chunks.sort(Reading::take());
            read = Instant::now();
        }
        if is_wanting && start.elapsed() >= duration && chunks.is_whole() {
            is_wanting = false;
            together.wanting.fetch_sub(1, Ordering::Relaxed);
        }
    }
    chunks.sort(Reading::take());
    rig.io.recycle();
    chunks
}

/// Prepared packets of each worker: 8 MB of frames, so many flows are hit and the preparation stays short.
const TEMPLATES: u32 = 16_384;
const READ_EVERY: Duration = Duration::from_millis(10);
const MOST_TIMES: u32 = 3;
/// A quarter of a second of them, with all that is between.
const ENOUGH_CHUNKS: usize = 2500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_carry_packets_of_one_table() {
        for share in [Share::Own, Share::Any] {
            let scaling = measure(1000, share, [0; 2], Duration::from_millis(50), 1.0);
            assert!(scaling.one > 0.0 && scaling.two > 0.0, "{scaling:?}");
        }
    }
}
