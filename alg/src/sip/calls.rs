//! Calls and their media (RFC 3261 sections 12 to 15, RFC 3264).
//!
//! ```text
//! message                        what happens to the call's expectations
//! INVITE, or own description     the call is kept; media wait for `media_lifetime`
//! description of the other end   peers become the addresses it names (the signalling peer before)
//! 1xx but 100, not yet answered  media wait for `media_lifetime` anew: it rings at one more
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
//! one flow share nothing. From the first 1xx but 100 on it goes along when its ends speak by another flow (a re-INVITE from
//! another port, a BYE over another connection), known by its Call-ID and tags. Where a flow has as many as it may
//! ([`super::table`]), its oldest call without an answer makes room, then the oldest answered one; the latter's
//! expectations are left to their lifetime, since it goes on.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::contract::{Event, Peer};

use super::asking::Asking;
use super::call::{Call, Heard, Media, Named, Wanted, peer_of};
use super::reader::{Message, Method};
use super::sdp::{Connection, Sdp};
use super::table::{CallTable, FlowCalls, Hosts, Place};

/// The call of one message, among those of its signalling flow.
pub(super) struct Calls<'a> {
    table: &'a mut CallTable,
    of: &'a mut FlowCalls,
    /// The ends of the flow.
    hosts: Hosts,
    /// Where the call is kept, if it is.
    place: Option<Place>,
}

impl<'a> Calls<'a> {
    /// The call of `message`, in the table of the thread. If it has come by another flow so far, it comes by this one now.
    pub(super) fn of(
        message: &Message,
        table: &'a mut CallTable,
        of: &'a mut FlowCalls,
        hosts: Hosts,
    ) -> Self {
        let is_answer = message.status.is_some() && message.method == Method::Invite;
        let heard = || Heard {
            name: message.call,
            tags: [message.from_tag, message.to_tag],
            is_of_invite: is_answer || message.method == Method::Cancel,
        };
        let place = table.find(*of, message.call).or_else(|| table.adopt(of, hosts, &heard()));
        Self { table, of, hosts, place }
    }

