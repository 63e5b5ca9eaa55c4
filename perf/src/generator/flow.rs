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

mod reading;
mod writing;

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
