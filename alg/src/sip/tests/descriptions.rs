//! Session descriptions: which of their tokens change, and what is opened for them.

use super::*;

const HEAD: &str = "v=0\no=- 1 1 IN IP4 10.0.0.2\ns=-\nt=0 0\n";

/// What leaves of a description of the phone, and what is asked of NAT: target, and whether a pair.
fn describe(body: &str) -> (String, Vec<(String, Protocol, bool)>) {
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &invite("d", "", body));
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{got}");
    let asked = driver.nat.calls.iter().filter_map(|call| match call {
        NatCall::Expect(request, Ok(_)) => Some((request.target.to_string(), request.protocol, false)),
        NatCall::ExpectPair(request, Ok(_)) => Some((request.target.to_string(), request.protocol, true)),
        _ => None,
    });
    (body.replace("\r\n", "\n"), asked.collect())
}

#[track_caller]
fn becomes(name: &str, body: &str, want: &str, opened: &[(&str, Protocol, bool)]) {
    let (got, asked) = describe(&format!("{HEAD}{body}"));
    let head = HEAD.replace("10.0.0.2", "198.51.100.7");
    assert_eq!(got, format!("{head}{want}"), "{name}");
    let opened: Vec<_> =
        opened.iter().map(|(target, kind, pair)| ((*target).to_owned(), *kind, *pair)).collect();
    assert_eq!(asked, opened, "{name}");
}

const UDP: Protocol = Protocol::Udp;
const TCP: Protocol = Protocol::Tcp;

#[test]
fn a_06_only_owned_addresses_of_active_media_change() {
    becomes(
        "c= of the session, two media",
        "c=IN IP4 10.0.0.2\nm=audio 4000 RTP/AVP 0\nm=video 5000 RTP/AVP 31\n",
        "c=IN IP4 198.51.100.7\nm=audio 20000 RTP/AVP 0\nm=video 20002 RTP/AVP 31\n",
        &[("10.0.0.2:4000", UDP, true), ("10.0.0.2:5000", UDP, true)],
    );
    becomes(
        "c= of each section, one of a third party",
        "m=audio 4000 RTP/AVP 0\nc=IN IP4 10.0.0.2\nm=video 5000 RTP/AVP 31\nc=IN IP4 10.0.0.3\n",
        "m=audio 20000 RTP/AVP 0\nc=IN IP4 198.51.100.7\nm=video 5000 RTP/AVP 31\nc=IN IP4 10.0.0.3\n",
        &[("10.0.0.2:4000", UDP, true)],
    );
    becomes(
        "a section that is off",
        "c=IN IP4 10.0.0.2\nm=audio 4000 RTP/AVP 0\nm=video 0 RTP/AVP 31\nc=IN IP4 10.0.0.2\n",
        "c=IN IP4 198.51.100.7\nm=audio 20000 RTP/AVP 0\nm=video 0 RTP/AVP 31\nc=IN IP4 10.0.0.2\n",
        &[("10.0.0.2:4000", UDP, true)],
    );
    becomes(
        "hold",
        "c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\n",
        "c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\n",
        &[],
    );
    becomes(
        "IPv6, a name, multicast",
        "c=IN IP6 2001:db8::2\nm=audio 4000 RTP/AVP 0\nm=audio 4002 RTP/AVP 0\nc=IN IP4 pc.example.com\n\
        m=audio 4004 RTP/AVP 0\nc=IN IP4 239.1.2.3/127\n",
        "c=IN IP6 2001:db8::2\nm=audio 4000 RTP/AVP 0\nm=audio 4002 RTP/AVP 0\nc=IN IP4 pc.example.com\n\
        m=audio 4004 RTP/AVP 0\nc=IN IP4 239.1.2.3/127\n",
        &[],
    );
    becomes(
        "an address that only begins like the own one",
        "c=IN IP4 10.0.0.22\nm=audio 4000 RTP/AVP 0\n",
        "c=IN IP4 10.0.0.22\nm=audio 4000 RTP/AVP 0\n",
        &[],
    );
}

