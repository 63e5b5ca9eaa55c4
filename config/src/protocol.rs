//! IP protocols, as rules name them: by word, or by number (IANA "Protocol Numbers").

use toml::de::DeValue;

use crate::print::quoted;
use crate::read::Field;
use crate::value::{self, Choices};

/// Number of ICMP.
pub(crate) const ICMP: u8 = 1;
/// Number of TCP.
pub(crate) const TCP: u8 = 6;
/// Number of UDP.
pub(crate) const UDP: u8 = 17;
/// Number of the IP authentication header (RFC 4302).
pub(crate) const AH: u8 = 51;
/// Protocols with L4 ports where TCP and UDP have theirs, besides those two: DCCP, SCTP, UDP-Lite.
pub(crate) const OTHERS_WITH_PORTS: [u8; 3] = [33, 132, 136];

const WORDS: Choices<u8> = &[
    ("tcp", TCP),
    ("udp", UDP),
    ("icmp", ICMP),
    ("ipip", 4),
    ("dccp", 33),
    ("6in4", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", AH),
    ("sctp", 132),
    ("udplite", 136),
];

/// `"tcp"`, or `47`.
pub(crate) fn read(field: &Field<'_>) -> Option<u8> {
    match field.value {
        DeValue::Integer(_) => value::integer(0..=255)(field),
        DeValue::String(written) => {
            let known = WORDS.iter().find(|(word, _)| word == written);
            if known.is_none() {
                let words: Vec<String> = WORDS.iter().map(|(word, _)| (*word).to_string()).collect();
                let remedy = format!("the names are {}; any other by its number, e.g. 89", words.join(", "));
                field.place.refuse("is not a protocol's name", remedy);
            }
            known.map(|(_, number)| *number)
        }
        _ => {
            field.refuse_type("a protocol's name or number");
            None
        }
    }
}

/// As [`read`] takes it.
pub(crate) fn text(number: u8) -> String {
    match value::word_of(WORDS, number) {
        "" => number.to_string(),
        word => quoted(word),
    }
}
