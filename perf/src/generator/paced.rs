//! Measurements in open loop: loss and latency at a fixed rate.
//!
//! The time is cut into slices. Each begins with nothing on its way, sends by the clock, and ends when everything has come back
//! or will not come. A slice counts when neither side lost its core in it: a generator that stalls would
//! send a burst afterwards and meanwhile let the device's ring overflow, and neither would be the device's doing. Its own silence ends a slice at
//! once. Before each slice the device's core is read ([`CoreWatch`]), so the reading takes no time from the device.
//!
//! Slices that do not count are repeated, for three times as long as is wanted. A device that stalls by itself
//! for longer than that in most slices is thus not judged; [`Paced::slices`] says how many were left out, and
//! why.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{ticks, ticks_per_nano};
use crate::core_watch::CoreWatch;
use crate::generator::latency::{Histogram, Latency};
use crate::generator::memif::SLOTS;
use crate::generator::run::{Generator, Pace, Task};

/// What came of a fixed rate.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    /// Million packets per second that should go through the device, both directions together.
    pub offered_mpps: f64,
    /// Packets that the device should have carried in the slices that count, and those it did not.
    pub packets: u64,
    /// See `packets`.
    pub lost: u64,
    /// Packets with a fault, in all slices.
    pub bad: u64,
    /// Times through the device, either way; `None` without a slice that counts.
    pub latency: Option<Latency>,
    /// What became of the slices.
    pub slices: Slices,
}

/// What became of slices.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Slices {
    /// Undisturbed, on a whole core.
    pub whole: u32,
    /// Undisturbed, on a core that somebody else used too.
    pub shared: u32,
    /// The generator stalled.
    pub stalled: u32,
    /// Nothing came from the device for too long.
    pub silent: u32,
    /// Whether the whole ones alone count; else the shared ones do too.
    pub is_whole: bool,
}

impl Slices {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u32 {
        self.whole + self.shared + self.stalled + self.silent
    }

    /// Share of them that count.
    #[must_use]
    pub fn counted(self) -> f64 {
        let counted = if self.is_whole { self.whole } else { self.whole + self.shared };
        f64::from(counted) / f64::from(self.all()).max(1.0)
    }
}

/// The highest rate without loss.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Lossless {
    /// Million packets per second, both directions together, that were carried without loss.
    pub mpps: f64,
    /// The lowest rate that was not; where the search came to its end, 1 % of the first one above `mpps`.
    pub above_mpps: f64,
    /// Whether every trial was decided on a whole core.
    pub is_whole: bool,
}

/// How time is cut.
#[derive(Debug, Clone, Copy)]
struct Slicing {
    /// Length of a slice.
    slice: Duration,
    /// What the generator sends late at most; it makes up for it at once.
    own_silence: Duration,
    /// No turn of the device takes that long.
    device_silence: Duration,
}

/// A slice.
#[derive(Debug)]
struct Slice {
    fate: Fate,
    packets: u64,
    lost: u64,
    latency: Histogram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Counts,
    Stalled,
    Silent,
}

/// What slices of a kind say together.
#[derive(Debug, Default)]
struct Sum {
    packets: u64,
    lost: u64,
    latency: Histogram,
}

impl Sum {
    fn add(&mut self, slice: &Slice) {
        self.packets += slice.packets;
        self.lost += slice.lost;
        self.latency.merge(&slice.latency);
    }
}