#[test]
fn rtcp_follows_its_stream_or_has_a_port_of_its_own() {
    let c = "c=IN IP4 10.0.0.2\n";
    let seen = "c=IN IP4 198.51.100.7\n";
    becomes(
        "named next to it",
        &format!("{c}m=audio 4000 RTP/AVP 0\na=rtcp:4001 IN IP4 10.0.0.2\n"),
        &format!("{seen}m=audio 20000 RTP/AVP 0\na=rtcp:20001 IN IP4 198.51.100.7\n"),
        &[("10.0.0.2:4000", UDP, true)],
    );
    becomes(
        "elsewhere",
        &format!("{c}m=audio 4000 RTP/AVP 0\na=rtcp:4800\n"),
        &format!("{seen}m=audio 20000 RTP/AVP 0\na=rtcp:20001\n"),
        &[("10.0.0.2:4000", UDP, false), ("10.0.0.2:4800", UDP, false)],
    );
    becomes(
        "on the same port",
        &format!(
            "{c}m=audio 4000 UDP/TLS/RTP/SAVPF 0\na=rtcp-mux\na=rtcp:4000\na=fingerprint:sha-1 10.0.0.2\n"
        ),
        &format!(
            "{seen}m=audio 20000 UDP/TLS/RTP/SAVPF 0\na=rtcp-mux\na=rtcp:20000\na=fingerprint:sha-1 10.0.0.2\n"
        ),
        &[("10.0.0.2:4000", UDP, false)],
    );
    becomes(
        "an odd port",
        &format!("{c}m=audio 4001 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:10.0.0.2\n"),
        &format!("{seen}m=audio 20000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:10.0.0.2\n"),
        &[("10.0.0.2:4001", UDP, true)],
    );
}

#[test]
fn a_bundle_has_one_endpoint_and_layers_have_ports_in_a_row() {
    becomes(
        "bundle",
        "c=IN IP4 10.0.0.2\na=group:BUNDLE 0 1\nm=audio 4000 RTP/AVP 0\na=mid:0\na=rtcp-mux\nm=video 5000 RTP/AVP 31\n\
        a=mid:1\na=rtcp-mux\nm=text 6000 RTP/AVP 98\na=mid:2\n",
        "c=IN IP4 198.51.100.7\na=group:BUNDLE 0 1\nm=audio 20000 RTP/AVP 0\na=mid:0\na=rtcp-mux\n\
        m=video 20000 RTP/AVP 31\na=mid:1\na=rtcp-mux\nm=text 20002 RTP/AVP 98\na=mid:2\n",
        &[("10.0.0.2:4000", UDP, false), ("10.0.0.2:6000", UDP, true)],
    );
    becomes(
        "layers",
        "c=IN IP4 10.0.0.2\nm=video 4000/2 RTP/AVP 31\n",
        "c=IN IP4 198.51.100.7\nm=video 20000/2 RTP/AVP 31\n",
        &[("10.0.0.2:4000", UDP, true), ("10.0.0.2:4002", UDP, true)],
    );
}

#[test]
fn streams_messages_and_images_open_what_their_transport_needs() {
    let c = "c=IN IP4 10.0.0.2\n";
    let seen = "c=IN IP4 198.51.100.7\n";
    becomes(
        "T.38",
        &format!("{c}m=image 4000 udptl t38\n"),
        &format!("{seen}m=image 20000 udptl t38\n"),
        &[("10.0.0.2:4000", UDP, false)],
    );
    becomes(
        "MSRP",
        &format!("{c}m=message 7394 TCP/MSRP *\na=path:msrp://a@10.0.0.2:7394/2s93i;tcp\n"),
        &format!("{seen}m=message 20000 TCP/MSRP *\na=path:msrp://a@198.51.100.7:20000/2s93i;tcp\n"),
        &[("10.0.0.2:7394", TCP, false)],
    );
    becomes(
        "MSRP by relays",
        &format!(
            "{c}m=message 7394 TCP/MSRP *\na=path:msrps://r.example.com:2855/x;tcp msrp://10.0.0.2:7394/y;tcp\n"
        ),
        &format!(
            "{seen}m=message 20000 TCP/MSRP *\na=path:msrps://r.example.com:2855/x;tcp msrp://198.51.100.7:20000/y;tcp\n"
        ),
        &[("10.0.0.2:7394", TCP, false)],
    );
    becomes(
        "waits for the connection",
        &format!("{c}m=application 4000 TCP/BFCP *\na=setup:passive\na=connection:new\n"),
        &format!("{seen}m=application 20000 TCP/BFCP *\na=setup:passive\na=connection:new\n"),
        &[("10.0.0.2:4000", TCP, false)],
    );
    becomes(
        "opens the connection itself",
        &format!("{c}m=application 9 TCP/BFCP *\na=setup:active\n"),
        &format!("{seen}m=application 9 TCP/BFCP *\na=setup:active\n"),
        &[],
    );
}

