//! NAT-PMP on the wire (RFC 6886 section 3): version 0 of what became PCP, on the same port.
//!
//! ```text
//! request     0 | opcode
//! request     0 | 1 UDP, 2 TCP | 0 (2) | internal port | external port | lifetime (s)
//! response    0 | 128 + opcode | result (2) | epoch (s) | external address
//! response    0 | 128 + opcode | result (2) | epoch (s) | internal port | external port | lifetime (s)
//! ```
//!
//! There is no code for a malformed request: it is not answered.

use crate::packet::{PROTOCOL_TCP, PROTOCOL_UDP};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The external address.
    Address,
    /// A mapping.
    Map {
        /// TCP or UDP.
        protocol: u8,
        /// The client's port; 0, in a deletion: all.
        internal_port: u16,
        /// The external port it would like; 0: any.
        suggested_port: u16,
        /// For how long, seconds; 0 deletes.
        lifetime_seconds: u32,
    },
    /// Something unknown: answered so.
    Unknown,
}

/// The result codes of RFC 6886 section 3.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ResultCode {
    /// Done.
    Success = 0,
    /// Not for this client.
    NotAuthorized = 2,
    /// There is no external address.
    NetworkFailure = 3,
    /// Tables, ports or quota are used up.
    OutOfResources = 4,
    /// An unknown opcode.
    UnsupportedOpcode = 5,
}

/// Reads a request; `None`: it is not answered (malformed, or a response).
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Request> {
    let [VERSION, opcode, rest @ ..] = bytes else { return None };
    let protocol = match *opcode {
        0 => return Some(Request::Address),
        1 => PROTOCOL_UDP,
        2 => PROTOCOL_TCP,
        RESPONSE.. => return None,
        _ => return Some(Request::Unknown),
    };
    let &[_, _, i0, i1, e0, e1, l0, l1, l2, l3] = rest.first_chunk()?;
    Some(Request::Map {
        protocol,
        internal_port: u16::from_be_bytes([i0, i1]),
        suggested_port: u16::from_be_bytes([e0, e1]),
        lifetime_seconds: u32::from_be_bytes([l0, l1, l2, l3]),
    })
}

/// What the answer says besides its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The external address; zero in an error.
    Address(u32),
    /// A mapping as it now is.
    Map {
        /// The client's port.
        internal_port: u16,
        /// The external port; 0 when it was deleted or refused.
        external_port: u16,
        /// How long it lives, seconds.
        lifetime_seconds: u32,
    },
    /// Nothing.
    Nothing,
}

/// Writes an answer to `opcode` into `out` and returns its length, 8 to 16 bytes.
#[must_use]
pub fn emit(opcode: u8, result: ResultCode, epoch_seconds: u32, answer: Answer, out: &mut [u8]) -> usize {
    let Some(message) = out.first_chunk_mut::<MAP_BYTES>() else { return 0 };
    message[0] = VERSION;
    message[1] = opcode | RESPONSE;
    message[2..4].copy_from_slice(&(result as u16).to_be_bytes());
    message[4..8].copy_from_slice(&epoch_seconds.to_be_bytes());
    match answer {
        Answer::Nothing => 8,
        Answer::Address(address) => {
            message[8..12].copy_from_slice(&address.to_be_bytes());
            12
        }
        Answer::Map { internal_port, external_port, lifetime_seconds } => {
            message[8..10].copy_from_slice(&internal_port.to_be_bytes());
            message[10..12].copy_from_slice(&external_port.to_be_bytes());
            message[12..16].copy_from_slice(&lifetime_seconds.to_be_bytes());
            MAP_BYTES
        }
    }
}

/// The version that tells NAT-PMP from PCP.
pub const VERSION: u8 = 0;
const RESPONSE: u8 = 0x80;
const MAP_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_06_reads_what_rfc_6886_draws() {
        let map = Request::Map {
            protocol: PROTOCOL_TCP,
            internal_port: 22,
            suggested_port: 2_222,
            lifetime_seconds: 3_600,
        };
        for (bytes, expected) in [
            (&[0, 0][..], Some(Request::Address)),
            (&[0, 2, 0, 0, 0, 22, 0x08, 0xae, 0, 0, 0x0e, 0x10], Some(map)),
            (&[0, 2, 0, 0, 0, 22, 0x08, 0xae, 0, 0, 0x0e], None),
            (&[0, 99], Some(Request::Unknown)),
            (&[0, 128], None),
            (&[0], None),
            (&[], None),
            (&[2, 1], None),
        ] {
            assert_eq!(parse(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn p_06_writes_what_rfc_6886_draws() {
        let mut out = [0xff; 16];
        let answer = Answer::Map { internal_port: 22, external_port: 2_222, lifetime_seconds: 3_600 };
        assert_eq!(emit(2, ResultCode::Success, 7, answer, &mut out), 16);
        assert_eq!(out, [0, 130, 0, 0, 0, 0, 0, 7, 0, 22, 0x08, 0xae, 0, 0, 0x0e, 0x10]);
        assert_eq!(emit(0, ResultCode::Success, 7, Answer::Address(0xcb00_710a), &mut out), 12);
        assert_eq!(out[..12], [0, 128, 0, 0, 0, 0, 0, 7, 203, 0, 113, 10]);
        assert_eq!(emit(9, ResultCode::UnsupportedOpcode, 7, Answer::Nothing, &mut out), 8);
        assert_eq!(out[..8], [0, 137, 0, 5, 0, 0, 0, 7]);
    }
}
