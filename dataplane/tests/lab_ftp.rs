//! FTP through the NAT: curl against vsftpd, and dialogues that only a hand-written client has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::collections::HashSet;
use std::fs;
use std::process::{Child, Stdio};

use lab::capture::{Capture, assert_nothing_internal, is_syn_to, lines_beginning};
use lab::conversation::Conversation;
use lab::ftp::{Mode, Way, transfer};
use lab::{FORWARDED, Lab, SERVER, Side, assert_same, is_full, write_random};

const KILOBYTE: u64 = 1_000;
const LARGE: u64 = 20_000_000;

/// A lab with vsftpd outside and algate running.
fn with_server_outside(settings: &[&str]) -> Option<Lab> {
    let mut lab = Lab::up()?;
    lab.serve(Side::Ex, "vsftpd");
    lab.start(settings);
    Some(lab)
}

/// A lab with vsftpd inside behind a port forward, and algate running.
fn with_server_inside(settings: &[&str]) -> Option<Lab> {
    let mut lab = Lab::up()?;
    lab.serve(Side::In, "vsftpd");
    let forward = format!(
        "{}\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:21\"\ninternal = \"10.0.0.2:21\"\n",
        lab.config(settings)
    );
    lab.start_from(&forward);
    Some(lab)
}

/// Every mode both ways: small files, and in the full run large ones too.
fn transfer_everything(lab: &Lab, client: Side) {
    for mode in Mode::ALL {
        for way in [Way::Download, Way::Upload] {
            transfer(lab, client, mode, way, KILOBYTE);
            if is_full() {
                transfer(lab, client, mode, way, LARGE);
            }
        }
    }
}

#[test]
fn files_arrive_equal_in_every_mode_both_ways() {
    let Some(mut lab) = with_server_outside(&[]) else { return };
    let outside = Capture::start(&lab, Side::Ex);
    let inside = Capture::start(&lab, Side::In);
    for mode in Mode::ALL {
        transfer(&lab, Side::In, mode, Way::Download, KILOBYTE);
        transfer(&lab, Side::In, mode, Way::Upload, KILOBYTE);
    }
    let (outside, inside) = (outside.frames(), inside.frames());
    assert_nothing_internal(&outside);
    for (sent, seen) in [("PORT 10,0,0,2,", "PORT 203,0,113,"), ("EPRT |1|10.0.0.2|", "EPRT |1|203.0.113.")] {
        assert_eq!(lines_beginning(&inside, sent).len(), 2, "{sent}");
        assert_eq!(lines_beginning(&outside, seen).len(), 2, "{seen}");
    }
    assert_eq!(lab.counter("alg.ftp.rewritten"), 4);
    lab.stop();
}

#[test]
fn large_files_arrive_equal() {
    let Some(mut lab) = with_server_outside(&[]) else { return };
    transfer(&lab, Side::In, Mode::Port, Way::Download, LARGE);
    transfer(&lab, Side::In, Mode::Eprt, Way::Upload, LARGE);
    transfer(&lab, Side::In, Mode::Pasv, Way::Upload, LARGE);
    transfer(&lab, Side::In, Mode::Epsv, Way::Download, LARGE);
    lab.stop();
}

#[test]
fn files_arrive_equal_at_every_burst_size() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "vsftpd");
    for burst in [1, 2, 3, 4, 32] {
        lab.start(&[&format!("burst={burst}")]);
        if is_full() {
            transfer_everything(&lab, Side::In);
        } else {
            transfer(&lab, Side::In, Mode::Port, Way::Download, 50 * KILOBYTE);
            transfer(&lab, Side::In, Mode::Pasv, Way::Upload, 50 * KILOBYTE);
        }
        lab.stop();
    }
}

#[test]
fn files_arrive_equal_with_two_workers() {
    let Some(mut lab) = with_server_outside(&["cores=[0, 1]"]) else { return };
    assert_eq!(lab.show("workers").len(), 2);
    transfer_everything(&lab, Side::In);
    lab.stop();
}

#[test]
fn files_arrive_equal_with_an_alg_core() {
    let Some(mut lab) = with_server_outside(&["cores=[0]", "alg_cores=[1]"]) else { return };
    transfer_everything(&lab, Side::In);
    transfer(&lab, Side::In, Mode::Port, Way::Download, LARGE);
    assert!(lab.counter("handed_over") > 0, "the ALG core had nothing to do");
    lab.stop();
}

#[test]
fn an_alg_core_keeps_up_at_every_burst_size() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "vsftpd");
    for burst in [1, 2, 3, 4, 32] {
        lab.start(&["alg_cores=[1]", &format!("burst={burst}")]);
        transfer(&lab, Side::In, Mode::Port, Way::Upload, 50 * KILOBYTE);
        if is_full() {
            transfer_everything(&lab, Side::In);
        }
        lab.stop();
    }
}

#[test]
fn a_server_inside_is_reached_through_a_port_forward() {
    let Some(mut lab) = with_server_inside(&[]) else { return };
    let outside = Capture::start(&lab, Side::Ex);
    transfer_everything(&lab, Side::Ex);
    transfer(&lab, Side::Ex, Mode::Pasv, Way::Download, 50 * KILOBYTE);
    let outside = outside.frames();
    assert_nothing_internal(&outside);
    assert!(!lines_beginning(&outside, "227 Entering Passive Mode (203,0,113,10,").is_empty());
    lab.stop();
}

#[test]
fn a_server_inside_is_reached_with_an_alg_core() {
    let Some(mut lab) = with_server_inside(&["alg_cores=[1]"]) else { return };
    transfer_everything(&lab, Side::Ex);
    lab.stop();
}

