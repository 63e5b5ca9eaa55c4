//! Which sequence numbers a TCP segment may carry: what a RST must show before it is believed.
//!
//! RFC 5961 section 3 (a RST counts only inside the window), RFC 9293 section 3.10.7.3 (a RST that answers
//! a SYN is judged by its acknowledgement), RFC 7323 section 2 (window scale), RFC 5927 section 4.1 (an
//! ICMP error embeds a number that is on its way).
//!
//! Per side, as its packets carry them: `acked`, the highest number that the other side has acknowledged,
//! and `edge`, the right edge of the widest window that the other side has offered. Both move
//! with acknowledgements only, so a segment that acknowledges nothing new writes nothing.
//!
//! ```text
//! SYN from the internal side       its numbers begin anew; the external side's are unknown until it answers
//! SYN from the external side       believed when it opens, re-opens, or acknowledges the internal SYN
//! other, both sides known          believed when its number lies in its window and its acknowledgement in
//!                                  the other's; then moves the other side's `acked` and `edge`
//! RST from the external side       in the window; if that is unknown: acknowledges the internal SYN
//! RST from the internal side       always: that host can end its own session anyhow
//! ```
//!
//! Sides whose SYN was not seen are unknown, and nothing is refused for their sake.
//!
//! Two workers that note segments of one direction at a time may lose the older note; the next
//! acknowledgement mends it.

use crate::nat::sctp_state::Tags;
use crate::nat::session::Facing;
use crate::nat::tcp_state::{FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN};
use crate::packet::parse::Ipv4View;
use crate::packet::rewrite::{TcpNumbers, tcp_numbers};
use crate::stream::options::TcpOptions;
use crate::table::sync::{AtomicU64, Ordering};

/// How a segment lies to the windows of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// As its sender would send it, or nothing is known that speaks against it.
    Inside,
    /// A stray or a forgery.
    Outside,
}

