//! TCP segments into and out of the stream layer (RFC 9293 section 3.1).
//!
//! [`TcpSegment`] is read from a verified segment; [`Outgoing`] is what the stage wants sent. Ports,
//! checksum and everything below belong to the caller.

use super::options::TcpOptions;
use super::seq::SeqNum;

/// One received segment. Its checksum was verified in full.
#[derive(Debug, Clone, Copy)]
pub struct TcpSegment<'a> {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number; meaningless without [`TcpFlags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field, not scaled.
    pub window: u16,
    /// Urgent pointer field.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions<'a>,
    /// Data.
    pub payload: &'a [u8],
}

/// One segment to send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Sequence number, as the receiver counts.
    pub seq: SeqNum,
    /// Acknowledgement number, as the receiver counts what it sent itself.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field, already scaled.
    pub window: u16,
    /// Urgent pointer field.
    pub urgent: u16,
    /// Option bytes, a multiple of four, at most 40.
    pub options: &'a [u8],
    /// Data, in two parts of which any may be empty.
    pub payload: [&'a [u8]; 2],
}

/// Control bits of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

/// Why bytes are no TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentError {
    /// Shorter than the fixed header.
    Truncated,
    /// The data offset lies inside the fixed header or behind the segment.
    BadDataOffset,
}

impl<'a> TcpSegment<'a> {
    /// Reads a segment from its TCP header on.
    ///
    /// # Errors
    /// [`SegmentError`] when the lengths are impossible.
    pub fn parse(tcp: &'a [u8]) -> Result<Self, SegmentError> {
        let Some(&[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, _, _, u0, u1]) =
            tcp.first_chunk::<HEADER_BYTES>()
        else {
            return Err(SegmentError::Truncated);
        };
        let header_bytes = usize::from(offset >> 4) * 4;
        let (Some(options), Some(payload)) = (tcp.get(HEADER_BYTES..header_bytes), tcp.get(header_bytes..))
        else {
            return Err(SegmentError::BadDataOffset);
        };
        Ok(Self {
            seq: SeqNum(u32::from_be_bytes([s0, s1, s2, s3])),
            ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
            flags: TcpFlags(flags),
            window: u16::from_be_bytes([w0, w1]),
            urgent: u16::from_be_bytes([u0, u1]),
            options: TcpOptions::parse(options),
            payload,
        })
    }
}

impl Outgoing<'_> {
    /// Bytes of header and options.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        HEADER_BYTES + self.options.len()
    }

    /// Bytes of data.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        let [first, second] = self.payload;
        first.len() + second.len()
    }

    /// Writes header, options and data at the start of `into`, with the checksum field zero. Returns
    /// the number of bytes written, or `None`, nothing written, when `into` is too short.
    pub fn write(&self, source_l4_port: u16, destination_l4_port: u16, into: &mut [u8]) -> Option<usize> {
        let header_bytes = self.header_bytes();
        let length = header_bytes + self.payload_bytes();
        let into = into.get_mut(..length)?;
        let (header, payload) = into.split_at_mut(header_bytes);
        let (fixed, options) = header.split_at_mut(HEADER_BYTES);
        let fixed: &mut [u8; HEADER_BYTES] = fixed.try_into().ok()?;
        let [s0, s1] = source_l4_port.to_be_bytes();
        let [d0, d1] = destination_l4_port.to_be_bytes();
        let [q0, q1, q2, q3] = self.seq.0.to_be_bytes();
        let [a0, a1, a2, a3] = self.ack.0.to_be_bytes();
        // At most 60 bytes of header: the offset fits its four bits.
        let offset = ((header_bytes / 4) as u8) << 4;
        let [w0, w1] = self.window.to_be_bytes();
        let [u0, u1] = self.urgent.to_be_bytes();
        *fixed = [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, self.flags.0, w0, w1, 0, 0, u0, u1];
        options.copy_from_slice(self.options);
        let [first, second] = self.payload;
        let (front, back) = payload.split_at_mut(first.len());
        front.copy_from_slice(first);
        back.copy_from_slice(second);
        Some(length)
    }
}

impl TcpFlags {
    /// No more data from sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The header without options.
pub(super) const HEADER_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let outgoing = Outgoing {
            seq: SeqNum(0xfffe_0001),
            ack: SeqNum(7),
            flags: TcpFlags::ACK.with(TcpFlags::PSH),
            window: 512,
            urgent: 3,
            options: &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: [b"PORT ", b"1,2"],
        };
        let mut bytes = [0; 64];
        assert_eq!(outgoing.write(21, 1024, &mut bytes), Some(40));
        assert_eq!(outgoing.write(21, 1024, &mut bytes[..39]), None);
        let segment = TcpSegment::parse(&bytes[..40]).unwrap();
        assert_eq!((segment.seq, segment.ack, segment.flags), (outgoing.seq, outgoing.ack, outgoing.flags));
        assert_eq!((segment.window, segment.urgent, segment.payload), (512, 3, &b"PORT 1,2"[..]));
        assert_eq!(segment.options.timestamps.unwrap().echo, 2);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let mut bytes = [0; 24];
        assert_eq!(TcpSegment::parse(&bytes[..19]).unwrap_err(), SegmentError::Truncated);
        bytes[12] = 0x40;
        assert_eq!(TcpSegment::parse(&bytes).unwrap_err(), SegmentError::BadDataOffset);
        bytes[12] = 0x70;
        assert_eq!(TcpSegment::parse(&bytes).unwrap_err(), SegmentError::BadDataOffset);
        bytes[12] = 0x60;
        assert!(TcpSegment::parse(&bytes).unwrap().payload.is_empty());
    }
}
