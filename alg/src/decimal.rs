//! Decimal numbers and dotted addresses, as text protocols write them.
//!
//! Reading is strict: a stated number of digits at most, no sign, no blank, no value out of range;
//! nothing is guessed. Writing is plain, without leading zeros, into memory of fixed size.

use std::net::Ipv4Addr;

/// A decimal of 1 to `most_digits` digits and at most `max`.
pub(crate) fn number<T: TryFrom<u32> + PartialOrd>(digits: &[u8], most_digits: usize, max: T) -> Option<T> {
    if digits.is_empty() || digits.len() > most_digits {
        return None;
    }
    let mut value = 0u32;
    for &digit in digits {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    T::try_from(value).ok().filter(|value| *value <= max)
}

/// An address of four decimals between dots.
pub(crate) fn dotted(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut fields = text.split(|&byte| byte == b'.');
    for octet in &mut octets {
        *octet = number(fields.next()?, 3, u8::MAX)?;
    }
    fields.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Text being written, at most `ROOM` bytes; what does not fit leaves it unusable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<const ROOM: usize> {
    bytes: [u8; ROOM],
    length: usize,
    overflowed: bool,
}

impl<const ROOM: usize> Text<ROOM> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; ROOM], length: 0, overflowed: false }
    }

    /// Adds `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.overflowed = true,
        }
    }

    /// Adds a decimal.
    pub(crate) fn push_decimal(&mut self, value: u32) {
        let mut unit = 1_000_000_000;
        while unit > 0 {
            if value >= unit || unit == 1 {
                self.push(&[b'0' + u8::try_from(value / unit % 10).unwrap_or(0)]);
            }
            unit /= 10;
        }
    }

    /// Adds a dotted address.
    pub(crate) fn push_address(&mut self, address: Ipv4Addr) {
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                self.push(b".");
            }
            self.push_decimal(octet.into());
        }
    }

    /// What was written. `None`: there was not room enough.
    pub(crate) fn finished(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length).filter(|_| !self.overflowed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_beyond_its_room_is_unusable() {
        let mut text = Text::<4>::new();
        text.push_decimal(1234);
        assert_eq!(text.finished(), Some(&b"1234"[..]));
        text.push(b"");
        assert_eq!(text.finished(), Some(&b"1234"[..]));
        text.push(b"5");
        assert_eq!(text.finished(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value: u32, address: u32) {
            let mut text = Text::<10>::new();
            text.push_decimal(value);
            let want = value.to_string();
            prop_assert_eq!(text.finished(), Some(want.as_bytes()));
            prop_assert_eq!(number(text.finished().unwrap(), 10, u32::MAX), Some(value));

            let mut text = Text::<15>::new();
            text.push_address(address.into());
            let want = Ipv4Addr::from(address).to_string();
            prop_assert_eq!(text.finished(), Some(want.as_bytes()));
            prop_assert_eq!(dotted(text.finished().unwrap()), Some(address.into()));
        }
    }
}
