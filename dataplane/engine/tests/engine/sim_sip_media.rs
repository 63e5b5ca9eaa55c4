//! SIP through the engine: media of third parties, messages larger than a packet, and trunks.

use std::net::SocketAddrV4;

use algate_config::{Config, FilteringBehavior};
use algate_engine::drop_reason::DropReason;

use crate::common::packets::{at, fragment, udp, udp_between, with_dont_fragment};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{
    Change, FAR, Line, PHONE, PROXY, SIP, SITES, STRANGER, answer, audio, media_of, message, request, talk,
};

fn with(keys: &str, change: fn(&mut Config)) -> Net {
    Net::with(&SIP.replace("enabled = true\n", &format!("enabled = true\n{keys}\n")), change)
}

/// Either phone is told where the other one really is; algate is not asked for a packet of theirs.
#[test]
fn a_04_media_of_two_phones_stay_inside_where_policy_says_so() {
    for (name, change) in SITES {
        let mut first = Line::registered(with("direct_media = true", change), PHONE, 3_600);
        let first_seen = first.seen.to_string();
        let invite = request("INVITE", "both", (PHONE, "example.com"), &audio("10.0.0.2:4000"));
        let asked = media_of(&first.says(&invite));
        let mut second = Line::registered(first.net, "10.0.0.3:5060", 3_600);
        let seen = second.seen.to_string();
        let heard = second.hears(&request("INVITE", "both", (PROXY, &seen), &audio(&asked.to_string())));
        assert_eq!(media_of(&heard), at("10.0.0.2:4000"), "{name}");
        let ok = answer("200 OK", "both", (PROXY, "10.0.0.3:5060"), &audio("10.0.0.3:4000"));
        let told = media_of(&second.says(&ok));
        assert_ne!(told, at("10.0.0.3:4000"), "{name}: outside they are where they were announced");
        first = Line { net: second.net, ..first };
        let heard = first.hears(&answer("200 OK", "both", (&first_seen, PROXY), &audio(&told.to_string())));
        assert_eq!(media_of(&heard), at("10.0.0.3:4000"), "{name}");
        // A phone that speaks to what was announced all the same is heard.
        let (a, b) = (at("10.0.0.2:4000"), at("10.0.0.3:4000"));
        let there = first.net.one(INSIDE, &udp_between(a, told, b"voice"));
        assert_eq!((there.nic_port, there.destination), (INSIDE, b), "{name}");
        first.says(&request("BYE", "both", (PHONE, PROXY), ""));
    }
}

#[test]
fn s_06_a_host_outside_learns_nothing_by_naming_what_was_announced() {
    let mut line = Line::registered(with("direct_media = true", |_| {}), PHONE, 3_600);
    let asked =
        media_of(&line.says(&request("INVITE", "own", (PHONE, "example.com"), &audio("10.0.0.2:4000"))));
    // An echo of the phone's own media: it comes to the phone itself, never to the world.
    let seen = line.seen.to_string();
    let heard = line.hears(&answer("200 OK", "own", (&seen, PROXY), &audio(&asked.to_string())));
    assert_eq!(media_of(&heard), at("10.0.0.2:4000"));
    let said = line.says(&answer("200 OK", "x", (PROXY, PHONE), &audio(&asked.to_string())));
    assert_eq!(media_of(&said), asked, "outside nothing is told");
}

#[test]
fn a_04_an_exchange_announces_media_of_its_phones_where_policy_says_so() {
    for (name, change) in SITES {
        let keys = "media_hosts = [\"10.0.0.64/26\"]";
        let mut line = Line::registered(with(keys, change), PHONE, 3_600);
        let announced = line.is_called("one", "10.0.0.70:4000", FAR);
        line.talks("10.0.0.70:4000", FAR, announced);
        line.net.refused(
            OUTSIDE,
            &udp_between(at(STRANGER), announced, b"voice"),
            DropReason::ExpectationPeer,
        );
        let asked = line.says(&request("INVITE", "two", (PHONE, "example.com"), &audio("10.0.0.130:4000")));
        assert_eq!(media_of(&asked), at("10.0.0.130:4000"), "{name}: not one of them");
        line.is_left("one");
        assert_eq!(line.expected(), 1, "{name}");
    }
}

