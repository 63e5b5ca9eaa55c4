//! External L4 ports: which are taken.
//!
//! One bitmap per pool address and transport: a port is taken by setting its bit, so two workers can
//! never hand out the same one. Ports are chosen at random (RFC 6056 section 3.3.1) and outlive their
//! mapping until no worker can still hold its index; they are given back by the reclaiming worker.
//!
//! Mappings that depend on the remote endpoint may share a port when no other is left (RFC 7857 section 3):
//! such a port carries a count of its users, and its bit stays set until the last one leaves.

use algate_config::{MappingBehavior, Nat as NatConfig, NatAction, Pairing};

use crate::packet::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::table::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering, Writers};

mod bitmap;
#[cfg(all(test, loom))]
mod models;

use self::bitmap::Bitmap;
pub use self::bitmap::{Parity, Window};

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

    /// Against whose quota sessions of an IP protocol count: what has no port space of its own counts with UDP.
    #[must_use]
    pub const fn counted_as(protocol: u8) -> Self {
        match Self::of_protocol(protocol) {
            Some(space) => space,
            None => Self::Udp,
        }
    }
}

impl PortSpace {
    /// Its IP protocol.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
            Self::Icmp => PROTOCOL_ICMP,
        }
    }
}

/// All pool addresses with their ports.
#[derive(Debug)]
pub struct PortPools {
    addresses: Vec<AddressPorts>,
    pools: Vec<PoolPlan>,
    /// Address ranges of all pools, ascending.
    ranges: Vec<AddressRange>,
    /// Ports that are taken but rest.
    held: AtomicU64,
    writers: Writers,
}

/// What a pool's configuration says about its ports.
#[derive(Debug, Clone, Copy)]
pub struct PoolPlan {
    /// Position of its first address among those of all pools.
    first: usize,
    /// Its addresses.
    count: usize,
    /// Dynamic ports, inclusive.
    pub l4_ports: (u16, u16),
    /// Whether external ports have the parity of internal ones.
    pub keeps_parity: bool,
    /// Whether a host may leave from a second address.
    pub pairing: Pairing,
}

#[derive(Debug)]
struct AddressRange {
    first: u32,
    last: u32,
    /// Position of `first` in the list of addresses.
    position: usize,
}

/// The ports of one pool address.
#[derive(Debug)]
pub struct AddressPorts {
    /// The address.
    pub address: u32,
    /// Its pool.
    pub pool: usize,
    /// Its number in the pool.
    pub number: u32,
    spaces: [Bitmap; 3],
    /// Users per port that may be shared; empty where no rule shares ports.
    users: Box<[AtomicU16]>,
    /// Hosts paired with it.
    hosts: AtomicU32,
}

impl PortPools {
    /// Empty bitmaps for every address of every pool.
    #[must_use]
    pub fn new(config: &NatConfig, writers: Writers) -> Self {
        let mut addresses = Vec::new();
        let mut pools = Vec::new();
        let mut ranges = Vec::new();
        for (index, pool) in config.pools.iter().enumerate() {
            let start = addresses.len();
            let is_shared = config.rules.iter().any(|rule| {
                rule.action == NatAction::Translate(index)
                    && rule.mapping == MappingBehavior::AddressAndPortDependent
            });
            for (first, last) in &pool.ranges {
                let (first, last) = (u32::from(*first), u32::from(*last));
                ranges.push(AddressRange { first, last, position: addresses.len() });
                for address in first..=last {
                    let place = (index, (addresses.len() - start) as u32);
                    addresses.push(AddressPorts::new(address, place, is_shared, writers));
                }
            }
            pools.push(PoolPlan {
                first: start,
                count: addresses.len() - start,
                l4_ports: pool.l4_ports,
                keeps_parity: pool.keeps_parity,
                pairing: pool.pairing,
            });
        }
        ranges.sort_by_key(|range| range.first);
        Self { addresses, pools, ranges, held: AtomicU64::new(0), writers }
    }

