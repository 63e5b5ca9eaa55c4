//! External L4 ports: who holds which.
//!
//! One bitmap per pool address and transport: a port is taken by setting its bit, so two workers can
//! never hand out the same one. Ports are chosen at random (RFC 6056 section 3.3.1) and outlive their
//! mapping until no worker can still hold its index; they are given back by the reclaiming worker.

use std::sync::atomic::{AtomicU64, Ordering};

use algate_config::Nat as NatConfig;

/// Transports with a port space of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSpace {
    /// TCP ports
    Tcp,
    /// UDP ports
    Udp,
    /// ICMP query identifiers
    Icmp,
}

impl PortSpace {
    /// The port space of an IP protocol, if it has one.
    #[must_use]
    pub const fn of_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            1 => Some(Self::Icmp),
            _ => None,
        }
    }
}

/// All pool addresses with their ports.
#[derive(Debug)]
pub struct PortPools {
    addresses: Vec<PoolAddress>,
    /// Position of each pool's first address in `addresses`, and their count.
    pools: Vec<(usize, usize)>,
    /// Address ranges of all pools, ascending.
    ranges: Vec<AddressRange>,
}

#[derive(Debug)]
struct AddressRange {
    first: u32,
    last: u32,
    /// Position of `first` in the list of addresses.
    position: usize,
    /// Dynamic ports, inclusive.
    l4_ports: (u16, u16),
}

#[derive(Debug)]
struct PoolAddress {
    address: u32,
    spaces: [Bitmap; 3],
}

impl PortPools {
    /// Empty bitmaps for every address of every pool.
    #[must_use]
    pub fn new(config: &NatConfig) -> Self {
        let mut addresses = Vec::new();
        let mut pools = Vec::new();
        let mut ranges = Vec::new();
        for pool in &config.pools {
            let start = addresses.len();
            for (first, last) in &pool.ranges {
                let (first, last) = (u32::from(*first), u32::from(*last));
                let position = addresses.len();
                ranges.push(AddressRange { first, last, position, l4_ports: pool.l4_ports });
                addresses.extend((first..=last).map(PoolAddress::new));
            }
            pools.push((start, addresses.len() - start));
        }
        ranges.sort_by_key(|range| range.first);
        Self { addresses, pools, ranges }
    }

    /// Whether `address` belongs to a pool.
    #[must_use]
    pub fn contains(&self, address: u32) -> bool {
        self.range_of(address).is_some()
    }

    /// The `choice`-th address of `pool`, counted round and round.
    #[must_use]
    pub fn address(&self, pool: usize, choice: u64) -> Option<u32> {
        let (first, count) = *self.pools.get(pool)?;
        let offset = usize::try_from(choice % (count.max(1) as u64)).ok()?;
        self.addresses.get(first + offset).map(|held| held.address)
    }

    /// Takes a free dynamic port of `address`, searching from a `random` place; `None` when all are
    /// taken or the address is in no pool.
    #[must_use]
    pub fn take(&self, address: u32, space: PortSpace, random: u64) -> Option<u16> {
        let (low, high) = self.range_of(address)?.l4_ports;
        self.space(address, space)?.take_within(low, high, random)
    }

    /// Takes exactly `l4_port` of `address`; `false` when it is taken or the address is in no pool.
    #[must_use]
    pub fn take_exact(&self, address: u32, space: PortSpace, l4_port: u16) -> bool {
        self.space(address, space).is_some_and(|bitmap| bitmap.take(l4_port))
    }

    /// Gives a port back.
    pub fn release(&self, address: u32, space: PortSpace, l4_port: u16) {
        if let Some(bitmap) = self.space(address, space) {
            bitmap.release(l4_port);
        }
    }

    /// Ports taken of all addresses and transports.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.addresses.iter().flat_map(|held| &held.spaces).map(Bitmap::taken).sum()
    }

    fn range_of(&self, address: u32) -> Option<&AddressRange> {
        let after = self.ranges.partition_point(|range| range.first <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address <= range.last)
    }

    fn space(&self, address: u32, space: PortSpace) -> Option<&Bitmap> {
        let range = self.range_of(address)?;
        let offset = usize::try_from(address - range.first).ok()?;
        self.addresses.get(range.position + offset).map(|held| held.space(space))
    }
}

impl PoolAddress {
    fn new(address: u32) -> Self {
        Self { address, spaces: [Bitmap::new(), Bitmap::new(), Bitmap::new()] }
    }

