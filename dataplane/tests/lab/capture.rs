//! What passed on a host's cable: tcpdump's file, read frame by frame.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::{Lab, PATIENCE, Side, wait_until};

/// A running capture.
pub struct Capture {
    tcpdump: Child,
    messages: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture whole frames on a host's cable.
    pub fn start(lab: &Lab, side: Side) -> Self {
        let file = lab.state.join(format!("{side:?}.pcap"));
        let mut tcpdump = lab
            .command(side, "tcpdump")
            .args(["-i", "eth0", "-s", "0", "-B", "16384", "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip starts");
        let mut messages = BufReader::new(tcpdump.stderr.take().expect("messages are piped"));
        while !line_of(&mut messages).contains("listening on") {}
        Self { tcpdump, messages, file }
    }

    /// The frames so far.
    pub fn peek(&self) -> Vec<Vec<u8>> {
        fs::read(&self.file).map_or_else(|_| Vec::new(), |bytes| without_times(read_frames(&bytes)))
    }

    /// Ends the capture and returns its frames.
    pub fn frames(self) -> Vec<Vec<u8>> {
        without_times(self.timed_frames())
    }

    /// Ends the capture and returns its frames: all that have passed, for what waits in the kernel would be lost with tcpdump.
    pub fn timed_frames(mut self) -> Vec<Timed> {
        let mut counts = String::new();
        let has_all = wait_until(PATIENCE, || {
            self.signal("USR1");
            counts = line_of(&mut self.messages);
            let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
            let numbers: Vec<u64> =
                counts.split(' ').filter(is_number).map(|word| word.parse().expect("a count")).collect();
            let [captured, received, dropped, ..] = numbers[..] else { panic!("tcpdump counts {counts:?}") };
            captured + dropped >= received
        });
        assert!(has_all, "tcpdump does not keep up: {counts}");
        self.signal("INT");
        self.tcpdump.wait().expect("tcpdump ends");
        let bytes = fs::read(&self.file).expect("tcpdump wrote its file");
        read_frames(&bytes)
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").arg(format!("-{name}")).arg(self.tcpdump.id().to_string()).status();
        assert!(killed.is_ok_and(|status| status.success()));
    }
}

/// The next of tcpdump's messages.
fn line_of(messages: &mut BufReader<ChildStderr>) -> String {
    let mut line = String::new();
    assert_ne!(messages.read_line(&mut line).expect("tcpdump speaks UTF-8"), 0, "tcpdump ended");
    line
}

/// A frame, and when it passed: microseconds since 1970, by the clock of all captures.
pub type Timed = (u64, Vec<u8>);

/// The frames alone.
pub fn without_times(frames: Vec<Timed>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|(_, frame)| frame).collect()
}

/// The frames of a capture file with little-endian headers: 24 bytes for the file, 16 for each frame.
fn read_frames(bytes: &[u8]) -> Vec<Timed> {
    let mut frames = Vec::new();
    let Some((head, mut rest)) = bytes.split_at_checked(24) else { return frames };
    assert_eq!(head[..4], [0xd4, 0xc3, 0xb2, 0xa1], "not a capture file");
    while rest.len() >= 16 {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let captured = number(8) as usize;
        let Some(frame) = rest.get(16..16 + captured) else { break };
        frames.push((u64::from(number(0)) * 1_000_000 + u64::from(number(4)), frame.to_vec()));
        rest = &rest[16 + captured..];
    }
    frames
}

/// What follows the TCP header; `None` if the frame is no TCP over IPv4.
pub fn tcp_payload(frame: &[u8]) -> Option<&[u8]> {
    let ip = ipv4(frame).filter(|ip| ip[9] == 6)?;
    let tcp = &ip[usize::from(ip[0] & 0x0f) * 4..];
    tcp.get(usize::from(tcp[12] >> 4) * 4..)
}

/// What one direction of a TCP connection carried.
pub struct Stream {
    /// Where to.
    pub to: SocketAddrV4,
    /// From its beginning, or from the first byte in the capture.
    pub bytes: Vec<u8>,
    /// When each byte passed first, in microseconds; 0: it did not.
    pub at: Vec<u64>,
}

/// What each direction of each TCP connection carried, put together from its segments, whatever their order and however
/// often they came.
pub fn streams(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    put_together(frames.iter().map(|frame| (0, &frame[..]))).into_iter().map(|stream| stream.bytes).collect()
}

/// As [`streams`], with where to and when.
pub fn timed_streams(frames: &[Timed]) -> Vec<Stream> {
    put_together(frames.iter().map(|(at, frame)| (*at, &frame[..])))
}

/// A segment that carries something: its number, when it passed, what it carries.
type Segment<'a> = (u32, u64, &'a [u8]);
/// One direction of a connection: the number of its first byte, if its SYN was seen, and its segments.
type Flow<'a> = (Option<u32>, Vec<Segment<'a>>);

