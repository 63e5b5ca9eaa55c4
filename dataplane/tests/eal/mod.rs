//! What the EAL tests share: a configuration, frames, bounded waiting, a namespace.
//!
//! The EAL starts once per process, so each test must be a process of its own: `cargo nextest` does
//! that. Under `cargo test` only the first test of a file can pass, which is why each file has few.
#![allow(dead_code, reason = "each test file uses a part")]

use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use algate::dpdk::mbuf::Mbuf;
use algate::dpdk::mempool::Mempool;
use algate_config::{Config, Device, Machine, NicPort as NicPortConfig};
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
    let mut config = Config::parse(DEFAULTS, "defaults.toml", &Machine::unchecked()).unwrap();
    config.nic_ports = devices.into_iter().enumerate().map(nic_port).collect();
    config.interfaces.clear();
    config.tables.mbufs = 4_096;
    config
}

/// Every default, and small tables; the port and its interface are replaced by each test's own.
const DEFAULTS: &str = r#"
[eal]
file_prefix = "algate-test"
[workers]
cores = [0]
idle = "sleep"
[[nic_port]]
name = "nothing"
device = { driver = "null" }
[[interface]]
name = "nothing"
nic_port = "nothing"
side = "internal"
addresses = ["10.0.0.1/24"]
[alg.ftp]
enabled = true
[tables]
sessions = 1024
mappings = 1024
expectations = 64
alg_flows = 16
neighbors = 64
[control]
socket = "/tmp/algate-test.sock"
[log]
level = "warn"
"#;

/// A frame with these bytes.
pub fn frame(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.resize(bytes.len()));
    frame.head_mut().copy_from_slice(bytes);
    frame
}

/// Polls until `done` returns a value; panics after twenty seconds.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
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
