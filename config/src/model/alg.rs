//! `[alg]` and a table for each protocol.

use std::time::Duration;

use ipnet::Ipv4Net;

use super::AlgRule;

/// `[alg]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alg {
    /// Control sessions whose changed messages are kept for `algate show alg audit`; 0: none.
    pub audit_flows: usize,
    /// Bytes that are kept of each of them.
    pub audit_bytes: usize,
    /// Promised data sessions outstanding of one internal host, all its control sessions together.
    pub expectations_per_host: u32,
    /// Which messages may pass, in their order.
    pub rules: Vec<AlgRule>,
    /// Undecided bytes one direction of a control session may hold, bytes.
    pub held_bytes: usize,
    /// `[alg.ftp]`
    pub ftp: Ftp,
    /// `[alg.tftp]`
    pub tftp: Gateway,
    /// `[alg.sip]`
    pub sip: Sip,
    /// `[alg.rtsp]`
    pub rtsp: Rtsp,
    /// `[alg.irc]`
    pub irc: Irc,
    /// `[alg.pptp]`
    pub pptp: Gateway,
}

/// What every `[alg.<protocol>]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whether control sessions of the protocol are read at all.
    pub enabled: bool,
    /// Ports on which a control session is expected.
    pub control_ports: Vec<u16>,
    /// How long a promised data session may take to come.
    pub expectation_lifetime: Duration,
    /// Promised data sessions outstanding per control session.
    pub expectations: usize,
    /// Internal hosts whose control sessions are read; empty: all.
    pub internal: Vec<Ipv4Net>,
    /// Tenants whose control sessions are read (0: of interfaces without one); empty: all.
    pub tenants: Vec<u16>,
    /// Names of the internal interfaces behind which their hosts are; empty: all.
    pub interfaces: Vec<String>,
    /// Whether it only says what it would do.
    pub shadow: bool,
    /// How long a control session over TCP may be silent while its data sessions live, before both its ends are probed.
    pub keepalive: Option<Duration>,
}

/// `[alg.sip]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sip {
    /// What every protocol has; the lifetime is that of media while a call is not answered.
    pub gateway: Gateway,
    /// How long an answered call without Session-Expires may begin new media.
    pub call_lifetime: Duration,
    /// Calls of one signalling flow of which the ALG knows the state.
    pub calls_per_flow: usize,
    /// Calls of all flows of a thread beyond those that each flow is sure of.
    pub calls: usize,
    /// Whether media may come from hosts that the other end's description names; else from the other end only.
    pub follows_description: bool,
    /// Whether media between two internal ends stay inside.
    pub direct_media: bool,
    /// Internal hosts that another one's description may name, at most 8 prefixes.
    pub media_hosts: Vec<Ipv4Net>,
    /// The words that hide addresses in Call-IDs.
    pub hide_call_id: Option<String>,
}

/// `[alg.rtsp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtsp {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Whether media may come from a host that the server names.
    pub follows_source: bool,
}

/// `[alg.irc]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irc {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Whether anyone may take up an offer; else only the IRC server.
    pub admits_any: bool,
}

/// `[alg.ftp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ftp {
    /// What every protocol has.
    pub gateway: Gateway,
    /// Longest command or reply line that is parsed, bytes with its end.
    pub line_bytes: usize,
    /// What becomes of an internal address that is announced and cannot be opened.
    pub unopened: Unopened,
}

/// What becomes of an announcement that would tell the other end an address where it reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// It is refused, with the protocol's own error.
    Deny,
    /// It passes.
    Allow,
    /// It is taken out; where something must stand for it, the session ends.
    Drop,
}
