//! The media streams that a control session has set up or asked for.
//!
//! A SETUP is found again by its CSeq when it is answered, and by session and URL when it is kept alive or torn
//! down. Names are kept as hashes: the same end writes both, and could only confuse itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::contract::{Context, ExpectationId, Peer};

/// One stream, or one alternative of a SETUP that is not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// The CSeq of its SETUP.
    pub(super) cseq: u32,
    /// Whether the server has accepted it.
    pub(super) accepted: bool,
    /// The URL of its SETUP, hashed.
    pub(super) url: u32,
    /// Its session, hashed; 0 before it is accepted.
    pub(super) session: u32,
    /// The (lower) port where the client waits.
    pub(super) own_l4_port: u16,
    /// What stands for it in the SETUP that the server reads.
    pub(super) announced_l4_port: u16,
    /// The address that goes with it.
    pub(super) announced_address: Ipv4Addr,
    /// What was opened for the client.
    pub(super) client: Expected,
    /// What was opened for the server.
    pub(super) server: Expected,
}

/// None, one or two expectations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    ids: [ExpectationId; 2],
    count: u8,
}

impl Expected {
    /// None.
    pub(super) const NONE: Self = Self { ids: [ExpectationId(0); 2], count: 0 };

    /// One.
    pub(super) const fn one(id: ExpectationId) -> Self {
        Self { ids: [id; 2], count: 1 }
    }

    /// Two.
    pub(super) const fn two(ids: [ExpectationId; 2]) -> Self {
        Self { ids, count: 2 }
    }

    /// Each.
    pub(super) fn iter(&self) -> impl Iterator<Item = ExpectationId> {
        self.ids.into_iter().take(usize::from(self.count))
    }

    /// Closes what no flow has used, but for those in `kept`.
    pub(super) fn withdraw(&self, kept: &[Self], cx: &mut Context<'_>) {
        for id in self.iter().filter(|id| kept.iter().all(|kept| kept.iter().all(|other| other != *id))) {
            cx.nat.withdraw(id);
        }
    }

    /// Gives each more time.
    pub(super) fn renew(&self, lifetime: Duration, peer: Option<Peer>, cx: &mut Context<'_>) {
        for id in self.iter() {
            // One that is gone has served its flows, or came too late.
            let _ = cx.nat.renew(id, lifetime, peer);
        }
    }
}

/// The streams of one control session, at most [`CAPACITY`]; the oldest gives way.
#[derive(Debug)]
pub(super) struct Streams {
    slots: [Option<Stream>; CAPACITY],
    oldest: usize,
}

/// Streams of one control session. Eight SETUPs without an answer are much.
const CAPACITY: usize = 12;

impl Streams {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { slots: [None; CAPACITY], oldest: 0 }
    }

    /// Adds one.
    pub(super) fn add(&mut self, stream: Stream, cx: &mut Context<'_>) {
        let at = self.slots.iter().position(Option::is_none).unwrap_or(self.oldest);
        let Some(slot) = self.slots.get_mut(at) else { return };
        let before = slot.replace(stream);
        self.oldest = (at + 1) % CAPACITY;
        if let Some(before) = before {
            self.close(&before, cx);
        }
    }

    /// Whether a SETUP with this CSeq waits for its answer.
    pub(super) fn has_asked(&self, cseq: u32) -> bool {
        self.slots.iter().flatten().any(|stream| is_asked(stream, cseq))
    }

    /// The alternative of a SETUP that its answer has chosen: by the announced port, or the first.
    pub(super) fn asked(&self, cseq: u32, announced_l4_port: Option<u16>) -> Option<Stream> {
        let is_meant = |stream: &&Stream| {
            is_asked(stream, cseq) && announced_l4_port.is_none_or(|port| stream.announced_l4_port == port)
        };
        self.slots.iter().flatten().find(is_meant).copied()
    }

    /// The server has accepted `stream`: the other alternatives of its SETUP go, and what its port was used for
    /// before.
    pub(super) fn accept(&mut self, stream: Stream, cx: &mut Context<'_>) {
        let port = stream.own_l4_port;
        self.take_each(|other| is_asked(other, stream.cseq) && other.own_l4_port == port, |_| {});
        self.add(Stream { accepted: true, ..stream }, cx);
        let is_outdated =
            |other: &Stream| other.accepted && other.own_l4_port == port && other.cseq != stream.cseq;
        self.drop_where(|other| is_asked(other, stream.cseq) || is_outdated(other), cx);
    }

    /// The server has refused a SETUP, or chosen what needs no expectation.
    pub(super) fn reject(&mut self, cseq: u32, cx: &mut Context<'_>) {
        self.drop_where(|stream| is_asked(stream, cseq), cx);
    }

    /// A request of `session` shows that it lives.
    pub(super) fn renew(&self, session: u32, lifetime: Duration, cx: &mut Context<'_>) {
        for stream in self.slots.iter().flatten().filter(|stream| is_of(stream, session)) {
            stream.client.renew(lifetime, None, cx);
            stream.server.renew(lifetime, None, cx);
        }
    }

    /// The stream at `url` ends; all of the session when `url` is not that of one stream.
    pub(super) fn tear_down(&mut self, session: u32, url: u32, cx: &mut Context<'_>) {
        let is_one = self.slots.iter().flatten().any(|stream| is_of(stream, session) && stream.url == url);
        self.drop_where(|stream| is_of(stream, session) && (!is_one || stream.url == url), cx);
    }

    fn drop_where(&mut self, is_meant: impl Fn(&Stream) -> bool, cx: &mut Context<'_>) {
        let mut dropped = [None; CAPACITY];
        let mut room = dropped.iter_mut();
        self.take_each(is_meant, |stream| {
            if let Some(slot) = room.next() {
                *slot = Some(stream);
            }
        });
        for stream in dropped.iter().flatten() {
            self.close(stream, cx);
        }
    }

    fn take_each(&mut self, is_meant: impl Fn(&Stream) -> bool, mut taken: impl FnMut(Stream)) {
        for slot in &mut self.slots {
            if let Some(stream) = slot.take_if(|stream| is_meant(stream)) {
                taken(stream);
            }
        }
    }

    /// Closes what was opened for `stream`, unless another one has got the same of NAT.
    fn close(&self, stream: &Stream, cx: &mut Context<'_>) {
        let mut kept = [Expected::NONE; 2 * CAPACITY];
        let others = self.slots.iter().flatten().flat_map(|other| [other.client, other.server]);
        for (slot, expected) in kept.iter_mut().zip(others) {
            *slot = expected;
        }
        stream.client.withdraw(&kept, cx);
        stream.server.withdraw(&kept, cx);
    }
}

/// A name as it is kept (FNV-1a), never 0.
pub(super) fn hash(name: &[u8]) -> u32 {
    name.iter()
        .fold(0x811c_9dc5, |hash: u32, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
        .max(1)
}

fn is_asked(stream: &Stream, cseq: u32) -> bool {
    !stream.accepted && stream.cseq == cseq
}

fn is_of(stream: &Stream, session: u32) -> bool {
    stream.accepted && stream.session == session
}
