//! FTP dialogues between real TCP stacks, with data connections, through the ALG.
//!
//! The server believes only what it is told: it connects to the endpoint of the command it read, and the client
//! connects to the endpoint of the reply it read.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::common::Net;
use crate::common::hosts::{Faults, Host, Lab};
use crate::common::packets::at;

const FTP: &str = r#"
[alg.ftp]
enabled = true

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.11:21"
internal = "10.0.0.9:21"
"#;

pub(crate) const BAD_WIRE: Faults = Faults { lost: 30, repeated: 20, delayed: 50 };

fn file() -> Vec<u8> {
    (0..20_000_u32).map(|at| (at * 7 % 251) as u8).collect()
}

/// Who is inside: decides which endpoints have to be translated.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Inside {
    Client,
    Server,
}

struct Server {
    control: SocketHandle,
    data: SocketHandle,
    own: Ipv4Addr,
    line: Vec<u8>,
    peer: Option<SocketAddrV4>,
    unsent: Option<Vec<u8>>,
    l4_port: u16,
    heard: Vec<String>,
}

impl Server {
    fn new(host: &mut Host, own: Ipv4Addr) -> Self {
        let (control, data) = (host.tcp(), host.tcp());
        host.listen(control, 21);
        let l4_port = 50_000;
        Self { control, data, own, line: Vec::new(), peer: None, unsent: None, l4_port, heard: Vec::new() }
    }

    fn reply(&self, host: &mut Host, line: &str) {
        host.socket(self.control).send_slice(format!("{line}\r\n").as_bytes()).unwrap();
    }

    fn turn(&mut self, host: &mut Host) {
        self.line.extend(host.read(self.control));
        // One command at a time; the next waits for the transfer.
        if self.unsent.is_none()
            && let Some(end) = self.line.iter().position(|byte| *byte == b'\n')
        {
            let line = String::from_utf8(self.line.drain(..=end).collect()).unwrap();
            self.command(host, line.trim_end());
            self.heard.push(line.trim_end().to_owned());
        }
        let socket = host.socket(self.data);
        if let Some(unsent) = &mut self.unsent
            && socket.can_send()
        {
            let sent = socket.send_slice(unsent).unwrap();
            unsent.drain(..sent);
            if unsent.is_empty() {
                socket.close();
                self.unsent = None;
                self.reply(host, "226 Transfer complete.");
            }
        }
    }

    fn command(&mut self, host: &mut Host, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "PORT" => {
                self.peer = Some(endpoint(rest));
                self.reply(host, "200 PORT command successful.");
            }
            "EPRT" => {
                let parts: Vec<&str> = rest.split('|').collect();
                self.peer = Some(SocketAddrV4::new(parts[2].parse().unwrap(), parts[3].parse().unwrap()));
                self.reply(host, "200 EPRT command successful.");
            }
            "PASV" | "EPSV" => {
                self.data = host.tcp();
                self.l4_port += 1;
                host.listen(self.data, self.l4_port);
                self.peer = None;
                let [a, b, c, d] = self.own.octets();
                let (high, low) = (self.l4_port >> 8, self.l4_port & 255);
                let reply = match word {
                    "PASV" => format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})."),
                    _ => format!("229 Entering Extended Passive Mode (|||{}|)", self.l4_port),
                };
                self.reply(host, &reply);
            }
            "RETR" => {
                self.reply(host, "150 Opening data connection.");
                self.unsent = Some(file());
                if let Some(peer) = self.peer {
                    self.data = host.tcp();
                    self.l4_port += 1;
                    host.connect(self.data, peer, self.l4_port);
                }
            }
            "QUIT" => {
                self.reply(host, "221 Goodbye.");
                host.socket(self.control).close();
            }
            _ => self.reply(host, "200 Fine."),
        }
    }
}

