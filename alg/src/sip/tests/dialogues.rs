//! Whole dialogues as RFC 3261 section 24 and RFC 3665 show them, byte by byte.

use super::*;

const REGISTER: &str = "REGISTER sip:registrar.example.com SIP/2.0
    Via: SIP/2.0/UDP {host};branch=z9hG4bKnashds7;rport
    Max-Forwards: 70
    From: Bob <sip:bob@example.com>;tag=456248
    To: Bob <sip:bob@example.com>
    Call-ID: 843817637684230@998sdasdh09
    CSeq: 1826 REGISTER
    Contact: <sip:bob@{host}>;q=0.7
    Expires: 7200";
const REGISTERED: &str = "SIP/2.0 200 OK
    Via: SIP/2.0/UDP {host};branch=z9hG4bKnashds7;rport={rport};received={address}
    From: Bob <sip:bob@example.com>;tag=456248
    To: Bob <sip:bob@example.com>;tag=2493k59kd
    Call-ID: 843817637684230@998sdasdh09
    CSeq: 1826 REGISTER
    Contact: <sip:bob@{host}>;expires={expires}";

fn register(host: &str) -> Vec<u8> {
    message(&REGISTER.replace("{host}", host), "")
}

fn registered(host: &str, expires: u32) -> Vec<u8> {
    let (address, rport) = host.split_once(':').unwrap_or((host, "5060"));
    let text = REGISTERED.replace("{host}", host).replace("{address}", address).replace("{rport}", rport);
    message(&text.replace("{expires}", &expires.to_string()), "")
}

fn held(driver: &Driver<Sip>) -> Vec<(Peer, u64)> {
    let asked = driver.nat.calls.iter().filter_map(|call| match call {
        NatCall::Expect(request, Ok(_)) => Some((request.peer, request.lifetime.as_secs())),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_04_invite_with_description_is_rewritten_both_ways_and_bye_closes() {
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    let want = message(
        "INVITE sip:bob@example.com SIP/2.0
        Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bK776;rport
        Max-Forwards: 70
        From: \"Alice\" <sip:alice@10.0.0.2>;tag=a1
        To: <sip:bob@example.com>
        Call-ID: c1@10.0.0.2
        CSeq: 1 INVITE
        Contact: <sip:alice@198.51.100.7:30000>
        Content-Type: application/sdp",
        &audio("198.51.100.7", 20000),
    );
    same(&got, &want);
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001"]);

    let trying = response("100 Trying", "c1", "1 INVITE", "b1", "");
    through(&mut driver, R, &trying);
    let got =
        through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let want = message(
        "SIP/2.0 200 OK
        Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK776;rport=5060;received=10.0.0.2
        From: \"Alice\" <sip:alice@10.0.0.2>;tag=a1
        To: <sip:bob@example.com>;tag=b1
        Call-ID: c1@10.0.0.2
        CSeq: 1 INVITE
        Contact: <sip:bob@203.0.113.77:5070>
        Content-Type: application/sdp",
        &audio("203.0.113.77", 7000),
    );
    same(&got, &want);
    let media = Peer::Address([203, 0, 113, 77].into());
    assert_eq!(new_peers(&driver), [(1, media), (2, media)]);
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(1800)));

    through(&mut driver, O, &in_dialog("ACK", "c1", "b1"));
    assert_eq!(open(&driver).len(), 2);
    through(&mut driver, O, &in_dialog("BYE", "c1", "b1"));
    assert!(open(&driver).is_empty());
    assert_eq!(counted(&driver), [(Event::Rewritten, 5)]);
}

#[test]
fn a_04_registration_is_held_as_long_as_granted_and_withdrawn_at_zero() {
    let mut driver = udp(phone());
    same(&through(&mut driver, O, &register("10.0.0.2:5060")), &register("198.51.100.7:30000"));
    let trying =
        String::from_utf8(registered("198.51.100.7:30000", 99)).unwrap().replace("200 OK", "100 Trying");
    through(&mut driver, R, trying.as_bytes());
    assert!(open(&driver).is_empty(), "nothing before the answer");
    let got = through(&mut driver, R, &registered("198.51.100.7:30000", 600));
    same(&got, &registered("10.0.0.2:5060", 600));
    assert_eq!(open(&driver), ["10.0.0.2:5060"]);
    assert_eq!(held(&driver), [(Peer::ByFiltering, 632)], "the Contact's own expires comes first");

    through(&mut driver, O, &register("10.0.0.2:5060"));
    through(&mut driver, R, &registered("198.51.100.7:30000", 3600));
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(3632)));
    assert_eq!(held(&driver).len(), 1, "renewed, not opened again");

    through(&mut driver, O, &register("10.0.0.2:5060"));
    through(&mut driver, R, &registered("198.51.100.7:30000", 0));
    assert!(open(&driver).is_empty());
}

