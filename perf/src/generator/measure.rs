//! Measurements: open flows, measure the rate in closed loop, measure loss and latency at a fixed rate.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{ticks, ticks_per_nano};
use crate::generator::census::Census;
use crate::generator::flow::{Protocol, Segment, Treatment};
use crate::generator::latency::{Histogram, Latency};
use crate::generator::run::{Generator, Pace, Task, Way};
use crate::sample::Samples;

/// What opening or closing every flow took.
#[derive(Debug, Clone, Serialize)]
pub struct Passed {
    /// Flows.
    pub flows: u32,
    /// Flows a second: the median of undisturbed slots; the mean, when it was over within a few slots.
    pub per_second: f64,
    /// The mean over the whole time.
    pub per_second_overall: f64,
    /// Packets with a fault, and packets that did not come.
    pub bad: u64,
    /// See `bad`.
    pub lost: u64,
    /// Share of the undisturbed time in which the generator had nothing to do.
    pub generator_idle: f64,
    /// Share of slots in which neither side lost its core.
    pub clean_slots: f64,
}

/// A rate in closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// Million packets through the device per second, both directions together, those of an ALG not counted: the median of
    /// undisturbed slots.
    pub mpps: f64,
    /// TSC cycles for each of them: median, tenth and ninetieth percentile.
    pub cycles: f64,
    /// See `cycles`.
    pub cycles_p10: f64,
    /// See `cycles`.
    pub cycles_p90: f64,
    /// The mean over the whole time, disturbed slots included.
    pub mpps_overall: f64,
    /// Million packets per second through an ALG, over the whole time.
    pub alg_mpps: f64,
    /// Packets that were right, wrong, lost.
    pub good: u64,
    /// See `good`.
    pub bad: u64,
    /// See `good`.
    pub lost: u64,
    /// Share of the undisturbed time in which the generator had nothing to do.
    pub generator_idle: f64,
    /// Share of slots in which neither side lost its core.
    pub clean_slots: f64,
    /// The first fault, when there is any.
    pub fault: Option<String>,
}

/// What came of a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    /// Million packets per second that should go through the device, both directions together.
    pub offered_mpps: f64,
    /// Packets that the device should have carried, and those it did not.
    pub packets: u64,
    /// See `packets`.
    pub lost: u64,
    /// Packets with a fault.
    pub bad: u64,
    /// Times through the device, when they were measured.
    pub latency: Option<Latency>,
    /// Longest time, in microseconds, in which the generator did not run.
    pub longest_pause: f64,
}

/// Time cut into slots of a millisecond, of which those count in which neither side lost its core.
struct Slots {
    ticks: u64,
    /// No turn of either side takes that long by itself.
    patience: u64,
    now: u64,
    /// The slot at hand: when it began, what had been done, and how long there had been nothing to do.
    start: u64,
    done: u64,
    idle: u64,
    is_disturbed: bool,
    /// Ticks for each thing done, of the slots that count.
    samples: Samples,
    disturbed: u64,
    clean_ticks: u64,
    clean_idle: u64,
}

impl Slots {
    fn new(now: u64, done: u64, idle: u64) -> Self {
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * ticks_per_nano()) as u64;
        Self {
            ticks: ticks_of(SLOT),
            patience: ticks_of(PAUSE),
            now,
            start: now,
            done,
            idle,
            is_disturbed: false,
            samples: Samples::default(),
            disturbed: 0,
            clean_ticks: 0,
            clean_idle: 0,
        }
    }

    /// After a turn: something came last at `last_progress`; until now so much was done, and was there nothing to do.
    #[inline]
    fn note(&mut self, now: u64, last_progress: u64, done: u64, idle: u64) {
        self.is_disturbed |=
            now - self.now > self.patience || now.saturating_sub(last_progress) > self.patience;
        self.now = now;
        if now - self.start < self.ticks {
            return;
        }
        if self.is_disturbed || done == self.done {
            self.disturbed += 1;
        } else {
            self.samples.push(now - self.start, done - self.done);
            self.clean_ticks += now - self.start;
            self.clean_idle += idle - self.idle;
        }
        (self.start, self.done, self.idle, self.is_disturbed) = (now, done, idle, false);
    }

    /// Share of the time that counts in which there was nothing to do.
    fn idle_share(&self) -> f64 {
        self.clean_idle as f64 / (self.clean_ticks as f64).max(1.0)
    }

    /// Share of slots that count.
    fn clean_share(&self) -> f64 {
        let clean = self.samples.count() as f64;
        clean / (clean + self.disturbed as f64).max(1.0)
    }
}

