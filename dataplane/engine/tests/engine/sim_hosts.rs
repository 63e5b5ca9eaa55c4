//! Two real TCP stacks with the engine as the only path between them.

use crate::common::Net;
use crate::common::hosts::{Faults, Host, Lab};
use crate::common::packets::at;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

const BAD_WIRE: Faults = Faults { lost: 30, repeated: 20, delayed: 50 };
const SERVER: &str = "203.0.113.50:80";

/// One end: what it has still to send, and what it got.
struct End {
    socket: SocketHandle,
    unsent: Vec<u8>,
    got: Vec<u8>,
}

impl End {
    /// Sends, reads, and closes when all is done: the client first, since smoltcp does not repeat a lost FIN
    /// when both close at once.
    fn turn(&mut self, host: &mut Host, expects: usize, closes_first: bool) {
        self.got.extend(host.read(self.socket));
        let socket = host.socket(self.socket);
        if socket.can_send() && !self.unsent.is_empty() {
            let sent = socket.send_slice(&self.unsent).unwrap();
            self.unsent.drain(..sent);
        }
        let may_close = closes_first || socket.state() == State::CloseWait;
        if self.unsent.is_empty() && self.got.len() >= expects && may_close {
            socket.close();
        }
    }
}

fn bytes(count: usize, salt: usize) -> Vec<u8> {
    (0..count).map(|at| ((at * 31 + salt) >> 3) as u8 ^ at as u8).collect()
}

fn transfer(faults: Faults, seed: u64, size: usize, cores: Vec<usize>) {
    let net = Net::with("", |config| config.workers.cores = cores);
    let mut lab = Lab::new(net, [10, 0, 0, 2], faults, seed);
    let [inside, outside] = &mut lab.hosts;
    let mut client = End { socket: inside.tcp(), unsent: bytes(size, 1), got: Vec::new() };
    let mut server = End { socket: outside.tcp(), unsent: bytes(size, 2), got: Vec::new() };
    outside.listen(server.socket, 80);
    inside.connect(client.socket, at(SERVER), 4_000);
    lab.run(600, |[inside, outside]| {
        client.turn(inside, size, true);
        server.turn(outside, size, false);
        let is_over = |state| matches!(state, State::Closed | State::TimeWait);
        is_over(inside.socket(client.socket).state()) && is_over(outside.socket(server.socket).state())
    });
    assert!(client.got == bytes(size, 2) && server.got == bytes(size, 1));
    let sessions = lab.net.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].state, "fin_both");
}

#[test]
fn a_transfer_both_ways_arrives_whole() {
    transfer(Faults::default(), 1, 200_000, vec![1]);
}

#[test]
fn a_transfer_over_bad_wires_arrives_whole() {
    for seed in 1..5 {
        transfer(BAD_WIRE, seed, 30_000, vec![1]);
    }
}

#[test]
fn a_transfer_with_a_worker_for_each_direction_arrives_whole() {
    transfer(BAD_WIRE, 9, 30_000, vec![1, 2]);
}