#[test]
fn a_port_that_is_left_out_is_left_out_again_when_it_comes_back() {
    let mut driver = udp(phone());
    same(&through(&mut driver, O, &register("10.0.0.2")), &register("198.51.100.7:30000"));
    let got = through(&mut driver, R, &registered("198.51.100.7:30000", 600));
    same(&got, &registered("10.0.0.2", 600));
}

#[test]
fn an_endpoint_on_another_port_gets_an_expectation_for_the_registration() {
    let mut driver = udp(phone());
    same(&through(&mut driver, O, &register("10.0.0.2:5062")), &register("198.51.100.7:20000"));
    assert_eq!(held(&driver), [(Peer::OtherEnd, 180)]);
    let registered = |host: &str| {
        let text = REGISTERED.replace("{host}", host).replace(";rport={rport};received={address}", "");
        message(&text.replace("{expires}", "600"), "")
    };
    let got = through(&mut driver, R, &registered("198.51.100.7:20000"));
    same(&got, &registered("10.0.0.2:5062"));
    let renewed = driver.nat.calls.iter().any(|call| {
        matches!(call, NatCall::Renew(id, lifetime, None, true) if id.0 == 1 && lifetime.as_secs() == 632)
    });
    assert!(renewed);
}

#[test]
fn a_04_an_inbound_call_reaches_the_registered_phone_and_its_answer_opens_media() {
    let mut driver = udp(phone());
    through(&mut driver, O, &register("10.0.0.2:5060"));
    through(&mut driver, R, &registered("198.51.100.7:30000", 600));
    let inbound = |host: &str| {
        message(
            &format!(
                "INVITE sip:bob@{host} SIP/2.0
                v: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKp1
                Record-Route: <sip:203.0.113.5;lr>
                f: <sip:carol@example.com>;tag=c9
                t: <sip:bob@example.com>
                i: in1
                CSeq: 7 INVITE
                m: <sip:carol@203.0.113.60>
                c: application/sdp"
            ),
            &audio("203.0.113.60", 9000),
        )
    };
    same(&through(&mut driver, R, &inbound("198.51.100.7:30000")), &inbound("10.0.0.2:5060"));
    let answer = |host: &str, address: &str, l4_port| {
        message(
            &format!(
                "SIP/2.0 200 OK
                v: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKp1
                Record-Route: <sip:203.0.113.5;lr>
                f: <sip:carol@example.com>;tag=c9
                t: <sip:bob@example.com>;tag=b7
                i: in1
                CSeq: 7 INVITE
                m: <sip:bob@{host}>
                c: application/sdp"
            ),
            &audio(address, l4_port),
        )
    };
    let got = through(&mut driver, O, &answer("10.0.0.2:5060", "10.0.0.2", 4000));
    same(&got, &answer("198.51.100.7:30000", "198.51.100.7", 20002));
    let asked = driver.nat.calls.iter().find_map(|call| match call {
        NatCall::ExpectPair(request, Ok(_)) => Some(request.peer),
        _ => None,
    });
    assert_eq!(asked, Some(Peer::Address([203, 0, 113, 60].into())), "the offer has named the peer");

    let bye = message(
        "BYE sip:bob@198.51.100.7:30000 SIP/2.0
        Via: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKp2
        From: <sip:carol@example.com>;tag=c9
        To: <sip:bob@example.com>;tag=b7
        Call-ID: in1
        CSeq: 8 BYE",
        "",
    );
    assert!(through(&mut driver, R, &bye).starts_with("BYE sip:bob@10.0.0.2:5060 SIP/2.0\r\n"));
    assert_eq!(open(&driver), ["10.0.0.2:5060"], "the registration stays");
}

