//! `[[interface]]`: routed interfaces on NIC ports, untagged or one VLAN each.
//!
//! Connected prefixes of different interfaces are disjoint, so an address has one interface at most; those of
//! different tenants may be equal, and an address has one interface of each tenant at most.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::address;
use crate::model::{Interface, NicPort, Side};
use crate::names;
use crate::print::{Printer, list, quoted};
use crate::read::{Located, Place, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "interface",
    form: Form::List,
    about: "A routed interface on a NIC port; several share a port by VLAN.",
    keys: &[NAME, NIC_PORT, VLAN, SIDE, TENANT, ADDRESSES, MTU, SOURCE_CHECK],
};

const NAME: Key = Key { name: "name", example: "\"lan\"", reason: "What routes and output call it." };
const NIC_PORT: Key = Key { name: "nic_port", example: "\"lan0\"", reason: "The NIC port it is on." };
const VLAN: Key =
    Key { name: "vlan", example: "10", reason: "VLAN id, 1 to 4094; without it: untagged frames." };
const SIDE: Key = Key {
    name: "side",
    example: "\"internal\"",
    reason: "internal: hosts whose addresses are translated; external: the rest of the world.",
};
const TENANT: Key = Key {
    name: "tenant",
    example: "7",
    reason: "Address space of its hosts, 1 to 4095, which others may use too; without it: the one they share.",
};
const ADDRESSES: Key = Key {
    name: "addresses",
    example: "[\"10.0.0.1/24\"]",
    reason: "Own addresses with their connected prefixes; the first one speaks for the interface.",
};
const MTU: Key = Key {
    name: "mtu",
    example: "1500",
    reason: "Largest IP packet in bytes; the NIC port's unless the link behind it takes less.",
};
const SOURCE_CHECK: Key = Key {
    name: "source_check",
    example: "true",
    reason: "Drops sources not routed back through this interface; false: for asymmetric routing only.",
};

const SIDES: Choices<Side> = &[("internal", Side::Internal), ("external", Side::External)];

/// The highest tenant.
pub(crate) const MAX_TENANT: u64 = 4095;

/// An interface as far as it could be read: what is wrong is `None` or left out.
pub(crate) struct Draft<'a> {
    place: Place<'a>,
    name: Option<Located<'a, String>>,
    nic_port: Option<usize>,
    vlan: Option<u16>,
    /// The side, where it is known.
    pub(crate) side: Option<Side>,
    /// The tenant; 0 for none.
    pub(crate) tenant: u16,
    /// Own addresses with their connected prefixes.
    pub(crate) addresses: Vec<Located<'a, Ipv4Net>>,
    mtu: u16,
    source_check: bool,
    /// Whether all of it could be read.
    pub(crate) is_sound: bool,
}

impl<'a> Draft<'a> {
    /// The name, for messages.
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().map_or("", |name| name.value.as_str())
    }

    /// The connected prefix that holds an address.
    pub(crate) fn connected(&self, address: Ipv4Addr) -> Option<&Located<'a, Ipv4Net>> {
        self.addresses.iter().find(|own| own.value.contains(&address))
    }

    /// Whether hosts of `tenant` see it: it is their own, or external.
    pub(crate) fn is_seen_by(&self, tenant: u16) -> bool {
        self.side != Some(Side::Internal) || self.tenant == tenant
    }

    /// Whether some hosts see both interfaces, so that they need addresses of their own.
    fn meets(&self, other: &Self) -> bool {
        self.is_seen_by(other.tenant) || other.is_seen_by(self.tenant)
    }

    /// The model's interface; a wrong value's place is taken by one that nobody will see.
    pub(crate) fn into_model(self) -> Interface {
        Interface {
            name: self.name.map(|name| name.value).unwrap_or_default(),
            nic_port: self.nic_port.unwrap_or_default(),
            vlan: self.vlan,
            side: self.side.unwrap_or(Side::Internal),
            tenant: self.tenant,
            addresses: self.addresses.into_iter().map(|own| own.value).collect(),
            mtu: self.mtu,
            source_check: self.source_check,
        }
    }
}

