//! Receive and transmit queues, and what a thread hands to the engine: [`WorkerIo`].
//!
//! One call into DPDK per burst, on either side. Frames to send wait in a buffer per port and leave
//! when it is full or the burst is done; what the device does not take then is freed and counted, as
//! a router does: a sender that waits would stop receiving.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use algate_engine::counters::{Counter, DropCounters};
use algate_engine::drop_reason::DropReason;
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::NicPortId;
use dpdk_sys::rte_mbuf;

use super::mbuf::Mbuf;
use super::mempool::Mempool;
use super::nic_port::NicPort;

/// A receive queue, owned by one thread.
#[derive(Debug)]
pub struct RxQueue {
    nic_port: Arc<NicPort>,
    queue: u16,
}

impl RxQueue {
    /// Each queue of a port is made once.
    pub(super) fn new(nic_port: Arc<NicPort>, queue: u16) -> Self {
        Self { nic_port, queue }
    }

    /// Its port.
    #[must_use]
    pub fn nic_port(&self) -> NicPortId {
        self.nic_port.id()
    }

    /// Appends what has arrived to `burst`, up to its capacity.
    pub fn receive(&mut self, burst: &mut Vec<Mbuf>) {
        let spare = burst.spare_capacity_mut();
        let count = u16::try_from(spare.len()).unwrap_or(u16::MAX);
        let out: *mut *mut rte_mbuf = spare.as_mut_ptr().cast();
        // SAFETY: the port is started and stays so (`Arc`); only this value polls the queue, and
        // `&mut self` admits one thread at a time; `out` has room for `count` pointers, and an `Mbuf`
        // is a transparent pointer.
        let received =
            unsafe { dpdk_sys::shim_rte_eth_rx_burst(self.nic_port.port(), self.queue, out, count) };
        let length = burst.len() + usize::from(received);
        // SAFETY: `received <= count`, so within the capacity; the driver wrote that many pointers,
        // none null, each with one reference that `burst` now owns.
        unsafe { burst.set_len(length) };
    }
}

/// A transmit queue: a thread's own, or shared behind a lock where the device has too few.
#[derive(Debug)]
pub struct TxQueue {
    nic_port: Arc<NicPort>,
    queue: u16,
    lock: Option<Arc<Mutex<()>>>,
}

impl TxQueue {
    /// A queue that is made more than once has the same `lock` each time.
    pub(super) fn new(nic_port: Arc<NicPort>, queue: u16, lock: Option<Arc<Mutex<()>>>) -> Self {
        Self { nic_port, queue, lock }
    }

    /// Sends `frames`, in order. What the device did not take stays in `frames`.
    pub fn send(&mut self, frames: &mut Vec<Mbuf>) {
        let count = u16::try_from(frames.len()).unwrap_or(u16::MAX);
        let pointers: *mut *mut rte_mbuf = frames.as_mut_ptr().cast();
        let guard = self.lock.as_ref().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: the port is started and stays so (`Arc`); one thread at a time uses the queue
        // (`&mut self`, or the lock); `pointers` are `count` live mbufs that `frames` owns.
        let sent =
            unsafe { dpdk_sys::shim_rte_eth_tx_burst(self.nic_port.port(), self.queue, pointers, count) };
        drop(guard);
        // The driver owns these now.
        if usize::from(sent) == frames.len() {
            Mbuf::forget_all(frames);
        } else {
            frames.drain(..usize::from(sent)).for_each(mem::forget);
        }
    }
}

/// What one thread counts on one port. Written by that thread only.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: Counter,
    /// Their bytes, without frame check sequence.
    pub rx_bytes: Counter,
    /// Frames the device took.
    pub tx_packets: Counter,
    /// Their bytes, without frame check sequence.
    pub tx_bytes: Counter,
}

/// What one thread counts at the edge; the main thread reads it at any time.
#[derive(Debug)]
pub struct IoCounters {
    /// One entry per NIC port, in the configuration's order.
    pub nic_ports: Box<[PortCounters]>,
    /// Frames lost at the edge.
    pub drops: DropCounters,
}

