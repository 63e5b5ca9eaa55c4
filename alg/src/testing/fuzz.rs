//! Every ALG over arbitrary bytes, with both ends hostile: what the fuzz targets run, and the tests with random bytes.
//!
//! A run is a row of turns. The ALG sees it once as it comes and once in small pieces, and must do the same both times; what
//! the contract forbids is found by [`Driver`] on each call. The policy refuses, removes and hides what it is asked
//! about by a rule that looks random and depends on nothing but the subject.

use std::net::SocketAddrV4;

use super::{Driver, FakePolicy, internal_client, internal_server, sip};
use crate::contract::{Alg, Direction, Protocol, Ruling, SessionEndpoints, Subject};
use crate::ftp::{Ftp, FtpSettings};
use crate::irc::{Irc, IrcSettings};
use crate::policy::Prefix;
use crate::pptp::{Pptp, PptpSettings};
use crate::rtsp::{Rtsp, RtspSettings};
use crate::sip::{CallIdKey, Sip, SipSettings};
use crate::tftp::{Tftp, TftpSettings};

/// Runs FTP over arbitrary bytes, as [`fuzz_streams`] does.
pub fn fuzz_ftp(data: &[u8]) {
    let settings = FtpSettings { line_bytes: 100, ..FtpSettings::default() };
    fuzz_streams(|| Ftp::new(settings), 21, data);
}

/// Runs IRC over arbitrary bytes, as [`fuzz_streams`] does.
pub fn fuzz_irc(data: &[u8]) {
    let settings = IrcSettings { line_bytes: 100, ..IrcSettings::default() };
    fuzz_streams(|| Irc::new(settings), 6667, data);
}

/// Runs RTSP over arbitrary bytes, as [`fuzz_streams`] does.
pub fn fuzz_rtsp(data: &[u8]) {
    let settings = RtspSettings { message_bytes: 300, ..RtspSettings::default() };
    fuzz_streams(|| Rtsp::new(settings), 554, data);
}

/// Runs PPTP over arbitrary bytes, as [`fuzz_streams`] does.
pub fn fuzz_pptp(data: &[u8]) {
    fuzz_streams(|| Pptp::new(PptpSettings::default()), 1723, data);
}

/// Runs TFTP over arbitrary datagrams, in turns as [`fuzz_streams`] has them.
pub fn fuzz_tftp(data: &[u8]) {
    let mut driver =
        ruled(Driver::new(Tftp::new(TftpSettings::default()), endpoints(69, data)), is_ruled(data));
    for (direction, turn) in turns(data) {
        driver.datagram(direction, turn);
    }
}

/// Runs an ALG over arbitrary bytes, once as they come and once in small pieces, and compares.
///
/// `data` is a row of turns: a byte whose top bit says who sends and whose other bits say how many
/// of the following bytes (0 to 127) are sent at once. All bytes together also choose the policy, and whether client or
/// server is internal.
pub fn fuzz_streams<A: Alg>(alg: impl Fn() -> A, l4_port: u16, data: &[u8]) {
    let turns: Vec<_> = turns(data).collect();
    let driver = || ruled(Driver::new(alg(), endpoints(l4_port, data)), is_ruled(data));
    let [whole, piecewise] = both_ways(&driver, &turns);
    assert_eq!(whole.outcome().joined(), piecewise.outcome().joined());
}

/// Runs SIP over arbitrary bytes. Over TCP once as they come and once in small pieces, and compares; over UDP
/// as datagrams.
///
/// The first byte chooses: bit 0 the transport, bit 1 the end that is translated, bit 2 a short limit of
/// messages, bit 3 a policy, bit 4 what the operator may allow about third parties and Call-IDs. Then come turns: two
/// bytes, the top bit says who sends and the others say how many of the following bytes (0 to 32,767) are sent at once.
pub fn fuzz_sip(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let endpoints = sip_endpoints(choice & 2 == 0);
    let mut settings = SipSettings { calls: 8, calls_per_flow: 4, ..SipSettings::default() };
    if choice & 4 != 0 {
        settings.message_bytes = 600;
    }
    if choice & 16 != 0 {
        settings.direct_media = true;
        settings.media_hosts = [Some(Prefix { network: [10, 0, 0, 2].into(), length: 31 }); 8];
        settings.call_id_key = Some(CallIdKey::new("words"));
    }
    let driver =
        |transport| ruled(allowed(Driver::new(sip(settings, transport), endpoints)), choice & 8 != 0);
    let turns: Vec<_> = long_turns(data).collect();
    if choice & 1 == 0 {
        let mut driver = driver(Protocol::Udp);
        for (direction, turn) in turns {
            driver.datagram(direction, turn);
        }
        return;
    }
    let [whole, piecewise] = both_ways(&|| driver(Protocol::Tcp), &turns);
    let (whole, piecewise) = (whole.outcome(), piecewise.outcome());
    // What is not read is decided in the pieces it comes in, so the verdicts are not compared.
    assert_eq!(whole.original, piecewise.original);
    assert_eq!(whole.reply, piecewise.reply);
    assert_eq!((whole.events, whole.calls), (piecewise.events, piecewise.calls));
}

