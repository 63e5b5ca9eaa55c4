//! Which protocols there are. A new one adds a line to each table here and a folder of its own.
//!
//! An [`Instance`] is a plain value without memory of its own: a pool of them is taken at start, and
//! one is made ready for a new control session by assigning to it.

use crate::contract::{Alg, Context, Direction, Event, Protocol, Ruling, Step, Subject, Verdict};
use crate::ftp::{Ftp, FtpSettings};
use crate::irc::{Irc, IrcSettings};
use crate::pptp::{Pptp, PptpSettings};
use crate::rtsp::{Rtsp, RtspSettings};
use crate::sip::{CallTable, Sip, SipSettings};
use crate::tftp::{Tftp, TftpSettings};

/// A protocol with an ALG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolId {
    /// FTP, RFC 959
    Ftp,
    /// TFTP, RFC 1350
    Tftp,
    /// SIP, RFC 3261
    Sip,
    /// RTSP, RFC 2326 and RFC 7826
    Rtsp,
    /// IRC, RFC 2812, with DCC
    Irc,
    /// PPTP, RFC 2637
    Pptp,
}

impl ProtocolId {
    /// All protocols.
    pub const ALL: [Self; 6] = [Self::Ftp, Self::Tftp, Self::Sip, Self::Rtsp, Self::Irc, Self::Pptp];

    /// The name in config, counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "ftp",
            Self::Tftp => "tftp",
            Self::Sip => "sip",
            Self::Rtsp => "rtsp",
            Self::Irc => "irc",
            Self::Pptp => "pptp",
        }
    }

    /// Whether a dialogue that began on one control session may go on over another one between the same two hosts. All of these
    /// should have one owner.
    #[must_use]
    pub const fn moves_dialogues(self) -> bool {
        matches!(self, Self::Sip)
    }

    /// Its number: its place in [`ProtocolId::ALL`].
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The protocol with this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What carries its control sessions.
    #[must_use]
    pub const fn transports(self) -> &'static [Protocol] {
        match self {
            Self::Tftp => &[Protocol::Udp],
            Self::Sip => &[Protocol::Udp, Protocol::Tcp],
            Self::Ftp | Self::Rtsp | Self::Irc | Self::Pptp => &[Protocol::Tcp],
        }
    }

    /// Whether what was announced stands when both ends have closed the control session over TCP. Calls go on, chats of users
    /// who have left go on; a data connection of FTP ends with its control connection (RFC 959 section 3.2), and the next
    /// session may announce the same port.
    #[must_use]
    pub const fn announces_beyond_its_end(self) -> bool {
        match self {
            Self::Ftp => false,
            Self::Tftp | Self::Sip | Self::Rtsp | Self::Irc | Self::Pptp => true,
        }
    }

    /// The registered port of the control session.
    #[must_use]
    pub const fn default_l4_port(self) -> u16 {
        match self {
            Self::Ftp => 21,
            Self::Tftp => 69,
            Self::Sip => 5060,
            Self::Rtsp => 554,
            Self::Irc => 6667,
            Self::Pptp => 1723,
        }
    }
}

/// The settings of all protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Those of FTP.
    pub ftp: FtpSettings,
    /// Those of TFTP.
    pub tftp: TftpSettings,
    /// Those of SIP.
    pub sip: SipSettings,
    /// Those of RTSP.
    pub rtsp: RtspSettings,
    /// Those of IRC.
    pub irc: IrcSettings,
    /// Those of PPTP.
    pub pptp: PptpSettings,
}

/// The ALG of one control session.
#[derive(Debug)]
pub enum Instance {
    /// FTP
    Ftp(Ftp),
    /// TFTP
    Tftp(Tftp),
    /// SIP
    Sip(Sip),
    /// RTSP
    Rtsp(Rtsp),
    /// IRC
    Irc(Irc),
    /// PPTP
    Pptp(Pptp),
}

