//! The two buffers of a direction, and the pool they are lent from.
//!
//! [`HeldBytes`] keeps what has no verdict yet, at its place, gaps included; [`SendBuffer`] what has
//! one and is not acknowledged by the receiver. Neither grows: what does not fit is refused, and TCP
//! sends it again.

use super::edit_log::Edit;

/// Bytes of one direction behind its last verdict. Offset 0 is the first of them.
///
/// Invariants: `ranges` are ascending, do not touch each other, and lie behind `filled`.
#[derive(Debug, Default)]
pub(super) struct HeldBytes {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    ranges: Vec<(usize, usize)>,
    /// Where the last bytes were put.
    newest: usize,
}

impl HeldBytes {
    /// Room for `capacity` bytes with `gaps` gaps between them.
    pub(super) fn new(capacity: usize, gaps: usize) -> Self {
        Self { bytes: vec![0; capacity], ranges: Vec::with_capacity(gaps), ..Self::default() }
    }

    /// The bytes before the first gap.
    pub(super) fn in_order(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.filled).unwrap_or_default()
    }

    /// Whether no byte is kept, in order or not.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0 && self.ranges.is_empty()
    }

    /// Whether not one more byte in order fits.
    pub(super) fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// The runs behind the first gap, from offset to offset, the one that grew last first.
    pub(super) fn out_of_order(&self) -> impl Iterator<Item = (usize, usize)> {
        let is_newest = |(a, b): &(usize, usize)| (*a..*b).contains(&self.newest);
        let rest = self.ranges.iter().copied().filter(move |range| !is_newest(range));
        self.ranges.iter().copied().filter(is_newest).chain(rest)
    }

    /// Puts `bytes` at `offset`. Bytes that are already there stay as they are. Returns `false` when
    /// nothing could be kept.
    pub(super) fn insert(&mut self, offset: usize, bytes: &[u8]) -> bool {
        if self.start > 0 {
            let kept = self.ranges.last().map_or(self.filled, |(_, b)| *b);
            self.bytes.copy_within(self.start..self.start + kept, 0);
            self.start = 0;
        }
        let Some(room) = self.bytes.len().checked_sub(offset).filter(|room| *room > 0) else { return false };
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        let end = offset + bytes.len();
        let touches = offset <= self.filled || self.ranges.iter().any(|(a, b)| offset <= *b && end >= *a);
        if bytes.is_empty() || (!touches && self.ranges.len() == self.ranges.capacity()) {
            return false;
        }
        let mut at = offset.max(self.filled);
        for index in 0..=self.ranges.len() {
            let (gap_end, next) = self.ranges.get(index).map_or((end, end), |(a, b)| ((*a).min(end), *b));
            if at < gap_end
                && let (Some(to), Some(from)) =
                    (self.bytes.get_mut(at..gap_end), bytes.get(at - offset..gap_end - offset))
            {
                to.copy_from_slice(from);
            }
            at = at.max(next);
        }
        self.join(offset, end);
        self.newest = offset;
        true
    }

    /// Takes the first `count` bytes away; they are in order.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.start += count;
        self.filled -= count;
        self.newest = self.newest.saturating_sub(count);
        for (a, b) in &mut self.ranges {
            *a -= count;
            *b -= count;
        }
        if self.is_empty() {
            self.start = 0;
        }
    }

    /// Forgets what lies at `offset` and behind: nothing can follow there.
    pub(super) fn truncate(&mut self, offset: usize) {
        self.filled = self.filled.min(offset);
        self.ranges.retain(|(a, _)| *a < offset);
        if let Some((_, b)) = self.ranges.last_mut() {
            *b = (*b).min(offset);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.filled = 0;
        self.ranges.clear();
    }

    /// Notes that `offset..end` is there.
    fn join(&mut self, mut offset: usize, mut end: usize) {
        self.ranges.retain(|(a, b)| {
            let touches = offset <= *b && end >= *a;
            if touches {
                offset = offset.min(*a);
                end = end.max(*b);
            }
            !touches
        });
        if offset <= self.filled {
            self.filled = self.filled.max(end);
        } else {
            let at = self.ranges.partition_point(|(a, _)| *a < offset);
            self.ranges.insert(at, (offset, end));
        }
    }
}

/// A ring of decided bytes, oldest first.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    bytes: Vec<u8>,
    head: usize,
    length: usize,
}

