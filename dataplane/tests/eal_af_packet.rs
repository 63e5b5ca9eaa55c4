//! Kernel interfaces through `AF_PACKET`: a veth pair, one port on each end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use algate::dpdk::mbuf::Mbuf;
use algate::edge::Edge;
use algate_config::Device;
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::NicPortId;

/// A veth pair with quiet ends.
fn veth(a: &str, b: &str) {
    eal::run(&format!("ip link add {a} type veth peer name {b}"));
    for end in [a, b] {
        eal::run(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        eal::run(&format!("ip link set dev {end} up"));
    }
}

#[test]
fn a_frame_sent_on_one_end_of_a_veth_pair_arrives_on_the_other() {
    if !eal::in_namespace("a_frame_sent_on_one_end_of_a_veth_pair_arrives_on_the_other") {
        return;
    }
    veth("algt-a0", "algt-a1");
    let device = |interface: &str| Device::AfPacket { interface: interface.to_owned() };
    let mut config = eal::config(vec![device("algt-a0"), device("algt-a1")]);
    // Two workers: the device gets two queue pairs, and the kernel spreads flows over them.
    config.workers.cores = vec![0, 1];
    let mut edge = Edge::open(&config).unwrap();
    assert_eq!(edge.nic_ports[0].rx_queues(), 2);
    assert!(edge.nic_ports[0].link().is_up);

    // A VLAN tag too: the kernel strips it into a side field, the driver puts it back.
    let plain = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[7; 1_486]].concat();
    let tagged = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x81, 0, 0, 42, 0x88, 0xb5], &[8; 60]].concat();
    for bytes in [&plain, &tagged] {
        edge.shares[0].io.transmit(NicPortId(0), eal::frame(&edge.pool, bytes));
    }
    edge.shares[0].io.flush();

    let mut arrived: Vec<Mbuf> = Vec::with_capacity(64);
    eal::wait_for("two frames", || {
        let queues = edge.shares.iter_mut().flat_map(|share| &mut share.rx);
        queues.for_each(|rx| rx.receive(&mut arrived));
        arrived.retain(|frame| frame.head().get(6..12) == Some(&[2, 0, 0, 0, 0, 1]));
        (arrived.len() == 2).then_some(())
    });
    let mut bytes: Vec<&[u8]> = arrived.iter().map(Frame::head).collect();
    bytes.sort_unstable_by_key(|bytes| std::cmp::Reverse(bytes.len()));
    assert_eq!(bytes, [&plain[..], &tagged[..]]);
}

#[test]
fn an_interface_that_is_missing_down_or_too_narrow_is_refused_before_the_eal_starts() {
    let test = "an_interface_that_is_missing_down_or_too_narrow_is_refused_before_the_eal_starts";
    if !eal::in_namespace(test) {
        return;
    }
    veth("algt-b0", "algt-b1");
    eal::run("ip link set dev algt-b0 down");
    let device = |interface: &str| Device::AfPacket { interface: interface.to_owned() };
    let mut config = eal::config(vec![device("algt-b0"), device("algt-nosuch"), device("lo")]);
    eal::run("ip link set dev lo mtu 1280");
    config.nic_ports[2].mtu = 1_281;
    assert_eq!(
        Edge::open(&config).unwrap_err().to_string(),
        "nic_port \"port0\": kernel interface algt-b0 is down: ip link set dev algt-b0 up\n\
         nic_port \"port1\": kernel interface algt-nosuch does not exist: ip link shows those that do\n\
         nic_port \"port2\": mtu 1281 is more than the 1280 of kernel interface lo: \
         ip link set dev lo mtu 1281, or lower mtu"
    );
}

#[test]
fn a_jumbo_frame_arrives_in_one_segment() {
    if !eal::in_namespace("a_jumbo_frame_arrives_in_one_segment") {
        return;
    }
    veth("algt-j0", "algt-j1");
    eal::run("ip link set dev algt-j0 mtu 9000");
    eal::run("ip link set dev algt-j1 mtu 9000");
    let device = |interface: &str| Device::AfPacket { interface: interface.to_owned() };
    let mut config = eal::config(vec![device("algt-j0"), device("algt-j1")]);
    config.nic_ports.iter_mut().for_each(|nic_port| nic_port.mtu = 9_000);
    config.tables.mbufs = 2_048;
    let mut edge = Edge::open(&config).unwrap();
    let bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[7; 9_000]].concat();
    let share = &mut edge.shares[0];
    share.io.transmit(NicPortId(0), eal::frame(&edge.pool, &bytes));
    share.io.flush();
    let mut arrived: Vec<Mbuf> = Vec::with_capacity(64);
    let frame = eal::wait_for("the frame", || {
        share.rx.iter_mut().for_each(|rx| rx.receive(&mut arrived));
        arrived.drain(..).find(|frame| frame.len() == bytes.len())
    });
    assert_eq!(frame.segments(), 1);
    assert!(frame.head() == bytes);
}
