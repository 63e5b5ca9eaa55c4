//! PPTP control messages: fixed sizes, big endian (RFC 2637 sections 1.5 and 2).
//!
//! ```text
//! 0 length   2 type (1 control)   4 cookie 0x1A2B3C4D   8 control type   10 reserved   12 ...
//!
//!  7 Outgoing-Call-Request    12 Call ID                       36 phone number length  40 phone number
//!  8 Outgoing-Call-Reply      12 Call ID   14 Peer's Call ID   16 result
//!  9 Incoming-Call-Request    12 Call ID                       24 dialed number length 28 dialed number
//! 10 Incoming-Call-Reply      12 Call ID   14 Peer's Call ID   16 result
//! 11 Incoming-Call-Connected               12 Peer's Call ID
//! 12 Call-Clear-Request       12 Call ID
//! 13 Call-Disconnect-Notify   12 Call ID
//! 14 WAN-Error-Notify                      12 Peer's Call ID
//! 15 Set-Link-Info                         12 Peer's Call ID
//! ```
//!
//! A Call ID is the sender's own, a Peer's Call ID the receiver's.

/// What is at the head of the undecided bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed<'a> {
    /// The start of a message.
    Incomplete,
    /// A whole message.
    Message(&'a [u8]),
    /// No PPTP.
    Wrong,
}

/// What a message means for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Start-Control-Connection-Request
    Start,
    /// Stop-Control-Connection-Reply: all calls have ended.
    Stopped,
    /// Echo-Request: the control session lives.
    Echo,
    /// A call is asked for.
    CallRequest {
        /// The sender's.
        call_id: u16,
        /// Outgoing, else incoming.
        is_outgoing: bool,
    },
    /// The answer.
    CallReply {
        /// The sender's.
        call_id: u16,
        /// The receiver's.
        peer_call_id: u16,
        /// Whether the call is accepted.
        is_accepted: bool,
    },
    /// It says something about the receiver's call.
    AboutPeer {
        /// The receiver's.
        peer_call_id: u16,
    },
    /// The call is to end, or has ended.
    Clear {
        /// The sender's, but senders that put the receiver's exist.
        call_id: u16,
        /// It has ended.
        is_over: bool,
    },
    /// Nothing about calls, or unknown.
    Other,
    /// The size is not that of its control type.
    Malformed,
}

/// Takes a message off `input`. A dialogue opens with a message of this `opening` type.
pub(super) fn frame(input: &[u8], opening: Option<u16>) -> Framed<'_> {
    let length = match word(input, 0) {
        Some(length) if (HEADER_BYTES..=LONGEST).contains(&length) => usize::from(length),
        Some(_) => return Framed::Wrong,
        None if input.first().is_none_or(|high| *high <= LONGEST.to_be_bytes()[0]) => {
            return Framed::Incomplete;
        }
        None => return Framed::Wrong,
    };
    let fixed = input.get(2..input.len().min(8)).unwrap_or_default();
    if !CONTROL.starts_with(fixed) {
        return Framed::Wrong;
    }
    if let Some(opening) = opening {
        let head = input.get(8..input.len().min(10)).unwrap_or_default();
        if Some(length) != size(opening) || !opening.to_be_bytes().starts_with(head) {
            return Framed::Wrong;
        }
    }
    input.get(..length).map_or(Framed::Incomplete, Framed::Message)
}

/// Reads a whole message.
pub(super) fn kind(message: &[u8]) -> Kind {
    let control_type = word(message, 8).unwrap_or(0);
    let at = |offset| word(message, offset).unwrap_or(0);
    if size(control_type).is_some_and(|size| size != message.len()) {
        return Kind::Malformed;
    }
    match control_type {
        START_REQUEST => Kind::Start,
        STOP_REPLY => Kind::Stopped,
        ECHO_REQUEST => Kind::Echo,
        OUTGOING_CALL_REQUEST | INCOMING_CALL_REQUEST => {
            Kind::CallRequest { call_id: at(CALL_ID_AT), is_outgoing: control_type == OUTGOING_CALL_REQUEST }
        }
        OUTGOING_CALL_REPLY | INCOMING_CALL_REPLY => Kind::CallReply {
            call_id: at(CALL_ID_AT),
            peer_call_id: at(PEER_CALL_ID_AT),
            is_accepted: message.get(RESULT_AT) == Some(&CONNECTED),
        },
        INCOMING_CALL_CONNECTED | WAN_ERROR_NOTIFY | SET_LINK_INFO => {
            Kind::AboutPeer { peer_call_id: at(CALL_ID_AT) }
        }
        CALL_CLEAR_REQUEST | CALL_DISCONNECT_NOTIFY => {
            Kind::Clear { call_id: at(CALL_ID_AT), is_over: control_type == CALL_DISCONNECT_NOTIFY }
        }
        _ => Kind::Other,
    }
}

