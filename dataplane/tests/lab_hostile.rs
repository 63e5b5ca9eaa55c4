//! What nobody honest sends: nothing opens, the bytes pass as they are or are refused, and a counter says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::process::{Child, Stdio};

use lab::capture::{Capture, lines_beginning, tcp_payload};
use lab::conversation::Conversation;
use lab::{Lab, PATIENCE, SERVER, Side, wait_until};

#[test]
fn hostile_port_commands_open_nothing_and_tell_the_server_no_internal_address() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "vsftpd");
    lab.start(&[]);
    let rows = [
        ("another internal host", "PORT 10,0,0,3,19,136", "alg.ftp.foreign_address", "504"),
        ("a host outside", "PORT 198,51,100,2,19,136", "alg.ftp.foreign_address", "500"),
        ("another host in EPRT", "EPRT |1|10.0.0.3|5000|", "alg.ftp.foreign_address", "504"),
        ("ssh on the client", "PORT 10,0,0,2,0,22", "alg.ftp.privileged_port", "504"),
        ("the last privileged port", "EPRT |1|10.0.0.2|1023|", "alg.ftp.privileged_port", "504"),
        ("port 0", "PORT 10,0,0,2,0,0", "alg.ftp.port_zero", "504"),
        ("a number over 255", "PORT 10,0,0,2,19,256", "alg.ftp.malformed", "500"),
        ("five numbers", "PORT 10,0,0,2,19", "alg.ftp.malformed", "500"),
    ];
    for (name, command, counter, answer) in rows {
        let before = lab.counter(counter);
        assert_is_answered(&lab, name, command, answer);
        assert_eq!(lab.counter(counter), before + 1, "{name}: counter {counter}");
    }
    let over_long = format!("PORT 10,0,0,2,19,136{}", " ".repeat(3_000));
    let before = lab.counter("alg.ftp.line_too_long");
    assert_is_answered(&lab, "longer than a line may be", &over_long, "500");
    assert!(lab.counter("alg.ftp.line_too_long") > before);
    assert_eq!(lab.counter("alg.ftp.rewritten"), 0);
    lab.stop();
}

/// Sends the command in a session of its own. Answered by the server (500) it must look the same outside, by algate (504) it
/// must not be seen there; no expectation may stand.
fn assert_is_answered(lab: &Lab, name: &str, command: &str, answer: &str) {
    let capture = Capture::start(lab, Side::Ex);
    let mut client = Conversation::open(lab, Side::In, &format!("{SERVER}:21"), 1_460);
    client.log_in();
    client.send(format!("{command}\r\n").as_bytes());
    client.expect(answer);
    assert_nothing_expected(lab, name);
    let stream: Vec<u8> =
        capture.frames().iter().filter_map(|frame| tcp_payload(frame)).flatten().copied().collect();
    let text = String::from_utf8_lossy(&stream).into_owned();
    assert_eq!(text.contains(command), answer == "500", "{name}: the server saw {text:?}");
}

fn assert_nothing_expected(lab: &Lab, name: &str) {
    let expectations = lab.show("expectations");
    assert!(expectations.is_empty(), "{name}: {expectations:?}");
}

/// Listens outside on port 21 like a server that is no FTP server: it runs this command and keeps what it is told in `posted`.
fn listen_outside(lab: &Lab, greeting: &str) -> Child {
    let posted = lab.state.join("posted");
    let child = lab
        .command(Side::Ex, "socat")
        .args(["TCP-LISTEN:21,fork,reuseaddr", &format!("SYSTEM:{greeting}; cat >>{}", posted.display())])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::Ex, 21);
    child
}

/// A browser's POST to a page of the attacker, with a command at the beginning of a line after this much padding. Waits
/// until the attacker has read the command, unchanged.
fn slipstream(lab: &Lab, padding: usize, command: &str) {
    let body = format!("{}\r\n{command}\r\n", "a".repeat(padding));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {SERVER}:21\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let posted = lab.state.join("posted");
    let _ = fs::remove_file(&posted);
    let mut browser = Conversation::open(lab, Side::In, &format!("{SERVER}:21"), 8_192);
    browser.send(head.as_bytes());
    browser.send(body.as_bytes());
    let is_read =
        || fs::read_to_string(&posted).is_ok_and(|text| text.ends_with(&format!("\r\n{command}\r\n")));
    assert!(
        wait_until(PATIENCE, is_read),
        "the POST with {padding} bytes of padding did not arrive unchanged"
    );
}

#[test]
fn a_port_command_inside_a_browsers_post_opens_nothing() {
    for greeting in ["true", "echo 220 ready"] {
        let Some(mut lab) = Lab::up() else { return };
        let mut server = listen_outside(&lab, greeting);
        lab.start(&[]);
        // A victim's service that must stay out of reach.
        let mut victim = lab
            .command(Side::In, "socat")
            .args(["-u", "TCP-LISTEN:5000,fork", "OPEN:/dev/null"])
            .spawn()
            .unwrap();
        lab.wait_for_listener(Side::In, 5_000);
        let capture = Capture::start(&lab, Side::Ex);
        for padding in [0, 1, 500, 1_200, 1_300, 1_340, 1_350, 1_448, 2_896, 4_000] {
            slipstream(&lab, padding, "PORT 10,0,0,2,19,136");
            slipstream(&lab, padding, "EPRT |1|10.0.0.2|5000|");
        }
        assert_nothing_expected(&lab, "slipstream");
        assert_eq!(lab.counter("alg.ftp.rewritten"), 0);
        assert_eq!(lab.counter("alg.ftp.detached"), 20);
        assert!(lines_beginning(&capture.frames(), "PORT 203,0,113,").is_empty());
        let knock = ["-u", "/dev/null", "TCP:203.0.113.10:5000,connect-timeout=1"];
        assert!(!lab.run(Side::Ex, "socat", &knock).status.success(), "the victim's port is open");
        for child in [&mut server, &mut victim] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        lab.stop();
    }
}

#[test]
fn a_stranger_does_not_get_through_an_expected_port() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "vsftpd");
    lab.start(&[]);
    let mut victim = lab
        .command(Side::In, "socat")
        .args(["-u", "TCP-LISTEN:5000,fork", "OPEN:/dev/null"])
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::In, 5_000);
    let capture = Capture::start(&lab, Side::Ex);
    let mut client = Conversation::open(&lab, Side::In, &format!("{SERVER}:21"), 1_460);
    client.log_in();
    client.ask("PORT 10,0,0,2,19,136", "200");
    let announced = lines_beginning(&capture.frames(), "PORT ").pop().expect("the server saw a PORT command");
    let numbers: Vec<u16> = announced
        .trim_start_matches("PORT ")
        .trim_end()
        .split(',')
        .map(|number| number.parse().unwrap())
        .collect();
    let endpoint = format!("203.0.113.{}:{}", numbers[3], numbers[4] * 256 + numbers[5]);
    let stranger = format!("TCP:{endpoint},bind=198.51.100.2,connect-timeout=1");
    assert!(
        !lab.run(Side::Ex, "socat", &["-u", "/dev/null", &stranger]).status.success(),
        "a stranger got in"
    );
    assert!(lab.counter("drop.expectation_peer") >= 1);
    let server = format!("TCP:{endpoint},bind={SERVER},connect-timeout=3");
    lab.expect(Side::Ex, "socat", &["-u", "/dev/null", &server]);
    victim.kill().unwrap();
    victim.wait().unwrap();
    lab.stop();
}
