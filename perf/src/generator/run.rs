//! The loop: receive, check, send, on both links.
//!
//! What is sent and when a packet has done its work is the [`Task`]; measurements over it are in [`measure`](super::measure).

use std::hint::spin_loop;
use std::time::Duration;

use crate::clock::{ticks, ticks_per_nano};
use crate::generator::census::Census;
use crate::generator::flow::{Fault, Seen, Segment, Traffic, Treatment};
use crate::generator::latency::Histogram;
use crate::generator::link::Link;
use crate::generator::sip;
use crate::items::Random;

/// Both links, and the packets on their way.
#[derive(Debug)]
pub struct Generator {
    internal: Link,
    external: Link,
    pub(super) traffic: Traffic,
    pub(super) flows: u32,
    /// Round trips in flight.
    window: usize,
    /// Of a thousand round trips so many are through an ALG.
    pub(super) alg_per_mille: u32,
    random: Random,
    pub(super) in_flight: usize,
    pub(super) counts: Counts,
    pub(super) last_progress: u64,
    /// Time in which there was nothing to do.
    pub(super) idle_ticks: u64,
    breath: u64,
    /// Packets sent to the internal side.
    sent: u64,
    progress_from: u64,
    scratch: Vec<u8>,
}

/// What came through the device.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Packets that came through, either way, and were right; those of an ALG are not in it.
    pub good: u64,
    /// The same through an ALG.
    pub alg: u64,
    /// Packets that came with a fault.
    pub bad: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// What is sent.
#[derive(Debug)]
pub enum Task<'a> {
    /// Round trips of any flow; as many in flight as the window allows.
    Random,
    /// Each flow once.
    Each {
        /// The next flow.
        next: u32,
        /// What is done with it.
        way: Way,
        /// What got through.
        census: &'a mut Census,
    },
    /// Round trips of any flow at a rate.
    Paced(&'a mut Pace),
    /// Nothing; what comes is taken.
    Nothing,
}

/// What is done with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One packet out, and none back.
    Out,
    /// One packet out, and the answer back.
    RoundTrip,
    /// SYN, its answer, data; or FIN, its answer, last ACK.
    Handshake(Segment),
}

/// Sending by the clock.
#[derive(Debug)]
pub struct Pace {
    /// When it began.
    start: u64,
    /// Ticks between two packets.
    interval: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the device did not take in time.
    pub refused: u64,
    /// Whether times are noted, and those that were: through the device, either way.
    pub is_timed: bool,
    /// See `is_timed`.
    pub latency: Histogram,
}

impl Generator {
    /// On two links whose device has been introduced.
    #[must_use]
    pub fn new(internal: Link, external: Link, mut traffic: Traffic, flows: u32, window: usize) -> Self {
        traffic.macs = [internal.macs(), external.macs()];
        Self {
            internal,
            external,
            traffic,
            flows: flows.max(1),
            window,
            alg_per_mille: 0,
            random: Random::default(),
            in_flight: 0,
            counts: Counts::default(),
            last_progress: ticks(),
            idle_ticks: 0,
            breath: (BREATH.as_nanos() as f64 * ticks_per_nano()) as u64,
            sent: 0,
            progress_from: 0,
            scratch: vec![0; sip::FRAME_BYTES],
        }
    }

    /// Once round. When there was little to do, lets the device gather a burst: a ring that both sides touch for every
    /// packet costs both of them more than the packet.
    #[inline]
    pub(super) fn turn(&mut self, task: &mut Task<'_>) {
        let moved = self.turn_external(task) + self.turn_internal(task);
        self.fill(task);
        self.internal.publish();
        self.external.publish();
        if moved < BURST / 2 && !matches!(task, Task::Paced(_)) {
            let start = ticks();
            if moved == 0 {
                self.give_up();
            }
            while ticks() - start < self.breath {
                spin_loop();
            }
            self.idle_ticks += ticks() - start;
        }
    }

    /// What came through to the external link goes back, as far as the task wants it.
    #[inline]
    fn turn_external(&mut self, task: &mut Task<'_>) -> usize {
        let count = self.external.arrived().min(task.burst());
        let count = count.min(self.external.room(count));
        if count == 0 {
            return 0;
        }
        let now = ticks();
        let stamp = if matches!(task, Task::Paced(_)) { stamp_of(now) } else { 0 };
        (0..count.min(AHEAD)).for_each(|at| self.external.prefetch(at));
        for at in 0..count {
            if at + AHEAD < count {
                self.external.prefetch(at + AHEAD);
            }
            let frame = self.external.frame(at);
            match self.traffic.check_outbound(frame) {
                Ok(seen) => {
                    self.counts.good += 1;
                    if goes_back(task, &seen, now, &mut self.in_flight) {
                        let bytes = self.traffic.reflect(frame, &seen, stamp);
                        self.external.send_back(at, bytes);
                    } else {
                        self.external.recycle(at);
                    }
                }
                Err(fault) => self.strange_outside(at, fault),
            }
        }
        self.external.release(count);
        self.last_progress = now;
        count
    }

