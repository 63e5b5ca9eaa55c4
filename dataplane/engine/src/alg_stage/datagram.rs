//! Control sessions over UDP: each datagram is one message.
//!
//! It comes here whole (fragments are put together before) and is read from its first byte once its checksum is found to be
//! right, or absent. One with a wrong checksum, with IPv4 options or without a payload is translated like any other
//! packet: it stays as it came, and opens nothing. What passes or was rewritten leaves in its own frame, with its own TTL
//! and options; one that outgrew the MTU leaves in fragments, whatever its sender said, for the bytes are ours. What
//! an ALG adds leaves in a datagram of its own.
//!
//! | verdict | the datagram | the session |
//! |---|---|---|
//! | `Pass` | goes on | stays |
//! | `Rewrite` | goes on, edited | stays |
//! | `Remove` | is dropped | stays |
//! | `Opaque` | goes on | leaves the stage; expectations stand |
//! | `Detach` | goes on | leaves the stage; expectations are withdrawn |
//! | `Terminate` | is dropped | ends, with its expectations |

use algate_alg::{Direction, Edits, Injections, Step, Verdict};

use crate::alg_stage::emitter::send_anew;
use crate::alg_stage::{AlgStage, Handled, Surroundings};
use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::nat::session::{Facing, Session};
use crate::nat::shift::Shifts;
use crate::packet::build::{self, Ipv4Fields, L3_OFFSET};
use crate::packet::datagram::{replace_payload, verified_payload};
use crate::packet::parse::Ipv4View;
use crate::packet::rewrite::{allow_fragments, set_identification};
use crate::packet::{IPV4_BYTES, PROTOCOL_UDP, UDP_BYTES};

/// Where the answer to one datagram is put together.
#[derive(Debug)]
pub(super) struct DatagramMemory {
    edits: Edits,
    injections: Injections,
    payload: Vec<u8>,
}

impl Default for DatagramMemory {
    fn default() -> Self {
        Self {
            edits: Edits::with_capacity(EDITS, EDIT_BYTES),
            injections: Injections::with_capacity(INJECTIONS, INJECTION_BYTES),
            payload: Vec::with_capacity(usize::from(u16::MAX)),
        }
    }
}

impl AlgStage {
    /// Takes a UDP packet of `session` that came from `facing`; `view` is kept right when it is rewritten.
    pub(super) fn receive_datagram<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        frame: &mut P::Frame,
        view: &mut Ipv4View,
        session: Session<'_>,
        facing: Facing,
    ) -> Handled {
        if !frame.linearize() {
            return Handled::Drop(DropReason::ChainedHeaders);
        }
        let nic_verdict = frame.rx_checksums().l4;
        let Some(payload) = verified_payload(frame.head(), view, nic_verdict) else {
            return Handled::Forward;
        };
        if payload.is_empty() {
            return Handled::Forward;
        }
        let Some(at) = self.flow_of_datagrams(around, &session) else {
            return Handled::Drop(DropReason::AlgStageFull);
        };
        let direction = session.direction(facing);
        let Self { flows, datagrams, policy, .. } = self;
        let Some(flow) = flows.get_mut(at) else { return Handled::Drop(DropReason::AlgStageFull) };
        let DatagramMemory { edits, injections, payload: new } = datagrams;
        let answer = (&mut *edits, &mut *injections);
        let verdict = match flow.inspect(around, policy, &session, answer, direction, payload) {
            Some(Step::Message { length, verdict }) if length == payload.len() => verdict,
            // It answers for the whole datagram, or says nothing about it.
            _ => Verdict::Pass,
        };
        let is_edited = verdict == Verdict::Rewrite;
        let fits = !is_edited || edited(payload, edits, new);
        for (direction, bytes) in injections.iter() {
            inject(around, session, direction, bytes);
        }
        if is_edited && (!fits || !replace(around, frame, view, new, session, facing)) {
            return Handled::Drop(DropReason::AlgTooLong);
        }
        self.carry_out(around, at, &session, verdict)
    }

    /// What a verdict means for the session.
    fn carry_out<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        at: usize,
        session: &Session<'_>,
        verdict: Verdict,
    ) -> Handled {
        match verdict {
            Verdict::Pass | Verdict::Rewrite => Handled::Forward,
            Verdict::Remove => Handled::Drop(DropReason::AlgRemoved),
            Verdict::Opaque => {
                if let Some(flow) = self.flows.get_mut(at) {
                    flow.promises.leave_all();
                }
                session.leave_alg(Shifts::default());
                self.release(around.nat, around.nat_worker, at);
                Handled::Forward
            }
            Verdict::Detach => {
                session.leave_alg(Shifts::default());
                self.release(around.nat, around.nat_worker, at);
                Handled::Forward
            }
            Verdict::Terminate => {
                self.release(around.nat, around.nat_worker, at);
                around.nat.end(around.nat_worker, session, around.context.now);
                Handled::Drop(DropReason::AlgRemoved)
            }
        }
    }

    /// The flow of `session`, begun if need be: the first datagram that is read is its first. `None`: no room.
    fn flow_of_datagrams<P: PacketIo>(
        &mut self,
        around: &mut Surroundings<'_, P>,
        session: &Session<'_>,
    ) -> Option<usize> {
        match self.known_flow(around, session) {
            Some(at) => Some(at),
            None => self.begin(around, session),
        }
    }
}

