//! Flows of protocols other than TCP, UDP and ICMP: known by addresses, and by ports where they have some.
//!
//! A NAT rule must name the protocol, whatever the filter allows; but a PPTP call needs none. Such a flow has no mapping
//! and takes no port of the pool: the session is the translation, and its external key is what must be unique. So it depends on the remote
//! end, and only that end can answer (RFC 4787's address-and-port-dependent mapping and filtering).
//!
//! ```text
//! SCTP, UDP-Lite    the host's own port where that is inside the pool's range and free towards this remote
//!                   endpoint, else a random one: 16 attempts
//! all others        one internal host per remote host and external address; under soft pairing another address
//!                   of the pool is tried. The second host is refused (`address_in_use`).
//! AH                never translated: it covers the addresses (RFC 4302 section 3.3.3.1.1)
//! ```
//!
//! A GRE packet of a PPTP call (version 1) is a flow of its own, by call id, where an expectation says so: that admits it
//! without a rule, as it does the data of other protocols, and it leaves from the external address of its control
//! session. Each direction is a session, for each end has chosen an id. Ids that are announced for translated ends are
//! random; nothing else uses them at the same address. Where an end that is not translated has chosen 0, one is announced
//! for it, too: here 0 means that there is no id. Any other such packet is known by its addresses like plain
//! GRE, so that one internal host has all calls to a server.
//!
//! Not done: ESP by SPI; endpoint-independent mappings of UDP-Lite; blocks of ports, which these ports are no part of;
//! PPTP calls between two internal hosts, or through a forward that masquerades.

use algate_alg::ProtocolId;
use algate_config::{Pairing, Side};

use crate::drop_reason::DropReason;
use crate::event::Kind;
use crate::ids::TenantId;
use crate::nat::allocation::Seat;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::policy::{Translating, Treatment};
use crate::nat::ports::CANDIDATES;
use crate::nat::session::{CreateError, Facing, NewSession, Session};
use crate::nat::{Nat, NatWorker, Opened, Opener, Refusal, Retiree};
use crate::packet::other::has_changeable_ports;
use crate::packet::parse::{Ipv4View, L4Class};
use crate::packet::{PROTOCOL_AH, PROTOCOL_GRE};
use crate::time::Instant;

impl Nat {
    /// A GRE packet of a call that nobody expects, as one that is known by its addresses alone.
    #[must_use]
    pub fn without_call(&self, view: &Ipv4View, tenant: TenantId) -> Option<Ipv4View> {
        let called = Endpoint::new(view.dst, view.dst_port);
        let is_expected = || {
            self.expectations.is_announced(view.protocol, called)
                || self.expectations.is_announced(view.protocol, called.in_tenant(tenant))
        };
        (view.class == L4Class::GreCall && !is_expected()).then_some(Ipv4View {
            class: L4Class::Other,
            dst_port: 0,
            ..*view
        })
    }

    /// Whether there may be flows of `protocol`: a NAT rule may cover them, or an ALG expects them.
    #[must_use]
    pub fn names(&self, protocol: u8) -> bool {
        self.policy.names(protocol)
            || (protocol == PROTOCOL_GRE && self.control_ports.reads(ProtocolId::Pptp))
    }

    /// Chooses the call id that is announced on the external `address` for GRE from `peer`. `None`: those that were tried
    /// are all in use.
    #[must_use]
    pub fn reserve_call(&self, worker: &mut NatWorker, address: u32, peer: Host) -> Option<Endpoint> {
        let from = Endpoint { tenant: peer.tenant, address: peer.address, l4_port: 0 };
        let is_free = |announced: &Endpoint| {
            let key = FlowKey::new(PROTOCOL_GRE, from, *announced);
            // 0 means none here. A flow may have outlived its expectation.
            announced.l4_port != 0
                && !self.expectations.is_announced(PROTOCOL_GRE, *announced)
                && self.find(self.sessions.hash(key), key).is_none()
        };
        let mut candidates = (0..CANDIDATES).map(|_| Endpoint::new(address, worker.random.draw() as u16));
        candidates.find(is_free)
    }

