//! A batch of frames: read, looked up and sent together.
//!
//! What ordinary packets ([`Plain`]) say waits in lanes, so that the cache misses of their lookups overlap; the lanes of all
//! others stay empty, and these are handled step by step when their turn comes ([`Turn::take`]). Frames leave in the
//! order they came.

use std::vec::Drain;

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, NicPortId};
use crate::nat::key::FlowKey;
use crate::nat::session::Candidate;
use crate::packet::PROTOCOL_TCP;
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class, Parsed, ParsedKind, parse};
use crate::packet::plain::Plain;
use crate::router::arp;
use crate::router::interface::{Arrival, Port};
use crate::time::Tick;
use crate::worker::Turn;

/// Frames that are looked up together: a bit of a word for each, and with those that are read meanwhile no more cache
/// misses than a core has buffers for (24 of its first level on Zen 4, which takes a third longer with 32 frames).
pub(super) const BATCH_FRAMES: usize = 16;

/// What an ordinary frame says, ready to be looked up; or a lane that is left empty, of which no session has the key.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lane {
    pub(super) key: FlowKey,
    pub(super) hash: u64,
    pub(super) plain: Plain,
    pub(super) candidate: Option<Candidate>,
    pub(super) interface: InterfaceId,
}

impl Lane {
    /// Of a frame that is not ordinary: handled when its turn comes.
    const EMPTY: Self = Self {
        key: FlowKey { addresses: 0, ports: 0 },
        hash: 0,
        plain: Plain::NONE,
        candidate: None,
        interface: InterfaceId(0),
    };

    pub(super) const fn is_empty(&self) -> bool {
        self.key.protocol() == 0
    }

    /// The same as the parser tells it.
    #[inline]
    pub(super) const fn view(&self) -> Ipv4View {
        self.plain.view(self.key.addresses, self.key.l4_ports())
    }

    /// Apart, so that the usual way writes each word once, and from a register.
    #[cold]
    #[inline(never)]
    fn clear(&mut self) {
        *self = Self::EMPTY;
    }
}

/// The lanes of the batch that is sent and of the one that is read meanwhile, in turn. They do not own the frames: these
/// stay where they are until they leave.
#[derive(Debug)]
pub(super) struct Batches(Box<[Lanes; 2]>);

type Lanes = [Lane; BATCH_FRAMES];

impl Default for Batches {
    fn default() -> Self {
        Self(Box::new([[Lane::EMPTY; BATCH_FRAMES]; 2]))
    }
}

impl<P: PacketIo> Turn<'_, P> {
    /// Handles all of `frames`, received on `nic_port`, batch by batch. Each is read before the one ahead of it is sent, and
    /// looked up behind that: so buckets are fetched while frames are sent, and sessions while frames are read. What
    /// the batch ahead changes is seen all the same, for reading looks at the frames alone.
    #[inline(always)]
    pub(super) fn handle_burst(
        &mut self,
        batches: &mut Batches,
        port: &Port,
        nic_port: NicPortId,
        frames: &mut Drain<'_, P::Frame>,
    ) {
        let [mut next, mut current] = batches.0.each_mut();
        let mut looked_up = 0;
        loop {
            let ahead = frames.as_slice().get(looked_up..).unwrap_or_default();
            let read = if ahead.is_empty() { 0 } else { self.read_batch(next, port, ahead) };
            if looked_up > 0 {
                self.send_batch(current.get_mut(..looked_up).unwrap_or_default(), nic_port, frames);
            }
            if read == 0 {
                return;
            }
            self.look_up_batch(next.get_mut(..read).unwrap_or_default());
            (looked_up, current, next) = (read, next, current);
        }
    }

    /// Reads the first of `frames`, as many as there are lanes, and starts to fetch their buckets. Returns how many.
    ///
    /// Not inlined: what reads and what sends have the registers to themselves, which saves more than the calls cost.
    #[inline(never)]
    fn read_batch(&self, lanes: &mut Lanes, port: &Port, frames: &[P::Frame]) -> usize {
        let sessions = &self.engine.nat.sessions;
        for (frame, lane) in frames.iter().zip(lanes.iter_mut()) {
            match self.read(port, frame) {
                Some((key, plain, interface)) => {
                    let hash = sessions.hash(key);
                    sessions.prefetch(hash);
                    // Not as a whole: a record's gaps would have to be kept.
                    (lane.key, lane.hash, lane.plain, lane.interface) = (key, hash, plain, interface);
                }
                None => lane.clear(),
            }
        }
        frames.len().min(BATCH_FRAMES)
    }

    /// Looks for the sessions of `lanes`, and starts to fetch these.
    #[inline(always)]
    fn look_up_batch(&self, lanes: &mut [Lane]) {
        let sessions = &self.engine.nat.sessions;
        let mut missing = 0_u32;
        for (bit, lane) in lanes.iter_mut().enumerate() {
            lane.candidate = sessions.prefetch_record(lane.hash);
            match lane.candidate {
                Some(candidate) if lane.plain.protocol() == PROTOCOL_TCP => {
                    sessions.prefetch_windows(candidate);
                }
                Some(_) => {}
                None => missing |= 1 << bit,
            }
        }
        if missing != 0 {
            self.look_further(lanes, missing);
        }
    }

    /// Sends the first of `frames`, which are those of `lanes`, on their way.
    #[inline(always)]
    fn send_batch(&mut self, lanes: &mut [Lane], nic_port: NicPortId, frames: &mut Drain<'_, P::Frame>) {
        let tick = Tick::of(self.context.now);
        let (mut forwarded, count) = (0, lanes.len() as u64);
        for (lane, frame) in lanes.iter_mut().zip(frames) {
            match self.forward(frame, lane, tick) {
                Ok(()) => forwarded += 1,
                Err(frame) => self.forward_otherwise(frame, lane, (nic_port, tick)),
            }
        }
        if forwarded != count {
            // Another packet may have opened a session, whose replies come in a later batch.
            self.engine.nat.catch_up();
        }
        self.counters.forwarded.add(forwarded);
    }

    /// What `frame` says, if it is an ordinary packet for `port`.
    #[inline(always)]
    fn read(&self, port: &Port, frame: &P::Frame) -> Option<(FlowKey, Plain, InterfaceId)> {
        let head = frame.head();
        if !port.is_own(*head.first_chunk()?) {
            return None;
        }
        let (plain, ends) = Plain::read(head, frame.len(), frame.rx_checksums())?;
        let Arrival { interface, tenant } = port.arrival(ends.vlan)?;
        let key = FlowKey::of_words(ends.addresses, ends.l4_ports, plain.protocol(), tenant);
        Some((key, plain, interface))
    }

    /// Looks for the sessions of the lanes in `missing` in their second buckets. Who has none there either probably
    /// begins a flow: starts to fetch what that takes.
    #[inline(never)]
    fn look_further(&self, lanes: &mut [Lane], mut missing: u32) {
        let nat = &self.engine.nat;
        while missing != 0 {
            let Some(lane) = lanes.get_mut(missing.trailing_zeros() as usize) else { return };
            missing &= missing - 1;
            lane.candidate = nat.sessions.prefetch_second(lane.hash);
            if let Some(candidate) = lane.candidate
                && lane.plain.protocol() == PROTOCOL_TCP
            {
                nat.sessions.prefetch_windows(candidate);
            }
            let is_outbound =
                || self.engine.router.interfaces.side_of(lane.interface) == Some(Side::Internal);
            if lane.candidate.is_none() && !lane.is_empty() && is_outbound() {
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
