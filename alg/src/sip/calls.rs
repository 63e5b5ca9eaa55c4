//! Calls and their media (RFC 3261 sections 12 to 15, RFC 3264).
//!
//! ```text
//! message                        what happens to the call's expectations
//! INVITE, or own description     the call is kept; media wait for `media_lifetime`
//! description of the other end   peers become the addresses it names (the signalling peer before)
//! 1xx but 100, not yet answered  media wait for `media_lifetime` anew: it rings
//! 2xx to INVITE                  answered: media last `call_lifetime`, or Session-Expires; what the last
//!                                description no longer names is withdrawn
//! 2xx to UPDATE, PRACK           the same, without answering
//! 3xx to 6xx, not yet answered   all is withdrawn, the call forgotten
//! 3xx to 6xx, answered           only what that offer had opened is withdrawn
//! CANCEL, not yet answered       media last 64*T1: a 2xx may cross it
//! BYE                            its fork ends; with the last one all is withdrawn
//! ```
//!
//! A call is known by its Call-ID: its forks (several To tags) share the media of the offer. Calls of
//! one flow share nothing. When the table is full, the oldest call without an answer makes room, then
//! the oldest answered one; the latter's expectations are left to their lifetime, since it goes on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::contract::{Direction, Event, ExpectationId, Peer, Protocol};

use super::asking::Asking;
use super::reader::{Message, Method};
use super::sdp::{Connection, MAX_SECTIONS, Sdp};

#[derive(Debug, Clone, Copy)]
struct Call {
    /// Names the Call-ID; 0: free.
    name: u64,
    answered: bool,
    /// Tags of those who answered with a 2xx and have not hung up.
    forks: [u32; MAX_FORKS],
    /// What each end has named in `c=`, per media section. Unspecified: nothing.
    addresses: [[Ipv4Addr; MAX_SECTIONS]; 2],
    age: u32,
}

#[derive(Debug, Clone, Copy)]
struct Media {
    /// Names the Call-ID; 0: free.
    call: u64,
    owner: Direction,
    section: u8,
    protocol: Protocol,
    target: SocketAddrV4,
    announced: SocketAddrV4,
    ids: [ExpectationId; 2],
    /// `ids` are those of two adjacent ports.
    pair: bool,
    peer: Peer,
    /// Opened by an offer that is not yet accepted.
    fresh: bool,
    /// Not named by the owner's last description.
    stale: bool,
}

/// The calls of one signalling session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    calls: [Call; MAX_CALLS],
    media: [Media; MAX_MEDIA],
    clock: u32,
}

/// A flow, or a pair, that a description names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) section: usize,
    pub(super) protocol: Protocol,
    pub(super) target: SocketAddrV4,
    pub(super) pair: bool,
}

impl Calls {
    pub(super) const fn new() -> Self {
        Self { calls: [Call::FREE; MAX_CALLS], media: [Media::FREE; MAX_MEDIA], clock: 0 }
    }

    /// Notes a request; true to its kind, before its description is read.
    pub(super) fn on_request(&mut self, message: &Message, asking: &mut Asking<'_>) {
        match message.method {
            Method::Invite => {
                self.keep(message.call, asking);
            }
            Method::Cancel if self.find(message.call).is_some_and(|call| !call.answered) => {
                self.renew(message.call, TRANSACTION, asking);
            }
            Method::Bye => self.on_bye(message, asking),
            _ => {}
        }
    }

    /// Notes a response, after its description was read.
    pub(super) fn on_response(&mut self, message: &Message, asking: &mut Asking<'_>) {
        let status = message.status.unwrap_or(0);
        let changes = matches!(message.method, Method::Invite | Method::Update | Method::Prack);
        let invite = message.method == Method::Invite;
        let ringing = invite && (101..200).contains(&status);
        if ringing && self.find(message.call).is_some_and(|call| !call.answered) {
            self.renew(message.call, asking.settings.media_lifetime, asking);
        }
        if status < 200 || !changes {
            return;
        }
        let Some(call) = self.find(message.call) else { return };
        if status < 300 {
            if invite {
                call.answer(message.to_tag);
            }
            let answered = call.answered;
            self.drop_media(message.call, asking, |media| media.stale);
            self.settle(message.call);
            if answered {
                let lifetime = message.session_expires.map_or(asking.settings.call_lifetime, |seconds| {
                    Duration::from_secs(u64::from(seconds.clamp(90, LONGEST_SESSION))) + TRANSACTION
                });
                self.renew(message.call, lifetime, asking);
            }
        } else if call.answered || !invite {
            self.drop_media(message.call, asking, |media| media.fresh);
            for media in self.media.iter_mut().filter(|media| media.call == message.call) {
                media.stale = false;
            }
        } else {
            self.end(message.call, asking);
        }
    }

