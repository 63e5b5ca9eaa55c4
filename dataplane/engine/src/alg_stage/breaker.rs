//! The circuit breaker: an ALG that fails again and again is switched off, and forwarding goes on without it.
//!
//! ```text
//! a panic                          one message passes unread
//! PANICS_PER_FLOW in one session   that session is no longer read
//! PANICS in PERIOD in one ALG      no session is read by it until algate is started anew
//! ```
//!
//! A session whose sender makes its ALG look at the same bytes again and again (one byte a segment of a message that
//! never ends) has used up its budget of work and is no longer read, either. That never counts against the ALG as a whole:
//! else one sender could switch it off for all.
//!
//! What a failing ALG does not read, no rule judges.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use algate_alg::ProtocolId;

use crate::time::Instant;

/// Panics of one ALG within [`PERIOD`] that switch it off.
pub const PANICS: usize = 3;
/// In which [`PANICS`] count.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Panics in one control session after which it is no longer read.
pub const PANICS_PER_FLOW: u8 = 2;
/// Bytes that an ALG may look at before it decides about one: a line of 4 KiB in segments of one byte takes 8 MiB.
pub const SCANNED_BYTES: usize = 16 * 1024 * 1024;

/// The switches of all ALGs.
#[derive(Debug, Default)]
pub struct Breaker {
    switches: [Switch; ProtocolId::ALL.len()],
}

#[derive(Debug, Default)]
struct Switch {
    is_off: AtomicBool,
    /// When the last panics were but the one that is being counted: nanoseconds, 0 for never.
    times: [AtomicU64; PANICS - 1],
    next: AtomicUsize,
}

impl Breaker {
    /// Whether the ALG of `protocol` was switched off.
    #[must_use]
    pub fn is_off(&self, protocol: ProtocolId) -> bool {
        // Relaxed: nothing is read because of it.
        self.switches
            .get(usize::from(protocol.number()))
            .is_some_and(|switch| switch.is_off.load(Ordering::Relaxed))
    }

    /// Counts a panic. Returns whether that switched the ALG off.
    pub fn panicked(&self, protocol: ProtocolId, now: Instant) -> bool {
        let Some(switch) = self.switches.get(usize::from(protocol.number())) else { return false };
        // Threads that panic at the same moment may miscount by one.
        let place = switch.next.fetch_add(1, Ordering::Relaxed) % (PANICS - 1);
        let Some(time) = switch.times.get(place) else { return false };
        let oldest = time.swap(now.as_nanos().max(1), Ordering::Relaxed);
        let is_too_often = oldest != 0 && now < Instant::from_nanos(oldest).plus(PERIOD);
        is_too_often && !switch.is_off.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_04_three_panics_in_a_minute_switch_one_alg_off() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let breaker = Breaker::default();
        let (ftp, sip) = (ProtocolId::Ftp, ProtocolId::Sip);
        let panics = [1, 31, 61, 91, 119].map(|seconds| breaker.panicked(ftp, at(seconds)));
        assert_eq!(panics, [false, false, false, false, true], "the third within a minute");
        assert_eq!((breaker.is_off(ftp), breaker.is_off(sip)), (true, false));
        assert!(!breaker.panicked(ftp, at(120)), "it is off already");
    }
}
