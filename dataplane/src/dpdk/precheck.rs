//! Asks the machine whether a device can be opened, before the EAL tries.
//!
//! The EAL says "cannot probe device" to everything; the kernel knows why: the interface does not
//! exist, is down, the process lacks a capability, the NIC is bound to its kernel driver.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use algate_config::{Config, Device, MemifRole};

use super::device::pci_drivers;
use crate::setup_error::SetupError;

/// Checks all devices of `config`.
///
/// # Errors
/// A sentence with its remedy for each that cannot be opened.
pub fn check(config: &Config) -> Result<(), SetupError> {
    let capabilities = Capabilities::of_process();
    let sentences = config.nic_ports.iter().filter_map(|nic_port| {
        let problem = problem_of(&nic_port.device, nic_port.mtu, capabilities)?;
        Some(format!("nic_port \"{}\": {problem}", nic_port.name))
    });
    SetupError::unless_empty(sentences.collect())
}

fn problem_of(device: &Device, mtu: u16, capabilities: Capabilities) -> Option<String> {
    match device {
        Device::Pci { address } => pci_problem(address),
        Device::AfPacket { interface } => missing_capability(capabilities.net_raw, "CAP_NET_RAW")
            .or_else(|| interface_problem(interface, mtu)),
        Device::AfXdp { interface } => missing_capability(
            capabilities.net_raw && capabilities.net_admin && capabilities.bpf,
            "CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF",
        )
        .or_else(|| interface_problem(interface, mtu)),
        Device::Tap { interface } => tap_problem(interface, capabilities),
        Device::Memif { role, socket, .. } => memif_problem(*role, socket),
        Device::Pcap { rx, tx } => pcap_problem(rx, tx),
        Device::Ring { .. } | Device::Null => None,
    }
}

fn missing_capability(has: bool, names: &str) -> Option<String> {
    (!has).then(|| format!("the process lacks {names}: run algate as root, or grant them with setcap"))
}

fn interface_problem(interface: &str, mtu: u16) -> Option<String> {
    let path = format!("/sys/class/net/{interface}");
    if !Path::new(&path).exists() {
        return Some(format!("kernel interface {interface} does not exist: ip link shows those that do"));
    }
    let flags = fs::read_to_string(format!("{path}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(IFF_UP);
    if flags & IFF_UP == 0 {
        return Some(format!("kernel interface {interface} is down: ip link set dev {interface} up"));
    }
    let kernel_mtu = fs::read_to_string(format!("{path}/mtu")).unwrap_or_default();
    let kernel_mtu: u32 = kernel_mtu.trim().parse().unwrap_or(u32::MAX);
    (kernel_mtu < u32::from(mtu)).then(|| {
        format!(
            "mtu {mtu} is more than the {kernel_mtu} of kernel interface {interface}: \
             ip link set dev {interface} mtu {mtu}, or lower mtu"
        )
    })
}

fn tap_problem(interface: &str, capabilities: Capabilities) -> Option<String> {
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun does not exist: modprobe tun".to_owned());
    }
    if Path::new(&format!("/sys/class/net/{interface}")).exists() {
        return Some(format!(
            "kernel interface {interface} exists already, and a tap is made anew: choose another name, \
             or ip link del {interface}"
        ));
    }
    missing_capability(capabilities.net_admin, "CAP_NET_ADMIN")
}

fn memif_problem(role: MemifRole, socket: &Path) -> Option<String> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        return Some(format!(
            "directory {} of the memif socket does not exist: mkdir -p {0}",
            directory.display()
        ));
    }
    if role == MemifRole::Server && UnixStream::connect(socket).is_ok() {
        return Some(format!(
            "another process serves memif socket {}: stop it, or choose another socket",
            socket.display()
        ));
    }
    None
}

fn pcap_problem(rx: &Path, tx: &Path) -> Option<String> {
    if let Err(error) = fs::File::open(rx) {
        return Some(format!("capture file {} cannot be read ({error}): name one that can", rx.display()));
    }
    let directory = tx.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (!directory.is_dir()).then(|| {
        format!(
            "directory {} of capture file {} does not exist: mkdir -p {0}",
            directory.display(),
            tx.display()
        )
    })
}

fn pci_problem(address: &str) -> Option<String> {
    let path = format!("/sys/bus/pci/devices/{address}");
    if !Path::new(&path).exists() {
        return Some(format!("there is no PCI device {address}: lspci -D shows those there are"));
    }
    let drivers = pci_drivers(address);
    if drivers.is_empty() {
        return Some(format!(
            "no DPDK driver is known for the vendor of PCI device {address}: use device type \
             \"af_packet\" or \"af_xdp\" on its kernel interface"
        ));
    }
    // mlx4 and mlx5 work beside the kernel's driver.
    if drivers.contains(&"rte_net_mlx5") {
        return None;
    }
    let bound = fs::read_link(format!("{path}/driver")).ok();
    let bound = bound.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    match bound.as_deref() {
        Some("vfio-pci" | "uio_pci_generic" | "igb_uio") => None,
        bound => Some(format!(
            "PCI device {address} is bound to {}: modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}",
            bound.unwrap_or("no driver")
        )),
    }
}

/// What the process may do.
#[derive(Debug, Clone, Copy)]
struct Capabilities {
    net_raw: bool,
    net_admin: bool,
    bpf: bool,
}

impl Capabilities {
    /// The effective set, from `/proc/self/status`.
    fn of_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        // Without /proc nothing is known: let the device say.
        let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX);
        let has = |bit: u32| set >> bit & 1 == 1;
        Self { net_raw: has(13), net_admin: has(12), bpf: has(39) || has(21) }
    }
}

/// `IFF_UP`
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_obstacle_and_the_remedy() {
        let none = Capabilities { net_raw: false, net_admin: false, bpf: false };
        let all = Capabilities { net_raw: true, net_admin: true, bpf: true };
        let rows = [
            (
                Device::AfPacket { interface: "nosuch0".to_owned() },
                none,
                "the process lacks CAP_NET_RAW: run algate as root, or grant them with setcap",
            ),
            (
                Device::AfPacket { interface: "nosuch0".to_owned() },
                all,
                "kernel interface nosuch0 does not exist: ip link shows those that do",
            ),
            (
                Device::Pci { address: "0000:99:00.0".to_owned() },
                all,
                "there is no PCI device 0000:99:00.0: lspci -D shows those there are",
            ),
            (
                Device::Memif { role: MemifRole::Server, id: 0, socket: "/nosuch/m.sock".into() },
                all,
                "directory /nosuch of the memif socket does not exist: mkdir -p /nosuch",
            ),
        ];
        for (device, capabilities, expected) in rows {
            assert_eq!(problem_of(&device, 1_500, capabilities).as_deref(), Some(expected));
        }
    }

    #[test]
    fn finds_nothing_wrong_with_the_loopback_interface_and_memory_devices() {
        let all = Capabilities { net_raw: true, net_admin: true, bpf: true };
        assert_eq!(problem_of(&Device::Ring { name: "r".to_owned() }, 9_000, all), None);
        assert_eq!(problem_of(&Device::Null, 9_000, all), None);
    }
}
