//! SETUP and its answer: what is opened for each end, what is announced, what is put back.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::changes::Changes;
use super::streams::{Expected, Stream};
use super::transport::{self, Place, Ports, Transport};
use super::{MediaSource, Message, Rtsp, write};
use crate::contract::{Context, Direction, Event, Expectation, Peer, Protocol, Verdict};

/// What one SETUP has opened, alternative by alternative.
type Opened = [Option<Stream>; ALTERNATIVES];
/// Alternatives of one SETUP with ports of their own.
const ALTERNATIVES: usize = 4;

impl Rtsp {
    /// A SETUP of the client for `url`, which is hashed. `changes` are those that it needs anyway.
    pub(super) fn on_setup(
        &mut self,
        message: &Message<'_>,
        url: u32,
        mut changes: Changes,
        cx: &mut Context<'_>,
    ) -> Verdict {
        let mut opened: Opened = [None; ALTERNATIVES];
        let read = self.open_alternatives(message, url, &mut opened, &mut changes, cx);
        let mut refused = None;
        let written = match read {
            Ok(()) => write(changes, cx),
            Err(event) => {
                cx.events.count(event);
                if event == Event::Malformed {
                    refused = self.judge_transport(message, cx);
                }
                None
            }
        };
        for stream in opened.iter().flatten() {
            if written.is_some() {
                self.streams.add(*stream, cx);
            } else {
                stream.client.withdraw(&[], cx);
            }
        }
        written.or(refused).unwrap_or(Verdict::Pass)
    }

    fn open_alternatives(
        &mut self,
        message: &Message<'_>,
        url: u32,
        opened: &mut Opened,
        changes: &mut Changes,
        cx: &mut Context<'_>,
    ) -> Result<(), Event> {
        for at in message.headers(b"Transport") {
            for transport in transport::alternatives(message.bytes, at) {
                if transport.is_tcp || transport.is_interleaved {
                    self.interleaved = true;
                } else if !transport.is_multicast {
                    let cseq = message.common.cseq.ok_or(Event::Malformed)?;
                    self.open_alternative(&transport, (cseq, url), opened, changes, cx)?;
                }
            }
        }
        Ok(())
    }

    fn open_alternative(
        &self,
        transport: &Transport,
        (cseq, url): (u32, u32),
        opened: &mut Opened,
        changes: &mut Changes,
        cx: &mut Context<'_>,
    ) -> Result<(), Event> {
        if transport.is_malformed {
            return Err(Event::Malformed);
        }
        let own = *cx.endpoints.sender(Direction::Original).ip();
        let named = transport.client.iter().flat_map(Ports::places).chain(&transport.destination);
        if named.filter_map(|place| place.address.as_ref()).any(|(address, _)| *address != own) {
            return Err(Event::ForeignAddress);
        }
        let Some(ports) = &transport.client else { return Ok(()) };
        let own_l4_port = ports.l4_port();
        let other_port = |place: &Place| place.l4_port.is_some() && place.port() != own_l4_port;
        if transport.destination.as_ref().is_some_and(other_port) {
            return Err(Event::Malformed);
        }
        let known = opened.iter().flatten().find(|stream| stream.own_l4_port == own_l4_port).copied();
        let stream = match known {
            Some(stream) => stream,
            None => {
                let slot = opened.iter_mut().find(|slot| slot.is_none()).ok_or(Event::ExpectationRefused)?;
                let lifetime = self.settings.expectation_lifetime;
                let (client, announced) = open(Direction::Original, ports, lifetime, cx)?;
                *slot.insert(Stream {
                    cseq,
                    accepted: false,
                    url,
                    session: 0,
                    own_l4_port,
                    announced_l4_port: announced.port(),
                    announced_address: *announced.ip(),
                    client,
                    server: Expected::NONE,
                })
            }
        };
        let announced = SocketAddrV4::new(stream.announced_address, stream.announced_l4_port);
        if announced != SocketAddrV4::new(own, own_l4_port) {
            put(ports, announced, changes);
            if let Some(destination) = &transport.destination {
                put(&Ports { first: destination.clone(), second: None }, announced, changes);
            }
        }
        Ok(())
    }

    /// The final answer of the server to a request of the client. `changes` are those that it needs anyway.
    pub(super) fn on_answer(
        &mut self,
        message: &Message<'_>,
        code: u32,
        mut changes: Changes,
        cx: &mut Context<'_>,
    ) -> Verdict {
        let Some(cseq) = message.common.cseq.filter(|cseq| self.streams.has_asked(*cseq)) else {
            return write(changes, cx).unwrap_or(Verdict::Pass);
        };
        if code >= 300 {
            self.streams.reject(cseq, cx);
            return write(changes, cx).unwrap_or(Verdict::Pass);
        }
        if let Some(seconds) = message.common.timeout_seconds {
            let timeout = Duration::from_secs(seconds.into()).min(LONGEST_TIMEOUT);
            self.session_lifetime = timeout.saturating_add(self.settings.expectation_lifetime);
        }
        let transport = message
            .headers(b"Transport")
            .next()
            .and_then(|at| transport::alternatives(message.bytes, at).next());
        let Some(transport) = transport else { return write(changes, cx).unwrap_or(Verdict::Pass) };
        let announced = transport.client.as_ref().map(Ports::l4_port);
        let needs_none = transport.is_tcp || transport.is_interleaved || transport.is_multicast;
        let chosen = if needs_none { None } else { self.streams.asked(cseq, announced) };
        let Some(mut stream) = chosen else {
            if needs_none {
                self.streams.reject(cseq, cx);
            }
            return write(changes, cx).unwrap_or(Verdict::Pass);
        };
        stream.session = message.session().unwrap_or(0);
        put_back(&transport, &stream, cx, &mut changes);
        let opened = self.open_server(&transport, &mut stream, &mut changes, cx);
        stream.client.renew(self.session_lifetime, self.named_source(&transport), cx);
        self.streams.accept(stream, cx);
        match opened {
            Ok(()) => write(changes, cx).unwrap_or(Verdict::Pass),
            Err(event) => {
                cx.events.count(event);
                Verdict::Pass
            }
        }
    }

