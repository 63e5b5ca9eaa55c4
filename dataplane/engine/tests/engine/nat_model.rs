//! Random operations against a NAT of plain maps: same verdict, same translation, the same mappings live.
//!
//! The model knows mappings and sessions as two maps, with the time of a session's last packet that counts. What it does not
//! predict is the port of a new mapping; it learns it, and insists on it from then on. Hosts differ in mapping and
//! filtering behaviour, one is a server behind a forward, all but one share a pool of a few ports, and quotas are small.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_config::{Config, FilteringBehavior, IcmpRefusal, MappingBehavior, NatAction};
use algate_engine::drop_reason::DropReason;
use proptest::prelude::*;

use crate::common::packets::udp_between;
use crate::common::{INSIDE, Net, OUTSIDE};

/// An internal endpoint, and the only remote one that its mapping serves, if there is one.
type Key = (SocketAddrV4, Option<SocketAddrV4>);

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It comes out like this; from an endpoint to be learned, for a new mapping.
    Passes {
        source: Result<SocketAddrV4, Key>,
        destination: SocketAddrV4,
    },
    Dies(DropReason),
}

/// A session, in a map by its internal endpoint and what that takes for the other end.
#[derive(Debug)]
struct Session {
    refreshed: u64,
    /// Whether the internal host has sent, so that the session keeps its mapping.
    has_sent: bool,
    mapping: Key,
    /// The mapping of the other end, for a hairpin.
    target: Option<Key>,
}

#[derive(Default)]
struct Model {
    now: u64,
    external: HashMap<Key, SocketAddrV4>,
    sessions: HashMap<(SocketAddrV4, SocketAddrV4), Session>,
}

impl Model {
    fn new() -> Self {
        Self { external: HashMap::from([((SERVER, None), FORWARD)]), ..Self::default() }
    }

    /// A packet from an internal host.
    fn outbound(&mut self, host: SocketAddrV4, to: SocketAddrV4) -> Verdict {
        let now = self.now;
        if let Some(session) = self.sessions.get_mut(&(host, to)) {
            (session.refreshed, session.has_sent) = (now, true);
            let destination = session.target.map_or(to, |(target, _)| target);
            return Verdict::Passes { source: Ok(self.external[&session.mapping]), destination };
        }
        // The other end of a hairpin.
        let external = &self.external;
        let hairpin = self.sessions.iter_mut().find(|(_, session)| {
            session.target.is_some_and(|(target, _)| target == host) && external[&session.mapping] == to
        });
        if let Some(((other, known_as), session)) = hairpin {
            session.refreshed = now;
            return Verdict::Passes { source: Ok(*known_as), destination: *other };
        }
        self.open(host, to).unwrap_or_else(Verdict::Dies)
    }

    fn open(&mut self, host: SocketAddrV4, to: SocketAddrV4) -> Result<Verdict, DropReason> {
        self.check_sessions(host)?;
        let is_hairpin = [NARROW, WIDE].contains(to.ip());
        let seen_as = if is_own_pool(host) { WIDE } else { NARROW };
        let target =
            if is_hairpin { Some(self.admitting(to, seen_as).ok_or(DropReason::NoMapping)?) } else { None };
        if target.is_some_and(|(target, _)| target == host) {
            return Err(DropReason::MartianDestination);
        }
        let mapping = (host, is_own_pool(host).then_some(to));
        let known = self.external.get(&mapping).copied();
        if known.is_none() {
            let used =
                |is_mine: &dyn Fn(&Key) -> bool| self.external.keys().filter(|key| is_mine(key)).count();
            if used(&|(other, _)| other.ip() == host.ip()) >= PORTS_PER_HOST {
                return Err(DropReason::QuotaPorts);
            }
            if !is_own_pool(host)
                && used(&|(other, _)| !is_own_pool(*other) && *other != SERVER) >= NARROW_PORTS
            {
                return Err(DropReason::PoolExhausted);
            }
        }
        let session = Session { refreshed: self.now, has_sent: true, mapping, target };
        self.sessions.insert((host, to), session);
        let destination = target.map_or(to, |(target, _)| target);
        Ok(Verdict::Passes { source: known.ok_or(mapping), destination })
    }

