//! What the engine needs of packet memory and of transmission.
//!
//! The binary implements these traits over DPDK mbufs and tx queues, tests and benches over plain
//! vectors. A frame is owned: dropping it gives its memory back.

use crate::ids::NicPortId;

/// One Ethernet frame, owned.
///
/// A frame may lie in several segments. [`Frame::head`] is the first one; all header access goes
/// through it, and [`Frame::linearize`] makes it the only one.
pub trait Frame: Sized {
    /// The bytes of the first segment, from the Ethernet header on.
    fn head(&self) -> &[u8];

    /// The same, writable.
    fn head_mut(&mut self) -> &mut [u8];

    /// Length over all segments, bytes.
    fn len(&self) -> usize;

    /// Whether it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves all bytes into the first segment. Returns `false`, and changes nothing, when they do
    /// not fit there.
    fn linearize(&mut self) -> bool;

    /// Adds `bytes` of undefined content in front. Returns `false` when there is no headroom.
    fn grow_front(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` off the front; they lie in the first segment. Returns `false` otherwise.
    fn shrink_front(&mut self, bytes: usize) -> bool;

    /// Sets the length of a frame of one segment; new bytes at the end have undefined content.
    /// Returns `false` when there is no tailroom or there are several segments.
    fn resize(&mut self, length: usize) -> bool;

    /// What the NIC found out about checksums.
    fn rx_checksums(&self) -> RxChecksums;

    /// Asks the NIC to fill in the IPv4 header checksum and the TCP/UDP checksum; the L4 field
    /// holds the pseudo-header sum. `l2_bytes`, `l3_bytes`: header lengths. Called only where
    /// [`PacketIo::has_tx_checksum`] says that the port can.
    fn offload_tx_checksum(&mut self, l2_bytes: usize, l3_bytes: usize, protocol: u8);
}

/// The NIC's verdict on one checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// It did not look.
    #[default]
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
}

/// The NIC's verdicts on a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RxChecksums {
    /// IPv4 header.
    pub ipv4: RxChecksum,
    /// TCP or UDP.
    pub l4: RxChecksum,
}

/// Where a worker gets empty frames and leaves full ones.
pub trait PacketIo {
    /// The frames it deals in.
    type Frame: Frame;

    /// An empty frame of one segment with headroom, or `None` when the mempool is exhausted.
    fn alloc(&mut self) -> Option<Self::Frame>;

    /// Queues `frame` for transmission on `nic_port`; what the port does not take is freed and
    /// counted there.
    fn transmit(&mut self, nic_port: NicPortId, frame: Self::Frame);

    /// Whether `nic_port` fills in IPv4 and TCP/UDP checksums on transmission.
    fn has_tx_checksum(&self, nic_port: NicPortId) -> bool;
}
