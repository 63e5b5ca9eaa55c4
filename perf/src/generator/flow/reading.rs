//! Packets as they are read: what is checked of one that came through the device.

use algate_engine::packet::checksum;

use super::{
    Ends, FIN, Fault, LINE_BYTES, MAGIC, MOST_LAG, Protocol, SYN, Seen, Segment, Sizes, TCP_PAYLOAD, Traffic,
    Treatment, answer_isn, outbound, pseudo_header, sum_of, words,
};

impl Traffic {
    /// Checks a packet that went out through the device and arrived on the external link.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check_outbound(&mut self, bytes: &[u8]) -> Result<Seen, Fault> {
        let packet = self.read(bytes)?;
        let (flow, segment) = self.name(&packet, true)?;
        let (sent, is_ttl) = (outbound(flow), packet.ttl == self.ttl_after(1));
        let Ends { src, dst, src_port, dst_port } = packet.ends;
        let is_right = match self.treatment {
            Treatment::Forward | Treatment::Route => packet.ends == sent,
            Treatment::Swap => packet.ends == sent.reversed(),
            Treatment::Nat => {
                (dst, dst_port) == (sent.dst, sent.dst_port)
                    && (self.pool.0..=self.pool.1).contains(&src)
                    && src_port >= 1024
            }
        };
        if is_right && is_ttl && self.is_long_enough(flow, segment, bytes.len()) {
            Ok(Seen { flow, segment, source: (src, src_port), stamp: packet.stamp })
        } else {
            Err(Fault::Translation)
        }
    }

    /// Checks a packet that came back through the device to the internal link.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    pub fn check_inbound(&mut self, bytes: &[u8]) -> Result<Seen, Fault> {
        let packet = self.read(bytes)?;
        let (flow, segment) = self.name(&packet, false)?;
        let is_ttl = packet.ttl == self.ttl_after(2);
        if packet.ends == outbound(flow).reversed()
            && is_ttl
            && self.is_long_enough(flow, segment, bytes.len())
        {
            let source = (packet.ends.src, packet.ends.src_port);
            Ok(Seen { flow, segment, source, stamp: packet.stamp })
        } else {
            Err(Fault::Translation)
        }
    }

    /// The packet in `bytes`; lengths, filling and both checksums are right.
    // Always: a result that is written in pieces and copied whole waits for every store before it, a third of the generator's time.
    #[inline(always)]
    fn read(&mut self, bytes: &[u8]) -> Result<Packet, Fault> {
        let Some((line, rest)) = bytes.split_first_chunk::<LINE_BYTES>() else { return Err(Fault::Foreign) };
        let [_, _, _, ip0, ip1, ip2, src, dst, l4_ports, w9, w10, w11, w12, w13, w14] = words(line);
        let protocol = (ip2 >> 16) as u8;
        let (name, mark, is_ours) = match self.protocol {
            Protocol::Udp => (w10, w11, protocol == 17 && w11 == MAGIC),
            Protocol::Tcp => (w13, w14, protocol == 6),
        };
        if !is_ours || line[12..15] != [0x08, 0x00, 0x45] {
            return Err(Fault::Foreign);
        }
        let ip_bytes = ip0 & 0xFFFF;
        let end = u32::from(u16::from_be_bytes([line[62], line[63]]));
        let filling = if self.protocol == Protocol::Udp { w13 | w14 | end } else { end };
        // Short TCP segments are padded to the shortest frame.
        let is_padded = self.protocol == Protocol::Tcp && bytes.len() == LINE_BYTES;
        let is_length =
            ip_bytes as usize + 14 == bytes.len() || is_padded && ip_bytes as usize + 14 < LINE_BYTES;
        let is_udp_length = self.protocol == Protocol::Tcp || w9 >> 16 == ip_bytes.wrapping_sub(20);
        self.looked = self.looked.wrapping_add(1);
        let is_read = bytes.len() <= 2 * LINE_BYTES || self.looked & 7 == 0;
        if filling != 0 || !is_length || !is_udp_length || is_read && !is_zero(rest) {
            return Err(Fault::Payload);
        }
        let ends = Ends { src, dst, src_port: (l4_ports >> 16) as u16, dst_port: l4_ports as u16 };
        // What fills the packet is zero, so it is in no sum.
        let sum = pseudo_header(ends, protocol, ip_bytes.wrapping_sub(20))
            + sum_of([l4_ports, w9, w10, w11, w12])
            + sum_of([w13, w14]);
        if checksum::fold(sum_of([ip0, ip1, ip2, src, dst])) != 0xFFFF || checksum::fold(sum) != 0xFFFF {
            return Err(Fault::Checksum);
        }
        let tcp =
            Tcp { seq: w9, ack: w10, flags: w11 >> 16 & 0xFF, payload_bytes: ip_bytes.wrapping_sub(40) };
        Ok(Packet { ends, ttl: (ip2 >> 24) as u8, name, mark, stamp: w12, tcp })
    }

    /// The flow a packet names, and its part there. Of TCP the numbers are right.
    // Always, as `read`.
    #[inline(always)]
    fn name(&self, packet: &Packet, is_outbound: bool) -> Result<(u32, Segment), Fault> {
        let Packet { name, mark, tcp, .. } = packet;
        if self.protocol == Protocol::Udp {
            return Ok((*name, Segment::Data));
        }
        if tcp.flags & SYN != 0 {
            let flow = if is_outbound { tcp.seq } else { tcp.ack.wrapping_sub(1) };
            let is_right = if is_outbound { tcp.flags == SYN } else { tcp.seq == answer_isn(flow) };
            return if is_right { Ok((flow, Segment::Syn)) } else { Err(Fault::Translation) };
        }
        if tcp.payload_bytes == 0 {
            // Only its sequence number names it, and all are sent at the same progress; the length of the data before it
            // follows from the acknowledgement.
            let sizes = match self.sizes {
                Sizes::Fixed(bytes) => [bytes; 3],
                Sizes::Imix => [64, 590, 1514],
            };
            let sizes = sizes.map(|bytes| u32::from(bytes) - TCP_PAYLOAD as u32 + 1);
            let of_size = |after: &u32| {
                let flow = tcp.seq.wrapping_sub(self.progress + 1 + after);
                self.payload_bytes(flow) + 1 == *after && tcp.ack == self.numbers(flow).1.wrapping_add(*after)
            };
            let after = sizes.iter().find(|after| of_size(after)).ok_or(Fault::Translation)?;
            return Ok((tcp.seq.wrapping_sub(self.progress + 1 + after), Segment::LastAck));
        }
        let fin = u32::from(tcp.flags & FIN != 0);
        // An answer acknowledges what it answers.
        let (seq, ack) = match is_outbound {
            true => (tcp.seq, tcp.ack),
            false => (tcp.ack.wrapping_sub(tcp.payload_bytes + fin), tcp.seq),
        };
        let sent_at = seq.wrapping_sub(name.wrapping_add(1));
        let is_recent = self.progress.wrapping_sub(sent_at) <= MOST_LAG;
        if *mark == MAGIC && is_recent && ack.wrapping_sub(answer_isn(*name).wrapping_add(1)) == sent_at {
            Ok((*name, if fin == 0 { Segment::Data } else { Segment::Fin }))
        } else {
            Err(Fault::Translation)
        }
    }

    #[inline]
    fn is_long_enough(&self, flow: u32, segment: Segment, bytes: usize) -> bool {
        match segment {
            Segment::Data | Segment::Fin => bytes == self.sizes.of(flow),
            Segment::Syn | Segment::LastAck => true,
        }
    }
}

/// What a packet says.
#[derive(Debug, Clone, Copy)]
struct Packet {
    ends: Ends,
    ttl: u8,
    name: u32,
    mark: u32,
    stamp: u32,
    tcp: Tcp,
}

/// Of TCP only.
#[derive(Debug, Clone, Copy)]
struct Tcp {
    seq: u32,
    ack: u32,
    flags: u32,
    payload_bytes: u32,
}

#[inline]
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    let or = |word: &[u8]| word.iter().fold(0, |all, byte| all | byte);
    words.iter().fold(0, |all, word| all | or(word)) | or(rest) == 0
}
