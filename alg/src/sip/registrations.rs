//! Registrations (RFC 3261 section 10): how long an end must stay reachable under what it has registered.
//!
//! Only an answer to an outstanding REGISTER counts. What was granted is, per Contact: its `expires`,
//! else Expires, else 3600 s (section 10.2.1.1). For that long, and the time of a late refresh, the
//! expectations behind the registered endpoints live; over UDP the flow's own mapping is held, too.
//! A flow may register several users (a private exchange does): it is held until the last is gone. Where it has more
//! of them than are kept here, it is held as long as was granted, whoever leaves.

use std::time::Duration;

use crate::contract::{Direction, Event, Events, Expectation, ExpectationId, Peer, Protocol};

use super::aliases::Aliases;
use super::asking::Asking;
use super::reader::{Message, Method};
use super::text::hash;
use super::tokens::{Place, Token};

#[derive(Debug, Clone, Copy)]
pub(super) struct Registrations {
    /// Names the Call-IDs of requests without a final response.
    pending: [u64; PENDING],
    next_pending: usize,
    /// Names the users that are registered ([`named`]), 0 for none.
    users: [u64; USERS],
    next_user: usize,
    /// Some were registered that `users` has forgotten.
    forgot: bool,
    /// What holds the mapping of the flow, per end.
    held: [Option<ExpectationId>; 2],
}

impl Registrations {
    pub(super) const fn new() -> Self {
        Self {
            pending: [0; PENDING],
            next_pending: 0,
            users: [0; USERS],
            next_user: 0,
            forgot: false,
            held: [None; 2],
        }
    }

    /// Whether `user` is registered at that end.
    pub(super) fn has(&self, end: Direction, user: &[u8]) -> bool {
        !user.is_empty() && self.users.contains(&named(end, user))
    }

    /// Notes a request that leaves.
    pub(super) fn on_request(&mut self, message: &Message) {
        if message.method == Method::Register && !self.pending.contains(&message.call) {
            if let Some(slot) = self.pending.get_mut(self.next_pending % PENDING) {
                *slot = message.call;
            }
            self.next_pending = (self.next_pending + 1) % PENDING;
        }
    }

    pub(super) fn on_response<'m>(
        &mut self,
        message: &Message,
        tokens: &[Token],
        to_user: impl Fn() -> &'m [u8],
        aliases: &mut Aliases,
        asking: &mut Asking<'_>,
        events: &mut Events,
    ) {
        let status = message.status.unwrap_or(0);
        if message.method != Method::Register || status < 200 {
            return;
        }
        let Some(slot) = self.pending.iter_mut().find(|call| **call == message.call) else {
            events.count(Event::OutOfPlace);
            return;
        };
        *slot = 0;
        if status >= 300 {
            return;
        }
        let end = asking.sender.reversed();
        let default = message.expires.unwrap_or(DEFAULT_EXPIRES);
        let mut own = None;
        let mut others = false;
        for token in tokens.iter().filter(|token| token.place == Place::Contact) {
            let Some(endpoint) = token.endpoint() else { continue };
            let seconds = token.expires.unwrap_or(default).min(LONGEST_EXPIRES);
            if let Some(id) = aliases.expectation(end, endpoint) {
                own = own.max(Some(seconds));
                if seconds == 0 {
                    aliases.withdraw(id, asking);
                } else {
                    aliases.hold(id, granted(seconds), asking);
                }
            } else if endpoint == asking.seen(end) {
                own = own.max(Some(seconds));
            } else {
                others = true;
            }
        }
        // Contacts without a literal address, and no other: the end is registered under a name.
        let own = own.or((message.has_contact && !others).then_some(default.min(LONGEST_EXPIRES)));
        match own {
            Some(seconds) if seconds > 0 => {
                self.add_user(end, to_user());
                self.hold(end, granted(seconds), asking);
            }
            Some(_) => self.remove_user(end, to_user(), asking),
            None if !others => self.remove_user(end, to_user(), asking),
            None => {}
        }
    }

    fn add_user(&mut self, end: Direction, user: &[u8]) {
        let name = named(end, user);
        if !self.users.contains(&name) {
            let free = self.users.iter().position(|user| *user == 0);
            self.forgot |= free.is_none();
            if let Some(slot) = self.users.get_mut(free.unwrap_or(self.next_user % USERS)) {
                *slot = name;
            }
            self.next_user = (self.next_user + 1) % USERS;
        }
    }

    fn remove_user(&mut self, end: Direction, user: &[u8], asking: &mut Asking<'_>) {
        let name = named(end, user);
        for slot in self.users.iter_mut().filter(|slot| **slot == name) {
            *slot = 0;
        }
        if self.forgot || self.users.iter().any(|user| *user != 0 && user & 1 == end as u64) {
            return;
        }
        if let Some(id) = self.held.get_mut(end as usize).and_then(Option::take) {
            asking.nat.withdraw(id);
        }
    }

    /// Keeps the mapping of the flow itself. Its filtering decides who may use it, as before.
    fn hold(&mut self, end: Direction, lifetime: Duration, asking: &mut Asking<'_>) {
        if asking.transport != Protocol::Udp || !asking.is_translated(end) {
            return;
        }
        let Some(held) = self.held.get_mut(end as usize) else { return };
        if held.is_some_and(|id| asking.nat.renew(id, lifetime, None)) {
            return;
        }
        let request = Expectation {
            protocol: Protocol::Udp,
            owner: end,
            target: asking.own(end),
            peer: Peer::ByFiltering,
            peer_l4_port: None,
            uses: u16::MAX,
            lifetime,
        };
        *held = asking.nat.expect(&request).ok().map(|announced| announced.id);
        // Another proxy may call it there, from any port.
        held.iter().for_each(|id| asking.nat.mark_control(*id));
    }
}

/// Names a user of that end, which is the last bit; never 0.
fn named(end: Direction, user: &[u8]) -> u64 {
    (hash(user) & !1).max(2) | end as u64
}

/// A refresh may come late, and be sent again for 32 s (64*T1, RFC 3261 section 17.1.2.2).
fn granted(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds) + 32)
}

const DEFAULT_EXPIRES: u32 = 3600;
/// A registrar that grants more is taken to have granted a week.
const LONGEST_EXPIRES: u32 = 604_800;
const PENDING: usize = 64;
const USERS: usize = 64;
