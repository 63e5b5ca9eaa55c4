//! SIP through the engine: who calls a registered phone, from where, and at which of its ports.

use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{at, udp, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{
    FAR, Line, SIP, SITES, STRANGER, answer, audio, media_of, message, register, registered, request, strict,
    talk,
};

/// A phone whose port is no control port.
const ODD_PHONE: &str = "10.0.0.2:5062";
/// Another proxy than the one that has the registration, at a port that is none either.
const FOREIGN: &str = "198.51.100.40:5080";

/// Calls the phone from `proxy`, which it has never spoken with; returns what it is told of the phone's media.
fn is_called_by(line: &mut Line, proxy: &'static str) -> String {
    let seen = line.seen.to_string();
    let invite = |to: &str| request("INVITE", "foreign", (proxy, to), &audio(FAR));
    let heard = line.net.one(OUTSIDE, &udp_between(at(proxy), line.seen, invite(&seen).as_bytes()));
    assert_eq!((heard.source, heard.destination), (at(proxy), at(line.phone)));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), invite(line.phone), "it is read");
    let ok = answer("200 OK", "foreign", (proxy, line.phone), &audio("10.0.0.2:4000"));
    let told = line.net.one(INSIDE, &udp(line.phone, proxy, ok.as_bytes()));
    assert_eq!((told.source, told.destination), (line.seen, at(proxy)));
    String::from_utf8(told.payload).unwrap()
}

#[test]
fn a_04_a_foreign_proxy_calls_the_registered_contact_at_any_port() {
    for (name, change) in SITES.iter().filter(|(name, _)| *name != "strict") {
        for phone in ["10.0.0.2:5060", ODD_PHONE] {
            let mut line = Line::registered(Net::with(SIP, change), phone, 3_600);
            let told = is_called_by(&mut line, FOREIGN);
            let announced = media_of(&told);
            let seen = line.seen.to_string();
            let want = answer("200 OK", "foreign", (FOREIGN, &seen), &audio(&announced.to_string()));
            assert_eq!(told, want, "{name} {phone}");
            line.talks("10.0.0.2:4000", FAR, announced);
            line.net.refused(
                OUTSIDE,
                &udp_between(at(STRANGER), announced, b"voice"),
                DropReason::ExpectationPeer,
            );
            // The caller hangs up, by the same way.
            let bye = |to: &str| request("BYE", "foreign", (FOREIGN, to), "");
            let heard = line.net.one(OUTSIDE, &udp_between(at(FOREIGN), line.seen, bye(&seen).as_bytes()));
            assert_eq!(String::from_utf8(heard.payload).unwrap(), bye(phone));
            assert_eq!(line.expected(), 1, "{name} {phone}: the registration stays");
        }
    }
}

#[test]
fn a_foreign_proxy_is_refused_where_the_rule_filters_by_address() {
    let mut line = Line::registered(Net::with(SIP, strict), ODD_PHONE, 3_600);
    let invite = request("INVITE", "foreign", (FOREIGN, ODD_PHONE), &audio(FAR));
    let frame = udp_between(at(FOREIGN), line.seen, invite.as_bytes());
    line.net.refused(OUTSIDE, &frame, DropReason::NoMapping);
}

/// Nothing but the registration makes a port one of signalling.
#[test]
fn s_06_what_comes_to_a_port_is_read_as_long_as_it_is_registered_and_no_longer() {
    let mut net = Net::with(SIP, |_| {});
    let seen = net.one(INSIDE, &udp(ODD_PHONE, "198.51.100.1:9999", b"hello")).source;
    let invite = request("INVITE", "early", (FOREIGN, &seen.to_string()), &audio(FAR));
    let heard = net.one(OUTSIDE, &udp_between(at(FOREIGN), seen, invite.as_bytes()));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), invite, "nobody has registered it");

    let mut line = Line::registered(net, ODD_PHONE, 3_600);
    assert_eq!(line.seen, seen);
    line.says(&register(ODD_PHONE, 0));
    line.hears(&registered(&seen.to_string(), 0));
    assert_eq!(line.expected(), 0);
    let invite = request("INVITE", "late", (STRANGER, &seen.to_string()), &audio(FAR));
    let heard = line.net.one(OUTSIDE, &udp_between(at(STRANGER), seen, invite.as_bytes()));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), invite, "nobody has registered it any more");
}