#[test]
fn an_internal_server_is_called_from_outside() {
    let mut driver = udp(server());
    let request = |host: &str| {
        message(
            &format!(
                "INVITE sip:200@{host} SIP/2.0
                Via: SIP/2.0/UDP 203.0.113.50;branch=z9hG4bKx
                Route: <sip:{host};lr>
                From: <sip:9@203.0.113.50>;tag=1
                To: <sip:200@198.51.100.7>
                Call-ID: s1
                CSeq: 1 INVITE
                Contact: <sip:9@203.0.113.50>"
            ),
            "",
        )
    };
    same(&through(&mut driver, O, &request("198.51.100.7")), &request("10.0.0.9"));
    let answer = |host: &str, address: &str, l4_port| {
        message(
            &format!(
                "SIP/2.0 200 OK
                Via: SIP/2.0/UDP 203.0.113.50;branch=z9hG4bKx
                Record-Route: <sip:{host};lr>
                From: <sip:9@203.0.113.50>;tag=1
                To: <sip:200@198.51.100.7>;tag=2
                Call-ID: s1
                CSeq: 1 INVITE
                Warning: 399 {host} \"at 10.0.0.9\"
                Contact: \"a, b\" <sip:200@{host};transport=udp>
                Content-Type: application/sdp"
            ),
            &audio(address, l4_port),
        )
    };
    // The offer comes in the 200, its answer in the ACK.
    let got = through(&mut driver, R, &answer("10.0.0.9:5060", "10.0.0.9", 12000));
    same(&got, &answer("198.51.100.7:5060", "198.51.100.7", 20000));
    assert!(new_peers(&driver).is_empty());
    let ack = message(
        "ACK sip:200@198.51.100.7:5060 SIP/2.0
        Via: SIP/2.0/UDP 203.0.113.50;branch=z9hG4bKy
        From: <sip:9@203.0.113.50>;tag=1
        To: <sip:200@198.51.100.7>;tag=2
        Call-ID: s1
        CSeq: 1 ACK
        Content-Type: application/sdp",
        &audio("203.0.113.51", 8000),
    );
    through(&mut driver, O, &ack);
    let media = Peer::Address([203, 0, 113, 51].into());
    assert_eq!(new_peers(&driver), [(1, media), (2, media)]);
}

#[test]
fn headers_that_name_the_sender_are_translated_and_all_others_stay() {
    let request = |host: &str| {
        message(
            &format!(
                "REFER sip:bob@203.0.113.77 SIP/2.0
                Via: SIP/2.0/UDP {host};maddr={maddr};branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK0
                Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKz
                Route: <sip:203.0.113.5;lr>, <sip:{host};lr>
                Path: <sip:{host};lr>
                P-Asserted-Identity: \"A\" <sip:alice@{host}>, <tel:+4930123>
                P-Preferred-Identity: <sips:alice@example.com>
                r: <sip:carol@{host}?Replaces=12345%40192.0.2.1%3Bto-tag%3D1>
                b: <sip:alice@{host}>
                From: <sip:alice@10.0.0.2>;tag=a1
                To: <sip:bob@10.0.0.2>;tag=b1
                Call-ID: 9@10.0.0.2
                CSeq: 3 REFER
                Contact: sip:alice@{host};expires=60, <sip:x@[2001:db8::2]:5060>, <sip:h@pc.example.com>
                Authorization: Digest username=\"alice\", uri=\"sip:10.0.0.2\"
                Replaces: 9@10.0.0.2;from-tag=1;to-tag=2
                Identity: \"c2lw\"
                X-Seen: 10.0.0.2:5060",
                maddr = host.split(':').next().unwrap()
            ),
            "",
        )
    };
    let mut driver = udp(phone());
    same(&through(&mut driver, O, &request("10.0.0.2:5060")), &request("198.51.100.7:30000"));
}