fn put_together<'a>(frames: impl Iterator<Item = (u64, &'a [u8])>) -> Vec<Stream> {
    // One after the other with the same addresses and ports.
    let mut flows: BTreeMap<[u8; 12], Vec<Flow<'a>>> = BTreeMap::new();
    for (at, frame) in frames {
        let Some(ip) = ipv4(frame).filter(|ip| ip[9] == 6) else { continue };
        let tcp = &ip[usize::from(ip[0] & 0x0f) * 4..];
        let key: [u8; 12] = [&ip[12..20], &tcp[..4]].concat().try_into().expect("twelve bytes");
        let seq = u32::from_be_bytes(tcp[4..8].try_into().expect("four bytes"));
        let connections = flows.entry(key).or_default();
        if tcp[13] & 0x02 != 0 {
            let first = Some(seq.wrapping_add(1));
            if connections.last().is_none_or(|(begun, _)| *begun != first) {
                connections.push((first, Vec::new()));
            }
            continue;
        }
        // Without the padding of a short frame.
        let length = usize::from(u16::from_be_bytes([ip[2], ip[3]])) - (ip.len() - tcp.len());
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..length];
        if payload.is_empty() {
            continue;
        }
        match connections.last_mut() {
            Some((_, segments)) => segments.push((seq, at, payload)),
            None => connections.push((None, vec![(seq, at, payload)])),
        }
    }
    let each =
        flows.into_iter().flat_map(|(key, connections)| connections.into_iter().map(move |of| (key, of)));
    each.map(|(key, (first, segments))| put_in_order(key, first, &segments)).collect()
}

/// `first`: the number of the first byte, else that of the lowest segment.
fn put_in_order(key: [u8; 12], first: Option<u32>, segments: &[Segment<'_>]) -> Stream {
    let anywhere = segments.first().map_or(0, |(seq, ..)| *seq);
    let lowest =
        || segments.iter().map(|(seq, ..)| *seq).min_by_key(|seq| seq.wrapping_sub(anywhere).cast_signed());
    let first = first.or_else(lowest).unwrap_or(anywhere);
    let [a, b, c, d] = key[4..8].try_into().expect("four bytes");
    let to = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([key[10], key[11]]));
    let mut stream = Stream { to, bytes: Vec::new(), at: Vec::new() };
    for (seq, at, payload) in segments {
        let start = seq.wrapping_sub(first) as usize;
        // A keepalive probe lies before the first byte.
        if start >= 1 << 30 {
            continue;
        }
        let part = start..start + payload.len();
        let length = stream.bytes.len().max(part.end);
        stream.bytes.resize(length, 0);
        stream.at.resize(length, 0);
        stream.bytes[part.clone()].copy_from_slice(payload);
        stream.at[part].iter_mut().filter(|time| **time == 0).for_each(|time| *time = *at);
    }
    stream
}

/// What follows the UDP header; `None` if the frame is no UDP over IPv4.
pub fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let ip = ipv4(frame).filter(|ip| ip[9] == 17)?;
    let udp = &ip[usize::from(ip[0] & 0x0f) * 4..];
    udp.get(8..usize::from(u16::from_be_bytes([udp[4], udp[5]])))
}

/// Expects no internal address in any stream as text.
pub fn assert_streams_hidden(streams: &[Vec<u8>]) {
    for stream in streams {
        let text = String::from_utf8_lossy(stream);
        assert!(!text.contains("10,0,0,") && !text.contains("10.0.0."), "internal address in {text:?}");
    }
}

/// Whether the frame opens a TCP connection to this port.
pub fn is_syn_to(frame: &[u8], l4_port: u16) -> bool {
    let Some(ip) = ipv4(frame).filter(|ip| ip[9] == 6) else { return false };
    let tcp = &ip[usize::from(ip[0] & 0x0f) * 4..];
    tcp[2..4] == l4_port.to_be_bytes() && tcp[13] & 0x12 == 0x02
}

/// Whether the frame resets a TCP connection that is none of a session with this port.
pub fn is_reset_beside(frame: &[u8], l4_port: u16) -> bool {
    let Some(ip) = ipv4(frame).filter(|ip| ip[9] == 6) else { return false };
    let tcp = &ip[usize::from(ip[0] & 0x0f) * 4..];
    let is_beside = [&tcp[..2], &tcp[2..4]].iter().all(|port| **port != l4_port.to_be_bytes());
    is_beside && tcp[13] & 0x04 != 0
}

/// Expects no internal address in any frame: in no header (ARP's and those inside ICMP errors too), and in no payload of TCP
/// or UDP as text.
pub fn assert_nothing_internal(frames: &[Vec<u8>]) {
    assert!(frames.len() > 5, "{} frames are no capture", frames.len());
    for frame in frames {
        let headers = &frame[14..frame.len().min(14 + 28)];
        let is_arp = frame[12..14] == [0x08, 0x06];
        let places: &[usize] = if is_arp { &[14, 24] } else { &[12, 16] };
        for &place in places {
            assert_ne!(
                headers.get(place..place + 3),
                Some(&[10, 0, 0][..]),
                "internal address in {frame:02x?}"
            );
        }
        if let Some(embedded) =
            ipv4(frame).filter(|ip| ip[9] == 1 && matches!(ip[20], 3 | 11 | 12)).map(|ip| &ip[28..])
        {
            assert!(
                !embedded[12..20].windows(3).any(|bytes| bytes == [10, 0, 0]),
                "internal address in {frame:02x?}"
            );
        }
        let text =
            String::from_utf8_lossy(tcp_payload(frame).or_else(|| udp_payload(frame)).unwrap_or_default());
        assert!(!text.contains("10,0,0,") && !text.contains("10.0.0."), "internal address in {text:?}");
    }
}

/// The lines that begin like this in what TCP connections carried, each once, however often it was sent.
pub fn lines_beginning(frames: &[Vec<u8>], beginning: &str) -> Vec<String> {
    let texts: Vec<String> =
        streams(frames).iter().map(|stream| String::from_utf8_lossy(stream).into_owned()).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
}

/// The IPv4 packet of a frame without its link header.
fn ipv4(frame: &[u8]) -> Option<&[u8]> {
    (frame.len() >= 34 && frame[12..14] == [0x08, 0x00]).then(|| &frame[14..])
}
