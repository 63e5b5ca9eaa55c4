//! What is legal: each kind of SETUP in each of its spellings, and the life of what it opens.

use std::time::Duration;

use super::*;
use crate::contract::{ExpectError, Expectation, ExpectationId, Peer, Protocol, Ruling};
use crate::testing::{FakePolicy, NatCall};

#[test]
fn translates_the_ports_of_an_internal_client_and_puts_them_back() {
    let rows = [
        (
            "a pair",
            "RTP/AVP;unicast;client_port=5000-5001",
            "RTP/AVP;unicast;client_port=20000-20001",
            "RTP/AVP;unicast;client_port=20000-20001;server_port=6000-6001;ssrc=20000",
            "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001;ssrc=20000",
        ),
        (
            "with a slash, and a destination with a port",
            "RTP/AVP;client_port=5000/5001;destination=10.0.0.2:5000;mode=play",
            "RTP/AVP;client_port=20000/20001;destination=198.51.100.240:20000;mode=play",
            "RTP/AVP;client_port=20000-20001;destination=198.51.100.240;source=203.0.113.9",
            "RTP/AVP;client_port=5000-5001;destination=10.0.0.2;source=203.0.113.9",
        ),
        (
            "one port",
            "RTP/AVP/UDP;unicast;client_port=5000",
            "RTP/AVP/UDP;unicast;client_port=20000",
            "RTP/AVP/UDP;unicast;client_port=20000;server_port=6000",
            "RTP/AVP/UDP;unicast;client_port=5000;server_port=6000",
        ),
        (
            "folded",
            "RTP/AVP;unicast;\r\n  client_port=5000-5001",
            "RTP/AVP;unicast;\r\n  client_port=20000-20001",
            "RTP/AVP;unicast;client_port=20000-20001;\r\n\tserver_port=6000-6001",
            "RTP/AVP;unicast;client_port=5000-5001;\r\n\tserver_port=6000-6001",
        ),
        (
            "of 2.0, without a host",
            "RTP/AVP;unicast;dest_addr=\":5000\"/\":5001\"",
            "RTP/AVP;unicast;dest_addr=\":20000\"/\":20001\"",
            "RTP/AVP;unicast;dest_addr=\"198.51.100.240:20000\"/\"198.51.100.240:20001\";src_addr=\"203.0.113.9:6000\"/\"203.0.113.9:6001\"",
            "RTP/AVP;unicast;dest_addr=\"10.0.0.2:5000\"/\"10.0.0.2:5001\";src_addr=\"203.0.113.9:6000\"/\"203.0.113.9:6001\"",
        ),
        (
            "of 2.0, with its host",
            "RTP/AVP;unicast;dest_addr=\"10.0.0.2:5000\"/\"10.0.0.2:5001\"",
            "RTP/AVP;unicast;dest_addr=\"198.51.100.240:20000\"/\"198.51.100.240:20001\"",
            "RTP/AVP;unicast;dest_addr=\":20000\"/\":20001\";src_addr=\"203.0.113.9:6000\"",
            "RTP/AVP;unicast;dest_addr=\":5000\"/\":5001\";src_addr=\"203.0.113.9:6000\"",
        ),
    ];
    for (name, asked, announced, answered, seen) in rows {
        let mut driver = talk(internal_client(), &[(C, &setup(1, asked)), (S, &answer(1, answered))]);
        assert_eq!(read(&driver, C), setup(1, announced), "{name}");
        assert_eq!(read(&driver, S), answer(1, seen), "{name}");
        let ports: Vec<_> = driver.nat.open_targets().iter().map(SocketAddrV4::port).collect();
        let want: &[u16] = if name == "one port" { &[5000] } else { &[5000, 5001] };
        assert_eq!(ports, want, "{name}");
        assert_eq!(counted(&driver), [(Event::Rewritten, 2)], "{name}");
        feed(&mut driver, &[(C, &request("TEARDOWN", 2, "rtsp://203.0.113.9/a"))]);
        assert!(driver.nat.open_targets().is_empty(), "{name}");
    }
}

#[test]
fn asks_for_a_pair_from_the_server_that_lasts() {
    let driver = talk(internal_client(), &[(C, &setup(1, "RTP/AVP;client_port=5000-5001"))]);
    let want = Expectation {
        protocol: Protocol::Udp,
        owner: C,
        target: at("10.0.0.2:5000"),
        peer: Peer::OtherEnd,
        peer_l4_port: None,
        uses: u16::MAX,
        lifetime: Duration::from_secs(60),
    };
    assert!(matches!(driver.nat.calls[..], [NatCall::ExpectPair(seen, Ok(_))] if seen == want));
}