/// The name of a request and the number it calls, as policy reads them.
pub(super) fn request(message: &[u8]) -> Option<(&'static [u8], &[u8])> {
    let number = |length_at: usize, at: usize| {
        let length = usize::from(word(message, length_at).unwrap_or(0)).min(NUMBER_BYTES);
        message.get(at..at + length).unwrap_or_default()
    };
    match kind(message) {
        Kind::Start => Some((b"Start-Control-Connection-Request", b"")),
        Kind::CallRequest { is_outgoing: true, .. } => Some((b"Outgoing-Call-Request", number(36, 40))),
        Kind::CallRequest { is_outgoing: false, .. } => Some((b"Incoming-Call-Request", number(24, 28))),
        _ => None,
    }
}

/// The reply that refuses a request, and its length.
pub(super) fn refusal(request: &[u8]) -> Option<([u8; LONGEST_REFUSAL], usize)> {
    let mut reply = [0; LONGEST_REFUSAL];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(room) = reply.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    };
    let control_type = match kind(request) {
        Kind::Start => {
            put(12, &PROTOCOL_VERSION);
            put(14, &[NOT_AUTHORIZED]);
            START_REPLY
        }
        Kind::CallRequest { call_id, is_outgoing } => {
            put(PEER_CALL_ID_AT, &call_id.to_be_bytes());
            put(RESULT_AT, &[if is_outgoing { OUTGOING_NOT_ACCEPTED } else { INCOMING_NOT_ACCEPTED }]);
            if is_outgoing { OUTGOING_CALL_REPLY } else { INCOMING_CALL_REPLY }
        }
        _ => return None,
    };
    let length = size(control_type)?;
    put(0, &u16::try_from(length).ok()?.to_be_bytes());
    put(2, &CONTROL);
    put(8, &control_type.to_be_bytes());
    Some((reply, length))
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// The size of a message of `control_type`, if that is known.
const fn size(control_type: u16) -> Option<usize> {
    match control_type {
        START_REQUEST | START_REPLY => Some(156),
        3 | STOP_REPLY | ECHO_REQUEST | CALL_CLEAR_REQUEST => Some(16),
        6 => Some(20),
        OUTGOING_CALL_REQUEST => Some(168),
        OUTGOING_CALL_REPLY => Some(32),
        INCOMING_CALL_REQUEST => Some(220),
        INCOMING_CALL_REPLY | SET_LINK_INFO => Some(24),
        INCOMING_CALL_CONNECTED => Some(28),
        CALL_DISCONNECT_NOTIFY => Some(148),
        WAN_ERROR_NOTIFY => Some(40),
        _ => None,
    }
}

/// Where the Call ID stands, or the Peer's Call ID where there is only that.
pub(super) const CALL_ID_AT: usize = 12;
/// Where the Peer's Call ID of a reply stands.
pub(super) const PEER_CALL_ID_AT: usize = 14;

/// Start-Control-Connection-Request
pub(super) const START_REQUEST: u16 = 1;
/// Start-Control-Connection-Reply
pub(super) const START_REPLY: u16 = 2;
const STOP_REPLY: u16 = 4;
const ECHO_REQUEST: u16 = 5;
const OUTGOING_CALL_REQUEST: u16 = 7;
const OUTGOING_CALL_REPLY: u16 = 8;
const INCOMING_CALL_REQUEST: u16 = 9;
const INCOMING_CALL_REPLY: u16 = 10;
const INCOMING_CALL_CONNECTED: u16 = 11;
const CALL_CLEAR_REQUEST: u16 = 12;
const CALL_DISCONNECT_NOTIFY: u16 = 13;
const WAN_ERROR_NOTIFY: u16 = 14;
const SET_LINK_INFO: u16 = 15;

