//! A DPDK port: configured, started, and its queues dealt to the threads that own them.
//!
//! Queues: each thread that sends has a tx queue of its own, each worker one or more rx queues. A
//! device that has fewer tx queues than threads (pcap and memif have one) shares them behind a lock,
//! and says so; rx queues are dealt to the workers in turn, so that some workers may have none.
//!
//! Deliberately absent: splitting received frames over several buffers (buffers are sized for the
//! largest MTU), LRO and TSO (algate forwards packets as they came), flow rules.

use std::ffi::CString;
use std::ptr;
use std::sync::{Arc, Mutex};

use algate_config::{Device, NicPort as NicPortConfig};
use algate_engine::ids::NicPortId;
use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_eth_stats, rte_ether_addr};

use super::device::{EalDevice, QueueRule};
use super::error_text;
use super::mempool::Mempool;
use super::queue::{RxQueue, TxQueue};
use crate::setup_error::SetupError;

/// How many threads handle packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// Threads that receive and send.
    pub workers: u16,
    /// Threads that only send.
    pub alg_cores: u16,
}

impl Threads {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u16 {
        self.workers.saturating_add(self.alg_cores)
    }
}

/// A started port. Dropping the last `Arc` stops and closes it.
#[derive(Debug)]
pub struct NicPort {
    /// DPDK's number.
    port: u16,
    id: NicPortId,
    name: String,
    mac: [u8; 6],
    rx_queues: u16,
    tx_queues: u16,
    has_tx_checksum: bool,
    pool: Arc<Mempool>,
}

/// The queues of one thread on one port.
#[derive(Debug)]
pub struct ThreadQueues {
    /// None for an ALG core, and for a worker when the device has fewer queues than workers.
    pub rx: Vec<RxQueue>,
    /// Every thread can send.
    pub tx: TxQueue,
}

/// A port and the queues of each thread: workers first, then ALG cores.
#[derive(Debug)]
pub struct OpenPort {
    /// The port.
    pub nic_port: Arc<NicPort>,
    /// One entry per thread.
    pub queues: Vec<ThreadQueues>,
}

/// State of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether frames can pass.
    pub is_up: bool,
    /// Mbit/s; 0 when the device does not say.
    pub megabits_per_second: u32,
}

/// What the device itself counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because nobody took them from the queue in time.
    pub rx_missed: u64,
    /// Frames lost because the mempool was empty.
    pub rx_no_mbuf: u64,
    /// Damaged frames received.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

