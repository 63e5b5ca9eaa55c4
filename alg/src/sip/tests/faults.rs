//! The faults for which SIP ALGs are switched off, each with a test that it is not here.

use super::*;

/// The INVITE of an internal proxy, whose answer and BYE come back along its Record-Route.
#[test]
fn fault_01_no_address_is_left_behind_and_requests_in_the_dialogue_find_their_way() {
    let proxied = |host: &str, media: &str, l4_port| {
        message(
            &format!(
                "INVITE sip:bob@example.com SIP/2.0
                Via: SIP/2.0/UDP {host};branch=z9hG4bKp
                Via: SIP/2.0/UDP 10.0.0.77:5062;branch=z9hG4bKu
                Record-Route: <sip:{host};lr>
                From: <sip:a@example.com>;tag=a1
                To: <sip:bob@example.com>
                Call-ID: rr
                CSeq: 1 INVITE
                Contact: <sip:a@{host}>
                Content-Type: application/sdp"
            ),
            &audio(media, l4_port),
        )
    };
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &proxied("10.0.0.2:5060", "10.0.0.2", 4000));
    same(&got, &proxied("198.51.100.7:30000", "198.51.100.7", 20000));
    for method in ["ACK", "BYE"] {
        let request = |host: &str| {
            message(
                &format!(
                    "{method} sip:a@{host} SIP/2.0
                    Via: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKb
                    Route: <sip:{host};lr>
                    From: <sip:bob@example.com>;tag=b1
                    To: <sip:a@example.com>;tag=a1
                    Call-ID: rr
                    CSeq: 9 {method}"
                ),
                "",
            )
        };
        same(&through(&mut driver, R, &request("198.51.100.7:30000")), &request("10.0.0.2:5060"));
    }
}

#[test]
fn fault_02_what_the_endpoint_already_fixed_stays_in_both_directions() {
    let mut driver = udp(phone());
    let request = message(
        "REGISTER sip:example.com SIP/2.0
        Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bKr;rport
        From: <sip:a@example.com>;tag=1
        To: <sip:a@example.com>
        Call-ID: stun
        CSeq: 1 REGISTER
        Contact: <sip:a@198.51.100.7:30000>",
        "",
    );
    let answer = message(
        "SIP/2.0 200 OK
        Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bKr;rport=30000;received=198.51.100.7
        From: <sip:a@example.com>;tag=1
        To: <sip:a@example.com>;tag=2
        Call-ID: stun
        CSeq: 1 REGISTER
        Contact: <sip:a@198.51.100.7:30000>;expires=60",
        "",
    );
    let call = message(
        "OPTIONS sip:a@198.51.100.7:30000 SIP/2.0
        Via: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKo
        From: <sip:b@example.com>;tag=1
        To: <sip:a@example.com>
        Call-ID: o
        CSeq: 1 OPTIONS",
        "",
    );
    same(&through(&mut driver, O, &request), &request);
    same(&through(&mut driver, R, &answer), &answer);
    same(&through(&mut driver, R, &call), &call);
    assert_eq!(open(&driver), ["10.0.0.2:5060"], "the mapping is held for it all the same");
    assert!(counted(&driver).is_empty());
}

/// Only the Contact is fixed by the phone: it learns from `rport`, and must find its own Via again.
#[test]
fn a_05_via_with_rport_comes_back_as_it_was_sent() {
    let mut driver = udp(phone());
    let request = String::from_utf8(in_dialog("OPTIONS", "r", "b")).unwrap();
    let request = request.replace("Content-Length", "Contact: <sip:a@198.51.100.7:30000>\r\nContent-Length");
    let got = through(&mut driver, O, request.as_bytes());
    assert!(got.contains("Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bK777;rport\r\n"), "{got}");
    assert_eq!(got.matches("Via:").count(), 1);
    let got = through(&mut driver, R, &response("200 OK", "r", "2 OPTIONS", "b", ""));
    assert!(
        got.contains("Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK776;rport=5060;received=10.0.0.2\r\n")
    );
}

/// Where the phone wrote its name in Via, it asks for what `received` and `rport` say.
#[test]
fn a_05_received_and_rport_stay_where_via_was_not_translated() {
    let mut driver = udp(phone());
    let named =
        |bytes: Vec<u8>, own: &str| String::from_utf8(bytes).unwrap().replacen(own, "pc33.example.com", 1);
    let request = named(in_dialog("OPTIONS", "r", "b"), "10.0.0.2:5060");
    same(&through(&mut driver, O, request.as_bytes()), request.as_bytes());
    let answer = named(response("200 OK", "r", "2 OPTIONS", "b", ""), "198.51.100.7:30000");
    assert!(answer.contains("rport=30000;received=198.51.100.7"));
    same(&through(&mut driver, R, answer.as_bytes()), answer.as_bytes());
}

