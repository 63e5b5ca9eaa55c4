//! Two smoltcp hosts in virtual time, the stream layer between them, and a network with faults.
//!
//! Four links: client to stage, stage to server, and back. Every packet on every link, the stage's own
//! included, has a number; [`Faults`] decides its fate by it. Sequence numbers are relabelled at the
//! hosts, so that a stream can start anywhere.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use algate_alg::*;
use algate_engine::stream::options::TcpOptions;
use algate_engine::stream::segment::{Outgoing, TcpSegment};
use algate_engine::stream::*;
use algate_engine::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration as SmolDuration, Instant as SmolInstant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address};

/// What happens to a packet: one entry for each copy that arrives, its extra delay in milliseconds.
pub type Fate = Vec<u64>;

/// Decides the fate of the n-th packet.
pub type Faults<'a> = &'a mut dyn FnMut(usize) -> Fate;

pub fn no_faults() -> impl FnMut(usize) -> Fate {
    |_| vec![0]
}

#[derive(Clone, Copy)]
pub struct HostOptions {
    pub nagle: bool,
    pub delayed_ack: bool,
    pub isn: u32,
    pub mtu: usize,
    pub timestamps: bool,
    pub receive_buffer: usize,
    /// Its cable cuts what it sends into segments of one byte.
    pub is_cut: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            nagle: false,
            delayed_ack: false,
            isn: 1000,
            mtu: 1500,
            timestamps: false,
            receive_buffer: 4096,
            is_cut: false,
        }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub server_read: Vec<u8>,
    pub client_read: Vec<u8>,
    /// Both ends saw the other's FIN, and got their own acknowledged.
    pub is_complete: bool,
    pub packets: usize,
    pub millis: u64,
    pub settled: bool,
    pub free_buffers: usize,
    pub status: StreamStatus,
}

/// The client's script.
#[derive(Clone)]
pub struct Dialogue {
    /// What is written in one go, each in a segment of its own when Nagle is off.
    pub writes: Vec<Vec<u8>>,
    /// Lines of replies that must have come before the write goes out; `None`: at once.
    pub after_replies: Option<Vec<usize>>,
}

impl Dialogue {
    /// `bytes` cut at `cuts`, written one after the other.
    pub fn cut(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut writes = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            if cut > from {
                writes.push(bytes[from..cut].to_vec());
                from = cut;
            }
        }
        Self { writes, after_replies: None }
    }

    /// Each line is written when all replies to the ones before have come.
    pub fn lockstep(lines: &[&str]) -> Self {
        Self {
            writes: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
            after_replies: Some((0..lines.len()).collect()),
        }
    }
}

pub struct NullNat;

impl Nat for NullNat {
    fn expect(&mut self, _: &Expectation) -> Result<Announced, ExpectError> {
        Err(ExpectError::TableFull)
    }
    fn expect_pair(&mut self, _: &Expectation) -> Result<[Announced; 2], ExpectError> {
        Err(ExpectError::TableFull)
    }
    fn renew(&mut self, _: ExpectationId, _: std::time::Duration, _: Option<Peer>) -> bool {
        false
    }
    fn withdraw(&mut self, _: ExpectationId) {}
}

pub fn endpoints() -> SessionEndpoints {
    let originator = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000);
    let responder = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 21);
    SessionEndpoints { originator, originator_seen: originator, responder, responder_seen: responder }
}

/// A line protocol. Client: `PORT x` gets longer, `SHRT x` shorter, `DENY` is removed and answered with
/// `550 no` at its place, `HOLD` keeps back what follows until it is answered, `KILL` resets the session, `TLS` turns the stream opaque when it is answered with `234`. Server: `227`
/// gets longer.
#[derive(Default)]
pub struct LineAlg {
    forwarded: usize,
    answered: usize,
    /// Numbers of forwarded commands behind whose replies a `550` belongs.
    denied: VecDeque<usize>,
    asked_tls: bool,
    /// What follows a `HOLD` waits for all replies.
    holds: bool,
}

