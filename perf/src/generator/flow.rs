//! What a flow's packets look like, and whether one that came back is right.
//!
//! Every packet is UDP or TCP over IPv4 with correct checksums. Flow `n` runs from an internal host (64 flows share one)
//! to one of 64 remote addresses, and names itself: data in the first bytes of its payload, a SYN or
//! the last ACK, which have none, by its sequence numbers.
//!
//! | from byte | UDP | TCP |
//! |---|---|---|
//! | 34 | ports, length, checksum | ports, numbers, flags, window, checksum |
//! | 42 | number of the flow, mark, stamp | |
//! | 54 | zeros to the end | number of the flow, mark, zeros to the end |
//!
//! *What is checked of every packet*: addresses, ports, lengths, TTL, both checksums, number and mark, and in frames of up
//! to 128 bytes every byte. Of longer frames every eighth is read to its end: there the checksum
//! field is still compared with the one right value, since what was sent is known, but a payload that changed
//! would show in one frame of eight only. Reading all of it would make the generator the bottleneck at 1,514 bytes.
//!
//! TCP's numbers move by ten for each round over all flows, so that they stay in every window without a
//! memory of each flow.

use algate_engine::packet::checksum;
use serde::Serialize;

use crate::rig::{endpoint_of, remote_of};

/// What the device does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It passes them on, at most with other MAC addresses.
    Forward,
    /// It exchanges their source and destination (`testpmd --forward-mode=5tswap`).
    Swap,
    /// It routes them: one off the TTL.
    Route,
    /// It routes them, and translates source addresses to its pool.
    Nat,
}

/// What flows are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Single datagrams.
    Udp,
    /// Connections, which must be opened.
    Tcp,
}

/// How long the frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// All as long, 64 to 1514 bytes.
    Fixed(u16),
    /// Of each twelve flows seven have 64 bytes, four 590, one 1514.
    Imix,
}

impl Sizes {
    /// The longest frame.
    #[must_use]
    pub fn longest(self) -> usize {
        match self {
            Self::Fixed(bytes) => usize::from(bytes),
            Self::Imix => 1514,
        }
    }

    #[inline]
    fn of(self, flow: u32) -> usize {
        match self {
            Self::Fixed(bytes) => usize::from(bytes),
            Self::Imix => match flow % 12 {
                0..7 => 64,
                7..11 => 590,
                _ => 1514,
            },
        }
    }
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not one of ours.
    Foreign,
    /// Addresses, ports, TTL or TCP numbers are not what they should be.
    Translation,
    /// A checksum is wrong.
    Checksum,
    /// A length is wrong, or the payload is another.
    Payload,
}

/// A packet's part in the life of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Data, of UDP too.
    Data,
    /// The first of a TCP connection; its answer.
    Syn,
    /// The last data of a side.
    Fin,
    /// The end of a connection.
    LastAck,
}

/// A packet that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its flow.
    pub flow: u32,
    /// Its part.
    pub segment: Segment,
    /// Its source, as it arrived.
    pub source: (u32, u16),
    /// What was written into it.
    pub stamp: u32,
}

/// Packets of all flows, and what is to be expected of them.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// What the flows are.
    pub protocol: Protocol,
    /// How long their frames are.
    pub sizes: Sizes,
    /// What the device does.
    pub treatment: Treatment,
    /// First and last address of the device's pool.
    pub pool: (u32, u32),
    /// Destination and source MAC address of what is sent to the internal and to the external side.
    pub macs: [[u8; 12]; 2],
    /// How far TCP's numbers have moved.
    pub progress: u32,
    /// Frames looked at, to choose those that are read to their end.
    looked: u32,
}

impl Traffic {
    /// Flows of `protocol`.
    #[must_use]
    pub fn new(protocol: Protocol, sizes: Sizes, treatment: Treatment, pool: (u32, u32)) -> Self {
        Self { protocol, sizes, treatment, pool, macs: [[0xFF; 12]; 2], progress: 0, looked: 0 }
    }

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

    /// The packet in `bytes`; lengths, filling and both checksums are right.
    #[inline]
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
    #[inline]
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
    fn numbers(&self, flow: u32) -> (u32, u32) {
        let next = self.progress.wrapping_add(1);
        (flow.wrapping_add(next), answer_isn(flow).wrapping_add(next))
    }

    #[inline]
    fn payload_bytes(&self, flow: u32) -> u32 {
        (self.sizes.of(flow) - TCP_PAYLOAD) as u32
    }

    #[inline]
    fn is_long_enough(&self, flow: u32, segment: Segment, bytes: usize) -> bool {
        match segment {
            Segment::Data | Segment::Fin => bytes == self.sizes.of(flow),
            Segment::Syn | Segment::LastAck => true,
        }
    }

    #[inline]
    const fn ttl_after(&self, hops: u8) -> u8 {
        match self.treatment {
            Treatment::Forward | Treatment::Swap => TTL,
            Treatment::Route | Treatment::Nat => TTL - hops,
        }
    }
}