/// A phone 10.0.0.2 seen as 198.51.100.7, a server 203.0.113.5.
fn sip_endpoints(is_outbound: bool) -> SessionEndpoints {
    let internal = SocketAddrV4::new([10, 0, 0, 2].into(), 5060);
    let seen = SocketAddrV4::new([198, 51, 100, 7].into(), 30_000);
    let external = SocketAddrV4::new([203, 0, 113, 5].into(), 5060);
    if is_outbound {
        SessionEndpoints {
            originator: internal,
            originator_seen: seen,
            responder: external,
            responder_seen: external,
        }
    } else {
        SessionEndpoints {
            originator: external,
            originator_seen: external,
            responder: internal,
            responder_seen: seen,
        }
    }
}

/// With a neighbour of the internal end that it may speak for, and media of another one that were announced.
fn allowed(mut driver: Driver<Sip>) -> Driver<Sip> {
    driver.nat.others.push([10, 0, 0, 3].into());
    for l4_port in 20_000..20_008 {
        let announced = SocketAddrV4::new([198, 51, 100, 7].into(), l4_port);
        driver.nat.announced.push((announced, SocketAddrV4::new([10, 0, 0, 4].into(), l4_port)));
    }
    driver
}

fn both_ways<A: Alg>(driver: &impl Fn() -> Driver<A>, turns: &[(Direction, &[u8])]) -> [Driver<A>; 2] {
    let mut drivers = [driver(), driver()];
    let [whole, piecewise] = &mut drivers;
    // Single bytes, but of long inputs somewhat longer pieces: each is looked at again with all that is held.
    let piece = 1 + turns.iter().map(|(_, turn)| turn.len()).sum::<usize>() / 400;
    for &(direction, turn) in turns {
        whole.feed(direction, turn);
        for bytes in turn.chunks(piece) {
            piecewise.feed(direction, bytes);
        }
    }
    for direction in [Direction::Original, Direction::Reply] {
        whole.end(direction);
        piecewise.end(direction);
    }
    drivers
}

fn endpoints(l4_port: u16, data: &[u8]) -> SessionEndpoints {
    if choice(data) & 8 == 0 { internal_client(l4_port) } else { internal_server(l4_port) }
}

/// Everything is allowed in seven of eight runs.
fn is_ruled(data: &[u8]) -> bool {
    choice(data) & 7 == 7
}

/// With a policy that answers every question by chance, if it `is_ruled`.
fn ruled<A: Alg>(mut driver: Driver<A>, is_ruled: bool) -> Driver<A> {
    if is_ruled {
        driver.policy = FakePolicy(by_chance);
        // What reaches these questions was allowed, so the same chance would never refuse it.
        driver.unreadable = |subject| by_chance(&Subject { user: b"unreadable", ..*subject });
        driver.masks = |subject| by_chance(&Subject { user: b"masks", ..*subject }) != Ruling::Allow;
    }
    driver
}

fn choice(data: &[u8]) -> u8 {
    data.iter().fold(0_u8, |sum, byte| sum.rotate_left(1) ^ byte)
}

/// A ruling that is the same for the same subject.
fn by_chance(subject: &Subject<'_>) -> Ruling {
    let bytes = subject.command.iter().chain(subject.argument).chain(subject.user);
    let sum = bytes.fold(7_u8, |sum, byte| sum.rotate_left(3) ^ byte);
    match sum & 3 {
        0 => Ruling::Deny,
        1 => Ruling::Drop,
        _ => Ruling::Allow,
    }
}

fn turns(mut data: &[u8]) -> impl Iterator<Item = (Direction, &[u8])> {
    std::iter::from_fn(move || {
        let (&head, rest) = data.split_first()?;
        let (turn, rest) = rest.split_at(usize::from(head & 0x7f).min(rest.len()));
        data = rest;
        Some((direction(head), turn))
    })
}

fn long_turns(mut data: &[u8]) -> impl Iterator<Item = (Direction, &[u8])> {
    std::iter::from_fn(move || {
        let (&[high, low], rest) = data.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high & 0x7f, low]));
        let (turn, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        Some((direction(high), turn))
    })
}

fn direction(head: u8) -> Direction {
    if head & 0x80 == 0 { Direction::Original } else { Direction::Reply }
}
