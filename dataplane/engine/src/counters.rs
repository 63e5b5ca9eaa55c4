//! Counters: one writer each, read by the main thread at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use algate_alg::{Event, Events, ProtocolId};

use crate::drop_reason::DropReason;
use crate::pcp::message::ResultCode;

/// A counter with one writer. Readers see a value that was true a moment ago.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread calls this: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Drops by reason.
#[derive(Debug)]
#[repr(align(64))]
pub struct DropCounters {
    counts: Box<[Counter]>,
}

impl Default for DropCounters {
    fn default() -> Self {
        Self { counts: DropReason::ALL.iter().map(|_| Counter::default()).collect() }
    }
}

impl DropCounters {
    /// Counts one packet that died of `reason`.
    pub fn count(&self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `packets` packets that died of `reason`.
    pub fn add(&self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.counts.get(reason as usize) {
            counter.add(packets);
        }
    }

    /// Packets that died of `reason`.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.counts.get(reason as usize).map_or(0, Counter::value)
    }
}

/// What an ALG stage counts.
#[derive(Debug, Default)]
pub struct AlgCounters {
    protocols: [ProtocolCounters; ProtocolId::ALL.len()],
    /// Segments that the stream layer took.
    pub segments_in: Counter,
    /// Segments that it sent, and datagrams that ALGs added.
    pub segments_out: Counter,
}

impl AlgCounters {
    /// What is counted for `protocol`.
    #[must_use]
    pub fn of(&self, protocol: ProtocolId) -> &ProtocolCounters {
        let [first, ..] = &self.protocols;
        self.protocols.get(usize::from(protocol.number())).unwrap_or(first)
    }
}

/// What an ALG stage counts for one protocol.
#[derive(Debug, Default)]
pub struct ProtocolCounters {
    events: [Counter; Event::ALL.len()],
    /// Control sessions begun.
    pub flows: Counter,
    /// Messages that the ALG decided about.
    pub messages: Counter,
    /// Expectations made.
    pub expectations: Counter,
    /// Expectations refused because their port is a service's.
    pub service_ports: Counter,
    /// Panics of the ALG: each one message passed unread.
    pub panics: Counter,
    /// Control sessions no longer read because their sender made too much work.
    pub work_budget: Counter,
}

impl ProtocolCounters {
    /// Adds what an ALG counted.
    pub fn add(&self, events: &Events) {
        for (event, counter) in Event::ALL.iter().zip(&self.events) {
            match events.of(*event) {
                0 => {}
                n => counter.add(n),
            }
        }
    }

    /// How often `event` happened.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.events.get(event as usize).map_or(0, Counter::value)
    }
}

/// What port control counts.
#[derive(Debug, Default)]
pub struct PcpCounters {
    results: [Counter; ResultCode::ALL.len()],
    /// NAT-PMP requests answered.
    pub nat_pmp: Counter,
    /// Announcements of the epoch sent.
    pub announced: Counter,
}

impl PcpCounters {
    /// Counts a PCP request that was answered with `result`.
    pub fn count(&self, result: ResultCode) {
        if let Some(counter) = self.results.get(result as usize) {
            counter.add(1);
        }
    }

    /// How many PCP requests were answered with `result`.
    #[must_use]
    pub fn of(&self, result: ResultCode) -> u64 {
        self.results.get(result as usize).map_or(0, Counter::value)
    }
}

/// What one worker or ALG core counts.
///
/// Every frame received is in exactly one of `forwarded`, `arp`, `local`, the ALG stage's `segments_in`
/// and `drops`, added up over all threads: a packet that was handed over is counted by the flow's
/// owner, or still lies in its queue. What dies later, or was algate's own, is in `egress_drops`.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct WorkerCounters {
    /// Frames received.
    pub received: Counter,
    /// Packets translated and handed to a next hop.
    pub forwarded: Counter,
    /// ARP packets handled.
    pub arp: Counter,
    /// Packets to algate itself that were answered.
    pub local: Counter,
    /// "Fragmentation needed" for less than 552 bytes, which no link of today has: forwarded.
    pub icmp_small_mtu: Counter,
    /// ICMP errors that algate sent.
    pub icmp_sent: Counter,
    /// TCP resets with which algate answered rejected segments.
    pub resets_sent: Counter,
    /// Packets handed to the owner of their ALG flow, and fragments to that of their datagram.
    pub handed_over: Counter,
    /// Fragments that were put together, less the packets they became.
    pub fragments_merged: Counter,
    /// Packets that were cut because the outgoing MTU is smaller.
    pub packets_fragmented: Counter,
    /// Fragments that those became.
    pub fragments_made: Counter,
    /// Sessions made.
    pub sessions_created: Counter,
    /// Sessions and expectations that ended by time.
    pub aged: Counter,
    /// Received packets that died, by reason.
    pub drops: DropCounters,
    /// Frames that died on their way out, by reason: forwarded ones, and algate's own.
    pub egress_drops: DropCounters,
    /// Port control.
    pub pcp: PcpCounters,
    /// The ALG stage.
    pub alg: AlgCounters,
}
