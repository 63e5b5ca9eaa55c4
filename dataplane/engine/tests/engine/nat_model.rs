//! Random operations against a NAT in twenty lines: same verdict, same translation.
//!
//! The model knows mappings as a plain map and sessions as pairs with the time of their last outbound packet.
//! What it does not predict is the port of a new mapping; it learns it, and insists on it from then on.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use proptest::prelude::*;

use crate::common::packets::udp_between;
use crate::common::{INSIDE, Net, OUTSIDE};

/// UDP sessions and mappings, in seconds.
#[derive(Default)]
struct Model {
    now: u64,
    external: HashMap<SocketAddrV4, SocketAddrV4>,
    /// Internal endpoint, remote endpoint: last refreshed, and whether the internal host has sent.
    sessions: HashMap<(SocketAddrV4, SocketAddrV4), (u64, bool)>,
}

impl Model {
    /// Where an outbound packet leaves from; `None`: from anywhere free.
    fn outbound(&mut self, host: SocketAddrV4, remote: SocketAddrV4) -> Option<SocketAddrV4> {
        self.sessions.insert((host, remote), (self.now, true));
        self.external.get(&host).copied()
    }

    /// Who gets an inbound packet; a stranger's session begins with it and is not refreshed by it.
    fn inbound(&mut self, remote: SocketAddrV4, external: SocketAddrV4) -> Option<SocketAddrV4> {
        let (host, _) = self.external.iter().find(|(_, held)| **held == external)?;
        self.sessions.entry((*host, remote)).or_insert((self.now, false));
        Some(*host)
    }

    /// Lets time pass: `true` when the ageing of no session is in its tolerance of a second.
    fn pass(&mut self, seconds: u64) -> bool {
        self.now += seconds;
        let now = self.now;
        let is_sharp = self.sessions.values().all(|(seen, _)| !(300..=301).contains(&(now - seen)));
        self.sessions.retain(|_, (seen, _)| now - *seen < 300);
        let live: HashSet<_> =
            self.sessions.iter().filter(|(_, (_, sent))| *sent).map(|((host, _), _)| *host).collect();
        self.external.retain(|host, _| live.contains(host));
        // Strangers without a mapping reach nobody, though their sessions linger.
        is_sharp && self.sessions.keys().all(|(host, _)| live.contains(host))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Outbound(usize, usize),
    /// To a mapping's external endpoint, counted among those alive, or to a free one.
    Inbound(usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_usize..12, 0_usize..6).prop_map(|(host, remote)| Step::Outbound(host, remote)),
        5 => (0_usize..6, 0_usize..14).prop_map(|(remote, to)| Step::Inbound(remote, to)),
        2 => (1_u64..200).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_and_translation_is_the_models(steps in prop::collection::vec(step(), 1..120), burst in 1_usize..3) {
        let hosts: Vec<SocketAddrV4> =
            (0..12).map(|at| format!("10.0.0.{}:{}", 2 + at / 3, 5000 + at % 3).parse().unwrap()).collect();
        let remotes: Vec<SocketAddrV4> =
            (0..6).map(|at| format!("198.51.100.{}:{}", 1 + at / 2, 53 + at % 2).parse().unwrap()).collect();
        let mut net = Net::with("", |config| config.workers.cores = (1..=burst).collect());
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            net.receiver = number % burst;
            match step {
                Step::Outbound(host, remote) => {
                    let (host, remote) = (hosts[host], remotes[remote]);
                    let out = net.one(INSIDE, &udp_between(host, remote, b"out"));
                    prop_assert_eq!(out.destination, remote);
                    match model.outbound(host, remote) {
                        Some(external) => prop_assert_eq!(out.source, external),
                        None => {
                            prop_assert!(!model.external.values().any(|held| *held == out.source), "shared");
                            model.external.insert(host, out.source);
                        }
                    }
                }
                Step::Inbound(remote, to) => {
                    let mut live: Vec<_> = model.external.values().copied().collect();
                    live.sort();
                    let to = live.get(to).copied().unwrap_or("203.0.113.10:80".parse().unwrap());
                    let seen = net.send(OUTSIDE, &udp_between(remotes[remote], to, b"in"));
                    let got: Vec<_> = seen.iter().map(|seen| (seen.source, seen.destination)).collect();
                    let expected = model.inbound(remotes[remote], to);
                    prop_assert_eq!(got, Vec::from_iter(expected.map(|host| (remotes[remote], host))));
                }
                Step::Pass(seconds) => {
                    net.advance(Duration::from_secs(seconds));
                    let mut is_sharp = model.pass(seconds);
                    while !is_sharp {
                        net.advance(Duration::from_secs(2));
                        is_sharp = model.pass(2);
                    }
                    prop_assert_eq!(net.sessions().len(), model.sessions.len());
                    prop_assert_eq!(net.mappings().len(), model.external.len());
                }
            }
        }
    }
}