#[test]
fn s_06_media_come_from_the_signalling_alone_where_policy_says_so() {
    let mut line = Line::registered(with("media_source = \"peer\"", |_| {}), PHONE, 3_600);
    let announced = line.is_called("one", "10.0.0.2:4000", FAR);
    line.net.refused(OUTSIDE, &udp_between(at(FAR), announced, b"voice"), DropReason::ExpectationPeer);
    let by_proxy = SocketAddrV4::new(*at(PROXY).ip(), 30_000);
    line.net.one(OUTSIDE, &udp_between(by_proxy, announced, b"voice"));
    line.is_left("one");
}

fn by_address(config: &mut Config) {
    config.nat.rules.iter_mut().for_each(|rule| rule.filtering = FilteringBehavior::AddressDependent);
}

fn by_endpoint(config: &mut Config) {
    config.nat.rules.iter_mut().for_each(|rule| rule.filtering = FilteringBehavior::AddressAndPortDependent);
}

/// Media that a phone has sent before its answer passed left by its rule. The caller is told another port: what comes there
/// arrives, and is answered from there.
#[test]
fn a_04_a_phone_that_speaks_before_its_answer_is_heard_and_hears() {
    let more: [(&str, Change); 2] = [("by address", by_address), ("by endpoint", by_endpoint)];
    for (name, change) in SITES.into_iter().chain(more) {
        for early in [&[0][..], &[1], &[0, 1]] {
            let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
            let seen = line.seen.to_string();
            line.hears(&request("INVITE", "soon", (PROXY, &seen), &audio(FAR)));
            let next =
                |endpoint: SocketAddrV4, above| SocketAddrV4::new(*endpoint.ip(), endpoint.port() + above);
            let (own, far) = (at("10.0.0.2:4000"), at(FAR));
            for above in early {
                line.net.one(INSIDE, &udp_between(next(own, *above), next(far, *above), b"early"));
            }
            let told = line.says(&answer("200 OK", "soon", (PROXY, PHONE), &audio("10.0.0.2:4000")));
            let announced = media_of(&told);
            assert_eq!(announced.ip(), line.seen.ip(), "{name} {early:?}");
            for above in early {
                // Still on its way, or not: the phone does not know who has heard it.
                line.net.one(INSIDE, &udp_between(next(own, *above), next(far, *above), b"early"));
            }
            line.talks("10.0.0.2:4000", FAR, announced);
            line.is_left("soon");
            assert_eq!(line.expected(), 1, "{name} {early:?}");
        }
    }
}

/// The same between two phones inside, each of which knows the other by its announced endpoint alone.
#[test]
fn a_04_a_phone_that_speaks_before_its_answer_hears_its_neighbour() {
    let more: [(&str, Change); 2] = [("by address", by_address), ("by endpoint", by_endpoint)];
    for (name, change) in SITES.into_iter().chain(more) {
        let mut first = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        let first_seen = first.seen.to_string();
        let invite = request("INVITE", "both", (PHONE, "example.com"), &audio("10.0.0.2:4000"));
        let asked = media_of(&first.says(&invite));
        let mut second = Line::registered(first.net, "10.0.0.3:5060", 3_600);
        let seen = second.seen.to_string();
        second.hears(&request("INVITE", "both", (PROXY, &seen), &audio(&asked.to_string())));
        let early = udp_between(at("10.0.0.3:4000"), asked, b"early");
        // Whether it is let in before its answer is the filtering's affair.
        second.net.verifies = false;
        let heard = second.net.send(INSIDE, &early).len();
        second.net.verifies = true;
        let ok = answer("200 OK", "both", (PROXY, "10.0.0.3:5060"), &audio("10.0.0.3:4000"));
        let told = media_of(&second.says(&ok));
        first = Line { net: second.net, ..first };
        first.hears(&answer("200 OK", "both", (&first_seen, PROXY), &audio(&told.to_string())));
        for _ in 0..3 {
            let there = first.net.one(INSIDE, &udp_between(at("10.0.0.2:4000"), told, b"voice"));
            assert_eq!((there.source, there.destination), (asked, at("10.0.0.3:4000")), "{name} {heard}");
            let back = first.net.one(INSIDE, &udp_between(at("10.0.0.3:4000"), asked, b"voice"));
            assert_eq!((back.source, back.destination), (told, at("10.0.0.2:4000")), "{name} {heard}");
        }
        first.says(&request("BYE", "both", (PHONE, PROXY), ""));
    }
}

