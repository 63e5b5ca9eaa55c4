//! As much of DPDK as the generator needs: one thread, ports of one queue, packets of one segment.
//!
//! Invariant of [`Packet`]: a live mbuf with one reference, of one segment, owned.

use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::{Duration, Instant};

use dpdk_sys::{rte_eth_conf, rte_eth_link, rte_mbuf, rte_mempool};

/// The started environment and its pool of packets. Once per process; it ends with the process.
#[derive(Debug)]
pub struct Environment {
    pool: NonNull<rte_mempool>,
    _arguments: Vec<CString>,
}

impl Environment {
    /// Starts DPDK with `arguments` (the first one is a name) and allocates `packets` buffers for frames of up to
    /// `bytes`. Small frames get small buffers: each page that holds some costs a place in the TLB.
    ///
    /// # Errors
    /// DPDK refuses; its own message is on the standard error output.
    pub fn start(arguments: &[String], packets: u32, bytes: usize) -> Result<Self, String> {
        let arguments: Result<Vec<CString>, _> = arguments.iter().map(|a| CString::new(a.as_str())).collect();
        let arguments = arguments.map_err(|error| error.to_string())?;
        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: called once, by the only constructor of the program; `count` C strings that live as
        // long as the returned value.
        if unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) } < 0 {
            return Err("DPDK does not start: its own message is above".to_owned());
        }
        let room = HEADROOM_BYTES + bytes.clamp(MIN_BYTES, MAX_BYTES).next_multiple_of(64) as u16;
        // SAFETY: the EAL is started; the name is a C string that is copied; failure is a null pointer.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c"generator".as_ptr(), packets, POOL_CACHE, 0, room, -1)
        };
        let pool = NonNull::new(pool).ok_or("the generator's packets do not fit into DPDK's memory")?;
        Ok(Self { pool, _arguments: arguments })
    }

    /// An empty packet; `None` when all are in use.
    #[must_use]
    pub fn packet(&self) -> Option<Packet> {
        // SAFETY: the pool lives as long as the process.
        NonNull::new(unsafe { dpdk_sys::shim_rte_pktmbuf_alloc(self.pool.as_ptr()) }).map(Packet)
    }

    /// Opens the port that DPDK calls `name`, with one queue of `descriptors` each way, and starts it.
    ///
    /// # Errors
    /// There is no such port, or its driver refuses.
    pub fn open(&self, name: &str, descriptors: u16) -> Result<Port, String> {
        let c_name = CString::new(name).map_err(|error| error.to_string())?;
        let mut id = 0;
        // SAFETY: a C string, and a writable number.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
        check(code, name, "is not there")?;
        let conf = rte_eth_conf::default();
        // SAFETY: the port exists and is not started; all zero is a valid configuration.
        let code = unsafe { dpdk_sys::rte_eth_dev_configure(id, 1, 1, &raw const conf) };
        check(code, name, "refuses one queue")?;
        // SAFETY: configured, not started; null is the device's default; the pool outlives the port.
        let code = unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(id, 0, descriptors, ANY_SOCKET, ptr::null(), self.pool.as_ptr())
        };
        check(code, name, "refuses its receive queue")?;
        // SAFETY: as above.
        let code = unsafe { dpdk_sys::rte_eth_tx_queue_setup(id, 0, descriptors, ANY_SOCKET, ptr::null()) };
        check(code, name, "refuses its transmit queue")?;
        // SAFETY: configured, both queues set up.
        check(unsafe { dpdk_sys::rte_eth_dev_start(id) }, name, "does not start")?;
        Ok(Port { id })
    }
}

/// A started port.
#[derive(Debug)]
pub struct Port {
    id: u16,
}

impl Port {
    /// Appends what has arrived to `burst`, up to its capacity.
    #[inline]
    pub fn receive(&mut self, burst: &mut Vec<Packet>) {
        let spare = burst.spare_capacity_mut();
        let count = u16::try_from(spare.len()).unwrap_or(u16::MAX);
        let out: *mut *mut rte_mbuf = spare.as_mut_ptr().cast();
        // SAFETY: the port is started, and polled by one thread (`&mut`); `out` has room for `count`
        // pointers, and a `Packet` is a transparent pointer.
        let received = unsafe { dpdk_sys::shim_rte_eth_rx_burst(self.id, 0, out, count) };
        let length = burst.len() + usize::from(received);
        // SAFETY: within the capacity; the driver wrote that many pointers to live mbufs.
        unsafe { burst.set_len(length) };
    }

