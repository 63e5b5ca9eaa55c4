//! Registers a thread with the EAL, so that it has an lcore id and with it a mempool cache.

use std::marker::PhantomData;
use std::sync::Arc;

use super::eal::Eal;
use super::{error_text, last_errno};
use crate::setup_error::SetupError;

/// The calling thread's registration, undone when dropped. It stays in its thread.
#[derive(Debug)]
pub struct Lcore {
    _eal: Arc<Eal>,
    /// Not `Send`: the registration belongs to one thread.
    _not_send: PhantomData<*const ()>,
}

impl Lcore {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// When DPDK has no lcore id left (128 in Debian's build).
    pub fn register(eal: Arc<Eal>) -> Result<Self, SetupError> {
        // SAFETY: the EAL is started (`eal`); a thread may register once, and `Lcore::drop` undoes it.
        if unsafe { dpdk_sys::rte_thread_register() } == 0 {
            return Ok(Self { _eal: eal, _not_send: PhantomData });
        }
        Err(SetupError::new(format!(
            "DPDK does not accept another thread ({}): name fewer cores in workers",
            error_text(last_errno())
        )))
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        // SAFETY: this thread registered in `register` (the type is not Send), the EAL still runs.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