/// What a segment says, besides its ports.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    seq: u32,
    ack: u32,
    window: u16,
    flags: u8,
    /// Bytes of payload.
    length: u32,
    /// Options, of a SYN only.
    options: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The TCP segment that `view` found in `head`; `None` when `head` is too short for it.
    #[inline]
    #[must_use]
    pub fn of(head: &'a [u8], view: &Ipv4View) -> Option<Self> {
        let numbers = tcp_numbers(head, view)?;
        let options = if view.tcp_flags & FLAG_SYN == 0 {
            &[]
        } else {
            head.get(usize::from(view.l4) + crate::packet::TCP_BYTES..usize::from(view.payload))?
        };
        Some(Self {
            seq: numbers.seq,
            ack: numbers.ack,
            window: numbers.window,
            flags: view.tcp_flags,
            length: u32::from(view.payload_bytes()),
            options,
        })
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Windows of one session.
#[derive(Debug, Default)]
#[repr(C)]
pub struct TcpWindow {
    /// `acked` and `edge` of the internal and of the external side.
    sides: [AtomicU64; 2],
    /// Flags and window scales; of an SCTP association: its verification tags.
    info: AtomicU64,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<TcpWindow>() == 24);

impl TcpWindow {
    /// Forgets everything, for a new session.
    pub fn clear(&self) {
        // Relaxed, here and below: each word stands for itself, and the session's key is published later.
        self.info.store(0, Ordering::Relaxed);
    }

    /// Where its last byte lies, to be fetched.
    #[inline]
    #[must_use]
    pub const fn last_word(&self) -> &AtomicU64 {
        &self.info
    }

    /// Begins in the middle: what an ALG knows that has read the session up to now, of the internal and of the external side.
    pub fn resume(&self, [internal, external]: [StreamEdge; 2]) {
        self.set_side(Facing::Internal, internal.side());
        self.set_side(Facing::External, external.side());
        let scale =
            |side, edge: StreamEdge| u64::from(edge.window_scale.unwrap_or(NO_SCALE)) << scale_shift(side);
        let scales = scale(Facing::Internal, internal) | scale(Facing::External, external);
        let is_open = open_flag(Facing::Internal) | open_flag(Facing::External);
        self.info.store(BOTH_KNOWN | is_open | scales, Ordering::Relaxed);
    }

    /// The verification tags, when the session is an SCTP association.
    #[must_use]
    pub const fn tags(&self) -> Tags<'_> {
        Tags::new(&self.info)
    }

    /// Judges `segment`, which came from `from`, and notes what it says. `may_reopen`: the session is
    /// being opened or closed and this is its originator's side, so that a SYN begins it anew.
    #[inline]
    pub fn observe(&self, from: Facing, may_reopen: bool, segment: &Segment<'_>) -> Fit {
        if segment.has(FLAG_SYN | FLAG_RST) {
            return self.observe_control(from, may_reopen, segment);
        }
        let Segment { seq, ack, window, .. } = *segment;
        self.observe_data(from, TcpNumbers { seq, ack, window }, segment.has(FLAG_ACK))
    }

    /// The same of a segment with these `numbers` and without SYN and RST; `acknowledges`: with ACK.
    #[inline]
    pub fn observe_data(&self, from: Facing, numbers: TcpNumbers, acknowledges: bool) -> Fit {
        let info = self.info.load(Ordering::Relaxed);
        if info & BOTH_KNOWN != BOTH_KNOWN {
            return Fit::Inside;
        }
        let (own, other) = (self.side(from), self.side(from.opposite()));
        let begins_inside =
            numbers.seq.wrapping_sub(own.acked.wrapping_sub(LAG)) <= own.width().saturating_add(LAG);
        if !begins_inside {
            return Fit::Outside;
        }
        if acknowledges && numbers.ack.wrapping_sub(other.acked) <= other.width() {
            let offered = u32::from(numbers.window) << shift_of(info, from);
            let edge = numbers.ack.wrapping_add(offered);
            let is_open = info & open_flag(from.opposite()) != 0;
            let edge = if is_open && is_before(edge, other.edge) { other.edge } else { edge };
            let moved = Side { acked: numbers.ack, edge };
            if moved != other {
                self.set_side(from.opposite(), moved);
            }
            if !is_open {
                self.info.store(info | open_flag(from.opposite()), Ordering::Relaxed);
            }
        }
        Fit::Inside
    }

    /// Whether `seq`, in a packet of the side `from` that an ICMP error embeds, is on its way (RFC 5927
    /// section 4.1).
    #[must_use]
    pub fn is_in_flight(&self, from: Facing, seq: u32) -> bool {
        let info = self.info.load(Ordering::Relaxed);
        info & known_flag(from) == 0 || self.side(from).holds(seq)
    }

    #[cold]
    fn observe_control(&self, from: Facing, may_reopen: bool, segment: &Segment<'_>) -> Fit {
        match (segment.has(FLAG_RST), from) {
            (true, Facing::Internal) => Fit::Inside,
            (true, Facing::External) => self.judge_reset(segment),
            (false, Facing::Internal) => {
                self.begin_internal(may_reopen, segment);
                Fit::Inside
            }
            (false, Facing::External) => self.begin_external(may_reopen, segment),
        }
    }

    fn judge_reset(&self, segment: &Segment<'_>) -> Fit {
        let info = self.info.load(Ordering::Relaxed);
        let is_inside = if info & known_flag(Facing::External) != 0 {
            self.side(Facing::External).holds(segment.seq)
        } else {
            info & known_flag(Facing::Internal) == 0 || self.acknowledges_syn(segment)
        };
        if is_inside { Fit::Inside } else { Fit::Outside }
    }

    /// Whether it acknowledges the internal SYN, or what followed in its segment (RFC 7413).
    fn acknowledges_syn(&self, segment: &Segment<'_>) -> bool {
        let syn = self.side(Facing::Internal);
        let acknowledged = segment.ack.wrapping_sub(syn.acked);
        segment.has(FLAG_ACK) && acknowledged != 0 && acknowledged <= syn.width()
    }

    fn begin_internal(&self, may_reopen: bool, segment: &Segment<'_>) {
        let info = self.info.load(Ordering::Relaxed);
        let is_repeated = self.side(Facing::Internal).acked.wrapping_sub(segment.seq) <= 1;
        if info & known_flag(Facing::Internal) != 0 && is_repeated && !may_reopen {
            return;
        }
        self.begin(Facing::Internal, segment);
        if segment.has(FLAG_ACK) {
            // It answers the external side's SYN: the host's word for that side's number.
            let offered = segment.ack.wrapping_add(u32::from(segment.window));
            self.set_side(Facing::External, Side { acked: segment.ack, edge: offered });
            let known = known_flag(Facing::External) | open_flag(Facing::External);
            self.info.fetch_or(known, Ordering::Relaxed);
        } else {
            self.info.fetch_and(!known_flag(Facing::External), Ordering::Relaxed);
        }
    }

    fn begin_external(&self, may_reopen: bool, segment: &Segment<'_>) -> Fit {
        let info = self.info.load(Ordering::Relaxed);
        let is_answer = self.acknowledges_syn(segment);
        let is_new = match (info & known_flag(Facing::Internal) != 0, segment.has(FLAG_ACK)) {
            // An answer; the side is open once the internal host has acknowledged it.
            (true, true) => is_answer && info & OPEN_EXTERNAL_KNOWN != OPEN_EXTERNAL_KNOWN,
            // Simultaneous open, or the originator's next connection.
            (true, false) => may_reopen || info & known_flag(Facing::External) == 0,
            (false, _) => may_reopen || info & known_flag(Facing::External) == 0,
        };
        if !is_new {
            return if self.side(Facing::External).holds(segment.seq) { Fit::Inside } else { Fit::Outside };
        }
        self.begin(Facing::External, segment);
        if is_answer {
            let offered = segment.ack.wrapping_add(u32::from(segment.window));
            self.set_side(Facing::Internal, Side { acked: segment.ack, edge: offered });
            self.info.fetch_or(open_flag(Facing::Internal), Ordering::Relaxed);
        } else if may_reopen && !segment.has(FLAG_ACK) {
            self.info.fetch_and(!known_flag(Facing::Internal), Ordering::Relaxed);
        }
        Fit::Inside
    }

    /// The SYN of a side: nothing of it is acknowledged, nothing but itself may come.
    fn begin(&self, side: Facing, segment: &Segment<'_>) {
        let behind = segment.seq.wrapping_add(segment.length).wrapping_add(1);
        self.set_side(side, Side { acked: segment.seq, edge: behind });
        let scale = TcpOptions::parse(segment.options).window_scale.unwrap_or(NO_SCALE);
        let info = self.info.load(Ordering::Relaxed) & !(open_flag(side) | (0xF << scale_shift(side)));
        let scale = u64::from(scale) << scale_shift(side);
        self.info.store(info | known_flag(side) | scale, Ordering::Relaxed);
    }

    #[inline]
    fn side(&self, facing: Facing) -> Side {
        let [internal, external] = &self.sides;
        let word = match facing {
            Facing::Internal => internal.load(Ordering::Relaxed),
            Facing::External => external.load(Ordering::Relaxed),
        };
        Side { acked: (word >> 32) as u32, edge: word as u32 }
    }

    #[inline]
    fn set_side(&self, facing: Facing, side: Side) {
        let [internal, external] = &self.sides;
        let word = (u64::from(side.acked) << 32) | u64::from(side.edge);
        match facing {
            Facing::Internal => internal.store(word, Ordering::Relaxed),
            Facing::External => external.store(word, Ordering::Relaxed),
        }
    }
}

