//! The poll loop of one worker or ALG core.
//!
//! A loop reads the clock, takes one burst from each of its queues, lets the engine do what is due,
//! and sends what has gathered: after each wide burst, and at the end of the loop, so that no frame waits longer than that. It takes no lock, allocates nothing and makes no system call, except
//! that an idle loop sleeps when it shares its core (`workers.idle`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use algate_engine::counters::Counter;
use algate_engine::worker::Worker;

use crate::dpdk::clock::Clock;
use crate::dpdk::mbuf::Mbuf;
use crate::edge::Share;

/// How the loop of a thread went. Written by that thread only.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct LoopCounters {
    /// Times round the loop.
    pub polls: Counter,
    /// Times that found something to do.
    pub busy_polls: Counter,
    /// Naps.
    pub sleeps: Counter,
}

/// One thread's loop, ready to run.
#[derive(Debug)]
pub struct PollLoop {
    /// The thread's share of the edge.
    pub share: Share,
    /// Frames taken from a queue at once.
    pub burst: usize,
    /// Whether this thread announces algate's addresses: one of all.
    pub announces: bool,
    /// Whether many empty polls are followed by a nap.
    pub naps: bool,
    /// The clock of all threads.
    pub clock: Clock,
    /// Where it counts.
    pub counters: Arc<LoopCounters>,
}

impl PollLoop {
    /// Runs `worker` until `stop` is set. What it still holds then is freed with it.
    pub fn run(self, worker: &mut Worker<Mbuf>, stop: &AtomicBool) {
        let Self { share, burst: burst_frames, announces, naps, clock, counters } = self;
        let (mut queues, mut io) = (share.rx, share.io);
        let mut burst: Vec<Mbuf> = Vec::with_capacity(burst_frames);
        let mut empty_polls = 0_u32;
        if announces {
            let left_out = worker.announce(&mut io, clock.now());
            io.flush();
            if left_out > 0 {
                log::warn!("announcement incomplete addresses_left_out={left_out}");
            }
        }
        // Relaxed: the flag carries no data.
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let mut is_busy = false;
            for queue in &mut queues {
                queue.receive(&mut burst);
                if !burst.is_empty() {
                    is_busy = true;
                    io.count_received(queue.nic_port(), &burst);
                    let received = burst.len();
                    worker.receive(&mut io, now, queue.nic_port(), &mut burst);
                    if received >= WIDE_BURST {
                        io.flush();
                    }
                }
            }
            is_busy |= worker.poll(&mut io, now);
            io.flush();
            counters.polls.add(1);
            if is_busy {
                counters.busy_polls.add(1);
                empty_polls = 0;
                continue;
            }
            empty_polls = empty_polls.saturating_add(1);
            if naps && empty_polls >= POLLS_BEFORE_NAP {
                counters.sleeps.add(1);
                worker.pause();
                thread::sleep(NAP);
                worker.resume();
            }
        }
        worker.pause();
    }
}

/// Frames of a burst that is sent before the next queue is read, while its frames are in the first-level cache and
/// whoever waits for them can go on. Smaller ones gather, for a transmission costs as much as ten frames.
const WIDE_BURST: usize = 32;
/// Empty polls before the first nap: a few microseconds of waiting, so that a burst in flight is not
/// slept over. From then on a nap follows each empty poll.
const POLLS_BEFORE_NAP: u32 = 64;
/// Short enough for 100 us of added delay (the kernel adds its timer slack of 50 us).
const NAP: Duration = Duration::from_micros(50);