#[test]
fn fault_03_a_description_with_candidates_stays_whole() {
    let body = format!(
        "{}a=ice-ufrag:8hhY\na=ice-pwd:asd88fgpdd777uzjYhagZg\na=rtcp:4001\n\
        a=candidate:1 1 UDP 2130706431 10.0.0.2 4000 typ host\n\
        a=candidate:2 1 UDP 1694498815 198.51.100.7 30002 typ srflx raddr 10.0.0.2 rport 4000",
        audio("10.0.0.2", 4000)
    );
    let mut driver = udp(phone());
    let text = invite("ice", "", &body);
    let got = through(&mut driver, O, &text);
    assert!(got.ends_with(&lines(&body)), "{got}");
    assert!(got.contains("Contact: <sip:alice@198.51.100.7:30000>"), "the signalling is translated");
    assert!(driver.nat.calls.is_empty());
}

/// Split anywhere it is tested in `segmentation`; here the lengths.
#[test]
fn fault_04_a_stream_is_framed_by_its_length_and_without_one_no_longer_read() {
    let text = |length: &str| {
        format!(
            "OPTIONS sip:b@b SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.2:49152;branch=z\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:b@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{length}\r\n"
        )
    };
    let rewritten = |length| text(length).replace("10.0.0.2:49152", "198.51.100.7:30000");
    let rows: [(&str, &str, bool); 9] = [
        ("plain", "Content-Length: 0\r\n", true),
        ("compact", "l:0\r\n", true),
        ("folded", "Content-Length:\r\n 0\r\n", true),
        ("zeros", "CONTENT-LENGTH : 0000\r\n", true),
        ("none", "", false),
        ("negative", "Content-Length: -1\r\n", false),
        ("no number", "Content-Length: 0x0\r\n", false),
        ("twice", "Content-Length: 0\r\nl: 0\r\n", false),
        ("over 32 bits", "Content-Length: 4294967296\r\n", false),
    ];
    for (name, length, is_read) in rows {
        let mut driver = tcp(stream_phone());
        driver.feed(O, text(length).as_bytes());
        driver.feed(O, text("l: 0\r\n").as_bytes());
        let want = if is_read {
            rewritten(length) + &rewritten("l: 0\r\n")
        } else {
            text(length) + &text("l: 0\r\n")
        };
        let got = driver.outcome().original;
        assert_eq!(String::from_utf8_lossy(&got), want, "{name}");
        assert_eq!(driver.count_of(Event::Detached), u64::from(!is_read), "{name}");
    }
}

#[test]
fn fault_05_an_invite_of_many_fragments_is_read_like_any_other() {
    let padding = "a=x-padding:0123456789012345678901234567890123456789\n".repeat(200);
    let body = |address, l4_port| audio(address, l4_port) + &padding;
    let mut driver = udp(phone());
    let text = invite("big", "", &body("10.0.0.2", 4000));
    assert!(text.len() > 10_000);
    let got = through(&mut driver, O, &text);
    let want = invite("big", "", &body("198.51.100.7", 20000));
    let want = String::from_utf8(want).unwrap();
    let want = want.replace("10.0.0.2:5060", "198.51.100.7:30000");
    same(&got, want.replace("alice@10.0.0.2>\r\nContent", "alice@198.51.100.7:30000>\r\nContent").as_bytes());
}

#[test]
fn fault_06_tls_is_not_touched_and_does_not_disturb_what_is() {
    let hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03INVITE sip:x SIP/2.0\r\n\r\n";
    let mut driver = tcp(stream_phone());
    driver.feed(O, hello);
    driver.feed(R, b"\x16\x03\x03\x00\x7a");
    assert_eq!(
        (driver.outcome().original, driver.outcome().reply),
        (hello.to_vec(), b"\x16\x03\x03\x00\x7a".to_vec())
    );
    assert_eq!(counted(&driver), [(Event::Detached, 1)]);
    // A request over UDP that asks to be reached over TLS: its endpoint is one of TCP.
    let mut driver = udp(phone());
    let text = String::from_utf8(in_dialog("OPTIONS", "t", "b")).unwrap();
    let contact = "Contact: <sips:a@10.0.0.2>\r\nContent-Length";
    let got = through(&mut driver, O, text.replace("Content-Length", contact).as_bytes());
    assert!(got.contains("Contact: <sips:a@198.51.100.7:20000>"), "{got}");
    let asked = driver.nat.calls.iter().find_map(|call| match call {
        NatCall::Expect(request, _) => Some((request.protocol, request.target)),
        _ => None,
    });
    assert_eq!(asked, Some((Protocol::Tcp, at("10.0.0.2:5061"))));
}

