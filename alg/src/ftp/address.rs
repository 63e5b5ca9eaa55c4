//! Addresses as FTP writes them: six decimals (RFC 959 section 4.1.2), EPRT (RFC 2428 section 2)
//! and the port in a 229 reply (RFC 2428 section 3).
//!
//! Reading is strict: at most three digits for an octet and five for a port, no sign, no blank, no
//! value out of range; nothing is guessed. Writing is plain decimal without leading zeros, and keeps
//! the delimiter that was read.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use crate::decimal::{dotted, number};

/// An endpoint as it stands in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressText {
    /// What it says. In the form [`Form::Port`] the address is unspecified.
    pub(super) endpoint: SocketAddrV4,
    /// How it is written.
    pub(super) form: Form,
    /// Where in the line it stands.
    pub(super) range: Range<usize>,
}

/// How an endpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `10,0,0,2,15,161`
    Decimals,
    /// `10.0.0.2|4001`, with this delimiter.
    Delimited(u8),
    /// `4001`
    Port,
}

/// Why no IPv4 endpoint could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressError {
    /// It does not parse.
    Malformed,
    /// EPRT with an IPv6 address.
    OtherFamily,
}

/// Reads the argument of PORT, which starts at `offset` of the line.
pub(super) fn read_port(argument: &[u8], offset: usize) -> Result<AddressText, AddressError> {
    let (text, start) = trimmed(argument, offset);
    let endpoint = decimals(text).ok_or(AddressError::Malformed)?;
    Ok(AddressText { endpoint, form: Form::Decimals, range: start..start + text.len() })
}

/// Reads the argument of EPRT, which starts at `offset` of the line.
pub(super) fn read_eprt(argument: &[u8], offset: usize) -> Result<AddressText, AddressError> {
    let (text, start) = trimmed(argument, offset);
    let delimiter = *text.first().filter(|byte| is_delimiter(**byte)).ok_or(AddressError::Malformed)?;
    let mut fields = text.split(|&byte| byte == delimiter);
    let (Some(b""), Some(family), Some(address), Some(l4_port), Some(b""), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(AddressError::Malformed);
    };
    match family {
        b"1" => {}
        b"2" => return Err(AddressError::OtherFamily),
        _ => return Err(AddressError::Malformed),
    }
    let endpoint = dotted(address)
        .zip(number(l4_port, 5, u16::MAX))
        .map(|(address, l4_port)| SocketAddrV4::new(address, l4_port))
        .ok_or(AddressError::Malformed)?;
    let from = start + 1 + family.len() + 1;
    let range = from..from + address.len() + 1 + l4_port.len();
    Ok(AddressText { endpoint, form: Form::Delimited(delimiter), range })
}

/// Finds the six decimals in the text of a 227 reply, in parentheses or not (RFC 1123 section
/// 4.1.2.6): the first run of digits and commas that is six numbers.
pub(super) fn find_decimals(line: &[u8], from: usize) -> Option<AddressText> {
    let mut at = from;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
        let run = rest.get(..length).unwrap_or_default();
        // A comma that only ends the phrase is not part of the numbers.
        let run = run.strip_suffix(b",").unwrap_or(run);
        if let Some(endpoint) = decimals(run) {
            return Some(AddressText { endpoint, form: Form::Decimals, range: at..at + run.len() });
        }
        at += length.max(1);
    }
    None
}

/// Finds `(|||port|)` with any delimiter in the text of a 229 reply.
pub(super) fn find_extended(line: &[u8], from: usize) -> Option<AddressText> {
    let mut at = from;
    while let Some(rest) = line.get(at..) {
        let open = rest.iter().position(|&byte| byte == b'(')?;
        let inside = rest.get(open + 1..).unwrap_or_default();
        at += open + 1;
        let Some(delimiter) = inside.first().copied().filter(|byte| is_delimiter(*byte)) else { continue };
        let Some(tail) = inside.strip_prefix(&[delimiter; 3]) else { continue };
        let length = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let l4_port = tail.get(..length).and_then(|digits| number(digits, 5, u16::MAX));
        let closes = tail.get(length..).is_some_and(|end| end.starts_with(&[delimiter, b')']));
        if let Some(l4_port) = l4_port.filter(|_| closes) {
            let endpoint = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, l4_port);
            let start = at + 3;
            return Some(AddressText { endpoint, form: Form::Port, range: start..start + length });
        }
    }
    None
}