    /// A packet from the world; a stranger's session begins with it and is not refreshed by it.
    fn inbound(&mut self, remote: SocketAddrV4, to: SocketAddrV4) -> Verdict {
        let passes = |destination| Verdict::Passes { source: Ok(remote), destination };
        let known = self.sessions.iter().find(|((_, other), session)| {
            *other == remote && session.target.is_none() && self.external[&session.mapping] == to
        });
        if let Some(((host, _), _)) = known {
            return passes(*host);
        }
        let Some(mapping) = self.admitting(to, *remote.ip()) else {
            return Verdict::Dies(DropReason::NoMapping);
        };
        if let Err(reason) = self.check_sessions(mapping.0) {
            return Verdict::Dies(reason);
        }
        let session = Session { refreshed: self.now, has_sent: false, mapping, target: None };
        self.sessions.insert((mapping.0, remote), session);
        passes(mapping.0)
    }

    /// The mapping behind an external endpoint, if its filtering lets this address in.
    fn admitting(&self, external: SocketAddrV4, from: Ipv4Addr) -> Option<Key> {
        let (mapping, _) =
            self.external.iter().find(|((_, remote), held)| **held == external && remote.is_none())?;
        let mut contacts = self.sessions.iter().filter(|(_, session)| session.mapping == *mapping);
        let is_open = mapping.0.ip() != &FILTERS_ADDRESS;
        (is_open || contacts.any(|((_, remote), _)| *remote.ip() == from)).then_some(*mapping)
    }

    fn check_sessions(&self, host: SocketAddrV4) -> Result<(), DropReason> {
        let count = self.sessions.keys().filter(|(other, _)| other.ip() == host.ip()).count();
        if count < SESSIONS_PER_HOST { Ok(()) } else { Err(DropReason::QuotaSessions) }
    }

    /// Lets time pass: `true` when the ageing of no session is in its tolerance of a second.
    fn pass(&mut self, seconds: u64) -> bool {
        self.now += seconds;
        let now = self.now;
        let is_sharp =
            self.sessions.values().all(|session| !(300..=301).contains(&(now - session.refreshed)));
        self.sessions.retain(|_, session| now - session.refreshed < 300);
        let sessions = &self.sessions;
        let holds = |key: &Key| {
            *key == (SERVER, None)
                || sessions.values().any(|session| {
                    session.has_sent && (session.mapping == *key || session.target == Some(*key))
                })
        };
        self.external.retain(|key, _| holds(key));
        // Strangers without a mapping reach nobody, though their sessions linger.
        is_sharp && self.sessions.values().all(|session| self.external.contains_key(&session.mapping))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Outbound(usize, usize),
    /// From one internal host to a mapping's external endpoint, counted among those alive, or to a free one.
    Hairpin(usize, usize),
    /// From the world, to the same.
    Inbound(usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..9, 0_usize..4).prop_map(|(host, remote)| Step::Outbound(host, remote)),
        3 => (0_usize..9, 0_usize..12).prop_map(|(host, to)| Step::Hairpin(host, to)),
        5 => (0_usize..4, 0_usize..12).prop_map(|(remote, to)| Step::Inbound(remote, to)),
        2 => (1_u64..200).prop_map(Step::Pass),
    ]
}

