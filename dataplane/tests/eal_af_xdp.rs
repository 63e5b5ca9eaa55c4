//! Kernel interfaces through `AF_XDP`, where the kernel and the driver can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use algate::dpdk::mbuf::Mbuf;
use algate::edge::{Edge, Share};
use algate_config::Device;
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::NicPortId;

#[test]
fn a_frame_crosses_a_veth_pair_from_af_packet_to_af_xdp() {
    if !eal::in_namespace("a_frame_crosses_a_veth_pair_from_af_packet_to_af_xdp") {
        return;
    }
    eal::run("ip link add algt-x0 type veth peer name algt-x1");
    for end in ["algt-x0", "algt-x1"] {
        eal::run(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        eal::run(&format!("ip link set dev {end} up"));
    }
    let config = eal::config(vec![
        Device::AfPacket { interface: "algt-x0".to_owned() },
        Device::AfXdp { interface: "algt-x1".to_owned() },
    ]);
    let mut edge = match Edge::open(&config) {
        Ok(edge) => edge,
        Err(error) => {
            eprintln!("SKIPPED: this kernel or this build of DPDK has no AF_XDP: {error}");
            return;
        }
    };
    let Share { mut rx, mut io, .. } = edge.shares.remove(0);
    let bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[7; 1_000]].concat();
    io.transmit(NicPortId(0), eal::frame(&edge.pool, &bytes));
    io.flush();
    let mut arrived: Vec<Mbuf> = Vec::with_capacity(64);
    let frame = eal::wait_for("the frame", || {
        rx.iter_mut().for_each(|rx| rx.receive(&mut arrived));
        arrived.drain(..).find(|frame| frame.head().get(6..12) == Some(&[2, 0, 0, 0, 0, 1]))
    });
    assert!(frame.head() == bytes);
}
