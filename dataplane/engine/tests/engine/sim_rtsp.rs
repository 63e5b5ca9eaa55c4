//! RTSP through the engine: control sessions between real TCP stacks, media counted packet by packet.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::{FilteringBehavior, MappingBehavior};
use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{at, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};

const RTSP: &str = r#"
[alg.rtsp]
enabled = true

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:554"
internal = "10.0.0.9:554"
"#;

fn setup(transport: &str) -> String {
    format!("SETUP rtsp://203.0.113.50/a RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n\r\n")
}

fn answer(transport: &str) -> String {
    format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: ab12;timeout=30\r\nTransport: {transport}\r\n\r\n")
}

fn request(method: &str, cseq: u32) -> String {
    format!("{method} rtsp://203.0.113.50/a RTSP/1.0\r\nCSeq: {cseq}\r\nSession: ab12\r\n\r\n")
}

/// The lower of two ports: `KEY=5000-5001`.
#[track_caller]
fn pair_of(text: &str, key: &str) -> u16 {
    let pair = text.split(&format!("{key}=")).nth(1).unwrap_or_else(|| panic!("{key} in {text}"));
    let (lower, upper) = pair.split(['\r', ';']).next().unwrap().split_once('-').unwrap();
    let [lower, upper] = [lower, upper].map(|l4_port| l4_port.parse::<u16>().unwrap());
    assert_eq!((lower % 2, upper), (0, lower + 1));
    lower
}

fn lab(inside: [u8; 4], change: impl FnOnce(&mut algate_config::Config)) -> Lab {
    Lab::new(Net::with(RTSP, change), inside, Faults::default(), 3)
}

fn watch(lab: &mut Lab) -> Talk {
    Talk::open(lab, (0, 4_000), at("203.0.113.50:554"), (1, 554))
}

fn say(lab: &mut Lab, talk: &Talk, from: usize, text: &str) -> String {
    String::from_utf8(talk.say(lab, from, text.as_bytes())).unwrap()
}

fn expected(net: &Net) -> usize {
    net.engine.expectation_rows(net.now, usize::MAX).len()
}

/// Twenty packets each way on both ports: from `near`, inside and announced as `announced`, and from `far`.
#[track_caller]
fn stream(net: &mut Net, near: &str, far: &str, announced: SocketAddrV4) {
    for above in [0, 1] {
        let next = |endpoint: SocketAddrV4| SocketAddrV4::new(*endpoint.ip(), endpoint.port() + above);
        let [near, far, announced] = [at(near), at(far), announced].map(next);
        for n in 0..20_u8 {
            let inward = net.one(OUTSIDE, &udp_between(far, announced, &[0x80, n]));
            assert_eq!((inward.source, inward.destination, inward.payload), (far, near, vec![0x80, n]));
            let outward = net.one(INSIDE, &udp_between(near, far, &[0x81, n]));
            assert_eq!((outward.source, outward.destination), (announced, far));
        }
    }
}

#[test]
fn a_04_a_client_inside_gets_its_stream_on_a_pair_of_ports() {
    for is_strict in [false, true] {
        let mut lab = lab([10, 0, 0, 2], |config| {
            for rule in config.nat.rules.iter_mut().filter(|_| is_strict) {
                rule.mapping = MappingBehavior::AddressAndPortDependent;
                rule.filtering = FilteringBehavior::AddressAndPortDependent;
            }
        });
        let talk = watch(&mut lab);
        let asked = say(&mut lab, &talk, CLIENT, &setup("RTP/AVP;unicast;client_port=5000-5001"));
        let announced = pair_of(&asked, "client_port");
        let ports = format!("client_port={announced}-{}", announced + 1);
        assert_eq!(asked, setup(&format!("RTP/AVP;unicast;{ports}")));
        let told =
            say(&mut lab, &talk, SERVER, &answer(&format!("RTP/AVP;unicast;{ports};server_port=6000-6001")));
        assert_eq!(told, answer("RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001"));
        let announced = SocketAddrV4::new(*talk.client_seen.ip(), announced);
        let stranger = udp_between(at("198.51.100.66:6000"), announced, b"");
        lab.net.refused(OUTSIDE, &stranger, DropReason::ExpectationPeer);
        stream(&mut lab.net, "10.0.0.2:5000", "203.0.113.50:6000", announced);
        assert_eq!(lab.net.sessions().iter().filter(|row| row.is_child).count(), 2);
        say(&mut lab, &talk, CLIENT, &request("TEARDOWN", 2));
        assert_eq!(expected(&lab.net), 0);
    }
}

