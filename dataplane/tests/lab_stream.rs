//! The kernel's own TCP on both sides of edited control sessions: whatever its options, its segment sizes and its way of writing, and
//! whatever the cable does, both applications read the edited stream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use lab::lossy::Faults;
use lab::{FORWARDED, Lab, SERVER, Side, is_full, is_of_pool, wait_until};
use serde_json::Value;

/// What the two kernels are told to do.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    mss: u16,
    has_window_scale: bool,
    has_timestamps: bool,
    has_sack: bool,
}

/// How an application writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Style {
    has_nodelay: bool,
    /// One byte with each call; else a whole batch of commands.
    writes_bytes: bool,
}

/// One control session.
#[derive(Debug, Clone, Copy)]
struct Dialogue {
    number: usize,
    /// Of the kernels' settings.
    run: usize,
    /// The client is inside; else the server is, behind a port forward.
    is_outbound: bool,
    style: Style,
    rounds: usize,
    /// Ends with AUTH TLS and bytes nobody reads, this many each way.
    secret_bytes: usize,
}

/// An internal address whose translations are shorter than it.
const LONG_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 222);
/// How many are held at once.
const DIALOGUES: usize = 8;
/// More than a dialogue has rounds times commands.
const SEEDS: usize = 128;
const GREETING: &str = "220 ready\r\n";
const REFUSAL: &str = "502 Refused by policy.\r\n";
/// Repetitions of a lossy cable may follow each other for long.
const PATIENCE: Duration = Duration::from_secs(40);

const STYLES: [Style; 4] = [
    Style { has_nodelay: true, writes_bytes: true },
    Style { has_nodelay: true, writes_bytes: false },
    Style { has_nodelay: false, writes_bytes: true },
    Style { has_nodelay: false, writes_bytes: false },
];

impl Kernel {
    const ALL_ON: Self = Self { mss: 1_460, has_window_scale: true, has_timestamps: true, has_sack: true };
    const ALL_OFF: Self =
        Self { mss: 1_460, has_window_scale: false, has_timestamps: false, has_sack: false };

    fn matrix() -> Vec<Self> {
        if !is_full() {
            return vec![Self { mss: 48, ..Self::ALL_ON }, Self { mss: 536, ..Self::ALL_OFF }, Self::ALL_ON];
        }
        let options = (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0));
        options
            .flat_map(|(has_window_scale, has_timestamps, has_sack)| {
                [48, 88, 536, 1_220, 1_460].map(|mss| Self {
                    mss,
                    has_window_scale,
                    has_timestamps,
                    has_sack,
                })
            })
            .collect()
    }

    /// Sets both hosts; for connections made from now on.
    fn apply(self, lab: &Lab) {
        let mss = self.mss.to_string();
        let route = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let routes = [
            (Side::In, route("default via 10.0.0.1")),
            (Side::Ex, route("203.0.113.0/24 dev eth0 scope link src 203.0.113.2")),
        ];
        for (side, route) in routes {
            let mut arguments = vec!["route", "replace"];
            arguments.extend(route.iter().map(String::as_str));
            arguments.extend(["advmss", &mss]);
            lab.expect(side, "ip", &arguments);
            let set = |name: &str, on: bool| format!("net.ipv4.tcp_{name}={}", u8::from(on));
            let settings = [
                set("window_scaling", self.has_window_scale),
                set("timestamps", self.has_timestamps),
                set("sack", self.has_sack),
            ];
            lab.expect(side, "sysctl", &["-qw", &settings[0], &settings[1], &settings[2]]);
        }
    }
}

impl Dialogue {
    fn client(self) -> Ipv4Addr {
        match (self.is_outbound, self.number % 2) {
            (false, _) => SERVER.parse().unwrap(),
            (true, 0) => Ipv4Addr::new(10, 0, 0, 2),
            (true, _) => LONG_ADDRESS,
        }
    }

    fn server(self) -> Ipv4Addr {
        if self.is_outbound { SERVER.parse().unwrap() } else { Ipv4Addr::new(10, 0, 0, 2) }
    }

    /// A port that no other dialogue announces: where the end of one was lost, its last expectation waits for a while, and the
    /// same port would be refused. None is a service's.
    fn l4_port(self, seed: usize) -> u16 {
        (10_000 + (self.run * DIALOGUES + self.number) * SEEDS + seed) as u16
    }

