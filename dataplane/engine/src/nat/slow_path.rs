//! The first packet of a flow: who may open a session, and with which translation.
//!
//! ```text
//! from       to                 needs                         becomes
//! internal   pool address       expectation, mapping          hairpin: both ends translated
//! internal   static address     -                             hairpin to the host that has it
//! internal   external side      NAT rule, quota, port         mapping + session, or session as it is
//! internal   anywhere           rule with destination_to      as above, to where the rule says
//! internal   internal side      route                         session without translation
//! internal   algate itself      expectation                   session to the client of a forward that masquerades
//! external   pool address       expectation, mapping, forward session to the internal endpoint
//! external   static address     expectation, filter rule, or  session to the host that has it
//!                               inbound = "allow"
//! external   balanced forward   -                             session to the server computed
//! external   internal side      expectation, or a filter      session without translation
//!                               rule that allows it
//! external   anything else      -                             dropped
//! ```
//!
//! Internal means of the sender's tenant: two tenants meet at external endpoints only (hairpin). An external packet
//! finds no tenant's addresses without translation, for those may be several hosts'.
//!
//! Protocols other than TCP, UDP and ICMP have no mappings: see `by_address`.
//!
//! TCP sessions begin with a SYN (RFC 5382 section 4.3). Everything made here is undone when a later step
//! fails, so a refused packet leaves no trace but its counter.

use algate_config::Side;

use crate::drop_reason::DropReason;
use crate::ids::WorkerId;
use crate::nat::allocation::Seat;
use crate::nat::creation::contact_key;
use crate::nat::expectation::Admission;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{Filtering, Hold, Mapping};
use crate::nat::opener::{Opener, Refusal};
use crate::nat::policy::{Translating, Treatment};
use crate::nat::ports::PortSpace;
use crate::nat::session::{AlgOwner, Facing, NewSession};
use crate::nat::tcp_state::{FLAG_ACK, FLAG_RST, FLAG_SYN};
use crate::nat::{Nat, NatWorker};
use crate::packet::parse::{Ipv4View, L4Class};
use crate::table::slots::Handle;

/// The slot of a session that the first packet made, and the side that packet came from: two registers, where a session by
/// name would be copied from function to function, and each copy wait until all it was made from is in the cache.
pub type Opened = (u32, Facing);

/// One end of a new session after translation, with what it holds.
pub(super) struct Source {
    pub(super) endpoint: Endpoint,
    pub(super) mapping: Option<u32>,
    pub(super) hold: Hold,
}

impl Source {
    /// One that needs no mapping: what it becomes follows from the configuration.
    pub(super) const fn unmapped(endpoint: Endpoint) -> Self {
        Self { endpoint, mapping: None, hold: Hold::Firm }
    }
}

impl Nat {
    /// Opens a session for the first packet of a flow, of which `view` is what it says.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was opened.
    pub fn open(
        &self,
        worker: &mut NatWorker,
        view: &Ipv4View,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        check_opener(view).map_err(Refusal::Drop)?;
        if !worker.has_room_to_open() {
            // Another thread holds up the grace period; nothing is lost but this packet.
            return Err(Refusal::Drop(DropReason::SessionTableFull));
        }
        if PortSpace::of_protocol(opener.key.protocol()).is_none() {
            return self.open_other(worker, opener);
        }
        let is_ours = self.ports.contains(view.dst) || self.statics.internal_of(view.dst).is_some();
        if (is_ours || opener.arrived.side == Side::External) && self.catch_up() {
            // It may be an answer to what the same batch has opened.
            return Err(Refusal::Raced);
        }
        match (opener.arrived.side, is_ours) {
            (Side::External, true) => self.open_inbound(worker, opener),
            (Side::External, false) if opener.by_rule => self.open_untranslated(worker, opener),
            // Only what an ALG expects finds a host that is not translated.
            (Side::External, false) => self.open_inbound(worker, opener),
            (Side::Internal, true) => self.open_hairpin(worker, opener),
            (Side::Internal, false) if self.is_expected_here(opener) => self.open_to_client(worker, opener),
            (Side::Internal, false) => self.open_outbound(worker, opener),
        }
    }

    /// A flow from the external side that a filter rule admits and nothing translates: to an internal
    /// host of no tenant by its own address. No ALG reads it.
    pub(super) fn open_untranslated(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        let Opener { key, router, now, .. } = *opener;
        let host = key.destination().host();
        let hop = router.routes.lookup(host.tenant, host.address);
        if hop.and_then(|hop| router.interfaces.side_of(hop.interface)) != Some(Side::Internal) {
            return Err(Refusal::Drop(DropReason::NoMapping));
        }
        let internal_hop = opener.next_hop(host)?;
        let external_hop = opener.reverse_hop(Side::External)?;
        let seat = self.seat(worker, key.protocol(), host, now)?;
        let new = NewSession {
            initiator: Facing::External,
            ..NewSession::between((key.reversed(), internal_hop), (key, external_hop), seat.subscriber)
        };
        self.create(worker, &new, seat, now).map(|slot| (slot, Facing::External))
    }

