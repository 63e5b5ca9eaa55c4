//! The pool of packet buffers, one for all ports and threads.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::rte_mempool;

use super::eal::Eal;
use super::mbuf::Mbuf;
use super::memory::MemoryPlan;
use super::{error_text, last_errno};
use crate::setup_error::SetupError;

/// A mempool of mbufs.
#[derive(Debug)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    mbufs: u32,
    eal: Arc<Eal>,
}

// SAFETY: a mempool's get and put are thread-safe (its ring is multi-producer, multi-consumer, its
// caches belong to one lcore each); it is freed by the last owner of the `Arc` only.
unsafe impl Send for Mempool {}
// SAFETY: see `Send`; `&Mempool` gives no other access.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Allocates the pool that `eal` was started for.
    ///
    /// # Errors
    /// When the EAL's memory does not suffice.
    pub fn new(eal: &Arc<Eal>) -> Result<Self, SetupError> {
        let MemoryPlan { mbufs, data_room_bytes, .. } = *eal.memory();
        // A cache larger than two thirds of the pool is refused; a small pool (in tests) has none.
        let cache = if mbufs >= 4 * CACHE_MBUFS { CACHE_MBUFS } else { 0 };
        // SAFETY: the EAL is started (`eal`); `NAME` is a C string, which DPDK copies; any size may be
        // asked for, failure is a null pointer.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(NAME.as_ptr(), mbufs, cache, 0, data_room_bytes, ANY_SOCKET)
        };
        let Some(pool) = NonNull::new(pool) else {
            return Err(SetupError::new(format!(
                "{mbufs} packet buffers of {data_room_bytes} bytes cannot be allocated ({}): \
                 lower tables.mbufs, or give the machine more (huge)pages",
                error_text(last_errno())
            )));
        };
        Ok(Self { pool, mbufs, eal: Arc::clone(eal) })
    }

    /// An empty buffer of one segment with headroom; `None` when the pool is exhausted.
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive (`self`) and thread-safe.
        let mbuf = NonNull::new(unsafe { dpdk_sys::shim_rte_pktmbuf_alloc(self.pool.as_ptr()) })?;
        // SAFETY: fresh from the pool, with one reference, which is handed over here.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Buffers that are not in the pool: held by threads, drivers and queues.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is alive; the count is a snapshot, taken without stopping anyone.
        let available = unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) };
        self.mbufs.saturating_sub(available)
    }

    /// The EAL it belongs to.
    #[must_use]
    pub fn eal(&self) -> &Arc<Eal> {
        &self.eal
    }

    /// For queue set-up, which stores the pointer: the caller keeps `self` alive as long as the queue.
    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        let missing = self.in_use();
        if missing > 0 {
            log::warn!("mempool kept mbufs={missing} reason=\"still held, not returned\"");
            self.eal.keep_memory();
            return;
        }
        // SAFETY: all buffers are back, the ports that used the pool are closed (they hold an `Arc`
        // of it), and nobody else has the pointer.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}

const NAME: &CStr = c"mbufs";
/// Buffers that each thread keeps for itself.
const CACHE_MBUFS: u32 = 256;
/// `SOCKET_ID_ANY`
const ANY_SOCKET: i32 = -1;
