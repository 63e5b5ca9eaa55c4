//! TCP connection tracking as one table (RFC 6146 section 3.5.2, RFC 7857 section 2).
//!
//! ```text
//!                     original                                 reply
//! state          SYN     FIN     RST     other        SYN      FIN     RST     other
//! INIT           INIT    INIT    TRANS   INIT         ESTAB    INIT    TRANS   INIT
//! ESTABLISHED    ESTAB   FIN_O   TRANS   ESTAB        ESTAB    FIN_R   TRANS   ESTAB
//! FIN_ORIGINAL   FIN_O   FIN_O   TRANS   FIN_O        FIN_O    FIN_B   TRANS   FIN_O
//! FIN_REPLY      FIN_R   FIN_B   TRANS   FIN_R        FIN_R    FIN_R   TRANS   FIN_R
//! FIN_BOTH       INIT    FIN_B   FIN_B   FIN_B        FIN_B    FIN_B   FIN_B   FIN_B
//! TRANSITORY     INIT    TRANS   TRANS   ESTAB        TRANS    TRANS   TRANS   ESTAB
//! ```
//!
//! `SYN` covers SYN and SYN-ACK. A RST only makes the session transitory (RFC 7857 section 2.2): it
//! goes away after four silent minutes, and data brings it back. A SYN from the original side re-opens
//! a session in FIN_BOTH or TRANSITORY (TIME-WAIT re-use, RFC 5382 REQ-2).
//!
//! SCTP associations are tracked in the same states, see [`crate::nat::sctp_state`].

use algate_alg::Direction;

use crate::packet::{PROTOCOL_SCTP, PROTOCOL_TCP};

/// Whether sessions of `protocol` have a state, and count as half-open until both sides have spoken.
#[inline]
#[must_use]
pub const fn is_tracked(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_SCTP)
}

/// State of a TCP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// A SYN was seen from the original side only.
    Init = 0,
    /// SYNs were seen from both sides.
    Established = 1,
    /// The original side has closed its direction.
    FinOriginal = 2,
    /// The reply side has closed its direction.
    FinReply = 3,
    /// Both have.
    FinBoth = 4,
    /// Reset: goes away unless data follows.
    Transitory = 5,
}

/// What a segment means for tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpEvent {
    /// SYN or SYN-ACK
    Syn,
    /// FIN
    Fin,
    /// RST
    Rst,
    /// Anything else
    Other,
}

/// Which timeout holds in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpTimeout {
    /// `timeouts.tcp_established`
    Established,
    /// `timeouts.tcp_transitory`
    Transitory,
}

impl TcpState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Init, Self::Established, Self::FinOriginal, Self::FinReply, Self::FinBoth, Self::Transitory];

    /// From its number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Init,
            1 => Self::Established,
            2 => Self::FinOriginal,
            3 => Self::FinReply,
            4 => Self::FinBoth,
            _ => Self::Transitory,
        }
    }

    /// The state after `event` in `direction`.
    #[must_use]
    pub const fn next(self, direction: Direction, event: TcpEvent) -> Self {
        use Direction::{Original, Reply};
        use TcpEvent::{Fin, Other, Rst, Syn};
        match (self, direction, event) {
            (Self::Init, Reply, Syn) | (Self::Transitory, _, Other) => Self::Established,
            (Self::FinBoth | Self::Transitory, Original, Syn) | (Self::Init, _, Syn | Fin | Other) => {
                Self::Init
            }
            (Self::FinBoth, _, _) | (Self::FinOriginal, Reply, Fin) | (Self::FinReply, Original, Fin) => {
                Self::FinBoth
            }
            (Self::Established, Original, Fin) | (Self::FinOriginal, _, Syn | Fin | Other) => {
                Self::FinOriginal
            }
            (Self::Established, Reply, Fin) | (Self::FinReply, _, Syn | Fin | Other) => Self::FinReply,
            (Self::Established, _, Syn | Other) => Self::Established,
            (_, _, Rst) | (Self::Transitory, _, Syn | Fin) => Self::Transitory,
        }
    }

    /// How long a session may be silent in this state. A half-closed session still carries data and
    /// lives as long as an established one (RFC 5382 section 5).
    #[must_use]
    pub const fn timeout(self) -> TcpTimeout {
        match self {
            Self::Established | Self::FinOriginal | Self::FinReply => TcpTimeout::Established,
            Self::Init | Self::FinBoth | Self::Transitory => TcpTimeout::Transitory,
        }
    }

    /// The name in output.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Established => "established",
            Self::FinOriginal => "fin_original",
            Self::FinReply => "fin_reply",
            Self::FinBoth => "fin_both",
            Self::Transitory => "transitory",
        }
    }
}

impl TcpEvent {
    /// What a segment with these TCP `flags` means (RFC 9293 section 3.1, low byte).
    #[must_use]
    pub const fn of_flags(flags: u8) -> Self {
        if flags & FLAG_RST != 0 {
            Self::Rst
        } else if flags & FLAG_SYN != 0 {
            Self::Syn
        } else if flags & FLAG_FIN != 0 {
            Self::Fin
        } else {
            Self::Other
        }
    }
}

/// FIN flag
pub const FLAG_FIN: u8 = 0x01;
/// SYN flag
pub const FLAG_SYN: u8 = 0x02;
/// RST flag
pub const FLAG_RST: u8 = 0x04;
/// ACK flag
pub const FLAG_ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn t_09_every_cell_is_as_printed_in_the_module_documentation() {
        let mut table = String::new();
        for state in TcpState::ALL {
            write!(table, "{}:", state.text()).unwrap();
            for direction in [Direction::Original, Direction::Reply] {
                for event in [TcpEvent::Syn, TcpEvent::Fin, TcpEvent::Rst, TcpEvent::Other] {
                    write!(table, " {}", state.next(direction, event).text()).unwrap();
                }
            }
            table.push('\n');
        }
        let expected = "\
init: init init transitory init established init transitory init
established: established fin_original transitory established established fin_reply transitory established
fin_original: fin_original fin_original transitory fin_original fin_original fin_both transitory fin_original
fin_reply: fin_reply fin_both transitory fin_reply fin_reply fin_reply transitory fin_reply
fin_both: init fin_both fin_both fin_both fin_both fin_both fin_both fin_both
transitory: init transitory transitory established transitory transitory transitory established
";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_reset_wins_over_other_flags() {
        assert_eq!(TcpEvent::of_flags(FLAG_RST | FLAG_SYN), TcpEvent::Rst);
        assert_eq!(TcpEvent::of_flags(FLAG_SYN | FLAG_ACK), TcpEvent::Syn);
        assert_eq!(TcpEvent::of_flags(FLAG_ACK), TcpEvent::Other);
    }
}
