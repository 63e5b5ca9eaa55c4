//! A site under test: the engine between `10.0.0.0/24` and the world, and a receiver's view of what comes out.
//!
//! Packets are made by etherparse and cut by hand; what comes out is put together and judged here, never by
//! the engine's own code. When a [`Site`] is dropped its ledger is checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use algate_config::{Config, Machine};
use algate_engine::alg_stage::handover::Handover;
use algate_engine::counters::{Counter, WorkerCounters};
use algate_engine::drop_reason::DropReason;
use algate_engine::engine::Engine;
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::packet::arp::{ArpOperation, ArpPacket};
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use algate_engine::time::Instant;
use algate_engine::worker::Worker;
use etherparse::{Icmpv4Type, PacketBuilder};

pub(crate) const INSIDE: u16 = 0;
pub(crate) const OUTSIDE: u16 = 1;
/// algate's own address outside.
pub(crate) const OWN: &str = "203.0.113.2";
/// The only address of the pool.
pub(crate) const POOL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// On the outside link, so that nothing needs a route.
pub(crate) const SERVER: &str = "203.0.113.99:53";

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const SITE: &str = r#"
[[nic_port]]
name = "p0"
device = { driver = "null" }

[[nic_port]]
name = "p1"
device = { driver = "null" }

[[interface]]
name = "lan"
nic_port = "p0"
side = "internal"
addresses = ["10.0.0.1/24"]

[[nat.pool]]
name = "public"
addresses = ["203.0.113.10"]

[[nat.rule]]
internal = "10.0.0.0/24"
pool = "public"

[[nat.forward]]
protocol = "udp"
external = "203.0.113.10:53"
internal = "10.0.0.9:5353"

[alg.ftp]
enabled = true

[tables]
sessions = 4096
alg_flows = 4
neighbors = 1024
"#;

