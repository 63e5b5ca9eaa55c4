//! Longest-prefix match (RFC 1812 section 5.2.4.3) over connected and static routes.
//!
//! For the slow path: sessions cache what it returns. The prefixes are flattened once into disjoint
//! ranges in ascending order, so that a lookup is one binary search and nothing nests.
//!
//! Where a static and a connected route have the same prefix, the connected one wins.
//!
//! Each tenant has a table of its own: the routes of its internal interfaces and those of the external ones. Of
//! equal prefixes its own counts. What comes from outside follows the routes of [`TenantId::NONE`].

use algate_config::{Config, Side};

use crate::ids::{InterfaceId, TenantId};
use crate::router::interface::Interfaces;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Out of this interface.
    pub interface: InterfaceId,
    /// To this neighbour: a gateway, or the destination itself where it is connected.
    pub address: u32,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// First address.
    pub network: u32,
    /// Length, 0 to 32.
    pub length: u8,
    /// Outgoing interface.
    pub interface: InterfaceId,
    /// Gateway; `None`: destinations are neighbours.
    pub gateway: Option<u32>,
}

impl Prefix {
    #[inline]
    fn hop(&self, dst: u32) -> Hop {
        Hop { interface: self.interface, address: self.gateway.unwrap_or(dst) }
    }

    fn last(&self) -> u32 {
        self.network | u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0)
    }
}

/// The routing tables.
#[derive(Debug, Default)]
pub struct Routes {
    /// Of [`TenantId::NONE`].
    table: Vec<Range>,
    /// Of the others, ascending.
    tenants: Vec<(TenantId, Vec<Range>)>,
}

/// From `start` up to the next range's start.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u32,
    route: Option<Prefix>,
}

/// All addresses that one lookup of a tenant answers: what the last one found out, for the next.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    tenant: TenantId,
    first: u32,
    /// The last address minus the first.
    length: u32,
    route: Option<Prefix>,
}

impl Reach {
    #[inline]
    fn holds(&self, tenant: TenantId, dst: u32) -> bool {
        self.tenant == tenant && dst.wrapping_sub(self.first) <= self.length
    }
}

impl Routes {
    /// The connected routes of `interfaces` and the static routes of `config`.
    #[must_use]
    pub fn new(config: &Config, interfaces: &Interfaces) -> Self {
        let connected = interfaces.iter().flat_map(|interface| {
            interface.addresses.iter().map(|own| {
                let length = own.prefix_length;
                let host_bits = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let network = own.address & !host_bits;
                Prefix { network, length, interface: interface.id, gateway: None }
            })
        });
        let fixed = config.routes.iter().map(|route| Prefix {
            network: route.prefix.network().into(),
            length: route.prefix.prefix_len(),
            interface: InterfaceId(route.interface as u16),
            gateway: Some(route.via.into()),
        });
        let prefixes: Vec<Prefix> = connected.chain(fixed).collect();
        let of_tenant = |tenant| {
            let of_side = |side| {
                let seen = move |prefix: &&Prefix| {
                    let interface = interfaces.of(prefix.interface);
                    interface.is_some_and(|interface| interface.side == side && interface.is_seen_by(tenant))
                };
                prefixes.iter().filter(seen).copied()
            };
            flatten(of_side(Side::Internal).chain(of_side(Side::External)).collect())
        };
        let mut tenants: Vec<TenantId> = interfaces.iter().map(|interface| interface.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants.retain(|tenant| *tenant != TenantId::NONE);
        Self {
            table: of_tenant(TenantId::NONE),
            tenants: tenants.into_iter().map(|tenant| (tenant, of_tenant(tenant))).collect(),
        }
    }

    /// A table of `prefixes` for no tenant. Of equal ones the first counts.
    #[must_use]
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        Self { table: flatten(prefixes.into_iter().collect()), tenants: Vec::new() }
    }

    /// The next hop of a packet of `tenant` towards `dst`, or `None` where no route leads. O(log n).
    #[inline]
    #[must_use]
    pub fn lookup(&self, tenant: TenantId, dst: u32) -> Option<Hop> {
        self.reach(tenant, dst)?.route.map(|route| route.hop(dst))
    }

    /// As [`Routes::lookup`], without a search where `last` answers that too.
    #[inline]
    pub fn lookup_again(&self, last: &mut Option<Reach>, tenant: TenantId, dst: u32) -> Option<Hop> {
        if !last.is_some_and(|last| last.holds(tenant, dst)) {
            *last = self.reach(tenant, dst);
        }
        last.as_ref()?.route.map(|route| route.hop(dst))
    }

    fn reach(&self, tenant: TenantId, dst: u32) -> Option<Reach> {
        let table = match self.tenants.binary_search_by_key(&tenant, |(tenant, _)| *tenant) {
            Ok(at) => &self.tenants.get(at)?.1,
            Err(_) => &self.table,
        };
        let after = table.partition_point(|range| range.start <= dst);
        let Range { start, route } = *table.get(after.checked_sub(1)?)?;
        let last = table.get(after).map_or(u32::MAX, |next| next.start - 1);
        Some(Reach { tenant, first: start, length: last - start, route })
    }
}

/// Disjoint ranges of `prefixes`. Of equal ones the first counts.
fn flatten(mut prefixes: Vec<Prefix>) -> Vec<Range> {
    // Outer prefixes before the ones they hold; the sort is stable, so equal ones keep their order.
    prefixes.sort_by_key(|prefix| (prefix.network, prefix.length));
    prefixes.dedup_by_key(|prefix| (prefix.network, prefix.length));
    let mut ranges = vec![Range { start: 0, route: None }];
    let mut open: Vec<Prefix> = Vec::new();
    for prefix in prefixes {
        close(&mut open, &mut ranges, Some(prefix.network));
        push(&mut ranges, prefix.network, Some(prefix));
        open.push(prefix);
    }
    close(&mut open, &mut ranges, None);
    ranges
}

/// Ends the open prefixes that end before `next` begins: behind each, the one around it goes on.
fn close(open: &mut Vec<Prefix>, ranges: &mut Vec<Range>, next: Option<u32>) {
    while let Some(inner) = open.pop_if(|inner| next.is_none_or(|next| inner.last() < next)) {
        if let Some(start) = inner.last().checked_add(1) {
            push(ranges, start, open.last().copied());
        }
    }
}

/// Appends a range; one that begins at the same address replaces the last.
fn push(ranges: &mut Vec<Range>, start: u32, route: Option<Prefix>) {
    match ranges.last_mut() {
        Some(last) if last.start == start => last.route = route,
        _ => ranges.push(Range { start, route }),
    }
}