/// An endpoint written out, at most [`LONGEST`] bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Written {
    /// Writes `endpoint` in `form`.
    pub(super) fn new(endpoint: SocketAddrV4, form: Form) -> Self {
        let mut written = Self { bytes: [0; LONGEST], length: 0 };
        let separator = match form {
            Form::Decimals => b',',
            Form::Delimited(_) => b'.',
            Form::Port => {
                written.push_decimal(endpoint.port());
                return written;
            }
        };
        for (index, octet) in endpoint.ip().octets().into_iter().enumerate() {
            if index > 0 {
                written.push(separator);
            }
            written.push_decimal(octet.into());
        }
        match form {
            Form::Delimited(delimiter) => {
                written.push(delimiter);
                written.push_decimal(endpoint.port());
            }
            Form::Decimals | Form::Port => {
                for half in endpoint.port().to_be_bytes() {
                    written.push(separator);
                    written.push_decimal(half.into());
                }
            }
        }
        written
    }

    /// The text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    fn push_decimal(&mut self, value: u16) {
        for (place, digit) in [10_000, 1_000, 100, 10, 1].map(|unit| (unit, value / unit % 10)) {
            if value >= place || place == 1 {
                self.push(b'0' + u8::try_from(digit).unwrap_or(0));
            }
        }
    }
}

/// `255,255,255,255,255,255`
const LONGEST: usize = 23;

/// Any printable character (RFC 2428 section 2), but a digit or a dot could not be told from what it delimits.
fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_graphic() && !byte.is_ascii_digit() && byte != b'.'
}

fn trimmed(argument: &[u8], offset: usize) -> (&[u8], usize) {
    let text = argument.trim_ascii_start();
    (text.trim_ascii_end(), offset + argument.len() - text.len())
}