/// Message type 1 and the cookie.
const CONTROL: [u8; 6] = [0x00, 0x01, 0x1a, 0x2b, 0x3c, 0x4d];
const HEADER_BYTES: u16 = 12;
/// Those known have at most 220 bytes.
const LONGEST: u16 = 511;
/// A Start-Control-Connection-Reply.
const LONGEST_REFUSAL: usize = 156;
const NUMBER_BYTES: usize = 64;
const RESULT_AT: usize = 16;
const CONNECTED: u8 = 1;
/// "Do Not Accept" of an Outgoing-Call-Reply.
const OUTGOING_NOT_ACCEPTED: u8 = 7;
/// "Do Not Accept" of an Incoming-Call-Reply.
const INCOMING_NOT_ACCEPTED: u8 = 3;
/// "Requester is not authorized to establish a command channel".
const NOT_AUTHORIZED: u8 = 4;
const PROTOCOL_VERSION: [u8; 2] = [0x01, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, control_type: u16) -> Vec<u8> {
        let mut bytes = vec![0xee; usize::from(length)];
        bytes[..2].copy_from_slice(&length.to_be_bytes());
        bytes[2..8].copy_from_slice(&CONTROL);
        bytes[8..10].copy_from_slice(&control_type.to_be_bytes());
        bytes
    }

    #[test]
    fn frames_by_length_and_cookie() {
        let whole = message(16, ECHO_REQUEST);
        for cut in 0..16 {
            assert_eq!(frame(&whole[..cut], None), Framed::Incomplete, "{cut}");
        }
        assert_eq!(frame(&[&whole[..], b"x"].concat(), None), Framed::Message(&whole[..]));
        for at in 2..8 {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            assert_eq!(frame(&wrong[..=at], None), Framed::Wrong, "byte {at}");
        }
        for start in
            [&b"\x00\x0b"[..], b"\x02", b"\x02\x00", b"\xff\xff", b"GET", b"\x16\x03\x01", b"\x00\x00"]
        {
            assert_eq!(frame(start, None), Framed::Wrong, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn a_dialogue_opens_with_one_message_only() {
        let opening = message(156, START_REQUEST);
        assert_eq!(frame(&opening, Some(START_REQUEST)), Framed::Message(&opening[..]));
        assert_eq!(frame(&opening, Some(START_REPLY)), Framed::Wrong);
        assert_eq!(frame(&message(16, ECHO_REQUEST)[..2], Some(START_REQUEST)), Framed::Wrong);
        assert_eq!(frame(&message(156, 0x0101)[..9], Some(START_REQUEST)), Framed::Wrong);
    }

    /// The sizes of RFC 2637 section 2, by control type.
    #[test]
    fn a_message_of_another_size_is_malformed() {
        let sizes = [156, 156, 16, 16, 16, 20, 168, 32, 220, 24, 28, 16, 148, 40, 24];
        for (control_type, size) in (1..).zip(sizes) {
            assert_ne!(kind(&message(size, control_type)), Kind::Malformed, "{control_type}");
            for wrong in [size - 1, size + 1] {
                assert_eq!(kind(&message(wrong, control_type)), Kind::Malformed, "{control_type}");
            }
        }
        assert_eq!(kind(&message(12, 16)), Kind::Other);
        assert_eq!(kind(&message(12, 0)), Kind::Other);
    }

    #[test]
    fn policy_reads_the_number_that_is_called() {
        let mut call = message(168, OUTGOING_CALL_REQUEST);
        call[36..38].copy_from_slice(&[0, 3]);
        call[40..43].copy_from_slice(b"123");
        assert_eq!(request(&call), Some((&b"Outgoing-Call-Request"[..], &b"123"[..])));
        call[36..38].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(request(&call).unwrap().1.len(), 64);
        assert_eq!(request(&message(16, ECHO_REQUEST)), None);
    }
}