/// How far a side has come, in its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamEdge {
    /// The highest number acknowledged to it.
    pub acked: u32,
    /// The right edge of the widest window it was offered.
    pub edge: u32,
    /// Scale of the windows that it offers.
    pub window_scale: Option<u8>,
}

impl StreamEdge {
    const fn side(self) -> Side {
        Side { acked: self.acked, edge: self.edge }
    }
}

/// The numbers that packets of one side may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    acked: u32,
    edge: u32,
}

impl Side {
    const fn width(self) -> u32 {
        self.edge.wrapping_sub(self.acked)
    }

    const fn holds(self, seq: u32) -> bool {
        seq.wrapping_sub(self.acked) <= self.width()
    }
}

/// What a segment with `flags` that lies like `fit` means for tracking: a FIN or an answer that does not fit
/// changes nothing.
#[inline]
#[must_use]
pub const fn is_heeded(flags: u8, fit: Fit) -> bool {
    matches!(fit, Fit::Inside) || flags & (FLAG_SYN | FLAG_FIN) == 0
}

const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

const fn known_flag(side: Facing) -> u64 {
    match side {
        Facing::Internal => 1,
        Facing::External => 2,
    }
}

/// The other side has offered that side a window.
const fn open_flag(side: Facing) -> u64 {
    known_flag(side) << 2
}

