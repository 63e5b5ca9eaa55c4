//! Measurements in closed loop: open flows, measure the rate. Which time counts, `slots` says.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{ticks, ticks_per_nano};
use crate::core_watch::CoreWatch;
use crate::generator::census::Census;
use crate::generator::flow::{Protocol, Segment, Treatment};
use crate::generator::run::{Generator, Task, Way};
use crate::generator::slots::{OF_FIRST_PACKETS, OF_HITS, Slots};

/// What opening or closing every flow took.
#[derive(Debug, Clone, Serialize)]
pub struct Passed {
    /// Flows.
    pub flows: u32,
    /// Flows a second: the mean of the middle half of the slots that count, for a slot has whole bursts of 128 only; the
    /// mean of all, when it was over within a few slots.
    pub per_second: f64,
    /// The mean over the whole time.
    pub per_second_overall: f64,
    /// Packets with a fault, and packets that did not come.
    pub bad: u64,
    /// See `bad`.
    pub lost: u64,
    /// Share of the time that counts in which the generator had nothing to do.
    pub generator_idle: f64,
    /// What the device's core was like.
    pub core: CoreShare,
}

/// A rate in closed loop.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// Million packets through the device per second, both directions together, those of an ALG not counted: the median of
    /// the slots that count.
    pub mpps: f64,
    /// TSC cycles for each of them: median, tenth and ninetieth percentile.
    pub cycles: f64,
    /// See `cycles`.
    pub cycles_p10: f64,
    /// See `cycles`.
    pub cycles_p90: f64,
    /// The mean over the whole time, disturbed slots included.
    pub mpps_overall: f64,
    /// Share of the packets that went through an ALG.
    pub alg_share: f64,
    /// Packets that were right, wrong, lost.
    pub good: u64,
    /// See `good`.
    pub bad: u64,
    /// See `good`.
    pub lost: u64,
    /// Share of the time that counts in which the generator had nothing to do.
    pub generator_idle: f64,
    /// What the device's core was like.
    pub core: CoreShare,
    /// The first fault, when there is any.
    pub fault: Option<String>,
}

/// What the device's core was like, and how much of the time counts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CoreShare {
    /// Whether the device had a whole core for long enough; only that time counts then. Else all undisturbed time does.
    pub is_whole: bool,
    /// How much of its core it had, 0 to 1: the median of all readings.
    pub share: f64,
    /// Share of the undisturbed slots with a whole core.
    pub whole_slots: f64,
    /// Share of slots in which neither side lost its core.
    pub clean_slots: f64,
}

impl Generator {
    /// Sends the first packet of each flow, TCP with its whole handshake, and waits until all have got through.
    ///
    /// # Errors
    /// Some have not, or two leave from one external endpoint.
    pub fn open(&mut self, watch: &mut CoreWatch) -> Result<Passed, String> {
        let way = match self.traffic.protocol {
            Protocol::Udp => Way::RoundTrip,
            Protocol::Tcp => Way::Handshake(Segment::Syn),
        };
        self.each(way, watch)
    }

