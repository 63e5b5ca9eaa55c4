//! From configuration to exit code: opens the edge, runs the threads, serves the operator.
//!
//! The main thread never touches packets. It watches the threads, the links and the control socket, takes
//! over event records, and waits for a signal: the first SIGINT or SIGTERM stops algate (drain, free, final counters, exit
//! code 0), the second one ends it at once (130). A thread that panics is reported and stops the rest:
//! exit code 1, so that a supervisor starts algate anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use algate_config::{Config, Hugepages, Idle};
use algate_engine::alg_stage::handover::Handover;
use algate_engine::engine::Engine;
use algate_engine::ids::WorkerId;
use algate_engine::worker::Worker;
use core_affinity::CoreId;

use crate::control::ControlServer;
use crate::dpdk::eal::Eal;
use crate::dpdk::lcore::Lcore;
use crate::dpdk::mbuf::Mbuf;
use crate::dpdk::nic_port::{Link, NicPort};
use crate::edge::Edge;
use crate::event_log::EventLog;
use crate::huge_pages;
use crate::reporter::{Reporter, ThreadReport};
use crate::secret;
use crate::setup_error::SetupError;
use crate::worker::{LoopCounters, PollLoop};

/// How a run ended, once it had started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal.
    Stopped,
    /// By a panic in a thread.
    Failed,
}

/// Runs algate until a signal.
///
/// # Errors
/// When the set-up fails; nothing has been forwarded then.
pub fn run(config: &Config) -> Result<Outcome, SetupError> {
    if config.eal.hugepages == Hugepages::Never {
        huge_pages::forbid();
    }
    let stop = stop_flag()?;
    let naps = naps(config.workers.idle);
    let mut control = ControlServer::bind(&config.control.socket)?;
    let events = EventLog::open(config)?;
    let mut edge = Edge::open(config)?;
    let macs: Vec<[u8; 6]> = edge.nic_ports.iter().map(|nic_port| nic_port.mac()).collect();
    let engine = Arc::new(Engine::new(config, &macs, secret::seed()?));
    let (threads, thread_reports) = spawn(config, &mut edge, &engine, naps, &stop)?;
    let mut reporter = Reporter::new(config, &edge, thread_reports, engine, events);
    let mut links = Links::new(&edge.nic_ports);
    log::info!("algate started threads={} socket={}", threads.len(), config.control.socket.display());

    while !stop.load(Ordering::Relaxed) {
        reporter.take_events();
        control.serve(&reporter);
        links.watch();
        if threads.iter().any(JoinHandle::is_finished) {
            stop.store(true, Ordering::Relaxed);
        }
        control.wait(TICK);
    }
    drop(control);
    let panicked = join(threads);
    reporter.end_events();
    reporter.log_final_counters();
    log::info!("algate stopped");
    Ok(if panicked { Outcome::Failed } else { Outcome::Stopped })
}

/// Whether idle workers sleep. Asked before the EAL starts, which pins this thread to one core.
fn naps(idle: Idle) -> bool {
    match idle {
        Idle::Poll => false,
        Idle::Sleep => true,
        Idle::Auto => thread::available_parallelism().is_ok_and(|cores| cores.get() <= 2),
    }
}

/// A flag that SIGINT and SIGTERM set.
fn stop_flag() -> Result<Arc<AtomicBool>, SetupError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_SECOND_SIGNAL, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| SetupError::new(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(stop)
}

