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
use crate::table::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

#[cfg(all(test, loom))]
mod models;

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
    addresses: Vec<PoolAddress>,
    pools: Vec<PoolPlan>,
    /// Address ranges of all pools, ascending.
    ranges: Vec<AddressRange>,
    /// Ports that are taken but rest.
    held: AtomicU64,
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

/// Which ports of an address will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The lowest one.
    pub low: u16,
    /// The highest one.
    pub high: u16,
    /// Only even ones, only odd ones, or all.
    pub parity: Parity,
}

/// Which of two neighbouring ports will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// Both.
    Any,
    /// The even one.
    Even,
    /// The odd one.
    Odd,
}

#[derive(Debug)]
struct AddressRange {
    first: u32,
    last: u32,
    /// Position of `first` in the list of addresses.
    position: usize,
    pool: usize,
}

#[derive(Debug)]
struct PoolAddress {
    address: u32,
    spaces: [Bitmap; 3],
    /// Users per port that may be shared; empty where no rule shares ports.
    users: Box<[AtomicU16]>,
    /// Hosts paired with it.
    hosts: AtomicU32,
}

impl PortPools {
    /// Empty bitmaps for every address of every pool.
    #[must_use]
    pub fn new(config: &NatConfig) -> Self {
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
                ranges.push(AddressRange { first, last, position: addresses.len(), pool: index });
                addresses.extend((first..=last).map(|address| PoolAddress::new(address, is_shared)));
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
        Self { addresses, pools, ranges, held: AtomicU64::new(0) }
    }

    /// Whether `address` belongs to a pool.
    #[must_use]
    pub fn contains(&self, address: u32) -> bool {
        self.range_of(address).is_some()
    }

    /// What the configuration says about `pool`.
    #[must_use]
    pub fn plan(&self, pool: usize) -> Option<PoolPlan> {
        self.pools.get(pool).copied()
    }

    /// The pool of `address`, and the address's number in it.
    #[must_use]
    pub fn place_of(&self, address: u32) -> Option<(usize, u32)> {
        let range = self.range_of(address)?;
        let position = range.position + usize::try_from(address - range.first).ok()?;
        let first = self.pools.get(range.pool)?.first;
        Some((range.pool, u32::try_from(position - first).ok()?))
    }

    /// The `choice`-th address of `pool`, counted round and round.
    #[must_use]
    pub fn address(&self, pool: usize, choice: u64) -> Option<u32> {
        let PoolPlan { first, count, .. } = self.plan(pool)?;
        let offset = usize::try_from(choice % (count.max(1) as u64)).ok()?;
        self.addresses.get(first + offset).map(|held| held.address)
    }

    /// Among up to [`CANDIDATES`] addresses of `pool` from a `random` one on, the one with the fewest
    /// hosts.
    #[must_use]
    pub fn quietest_address(&self, pool: usize, random: u64) -> Option<u32> {
        let PoolPlan { first, count, .. } = self.plan(pool)?;
        let start = usize::try_from(random % (count.max(1) as u64)).ok()?;
        let candidates = (start..count).chain(0..start).take(CANDIDATES);
        let addresses = candidates.filter_map(|offset| self.addresses.get(first + offset));
        addresses.min_by_key(|held| held.hosts.load(Ordering::Relaxed)).map(|held| held.address)
    }

