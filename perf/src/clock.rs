//! Time in ticks of the time stamp counter (TSC), which costs a few nanoseconds to read.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Ticks since some fixed point. Where there is no TSC, a tick is a nanosecond.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction, and no operating system in use forbids it.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static ZERO: OnceLock<Instant> = OnceLock::new();
        ZERO.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Ticks per nanosecond, measured over 50 ms at the first call.
#[must_use]
pub fn ticks_per_nano() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, start_ticks) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_millis(50) {}
        (ticks() - start_ticks) as f64 / start.elapsed().as_nanos() as f64
    })
}
