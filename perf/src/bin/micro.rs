//! `micro`: what each stage of a packet's way costs, in nanoseconds and TSC cycles.
//!
//! `micro [NAME...]` measures the items whose names begin with one of the words; without a word, all.
//! `micro --count NAME CHUNKS` only runs that many chunks of one item, for `perf/instructions` to count.

use std::process::ExitCode;
use std::time::Duration;

use algate::huge_pages::HugePages;
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
