//! What a flow's packets look like, and whether one that came back is right.
//!
//! Every packet is UDP over IPv4 with correct checksums and names its flow in its payload. Flow `n` runs from an
//! internal host (64 flows share one) to one of 64 remote addresses.

use algate_engine::packet::checksum;

use crate::rig::{endpoint_of, remote_of};

/// What the device does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It forwards them untouched from link to link.
    Forward,
    /// It translates source addresses to its pool, and takes one off the TTL.
    Nat,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not one of ours.
    Foreign,
    /// Addresses or ports are not what they should be.
    Translation,
    /// A checksum is wrong.
    Checksum,
}

/// Ends of a flow as its packets carry them: source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    src: u32,
    dst: u32,
    src_port: u16,
    dst_port: u16,
}

/// Writes the headers and the name of `flow` over the whole of `bytes`, whose payload is zero behind the name.
pub fn write(bytes: &mut [u8], flow: u32, src_mac: [u8; 6], dst_mac: [u8; 6]) {
    let length = bytes.len();
    let Some((headers, _)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let ends = outbound(flow);
    let (ip_bytes, udp_bytes) = ((length - 14) as u16, (length - 34) as u16);
    headers[0..6].copy_from_slice(&dst_mac);
    headers[6..12].copy_from_slice(&src_mac);
    headers[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    headers[16..18].copy_from_slice(&ip_bytes.to_be_bytes());
    // No identification, DF, 64 hops, UDP.
    headers[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    headers[26..30].copy_from_slice(&ends.src.to_be_bytes());
    headers[30..34].copy_from_slice(&ends.dst.to_be_bytes());
    headers[34..36].copy_from_slice(&ends.src_port.to_be_bytes());
    headers[36..38].copy_from_slice(&ends.dst_port.to_be_bytes());
    headers[38..40].copy_from_slice(&udp_bytes.to_be_bytes());
    headers[40..42].fill(0);
    headers[42..46].copy_from_slice(&flow.to_be_bytes());
    headers[46..50].copy_from_slice(&MAGIC.to_be_bytes());
    let addresses = u64::from(ends.src) + u64::from(ends.dst);
    let field = !checksum::fold(0x4500 + u64::from(ip_bytes) + 0x4000 + 0x4011 + addresses);
    headers[24..26].copy_from_slice(&field.to_be_bytes());
    let pseudo_header = checksum::pseudo_header(ends.src, ends.dst, 17, udp_bytes);
    let header = u64::from(ends.src_port) + u64::from(ends.dst_port) + u64::from(udp_bytes);
    let field = match !checksum::fold(pseudo_header + header + u64::from(flow) + u64::from(MAGIC)) {
        0 => 0xFFFF,
        field => field,
    };
    headers[40..42].copy_from_slice(&field.to_be_bytes());
}

/// Checks a packet that went out through the device and arrived on the external link. Returns its flow and its source
/// as the outside sees it.
///
/// # Errors
/// What is wrong with it.
#[inline]
pub fn check_outbound(
    bytes: &[u8],
    treatment: Treatment,
    pool: (u32, u32),
) -> Result<(u32, (u32, u16)), Fault> {
    let (flow, ends) = read(bytes)?;
    let sent = outbound(flow);
    let is_right = match treatment {
        Treatment::Forward => ends == sent,
        Treatment::Nat => {
            (ends.dst, ends.dst_port) == (sent.dst, sent.dst_port)
                && (pool.0..=pool.1).contains(&ends.src)
                && ends.src_port >= 1024
        }
    };
    if is_right { Ok((flow, (ends.src, ends.src_port))) } else { Err(Fault::Translation) }
}

/// Checks a packet that came back through the device to the internal link.
///
/// # Errors
/// What is wrong with it.
#[inline]
pub fn check_inbound(bytes: &[u8]) -> Result<u32, Fault> {
    let (flow, ends) = read(bytes)?;
    let sent = outbound(flow);
    let expected = Ends { src: sent.dst, dst: sent.src, src_port: sent.dst_port, dst_port: sent.src_port };
    if ends == expected { Ok(flow) } else { Err(Fault::Translation) }
}

/// Turns a packet round: what arrived is answered. Checksums do not change by it.
#[inline]
pub fn reflect(bytes: &mut [u8], src_mac: [u8; 6], dst_mac: [u8; 6]) {
    let Some((headers, _)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let [.., src, dst, l4_ports, _, _, _] = words(headers);
    headers[0..6].copy_from_slice(&dst_mac);
    headers[6..12].copy_from_slice(&src_mac);
    headers[26..30].copy_from_slice(&dst.to_be_bytes());
    headers[30..34].copy_from_slice(&src.to_be_bytes());
    headers[34..38].copy_from_slice(&l4_ports.rotate_left(16).to_be_bytes());
}

/// The flow a packet names, and its ends; both checksums are right.
#[inline]
fn read(bytes: &[u8]) -> Result<(u32, Ends), Fault> {
    let Some((headers, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Fault::Foreign);
    };
    let [_, _, _, ip0, ip1, ip2, src, dst, l4_ports, udp, flow, magic] = words(headers);
    if magic != MAGIC || headers[12..15] != [0x08, 0x00, 0x45] {
        return Err(Fault::Foreign);
    }
    let sum = |words: &[u32]| words.iter().map(|word| u64::from(*word)).sum::<u64>();
    let ip_sum = sum(&[ip0, ip1, ip2, src, dst]);
    let pseudo_header = checksum::pseudo_header(src, dst, 17, (bytes.len() - 34) as u16);
    let udp_sum = pseudo_header + sum(&[l4_ports, udp, flow, magic]) + checksum::sum(payload);
    if checksum::fold(ip_sum) != 0xFFFF || checksum::fold(udp_sum) != 0xFFFF {
        return Err(Fault::Checksum);
    }
    Ok((flow, Ends { src, dst, src_port: (l4_ports >> 16) as u16, dst_port: l4_ports as u16 }))
}

#[inline]
fn outbound(flow: u32) -> Ends {
    let (host, src_port) = endpoint_of(flow);
    Ends { src: host.into(), dst: remote_of(flow).into(), src_port, dst_port: 7 }
}

/// The headers as words in host order, from byte 2 on: the IPv4 header begins with the fourth one.
#[inline]
fn words(headers: &[u8; HEADER_BYTES]) -> [u32; 12] {
    let (words, _) = headers.get(2..).unwrap_or_default().as_chunks::<4>();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_be_bytes(*word)))
}

/// Ethernet, IPv4 and UDP header, and the name of the flow.
const HEADER_BYTES: usize = 50;
const MAGIC: u32 = u32::from_be_bytes(*b"algt");

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const POOL: (u32, u32) = (0xC613_0000, 0xC613_00FF);

    fn packet(flow: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        write(&mut bytes, flow, MAC, MAC);
        bytes
    }

    #[test]
    fn a_packet_is_what_it_says() {
        for (flow, length) in [(0, 64), (63, 65), (64, 590), (1_000_000, 1514)] {
            let bytes = packet(flow, length);
            let parsed = etherparse::PacketHeaders::from_ethernet_slice(&bytes).unwrap();
            let ip = parsed.net.unwrap();
            let etherparse::NetHeaders::Ipv4(ip, _) = ip else { panic!("not IPv4") };
            let udp = parsed.transport.unwrap().udp().unwrap();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, parsed.payload.slice()).unwrap());
            assert!(check_outbound(&bytes, Treatment::Forward, POOL).is_ok_and(|(name, _)| name == flow));
        }
    }

    #[test]
    fn what_is_reflected_comes_back_right() {
        let mut bytes = packet(77, 64);
        reflect(&mut bytes, MAC, MAC);
        assert_eq!(check_inbound(&bytes), Ok(77));
        reflect(&mut bytes, MAC, MAC);
        assert_eq!(check_inbound(&bytes), Err(Fault::Translation));
    }

    #[test]
    fn every_damaged_bit_is_seen() {
        let good = packet(77, 64);
        // Behind the Ethernet header, where no checksum looks.
        for bit in 14 * 8..64 * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check_outbound(&bytes, Treatment::Forward, POOL).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_untranslated_packet_is_a_fault() {
        assert_eq!(check_outbound(&packet(1, 64), Treatment::Nat, POOL), Err(Fault::Translation));
    }
}
