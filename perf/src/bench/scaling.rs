//! Two workers on one table, in process: what two threads of the engine carry together, by what one carries.
//!
//! Each thread has its own worker, frames and packets, as in the program; the engine, and so every table, is
//! shared. No NIC and no generator: packets are copied from prepared ones between measured chunks. The rate is that
//! of the median chunk, so a thread that loses its core for a while does not count against it.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use algate_engine::frame::Frame;
use algate_engine::ids::WorkerId;
use core_affinity::CoreId;
use serde::Serialize;

use crate::clock::ticks;
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
}

impl Scaling {
    /// How many times as much.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.two / self.one
    }
}

/// Measures hits among `flows` flows for `duration` with one worker, on the first core, and as long with two.
#[must_use]
pub fn measure(
    flows: u32,
    share: Share,
    [own_core, other_core]: [CoreId; 2],
    duration: Duration,
    ticks_per_nano: f64,
) -> Scaling {
    let mut first = Rig::with_workers(Site::SinglePorts, flows as usize, 2);
    first.open(flows);
    let mut second = first.beside(WorkerId(1));
    let rate = |cycles: f64| if cycles > 0.0 { ticks_per_nano * 1e3 / cycles } else { 0.0 };
    let mine = |number| match share {
        Share::Own => (number, 2),
        Share::Any => (0, 1),
    };
    core_affinity::set_for_current(own_core);
    let one = run(&mut first, flows, mine(0), duration, &Barrier::new(1));
    let barrier = Arc::new(Barrier::new(2));
    let (left, right) = std::thread::scope(|scope| {
        let other = {
            let barrier = Arc::clone(&barrier);
            scope.spawn(move || {
                core_affinity::set_for_current(other_core);
                run(&mut second, flows, mine(1), duration, &barrier)
            })
        };
        core_affinity::set_for_current(own_core);
        let own = run(&mut first, flows, mine(0), duration, &barrier);
        (own, other.join().unwrap_or(0.0))
    });
    Scaling { one: rate(one), two: rate(left) + rate(right) }
}

/// Ticks per packet of the median chunk. Of every `step` flows the worker sees number `first`.
fn run(rig: &mut Rig, flows: u32, (first, step): (u32, u32), duration: Duration, barrier: &Barrier) -> f64 {
    let mut random = Random::default();
    let flow = |random: &mut Random| random.below(flows / step) * step + first;
    let templates: Vec<PoolFrame> = (0..TEMPLATES).map(|_| rig.outbound(flow(&mut random))).collect();
    let mut ready: Vec<PoolFrame> = Vec::with_capacity(CHUNK);
    let mut samples = Samples::default();
    barrier.wait();
    let start = Instant::now();
    while start.elapsed() < duration {
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
        samples.push(ticks() - begin, rig.io.sent.len() as u64);
    }
    rig.io.recycle();
    samples.quantile(0.5)
}

/// Prepared packets of each worker: 8 MB of frames, so many flows are hit and the preparation stays short.
const TEMPLATES: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_carry_packets_of_one_table() {
        for share in [Share::Own, Share::Any] {
            let scaling = measure(1000, share, [CoreId { id: 0 }; 2], Duration::from_millis(50), 1.0);
            assert!(scaling.one > 0.0 && scaling.two > 0.0, "{scaling:?}");
        }
    }
}
