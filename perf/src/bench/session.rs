//! Measures works, round by round, device after device.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::alg_cost;
use crate::bench::device::{Device, Place, Running, pool_for};
use crate::bench::scaling::{self, Scaling, Share};
use crate::bench::work::{Kind, Work};
use crate::clock::ticks_per_nano;
use crate::core_watch::CoreWatch;
use crate::generator::flow::Traffic;
use crate::generator::link::Link;
use crate::generator::measure::{CoreShare, Passed, Throughput};
use crate::generator::memif::Memif;
use crate::generator::paced::{Lossless, Paced};
use crate::generator::run::Generator;
use crate::generator::sip;
use crate::items::dialogues;
use crate::rig::AlgPlace;

/// How long and how hard.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where devices run.
    pub place: Place,
    /// Round trips in flight.
    pub window: usize,
    /// Before a measurement.
    pub warm_up: Duration,
    /// A measurement.
    pub duration: Duration,
}

/// One run of one device.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// From 1 on.
    pub round: u32,
    /// What was measured.
    pub work: String,
    /// Of whom.
    pub device: Device,
    /// Flows of the work.
    pub flows: u32,
    /// Additions a cycle of the device's core before the device started, and after it ended; see [`crate::core_watch`].
    pub adds_per_cycle: [f64; 2],
    /// How long a line took from the generator's core to it then, nanoseconds.
    pub hop_nanos: [f64; 2],
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Of [`Kind::Rate`].
    Rate {
        /// The flows' first packets, one round trip or handshake each.
        opened: Passed,
        /// Then.
        rate: Throughput,
    },
    /// Of [`Kind::SetUp`].
    SetUp {
        /// One packet each.
        passed: Passed,
        /// What the device's memory grew by, from its start.
        grown_bytes: u64,
    },
    /// Of [`Kind::Connections`].
    Connections {
        /// SYN, SYN, data.
        opened: Passed,
        /// FIN, FIN, ACK.
        closed: Passed,
    },
    /// Of [`Kind::Latency`].
    Latency(Paced),
    /// Of [`Kind::Lossless`]; `None` when too much was disturbed.
    Lossless(Option<Lossless>),
    /// Of [`Kind::AlgCost`].
    AlgCost {
        /// Without ALG traffic and with it, in turn; the worker itself reads it.
        pairs: Vec<[Throughput; 2]>,
        /// In process, where an ALG core reads it: by how much, in per cent, an ordinary packet's time in the worker grows, with 1 % FTP
        /// and with 1 % SIP.
        alg_core: Vec<f64>,
    },
    /// Of [`Kind::TwoWorkers`].
    TwoWorkers {
        /// Each with its own half of the flows.
        own: Scaling,
        /// Both with all flows.
        any: Scaling,
    },
}

impl Plan {
    /// Gives `work` to its devices, once each. `say` is told of each run.
    ///
    /// # Errors
    /// A device does not start, or does not let its flows through.
    pub fn round(
        &self,
        work: &Work,
        round: u32,
        watch: &mut CoreWatch,
        mut say: impl FnMut(&Run),
    ) -> Result<Vec<Run>, String> {
        let mut rates: HashMap<&str, f64> = HashMap::new();
        let mut runs = Vec::new();
        for &device in &work.devices {
            let before = watch.read();
            let outcome = self.run(work, device, &mut rates, watch).map_err(|sentence| {
                format!(
                    "{}, {}: {sentence}; the device's last words: {}",
                    work.name(),
                    device.name(),
                    self.place.last_words()
                )
            })?;
            let readings = [before, watch.read()];
            let adds_per_cycle =
                readings.map(|reading| reading.map_or(0.0, |reading| reading.adds_per_cycle));
            let hop_nanos = readings.map(|reading| reading.map_or(0.0, |reading| reading.hop_nanos));
            let (work, flows) = (work.name(), work.flows);
            let run = Run { round, work, device, flows, adds_per_cycle, hop_nanos, outcome };
            say(&run);
            runs.push(run);
        }
        Ok(runs)
    }

    fn run(
        &self,
        work: &Work,
        device: Device,
        rates: &mut HashMap<&str, f64>,
        watch: &mut CoreWatch,
    ) -> Result<Outcome, String> {
        if work.kind == Kind::TwoWorkers {
            let [own, any] = [Share::Own, Share::Any].map(|share| {
                scaling::measure(work.flows, share, self.place.cores, self.duration, ticks_per_nano())
            });
            return Ok(Outcome::TwoWorkers { own, any });
        }
        let running = self.place.start(device, work.flows)?;
        let mut generator = self.connect(work, device)?;
        let outcome = self.measure(work, &mut generator, &running, rates, watch);
        // The device first: its driver does not survive a client that leaves while it polls.
        drop(running);
        drop(generator);
        outcome
    }

