//! What attack drills share: a victim inside that notices every visitor, an attacker outside that speaks any protocol, and
//! dialogues between the two whose every byte is compared.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::{Lab, PATIENCE, SERVER, Side, wait_until};

/// The victim's service that the attacker is after, on every address of the internal host.
pub const VICTIM_PORT: u16 = 8888;

/// All protocols whose messages are forged, tables large enough for thousands of attempts, and whatever else a drill needs.
pub fn config(lab: &Lab, more: &str) -> String {
    lab.config(&["alg_flows=4096"])
        .replace("sessions = 4096", "sessions = 32768\nrelated_sessions = 32768")
        .replace("mappings = 4096", "mappings = 32768")
        + "\n[alg.sip]\nenabled = true\n[alg.irc]\nenabled = true\n"
        + more
}

/// The services of an internal host that nobody outside may reach.
pub struct Victim {
    services: Vec<TcpListener>,
    media: UdpSocket,
}

impl Victim {
    /// Listens on [`VICTIM_PORT`] and on these TCP ports.
    pub fn listen(lab: &Lab, more: &[u16]) -> Self {
        let listen = |l4_port: &u16| {
            let service = lab.listener(Side::In, &format!("0.0.0.0:{l4_port}"));
            service.set_nonblocking(true).expect("a socket can be asked not to wait");
            service
        };
        let services = [VICTIM_PORT].iter().chain(more).map(listen).collect();
        let media = lab.udp(Side::In, &format!("0.0.0.0:{VICTIM_PORT}"));
        media.set_nonblocking(true).expect("a socket can be asked not to wait");
        Self { services, media }
    }

