//! Time cut into slots, and which of them count.
//!
//! A slot counts when neither side lost its core in it, and when the device's core was whole around it: each
//! is measured by itself. A side has lost its core when it did nothing for longer than it ever needs for a turn. The
//! device's core is read every ten milliseconds ([`CoreWatch`]); the slots between two readings have a
//! whole core when both readings say so. The slot in which a reading falls is left out.
//!
//! Where too few slots had a whole core, all undisturbed ones are taken, and [`Slots::is_whole`] says so.

use std::time::Duration;

use crate::clock::ticks_per_nano;
use crate::core_watch::{CoreWatch, Reading};
use crate::generator::measure::CoreShare;
use crate::sample::Samples;

/// How long a slot is, and how long a side may be silent in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub slot: Duration,
    /// No turn of the generator takes that long by itself.
    pub own_silence: Duration,
    /// Nor does one of the device.
    pub device_silence: Duration,
}

/// Packets of flows that are open.
pub(super) const OF_HITS: Measure = Measure {
    slot: Duration::from_millis(1),
    own_silence: Duration::from_micros(150),
    device_silence: Duration::from_micros(150),
};

/// First packets: a burst of 128 takes a device 100 us and more, and half a core twice that.
pub(super) const OF_FIRST_PACKETS: Measure = Measure {
    slot: Duration::from_millis(1),
    own_silence: Duration::from_micros(150),
    device_silence: Duration::from_micros(700),
};

/// See the module.
#[derive(Debug)]
pub(super) struct Slots {
    slot_ticks: u64,
    own_silence: u64,
    device_silence: u64,
    reading_ticks: u64,
    now: u64,
    /// The slot at hand: when it began, what had been done, and how long there had been nothing to do.
    start: u64,
    done: u64,
    idle: u64,
    is_disturbed: bool,
    /// Undisturbed slots since the last reading.
    pending: Vec<Slot>,
    last_reading: Option<Reading>,
    next_reading: u64,
    shares: Samples,
    whole: Tally,
    shared: Tally,
    disturbed: u64,
    /// Whole slots that are enough.
    enough: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: u64,
    end: u64,
    done: u64,
    idle: u64,
}

/// What slots of a kind say together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Ticks for each thing done.
    pub samples: Samples,
    ticks: u64,
    idle: u64,
}

impl Tally {
    fn add(&mut self, slot: Slot) {
        let ticks = slot.end - slot.start;
        self.samples.push(ticks, slot.done);
        self.ticks += ticks;
        self.idle += slot.idle;
    }

    /// Share of the time in which there was nothing to do.
    pub(super) fn idle_share(&self) -> f64 {
        self.idle as f64 / (self.ticks as f64).max(1.0)
    }
}

impl Slots {
    /// From `now` on, when so much had been done and the generator had been idle for so long. `enough` slots with a whole core are
    /// enough.
    pub(super) fn new(measure: Measure, enough: usize, (now, done, idle): (u64, u64, u64)) -> Self {
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * ticks_per_nano()) as u64;
        Self {
            slot_ticks: ticks_of(measure.slot),
            own_silence: ticks_of(measure.own_silence),
            device_silence: ticks_of(measure.device_silence),
            reading_ticks: ticks_of(READ_EVERY),
            now,
            start: now,
            done,
            idle,
            is_disturbed: false,
            pending: Vec::with_capacity(PENDING),
            last_reading: None,
            next_reading: now,
            shares: Samples::default(),
            whole: Tally::default(),
            shared: Tally::default(),
            disturbed: 0,
            enough,
        }
    }

    /// After a turn: something came last at `last_progress`; until now so much was done, and was there nothing to do.
    #[inline]
    pub(super) fn note(&mut self, now: u64, last_progress: u64, done: u64, idle: u64, watch: &mut CoreWatch) {
        self.is_disturbed |=
            now - self.now > self.own_silence || now.saturating_sub(last_progress) > self.device_silence;
        self.now = now;
        if now - self.start >= self.slot_ticks {
            self.end_slot(now, done, idle);
            if let Some(reading) = watch.answer() {
                self.sort(reading);
            }
            if now >= self.next_reading {
                self.next_reading = now + self.reading_ticks;
                watch.ask();
            }
        }
    }

    fn end_slot(&mut self, now: u64, done: u64, idle: u64) {
        if self.is_disturbed || done == self.done {
            self.disturbed += 1;
        } else {
            let (done, idle) = (done - self.done, idle - self.idle);
            self.pending.push(Slot { start: self.start, end: now, done, idle });
        }
        (self.start, self.done, self.idle, self.is_disturbed) = (now, done, idle, false);
    }

    /// The slots between the last reading and this one have a whole core when both say so.
    fn sort(&mut self, reading: Reading) {
        let is_whole = reading.is_whole() && self.last_reading.is_none_or(Reading::is_whole);
        self.shares.add(reading.share());
        self.last_reading = Some(reading);
        let tally = if is_whole { &mut self.whole } else { &mut self.shared };
        self.pending.retain(|slot| {
            let is_before = slot.end <= reading.begin;
            if is_before {
                tally.add(*slot);
            }
            // What the reading took time from is dropped; what came later waits for the next one.
            !is_before && slot.start >= reading.end
        });
    }

    /// A last reading for those that wait for one.
    pub(super) fn end(&mut self, watch: &mut CoreWatch) {
        for _ in 0..2 {
            // The first may have been asked for long ago.
            if let Some(reading) = watch.read() {
                self.sort(reading);
            }
        }
    }

    /// Whether enough slots had a whole core.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.samples.count() >= self.enough
    }

    /// Undisturbed slots, however the core was.
    pub(super) fn undisturbed(&self) -> usize {
        self.whole.samples.count() + self.shared.samples.count()
    }

    /// All slots yet, those that wait for a reading included.
    pub(super) fn count(&self) -> usize {
        self.undisturbed() + self.pending.len() + self.disturbed as usize
    }

    /// What the slots that count say together, and what the core was like.
    pub(super) fn into_tally(self) -> (Tally, CoreShare) {
        let (undisturbed, is_whole) = (self.undisturbed(), self.is_whole());
        let clean_slots = undisturbed as f64 / (undisturbed as f64 + self.disturbed as f64).max(1.0);
        let core = CoreShare {
            is_whole,
            share: self.shares.quantile(0.5),
            whole_slots: self.whole.samples.count() as f64 / (undisturbed as f64).max(1.0),
            clean_slots,
        };
        let Self { mut whole, shared, .. } = self;
        if !is_whole {
            whole.samples.append(shared.samples);
            whole.ticks += shared.ticks;
            whole.idle += shared.idle;
        }
        (whole, core)
    }
}

