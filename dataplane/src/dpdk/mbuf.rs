//! A packet buffer, owned.
//!
//! The fields of `struct rte_mbuf` are read and written where the C compiler says they lie
//! (`dpdk_sys::SHIM_MBUF_*`), without a call into C: a header access costs no more than in C.
//!
//! Invariants: the pointer is to a live mbuf with a reference count of one, whose first segment has
//! `data_off + data_len <= buf_len`.

use std::ptr::NonNull;
use std::slice;

use algate_engine::frame::{Frame, RxChecksum, RxChecksums};
use dpdk_sys::rte_mbuf;

/// One frame in DPDK's memory. Dropping it gives the buffer back to its pool.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf with one reference has one owner, this value; pools take buffers back from any
// thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over the buffer.
    ///
    /// # Safety
    /// `mbuf` is live, has a reference count of one, and nobody else uses that reference.
    pub(super) const unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Appends the segments of `tail`. `false`, and `tail` is freed, when the frame would have more
    /// segments than an mbuf can count.
    #[must_use]
    pub fn chain(&mut self, tail: Self) -> bool {
        // SAFETY: both are live and distinct, since both are owned; on success `self` owns the
        // segments of `tail`, which is forgotten below.
        let chained = unsafe { dpdk_sys::shim_rte_pktmbuf_chain(self.0.as_ptr(), tail.0.as_ptr()) } == 0;
        if chained {
            std::mem::forget(tail);
        }
        chained
    }

    /// Frees all of `frames` in one call.
    pub fn free_all(frames: &mut Vec<Self>) {
        let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        // SAFETY: `count` live mbufs, each with one reference, which `frames` gives up below; an
        // `Mbuf` is a transparent pointer.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), count) };
        Self::forget_all(frames);
    }

    /// Gives up `frames`, which another owns now, in one store.
    pub(super) fn forget_all(frames: &mut Vec<Self>) {
        // SAFETY: 0 is no more than the capacity, and leaves nothing to be initialised.
        unsafe { frames.set_len(0) };
    }

    /// Length of all of `frames` together, bytes; on the way asks the CPU to fetch their headers, which the NIC has
    /// written elsewhere.
    #[must_use]
    pub fn bytes_and_prefetch(frames: &[Self]) -> u64 {
        let length = |frame: &Self| {
            prefetch(frame.data());
            u64::from(frame.pkt_len())
        };
        frames.iter().map(length).sum()
    }

    /// Number of segments.
    #[must_use]
    pub fn segments(&self) -> u16 {
        self.field(dpdk_sys::SHIM_MBUF_NB_SEGS)
    }

    #[inline]
    fn data_off(&self) -> u16 {
        self.field(dpdk_sys::SHIM_MBUF_DATA_OFF)
    }

    #[inline]
    fn data_len(&self) -> u16 {
        self.field(dpdk_sys::SHIM_MBUF_DATA_LEN)
    }

    #[inline]
    fn pkt_len(&self) -> u32 {
        self.field(dpdk_sys::SHIM_MBUF_PKT_LEN)
    }

    fn buf_len(&self) -> u16 {
        self.field(dpdk_sys::SHIM_MBUF_BUF_LEN)
    }

    /// First byte of the first segment.
    #[inline]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.field(dpdk_sys::SHIM_MBUF_BUF_ADDR);
        buffer.wrapping_add(usize::from(self.data_off()))
    }

    /// Moves the start of the first segment and sets its length, and the frame's by as much.
    fn set_extent(&mut self, data_off: u16, data_len: u16) {
        let pkt_len = self.pkt_len() - u32::from(self.data_len()) + u32::from(data_len);
        self.set_field(dpdk_sys::SHIM_MBUF_DATA_OFF, data_off);
        self.set_field(dpdk_sys::SHIM_MBUF_DATA_LEN, data_len);
        self.set_field(dpdk_sys::SHIM_MBUF_PKT_LEN, pkt_len);
    }

    /// Reads the field at `offset`, one of `SHIM_MBUF_*`, of the type that field has.
    #[inline]
    fn field<T: MbufField>(&self, offset: dpdk_sys::shim_mbuf_offset) -> T {
        let place = self.0.as_ptr().cast::<u8>().wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the mbuf is live; `offset` is that of one of its fields, hence inside it and
        // aligned for the field's type; only this module chooses `offset` and `T`, and any bits are
        // a valid integer or pointer.
        unsafe { place.read() }
    }

    /// Writes the field at `offset`; see [`Self::field`].
    fn set_field<T: MbufField>(&mut self, offset: dpdk_sys::shim_mbuf_offset, value: T) {
        let place = self.0.as_ptr().cast::<u8>().wrapping_add(offset as usize).cast::<T>();
        // SAFETY: as in `field`; `&mut self` excludes other access.
        unsafe { place.write(value) };
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: live, and the one reference is ours to give back.
        unsafe { dpdk_sys::shim_rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl Frame for Mbuf {
    #[inline]
    fn head(&self) -> &[u8] {
        // SAFETY: `data_len` bytes from `data` lie in the first segment's buffer (type invariant),
        // which lives as long as the mbuf; nobody writes while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.data(), usize::from(self.data_len())) }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `head`, and `&mut self` excludes other access.
        unsafe { slice::from_raw_parts_mut(self.data(), usize::from(self.data_len())) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.pkt_len() as usize
    }

    fn linearize(&mut self) -> bool {
        // SAFETY: the mbuf is live and owned; on failure it is unchanged.
        unsafe { dpdk_sys::shim_rte_pktmbuf_linearize(self.0.as_ptr()) == 0 }
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        let (Ok(bytes), data_off, data_len) = (u16::try_from(bytes), self.data_off(), self.data_len()) else {
            return false;
        };
        let (Some(data_off), Some(data_len)) = (data_off.checked_sub(bytes), data_len.checked_add(bytes))
        else {
            return false;
        };
        self.set_extent(data_off, data_len);
        true
    }

    fn shrink_front(&mut self, bytes: usize) -> bool {
        let (Ok(bytes), data_off, data_len) = (u16::try_from(bytes), self.data_off(), self.data_len()) else {
            return false;
        };
        let Some(data_len) = data_len.checked_sub(bytes) else {
            return false;
        };
        self.set_extent(data_off + bytes, data_len);
        true
    }

    fn resize(&mut self, length: usize) -> bool {
        let room = self.buf_len() - self.data_off();
        match u16::try_from(length) {
            Ok(length) if length <= room && self.segments() == 1 => {
                self.set_extent(self.data_off(), length);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn rx_checksums(&self) -> RxChecksums {
        let flags: u64 = self.field(dpdk_sys::SHIM_MBUF_OL_FLAGS);
        RxChecksums {
            ipv4: match flags & dpdk_sys::SHIM_RX_IP_CKSUM_MASK {
                dpdk_sys::SHIM_RX_IP_CKSUM_GOOD => RxChecksum::Good,
                dpdk_sys::SHIM_RX_IP_CKSUM_BAD => RxChecksum::Bad,
                _ => RxChecksum::Unknown,
            },
            l4: match flags & dpdk_sys::SHIM_RX_L4_CKSUM_MASK {
                dpdk_sys::SHIM_RX_L4_CKSUM_GOOD => RxChecksum::Good,
                dpdk_sys::SHIM_RX_L4_CKSUM_BAD => RxChecksum::Bad,
                _ => RxChecksum::Unknown,
            },
        }
    }

    fn offload_tx_checksum(&mut self, l2_bytes: usize, l3_bytes: usize, protocol: u8) {
        let (l4_flag, l4_bytes) = match protocol {
            IPPROTO_TCP => {
                let data_offset = self.head().get(l2_bytes + l3_bytes + 12).map_or(0, |byte| byte >> 4);
                (dpdk_sys::SHIM_TX_TCP_CKSUM, u64::from(data_offset) * 4)
            }
            IPPROTO_UDP => (dpdk_sys::SHIM_TX_UDP_CKSUM, 8),
            _ => (0, 0),
        };
        let flags: u64 = self.field(dpdk_sys::SHIM_MBUF_OL_FLAGS);
        let flags = flags | dpdk_sys::SHIM_TX_IPV4 | dpdk_sys::SHIM_TX_IP_CKSUM | l4_flag;
        self.set_field(dpdk_sys::SHIM_MBUF_OL_FLAGS, flags);
        // l2_len takes the lowest 7 bits, l3_len the next 9, l4_len 8 (`RTE_MBUF_L2_LEN_BITS` and so
        // on). NICs ignore l4_len for this, but net_tap copies that much and writes into the copy.
        let lengths = (l2_bytes as u64 & 0x7f) | (l3_bytes as u64 & 0x1ff) << 7 | l4_bytes << 16;
        self.set_field(dpdk_sys::SHIM_MBUF_TX_OFFLOAD, lengths);
    }
}

/// Asks the CPU to fetch the cache line at `place`; no more than a hint.
#[inline]
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever its address, and changes nothing that the program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Types of the mbuf fields that are touched: plain integers and a pointer, valid with any bits.
trait MbufField: Copy {}
impl MbufField for u16 {}
impl MbufField for u32 {}
impl MbufField for u64 {}
impl MbufField for *mut u8 {}

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
