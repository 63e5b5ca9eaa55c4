//! A TAP interface: the kernel's own stack is the peer, and judges our checksums.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use std::net::UdpSocket;
use std::time::Duration;

use algate::dpdk::mbuf::Mbuf;
use algate::edge::Edge;
use algate::report::mac_text;
use algate_config::Device;
use algate_engine::frame::{Frame, PacketIo, RxChecksum, RxChecksums};
use algate_engine::ids::NicPortId;

/// A UDP datagram from 192.0.2.2:2000 to 192.0.2.1:1000 in an Ethernet frame, its IPv4 checksum
/// empty, its UDP checksum the sum of the pseudo-header: what a NIC with checksum offload expects.
fn datagram(destination: [u8; 6], source: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let udp_length = 8 + payload.len() as u16;
    let mut pseudo_header = 17 + u32::from(udp_length);
    for word in [0xc000, 0x0202, 0xc000, 0x0201] {
        pseudo_header += word;
    }
    let folded = (pseudo_header & 0xffff) + (pseudo_header >> 16);
    let ipv4 = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
    let mut frame = [&destination[..], &source, &[8, 0], &ipv4].concat();
    frame[16..18].copy_from_slice(&(20 + udp_length).to_be_bytes());
    for word in [2_000, 1_000, udp_length, folded as u16] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

#[test]
fn the_kernel_accepts_checksums_that_the_port_filled_in_and_the_port_checks_the_kernels() {
    let test = "the_kernel_accepts_checksums_that_the_port_filled_in_and_the_port_checks_the_kernels";
    if !eal::in_namespace(test) {
        return;
    }
    let mut config = eal::config(vec![Device::Tap { interface: "algt-tap0".to_owned() }]);
    // Two workers: the kernel spreads its flows over two queues.
    config.workers.cores = vec![0, 1];
    let mut edge = Edge::open(&config).unwrap();
    let mac = edge.nic_ports[0].mac();

    eal::run("sysctl -qw net.ipv6.conf.algt-tap0.disable_ipv6=1");
    eal::run("ip address add 192.0.2.1/24 dev algt-tap0");
    eal::run(&format!("ip neighbor replace 192.0.2.2 lladdr {} dev algt-tap0", mac_text(mac)));
    let kernel = std::fs::read_to_string("/sys/class/net/algt-tap0/address").unwrap();
    assert_ne!(kernel.trim(), mac_text(mac), "algate and the kernel are two stations");
    let kernel: Vec<u8> = kernel.trim().split(':').map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();

    let socket = UdpSocket::bind("192.0.2.1:1000").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let io = &mut edge.shares[1].io;
    assert!(io.has_tx_checksum(NicPortId(0)));

    let bytes = datagram(kernel.try_into().unwrap(), mac, b"to the kernel");
    let mut frame = eal::frame(&edge.pool, &bytes);
    frame.offload_tx_checksum(14, 20, 17);
    io.transmit(NicPortId(0), frame);
    io.flush();
    let mut received = [0; 100];
    let (length, from) = socket.recv_from(&mut received).unwrap();
    assert_eq!((&received[..length], from), (&b"to the kernel"[..], "192.0.2.2:2000".parse().unwrap()));

    socket.send_to(b"from the kernel", "192.0.2.2:2000").unwrap();
    let mut burst: Vec<Mbuf> = Vec::with_capacity(32);
    let frame = eal::wait_for("the kernel's datagram", || {
        edge.shares.iter_mut().for_each(|share| share.rx[0].receive(&mut burst));
        burst.drain(..).find(|frame| frame.head().ends_with(b"from the kernel"))
    });
    assert_eq!(frame.head()[..6], mac);
    assert_eq!(frame.rx_checksums(), RxChecksums { ipv4: RxChecksum::Good, l4: RxChecksum::Good });
}
