//! The rules of the stream layer, one by one: hand-made segments in, the exact segments out.
//!
//! A segment is written `direction flags first..behind-last ack number win field "data"`; `>` travels from
//! the client, `<` from the server. Numbers are relative to the SYN of the end that counts them, so that
//! the first byte is 1. Both SYNs lie just below 2^32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod stream_net;

use std::fmt::Write;
use std::time::Duration;

use algate_alg::*;
use algate_engine::drop_reason::DropReason;
use algate_engine::stream::options::TcpOptions;
use algate_engine::stream::segment::{Outgoing, TcpFlags, TcpSegment};
use algate_engine::stream::seq::{SeqDelta, SeqNum};
use algate_engine::stream::*;
use algate_engine::time::Instant;
use stream_net::{LineAlg, NullNat, endpoints};

const CLIENT_ISN: u32 = u32::MAX - 9;
const SERVER_ISN: u32 = u32::MAX - 4;

/// One segment from an end, numbers relative.
#[derive(Clone)]
struct Seg {
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

fn seg(seq: u32, ack: u32, data: &str) -> Seg {
    let flags = if data.is_empty() { TcpFlags::ACK } else { TcpFlags::ACK.with(TcpFlags::PSH) };
    Seg { seq, ack, flags, window: 1000, urgent: 0, options: Vec::new(), data: data.as_bytes().to_vec() }
}

impl Seg {
    fn flags(self, flags: TcpFlags) -> Self {
        Self { flags, ..self }
    }
    fn fin(self) -> Self {
        let flags = self.flags.with(TcpFlags::FIN);
        self.flags(flags)
    }
    fn win(self, window: u16) -> Self {
        Self { window, ..self }
    }
    fn opt(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }
    fn times(self, value: u32, echo: u32) -> Self {
        let mut options = vec![1, 1, 8, 10];
        options.extend_from_slice(&value.to_be_bytes());
        options.extend_from_slice(&echo.to_be_bytes());
        self.opt(&options)
    }
    /// A SACK block about the other end's bytes, relative to `isn`.
    fn sack(mut self, isn: u32, blocks: &[(u32, u32)]) -> Self {
        self.options.extend_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (left, right) in blocks {
            self.options.extend_from_slice(&isn.wrapping_add(*left).to_be_bytes());
            self.options.extend_from_slice(&isn.wrapping_add(*right).to_be_bytes());
        }
        self
    }
}

/// Writes down what the stage emits.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    has_no_buffers: bool,
}

impl Emit for Log {
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool {
        if self.has_no_buffers {
            return false;
        }
        let (arrow, isn, other_isn) = match direction {
            Direction::Original => ('>', CLIENT_ISN, SERVER_ISN),
            Direction::Reply => ('<', SERVER_ISN, CLIENT_ISN),
        };
        let mut line = format!("{arrow} ");
        for (flag, letter) in [
            (TcpFlags::SYN, 'S'),
            (TcpFlags::FIN, 'F'),
            (TcpFlags::RST, 'R'),
            (TcpFlags::PSH, 'P'),
            (TcpFlags::URG, 'U'),
            (TcpFlags::ECE, 'E'),
            (TcpFlags::CWR, 'C'),
            (TcpFlags::ACK, '.'),
        ] {
            if segment.flags.has(flag) {
                line.push(letter);
            }
        }
        let data = segment.payload.concat();
        let seq = segment.seq.0.wrapping_sub(isn).cast_signed();
        let end = seq + data.len() as i32;
        let ack = segment.ack.0.wrapping_sub(other_isn);
        write!(line, " {seq}..{end} ack {ack} win {}", segment.window).unwrap();
        if segment.flags.has(TcpFlags::URG) {
            write!(line, " urg {}", segment.urgent).unwrap();
        }
        if !data.is_empty() {
            write!(line, " {:?}", String::from_utf8_lossy(&data)).unwrap();
        }
        let options = TcpOptions::parse(segment.options);
        if let Some(timestamps) = options.timestamps {
            write!(line, " ts {} {}", timestamps.value, timestamps.echo).unwrap();
        }
        for (left, right) in options.sack.iter() {
            let relative = |edge: SeqNum| edge.0.wrapping_sub(other_isn).cast_signed();
            write!(line, " sack {}..{}", relative(left), relative(right)).unwrap();
        }
        self.lines.push(line);
        true
    }
}

struct Stage {
    stream: TcpStream,
    memory: StreamMemory,
    limits: StreamLimits,
    alg: LineAlg,
    log: Log,
    now: Instant,
}

fn limits() -> StreamLimits {
    StreamLimits { held_bytes: 2000, ..StreamLimits::default() }
}

impl Stage {
    fn new(limits: StreamLimits) -> Self {
        Self {
            stream: TcpStream::new(),
            memory: StreamMemory::new(limits, 1),
            limits,
            alg: LineAlg::default(),
            log: Log::default(),
            now: Instant::default(),
        }
    }

    /// Behind a handshake whose SYNs had `options`.
    fn open_with(limits: StreamLimits, client: &[u8], server: &[u8]) -> Self {
        let mut stage = Self::new(limits);
        let syn = seg(0, 0, "").flags(TcpFlags::SYN).opt(client);
        assert_eq!(stage.segment(Direction::Original, &Seg { ack: 0, ..syn }), Outcome::Taken);
        let answer = seg(0, 1, "").flags(TcpFlags::SYN.with(TcpFlags::ACK)).opt(server);
        assert_eq!(stage.segment(Direction::Reply, &answer), Outcome::Taken);
        let mut third = seg(1, 1, "");
        if client.contains(&8) {
            third = third.times(10, 20);
        }
        assert_eq!(stage.segment(Direction::Original, &third), Outcome::Taken);
        assert_eq!(stage.log.lines.len(), 3);
        stage.log.lines.clear();
        stage
    }