    /// The commands of a round, sent in one go.
    fn commands(self, round: usize) -> Vec<String> {
        let endpoint = SocketAddrV4::new(self.client(), self.l4_port(round * 7));
        let filler = "x".repeat(round * 13 % 90);
        vec![
            format!("NOOP {filler}\r\n"),
            format!("PORT {}\r\n", comma_separated(endpoint)),
            format!("SITE {filler}\r\n"),
            "PASV\r\n".to_owned(),
            format!("EPRT |1|{}|{}|\r\n", endpoint.ip(), endpoint.port() + 1),
            "FEAT\r\n".to_owned(),
            "EPSV\r\n".to_owned(),
            format!("STAT {filler}\r\n"),
        ]
    }

    fn reply_to(self, command: &str, seed: usize) -> String {
        let endpoint = SocketAddrV4::new(self.server(), self.l4_port(seed));
        match command.split([' ', '\r']).next().unwrap() {
            "PASV" => format!("227 Entering Passive Mode ({}).\r\n", comma_separated(endpoint)),
            "EPSV" => format!("229 Entering Extended Passive Mode (|||{}|)\r\n", endpoint.port()),
            "FEAT" => format!("211-Features\r\n {}\r\n211 End\r\n", "y".repeat(seed * 5 % 120)),
            "AUTH" => "234 go\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => format!("200 {}\r\n", "z".repeat(seed * 3 % 60)),
        }
    }

    /// The client's application: all it read, up to the secret bytes.
    fn speak(self, stream: TcpStream) -> String {
        prepare(&stream, self.style);
        let mut stream = BufReader::new(stream);
        let mut text = read_lines(&mut stream, 1);
        let mut ask = |batch: &[String], lines: usize| {
            write(stream.get_mut(), batch.concat().as_bytes(), self.style);
            text.push_str(&read_lines(&mut stream, lines));
        };
        ask(&[format!("USER d{}\r\n", self.number)], 1);
        for round in 0..self.rounds {
            let commands = self.commands(round);
            ask(&commands, commands.len() + 2);
        }
        if self.secret_bytes == 0 {
            ask(&["QUIT\r\n".to_owned()], 1);
        } else {
            ask(&["AUTH TLS\r\n".to_owned()], 1);
            let secret = secret(self.secret_bytes);
            let mut writer = stream.get_ref().try_clone().unwrap();
            let outgoing = secret.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&outgoing).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut echo = Vec::new();
            stream.read_to_end(&mut echo).unwrap();
            assert!(echo == secret, "{self:?}: {} secret bytes came back, not all of them equal", echo.len());
            writing.join().unwrap();
        }
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "{self:?}");
        text
    }

    /// The server's application, from the client's first line on: all it read, up to the secret bytes.
    fn answer(self, stream: &mut BufReader<TcpStream>, first: String) -> String {
        prepare(stream.get_ref(), self.style);
        let mut text = String::new();
        let mut command = first;
        for seed in 0.. {
            let reply = self.reply_to(&command, seed);
            write(stream.get_mut(), reply.as_bytes(), self.style);
            text.push_str(&command);
            match command.as_str() {
                "QUIT\r\n" => break,
                "AUTH TLS\r\n" => {
                    let mut writer = stream.get_ref().try_clone().unwrap();
                    std::io::copy(stream, &mut writer).unwrap();
                    break;
                }
                _ => command = read_lines(stream, 1),
            }
        }
        text
    }

    /// Compares what both applications read with what the edited streams are.
    fn check(self, at_server: &str, at_client: &str) {
        let mut commands = vec![format!("USER d{}\r\n", self.number)];
        (0..self.rounds).for_each(|round| commands.extend(self.commands(round)));
        commands.push(if self.secret_bytes == 0 { "QUIT\r\n" } else { "AUTH TLS\r\n" }.to_owned());
        let (mut sent, mut replies) = (String::new(), GREETING.to_owned());
        let mut seed = 0;
        for command in &commands {
            if command.starts_with("SITE") {
                replies.push_str(REFUSAL);
                continue;
            }
            sent.push_str(command);
            replies.push_str(&self.reply_to(command, seed));
            seed += 1;
        }
        let inside = if self.is_outbound { &["PORT ", "EPRT "][..] } else { &["227 ", "229 "] };
        for (name, wanted, read) in [("server", &sent, at_server), ("client", &replies, at_client)] {
            assert_eq!(read.lines().count(), wanted.lines().count(), "{self:?}, the {name} read {read:?}");
            for (wanted, read) in wanted.split_inclusive('\n').zip(read.split_inclusive('\n')) {
                if !inside.iter().any(|verb| wanted.starts_with(verb)) {
                    assert_eq!(read, wanted, "{self:?}, {name}");
                    continue;
                }
                let (frame, address, l4_port) = parts(wanted);
                let (frame_read, address_read, l4_port_read) = parts(read);
                assert_eq!(frame_read, frame, "{self:?}, {name}: {read:?}");
                assert_eq!(address.is_some(), address_read.is_some(), "{self:?}, {name}: {read:?}");
                assert!(address_read.is_none_or(is_of_pool), "{self:?}, {name}: {read:?} for {wanted:?}");
                assert!(l4_port_read >= 1_024 && l4_port >= 1_024, "{self:?}, {name}: {read:?}");
            }
        }
    }
}