impl Alg for LineAlg {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        let Some(length) = input.iter().position(|byte| *byte == b'\n').map(|at| at + 1) else {
            return Step::Incomplete;
        };
        if direction == Direction::Original && self.holds && !cx.at_end {
            return Step::Incomplete;
        }
        let line = &input[..length];
        let verdict = match direction {
            Direction::Original => {
                if line.starts_with(b"DENY") {
                    if self.answered == self.forwarded {
                        assert!(cx.inject.push(Direction::Reply, b"550 no\r\n"));
                    } else {
                        self.denied.push_back(self.forwarded);
                    }
                    Verdict::Remove
                } else if line.starts_with(b"KILL") {
                    Verdict::Terminate
                } else {
                    self.forwarded += 1;
                    self.asked_tls |= line.starts_with(b"TLS");
                    self.holds = line.starts_with(b"HOLD");
                    if line.starts_with(b"PORT ") {
                        assert!(cx.edits.replace(5..6, b"198,51,100,240,255"));
                        assert!(cx.edits.replace(length - 2..length - 2, b",254"));
                        Verdict::Rewrite
                    } else if line.starts_with(b"SHRT ") {
                        assert!(cx.edits.replace(4..length - 2, b""));
                        Verdict::Rewrite
                    } else {
                        Verdict::Pass
                    }
                }
            }
            Direction::Reply => {
                self.answered += 1;
                self.holds &= self.answered < self.forwarded;
                while self.denied.front().is_some_and(|number| *number <= self.answered) {
                    self.denied.pop_front();
                    assert!(cx.inject.push(Direction::Reply, b"550 no\r\n"));
                }
                if self.asked_tls && line.starts_with(b"234") {
                    Verdict::Opaque
                } else if line.starts_with(b"227 ") {
                    assert!(cx.edits.replace(4..5, b"(203,0,113,7,8,9)"));
                    Verdict::Rewrite
                } else {
                    Verdict::Pass
                }
            }
        };
        Step::Message { length, verdict }
    }
}

/// What the server's application must have read for `sent`, and the client's, in lock step or not.
pub fn expected(sent: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut server, mut client) = (Vec::new(), Vec::new());
    let mut opaque = false;
    for line in sent.split_inclusive(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).unwrap();
        let forwarded = if opaque {
            text.to_owned()
        } else if text.starts_with("DENY") {
            client.extend_from_slice(b"550 no\r\n");
            continue;
        } else if let Some(rest) = text.strip_prefix("PORT ") {
            format!("PORT 198,51,100,240,255{},254\r\n", rest[1..].trim_end())
        } else if text.starts_with("SHRT ") {
            "SHRT\r\n".to_owned()
        } else {
            text.to_owned()
        };
        server.extend_from_slice(forwarded.as_bytes());
        let reply = reply_to(forwarded.as_bytes());
        let reply = String::from_utf8(reply).unwrap();
        match reply.strip_prefix("227 ") {
            Some(rest) if !opaque => {
                client.extend_from_slice(b"227 (203,0,113,7,8,9)");
                client.extend_from_slice(&rest.as_bytes()[1..]);
            }
            _ => client.extend_from_slice(reply.as_bytes()),
        }
        opaque |= text.starts_with("TLS");
    }
    (server, client)
}

fn reply_to(line: &[u8]) -> Vec<u8> {
    match line {
        [b'T', b'L', b'S', ..] => b"234 go\r\n".to_vec(),
        [b'P', b'A', b'S', b'V', ..] => b"227 x,y\r\n".to_vec(),
        [b'Q', b'U', b'I', b'T', ..] => b"221 bye\r\n".to_vec(),
        _ => [b"200 ", &line[..4.min(line.len())], b"\r\n"].concat(),
    }
}

struct Wire {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    mtu: usize,
}

struct RxToken(Vec<u8>);
struct TxToken<'a>(&'a mut Vec<Vec<u8>>);