/// Exact Content-Length for every body length round a change in its number of digits.
#[test]
fn fault_07_lengths_are_right_when_their_digits_change() {
    for padding in 0..40 {
        let body = audio("10.0.0.2", 4000) + "a=x:" + &"p".repeat(860 + padding) + "\n";
        let mut driver = udp(phone());
        let got = through(&mut driver, O, &invite("len", "", &body));
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        let length: usize = head.rsplit_once("Content-Length: ").unwrap().1.parse().unwrap();
        assert_eq!(length, body.len());
        assert_eq!(driver.count_of(Event::Rewritten), 1);
    }
}

#[test]
fn fault_08_identities_and_what_is_signed_stay() {
    let kept = [
        "From: \"Alice\" <sip:alice@10.0.0.2>;tag=10.0.0.2",
        "To: <sip:bob@10.0.0.2:5060>;tag=b1",
        "Call-ID: 10.0.0.2@10.0.0.2",
        "Authorization: Digest username=\"alice\", realm=\"x\", uri=\"sip:10.0.0.2:5060\", response=\"0\"",
        "Proxy-Authorization: Digest uri=\"sip:alice@10.0.0.2\"",
        "Identity: \"10.0.0.2\";info=<https://10.0.0.2/cert>",
        "Replaces: 7@10.0.0.2;to-tag=1;from-tag=2",
        "Subject: call me at sip:alice@10.0.0.2",
        "User-Agent: phone at 10.0.0.2:5060",
    ];
    let text = format!(
        "INVITE sip:bob@example.com SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z\n{}\nCSeq: 1 INVITE\n\
        Refer-To: <sip:carol@example.com?Replaces=7%4010.0.0.2>\nContact: <sip:10.0.0.2@10.0.0.2>",
        kept.join("\n")
    );
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &message(&text, ""));
    for line in kept.iter().chain(&["Refer-To: <sip:carol@example.com?Replaces=7%4010.0.0.2>"]) {
        assert!(got.contains(&format!("\r\n{line}\r\n")), "{line}\n{got}");
    }
    assert!(got.contains("Contact: <sip:10.0.0.2@198.51.100.7:30000>"), "{got}");
}

#[test]
fn fault_09_keepalives_pass_and_registrations_hold_their_mapping() {
    let mut driver = udp(phone());
    let stun: Vec<u8> = [&b"\x00\x01\x00\x00\x21\x12\xa4\x42"[..], &[7; 12]].concat();
    for keepalive in [&b"\r\n\r\n"[..], b"\r\n", b"\0\0\0\0", &stun] {
        assert_eq!(driver.datagram(O, keepalive), [(O, keepalive.to_vec())]);
    }
    let register = String::from_utf8(in_dialog("REGISTER", "k", "b")).unwrap();
    let contact = "Contact: <sip:a@10.0.0.2:5060>\r\nContent-Length";
    through(&mut driver, O, register.replace("Content-Length", contact).as_bytes());
    let granted = "Expires: 120\r\nContent-Length";
    let answer = String::from_utf8(response("200 OK", "k", "2 REGISTER", "b", "")).unwrap();
    let answer = answer.replace("bob@203.0.113.77:5070", "a@198.51.100.7:30000");
    through(&mut driver, R, answer.replace("Content-Length", granted).as_bytes());
    assert_eq!(open(&driver), ["10.0.0.2:5060"]);
    let lifetime = driver.nat.calls.iter().find_map(|call| match call {
        NatCall::Expect(request, _) => Some(request.lifetime.as_secs()),
        _ => None,
    });
    assert_eq!(lifetime, Some(152), "Expires of the answer, and the time of a late refresh");
    for keepalive in [&b"\r\n\r\n"[..], &stun] {
        assert_eq!(driver.datagram(R, keepalive), [(R, keepalive.to_vec())]);
    }
    assert_eq!(counted(&driver), [(Event::Rewritten, 2)]);
}

