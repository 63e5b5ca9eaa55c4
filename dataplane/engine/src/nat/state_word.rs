//! The state word of a session: all that a hit may write, in one atomic word.

use algate_alg::Direction;

use crate::nat::mapping::Hold;
use crate::nat::session::{Facing, NewSession};
use crate::nat::tcp_state::TcpState;
use crate::time::Tick;

/// Last-seen tick (bits 0..32), TCP state (32..40), lifecycle (40..48), flags (48..54), ICMP errors in a second (54..58), that
/// second modulo 64 (58..64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateWord(pub(super) u64);

impl StateWord {
    pub(super) fn first(new: &NewSession, now: Tick) -> Self {
        let mut flags = 0;
        if new.initiator == Facing::External {
            flags |= INBOUND_FLAG;
        }
        if new.alg_owner.is_some() {
            flags |= ALG_FLAG;
        }
        if new.hold == Hold::Loose {
            flags |= LOOSE_FLAG;
        }
        // A hairpin translates both ends; what is not translated stays on the internal side.
        if new.remote_mapping.is_some() || (new.mapping.is_none() && new.initiator == Facing::Internal) {
            flags |= INTERNAL_ONLY_FLAG;
        }
        Self(flags | (LIVE << 40) | ((TcpState::Init as u64) << 32) | u64::from(now.0))
    }

    pub(super) const fn lifecycle(self) -> u64 {
        (self.0 >> 40) & 0xff
    }

    pub(super) const fn tcp(self) -> u8 {
        (self.0 >> 32) as u8
    }

    pub(super) const fn last_seen(self) -> Tick {
        Tick(self.0 as u32)
    }

    pub(super) const fn direction(self, facing: Facing) -> Direction {
        match (facing, self.0 & INBOUND_FLAG != 0) {
            (Facing::Internal, false) | (Facing::External, true) => Direction::Original,
            (Facing::Internal, true) | (Facing::External, false) => Direction::Reply,
        }
    }

    /// Whether both ends are internal hosts, so that packets of either are outbound ones.
    pub(super) const fn is_internal_only(self) -> bool {
        self.0 & INTERNAL_ONLY_FLAG != 0
    }

    pub(super) const fn with(self, tcp: TcpState, last_seen: Tick) -> Self {
        Self((self.0 & !0xff_ffff_ffff) | ((tcp as u64) << 32) | last_seen.0 as u64)
    }

    /// With another time.
    pub(super) const fn seen_at(self, tick: Tick) -> Self {
        Self((self.0 & !0xffff_ffff) | tick.0 as u64)
    }

    pub(super) const fn dying(self) -> Self {
        Self((self.0 & !LIFECYCLE_MASK) | (DYING << 40))
    }

    /// With one more ICMP error in `second`. `None`: there were `limit`, at most 15, in it before, or in one of the same number.
    pub(super) fn with_icmp_error(self, second: u32, limit: u32) -> Option<Self> {
        let second = u64::from(second) << ICMP_SECOND_SHIFT;
        let is_same = self.0 >> ICMP_SECOND_SHIFT == second >> ICMP_SECOND_SHIFT;
        let so_far = if is_same { (self.0 & ICMP_ERRORS) >> ICMP_ERRORS_SHIFT } else { 0 };
        let rest = self.0 & !(ICMP_ERRORS | u64::MAX << ICMP_SECOND_SHIFT);
        (so_far < u64::from(limit)).then_some(Self(rest | second | (so_far + 1) << ICMP_ERRORS_SHIFT))
    }
}

pub(super) const LIFECYCLE_MASK: u64 = 0xff << 40;
pub(super) const LIVE: u64 = 1;
pub(super) const DYING: u64 = 2;
pub(super) const INBOUND_FLAG: u64 = 1 << 48;
pub(super) const ALG_FLAG: u64 = 1 << 49;
pub(super) const INTERNAL_ONLY_FLAG: u64 = 1 << 50;
pub(super) const LOOSE_FLAG: u64 = 1 << 51;
/// Begun while half-open sessions were many.
pub(super) const PRESSED_FLAG: u64 = 1 << 52;
/// Its streams were edited and are read no more: numbers move by a constant.
pub(super) const SHIFT_FLAG: u64 = 1 << 53;

const ICMP_ERRORS_SHIFT: u32 = 54;
const ICMP_ERRORS: u64 = 0xf << ICMP_ERRORS_SHIFT;
const ICMP_SECOND_SHIFT: u32 = 58;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn ten_icmp_errors_a_second_are_admitted_and_nothing_else_changes() {
        let rest = StateWord(LIVE << 40 | ALG_FLAG | SHIFT_FLAG | 0x12_3456_789a);
        let mut word = rest;
        let mut admit = |second| {
            let next = word.with_icmp_error(second, 10);
            word = next.unwrap_or(word);
            next.is_some()
        };
        let mut admitted = |second| (0..20).filter(|_| admit(second)).count();
        assert_eq!([5, 5, 6, u32::MAX, u32::MAX].map(&mut admitted), [10, 0, 10, 10, 0]);
        assert_eq!(word.0 & !(u64::MAX << ICMP_ERRORS_SHIFT), rest.0);
    }
}
