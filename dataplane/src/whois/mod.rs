//! `algate whois`: whose an external endpoint is, or was at a time.
//!
//! Port forwards and the first blocks of deterministic pools follow from the configuration (RFC 7422), which
//! the event log repeats whenever algate starts. Everything else was given out by chance, and only the log
//! knows its host.

pub mod history;

use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use algate_engine::nat::deterministic::Owner;
use jiff::Timestamp;

use crate::event_log::line::{Configuration, time_text};
use crate::report::tenant_of;
use crate::whois::history::{History, Holding, Question};

/// What a configuration alone says about an endpoint.
#[derive(Debug, PartialEq, Eq)]
struct ByConfiguration {
    /// One line for each thing it says.
    text: String,
    /// Whether somebody may have been given it by chance.
    is_open: bool,
}

/// What the configuration says about `address` and `l4_port`, one line for each thing it says.
#[must_use]
pub fn answer(configuration: &Configuration, address: Ipv4Addr, l4_port: u16) -> String {
    by_configuration(configuration, address, l4_port).text
}

/// Who had the endpoint at `time`, by these logs, in the order in which they were written. A time of whole
/// seconds means all of that second; none means now.
///
/// # Errors
/// A sentence: a log cannot be read, begins too late, or nobody had it.
pub fn answer_from(
    logs: &[PathBuf],
    address: Ipv4Addr,
    l4_port: u16,
    time: Option<Timestamp>,
) -> Result<String, String> {
    let time = time.unwrap_or_else(Timestamp::now);
    let question = Question { address, l4_port, time: span_of(time) };
    let mut history = History::default();
    for path in logs {
        let name = path.display();
        let refuse = |error| format!("{name} cannot be read ({error}): name the event log with --log FILE");
        let file = File::open(path).map_err(refuse)?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut progress = Progress { name: name.to_string(), size, read: 0, told: 0 };
        history.read(&question, buffered(file), |bytes| progress.advance(bytes)).map_err(refuse)?;
    }
    history.finish(&question);
    if history.unreadable > 0 {
        eprintln!("{} lines of the log are not understood and were left out", history.unreadable);
    }
    conclude(&history, &question)
}

/// What was found, as text.
fn conclude(history: &History, question: &Question) -> Result<String, String> {
    let Question { address, l4_port, time: (time, _) } = *question;
    let at = time_text(time);
    let Some(configuration) = &history.configuration else {
        return Err(match history.first {
            None => "the log is empty: name the one of that time with --log FILE".to_owned(),
            Some(first) => {
                let first = time_text(first);
                format!("the log begins at {first}, after {at}: name the one before it, too, with --log FILE")
            }
        });
    };
    let ByConfiguration { mut text, is_open } = by_configuration(configuration, address, l4_port);
    if !is_open {
        return Ok(text);
    }
    let open = text.lines().last().unwrap_or_default().len() + 1;
    text.truncate(text.len().saturating_sub(open));
    history.holdings.iter().for_each(|holding| describe(holding, &mut text));
    if text.is_empty() {
        return Err(format!("no block, mapping or session in the log covers {address}:{l4_port} at {at}"));
    }
    Ok(text)
}

fn by_configuration(configuration: &Configuration, address: Ipv4Addr, l4_port: u16) -> ByConfiguration {
    let mut text = String::new();
    for pair in &configuration.statics {
        if let Some(host) = pair.host_of(address) {
            let text = format!("{host}{} (static)\n", of_tenant(pair.tenant));
            return ByConfiguration { text, is_open: false };
        }
    }
    for forward in &configuration.forwards {
        let servers: Vec<String> =
            forward.servers_of(address, l4_port).iter().map(ToString::to_string).collect();
        if !servers.is_empty() {
            // Writing to a string cannot fail.
            let (servers, tenant) = (servers.join(" or "), of_tenant(forward.tenant));
            let _ = writeln!(text, "{}: forwarded to {servers}{tenant}", forward.protocol);
        }
    }
    let is_in = |(first, last): &(Ipv4Addr, Ipv4Addr)| *first <= address && address <= *last;
    let Some(pool) = configuration.pools.iter().find(|pool| pool.addresses.iter().any(is_in)) else {
        let text = format!("{address} is in no pool of this configuration\n");
        return ByConfiguration { text, is_open: false };
    };
    let is_dynamic = pool.l4_ports.0 <= l4_port && l4_port <= pool.l4_ports.1;
    let deterministic = pool.arithmetic();
    let owner = match &deterministic {
        Some(deterministic) => deterministic.owner(u32::from(address), l4_port),
        None => Some(if is_dynamic { Owner::Dynamic } else { Owner::Nobody }),
    };
    let line = match owner {
        Some(Owner::Host(host)) => {
            let tenant = deterministic.and_then(|pool| pool.tenant()).and_then(tenant_of);
            format!("{}{} (pool {:?})", Ipv4Addr::from(host), of_tenant(tenant), pool.name)
        }
        Some(Owner::Dynamic) => format!("given out by chance in pool {:?}: ask the records", pool.name),
        Some(Owner::Nobody) | None => format!("no dynamic port of pool {:?}", pool.name),
    };
    // A forward's port outside the pool's range has been told in full.
    if text.is_empty() || is_dynamic {
        let _ = writeln!(text, "{line}");
    }
    ByConfiguration { text, is_open: is_dynamic && owner == Some(Owner::Dynamic) }
}

fn describe(holding: &Holding, text: &mut String) {
    let Holding { what, protocol, tenant, internal, l4_ports: (first, last), since, until } = holding;
    if let Some(protocol) = protocol {
        let _ = write!(text, "{protocol}: ");
    }
    let _ = write!(text, "{internal}{} ({what}", of_tenant(*tenant));
    if first != last {
        let _ = write!(text, " {first}-{last}");
    }
    let _ = match until {
        Some(until) => writeln!(text, ", from {} to {})", time_text(*since), time_text(*until)),
        None => writeln!(text, ", since {})", time_text(*since)),
    };
}

fn of_tenant(tenant: Option<u16>) -> String {
    tenant.map_or_else(String::new, |tenant| format!(" of tenant {tenant}"))
}

/// Others' logs are often kept in whole seconds.
fn span_of(time: Timestamp) -> (i64, i64) {
    let from = time.as_millisecond();
    (from, from + if time.subsec_nanosecond() == 0 { 1_000 } else { 1 })
}

fn buffered(file: impl Read) -> impl BufRead {
    BufReader::with_capacity(1 << 20, file)
}

/// Tells who waits for a large file how far it is.
struct Progress {
    name: String,
    size: u64,
    read: u64,
    told: u64,
}

impl Progress {
    fn advance(&mut self, bytes: usize) {
        self.read += bytes as u64;
        if self.size > STEP && self.read >= self.told + STEP {
            self.told = self.read;
            eprintln!("{}: {} of {} MB read", self.name, self.read / 1_000_000, self.size / 1_000_000);
        }
    }
}

/// 100 MB.
const STEP: u64 = 100_000_000;

#[cfg(test)]
mod tests;
