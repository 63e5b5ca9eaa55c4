//! `[nat.limits]` and `[nat.hold]`: what one internal host may hold, and how long its ports rest.

use std::time::Duration;

use crate::duration;
use crate::model::{Hold, Limits};
use crate::nat::pool;
use crate::print::{Printer, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) const LIMITS: Section = Section {
    path: "nat.limits",
    form: Form::Table,
    about: "What one internal host may hold at one time (RFC 6888 REQ-4); 0: no limit of its own.",
    keys: &[
        SESSIONS,
        SESSIONS_TCP,
        SESSIONS_UDP,
        SESSIONS_ICMP,
        PORTS,
        SESSIONS_PER_SECOND,
        MEMORY_BYTES,
        MAPPING_MEMORY_BYTES,
    ],
};

pub(crate) const HOLD: Section = Section {
    path: "nat.hold",
    form: Form::Table,
    about: "A released port is given to nobody for a while, lest late packets reach the wrong host.",
    keys: &[TIME, HELD_PORTS],
};

const SESSIONS: Key = Key { name: "sessions", example: "4000", reason: "Sessions of all protocols." };
const SESSIONS_TCP: Key = Key { name: "sessions_tcp", example: "2000", reason: "TCP sessions." };
const SESSIONS_UDP: Key = Key {
    name: "sessions_udp",
    example: "2000",
    reason: "Sessions of UDP, and of all protocols but TCP and ICMP.",
};
const SESSIONS_ICMP: Key = Key { name: "sessions_icmp", example: "100", reason: "ICMP query sessions." };
const PORTS: Key = Key { name: "ports", example: "1000", reason: "External ports of all protocols." };
const SESSIONS_PER_SECOND: Key = Key {
    name: "sessions_per_second",
    example: "500",
    reason: "New sessions per second, and as many at once.",
};
const MEMORY_BYTES: Key = Key {
    name: "memory_bytes",
    example: "1048576",
    reason: "Memory of its sessions and mappings (RFC 6888 REQ-5), 4096 at least: a session takes some 250 bytes.",
};
const MAPPING_MEMORY_BYTES: Key = Key {
    name: "mapping_memory_bytes",
    example: "262144",
    reason: "Memory of one mapping with its sessions, 4096 at least.",
};

const TIME: Key = Key {
    name: "time",
    example: "\"2m\"",
    reason: "For UDP and ICMP under endpoint-independent filtering (RFC 6888 REQ-8), up to 10m; 0s: none.",
};
const HELD_PORTS: Key = Key {
    name: "ports",
    example: "65536",
    reason: "Ports that rest at one time per worker; beyond that the oldest is free early.",
};

/// Reads `[nat.limits]`; the session table has room for `table_sessions`.
pub(crate) fn read(nat: &Table<'_>, pools: &[pool::Draft<'_>], table_sessions: usize) -> Limits {
    let table = nat.table(&LIMITS);
    let read = |key: &'static Key, refuse: &dyn Fn(&Located<'_, u32>)| {
        let written = table.get_located(key, value::integer::<u32>(0..=MAX_LIMIT));
        written.as_ref().inspect(|written| refuse(written));
        written.map_or(0, |written| written.value)
    };
    let within_table = |limit: &Located<'_, u32>| {
        if limit.value as usize > table_sessions {
            let problem = format!("is more than the session table holds ({table_sessions})");
            limit.place.refuse(problem, "lower it, or raise tables.sessions");
        }
    };
    let bytes = |key: &'static Key| {
        let written = table.get_located(key, value::integer::<u64>(0..=MAX_BYTES));
        if let Some(written) = written.as_ref().filter(|written| (1..MIN_BYTES).contains(&written.value)) {
            let problem = format!("is below the minimum {MIN_BYTES}");
            written.place.refuse(problem, format!("choose 0 for no limit, or {MIN_BYTES} to {MAX_BYTES}"));
        }
        written.map_or(0, |written| written.value)
    };
    let within_pools = |limit: &Located<'_, u32>| refuse_larger_than_pool(limit, pools);
    Limits {
        sessions: read(&SESSIONS, &within_table),
        sessions_tcp: read(&SESSIONS_TCP, &within_table),
        sessions_udp: read(&SESSIONS_UDP, &within_table),
        sessions_icmp: read(&SESSIONS_ICMP, &within_table),
        ports: read(&PORTS, &within_pools),
        sessions_per_second: read(&SESSIONS_PER_SECOND, &|_| {}),
        memory_bytes: bytes(&MEMORY_BYTES),
        mapping_memory_bytes: bytes(&MAPPING_MEMORY_BYTES),
    }
}

/// Reads `[nat.hold]`.
pub(crate) fn read_hold(nat: &Table<'_>) -> Hold {
    let table = nat.table(&HOLD);
    Hold {
        time: table.get(&TIME, value::duration(Duration::ZERO..=LONGEST)).unwrap_or(Duration::from_secs(120)),
        ports: table.get(&HELD_PORTS, value::integer(0..=4_194_304)).unwrap_or(65_536),
    }
}

/// Prints both tables.
pub(crate) fn print(limits: &Limits, hold: &Hold, out: &mut Printer) {
    out.table(&LIMITS)
        .key(&SESSIONS, limits.sessions)
        .key(&SESSIONS_TCP, limits.sessions_tcp)
        .key(&SESSIONS_UDP, limits.sessions_udp)
        .key(&SESSIONS_ICMP, limits.sessions_icmp)
        .key(&PORTS, limits.ports)
        .key(&SESSIONS_PER_SECOND, limits.sessions_per_second)
        .key(&MEMORY_BYTES, limits.memory_bytes)
        .key(&MAPPING_MEMORY_BYTES, limits.mapping_memory_bytes);
    out.table(&HOLD).key(&TIME, quoted(duration::print(hold.time))).key(&HELD_PORTS, hold.ports);
}

fn refuse_larger_than_pool(ports: &Located<'_, u32>, pools: &[pool::Draft<'_>]) {
    let smallest = pools.iter().filter(|pool| pool.is_sound).min_by_key(|pool| pool.port_count());
    let Some(pool) = smallest.filter(|pool| u64::from(ports.value) > pool.port_count()) else { return };
    ports.place.refuse(
        format!("is more than pool {:?} has ({} ports of three protocols)", pool.name(), pool.port_count()),
        "lower it, or enlarge the pool",
    );
}

/// What a packed counter of the engine holds.
const MAX_LIMIT: u64 = 1_000_000;
/// Room for a few sessions: less would refuse everything.
const MIN_BYTES: u64 = 4_096;
/// 16 GiB.
const MAX_BYTES: u64 = 1 << 34;
const LONGEST: Duration = Duration::from_secs(600);
