//! Real phones (PJSIP) at a real registrar and proxy (kamailio) outside: two inside, one outside, with audio. Neither phone nor
//! proxy works around the NAT here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use lab::capture::{
    Capture, Timed, assert_nothing_internal, assert_streams_hidden, streams, timed_streams, udp_payload,
    without_times,
};
use lab::hardship::{Cables, Hardship};
use lab::phone::{self, Phone};
use lab::rtp::{Packet, Talk, Tolerance, assert_arrived, packets};
use lab::{Lab, PATIENCE, SERVER, Side, is_full, is_of_pool, wait_until};

/// A lab with kamailio outside, and SIP served.
fn with_proxy(hardship: Hardship) -> Option<(Lab, Cables)> {
    if let Some(obstacle) = phone::obstacle() {
        eprintln!("SKIPPED: {obstacle}");
        return None;
    }
    let mut lab = Lab::up()?;
    lab.serve(Side::Ex, "kamailio");
    let cables = hardship.inflict(&lab, 5_060, "all");
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(hardship.settings()).replace(rule, &narrow);
    lab.start_from(&(config + "\n[alg.sip]\nenabled = true\n"));
    Some((lab, cables))
}

/// Alice and carol inside, bob outside, registered.
struct Phones {
    alice: Phone,
    carol: Phone,
    bob: Phone,
}

impl Phones {
    fn registered(lab: &Lab, transport: &str) -> Self {
        let start =
            |side, name, address, tone| Phone::start(lab, side, (name, address), (transport, SERVER), tone);
        let mut phones = Self {
            alice: start(Side::In, "alice", ALICE, ALICE_HZ),
            carol: start(Side::In, "carol", CAROL, CAROL_HZ),
            bob: start(Side::Ex, "bob", BOB, BOB_HZ),
        };
        for phone in [&mut phones.alice, &mut phones.carol, &mut phones.bob] {
            phone.register();
        }
        phones
    }
}

/// Where the proxy believes a phone to be.
fn location(lab: &Lab, name: &str) -> Option<SocketAddrV4> {
    let socket = format!("unixs:{}", lab.state.join("ex/kamailio.ctl").display());
    let dump = lab.expect(Side::Ex, "kamcmd", &["-s", &socket, "ul.dump"]);
    let contact = dump.lines().find_map(|line| line.split_once(&format!("Address: sip:{name}@")))?.1;
    contact.split(';').next()?.trim().parse().ok()
}

/// One calls the other; both hear each other.
fn call(caller: &mut Phone, callee: (&mut Phone, &str)) {
    caller.say(&format!("call {}", callee.1));
    for phone in [&*callee.0, &*caller] {
        phone.expect("confirmed");
    }
}

fn hang_up(one: &mut Phone, other: &Phone) {
    one.say("hang up");
    one.expect("ended 200");
    other.expect("ended 200");
}

/// Waits until no expectation stands for media.
fn assert_closed(lab: &Lab) {
    let media = || {
        let rows = lab.show("expectations");
        let is_media = |target: &str| {
            target.parse().is_ok_and(|target: SocketAddrV4| (4_000..4_100).contains(&target.port()))
        };
        rows.iter()
            .filter_map(|row| row["target"].as_str().map(str::to_owned))
            .filter(|target| is_media(target))
            .count()
    };
    assert!(wait_until(PATIENCE, || media() == 0), "{:?}", lab.show("expectations"));
}

/// Waits until a phone has got this many more packets of media.
fn listen(phone: &mut Phone, packets: u32) {
    let [_, before, _] = phone.count();
    let has_heard = || {
        thread::sleep(Duration::from_millis(100));
        phone.count()[1] >= before + packets
    };
    assert!(wait_until(PATIENCE, has_heard), "{:?}", phone.count());
}

