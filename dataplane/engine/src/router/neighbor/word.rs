//! An entry's atomic word, and the reference that must agree with it.
//!
//! ```text
//! word       MAC address (48 bits) | generation (13) | state (3; 0: free)
//! reference  slot (16 bits) | generation (16, of which 13 are used)
//! ```

/// A neighbour as sessions remember it: a slot and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborRef(u32);

impl NeighborRef {
    /// As a number, for a record.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`Self::to_bits`].
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn new(index: usize, generation: u64) -> Self {
        Self((index as u32) << 16 | generation as u32)
    }

    pub(super) fn index(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub(super) fn generation(self) -> u64 {
        u64::from(self.0 & 0xFFFF)
    }
}

/// State of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborState {
    /// Asked by broadcast, no answer yet.
    Incomplete,
    /// Proved within its lifetime.
    Reachable,
    /// Still believed, being asked by unicast.
    Probe,
    /// Did not answer.
    Failed,
}

/// MAC address, generation and state in one word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) fn new(mac: [u8; 6], generation: u64, state: NeighborState) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let state = match state {
            NeighborState::Incomplete => 1,
            NeighborState::Reachable => 2,
            NeighborState::Probe => 3,
            NeighborState::Failed => 4,
        };
        Self(mac << 16 | (generation & GENERATIONS) << 3 | state)
    }

    #[inline]
    pub(super) fn mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> 3 & GENERATIONS
    }

    /// `None`: the entry is free.
    #[inline]
    pub(super) fn state(self) -> Option<NeighborState> {
        match self.0 & 7 {
            1 => Some(NeighborState::Incomplete),
            2 => Some(NeighborState::Reachable),
            3 => Some(NeighborState::Probe),
            4 => Some(NeighborState::Failed),
            _ => None,
        }
    }

    /// Whether it is of `generation`, and `Reachable` or `Probe`, whose numbers differ in the lowest bit.
    #[inline(always)]
    pub(super) fn is_believed(self, generation: u64) -> bool {
        (self.0 ^ (generation << 3 | 2)) & 0xFFFE == 0
    }

    /// Free, with the next generation.
    pub(super) fn freed(self) -> Self {
        Self(((self.generation() + 1) & GENERATIONS) << 3)
    }

    /// `state` with this word's generation.
    pub(super) fn with(self, state: Self) -> Self {
        Self(state.0 & !(GENERATIONS << 3) | self.generation() << 3)
    }
}

const GENERATIONS: u64 = 0x1FFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reachable_and_probed_words_of_the_generation_are_believed() {
        use NeighborState::{Failed, Incomplete, Probe, Reachable};
        for generation in [0, 1, 2, 0x1000, GENERATIONS] {
            for state in [Incomplete, Reachable, Probe, Failed] {
                let word = Word::new([0xFF; 6], generation, state);
                for asked in [0, 1, 2, 0x1000, GENERATIONS] {
                    let expected = asked == generation && matches!(state, Reachable | Probe);
                    assert_eq!(word.is_believed(asked), expected, "{state:?} {generation} {asked}");
                }
                assert!(!word.freed().is_believed(generation + 1));
            }
        }
    }
}
