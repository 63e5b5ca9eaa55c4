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

/// Frames that are looked up together, a bit of a word for each.
const BATCH_FRAMES: usize = 128;

/// How many frames before its turn a session comes from the second-level cache into the first, and a first packet's
/// subscriber and mapping from memory.
const AHEAD: usize = 4;

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

/// The lanes of a batch, and as many behind its last as [`Turn::send_batch`] looks ahead. They do not own the frames: these
/// stay where they are until they leave.
#[derive(Debug)]
pub(super) struct Batch(Box<[Lane; BATCH_FRAMES + AHEAD]>);

impl Default for Batch {
    fn default() -> Self {
        Self(Box::new([Lane::EMPTY; BATCH_FRAMES + AHEAD]))
    }
}

impl<P: PacketIo> Turn<'_, P> {
    /// Handles all of `frames`, received on `nic_port`, batch by batch: reads all, looks all up, sends all. So buckets are fetched
    /// while frames are read, and sessions while others are looked up.
    #[inline(always)]
    pub(super) fn handle_burst(
        &mut self,
        batch: &mut Batch,
        port: &Port,
        nic_port: NicPortId,
        frames: &mut Drain<'_, P::Frame>,
    ) {
        loop {
            let count = self.read_batch(batch, port, frames.as_slice());
            if count == 0 {
                return;
            }
            self.look_up_batch(batch.0.get_mut(..count).unwrap_or_default());
            self.send_batch(batch.0.get(..count + AHEAD).unwrap_or_default(), nic_port, frames);
        }
    }

    /// Reads the first of `frames`, as many as there are lanes, and starts to fetch their buckets. Returns how many.
    ///
    /// Not inlined: what reads and what sends have the registers to themselves, which saves more than the calls cost.
    #[inline(never)]
    fn read_batch(&self, batch: &mut Batch, port: &Port, frames: &[P::Frame]) -> usize {
        let sessions = &self.engine.nat.sessions;
        let count = frames.len().min(BATCH_FRAMES);
        let (lanes, behind) = batch.0.split_at_mut(count);
        for (frame, lane) in frames.iter().zip(lanes) {
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
        // Of a batch before: no flow is expected of them again.
        let behind: Option<&mut [_; AHEAD]> = behind.first_chunk_mut();
        behind.into_iter().flatten().for_each(|lane| lane.key = Lane::EMPTY.key);
        count
    }

    /// Looks for the sessions of `lanes`, and starts to fetch these.
    #[inline(always)]
    fn look_up_batch(&self, lanes: &mut [Lane]) {
        let sessions = &self.engine.nat.sessions;
        let mut missing = 0_u128;
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

    /// Sends the first of `frames`, which are those of `lanes` but the last [`AHEAD`], on their way.
    #[inline(always)]
    fn send_batch(&mut self, lanes: &[Lane], nic_port: NicPortId, frames: &mut Drain<'_, P::Frame>) {
        let tick = Tick::of(self.context.now);
        let (mut forwarded, count) = (0, lanes.len().saturating_sub(AHEAD) as u64);
        for (lanes, frame) in lanes.windows(AHEAD + 1).zip(frames) {
            let [lane, .., ahead] = lanes else { break };
            self.expect(ahead);
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

    /// Starts to fetch what the packet of `lane` will take soon.
    #[inline(always)]
    fn expect(&self, lane: &Lane) {
        match lane.candidate {
            Some(candidate) => self.engine.nat.sessions.prefetch_near(candidate),
            None => self.expect_flow(lane),
        }
    }

    /// As [`Self::expect`], of a packet that probably begins a flow.
    #[inline(never)]
    fn expect_flow(&self, lane: &Lane) {
        let interfaces = &self.engine.router.interfaces;
        if !lane.is_empty() && interfaces.side_of(lane.interface) == Some(Side::Internal) {
            self.engine.nat.prefetch_outbound(lane.key);
        }
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
    /// begins a flow.
    #[inline(never)]
    fn look_further(&self, lanes: &mut [Lane], mut missing: u128) {
        let sessions = &self.engine.nat.sessions;
        while missing != 0 {
            let Some(lane) = lanes.get_mut(missing.trailing_zeros() as usize) else { return };
            missing &= missing - 1;
            lane.candidate = sessions.prefetch_second(lane.hash);
            if let Some(candidate) = lane.candidate
                && lane.plain.protocol() == PROTOCOL_TCP
            {
                sessions.prefetch_windows(candidate);
            }
        }
        // The first are ahead of nobody.
        lanes.iter().take(AHEAD).for_each(|lane| self.expect(lane));
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