impl Instance {
    /// The ALG for a new control session of `protocol`, carried by `transport`. Takes no memory.
    #[must_use]
    pub fn new(protocol: ProtocolId, transport: Protocol, settings: &Settings) -> Self {
        match protocol {
            ProtocolId::Ftp => Self::Ftp(Ftp::new(settings.ftp)),
            ProtocolId::Tftp => Self::Tftp(Tftp::new(settings.tftp)),
            ProtocolId::Sip => Self::Sip(Sip::new(settings.sip, transport)),
            ProtocolId::Rtsp => Self::Rtsp(Rtsp::new(settings.rtsp)),
            ProtocolId::Irc => Self::Irc(Irc::new(settings.irc)),
            ProtocolId::Pptp => Self::Pptp(Pptp::new(settings.pptp)),
        }
    }
}

/// What the instances of one thread share, taken at start: today the calls of SIP.
#[derive(Debug, Default)]
pub struct Memory {
    calls: Option<Box<CallTable>>,
}

impl Memory {
    /// For `flows` control sessions, of the protocols that `reads` names.
    #[must_use]
    pub fn new(settings: &Settings, flows: usize, reads: impl Fn(ProtocolId) -> bool) -> Self {
        let SipSettings { calls, calls_per_flow, .. } = settings.sip;
        let table = || Box::new(CallTable::new(flows, calls, calls_per_flow));
        Self { calls: reads(ProtocolId::Sip).then(table) }
    }

    /// How many calls it has room for, and what they take, bytes.
    #[must_use]
    pub fn room_for_calls(
        settings: &Settings,
        flows: usize,
        reads: impl Fn(ProtocolId) -> bool,
    ) -> (usize, usize) {
        if !reads(ProtocolId::Sip) {
            return (0, 0);
        }
        let calls = settings.sip.calls;
        (CallTable::room(flows, calls), CallTable::bytes(flows, calls))
    }
}

impl Instance {
    /// Lends it the memory that all share, before it is asked; a second call takes it back.
    pub fn lend(&mut self, memory: &mut Memory) {
        if let Self::Sip(sip) = self {
            sip.lend(&mut memory.calls);
        }
    }

    /// Its control session has ended: it leaves nothing in the memory that all share.
    pub fn end(&mut self, memory: &mut Memory) {
        if let (Self::Sip(sip), Some(calls)) = (self, memory.calls.as_deref_mut()) {
            sip.end(calls);
        }
    }
}

impl Alg for Instance {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        #[cfg(any(test, feature = "testing"))]
        crate::testing::panic_if_due();
        let step = match self {
            Self::Ftp(ftp) => ftp.inspect(direction, input, cx),
            Self::Tftp(tftp) => tftp.inspect(direction, input, cx),
            Self::Sip(sip) => sip.inspect(direction, input, cx),
            Self::Rtsp(rtsp) => rtsp.inspect(direction, input, cx),
            Self::Irc(irc) => irc.inspect(direction, input, cx),
            Self::Pptp(pptp) => pptp.inspect(direction, input, cx),
        };
        match step {
            // Nothing behind it would be read: that is for policy to say, too.
            Step::Message { length, verdict: Verdict::Detach } if is_refused_unread(direction, cx) => {
                Step::Message { length, verdict: Verdict::Terminate }
            }
            step => step,
        }
    }
}

/// Whether policy wants a session to end that is no longer of its protocol.
fn is_refused_unread(direction: Direction, cx: &mut Context<'_>) -> bool {
    let subject = Subject { direction, command: b"", argument: b"", user: b"" };
    let is_refused = cx.policy.judge_unreadable(&subject) != Ruling::Allow;
    if is_refused {
        cx.events.count(Event::Denied);
    }
    is_refused
}

/// Bytes of one control session: a pool of them is taken at start, so growth is decided, not an accident. SIP is the
/// largest: its calls and their media.
const _: () = assert!(size_of::<Instance>() <= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_has_a_name_and_a_number_of_its_own() {
        for (index, one) in ProtocolId::ALL.iter().enumerate() {
            assert_eq!(usize::from(one.number()), index);
            assert_eq!(ProtocolId::of_number(one.number()), Some(*one));
            assert!(ProtocolId::ALL.iter().skip(index + 1).all(|other| other.name() != one.name()));
        }
    }
}
