//! Edited and added datagrams, and the end of a session, without an ALG that asks for them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::alg_stage::handover::Handover;
use crate::alg_stage::protocols::tests::config;
use crate::engine::Engine;
use crate::frame::RxChecksum;
use crate::ids::{NicPortId, TenantId, WorkerId};
use crate::nat::NatWorker;
use crate::nat::key::FlowKey;
use crate::packet::checksum;
use crate::packet::parse::ParsedKind;
use crate::packet::parse::parse;
use crate::packet::vec_frame::{VecFrame, VecIo};
use crate::router::egress::{Context, Egress};
use crate::router::neighbor::Proof;
use crate::time::Instant;
use crate::worker::Worker;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 2), 2070);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 3), 69);
const RRQ: &[u8] = b"\0\x01file\0octet\0";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A datagram of the client, as it arrives.
fn datagram(payload: &[u8]) -> (VecFrame, Ipv4View) {
    let mut io = VecIo::default();
    let mut frame = io.alloc().unwrap();
    let ip = Ipv4Fields::new(CLIENT.0.into(), SERVER.0.into());
    assert!(build::udp(&mut frame, &ip, (CLIENT.1, SERVER.1), payload));
    assert!(build::ethernet(frame.head_mut(), MAC, [6; 6], 0, 0x0800));
    let view = view_of(&frame);
    (frame, view)
}

fn view_of(frame: &VecFrame) -> Ipv4View {
    match parse(frame.head(), frame.len(), frame.rx_checksums()).unwrap().kind {
        ParsedKind::Ipv4(view) => view,
        ParsedKind::Arp { .. } => panic!("no IPv4"),
    }
}

/// One host's request to another through algate, untranslated: the session exists, and `act` has what a stage has.
fn with_session(
    act: impl FnOnce(&mut Surroundings<'_, VecIo>, Session<'_>, &mut AlgStage),
) -> Vec<(NicPortId, VecFrame)> {
    let config = config("[alg.tftp]\nenabled = true\n");
    let engine = Arc::new(Engine::new(&config, &[MAC], [1, 2, 3, 4]));
    let handover = Arc::new(Handover::new(1, 8));
    let now = Instant::from_nanos(1_000_000_000);
    let mut worker = Worker::new(Arc::clone(&engine), handover, WorkerId(0), now).unwrap();
    let mut io = VecIo::default();
    for host in [CLIENT.0, SERVER.0] {
        let interface = crate::ids::InterfaceId(0);
        assert!(engine.router.neighbors.learn(interface, host.into(), [6; 6], Proof::Request, now));
    }
    worker.receive(&mut io, now, NicPortId(0), &mut vec![datagram(RRQ).0]);
    io.take();
    let key = FlowKey::of(&datagram(RRQ).1, TenantId::NONE);
    let (session, _) = engine.nat.find(engine.nat.sessions.hash(key), key).expect("the request made it");
    assert!(session.is_alg());
    let counters = &engine.counters()[0];
    let context = Context { router: &engine.router, drops: &counters.egress_drops, now };
    let events = engine.events.recorder(WorkerId(0)).expect("there is a first worker");
    let mut nat_worker = NatWorker::new(3, 4, &engine.key, config.nat.hold, events);
    let mut egress = Egress::default();
    let mut around = Surroundings {
        context: &context,
        nat: &engine.nat,
        nat_worker: &mut nat_worker,
        identifications: &engine.identifications,
        egress: &mut egress,
        io: &mut io,
        counters: &counters.alg,
        oversight: &engine.oversight,
        thread: WorkerId(0),
        is_caught_up: true,
    };
    act(&mut around, session, &mut AlgStage::new(&config));
    io.take()
}

#[test]
fn what_an_alg_adds_leaves_as_a_datagram_in_either_direction() {
    let long = [b'x'; 2_000];
    let sent = with_session(|around, session, _| {
        inject(around, session, Direction::Original, b"to the server");
        inject(around, session, Direction::Reply, b"to the client");
        inject(around, session, Direction::Reply, &long);
    });
    let views: Vec<_> = sent.iter().map(|(_, frame)| view_of(frame)).collect();
    let ends = |view: &Ipv4View| (view.src_port, view.dst_port, Ipv4Addr::from(view.dst));
    assert_eq!(ends(&views[0]), (2070, 69, SERVER.0));
    assert_eq!(ends(&views[1]), (69, 2070, CLIENT.0));
    for (index, payload) in [&b"to the server"[..], b"to the client"].into_iter().enumerate() {
        let read = verified_payload(sent[index].1.head(), &views[index], RxChecksum::Unknown);
        assert_eq!(read, Some(payload));
    }
    // 1,500 bytes is the MTU: two fragments.
    assert_eq!(views.len(), 4);
    assert!(views[2..].iter().all(|view| !view.dont_fragment && view.packet_bytes() <= 1_500));
}

