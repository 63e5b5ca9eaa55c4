//! The ports of one address and transport, a bit for each.

use std::ops::RangeInclusive;

use crate::table::sync::{AtomicU64, Ordering, Writers};

/// Which ports of an address will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The lowest one.
    pub low: u16,
    /// The highest one.
    pub high: u16,
    /// Only even ones, only odd ones, or all.
    pub parity: Parity,
}

impl Window {
    /// The same with neighbours of both parities.
    pub(super) const fn of_any_parity(self) -> Self {
        Self { parity: Parity::Any, ..self }
    }
}

/// Which of two neighbouring ports will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// Both.
    Any,
    /// The even one.
    Even,
    /// The odd one.
    Odd,
}

impl Parity {
    /// The parity of `l4_port`.
    #[must_use]
    pub const fn of(l4_port: u16) -> Self {
        if l4_port.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }

    /// The ports that will do, in a word of 64 ports.
    const fn mask(self) -> u64 {
        match self {
            Self::Any => u64::MAX,
            Self::Even => EVEN,
            Self::Odd => !EVEN,
        }
    }
}

/// One bit per port: 1,024 words.
#[derive(Debug)]
pub(super) struct Bitmap {
    pub(super) words: Box<[AtomicU64]>,
    pub(super) writers: Writers,
}

impl Bitmap {
    pub(super) fn new(writers: Writers) -> Self {
        Self { words: (0..PORTS / 64).map(|_| AtomicU64::new(0)).collect(), writers }
    }

    /// Takes the first free port at or after a random one, going round within the window.
    #[inline]
    pub(super) fn take_within(&self, window: Window, random: u64) -> Option<u16> {
        let Window { low, high, parity } = window;
        if low / 64 == high / 64 && low <= high {
            let start = random_port(low, high, random);
            return self.take_in_word(low..=high, start, parity);
        }
        around(window, random, |low, high| self.take_first_free(low, high, parity, 1))
    }

    /// The same where all of the window lies in one word, as most blocks do: both ways round in one look.
    #[inline]
    fn take_in_word(&self, window: RangeInclusive<u16>, start: u16, parity: Parity) -> Option<u16> {
        let (low, high) = window.into_inner();
        let word = self.words.get(usize::from(low) / 64)?;
        let wanted = (u64::MAX << (low % 64)) & (u64::MAX >> (63 - high % 64)) & parity.mask();
        loop {
            let free = !word.load(Ordering::Relaxed) & wanted;
            let behind = free & (u64::MAX << (start % 64));
            let bit = if behind == 0 { free } else { behind }.trailing_zeros() as u16;
            // What another worker takes meanwhile is not free at the next look.
            if free == 0 || self.try_set(word, 1 << bit) {
                return (free != 0).then_some(low / 64 * 64 + bit);
            }
        }
    }

    pub(super) fn take_pair_within(&self, window: Window, random: u64) -> Option<u16> {
        around(window, random, |low, high| self.take_first_free(low, high, window.parity, 0b11))
    }

    /// Takes the first port within `low..=high` at which the bits of `pattern` are all free, and with it
    /// the ports of those bits. A pattern of two is looked for at even ports, so it stays in its word.
    fn take_first_free(&self, low: u16, high: u16, parity: Parity, pattern: u64) -> Option<u16> {
        let (first, last) = (usize::from(low) / 64, usize::from(high) / 64);
        let words = self.words.get(first..=last)?;
        for (word, index) in words.iter().zip(first..) {
            let from = if index == first { u64::MAX << (low % 64) } else { u64::MAX };
            let to = if index == last { u64::MAX >> (63 - high % 64) } else { u64::MAX };
            let mut candidates = !word.load(Ordering::Relaxed) & from & to & parity.mask();
            while candidates != 0 {
                let bit = candidates.trailing_zeros();
                candidates &= candidates - 1;
                let mask = pattern << bit;
                if mask & !(from & to) == 0 && self.try_set(word, mask) {
                    return u16::try_from(index * 64 + bit as usize).ok();
                }
            }
        }
        None
    }

    pub(super) fn take(&self, l4_port: u16) -> bool {
        let word = self.words.get(usize::from(l4_port) / 64);
        word.is_some_and(|word| self.try_set(word, 1_u64 << (l4_port % 64)))
    }

    pub(super) fn release(&self, l4_port: u16) {
        if let Some(word) = self.words.get(usize::from(l4_port) / 64) {
            let bit = 1_u64 << (l4_port % 64);
            self.writers.update(word, Ordering::Relaxed, |taken| Some(taken & !bit));
        }
    }

    pub(super) fn taken_within(&self, low: u16, high: u16) -> u32 {
        let (first, last) = (usize::from(low) / 64, usize::from(high) / 64);
        let words = self.words.iter().enumerate().take(last + 1).skip(first);
        let masked = words.map(|(index, word)| {
            let from = if index == first { u64::MAX << (low % 64) } else { u64::MAX };
            let to = if index == last { u64::MAX >> (63 - high % 64) } else { u64::MAX };
            (word.load(Ordering::Relaxed) & from & to).count_ones()
        });
        masked.sum()
    }

