//! A TCP connection between two hosts of a [`Lab`], and what is said over it.

use std::net::SocketAddrV4;

use smoltcp::iface::SocketHandle;

use super::hosts::Lab;

/// A connection; its ends are 0, who opened it, and 1.
pub(crate) struct Talk {
    /// Hosts of the lab.
    hosts: [usize; 2],
    sockets: [SocketHandle; 2],
    /// The client as the server sees it.
    pub(crate) client_seen: SocketAddrV4,
}

pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

impl Talk {
    /// Host `client` connects from its `l4_port` to `to`, where host `server` listens on `listening`.
    #[track_caller]
    pub(crate) fn open(
        lab: &mut Lab,
        (client, l4_port): (usize, u16),
        to: SocketAddrV4,
        (server, listening): (usize, u16),
    ) -> Self {
        let hosts = [client, server];
        let sockets = hosts.map(|host| lab.host(host).tcp());
        lab.host(server).listen(sockets[SERVER], listening);
        lab.host(client).connect(sockets[CLIENT], to, l4_port);
        for _ in 0..1_000 {
            lab.step();
            if lab.host(server).socket(sockets[SERVER]).may_send() {
                let remote = lab.host(server).socket(sockets[SERVER]).remote_endpoint().unwrap();
                let smoltcp::wire::IpAddress::Ipv4(address) = remote.addr;
                let client_seen = SocketAddrV4::new(address, remote.port);
                // The handshake's last segment, and whatever answers it.
                (0..5).for_each(|_| lab.step());
                return Self { hosts, sockets, client_seen };
            }
        }
        panic!("no connection: {:?} {:?}", lab.net.sessions(), lab.net.drops());
    }

    /// One end sends `bytes` in one segment, if it fits; returns what has arrived at the other.
    #[track_caller]
    pub(crate) fn say(&self, lab: &mut Lab, from: usize, bytes: &[u8]) -> Vec<u8> {
        self.say_in_pieces(lab, from, &[bytes])
    }

    /// The same in several segments, each a millisecond after the one before.
    #[track_caller]
    pub(crate) fn say_in_pieces(&self, lab: &mut Lab, from: usize, pieces: &[&[u8]]) -> Vec<u8> {
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            let socket = lab.host(self.hosts[from]).socket(self.sockets[from]);
            assert_eq!(socket.send_slice(piece).unwrap(), piece.len(), "the window is open");
            lab.step();
        }
        let mut arrived = Vec::new();
        let mut silent = 0;
        while silent < SILENCE {
            lab.step();
            let now = self.read(lab, 1 - from);
            silent = if now.is_empty() { silent + 1 } else { 0 };
            arrived.extend(now);
        }
        arrived
    }

    /// What has arrived at an end and was not read.
    pub(crate) fn read(&self, lab: &mut Lab, end: usize) -> Vec<u8> {
        lab.host(self.hosts[end]).read(self.sockets[end])
    }

    /// Whether both ends still have the connection.
    pub(crate) fn is_open(&self, lab: &mut Lab) -> bool {
        [CLIENT, SERVER].iter().all(|end| lab.host(self.hosts[*end]).socket(self.sockets[*end]).may_send())
    }

    /// One end closes, then the other.
    pub(crate) fn close(&self, lab: &mut Lab) {
        for end in [CLIENT, SERVER] {
            lab.host(self.hosts[end]).socket(self.sockets[end]).close();
            (0..SILENCE).for_each(|_| lab.step());
        }
    }
}

/// Milliseconds after which nothing more is on its way: delayed acknowledgements take 10.
const SILENCE: usize = 30;