const READ_EVERY: Duration = Duration::from_millis(10);
/// Slots that wait for a reading, unless it takes long.
const PENDING: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::new(OF_HITS, 2, (0, 0, 0));
        (slots.slot_ticks, slots.own_silence, slots.device_silence) = (1000, 150, 150);
        slots
    }

    fn reading(begin: u64, share: f64) -> Reading {
        Reading { begin, end: begin + 50, adds_per_cycle: share * Reading::best(), hop_nanos: 0.0 }
    }

    /// So many quiet slots of ten ticks a packet, from `start` on.
    fn quiet(slots: &mut Slots, start: u64, count: u64) {
        for now in (start + 100..=start + count * 1000).step_by(100) {
            slots.is_disturbed |= now - slots.now > slots.own_silence;
            slots.now = now;
            if now - slots.start >= slots.slot_ticks {
                slots.end_slot(now, now / 10, now / 4);
            }
        }
    }

    #[test]
    fn a_slot_in_which_a_core_was_lost_does_not_count() {
        let mut watch = CoreWatch::of(core_affinity::CoreId { id: 0 });
        let mut slots = slots();
        slots.next_reading = u64::MAX;
        let mut done = 0;
        // Two quiet slots at 10 ticks each, one of which the generator slept, one of which the device did.
        for now in (100..=2000).step_by(100) {
            done += 10;
            slots.note(now, now, done, now / 4, &mut watch);
        }
        slots.note(2900, 2900, done + 1, 500, &mut watch);
        slots.note(3000, 3000, done + 2, 500, &mut watch);
        for now in (3100..=4000).step_by(100) {
            slots.note(now, 3000, done + 3, 500, &mut watch);
        }
        slots.sort(reading(4000, 1.0));
        assert_eq!((slots.undisturbed(), slots.disturbed), (2, 2));
        let (tally, core) = slots.into_tally();
        assert_eq!((tally.samples.quantile(1.0), tally.idle_share()), (10.0, 0.25));
        assert_eq!((core.is_whole, core.clean_slots, core.whole_slots), (true, 0.5, 1.0));
    }

    #[test]
    fn slots_count_between_two_readings_of_a_whole_core() {
        for (shares, whole, shared, is_whole) in [
            ([1.0, 1.0, 1.0], 7, 0, true),
            ([1.0, 0.95, 0.5], 4, 3, true),
            ([1.0, 0.5, 1.0], 0, 7, false),
            ([0.5, 0.5, 0.5], 0, 7, false),
        ] {
            let mut slots = slots();
            slots.sort(reading(0, shares[0]));
            quiet(&mut slots, 0, 5);
            // In the fifth slot, which is dropped.
            slots.sort(reading(4500, shares[1]));
            quiet(&mut slots, 5000, 3);
            slots.sort(reading(8000, shares[2]));
            let counts = (slots.whole.samples.count(), slots.shared.samples.count());
            assert_eq!((counts, slots.is_whole()), ((whole, shared), is_whole), "{shares:?}");
            let (tally, core) = slots.into_tally();
            let counted = if is_whole { whole } else { 7 };
            assert_eq!(tally.samples.count(), counted, "{shares:?}");
            assert_eq!(core.clean_slots, 1.0);
        }
    }
}
