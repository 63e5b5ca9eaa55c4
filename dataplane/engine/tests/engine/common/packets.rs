//! Packets as hosts send and see them.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, IpNumber, Ipv4Header,
    Ipv4Slice, NetSlice, PacketBuilder, SlicedPacket, TcpSlice, UdpSlice,
};

use super::{INSIDE, OUTSIDE, ROUTER_MACS};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// `"10.0.0.2:5000"`
#[track_caller]
pub(crate) fn at(endpoint: &str) -> SocketAddrV4 {
    endpoint.parse().unwrap()
}

/// The MAC address of the station with an address.
pub(crate) fn mac_of([a, b, c, d]: [u8; 4]) -> [u8; 6] {
    [6, 0, a, b, c, d]
}

/// The same on a port; equal addresses on further ports are other stations.
pub(crate) fn mac_on(nic_port: u16, address: [u8; 4]) -> [u8; 6] {
    let mut mac = mac_of(address);
    if nic_port > OUTSIDE {
        mac[1] = nic_port as u8;
    }
    mac
}

/// A packet that came out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) nic_port: u16,
    pub(crate) protocol: u8,
    /// With the L4 port, or the identifier of an ICMP request.
    pub(crate) source: SocketAddrV4,
    /// With the L4 port, or the identifier of an ICMP reply.
    pub(crate) destination: SocketAddrV4,
    pub(crate) ttl: u8,
    pub(crate) tcp_flags: u8,
    pub(crate) icmp: Option<(u8, u8)>,
    pub(crate) payload: Vec<u8>,
    /// The IPv4 packet.
    pub(crate) packet: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { nic_port, protocol, source, destination, ttl, tcp_flags, icmp, .. } = self;
        write!(f, "[port {nic_port} proto {protocol} {source} -> {destination} ttl {ttl}")?;
        write!(f, " flags {tcp_flags:02x} icmp {icmp:?} {} bytes]", self.payload.len())
    }
}

impl Seen {
    pub(crate) fn new(nic_port: u16, frame: &[u8]) -> Self {
        let start = 14; // No test network has VLANs.
        let ip = Ipv4Slice::from_slice(&frame[start..]).unwrap();
        let (header, l4) = (ip.header(), ip.payload().payload);
        let endpoint = |address, l4_port| SocketAddrV4::new(address, l4_port);
        let (mut ports, mut tcp_flags, mut icmp, mut payload) = ((0, 0), 0, None, l4.to_vec());
        // Of fragments only the bytes are compared.
        match header.protocol().0 {
            _ if header.is_fragmenting_payload() => {}
            UDP => {
                let udp = UdpSlice::from_slice(l4).unwrap();
                ports = (udp.source_port(), udp.destination_port());
                payload = udp.payload().to_vec();
            }
            TCP => {
                let tcp = TcpSlice::from_slice(l4).unwrap();
                ports = (tcp.source_port(), tcp.destination_port());
                tcp_flags = tcp.slice()[13];
                payload = tcp.payload().to_vec();
            }
            ICMP => {
                let identifier = u16::from_be_bytes([l4[4], l4[5]]);
                icmp = Some((l4[0], l4[1]));
                ports = match l4[0] {
                    8 | 13 => (identifier, 0),
                    0 | 14 => (0, identifier),
                    _ => (0, 0),
                };
                payload = l4[8..].to_vec();
            }
            _ => {}
        }
        let total = usize::from(header.total_len());
        Self {
            nic_port,
            protocol: header.protocol().0,
            source: endpoint(header.source_addr(), ports.0),
            destination: endpoint(header.destination_addr(), ports.1),
            ttl: header.ttl(),
            tcp_flags,
            icmp,
            payload,
            packet: frame[start..start + total].to_vec(),
        }
    }

    /// The packet that an ICMP error embeds.
    pub(crate) fn embedded(&self) -> Self {
        assert!(matches!(self.icmp, Some((3 | 4 | 5 | 11 | 12, _))), "{self:?}");
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend(&self.payload);
        // Only a part of it is there.
        let length = self.payload.len() as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        if frame[14 + 9] == UDP {
            let l4_bytes = length - 20;
            frame[14 + 24..14 + 26].copy_from_slice(&l4_bytes.to_be_bytes());
        }
        Self::new(self.nic_port, &frame)
    }

    /// Both checksums are right (UDP: or absent).
    #[track_caller]
    pub(crate) fn verify(&self) {
        let header_bytes = usize::from(self.packet[0] & 15) * 4;
        assert_eq!(sum(&self.packet[..header_bytes], 0), 0xffff, "IPv4 checksum of {self:?}");
        assert_eq!(self.l4_sum(), 0xffff, "L4 checksum of {self:?}");
    }

    /// The one's complement sum of L4 with its pseudo header: `0xffff` when the checksum is right.
    pub(crate) fn l4_sum(&self) -> u16 {
        let l4 = &self.packet[usize::from(self.packet[0] & 15) * 4..];
        let pseudo: u64 = self.packet[12..20].chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum();
        match self.protocol {
            TCP | UDP if self.protocol == TCP || l4[6..8] != [0, 0] => {
                sum(l4, pseudo + u64::from(self.protocol) + l4.len() as u64)
            }
            ICMP => sum(l4, 0),
            _ => 0xffff,
        }
    }
}

/// Internet checksum arithmetic, word by word.
pub(crate) fn sum(bytes: &[u8], start: u64) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        total += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Which wire a host is on.
fn wire_of(host: Ipv4Addr) -> u16 {
    if host.octets()[0] == 10 { INSIDE } else { OUTSIDE }
}

