//! Writes down what was measured: tables in markdown, everything in JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::goals::{Extra, Goal, Verdict, judge, median};
use crate::bench::scaling::Scaling;
use crate::bench::session::{Outcome, Run};
use crate::core_watch::Reading;
use crate::generator::paced::Paced;

/// A whole bench.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When, in UTC.
    pub date: String,
    /// Of the program.
    pub commit: String,
    /// Processor, cores, kernel, DPDK, pages.
    pub machine: String,
    /// Load averages at the end.
    pub load: String,
    /// Additions a cycle of the device's core at best, and four if that is more: what a whole core is; see [`crate::core_watch`].
    pub whole_core: f64,
    /// Judged.
    pub goals: Vec<Goal>,
    /// Measured.
    pub runs: Vec<Run>,
    /// Measured otherwise.
    pub extra: Extra,
}

/// What a bench says in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// All that was measured reaches its floor.
    Passed,
    /// Something does not, or a packet was lost or wrong.
    Failed,
    /// Nothing failed, but something could not be judged.
    Undecided,
}

impl Report {
    /// Of `runs`, judged.
    #[must_use]
    pub fn new(machine: Machine, runs: Vec<Run>, extra: Extra) -> Self {
        let goals = judge(&runs, &extra);
        let Machine { date, commit, machine, load } = machine;
        Self { date, commit, machine, load, whole_core: Reading::best(), goals, runs, extra }
    }