/// Reads the list.
pub(crate) fn read<'a>(root: &Table<'a>, nic_ports: &[Located<'a, NicPort>]) -> Vec<Draft<'a>> {
    let mut names = names::Names::default();
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    for table in root.require_tables(&SECTION, "add [[interface]] for each network that algate routes") {
        let draft = read_one(&table, nic_ports);
        names.claim(&draft.name);
        let is_vlan_known = draft.vlan.is_some() || !table.has(&VLAN);
        if is_vlan_known {
            refuse_same_link(&draft, &drafts);
        }
        for (index, own) in draft.addresses.iter().enumerate() {
            let own_earlier = draft.addresses.iter().take(index);
            let met = || drafts.iter().filter(|other| other.meets(&draft));
            refuse_same_address(own, met().flat_map(|other| &other.addresses).chain(own_earlier));
            refuse_overlap(own, met());
        }
        drafts.push(draft);
    }
    drafts
}

/// Prints the list.
pub(crate) fn print(interfaces: &[Interface], nic_ports: &[NicPort], out: &mut Printer) {
    for interface in interfaces {
        let nic_port = nic_ports.get(interface.nic_port).map_or("", |nic_port| nic_port.name.as_str());
        out.table(&SECTION).key(&NAME, quoted(&interface.name)).key(&NIC_PORT, quoted(nic_port));
        if let Some(vlan) = interface.vlan {
            out.key(&VLAN, vlan);
        }
        out.key(&SIDE, quoted(value::word_of(SIDES, interface.side)));
        if interface.tenant != 0 {
            out.key(&TENANT, interface.tenant);
        }
        out.key(&ADDRESSES, list(interface.addresses.iter().map(quoted))).key(&MTU, interface.mtu);
        if interface.side == Side::Internal {
            out.key(&SOURCE_CHECK, interface.source_check);
        }
    }
}

/// The interfaces whose connected prefixes hold an address, with their indexes: one of each tenant at most.
pub(crate) fn connected_to<'d, 'a>(
    drafts: &'d [Draft<'a>],
    address: Ipv4Addr,
) -> impl Iterator<Item = (usize, &'d Draft<'a>)> {
    drafts.iter().enumerate().filter(move |(_, draft)| draft.connected(address).is_some())
}

/// Every own address that hosts of `tenant` see.
pub(crate) fn own_addresses<'d, 'a>(
    drafts: &'d [Draft<'a>],
    tenant: u16,
) -> impl Iterator<Item = &'d Located<'a, Ipv4Net>> {
    drafts.iter().filter(move |draft| draft.is_seen_by(tenant)).flat_map(|draft| &draft.addresses)
}

