//! ICMP that algate itself sends: errors about packets it cannot forward, and echo replies.
//!
//! RFC 792, RFC 1812 section 4.3.2 (when not to send, from which address, how often), RFC 1191 section 4 (MTU
//! of the next hop). Errors are limited by a token bucket per worker. Echo replies are not: each costs what
//! forwarding its request would have cost.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::{InterfaceId, TenantId};
use crate::packet::build::{self, Ipv4Fields, L3_OFFSET};
use crate::packet::checksum;
use crate::packet::parse::{FragmentKind, Ipv4View, L4Class};
use crate::router::egress::{Context, Egress};
use crate::time::Instant;

/// A packet that cannot be forwarded, as it came in (before any translation).
#[derive(Debug, Clone, Copy)]
pub struct Offender<'a> {
    /// The frame's first segment.
    pub head: &'a [u8],
    /// What the parser said.
    pub view: &'a Ipv4View,
    /// Where it came in.
    pub interface: InterfaceId,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// TTL ran out in transit.
    TimeExceeded,
    /// It does not fit the next hop and must not be fragmented.
    FragmentationNeeded {
        /// What would fit, bytes of IPv4 packet.
        mtu: u16,
    },
    /// It cannot be delivered.
    DestinationUnreachable {
        /// RFC 792 and RFC 1812 section 5.2.7.1: 0 net, 1 host, 3 port, 13 administratively prohibited.
        code: u8,
    },
}

impl IcmpError {
    const fn type_and_code(self) -> (u8, u8) {
        match self {
            Self::TimeExceeded => (11, 0),
            Self::FragmentationNeeded { .. } => (3, 4),
            Self::DestinationUnreachable { code } => (3, code),
        }
    }
}

/// A worker's permission to send ICMP errors.
#[derive(Debug)]
pub struct IcmpSource {
    bucket: TokenBucket,
}

impl IcmpSource {
    /// Up to `rate_per_second` errors a second, and as many at once.
    #[must_use]
    pub fn new(rate_per_second: u32, now: Instant) -> Self {
        Self { bucket: TokenBucket::new(rate_per_second, now) }
    }

    /// Takes permission for another message that answers a packet, as a reset does.
    #[must_use]
    pub fn take_permission(&mut self, now: Instant) -> bool {
        self.bucket.take(now)
    }

    /// Tells the sender of `offender` what is wrong with it. Returns whether a message was made; where
    /// RFC 1812 section 4.3.2.7 forbids one, or the rate is used up, none is.
    pub fn send_error<P: PacketIo>(
        &mut self,
        context: &Context<'_>,
        egress: &mut Egress<P::Frame>,
        io: &mut P,
        offender: Offender<'_>,
        error: IcmpError,
    ) -> bool {
        let router = context.router;
        let view = offender.view;
        let Some(interface) = router.interfaces.of(offender.interface) else { return false };
        if !may_cause_error(context, view, interface.tenant) {
            return false;
        }
        let Some(src) = interface.address_towards(view.src) else { return false };
        let Some(hop) = router.routes.lookup(interface.tenant, view.src) else { return false };
        let end = usize::from(view.end).min(offender.head.len());
        let Some(original) = offender.head.get(usize::from(view.l3)..end) else { return false };
        if !self.bucket.take(context.now) {
            return false;
        }
        let rest = match error {
            IcmpError::FragmentationNeeded { mtu } => u32::from(mtu),
            IcmpError::TimeExceeded | IcmpError::DestinationUnreachable { .. } => 0,
        };
        let Some(mut frame) = io.alloc() else {
            context.drops.count(DropReason::MempoolExhausted);
            return false;
        };
        // RFC 1812 section 4.3.2.5: precedence 6 (internetwork control).
        let ip = Ipv4Fields { traffic_class: 0xC0, ..Ipv4Fields::new(src, view.src) };
        if !build::icmp_error(&mut frame, &ip, error.type_and_code(), rest, original) {
            context.drops.count(DropReason::NoHeadroom);
            return false;
        }
        egress.send_to(context, io, frame, L3_OFFSET, hop);
        true
    }
}

/// Answers an ICMP echo request of a host of `tenant` to an own address, in its own frame.
///
/// # Errors
///
/// Why it is not answered; the caller counts it.
pub fn echo_reply<P: PacketIo>(
    context: &Context<'_>,
    egress: &mut Egress<P::Frame>,
    io: &mut P,
    mut frame: P::Frame,
    view: &Ipv4View,
    tenant: TenantId,
) -> Result<(), DropReason> {
    let router = context.router;
    if view.fragment != FragmentKind::None {
        return Err(DropReason::LocalUnhandled);
    }
    if view.class != L4Class::IcmpQueryRequest || view.has_options {
        return Err(DropReason::LocalUnhandled);
    }
    // The checksum covers all of it, and is about to be vouched for.
    if !frame.linearize() {
        return Err(DropReason::ChainedHeaders);
    }
    let message = frame.head().get(usize::from(view.l4)..usize::from(view.end));
    let message = message.ok_or(DropReason::Truncated)?;
    if message.first() != Some(&ECHO_REQUEST) {
        return Err(DropReason::LocalUnhandled);
    }
    if !checksum::is_valid(message, 0) {
        return Err(DropReason::BadL4Checksum);
    }
    let hop = router.routes.lookup(tenant, view.src).ok_or(DropReason::NoRoute)?;
    let interface = router.interfaces.of(hop.interface).ok_or(DropReason::NoRoute)?;
    if view.dont_fragment && view.packet_bytes() > interface.mtu {
        return Err(DropReason::TooBig);
    }
    if router.interfaces.is_own(tenant, view.src) || router.interfaces.is_broadcast(tenant, view.src) {
        return Err(DropReason::MartianSource);
    }
    if !frame.resize(usize::from(view.end)) || !build::echo_reply(frame.head_mut(), view) {
        return Err(DropReason::Truncated);
    }
    egress.send_to(context, io, frame, usize::from(view.l3), hop);
    Ok(())
}

/// RFC 1812 section 4.3.2.7: no error about an ICMP error, a later fragment, a broadcast, or a source that is
/// no single host. Martians and link-layer broadcasts never pass the parser.
fn may_cause_error(context: &Context<'_>, view: &Ipv4View, tenant: TenantId) -> bool {
    let interfaces = &context.router.interfaces;
    view.class != L4Class::IcmpError
        && view.fragment != FragmentKind::Later
        && !interfaces.is_broadcast(tenant, view.dst)
        && !interfaces.is_broadcast(tenant, view.src)
        && !interfaces.is_own(tenant, view.src)
}

/// Tokens come at a steady rate up to one second's worth; each event takes one.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate_per_second: u32,
    /// Nanoseconds' worth of tokens.
    credit: Duration,
    last: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(rate_per_second: u32, now: Instant) -> Self {
        Self { rate_per_second, credit: ONE_SECOND, last: now }
    }

    /// Takes a token, or returns `false` when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        self.credit = self.credit.saturating_add(now.since(self.last)).min(ONE_SECOND);
        self.last = self.last.max(now);
        let Some(price) = ONE_SECOND.checked_div(self.rate_per_second) else { return false };
        match self.credit.checked_sub(price) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

const ONE_SECOND: Duration = Duration::from_secs(1);
const ECHO_REQUEST: u8 = 8;
