//! The FTP ALG: a PORT line by itself, and in its segment through worker, stream layer, ALG and NAT.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_alg::{
    Alg, AllowAll, Announced, Context, Direction, Edits, Events, ExpectError, Expectation, ExpectationId,
    Ftp, FtpSettings, Injections, Nat, Peer, SessionEndpoints, Step, Verdict,
};
use algate_engine::frame::{Frame, RxChecksums};
use algate_engine::ids::NicPortId;
use algate_engine::packet::ETHERTYPE_IPV4;
use algate_engine::packet::build::{self, Ipv4Fields, TcpFields};
use algate_engine::packet::parse::{Parsed, ParsedKind, parse};
use algate_engine::packet::rewrite::tcp_numbers;

use crate::frames::PoolFrame;
use crate::rig::{DEVICE_MAC, EXTERNAL, INTERNAL, ROUTER_MAC, Rig};
use crate::sample::Item;

/// `Ftp::inspect` of a PORT command that is rewritten; the reply in between is not measured.
pub struct Line {
    alg: Ftp,
    edits: Edits,
    inject: Injections,
    events: Events,
}

impl Default for Line {
    fn default() -> Self {
        let mut line = Self {
            alg: Ftp::new(FtpSettings::default()),
            edits: Edits::with_capacity(4, 256),
            inject: Injections::with_capacity(4, 256),
            events: Events::default(),
        };
        line.inspect(Direction::Reply, b"220 ready\r\n");
        line
    }
}

impl Line {
    fn inspect(&mut self, direction: Direction, input: &[u8]) -> Step {
        self.edits.clear();
        let mut cx = Context {
            endpoints: &ENDPOINTS,
            nat: &mut OneAnswer,
            policy: &mut AllowAll,
            edits: &mut self.edits,
            inject: &mut self.inject,
            events: &mut self.events,
            at_end: false,
        };
        self.alg.inspect(direction, input, &mut cx)
    }
}

impl Item for Line {
    fn name(&self) -> String {
        "ftp_line".to_owned()
    }

    fn prepare(&mut self) {
        self.inspect(Direction::Reply, REPLY);
    }

    fn chunk(&mut self) -> Option<u64> {
        let step = self.inspect(Direction::Original, black_box(COMMAND));
        matches!(step, Step::Message { verdict: Verdict::Rewrite, .. }).then_some(1)
    }
}

/// A segment with a PORT command, from received frame to sent frame; the rest of the dialogue is not
/// measured.
#[derive(Debug)]
pub struct Segment {
    rig: Rig,
    client: End,
    server: End,
    /// The client as the server sees it.
    external: SocketAddrV4,
    ready: Option<PoolFrame>,
}

/// One end of the connection, as it counts itself.
#[derive(Debug, Clone, Copy)]
struct End {
    next: u32,
    expected: u32,
}

impl Default for Segment {
    fn default() -> Self {
        let mut segment = Self {
            rig: Rig::new(1024),
            client: End { next: 1000, expected: 0 },
            server: End { next: 5000, expected: 0 },
            external: NOWHERE,
            ready: None,
        };
        segment.exchange(INTERNAL, SYN, b"");
        segment.exchange(EXTERNAL, SYN | ACK, b"");
        segment.exchange(INTERNAL, ACK, b"");
        segment.exchange(EXTERNAL, ACK, b"220 ready\r\n");
        segment
    }
}

impl Segment {
    /// The end on the side of `nic_port` sends, the other one reads.
    fn exchange(&mut self, nic_port: NicPortId, flags: u8, payload: &[u8]) {
        let frame = self.send(nic_port, flags, payload);
        self.rig.receive(nic_port, [frame]);
        self.read();
    }