    const fn space(&self, space: PortSpace) -> &Bitmap {
        let [tcp, udp, icmp] = &self.spaces;
        match space {
            PortSpace::Tcp => tcp,
            PortSpace::Udp => udp,
            PortSpace::Icmp => icmp,
        }
    }
}

/// One bit per port: 1,024 words.
#[derive(Debug)]
struct Bitmap(Box<[AtomicU64]>);

impl Bitmap {
    fn new() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Takes the first free port at or after a random one, going round within `low..=high`.
    fn take_within(&self, low: u16, high: u16, random: u64) -> Option<u16> {
        let count = u64::from(high.checked_sub(low)?) + 1;
        let start = low + u16::try_from(random % count).ok()?;
        self.take_first_free(start, high)
            .or_else(|| start.checked_sub(1).and_then(|before| self.take_first_free(low, before)))
    }

    fn take_first_free(&self, low: u16, high: u16) -> Option<u16> {
        let (first, last) = (usize::from(low) / 64, usize::from(high) / 64);
        for index in first..=last {
            let word = self.0.get(index)?;
            let from = if index == first { u64::MAX << (low % 64) } else { u64::MAX };
            let to = if index == last { u64::MAX >> (63 - high % 64) } else { u64::MAX };
            let mut free = !word.load(Ordering::Relaxed) & from & to;
            while free != 0 {
                let bit = free.trailing_zeros();
                let mask = 1_u64 << bit;
                // Relaxed: owning the bit orders nothing else; the mapping is published by its table.
                if word.fetch_or(mask, Ordering::Relaxed) & mask == 0 {
                    return u16::try_from(index * 64 + bit as usize).ok();
                }
                free &= !mask;
            }
        }
        None
    }

    fn take(&self, l4_port: u16) -> bool {
        let mask = 1_u64 << (l4_port % 64);
        self.0
            .get(usize::from(l4_port) / 64)
            .is_some_and(|word| word.fetch_or(mask, Ordering::Relaxed) & mask == 0)
    }

    fn release(&self, l4_port: u16) {
        if let Some(word) = self.0.get(usize::from(l4_port) / 64) {
            word.fetch_and(!(1_u64 << (l4_port % 64)), Ordering::Relaxed);
        }
    }

    fn taken(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

const WORDS: usize = 65_536 / 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_port_of_the_range_is_handed_out_once_then_none() {
        let bitmap = Bitmap::new();
        let mut seen = HashSet::new();
        for round in 0..(2_000 - 1_030 + 1) {
            let l4_port = bitmap.take_within(1_030, 2_000, round * 7_919).expect("free ports are left");
            assert!((1_030..=2_000).contains(&l4_port) && seen.insert(l4_port));
        }
        assert_eq!(bitmap.take_within(1_030, 2_000, 3), None);
        bitmap.release(1_500);
        assert_eq!(bitmap.take_within(1_030, 2_000, 900), Some(1_500));
    }

    #[test]
    fn pools_find_their_addresses_and_give_nothing_for_others() {
        use std::net::Ipv4Addr;

        let range = |first: [u8; 4], last: [u8; 4]| (Ipv4Addr::from(first), Ipv4Addr::from(last));
        let pools = PortPools::new(&NatConfig {
            pools: vec![algate_config::Pool {
                name: "public".into(),
                ranges: vec![
                    range([203, 0, 113, 20], [203, 0, 113, 21]),
                    range([198, 51, 100, 7], [198, 51, 100, 7]),
                ],
                l4_ports: (1_024, 1_025),
            }],
            rules: Vec::new(),
            forwards: Vec::new(),
        });
        let third = u32::from(Ipv4Addr::new(198, 51, 100, 7));
        assert_eq!(pools.address(0, 5), Some(third));
        assert!(pools.contains(third) && !pools.contains(third + 1) && !pools.contains(third - 1));
        assert!(pools.take(third, PortSpace::Udp, 9).is_some());
        assert!(pools.take_exact(third, PortSpace::Tcp, 21));
        assert!(!pools.take_exact(third, PortSpace::Tcp, 21));
        assert_eq!(pools.take(third + 1, PortSpace::Udp, 9), None);
        assert_eq!(pools.taken(), 2);
        pools.release(third, PortSpace::Tcp, 21);
        assert_eq!(pools.taken(), 1);
    }

    #[test]
    fn the_ends_of_the_port_space_are_reachable() {
        let bitmap = Bitmap::new();
        assert_eq!(bitmap.take_within(65_535, 65_535, 0), Some(65_535));
        assert_eq!(bitmap.take_within(0, 0, 5), Some(0));
        assert!(!bitmap.take(65_535));
        assert_eq!(bitmap.taken(), 2);
    }
}