    /// Whether `address` belongs to a pool.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: u32) -> bool {
        self.range_of(address).is_some()
    }

    /// What the configuration says about `pool`.
    #[inline]
    #[must_use]
    pub fn plan(&self, pool: usize) -> Option<&PoolPlan> {
        self.pools.get(pool)
    }

    /// The pool of `address`, and the address's number in it.
    #[must_use]
    pub fn place_of(&self, address: u32) -> Option<(usize, u32)> {
        self.on(address).map(|ports| (ports.pool, ports.number))
    }

    /// The ports of `address`. One binary search.
    #[inline]
    #[must_use]
    pub fn on(&self, address: u32) -> Option<&AddressPorts> {
        let range = self.range_of(address)?;
        let offset = usize::try_from(address - range.first).ok()?;
        self.addresses.get(range.position + offset)
    }

    /// The `choice`-th address of `pool`, counted round and round.
    #[must_use]
    pub fn address(&self, pool: usize, choice: u64) -> Option<u32> {
        let PoolPlan { first, count, .. } = *self.plan(pool)?;
        let offset = usize::try_from(choice % (count.max(1) as u64)).ok()?;
        self.addresses.get(first + offset).map(|held| held.address)
    }

    /// Among up to [`CANDIDATES`] addresses of `pool` from a `random` one on, the one with the fewest
    /// hosts.
    #[must_use]
    pub fn quietest_address(&self, pool: usize, random: u64) -> Option<u32> {
        let PoolPlan { first, count, .. } = *self.plan(pool)?;
        let start = usize::try_from(random % (count.max(1) as u64)).ok()?;
        let candidates = (start..count).chain(0..start).take(CANDIDATES);
        let addresses = candidates.filter_map(|offset| self.addresses.get(first + offset));
        addresses.min_by_key(|held| held.hosts.load(Ordering::Relaxed)).map(|held| held.address)
    }

    /// Counts a host that was paired with `address`.
    pub fn add_host(&self, address: u32) {
        if let Some(held) = self.on(address) {
            held.hosts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of a host that was paired with `address`.
    pub fn remove_host(&self, address: u32) {
        if let Some(held) = self.on(address) {
            held.hosts.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes an even port and the odd one above it, for RTP and RTCP; returns the even one.
    #[must_use]
    pub fn take_pair(
        &self,
        address: u32,
        space: PortSpace,
        (low, high): (u16, u16),
        random: u64,
    ) -> Option<u16> {
        let window = Window { low, high, parity: Parity::Even };
        self.on(address)?.space(space).take_pair_within(window, random)
    }

    /// Takes exactly `l4_port` of `address`; `false` when it is taken or the address is in no pool.
    #[must_use]
    pub fn take_exact(&self, address: u32, space: PortSpace, l4_port: u16) -> bool {
        self.on(address).is_some_and(|held| held.space(space).take(l4_port))
    }

    /// Gives a port back, or a share of it.
    pub fn release(&self, address: u32, space: PortSpace, l4_port: u16) {
        let Some(held) = self.on(address) else { return };
        if let Some(users) = held.users(space, l4_port) {
            let leave = |users: u16| users.checked_sub(1);
            if users.fetch_update(Ordering::AcqRel, Ordering::Relaxed, leave).is_ok_and(|users| users > 1) {
                return;
            }
        }
        held.space(space).release(l4_port);
    }

    /// Counts a port that nobody uses any more, and that will be released later.
    pub fn begin_rest(&self) {
        self.writers.update(&self.held, Ordering::Relaxed, |held| Some(held + 1));
    }

    /// Counts the end of such a rest.
    pub fn end_rest(&self) {
        self.writers.subtract(&self.held, 1, Ordering::Relaxed);
    }

    /// Ports that rest.
    #[must_use]
    pub fn resting(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Ports in use, of all addresses and transports.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let set: u64 = self.addresses.iter().flat_map(|ports| &ports.spaces).map(Bitmap::taken).sum();
        set.saturating_sub(self.resting())
    }

    /// Ports of `address` within an inclusive range that are taken, resting ones included. Up to 1,024 loads.
    #[must_use]
    pub fn taken_within(&self, address: u32, space: PortSpace, (low, high): (u16, u16)) -> u32 {
        self.on(address).map_or(0, |held| held.space(space).taken_within(low, high))
    }

    #[inline]
    fn range_of(&self, address: u32) -> Option<&AddressRange> {
        let after = self.ranges.partition_point(|range| range.first <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address <= range.last)
    }
}

impl AddressPorts {
    fn new(address: u32, (pool, number): (usize, u32), is_shared: bool, writers: Writers) -> Self {
        let users = if is_shared { 3 * PORTS } else { 0 };
        Self {
            address,
            pool,
            number,
            spaces: [(); 3].map(|()| Bitmap::new(writers)),
            users: (0..users).map(|_| AtomicU16::new(0)).collect(),
            hosts: AtomicU32::new(0),
        }
    }

    /// Takes a free port within `window`, searching from a `random` place; `None` when all are taken.
    #[inline]
    #[must_use]
    pub fn take(&self, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        self.space(space).take_within(window, random)
    }

    /// Takes a port as [`AddressPorts::take`] does; where none has the wanted parity, any other (RFC 4787 REQ-4).
    #[inline]
    #[must_use]
    pub fn take_like(&self, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        match self.take(space, window, random) {
            None if window.parity != Parity::Any => self.take(space, window.of_any_parity(), random),
            taken => taken,
        }
    }

    /// Takes one that mappings of other remote endpoints may share, or, where none is left, a share of one.
    #[must_use]
    pub fn take_or_share(&self, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        let any = window.of_any_parity();
        let same = self.take_shareable(space, window, random);
        let taken = same.or_else(|| self.take_shareable(space, any, random));
        taken.or_else(|| self.share(space, any, random))
    }

    /// Takes a port as [`AddressPorts::take`] does, but one that mappings of other remote endpoints may share.
    #[must_use]
    pub fn take_shareable(&self, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        let l4_port = self.take(space, window, random)?;
        // Release: pairs with the AcqRel of `share`.
        self.users(space, l4_port)?.store(1, Ordering::Release);
        Some(l4_port)
    }

    /// Takes a share of a port that is shareable, from a `random` place on.
    #[must_use]
    pub fn share(&self, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        let Window { low, high, .. } = window;
        let start = low + u16::try_from(random % (u64::from(high - low) + 1)).ok()?;
        let join = |users: u16| (users > 0 && users < u16::MAX).then(|| users + 1);
        (start..=high).chain(low..start).find(|l4_port| {
            self.users(space, *l4_port)
                .is_some_and(|users| users.fetch_update(Ordering::AcqRel, Ordering::Relaxed, join).is_ok())
        })
    }

    const fn space(&self, space: PortSpace) -> &Bitmap {
        let [tcp, udp, icmp] = &self.spaces;
        match space {
            PortSpace::Tcp => tcp,
            PortSpace::Udp => udp,
            PortSpace::Icmp => icmp,
        }
    }

    fn users(&self, space: PortSpace, l4_port: u16) -> Option<&AtomicU16> {
        self.users.get(space as usize * PORTS + usize::from(l4_port))
    }
}

/// Addresses looked at for a new host.
pub const CANDIDATES: usize = 16;
const PORTS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn window(low: u16, high: u16) -> Window {
        Window { low, high, parity: Parity::Any }
    }

    #[test]
    fn shared_ports_are_free_after_their_last_user() {
        let config = config(MappingBehavior::AddressAndPortDependent);
        let (pools, address) =
            (PortPools::new(&config, Writers::Many), u32::from(Ipv4Addr::new(198, 51, 100, 7)));
        let all = window(1_024, 1_025);
        let ports = pools.on(address).expect("it is in a pool");
        assert_eq!(ports.take_shareable(PortSpace::Tcp, all, 0), Some(1_024));
        assert_eq!(ports.take(PortSpace::Tcp, all, 0), Some(1_025), "exclusive");
        for _ in 0..3 {
            assert_eq!(ports.share(PortSpace::Tcp, all, 1), Some(1_024));
        }
        (0..3).for_each(|_| pools.release(address, PortSpace::Tcp, 1_024));
        assert_eq!(pools.taken(), 2);
        pools.release(address, PortSpace::Tcp, 1_024);
        assert_eq!((pools.taken(), ports.share(PortSpace::Tcp, all, 1)), (1, None));
    }

    fn config(mapping: MappingBehavior) -> NatConfig {
        let rule = format!(
            "mapping = \"{}\"",
            match mapping {
                MappingBehavior::EndpointIndependent => "endpoint_independent",
                MappingBehavior::AddressAndPortDependent => "address_and_port_dependent",
            }
        );
        let text = format!(
            r#"
            nic_port = [{{ name = "n", device = {{ driver = "null" }} }}]
            [[interface]]
            name = "lan"
            nic_port = "n"
            side = "internal"
            addresses = ["10.0.0.1/24"]
            [[nat.pool]]
            name = "public"
            addresses = ["203.0.113.20-203.0.113.21", "198.51.100.7"]
            l4_ports = "1024-1025"
            [[nat.rule]]
            internal = "10.0.0.0/24"
            pool = "public"
            {rule}
            "#
        );
        let machine = algate_config::Machine::unchecked();
        algate_config::Config::parse(&text, "t", &machine).expect("the configuration is right").nat
    }

    #[test]
    fn pools_find_their_addresses_and_give_nothing_for_others() {
        let pools = PortPools::new(&config(MappingBehavior::EndpointIndependent), Writers::Many);
        let third = u32::from(Ipv4Addr::new(198, 51, 100, 7));
        let all = window(1_024, 1_025);
        assert_eq!(pools.address(0, 5), Some(third));
        assert_eq!(pools.place_of(third), Some((0, 2)));
        assert!(pools.contains(third) && !pools.contains(third + 1) && !pools.contains(third - 1));
        assert!(pools.on(third).is_some_and(|ports| ports.take(PortSpace::Udp, all, 9).is_some()));
        assert!(pools.take_exact(third, PortSpace::Tcp, 21));
        assert!(!pools.take_exact(third, PortSpace::Tcp, 21));
        assert!(pools.on(third + 1).is_none());
        assert_eq!(pools.taken(), 2);
        pools.release(third, PortSpace::Tcp, 21);
        assert_eq!(pools.taken(), 1);
    }

    #[test]
    fn c_02_hosts_spread_over_every_address_of_every_range() {
        let pools = PortPools::new(&config(MappingBehavior::EndpointIndependent), Writers::Many);
        let mut hosts = std::collections::HashMap::new();
        for round in 0..30 {
            let address = pools.quietest_address(0, round * 977).expect("the pool has addresses");
            pools.add_host(address);
            *hosts.entry(address).or_insert(0) += 1;
        }
        assert_eq!(hosts.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    }
}
