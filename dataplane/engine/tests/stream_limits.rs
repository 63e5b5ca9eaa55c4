//! A sender that never stops to make the stage edit: what exceeds a bound waits for acknowledgements, and nothing passes unread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod stream_net;

use algate_alg::{AllowAll, Direction, Events};
use algate_engine::stream::options::TcpOptions;
use algate_engine::stream::segment::{TcpFlags, TcpSegment};
use algate_engine::stream::seq::SeqNum;
use algate_engine::stream::{StreamContext, StreamLimits, StreamMemory, TcpStream};
use algate_engine::time::Instant;
use stream_net::{Collected, Dialogue, LineAlg, Net, NullNat, check, endpoints, no_faults};

#[test]
fn eight_thousand_commands_in_a_row_are_all_edited() {
    let sent = b"PORT 1\r\n".repeat(8_000);
    let host = stream_net::HostOptions { receive_buffer: 16_384, ..Default::default() };
    let mut faults = no_faults();
    let mut net = Net {
        client: host,
        server: host,
        limits: StreamLimits::default(),
        faults: &mut faults,
        reply_pieces: 1,
    };
    let run = net.run(&Dialogue::cut(&sent, &[]));
    check("8,000 commands", &sent, &run);
    assert!(!run.status.opaque);
}

/// A server that acknowledges only now and then, and a client that sends whenever it may.
#[test]
fn a_hundred_thousand_edits_wait_for_acknowledgements_and_none_is_left_out() {
    const LINE: &[u8] = b"PORT 1\r\n";
    const EDITED: &[u8] = b"PORT 198,51,100,240,255,254\r\n";
    const LINES: usize = 100_000;
    let limits = StreamLimits::default();
    let mut memory = StreamMemory::new(limits, 1);
    let (mut stream, mut alg, endpoints) = (TcpStream::new(), LineAlg::default(), endpoints());
    let mut feed = |direction, seq: u32, ack: u32, flags, payload: &[u8]| {
        let mut out = Collected::default();
        let mut cx = StreamContext {
            alg: &mut alg,
            endpoints: &endpoints,
            nat: &mut NullNat,
            policy: &mut AllowAll,
            events: &mut Events::default(),
            memory: &mut memory,
            out: &mut out,
        };
        let options = TcpOptions::default();
        let segment = TcpSegment {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 60_000,
            urgent: 0,
            options,
            payload,
        };
        stream.segment(Instant::default(), direction, &segment, &mut cx);
        (out.0, stream.status())
    };
    let syn_ack = TcpFlags::SYN.with(TcpFlags::ACK);
    feed(Direction::Original, 0, 0, TcpFlags::SYN, b"");
    feed(Direction::Reply, 0, 1, syn_ack, b"");
    feed(Direction::Original, 1, 1, TcpFlags::ACK, b"");
    // Relative to the SYNs, which have number 0: what the client was acknowledged, and what the server has got.
    let (mut acked, mut got) = (0, Vec::new());
    let mut most_edits = 0;
    for _ in 0..LINES {
        // The client sends on from what it was told: a hundred lines at most.
        let from = acked % LINE.len();
        let ahead = (LINES * LINE.len() - acked).min(100 * LINE.len());
        let text: Vec<u8> = LINE.iter().copied().cycle().skip(from).take(ahead).collect();
        let (mut out, mut status) = feed(Direction::Original, 1 + acked as u32, 1, TcpFlags::ACK, &text);
        most_edits = most_edits.max(status.edits[0]);
        loop {
            assert!(!status.opaque, "nothing passes unread");
            let mut more = false;
            for (direction, tcp) in out.drain(..) {
                let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
                let data = &tcp[usize::from(tcp[12] >> 4) * 4..];
                if direction == Direction::Reply {
                    acked = acked.max(word(8) as usize - 1);
                } else if word(4) as usize == 1 + got.len() && !data.is_empty() {
                    got.extend_from_slice(data);
                    more = true;
                }
            }
            if !more {
                break;
            }
            (out, status) = feed(Direction::Reply, 1, 1 + got.len() as u32, TcpFlags::ACK, b"");
        }
        if acked == LINES * LINE.len() {
            break;
        }
    }
    assert_eq!(acked, LINES * LINE.len(), "all of it is acknowledged");
    assert!(got == EDITED.repeat(LINES), "all of it is edited");
    // The bound was met, and held.
    assert!((limits.edits - limits.message_edits - limits.injections..=limits.edits).contains(&most_edits));
}
