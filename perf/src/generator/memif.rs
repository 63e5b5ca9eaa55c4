//! A memif client: one ring of buffers each way, in memory that the device under test maps too.
//!
//! The protocol is that of VPP and DPDK (version 2.0). The client owns the memory, so the server, which is the device
//! under test, copies every frame in and out, as a NIC's DMA would; the client copies nothing.
//!
//! This is not DPDK's client: that one takes a packet buffer from a pool and gives one back for each frame, which
//! made the generator the bottleneck. Here a buffer belongs to a slot of a ring. A frame that goes back where it came from
//! ([`Memif::send_back`]) changes place with the buffer of a free slot of the other ring; nothing else moves.
//!
//! Invariants: every buffer is in exactly one slot, and `places` of the rings know which one; slots between `tail` and
//! `head` of the ring to the device, and all but the arrived ones of the ring from the device, are the device's.
//!
//! Not here: interrupts (both sides poll), chained buffers (a buffer holds the longest frame), several queues.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketType, connect, recv, sendmsg, socket, sockopt,
};

/// A connection to a device, whose memif is the server.
#[derive(Debug)]
pub struct Memif {
    memory: Memory,
    to_device: Ring,
    from_device: Ring,
    /// Frames that fit into the ring to the device for certain.
    room: u16,
    buffer_bytes: usize,
    /// The device ends the connection when this closes.
    _control: OwnedFd,
}

impl Memif {
    /// Connects to the server that listens at `path`. Frames are at most `frame_bytes` long. `has_hugepages`: whether the
    /// memory may be taken from them.
    ///
    /// # Errors
    /// Nobody listens, or the server does not agree; both as a sentence.
    pub fn connect(path: &Path, frame_bytes: usize, has_hugepages: bool) -> Result<Self, String> {
        // An odd number of cache lines apart, or all buffers would compete for a few sets of the caches.
        let buffer_bytes = (frame_bytes.max(MIN_BUFFER_BYTES).div_ceil(LINE_BYTES) | 1) * LINE_BYTES;
        let to_device = Ring::at(0);
        let from_device = Ring::at(RING_BYTES);
        let buffers = (2 * RING_BYTES).next_multiple_of(4096);
        let bytes = buffers + 2 * usize::from(SLOTS) * buffer_bytes;
        let memory = Memory::new(bytes, has_hugepages).map_err(|error| format!("shared memory: {error}"))?;
        let control = introduce(path, &memory).map_err(|error| format!("{}: {error}", path.display()))?;
        let room = SLOTS;
        let mut memif = Self { memory, to_device, from_device, room, buffer_bytes, _control: control };
        let mut next = buffers as u32;
        for place in memif.to_device.places.iter_mut().chain(memif.from_device.places.iter_mut()) {
            *place = next;
            next += buffer_bytes as u32;
        }
        for slot in 0..SLOTS {
            memif.offer(slot);
        }
        // Nobody is to be woken.
        for ring in [memif.to_device.offset, memif.from_device.offset] {
            memif.memory.write(ring + FLAGS_OFFSET, MASK_INTERRUPTS);
        }
        memif.release(0);
        Ok(memif)
    }

    /// Frames that the device has sent and that were not released.
    #[inline]
    #[must_use]
    pub fn arrived(&self) -> usize {
        // Pairs with the device's release of `tail`: the frames before it are written.
        let tail = self.memory.index(self.from_device.offset + TAIL_OFFSET).load(Ordering::Acquire);
        usize::from(tail.wrapping_sub(self.from_device.next))
    }