    /// Sends `packets` in order. What the device did not take stays.
    #[inline]
    pub fn send(&mut self, packets: &mut Vec<Packet>) {
        let count = u16::try_from(packets.len()).unwrap_or(u16::MAX);
        let pointers: *mut *mut rte_mbuf = packets.as_mut_ptr().cast();
        // SAFETY: the port is started, used by one thread; `count` live mbufs.
        let sent = unsafe { dpdk_sys::shim_rte_eth_tx_burst(self.id, 0, pointers, count) };
        // The driver owns these now.
        packets.drain(..usize::from(sent)).for_each(std::mem::forget);
    }

    /// Waits until the other end has connected.
    ///
    /// # Errors
    /// It has not within `patience`.
    pub fn wait_for_link(&self, patience: Duration) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < patience {
            let mut link = rte_eth_link::default();
            // SAFETY: the port is open; `link` is writable.
            unsafe { dpdk_sys::rte_eth_link_get_nowait(self.id, &raw mut link) };
            // SAFETY: `link` is initialised.
            if unsafe { dpdk_sys::shim_link_status(&raw const link) } != 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("port {} has no link after {patience:?}: is the device under test running?", self.id))
    }
}

/// One packet of one segment.
#[derive(Debug)]
#[repr(transparent)]
pub struct Packet(NonNull<rte_mbuf>);

impl Packet {
    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&mut self) -> &mut [u8] {
        let (data, length) = (self.data(), self.field::<u16>(dpdk_sys::SHIM_MBUF_DATA_LEN));
        // SAFETY: `data_len` bytes from `data` lie in the buffer, which `&mut self` owns.
        unsafe { slice::from_raw_parts_mut(data, usize::from(length)) }
    }

    /// Makes it `length` bytes long, of undefined content at the end; at most what the pool was made for.
    #[inline]
    pub fn set_length(&mut self, length: usize) {
        let length = length.min(MAX_BYTES) as u16;
        self.set_field(dpdk_sys::SHIM_MBUF_DATA_LEN, length);
        self.set_field(dpdk_sys::SHIM_MBUF_PKT_LEN, u32::from(length));
    }

    /// Starts to fetch its descriptor into the cache.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    /// Starts to fetch its first bytes into the cache.
    #[inline]
    pub fn prefetch_bytes(&self) {
        prefetch(self.data());
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.field(dpdk_sys::SHIM_MBUF_BUF_ADDR);
        buffer.wrapping_add(usize::from(self.field::<u16>(dpdk_sys::SHIM_MBUF_DATA_OFF)))
    }

    #[inline]
    fn field<T: Field>(&self, offset: dpdk_sys::shim_mbuf_offset) -> T {
        let place = self.0.as_ptr().cast::<u8>().wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the mbuf is live, `offset` that of a field of type `T`, any bits of which are valid.
        unsafe { place.read() }
    }

    #[inline]
    fn set_field<T: Field>(&mut self, offset: dpdk_sys::shim_mbuf_offset, value: T) {
        let place = self.0.as_ptr().cast::<u8>().wrapping_add(offset as usize).cast::<T>();
        // SAFETY: as in `field`, and owned.
        unsafe { place.write(value) };
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: live, and its one reference is ours.
        unsafe { dpdk_sys::shim_rte_pktmbuf_free(self.0.as_ptr()) };
    }
}

/// Integers and pointers, valid with any bits.
trait Field: Copy {}
impl Field for u16 {}
impl Field for u32 {}
impl Field for *mut u8 {}

#[inline]
fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program sees and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

fn check(code: c_int, port: &str, what: &str) -> Result<(), String> {
    if code >= 0 { Ok(()) } else { Err(format!("port {port} {what} ({code})")) }
}

const MAX_BYTES: usize = 1514;

const POOL_CACHE: u32 = 256;
const HEADROOM_BYTES: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
/// Room for ARP, and for what a device sends of its own.
const MIN_BYTES: usize = 256;
const ANY_SOCKET: u32 = u32::MAX;
