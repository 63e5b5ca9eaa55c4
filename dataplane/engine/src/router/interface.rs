//! Routed interfaces: which one a frame came in on, and which addresses are ours.
//!
//! RFC 1812 section 5.3.4 and 5.3.5 (broadcasts). Built once from the configuration, then only read.
//!
//! A tenant sees its own interfaces and the external ones: an address of another tenant's interface means nothing
//! to it. What is external sees the interfaces of no tenant.

use algate_config::{Config, Side};
use hashbrown::HashMap;

use crate::drop_reason::DropReason;
use crate::ids::{InterfaceId, NicPortId, TenantId};
use crate::packet::build::ethernet_bytes;
use crate::packet::plain::EthernetRest;

/// A routed interface: a port, untagged or one VLAN of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub id: InterfaceId,
    /// The port it lies on.
    pub nic_port: NicPortId,
    /// VLAN id; 0: untagged frames.
    pub vlan: u16,
    /// Own MAC address.
    pub mac: [u8; 6],
    /// Side of the NAT.
    pub side: Side,
    /// Whose it is; an external one is nobody's.
    pub tenant: TenantId,
    /// Whether sources must be routed back through it, where it is internal.
    pub source_check: bool,
    /// Largest IPv4 packet, bytes.
    pub mtu: u16,
    /// Own addresses; the first one speaks for the interface.
    pub addresses: Vec<InterfaceAddress>,
}

/// An own address and its connected prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: u32,
    /// Length of the prefix, 0 to 32.
    pub prefix_length: u8,
}

impl InterfaceAddress {
    /// Whether `address` lies in the connected prefix.
    #[must_use]
    pub fn is_connected(&self, address: u32) -> bool {
        (self.address ^ address) & self.mask() == 0
    }

    /// Whether `address` is the prefix's broadcast address, all ones or (RFC 1812 section 5.3.5) all
    /// zeros. A /31 (RFC 3021) and a /32 have none.
    #[must_use]
    pub fn is_broadcast(&self, address: u32) -> bool {
        let host_bits = !self.mask();
        self.prefix_length < 31
            && self.is_connected(address)
            && (address & host_bits == host_bits || address & host_bits == 0)
    }

    /// First and last address of the connected prefix.
    #[must_use]
    pub fn range(&self) -> (u32, u32) {
        (self.address & self.mask(), self.address | !self.mask())
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0)
    }
}

impl Interface {
    /// Whether hosts of `tenant` see it.
    #[must_use]
    pub fn is_seen_by(&self, tenant: TenantId) -> bool {
        self.side == Side::External || self.tenant == tenant
    }

    /// Whether `address` is one of this interface's own.
    #[must_use]
    pub fn has_address(&self, address: u32) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }

    /// Whether `address` lies in one of the connected prefixes.
    #[must_use]
    pub fn is_connected(&self, address: u32) -> bool {
        self.addresses.iter().any(|own| own.is_connected(address))
    }

    /// The own address that speaks to `peer`: the one whose prefix holds it, else the first one.
    /// `None`: the interface has no address.
    #[must_use]
    pub fn address_towards(&self, peer: u32) -> Option<u32> {
        let near = self.addresses.iter().find(|own| own.is_connected(peer));
        near.or(self.addresses.first()).map(|own| own.address)
    }
}

/// What an ordinary packet needs of the interface on which it leaves: half a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct Exit {
    /// The Ethernet header behind the destination address.
    pub rest: EthernetRest,
    /// The port it lies on.
    pub nic_port: NicPortId,
    /// Largest frame, bytes.
    pub frame_bytes: u32,
    /// Length of its Ethernet header, bytes.
    pub l2_bytes: u8,
}

/// All interfaces.
#[derive(Debug)]
pub struct Interfaces {
    list: Vec<Interface>,
    exits: Vec<Exit>,
    ports: Vec<Port>,
    /// By tenant and address; `None`: on an external interface, and so every tenant's.
    own: HashMap<(Option<TenantId>, u32), InterfaceId>,
    special: AddressFilter,
}

/// Which addresses may be own ones or broadcast ones of any interface: a bit by hash, so that the answer for others is
/// one load.
#[derive(Debug)]
struct AddressFilter(Box<[u64]>);

