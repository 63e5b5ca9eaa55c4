//! Traffic for an ALG: SIP requests from internal phones, and their answers (RFC 3261 section 11).
//!
//! An OPTIONS request over UDP carries the phone's address twice, in Via and Contact. Outside both must be
//! the external endpoint that the packet itself leaves from; the answer copies Via, which must come back to the phone
//! as it was sent.

use std::net::Ipv4Addr;

use algate_engine::packet::checksum;

use crate::generator::flow::Fault;

/// Writes the request of `phone` into `buffer`, which is cleared to its end. Returns the frame's length.
#[must_use]
pub fn write_request(buffer: &mut [u8], macs: &[u8; 12], phone: u32) -> usize {
    let (own, server) = (Ipv4Addr::from(address_of(phone)), Ipv4Addr::from(SERVER));
    let text = format!(
        "OPTIONS sip:{server} SIP/2.0\r\n{}Max-Forwards: 70\r\nFrom: <sip:{phone}@example.net>;tag=p{phone}\r\n\
         To: <sip:{server}>\r\nCall-ID: c{phone}@example.net\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:{phone}@{own}:5060>\r\nContent-Length: 0\r\n\r\n",
        via(own, PORT, phone),
    );
    buffer.fill(0);
    write(buffer, macs, (u32::from(own), PORT), (SERVER, PORT), &text)
}

/// Checks a request outside, and writes its answer over it. Returns the answer's length.
///
/// # Errors
/// What is wrong with the request.
pub fn answer(bytes: &[u8], buffer: &mut [u8], macs: &[u8; 12], pool: (u32, u32)) -> Result<usize, Fault> {
    let packet = Datagram::read(bytes)?;
    let (address, l4_port) = packet.src;
    let source = Ipv4Addr::from(address);
    let phone = packet.phone().ok_or(Fault::Payload)?;
    let is_translated = packet.text.contains(&via(source, l4_port, phone))
        && packet.text.contains(&format!("Contact: <sip:{phone}@{source}:{l4_port}>\r\n"));
    if !is_translated || !(pool.0..=pool.1).contains(&address) || packet.dst != (SERVER, PORT) {
        return Err(Fault::Translation);
    }
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for line in packet.text.split_inclusive("\r\n") {
        if ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Content-Length:"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            text += line;
        }
    }
    text += "\r\n";
    let (src, dst) = (packet.dst, packet.src);
    buffer.fill(0);
    Ok(write(buffer, macs, src, dst, &text))
}

/// Checks an answer inside.
///
/// # Errors
/// What is wrong with it.
pub fn check_answer(bytes: &[u8]) -> Result<(), Fault> {
    let packet = Datagram::read(bytes)?;
    let phone = packet.phone().ok_or(Fault::Payload)?;
    let own = address_of(phone);
    let is_right = packet.text.starts_with("SIP/2.0 200 OK\r\n")
        && packet.text.contains(&via(own.into(), PORT, phone))
        && (packet.src, packet.dst) == ((SERVER, PORT), (own, PORT));
    if is_right { Ok(()) } else { Err(Fault::Translation) }
}

/// A UDP datagram with text in it, whose checksums are right.
struct Datagram<'a> {
    src: (u32, u16),
    dst: (u32, u16),
    text: &'a str,
}

impl<'a> Datagram<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (head, payload) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Fault::Foreign)?;
        if head[12..15] != [0x08, 0x00, 0x45] || head[23] != 17 {
            return Err(Fault::Foreign);
        }
        let byte = |at: usize| head.get(at).copied().unwrap_or_default();
        let number = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
        let word = |at: usize| u32::from(number(at)) << 16 | u32::from(number(at + 2));
        let (src, dst, udp_bytes) = ((word(26), number(34)), (word(30), number(36)), number(38));
        if src.1 != PORT && dst.1 != PORT {
            return Err(Fault::Foreign);
        }
        if usize::from(number(16)) + 14 != bytes.len() || usize::from(udp_bytes) + 34 != bytes.len() {
            return Err(Fault::Payload);
        }
        let ip_sum = checksum::sum(head.get(14..34).unwrap_or_default());
        let udp = checksum::sum(bytes.get(34..).unwrap_or_default());
        let udp_sum = checksum::pseudo_header(src.0, dst.0, 17, udp_bytes) + udp;
        if checksum::fold(ip_sum) != 0xFFFF || checksum::fold(udp_sum) != 0xFFFF {
            return Err(Fault::Checksum);
        }
        let text = std::str::from_utf8(payload).map_err(|_| Fault::Payload)?;
        Ok(Self { src, dst, text })
    }

    fn phone(&self) -> Option<u32> {
        let (_, call) = self.text.split_once("Call-ID: c")?;
        call.split_once('@')?.0.parse().ok().filter(|phone| *phone < PHONES)
    }
}