impl SendBuffer {
    /// Room for `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], head: 0, length: 0 }
    }

    /// Bytes kept.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.bytes.len() - self.length
    }

    /// Adds `more` behind the others. Returns `false`, and adds nothing, when it does not fit.
    pub(super) fn push(&mut self, more: &[u8]) -> bool {
        if more.len() > self.room() {
            return false;
        }
        let tail = self.wrap(self.head + self.length);
        let (first, second) = more.split_at(more.len().min(self.bytes.len() - tail));
        if let Some(to) = self.bytes.get_mut(tail..tail + first.len()) {
            to.copy_from_slice(first);
        }
        if let Some(to) = self.bytes.get_mut(..second.len()) {
            to.copy_from_slice(second);
        }
        self.length += more.len();
        true
    }

    /// Takes the oldest `count` bytes away.
    pub(super) fn pop(&mut self, count: usize) {
        let count = count.min(self.length);
        self.head = self.wrap(self.head + count);
        self.length -= count;
    }

    /// `count` bytes from the `from`th oldest on, in two parts.
    pub(super) fn slices(&self, from: usize, count: usize) -> [&[u8]; 2] {
        let from = from.min(self.length);
        let count = count.min(self.length - from);
        let start = self.wrap(self.head + from);
        let first = count.min(self.bytes.len() - start);
        [
            self.bytes.get(start..start + first).unwrap_or_default(),
            self.bytes.get(..count - first).unwrap_or_default(),
        ]
    }

    fn wrap(&self, at: usize) -> usize {
        if at >= self.bytes.len() { at - self.bytes.len() } else { at }
    }
}

/// The memory of one direction.
#[derive(Debug)]
pub(super) struct HalfBuffers {
    pub(super) held: HeldBytes,
    pub(super) send: SendBuffer,
    pub(super) edits: Vec<Edit>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_copy_of_a_byte_stays() {
        let mut held = HeldBytes::new(10, 2);
        assert!(held.insert(4, b"EF"));
        assert!(held.insert(8, b"IJKL"), "what fits is kept");
        assert!(!held.insert(7, b""));
        assert!(held.insert(1, b"bcdefghij"));
        assert!(held.in_order().is_empty());
        assert!(held.insert(0, b"A"));
        assert_eq!(held.in_order(), b"AbcdEFghIJ");
        assert!(held.is_full());
        assert!(!held.insert(10, b"x"));
        held.consume(3);
        assert_eq!(held.in_order(), b"dEFghIJ");
        assert!(held.insert(7, b"klm"));
        assert_eq!(held.in_order(), b"dEFghIJklm");
        held.truncate(4);
        assert!(held.insert(6, b"xyz"));
        held.truncate(8);
        assert_eq!((held.in_order(), held.out_of_order().next()), (&b"dEFg"[..], Some((6, 8))));
    }

    #[test]
    fn more_gaps_than_allowed_are_refused() {
        let mut held = HeldBytes::new(100, 2);
        assert!(held.insert(10, b"a"));
        assert!(held.insert(20, b"b"));
        assert!(!held.insert(30, b"c"));
        assert!(held.insert(11, b"d"), "it touches a run");
        assert_eq!(held.out_of_order().collect::<Vec<_>>(), [(10, 12), (20, 21)], "the newest first");
        held.clear();
        assert!(held.is_empty());
    }

    proptest! {
        #[test]
        fn held_bytes_match_a_plain_model(
            pieces in prop::collection::vec((0_usize..40, 1_usize..12), 1..30),
            consumed in prop::collection::vec(0_usize..8, 30),
        ) {
            let mut held = HeldBytes::new(32, 64);
            let mut model = vec![None; 32];
            for (number, ((offset, length), consumed)) in pieces.into_iter().zip(consumed).enumerate() {
                let bytes = vec![number as u8; length];
                held.insert(offset, &bytes);
                for (at, slot) in model.iter_mut().enumerate() {
                    if (offset..offset + length).contains(&at) && slot.is_none() {
                        *slot = Some(number as u8);
                    }
                }
                let in_order: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(held.in_order(), &in_order[..]);
                let consumed = consumed.min(in_order.len());
                held.consume(consumed);
                model.drain(..consumed);
                model.resize(32, None);
                let kept: usize = held.out_of_order().map(|(a, b)| b - a).sum();
                prop_assert_eq!(kept + held.in_order().len(), model.iter().flatten().count());
            }
        }

        #[test]
        fn the_send_buffer_is_a_queue(steps in prop::collection::vec((0_usize..10, 0_usize..10), 1..60)) {
            let mut buffer = SendBuffer::new(16);
            let mut model = std::collections::VecDeque::new();
            let mut next = 0_u8;
            for (push, pop) in steps {
                let more: Vec<u8> = (0..push).map(|n| next.wrapping_add(n as u8)).collect();
                prop_assert_eq!(buffer.push(&more), model.len() + push <= 16);
                if model.len() + push <= 16 {
                    model.extend(&more);
                    next = next.wrapping_add(push as u8);
                }
                let all = buffer.slices(0, 99).concat();
                prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<u8>>());
                let part = buffer.slices(2, 5).concat();
                prop_assert_eq!(part, all.iter().skip(2).take(5).copied().collect::<Vec<u8>>());
                buffer.pop(pop);
                model.drain(..pop.min(model.len()));
                prop_assert_eq!(buffer.len() + buffer.room(), 16);
            }
        }
    }
}
