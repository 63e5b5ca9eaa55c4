//! SYN and RST: how a stream begins, and how it is cut off.
//!
//! ```text
//! usual          > SYN      < SYN-ACK            > ACK
//! simultaneous   > SYN      < SYN                > SYN-ACK or ACK, < SYN-ACK or ACK     (RFC 9293 section 3.5)
//! split          > SYN      < ACK   < SYN        > SYN-ACK         < ACK
//! ```
//!
//! Whoever sends the first SYN is the originator, and plays the originator's part in the protocol, however the handshake goes
//! on. The first acknowledgement of a split handshake says nothing yet and is dropped. Until the originator has acknowledged
//! the responder's number, a SYN-ACK that names the originator's own number corrects it: a SYN without it may be forged.

use algate_alg::Direction;

use super::half::{DEFAULT_MSS, Half, Sender};
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
        let is_lent = self.is_lent;
        let (half, other) = self.pair_mut(direction);
        let answers = !is_first && other.opened && segment.ack == Target(1).seq(other.isn);
        // Whoever names the number of the originator's SYN is its responder, whatever a SYN without it has said before.
        let corrects = direction == Direction::Reply
            && answers
            && half.opened
            && half.isn != segment.seq
            && half.acked < Target(1)
            && !is_lent;
        let is_new = !half.opened || corrects;
        if is_new {
            let is_expected = match direction {
                Direction::Original => is_first,
                Direction::Reply => other.opened && (is_first || answers),
            };
            if !is_expected {
                return Outcome::Dropped(DropReason::AlgBadSegment);
            }
            half.open(segment.seq, sender_of(segment), limits.held_bytes);
            half.shown = Source(0);
        } else if half.isn != segment.seq {
            let is_over = self.state != State::Alive || self.reply.acked < Target(1) || self.is_finished();
            if is_over && is_first && direction == Direction::Original {
                return Outcome::Reopened;
            }
        } else if !is_first && !answers {
            return Outcome::Dropped(DropReason::AlgBadSegment);
        }
        let (half, other) = self.pair_mut(direction);
        if is_new && other.opened {
            half.meet(other);
        }
        if answers && other.acked < Target(1) {
            other.answer_syn(now, segment.window);
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
    pub(super) fn is_finished(&self) -> bool {
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

impl Half {
    /// Both ends have sent a SYN: what they have agreed on.
    fn meet(&mut self, other: &mut Self) {
        let scales = self.sender.window_scale.zip(other.sender.window_scale);
        let (scale, other_scale) = scales.unwrap_or((0, 0));
        (self.window_shift, other.window_shift) = (other_scale, scale);
        (self.receiver_mss, other.receiver_mss) = (other.sender.mss, self.sender.mss);
        // The window of a SYN is never scaled.
        self.begin_window(other.sender.first_window);
        other.begin_window(self.sender.first_window);
    }

    /// The receiver's SYN has this window.
    fn begin_window(&mut self, window: u16) {
        self.right = Target(1) + i64::from(window);
        self.right_at = Source(0);
        self.window_shown = window;
        self.right_shown = Source(1) + i64::from(window);
    }

    /// A SYN-ACK of the receiver with this window acknowledges the SYN.
    fn answer_syn(&mut self, now: Instant, window: u16) {
        self.begin_window(window);
        self.acknowledge(now, Target(1));
        self.shown = Source(1);
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
