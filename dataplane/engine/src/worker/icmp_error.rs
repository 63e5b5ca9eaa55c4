//! ICMP errors about packets of a session.

use crate::drop_reason::DropReason;
use crate::frame::PacketIo;
use crate::ids::InterfaceId;
use crate::packet::parse::Ipv4View;
use crate::worker::Turn;

impl<P: PacketIo> Turn<'_, P> {
    pub(super) fn icmp_error(&mut self, _frame: P::Frame, _view: &Ipv4View, _interface: InterfaceId) {
        self.drop(DropReason::BadIcmp);
    }
}
