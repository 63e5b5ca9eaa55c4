//! SIP dialogues that go on by another flow than the one they began on, and who cannot make one do so.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::Config;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{at, udp, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{
    FAR, Line, PHONE, PROXY, SIP, SITES, STRANGER, answer, audio, media_of, message, request, talk,
};
use crate::sim_sip_contacts::registered_by_tcp;

const MEDIA: &str = "10.0.0.2:4000";
/// The phone after it was started anew.
const MOVED_PHONE: &str = "10.0.0.2:5062";
/// The proxy by another of its ports.
const MOVED_PROXY: &str = "198.51.100.1:5090";
const NEIGHBOUR: &str = "10.0.0.3:5060";

/// A message of the one who was called, to who called: with its `start`, `tags` of either, and what it sends itself.
fn of_callee(
    start: &str,
    call: &str,
    tags: (&str, &str),
    (via, contact): (&str, &str),
    body: &str,
) -> String {
    let method = start.split(' ').next().filter(|word| *word != "SIP/2.0").unwrap_or("INVITE");
    let head = format!(
        "{start}
        Via: SIP/2.0/UDP {via};branch=z9hG4bK{method};rport
        From: <sip:bob@example.com>;tag={}
        To: <sip:carol@example.com>;tag={}
        Call-ID: {call}
        CSeq: 7 {method}
        Contact: <sip:bob@{contact}>",
        tags.0, tags.1
    );
    message(&head, body)
}

const TAGS: (&str, &str) = ("to", "from");
const INVITE: &str = "INVITE sip:carol@198.51.100.1 SIP/2.0";
const BYE: &str = "BYE sip:carol@198.51.100.1 SIP/2.0";

/// `phone` sends to the proxy; returns whom the proxy sees, and what it reads.
#[track_caller]
fn from_inside(net: &mut Net, phone: &str, text: &str) -> (SocketAddrV4, String) {
    let out = net.one(INSIDE, &udp(phone, PROXY, text.as_bytes()));
    assert_eq!(out.destination, at(PROXY));
    (out.source, String::from_utf8(out.payload).unwrap())
}

#[test]
fn a_04_a_call_goes_on_from_another_port_of_the_phone() {
    let far = "198.51.100.12:30000";
    for (name, change) in SITES {
        let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        let announced = line.is_called("moved", MEDIA, FAR);
        line.talks(MEDIA, FAR, announced);
        assert_eq!(line.expected(), 3, "{name}: the registration, and media");

        let own = (MOVED_PHONE, MOVED_PHONE);
        let sent = of_callee(INVITE, "moved", TAGS, own, &audio(MEDIA));
        let (seen, told) = from_inside(&mut line.net, MOVED_PHONE, &sent);
        let as_seen = seen.to_string();
        let want = of_callee(INVITE, "moved", TAGS, (&as_seen, &as_seen), &audio(&announced.to_string()));
        assert_eq!(told, want, "{name}: its media are where they were");
        assert_eq!(line.expected(), 3, "{name}");
        let ok = |via: &str| of_callee("SIP/2.0 200 OK", "moved", TAGS, (via, PROXY), &audio(far));
        let heard = line.net.one(OUTSIDE, &udp_between(at(PROXY), seen, ok(&as_seen).as_bytes()));
        assert_eq!(heard.destination, at(MOVED_PHONE));
        assert_eq!(String::from_utf8(heard.payload).unwrap(), ok(MOVED_PHONE), "{name}");
        line.talks(MEDIA, far, announced);

        from_inside(&mut line.net, MOVED_PHONE, &of_callee(BYE, "moved", TAGS, own, ""));
        assert_eq!(line.expected(), 1, "{name}: the registration stays");
    }
}