#[test]
fn fifty_active_transfers_pass_over_one_control_connection() {
    let Some(mut lab) = with_server_outside(&[]) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    for file in 1..=50 {
        write_random(&lab.home(Side::Ex).join(format!("file{file}")), KILOBYTE);
    }
    let target = lab.state.join("got#1");
    let mut arguments = vec!["--silent", "--show-error", "--fail-early", "--max-time", "50"];
    arguments.extend(Mode::Port.options());
    let url = format!("ftp://{SERVER}/pub/file[1-50]");
    arguments.extend(["--output", target.to_str().unwrap(), &url]);
    lab.expect(Side::In, "curl", &arguments);
    for file in 1..=50 {
        assert_same(&lab.home(Side::Ex).join(format!("file{file}")), &lab.state.join(format!("got{file}")));
    }
    let frames = capture.frames();
    // By addresses and ports: a SYN may be sent again.
    let connections: HashSet<&[u8]> =
        frames.iter().filter(|frame| is_syn_to(frame, 21)).map(|frame| &frame[26..38]).collect();
    assert_eq!(connections.len(), 1, "control connections");
    assert_eq!(lines_beginning(&frames, "PORT 203,0,113,").len(), 50);
    assert_nothing_internal(&frames);
    lab.stop();
}

#[test]
fn without_the_alg_active_fails_and_passive_works() {
    let Some(mut lab) = with_server_outside(&["ftp=false"]) else { return };
    write_random(&lab.home(Side::Ex).join("file"), KILOBYTE);
    let url = format!("ftp://{SERVER}/pub/file");
    let mut arguments = vec!["--silent", "--verbose", "--max-time", "20", "--output", "/dev/null"];
    arguments.extend(Mode::Port.options());
    arguments.push(&url);
    let output = lab.run(Side::In, "curl", &arguments);
    assert!(!output.status.success());
    let dialogue = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(dialogue.contains("500 Illegal PORT command"), "{dialogue}");
    transfer(&lab, Side::In, Mode::Pasv, Way::Download, KILOBYTE);
    lab.stop();
}

/// The client's end of an active data connection, made by hand.
struct DataPort {
    socat: Child,
}

impl DataPort {
    /// Listens on 10.0.0.2 for one connection; what comes goes to `listing` in the lab's directory.
    fn listen(lab: &Lab, l4_port: u16) -> Self {
        let socat = lab
            .timed(Side::In, 30, "socat")
            .args(["-u", &format!("TCP-LISTEN:{l4_port},bind=10.0.0.2")])
            .arg(format!("OPEN:{},creat,trunc", lab.state.join("listing").display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        lab.wait_for_listener(Side::In, l4_port);
        Self { socat }
    }

    /// Waits for the end of the connection and returns what came.
    fn received(mut self, lab: &Lab) -> String {
        assert!(self.socat.wait().unwrap().success(), "no data connection came");
        fs::read_to_string(lab.state.join("listing")).unwrap()
    }
}

/// Asks for an active listing with these bytes, which announce port 5000 and are answered with these replies.
fn active_listing(segment_bytes: usize, command: &[u8], replies: &[&str]) {
    let Some(mut lab) = with_server_outside(&[]) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    write_random(&lab.home(Side::Ex).join("a-file"), 1);
    let mut client = Conversation::open(&lab, Side::In, &format!("{SERVER}:21"), segment_bytes);
    client.log_in();
    let data = DataPort::listen(&lab, 5_000);
    client.send(command);
    for reply in replies {
        client.expect(reply);
    }
    client.ask("NLST pub", "150");
    client.expect("226");
    assert!(data.received(&lab).contains("a-file"));
    client.ask("QUIT", "221");
    assert_nothing_internal(&capture.frames());
    lab.stop();
}

#[test]
fn a_port_command_in_one_byte_segments_is_rewritten() {
    active_listing(1, b"PORT 10,0,0,2,19,136\r\n", &["200 PORT"]);
}

#[test]
fn a_port_command_in_two_byte_segments_is_rewritten() {
    active_listing(2, b"PORT 10,0,0,2,19,136\r\n", &["200 PORT"]);
}

#[test]
fn an_eprt_command_in_three_byte_segments_is_rewritten() {
    active_listing(3, b"EPRT |1|10.0.0.2|5000|\r\n", &["200 EPRT"]);
}

#[test]
fn a_port_command_behind_another_in_one_segment_is_rewritten() {
    active_listing(1_460, b"NOOP\r\nPORT 10,0,0,2,19,136\r\n", &["200 NOOP", "200 PORT"]);
}

#[test]
fn a_lower_case_port_command_is_rewritten() {
    active_listing(1_460, b"port 10,0,0,2,19,136\r\n", &["200 PORT"]);
}

#[test]
fn a_session_that_turns_to_tls_is_left_alone() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "vsftpd-tls");
    lab.start(&[]);
    let (remote, local) = (lab.home(Side::Ex).join("file"), lab.state.join("file"));
    write_random(&remote, 200 * KILOBYTE);
    let url = format!("ftp://{SERVER}/pub/file");
    let local_name = local.to_str().unwrap();
    lab.expect(
        Side::In,
        "curl",
        &[
            "--silent",
            "--show-error",
            "--ssl-reqd",
            "--insecure",
            "--max-time",
            "30",
            "--output",
            local_name,
            &url,
        ],
    );
    assert_same(&remote, &local);
    assert_eq!(lab.counter("alg.ftp.opaque"), 1);
    assert_eq!(lab.counter("alg.ftp.rewritten"), 0);
    lab.stop();
}