#[test]
fn folded_and_compact_headers_keep_their_shape() {
    let mut driver = udp(phone());
    let text = |host: &str| {
        format!(
            "SUBSCRIBE sip:bob@example.com SIP/2.0\r\nv:\r\n SIP / 2.0 / UDP  {host} ;branch=z9hG4bK1\r\n\
            f: <sip:a@b>;\r\n\ttag=1\r\nt: <sip:b@b>\r\ni: 5\r\nCSeq: 1\r\n SUBSCRIBE\r\nm: \"x\\\"<sip:10.0.0.2>\"\r\n  \
            <sip:a@{host}>\r\no: presence\r\nl: 0\r\n\r\n"
        )
    };
    same(&through(&mut driver, O, text("10.0.0.2:5060").as_bytes()), text("198.51.100.7:30000").as_bytes());
}

#[test]
fn other_methods_are_translated_and_open_nothing() {
    for method in ["OPTIONS", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH", "INFO", "REFER", "PRACK", "UPDATE"]
    {
        let mut driver = udp(phone());
        let text = in_dialog(method, "m", "b1");
        let got = through(&mut driver, O, &text);
        let want = String::from_utf8(text).unwrap().replacen("10.0.0.2:5060", "198.51.100.7:30000", 1);
        same(&got, want.as_bytes());
        assert!(open(&driver).is_empty(), "{method}");
    }
}

#[test]
fn cancel_shortens_and_a_final_failure_withdraws() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, O, &in_dialog("CANCEL", "c1", "b1"));
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(32)), "a 200 may have crossed it");
    assert_eq!(open(&driver).len(), 2);
    through(&mut driver, R, &response("200 OK", "c1", "1 CANCEL", "b1", ""));
    assert_eq!(open(&driver).len(), 2);
    through(&mut driver, R, &response("487 Request Terminated", "c1", "1 INVITE", "b1", ""));
    assert!(open(&driver).is_empty());
}

#[test]
fn session_expires_decides_how_long_media_may_begin_anew() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    let text = String::from_utf8(response("200 OK", "c1", "1 INVITE", "b1", "")).unwrap();
    let text = text.replace("Content-Length", "Session-Expires: 600;refresher=uac\r\nContent-Length");
    through(&mut driver, R, text.as_bytes());
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(632)));
    through(&mut driver, O, &in_dialog("UPDATE", "c1", "b1"));
    through(&mut driver, R, text.replace("1 INVITE", "2 UPDATE").replace("600", "1200").as_bytes());
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(1232)));
}

#[test]
fn forks_share_the_media_until_the_last_has_hung_up() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("183 Progress", "c1", "1 INVITE", "f1", &audio("203.0.113.61", 7000)));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "f2", &audio("203.0.113.62", 7000)));
    through(&mut driver, R, &response("183 Progress", "c1", "1 INVITE", "f3", &audio("203.0.113.63", 7000)));
    let peers: Vec<_> = new_peers(&driver).into_iter().map(|(_, peer)| peer).collect();
    let of = |last: u8| Peer::Address([203, 0, 113, last].into());
    assert_eq!(peers, [of(61), of(61), of(62), of(62)], "who only rings does not take over");
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "f4", &audio("203.0.113.64", 7000)));
    through(&mut driver, O, &in_dialog("BYE", "c1", "f2"));
    assert_eq!(open(&driver).len(), 2);
    through(&mut driver, O, &in_dialog("BYE", "c1", "f4"));
    assert!(open(&driver).is_empty());
}

