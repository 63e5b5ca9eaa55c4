//! TCP flows under an ALG: read from byte 0 in order, edited, and passed on with numbers mapped.
pub mod options;
pub mod segment;
pub mod seq;

use std::time::Duration;

use algate_alg::{Alg, Direction, Edits, Events, Injections, Nat, SessionEndpoints};

use self::segment::{Outgoing, TcpSegment};
use self::seq::{SeqDelta, SeqNum};
use crate::drop_reason::DropReason;
use crate::time::Instant;

/// Bounds of every stream of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Undecided bytes held per direction; also the farthest an out-of-order byte may lie ahead.
    pub held_bytes: usize,
    /// How long an undecided tail is held before it is passed on unread.
    pub held_time: Duration,
    /// Edits per direction that the receiver has not acknowledged yet.
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
            message_edits: 16,
            message_edit_bytes: 2048,
            injections: 4,
            injection_bytes: 1024,
            gaps: 8,
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
}

impl StreamMemory {
    /// Memory for `streams` streams with bytes in care at the same time.
    #[must_use]
    pub fn new(limits: StreamLimits, _streams: usize) -> Self {
        Self { limits }
    }
}

/// What a stream needs of its surroundings for one call.
pub struct StreamContext<'a> {
    /// The protocol's dialogue state of this session.
    pub alg: &'a mut dyn Alg,
    /// Addresses of the session.
    pub endpoints: &'a SessionEndpoints,
    /// What the ALG may ask of NAT.
    pub nat: &'a mut dyn Nat,
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
    /// The stream is over: reset by an end or by a verdict.
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

/// One TCP session under an ALG.
#[derive(Debug, Default)]
pub struct TcpStream {}

impl TcpStream {
    /// A stream that waits for its SYN. Takes no memory of its own.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Forgets everything and gives borrowed memory back.
    pub fn reset(&mut self, _memory: &mut StreamMemory) {}

    /// Takes one `segment` travelling in `direction`, checksum verified.
    pub fn segment(
        &mut self,
        _now: Instant,
        direction: Direction,
        segment: &TcpSegment<'_>,
        cx: &mut StreamContext<'_>,
    ) -> Outcome {
        cx.out.emit(
            direction,
            &Outgoing {
                seq: segment.seq,
                ack: segment.ack,
                flags: segment.flags,
                window: segment.window,
                urgent: segment.urgent,
                options: segment.options.raw,
                payload: [segment.payload, &[]],
            },
        );
        Outcome::Taken
    }

    /// When [`TcpStream::on_timer`] wants to be called, if at all.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`.
    pub fn on_timer(&mut self, _now: Instant, _cx: &mut StreamContext<'_>) {}

    /// Stops reading in both directions and passes on what is held: the ALG failed.
    pub fn detach(&mut self, _now: Instant, _cx: &mut StreamContext<'_>) {}

    /// Heeds an ICMP "fragmentation needed" for a packet that travelled in `direction`; `mtu` in bytes.
    pub fn frag_needed(
        &mut self,
        _now: Instant,
        _direction: Direction,
        _mtu: u16,
        _cx: &mut StreamContext<'_>,
    ) -> FragmentationNeeded {
        FragmentationNeeded::Forward
    }

    /// The sender's number for `seq` in a packet that travelled in `direction` and came back in an ICMP
    /// error; `None` before the SYN.
    #[must_use]
    pub fn map_embedded_seq(&self, _direction: Direction, seq: SeqNum) -> Option<SeqNum> {
        Some(seq)
    }

    /// The constant shift of each direction (original, reply), once nothing is read, held or owned any
    /// more: the flow may go back to the fast path.
    #[must_use]
    pub fn settled(&self) -> Option<[SeqDelta; 2]> {
        None
    }

    /// What `show` tells.
    #[must_use]
    pub fn status(&self) -> StreamStatus {
        StreamStatus::default()
    }
}
