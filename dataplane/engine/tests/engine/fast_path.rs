//! The fast path against the plain one: two engines with equal keys and clocks get the same frames, and one of them
//! handles each packet step by step. They must send the same frames and count the same.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::Config;
use algate_engine::drop_reason::DropReason;
use algate_engine::frame::RxChecksum;
use algate_engine::ids::NicPortId;
use algate_engine::packet::vec_frame::VecFrame;

use crate::common::packets::{
    ACK, FIN, ICMP, RST, SYN, TCP, UDP, arp_reply_to, at, echo_reply, echo_request, icmp, mac_of,
    tcp_between, udp_between, with_dont_fragment, with_ip_byte, with_ttl,
};
use crate::common::{INSIDE, Net, OUTSIDE};

/// A tagged network behind the first port, with a smaller MTU, open to strangers; a static host, a forward.
const MORE: &str = r#"
[[interface]]
name = "guests"
nic_port = "p0"
vlan = 7
side = "internal"
addresses = ["10.0.7.1/24"]
mtu = 1280

[[nat.rule]]
internal = "10.0.7.0/24"
pool = "public"
filtering = "address_and_port_dependent"

[[nat.static]]
external = "203.0.113.30"
internal = "10.0.0.30"
inbound = "allow"

[[nat.forward]]
protocol = "tcp+udp"
external = "203.0.113.10:5000"
internal = "10.0.0.2:6000"

[alg.ftp]
enabled = true

[alg.tftp]
enabled = true
"#;

const HOSTS: [&str; 6] =
    ["10.0.0.2:5000", "10.0.0.2:6000", "10.0.0.3:5001", "10.0.0.30:5002", "10.0.7.2:5003", "10.0.7.3:5004"];
/// The last one never answers ARP.
const REMOTES: [&str; 6] = [
    "198.51.100.1:53",
    "198.51.100.2:80",
    "198.51.100.3:21",
    "198.51.100.4:69",
    "203.0.113.10:5000",
    "203.0.113.66:7",
];
const GUESTS: u16 = 7;
const SEGMENT_FLAGS: [u8; 8] = [ACK, ACK, ACK, SYN, SYN | ACK, ACK | FIN, RST, RST | ACK];

/// Both engines, and what a host knows of them.
struct Twins {
    nets: [Net; 2],
    /// Protocol, external endpoint and remote one of flows seen outside.
    flows: Vec<(u8, SocketAddrV4, SocketAddrV4)>,
    random: Random,
}

type Sent = (u16, Vec<u8>);

impl Twins {
    fn new(seed: u64, change: fn(&mut Config)) -> Self {
        let [fast, mut plain] = [0, 1].map(|_| Net::with(MORE, change));
        plain.workers = plain.workers.drain(..).map(|worker| worker.without_fast_path()).collect();
        Self { nets: [fast, plain], flows: Vec::new(), random: Random(seed) }
    }

    /// Gives both the same burst and returns what each sends, ARP aside.
    fn receive(&mut self, nic_port: u16, burst: &[VecFrame]) -> [Vec<Sent>; 2] {
        let sent = self.nets.each_mut().map(|net| {
            let mut burst = burst.to_vec();
            net.workers[0].receive(&mut net.io, net.now, NicPortId(nic_port), &mut burst);
            settle(net)
        });
        for (nic_port, frame) in &sent[0] {
            if let Some(flow) = (*nic_port == OUTSIDE).then(|| ends_of(frame)).flatten()
                && !self.flows.contains(&flow)
            {
                self.flows.push(flow);
            }
        }
        sent
    }

    /// The same for one frame, which must have the same outcome.
    fn one(&mut self, nic_port: u16, frame: VecFrame) -> Vec<Sent> {
        let [fast, plain] = self.receive(nic_port, std::slice::from_ref(&frame));
        assert_eq!(
            fast,
            plain,
            "of {:02x?}, {:?} and {:?}",
            frame.bytes(),
            self.nets[0].drops(),
            self.nets[1].drops()
        );
        fast
    }

    fn pass(&mut self, by: Duration) {
        let [fast, plain] = self.nets.each_mut().map(|net| {
            net.now = net.now.plus(by);
            settle(net)
        });
        assert_eq!(fast, plain);
    }

