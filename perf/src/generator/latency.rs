//! How long packets took: a histogram with a fixed relative error.

use serde::Serialize;

/// Counts of times in ticks, in buckets 1/32 wide relative to their value.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

/// What latencies say, microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Half of the packets were not slower.
    pub p50: f64,
    /// 99 % were not slower.
    pub p99: f64,
    /// 99.9 % were not slower.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// Share of packets and the time that they did not exceed, for a curve.
    pub curve: Vec<(f64, f64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }
}

impl Histogram {
    /// Counts one packet that took `ticks`.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(ticks)) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(ticks);
    }

    /// Counts what `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, others) in self.counts.iter_mut().zip(&other.counts) {
            *count += others;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// Packets counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The time in ticks that `share` (0 to 1) of the packets did not exceed, to 1/32. 0 when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                return end_of(bucket).min(self.longest);
            }
        }
        self.longest
    }

    /// In microseconds, at `ticks_per_nano`.
    #[must_use]
    pub fn summary(&self, ticks_per_nano: f64) -> Latency {
        let micros = |ticks: u64| (ticks as f64 / ticks_per_nano).round() / 1e3;
        Latency {
            p50: micros(self.quantile(0.5)),
            p99: micros(self.quantile(0.99)),
            p999: micros(self.quantile(0.999)),
            max: micros(self.longest),
            curve: CURVE.iter().map(|share| (*share, micros(self.quantile(*share)))).collect(),
        }
    }
}

/// Times below 32 ticks have a bucket each; from there on 32 buckets for each doubling.
#[inline]
const fn bucket_of(ticks: u64) -> usize {
    if ticks < STEPS {
        return ticks as usize;
    }
    let doublings = (ticks.ilog2() - STEPS.ilog2()) as u64;
    (doublings * STEPS + (ticks >> doublings)) as usize
}

/// The longest time in a bucket.
const fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << doublings) - 1
}

const STEPS: u64 = 32;
const BUCKETS: usize = (64 * STEPS) as usize;
const CURVE: [f64; 13] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_thirty_second_wide() {
        for ticks in (0..5000).chain([1 << 20, (1 << 40) + 12345, u64::MAX / 2]) {
            let end = end_of(bucket_of(ticks));
            assert!(end >= ticks && end - ticks <= ticks / 32, "{ticks} -> {end}");
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|ticks| histogram.record(ticks * 100));
        histogram.record(9_000_000);
        for (share, exact) in [(0.5, 50_000), (0.99, 99_000), (0.999, 100_000)] {
            let got = histogram.quantile(share);
            assert!(got >= exact && got - exact <= exact / 16, "{share}: {got}");
        }
        assert_eq!(histogram.quantile(1.0), 9_000_000);
        assert_eq!(histogram.summary(1.0).max, 9000.0);
    }
}