    fn open() -> Self {
        Self::open_with(limits(), &MSS, &MSS)
    }

    fn call<R>(&mut self, f: impl FnOnce(&mut TcpStream, Instant, &mut StreamContext<'_>) -> R) -> R {
        let mut cx = StreamContext {
            alg: &mut self.alg,
            endpoints: &endpoints(),
            nat: &mut NullNat,
            policy: &mut AllowAll,
            events: &mut Events::default(),
            memory: &mut self.memory,
            out: &mut self.log,
        };
        f(&mut self.stream, self.now, &mut cx)
    }

    fn segment(&mut self, direction: Direction, seg: &Seg) -> Outcome {
        let (isn, other_isn) = match direction {
            Direction::Original => (CLIENT_ISN, SERVER_ISN),
            Direction::Reply => (SERVER_ISN, CLIENT_ISN),
        };
        let segment = TcpSegment {
            seq: SeqNum(isn.wrapping_add(seg.seq)),
            ack: SeqNum(other_isn.wrapping_add(seg.ack)),
            flags: seg.flags,
            window: seg.window,
            urgent: seg.urgent,
            options: TcpOptions::parse(&seg.options),
            payload: &seg.data,
        };
        self.call(|stream, now, cx| stream.segment(now, direction, &segment, cx))
    }

    /// The client sends: exactly this comes out.
    #[track_caller]
    fn client(&mut self, seg: Seg, expected: &[&str]) {
        self.segment(Direction::Original, &seg);
        self.expect(expected);
    }

    /// The server sends: exactly this comes out.
    #[track_caller]
    fn server(&mut self, seg: Seg, expected: &[&str]) {
        self.segment(Direction::Reply, &seg);
        self.expect(expected);
    }

    /// The next timer fires, after exactly this long: exactly this comes out.
    #[track_caller]
    fn timer(&mut self, after: Duration, expected: &[&str]) {
        let deadline = self.stream.deadline(&self.limits).expect("a timer runs");
        assert_eq!(deadline.since(self.now), after);
        self.now = deadline;
        self.call(|stream, now, cx| stream.on_timer(now, cx));
        self.expect(expected);
    }

    #[track_caller]
    fn no_timer(&self) {
        assert_eq!(self.stream.deadline(&self.limits), None);
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log.lines), expected);
    }
}

const MSS: [u8; 4] = [2, 4, 5, 180];
const MSS_SACK: [u8; 8] = [2, 4, 5, 180, 4, 2, 1, 1];
const RST: TcpFlags = TcpFlags::RST;
const RST_ACK: TcpFlags = TcpFlags(0x14);
const SECOND: Duration = Duration::from_secs(1);
const HELD_TIME: Duration = Duration::from_secs(120);

#[test]
fn held_bytes_are_acknowledged_once_everything_before_them_was() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NO"), &["< . 1..1 ack 3 win 998"]);
    stage.client(seg(3, 1, "OP\r\nUS"), &["> P. 1..7 ack 1 win 1000 \"NOOP\\r\\n\""]);
    stage.client(seg(9, 1, "ER"), &[]);
    // The receiver has it: now the tail, for which a sender's Nagle may wait.
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 11 win 996"]);
    stage.client(seg(11, 1, " x\r\n"), &["> P. 7..15 ack 1 win 1000 \"USER x\\r\\n\""]);
    stage.server(seg(1, 15, ""), &["< . 1..1 ack 15 win 1000"]);
    assert_eq!(stage.memory.free(), 1);
}

#[test]
fn repeated_held_bytes_are_acknowledged_again_and_not_sent() {
    let mut stage = Stage::open();
    for data in ["NO", "NO", "N"] {
        stage.client(seg(1, 1, data), &["< . 1..1 ack 3 win 998"]);
    }
    assert_eq!(stage.stream.status().held_bytes, [2, 0]);
}

#[test]
fn the_senders_repetition_carries_owned_bytes_along() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "PORT "), &["< . 1..1 ack 6 win 995"]);
    let line = "> P. 1..32 ack 1 win 1000 \"PORT 198,51,100,240,255,2,254\\r\\n\"";
    stage.client(seg(6, 1, "1,2\r\n"), &[line]);
    // No timer: the sender still has bytes unacknowledged behind the owned ones.
    stage.no_timer();
    stage.client(seg(6, 1, "1,2\r\n"), &[line]);
    stage.client(seg(9, 1, "\r\n"), &["> P. 26..32 ack 1 win 1000 \",254\\r\\n\""]);
    stage.server(seg(1, 32, ""), &["< . 1..1 ack 11 win 1000"]);
}

#[test]
fn owned_bytes_behind_which_nothing_is_unacknowledged_are_repeated_by_a_timer() {
    let mut stage = Stage::open();
    let reply = "< P. 1..9 ack 9 win 1000 \"550 no\\r\\n\"";
    stage.client(seg(1, 1, "DENY x\r\n"), &[reply]);
    stage.timer(SECOND, &[reply]);
    stage.timer(2 * SECOND, &[reply]);
    // The client acknowledges bytes the server never sent: it need not hear of them.
    stage.client(seg(9, 9, ""), &[]);
    stage.no_timer();
    stage.server(seg(1, 1, "220 x\r\n"), &["< P. 9..16 ack 9 win 1000 \"220 x\\r\\n\""]);
    stage.client(seg(9, 16, ""), &["> . 1..1 ack 8 win 1000"]);
}

