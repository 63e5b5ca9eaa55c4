//! The retransmission timer of what the stage owns (RFC 6298).
//!
//! One segment at a time is measured; a repetition spoils the measurement (Karn). The floor is the
//! RFC's one second. After a bounded number of tries without a sign of life the stream is given up.

use std::time::Duration;

use super::seq::Target;
use crate::time::Instant;

/// Timer and round-trip estimate of one direction.
#[derive(Debug, Default)]
pub(super) struct RetransmitTimer {
    deadline: Option<Instant>,
    smoothed: Option<(Duration, Duration)>,
    measured: Option<(Target, Instant)>,
    /// Times fired without an answer.
    tries: u8,
}

impl RetransmitTimer {
    /// When it fires.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Times it fired since the receiver was last heard.
    pub(super) const fn tries(&self) -> u8 {
        self.tries
    }

    /// Runs while something is `owned`; RFC 6298 rules 5.1 and 5.2.
    pub(super) fn arm(&mut self, now: Instant, owned: bool) {
        match (owned, self.deadline) {
            (true, None) => self.deadline = Some(now.plus(self.timeout())),
            (false, Some(_)) => {
                self.deadline = None;
                self.tries = 0;
            }
            _ => {}
        }
    }

    /// Bytes before `end` were sent for the first time.
    pub(super) fn sent(&mut self, now: Instant, end: Target) {
        if self.measured.is_none() {
            self.measured = Some((end, now));
        }
    }

    /// Bytes were sent again.
    pub(super) const fn repeated(&mut self) {
        self.measured = None;
    }

    /// The receiver acknowledged everything before `acked`, more than before (rule 5.3).
    pub(super) fn acknowledged(&mut self, now: Instant, acked: Target) {
        if let Some((end, at)) = self.measured
            && acked >= end
        {
            self.measured = None;
            self.sample(now.since(at));
        }
        self.tries = 0;
        if self.deadline.is_some() {
            self.deadline = Some(now.plus(self.timeout()));
        }
    }

    /// The receiver answered a probe of its closed window: it lives.
    pub(super) const fn answered(&mut self) {
        self.tries = 0;
    }

    /// It fired (rules 5.5 and 5.6).
    pub(super) fn fired(&mut self, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.measured = None;
        self.deadline = Some(now.plus(self.timeout()));
    }

    fn sample(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (round_trip, round_trip / 2),
            Some((mean, deviation)) => {
                ((mean * 7 + round_trip) / 8, (deviation * 3 + mean.abs_diff(round_trip)) / 4)
            }
        });
    }

    fn timeout(&self) -> Duration {
        let base = self.smoothed.map_or(FLOOR, |(mean, deviation)| mean + deviation * 4);
        (base.max(FLOOR) * (1 << self.tries.min(6))).min(CEILING)
    }
}

const FLOOR: Duration = Duration::from_secs(1);
const CEILING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn backs_off_and_starts_again_after_an_acknowledgement() {
        let mut timer = RetransmitTimer::default();
        timer.arm(at(0), true);
        for (tries, (fires, next)) in [(1000, 3000), (3000, 7000), (7000, 15_000)].into_iter().enumerate() {
            assert_eq!(timer.deadline(), Some(at(fires)));
            timer.fired(at(fires));
            assert_eq!((timer.tries(), timer.deadline()), (tries as u8 + 1, Some(at(next))));
        }
        timer.acknowledged(at(8000), Target(10));
        assert_eq!((timer.tries(), timer.deadline()), (0, Some(at(9000))));
        timer.arm(at(8000), false);
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn measures_the_round_trip_but_not_of_repeated_bytes() {
        let mut timer = RetransmitTimer::default();
        timer.sent(at(0), Target(10));
        timer.acknowledged(at(800), Target(10));
        timer.arm(at(800), true);
        // 800 ms mean, 400 ms deviation: 800 + 4 * 400.
        assert_eq!(timer.deadline(), Some(at(3200)));
        let mut timer = RetransmitTimer::default();
        timer.sent(at(0), Target(10));
        timer.repeated();
        timer.acknowledged(at(800), Target(10));
        timer.arm(at(800), true);
        assert_eq!(timer.deadline(), Some(at(1800)));
    }
}
