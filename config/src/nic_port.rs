//! `[[nic_port]]`: DPDK ports and the devices behind them.

mod device;

use crate::machine::Machine;
use crate::model::NicPort;
use crate::names;
use crate::print::{Printer, quoted};
use crate::read::{Located, Table};
use crate::schema::{Form, Key, Section};
use crate::value;

pub(crate) use device::SECTION as DEVICE;

pub(crate) const SECTION: Section = Section {
    path: "nic_port",
    form: Form::List,
    about: "A NIC port that DPDK owns.",
    keys: &[NAME, DEVICE_KEY, RX_DESCRIPTORS, TX_DESCRIPTORS, MTU, PROMISCUOUS],
};

const NAME: Key = Key { name: "name", example: "\"lan0\"", reason: "What interfaces call it." };
const DEVICE_KEY: Key = Key {
    name: "device",
    example: "{ driver = \"pci\", address = \"0000:01:00.0\" }",
    reason: "What DPDK opens: pci, af_packet, af_xdp, tap, memif, pcap, ring or null.",
};
const RX_DESCRIPTORS: Key = Key {
    name: "rx_descriptors",
    example: "1024",
    reason: "Frames a receive queue holds, a power of two; 1024 rides out about 0.7 ms at 1.5 Mpps.",
};
const TX_DESCRIPTORS: Key = Key {
    name: "tx_descriptors",
    example: "1024",
    reason: "Frames a transmit queue holds, a power of two; what does not fit is dropped and counted.",
};
const MTU: Key = Key {
    name: "mtu",
    example: "1500",
    reason: "Largest IP packet in bytes, 68 to 9000; 1500 is Ethernet's.",
};
const PROMISCUOUS: Key = Key {
    name: "promiscuous",
    example: "false",
    reason: "Whether frames for other stations are received too; a router needs only its own.",
};

/// Reads the list.
pub(crate) fn read<'a>(root: &Table<'a>, machine: &Machine) -> Vec<Located<'a, NicPort>> {
    let tables = root.require_tables(&SECTION, "add [[nic_port]] for each NIC, two as a rule");
    if let Some(table) = tables.get(MAX_NIC_PORTS) {
        table.place.refuse(format!("is one more than the {MAX_NIC_PORTS} NIC ports supported"), "remove it");
    }
    let mut names = names::Names::default();
    let mut devices = device::Devices::default();
    let read_one = |table: Table<'a>| {
        let name = table.require(&NAME, value::name);
        names.claim(&name);
        let device = table.require(&DEVICE_KEY, |field| device::read(field, machine));
        devices.claim(&device);
        let value = NicPort {
            name: name.map(|name| name.value).unwrap_or_default(),
            device: device.map_or(crate::model::Device::Null, |device| device.value),
            rx_descriptors: table.get(&RX_DESCRIPTORS, value::power_of_two(64..=32_768)).unwrap_or(1024),
            tx_descriptors: table.get(&TX_DESCRIPTORS, value::power_of_two(64..=32_768)).unwrap_or(1024),
            mtu: table.get(&MTU, value::integer(68..=9000)).unwrap_or(1500),
            promiscuous: table.get(&PROMISCUOUS, value::boolean).unwrap_or(false),
        };
        Located { value, place: table.place }
    };
    tables.into_iter().map(read_one).collect()
}

/// Prints the list.
pub(crate) fn print(nic_ports: &[NicPort], out: &mut Printer) {
    for nic_port in nic_ports {
        out.table(&SECTION)
            .key(&NAME, quoted(&nic_port.name))
            .key(&DEVICE_KEY, device::print(&nic_port.device))
            .key(&RX_DESCRIPTORS, nic_port.rx_descriptors)
            .key(&TX_DESCRIPTORS, nic_port.tx_descriptors)
            .key(&MTU, nic_port.mtu)
            .key(&PROMISCUOUS, nic_port.promiscuous);
    }
}

const MAX_NIC_PORTS: usize = 64;
