//! Everything that is not FTP: ping, DNS, HTTP, iperf3, and what must not pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::process::Stdio;

use lab::capture::{Capture, assert_nothing_internal, udp_payload};
use lab::{Lab, SERVER, Side, assert_same, is_full, write_random};
use serde_json::Value;

/// A lab with algate running and these servers outside.
fn with_servers(servers: &[&str], settings: &[&str]) -> Option<Lab> {
    let mut lab = Lab::up()?;
    for server in servers {
        lab.serve(Side::Ex, server);
    }
    lab.start(settings);
    Some(lab)
}

#[test]
fn ping_passes_from_two_hosts_in_every_size() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    for source in ["10.0.0.2", "10.0.0.3"] {
        for size in ["0", "1", "56", "1472"] {
            let text = lab.expect(
                Side::In,
                "ping",
                &["-I", source, "-c", "5", "-i", "0.02", "-W", "2", "-M", "do", "-s", size, SERVER],
            );
            assert!(text.contains("5 received"), "{text}");
        }
    }
    assert_nothing_internal(&capture.frames());
    lab.stop();
}

#[test]
fn algate_answers_ping_to_its_own_addresses() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    for (side, address) in [(Side::In, "10.0.0.1"), (Side::Ex, "203.0.113.1")] {
        let text = lab.expect(side, "ping", &["-c", "3", "-i", "0.02", "-W", "2", address]);
        assert!(text.contains("3 received"), "{text}");
    }
    lab.stop();
}

#[test]
fn names_resolve_through_the_nat() {
    let Some(mut lab) = with_servers(&["dnsmasq"], &[]) else { return };
    for _ in 0..20 {
        let answer = lab.expect(Side::In, "dig", &["+short", "+tries=1", "@203.0.113.2", "www.algate.test"]);
        assert_eq!(answer.trim(), "198.51.100.2");
    }
    let answer = lab.expect(Side::In, "dig", &["+short", "+tcp", "@203.0.113.2", "www.algate.test"]);
    assert_eq!(answer.trim(), "198.51.100.2");
    lab.stop();
}

#[test]
fn a_hundred_parallel_http_downloads_arrive_equal() {
    let Some(mut lab) = with_servers(&["nginx"], &[]) else { return };
    let page = lab.home(Side::Ex).join("page");
    write_random(&page, 30_000);
    let target = lab.state.join("page#1");
    let url = format!("http://{SERVER}/pub/page?[1-100]");
    lab.expect(
        Side::In,
        "curl",
        &[
            "--silent",
            "--show-error",
            "--fail",
            "--no-keepalive",
            "--parallel",
            "--parallel-max",
            "50",
            "--max-time",
            "40",
            "--header",
            "Connection: close",
            "--output",
            target.to_str().unwrap(),
            &url,
        ],
    );
    for number in 1..=100 {
        assert_same(&page, &lab.state.join(format!("page{number}")));
    }
    lab.stop();
}