#[test]
fn a_new_offer_replaces_media_when_it_is_accepted_and_nothing_when_it_is_not() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let again = |l4_port| {
        let text = String::from_utf8(invite("c1", "", &audio("10.0.0.2", l4_port))).unwrap();
        text.replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b1").into_bytes()
    };
    through(&mut driver, O, &again(4002));
    assert_eq!(open(&driver).len(), 4);
    through(&mut driver, R, &response("488 Not Acceptable", "c1", "1 INVITE", "b1", ""));
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001"], "as before");
    through(&mut driver, O, &again(4002));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    assert_eq!(open(&driver), ["10.0.0.2:4002", "10.0.0.2:4003"]);
    let got = through(&mut driver, O, &again(4002));
    let once_more = through(&mut driver, O, &again(4002));
    assert_eq!(got, once_more, "a repetition gets the same bytes");
}

#[test]
fn two_translated_ends_read_each_other_as_they_are_seen() {
    let endpoints = SessionEndpoints {
        originator: at("10.0.0.2:5060"),
        originator_seen: at("198.51.100.7:30000"),
        responder: at("10.0.0.9:5060"),
        responder_seen: at("198.51.100.7:5060"),
    };
    let request = |to: &str, from: &str| {
        message(
            &format!(
                "OPTIONS sip:b@{to} SIP/2.0
                Via: SIP/2.0/UDP {from};branch=z9hG4bK1
                From: <sip:a@b>;tag=1
                To: <sip:b@b>
                Call-ID: h
                CSeq: 1 OPTIONS
                Contact: <sip:a@{from}>"
            ),
            "",
        )
    };
    let mut driver = udp(endpoints);
    let got = through(&mut driver, O, &request("198.51.100.7:5060", "10.0.0.2:5060"));
    same(&got, &request("10.0.0.9:5060", "198.51.100.7:30000"));
    let got = through(&mut driver, R, &request("198.51.100.7:30000", "10.0.0.9:5060"));
    same(&got, &request("10.0.0.2:5060", "198.51.100.7:5060"));
}

#[test]
fn two_calls_over_one_flow_share_nothing() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("first", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "first", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    through(&mut driver, O, &invite("second", "", &audio("10.0.0.2", 4010)));
    through(&mut driver, R, &response("200 OK", "second", "1 INVITE", "b2", &audio("203.0.113.78", 7000)));
    let again = String::from_utf8(invite("second", "", &audio("10.0.0.2", 4020))).unwrap();
    let again = again.replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b2");
    through(&mut driver, O, again.as_bytes());
    through(&mut driver, R, &response("200 OK", "second", "1 INVITE", "b2", &audio("203.0.113.78", 7000)));
    let first = ["10.0.0.2:4000", "10.0.0.2:4001"];
    assert_eq!(open(&driver), [first[0], first[1], "10.0.0.2:4020", "10.0.0.2:4021"]);
    through(&mut driver, O, &in_dialog("CANCEL", "first", "b1"));
    through(&mut driver, O, &in_dialog("BYE", "second", "b2"));
    assert_eq!(open(&driver), first);
    assert_eq!(
        last_renewal(&driver),
        Some(Duration::from_secs(1800)),
        "an answered call cannot be cancelled"
    );
}

#[test]
fn an_identity_is_translated_and_opens_nothing() {
    let text = String::from_utf8(in_dialog("MESSAGE", "i", "b")).unwrap();
    let text = |host: &str, own: &str| {
        let extra = format!(
            "P-Asserted-Identity: <sip:alice@{host}>\r\nb: <sip:alice@{host}:5080>\r\n\
            Warning: 399 {host}:5090 \"x\"\r\nContent-Length"
        );
        text.replace("Content-Length", &extra)
            .replace("10.0.0.2:5060", own)
            .replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    };
    let mut driver = tcp(stream_phone());
    driver.feed(O, text("10.0.0.2", "10.0.0.2:49152").as_bytes());
    let got = String::from_utf8(driver.outcome().original).unwrap();
    same(&got, text("198.51.100.7", "198.51.100.7:30000").as_bytes());
    assert!(driver.nat.calls.is_empty());
}