    pub(super) fn open_inbound(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        let Opener { key, now, .. } = *opener;
        let source = key.source();
        let (target, parent) = self.admit_inbound(worker, opener, source.address, Hold::Loose)?;
        let made = opener.next_hop(target.endpoint.host()).and_then(|internal| {
            let external = opener.reverse_hop(Side::External)?;
            let parent = parent.and_then(|parent| self.sessions.by_handle(parent));
            let seat = self.seat(worker, key.protocol(), target.endpoint.host(), now)?;
            let client = match self.is_masqueraded(key, parent) {
                true => self.masquerade(worker, opener, target.endpoint, internal.interface),
                false => Ok(Source::unmapped(source)),
            };
            match client {
                Ok(client) => Ok((internal, external, client, seat)),
                Err(refusal) => {
                    self.unseat(worker, seat);
                    Err(refusal)
                }
            }
        });
        let (internal_hop, external_hop, client, seat) = match made {
            Ok(made) => made,
            Err(refusal) => {
                self.release_mapping(worker, target.mapping, target.hold);
                return Err(refusal);
            }
        };
        let ends = [key.destination(), target.endpoint];
        let new = NewSession {
            initiator: Facing::External,
            mapping: target.mapping,
            hold: target.hold,
            remote_mapping: client.mapping,
            parent,
            alg_owner: self.alg_owner((key.protocol(), key.destination()), &ends, parent, opener.owner),
            ..NewSession::between(
                (FlowKey::new(key.protocol(), target.endpoint, client.endpoint), internal_hop),
                (key, external_hop),
                seat.subscriber,
            )
        };
        self.create(worker, &new, seat, now).map(|slot| (slot, Facing::External))
    }