/// The SIP messages that a cable carried: when the first byte of each passed, where to, and its text.
fn messages(cable: &[Timed]) -> Vec<(u64, SocketAddrV4, String)> {
    let mut found: Vec<(u64, SocketAddrV4, String)> = Vec::new();
    for (at, frame) in cable {
        let Some(payload) =
            udp_payload(frame).filter(|payload| payload.starts_with(b"SIP/2.0 ") || is_bye(payload))
        else {
            continue;
        };
        let address: [u8; 4] = frame[30..34].try_into().expect("four bytes");
        let to = SocketAddrV4::new(address.into(), u16::from_be_bytes([frame[36], frame[37]]));
        found.push((*at, to, String::from_utf8_lossy(payload).into_owned()));
    }
    for stream in timed_streams(cable) {
        let is_start = |at: &usize| {
            let rest = &stream.bytes[*at..];
            rest.starts_with(b"SIP/2.0 ") || is_bye(rest)
        };
        let starts: Vec<usize> = (0..stream.bytes.len()).filter(is_start).collect();
        let ends = starts.iter().skip(1).copied().chain([stream.bytes.len()]);
        found.extend(starts.iter().zip(ends).map(|(&start, end)| {
            (stream.at[start], stream.to, String::from_utf8_lossy(&stream.bytes[start..end]).into_owned())
        }));
    }
    found
}

fn is_bye(message: &[u8]) -> bool {
    message.starts_with(b"BYE sip:")
}

/// When the call's answer came to its caller's cable, and the first BYE to either.
fn talk([inside, outside]: &[Vec<Timed>; 2], caller: Side) -> Talk {
    let [inside, outside] = [inside, outside].map(|cable| messages(cable));
    let is_answer = |(_, to, text): &&(u64, SocketAddrV4, String)| {
        let is_to_caller = caller != Side::In || to.ip().to_string() == ALICE;
        is_to_caller && text.starts_with("SIP/2.0 200") && text.contains("m=audio")
    };
    let answers = if caller == Side::In { &inside } else { &outside }.iter().filter(is_answer);
    let answered = answers.map(|(at, ..)| *at).min().expect("the call was answered");
    let byes = inside.iter().chain(&outside).filter(|(.., text)| is_bye(text.as_bytes()));
    Talk { answered, ended: byes.map(|(at, ..)| *at).min().expect("somebody hung up") }
}

/// The way of the media of one call between alice and bob, of which each sent `least` packets. Each capture is of one cable.
///
/// None of alice's may be missing at the beginning, and where she answers none of bob's: her first few leave before her answer has told
/// which port is hers, so from another one, and bob's phone follows them there for ten packets (its probation of a new
/// source).
///
/// Where bob answers, his first few overtake the answer: media come from his own address, which nobody inside has heard of before;
/// the offer admits the proxy's side alone.
fn assert_heard(lab: &Lab, cables: &[Vec<Timed>; 2], caller: Side, least: usize, tolerance: Tolerance) {
    let [inside, outside] = &cables.each_ref().map(|frames| packets(frames));
    let talk = talk(cables, caller);
    let from_start = Talk { answered: 0, ..talk };
    let from_outside = if caller == Side::In { talk } else { from_start };
    let unread = lab.unread_frames();
    if unread > 0 {
        eprintln!("{unread} frames were lost before algate could read them");
    }
    for (sent, host, arrived, talk) in
        [(inside, ALICE, outside, from_start), (outside, BOB, inside, from_outside)]
    {
        assert_arrived(sent, host.parse().unwrap(), arrived, least, tolerance, talk);
    }
    let is_alices = |packet: &&Packet| packet.destination.ip().to_string() == BOB;
    assert!(outside.iter().filter(is_alices).all(|packet| is_of_pool(*packet.source.ip())));
    assert_hidden(&cables[1]);
}

/// Expects no internal address outside: in no frame, and in no stream however it was cut.
fn assert_hidden(outside: &[Timed]) {
    let outside = without_times(outside.to_vec());
    assert_nothing_internal(&outside);
    assert_streams_hidden(&streams(&outside));
}

