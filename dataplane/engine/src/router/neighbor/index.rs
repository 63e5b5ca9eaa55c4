//! From keys to slots: open addressing with linear probing, at most half full.
//!
//! Readers take no lock; insertion and removal are the lock holder's. Removal moves later entries of a
//! run up, so a reader beside it may miss an entry that is there, but never finds one that is not:
//! whoever finds a slot compares the key.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::DefaultHashBuilder;

/// Slot numbers by key.
#[derive(Debug)]
pub(super) struct Index {
    /// A slot's number plus one, 0 where free. The length is a power of two.
    places: Box<[AtomicU32]>,
    /// Seeded at start: hosts choose their addresses, not their places.
    hasher: DefaultHashBuilder,
}

impl Index {
    /// An empty index for `capacity` slots.
    pub(super) fn new(capacity: usize) -> Self {
        let places = (capacity * 2).next_power_of_two();
        Self {
            places: (0..places).map(|_| AtomicU32::new(0)).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The first slot on the way from `key` that `accept` takes.
    pub(super) fn find<T>(&self, key: u64, accept: impl Fn(usize) -> Option<T>) -> Option<T> {
        let mut place = self.home(key);
        for _ in 0..self.places.len() {
            // Pairs with the Release in `set`.
            let number = self.places.get(place)?.load(Ordering::Acquire) as usize;
            let found = accept(number.checked_sub(1)?);
            if found.is_some() {
                return found;
            }
            place = self.after(place);
        }
        None
    }

    /// Puts `slot` under `key`.
    pub(super) fn insert(&self, key: u64, slot: usize) {
        let mut place = self.home(key);
        for _ in 0..self.places.len() {
            if self.at(place) == 0 {
                return self.set(place, slot as u32 + 1);
            }
            place = self.after(place);
        }
    }

    /// Takes `slot` out from under `key`. `key_of`: the key of any slot in the index.
    pub(super) fn remove(&self, key: u64, slot: usize, key_of: impl Fn(usize) -> Option<u64>) {
        let mut hole = self.home(key);
        for _ in 0..self.places.len() {
            if self.at(hole) == slot as u32 + 1 {
                self.close_hole(hole, key_of);
                return;
            }
            hole = self.after(hole);
        }
    }

    /// Frees the place `hole` and moves up what a probe would no longer reach.
    fn close_hole(&self, mut hole: usize, key_of: impl Fn(usize) -> Option<u64>) {
        let mask = self.places.len() - 1;
        let mut place = hole;
        for _ in 0..self.places.len() {
            place = self.after(place);
            let number = self.at(place);
            let Some(home) = (number as usize).checked_sub(1).and_then(&key_of).map(|key| self.home(key))
            else {
                break;
            };
            // It may move up only when its home does not lie between the hole and where it is.
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(hole) & mask) {
                self.set(hole, number);
                hole = place;
            }
        }
        self.set(hole, 0);
    }

    fn at(&self, place: usize) -> u32 {
        self.places.get(place).map_or(0, |number| number.load(Ordering::Relaxed))
    }

    fn set(&self, place: usize, number: u32) {
        if let Some(to) = self.places.get(place) {
            // Pairs with the Acquire in `find`: who sees the slot sees what was written into it before.
            to.store(number, Ordering::Release);
        }
    }

    fn home(&self, key: u64) -> usize {
        self.hasher.hash_one(key) as usize & (self.places.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }
}
