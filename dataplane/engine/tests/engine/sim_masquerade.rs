//! ALGs whose server sees algate in place of its client: what it is told of the client is an endpoint of algate's own, and
//! what it sends there arrives.

use std::net::SocketAddrV4;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{SYN, at, tcp_between, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{PROXY, SITES, answer, audio, media_of, request};

const SITE: &str = r#"
[alg.sip]
enabled = true

[alg.ftp]
enabled = true

[[nat.forward]]
protocol = "udp"
external = "203.0.113.11:5060"
internal = "10.0.0.9:5060"
masquerade = true

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:21"
internal = "10.0.0.9:21"
masquerade = true
"#;

const FORWARD: &str = "203.0.113.11:5060";
const SERVER: &str = "10.0.0.9:5060";
/// The media of the two ends, as these know themselves.
const FAR: &str = "198.51.100.1:30000";
const NEAR: &str = "10.0.0.9:4000";

fn next(endpoint: SocketAddrV4, above: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*endpoint.ip(), endpoint.port() + above)
}

/// A call from outside; what the server is told of the caller's media, and the caller of the server's.
fn call(net: &mut Net) -> [SocketAddrV4; 2] {
    let invite = request("INVITE", "in", (PROXY, FORWARD), &audio(FAR));
    let heard = net.one(OUTSIDE, &udp_between(at(PROXY), at(FORWARD), invite.as_bytes()));
    let (caller, text) = (heard.source, String::from_utf8(heard.payload).unwrap());
    assert_eq!((heard.destination, caller.ip()), (at(SERVER), at("10.0.0.1:0").ip()));
    assert!(!text.contains("198.51.100.1"), "{text}");
    let ok = answer("200 OK", "in", (&caller.to_string(), SERVER), &audio(NEAR));
    let told = net.one(INSIDE, &udp_between(at(SERVER), caller, ok.as_bytes()));
    assert_eq!((told.source, told.destination), (at(FORWARD), at(PROXY)));
    [media_of(&text), media_of(&String::from_utf8(told.payload).unwrap())]
}

#[test]
fn s_22_a_04_media_flow_through_a_forward_that_masquerades() {
    for (name, change) in SITES {
        for server_first in [false, true] {
            let mut net = Net::with(SITE, change);
            let [caller, server] = call(&mut net);
            assert_eq!((caller.ip(), caller.port() % 2), (at("10.0.0.1:0").ip(), 0), "{name}");
            assert_eq!((server.ip(), server.port() % 2), (at(FORWARD).ip(), 0), "{name}");
            for above in [0, 1] {
                let [far, near, caller, server] =
                    [at(FAR), at(NEAR), caller, server].map(|end| next(end, above));
                for n in 0..6 {
                    if (n % 2 == 0) == server_first {
                        let said = net.one(INSIDE, &udp_between(near, caller, b"voice"));
                        assert_eq!((said.source, said.destination), (server, far), "{name} {server_first}");
                    } else {
                        let heard = net.one(OUTSIDE, &udp_between(far, server, b"voice"));
                        assert_eq!(
                            (heard.source, heard.destination),
                            (caller, near),
                            "{name} {server_first}"
                        );
                    }
                }
            }
            let other = udp_between(at("10.0.0.8:4000"), caller, b"voice");
            net.refused(INSIDE, &other, DropReason::ExpectationPeer);
        }
    }
}

#[test]
fn algate_itself_keeps_its_ports_and_what_was_not_announced() {
    let mut net = Net::with(SITE, |_| {});
    let [caller, _] = call(&mut net);
    assert!((0x6000..0x8000).contains(&caller.port()));
    for l4_port in [caller.port() + 2, caller.port() - 1, 5351, 0x8000] {
        let own = SocketAddrV4::new(*caller.ip(), l4_port);
        net.refused(INSIDE, &udp_between(at(NEAR), own, b"?"), DropReason::LocalUnhandled);
    }
    // Of another protocol, and from outside.
    net.refused(INSIDE, &tcp_between(at(NEAR), caller, SYN, b""), DropReason::LocalUnhandled);
    net.refused(OUTSIDE, &udp_between(at(FAR), caller, b"?"), DropReason::LocalUnhandled);
}
