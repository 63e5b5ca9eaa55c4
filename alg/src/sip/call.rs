//! One call: who speaks in it, and what is expected for its media.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::contract::{Direction, ExpectationId, Peer, Protocol};

use super::MediaPeer;
use super::asking::Asking;
use super::sdp::MAX_SECTIONS;

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Names the Call-ID, never 0.
    pub(super) name: u64,
    /// Of who began it: the From tag of its first message.
    pub(super) caller: u32,
    /// Somebody has accepted it.
    pub(super) answered: bool,
    /// Tags of those who answered with a 2xx and have not hung up.
    pub(super) forks: [u32; MAX_FORKS],
    /// Tags of those at whom it rings.
    pub(super) ringing: [u32; MAX_FORKS],
    /// Where each end wants its media, per section.
    pub(super) named: [[Named; MAX_SECTIONS]; 2],
    pub(super) media: [Option<Media>; MAX_MEDIA],
}

/// What a description has named for one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// Unspecified: nothing.
    pub(super) address: Ipv4Addr,
    pub(super) l4_port: u16,
    /// Of RTCP.
    pub(super) control: u16,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Media {
    pub(super) owner: Direction,
    pub(super) section: u8,
    pub(super) protocol: Protocol,
    pub(super) target: SocketAddrV4,
    pub(super) announced: SocketAddrV4,
    pub(super) ids: [ExpectationId; 2],
    /// `ids` are those of two adjacent ports.
    pub(super) pair: bool,
    pub(super) peer: Peer,
    /// Opened by an offer that is not yet accepted.
    pub(super) fresh: bool,
    /// Not named by the owner's last description.
    pub(super) stale: bool,
    /// NAT was told where the owner speaks to.
    pub(super) goes_on: bool,
}

/// How a message names its call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// Names the Call-ID.
    pub(super) name: u64,
    /// Names the tags of From and To, 0 where there is none.
    pub(super) tags: [u32; 2],
    /// It answers an INVITE, or takes it back.
    pub(super) is_of_invite: bool,
}

/// A flow, or a pair, that a description names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) section: usize,
    pub(super) protocol: Protocol,
    pub(super) target: SocketAddrV4,
    pub(super) pair: bool,
}

impl Call {
    pub(super) const fn new(name: u64, caller: u32) -> Self {
        Self {
            name,
            caller,
            answered: false,
            forks: [0; MAX_FORKS],
            ringing: [0; MAX_FORKS],
            named: [[Named::NOTHING; MAX_SECTIONS]; 2],
            media: [None; MAX_MEDIA],
        }
    }

    /// Whether `heard` is of this call: its tags are those of the caller and of one who has answered; as long as nobody has, of one at
    /// whom it rings, or it answers the INVITE or takes it back, with the caller's tag alone.
    pub(super) fn is_named_by(&self, heard: &Heard) -> bool {
        let is_fork = |tag| {
            let is_ringing = !self.answered && self.ringing.contains(&tag);
            tag != 0 && (is_ringing || self.forks.contains(&tag))
        };
        let [from, to] = heard.tags;
        let is_caller = |tag| tag != 0 && tag == self.caller;
        let is_of_invite = heard.is_of_invite && !self.answered;
        (is_caller(from) && (is_of_invite || is_fork(to))) || (is_caller(to) && is_fork(from))
    }

    /// Its ends change places: it goes on over a flow that the other one has opened.
    pub(super) fn turn(&mut self) {
        self.named.reverse();
        for media in self.media.iter_mut().flatten() {
            media.owner = media.owner.reversed();
        }
    }

    /// One more fork; beyond the last place it counts with the others.
    pub(super) fn answer(&mut self, tag: u32) {
        self.answered = true;
        note(&mut self.forks, tag);
    }

    /// It rings at one more.
    pub(super) fn ring(&mut self, tag: u32) {
        note(&mut self.ringing, tag);
    }