/// Whether some internal interface has this tenant; 0: has none.
pub(crate) fn has_tenant(drafts: &[Draft<'_>], tenant: u16) -> bool {
    drafts.iter().any(|draft| draft.side != Some(Side::External) && draft.tenant == tenant)
}

/// Whether internal interfaces are of different tenants, one without a tenant included.
pub(crate) fn has_several_tenants(drafts: &[Draft<'_>]) -> bool {
    drafts.iter().any(|draft| draft.side != Some(Side::External)) && only_tenant(drafts).is_none()
}

/// The tenant of all internal interfaces, where they have the same or none; `None` without such interfaces.
pub(crate) fn only_tenant(drafts: &[Draft<'_>]) -> Option<u16> {
    let mut tenants =
        drafts.iter().filter(|draft| draft.side != Some(Side::External)).map(|draft| draft.tenant);
    let first = tenants.next()?;
    tenants.all(|tenant| tenant == first).then_some(first)
}

/// The tenant of internal hosts that a table names; 0 without the key. `None`: wrong or unknown, and noted.
pub(crate) fn read_tenant(table: &Table<'_>, key: &'static Key, drafts: &[Draft<'_>]) -> Option<u16> {
    let tenant = table.get_located(key, value::integer(1..=MAX_TENANT));
    match tenant {
        None if table.has(key) => None,
        None => Some(0),
        Some(tenant) => {
            refuse_unknown_tenant(&tenant, drafts);
            has_tenant(drafts, tenant.value).then_some(tenant.value)
        }
    }
}

/// Refuses a tenant that no interface has, of a rule or a forward.
pub(crate) fn refuse_unknown_tenant(tenant: &Located<'_, u16>, drafts: &[Draft<'_>]) {
    if !has_tenant(drafts, tenant.value) && drafts.iter().all(|draft| draft.is_sound) {
        let problem = match tenant.value {
            0 => "means interfaces without a tenant, and there are none",
            _ => "is no internal interface's tenant",
        };
        tenant.place.refuse(problem, "name the tenant of an interface");
    }
}

fn read_one<'a>(table: &Table<'a>, nic_ports: &[Located<'a, NicPort>]) -> Draft<'a> {
    let mistakes_before = table.place.mistakes();
    let name = table.require(&NAME, value::name);
    let nic_port = table.require(&NIC_PORT, value::name);
    let nic_port = nic_port.and_then(|name| {
        let names: Vec<&str> = nic_ports.iter().map(|nic_port| nic_port.value.name.as_str()).collect();
        names::find_by_name(&name, "NIC port", &names)
    });
    let mtu_of_port = nic_port.and_then(|index| nic_ports.get(index)).map_or(9000, |port| port.value.mtu);
    let mtu = table.get_located(&MTU, value::integer(68..=9000));
    if let Some(mtu) = mtu.as_ref().filter(|mtu| mtu.value > mtu_of_port) {
        let problem = format!("is above the NIC port's MTU {mtu_of_port}");
        mtu.place.refuse(problem, "lower it, or raise nic_port.mtu");
    }
    let side = table.require(&SIDE, value::choice(SIDES)).map(|side| side.value);
    let source_check = table.get_located(&SOURCE_CHECK, value::boolean);
    if let (Some(check), Some(Side::External)) = (&source_check, side) {
        check.place.refuse(
            "is a choice of internal interfaces: internal sources are never admitted outside",
            "remove the line",
        );
    }
    let tenant = table.get_located(&TENANT, value::integer(1..=MAX_TENANT));
    if let (Some(tenant), Some(Side::External)) = (&tenant, side) {
        let problem = "is a choice of internal interfaces: external ones serve all tenants";
        tenant.place.refuse(problem, "remove the line");
    }
    Draft {
        place: table.place.clone(),
        name,
        nic_port,
        vlan: table.get(&VLAN, value::integer(1..=4094)),
        side,
        tenant: tenant.map_or(0, |tenant| tenant.value),
        addresses: table
            .require(&ADDRESSES, value::non_empty(value::list(address::own_address)))
            .map(|addresses| addresses.value)
            .unwrap_or_default(),
        mtu: mtu.map_or(mtu_of_port, |mtu| mtu.value),
        source_check: source_check.is_none_or(|check| check.value),
        is_sound: table.place.mistakes() == mistakes_before,
    }
}

fn refuse_same_link(draft: &Draft<'_>, earlier: &[Draft<'_>]) {
    let is_same = |other: &&Draft<'_>| {
        draft.nic_port.is_some() && (other.nic_port, other.vlan) == (draft.nic_port, draft.vlan)
    };
    if let Some(other) = earlier.iter().find(is_same) {
        let link = draft.vlan.map_or("untagged frames".to_string(), |vlan| format!("frames of VLAN {vlan}"));
        let problem =
            format!("takes the same {link} as interface {:?} (line {})", other.name(), other.place.line());
        draft.place.refuse(problem, "give it another nic_port or vlan");
    }
}

fn refuse_same_address<'d, 'a: 'd>(
    own: &Located<'a, Ipv4Net>,
    mut earlier: impl Iterator<Item = &'d Located<'a, Ipv4Net>>,
) {
    if let Some(other) = earlier.find(|other| other.value.addr() == own.value.addr()) {
        own.place.refuse(
            format!("is an own address already (line {})", other.place.line()),
            "choose another address",
        );
    }
}

fn refuse_overlap<'d, 'a: 'd>(own: &Located<'_, Ipv4Net>, earlier: impl Iterator<Item = &'d Draft<'a>>) {
    for other in earlier {
        let overlaps = |theirs: &&Located<'_, Ipv4Net>| overlap(&theirs.value, &own.value);
        if let Some(theirs) = other.addresses.iter().find(overlaps) {
            let problem = format!(
                "overlaps connected prefix {} of interface {:?} (line {})",
                theirs.value.trunc(),
                other.name(),
                theirs.place.line()
            );
            own.place.refuse(problem, "give each interface a prefix of its own");
        }
    }
}

/// Of two prefixes that share an address, one holds the other.
fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}