/// The phone sends to a third server, from the port it has registered: an answer along a Record-Route.
#[test]
fn what_a_registered_phone_sends_to_any_port_is_read() {
    let mut line = Line::registered(Net::with(SIP, |_| {}), ODD_PHONE, 3_600);
    let options = |host: &str| {
        message(
            &format!(
                "OPTIONS sip:x@198.51.100.40:5080 SIP/2.0
                Via: SIP/2.0/UDP {host};branch=z9hG4bKo
                From: <sip:bob@example.com>;tag=o
                To: <sip:x@example.com>
                Call-ID: o
                CSeq: 1 OPTIONS
                Contact: <sip:bob@{host}>"
            ),
            "",
        )
    };
    let out = line.net.one(INSIDE, &udp(ODD_PHONE, FOREIGN, options(ODD_PHONE).as_bytes()));
    assert_eq!(String::from_utf8(out.payload).unwrap(), options(&line.seen.to_string()));
}

/// What is no SIP on the port of a registered phone ends the reading of that flow, and passes.
#[test]
fn first_bytes_decide_on_a_registered_port_too() {
    let mut line = Line::registered(Net::with(SIP, |_| {}), ODD_PHONE, 3_600);
    let seen = line.seen;
    let heard = line.net.one(OUTSIDE, &udp_between(at(STRANGER), seen, b"POST / HTTP/1.1\r\n\r\n"));
    assert_eq!(heard.payload, b"POST / HTTP/1.1\r\n\r\n");
    let invite = request("INVITE", "after", (STRANGER, &seen.to_string()), &audio(FAR));
    let heard = line.net.one(OUTSIDE, &udp_between(at(STRANGER), seen, invite.as_bytes()));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), invite);
    let announced = line.is_called("one", "10.0.0.2:4000", FAR);
    line.talks("10.0.0.2:4000", FAR, announced);
    line.is_left("one");
}

/// Registers `phone` over a connection from the port `own`: that connection, and the Contact that the registrar sees.
pub(crate) fn registered_by_tcp(lab: &mut Lab, own: u16, phone: &str) -> (Talk, String) {
    let register = |via: &str, contact: &str| {
        let head = format!(
            "REGISTER sip:example.com SIP/2.0
            Via: SIP/2.0/TCP {via};branch=z9hG4bKr
            From: <sip:bob@example.com>;tag=r1
            To: <sip:bob@example.com>
            Call-ID: register
            CSeq: 1 REGISTER
            Contact: <sip:bob@{contact};transport=tcp>"
        );
        message(&head, "")
    };
    let ok = |via: &str, contact: &str| {
        let text = register(via, contact).replace("REGISTER sip:example.com SIP/2.0", "SIP/2.0 200 OK");
        text.replace("transport=tcp>", "transport=tcp>;expires=3600")
    };
    let talk = Talk::open(lab, (0, own), at("203.0.113.50:5060"), (1, 5060));
    let (via, seen) = (format!("10.0.0.2:{own}"), talk.client_seen.to_string());
    let sent = String::from_utf8(talk.say(lab, CLIENT, register(&via, phone).as_bytes())).unwrap();
    let contact = sent.split("Contact: <sip:bob@").nth(1).unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(sent, register(&seen, &contact));
    let heard = talk.say(lab, SERVER, ok(&seen, &contact).as_bytes());
    assert_eq!(String::from_utf8(heard).unwrap(), ok(&via, phone));
    (talk, contact)
}

/// RFC 3261 section 18: a phone registers over a connection from a port of its own, and is called over another one, which
/// leads to the port in its Contact.
#[test]
fn a_04_a_phone_that_registers_over_tcp_is_called_over_a_connection_to_its_contact() {
    for cores in [vec![], vec![2]] {
        let net = Net::with(SIP, |config| config.workers.alg_cores = cores);
        let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 5);
        let phone = "10.0.0.2:5070";
        let (first, contact) = registered_by_tcp(&mut lab, 49_152, phone);

        let second = Talk::open(&mut lab, (1, 50_000), at(&contact), (0, 5070));
        let proxy = "203.0.113.50:50000";
        let invite = |to: &str| request("INVITE", "tcp-in", (proxy, to), &audio(FAR));
        let heard = second.say(&mut lab, CLIENT, invite(&contact).as_bytes());
        assert_eq!(String::from_utf8(heard).unwrap(), invite(phone), "it is read");
        let ok = |contact: &str, media: &str| answer("200 OK", "tcp-in", (proxy, contact), &audio(media));
        let told = second.say(&mut lab, SERVER, ok(phone, "10.0.0.2:4000").as_bytes());
        let told = String::from_utf8(told).unwrap();
        let announced = media_of(&told);
        assert_eq!(told, ok(&contact, &announced.to_string()));
        talk(&mut lab.net, "10.0.0.2:4000", FAR, announced);
        second.close(&mut lab);
        first.close(&mut lab);
        lab.net.advance(Duration::from_secs(2));
        assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9).len(), 0);
    }
}
