//! What an ALG leaves with the stage: replacements inside a message, bytes added to a stream.

use std::ops::Range;

use super::Direction;

/// Replacements inside one message, in ascending order. Memory is taken once and reused.
#[derive(Debug)]
pub struct Edits {
    items: Vec<(Range<usize>, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Edits {
    /// Room for `items` replacements of `bytes` new bytes in all.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self { items: Vec::with_capacity(items), bytes: Vec::with_capacity(bytes) }
    }

    /// Replaces `range` of the message by `with`. Returns `false`, and changes nothing, when the
    /// room taken at start is used up or `range` does not lie behind the previous one.
    #[inline]
    #[must_use]
    pub fn replace(&mut self, range: Range<usize>, with: &[u8]) -> bool {
        let behind = self.items.last().is_none_or(|(last, _)| last.end <= range.start);
        let fits = self.items.len() < self.items.capacity()
            && self.bytes.len() + with.len() <= self.bytes.capacity();
        if !behind || !fits || range.start > range.end {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(with);
        self.items.push((range, start..self.bytes.len()));
        true
    }

    /// As [`Edits::replace`], but anywhere between the others. Returns `false`, and changes nothing, when the room is
    /// used up or `range` meets that of another replacement.
    #[inline]
    #[must_use]
    pub fn insert(&mut self, range: Range<usize>, with: &[u8]) -> bool {
        let place = self.items.iter().position(|(other, _)| other.start >= range.end);
        let place = place.unwrap_or(self.items.len());
        let before = place.checked_sub(1).and_then(|place| self.items.get(place));
        let is_free = before.is_none_or(|(other, _)| other.end <= range.start);
        let fits = self.items.len() < self.items.capacity()
            && self.bytes.len() + with.len() <= self.bytes.capacity();
        if !is_free || !fits || range.start > range.end {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(with);
        self.items.insert(place, (range, start..self.bytes.len()));
        true
    }

    /// Each replaced range with its new bytes.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[u8])> {
        self.items.iter().map(|(range, at)| (range.clone(), self.bytes.get(at.clone()).unwrap_or_default()))
    }

    /// Forgets all replacements, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}

/// Bytes an ALG adds to a stream, at the place the stream of that direction has reached: behind the
/// message being decided when it is of that direction, else behind the last decided one.
#[derive(Debug)]
pub struct Injections {
    items: Vec<(Direction, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Injections {
    /// Room for `items` injections of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self { items: Vec::with_capacity(items), bytes: Vec::with_capacity(bytes) }
    }

    /// Adds `bytes` to the stream of `direction`. Returns `false`, and adds nothing, when the room
    /// taken at start is used up.
    #[inline]
    #[must_use]
    pub fn push(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        if self.items.len() == self.items.capacity() || self.bytes.len() + bytes.len() > self.bytes.capacity()
        {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.items.push((direction, start..self.bytes.len()));
        true
    }

    /// Each injection in the order it was asked for.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Direction, &[u8])> {
        self.items.iter().map(|(direction, at)| (*direction, self.bytes.get(at.clone()).unwrap_or_default()))
    }

    /// Forgets all injections, keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_their_order_and_their_room() {
        let mut edits = Edits::with_capacity(2, 8);
        let (items, bytes) = (edits.items.capacity(), edits.bytes.capacity());
        for _ in 0..3 {
            assert!(edits.replace(2..4, b"abc"));
            assert!(!edits.replace(3..5, b"d"), "overlaps the one before");
            assert!(!edits.replace(1..1, b"d"), "before the one before");
            #[expect(clippy::reversed_empty_ranges, reason = "what a careless caller passes")]
            let reversed = 9..5;
            assert!(!edits.replace(reversed, b"d"));
            assert!(!edits.replace(4..5, &vec![b'd'; bytes]), "more bytes than there is room");
            assert!(edits.replace(4..4, b""));
            let seen: Vec<_> = edits.iter().collect();
            assert_eq!(seen, [(2..4, &b"abc"[..]), (4..4, b"")]);
            for at in 5..5 + items {
                let _ = edits.replace(at..at, b"");
            }
            assert_eq!((edits.items.capacity(), edits.bytes.capacity()), (items, bytes), "memory was taken");
            edits.clear();
            assert_eq!(edits.iter().count(), 0);
        }
    }

    #[test]
    fn an_edit_is_inserted_where_no_other_is() {
        let mut edits = Edits::with_capacity(4, 8);
        assert!(edits.replace(4..6, b"b"));
        assert!(edits.insert(8..9, b"c") && edits.insert(0..4, b"a"));
        for taken in [0..1, 3..5, 5..6, 5..9, 4..6] {
            assert!(!edits.insert(taken.clone(), b""), "{taken:?}");
        }
        assert!(!edits.insert(20..21, b"123456"), "more bytes than there is room");
        assert!(edits.insert(6..8, b"d"));
        assert!(!edits.insert(20..21, b""), "more than there is room");
        let seen: Vec<_> = edits.iter().collect();
        assert_eq!(seen, [(0..4, &b"a"[..]), (4..6, b"b"), (6..8, b"d"), (8..9, b"c")]);
    }

    #[test]
    fn injections_keep_their_order_and_their_room() {
        let mut inject = Injections::with_capacity(2, 8);
        let (items, bytes) = (inject.items.capacity(), inject.bytes.capacity());
        for _ in 0..3 {
            assert!(inject.push(Direction::Reply, b"500 "));
            assert!(inject.push(Direction::Original, b"x"));
            assert!(!inject.push(Direction::Reply, &vec![b'x'; bytes]), "more bytes than there is room");
            let seen: Vec<_> = inject.iter().collect();
            assert_eq!(seen, [(Direction::Reply, &b"500 "[..]), (Direction::Original, b"x")]);
            for _ in 0..items {
                let _ = inject.push(Direction::Reply, b"");
            }
            assert_eq!(
                (inject.items.capacity(), inject.bytes.capacity()),
                (items, bytes),
                "memory was taken"
            );
            inject.clear();
            assert_eq!(inject.iter().count(), 0);
        }
    }
}
