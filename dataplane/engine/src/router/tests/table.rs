//! Interfaces and routes.

use proptest::prelude::*;

use super::*;
use crate::drop_reason::DropReason;
use crate::router::interface::InterfaceAddress;
use crate::router::route::{Hop, Prefix, Routes};

#[test]
fn finds_the_interface_of_a_frame() {
    let mut config = config();
    config.interfaces[2].tenant = 5;
    let router = Bench::with(&config).router;
    let broadcast = [0xFF; 6];
    let rows = [
        (0, 0, INTERNAL_MAC, Ok((INTERNAL, TenantId::NONE))),
        (1, 0, EXTERNAL_MAC, Ok((EXTERNAL, TenantId::NONE))),
        (1, 7, EXTERNAL_MAC, Ok((TAGGED, TenantId(5)))),
        (1, 7, broadcast, Ok((TAGGED, TenantId(5)))),
        (0, 0, EXTERNAL_MAC, Err(DropReason::NotForUs)),
        (0, 7, INTERNAL_MAC, Err(DropReason::UnknownVlan)),
        (1, 4_095, EXTERNAL_MAC, Err(DropReason::UnknownVlan)),
        (1, 5_000, EXTERNAL_MAC, Err(DropReason::UnknownVlan)),
        (9, 0, EXTERNAL_MAC, Err(DropReason::UnknownVlan)),
    ];
    for (nic_port, vlan, mac, expected) in rows {
        let arrival = router.interfaces.classify(NicPortId(nic_port), vlan, mac);
        let arrival = arrival.map(|arrival| (arrival.interface, arrival.tenant));
        assert_eq!(arrival, expected, "{nic_port} {vlan}");
    }
}

#[test]
fn knows_its_own_addresses_and_the_broadcasts_around_them() {
    let interfaces = Bench::new().router.interfaces;
    assert_eq!(interfaces.owner(TenantId::NONE, address("172.16.0.1")), Some(TAGGED));
    assert!(
        interfaces.is_own(TenantId::NONE, address("10.0.0.1"))
            && !interfaces.is_own(TenantId::NONE, address("10.0.0.2"))
    );
    let rows = [("10.0.0.255", true), ("10.0.0.0", true), ("10.0.0.1", false), ("10.0.1.255", false)];
    for (text, is_broadcast) in rows {
        assert_eq!(interfaces.is_broadcast(TenantId::NONE, address(text)), is_broadcast, "{text}");
    }
    let point_to_point = InterfaceAddress { address: address("10.1.1.0"), prefix_length: 31 };
    assert!(point_to_point.is_connected(address("10.1.1.1")));
    assert!(
        !point_to_point.is_broadcast(address("10.1.1.1"))
            && !point_to_point.is_broadcast(address("10.1.1.0"))
    );
    let everything = InterfaceAddress { address: address("10.1.1.0"), prefix_length: 0 };
    assert!(everything.is_connected(address("203.0.113.1")));
    assert_eq!(everything.range(), (0, u32::MAX));
}

#[test]
fn speaks_with_the_address_nearest_to_the_peer() {
    let mut config = config();
    config.interfaces[0].addresses.push("10.9.0.1/16".parse().unwrap());
    let router = Bench::with(&config).router;
    let interface = router.interfaces.of(INTERNAL).unwrap();
    assert_eq!(interface.address_towards(address("10.9.3.3")), Some(address("10.9.0.1")));
    assert_eq!(interface.address_towards(address("203.0.113.1")), Some(address("10.0.0.1")));
}

#[test]
fn knows_the_external_addresses_of_the_nat() {
    let router = Bench::new().router;
    let rows = [
        ("198.51.100.0", true),
        ("198.51.100.3", true),
        ("198.51.100.4", false),
        ("192.0.2.9", false),
        ("192.0.2.10", true),
        ("192.0.2.11", true),
        ("192.0.2.12", true),
        ("192.0.2.13", false),
    ];
    for (text, is_nat) in rows {
        assert_eq!(router.is_nat_address(address(text)), is_nat, "{text}");
        assert_eq!(router.answers_for(EXTERNAL, address(text)), is_nat, "{text} outside");
        assert!(!router.answers_for(INTERNAL, address(text)), "{text} inside");
    }
}

#[test]
fn routes_to_neighbours_directly_and_to_the_rest_by_a_gateway() {
    let router = Bench::new().router;
    let rows = [
        ("10.0.0.77", INTERNAL, "10.0.0.77"),
        ("172.16.0.9", TAGGED, "172.16.0.9"),
        ("192.0.2.77", EXTERNAL, "192.0.2.77"),
        ("203.0.113.5", EXTERNAL, "192.0.2.254"),
        ("0.0.0.1", EXTERNAL, "192.0.2.254"),
        ("255.255.255.255", EXTERNAL, "192.0.2.254"),
    ];
    for (dst, interface, hop) in rows {
        let expected = Hop { interface, address: address(hop) };
        assert_eq!(router.routes.lookup(TenantId::NONE, address(dst)), Some(expected), "{dst}");
    }
}