/// Ends of a flow as its packets carry them: source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    src: u32,
    dst: u32,
    src_port: u16,
    dst_port: u16,
}

impl Ends {
    #[inline]
    const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port }
    }

    #[inline]
    const fn ports(self) -> u32 {
        (self.src_port as u32) << 16 | self.dst_port as u32
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
fn outbound(flow: u32) -> Ends {
    let (host, src_port) = endpoint_of(flow);
    Ends { src: host.into(), dst: remote_of(flow).into(), src_port, dst_port: 7 }
}

/// Where the numbers of the remote end begin.
#[inline]
const fn answer_isn(flow: u32) -> u32 {
    flow.wrapping_mul(0x9E37_79B1)
}

/// The first line as words in host order, from byte 2 on: the IPv4 header begins with the fourth one.
#[inline]
fn words(line: &[u8; LINE_BYTES]) -> [u32; 15] {
    let (words, _) = line.get(2..).unwrap_or_default().as_chunks::<4>();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_be_bytes(*word)))
}

#[inline]
fn sum_of<const N: usize>(words: [u32; N]) -> u64 {
    words.iter().map(|word| u64::from(*word)).sum()
}

#[inline]
fn pseudo_header(ends: Ends, protocol: u8, l4_bytes: u32) -> u64 {
    sum_of([ends.src, ends.dst, u32::from(protocol), l4_bytes])
}

#[inline]
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    let or = |word: &[u8]| word.iter().fold(0, |all, byte| all | byte);
    words.iter().fold(0, |all, word| all | or(word)) | or(rest) == 0
}