/// `h1,h2,h3,h4,p1,p2`
fn endpoint(text: &str) -> SocketAddrV4 {
    let n: Vec<u8> = text.split(',').map(|n| n.trim().parse().unwrap()).collect();
    SocketAddrV4::new(Ipv4Addr::new(n[0], n[1], n[2], n[3]), u16::from_be_bytes([n[4], n[5]]))
}

pub(crate) enum Step {
    /// Sends these bytes, so many a millisecond.
    Send(String, usize),
    /// Waits for a reply with this code.
    Expect(&'static str),
    /// Waits for incoming data connections on this port.
    Listen(u16),
    /// Connects where the last reply said.
    Connect,
    /// Waits until the data connection has brought the file and closed.
    Data,
}

struct Client {
    control: SocketHandle,
    data: SocketHandle,
    server: SocketAddrV4,
    text: Vec<u8>,
    last: String,
    unsent: Vec<u8>,
    got: Vec<u8>,
    l4_port: u16,
}

impl Client {
    /// Whether the step is done.
    fn turn(&mut self, host: &mut Host, step: &Step, is_new: bool) -> bool {
        self.text.extend(host.read(self.control));
        match step {
            Step::Send(line, bytes) => {
                if is_new {
                    self.unsent = line.as_bytes().to_vec();
                }
                let count = self.unsent.len().min(*bytes);
                let socket = host.socket(self.control);
                if socket.can_send() {
                    let sent = socket.send_slice(&self.unsent[..count]).unwrap();
                    self.unsent.drain(..sent);
                }
                self.unsent.is_empty()
            }
            Step::Expect(code) => match self.text.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line: Vec<u8> = self.text.drain(..=end).collect();
                    self.last = String::from_utf8(line).unwrap();
                    assert!(self.last.starts_with(code), "expected {code}, got {:?}", self.last);
                    true
                }
                None => false,
            },
            Step::Listen(l4_port) => {
                self.data = host.tcp();
                host.listen(self.data, *l4_port);
                true
            }
            Step::Connect => {
                let inner = self.last.split(['(', ')']).nth(1).unwrap();
                let to = match self.last.starts_with("229") {
                    true => SocketAddrV4::new(*self.server.ip(), inner.trim_matches('|').parse().unwrap()),
                    false => endpoint(inner),
                };
                self.data = host.tcp();
                self.l4_port += 1;
                host.connect(self.data, to, self.l4_port);
                true
            }
            Step::Data => {
                self.got.extend(host.read(self.data));
                let socket = host.socket(self.data);
                let is_over = !socket.may_recv() && matches!(socket.state(), State::CloseWait);
                if is_over {
                    socket.close();
                    assert!(self.got == file(), "{} bytes arrived", self.got.len());
                    self.got.clear();
                }
                is_over
            }
        }
    }
}

pub(crate) fn send(line: &str) -> Step {
    Step::Send(format!("{line}\r\n"), 4_096)
}

/// One byte a millisecond, each in a segment of its own.
fn dribble(line: &str) -> Step {
    Step::Send(format!("{line}\r\n"), 1)
}

pub(crate) struct Outcome {
    pub(crate) heard: Vec<String>,
    pub(crate) lab: Lab,
}

pub(crate) fn dialogue(
    inside: Inside,
    faults: Faults,
    seed: u64,
    change: impl FnOnce(&mut algate_config::Config),
    steps: Vec<Step>,
) -> Outcome {
    let server_at = match inside {
        Inside::Client => at("203.0.113.50:21"),
        Inside::Server => at("203.0.113.11:21"),
    };
    dialogue_at(Net::with(FTP, change), server_at, inside, faults, seed, steps)
}