impl AddressFilter {
    fn new(interfaces: &[Interface]) -> Self {
        let mut filter = Self(vec![0; FILTER_BITS / 64].into());
        for own in interfaces.iter().flat_map(|interface| &interface.addresses) {
            let (first, last) = own.range();
            [own.address, first, last].into_iter().for_each(|address| filter.add(address));
        }
        filter
    }

    fn add(&mut self, address: u32) {
        let (word, bit) = Self::place(address);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    #[inline]
    fn may_hold(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    const fn place(address: u32) -> (usize, u64) {
        let hash = address.wrapping_mul(0x9e37_79b1) as usize % FILTER_BITS;
        (hash / 64, 1 << (hash % 64))
    }
}

/// Where a frame came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The interface.
    pub interface: InterfaceId,
    /// Its tenant.
    pub tenant: TenantId,
}

/// What decides the interface of a received frame.
#[derive(Debug)]
pub struct Port {
    mac: [u8; 6],
    /// The same as the first 8 bytes of a frame have it, read as a little-endian word and without the last 2 of them.
    station: u64,
    /// By VLAN id: tenant (high half) and interface; [`NOWHERE`] where there is none.
    interfaces: Box<[u32; VLAN_IDS]>,
}

impl Port {
    fn new(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        // A group's address is no station's: no frame is found equal to 1.
        let station = if a & 1 == 0 { u64::from_le_bytes([0, 0, a, b, c, d, e, f]) } else { 1 };
        Self { mac, station, interfaces: Box::new([NOWHERE; VLAN_IDS]) }
    }

    /// Whether the frame that begins with the bytes `first` is for this station: its own MAC address, not a group's.
    #[inline(always)]
    #[must_use]
    pub const fn is_own(&self, first: [u8; 8]) -> bool {
        u64::from_le_bytes(first) << 16 == self.station
    }

    /// Where a frame with VLAN id `vlan` (0: untagged) comes in.
    #[inline(always)]
    #[must_use]
    pub fn arrival(&self, vlan: u16) -> Option<Arrival> {
        #[expect(clippy::indexing_slicing, reason = "the remainder is within the array")]
        let word = self.interfaces[usize::from(vlan) % VLAN_IDS];
        let arrival = Arrival { interface: InterfaceId(word as u16), tenant: TenantId((word >> 16) as u16) };
        (word as u16 != NOWHERE as u16).then_some(arrival)
    }
}

impl Interfaces {
    /// The interfaces of `config`. `macs`: the ports' MAC addresses, in the order of the configuration.
    #[must_use]
    pub fn new(config: &Config, macs: &[[u8; 6]]) -> Self {
        let mac_of = |nic_port: usize| macs.get(nic_port).copied().unwrap_or_default();
        let mut ports: Vec<Port> = (0..config.nic_ports.len()).map(|port| Port::new(mac_of(port))).collect();
        let mut list = Vec::with_capacity(config.interfaces.len());
        let mut own = HashMap::new();
        for (interface, number) in config.interfaces.iter().zip(0u16..) {
            let vlan = interface.vlan.unwrap_or(0);
            let port = ports.get_mut(interface.nic_port);
            if let Some(slot) = port.and_then(|port| port.interfaces.get_mut(usize::from(vlan))) {
                *slot = u32::from(interface.tenant) << 16 | u32::from(number);
            }
            let addresses: Vec<_> = interface
                .addresses
                .iter()
                .map(|net| InterfaceAddress { address: net.addr().into(), prefix_length: net.prefix_len() })
                .collect();
            let seen_by = (interface.side == Side::Internal).then_some(TenantId(interface.tenant));
            own.extend(addresses.iter().map(|own| ((seen_by, own.address), InterfaceId(number))));
            list.push(Interface {
                id: InterfaceId(number),
                nic_port: NicPortId(interface.nic_port as u16),
                vlan,
                mac: mac_of(interface.nic_port),
                side: interface.side,
                tenant: TenantId(interface.tenant),
                source_check: interface.source_check,
                mtu: interface.mtu,
                addresses,
            });
        }
        let exit = |interface: &Interface| Exit {
            rest: EthernetRest::new(interface.mac, interface.vlan),
            nic_port: interface.nic_port,
            frame_bytes: ethernet_bytes(interface.vlan) as u32 + u32::from(interface.mtu),
            l2_bytes: ethernet_bytes(interface.vlan) as u8,
        };
        Self { special: AddressFilter::new(&list), exits: list.iter().map(exit).collect(), list, ports, own }
    }