#[test]
fn after_the_last_try_both_ends_are_reset() {
    let mut stage = Stage::open_with(StreamLimits { tries: 2, ..limits() }, &MSS, &MSS);
    let reply = "< P. 1..9 ack 9 win 1000 \"550 no\\r\\n\"";
    stage.client(seg(1, 1, "DENY x\r\n"), &[reply]);
    stage.timer(SECOND, &[reply]);
    stage.timer(2 * SECOND, &[reply]);
    stage.timer(4 * SECOND, &["> R. 1..1 ack 1 win 992", "< R. 9..9 ack 9 win 1000"]);
    stage.no_timer();
    assert_eq!((stage.memory.free(), stage.stream.status().closed), (1, true));
    // An end that has not heard of it, or challenges it, gets the number it expects.
    stage.client(seg(9, 4, ""), &["< R 4..4 ack 9 win 1000"]);
}

#[test]
fn a_reply_to_a_denied_command_waits_for_the_replies_before_it() {
    let mut stage = Stage::open();
    let noop = "> P. 1..7 ack 1 win 1000 \"NOOP\\r\\n\"";
    stage.client(seg(1, 1, "NOOP\r\nDENY x\r\n"), &[noop]);
    // The removed command counts as delivered with what stands before it.
    stage.server(seg(1, 7, "200 o"), &["> . 7..7 ack 6 win 995", "< . 1..1 ack 15 win 1000"]);
    stage.server(seg(6, 7, "k\r\n"), &["< P. 1..17 ack 15 win 1000 \"200 ok\\r\\n550 no\\r\\n\""]);
    stage.client(seg(15, 9, ""), &["> . 7..7 ack 9 win 992"]);
    stage.client(seg(15, 17, ""), &["> . 7..7 ack 9 win 1000"]);
}

#[test]
fn removals_use_up_no_memory() {
    let mut stage = Stage::open();
    for n in 0..300 {
        let (seq, reply) = (1 + 6 * n, 1 + 8 * n);
        let removed = format!("< P. {reply}..{} ack {} win 1000 \"550 no\\r\\n\"", reply + 8, seq + 6);
        stage.client(seg(seq, reply, "DENY\r\n"), &[&removed]);
    }
    // Nothing was ever on its way to the server.
    assert_eq!((stage.stream.status().edits, stage.stream.status().held_bytes), ([0, 1], [0, 0]));
}

#[test]
fn bytes_held_for_the_other_direction_leave_with_its_verdict() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "HOLD\r\nSHRT 1\r\nNO"), &["> P. 1..7 ack 1 win 1000 \"HOLD\\r\\n\""]);
    stage.server(seg(1, 7, "200"), &["> . 7..7 ack 4 win 997", "< . 1..1 ack 17 win 990"]);
    stage.server(
        seg(4, 7, "\r\n"),
        &["> P. 7..13 ack 4 win 997 \"SHRT\\r\\n\"", "< P. 1..6 ack 17 win 992 \"200\\r\\n\""],
    );
}

#[test]
fn an_acknowledgement_inside_an_edit_stands_for_its_start() {
    let mut stage = Stage::open();
    let line = "> P. 1..32 ack 1 win 1000 \"PORT 198,51,100,240,255,2,254\\r\\n\"";
    stage.client(seg(1, 1, "PORT 1,2\r\n"), &[line]);
    // 5 bytes of text, 18 for the `1`, `,2`, 4 more, CR LF.
    for (acked, shown) in
        [(4, 4), (6, 6), (7, 6), (23, 6), (24, 7), (25, 8), (26, 9), (27, 9), (30, 9), (31, 10)]
    {
        stage.segment(Direction::Reply, &seg(1, acked, ""));
        let ack = stage.log.lines.last().unwrap().split(' ').nth(4).unwrap().to_owned();
        assert_eq!(ack, shown.to_string(), "{acked}");
    }
    stage.log.lines.clear();
    // An overtaken acknowledgement takes nothing back.
    stage.server(seg(1, 7, ""), &[]);
    stage.server(seg(1, 32, ""), &["< . 1..1 ack 11 win 1000"]);
}

#[test]
fn bytes_out_of_order_are_kept_and_reported() {
    let mut stage = Stage::open_with(limits(), &MSS_SACK, &MSS_SACK);
    stage.client(seg(3, 1, "OP"), &["< . 1..1 ack 1 win 1000 sack 3..5"]);
    stage.client(seg(9, 1, " x\r\n"), &["< . 1..1 ack 1 win 1000 sack 9..13 sack 3..5"]);
    stage.client(seg(1, 1, "NO"), &["< . 1..1 ack 5 win 996 sack 9..13"]);
    stage.client(seg(5, 1, "\r\nAB"), &["> P. 1..13 ack 1 win 1000 \"NOOP\\r\\nAB x\\r\\n\""]);
    let mut plain = Stage::open();
    plain.client(seg(3, 1, "OP"), &["< . 1..1 ack 1 win 1000"]);
}

/// More gaps than are kept: what opens another one is answered and comes again; what closes one is always taken.
#[test]
fn more_gaps_than_are_kept_cost_a_repetition_and_no_more() {
    let mut stage = Stage::open_with(StreamLimits { gaps: 2, ..limits() }, &MSS, &MSS);
    let again = "< . 1..1 ack 1 win 1000";
    stage.client(seg(3, 1, "x"), &[again]);
    stage.client(seg(5, 1, "z"), &[again]);
    let refused = stage.segment(Direction::Original, &seg(7, 1, "\r\n"));
    assert_eq!(refused, Outcome::Dropped(DropReason::AlgStageFull));
    stage.expect(&[again]);
    stage.client(seg(1, 1, "N"), &["< . 1..1 ack 2 win 999"]);
    stage.client(seg(2, 1, "O"), &["< . 1..1 ack 4 win 997"]);
    stage.client(seg(7, 1, "\r\n"), &["< . 1..1 ack 4 win 997"]);
    stage.client(seg(4, 1, "y"), &["< . 1..1 ack 6 win 995"]);
    stage.client(seg(6, 1, " "), &["> P. 1..9 ack 1 win 1000 \"NOxyz \\r\\n\""]);
}

