//! Headers, one row each: what the other side reads of them.

use super::*;
use crate::sip::CallIdKey;

/// What leaves of one header line of an OPTIONS that travels in `direction`.
fn header(driver: &mut Driver<Sip>, direction: Direction, line: &str) -> String {
    let text = if direction == O {
        in_dialog("OPTIONS", "h", "b1")
    } else {
        message(
            "OPTIONS sip:alice@example.com SIP/2.0
            Via: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKp
            From: <sip:bob@example.com>;tag=b1
            To: <sip:alice@example.com>;tag=a1
            Call-ID: h@203.0.113.5
            CSeq: 7 OPTIONS",
            "",
        )
    };
    let text =
        String::from_utf8(text).unwrap().replace("Content-Length", &format!("{line}\r\nContent-Length"));
    let got = through(driver, direction, text.as_bytes());
    let (_, behind) = got.split_once("CSeq").unwrap();
    let (_, behind) = behind.split_once("\r\n").unwrap();
    behind.split_once("\r\nContent-Length").unwrap().0.to_owned()
}

#[test]
fn each_header_that_names_an_end_is_translated_outward_and_back() {
    // `{}` is the endpoint: inside 10.0.0.2:5060, outside 198.51.100.7:30000.
    let rows = [
        "Contact: <sip:a@{}>",
        "Contact: sip:a@{};q=0.1",
        "m: \"Alice, a <phone>\" <sip:a:secret@{};transport=udp?Subject=x>;expires=9",
        "Contact: <sip:a@{}>,<sip:b@{}>,\r\n\t<sip:c@{}>",
        "Contact: <SIP:a@{}>, <tel:+49301234>, <mailto:a@10.0.0.2>",
        "Record-Route: <sip:{};lr>",
        "Route: <sip:203.0.113.5;lr>, <sip:{};lr>",
        "Path: <sip:{};lr;ob>",
        "Service-Route: <sip:{};lr>",
        "P-Asserted-Identity: <sip:a@{}>, <tel:+49301234>",
        "P-Preferred-Identity: \"A\" <sip:a@{}>",
        "Refer-To: <sip:a@{};method=INVITE>",
        "r: sip:a@{}",
        "Referred-By: <sip:a@{}>;cid=\"10.0.0.2\"",
        "b: <sip:a@{}>",
        "Warning: 370 {} \"10.0.0.2, full\", 399 {} \"x\"",
    ];
    for row in rows {
        let mut driver = udp(phone());
        let inside = row.replace("{}", "10.0.0.2:5060");
        let outside = row.replace("{}", "198.51.100.7:30000");
        assert_eq!(header(&mut driver, O, &inside), outside);
        assert_eq!(header(&mut driver, R, &outside), inside);
    }
}

#[test]
fn each_header_that_is_nobody_s_address_stays_in_both_directions() {
    let rows = [
        "Contact: *",
        "Contact: <sip:a@pc33.example.com:5060>",
        "Contact: <sip:a@[2001:db8::2]:5060>",
        "Contact: <sip:a@10.0.0.22:5060>, <sip:a@110.0.0.2>, <sip:10.0.0.2@example.com>",
        "Contact: <tel:+4930;phone-context=10.0.0.2>",
        "Subject: <sip:a@10.0.0.2:5060> %n%s%x",
        "s: sip:a@198.51.100.7:30000",
        "Authorization: Digest uri=\"sip:10.0.0.2:5060\", nonce=\"198.51.100.7:30000\"",
        "Identity: \"10.0.0.2\";info=<https://10.0.0.2:5060/c>;alg=ES256",
        "Replaces: 7@10.0.0.2;to-tag=1;from-tag=2",
        "In-Reply-To: 1@10.0.0.2, 2@198.51.100.7",
        "Target-Dialog: 1@10.0.0.2;local-tag=1;remote-tag=2",
        "k: 100rel, path, outbound",
        "o: presence",
        "u: dialog",
        "User-Agent: phone at 10.0.0.2:5060",
    ];
    for row in rows {
        let mut driver = udp(phone());
        assert_eq!(header(&mut driver, O, row), row);
        assert_eq!(header(&mut driver, R, row), row);
        assert!(open(&driver).is_empty(), "{row}");
    }
}