    /// Opens each flow with one packet that is not answered.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn set_up(&mut self, watch: &mut CoreWatch) -> Result<Passed, String> {
        self.each(Way::Out, watch)
    }

    /// Closes each TCP connection from the inside: FIN, FIN, ACK.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn close(&mut self, watch: &mut CoreWatch) -> Result<Passed, String> {
        self.each(Way::Handshake(Segment::Fin), watch)
    }

    fn each(&mut self, way: Way, watch: &mut CoreWatch) -> Result<Passed, String> {
        self.drain();
        let pool = (self.traffic.treatment == Treatment::Nat).then_some(self.traffic.pool);
        let mut census = Census::new(self.flows, pool);
        let before = self.counts;
        let (start, begin) = (Instant::now(), ticks());
        let mut slots = Slots::new(OF_FIRST_PACKETS, ENOUGH_SLOTS, (begin, 0, self.idle_ticks));
        let mut said = start;
        let mut task = Task::Each { next: 0, way, census: &mut census };
        loop {
            self.turn(&mut task);
            let Task::Each { next, ref census, .. } = task else { break };
            let now = ticks();
            slots.note(now, self.last_progress.min(now), u64::from(census.count()), self.idle_ticks, watch);
            if next >= self.flows && self.in_flight == 0 {
                break;
            }
            if slots.count() & 63 == 0 {
                if said.elapsed() > SAY_EVERY {
                    eprintln!("      {} of {} flows", census.count(), self.flows);
                    said = Instant::now();
                }
                if start.elapsed() > longest_opening(self.flows) {
                    return Err(format!(
                        "{} of {} flows in {:?}",
                        census.count(),
                        self.flows,
                        start.elapsed()
                    ));
                }
            }
        }
        // The wait for packets that were lost is not work.
        let took = self.last_progress.saturating_sub(begin).max(1);
        let (bad, lost) = (self.counts.bad - before.bad, self.counts.lost - before.lost);
        census.verdict().map_err(|sentence| self.explain(&sentence, bad, lost))?;
        let rate = ticks_per_nano() * 1e9;
        let per_second_overall = f64::from(self.flows) * rate / took as f64;
        slots.end(watch);
        let has_slots = slots.undisturbed() >= ENOUGH_SLOTS;
        let (counted, core) = slots.into_tally();
        Ok(Passed {
            flows: self.flows,
            per_second: if has_slots { rate / counted.samples.middle_mean() } else { per_second_overall },
            per_second_overall,
            bad,
            lost,
            generator_idle: counted.idle_share(),
            core,
        })
    }

    fn explain(&self, sentence: &str, bad: u64, lost: u64) -> String {
        let fault = self.counts.fault.map_or(String::new(), |fault| format!(", the first: {fault:?}"));
        format!("{sentence} (lost {lost}, bad {bad}{fault})")
    }

    /// Measures the rate in closed loop, `alg_per_mille` of the round trips through an ALG, for `duration`, or up to three times as long
    /// where the device has a whole core only now and then.
    pub fn measure(
        &mut self,
        warm_up: Duration,
        duration: Duration,
        alg_per_mille: u32,
        watch: &mut CoreWatch,
    ) -> Throughput {
        self.alg_per_mille = alg_per_mille;
        let rate = ticks_per_nano();
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * rate) as u64;
        let warm = ticks() + ticks_of(warm_up);
        while ticks() < warm {
            self.turn(&mut Task::Random);
        }
        let start = ticks();
        let (end, latest) = (start + ticks_of(duration), start + ticks_of(MOST_TIMES * duration));
        let (before, mut now) = (self.counts, start);
        let enough = (duration / ENOUGH_PART).as_millis() as usize;
        let mut slots = Slots::new(OF_HITS, enough, (start, before.good, self.idle_ticks));
        while now < end || now < latest && !slots.is_whole() {
            self.turn(&mut Task::Random);
            now = ticks();
            slots.note(now, self.last_progress.min(now), self.counts.good, self.idle_ticks, watch);
        }
        let after = self.counts;
        slots.end(watch);
        self.drain();
        self.alg_per_mille = 0;
        let seconds = (now - start) as f64 / rate / 1e9;
        let (counted, core) = slots.into_tally();
        let cycles = counted.samples.quantile(0.5);
        let mpps_overall = (after.good - before.good) as f64 / seconds / 1e6;
        Throughput {
            // Without one undisturbed slot the mean is all there is.
            mpps: if cycles > 0.0 { rate * 1e3 / cycles } else { mpps_overall },
            cycles,
            cycles_p10: counted.samples.quantile(0.1),
            cycles_p90: counted.samples.quantile(0.9),
            mpps_overall,
            alg_share: (after.alg - before.alg) as f64
                / ((after.alg - before.alg + after.good - before.good) as f64).max(1.0),
            good: after.good - before.good,
            bad: self.counts.bad - before.bad,
            lost: self.counts.lost - before.lost + self.in_flight as u64,
            generator_idle: counted.idle_share(),
            core,
            fault: self.counts.fault.map(|fault| format!("{fault:?}")),
        }
    }
}

/// 20 s, and as if only 25,000 flows were opened a second: on a busy machine both sides wait for each other.
fn longest_opening(flows: u32) -> Duration {
    Duration::from_secs(20) + flows * Duration::from_micros(40)
}

const SAY_EVERY: Duration = Duration::from_secs(3);
/// Slots of first packets.
const ENOUGH_SLOTS: usize = 40;
/// Of the time that is to be measured, so much must have been on a whole core; else it takes longer, up to so many times.
const ENOUGH_PART: u32 = 10;
const MOST_TIMES: u32 = 3;
