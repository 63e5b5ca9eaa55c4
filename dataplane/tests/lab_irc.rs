//! Files that users of a real IRC server (ngircd) send each other by DCC, through the NAT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;

use lab::capture::Capture;
use lab::irc::assert_hidden;
use lab::{Lab, SERVER, Side, is_of_pool, write_random};

/// A user: a connection to the server that has been welcomed.
struct User {
    name: &'static str,
    lines: BufReader<TcpStream>,
}

impl User {
    fn welcome(lab: &Lab, side: Side, name: &'static str, address: &str) -> Self {
        let stream = lab.connect(side, &format!("{address}:0"), &format!("{SERVER}:6667")).unwrap();
        let mut user = Self { name, lines: BufReader::new(stream) };
        user.say(&format!("NICK {name}\r\nUSER {name} 0 * :{name}"));
        user.line_with(" 001 ");
        user
    }

    fn say(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line with this text in it, answering pings on the way.
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "{} was cut off", self.name);
            if let Some(token) = line.strip_prefix("PING ") {
                let pong = format!("PONG {}", token.trim_end());
                self.say(&pong);
            }
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Says something by DCC; the other reads it, in words.
    fn tell(&mut self, other: &mut Self, dcc: &str) -> Vec<String> {
        self.say(&format!("PRIVMSG {} :\x01DCC {dcc}\x01", other.name));
        let line = other.line_with("\x01DCC ");
        assert!(line.starts_with(&format!(":{}!", self.name)), "{line}");
        let words = line.split('\x01').nth(1).unwrap();
        words.split(' ').skip(1).map(str::to_owned).collect()
    }
}

/// A lab with ngircd outside, DCC served, and alice inside and bob outside.
fn with_users() -> Option<(Lab, User, User)> {
    let mut lab = Lab::up()?;
    lab.serve(Side::Ex, "ngircd");
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(&[]).replace(rule, &narrow) + "\n[alg.irc]\nenabled = true\n";
    lab.start_from(&config);
    let alice = User::welcome(&lab, Side::In, "alice", ALICE);
    let bob = User::welcome(&lab, Side::Ex, "bob", BOB);
    Some((lab, alice, bob))
}

fn number_of(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits()
}

/// The endpoint in an offer: SEND FILE ADDRESS PORT SIZE.
fn endpoint_of(offer: &[String]) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(offer[2].parse().unwrap()), offer[3].parse().unwrap())
}

fn is_external(address: &Ipv4Addr) -> bool {
    is_of_pool(*address)
}

/// One end sends the file, the other reads it to its end.
fn send_file(mut sender: TcpStream, mut receiver: TcpStream, file: &[u8]) {
    let received = thread::scope(|scope| {
        scope.spawn(move || sender.write_all(file).unwrap());
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == file, "{} of {} bytes, or other ones", received.len(), file.len());
}

/// Connects to an offered endpoint and returns both ends: the one that connected, and the one that offered.
fn take_up(
    lab: &Lab,
    side: Side,
    from: &str,
    to: SocketAddrV4,
    offered: &TcpListener,
) -> (TcpStream, TcpStream) {
    let connected = lab.connect(side, &format!("{from}:0"), &to.to_string()).unwrap();
    (connected, offered.accept().unwrap().0)
}

fn random_file(lab: &Lab) -> Vec<u8> {
    let file = lab.state.join("file");
    write_random(&file, 5_000_000);
    fs::read(file).unwrap()
}

#[test]
fn a_file_is_offered_from_inside_resumed_and_sent() {
    let Some((mut lab, mut alice, mut bob)) = with_users() else { return };
    let capture = Capture::start(&lab, Side::Ex);
    let file = random_file(&lab);
    let listener = lab.listener(Side::In, &format!("{ALICE}:5000"));
    let offer = alice.tell(&mut bob, &format!("SEND file {} 5000 {}", number_of(ALICE), file.len()));
    let endpoint = endpoint_of(&offer);
    assert!(is_external(endpoint.ip()), "{offer:?}");
    assert_eq!(offer[4], file.len().to_string());
    // The first half is there already. Either names the port that it knows.
    let resume = bob.tell(&mut alice, &format!("RESUME file {} 2500000", endpoint.port()));
    assert_eq!(resume[2..], ["5000", "2500000"]);
    let accept = alice.tell(&mut bob, "ACCEPT file 5000 2500000");
    assert_eq!(accept[2..], [endpoint.port().to_string(), "2500000".to_owned()]);
    // From another address than the server's: nobody can know it before.
    let (receiver, sender) = take_up(&lab, Side::Ex, BOB, endpoint, &listener);
    send_file(sender, receiver, &file[2_500_000..]);
    assert!(lab.connect(Side::Ex, "203.0.113.2:0", &endpoint.to_string()).is_err(), "a second one came in");
    assert_hidden(&capture.frames(), ALICE);
    lab.stop();
}

#[test]
fn a_file_is_offered_from_outside_and_sent() {
    let Some((mut lab, mut alice, mut bob)) = with_users() else { return };
    let file = random_file(&lab);
    let listener = lab.listener(Side::Ex, &format!("{BOB}:5001"));
    let offer = bob.tell(&mut alice, &format!("SEND file {} 5001 {}", number_of(BOB), file.len()));
    assert_eq!(endpoint_of(&offer).to_string(), format!("{BOB}:5001"));
    let (receiver, sender) = take_up(&lab, Side::In, ALICE, endpoint_of(&offer), &listener);
    send_file(sender, receiver, &file);
    lab.stop();
}

#[test]
fn passive_offers_are_answered_both_ways() {
    let Some((mut lab, mut alice, mut bob)) = with_users() else { return };
    let capture = Capture::start(&lab, Side::Ex);
    let file = random_file(&lab);
    // Bob offers, and cannot be reached: alice listens.
    let offer = bob.tell(&mut alice, &format!("SEND file {} 0 {} 77", number_of(BOB), file.len()));
    assert_eq!(offer[2..], [number_of(BOB).to_string(), "0".into(), file.len().to_string(), "77".into()]);
    let listener = lab.listener(Side::In, &format!("{ALICE}:5000"));
    let answer = alice.tell(&mut bob, &format!("SEND file {} 5000 {} 77", number_of(ALICE), file.len()));
    assert!(is_external(endpoint_of(&answer).ip()), "{answer:?}");
    let (sender, receiver) = take_up(&lab, Side::Ex, BOB, endpoint_of(&answer), &listener);
    send_file(sender, receiver, &file);
    // Alice offers, and bob listens.
    let offer = alice.tell(&mut bob, &format!("SEND other {} 0 {} 78", number_of(ALICE), file.len()));
    assert!(is_external(endpoint_of(&offer).ip()), "{offer:?}");
    assert_eq!(offer[3], "0");
    let listener = lab.listener(Side::Ex, &format!("{BOB}:5001"));
    let answer = bob.tell(&mut alice, &format!("SEND other {} 5001 {} 78", number_of(BOB), file.len()));
    let (sender, receiver) = take_up(&lab, Side::In, ALICE, endpoint_of(&answer), &listener);
    send_file(sender, receiver, &file);
    assert_hidden(&capture.frames(), ALICE);
    lab.stop();
}

const ALICE: &str = "10.0.0.2";
const BOB: &str = "198.51.100.2";
