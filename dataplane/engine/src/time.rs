//! The engine's clock: handed in, never read.

use std::time::Duration;

/// A point in time, nanoseconds since the process's own zero. Read once per burst by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Instant {
    nanos: u64,
}

impl Instant {
    /// `nanos` nanoseconds after zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }

    /// Nanoseconds since zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// Time since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }

    /// `after` later, at most the end of time.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self { nanos: self.nanos.saturating_add(after) }
    }
}

/// Coarse time: quarter seconds since the process's own zero. Ages sessions; wraps after 34 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick `instant` lies in.
    #[must_use]
    pub const fn of(instant: Instant) -> Self {
        Self((instant.nanos / (1_000_000_000 / TICKS_PER_SECOND)) as u32)
    }

    /// The first tick at which `after` has certainly passed since any moment of this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(Self::ticks(after)).saturating_add(1))
    }

    /// Time since `earlier`, to a quarter second.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0) as u64 * (1_000 / TICKS_PER_SECOND))
    }

    fn ticks(duration: Duration) -> u32 {
        let part = duration.subsec_millis().div_ceil(1_000 / TICKS_PER_SECOND as u32);
        let ticks = duration.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(part.into());
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

const TICKS_PER_SECOND: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_ticks_never_comes_early() {
        for nanos in [0, 1, 249_999_999, 250_000_000, 999_999_999] {
            let start = Instant::from_nanos(nanos);
            let due = Tick::of(start).plus(Duration::from_secs(4));
            assert!(Tick::of(start.plus(Duration::from_millis(3_999))) < due);
            assert!(Tick::of(start.plus(Duration::from_millis(4_500))) >= due);
        }
    }
}