/// Puts the edited payload together in `new`. `false`: the edits are none of this datagram, or it gets too long.
fn edited(payload: &[u8], edits: &Edits, new: &mut Vec<u8>) -> bool {
    new.clear();
    let mut at = 0;
    for (range, with) in edits.iter() {
        let Some(before) = payload.get(at..range.start).filter(|_| range.end <= payload.len()) else {
            return false;
        };
        if new.len() + before.len() + with.len() > new.capacity() {
            return false;
        }
        new.extend_from_slice(before);
        new.extend_from_slice(with);
        at = range.end;
    }
    let rest = payload.get(at..).unwrap_or_default();
    let fits = new.len() + rest.len() <= new.capacity();
    if fits {
        new.extend_from_slice(rest);
    }
    fits
}

/// Gives the datagram its new payload. `false`: it does not fit into the frame.
fn replace<P: PacketIo>(
    around: &Surroundings<'_, P>,
    frame: &mut P::Frame,
    view: &mut Ipv4View,
    new: &[u8],
    session: Session<'_>,
    facing: Facing,
) -> bool {
    if !replace_payload(frame, view, new) {
        return false;
    }
    let interface = around.context.router.interfaces.of(session.next_hop(facing).interface);
    if view.dont_fragment && interface.is_some_and(|interface| view.packet_bytes() > interface.mtu) {
        let to = session.translation(facing);
        let identification = around.identifications.next(to.src, to.dst, PROTOCOL_UDP);
        set_identification(frame.head_mut(), view, identification);
        allow_fragments(frame.head_mut(), view);
    }
    true
}

/// Sends a datagram of the ALG's own towards the receiver of `direction`. Without a frame it is lost, as on any link.
fn inject<P: PacketIo>(
    around: &mut Surroundings<'_, P>,
    session: Session<'_>,
    direction: Direction,
    payload: &[u8],
) {
    let facing = session.facing(direction);
    let next_hop = session.next_hop(facing);
    let Some(interface) = around.context.router.interfaces.of(next_hop.interface) else { return };
    let Some(mut frame) = around.io.alloc() else { return };
    let to = session.translation(facing);
    let mut ip = Ipv4Fields::new(to.src, to.dst);
    if IPV4_BYTES + UDP_BYTES + payload.len() > usize::from(interface.mtu) {
        ip.dont_fragment = false;
        ip.identification = around.identifications.next(to.src, to.dst, PROTOCOL_UDP);
    }
    if !build::udp(&mut frame, &ip, (to.src_port, to.dst_port), payload) {
        return;
    }
    around.counters.segments_out.add(1);
    if let Err(frame) = around.egress.send(around.context, around.io, frame, L3_OFFSET, next_hop)
        && !send_anew(around.context, around.io, around.egress, session, frame, direction)
    {
        around.context.drops.count(DropReason::NeighborUnreachable);
    }
}

/// Of one datagram: a SIP message names many addresses.
const EDITS: usize = 64;
const EDIT_BYTES: usize = 4_096;
const INJECTIONS: usize = 4;
const INJECTION_BYTES: usize = 4_096;

#[cfg(test)]
mod tests;