    /// Whom a service has let in since it was last asked.
    pub fn visitor(&self) -> Option<SocketAddr> {
        for service in &self.services {
            match service.accept() {
                Ok((_, visitor)) => return Some(visitor),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        self.media.recv_from(&mut [0; 2_000]).ok().map(|(_, visitor)| visitor)
    }
}

/// Connections that the attacker tries, without waiting for them.
#[derive(Default)]
pub struct Knocks(Vec<OwnedFd>);

impl Knocks {
    /// Tries one from the attacker's host, by TCP and by UDP.
    pub fn knock(&mut self, lab: &Lab, target: SocketAddrV4) {
        let source: SocketAddrV4 = format!("{SERVER}:0").parse().expect("an endpoint");
        let open = |kind| socket_with(AddressFamily::INET, kind, SocketFlags::NONBLOCK, None);
        let sockets = lab.within(Side::Ex, || [open(SocketType::STREAM), open(SocketType::DGRAM)]);
        for socket in sockets {
            let socket = socket.expect("a socket can be had");
            bind(&socket, &source).expect("the address is its own");
            // The answer, if there will be one, is the victim's to notice.
            let _ = connect(&socket, &target);
            let _ = rustix::net::send(&socket, b"knock", rustix::net::SendFlags::NOSIGNAL);
            self.0.push(socket);
        }
    }

    /// Gives what is on its way the time to arrive, and gives up all of them. Expects that the victim noticed nobody.
    pub fn expect_nobody_in(&mut self, victim: &Victim, name: &str) {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(victim.visitor(), None, "{name}: the attacker got in");
        self.0.clear();
    }

    /// Expects that the victim notices somebody: the drill would have seen an open door.
    pub fn expect_somebody_in(&mut self, victim: &Victim, name: &str) {
        assert!(wait_until(PATIENCE, || victim.visitor().is_some()), "{name}: nobody got in");
        self.0.clear();
    }
}

/// A control connection between a host inside and one outside, both ends being ours.
pub struct Talk {
    pub inside: TcpStream,
    pub outside: TcpStream,
    /// The end inside as it is seen outside, or the end outside if that opened the connection.
    pub opener: SocketAddrV4,
}

impl Talk {
    /// Connects from inside to a listener outside.
    pub fn outbound(lab: &Lab, listener: &TcpListener, source: &str) -> Self {
        let to = listener.local_addr().expect("it has an address").to_string();
        let inside = lab.connect(Side::In, source, &to).expect("the attacker listens");
        let (outside, opener) = accept(listener);
        Self { inside, outside, opener }.prompt()
    }

    /// Connects from outside to a listener inside, which `external` leads to.
    pub fn inbound(lab: &Lab, listener: &TcpListener, external: &str) -> Self {
        let outside =
            lab.connect(Side::Ex, &format!("{SERVER}:0"), external).expect("the forward leads inside");
        let (inside, opener) = accept(listener);
        Self { inside, outside, opener }.prompt()
    }

    fn prompt(self) -> Self {
        for end in [&self.inside, &self.outside] {
            end.set_nodelay(true).expect("it is TCP");
            end.set_read_timeout(Some(PATIENCE)).expect("it takes a timeout");
        }
        self
    }

    /// The end inside speaks; returns what arrives.
    pub fn inside_says(&mut self, bytes: &[u8]) -> Vec<u8> {
        say(&mut self.inside, &mut self.outside, bytes)
    }

    /// The end outside speaks; returns what arrives.
    pub fn outside_says(&mut self, bytes: &[u8]) -> Vec<u8> {
        say(&mut self.outside, &mut self.inside, bytes)
    }

    /// Both speak in turn, the end outside first; every line must arrive as it is.
    pub fn agree(&mut self, lines: &[(Side, &str)]) {
        for (side, line) in lines {
            let line = format!("{line}\r\n");
            let arrived = match side {
                Side::In => self.inside_says(line.as_bytes()),
                _ => self.outside_says(line.as_bytes()),
            };
            assert_eq!(String::from_utf8_lossy(&arrived), line);
        }
    }

    /// The end inside sends a line that may be changed on its way; returns what arrives, without its end.
    pub fn inside_announces(&mut self, line: &str) -> String {
        self.inside.write_all(format!("{line}\r\n").as_bytes()).expect("the peer listens");
        line_of(&mut self.outside)
    }

    /// The end inside sends a line that is answered on its way; returns the answer, without its end. The next line of this
    /// end is the next that the other one reads.
    pub fn inside_is_answered(&mut self, line: &str) -> String {
        self.inside.write_all(format!("{line}\r\n").as_bytes()).expect("algate answers");
        line_of(&mut self.inside)
    }
}

/// The next line, without its end, and not a byte more.
fn line_of(stream: &mut TcpStream) -> String {
    let mut arrived = Vec::new();
    while !arrived.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the line arrives");
        arrived.push(byte[0]);
    }
    String::from_utf8_lossy(&arrived).trim_end().to_owned()
}

/// What arrives of these bytes, as many as were sent; less if no more come.
fn say(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    from.write_all(bytes).expect("the peer listens");
    let mut arrived = vec![0; bytes.len()];
    let mut length = 0;
    while length < arrived.len() {
        match to.read(&mut arrived[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    arrived.truncate(length);
    arrived
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddrV4) {
    match listener.accept().expect("the connection is made") {
        (stream, SocketAddr::V4(peer)) => (stream, peer),
        (_, peer) => panic!("{peer} is no IPv4"),
    }
}

/// Expects no expectation to stand, and no mapping for any port of a victim.
pub fn assert_nothing_open(lab: &Lab, name: &str) {
    let expectations = lab.show("expectations");
    assert!(expectations.is_empty(), "{name}: {expectations:?}");
    for mapping in lab.show("mappings") {
        let internal: SocketAddrV4 = mapping["internal"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a mapping has an endpoint");
        assert_ne!(internal.port(), VICTIM_PORT, "{name}: {mapping:?}");
    }
}

/// The endpoint in the six numbers of a PORT command or a 227 reply.
pub fn endpoint_of(line: &str) -> SocketAddrV4 {
    let digits = |byte: char| !byte.is_ascii_digit();
    let numbers: Vec<u8> =
        line.split(digits).filter_map(|number| number.parse().ok()).rev().take(6).collect();
    let [low, high, d, c, b, a] = numbers[..] else { panic!("no endpoint in {line:?}") };
    SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]))
}