impl NicPort {
    /// Opens the `id`th port of the configuration, which the EAL knows as `device`, and starts it.
    ///
    /// # Errors
    /// A sentence naming the port, what failed and what to do.
    pub fn open(
        id: NicPortId,
        config: &NicPortConfig,
        device: &EalDevice,
        threads: Threads,
        pool: &Arc<Mempool>,
    ) -> Result<OpenPort, SetupError> {
        let refuse = |what: &str, code: i32| {
            SetupError::new(format!("nic_port \"{}\": {what}: {}", config.name, error_text(code)))
        };
        let port = port_by_name(&device.name).map_err(|code| refuse("DPDK did not open its device", code))?;
        let info = device_info(port).map_err(|code| refuse("the device does not describe itself", code))?;
        let (rx_queues, tx_queues) = queue_counts(device.queues, &info, threads);
        let max_mtu = max_mtu(&info);
        let mtu = match config.device {
            // The driver claims 1,500, but takes what fits into a slot of the kernel's ring.
            Device::AfPacket { .. } => config.mtu.min(max_mtu),
            _ => config.mtu,
        };
        if mtu > max_mtu {
            return Err(SetupError::new(format!(
                "nic_port \"{}\": mtu {mtu} is more than its device takes: lower it to {max_mtu}",
                config.name
            )));
        }
        let eth_conf = eth_conf(&config.device, mtu, &info)?;
        let tx_offloads = eth_conf.txmode.offloads;
        // From here on dropping `nic_port` closes the port.
        let mut nic_port = Self {
            port,
            id,
            name: config.name.clone(),
            mac: [0; 6],
            rx_queues,
            tx_queues,
            has_tx_checksum: tx_offloads & dpdk_sys::SHIM_TX_OFFLOAD_CKSUM == dpdk_sys::SHIM_TX_OFFLOAD_CKSUM,
            pool: Arc::clone(pool),
        };
        nic_port.configure(config, &eth_conf).map_err(|(what, code)| refuse(what, code))?;
        nic_port.mac = nic_port.station_address(&config.device);
        nic_port.announce(threads);
        let nic_port = Arc::new(nic_port);
        let queues = deal_queues(&nic_port, threads);
        Ok(OpenPort { nic_port, queues })
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its position in the configuration.
    #[must_use]
    pub fn id(&self) -> NicPortId {
        self.id
    }

    /// The MAC address algate answers to on this port.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Receive queues in use.
    #[must_use]
    pub fn rx_queues(&self) -> u16 {
        self.rx_queues
    }

    /// Transmit queues in use.
    #[must_use]
    pub fn tx_queues(&self) -> u16 {
        self.tx_queues
    }

    /// Whether the device fills in IPv4, TCP and UDP checksums.
    #[must_use]
    pub fn has_tx_checksum(&self) -> bool {
        self.has_tx_checksum
    }

    /// The state of the wire now.
    #[must_use]
    pub fn link(&self) -> Link {
        let mut link = rte_eth_link::default();
        // SAFETY: the port is open; `link` is writable and of the right type.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.port, &raw mut link) };
        // SAFETY: `link` is initialised, by default or by the driver.
        let is_up = unsafe { dpdk_sys::shim_link_status(&raw const link) } != 0;
        // SAFETY: as above.
        let speed = unsafe { dpdk_sys::shim_link_speed(&raw const link) };
        let megabits_per_second = if speed == u32::MAX { 0 } else { speed };
        Link { is_up: code == 0 && is_up, megabits_per_second }
    }

    /// What the device counted since its start.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        let mut stats = rte_eth_stats::default();
        // SAFETY: the port is open; `stats` is writable and of the right type. On failure it stays as
        // it is, all zero.
        unsafe { dpdk_sys::rte_eth_stats_get(self.port, &raw mut stats) };
        DeviceStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_no_mbuf: stats.rx_nombuf,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
        }
    }

    /// DPDK's number, for the queues.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Brings the port from opened to started.
    fn configure(&self, config: &NicPortConfig, conf: &rte_eth_conf) -> Result<(), (&'static str, i32)> {
        let check = |code, what| if code == 0 { Ok(()) } else { Err((what, code)) };
        let port = self.port;
        // SAFETY: the port is open and not started; `conf` is complete and read only.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_configure(port, self.rx_queues, self.tx_queues, ptr::from_ref(conf))
        };
        check(code, "the device does not accept its configuration")?;
        // A kernel interface keeps the MTU that its owner gave it (`precheck` has compared them).
        if !matches!(config.device, Device::AfPacket { .. } | Device::AfXdp { .. }) {
            // SAFETY: the port is configured. Drivers without an MTU of their own answer "not supported".
            let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(port, config.mtu) };
            check(if code == NOT_SUPPORTED { 0 } else { code }, "the device does not accept its mtu")?;
        }

        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port is configured; both numbers are writable. Clamps them to what the device has.
        let code = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(port, &raw mut rx, &raw mut tx) };
        check(code, "the device does not accept its number of descriptors")?;
        let socket = u32::MAX; // SOCKET_ID_ANY
        for queue in 0..self.rx_queues {
            // SAFETY: configured, not started, the queue is below the configured number; a null
            // configuration means the device's defaults; the pool lives as long as `self`.
            let code = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(port, queue, rx, socket, ptr::null(), self.pool.as_ptr())
            };
            check(code, "a receive queue cannot be set up")?;
        }
        for queue in 0..self.tx_queues {
            // SAFETY: as for the receive queue.
            let code = unsafe { dpdk_sys::rte_eth_tx_queue_setup(port, queue, tx, socket, ptr::null()) };
            check(code, "a transmit queue cannot be set up")?;
        }
        // SAFETY: configured, with all queues set up.
        check(unsafe { dpdk_sys::rte_eth_dev_start(port) }, "the device does not start")?;
        if config.promiscuous {
            // SAFETY: the port is open.
            let code = unsafe { dpdk_sys::rte_eth_promiscuous_enable(port) };
            check(if code == NOT_SUPPORTED { 0 } else { code }, "the device does not become promiscuous")?;
        }
        Ok(())
    }

    /// The address algate answers to: the device's own, except on a TAP, whose own address belongs to
    /// the kernel's end of it.
    fn station_address(&self, device: &Device) -> [u8; 6] {
        let mut address = rte_ether_addr::default();
        // SAFETY: the port is open; `address` is writable. It cannot fail on an open port.
        unsafe { dpdk_sys::rte_eth_macaddr_get(self.port, &raw mut address) };
        let mut mac = address.addr_bytes;
        if let (Device::Tap { .. }, [first, .., last]) = (device, &mut mac) {
            *first |= 0x02; // locally administered
            *last ^= 0x01;
        }
        mac
    }

    fn announce(&self, threads: Threads) {
        let [a, b, c, d, e, f] = self.mac;
        log::info!(
            "nic_port started name={} mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} \
             rx_queues={} tx_queues={} tx_checksum={}",
            self.name,
            self.rx_queues,
            self.tx_queues,
            self.has_tx_checksum
        );
        if self.tx_queues < threads.total() {
            log::info!(
                "nic_port tx queues shared name={} tx_queues={} threads={} effect=\"a lock per burst\"",
                self.name,
                self.tx_queues,
                threads.total()
            );
        }
        if self.rx_queues < threads.workers {
            log::info!(
                "nic_port rx queues short name={} rx_queues={} workers={} effect=\"some workers do not poll it\"",
                self.name,
                self.rx_queues,
                threads.workers
            );
        }
    }
}

