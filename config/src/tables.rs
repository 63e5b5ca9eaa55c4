//! `[tables]`: sizes of everything that is allocated at start; nothing grows later.

use crate::model::{Fragments, NicPort, Tables, Workers};
use crate::print::Printer;
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const SECTION: Section = Section {
    path: "tables",
    form: Form::Table,
    about: "Sizes of what is allocated at start; nothing grows later.",
    keys: &[
        SESSIONS,
        TCP_SESSIONS,
        RELATED_SESSIONS,
        HALF_OPEN,
        MAPPINGS,
        EXPECTATIONS,
        SUBSCRIBERS,
        ALG_FLOWS,
        NEIGHBORS,
        MBUFS,
    ],
};

const SESSIONS: Key = Key {
    name: "sessions",
    example: "65536",
    reason: "Sessions at one time, up to 67108864; a full table refuses new ones and keeps the old.",
};
const TCP_SESSIONS: Key = Key {
    name: "tcp_sessions",
    example: "65536",
    reason: "Sessions among them that may be TCP or SCTP ones, 24 bytes more each; by default all.",
};
const RELATED_SESSIONS: Key = Key {
    name: "related_sessions",
    example: "16384",
    reason: "Sessions among those that may be an ALG's, announced by one, or between two mapped hosts, \
             24 bytes more each.",
};
const HALF_OPEN: Key = Key {
    name: "half_open",
    example: "16384",
    reason: "TCP sessions among them that wait for the other side's SYN; a flood fills no more than these.",
};
const MAPPINGS: Key = Key {
    name: "mappings",
    example: "65536",
    reason: "Mappings at one time; as many as sessions, for each session may have its own.",
};
const EXPECTATIONS: Key = Key {
    name: "expectations",
    example: "4096",
    reason: "Promised connections outstanding, of all ALGs together.",
};
const SUBSCRIBERS: Key = Key {
    name: "subscribers",
    example: "65536",
    reason: "Internal hosts with sessions or ports at one time; a full table refuses the flows of further ones.",
};
const ALG_FLOWS: Key = Key {
    name: "alg_flows",
    example: "1024",
    reason: "Control sessions under an ALG at one time and thread; each takes some 4 KiB and 24 bytes for each expectation it may have, each fourth one 82 KiB for bytes in its care.",
};
const NEIGHBORS: Key =
    Key { name: "neighbors", example: "4096", reason: "Hosts on connected prefixes (ARP), at most 65535." };
const MBUFS: Key = Key {
    name: "mbufs",
    example: "16384",
    reason: "Packet buffers; full queues, kept fragments and a burst in every hand must find one.",
};

/// Reads the table.
pub(crate) fn read(
    root: &Table<'_>,
    workers: &Workers,
    nic_ports: &[Located<'_, NicPort>],
    fragments: &Fragments,
) -> Tables {
    let table = root.table(&SECTION);
    let sessions = table.get(&SESSIONS, value::integer(1..=MAX_SESSIONS)).unwrap_or(65_536);
    let needed = mbufs_needed(workers, nic_ports.iter().map(|nic_port| &nic_port.value))
        + workers.cores.len() * fragments.kept;
    let mbufs = table.get_located(&MBUFS, value::integer(512..=16_777_216));
    if let Some(mbufs) = mbufs.as_ref().filter(|mbufs| mbufs.value < needed) {
        let problem = format!("is too few: full queues and kept fragments hold {needed}");
        mbufs.place.refuse(problem, format!("choose {needed} or more, or lower nic_port.rx_descriptors"));
    }
    let share = |key: &'static Key, most: usize, of: &str| {
        let read = table.get_located(key, value::integer(1..=MAX_SESSIONS))?;
        if read.value > most {
            read.place
                .refuse(format!("is more than the {most} {of} there are"), format!("choose 1 to {most}"));
        }
        Some(read.value)
    };
    let tcp_sessions = share(&TCP_SESSIONS, sessions, "sessions").unwrap_or(sessions);
    let related_sessions = share(&RELATED_SESSIONS, tcp_sessions, "TCP sessions");
    Tables {
        sessions,
        tcp_sessions,
        related_sessions: related_sessions.unwrap_or((sessions / 4).max(4096).min(tcp_sessions)),
        half_open: share(&HALF_OPEN, sessions, "sessions").unwrap_or((sessions / 4).max(1)),
        mappings: table.get(&MAPPINGS, value::integer(1..=MAX_SESSIONS)).unwrap_or(sessions),
        expectations: table.get(&EXPECTATIONS, value::integer(1..=1_048_576)).unwrap_or(4096),
        subscribers: table
            .get(&SUBSCRIBERS, value::integer(1..=MAX_SUBSCRIBERS))
            .unwrap_or(sessions.min(65_536)),
        alg_flows: table.get(&ALG_FLOWS, value::integer(1..=1_048_576)).unwrap_or(1024),
        neighbors: table.get(&NEIGHBORS, value::integer(1..=65_535)).unwrap_or(4096),
        mbufs: mbufs.map_or(needed.next_power_of_two().max(16_384), |mbufs| mbufs.value),
    }
}

/// Prints the table.
pub(crate) fn print(tables: &Tables, out: &mut Printer) {
    out.table(&SECTION)
        .key(&SESSIONS, tables.sessions)
        .key(&TCP_SESSIONS, tables.tcp_sessions)
        .key(&RELATED_SESSIONS, tables.related_sessions)
        .key(&HALF_OPEN, tables.half_open)
        .key(&MAPPINGS, tables.mappings)
        .key(&EXPECTATIONS, tables.expectations)
        .key(&SUBSCRIBERS, tables.subscribers)
        .key(&ALG_FLOWS, tables.alg_flows)
        .key(&NEIGHBORS, tables.neighbors)
        .key(&MBUFS, tables.mbufs);
}

/// Every worker and ALG core has a queue pair on every port and a burst in its hands. (An ALG core
/// only transmits: its share of receive descriptors is the reserve.)
fn mbufs_needed<'a>(workers: &Workers, nic_ports: impl Iterator<Item = &'a NicPort>) -> usize {
    let threads = workers.cores.len() + workers.alg_cores.len();
    let per_thread: usize =
        nic_ports.map(|port| usize::from(port.rx_descriptors) + usize::from(port.tx_descriptors)).sum();
    threads * (per_thread + usize::from(workers.burst))
}

/// 16 Mi: a /8 of internal hosts.
const MAX_SUBSCRIBERS: u64 = 16_777_216;
/// 64 Mi.
const MAX_SESSIONS: u64 = 67_108_864;