    /// Starts to fetch the arrived frame `at`, to be written.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        prefetch_for_writing(self.memory.at(self.from_device.place(self.from_device.slot(at))));
    }

    /// The arrived frame number `at`.
    #[inline]
    pub fn frame(&mut self, at: usize) -> &mut [u8] {
        let slot = self.from_device.slot(at);
        let descriptor: u64 = self.memory.read(self.from_device.descriptor(slot));
        // The device wrote that length; a buffer is never longer than it is.
        let bytes = ((descriptor >> 32) as usize).min(self.buffer_bytes);
        self.memory.slice(self.from_device.place(slot), bytes)
    }

    /// The whole buffer of the arrived frame `at`, which is longer.
    #[inline]
    pub fn whole(&mut self, at: usize) -> &mut [u8] {
        self.memory.slice(self.from_device.place(self.from_device.slot(at)), self.buffer_bytes)
    }

    /// Gives the buffer of the arrived frame `at` back, empty.
    #[inline]
    pub fn recycle(&mut self, at: usize) {
        self.offer(self.from_device.slot(at));
    }

    /// Sends the arrived frame `at`, now `bytes` long, back to the device. There must be [`Self::room`].
    #[inline]
    pub fn send_back(&mut self, at: usize, bytes: usize) {
        let slot = self.from_device.slot(at);
        let free = self.to_device.next & (SLOTS - 1);
        let (arrived, empty) = (self.from_device.place(slot), self.to_device.place(free));
        self.from_device.set_place(slot, empty);
        self.to_device.set_place(free, arrived);
        self.offer(slot);
        self.push(bytes);
    }

    /// Room for frames to the device. Looks at the device's side of the ring only when there may be less than `wanted`.
    #[inline]
    pub fn room(&mut self, wanted: usize) -> usize {
        if usize::from(self.room) < wanted {
            // Pairs with the device's release of `tail`: it does not read the slots before it any more.
            let tail = self.memory.index(self.to_device.offset + TAIL_OFFSET).load(Ordering::Acquire);
            self.room = SLOTS - self.to_device.next.wrapping_sub(tail);
        }
        usize::from(self.room)
    }

    /// The buffer of the next frame to the device, as long as it may be. There must be [`Self::room`].
    #[inline]
    pub fn buffer(&mut self) -> &mut [u8] {
        let place = self.to_device.place(self.to_device.next & (SLOTS - 1));
        self.memory.slice(place, self.buffer_bytes)
    }

    /// Puts the next buffer, filled with a frame of `bytes`, into the ring to the device.
    #[inline]
    pub fn push(&mut self, bytes: usize) {
        let slot = self.to_device.next & (SLOTS - 1);
        let descriptor = self.to_device.descriptor(slot);
        self.memory.write(descriptor, (bytes as u64) << 32);
        self.memory.write(descriptor + 8, u64::from(self.to_device.place(slot)));
        self.to_device.next = self.to_device.next.wrapping_add(1);
        self.room -= 1;
    }

    /// Shows the device what was pushed.
    #[inline]
    pub fn publish(&mut self) {
        // Pairs with the device's acquire of `head`: descriptors and frames are written before it.
        let head = self.memory.index(self.to_device.offset + HEAD_OFFSET);
        head.store(self.to_device.next, Ordering::Release);
    }

    /// Gives the slots of the first `count` arrived frames back, each recycled or sent back.
    #[inline]
    pub fn release(&mut self, count: usize) {
        self.from_device.next = self.from_device.next.wrapping_add(count as u16);
        // Pairs with the device's acquire of `head`: the descriptors of free buffers are written before it.
        let head = self.memory.index(self.from_device.offset + HEAD_OFFSET);
        head.store(self.from_device.next.wrapping_add(SLOTS), Ordering::Release);
    }

    /// Writes the descriptor of an empty buffer for the device to fill.
    #[inline]
    fn offer(&mut self, slot: u16) {
        let descriptor = self.from_device.descriptor(slot);
        self.memory.write(descriptor, (self.buffer_bytes as u64) << 32);
        self.memory.write(descriptor + 8, u64::from(self.from_device.place(slot)));
    }
}

/// One ring: where it lies, how far we are, and which buffer is in which slot.
#[derive(Debug)]
struct Ring {
    offset: usize,
    /// The next slot to fill, or to look at. Counts on and on.
    next: u16,
    places: Box<[u32; SLOTS as usize]>,
}

impl Ring {
    fn at(offset: usize) -> Self {
        Self { offset, next: 0, places: Box::new([0; SLOTS as usize]) }
    }

    #[inline]
    const fn slot(&self, at: usize) -> u16 {
        self.next.wrapping_add(at as u16) & (SLOTS - 1)
    }

    #[inline]
    const fn descriptor(&self, slot: u16) -> usize {
        self.offset + DESCRIPTORS_OFFSET + (slot & (SLOTS - 1)) as usize * DESCRIPTOR_BYTES
    }

    #[inline]
    fn place(&self, slot: u16) -> u32 {
        self.places.get(usize::from(slot)).copied().unwrap_or_default()
    }

