//! Packets to algate's own addresses.

use crate::frame::PacketIo;
use crate::packet::parse::Ipv4View;
use crate::router::icmp;
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    /// Answers an echo request; nothing else listens.
    pub(super) fn local(&mut self, frame: P::Frame, view: &Ipv4View) {
        match icmp::echo_reply(&self.context, &mut self.owned.egress, self.io, frame, view) {
            Ok(()) => self.counters.local.add(1),
            Err(reason) => self.drop(reason),
        }
    }
}