#[test]
fn a_04_a_call_ends_by_whichever_port_of_its_two_ends() {
    for (name, change) in SITES {
        let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        line.is_called("one", MEDIA, FAR);
        let (seen, _) = from_inside(
            &mut line.net,
            MOVED_PHONE,
            &of_callee(BYE, "one", TAGS, (MOVED_PHONE, MOVED_PHONE), ""),
        );
        assert_eq!(line.expected(), 1, "{name}: left by the phone");

        // Where filtering is strict nobody comes by another port.
        if name == "strict" {
            continue;
        }
        line.is_called("two", MEDIA, FAR);
        let bye = |to: &str| request("BYE", "two", (MOVED_PROXY, to), "");
        let to = line.seen;
        let heard = line.net.one(OUTSIDE, &udp_between(at(MOVED_PROXY), to, bye(&to.to_string()).as_bytes()));
        assert_eq!(String::from_utf8(heard.payload).unwrap(), bye(PHONE));
        assert_eq!(line.expected(), 1, "{name}: left by the proxy");

        // It goes to and fro: what the phone has taken along, the proxy ends where it began.
        line.is_called("three", MEDIA, FAR);
        let moved = of_callee(INVITE, "three", TAGS, (MOVED_PHONE, MOVED_PHONE), &audio(MEDIA));
        assert_eq!(from_inside(&mut line.net, MOVED_PHONE, &moved).0, seen);
        assert_eq!(line.expected(), 3, "{name}");
        line.is_left("three");
        assert_eq!(line.expected(), 1, "{name}: left where it began");
    }
}

/// It rings: nobody has answered yet.
fn rings(change: fn(&mut Config), call: &str) -> (Line, SocketAddrV4) {
    let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
    let seen = line.seen.to_string();
    line.hears(&request("INVITE", call, (PROXY, &seen), &audio(FAR)));
    let told = line.says(&answer("183 Session Progress", call, (PROXY, PHONE), &audio(MEDIA)));
    assert_eq!(line.expected(), 3, "the registration, and media");
    (line, media_of(&told))
}

#[test]
fn a_04_a_call_that_rings_goes_on_from_another_port_of_the_phone() {
    let far = "198.51.100.12:30000";
    let update = "UPDATE sip:carol@198.51.100.1 SIP/2.0";
    for (name, change) in SITES {
        let (mut line, announced) = rings(change, "early");
        let own = (MOVED_PHONE, MOVED_PHONE);
        let sent = of_callee(update, "early", TAGS, own, &audio(MEDIA));
        let (seen, told) = from_inside(&mut line.net, MOVED_PHONE, &sent);
        assert_eq!((media_of(&told), line.expected()), (announced, 3), "{name}: where they were");
        let as_seen = seen.to_string();
        let ok = of_callee("SIP/2.0 200 OK", "early", TAGS, (&as_seen, PROXY), &audio(far))
            .replace("CSeq: 7 INVITE", "CSeq: 7 UPDATE");
        line.net.one(OUTSIDE, &udp_between(at(PROXY), seen, ok.as_bytes()));
        line.talks(MEDIA, far, announced);
        // Its answer leaves from there, too, and counts: after a 2xx nothing is withdrawn by an error.
        let answered = answer("200 OK", "early", (PROXY, MOVED_PHONE), &audio(MEDIA));
        let (_, told) = from_inside(&mut line.net, MOVED_PHONE, &answered);
        assert_eq!(media_of(&told), announced, "{name}");
        line.net.advance(Duration::from_secs(200));
        assert_eq!(line.expected(), 3, "{name}: it is answered");
        line.is_left("early");
        assert_eq!(line.expected(), 1, "{name}: left where it began");
    }
}

#[test]
fn a_04_a_call_that_rings_ends_by_whichever_port_of_its_two_ends() {
    for (name, change) in SITES {
        let refused = |via: &str| answer("486 Busy Here", "early", (via, MOVED_PHONE), "");
        let (mut line, _) = rings(change, "early");
        from_inside(&mut line.net, MOVED_PHONE, &refused(PROXY));
        assert_eq!(line.expected(), 1, "{name}: refused from another port");

        // Where filtering is strict nobody comes by another port.
        if name == "strict" {
            continue;
        }
        let (mut line, _) = rings(change, "early");
        let to = line.seen;
        let cancel = request("CANCEL", "early", (MOVED_PROXY, &to.to_string()), "").replace(";tag=to", "");
        line.net.one(OUTSIDE, &udp_between(at(MOVED_PROXY), to, cancel.as_bytes()));
        assert_eq!(line.expected(), 3, "{name}: a 2xx may cross it");
        line.net.advance(Duration::from_secs(40));
        assert_eq!(line.expected(), 1, "{name}: taken back from another port");
    }
}