/// All that telephones do in a day.
fn a_day(transport: &str, hardship: Hardship) {
    let Some((mut lab, mut wires)) = with_proxy(hardship) else { return };
    eprintln!("{transport}, {hardship:?}");
    let tolerance = Tolerance { late: 2, loss: hardship == Hardship::Lossy };
    let captures = || [Side::In, Side::Ex].map(|side| Capture::start(&lab, side));
    let cables = captures();
    let Phones { mut alice, mut carol, mut bob } = Phones::registered(&lab, transport);
    for name in ["alice", "carol"] {
        let location = location(&lab, name).expect("it is registered");
        assert!(is_of_pool(*location.ip()), "{name} is at {location}");
    }

    // Out, with a pause on the way.
    call(&mut alice, (&mut bob, "bob"));
    listen(&mut bob, 40);
    // In the phones' own words. (They lose count when a re-INVITE makes them set up their streams anew.)
    let lost = [alice.count()[2], bob.count()[2]];
    assert!(tolerance.loss || lost == [0, 0], "{lost:?}");
    alice.say("hold");
    bob.expect("silent");
    alice.expect("silent");
    alice.say("resume");
    bob.expect("speaking");
    alice.expect("speaking");
    listen(&mut alice, 40);
    hang_up(&mut alice, &bob);
    assert_closed(&lab);
    let cables = cables.map(Capture::timed_frames);
    assert_heard(&lab, &cables, Side::In, 80, tolerance);

    // In.
    let cables = captures();
    call(&mut bob, (&mut alice, "alice"));
    listen(&mut alice, 40);
    hang_up(&mut bob, &alice);
    assert_closed(&lab);
    let cables = cables.map(Capture::timed_frames);
    assert_heard(&lab, &cables, Side::Ex, 40, tolerance);

    // Inside, by way of the proxy outside: the media do not leave the gateway's inside.
    let cables = captures();
    call(&mut alice, (&mut carol, "carol"));
    listen(&mut alice, 40);
    listen(&mut carol, 20);
    hang_up(&mut carol, &alice);
    assert_closed(&lab);
    let cables = cables.map(Capture::timed_frames);
    let talk = talk(&cables, Side::In);
    let [inside, outside] = cables;
    assert_eq!(packets(&outside), []);
    assert_hidden(&outside);
    let (sent, arrived): (Vec<Packet>, Vec<Packet>) =
        packets(&inside).into_iter().partition(|packet| is_of_pool(*packet.destination.ip()));
    // Carol has answered.
    for (address, talk) in [(ALICE, Talk { answered: 0, ..talk }), (CAROL, talk)] {
        assert_arrived(&sent, address.parse().unwrap(), &arrived, 40, tolerance, talk);
    }

    // The registration is kept where it is, and taken back.
    let before = location(&lab, "alice");
    assert!(before.is_some());
    alice.register();
    assert_eq!(location(&lab, "alice"), before);
    carol.say("unregister");
    carol.expect("gone 200");
    assert_eq!(location(&lab, "carol"), None);
    for (phone, others) in [(alice, [BOB_HZ, CAROL_HZ, ALICE_HZ]), (bob, [ALICE_HZ, ALICE_HZ, BOB_HZ])] {
        let shares = phone.hear(&others);
        // One call may last ten times as long as another where the machine has other work; of a tone that was not heard there are 0.00003.
        assert!(shares[0] > 0.02 && shares[1] > 0.02 && shares[2] < 0.002, "{others:?}: {shares:?}");
    }
    drop(carol);
    wires.assert_were_hard();
    lab.stop();
}

#[test]
fn phones_at_a_proxy_outside_call_each_other_over_udp() {
    a_day("udp", Hardship::None);
}

#[test]
fn phones_at_a_proxy_outside_call_each_other_over_tcp() {
    a_day("tcp", Hardship::None);
}

#[test]
fn phones_bear_hardships() {
    for hardship in [Hardship::OwnCore, Hardship::Cut, Hardship::Lossy].into_iter().filter(|one| one.shown())
    {
        a_day("tcp", hardship);
        // A datagram is not cut.
        if is_full() && hardship != Hardship::Cut {
            a_day("udp", hardship);
        }
    }
}

const ALICE: &str = "10.0.0.2";
const CAROL: &str = "10.0.0.3";
const BOB: &str = "198.51.100.2";
/// The tones that they play, in Hz.
const ALICE_HZ: u32 = 440;
const CAROL_HZ: u32 = 620;
const BOB_HZ: u32 = 880;
