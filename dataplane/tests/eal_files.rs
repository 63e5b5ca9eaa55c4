//! Devices that need no privilege: capture files and the null device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use std::fs;

use algate::dpdk::mbuf::Mbuf;
use algate::edge::{Edge, Share};
use algate_config::Device;
use algate_engine::drop_reason::DropReason;
use algate_engine::frame::PacketIo;
use algate_engine::ids::NicPortId;

/// Frames of a little-endian microsecond capture file of Ethernet frames.
fn frames_of(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

/// The capture file of `frames`.
fn file_of(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend([0, 0, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    file
}

#[test]
fn frames_of_one_capture_file_arrive_in_the_other_byte_for_byte() {
    let directory = std::env::temp_dir().join(format!("algate-pcap-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (rx, tx) = (directory.join("in.pcap"), directory.join("out.pcap"));
    let frames: Vec<Vec<u8>> = (0..200_u16).map(|n| vec![n as u8; 60 + usize::from(n) * 7]).collect();
    fs::write(&rx, file_of(&frames)).unwrap();

    let mut config = eal::config(vec![Device::Pcap { rx, tx: tx.clone() }]);
    // Two workers and an ALG core over a device with one queue of each kind.
    config.workers.cores = vec![0, 1];
    config.workers.alg_cores = vec![0];
    let mut edge = Edge::open(&config).unwrap();
    assert_eq!(edge.shares.iter().map(|share| share.rx.len()).collect::<Vec<_>>(), [1, 0, 0]);
    let mut rx = edge.shares[0].rx.remove(0);
    let mut burst: Vec<Mbuf> = Vec::with_capacity(32);
    let mut received = 0;
    while received < frames.len() {
        rx.receive(&mut burst);
        assert!(!burst.is_empty(), "the file ended after {received} frames");
        received += burst.len();
        // All threads send over the one queue, in turn.
        let io = &mut edge.shares[received % 3].io;
        burst.drain(..).for_each(|frame| io.transmit(NicPortId(0), frame));
        io.flush();
    }
    rx.receive(&mut burst);
    assert!(burst.is_empty(), "the file is read once");
    let sent: u64 = edge.shares.iter().map(|share| share.counters.nic_ports[0].tx_packets.value()).sum();
    assert_eq!(sent, 200);

    drop((rx, edge));
    let written = frames_of(&fs::read(&tx).unwrap());
    assert!(written == frames, "{} frames differ from those read", written.len());
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_null_device_receives_nothing_and_swallows_everything() {
    let mut edge = Edge::open(&eal::config(vec![Device::Null])).unwrap();
    let Share { mut rx, mut io, counters } = edge.shares.remove(0);
    let mut burst: Vec<Mbuf> = Vec::with_capacity(32);
    rx[0].receive(&mut burst);
    assert!(burst.is_empty());

    for _ in 0..100 {
        io.transmit(NicPortId(0), eal::frame(&edge.pool, &[0; 60]));
    }
    io.flush();
    assert_eq!(counters.nic_ports[0].tx_packets.value(), 100);
    assert_eq!(counters.drops.of(DropReason::TxQueueFull), 0);
    assert_eq!(edge.nic_ports[0].stats().tx_packets, 100);
    assert_eq!(edge.pool.in_use(), 0);
}
