//! Single stages: parse, key and hash, lookup, translate.

use std::hint::black_box;
use std::time::Duration;

use algate_engine::frame::{Frame, RxChecksums};
use algate_engine::ids::{InterfaceId, TenantId};
use algate_engine::nat::idle_times::IdleTimes;
use algate_engine::nat::key::{Endpoint, FlowKey};
use algate_engine::nat::session::{Candidate, Capacity, NewSession, Sessions};
use algate_engine::packet::PROTOCOL_UDP;
use algate_engine::packet::parse::{Ipv4View, L4Class, Parsed, ParsedKind, parse};
use algate_engine::packet::rewrite::{Translation, Tuple, decrement_ttl, translate};
use algate_engine::router::egress::NextHop;
use algate_engine::router::neighbor::NeighborRef;
use algate_engine::table::hash::HashKey;
use algate_engine::table::sync::Writers;
use algate_engine::time::Instant;

use crate::frames::PoolFrame;
use crate::items::{BURST, CHUNK, Random};
use crate::rig::{Rig, endpoint_of, remote_of};
use crate::sample::Item;

/// Frame to [`Ipv4View`].
#[derive(Debug)]
pub struct Parse {
    frames: Vec<PoolFrame>,
}

impl Default for Parse {
    fn default() -> Self {
        Self { frames: frames() }
    }
}

impl Item for Parse {
    fn name(&self) -> String {
        "parse".to_owned()
    }

    fn chunk(&mut self) -> Option<u64> {
        for frame in &self.frames {
            let _ = black_box(parse(black_box(frame.head()), frame.len(), RxChecksums::default()));
        }
        Some(self.frames.len() as u64)
    }
}

/// [`Ipv4View`] to the hash of its flow.
#[derive(Debug)]
pub struct KeyAndHash {
    views: Vec<Ipv4View>,
    key: HashKey,
}

impl Default for KeyAndHash {
    fn default() -> Self {
        Self { views: views(&frames()), key: HashKey::from_seed([1, 2, 3, 4]) }
    }
}

impl Item for KeyAndHash {
    fn name(&self) -> String {
        "key_and_hash".to_owned()
    }

    fn chunk(&mut self) -> Option<u64> {
        for view in &self.views {
            black_box(FlowKey::of(black_box(view), TenantId::NONE).hash(&self.key));
        }
        Some(self.views.len() as u64)
    }
}

/// Rewriting a UDP packet's addresses, ports, TTL and checksums.
#[derive(Debug)]
pub struct Translate {
    frames: Vec<PoolFrame>,
    views: Vec<Ipv4View>,
    translations: [Translation; 2],
}

impl Default for Translate {
    fn default() -> Self {
        let frames = frames();
        let views = views(&frames);
        let tuple = |flow| {
            let (host, src_port) = endpoint_of(flow);
            Tuple { src: host.into(), dst: remote_of(flow).into(), src_port, dst_port: 7 }
        };
        // There and back again: the checksums stay right, however often.
        let there = Translation::new(L4Class::Udp, tuple(0), tuple(100));
        let back = Translation::new(L4Class::Udp, tuple(100), tuple(0));
        Self { frames, views, translations: [there, back] }
    }
}

impl Item for Translate {
    fn name(&self) -> String {
        "translate".to_owned()
    }

    fn chunk(&mut self) -> Option<u64> {
        let [to, _] = self.translations;
        for (frame, view) in self.frames.iter_mut().zip(&self.views) {
            let head = frame.head_mut();
            let _ = black_box(translate(head, black_box(view), black_box(&to)));
            decrement_ttl(head, view);
        }
        self.translations.rotate_left(1);
        Some(self.frames.len() as u64)
    }
}

/// Finding the session of a flow as a worker does: hash and prefetch a burst, prefetch its sessions, find.
#[derive(Debug)]
pub struct Lookup {
    flows: u32,
    sessions: Option<Sessions>,
    random: Random,
    keys: Vec<FlowKey>,
    hashes: Vec<u64>,
    candidates: Vec<Option<Candidate>>,
}

impl Lookup {
    /// In a table of `flows` sessions, built at the first use.
    #[must_use]
    pub fn new(flows: u32) -> Self {
        Self {
            flows,
            sessions: None,
            random: Random::default(),
            keys: Vec::with_capacity(CHUNK),
            hashes: Vec::with_capacity(BURST),
            candidates: Vec::with_capacity(BURST),
        }
    }
}

impl Item for Lookup {
    fn name(&self) -> String {
        format!("lookup_{}", self.flows)
    }

    fn prepare(&mut self) {
        self.sessions.get_or_insert_with(|| sessions(self.flows));
        self.keys.clear();
        self.keys.extend((0..CHUNK).map(|_| key_of(self.random.below(self.flows))));
    }

    fn chunk(&mut self) -> Option<u64> {
        let sessions = self.sessions.as_ref()?;
        for burst in self.keys.chunks(BURST) {
            self.hashes.clear();
            for key in burst {
                let hash = sessions.hash(*key);
                sessions.prefetch(hash);
                self.hashes.push(hash);
            }
            self.candidates.clear();
            for hash in &self.hashes {
                self.candidates.push(sessions.prefetch_record(*hash));
            }
            for ((key, hash), candidate) in burst.iter().zip(&self.hashes).zip(&self.candidates) {
                black_box(sessions.find_candidate(*candidate, *hash, *key)?);
            }
        }
        Some(self.keys.len() as u64)
    }
}

fn key_of(flow: u32) -> FlowKey {
    let (host, l4_port) = endpoint_of(flow);
    let source = Endpoint::new(host.into(), l4_port);
    FlowKey::new(PROTOCOL_UDP, source, Endpoint::new(remote_of(flow).into(), 7))
}

fn sessions(flows: u32) -> Sessions {
    let day = Duration::from_secs(86_400);
    let timeouts = algate_config::Timeouts {
        tcp_established: day,
        tcp_transitory: day,
        udp: day,
        udp_ports: Vec::new(),
        udp_inbound_refresh: false,
        icmp: day,
        other: day,
        arp: day,
    };
    let flows_max = flows as usize;
    let idle_times = IdleTimes::new(&timeouts, None);
    let sessions = Sessions::new(
        Capacity::of_any_kind(flows_max),
        flows_max,
        HashKey::from_seed([1, 2, 3, 4]),
        idle_times,
        Writers::One,
    );
    let hop = NextHop { interface: InterfaceId(0), neighbor: NeighborRef::from_bits(0) };
    for flow in 0..flows {
        let internal_key = key_of(flow);
        let external = Endpoint::new(0xC613_0000 + flow / 50_000, 1024 + (flow % 50_000) as u16);
        let external_key = FlowKey::new(PROTOCOL_UDP, internal_key.destination(), external);
        let new = NewSession::between((internal_key, hop), (external_key, hop), 0);
        let is_made = sessions.create(&new, Instant::default(), |_| {}).is_ok();
        debug_assert!(is_made, "flow {flow}");
    }
    sessions
}

/// A chunk of UDP packets of different flows.
fn frames() -> Vec<PoolFrame> {
    let mut rig = Rig::new(1024);
    (0..CHUNK as u32).map(|flow| rig.outbound(flow)).collect()
}

fn views(frames: &[PoolFrame]) -> Vec<Ipv4View> {
    let view = |frame: &PoolFrame| match parse(frame.head(), frame.len(), RxChecksums::default()) {
        Ok(Parsed { kind: ParsedKind::Ipv4(view), .. }) => Some(view),
        _ => None,
    };
    frames.iter().filter_map(view).collect()
}
