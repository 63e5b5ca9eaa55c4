//! Bounded reading and writing of the small texts that SIP and SDP are made of.

use std::hash::{DefaultHasher, Hasher};
use std::net::Ipv4Addr;

use memchr::{memchr, memchr2, memchr3};

/// A part of a message, as offsets from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The bytes it names.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// As offsets from a byte that is `by` bytes before.
    pub(super) const fn moved(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }

    /// Without white space at either end. Line ends are white space: a folded value contains them.
    pub(super) fn trimmed(self, bytes: &[u8]) -> Self {
        let (mut text, mut found) = (self.of(bytes), self);
        while let [first, rest @ ..] = text
            && is_space(*first)
        {
            (text, found.start) = (rest, found.start + 1);
        }
        while let [rest @ .., last] = text
            && is_space(*last)
        {
            (text, found.end) = (rest, found.end - 1);
        }
        found
    }

    /// Cut at the first `byte`: what is before it, and what is behind it.
    #[inline]
    pub(super) fn split(self, bytes: &[u8], byte: u8) -> Option<(Self, Self)> {
        let at = self.start + find(byte, self.of(bytes))?;
        Some((Self::new(self.start, at), Self::new(at + 1, self.end)))
    }

    /// The first of its words (runs without white space), and what is behind it.
    pub(super) fn word(self, bytes: &[u8]) -> (Self, Self) {
        let text = self.of(bytes);
        let blanks = text.iter().take_while(|byte| is_space(**byte)).count();
        let (_, text) = text.split_at(blanks);
        let length = text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len());
        let start = self.start + blanks;
        (Self::new(start, start + length), Self::new(start + length, self.end))
    }
}

/// Where the first `byte` is. Most texts here are shorter than what `memchr` takes to begin.
#[inline]
pub(super) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    match text.split_at_checked(NEAR) {
        None => text.iter().position(|other| *other == byte),
        Some((near, far)) => {
            let at = near.iter().position(|other| *other == byte);
            at.or_else(|| memchr(byte, far).map(|at| NEAR + at))
        }
    }
}

/// Where the first CR, LF or NUL is. Most lines are over before `memchr3` has begun: these are looked at in words of eight
/// bytes.
#[inline]
pub(super) fn find_end(text: &[u8]) -> Option<usize> {
    let (near, far) = text.split_at_checked(NEAR_END).unwrap_or((text, b""));
    let (words, rest) = near.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let bytes = u64::from_le_bytes(*word);
        // The highest bit of bytes up to CR. Behind the first of them others may have it, too.
        let mut low = bytes.wrapping_sub(EACH * (CR + 1)) & !bytes & (EACH << 7);
        while low != 0 {
            let at = low.trailing_zeros() / 8;
            if is_end((bytes >> (at * 8)) as u8) {
                return Some(index * 8 + at as usize);
            }
            low &= low - 1;
        }
    }
    let in_rest = rest.iter().position(|byte| is_end(*byte)).map(|at| words.len() * 8 + at);
    in_rest.or_else(|| memchr3(b'\r', b'\n', 0, far).map(|at| NEAR_END + at))
}

/// Where the first of two bytes is, looked for as [`find_end`] does.
#[inline]
pub(super) fn find_either(one: u8, other: u8, text: &[u8]) -> Option<usize> {
    let (near, far) = text.split_at_checked(NEAR_EITHER).unwrap_or((text, b""));
    let (words, rest) = near.as_chunks::<8>();
    // The highest bit of bytes that are 0. Behind the first of them others may have it, too.
    let zeros = |word: u64| word.wrapping_sub(EACH) & !word & (EACH << 7);
    for (index, word) in words.iter().enumerate() {
        let bytes = u64::from_le_bytes(*word);
        let found = zeros(bytes ^ (EACH * u64::from(one))) | zeros(bytes ^ (EACH * u64::from(other)));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let in_rest = rest.iter().position(|byte| *byte == one || *byte == other).map(|at| words.len() * 8 + at);
    in_rest.or_else(|| memchr2(one, other, far).map(|at| NEAR_EITHER + at))
}

#[inline]
const fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// White space of SIP, RFC 3261 section 25.1 (LWS).
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether it is this word of small letters and dashes, in letters of any size. A CR would pass for a dash: not in a
/// line that has been read.
#[inline]
pub(super) fn is_word(text: &[u8], small: &[u8]) -> bool {
    if text.len() != small.len() {
        return false;
    }
    if let (Some((head, behind)), Some((small_head, small_behind))) =
        (text.split_first_chunk::<8>(), small.split_first_chunk::<8>())
    {
        let is_head = u64::from_le_bytes(*head) | (EACH << 5) == u64::from_le_bytes(*small_head);
        return is_head && behind.iter().zip(small_behind).all(|(byte, small)| byte | 0x20 == *small);
    }
    text.iter().zip(small).all(|(byte, small)| byte | 0x20 == *small)
}

/// A character of a token, RFC 3261 section 25.1.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Which bytes are.
static TOKEN: [bool; 256] = {
    let marks = b"-.!%*_+`'~";
    let mut table = [false; 256];
    let mut rest: &mut [bool] = &mut table;
    let mut byte = 0u8;
    while let Some((is, behind)) = rest.split_first_mut() {
        *is = byte.is_ascii_alphanumeric();
        let mut left: &[u8] = marks;
        while let Some((mark, others)) = left.split_first() {
            *is |= *mark == byte;
            left = others;
        }
        byte = byte.wrapping_add(1);
        rest = behind;
    }
    table
};

/// A decimal of 1 to `most_digits` digits (at most 9) and at most `max`.
pub(super) fn number(digits: &[u8], most_digits: usize, max: u32) -> Option<u32> {
    if digits.is_empty() || digits.len() > most_digits.min(9) {
        return None;
    }
    let mut value = 0u32;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nine digits fit.
        value = value * 10 + u32::from(digit);
    }
    (value <= max).then_some(value)
}

