//! Port control: internal hosts ask for mappings by PCP (RFC 6887) or NAT-PMP (RFC 6886), UDP port 5351.
//!
//! ```text
//! datagram -> message / natpmp (parse) -> server (decide) -> nat::explicit (mapping) -> emit
//! ```
//!
//! Both codecs are pure. What was granted stands in [`table`]: an entry holds a firm reference on a
//! mapping of the ordinary mapping table until its lifetime ends, so the data path knows no other kind of
//! mapping. Only the first inbound packet of a flow asks here, for the peers that a FILTER allows.
//!
//! Served on internal interfaces alone, for the sender's own address alone. Not done: THIRD_PARTY,
//! mappings of all ports or all protocols, IPv6, authentication (RFC 7652), and NAT-PMP's gratuitous
//! announcement of the external address, since subscribers have different ones.

pub mod message;
#[cfg(all(test, loom))]
mod models;
pub mod natpmp;
pub mod server;
pub mod table;

/// Where requests go.
pub const SERVER_PORT: u16 = 5_351;
/// Where hosts listen for announcements.
pub const CLIENT_PORT: u16 = 5_350;
/// All hosts of a link, 224.0.0.1.
pub const ALL_HOSTS: u32 = 0xE000_0001;