#[test]
fn a_datagram_that_outgrows_the_mtu_may_be_cut() {
    with_session(|around, session, _| {
        for (bytes, may_be_cut) in [(1_472, false), (1_473, true)] {
            let (mut frame, mut view) = datagram(RRQ);
            let facing = session.facing(Direction::Original);
            assert!(view.dont_fragment);
            assert!(replace(around, &mut frame, &mut view, &vec![7; bytes], session, facing));
            assert_eq!((view, !view.dont_fragment), (view_of(&frame), may_be_cut));
        }
    });
}

#[test]
fn a_terminated_session_is_gone_at_once() {
    with_session(|around, session, stage| {
        let at = stage.begin(around, &session).unwrap();
        let handled = stage.carry_out(around, at, &session, Verdict::Terminate);
        assert_eq!((handled, stage.flows()), (Handled::Drop(DropReason::AlgRemoved), 0));
        assert!(!session.is_live());
    });
}

#[test]
fn verdicts_decide_about_datagram_and_flow() {
    for (verdict, handled, flows, is_alg) in [
        (Verdict::Pass, Handled::Forward, 1, true),
        (Verdict::Rewrite, Handled::Forward, 1, true),
        (Verdict::Remove, Handled::Drop(DropReason::AlgRemoved), 1, true),
        (Verdict::Opaque, Handled::Forward, 0, false),
        (Verdict::Detach, Handled::Forward, 0, false),
    ] {
        with_session(|around, session, stage| {
            let at = stage.begin(around, &session).unwrap();
            assert_eq!(stage.carry_out(around, at, &session, verdict), handled, "{verdict:?}");
            assert_eq!((stage.flows(), session.is_alg()), (flows, is_alg), "{verdict:?}");
        });
    }
}

#[test]
fn edits_beyond_the_datagram_are_none_of_it() {
    let mut edits = Edits::with_capacity(4, 16);
    assert!(edits.replace(2..9, b"x"));
    assert!(!edited(b"12345678", &edits, &mut Vec::with_capacity(64)));
    assert!(edited(b"123456789", &edits, &mut Vec::with_capacity(64)));
    assert!(!edited(b"123456789", &edits, &mut Vec::with_capacity(2)), "no room is made");
}

proptest! {
    #[test]
    fn an_edited_datagram_is_right_in_every_field(
        payload in proptest::collection::vec(any::<u8>(), 1..400),
        ranges in proptest::collection::vec((0_usize..40, 0_usize..40, "[a-z]{0,30}"), 0..6),
    ) {
        let mut edits = Edits::with_capacity(8, 256);
        let (mut expected, mut at) = (Vec::new(), 0);
        for (gap, length, with) in &ranges {
            let start = at + gap;
            let end = start + length;
            if end > payload.len() || !edits.replace(start..end, with.as_bytes()) {
                break;
            }
            expected.extend_from_slice(&payload[at..start]);
            expected.extend_from_slice(with.as_bytes());
            at = end;
        }
        expected.extend_from_slice(&payload[at..]);
        let mut new = Vec::with_capacity(2_000);
        prop_assert!(edited(&payload, &edits, &mut new));
        prop_assert_eq!(&new, &expected);

        let (mut frame, mut view) = datagram(&payload);
        prop_assert!(replace_payload(&mut frame, &mut view, &new));
        prop_assert_eq!(view, view_of(&frame), "lengths and the header's checksum");
        prop_assert_eq!(verified_payload(frame.head(), &view, RxChecksum::Unknown), Some(&new[..]));
        let l4 = &frame.head()[usize::from(view.l4)..usize::from(view.end)];
        let pseudo_header = checksum::pseudo_header(view.src, view.dst, PROTOCOL_UDP, l4.len() as u16);
        prop_assert!(checksum::is_valid(l4, pseudo_header) && l4[6..8] != [0, 0]);
    }
}