    /// Learns where the media of the sender come from. A fork that is ringing changes nothing any more
    /// once another one has answered.
    pub(super) fn learn(&mut self, message: &Message, sdp: &Sdp, asking: &mut Asking<'_>) {
        let sender = asking.sender;
        let Some(call) = self.find(message.call) else { return };
        let ringing = message.status.is_some_and(|status| status < 200);
        if ringing && call.answered && !call.forks.contains(&message.to_tag) {
            return;
        }
        let lifetime =
            if call.answered { asking.settings.call_lifetime } else { asking.settings.media_lifetime };
        let Some(addresses) = call.addresses.get_mut(sender as usize) else { return };
        for (section, address) in sdp.sections().iter().zip(addresses) {
            if let Connection::Address(named) = sdp.connection_of(section)
                && section.l4_port != 0
                && !named.is_unspecified()
            {
                *address = named;
            }
        }
        let addresses = call.addresses;
        for media in self.media.iter_mut() {
            if media.call != message.call || media.owner == sender {
                continue;
            }
            let peer = peer_of(&addresses, sender, usize::from(media.section));
            if peer != media.peer && peer != Peer::OtherEnd {
                media.peer = peer;
                for id in media.ids() {
                    asking.nat.renew(*id, lifetime, Some(peer));
                }
            }
        }
    }

    /// The ACK that carries an answer ends its exchange.
    pub(super) fn settle(&mut self, call: u64) {
        for media in self.media.iter_mut().filter(|media| media.call == call) {
            media.fresh = false;
        }
    }

    /// Begins to read a description of the sender: what it does not name is no longer wanted.
    pub(super) fn begin(&mut self, call: u64, asking: &mut Asking<'_>) {
        self.keep(call, asking);
        let of_sender = |media: &&mut Media| media.call == call && media.owner == asking.sender;
        for media in self.media.iter_mut().filter(of_sender) {
            media.stale = true;
        }
    }

    /// A section on hold by `c=0.0.0.0` still has its port.
    pub(super) fn hold(&mut self, call: u64, l4_port: u16, asking: &Asking<'_>) {
        for media in &mut self.media {
            if media.call == call && media.owner == asking.sender && media.target.port() == l4_port {
                media.stale = false;
            }
        }
    }

    /// The endpoint that is announced for what the sender's description names.
    pub(super) fn open(
        &mut self,
        call: u64,
        wanted: Wanted,
        asking: &mut Asking<'_>,
    ) -> Result<SocketAddrV4, Event> {
        let owner = asking.sender;
        let Some(found) = self.find(call) else { return Err(Event::OutOfPlace) };
        let peer = peer_of(&found.addresses, owner.reversed(), wanted.section);
        let lifetime =
            if found.answered { asking.settings.call_lifetime } else { asking.settings.media_lifetime };
        for media in self.media.iter_mut().filter(|media| media.is(call, owner, &wanted)) {
            let changed = (peer != media.peer && peer != Peer::OtherEnd).then_some(peer);
            if media.ids().iter().all(|id| asking.nat.renew(*id, lifetime, changed)) {
                media.peer = changed.unwrap_or(media.peer);
                media.stale = false;
                return Ok(media.announced);
            }
            media.withdraw(asking);
        }
        let at = self.room(call, asking).ok_or(Event::TooManyOutstanding)?;
        let (announced, ids) = if wanted.pair {
            let [lower, upper] = asking.expect_pair(wanted.protocol, wanted.target, peer, lifetime)?;
            (lower.endpoint, [lower.id, upper.id])
        } else {
            let one = asking.expect(wanted.protocol, wanted.target, peer, lifetime)?;
            (one.endpoint, [one.id; 2])
        };
        if let Some(slot) = self.media.get_mut(at) {
            *slot = Media {
                call,
                owner,
                section: u8::try_from(wanted.section).unwrap_or(u8::MAX),
                protocol: wanted.protocol,
                target: wanted.target,
                announced,
                ids,
                pair: wanted.pair,
                peer,
                fresh: true,
                stale: false,
            };
        }
        Ok(announced)
    }

    fn on_bye(&mut self, message: &Message, asking: &mut Asking<'_>) {
        let Some(call) = self.find(message.call) else { return };
        for fork in &mut call.forks {
            if *fork == message.to_tag || *fork == message.from_tag {
                *fork = 0;
            }
        }
        if call.forks.iter().all(|fork| *fork == 0) {
            self.end(message.call, asking);
        }
    }

