//! Packets as they are written: each flow's own, and the answer to one that arrived.

use algate_engine::packet::checksum;

use super::{
    ACK, Ends, FIN, LINE_BYTES, MAGIC, Protocol, SYN, Seen, Segment, TCP_PAYLOAD, TTL, Traffic, WINDOW,
    answer_isn, outbound, pseudo_header, sum_of, words,
};

impl Traffic {
    /// Writes a packet of `flow` to the beginning of `buffer`, which is zero from byte 64 on or holds a packet of another
    /// flow. `stamp` goes with UDP. Returns the packet's length.
    #[inline]
    pub fn write(&self, buffer: &mut [u8], flow: u32, segment: Segment, stamp: u32) -> usize {
        let ends = outbound(flow);
        match self.protocol {
            Protocol::Udp => self.write_udp(buffer, flow, ends, stamp),
            Protocol::Tcp => {
                let numbers = match segment {
                    Segment::Syn => (flow, 0),
                    Segment::Data | Segment::Fin => self.numbers(flow),
                    Segment::LastAck => {
                        let (seq, ack) = self.numbers(flow);
                        (
                            seq.wrapping_add(self.payload_bytes(flow) + 1),
                            ack.wrapping_add(self.payload_bytes(flow) + 1),
                        )
                    }
                };
                self.write_tcp(buffer, flow, ends, segment, numbers)
            }
        }
    }

    /// Turns a right packet round: what arrived is answered. Returns its length. A new `stamp` goes with UDP.
    #[inline]
    pub fn reflect(&self, bytes: &mut [u8], seen: &Seen, stamp: u32) -> usize {
        let length = bytes.len();
        let Some((line, _)) = bytes.split_first_chunk_mut::<LINE_BYTES>() else { return 0 };
        let [_, _, _, _, _, _, src, dst, l4_ports, ..] = words(line);
        line[0..12].copy_from_slice(&self.macs[1]);
        line[26..30].copy_from_slice(&dst.to_be_bytes());
        line[30..34].copy_from_slice(&src.to_be_bytes());
        line[34..38].copy_from_slice(&l4_ports.rotate_left(16).to_be_bytes());
        match self.protocol {
            Protocol::Udp => {
                if stamp != seen.stamp {
                    let delta = checksum::Delta::of_u32(seen.stamp, stamp);
                    let field = u16::from_be_bytes([line[40], line[41]]);
                    line[40..42].copy_from_slice(&delta.apply_udp(field).to_be_bytes());
                    line[50..54].copy_from_slice(&stamp.to_be_bytes());
                }
            }
            Protocol::Tcp => self.reflect_tcp(line, length, seen),
        }
        length
    }

    /// The answer's numbers: what was acknowledged comes next, and what came is acknowledged.
    #[inline]
    fn reflect_tcp(&self, line: &mut [u8; LINE_BYTES], length: usize, seen: &Seen) {
        let [.., seq, ack, control, sum, _, _] = words(line);
        let (new_seq, new_ack, flags) = match seen.segment {
            Segment::Syn => (answer_isn(seen.flow), seq.wrapping_add(1), SYN | ACK),
            Segment::Fin => (ack, seq.wrapping_add(length as u32 - TCP_PAYLOAD as u32 + 1), FIN | ACK),
            Segment::Data | Segment::LastAck => {
                (ack, seq.wrapping_add(length as u32 - TCP_PAYLOAD as u32), ACK)
            }
        };
        let new_control = control & !(0xFF << 16) | flags << 16;
        let delta = checksum::Delta::of_u32(seq, new_seq)
            + checksum::Delta::of_u32(ack, new_ack)
            + checksum::Delta::of_u32(control, new_control);
        line[38..42].copy_from_slice(&new_seq.to_be_bytes());
        line[42..46].copy_from_slice(&new_ack.to_be_bytes());
        line[46..50].copy_from_slice(&new_control.to_be_bytes());
        line[50..52].copy_from_slice(&delta.apply((sum >> 16) as u16).to_be_bytes());
    }

    #[inline]
    fn write_udp(&self, buffer: &mut [u8], flow: u32, ends: Ends, stamp: u32) -> usize {
        let length = self.sizes.of(flow);
        let udp_bytes = (length - 34) as u32;
        let sum = pseudo_header(ends, 17, udp_bytes)
            + u64::from(ends.ports())
            + u64::from(udp_bytes)
            + sum_of([flow, MAGIC, stamp]);
        let field = match !checksum::fold(sum) {
            0 => 0xFFFF,
            field => u32::from(field),
        };
        let l4 = [ends.ports(), udp_bytes << 16 | field, flow, MAGIC, stamp, 0, 0];
        self.write_line(buffer, ends, 17, length, l4)
    }

    #[inline]
    fn write_tcp(
        &self,
        buffer: &mut [u8],
        flow: u32,
        ends: Ends,
        segment: Segment,
        (seq, ack): (u32, u32),
    ) -> usize {
        let (length, flags, name) = match segment {
            Segment::Data => (self.sizes.of(flow), ACK, [flow, MAGIC]),
            Segment::Fin => (self.sizes.of(flow), FIN | ACK, [flow, MAGIC]),
            // Maximum segment size and "SACK permitted", and padding.
            Segment::Syn => (TCP_PAYLOAD + 8, SYN, [0x0204_05B4, 0x0402_0101]),
            Segment::LastAck => (TCP_PAYLOAD, ACK, [0, 0]),
        };
        let header_words = if segment == Segment::Syn { 7 } else { 5 };
        let control = header_words << 28 | flags << 16 | WINDOW;
        let named = if segment == Segment::LastAck { 0 } else { sum_of(name) };
        let sum =
            pseudo_header(ends, 6, (length - 34) as u32) + sum_of([ends.ports(), seq, ack, control]) + named;
        let field = u32::from(!checksum::fold(sum));
        let [first, second] = name;
        let l4 = [ends.ports(), seq, ack, control, field << 16, first, second];
        self.write_line(buffer, ends, 6, length, l4)
    }

    /// Writes one cache line: Ethernet and IPv4 header, and `l4` from byte 34 on. A shorter packet is padded by it.
    #[inline]
    fn write_line(&self, buffer: &mut [u8], ends: Ends, protocol: u8, length: usize, l4: [u32; 7]) -> usize {
        let Some(line) = buffer.first_chunk_mut::<LINE_BYTES>() else { return 0 };
        let ip_bytes = (length - 14) as u32;
        // No identification, DF, 64 hops.
        let ttl = u32::from(TTL) << 24 | u32::from(protocol) << 16;
        let sum = sum_of([0x4500_0000 | ip_bytes, 0x4000, ttl, ends.src, ends.dst]);
        let field = u32::from(!checksum::fold(sum));
        line[0..12].copy_from_slice(&self.macs[0]);
        line[12..14].copy_from_slice(&[0x08, 0x00]);
        let ip = [0x4500_0000 | ip_bytes, 0x4000, ttl | field, ends.src, ends.dst];
        let (places, _) = line.get_mut(14..62).unwrap_or_default().as_chunks_mut::<4>();
        for (place, word) in places.iter_mut().zip(ip.into_iter().chain(l4)) {
            *place = word.to_be_bytes();
        }
        line[62..64].fill(0);
        length.max(LINE_BYTES)
    }
}
