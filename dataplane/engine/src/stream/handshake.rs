//! SYN and RST: how a stream begins, and how it is cut off.
//!
//! A stream begins with a SYN of its originator, answered by a SYN-ACK. A simultaneous open (RFC 9293
//! section 3.5) is not supported: its SYN of the responder is dropped.

use algate_alg::Direction;

use super::half::{DEFAULT_MSS, Sender};
use super::options::OptionBytes;
use super::receive::WINDOW_SLACK;
use super::segment::{Outgoing, TcpFlags, TcpSegment};
use super::seq::{Source, Target};
use super::timer::RetransmitTimer;
use super::transmit::Cause;
use super::{Outcome, State, StreamContext, TcpStream};
use crate::drop_reason::DropReason;
use crate::time::Instant;

impl TcpStream {
    /// A SYN: options that would carry data past the stage are taken out, the MSS is limited, and the
    /// numbers stay as they are.
    pub(super) fn on_syn(
        &mut self,
        now: Instant,
        direction: Direction,
        segment: &TcpSegment<'_>,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        if segment.options.signed && !self.original.opened {
            self.is_signed = true;
            return pass_unchanged(direction, segment, cx);
        }
        let limits = &cx.memory.limits;
        let is_first = !segment.flags.has(TcpFlags::ACK);
        let (half, other) = self.pair_mut(direction);
        let is_new = !half.opened;
        if is_new {
            // A SYN-ACK answers a SYN that was seen, by its number.
            if is_first != (direction == Direction::Original)
                || !is_first && (!other.opened || segment.ack != Target(1).seq(other.isn))
            {
                return Outcome::Dropped(DropReason::AlgBadSegment);
            }
            half.open(segment.seq, sender_of(segment), limits.held_bytes);
            half.shown = Source(0);
        } else if half.isn != segment.seq {
            let is_over = self.state != State::Alive || !self.reply.opened || self.is_finished();
            if is_over && is_first {
                return Outcome::Reopened;
            }
        }
        let (half, other) = self.pair_mut(direction);
        if is_new && other.opened {
            let scales = half.sender.window_scale.zip(other.sender.window_scale);
            let (scale, other_scale) = scales.unwrap_or((0, 0));
            (half.window_shift, other.window_shift) = (other_scale, scale);
            (half.receiver_mss, other.receiver_mss) = (other.sender.mss, half.sender.mss);
            // The SYN-ACK acknowledges the SYN, the SYN's window is that of its sender.
            other.acknowledge(now, Target(1));
            other.right = Target(1) + i64::from(segment.window);
            half.right = Target(1) + i64::from(other.sender.first_window);
            half.right_at = Source(0);
            other.shown = Source(1);
            other.window_shown = segment.window;
            half.window_shown = other.sender.first_window;
            other.right_shown = Source(1) + i64::from(segment.window);
            half.right_shown = Source(1) + i64::from(other.sender.first_window);
        }
        // At most what can be held, so that the first flight does not overrun it.
        let window = segment.window.min(u16::try_from(limits.held_bytes).unwrap_or(u16::MAX));
        let options = OptionBytes::of_syn(segment.options.raw, limits.mss);
        let outgoing = Outgoing {
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags.without(TcpFlags::FIN.with(TcpFlags::PSH).with(TcpFlags::URG)),
            window,
            urgent: 0,
            options: options.as_slice(),
            payload: [&[], &[]],
        };
        cx.out.emit(direction, &outgoing);
        Outcome::Taken
    }

    /// A reset. One with the number its end expects next goes out with the number the other end expects
    /// next, whatever was edited, held or lost; any other one in the window is mapped, is challenged by
    /// the receiver, and comes again with the right number (RFC 5961 section 3).
    pub(super) fn on_reset(
        &mut self,
        direction: Direction,
        segment: &TcpSegment<'_>,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        if !self.original.opened || !self.reply.opened {
            // The answer to a SYN. Nothing is mapped yet.
            let other = self.half(direction.reversed());
            if other.opened && segment.ack == Target(1).seq(other.isn) {
                self.stop(State::Reset);
            }
            return pass_unchanged(direction, segment, cx);
        }
        let half = self.half(direction);
        let at = Source::near(segment.seq, half.isn, half.shown);
        if at < half.shown || at > half.right_shown + WINDOW_SLACK {
            return Outcome::Dropped(DropReason::AlgBadSegment);
        }
        // The FIN counts when it was sent on, like the bytes before it.
        let behind = at - (half.in_order() + i64::from(half.is_finished()));
        let (target, is_exact) = if at == half.shown && half.sent > half.acked && behind != 0 {
            (half.acked, true)
        } else if half.opaque {
            (half.end + (at - half.decided), at == half.seen || at == half.shown)
        } else {
            (half.sent + behind.max(0), behind == 0 || at == half.shown)
        };
        let mut cause = self.cause_of(direction, segment);
        let flags = segment.flags.without(TcpFlags::URG);
        if self.state != State::Terminated {
            self.send_reset(direction, target, flags, &mut cause, cx.out);
        }
        if is_exact && self.state == State::Alive {
            self.stop(State::Reset);
        }
        if self.state == State::Alive { Outcome::Taken } else { Outcome::Closed }
    }

    /// A segment of a session the stage has reset: its end has not heard of it, or challenges it.
    pub(super) fn answer_with_reset(
        &mut self,
        direction: Direction,
        segment: &TcpSegment<'_>,
        cause: &mut Cause,
        cx: &mut StreamContext<'_>,
    ) {
        let back = direction.reversed();
        let half = self.half(back);
        let at = Target::near(segment.ack, half.isn, half.acked);
        self.send_reset(back, at, TcpFlags::RST, cause, cx.out);
    }

    /// Both FINs were delivered.
    fn is_finished(&self) -> bool {
        [&self.original, &self.reply]
            .into_iter()
            .all(|half| half.fin.is_some_and(|fin| half.ack_source() > fin))
    }

    /// Nothing is repeated any more, and nothing waits.
    pub(super) fn stop(&mut self, state: State) {
        self.state = state;
        for half in [&mut self.original, &mut self.reply] {
            half.timer = RetransmitTimer::default();
            half.held_since = None;
        }
    }
}

fn sender_of(segment: &TcpSegment<'_>) -> Sender {
    Sender {
        mss: segment.options.mss.unwrap_or(DEFAULT_MSS),
        window_scale: segment.options.window_scale,
        sack_permitted: segment.options.sack_permitted,
        timestamp: segment.options.timestamps.map(|timestamps| timestamps.value),
        first_window: segment.window,
        ..Sender::default()
    }
}

/// Emits the segment as it came.
pub(super) fn pass_unchanged(
    direction: Direction,
    segment: &TcpSegment<'_>,
    cx: &mut StreamContext<'_>,
) -> Outcome {
    let outgoing = Outgoing {
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        urgent: segment.urgent,
        options: segment.options.raw,
        payload: [segment.payload, &[]],
    };
    cx.out.emit(direction, &outgoing);
    Outcome::Taken
}
