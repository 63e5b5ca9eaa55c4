//! What a configured [`Device`] is to DPDK: its name, its arguments, its driver, its queues.
//!
//! Pure; what the machine says about the device is asked in `precheck`.

use std::fs;

use algate_config::{Device, MemifRole, NicPort};

/// A device as the EAL wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalDevice {
    /// The name DPDK knows the port by.
    pub name: String,
    /// The argument that makes the EAL probe it.
    pub argument: EalArgument,
    /// The shared objects that drive it, without `lib` and version (`rte_net_tap`).
    pub drivers: Vec<&'static str>,
    /// How its queues are cut.
    pub queues: QueueRule,
}

/// The EAL argument of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EalArgument {
    /// `--vdev`, with the device's arguments.
    Vdev(String),
    /// `-a`, a PCI address.
    Pci(String),
}

/// How many queues a device is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueRule {
    /// One rx queue per worker and one tx queue per thread, as far as the device has them.
    Free,
    /// Each tx queue has its rx queue, and traffic arrives on all of them: a pair per thread, every
    /// rx queue polled.
    Paired,
    /// As `Paired`, but so many as the kernel interface has.
    PerKernelQueue,
    /// One of each, whatever the driver claims: a pcap file has one end, and memif as server lets a
    /// queue that the client does not offer alias the client's first ring.
    Single,
}

impl EalDevice {
    /// The device of `nic_port`, the `index`th in the configuration, for `threads` threads that send.
    #[must_use]
    pub fn new(index: usize, nic_port: &NicPort, threads: u16) -> Self {
        let vdev = |driver: &'static str, kind: &str, arguments: String, queues| {
            let name = format!("{kind}{index}");
            let argument = EalArgument::Vdev(format!("{name}{arguments}"));
            Self { name, argument, drivers: vec![driver], queues }
        };
        match &nic_port.device {
            Device::Pci { address } => Self {
                name: address.clone(),
                argument: EalArgument::Pci(address.clone()),
                drivers: pci_drivers(address),
                queues: QueueRule::Free,
            },
            Device::AfPacket { interface } => {
                let slot = af_packet_slot_bytes(nic_port.mtu);
                let block = slot.max(4096);
                let slots = nic_port.rx_descriptors.max(nic_port.tx_descriptors);
                // One pair per thread, as far as the driver goes.
                let pairs = threads.min(AF_PACKET_MAX_PAIRS);
                let arguments = format!(
                    ",iface={interface},qpairs={pairs},framesz={slot},blocksz={block},framecnt={slots}"
                );
                vdev("rte_net_af_packet", "net_af_packet", arguments, QueueRule::Paired)
            }
            Device::AfXdp { interface } => {
                let queues = kernel_rx_queues(interface);
                let arguments = format!(",iface={interface},start_queue=0,queue_count={queues}");
                vdev("rte_net_af_xdp", "net_af_xdp", arguments, QueueRule::PerKernelQueue)
            }
            Device::Tap { interface } => {
                vdev("rte_net_tap", "net_tap", format!(",iface={interface}"), QueueRule::Paired)
            }
            Device::Memif { role, id, socket } => {
                let role = match role {
                    MemifRole::Server => "server",
                    MemifRole::Client => "client",
                };
                let ring_log2 = nic_port.rx_descriptors.max(2).ilog2().min(14);
                let buffer = (nic_port.mtu.saturating_add(64)).next_power_of_two().max(2048);
                let arguments = format!(
                    ",role={role},id={id},socket={},socket-abstract=no,rsize={ring_log2},bsize={buffer}",
                    socket.display()
                );
                vdev("rte_net_memif", "net_memif", arguments, QueueRule::Single)
            }
            Device::Pcap { rx, tx } => {
                let arguments = format!(",rx_pcap={},tx_pcap={}", rx.display(), tx.display());
                vdev("rte_net_pcap", "net_pcap", arguments, QueueRule::Single)
            }
            Device::Ring { name } => {
                let name = format!("net_ring_{name}");
                let argument = EalArgument::Vdev(name.clone());
                Self { name, argument, drivers: vec!["rte_net_ring"], queues: QueueRule::Paired }
            }
            Device::Null => vdev("rte_net_null", "net_null", ",no-rx=1".to_owned(), QueueRule::Free),
        }
    }
}

