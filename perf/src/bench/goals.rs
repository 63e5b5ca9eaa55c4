//! What is to be reached, and whether it was.
//!
//! Ratios are formed within a round, for both devices were measured within seconds of each other there. Only rounds count in which
//! every device had a whole core ([`crate::core_watch`]) and the generator was not the bottleneck, which it is when others use its core;
//! the others are repeated ([`wanting`]), and where fewer than three are left of more, nothing is judged. A goal is judged when the
//! rounds agree: when all of them, or, from five rounds on, all but the smallest and the largest, lie on one side of the floor. Where the
//! generator was the bottleneck in half of the rounds with a whole core or more, nothing is judged: those that are left would be the
//! limit's slow ones.

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
    /// What it is measured with.
    #[serde(skip)]
    pub works: &'static [&'static str],
    /// One for each round that counts; where they are too few to judge, of all rounds.
    pub values: Vec<f64>,
    /// Rounds that count, and all rounds.
    pub rounds: [usize; 2],
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
    /// Others used the device's core, or the generator's, in too many rounds.
    SharedCore,
    /// Some rounds are above the floor and some below it.
    Noise,
    /// Nothing was measured.
    NotMeasured,
}

/// What is measured outside of [`Run`]s.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Extra {
    /// Bytes per session, of all tables: UDP with single ports, UDP with port blocks, TCP with port blocks.
    pub bytes_per_session: Vec<f64>,
    /// Works that broke off, and why: a device that does not start, a flow that does not get through.
    pub broken: Vec<String>,
}

/// All goals, judged by `runs` and `extra`.
#[must_use]
pub fn judge(runs: &[Run], extra: &Extra) -> Vec<Goal> {
    let ratio = |works: &'static [&'static str]| {
        Found::of(runs, works, |round| {
            Some(round.rate(works.first()?, Device::Nat)? / round.rate(works.first()?, Device::Io)?)
        })
    };
    let growth = Found::of(runs, &["64 B, 1 M", "64 B, 1 k"], |round| {
        Some(round.rate("64 B, 1 M", Device::Nat)? / round.rate("64 B, 1 k", Device::Nat)?)
    });
    let made = Found::of(runs, &["64 B, 1 M, set-up"], |round| {
        let Outcome::SetUp { passed, .. } = round.outcome("64 B, 1 M, set-up", Device::NatBlocks)? else {
            return None;
        };
        Some(passed.per_second / 1e6)
    });
    let latency = Found::of(runs, &["64 B, 1 k, latency"], |round| {
        let p99 = |device| match round.outcome("64 B, 1 k, latency", device)? {
            Outcome::Latency(paced) => Some(paced.latency.as_ref()?.p99),
            _ => None,
        };
        Some(p99(Device::Nat)? - p99(Device::Io)?)
    });
    let alg = Found::of(runs, &["64 B, 1 k, 1 % SIP"], |round| {
        let Outcome::AlgCost { alg_core, .. } = round.outcome("64 B, 1 k, 1 % SIP", Device::NatSip)? else {
            return None;
        };
        alg_core.iter().copied().reduce(f64::max)
    });
    let scaling = Found::of(runs, &["64 B, 64 k, two workers"], |round| {
        let Outcome::TwoWorkers { own, .. } = round.outcome("64 B, 64 k, two workers", Device::Nat)? else {
            return None;
        };
        Some(own.factor())
    });
    let memory = Found::plain(extra.bytes_per_session.clone());
    let faults = Found::plain(match runs {
        [] => Vec::new(),
        _ => vec![runs.iter().map(Run::faults).sum::<u64>() as f64],
    });
    let rising = |name, unit, floor, goal, found: Found| Goal::new(name, unit, (floor, goal), true, found);
    let falling = |name, unit, floor, goal, found: Found| Goal::new(name, unit, (floor, goal), false, found);
    vec![
        rising("64 B, 1 k sessions / io128", "", 0.60, 0.70, ratio(&["64 B, 1 k"])),
        rising("64 B, 64 k / io128", "", 0.52, 0.62, ratio(&["64 B, 64 k"])),
        rising("64 B, 1 M / io128", "", 0.45, 0.55, ratio(&["64 B, 1 M"])),
        rising("64 B, 16 M / io128", "", 0.35, 0.45, ratio(&["64 B, 16 M"])),
        rising("IMIX, 1 M / io128", "", 0.55, 0.65, ratio(&["IMIX, 1 M"])),
        rising("1514 B, 1 k / io128", "", 0.75, 0.88, ratio(&["1514 B, 1 k"])),
        rising("growth: rate at 1 M / at 1 k", "", 0.70, 0.80, growth),
        rising("new sessions, blocks and records on", "M/s", 1.5, 2.5, made),
        falling("memory per session", "B", 200.0, 160.0, memory),
        falling("added latency over testpmd, p99", "us", 30.0, 15.0, latency),
        rising("two workers / one", "", 1.7, 1.9, scaling),
        falling("1 % through an ALG core costs the rest", "%", 5.0, 3.0, alg),
        falling("lost or wrong packets", "", 0.0, 0.0, faults),
    ]
}

