//! Turns what the stream layer wants sent into frames: translated headers, checksums, next hop.

use algate_alg::Direction;

use crate::frame::{Frame, PacketIo};
use crate::nat::session::Session;
use crate::packet::build::{self, Ipv4Fields, L3_OFFSET};
use crate::packet::{IPV4_BYTES, PROTOCOL_TCP, checksum};
use crate::router::egress::{Context, Egress};
use crate::stream::Emit;
use crate::stream::segment::Outgoing;

/// What the IPv4 headers of one direction of a flow say, taken from its last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderTemplate {
    /// TTL with which packets leave.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

impl Default for HeaderTemplate {
    fn default() -> Self {
        Self { ttl: build::DEFAULT_TTL, traffic_class: 0 }
    }
}

/// [`Emit`] for one session.
#[derive(Debug)]
pub struct Emitter<'a, P: PacketIo> {
    /// Router, counters, time.
    pub context: &'a Context<'a>,
    /// Where frames come from and go to.
    pub io: &'a mut P,
    /// The calling thread's way out.
    pub egress: &'a mut Egress<P::Frame>,
    /// The session.
    pub session: Session<'a>,
    /// By direction: original, reply.
    pub templates: [HeaderTemplate; 2],
    /// Frames made.
    pub made: u64,
}

impl<P: PacketIo> Emit for Emitter<'_, P> {
    fn emit(&mut self, direction: Direction, segment: &Outgoing<'_>) -> bool {
        let facing = self.session.facing(direction);
        let next_hop = self.session.next_hop(facing);
        let Some(interface) = self.context.router.interfaces.of(next_hop.interface) else { return false };
        let Some(mut frame) = self.io.alloc() else { return false };
        let offload = self.io.has_tx_checksum(interface.nic_port);
        if !self.write(&mut frame, direction, segment, offload) {
            return false;
        }
        if offload {
            frame.offload_tx_checksum(build::ethernet_bytes(interface.vlan), IPV4_BYTES, PROTOCOL_TCP);
        }
        self.made += 1;
        match self.egress.send(self.context, self.io, frame, L3_OFFSET, next_hop) {
            Ok(()) => true,
            Err(frame) => send_anew(self.context, self.io, self.egress, self.session, frame, direction),
        }
    }
}

impl<P: PacketIo> Emitter<'_, P> {
    fn write(
        &self,
        frame: &mut P::Frame,
        direction: Direction,
        segment: &Outgoing<'_>,
        offload: bool,
    ) -> bool {
        let to = self.session.translation(self.session.facing(direction));
        let [original, reply] = self.templates;
        let template = match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        };
        // DF is set: an edited segment is cut to the path's MTU here, never on the way.
        let ip = Ipv4Fields {
            ttl: template.ttl,
            traffic_class: template.traffic_class,
            ..Ipv4Fields::new(to.src, to.dst)
        };
        let bytes = segment.header_bytes() + segment.payload_bytes();
        let Some(l4) = build::ipv4(frame, &ip, PROTOCOL_TCP, bytes) else { return false };
        if segment.write(to.src_port, to.dst_port, l4).is_none() {
            return false;
        }
        let Ok(l4_bytes) = u16::try_from(bytes) else { return false };
        let pseudo_header = checksum::pseudo_header(to.src, to.dst, PROTOCOL_TCP, l4_bytes);
        let field =
            if offload { checksum::fold(pseudo_header) } else { checksum::internet(l4, pseudo_header) };
        match l4.get_mut(16..18) {
            Some(at) => at.copy_from_slice(&field.to_be_bytes()),
            None => return false,
        }
        true
    }
}

/// The neighbour was forgotten meanwhile: asks the routing table again.
pub(super) fn send_anew<P: PacketIo>(
    context: &Context<'_>,
    io: &mut P,
    egress: &mut Egress<P::Frame>,
    session: Session<'_>,
    frame: P::Frame,
    direction: Direction,
) -> bool {
    let facing = session.facing(direction);
    let (tenant, dst) = (session.tenant_towards(facing), session.translation(facing).dst);
    match context.router.next_hop(tenant, dst, context.now) {
        Ok(next_hop) => {
            session.renew_neighbor(facing, next_hop.neighbor);
            egress.send(context, io, frame, L3_OFFSET, next_hop).is_ok()
        }
        Err(_) => false,
    }
}