#[test]
fn a_04_a_server_behind_a_forward_streams_to_the_world() {
    let mut lab = lab([10, 0, 0, 9], |_| {});
    let talk = Talk::open(&mut lab, (1, 3_000), at("203.0.113.11:554"), (0, 554));
    let transport = "RTP/AVP;unicast;client_port=5000-5001";
    let url = |text: String, host: &str| text.replace("203.0.113.50/", &format!("{host}/"));
    let asked = say(&mut lab, &talk, CLIENT, &url(setup(transport), "203.0.113.11"));
    assert_eq!(asked, url(setup(transport), "10.0.0.9"), "the server reads its own name");
    let told = say(&mut lab, &talk, SERVER, &answer(&format!("{transport};server_port=6000-6001")));
    let announced = pair_of(&told, "server_port");
    assert_eq!(told, answer(&format!("{transport};server_port={announced}-{}", announced + 1)));
    stream(
        &mut lab.net,
        "10.0.0.9:6000",
        "203.0.113.50:5000",
        SocketAddrV4::new(*at("203.0.113.11:0").ip(), announced),
    );
}

#[test]
fn a_04_interleaved_media_pass_byte_for_byte() {
    let mut lab = lab([10, 0, 0, 2], |_| {});
    let talk = watch(&mut lab);
    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1";
    assert_eq!(say(&mut lab, &talk, CLIENT, &setup(transport)), setup(transport));
    assert_eq!(say(&mut lab, &talk, SERVER, &answer(transport)), answer(transport));
    for n in 0..20_u8 {
        // What looks like a request within is none.
        let body = [
            &[0x80, n][..],
            b"SETUP rtsp://x/ RTSP/1.0\r\nCSeq: 9\r\nTransport: RTP/AVP;client_port=5000-5001\r\n\r\n",
        ]
        .concat();
        let frame = [&[b'$', 0, 0, body.len() as u8][..], &body].concat();
        assert_eq!(talk.say(&mut lab, SERVER, &frame), frame);
        let report = [b'$', 1, 0, 2, 0x81, n];
        assert_eq!(talk.say(&mut lab, CLIENT, &report), report);
    }
    assert_eq!((expected(&lab.net), lab.net.sessions().len()), (0, 1));
}

#[test]
fn a_09_a_stream_is_kept_by_requests_and_ends_with_the_connection() {
    let mut lab = lab([10, 0, 0, 2], |_| {});
    let talk = watch(&mut lab);
    let asked = say(&mut lab, &talk, CLIENT, &setup("RTP/AVP;unicast;client_port=5000-5001"));
    let announced = pair_of(&asked, "client_port");
    let ports = format!("client_port={announced}-{}", announced + 1);
    say(&mut lab, &talk, SERVER, &answer(&format!("RTP/AVP;unicast;{ports}")));
    for cseq in 2..20 {
        lab.net.advance(Duration::from_secs(50));
        say(&mut lab, &talk, CLIENT, &request("GET_PARAMETER", cseq));
    }
    assert_eq!(expected(&lab.net), 2, "a quarter of an hour");
    let rows = lab.net.engine.alg_rows();
    let row = rows.iter().find(|row| row.protocol == "rtsp").unwrap();
    assert_eq!((row.enabled, row.flows, row.expectations, row.open), (true, 1, 2, 2));
    assert_eq!((row.messages, row.rewritten, row.denied, row.detached), (20, 2, 0, 0));
    let sip = rows.iter().find(|row| row.protocol == "sip").unwrap();
    assert_eq!((sip.enabled, sip.flows, sip.open), (false, 0, 0));
    talk.close(&mut lab);
    lab.net.advance(Duration::from_secs(1));
    assert_eq!(expected(&lab.net), 0);
}

#[test]
fn a_05_a_setup_is_read_however_it_is_cut() {
    let mut lab = lab([10, 0, 0, 2], |_| {});
    let talk = watch(&mut lab);
    let sent = setup("RTP/AVP;unicast;client_port=5000-5001");
    for cut in 1..sent.len() {
        let pieces = [&sent.as_bytes()[..cut], &sent.as_bytes()[cut..]];
        let asked = String::from_utf8(talk.say_in_pieces(&mut lab, CLIENT, &pieces)).unwrap();
        let announced = pair_of(&asked, "client_port");
        assert_eq!(
            asked,
            setup(&format!("RTP/AVP;unicast;client_port={announced}-{}", announced + 1)),
            "cut at {cut}"
        );
        say(&mut lab, &talk, SERVER, "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n");
    }
}
