//! What one message asks of NAT, all of which can be taken back.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::contract::{
    Announced, Direction, Event, Expectation, ExpectationId, Nat, Peer, Protocol, SessionEndpoints,
};

use super::SipSettings;

/// The two ends and NAT, while one message is decided.
pub(super) struct Asking<'a> {
    /// Who sends the message.
    pub(super) sender: Direction,
    pub(super) endpoints: &'a SessionEndpoints,
    pub(super) nat: &'a mut dyn Nat,
    pub(super) settings: SipSettings,
    /// What carries the message.
    pub(super) transport: Protocol,
    opened: [ExpectationId; MAX_OPENED],
    count: usize,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        sender: Direction,
        endpoints: &'a SessionEndpoints,
        nat: &'a mut dyn Nat,
        settings: SipSettings,
        transport: Protocol,
    ) -> Self {
        Self { sender, endpoints, nat, settings, transport, opened: [ExpectationId(0); MAX_OPENED], count: 0 }
    }

    pub(super) fn own(&self, end: Direction) -> SocketAddrV4 {
        self.endpoints.sender(end)
    }

    pub(super) fn seen(&self, end: Direction) -> SocketAddrV4 {
        self.endpoints.sender_seen(end)
    }

    pub(super) fn is_translated(&self, end: Direction) -> bool {
        self.own(end) != self.seen(end)
    }

    /// Asks for flows to `target` of the sender.
    ///
    /// # Errors
    /// What to count for the message, which then passes unchanged.
    pub(super) fn expect(
        &mut self,
        protocol: Protocol,
        target: SocketAddrV4,
        peer: Peer,
        lifetime: Duration,
    ) -> Result<Announced, Event> {
        let request = self.request(protocol, target, peer, lifetime)?;
        let announced = self.nat.expect(&request).map_err(|_| Event::ExpectationRefused)?;
        self.note(&[announced])?;
        Ok(announced)
    }

    /// As [`Asking::expect`], for signalling: what comes is read, too.
    ///
    /// # Errors
    /// As there.
    pub(super) fn expect_signalling(
        &mut self,
        protocol: Protocol,
        target: SocketAddrV4,
        lifetime: Duration,
    ) -> Result<Announced, Event> {
        let announced = self.expect(protocol, target, Peer::OtherEnd, lifetime)?;
        self.nat.mark_control(announced.id);
        Ok(announced)
    }

    /// As [`Asking::expect`], for `target` and the port above it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn expect_pair(
        &mut self,
        protocol: Protocol,
        target: SocketAddrV4,
        peer: Peer,
        lifetime: Duration,
    ) -> Result<[Announced; 2], Event> {
        let request = self.request(protocol, target, peer, lifetime)?;
        if target.port() == u16::MAX {
            return Err(Event::Malformed);
        }
        let announced = self.nat.expect_pair(&request).map_err(|_| Event::ExpectationRefused)?;
        self.note(&announced)?;
        Ok(announced)
    }

    /// Takes back all that this message has opened.
    pub(super) fn undo(&mut self) {
        for id in self.opened.iter().take(self.count) {
            self.nat.withdraw(*id);
        }
        self.count = 0;
    }

    fn request(
        &self,
        protocol: Protocol,
        target: SocketAddrV4,
        peer: Peer,
        lifetime: Duration,
    ) -> Result<Expectation, Event> {
        match target.port() {
            0 => Err(Event::PortZero),
            1..FIRST_UNPRIVILEGED => Err(Event::PrivilegedPort),
            FIRST_UNPRIVILEGED.. => Ok(Expectation {
                protocol,
                owner: self.sender,
                target,
                peer,
                peer_l4_port: None,
                uses: u16::MAX,
                lifetime,
            }),
        }
    }

    fn note(&mut self, announced: &[Announced]) -> Result<(), Event> {
        for one in announced {
            let Some(slot) = self.opened.get_mut(self.count) else {
                for one in announced {
                    self.nat.withdraw(one.id);
                }
                return Err(Event::ExpectationRefused);
            };
            *slot = one.id;
            self.count += 1;
        }
        Ok(())
    }
}

const FIRST_UNPRIVILEGED: u16 = 1024;
/// Expectations that one message may open.
const MAX_OPENED: usize = 64;
