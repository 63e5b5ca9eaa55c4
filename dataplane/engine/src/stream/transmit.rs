//! Segments the stage emits.
//!
//! Each carries the newest acknowledgement and window for the end it goes to. Data is cut at what the
//! receiver takes, what the sender itself has sent (at least 536 bytes: a grown command of a sender
//! that only sends short ones shall not travel in two pieces) and what the path is known to carry.

use algate_alg::Direction;

use super::half::{DEFAULT_MSS, Half};
use super::options::{OptionBytes, SackBlocks, Timestamps};
use super::segment::{HEADER_BYTES, Outgoing, TcpFlags};
use super::seq::Target;
use super::{Emit, State, StreamContext, TcpStream};
use crate::time::Instant;

/// Why segments are emitted: what the answered segment said that goes on with them.
#[derive(Debug, Default)]
pub(super) struct Cause {
    /// Where it travels; `None` when a timer is the cause.
    pub(super) direction: Option<Direction>,
    pub(super) timestamps: Option<Timestamps>,
    /// Its SACK blocks, as the end it goes to counts. They go with the first segment.
    pub(super) sack: SackBlocks,
    /// Its ECN bits. They go with the first segment.
    pub(super) ecn: TcpFlags,
}

/// Everything of a segment but its data.
struct Header {
    outgoing: Outgoing<'static>,
    options: OptionBytes,
}

impl Header {
    fn send(&self, direction: Direction, payload: [&[u8]; 2], out: &mut dyn Emit) {
        // A segment that found no buffer is lost like any other: its repetition comes.
        out.emit(direction, &Outgoing { options: self.options.as_slice(), payload, ..self.outgoing });
    }
}

impl TcpStream {
    /// Sends what was decided and never sent, FIN included, as far as the receiver has room.
    pub(super) fn send_new(
        &mut self,
        now: Instant,
        direction: Direction,
        cause: &mut Cause,
        out: &mut dyn Emit,
    ) {
        let half = self.half(direction);
        if half.opened && half.sent < half.sendable() {
            self.send_kept(now, direction, (half.sent, half.sendable()), cause, out);
        }
    }

    /// Sends decided bytes of the range `from..to`, and the FIN when it lies in it, as far as the receiver
    /// has room. Returns whether anything was sent.
    pub(super) fn send_kept(
        &mut self,
        now: Instant,
        direction: Direction,
        (from, to): (Target, Target),
        cause: &mut Cause,
        out: &mut dyn Emit,
    ) -> bool {
        let half = self.half(direction);
        let (first, end) = (half.first_kept(), half.end);
        let to = to.min(half.sendable()).min(half.right);
        let data_to = to.min(end);
        let mut at = from.max(first);
        let any = at < to;
        while at < to {
            let mut header = self.header(direction, at, false, cause);
            let half = self.half_mut(direction);
            let stop = data_to.min(at + payload_max(half, &header.options));
            let count = usize::try_from(stop - at).unwrap_or(0);
            let skip = usize::try_from(at - first).unwrap_or(0);
            let fin = stop == end && to > end;
            if count > 0 && stop == data_to {
                header.flag(TcpFlags::PSH);
            }
            if fin {
                header.flag(TcpFlags::FIN);
            }
            let sent = stop + i64::from(fin);
            if sent > half.sent {
                half.sent = sent;
                half.timer.sent(now, sent);
            } else {
                half.timer.repeated();
            }
            header.send(direction, half.send.slices(skip, count), out);
            at = sent;
        }
        any
    }

    /// Sends `payload`, and a FIN behind it, that is not kept: the stream is opaque.
    pub(super) fn send_passing(
        &mut self,
        direction: Direction,
        mut at: Target,
        mut payload: &[u8],
        flags: TcpFlags,
        cause: &mut Cause,
        out: &mut dyn Emit,
    ) {
        loop {
            let mut header = self.header(direction, at, false, cause);
            let half = self.half_mut(direction);
            let max = usize::try_from(payload_max(half, &header.options)).unwrap_or(usize::MAX);
            let (piece, rest) = payload.split_at(payload.len().min(max));
            at = at + piece.len() as i64;
            if rest.is_empty() {
                header.flag(flags);
                at = at + i64::from(flags.has(TcpFlags::FIN));
            }
            half.sent = half.sent.max(at);
            header.send(direction, [piece, &[]], out);
            payload = rest;
            if payload.is_empty() {
                return;
            }
        }
    }

