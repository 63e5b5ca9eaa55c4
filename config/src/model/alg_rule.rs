//! Rules about the messages that ALGs read.

use ipnet::Ipv4Net;

use crate::model::FilterDirection;

/// `[[alg.rule]]`. Empty lists and `None`: anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgRule {
    /// What output calls it.
    pub name: String,
    /// Whose messages it is about.
    pub alg: Option<AlgName>,
    /// Commands or methods, with `*` and `?`.
    pub commands: Vec<String>,
    /// Paths, URIs or file names, with `*` and `?`.
    pub arguments: Vec<String>,
    /// File types, with `*` and `?`.
    pub file_types: Vec<String>,
    /// Users, with `*` and `?`.
    pub users: Vec<String>,
    /// Addresses of the internal end.
    pub internal: Vec<Ipv4Net>,
    /// Addresses of the other end.
    pub peer: Vec<Ipv4Net>,
    /// Which end sends the message.
    pub direction: Option<FilterDirection>,
    /// Tenant of the internal end (0: of interfaces without one).
    pub tenant: Option<u16>,
    /// Only messages that cannot be read: too long, or malformed.
    pub unreadable: bool,
    /// What becomes of the message.
    pub action: AlgAction,
    /// So many a second are allowed all the same.
    pub rate_per_second: Option<u32>,
    /// Whether a match is logged.
    pub log: bool,
    /// Whether a match is logged as a warning.
    pub alarm: bool,
}

/// A protocol with an ALG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its table's name")]
pub enum AlgName {
    Ftp,
    Tftp,
    Sip,
    Rtsp,
    Irc,
    Pptp,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgAction {
    /// It passes, and no later rule is asked.
    Allow,
    /// It is taken out and answered with the protocol's own error.
    Deny,
    /// It is taken out without an answer.
    Drop,
    /// It goes on, without what it tells about the end that sends it.
    Mask,
}