fn write(buffer: &mut [u8], macs: &[u8; 12], src: (u32, u16), dst: (u32, u16), text: &str) -> usize {
    let length = HEADER_BYTES + text.len();
    let Some((head, payload)) =
        buffer.get_mut(..length).and_then(|frame| frame.split_first_chunk_mut::<HEADER_BYTES>())
    else {
        return 0;
    };
    payload.copy_from_slice(text.as_bytes());
    let (ip_bytes, udp_bytes) = ((length - 14) as u16, (length - 34) as u16);
    head[0..12].copy_from_slice(macs);
    head[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    head[16..18].copy_from_slice(&ip_bytes.to_be_bytes());
    head[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    head[26..30].copy_from_slice(&src.0.to_be_bytes());
    head[30..34].copy_from_slice(&dst.0.to_be_bytes());
    head[34..36].copy_from_slice(&src.1.to_be_bytes());
    head[36..38].copy_from_slice(&dst.1.to_be_bytes());
    head[38..40].copy_from_slice(&udp_bytes.to_be_bytes());
    let field = !checksum::fold(checksum::sum(head.get(14..34).unwrap_or_default()));
    head[24..26].copy_from_slice(&field.to_be_bytes());
    let sum = checksum::sum(head.get(34..).unwrap_or_default()) + checksum::sum(payload);
    let field = match !checksum::fold(checksum::pseudo_header(src.0, dst.0, 17, udp_bytes) + sum) {
        0 => 0xFFFF,
        field => field,
    };
    head[40..42].copy_from_slice(&field.to_be_bytes());
    length
}

fn via(address: Ipv4Addr, l4_port: u16, phone: u32) -> String {
    format!("Via: SIP/2.0/UDP {address}:{l4_port};branch=z9hG4bKb{phone}\r\n")
}

/// The phone's address: outside the hosts of the other flows.
const fn address_of(phone: u32) -> u32 {
    0x0A7F_0001 + phone
}

/// Phones, each with a flow of its own.
pub const PHONES: u32 = 64;
/// The longest frame.
pub const FRAME_BYTES: usize = 512;
const SERVER: u32 = 0xCB00_7105;
const PORT: u16 = 5060;
const HEADER_BYTES: usize = 42;

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [u8; 12] = [2; 12];
    const POOL: (u32, u32) = (0xC613_0000, 0xC613_00FF);

    /// As the ALG would do it.
    fn translated(from: &str, to: &str, src: (u32, u16), dst: (u32, u16), frame: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(&frame[HEADER_BYTES..]).unwrap().replace(from, to);
        let mut buffer = vec![0; FRAME_BYTES];
        let length = write(&mut buffer, &MACS, src, dst, &text);
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn a_request_and_its_answer_are_checked() {
        let mut buffer = vec![0; FRAME_BYTES];
        let length = write_request(&mut buffer, &MACS, 7);
        let request = buffer[..length].to_vec();
        let (inside, outside) = (address_of(7), 0xC613_0005);
        let mut reply = vec![0; FRAME_BYTES];
        assert_eq!(answer(&request, &mut reply, &MACS, POOL), Err(Fault::Translation), "untranslated");
        let half = translated("none", "", (outside, 2000), (SERVER, PORT), &request);
        assert_eq!(answer(&half, &mut reply, &MACS, POOL), Err(Fault::Translation), "text as it was");
        let right =
            translated("10.127.0.8:5060", "198.19.0.5:2000", (outside, 2000), (SERVER, PORT), &request);
        let length = answer(&right, &mut reply, &MACS, POOL).unwrap();
        let reply = reply[..length].to_vec();
        assert_eq!(check_answer(&reply), Err(Fault::Translation), "untranslated");
        let back = translated("198.19.0.5:2000", "10.127.0.8:5060", (SERVER, PORT), (inside, PORT), &reply);
        assert_eq!(check_answer(&back), Ok(()));
        for at in 14..back.len() {
            let mut damaged = back.clone();
            damaged[at] ^= 1;
            assert!(check_answer(&damaged).is_err(), "byte {at}");
        }
    }
}