#[test]
fn maddr_goes_with_its_via_and_its_uri() {
    let mut driver = udp(phone());
    let request = String::from_utf8(in_dialog("OPTIONS", "m", "b")).unwrap();
    let request = request.replace(";branch", ";maddr=10.0.0.2;branch");
    let got = through(&mut driver, O, request.as_bytes());
    assert!(got.contains("Via: SIP/2.0/UDP 198.51.100.7:30000;maddr=198.51.100.7;branch="), "{got}");
    let answer = String::from_utf8(response("200 OK", "m", "2 OPTIONS", "b", "")).unwrap();
    let answer = answer.replace(";branch", ";maddr=198.51.100.7;branch");
    let got = through(&mut driver, R, answer.as_bytes());
    assert!(got.contains("Via: SIP/2.0/UDP 10.0.0.2:5060;maddr=10.0.0.2;branch="), "{got}");
    assert_eq!(
        header(&mut driver, O, "Contact: <sip:a@example.com;maddr=10.0.0.2;lr>"),
        "Contact: <sip:a@example.com;maddr=198.51.100.7;lr>"
    );
}

/// A host name in Via is looked up, and finds nobody behind NAT: `rport` makes the answer come where the request came from.
#[test]
fn a_05_rport_is_asked_for_where_via_has_a_name() {
    let rows = [
        ("pc33.example.com;branch=z9hG4bKx", "pc33.example.com;rport;branch=z9hG4bKx"),
        ("pc33.example.com:5060 ;branch=z9hG4bKx", "pc33.example.com:5060;rport ;branch=z9hG4bKx"),
        ("pc33.example.com;rport;branch=z9hG4bKx", "pc33.example.com;rport;branch=z9hG4bKx"),
        ("pc33.example.com;branch=z9hG4bKx;rport", "pc33.example.com;branch=z9hG4bKx;rport"),
        ("pc33.example.com;rport=;branch=z9hG4bKx", "pc33.example.com;rport=;branch=z9hG4bKx"),
        ("10.0.0.2:5060;branch=z9hG4bKx", "198.51.100.7:30000;branch=z9hG4bKx"),
    ];
    let via = |text: &str| {
        let request = String::from_utf8(in_dialog("OPTIONS", "v", "b")).unwrap();
        request.replace("10.0.0.2:5060;branch=z9hG4bK777;rport", text)
    };
    for (sent, read) in rows {
        let mut driver = udp(phone());
        same(&through(&mut driver, O, via(sent).as_bytes()), via(read).as_bytes());
        assert_eq!(driver.count_of(Event::RecheckFailed), 0);
        same(&through(&mut driver, R, via(sent).as_bytes()), via(sent).as_bytes());
    }
    let over_tcp = via("pc33.example.com;branch=z9hG4bKx").replace("/UDP", "/TCP");
    let mut driver = tcp(stream_phone());
    driver.feed(O, over_tcp.as_bytes());
    assert_eq!(driver.outcome().original, over_tcp.as_bytes(), "a connection has its own way back");
}

fn hiding() -> Driver<Sip> {
    udp_with(phone(), |settings| settings.call_id_key = Some(CallIdKey::new("our words")))
}