#[test]
fn a_part_of_a_multipart_body_is_rewritten_with_both_lengths() {
    let body = |address: &str, l4_port| {
        let part = lines(&audio(address, l4_port));
        format!(
            "preamble\r\n--b1\r\nContent-Type: text/plain\r\n\r\nc=IN IP4 10.0.0.2\r\n--b1\r\n\
            Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{part}\r\n--b1--\r\n",
            part.len()
        )
    };
    let whole = |host: &str, contact: &str, body: String| {
        let text = String::from_utf8(invite("mp", "", "")).unwrap();
        let text = text.replace("application/sdp", "multipart/mixed; boundary=\"b1\"");
        let text = text
            .replace("10.0.0.2:5060", host)
            .replace("alice@10.0.0.2>\r\nCo", &format!("alice@{contact}>\r\nCo"));
        text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body
    };
    let mut driver = udp(phone());
    let got = through(&mut driver, O, whole("10.0.0.2:5060", "10.0.0.2", body("10.0.0.2", 4000)).as_bytes());
    let seen = "198.51.100.7:30000";
    same(&got, whole(seen, seen, body("198.51.100.7", 20000)).as_bytes());
}

/// A body of parts within parts, each with its length.
fn nested(depth: usize, address: &str, l4_port: u16) -> String {
    let mut body = lines(&audio(address, l4_port));
    let mut kind = "application/sdp".to_owned();
    for level in 0..depth {
        body = format!(
            "--b{level}\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx\r\n--b{level}\r\nContent-Type: {kind}\r\n\
            Content-Length: {}\r\n\r\n{body}\r\n--b{level}\r\nContent-Type: multipart/mixed;boundary=z\r\n\
            Content-Length: 23\r\n\r\n--z\r\n\r\n10.0.0.2\r\n--z--\r\n--b{level}--\r\n",
            body.len()
        );
        kind = format!("multipart/mixed;boundary=b{level}");
    }
    let text = String::from_utf8(invite("ne", "", "")).unwrap().replace("application/sdp", &kind);
    text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body
}

#[test]
fn parts_within_parts_are_read_to_a_depth_and_every_length_around_is_right() {
    for depth in 1..=3 {
        let mut driver = udp(phone());
        let got = through(&mut driver, O, nested(depth, "10.0.0.2", 4000).as_bytes());
        let want = nested(depth, "198.51.100.7", 20_000);
        assert_eq!(got.split_once("\r\n\r\n").unwrap().1, want.split_once("\r\n\r\n").unwrap().1, "{depth}");
        let length = |text: &str| {
            text.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap().to_owned()
        };
        assert_eq!(length(&got), length(&want), "{depth}");
        assert_eq!(counted(&driver), [(Event::Rewritten, 1)], "{depth}");
    }
    let mut driver = udp(phone());
    // The part that has none is one deeper.
    let deep = nested(4, "10.0.0.2", 4000);
    same(&through(&mut driver, O, deep.as_bytes()), deep.as_bytes());
    assert_eq!(counted(&driver), [(Event::LineTooLong, 1)]);
}