fn decimals(text: &[u8]) -> Option<SocketAddrV4> {
    let mut octets = [0u8; 6];
    let mut fields = text.split(|&byte| byte == b',');
    for octet in &mut octets {
        *octet = number(fields.next()?, 3, u8::MAX)?;
    }
    let [a, b, c, d, high, low] = octets;
    fields
        .next()
        .is_none()
        .then(|| SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn reads_the_argument_of_port() {
        let rows: [(&[u8], Option<&str>); 16] = [
            (b" 10,0,0,2,15,161", Some("10.0.0.2:4001")),
            (b" 010,000,000,002,015,161 ", Some("10.0.0.2:4001")),
            (b" 10,0,0,2,0,0", Some("10.0.0.2:0")),
            (b" 255,255,255,255,255,255", Some("255.255.255.255:65535")),
            (b" 10,0,0,2,256,0", None),
            (b" 256,0,0,2,1,0", None),
            (b" 10,0,0,2,1", None),
            (b" 10,0,0,2,1,2,3", None),
            (b" 10,0,0,2,1,", None),
            (b" ,10,0,0,2,1", None),
            (b" 10,0,0,2, 1,2", None),
            (b" 10,0,0,2,+1,2", None),
            (b" 10.0.0.2,1,2", None),
            (b" 10,0,0,2,1,4294967298", None),
            (b" 10,0,0,2,15,161\rX", None),
            (b"", None),
        ];
        for (argument, want) in rows {
            let read = read_port(argument, 4);
            assert_eq!(
                read.as_ref().ok().map(|read| read.endpoint),
                want.map(at),
                "{}",
                argument.escape_ascii()
            );
        }
        assert_eq!(read_port(b"  10,0,0,2,15,161 ", 4).unwrap().range, 6..21);
    }

    #[test]
    fn reads_the_argument_of_eprt_with_any_delimiter() {
        let rows: [(&[u8], Result<&str, AddressError>); 16] = [
            (b" |1|10.0.0.2|4001|", Ok("10.0.0.2:4001")),
            (b" !1!10.0.0.2!4001! ", Ok("10.0.0.2:4001")),
            (b" ~1~10.0.0.2~65535~", Ok("10.0.0.2:65535")),
            (b" a1a10.0.0.2a00080a", Ok("10.0.0.2:80")),
            (b" |2|2001:db8::2|4001|", Err(AddressError::OtherFamily)),
            (b" |3|10.0.0.2|4001|", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2|65536|", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2|065535|", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2||", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2|4001", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2|4001|x", Err(AddressError::Malformed)),
            (b" |1|10.0.0.2.1|4001|", Err(AddressError::Malformed)),
            (b" |1|10.0.0.256|4001|", Err(AddressError::Malformed)),
            (b" 31310.0.0.2340013", Err(AddressError::Malformed)),
            (b" \x801\x8010.0.0.2\x804001\x80", Err(AddressError::Malformed)),
            (b"", Err(AddressError::Malformed)),
        ];
        for (argument, want) in rows {
            let read = read_eprt(argument, 4).map(|read| read.endpoint);
            assert_eq!(read, want.map(at), "{}", argument.escape_ascii());
        }
        assert_eq!(read_eprt(b" |1|10.0.0.2|4001|", 4).unwrap().range, 8..21);
    }

    #[test]
    fn finds_the_numbers_of_a_227_wherever_they_stand() {
        let rows: [(&[u8], Option<&str>); 10] = [
            (b"227 Entering Passive Mode (10,0,0,9,4,5).", Some("10,0,0,9,4,5")),
            (b"227 Entering Passive Mode. 10,0,0,9,4,5", Some("10,0,0,9,4,5")),
            (b"227 =10,0,0,9,4,5", Some("10,0,0,9,4,5")),
            (b"227 Mode 10,0,0,9,4,5, go", Some("10,0,0,9,4,5")),
            (b"227 In 3, 2, 1: (10,0,0,9,4,5)", Some("10,0,0,9,4,5")),
            (b"227 Logout.", None),
            (b"227 Passive (10,0,0,9,256,0)", None),
            (b"227 Passive (1,10,0,0,9,4,5)", None),
            (b"227 ,,,,,", None),
            (b"227", None),
        ];
        for (line, want) in rows {
            let found = find_decimals(line, 4).map(|found| line[found.range].to_vec());
            assert_eq!(found, want.map(|text| text.as_bytes().to_vec()), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn finds_the_port_of_a_229() {
        let rows: [(&[u8], Option<&str>); 9] = [
            (b"229 Entering Extended Passive Mode (|||6446|)", Some("6446")),
            (b"229 Extended (EPSV) mode (!!!6446!).", Some("6446")),
            (b"229 (((((6446()", Some("6446")),
            (b"229 (|||65536|)", None),
            (b"229 (|||066446|)", None),
            (b"229 (|1|10.0.0.9|6446|)", None),
            (b"229 (|||6446)", None),
            (b"229 |||6446|", None),
            (b"229 (", None),
        ];
        for (line, want) in rows {
            let found = find_extended(line, 4).map(|found| line[found.range].to_vec());
            assert_eq!(found, want.map(|text| text.as_bytes().to_vec()), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(address: u32, l4_port: u16, delimiter in 33u8..127) {
            prop_assume!(is_delimiter(delimiter));
            let endpoint = SocketAddrV4::new(address.into(), l4_port);
            let written = Written::new(endpoint, Form::Decimals);
            prop_assert_eq!(read_port(written.as_bytes(), 0).unwrap().endpoint, endpoint);

            let written = Written::new(endpoint, Form::Delimited(delimiter));
            let mut argument = vec![delimiter, b'1', delimiter];
            argument.extend_from_slice(written.as_bytes());
            argument.push(delimiter);
            let read = read_eprt(&argument, 0).unwrap();
            prop_assert_eq!((read.endpoint, read.range), (endpoint, 3..argument.len() - 1));

            let written = Written::new(endpoint, Form::Port);
            prop_assert_eq!(written.as_bytes().to_vec(), l4_port.to_string().into_bytes());
        }
    }
}
