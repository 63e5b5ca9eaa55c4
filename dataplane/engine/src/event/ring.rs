//! One bounded ring of records per thread: its owner writes, the main thread reads, nobody waits.
//!
//! All memory is taken at start. When a ring is full the newest record is lost and counted: what is in it
//! already is the older part of a story and makes sense without its end.

use std::sync::Arc;

use algate_config::Config;
use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::event::{Record, Selection};
use crate::ids::WorkerId;
use crate::time::Instant;

/// The rings of all threads.
#[derive(Debug)]
pub struct Events {
    rings: Box<[Arc<Ring>]>,
    selection: Selection,
}

#[derive(Debug)]
struct Ring {
    records: ArrayQueue<Record>,
    recorded: Counter,
    lost: Counter,
}

/// The end of a ring that its thread writes to.
#[derive(Debug)]
pub struct Recorder {
    ring: Arc<Ring>,
    /// What is wanted.
    pub selection: Selection,
    now: Instant,
}

impl Events {
    /// Empty rings for `threads` threads.
    #[must_use]
    pub fn new(config: &Config, threads: usize) -> Self {
        let ring = || Ring {
            records: ArrayQueue::new(config.events.ring_records.max(1)),
            recorded: Counter::default(),
            lost: Counter::default(),
        };
        Self { rings: (0..threads).map(|_| Arc::new(ring())).collect(), selection: Selection::new(config) }
    }

    /// The writing end of a thread's ring, for that thread alone. `None`: there is no such thread.
    #[must_use]
    pub fn recorder(&self, id: WorkerId) -> Option<Recorder> {
        let ring = Arc::clone(self.rings.get(usize::from(id.0))?);
        Some(Recorder { ring, selection: self.selection, now: Instant::default() })
    }

    /// Moves what waits in all rings to the end of `records`, in the order of time; called by one thread.
    /// At most as many as one round of full rings, so that it ends.
    pub fn drain(&self, records: &mut Vec<Record>) {
        let before = records.len();
        for ring in &self.rings {
            let waiting = std::iter::from_fn(|| ring.records.pop());
            records.extend(waiting.take(ring.records.capacity()));
        }
        // Stable: what one thread recorded in one burst keeps its order.
        records.get_mut(before..).unwrap_or_default().sort_by_key(|record| record.at);
    }

    /// Records written, of all threads.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.rings.iter().map(|ring| ring.recorded.value()).sum()
    }

    /// Records that found the ring of thread `id` full.
    #[must_use]
    pub fn lost_by(&self, id: WorkerId) -> u64 {
        self.rings.get(usize::from(id.0)).map_or(0, |ring| ring.lost.value())
    }

    /// The same, of all threads.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(|ring| ring.lost.value()).sum()
    }
}

impl Recorder {
    /// Begins a burst: its records bear this time.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        self.now = now;
    }

    /// When the burst began.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Writes a record, or counts its loss.
    pub fn record(&mut self, record: Record) {
        match self.ring.records.push(Record { at: self.now, ..record }) {
            Ok(()) => self.ring.recorded.add(1),
            Err(_) => self.ring.lost.add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use algate_config::Machine;

    use super::*;
    use crate::event::Kind;

    fn events(threads: usize, ring_records: usize) -> Events {
        let text = "nic_port = [{ name = \"n\", device = { driver = \"null\" } }]\n\
                    interface = [{ name = \"l\", nic_port = \"n\", side = \"internal\", addresses = [\"10.0.0.1/24\"] }]";
        let mut config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
        config.events.ring_records = ring_records;
        Events::new(&config, threads)
    }

    fn numbered(number: u32) -> Record {
        let mut record = Record::of(Kind::SessionCreated);
        record.internal.address = number;
        record
    }

    #[test]
    fn a_full_ring_loses_the_newest_and_counts_them() {
        let events = events(2, 4);
        let mut recorder = events.recorder(WorkerId(1)).expect("there are two threads");
        (0..10).for_each(|number| recorder.record(numbered(number)));
        assert_eq!((events.recorded(), events.lost(), events.lost_by(WorkerId(0))), (4, 6, 0));
        let mut drained = Vec::new();
        events.drain(&mut drained);
        assert_eq!(drained.iter().map(|record| record.internal.address).collect::<Vec<_>>(), [0, 1, 2, 3]);
        recorder.record(numbered(10));
        events.drain(&mut drained);
        assert_eq!((drained.len(), events.lost_by(WorkerId(1))), (5, 6));
    }

    #[test]
    fn records_of_several_threads_come_out_in_the_order_of_time() {
        let events = events(2, 8);
        for (id, times) in [(0, [1, 1, 4]), (1, [0, 2, 3])] {
            let mut recorder = events.recorder(WorkerId(id)).expect("there are two threads");
            for (number, time) in (0..).zip(times) {
                recorder.begin(Instant::from_nanos(time));
                recorder.record(numbered(u32::from(id) * 10 + number));
            }
        }
        let mut drained = Vec::new();
        events.drain(&mut drained);
        let order: Vec<u32> = drained.iter().map(|record| record.internal.address).collect();
        assert_eq!(order, [10, 0, 1, 11, 12, 2]);
    }

    #[test]
    fn a_reader_beside_the_writer_gets_each_record_once_or_knows_it_is_lost() {
        let events = events(1, 64);
        let mut recorder = events.recorder(WorkerId(0)).expect("there is a thread");
        let mut drained = Vec::new();
        thread::scope(|scope| {
            let writer =
                scope.spawn(move || (0..100_000).for_each(|number| recorder.record(numbered(number))));
            while !writer.is_finished() {
                events.drain(&mut drained);
            }
        });
        events.drain(&mut drained);
        let numbers: Vec<u32> = drained.iter().map(|record| record.internal.address).collect();
        assert!(numbers.is_sorted());
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
        assert_eq!(numbers.len() as u64, events.recorded());
        assert_eq!(events.recorded() + events.lost(), 100_000);
    }
}
