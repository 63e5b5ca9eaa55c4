//! A stream layer with both ends hostile: what they may send, and the promises that are checked from outside.
//!
//! The ALG changes nothing, so that both spaces are one:
//! - nothing is acknowledged to a sender that it has not sent without a gap, or that was neither
//!   acknowledged by the receiver nor is kept;
//! - a byte that was sent once is never sent with another value;
//! - nothing is sent behind the receiver's window.
//!
//! Used by `stream_garbage.rs` with random events and by the fuzz target `stream`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_alg::*;
use algate_engine::stream::options::TcpOptions;
use algate_engine::stream::segment::{Outgoing, TcpFlags, TcpSegment};
use algate_engine::stream::seq::SeqNum;
use algate_engine::stream::*;
use algate_engine::time::Instant;

/// Lines pass, unfinished ones are held.
struct Lines;

impl Alg for Lines {
    fn inspect(&mut self, _: Direction, input: &[u8], _: &mut Context<'_>) -> Step {
        match input.iter().position(|byte| *byte == b'\n') {
            Some(at) => Step::Message { length: at + 1, verdict: Verdict::Pass },
            None => Step::Incomplete,
        }
    }
}

/// What an end, the clock or a router does.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Segment {
        is_original: bool,
        /// Distance from where the sender is.
        seq: i32,
        /// Distance from the last byte the stage sent to this end.
        ack: i32,
        flags: u8,
        window: u16,
        urgent: u16,
        options: Vec<u8>,
        data: Vec<u8>,
    },
    Wait {
        seconds: u64,
    },
    Detach,
    Mtu {
        is_original: bool,
        mtu: u16,
    },
}

/// A NAT that opens nothing.
struct NullNat;

impl Nat for NullNat {
    fn expect(&mut self, _: &Expectation) -> Result<Announced, ExpectError> {
        Err(ExpectError::TableFull)
    }
    fn expect_pair(&mut self, _: &Expectation) -> Result<[Announced; 2], ExpectError> {
        Err(ExpectError::TableFull)
    }
    fn renew(&mut self, _: ExpectationId, _: Duration, _: Option<Peer>) -> bool {
        false
    }
    fn withdraw(&mut self, _: ExpectationId) {}
}

fn endpoints() -> SessionEndpoints {
    let originator = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000);
    let responder = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 21);
    SessionEndpoints { originator, originator_seen: originator, responder, responder_seen: responder }
}

/// What is known of one direction, from outside. Positions relative to the SYN.
#[derive(Default)]
struct Seen {
    /// Every value its sender sent for a byte, and the one that the stage sent.
    offered: BTreeMap<i64, Vec<u8>>,
    emitted: BTreeMap<i64, u8>,
    fins: Vec<i64>,
    /// Acknowledged by its receiver, and the right edge it announced.
    acked: i64,
    right: i64,
    /// Behind the last byte the stage sent.
    sent: i64,
    /// Acknowledged to its sender.
    shown: i64,
}

impl Seen {
    /// Behind the last byte the sender has sent without a gap, FIN included.
    fn contiguous(&self) -> i64 {
        let mut next = 1;
        while self.offered.contains_key(&next) {
            next += 1;
        }
        next + i64::from(self.fins.iter().any(|fin| *fin <= next))
    }
}

#[derive(Default)]
struct Checked {
    original: Seen,
    reply: Seen,
    /// Promises not kept by the last call. An opaque stream does not make them.
    broken: Vec<String>,
    is_over: bool,
}

const ISN: [u32; 2] = [u32::MAX - 50, u32::MAX - 3];

impl Checked {
    fn of(&mut self, is_original: bool) -> (&mut Seen, &mut Seen, u32, u32) {
        if is_original {
            (&mut self.original, &mut self.reply, ISN[0], ISN[1])
        } else {
            (&mut self.reply, &mut self.original, ISN[1], ISN[0])
        }
    }
}

fn relative(seq: SeqNum, isn: u32, near: i64) -> i64 {
    near + i64::from(seq.distance_from(SeqNum(isn.wrapping_add(near as u32))))
}

impl Emit for Checked {
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool {
        assert_eq!(segment.options.len() % 4, 0);
        assert!(segment.options.len() <= 40);
        if self.is_over || segment.flags.has(TcpFlags::RST) || segment.flags.has(TcpFlags::SYN) {
            return true;
        }
        let mut broken = Vec::new();
        let mut promise = |holds: bool, text: &str, at: i64| {
            if !holds {
                broken.push(format!("{text}: {at} of {direction:?}"));
            }
        };
        let (seen, other, isn, other_isn) = self.of(direction == Direction::Original);
        let at = relative(segment.seq, isn, seen.sent);
        let data = segment.payload.concat();
        let end = at + data.len() as i64 + i64::from(segment.flags.has(TcpFlags::FIN));
        if at >= seen.acked.max(1) {
            for (at, byte) in (at..).zip(&data) {
                let is_offered = seen.offered.get(&at).is_some_and(|values| values.contains(byte));
                promise(is_offered, "a byte the sender sent", at);
                let is_first = seen.emitted.entry(at).or_insert(*byte) == byte;
                promise(is_first, "the same value as before", at);
            }
            promise(end <= at || end <= seen.right, "inside the receiver's window", end);
            seen.sent = seen.sent.max(end);
        } else {
            let is_empty = end <= seen.acked && data.iter().all(|byte| *byte == 0);
            promise(is_empty, "no data below the edge", at);
        }
        let ack = relative(segment.ack, other_isn, other.shown);
        promise(ack <= other.contiguous(), "only what was received is acknowledged", ack);
        assert!(ack >= other.shown, "an acknowledgement never goes back");
        other.shown = ack;
        self.broken.append(&mut broken);
        true
    }
}