/// Runs iperf3 inside and returns its report. Its server serves one client and ends: one that goes on is busy for a while, then
/// resets who came meanwhile.
fn iperf3(lab: &Lab, arguments: &[&str]) -> Value {
    let seconds = if is_full() { "10" } else { "2" };
    let mut all = vec!["--json", "--client", SERVER, "--connect-timeout", "20000", "--time", seconds];
    all.extend(arguments);
    let mut server = lab
        .command(Side::Ex, "iperf3")
        .args(["--server", "--one-off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::Ex, 5_201);
    let output = lab.run(Side::In, "iperf3", &all);
    let report: Value = serde_json::from_slice(&output.stdout).expect("iperf3 prints JSON");
    assert_eq!(report["error"], Value::Null, "{arguments:?}");
    server.wait().unwrap();
    report
}

#[test]
fn iperf3_tcp_runs_both_ways() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    for arguments in [&[][..], &["--reverse"], &["--parallel", "4"]] {
        let report = iperf3(&lab, arguments);
        let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
        assert!(received > 1_000_000, "{arguments:?}: {received} bytes arrived");
    }
    lab.stop();
}

/// How many UDP datagrams of this length a capture shows.
fn datagrams(frames: &[Vec<u8>], length: usize) -> usize {
    frames.iter().filter_map(|frame| udp_payload(frame)).filter(|payload| payload.len() == length).count()
}

#[test]
fn iperf3_udp_loses_one_percent_at_most_at_a_moderate_rate() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    for (from, to, arguments) in [(Side::In, Side::Ex, &[][..]), (Side::Ex, Side::In, &["--reverse"])] {
        // 625 a second: the cable's ring of 512 frames lasts for a worker that is kept from running most of a second.
        let mut all = vec!["--udp", "--bitrate", "6M", "--length", "1200"];
        all.extend(arguments);
        let cables = [from, to].map(|side| Capture::start(&lab, side));
        let report = iperf3(&lab, &all);
        // From cable to cable: a host that is kept from reading loses what its socket has no room for.
        let [sent, arrived] = cables.map(|cable| datagrams(&cable.frames(), 1_200));
        let lost = sent.saturating_sub(arrived);
        // A shared machine may stall a worker for longer than a ring lasts; a fault of ours loses more than that.
        assert!(
            sent > 1_000 && lost * 100 <= sent,
            "{arguments:?}: {lost} of {sent} packets lost; {}",
            report["end"]["sum"]
        );
    }
    lab.stop();
}

#[test]
fn traffic_passes_at_every_burst_size_and_with_two_workers() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "nginx");
    let (page, copy) = (lab.home(Side::Ex).join("page"), lab.state.join("page"));
    write_random(&page, 200_000);
    let url = format!("http://{SERVER}/pub/page");
    let local_name = copy.to_str().unwrap();
    for cores in ["cores=[0]", "cores=[0, 1]"] {
        for burst in [1, 2, 3, 4, 32] {
            lab.start(&[cores, &format!("burst={burst}")]);
            lab.expect(
                Side::In,
                "curl",
                &["--silent", "--fail", "--max-time", "20", "--output", local_name, &url],
            );
            assert_same(&page, &copy);
            lab.expect(Side::In, "ping", &["-c", "3", "-i", "0.02", "-W", "2", SERVER]);
            lab.stop();
        }
    }
}

#[test]
fn nothing_comes_in_unasked() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    let mut service = lab
        .command(Side::In, "socat")
        .args(["-u", "TCP-LISTEN:5000,fork", "OPEN:/dev/null"])
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::In, 5_000);
    let before = lab.counter("drop.no_mapping");
    for address in ["203.0.113.10", "203.0.113.20"] {
        let target = format!("TCP:{address}:5000,connect-timeout=1");
        assert!(
            !lab.run(Side::Ex, "socat", &["-u", "/dev/null", &target]).status.success(),
            "{address} answers"
        );
    }
    // A router in the middle would take a packet for the internal address itself, too.
    lab.expect(Side::Ex, "ip", &["route", "add", "10.0.0.0/24", "via", "203.0.113.1"]);
    let inward = ["-u", "/dev/null", "TCP:10.0.0.2:5000,connect-timeout=1"];
    assert!(
        !lab.run(Side::Ex, "socat", &inward).status.success(),
        "the internal address is reachable from outside"
    );
    assert!(lab.counter("drop.no_mapping") > before);
    service.kill().unwrap();
    service.wait().unwrap();
    lab.stop();
}

#[test]
fn an_expiring_ttl_is_answered() {
    let Some(mut lab) = with_servers(&[], &[]) else { return };
    let output = lab.run(Side::In, "ping", &["-c", "1", "-t", "1", "-W", "2", SERVER]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("From 10.0.0.1") && text.contains("Time to live exceeded"), "{text}");
    lab.stop();
}