#[test]
fn a_repetition_with_another_content_changes_nothing() {
    let mut stage = Stage::open();
    let noop = "> P. 1..7 ack 1 win 1000 \"NOOP\\r\\n\"";
    stage.client(seg(1, 1, "NOOP\r\n"), &[noop]);
    stage.client(seg(1, 1, "EVIL\r\n"), &[noop]);
    stage.client(seg(1, 1, "EVIL\r\nNO"), &[noop]);
    // Held, and not acknowledged because what stands before it was not.
    stage.client(seg(7, 1, "!!"), &["< . 1..1 ack 1 win 1000"]);
    stage.client(seg(9, 1, "OP\r\n"), &["> P. 7..13 ack 1 win 1000 \"NOOP\\r\\n\""]);
}

#[test]
fn probes_below_the_edge_keep_their_distance_and_carry_no_data() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
    stage.client(seg(8, 1, ""), &["> . 6..6 ack 1 win 1000"]);
    stage.client(seg(8, 1, "x"), &["> . 6..7 ack 1 win 1000 \"\\0\""]);
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> . -1..0 ack 1 win 1000 \"\\0\""]);
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
    // While the stage owns bytes it answers itself.
    stage.client(seg(9, 1, "NO"), &["< . 1..1 ack 11 win 998"]);
    stage.client(seg(10, 1, ""), &["< . 1..1 ack 11 win 998"]);
    stage.client(seg(10, 1, "O"), &["< . 1..1 ack 11 win 998"]);
}

#[test]
fn the_window_shown_never_passes_the_receivers() {
    let mut stage = Stage::open();
    // Grown by 21 bytes: 1000 - 31, and 10 of the sender's own are not acknowledged yet.
    stage.client(
        seg(1, 1, "PORT 1,2\r\nNO"),
        &["> P. 1..32 ack 1 win 1000 \"PORT 198,51,100,240,255,2,254\\r\\n\""],
    );
    stage.server(seg(1, 1, "220\r\n"), &["< P. 1..6 ack 1 win 979 \"220\\r\\n\""]);
    stage.server(seg(6, 32, "").win(100), &["< . 6..6 ack 13 win 98"]);
    // A closed window: nothing is sent into it, the sender's repetition asks for it.
    stage.server(seg(6, 32, "").win(0), &["< . 6..6 ack 13 win 536"]);
    stage.client(seg(13, 6, "OP\r\n"), &["> . 32..32 ack 6 win 1000"]);
    stage.client(seg(13, 6, "OP\r\n"), &["> . 31..31 ack 6 win 1000"]);
    stage.server(seg(6, 32, "").win(4), &["> P. 32..36 ack 6 win 1000 \"NOOP\"", "< . 6..6 ack 13 win 2"]);
    stage.server(
        seg(6, 36, "").win(100),
        &["> P. 36..38 ack 6 win 1000 \"\\r\\n\"", "< . 6..6 ack 15 win 100"],
    );
}

#[test]
fn an_injected_reply_waits_for_the_window_and_the_stage_probes() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NOOP\r\n").win(0), &["> P. 1..7 ack 1 win 0 \"NOOP\\r\\n\""]);
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 7 win 1000"]);
    stage.server(seg(1, 7, "200\r\n"), &[]);
    stage.client(seg(7, 1, "DENY\r\n").win(0), &["< . 1..1 ack 13 win 1000"]);
    // The server's own bytes lie before the injected ones: its repetition probes for both.
    stage.no_timer();
    stage.server(seg(1, 7, "200\r\n"), &["< . 0..0 ack 13 win 1000"]);
    stage.client(
        seg(13, 1, "").win(7),
        &["< P. 1..8 ack 13 win 1000 \"200\\r\\n55\"", "> . 7..7 ack 1 win 0"],
    );
    stage.client(seg(13, 8, "").win(0), &["> . 7..7 ack 6 win 0"]);
    // Now only the stage's own are left.
    stage.timer(SECOND, &["< . 7..7 ack 13 win 1000"]);
    stage.timer(2 * SECOND, &["< . 7..7 ack 13 win 1000"]);
    stage.client(
        seg(13, 8, "").win(100),
        &["< P. 8..14 ack 13 win 1000 \"0 no\\r\\n\"", "> . 7..7 ack 6 win 94"],
    );
}

#[test]
fn t_12_the_room_for_held_bytes_limits_the_window_and_a_large_scale_does_not_close_it() {
    let small = StreamLimits { held_bytes: 100, ..limits() };
    let mut stage = Stage::open_with(small, &MSS, &MSS);
    stage.client(seg(1, 1, "0123456789"), &["< . 1..1 ack 11 win 90"]);
    let scale = [2, 4, 5, 180, 3, 3, 14, 1];
    let mut stage = Stage::open_with(limits(), &scale, &scale);
    stage.server(seg(1, 1, "").win(3), &["< . 1..1 ack 1 win 1"]);
    // 3 * 2^14 bytes less what is held, rounded down; the stage's own room, rounded up.
    stage.client(seg(1, 1, "0123456789").win(3), &["< . 1..1 ack 11 win 1"]);
}

