//! What the ALG stage tells the main thread: notices for the log, and changed messages for the audit.
//!
//! As with event records ([`crate::event::ring`]): bounded rings, one of each per thread, taken at start; a worker never
//! waits, formats or logs; what finds its ring full is counted and lost. A notice has no byte of any message in it
//! (credentials travel there); an [`Exchange`] has, masked, and is made only where the operator wants an audit.

use algate_alg::{ProtocolId, Ruling, Verdict};
use crossbeam::queue::ArrayQueue;

use crate::counters::Counter;
use crate::ids::WorkerId;
use crate::nat::key::Endpoint;
use crate::table::slots::Handle;
use crate::time::Instant;

/// Bytes that are kept of a message.
pub const KEPT_BYTES: usize = 256;

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

/// The head of a message.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// The first [`Kept::length`] are its bytes, credentials masked.
    pub bytes: [u8; KEPT_BYTES],
    /// How many are kept.
    pub length: usize,
}

impl Kept {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A message that an ALG changed, or would have.
#[derive(Debug, Clone, Copy)]
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
    /// As it came.
    pub before: Kept,
    /// As it left, or what was sent back for it; empty: nothing.
    pub after: Kept,
}

/// The rings of all threads.
#[derive(Debug)]
pub struct Records {
    rings: Box<[Rings]>,
    keeps_exchanges: bool,
}

#[derive(Debug)]
struct Rings {
    notices: ArrayQueue<Notice>,
    exchanges: ArrayQueue<Exchange>,
    lost: Counter,
}

impl Records {
    /// Rings for `threads` threads.
    #[must_use]
    pub fn new(threads: usize, keeps_exchanges: bool) -> Self {
        let rings = || Rings {
            notices: ArrayQueue::new(NOTICES),
            exchanges: ArrayQueue::new(if keeps_exchanges { EXCHANGES } else { 1 }),
            lost: Counter::default(),
        };
        Self { rings: (0..threads).map(|_| rings()).collect(), keeps_exchanges }
    }

    /// Whether changed messages are wanted.
    #[must_use]
    pub fn keeps_exchanges(&self) -> bool {
        self.keeps_exchanges
    }

    /// Leaves a notice of `thread`.
    pub(super) fn note(&self, thread: WorkerId, notice: Notice) {
        if let Some(rings) = self.rings.get(usize::from(thread.0))
            && rings.notices.push(notice).is_err()
        {
            rings.lost.add(1);
        }
    }

    /// Leaves a changed message of `thread`.
    pub(super) fn keep(&self, thread: WorkerId, exchange: Exchange) {
        if let Some(rings) = self.rings.get(usize::from(thread.0))
            && rings.exchanges.push(exchange).is_err()
        {
            rings.lost.add(1);
        }
    }

    /// Takes what waits, at most a round of full rings; called by one thread.
    pub fn drain(&self, mut notice: impl FnMut(Notice), mut exchange: impl FnMut(Exchange)) {
        for rings in &self.rings {
            std::iter::from_fn(|| rings.notices.pop()).take(NOTICES).for_each(&mut notice);
            std::iter::from_fn(|| rings.exchanges.pop()).take(EXCHANGES).for_each(&mut exchange);
        }
    }

    /// Those that found their ring full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(|rings| rings.lost.value()).sum()
    }
}

impl Exchange {
    /// The direction in which the message went, as operators say it.
    #[must_use]
    pub const fn direction_text(&self) -> &'static str {
        if self.is_outbound { "outbound" } else { "inbound" }
    }
}

const NOTICES: usize = 1_024;
const EXCHANGES: usize = 256;