#[test]
fn a_multipart_body_of_two_descriptions_or_without_an_end_leaves_the_message_as_it_was() {
    let part = format!("--b\r\nContent-Type: application/sdp\r\n\r\n{}\r\n", lines(&audio("10.0.0.2", 4000)));
    for body in [format!("{part}{part}--b--\r\n"), part.clone(), "x".to_owned()] {
        let text = String::from_utf8(invite("mp", "", "")).unwrap();
        let text = text.replace("application/sdp", "multipart/alternative; boundary=b");
        let text = text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body;
        let mut driver = udp(phone());
        same(&through(&mut driver, O, text.as_bytes()), text.as_bytes());
        assert_eq!(counted(&driver), [(Event::Malformed, 1)]);
    }
}

#[test]
fn a_07_bodies_that_are_encoded_or_signed_stay() {
    let rows = [
        ("gzip", "Content-Encoding: gzip\r\nContent-Type: application/sdp"),
        ("S/MIME", "Content-Type: application/pkcs7-mime; smime-type=enveloped-data"),
        ("signed", "Content-Type: multipart/signed; boundary=b"),
        ("a fragment", "Content-Type: message/sipfrag"),
    ];
    for (name, kind) in rows {
        let text = String::from_utf8(invite("e", "", &audio("10.0.0.2", 4000))).unwrap();
        let mut driver = udp(phone());
        let got = through(&mut driver, O, text.replace("Content-Type: application/sdp", kind).as_bytes());
        assert!(got.ends_with(&lines(&audio("10.0.0.2", 4000))), "{name}");
        assert!(got.contains("Contact: <sip:alice@198.51.100.7:30000>"), "{name}");
        assert!(open(&driver).is_empty(), "{name}");
    }
}

#[test]
fn a_08_clients_that_traverse_by_themselves_are_not_harmed() {
    let mut driver = udp(phone());
    // The address a STUN server told, with the port the phone has opened itself.
    let body = audio("198.51.100.7", 31000);
    let got = through(&mut driver, O, &invite("st", "", &body));
    assert!(got.ends_with(&lines(&body)));
    assert!(open(&driver).is_empty());
    assert_eq!(counted(&driver), [(Event::Rewritten, 1)]);
    // An answer with candidates for a phone that has none: its plain address counts.
    through(&mut driver, O, &invite("an", "", &audio("10.0.0.2", 4000)));
    let answer = audio("203.0.113.77", 7000) + "a=candidate:1 1 UDP 1 203.0.113.78 7000 typ host\n";
    let got = through(&mut driver, R, &response("200 OK", "an", "1 INVITE", "b1", &answer));
    assert!(got.ends_with(&lines(&answer)));
    assert_eq!(
        new_peers(&driver).first().map(|(_, peer)| *peer),
        Some(Peer::Address([203, 0, 113, 77].into()))
    );
}