/// A line that names an endpoint: the text around it, its address if it names one, and its port.
fn parts(line: &str) -> (String, Option<Ipv4Addr>, u16) {
    let is_number = |c: char| c.is_ascii_digit();
    let from = 4 + line[4..].find(is_number).unwrap_or_else(|| panic!("{line:?} names no endpoint"));
    let until = line.rfind(is_number).unwrap() + 1;
    // EPRT names the protocol first.
    let from = if line.starts_with("EPRT") { from + 2 } else { from };
    let numbers: Vec<u16> =
        line[from..until].split(|c: char| !is_number(c)).map(|number| number.parse().unwrap()).collect();
    let octets = |numbers: &[u16]| {
        Ipv4Addr::new(numbers[0] as u8, numbers[1] as u8, numbers[2] as u8, numbers[3] as u8)
    };
    let frame = format!("{}ENDPOINT{}", &line[..from], &line[until..]);
    match numbers.as_slice() {
        [l4_port] => (frame, None, *l4_port),
        [.., l4_port] if numbers.len() == 5 => (frame, Some(octets(&numbers)), *l4_port),
        [.., high, low] => (frame, Some(octets(&numbers)), high * 256 + low),
        [] => panic!("{line:?} names no endpoint"),
    }
}

fn comma_separated(endpoint: SocketAddrV4) -> String {
    let [a, b, c, d] = endpoint.ip().octets();
    format!("{a},{b},{c},{d},{},{}", endpoint.port() / 256, endpoint.port() % 256)
}

/// Bytes that differ everywhere.
fn secret(count: usize) -> Vec<u8> {
    (0..count as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn prepare(stream: &TcpStream, style: Style) {
    stream.set_nodelay(style.has_nodelay).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

fn write(stream: &mut TcpStream, bytes: &[u8], style: Style) {
    let piece = if style.writes_bytes { 1 } else { bytes.len() };
    for piece in bytes.chunks(piece) {
        stream.write_all(piece).unwrap();
    }
}

fn read_lines(stream: &mut BufReader<TcpStream>, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        assert_ne!(stream.read_line(&mut text).unwrap(), 0, "cut off after {text:?}");
    }
    text
}

/// Serves the dialogues on a socket, each in a thread; what the application read of each comes by the channel.
fn serve(listener: TcpListener, dialogues: Vec<Dialogue>) -> Receiver<(usize, String)> {
    let (sender, texts) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, dialogues) = (sender.clone(), dialogues.clone());
            let mut stream = BufReader::new(stream.unwrap());
            thread::spawn(move || {
                stream.get_mut().write_all(GREETING.as_bytes()).unwrap();
                let first = read_lines(&mut stream, 1);
                let number = first.trim_end().trim_start_matches("USER d").parse().unwrap();
                let dialogue = *dialogues.iter().find(|dialogue| dialogue.number == number).unwrap();
                let _gone = sender.send((number, dialogue.answer(&mut stream, first)));
            });
        }
    });
    texts
}

