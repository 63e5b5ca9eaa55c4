//! What the ALG stage tells the main thread: notices for the log, and changed messages for the audit.
//!
//! As with event records ([`crate::event::ring`]): bounded rings, one of each per thread, taken at start; a worker never
//! waits, formats or logs; what finds its ring full is counted and lost. A notice has no byte of any message in it
//! (credentials travel there); an [`Exchange`] has, masked, and is made only where the operator wants an audit. Exchanges
//! go round: the thread fills one, the main thread reads it and gives it back.

use algate_alg::{ProtocolId, Ruling, Verdict};
use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::ids::WorkerId;
use crate::nat::key::Endpoint;
use crate::table::slots::Handle;
use crate::time::Instant;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A rule has decided about a message: of its place in the configuration, and how.
    Rule {
        /// Its place in the configuration.
        rule: u16,
        /// How.
        ruling: Ruling,
    },
    /// A rule has hidden what an end tells of itself.
    Masked {
        /// Its place in the configuration.
        rule: u16,
    },
    /// The ALG panicked.
    Panicked,
    /// A control session is no longer read, because its ALG panicked again.
    FlowOff,
    /// A rewritten message would not have read back as meant, and was left as it came.
    RecheckFailed,
    /// A control session is no longer read, because its sender made too much work.
    WorkBudget,
    /// The ALG was switched off.
    AlgOff,
}

/// A line of the log to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
    /// Whose ALG.
    pub protocol: ProtocolId,
    /// The internal end of the control session.
    pub internal: Endpoint,
    /// The other end.
    pub peer: Endpoint,
}

/// A message that an ALG changed, or would have.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When.
    pub at: Instant,
    /// The control session.
    pub session: Handle,
    /// Its protocol.
    pub protocol: ProtocolId,
    /// Its internal end.
    pub internal: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// Whether the internal end sent the message.
    pub is_outbound: bool,
    /// What was decided.
    pub verdict: Verdict,
    /// Whether nothing was really done.
    pub is_shadow: bool,
    /// As it came: its first bytes, credentials masked.
    pub before: Vec<u8>,
    /// As it left, or what was sent back for it; empty: nothing.
    pub after: Vec<u8>,
}

/// The rings of all threads.
#[derive(Debug)]
pub struct Records {
    rings: Box<[Rings]>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct Rings {
    notices: ArrayQueue<Notice>,
    exchanges: ArrayQueue<Box<Exchange>>,
    /// Those that are not in use.
    spare: ArrayQueue<Box<Exchange>>,
    lost: Counter,
}

impl Records {
    /// Rings for `threads` threads, which keep `kept_bytes` of a message; 0: no exchanges at all. An exchange takes twice
    /// as many, and all of a thread [`EXCHANGE_BYTES`] at most.
    #[must_use]
    pub fn new(threads: usize, kept_bytes: usize) -> Self {
        let count = match kept_bytes {
            0 => 0,
            _ => (EXCHANGE_BYTES / (2 * kept_bytes)).clamp(1, EXCHANGES),
        };
        let rings = || {
            let spare = ArrayQueue::new(count.max(1));
            // There is room for each.
            (0..count).for_each(|_| drop(spare.push(Box::new(Exchange::empty(kept_bytes)))));
            Rings {
                notices: ArrayQueue::new(NOTICES),
                exchanges: ArrayQueue::new(count.max(1)),
                spare,
                lost: Counter::default(),
            }
        };
        Self { rings: (0..threads).map(|_| rings()).collect(), kept_bytes }
    }

    /// Whether changed messages are wanted.
    #[must_use]
    pub fn keeps_exchanges(&self) -> bool {
        self.kept_bytes > 0
    }

    /// Leaves a notice of `thread`.
    pub(super) fn note(&self, thread: WorkerId, notice: Notice) {
        if let Some(rings) = self.rings.get(usize::from(thread.0))
            && rings.notices.push(notice).is_err()
        {
            rings.lost.add(1);
        }
    }

    /// Leaves a changed message of `thread`, which `fill` writes.
    pub(super) fn keep(&self, thread: WorkerId, fill: impl FnOnce(&mut Exchange)) {
        let Some(rings) = self.rings.get(usize::from(thread.0)) else { return };
        let Some(mut exchange) = rings.spare.pop() else { return rings.lost.add(1) };
        fill(&mut exchange);
        // There is room for all that there are.
        if rings.exchanges.push(exchange).is_err() {
            rings.lost.add(1);
        }
    }

    /// Takes what waits, at most a round of full rings; called by one thread.
    pub fn drain(&self, mut notice: impl FnMut(Notice), mut exchange: impl FnMut(&Exchange)) {
        for rings in &self.rings {
            std::iter::from_fn(|| rings.notices.pop()).take(NOTICES).for_each(&mut notice);
            for one in std::iter::from_fn(|| rings.exchanges.pop()).take(EXCHANGES) {
                exchange(&one);
                // There is room for all that there are.
                drop(rings.spare.push(one));
            }
        }
    }

    /// Those that found their ring full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(|rings| rings.lost.value()).sum()
    }
}

impl Exchange {
    /// Room for `kept_bytes` of each message.
    fn empty(kept_bytes: usize) -> Self {
        let nowhere = Endpoint::new(0, 0);
        Self {
            at: Instant::default(),
            session: Handle { index: 0, generation: 0 },
            protocol: ProtocolId::Ftp,
            internal: nowhere,
            peer: nowhere,
            is_outbound: false,
            verdict: Verdict::Pass,
            is_shadow: false,
            before: Vec::with_capacity(kept_bytes),
            after: Vec::with_capacity(kept_bytes),
        }
    }

    /// The direction in which the message went, as operators say it.
    #[must_use]
    pub const fn direction_text(&self) -> &'static str {
        if self.is_outbound { "outbound" } else { "inbound" }
    }
}

const NOTICES: usize = 1_024;
/// Of a thread at most.
const EXCHANGES: usize = 256;
/// What they take at most, but one always fits.
const EXCHANGE_BYTES: usize = 2 * 1024 * 1024;
