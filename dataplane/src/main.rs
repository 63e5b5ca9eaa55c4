//! `algate`: NAT and application-level gateway on DPDK.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use algate::cli::{AlgPart, Cli, Command};
use algate::control::{Request, ask};
use algate::event_log::line::Configuration;
use algate::huge_pages::HugePages;
use algate::report::Subject;
use algate::runtime::{self, Outcome};
use algate::table;
use algate::whois;
use algate_config::{Config, LogLevel, Machine};
use clap::Parser;
use jiff::Timestamp;
use log::LevelFilter;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { file, any_machine } => check(&file, any_machine),
        Command::Show { subject, part, json, limit, all, socket } => {
            let subject = match (subject, part) {
                (subject, None) => subject,
                (Subject::Alg, Some(AlgPart::Rules)) => Subject::AlgRules,
                (Subject::Alg, Some(AlgPart::Audit)) => Subject::AlgAudit,
                (Subject::Alg, Some(AlgPart::Memory)) => Subject::AlgMemory,
                (_, Some(_)) => {
                    return not_started(
                        "only alg has parts: show alg rules, show alg audit, show alg memory",
                    );
                }
            };
            show(&socket, &Request { show: subject, limit, all }, json)
        }
        Command::Whois { address, l4_port, time, config, log } => {
            whois(config.as_deref(), log, address, l4_port, time)
        }
        Command::Version => print(concat!("algate ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn run(file: &Path) -> ExitCode {
    let config = match read(file, &this_machine()) {
        Ok(config) => config,
        Err(sentences) => return not_started(&sentences),
    };
    start_log(config.log.level);
    match runtime::run(&config) {
        Ok(Outcome::Stopped) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => not_started(&error.to_string()),
    }
}

fn check(file: &Path, any_machine: bool) -> ExitCode {
    let machine = if any_machine { Machine::unchecked() } else { this_machine() };
    match read(file, &machine) {
        Ok(config) => print(&config.to_toml()),
        Err(sentences) => not_started(&sentences),
    }
}

fn whois(
    file: Option<&Path>,
    mut logs: Vec<PathBuf>,
    address: Ipv4Addr,
    l4_port: u16,
    time: Option<Timestamp>,
) -> ExitCode {
    let config = match file.map(|file| read(file, &Machine::unchecked())).transpose() {
        Ok(config) => config,
        Err(sentences) => return not_started(&sentences),
    };
    if let Some(config) = &config
        && logs.is_empty()
    {
        logs.extend(config.events.log.clone());
        if logs.is_empty() && time.is_some() {
            let sentence =
                "events.log is not set: name the log of that time with --log FILE, or leave TIME out";
            return not_started(sentence);
        }
        if logs.is_empty() {
            return print(&whois::answer(&Configuration::of(&config.nat), address, l4_port));
        }
    }
    match whois::answer_from(&logs, address, l4_port, time) {
        Ok(text) => print(&text),
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn show(socket: &Path, request: &Request, json: bool) -> ExitCode {
    let report = match ask(socket, request) {
        Ok(report) => report,
        Err(sentence) => {
            eprintln!("{sentence}");
            return ExitCode::FAILURE;
        }
    };
    if !json {
        return print(&table::render(&report));
    }
    match serde_json::to_string_pretty(&report) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("the report cannot be written as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints without a panic when the reader, such as `head`, has gone.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn not_started(sentences: &str) -> ExitCode {
    eprintln!("{sentences}");
    ExitCode::from(2)
}

fn read(file: &Path, machine: &Machine) -> Result<Config, String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file)
        .map_err(|error| format!("{name} cannot be read ({error}): name a file that can"))?;
    Config::parse(&text, &name, machine).map_err(|errors| errors.to_string())
}

/// The cores this process may use, and the kernel's interfaces.
fn this_machine() -> Machine {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    let kernel_interfaces = fs::read_dir("/sys/class/net").ok().map(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    });
    Machine { cores, kernel_interfaces }
}

/// Logs to the standard error output at `level`; `RUST_LOG` overrides it.
fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    };
    env_logger::Builder::new().filter_level(level).parse_default_env().init();
}
