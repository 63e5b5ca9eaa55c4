//! Data sessions: which endpoint an announcement names, whether it may be opened, and until when.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::contract::{
    Announced, Context, Direction, Event, Expectation, ExpectationId, Peer, Protocol, Ruling, Verdict,
};
use crate::decimal::Text;

use super::Ftp;
use super::address::{self, AddressText, Form, Written};
use super::outstanding::Awaited;
use super::reply::{self, Code};
use super::server::answers_only;

/// What a reply has announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passive {
    pub(super) target: SocketAddrV4,
    /// `None`: nothing was opened for it.
    pub(super) announced: Option<Announced>,
    /// The code under which the client reads that there is no data connection, if it does.
    refused_as: Option<Code>,
}

impl Ftp {
    /// Reads the endpoint in one line of a reply, if the reply is one that announces an endpoint.
    pub(super) fn on_passive_text(
        &mut self,
        code: Code,
        more: bool,
        line: &[u8],
        cx: &mut Context<'_>,
    ) -> Verdict {
        let found = match answers_only(code) {
            Some(awaited) if !self.outstanding.contains(awaited) => return Verdict::Pass,
            Some(Awaited::Pasv) => address::find_decimals(line, reply::TEXT_AT),
            Some(Awaited::Epsv) => address::find_extended(line, reply::TEXT_AT),
            _ => return Verdict::Pass,
        };
        if let Some(code) = self.passive.and_then(|passive| passive.refused_as) {
            return write_refusal(code, more, line, cx);
        }
        let Some(text) = found else {
            if !more && self.passive.is_none() {
                cx.events.count(Event::Malformed);
                return self.unreadable_reply(line, cx);
            }
            return Verdict::Pass;
        };
        let target = match text.form {
            // RFC 2428 section 3: the address is that of the control session.
            Form::Port => {
                SocketAddrV4::new(*cx.endpoints.sender(Direction::Reply).ip(), text.endpoint.port())
            }
            Form::Decimals | Form::Delimited(_) => text.endpoint,
        };
        match self.passive {
            Some(passive) if passive.target == target => {
                let again =
                    passive.announced.and_then(|announced| write(target, announced.endpoint, &text, cx));
                again.unwrap_or(Verdict::Pass)
            }
            Some(_) => {
                cx.events.count(Event::Malformed);
                self.unreadable_reply(line, cx)
            }
            None => {
                let opened = self.open(Direction::Reply, target, &text, cx);
                let mut passive =
                    Passive { target, announced: opened.map(|(announced, _)| announced), refused_as: None };
                let ruling = match opened {
                    Some(_) => Ruling::Allow,
                    None => self.judge_unopened(Direction::Reply, target, cx),
                };
                let verdict = match ruling {
                    Ruling::Allow => opened.map_or(Verdict::Pass, |(_, verdict)| verdict),
                    Ruling::Deny => {
                        // A reply ends with the code that it has begun with.
                        let has_begun = self.open_reply.is_some();
                        let code = if has_begun { code } else { reply::NO_DATA_CONNECTION };
                        passive.refused_as = Some(code);
                        write_refusal(code, more, line, cx)
                    }
                    Ruling::Drop => Verdict::Terminate,
                };
                if ruling != Ruling::Allow {
                    cx.events.count(Event::Denied);
                }
                self.passive = Some(passive);
                verdict
            }
        }
    }

