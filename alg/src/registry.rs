//! Which protocols there are. A new one adds a line to each table here and a folder of its own.
//!
//! An [`Instance`] is a plain value without memory of its own: a pool of them is taken at start, and
//! one is made ready for a new control session by assigning to it.

use crate::contract::{Alg, Context, Direction, Protocol, Step};
use crate::ftp::{Ftp, FtpSettings};
use crate::tftp::{Tftp, TftpSettings};

/// A protocol with an ALG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolId {
    /// FTP, RFC 959
    Ftp,
    /// TFTP, RFC 1350
    Tftp,
}

impl ProtocolId {
    /// All protocols.
    pub const ALL: [Self; 2] = [Self::Ftp, Self::Tftp];

    /// The name in config, counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "ftp",
            Self::Tftp => "tftp",
        }
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
            Self::Ftp => &[Protocol::Tcp],
            Self::Tftp => &[Protocol::Udp],
        }
    }

    /// The registered port of the control session.
    #[must_use]
    pub const fn default_l4_port(self) -> u16 {
        match self {
            Self::Ftp => 21,
            Self::Tftp => 69,
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
}

/// The ALG of one control session.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a pool of them is taken at start: boxing would allocate")]
pub enum Instance {
    /// FTP
    Ftp(Ftp),
    /// TFTP
    Tftp(Tftp),
}

impl Instance {
    /// The ALG for a new control session of `protocol`, carried by `transport`. Takes no memory.
    #[must_use]
    pub fn new(protocol: ProtocolId, transport: Protocol, settings: &Settings) -> Self {
        match protocol {
            ProtocolId::Ftp => Self::Ftp(Ftp::new(settings.ftp)),
            ProtocolId::Tftp => Self::Tftp(Tftp::new(settings.tftp)),
        }
    }
}

impl Alg for Instance {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        match self {
            Self::Ftp(ftp) => ftp.inspect(direction, input, cx),
            Self::Tftp(tftp) => tftp.inspect(direction, input, cx),
        }
    }
}

/// Bytes of one control session: a pool of them is taken at start, so growth is decided, not an accident.
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