/// Runs the events behind a handshake; panics where a promise is broken.
pub(crate) fn run(events: &[Event]) {
    let limits = StreamLimits { held_bytes: 256, gaps: 2, edits: 8, tries: 3, ..StreamLimits::default() };
    let mut memory = StreamMemory::new(limits, 1);
    let mut stream = TcpStream::new();
    let mut out = Checked::default();
    let mut now = 0_u64;
    let handshake = [(true, 0x02_u8, 0, 0), (false, 0x12, 0, 1), (true, 0x10, 1, 1)];
    let steps = handshake
        .into_iter()
        .map(|(is_original, flags, seq, ack)| Event::Segment {
            is_original,
            seq,
            ack,
            flags,
            window: 300,
            urgent: 0,
            options: if flags & 2 != 0 { vec![2, 4, 0, 100, 4, 2, 1, 1] } else { Vec::new() },
            data: Vec::new(),
        })
        .chain(events.iter().cloned())
        .enumerate();
    // The SYN and the SYN-ACK are not checked: nothing is mapped yet.
    out.original.sent = 1;
    out.reply.sent = 1;
    out.original.right = 301;
    out.reply.right = 301;
    for (number, event) in steps {
        let instant = Instant::from_nanos(now * 1_000_000_000);
        let mut call =
            |out: &mut Checked, f: &mut dyn FnMut(&mut TcpStream, Instant, &mut StreamContext<'_>)| {
                let mut cx = StreamContext {
                    alg: &mut Lines,
                    endpoints: &endpoints(),
                    nat: &mut NullNat,
                    policy: &mut AllowAll,
                    events: &mut Events::default(),
                    memory: &mut memory,
                    out,
                };
                f(&mut stream, instant, &mut cx);
            };
        match event {
            Event::Segment { is_original, seq, ack, flags, window, urgent, options, data } => {
                let (seen, other, isn, other_isn) = out.of(is_original);
                let is_handshake = number < 3;
                let at = if is_handshake { i64::from(seq) } else { seen.contiguous() + i64::from(seq) };
                let acked = if is_handshake { i64::from(ack) } else { other.sent + i64::from(ack) };
                let flags = TcpFlags(flags);
                for (offset, byte) in data.iter().enumerate() {
                    if !flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::RST) {
                        seen.offered.entry(at + offset as i64).or_default().push(*byte);
                    }
                }
                if flags.has(TcpFlags::FIN) {
                    seen.fins.push(at + data.len() as i64);
                }
                if acked <= other.sent && flags.has(TcpFlags::ACK) && !flags.has(TcpFlags::RST) {
                    other.right = other.right.max(acked + i64::from(window));
                }
                let before = other.acked;
                if acked <= other.sent {
                    other.acked = other.acked.max(acked);
                }
                let segment = TcpSegment {
                    seq: SeqNum(isn.wrapping_add(at as u32)),
                    ack: SeqNum(other_isn.wrapping_add(acked as u32)),
                    flags,
                    window,
                    urgent,
                    options: TcpOptions::parse(&options),
                    payload: &data,
                };
                let direction = if is_original { Direction::Original } else { Direction::Reply };
                let mut outcome = Outcome::Taken;
                // An acknowledgement in a segment that is refused must not count: checked below by what is kept.
                let refused_acked = before;
                call(&mut out, &mut |stream, now, cx| outcome = stream.segment(now, direction, &segment, cx));
                if !matches!(outcome, Outcome::Taken) && !flags.has(TcpFlags::SYN) {
                    let (_, other, ..) = out.of(is_original);
                    if matches!(outcome, Outcome::Dropped(reason) if reason.text() == "alg_bad_segment") {
                        other.acked = refused_acked;
                    }
                }
                // A reset, a new SYN: what the ends do from then on is their business.
                out.is_over |= !is_handshake && (flags.has(TcpFlags::RST) || flags.has(TcpFlags::SYN));
            }
            Event::Wait { seconds } => {
                now += seconds;
                let instant = Instant::from_nanos(now * 1_000_000_000);
                call(&mut out, &mut |stream, _, cx| stream.on_timer(instant, cx));
            }
            Event::Detach => {
                call(&mut out, &mut |stream, now, cx| stream.detach(now, cx));
            }
            Event::Mtu { is_original, mtu } => {
                let direction = if is_original { Direction::Original } else { Direction::Reply };
                call(&mut out, &mut |stream, now, cx| {
                    stream.frag_needed(now, direction, mtu, cx);
                });
            }
        }
        let status = stream.status();
        out.is_over |= status.closed;
        let broken = std::mem::take(&mut out.broken);
        assert!(status.opaque || broken.is_empty(), "{broken:?}");
        for (index, seen) in [&out.original, &out.reply].into_iter().enumerate() {
            let kept = (status.held_bytes[index] + status.unacknowledged_bytes[index]) as i64;
            if !out.is_over && !status.opaque {
                assert!(seen.shown <= seen.acked.max(1) + kept, "{} <= {} + {kept}", seen.shown, seen.acked);
            }
            assert!(status.held_bytes[index] <= 256);
        }
    }
    stream.reset(&mut memory);
    assert_eq!(memory.free(), 1);
}