    /// Ends it: the ledger counts packets, and some have left in fragments.
    fn end(mut self) {
        // Nothing waits for a neighbour any more.
        (0..8).for_each(|_| self.pass(Duration::from_secs(1)));
        self.agree();
        for net in &mut self.nets {
            net.transmitted -= net.total(|c| &c.fragments_made) - net.total(|c| &c.packets_fragmented);
        }
    }

    #[track_caller]
    fn agree(&self) {
        let [fast, plain] = self.nets.each_ref().map(|net| format!("{:?}", net.engine.counters()));
        assert_eq!(fast, plain);
        let [fast, plain] = self.nets.each_ref().map(|net| format!("{:?}", net.sessions()));
        assert_eq!(fast, plain);
    }

    /// A packet of a flow that may exist or not, as some host would send it: port, frame.
    fn packet(&mut self) -> (u16, Vec<u8>) {
        let random = &mut self.random;
        let (nic_port, protocol, source, destination) = if random.one_in(2) || self.flows.is_empty() {
            let (host, remote) = (at(random.of(&HOSTS)), at(random.of(&REMOTES)));
            (INSIDE, random.of(&[UDP, UDP, TCP, TCP, ICMP]), host, remote)
        } else {
            let (protocol, external, remote) = random.of(&self.flows);
            let remote = if random.one_in(8) { at(random.of(&REMOTES)) } else { remote };
            (OUTSIDE, protocol, remote, external)
        };
        let payload: &[u8] = match random.below(16) {
            0 => &[0x55; 1_300],
            1 => &[0; 0],
            2 => &[0xff; 1_460],
            _ => b"some bytes",
        };
        let frame = match protocol {
            UDP => udp_between(source, destination, payload),
            TCP => tcp_between(source, destination, random.of(&SEGMENT_FLAGS), payload),
            _ => {
                let [host, peer] = [source, destination].map(|end| end.ip().to_string());
                let l4_port = source.port().max(destination.port());
                match random.below(8) {
                    0 => icmp(&host, &peer, (3, 1), [0; 4], &udp_between(destination, source, b"")[14..]),
                    n if n % 2 == 0 => echo_request(&host, &peer, l4_port),
                    _ => echo_reply(&host, &peer, l4_port),
                }
            }
        };
        let frame = if random.one_in(2) { with_dont_fragment(frame) } else { frame };
        (nic_port, if source.ip().octets()[2] == 7 { tagged(frame, GUESTS) } else { frame })
    }

    /// The same with something odd about it, most of the time.
    fn odd_packet(&mut self) -> (u16, VecFrame) {
        let (nic_port, frame) = self.packet();
        (nic_port, self.random.spoil(frame))
    }
}

