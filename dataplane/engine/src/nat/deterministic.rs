//! Deterministic NAT (RFC 7422): an internal host's first block of ports follows from the configuration.
//!
//! Hosts are numbered in the order of their addresses, over all prefixes that the pool's rules name.
//! They are spread over the pool's addresses in order, equally many to each:
//!
//! ```text
//! per address  =  hosts / addresses, rounded up
//! address      =  host number / per address
//! block        =  host number % per address
//! ```
//!
//! What remains of an address behind those blocks, less than a block included, is for nobody's first
//! block: a host that fills its own gets further ones there by chance, as many as it may have. Those are
//! known from the records of block assignments only. Ports outside the pool's range are never used,
//! except by port forwards.
//!
//! The hosts are one tenant's: addresses of several would not tell them apart.

use std::net::Ipv4Addr;

use algate_config::{Assignment, Nat, NatRule, Pool};

use crate::ids::TenantId;
use crate::nat::key::Host;

/// The arithmetic of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deterministic {
    /// Of the hosts; `None`: the configuration has but one.
    tenant: Option<TenantId>,
    hosts: Numbered,
    addresses: Numbered,
    per_address: u32,
    block_ports: u32,
    l4_ports: (u16, u16),
}

/// Where a host's first block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstBlock {
    /// Number of the external address in its pool.
    pub address_number: u32,
    /// The external address.
    pub address: u32,
    /// Number of the block on that address.
    pub block: u32,
    /// Its ports, inclusive.
    pub l4_ports: (u16, u16),
}

/// Whose an external endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This internal host's, at any time.
    Host(u32),
    /// Given out by chance: the records of block assignments tell.
    Dynamic,
    /// Nobody's, at any time.
    Nobody,
}

/// Ranges of addresses with numbers from 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbered(Vec<(u32, u32)>);

impl Deterministic {
    /// The arithmetic of pool number `pool`; `None`: its blocks are given out by chance.
    #[must_use]
    pub fn new(nat: &Nat, pool: usize) -> Option<Self> {
        let Pool { ranges, l4_ports, blocks, .. } = nat.pools.get(pool)?;
        let blocks = blocks.as_ref().filter(|blocks| blocks.assignment == Assignment::Deterministic)?;
        let prefixes = NatRule::hosts(&nat.rules, pool);
        let hosts: Vec<_> = prefixes.iter().map(|prefix| (prefix.network(), prefix.broadcast())).collect();
        let tenant = NatRule::tenant_of_hosts(&nat.rules, pool).map(TenantId);
        Self::of_ranges(tenant, &hosts, ranges, blocks.ports, *l4_ports)
    }

    /// The arithmetic of `hosts`, all of `tenant`, on `addresses`, all ranges inclusive. `None`: more than there can be.
    #[must_use]
    pub fn of_ranges(
        tenant: Option<TenantId>,
        hosts: &[(Ipv4Addr, Ipv4Addr)],
        addresses: &[(Ipv4Addr, Ipv4Addr)],
        block_ports: u16,
        l4_ports: (u16, u16),
    ) -> Option<Self> {
        let (hosts, addresses) = (Numbered::new(hosts)?, Numbered::new(addresses)?);
        let per_address = hosts.count().div_ceil(addresses.count().max(1)).max(1);
        let per_address = u32::try_from(per_address).ok()?;
        let block_ports = Some(u32::from(block_ports)).filter(|ports| *ports > 0)?;
        Some(Self { tenant, hosts, addresses, per_address, block_ports, l4_ports })
    }

    /// Blocks of each address that are some host's first one.
    #[must_use]
    pub const fn per_address(&self) -> u32 {
        self.per_address
    }

    /// Whose hosts they are; `None`: the configuration has but one tenant.
    #[must_use]
    pub const fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The first block of an internal host.
    #[must_use]
    pub fn first_block(&self, host: Host) -> Option<FirstBlock> {
        if self.tenant.is_some_and(|tenant| tenant != host.tenant) {
            return None;
        }
        let number = self.hosts.number(host.address)?;
        let (address_number, block) = (number / self.per_address, number % self.per_address);
        let first = u32::from(self.l4_ports.0) + block * self.block_ports;
        let l4_ports = (u16::try_from(first).ok()?, u16::try_from(first + self.block_ports - 1).ok()?);
        Some(FirstBlock { address_number, address: self.addresses.at(address_number)?, block, l4_ports })
    }

    /// Whose the external endpoint is. `None`: the address is not one of the pool.
    #[must_use]
    pub fn owner(&self, address: u32, l4_port: u16) -> Option<Owner> {
        let address_number = self.addresses.number(address)?;
        let (low, high) = self.l4_ports;
        if l4_port < low || l4_port > high {
            return Some(Owner::Nobody);
        }
        let block = u32::from(l4_port - low) / self.block_ports;
        if block >= self.per_address {
            return Some(Owner::Dynamic);
        }
        let host = self.hosts.at(address_number * self.per_address + block);
        Some(host.map_or(Owner::Nobody, Owner::Host))
    }
}

