//! The last step of opening a session: publishing it, with all that is noted beside it.
//!
//! A session under address-dependent filtering notes whom its internal endpoint has contacted. What was taken for
//! a session that cannot be made is given back here, so that the steps before need not.

use crate::drop_reason::DropReason;
use crate::event::Kind;
use crate::nat::allocation::Seat;
use crate::nat::key::FlowKey;
use crate::nat::mapping::{Filtering, Hold};
use crate::nat::session::{CreateError, NewSession, Session};
use crate::nat::{Nat, NatWorker, Refusal, Retiree};
use crate::time::{Instant, Tick};

impl Nat {
    /// Makes `new`, which holds references on its mappings and has its `seat`, and returns its slot. Where that fails, all of
    /// these are given back; where another worker has just made the same session, it is that one's.
    #[inline]
    pub(super) fn create(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        seat: Seat,
        now: Instant,
    ) -> Result<u32, Refusal> {
        let owner = new.alg_owner.map(|asked| self.owners.of(new, asked));
        let owned = owner.map(|_| NewSession { alg_owner: owner, ..*new });
        let new = owned.as_ref().unwrap_or(new);
        let contact = self.contact_of(new.mapping, new.internal_key);
        let contact = contact.map(|contact| self.contacts.enter(contact, |_| {}));
        let made = match contact {
            _ if !self.mappings_have_room(new) => Err(CreateError::MappingFull),
            Some(None) => Err(CreateError::Full),
            _ => self.publish_session(worker, new, now),
        };
        match made {
            Ok(session) => {
                self.record_session(worker, Kind::SessionCreated, new.internal_key, new.external_key);
                Ok(session.index())
            }
            Err(error) => self.give_up(worker, new, (seat, contact.flatten()), error, now),
        }
    }

    /// Gives back what was taken for a session that cannot be made.
    #[cold]
    fn give_up(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        (seat, contact): (Seat, Option<u32>),
        error: CreateError,
        now: Instant,
    ) -> Result<u32, Refusal> {
        if let Some(contact) = contact {
            self.leave_contact(worker, contact);
        }
        self.release_mapping(worker, new.mapping, new.hold);
        self.release_mapping(worker, new.remote_mapping, Hold::Firm);
        let reason = error.reason();
        match reason {
            Some(DropReason::QuotaMappingMemory) => {
                self.note_full_quota(worker, seat.subscriber, DropReason::QuotaMappingMemory);
            }
            Some(reason) => self.note_full_table(worker, reason),
            None => {}
        }
        self.unseat(worker, seat);
        match (error, reason) {
            (_, Some(reason)) => Err(Refusal::Drop(reason)),
            (CreateError::Exists(slot), _) => {
                let same = self.sessions.same(slot, new).ok_or(Refusal::Raced)?;
                // Not made at this moment: it had given way to one that has ended.
                if self.sessions.created(&same) != Tick::of(now) {
                    self.sessions.take_back(&same);
                }
                Ok(same.index())
            }
            (_, None) => Err(Refusal::Raced),
        }
    }

    /// Publishes a session. Where an expected one meets what its target has begun by rule, that gives way.
    #[inline]
    fn publish_session(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        now: Instant,
    ) -> Result<Session<'_>, CreateError> {
        match self.sessions.create(new, now, |slot| worker.retire(Retiree::Session(slot))) {
            Err(CreateError::Exists(slot)) => self.displace(worker, new, slot, now),
            made => made,
        }
    }

    /// Publishes `new` in place of the session in `slot`, if that gives way.
    #[cold]
    fn displace(
        &self,
        worker: &mut NatWorker,
        new: &NewSession,
        slot: u32,
        now: Instant,
    ) -> Result<Session<'_>, CreateError> {
        let begun = self.sessions.session(slot).filter(|begun| self.gives_way(begun, new));
        let begun = begun.ok_or(CreateError::Exists(slot))?;
        self.give_way(worker, &begun, now);
        self.sessions.create(new, now, |slot| worker.retire(Retiree::Session(slot)))
    }

    /// Whether the mappings that a new session uses, its references on them counted already, may have it.
    fn mappings_have_room(&self, new: &NewSession) -> bool {
        let mut mappings = [new.mapping, new.remote_mapping].into_iter().flatten();
        self.mapping_references == u64::MAX
            || mappings.all(|mapping| self.mappings.references(mapping) <= self.mapping_references)
    }

    /// Gives back what `create` noted for address-dependent filtering.
    pub(super) fn forget_contact(&self, worker: &mut NatWorker, session: &Session<'_>) {
        let [mapping, _] = session.mappings();
        let contact = self.contact_of(mapping, session.internal_key());
        if let Some(contact) = contact.and_then(|contact| self.contacts.find(contact)) {
            // The session's reference, and the one just taken.
            self.leave_contact(worker, contact);
            self.leave_contact(worker, contact);
        }
    }

    fn leave_contact(&self, worker: &mut NatWorker, contact: u32) {
        if self.contacts.release(contact) {
            worker.retire(Retiree::Contact(contact));
        }
    }

    /// What a session tells address-dependent filtering, if its mapping has that.
    #[inline]
    fn contact_of(&self, mapping: Option<u32>, internal_key: FlowKey) -> Option<u64> {
        if self.contacts.capacity() == 0 {
            return None;
        }
        let index = mapping?;
        if self.mappings.filtering_of(index)? != Filtering::AddressDependent {
            return None;
        }
        // As it is outside: twice NAT shows the host another address.
        let elsewhere = self.policy.destination(internal_key);
        let remote = elsewhere.unwrap_or(internal_key.destination()).address;
        Some(contact_key(index, remote))
    }
}

/// The key of a contact: whom the endpoint of `mapping` has a session with.
pub(super) const fn contact_key(mapping: u32, remote: u32) -> u64 {
    ((mapping as u64) << 32) | remote as u64
}