/// Lets the worker do what is due and the neighbours answer; what is sent meanwhile.
fn settle(net: &mut Net) -> Vec<Sent> {
    let mut all = Vec::new();
    loop {
        let worker = &mut net.workers[0];
        let is_busy = worker.poll(&mut net.io, net.now);
        let sent = net.io.take();
        if !is_busy && sent.is_empty() {
            return all;
        }
        for (nic_port, frame) in sent {
            let bytes = frame.bytes();
            net.transmitted += u64::from(ethertype(&bytes) == 0x0800);
            let (vlan, plain) = without_tag(&bytes);
            let reply = arp_reply_to(nic_port.0, &plain).filter(|reply| reply[28..32] != [203, 0, 113, 66]);
            if let Some(reply) = reply {
                let reply = vlan.map_or(reply.clone(), |vlan| tagged(reply, vlan));
                let mut burst = vec![VecFrame::from_bytes(&reply)];
                net.workers[0].receive(&mut net.io, net.now, nic_port, &mut burst);
            }
            all.push((nic_port.0, bytes));
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX multiplier; the high bits are the random ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn spoil(&mut self, mut frame: Vec<u8>) -> VecFrame {
        let is_tagged = frame[12..14] == [0x81, 0];
        let l3 = if is_tagged { 18 } else { 14 };
        let byte = self.below(256) as u8;
        match self.below(60) {
            0 if !is_tagged => frame = with_ttl(frame, byte % 3),
            // More fragments, or an offset.
            1 if !is_tagged => frame = with_ip_byte(frame, 6, 0x20),
            2 if !is_tagged => frame = with_ip_byte(frame, 7, 1),
            3 => frame[l3 + 10] ^= 1,
            4 => frame[l3 + 24] ^= byte,
            5 => frame[l3 + 26] ^= byte,
            6 if frame[l3 + 9] == UDP => frame[l3 + 26..l3 + 28].fill(0),
            7 | 8 if frame[l3 + 9] == TCP => frame[l3 + 32] ^= byte,
            // The length that the IPv4 header tells.
            9 if !is_tagged => frame = with_ip_byte(frame, 3, byte),
            10 if !is_tagged => frame = with_options(frame),
            11 => frame.truncate(usize::from(byte)),
            12 => frame.extend([0; 40]),
            13 => frame[5] ^= 1,
            14 => frame[0] |= 1,
            15 => frame = tagged(frame, u16::from(byte % 9)),
            16 => frame[12] ^= byte,
            17 if !is_tagged => frame = with_ip_byte(frame, 12, byte),
            18 if !is_tagged => frame = with_ip_byte(frame, 16, byte),
            19 if !is_tagged => frame = with_ip_byte(frame, 9, byte),
            20 => {
                let at = self.below(frame.len() as u64) as usize;
                frame[at] ^= byte;
            }
            21 if frame[l3 + 9] == TCP => frame[l3 + 24..l3 + 32].rotate_left(usize::from(byte % 8)),
            _ => {}
        }
        let frame = match self.below(8) {
            0 => {
                let cut = (self.below(80) as usize).min(frame.len());
                VecFrame::from_segments(&[&frame[..cut], &frame[cut..]])
            }
            _ => VecFrame::from_bytes(&frame),
        };
        match self.below(24) {
            0 => frame.with_rx_checksums(RxChecksum::Bad, RxChecksum::Good),
            1 => frame.with_rx_checksums(RxChecksum::Good, RxChecksum::Bad),
            2..8 => frame.with_rx_checksums(RxChecksum::Good, RxChecksum::Good),
            _ => frame,
        }
    }
}

fn ethertype(frame: &[u8]) -> u16 {
    u16::from_be_bytes(without_tag(frame).1[12..14].try_into().unwrap())
}

fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [a, b] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0, a, b]);
    frame
}

fn without_tag(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    if frame[12..14] != [0x81, 0] {
        return (None, frame.to_vec());
    }
    let vlan = u16::from_be_bytes([frame[14], frame[15]]);
    (Some(vlan), [&frame[..12], &frame[16..]].concat())
}

/// With four bytes of no operation behind the IPv4 header.
fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(34..34, [1, 1, 1, 0]);
    let length = u16::from_be_bytes([frame[16], frame[17]]) + 4;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    with_ip_byte(frame, 0, 0x46)
}

/// Protocol, external endpoint and remote one of a packet that leaves for the world.
fn ends_of(frame: &[u8]) -> Option<(u8, SocketAddrV4, SocketAddrV4)> {
    let is_whole =
        frame[12..15] == [8, 0, 0x45] && frame[20] & 0x3f == 0 && frame[21] == 0 && frame.len() >= 42;
    let l4_port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap();
    let end = |at: usize, l4_port: u16| SocketAddrV4::new(address(at).into(), l4_port);
    match frame[23] {
        protocol @ (TCP | UDP) if is_whole => Some((protocol, end(26, l4_port(34)), end(30, l4_port(36)))),
        ICMP if is_whole && frame[34] == 8 => Some((ICMP, end(26, l4_port(38)), end(30, 0))),
        _ => None,
    }
}

fn unchanged(_: &mut Config) {}

#[test]
fn one_packet_after_the_other_has_the_same_outcome_on_both_paths() {
    for seed in 0..8 {
        let mut twins = Twins::new(seed, unchanged);
        let mut sent = 0;
        for round in 0..1_500 {
            let (nic_port, frame) = twins.odd_packet();
            sent += twins.one(nic_port, frame).len();
            if twins.random.one_in(40) {
                let seconds = twins.random.of(&[0, 1, 1, 5, 30, 200, 400]);
                twins.pass(Duration::from_millis(1_000 * seconds + 300));
            }
            if round % 100 == 0 {
                twins.agree();
            }
        }
        assert!(sent > 300, "{sent} {:?}", twins.nets[0].drops());
        let counters = &twins.nets[0].engine.counters()[0];
        for reason in [
            DropReason::BadIpv4Checksum,
            DropReason::NotForUs,
            DropReason::UnknownVlan,
            DropReason::TtlExceeded,
        ] {
            assert!(counters.drops.of(reason) > 0, "{reason:?}: {:?}", twins.nets[0].drops());
        }
        twins.end();
    }
}