/// The Call-ID of a message.
fn call_id(text: &str) -> String {
    text.split("Call-ID: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned()
}

#[test]
fn a_hidden_call_id_is_one_call_in_both_directions() {
    let mut driver = hiding();
    let got = through(&mut driver, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    let hidden = call_id(&got);
    let host = hidden.strip_prefix("c1@").unwrap();
    assert!(host.ends_with(".invalid") && host.len() == 24, "{hidden}");
    assert_eq!(got.matches("10.0.0.2").count(), 1, "only From says it: {got}");
    let answer = String::from_utf8(response("200 OK", "c1", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let answer = answer.unwrap().replace("c1@10.0.0.2", &hidden);
    let got = through(&mut driver, R, answer.as_bytes());
    assert_eq!(call_id(&got), "c1@10.0.0.2");
    assert_eq!(new_peers(&driver).len(), 2, "the answer belongs to the offer");
    // Either end may hang up.
    let mut other = hiding();
    through(&mut other, O, &invite("c1", "", &audio("10.0.0.2", 4000)));
    through(&mut other, R, answer.as_bytes());
    through(&mut driver, O, &in_dialog("BYE", "c1", "b1"));
    assert!(open(&driver).is_empty());
    let bye = message(
        &format!(
            "BYE sip:alice@198.51.100.7:30000 SIP/2.0
            Via: SIP/2.0/UDP 203.0.113.5;branch=z9hG4bKb
            From: <sip:bob@example.com>;tag=b1
            To: <sip:alice@example.com>;tag=a1
            Call-ID: {hidden}
            CSeq: 7 BYE"
        ),
        "",
    );
    assert_eq!(call_id(&through(&mut other, R, &bye)), "c1@10.0.0.2");
    assert!(open(&other).is_empty());
    assert_eq!(other.count_of(Event::RecheckFailed), 0);
}

#[test]
fn what_refers_to_a_call_is_hidden_with_it() {
    let mut driver = hiding();
    let hidden = call_id(&through(&mut driver, O, &in_dialog("OPTIONS", "x", "b")));
    let host = hidden.strip_prefix("x@").unwrap();
    let rows = [
        "Replaces: 7@{};to-tag=1;from-tag=2",
        "Join: 7@{};to-tag=1;from-tag=2",
        "Target-Dialog: 7@{};local-tag=1;remote-tag=2",
        "In-Reply-To: 7@{}, 8@{}, 9@example.com, 10@10.0.0.22",
        "Refer-To: <sip:carol@example.com?Replaces=7%40{}%3Bto-tag%3D1&Subject=7%4010.0.0.2>",
        "r: <sip:carol@example.com;method=INVITE?a=b&REPLACES=7%40{}%3bfrom-tag%3d2>",
    ];
    for row in rows {
        let (inside, outside) = (row.replace("{}", "10.0.0.2"), row.replace("{}", host));
        assert_eq!(header(&mut driver, O, &inside), outside);
        assert_eq!(header(&mut driver, R, &outside), inside);
        // Another internal phone is shown the name, and hands it on as it is.
        let mut other =
            udp_with(SessionEndpoints { originator: at("10.0.0.3:5060"), ..phone() }, |settings| {
                settings.call_id_key = Some(CallIdKey::new("our words"))
            });
        assert_eq!(header(&mut other, R, &outside), outside);
        assert_eq!(header(&mut other, O, &outside), outside);
    }
    assert_eq!(driver.count_of(Event::RecheckFailed), 0);
}

#[test]
fn names_that_others_have_made_and_call_ids_without_an_address_stay() {
    for id in
        ["7@0123456789abcdef.invalid", "7@198.51.100.7", "7@pc33.example.com", "10.0.0.2", "7@@10.0.0.2"]
    {
        for direction in [O, R] {
            let mut driver = hiding();
            let text = String::from_utf8(in_dialog("OPTIONS", "x", "b")).unwrap();
            let text = text.replace("x@10.0.0.2", id);
            assert_eq!(call_id(&through(&mut driver, direction, text.as_bytes())), id);
        }
    }
}

#[test]
fn every_compact_name_means_its_long_one() {
    let mut driver = udp(phone());
    let text = |host: &str, address: &str, l4_port| {
        let body = lines(&audio(address, l4_port));
        format!(
            "INVITE sip:b@b SIP/2.0\r\nv:SIP/2.0/UDP {host};branch=z\r\nf:<sip:a@b>;tag=1\r\nt:<sip:b@b>\r\ni:q\r\n\
            CSeq:1 INVITE\r\nm:<sip:a@{host}>\r\nk:timer\r\ns:x\r\nx:600\r\no:talk\r\nu:talk\r\ne:identity\r\n\
            c:application/sdp\r\nl:{}\r\n\r\n{body}",
            body.len()
        )
    };
    same(
        &through(&mut driver, O, text("10.0.0.2:5060", "10.0.0.2", 4000).as_bytes()),
        text("198.51.100.7:30000", "198.51.100.7", 20_000).as_bytes(),
    );
    let gzip = text("10.0.0.2:5060", "10.0.0.2", 4000).replace("e:identity", "e:gzip");
    let got = through(&mut driver, O, gzip.as_bytes());
    assert!(got.contains("c=IN IP4 10.0.0.2") && got.contains("m:<sip:a@198.51.100.7:30000>"), "{got}");
}