    /// Opens the ports of a translated server for the client, and announces them.
    fn open_server(
        &self,
        transport: &Transport,
        stream: &mut Stream,
        changes: &mut Changes,
        cx: &mut Context<'_>,
    ) -> Result<(), Event> {
        let own = *cx.endpoints.sender(Direction::Reply).ip();
        let seen = *cx.endpoints.sender_seen(Direction::Reply).ip();
        if own == seen {
            return Ok(());
        }
        let named = transport.server.iter().flat_map(Ports::places).chain(&transport.source);
        if named.filter_map(|place| place.address.as_ref()).any(|(address, _)| *address != own) {
            return Err(Event::ForeignAddress);
        }
        if transport.is_malformed {
            return Err(Event::Malformed);
        }
        if let Some((_, at)) = transport.source.as_ref().and_then(|source| source.address.as_ref()) {
            changes.put_address(at, seen);
        }
        let Some(ports) = &transport.server else { return Ok(()) };
        let (expected, announced) = open(Direction::Reply, ports, self.session_lifetime, cx)?;
        stream.server = expected;
        put(ports, announced, changes);
        Ok(())
    }

    fn named_source(&self, transport: &Transport) -> Option<Peer> {
        let source =
            transport.source.as_ref().or_else(|| transport.server.as_ref().map(|ports| &ports.first));
        let address = source.and_then(|place| place.address.as_ref()).map(|(address, _)| *address);
        match self.settings.media_source {
            MediaSource::Server => None,
            MediaSource::Named => address.filter(|address| is_host(*address)).map(Peer::Address),
        }
    }
}

/// Asks NAT to admit media to `ports` of `owner`. Returns what is announced in place of the lower one.
fn open(
    owner: Direction,
    ports: &Ports,
    lifetime: Duration,
    cx: &mut Context<'_>,
) -> Result<(Expected, SocketAddrV4), Event> {
    match ports.l4_port() {
        0 => return Err(Event::PortZero),
        1..FIRST_UNPRIVILEGED => return Err(Event::PrivilegedPort),
        FIRST_UNPRIVILEGED.. => {}
    }
    let request = Expectation {
        protocol: Protocol::Udp,
        owner,
        target: SocketAddrV4::new(*cx.endpoints.sender(owner).ip(), ports.l4_port()),
        peer: Peer::OtherEnd,
        // Servers send from other ports than they name.
        peer_l4_port: None,
        // Media that paused too long come again as a new flow.
        uses: u16::MAX,
        lifetime,
    };
    let opened = if ports.second.is_some() {
        cx.nat.expect_pair(&request).map(|[low, high]| (Expected::two([low.id, high.id]), low.endpoint))
    } else {
        cx.nat.expect(&request).map(|one| (Expected::one(one.id), one.endpoint))
    };
    opened.map_err(|_| Event::ExpectationRefused)
}

/// Puts `endpoint`, and the port above it, where `ports` stand.
fn put(ports: &Ports, endpoint: SocketAddrV4, changes: &mut Changes) {
    for (place, above) in ports.places().zip(0u32..) {
        if let Some((_, at)) = &place.address {
            changes.put_address(at, *endpoint.ip());
        }
        if let Some((_, at)) = &place.l4_port {
            changes.put_number(at, u32::from(endpoint.port()) + above);
        }
    }
}

/// Puts the client's own endpoint where an answer repeats what was announced of `stream`.
fn put_back(transport: &Transport, stream: &Stream, cx: &Context<'_>, changes: &mut Changes) {
    let own = SocketAddrV4::new(*cx.endpoints.sender(Direction::Original).ip(), stream.own_l4_port);
    let announced = SocketAddrV4::new(stream.announced_address, stream.announced_l4_port);
    if own == announced {
        return;
    }
    let destination = transport.destination.iter().map(|place| Ports { first: place.clone(), second: None });
    for ports in transport.client.iter().cloned().chain(destination) {
        let first = &ports.first;
        let address = first.address.as_ref().map_or(stream.announced_address, |(address, _)| *address);
        let l4_port = first.l4_port.as_ref().map_or(stream.announced_l4_port, |(l4_port, _)| *l4_port);
        if SocketAddrV4::new(address, l4_port) == announced {
            put(&ports, own, changes);
        }
    }
}

/// A single host that packets can come from.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// Beyond that a server's word is not taken.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// The first port that anyone may listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;
