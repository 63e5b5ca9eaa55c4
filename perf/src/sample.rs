//! What a series of measurements says: its median, and its tenth percentile.
//!
//! On a machine that others use too, an interrupted chunk takes many times as long as the rest. The
//! mean would tell about the neighbours; the median and the tenth percentile tell about the code.

use std::time::{Duration, Instant};

use crate::clock;

/// Ticks per operation of many chunks, or what else is known of each.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: Vec<f64>,
}

impl Samples {
    /// Adds a chunk of `operations` that took `ticks`.
    pub fn push(&mut self, ticks: u64, operations: u64) {
        self.add(ticks as f64 / operations.max(1) as f64);
    }

    /// Adds a chunk's `value`.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds all chunks of `others`.
    pub fn append(&mut self, mut others: Self) {
        self.values.append(&mut others.values);
    }

    /// The value below which `share` (0 to 1) of the chunks lie. 0 when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(at).copied().unwrap_or(0.0)
    }

    /// The mean of the middle half of the chunks: finer than the median where a chunk's value is coarse. 0 when there are
    /// none.
    #[must_use]
    pub fn middle_mean(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let quarter = sorted.len() / 4;
        let middle = sorted.get(quarter..sorted.len() - quarter).unwrap_or_default();
        middle.iter().sum::<f64>() / (middle.len() as f64).max(1.0)
    }

    /// Chunks measured.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len()
    }
}

/// Something that can be done many times over.
pub trait Item {
    /// Its name in tables and in the budget.
    fn name(&self) -> String;

    /// Makes one chunk ready. Not measured.
    fn prepare(&mut self) {}

    /// Does one chunk and returns how many operations it was; `None` when the supply is used up.
    fn chunk(&mut self) -> Option<u64>;
}

/// Measures `item` for about `duration`, after a tenth of it to warm up. What the first use builds is not
/// counted in.
pub fn measure(item: &mut dyn Item, duration: Duration) -> Samples {
    let mut samples = Samples::default();
    item.prepare();
    let _ = item.chunk();
    let start = Instant::now();
    while start.elapsed() < duration {
        item.prepare();
        let begin = clock::ticks();
        let Some(operations) = item.chunk() else { break };
        let end = clock::ticks();
        if start.elapsed() > duration / 10 {
            samples.push(end - begin, operations);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_values() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantile(0.5), 0.0);
        for ticks in [50, 10, 30, 20, 40] {
            samples.push(ticks * 2, 2);
        }
        assert_eq!(samples.quantile(0.0), 10.0);
        assert_eq!(samples.quantile(0.5), 30.0);
        assert_eq!(samples.quantile(1.0), 50.0);
    }

    #[test]
    fn the_middle_half_leaves_out_what_was_interrupted() {
        let mut samples = Samples::default();
        assert_eq!(samples.middle_mean(), 0.0);
        samples.add(7.0);
        assert_eq!(samples.middle_mean(), 7.0);
        for value in [1000.0, 6.0, 8.0, 7.0, 0.0, 7.0, 9000.0] {
            samples.add(value);
        }
        assert_eq!(samples.middle_mean(), 7.25, "of 7, 7, 7 and 8: two are left out at either end");
    }
}
