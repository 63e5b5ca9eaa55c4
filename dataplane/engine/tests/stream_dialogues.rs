//! Dialogues between two real TCP implementations through the stream layer.
//!
//! After each run the server's application has read the edited commands and nothing else, the client's
//! the replies with the injected ones at their place; both ends have seen the other's FIN, were told that
//! all they wrote is delivered, and the stage has given its buffers back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod stream_net;

use algate_engine::stream::StreamLimits;
use stream_net::*;

const SHORT: &[u8] = b"PORT 1,2\r\nDENY x\r\nSHRT 1,2,3\r\nPASV\r\nQUIT\r\n";

/// `SHORT` in pieces that start and end inside messages, and with a denied command first and last.
fn dialogues() -> Vec<(&'static str, Vec<u8>, Dialogue)> {
    let denied: &[u8] = b"DENY a\r\nDENY b\r\nNOOP\r\nPORT 9\r\nDENY c\r\n";
    let secret: &[u8] = b"PORT 1\r\nDENY x\r\nTLS\r\nQUIT\r\n";
    let lines = ["USER x\r\n", "PORT 1,2\r\n", "DENY x\r\n", "SHRT 1,2,3\r\n", "PASV\r\n", "QUIT\r\n"];
    let held = [b"NOOP\r\nHOLD\r\nPORT 1\r\nDENY x\r\nHOLD\r\nPASV\r\n".to_vec(), b"QUIT\r\n".to_vec()];
    let waits = Dialogue { writes: held.to_vec(), after_replies: Some(vec![0, 6]) };
    vec![
        ("held by the other direction", held.concat(), waits),
        ("one piece", SHORT.to_vec(), Dialogue::cut(SHORT, &[])),
        ("pieces", SHORT.to_vec(), Dialogue::cut(SHORT, &[3, 7, 12, 19, 30, 38])),
        ("denied", denied.to_vec(), Dialogue::cut(denied, &[2, 17])),
        ("opaque", secret.to_vec(), Dialogue::cut(secret, &[5, 14, 20])),
        ("lock step", lines.concat().into_bytes(), Dialogue::lockstep(&lines)),
    ]
}

/// Nagle and delayed acknowledgement, each on and off at each end.
fn hosts() -> impl Iterator<Item = (HostOptions, HostOptions)> {
    (0..16).map(|bits| {
        let host = |bits: u32| HostOptions {
            nagle: bits & 1 != 0,
            delayed_ack: bits & 2 != 0,
            ..HostOptions::default()
        };
        (host(bits), host(bits >> 2))
    })
}

fn net(faults: Faults<'_>) -> Net<'_> {
    Net {
        client: HostOptions::default(),
        server: HostOptions::default(),
        limits: StreamLimits { held_bytes: 4096, ..StreamLimits::default() },
        faults,
        reply_pieces: 1,
    }
}

/// A small generator: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn every_cut_into_two_segments_gives_the_same_streams() {
    for (number, (client, server)) in hosts().enumerate() {
        for cut in 1..SHORT.len() {
            let mut faults = no_faults();
            let run = Net { client, server, ..net(&mut faults) }.run(&Dialogue::cut(SHORT, &[cut]));
            check(&format!("hosts {number} cut {cut}"), SHORT, &run);
            assert!(run.millis < 1000, "nothing had to be repeated: {run:?}");
        }
    }
}