#[test]
fn a_description_that_cannot_be_served_whole_leaves_the_message_as_it_was() {
    let rows = [
        ("port 80", "m=audio 4000 RTP/AVP 0\nm=video 80 RTP/AVP 31\n", Event::PrivilegedPort),
        ("port 65536", "m=audio 4000 RTP/AVP 0\nm=video 65536 RTP/AVP 31\n", Event::Malformed),
        ("no room above", "m=audio 65535 RTP/AVP 0\n", Event::Malformed),
        ("no transport", "m=audio 4000\n", Event::Malformed),
        ("layers", "m=audio 4000/9 RTP/AVP 0\n", Event::ExpectationRefused),
        ("no layers", "m=audio 4000/0 RTP/AVP 0\n", Event::Malformed),
        ("sections", &"m=audio 4000 RTP/AVP 0\n".repeat(17), Event::LineTooLong),
        ("switched off", &"m=audio 0 RTP/AVP 0\n".repeat(17), Event::LineTooLong),
        (
            "replacements",
            &"m=audio 4000 RTP/AVP 0\nc=IN IP4 10.0.0.2\na=rtcp:4001 IN IP4 10.0.0.2\n".repeat(16),
            Event::LineTooLong,
        ),
        (
            "bundled",
            &format!("a=group:BUNDLE{}\nm=audio 4000 RTP/AVP 0\n", " a".repeat(17)),
            Event::LineTooLong,
        ),
        ("return in a line", "m=audio 4000 RTP/AVP 0\ra=x\n", Event::Malformed),
    ];
    for (name, media, event) in rows {
        let body = format!("{HEAD}c=IN IP4 10.0.0.2\n{media}").replace('\n', "\r\n");
        let text = String::from_utf8(invite("bad", "", "")).unwrap();
        let text = text.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body;
        let mut driver = udp(phone());
        same(&through(&mut driver, O, text.as_bytes()), text.as_bytes());
        assert!(open(&driver).is_empty(), "{name}");
        assert_eq!(counted(&driver), [(event, 1)], "{name}");
    }
    let mut driver = udp(phone());
    driver.nat.refusal = Some(crate::contract::ExpectError::PoolExhausted);
    let text = invite("bad", "", &audio("10.0.0.2", 4000));
    same(&through(&mut driver, O, &text), &text);
    assert_eq!(counted(&driver), [(Event::ExpectationRefused, 1)]);
}

/// As many sections as are read, each with all that one usually has.
#[test]
fn a_description_of_sixteen_sections_is_translated_whole_and_one_of_seventeen_not_at_all() {
    let body = |address: &str, l4_ports: &dyn Fn(u16) -> u16, sections: u16| {
        let section = |index| {
            let l4_port = l4_ports(index);
            format!(
                "m=audio {l4_port} RTP/AVP 0\nc=IN IP4 {address}\na=rtcp:{}\na=mid:{index}\n",
                l4_port + 1
            )
        };
        HEAD.replace("10.0.0.2", address) + &(0..sections).map(section).collect::<String>()
    };
    let mut driver = udp(phone());
    for _ in 0..2 {
        let text = invite("many", "", &body("10.0.0.2", &|index| 4000 + 2 * index, 16));
        let got = through(&mut driver, O, &text);
        let want = lines(&body("198.51.100.7", &|index| 20_000 + 2 * index, 16));
        assert!(
            got.ends_with(&want) && got.contains(&format!("Content-Length: {}\r\n", want.len())),
            "{got}"
        );
        assert_eq!(open(&driver).len(), 32);
    }
    let answer = body("203.0.113.77", &|index| 7000 + 2 * index, 16);
    through(&mut driver, R, &response("200 OK", "many", "1 INVITE", "b1", &answer));
    assert_eq!(new_peers(&driver).len(), 32, "every section has the peer that its own c= names");
    let text = invite("many", "", &body("10.0.0.2", &|index| 4000 + 2 * index, 17));
    same(&through(&mut driver, O, &text), &text);
    assert_eq!(open(&driver).len(), 32, "what was there stays");
    assert_eq!(counted(&driver), [(Event::Rewritten, 3), (Event::LineTooLong, 1)]);
    through(&mut driver, O, &in_dialog("BYE", "many", "b1"));
    assert!(open(&driver).is_empty());
}

#[test]
fn ports_that_nat_cannot_pair_any_more_are_opened_one_by_one() {
    let plain = audio("10.0.0.2", 4000);
    let rows = [
        (plain.clone(), audio("198.51.100.7", 20000), &["10.0.0.2:4000"][..]),
        (
            plain.clone() + "a=rtcp:4001",
            audio("198.51.100.7", 20000) + "a=rtcp:20001",
            &["10.0.0.2:4000", "10.0.0.2:4001"],
        ),
    ];
    for (body, want, opened) in rows {
        let mut driver = udp(phone());
        driver.nat.pair_refusal = Some(crate::contract::ExpectError::PoolExhausted);
        for _ in 0..2 {
            let got = through(&mut driver, O, &invite("np", "", &body));
            assert!(got.ends_with(&lines(&want)), "{got}");
            assert_eq!(open(&driver), opened);
        }
    }
}
