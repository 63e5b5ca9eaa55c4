//! Under which endpoints the other side knows a translated end.
//!
//! The flow's own endpoint is one. Where an end names its address with another port (a phone that
//! sends from one port and listens on another; any client over TCP), that port gets an expectation,
//! and what NAT announced for it is written. What comes back is turned back exactly: also whether the
//! end had written its port at all, since URIs with and without `:5060` are different ones (RFC 3261
//! section 19.1.4), and a phone looks for its own among the registered.
//!
//! An end that writes the endpoint it is seen under itself (it has asked a STUN server, or learnt
//! from `rport`) keeps what it wrote, in both directions. Via and the other headers are judged apart:
//! many phones fix only their Contact.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::contract::{Direction, Event, ExpectationId, Protocol};

use super::asking::Asking;
use super::tokens::{Place, Token, Value};

/// In which kind of place an endpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Via,
    Uri,
}

/// Who translates what an end writes of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It has written nothing yet.
    Unknown,
    /// algate. `implicit`: it leaves its port out.
    Translated { implicit: bool },
    /// The end itself.
    Public,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alias {
    owner: Direction,
    protocol: Protocol,
    target: SocketAddrV4,
    announced: SocketAddrV4,
    id: ExpectationId,
    lifetime: Duration,
    /// Its port was left out, in Via and in other headers.
    implicit: [bool; 2],
    age: u32,
}

/// The endpoints of both ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aliases {
    forms: [[Form; 2]; 2],
    items: [Option<Alias>; MAX_ALIASES],
    clock: u32,
}

impl Aliases {
    pub(super) const fn new() -> Self {
        Self { forms: [[Form::Unknown; 2]; 2], items: [None; MAX_ALIASES], clock: 0 }
    }

    /// What the other side shall read instead of `token`, an endpoint of the sender. `None`: it stays.
    pub(super) fn outward(
        &mut self,
        token: &Token,
        class: Class,
        lifetime: Duration,
        asking: &mut Asking<'_>,
    ) -> Result<Option<Value>, Event> {
        let (own, seen) = (asking.own(asking.sender), asking.seen(asking.sender));
        let Some(endpoint) = token.endpoint() else { return Ok(None) };
        let implicit = !token.has_l4_port();
        if endpoint.ip() != own.ip() {
            return Ok(None);
        }
        let protocol = token.transport.unwrap_or(asking.transport);
        let announced = if endpoint == own && protocol == asking.transport {
            self.set_form(asking.sender, class, Form::Translated { implicit });
            seen
        } else if let Some(alias) = self.existing(endpoint, protocol, lifetime, asking) {
            if let Some(noted) = alias.implicit.get_mut(class as usize) {
                *noted = implicit;
            }
            alias.announced
        } else if matches!(token.place, Place::RequestUri | Place::Identity) {
            // Nobody is reached there: a name that happens to be an address.
            SocketAddrV4::new(*seen.ip(), endpoint.port())
        } else {
            self.open(endpoint, protocol, implicit, lifetime, asking)?
        };
        let l4_port = (!implicit || announced.port() != token.default_l4_port).then_some(announced.port());
        Ok(Some(Value::Host(*announced.ip(), l4_port)))
    }

    /// Notes that the sender writes the endpoint under which it is seen.
    pub(super) fn note_public(&mut self, token: &Token, class: Class, asking: &Asking<'_>) {
        if asking.is_translated(asking.sender) && token.endpoint() == Some(asking.seen(asking.sender)) {
            self.set_form(asking.sender, class, Form::Public);
        }
    }

    /// What the receiver shall read instead of `token`, under which it is known. `None`: it stays.
    pub(super) fn inward(&self, token: &Token, class: Class, asking: &Asking<'_>) -> Option<Value> {
        let receiver = asking.sender.reversed();
        let endpoint = token.endpoint()?;
        let (target, implicit) = if endpoint == asking.seen(receiver) {
            let implicit = match self.form(receiver, class) {
                Form::Public => return None,
                Form::Translated { implicit } => implicit,
                Form::Unknown => !token.has_l4_port(),
            };
            (asking.own(receiver), implicit)
        } else {
            let alias = self.announced(receiver, endpoint)?;
            (alias.target, alias.implicit.get(class as usize).copied().unwrap_or(false))
        };
        let l4_port = (!implicit || target.port() != token.default_l4_port).then_some(target.port());
        Some(Value::Host(*target.ip(), l4_port))
    }

