//! The datagrams of which fragments have come: chained buckets under a keyed hash, and a list by age.
//!
//! All datagrams live equally long, so the order in which they began is the order in which they expire.

use crate::fragment::extents::Extents;
use crate::fragment::kept::List;
use crate::fragment::piece::DatagramKey;
use crate::fragment::{NONE, State};
use crate::time::Instant;

/// One datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) key: DatagramKey,
    pub(super) state: State,
    pub(super) expires: Instant,
    pub(super) extents: Extents,
    /// Its kept fragments.
    pub(super) kept: List,
    /// How many those are.
    pub(super) kept_count: u16,
    /// Where its source is counted.
    pub(super) source: u32,
    bucket: u32,
    /// The next one in the bucket.
    next: u32,
    older: u32,
    newer: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Datagrams {
    records: Box<[Option<Datagram>]>,
    /// Free records; all taken at start.
    free: Vec<u32>,
    buckets: Box<[u32]>,
    oldest: u32,
    newest: u32,
}

impl Datagrams {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(NONE - 1);
        let buckets = (capacity as usize).next_power_of_two() * 2;
        Self {
            records: (0..capacity).map(|_| None).collect(),
            free: (0..capacity).rev().collect(),
            buckets: vec![NONE; buckets].into(),
            oldest: NONE,
            newest: NONE,
        }
    }

    pub(super) fn in_use(&self) -> usize {
        self.records.len() - self.free.len()
    }

    pub(super) fn get(&self, at: u32) -> Option<&Datagram> {
        self.records.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Datagram> {
        self.records.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn find(&self, hash: u64, key: DatagramKey) -> Option<u32> {
        let mut at = *self.buckets.get(self.bucket(hash) as usize)?;
        while let Some(datagram) = self.get(at) {
            if datagram.key == key {
                return Some(at);
            }
            at = datagram.next;
        }
        None
    }

    /// The datagram that began first.
    pub(super) fn oldest(&self) -> Option<(u32, &Datagram)> {
        self.get(self.oldest).map(|datagram| (self.oldest, datagram))
    }

    /// Begins a datagram that is not in the table yet. `None`: the table is full.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: DatagramKey,
        source: u32,
        expires: Instant,
    ) -> Option<u32> {
        let at = self.free.pop()?;
        let bucket = self.bucket(hash);
        let head = self.buckets.get_mut(bucket as usize)?;
        let datagram = Datagram {
            key,
            state: State::Waiting,
            expires,
            extents: Extents::EMPTY,
            kept: List::EMPTY,
            kept_count: 0,
            source,
            bucket,
            next: *head,
            older: self.newest,
            newer: NONE,
        };
        *head = at;
        *self.records.get_mut(at as usize)? = Some(datagram);
        match self.get_mut(self.newest) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        Some(at)
    }

    /// Takes a datagram out, whose kept fragments the caller has taken out before.
    pub(super) fn remove(&mut self, at: u32) {
        let Some(datagram) = self.records.get_mut(at as usize).and_then(Option::take) else { return };
        match self.get_mut(datagram.older) {
            Some(older) => older.newer = datagram.newer,
            None => self.oldest = datagram.newer,
        }
        match self.get_mut(datagram.newer) {
            Some(newer) => newer.older = datagram.older,
            None => self.newest = datagram.older,
        }
        self.unchain(&datagram, at);
        self.free.push(at);
    }

    fn unchain(&mut self, gone: &Datagram, at: u32) {
        let Some(head) = self.buckets.get_mut(gone.bucket as usize) else { return };
        if *head == at {
            *head = gone.next;
            return;
        }
        let mut before = *head;
        while let Some(datagram) = self.get_mut(before) {
            if datagram.next == at {
                datagram.next = gone.next;
                return;
            }
            before = datagram.next;
        }
    }

    fn bucket(&self, hash: u64) -> u32 {
        // As many as a power of two below 2^32.
        (hash & (self.buckets.len() as u64 - 1)) as u32
    }
}
