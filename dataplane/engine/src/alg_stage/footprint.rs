//! What control sessions cost a stage, in bytes. All of it is taken at start, so nothing here grows.

use algate_alg::{Memory, ProtocolId};
use algate_config::Config;

use crate::alg_stage::flow::Flow;
use crate::alg_stage::nat_port::Promises;
use crate::alg_stage::{busy_streams, limits, protocols};
use crate::stream::{StreamMemory, TcpStream};

/// Memory of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// A session over UDP: its dialogue, its expectations, its places in the tables.
    pub datagram_flow: usize,
    /// A session over TCP that has nothing in care: the same, and a stream's numbers.
    pub idle_flow: usize,
    /// What a session over TCP borrows while it has bytes in care: held ones, sent ones, and edits.
    pub busy_flow: usize,
    /// Sessions at one time.
    pub flows: usize,
    /// Sessions with bytes in care at one time.
    pub busy_flows: usize,
    /// SIP calls at one time; 0: SIP is off.
    pub calls: usize,
    /// What all of these take.
    pub calls_bytes: usize,
}

impl Footprint {
    /// Of a stage under `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let gateways = ProtocolId::ALL.map(|protocol| protocols::gateway(&config.alg, protocol));
        let promises = gateways.iter().filter(|gateway| gateway.enabled).map(|gateway| gateway.expectations);
        let promises = promises.max().unwrap_or(0);
        let is_on = |protocol| protocols::gateway(&config.alg, protocol).enabled;
        let (calls, calls_bytes) =
            Memory::room_for_calls(&protocols::settings(&config.alg), config.tables.alg_flows, is_on);
        // Two places in the hash map, each with its tag, and one in the list of free flows.
        let places = 2 * (size_of::<(u32, usize)>() + 1) + size_of::<usize>();
        let datagram_flow = size_of::<Flow>() + Promises::bytes(promises) + places;
        Self {
            datagram_flow,
            idle_flow: datagram_flow + size_of::<TcpStream>() + size_of::<Box<TcpStream>>(),
            busy_flow: StreamMemory::bytes_per_stream(&limits(config)),
            flows: config.tables.alg_flows,
            busy_flows: busy_streams(config.tables.alg_flows),
            calls,
            calls_bytes,
        }
    }

    /// All of it. A stream's numbers are there for each session, whatever carries it.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.flows * self.idle_flow + self.busy_flows * self.busy_flow + self.calls_bytes
    }
}