#[test]
fn a_message_larger_than_the_receivers_window_completes_in_the_stages_own_room() {
    let mut stage = Stage::open();
    stage.server(seg(1, 1, "").win(3), &["< . 1..1 ack 1 win 3"]);
    stage.client(seg(1, 1, "NOO"), &["< . 1..1 ack 4 win 536"]);
    stage.client(seg(4, 1, "P\r\n"), &["> P. 1..4 ack 1 win 1000 \"NOO\""]);
    stage.server(seg(1, 4, "").win(3), &["> P. 4..7 ack 1 win 1000 \"P\\r\\n\"", "< . 1..1 ack 4 win 3"]);
    stage.server(seg(1, 7, "").win(3), &["< . 1..1 ack 7 win 3"]);
}

#[test]
fn t_12_timestamps_speak_for_the_end_and_echo_the_segment_answered() {
    let syn = [2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
    let answer = [2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 0, 20, 0, 0, 0, 9];
    let mut stage = Stage::open_with(limits(), &syn, &answer);
    stage.client(seg(1, 1, "NO").times(11, 20), &["< . 1..1 ack 3 win 998 ts 20 11"]);
    stage.server(seg(1, 1, "220\r\n").times(25, 10), &["< P. 1..6 ack 3 win 998 \"220\\r\\n\" ts 25 10"]);
    stage.client(seg(3, 6, "OP\r\n").times(13, 25), &["> P. 1..7 ack 6 win 1000 \"NOOP\\r\\n\" ts 13 25"]);
    // An old duplicate does not take the clock back.
    stage.client(seg(3, 6, "OP\r\n").times(12, 25), &["> P. 1..7 ack 6 win 1000 \"NOOP\\r\\n\" ts 13 25"]);
    stage.server(seg(6, 7, "").times(30, 13), &["< . 6..6 ack 7 win 1000 ts 30 13"]);
    stage.client(
        seg(7, 6, "DENY\r\n").times(14, 30),
        &["< P. 6..14 ack 13 win 1000 \"550 no\\r\\n\" ts 30 14"],
    );
    // A forged clock outside the window is not believed.
    stage.segment(Direction::Reply, &seg(0x4000_0000, 13, "x").times(99, 14));
    stage.log.lines.clear();
    stage.timer(SECOND, &["< P. 6..14 ack 13 win 1000 \"550 no\\r\\n\" ts 30 14"]);
}

#[test]
fn t_12_sack_edges_are_mapped_and_the_stages_own_duplicates_left_out() {
    let mut stage = Stage::open_with(limits(), &MSS_SACK, &MSS_SACK);
    stage.client(seg(1, 1, "NOOP\r\n"), &["> P. 1..7 ack 1 win 1000 \"NOOP\\r\\n\""]);
    let line = "> P. 7..38 ack 1 win 1000 \"PORT 198,51,100,240,255,2,254\\r\\n\"";
    stage.client(seg(7, 1, "PORT 1,2\r\n"), &[line]);
    stage.client(seg(17, 1, "NOOP\r\n"), &["> P. 38..44 ack 1 win 1000 \"NOOP\\r\\n\""]);
    // The left edge inside the edit of source 12..13 stands for its end, the right one for its start.
    for (block, mapped) in [
        ((38, 44), Some("17..23")),
        ((7, 38), Some("7..17")),
        ((12, 44), Some("12..23")),
        ((13, 44), Some("13..23")),
        ((7, 20), Some("7..12")),
        ((13, 20), None),
        ((30, 100), None),
    ] {
        stage.segment(Direction::Reply, &seg(1, 1, "").sack(CLIENT_ISN, &[block]));
        let sack = mapped.map_or(String::new(), |mapped| format!(" sack {mapped}"));
        stage.expect(&[&format!("< . 1..1 ack 1 win 979{sack}")]);
    }
    // A duplicate report, below the acknowledgement, with one more edge above it.
    let both = seg(1, 38, "").sack(CLIENT_ISN, &[(32, 38), (38, 44)]);
    stage.server(both, &["< . 1..1 ack 17 win 1000 sack 15..17 sack 17..23"]);

    let mut stage = Stage::open_with(limits(), &MSS_SACK, &MSS_SACK);
    let reply = "< P. 1..9 ack 9 win 1000 \"550 no\\r\\n\"";
    stage.client(seg(1, 1, "DENY x\r\n"), &[reply]);
    stage.timer(SECOND, &[reply]);
    stage.client(seg(9, 9, "").sack(SERVER_ISN, &[(1, 9)]), &[]);
}

#[test]
fn grown_segments_are_cut_at_the_receivers_mss() {
    let small = [2, 4, 0, 20];
    let mut stage = Stage::open_with(limits(), &MSS, &small);
    stage.client(
        seg(1, 1, "PORT 1,2\r\n"),
        &[
            "> . 1..21 ack 1 win 1000 \"PORT 198,51,100,240,\"",
            "> P. 21..32 ack 1 win 1000 \"255,2,254\\r\\n\"",
        ],
    );
}

#[test]
fn i_10_fragmentation_needed_for_a_grown_packet_is_heeded() {
    let mut stage = Stage::open();
    let line = "> P. 1..32 ack 1 win 1000 \"PORT 198,51,100,240,255,2,254\\r\\n\"";
    stage.client(seg(1, 1, "PORT 1,2\r\n"), &[line]);
    let heeded = stage.call(|stream, now, cx| stream.frag_needed(now, Direction::Original, 68, cx));
    assert_eq!(heeded, FragmentationNeeded::Heeded);
    stage.expect(&[
        "> . 1..29 ack 1 win 1000 \"PORT 198,51,100,240,255,2,25\"",
        "> P. 29..32 ack 1 win 1000 \"4\\r\\n\"",
    ]);
    let long = format!("NOOP {}\r\n", "x".repeat(60));
    stage.client(
        seg(11, 1, &long).flags(TcpFlags::ACK),
        &[
            "> . 32..60 ack 1 win 1000 \"NOOP xxxxxxxxxxxxxxxxxxxxxxx\"",
            "> . 60..88 ack 1 win 1000 \"xxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
            "> P. 88..99 ack 1 win 1000 \"xxxxxxxxx\\r\\n\"",
        ],
    );
    for mtu in [67, 68] {
        let theirs = stage.call(|stream, now, cx| stream.frag_needed(now, Direction::Original, mtu, cx));
        assert_eq!(theirs, FragmentationNeeded::Forward);
        stage.expect(&[]);
    }
}

#[test]
fn i_10_numbers_in_icmp_errors_are_mapped_back() {
    let mut stage = Stage::open();
    assert_eq!(Stage::new(limits()).stream.map_embedded_seq(Direction::Original, SeqNum(1)), None);
    stage.segment(Direction::Original, &seg(1, 1, "PORT 1,2\r\nSHRT 1,2\r\nNOOP\r\n"));
    let map = |stage: &Stage, seq: u32| {
        let seq = SeqNum(CLIENT_ISN.wrapping_add(seq));
        stage
            .stream
            .map_embedded_seq(Direction::Original, seq)
            .unwrap()
            .0
            .wrapping_sub(CLIENT_ISN)
            .cast_signed()
    };
    for (target, source) in [(1, 1), (6, 6), (10, 6), (24, 7), (32, 11), (36, 19), (38, 21)] {
        assert_eq!(map(&stage, target), source, "{target}");
    }
    stage.segment(Direction::Reply, &seg(1, 38, ""));
    assert_eq!([map(&stage, 38), map(&stage, 37), map(&stage, 1)], [21, 20, -16]);
}

#[test]
fn a_fin_keeps_its_place_behind_held_bytes_and_injected_replies() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NO"), &["< . 1..1 ack 3 win 998"]);
    let last = "> FP. 1..3 ack 1 win 1000 \"NO\"";
    stage.client(seg(3, 1, "").fin(), &[last]);
    // Its repetition carries the owned bytes along.
    stage.client(seg(3, 1, "").fin(), &[last]);
    stage.server(seg(1, 4, ""), &["< . 1..1 ack 4 win 1000"]);
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NOOP\r\nDENY\r\n").fin(), &["> FP. 1..7 ack 1 win 1000 \"NOOP\\r\\n\""]);
    stage.server(seg(1, 8, "200\r\n").fin(), &["< FP. 1..14 ack 14 win 1000 \"200\\r\\n550 no\\r\\n\""]);
    stage.client(seg(14, 7, ""), &["> . 8..8 ack 6 win 993"]);
    stage.server(seg(6, 8, "").fin(), &["< FP. 7..14 ack 14 win 1000 \"50 no\\r\\n\""]);
    stage.client(seg(14, 15, ""), &["> . 8..8 ack 7 win 1000"]);
}

