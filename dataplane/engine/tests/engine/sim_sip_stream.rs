//! SIP over TCP through the engine: messages that share segments or span them, on lossy wires, on a core of its own.

use crate::common::Net;
use crate::common::hosts::{Faults, Lab};
use crate::common::packets::at;
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::sim_sip::{SIP, STREAM_PHONE, answer, audio, media_of, message, request, talk};

const PROXY: &str = "203.0.113.50:5060";

fn connected(alg_core: bool, faults: Faults, seed: u64) -> (Lab, Talk, String) {
    let net = Net::with(SIP, |config| config.workers.alg_cores = if alg_core { vec![2] } else { vec![] });
    let mut lab = Lab::new(net, [10, 0, 0, 2], faults, seed);
    let talk = Talk::open(&mut lab, (0, 49_152), at(PROXY), (1, 5060));
    let seen = talk.client_seen.to_string();
    (lab, talk, seen)
}

/// Six messages of a phone with keepalives between them: what it sends with its own endpoint, and what is read with the other.
fn dialogue(via: &str, media: impl Fn(usize) -> String) -> String {
    let options = |n: usize| {
        message(
            &format!(
                "OPTIONS sip:example.com SIP/2.0
                v: SIP/2.0/TCP {via};branch=z9hG4bKo{n}
                f: <sip:bob@example.com>;tag=o
                t: <sip:example.com>
                i: o{n}
                CSeq: 1 OPTIONS
                m: <sip:bob@{via}>"
            ),
            "",
        )
    };
    let invite = |n: usize| request("INVITE", &format!("tcp{n}"), (via, "example.com"), &audio(&media(n)));
    let ack = |n: usize| request("ACK", &format!("tcp{n}"), (via, "example.com"), "");
    [options(0), invite(0), "\r\n\r\n".into(), ack(0), invite(1), options(1), "\r\n".into(), ack(1)].concat()
}

fn sent() -> String {
    dialogue(STREAM_PHONE, |n| format!("10.0.0.2:{}", 4_000 + 2 * n))
}

/// What must be read, by the media that were announced.
fn want(got: &str, seen: &str) -> String {
    let (_, second) = got.split_once("Call-ID: tcp1").unwrap_or_else(|| panic!("{got}"));
    let media = [media_of(got), media_of(second)];
    dialogue(seen, |n| media[n].to_string())
}

#[test]
fn fault_04_messages_that_share_one_segment_are_read_each() {
    for alg_core in [false, true] {
        let (mut lab, phone, seen) = connected(alg_core, Faults::default(), 3);
        let got = String::from_utf8(phone.say(&mut lab, CLIENT, sent().as_bytes())).unwrap();
        assert_eq!(got, want(&got, &seen));
        let first = media_of(&got);
        let far = "203.0.113.50:30000";
        let ok = |via: &str| answer("200 OK", "tcp0", (via, PROXY), &audio(far));
        let both = |via: &str| answer("100 Trying", "tcp0", (via, PROXY), "") + &ok(via);
        let heard = phone.say(&mut lab, SERVER, both(&seen).as_bytes());
        assert_eq!(String::from_utf8(heard).unwrap(), both(STREAM_PHONE));
        talk(&mut lab.net, "10.0.0.2:4000", far, first);
        phone.close(&mut lab);
    }
}

#[test]
fn fault_04_messages_that_span_segments_are_read_whole() {
    let text = sent();
    for alg_core in [false, true] {
        for size in [1, 7, 100, 536, 1_000] {
            let (mut lab, phone, seen) = connected(alg_core, Faults::default(), 3);
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let got = String::from_utf8(phone.say_in_pieces(&mut lab, CLIENT, &pieces)).unwrap();
            assert_eq!(got, want(&got, &seen), "in pieces of {size}");
            phone.close(&mut lab);
        }
    }
}

#[test]
fn fault_04_messages_are_read_on_wires_that_lose_repeat_and_reorder() {
    let text = sent();
    for (seed, alg_core) in (11..15).zip([false, true, false, true]) {
        let faults = Faults { lost: 50, repeated: 20, delayed: 100 };
        let (mut lab, phone, seen) = connected(alg_core, faults, seed);
        let mut got = Vec::new();
        for piece in text.as_bytes().chunks(200) {
            got.extend(phone.say(&mut lab, CLIENT, piece));
        }
        // The last loss may take a second to be noticed.
        for _ in 0..60 {
            got.extend(phone.say_in_pieces(&mut lab, CLIENT, &[]));
            if got.len() > text.len() {
                (0..100).for_each(|_| lab.step());
            }
        }
        let got = String::from_utf8(got).unwrap();
        assert_eq!(got, want(&got, &seen), "seed {seed}");
    }
}

/// A long description fills segments to the last byte and grows: the rest travels in one more.
#[test]
fn a_02_a_message_of_full_segments_grows_over_tcp() {
    let (mut lab, phone, seen) = connected(false, Faults::default(), 3);
    let padding = format!("\na=x:{}", "p".repeat(4_000));
    let invite = |via: &str, media: &str| {
        request("INVITE", "tcp-big", (via, "example.com"), &(audio(media) + &padding))
    };
    let got = phone.say(&mut lab, CLIENT, invite(STREAM_PHONE, "10.0.0.2:4000").as_bytes());
    let got = String::from_utf8(got).unwrap();
    assert_eq!(got, invite(&seen, &media_of(&got).to_string()));
    phone.close(&mut lab);
}