/// A port in 1 to 5 digits.
pub(super) fn l4_port(digits: &[u8]) -> Option<u16> {
    number(digits, 5, u32::from(u16::MAX)).and_then(|value| u16::try_from(value).ok())
}

/// Four decimals with dots. A leading zero is no IPv4 address: readers differ on whether it is octal.
pub(super) fn address(text: &[u8]) -> Option<Ipv4Addr> {
    if text.len() > LONGEST_ADDRESS {
        return None;
    }
    let (mut address, mut rest) = (0u32, text);
    for place in 0..4 {
        if place > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let [first @ b'0'..=b'9', behind @ ..] = rest else { return None };
        let mut octet = u64::from(first - b'0');
        rest = behind;
        while let [byte @ b'0'..=b'9', behind @ ..] = rest {
            // No zero leads.
            if octet == 0 {
                return None;
            }
            octet = octet * 10 + u64::from(byte - b'0');
            rest = behind;
        }
        address = (address << 8) | u32::from(u8::try_from(octet).ok()?);
    }
    rest.is_empty().then(|| Ipv4Addr::from(address))
}

/// Names a Call-ID or a user, never 0.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().max(1)
}

/// As [`hash`], of a Call-ID by what is before its `@` and the address behind it.
pub(super) fn hash_hosted(local: &[u8], address: Ipv4Addr) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(local);
    hasher.write_u8(b'@');
    hasher.write_u32(address.into());
    hasher.finish().max(1)
}

/// Names a tag, never 0.
pub(super) fn short_hash(bytes: &[u8]) -> u32 {
    let long = hash(bytes);
    (u32::try_from(long & 0xffff_ffff).unwrap_or(1) ^ u32::try_from(long >> 32).unwrap_or(1)).max(1)
}

/// How many digits it is written with.
pub(super) const fn digits(value: u32) -> usize {
    match value {
        0..10 => 1,
        10..100 => 2,
        100..1_000 => 3,
        1_000..10_000 => 4,
        10_000..100_000 => 5,
        100_000..1_000_000 => 6,
        1_000_000..10_000_000 => 7,
        10_000_000..100_000_000 => 8,
        100_000_000..1_000_000_000 => 9,
        1_000_000_000.. => 10,
    }
}

/// A short text being written, at most [`LONGEST`] bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Written {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn push_byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    pub(super) fn push_number(&mut self, value: u32) {
        let digits = digits(value);
        let mut rest = value;
        if let Some(room) = self.bytes.get_mut(self.length..self.length + digits) {
            for slot in room.iter_mut().rev() {
                *slot = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            self.length += digits;
        }
    }

    pub(super) fn push_address(&mut self, address: Ipv4Addr) {
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                self.push_byte(b'.');
            }
            if octet >= 100 {
                self.push_byte(b'0' + octet / 100);
            }
            if octet >= 10 {
                self.push_byte(b'0' + octet / 10 % 10);
            }
            self.push_byte(b'0' + octet % 10);
        }
    }
}