impl Numbered {
    /// `None`: a range ends before it begins, or all together are more than there are addresses.
    fn new(ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Option<Self> {
        let ranges: Vec<_> =
            ranges.iter().map(|(first, last)| (u32::from(*first), u32::from(*last))).collect();
        let numbered = ranges.iter().all(|(first, last)| first <= last).then_some(Self(ranges))?;
        (numbered.count() <= u64::from(u32::MAX)).then_some(numbered)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    fn number(&self, address: u32) -> Option<u32> {
        let mut before = 0;
        for (first, last) in &self.0 {
            if (*first..=*last).contains(&address) {
                return Some(before + (address - first));
            }
            before += last - first + 1;
        }
        None
    }

    fn at(&self, mut number: u32) -> Option<u32> {
        for (first, last) in &self.0 {
            match number.checked_sub(last - first + 1) {
                None => return Some(first + number),
                Some(rest) => number = rest,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use algate_config::{Config, Machine};
    use proptest::prelude::*;

    use super::*;

    fn host_at(address: u32) -> Host {
        Host { tenant: TenantId::NONE, address }
    }

    /// A pool of three pieces for a /20 and two loose ranges of hosts.
    fn nat(block_size: u16) -> Nat {
        let text = format!(
            r#"
            nic_port = [{{ name = "n", device = {{ driver = "null" }} }}]
            [[interface]]
            name = "lan"
            nic_port = "n"
            side = "internal"
            addresses = ["10.0.0.1/8"]
            [[nat.pool]]
            name = "p"
            addresses = ["203.0.113.7", "198.51.100.0/26", "192.0.2.8-192.0.2.40"]
            block_size = {block_size}
            assignment = "deterministic"
            [[nat.rule]]
            internal = "10.1.0.0/20"
            pool = "p"
            [[nat.rule]]
            internal = "10.0.7.0/25"
            protocol = "udp"
            pool = "p"
            [[nat.rule]]
            internal = "10.0.7.0/24"
            pool = "p"
            "#
        );
        Config::parse(&text, "t", &Machine::unchecked()).expect("the configuration is right").nat
    }

    #[test]
    fn blocks_follow_the_order_of_hosts_and_addresses() {
        let nat = nat(1024);
        let pool = Deterministic::new(&nat, 0).expect("it is deterministic");
        // 4,352 hosts on 98 addresses: 45 on each.
        assert_eq!(pool.per_address(), 45);
        let at = |host: [u8; 4]| pool.first_block(host_at(u32::from(Ipv4Addr::from(host))));
        let first = at([10, 0, 7, 0]).expect("it is a host of a rule");
        assert_eq!((Ipv4Addr::from(first.address), first.l4_ports), ([203, 0, 113, 7].into(), (1024, 2047)));
        let next = at([10, 0, 7, 45]).expect("it is a host of a rule");
        assert_eq!((Ipv4Addr::from(next.address), next.block), ([198, 51, 100, 0].into(), 0));
        assert_eq!(at([10, 0, 8, 0]), None);
        let whose = |port| pool.owner(u32::from(Ipv4Addr::new(203, 0, 113, 7)), port);
        assert_eq!(whose(1023), Some(Owner::Nobody));
        assert_eq!(whose(1024 + 45 * 1024), Some(Owner::Dynamic));
        assert_eq!(pool.owner(1, 5000), None);
    }

    #[test]
    fn c_16_a_million_endpoints_lead_to_the_host_they_were_computed_for() {
        for block_size in [64, 512, 1024] {
            let nat = nat(block_size);
            let pool = Deterministic::new(&nat, 0).expect("it is deterministic");
            let hosts: Vec<u32> = NatRule::hosts(&nat.rules, 0)
                .iter()
                .flat_map(|prefix| u32::from(prefix.network())..=u32::from(prefix.broadcast()))
                .collect();
            // By brute force: every host claims its ports, nobody claims one twice.
            let mut claimed = std::collections::HashMap::new();
            for host in &hosts {
                let first = pool.first_block(host_at(*host)).expect("every host has one");
                for l4_port in first.l4_ports.0..=first.l4_ports.1 {
                    assert_eq!(claimed.insert((first.address, l4_port), *host), None);
                }
            }
            let addresses: Vec<u32> = (0..98).map(|number| pool.addresses.at(number).expect("98")).collect();
            let mut seed = u64::from(block_size);
            for _ in 0..350_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let address = addresses[(seed >> 40) as usize % addresses.len()];
                let l4_port = (seed >> 20) as u16;
                let owner = pool.owner(address, l4_port).expect("it is of the pool");
                match claimed.get(&(address, l4_port)) {
                    Some(host) => assert_eq!(owner, Owner::Host(*host)),
                    None => assert!(!matches!(owner, Owner::Host(_))),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_host_s_every_port_names_the_host(offset in 0_u32..4096, within in 0_u16..512) {
            let nat = nat(512);
            let pool = Deterministic::new(&nat, 0).expect("it is deterministic");
            let host = u32::from(Ipv4Addr::new(10, 1, 0, 0)) + offset;
            let first = pool.first_block(host_at(host)).expect("it is a host of a rule");
            prop_assert_eq!(pool.owner(first.address, first.l4_ports.0 + within), Some(Owner::Host(host)));
        }
    }
}
