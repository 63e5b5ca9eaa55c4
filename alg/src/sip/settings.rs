//! What the operator may set.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::policy::Prefix;

use super::hiding::CallIdKey;

/// How SIP is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipSettings {
    /// The longest message that is read, at most 16,384. Must not be above what the stream layer holds of one
    /// direction. Longer ones pass unread.
    pub message_bytes: usize,
    /// How long media may take to come while a call is not answered, and a registered endpoint waits
    /// for its confirmation.
    pub media_lifetime: Duration,
    /// How long media may begin anew in an answered call without Session-Expires. Flows that have begun
    /// live on by themselves.
    pub call_lifetime: Duration,
    /// Calls of which one signalling flow knows the state. The oldest makes room for one more.
    pub calls_per_flow: usize,
    /// Calls that the flows of a thread may have beyond the [`SURE_CALLS`](super::SURE_CALLS) of each.
    pub calls: usize,
    /// Who may send the media of a call.
    pub media_source: MediaPeer,
    /// Whether an internal end is told where another internal one's media really are.
    pub direct_media: bool,
    /// Internal hosts that another one may name in its descriptions.
    pub media_hosts: [Option<Prefix>; 8],
    /// Hides the addresses of senders in their Call-IDs.
    pub call_id_key: Option<CallIdKey>,
}

/// Who may send the media of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaPeer {
    /// The hosts that the other end's descriptions name.
    Named,
    /// The other end of the signalling, and no third party.
    Signalling,
}

impl SipSettings {
    /// Whether an internal end may name `address` besides its own.
    pub(super) fn may_name(&self, address: Ipv4Addr) -> bool {
        self.media_hosts.iter().flatten().any(|prefix| prefix.contains(address))
    }
}

impl Default for SipSettings {
    fn default() -> Self {
        Self {
            message_bytes: super::MAX_MESSAGE_BYTES,
            media_lifetime: Duration::from_secs(180),
            call_lifetime: Duration::from_secs(1800),
            calls_per_flow: 64,
            calls: 1024,
            media_source: MediaPeer::Named,
            direct_media: false,
            media_hosts: [None; 8],
            call_id_key: None,
        }
    }
}
