//! Hiding who wrote a Call-ID: many phones write their internal address behind its `@`.
//!
//! Where the operator wants it, that address becomes `<16 hexadecimal digits>.invalid` on its way out, and the address
//! again where the name comes back to its owner, whichever flow or thread it comes by: the digits are the address itself,
//! permuted under the operator's words, and a tag that tells such a name from any other. So nothing is kept, a restart
//! changes nothing, and what another phone is shown stays a name. Replaces, Join, Target-Dialog, In-Reply-To, and Replaces
//! inside Refer-To go in lock-step (RFC 3891, RFC 3911, RFC 4538).
//!
//! It hides an address from who reads messages, no more: who knows the words can tell.

use std::hash::{DefaultHasher, Hasher};
use std::net::Ipv4Addr;

/// The operator's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallIdKey(u64);

impl CallIdKey {
    /// From the operator's words.
    #[must_use]
    pub fn new(words: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(words.as_bytes());
        Self(hasher.finish())
    }

    /// The name of an address.
    pub(super) fn hide(self, address: Ipv4Addr) -> u64 {
        let address = u32::from(address);
        let (mut high, mut low) = (half(u64::from(address) >> 16), half(address.into()));
        for round in 0..ROUNDS {
            (high, low) = (low, high ^ half(self.mixed(round, low.into())));
        }
        let permuted = (u64::from(high) << 16) | u64::from(low);
        (permuted << 32) | self.tag(address)
    }

    /// The address of a name; `None`: it is none of ours.
    pub(super) fn reveal(self, name: u64) -> Option<Ipv4Addr> {
        let (mut high, mut low) = (half(name >> 48), half(name >> 32));
        for round in (0..ROUNDS).rev() {
            (high, low) = (low ^ half(self.mixed(round, high.into())), high);
        }
        let address = (u32::from(high) << 16) | u32::from(low);
        (self.tag(address) == name & u64::from(u32::MAX)).then(|| address.into())
    }

    fn tag(self, address: u32) -> u64 {
        self.mixed(ROUNDS, address) & u64::from(u32::MAX)
    }

    fn mixed(self, round: u8, value: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher.write_u8(round);
        hasher.write_u32(value);
        hasher.finish()
    }
}

/// The number that a hidden host is written with.
pub(super) fn hidden(host: &[u8]) -> Option<u64> {
    let digits = host.strip_suffix(SUFFIX).filter(|digits| digits.len() == DIGITS)?;
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u64::from(digit))
    })
}

fn half(value: u64) -> u16 {
    (value & 0xffff) as u16
}

/// RFC 2606 section 2: a name of nobody.
pub(super) const SUFFIX: &[u8] = b".invalid";
pub(super) const DIGITS: usize = 16;
/// A permutation of 32 bits by halves (Feistel); the tag is mixed as one round more.
const ROUNDS: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_comes_back_and_nothing_else_is_a_name() {
        let key = CallIdKey::new("some words");
        let mut names = std::collections::HashSet::new();
        for address in (0..200_000u32).map(|n| Ipv4Addr::from(n.wrapping_mul(2_654_435_761))) {
            let name = key.hide(address);
            assert_eq!(key.reveal(name), Some(address));
            assert!(names.insert(name));
            assert_eq!(key.reveal(name ^ 1), None);
            assert_eq!(CallIdKey::new("other words").reveal(name), None);
        }
        assert_ne!(key.hide([10, 0, 0, 2].into()) >> 32, u64::from(u32::from(Ipv4Addr::new(10, 0, 0, 2))));
    }

    #[test]
    fn a_hidden_host_has_sixteen_small_digits() {
        assert_eq!(hidden(b"00000000000000ff.invalid"), Some(255));
        for other in ["00000000000000FF.invalid", "0000000000000ff.invalid", "00000000000000ff", "x.invalid"]
        {
            assert_eq!(hidden(other.as_bytes()), None, "{other}");
        }
    }
}
