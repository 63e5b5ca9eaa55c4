//! What is to be reached, and whether it was.
//!
//! Ratios are formed within a round, for both devices were measured within seconds of each other there. A goal is judged when
//! the rounds agree: when all of them, or, from five rounds on, all but the smallest and the largest, lie on one
//! side of the floor. It is not judged where the generator was the bottleneck.

use serde::Serialize;

use crate::bench::device::Device;
use crate::bench::session::{Outcome, Run};

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What is compared.
    pub name: &'static str,
    /// Its unit; a ratio without.
    pub unit: &'static str,
    /// Ahead of everyone.
    pub floor: f64,
    /// What is wanted.
    pub goal: f64,
    /// Whether more is better.
    pub is_rising: bool,
    /// One per round.
    pub values: Vec<f64>,
    /// What that says.
    pub verdict: Verdict,
}

/// Whether a goal was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The goal itself.
    Goal,
    /// The floor, not the goal.
    Floor,
    /// Not even the floor.
    Below,
    /// The generator was the bottleneck.
    GeneratorBound,
    /// Some rounds are above the floor and some below it.
    Noise,
    /// Nothing was measured.
    NotMeasured,
}

/// What is measured outside of [`Run`]s.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Extra {
    /// Two workers' rate by that of one, per round.
    pub scaling: Vec<f64>,
    /// Bytes per session, of all tables.
    pub bytes_per_session: Vec<f64>,
}

/// All goals, judged by `runs` and `extra`.
#[must_use]
pub fn judge(runs: &[Run], extra: &Extra) -> Vec<Goal> {
    let ratio = |work: &str| {
        Found::of(runs, |round| {
            let (nat, limit) = (round.rate(work, Device::Nat)?, round.rate(work, Device::Io)?);
            Some((nat.0 / limit.0, nat.1 || limit.1))
        })
    };
    let growth = Found::of(runs, |round| {
        let (large, small) = (round.rate("64 B, 1 M", Device::Nat)?, round.rate("64 B, 1 k", Device::Nat)?);
        Some((large.0 / small.0, large.1 || small.1))
    });
    let made = Found::of(runs, |round| {
        let run = round.run("64 B, 1 M, set-up", Device::NatBlocks)?;
        let Outcome::SetUp { passed, .. } = &run.outcome else { return None };
        Some((passed.per_second / 1e6, run.is_generator_bound()))
    });
    let latency = Found::of(runs, |round| {
        let p99 = |device| match &round.run("64 B, 1 k, latency", device)?.outcome {
            Outcome::Latency(paced) => Some(paced.latency.as_ref()?.p99),
            _ => None,
        };
        Some((p99(Device::Nat)? - p99(Device::Io)?, false))
    });
    let alg = Found::of(runs, |round| {
        let run = round.run("64 B, 1 k, 1 % SIP", Device::NatSip)?;
        let Outcome::AlgCost { pairs } = &run.outcome else { return None };
        let costs = pairs.iter().map(|[without, with]| (1.0 - with.mpps / without.mpps) * 100.0).collect();
        Some((median(costs)?, run.is_generator_bound()))
    });
    let plain = |values: &[f64]| Found { values: values.to_vec(), is_bound: false };
    let faults =
        if runs.is_empty() { Vec::new() } else { vec![runs.iter().map(Run::faults).sum::<u64>() as f64] };
    let rising = |name, unit, floor, goal, found: Found| Goal::new(name, unit, (floor, goal), true, found);
    let falling = |name, unit, floor, goal, found: Found| Goal::new(name, unit, (floor, goal), false, found);
    vec![
        rising("64 B, 1 k sessions / io128", "", 0.60, 0.70, ratio("64 B, 1 k")),
        rising("64 B, 64 k / io128", "", 0.52, 0.62, ratio("64 B, 64 k")),
        rising("64 B, 1 M / io128", "", 0.45, 0.55, ratio("64 B, 1 M")),
        rising("64 B, 16 M / io128", "", 0.35, 0.45, ratio("64 B, 16 M")),
        rising("IMIX, 1 M / io128", "", 0.55, 0.65, ratio("IMIX, 1 M")),
        rising("1514 B, 1 k / io128", "", 0.75, 0.88, ratio("1514 B, 1 k")),
        rising("growth: rate at 1 M / at 1 k", "", 0.70, 0.80, growth),
        rising("new sessions, blocks and records on", "M/s", 1.5, 2.5, made),
        falling("memory per session", "B", 200.0, 160.0, plain(&extra.bytes_per_session)),
        falling("added latency over testpmd, p99", "us", 30.0, 15.0, latency),
        rising("two workers / one", "", 1.7, 1.9, plain(&extra.scaling)),
        falling("1 % through an ALG costs the rest", "%", 5.0, 3.0, alg),
        falling("lost or wrong packets", "", 0.0, 0.0, plain(&faults)),
    ]
}