    /// Whether `end` translates itself in such places.
    pub(super) fn is_public(&self, end: Direction, class: Class) -> bool {
        self.form(end, class) == Form::Public
    }

    /// The expectation behind an endpoint that the receiver is known under, if it is not the flow's own.
    pub(super) fn expectation(&self, owner: Direction, endpoint: SocketAddrV4) -> Option<ExpectationId> {
        self.announced(owner, endpoint).map(|alias| alias.id)
    }

    /// Lets an alias last as long as a registration.
    pub(super) fn hold(&mut self, id: ExpectationId, lifetime: Duration, asking: &mut Asking<'_>) {
        for slot in &mut self.items {
            if let Some(alias) = slot.as_mut().filter(|alias| alias.id == id) {
                alias.lifetime = lifetime;
                if !asking.nat.renew(id, lifetime, None) {
                    *slot = None;
                }
            }
        }
    }

    /// Ends one.
    pub(super) fn withdraw(&mut self, id: ExpectationId, asking: &mut Asking<'_>) {
        for slot in &mut self.items {
            if slot.is_some_and(|alias| alias.id == id) {
                asking.nat.withdraw(id);
                *slot = None;
            }
        }
    }

    /// The sender's alias for `target`, if NAT still has it, with at least `lifetime` more.
    fn existing(
        &mut self,
        target: SocketAddrV4,
        protocol: Protocol,
        lifetime: Duration,
        asking: &mut Asking<'_>,
    ) -> Option<&mut Alias> {
        self.clock = self.clock.wrapping_add(1);
        let wanted = (asking.sender, target, protocol);
        let slot = self
            .items
            .iter_mut()
            .find(|slot| slot.is_some_and(|alias| (alias.owner, alias.target, alias.protocol) == wanted))?;
        let lives = slot.is_some_and(|alias| asking.nat.renew(alias.id, alias.lifetime.max(lifetime), None));
        if !lives {
            *slot = None;
        }
        let alias = slot.as_mut()?;
        alias.lifetime = alias.lifetime.max(lifetime);
        alias.age = self.clock;
        Some(alias)
    }

    fn open(
        &mut self,
        target: SocketAddrV4,
        protocol: Protocol,
        implicit: bool,
        lifetime: Duration,
        asking: &mut Asking<'_>,
    ) -> Result<SocketAddrV4, Event> {
        self.clock = self.clock.wrapping_add(1);
        let owner = asking.sender;
        let announced = asking.expect_signalling(protocol, target, lifetime)?;
        let (id, age) = (announced.id, self.clock);
        let announced = announced.endpoint;
        let alias = Alias { owner, protocol, target, announced, id, lifetime, implicit: [implicit; 2], age };
        if let Some(slot) = self.items.iter_mut().min_by_key(|slot| slot.map(|alias| alias.age)) {
            if let Some(oldest) = slot {
                asking.nat.withdraw(oldest.id);
            }
            *slot = Some(alias);
        }
        Ok(announced)
    }

    fn announced(&self, owner: Direction, endpoint: SocketAddrV4) -> Option<&Alias> {
        self.items.iter().flatten().find(|alias| alias.owner == owner && alias.announced == endpoint)
    }

    fn form(&self, end: Direction, class: Class) -> Form {
        let forms = self.forms.get(end as usize).and_then(|forms| forms.get(class as usize));
        forms.copied().unwrap_or(Form::Unknown)
    }

    fn set_form(&mut self, end: Direction, class: Class, form: Form) {
        if let Some(slot) = self.forms.get_mut(end as usize).and_then(|forms| forms.get_mut(class as usize)) {
            *slot = form;
        }
    }
}

/// Signalling endpoints besides the flow's own; the oldest makes room for a new one.
const MAX_ALIASES: usize = 6;