const LINE_BYTES: usize = 64;
/// Where TCP's payload begins.
const TCP_PAYLOAD: usize = 54;
const MAGIC: u32 = u32::from_be_bytes(*b"algt");
const TTL: u8 = 64;
const WINDOW: u32 = 0xFFFF;
/// How far numbers may have moved on while a packet was under way.
const MOST_LAG: u32 = 1 << 20;
const FIN: u32 = 1;
const SYN: u32 = 2;
const ACK: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: (u32, u32) = (0xC613_0000, 0xC613_00FF);
    const SIZES: [Sizes; 4] = [Sizes::Fixed(64), Sizes::Fixed(65), Sizes::Imix, Sizes::Fixed(1514)];

    fn traffic(protocol: Protocol, sizes: Sizes, treatment: Treatment) -> Traffic {
        let mut traffic = Traffic::new(protocol, sizes, treatment, POOL);
        traffic.macs = [[2; 12]; 2];
        traffic
    }

    fn packet(traffic: &Traffic, flow: u32, segment: Segment) -> Vec<u8> {
        let mut bytes = vec![0; 1536];
        let length = traffic.write(&mut bytes, flow, segment, 0x0001_F0F1);
        bytes.truncate(length);
        bytes
    }

    /// As a NAT would do it: another source, one off the TTL, both checksums made anew by others.
    fn translated(bytes: &[u8], src: Option<(u32, u16)>, dst: Option<(u32, u16)>) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (end, address_at, l4_port_at) in [(src, 26, 34), (dst, 30, 36)] {
            if let Some((address, l4_port)) = end {
                bytes[address_at..address_at + 4].copy_from_slice(&address.to_be_bytes());
                bytes[l4_port_at..l4_port_at + 2].copy_from_slice(&l4_port.to_be_bytes());
            }
        }
        bytes[22] -= 1;
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(&bytes).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(mut ip, _)) = parsed.net else { panic!("not IPv4") };
        ip.header_checksum = ip.calc_header_checksum();
        let (sum, sum_at) = match parsed.transport.unwrap() {
            etherparse::TransportHeader::Udp(udp) => {
                (udp.calc_checksum_ipv4(&ip, parsed.payload.slice()).unwrap(), 40)
            }
            etherparse::TransportHeader::Tcp(tcp) => {
                (tcp.calc_checksum_ipv4(&ip, parsed.payload.slice()).unwrap(), 50)
            }
            _ => panic!("neither UDP nor TCP"),
        };
        bytes[24..26].copy_from_slice(&ip.header_checksum.to_be_bytes());
        bytes[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    #[test]
    fn a_packet_is_what_it_says() {
        for (protocol, segment) in [
            (Protocol::Udp, Segment::Data),
            (Protocol::Tcp, Segment::Syn),
            (Protocol::Tcp, Segment::Data),
            (Protocol::Tcp, Segment::Fin),
            (Protocol::Tcp, Segment::LastAck),
        ] {
            for sizes in SIZES {
                let mut traffic = traffic(protocol, sizes, Treatment::Forward);
                traffic.progress = 1230;
                for flow in [0, 63, 64, 7_654_321, 16_777_215] {
                    let bytes = packet(&traffic, flow, segment);
                    let mut again = bytes.clone();
                    again[22] += 1;
                    assert_eq!(
                        translated(&again, None, None),
                        bytes,
                        "checksums: {protocol:?} {segment:?} {sizes:?}"
                    );
                    let seen = traffic.check_outbound(&bytes).unwrap();
                    assert_eq!((seen.flow, seen.segment), (flow, segment), "{sizes:?}");
                }
            }
        }
    }

    #[test]
    fn a_round_trip_through_a_nat_is_right_and_nothing_less_is() {
        for (protocol, segments) in [
            (Protocol::Udp, &[Segment::Data][..]),
            (Protocol::Tcp, &[Segment::Syn, Segment::Data, Segment::Fin]),
        ] {
            for &segment in segments {
                let mut traffic = traffic(protocol, Sizes::Imix, Treatment::Nat);
                let sent = packet(&traffic, 77, segment);
                let (inside, outside) = ((0x0A40_0001, 10_013), (0xC613_0007, 2000));
                assert_eq!(traffic.check_outbound(&sent), Err(Fault::Translation), "untranslated");
                let low = translated(&sent, Some((outside.0, 1023)), None);
                assert_eq!(traffic.check_outbound(&low), Err(Fault::Translation), "low port");
                let foreign = translated(&sent, Some((0xC613_0100, 2000)), None);
                assert_eq!(traffic.check_outbound(&foreign), Err(Fault::Translation), "not of the pool");
                let wrong = translated(&sent, Some(outside), Some((0xCB00_7101, 7)));
                assert_eq!(traffic.check_outbound(&wrong), Err(Fault::Translation), "other destination");
                let mut arrived = translated(&sent, Some(outside), None);
                let seen = traffic.check_outbound(&arrived).unwrap();
                assert_eq!((seen.flow, seen.segment, seen.source), (77, segment, outside));
                traffic.reflect(&mut arrived, &seen, 0x0002_0003);
                let back = translated(&arrived, None, Some(inside));
                let seen = traffic.check_inbound(&back).unwrap();
                assert_eq!((seen.flow, seen.segment), (77, segment));
                if protocol == Protocol::Udp {
                    assert_eq!(seen.stamp, 0x0002_0003);
                }
                assert_eq!(traffic.check_inbound(&arrived), Err(Fault::Translation), "untranslated");
                let neighbour = translated(&arrived, None, Some((inside.0, inside.1 + 1)));
                assert_eq!(traffic.check_inbound(&neighbour), Err(Fault::Translation), "another host");
            }
        }
    }

    #[test]
    fn tcp_numbers_are_those_of_a_conversation() {
        let traffic = traffic(Protocol::Tcp, Sizes::Fixed(64), Treatment::Swap);
        let tcp = |bytes: &[u8]| {
            let parsed = etherparse::PacketHeaders::from_ethernet_slice(bytes).unwrap();
            let tcp = parsed.transport.unwrap().tcp().unwrap();
            (tcp.sequence_number, tcp.acknowledgment_number, tcp.syn, tcp.fin, tcp.ack)
        };
        let answer_to = |segment| {
            let mut bytes = packet(&traffic, 9, segment);
            let (seq, ack, ..) = tcp(&bytes);
            let seen = Seen { flow: 9, segment, source: (0, 0), stamp: 0 };
            traffic.reflect(&mut bytes, &seen, 0);
            ((seq, ack), tcp(&bytes))
        };
        let isn = answer_isn(9);
        assert_eq!(answer_to(Segment::Syn), ((9, 0), (isn, 10, true, false, true)));
        assert_eq!(answer_to(Segment::Data), ((10, isn + 1), (isn + 1, 20, false, false, true)));
        assert_eq!(answer_to(Segment::Fin), ((10, isn + 1), (isn + 1, 21, false, true, true)));
        assert_eq!(tcp(&packet(&traffic, 9, Segment::LastAck)), (21, isn + 12, false, false, true));
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        for (protocol, segment) in
            [(Protocol::Udp, Segment::Data), (Protocol::Tcp, Segment::Data), (Protocol::Tcp, Segment::Syn)]
        {
            let mut traffic = traffic(protocol, Sizes::Fixed(100), Treatment::Forward);
            let good = packet(&traffic, 77, segment);
            // Behind the Ethernet header, where no checksum looks.
            for bit in 14 * 8..good.len() * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(traffic.check_outbound(&bytes).is_err(), "{protocol:?} bit {bit}");
            }
        }
    }

    #[test]
    fn of_long_frames_every_checksum_and_every_eighth_payload_is_checked() {
        let mut traffic = traffic(Protocol::Udp, Sizes::Fixed(1514), Treatment::Forward);
        let good = packet(&traffic, 77, Segment::Data);
        let faults = |traffic: &mut Traffic, at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            (0..8).filter(|_| traffic.check_outbound(&bytes).is_err()).count()
        };
        for at in [25, 41] {
            assert_eq!(faults(&mut traffic, at), 8, "checksum at {at}");
        }
        for at in [64, 700, 1513] {
            assert_eq!(faults(&mut traffic, at), 1, "payload at {at}");
        }
    }
}