#[test]
fn a_call_that_rings_keeps_its_media_waiting() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("100 Trying", "c1", "1 INVITE", "b1", ""));
    assert_eq!(last_renewal(&driver), None, "the next hop has it, nobody rings yet");
    through(&mut driver, R, &response("180 Ringing", "c1", "1 INVITE", "b1", ""));
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(180)));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", ""));
    through(&mut driver, R, &response("180 Ringing", "c1", "1 INVITE", "b2", ""));
    assert_eq!(last_renewal(&driver), Some(Duration::from_secs(1800)), "a late fork shortens nothing");
}

/// A challenged INVITE comes again with credentials, and its media again with it.
#[test]
fn a_challenge_withdraws_and_the_second_attempt_opens_again() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("407 Proxy Authentication Required", "c1", "1 INVITE", "b1", ""));
    through(&mut driver, O, &in_dialog("ACK", "c1", "b1"));
    assert!(open(&driver).is_empty());
    let again =
        String::from_utf8(invite("c1", "Proxy-Authorization: Digest x=y\n", &audio("10.0.0.2", 4000)))
            .unwrap();
    through(&mut driver, O, again.replace("CSeq: 1", "CSeq: 2").as_bytes());
    through(&mut driver, R, &response("200 OK", "c1", "2 INVITE", "b1", &audio("203.0.113.77", 7000)));
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001"]);
}

#[test]
fn an_offer_that_passes_unread_leaves_the_call_as_it_was() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let refused = audio("10.0.0.2", 4002) + "m=video 80 RTP/AVP 31\n";
    through(&mut driver, O, &invite("c1", "", &refused));
    assert_eq!(driver.count_of(Event::PrivilegedPort), 1);
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001"]);
}

#[test]
fn an_answer_confirms_one_registration_and_its_repetition_nothing() {
    let mut driver = udp(phone());
    through(&mut driver, O, &register("10.0.0.2:5060"));
    through(&mut driver, R, &registered("198.51.100.7:30000", 600));
    let calls = driver.nat.calls.len();
    let again = through(&mut driver, R, &registered("198.51.100.7:30000", 86_400));
    same(&again, &registered("10.0.0.2:5060", 86_400));
    assert_eq!(driver.nat.calls.len(), calls);
    assert_eq!(counted(&driver), [(Event::Rewritten, 3), (Event::OutOfPlace, 1)]);
}

