//! Which protocols there are. A new one adds a line to each table here and a folder of its own.
//!
//! An [`Instance`] is a plain value without memory of its own: a pool of them is taken at start, and
//! one is made ready for a new control session by assigning to it.

use crate::contract::{Alg, Context, Direction, Protocol, Step};
use crate::ftp::{Ftp, FtpSettings};

/// A protocol with an ALG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolId {
    /// FTP, RFC 959
    Ftp,
}

impl ProtocolId {
    /// All protocols.
    pub const ALL: [Self; 1] = [Self::Ftp];

    /// The name in config, counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ftp => "ftp",
        }
    }

    /// What carries the control session.
    #[must_use]
    pub const fn transport(self) -> Protocol {
        match self {
            Self::Ftp => Protocol::Tcp,
        }
    }

    /// The registered port of the control session.
    #[must_use]
    pub const fn default_l4_port(self) -> u16 {
        match self {
            Self::Ftp => 21,
        }
    }
}

/// The settings of all protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Those of FTP.
    pub ftp: FtpSettings,
}

/// The ALG of one control session.
#[derive(Debug)]
pub enum Instance {
    /// FTP
    Ftp(Ftp),
}

impl Instance {
    /// The ALG for a new control session of `protocol`. Takes no memory.
    #[must_use]
    pub fn new(protocol: ProtocolId, settings: &Settings) -> Self {
        match protocol {
            ProtocolId::Ftp => Self::Ftp(Ftp::new(settings.ftp)),
        }
    }
}

impl Alg for Instance {
    fn inspect(&mut self, direction: Direction, input: &[u8], cx: &mut Context<'_>) -> Step {
        match self {
            Self::Ftp(ftp) => ftp.inspect(direction, input, cx),
        }
    }
}

/// Bytes of one control session: a pool of them is taken at start, so growth is decided, not an accident.
const _: () = assert!(size_of::<Instance>() <= 1152);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_has_a_name_of_its_own() {
        for (index, one) in ProtocolId::ALL.iter().enumerate() {
            assert!(ProtocolId::ALL.iter().skip(index + 1).all(|other| other.name() != one.name()));
        }
    }
}
