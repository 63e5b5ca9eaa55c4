//! Sequence numbers on the wire, and positions in a stream.
//!
//! On the wire a number has 32 bits and wraps; inside the stage a position counts from the SYN (0; the
//! first byte is 1) in 64 bits and never does. [`SeqNum`] meets a position only in
//! `near` and `seq` of the two position types. The two spaces of one direction are
//! two types: adding one to the other does not compile.

use std::ops::{Add, Sub};

/// A sequence or acknowledgement number as it stands in a TCP header (RFC 9293 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// The number `n` later, modulo 2^32.
    #[must_use]
    pub const fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// How far this number lies behind `earlier`; negative when it lies before it.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// What must be added to a sequence number of the sender to get the receiver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeqDelta(pub i32);

impl SeqDelta {
    /// The receiver's number for the sender's `seq`.
    #[must_use]
    pub const fn to_target(self, seq: SeqNum) -> SeqNum {
        SeqNum(seq.0.wrapping_add_signed(self.0))
    }

    /// The sender's number for the receiver's `seq`: for acknowledgements and SACK edges.
    #[must_use]
    pub const fn to_source(self, seq: SeqNum) -> SeqNum {
        SeqNum(seq.0.wrapping_sub(self.0.cast_unsigned()))
    }
}

macro_rules! position {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub(super) struct $name(pub(super) i64);

        impl $name {
            /// The position of `seq` that is nearest to `near`, for a stream whose SYN is `isn`.
            pub(super) fn near(seq: SeqNum, isn: SeqNum, near: Self) -> Self {
                near + i64::from(seq.distance_from(near.seq(isn)))
            }

            /// The number on the wire, for a stream whose SYN is `isn`.
            pub(super) fn seq(self, isn: SeqNum) -> SeqNum {
                // Only the low 32 bits go on the wire.
                isn.plus(self.0 as u32)
            }
        }

        impl Add<i64> for $name {
            type Output = Self;
            fn add(self, n: i64) -> Self {
                Self(self.0.saturating_add(n))
            }
        }

        impl Sub<i64> for $name {
            type Output = Self;
            fn sub(self, n: i64) -> Self {
                Self(self.0.saturating_sub(n))
            }
        }

        impl Sub for $name {
            type Output = i64;
            fn sub(self, other: Self) -> i64 {
                self.0.saturating_sub(other.0)
            }
        }
    };
}

position! {
    /// A position as the sender counts.
    Source
}

position! {
    /// A position as the receiver counts.
    Target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_through_the_wrap_and_back() {
        let isn = SeqNum(u32::MAX - 2);
        for at in [0_i64, 1, 2, 3, 4, 100, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 33) + 7] {
            let position = Source(at);
            for near in [position, position + 1000, position - 1000] {
                assert_eq!(Source::near(position.seq(isn), isn, near), position);
            }
        }
        assert_eq!(Source(3).seq(isn), SeqNum(0));
    }

    #[test]
    fn delta_maps_there_and_back_across_the_wrap() {
        let delta = SeqDelta(7);
        assert_eq!(delta.to_target(SeqNum(u32::MAX)), SeqNum(6));
        assert_eq!(delta.to_source(SeqNum(6)), SeqNum(u32::MAX));
        assert_eq!(SeqDelta(-7).to_target(SeqNum(6)), SeqNum(u32::MAX));
    }
}
