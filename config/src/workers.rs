//! `[workers]`: the poll loops, one pinned to each core.

use crate::machine::Machine;
use crate::model::{Eal, Idle, Workers};
use crate::print::{Printer, list, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "workers",
    form: Form::Table,
    about: "The poll loops that carry packets.",
    keys: &[CORES, ALG_CORES, BURST, IDLE, HANDOVER_PACKETS],
};

const CORES: Key = Key {
    name: "cores",
    example: "[1]",
    reason: "One worker is pinned to each; by default every core but the main one.",
};
const ALG_CORES: Key = Key {
    name: "alg_cores",
    example: "[2]",
    reason: "Cores that only run ALGs; none: the workers do it themselves, which suits few control sessions.",
};
const BURST: Key = Key {
    name: "burst",
    example: "128",
    reason: "Frames taken from a queue at once, 1 to 256; more adds latency, fewer costs throughput.",
};
const IDLE: Key = Key {
    name: "idle",
    example: "\"auto\"",
    reason: "poll: lowest latency, a whole core; sleep: about 50 us when idle; auto: sleep on two cores or fewer.",
};
const HANDOVER_PACKETS: Key = Key {
    name: "handover_packets",
    example: "1024",
    reason: "Packets that wait between a worker and the owner of their ALG flow, a power of two.",
};

const IDLE_CHOICES: Choices<Idle> = &[("auto", Idle::Auto), ("poll", Idle::Poll), ("sleep", Idle::Sleep)];

/// Reads the table.
pub(crate) fn read(root: &Table<'_>, eal: &Eal, machine: &Machine) -> Workers {
    let table = root.table(&SECTION);
    let cores = table.get(&CORES, value::non_empty(value::distinct(machine.core())));
    let alg_cores = table.get(&ALG_CORES, value::distinct(machine.core())).unwrap_or_default();
    for alg_core in &alg_cores {
        if let Some(worker) = cores.iter().flatten().find(|core| core.value == alg_core.value) {
            let problem = format!("is a worker's core already (line {})", worker.place.line());
            alg_core.place.refuse(problem, "give each core one task");
        }
    }
    let alg_cores = values(alg_cores);
    Workers {
        cores: cores.map(values).unwrap_or_else(|| default_cores(eal, &alg_cores, machine)),
        alg_cores,
        burst: table.get(&BURST, value::integer(1..=256)).unwrap_or(128),
        idle: table.get(&IDLE, value::choice(IDLE_CHOICES)).unwrap_or(Idle::Auto),
        handover_packets: table.get(&HANDOVER_PACKETS, value::power_of_two(2..=65_536)).unwrap_or(1024),
    }
}

/// Prints the table.
pub(crate) fn print(workers: &Workers, out: &mut Printer) {
    out.table(&SECTION)
        .key(&CORES, list(&workers.cores))
        .key(&ALG_CORES, list(&workers.alg_cores))
        .key(&BURST, workers.burst)
        .key(&IDLE, quoted(value::word_of(IDLE_CHOICES, workers.idle)))
        .key(&HANDOVER_PACKETS, workers.handover_packets);
}

/// Every core that has no other task; if none is left, the workers share the main core.
fn default_cores(eal: &Eal, alg_cores: &[usize], machine: &Machine) -> Vec<usize> {
    let is_free = |core: &usize| *core != eal.main_core && !alg_cores.contains(core);
    let free: Vec<usize> = machine.usable_cores().iter().copied().filter(is_free).collect();
    if free.is_empty() { vec![eal.main_core] } else { free }
}

fn values(cores: Vec<Located<'_, usize>>) -> Vec<usize> {
    cores.into_iter().map(|core| core.value).collect()
}
