//! A batch of frames between parsing and lookup.

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, NicPortId};
use crate::nat::key::FlowKey;
use crate::nat::session::Candidate;
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class, Parsed, ParsedKind, parse};
use crate::router::arp;
use crate::router::interface::Arrival;
use crate::worker::Turn;

/// Frames that are looked up together.
pub(super) const BATCH_FRAMES: usize = 32;

/// A parsed frame, ready to be looked up.
#[derive(Debug)]
pub(super) struct Lane<F> {
    pub(super) frame: F,
    pub(super) view: Ipv4View,
    pub(super) interface: InterfaceId,
    pub(super) key: FlowKey,
    pub(super) hash: u64,
    pub(super) candidate: Option<Candidate>,
}

/// The lanes of a batch, in the order the frames came.
#[derive(Debug)]
pub(super) struct Batch<F> {
    lanes: Vec<Lane<F>>,
}

impl<F> Default for Batch<F> {
    fn default() -> Self {
        Self { lanes: Vec::with_capacity(BATCH_FRAMES) }
    }
}

impl<P: PacketIo> Turn<'_, P> {
    /// Parses `frame`; what needs no lookup is handled at once.
    #[inline]
    pub(super) fn parse(&mut self, batch: &mut Batch<P::Frame>, nic_port: NicPortId, frame: P::Frame) {
        let mut frame = frame;
        let parsed = match parse(frame.head(), frame.len(), frame.rx_checksums()) {
            Err(DropReason::ChainedHeaders) if frame.linearize() => {
                parse(frame.head(), frame.len(), frame.rx_checksums())
            }
            parsed => parsed,
        };
        let admitted = parsed.and_then(|parsed| {
            let router = &self.engine.router;
            Ok((parsed, router.interfaces.classify(nic_port, parsed.vlan, parsed.dst_mac)?))
        });
        match admitted {
            Ok((Parsed { kind: ParsedKind::Ipv4(view), .. }, arrival)) => {
                self.enter(batch, frame, view, arrival);
            }
            Ok((Parsed { kind: ParsedKind::Arp { offset }, .. }, arrival)) => {
                match arp::receive(&self.context, self.io, frame, usize::from(offset), arrival.interface) {
                    Ok(()) => self.counters.arp.add(1),
                    Err(reason) => self.drop(reason),
                }
            }
            Err(reason) => self.drop(reason),
        }
    }

    #[inline]
    fn enter(
        &mut self,
        batch: &mut Batch<P::Frame>,
        frame: P::Frame,
        view: Ipv4View,
        Arrival { interface, tenant }: Arrival,
    ) {
        if view.fragment != FragmentKind::None {
            return self.fragment(frame, view, interface);
        }
        if view.class == L4Class::IcmpError {
            return self.icmp_error(frame, &view, interface);
        }
        let key = FlowKey::of(&view, tenant);
        let sessions = &self.engine.nat.sessions;
        let hash = sessions.hash(key);
        sessions.prefetch(hash);
        batch.lanes.push(Lane { frame, view, interface, key, hash, candidate: None });
    }

    /// Looks up and handles every lane of the batch.
    #[inline]
    pub(super) fn handle(&mut self, batch: &mut Batch<P::Frame>) {
        let sessions = &self.engine.nat.sessions;
        for lane in &mut batch.lanes {
            lane.candidate = sessions.prefetch_record(lane.hash);
            if let (L4Class::Tcp, Some(candidate)) = (lane.view.class, lane.candidate) {
                sessions.prefetch_windows(candidate);
            }
        }
        for lane in batch.lanes.drain(..) {
            match sessions.find_candidate(lane.candidate, lane.hash, lane.key) {
                Some((session, facing)) => self.hit(lane.frame, &lane.view, lane.interface, session, facing),
                None => self.miss(lane),
            }
        }
    }
}
