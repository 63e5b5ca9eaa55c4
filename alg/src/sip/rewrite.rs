//! Which tokens of a message get which new values.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::contract::{Event, Events, Protocol};

use super::aliases::{Aliases, Class};
use super::asking::Asking;
use super::call::Wanted;
use super::calls::Calls;
use super::reader::{Message, Method};
use super::sdp::{Connection, MAX_SECTIONS, Rtcp, Sdp, Section};
use super::tokens::{Place, Token, Tokens, Value};

/// Translates the header tokens: own endpoints of the sender outward, those under which the receiver
/// is known inward.
pub(super) fn translate_headers(
    message: &Message,
    tokens: &mut Tokens,
    aliases: &mut Aliases,
    asking: &mut Asking<'_>,
) -> Result<(), Event> {
    let request = message.status.is_none();
    let registers = request && message.method == Method::Register;
    let receiver = asking.sender.reversed();
    let (sends, receives) = (asking.is_translated(asking.sender), asking.is_translated(receiver));
    let mut via_is_ours = false;
    for index in 0..tokens.as_slice().len() {
        let Some(token) = tokens.get(index).copied() else { break };
        let new = match token.place {
            Place::CallId => translate_call_id(token.value, asking),
            // A host name is looked up, and the answer sent to whoever has its port (RFC 3581 section 4).
            Place::RportFlag if request && sends && asking.transport == Protocol::Udp => {
                let is_named = !tokens.as_slice().iter().any(|token| token.place == Place::SentBy);
                is_named.then_some(Value::Flag(true))
            }
            Place::SentBy if request && sends => {
                aliases.note_public(&token, Class::Via, asking);
                let lifetime = asking.settings.media_lifetime;
                let new = aliases.outward(&token, Class::Via, lifetime, asking)?;
                via_is_ours = new.is_some();
                new
            }
            Place::SentBy if !request && receives => {
                let new = aliases.inward(&token, Class::Via, asking);
                via_is_ours = new.is_some();
                new
            }
            Place::ViaMaddr if request && sends => address_outward(token.address(), asking),
            // These follow their Via: an end that wrote the public address itself asks for what they say.
            Place::ViaMaddr | Place::Received if !request && via_is_ours => {
                address_inward(token.address(), asking)
            }
            Place::Rport if !request && via_is_ours => {
                let seen = Value::Number(asking.seen(receiver).port().into());
                (token.value == seen).then(|| Value::Number(asking.own(receiver).port().into()))
            }
            Place::RequestUri | Place::Contact | Place::Uri | Place::Identity => {
                let lifetime =
                    if registers { asking.settings.media_lifetime } else { asking.settings.call_lifetime };
                if token.place == Place::Contact {
                    aliases.note_public(&token, Class::Uri, asking);
                }
                let outward =
                    if sends { aliases.outward(&token, Class::Uri, lifetime, asking)? } else { None };
                match outward {
                    None if receives => aliases.inward(&token, Class::Uri, asking),
                    outward => outward,
                }
            }
            Place::UriMaddr => match address_outward(token.address(), asking) {
                None if !aliases.is_public(receiver, Class::Uri) => address_inward(token.address(), asking),
                outward => outward,
            },
            _ => None,
        };
        if let Some(new) = new {
            tokens.set(index, new);
        }
    }
    Ok(())
}

/// The host of a Call-ID: the sender's own is hidden, the receiver's own shown again.
fn translate_call_id(value: Value, asking: &Asking<'_>) -> Option<Value> {
    let key = asking.settings.call_id_key?;
    let receiver = asking.sender.reversed();
    let (own, receiver_own) = (*asking.own(asking.sender).ip(), *asking.own(receiver).ip());
    match value {
        Value::Host(address, _) => {
            let is_hidden = asking.is_translated(asking.sender) && address == own;
            is_hidden.then(|| Value::Hidden(key.hide(address)))
        }
        Value::Hidden(name) => {
            let is_shown = asking.is_translated(receiver) && key.reveal(name) == Some(receiver_own);
            is_shown.then_some(Value::Host(receiver_own, None))
        }
        Value::Number(_) | Value::Flag(_) => None,
    }
}

fn address_outward(address: Option<Ipv4Addr>, asking: &Asking<'_>) -> Option<Value> {
    let (own, seen) = (asking.own(asking.sender), asking.seen(asking.sender));
    (own != seen && address == Some(*own.ip())).then(|| Value::Host(*seen.ip(), None))
}

fn address_inward(address: Option<Ipv4Addr>, asking: &Asking<'_>) -> Option<Value> {
    let receiver = asking.sender.reversed();
    let (own, seen) = (asking.own(receiver), asking.seen(receiver));
    (own != seen && address == Some(*seen.ip())).then(|| Value::Host(*own.ip(), None))
}

