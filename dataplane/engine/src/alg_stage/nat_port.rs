//! What an ALG may ask of NAT, on behalf of one control session.
//!
//! Where the target is the control session's own endpoint, the session's own mapping serves: the other end has seen it
//! already. Else NAT reserves one on the session's external address; for a PPTP call it chooses an id there.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_alg::{Announced, Direction, ExpectError, Expectation as Request, ExpectationId, Peer, Protocol};
use algate_alg::{Nat as AlgNat, SessionEndpoints};

use crate::alg_stage::protocols::ip_protocol;
use crate::counters::ProtocolCounters;
use crate::ids::TenantId;
use crate::nat::expectation::{Expectation, UNLIMITED};
use crate::nat::key::Endpoint;
use crate::nat::session::{Facing, Session};
use crate::nat::{Nat, NatWorker};
use crate::table::slots::Handle;
use crate::time::{Instant, Tick};

/// The expectations that one control session has outstanding.
#[derive(Debug)]
pub struct Promises {
    held: Vec<Promise>,
    limit: usize,
}

/// One of them. What is looked for is kept here, not only in the table: a trunk has thousands.
#[derive(Debug, Clone, Copy)]
struct Promise {
    handle: Handle,
    target: Endpoint,
    protocol: u8,
    by_filtering: bool,
    owner: Direction,
}

impl Promises {
    /// Room for `capacity` at a time.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { held: Vec::with_capacity(capacity), limit: capacity }
    }

    /// Memory of one with room for `capacity`, besides itself, bytes.
    #[must_use]
    pub const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Promise>()
    }

    /// Begins a control session that may have `limit` at a time, at most the room there is.
    pub fn begin(&mut self, limit: usize) {
        self.held.clear();
        self.limit = limit.min(self.held.capacity());
    }

    /// Withdraws whatever is still unused: the control session has ended, or is no longer read.
    pub fn withdraw_all(&mut self, nat: &Nat, worker: &mut NatWorker) {
        for promise in self.held.drain(..) {
            nat.withdraw(worker, promise.handle);
        }
    }

    /// Leaves them to their lifetime and to the session's end: what was announced stands.
    pub fn leave_all(&mut self) {
        self.held.clear();
    }

    fn of(&self, handle: Handle) -> Option<&Promise> {
        self.held.iter().find(|promise| promise.handle == handle)
    }
}

/// [`AlgNat`] for one call of an ALG.
#[derive(Debug)]
pub struct NatPort<'a> {
    /// The shared tables.
    pub nat: &'a Nat,
    /// The calling thread's part.
    pub worker: &'a mut NatWorker,
    /// The control session.
    pub session: Handle,
    /// Its addresses.
    pub endpoints: &'a SessionEndpoints,
    /// What it has outstanding.
    pub promises: &'a mut Promises,
    /// Where it is counted.
    pub counters: &'a ProtocolCounters,
    /// Now.
    pub now: Instant,
}

/// Where an expectation is announced, and the mapping behind it, one reference held.
type Place = (Endpoint, Option<u32>);