    /// Notes a request; true to its kind, before its description is read.
    pub(super) fn on_request(&mut self, message: &Message, asking: &mut Asking<'_>) {
        match message.method {
            Method::Invite => self.keep(message, asking),
            Method::Cancel => {
                if let Some(call) = self.call().filter(|call| !call.answered) {
                    call.renew(TRANSACTION, asking);
                }
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
        let Some(call) = self.call() else { return };
        if invite && (101..200).contains(&status) && !call.answered {
            call.renew(asking.settings.media_lifetime, asking);
            self.place.into_iter().for_each(|place| self.table.ring(place, message.to_tag));
            return;
        }
        if status < 200 || !changes {
            return;
        }
        if status < 300 {
            if invite {
                self.place.into_iter().for_each(|place| self.table.answer(place, message.to_tag));
            }
            let Some(call) = self.call() else { return };
            call.drop_media(asking, |media| media.stale);
            call.settle();
            if call.answered {
                let lifetime = message.session_expires.map_or(asking.settings.call_lifetime, |seconds| {
                    Duration::from_secs(u64::from(seconds.clamp(90, LONGEST_SESSION))) + TRANSACTION
                });
                call.renew(lifetime, asking);
            }
        } else if call.answered || !invite {
            call.drop_media(asking, |media| media.fresh);
            call.media.iter_mut().flatten().for_each(|media| media.stale = false);
        } else {
            self.end(asking);
        }
    }

    /// Learns where the media of the sender come from. A fork that is ringing changes nothing any more
    /// once another one has answered.
    pub(super) fn learn(&mut self, message: &Message, sdp: &Sdp, asking: &mut Asking<'_>) {
        let sender = asking.sender;
        let Some(call) = self.call() else { return };
        let ringing = message.status.is_some_and(|status| status < 200);
        if ringing && call.answered && !call.forks.contains(&message.to_tag) {
            return;
        }
        let lifetime = call.lifetime(asking);
        let Some(of_sender) = call.named.get_mut(sender as usize) else { return };
        let mut is_new = false;
        for (section, named) in sdp.sections().iter().zip(of_sender) {
            if let Connection::Address(address) = sdp.connection_of(section)
                && section.l4_port != 0
                && !address.is_unspecified()
            {
                let above = section.l4_port.checked_add(1).unwrap_or(0);
                let control = section.rtcp.map_or(above, |rtcp| rtcp.l4_port);
                let now = Named { address, l4_port: section.l4_port, control };
                is_new |= now != std::mem::replace(named, now);
            }
        }
        let named = call.named;
        for media in call.media.iter_mut().flatten().filter(|media| media.owner != sender) {
            media.goes_on &= !is_new;
            let peer = peer_of(&named, sender, usize::from(media.section), asking);
            if peer != media.peer && peer != Peer::OtherEnd {
                media.peer = peer;
                for id in media.ids() {
                    asking.nat.renew(*id, lifetime, Some(peer));
                }
            }
        }
    }

    /// The ACK that carries an answer ends its exchange.
    pub(super) fn settle(&mut self) {
        if let Some(call) = self.call() {
            call.settle();
        }
    }

    /// Begins to read a description of the sender: what it does not name is no longer wanted.
    pub(super) fn begin(&mut self, message: &Message, asking: &mut Asking<'_>) {
        self.keep(message, asking);
        let sender = asking.sender;
        if let Some(call) = self.call() {
            let of_sender = call.media.iter_mut().flatten().filter(|media| media.owner == sender);
            of_sender.for_each(|media| media.stale = true);
        }
    }

    /// A section on hold by `c=0.0.0.0` still has its port.
    pub(super) fn hold(&mut self, l4_port: u16, asking: &Asking<'_>) {
        let Some(call) = self.call() else { return };
        for media in call.media.iter_mut().flatten() {
            if media.owner == asking.sender && media.target.port() == l4_port {
                media.stale = false;
            }
        }
    }

    /// The endpoint that is announced for what the sender's description names.
    pub(super) fn open(&mut self, wanted: Wanted, asking: &mut Asking<'_>) -> Result<SocketAddrV4, Event> {
        let call = self.call().ok_or(Event::TooManyOutstanding)?;
        let owner = asking.sender;
        let peer = peer_of(&call.named, owner.reversed(), wanted.section, asking);
        let lifetime = call.lifetime(asking);
        for slot in &mut call.media {
            let Some(media) = slot.as_mut().filter(|media| media.is(owner, &wanted)) else { continue };
            let changed = (peer != media.peer && peer != Peer::OtherEnd).then_some(peer);
            if media.ids().iter().all(|id| asking.nat.renew(*id, lifetime, changed)) {
                media.peer = changed.unwrap_or(media.peer);
                media.stale = false;
                return Ok(media.announced);
            }
            media.withdraw(asking);
            *slot = None;
        }
        let slot = call.media.iter_mut().find(|slot| slot.is_none()).ok_or(Event::TooManyOutstanding)?;
        let (announced, ids) = if wanted.pair {
            let [lower, upper] = asking.expect_pair(wanted.protocol, wanted.target, peer, lifetime)?;
            (lower.endpoint, [lower.id, upper.id])
        } else {
            let one = asking.expect(wanted.protocol, wanted.target, peer, lifetime)?;
            (one.endpoint, [one.id; 2])
        };
        *slot = Some(Media {
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
            goes_on: false,
        });
        Ok(announced)
    }

    /// The description was read, and will leave as it was translated.
    pub(super) fn go_on(&mut self, asking: &mut Asking<'_>) {
        if let Some(call) = self.call() {
            call.go_on(asking);
        }
    }

    /// The call as it is, to be put back by [`Calls::restore`].
    pub(super) fn snapshot(&mut self) -> Option<Call> {
        self.call().copied()
    }

    /// The message was not translated after all: what it opened was withdrawn, and its call is as it was.
    pub(super) fn restore(&mut self, before: Option<&Call>) {
        match (self.place, before) {
            (Some(place), Some(before)) => self.table.restore(place, before),
            (Some(place), None) => self.table.remove(place),
            (None, _) => {}
        }
    }

    fn on_bye(&mut self, message: &Message, asking: &mut Asking<'_>) {
        let Some(call) = self.call() else { return };
        if call.hang_up([message.from_tag, message.to_tag]) {
            self.end(asking);
        }
    }

    fn call(&mut self) -> Option<&mut Call> {
        self.place.and_then(|place| self.table.call(place))
    }

    /// Notes that the call was heard of, or makes a record for it, for which its flow's oldest one gives way if it must. A flow
    /// that has none, and finds no room, goes without.
    fn keep(&mut self, message: &Message, asking: &mut Asking<'_>) {
        if let Some(place) = self.place {
            self.table.touch(place);
            return;
        }
        let call = Call::new(message.call, message.from_tag);
        self.place = self.table.insert(self.of, self.hosts, &call);
        if self.place.is_none() && self.evict(asking) {
            self.place = self.table.insert(self.of, self.hosts, &call);
            debug_assert!(self.place.is_some(), "what the evicted call has left was its flow's own");
        }
    }

    /// Forgets the flow's oldest call; unanswered ones first.
    fn evict(&mut self, asking: &mut Asking<'_>) -> bool {
        let Some(oldest) = self.table.oldest(*self.of, self.place) else { return false };
        if let Some(call) = self.table.call(oldest).filter(|call| !call.answered) {
            call.drop_media(asking, |_| true);
        }
        self.table.remove(oldest);
        true
    }

    fn end(&mut self, asking: &mut Asking<'_>) {
        if let Some(call) = self.call() {
            call.drop_media(asking, |_| true);
        }
        self.place.take().into_iter().for_each(|place| self.table.remove(place));
    }
}

/// 64*T1, RFC 3261 section 17.1.1.2: after that no more copy of a message is on its way.
const TRANSACTION: Duration = Duration::from_secs(32);
const LONGEST_SESSION: u32 = 86_400;
