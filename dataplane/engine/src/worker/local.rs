//! Packets to algate's own addresses.

use crate::frame::PacketIo;
use crate::packet::parse::{Ipv4View, L4Class};
use crate::pcp;
use crate::router::icmp;
use crate::router::interface::Interface;
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    /// Answers an echo request or a port control request; nothing else listens.
    pub(super) fn local(&mut self, frame: P::Frame, view: &Ipv4View, arrived: &Interface) {
        if view.class == L4Class::Udp && view.dst_port == pcp::SERVER_PORT {
            return match self.port_control(frame, view, arrived) {
                Ok(()) => self.counters.local.add(1),
                Err(reason) => self.drop(reason),
            };
        }
        let egress = &mut self.owned.egress;
        match icmp::echo_reply(&self.context, egress, self.io, frame, view, arrived.tenant) {
            Ok(()) => self.counters.local.add(1),
            Err(reason) => self.drop(reason),
        }
    }
}