/// As of answered calls: it has to be one of the two hosts, with the tags.
#[test]
fn s_06_nobody_else_ends_a_call_that_rings_or_takes_it_along() {
    for (name, change) in SITES {
        let (mut line, announced) = rings(change, "early");
        for (start, tags) in [
            ("SIP/2.0 486 Busy Here", ("from", "to")),
            ("SIP/2.0 200 OK", ("from", "to")),
            (BYE, TAGS),
            ("CANCEL sip:carol@198.51.100.1 SIP/2.0", ("from", "to")),
        ] {
            let sent = of_callee(start, "early", tags, (NEIGHBOUR, NEIGHBOUR), "");
            from_inside(&mut line.net, NEIGHBOUR, &sent);
            assert_eq!(line.expected(), 3, "{name}: a neighbour's {start}");
        }
        // The two hosts themselves, without the tags.
        for (start, tags) in [
            ("SIP/2.0 486 Busy Here", ("other", "to")),
            (BYE, ("to", "other")),
            (BYE, ("other", "from")),
            ("CANCEL sip:carol@198.51.100.1 SIP/2.0", ("other", "to")),
        ] {
            let sent = of_callee(start, "early", tags, (MOVED_PHONE, MOVED_PHONE), "");
            from_inside(&mut line.net, MOVED_PHONE, &sent);
            assert_eq!(line.expected(), 3, "{name}: {start} with {tags:?}");
        }
        line.net.advance(Duration::from_secs(60));
        assert_eq!(line.expected(), 3, "{name}: not taken back");
        line.talks(MEDIA, FAR, announced);
    }
}

/// Whoever has seen a whole message knows Call-ID and tags. It has to be one of the two hosts, too.
#[test]
fn s_06_nobody_else_ends_a_call_or_takes_it_along() {
    for (name, change) in SITES.iter().filter(|(name, _)| *name != "strict") {
        let net = Net::with(SIP, |config| {
            change(config);
            config.tables.alg_flows = 16;
        });
        let mut line = Line::registered(net, PHONE, 3_600);
        let announced = line.is_called("wanted", MEDIA, FAR);
        let seen = line.seen;
        assert_eq!(line.expected(), 3);
        // A neighbour, by the same proxy, in both roles.
        for tags in [TAGS, ("from", "to")] {
            let bye = of_callee(BYE, "wanted", tags, (NEIGHBOUR, NEIGHBOUR), "");
            from_inside(&mut line.net, NEIGHBOUR, &bye);
            assert_eq!(line.expected(), 3, "{name}: a neighbour with {tags:?}");
        }
        // It says that the phone's media are its own, and then where its own are.
        let taken = of_callee(INVITE, "wanted", TAGS, (NEIGHBOUR, NEIGHBOUR), &audio(MEDIA));
        let (_, told) = from_inside(&mut line.net, NEIGHBOUR, &taken);
        assert_eq!((media_of(&told), line.expected()), (at(MEDIA), 3), "{name}");
        let own = of_callee(INVITE, "wanted", TAGS, (NEIGHBOUR, NEIGHBOUR), &audio("10.0.0.3:4000"));
        let (_, told) = from_inside(&mut line.net, NEIGHBOUR, &own);
        assert_ne!(media_of(&told), announced, "{name}");
        assert_eq!(line.expected(), 5, "{name}");
        from_inside(&mut line.net, NEIGHBOUR, &of_callee(BYE, "wanted", TAGS, (NEIGHBOUR, NEIGHBOUR), ""));
        // A stranger outside, who reaches the phone's registered port.
        let bye = request("BYE", "wanted", (STRANGER, &seen.to_string()), "");
        line.net.one(OUTSIDE, &udp_between(at(STRANGER), seen, bye.as_bytes()));
        let offer = request("INVITE", "wanted", (STRANGER, &seen.to_string()), &audio("198.51.100.66:4000"));
        line.net.one(OUTSIDE, &udp_between(at(STRANGER), seen, offer.as_bytes()));
        // The two hosts themselves, without the tags.
        for tags in [("to", "other"), ("other", "from"), ("to", "to")] {
            let own = (MOVED_PHONE, MOVED_PHONE);
            from_inside(&mut line.net, MOVED_PHONE, &of_callee(BYE, "wanted", tags, own, ""));
        }
        let guess =
            request("BYE", "wanted", (MOVED_PROXY, &seen.to_string()), "").replace("tag=to", "tag=tu");
        line.net.one(OUTSIDE, &udp_between(at(MOVED_PROXY), seen, guess.as_bytes()));

        assert!(line.expected() >= 3, "{name}");
        line.talks(MEDIA, FAR, announced);
        let before = line.expected();
        line.is_left("wanted");
        assert_eq!(before - line.expected(), 2, "{name}: it was where it began");
    }
}

