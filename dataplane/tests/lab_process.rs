//! algate as a process: signals, exit codes, and what it says when it cannot start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::process::Stdio;

use lab::{Lab, PATIENCE, SERVER, Side, wait_until, write_random};

/// A lab with algate running and a slow download through it under way.
fn with_transfer_under_way() -> Option<(Lab, std::process::Child)> {
    let mut lab = Lab::up()?;
    lab.serve(Side::Ex, "nginx");
    lab.start(&[]);
    write_random(&lab.home(Side::Ex).join("page"), 20_000_000);
    let copy = lab.state.join("page");
    let curl = lab
        .timed(Side::In, 30, "curl")
        .args(["--silent", "--limit-rate", "2M", "--output", copy.to_str().unwrap()])
        .arg(format!("http://{SERVER}/pub/page"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let begun = || copy.metadata().is_ok_and(|file| file.len() > 100_000);
    assert!(wait_until(PATIENCE, begun), "the download does not begin");
    Some((lab, curl))
}

fn end(mut child: std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn sigterm_during_a_transfer_ends_cleanly_with_final_counters() {
    let Some((mut lab, curl)) = with_transfer_under_way() else { return };
    lab.signal("TERM");
    assert_eq!(lab.wait_for_end().code(), Some(0), "{}", lab.log());
    assert!(lab.log().contains("forwarded"), "no final counters:\n{}", lab.log());
    assert!(!lab.state.join("algate.sock").exists(), "the socket stays behind");
    end(curl);
}

#[test]
fn sigint_ends_cleanly_too() {
    let Some((mut lab, curl)) = with_transfer_under_way() else { return };
    lab.signal("INT");
    assert_eq!(lab.wait_for_end().code(), Some(0), "{}", lab.log());
    end(curl);
}

/// Two threads that take the two signals in the same instant may each think theirs the first; that ends in
/// an orderly stop, which is right, but shows nothing. It hardly happens, and not three times in a row.
#[test]
fn a_second_signal_ends_at_once() {
    for _ in 0..3 {
        let Some((mut lab, curl)) = with_transfer_under_way() else { return };
        for name in ["STOP", "INT", "TERM", "CONT"] {
            lab.signal(name);
        }
        let code = lab.wait_for_end().code();
        end(curl);
        if code == Some(130) {
            return;
        }
        assert_eq!(code, Some(0), "{}", lab.log());
    }
    panic!("the second signal was never heeded");
}

#[test]
fn it_starts_again_after_a_kill() {
    let Some((mut lab, curl)) = with_transfer_under_way() else { return };
    lab.signal("KILL");
    lab.wait_for_end();
    end(curl);
    lab.start(&[]);
    lab.expect(Side::In, "ping", &["-c", "1", "-W", "2", SERVER]);
    lab.stop();
}

/// Starts algate from a config that must not work: the exit code and one of the log's sentences.
fn assert_refused(lab: &mut Lab, config: &str, code: i32, words: &[&str]) {
    let before = lab.log().len();
    lab.spawn_algate(config);
    let status = lab.wait_for_end();
    let log = lab.log().split_off(before);
    assert_eq!(status.code(), Some(code), "{log}");
    for word in words {
        assert!(log.contains(word), "no {word:?} in: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_wrong_config_is_refused_before_any_device_is_touched() {
    let Some(mut lab) = Lab::up() else { return };
    let config = lab.config(&[]);
    let rows = [
        (config.replace("burst = 32", "brust = 32"), ["brust", "burst"]),
        (config.replace("cores = [0]\nalg", "cores = [999]\nalg"), ["999", "cores"]),
        (config.replace("203.0.113.10-203.0.113.20", "10.0.0.10-10.0.0.20"), ["10.0.0.10", "addresses"]),
        (config.replace("\"int0\"", "\"nowhere0\""), ["nowhere0", "interface"]),
        (config.replace("\"ext0\"", "\"int0\""), ["int0", "nic_port"]),
    ];
    for (text, words) in rows {
        assert_ne!(text, config, "{words:?}: the row changes nothing");
        assert_refused(&mut lab, &text, 2, &words);
        // DPDK's environment layer, if it had started, would have left its directory.
        assert!(!lab.log().contains("EAL:"), "{}", lab.log());
    }
}

#[test]
fn a_device_that_is_down_is_named_with_a_remedy() {
    let Some(mut lab) = Lab::up() else { return };
    lab.expect(Side::Gateway, "ip", &["link", "set", "ext0", "down"]);
    let config = lab.config(&[]);
    lab.spawn_algate(&config);
    let status = lab.wait_for_end();
    let log = lab.log();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {log}");
    assert!(log.contains("ext0") && log.contains("up"), "{log}");
}

#[test]
fn show_says_when_nobody_answers() {
    let Some(lab) = Lab::up() else { return };
    let output = lab.algate(&["show", "counters"]).expect("it does not wait");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("algate.sock"), "{message}");
}

#[test]
fn every_table_is_shown_as_text_and_as_json() {
    let Some(mut lab) = Lab::up() else { return };
    lab.start(&[]);
    lab.expect(Side::In, "ping", &["-c", "1", "-W", "2", SERVER]);
    for table in ["sessions", "counters", "ports", "mappings", "expectations", "neighbors", "routes", "alg"] {
        let output = lab.algate(&["show", table]).expect("it answers in time");
        assert!(output.status.success() && !output.stdout.is_empty(), "show {table}");
        lab.show(table);
    }
    let sessions = format!("{:?}", lab.show("sessions"));
    assert!(sessions.contains("10.0.0.2") && sessions.contains(SERVER), "{sessions}");
    lab.stop();
}