impl Generator {
    /// Sends UDP at `mpps` million packets through the device per second, both directions together, whether it keeps up or not, for
    /// `duration` of slices that count, or for three times as long where others do not.
    pub fn pace(&mut self, mpps: f64, duration: Duration, watch: &mut CoreWatch) -> Paced {
        self.drain();
        let wanted = duration.div_duration_f64(OF_LATENCY.slice).ceil() as u32;
        let bad = self.counts.bad;
        let (mut slices, mut whole, mut shared) = (Slices::default(), Sum::default(), Sum::default());
        let mut before = watch.read();
        let start = Instant::now();
        while slices.whole < wanted && start.elapsed() < MOST_TIMES * duration {
            let slice = self.slice(mpps, OF_LATENCY);
            let after = watch.read();
            let is_whole = [before, after].iter().flatten().all(|reading| reading.is_whole());
            before = after;
            match slice.fate {
                Fate::Stalled => slices.stalled += 1,
                Fate::Silent => slices.silent += 1,
                Fate::Counts if is_whole => {
                    slices.whole += 1;
                    whole.add(&slice);
                }
                Fate::Counts => {
                    slices.shared += 1;
                    shared.add(&slice);
                }
            }
        }
        slices.is_whole = slices.whole >= wanted / ENOUGH_PART;
        if !slices.is_whole {
            whole.packets += shared.packets;
            whole.lost += shared.lost;
            whole.latency.merge(&shared.latency);
        }
        Paced {
            offered_mpps: mpps,
            packets: whole.packets,
            lost: whole.lost,
            bad: self.counts.bad - bad,
            latency: (whole.latency.count() > 0).then(|| whole.latency.summary(ticks_per_nano())),
            slices,
        }
    }

    /// The highest rate without loss, in million packets per second, between 0 and `most` (RFC 2544 section 26.1): halves the
    /// interval until it is 1 % wide. `None` when a trial could not be decided.
    ///
    /// A trial is a series of slices instead of the RFC's 60 s: nothing is undisturbed for that long on a machine that others use. The
    /// rings hold 1.6 % of a slice's packets, so the rate may be that much too high.
    pub fn lossless_rate(&mut self, most: f64, watch: &mut CoreWatch) -> Option<Lossless> {
        self.drain();
        let (mut low, mut high, mut is_whole) = (0.0, most, true);
        while high - low > 0.01 * most {
            let middle = (low + high) / 2.0;
            let (is_lossless, on_whole_core) = self.trial(middle, watch)?;
            is_whole &= on_whole_core;
            if is_lossless {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(Lossless { mpps: low, above_mpps: high, is_whole })
    }

    /// Whether nothing is lost at `mpps`, and whether that was found on a whole core. `None` when too much was disturbed.
    fn trial(&mut self, mpps: f64, watch: &mut CoreWatch) -> Option<(bool, bool)> {
        let (mut whole, mut any) = (Trial::default(), Trial::default());
        let mut before = watch.read();
        let start = Instant::now();
        while start.elapsed() < LONGEST_TRIAL {
            let slice = self.slice(mpps, slicing_of(mpps));
            let after = watch.read();
            let is_whole = [before, after].iter().flatten().all(|reading| reading.is_whole());
            before = after;
            if slice.fate != Fate::Counts {
                continue;
            }
            any.note(slice.lost);
            if is_whole {
                whole.note(slice.lost);
            }
            if let Some(is_lossless) = whole.verdict() {
                return Some((is_lossless, true));
            }
        }
        any.verdict().map(|is_lossless| (is_lossless, false))
    }

    /// One slice at `mpps`.
    fn slice(&mut self, mpps: f64, slicing: Slicing) -> Slice {
        let rate = ticks_per_nano();
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * rate) as u64;
        let [length, own_silence, device_silence, unfair] =
            [slicing.slice, slicing.own_silence, slicing.device_silence, RUN_IN].map(ticks_of);
        let good = self.counts.good;
        let start = ticks();
        let mut pace = Pace::new(start, rate * 2e3 / mpps.max(1e-6));
        let (mut now, mut fate) = (start, Fate::Counts);
        self.last_progress = start;
        while now < start + length && fate == Fate::Counts {
            // By then the device's way of polling is as it stays.
            pace.is_timed = now > start + unfair;
            self.turn(&mut Task::Paced(&mut pace));
            let then = ticks();
            if then - now > own_silence {
                fate = Fate::Stalled;
            } else if self.in_flight > 0 && then.saturating_sub(self.last_progress) > device_silence {
                fate = Fate::Silent;
            }
            now = then;
        }
        self.come_home();
        let arrived = self.counts.good - good;
        // Each round trip is two packets; those that were refused would have been two.
        let packets = 2 * (pace.sent + pace.refused);
        if arrived > 2 * pace.sent {
            // Late ones of a slice before.
            fate = Fate::Silent;
        }
        Slice { fate, packets, lost: packets.saturating_sub(arrived), latency: pace.latency }
    }

    /// Waits until everything has come back, or nothing has come for a while.
    fn come_home(&mut self) {
        let patience = (HOME_AFTER.as_nanos() as f64 * ticks_per_nano()) as u64;
        self.last_progress = ticks();
        while self.in_flight > 0 && ticks().saturating_sub(self.last_progress) < patience {
            self.turn(&mut Task::Nothing);
        }
        self.in_flight = 0;
    }
}

/// Slices of one rate in the search for the highest one without loss.
#[derive(Debug, Default)]
struct Trial {
    lossless: u32,
    lossy: u32,
}

impl Trial {
    const fn note(&mut self, lost: u64) {
        match lost {
            0 => self.lossless += 1,
            _ => {
                self.lossless = 0;
                self.lossy += 1;
            }
        }
    }

