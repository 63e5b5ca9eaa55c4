//! What an ALG may ask of NAT: pairs, peers, renewal, budgets, and ports that stay shut.
//!
//! The questions are asked here as an ALG asks them, on behalf of a UDP session.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_alg::{
    Announced, Direction, ExpectError, Expectation as Request, Nat as _, Peer, Protocol, SessionEndpoints,
};
use algate_config::{Assignment, Config, FilteringBehavior, Hold, MappingBehavior, PortBlocks};
use algate_engine::alg_stage::nat_port::{NatPort, Promises};
use algate_engine::counters::ProtocolCounters;
use algate_engine::drop_reason::DropReason;
use algate_engine::ids::WorkerId;
use algate_engine::nat::NatWorker;
use algate_engine::nat::key::FlowKey;
use algate_engine::table::hash::HashKey;
use algate_engine::table::quiescence::Quiescence;
use algate_engine::table::slots::Handle;
use algate_engine::time::Instant;

use crate::common::packets::{at, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const PHONE: &str = "10.0.0.2:5060";
const PROXY: &str = "198.51.100.1:5060";
const MEDIA: &str = "10.0.0.2:7000";
const RTP: &str = "198.51.100.9:30000";

/// A session of a phone with its proxy, and what its owner needs to ask for something.
struct Dialogue {
    net: Net,
    session: Handle,
    endpoints: SessionEndpoints,
    promises: Promises,
    counters: ProtocolCounters,
    worker: NatWorker,
}

impl Dialogue {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// Mapping and filtering depend on address and port.
    fn strict() -> Self {
        Self::with(|config| {
            for rule in &mut config.nat.rules {
                rule.mapping = MappingBehavior::AddressAndPortDependent;
                rule.filtering = FilteringBehavior::AddressAndPortDependent;
            }
        })
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut net = Net::with("", change);
        let (session, seen) = open(&mut net, PHONE);
        let endpoints = SessionEndpoints {
            originator: at(PHONE),
            originator_seen: seen,
            responder: at(PROXY),
            responder_seen: at(PROXY),
        };
        let events = net.engine.events.recorder(WorkerId(0)).unwrap();
        let hold = Hold { time: Duration::ZERO, ports: 0 };
        let worker = NatWorker::new(7, 8, &HashKey::from_seed([9; 4]), hold, events);
        Self {
            net,
            session,
            endpoints,
            promises: Promises::new(8),
            counters: ProtocolCounters::default(),
            worker,
        }
    }

    fn ask<R>(&mut self, question: impl FnOnce(&mut NatPort<'_>) -> R) -> R {
        question(&mut NatPort {
            nat: &self.net.engine.nat,
            worker: &mut self.worker,
            session: self.session,
            endpoints: &self.endpoints,
            promises: &mut self.promises,
            counters: &self.counters,
            now: self.net.now,
        })
    }

    fn expect(&mut self, request: Request) -> Result<Announced, ExpectError> {
        self.ask(|nat| nat.expect(&request))
    }

    fn expect_pair(&mut self, request: Request) -> Result<[Announced; 2], ExpectError> {
        self.ask(|nat| nat.expect_pair(&request))
    }

    fn open(&self) -> usize {
        self.net.engine.expectation_rows(self.net.now, usize::MAX).len()
    }

    /// Gives back what this end has retired; nobody else holds anything between turns.
    fn reclaim(&mut self) {
        self.net.engine.nat.reclaim(&mut self.worker, &Quiescence::new(0), Instant::default());
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.reclaim();
    }
}

fn open(net: &mut Net, phone: &str) -> (Handle, SocketAddrV4) {
    let seen = net.one(INSIDE, &udp(phone, PROXY, b"REGISTER")).source;
    let key = FlowKey::new(17, at(phone).into(), at(PROXY).into());
    let sessions = &net.engine.nat.sessions;
    (sessions.handle(&sessions.find(sessions.hash(key), key).unwrap().0), seen)
}

fn request(target: &str, peer: Peer) -> Request {
    Request {
        protocol: Protocol::Udp,
        owner: Direction::Original,
        target: at(target),
        peer,
        peer_l4_port: None,
        uses: 1,
        lifetime: Duration::from_secs(60),
    }
}

fn from_rtp() -> Peer {
    Peer::Address(*at(RTP).ip())
}

#[test]
fn u_05_a_pair_is_even_adjacent_and_admits_both_flows() {
    let mut dialogue = Dialogue::strict();
    let [rtp, rtcp] = dialogue.expect_pair(request(MEDIA, from_rtp())).unwrap();
    assert_eq!((rtp.endpoint.port() % 2, rtcp.endpoint.port()), (0, rtp.endpoint.port() + 1));
    assert_eq!(
        (rtp.endpoint.ip(), rtcp.endpoint.ip()),
        (dialogue.endpoints.originator_seen.ip(), rtp.endpoint.ip())
    );
    let net = &mut dialogue.net;
    let stranger = udp_between(at("198.51.100.8:30000"), rtp.endpoint, b"");
    net.refused(OUTSIDE, &stranger, DropReason::ExpectationPeer);
    let inbound = net.one(OUTSIDE, &udp_between(at(RTP), rtp.endpoint, b"voice"));
    assert_eq!(inbound.destination, at(MEDIA));
    // Who sends first leaves from the announced port.
    let outbound = net.one(INSIDE, &udp("10.0.0.2:7001", "198.51.100.9:30001", b"report"));
    assert_eq!(outbound.source, rtcp.endpoint);
}

#[test]
fn a_pair_lies_in_one_block_of_the_subscriber() {
    let mut dialogue = Dialogue::with(|config| {
        config.tables.expectations = 128;
        config.alg.expectations_per_host = 64;
        config.nat.pools[0].blocks = Some(PortBlocks {
            ports: 64,
            per_host: 2,
            idle_hold: Duration::from_secs(1),
            assignment: Assignment::Dynamic,
        });
    });
    let own = dialogue.endpoints.originator_seen.port();
    let [rtp, rtcp] = dialogue.expect_pair(request(MEDIA, from_rtp())).unwrap();
    let block = |l4_port: u16| (l4_port - 1024) / 64;
    assert_eq!([rtp, rtcp].map(|one| block(one.endpoint.port())), [block(own); 2]);
    // 31 pairs beside the session's own port fill the block; the next lies in the second one.
    for n in 1..40_u16 {
        dialogue.promises = Promises::new(8);
        let target = format!("10.0.0.2:{}", 7_000 + 2 * n);
        let pair = dialogue.expect_pair(Request { target: at(&target), ..request(MEDIA, from_rtp()) });
        let Ok([rtp, rtcp]) = pair else {
            assert_eq!((n, pair), (32, Err(ExpectError::SessionBudget)), "64 for one subscriber");
            break;
        };
        assert_eq!(block(rtp.endpoint.port()), block(rtcp.endpoint.port()));
    }
    assert_eq!(dialogue.open(), 64);
}

#[test]
fn a_pair_that_cannot_be_had_leaves_nothing_behind() {
    // Ports 1024 to 1027: the session has one, so one pair is left.
    let mut dialogue = Dialogue::with(|config| config.nat.pools[0].l4_ports = (1024, 1027));
    dialogue.expect_pair(request(MEDIA, from_rtp())).unwrap();
    let (mappings, open) = (dialogue.net.mappings().len(), dialogue.open());
    let second = dialogue.expect_pair(request("10.0.0.2:7100", from_rtp()));
    assert_eq!(second, Err(ExpectError::PoolExhausted));
    assert_eq!(dialogue.expect_pair(request("10.0.0.2:65535", from_rtp())), Err(ExpectError::PoolExhausted));
    dialogue.reclaim();
    assert_eq!((dialogue.net.mappings().len(), dialogue.open()), (mappings, open));

    // Seven of eight are outstanding: both or none.
    let mut dialogue = Dialogue::new();
    for l4_port in 7_000..7_007 {
        dialogue.expect(request(&format!("10.0.0.2:{l4_port}"), from_rtp())).unwrap();
    }
    let pair = dialogue.expect_pair(request("10.0.0.2:7100", from_rtp()));
    assert_eq!((pair, dialogue.open()), (Err(ExpectError::SessionBudget), 7));
}

/// Where the port that is there has the wrong parity, a second pair is made beside it.
#[test]
fn a_pair_is_completed_beside_a_mapping_that_is_there_or_made_anew() {
    for there in [MEDIA, "10.0.0.2:7001"] {
        for _ in 0..4 {
            let mut dialogue = Dialogue::new();
            let external = dialogue.net.one(INSIDE, &udp(there, RTP, b"")).source;
            let fits = external.port().is_multiple_of(2) == (there == MEDIA);
            let pair = dialogue.expect_pair(request(MEDIA, from_rtp())).unwrap().map(|one| one.endpoint);
            assert_eq!(fits, pair.contains(&external), "{pair:?} {external}");
            assert_eq!((pair[0].port() % 2, pair[1].port()), (0, pair[0].port() | 1));
            let again = dialogue.expect_pair(request(MEDIA, Peer::OtherEnd)).unwrap();
            assert_eq!((pair, dialogue.open()), (again.map(|one| one.endpoint), 2));
            dialogue.reclaim();
        }
    }
}

#[test]
fn the_same_pair_asked_for_again_is_the_same() {
    let mut dialogue = Dialogue::new();
    let first = dialogue.expect_pair(request(MEDIA, from_rtp())).unwrap().map(|one| one.endpoint);
    let again = dialogue.expect_pair(request(MEDIA, Peer::OtherEnd)).unwrap().map(|one| one.endpoint);
    assert_eq!((first, dialogue.open()), (again, 2));
}

#[test]
fn renewal_moves_the_end_and_the_peer() {
    let mut dialogue = Dialogue::strict();
    let promised = dialogue.expect(Request { uses: u16::MAX, ..request(MEDIA, Peer::OtherEnd) }).unwrap();
    dialogue.net.advance(Duration::from_secs(50));
    let minute = Duration::from_secs(60);
    assert!(dialogue.ask(|nat| nat.renew(promised.id, minute, Some(from_rtp()))));
    dialogue.net.advance(Duration::from_secs(30));
    let old_peer = udp_between(at("198.51.100.1:30000"), promised.endpoint, b"");
    dialogue.net.refused(OUTSIDE, &old_peer, DropReason::ExpectationPeer);
    // As many as come.
    for l4_port in 30_000..30_005 {
        let sender = at(&format!("198.51.100.9:{l4_port}"));
        dialogue.net.one(OUTSIDE, &udp_between(sender, promised.endpoint, b""));
    }
    assert_eq!(dialogue.open(), 1);
    dialogue.net.advance(Duration::from_secs(31));
    assert_eq!(dialogue.open(), 0);
    assert!(!dialogue.ask(|nat| nat.renew(promised.id, minute, None)));
}

#[test]
fn an_expectation_by_filtering_keeps_the_mapping_and_opens_nothing() {
    for (mut dialogue, is_open) in [(Dialogue::new(), true), (Dialogue::strict(), false)] {
        let held = Request {
            uses: u16::MAX,
            lifetime: Duration::from_secs(3_600),
            ..request(PHONE, Peer::ByFiltering)
        };
        let announced = dialogue.expect(held).unwrap().endpoint;
        assert_eq!(announced, dialogue.endpoints.originator_seen, "what the proxy sees");
        let caller = udp_between(at("198.51.100.7:5060"), announced, b"INVITE");
        if is_open {
            dialogue.net.one(OUTSIDE, &caller);
        } else {
            dialogue.net.refused(OUTSIDE, &caller, DropReason::NoMapping);
        }
        assert_eq!(dialogue.open(), 1, "it has no uses to lose");
    }
}

#[test]
fn a_kept_mapping_becomes_an_opening_and_back() {
    let mut dialogue = Dialogue::strict();
    let hour = Duration::from_secs(3_600);
    let held = dialogue.expect(Request { uses: u16::MAX, ..request(MEDIA, Peer::ByFiltering) }).unwrap();
    let sender = |l4_port: u16| udp_between(SocketAddrV4::new(*at(RTP).ip(), l4_port), held.endpoint, b"");
    dialogue.net.refused(OUTSIDE, &sender(30_000), DropReason::NoMapping);
    assert!(dialogue.ask(|nat| nat.renew(held.id, hour, Some(from_rtp()))));
    dialogue.net.one(OUTSIDE, &sender(30_000));
    assert!(dialogue.ask(|nat| nat.renew(held.id, hour, Some(Peer::ByFiltering))));
    dialogue.net.refused(OUTSIDE, &sender(30_001), DropReason::NoMapping);
    dialogue.ask(|nat| nat.withdraw(held.id));
    assert_eq!(dialogue.open(), 0);
}

#[test]
fn ports_of_services_stay_shut() {
    let mut dialogue = Dialogue::new();
    for (name, l4_port) in [("ssh", 22), ("smb", 445), ("mysql", 3306), ("rdp", 3389), ("vnc", 5900)] {
        let target = format!("10.0.0.2:{l4_port}");
        assert_eq!(dialogue.expect(request(&target, from_rtp())), Err(ExpectError::ServicePort), "{name}");
        let below = format!("10.0.0.2:{}", l4_port - 1);
        assert_eq!(
            dialogue.expect_pair(request(&below, from_rtp())),
            Err(ExpectError::ServicePort),
            "{name}"
        );
    }
    assert_eq!((dialogue.counters.service_ports.value(), dialogue.open()), (10, 0));
}

#[test]
fn gre_gets_an_id_of_its_own_on_the_sessions_address_and_no_mapping() {
    let mut dialogue = Dialogue::new();
    let mappings = dialogue.net.mappings().len();
    let call =
        |id: u16| Request { protocol: Protocol::Gre, ..request(&format!("10.0.0.2:{id}"), Peer::OtherEnd) };
    let announced: Vec<_> = (20..28).map(|id| dialogue.expect(call(id)).unwrap().endpoint).collect();
    assert!(announced.iter().all(|one| one.ip() == dialogue.endpoints.originator_seen.ip()));
    let ids: std::collections::HashSet<u16> = announced.iter().map(SocketAddrV4::port).collect();
    assert!(ids.len() == 8 && !ids.contains(&0), "{ids:?}");
    assert_eq!(dialogue.expect(call(28)), Err(ExpectError::SessionBudget));
    assert_eq!(dialogue.counters.service_ports.value(), 0, "a call id is no port");
    assert_eq!((dialogue.net.mappings().len(), dialogue.open()), (mappings, 8));
}

#[test]
fn a_04_what_admits_as_many_as_come_keeps_its_udp_session_for_its_time() {
    for (uses, is_kept) in [(u16::MAX, true), (1, false)] {
        for peer in [Peer::ByFiltering, from_rtp()] {
            let mut dialogue = Dialogue::strict();
            let target = if peer == Peer::ByFiltering { PHONE } else { MEDIA };
            let lifetime = Duration::from_secs(3_600);
            let held = dialogue.expect(Request { uses, lifetime, ..request(target, peer) }).unwrap();
            dialogue.net.advance(Duration::from_secs(3_590));
            let from_proxy = udp_between(at(PROXY), dialogue.endpoints.originator_seen, b"INVITE");
            if !is_kept {
                assert_eq!((dialogue.net.sessions().len(), dialogue.open()), (0, 0), "five minutes of UDP");
                dialogue.net.refused(OUTSIDE, &from_proxy, DropReason::NoMapping);
                continue;
            }
            dialogue.net.one(OUTSIDE, &from_proxy);
            dialogue.ask(|nat| nat.withdraw(held.id));
            dialogue.net.advance(Duration::from_secs(12));
            assert_eq!(dialogue.net.sessions().len(), 0, "{peer:?}: what is idle ends with what kept it");
        }
    }
}

#[test]
fn a_subscriber_has_a_budget_over_all_its_sessions() {
    let mut dialogue = Dialogue::with(|config| {
        config.tables.expectations = 128;
        config.alg.expectations_per_host = 64;
    });
    let mut taken = 0;
    for session in 0..9_u16 {
        let (handle, seen) = open(&mut dialogue.net, &format!("10.0.0.2:{}", 6_000 + session));
        let own = at(&format!("10.0.0.2:{}", 6_000 + session));
        dialogue.session = handle;
        dialogue.endpoints =
            SessionEndpoints { originator: own, originator_seen: seen, ..dialogue.endpoints };
        dialogue.promises = Promises::new(8);
        for n in 0..8 {
            let target = format!("10.0.0.2:{}", 8_000 + session * 8 + n);
            taken += usize::from(dialogue.expect(request(&target, from_rtp())).is_ok());
        }
    }
    assert_eq!((taken, dialogue.open()), (64, 64));
    let (handle, seen) = open(&mut dialogue.net, "10.0.0.3:5060");
    dialogue.session = handle;
    let originator = at("10.0.0.3:5060");
    dialogue.endpoints = SessionEndpoints { originator, originator_seen: seen, ..dialogue.endpoints };
    dialogue.promises = Promises::new(8);
    assert!(dialogue.expect(request("10.0.0.3:7000", from_rtp())).is_ok(), "another has its own");
    dialogue.net.advance(Duration::from_secs(62));
    assert_eq!(dialogue.open(), 0);
}

#[test]
fn a_full_budget_still_replaces_what_waits_for_the_same_target() {
    let mut dialogue = Dialogue::new();
    dialogue.promises = Promises::new(1);
    let first = dialogue.expect(request(MEDIA, from_rtp())).unwrap();
    let second = dialogue.expect(request(MEDIA, Peer::OtherEnd)).unwrap();
    assert_eq!((first.endpoint, dialogue.open()), (second.endpoint, 1));
    assert_eq!(dialogue.expect(request("10.0.0.2:7002", from_rtp())), Err(ExpectError::SessionBudget));
}