impl AlgNat for NatPort<'_> {
    fn expect(&mut self, request: &Request) -> Result<Announced, ExpectError> {
        let target = self.target_of(request);
        self.check(request, &[target])?;
        let place = self.place(request, target)?;
        self.promise(request, target, place)
    }

    fn expect_pair(&mut self, request: &Request) -> Result<[Announced; 2], ExpectError> {
        let lower = self.target_of(request);
        let l4_port = lower.l4_port.checked_add(1).ok_or(ExpectError::PoolExhausted)?;
        let upper = Endpoint { l4_port, ..lower };
        self.check(request, &[lower, upper])?;
        let [first, second] = match self.external_address_of(request.owner) {
            None => [lower, upper].map(|target| self.untranslated(request, target)),
            Some(address) if self.nat.keeps_ports(address) => {
                [lower, upper].map(|target| (Endpoint::new(address, target.l4_port), None))
            }
            Some(address) => {
                let protocol = ip_protocol(request.protocol);
                let pair = match self.is_own_name(address) {
                    true => self.nat.reserve_own_pair(self.worker, protocol, lower, address)?,
                    false => self.nat.reserve_pair(self.worker, protocol, lower, address, self.now)?,
                };
                pair.map(|(announced, mapping)| (self.met(request, announced), Some(mapping)))
            }
        };
        let first = match self.promise(request, lower, first) {
            Ok(first) => first,
            Err(error) => {
                self.nat.give_back(self.worker, second.1);
                return Err(error);
            }
        };
        match self.promise(request, upper, second) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                self.withdraw(first.id);
                Err(error)
            }
        }
    }

    fn renew(&mut self, expectation: ExpectationId, lifetime: Duration, peer: Option<Peer>) -> bool {
        let handle = Handle::from_u64(expectation.0);
        let Some((old, owner)) = self.held(handle) else { return false };
        let peer = match peer {
            None => old.peer,
            Some(peer) => {
                let from = old.peer.map_or(0, |peer| peer.l4_port);
                self.peer_of(peer, owner, from)
            }
        };
        self.nat.expectations.renew(handle, Tick::of(self.now).plus(lifetime), peer)
    }

    fn mark_control(&mut self, expectation: ExpectationId) {
        let handle = Handle::from_u64(expectation.0);
        let session = self.nat.sessions.by_handle(self.session);
        let protocol = session.and_then(|session| session.alg_protocol());
        if let (Some(protocol), true) = (protocol, self.promises.of(handle).is_some()) {
            self.nat.expectations.mark_control(handle, protocol);
        }
    }

    fn go_on(&mut self, expectation: ExpectationId, remote: SocketAddrV4) {
        let handle = Handle::from_u64(expectation.0);
        if self.held(handle).is_some() {
            self.nat.go_on(self.worker, handle, remote.into(), self.now);
        }
    }

    fn internal_of(
        &self,
        protocol: Protocol,
        announced: SocketAddrV4,
        reader: Direction,
    ) -> Option<SocketAddrV4> {
        let target = self.nat.expectations.target_at(ip_protocol(protocol), announced.into())?;
        (target.tenant == self.tenant_of(reader)).then(|| target.into())
    }

    fn withdraw(&mut self, expectation: ExpectationId) {
        let handle = Handle::from_u64(expectation.0);
        // Only what this session was given, or one beside it: an ALG cannot touch another's.
        let at = self.promises.held.iter().position(|promise| promise.handle == handle);
        if let Some(at) = at {
            self.promises.held.swap_remove(at);
        }
        if at.is_some() || self.owner_beside(handle).is_some() {
            self.nat.withdraw(self.worker, handle);
        }
    }
}

