//! `device = { driver = "...", ... }`: what DPDK opens for a NIC port.

use std::path::Path;

use crate::machine::Machine;
use crate::model::{Device, MemifRole};
use crate::print::{inline, quoted};
use crate::read::{Field, Located, Place, Table};
use crate::schema::{Form, Key, Section, enumerate};
use crate::value::{self, Choices};

/// The keys of every driver together.
pub(crate) const SECTION: Section = Section {
    path: "nic_port.device",
    form: Form::Inline,
    about: "",
    keys: &[DRIVER, ADDRESS, INTERFACE, ROLE, ID, SOCKET, RX, TX, NAME],
};

const DRIVER: Key = Key { name: "driver", example: "\"pci\"", reason: "" };
const ADDRESS: Key = Key { name: "address", example: "\"0000:01:00.0\"", reason: "" };
const INTERFACE: Key = Key { name: "interface", example: "\"veth0\"", reason: "" };
const ROLE: Key = Key { name: "role", example: "\"server\"", reason: "" };
const ID: Key = Key { name: "id", example: "0", reason: "" };
const SOCKET: Key = Key { name: "socket", example: "\"/run/algate/memif.sock\"", reason: "" };
const RX: Key = Key { name: "rx", example: "\"in.pcap\"", reason: "" };
const TX: Key = Key { name: "tx", example: "\"out.pcap\"", reason: "" };
const NAME: Key = Key { name: "name", example: "\"ring0\"", reason: "" };

/// A DPDK driver, by its word in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Pci,
    AfPacket,
    AfXdp,
    Tap,
    Memif,
    Pcap,
    Ring,
    Null,
}

const DRIVERS: Choices<Driver> = &[
    ("pci", Driver::Pci),
    ("af_packet", Driver::AfPacket),
    ("af_xdp", Driver::AfXdp),
    ("tap", Driver::Tap),
    ("memif", Driver::Memif),
    ("pcap", Driver::Pcap),
    ("ring", Driver::Ring),
    ("null", Driver::Null),
];

const ROLES: Choices<MemifRole> = &[("server", MemifRole::Server), ("client", MemifRole::Client)];

impl Driver {
    /// The keys that a device of this driver has, besides `driver`; all but `id` are needed.
    fn keys(self) -> &'static [&'static Key] {
        match self {
            Self::Pci => &[&ADDRESS],
            Self::AfPacket | Self::AfXdp | Self::Tap => &[&INTERFACE],
            Self::Memif => &[&ROLE, &ID, &SOCKET],
            Self::Pcap => &[&RX, &TX],
            Self::Ring => &[&NAME],
            Self::Null => &[],
        }
    }
}

/// Reads a device.
pub(crate) fn read(field: &Field<'_>, machine: &Machine) -> Option<Device> {
    let table = field.table(&SECTION)?;
    let driver = table.require(&DRIVER, value::choice(DRIVERS))?.value;
    refuse_other_drivers_keys(&table, driver);
    match driver {
        Driver::Pci => Some(Device::Pci { address: table.require(&ADDRESS, pci_address)?.value }),
        Driver::AfPacket => {
            let interface = table.require(&INTERFACE, machine.existing_interface())?.value;
            Some(Device::AfPacket { interface })
        }
        Driver::AfXdp => {
            let interface = table.require(&INTERFACE, machine.existing_interface())?.value;
            Some(Device::AfXdp { interface })
        }
        Driver::Tap => {
            let interface = table.require(&INTERFACE, value::kernel_interface)?.value;
            Some(Device::Tap { interface })
        }
        Driver::Memif => {
            let role = table.require(&ROLE, value::choice(ROLES));
            let id = if table.has(&ID) { table.get(&ID, value::integer(0..=MAX_MEMIF_ID)) } else { Some(0) };
            let socket = table.require(&SOCKET, value::socket_path);
            Some(Device::Memif { role: role?.value, id: id?, socket: socket?.value })
        }
        Driver::Pcap => {
            let rx = table.require(&RX, value::path);
            let tx = table.require(&TX, value::path);
            let (rx, tx) = (rx?.value, tx?);
            if rx == tx.value {
                tx.place.refuse("is the file that is read, too", "write to another file");
            }
            Some(Device::Pcap { rx, tx: tx.value })
        }
        Driver::Ring => Some(Device::Ring { name: table.require(&NAME, value::name)?.value }),
        Driver::Null => Some(Device::Null),
    }
}

