//! What the rules are written in: segments in, the text of the segments that come out.

use std::fmt::Write;
use std::time::Duration;

use crate::stream_net::{LineAlg, NullNat, endpoints};
use algate_alg::*;
use algate_engine::stream::options::TcpOptions;
use algate_engine::stream::segment::{Outgoing, TcpFlags, TcpSegment};
use algate_engine::stream::seq::SeqNum;
use algate_engine::stream::*;
use algate_engine::time::Instant;

pub(crate) const CLIENT_ISN: u32 = u32::MAX - 9;
pub(crate) const SERVER_ISN: u32 = u32::MAX - 4;

/// One segment from an end, numbers relative.
#[derive(Clone)]
pub(crate) struct Seg {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn seg(seq: u32, ack: u32, data: &str) -> Seg {
    let flags = if data.is_empty() { TcpFlags::ACK } else { TcpFlags::ACK.with(TcpFlags::PSH) };
    Seg { seq, ack, flags, window: 1000, urgent: 0, options: Vec::new(), data: data.as_bytes().to_vec() }
}

impl Seg {
    pub(crate) fn flags(self, flags: TcpFlags) -> Self {
        Self { flags, ..self }
    }
    pub(crate) fn fin(self) -> Self {
        let flags = self.flags.with(TcpFlags::FIN);
        self.flags(flags)
    }
    pub(crate) fn win(self, window: u16) -> Self {
        Self { window, ..self }
    }
    pub(crate) fn opt(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }
    pub(crate) fn times(self, value: u32, echo: u32) -> Self {
        let mut options = vec![1, 1, 8, 10];
        options.extend_from_slice(&value.to_be_bytes());
        options.extend_from_slice(&echo.to_be_bytes());
        self.opt(&options)
    }
    /// A SACK block about the other end's bytes, relative to `isn`.
    pub(crate) fn sack(mut self, isn: u32, blocks: &[(u32, u32)]) -> Self {
        self.options.extend_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (left, right) in blocks {
            self.options.extend_from_slice(&isn.wrapping_add(*left).to_be_bytes());
            self.options.extend_from_slice(&isn.wrapping_add(*right).to_be_bytes());
        }
        self
    }
}

/// Writes down what the stage emits.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<String>,
    pub(crate) has_no_buffers: bool,
}

impl Emit for Log {
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool {
        if self.has_no_buffers {
            return false;
        }
        let (arrow, isn, other_isn) = match direction {
            Direction::Original => ('>', CLIENT_ISN, SERVER_ISN),
            Direction::Reply => ('<', SERVER_ISN, CLIENT_ISN),
        };
        let mut line = format!("{arrow} ");
        for (flag, letter) in [
            (TcpFlags::SYN, 'S'),
            (TcpFlags::FIN, 'F'),
            (TcpFlags::RST, 'R'),
            (TcpFlags::PSH, 'P'),
            (TcpFlags::URG, 'U'),
            (TcpFlags::ECE, 'E'),
            (TcpFlags::CWR, 'C'),
            (TcpFlags::ACK, '.'),
        ] {
            if segment.flags.has(flag) {
                line.push(letter);
            }
        }
        let data = segment.payload.concat();
        let seq = segment.seq.0.wrapping_sub(isn).cast_signed();
        let end = seq + data.len() as i32;
        let ack = segment.ack.0.wrapping_sub(other_isn);
        write!(line, " {seq}..{end} ack {ack} win {}", segment.window).unwrap();
        if segment.flags.has(TcpFlags::URG) {
            write!(line, " urg {}", segment.urgent).unwrap();
        }
        if !data.is_empty() {
            write!(line, " {:?}", String::from_utf8_lossy(&data)).unwrap();
        }
        let options = TcpOptions::parse(segment.options);
        if let Some(timestamps) = options.timestamps {
            write!(line, " ts {} {}", timestamps.value, timestamps.echo).unwrap();
        }
        for (left, right) in options.sack.iter() {
            let relative = |edge: SeqNum| edge.0.wrapping_sub(other_isn).cast_signed();
            write!(line, " sack {}..{}", relative(left), relative(right)).unwrap();
        }
        self.lines.push(line);
        true
    }
}