impl Generator {
    /// Sends the first packet of each flow, TCP with its whole handshake, and waits until all have got through.
    ///
    /// # Errors
    /// Some have not, or two leave from one external endpoint.
    pub fn open(&mut self) -> Result<Passed, String> {
        let way = match self.traffic.protocol {
            Protocol::Udp => Way::RoundTrip,
            Protocol::Tcp => Way::Handshake(Segment::Syn),
        };
        self.each(way)
    }

    /// Opens each flow with one packet that is not answered.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn set_up(&mut self) -> Result<Passed, String> {
        self.each(Way::Out)
    }

    /// Closes each TCP connection from the inside: FIN, FIN, ACK.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn close(&mut self) -> Result<Passed, String> {
        self.each(Way::Handshake(Segment::Fin))
    }

    fn each(&mut self, way: Way) -> Result<Passed, String> {
        self.drain();
        let pool = (self.traffic.treatment == Treatment::Nat).then_some(self.traffic.pool);
        let mut census = Census::new(self.flows, pool);
        let before = self.counts;
        let (start, begin) = (Instant::now(), ticks());
        let mut slots = Slots::new(begin, 0, self.idle_ticks);
        let mut said = start;
        let mut task = Task::Each { next: 0, way, census: &mut census };
        loop {
            self.turn(&mut task);
            let Task::Each { next, ref census, .. } = task else { break };
            let now = ticks();
            slots.note(now, self.last_progress.min(now), u64::from(census.count()), self.idle_ticks);
            if next >= self.flows && self.in_flight == 0 {
                break;
            }
            if (slots.disturbed + slots.samples.count() as u64) & 63 == 0 {
                if said.elapsed() > SAY_EVERY {
                    eprintln!("      {} of {} flows", census.count(), self.flows);
                    said = Instant::now();
                }
                if start.elapsed() > MOST_OPENING {
                    return Err(format!("{} of {} flows in {MOST_OPENING:?}", census.count(), self.flows));
                }
            }
        }
        // The wait for packets that were lost is not work.
        let took = self.last_progress.saturating_sub(begin).max(1);
        let (bad, lost) = (self.counts.bad - before.bad, self.counts.lost - before.lost);
        census.verdict().map_err(|sentence| self.explain(&sentence, bad, lost))?;
        let rate = ticks_per_nano() * 1e9;
        let per_second_overall = f64::from(self.flows) * rate / took as f64;
        let has_slots = slots.samples.count() >= ENOUGH_SLOTS;
        Ok(Passed {
            flows: self.flows,
            per_second: if has_slots { rate / slots.samples.quantile(0.5) } else { per_second_overall },
            per_second_overall,
            bad,
            lost,
            generator_idle: slots.idle_share(),
            clean_slots: slots.clean_share(),
        })
    }

    fn explain(&self, sentence: &str, bad: u64, lost: u64) -> String {
        let fault = self.counts.fault.map_or(String::new(), |fault| format!(", the first: {fault:?}"));
        format!("{sentence} (lost {lost}, bad {bad}{fault})")
    }

    /// Measures the rate in closed loop, `alg_per_mille` of the round trips through an ALG.
    pub fn measure(&mut self, warm_up: Duration, duration: Duration, alg_per_mille: u32) -> Throughput {
        self.alg_per_mille = alg_per_mille;
        let rate = ticks_per_nano();
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * rate) as u64;
        let warm = ticks() + ticks_of(warm_up);
        while ticks() < warm {
            self.turn(&mut Task::Random);
        }
        let start = ticks();
        let (end, mut now) = (start + ticks_of(duration), start);
        let before = self.counts;
        let mut slots = Slots::new(start, before.good, self.idle_ticks);
        while now < end {
            self.turn(&mut Task::Random);
            now = ticks();
            slots.note(now, self.last_progress.min(now), self.counts.good, self.idle_ticks);
        }
        let after = self.counts;
        self.drain();
        self.alg_per_mille = 0;
        let seconds = (now - start) as f64 / rate / 1e9;
        let cycles = slots.samples.quantile(0.5);
        Throughput {
            mpps: if cycles > 0.0 { rate * 1e3 / cycles } else { 0.0 },
            cycles,
            cycles_p10: slots.samples.quantile(0.1),
            cycles_p90: slots.samples.quantile(0.9),
            mpps_overall: (after.good - before.good) as f64 / seconds / 1e6,
            alg_mpps: (after.alg - before.alg) as f64 / seconds / 1e6,
            good: after.good - before.good,
            bad: self.counts.bad - before.bad,
            lost: self.counts.lost - before.lost + self.in_flight as u64,
            generator_idle: slots.idle_share(),
            clean_slots: slots.clean_share(),
            fault: self.counts.fault.map(|fault| format!("{fault:?}")),
        }
    }

    /// Sends at `mpps` million packets through the device per second, both directions together, whether it keeps up
    /// or not. `has_stamps`: whether latency is measured too, of UDP.
    pub fn pace(&mut self, mpps: f64, duration: Duration, has_stamps: bool) -> Paced {
        self.drain();
        let rate = ticks_per_nano();
        let before = self.counts;
        let start = ticks();
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * rate) as u64;
        let interval = rate * 2e3 / mpps.max(1e-6);
        let mut pace =
            Pace { start, interval, sent: 0, refused: 0, is_timed: false, latency: Histogram::default() };
        let (warm, end, mut now) = (start + ticks_of(duration / 10), start + ticks_of(duration), start);
        let mut longest_pause = 0;
        while now < end {
            // By then the caches, and the device's way of polling, are as they stay.
            pace.is_timed = has_stamps && now > warm;
            self.turn(&mut Task::Paced(&mut pace));
            let then = ticks();
            longest_pause = longest_pause.max(then - now);
            now = then;
        }
        let Pace { sent, refused, latency, .. } = pace;
        self.drain();
        // Each round trip is two packets; those that were refused would have been two.
        let packets = 2 * (sent + refused);
        let arrived = self.counts.good - before.good;
        self.in_flight = 0;
        Paced {
            offered_mpps: mpps,
            packets,
            lost: packets.saturating_sub(arrived),
            bad: self.counts.bad - before.bad,
            latency: (latency.count() > 0).then(|| latency.summary(rate)),
            longest_pause: longest_pause as f64 / rate / 1e3,
        }
    }

    /// The highest rate without loss, in million packets per second, between 0 and `most` (RFC 2544 section 26.1): halves the
    /// interval until it is 1 % wide. On a machine that others use, a core may be lost for
    /// longer than a ring lasts at any rate: a rate counts when one of three trials loses nothing.
    pub fn lossless_rate(&mut self, most: f64, trial: Duration) -> f64 {
        let (mut low, mut high) = (0.0, most);
        while high - low > 0.01 * most {
            let middle = (low + high) / 2.0;
            let is_lossless = (0..TRIALS).any(|_| {
                let paced = self.pace(middle, trial, false);
                paced.lost == 0 && paced.bad == 0
            });
            if is_lossless {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

const SLOT: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_micros(150);
const SAY_EVERY: Duration = Duration::from_secs(3);
/// 16 million flows at 100,000 a second.
const MOST_OPENING: Duration = Duration::from_secs(170);
const TRIALS: usize = 3;
const ENOUGH_SLOTS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_which_a_core_was_lost_does_not_count() {
        let mut slots = Slots::new(0, 0, 0);
        (slots.ticks, slots.patience) = (1000, 150);
        let mut done = 0;
        // Two quiet slots at 10 ticks each, one of which the generator slept, one of which the device did.
        for now in (100..=2000).step_by(100) {
            done += 10;
            slots.note(now, now, done, now / 4);
        }
        slots.note(2900, 2900, done + 1, 500);
        slots.note(3000, 3000, done + 2, 500);
        for now in (3100..=4000).step_by(100) {
            slots.note(now, 3000, done + 3, 500);
        }
        assert_eq!((slots.samples.count(), slots.disturbed), (2, 2));
        assert_eq!(slots.samples.quantile(1.0), 10.0);
        assert_eq!((slots.idle_share(), slots.clean_share()), (0.25, 0.5));
    }
}