impl smoltcp::phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl smoltcp::phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(RxToken, TxToken<'_>)> {
        let packet = self.received.pop_front()?;
        Some((RxToken(packet), TxToken(&mut self.sent)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    is_client: bool,
    isn: u32,
    /// Added to the host's own numbers on the wire.
    own_shift: Option<u32>,
    /// Newest acknowledgement that reached it, and its own newest one, as it counts itself.
    acked: Option<u32>,
    last_sent: Option<(u32, [u8; 2])>,
    /// Everything it sent that takes sequence numbers: the end, and the packet.
    sent_log: Vec<(u32, Vec<u8>)>,
    retry_at: Option<u64>,
    read: Vec<u8>,
    written: usize,
}

impl Host {
    fn new(address: u8, options: &HostOptions, seed: u64) -> Self {
        let mut wire = Wire { received: VecDeque::new(), sent: Vec::new(), mtu: options.mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, SmolInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, address), 24)).unwrap();
        });
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; options.receive_buffer]),
            tcp::SocketBuffer::new(vec![0; 65_536]),
        );
        socket.set_nagle_enabled(options.nagle);
        socket.set_ack_delay(options.delayed_ack.then(|| SmolDuration::from_millis(40)));
        if options.timestamps {
            socket.set_tsval_generator(Some(|| 7));
        }
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let isn = options.isn;
        let is_client = address == 1;
        Self {
            is_client,
            wire,
            interface,
            sockets,
            handle,
            isn,
            own_shift: None,
            acked: None,
            last_sent: None,
            sent_log: Vec::new(),
            retry_at: None,
            read: Vec::new(),
            written: 0,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn poll(&mut self, now: u64) {
        self.interface.poll(SmolInstant::from_micros(now as i64), &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        while socket.can_recv() {
            let read = &mut self.read;
            socket
                .recv(|bytes| {
                    read.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
    }

    fn poll_at(&mut self, now: u64) -> Option<u64> {
        self.interface
            .poll_at(SmolInstant::from_micros(now as i64), &self.sockets)
            .map(|at| at.total_micros() as u64)
    }

    /// When the harness must do what smoltcp 0.12 fails to do: it stops its retransmission timer at an
    /// acknowledgement of a part of what is on its way, and never probes a closed window.
    fn retry_at(&mut self, now: u64) -> Option<u64> {
        let state = self.socket().state();
        let is_closing = matches!(state, tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck);
        let is_stuck = (self.socket().send_queue() > 0 || is_closing)
            && self.last_sent.is_some()
            && self.poll_at(now).is_none();
        if !is_stuck {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            self.retry_at = Some(now + 1_100_000);
        }
        self.retry_at
    }

    /// Sends again what is not acknowledged; when there is nothing, the probe that Linux sends
    /// (tcp_xmit_probe_skb): no data, the number before the first unacknowledged one.
    fn retry(&mut self) {
        self.retry_at = None;
        let (Some((ack, window)), Some(acked)) = (self.last_sent, self.acked) else { return };
        self.sent_log.retain(|(end, _)| end.wrapping_sub(acked).cast_signed() > 0);
        for (_, packet) in &self.sent_log {
            let mut packet = packet.clone();
            // From the first unacknowledged byte on: smoltcp ignores the FIN of a segment whose data it has.
            let seq = u32::from_be_bytes(packet[24..28].try_into().unwrap());
            let skip = usize::try_from(acked.wrapping_sub(seq).cast_signed()).unwrap_or(0);
            let header = 20 + usize::from(packet[32] >> 4) * 4;
            packet.drain(header..header + skip);
            packet[24..28].copy_from_slice(&seq.wrapping_add(skip as u32).to_be_bytes());
            packet[28..32].copy_from_slice(&ack.to_be_bytes());
            packet[34..36].copy_from_slice(&window);
            self.wire.sent.push(packet);
        }
        if self.sent_log.is_empty() {
            let ports: [u8; 4] = if self.is_client { [15, 160, 0, 21] } else { [0, 21, 15, 160] };
            let mut packet = vec![0; 20];
            packet.extend_from_slice(&ports);
            packet.extend_from_slice(&acked.wrapping_sub(1).to_be_bytes());
            packet.extend_from_slice(&ack.to_be_bytes());
            packet.extend_from_slice(&[0x50, 0x10, window[0], window[1], 0, 0, 0, 0]);
            self.wire.sent.push(packet);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let written = self.socket().send_slice(bytes).unwrap();
        assert_eq!(written, bytes.len());
        self.written += written;
    }

    /// Bytes the application was told are delivered.
    fn told_delivered(&mut self) -> usize {
        self.written - self.sockets.get::<tcp::Socket>(self.handle).send_queue()
    }
}

/// Adds `own` to the sequence number, `other` to acknowledgement and SACK edges.
fn relabel(tcp: &mut [u8], own: u32, other: u32) {
    let mut add = |at: usize, shift: u32| {
        let value = u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap()).wrapping_add(shift);
        tcp[at..at + 4].copy_from_slice(&value.to_be_bytes());
    };
    add(4, own);
    add(8, other);
    let header = usize::from(tcp[12] >> 4) * 4;
    let mut at = 20;
    while at < header && tcp[at] != 0 {
        let length = if tcp[at] == 1 { 1 } else { usize::from(tcp[at + 1]) };
        if tcp[at] == 5 {
            for edge in (at + 2..at + length).step_by(4) {
                let value = u32::from_be_bytes(tcp[edge..edge + 4].try_into().unwrap()).wrapping_add(other);
                tcp[edge..edge + 4].copy_from_slice(&value.to_be_bytes());
            }
        }
        at += length;
    }
}

/// A segment in pieces of one byte; a FIN goes with the last one.
fn cut(tcp: &[u8]) -> Vec<Vec<u8>> {
    let (header, data) = tcp.split_at(usize::from(tcp[12] >> 4) * 4);
    if data.len() < 2 {
        return vec![tcp.to_vec()];
    }
    let seq = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
    let piece = |(at, byte): (usize, &u8)| {
        let mut piece = [header, &[*byte]].concat();
        piece[4..8].copy_from_slice(&seq.wrapping_add(at as u32).to_be_bytes());
        if at + 1 < data.len() {
            piece[13] &= !1;
        }
        piece
    };
    data.iter().enumerate().map(piece).collect()
}

/// Collects what the stage emits.
#[derive(Default)]
pub struct Collected(pub Vec<(Direction, Vec<u8>)>);

impl Emit for Collected {
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool {
        let mut tcp = vec![0; segment.header_bytes() + segment.payload_bytes()];
        let ports = if direction == Direction::Original { (4000, 21) } else { (21, 4000) };
        segment.write(ports.0, ports.1, &mut tcp).unwrap();
        assert_eq!(TcpOptions::parse(segment.options).raw.len() % 4, 0);
        self.0.push((direction, tcp));
        true
    }
}

/// Where a packet on a link arrives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Stage,
    Host,
}

pub struct Net<'a> {
    pub client: HostOptions,
    pub server: HostOptions,
    pub limits: StreamLimits,
    pub faults: Faults<'a>,
    /// In how many pieces the server writes a reply.
    pub reply_pieces: usize,
}

impl Net<'_> {
    /// Runs `dialogue` to its end, or to the bound on time and packets.
    pub fn run(&mut self, dialogue: &Dialogue) -> Run {
        let mut client = Host::new(1, &self.client, 1);
        let mut server = Host::new(2, &self.server, 2);
        let mut memory = StreamMemory::new(self.limits, 1);
        let mut stream = TcpStream::new();
        let mut alg = LineAlg::default();
        let (endpoints, mut nat, mut events) = (endpoints(), NullNat, Events::default());

        server.socket().listen(21).unwrap();
        let remote = (IpAddress::Ipv4(Ipv4Address::new(10, 0, 0, 2)), 21);
        let Host { interface, sockets, handle, .. } = &mut client;
        let socket = sockets.get_mut::<tcp::Socket>(*handle);
        socket.connect(interface.context(), remote, 4000).unwrap();

        let mut queue = BinaryHeap::new();
        let mut now = 0_u64;
        let mut packets = 0;
        let mut writes = VecDeque::from(dialogue.writes.clone());
        let mut write_number = 0;
        let mut answered = 0;
        let mut replies: VecDeque<Vec<u8>> = VecDeque::new();
        let mut is_complete = false;

        for _ in 0..200_000 {
            // Applications.
            client.poll(now);
            server.poll(now);
            while let Some(end) = server.read[answered..].iter().position(|byte| *byte == b'\n') {
                let reply = reply_to(&server.read[answered..answered + end + 1]);
                answered += end + 1;
                let piece = reply.len().div_ceil(self.reply_pieces.max(1));
                replies.extend(reply.chunks(piece).map(<[u8]>::to_vec));
            }
            if let Some(reply) = replies.pop_front() {
                server.write(&reply);
            }
            let lines = client.read.iter().filter(|byte| **byte == b'\n').count();
            let may_write = dialogue
                .after_replies
                .as_ref()
                .is_none_or(|after| after.get(write_number).is_none_or(|wanted| lines >= *wanted));
            if client.socket().may_send()
                && may_write
                && let Some(bytes) = writes.pop_front()
            {
                client.write(&bytes);
                write_number += 1;
                if writes.is_empty() {
                    client.socket().close();
                }
            }
            if server.socket().state() == tcp::State::CloseWait && replies.is_empty() {
                server.socket().close();
            }
            client.poll(now);
            server.poll(now);
            assert!(client.told_delivered() <= client.written);

            // Hosts to wire.
            for (host, direction) in [(&mut client, Direction::Original), (&mut server, Direction::Reply)] {
                for packet in host.wire.sent.drain(..).collect::<Vec<_>>() {
                    let tcp = packet[20..].to_vec();
                    let seq = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
                    if tcp[13] & 2 == 0 {
                        let ack = u32::from_be_bytes(tcp[8..12].try_into().unwrap());
                        host.last_sent = Some((ack, [tcp[14], tcp[15]]));
                        let length = tcp.len() - usize::from(tcp[12] >> 4) * 4 + usize::from(tcp[13] & 1);
                        let end = seq.wrapping_add(length as u32);
                        let is_known = host
                            .sent_log
                            .iter()
                            .any(|(known, old)| *known == end && old.len() == packet.len());
                        if length > 0 && !is_known {
                            host.sent_log.push((end, packet.clone()));
                        }
                    }
                    if tcp[13] & 2 != 0 && host.own_shift.is_none() {
                        host.own_shift = Some(host.isn.wrapping_sub(seq));
                    }
                    let options = if direction == Direction::Original { &self.client } else { &self.server };
                    for tcp in if options.is_cut { cut(&tcp) } else { vec![tcp] } {
                        for delay in (self.faults)(packets) {
                            let at = now + 1000 + delay * 1000;
                            let is_original = direction == Direction::Original;
                            queue.push(Reverse((at, packets, Place::Stage, is_original, tcp.clone())));
                        }
                        packets += 1;
                    }
                }
            }

            is_complete = matches!(client.socket().state(), tcp::State::Closed | tcp::State::TimeWait)
                && server.socket().state() == tcp::State::Closed
                && client.told_delivered() == client.written
                && server.told_delivered() == server.written;
            if is_complete || now > 900_000_000 {
                break;
            }

            // Next event.
            let has_more =
                !replies.is_empty() || (client.socket().may_send() && may_write && !writes.is_empty());
            let next = [
                queue.peek().map(|Reverse((at, ..))| *at),
                client.poll_at(now),
                server.poll_at(now),
                client.retry_at(now),
                server.retry_at(now),
                stream.deadline(&self.limits).map(|at| at.as_nanos() / 1000 + 1),
                has_more.then_some(now + 100),
            ];
            let Some(next) = next.into_iter().flatten().min() else { break };
            now = now.max(next);
            for host in [&mut client, &mut server] {
                if host.retry_at.is_some_and(|at| at <= now) {
                    host.retry();
                }
            }
            let instant = Instant::from_nanos(now * 1000);
            let mut out = Collected::default();
            let mut cx = StreamContext {
                alg: &mut alg,
                endpoints: &endpoints,
                nat: &mut nat,
                policy: &mut AllowAll,
                events: &mut events,
                memory: &mut memory,
                out: &mut out,
            };
            if stream.deadline(&self.limits).is_some_and(|at| at <= instant) {
                stream.on_timer(instant, &mut cx);
            }
            while queue.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Some(Reverse((_, _, place, is_original, mut tcp))) = queue.pop() else { break };
                let (from, to) =
                    if is_original { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let (own, other) = (from.own_shift.unwrap_or(0), to.own_shift.unwrap_or(0));
                if place == Place::Stage {
                    relabel(&mut tcp, own, other);
                    let direction = if is_original { Direction::Original } else { Direction::Reply };
                    let segment = TcpSegment::parse(&tcp).unwrap();
                    stream.segment(instant, direction, &segment, &mut cx);
                } else {
                    relabel(&mut tcp, own.wrapping_neg(), other.wrapping_neg());
                    let ack = u32::from_be_bytes(tcp[8..12].try_into().unwrap());
                    let is_newer = |last: u32| ack.wrapping_sub(last).cast_signed() > 0;
                    if tcp[13] & 0x10 != 0 && to.acked.is_none_or(is_newer) {
                        to.acked = Some(ack);
                    }
                    to.wire.received.push_back(ip_packet(is_original, &tcp));
                }
            }
            for (direction, tcp) in out.0 {
                let is_original = direction == Direction::Original;
                for delay in (self.faults)(packets) {
                    let at = now + 1000 + delay * 1000;
                    queue.push(Reverse((at, packets, Place::Host, is_original, tcp.clone())));
                }
                packets += 1;
            }
        }
        Run {
            server_read: server.read,
            client_read: client.read,
            is_complete,
            packets,
            millis: now / 1000,
            settled: stream.settled().is_some(),
            free_buffers: memory.free(),
            status: stream.status(),
        }
    }
}

fn ip_packet(is_original: bool, tcp: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
    let (from, to) = if is_original { (1, 2) } else { (2, 1) };
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend_from_slice(&[10, 0, 0, from, 10, 0, 0, to]);
    packet.extend_from_slice(tcp);
    packet
}

/// Panics unless the run ended well and both applications read what they should.
pub fn check(name: &str, sent: &[u8], run: &Run) {
    let (server, client) = expected(sent);
    assert_eq!(
        String::from_utf8_lossy(&run.server_read),
        String::from_utf8_lossy(&server),
        "{name}: server {run:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&run.client_read),
        String::from_utf8_lossy(&client),
        "{name}: client {run:?}"
    );
    assert!(run.is_complete, "{name}: {run:?}");
    assert_eq!(run.free_buffers, 1, "{name}: buffers come back: {run:?}");
    assert!(run.settled, "{name}: it may leave the stage: {run:?}");
}