    /// What came back to the internal link has done its round trip; its buffer carries the next packet.
    #[inline]
    fn turn_internal(&mut self, task: &mut Task<'_>) -> usize {
        let count = self.internal.arrived().min(task.burst());
        let count = count.min(self.internal.room(count));
        if count == 0 {
            return 0;
        }
        let now = ticks();
        (0..count.min(AHEAD)).for_each(|at| self.internal.prefetch(at));
        for at in 0..count {
            if at + AHEAD < count {
                self.internal.prefetch(at + AHEAD);
            }
            let frame = self.internal.frame(at);
            match self.traffic.check_inbound(frame) {
                Ok(seen) => {
                    self.counts.good += 1;
                    self.answered(task, at, &seen, now);
                }
                Err(fault) => self.strange_inside(at, fault),
            }
        }
        self.internal.release(count);
        self.last_progress = now;
        count
    }

    /// A right answer: what comes next in its buffer.
    #[inline]
    fn answered(&mut self, task: &mut Task<'_>, at: usize, seen: &Seen, now: u64) {
        let next = match task {
            Task::Random if self.alg_per_mille == 0 => Some((self.random.below(self.flows), Segment::Data)),
            Task::Each { way: Way::Handshake(Segment::Fin), .. } => Some((seen.flow, Segment::LastAck)),
            Task::Each { way: Way::Handshake(_), .. } => Some((seen.flow, Segment::Data)),
            // The census sends the others from `fill`.
            Task::Random | Task::Each { .. } | Task::Nothing => {
                self.in_flight = self.in_flight.saturating_sub(1);
                None
            }
            Task::Paced(pace) => {
                pace.note(seen.stamp, now);
                self.in_flight = self.in_flight.saturating_sub(1);
                None
            }
        };
        match next {
            Some((flow, segment)) => {
                let bytes = self.traffic.write(self.internal.whole(at), flow, segment, 0);
                self.internal.send_back(at, bytes);
                self.sent += 1;
            }
            None => self.internal.recycle(at),
        }
    }

    /// Sends what the task still has room or time for.
    #[inline]
    fn fill(&mut self, task: &mut Task<'_>) {
        let rounds = (self.sent - self.progress_from) / u64::from(self.flows);
        let wanted = match task {
            Task::Nothing => 0,
            Task::Random => self.window.saturating_sub(self.in_flight),
            Task::Each { next, .. } => {
                self.window.saturating_sub(self.in_flight).min((self.flows - *next) as usize)
            }
            Task::Paced(pace) => pace.due(),
        };
        // A connection that closes names its packets by where its numbers stopped.
        if !matches!(task, Task::Each { .. }) {
            self.traffic.progress = (rounds as u32).wrapping_mul(PROGRESS_BYTES);
        }
        let wanted = wanted.min(task.burst());
        let count = wanted.min(self.internal.room(wanted));
        let stamp = if matches!(task, Task::Paced(_)) { stamp_of(ticks()) } else { 0 };
        for _ in 0..count {
            self.sent += 1;
            if self.alg_per_mille > 0
                && matches!(task, Task::Random)
                && self.random.below(1000) < self.alg_per_mille
            {
                let phone = self.random.below(sip::PHONES);
                let bytes = sip::write_request(self.internal.buffer(), &self.traffic.macs[0], phone);
                self.internal.push(bytes);
                continue;
            }
            let (flow, segment) = match task {
                Task::Each { next, way, .. } => {
                    *next += 1;
                    (*next - 1, if let Way::Handshake(segment) = way { *segment } else { Segment::Data })
                }
                Task::Random | Task::Paced(_) | Task::Nothing => {
                    (self.random.below(self.flows), Segment::Data)
                }
            };
            let bytes = self.traffic.write(self.internal.buffer(), flow, segment, stamp);
            self.internal.push(bytes);
        }
        self.in_flight += count;
        if let Task::Paced(pace) = task {
            pace.sent += count as u64;
        }
    }