    /// Who takes the frames received on `nic_port`.
    #[inline]
    #[must_use]
    pub fn port(&self, nic_port: NicPortId) -> Option<&Port> {
        self.ports.get(usize::from(nic_port.0))
    }

    /// The way out through the interface `id`.
    #[inline(always)]
    #[must_use]
    pub fn exit(&self, id: InterfaceId) -> Option<&Exit> {
        self.exits.get(usize::from(id.0))
    }

    /// The interface that a frame received on `nic_port` belongs to. Two dependent loads.
    ///
    /// # Errors
    ///
    /// [`DropReason::NotForUs`]: another station's MAC address. [`DropReason::UnknownVlan`]: no interface of
    /// the port has this VLAN (0: takes untagged frames).
    #[inline]
    pub fn classify(&self, nic_port: NicPortId, vlan: u16, dst_mac: [u8; 6]) -> Result<Arrival, DropReason> {
        let port = self.ports.get(usize::from(nic_port.0)).ok_or(DropReason::UnknownVlan)?;
        // Group addresses pass: ARP requests are broadcasts, and the parser has refused IPv4 in them.
        if dst_mac != port.mac && dst_mac[0] & 1 == 0 {
            return Err(DropReason::NotForUs);
        }
        port.arrival(vlan).ok_or(DropReason::UnknownVlan)
    }

    /// The interface `id`, or `None` for a number that [`Interfaces`] did not give out.
    #[must_use]
    #[inline]
    pub fn of(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.get(usize::from(id.0))
    }

    /// The side of the NAT that interface `id` is on.
    #[must_use]
    #[inline]
    pub fn side_of(&self, id: InterfaceId) -> Option<Side> {
        self.of(id).map(|interface| interface.side)
    }

    /// The tenant of interface `id`.
    #[must_use]
    #[inline]
    pub fn tenant_of(&self, id: InterfaceId) -> TenantId {
        self.of(id).map_or(TenantId::NONE, |interface| interface.tenant)
    }

    /// All interfaces, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.list.iter()
    }

    /// The interface whose own address `address` is, as `tenant` sees it.
    #[inline]
    #[must_use]
    pub fn owner(&self, tenant: TenantId, address: u32) -> Option<InterfaceId> {
        if !self.special.may_hold(address) {
            return None;
        }
        self.special_owner(tenant, address)
    }

    #[cold]
    fn special_owner(&self, tenant: TenantId, address: u32) -> Option<InterfaceId> {
        let owner = self.own.get(&(Some(tenant), address)).or_else(|| self.own.get(&(None, address)));
        owner.copied()
    }

    /// Whether `address` is algate's own on any interface that `tenant` sees (RFC 1812 section 5.2.3: local
    /// delivery).
    #[inline]
    #[must_use]
    pub fn is_own(&self, tenant: TenantId, address: u32) -> bool {
        self.owner(tenant, address).is_some()
    }

    /// Whether `address` is the broadcast address of a connected prefix that `tenant` sees. One load for most
    /// addresses; where it is one, or may be, walks all interfaces.
    #[inline]
    #[must_use]
    pub fn is_broadcast(&self, tenant: TenantId, address: u32) -> bool {
        if !self.special.may_hold(address) {
            return false;
        }
        self.is_special_broadcast(tenant, address)
    }

    #[cold]
    fn is_special_broadcast(&self, tenant: TenantId, address: u32) -> bool {
        let seen = self.list.iter().filter(|interface| interface.is_seen_by(tenant));
        seen.flat_map(|interface| &interface.addresses).any(|own| own.is_broadcast(address))
    }
}

/// 8 KiB: of 1,000 interfaces' addresses one in twenty others is not told apart.
const FILTER_BITS: usize = 1 << 16;
const VLAN_IDS: usize = 4_096;
/// No interface has this number: it would be the 65,536th.
const NOWHERE: u32 = 0xFFFF;
