//! Everything between the configuration and the threads: EAL, mempool, ports, and each thread's share
//! of them.

use std::sync::Arc;

use algate_config::Config;
use algate_engine::ids::NicPortId;

use crate::dpdk::clock::Clock;
use crate::dpdk::device::EalDevice;
use crate::dpdk::eal::Eal;
use crate::dpdk::memory::{HugepageState, MemoryPlan};
use crate::dpdk::mempool::Mempool;
use crate::dpdk::nic_port::{NicPort, OpenPort, Threads};
use crate::dpdk::precheck;
use crate::dpdk::queue::{IoCounters, RxQueue, WorkerIo};
use crate::setup_error::SetupError;

/// The opened edge.
#[derive(Debug)]
pub struct Edge {
    /// The ports, in the configuration's order.
    pub nic_ports: Vec<Arc<NicPort>>,
    /// One entry per thread: workers first, then ALG cores.
    pub shares: Vec<Share>,
    /// The clock of all threads.
    pub clock: Clock,
    /// Started last, ended last.
    pub pool: Arc<Mempool>,
}

/// What one thread owns of the edge.
#[derive(Debug)]
pub struct Share {
    /// Its receive queues; none for an ALG core.
    pub rx: Vec<RxQueue>,
    /// Its transmit queues and buffers.
    pub io: WorkerIo,
    /// What it counts.
    pub counters: Arc<IoCounters>,
}

impl Edge {
    /// Checks the devices, starts the EAL, allocates the mempool, opens and starts the ports.
    ///
    /// # Errors
    /// Sentences with their remedies.
    pub fn open(config: &Config) -> Result<Self, SetupError> {
        precheck::check(config)?;
        let threads = Threads {
            workers: u16::try_from(config.workers.cores.len()).unwrap_or(u16::MAX),
            alg_cores: u16::try_from(config.workers.alg_cores.len()).unwrap_or(u16::MAX),
        };
        let devices: Vec<EalDevice> = config
            .nic_ports
            .iter()
            .enumerate()
            .map(|(index, nic_port)| EalDevice::new(index, nic_port, threads.total()))
            .collect();
        let memory = MemoryPlan::new(config, &HugepageState::of_machine())?;
        let eal = Arc::new(Eal::start(config, &devices, memory)?);
        let clock = Clock::start(&eal);
        let pool = Arc::new(Mempool::new(&eal)?);
        let mut ports = Vec::with_capacity(devices.len());
        for (id, (nic_port, device)) in (0..).map(NicPortId).zip(config.nic_ports.iter().zip(&devices)) {
            ports.push(NicPort::open(id, nic_port, device, threads, &pool)?);
        }
        let nic_ports = ports.iter().map(|port| Arc::clone(&port.nic_port)).collect();
        let shares = deal(ports, threads, usize::from(config.workers.burst), &pool);
        Ok(Self { nic_ports, shares, clock, pool })
    }
}

/// Turns queues per port and thread into queues per thread and port.
fn deal(ports: Vec<OpenPort>, threads: Threads, burst: usize, pool: &Arc<Mempool>) -> Vec<Share> {
    let port_count = ports.len();
    let mut queues: Vec<_> = ports.into_iter().map(|port| port.queues.into_iter()).collect();
    let share = |_| {
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for thread_queues in queues.iter_mut().filter_map(Iterator::next) {
            rx.extend(thread_queues.rx);
            tx.push(thread_queues.tx);
        }
        let counters = Arc::new(IoCounters::new(port_count));
        Share { rx, io: WorkerIo::new(tx, burst, Arc::clone(pool), Arc::clone(&counters)), counters }
    };
    (0..threads.total()).map(share).collect()
}
