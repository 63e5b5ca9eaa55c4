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
use std::time::{Duration, Instant};

use lab::capture::{Capture, assert_nothing_internal};
use lab::hardship::{Cables, Hardship};
use lab::{FORWARDED, Lab, PATIENCE, SERVER, Side, is_full, wait_until};

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
    /// Calls a server from an address of a side.
    fn open(lab: &Lab, side: Side, from: &str, server: &str) -> Self {
        let log = fs::File::options().create(true).append(true).open(lab.state.join("pptp.log")).unwrap();
        // It reads and writes its input, as it would a terminal's.
        let (stream, input) = UnixStream::pair().unwrap();
        // It would share the control session of another client on this machine, which it finds in this directory.
        let alone = "mkdir -p /run/pptp && mount -t tmpfs none /run/pptp && exec pptp \"$@\"";
        let pptp = lab
            .timed(side, 40, "unshare")
            .args(["--mount", "sh", "-c", alone, "pptp", server, "--localbind", from])
            .args(["--nolaunchpppd", "--nohostroute", "--loglevel", "2"])
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
        self.frames.recv_timeout(PATIENCE).ok()
    }

    /// Waits for the server's greeting: the tunnel is there.
    fn expect_greeting(&self, lab: &Lab) {
        assert_eq!(self.receive().as_deref(), Some(GREETING), "{}", log(lab));
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

/// Starts pptpd; in pppd's place it gets an echo, which speaks first, for pptpd listens to no tunnel before.
fn serve_pptp(lab: &Lab, side: Side, address: &str, hardship: Hardship) -> Child {
    let (greeting, echo) = (lab.state.join("greeting"), lab.state.join("echo"));
    fs::write(&greeting, framed(GREETING)).unwrap();
    let greet = format!("cat '{}'", greeting.display());
    // As pppd would: what is lost is said again.
    let again = if hardship == Hardship::Lossy {
        format!("for i in 1 2 3 4 5 6; do {greet}; sleep 0.5; done &")
    } else {
        greet
    };
    let script = format!("#!/bin/sh\nstty raw -echo\n{again}\nexec cat\n");
    fs::write(&echo, script).unwrap();
    fs::set_permissions(&echo, fs::Permissions::from_mode(0o755)).unwrap();
    let config = lab.state.join("pptpd.conf");
    let text = format!(
        "ppp {}\noption /dev/null\nnoipparam\nlisten {address}\nlocalip 192.168.9.1\nremoteip 192.168.9.2-9\n",
        echo.display()
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(lab.state.join("pptpd.log")).unwrap();
    let server = lab
        .command(side, "pptpd")
        .args(["--fg", "--conf", config.to_str().unwrap(), "--pidfile"])
        .arg(lab.state.join("pptpd.pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    lab.wait_for_listener(side, 1_723);
    server
}

/// The GRE packets of a capture from this address, by its first three bytes.
fn gre_from(frames: &[Vec<u8>], address: [u8; 3]) -> usize {
    let is_gre = |frame: &&Vec<u8>| frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == 47;
    frames.iter().filter(is_gre).filter(|frame| frame[26..29] == address).count()
}

/// A lab in which PPTP is served, with pptpd on one side.
fn with_server(side: Side, tables: &str, hardship: Hardship) -> Option<(Lab, Cables, Child)> {
    let mut lab = Lab::up()?;
    // pptpd takes the first message in one piece or not at all, whatever is between.
    let cables = hardship.inflict(&lab, 1_723, "all-but-sccrq");
    let config = lab.config(hardship.settings()) + "\n[alg.pptp]\nenabled = true\n" + tables;
    lab.start_from(&config);
    let server = serve_pptp(&lab, side, if side == Side::In { "10.0.0.2" } else { SERVER }, hardship);
    Some((lab, cables, server))
}

fn log(lab: &Lab) -> String {
    fs::read_to_string(lab.state.join("pptp.log")).unwrap()
}

/// Sends frames by all tunnels in turn; each comes back by its own.
fn echo(tunnels: &mut [Tunnel], lab: &Lab) {
    for (round, length) in [1, 40, 700, 1_400].into_iter().cycle().take(20).enumerate() {
        for (index, tunnel) in tunnels.iter_mut().enumerate() {
            tunnel.send(&packet(round * 8 + index, length));
        }
        for (index, tunnel) in tunnels.iter().enumerate() {
            let expected = Some(packet(round * 8 + index, length));
            assert_eq!(tunnel.receive(), expected, "tunnel {index}, frame {round}: {}", log(lab));
        }
    }
}

/// As [`echo`] over a cable that loses some: what comes back is what was sent, and a part of it. (Either program holds back for
/// seconds what follows a loss.)
fn echo_some(tunnel: &mut Tunnel, lab: &Lab) {
    let sent: Vec<_> = (0..40).map(|number| packet(number, 40)).collect();
    for packet in &sent {
        tunnel.send(packet);
        thread::sleep(Duration::from_millis(20));
    }
    let end = Instant::now() + Duration::from_secs(10);
    let left = || end.saturating_duration_since(Instant::now());
    let came = std::iter::from_fn(|| tunnel.frames.recv_timeout(left()).ok());
    let came: Vec<_> = came.filter(|packet| packet != GREETING).take(10).collect();
    assert!(came.iter().all(|packet| sent.contains(packet)));
    assert_eq!(came.len(), 10, "{}", log(lab));
}

fn end(mut lab: Lab, mut cables: Cables, mut server: Child) {
    cables.assert_were_hard();
    server.kill().unwrap();
    server.wait().unwrap();
    lab.stop();
}

/// Frames through all tunnels; over a bad cable, which takes GRE's too, some through the first.
fn exchange(tunnels: &mut [Tunnel], lab: &Lab, hardship: Hardship) {
    match hardship {
        Hardship::Lossy => echo_some(&mut tunnels[0], lab),
        _ => echo(tunnels, lab),
    }
}

/// Three clients, two of them on one host, have tunnels to one server at the same time, one after the other.
fn call_together(hardship: Hardship) {
    eprintln!("together, {hardship:?}");
    let Some((lab, cables, server)) = with_server(Side::Ex, "", hardship) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    let mut tunnels = ["10.0.0.2", "10.0.0.3", "10.0.0.2"].map(|from| {
        let tunnel = Tunnel::open(&lab, Side::In, from, SERVER);
        tunnel.expect_greeting(&lab);
        tunnel
    });
    exchange(&mut tunnels, &lab, hardship);
    assert_nothing_internal(&capture.frames());
    drop(tunnels);
    end(lab, cables, server);
}

/// A server inside is called through a port forward, by two clients.
fn call_inside(hardship: Hardship) {
    eprintln!("inside, {hardship:?}");
    let forward = format!(
        "\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:1723\"\ninternal = \"10.0.0.2:1723\"\n"
    );
    let Some((lab, cables, server)) = with_server(Side::In, &forward, hardship) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    let mut tunnels = [SERVER, "198.51.100.2"].map(|from| {
        let tunnel = Tunnel::open(&lab, Side::Ex, from, FORWARDED);
        tunnel.expect_greeting(&lab);
        tunnel
    });
    exchange(&mut tunnels, &lab, hardship);
    assert_nothing_internal(&capture.frames());
    drop(tunnels);
    end(lab, cables, server);
}

#[test]
fn a_tunnel_carries_frames_both_ways() {
    let Some((lab, cables, server)) = with_server(Side::Ex, "", Hardship::None) else { return };
    let capture = Capture::start(&lab, Side::Ex);
    // The server's first call has id 0; here that is one like others.
    for _ in 0..2 {
        let tunnel = Tunnel::open(&lab, Side::In, "10.0.0.2", SERVER);
        tunnel.expect_greeting(&lab);
        echo(&mut [tunnel], &lab);
    }
    let frames = capture.frames();
    assert!(gre_from(&frames, [203, 0, 113]) >= 80, "no tunnel passed");
    assert_nothing_internal(&frames);
    let has_gre = |lab: &Lab| lab.show("sessions").iter().any(|row| row["protocol"].as_str() == Some("47"));
    assert!(has_gre(&lab), "{:?}", lab.show("sessions"));
    end(lab, cables, server);
}

#[test]
fn three_clients_have_tunnels_to_one_server() {
    call_together(Hardship::None);
}

#[test]
fn a_server_inside_is_called_by_two_clients() {
    call_inside(Hardship::None);
}

#[test]
fn tunnels_bear_hardships() {
    for hardship in [Hardship::OwnCore, Hardship::Cut, Hardship::Lossy].into_iter().filter(|one| one.shown())
    {
        call_together(hardship);
        if is_full() {
            call_inside(hardship);
        }
    }
}

#[test]
fn without_the_alg_no_tunnel_comes_to_be() {
    let Some(mut lab) = Lab::up() else { return };
    lab.start(&[]);
    let mut server = serve_pptp(&lab, Side::Ex, SERVER, Hardship::None);
    let mut tunnel = Tunnel::open(&lab, Side::In, "10.0.0.2", SERVER);
    let has_control = || lab.show("sessions").iter().any(|row| row["remote"] == "203.0.113.2:1723");
    assert!(wait_until(PATIENCE, has_control), "no control session");
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