impl IoCounters {
    /// All zero, for `nic_ports` ports.
    #[must_use]
    pub fn new(nic_ports: usize) -> Self {
        Self {
            nic_ports: (0..nic_ports).map(|_| PortCounters::default()).collect(),
            drops: DropCounters::default(),
        }
    }
}

/// Where a thread gets empty frames and leaves full ones.
#[derive(Debug)]
pub struct WorkerIo {
    tx: Vec<TxBuffer>,
    pool: Arc<Mempool>,
    counters: Arc<IoCounters>,
}

/// Frames that wait for the end of the burst.
#[derive(Debug)]
struct TxBuffer {
    queue: TxQueue,
    frames: Vec<Mbuf>,
    /// Length of all of them, bytes.
    bytes: u64,
    has_tx_checksum: bool,
}

impl WorkerIo {
    /// For a thread with one transmit queue per port, in the configuration's order, and bursts of
    /// `burst` frames.
    #[must_use]
    pub fn new(queues: Vec<TxQueue>, burst: usize, pool: Arc<Mempool>, counters: Arc<IoCounters>) -> Self {
        let buffer = |queue: TxQueue| TxBuffer {
            has_tx_checksum: queue.nic_port.has_tx_checksum(),
            frames: Vec::with_capacity(burst.max(1)),
            bytes: 0,
            queue,
        };
        Self { tx: queues.into_iter().map(buffer).collect(), pool, counters }
    }

    /// Counts a received burst.
    pub fn count_received(&self, nic_port: NicPortId, burst: &[Mbuf]) {
        if let Some(counters) = self.counters.nic_ports.get(usize::from(nic_port.0)) {
            counters.rx_packets.add(burst.len() as u64);
            counters.rx_bytes.add(Mbuf::bytes_and_prefetch(burst));
        }
    }

    /// Makes room in the buffer of port `index`, which is full and has counted `frame` already.
    #[cold]
    #[inline(never)]
    fn transmit_after_flush(&mut self, index: usize, frame: Mbuf) {
        let Self { tx, counters, .. } = self;
        let (Some(buffer), Some(port_counters)) = (tx.get_mut(index), counters.nic_ports.get(index)) else {
            return;
        };
        buffer.bytes -= frame.len() as u64;
        buffer.flush(port_counters, &counters.drops);
        buffer.bytes += frame.len() as u64;
        buffer.frames.push(frame);
    }

    /// Sends everything that waits. Called once per burst.
    pub fn flush(&mut self) {
        let Self { tx, counters, .. } = self;
        for (buffer, port_counters) in tx.iter_mut().zip(&counters.nic_ports) {
            buffer.flush(port_counters, &counters.drops);
        }
    }
}

impl TxBuffer {
    fn flush(&mut self, counters: &PortCounters, drops: &DropCounters) {
        if self.frames.is_empty() {
            return;
        }
        let packets = self.frames.len();
        let bytes = mem::take(&mut self.bytes);
        self.queue.send(&mut self.frames);
        let unsent = self.frames.len();
        counters.tx_packets.add((packets - unsent) as u64);
        if unsent == 0 {
            counters.tx_bytes.add(bytes);
            return;
        }
        counters.tx_bytes.add(bytes - self.frames.iter().map(|frame| frame.len() as u64).sum::<u64>());
        drops.add(DropReason::TxQueueFull, unsent as u64);
        Mbuf::free_all(&mut self.frames);
    }
}

impl PacketIo for WorkerIo {
    type Frame = Mbuf;

    fn alloc(&mut self) -> Option<Mbuf> {
        let frame = self.pool.alloc();
        if frame.is_none() {
            self.counters.drops.count(DropReason::MempoolExhausted);
        }
        frame
    }

    #[inline]
    fn transmit(&mut self, nic_port: NicPortId, frame: Mbuf) {
        let index = usize::from(nic_port.0);
        let Some(buffer) = self.tx.get_mut(index) else { return };
        buffer.bytes += frame.len() as u64;
        if buffer.frames.len() < buffer.frames.capacity() {
            buffer.frames.push(frame);
        } else {
            self.transmit_after_flush(index, frame);
        }
    }

    fn has_tx_checksum(&self, nic_port: NicPortId) -> bool {
        self.tx.get(usize::from(nic_port.0)).is_some_and(|buffer| buffer.has_tx_checksum)
    }
}
