//! TCP flows under an ALG: read from byte 0 in order, edited, and passed on with numbers mapped.
//!
//! The two ends keep their own handshake, congestion control and repetition; the stage maps numbers
//! (RFC 9293) and takes ownership of bytes only where it must: an undecided tail, a removed message, an
//! injected reply. It emits segments of its own for all it received, it never edits one in place.
//!
//! ```text
//! segment --> handshake.rs SYN and RST
//!             receive.rs   accepted? acknowledgement, data at its place, FIN
//!             decide.rs    held bytes in order --> ALG --> send buffer and edit log
//!             transmit.rs  send buffer --> segments; acknowledgements and window of the other direction
//! on_timer -> receive.rs   what the stage owns goes again (RFC 6298); a tail held too long passes
//! ```
//!
//! Invariants:
//! - A byte acknowledged to its sender was acknowledged by the receiver or lies in a buffer here.
//! - No byte of a message leaves before the message's verdict.
//! - The same source bytes become the same target bytes, whatever the segmentation, repetition or order.
//! - Nothing is allocated after [`StreamMemory::new`], and no input panics.
//!
//! Not done here: checksums, addresses and ports (the caller's), congestion control (the sender's: the
//! stage sends only what a sender has sent, and repeats at most [`REPEAT_SEGMENTS`] segments at once).

mod buffer;
mod decide;
mod edit_log;
mod half;
mod handshake;
mod receive;
mod timer;
mod transmit;

pub mod options;
pub mod segment;
pub mod seq;

use std::time::Duration;

use algate_alg::{Alg, Direction, Edits, Events, Injections, Nat, Policy, SessionEndpoints};

use self::buffer::{HalfBuffers, HeldBytes, SendBuffer};
use self::edit_log::Edit;
use self::half::Half;
use self::segment::Outgoing;
use self::seq::{SeqDelta, SeqNum, Target};
use self::transmit::Cause;
use crate::drop_reason::DropReason;
use crate::nat::tcp_window::StreamEdge;
use crate::time::Instant;

/// Bounds of every stream of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Undecided bytes held per direction; also the farthest an out-of-order byte may lie ahead.
    pub held_bytes: usize,
    /// How long an undecided tail is held before it is passed on unread.
    pub held_time: Duration,
    /// Edits per direction that the receiver has not acknowledged yet. Behind that many, messages wait for acknowledgements.
    pub edits: usize,
    /// Edits of one message.
    pub message_edits: usize,
    /// New bytes of one message.
    pub message_edit_bytes: usize,
    /// Injections asked for with one message.
    pub injections: usize,
    /// Bytes of the injections asked for with one message.
    pub injection_bytes: usize,
    /// Gaps kept in the bytes received out of order, per direction.
    pub gaps: usize,
    /// Largest MSS announced to either end, bytes.
    pub mss: u16,
    /// How often the stage repeats what it owns before it resets the session.
    pub tries: u8,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            held_bytes: 16_384,
            held_time: Duration::from_secs(120),
            edits: 128,
            // A SIP message names many addresses.
            message_edits: 64,
            message_edit_bytes: 2048,
            injections: 4,
            injection_bytes: 1024,
            // Segments of one byte, one in twenty lost: with 8 they took three times as long.
            gaps: 32,
            mss: 1460,
            tries: 8,
        }
    }
}

/// What all streams of one owner (a worker or an ALG core) share: buffers, taken once at start, lent to
/// a stream while it has bytes in its care.
#[derive(Debug)]
pub struct StreamMemory {
    limits: StreamLimits,
    free: Vec<[HalfBuffers; 2]>,
    edits: Edits,
    injections: Injections,
}

impl StreamMemory {
    /// Memory for `streams` streams with bytes in care at the same time,
    /// [`StreamMemory::bytes_per_stream`] each. A stream that finds none left drops the segment, and TCP sends it again.
    #[must_use]
    pub fn new(limits: StreamLimits, streams: usize) -> Self {
        let buffers = || HalfBuffers {
            held: HeldBytes::new(limits.held_bytes, limits.gaps),
            send: SendBuffer::new(sent_bytes(&limits)),
            edits: Vec::with_capacity(kept_edits(&limits)),
        };
        Self {
            limits,
            free: (0..streams).map(|_| [buffers(), buffers()]).collect(),
            edits: Edits::with_capacity(limits.message_edits, limits.message_edit_bytes),
            injections: Injections::with_capacity(limits.injections, limits.injection_bytes),
        }
    }