    /// Whether the goals that were measured are reached.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let has = |wanted: &[Verdict]| self.goals.iter().any(|goal| wanted.contains(&goal.verdict));
        if has(&[Verdict::Below]) || !self.extra.broken.is_empty() {
            Conclusion::Failed
        } else if has(&[Verdict::GeneratorBound, Verdict::SharedCore, Verdict::Noise]) {
            Conclusion::Undecided
        } else {
            Conclusion::Passed
        }
    }

    /// All tables.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let rounds = self.runs.iter().map(|run| run.round).max().unwrap_or(0);
        let mut text = String::new();
        let _ = writeln!(text, "# algate beside the limit\n");
        let _ = writeln!(
            text,
            "{}, commit {}. {}. Load at the end: {}. {rounds} rounds, interleaved; median (smallest..largest). Only rounds in which \
             the devices had a whole core ({:.1} additions a cycle), and the generator some idle time, are judged, where there are three.\n",
            self.date, self.commit, self.machine, self.load, self.whole_core
        );
        self.write_goals(&mut text);
        for broken in &self.extra.broken {
            let _ = writeln!(text, "Broke off: {broken}\n");
        }
        self.write_rates(&mut text);
        self.write_others(&mut text);
        text
    }

    /// The table of goals.
    pub fn write_goals(&self, text: &mut String) {
        let _ = writeln!(text, "| work | measured | rounds | floor | goal | |\n|---|---|---|---|---|---|");
        for goal in &self.goals {
            let digits = match goal.unit {
                "" if goal.floor > 0.0 => 2,
                "M/s" => 2,
                "" | "B" => 0,
                _ => 1,
            };
            let unit = if goal.unit.is_empty() { String::new() } else { format!(" {}", goal.unit) };
            let measured = spread(&goal.values, digits);
            let bound = |value: f64| format!("{value:.digits$}{unit}");
            let _ = writeln!(
                text,
                "| {} | {measured}{unit} | {} | {} | {} | {} |",
                goal.name,
                rounds_of(goal),
                bound(goal.floor),
                bound(goal.goal),
                goal.verdict.text()
            );
        }
        text.push('\n');
    }

    fn write_rates(&self, text: &mut String) {
        let mut rows = String::new();
        for (work, device, runs) in self.groups() {
            let rates: Vec<_> = runs
                .iter()
                .filter_map(|run| match &run.outcome {
                    Outcome::Rate { opened, rate } => Some((opened, rate)),
                    _ => None,
                })
                .collect();
            if rates.is_empty() {
                continue;
            }
            let all = |value: &dyn Fn(&(&_, &_)) -> f64| rates.iter().map(value).collect::<Vec<f64>>();
            let _ = writeln!(
                rows,
                "| {work} | {device} | {} | {} | {} | {} % | {} % | {} % | {} % | {} |",
                spread(&all(&|(_, rate)| rate.mpps), 2),
                spread(&all(&|(_, rate)| rate.cycles), 0),
                spread(&all(&|(opened, _)| opened.per_second / 1e6), 2),
                spread(&all(&|(_, rate)| rate.generator_idle * 100.0), 0),
                spread(&all(&|(_, rate)| rate.core.share * 100.0), 0),
                spread(&all(&|(_, rate)| rate.core.whole_slots * 100.0), 0),
                spread(&all(&|(_, rate)| rate.core.clean_slots * 100.0), 0),
                runs.iter().map(|run| run.faults()).sum::<u64>(),
            );
        }
        if !rows.is_empty() {
            let _ = writeln!(
                text,
                "| work | device | Mpps | cycles a packet | flows opened, M/s | generator idle | core | whole for | undisturbed | lost or bad |\n\
                 |---|---|---|---|---|---|---|---|---|---|\n{rows}"
            );
        }
    }

    fn write_others(&self, text: &mut String) {
        let mut rows = String::new();
        for (work, device, runs) in self.groups() {
            let all = |value: &dyn Fn(&Outcome) -> Option<f64>| {
                runs.iter().filter_map(|run| value(&run.outcome)).collect::<Vec<f64>>()
            };
            let latency = |pick: fn(&crate::generator::latency::Latency) -> f64| {
                all(&|outcome| match outcome {
                    Outcome::Latency(paced) => paced.latency.as_ref().map(pick),
                    _ => None,
                })
            };
            let paced = |pick: fn(&Paced) -> f64| {
                all(&|outcome| match outcome {
                    Outcome::Latency(paced) => Some(pick(paced)),
                    _ => None,
                })
            };
            let what = match runs.first().map(|run| &run.outcome) {
                Some(Outcome::SetUp { .. }) => format!(
                    "{} M new sessions/s",
                    spread(
                        &all(&|outcome| match outcome {
                            Outcome::SetUp { passed, .. } => Some(passed.per_second / 1e6),
                            _ => None,
                        }),
                        2
                    )
                ),
                Some(Outcome::Connections { .. }) => {
                    let rate = |is_opening: bool| {
                        spread(
                            &all(&|outcome| match outcome {
                                Outcome::Connections { opened, .. } if is_opening => {
                                    Some(opened.per_second / 1e6)
                                }
                                Outcome::Connections { closed, .. } => Some(closed.per_second / 1e6),
                                _ => None,
                            }),
                            2,
                        )
                    };
                    format!("{} M opened/s, {} M closed/s", rate(true), rate(false))
                }
                Some(Outcome::Latency(_)) => format!(
                    "at {} Mpps: p50 {}, p99 {}, p99.9 {}, max {} us; {} % of slices count, {} % of packets lost",
                    spread(&paced(|paced| paced.offered_mpps), 1),
                    spread(&latency(|latency| latency.p50), 1),
                    spread(&latency(|latency| latency.p99), 1),
                    spread(&latency(|latency| latency.p999), 1),
                    spread(&latency(|latency| latency.max), 0),
                    spread(&paced(|paced| paced.slices.counted() * 100.0), 0),
                    spread(&paced(|paced| 100.0 * paced.lost as f64 / (paced.packets as f64).max(1.0)), 4),
                ),
                Some(Outcome::Lossless(_)) => format!(
                    "{} Mpps",
                    spread(
                        &all(&|outcome| match outcome {
                            Outcome::Lossless(found) => found.map(|found| found.mpps),
                            _ => None,
                        }),
                        2
                    )
                ),
                Some(Outcome::AlgCost { .. }) => {
                    let rate = |at: usize| {
                        spread(
                            &all(&|outcome| match outcome {
                                Outcome::AlgCost { pairs, .. } => {
                                    median(pairs.iter().filter_map(|pair| Some(pair.get(at)?.mpps)).collect())
                                }
                                _ => None,
                            }),
                            2,
                        )
                    };
                    format!(
                        "read by the worker itself: the rest {} Mpps without, {} Mpps with",
                        rate(0),
                        rate(1)
                    )
                }
                Some(Outcome::TwoWorkers { .. }) => {
                    let rate = |pick: fn(&Scaling) -> f64, is_own: bool| {
                        spread(
                            &all(&|outcome| match outcome {
                                Outcome::TwoWorkers { own, any } => {
                                    Some(pick(if is_own { own } else { any }))
                                }
                                _ => None,
                            }),
                            2,
                        )
                    };
                    format!(
                        "in process: one {} Mpps, two {} Mpps together, {} times; where both have all flows {} times",
                        rate(|scaling| scaling.one, true),
                        rate(|scaling| scaling.two, true),
                        rate(Scaling::factor, true),
                        rate(Scaling::factor, false),
                    )
                }
                Some(Outcome::Rate { .. }) | None => continue,
            };
            let _ = writeln!(rows, "| {work} | {device} | {what} |");
        }
        if !rows.is_empty() {
            let _ = writeln!(text, "| work | device | |\n|---|---|---|\n{rows}");
        }
    }

    /// Runs of one work and device, in the order of the first round.
    fn groups(&self) -> Vec<(&str, &'static str, Vec<&Run>)> {
        let mut groups: Vec<(&str, &'static str, Vec<&Run>)> = Vec::new();
        for run in &self.runs {
            let (work, device) = (run.work.as_str(), run.device.name());
            match groups.iter_mut().find(|group| (group.0, group.1) == (work, device)) {
                Some((_, _, runs)) => runs.push(run),
                None => groups.push((work, device, vec![run])),
            }
        }
        groups
    }
}

/// When and where.
#[derive(Debug, Clone)]
pub struct Machine {
    /// When, in UTC.
    pub date: String,
    /// Of the program.
    pub commit: String,
    /// Processor, cores, kernel, DPDK, pages.
    pub machine: String,
    /// Load averages.
    pub load: String,
}

/// How many rounds of a goal count.
fn rounds_of(goal: &Goal) -> String {
    match goal.rounds {
        [_, 0] => "-".to_owned(),
        [whole, all] if whole == all => all.to_string(),
        [whole, all] => format!("{whole} of {all}"),
    }
}

/// "median (smallest..largest)".
fn spread(values: &[f64], digits: usize) -> String {
    let Some(middle) = median(values.to_vec()) else { return "-".to_owned() };
    if values.len() == 1 {
        return format!("{middle:.digits$}");
    }
    let (least, most) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
    format!("{middle:.digits$} ({least:.digits$}..{most:.digits$})")
}