#[test]
fn every_cut_into_three_segments_gives_the_same_streams() {
    for first in 1..SHORT.len() {
        for second in first + 1..SHORT.len() {
            let nagle = (first + second) % 2 == 0;
            let delayed_ack = second % 2 == 0;
            let host = HostOptions { nagle, delayed_ack, ..HostOptions::default() };
            let mut faults = no_faults();
            let run = Net { client: host, server: host, reply_pieces: 1 + first % 3, ..net(&mut faults) }
                .run(&Dialogue::cut(SHORT, &[first, second]));
            check(&format!("cuts {first} {second}"), SHORT, &run);
            assert!(run.millis < 1000, "nothing had to be repeated: {run:?}");
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same_streams() {
    let cuts: Vec<usize> = (1..SHORT.len()).collect();
    for (number, (client, server)) in hosts().enumerate() {
        let mut faults = no_faults();
        let run =
            Net { client, server, reply_pieces: 99, ..net(&mut faults) }.run(&Dialogue::cut(SHORT, &cuts));
        check(&format!("hosts {number}"), SHORT, &run);
    }
}

#[test]
fn t_12_sequence_numbers_wrap_anywhere() {
    for before in 0..60 {
        let isn = |n: u32| HostOptions { isn: 0_u32.wrapping_sub(n), ..HostOptions::default() };
        for (name, sent, dialogue) in dialogues() {
            let mut faults = no_faults();
            let run =
                Net { client: isn(before), server: isn(60 - before), ..net(&mut faults) }.run(&dialogue);
            check(&format!("{name} wrap after {before}"), &sent, &run);
        }
    }
}

#[test]
fn every_single_packet_may_be_lost_once() {
    every_packet("lost", |_| vec![]);
}

#[test]
fn every_single_packet_may_come_twice() {
    every_packet("twice", |_| vec![0, 7]);
}

#[test]
fn every_single_packet_may_come_late() {
    every_packet("late", |n| vec![if n % 2 == 0 { 5 } else { 300 }]);
}

/// Each packet of each dialogue meets `fate`, in turn, and no other one does.
fn every_packet(name: &str, fate: fn(usize) -> Fate) {
    for (dialogue_name, sent, dialogue) in dialogues() {
        for (number, (client, server)) in hosts().enumerate().step_by(5) {
            let wrap = |host| HostOptions { isn: u32::MAX - 20, ..host };
            let (client, server) = (wrap(client), wrap(server));
            let mut faults = no_faults();
            let clean = Net { client, server, ..net(&mut faults) }.run(&dialogue);
            for victim in 0..clean.packets {
                let mut faults = |n| if n == victim { fate(n) } else { vec![0] };
                let run = Net { client, server, ..net(&mut faults) }.run(&dialogue);
                check(&format!("{dialogue_name} hosts {number} packet {victim} {name}"), &sent, &run);
            }
        }
    }
}

#[test]
fn a_bad_network_loses_nothing() {
    for seed in 1..=400_u64 {
        let (client, server) = hosts().nth(seed as usize % 16).unwrap();
        let wrap = |host| HostOptions {
            isn: (seed as u32).wrapping_neg(),
            timestamps: seed % 3 == 0,
            receive_buffer: if seed % 5 == 0 { 48 } else { 4096 },
            ..host
        };
        for (name, sent, dialogue) in dialogues() {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut faults = |_| match random.below(20) {
                0 | 1 => vec![],
                2 => vec![0, random.below(60)],
                3..6 => vec![random.below(60)],
                _ => vec![0],
            };
            let run = Net {
                client: wrap(client),
                server: wrap(server),
                reply_pieces: 1 + seed as usize % 3,
                ..net(&mut faults)
            }
            .run(&dialogue);
            check(&format!("{name} seed {seed}"), &sent, &run);
        }
    }
}

/// Hundreds of segments of one byte, of which many are lost, leave more gaps than are kept.
#[test]
fn segments_of_one_byte_on_a_bad_network_are_enough() {
    for seed in 1..=60_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let filler = "x".repeat(400);
        let lines = ["PORT 1,2\r\n", &format!("NOOP {filler}\r\n"), "DENY x\r\n", "PASV\r\n", "QUIT\r\n"];
        let sent = lines.concat().into_bytes();
        let dialogue = if seed % 2 == 0 { Dialogue::cut(&sent, &[]) } else { Dialogue::lockstep(&lines) };
        let limits = StreamLimits { held_bytes: 4096, ..StreamLimits::default() };
        let host = HostOptions { is_cut: true, isn: u32::MAX - 100, ..HostOptions::default() };
        let mut faults = |_| match random.below(20) {
            0 => vec![],
            1 => vec![0, 1],
            2 => vec![random.below(3)],
            _ => vec![0],
        };
        let run = Net { client: host, server: host, limits, ..net(&mut faults) }.run(&dialogue);
        check(&format!("seed {seed}"), &sent, &run);
        assert!(run.millis < 6_000, "seed {seed}: {run:?}");
    }
}

#[test]
fn small_segments_and_small_windows_are_enough() {
    for mtu in [88, 100, 576] {
        for receive_buffer in [24, 64, 300] {
            for (name, sent, dialogue) in dialogues() {
                let host = HostOptions { mtu, receive_buffer, ..HostOptions::default() };
                let mut faults = no_faults();
                let run = Net { client: host, server: host, ..net(&mut faults) }.run(&dialogue);
                check(&format!("{name} mtu {mtu} buffer {receive_buffer}"), &sent, &run);
            }
        }
    }
}

#[test]
fn an_opaque_stream_settles_with_its_shift() {
    let sent = b"PORT 1\r\nTLS\r\nPORT 2\r\nDENY 3\r\n";
    let dialogue = Dialogue {
        writes: vec![sent[..8].to_vec(), sent[8..13].to_vec(), sent[13..].to_vec()],
        after_replies: Some(vec![0, 1, 2]),
    };
    let mut faults = no_faults();
    let run = net(&mut faults).run(&dialogue);
    check("opaque", sent, &run);
    assert!(run.settled && run.status.opaque, "{run:?}");
}

#[test]
fn a_long_pipeline_is_edited_whatever_the_network_does() {
    for seed in 1..=30_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut sent = Vec::new();
        while sent.len() < 20_000 {
            let line: &[u8] = match random.below(if seed % 3 == 0 { 2 } else { 6 }) {
                0 | 1 => b"DENY this and that\r\n",
                2 => b"PORT 1,2,3\r\n",
                3 => b"SHRT 1,2,3,4,5,6,7,8\r\n",
                4 => b"PASV\r\n",
                _ => b"NOOP\r\n",
            };
            sent.extend_from_slice(line);
        }
        let cuts: Vec<usize> = (1..sent.len()).filter(|_| random.below(100) == 0).collect();
        let mut faults = |_| match random.below(40) {
            0 => vec![],
            1 => vec![0, random.below(60)],
            2..6 => vec![random.below(60)],
            _ => vec![0],
        };
        let host = HostOptions { timestamps: seed % 2 == 0, isn: u32::MAX - 9000, ..HostOptions::default() };
        let limits = StreamLimits {
            held_bytes: 1000,
            edits: 40,
            gaps: 2,
            // A whole pipeline may be denied behind one command: its replies come together.
            injections: 1000,
            injection_bytes: 8000,
            // smoltcp 0.12 forgets its timestamps when it fills a segment, and drops what exceeds the MTU.
            mss: 1400,
            ..StreamLimits::default()
        };
        let run =
            Net { client: host, server: host, limits, ..net(&mut faults) }.run(&Dialogue::cut(&sent, &cuts));
        check(&format!("seed {seed}"), &sent, &run);
    }
}
