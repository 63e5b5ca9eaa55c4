//! algate as a router: interfaces, routes, neighbours, and the packets it sends on its own behalf.
//!
//! RFC 1812 as far as a NAT between two sides needs it; RFC 826 for neighbours. Not done: IPv6, ICMP
//! redirects, proxy ARP beyond the NAT's own external addresses, routing protocols.
//!
//! [`Router`] is shared by all workers and only read, apart from the lock-free [`neighbor`] table.
//! What a worker owns alone is its [`egress::Egress`] and its [`icmp::IcmpSource`].

pub mod arp;
pub mod egress;
pub mod icmp;
pub mod interface;
pub mod neighbor;
pub mod route;

#[cfg(test)]
mod tests;

use algate_config::{Config, Side};

use crate::drop_reason::DropReason;
use crate::ids::{InterfaceId, TenantId};
use crate::router::egress::NextHop;
use crate::router::interface::{Interface, InterfaceAddress, Interfaces};
use crate::router::neighbor::Neighbors;
use crate::router::route::{Hop, Routes};
use crate::time::Instant;

/// Everything the workers share to route.
#[derive(Debug)]
pub struct Router {
    /// Interfaces and own addresses.
    pub interfaces: Interfaces,
    /// The routing table.
    pub routes: Routes,
    /// MAC addresses of next hops.
    pub neighbors: Neighbors,
    /// External addresses of the NAT: disjoint inclusive ranges, ascending.
    nat_addresses: Vec<(u32, u32)>,
}

impl Router {
    /// The router of `config`. `macs`: the ports' MAC addresses, in the order of the configuration.
    #[must_use]
    pub fn new(config: &Config, macs: &[[u8; 6]]) -> Self {
        let interfaces = Interfaces::new(config, macs);
        let routes = Routes::new(config, &interfaces);
        let neighbors = Neighbors::new(config.tables.neighbors, config.timeouts.arp);
        Self { interfaces, routes, neighbors, nat_addresses: nat_addresses(config) }
    }

    /// The next hop of a packet of `tenant` towards `dst`; asks for its MAC address when it is new. For the slow path.
    ///
    /// # Errors
    ///
    /// [`DropReason::NoRoute`], or [`DropReason::NeighborTableFull`].
    pub fn next_hop(&self, tenant: TenantId, dst: u32, now: Instant) -> Result<NextHop, DropReason> {
        self.resolve(self.routes.lookup(tenant, dst).ok_or(DropReason::NoRoute)?, now)
    }

    /// The neighbour that `hop` leads to; asks for its MAC address when it is new. For the slow path.
    ///
    /// # Errors
    ///
    /// [`DropReason::NeighborTableFull`].
    pub fn resolve(&self, hop: Hop, now: Instant) -> Result<NextHop, DropReason> {
        let neighbor = self.neighbors.resolve(hop.interface, hop.address, now)?;
        Ok(NextHop { interface: hop.interface, neighbor })
    }

    /// Whether `address` is an external address of the NAT: in a pool, or of a forward or static host.
    #[must_use]
    #[inline]
    pub fn is_nat_address(&self, address: u32) -> bool {
        let after = self.nat_addresses.partition_point(|(first, _)| *first <= address);
        let range = after.checked_sub(1).and_then(|at| self.nat_addresses.get(at));
        range.is_some_and(|(_, last)| address <= *last)
    }

    /// The NAT's external addresses inside the connected prefix of `own`, where `interface` is external.
    pub(crate) fn nat_addresses_in(
        &self,
        interface: &Interface,
        own: &InterfaceAddress,
    ) -> impl Iterator<Item = (u32, u32)> {
        let (network, last_address) = own.range();
        let ranges = self.nat_addresses.iter().filter(|_| interface.side == Side::External);
        ranges
            .map(move |(first, last)| (*first.max(&network), *last.min(&last_address)))
            .filter(|(first, last)| first <= last)
    }

    /// Whether algate speaks for `address` on `interface`: its own one, or, outside, one of the NAT's.
    #[must_use]
    pub fn answers_for(&self, interface: InterfaceId, address: u32) -> bool {
        self.interfaces.of(interface).is_some_and(|interface| {
            interface.has_address(address)
                || (interface.side == Side::External && self.is_nat_address(address))
        })
    }
}

/// The external addresses of pools, forwards and static hosts, merged.
fn nat_addresses(config: &Config) -> Vec<(u32, u32)> {
    let pools = config.nat.pools.iter().flat_map(|pool| &pool.ranges);
    let pools = pools.map(|(first, last)| (u32::from(*first), u32::from(*last)));
    let forwards = config.nat.forwards.iter().map(|forward| u32::from(*forward.external.ip()));
    let statics = config.nat.statics.iter().map(|pair| pair.external);
    let statics = statics.map(|net| (u32::from(net.network()), u32::from(net.broadcast())));
    let mut ranges: Vec<_> = pools.chain(forwards.map(|address| (address, address))).chain(statics).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let is_joined = next.0 <= last.1.saturating_add(1);
        if is_joined {
            last.1 = last.1.max(next.1);
        }
        is_joined
    });
    ranges
}