    /// Counts a host that was paired with `address`.
    pub fn add_host(&self, address: u32) {
        if let Some(held) = self.held_address(address) {
            held.hosts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of a host that was paired with `address`.
    pub fn remove_host(&self, address: u32) {
        if let Some(held) = self.held_address(address) {
            held.hosts.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a free port of `address` within `window`, searching from a `random` place; `None` when
    /// all are taken or the address is in no pool.
    #[must_use]
    pub fn take(&self, address: u32, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        self.held_address(address)?.space(space).take_within(window, random)
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
        self.held_address(address)?.space(space).take_pair_within(window, random)
    }

    /// Takes a port as [`PortPools::take`] does, but one that mappings of other remote endpoints may
    /// share.
    #[must_use]
    pub fn take_shareable(&self, address: u32, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        let l4_port = self.take(address, space, window, random)?;
        // Release: pairs with the AcqRel of `share`.
        self.held_address(address)?.users(space, l4_port)?.store(1, Ordering::Release);
        Some(l4_port)
    }

    /// Takes a share of a port that is shareable, from a `random` place on.
    #[must_use]
    pub fn share(&self, address: u32, space: PortSpace, window: Window, random: u64) -> Option<u16> {
        let held = self.held_address(address)?;
        let Window { low, high, .. } = window;
        let start = low + u16::try_from(random % (u64::from(high - low) + 1)).ok()?;
        let join = |users: u16| (users > 0 && users < u16::MAX).then(|| users + 1);
        (start..=high).chain(low..start).find(|l4_port| {
            held.users(space, *l4_port)
                .is_some_and(|users| users.fetch_update(Ordering::AcqRel, Ordering::Relaxed, join).is_ok())
        })
    }

    /// Takes exactly `l4_port` of `address`; `false` when it is taken or the address is in no pool.
    #[must_use]
    pub fn take_exact(&self, address: u32, space: PortSpace, l4_port: u16) -> bool {
        self.held_address(address).is_some_and(|held| held.space(space).take(l4_port))
    }

    /// Gives a port back, or a share of it.
    pub fn release(&self, address: u32, space: PortSpace, l4_port: u16) {
        let Some(held) = self.held_address(address) else { return };
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
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of such a rest.
    pub fn end_rest(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ports that rest.
    #[must_use]
    pub fn resting(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Ports in use, of all addresses and transports.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let set: u64 = self.addresses.iter().flat_map(|held| &held.spaces).map(Bitmap::taken).sum();
        set.saturating_sub(self.resting())
    }

    /// Ports of `address` within an inclusive range that are taken, resting ones included. Up to 1,024 loads.
    #[must_use]
    pub fn taken_within(&self, address: u32, space: PortSpace, (low, high): (u16, u16)) -> u32 {
        self.held_address(address).map_or(0, |held| held.space(space).taken_within(low, high))
    }

    fn range_of(&self, address: u32) -> Option<&AddressRange> {
        let after = self.ranges.partition_point(|range| range.first <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address <= range.last)
    }

    fn held_address(&self, address: u32) -> Option<&PoolAddress> {
        let range = self.range_of(address)?;
        let offset = usize::try_from(address - range.first).ok()?;
        self.addresses.get(range.position + offset)
    }
}

impl PoolAddress {
    fn new(address: u32, is_shared: bool) -> Self {
        let users = if is_shared { 3 * PORTS } else { 0 };
        Self {
            address,
            spaces: [Bitmap::new(), Bitmap::new(), Bitmap::new()],
            users: (0..users).map(|_| AtomicU16::new(0)).collect(),
            hosts: AtomicU32::new(0),
        }
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

impl Parity {
    /// The parity of `l4_port`.
    #[must_use]
    pub const fn of(l4_port: u16) -> Self {
        if l4_port.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }

    /// The ports that will do, in a word of 64 ports.
    const fn mask(self) -> u64 {
        match self {
            Self::Any => u64::MAX,
            Self::Even => EVEN,
            Self::Odd => !EVEN,
        }
    }
}

/// One bit per port: 1,024 words.
#[derive(Debug)]
struct Bitmap(Box<[AtomicU64]>);

impl Bitmap {
    fn new() -> Self {
        Self((0..PORTS / 64).map(|_| AtomicU64::new(0)).collect())
    }

    /// Takes the first free port at or after a random one, going round within the window.
    fn take_within(&self, window: Window, random: u64) -> Option<u16> {
        around(window, random, |low, high| self.take_first_free(low, high, window.parity, 1))
    }

    fn take_pair_within(&self, window: Window, random: u64) -> Option<u16> {
        around(window, random, |low, high| self.take_first_free(low, high, window.parity, 0b11))
    }

    /// Takes the first port within `low..=high` at which the bits of `pattern` are all free, and with it
    /// the ports of those bits. A pattern of two is looked for at even ports, so it stays in its word.
    fn take_first_free(&self, low: u16, high: u16, parity: Parity, pattern: u64) -> Option<u16> {
        let (first, last) = (usize::from(low) / 64, usize::from(high) / 64);
        for index in first..=last {
            let word = self.0.get(index)?;
            let from = if index == first { u64::MAX << (low % 64) } else { u64::MAX };
            let to = if index == last { u64::MAX >> (63 - high % 64) } else { u64::MAX };
            let mut candidates = !word.load(Ordering::Relaxed) & from & to & parity.mask();
            while candidates != 0 {
                let bit = candidates.trailing_zeros();
                candidates &= candidates - 1;
                let mask = pattern << bit;
                if mask & !(from & to) == 0 && try_set(word, mask) {
                    return u16::try_from(index * 64 + bit as usize).ok();
                }
            }
        }
        None
    }

    fn take(&self, l4_port: u16) -> bool {
        self.0.get(usize::from(l4_port) / 64).is_some_and(|word| try_set(word, 1_u64 << (l4_port % 64)))
    }

    fn release(&self, l4_port: u16) {
        if let Some(word) = self.0.get(usize::from(l4_port) / 64) {
            word.fetch_and(!(1_u64 << (l4_port % 64)), Ordering::Relaxed);
        }
    }

    fn taken_within(&self, low: u16, high: u16) -> u32 {
        let (first, last) = (usize::from(low) / 64, usize::from(high) / 64);
        let words = self.0.iter().enumerate().take(last + 1).skip(first);
        let masked = words.map(|(index, word)| {
            let from = if index == first { u64::MAX << (low % 64) } else { u64::MAX };
            let to = if index == last { u64::MAX >> (63 - high % 64) } else { u64::MAX };
            (word.load(Ordering::Relaxed) & from & to).count_ones()
        });
        masked.sum()
    }

    fn taken(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

/// Sets all bits of `mask`, unless one is set.
fn try_set(word: &AtomicU64, mask: u64) -> bool {
    let set = |taken: u64| (taken & mask == 0).then_some(taken | mask);
    // Relaxed: owning the bits orders nothing else; the mapping is published by its table.
    word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set).is_ok()
}

/// Searches the window from a random place to its end, then from its beginning.
fn around(window: Window, random: u64, search: impl Fn(u16, u16) -> Option<u16>) -> Option<u16> {
    let Window { low, high, .. } = window;
    let count = u64::from(high.checked_sub(low)?) + 1;
    let start = low + u16::try_from(random % count).ok()?;
    // No pair may lie across the start.
    let start = if window.parity == Parity::Even { (start & !1).max(low) } else { start };
    let before = || start.checked_sub(1).filter(|last| *last >= low);
    search(start, high).or_else(|| before().and_then(|last| search(low, last)))
}

/// Addresses looked at for a new host.
pub const CANDIDATES: usize = 16;
const PORTS: usize = 65_536;
const EVEN: u64 = 0x5555_5555_5555_5555;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn window(low: u16, high: u16) -> Window {
        Window { low, high, parity: Parity::Any }
    }

    #[test]
    fn every_port_of_the_range_is_handed_out_once_then_none() {
        let bitmap = Bitmap::new();
        let mut seen = HashSet::new();
        for round in 0..(2_000 - 1_030 + 1) {
            let l4_port =
                bitmap.take_within(window(1_030, 2_000), round * 7_919).expect("free ports are left");
            assert!((1_030..=2_000).contains(&l4_port) && seen.insert(l4_port));
        }
        assert_eq!(bitmap.take_within(window(1_030, 2_000), 3), None);
        bitmap.release(1_500);
        assert_eq!(bitmap.take_within(window(1_030, 2_000), 900), Some(1_500));
    }

    #[test]
    fn u_05_parity_is_kept_and_pairs_are_even_and_adjacent() {
        let bitmap = Bitmap::new();
        let even = Window { parity: Parity::Even, ..window(1_025, 1_100) };
        let mut taken: Vec<u16> = (0..50).filter_map(|n| bitmap.take_within(even, n * 31)).collect();
        taken.sort_unstable();
        assert_eq!(taken, (1_026..=1_100).step_by(2).collect::<Vec<_>>());
        bitmap.release(1_050);
        bitmap.release(1_080);
        assert!(bitmap.take(1_081));
        assert_eq!(bitmap.take_pair_within(even, 9), Some(1_050), "the other one has no partner");
        assert!(!bitmap.take(1_051));
        assert_eq!(bitmap.take_pair_within(even, 9), None);
    }

    #[test]
    fn shared_ports_are_free_after_their_last_user() {
        let config = config(MappingBehavior::AddressAndPortDependent);
        let (pools, address) = (PortPools::new(&config), u32::from(Ipv4Addr::new(198, 51, 100, 7)));
        let all = window(1_024, 1_025);
        let first = pools.take_shareable(address, PortSpace::Tcp, all, 0);
        assert_eq!(first, Some(1_024));
        assert_eq!(pools.take(address, PortSpace::Tcp, all, 0), Some(1_025), "exclusive");
        for _ in 0..3 {
            assert_eq!(pools.share(address, PortSpace::Tcp, all, 1), Some(1_024));
        }
        (0..3).for_each(|_| pools.release(address, PortSpace::Tcp, 1_024));
        assert_eq!(pools.taken(), 2);
        pools.release(address, PortSpace::Tcp, 1_024);
        assert_eq!((pools.taken(), pools.share(address, PortSpace::Tcp, all, 1)), (1, None));
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
        let pools = PortPools::new(&config(MappingBehavior::EndpointIndependent));
        let third = u32::from(Ipv4Addr::new(198, 51, 100, 7));
        let all = window(1_024, 1_025);
        assert_eq!(pools.address(0, 5), Some(third));
        assert_eq!(pools.place_of(third), Some((0, 2)));
        assert!(pools.contains(third) && !pools.contains(third + 1) && !pools.contains(third - 1));
        assert!(pools.take(third, PortSpace::Udp, all, 9).is_some());
        assert!(pools.take_exact(third, PortSpace::Tcp, 21));
        assert!(!pools.take_exact(third, PortSpace::Tcp, 21));
        assert_eq!(pools.take(third + 1, PortSpace::Udp, all, 9), None);
        assert_eq!(pools.taken(), 2);
        pools.release(third, PortSpace::Tcp, 21);
        assert_eq!(pools.taken(), 1);
    }

    #[test]
    fn c_02_hosts_spread_over_every_address_of_every_range() {
        let pools = PortPools::new(&config(MappingBehavior::EndpointIndependent));
        let mut hosts = std::collections::HashMap::new();
        for round in 0..30 {
            let address = pools.quietest_address(0, round * 977).expect("the pool has addresses");
            pools.add_host(address);
            *hosts.entry(address).or_insert(0) += 1;
        }
        assert_eq!(hosts.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    }

    #[test]
    fn the_ends_of_the_port_space_are_reachable() {
        let bitmap = Bitmap::new();
        assert_eq!(bitmap.take_within(window(65_535, 65_535), 0), Some(65_535));
        assert_eq!(bitmap.take_within(window(0, 0), 5), Some(0));
        assert!(!bitmap.take(65_535));
        assert_eq!(bitmap.taken(), 2);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_was_free_and_inside_the_window(
            low in 1_024_u16..1_200, length in 0_u16..200, draws in proptest::collection::vec(any::<(u64, bool)>(), 1..150),
        ) {
            let (bitmap, high) = (Bitmap::new(), low + length);
            let mut model = HashSet::new();
            for (random, wants_pair) in draws {
                let some = Window { parity: if wants_pair { Parity::Even } else { Parity::Any }, ..window(low, high) };
                let taken = if wants_pair {
                    bitmap.take_pair_within(some, random).map(|port| vec![port, port + 1])
                } else {
                    bitmap.take_within(some, random).map(|port| vec![port])
                };
                match taken {
                    Some(ports) => for port in ports {
                        prop_assert!((low..=high).contains(&port) && model.insert(port));
                    },
                    None if wants_pair => {
                        let is_free = |port: u16| (low..=high).contains(&port) && !model.contains(&port);
                        prop_assert!(!(low..=high).any(|port| port % 2 == 0 && is_free(port) && is_free(port + 1)));
                    }
                    None => prop_assert_eq!(model.len(), usize::from(length) + 1),
                }
            }
            prop_assert_eq!(bitmap.taken(), model.len() as u64);
        }
    }
}
