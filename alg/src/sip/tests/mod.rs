//! SIP dialogues through [`Driver`]: what each end reads, what is opened, what is counted.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::{Sip, SipSettings};
use crate::contract::{Direction, Event, Peer, Protocol, SessionEndpoints};
use crate::testing::{Driver, NatCall, sip};

mod descriptions;
mod dialogues;
mod faults;
mod garbage;
mod headers;
mod hostile;
mod limits;
mod policy;
mod segmentation;
mod third_parties;

/// Originator and responder, as senders.
const O: Direction = Direction::Original;
const R: Direction = Direction::Reply;

/// An internal phone 10.0.0.2:5060 seen as 198.51.100.7:30000, an external proxy 203.0.113.5:5060.
fn phone() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("10.0.0.2:5060"),
        originator_seen: at("198.51.100.7:30000"),
        responder: at("203.0.113.5:5060"),
        responder_seen: at("203.0.113.5:5060"),
    }
}

/// An external caller 203.0.113.50:5060, an internal server 10.0.0.9:5060 seen as 198.51.100.7:5060.
fn server() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("203.0.113.50:5060"),
        originator_seen: at("203.0.113.50:5060"),
        responder: at("10.0.0.9:5060"),
        responder_seen: at("198.51.100.7:5060"),
    }
}

/// An internal phone over TCP, from an ephemeral port.
fn stream_phone() -> SessionEndpoints {
    SessionEndpoints { originator: at("10.0.0.2:49152"), ..phone() }
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn udp(endpoints: SessionEndpoints) -> Driver<Sip> {
    Driver::new(sip(SipSettings::default(), Protocol::Udp), endpoints)
}

/// Over UDP, with other settings.
fn udp_with(endpoints: SessionEndpoints, change: impl FnOnce(&mut SipSettings)) -> Driver<Sip> {
    let mut settings = SipSettings::default();
    change(&mut settings);
    Driver::new(sip(settings, Protocol::Udp), endpoints)
}

fn tcp(endpoints: SessionEndpoints) -> Driver<Sip> {
    Driver::new(sip(SipSettings::default(), Protocol::Tcp), endpoints)
}

/// A message of these lines, with its Content-Length. Lines of text become lines of the wire.
fn message(head: &str, body: &str) -> Vec<u8> {
    let body = lines(body);
    format!("{}Content-Length: {}\r\n\r\n{body}", lines(head), body.len()).into_bytes()
}

fn lines(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// Sends a datagram and returns the one that leaves.
fn through(driver: &mut Driver<Sip>, direction: Direction, bytes: &[u8]) -> String {
    let leaving = driver.datagram(direction, bytes);
    assert_eq!(leaving.len(), 1, "{leaving:?}");
    assert_eq!(leaving[0].0, direction);
    String::from_utf8_lossy(&leaving[0].1).into_owned()
}

/// `got` must be `want`; shown as text where it is not.
#[track_caller]
fn same(got: &str, want: &[u8]) {
    let want = String::from_utf8_lossy(want);
    assert!(got == want, "got:\n{got}\nwant:\n{want}");
}

/// The events that were counted, with their counts.
fn counted(driver: &Driver<Sip>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}

/// The targets that are open, as text.
fn open(driver: &Driver<Sip>) -> Vec<String> {
    driver.nat.open_targets().iter().map(ToString::to_string).collect()
}

/// What was renewed with a new peer.
fn new_peers(driver: &Driver<Sip>) -> Vec<(u64, Peer)> {
    let renewed = driver.nat.calls.iter().filter_map(|call| match call {
        NatCall::Renew(id, _, Some(peer), true) => Some((id.0, *peer)),
        _ => None,
    });
    renewed.collect()
}

/// The last lifetime an expectation was given.
fn last_renewal(driver: &Driver<Sip>) -> Option<Duration> {
    driver.nat.calls.iter().rev().find_map(|call| match call {
        NatCall::Renew(_, lifetime, _, true) => Some(*lifetime),
        _ => None,
    })
}

/// A description with one RTP stream.
fn audio(address: &str, l4_port: u16) -> String {
    format!(
        "v=0\no=- 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio {l4_port} RTP/AVP 0 8\na=sendrecv\n"
    )
}

/// An INVITE of the phone.
fn invite(call: &str, extra: &str, body: &str) -> Vec<u8> {
    message(
        &format!(
            "INVITE sip:bob@example.com SIP/2.0
            Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK776;rport
            Max-Forwards: 70
            From: \"Alice\" <sip:alice@10.0.0.2>;tag=a1
            To: <sip:bob@example.com>
            Call-ID: {call}@10.0.0.2
            CSeq: 1 INVITE
            Contact: <sip:alice@10.0.0.2>
            {extra}Content-Type: application/sdp"
        ),
        body,
    )
}

/// A response to a request of the phone, as the proxy sends it.
fn response(status: &str, call: &str, cseq: &str, to_tag: &str, body: &str) -> Vec<u8> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
    message(
        &format!(
            "SIP/2.0 {status}
            Via: SIP/2.0/UDP 198.51.100.7:30000;branch=z9hG4bK776;rport=30000;received=198.51.100.7
            From: \"Alice\" <sip:alice@10.0.0.2>;tag=a1
            To: <sip:bob@example.com>;tag={to_tag}
            Call-ID: {call}@10.0.0.2
            CSeq: {cseq}
            Contact: <sip:bob@203.0.113.77:5070>
            {kind}"
        ),
        body,
    )
}

/// A request of the phone inside a dialogue.
fn in_dialog(method: &str, call: &str, to_tag: &str) -> Vec<u8> {
    message(
        &format!(
            "{method} sip:bob@203.0.113.77:5070 SIP/2.0
            Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK777;rport
            From: \"Alice\" <sip:alice@10.0.0.2>;tag=a1
            To: <sip:bob@example.com>;tag={to_tag}
            Call-ID: {call}@10.0.0.2
            CSeq: 2 {method}"
        ),
        "",
    )
}
