//! Both ends of one [`Dialogue`], with a worker between them.

use std::net::{Ipv4Addr, SocketAddrV4};

use algate_alg::{Direction, Protocol};
use algate_engine::frame::{Frame, RxChecksums};
use algate_engine::ids::NicPortId;
use algate_engine::packet::ETHERTYPE_IPV4;
use algate_engine::packet::build::{self, Ipv4Fields, TcpFields};
use algate_engine::packet::parse::{Ipv4View, Parsed, ParsedKind, parse};
use algate_engine::packet::rewrite::tcp_numbers;

use crate::frames::PoolFrame;
use crate::items::dialogues::Dialogue;
use crate::rig::{DEVICE_MAC, EXTERNAL, INTERNAL, ROUTER_MAC, Rig};

/// A control session, its client and its server.
#[derive(Debug)]
pub struct Conversation {
    dialogue: Dialogue,
    client: SocketAddrV4,
    server: SocketAddrV4,
    /// The client as the server sees it.
    seen: SocketAddrV4,
    client_end: End,
    server_end: End,
    /// What the server was told last.
    heard: Vec<u8>,
    is_asked: bool,
}

/// One end of a TCP connection, as it counts itself.
#[derive(Debug, Clone, Copy)]
struct End {
    next: u32,
    expected: u32,
}

impl Conversation {
    /// One that has not begun. Those with different numbers have different hosts.
    #[must_use]
    pub fn new(dialogue: Dialogue, number: u8) -> Self {
        let (client_l4_port, server_l4_port) = dialogue.l4_ports;
        Self {
            dialogue,
            client: SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 2 + number), client_l4_port),
            server: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9 + number), server_l4_port),
            seen: NOWHERE,
            client_end: End { next: 1000, expected: 0 },
            server_end: End { next: 5000, expected: 0 },
            heard: Vec::with_capacity(1024),
            is_asked: false,
        }
    }

    /// The handshake, if there is one, and what is said at the start.
    pub fn open(&mut self, rig: &mut Rig) {
        if self.dialogue.transport == Protocol::Tcp {
            self.exchange(rig, Direction::Original, SYN, b"");
            self.exchange(rig, Direction::Reply, SYN | ACK, b"");
            self.exchange(rig, Direction::Original, ACK, b"");
        }
        for (direction, text) in self.dialogue.opening {
            self.exchange(rig, *direction, ACK, &text());
        }
    }

    /// The client's next request.
    #[must_use]
    pub fn ask(&mut self, rig: &mut Rig) -> PoolFrame {
        self.is_asked = true;
        self.heard.clear();
        self.send(rig, Direction::Original, ACK, &(self.dialogue.request)(self.client))
    }

    /// Both ends read what has been sent to them.
    pub fn hear(&mut self, rig: &Rig) {
        for (nic_port, frame) in &rig.io.sent {
            let parsed = parse(frame.head(), frame.len(), RxChecksums::default());
            let Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) = parsed else { continue };
            let remote = if *nic_port == EXTERNAL { view.dst } else { view.src };
            if Ipv4Addr::from(remote) == *self.server.ip() {
                self.take(*nic_port, frame.head(), &view);
            }
        }
    }

    /// The server answers, if it was asked something since.
    ///
    /// # Panics
    /// When it was not told what it should have been.
    pub fn answer(&mut self, rig: &mut Rig) {
        if std::mem::take(&mut self.is_asked) {
            let Dialogue { is_right, packet_name, .. } = self.dialogue;
            let heard = &self.heard;
            assert!(is_right(self.seen, heard), "{packet_name}: {:?}", String::from_utf8_lossy(heard));
            let text = (self.dialogue.answer)(self.seen, heard);
            self.exchange(rig, Direction::Reply, ACK, &text);
        }
    }

    fn exchange(&mut self, rig: &mut Rig, direction: Direction, flags: u8, payload: &[u8]) {
        let frame = self.send(rig, direction, flags, payload);
        rig.receive(nic_port_of(direction), [frame]);
        rig.settle();
        self.hear(rig);
        rig.io.recycle();
        rig.poll();
    }

    fn send(&mut self, rig: &mut Rig, direction: Direction, flags: u8, payload: &[u8]) -> PoolFrame {
        let (end, src, dst) = match direction {
            Direction::Original => (&mut self.client_end, self.client, self.server),
            Direction::Reply => (&mut self.server_end, self.server, self.seen),
        };
        let (ip, l4_ports) =
            (Ipv4Fields::new((*src.ip()).into(), (*dst.ip()).into()), (src.port(), dst.port()));
        let mut frame = rig.frame();
        let is_built = match self.dialogue.transport {
            Protocol::Tcp => {
                let ack = if flags & ACK == 0 { 0 } else { end.expected };
                let fields = TcpFields { seq: end.next, ack, flags, window: 60_000, urgent: 0 };
                end.next += payload.len() as u32 + u32::from(flags & SYN != 0);
                build::tcp(&mut frame, &ip, l4_ports, &fields, &[], payload)
            }
            Protocol::Udp | Protocol::Gre => build::udp(&mut frame, &ip, l4_ports, payload),
        } && build::ethernet(frame.head_mut(), DEVICE_MAC, ROUTER_MAC, 0, ETHERTYPE_IPV4);
        assert!(is_built, "no room for {} bytes", payload.len());
        frame
    }

    fn take(&mut self, nic_port: NicPortId, head: &[u8], view: &Ipv4View) {
        let payload = head.get(usize::from(view.payload)..usize::from(view.end)).unwrap_or_default();
        let syn = u32::from(view.tcp_flags & SYN != 0);
        let numbers = tcp_numbers(head, view);
        let end = numbers.map_or(0, |numbers| numbers.seq + payload.len() as u32 + syn);
        if nic_port == EXTERNAL {
            self.seen = SocketAddrV4::new(view.src.into(), view.src_port);
            self.server_end.expected = end;
            self.heard.extend_from_slice(payload);
        } else {
            self.client_end.expected = end;
        }
    }
}

const fn nic_port_of(direction: Direction) -> NicPortId {
    match direction {
        Direction::Original => INTERNAL,
        Direction::Reply => EXTERNAL,
    }
}

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