    /// Opens a session for the first packet of a flow of a protocol without mappings. A static address serves it
    /// like any other.
    pub(super) fn open_other(&self, worker: &mut NatWorker, opener: &Opener<'_>) -> Result<Opened, Refusal> {
        let key = opener.key;
        // With a call id it is known to be expected, by whomever.
        let is_call = key.protocol() == PROTOCOL_GRE && key.destination().l4_port != 0;
        if !is_call && !self.policy.names(key.protocol()) {
            return Err(Refusal::Drop(DropReason::UnsupportedProtocol));
        }
        let to = key.destination().address;
        let from_static = self.statics.external_of(key.source().host()).is_some();
        let to_static = self.statics.internal_of(to).is_some();
        if key.protocol() == PROTOCOL_AH && (from_static || to_static) {
            return Err(Refusal::Drop(DropReason::AhTranslated));
        }
        match (opener.arrived.side, to_static || self.ports.contains(to)) {
            // To a static address, or what an ALG expects; there are no mappings to find.
            (Side::External, true) => self.open_inbound(worker, opener),
            (Side::External, false) if opener.by_rule => self.open_untranslated(worker, opener),
            (Side::Internal, true) if from_static && to_static => self.open_hairpin(worker, opener),
            (Side::Internal, false) if from_static => self.open_outbound(worker, opener),
            (Side::Internal, false) if is_call => self.open_call(worker, opener),
            (Side::Internal, false) => self.open_outbound_other(worker, opener),
            _ => Err(Refusal::Drop(DropReason::NoMapping)),
        }
    }

    /// An outbound PPTP call: from the external address of its control session, which the other end knows.
    fn open_call(&self, worker: &mut NatWorker, opener: &Opener<'_>) -> Result<Opened, Refusal> {
        let Opener { key, router, now, .. } = *opener;
        let internal_hop = opener.reverse_hop(Side::Internal)?;
        let remote = key.destination().in_tenant(key.tenant());
        let external_hop = opener.next_hop(remote.host())?;
        let expected = self.expected_outbound(worker, key, remote, now);
        let control = expected.and_then(|expected| {
            let control = self.sessions.by_handle(expected.parent)?;
            Some((control, expected))
        });
        let Some((control, expected)) = control else {
            // Another host's call: the id says nothing here.
            return match self.policy.names(key.protocol()) {
                true => self.open_outbound_other(worker, opener),
                false => Err(Refusal::Drop(DropReason::ExpectationPeer)),
            };
        };
        let remote = remote.in_tenant(router.interfaces.tenant_of(external_hop.interface));
        // The id that the other end knows; another one was announced if that is 0.
        let remote = Endpoint { l4_port: expected.target.l4_port, ..remote };
        let parent = Some(expected.parent);
        let source = Endpoint { l4_port: 0, ..control.external_key().destination() };
        let is_translated = control.internal_key().source().address != source.address;
        let source = if is_translated { source } else { key.source() };
        let seat = self.seat(worker, key.protocol(), key.source().host(), now)?;
        let new = NewSession {
            parent,
            ..NewSession::between(
                (key, internal_hop),
                (FlowKey::new(key.protocol(), remote, source), external_hop),
                seat.subscriber,
            )
        };
        let made = self.create_unique(worker, &new, now);
        let opened = made.unwrap_or(Err(Refusal::Drop(DropReason::AddressInUse)));
        if opened.is_err() {
            self.unseat(worker, seat);
        }
        opened.map(|session| (session.index(), Facing::Internal))
    }

