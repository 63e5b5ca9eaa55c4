//! Decides where packet memory comes from: hugepages or ordinary pages.
//!
//! Without hugepages the EAL allocates everything at start and takes its size from `-m`; it is
//! computed here from the mempool. With hugepages it grows on demand.

use std::fs;

use algate_config::{Config, Device, Hugepages};

use crate::setup_error::SetupError;

/// What the mempool needs and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Packet buffers.
    pub mbufs: u32,
    /// Bytes of packet that one buffer holds, headroom included.
    pub data_room_bytes: u16,
    /// Memory the EAL must have, MiB.
    pub mebibytes: u64,
    /// Where it comes from.
    pub backing: Backing,
}

/// Where packet memory comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// Hugepages.
    Hugepages,
    /// Ordinary pages, and why.
    Ordinary(&'static str),
}

impl MemoryPlan {
    /// Chooses for `config` on a machine with these `hugepages`.
    ///
    /// # Errors
    /// When the configuration requires hugepages and the machine has too few.
    pub fn new(config: &Config, hugepages: &HugepageState) -> Result<Self, SetupError> {
        let frames = config.nic_ports.iter().map(data_room_bytes).max().unwrap_or(MIN_DATA_ROOM);
        let data_room_bytes = frames.max(whole_room_bytes(config));
        let mbufs = u32::try_from(config.tables.mbufs).unwrap_or(u32::MAX);
        let mbuf_bytes = u64::from(data_room_bytes) + MBUF_OVERHEAD_BYTES;
        let needed = |mbuf_bytes: u64| ((u64::from(mbufs) * mbuf_bytes) >> 20) + 1 + EAL_MEBIBYTES;
        let mebibytes = needed(mbuf_bytes);
        let enough = hugepages.mounted && hugepages.free_bytes >= mebibytes << 20;
        let backing = match config.eal.hugepages {
            Hugepages::Never => Backing::Ordinary("eal.hugepages is \"never\""),
            Hugepages::Auto | Hugepages::Require if enough => Backing::Hugepages,
            Hugepages::Auto if !hugepages.mounted => Backing::Ordinary("no hugetlbfs is mounted"),
            Hugepages::Auto => Backing::Ordinary("too few hugepages are free"),
            Hugepages::Require => return Err(SetupError::new(hugepages.remedy(mebibytes))),
        };
        let mebibytes = match backing {
            Backing::Hugepages => mebibytes,
            Backing::Ordinary(_) => needed(within_pages(mbuf_bytes)),
        };
        Ok(Self { mbufs, data_room_bytes, mebibytes, backing })
    }
}

/// What the machine has of hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugepageState {
    /// Free ones, over all sizes.
    pub free_bytes: u64,
    /// Whether a hugetlbfs is mounted.
    pub mounted: bool,
}

impl HugepageState {
    /// Asks the kernel.
    #[must_use]
    pub fn of_machine() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("hugetlbfs"));
        let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        let free_bytes = sizes
            .filter_map(|size| {
                let kilobytes: u64 = size
                    .file_name()
                    .to_str()?
                    .strip_prefix("hugepages-")?
                    .strip_suffix("kB")?
                    .parse()
                    .ok()?;
                let free = fs::read_to_string(size.path().join("free_hugepages")).ok()?;
                Some(free.trim().parse::<u64>().ok()? * kilobytes * 1024)
            })
            .sum();
        Self { free_bytes, mounted }
    }

    fn remedy(self, mebibytes: u64) -> String {
        let mount = if self.mounted { "" } else { ", and mount -t hugetlbfs nodev /dev/hugepages" };
        format!(
            "eal.hugepages is \"require\", which takes {mebibytes} MiB, but {} MiB are free{}: \
             sysctl vm.nr_hugepages={}{mount}, or set eal.hugepages to \"auto\"",
            self.free_bytes >> 20,
            if self.mounted { "" } else { " and no hugetlbfs is mounted" },
            mebibytes.div_ceil(2),
        )
    }
}

/// The buffer size a port's frames need, so that no received frame is split.
fn data_room_bytes(nic_port: &algate_config::NicPort) -> u16 {
    let frame = match nic_port.device {
        // The driver wants a buffer for the whole of a kernel ring slot.
        Device::AfPacket { .. } => super::device::af_packet_slot_bytes(nic_port.mtu),
        _ => nic_port.mtu.saturating_add(L2_BYTES),
    };
    frame.next_multiple_of(64).saturating_add(HEADROOM).max(MIN_DATA_ROOM)
}

/// The buffer size that a datagram put together from fragments needs, and what an ALG may add to it.
fn whole_room_bytes(config: &Config) -> u16 {
    let whole = config.fragments.whole_bytes;
    let frame =
        if whole > MIN_DATA_ROOM - HEADROOM { whole.saturating_add(L2_BYTES + GROWTH) } else { whole };
    frame.next_multiple_of(64).saturating_add(HEADROOM)
}

/// What a buffer of `mbuf_bytes` takes where none may lie across two pages, as the pool has it if it can be.
const fn within_pages(mbuf_bytes: u64) -> u64 {
    match PAGE_BYTES / mbuf_bytes {
        0 => mbuf_bytes,
        of_a_page => PAGE_BYTES / of_a_page,
    }
}

/// The smallest ordinary page of any machine; of a larger one less is lost.
const PAGE_BYTES: u64 = 4096;
/// Bytes by which an ALG may make a message longer.
const GROWTH: u16 = 2048;
/// Ethernet header, two VLAN tags and the frame check sequence.
const L2_BYTES: u16 = 14 + 8 + 4;
#[expect(clippy::cast_possible_truncation, reason = "128 in every build of DPDK")]
const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
/// What every driver can live with (`RTE_MBUF_DEFAULT_BUF_SIZE`).
const MIN_DATA_ROOM: u16 = 2048 + HEADROOM;
/// Object header, `struct rte_mbuf`, its place in the pool's ring, and padding between objects.
const MBUF_OVERHEAD_BYTES: u64 = 64 + 128 + 16 + 64;
/// What the EAL and the drivers allocate besides: rings, queues, tables.
const EAL_MEBIBYTES: u64 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_pages_and_for_the_mount_when_both_are_missing() {
        let remedy = HugepageState { free_bytes: 0, mounted: false }.remedy(100);
        assert_eq!(
            remedy,
            "eal.hugepages is \"require\", which takes 100 MiB, but 0 MiB are free and no hugetlbfs is mounted: \
             sysctl vm.nr_hugepages=50, and mount -t hugetlbfs nodev /dev/hugepages, \
             or set eal.hugepages to \"auto\""
        );
    }
}
