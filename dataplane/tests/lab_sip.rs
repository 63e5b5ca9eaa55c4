//! SIP through the NAT: sipp on both sides calls, registers and is called; the media are this program's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use lab::capture::{Capture, assert_nothing_internal, tcp_payload, udp_payload};
use lab::{FORWARDED, Lab, PATIENCE, SERVER, Side, is_of_pool, wait_until};

/// A sipp under way; what it says is in the lab's directory.
struct Sipp {
    child: Child,
    /// Where it says that a call stands, and is told to end it; of those that begin a call.
    line: Option<TcpListener>,
    log: PathBuf,
    errors: PathBuf,
}

impl Sipp {
    /// Starts one of the scenarios beside this file. `mode` is `u1` (UDP) or `t1` (TCP).
    fn start(lab: &Lab, side: Side, scenario: &str, mode: &str, more: &[&str]) -> Self {
        let (address, media) = if side == Side::In { ("10.0.0.2", "6000") } else { (SERVER, "8000") };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/lab/sip/{scenario}.xml"));
        let log = lab.state.join(format!("{scenario}.log"));
        let errors = lab.state.join(format!("{scenario}.errors"));
        let output = fs::File::create(&log).unwrap();
        let line = format!("{address}:7000");
        let mut sipp = lab.timed(side, 45, "sipp");
        sipp.current_dir(&lab.state)
            .args(more)
            .args(["-sf", file.to_str().unwrap(), "-t", mode, "-i", address, "-p", "5060", "-m", "1"])
            // The Call-ID would carry the address otherwise, which no ALG touches.
            .args(["-cid_str", "%u-%p@lab", "-key", "media", media, "-mp", "20000"])
            .args(["-timeout", "40", "-timeout_error", "-nostdin", "-trace_err", "-error_file"])
            .arg(&errors)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let begins_call = matches!(scenario, "caller" | "exchange");
        let line = begins_call.then(|| {
            sipp.args(["-3pcc", &line]);
            lab.listener(side, &line)
        });
        Self { child: sipp.spawn().unwrap(), line, log, errors }
    }

    /// Has a call that it has begun end. What is returned must be there until the end.
    fn hang_up(&self) -> Option<TcpStream> {
        let (mut line, _) = self.line.as_ref()?.accept().unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut message = Vec::new();
        while !message.ends_with(&[END_OF_COMMAND]) {
            let mut byte = [0];
            line.read_exact(&mut byte).unwrap();
            message.extend(byte);
        }
        // It goes on with the call that the message names.
        line.write_all(&message).unwrap();
        Some(line)
    }