pub(crate) struct Site {
    pub(crate) engine: Arc<Engine>,
    pub(crate) workers: Vec<Worker<VecFrame>>,
    io: VecIo,
    pub(crate) now: Instant,
    /// The worker that receives the next frames.
    pub(crate) receiver: usize,
    /// Frames that go in at once.
    pub(crate) burst: usize,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(1, 1_500, "")
    }

    /// `cores` workers, an outside MTU, more `toml`.
    pub(crate) fn with(cores: usize, mtu: u16, toml: &str) -> Self {
        let cores: Vec<usize> = (1..=cores).collect();
        let text = format!(
            "[workers]\ncores = {cores:?}\n{SITE}\n[[interface]]\nname = \"wan\"\nnic_port = \"p1\"\n\
             side = \"external\"\naddresses = [\"{OWN}/24\"]\nmtu = {mtu}\n{toml}"
        );
        let config = Config::parse(&text, "site.toml", &Machine::unchecked());
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let engine = Arc::new(Engine::new(&config, &MACS, [1, 2, 3, 4]));
        let handover = Arc::new(Handover::new(engine.threads(), config.workers.handover_packets));
        let now = Instant::from_nanos(1_000_000_000);
        let worker = |id: usize| {
            let id = WorkerId(u16::try_from(id).unwrap());
            Worker::new(Arc::clone(&engine), Arc::clone(&handover), id, now).unwrap()
        };
        let workers = (0..engine.threads()).map(worker).collect();
        let mut site = Self { engine, workers, io: VecIo::default(), now, receiver: 0, burst: 32 };
        // Everyone is a known neighbour: few packets may wait for ARP.
        for host in 2..=10 {
            let hello = udp(&format!("10.0.0.{host}:1"), SERVER, 0, 30);
            assert_eq!(site.send(INSIDE, &[with_header(hello, |header| header[6] = 0x40)]).len(), 1);
        }
        assert_eq!(site.send(OUTSIDE, &[udp(SERVER, "203.0.113.10:53", 0, 30)]).len(), 1);
        site
    }

    /// Puts IPv4 packets on a port's wire and returns those that come out, on any port.
    pub(crate) fn send(&mut self, nic_port: u16, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        for burst in packets.chunks(self.burst) {
            let mut burst: Vec<VecFrame> = burst
                .iter()
                .map(|packet| VecFrame::from_bytes(&ethernet(nic_port, &[&[8, 0], packet])))
                .collect();
            self.workers[self.receiver].receive(&mut self.io, self.now, NicPortId(nic_port), &mut burst);
            seen.extend(self.collect());
        }
        seen.extend(self.poll());
        seen
    }

    pub(crate) fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        for _ in 0..20 {
            for worker in &mut self.workers {
                worker.poll(&mut self.io, self.now);
            }
            seen.extend(self.collect());
        }
        seen
    }

    pub(crate) fn advance(&mut self, by: Duration) -> Vec<Vec<u8>> {
        self.now = self.now.plus(by);
        self.poll()
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.engine.counters().iter().map(|counters| counters.drops.of(reason)).sum()
    }

    pub(crate) fn total(&self, counter: fn(&WorkerCounters) -> &Counter) -> u64 {
        self.engine.counters().iter().map(|counters| counter(counters).value()).sum()
    }

    pub(crate) fn kept(&self) -> u64 {
        self.workers.iter().map(|worker| worker.kept_fragments() as u64).sum()
    }

    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = DropReason::ALL.iter().map(|reason| (reason.text(), self.dropped(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// From now on the mempool has `frames` left.
    pub(crate) fn limit_mempool(&mut self, frames: usize) {
        self.io.mempool_frames = Some(frames);
    }

    /// Takes what was transmitted; everyone answers ARP.
    fn collect(&mut self) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        for (nic_port, frame) in self.io.take() {
            let bytes = frame.bytes();
            let tag_bytes = if bytes[12..14] == [0x81, 0] { 4 } else { 0 };
            let (tag, after) = bytes[12..].split_at(tag_bytes);
            let (ethertype, packet) = after.split_at(2);
            if ethertype == [8, 0] {
                seen.push(packet.to_vec());
            } else if let Some(reply) = arp_reply(packet) {
                let reply = VecFrame::from_bytes(&ethernet(nic_port.0, &[tag, ethertype, &reply]));
                self.workers[self.receiver].receive(&mut self.io, self.now, nic_port, &mut vec![reply]);
            }
        }
        seen
    }

    /// Every frame that came in has gone on, died for a reason, or waits.
    #[track_caller]
    pub(crate) fn check_ledger(&self) {
        let died: u64 = DropReason::ALL.iter().map(|reason| self.dropped(*reason)).sum();
        let accounted = self.total(|c| &c.forwarded)
            + self.total(|c| &c.arp)
            + self.total(|c| &c.local)
            + self.total(|c| &c.alg.segments_in)
            + self.total(|c| &c.fragments_merged)
            + self.kept()
            + died;
        assert_eq!(self.total(|c| &c.received), accounted, "{:?}", self.drops());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.poll();
            self.check_ledger();
            for _ in 0..1_000 {
                self.advance(Duration::from_secs(3));
                if self.kept() == 0 {
                    break;
                }
            }
            assert_eq!(self.kept(), 0, "frames are kept for ever");
            self.check_ledger();
        }
    }
}

fn ethernet(nic_port: u16, payload: &[&[u8]]) -> Vec<u8> {
    let mut frame = MACS[usize::from(nic_port)].to_vec();
    frame.extend([6, 0, 0, 0, 0, 9]);
    payload.iter().for_each(|part| frame.extend(*part));
    frame
}

fn arp_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let request = ArpPacket::parse(packet).ok()?;
    let reply = ArpPacket {
        operation: ArpOperation::Reply,
        sender_mac: [6, 0, 0, 0, 0, 9],
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    (request.operation == ArpOperation::Request).then(|| reply.emit().to_vec())
}

/// A UDP datagram with this identification and DF clear, `bytes` long with its headers.
pub(crate) fn udp(source: &str, destination: &str, identification: u16, bytes: usize) -> Vec<u8> {
    let (source, destination): (SocketAddrV4, SocketAddrV4) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let payload: Vec<u8> = (0..bytes - 28).map(|at| (at * 7 + at / 256) as u8).collect();
    let builder = PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 64)
        .udp(source.port(), destination.port());
    let mut packet = Vec::new();
    builder.write(&mut packet, &payload).unwrap();
    with_header(packet, |header| {
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[6..8].fill(0);
    })
}