#[test]
fn s_25_each_tenant_has_the_routes_of_its_interfaces_and_of_external_ones() {
    let mut config = config();
    config.interfaces[2].tenant = 5;
    config.interfaces[2].addresses = vec!["10.0.0.1/16".parse().unwrap()];
    let route = |prefix: &str, via: &str| config::Route {
        prefix: prefix.parse().unwrap(),
        via: via.parse().unwrap(),
        interface: 2,
    };
    config.routes.extend([route("0.0.0.0/0", "10.0.9.9"), route("198.51.100.0/24", "10.0.9.8")]);
    let router = Bench::with(&config).router;
    let rows = [
        (0, "10.0.0.77", INTERNAL, "10.0.0.77"),
        (5, "10.0.0.77", TAGGED, "10.0.0.77"),
        (0, "10.0.5.5", EXTERNAL, "192.0.2.254"),
        (5, "10.0.5.5", TAGGED, "10.0.5.5"),
        // Its own default route counts before the external one, its prefixes among all.
        (0, "203.0.113.5", EXTERNAL, "192.0.2.254"),
        (5, "203.0.113.5", TAGGED, "10.0.9.9"),
        (0, "198.51.100.5", EXTERNAL, "192.0.2.254"),
        (5, "198.51.100.5", TAGGED, "10.0.9.8"),
        (5, "192.0.2.77", EXTERNAL, "192.0.2.77"),
    ];
    for (tenant, dst, interface, hop) in rows {
        let expected = Hop { interface, address: address(hop) };
        assert_eq!(router.routes.lookup(TenantId(tenant), address(dst)), Some(expected), "{tenant} {dst}");
    }
    let owner = |tenant| router.interfaces.owner(TenantId(tenant), address("10.0.0.1"));
    assert_eq!((owner(0), owner(5)), (Some(INTERNAL), Some(TAGGED)));
    let is_broadcast = |tenant| router.interfaces.is_broadcast(TenantId(tenant), address("10.0.0.255"));
    assert!(is_broadcast(0) && !is_broadcast(5));
}

#[test]
fn has_no_route_where_none_leads() {
    let mut config = config();
    config.routes.clear();
    let router = Bench::with(&config).router;
    assert_eq!(router.routes.lookup(TenantId::NONE, address("203.0.113.5")), None);
    assert_eq!(router.next_hop(TenantId::NONE, address("10.0.1.0"), at(0)), Err(DropReason::NoRoute));
    assert_eq!(Routes::default().lookup(TenantId::NONE, 1), None);
}

#[test]
fn prefers_the_first_of_equal_prefixes() {
    let prefix = |gateway| Prefix { network: 0, length: 0, interface: INTERNAL, gateway: Some(gateway) };
    let routes = Routes::from_prefixes([prefix(1), prefix(2)]);
    assert_eq!(routes.lookup(TenantId::NONE, 9).map(|hop| hop.address), Some(1));
}

fn prefix() -> impl Strategy<Value = Prefix> {
    // Few distinct bits, so that prefixes nest, touch and repeat.
    (
        prop::sample::select(vec![0u32, 0x0A00_0000, 0x0A80_0000, 0xFF00_0000, 0xFFFF_FF00]),
        0u32..4,
        0u8..=32,
        any::<u32>(),
    )
        .prop_map(|(base, low, length, gateway)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Prefix { network: (base | low) & mask, length, interface: INTERNAL, gateway: Some(gateway) }
        })
}

/// Every prefix in turn, the longest that matches wins, the first of equal ones.
fn naive(prefixes: &[Prefix], dst: u32) -> Option<u32> {
    let matches = prefixes.iter().rev().filter(|prefix| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length)).unwrap_or(0);
        dst & mask == prefix.network
    });
    matches.max_by_key(|prefix| prefix.length).and_then(|prefix| prefix.gateway)
}

proptest! {
    #[test]
    fn finds_the_longest_prefix(
        prefixes in proptest::collection::vec(prefix(), 0..40),
        more in any::<[u32; 8]>(),
    ) {
        let routes = Routes::from_prefixes(prefixes.iter().copied());
        let edges = prefixes.iter().flat_map(|prefix| {
            let last = prefix.network | u32::MAX.checked_shr(u32::from(prefix.length)).unwrap_or(0);
            [prefix.network, prefix.network.wrapping_sub(1), last, last.wrapping_add(1)]
        });
        let mut last = None;
        for dst in edges.chain(more) {
            let found = routes.lookup(TenantId::NONE, dst).map(|hop| hop.address);
            prop_assert_eq!(found, naive(&prefixes, dst), "destination {:#x}", dst);
            let again = routes.lookup_again(&mut last, TenantId::NONE, dst).map(|hop| hop.address);
            prop_assert_eq!(again, found, "destination {:#x}, after another", dst);
        }
    }
}