#[test]
fn a_reset_goes_out_with_the_number_the_receiver_expects() {
    // All sent and acknowledged or not, edited: the next number of the receiver.
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "SHRT 1\r\n"));
    stage.log.lines.clear();
    stage.client(seg(9, 1, "").flags(RST_ACK), &["> R. 7..7 ack 1 win 1000"]);
    assert!(stage.stream.status().closed);
    // Behind a FIN, from an end that has forgotten the connection.
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "SHRT 1\r\n").fin(), &["> FP. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 8, "").fin(), &["< F. 1..1 ack 10 win 1000"]);
    stage.client(seg(10, 1, "").flags(RST), &["> R 8..8 ack 1 win 1000"]);
    assert!(stage.stream.status().closed);
    // Held bytes never went out.
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "NOOP\r\nNO"));
    stage.log.lines.clear();
    stage.client(seg(9, 1, "").flags(RST), &["> R 7..7 ack 1 win 1000"]);
    // The answer to a challenge names what the receiver acknowledged.
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "SHRT 1\r\nNO"));
    stage.log.lines.clear();
    stage.client(seg(1, 1, "").flags(RST), &["> R 1..1 ack 1 win 1000"]);
    // Behind lost bytes: mapped, to be challenged. Outside the window: dropped.
    let mut stage = Stage::open();
    stage.client(seg(100, 1, "").flags(RST), &["> R 100..100 ack 1 win 1000"]);
    assert!(!stage.stream.status().closed);
    let outside = seg(0x2_0000, 1, "").flags(RST);
    assert_eq!(stage.segment(Direction::Original, &outside), Outcome::Dropped(DropReason::AlgBadSegment));
    stage.client(seg(0, 1, "").flags(RST), &[]);
}

#[test]
fn the_urgent_pointer_is_mapped() {
    let urgent = |seq, data, urgent| {
        let seg = seg(seq, 1, data);
        let flags = seg.flags.with(TcpFlags::URG);
        Seg { urgent, ..seg.flags(flags) }
    };
    let mut stage = Stage::open();
    stage.client(
        urgent(1, "PORT 1,2\r\n", 8),
        &["> PU. 1..32 ack 1 win 1000 urg 29 \"PORT 198,51,100,240,255,2,254\\r\\n\""],
    );
    // Inside a held command: announced when it is decided.
    stage.server(seg(1, 32, ""), &["< . 1..1 ack 11 win 1000"]);
    stage.client(urgent(11, "NO", 4), &["< . 1..1 ack 13 win 998"]);
    stage.client(seg(13, 1, "OP\r\nX"), &["> PU. 32..38 ack 1 win 1000 urg 4 \"NOOP\\r\\n\""]);
    stage.server(seg(1, 38, ""), &["< . 1..1 ack 18 win 999"]);
    stage.client(seg(18, 1, "\r\n"), &["> P. 38..41 ack 1 win 1000 \"X\\r\\n\""]);
}

