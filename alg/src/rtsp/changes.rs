//! What shall be replaced in one message, collected in any order and handed over at once: a message is
//! rewritten as a whole or not at all.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use crate::contract::Edits;
use crate::decimal::Text;

/// Replacements of one message.
#[derive(Debug)]
pub(super) struct Changes {
    items: [Option<(Range<usize>, Text<LONGEST>)>; CAPACITY],
    overflowed: bool,
}

/// `255.255.255.255:65535`
const LONGEST: usize = 21;
/// A description of four tracks with absolute URLs needs ten. The stream layer takes as many with one message.
const CAPACITY: usize = 16;

impl Changes {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { items: [const { None }; CAPACITY], overflowed: false }
    }

    /// Replaces what stands at `at` by a number.
    pub(super) fn put_number(&mut self, at: &Range<usize>, value: u32) {
        let mut text = Text::new();
        text.push_decimal(value);
        self.put(at, text);
    }

    /// Replaces what stands at `at` by an address.
    pub(super) fn put_address(&mut self, at: &Range<usize>, address: Ipv4Addr) {
        let mut text = Text::new();
        text.push_address(address);
        self.put(at, text);
    }

    /// Replaces what stands at `at` by an address and a port.
    pub(super) fn put_endpoint(&mut self, at: &Range<usize>, endpoint: SocketAddrV4) {
        let mut text = Text::new();
        text.push_address(*endpoint.ip());
        text.push(b":");
        text.push_decimal(endpoint.port().into());
        self.put(at, text);
    }

    /// How many bytes longer (or shorter) what lies at or behind `from` becomes.
    pub(super) fn growth_behind(&self, from: usize) -> i64 {
        let growth = |(at, text): &(Range<usize>, Text<LONGEST>)| {
            let length = |bytes: usize| i64::try_from(bytes).unwrap_or(0);
            length(text.finished().unwrap_or_default().len()) - length(at.len())
        };
        self.items.iter().flatten().filter(|(at, _)| at.start >= from).map(growth).sum()
    }

    /// Whether there is nothing to replace.
    pub(super) fn is_empty(&self) -> bool {
        self.items.iter().all(Option::is_none)
    }

    /// Hands everything over in ascending order. `false`: it does not fit, and `edits` has nothing.
    pub(super) fn write(&mut self, edits: &mut Edits) -> bool {
        self.items.sort_unstable_by_key(|item| item.as_ref().map_or(usize::MAX, |(at, _)| at.start));
        let mut fits = !self.overflowed;
        for (at, text) in self.items.iter().flatten() {
            fits = fits && text.finished().is_some_and(|text| edits.replace(at.clone(), text));
        }
        if !fits {
            edits.clear();
        }
        fits
    }

    fn put(&mut self, at: &Range<usize>, text: Text<LONGEST>) {
        match self.items.iter_mut().find(|item| item.is_none()) {
            Some(item) => *item = Some((at.clone(), text)),
            None => self.overflowed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_handed_over_in_order_or_not_at_all() {
        let mut changes = Changes::new();
        assert!(changes.is_empty());
        changes.put_number(&(9..10), 1234);
        changes.put_address(&(2..7), [10, 0, 0, 2].into());
        assert_eq!((changes.growth_behind(0), changes.growth_behind(8)), (6, 3));
        let mut edits = Edits::with_capacity(4, 64);
        assert!(changes.write(&mut edits));
        assert_eq!(edits.iter().collect::<Vec<_>>(), [(2..7, &b"10.0.0.2"[..]), (9..10, b"1234")]);

        let mut overlapping = Changes::new();
        overlapping.put_number(&(1..3), 1);
        overlapping.put_endpoint(&(2..4), "10.0.0.2:1".parse().unwrap());
        assert!(!overlapping.write(&mut edits));
        assert_eq!(edits.iter().count(), 0);

        let mut many = Changes::new();
        for at in 0..=CAPACITY {
            many.put_number(&(at..at + 1), 1);
        }
        assert!(!many.write(&mut Edits::with_capacity(100, 1000)));
    }
}
