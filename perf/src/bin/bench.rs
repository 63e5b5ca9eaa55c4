//! `bench`: measures algate beside the limit, prints a table of goals, writes `perf/results`.
//!
//! `perf/run` builds and starts it, with hugepages; see there and `perf/README.md`. Exit codes: 0 all goals that were measured
//! are reached, 1 some are not or packets were lost or wrong, 2 it could not be measured, 3 something could not be judged.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use algate::huge_pages::HugePages;
use algate_perf::bench::device::{Device, Place};
use algate_perf::bench::goals::Extra;
use algate_perf::bench::plot;
use algate_perf::bench::report::{Conclusion, Machine, Report};
use algate_perf::bench::scaling::{self, Share};
use algate_perf::bench::session::{Plan, Run};
use algate_perf::bench::work::{Kind, Suite, Work};
use algate_perf::clock::ticks_per_nano;
use algate_perf::generator::flow::Sizes;
use clap::Parser;
use core_affinity::CoreId;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

/// Measures algate beside the limit (dpdk-testpmd on the same links), and judges it.
#[derive(Debug, Parser)]
#[command(name = "perf/run")]
struct Options {
    /// What tells most, three rounds, under five minutes (this is the default)
    #[arg(long, conflicts_with_all = ["full", "kind"])]
    quick: bool,
    /// Everything, five rounds, about an hour and a half
    #[arg(long, conflicts_with = "kind")]
    full: bool,
    /// One kind of work instead of a suite
    #[arg(long)]
    kind: Option<Kind>,
    /// With --kind: numbers of flows
    #[arg(long, value_delimiter = ',', default_value = "1000", requires = "kind")]
    flows: Vec<u32>,
    /// With --kind: length of frames, 64 to 1514, or imix
    #[arg(long, default_value = "64", value_parser = sizes, requires = "kind")]
    bytes: Sizes,
    /// With --kind: TCP instead of UDP
    #[arg(long, requires = "kind")]
    tcp: bool,
    /// With --kind: devices, in turn
    #[arg(long, value_delimiter = ',', value_parser = device, requires = "kind")]
    devices: Vec<Device>,
    /// Rounds
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of a measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Round trips in flight, at most 1024
    #[arg(long, default_value_t = 1024)]
    window: usize,
    /// Print, but write nothing to perf/results
    #[arg(long)]
    no_save: bool,
    /// Where sockets and logs of the devices go; perf/run makes and removes it
    #[arg(long, hide = true)]
    directory: PathBuf,
    /// Whether hugepages are there; perf/run looks
    #[arg(long, hide = true)]
    hugepages: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(Conclusion::Passed) => ExitCode::SUCCESS,
        Ok(Conclusion::Failed) => ExitCode::from(1),
        Ok(Conclusion::Undecided) => ExitCode::from(3),
        Err(sentence) => {
            eprintln!("perf/run: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Conclusion, String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let [own, .., device] = cores.as_slice() else {
        return Err("two cores are needed: one for the generator, one for the device under test".to_owned());
    };
    core_affinity::set_for_current(*own);
    let own_path = std::env::current_exe().map_err(|error| error.to_string())?;
    let place = Place {
        directory: options.directory.clone(),
        algate: own_path.with_file_name("algate"),
        has_hugepages: options.hugepages,
        cores: [own.id, device.id],
    };
    let duration = Duration::from_secs_f64(options.seconds);
    let plan = Plan { place, window: options.window.clamp(1, 1024), warm_up: WARM_UP, duration };
    let (suite, works) = works(options);
    let rounds = options.rounds.unwrap_or(suite.map_or(3, Suite::rounds));
    let (mut runs, mut extra, start) = (Vec::new(), Extra::default(), Instant::now());
    for round in 1..=rounds {
        for work in &works {
            runs.extend(plan.round(work, round, |run: &Run| {
                println!("{:5.0} s  {}", start.elapsed().as_secs_f64(), run.line());
            })?);
        }
        if suite == Some(Suite::Full) {
            measure_in_process(&mut extra, [*own, *device], duration, round);
        }
    }
    if suite.is_some() {
        extra.bytes_per_session = bytes_per_session(&own_path);
    }
    let report = Report::new(machine(cores.len(), options.hugepages), runs, extra);
    println!();
    let mut text = report.to_markdown();
    print!("{text}");
    if !options.no_save {
        let name = match suite {
            Some(Suite::Quick) => "quick",
            Some(Suite::Full) => "full",
            None => "part",
        };
        save(&report, &mut text, name)?;
    }
    Ok(report.conclusion())
}

fn works(options: &Options) -> (Option<Suite>, Vec<Work>) {
    let Some(kind) = options.kind else {
        let suite = if options.full { Suite::Full } else { Suite::Quick };
        return (Some(suite), suite.works());
    };
    let work = |flows: &u32| {
        let work = Work::new(kind, *flows, options.bytes);
        let work = if options.tcp { work.over_tcp() } else { work };
        if options.devices.is_empty() { work } else { work.of(&options.devices) }
    };
    (None, options.flows.iter().map(work).collect())
}

/// Two workers, on the cores that generator and device have otherwise.
fn measure_in_process(extra: &mut Extra, cores: [CoreId; 2], duration: Duration, round: u32) {
    for share in [Share::Own, Share::Any] {
        let scaling = scaling::measure(1 << 16, share, cores, duration, ticks_per_nano());
        println!(
            "         round {round}  two workers, 64 k flows, {share:?}: {:.2} -> {:.2} Mpps, {:.2} times",
            scaling.one,
            scaling.two,
            scaling.factor()
        );
        if share == Share::Own {
            extra.scaling.push(scaling.factor());
        }
    }
}

/// What `fill` says of a million sessions, each with a mapping of its own.
fn bytes_per_session(own_path: &Path) -> Vec<f64> {
    let output = Command::new(own_path.with_file_name("fill")).arg((1 << 20).to_string()).output();
    let text = output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let of_line = |line: &str| line.split_whitespace().rev().nth(2)?.parse().ok();
    text.lines().skip(1).filter_map(of_line).collect()
}

fn machine(cores: usize, has_hugepages: bool) -> Machine {
    let first_line = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':'));
        value.map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let is_changed = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]) + if is_changed { "+" } else { "" };
    let machine = format!(
        "{}, {} cores, Linux {}, DPDK {}, TSC {:.2} GHz, hugepages: {}",
        first_line("/proc/cpuinfo", "model name"),
        cores,
        said("uname", &["-r"]),
        said("pkg-config", &["--modversion", "libdpdk"]),
        ticks_per_nano(),
        if has_hugepages { "yes" } else { "no" },
    );
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    Machine { date: said("date", &["-u", "+%Y-%m-%dT%H:%MZ"]), commit, machine, load }
}