/// Holds the dialogues all at once and checks each.
fn hold(lab: &Lab, kernel: Kernel, dialogues: &[Dialogue], l4_port: u16) {
    kernel.apply(lab);
    let outside = lab.listener(Side::Ex, &format!("{SERVER}:{l4_port}"));
    let inside = lab.listener(Side::In, &format!("10.0.0.2:{l4_port}"));
    let texts = [outside, inside].map(|listener| serve(listener, dialogues.to_vec()));
    let at_clients: Vec<String> = thread::scope(|scope| {
        let speak = |dialogue: &Dialogue| {
            let dialogue = *dialogue;
            scope.spawn(move || {
                let (side, server) =
                    if dialogue.is_outbound { (Side::In, SERVER) } else { (Side::Ex, FORWARDED) };
                let connect =
                    || lab.connect(side, &format!("{}:0", dialogue.client()), &format!("{server}:{l4_port}"));
                let stream = (0..5).find_map(|_| connect().ok()).expect("the server is reached");
                dialogue.speak(stream)
            })
        };
        let speakers: Vec<_> = dialogues.iter().map(speak).collect();
        speakers.into_iter().map(|speaker| speaker.join().unwrap()).collect()
    });
    let mut at_servers: Vec<(usize, String)> = Vec::new();
    for (texts, is_outbound) in texts.iter().zip([true, false]) {
        let count = dialogues.iter().filter(|dialogue| dialogue.is_outbound == is_outbound).count();
        at_servers.extend((0..count).map(|_| texts.recv_timeout(PATIENCE).expect("the server has ended")));
    }
    for (dialogue, at_client) in dialogues.iter().zip(at_clients) {
        let (_, at_server) = at_servers.iter().find(|(number, _)| *number == dialogue.number).unwrap();
        dialogue.check(at_server, &at_client);
    }
}

/// Runs the matrix in one lab.
fn run(settings: &[&str], faults: Option<Faults>) {
    let Some(mut lab) = Lab::up() else { return };
    let mut cable = faults.map(|faults| lab.lossy_cable(Side::Ex, faults));
    lab.expect(Side::In, "ip", &["address", "add", &format!("{LONG_ADDRESS}/24"), "dev", "eth0"]);
    let matrix = Kernel::matrix();
    // A port for each run: what is left of the one before does not matter.
    let l4_ports = 2_100..2_100 + matrix.len() as u16;
    let control_ports: Vec<String> = l4_ports.clone().map(|l4_port| l4_port.to_string()).collect();
    let base = lab
        .config(settings)
        .replace("alg_flows = 64", "alg_flows = 1024")
        .replace("[\"10.0.0.1/24\"]", "[\"10.0.0.1/24\", \"192.168.200.1/24\"]")
        .replace("[alg.ftp]\n", &format!("[alg.ftp]\ncontrol_ports = [{}]\n", control_ports.join(", ")));
    let config = format!(
        "{base}\n[[nat.rule]]\ninternal = \"192.168.200.0/24\"\npool = \"pool\"\n\
         [[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:{}-{}\"\ninternal = \"10.0.0.2:{}-{}\"\n\
         [[alg.rule]]\nname = \"no-site\"\nalg = \"ftp\"\ncommand = [\"SITE\"]\naction = \"deny\"\n",
        l4_ports.start,
        l4_ports.end - 1,
        l4_ports.start,
        l4_ports.end - 1
    );
    lab.start_from(&config);
    let rounds = if is_full() { 12 } else { 6 };
    for (run, (kernel, l4_port)) in matrix.into_iter().zip(l4_ports).enumerate() {
        eprintln!("{kernel:?}");
        let dialogues: Vec<Dialogue> = (0..DIALOGUES)
            .map(|number| Dialogue {
                number,
                run,
                is_outbound: number < 4,
                style: STYLES[number % 4],
                rounds,
                secret_bytes: if number % 4 < 2 { 0 } else { usize::from(kernel.mss) * 60 },
            })
            .collect();
        hold(&lab, kernel, &dialogues, l4_port);
    }
    assert!(lab.counter("alg.ftp.rewritten") > 0);
    assert_eq!(lab.counter("alg.ftp.detached"), 0);
    match &mut cable {
        Some(cable) => cable.assert_was_lossy(),
        // Closed, and read no more: all have left the stage, most with their numbers moved.
        None => {
            let has_left = |row: &Value| row["alg"] != "control";
            let left = || lab.show("sessions").iter().all(has_left);
            assert!(wait_until(PATIENCE, left), "{:?}", lab.show("sessions"));
        }
    }
    lab.stop();
}

#[test]
fn kernels_hold_edited_dialogues_over_a_worker() {
    run(&[], None);
}

#[test]
fn kernels_hold_edited_dialogues_over_an_alg_core() {
    run(&["alg_cores=[1]"], None);
}

#[test]
fn kernels_hold_edited_dialogues_over_a_lossy_cable() {
    let owners: &[&[&str]] = if is_full() { &[&[], &["alg_cores=[1]"]] } else { &[&["alg_cores=[1]"]] };
    for owner in owners {
        run(owner, Some(Faults::USUAL));
    }
}
