//! Keys of the connection tables: what must be equal for two packets to be of one flow.
//!
//! Two machine words, so that hashing and comparing cost a few instructions. IPv6 keys will be a wider
//! type of the same make; nothing outside this file knows the layout.

use std::net::{Ipv4Addr, SocketAddrV4};

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
    /// From its parts; ICMP queries carry their identifier as the port of the side that asks.
    #[must_use]
    pub const fn new(protocol: u8, source: Endpoint, destination: Endpoint) -> Self {
        Self {
            addresses: ((source.address as u64) << 32) | destination.address as u64,
            ports: ((source.l4_port as u64) << 48) | ((destination.l4_port as u64) << 32) | protocol as u64,
        }
    }

    /// The key of a received packet.
    #[inline]
    #[must_use]
    pub const fn of(view: &Ipv4View) -> Self {
        Self::new(
            view.protocol,
            Endpoint { address: view.src, l4_port: view.src_port },
            Endpoint { address: view.dst, l4_port: view.dst_port },
        )
    }

    /// The flow in the opposite direction.
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
    #[must_use]
    pub const fn source(self) -> Endpoint {
        Endpoint { address: (self.addresses >> 32) as u32, l4_port: (self.ports >> 48) as u16 }
    }

    /// The receiver's endpoint.
    #[must_use]
    pub const fn destination(self) -> Endpoint {
        Endpoint { address: self.addresses as u32, l4_port: (self.ports >> 32) as u16 }
    }

    /// The IP protocol.
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

/// An address with an L4 port (or ICMP identifier), host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// IPv4 address.
    pub address: u32,
    /// TCP or UDP port, or ICMP identifier.
    pub l4_port: u16,
}

impl Endpoint {
    /// Both in one word.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        ((self.address as u64) << 16) | self.l4_port as u64
    }

    /// The reverse of [`Endpoint::to_u64`].
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        Self { address: (word >> 16) as u32, l4_port: word as u16 }
    }

    /// Hash of the endpoint for `protocol` under the key chosen at start.
    #[must_use]
    pub fn hash(self, protocol: u8, key: &HashKey) -> u64 {
        key.hash2(self.to_u64(), u64::from(protocol))
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(address: SocketAddrV4) -> Self {
        Self { address: u32::from(*address.ip()), l4_port: address.port() }
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
    fn reversing_swaps_both_ends_and_keeps_the_protocol() {
        let a = Endpoint { address: 0x0a00_0002, l4_port: 4001 };
        let b = Endpoint { address: 0xcb00_7102, l4_port: 21 };
        let key = FlowKey::new(6, a, b);
        assert_eq!((key.source(), key.destination(), key.protocol()), (a, b, 6));
        assert_eq!(key.reversed(), FlowKey::new(6, b, a));
    }

    #[test]
    fn an_endpoint_survives_its_word() {
        let endpoint = Endpoint { address: 0xffff_fffe, l4_port: 65_535 };
        assert_eq!(Endpoint::from_u64(endpoint.to_u64()), endpoint);
    }
}