/// Starts the workers and ALG cores, and waits until each has its core and its lcore id.
fn spawn(
    config: &Config,
    edge: &mut Edge,
    engine: &Arc<Engine>,
    naps: bool,
    stop: &Arc<AtomicBool>,
) -> Result<(Vec<JoinHandle<()>>, Vec<ThreadReport>), SetupError> {
    let workers = u16::try_from(config.workers.cores.len()).unwrap_or(u16::MAX);
    let cores = config.workers.cores.iter().chain(&config.workers.alg_cores).copied();
    let handover = Arc::new(Handover::new(engine.threads(), config.workers.handover_packets));
    let (ready, is_ready) = mpsc::channel();
    let (mut threads, mut reports) = (Vec::new(), Vec::new());
    // All before the first thread: each claims its place among the readers of the tables.
    let engine_workers: Option<Vec<Worker<Mbuf>>> = (0_u16..)
        .map(WorkerId)
        .take(engine.threads())
        .map(|id| Worker::new(Arc::clone(engine), Arc::clone(&handover), id, edge.clock.now()))
        .collect();
    let engine_workers = engine_workers
        .ok_or_else(|| SetupError::new("workers.cores names more cores than the engine has places"))?;
    let places = (0_u16..).zip(cores).zip(edge.shares.drain(..)).zip(engine_workers);
    for (((index, core), share), worker) in places {
        let name =
            if index < workers { format!("worker-{index}") } else { format!("alg-{}", index - workers) };
        let counters = Arc::new(LoopCounters::default());
        reports.push(ThreadReport {
            name: name.clone(),
            core,
            io: Arc::clone(&share.counters),
            poll_loop: Arc::clone(&counters),
        });
        let burst = usize::from(config.workers.burst);
        let poll_loop = PollLoop { share, burst, announces: index == 0, naps, clock: edge.clock, counters };
        let (eal, stop, thread_ready) = (Arc::clone(edge.pool.eal()), Arc::clone(stop), ready.clone());
        let body = move || run_thread(core, eal, thread_ready, poll_loop, worker, &stop);
        match thread::Builder::new().name(name.clone()).spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let sentence =
                    format!("thread {name} cannot be started ({error}): raise the limit of processes");
                // Nobody is left to receive only when this function has returned.
                let _ = ready.send(Err(SetupError::new(sentence)));
            }
        }
    }
    drop(ready);
    // Ends when every thread has said how it went.
    let failure = is_ready.iter().find_map(Result::err);
    match failure {
        None => Ok((threads, reports)),
        Some(failure) => {
            stop.store(true, Ordering::Relaxed);
            join(threads);
            Err(failure)
        }
    }
}

/// The body of a worker or ALG core: takes its place, says so, and polls.
fn run_thread(
    core: usize,
    eal: Arc<Eal>,
    ready: Sender<Result<(), SetupError>>,
    poll_loop: PollLoop,
    mut worker: Worker<Mbuf>,
    stop: &AtomicBool,
) {
    let place = if core_affinity::set_for_current(CoreId { id: core }) {
        Lcore::register(eal)
    } else {
        Err(SetupError::new(format!(
            "a thread cannot be pinned to core {core}: name cores this process may use"
        )))
    };
    // The main thread waits until each thread has answered and let go of its sender.
    match place {
        Ok(lcore) => {
            let _ = ready.send(Ok(()));
            drop(ready);
            poll_loop.run(&mut worker, stop);
            // Its frames go back through this thread's mempool cache.
            drop(worker);
            drop(lcore);
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}

/// Waits for the threads. Returns whether one of them panicked.
fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let mut panicked = false;
    for thread in threads {
        let name = thread.thread().name().unwrap_or("unnamed").to_owned();
        if let Err(payload) = thread.join() {
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            log::error!("thread panicked name={name} message=\"{text}\"");
            panicked = true;
        }
    }
    panicked
}

/// Notices when a wire goes up or down.
struct Links {
    nic_ports: Vec<(Arc<NicPort>, Option<Link>)>,
    next_look: Instant,
}

impl Links {
    fn new(nic_ports: &[Arc<NicPort>]) -> Self {
        let nic_ports = nic_ports.iter().map(|nic_port| (Arc::clone(nic_port), None)).collect();
        Self { nic_ports, next_look: Instant::now() }
    }

    /// Asks each port once a second, and logs what changed.
    fn watch(&mut self) {
        if Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + LINK_INTERVAL;
        for (nic_port, known) in &mut self.nic_ports {
            let link = nic_port.link();
            if known.is_none_or(|known| known.is_up != link.is_up) {
                let state = if link.is_up { "up" } else { "down" };
                log::info!(
                    "link {state} nic_port={} megabits_per_second={}",
                    nic_port.name(),
                    link.megabits_per_second
                );
            }
            *known = Some(link);
        }
    }
}

const EXIT_SECOND_SIGNAL: i32 = 130;
/// Between looks at event records, threads and links, while no client wants anything.
const TICK: Duration = Duration::from_millis(20);
const LINK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_one_thread_makes_the_run_a_failure() {
        let quiet = || thread::spawn(|| ());
        assert!(!join(vec![quiet(), quiet()]));
        let noisy =
            thread::Builder::new().name("worker-1".to_owned()).spawn(|| panic!("expected by the test"));
        assert!(join(vec![quiet(), noisy.unwrap(), quiet()]));
    }
}
