//! By how much a session's numbers differ between its ends, once an ALG has edited its streams and reads them no more.
//!
//! Kept in half a word of the slow path's record: a session that was not edited pays nothing for it, neither time nor memory. An
//! edited stream that moved farther than 16 bits stays with its ALG stage.

use algate_alg::Direction;

use crate::stream::seq::SeqDelta;

/// What is added to the sequence numbers of each direction on their way; and taken from acknowledgements of them on their
/// way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shifts {
    original: i16,
    reply: i16,
}

impl Shifts {
    /// Those of the original and of the reply direction; `None`: too far to be kept.
    #[must_use]
    pub fn of([original, reply]: [SeqDelta; 2]) -> Option<Self> {
        Some(Self { original: i16::try_from(original.0).ok()?, reply: i16::try_from(reply.0).ok()? })
    }

    /// What is added to sequence numbers that travel in `direction`.
    #[must_use]
    pub fn of_seq(self, direction: Direction) -> i32 {
        match direction {
            Direction::Original => self.original.into(),
            Direction::Reply => self.reply.into(),
        }
    }

    /// What is added to acknowledgement numbers that travel in `direction`.
    #[must_use]
    pub fn of_ack(self, direction: Direction) -> i32 {
        -self.of_seq(direction.reversed())
    }

    /// As a number, for a record.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        ((self.original as u16 as u32) << 16) | self.reply as u16 as u32
    }

    /// From [`Self::to_bits`].
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self { original: (bits >> 16) as u16 as i16, reply: bits as u16 as i16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_go_into_a_record_and_back_as_far_as_they_fit() {
        for deltas in [[0, 0], [7, -3], [-1, 1], [32_767, -32_768]] {
            let shifts = Shifts::of(deltas.map(SeqDelta)).unwrap();
            assert_eq!(Shifts::from_bits(shifts.to_bits()), shifts);
            assert_eq!((shifts.of_seq(Direction::Original), shifts.of_seq(Direction::Reply)), deltas.into());
            assert_eq!(shifts.of_ack(Direction::Original), -deltas[1]);
        }
        assert_eq!(Shifts::of([SeqDelta(32_768), SeqDelta(0)]), None);
        assert_eq!(Shifts::of([SeqDelta(0), SeqDelta(-32_769)]), None);
    }
}