    /// An internal host speaks to another one through its external endpoint (RFC 4787 REQ-9: the
    /// receiver sees the sender's external endpoint), whichever tenants the two are in; or algate's own where
    /// a forward masquerades.
    pub(super) fn open_hairpin(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
    ) -> Result<Opened, Refusal> {
        let Opener { key, now, .. } = *opener;
        let internal_hop = opener.reverse_hop(Side::Internal)?;
        let treatment = self.treatment(key)?;
        let seat = self.seat(worker, key.protocol(), key.source().host(), now)?;
        let seen_as = self.seen_as(worker, key, treatment, seat);
        let flow = called(key);
        let called = Opener { key: flow, hash: self.sessions.hash(flow), ..*opener };
        let (target, parent) = match self.admit_inbound(worker, &called, seen_as, Hold::Firm) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.unseat(worker, seat);
                return Err(refusal);
            }
        };
        let made = if target.endpoint == key.source() {
            // From an endpoint to itself: both directions would be one flow.
            Err(Refusal::Drop(DropReason::MartianDestination))
        } else {
            opener.next_hop(target.endpoint.host()).and_then(|external| {
                let server = target.endpoint;
                let source = match self.is_masqueraded(key, None) {
                    true => self.masquerade(worker, opener, server, external.interface)?,
                    false => self.map_source(worker, key, treatment, seat, now, |_| {})?,
                };
                Ok((external, source))
            })
        };
        let (external_hop, source) = match made {
            Ok(made) => made,
            Err(refusal) => {
                self.release_mapping(worker, target.mapping, target.hold);
                self.unseat(worker, seat);
                return Err(refusal);
            }
        };
        let ends = [key.destination(), target.endpoint];
        let callee = match is_query(key) {
            true => Endpoint { l4_port: key.destination().l4_port, ..target.endpoint },
            false => target.endpoint,
        };
        let new = NewSession {
            mapping: source.mapping,
            hold: source.hold,
            remote_mapping: target.mapping,
            parent,
            alg_owner: self.alg_owner((key.protocol(), key.destination()), &ends, parent, opener.owner),
            ..NewSession::between(
                (key, internal_hop),
                (FlowKey::new(key.protocol(), callee, source.endpoint), external_hop),
                seat.subscriber,
            )
        };
        self.create(worker, &new, seat, now).map(|slot| (slot, Facing::Internal))
    }

    /// The internal endpoint behind a pool address, with a reference on its mapping: by expectation, else
    /// by a balanced forward or static translation, else by a mapping whose filtering lets `remote`, the sender's address as
    /// the world sees it, in.
    fn admit_inbound(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
        remote: u32,
        hold: Hold,
    ) -> Result<(Source, Option<Handle>), Refusal> {
        let Opener { key, now, .. } = *opener;
        let admit = |source| self.expectations.admit(key.protocol(), source, key.destination(), now);
        let admission = match admit(key.source()) {
            // Another internal host: it may have been named as the world sees it (two phones and a proxy outside).
            Admission::Refused if remote != key.source().address => {
                admit(Endpoint::new(remote, key.source().l4_port))
            }
            admission => admission,
        };
        let refusal = match admission {
            // Its mapping may be open to more than the one expected.
            Admission::Refused => Refusal::Drop(DropReason::ExpectationPeer),
            Admission::Admitted { expectation, used_up } => {
                // The session's own reference, taken before the expectation's may go.
                let mapping =
                    expectation.mapping.filter(|mapping| self.mappings.acquire(*mapping, Hold::Firm));
                if let Some(slot) = used_up {
                    self.end_expectation(worker, slot);
                }
                if mapping != expectation.mapping {
                    // Other uses were withdrawn at this moment, and the mapping with them.
                    return Err(Refusal::Drop(DropReason::NoMapping));
                }
                let target = Source { endpoint: expectation.target, mapping, hold: Hold::Firm };
                return Ok((target, Some(expectation.parent)));
            }
            Admission::Unknown => Refusal::Drop(DropReason::NoMapping),
        };
        if let Some(server) = self.forwards.server(key) {
            return Ok((Source::unmapped(server), None));
        }
        if let Some(endpoint) = self.static_target(opener)? {
            return Ok((Source::unmapped(endpoint), None));
        }
        let found = self.mappings.acquire_external(key.protocol(), key.destination(), hold);
        let index = found.ok_or(refusal)?;
        let lets_in = |found: &Mapping| {
            // What the host itself has asked for comes first.
            let peer = Endpoint::new(remote, key.source().l4_port);
            let by_request = self.explicit.admits(index, found.protocol, found.internal, peer);
            by_request.unwrap_or_else(|| match found.filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => self.contacts.contains(contact_key(index, remote)),
                Filtering::AddressAndPortDependent | Filtering::Expected => false,
            })
        };
        match self.mappings.mapping(index).filter(lets_in) {
            Some(found) => Ok((Source { endpoint: found.internal, mapping: Some(index), hold }, None)),
            None => {
                self.release_mapping(worker, Some(index), hold);
                Err(refusal)
            }
        }
    }

    /// The host that has the static address it is sent to, where `opener` may come in. What the prefix only counts
    /// in, algate's own address and broadcasts, is nobody.
    fn static_target(&self, opener: &Opener<'_>) -> Result<Option<Endpoint>, Refusal> {
        let to = opener.key.destination();
        let Some(Host { tenant, address }) = self.statics.internal_of(to.address) else { return Ok(None) };
        let interfaces = &opener.router.interfaces;
        let is_host = !interfaces.is_own(tenant, address) && !interfaces.is_broadcast(tenant, address);
        let is_inside = opener.arrived.side == Side::Internal;
        if is_host && (is_inside || opener.by_rule || self.statics.admits_all(to.address)) {
            return Ok(Some(Endpoint { tenant, address, ..to }));
        }
        Err(Refusal::Drop(DropReason::NoMapping))
    }

    /// The sender's address as the receiver of a hairpin flow will see it.
    fn seen_as(&self, worker: &mut NatWorker, key: FlowKey, treatment: Treatment, seat: Seat) -> u32 {
        let host = key.source().host();
        let address = match treatment {
            Treatment::None => None,
            Treatment::Static(address) | Treatment::Translate(Translating { address: Some(address), .. }) => {
                Some(address)
            }
            Treatment::Translate(Translating { pool, .. }) => {
                self.external_address(worker, seat.subscriber, host, pool).map(|ports| ports.address)
            }
        };
        address.unwrap_or(host.address)
    }

    /// A control session is known by its well-known port, which no expected flow has; or by the endpoint that an ALG has
    /// `announced` for signalling.
    #[inline]
    pub(super) fn alg_owner(
        &self,
        (protocol, announced): (u8, Endpoint),
        servers: &[Endpoint],
        parent: Option<Handle>,
        owner: WorkerId,
    ) -> Option<AlgOwner> {
        let by_port = || self.control_ports.protocol_of(protocol, servers).filter(|_| parent.is_none());
        let protocol = self.expectations.control_at(protocol, announced).or_else(by_port)?;
        Some(AlgOwner { thread: owner, protocol })
    }
}

/// A query names no port of its receiver: behind a pool address its identifier says who is meant (RFC 5508
/// REQ-7). The receiver sees the sender's own identifier, for a query carries one only.
fn called(key: FlowKey) -> FlowKey {
    match is_query(key) {
        true => {
            let callee = Endpoint { l4_port: key.source().l4_port, ..key.destination() };
            FlowKey::new(key.protocol(), key.source(), callee)
        }
        false => key,
    }
}

const fn is_query(key: FlowKey) -> bool {
    key.protocol() == crate::packet::PROTOCOL_ICMP
}

/// Whether a packet may begin a flow at all.
#[inline]
fn check_opener(view: &Ipv4View) -> Result<(), DropReason> {
    match view.class {
        L4Class::Tcp if view.tcp_flags & (FLAG_SYN | FLAG_ACK | FLAG_RST) == FLAG_SYN => Ok(()),
        L4Class::Tcp => Err(DropReason::TcpNoSession),
        L4Class::Udp | L4Class::IcmpQueryRequest => Ok(()),
        L4Class::Sctp | L4Class::UdpLite | L4Class::Dccp | L4Class::GreCall | L4Class::Other => Ok(()),
        L4Class::IcmpQueryReply | L4Class::IcmpError | L4Class::IcmpOther => Err(DropReason::BadIcmp),
    }
}