    #[inline]
    fn set_place(&mut self, slot: u16, place: u32) {
        if let Some(current) = self.places.get_mut(usize::from(slot)) {
            *current = place;
        }
    }
}

/// Shared memory. Every offset that is given to it lies in it, and those of numbers are aligned.
#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    bytes: usize,
    file: OwnedFd,
}

impl Memory {
    fn new(bytes: usize, has_hugepages: bool) -> Result<Self, String> {
        let seal = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        if has_hugepages && let Ok(memory) = Self::map(bytes.next_multiple_of(HUGE_PAGE_BYTES), seal | huge) {
            return Ok(memory);
        }
        Self::map(bytes.next_multiple_of(4096), seal)
    }

    fn map(bytes: usize, flags: MemfdFlags) -> Result<Self, String> {
        let file = memfd_create("algate-generator", flags).map_err(|error| error.to_string())?;
        ftruncate(&file, bytes as u64).map_err(|error| error.to_string())?;
        // Servers want to know that it will not shrink under them.
        fcntl_add_seals(&file, SealFlags::SHRINK).map_err(|error| error.to_string())?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file of that length.
        let base =
            unsafe { mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED | MapFlags::POPULATE, &file, 0) };
        let base = NonNull::new(base.map_err(|error| error.to_string())?.cast()).ok_or("no memory")?;
        let mut memory = Self { base, bytes, file };
        for ring in [0, RING_BYTES] {
            memory.write(ring, COOKIE);
        }
        Ok(memory)
    }

    #[inline]
    fn at(&self, offset: u32) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset as usize)
    }

    #[inline]
    fn index(&self, offset: usize) -> &AtomicU16 {
        let place = self.base.as_ptr().wrapping_add(offset).cast::<u16>();
        // SAFETY: in the mapping, aligned, and read and written atomically by both sides for as long as it lives.
        unsafe { AtomicU16::from_ptr(place) }
    }

    #[inline]
    fn read<T: Number>(&self, offset: usize) -> T {
        let place = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        // SAFETY: in the mapping and aligned; volatile, for the device writes it.
        unsafe { place.read_volatile() }
    }

    #[inline]
    fn write<T: Number>(&mut self, offset: usize, value: T) {
        let place = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        // SAFETY: as in `read`; the slot is ours while we write it.
        unsafe { place.write_volatile(value) };
    }

    #[inline]
    fn slice(&mut self, place: u32, bytes: usize) -> &mut [u8] {
        // SAFETY: a buffer of that many bytes lies there; its slot is ours until it is published or released, so the
        // device leaves it alone; a device that does not can only change bytes that are checked anyhow.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr().wrapping_add(place as usize), bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing that borrows from it is left.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Integers, valid with any bits.
trait Number: Copy {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}

/// The dialogue before the first frame: hello, init, one region, two rings, connect.
fn introduce(path: &Path, memory: &Memory) -> Result<OwnedFd, String> {
    let control = dial(path)?;
    let hello = receive(&control)?;
    let version: [u8; 2] = [hello.get(34), hello.get(35)].map(|byte| byte.copied().unwrap_or_default());
    if hello.first() != Some(&HELLO) || u16::from_le_bytes(version) != VERSION {
        return Err("it does not speak memif 2.0".to_owned());
    }
    let mut init = Message::new(INIT);
    init.put(&VERSION.to_le_bytes());
    // Interface 0, Ethernet, no secret.
    init.put(&[0; 4 + 1 + 24]);
    init.put(b"algate generator");
    ask(&control, &init, None)?;
    let mut region = Message::new(ADD_REGION);
    region.put(&0_u16.to_le_bytes());
    region.put(&(memory.bytes as u64).to_le_bytes());
    ask(&control, &region, Some(memory.file.as_fd()))?;
    for (flags, offset) in [(TO_SERVER, 0), (0, RING_BYTES)] {
        // Nobody uses it, but it must be there.
        let wake = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let mut ring = Message::new(ADD_RING);
        ring.put(&flags.to_le_bytes());
        ring.put(&[0; 2 + 2]);
        ring.put(&(offset as u32).to_le_bytes());
        ring.put(&[SLOTS.trailing_zeros() as u8, 0, 0]);
        ask(&control, &ring, Some(wake.as_fd()))?;
    }
    let mut connect = Message::new(CONNECT);
    connect.put(b"generator");
    send(&control, &connect, None)?;
    // An acknowledgement may come before or after it.
    let patience = Instant::now();
    while patience.elapsed() < PATIENCE {
        match receive(&control)?.first() {
            Some(&CONNECTED) => return Ok(control),
            Some(&ACK) => {}
            _ => break,
        }
    }
    Err("it does not confirm the connection".to_owned())
}

/// Connects to the socket, which may not be there yet.
fn dial(path: &Path) -> Result<OwnedFd, String> {
    let address = SocketAddrUnix::new(path).map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        let control =
            socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).map_err(|error| error.to_string())?;
        match connect(&control, &address) {
            Ok(()) => {
                let _ = sockopt::set_socket_timeout(&control, sockopt::Timeout::Recv, Some(PATIENCE));
                return Ok(control);
            }
            Err(error) if start.elapsed() > PATIENCE => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn ask(control: &OwnedFd, message: &Message, file: Option<BorrowedFd<'_>>) -> Result<(), String> {
    send(control, message, file)?;
    match receive(control)? {
        answer if answer.first() == Some(&ACK) => Ok(()),
        answer if answer.first() == Some(&DISCONNECT) => {
            let reason = answer.get(6..).unwrap_or_default();
            let end = reason.iter().position(|byte| *byte == 0).unwrap_or(reason.len());
            Err(format!("it refuses: {}", String::from_utf8_lossy(reason.get(..end).unwrap_or_default())))
        }
        _ => Err("it answers something else than was asked".to_owned()),
    }
}

fn send(control: &OwnedFd, message: &Message, file: Option<BorrowedFd<'_>>) -> Result<(), String> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err("no room for a file descriptor".to_owned());
    }
    let bytes = [IoSlice::new(&message.bytes)];
    sendmsg(control, &bytes, &mut ancillary, SendFlags::empty()).map_err(|error| error.to_string())?;
    Ok(())
}

fn receive(control: &OwnedFd) -> Result<[u8; MESSAGE_BYTES], String> {
    let mut bytes = [0; MESSAGE_BYTES];
    match recv(control, &mut bytes, RecvFlags::empty()) {
        Ok((MESSAGE_BYTES, _)) => Ok(bytes),
        Ok(_) => Err("it hung up".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A message of the control channel: a type of two bytes, then packed fields.
struct Message {
    bytes: [u8; MESSAGE_BYTES],
    length: usize,
}

impl Message {
    fn new(kind: u8) -> Self {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[0] = kind;
        Self { bytes, length: 2 }
    }

    fn put(&mut self, field: &[u8]) {
        let end = self.length + field.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(field);
        }
        self.length = end;
    }
}

/// The device's core wrote the line and holds it: one request brings it, and leave to write it.
#[inline]
fn prefetch_for_writing(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: reads nothing that the program sees, faults on no address, and does nothing where it is unknown.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Slots of a ring: the most frames that wait at one place.
pub const SLOTS: u16 = 1024;

const LINE_BYTES: usize = 64;
/// Room for ARP, and for ICMP messages of the device.
const MIN_BUFFER_BYTES: usize = 256;
const HUGE_PAGE_BYTES: usize = 2 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

const COOKIE: u32 = 0x03E3_1F20;
const VERSION: u16 = 0x0200;
const MESSAGE_BYTES: usize = 128;
const ACK: u8 = 1;
const HELLO: u8 = 2;
const INIT: u8 = 3;
const ADD_REGION: u8 = 4;
const ADD_RING: u8 = 5;
const CONNECT: u8 = 6;
const CONNECTED: u8 = 7;
const DISCONNECT: u8 = 8;
const TO_SERVER: u16 = 1;

/// Of a ring: cookie (4 bytes), flags (2), head (2); in a line of its own tail; descriptors.
const FLAGS_OFFSET: usize = 4;
const HEAD_OFFSET: usize = 6;
const TAIL_OFFSET: usize = 64;
const DESCRIPTORS_OFFSET: usize = 128;
/// Flags and region (2 bytes each), length (4), offset (4), metadata (4).
const DESCRIPTOR_BYTES: usize = 16;
const RING_BYTES: usize = DESCRIPTORS_OFFSET + SLOTS as usize * DESCRIPTOR_BYTES;
const MASK_INTERRUPTS: u16 = 1;
