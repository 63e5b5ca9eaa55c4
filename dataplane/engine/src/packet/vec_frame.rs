//! Frames in plain memory: the [`Frame`] and [`PacketIo`] of tests, simulations and benches.
//!
//! A [`VecFrame`] has the same limits as an mbuf (headroom, fixed buffer size, several segments), so
//! that code which works here works over DPDK. Nothing on the packet path of the product uses it.

use crate::frame::{Frame, PacketIo, RxChecksum, RxChecksums};
use crate::ids::NicPortId;
use crate::packet::bytes::{read_u16, write_u16};
use crate::packet::{PROTOCOL_TCP, checksum};

/// Bytes in front of a new frame.
pub const HEADROOM_BYTES: usize = 128;
/// Size of a frame's first buffer, headroom included.
pub const BUFFER_BYTES: usize = 2_048 + HEADROOM_BYTES;

/// One Ethernet frame in plain memory.
#[derive(Debug, Clone)]
pub struct VecFrame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    rest: Vec<Vec<u8>>,
    rx: RxChecksums,
    offload: Option<(usize, usize, u8)>,
}

impl Default for VecFrame {
    fn default() -> Self {
        Self::new()
    }
}

impl VecFrame {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(BUFFER_BYTES)
    }

    /// An empty frame whose first buffer holds `bytes`, headroom included.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let bytes = bytes.max(HEADROOM_BYTES);
        Self {
            buffer: vec![0; bytes],
            start: HEADROOM_BYTES,
            end: HEADROOM_BYTES,
            rest: Vec::new(),
            rx: RxChecksums::default(),
            offload: None,
        }
    }

    /// A frame of one segment. The buffer grows beyond [`BUFFER_BYTES`] when `bytes` need it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::with_capacity(BUFFER_BYTES.max(HEADROOM_BYTES + bytes.len()));
        frame.end = frame.start + bytes.len();
        frame.head_mut().copy_from_slice(bytes);
        frame
    }

    /// A frame of several segments: one per slice, the first one with headroom.
    #[must_use]
    pub fn from_segments(segments: &[&[u8]]) -> Self {
        let mut segments = segments.iter();
        let mut frame = Self::from_bytes(segments.next().copied().unwrap_or_default());
        frame.rest = segments.map(|segment| segment.to_vec()).collect();
        frame
    }

    /// The same frame with the NIC's verdicts on its checksums.
    #[must_use]
    pub fn with_rx_checksums(mut self, ipv4: RxChecksum, l4: RxChecksum) -> Self {
        self.rx = RxChecksums { ipv4, l4 };
        self
    }

    /// All bytes, over all segments.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.head().to_vec();
        self.rest.iter().for_each(|segment| all.extend_from_slice(segment));
        all
    }

    /// Does what the NIC would do on transmission: fills in the checksums that were left to it.
    fn complete_offload(&mut self) {
        let Some((l2_bytes, l3_bytes, protocol)) = self.offload.take() else { return };
        let Some(l3) = self.head_mut().get_mut(l2_bytes..) else { return };
        let Some((header, l4)) = l3.split_at_mut_checked(l3_bytes) else { return };
        write_u16(header, 10, 0);
        let header_checksum = checksum::internet(header, 0);
        write_u16(header, 10, header_checksum);
        // The field holds the pseudo-header sum already, so it is part of what is summed.
        let total_length = usize::from(read_u16(header, 2).unwrap_or_default());
        let l4_bytes = total_length.saturating_sub(l3_bytes).min(l4.len());
        let Some(l4) = l4.get_mut(..l4_bytes) else { return };
        if protocol == PROTOCOL_TCP {
            let l4_checksum = checksum::internet(l4, 0);
            write_u16(l4, 16, l4_checksum);
        } else {
            let l4_checksum = checksum::udp(l4, 0);
            write_u16(l4, 6, l4_checksum);
        }
    }
}

impl Frame for VecFrame {
    fn head(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn head_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.end - self.start + self.rest.iter().map(Vec::len).sum::<usize>()
    }

    fn linearize(&mut self) -> bool {
        let length = self.len();
        if self.start + length > self.buffer.len() {
            return false;
        }
        for segment in std::mem::take(&mut self.rest) {
            let end = self.end + segment.len();
            self.buffer.get_mut(self.end..end).unwrap_or_default().copy_from_slice(&segment);
            self.end = end;
        }
        true
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        match self.start.checked_sub(bytes) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn shrink_front(&mut self, bytes: usize) -> bool {
        if bytes > self.end - self.start {
            return false;
        }
        self.start += bytes;
        true
    }

    fn resize(&mut self, length: usize) -> bool {
        if !self.rest.is_empty() || self.start + length > self.buffer.len() {
            return false;
        }
        self.end = self.start + length;
        true
    }

    fn rx_checksums(&self) -> RxChecksums {
        self.rx
    }

    fn offload_tx_checksum(&mut self, l2_bytes: usize, l3_bytes: usize, protocol: u8) {
        self.offload = Some((l2_bytes, l3_bytes, protocol));
    }
}

/// Transmission into a list.
#[derive(Debug, Default)]
pub struct VecIo {
    /// What was transmitted, in order.
    pub sent: Vec<(NicPortId, VecFrame)>,
    /// Whether the ports fill in checksums; [`VecIo`] then does so on transmission.
    pub tx_checksum: bool,
    /// Frames that [`PacketIo::alloc`] still gives out; `None`: any number.
    pub mempool_frames: Option<usize>,
    /// Room in a frame that it gives out, beyond [`BUFFER_BYTES`].
    pub more_room_bytes: usize,
}

impl VecIo {
    /// Takes what was transmitted since the last call.
    pub fn take(&mut self) -> Vec<(NicPortId, VecFrame)> {
        std::mem::take(&mut self.sent)
    }
}

impl PacketIo for VecIo {
    type Frame = VecFrame;

    fn alloc(&mut self) -> Option<VecFrame> {
        if let Some(left) = &mut self.mempool_frames {
            *left = left.checked_sub(1)?;
        }
        Some(VecFrame::with_capacity(BUFFER_BYTES + self.more_room_bytes))
    }

    fn transmit(&mut self, nic_port: NicPortId, mut frame: VecFrame) {
        frame.complete_offload();
        self.sent.push((nic_port, frame));
    }

    fn has_tx_checksum(&self, _nic_port: NicPortId) -> bool {
        self.tx_checksum
    }
}
