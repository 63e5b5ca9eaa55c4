//! What all threads of one process share.

use algate_config::Config;

use crate::alg_stage::oversight::Oversight;
use crate::counters::WorkerCounters;
use crate::event::ring::Events;
use crate::filter::Filter;
use crate::fragment::identification::Identifications;
use crate::ids::WorkerId;
use crate::nat::Nat;
use crate::router::Router;
use crate::table::hash::HashKey;
use crate::table::quiescence::Quiescence;

/// The shared state: built once from the configuration, never grown.
#[derive(Debug)]
pub struct Engine {
    /// Interfaces, routes, neighbours.
    pub router: Router,
    /// Sessions, mappings, ports, expectations.
    pub nat: Nat,
    /// IPv4 identifications of translated packets.
    pub identifications: Identifications,
    /// Who may open a flow.
    pub filter: Filter,
    /// Records of what happened, one ring per thread.
    pub events: Events,
    /// What stands over the ALGs.
    pub oversight: Oversight,
    pub(crate) quiescence: Quiescence,
    pub(crate) key: HashKey,
    pub(crate) config: Config,
    counters: Box<[WorkerCounters]>,
}

impl Engine {
    /// The engine of `config`. `macs`: the ports' MAC addresses in the order of the configuration;
    /// `seed`: 256 unpredictable bits.
    #[must_use]
    pub fn new(config: &Config, macs: &[[u8; 6]], seed: [u64; 4]) -> Self {
        let key = HashKey::from_seed(seed);
        let threads = threads(config);
        Self {
            router: Router::new(config, macs),
            nat: Nat::new(config, &key),
            identifications: Identifications::new(&key),
            filter: Filter::new(config, threads),
            events: Events::new(config, threads),
            oversight: Oversight::new(config, threads),
            quiescence: Quiescence::new(threads),
            key,
            config: config.clone(),
            counters: (0..threads).map(|_| WorkerCounters::default()).collect(),
        }
    }

    /// The counters of every thread: workers first, then ALG cores.
    #[must_use]
    pub fn counters(&self) -> &[WorkerCounters] {
        &self.counters
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.config.workers.cores.len()
    }

    /// Worker threads and ALG cores.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.counters.len()
    }

    /// The worker that has all fragments of `src` in hand.
    pub(crate) fn fragment_owner(&self, src: u32) -> WorkerId {
        // The high half: the low bits choose a place in the owner's table.
        let hash = self.key.hash1(u64::from(src)) >> 32;
        WorkerId((hash % (self.workers() as u64).max(1)) as u16)
    }

    /// What thread `id` may have in hand of fragmented datagrams; an ALG core receives none.
    pub(crate) fn fragment_limits(&self, id: WorkerId) -> algate_config::Fragments {
        let limits = self.config.fragments.clone();
        if usize::from(id.0) < self.workers() {
            limits
        } else {
            algate_config::Fragments { datagrams: 0, kept: 0, ..limits }
        }
    }

    /// The thread that will own an ALG flow whose SYN `worker` has received.
    pub(crate) fn alg_owner(&self, worker: WorkerId, hash: u64) -> WorkerId {
        let alg_cores = self.config.workers.alg_cores.len();
        if alg_cores == 0 {
            return worker;
        }
        // Both are small: the configuration bounds them by the machine's cores.
        let core = (hash % alg_cores as u64) as usize;
        WorkerId((self.workers() + core) as u16)
    }
}

fn threads(config: &Config) -> usize {
    config.workers.cores.len() + config.workers.alg_cores.len()
}