    fn open_outbound_other(&self, worker: &mut NatWorker, opener: &Opener<'_>) -> Result<Opened, Refusal> {
        let Opener { key, router, now, .. } = *opener;
        let internal_hop = opener.reverse_hop(Side::Internal)?;
        let remote = key.destination().in_tenant(key.tenant());
        let external_hop = opener.next_hop(remote.host())?;
        // What it answers arrives in the tenant of the interface behind which it is.
        let remote = remote.in_tenant(router.interfaces.tenant_of(external_hop.interface));
        let is_translated = router.interfaces.side_of(external_hop.interface) == Some(Side::External);
        let translating = match self.treatment(key)? {
            Treatment::Translate(_) if is_translated && key.protocol() == PROTOCOL_AH => {
                return Err(Refusal::Drop(DropReason::AhTranslated));
            }
            Treatment::Translate(translating) if is_translated => Some(translating),
            _ => None,
        };
        let seat = self.seat(worker, key.protocol(), key.source().host(), now)?;
        let new = NewSession {
            parent: self.admit_outbound(worker, key, key.destination().in_tenant(key.tenant()), now),
            ..NewSession::between(
                (key, internal_hop),
                (FlowKey::new(key.protocol(), remote, key.source()), external_hop),
                seat.subscriber,
            )
        };
        let opened = match translating {
            None => self.create_unique(worker, &new, now).unwrap_or(Err(Refusal::Raced)),
            Some(translating) => self.create_translated(worker, &new, &translating, seat, now),
        };
        if opened.is_err() {
            self.unseat(worker, seat);
        }
        opened.map(|session| (session.index(), Facing::Internal))
    }

    /// Makes the session at the first external endpoint that is free towards its remote one.
    fn create_translated(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        translating: &Translating,
        seat: Seat,
        now: Instant,
    ) -> Result<Session<'_>, Refusal> {
        let exhausted = Refusal::Drop(DropReason::PoolExhausted);
        let plan = self.ports.plan(translating.pool).ok_or(exhausted)?;
        let (protocol, internal) = (new.internal_key.protocol(), new.internal_key.source());
        let address = translating.address.or_else(|| {
            let ports = self.external_address(worker, seat.subscriber, internal.host(), translating.pool);
            ports.map(|ports| ports.address)
        });
        let own = Endpoint::new(address.ok_or(exhausted)?, internal.l4_port);
        let random = worker.random.draw() >> 1;
        let may_move = plan.pairing == Pairing::Soft && translating.address.is_none();
        let (low, high) = plan.l4_ports;
        let has_ports = has_changeable_ports(protocol);
        let candidate = |attempt: u64| match attempt {
            0 if has_ports && !(low..=high).contains(&own.l4_port) => None,
            0 => Some(own),
            _ if has_ports => {
                let offset = self.key.hash1(random + attempt) % (u64::from(high - low) + 1);
                Some(Endpoint { l4_port: low + u16::try_from(offset).ok()?, ..own })
            }
            _ if may_move => {
                let address = self.ports.address(translating.pool, random + attempt)?;
                Some(Endpoint { address, ..own })
            }
            _ => None,
        };
        for external in (0..=CANDIDATES as u64).filter_map(candidate) {
            let external_key = FlowKey::new(protocol, new.external_key.source(), external);
            if let Some(made) = self.create_unique(worker, &NewSession { external_key, ..*new }, now) {
                return made;
            }
        }
        Err(Refusal::Drop(DropReason::AddressInUse))
    }

    /// Makes a session; `None`: another flow has its external key.
    fn create_unique(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        now: Instant,
    ) -> Option<Result<Session<'_>, Refusal>> {
        let full = |worker: &mut NatWorker, reason| {
            self.note_full_table(worker, reason);
            Some(Err(Refusal::Drop(reason)))
        };
        match self.sessions.create(new, now, |slot| worker.retire(Retiree::Session(slot))) {
            Ok(session) => {
                self.record_session(worker, Kind::SessionCreated, new.internal_key, new.external_key);
                Some(Ok(session))
            }
            Err(CreateError::Exists(slot)) => {
                let other = self.sessions.session(slot)?;
                // Another worker has opened the same flow: it is looked up again.
                (other.internal_key() == new.internal_key).then_some(Err(Refusal::Raced))
            }
            Err(error) => full(worker, error.reason()?),
        }
    }
}
