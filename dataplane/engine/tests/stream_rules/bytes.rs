//! Holding, editing, acknowledging, windows, options: while the stream lives.

use algate_alg::*;
use algate_engine::drop_reason::DropReason;
use algate_engine::stream::segment::TcpFlags;
use algate_engine::stream::seq::SeqNum;
use algate_engine::stream::*;

use crate::script::*;

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
