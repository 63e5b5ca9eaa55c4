//! One direction of a stream: what its sender sent, what its receiver was sent, and the map between.
//!
//! ```text
//! source   ..... shown ........ decided ....... in order ....... right shown
//!            acknowledged to      verdicts end,    held bytes end
//!            the sender           held begins
//! target   ..... acked ........ end                  sent <= end (+ FIN)
//!            acknowledged by      target of
//!            the receiver         `decided`
//! ```
//!
//! Every decided byte stays in the send buffer until the receiver acknowledged it. So the same source
//! bytes always become the same target bytes, even if the sender repeats them with another content, and
//! owning a byte means no more than having acknowledged it to its sender.
//!
//! Once the stream is opaque, `decided` and `end` stand still: what lies behind them is not kept, its
//! distance is constant, and it passes as it comes.

use algate_alg::Edits;

use super::buffer::{HalfBuffers, HeldBytes, SendBuffer};
use super::edit_log::{Edit, EditLog};
use super::seq::{SeqNum, Source, Target};
use super::timer::RetransmitTimer;
use crate::time::Instant;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// The sender's SYN was seen.
    pub(super) opened: bool,
    pub(super) isn: SeqNum,

    /// Verdicts reach to here.
    pub(super) decided: Source,
    /// Acknowledged to the sender.
    pub(super) shown: Source,
    /// Right edge of the window shown to the sender, the farthest so far.
    pub(super) right_shown: Source,
    /// Window field last shown to the sender.
    pub(super) window_shown: u16,
    /// Behind the last byte or FIN the sender has sent.
    pub(super) seen: Source,
    /// Position of the sender's FIN.
    pub(super) fin: Option<Source>,
    /// Behind the sender's last urgent byte.
    pub(super) urgent: Option<Source>,

    /// Target of `decided`.
    pub(super) end: Target,
    /// Behind the last byte or FIN sent to the receiver.
    pub(super) sent: Target,
    /// Acknowledged by the receiver.
    pub(super) acked: Target,
    /// Right edge of the receiver's window.
    pub(super) right: Target,
    /// Where the receiver's own stream was when it announced that window (RFC 9293, SND.WL1).
    pub(super) right_at: Source,
    /// Up to here the stage repeated bytes on its own account.
    pub(super) repeated_until: Target,
    /// The receiver was asked for a sign of life, and its answer is not for the sender.
    pub(super) is_probed: bool,

    pub(super) held: HeldBytes,
    pub(super) send: SendBuffer,
    pub(super) log: EditLog,

    /// Nothing behind `decided` is read.
    pub(super) opaque: bool,
    /// Held bytes are to be shown to the ALG.
    pub(super) is_unread: bool,
    /// An acknowledgement is to be sent to the sender.
    pub(super) ack_due: bool,
    /// Since when the undecided message is held.
    pub(super) held_since: Option<Instant>,
    pub(super) timer: RetransmitTimer,

    /// Bytes that can be held.
    pub(super) capacity: i64,
    /// MSS the receiver announced, bytes.
    pub(super) receiver_mss: u16,
    /// Scale of the receiver's window.
    pub(super) window_shift: u8,
    /// What the sender announced and showed.
    pub(super) sender: Sender,
}

/// What is known of the host that sends in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    /// Its MSS option: what it is ready to receive, bytes.
    pub(super) mss: u16,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    /// Newest TSval, when its SYN had one.
    pub(super) timestamp: Option<u32>,
    /// Window of its SYN, bytes.
    pub(super) first_window: u16,
    /// Largest data of a segment it sent, bytes.
    pub(super) largest: usize,
    /// Largest packet it sent, IPv4 header included, bytes.
    pub(super) largest_packet: usize,
    /// Path MTU towards the receiver, bytes.
    pub(super) path_mtu: u16,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            mss: DEFAULT_MSS,
            window_scale: None,
            sack_permitted: false,
            timestamp: None,
            largest: 0,
            largest_packet: 0,
            first_window: 0,
            path_mtu: u16::MAX,
        }
    }
}