    fn measure(
        &self,
        work: &Work,
        generator: &mut Generator,
        running: &Running,
        rates: &mut HashMap<&str, f64>,
        watch: &mut CoreWatch,
    ) -> Result<Outcome, String> {
        let (warm_up, duration) = (self.warm_up, self.duration);
        Ok(match work.kind {
            Kind::Rate => {
                let opened = generator.open(watch)?;
                Outcome::Rate { opened, rate: generator.measure(warm_up, duration, 0, watch) }
            }
            Kind::SetUp => {
                let before = running.resident_bytes();
                let passed = generator.set_up(watch)?;
                Outcome::SetUp { passed, grown_bytes: running.resident_bytes().saturating_sub(before) }
            }
            Kind::Connections => {
                let opened = generator.open(watch)?;
                Outcome::Connections { opened, closed: generator.close(watch)? }
            }
            Kind::Latency => {
                generator.open(watch)?;
                let mpps = match rates.get(HALF) {
                    Some(mpps) => *mpps,
                    None => generator.measure(warm_up, duration / 2, 0, watch).mpps / 2.0,
                };
                rates.insert(HALF, mpps);
                Outcome::Latency(generator.pace(mpps, duration, watch))
            }
            Kind::Lossless => {
                generator.open(watch)?;
                let most = 1.2 * generator.measure(warm_up, duration / 2, 0, watch).mpps;
                Outcome::Lossless(generator.lossless_rate(most, watch))
            }
            Kind::AlgCost => {
                generator.open(watch)?;
                let pairs = (0..ALG_PAIRS).map(|_| {
                    [0, ALG_PER_MILLE].map(|share| generator.measure(warm_up / 2, duration / 2, share, watch))
                });
                let pairs = pairs.collect();
                let costs = [dialogues::FTP, dialogues::SIP]
                    .map(|dialogue| alg_cost::measure(dialogue, AlgPlace::AlgCore, work.flows, duration));
                let alg_core = costs.iter().flatten().map(|cost| 100.0 * (cost.all - 1.0)).collect();
                Outcome::AlgCost { pairs, alg_core }
            }
            Kind::TwoWorkers => return Err("two workers are measured without a device".to_owned()),
        })
    }

    fn connect(&self, work: &Work, device: Device) -> Result<Generator, String> {
        let frame_bytes = match work.kind {
            Kind::AlgCost => sip::FRAME_BYTES,
            _ => work.sizes.longest(),
        };
        let link = |side: &str, number, address: [u8; 4], device: [u8; 4]| {
            let memif = Memif::connect(&self.place.socket(side), frame_bytes, self.place.has_hugepages)?;
            Ok::<_, String>(Link::new(memif, [2, 0, 0, 0, 1, number], address.into(), device.into()))
        };
        let mut internal = link("internal", 0, [10, 0, 0, 2], [10, 0, 0, 1])?;
        let mut external = link("external", 1, [198, 18, 0, 2], [198, 18, 0, 1])?;
        if device.is_router() {
            internal.introduce()?;
            external.introduce()?;
        }
        let traffic = Traffic::new(work.protocol, work.sizes, device.treatment(), pool_for(work.flows));
        Ok(Generator::new(internal, external, traffic, work.flows, self.window))
    }
}

