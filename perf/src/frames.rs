//! Frames that are recycled, so that a measured loop allocates nothing.
//!
//! A [`PoolFrame`] is one pointer, as an mbuf is, so that moving it costs what moving an mbuf costs. A frame
//! that the engine drops goes back to the allocator, and is replaced from there: only the ALG stage
//! does so in a measured loop, and a mempool would cost it about as much.

use algate_engine::frame::{Frame, PacketIo, RxChecksums};
use algate_engine::ids::NicPortId;

/// One frame of one segment, at most `BUFFER_BYTES` with its headroom.
#[derive(Debug)]
pub struct PoolFrame {
    buffer: Box<Buffer>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Buffer {
    start: u16,
    end: u16,
    bytes: [u8; BUFFER_BYTES],
}

impl Default for PoolFrame {
    fn default() -> Self {
        let start = HEADROOM_BYTES as u16;
        Self { buffer: Box::new(Buffer { start, end: start, bytes: [0; BUFFER_BYTES] }) }
    }
}

impl PoolFrame {
    /// Makes it empty, with headroom.
    pub fn clear(&mut self) {
        self.buffer.start = HEADROOM_BYTES as u16;
        self.buffer.end = HEADROOM_BYTES as u16;
    }

    fn range(&self) -> std::ops::Range<usize> {
        usize::from(self.buffer.start)..usize::from(self.buffer.end)
    }
}

impl Frame for PoolFrame {
    #[expect(
        clippy::indexing_slicing,
        reason = "start and end are kept within the buffer; a slice that may fail costs three times an mbuf's"
    )]
    #[inline]
    fn head(&self) -> &[u8] {
        &self.buffer.bytes[self.range()]
    }

    #[expect(clippy::indexing_slicing, reason = "as in `head`")]
    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        &mut self.buffer.bytes[range]
    }

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.buffer.end - self.buffer.start)
    }

    fn linearize(&mut self) -> bool {
        true
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        match usize::from(self.buffer.start).checked_sub(bytes) {
            Some(start) => {
                self.buffer.start = start as u16;
                true
            }
            None => false,
        }
    }

    fn shrink_front(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.len();
        if fits {
            self.buffer.start += bytes as u16;
        }
        fits
    }

    fn resize(&mut self, length: usize) -> bool {
        let end = usize::from(self.buffer.start) + length;
        let fits = end <= BUFFER_BYTES;
        if fits {
            self.buffer.end = end as u16;
        }
        fits
    }

    #[inline]
    fn rx_checksums(&self) -> RxChecksums {
        RxChecksums::default()
    }

    fn offload_tx_checksum(&mut self, _l2_bytes: usize, _l3_bytes: usize, _protocol: u8) {}
}

/// Takes what is sent, and hands out empty frames.
#[derive(Debug)]
pub struct PoolIo {
    /// What was sent, in order.
    pub sent: Vec<(NicPortId, PoolFrame)>,
    free: Vec<PoolFrame>,
}

impl PoolIo {
    /// With `frames` empty frames.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        Self { sent: Vec::with_capacity(frames), free: (0..frames).map(|_| PoolFrame::default()).collect() }
    }

    /// Takes back what was sent.
    pub fn recycle(&mut self) {
        self.free.extend(self.sent.drain(..).map(|(_, frame)| frame));
    }
}

impl PacketIo for PoolIo {
    type Frame = PoolFrame;

    fn alloc(&mut self) -> Option<PoolFrame> {
        let mut frame = self.free.pop().unwrap_or_default();
        frame.clear();
        Some(frame)
    }

    #[inline]
    fn transmit(&mut self, nic_port: NicPortId, frame: PoolFrame) {
        self.sent.push((nic_port, frame));
    }

    fn has_tx_checksum(&self, _nic_port: NicPortId) -> bool {
        false
    }
}

const HEADROOM_BYTES: usize = 64;
/// Room for the longest frame of any measurement, a SIP message. Frames are an odd number of cache lines apart, as mbufs are.
const BUFFER_BYTES: usize = 1020;