#[test]
fn fault_10_nothing_leaks_and_the_table_of_calls_never_fills() {
    let mut driver = udp(phone());
    for call in 0..200 {
        through(&mut driver, O, &invite(&format!("x{call}"), "", &audio("10.0.0.2", 4000)));
        through(&mut driver, R, &response("486 Busy", &format!("x{call}"), "1 INVITE", "b", ""));
        assert!(open(&driver).is_empty());
    }
    // Never answered: the oldest make room, and each new call is served.
    for call in 0..200u16 {
        let got =
            through(&mut driver, O, &invite(&format!("y{call}"), "", &audio("10.0.0.2", 4000 + 2 * call)));
        assert!(!got.contains("c=IN IP4 10.0.0.2"), "{got}");
        assert!(open(&driver).len() <= 2 * SipSettings::default().calls_per_flow, "{call}");
    }
    let last = driver.nat.open_targets();
    assert!(last.contains(&at("10.0.0.2:4398")), "{last:?}");
}

#[test]
fn fault_11_no_port_is_special() {
    let endpoints = SessionEndpoints {
        originator: at("10.0.0.2:6060"),
        originator_seen: at("198.51.100.7:30000"),
        responder: at("203.0.113.5:15080"),
        responder_seen: at("203.0.113.5:15080"),
    };
    let mut driver = udp(endpoints);
    let text = String::from_utf8(in_dialog("OPTIONS", "p", "b")).unwrap().replace(":5060", ":6060");
    let got = through(&mut driver, O, text.as_bytes());
    same(&got, text.replace("10.0.0.2:6060", "198.51.100.7:30000").as_bytes());
}

#[test]
fn fault_12_what_is_not_understood_passes_and_is_not_dropped() {
    let plain = String::from_utf8(invite("s", "", &audio("10.0.0.2", 4000))).unwrap();
    let rows = [
        ("low media port", plain.replace("m=audio 4000", "m=audio 0080"), Some(Event::PrivilegedPort)),
        ("no number in CSeq", plain.replace("CSeq: 1 ", "CSeq: one "), Some(Event::Malformed)),
        (
            "open bracket in Contact",
            plain.replace("<sip:alice@10.0.0.2>\r\nC", "<sip:alice@10.0.0.2\r\nC"),
            Some(Event::Malformed),
        ),
        ("port of six digits", plain.replace("10.0.0.2:5060;", "10.0.0.2:505060;"), Some(Event::Malformed)),
        ("line without colon", plain.replace("Max-Forwards: 70", "Max-Forwards"), Some(Event::Malformed)),
        ("two From", plain.replace("Max-Forwards: 70", "f: <sip:x@y>"), Some(Event::Malformed)),
        ("no Call-ID", plain.replace("Call-ID", "X-Call-ID"), Some(Event::Malformed)),
    ];
    for (name, text, event) in rows {
        assert_ne!(text, plain, "{name}");
        let mut driver = udp(phone());
        same(&through(&mut driver, O, text.as_bytes()), text.as_bytes());
        assert!(open(&driver).is_empty(), "{name}: {:?}", open(&driver));
        assert_eq!(counted(&driver), event.map(|event| (event, 1)).into_iter().collect::<Vec<_>>(), "{name}");
        // And what follows is read again.
        assert!(!through(&mut driver, O, plain.as_bytes()).contains("c=IN IP4 10.0.0.2"), "{name}");
    }
    let rows = [
        ("unknown method", plain.replace("INVITE", "FROBNICATE")),
        (
            "no number in expires",
            plain.replace("<sip:alice@10.0.0.2>\r\nC", "<sip:alice@10.0.0.2>;expires=x\r\nC"),
        ),
        ("unknown media type", plain.replace("m=audio", "m=hologram")),
        ("unknown header", plain.replace("Max-Forwards: 70", "Frob: <<<\"")),
    ];
    for (name, text) in rows {
        let mut driver = udp(phone());
        let got = through(&mut driver, O, text.as_bytes());
        assert!(got.contains("Via: SIP/2.0/UDP 198.51.100.7:30000"), "{name}");
        assert_eq!(open(&driver).len(), if name == "unknown method" { 0 } else { 2 }, "{name}");
    }
}

#[test]
fn fault_13_media_are_open_to_who_was_named_and_to_nobody_else() {
    let mut driver = udp(phone());
    through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    let asked: Vec<_> = driver
        .nat
        .calls
        .iter()
        .map(|call| match call {
            NatCall::ExpectPair(request, _) => request.peer,
            _ => panic!("{call:?}"),
        })
        .collect();
    assert_eq!(asked, [Peer::OtherEnd]);
    // An answer to another call, or of nobody's call, names nothing for this one.
    through(&mut driver, R, &response("200 OK", "other", "1 INVITE", "b1", &audio("192.0.2.66", 7000)));
    assert!(new_peers(&driver).is_empty());
}
