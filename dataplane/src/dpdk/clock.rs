//! The engine's clock over the time stamp counter (TSC).
//!
//! The EAL measures the TSC's rate at start; an invariant TSC (any x86-64 server since 2008) runs at
//! the same rate on all cores, so that one `Clock`, copied to each thread, gives one time.

use algate_engine::time::Instant;

/// Turns TSC ticks into [`Instant`]s. Zero is the moment of its creation.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start_ticks: u64,
    /// Nanoseconds per tick, scaled by 2^32.
    scale: u128,
}

impl Clock {
    /// A clock that starts now. Needs a started EAL, which calibrates the TSC.
    #[must_use]
    pub fn start(_eal: &super::eal::Eal) -> Self {
        // SAFETY: no precondition beyond a started EAL, which `_eal` proves.
        let ticks_per_second = unsafe { dpdk_sys::rte_get_tsc_hz() };
        let scale = (1_000_000_000_u128 << 32) / u128::from(ticks_per_second.max(1));
        Self { start_ticks: ticks(), scale }
    }

    /// The time. Read once per burst.
    #[must_use]
    pub fn now(&self) -> Instant {
        // A core whose counter lags by a few ticks must not see a time before zero.
        let elapsed = u128::from(ticks().saturating_sub(self.start_ticks));
        Instant::from_nanos(u64::try_from((elapsed * self.scale) >> 32).unwrap_or(u64::MAX))
    }
}

fn ticks() -> u64 {
    // SAFETY: reads a register; no precondition.
    unsafe { dpdk_sys::shim_rte_rdtsc() }
}
