//! A control session over TCP, segment by segment: both ends count, and take what comes out as a host would.

use std::net::SocketAddrV4;

use etherparse::{PacketBuilder, TcpHeader};

use super::packets::{ACK, FIN, RST, SYN, Seen, at, mac_of};
use super::{INSIDE, Net, OUTSIDE, ROUTER_MACS};

const CLIENT: &str = "10.0.0.2:4000";
const SERVER: &str = "198.51.100.1:21";
/// MSS, SACK permitted, window scale.
pub(crate) const OPTIONS: [u8; 12] = [2, 4, 5, 180, 4, 2, 3, 3, 2, 1, 1, 1];

/// One end, as it counts.
pub(crate) struct End {
    pub(crate) own: SocketAddrV4,
    pub(crate) peer: SocketAddrV4,
    pub(crate) next: u32,
    pub(crate) heard: u32,
    pub(crate) wire: u16,
}

/// A session by hand: what each end sends is what the other one's answers to it acknowledge.
pub(crate) struct Session {
    pub(crate) net: Net,
    pub(crate) client: End,
    pub(crate) server: End,
}

pub(crate) fn segment(end: &End, flags: u8, seq: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(end.own.port(), end.peer.port(), seq, 8_192);
    (header.syn, header.fin) = (flags & SYN != 0, flags & FIN != 0);
    (header.rst, header.ack) = (flags & RST != 0, flags & ACK != 0);
    header.acknowledgment_number = if header.ack { end.heard } else { 0 };
    header.set_options_raw(options).unwrap();
    let (source, destination) = (end.own.ip().octets(), end.peer.ip().octets());
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac_of(source), ROUTER_MACS[usize::from(end.wire)])
        .ipv4(source, destination, 64)
        .tcp_header(header)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// The 32-bit word of a packet's TCP header at `at`.
pub(crate) fn word(seen: &Seen, at: usize) -> u32 {
    u32::from_be_bytes(seen.packet[20 + at..24 + at].try_into().unwrap())
}

impl Session {
    /// Open, with first numbers just below the wrap.
    pub(crate) fn open(net: Net) -> Self {
        Self::open_at(net, CLIENT)
    }

    /// The same for this client.
    pub(crate) fn open_at(mut net: Net, client: &str) -> Self {
        let mut client =
            End { own: at(client), peer: at(SERVER), next: u32::MAX - 30, heard: 0, wire: INSIDE };
        let syn = net.one(INSIDE, &segment(&client, SYN, client.next, &OPTIONS, b""));
        client.next = client.next.wrapping_add(1);
        let mut server = End {
            own: at(SERVER),
            peer: syn.source,
            next: u32::MAX - 45,
            heard: word(&syn, 4).wrapping_add(1),
            wire: OUTSIDE,
        };
        net.one(OUTSIDE, &segment(&server, SYN | ACK, server.next, &OPTIONS, b""));
        server.next = server.next.wrapping_add(1);
        client.heard = server.next;
        net.one(INSIDE, &segment(&client, ACK, client.next, &[], b""));
        Self { net, client, server }
    }

    /// Sends bytes from one end; what comes out is taken in at both, acknowledgements included.
    pub(crate) fn say(&mut self, wire: u16, text: &[u8]) -> Vec<u8> {
        let end = if wire == INSIDE { &mut self.client } else { &mut self.server };
        let frame = segment(end, ACK, end.next, &[], text);
        end.next = end.next.wrapping_add(text.len() as u32);
        let mut outgoing = vec![(wire, frame)];
        let mut said = Vec::new();
        while let Some((wire, frame)) = outgoing.pop() {
            for seen in self.net.send(wire, &frame) {
                let end = if seen.nic_port == INSIDE { &mut self.client } else { &mut self.server };
                if !seen.payload.is_empty() {
                    assert_eq!(word(&seen, 4), end.heard, "{seen:?}");
                    end.heard = end.heard.wrapping_add(seen.payload.len() as u32);
                    said.extend(&seen.payload);
                    outgoing.push((seen.nic_port, segment(end, ACK, end.next, &[], b"")));
                }
            }
        }
        said
    }

    /// Ends of both ends' streams as the other one counts: `(client's, server's)`.
    pub(crate) fn moved(&self) -> (u32, u32) {
        (self.server.heard.wrapping_sub(self.client.next), self.client.heard.wrapping_sub(self.server.next))
    }

    pub(crate) fn flows(&self) -> usize {
        self.net.workers.iter().map(|worker| worker.alg_flows()).sum()
    }
}