/// Opens what a description of the sender names, and translates its tokens. One with anything of ICE
/// stays as it is: its candidates would no longer agree with it (RFC 8839 section 4.2.4, ICE mismatch).
pub(super) fn translate_sdp(
    message: &Message,
    sdp: &Sdp,
    tokens: &mut Tokens,
    calls: &mut Calls<'_>,
    asking: &mut Asking<'_>,
    events: &mut Events,
) -> Result<(), Event> {
    calls.learn(message, sdp, asking);
    let (own, seen) = (asking.own(asking.sender), asking.seen(asking.sender));
    if sdp.ice {
        return Ok(());
    }
    if own == seen {
        if asking.settings.direct_media {
            keep_inside(sdp, tokens, asking);
        }
        return Ok(());
    }
    let settings = asking.settings;
    let is_served = |address: Ipv4Addr| address == *own.ip() || settings.may_name(address);
    calls.begin(message, asking);
    let mut opened = Opened { ports: [0; MAX_SECTIONS], address: None };
    for (index, section) in sdp.sections().iter().enumerate().filter(|(_, section)| section.l4_port != 0) {
        match sdp.connection_of(section) {
            Connection::Address(named) if is_served(named) => {
                if !sdp.follows_in_bundle(section) && !section.active {
                    open_section((index, named), section, tokens, &mut opened, calls, asking)?;
                }
            }
            Connection::Address(named) if named.is_unspecified() => {
                calls.hold(section.l4_port, asking);
            }
            Connection::Address(named) if named != *seen.ip() => events.count(Event::ForeignAddress),
            Connection::Address(_) | Connection::Absent | Connection::Other => {}
        }
    }
    let leader = sdp.bundle_leader().and_then(|leader| opened.ports.get(leader)).copied().unwrap_or(0);
    for section in sdp.sections().iter().filter(|section| section.l4_port != 0 && leader != 0) {
        let is_own = matches!(sdp.connection_of(section), Connection::Address(named) if is_served(named));
        if sdp.follows_in_bundle(section) && is_own {
            tokens.set(section.l4_port_token, Value::Number(leader.into()));
            if let Some(rtcp) = served_rtcp(section, tokens, asking) {
                let above = u16::from(rtcp.l4_port != section.l4_port);
                let announced = leader.checked_add(above).ok_or(Event::ExpectationRefused)?;
                set_rtcp(rtcp, announced, &opened, tokens);
            }
        }
    }
    let address = opened.address.unwrap_or(*seen.ip());
    for index in sdp.first_token..tokens.as_slice().len() {
        let Some(token) = tokens.get(index).copied() else { break };
        if !token.address().is_some_and(is_served) || sdp.is_of_disabled(index) {
            continue;
        }
        let new = match (token.place, token.value) {
            // With their section, or not at all.
            (Place::RtcpAddress, _) => continue,
            (Place::Path, Value::Host(_, l4_port)) => {
                let of_section =
                    sdp.sections().iter().zip(opened.ports).find(|(section, port)| {
                        *port != 0 && section.l4_port == l4_port.unwrap_or(MSRP_L4_PORT)
                    });
                Value::Host(address, of_section.map(|(_, port)| port).or(l4_port))
            }
            _ => Value::Host(address, None),
        };
        tokens.set(index, new);
    }
    if message.status.is_none() && message.method == Method::Ack {
        calls.settle();
    }
    Ok(())
}

/// What has been opened for one description.
struct Opened {
    /// The announced port of each section, 0 for none.
    ports: [u16; MAX_SECTIONS],
    address: Option<Ipv4Addr>,
}

impl Opened {
    /// All of a description has one address.
    fn take(&mut self, announced: SocketAddrV4) -> Result<u16, Event> {
        let address = self.address.get_or_insert(*announced.ip());
        if address == announced.ip() { Ok(announced.port()) } else { Err(Event::ExpectationRefused) }
    }
}

