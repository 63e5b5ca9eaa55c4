//! `bench`: measures algate beside the limit, prints a table of goals, writes `perf/results`.
//!
//! `perf/run` builds and starts it, with hugepages; see there and `perf/README.md`. Exit codes: 0 all goals that were measured
//! are reached, 1 some are not or packets were lost or wrong, 2 it could not be measured, 3 something could not be judged.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use algate::huge_pages::HugePages;
use algate_perf::bench::device::{Device, Place};
use algate_perf::bench::goals::{self, Extra};
use algate_perf::bench::plot;
use algate_perf::bench::report::{Conclusion, Machine, Report};
use algate_perf::bench::session::{Plan, Run};
use algate_perf::bench::work::{Kind, Suite, Work};
use algate_perf::clock::ticks_per_nano;
use algate_perf::core_watch::CoreWatch;
use algate_perf::generator::flow::Sizes;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

/// Measures algate beside the limit (dpdk-testpmd on the same links), and judges it.
#[derive(Debug, Parser)]
#[command(name = "perf/run")]
struct Options {
    /// What tells most, three rounds, under five minutes (this is the default)
    #[arg(long, conflicts_with_all = ["full", "kind"])]
    quick: bool,
    /// Every line of the table of goals, three rounds, about twelve minutes
    #[arg(long, conflicts_with_all = ["full", "kind"])]
    goals: bool,
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
    /// Rounds; as many again at most, where a device's core was shared
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
    let [own, others @ .., device] = cores.as_slice() else {
        return Err("two cores are needed: one for the generator, one for the device under test".to_owned());
    };
    core_affinity::set_for_current(*own);
    let own_path = std::env::current_exe().map_err(|error| error.to_string())?;
    let place = Place {
        directory: options.directory.clone(),
        algate: own_path.with_file_name("algate"),
        has_hugepages: options.hugepages,
        cores: [own.id, device.id],
        main_core: others.first().unwrap_or(own).id,
    };
    let duration = Duration::from_secs_f64(options.seconds);
    let plan = Plan { place, window: options.window.clamp(1, 1024), warm_up: WARM_UP, duration };
    let (suite, works) = works(options);
    let rounds = options.rounds.unwrap_or(suite.map_or(3, Suite::rounds));
    let mut watch = CoreWatch::of(*device);
    let (mut runs, mut extra, start) = (Vec::new(), Extra::default(), Instant::now());
    for round in 1..=2 * rounds {
        let wanting = (round > rounds).then(|| goals::wanting(&runs, rounds as usize));
        let is_wanted = |work: &&Work| wanting.as_ref().is_none_or(|names| names.contains(&&*work.name()));
        for work in works.iter().filter(is_wanted) {
            if wanting.is_some() && start.elapsed() > suite.map_or(Duration::MAX, Suite::patience) {
                break;
            }
            let say = |run: &Run| println!("{:5.0} s  {}", start.elapsed().as_secs_f64(), run.line());
            match plan.round(work, round, &mut watch, say) {
                Ok(found) => runs.extend(found),
                Err(sentence) if runs.is_empty() => return Err(sentence),
                // What was measured before, and what comes, is worth having.
                Err(sentence) => {
                    println!("{:5.0} s  broke off: {sentence}", start.elapsed().as_secs_f64());
                    extra.broken.push(sentence);
                }
            }
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
        save(&report, &mut text, suite.map_or("part", Suite::name))?;
    }
    Ok(report.conclusion())
}

fn works(options: &Options) -> (Option<Suite>, Vec<Work>) {
    let Some(kind) = options.kind else {
        let suite = match (options.goals, options.full) {
            (true, _) => Suite::Goals,
            (_, true) => Suite::Full,
            _ => Suite::Quick,
        };
        return (Some(suite), suite.works());
    };
    let work = |flows: &u32| {
        let work = Work::new(kind, *flows, options.bytes);
        let work = if options.tcp { work.over_tcp() } else { work };
        if options.devices.is_empty() { work } else { work.of(&options.devices) }
    };
    (None, options.flows.iter().map(work).collect())
}

/// What `fill` says of a million sessions, each with a mapping of its own.
fn bytes_per_session(own_path: &Path) -> Vec<f64> {
    let output = Command::new(own_path.with_file_name("fill")).arg((1 << 20).to_string()).output();
    output.map_or(Vec::new(), |output| column(&String::from_utf8_lossy(&output.stdout), "bytes/session"))
}

/// The numbers under `name` in a table. Words in a cell on the left of them may be several, so cells are counted from the right.
fn column(table: &str, name: &str) -> Vec<f64> {
    let place = |line: &str| line.split_whitespace().rev().position(|word| word == name);
    let mut lines = table.lines().skip_while(|line| place(line).is_none());
    let Some(place) = lines.next().and_then(place) else { return Vec::new() };
    lines.filter_map(|line| line.split_whitespace().rev().nth(place)?.parse().ok()).collect()
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
    let title = format!("algate beside dpdk-testpmd: commit {}, {}", report.commit, report.date);
    if let Some(svg) = plot::draw(&[&title, &report.machine], &report.runs) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_beside_cells_of_several_words() {
        let table = "session, bytes: key 16\n  sessions ports   bytes/session  made/s\n\
                     1048576 UDP, single      163.5  729363\n1048576 UDP, blocks, events 170.1 719951\n";
        assert_eq!(column(table, "bytes/session"), [163.5, 170.1]);
        assert_eq!(column(table, "made/s"), [729_363.0, 719_951.0]);
        assert!(column("", "made/s").is_empty());
    }
}
