//! Which bytes of a datagram have come.
//!
//! RFC 791 lets fragments overlap; nobody sends such honestly, and hosts differ in which copy they believe.
//! So an overlap condemns its datagram, as RFC 5722 does for IPv6. An exact repetition is the network's
//! doing: it alone is refused.

use crate::drop_reason::DropReason;
use crate::fragment::piece::Piece;

/// Fragments that one datagram may have (CVE-2018-5391: more cost time at every one).
const FRAGMENTS_PER_DATAGRAM: usize = 64;

/// The bytes that have come, as disjoint extents in order of arrival.
#[derive(Debug, Clone)]
pub(super) struct Extents {
    list: [(u16, u16); FRAGMENTS_PER_DATAGRAM],
    count: u8,
    /// Behind the last byte that has come.
    reach: u16,
    /// Bytes that have come.
    covered: u16,
    /// Length of the whole, once the last fragment has come.
    total: Option<u16>,
}

impl Extents {
    /// Nothing yet.
    pub(super) const EMPTY: Self =
        Self { list: [(0, 0); FRAGMENTS_PER_DATAGRAM], count: 0, reach: 0, covered: 0, total: None };

    /// Notes that `piece` has come.
    ///
    /// # Errors
    ///
    /// [`DropReason::FragmentDuplicate`]: it had come already, nothing has changed. Anything else: the
    /// datagram must not be completed.
    pub(super) fn add(&mut self, piece: &Piece) -> Result<(), DropReason> {
        let seen = self.list.get(..usize::from(self.count)).unwrap_or_default();
        if piece.start < self.reach {
            if seen.contains(&(piece.start, piece.end)) && self.agrees(piece) {
                return Err(DropReason::FragmentDuplicate);
            }
            if seen.iter().any(|&(start, end)| piece.start < end && start < piece.end) {
                return Err(DropReason::FragmentOverlap);
            }
        }
        let is_beyond = self.total.is_some_and(|total| piece.end > total || piece.is_last);
        if is_beyond || (piece.is_last && piece.end < self.reach) {
            return Err(DropReason::FragmentOverlap);
        }
        let slot = self.list.get_mut(usize::from(self.count)).ok_or(DropReason::FragmentTooMany)?;
        *slot = (piece.start, piece.end);
        self.count += 1;
        self.reach = self.reach.max(piece.end);
        // Disjoint extents below 65,536 cover fewer bytes than that.
        self.covered += piece.end - piece.start;
        if piece.is_last {
            self.total = Some(piece.end);
        }
        Ok(())
    }

    /// Whether every byte has come.
    pub(super) fn is_complete(&self) -> bool {
        self.total == Some(self.covered)
    }

    /// Length of the whole, once it is known, bytes.
    pub(super) const fn total(&self) -> Option<u16> {
        self.total
    }

    /// A repetition says the same about the end.
    fn agrees(&self, piece: &Piece) -> bool {
        piece.is_last == (self.total == Some(piece.end))
    }
}
