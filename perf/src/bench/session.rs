//! Measures works, round by round, device after device.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::bench::device::{Device, Place, Running, pool_for};
use crate::bench::work::{Kind, Work};
use crate::generator::flow::Traffic;
use crate::generator::link::Link;
use crate::generator::measure::{Paced, Passed, Throughput};
use crate::generator::memif::Memif;
use crate::generator::run::Generator;
use crate::generator::sip;

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
    /// Of [`Kind::Lossless`].
    Lossless {
        /// Million packets per second.
        mpps: f64,
    },
    /// Of [`Kind::AlgCost`].
    AlgCost {
        /// Without ALG traffic and with it, in turn.
        pairs: Vec<[Throughput; 2]>,
    },
}

impl Plan {
    /// Gives `work` to its devices, once each. `say` is told of each run.
    ///
    /// # Errors
    /// A device does not start, or does not let its flows through.
    pub fn round(&self, work: &Work, round: u32, mut say: impl FnMut(&Run)) -> Result<Vec<Run>, String> {
        let mut rates: HashMap<&str, f64> = HashMap::new();
        let mut runs = Vec::new();
        for &device in &work.devices {
            let outcome = self.run(work, device, &mut rates).map_err(|sentence| {
                format!(
                    "{}, {}: {sentence}; the device's last words: {}",
                    work.name(),
                    device.name(),
                    self.place.last_words()
                )
            })?;
            let run = Run { round, work: work.name(), device, flows: work.flows, outcome };
            say(&run);
            runs.push(run);
        }
        Ok(runs)
    }

    fn run(&self, work: &Work, device: Device, rates: &mut HashMap<&str, f64>) -> Result<Outcome, String> {
        let running = self.place.start(device, work.flows)?;
        let mut generator = self.connect(work, device)?;
        let outcome = self.measure(work, &mut generator, &running, rates);
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
    ) -> Result<Outcome, String> {
        let (warm_up, duration) = (self.warm_up, self.duration);
        Ok(match work.kind {
            Kind::Rate => {
                let opened = generator.open()?;
                Outcome::Rate { opened, rate: generator.measure(warm_up, duration, 0) }
            }
            Kind::SetUp => {
                let before = running.resident_bytes();
                let passed = generator.set_up()?;
                Outcome::SetUp { passed, grown_bytes: running.resident_bytes().saturating_sub(before) }
            }
            Kind::Connections => {
                let opened = generator.open()?;
                Outcome::Connections { opened, closed: generator.close()? }
            }
            Kind::Latency => {
                generator.open()?;
                let mpps = match rates.get(HALF) {
                    Some(mpps) => *mpps,
                    None => generator.measure(warm_up, duration / 2, 0).mpps / 2.0,
                };
                rates.insert(HALF, mpps);
                Outcome::Latency(generator.pace(mpps, duration, true))
            }
            Kind::Lossless => {
                generator.open()?;
                let most = 1.2 * generator.measure(warm_up, duration / 2, 0).mpps;
                Outcome::Lossless { mpps: generator.lossless_rate(most, duration / 4) }
            }
            Kind::AlgCost => {
                generator.open()?;
                let pairs = (0..ALG_PAIRS).map(|_| {
                    [0, ALG_PER_MILLE].map(|share| generator.measure(warm_up / 2, duration / 2, share))
                });
                Outcome::AlgCost { pairs: pairs.collect() }
            }
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
                "{:6.2} Mpps {:4.0} cycles, opened {:.2} M/s, lost {} bad {}, generator idle {:.0} %, undisturbed {:.0} %",
                rate.mpps,
                rate.cycles,
                opened.per_second / 1e6,
                rate.lost,
                rate.bad,
                rate.generator_idle * 100.0,
                rate.clean_slots * 100.0
            ),
            Outcome::SetUp { passed, .. } => format!(
                "{:6.2} M new sessions/s (all in all {:.2}), generator idle {:.0} %, undisturbed {:.0} %",
                passed.per_second / 1e6,
                passed.per_second_overall / 1e6,
                passed.generator_idle * 100.0,
                passed.clean_slots * 100.0
            ),
            Outcome::Connections { opened, closed } => {
                format!(
                    "{:6.2} M opened/s, {:.2} M closed/s",
                    opened.per_second / 1e6,
                    closed.per_second / 1e6
                )
            }
            Outcome::Latency(paced) => {
                let latency = paced.latency.as_ref().map_or(String::new(), |latency| {
                    format!(
                        "p50 {} p99 {} p99.9 {} max {} us",
                        latency.p50, latency.p99, latency.p999, latency.max
                    )
                });
                format!(
                    "{latency} at {:.2} Mpps, lost {} of {}",
                    paced.offered_mpps, paced.lost, paced.packets
                )
            }
            Outcome::Lossless { mpps } => format!("{mpps:6.2} Mpps without loss"),
            Outcome::AlgCost { pairs } => pairs
                .iter()
                .map(|[without, with]| {
                    format!(
                        "{:6.2} -> {:.2} Mpps, {:.3} through the ALG; ",
                        without.mpps, with.mpps, with.alg_mpps
                    )
                })
                .collect(),
        };
        format!("round {}  {:<24} {:<18} {what}", self.round, self.work, self.device.name())
    }

    /// Packets that were wrong or lost, where none may be.
    #[must_use]
    pub fn faults(&self) -> u64 {
        match &self.outcome {
            Outcome::Rate { opened, rate } => opened.bad + opened.lost + rate.bad + rate.lost,
            Outcome::SetUp { passed, .. } => passed.bad + passed.lost,
            Outcome::Connections { opened, closed } => opened.bad + opened.lost + closed.bad + closed.lost,
            Outcome::Latency(paced) => paced.bad,
            Outcome::Lossless { .. } => 0,
            Outcome::AlgCost { pairs } => pairs.iter().flatten().map(|rate| rate.bad + rate.lost).sum(),
        }
    }

    /// Whether the generator, not the device, set the pace.
    #[must_use]
    pub fn is_generator_bound(&self) -> bool {
        match &self.outcome {
            Outcome::Rate { rate, .. } => rate.generator_idle < LEAST_IDLE,
            Outcome::SetUp { passed, .. } => passed.generator_idle < LEAST_IDLE,
            Outcome::Connections { opened, .. } => opened.generator_idle < LEAST_IDLE,
            Outcome::AlgCost { pairs } => pairs.iter().flatten().any(|rate| rate.generator_idle < LEAST_IDLE),
            Outcome::Latency(_) | Outcome::Lossless { .. } => false,
        }
    }
}

const HALF: &str = "half of the clean rate";
/// Below that share the generator is taken for the bottleneck.
pub const LEAST_IDLE: f64 = 0.05;
const ALG_PER_MILLE: u32 = 10;
const ALG_PAIRS: usize = 3;