/// Hosts .2 and .3 as by default, .4 with address-dependent filtering, .5 with mappings for one remote each, out of a
/// pool of its own, and a server.
fn site(workers: usize) -> Net {
    Net::with(FORWARDS, |config: &mut Config| {
        config.workers.cores = (1..=workers).collect();
        config.icmp.refusal = IcmpRefusal::None;
        config.nat.hold.time = Duration::ZERO;
        config.nat.limits.ports = PORTS_PER_HOST as u32;
        config.nat.limits.sessions = SESSIONS_PER_HOST as u32;
        let mut wide = config.nat.pools[0].clone();
        (wide.name, wide.ranges) = ("wide".to_owned(), vec![(WIDE, WIDE)]);
        config.nat.pools[0].ranges = vec![(NARROW, NARROW)];
        config.nat.pools[0].l4_ports = (3000, 2999 + NARROW_PORTS as u16);
        config.nat.pools.push(wide);
        let [mut filters, mut apart] = [(); 2].map(|()| config.nat.rules[0].clone());
        filters.internal = "10.0.0.4/32".parse().unwrap();
        filters.filtering = FilteringBehavior::AddressDependent;
        apart.internal = "10.0.0.5/32".parse().unwrap();
        apart.mapping = MappingBehavior::AddressAndPortDependent;
        apart.filtering = FilteringBehavior::AddressAndPortDependent;
        apart.action = NatAction::Translate(1);
        config.nat.rules.splice(0..0, [filters, apart]);
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_and_translation_is_the_models(steps in prop::collection::vec(step(), 1..100), workers in 1_usize..3) {
        let mut hosts: Vec<SocketAddrV4> =
            (0..8).map(|at| format!("10.0.0.{}:{}", 2 + at / 2, 5000 + at % 2).parse().unwrap()).collect();
        hosts.push(SERVER);
        let remotes: Vec<SocketAddrV4> =
            (0..4).map(|at| format!("198.51.100.{}:{}", 1 + at / 2, 53 + at % 2).parse().unwrap()).collect();
        let mut net = site(workers);
        let mut model = Model::new();
        for (number, step) in steps.into_iter().enumerate() {
            net.receiver = number % workers;
            let mut live: Vec<_> = model.external.values().copied().collect();
            live.sort();
            let external = |number: usize| live.get(number).copied().unwrap_or(SocketAddrV4::new(NARROW, 9));
            let (wire, from, to, verdict) = match step {
                Step::Outbound(host, remote) => {
                    let (host, to) = (hosts[host], remotes[remote]);
                    (INSIDE, host, to, model.outbound(host, to))
                }
                Step::Hairpin(host, to) => {
                    let (host, to) = (hosts[host], external(to));
                    (INSIDE, host, to, model.outbound(host, to))
                }
                Step::Inbound(remote, to) => {
                    let (remote, to) = (remotes[remote], external(to));
                    (OUTSIDE, remote, to, model.inbound(remote, to))
                }
                Step::Pass(seconds) => {
                    net.advance(Duration::from_secs(seconds));
                    let mut is_sharp = model.pass(seconds);
                    while !is_sharp {
                        net.advance(Duration::from_secs(2));
                        is_sharp = model.pass(2);
                    }
                    prop_assert_eq!(net.sessions().len(), model.sessions.len());
                    continue;
                }
            };
            let frame = udp_between(from, to, b"x");
            match verdict {
                Verdict::Dies(reason) => net.refused(wire, &frame, reason),
                Verdict::Passes { source, destination } => {
                    let out = net.one(wire, &frame);
                    prop_assert_eq!(out.destination, destination);
                    match source {
                        Ok(source) => prop_assert_eq!(out.source, source),
                        Err(mapping) => {
                            prop_assert!(!live.contains(&out.source), "shared");
                            let pool = if is_own_pool(from) { WIDE } else { NARROW };
                            prop_assert_eq!(*out.source.ip(), pool);
                            model.external.insert(mapping, out.source);
                        }
                    }
                }
            }
            let held: BTreeSet<_> = net.mappings().iter().map(|row| (row.internal, row.external)).collect();
            let known = model.external.iter().map(|((internal, _), external)| (*internal, *external));
            prop_assert_eq!(held, known.collect::<BTreeSet<_>>());
        }
    }
}

fn is_own_pool(host: SocketAddrV4) -> bool {
    *host.ip() == MAPS_REMOTE
}

const FORWARDS: &str = r#"
[[nat.forward]]
protocol = "udp"
external = "203.0.113.10:80"
internal = "10.0.0.9:53"
"#;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 53);
const FORWARD: SocketAddrV4 = SocketAddrV4::new(NARROW, 80);
const NARROW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const WIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const FILTERS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
const MAPS_REMOTE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const NARROW_PORTS: usize = 4;
const PORTS_PER_HOST: usize = 5;
const SESSIONS_PER_HOST: usize = 6;
