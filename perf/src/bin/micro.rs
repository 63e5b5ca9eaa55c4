//! `micro`: what each stage of a packet's way costs, in nanoseconds and TSC cycles.
//!
//! `micro [NAME...]` measures the items whose names begin with one of the words; without a word, all.
//! `micro --alg-cost` measures what control packets cost the packets beside them.
//! `micro --count NAME CHUNKS` only runs that many chunks of one item, for `perf/instructions` to count.

use std::process::ExitCode;
use std::time::Duration;

use algate::huge_pages::HugePages;
use algate_perf::alg_cost;
use algate_perf::clock::ticks_per_nano;
use algate_perf::items;
use algate_perf::sample::{Item, measure};

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--count", name, chunks] => count(name, chunks.parse().unwrap_or(1)),
        ["--alg-cost"] => cost(),
        names => {
            table(names);
            ExitCode::SUCCESS
        }
    }
}

fn table(names: &[&str]) {
    println!(
        "{:<16} {:>9} {:>9} {:>12} {:>12} {:>8}",
        "item", "ns p10", "ns median", "cycles p10", "cycles med", "chunks"
    );
    for mut item in items::all(&TABLE_FLOWS) {
        let name = item.name();
        if !names.is_empty() && !names.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let samples = measure(item.as_mut(), DURATION);
        let (low, median) = (samples.quantile(0.1), samples.quantile(0.5));
        let rate = ticks_per_nano();
        println!(
            "{name:<16} {:>9.1} {:>9.1} {low:>12.0} {median:>12.0} {:>8}",
            low / rate,
            median / rate,
            samples.count()
        );
    }
}

/// Prints what 1 % of control packets costs: ns at the tenth percentile, relations as medians of neighbouring chunks.
fn cost() -> ExitCode {
    println!(
        "{:<16} {:>6} {:>9} {:>9} {:>10} {:>8} {:>8}",
        "control packets", "flows", "alone ns", "beside ns", "control ns", "beside", "all"
    );
    for (name, dialogue, place) in alg_cost::CASES {
        for flows in COST_FLOWS {
            let Some(cost) = alg_cost::measure(dialogue, place, flows, COST_DURATION) else {
                eprintln!("micro: {name}: a packet was lost");
                return ExitCode::FAILURE;
            };
            println!(
                "{name:<16} {flows:>6} {:>9.1} {:>9.1} {:>10.0} {:>+7.1}% {:>+7.1}%",
                cost.alone_nanos,
                cost.beside_nanos,
                cost.control_nanos,
                100.0 * (cost.beside - 1.0),
                100.0 * (cost.all - 1.0),
            );
        }
    }
    ExitCode::SUCCESS
}

/// Runs `chunks` chunks, each in [`counted`], and prints how many operations they were.
fn count(name: &str, chunks: u32) -> ExitCode {
    let Some(mut item) = items::all(&TABLE_FLOWS).into_iter().find(|item| item.name() == name) else {
        eprintln!("micro: no item {name}");
        return ExitCode::FAILURE;
    };
    // The first chunks find cold code and build tables.
    for _ in 0..2 {
        item.prepare();
        let _ = item.chunk();
    }
    let mut operations = 0;
    for _ in 0..chunks {
        item.prepare();
        operations += counted(item.as_mut());
    }
    println!("operations {operations}");
    ExitCode::SUCCESS
}

/// Where valgrind counts: by this name.
#[inline(never)]
fn counted(item: &mut dyn Item) -> u64 {
    item.chunk().unwrap_or(0)
}

const TABLE_FLOWS: [u32; 4] = [1, 1_000, 65_536, 1_048_576];
const DURATION: Duration = Duration::from_millis(500);
const COST_FLOWS: [u32; 2] = [1_000, 65_536];
const COST_DURATION: Duration = Duration::from_secs(3);