    fn find(&mut self, name: u64) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.name == name)
    }

    /// Finds a call or makes a record for it.
    fn keep(&mut self, name: u64, asking: &mut Asking<'_>) {
        self.clock = self.clock.wrapping_add(1);
        let age = self.clock;
        if let Some(call) = self.find(name) {
            call.age = age;
            return;
        }
        if self.calls.iter().all(|call| call.name != 0) {
            self.evict(name, asking);
        }
        if let Some(free) = self.calls.iter_mut().find(|call| call.name == 0) {
            *free = Call { name, age, ..Call::FREE };
        }
    }

    /// A free place for media of `call`.
    fn room(&mut self, call: u64, asking: &mut Asking<'_>) -> Option<usize> {
        loop {
            let free = self.media.iter().position(|media| media.call == 0);
            if free.is_some() || !self.evict(call, asking) {
                return free;
            }
        }
    }

    /// Forgets the oldest call but `keep`; unanswered ones first.
    fn evict(&mut self, keep: u64, asking: &mut Asking<'_>) -> bool {
        let others = self.calls.iter().filter(|call| call.name != 0 && call.name != keep);
        let Some(oldest) = others.min_by_key(|call| (call.answered, call.age)).copied() else { return false };
        if oldest.answered {
            for media in self.media.iter_mut().filter(|media| media.call == oldest.name) {
                *media = Media::FREE;
            }
        }
        self.end(oldest.name, asking);
        true
    }

    fn end(&mut self, name: u64, asking: &mut Asking<'_>) {
        self.drop_media(name, asking, |_| true);
        if let Some(call) = self.find(name) {
            *call = Call::FREE;
        }
    }

    fn drop_media(&mut self, call: u64, asking: &mut Asking<'_>, which: impl Fn(&Media) -> bool) {
        for media in self.media.iter_mut().filter(|media| media.call == call && which(media)) {
            media.withdraw(asking);
        }
    }

    fn renew(&mut self, call: u64, lifetime: Duration, asking: &mut Asking<'_>) {
        for media in self.media.iter().filter(|media| media.call == call) {
            for id in media.ids() {
                asking.nat.renew(*id, lifetime, None);
            }
        }
    }
}

impl Call {
    const FREE: Self = Self {
        name: 0,
        answered: false,
        forks: [0; MAX_FORKS],
        addresses: [[Ipv4Addr::UNSPECIFIED; MAX_SECTIONS]; 2],
        age: 0,
    };

    /// One more fork; beyond the last place it counts with the others.
    fn answer(&mut self, tag: u32) {
        self.answered = true;
        if !self.forks.contains(&tag)
            && let Some(free) = self.forks.iter_mut().find(|fork| **fork == 0)
        {
            *free = tag;
        }
    }
}

impl Media {
    const FREE: Self = Self {
        call: 0,
        owner: Direction::Original,
        section: 0,
        protocol: Protocol::Udp,
        target: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        announced: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        ids: [ExpectationId(0); 2],
        pair: false,
        peer: Peer::OtherEnd,
        fresh: false,
        stale: false,
    };

    fn ids(&self) -> &[ExpectationId] {
        self.ids.get(..if self.pair { 2 } else { 1 }).unwrap_or_default()
    }

    fn is(&self, call: u64, owner: Direction, wanted: &Wanted) -> bool {
        (self.call, self.owner, self.protocol, self.target, self.pair)
            == (call, owner, wanted.protocol, wanted.target, wanted.pair)
    }

    fn withdraw(&mut self, asking: &mut Asking<'_>) {
        for id in self.ids() {
            asking.nat.withdraw(*id);
        }
        *self = Self::FREE;
    }
}

/// Who may send to a section: who its other end has named there, else that end itself.
fn peer_of(addresses: &[[Ipv4Addr; MAX_SECTIONS]; 2], end: Direction, section: usize) -> Peer {
    let named = addresses.get(end as usize).and_then(|named| named.get(section));
    named.filter(|named| !named.is_unspecified()).map_or(Peer::OtherEnd, |named| Peer::Address(*named))
}

/// 64*T1, RFC 3261 section 17.1.1.2: after that no more copy of a message is on its way.
const TRANSACTION: Duration = Duration::from_secs(32);
const LONGEST_SESSION: u32 = 86_400;
const MAX_CALLS: usize = 12;
const MAX_MEDIA: usize = 32;
const MAX_FORKS: usize = 4;