    /// One of `tags` has hung up. `true`: nobody is left.
    pub(super) fn hang_up(&mut self, tags: [u32; 2]) -> bool {
        let of = self.forks.iter_mut().chain(&mut self.ringing);
        of.filter(|fork| tags.contains(*fork)).for_each(|fork| *fork = 0);
        let is_left = |forks: &[u32; MAX_FORKS]| forks.iter().all(|fork| *fork == 0);
        is_left(&self.forks) && (self.answered || is_left(&self.ringing))
    }

    /// How long media may wait.
    pub(super) fn lifetime(&self, asking: &Asking<'_>) -> Duration {
        if self.answered { asking.settings.call_lifetime } else { asking.settings.media_lifetime }
    }

    pub(super) fn settle(&mut self) {
        self.media.iter_mut().flatten().for_each(|media| media.fresh = false);
    }

    /// Whose description and whose port are known both: what has begun before leaves from the announced port now.
    pub(super) fn go_on(&mut self, asking: &mut Asking<'_>) {
        let named = self.named;
        for media in self.media.iter_mut().flatten().filter(|media| !media.goes_on) {
            let of_other = named.get(media.owner.reversed() as usize);
            let Some(there) = of_other.and_then(|named| named.get(usize::from(media.section))) else {
                continue;
            };
            let may_come = match media.peer {
                Peer::Address(address) => address == there.address,
                _ => there.address == *asking.own(media.owner.reversed()).ip(),
            };
            if !may_come {
                continue;
            }
            media.goes_on = true;
            let [first, second] = media.ids;
            for (id, l4_port) in [(first, there.l4_port), (second, there.control)] {
                asking.nat.go_on(id, SocketAddrV4::new(there.address, l4_port));
            }
        }
    }

    pub(super) fn drop_media(&mut self, asking: &mut Asking<'_>, which: impl Fn(&Media) -> bool) {
        for slot in &mut self.media {
            if let Some(media) = slot.filter(|media| which(media)) {
                media.withdraw(asking);
                *slot = None;
            }
        }
    }

    pub(super) fn renew(&self, lifetime: Duration, asking: &mut Asking<'_>) {
        for id in self.media.iter().flatten().flat_map(Media::ids) {
            asking.nat.renew(*id, lifetime, None);
        }
    }
}

impl Media {
    pub(super) fn ids(&self) -> &[ExpectationId] {
        self.ids.get(..if self.pair { 2 } else { 1 }).unwrap_or_default()
    }

    pub(super) fn is(&self, owner: Direction, wanted: &Wanted) -> bool {
        (self.owner, self.protocol, self.target, self.pair)
            == (owner, wanted.protocol, wanted.target, wanted.pair)
    }

    pub(super) fn withdraw(&self, asking: &mut Asking<'_>) {
        for id in self.ids() {
            asking.nat.withdraw(*id);
        }
    }
}

impl Named {
    const NOTHING: Self = Self { address: Ipv4Addr::UNSPECIFIED, l4_port: 0, control: 0 };
}

/// Takes the first free place, if there is one.
fn note(tags: &mut [u32; MAX_FORKS], tag: u32) {
    if !tags.contains(&tag)
        && let Some(free) = tags.iter_mut().find(|known| **known == 0)
    {
        *free = tag;
    }
}

/// Who may send to a section: who its other end has named there, if that may be another host; else that end itself.
pub(super) fn peer_of(
    named: &[[Named; MAX_SECTIONS]; 2],
    end: Direction,
    section: usize,
    asking: &Asking<'_>,
) -> Peer {
    if asking.settings.media_source == MediaPeer::Signalling {
        return Peer::OtherEnd;
    }
    let named = named.get(end as usize).and_then(|named| named.get(section)).map(|named| named.address);
    named.filter(|named| !named.is_unspecified()).map_or(Peer::OtherEnd, Peer::Address)
}

/// Flows, or pairs of them, of one call: both ends' descriptions, and those of an offer that is not yet accepted.
const MAX_MEDIA: usize = 32;
const MAX_FORKS: usize = 4;

/// Bytes of one call: a table of them is taken at start, so growth is decided, not an accident.
const _: () = assert!(size_of::<Call>() <= 1584);