impl Half {
    /// The sender's SYN was seen.
    pub(super) fn open(&mut self, isn: SeqNum, sender: Sender, capacity: usize) {
        *self = Self {
            opened: true,
            isn,
            decided: Source(1),
            seen: Source(1),
            end: Target(1),
            sent: Target(1),
            capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
            opaque: self.opaque,
            sender,
            ..Self::default()
        };
    }

    /// Lends memory.
    pub(super) fn lend(&mut self, buffers: HalfBuffers) {
        self.held = buffers.held;
        self.send = buffers.send;
        self.log.lend(buffers.edits);
    }

    /// Gives the memory back, empty.
    pub(super) fn reclaim(&mut self) -> HalfBuffers {
        let mut buffers = HalfBuffers {
            held: std::mem::take(&mut self.held),
            send: std::mem::take(&mut self.send),
            edits: self.log.reclaim(),
        };
        buffers.held.clear();
        buffers.send.pop(usize::MAX);
        buffers.edits.clear();
        buffers
    }

    /// Whether no byte and no edit is kept.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.send.len() == 0 && self.log.len() == 0
    }

    /// Everything before it was received, without a gap.
    pub(super) fn in_order(&self) -> Source {
        self.decided + self.held.in_order().len() as i64
    }

    /// The FIN was received, and everything before it is decided.
    pub(super) fn is_finished(&self) -> bool {
        self.fin == Some(self.decided)
    }

    /// Behind everything that can be sent to the receiver, FIN included.
    pub(super) fn sendable(&self) -> Target {
        self.end + i64::from(self.is_finished())
    }

    /// What the sender may be told to be delivered: what the receiver acknowledged, and held bytes once
    /// everything before them was. They are owned from then on.
    pub(super) fn ack_source(&self) -> Source {
        let behind_end = self.acked - self.end;
        if behind_end < 0 {
            self.log.source_until(self.acked)
        } else if self.opaque || behind_end > 0 {
            self.decided + behind_end
        } else {
            self.in_order()
        }
    }

    /// What an acknowledgement of everything before `target` acknowledges, below the receiver's edge too:
    /// there, as far below what its own acknowledgement stands for.
    pub(super) fn source_below_or_until(&self, target: Target) -> Source {
        let below = (self.acked - target).max(0);
        self.log.source_until(target.max(self.acked)) - below
    }

    /// The window field for an acknowledgement of `ack` to the sender.
    ///
    /// Its right edge is the receiver's, as far as verdicts go; what is held counts against it because
    /// it starts at `decided`. It is also limited by the room for held bytes, rounded up at the scale: an
    /// excess is dropped and sent again, while rounded down a receiver's large scale would close the
    /// window for good. One departure: while an incomplete message alone has used up the receiver's
    /// window, the sender may go on into the stage's own room; else the message could never be completed.
    /// Nothing of it is sent before the receiver has room.
    pub(super) fn window(&self, ack: Source) -> u16 {
        let before = self.decided - ack;
        let receiver = (before + (self.right - self.end)).max(0) >> self.window_shift;
        if self.opaque {
            return field(receiver);
        }
        let round_up = |bytes: i64| (bytes.max(0) + (1 << self.window_shift) - 1) >> self.window_shift;
        let own = before + self.capacity;
        let is_stuck = receiver == 0 && self.acked == self.end && !self.held.in_order().is_empty();
        let receiver = if is_stuck { round_up(i64::from(DEFAULT_MSS)) } else { receiver };
        field(receiver.min(round_up(own)))
    }

    /// Acknowledgement number and window field for the sender, now to be sent.
    pub(super) fn show(&mut self) -> (SeqNum, u16) {
        self.shown = self.shown.max(self.ack_source());
        self.window_shown = self.window(self.shown);
        let right = self.shown + (i64::from(self.window_shown) << self.window_shift);
        self.right_shown = self.right_shown.max(right);
        self.ack_due = false;
        (self.shown.seq(self.isn), self.window_shown)
    }

    /// Whether the sender must hear of what it was not shown yet.
    pub(super) fn is_ack_due(&self) -> bool {
        let has_news = self.ack_due
            || self.ack_source() > self.shown
            || (self.window_shown == 0 && self.window(self.shown) > 0);
        // Before the receiver has acknowledged the SYN there is nothing to tell.
        has_news && self.acked > Target(0)
    }

    /// The receiver acknowledged everything before `acked`, more than before.
    pub(super) fn acknowledge(&mut self, now: Instant, acked: Target) {
        let bytes = acked.min(self.end) - self.first_kept().min(self.end);
        self.send.pop(usize::try_from(bytes).unwrap_or(0));
        self.acked = acked;
        self.log.prune(acked);
        self.timer.acknowledged(now, acked);
    }

    /// Target of the first byte of the send buffer.
    pub(super) fn first_kept(&self) -> Target {
        self.acked.max(Target(1))
    }

    /// Whether the stage owns decided bytes: acknowledged to the sender, or never the sender's, and not
    /// acknowledged by the receiver.
    pub(super) fn owns_decided(&self) -> bool {
        self.acked < self.end
            && (self.shown > self.log.source_until(self.acked) || self.log.has_injection_behind(self.acked))
    }

    /// Whether held bytes are acknowledged to the sender.
    pub(super) fn owns_held(&self) -> bool {
        !self.opaque && self.shown > self.decided && !self.held.in_order().is_empty()
    }

    /// Whether the stage must repeat by itself: it owns bytes, and no unacknowledged bytes of the sender
    /// lie behind them whose repetition would carry them along.
    pub(super) fn must_repeat(&self) -> bool {
        self.owns_decided() && self.seen <= self.shown
    }

    /// Passes the first `count` held bytes.
    pub(super) fn pass(&mut self, count: usize) {
        let bytes = self.held.in_order();
        let bytes = bytes.get(..count).unwrap_or(bytes);
        let count = bytes.len();
        if self.send.push(bytes) {
            self.end = self.end + count as i64;
            self.take(count);
        }
    }

    /// Passes the first `count` held bytes with replacements. Those that do not fit into the message are
    /// left out.
    pub(super) fn rewrite(&mut self, count: usize, edits: &Edits) {
        let mut done = 0;
        for (range, with) in edits.iter().filter(|(range, _)| range.end <= count) {
            self.pass(range.start.saturating_sub(done));
            self.replace(range.len(), with);
            done = range.end;
        }
        self.pass(count.saturating_sub(done));
    }

    /// Takes the first `count` held bytes out of the stream.
    pub(super) fn remove(&mut self, count: usize) {
        self.replace(count, &[]);
    }

    /// Adds `bytes` behind the last decided one. Behind a FIN that was sent there is no place any more.
    pub(super) fn inject(&mut self, bytes: &[u8]) {
        if self.sent <= self.end && !self.opaque {
            self.replace(0, bytes);
        }
    }

    /// Nothing behind the held bytes is read; they pass. What came out of order, or has no room, is
    /// forgotten: it was not acknowledged and comes again. (For held bytes that were acknowledged there is
    /// room: they were acknowledged with the send buffer empty, and an injection leaves room for them.)
    pub(super) fn turn_opaque(&mut self) {
        self.pass(self.send.room());
        self.held.clear();
        self.opaque = true;
        self.is_unread = false;
        self.held_since = None;
    }

    fn replace(&mut self, count: usize, with: &[u8]) {
        if !self.send.push(with) {
            return;
        }
        if count != with.len() {
            self.log.push(Edit {
                source: self.decided,
                source_length: count as i64,
                target: self.end,
                target_length: with.len() as i64,
            });
            // A removal behind everything acknowledged is acknowledged with it.
            self.log.prune(self.acked);
        }
        self.end = self.end + with.len() as i64;
        self.take(count);
    }

    fn take(&mut self, count: usize) {
        self.held.consume(count);
        self.decided = self.decided + count as i64;
        self.held_since = None;
    }
}

fn field(units: i64) -> u16 {
    u16::try_from(units).unwrap_or(u16::MAX)
}

/// What a host takes that announced nothing (RFC 9293 section 3.7.1).
pub(super) const DEFAULT_MSS: u16 = 536;
