//! What the EAL tests share: a configuration, frames, bounded waiting, a namespace.
//!
//! The EAL starts once per process, so each test must be a process of its own: `cargo nextest` does
//! that. Under `cargo test` only the first test of a file can pass, which is why each file has few.
#![allow(dead_code, reason = "each test file uses a part")]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use algate::dpdk::mbuf::Mbuf;
use algate::dpdk::mempool::Mempool;
use algate_config::{
    Alg, Config, Control, Device, Eal as EalConfig, Ftp, Hugepages, Icmp, Idle, Log, LogLevel, Nat,
    NicPort as NicPortConfig, Tables, Timeouts, Workers,
};
use algate_engine::frame::Frame;

/// A configuration with these devices and nothing to forward.
pub fn config(devices: Vec<Device>) -> Config {
    let nic_port = |(index, device)| NicPortConfig {
        name: format!("port{index}"),
        device,
        rx_descriptors: 512,
        tx_descriptors: 512,
        mtu: 1500,
        promiscuous: true,
    };
    Config {
        eal: EalConfig { hugepages: Hugepages::Auto, file_prefix: "algate-test".to_owned(), main_core: 0 },
        workers: Workers {
            cores: vec![0],
            alg_cores: vec![],
            burst: 32,
            idle: Idle::Sleep,
            handover_packets: 256,
        },
        nic_ports: devices.into_iter().enumerate().map(nic_port).collect(),
        interfaces: vec![],
        routes: vec![],
        nat: Nat { pools: vec![], rules: vec![], forwards: vec![] },
        filter: vec![],
        alg: Alg {
            held_bytes: 16_384,
            ftp: Ftp {
                enabled: true,
                control_ports: vec![21],
                line_bytes: 512,
                expectation_lifetime: Duration::from_secs(60),
                expectations: 2,
            },
        },
        timeouts: Timeouts {
            tcp_established: Duration::from_secs(7_440),
            tcp_transitory: Duration::from_secs(240),
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            arp: Duration::from_secs(1_200),
        },
        tables: Tables {
            sessions: 1_024,
            mappings: 1_024,
            expectations: 64,
            alg_flows: 16,
            neighbors: 64,
            mbufs: 4_096,
        },
        icmp: Icmp { rate_per_second: 10 },
        control: Control { socket: PathBuf::from("/tmp/algate-test.sock") },
        log: Log { level: LogLevel::Warn },
    }
}

/// A frame with these bytes.
pub fn frame(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.resize(bytes.len()));
    frame.head_mut().copy_from_slice(bytes);
    frame
}

/// Polls until `done` returns a value; panics after five seconds.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if let Some(value) = done() {
            return value;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("gave up waiting for {what}");
}

/// Runs the calling test, whose name is `test`, again in a network namespace of its own, which is
/// removed afterwards with every interface in it. Returns `true` in that inner run; the outer one has
/// nothing left to do.
pub fn in_namespace(test: &str) -> bool {
    if env::var_os(INNER).is_some() {
        run("ip link set dev lo up");
        return true;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        eprintln!("SKIPPED {test}: needs root");
        return false;
    }
    let namespace = format!("algt-{}", std::process::id());
    run(&format!("ip netns add {namespace}"));
    let status = Command::new("ip")
        .args(["netns", "exec", &namespace])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INNER, "1")
        .status();
    run(&format!("ip netns del {namespace}"));
    assert!(status.unwrap().success());
    false
}

/// Runs `command` with its words split at spaces; panics with its output when it fails.
pub fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Set in the run inside the namespace.
const INNER: &str = "ALGATE_TEST_INNER";