const fn scale_shift(side: Facing) -> u32 {
    match side {
        Facing::Internal => 8,
        Facing::External => 12,
    }
}

/// By how much the windows that `side` announces are shifted: only if both sides can (RFC 7323 section 2.2).
#[inline]
const fn shift_of(info: u64, side: Facing) -> u32 {
    let own = (info >> scale_shift(side)) as u8 & 0xF;
    let other = (info >> scale_shift(side.opposite())) as u8 & 0xF;
    if own == NO_SCALE || other == NO_SCALE { 0 } else { own as u32 }
}

const BOTH_KNOWN: u64 = known_flag(Facing::Internal) | known_flag(Facing::External);
const OPEN_EXTERNAL_KNOWN: u64 = known_flag(Facing::External) | open_flag(Facing::External);
/// No window scale option.
const NO_SCALE: u8 = 15;
/// How far behind the acknowledged bytes a segment may begin and still speak: repeated data and keep-alive
/// probes carry fresh acknowledgements.
const LAG: u32 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Facing = Facing::Internal;
    const SERVER: Facing = Facing::External;

    fn segment(flags: u8, seq: u32, ack: u32) -> Segment<'static> {
        Segment { seq, ack, window: 8_192, flags, length: 0, options: &[] }
    }

    /// SYN, SYN-ACK and ACK with these first numbers, window scale 7 on both sides.
    fn established(client: u32, server: u32) -> TcpWindow {
        let windows = TcpWindow::default();
        let options = &[3, 3, 7, 1];
        let syn = Segment { options, ..segment(FLAG_SYN, client, 0) };
        assert_eq!(windows.observe(CLIENT, true, &syn), Fit::Inside);
        let answer = segment(FLAG_SYN | FLAG_ACK, server, client.wrapping_add(1));
        assert_eq!(windows.observe(SERVER, false, &Segment { options, ..answer }), Fit::Inside);
        let ack = segment(FLAG_ACK, client.wrapping_add(1), server.wrapping_add(1));
        assert_eq!(windows.observe(CLIENT, false, &ack), Fit::Inside);
        windows
    }

    #[test]
    fn the_window_of_a_reset_has_two_exact_edges_wherever_numbers_wrap() {
        for server in [1_000, u32::MAX, u32::MAX - 500_000, u32::MAX / 2] {
            let windows = established(77, server);
            let first = server.wrapping_add(1);
            let edge = first.wrapping_add(8_192 << 7);
            for (seq, fit) in [
                (first.wrapping_sub(1), Fit::Outside),
                (first, Fit::Inside),
                (edge, Fit::Inside),
                (edge.wrapping_add(1), Fit::Outside),
                (first ^ 0x8000_0000, Fit::Outside),
            ] {
                assert_eq!(windows.observe(SERVER, false, &segment(FLAG_RST, seq, 0)), fit, "{server} {seq}");
            }
        }
    }

    #[test]
    fn acknowledgements_move_the_window_and_forged_ones_do_not() {
        let windows = established(1_000, 5_000);
        windows.observe(CLIENT, false, &segment(FLAG_ACK, 1_001, 500_000));
        assert_eq!(windows.side(SERVER).acked, 500_000);
        for (seq, ack) in [(1_001, 0x9000_0000), (0x4000_0000, 600_000), (1_001, 499_999)] {
            windows.observe(CLIENT, false, &segment(FLAG_ACK, seq, ack));
            assert_eq!(windows.side(SERVER).acked, 500_000, "{seq} {ack}");
        }
        // A smaller window takes nothing back that was offered.
        let edge = windows.side(SERVER).edge;
        windows.observe(CLIENT, false, &Segment { window: 0, ..segment(FLAG_ACK, 1_001, 500_001) });
        assert_eq!(windows.side(SERVER), Side { acked: 500_001, edge });
    }

    #[test]
    fn a_reset_that_answers_a_syn_is_judged_by_its_acknowledgement() {
        let windows = TcpWindow::default();
        windows.observe(CLIENT, true, &segment(FLAG_SYN, 1_000, 0));
        for (flags, ack, fit) in [
            (FLAG_RST | FLAG_ACK, 1_001, Fit::Inside),
            (FLAG_RST | FLAG_ACK, 1_000, Fit::Outside),
            (FLAG_RST | FLAG_ACK, 1_002, Fit::Outside),
            (FLAG_RST, 0, Fit::Outside),
        ] {
            assert_eq!(windows.observe(SERVER, false, &segment(flags, 0, ack)), fit, "{flags:#x} {ack}");
        }
    }

    #[test]
    fn an_answer_to_another_syn_teaches_nothing() {
        let windows = TcpWindow::default();
        windows.observe(CLIENT, true, &segment(FLAG_SYN, 1_000, 0));
        let forged = segment(FLAG_SYN | FLAG_ACK, 9, 7);
        assert_eq!(windows.observe(SERVER, false, &forged), Fit::Outside);
        let answer = segment(FLAG_SYN | FLAG_ACK, 5_000, 1_001);
        assert_eq!(windows.observe(SERVER, false, &answer), Fit::Inside);
        assert_eq!(windows.side(SERVER).acked, 5_000);
    }

    #[test]
    fn a_syn_from_outside_does_not_move_the_numbers_of_an_open_session() {
        let windows = established(1_000, 5_000);
        let before = windows.side(SERVER);
        assert_eq!(windows.observe(SERVER, false, &segment(FLAG_SYN, 0x7000_0000, 0)), Fit::Outside);
        assert_eq!(windows.side(SERVER), before);
    }

    #[test]
    fn a_host_that_begins_anew_is_answered_with_new_numbers() {
        let windows = established(1_000, 5_000);
        windows.observe(CLIENT, false, &segment(FLAG_SYN, 0x6000_0000, 0));
        let answer = segment(FLAG_SYN | FLAG_ACK, 0x2000_0000, 0x6000_0001);
        assert_eq!(windows.observe(SERVER, false, &answer), Fit::Inside);
        windows.observe(CLIENT, false, &segment(FLAG_ACK, 0x6000_0001, 0x2000_0001));
        let reset = |seq| windows.observe(SERVER, false, &segment(FLAG_RST, seq, 0));
        assert_eq!((reset(0x2000_0001), reset(5_001)), (Fit::Inside, Fit::Outside));
    }

    #[test]
    fn a_repeated_syn_after_the_answer_forgets_nothing() {
        let windows = established(1_000, 5_000);
        windows.observe(CLIENT, false, &segment(FLAG_SYN, 1_000, 0));
        assert_eq!(windows.observe(SERVER, false, &segment(FLAG_RST, 5_001, 0)), Fit::Inside);
        assert_eq!(windows.observe(SERVER, false, &segment(FLAG_RST, 4_000, 0)), Fit::Outside);
    }

    #[test]
    fn a_session_whose_beginning_was_not_seen_refuses_nothing() {
        let windows = TcpWindow::default();
        windows.observe(CLIENT, false, &segment(FLAG_ACK, 1, 2));
        assert_eq!(windows.observe(SERVER, false, &segment(FLAG_RST, 0xdead_beef, 0)), Fit::Inside);
        assert!(windows.is_in_flight(CLIENT, 0xdead_beef));
    }

    #[test]
    fn a_session_that_an_alg_has_left_is_judged_by_what_the_alg_knew() {
        let windows = TcpWindow::default();
        let edge = |acked, edge| StreamEdge { acked, edge, window_scale: Some(7) };
        windows.resume([edge(100, 1_000), edge(u32::MAX - 5, 500)]);
        for (seq, fit) in [
            (u32::MAX - 6, Fit::Outside),
            (u32::MAX - 5, Fit::Inside),
            (500, Fit::Inside),
            (501, Fit::Outside),
        ] {
            assert_eq!(windows.observe(SERVER, false, &segment(FLAG_RST, seq, 0)), fit, "{seq}");
        }
        // Windows go on in the scale of the handshake.
        windows.observe(CLIENT, false, &segment(FLAG_ACK, 100, 400));
        assert_eq!(windows.side(SERVER), Side { acked: 400, edge: 400 + (8_192 << 7) });
    }
}
