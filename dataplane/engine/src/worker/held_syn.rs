//! SYNs from outside that nothing admits, kept for six seconds.
//!
//! RFC 5382 section 4.3, REQ-4: an answer at once would end a simultaneous open, in which both hosts send a SYN
//! and the outside's may come first. So nothing is said for six seconds, and nothing at all when the
//! inside has opened the same connection by then; else the sender is told, if the operator wants that.
//!
//! Only what the ICMP error quotes is kept, never the packet. What finds no room gets no answer.

use std::collections::VecDeque;
use std::time::Duration;

use algate_config::UnsolicitedSyn;

use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::nat::key::FlowKey;
use crate::packet::parse::{Ipv4View, L4Class};
use crate::router::icmp::{IcmpError, Offender};
use crate::time::Instant;
use crate::worker::{Owned, Turn};

/// The SYNs of one worker, oldest first.
#[derive(Debug)]
pub(super) struct HeldSyns(VecDeque<HeldSyn>);

#[derive(Debug)]
struct HeldSyn {
    head: [u8; HEAD_BYTES],
    view: Ipv4View,
    interface: InterfaceId,
    due: Instant,
}

impl Default for HeldSyns {
    fn default() -> Self {
        Self(VecDeque::with_capacity(HELD_SYNS))
    }
}

impl<P: PacketIo> Turn<'_, P> {
    /// Keeps a segment that nothing admitted, if it is a SYN and its sender shall be told.
    #[cold]
    pub(super) fn hold_syn(&mut self, frame: &P::Frame, view: &Ipv4View, interface: InterfaceId) {
        let held = &mut self.owned.held_syns.0;
        let head = frame.head().first_chunk::<HEAD_BYTES>();
        // Room for what RFC 792 quotes: a header without options and 8 bytes, VLAN tag included.
        if let (UnsolicitedSyn::Unreachable, L4Class::Tcp, Some(head)) =
            (self.engine.config.tcp.unsolicited_syn, view.class, head)
            && held.len() < HELD_SYNS
        {
            let due = self.context.now.plus(SILENCE);
            held.push_back(HeldSyn { head: *head, view: *view, interface, due });
        }
    }

    /// Answers the SYNs whose time has come, unless the inside has opened their connection.
    pub(super) fn answer_held_syns(&mut self) {
        let now = self.context.now;
        let Owned { egress, icmp, held_syns, .. } = &mut *self.owned;
        while held_syns.0.front().is_some_and(|syn| syn.due <= now)
            && let Some(syn) = held_syns.0.pop_front()
        {
            let nat = &self.engine.nat;
            let key = FlowKey::of(&syn.view, self.engine.router.interfaces.tenant_of(syn.interface));
            if nat.find(nat.sessions.hash(key), key).is_some() {
                continue;
            }
            let offender = Offender { head: &syn.head, view: &syn.view, interface: syn.interface };
            if icmp.send_error(&self.context, egress, self.io, offender, PORT_UNREACHABLE) {
                self.counters.icmp_sent.add(1);
            }
        }
    }
}

const PORT_UNREACHABLE: IcmpError = IcmpError::DestinationUnreachable { code: 3 };
/// RFC 5382 REQ-4: at least.
const SILENCE: Duration = Duration::from_secs(6);
/// Kept per worker: 64 KiB. More would only be answers to a scan.
const HELD_SYNS: usize = 512;
const HEAD_BYTES: usize = 54;
