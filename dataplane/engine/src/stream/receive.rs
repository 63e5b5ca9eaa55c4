//! What comes in: segments, timers, ICMP errors.

use std::ops::Range;

use algate_alg::Direction;

use super::half::{DEFAULT_MSS, Half};
use super::handshake::pass_unchanged;
use super::options::SackBlocks;
use super::segment::{HEADER_BYTES, TcpFlags, TcpSegment};
use super::seq::{Source, Target};
use super::transmit::Cause;
use super::{FragmentationNeeded, Outcome, REPEAT_SEGMENTS, State, StreamContext, TcpStream};
use crate::drop_reason::DropReason;
use crate::time::Instant;

impl TcpStream {
    /// Takes one `segment` travelling in `direction`, checksum verified.
    pub fn segment(
        &mut self,
        now: Instant,
        direction: Direction,
        segment: &TcpSegment<'_>,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        if self.is_signed {
            return pass_unchanged(direction, segment, cx);
        }
        if segment.flags.has(TcpFlags::SYN) {
            return self.on_syn(now, direction, segment, cx);
        }
        if segment.flags.has(TcpFlags::RST) {
            return self.on_reset(direction, segment, cx);
        }
        if !self.original.opened || !self.reply.opened || !segment.flags.has(TcpFlags::ACK) {
            return Outcome::Dropped(DropReason::AlgBadSegment);
        }
        let mut cause = self.cause_of(direction, segment);
        if self.state == State::Terminated {
            self.answer_with_reset(direction, segment, &mut cause, cx);
            return Outcome::Closed;
        }
        let outcome = match self.accept(direction, segment) {
            None => {
                // RFC 9293 section 3.10.7.4: an unacceptable segment is answered with an acknowledgement.
                self.half_mut(direction).ack_due = true;
                Outcome::Dropped(DropReason::AlgBadSegment)
            }
            Some(at) => {
                self.half_mut(direction).note_sender(at, segment);
                self.on_ack(now, direction, at, segment, &mut cause);
                self.on_data(now, direction, at, segment, &mut cause, cx)
            }
        };
        self.finish(now, &mut cause, cx);
        if self.state == State::Terminated { Outcome::Closed } else { outcome }
    }

    /// Does what is due at `now`.
    pub fn on_timer(&mut self, now: Instant, cx: &mut StreamContext<'_>) {
        let mut cause = Cause::default();
        for direction in [Direction::Original, Direction::Reply] {
            let half = self.half(direction);
            if half.timer.deadline().is_some_and(|deadline| deadline <= now) {
                if half.timer.tries() >= cx.memory.limits.tries {
                    self.terminate(&mut cause, cx);
                    break;
                }
                self.repeat_owned(now, direction, &mut cause, cx);
            }
            let half = self.half_mut(direction);
            if half.held_since.is_some_and(|since| since.plus(cx.memory.limits.held_time) <= now) {
                // Asked again, it may still wait for room; then it gets as long once more.
                half.is_unread = true;
                half.held_since = None;
                self.decide(now, direction, true, &mut cause, cx);
            }
        }
        self.finish(now, &mut cause, cx);
    }

    /// Heeds an ICMP "fragmentation needed" for a packet that travelled in `direction`; `mtu` in bytes.
    pub fn frag_needed(
        &mut self,
        now: Instant,
        direction: Direction,
        mtu: u16,
        cx: &mut StreamContext<'_>,
    ) -> FragmentationNeeded {
        let half = self.half_mut(direction);
        if !half.opened || mtu < MIN_IPV4_MTU {
            return FragmentationNeeded::Forward;
        }
        half.sender.path_mtu = half.sender.path_mtu.min(mtu);
        let is_theirs = half.sender.largest_packet > usize::from(mtu);
        let range = (half.acked, half.sent);
        if is_theirs || half.opaque && half.send.len() == 0 {
            return FragmentationNeeded::Forward;
        }
        let mut cause = Cause::default();
        self.send_kept(now, direction, range, &mut cause, cx.out);
        self.finish(now, &mut cause, cx);
        FragmentationNeeded::Heeded
    }

    /// What goes on of `segment` with the segments it causes.
    pub(super) fn cause_of(&self, direction: Direction, segment: &TcpSegment<'_>) -> Cause {
        Cause {
            direction: Some(direction),
            timestamps: segment.options.timestamps,
            sack: self.half(direction.reversed()).map_sack(&segment.options.sack),
            ecn: TcpFlags(segment.flags.0 & (TcpFlags::ECE.0 | TcpFlags::CWR.0)),
        }
    }

    /// Where the segment's first byte lies, if its numbers are acceptable.
    fn accept(&self, direction: Direction, segment: &TcpSegment<'_>) -> Option<Source> {
        let half = self.half(direction);
        let other = self.half(direction.reversed());
        let at = Source::near(segment.seq, half.isn, half.shown);
        let acked = Target::near(segment.ack, other.isn, other.acked);
        // Old duplicates are answered, not refused; RFC 5961 section 5 bounds old acknowledgements.
        let is_acceptable = at >= half.shown - BELOW_SLACK
            && at <= half.right_shown + WINDOW_SLACK
            && acked >= other.acked - BELOW_SLACK
            && acked <= other.sent;
        is_acceptable.then_some(at)
    }

    /// The acknowledgement and window that travel in `direction`: they are about the other one's bytes.
    fn on_ack(
        &mut self,
        now: Instant,
        direction: Direction,
        at: Source,
        segment: &TcpSegment<'_>,
        cause: &mut Cause,
    ) {
        let (half, other) = self.pair_mut(direction);
        let acked = Target::near(segment.ack, other.isn, other.acked);
        let is_pure = segment.payload.is_empty() && !segment.flags.has(TcpFlags::FIN) && at >= half.shown;
        if acked < other.acked {
            // Overtaken by a newer one.
            cause.sack = SackBlocks::default();
            return;
        }
        let is_news = acked > other.acked;
        if is_news {
            other.acknowledge(now, acked);
        }
        if is_news || at >= other.right_at {
            other.right = acked + (i64::from(segment.window) << other.window_shift);
            other.right_at = at;
        }
        if segment.window == 0 {
            other.timer.answered();
        }
        // A pure acknowledgement goes on as one, unless it acknowledges only what the stage owns: shown
        // again with the same number and window, it would count as a duplicate.
        let is_shown = other.shown >= other.ack_source() && other.window(other.shown) == other.window_shown;
        let answers_probe = is_pure && std::mem::take(&mut other.is_probed) && is_shown;
        other.ack_due |= is_pure && !(is_news && is_shown) && !answers_probe;
    }

    /// The data that travels in `direction`, from `at` on.
    fn on_data(
        &mut self,
        now: Instant,
        direction: Direction,
        at: Source,
        segment: &TcpSegment<'_>,
        cause: &mut Cause,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        let half = self.half_mut(direction);
        let fin_flag = segment.flags.has(TcpFlags::FIN);
        let data_end = at + segment.payload.len() as i64;
        let end = data_end + i64::from(fin_flag);
        if at < half.shown && end <= half.shown {
            if half.owns_decided() || half.owns_held() {
                half.ack_due = true;
            } else {
                let below = half.shown - at;
                self.send_below(direction, below, !segment.payload.is_empty(), cause, cx.out);
            }
            return Outcome::Taken;
        }
        if end == at {
            return Outcome::Taken;
        }
        let is_repetition = if half.opaque {
            end <= half.seen
        } else {
            at < half.in_order() + i64::from(half.fin == Some(half.in_order()))
        };
        half.seen = half.seen.max(end);
        if segment.flags.has(TcpFlags::URG) {
            let urgent = at + i64::from(segment.urgent);
            half.urgent = Some(half.urgent.map_or(urgent, |last| last.max(urgent)));
        }
        if fin_flag && half.fin.is_none() && data_end >= half.in_order() {
            half.fin = Some(data_end);
            half.held.truncate(usize::try_from(data_end - half.decided).unwrap_or(0));
        }
        // What was sent before this segment: its repetition is repeated, no less and no more.
        let sent = half.sent;
        let in_order = half.in_order();
        let outcome = if half.opaque || segment.payload.is_empty() || data_end <= in_order {
            half.is_unread |= fin_flag && half.fin == Some(in_order);
            Outcome::Taken
        } else {
            self.hold(direction, at, segment, cx)
        };
        self.decide(now, direction, false, cause, cx);
        if self.state == State::Terminated {
            return outcome;
        }
        if is_repetition {
            self.repeat(now, direction, at..end, sent, cause, cx);
        }
        let half = self.half(direction);
        if half.opaque && end > half.decided + i64::from(half.is_finished()) {
            let skip = usize::try_from(half.decided - at).unwrap_or(0);
            let target = half.end + (at.max(half.decided) - half.decided);
            let flags = TcpFlags(segment.flags.0 & (TcpFlags::FIN.0 | TcpFlags::PSH.0));
            let payload = segment.payload.get(skip..).unwrap_or_default();
            self.send_new(now, direction, cause, cx.out);
            self.send_passing(direction, target, payload, flags, cause, cx.out);
        }
        outcome
    }

    /// The sender repeats `range`: so does the stage, as far as it was `sent` before, together with what
    /// the stage owns before it.
    fn repeat(
        &mut self,
        now: Instant,
        direction: Direction,
        range: Range<Source>,
        sent: Target,
        cause: &mut Cause,
        cx: &mut StreamContext<'_>,
    ) {
        let half = self.half(direction);
        let from = if range.start <= half.shown { half.acked } else { half.log.target_from(range.start) };
        let to = if range.end > half.decided { half.sendable() } else { half.log.target_until(range.end) };
        if self.send_kept(now, direction, (from, to.min(sent)), cause, cx.out) {
            return;
        }
        let half = self.half_mut(direction);
        if half.right <= half.acked && half.acked < half.sendable() {
            // The window is closed: ask for it, as the sender's own probe would.
            self.send_below(direction, 1, false, cause, cx.out);
        } else if !half.opaque && range.end <= half.in_order() {
            // Held bytes again: acknowledged again, as far as they may be.
            half.ack_due = true;
        }
    }

    /// Keeps the bytes of a segment that were not there yet.
    fn hold(
        &mut self,
        direction: Direction,
        at: Source,
        segment: &TcpSegment<'_>,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        if !self.borrow(cx.memory) {
            return Outcome::Dropped(DropReason::AlgStageFull);
        }
        let half = self.half_mut(direction);
        let in_order = half.in_order();
        let skip = usize::try_from(half.decided - at).unwrap_or(0);
        let offset = usize::try_from(at - half.decided).unwrap_or(0);
        // Behind a FIN there is no data, whatever a probe carries.
        let end = half.fin.map_or(usize::MAX, |fin| usize::try_from(fin - at).unwrap_or(0));
        let end = end.min(segment.payload.len());
        let is_kept = half.held.insert(offset, segment.payload.get(skip..end).unwrap_or_default());
        if half.in_order() > in_order {
            half.is_unread = true;
        } else {
            // A gap: the last acknowledgement again, for the sender's fast retransmit.
            half.ack_due = true;
        }
        if is_kept { Outcome::Taken } else { Outcome::Dropped(DropReason::AlgStageFull) }
    }

    /// After every event: asks about what has room now, sends what can be sent, acknowledges what can be
    /// acknowledged, sets timers and gives back what is not needed.
    pub(super) fn finish(&mut self, now: Instant, cause: &mut Cause, cx: &mut StreamContext<'_>) {
        self.decide_both(now, cause, cx);
        if self.state == State::Terminated {
            self.give_back(cx.memory);
            return;
        }
        for direction in [Direction::Original, Direction::Reply] {
            self.send_new(now, direction, cause, cx.out);
        }
        for direction in [Direction::Original, Direction::Reply] {
            if self.half(direction.reversed()).is_ack_due() {
                self.send_ack(direction, cause, cx.out);
            }
        }
        let is_alive = self.state == State::Alive;
        for half in [&mut self.original, &mut self.reply] {
            half.timer.arm(now, is_alive && half.must_repeat());
        }
        if self.original.is_idle() && self.reply.is_idle() {
            self.give_back(cx.memory);
        }
    }

    /// Repeats what the stage owns; into a closed window only a probe.
    fn repeat_owned(
        &mut self,
        now: Instant,
        direction: Direction,
        cause: &mut Cause,
        cx: &mut StreamContext<'_>,
    ) {
        let half = self.half_mut(direction);
        half.timer.fired(now);
        if half.right <= half.acked {
            self.send_below(direction, 1, false, cause, cx.out);
            return;
        }
        let segment = half.receiver_mss.max(DEFAULT_MSS);
        let to = half.sent.min(half.acked + REPEAT_SEGMENTS * i64::from(segment));
        half.repeated_until = half.repeated_until.max(to);
        let range = (half.acked, to);
        self.send_kept(now, direction, range, cause, cx.out);
    }
}