impl Run {
    /// One line about it.
    #[must_use]
    pub fn line(&self) -> String {
        let what = match &self.outcome {
            Outcome::Rate { opened, rate } => format!(
                "{:6.2} Mpps {:4.0} cycles, opened {:.2} M/s, lost {} bad {}, generator idle {:.0} %, {}",
                rate.mpps,
                rate.cycles,
                opened.per_second / 1e6,
                rate.lost,
                rate.bad,
                rate.generator_idle * 100.0,
                rate.core.line()
            ),
            Outcome::SetUp { passed, .. } => format!(
                "{:6.2} M new sessions/s (all in all {:.2}), generator idle {:.0} %, {}",
                passed.per_second / 1e6,
                passed.per_second_overall / 1e6,
                passed.generator_idle * 100.0,
                passed.core.line()
            ),
            Outcome::Connections { opened, closed } => format!(
                "{:6.2} M opened/s, {:.2} M closed/s, {}",
                opened.per_second / 1e6,
                closed.per_second / 1e6,
                closed.core.line()
            ),
            Outcome::Latency(paced) => {
                let latency = paced.latency.as_ref().map_or(String::new(), |latency| {
                    format!(
                        "p50 {} p99 {} p99.9 {} max {} us",
                        latency.p50, latency.p99, latency.p999, latency.max
                    )
                });
                let slices = paced.slices;
                format!(
                    "{latency} at {:.2} Mpps, lost {} of {}; slices: {} on a whole core, {} on a shared one, generator stalled {}, device silent {}",
                    paced.offered_mpps,
                    paced.lost,
                    paced.packets,
                    slices.whole,
                    slices.shared,
                    slices.stalled,
                    slices.silent
                )
            }
            Outcome::Lossless(None) => "not found: too much was disturbed".to_owned(),
            Outcome::Lossless(Some(found)) => {
                let core = if found.is_whole { "" } else { ", the core was shared" };
                format!("{:6.2} Mpps without loss, not {:.2}{core}", found.mpps, found.above_mpps)
            }
            Outcome::AlgCost { pairs, alg_core } => {
                let pair = |[without, with]: &[Throughput; 2]| {
                    let core =
                        if without.core.is_whole && with.core.is_whole { "" } else { " (shared core)" };
                    let share = with.alg_share * 100.0;
                    format!("{:.2} -> {:.2} Mpps with {share:.2} % ALG{core}; ", without.mpps, with.mpps)
                };
                let costs: Vec<_> = alg_core.iter().map(|cost| format!("{cost:+.1} %")).collect();
                pairs.iter().map(pair).collect::<String>() + "with an ALG core " + &costs.join(" and ")
            }
            Outcome::TwoWorkers { own, any } => [("own", own), ("any", any)]
                .map(|(name, scaling)| {
                    let core = if scaling.is_whole { "" } else { " (shared core)" };
                    format!(
                        "{name} flows {:.2} -> {:.2} Mpps, {:.2} times{core}; ",
                        scaling.one,
                        scaling.two,
                        scaling.factor()
                    )
                })
                .concat(),
        };
        let [[before, after], [hop_before, hop_after]] = [self.adds_per_cycle, self.hop_nanos];
        format!(
            "round {}  {:<24} {:<18} {what} [{before:.1} {after:.1}, {hop_before:.0} {hop_after:.0} ns]",
            self.round,
            self.work,
            self.device.name()
        )
    }

    /// Whether the device had a whole core for as long as is needed to judge it.
    #[must_use]
    pub fn is_core_whole(&self) -> bool {
        match &self.outcome {
            Outcome::Rate { rate, .. } => rate.core.is_whole,
            Outcome::SetUp { passed, .. } => passed.core.is_whole,
            Outcome::Connections { opened, closed } => opened.core.is_whole && closed.core.is_whole,
            Outcome::Latency(paced) => paced.slices.is_whole,
            Outcome::Lossless(found) => found.is_some_and(|found| found.is_whole),
            // Neighbouring chunks are compared, within a millisecond.
            Outcome::AlgCost { .. } => true,
            Outcome::TwoWorkers { own, .. } => own.is_whole,
        }
    }

    /// Packets that were wrong or lost, where none may be.
    #[must_use]
    pub fn faults(&self) -> u64 {
        match &self.outcome {
            Outcome::Rate { opened, rate } => opened.bad + opened.lost + rate.bad + rate.lost,
            Outcome::SetUp { passed, .. } => passed.bad + passed.lost,
            Outcome::Connections { opened, closed } => opened.bad + opened.lost + closed.bad + closed.lost,
            Outcome::Latency(paced) => paced.bad,
            Outcome::Lossless(_) | Outcome::TwoWorkers { .. } => 0,
            Outcome::AlgCost { pairs, .. } => pairs.iter().flatten().map(|rate| rate.bad + rate.lost).sum(),
        }
    }

    /// Whether the generator, not the device, set the pace.
    #[must_use]
    pub fn is_generator_bound(&self) -> bool {
        match &self.outcome {
            Outcome::Rate { rate, .. } => rate.generator_idle < LEAST_IDLE,
            Outcome::SetUp { passed, .. } => passed.generator_idle < LEAST_IDLE,
            Outcome::Connections { opened, .. } => opened.generator_idle < LEAST_IDLE,
            // What is judged of 1 % ALG traffic is measured in process.
            Outcome::AlgCost { .. }
            | Outcome::Latency(_)
            | Outcome::Lossless(_)
            | Outcome::TwoWorkers { .. } => false,
        }
    }
}

impl CoreShare {
    fn line(&self) -> String {
        format!(
            "core {:.0} %, whole in {:.0} % of slots, undisturbed {:.0} %{}",
            self.share * 100.0,
            self.whole_slots * 100.0,
            self.clean_slots * 100.0,
            if self.is_whole { "" } else { " (shared core)" }
        )
    }
}

const HALF: &str = "half of the clean rate";
/// Below that share the generator is taken for the bottleneck.
pub const LEAST_IDLE: f64 = 0.05;
const ALG_PER_MILLE: u32 = 10;
const ALG_PAIRS: usize = 3;