fn save(report: &Report, text: &mut String, suite: &str) -> Result<(), String> {
    let day = report.date.get(..10).unwrap_or_default();
    let name = format!("{day}-{suite}");
    let path = |ending: &str| PathBuf::from(format!("perf/results/{name}.{ending}"));
    let write = |ending: &str, content: &str| {
        let path = path(ending);
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written: {}", path.display());
        Ok::<_, String>(())
    };
    std::fs::create_dir_all("perf/results").map_err(|error| format!("perf/results: {error}"))?;
    let title = format!("algate {}, {}", report.commit, report.date);
    if let Some(svg) = plot::draw(&title, &report.runs) {
        write("svg", &svg)?;
        *text += &format!("![throughput against flows, and latency]({name}.svg)\n");
    }
    let json = serde_json::to_string(report).map_err(|error| error.to_string())?;
    write("json", &(json.replace("{\"round\"", "\n{\"round\"") + "\n"))?;
    write("md", text)
}

fn sizes(word: &str) -> Result<Sizes, String> {
    if word == "imix" {
        return Ok(Sizes::Imix);
    }
    let bytes = word.parse().ok().filter(|bytes| (64..=1514).contains(bytes));
    bytes.map(Sizes::Fixed).ok_or_else(|| "64 to 1514, or imix".to_owned())
}

fn device(word: &str) -> Result<Device, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

const WARM_UP: Duration = Duration::from_millis(500);