#[test]
fn a_syn_passes_without_what_would_carry_data_past_the_stage() {
    let mut stage = Stage::new(StreamLimits { mss: 1400, held_bytes: 500, ..limits() });
    let mut syn = seg(0, 0, "data").flags(TcpFlags::SYN.with(TcpFlags::ECE).with(TcpFlags::CWR));
    syn.options = vec![2, 4, 5, 180, 34, 2, 30, 2];
    stage.client(syn.clone(), &["> SEC 0..0 ack 0 win 500"]);
    stage.client(syn, &["> SEC 0..0 ack 0 win 500"]);
    let wrong = seg(0, 2, "").flags(TcpFlags::SYN.with(TcpFlags::ACK));
    assert_eq!(stage.segment(Direction::Reply, &wrong), Outcome::Dropped(DropReason::AlgBadSegment));
    let answer = seg(0, 1, "").flags(TcpFlags::SYN.with(TcpFlags::ACK)).opt(&MSS);
    stage.server(answer.clone(), &["< S. 0..0 ack 1 win 500"]);
    stage.client(seg(1, 1, ""), &["> . 1..1 ack 1 win 500"]);
    stage.server(answer, &["< S. 0..0 ack 1 win 500"]);
}

#[test]
fn a_refused_connection_is_reset_with_the_numbers_as_they_are() {
    let mut stage = Stage::new(limits());
    stage.segment(Direction::Original, &seg(0, 0, "").flags(TcpFlags::SYN));
    stage.log.lines.clear();
    stage.server(seg(0, 1, "").flags(RST_ACK), &["< R. 0..0 ack 1 win 1000"]);
    assert!(stage.stream.status().closed);
    let syn = seg(77, 0, "").flags(TcpFlags::SYN);
    assert_eq!(stage.segment(Direction::Original, &syn), Outcome::Reopened);
}

#[test]
fn signed_flows_pass_as_they_are() {
    let mut stage = Stage::new(limits());
    let mut signed = vec![19, 18];
    signed.resize(20, 1);
    stage.client(seg(0, 0, "").flags(TcpFlags::SYN).opt(&signed), &["> S 0..0 ack 0 win 1000"]);
    assert_eq!(stage.stream.settled(), Some([SeqDelta(0); 2]));
    stage.client(seg(1, 1, "PORT 1").opt(&signed), &["> P. 1..7 ack 1 win 1000 \"PORT 1\""]);
    // A forged SYN later on changes nothing.
    let mut stage = Stage::open();
    stage.client(seg(0, 0, "").flags(TcpFlags::SYN).opt(&signed), &["> S 0..0 ack 0 win 1000"]);
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
}

#[test]
fn an_opaque_stream_passes_unread_with_its_shift() {
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "SHRT 1\r\nTLS\r\nXY"));
    stage.log.lines.clear();
    // The tail passes with the verdict of the other direction.
    stage.server(
        seg(1, 12, "234\r\n22"),
        &["> P. 12..14 ack 1 win 1000 \"XY\"", "< P. 1..8 ack 14 win 1000 \"234\\r\\n22\""],
    );
    assert_eq!(stage.stream.settled(), None);
    // Out of order, and a command: nothing is read any more.
    stage.client(
        seg(20, 8, "PORT 1\r\n").flags(TcpFlags::ACK),
        &["> . 18..26 ack 8 win 1000 \"PORT 1\\r\\n\""],
    );
    stage.client(seg(16, 8, "abcd"), &["> P. 14..18 ack 8 win 1000 \"abcd\""]);
    stage.server(seg(8, 26, ""), &["< . 8..8 ack 28 win 1000"]);
    assert_eq!(stage.stream.settled(), Some([SeqDelta(-2), SeqDelta(0)]));
    assert_eq!(stage.memory.free(), 1);
    stage.client(seg(28, 8, "").fin(), &["> F. 26..26 ack 8 win 1000"]);
    stage.server(seg(8, 27, ""), &["< . 8..8 ack 29 win 1000"]);
}

#[test]
fn a_detached_stream_repeats_what_it_owns() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NO"), &["< . 1..1 ack 3 win 998"]);
    stage.call(|stream, now, cx| stream.detach(now, cx));
    stage.expect(&["> P. 1..3 ack 1 win 1000 \"NO\""]);
    stage.timer(SECOND, &["> P. 1..3 ack 1 win 1000 \"NO\""]);
    stage.server(seg(1, 3, ""), &["< . 1..1 ack 3 win 1000"]);
    stage.no_timer();
    assert_eq!(stage.stream.settled(), Some([SeqDelta(0); 2]));
}

#[test]
fn a_tail_held_too_long_or_too_large_passes_and_the_stream_is_not_read_on() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NO"), &["< . 1..1 ack 3 win 998"]);
    stage.timer(HELD_TIME, &["> P. 1..3 ack 1 win 1000 \"NO\""]);
    assert!(stage.stream.status().opaque);
    let mut stage = Stage::open_with(StreamLimits { held_bytes: 4, ..limits() }, &MSS, &MSS);
    stage.client(seg(1, 1, "NOO"), &["< . 1..1 ack 4 win 1"]);
    stage.client(seg(4, 1, "P"), &["> P. 1..5 ack 1 win 1000 \"NOOP\""]);
    assert!(stage.stream.status().opaque);
}

#[test]
fn a_terminated_session_is_reset_towards_both_ends() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "NOOP\r\nKILL\r\n"), &["> R. 1..1 ack 1 win 1000", "< R. 1..1 ack 1 win 1000"]);
    stage.server(seg(1, 1, "220\r\n"), &["> R 1..1 ack 1 win 1000"]);
    let closed = stage.segment(Direction::Original, &seg(1, 1, "x"));
    assert_eq!((closed, stage.memory.free()), (Outcome::Closed, 1));
}