/// Bytes of one slot of the kernel's `AF_PACKET` ring for frames of `mtu`: header (52 bytes and the
/// kernel's alignment), Ethernet and VLAN headers, packet. A divisor or a multiple of the 4,096-byte
/// page, since the driver counts slots through the whole ring as if it had no gaps.
#[must_use]
pub fn af_packet_slot_bytes(mtu: u16) -> u16 {
    let needed = mtu.saturating_add(128);
    if needed <= 2048 { 2048 } else { needed.next_multiple_of(4096) }
}

/// `RTE_PMD_AF_PACKET_MAX_RINGS`
const AF_PACKET_MAX_PAIRS: u16 = 16;

/// Receive queues of a kernel interface, at least one, at most what `AF_XDP` in DPDK handles.
fn kernel_rx_queues(interface: &str) -> usize {
    let queues = fs::read_dir(format!("/sys/class/net/{interface}/queues"));
    let is_rx = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("rx-");
    queues.map_or(1, |entries| entries.flatten().filter(is_rx).count().clamp(1, 64))
}

/// The drivers for the vendor of the PCI device at `address`; none for a vendor not in the table.
#[must_use]
pub fn pci_drivers(address: &str) -> Vec<&'static str> {
    let vendor = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/vendor")).unwrap_or_default();
    let drivers: &[&str] = match vendor.trim() {
        "0x8086" => {
            &["rte_net_e1000", "rte_net_igc", "rte_net_ixgbe", "rte_net_i40e", "rte_net_iavf", "rte_net_ice"]
        }
        "0x15b3" => &["rte_net_mlx4", "rte_net_mlx5"],
        "0x14e4" => &["rte_net_bnxt"],
        "0x1425" => &["rte_net_cxgbe"],
        "0x1924" => &["rte_net_sfc"],
        "0x1af4" => &["rte_net_virtio"],
        "0x15ad" => &["rte_net_vmxnet3"],
        "0x1d0f" => &["rte_net_ena"],
        "0x1ae0" => &["rte_net_gve"],
        _ => &[],
    };
    drivers.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic_port(device: Device) -> NicPort {
        NicPort {
            name: "lan".to_owned(),
            device,
            rx_descriptors: 1024,
            tx_descriptors: 512,
            mtu: 1500,
            promiscuous: false,
        }
    }

    #[test]
    fn writes_the_arguments_of_each_virtual_device() {
        let interface = || "veth0".to_owned();
        let rows = [
            (
                Device::AfPacket { interface: interface() },
                "net_af_packet1,iface=veth0,qpairs=2,framesz=2048,blocksz=4096,framecnt=1024",
            ),
            (Device::Tap { interface: interface() }, "net_tap1,iface=veth0"),
            (
                Device::Memif { role: MemifRole::Client, id: 7, socket: "/run/m.sock".into() },
                "net_memif1,role=client,id=7,socket=/run/m.sock,socket-abstract=no,rsize=10,bsize=2048",
            ),
            (
                Device::Pcap { rx: "in.pcap".into(), tx: "out.pcap".into() },
                "net_pcap1,rx_pcap=in.pcap,tx_pcap=out.pcap",
            ),
            (Device::Ring { name: "loop".to_owned() }, "net_ring_loop"),
            (Device::Null, "net_null1,no-rx=1"),
        ];
        for (device, expected) in rows {
            let eal = EalDevice::new(1, &nic_port(device), 2);
            assert_eq!(eal.argument, EalArgument::Vdev(expected.to_owned()));
        }
    }

    #[test]
    fn af_packet_slots_leave_no_gap_in_a_block() {
        for (mtu, slot) in [(68, 2048), (1500, 2048), (1920, 2048), (1921, 4096), (9000, 12_288)] {
            assert_eq!(af_packet_slot_bytes(mtu), slot, "mtu {mtu}");
        }
    }
}