    /// Asks NAT to admit a data session to `target`, if its `owner` may announce that, and writes what
    /// is announced in its place.
    pub(super) fn open(
        &self,
        owner: Direction,
        target: SocketAddrV4,
        text: &AddressText,
        cx: &mut Context<'_>,
    ) -> Option<(Announced, Verdict)> {
        if target.ip() != cx.endpoints.sender(owner).ip() {
            return refuse(Event::ForeignAddress, cx);
        }
        match target.port() {
            0 => return refuse(Event::PortZero, cx),
            1..FIRST_UNPRIVILEGED => return refuse(Event::PrivilegedPort, cx),
            FIRST_UNPRIVILEGED.. => {}
        }
        let request = Expectation {
            protocol: Protocol::Tcp,
            owner,
            target,
            // RFC 959 section 3.2 has servers send from port 20; those without privileges cannot.
            peer: Peer::OtherEnd,
            peer_l4_port: None,
            uses: 1,
            lifetime: self.expectation_lifetime,
        };
        let Ok(announced) = cx.nat.expect(&request) else {
            return refuse(Event::ExpectationRefused, cx);
        };
        // A 229 has no place for an address other than the one the peer is connected to.
        let fits = text.form != Form::Port || announced.endpoint.ip() == cx.endpoints.sender_seen(owner).ip();
        if let Some(verdict) = fits.then(|| write(target, announced.endpoint, text, cx)).flatten() {
            return Some((announced, verdict));
        }
        cx.nat.withdraw(announced.id);
        refuse(Event::ExpectationRefused, cx)
    }

    /// What becomes of an announcement that nothing was opened for: it is refused where it names a host behind NAT, which
    /// its reader could not reach and should not know.
    pub(super) fn judge_unopened(&self, owner: Direction, target: SocketAddrV4, cx: &Context<'_>) -> Ruling {
        let (own, seen) = (*cx.endpoints.sender(owner).ip(), *cx.endpoints.sender_seen(owner).ip());
        let target = *target.ip();
        let is_internal = target == own || target != seen && is_private(target);
        if own != seen && is_internal { self.unopened } else { Ruling::Allow }
    }

    /// An announcement was accepted: it replaces the one before.
    pub(super) fn accept(&mut self, expectation: Option<ExpectationId>, cx: &mut Context<'_>) {
        let before = std::mem::replace(&mut self.accepted, expectation);
        if let Some(before) = before.filter(|before| expectation != Some(*before)) {
            cx.nat.withdraw(before);
        }
    }

    /// A command was not accepted: what was opened for it is closed.
    pub(super) fn reject(&self, awaited: Awaited, cx: &mut Context<'_>) {
        match awaited {
            Awaited::Active(Some(expectation)) if self.accepted != Some(expectation) => {
                cx.nat.withdraw(expectation);
            }
            Awaited::Refused(refusal) => {
                // Without room for it the client misses a reply, as it does the one that the server left out.
                let _ = cx.inject.push(Direction::Reply, refusal.text());
            }
            _ => {}
        }
    }
}

/// Counts why nothing was opened.
pub(super) fn refuse<T>(event: Event, cx: &mut Context<'_>) -> Option<T> {
    cx.events.count(event);
    None
}

/// Puts the announced endpoint in the place of the one read, where they differ. `None`: the room for
/// edits is used up, and the message is as it was.
fn write(
    target: SocketAddrV4,
    announced: SocketAddrV4,
    text: &AddressText,
    cx: &mut Context<'_>,
) -> Option<Verdict> {
    if target == announced {
        return Some(Verdict::Pass);
    }
    let written = Written::new(announced, text.form);
    if !cx.edits.replace(text.range.clone(), written.as_bytes()) {
        return None;
    }
    cx.events.count(Event::Rewritten);
    Some(Verdict::Rewrite)
}

/// Puts "no data connection" under this code in the place of a line of a reply. Without room for that the session ends.
fn write_refusal(code: Code, more: bool, line: &[u8], cx: &mut Context<'_>) -> Verdict {
    let mut written = Text::<40>::new();
    written.push_decimal(code.into());
    written.push(if more { b"-" } else { b" " });
    written.push(b"Can't open data connection.");
    match written.finished() {
        Some(written) if cx.edits.replace(0..line.len(), written) => Verdict::Rewrite,
        _ => Verdict::Terminate,
    }
}

/// Whether an address means something in one network only (RFC 1918, RFC 3927, RFC 6598).
const fn is_private(address: Ipv4Addr) -> bool {
    let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
    address.is_private() || address.is_link_local() || is_shared
}

/// The first port that anyone may listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;
