//! A batch of ordinary frames between parsing and lookup.
//!
//! Ordinary packets ([`Plain`]) wait in lanes, so that the cache misses of their lookups overlap; all others are
//! handled one by one as they come ([`Turn::take`]).

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, NicPortId};
use crate::nat::key::FlowKey;
use crate::nat::session::Candidate;
use crate::packet::PROTOCOL_TCP;
use crate::packet::parse::{FragmentKind, L4Class, Parsed, ParsedKind, parse};
use crate::packet::plain::Plain;
use crate::router::arp;
use crate::router::interface::Arrival;
use crate::time::Tick;
use crate::worker::Turn;

/// Frames that are looked up together.
pub(super) const BATCH_FRAMES: usize = 32;

/// An ordinary frame, ready to be looked up.
#[derive(Debug)]
pub(super) struct Lane<F> {
    pub(super) frame: F,
    pub(super) key: FlowKey,
    pub(super) hash: u64,
    pub(super) plain: Plain,
    pub(super) candidate: Option<Candidate>,
    pub(super) interface: InterfaceId,
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
    /// Puts `frame` into a lane, or handles it at once when it is not an ordinary packet.
    #[inline]
    pub(super) fn enter(&mut self, batch: &mut Batch<P::Frame>, nic_port: NicPortId, frame: P::Frame) {
        let head = frame.head();
        let ordinary = Plain::read(head, frame.len(), frame.rx_checksums()).and_then(|plain| {
            let dst_mac = *head.first_chunk()?;
            Some((plain, self.engine.router.interfaces.classify(nic_port, plain.vlan, dst_mac).ok()?))
        });
        let Some((plain, Arrival { interface, tenant })) = ordinary else {
            return self.take(nic_port, frame);
        };
        let key = FlowKey::of_words(plain.addresses, plain.l4_ports, plain.protocol, tenant);
        let sessions = &self.engine.nat.sessions;
        let hash = sessions.hash(key);
        sessions.prefetch(hash);
        batch.lanes.push(Lane { frame, key, hash, plain, candidate: None, interface });
    }

    /// Looks up and handles every lane of the batch.
    #[inline]
    pub(super) fn handle(&mut self, batch: &mut Batch<P::Frame>) {
        let sessions = &self.engine.nat.sessions;
        let mut is_complete = true;
        for lane in &mut batch.lanes {
            lane.candidate = sessions.prefetch_record(lane.hash);
            match lane.candidate {
                Some(candidate) if lane.plain.protocol == PROTOCOL_TCP => {
                    sessions.prefetch_windows(candidate)
                }
                Some(_) => {}
                None => is_complete = false,
            }
        }
        if !is_complete {
            self.look_further(batch);
        }
        let tick = Tick::of(self.context.now);
        for lane in batch.lanes.drain(..) {
            self.forward(lane, tick);
        }
    }

    /// Looks for the other packets' sessions in their second buckets. Who has none there either probably begins a
    /// flow: starts to fetch what that takes.
    #[cold]
    #[inline(never)]
    fn look_further(&self, batch: &mut Batch<P::Frame>) {
        let nat = &self.engine.nat;
        for lane in batch.lanes.iter_mut().filter(|lane| lane.candidate.is_none()) {
            lane.candidate = nat.sessions.prefetch_second(lane.hash);
            let is_outbound =
                || self.engine.router.interfaces.side_of(lane.interface) == Some(Side::Internal);
            if lane.candidate.is_none() && is_outbound() {
                nat.prefetch_outbound(lane.key);
            }
        }
    }

    /// Handles a frame that is in no lane, step by step.
    #[cold]
    #[inline(never)]
    pub(super) fn take(&mut self, nic_port: NicPortId, frame: P::Frame) {
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
                if view.fragment != FragmentKind::None {
                    return self.fragment(frame, view, arrival.interface);
                }
                if view.class == L4Class::IcmpError {
                    return self.icmp_error(frame, &view, arrival.interface);
                }
                self.look_up(frame, &view, arrival.interface);
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
}