/// `255.255.255.255`; and so few digits fit 64 bits.
const LONGEST_ADDRESS: usize = 15;
/// Bytes that are looked at one by one.
const NEAR: usize = 16;
/// Bytes that are looked at in words: of a line, and of a part of one.
const NEAR_END: usize = 64;
const NEAR_EITHER: usize = 32;
const CR: u64 = b'\r' as u64;
/// One in each byte of a word.
const EACH: u64 = 0x0101_0101_0101_0101;
/// A hidden host; `255.255.255.255:65535` is shorter.
const LONGEST: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_capped_in_digits_and_value() {
        assert_eq!(number(b"0", 9, u32::MAX), Some(0));
        assert_eq!(number(b"000000032", 9, u32::MAX), Some(32));
        assert_eq!(number(b"4294967328", 20, u32::MAX), None, "2^32 + 32");
        assert_eq!(number(b"", 9, u32::MAX), None);
        assert_eq!(number(b"+1", 9, u32::MAX), None);
        assert_eq!(l4_port(b"65535"), Some(65535));
        assert_eq!(l4_port(b"65536"), None);
        assert_eq!(l4_port(b"05060"), Some(5060));
    }

    #[test]
    fn addresses_have_four_decimals_and_one_reading() {
        assert_eq!(address(b"10.0.0.2"), Some([10, 0, 0, 2].into()));
        assert_eq!(address(b"255.0.10.100"), Some([255, 0, 10, 100].into()));
        let wrong = [
            "",
            "10.0.0",
            "10.0.0.2.1",
            "10.0.0.256",
            "256.0.0.1",
            "10.0.0.02",
            "10.00.0.2",
            "10.0.0.",
            ".10.0.0",
            "10..0.2",
            "10.0.0.1000",
            " 10.0.0.2",
            "10.0.0.2 ",
            "10.0.0.x",
        ];
        for wrong in wrong {
            assert_eq!(address(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_word_is_its_letters_in_any_size_and_nothing_else() {
        assert!(is_word(b"CALL-ID", b"call-id") && is_word(b"Call-Id", b"call-id"));
        for first in (0..=u8::MAX).filter(|byte| !b"cC".contains(byte)) {
            assert!(!is_word(&[first, b'a'], b"ca"), "{first}");
        }
        for dash in (0..=u8::MAX).filter(|byte| !b"-\r".contains(byte)) {
            assert!(!is_word(&[b'a', dash], b"a-"), "{dash}");
        }
        assert!(!is_word(b"ca", b"c") && !is_word(b"", b"c"));
        let (long, small) = (b"Content-Length", b"content-length");
        assert!(is_word(long, small));
        for at in 0..long.len() {
            let mut other = *long;
            other[at] ^= 1;
            assert!(!is_word(&other, small), "{at}");
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        for length in 0..3 * NEAR {
            let mut text = vec![b'x'; length];
            assert_eq!(find(b';', &text), None);
            for at in (0..length).rev() {
                text[at] = b';';
                assert_eq!(find(b';', &text), Some(at), "of {length}");
            }
        }
    }

    #[test]
    fn the_end_of_a_line_is_found_wherever_it_is() {
        for filler in [b'x', b'\t', 0x0b, 0x0e, 0x7f, 0x80, 0x8d, 0xff, 1] {
            for length in 0..2 * NEAR_END {
                let mut text = vec![filler; length];
                assert_eq!(find_end(&text), None, "{filler}");
                for at in (0..length).rev() {
                    text[at] = [b'\r', b'\n', 0][at % 3];
                    assert_eq!(find_end(&text), Some(at), "{filler}, of {length}");
                }
            }
        }
    }

    #[test]
    fn the_first_of_two_bytes_is_found_wherever_it_is() {
        for filler in [b'x', b':', b'<', 0, 0x80, 0xbb, 0xff] {
            for length in 0..2 * NEAR_EITHER {
                let mut text = vec![filler; length];
                assert_eq!(find_either(b';', b'"', &text), None, "{filler}");
                for at in (0..length).rev() {
                    text[at] = [b';', b'"'][at % 2];
                    assert_eq!(find_either(b';', b'"', &text), Some(at), "{filler}, of {length}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for value in [0, 9, 10, 5060, 65535, 999_999_999] {
            let mut written = Written::new();
            written.push_number(value);
            assert_eq!(number(written.as_bytes(), 9, u32::MAX), Some(value));
            assert_eq!(written.as_bytes(), value.to_string().as_bytes());
        }
        let mut written = Written::new();
        written.push_address([255, 255, 255, 255].into());
        written.push_byte(b':');
        written.push_number(65535);
        assert_eq!(written.as_bytes(), b"255.255.255.255:65535");
    }
}