    pub(super) fn taken(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Sets all bits of `mask`, unless one is set. Relaxed: owning the bits orders nothing else; the mapping is published
    /// by its table.
    fn try_set(&self, word: &AtomicU64, mask: u64) -> bool {
        self.writers.update(word, Ordering::Relaxed, |taken| (taken & mask == 0).then_some(taken | mask))
    }
}

/// Searches the window from a random place to its end, then from its beginning.
#[inline]
fn around(window: Window, random: u64, search: impl Fn(u16, u16) -> Option<u16>) -> Option<u16> {
    let Window { low, high, .. } = window;
    high.checked_sub(low)?;
    let start = random_port(low, high, random);
    // No pair may lie across the start.
    let start = if window.parity == Parity::Even { (start & !1).max(low) } else { start };
    let before = || start.checked_sub(1).filter(|last| *last >= low);
    search(start, high).or_else(|| before().and_then(|last| search(low, last)))
}

/// One of `low..=high`: a part of the range as large as that of a `random` number among all, which takes no division.
#[inline]
fn random_port(low: u16, high: u16, random: u64) -> u16 {
    let count = u64::from(high - low) + 1;
    low + ((u64::from(random as u32) * count) >> 32) as u16
}

const PORTS: usize = 65_536;
const EVEN: u64 = 0x5555_5555_5555_5555;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn window(low: u16, high: u16) -> Window {
        Window { low, high, parity: Parity::Any }
    }

    #[test]
    fn every_port_of_the_range_is_handed_out_once_then_none() {
        let bitmap = Bitmap::new(Writers::Many);
        let mut seen = HashSet::new();
        for round in 0..(2_000 - 1_030 + 1) {
            let l4_port =
                bitmap.take_within(window(1_030, 2_000), round * 7_919).expect("free ports are left");
            assert!((1_030..=2_000).contains(&l4_port) && seen.insert(l4_port));
        }
        assert_eq!(bitmap.take_within(window(1_030, 2_000), 3), None);
        bitmap.release(1_500);
        assert_eq!(bitmap.take_within(window(1_030, 2_000), 900), Some(1_500));
    }

    #[test]
    fn u_05_parity_is_kept_and_pairs_are_even_and_adjacent() {
        let bitmap = Bitmap::new(Writers::Many);
        let even = Window { parity: Parity::Even, ..window(1_025, 1_100) };
        let mut taken: Vec<u16> = (0..50).filter_map(|n| bitmap.take_within(even, n * 31)).collect();
        taken.sort_unstable();
        assert_eq!(taken, (1_026..=1_100).step_by(2).collect::<Vec<_>>());
        bitmap.release(1_050);
        bitmap.release(1_080);
        assert!(bitmap.take(1_081));
        assert_eq!(bitmap.take_pair_within(even, 9), Some(1_050), "the other one has no partner");
        assert!(!bitmap.take(1_051));
        assert_eq!(bitmap.take_pair_within(even, 9), None);
    }

    #[test]
    fn the_ends_of_the_port_space_are_reachable() {
        let bitmap = Bitmap::new(Writers::Many);
        assert_eq!(bitmap.take_within(window(65_535, 65_535), 0), Some(65_535));
        assert_eq!(bitmap.take_within(window(0, 0), 5), Some(0));
        assert!(!bitmap.take(65_535));
        assert_eq!(bitmap.taken(), 2);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_was_free_and_inside_the_window(
            low in 1_024_u16..1_200, length in 0_u16..200, draws in proptest::collection::vec(any::<(u64, bool)>(), 1..150),
        ) {
            let (bitmap, high) = (Bitmap::new(Writers::Many), low + length);
            let mut model = HashSet::new();
            for (random, wants_pair) in draws {
                let some = Window { parity: if wants_pair { Parity::Even } else { Parity::Any }, ..window(low, high) };
                let taken = if wants_pair {
                    bitmap.take_pair_within(some, random).map(|port| vec![port, port + 1])
                } else {
                    bitmap.take_within(some, random).map(|port| vec![port])
                };
                match taken {
                    Some(ports) => for port in ports {
                        prop_assert!((low..=high).contains(&port) && model.insert(port));
                    },
                    None if wants_pair => {
                        let is_free = |port: u16| (low..=high).contains(&port) && !model.contains(&port);
                        prop_assert!(!(low..=high).any(|port| port % 2 == 0 && is_free(port) && is_free(port + 1)));
                    }
                    None => prop_assert_eq!(model.len(), usize::from(length) + 1),
                }
            }
            prop_assert_eq!(bitmap.taken(), model.len() as u64);
        }
    }
}
