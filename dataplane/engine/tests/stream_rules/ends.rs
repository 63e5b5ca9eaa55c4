//! How a stream begins, ends, and is no longer read.

use algate_alg::*;
use algate_engine::drop_reason::DropReason;
use algate_engine::stream::segment::TcpFlags;
use algate_engine::stream::seq::SeqDelta;
use algate_engine::stream::*;

use crate::script::*;

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

/// A client that closes before it has read the last reply resets what comes then.
#[test]
fn a_stream_that_is_reset_behind_both_ends_settles() {
    let mut stage = Stage::open();
    stage.client(seg(1, 1, "SHRT 1\r\n").fin(), &["> FP. 1..7 ack 1 win 1000 \"SHRT\\r\\n\""]);
    stage.server(seg(1, 8, "221\r\n").fin(), &["< FP. 1..6 ack 10 win 1000 \"221\\r\\n\""]);
    stage.client(seg(10, 0, "").flags(RST), &["> R 8..8 ack 1 win 1000"]);
    assert!(stage.stream.status().closed);
    assert_eq!(stage.stream.settled(), Some([SeqDelta(-2), SeqDelta(0)]));
    // What was edited must not be repeated as it came.
    let mut stage = Stage::open();
    stage.segment(Direction::Original, &seg(1, 1, "DENY\r\n").fin());
    stage.segment(Direction::Reply, &seg(1, 2, "221\r\n").fin());
    stage.segment(Direction::Original, &seg(8, 0, "").flags(RST));
    assert!(stage.stream.status().closed);
    assert_eq!(stage.stream.settled(), None);
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