/// An ICMP message, `bytes` long with its headers.
pub(crate) fn icmp(
    source: &str,
    destination: &str,
    (type_u8, code_u8): (u8, u8),
    bytes5to8: [u8; 4],
    bytes: usize,
) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let payload: Vec<u8> = (0..bytes - 28).map(|at| (at * 11) as u8).collect();
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .icmpv4(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 });
    let mut packet = Vec::new();
    builder.write(&mut packet, &payload).unwrap();
    with_header(packet, |header| header[4..8].copy_from_slice(&[0x12, 0x34, 0, 0]))
}

/// The packet with its IPv4 header changed and that header's checksum made right.
pub(crate) fn with_header(mut packet: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let header_bytes = usize::from(packet[0] & 15) * 4;
    let header = &mut packet[..header_bytes];
    change(header);
    header[10..12].fill(0);
    let field = !sum(header, 0);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    packet
}

/// One fragment of `packet`: the data from `start` to `end`.
pub(crate) fn piece(packet: &[u8], start: usize, end: usize) -> Vec<u8> {
    let header_bytes = usize::from(packet[0] & 15) * 4;
    let data = &packet[header_bytes..];
    let more = if end < data.len() { 0x2000 } else { 0 };
    let mut fragment = packet[..header_bytes].to_vec();
    fragment.extend(&data[start..end]);
    let total = fragment.len() as u16;
    with_header(fragment, |header| {
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[6..8].copy_from_slice(&(more | (start / 8) as u16).to_be_bytes());
    })
}

/// `packet` cut into fragments with `data_bytes` each, as a host does it.
pub(crate) fn pieces(packet: &[u8], data_bytes: usize) -> Vec<Vec<u8>> {
    let length = packet.len() - usize::from(packet[0] & 15) * 4;
    (0..length).step_by(data_bytes).map(|at| piece(packet, at, length.min(at + data_bytes))).collect()
}

/// What a receiver makes of packets: whole ones, each with right checksums, in the order of their last
/// fragment. What stays incomplete is left out. Overlaps are a mistake.
#[track_caller]
pub(crate) fn received(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts: BTreeMap<Vec<u8>, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
    for packet in packets {
        let header_bytes = usize::from(packet[0] & 15) * 4;
        assert_eq!(sum(&packet[..header_bytes], 0), 0xffff, "IPv4 checksum");
        assert_eq!(packet.len(), usize::from(word(packet, 2)), "total length");
        let key = [&packet[4..6], &packet[9..10], &packet[12..20]].concat();
        let start = usize::from(word(packet, 6) & 0x1fff) * 8;
        let part = parts.entry(key.clone()).or_default();
        assert!(part.insert(start, packet.clone()).is_none(), "a fragment came twice");
        if let Some(packet) = put_together(part) {
            verify_l4(&packet);
            whole.push(packet);
            parts.remove(&key);
        }
    }
    whole
}

fn put_together(parts: &BTreeMap<usize, Vec<u8>>) -> Option<Vec<u8>> {
    let first = parts.get(&0)?;
    let mut packet = first[..usize::from(first[0] & 15) * 4].to_vec();
    let mut next = 0;
    for (start, part) in parts {
        if *start != next {
            assert!(*start > next, "overlap");
            return None;
        }
        let data = &part[usize::from(part[0] & 15) * 4..];
        packet.extend(data);
        next += data.len();
        if word(part, 6) & 0x2000 == 0 {
            let total = packet.len() as u16;
            return Some(with_header(packet, |header| {
                header[2..4].copy_from_slice(&total.to_be_bytes());
                header[6..8].fill(0);
            }));
        }
    }
    None
}

#[track_caller]
fn verify_l4(packet: &[u8]) {
    let l4 = l4(packet);
    let pseudo: u64 = (12..20).step_by(2).map(|at| u64::from(word(packet, at))).sum();
    let start = if packet[9] == 1 { 0 } else { pseudo + u64::from(packet[9]) + l4.len() as u64 };
    assert_eq!(sum(l4, start), 0xffff, "L4 checksum of {} bytes", packet.len());
}

/// The L4 header and what follows.
pub(crate) fn l4(packet: &[u8]) -> &[u8] {
    &packet[usize::from(packet[0] & 15) * 4..]
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Source and destination of a packet with ports.
pub(crate) fn ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let l4 = l4(packet);
    (SocketAddrV4::new(address(12), word(l4, 0)), SocketAddrV4::new(address(16), word(l4, 2)))
}

fn sum(bytes: &[u8], start: u64) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        total += (u64::from(pair[0]) << 8) | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