    /// What the end on the side of `nic_port` sends next.
    fn send(&mut self, nic_port: NicPortId, flags: u8, payload: &[u8]) -> PoolFrame {
        let (end, src, dst) = match nic_port {
            INTERNAL => (&mut self.client, ENDPOINTS.originator, ENDPOINTS.responder),
            _ => (&mut self.server, ENDPOINTS.responder, self.external),
        };
        let ack = if flags & ACK == 0 { 0 } else { end.expected };
        let fields = TcpFields { seq: end.next, ack, flags, window: 60_000, urgent: 0 };
        end.next += payload.len() as u32 + u32::from(flags & SYN != 0);
        let ip = Ipv4Fields::new((*src.ip()).into(), (*dst.ip()).into());
        let mut frame = self.rig.frame();
        let is_built = build::tcp(&mut frame, &ip, (src.port(), dst.port()), &fields, &[], payload)
            && build::ethernet(frame.head_mut(), DEVICE_MAC, ROUTER_MAC, 0, ETHERTYPE_IPV4);
        debug_assert!(is_built);
        frame
    }

    /// Both ends read what came out.
    fn read(&mut self) {
        for (nic_port, frame) in &self.rig.io.sent {
            let parsed = parse(frame.head(), frame.len(), RxChecksums::default());
            let Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) = parsed else { continue };
            let Some(numbers) = tcp_numbers(frame.head(), &view) else { continue };
            let syn = u32::from(view.tcp_flags & SYN);
            let end = numbers.seq + u32::from(view.payload_bytes()) + (syn >> 1);
            if *nic_port == EXTERNAL {
                self.external = SocketAddrV4::new(view.src.into(), view.src_port);
                self.server.expected = end;
            } else {
                self.client.expected = end;
            }
        }
        self.rig.io.recycle();
    }
}

impl Item for Segment {
    fn name(&self) -> String {
        "ftp_segment".to_owned()
    }

    fn prepare(&mut self) {
        self.read();
        self.exchange(EXTERNAL, ACK, REPLY);
        self.rig.poll();
        self.ready = Some(self.send(INTERNAL, ACK, COMMAND));
    }

    fn chunk(&mut self) -> Option<u64> {
        self.rig.receive(INTERNAL, self.ready.take());
        (self.rig.io.sent.len() == 1).then_some(1)
    }
}

/// A NAT that always announces the same endpoint.
struct OneAnswer;

impl Nat for OneAnswer {
    fn expect(&mut self, _request: &Expectation) -> Result<Announced, ExpectError> {
        let endpoint = SocketAddrV4::new(*ENDPOINTS.originator_seen.ip(), 40_000);
        Ok(Announced { id: ExpectationId(1), endpoint })
    }

    fn expect_pair(&mut self, _request: &Expectation) -> Result<[Announced; 2], ExpectError> {
        Err(ExpectError::PoolExhausted)
    }

    fn renew(&mut self, _expectation: ExpectationId, _lifetime: Duration, _peer: Option<Peer>) -> bool {
        true
    }

    fn withdraw(&mut self, _expectation: ExpectationId) {}
}

const ENDPOINTS: SessionEndpoints = SessionEndpoints {
    originator: SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 2), 40_000),
    originator_seen: SocketAddrV4::new(Ipv4Addr::new(198, 19, 0, 240), 50_000),
    responder: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 21),
    responder_seen: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 21),
};
const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
const COMMAND: &[u8] = b"PORT 10,64,0,2,15,161\r\n";
const REPLY: &[u8] = b"200 PORT command successful.\r\n";
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_rewritten() {
        let mut line = Line::default();
        for _ in 0..100 {
            line.prepare();
            assert_eq!(line.chunk(), Some(1));
            assert_eq!(line.edits.iter().count(), 1);
        }
    }

    #[test]
    fn each_segment_leaves_with_the_external_address() {
        let mut segment = Segment::default();
        for _ in 0..1000 {
            segment.prepare();
            assert_eq!(segment.chunk(), Some(1));
            let (nic_port, frame) = &segment.rig.io.sent[0];
            assert_eq!(*nic_port, EXTERNAL);
            assert!(frame.head()[54..].starts_with(b"PORT 198,19,0,"), "{frame:?}");
        }
    }
}