pub(crate) struct Stage {
    pub(crate) stream: TcpStream,
    pub(crate) memory: StreamMemory,
    pub(crate) limits: StreamLimits,
    pub(crate) alg: LineAlg,
    pub(crate) log: Log,
    pub(crate) now: Instant,
}

pub(crate) fn limits() -> StreamLimits {
    StreamLimits { held_bytes: 2000, ..StreamLimits::default() }
}

impl Stage {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        Self {
            stream: TcpStream::new(),
            memory: StreamMemory::new(limits, 1),
            limits,
            alg: LineAlg::default(),
            log: Log::default(),
            now: Instant::default(),
        }
    }

    /// Behind a handshake whose SYNs had `options`.
    pub(crate) fn open_with(limits: StreamLimits, client: &[u8], server: &[u8]) -> Self {
        let mut stage = Self::new(limits);
        let syn = seg(0, 0, "").flags(TcpFlags::SYN).opt(client);
        assert_eq!(stage.segment(Direction::Original, &Seg { ack: 0, ..syn }), Outcome::Taken);
        let answer = seg(0, 1, "").flags(TcpFlags::SYN.with(TcpFlags::ACK)).opt(server);
        assert_eq!(stage.segment(Direction::Reply, &answer), Outcome::Taken);
        let mut third = seg(1, 1, "");
        if client.contains(&8) {
            third = third.times(10, 20);
        }
        assert_eq!(stage.segment(Direction::Original, &third), Outcome::Taken);
        assert_eq!(stage.log.lines.len(), 3);
        stage.log.lines.clear();
        stage
    }

    pub(crate) fn open() -> Self {
        Self::open_with(limits(), &MSS, &MSS)
    }

    pub(crate) fn call<R>(
        &mut self,
        f: impl FnOnce(&mut TcpStream, Instant, &mut StreamContext<'_>) -> R,
    ) -> R {
        let mut cx = StreamContext {
            alg: &mut self.alg,
            endpoints: &endpoints(),
            nat: &mut NullNat,
            policy: &mut AllowAll,
            events: &mut Events::default(),
            memory: &mut self.memory,
            out: &mut self.log,
        };
        f(&mut self.stream, self.now, &mut cx)
    }

    pub(crate) fn segment(&mut self, direction: Direction, seg: &Seg) -> Outcome {
        let (isn, other_isn) = match direction {
            Direction::Original => (CLIENT_ISN, SERVER_ISN),
            Direction::Reply => (SERVER_ISN, CLIENT_ISN),
        };
        let segment = TcpSegment {
            seq: SeqNum(isn.wrapping_add(seg.seq)),
            ack: SeqNum(other_isn.wrapping_add(seg.ack)),
            flags: seg.flags,
            window: seg.window,
            urgent: seg.urgent,
            options: TcpOptions::parse(&seg.options),
            payload: &seg.data,
        };
        self.call(|stream, now, cx| stream.segment(now, direction, &segment, cx))
    }

    /// The client sends: exactly this comes out.
    #[track_caller]
    pub(crate) fn client(&mut self, seg: Seg, expected: &[&str]) {
        self.segment(Direction::Original, &seg);
        self.expect(expected);
    }

    /// The server sends: exactly this comes out.
    #[track_caller]
    pub(crate) fn server(&mut self, seg: Seg, expected: &[&str]) {
        self.segment(Direction::Reply, &seg);
        self.expect(expected);
    }

    /// The next timer fires, after exactly this long: exactly this comes out.
    #[track_caller]
    pub(crate) fn timer(&mut self, after: Duration, expected: &[&str]) {
        let deadline = self.stream.deadline(&self.limits).expect("a timer runs");
        assert_eq!(deadline.since(self.now), after);
        self.now = deadline;
        self.call(|stream, now, cx| stream.on_timer(now, cx));
        self.expect(expected);
    }

    #[track_caller]
    pub(crate) fn no_timer(&self) {
        assert_eq!(self.stream.deadline(&self.limits), None);
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log.lines), expected);
    }
}

pub(crate) const MSS: [u8; 4] = [2, 4, 5, 180];
pub(crate) const MSS_SACK: [u8; 8] = [2, 4, 5, 180, 4, 2, 1, 1];
pub(crate) const RST: TcpFlags = TcpFlags::RST;
pub(crate) const RST_ACK: TcpFlags = TcpFlags(0x14);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HELD_TIME: Duration = Duration::from_secs(120);