impl Drop for NicPort {
    fn drop(&mut self) {
        // SAFETY: the port is open; its queues hold an `Arc` of `self`, so none is left. Stopping a
        // port that never started is allowed.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.port) };
        // SAFETY: stopped, and nobody else uses it.
        unsafe { dpdk_sys::rte_eth_dev_close(self.port) };
    }
}

/// Deals the queues: rx queues to workers in turn, tx queues to threads in turn.
fn deal_queues(nic_port: &Arc<NicPort>, threads: Threads) -> Vec<ThreadQueues> {
    let locks: Vec<Arc<Mutex<()>>> = (0..nic_port.tx_queues).map(|_| Arc::default()).collect();
    let is_shared = nic_port.tx_queues < threads.total();
    let tx = |thread: u16| {
        let queue = thread % nic_port.tx_queues;
        let lock = locks.get(usize::from(queue)).filter(|_| is_shared).cloned();
        TxQueue::new(Arc::clone(nic_port), queue, lock)
    };
    let rx = |thread: u16| {
        let step = usize::from(threads.workers);
        let queues = (thread..nic_port.rx_queues).step_by(step.max(1)).filter(|_| thread < threads.workers);
        queues.map(|queue| RxQueue::new(Arc::clone(nic_port), queue)).collect()
    };
    (0..threads.total()).map(|thread| ThreadQueues { rx: rx(thread), tx: tx(thread) }).collect()
}

fn queue_counts(rule: QueueRule, info: &rte_eth_dev_info, threads: Threads) -> (u16, u16) {
    let (max_rx, max_tx) = (info.max_rx_queues.max(1), info.max_tx_queues.max(1));
    match rule {
        QueueRule::Free => (threads.workers.min(max_rx), threads.total().min(max_tx)),
        QueueRule::Paired => {
            let pairs = threads.total().min(max_rx).min(max_tx);
            (pairs, pairs)
        }
        QueueRule::PerKernelQueue => (max_rx.min(max_tx), max_rx.min(max_tx)),
        QueueRule::Single => (1, 1),
    }
}

/// The largest MTU the device takes, by DPDK's own reckoning: what a frame has beside the packet is the
/// difference of the device's two limits, or where one is unlimited a header and a check sequence.
fn max_mtu(info: &rte_eth_dev_info) -> u16 {
    let overhead = match info.max_mtu {
        0 | u16::MAX => 18,
        max_mtu => info.max_rx_pktlen.saturating_sub(u32::from(max_mtu)),
    };
    let by_length = u16::try_from(info.max_rx_pktlen.saturating_sub(overhead)).unwrap_or(u16::MAX);
    if info.max_mtu == 0 { by_length } else { by_length.min(info.max_mtu) }
}

/// Checksum offloads and RSS as far as the device has them.
fn eth_conf(device: &Device, mtu: u16, info: &rte_eth_dev_info) -> Result<rte_eth_conf, SetupError> {
    let mut conf = rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(mtu);
    conf.rxmode.offloads = info.rx_offload_capa & dpdk_sys::SHIM_RX_OFFLOAD_CKSUM;
    let tx_wanted = dpdk_sys::SHIM_TX_OFFLOAD_CKSUM | dpdk_sys::SHIM_TX_OFFLOAD_MULTI_SEGS;
    conf.txmode.offloads = info.tx_offload_capa & tx_wanted;
    let hashed = info.flow_type_rss_offloads & dpdk_sys::SHIM_RSS_IPV4;
    if matches!(device, Device::Pci { .. }) && hashed != 0 {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = hashed;
        // The key is secret, so that nobody can aim all traffic at one worker. The driver reads it
        // when the port starts and on a reset: it lives as long as the process.
        let key = Box::leak(secret_key(usize::from(info.hash_key_size))?);
        conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
        conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
    }
    Ok(conf)
}

fn secret_key(bytes: usize) -> Result<Box<[u8]>, SetupError> {
    let bytes = if bytes == 0 { DEFAULT_RSS_KEY_BYTES } else { bytes };
    let mut key = vec![0; bytes].into_boxed_slice();
    crate::secret::fill(&mut key)?;
    Ok(key)
}

fn port_by_name(name: &str) -> Result<u16, i32> {
    let name = CString::new(name).map_err(|_| -22)?;
    let mut port = 0;
    // SAFETY: `name` is a C string, `port` writable.
    match unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) } {
        0 => Ok(port),
        code => Err(code),
    }
}

fn device_info(port: u16) -> Result<rte_eth_dev_info, i32> {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: the port is open; `info` is writable and of the right type.
    match unsafe { dpdk_sys::rte_eth_dev_info_get(port, &raw mut info) } {
        0 => Ok(info),
        code => Err(code),
    }
}

/// `-ENOTSUP`
const NOT_SUPPORTED: i32 = -95;
/// What most NICs take; for those that do not say.
const DEFAULT_RSS_KEY_BYTES: usize = 40;
