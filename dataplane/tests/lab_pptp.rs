//! PPTP through the NAT: pptpd and pptp-linux. This kernel has no PPP, so what they carry is made here: HDLC frames of
//! random bytes, which an echo at the server's end sends back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use lab::capture::{Capture, assert_nothing_internal};
use lab::{Lab, SERVER, Side, wait_until};

/// The frame around these bytes (RFC 1662): flags, escapes, and the check sequence.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let checked = [bytes, &check_sequence(bytes).to_le_bytes()].concat();
    let mut frame = vec![FLAG];
    for byte in checked {
        if byte < 0x20 || byte == FLAG || byte == ESCAPE {
            frame.extend([ESCAPE, byte ^ 0x20]);
        } else {
            frame.push(byte);
        }
    }
    frame.push(FLAG);
    frame
}

/// RFC 1662 appendix C.2, bit by bit.
fn check_sequence(bytes: &[u8]) -> u16 {
    let mut sum = u16::MAX;
    for &byte in bytes {
        sum ^= u16::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x8408 } else { sum >> 1 };
        }
    }
    !sum
}

/// The bytes in each whole frame of a stream.
struct Frames {
    current: Vec<u8>,
    is_escaped: bool,
}

impl Frames {
    fn take(&mut self, stream: &[u8], mut each: impl FnMut(Vec<u8>)) {
        for &byte in stream {
            match byte {
                FLAG => {
                    let mut frame = std::mem::take(&mut self.current);
                    if frame.len() > 2 {
                        let sum = frame.split_off(frame.len() - 2);
                        assert_eq!(check_sequence(&frame).to_le_bytes(), sum[..], "{frame:02x?}");
                        each(frame);
                    }
                }
                ESCAPE => self.is_escaped = true,
                byte => {
                    self.current.push(if self.is_escaped { byte ^ 0x20 } else { byte });
                    self.is_escaped = false;
                }
            }
        }
    }
}

/// The real client's end of a tunnel, with this test in pppd's place.
struct Tunnel {
    pptp: Child,
    stream: UnixStream,
    frames: Receiver<Vec<u8>>,
}

impl Tunnel {
    fn open(lab: &Lab) -> Self {
        let log = fs::File::create(lab.state.join("pptp.log")).unwrap();
        // It reads and writes its input, as it would a terminal's.
        let (stream, input) = UnixStream::pair().unwrap();
        let pptp = lab
            .timed(Side::In, 25, "pptp")
            .args([SERVER, "--nolaunchpppd", "--nohostroute", "--loglevel", "2"])
            .stdin(OwnedFd::from(input))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut output = stream.try_clone().unwrap();
        let (sender, frames) = channel();
        thread::spawn(move || {
            let mut reader = Frames { current: Vec::new(), is_escaped: false };
            let mut bytes = [0; 4_096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                reader.take(&bytes[..length], |frame| drop(sender.send(frame)));
            }
        });
        Self { pptp, stream, frames }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(&framed(bytes)).unwrap();
    }

    fn receive(&self) -> Option<Vec<u8>> {
        self.frames.recv_timeout(Duration::from_secs(8)).ok()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.pptp.kill();
        let _ = self.pptp.wait();
    }
}

/// A PPP packet of this many random-looking bytes.
fn packet(number: usize, length: usize) -> Vec<u8> {
    let body = (0..length).map(|index| (index * 31 + number * 7) as u8);
    [0xff, 0x03, 0x00, 0x21].into_iter().chain(body).collect()
}

/// Starts pptpd outside; in pppd's place it gets an echo, which speaks first, for pptpd listens to no tunnel before.
fn serve_pptp(lab: &Lab) -> Child {
    let (greeting, echo) = (lab.state.join("greeting"), lab.state.join("echo"));
    fs::write(&greeting, framed(GREETING)).unwrap();
    let script = format!("#!/bin/sh\nstty raw -echo\ncat '{}'\nexec cat\n", greeting.display());
    fs::write(&echo, script).unwrap();
    fs::set_permissions(&echo, fs::Permissions::from_mode(0o755)).unwrap();
    let config = lab.state.join("pptpd.conf");
    let text = format!(
        "ppp {}\noption /dev/null\nnoipparam\nlisten {SERVER}\nlocalip 192.168.9.1\nremoteip 192.168.9.2-9\n",
        echo.display()
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(lab.state.join("pptpd.log")).unwrap();
    let server = lab
        .command(Side::Ex, "pptpd")
        .args(["--fg", "--conf", config.to_str().unwrap(), "--pidfile"])
        .arg(lab.state.join("pptpd.pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::Ex, 1_723);
    server
}

/// The GRE packets of a capture from this address, by its first three bytes.
fn gre_from(frames: &[Vec<u8>], address: [u8; 3]) -> usize {
    let is_gre = |frame: &&Vec<u8>| frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == 47;
    frames.iter().filter(is_gre).filter(|frame| frame[26..29] == address).count()
}

#[test]
fn a_tunnel_carries_frames_both_ways() {
    let Some(mut lab) = Lab::up() else { return };
    let config = lab.config(&[]) + "\n[alg.pptp]\nenabled = true\n";
    lab.start_from(&config);
    let mut server = serve_pptp(&lab);
    let capture = Capture::start(&lab, Side::Ex);
    let log = || fs::read_to_string(lab.state.join("pptp.log")).unwrap();
    // The server's first call has id 0; here that is one like others.
    for call in 0..2 {
        let mut tunnel = Tunnel::open(&lab);
        assert_eq!(tunnel.receive().as_deref(), Some(GREETING), "call {call}: {}", log());
        for (number, length) in [1, 40, 700, 1_400].into_iter().cycle().take(20).enumerate() {
            let packet = packet(number, length);
            tunnel.send(&packet);
            assert_eq!(tunnel.receive(), Some(packet), "call {call}, frame {number}: {}", log());
        }
    }
    let frames = capture.frames();
    assert!(gre_from(&frames, [203, 0, 113]) >= 80, "no tunnel passed");
    assert_nothing_internal(&frames);
    let has_gre = |lab: &Lab| lab.show("sessions").iter().any(|row| row["protocol"].as_str() == Some("47"));
    assert!(has_gre(&lab), "{:?}", lab.show("sessions"));
    server.kill().unwrap();
    server.wait().unwrap();
    lab.stop();
}

#[test]
fn without_the_alg_no_tunnel_comes_to_be() {
    let Some(mut lab) = Lab::up() else { return };
    lab.start(&[]);
    let mut server = serve_pptp(&lab);
    let mut tunnel = Tunnel::open(&lab);
    let has_control = || lab.show("sessions").iter().any(|row| row["remote"] == "203.0.113.2:1723");
    assert!(wait_until(Duration::from_secs(5), has_control), "no control session");
    tunnel.send(&packet(1, 40));
    assert!(tunnel.frames.recv_timeout(Duration::from_secs(3)).is_err());
    drop(tunnel);
    server.kill().unwrap();
    server.wait().unwrap();
    lab.stop();
}

const GREETING: &[u8] = &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 4];
const FLAG: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