#[test]
fn of_several_alternatives_only_the_chosen_one_stays_open() {
    let offer = "RTP/AVP;client_port=5000-5001,RTP/SAVP;client_port=5002-5003,\
         RTP/AVPF;client_port=5000-5001,RTP/AVP;multicast;port=7000-7001,RTP/AVP/TCP;interleaved=0-1";
    let announced = offer.replace("5000-5001", "20000-20001").replace("5002-5003", "20002-20003");
    let rows: [(&str, String, &[&str]); 5] = [
        ("the first", answer(1, "RTP/AVP;client_port=20000-20001"), &["10.0.0.2:5000", "10.0.0.2:5001"]),
        ("the second", answer(1, "RTP/SAVP;client_port=20002-20003"), &["10.0.0.2:5002", "10.0.0.2:5003"]),
        ("interleaved", answer(1, "RTP/AVP/TCP;interleaved=0-1"), &[]),
        ("multicast", answer(1, "RTP/AVP;multicast;port=7000-7001"), &[]),
        ("none", "RTSP/1.0 461 Unsupported Transport\r\nCSeq: 1\r\n\r\n".to_owned(), &[]),
    ];
    for (name, reply, open) in rows {
        let driver = talk(internal_client(), &[(C, &setup(1, offer)), (S, &reply)]);
        assert_eq!(read(&driver, C), setup(1, &announced), "{name}");
        assert_eq!(driver.nat.open_targets(), open.iter().map(|text| at(text)).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn pipelined_setups_are_answered_by_their_numbers() {
    let asked =
        [setup(7, "RTP/AVP;client_port=5000-5001"), setup(8, "RTP/AVP;client_port=5002-5003")].concat();
    let replies = [
        answer(8, "RTP/AVP;client_port=20002-20003"),
        "RTSP/1.0 401 Unauthorized\r\nCSeq: 7\r\n\r\n".to_owned(),
    ]
    .concat();
    let mut driver = talk(internal_client(), &[(C, &asked), (S, &replies)]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5002"), at("10.0.0.2:5003")]);
    assert!(read(&driver, S).contains("client_port=5002-5003"));
    // The same again, with credentials.
    let again = setup(9, "RTP/AVP;client_port=5000-5001");
    feed(&mut driver, &[(C, &again), (S, &answer(9, "RTP/AVP;client_port=20004-20005"))]);
    assert!(read(&driver, S).contains("client_port=5000-5001"));
    // One of two ends, then the session.
    feed(&mut driver, &[(C, &request("TEARDOWN", 10, "rtsp://203.0.113.9/a/8"))]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5000"), at("10.0.0.2:5001")]);
    feed(&mut driver, &[(C, &request("TEARDOWN", 11, "rtsp://203.0.113.9/a"))]);
    assert!(driver.nat.open_targets().is_empty());
}

#[test]
fn a_request_of_the_session_keeps_its_streams() {
    let mut driver = talk(
        internal_client(),
        &[
            (C, &setup(1, "RTP/AVP;client_port=5000-5001")),
            (S, &answer(1, "RTP/AVP;client_port=20000-20001")),
        ],
    );
    let before = driver.nat.calls.len();
    feed(&mut driver, &[(C, "OPTIONS * RTSP/1.0\r\nCSeq: 2\r\nSession: other\r\n\r\n")]);
    feed(&mut driver, &[(C, "OPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n")]);
    assert_eq!(driver.nat.calls.len(), before, "another session, or none");
    feed(&mut driver, &[(C, &request("GET_PARAMETER", 4, "rtsp://203.0.113.9/a"))]);
    let renewed = |id| NatCall::Renew(ExpectationId(id), Duration::from_secs(30 + 60), None, true);
    assert_eq!(driver.nat.calls[before..], [renewed(1), renewed(2)]);
}

#[test]
fn the_port_of_a_stream_that_is_set_up_again_stays_open() {
    let mut driver = talk(
        internal_client(),
        &[
            (C, &setup(1, "RTP/AVP;client_port=5000-5001")),
            (S, &answer(1, "RTP/AVP;client_port=20000-20001")),
        ],
    );
    let again = setup(2, "RTP/AVP;client_port=5000-5001");
    feed(&mut driver, &[(C, &again)]);
    let sent = read(&driver, C);
    let announced = sent.rsplit_once("client_port=").unwrap().1.trim_end();
    feed(&mut driver, &[(S, &answer(2, &format!("RTP/AVP;client_port={announced}")))]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:5000"), at("10.0.0.2:5001")]);
    assert!(read(&driver, S).ends_with("client_port=5000-5001\r\n\r\n"));
}

#[test]
fn media_come_from_the_host_that_the_answer_names_where_the_operator_allows_it() {
    for (media_source, peer) in
        [(MediaSource::Server, None), (MediaSource::Named, Some(Peer::Address([203, 0, 113, 77].into())))]
    {
        let settings = RtspSettings { media_source, ..RtspSettings::default() };
        let mut driver = Driver::new(Rtsp::new(settings), internal_client());
        feed(&mut driver, &[(C, &setup(1, "RTP/AVP;client_port=5000-5001"))]);
        feed(&mut driver, &[(S, &answer(1, "RTP/AVP;client_port=20000-20001;source=203.0.113.77"))]);
        let seen = driver.nat.calls.iter().find_map(|call| match call {
            NatCall::Renew(_, _, peer, true) => Some(*peer),
            _ => None,
        });
        assert_eq!(seen, Some(peer));
    }
}

#[test]
fn an_internal_server_is_known_by_its_external_endpoint() {
    let description =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\nc=IN IP4 0.0.0.0\r\na=control:rtsp://10.0.0.9/a/\r\n";
    let translated = description.replace("10.0.0.9", "198.51.100.7");
    let describe = |host: &str, text: &str| {
        format!(
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Base: rtsp://{host}/a/\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    let mut driver = talk(
        internal_server(),
        &[
            (C, "DESCRIBE rtsp://198.51.100.7/a RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            (S, &describe("10.0.0.9", description)),
        ],
    );
    assert_eq!(read(&driver, C), "DESCRIBE rtsp://10.0.0.9/a RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let mut replies = describe("198.51.100.7", &translated);
    assert_eq!(read(&driver, S), replies);

    feed(
        &mut driver,
        &[
            (C, &setup(2, "RTP/AVP;client_port=5000-5001")),
            (S, &answer(2, "RTP/AVP;client_port=5000-5001;server_port=6000-6001;source=10.0.0.9")),
        ],
    );
    replies += &answer(2, "RTP/AVP;client_port=5000-5001;server_port=20000-20001;source=198.51.100.7");
    assert_eq!(read(&driver, S), replies);
    let open: Vec<_> = driver.nat.open_targets();
    assert_eq!(open[2..], [at("10.0.0.9:6000"), at("10.0.0.9:6001")]);

    let play = |host: &str| {
        format!(
            "RTSP/1.0 200 OK\r\nCSeq: 3\r\nRTP-Info: url=rtsp://{host}/a/1;seq=1\r\n\r\n\
             REDIRECT rtsp://{host}/a RTSP/1.0\r\nCSeq: 1\r\nLocation: rtsp://{host}:554/b\r\n\r\n"
        )
    };
    feed(&mut driver, &[(S, &play("10.0.0.9"))]);
    assert_eq!(read(&driver, S), replies + &play("198.51.100.7"));
}

#[test]
fn two_internal_hosts_reach_each_other_through_their_external_endpoints() {
    let mut endpoints = internal_client();
    (endpoints.responder, endpoints.responder_seen) =
        (internal_server().responder, internal_server().responder_seen);
    let driver = talk(
        endpoints,
        &[
            (C, &setup(1, "RTP/AVP;client_port=5000-5001")),
            (S, &answer(1, "RTP/AVP;client_port=20000-20001;server_port=6000-6001")),
        ],
    );
    assert_eq!(read(&driver, C), setup(1, "RTP/AVP;client_port=20000-20001"));
    assert_eq!(read(&driver, S), answer(1, "RTP/AVP;client_port=5000-5001;server_port=20002-20003"));
}

#[test]
fn an_internal_server_seen_with_another_port_is_named_with_it() {
    let mut endpoints = internal_server();
    endpoints.responder_seen = at("198.51.100.7:8554");
    let location = |url: &str| format!("RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {url}\r\n\r\n");
    let driver = talk(
        endpoints,
        &[
            (C, "PLAY rtsp://198.51.100.7:8554/a RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            (S, &location("rtsp://10.0.0.9/b")),
        ],
    );
    assert_eq!(read(&driver, C), "PLAY rtsp://10.0.0.9:554/a RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert_eq!(read(&driver, S), location("rtsp://198.51.100.7:8554/b"));
}

#[test]
fn a_request_with_credentials_keeps_its_uri() {
    let text = "PLAY rtsp://198.51.100.7/a RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Digest uri=\"rtsp://198.51.100.7/a\"\r\n\r\n";
    assert_eq!(read(&talk(internal_server(), &[(C, text)]), C), text);
}

#[test]
fn interleaved_data_pass_unread_and_unheld() {
    let mut driver = talk(
        internal_client(),
        &[(C, &setup(1, "RTP/AVP/TCP;interleaved=0-1")), (S, &answer(1, "RTP/AVP/TCP;interleaved=0-1"))],
    );
    let inside = setup(2, "RTP/AVP;client_port=5000-5001");
    let frame =
        [&b"$\x00"[..], &u16::try_from(inside.len()).unwrap().to_be_bytes(), inside.as_bytes()].concat();
    for direction in [C, S] {
        for (at, byte) in frame.iter().enumerate() {
            driver.feed(direction, &[*byte]);
            assert!(driver.held(direction).len() < 4, "byte {at}");
        }
        assert!(driver.held(direction).is_empty());
    }
    assert!(driver.nat.calls.is_empty(), "what is in a frame is no request");
    driver.feed(C, b"$\x01\x00\x00\r\n");
    feed(&mut driver, &[(C, &inside)]);
    assert_eq!(driver.nat.open_targets().len(), 2, "the dialogue goes on behind it");
}

#[test]
fn a_long_body_passes_unread_and_is_skipped() {
    let mut driver = session(internal_client());
    let body = setup(2, "RTP/AVP;client_port=5000-5001").repeat(100);
    let head = format!(
        "ANNOUNCE rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    feed(&mut driver, &[(C, &head), (C, &body), (C, &setup(3, "RTP/AVP;client_port=6000-6001"))]);
    assert_eq!(driver.nat.open_targets(), [at("10.0.0.2:6000"), at("10.0.0.2:6001")]);
}

#[test]
fn a_refusal_by_nat_passes_the_setup_unchanged() {
    let mut driver = session(internal_client());
    driver.nat.refusal = Some(ExpectError::PoolExhausted);
    let asked = setup(1, "RTP/AVP;client_port=5000-5001");
    feed(&mut driver, &[(C, &asked)]);
    assert_eq!(read(&driver, C), asked);
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 1)]);
}

#[test]
fn what_policy_refuses_is_answered_with_403() {
    let mut driver = session(internal_client());
    driver.policy = FakePolicy(|subject| match (subject.command, subject.argument) {
        (b"RECORD" | b"ANNOUNCE", _) | (_, b"rtsp://203.0.113.9/secret") => Ruling::Deny,
        (b"PAUSE", _) => Ruling::Drop,
        _ => Ruling::Allow,
    });
    feed(
        &mut driver,
        &[
            (C, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            (C, "DESCRIBE rtsp://203.0.113.9/secret RTSP/2.0\r\nCSeq: 2\r\n\r\n"),
            (C, "ANNOUNCE a RTSP/1.0\r\nCSeq: 3\r\nContent-Length: 4\r\n\r\nabcd"),
            (C, "PAUSE a RTSP/1.0\r\nCSeq: 4\r\n\r\n"),
        ],
    );
    let long = "x".repeat(9000);
    feed(&mut driver, &[(C, &format!("RECORD a RTSP/1.0\r\nContent-Length: 9000\r\n\r\n{long}"))]);
    assert_eq!(read(&driver, C), "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let want = "RTSP/2.0 403 Forbidden\r\nCSeq: 2\r\n\r\nRTSP/1.0 403 Forbidden\r\nCSeq: 3\r\n\r\nRTSP/1.0 403 Forbidden\r\n\r\n";
    assert_eq!(read(&driver, S), want);
    assert_eq!(counted(&driver), [(Event::Removed, 4), (Event::Denied, 4)]);
}

#[test]
fn a_403_waits_for_the_end_of_the_frame_that_is_passing() {
    let mut driver = talk(internal_client(), &[(C, &setup(1, "RTP/AVP/TCP;interleaved=0-1"))]);
    driver.policy = FakePolicy(|_| Ruling::Deny);
    driver.feed(S, b"$\x00\x00\x04ab");
    feed(&mut driver, &[(C, "PLAY a RTSP/1.0\r\nCSeq: 2\r\n\r\n")]);
    assert_eq!(driver.outcome().reply, b"$\x00\x00\x04ab");
    driver.feed(S, b"cd$\x00\x00\x00");
    assert_eq!(
        driver.outcome().reply,
        b"$\x00\x00\x04abcdRTSP/1.0 403 Forbidden\r\nCSeq: 2\r\n\r\n$\x00\x00\x00"
    );
}