/// The works that need another round: those of goals of which fewer than `rounds` rounds count, though more were measured.
#[must_use]
pub fn wanting(runs: &[Run], rounds: usize) -> Vec<&'static str> {
    let goals = judge(runs, &Extra::default());
    let is_wanting = |goal: &&Goal| goal.rounds[0] < rounds && goal.rounds[1] > goal.rounds[0];
    goals.iter().filter(is_wanting).flat_map(|goal| goal.works).copied().collect()
}

impl Goal {
    fn new(
        name: &'static str,
        unit: &'static str,
        (floor, goal): (f64, f64),
        is_rising: bool,
        found: Found,
    ) -> Self {
        let Found { works, rounds, all, counted, bound } = found;
        let rounds = [counted.len(), rounds];
        let is_enough = rounds[0] == rounds[1] || rounds[0] >= LEAST_ROUNDS;
        let is_bound = bound > 0 && bound >= counted.len();
        let values = if is_enough { counted } else { all };
        let mut judged = values.clone();
        judged.sort_by(f64::total_cmp);
        if judged.len() >= ROUNDS_TO_TRIM {
            judged.pop();
            judged.remove(0);
        }
        let reaches = |value: f64, bound: f64| if is_rising { value >= bound } else { value <= bound };
        let above = judged.iter().filter(|value| reaches(**value, floor)).count();
        let verdict = match median(values.clone()) {
            _ if is_bound => Verdict::GeneratorBound,
            _ if !is_enough => Verdict::SharedCore,
            None => Verdict::NotMeasured,
            Some(_) if above != 0 && above != judged.len() => Verdict::Noise,
            Some(value) if reaches(value, goal) => Verdict::Goal,
            Some(_) if above != 0 => Verdict::Floor,
            Some(_) => Verdict::Below,
        };
        Self { name, unit, floor, goal, is_rising, works, values, rounds, verdict }
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
            Self::SharedCore => "not judged: a core was shared",
            Self::Noise => "not judged: rounds disagree",
            Self::NotMeasured => "not measured",
        }
    }
}

/// The values of a goal.
struct Found {
    works: &'static [&'static str],
    /// Rounds in which it was measured.
    rounds: usize,
    /// One a round, where there is any.
    all: Vec<f64>,
    /// Of rounds that count.
    counted: Vec<f64>,
    /// Rounds that do not, for the generator was the bottleneck, though every device had a whole core.
    bound: usize,
}

impl Found {
    /// Asks `value` of each round.
    fn of(runs: &[Run], works: &'static [&'static str], value: impl Fn(Round<'_>) -> Option<f64>) -> Self {
        let last = runs.iter().map(|run| run.round).max().unwrap_or(0);
        let mut found = Self { works, rounds: 0, all: Vec::new(), counted: Vec::new(), bound: 0 };
        for round in (1..=last).map(|number| Round { runs, number }) {
            let is_meant = |run: &&Run| {
                run.round == round.number
                    && works.contains(&&*run.work)
                    && !matches!(run.device, Device::Mac | Device::Swap | Device::Route)
            };
            let of_round: Vec<&Run> = runs.iter().filter(is_meant).collect();
            let is_measured = |work: &&str| of_round.iter().any(|run| run.work == **work);
            found.rounds += usize::from(works.iter().all(is_measured));
            let Some(value) = value(round) else { continue };
            found.all.push(value);
            if !of_round.iter().all(|run| run.is_core_whole()) {
                continue;
            }
            if of_round.iter().any(|run| run.is_generator_bound()) {
                found.bound += 1;
            } else {
                found.counted.push(value);
            }
        }
        found
    }

    /// Values that depend on nobody's core.
    fn plain(values: Vec<f64>) -> Self {
        Self { works: &[], rounds: values.len(), all: values.clone(), counted: values, bound: 0 }
    }
}

/// The runs of one round.
#[derive(Clone, Copy)]
struct Round<'a> {
    runs: &'a [Run],
    number: u32,
}