#[test]
fn a_04_what_each_contact_was_granted_counts_then_expires_then_an_hour() {
    let rows = [
        (
            "expires of the Contact",
            "Contact: <sip:a@198.51.100.7:30000>;expires=100\r\nExpires: 7",
            Some(132),
        ),
        ("Expires", "Contact: <sip:a@198.51.100.7:30000>\r\nExpires: 200", Some(232)),
        ("neither", "Contact: <sip:a@198.51.100.7:30000>", Some(3632)),
        ("no number", "m: <sip:a@198.51.100.7:30000>;expires=soon\r\nExpires: 300", Some(332)),
        (
            "of several, its own",
            "Contact: <sip:a@203.0.113.9>;expires=900, <sip:a@198.51.100.7:30000>;expires=400",
            Some(432),
        ),
        (
            "the longest of its own",
            "m: <sip:a@198.51.100.7:30000>;expires=0\r\nm: <sip:b@198.51.100.7:30000>;expires=50",
            Some(82),
        ),
        ("a name", "Contact: <sip:a@phone.example.com>;expires=60\r\nExpires: 70", Some(102)),
        ("only of others", "Contact: <sip:a@203.0.113.9>;expires=900", None),
        ("none is left", "X: y", None),
        ("removed", "Contact: <sip:a@198.51.100.7:30000>;expires=0", None),
        ("more than a week", "Contact: <sip:a@198.51.100.7:30000>;expires=99999999", Some(604_832)),
    ];
    for (name, contacts, granted) in rows {
        let mut driver = udp(phone());
        through(&mut driver, O, &register("10.0.0.2:5060"));
        let answer = String::from_utf8(registered("198.51.100.7:30000", 1)).unwrap();
        let answer = answer.replace("Contact: <sip:bob@198.51.100.7:30000>;expires=1", contacts);
        through(&mut driver, R, answer.as_bytes());
        let held: Vec<_> = held(&driver).into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(held, granted.into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_04_a_star_removes_what_was_registered() {
    let mut driver = udp(phone());
    through(&mut driver, O, &register("10.0.0.2:5060"));
    through(&mut driver, R, &registered("198.51.100.7:30000", 600));
    let star = String::from_utf8(register("10.0.0.2:5060")).unwrap();
    let star = star.replace("<sip:bob@10.0.0.2:5060>;q=0.7", "*").replace("7200", "0");
    assert!(through(&mut driver, O, star.as_bytes()).contains("\r\nContact: *\r\n"));
    assert_eq!(open(&driver).len(), 1, "not before the registrar says so");
    let gone = String::from_utf8(registered("198.51.100.7:30000", 0)).unwrap();
    let gone = gone.replace("Contact: <sip:bob@198.51.100.7:30000>;expires=0\r\n", "");
    through(&mut driver, R, gone.as_bytes());
    assert!(open(&driver).is_empty());
}

/// RFC 3262: the offer is in the INVITE, its answer in a reliable 183, a new offer in PRACK.
#[test]
fn a_04_offers_and_answers_travel_in_prack_and_update_too() {
    for method in ["PRACK", "UPDATE"] {
        let mut driver = udp(phone());
        through(&mut driver, O, &invite("p", "", &audio("10.0.0.2", 4000)));
        let progress = response("183 Progress", "p", "1 INVITE", "b1", &audio("203.0.113.77", 7000));
        through(&mut driver, R, &progress);
        let described = |text: Vec<u8>, body: &str| {
            let (text, body) = (String::from_utf8(text).unwrap(), lines(body));
            let length = format!("Content-Type: application/sdp\r\nContent-Length: {}", body.len());
            text.replace("Content-Length: 0", &length) + &body
        };
        let offer = described(in_dialog(method, "p", "b1"), &audio("10.0.0.2", 4010));
        let got = through(&mut driver, O, offer.as_bytes());
        assert!(got.ends_with(&lines(&audio("198.51.100.7", 20_002))), "{method}: {got}");
        assert_eq!(open(&driver).len(), 4, "{method}: nobody has accepted it yet");
        let cseq = format!("2 {method}");
        through(&mut driver, R, &response("200 OK", "p", &cseq, "b1", &audio("203.0.113.78", 7000)));
        assert_eq!(open(&driver), ["10.0.0.2:4010", "10.0.0.2:4011"], "{method}");
        let media = Peer::Address([203, 0, 113, 78].into());
        assert_eq!(new_peers(&driver).last().map(|(_, peer)| *peer), Some(media), "{method}");
        let refused = described(in_dialog(method, "p", "b1"), &audio("10.0.0.2", 4020));
        through(&mut driver, O, refused.as_bytes());
        through(&mut driver, R, &response("488 Not Acceptable Here", "p", &cseq, "b1", ""));
        assert_eq!(open(&driver), ["10.0.0.2:4010", "10.0.0.2:4011"], "{method}: as before");
    }
}

#[test]
fn hold_and_resume_keep_the_ports_of_a_call() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let again = |address: &str| {
        let text = String::from_utf8(invite("c1", "", &audio(address, 4000))).unwrap();
        text.replace("bob@example.com>", "bob@example.com>;tag=b1")
    };
    for _ in 0..3 {
        let got = through(&mut driver, O, again("0.0.0.0").as_bytes());
        assert!(got.ends_with(&lines(&audio("0.0.0.0", 4000))), "{got}");
        through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("0.0.0.0", 7000)));
        assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.2:4001"]);
        let got = through(&mut driver, O, again("10.0.0.2").as_bytes());
        assert!(got.ends_with(&lines(&audio("198.51.100.7", 20_000))), "{got}");
        through(&mut driver, R, &response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    }
    let peers: Vec<_> = new_peers(&driver).into_iter().map(|(_, peer)| peer).collect();
    assert_eq!(peers, [Peer::Address([203, 0, 113, 77].into()); 2], "who is on hold is still who may send");
}
