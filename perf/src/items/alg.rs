//! The ALGs: a message shown to one by itself, and its packet through worker, ALG stage, ALG and NAT.
//!
//! Only the client's request is measured, not what is said in between ([`dialogues`]). Whether it came out as it should is
//! looked at before the next one, each time.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use algate_alg::{
    Alg, AllowAll, Announced, Context, Direction, Edits, Events, ExpectError, Expectation, ExpectationId,
    Injections, Instance, Memory, Nat, Peer, ProtocolId, SessionEndpoints, Settings, Step,
};

use crate::frames::PoolFrame;
use crate::items::conversation::Conversation;
use crate::items::dialogues::{self, Dialogue};
use crate::rig::{AlgPlace, INTERNAL, Rig};
use crate::sample::Item;

/// All items of ALGs.
#[must_use]
pub fn all() -> Vec<Box<dyn Item>> {
    let mut items: Vec<Box<dyn Item>> = Vec::new();
    for dialogue in [dialogues::PLAIN, dialogues::UNCHANGED].into_iter().chain(dialogues::READ) {
        items.extend(Message::new(dialogue).map(|message| Box::new(message) as Box<dyn Item>));
        items.push(Box::new(Packet::new(dialogue)));
    }
    items
}

/// `inspect` of the request.
pub struct Message {
    dialogue: Dialogue,
    alg: Instance,
    request: Vec<u8>,
    /// What the other end was told last.
    heard: Vec<u8>,
    endpoints: SessionEndpoints,
    /// `None` before the opening.
    edits: Option<Edits>,
    inject: Injections,
    events: Events,
}

impl Message {
    /// Of the ALG that reads `dialogue`; `None` when nobody does.
    #[must_use]
    pub fn new(dialogue: Dialogue) -> Option<Self> {
        let protocol = dialogue.protocol?;
        let settings = Settings::default();
        let (own, responder_l4_port) = dialogue.l4_ports;
        let originator = SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 2), own);
        let responder = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), responder_l4_port);
        let endpoints = SessionEndpoints {
            originator,
            originator_seen: SocketAddrV4::new(Ipv4Addr::new(198, 19, 0, 240), 50_000),
            responder,
            responder_seen: responder,
        };
        let mut alg = Instance::new(protocol, dialogue.transport, &settings);
        alg.lend(&mut Memory::new(&settings, 1, |read: ProtocolId| read == protocol));
        Some(Self {
            dialogue,
            alg,
            request: (dialogue.request)(originator),
            heard: Vec::new(),
            endpoints,
            edits: None,
            inject: Injections::with_capacity(4, 256),
            events: Events::default(),
        })
    }

    fn inspect(&mut self, direction: Direction, input: &[u8]) -> Option<Step> {
        let edits = self.edits.as_mut()?;
        edits.clear();
        let mut cx = Context {
            endpoints: &self.endpoints,
            nat: &mut OneAnswer { endpoints: self.endpoints },
            policy: &mut AllowAll,
            edits,
            inject: &mut self.inject,
            events: &mut self.events,
            at_end: false,
        };
        Some(self.alg.inspect(direction, input, &mut cx))
    }

    fn say(&mut self, direction: Direction, mut text: &[u8]) {
        while !text.is_empty() {
            let Some(Step::Message { length, .. }) = self.inspect(direction, text) else { break };
            text = text.get(length..).unwrap_or_default();
        }
    }
}

impl Item for Message {
    fn name(&self) -> String {
        self.dialogue.message_name.to_owned()
    }

    fn prepare(&mut self) {
        if let Some(edits) = &self.edits {
            self.heard = edited(&self.request, edits);
            let seen = self.endpoints.originator_seen;
            let Dialogue { is_right, message_name, .. } = self.dialogue;
            let heard = &self.heard;
            assert!(is_right(seen, heard), "{message_name}: {:?}", String::from_utf8_lossy(heard));
            let text = (self.dialogue.answer)(seen, heard);
            self.say(Direction::Reply, &text);
        } else {
            self.edits = Some(Edits::with_capacity(64, 4096));
            for (direction, text) in self.dialogue.opening {
                self.say(*direction, &text());
            }
        }
    }

