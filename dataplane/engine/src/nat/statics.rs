//! Static translations: internal addresses that have external ones of their own (1:1).
//!
//! RFC 2663 section 4.1.1 (basic NAT): address for address, L4 ports and identifiers as they are, every
//! protocol. Nothing is stored for a host: both directions are arithmetic on the configured prefixes, so
//! there is no mapping, no port to take, and nothing that a stranger could use up.
//!
//! Not done: overlap with pools or other statics, which the configuration refuses.

use algate_config::{Static, StaticInbound};
use ipnet::Ipv4Net;

use crate::ids::TenantId;
use crate::nat::key::Host;

/// The static translations of the configuration.
#[derive(Debug)]
pub struct Statics {
    /// Ascending by external address.
    by_external: Vec<Pair>,
    /// Ascending by internal host.
    by_internal: Vec<Pair>,
}

/// Two prefixes of one length.
#[derive(Debug, Clone, Copy)]
struct Pair {
    external: u32,
    internal: Host,
    host_bits: u32,
    admits_all: bool,
}

impl Statics {
    /// Of the configured ones, which are disjoint on either side.
    #[must_use]
    pub fn new(config: &[Static]) -> Self {
        let pairs = config.iter().map(|Static { external, internal, tenant, inbound }| Pair {
            external: network(external),
            internal: Host { tenant: TenantId(*tenant), address: network(internal) },
            host_bits: u32::from(external.hostmask()),
            admits_all: *inbound == StaticInbound::Allow,
        });
        let mut by_external: Vec<Pair> = pairs.collect();
        let mut by_internal = by_external.clone();
        by_external.sort_unstable_by_key(|pair| pair.external);
        by_internal.sort_unstable_by_key(|pair| pair.internal);
        Self { by_external, by_internal }
    }

    /// The external address that an internal host has. One binary search.
    #[inline]
    #[must_use]
    pub fn external_of(&self, internal: Host) -> Option<u32> {
        let after = self.by_internal.partition_point(|pair| pair.internal <= internal);
        let pair = self.by_internal.get(after.checked_sub(1)?)?;
        let is_in = pair.internal.tenant == internal.tenant
            && internal.address & !pair.host_bits == pair.internal.address;
        is_in.then_some(pair.external | (internal.address & pair.host_bits))
    }

    /// The internal host that an external address is. One binary search.
    #[inline]
    #[must_use]
    pub fn internal_of(&self, external: u32) -> Option<Host> {
        let Pair { internal, host_bits, .. } = self.holding(external)?;
        Some(Host { address: internal.address | (external & host_bits), ..*internal })
    }

    /// Whether the external side may open what no filter rule speaks of.
    #[must_use]
    pub fn admits_all(&self, external: u32) -> bool {
        self.holding(external).is_some_and(|pair| pair.admits_all)
    }

    fn holding(&self, external: u32) -> Option<&Pair> {
        let after = self.by_external.partition_point(|pair| pair.external <= external);
        let pair = self.by_external.get(after.checked_sub(1)?)?;
        (external & !pair.host_bits == pair.external).then_some(pair)
    }
}

fn network(prefix: &Ipv4Net) -> u32 {
    u32::from(prefix.network())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statics() -> Statics {
        let pair = |external: &str, internal: &str, tenant, inbound| Static {
            external: external.parse().expect("a prefix"),
            internal: internal.parse().expect("a prefix"),
            tenant,
            inbound,
        };
        Statics::new(&[
            pair("198.51.100.64/26", "10.0.1.0/26", 0, StaticInbound::Allow),
            pair("203.0.113.9/32", "10.0.0.9/32", 0, StaticInbound::Filter),
            pair("198.51.100.0/30", "10.0.2.4/30", 7, StaticInbound::Filter),
        ])
    }

    #[test]
    fn addresses_keep_their_place_in_the_prefix() {
        let statics = statics();
        for (tenant, internal, external, admits_all) in [
            (0, "10.0.0.9", "203.0.113.9", false),
            (0, "10.0.1.0", "198.51.100.64", true),
            (0, "10.0.1.63", "198.51.100.127", true),
            (7, "10.0.2.6", "198.51.100.2", false),
        ] {
            let number = |text: &str| u32::from(text.parse::<std::net::Ipv4Addr>().expect("an address"));
            let host = Host { tenant: TenantId(tenant), address: number(internal) };
            assert_eq!(statics.external_of(host), Some(number(external)));
            assert_eq!(statics.external_of(Host { tenant: TenantId(1), ..host }), None);
            assert_eq!(statics.internal_of(number(external)), Some(host));
            assert_eq!(statics.admits_all(number(external)), admits_all);
        }
        for other in [0, 0x0a00_0008, 0x0a00_000a, 0x0a00_0140, 0x0a00_0203, 0x0a00_0208, u32::MAX] {
            let host = Host { tenant: TenantId(7), address: other };
            assert_eq!((statics.external_of(host), statics.internal_of(other)), (None, None), "{other:08x}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_address(address in any::<u32>(), tenant in 0_u16..8) {
            let statics = statics();
            for near in [address, 0x0a00_0000 | (address & 0x03ff), 0xc633_6400 | (address & 0xff)] {
                let host = Host { tenant: TenantId(tenant), address: near };
                if let Some(external) = statics.external_of(host) {
                    prop_assert_eq!(statics.internal_of(external), Some(host));
                }
                if let Some(internal) = statics.internal_of(near) {
                    prop_assert_eq!(statics.external_of(internal), Some(near));
                }
            }
        }
    }
}
