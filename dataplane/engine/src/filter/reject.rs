//! Telling the sender of a rejected TCP segment: a reset in the name of the host it was for.
//!
//! RFC 9293 section 3.10.7.1: the reset carries what the segment acknowledges, or acknowledges all of the
//! segment; a reset is never answered. It takes its permission from the same rate limit as ICMP errors
//! ([`IcmpSource`]): a flood must not be answered in kind.

use crate::drop_reason::DropReason;
use crate::frame::PacketIo;
use crate::nat::tcp_state::{FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN};
use crate::packet::build::{self, Ipv4Fields, L3_OFFSET, TcpFields};
use crate::packet::bytes::read_u32;
use crate::packet::parse::L4Class;
use crate::router::egress::{Context, Egress};
use crate::router::icmp::{IcmpSource, Offender};

/// Answers the TCP segment `offender` with a reset. Returns whether one was made.
pub fn send_reset<P: PacketIo>(
    context: &Context<'_>,
    egress: &mut Egress<P::Frame>,
    limit: &mut IcmpSource,
    io: &mut P,
    offender: Offender<'_>,
) -> bool {
    let view = offender.view;
    let Some(fields) = reset_of(offender) else { return false };
    let interfaces = &context.router.interfaces;
    let tenant = interfaces.tenant_of(offender.interface);
    let Some(hop) = context.router.routes.lookup(tenant, view.src) else { return false };
    if interfaces.is_broadcast(tenant, view.src) || !limit.take_permission(context.now) {
        return false;
    }
    let Some(mut frame) = io.alloc() else {
        context.drops.count(DropReason::MempoolExhausted);
        return false;
    };
    let ip = Ipv4Fields::new(view.dst, view.src);
    if !build::tcp(&mut frame, &ip, (view.dst_port, view.src_port), &fields, &[], &[]) {
        context.drops.count(DropReason::NoHeadroom);
        return false;
    }
    egress.send_to(context, io, frame, L3_OFFSET, hop);
    true
}

/// `None`: no reset may answer it.
fn reset_of(offender: Offender<'_>) -> Option<TcpFields> {
    let view = offender.view;
    let flags = view.tcp_flags;
    if view.class != L4Class::Tcp || flags & FLAG_RST != 0 {
        return None;
    }
    let l4 = usize::from(view.l4);
    if flags & FLAG_ACK != 0 {
        let seq = read_u32(offender.head, l4 + 8)?;
        return Some(TcpFields { seq, flags: FLAG_RST, ..TcpFields::default() });
    }
    let controls = (flags & (FLAG_SYN | FLAG_FIN)).count_ones();
    let length = u32::from(view.payload_bytes()) + controls;
    let ack = read_u32(offender.head, l4 + 4)?.wrapping_add(length);
    Some(TcpFields { ack, flags: FLAG_RST | FLAG_ACK, ..TcpFields::default() })
}