fn ethernet(source: Ipv4Addr) -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(mac_of(source.octets()), ROUTER_MACS[usize::from(wire_of(source))])
}

pub(crate) fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    udp_between(at(source), at(destination), payload)
}

pub(crate) fn udp_between(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let builder = ethernet(*source.ip())
        .ipv4(source.ip().octets(), destination.ip().octets(), 64)
        .udp(source.port(), destination.port());
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn tcp(source: &str, destination: &str, flags: u8) -> Vec<u8> {
    tcp_between(at(source), at(destination), flags, b"")
}

pub(crate) fn tcp_between(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    // Every host begins at 1000, and a connection has no data yet.
    let seq = if flags & SYN == 0 { 1_001 } else { 1_000 };
    let mut header = etherparse::TcpHeader::new(source.port(), destination.port(), seq, 8_192);
    header.fin = flags & FIN != 0;
    header.syn = flags & SYN != 0;
    header.rst = flags & RST != 0;
    header.ack = flags & ACK != 0;
    if header.ack {
        header.acknowledgment_number = 1_001;
    }
    let builder =
        ethernet(*source.ip()).ipv4(source.ip().octets(), destination.ip().octets(), 64).tcp_header(header);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMP message from `source` to `destination`.
pub(crate) fn icmp(
    source: &str,
    destination: &str,
    type_and_code: (u8, u8),
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let builder = ethernet(source)
        .ipv4(source.octets(), destination.octets(), 64)
        .icmpv4(Icmpv4Type::Unknown { type_u8: type_and_code.0, code_u8: type_and_code.1, bytes5to8: rest });
    let mut frame = Vec::new();
    builder.write(&mut frame, body).unwrap();
    frame
}

pub(crate) fn echo_request(source: &str, destination: &str, identifier: u16) -> Vec<u8> {
    let [a, b] = identifier.to_be_bytes();
    icmp(source, destination, (8, 0), [a, b, 0, 1], b"ping")
}

pub(crate) fn echo_reply(source: &str, destination: &str, identifier: u16) -> Vec<u8> {
    let [a, b] = identifier.to_be_bytes();
    icmp(source, destination, (0, 0), [a, b, 0, 1], b"ping")
}

/// A packet of any protocol.
pub(crate) fn raw(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), source.octets(), destination.octets())
            .unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = ROUTER_MACS[usize::from(wire_of(source))].to_vec();
    frame.extend(mac_of(source.octets()));
    frame.extend([8, 0]);
    header.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

/// The frame with an IPv4 header byte changed, and its checksum made right again.
pub(crate) fn with_ip_byte(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[14 + at] = byte;
    let header_bytes = usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let field = !sum(&frame[14..14 + header_bytes], 0);
    frame[24..26].copy_from_slice(&field.to_be_bytes());
    frame
}

pub(crate) fn with_ttl(frame: Vec<u8>, ttl: u8) -> Vec<u8> {
    with_ip_byte(frame, 8, ttl)
}

pub(crate) fn with_dont_fragment(frame: Vec<u8>) -> Vec<u8> {
    with_ip_byte(frame, 6, 0x40)
}

/// The part of a packet's data that lies at `start..end`, as a fragment.
pub(crate) fn fragment(frame: &[u8], start: usize, end: usize, identification: u16) -> Vec<u8> {
    let data = &frame[34..];
    let is_last = end >= data.len();
    let mut piece = frame[..34].to_vec();
    piece.extend(&data[start..end.min(data.len())]);
    let total = (piece.len() - 14) as u16;
    piece[16..18].copy_from_slice(&total.to_be_bytes());
    piece[18..20].copy_from_slice(&identification.to_be_bytes());
    let place = (start / 8) as u16 | if is_last { 0 } else { 0x2000 };
    piece[20..22].copy_from_slice(&place.to_be_bytes());
    piece[24..26].fill(0);
    let field = !sum(&piece[14..34], 0);
    piece[24..26].copy_from_slice(&field.to_be_bytes());
    piece
}

/// What the host asked for by an ARP request answers; nobody asks for algate's own addresses here.
pub(crate) fn arp_reply_to(nic_port: u16, frame: &[u8]) -> Option<Vec<u8>> {
    let request = match SlicedPacket::from_ethernet(frame).ok()?.net? {
        NetSlice::Arp(arp) => ArpEthIpv4Packet::try_from(arp.to_packet()).ok()?,
        _ => return None,
    };
    if request.operation != ArpOperation::REQUEST || request.target_ipv4 == request.sender_ipv4 {
        return None;
    }
    let mac = mac_on(nic_port, request.target_ipv4);
    Some(arp(ArpOperation::REPLY, (mac, request.target_ipv4), (request.sender_mac, request.sender_ipv4)))
}

pub(crate) fn arp(
    operation: ArpOperation,
    (sender_mac, sender_ipv4): ([u8; 6], [u8; 4]),
    (target_mac, target_ipv4): ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender_mac,
        &sender_ipv4,
        &target_mac,
        &target_ipv4,
    )
    .unwrap();
    let destination = if operation == ArpOperation::REQUEST { [0xff; 6] } else { target_mac };
    let builder = PacketBuilder::ethernet2(sender_mac, destination).arp(packet);
    let mut frame = Vec::new();
    builder.write(&mut frame).unwrap();
    frame
}
