//! Port control datagrams: which are listened to, and how answers and announcements leave.
//!
//! Listened to: those that came in on an internal interface, to an own address of one, from a host that is
//! reached through one (RFC 6887 section 8.2: only from where the client's packets come). Everything else
//! on this port is as if nobody listened.

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::frame::{Frame, PacketIo};
use crate::ids::InterfaceId;
use crate::nat::key::Host;
use crate::packet::build::{self, Ipv4Fields, L3_OFFSET};
use crate::packet::parse::{FragmentKind, Ipv4View};
use crate::packet::{PROTOCOL_UDP, UDP_BYTES, checksum};
use crate::pcp::message::MAX_BYTES;
use crate::pcp::server::{Answered, Client};
use crate::pcp::{ALL_HOSTS, CLIENT_PORT, SERVER_PORT};
use crate::router::interface::Interface;
use crate::router::route::Hop;
use crate::worker::{Owned, Turn};

impl<P: PacketIo> Turn<'_, P> {
    /// Answers a request in its own frame.
    pub(super) fn port_control(
        &mut self,
        mut frame: P::Frame,
        view: &Ipv4View,
        arrived: &Interface,
    ) -> Result<(), DropReason> {
        let hop = self.listens_to(view, arrived)?;
        let now = self.context.now;
        let client = Client { host: Host { tenant: arrived.tenant, address: view.src }, now };
        // Before its bytes are looked at: refusing must be cheap.
        if !self.owned.pcp.allows(client) {
            return Err(DropReason::PcpRateLimited);
        }
        if view.fragment != FragmentKind::None {
            return Err(DropReason::LocalUnhandled);
        }
        if !frame.linearize() {
            return Err(DropReason::ChainedHeaders);
        }
        let mut answer = [0; MAX_BYTES];
        let request = payload(frame.head(), view)?;
        let Owned { nat, pcp, egress, .. } = &mut *self.owned;
        let (length, answered) = pcp.answer(&self.engine.nat, nat, client, request, &mut answer)?;
        let answer = answer.get(..length).unwrap_or_default();
        let mtu = self.engine.router.interfaces.of(hop.interface).map_or(0, |interface| interface.mtu);
        let ip = Ipv4Fields::new(view.dst, view.src);
        if !build::udp(&mut frame, &ip, (SERVER_PORT, view.src_port), answer) {
            return Err(DropReason::NoHeadroom);
        }
        if frame.len() - L3_OFFSET > usize::from(mtu) {
            return Err(DropReason::TooBig);
        }
        match answered {
            Answered::Pcp(result) => self.counters.pcp.count(result),
            Answered::NatPmp => self.counters.pcp.nat_pmp.add(1),
        }
        egress.send_to(&self.context, self.io, frame, L3_OFFSET, hop);
        Ok(())
    }

    /// The way back to a client that is served.
    fn listens_to(&self, view: &Ipv4View, arrived: &Interface) -> Result<Hop, DropReason> {
        let (interfaces, tenant) = (&self.engine.router.interfaces, arrived.tenant);
        let is_internal = |interface: InterfaceId| interfaces.side_of(interface) == Some(Side::Internal);
        if !self.engine.config.pcp.enabled
            || arrived.side != Side::Internal
            || !interfaces.owner(tenant, view.dst).is_some_and(is_internal)
        {
            return Err(DropReason::LocalUnhandled);
        }
        let is_nobody = interfaces.is_own(tenant, view.src)
            || self.engine.router.is_nat_address(view.src)
            || interfaces.is_broadcast(tenant, view.src);
        let hop = self.engine.router.routes.lookup(tenant, view.src).ok_or(DropReason::NoRoute)?;
        if is_nobody || !is_internal(hop.interface) {
            return Err(DropReason::MartianSource);
        }
        Ok(hop)
    }

    /// Tells the hosts of every internal interface that a new epoch has begun, when that is due
    /// (RFC 6887 section 14.1.2).
    pub(super) fn announce_epoch(&mut self) {
        let now = self.context.now;
        if !self.owned.pcp.is_announcement_due(now) {
            return;
        }
        let mut message = [0; MAX_BYTES];
        let length = self.owned.pcp.announcement(&self.engine.nat, now, &mut message);
        let message = message.get(..length).unwrap_or_default();
        let interfaces = self.engine.router.interfaces.iter();
        for interface in interfaces.filter(|interface| interface.side == Side::Internal) {
            let Some(own) = interface.addresses.first() else { continue };
            let Some(mut frame) = self.io.alloc() else {
                return self.context.drops.count(DropReason::MempoolExhausted);
            };
            let ip = Ipv4Fields { ttl: 1, ..Ipv4Fields::new(own.address, ALL_HOSTS) };
            if !build::udp(&mut frame, &ip, (SERVER_PORT, CLIENT_PORT), message) {
                return self.context.drops.count(DropReason::NoHeadroom);
            }
            self.counters.pcp.announced.add(1);
            self.owned.egress.transmit(&self.context, self.io, frame, L3_OFFSET, interface.id, ALL_HOSTS_MAC);
        }
    }
}

/// What a UDP datagram carries, once its checksum is right or absent.
fn payload<'a>(head: &'a [u8], view: &Ipv4View) -> Result<&'a [u8], DropReason> {
    let l4 = head.get(usize::from(view.l4)..usize::from(view.end)).ok_or(DropReason::Truncated)?;
    let (&[_, _, _, _, l0, l1, c0, c1], _) =
        l4.split_first_chunk::<UDP_BYTES>().ok_or(DropReason::Truncated)?;
    let length = u16::from_be_bytes([l0, l1]);
    let datagram = l4.get(..usize::from(length)).ok_or(DropReason::BadL4Header)?;
    let pseudo_header = checksum::pseudo_header(view.src, view.dst, PROTOCOL_UDP, length);
    if [c0, c1] != [0, 0] && !checksum::is_valid(datagram, pseudo_header) {
        return Err(DropReason::BadL4Checksum);
    }
    datagram.get(UDP_BYTES..).ok_or(DropReason::BadL4Header)
}

/// 224.0.0.1 as RFC 1112 section 6.4 maps it.
const ALL_HOSTS_MAC: [u8; 6] = [0x01, 0x00, 0x5E, 0x00, 0x00, 0x01];