/// The same through a site of one's own; the client connects to `server_at`.
fn dialogue_at(
    net: Net,
    server_at: SocketAddrV4,
    inside: Inside,
    faults: Faults,
    seed: u64,
    steps: Vec<Step>,
) -> Outcome {
    let internal = if inside == Inside::Client { [10, 0, 0, 2] } else { [10, 0, 0, 9] };
    let mut lab = Lab::new(net, internal, faults, seed);
    let (server_host, client_host) = if inside == Inside::Client { (1, 0) } else { (0, 1) };
    let own =
        if inside == Inside::Client { Ipv4Addr::new(203, 0, 113, 50) } else { Ipv4Addr::new(10, 0, 0, 9) };
    let mut server = Server::new(&mut lab.hosts[server_host], own);
    let host = &mut lab.hosts[client_host];
    let (control, data) = (host.tcp(), host.tcp());
    host.connect(control, server_at, 3_999);
    let mut client = Client {
        control,
        data,
        server: server_at,
        text: Vec::new(),
        last: String::new(),
        unsent: Vec::new(),
        got: Vec::new(),
        l4_port: 45_000,
    };
    let mut greeted = false;
    for (number, step) in steps.iter().enumerate() {
        let mut is_new = true;
        let mut waited = 0;
        loop {
            lab.step();
            waited += 1;
            assert!(
                waited < 120_000,
                "step {number} hangs: heard {:?} {:?} {:?}",
                server.heard,
                lab.net.sessions(),
                lab.net.drops()
            );
            if !greeted && lab.hosts[server_host].socket(server.control).may_send() {
                server.reply(&mut lab.hosts[server_host], "220 Ready.");
                greeted = true;
            }
            server.turn(&mut lab.hosts[server_host]);
            if client.turn(&mut lab.hosts[client_host], step, is_new) {
                break;
            }
            is_new = false;
        }
    }
    Outcome { heard: server.heard, lab }
}

/// The variants of where the ALG runs: in the worker that received the SYN, among two workers, and on a core of its own.
pub(crate) const PLACES: [fn(&mut algate_config::Config); 3] =
    [|_| {}, |config| config.workers.cores = vec![1, 2], |config| config.workers.alg_cores = vec![2]];

fn passive(command: &str) -> Vec<Step> {
    vec![
        Step::Expect("220"),
        send(command),
        Step::Expect("22"),
        Step::Connect,
        send("RETR file"),
        Step::Expect("150"),
        Step::Data,
        Step::Expect("226"),
        send("QUIT"),
        Step::Expect("221"),
    ]
}

fn active(command: &str, send: fn(&str) -> Step) -> Vec<Step> {
    vec![
        Step::Expect("220"),
        send("USER anonymous"),
        Step::Expect("200"),
        Step::Listen(4_001),
        send(command),
        Step::Expect("200"),
        send("RETR file"),
        Step::Expect("150"),
        Step::Data,
        Step::Expect("226"),
        send("QUIT"),
        Step::Expect("221"),
    ]
}

#[test]
fn s_22_a_03_active_transfers_reach_a_client_inside() {
    for place in PLACES {
        for (command, line) in
            [("PORT 10,0,0,2,15,161", send as fn(&str) -> Step), ("EPRT |1|10.0.0.2|4001|", dribble)]
        {
            let Outcome { heard, lab } =
                dialogue(Inside::Client, Faults::default(), 3, place, active(command, line));
            assert!(heard[1].contains("203"), "{heard:?}");
            assert!(!heard[1].contains("10,0,0,2") && !heard[1].contains("10.0.0.2"), "{heard:?}");
            assert_eq!(lab.net.sessions().iter().filter(|row| row.is_child).count(), 1);
        }
    }
}

#[test]
fn s_22_a_03_passive_transfers_reach_a_server_behind_a_forward() {
    for place in PLACES {
        for command in ["PASV", "EPSV"] {
            dialogue(Inside::Server, Faults::default(), 5, place, passive(command));
        }
    }
}

