//! Records: cache lines of eight atomic words, found by index.
//!
//! A record may be read while another worker writes it. Each word is whole at any time; a value that
//! spans words is consistent only under the rules of its owner (see "Life of an entry" in
//! [`super`]): filled before it is published, constant afterwards.

#[cfg(not(any(loom, shuttle)))]
use super::sync::Ordering;
use super::sync::{AtomicU64, prefetch, prefetch_near};

/// One cache line of eight words.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Line {
    /// The words; what they mean is the table's matter.
    pub words: [AtomicU64; LINE_WORDS],
}

impl Line {
    /// Word number `word`, counted round and round: a constant below [`LINE_WORDS`] costs no check.
    #[inline]
    #[must_use]
    pub fn word(&self, word: usize) -> &AtomicU64 {
        #[expect(clippy::indexing_slicing, reason = "the remainder is within the array")]
        &self.words[word % LINE_WORDS]
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// A fixed number of lines, all zero at first.
#[derive(Debug)]
pub struct Lines {
    lines: Box<[Line]>,
}

impl Lines {
    /// `count` lines, 64 bytes each. All their memory is touched once, here: no page fault is left
    /// for the packet path, and what does not fit into the machine fails at start.
    #[must_use]
    pub fn new(count: usize) -> Self {
        #[cfg(not(any(loom, shuttle)))]
        let lines = {
            let lines = Box::<[Line]>::new_zeroed_slice(count);
            // SAFETY: a `Line` is an array of `AtomicU64`, which has the layout of `u64`, of which
            // all zeroes is a valid value.
            unsafe { lines.assume_init() }
        };
        // Zeroed memory of this size comes as pages that do not exist before their first write.
        #[cfg(not(any(loom, shuttle)))]
        for first_of_page in lines.iter().step_by(PAGE_BYTES / size_of::<Line>()) {
            let [word, ..] = &first_of_page.words;
            word.store(0, Ordering::Relaxed);
        }
        #[cfg(any(loom, shuttle))]
        let lines = (0..count).map(|_| Line::default()).collect();
        Self { lines }
    }

    /// The line of `index`, or `None` beyond the end.
    #[inline]
    #[must_use]
    pub fn line(&self, index: u32) -> Option<&Line> {
        self.lines.get(index as usize)
    }

    /// The line of `index`, which is not compared with the count.
    ///
    /// # Safety
    /// `index` is below [`Self::count`].
    #[inline(always)]
    pub(super) unsafe fn line_unchecked(&self, index: u32) -> &Line {
        debug_assert!((index as usize) < self.lines.len());
        // SAFETY: the caller's promise.
        unsafe { self.lines.get_unchecked(index as usize) }
    }

    /// Starts to fetch the line of `index` into the cache, if there is one: to look costs more than to fetch in vain.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        prefetch(self.lines.as_ptr().wrapping_add(index as usize));
    }

    /// As [`Self::prefetch`], of a line that has come near: see [`prefetch_near`].
    #[inline(always)]
    pub fn prefetch_near(&self, index: u32) {
        prefetch_near(self.lines.as_ptr().wrapping_add(index as usize));
    }

    /// How many lines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// All lines in the order of their index.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }
}

/// The smallest page of the machines algate runs on.
#[cfg(not(any(loom, shuttle)))]
const PAGE_BYTES: usize = 4_096;

/// Words in a line.
pub const LINE_WORDS: usize = 8;
