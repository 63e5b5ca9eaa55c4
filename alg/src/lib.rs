//! What control protocols say: complete messages in, edits, expectations and verdicts out.
//!
//! One file or folder per protocol. Nothing here sees a header, a checksum, a sequence number, a
//! clock or a socket: the stream layer of the engine hands over bytes in order and carries out what
//! is decided here. What an ALG needs of NAT it asks through [`Nat`].
#![forbid(unsafe_code)]

mod contract;
mod decimal;
mod framing;
mod ftp;
mod irc;
mod masking;
mod masks;
mod policy;
mod pptp;
mod registry;
mod rtsp;
mod sip;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tftp;

pub use contract::*;
pub use framing::{Framed, LineFramer};
pub use ftp::{Ftp, FtpSettings};
pub use irc::{DccPeer, Irc, IrcSettings};
pub use masking::mask;
pub use policy::{Action, Facts, Judgement, Pattern, Prefix, Question, Rule, Rules, Scratch, TooLong, Way};
pub use pptp::{Pptp, PptpSettings};
pub use registry::{Instance, Memory, ProtocolId, Settings};
pub use rtsp::{MediaSource, Rtsp, RtspSettings};
pub use sip::{CallIdKey, CallTable, MediaPeer, SURE_CALLS, Sip, SipSettings};
pub use tftp::{Tftp, TftpSettings};