impl Goal {
    fn new(
        name: &'static str,
        unit: &'static str,
        (floor, goal): (f64, f64),
        is_rising: bool,
        found: Found,
    ) -> Self {
        let mut judged = found.values.clone();
        judged.sort_by(f64::total_cmp);
        if judged.len() >= ROUNDS_TO_TRIM {
            judged.pop();
            judged.remove(0);
        }
        let reaches = |value: f64, bound: f64| if is_rising { value >= bound } else { value <= bound };
        let above = judged.iter().filter(|value| reaches(**value, floor)).count();
        let verdict = match median(found.values.clone()) {
            None => Verdict::NotMeasured,
            Some(_) if found.is_bound => Verdict::GeneratorBound,
            Some(_) if above != 0 && above != judged.len() => Verdict::Noise,
            Some(value) if reaches(value, goal) => Verdict::Goal,
            Some(_) if above != 0 => Verdict::Floor,
            Some(_) => Verdict::Below,
        };
        Self { name, unit, floor, goal, is_rising, values: found.values, verdict }
    }
}

impl Verdict {
    /// In a table.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Goal => "PASS, goal met",
            Self::Floor => "PASS, floor met",
            Self::Below => "FAIL",
            Self::GeneratorBound => "not judged: generator was the bottleneck",
            Self::Noise => "not judged: rounds disagree",
            Self::NotMeasured => "not measured",
        }
    }
}

/// The values of a goal, one a round.
struct Found {
    values: Vec<f64>,
    /// Whether the generator was the bottleneck in half of the rounds or more.
    is_bound: bool,
}

impl Found {
    /// Asks `value` of each round, which also says whether the generator was the bottleneck.
    fn of(runs: &[Run], value: impl Fn(Round<'_>) -> Option<(f64, bool)>) -> Self {
        let last = runs.iter().map(|run| run.round).max().unwrap_or(0);
        let found: Vec<_> = (1..=last).filter_map(|number| value(Round { runs, number })).collect();
        let bound = found.iter().filter(|(_, is_bound)| *is_bound).count();
        Self {
            values: found.iter().map(|(value, _)| *value).collect(),
            is_bound: 2 * bound >= found.len().max(1),
        }
    }
}

/// The runs of one round.
#[derive(Clone, Copy)]
struct Round<'a> {
    runs: &'a [Run],
    number: u32,
}

impl<'a> Round<'a> {
    fn run(self, work: &str, device: Device) -> Option<&'a Run> {
        self.runs.iter().find(|run| run.round == self.number && run.device == device && run.work == work)
    }

    /// Mpps, and whether the generator was the bottleneck.
    fn rate(self, work: &str, device: Device) -> Option<(f64, bool)> {
        let run = self.run(work, device)?;
        let Outcome::Rate { rate, .. } = &run.outcome else { return None };
        Some((rate.mpps, run.is_generator_bound()))
    }
}

/// The one in the middle, or the mean of both. `None` when there are none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((upper + values.get(middle - 1)?) / 2.0) }
}

const ROUNDS_TO_TRIM: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::measure::{Passed, Throughput};

    fn run(round: u32, work: &str, device: Device, mpps: f64, idle: f64) -> Run {
        let opened = Passed {
            flows: 1,
            per_second: 1.0,
            per_second_overall: 1.0,
            bad: 0,
            lost: 0,
            generator_idle: 0.5,
            clean_slots: 1.0,
        };
        let rate = Throughput {
            mpps,
            cycles: 0.0,
            cycles_p10: 0.0,
            cycles_p90: 0.0,
            mpps_overall: 0.0,
            alg_mpps: 0.0,
            good: 1,
            bad: 0,
            lost: 0,
            generator_idle: idle,
            clean_slots: 1.0,
            fault: None,
        };
        let outcome = Outcome::Rate { opened, rate };
        Run { round, work: work.to_owned(), device, flows: 1, outcome }
    }

    fn verdict(ratios: &[f64], idle: f64) -> Verdict {
        let runs: Vec<Run> = (1..)
            .zip(ratios)
            .flat_map(|(round, ratio)| {
                [
                    run(round, "64 B, 1 k", Device::Io, 10.0, idle),
                    run(round, "64 B, 1 k", Device::Nat, 10.0 * ratio, 0.5),
                ]
            })
            .collect();
        judge(&runs, &Extra::default()).swap_remove(0).verdict
    }

    #[test]
    fn a_goal_is_judged_only_where_rounds_agree_and_the_generator_waited() {
        for (ratios, idle, expected) in [
            (&[0.71, 0.72, 0.70][..], 0.3, Verdict::Goal),
            (&[0.61, 0.72, 0.65], 0.3, Verdict::Floor),
            (&[0.51, 0.52, 0.59], 0.3, Verdict::Below),
            (&[0.51, 0.62, 0.63], 0.3, Verdict::Noise),
            (&[0.40, 0.62, 0.63, 0.64, 0.61], 0.3, Verdict::Floor),
            (&[0.71, 0.72, 0.70], 0.04, Verdict::GeneratorBound),
            (&[], 0.3, Verdict::NotMeasured),
        ] {
            assert_eq!(verdict(ratios, idle), expected, "{ratios:?} {idle}");
        }
    }

    #[test]
    fn one_lost_packet_fails() {
        let mut lossy = run(1, "64 B, 1 k", Device::Nat, 1.0, 0.5);
        let Outcome::Rate { rate, .. } = &mut lossy.outcome else { unreachable!() };
        rate.lost = 1;
        let goals = judge(&[lossy], &Extra::default());
        assert_eq!(goals.last().unwrap().verdict, Verdict::Below);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
