//! Thin safe wrappers over DPDK, and the only module of the binary with `unsafe` in it.
//!
//! What lives as long as what: an [`eal::Eal`] outlives every [`mempool::Mempool`], which outlives
//! every [`nic_port::NicPort`], which outlives its queues; each holds an `Arc` of the one before. An
//! [`mbuf::Mbuf`] holds nothing, to stay one pointer: when a mempool is dropped it counts its
//! buffers, and while one is missing neither the pool nor the EAL's memory is given back.

pub mod clock;
pub mod device;
mod drivers;
pub mod eal;
pub mod lcore;
pub mod mbuf;
pub mod memory;
pub mod mempool;
pub mod nic_port;
pub mod precheck;
pub mod queue;

use std::ffi::CStr;

/// DPDK's words for an error number, positive or negative.
#[must_use]
pub fn error_text(errno: i32) -> String {
    // SAFETY: rte_strerror accepts any number and returns a pointer to a constant or to a buffer of
    // this thread, valid until its next call from this thread.
    let text = unsafe { dpdk_sys::rte_strerror(errno.wrapping_abs()) };
    // SAFETY: the pointer is not null and the text ends with a zero byte (see above); it is copied
    // before this thread can call rte_strerror again.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The error number that the last failing DPDK call of this thread left.
fn last_errno() -> i32 {
    // SAFETY: reads a variable of this thread; no precondition.
    unsafe { dpdk_sys::shim_rte_errno() }
}