/// A phone that was started anew has forgotten its call, but not its ports.
#[test]
fn a_04_a_phone_started_anew_calls_from_another_port_with_the_media_ports_it_had() {
    // A proxy that carries the media itself: both calls have the same peer.
    let far = "198.51.100.1:30000";
    for (name, change) in SITES {
        let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        let before = line.is_called("before", MEDIA, far);
        let invite =
            |own: &str, media: &str| request("INVITE", "after", (own, "198.51.100.1"), &audio(media));
        let (seen, told) = from_inside(&mut line.net, MOVED_PHONE, &invite(MOVED_PHONE, MEDIA));
        let announced = media_of(&told);
        assert_eq!(told, invite(&seen.to_string(), &announced.to_string()), "{name}");
        assert_eq!(announced, before, "{name}: a host has one mapping for one port");
        let ok = |via: &str| answer("200 OK", "after", (via, PROXY), &audio(far));
        let heard = line.net.one(OUTSIDE, &udp_between(at(PROXY), seen, ok(&seen.to_string()).as_bytes()));
        assert_eq!(String::from_utf8(heard.payload).unwrap(), ok(MOVED_PHONE), "{name}");
        line.talks(MEDIA, far, announced);
        // The proxy gives the old call up; the new one has the ports now.
        line.is_left("before");
        assert_eq!(line.expected(), 3, "{name}");
        line.talks(MEDIA, far, announced);
        from_inside(&mut line.net, MOVED_PHONE, &request("BYE", "after", (MOVED_PHONE, "198.51.100.1"), ""));
        assert_eq!(line.expected(), 1, "{name}");
    }
}

/// RFC 3261 section 18, RFC 5923: whoever has no connection any more opens another one.
#[test]
fn a_04_a_call_over_tcp_ends_by_another_connection_and_a_phone_registers_again_by_one() {
    for cores in [vec![], vec![2]] {
        let net = Net::with(SIP, |config| config.workers.alg_cores = cores);
        let mut lab = Lab::new(net, [10, 0, 0, 2], Faults::default(), 5);
        let phone = "10.0.0.2:5070";
        let expected = |lab: &Lab| lab.net.engine.expectation_rows(lab.net.now, 9).len();
        let (first, contact) = registered_by_tcp(&mut lab, 49_152, phone);
        let invites = Talk::open(&mut lab, (1, 50_000), at(&contact), (0, 5070));
        let via = "203.0.113.50:50000";
        let invite = request("INVITE", "tcp-in", (via, &contact), &audio(FAR));
        invites.say(&mut lab, CLIENT, invite.as_bytes());
        let ok = answer("200 OK", "tcp-in", (via, phone), &audio(MEDIA));
        let told = String::from_utf8(invites.say(&mut lab, SERVER, ok.as_bytes())).unwrap();
        talk(&mut lab.net, MEDIA, FAR, media_of(&told));
        assert_eq!(expected(&lab), 3);

        let leaves = Talk::open(&mut lab, (1, 50_001), at(&contact), (0, 5070));
        let bye = |to: &str| request("BYE", "tcp-in", ("203.0.113.50:50001", to), "");
        let heard = leaves.say(&mut lab, CLIENT, bye(&contact).as_bytes());
        assert_eq!(String::from_utf8(heard).unwrap(), bye(phone));
        assert_eq!(expected(&lab), 1, "media are closed, the contact stays");

        let (second, again) = registered_by_tcp(&mut lab, 49_153, phone);
        assert_eq!(again, contact, "a host has one mapping for one port");
        first.close(&mut lab);
        assert_eq!(expected(&lab), 1, "it belongs to the second connection now");
        let calls = Talk::open(&mut lab, (1, 50_002), at(&contact), (0, 5070));
        for talk in [calls, second, leaves, invites] {
            talk.close(&mut lab);
        }
    }
}