impl<'a> Round<'a> {
    fn outcome(self, work: &str, device: Device) -> Option<&'a Outcome> {
        let is_meant = |run: &&Run| run.round == self.number && run.device == device && run.work == work;
        self.runs.iter().find(is_meant).map(|run| &run.outcome)
    }

    /// Mpps.
    fn rate(self, work: &str, device: Device) -> Option<f64> {
        match self.outcome(work, device)? {
            Outcome::Rate { rate, .. } => Some(rate.mpps),
            _ => None,
        }
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
/// Rounds that count, where others do not.
const LEAST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::measure::{CoreShare, Passed, Throughput};

    fn run(round: u32, work: &str, device: Device, mpps: f64, (idle, is_whole): (f64, bool)) -> Run {
        let core = CoreShare { is_whole, share: 1.0, whole_slots: 1.0, clean_slots: 1.0 };
        let opened = Passed {
            flows: 1,
            per_second: 1.0,
            per_second_overall: 1.0,
            bad: 0,
            lost: 0,
            generator_idle: 0.5,
            core,
        };
        let rate = Throughput {
            mpps,
            cycles: 0.0,
            cycles_p10: 0.0,
            cycles_p90: 0.0,
            mpps_overall: 0.0,
            alg_share: 0.0,
            good: 1,
            bad: 0,
            lost: 0,
            generator_idle: idle,
            core,
            fault: None,
        };
        let (work, adds_per_cycle, hop_nanos) = (work.to_owned(), [4.0; 2], [25.0; 2]);
        let outcome = Outcome::Rate { opened, rate };
        Run { round, work, device, flows: 1, adds_per_cycle, hop_nanos, outcome }
    }

    /// Rounds of 1,000 sessions with these ratios, each with a whole core or not.
    fn rounds(ratios: &[(f64, bool)], idle: f64) -> Vec<Run> {
        let pair = |(round, (ratio, is_whole)): (u32, &(f64, bool))| {
            [
                run(round, "64 B, 1 k", Device::Io, 10.0, (idle, true)),
                run(round, "64 B, 1 k", Device::Nat, 10.0 * ratio, (0.5, *is_whole)),
            ]
        };
        (1..).zip(ratios).flat_map(pair).collect()
    }

    fn first_goal(runs: &[Run]) -> Goal {
        judge(runs, &Extra::default()).swap_remove(0)
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
            (&[0.71], 0.04, Verdict::GeneratorBound),
            (&[], 0.3, Verdict::NotMeasured),
        ] {
            let whole: Vec<_> = ratios.iter().map(|ratio| (*ratio, true)).collect();
            assert_eq!(first_goal(&rounds(&whole, idle)).verdict, expected, "{ratios:?} {idle}");
        }
    }

    #[test]
    fn rounds_on_half_a_core_do_not_count_and_are_repeated() {
        let (fast, slow) = ((0.72, true), (0.40, false));
        for (ratios, verdict, counted, is_wanting) in [
            (&[fast, fast, fast][..], Verdict::Goal, 3, false),
            (&[fast, slow, fast], Verdict::SharedCore, 2, true),
            (&[fast, slow, fast, fast], Verdict::Goal, 3, false),
            (&[slow, slow, slow], Verdict::SharedCore, 0, true),
        ] {
            let runs = rounds(ratios, 0.3);
            let goal = first_goal(&runs);
            assert_eq!((goal.verdict, goal.rounds), (verdict, [counted, ratios.len()]), "{ratios:?}");
            let values = if verdict == Verdict::Goal { counted } else { ratios.len() };
            assert_eq!(goal.values.len(), values, "{ratios:?}");
            assert_eq!(wanting(&runs, 3).contains(&"64 B, 1 k"), is_wanting, "{ratios:?}");
        }
    }

    #[test]
    fn rounds_in_which_the_generator_was_the_bottleneck_are_repeated() {
        // Ratios of rounds, and of how many of them the generator was the bottleneck.
        for (count, bound, verdict, is_wanting) in [
            (3, 0, Verdict::Floor, false),
            (3, 1, Verdict::SharedCore, true),
            (4, 1, Verdict::Floor, false),
            (5, 2, Verdict::Floor, false),
            (6, 3, Verdict::GeneratorBound, false),
        ] {
            let mut runs = rounds(&vec![(0.65, true); count], 0.3);
            for run in runs.iter_mut().filter(|run| run.device == Device::Io).take(bound) {
                let Outcome::Rate { rate, .. } = &mut run.outcome else { unreachable!() };
                rate.generator_idle = 0.01;
            }
            let goal = first_goal(&runs);
            assert_eq!((goal.verdict, goal.rounds), (verdict, [count - bound, count]), "{count} {bound}");
            assert_eq!(wanting(&runs, 3).contains(&"64 B, 1 k"), is_wanting, "{count} {bound}");
        }
    }

    #[test]
    fn one_lost_packet_fails() {
        let mut lossy = run(1, "64 B, 1 k", Device::Nat, 1.0, (0.5, true));
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