/// Wherever the ALG stands in the file, it knows a session's static address from its first packet on.
#[test]
fn s_22_an_alg_set_before_or_after_static_nat_announces_the_static_address() {
    const ALG: &str = "[alg.ftp]\nenabled = true\n";
    const STATIC: &str = r#"
[[nat.static]]
external = "203.0.113.30"
internal = "10.0.0.2"
[[nat.static]]
external = "203.0.113.31"
internal = "10.0.0.9"
inbound = "allow"
"#;
    for toml in [format!("{ALG}{STATIC}"), format!("{STATIC}{ALG}")] {
        for command in ["PORT 10,0,0,2,15,161", "EPRT |1|10.0.0.2|4001|"] {
            let net = Net::with(&toml, |_| {});
            let steps = active(command, send);
            let Outcome { heard, lab } =
                dialogue_at(net, at("203.0.113.50:21"), Inside::Client, Faults::default(), 3, steps);
            // The port stays as it was.
            let announced = ["PORT 203,0,113,30,15,161", "EPRT |1|203.0.113.30|4001|"];
            assert!(announced.contains(&heard[1].as_str()), "{heard:?}");
            assert_eq!(lab.net.sessions().iter().filter(|row| row.is_child).count(), 1);
            assert_eq!(lab.net.mappings().len(), 0);
        }
        for command in ["PASV", "EPSV"] {
            let net = Net::with(&toml, |_| {});
            let steps = passive(command);
            let Outcome { lab, .. } =
                dialogue_at(net, at("203.0.113.31:21"), Inside::Server, Faults::default(), 5, steps);
            assert_eq!(lab.net.sessions().iter().filter(|row| row.is_child).count(), 1);
            assert_eq!(lab.net.mappings().len(), 0);
        }
    }
}

#[test]
fn s_22_passive_transfers_reach_a_server_behind_a_range_a_list_and_a_masquerade() {
    for forward in [
        "external = \"203.0.113.11:20-29\"\ninternal = \"10.0.0.9:20-29\"",
        "external = \"203.0.113.11:21\"\ninternal = [\"10.0.0.9:21\", \"10.9.0.9:21\"]\nweights = [100, 1]",
        "external = \"203.0.113.11:21\"\ninternal = \"10.0.0.9:21\"\nmasquerade = true",
    ] {
        for command in ["PASV", "EPSV"] {
            let toml = format!("[alg.ftp]\nenabled = true\n[[nat.forward]]\nprotocol = \"tcp\"\n{forward}\n");
            let net = Net::with(&toml, |_| {});
            let steps = passive(command);
            let Outcome { lab, .. } =
                dialogue_at(net, at("203.0.113.11:21"), Inside::Server, Faults::default(), 5, steps);
            assert_eq!(lab.net.sessions().iter().filter(|row| row.is_child).count(), 1);
        }
    }
}

#[test]
fn a_03_pipelined_commands_are_rewritten_in_their_place() {
    let steps = vec![
        Step::Expect("220"),
        Step::Listen(4_001),
        Step::Send("NOOP\r\nPORT 10,0,0,2,15,161\r\nRETR file\r\nNOOP\r\n".into(), 4_096),
        Step::Expect("200"),
        Step::Expect("200"),
        Step::Expect("150"),
        Step::Data,
        Step::Expect("226"),
        Step::Expect("200"),
    ];
    let Outcome { heard, .. } = dialogue(Inside::Client, Faults::default(), 7, |_| {}, steps);
    assert_eq!((heard[0].as_str(), heard[2].as_str(), heard[3].as_str()), ("NOOP", "RETR file", "NOOP"));
}

#[test]
fn a_01_transfers_survive_wires_that_lose_repeat_and_reorder() {
    for seed in 1..7 {
        let place = PLACES[seed as usize % 3];
        dialogue(Inside::Client, BAD_WIRE, seed, place, active("PORT 10,0,0,2,15,161", dribble));
    }
}

#[test]
fn s_01_a_command_that_names_a_third_host_opens_nothing() {
    let steps = vec![Step::Expect("220"), send("PORT 10,0,0,3,15,161"), send("NOOP"), Step::Expect("")];
    let Outcome { lab, .. } = dialogue(Inside::Client, Faults::default(), 3, |_| {}, steps);
    assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9).len(), 0);
    assert_eq!(lab.net.mappings().len(), 2, "the control session's, and the forward");
}