    /// Waits for the end, which must be a good one.
    fn finish(mut self) {
        let status = self.child.wait().unwrap();
        let said = |file: &Path| {
            fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        assert!(status.success(), "{status}\n{}\n{}", said(&self.errors), said(&self.log));
    }
}

/// The messages of a capture, datagram by datagram and segment by segment.
fn messages(frames: &[Vec<u8>]) -> Vec<String> {
    let payload = |frame: &Vec<u8>| {
        let payload = udp_payload(frame).or_else(|| tcp_payload(frame))?;
        (!payload.is_empty()).then(|| String::from_utf8_lossy(payload).into_owned())
    };
    frames.iter().filter_map(payload).collect()
}

/// Where the description in the first message that begins like this wants its media.
fn media_of(frames: &[Vec<u8>], beginning: &str) -> Option<SocketAddr> {
    let messages = messages(frames);
    let message = messages.iter().find(|text| text.starts_with(beginning) && text.contains("\nm=audio "))?;
    let after = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
    let l4_port = after("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(after("c=IN IP4 ")?.trim().parse().ok()?, l4_port))
}

/// The media of both ends: RTP and RTCP sockets where the scenarios say they are.
struct Media {
    inside: [UdpSocket; 2],
    outside: [UdpSocket; 2],
}

impl Media {
    fn open(lab: &Lab) -> Self {
        let pair = |side, address: &str, l4_port: u16| {
            [l4_port, l4_port + 1].map(|l4_port| lab.udp(side, &format!("{address}:{l4_port}")))
        };
        Self { inside: pair(Side::In, "10.0.0.2", 6_000), outside: pair(Side::Ex, SERVER, 8_000) }
    }

    /// Sends twenty packets each way, RTP and RTCP; `announced` is where the outside believes the inside's RTP to be. All
    /// arrive, and come from where they are expected from.
    fn flow(&self, announced: SocketAddr) {
        for (index, (inside, outside)) in self.inside.iter().zip(&self.outside).enumerate() {
            let mut announced = announced;
            announced.set_port(announced.port() + index as u16);
            let outer = outside.local_addr().unwrap();
            for number in 0..20_u8 {
                // The outside speaks first: nothing but the ALG can have opened the way.
                outside.send_to(&[number; 172], announced).unwrap();
                assert_eq!(received(inside, number), outer);
                inside.send_to(&[number; 172], outer).unwrap();
                assert_eq!(received(outside, number), announced);
            }
        }
    }
}

/// Receives one packet with this number and returns whose it was.
fn received(socket: &UdpSocket, number: u8) -> SocketAddr {
    let mut packet = [0; 200];
    let (length, from) = socket.recv_from(&mut packet).unwrap();
    assert_eq!(packet[..length], [number; 172]);
    from
}

/// A lab that serves SIP, filtering as narrowly as it can: a hole is of the ALG's making.
fn with_sip(tables: &str) -> Option<Lab> {
    let mut lab = Lab::up()?;
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(&[]).replace(rule, &narrow) + "\n[alg.sip]\nenabled = true\n" + tables;
    lab.start_from(&config);
    Some(lab)
}

/// Waits until the description in such a message passed outside, and the call is answered.
fn announced(capture: &Capture, beginning: &str) -> SocketAddr {
    let mut media = None;
    let is_answered = || {
        let frames = capture.peek();
        media = media_of(&frames, beginning);
        media.is_some() && messages(&frames).iter().any(|text| text.starts_with("ACK "))
    };
    if !wait_until(PATIENCE, is_answered) {
        panic!("no call: {:#?}", messages(&capture.peek()));
    }
    media.unwrap()
}

/// Waits until sipp has its socket.
fn wait_for_socket(lab: &Lab, side: Side, mode: &str) {
    let flags = if mode == "u1" { "-Hlun" } else { "-Hltn" };
    let listens = || !lab.expect(side, "ss", &[flags, "sport = :5060"]).is_empty();
    assert!(wait_until(PATIENCE, listens), "sipp does not listen");
}

/// One call with media between two scenarios, that which waits and that which begins; `announcer` is how the message with
/// the inside's description begins.
fn call(lab: &Lab, mode: &str, scenarios: [(Side, &str, &[&str]); 2], announcer: &str) {
    let capture = Capture::start(lab, Side::Ex);
    let media = Media::open(lab);
    let [(waiting, callee, options), (calling, caller, more)] = scenarios;
    let callee = Sipp::start(lab, waiting, callee, mode, options);
    wait_for_socket(lab, waiting, mode);
    let caller = Sipp::start(lab, calling, caller, mode, more);
    let endpoint = announced(&capture, announcer);
    assert!(is_of_pool(endpoint.ip()), "{endpoint}");
    media.flow(endpoint);
    let _lines = [&callee, &caller].map(Sipp::hang_up);
    caller.finish();
    callee.finish();
    assert_nothing_internal(&capture.frames());
}

/// How sipp ends what it tells another program.
const END_OF_COMMAND: u8 = 0x1b;

#[test]
fn a_phone_inside_calls_over_udp_and_tcp() {
    for mode in ["u1", "t1"] {
        let Some(mut lab) = with_sip("") else { return };
        call(&lab, mode, [(Side::Ex, "callee", &[]), (Side::In, "caller", &[SERVER])], "INVITE ");
        lab.stop();
    }
}

#[test]
fn a_phone_inside_registers_and_is_called_over_udp_and_tcp() {
    for mode in ["u1", "t1"] {
        let Some(mut lab) = with_sip("") else { return };
        call(&lab, mode, [(Side::Ex, "exchange", &[]), (Side::In, "phone", &[SERVER])], "SIP/2.0 200 ");
        lab.stop();
    }
}

#[test]
fn a_server_inside_is_called_through_a_port_forward() {
    let forward = format!(
        "\n[[nat.forward]]\nprotocol = \"tcp+udp\"\nexternal = \"{FORWARDED}:5060\"\ninternal = \"10.0.0.2:5060\"\n"
    );
    for mode in ["u1", "t1"] {
        let Some(mut lab) = with_sip(&forward) else { return };
        call(&lab, mode, [(Side::In, "callee", &[]), (Side::Ex, "caller", &[FORWARDED])], "SIP/2.0 200 ");
        lab.stop();
    }
}