#[test]
fn bursts_of_anything_leave_in_their_order_on_both_paths() {
    for seed in 0..8 {
        // What an ALG still repeats would keep its session alive while the ledger skips hours.
        let mut twins = Twins::new(seed, |config| {
            config.alg.ftp.gateway.enabled = false;
            config.alg.tftp.enabled = false;
        });
        let mut sent = 0;
        for round in 0..60 {
            // Less than a batch, a batch, several and a rest.
            let wanted = twins.random.of(&[1, 2, 15, 16, 17, 32, 33, 48, 100]);
            let nic_port = if round % 2 == 0 { INSIDE } else { OUTSIDE };
            let mut burst = Vec::new();
            while burst.len() < wanted {
                let (arrives_on, frame) = twins.odd_packet();
                if arrives_on == nic_port || twins.flows.is_empty() {
                    burst.push(frame);
                }
            }
            let [fast, plain] = twins.receive(nic_port, &burst);
            let odd_one = fast.iter().zip(&plain).find(|(fast, plain)| fast != plain);
            assert!(odd_one.is_none() && fast.len() == plain.len(), "{odd_one:02x?}");
            sent += fast.len();
            twins.agree();
            twins.pass(Duration::from_millis(300 + 1_000 * u64::from(round % 7 == 0)));
        }
        assert!(sent > 300, "{sent} {:?}", twins.nets[0].drops());
        twins.end();
    }
}

#[test]
fn bursts_of_known_flows_leave_in_their_order_on_both_paths() {
    for seed in 0..8 {
        let mut twins = Twins::new(seed, unchanged);
        for host in HOSTS {
            for remote in &REMOTES[..2] {
                twins.one(INSIDE, from_host(host, udp_between(at(host), at(remote), b"first")));
                twins.one(INSIDE, from_host(host, tcp_between(at(host), at(remote), SYN, b"")));
            }
        }
        let flows = twins.flows.clone();
        for (protocol, external, remote) in &flows {
            let answer = match *protocol {
                TCP => tcp_between(*remote, *external, SYN | ACK, b""),
                _ => udp_between(*remote, *external, b"answer"),
            };
            assert!(!twins.one(OUTSIDE, VecFrame::from_bytes(&answer)).is_empty());
        }
        for round in 0..60_u8 {
            let is_inbound = round % 2 == 0;
            let burst: Vec<VecFrame> =
                (0..48_u8).map(|number| twins.known(is_inbound, &flows, [round, number])).collect();
            let nic_port = if is_inbound { OUTSIDE } else { INSIDE };
            let [fast, plain] = twins.receive(nic_port, &burst);
            assert_eq!(fast, plain);
            assert!(fast.len() > 24);
            twins.pass(Duration::from_millis(300));
        }
        twins.end();
    }
}

impl Twins {
    /// A packet of a session that exists, its number in the payload; or one that dies.
    fn known(
        &mut self,
        is_inbound: bool,
        flows: &[(u8, SocketAddrV4, SocketAddrV4)],
        number: [u8; 2],
    ) -> VecFrame {
        let random = &mut self.random;
        let (host, remote, protocol) = if is_inbound {
            let (protocol, external, remote) = random.of(flows);
            (remote, external, protocol)
        } else {
            (at(random.of(&HOSTS)), at(random.of(&REMOTES[..2])), random.of(&[UDP, TCP]))
        };
        let frame = match protocol {
            UDP => udp_between(host, remote, &number),
            _ => tcp_between(host, remote, ACK, &number),
        };
        let frame = if random.one_in(2) { with_dont_fragment(frame) } else { frame };
        let frame = match random.below(12) {
            0 => with_ttl(frame, random.below(3) as u8),
            1 => with_ip_byte(frame, 1, 0x10),
            2 => [&frame[..frame.len() - 1], &[0; 9]].concat(),
            _ => frame,
        };
        let source = host.to_string();
        match random.below(12) {
            0 => VecFrame::from_bytes(&frame[..20]),
            1 => VecFrame::from_bytes(&[&mac_of([1; 4]), &frame[6..]].concat()),
            _ => from_host(&source, frame),
        }
    }
}

/// As it arrives from the network of `host`.
fn from_host(host: &str, frame: Vec<u8>) -> VecFrame {
    let is_guest = host.starts_with("10.0.7.");
    VecFrame::from_bytes(&if is_guest { tagged(frame, GUESTS) } else { frame })
}