    /// What a stream with bytes in care takes of it, bytes.
    #[must_use]
    pub const fn bytes_per_stream(limits: &StreamLimits) -> usize {
        let gaps = limits.gaps * size_of::<(usize, usize)>();
        let edits = kept_edits(limits) * size_of::<Edit>();
        2 * (limits.held_bytes + gaps + sent_bytes(limits) + edits + size_of::<HalfBuffers>())
    }

    /// How many more streams can have bytes in care.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

/// Decided bytes that one direction keeps: what is held may pass, grown, behind what was injected.
const fn sent_bytes(limits: &StreamLimits) -> usize {
    limits.held_bytes + limits.message_edit_bytes + 2 * limits.injection_bytes
}

/// Edits that one direction keeps: those of a message always fit.
const fn kept_edits(limits: &StreamLimits) -> usize {
    let least = limits.message_edits + 2 * limits.injections + 1;
    if limits.edits > least { limits.edits } else { least }
}

/// What a stream needs of its surroundings for one call.
pub struct StreamContext<'a> {
    /// The protocol's dialogue state of this session.
    pub alg: &'a mut dyn Alg,
    /// Addresses of the session.
    pub endpoints: &'a SessionEndpoints,
    /// What the ALG may ask of NAT.
    pub nat: &'a mut dyn Nat,
    /// What the operator allows.
    pub policy: &'a mut dyn Policy,
    /// Where the ALG counts.
    pub events: &'a mut Events,
    /// The owner's stream memory.
    pub memory: &'a mut StreamMemory,
    /// Where segments go.
    pub out: &'a mut dyn Emit,
}

/// Takes the segments a stream emits.
pub trait Emit {
    /// Sends `segment` in `direction` of travel. `false`: there was no buffer; the stream treats the
    /// segment as lost on the wire.
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool;
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken; what had to be sent was emitted.
    Taken,
    /// It was dropped.
    Dropped(DropReason),
    /// A SYN of a new connection on the addresses of a finished one: [`TcpStream::reset`], then hand it
    /// in again with a new ALG.
    Reopened,
    /// The stream is over: reset by an end, by a verdict, or given up. What had to be sent was emitted.
    Closed,
}

/// What must be done about an ICMP "fragmentation needed".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FragmentationNeeded {
    /// The packet was larger than the sender's own: the stream heeds the message, the sender need not
    /// hear of it.
    Heeded,
    /// The sender must hear of it.
    Forward,
}

/// What `show` tells of a stream, per direction (original, reply).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStatus {
    /// Undecided bytes held.
    pub held_bytes: [usize; 2],
    /// Decided bytes not acknowledged by their receiver.
    pub unacknowledged_bytes: [usize; 2],
    /// Edits not acknowledged by their receiver.
    pub edits: [usize; 2],
    /// Bytes that got a verdict.
    pub decided_bytes: [u64; 2],
    /// Nothing more is read.
    pub opaque: bool,
    /// Reset by an end, by a verdict, or given up.
    pub closed: bool,
}

/// One TCP session under an ALG: at most 1 KiB, its buffers are borrowed while they hold something.
#[derive(Debug, Default)]
pub struct TcpStream {
    original: Half,
    reply: Half,
    /// Buffers are lent.
    is_lent: bool,
    /// TCP-MD5 or TCP-AO: every segment passes as it is.
    is_signed: bool,
    state: State,
}

/// Whether the stream lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// It does.
    #[default]
    Alive,
    /// An end reset it. Segments still pass: the reset may have been lost.
    Reset,
    /// The stage reset it: a verdict, or it gave up. Every segment is answered with a reset.
    Terminated,
}

impl TcpStream {
    /// A stream that waits for its SYN. Takes no memory of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and gives borrowed memory back.
    pub fn reset(&mut self, memory: &mut StreamMemory) {
        self.give_back(memory);
        *self = Self::default();
    }

    /// Stops reading in both directions and passes on what is held: the ALG failed.
    pub fn detach(&mut self, now: Instant, cx: &mut StreamContext<'_>) {
        self.turn_opaque();
        self.finish(now, &mut Cause::default(), cx);
    }

    /// Asks both ends for a sign of life, so that other NATs on the way see one (RFC 9293 section 3.8.4). The answers go no
    /// farther.
    pub fn keep_alive(&mut self, cx: &mut StreamContext<'_>) {
        if self.is_signed || self.state != State::Alive {
            return;
        }
        for direction in [Direction::Original, Direction::Reply] {
            let half = self.half_mut(direction);
            if half.acked > Target(0) {
                half.is_probed = true;
                self.send_below(direction, 1, false, &mut Cause::default(), cx.out);
            }
        }
    }