impl NatPort<'_> {
    /// Whether as many more may be outstanding, and each target may be opened at all.
    fn check(&mut self, request: &Request, targets: &[Endpoint]) -> Result<(), ExpectError> {
        let is_service = |target: &Endpoint| SERVICE_PORTS.contains(&target.l4_port);
        if request.protocol != Protocol::Gre && targets.iter().any(is_service) {
            self.counters.service_ports.add(1);
            return Err(ExpectError::ServicePort);
        }
        if !self.fits(request, targets) {
            // Some may have ended by themselves.
            let nat = self.nat;
            self.promises.held.retain(|promise| nat.expectations.is_waiting(promise.handle));
            if !self.fits(request, targets) {
                return Err(ExpectError::SessionBudget);
            }
        }
        Ok(())
    }

    /// Whether there is room for `targets`, some of which may take the place of what is outstanding.
    fn fits(&self, request: &Request, targets: &[Endpoint]) -> bool {
        let is_replaced = |held: &&Promise| targets.iter().any(|target| held.is_for(request, *target));
        let replaced = self.promises.held.iter().filter(is_replaced).count();
        self.promises.held.len() - replaced + targets.len() <= self.promises.limit
    }

    /// Reserves what is announced for the target.
    fn place(&mut self, request: &Request, target: Endpoint) -> Result<Place, ExpectError> {
        if request.protocol == Protocol::Gre && target.l4_port == 0 {
            return self.place_of_call_zero(request, target);
        }
        let Some(address) = self.external_address_of(request.owner) else {
            return Ok(self.untranslated(request, target));
        };
        if self.nat.keeps_ports(address) {
            return Ok((Endpoint::new(address, target.l4_port), None));
        }
        if request.protocol == Protocol::Gre {
            return self.place_of_call(request, address);
        }
        if let Some(mapping) = self.own_mapping(request) {
            let seen = self.endpoints.sender_seen(request.owner).into();
            return Ok((self.met(request, seen), mapping));
        }
        let protocol = ip_protocol(request.protocol);
        let reserved = if self.is_own_name(address) {
            self.nat.reserve_own(self.worker, protocol, target, address)
        } else if request.peer == Peer::ByFiltering {
            let remote = self.endpoints.sender(request.owner.reversed()).into();
            self.nat.reserve_by_rule(self.worker, protocol, (target, remote), address, self.now)
        } else {
            self.nat.reserve(self.worker, protocol, target, address, self.now)
        };
        reserved.map(|(announced, mapping)| (self.met(request, announced), Some(mapping)))
    }

    /// Whether an end is seen at algate's own `address`: by a server whose forward masquerades.
    fn is_own_name(&self, address: u32) -> bool {
        !self.nat.ports.contains(address) && !self.nat.keeps_ports(address)
    }

    /// What is announced, in the tenant whose packets come there: an endpoint of algate's own is met inside.
    fn met(&self, request: &Request, announced: Endpoint) -> Endpoint {
        match self.is_own_name(announced.address) {
            true => announced.in_tenant(self.tenant_of(request.owner.reversed())),
            false => announced,
        }
    }

    /// Chooses the call id that is announced at this address.
    fn place_of_call(&mut self, request: &Request, address: u32) -> Result<Place, ExpectError> {
        let peer = self.peer_of(request.peer, request.owner, 0).ok_or(ExpectError::PoolExhausted)?;
        let call = self.nat.reserve_call(self.worker, address, peer.host());
        call.map(|announced| (announced, None)).ok_or(ExpectError::PoolExhausted)
    }

    /// Call id 0, which servers give their first call, but which flows cannot have here: the other end is told another
    /// one, though no address may be translated. Flows of static addresses keep their ids, so these cannot.
    fn place_of_call_zero(&mut self, request: &Request, target: Endpoint) -> Result<Place, ExpectError> {
        let [own, other] =
            [request.owner, request.owner.reversed()].map(|owner| self.external_address_of(owner));
        if [own, other].into_iter().flatten().any(|address| self.nat.keeps_ports(address)) {
            return Err(ExpectError::PoolExhausted);
        }
        let (announced, mapping) = self.place_of_call(request, own.unwrap_or(target.address))?;
        Ok(match own {
            Some(_) => (announced, mapping),
            None => (announced.in_tenant(self.tenant_of(request.owner.reversed())), mapping),
        })
    }

    /// The mapping behind the control session's own endpoint, if that is the target; one reference is taken. A port
    /// forward has none, and stays.
    fn own_mapping(&self, request: &Request) -> Option<Option<u32>> {
        let session = self.nat.sessions.by_handle(self.session)?;
        let is_own = self.endpoints.sender(request.owner) == request.target
            && session.internal_key().protocol() == ip_protocol(request.protocol);
        let [own, remote] = session.mappings();
        let mapping = if session.direction(Facing::Internal) == request.owner { own } else { remote };
        let is_kept = |mapping: &Option<u32>| mapping.is_none_or(|mapping| self.nat.keep(mapping));
        Some(mapping).filter(|mapping| is_own && is_kept(mapping))
    }

    fn promise(
        &mut self,
        request: &Request,
        target: Endpoint,
        (announced, mapping): Place,
    ) -> Result<Announced, ExpectError> {
        let nat = self.nat;
        // A host that announces the same target again means the new promise.
        let same = self.promises.held.iter().position(|held| held.is_for(request, target));
        if let Some(at) = same {
            let promise = self.promises.held.swap_remove(at);
            nat.withdraw(self.worker, promise.handle);
        }
        let expectation = Expectation {
            protocol: ip_protocol(request.protocol),
            announced,
            target,
            peer: self.peer_of(request.peer, request.owner, request.peer_l4_port.unwrap_or(0)),
            uses: if request.uses == u16::MAX { UNLIMITED } else { u32::from(request.uses) },
            expires: Tick::of(self.now).plus(request.lifetime),
            parent: self.session,
            mapping,
        };
        // It may have come by another of its control sessions, from another port.
        let beside =
            nat.expectations.promised(&expectation).filter(|handle| self.owner_beside(*handle).is_some());
        beside.into_iter().for_each(|handle| nat.withdraw(self.worker, handle));
        let handle = nat.promise(self.worker, &expectation)?;
        self.promises.held.push(Promise {
            handle,
            target,
            protocol: expectation.protocol,
            by_filtering: request.peer == Peer::ByFiltering,
            owner: request.owner,
        });
        self.counters.expectations.add(1);
        Ok(Announced { id: ExpectationId(handle.to_u64()), endpoint: announced.into() })
    }

    /// The expectation that `handle` names and whose it is, if it is this session's, or of one beside it, and still waits.
    fn held(&self, handle: Handle) -> Option<(Expectation, Direction)> {
        let promise = self.promises.of(handle).map(|promise| promise.owner);
        let owner = promise.or_else(|| self.owner_beside(handle))?;
        let expectation = self.nat.expectations.expectation(handle.index)?;
        self.nat.expectations.is_waiting(handle).then_some((expectation, owner))
    }

    /// Whose an expectation is that was given to a control session beside this one: between the same two hosts, of the same
    /// protocol, in the same thread, so that nobody else renews or ends it meanwhile. A dialogue may go on from another port.
    fn owner_beside(&self, handle: Handle) -> Option<Direction> {
        let sessions = &self.nat.sessions;
        let expectation = self.nat.expectations.expectation(handle.index);
        let expectation = expectation.filter(|_| self.nat.expectations.is_waiting(handle))?;
        let (own, beside) = (sessions.by_handle(self.session)?, sessions.by_handle(expectation.parent)?);
        let hosts = |session: &Session<'_>| {
            let key = session.internal_key();
            (key.source().host(), key.destination().host())
        };
        let is_beside = hosts(&own) == hosts(&beside)
            && own.alg_protocol() == beside.alg_protocol()
            && own.alg_owner() == beside.alg_owner();
        // It is of the end that is translated; of two, of the one whose host it is for.
        let is_owner = |end: &Direction| {
            let host = Endpoint::from(self.endpoints.sender(*end)).in_tenant(self.tenant_of(*end)).host();
            let other = self.external_address_of(end.reversed());
            self.external_address_of(*end).is_some() && (other.is_none() || host == expectation.target.host())
        };
        [Direction::Original, Direction::Reply].into_iter().find(is_owner).filter(|_| is_beside)
    }

    /// The external address of an end, if it is translated.
    fn external_address_of(&self, owner: Direction) -> Option<u32> {
        let (own, seen) = (self.endpoints.sender(owner), self.endpoints.sender_seen(owner));
        (own != seen).then(|| u32::from(*seen.ip()))
    }

    /// The tenant from which packets of `direction` come.
    fn tenant_of(&self, direction: Direction) -> TenantId {
        let session = self.nat.sessions.by_handle(self.session);
        session.map_or(TenantId::NONE, |session| session.tenant_towards(session.facing(direction.reversed())))
    }

    /// What the ALG calls the target, in the tenant of its owner.
    fn target_of(&self, request: &Request) -> Endpoint {
        Endpoint::from(request.target).in_tenant(self.tenant_of(request.owner))
    }

    /// A target that is not translated is announced as it is, to be met in the tenant of the peer's packets.
    fn untranslated(&self, request: &Request, target: Endpoint) -> Place {
        (target.in_tenant(self.tenant_of(request.owner.reversed())), None)
    }

    /// Who may come; the other end as it knows itself, for so its packets arrive here.
    fn peer_of(&self, peer: Peer, owner: Direction, l4_port: u16) -> Option<Endpoint> {
        let address = match peer {
            Peer::OtherEnd => *self.endpoints.sender(owner.reversed()).ip(),
            Peer::Address(address) => address,
            Peer::Any => Ipv4Addr::UNSPECIFIED,
            Peer::ByFiltering => return None,
        };
        Some(Endpoint { tenant: self.tenant_of(owner.reversed()), address: u32::from(address), l4_port })
    }
}

impl Promise {
    /// Whether it is for the same target and kind of peer as `request`.
    fn is_for(&self, request: &Request, target: Endpoint) -> bool {
        self.target == target
            && self.protocol == ip_protocol(request.protocol)
            && self.by_filtering == (request.peer == Peer::ByFiltering)
    }
}

/// Ports of services that an ALG must never open to the world, whatever a message says: remote shells, file and
/// desktop sharing, databases. The ALGs themselves refuse ports below 1024.
const SERVICE_PORTS: [u16; 19] =
    [22, 23, 25, 135, 139, 389, 445, 512, 513, 514, 1433, 1521, 2049, 3306, 3389, 5432, 5900, 5985, 5986];
