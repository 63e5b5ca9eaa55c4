//! Media of hosts that do not signal themselves: by policy only.

use super::*;
use crate::policy::Prefix;
use crate::sip::MediaPeer;

/// An exchange at 10.0.0.2 whose phones are 10.0.0.64/26.
fn exchange() -> Driver<Sip> {
    let mut driver = udp_with(phone(), |settings| {
        settings.media_hosts[3] = Some(Prefix { network: [10, 0, 0, 64].into(), length: 26 });
    });
    driver.nat.others = (64..128).map(|host| [10, 0, 0, host].into()).collect();
    driver
}

#[test]
fn an_exchange_may_speak_for_its_phones_where_policy_says_so() {
    let mut driver = exchange();
    let got = through(&mut driver, O, &invite("x", "", &audio("10.0.0.70", 4000)));
    assert!(got.ends_with(&lines(&audio("198.51.100.7", 20_000))), "{got}");
    assert_eq!(open(&driver), ["10.0.0.70:4000", "10.0.0.70:4001"]);
    through(&mut driver, R, &response("200 OK", "x", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    let media = Peer::Address([203, 0, 113, 77].into());
    assert_eq!(new_peers(&driver), [(1, media), (2, media)]);
    // The call moves to another phone.
    let again = String::from_utf8(invite("x", "", &audio("10.0.0.71", 4000))).unwrap();
    through(&mut driver, O, again.replace("bob@example.com>", "bob@example.com>;tag=b1").as_bytes());
    through(&mut driver, R, &response("200 OK", "x", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    assert_eq!(open(&driver), ["10.0.0.71:4000", "10.0.0.71:4001"]);
    through(&mut driver, O, &in_dialog("BYE", "x", "b1"));
    assert!(open(&driver).is_empty());
}

#[test]
fn s_06_a_host_outside_the_policy_is_not_spoken_for() {
    for address in ["10.0.0.63", "10.0.0.128", "203.0.113.5", "127.0.0.1"] {
        let mut driver = exchange();
        let got = through(&mut driver, O, &invite("t", "", &audio(address, 4000)));
        assert!(got.contains(&format!("c=IN IP4 {address}\r\n")), "{got}");
        assert!(driver.nat.calls.is_empty(), "{address}");
        assert_eq!(driver.count_of(Event::ForeignAddress), 1);
    }
    // Nor does who is outside speak for anyone.
    let mut driver = exchange();
    through(&mut driver, O, &in_dialog("OPTIONS", "o", "b"));
    through(&mut driver, R, &invite("t", "", &audio("10.0.0.70", 4000)));
    assert!(driver.nat.calls.is_empty());
}

#[test]
fn rtcp_of_a_third_host_stays_whole() {
    let body = |address, l4_port| audio(address, l4_port) + "a=rtcp:4001 IN IP4 10.0.0.3\n";
    let mut driver = udp(phone());
    let got = through(&mut driver, O, &invite("r", "", &body("10.0.0.2", 4000)));
    assert!(got.ends_with(&lines(&body("198.51.100.7", 20_000))), "{got}");
    let mut driver = exchange();
    let body = |address, rtcp, l4_port| format!("{}a=rtcp:{rtcp}\n", audio(address, l4_port));
    let got = through(&mut driver, O, &invite("r", "", &body("10.0.0.2", "4009 IN IP4 10.0.0.70", 4000)));
    assert!(got.ends_with(&lines(&body("198.51.100.7", "20001 IN IP4 198.51.100.7", 20_000))), "{got}");
    assert_eq!(open(&driver), ["10.0.0.2:4000", "10.0.0.70:4009"]);
}

#[test]
fn media_come_from_the_signalling_alone_where_policy_says_so() {
    let mut driver = udp_with(phone(), |settings| settings.media_source = MediaPeer::Signalling);
    through(&mut driver, O, &invite("s", "", &audio("10.0.0.2", 4000)));
    through(&mut driver, R, &response("200 OK", "s", "1 INVITE", "b1", &audio("203.0.113.77", 7000)));
    assert!(new_peers(&driver).is_empty(), "third parties are named in vain");
    let again = String::from_utf8(invite("s", "", &audio("10.0.0.2", 4002))).unwrap();
    through(&mut driver, O, again.replace("bob@example.com>", "bob@example.com>;tag=b1").as_bytes());
    assert!(driver.nat.calls.iter().all(|call| match call {
        NatCall::ExpectPair(request, _) => request.peer == Peer::OtherEnd,
        _ => true,
    }));
}

/// A phone 10.0.0.2, to whom media of 10.0.0.3 were announced outside.
fn neighbour(direct: bool) -> Driver<Sip> {
    let mut driver = udp_with(phone(), |settings| settings.direct_media = direct);
    for above in 0..2 {
        let seen = SocketAddrV4::new([198, 51, 100, 7].into(), 21_000 + above);
        let internal = SocketAddrV4::new([10, 0, 0, 3].into(), 4_000 + above);
        driver.nat.announced.push((seen, internal));
    }
    driver.nat.announced.push((at("198.51.100.7:21050"), at("10.0.0.4:4050")));
    driver
}

#[test]
fn media_between_two_internal_phones_stay_inside_where_policy_says_so() {
    let heard = |driver: &mut Driver<Sip>, body: &str| {
        through(driver, O, &invite("n", "", &audio("10.0.0.2", 4000)));
        let got = through(driver, R, &response("200 OK", "n", "1 INVITE", "b1", body));
        got.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let rows = [
        ("plain", audio("198.51.100.7", 21_000), Some(audio("10.0.0.3", 4_000))),
        (
            "rtcp of its own",
            audio("198.51.100.7", 21_000) + "a=rtcp:21001 IN IP4 198.51.100.7",
            Some(audio("10.0.0.3", 4_000) + "a=rtcp:4001 IN IP4 10.0.0.3"),
        ),
        (
            "a section that is off",
            audio("198.51.100.7", 21_000) + "m=video 0 RTP/AVP 31",
            Some(audio("10.0.0.3", 4_000) + "m=video 0 RTP/AVP 31"),
        ),
        ("not announced", audio("198.51.100.7", 21_002), None),
        ("another host", audio("203.0.113.77", 21_000), None),
        ("two hosts", audio("198.51.100.7", 21_000) + "m=video 21050 RTP/AVP 31\na=rtcp-mux", None),
        ("RTCP is missing", audio("198.51.100.7", 21_001), None),
        ("hold", audio("0.0.0.0", 21_000), None),
        ("ICE", audio("198.51.100.7", 21_000) + "a=candidate:1 1 UDP 1 198.51.100.7 21000 typ host", None),
    ];
    for (name, body, inside) in rows {
        let mut driver = neighbour(true);
        assert_eq!(heard(&mut driver, &body), lines(inside.as_ref().unwrap_or(&body)), "{name}");
        assert_eq!(driver.count_of(Event::RecheckFailed), 0, "{name}");
        assert_eq!(heard(&mut neighbour(false), &body), lines(&body), "{name}: not allowed");
    }
}

#[test]
fn signalling_that_is_announced_is_marked() {
    let mut driver = udp(phone());
    let contact = |l4_port| format!("Contact: <sip:a@10.0.0.2:{l4_port}>\r\nContent-Length");
    let register = |l4_port| {
        let text = String::from_utf8(in_dialog("REGISTER", "k", "b")).unwrap();
        text.replace("Content-Length", &contact(l4_port))
    };
    through(&mut driver, O, register(5062).as_bytes());
    assert_eq!(driver.nat.control.len(), 1, "another port of the phone");
    through(&mut driver, O, register(5060).as_bytes());
    let answer = String::from_utf8(response("200 OK", "k", "2 REGISTER", "b", "")).unwrap();
    through(&mut driver, R, answer.replace("bob@203.0.113.77:5070", "a@198.51.100.7:30000").as_bytes());
    assert_eq!(driver.nat.control.len(), 2, "the flow itself, once it is registered");
    through(&mut driver, O, &invite("m", "", &audio("10.0.0.2", 4000)));
    assert_eq!(driver.nat.control.len(), 2, "media are none");
}
