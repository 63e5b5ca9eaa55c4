//! `[alg.sip]`

use std::time::Duration;

use ipnet::Ipv4Net;

use crate::address;
use crate::alg::common::{self, Claims, Protocol};
use crate::duration;
use crate::model::{Sip, Transport};
use crate::print::{Printer, list, quoted};
use crate::read::{Field, Table};
use crate::schema::{Form, Key, Section};
use crate::value::{self, Choices};

pub(crate) const SECTION: Section = Section {
    path: "alg.sip",
    form: Form::Table,
    about: "SIP (RFC 3261), over UDP and TCP.",
    keys: &[
        common::ENABLED,
        CONTROL_PORTS,
        common::EXPECTATION_LIFETIME,
        common::EXPECTATIONS,
        common::INTERNAL,
        common::TENANTS,
        common::INTERFACES,
        common::KEEPALIVE,
        common::SHADOW,
        CALL_LIFETIME,
        CALLS_PER_FLOW,
        CALLS,
        MEDIA_SOURCE,
        DIRECT_MEDIA,
        MEDIA_HOSTS,
        HIDE_CALL_ID,
    ],
};

const CONTROL_PORTS: Key = common::control_ports("[5060]");
const CALL_LIFETIME: Key = Key {
    name: "call_lifetime",
    example: "\"30m\"",
    reason: "How long an answered call without Session-Expires may begin new media, 1m to 1d; what flows lives on.",
};
const CALLS_PER_FLOW: Key = Key {
    name: "calls_per_flow",
    example: "64",
    reason: "Calls of one signalling flow whose ends are noticed, 1 to 16384; a trunk has hundreds, each two expectations.",
};
const CALLS: Key = Key {
    name: "calls",
    example: "1024",
    reason: "Calls of all flows of a thread beyond the four each flow is sure of, 0 to 1048576; each takes 2 KiB.",
};
const MEDIA_SOURCE: Key = Key {
    name: "media_source",
    example: "\"named\"",
    reason: "Who may send media: named: the hosts that the other end's description names; peer: the other end only.",
};
const SOURCES: Choices<bool> = &[("named", true), ("peer", false)];
const DIRECT_MEDIA: Key = Key {
    name: "direct_media",
    example: "false",
    reason: "Whether media between two internal ends stay inside; they must reach each other. Else they turn round here.",
};
const MEDIA_HOSTS: Key = Key {
    name: "media_hosts",
    example: "[\"10.0.0.64/26\"]",
    reason: "Internal hosts that another one may name for media (the phones of an exchange); without the line: none.",
};
const HIDE_CALL_ID: Key = Key {
    name: "hide_call_id",
    example: "\"some words of your own\"",
    reason: "Words that turn a sender's address in its Call-ID into a name, and back; without the line it stays.",
};

const PROTOCOL: Protocol = Protocol {
    section: &SECTION,
    transports: &[Transport::Udp, Transport::Tcp],
    control_ports: &CONTROL_PORTS,
    default_l4_port: 5060,
    lifetime: Duration::from_secs(180),
    expectations: 64,
    most_expectations: 8_192,
};

pub(crate) fn read<'a>(alg: &Table<'a>, claims: &mut Claims<'a>) -> Sip {
    let table = alg.table(&SECTION);
    let lifetime = value::duration(Duration::from_secs(60)..=Duration::from_secs(86_400));
    Sip {
        gateway: common::read(&PROTOCOL, &table, claims),
        call_lifetime: table.get(&CALL_LIFETIME, lifetime).unwrap_or(Duration::from_secs(1_800)),
        calls_per_flow: table.get(&CALLS_PER_FLOW, value::integer(1..=16_384)).unwrap_or(64),
        calls: table.get(&CALLS, value::integer(0..=1_048_576)).unwrap_or(1_024),
        follows_description: table.get(&MEDIA_SOURCE, value::choice(SOURCES)).unwrap_or(true),
        direct_media: table.get(&DIRECT_MEDIA, value::boolean).unwrap_or(false),
        media_hosts: media_hosts(&table),
        hide_call_id: table.get(&HIDE_CALL_ID, words),
    }
}

pub(crate) fn print(sip: &Sip, out: &mut Printer) {
    common::print(&PROTOCOL, &sip.gateway, out)
        .key(&CALL_LIFETIME, quoted(duration::print(sip.call_lifetime)))
        .key(&CALLS_PER_FLOW, sip.calls_per_flow)
        .key(&CALLS, sip.calls)
        .key(&MEDIA_SOURCE, quoted(value::word_of(SOURCES, sip.follows_description)))
        .key(&DIRECT_MEDIA, sip.direct_media);
    if !sip.media_hosts.is_empty() {
        out.key(&MEDIA_HOSTS, list(sip.media_hosts.iter().map(quoted)));
    }
    if let Some(words) = &sip.hide_call_id {
        out.key(&HIDE_CALL_ID, quoted(words));
    }
}

fn media_hosts(table: &Table<'_>) -> Vec<Ipv4Net> {
    let prefixes = value::non_empty(value::distinct(address::prefix));
    let Some(written) = table.get_located(&MEDIA_HOSTS, prefixes) else { return Vec::new() };
    if written.value.len() > MOST_MEDIA_HOSTS {
        let problem =
            format!("has {} prefixes, at most {MOST_MEDIA_HOSTS} are looked at", written.value.len());
        written.place.refuse(problem, "join neighbouring prefixes to wider ones");
    }
    written.value.into_iter().map(|prefix| prefix.value).collect()
}

fn words(field: &Field<'_>) -> Option<String> {
    let written = value::text(field)?;
    if (8..=64).contains(&written.len()) && written.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Some(written.to_string());
    }
    field.place.refuse("is too short, too long or unprintable", "write 8 to 64 letters, digits and blanks");
    None
}

const MOST_MEDIA_HOSTS: usize = 8;
