//! A software ring: what is sent comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use std::fs;

use algate::dpdk::mbuf::Mbuf;
use algate::edge::{Edge, Share};
use algate_config::{Device, Hugepages};
use algate_engine::drop_reason::DropReason;
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::NicPortId;

#[test]
fn s_20_frames_come_back_unchanged_by_the_named_drivers_only() {
    let mut config = eal::config(vec![Device::Ring { name: "loop".to_owned() }]);
    // So many that the pool's pages show: without hugepages one holds one buffer.
    config.eal.hugepages = Hugepages::Never;
    config.tables.mbufs = 40_000;
    let mut edge = Edge::open(&config).unwrap();
    let runtime_directory = edge.pool.eal().runtime_directory().to_owned();
    assert!(runtime_directory.exists());
    let Share { mut rx, mut io, counters } = edge.shares.remove(0);

    for number in 0..100_u8 {
        io.transmit(NicPortId(0), eal::frame(&edge.pool, &[number; 60]));
    }
    io.flush();
    let mut burst: Vec<Mbuf> = Vec::with_capacity(32);
    let mut numbers = Vec::new();
    while numbers.len() < 100 {
        rx[0].receive(&mut burst);
        assert!(!burst.is_empty(), "the ring lost frames after {numbers:?}");
        io.count_received(NicPortId(0), &burst);
        for frame in burst.drain(..) {
            assert_eq!(frame.head(), [frame.head()[0]; 60]);
            numbers.push(frame.head()[0]);
        }
    }
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
    let port = &counters.nic_ports[0];
    assert_eq!((port.tx_packets.value(), port.tx_bytes.value()), (100, 6_000));
    assert_eq!((port.rx_packets.value(), port.rx_bytes.value()), (100, 6_000));

    assert_eq!(edge.pool.in_use(), 0);
    assert_only_named_drivers_are_loaded();
    drop((io, rx, edge));
    assert!(!runtime_directory.exists(), "{} is left over", runtime_directory.display());
}

/// Each driver is code that runs as root: those that the configuration does not name stay out.
fn assert_only_named_drivers_are_loaded() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut drivers: Vec<&str> = maps
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .filter(|file| {
            ["librte_net_", "librte_mempool_", "librte_crypto"].iter().any(|p| file.starts_with(p))
        })
        .filter_map(|file| file.split('.').next())
        .collect();
    drivers.sort_unstable();
    drivers.dedup();
    assert_eq!(drivers, ["librte_mempool_ring", "librte_net_ring"]);
}

#[test]
fn what_a_full_queue_refuses_is_freed_and_counted() {
    let mut config = eal::config(vec![Device::Ring { name: "full".to_owned() }]);
    config.tables.mbufs = 8_192;
    let mut edge = Edge::open(&config).unwrap();
    let Share { mut io, counters, .. } = edge.shares.remove(0);
    for _ in 0..6_000 {
        io.transmit(NicPortId(0), eal::frame(&edge.pool, &[7; 60]));
    }
    io.flush();
    let sent = counters.nic_ports[0].tx_packets.value();
    let dropped = counters.drops.of(DropReason::TxQueueFull);
    assert!(dropped > 0 && sent > 0, "sent={sent} dropped={dropped}");
    assert_eq!(sent + dropped, 6_000);
    assert_eq!(counters.nic_ports[0].tx_bytes.value(), sent * 60);
    assert_eq!(u64::from(edge.pool.in_use()), sent);
}

#[test]
fn an_exhausted_mempool_is_counted_and_recovers() {
    let mut config = eal::config(vec![Device::Ring { name: "small".to_owned() }]);
    config.tables.mbufs = 1_023;
    let mut edge = Edge::open(&config).unwrap();
    let Share { mut io, counters, .. } = edge.shares.remove(0);
    let held: Vec<Mbuf> = std::iter::from_fn(|| io.alloc()).take(2_000).collect();
    assert_eq!((held.len(), counters.drops.of(DropReason::MempoolExhausted)), (1_023, 1));
    drop(held);
    assert!(io.alloc().is_some());
    assert_eq!(edge.pool.in_use(), 0);
}

#[test]
fn a_chain_of_buffers_is_linearized_when_it_fits_and_left_alone_when_not() {
    let edge = Edge::open(&eal::config(vec![Device::Ring { name: "chain".to_owned() }])).unwrap();
    let pool = &edge.pool;
    let mut short = eal::frame(pool, &[1; 100]);
    assert!(short.chain(eal::frame(pool, &[2; 50])));
    assert_eq!((short.segments(), short.head().len(), short.len()), (2, 100, 150));
    assert!(!short.resize(60), "only a frame of one segment has a tail");
    assert!(short.linearize());
    assert_eq!((short.segments(), short.len()), (1, 150));
    assert_eq!(short.head(), [[1; 50], [1; 50], [2; 50]].concat());

    let mut long = eal::frame(pool, &[1; 2_000]);
    assert!(long.chain(eal::frame(pool, &[2; 500])));
    assert!(!long.linearize());
    assert_eq!((long.segments(), long.head().len(), long.len()), (2, 2_000, 2_500));

    drop((short, long));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_frame_grows_and_shrinks_within_its_buffer() {
    let edge = Edge::open(&eal::config(vec![Device::Ring { name: "grow".to_owned() }])).unwrap();
    let mut frame = eal::frame(&edge.pool, &[9; 10]);
    assert!(frame.grow_front(4));
    assert_eq!((frame.head().len(), frame.len()), (14, 14));
    assert!(frame.shrink_front(5));
    assert_eq!(frame.head(), [9; 9]);
    assert!(!frame.shrink_front(10));
    assert!(!frame.grow_front(130), "headroom is 128 bytes, of which one more is free now");
    assert!(frame.grow_front(129));
    assert_eq!(frame.len(), 138);
    assert!(frame.resize(2_176), "the whole buffer");
    assert!(!frame.resize(2_177));
    assert!(!frame.resize(70_000));
}