/// Prints a device as an inline table.
pub(crate) fn print(device: &Device) -> String {
    let path = |path: &Path| quoted(path.display());
    let (driver, entries) = match device {
        Device::Pci { address } => (Driver::Pci, vec![(&ADDRESS, quoted(address))]),
        Device::AfPacket { interface } => (Driver::AfPacket, vec![(&INTERFACE, quoted(interface))]),
        Device::AfXdp { interface } => (Driver::AfXdp, vec![(&INTERFACE, quoted(interface))]),
        Device::Tap { interface } => (Driver::Tap, vec![(&INTERFACE, quoted(interface))]),
        Device::Memif { role, id, socket } => (
            Driver::Memif,
            vec![
                (&ROLE, quoted(value::word_of(ROLES, *role))),
                (&ID, id.to_string()),
                (&SOCKET, path(socket)),
            ],
        ),
        Device::Pcap { rx, tx } => (Driver::Pcap, vec![(&RX, path(rx)), (&TX, path(tx))]),
        Device::Ring { name } => (Driver::Ring, vec![(&NAME, quoted(name))]),
        Device::Null => (Driver::Null, Vec::new()),
    };
    let mut all = vec![(&DRIVER, quoted(value::word_of(DRIVERS, driver)))];
    all.extend(entries);
    inline(&all)
}

/// The devices claimed so far, to refuse one that two ports would open.
#[derive(Default)]
pub(crate) struct Devices<'a>(Vec<(String, Place<'a>)>);

impl<'a> Devices<'a> {
    /// Claims what the device takes for itself alone.
    pub(crate) fn claim(&mut self, device: &Option<Located<'a, Device>>) {
        let Some(Located { value, place }) = device else { return };
        let Some(resource) = resource(value) else { return };
        match self.0.iter().find(|(claimed, _)| *claimed == resource) {
            Some((_, first)) => {
                let problem = format!("opens {resource} a second time (first on line {})", first.line());
                place.refuse(problem, "give each NIC port a device of its own");
            }
            None => self.0.push((resource, place.clone())),
        }
    }
}

/// What only one port can open; reading a capture file does no harm twice.
fn resource(device: &Device) -> Option<String> {
    match device {
        Device::Pci { address } => Some(format!("PCI device {address}")),
        Device::AfPacket { interface } | Device::AfXdp { interface } | Device::Tap { interface } => {
            Some(format!("kernel interface {interface}"))
        }
        Device::Memif { id, socket, .. } => Some(format!("memif {id} on {}", socket.display())),
        Device::Pcap { tx, .. } => Some(format!("capture file {}", tx.display())),
        Device::Ring { name } => Some(format!("ring {name}")),
        Device::Null => None,
    }
}

fn refuse_other_drivers_keys(table: &Table<'_>, driver: Driver) {
    let word = value::word_of(DRIVERS, driver);
    for key in SECTION.keys.iter().filter(|key| key.name != DRIVER.name && table.has(key)) {
        if !driver.keys().iter().any(|own| own.name == key.name) {
            let names: Vec<String> = driver.keys().iter().map(|own| own.name.to_string()).collect();
            let remedy = enumerate("key", &names);
            table.place_absent(key.name).refuse(format!("is not a key of driver {word}"), remedy);
        }
    }
}

/// Domain, bus, device and function in hex, as `lspci -D` prints them.
fn pci_address(field: &Field<'_>) -> Option<String> {
    let written = value::text(field)?;
    let digits = "hhhh:hh:hh.o";
    let fits = |(c, digit): (char, char)| match digit {
        'h' => c.is_ascii_hexdigit(),
        'o' => ('0'..='7').contains(&c),
        separator => c == separator,
    };
    if written.len() == digits.len() && written.chars().zip(digits.chars()).all(fits) {
        return Some(written.to_ascii_lowercase());
    }
    let remedy = "write domain:bus:device.function as lspci -D prints it, e.g. \"0000:01:00.0\"";
    field.place.refuse("is not a PCI address", remedy);
    None
}

/// The driver takes 32 bits.
const MAX_MEMIF_ID: u64 = 0xffff_ffff;
