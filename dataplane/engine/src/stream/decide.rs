//! Held bytes and their verdicts.
//!
//! The ALG is asked only when everything it may answer has room: its verdict stands, it is never asked
//! twice. Until there is room the bytes wait, held, and the acknowledgement that makes room asks again.

use algate_alg::{Context, Direction, Step, Verdict};

use super::half::Half;
use super::transmit::Cause;
use super::{State, StreamContext, StreamLimits, TcpStream};
use crate::time::Instant;

impl TcpStream {
    /// Shows the ALG what is held, message by message, until it wants more in both directions: a verdict
    /// in one may be what the other one waited for (a reply that tells what follows its command).
    pub(super) fn decide_both(&mut self, now: Instant, cause: &mut Cause, cx: &mut StreamContext<'_>) {
        while self.decide(now, Direction::Original, false, cause, cx)
            | self.decide(now, Direction::Reply, false, cause, cx)
        {}
    }

    /// Shows the ALG what is held in `direction`, message by message. With `no_more` it must decide.
    /// Returns whether it decided anything.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        direction: Direction,
        no_more: bool,
        cause: &mut Cause,
        cx: &mut StreamContext<'_>,
    ) -> bool {
        let mut any = false;
        while let Some(step) = self.inspect(direction, no_more, cx) {
            let half = self.half_mut(direction);
            let length = half.held.in_order().len();
            let (length, verdict) = match step {
                // Only the end makes it undecidable: nothing follows a FIN, so the rest may pass. After
                // any other bound the place in the protocol is lost, and so is the reading.
                Step::Incomplete if half.fin == Some(half.in_order()) => (length, Verdict::Pass),
                Step::Incomplete => (length, Verdict::Detach),
                Step::Message { length: decided, verdict } if (1..=length).contains(&decided) => {
                    (decided, verdict)
                }
                // An ALG that breaks its contract is not asked again.
                Step::Message { .. } => (length, Verdict::Detach),
            };
            let decided = half.decided + length as i64;
            match verdict {
                Verdict::Pass | Verdict::Opaque | Verdict::Detach => half.pass(length),
                Verdict::Rewrite => half.rewrite(length, &cx.memory.edits),
                Verdict::Remove => half.remove(length),
                Verdict::Terminate => {}
            }
            if half.decided != decided {
                self.terminate(cause, cx);
                return false;
            }
            any = true;
            let (_, other) = self.pair_mut(direction);
            other.is_unread |= !other.opaque && !other.held.in_order().is_empty();
            for (direction, bytes) in cx.memory.injections.iter() {
                self.half_mut(direction).inject(bytes);
            }
            if matches!(verdict, Verdict::Opaque | Verdict::Detach) {
                self.turn_opaque();
            }
        }
        let half = self.half_mut(direction);
        if half.held.in_order().is_empty() {
            half.held_since = None;
        } else {
            half.held_since.get_or_insert(now);
        }
        any
    }

    /// Asks the ALG once; `None` when there is nothing to ask, no room for the answer, or no message yet.
    fn inspect(&mut self, direction: Direction, no_more: bool, cx: &mut StreamContext<'_>) -> Option<Step> {
        if self.state == State::Terminated {
            return None;
        }
        let (half, other) = self.pair_mut(direction);
        let input = half.held.in_order();
        if half.opaque || !half.is_unread || !has_room(half, other, &cx.memory.limits) {
            return None;
        }
        if input.is_empty() {
            half.is_unread = false;
            return None;
        }
        let at_end = no_more || half.held.is_full() || half.fin == Some(half.in_order());
        cx.memory.edits.clear();
        cx.memory.injections.clear();
        let mut context = Context {
            endpoints: cx.endpoints,
            nat: cx.nat,
            policy: cx.policy,
            edits: &mut cx.memory.edits,
            inject: &mut cx.memory.injections,
            events: cx.events,
            at_end,
        };
        let step = cx.alg.inspect(direction, input, &mut context);
        if step == Step::Incomplete && !at_end {
            half.is_unread = false;
            return None;
        }
        Some(step)
    }
}

/// Whether any answer about the held bytes of `half` fits, up to passing both directions' held bytes.
fn has_room(half: &Half, other: &Half, limits: &StreamLimits) -> bool {
    let held = half.held.in_order().len();
    half.send.room() >= held + limits.message_edit_bytes + limits.injection_bytes
        && other.send.room() >= other.held.in_order().len() + limits.injection_bytes
        && half.log.room() > limits.message_edits + limits.injections
        && other.log.room() >= limits.injections
}