    /// The sender's number for `seq` in a packet that travelled in `direction` and came back in an ICMP
    /// error; `None` before the SYN.
    #[must_use]
    pub fn map_embedded_seq(&self, direction: Direction, seq: SeqNum) -> Option<SeqNum> {
        let half = self.half(direction);
        let target = Target::near(seq, half.isn, half.acked);
        half.opened.then(|| half.source_below_or_until(target).seq(half.isn))
    }

    /// The constant shift of each direction (original, reply), once nothing is read, held or owned any
    /// more, or both ends have closed: the flow may go back to the fast path. A reset is not enough: one that never
    /// arrives, its TTL too small, would end the reading of a session that lives. Behind both FINs it is: an end that was gone
    /// when the other's last bytes came never acknowledges them, and nothing is left to be read.
    #[must_use]
    pub fn settled(&self) -> Option<[SeqDelta; 2]> {
        if self.state == State::Terminated {
            return None;
        }
        // An end that is gone may reset what comes late.
        let is_cut_off = self.state == State::Reset && self.is_read_out();
        let is_over = self.is_finished() || is_cut_off;
        let [original, reply] = [&self.original, &self.reply].map(|half| {
            // What is repeated to an end that is gone passes as it comes, which it must not where it was edited.
            let is_idle = half.is_idle() || is_cut_off && half.log.len() == 0;
            // The low 32 bits are the difference of the numbers on the wire.
            (half.opened && (half.opaque || is_over) && is_idle)
                .then(|| SeqDelta((half.end.0 - half.decided.0) as i32))
        });
        if self.is_signed { Some([SeqDelta(0); 2]) } else { Some([original?, reply?]) }
    }

    /// Whether both ends have sent their FIN and everything before it is decided: nothing will be announced any more.
    #[must_use]
    pub fn is_read_out(&self) -> bool {
        self.original.is_finished() && self.reply.is_finished()
    }

    /// How far each end has come (original, reply), in its own numbers. `None`: the stream was never read.
    #[must_use]
    pub fn edges(&self) -> Option<[StreamEdge; 2]> {
        let edge = |half: &Half| StreamEdge {
            acked: half.shown.seq(half.isn).0,
            edge: half.right_shown.seq(half.isn).0,
            window_scale: half.sender.window_scale,
        };
        let is_read = self.original.opened && self.reply.opened;
        is_read.then(|| [edge(&self.original), edge(&self.reply)])
    }

    /// When [`TcpStream::on_timer`] wants to be called, if at all.
    #[must_use]
    pub fn deadline(&self, limits: &StreamLimits) -> Option<Instant> {
        let halves = [&self.original, &self.reply];
        let timers = halves.into_iter().filter_map(|half| half.timer.deadline());
        let held = halves.into_iter().filter_map(|half| Some(half.held_since?.plus(limits.held_time)));
        timers.chain(held).min()
    }

    /// What `show` tells.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        let halves = [&self.original, &self.reply];
        StreamStatus {
            held_bytes: halves.map(|half| half.held.in_order().len()),
            unacknowledged_bytes: halves.map(|half| half.send.len()),
            edits: halves.map(|half| half.log.len()),
            decided_bytes: halves.map(|half| u64::try_from(half.decided.0 - 1).unwrap_or(0)),
            opaque: self.original.opaque || self.is_signed,
            closed: self.state != State::Alive,
        }
    }

    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Original => &mut self.original,
            Direction::Reply => &mut self.reply,
        }
    }

    /// The half of `direction` and the other one.
    fn pair_mut(&mut self, direction: Direction) -> (&mut Half, &mut Half) {
        match direction {
            Direction::Original => (&mut self.original, &mut self.reply),
            Direction::Reply => (&mut self.reply, &mut self.original),
        }
    }

    fn turn_opaque(&mut self) {
        self.original.turn_opaque();
        self.reply.turn_opaque();
    }

    /// Borrows buffers. `false` when none is left.
    fn borrow(&mut self, memory: &mut StreamMemory) -> bool {
        if !self.is_lent
            && let Some([original, reply]) = memory.free.pop()
        {
            self.original.lend(original);
            self.reply.lend(reply);
            self.is_lent = true;
        }
        self.is_lent
    }

    fn give_back(&mut self, memory: &mut StreamMemory) {
        if self.is_lent {
            memory.free.push([self.original.reclaim(), self.reply.reclaim()]);
            self.is_lent = false;
        }
    }
}

/// Most segments repeated at once on the stage's own account (the initial window of RFC 6928).
pub const REPEAT_SEGMENTS: i64 = 10;