/// Bytes of a packet behind its IPv4 header, put together from its fragments.
fn together(pieces: &[crate::common::packets::Seen]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let place = u16::from_be_bytes([piece.packet[6], piece.packet[7]]);
        assert_eq!(usize::from(place & 0x1fff) * 8, whole.len(), "in their order");
        assert_eq!(place & 0x2000 != 0, at + 1 < pieces.len(), "the last one says so");
        assert_eq!(place & 0x4000, 0);
        assert!(piece.packet.len() <= 1_500);
        whole.extend_from_slice(&piece.packet[20..]);
    }
    whole
}

/// An INVITE that fills a packet to its last byte grows when it is translated, and leaves in two, whatever its sender said of
/// fragments; one that came in fragments is read like any other.
#[test]
fn a_02_an_invite_that_outgrows_the_mtu_leaves_in_fragments() {
    for (name, change) in SITES {
        for dont_fragment in [false, true] {
            let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
            let padded = |bytes: usize| format!("{}\na=x:{}", audio("10.0.0.2:4000"), "p".repeat(bytes));
            let invite = |bytes| request("INVITE", "big", (PHONE, "example.com"), &padded(bytes));
            let padding = 1_472 - invite(1_000).len() + 1_000;
            let text = invite(padding);
            assert_eq!(text.len(), 1_472);
            let frame = udp(PHONE, PROXY, text.as_bytes());
            let frame = if dont_fragment { with_dont_fragment(frame) } else { frame };
            line.net.verifies = false;
            let pieces = line.net.send(INSIDE, &frame);
            line.net.verifies = true;
            assert_eq!(pieces.len(), 2, "{name}");
            line.net.transmitted -= 1;
            let whole = together(&pieces);
            assert_eq!(
                usize::from(u16::from_be_bytes([whole[4], whole[5]])),
                whole.len(),
                "{name}: UDP length"
            );
            let got = String::from_utf8(whole[8..].to_vec()).unwrap();
            let announced = media_of(&got);
            let seen = line.seen.to_string();
            let want = padded(padding).replace("10.0.0.2", &announced.ip().to_string());
            let want = want.replace("audio 4000", &format!("audio {}", announced.port()));
            assert_eq!(got, request("INVITE", "big", (&seen, "example.com"), &want), "{name}");
            line.hears(&answer("200 OK", "big", (&seen, PROXY), &audio(FAR)));
            line.talks("10.0.0.2:4000", FAR, announced);
            line.says(&request("BYE", "big", (PHONE, PROXY), ""));
            assert_eq!(line.expected(), 1, "{name}");
        }
    }
}

/// Fault 5 of the reasons to switch an ALG off.
#[test]
fn fault_05_an_invite_in_fragments_is_read_in_every_order() {
    let long = format!("{}\na=x:{}", audio(FAR), "p".repeat(3_400));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let mut line = Line::registered(Net::with(SIP, |_| {}), PHONE, 3_600);
        let seen = line.seen.to_string();
        let invite = |to: &str| request("INVITE", "cut", (PROXY, to), &long);
        let frame = udp_between(at(PROXY), line.seen, invite(&seen).as_bytes());
        let cuts = [(0, 1_480), (1_480, 2_960), (2_960, usize::MAX)];
        let pieces: Vec<_> = order.iter().map(|at| fragment(&frame, cuts[*at].0, cuts[*at].1, 77)).collect();
        line.net.verifies = false;
        let left = line.net.send_all(OUTSIDE, &pieces);
        line.net.verifies = true;
        line.net.transmitted -= left.len() as u64 - 1;
        assert_eq!(String::from_utf8(together(&left)[8..].to_vec()).unwrap(), invite(PHONE), "{order:?}");
        let told = line.says(&answer("200 OK", "cut", (PROXY, PHONE), &audio("10.0.0.2:4000")));
        line.talks("10.0.0.2:4000", FAR, media_of(&told));
        line.is_left("cut");
    }
}