/// Tells an internal receiver where the media of another internal host are, instead of where algate has announced them, so
/// that they need not come by here. All of a description, or nothing of it.
fn keep_inside(sdp: &Sdp, tokens: &mut Tokens, asking: &Asking<'_>) {
    let receiver = asking.sender.reversed();
    if !asking.is_translated(receiver) {
        return;
    }
    let behind = |protocol, address: Ipv4Addr, l4_port: u16| {
        asking.nat.internal_of(protocol, SocketAddrV4::new(address, l4_port), receiver)
    };
    let mut hosts: Option<(Ipv4Addr, Ipv4Addr)> = None;
    let mut ports = [None; MAX_SECTIONS];
    for (section, port) in sdp.sections().iter().zip(&mut ports).filter(|(section, _)| section.l4_port != 0) {
        let Connection::Address(named) = sdp.connection_of(section) else { return };
        let Some(internal) = behind(section.protocol, named, section.l4_port) else { return };
        let host = (named, *internal.ip());
        if *hosts.get_or_insert(host) != host || section.layers > 1 {
            return;
        }
        let rtcp = section.rtcp.map(|rtcp| rtcp.l4_port);
        let control =
            if section.rtp && !section.mux { rtcp.or(section.l4_port.checked_add(1)) } else { rtcp };
        let control = match control {
            Some(control) => {
                let Some(control) = behind(section.protocol, named, control) else { return };
                let is_implied = rtcp.is_none() && Some(control.port()) != internal.port().checked_add(1);
                if control.ip() != internal.ip() || is_implied {
                    return;
                }
                control.port()
            }
            None => 0,
        };
        *port = Some((internal.port(), control));
    }
    let Some((named, internal)) = hosts else { return };
    for (section, ports) in sdp.sections().iter().zip(ports) {
        let Some((l4_port, control)) = ports else { continue };
        tokens.set(section.l4_port_token, Value::Number(l4_port.into()));
        if let Some(rtcp) = section.rtcp {
            tokens.set(rtcp.l4_port_token, Value::Number(control.into()));
        }
    }
    for index in sdp.first_token..tokens.as_slice().len() {
        let Some(token) = tokens.get(index).copied() else { break };
        let new = match token.value {
            Value::Host(address, None) if address == named => Value::Host(internal, None),
            Value::Host(address, Some(written)) if address == named => {
                let of_section =
                    sdp.sections().iter().zip(ports).find(|(section, _)| section.l4_port == written);
                let l4_port = of_section.and_then(|(_, ports)| ports).map_or(written, |(l4_port, _)| l4_port);
                Value::Host(internal, Some(l4_port))
            }
            _ => continue,
        };
        tokens.set(index, new);
    }
}

/// `a=rtcp` of a section, unless it names a host for which the sender may not speak.
fn served_rtcp(section: &Section, tokens: &Tokens, asking: &Asking<'_>) -> Option<Rtcp> {
    let own = *asking.own(asking.sender).ip();
    section.rtcp.filter(|rtcp| {
        let named = rtcp.address_token.and_then(|index| tokens.get(index)).and_then(Token::address);
        named.is_none_or(|named| named == own || asking.settings.may_name(named))
    })
}

/// Opens a section: `index` says which it is, `named` which host has its media.
fn open_section(
    (index, named): (usize, Ipv4Addr),
    section: &Section,
    tokens: &mut Tokens,
    opened: &mut Opened,
    calls: &mut Calls<'_>,
    asking: &mut Asking<'_>,
) -> Result<(), Event> {
    let above = section.l4_port.checked_add(1);
    let served = served_rtcp(section, tokens, asking);
    // It may name a host of its own.
    let rtcp_host = |rtcp: Rtcp| {
        let token = rtcp.address_token.and_then(|index| tokens.get(index));
        token.and_then(Token::address).unwrap_or(named)
    };
    let rtcp_host = served.map_or(named, rtcp_host);
    let rtcp = section.rtcp.map(|rtcp| rtcp.l4_port);
    let mut pair = section.rtp && !section.mux && rtcp.is_none_or(|rtcp| Some(rtcp) == above);
    let mut open = |host: Ipv4Addr, l4_port: u16, pair: bool, opened: &mut Opened| {
        let target = SocketAddrV4::new(host, l4_port);
        let wanted = Wanted { section: index, protocol: section.protocol, target, pair };
        opened.take(calls.open(wanted, asking)?)
    };
    if section.layers > MAX_LAYERS {
        return Err(Event::ExpectationRefused);
    }
    let step = if pair { 2 } else { 1 };
    let mut first = 0;
    for layer in 0..section.layers {
        let l4_port = section.l4_port.checked_add(layer * step).ok_or(Event::Malformed)?;
        let announced = match open(named, l4_port, pair, opened) {
            // The host has used these ports before, and not as a pair. It is heard, only its RTCP is lost
            // (unless it has a line of its own).
            Err(Event::ExpectationRefused) if pair && section.layers == 1 => {
                pair = false;
                open(named, l4_port, false, opened)?
            }
            answer => answer?,
        };
        if layer == 0 {
            first = announced;
        } else if first.checked_add(layer * step) != Some(announced) {
            return Err(Event::ExpectationRefused);
        }
    }
    if let Some(slot) = opened.ports.get_mut(index) {
        *slot = first;
    }
    tokens.set(section.l4_port_token, Value::Number(first.into()));
    if let Some(rtcp) = served {
        let announced = if pair && rtcp_host == named {
            first.checked_add(1).ok_or(Event::ExpectationRefused)?
        } else if rtcp.l4_port == section.l4_port && rtcp_host == named {
            first
        } else {
            open(rtcp_host, rtcp.l4_port, false, opened)?
        };
        set_rtcp(rtcp, announced, opened, tokens);
    }
    Ok(())
}

fn set_rtcp(rtcp: Rtcp, announced: u16, opened: &Opened, tokens: &mut Tokens) {
    tokens.set(rtcp.l4_port_token, Value::Number(announced.into()));
    if let (Some(index), Some(address)) = (rtcp.address_token, opened.address) {
        tokens.set(index, Value::Host(address, None));
    }
}

/// `/n` that is served.
const MAX_LAYERS: u16 = 4;
/// RFC 4975 section 15.4.
const MSRP_L4_PORT: u16 = 2855;