    /// Sends a segment that the receiver has to answer with its acknowledgement and window, `below` its
    /// edge. Its data, at most one byte, has been acknowledged before: it is never data.
    pub(super) fn send_below(
        &mut self,
        direction: Direction,
        below: i64,
        has_data: bool,
        cause: &mut Cause,
        out: &mut dyn Emit,
    ) {
        let at = self.half(direction).acked - below;
        let data: &[u8] = if has_data { &[0] } else { &[] };
        self.header(direction, at, false, cause).send(direction, [data, &[]], out);
    }

    /// Sends an acknowledgement, and nothing else, towards the sender of the other direction.
    pub(super) fn send_ack(&mut self, direction: Direction, cause: &mut Cause, out: &mut dyn Emit) {
        let at = self.half(direction).sent;
        self.header(direction, at, true, cause).send(direction, [&[], &[]], out);
    }

    /// Sends a reset with number `at`.
    pub(super) fn send_reset(
        &mut self,
        direction: Direction,
        at: Target,
        flags: TcpFlags,
        cause: &mut Cause,
        out: &mut dyn Emit,
    ) {
        let mut header = self.header(direction, at, false, cause);
        header.outgoing.flags = flags;
        header.outgoing.urgent = 0;
        header.send(direction, [&[], &[]], out);
    }

    /// Resets both ends. Nothing is kept.
    pub(super) fn terminate(&mut self, cause: &mut Cause, cx: &mut StreamContext<'_>) {
        for direction in [Direction::Original, Direction::Reply] {
            let at = self.half(direction).sent;
            self.send_reset(direction, at, TcpFlags::RST.with(TcpFlags::ACK), cause, cx.out);
        }
        self.stop(State::Terminated);
    }

    /// The header of a segment with number `at`. `is_ack`: it carries nothing but acknowledgements.
    fn header(&mut self, direction: Direction, at: Target, is_ack: bool, cause: &mut Cause) -> Header {
        let (half, other) = self.pair_mut(direction);
        let (ack, window) = other.show();
        let mut flags = TcpFlags::ACK;
        let mut sack = SackBlocks::default();
        if is_ack && half.sender.sack_permitted && other.sender.sack_permitted {
            for (left, right) in other.held.out_of_order() {
                let seq = |offset| (other.decided + offset as i64).seq(other.isn);
                sack.push(seq(left), seq(right));
            }
        }
        let is_forwarded = cause.direction == Some(direction);
        if is_forwarded {
            std::mem::take(&mut cause.sack).iter().for_each(|(left, right)| sack.push(left, right));
            flags = flags.with(std::mem::take(&mut cause.ecn));
        }
        let timestamps = half.sender.timestamp.zip(other.sender.timestamp).map(|(value, newest)| {
            let echo = match cause.timestamps {
                Some(timestamps) if is_forwarded => timestamps.echo,
                Some(timestamps) => timestamps.value,
                None => newest,
            };
            Timestamps { value, echo }
        });
        let urgent = half.urgent_behind(at);
        if urgent > 0 {
            flags = flags.with(TcpFlags::URG);
        }
        Header {
            outgoing: Outgoing {
                seq: at.seq(half.isn),
                ack,
                flags,
                window,
                urgent,
                options: &[],
                payload: [&[], &[]],
            },
            options: OptionBytes::of_segment(timestamps, &sack),
        }
    }
}

impl Header {
    fn flag(&mut self, flags: TcpFlags) {
        self.outgoing.flags = self.outgoing.flags.with(flags);
    }
}

impl Half {
    /// The urgent pointer of a segment with number `at`; 0 when nothing behind it is urgent, or the end of
    /// the urgent bytes is not decided yet.
    fn urgent_behind(&self, at: Target) -> u16 {
        let Some(urgent) = self.urgent.filter(|urgent| self.opaque || *urgent <= self.decided) else {
            return 0;
        };
        let target = if urgent > self.decided {
            self.end + (urgent - self.decided)
        } else {
            self.log.target_until(urgent)
        };
        u16::try_from((target - at).max(0)).unwrap_or(0)
    }
}

/// Most data bytes of a segment with `options` towards the receiver of `half`.
fn payload_max(half: &Half, options: &OptionBytes) -> i64 {
    let options = options.as_slice().len();
    let receiver = usize::from(half.receiver_mss).saturating_sub(options);
    let path = usize::from(half.sender.path_mtu).saturating_sub(IPV4_HEADER_BYTES + HEADER_BYTES + options);
    let sender = half.sender.largest.max(usize::from(DEFAULT_MSS));
    receiver.min(path).min(sender).max(1) as i64
}

const IPV4_HEADER_BYTES: usize = 20;
