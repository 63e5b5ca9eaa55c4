//! RTSP through the NAT: GStreamer's client and server, media over UDP and inside the control session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::path::Path;
use std::process::{Child, Stdio};

use lab::capture::{Capture, assert_nothing_internal, tcp_payload, udp_payload};
use lab::{FORWARDED, Lab, SERVER, Side};

/// A lab with the RTSP server on one side, filtering as narrowly as it can.
fn with_server(side: Side, tables: &str) -> Option<(Lab, Child)> {
    let mut lab = Lab::up()?;
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(&[]).replace(rule, &narrow) + tables;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/rtsp_server.py");
    let server =
        lab.command(side, "/usr/bin/python3").arg(program).arg("554").stdin(Stdio::null()).spawn().unwrap();
    lab.start_from(&config);
    lab.wait_for_listener(side, 554);
    Some((lab, server))
}

/// Plays the tone and returns how many bytes of it arrived. GStreamer would punch holes of its own otherwise.
fn play(lab: &Lab, side: Side, host: &str, protocols: &str) -> u64 {
    let file = lab.state.join("tone");
    let _ = std::fs::remove_file(&file);
    // The client ends with the server's goodbye, or when it has waited in vain.
    let output = lab
        .timed(side, 10, "gst-launch-1.0")
        .args(["-q", "rtspsrc", &format!("location=rtsp://{host}/tone"), &format!("protocols={protocols}")])
        .args(["nat-method=none", "timeout=3000000", "latency=50", "!", "rtppcmudepay", "!", "filesink"])
        .arg(format!("location={}", file.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    eprintln!("{protocols}: {}{}", output.status, String::from_utf8_lossy(&output.stderr));
    file.metadata().map_or(0, |file| file.len())
}

/// How many datagrams of media a capture shows.
fn media_datagrams(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter_map(|frame| udp_payload(frame)).filter(|payload| payload.len() == 172).count()
}

/// Everything that passed on TCP, as text.
fn dialogue(frames: &[Vec<u8>]) -> String {
    let bytes: Vec<u8> = frames.iter().filter_map(|frame| tcp_payload(frame)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Plays over UDP and interleaved; all arrives, and the cable outside shows nothing internal.
fn play_both_ways(lab: &Lab, side: Side, host: &str) {
    for (protocols, is_udp) in [("udp", true), ("tcp", false)] {
        let capture = Capture::start(lab, Side::Ex);
        let bytes = play(lab, side, host, protocols);
        let frames = capture.frames();
        assert_eq!(bytes, 8_000, "{protocols}: {}", dialogue(&frames));
        assert_eq!(media_datagrams(&frames) == 50, is_udp, "{protocols}");
        assert_nothing_internal(&frames);
    }
}

#[test]
fn a_client_inside_plays_over_udp_and_interleaved() {
    let Some((mut lab, mut server)) = with_server(Side::Ex, "\n[alg.rtsp]\nenabled = true\n") else { return };
    play_both_ways(&lab, Side::In, SERVER);
    lab.stop();
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn without_the_alg_no_media_come() {
    let Some((mut lab, mut server)) = with_server(Side::Ex, "") else { return };
    assert_eq!(play(&lab, Side::In, SERVER, "udp"), 0);
    lab.stop();
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_server_inside_plays_over_udp_and_interleaved() {
    let forward = format!(
        "\n[alg.rtsp]\nenabled = true\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:554\"\ninternal = \"10.0.0.2:554\"\n"
    );
    let Some((mut lab, mut server)) = with_server(Side::In, &forward) else { return };
    play_both_ways(&lab, Side::Ex, FORWARDED);
    lab.stop();
    server.kill().unwrap();
    server.wait().unwrap();
}