    /// A packet outside that is none of an ordinary flow: ALG traffic, ARP, or wrong.
    #[cold]
    fn strange_outside(&mut self, at: usize, fault: Fault) {
        let length = self.external.frame(at).len().min(self.scratch.len());
        let Some(copy) = self.scratch.get_mut(..length) else { return };
        copy.copy_from_slice(self.external.frame(at).get(..length).unwrap_or_default());
        let pool = if self.traffic.treatment == Treatment::Nat { self.traffic.pool } else { (0, u32::MAX) };
        let answered = match fault {
            Fault::Foreign => sip::answer(copy, self.external.whole(at), &self.traffic.macs[1], pool),
            _ => Err(fault),
        };
        match answered {
            Ok(bytes) => {
                self.counts.alg += 1;
                return self.external.send_back(at, bytes);
            }
            Err(Fault::Foreign) if self.external.other(at) => {}
            Err(fault) => self.note_fault(fault),
        }
        self.external.recycle(at);
    }

    /// The same inside.
    #[cold]
    fn strange_inside(&mut self, at: usize, fault: Fault) {
        let answered = match fault {
            Fault::Foreign => sip::check_answer(self.internal.frame(at)),
            _ => Err(fault),
        };
        match answered {
            Ok(()) => {
                self.counts.alg += 1;
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            Err(Fault::Foreign) if self.internal.other(at) => {}
            Err(fault) => self.note_fault(fault),
        }
        self.internal.recycle(at);
    }

    fn note_fault(&mut self, fault: Fault) {
        self.counts.bad += 1;
        self.counts.fault.get_or_insert(fault);
    }

    /// Packets that have not come for a long time will not come.
    #[cold]
    fn give_up(&mut self) {
        let silent = (ticks() - self.last_progress) as f64 / ticks_per_nano();
        if silent > LOST_AFTER.as_nanos() as f64 {
            self.counts.lost += self.in_flight as u64;
            self.in_flight = 0;
            self.last_progress = ticks();
        }
    }

    /// Lets what is on its way arrive: nothing may be in flight when a device loses its peer.
    pub(super) fn drain(&mut self) {
        let start = std::time::Instant::now();
        while self.in_flight > 0 && start.elapsed() < DRAIN {
            self.turn(&mut Task::Nothing);
        }
    }
}

impl Task<'_> {
    /// Frames of a link that are handled before the other one has its turn: fewer by the clock, so that a turn is soon over.
    #[inline]
    const fn burst(&self) -> usize {
        if matches!(self, Self::Paced(_)) { BURST / 4 } else { BURST }
    }
}

impl Pace {
    /// From `start` on one packet each `interval` ticks.
    #[must_use]
    pub fn new(start: u64, interval: f64) -> Self {
        Self { start, interval, sent: 0, refused: 0, is_timed: false, latency: Histogram::default() }
    }

    /// Packets that should have been sent by now. What is overdue by more than a burst found the device's ring full, and was refused.
    #[inline]
    fn due(&mut self) -> usize {
        let due = ((ticks() - self.start) as f64 / self.interval) as u64;
        let behind = due.saturating_sub(self.sent + self.refused);
        let overdue = behind.saturating_sub(MOST_BEHIND);
        self.refused += overdue;
        (behind - overdue) as usize
    }

    #[inline]
    fn note(&mut self, stamp: u32, now: u64) {
        if self.is_timed {
            self.latency.record(u64::from(stamp_of(now).wrapping_sub(stamp)) << STAMP_SHIFT);
        }
    }
}

/// Whether a right packet outside is answered. If not, its flow has done its work.
#[inline]
fn goes_back(task: &mut Task<'_>, seen: &Seen, now: u64, in_flight: &mut usize) -> bool {
    match task {
        Task::Random | Task::Nothing => true,
        Task::Paced(pace) => {
            pace.note(seen.stamp, now);
            true
        }
        Task::Each { way, census, .. } => {
            let is_last = match way {
                Way::Out => true,
                Way::RoundTrip => false,
                Way::Handshake(first) => seen.segment != *first,
            };
            if is_last || *way == Way::RoundTrip {
                census.note(seen.flow, seen.source);
            }
            if is_last {
                *in_flight = in_flight.saturating_sub(1);
            }
            !is_last
        }
    }
}

/// A time in few bits: 6 ns at 2.5 GHz, and 27 s until it begins anew.
#[inline]
const fn stamp_of(ticks: u64) -> u32 {
    // Never 0, which says that there is none.
    (ticks >> STAMP_SHIFT) as u32 | 1
}

/// Frames handled before the other link has its turn.
const BURST: usize = 256;
/// How far ahead frames are fetched.
const AHEAD: usize = 16;
/// The time in which a fast device handles a few dozen packets.
const BREATH: Duration = Duration::from_nanos(1000);
/// Longer than a device on a busy machine is without its core.
const LOST_AFTER: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_millis(2500);
const STAMP_SHIFT: u32 = 4;
/// How far TCP's numbers move for each round over all flows: what a frame of 64 bytes carries.
const PROGRESS_BYTES: u32 = 10;
/// Packets that a sender may be behind before it leaves some out.
const MOST_BEHIND: u64 = 256;
