//! ARP packets for IPv4 over Ethernet (RFC 826; RFC 5227 section 2.1.1 for probes): bytes to values.

use crate::drop_reason::DropReason;
use crate::packet::ARP_BYTES;

/// An ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    /// What it wants.
    pub operation: ArpOperation,
    /// Who speaks.
    pub sender_mac: [u8; 6],
    /// The speaker's address; 0 in a probe.
    pub sender: u32,
    /// Whom it concerns; anything in a request.
    pub target_mac: [u8; 6],
    /// The address it concerns.
    pub target: u32,
}

/// An ARP operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

impl ArpPacket {
    /// Reads the ARP packet at the start of `bytes`; padding may follow.
    ///
    /// # Errors
    ///
    /// [`DropReason::Truncated`]: shorter than 28 bytes. [`DropReason::BadArp`]: not Ethernet and IPv4,
    /// neither request nor reply, or a group address as the sender's.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let packet = bytes.first_chunk::<ARP_BYTES>().ok_or(DropReason::Truncated)?;
        let [h0, h1, p0, p1, hardware_bytes, protocol_bytes, o0, o1, addresses @ ..] = *packet;
        // Hardware type 1 (Ethernet), protocol type 0x0800 (IPv4), 6 and 4 bytes of address.
        if [h0, h1, p0, p1, hardware_bytes, protocol_bytes] != [0, 1, 0x08, 0x00, 6, 4] {
            return Err(DropReason::BadArp);
        }
        let operation = match [o0, o1] {
            [0, 1] => ArpOperation::Request,
            [0, 2] => ArpOperation::Reply,
            _ => return Err(DropReason::BadArp),
        };
        let [a, b, c, d, e, f, s0, s1, s2, s3, target @ ..] = addresses;
        let [t, u, v, w, x, y, t0, t1, t2, t3] = target;
        let sender_mac = [a, b, c, d, e, f];
        if sender_mac == [0; 6] || a & 1 != 0 {
            return Err(DropReason::BadArp);
        }
        Ok(Self {
            operation,
            sender_mac,
            sender: u32::from_be_bytes([s0, s1, s2, s3]),
            target_mac: [t, u, v, w, x, y],
            target: u32::from_be_bytes([t0, t1, t2, t3]),
        })
    }

    /// The packet's bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; ARP_BYTES] {
        let mut bytes = [0; ARP_BYTES];
        bytes[0..8].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, self.operation.number()]);
        bytes[8..14].copy_from_slice(&self.sender_mac);
        bytes[14..18].copy_from_slice(&self.sender.to_be_bytes());
        bytes[18..24].copy_from_slice(&self.target_mac);
        bytes[24..28].copy_from_slice(&self.target.to_be_bytes());
        bytes
    }
}

impl ArpOperation {
    const fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }
}
