//! Shared memory between two processes: this test, and itself started a second time as the client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(unreachable_pub, reason = "the shared module is private to each test")]

mod eal;

use std::env;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use algate::dpdk::mbuf::Mbuf;
use algate::edge::{Edge, Share};
use algate_config::{Config, Device, MemifRole};
use algate_engine::frame::{Frame, PacketIo};
use algate_engine::ids::NicPortId;

const FRAMES: u8 = 100;
const SOCKET: &str = "ALGATE_TEST_MEMIF_SOCKET";

fn config(role: MemifRole, socket: PathBuf) -> Config {
    eal::config(vec![Device::Memif { role, id: 3, socket }])
}

#[test]
fn frames_cross_to_another_process_and_back() {
    if let Some(socket) = env::var_os(SOCKET) {
        return echo(socket.into());
    }
    let directory = env::temp_dir().join(format!("algate-memif-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("memif.sock");
    let config = config(MemifRole::Server, socket.clone());
    let mut edge = Edge::open(&config).unwrap();
    let mut peer = Command::new(env::current_exe().unwrap())
        .args(["--exact", "frames_cross_to_another_process_and_back"])
        .env(SOCKET, &socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();

    eal::wait_for("the client", || edge.nic_ports[0].link().is_up.then_some(()));
    let Share { mut rx, mut io, counters } = edge.shares.remove(0);
    // The client offers buffers when it first polls, which may be after the link is up.
    let sent = &counters.nic_ports[0].tx_packets;
    eal::wait_for("the client's buffers", || {
        io.transmit(NicPortId(0), eal::frame(&edge.pool, &[0; 1_514]));
        io.flush();
        (sent.value() == 1).then_some(())
    });
    for number in 1..FRAMES {
        io.transmit(NicPortId(0), eal::frame(&edge.pool, &[number; 1_514]));
    }
    io.flush();
    assert_eq!(sent.value(), u64::from(FRAMES));

    let mut echoed: Vec<Mbuf> = Vec::with_capacity(usize::from(FRAMES) + 1);
    eal::wait_for("the echo", || {
        rx[0].receive(&mut echoed);
        (echoed.len() == usize::from(FRAMES)).then_some(())
    });
    for (number, frame) in (0..).zip(&echoed) {
        assert!(frame.head() == [number; 1_514], "frame {number} differs");
    }
    drop(peer.stdin.take());
    assert!(peer.wait().unwrap().success());
    fs::remove_dir_all(&directory).unwrap();
}

/// The other process: sends back what it receives, and ends when its input does. Frames in the rings
/// are lost when a side leaves.
fn echo(socket: PathBuf) {
    let mut edge = Edge::open(&config(MemifRole::Client, socket)).unwrap();
    let Share { mut rx, mut io, .. } = edge.shares.remove(0);
    let mut burst: Vec<Mbuf> = Vec::with_capacity(32);
    let mut echoed = 0;
    eal::wait_for("frames to echo", || {
        rx[0].receive(&mut burst);
        echoed += burst.len();
        burst.drain(..).for_each(|frame| io.transmit(NicPortId(0), frame));
        io.flush();
        (echoed == usize::from(FRAMES)).then_some(())
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
