//! From a packet in a capture file to the answer of `algate whois`, by real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

const ALGATE: &str = env!("CARGO_BIN_EXE_algate");

fn algate(arguments: &[&str]) -> Output {
    Command::new(ALGATE).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A capture file of one UDP datagram from 10.0.0.2:5000 to the world.
fn capture() -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 198, 51, 100, 7];
    let mut sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    // The MAC address that DPDK's pcap driver gives its first port.
    let mut frame = vec![2, 0x70, 0x63, 0x61, 0x70, 0, 6, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(ip);
    frame.extend([0x13, 0x88, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame.resize(60, 0);
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    file.extend([0, 0, 60, 60].map(u32::to_le_bytes).concat());
    file.extend(frame);
    file
}

fn config(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"
        [eal]
        hugepages = "never"
        file_prefix = "algate-events-test"
        [workers]
        cores = [0]
        idle = "sleep"
        [[nic_port]]
        name = "lan"
        device = {{ driver = "pcap", rx = "{directory}/in.pcap", tx = "{directory}/out.pcap" }}
        [[nic_port]]
        name = "wan"
        device = {{ driver = "null" }}
        [[interface]]
        name = "lan"
        nic_port = "lan"
        side = "internal"
        addresses = ["10.0.0.1/24"]
        [[interface]]
        name = "wan"
        nic_port = "wan"
        side = "external"
        addresses = ["203.0.113.2/24"]
        [[route]]
        prefix = "0.0.0.0/0"
        via = "203.0.113.1"
        [[nat.pool]]
        name = "public"
        addresses = ["203.0.113.10"]
        l4_ports = "1024-1535"
        block_size = 512
        blocks_per_host = 1
        [[nat.rule]]
        internal = "10.0.0.0/24"
        pool = "public"
        [tables]
        sessions = 1024
        [events]
        log = "{directory}/events.jsonl"
        [control]
        socket = "{directory}/algate.sock"
        "#
    )
}

#[test]
fn c_20_a_packet_s_host_is_found_again_by_address_port_and_time() {
    let directory = std::env::temp_dir().join(format!("algate-eal-events-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("in.pcap"), capture()).unwrap();
    let file = directory.join("algate.toml");
    fs::write(&file, config(&directory)).unwrap();
    let (file, socket) = (file.to_str().unwrap(), directory.join("algate.sock"));
    let log_file = fs::File::create(directory.join("log")).unwrap();
    let mut child = Command::new(ALGATE).args(["run", "-c", file]).stderr(log_file).spawn().unwrap();
    let log = || fs::read_to_string(directory.join("log")).unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    let shown = loop {
        let shown = text(&algate(&["show", "events", "--socket", socket.to_str().unwrap()]));
        if shown.contains("block_assigned") || Instant::now() > deadline {
            break shown;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let seen_at =
        String::from_utf8(Command::new("date").args(["-u", "+%FT%T.%3NZ"]).output().unwrap().stdout).unwrap();
    let written = || fs::read_to_string(directory.join("events.jsonl")).unwrap_or_default();
    while !written().contains("block_assigned") && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let whois = |arguments: &[&str]| {
        let output = algate(&[&["whois", "203.0.113.10", "1100"], arguments].concat());
        (output.status.code(), text(&output))
    };
    let now = whois(&["-c", file]);
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", log());

    let row: Vec<&str> = shown.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        row[1..],
        ["block_assigned", "-", "-", "10.0.0.2", "203.0.113.10", "1024-1535", "-", "-"],
        "{}",
        log()
    );
    let assigned = format!("10.0.0.2 (block 1024-1535, since {})\n", row[0]);
    assert_eq!(now, (Some(0), assigned));
    // Found by the clock of another program, and not after the end.
    let (code, then) = whois(&["-c", file, seen_at.trim()]);
    assert_eq!(code, Some(0), "{then}");
    assert!(then.starts_with(&format!("10.0.0.2 (block 1024-1535, from {} to ", row[0])), "{then}");
    let (code, later) = whois(&["--log", directory.join("events.jsonl").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{later}");
    assert!(later.contains("covers 203.0.113.10:1100 at "), "{later}");

    let lines = written();
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["started", "block_assigned", "stopped"]);
    assert_eq!(events[1]["nat_event"], 16);
    assert!(!lines.contains("198.51.100."), "no destinations");
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn whois_says_what_it_lacks() {
    let missing = algate(&["whois", "203.0.113.10", "1100", "--log", "/nosuch/events.jsonl"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("name the event log with --log FILE"), "{}", text(&missing));
    assert_eq!(algate(&["whois", "203.0.113.10", "1100"]).status.code(), Some(2));
    assert_eq!(algate(&["whois", "203.0.113.10", "1100", "yesterday", "--log", "x"]).status.code(), Some(2));
}