    /// So many in a row without loss, or so many with loss.
    const fn verdict(&self) -> Option<bool> {
        match (self.lossless, self.lossy) {
            (ENOUGH_LOSSLESS.., _) => Some(true),
            (_, ENOUGH_LOSSY..) => Some(false),
            _ => None,
        }
    }
}

/// For loss: a quarter of a ring may come late, half of one may wait in the device.
fn slicing_of(mpps: f64) -> Slicing {
    let ring = Duration::from_secs_f64(f64::from(SLOTS) * 2.0 / (mpps.max(0.1) * 1e6));
    Slicing {
        slice: (RINGS_IN_A_SLICE * ring).min(LONGEST_SLICE),
        own_silence: (ring / 4).min(LONGEST_SILENCE),
        device_silence: (ring / 2).min(LONGEST_SILENCE),
    }
}

/// For latency: what is sent late at most is a burst that a device takes within a few microseconds.
const OF_LATENCY: Slicing = Slicing {
    slice: Duration::from_millis(5),
    own_silence: Duration::from_micros(50),
    device_silence: LONGEST_SILENCE,
};
/// What waits in a ring when a slice ends is so small a part of it.
const RINGS_IN_A_SLICE: u32 = 64;
const LONGEST_SLICE: Duration = Duration::from_millis(20);
const LONGEST_SILENCE: Duration = Duration::from_micros(150);
/// The beginning of a slice is not timed.
const RUN_IN: Duration = Duration::from_micros(500);
/// What has not come by then is lost, or late enough to be no less.
const HOME_AFTER: Duration = Duration::from_millis(20);
const MOST_TIMES: u32 = 3;
/// Of the slices that are wanted, so many must have had a whole core, or others count too.
const ENOUGH_PART: u32 = 10;
const ENOUGH_LOSSLESS: u32 = 20;
const ENOUGH_LOSSY: u32 = 3;
const LONGEST_TRIAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_needs_twenty_slices_in_a_row_and_bears_two_losses() {
        for (losses, then, verdict) in [
            (&[][..], 19, None),
            (&[], 20, Some(true)),
            (&[0, 0, 7], 19, None),
            (&[1, 0, 7], 20, Some(true)),
            (&[1, 0, 7, 0, 0, 2], 0, Some(false)),
        ] {
            let mut trial = Trial::default();
            losses.iter().chain(&vec![0; then]).for_each(|lost| trial.note(*lost));
            assert_eq!(trial.verdict(), verdict, "{losses:?} {then}");
        }
    }

    #[test]
    fn silence_is_shorter_than_a_ring_lasts() {
        for mpps in [0.5, 5.0, 20.0] {
            let slicing = slicing_of(mpps);
            let micros_of_ring = 1024.0 / (mpps / 2.0);
            let together = slicing.own_silence + slicing.device_silence;
            assert!(slicing.slice.as_secs_f64() * 1e6 <= 64.1 * micros_of_ring, "{mpps}: {slicing:?}");
            assert!(together.as_secs_f64() * 1e6 < micros_of_ring, "{mpps}: {slicing:?}");
        }
    }
}