/// Thirty calls at once over one flow, where twelve were known; each ends by its own BYE.
#[test]
fn a_04_a_trunk_has_many_calls_at_a_time_and_each_ends_alone() {
    let mut line = Line::registered(Net::with(SIP, |_| {}), PHONE, 3_600);
    let names: Vec<String> = (0..30).map(|n| format!("trunk{n}")).collect();
    let media: Vec<String> = (0..30).map(|n| format!("10.0.0.2:{}", 4_000 + 2 * n)).collect();
    let announced: Vec<_> =
        names.iter().zip(&media).map(|(name, own)| line.is_called(name, own, FAR)).collect();
    assert_eq!(line.expected(), 61);
    for (own, announced) in media.iter().zip(&announced).step_by(7) {
        talk(&mut line.net, own, FAR, *announced);
    }
    for (ended, name) in names.iter().enumerate() {
        assert_eq!(line.expected(), 61 - 2 * ended, "{name}");
        line.is_left(name);
    }
    assert_eq!(line.expected(), 1);
}

/// The calls of all flows of a thread are in one table: a panic in one flow takes nothing from it.
#[test]
fn s_24_a_panic_costs_one_message_and_no_call() {
    let mut line = Line::registered(Net::with(SIP, |_| {}), PHONE, 3_600);
    let first = line.is_called("one", "10.0.0.2:4000", FAR);
    algate_alg::testing::panic_at(1);
    let unread = request("INFO", "one", (PHONE, PROXY), "");
    assert_eq!(line.says(&unread), unread, "it passes as it came");
    let second = line.is_called("two", "10.0.0.2:4002", FAR);
    line.talks("10.0.0.2:4000", FAR, first);
    line.talks("10.0.0.2:4002", FAR, second);
    line.is_left("one");
    assert_eq!(line.expected(), 3, "its end is noticed");
    line.is_left("two");
    assert_eq!(line.expected(), 1);
}

/// A Call-ID with the phone's address goes out under a name, and the answer finds the phone's call.
#[test]
fn a_hidden_call_id_comes_back_as_it_was_by_any_flow() {
    let mut line = Line::registered(with("hide_call_id = \"some words\"", |_| {}), PHONE, 3_600);
    let invite = request("INVITE", "7@10.0.0.2", (PHONE, "example.com"), &audio("10.0.0.2:4000"));
    let asked = line.says(&invite);
    let id = asked.split("Call-ID: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    assert!(id.starts_with("7@") && id.ends_with(".invalid"), "{id}");
    assert_eq!(asked.matches("10.0.0.2").count(), 1, "in the branch of this test's Via: {asked}");
    // Another proxy, which has the dialogue now, ends it.
    let (foreign, seen) = ("198.51.100.40:5080", line.seen.to_string());
    let bye = |to: &str, id: &str| {
        message(
            &format!(
                "BYE sip:bob@{to} SIP/2.0
                Via: SIP/2.0/UDP {foreign};branch=z9hG4bKb
                From: <sip:carol@example.com>;tag=from
                To: <sip:bob@example.com>;tag=to
                Call-ID: {id}
                CSeq: 2 BYE"
            ),
            "",
        )
    };
    let heard = line.net.one(OUTSIDE, &udp_between(at(foreign), line.seen, bye(&seen, &id).as_bytes()));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), bye(PHONE, "7@10.0.0.2"));
}
