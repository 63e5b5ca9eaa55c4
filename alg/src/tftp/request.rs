//! Read and write requests (RFC 1350 section 5, RFC 2347).

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// What is asked for.
    pub(super) kind: Kind,
    /// The name of the file, not empty.
    pub(super) file_name: &'a [u8],
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RRQ: the file.
    Read,
    /// WRQ: to take a file.
    Write,
}

/// The opcode of a datagram.
pub(super) fn opcode(datagram: &[u8]) -> Option<u16> {
    datagram.first_chunk().map(|opcode| u16::from_be_bytes(*opcode))
}

/// The request that a whole datagram is: file name, mode, and options in pairs. Zeros may follow, which some boot
/// loaders pad with.
pub(super) fn parse(datagram: &[u8]) -> Option<Request<'_>> {
    if datagram.len() > MAX_BYTES {
        return None;
    }
    let (opcode, rest) = datagram.split_first_chunk()?;
    let kind = match u16::from_be_bytes(*opcode) {
        RRQ => Kind::Read,
        WRQ => Kind::Write,
        _ => return None,
    };
    let (file_name, rest) = text(rest)?;
    let (mode, mut rest) = text(rest)?;
    let is_mode = MODES.iter().any(|known| mode.eq_ignore_ascii_case(known));
    while rest.iter().any(|byte| *byte != 0) {
        let (_, value) = text(rest)?;
        // RFC 2090 section 3 asks for `multicast` without one.
        let end = value.iter().position(|byte| *byte == 0)?;
        rest = value.get(end + 1..)?;
    }
    is_mode.then_some(Request { kind, file_name })
}

/// A text that is not empty, without its final zero, and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    (!text.is_empty()).then_some((text, rest.get(1..)?))
}

pub(super) const RRQ: u16 = 1;
pub(super) const WRQ: u16 = 2;
pub(super) const DATA: u16 = 3;
pub(super) const ACK: u16 = 4;
pub(super) const ERROR: u16 = 5;
pub(super) const OACK: u16 = 6;

/// RFC 2347: the longest request, with all its options.
const MAX_BYTES: usize = 512;
/// RFC 1350 section 5, in any case.
const MODES: [&[u8]; 3] = [b"octet", b"netascii", b"mail"];
