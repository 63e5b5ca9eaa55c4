//! Real TCP/IP hosts (smoltcp) on both sides of the engine, over wires that lose, repeat and reorder.

use std::collections::VecDeque;
use std::time::Duration;

use algate_engine::ids::NicPortId;
use algate_engine::packet::vec_frame::VecFrame;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};

use super::packets::mac_of;
use super::{INSIDE, Net, OUTSIDE};

/// What the wires do to frames, per thousand.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// Delayed by up to 30 ms, so that later ones overtake.
    pub(crate) delayed: u64,
}

/// Two hosts, the engine between them, and frames on their way.
pub(crate) struct Lab {
    pub(crate) net: Net,
    /// Inside, outside.
    pub(crate) hosts: [Host; 2],
    /// More hosts, with the wire of each.
    others: Vec<(u16, Host)>,
    /// Due at (ms), towards the engine or a host, the wire, the frame.
    flying: Vec<(u64, Towards, u16, Vec<u8>)>,
    faults: Faults,
    random: u64,
    now_ms: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Towards {
    Engine,
    Host,
}

pub(crate) struct Host {
    pub(crate) sockets: SocketSet<'static>,
    interface: Interface,
    device: Queues,
}

#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Lab {
    /// A lab around `net`; the hosts are 10.0.0.2 (or `inside`) and 203.0.113.50.
    pub(crate) fn new(net: Net, inside: [u8; 4], faults: Faults, seed: u64) -> Self {
        let hosts = [Host::new(inside, [10, 0, 0, 1]), Host::new([203, 0, 113, 50], [203, 0, 113, 2])];
        Self { net, hosts, others: Vec::new(), flying: Vec::new(), faults, random: seed | 1, now_ms: 1_000 }
    }

    /// One more host on the inner or outer wire. Returns its number.
    pub(crate) fn add(&mut self, wire: u16, address: [u8; 4]) -> usize {
        let gateway = if wire == INSIDE { [10, 0, 0, 1] } else { [203, 0, 113, 2] };
        self.others.push((wire, Host::new(address, gateway)));
        self.hosts.len() + self.others.len() - 1
    }

    /// A host by its number: 0 inside, 1 outside, then those that were added.
    pub(crate) fn host(&mut self, number: usize) -> &mut Host {
        match number.checked_sub(self.hosts.len()) {
            None => &mut self.hosts[number],
            Some(at) => &mut self.others[at].1,
        }
    }

    /// One millisecond of everything. `receiver`s take frames in turn by wire: worker 0 inside, the last outside.
    pub(crate) fn step(&mut self) {
        self.now_ms += 1;
        self.net.now = self.net.now.plus(Duration::from_millis(1));
        for wire in [INSIDE, OUTSIDE] {
            for frame in self.hosts[usize::from(wire)].poll(self.now_ms) {
                self.launch(Towards::Engine, wire, frame);
            }
        }
        for at in 0..self.others.len() {
            let (wire, host) = &mut self.others[at];
            let (wire, frames) = (*wire, host.poll(self.now_ms));
            frames.into_iter().for_each(|frame| self.launch(Towards::Engine, wire, frame));
        }
        let now_ms = self.now_ms;
        let (due, flying) = std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= now_ms);
        self.flying = flying;
        let mut due: Vec<_> = due;
        due.sort_by_key(|(at, ..)| *at);
        for (_, towards, wire, frame) in due {
            match towards {
                Towards::Host => {
                    // Whose it is not ignores it, by its MAC address.
                    let others = self.others.iter_mut().filter(|(on, _)| *on == wire);
                    others.for_each(|(_, host)| host.device.received.push_back(frame.clone()));
                    self.hosts[usize::from(wire)].device.received.push_back(frame);
                }
                Towards::Engine => {
                    let Net { workers, io, now, engine, .. } = &mut self.net;
                    let receiver = usize::from(wire) % engine.workers();
                    let mut burst = vec![VecFrame::from_bytes(&frame)];
                    workers[receiver].receive(io, *now, NicPortId(wire), &mut burst);
                }
            }
        }
        let Net { workers, io, now, .. } = &mut self.net;
        for worker in workers.iter_mut() {
            worker.poll(io, *now);
        }
        for (nic_port, frame) in self.net.io.take() {
            let bytes = frame.bytes();
            if bytes[12..14] == [8, 0] {
                self.net.transmitted += 1;
                super::packets::Seen::new(nic_port.0, &bytes).verify();
            }
            self.launch(Towards::Host, nic_port.0, bytes);
        }
    }

    /// Steps until `done`, at most `seconds`.
    #[track_caller]
    pub(crate) fn run(&mut self, seconds: u64, mut done: impl FnMut(&mut [Host; 2]) -> bool) {
        for _ in 0..seconds * 1_000 {
            self.step();
            if done(&mut self.hosts) {
                return;
            }
        }
        panic!("not done within {seconds} s: {:?} {:?}", self.net.sessions(), self.net.drops());
    }

    fn launch(&mut self, towards: Towards, wire: u16, frame: Vec<u8>) {
        let faults = self.faults;
        if self.random(1_000) < faults.lost {
            return;
        }
        let copies = if self.random(1_000) < faults.repeated { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.random(1_000) < faults.delayed { self.random(30) } else { 0 };
            self.flying.push((self.now_ms + 1 + delay, towards, wire, frame.clone()));
        }
    }

    /// xorshift64
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

impl Host {
    fn new(address: [u8; 4], gateway: [u8; 4]) -> Self {
        let mut device = Queues::default();
        let mut config = Config::new(EthernetAddress(mac_of(address)).into());
        config.random_seed = u64::from(u32::from_be_bytes(address));
        let mut interface = Interface::new(config, &mut device, Instant::from_millis(0));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(Ipv4Address::from(address).into(), 24)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(Ipv4Address::from(gateway)).unwrap();
        Self { sockets: SocketSet::new(Vec::new()), interface, device }
    }

    /// A new TCP socket. Small writes leave at once.
    pub(crate) fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 8_192]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn connect(&mut self, handle: SocketHandle, to: std::net::SocketAddrV4, l4_port: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (*to.ip(), to.port()), l4_port).unwrap();
    }

    pub(crate) fn listen(&mut self, handle: SocketHandle, l4_port: u16) {
        self.socket(handle).listen(l4_port).unwrap();
    }

    /// What has arrived on a socket.
    pub(crate) fn read(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut all = Vec::new();
        let socket = self.socket(handle);
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), all.extend_from_slice(bytes))).unwrap();
        }
        all
    }

    fn poll(&mut self, now_ms: u64) -> Vec<Vec<u8>> {
        let now = Instant::from_millis(now_ms as i64);
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        std::mem::take(&mut self.device.sent)
    }
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        capabilities
    }
}