impl Half {
    /// Remembers what an acceptable `segment` at `at` says of its sender. Only one in the window moves its
    /// clock: a forged one that did would make the receiver refuse every true one (RFC 7323 section 5).
    fn note_sender(&mut self, at: Source, segment: &TcpSegment<'_>) {
        if let (Some(newest), Some(timestamps)) = (self.sender.timestamp.as_mut(), segment.options.timestamps)
            && at >= self.shown - 1
            && timestamps.value.wrapping_sub(*newest).cast_signed() > 0
        {
            *newest = timestamps.value;
        }
        let packet = IPV4_HEADER_BYTES + HEADER_BYTES + segment.options.raw.len() + segment.payload.len();
        self.sender.largest = self.sender.largest.max(segment.payload.len());
        self.sender.largest_packet = self.sender.largest_packet.max(packet);
    }

    /// SACK blocks of the receiver as the sender counts. A block that lies below the acknowledgement
    /// reports a duplicate (RFC 2883); one the stage itself caused is left out.
    fn map_sack(&self, blocks: &SackBlocks) -> SackBlocks {
        let mut mapped = SackBlocks::default();
        for (left, right) in blocks.iter() {
            let left = Target::near(left, self.isn, self.acked);
            let right = Target::near(right, self.isn, self.acked);
            let is_ours = right <= self.repeated_until;
            if left >= right || right > self.sent || is_ours {
                continue;
            }
            let (from, until) = if right <= self.acked {
                (self.source_below_or_until(left), self.source_below_or_until(right))
            } else if self.opaque && left >= self.end {
                (self.decided + (left - self.end), self.decided + (right - self.end))
            } else {
                (self.log.source_from(left.max(self.acked)).max(self.shown), self.log.source_until(right))
            };
            if from < until {
                mapped.push(from.seq(self.isn), until.seq(self.isn));
            }
        }
        mapped
    }
}

/// How far behind the right edge shown a sender may send: a probe, or a window that was taken back.
pub(super) const WINDOW_SLACK: i64 = 0x1_0000;

/// How far below the edges old duplicates and overtaken acknowledgements are taken for what they are.
const BELOW_SLACK: i64 = 0x10_0000;

const MIN_IPV4_MTU: u16 = 68;
const IPV4_HEADER_BYTES: usize = 20;
