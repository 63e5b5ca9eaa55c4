//! How far two cores are apart: how long a cache line takes that the other one has just written.
//!
//! Seen on a Zen 4: 3 to 5 ns between hyperthreads, 13 to 27 within a cache complex, 93 to 128 between two. A virtual processor may move from one to
//! the other at any moment. Whatever is handed from core to core takes longer then: through memif every packet, twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::{ticks, ticks_per_nano};

/// Lines that one core writes and another one reads, each of which names the next.
#[derive(Debug)]
pub struct Trail {
    lines: Box<[Line]>,
}

/// Two cache lines, for they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicUsize);

impl Default for Trail {
    fn default() -> Self {
        Self { lines: (0..PIECES * PIECE_LINES).map(|_| Line::default()).collect() }
    }
}

impl Trail {
    /// Writes every line, which brings them to this core.
    pub fn leave(&self) {
        for (at, line) in self.lines.iter().enumerate() {
            // All lines in one round, by no step that a prefetcher knows (Hull and Dobell, 1962: an odd addend, a factor of 4n + 1).
            line.0.store((at * 45 + 27) % self.lines.len(), Ordering::Relaxed);
        }
    }

    /// Reads every line, each when the one before has come: nanoseconds a line, the median of eight pieces. Once after each [`Self::leave`].
    #[must_use]
    pub fn follow(&self) -> f64 {
        let (mut at, mut pieces) = (0, [0; PIECES]);
        for piece in &mut pieces {
            let start = ticks();
            for _ in 0..PIECE_LINES {
                at = self.lines.get(at).map_or(0, |line| line.0.load(Ordering::Relaxed));
            }
            *piece = ticks() - start;
        }
        std::hint::black_box(at);
        pieces.sort_unstable();
        pieces[PIECES / 2] as f64 / PIECE_LINES as f64 / ticks_per_nano()
    }
}

const PIECES: usize = 8;
const PIECE_LINES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_leads_over_every_line_once() {
        let trail = Trail::default();
        trail.leave();
        let (mut at, mut seen) = (0, vec![false; trail.lines.len()]);
        for _ in 0..trail.lines.len() {
            assert!(!seen[at], "line {at}");
            seen[at] = true;
            at = trail.lines[at].0.load(Ordering::Relaxed);
        }
        assert_eq!(at, 0);
        assert!(trail.follow() > 0.0);
    }
}