    fn chunk(&mut self) -> Option<u64> {
        let request = std::mem::take(&mut self.request);
        let step = self.inspect(Direction::Original, black_box(&request));
        let wanted = Step::Message { length: request.len(), verdict: self.dialogue.verdict };
        self.request = request;
        (step == Some(wanted)).then_some(1)
    }
}

/// The request's packet, from received frame to sent frame.
#[derive(Debug)]
pub struct Packet {
    name: &'static str,
    rig: Option<Rig>,
    conversation: Conversation,
    ready: Option<PoolFrame>,
}

impl Packet {
    /// Of `dialogue`. The rig is built at the first use.
    #[must_use]
    pub fn new(dialogue: Dialogue) -> Self {
        let conversation = Conversation::new(dialogue, 0);
        Self { name: dialogue.packet_name, rig: None, conversation, ready: None }
    }
}

impl Item for Packet {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn prepare(&mut self) {
        let rig = self.rig.get_or_insert_with(|| {
            let mut rig = Rig::reading(AlgPlace::Worker, 1024);
            self.conversation.open(&mut rig);
            rig
        });
        self.conversation.hear(rig);
        rig.io.recycle();
        self.conversation.answer(rig);
        self.ready = Some(self.conversation.ask(rig));
    }

    fn chunk(&mut self) -> Option<u64> {
        let rig = self.rig.as_mut()?;
        rig.receive(INTERNAL, self.ready.take());
        (rig.io.sent.len() == 1).then_some(1)
    }
}

/// A NAT that has the same answer each time.
struct OneAnswer {
    endpoints: SessionEndpoints,
}

impl Nat for OneAnswer {
    fn expect(&mut self, request: &Expectation) -> Result<Announced, ExpectError> {
        let seen = self.endpoints.originator_seen;
        let is_own = request.target == self.endpoints.originator;
        let endpoint = if is_own { seen } else { SocketAddrV4::new(*seen.ip(), ANNOUNCED_L4_PORT) };
        Ok(Announced { id: ExpectationId(1), endpoint })
    }

    fn expect_pair(&mut self, _request: &Expectation) -> Result<[Announced; 2], ExpectError> {
        let seen = *self.endpoints.originator_seen.ip();
        Ok([2, 3].map(|id| {
            let endpoint = SocketAddrV4::new(seen, ANNOUNCED_L4_PORT + (id - 2) as u16);
            Announced { id: ExpectationId(id), endpoint }
        }))
    }

    fn renew(&mut self, _expectation: ExpectationId, _lifetime: Duration, _peer: Option<Peer>) -> bool {
        true
    }

    fn withdraw(&mut self, _expectation: ExpectationId) {}
}

/// `message` with `edits` made.
fn edited(message: &[u8], edits: &Edits) -> Vec<u8> {
    let (mut new, mut at) = (Vec::with_capacity(message.len()), 0);
    for (range, with) in edits.iter() {
        new.extend_from_slice(message.get(at..range.start).unwrap_or_default());
        new.extend_from_slice(with);
        at = range.end;
    }
    new.extend_from_slice(message.get(at..).unwrap_or_default());
    new
}

const ANNOUNCED_L4_PORT: u16 = 40_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_leaves_as_it_should() {
        for mut item in all() {
            for operation in 0..1000 {
                item.prepare();
                assert_eq!(item.chunk(), Some(1), "{} {operation}", item.name());
            }
        }
    }

    #[test]
    fn each_packet_that_is_read_promises_something() {
        for dialogue in dialogues::READ {
            let mut packet = Packet::new(dialogue);
            packet.prepare();
            assert_eq!(packet.chunk(), Some(1));
            let rig = packet.rig.as_ref().unwrap();
            let promised = rig.engine.expectation_rows(rig.now, 9).len();
            let wanted = match dialogue.protocol {
                Some(ProtocolId::Sip | ProtocolId::Rtsp) => 2,
                _ => 1,
            };
            assert_eq!(promised, wanted, "{}", dialogue.packet_name);
        }
    }
}
