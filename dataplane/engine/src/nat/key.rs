//! Keys of the connection tables: what must be equal for two packets to be of one flow.
//!
//! Two machine words, so that hashing and comparing cost a few instructions. IPv6 keys will be a wider
//! type of the same make; nothing outside this file knows the layout.
//!
//! A key has one tenant, that of the interface on which its packets arrive: internal addresses of several
//! tenants may be equal, external ones belong to all of them and so to [`TenantId::NONE`].

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::ids::TenantId;
use crate::packet::parse::Ipv4View;
use crate::table::hash::HashKey;

/// A flow: one direction's 5-tuple and tenant, as the packet carries it when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    /// Source address, destination address.
    pub addresses: u64,
    /// Source port, destination port, tenant (16 bits), zero, protocol.
    pub ports: u64,
}

impl FlowKey {
    /// From its parts, in the tenant of the sender; ICMP queries carry their identifier as the port of the side
    /// that asks.
    #[inline]
    #[must_use]
    pub const fn new(protocol: u8, source: Endpoint, destination: Endpoint) -> Self {
        Self {
            addresses: ((source.address as u64) << 32) | destination.address as u64,
            ports: ((source.l4_port as u64) << 48)
                | ((destination.l4_port as u64) << 32)
                | ((source.tenant.0 as u64) << 16)
                | protocol as u64,
        }
    }

    /// The key of a packet received on an interface of `tenant`.
    #[inline]
    #[must_use]
    pub const fn of(view: &Ipv4View, tenant: TenantId) -> Self {
        Self::new(
            view.protocol,
            Endpoint { tenant, address: view.src, l4_port: view.src_port },
            Endpoint::new(view.dst, view.dst_port),
        )
    }

    /// From words as [`Plain`](crate::packet::plain::Plain) reads them.
    #[inline]
    #[must_use]
    pub const fn of_words(addresses: u64, l4_ports: u32, protocol: u8, tenant: TenantId) -> Self {
        Self { addresses, ports: ((l4_ports as u64) << 32) | ((tenant.0 as u64) << 16) | protocol as u64 }
    }

    /// The flow in the opposite direction, in the same tenant.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            addresses: self.addresses.rotate_left(32),
            ports: (self.ports & 0xffff_ffff)
                | ((self.ports >> 48) << 32)
                | (((self.ports >> 32) & 0xffff) << 48),
        }
    }

    /// The sender's endpoint.
    #[inline]
    #[must_use]
    pub const fn source(self) -> Endpoint {
        Endpoint {
            tenant: self.tenant(),
            address: (self.addresses >> 32) as u32,
            l4_port: (self.ports >> 48) as u16,
        }
    }

    /// The receiver's endpoint, taken for an external one: only routing tells whether it is the tenant's own.
    #[inline]
    #[must_use]
    pub const fn destination(self) -> Endpoint {
        Endpoint::new(self.addresses as u32, (self.ports >> 32) as u16)
    }

    /// Source port and destination port.
    #[inline]
    #[must_use]
    pub const fn l4_ports(self) -> u32 {
        (self.ports >> 32) as u32
    }

    /// The tenant on whose interface the packet arrives.
    #[inline]
    #[must_use]
    pub const fn tenant(self) -> TenantId {
        TenantId((self.ports >> 16) as u16)
    }

    /// The IP protocol.
    #[inline]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        self.ports as u8
    }

    /// Hash under the key chosen at start.
    #[inline]
    #[must_use]
    pub fn hash(self, key: &HashKey) -> u64 {
        key.hash2(self.addresses, self.ports)
    }
}

/// An internal host: an address means one only together with its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// Whose address it is.
    pub tenant: TenantId,
    /// IPv4 address.
    pub address: u32,
}

impl Host {
    /// Both in one word.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        ((self.tenant.0 as u64) << 32) | self.address as u64
    }

    /// The reverse of [`Host::to_u64`].
    #[inline]
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        Self { tenant: TenantId((word >> 32) as u16), address: word as u32 }
    }
}

/// An address with an L4 port (or ICMP identifier), host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Whose address it is; an external one is nobody's.
    pub tenant: TenantId,
    /// IPv4 address.
    pub address: u32,
    /// TCP or UDP port, or ICMP identifier.
    pub l4_port: u16,
}

impl Endpoint {
    /// An endpoint of no tenant.
    #[inline]
    #[must_use]
    pub const fn new(address: u32, l4_port: u16) -> Self {
        Self { tenant: TenantId::NONE, address, l4_port }
    }

    /// The same numbers in `tenant`.
    #[inline]
    #[must_use]
    pub const fn in_tenant(self, tenant: TenantId) -> Self {
        Self { tenant, ..self }
    }

    /// The host whose endpoint it is.
    #[inline]
    #[must_use]
    pub const fn host(self) -> Host {
        Host { tenant: self.tenant, address: self.address }
    }

    /// All of it in one word: tenant (bits 48..64), address, port.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        ((self.tenant.0 as u64) << 48) | ((self.address as u64) << 16) | self.l4_port as u64
    }

    /// The reverse of [`Endpoint::to_u64`].
    #[inline]
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        Self { tenant: TenantId((word >> 48) as u16), address: (word >> 16) as u32, l4_port: word as u16 }
    }

    /// Hash of the endpoint for `protocol` under the key chosen at start.
    #[must_use]
    pub fn hash(self, protocol: u8, key: &HashKey) -> u64 {
        key.hash2(self.to_u64(), u64::from(protocol))
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(address: SocketAddrV4) -> Self {
        Self::new(u32::from(*address.ip()), address.port())
    }
}

impl From<Endpoint> for SocketAddrV4 {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(Ipv4Addr::from(endpoint.address), endpoint.l4_port)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SocketAddrV4::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_swaps_both_ends_and_keeps_protocol_and_tenant() {
        for tenant in [TenantId::NONE, TenantId(1), TenantId(u16::MAX)] {
            let a = Endpoint { tenant, address: 0x0a00_0002, l4_port: 4001 };
            let b = Endpoint::new(0xcb00_7102, 21);
            let key = FlowKey::new(6, a, b);
            assert_eq!((key.source(), key.destination(), key.protocol()), (a, b, 6));
            assert_eq!(key.reversed(), FlowKey::new(6, b.in_tenant(tenant), a));
            assert_eq!(key.reversed().reversed(), key);
        }
    }

    #[test]
    fn s_25_equal_flows_of_two_tenants_have_two_keys() {
        let flow =
            |tenant| FlowKey::new(17, Endpoint::new(1, 2).in_tenant(TenantId(tenant)), Endpoint::new(3, 4));
        assert_ne!(flow(1), flow(2));
        assert_ne!(flow(0), flow(1));
        assert_eq!(flow(1).tenant(), TenantId(1));
    }

    #[test]
    fn an_endpoint_survives_its_word() {
        let endpoint = Endpoint { tenant: TenantId(4095), address: 0xffff_fffe, l4_port: 65_535 };
        assert_eq!(Endpoint::from_u64(endpoint.to_u64()), endpoint);
        assert_eq!(Host::from_u64(endpoint.host().to_u64()), endpoint.host());
    }
}
