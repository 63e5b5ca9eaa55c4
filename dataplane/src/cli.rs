//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::report::Subject;

/// NAT and application-level gateway on DPDK.
///
/// algate owns its network ports and translates between an internal and an external side. Protocols
/// that carry addresses inside their payload, such as FTP, work through it.
#[derive(Debug, Parser)]
#[command(
    name = "algate",
    version,
    after_help = "Examples:\n  \
        algate check algate.toml          is the file right? what are the defaults?\n  \
        algate run -c algate.toml         run until Ctrl-C\n  \
        algate show sessions              what is being translated\n  \
        algate show counters              what was dropped, and why\n\n\
        Exit codes: 0 stopped by a signal or answered, 1 failed while running, 2 not started: the\n\
        configuration, a device or an argument is wrong."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `algate show alg` can show beside counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlgPart {
    /// Rules about messages, and how many each decided about
    Rules,
    /// Messages changed last, before and after
    Audit,
    /// What control sessions cost, in bytes
    Memory,
}

/// What `algate` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run in the foreground until SIGINT or SIGTERM; log to the standard error output
    #[command(after_help = "Examples:\n  \
        algate run -c /etc/algate.toml\n  \
        RUST_LOG=algate_engine=debug algate run -c algate.toml    more detail for one crate\n\n\
        The first signal stops algate: it drains its queues and logs the final counters. The second\n\
        one ends it at once.")]
    Run {
        /// The configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration and print it with every default filled in; touches no device
    #[command(after_help = "Examples:\n  \
        algate check algate.toml\n  \
        algate check --any-machine site-b.toml    for a machine with other cores and interfaces\n\n\
        All mistakes are printed, each with its line, value and remedy. Exit code 2: there are some.")]
    Check {
        /// The configuration
        file: PathBuf,
        /// Do not compare it with the cores and kernel interfaces of this machine
        #[arg(long)]
        any_machine: bool,
    },
    /// Show what a running algate is doing
    #[command(after_help = "Examples:\n  \
        algate show sessions --limit 20\n  \
        algate show counters --all        those that are zero, too\n  \
        algate show events --limit 100    who got which ports, and what ran out\n  \
        algate show filter                which rules decide, and how often\n  \
        algate show alg rules             the same for those about messages\n  \
        algate show alg audit             messages before and after (with alg.audit_flows)\n  \
        algate show alg memory            what a control session costs, and all of them\n  \
        algate show ports --json | jq .rows[].rx_packets\n  \
        algate show workers --socket /run/algate/b.sock")]
    Show {
        /// What to show
        subject: Subject,
        /// With alg: the rules and their hits, or the messages changed last
        part: Option<AlgPart>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Print at most this many rows
        #[arg(long, value_name = "N", default_value_t = crate::control::default_limit())]
        limit: usize,
        /// Print counters that are zero, too
        #[arg(long)]
        all: bool,
        /// The running algate's control socket (its control.socket)
        #[arg(long, value_name = "PATH", default_value = "/run/algate/algate.sock")]
        socket: PathBuf,
    },
    /// Say which internal host an external address and port belong to, or belonged to at a time
    #[command(after_help = "Examples:\n  \
        algate whois 203.0.113.7 20112 -c /etc/algate.toml\n  \
        algate whois 203.0.113.7 20112 2026-11-22T04:33:00Z -c /etc/algate.toml\n  \
        algate whois 203.0.113.7 20112 2026-11-22T04:33:00Z --log events.jsonl.1 --log events.jsonl\n\n\
        The configuration alone answers for port forwards and for pools with assignment = \"deterministic\"\n\
        (RFC 7422). Ports given out by chance are known to the event log only (events.log, or --log): it also\n\
        tells which configuration was in force at TIME. A time of whole seconds means all of that second.\n\
        Exit code 1: nobody had it.")]
    Whois {
        /// The external address
        address: Ipv4Addr,
        /// The external TCP or UDP port, or ICMP identifier
        l4_port: u16,
        /// When, in RFC 3339 with its offset from UTC; now, if there is a log and no time
        time: Option<Timestamp>,
        /// The configuration, whose events.log is read if there is one
        #[arg(short, long, value_name = "FILE", required_unless_present = "log")]
        config: Option<PathBuf>,
        /// An event log to read instead; several in the order in which they were written
        #[arg(long, value_name = "FILE")]
        log: Vec<PathBuf>,
    },
    /// Print the version
    Version,
}
