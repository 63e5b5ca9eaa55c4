//! Media that overtake the answer which speaks of them: once both descriptions have passed, no packet is lost or leaves from another
//! port than the announced one.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::{Config, FilteringBehavior};

use crate::common::packets::{at, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{Change, FAR, Line, PHONE, PROXY, SIP, SITES, answer, audio, media_of, request};

const MEDIA: &str = "10.0.0.2:4000";

fn filtering(config: &mut Config, filtering: FilteringBehavior) {
    config.nat.rules.iter_mut().for_each(|rule| rule.filtering = filtering);
}

pub(crate) const FILTERS: [(&str, Change); 2] = [
    ("by address", |config| filtering(config, FilteringBehavior::AddressDependent)),
    ("by endpoint", |config| filtering(config, FilteringBehavior::AddressAndPortDependent)),
];

fn above(endpoint: &str, above: u16) -> SocketAddrV4 {
    let endpoint = at(endpoint);
    SocketAddrV4::new(*endpoint.ip(), endpoint.port() + above)
}

/// Both ways that a phone tells where its media are before its call is answered or as it is; it has spoken before.
#[test]
fn a_04_what_an_early_speaker_sends_after_its_description_leaves_from_the_announced_port() {
    for (name, change) in SITES.into_iter().chain(FILTERS) {
        for status in ["183 Session Progress", "200 OK"] {
            for early in [&[0][..], &[1], &[0, 1]] {
                let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
                let seen = line.seen.to_string();
                line.hears(&request("INVITE", "soon", (PROXY, &seen), &audio(FAR)));
                let mut first = Vec::new();
                for &index in early {
                    let out =
                        line.net.one(INSIDE, &udp_between(above(MEDIA, index), above(FAR, index), b"e"));
                    first.push((index, out.source));
                }
                let told = line.says(&answer(status, "soon", (PROXY, PHONE), &audio(MEDIA)));
                let announced = media_of(&told).to_string();
                let case = format!("{name}, {status}, {early:?}");
                for index in [0, 1] {
                    // Nobody has spoken to the announced port yet.
                    let out =
                        line.net.one(INSIDE, &udp_between(above(MEDIA, index), above(FAR, index), b"v"));
                    assert_eq!(
                        (out.source, out.destination),
                        (above(&announced, index), above(FAR, index)),
                        "{case}"
                    );
                }
                for _ in 0..10 {
                    // The far end follows the first port for a while, and the phone speaks meanwhile.
                    for (index, before) in &first {
                        let heard = line.net.one(OUTSIDE, &udp_between(above(FAR, *index), *before, b"late"));
                        assert_eq!(heard.destination, above(MEDIA, *index), "{case}");
                        assert_eq!(heard.source, above(FAR, *index), "{case}");
                    }
                    line.talks(MEDIA, FAR, at(&announced));
                }
                line.hears(&request("ACK", "soon", (PROXY, &seen), ""));
                line.is_left("soon");
                assert_eq!(line.expected(), 1, "{case}");
            }
        }
    }
}

/// The far end answers from yet another port, and has heard the first one.
#[test]
fn a_04_a_first_packet_to_the_announced_port_leaves_the_early_one_open() {
    for (name, change) in SITES.into_iter().chain(FILTERS) {
        let mut line = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        let seen = line.seen.to_string();
        line.hears(&request("INVITE", "soon", (PROXY, &seen), &audio("198.51.100.9:40000")));
        // Not where the description says: only the packet that comes from there tells.
        let early = [0, 1].map(|index| {
            line.net.one(INSIDE, &udp_between(above(MEDIA, index), above(FAR, index), b"early")).source
        });
        let told = line.says(&answer("200 OK", "soon", (PROXY, PHONE), &audio(MEDIA)));
        line.talks(MEDIA, FAR, media_of(&told));
        for (index, before) in (0..).zip(early) {
            let heard = line.net.one(OUTSIDE, &udp_between(above(FAR, index), before, b"late"));
            assert_eq!(heard.destination, above(MEDIA, index), "{name}");
        }
        line.talks(MEDIA, FAR, media_of(&told));
        line.is_left("soon");
    }
}

/// A session that has given way is the phone's again when what took its place has ended before it.
#[test]
fn a_09_the_early_session_is_used_again_when_the_expected_one_has_ended() {
    let net = Net::with(SIP, |config| {
        config.timeouts.udp_inbound_refresh = true;
    });
    let mut line = Line::registered(net, PHONE, 3_600);
    let seen = line.seen.to_string();
    line.hears(&request("INVITE", "soon", (PROXY, &seen), &audio(FAR)));
    let early = [0, 1]
        .map(|index| line.net.one(INSIDE, &udp_between(above(MEDIA, index), above(FAR, index), b"e")).source);
    let told = line.says(&answer("200 OK", "soon", (PROXY, PHONE), &audio(MEDIA)));
    let announced = media_of(&told).to_string();
    let changed = (0..).zip(early).any(|(index, early)| early != above(&announced, index));
    assert!(changed, "ports of two early flows are no pair");
    line.is_left("soon");
    let before = line.net.sessions().len();
    // The far end speaks to the first ports alone, the phone is silent: what was announced ends.
    for _ in 0..14 {
        line.net.advance(Duration::from_secs(30));
        for (index, early) in (0..).zip(early) {
            let heard = line.net.one(OUTSIDE, &udp_between(above(FAR, index), early, b"still"));
            assert_eq!(heard.destination, above(MEDIA, index));
        }
    }
    let left = line.net.sessions().len();
    assert!(left < before);
    for (index, early) in (0..).zip(early).cycle().take(8) {
        let out = line.net.one(INSIDE, &udp_between(above(MEDIA, index), above(FAR, index), b"again"));
        assert_eq!((out.source, line.net.sessions().len()), (early, left));
    }
}
