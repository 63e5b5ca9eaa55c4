//! What an ALG may ask of NAT, on behalf of one control session.

use algate_alg::{Announced, Direction, ExpectError, Expectation as Request, ExpectationId, Protocol};
use algate_alg::{Nat as AlgNat, SessionEndpoints};

use crate::ids::TenantId;
use crate::nat::expectation::Expectation;
use crate::nat::key::Endpoint;
use crate::nat::{Nat, NatWorker};
use crate::packet::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::table::slots::Handle;
use crate::time::{Instant, Tick};

/// The expectations that one control session has outstanding.
#[derive(Debug)]
pub struct Promises {
    handles: Vec<Handle>,
}

impl Promises {
    /// Room for `limit` at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { handles: Vec::with_capacity(limit) }
    }

    /// Withdraws whatever is still unused: the control session has ended, or is no longer read.
    pub fn withdraw_all(&mut self, nat: &Nat, worker: &mut NatWorker) {
        for handle in self.handles.drain(..) {
            nat.withdraw(worker, handle);
        }
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
    /// Now.
    pub now: Instant,
}

impl AlgNat for NatPort<'_> {
    fn expect(&mut self, request: &Request) -> Result<Announced, ExpectError> {
        let nat = self.nat;
        self.promises.handles.retain(|handle| nat.expectations.is_waiting(*handle));
        if self.promises.handles.len() == self.promises.handles.capacity() {
            return Err(ExpectError::SessionBudget);
        }
        let protocol = match request.protocol {
            Protocol::Tcp => PROTOCOL_TCP,
            Protocol::Udp => PROTOCOL_UDP,
        };
        let target = Endpoint::from(request.target).in_tenant(self.tenant_of(request.owner));
        let peer = self.peer_of(request);
        let (announced, mapping) = match self.external_address_of(request.owner) {
            Some(address) if nat.keeps_ports(address) => (Endpoint::new(address, target.l4_port), None),
            Some(address) => {
                let (endpoint, mapping) = nat.reserve(self.worker, protocol, target, address, self.now)?;
                (endpoint, Some(mapping))
            }
            None => (target.in_tenant(peer.tenant), None),
        };
        let expectation = Expectation {
            protocol,
            announced,
            target,
            peer,
            uses: u32::from(request.uses),
            expires: Tick::of(self.now).plus(request.lifetime),
            parent: self.session,
            mapping,
        };
        self.withdraw_same(&expectation);
        let handle = nat.promise(self.worker, &expectation).ok_or(ExpectError::TableFull)?;
        self.promises.handles.push(handle);
        Ok(Announced { id: ExpectationId(handle.to_u64()), endpoint: announced.into() })
    }

    fn withdraw(&mut self, expectation: ExpectationId) {
        let handle = Handle::from_u64(expectation.0);
        // Only what this session was given: an ALG cannot touch another's.
        if self.promises.handles.contains(&handle) {
            self.promises.handles.retain(|held| *held != handle);
            self.nat.withdraw(self.worker, handle);
        }
    }
}

impl NatPort<'_> {
    /// The external address of an end, if it is translated.
    fn external_address_of(&self, owner: Direction) -> Option<u32> {
        let (own, seen) = (self.endpoints.sender(owner), self.endpoints.sender_seen(owner));
        (own != seen).then(|| u32::from(*seen.ip()))
    }

    /// The other end of the control session, as it knows itself: so its packets arrive here.
    fn peer_of(&self, request: &Request) -> Endpoint {
        let direction = request.owner.reversed();
        let address = u32::from(*self.endpoints.sender(direction).ip());
        Endpoint { tenant: self.tenant_of(direction), address, l4_port: request.peer_l4_port.unwrap_or(0) }
    }

    /// The tenant from which packets of `direction` come.
    fn tenant_of(&self, direction: Direction) -> TenantId {
        let session = self.nat.sessions.by_handle(self.session);
        session.map_or(TenantId::NONE, |session| session.tenant_towards(session.facing(direction.reversed())))
    }

    /// A host that announces the same endpoint again means the new promise.
    fn withdraw_same(&mut self, new: &Expectation) {
        let nat = self.nat;
        let same = self.promises.handles.iter().position(|held| {
            nat.expectations.expectation(held.index).is_some_and(|old| {
                old.announced == new.announced && old.protocol == new.protocol && old.parent == new.parent
            })
        });
        if let Some(at) = same {
            let handle = self.promises.handles.swap_remove(at);
            nat.withdraw(self.worker, handle);
        }
    }
}