#[test]
fn without_memory_a_segment_is_dropped_and_comes_again() {
    let mut stage = Stage::open();
    let full = StreamMemory::new(limits(), 0);
    let memory = std::mem::replace(&mut stage.memory, full);
    let outcome = stage.segment(Direction::Original, &seg(1, 1, "NOOP\r\n"));
    assert_eq!(outcome, Outcome::Dropped(DropReason::AlgStageFull));
    stage.expect(&[]);
    stage.memory = memory;
    stage.client(seg(1, 1, "NOOP\r\n"), &["> P. 1..7 ack 1 win 1000 \"NOOP\\r\\n\""]);
    // A segment that finds no buffer is lost like any other.
    stage.log.has_no_buffers = true;
    stage.client(seg(7, 1, "NOOP\r\n"), &[]);
    stage.log.has_no_buffers = false;
    stage.client(seg(7, 1, "NOOP\r\n"), &["> P. 7..13 ack 1 win 1000 \"NOOP\\r\\n\""]);
}

#[test]
fn an_idle_stream_is_small() {
    let size = size_of::<TcpStream>();
    assert!(size <= 1024, "{size} bytes");
}

#[test]
fn numbers_that_fit_nothing_are_answered_and_used_for_nothing() {
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "NOOP\r\n"));
    stage.log.lines.clear();
    // What was never sent cannot be acknowledged; far outside the window nothing is believed.
    for bad in [seg(1, 8, ""), seg(0x4000_0000, 7, ""), seg(1, 0x8000_0000, "")] {
        assert_eq!(stage.segment(Direction::Reply, &bad), Outcome::Dropped(DropReason::AlgBadSegment));
        stage.expect(&["> . 7..7 ack 1 win 1000"]);
    }
    assert_eq!(stage.stream.status().unacknowledged_bytes, [6, 0]);
    let mut early = Stage::new(limits());
    let data = seg(1, 1, "x");
    assert_eq!(early.segment(Direction::Original, &data), Outcome::Dropped(DropReason::AlgBadSegment));
}

#[test]
fn a_simultaneous_open_begins_a_stream_like_any_other() {
    let syn_ack = || TcpFlags::SYN.with(TcpFlags::ACK);
    let mut stage = Stage::new(limits());
    stage.client(seg(0, 0, "").flags(TcpFlags::SYN).opt(&MSS), &["> S 0..0 ack 0 win 1000"]);
    stage.server(seg(0, 0, "").flags(TcpFlags::SYN).opt(&MSS), &["< S 0..0 ack 0 win 1000"]);
    stage.client(seg(0, 1, "").flags(syn_ack()).opt(&MSS), &["> S. 0..0 ack 1 win 1000"]);
    stage.server(seg(0, 1, "").flags(syn_ack()).opt(&MSS), &["< S. 0..0 ack 1 win 1000"]);
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
}

#[test]
fn an_answer_to_the_originators_number_corrects_a_forged_syn() {
    let mut stage = Stage::new(limits());
    stage.client(seg(0, 0, "").flags(TcpFlags::SYN).opt(&MSS), &["> S 0..0 ack 0 win 1000"]);
    stage.server(seg(500, 0, "").flags(TcpFlags::SYN).opt(&MSS), &["< S 500..500 ack 0 win 1000"]);
    let answer = seg(0, 1, "").flags(TcpFlags::SYN.with(TcpFlags::ACK)).opt(&MSS);
    stage.server(answer, &["< S. 0..0 ack 1 win 1000"]);
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    // Once the originator has acknowledged the number, it stands.
    let late = seg(900, 1, "").flags(TcpFlags::SYN.with(TcpFlags::ACK)).opt(&MSS);
    stage.segment(Direction::Reply, &late);
    stage.log.lines.clear();
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
}

#[test]
fn answers_to_keepalives_of_the_stage_go_no_farther() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
    stage.call(|stream, _, cx| stream.keep_alive(cx));
    stage.expect(&["> . 6..6 ack 1 win 1000", "< . 0..0 ack 9 win 1000"]);
    stage.server(seg(1, 7, ""), &[]);
    stage.client(seg(9, 1, ""), &[]);
    // What nobody asked for passes, and so does an answer that says more.
    stage.server(seg(1, 7, ""), &["< . 1..1 ack 9 win 1000"]);
    stage.call(|stream, _, cx| stream.keep_alive(cx));
    stage.log.lines.clear();
    stage.server(seg(1, 7, "").win(500), &["< . 1..1 ack 9 win 500"]);
}

#[test]
fn a_stream_that_both_ends_have_closed_settles_with_its_shift() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "SHRT 1\r\n").fin(), &["> FP. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 8, "").fin(), &["< F. 1..1 ack 10 win 1000"]);
    assert_eq!(stage.stream.settled(), None, "its end is not acknowledged");
    stage.client(seg(10, 2, ""), &["> . 8..8 ack 2 win 1000"]);
    assert_eq!(stage.stream.settled(), Some([SeqDelta(-2), SeqDelta(0)]));
    // A host that has forgotten the connection answers what comes late with a reset.
    stage.server(seg(2, 0, "").flags(RST), &["< R 2..2 ack 10 win 1000"]);
    assert_eq!(stage.stream.settled(), Some([SeqDelta(-2), SeqDelta(0)]));
}

/// It may never arrive, its TTL too small: the connection would go on unread.
#[test]
fn a_reset_stream_does_not_settle_unless_both_ends_have_closed() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "").flags(RST), &["> R 1..1 ack 1 win 1000"]);
    assert!(stage.stream.status().closed);
    assert_eq!(stage.stream.settled(), None);
    stage.client(seg(1, 1, "SHRT 1\r\n"), &["> P. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
}
