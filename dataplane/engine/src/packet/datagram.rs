//! UDP datagrams as a whole: reading one that is proved intact, giving it another payload (RFC 768).

use crate::frame::{Frame, RxChecksum};
use crate::packet::bytes::{read_u16, write_u16};
use crate::packet::checksum::{self, Delta};
use crate::packet::parse::Ipv4View;
use crate::packet::{PROTOCOL_UDP, UDP_BYTES};

/// The payload of a whole datagram, the packet `view` describes. `None`: its checksum is wrong, its length is not the
/// packet's, or its IPv4 header has options.
#[must_use]
pub fn verified_payload<'a>(head: &'a [u8], view: &Ipv4View, nic_verdict: RxChecksum) -> Option<&'a [u8]> {
    let datagram = head.get(usize::from(view.l4)..usize::from(view.end))?;
    let length = read_u16(datagram, 4)?;
    if view.has_options || usize::from(length) != datagram.len() {
        return None;
    }
    let has_checksum = read_u16(datagram, 6)? != 0;
    let pseudo_header = checksum::pseudo_header(view.src, view.dst, PROTOCOL_UDP, length);
    let is_intact = match nic_verdict {
        RxChecksum::Good => true,
        RxChecksum::Bad => false,
        RxChecksum::Unknown => !has_checksum || checksum::is_valid(datagram, pseudo_header),
    };
    if is_intact { datagram.get(UDP_BYTES..) } else { None }
}

/// Replaces the payload of the datagram that `view` describes, with both lengths and both checksums; `view` then
/// describes the new one. Returns `false`, and leaves a frame of undefined content, when it does not fit.
#[must_use]
pub fn replace_payload<F: Frame>(frame: &mut F, view: &mut Ipv4View, payload: &[u8]) -> bool {
    let (l3, l4) = (usize::from(view.l3), usize::from(view.l4));
    let bytes = UDP_BYTES + payload.len();
    let (Ok(end), Ok(l4_bytes)) = (u16::try_from(l4 + bytes), u16::try_from(bytes)) else { return false };
    if !frame.resize(l4 + bytes) {
        return false;
    }
    let Some((header, datagram)) =
        frame.head_mut().get_mut(l3..).and_then(|packet| packet.split_at_mut_checked(l4 - l3))
    else {
        return false;
    };
    let (Some(old), Some(sum)) = (read_u16(header, 2), read_u16(header, 10)) else { return false };
    let packet_bytes = end - view.l3;
    write_u16(header, 2, packet_bytes);
    write_u16(header, 10, Delta::of_u16(old, packet_bytes).apply(sum));
    let Some(body) = datagram.get_mut(UDP_BYTES..) else { return false };
    body.copy_from_slice(payload);
    write_u16(datagram, 4, l4_bytes);
    write_u16(datagram, 6, 0);
    let pseudo_header = checksum::pseudo_header(view.src, view.dst, PROTOCOL_UDP, l4_bytes);
    let field = checksum::udp(datagram, pseudo_header);
    write_u16(datagram, 6, field);
    view.end = end;
    true
}
