//! Forged messages in dialogues that are honest otherwise: FTP bounce, third hosts in replies, offers that a server makes a
//! client echo, floods of announcements. Nothing opens that the announcer does not own, and a counter says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::thread;

use lab::drill::{Knocks, Talk, VICTIM_PORT, Victim, assert_nothing_open, config, endpoint_of};
use lab::{FORWARDED, Lab, SERVER, Side};

/// Ports of services, which no message may open although anyone could listen there.
const SERVICES: [u16; 5] = [22, 445, 3306, 3389, 5900];

/// A line, and the counter that says why it opened nothing.
type Row = (&'static str, &'static str);

/// What an FTP client, or one that poses as such, may announce in vain.
const BOUNCES: [Row; 20] = [
    ("PORT 10,0,0,3,34,184", "alg.ftp.foreign_address"),
    ("PORT 198,51,100,2,34,184", "alg.ftp.foreign_address"),
    ("PORT 203,0,113,2,34,184", "alg.ftp.foreign_address"),
    ("PORT 203,0,113,10,34,184", "alg.ftp.foreign_address"),
    ("PORT 127,0,0,1,34,184", "alg.ftp.foreign_address"),
    ("PORT 255,255,255,255,34,184", "alg.ftp.foreign_address"),
    ("PORT 0,0,0,0,34,184", "alg.ftp.foreign_address"),
    ("EPRT |1|10.0.0.3|8888|", "alg.ftp.foreign_address"),
    ("EPRT |2|2001:db8::2|8888|", "alg.ftp.foreign_address"),
    ("PORT 10,0,0,2,0,0", "alg.ftp.port_zero"),
    ("EPRT |1|10.0.0.2|0|", "alg.ftp.port_zero"),
    ("PORT 10,0,0,2,0,22", "alg.ftp.privileged_port"),
    ("PORT 10,0,0,2,1,189", "alg.ftp.privileged_port"),
    ("EPRT |1|10.0.0.2|1023|", "alg.ftp.privileged_port"),
    ("PORT 10,0,0,2,12,234", "alg.ftp.service_port"),
    ("PORT 10,0,0,2,13,61", "alg.ftp.service_port"),
    ("EPRT |1|10.0.0.2|5900|", "alg.ftp.service_port"),
    ("EPRT |1|10.0.0.2|65536|", "alg.ftp.malformed"),
    ("PORT 10,0,0,2,256,22", "alg.ftp.malformed"),
    ("PORT 10,0,0,2,34", "alg.ftp.malformed"),
];

#[test]
fn an_ftp_client_announces_nothing_but_itself() {
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &SERVICES);
    let listener = lab.listener(Side::Ex, &format!("{SERVER}:21"));
    let mut talk = Talk::outbound(&lab, &listener, "10.0.0.2:0");
    talk.agree(&[(Side::Ex, "220 ready"), (Side::In, "USER a"), (Side::Ex, "230 welcome")]);
    let mut knocks = Knocks::default();
    for (line, counter) in BOUNCES {
        let before = lab.counter(counter);
        if is_refused((line, counter)) {
            assert_eq!(talk.inside_is_answered(line), "504 Cannot be opened.");
        } else {
            // Confirmed, as a server that is the attacker's would.
            talk.agree(&[(Side::In, line), (Side::Ex, "200 so be it")]);
        }
        assert_eq!(lab.counter(counter), before + 1, "{line}: {counter}");
        knock_everywhere(&lab, &mut knocks, *talk.opener.ip());
        knocks.expect_nobody_in(&victim, line);
        assert_nothing_open(&lab, line);
    }
    assert_eq!(lab.counter("alg.ftp.rewritten"), 0);
    // The session is read on: an honest announcement works.
    let announced = endpoint_of(&talk.inside_announces("PORT 10,0,0,2,34,184"));
    knocks.knock(&lab, announced);
    knocks.expect_somebody_in(&victim, "an honest PORT");
    lab.stop();
}

#[test]
fn an_ftp_client_outside_makes_nothing_open_inside() {
    let Some((mut lab, listener)) = with_server_inside(21) else { return };
    let victim = Victim::listen(&lab, &SERVICES);
    let mut talk = Talk::inbound(&lab, &listener, &format!("{FORWARDED}:21"));
    talk.agree(&[(Side::In, "220 ready"), (Side::Ex, "USER a"), (Side::In, "230 welcome")]);
    let mut knocks = Knocks::default();
    let rows: [Row; 5] = [
        ("PORT 10,0,0,2,34,184", "alg.ftp.foreign_address"),
        ("PORT 10,0,0,3,34,184", "alg.ftp.foreign_address"),
        ("EPRT |1|10.0.0.2|8888|", "alg.ftp.foreign_address"),
        ("PORT 198,51,100,2,34,184", "alg.ftp.foreign_address"),
        ("PORT 203,0,113,2,0,22", "alg.ftp.privileged_port"),
    ];
    for (line, counter) in rows {
        let before = lab.counter(counter);
        talk.agree(&[(Side::Ex, line), (Side::In, "200 so be it")]);
        assert_eq!(lab.counter(counter), before + 1, "{line}: {counter}");
        knock_everywhere(&lab, &mut knocks, FORWARDED.parse().unwrap());
        knocks.expect_nobody_in(&victim, line);
        assert_nothing_open(&lab, line);
    }
    lab.stop();
}

/// What a server may say in vain. Of a 229 only the port is its own to choose.
const REPLIES: [(&str, Row); 9] = [
    ("PASV", ("227 Entering Passive Mode (10,0,0,3,34,184)", "alg.ftp.foreign_address")),
    ("PASV", ("227 Entering Passive Mode (198,51,100,2,34,184)", "alg.ftp.foreign_address")),
    ("PASV", ("227 Entering Passive Mode (203,0,113,11,34,184)", "alg.ftp.foreign_address")),
    ("PASV", ("227 Entering Passive Mode (127,0,0,1,34,184)", "alg.ftp.foreign_address")),
    ("PASV", ("227 =10,0,0,3,34,184", "alg.ftp.foreign_address")),
    ("EPSV", ("229 Entering Extended Passive Mode (|||22|)", "alg.ftp.privileged_port")),
    ("EPSV", ("229 Entering Extended Passive Mode (|||0|)", "alg.ftp.port_zero")),
    ("EPSV", ("229 Entering Extended Passive Mode (|||3389|)", "alg.ftp.service_port")),
    ("EPSV", ("229 Entering Extended Passive Mode (|||65536|)", "alg.ftp.malformed")),
];

#[test]
fn an_ftp_server_inside_announces_nothing_but_itself() {
    let Some((mut lab, listener)) = with_server_inside(21) else { return };
    let victim = Victim::listen(&lab, &SERVICES);
    let mut talk = Talk::inbound(&lab, &listener, &format!("{FORWARDED}:21"));
    talk.agree(&[(Side::In, "220 ready"), (Side::Ex, "USER a"), (Side::In, "230 welcome")]);
    let mut knocks = Knocks::default();
    for (command, (reply, counter)) in REPLIES {
        let before = lab.counter(counter);
        talk.agree(&[(Side::Ex, command)]);
        // Of a 229 the address is the server's own.
        let is_own = reply.starts_with("229") && counter != "alg.ftp.malformed";
        let want =
            if is_own || is_refused((reply, counter)) { "425 Can't open data connection." } else { reply };
        assert_eq!(talk.inside_announces(reply), want);
        assert_eq!(lab.counter(counter), before + 1, "{reply}: {counter}");
        knock_everywhere(&lab, &mut knocks, FORWARDED.parse().unwrap());
        knocks.expect_nobody_in(&victim, reply);
        assert_nothing_open(&lab, reply);
    }
    // An answer that nobody asked for is text, however right it looks.
    talk.agree(&[(Side::Ex, "NOOP"), (Side::In, "227 Entering Passive Mode (10,0,0,2,34,184)")]);
    assert_nothing_open(&lab, "a 227 that nobody asked for");
    assert_eq!(lab.counter("alg.ftp.rewritten"), 0);
    talk.agree(&[(Side::Ex, "PASV")]);
    talk.inside.write_all(b"227 Entering Passive Mode (10,0,0,2,34,184)\r\n").unwrap();
    let announced = endpoint_of(&line_of(&mut BufReader::new(&talk.outside)));
    assert_eq!(announced.ip().to_string(), FORWARDED);
    knocks.knock(&lab, announced);
    knocks.expect_somebody_in(&victim, "an honest 227");
    lab.stop();
}

#[test]
fn an_ftp_server_outside_sends_no_client_elsewhere_with_our_help() {
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &SERVICES);
    let listener = lab.listener(Side::Ex, &format!("{SERVER}:21"));
    let mut talk = Talk::outbound(&lab, &listener, "10.0.0.2:0");
    talk.agree(&[(Side::Ex, "220 ready"), (Side::In, "USER a"), (Side::Ex, "230 welcome")]);
    let mut knocks = Knocks::default();
    let own = "227 Entering Passive Mode (10,0,0,2,34,184)";
    let to_client = [("PASV", (own, "alg.ftp.foreign_address"))];
    for (command, (reply, counter)) in REPLIES.into_iter().chain(to_client) {
        let before = lab.counter(counter);
        talk.agree(&[(Side::In, command), (Side::Ex, reply)]);
        assert_eq!(lab.counter(counter), before + 1, "{reply}: {counter}");
        knock_everywhere(&lab, &mut knocks, *talk.opener.ip());
        knocks.expect_nobody_in(&victim, reply);
        assert_nothing_open(&lab, reply);
    }
    lab.stop();
}

#[test]
fn an_offer_that_a_server_makes_a_client_echo_opens_nothing() {
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &SERVICES);
    let listener = lab.listener(Side::Ex, &format!("{SERVER}:6667"));
    let mut talk = Talk::outbound(&lab, &listener, "10.0.0.2:0");
    let mut knocks = Knocks::default();
    talk.agree(&[(Side::In, "NICK al"), (Side::In, "USER al 0 * :al"), (Side::Ex, ":irc 001 al :welcome")]);
    let offer = "\x01DCC SEND file 167772162 8888 9\x01";
    let echoes = [
        ("PING", format!("PING :{offer}"), format!("PONG :{offer}")),
        (
            "PING with a message in it",
            format!("PING :PRIVMSG x :{offer}"),
            format!("PONG :PRIVMSG x :{offer}"),
        ),
        ("PING that names a user", format!("PING x :{offer}"), format!("PONG x :{offer}")),
        (
            "CTCP PING",
            format!(":eve!e@h PRIVMSG al :\x01PING {offer}"),
            format!("NOTICE eve :\x01PING {offer}"),
        ),
        ("an offer in the client's name", format!(":al!a@h PRIVMSG eve :{offer}"), "PONG :x".into()),
        ("an offer to the client", format!(":eve!e@h PRIVMSG al :{offer}"), "PONG :x".into()),
    ];
    for (name, from_server, echo) in echoes {
        let before = lab.counter("alg.irc.out_of_place");
        talk.agree(&[(Side::Ex, &from_server), (Side::In, &echo)]);
        let counted = u64::from(echo.contains("\x01DCC "));
        assert_eq!(lab.counter("alg.irc.out_of_place"), before + counted, "{name}");
        knock_everywhere(&lab, &mut knocks, *talk.opener.ip());
        knocks.expect_nobody_in(&victim, name);
        assert_nothing_open(&lab, name);
    }
    let rows: [Row; 4] = [
        ("PRIVMSG eve :\x01DCC SEND file 167772163 8888 9\x01", "alg.irc.foreign_address"),
        ("PRIVMSG eve :\x01DCC SEND file 3405803778 8888 9\x01", "alg.irc.foreign_address"),
        ("PRIVMSG eve :\x01DCC SEND file 167772162 22 9\x01", "alg.irc.privileged_port"),
        ("PRIVMSG eve :\x01DCC SEND file 167772162 3306 9\x01", "alg.irc.service_port"),
    ];
    for (line, counter) in rows {
        let before = lab.counter(counter);
        talk.agree(&[(Side::In, line)]);
        assert_eq!(lab.counter(counter), before + 1, "{line}: {counter}");
        knock_everywhere(&lab, &mut knocks, *talk.opener.ip());
        knocks.expect_nobody_in(&victim, line);
        assert_nothing_open(&lab, line);
    }
    assert_eq!(lab.counter("alg.irc.rewritten"), 0);
    // The same offer in the client's own words.
    let line = talk.inside_announces(&format!("PRIVMSG eve :{offer}"));
    let words: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    knocks.knock(&lab, SocketAddrV4::new(words[0].into(), words[1] as u16));
    knocks.expect_somebody_in(&victim, "an honest offer");
    lab.stop();
}

#[test]
fn a_hundred_thousand_announcements_leave_one_door_and_room_for_others() {
    const ANNOUNCEMENTS: usize = 100_000;
    const PIPELINED: usize = 32;
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &[]);
    let listener = lab.listener(Side::Ex, &format!("{SERVER}:21"));
    let mut talk = Talk::outbound(&lab, &listener, "10.0.0.2:0");
    talk.agree(&[(Side::Ex, "220 ready"), (Side::In, "USER a"), (Side::Ex, "230 welcome")]);
    let first = endpoint_of(&talk.inside_announces("PORT 10,0,0,2,34,184"));
    talk.agree(&[(Side::Ex, "200 so be it")]);
    let before = lab.resident_kilobytes();
    let (mut most, mut opened) = (0, 0);
    let mut arrived = BufReader::new(talk.outside.try_clone().unwrap());
    let mut answered = BufReader::new(talk.inside.try_clone().unwrap());
    let mut ports = (20_000..60_000_u16).cycle();
    for round in 0..ANNOUNCEMENTS / PIPELINED {
        let lines: String = (0..PIPELINED)
            .map(|_| ports.next().unwrap().to_be_bytes())
            .map(|[high, low]| format!("PORT 10,0,0,2,{high},{low}\r\n"))
            .collect();
        talk.inside.write_all(format!("{lines}NOOP\r\n").as_bytes()).unwrap();
        let read = std::iter::repeat_with(|| line_of(&mut arrived)).take_while(|line| line != "NOOP");
        let passed = read.inspect(|line| assert!(!line.contains("10,0,0,2"), "{line}")).count();
        opened += passed;
        if round % 500 == 0 {
            most = most.max(lab.show("expectations").len());
        }
        // Those that found no room are answered by algate, all in the order in which they came.
        talk.outside.write_all("200 so be it\r\n".repeat(passed + 1).as_bytes()).unwrap();
        let answers: Vec<String> = (0..=PIPELINED).map(|_| line_of(&mut answered)).collect();
        assert_eq!(
            answers.iter().filter(|line| *line == "504 Cannot be opened.").count(),
            PIPELINED - passed
        );
        assert_eq!(answers.last().unwrap(), "200 so be it", "the answer to NOOP");
    }
    let counters = lab.counters();
    assert_eq!(counters["alg.ftp.rewritten"] as usize, opened + 1);
    assert_eq!(counters["alg.ftp.expectation_refused"] as usize, ANNOUNCEMENTS - opened);
    assert!(most <= 8, "{most} stood at a time, of 8 that a session may have");
    assert!(lab.show("expectations").len() <= 1, "the last alone is meant");
    assert!(
        lab.resident_kilobytes() < before + 1_000,
        "it grew from {before} kB to {}",
        lab.resident_kilobytes()
    );
    let mut knocks = Knocks::default();
    knocks.knock(&lab, first);
    knocks.expect_nobody_in(&victim, "an announcement that others replaced");
    // Another host is served as if nothing had been.
    let mut other = Talk::outbound(&lab, &listener, "10.0.0.3:0");
    other.agree(&[(Side::Ex, "220 ready"), (Side::In, "USER a"), (Side::Ex, "230 welcome")]);
    let announced = endpoint_of(&other.inside_announces("PORT 10,0,0,3,34,184"));
    knocks.knock(&lab, announced);
    knocks.expect_somebody_in(&victim, "another host's PORT");
    lab.stop();
}

#[test]
fn announcements_that_nobody_answers_end_the_reading() {
    let Some(mut lab) = Lab::up() else { return };
    let config = config(&lab, "");
    lab.start_from(&config);
    let victim = Victim::listen(&lab, &[]);
    let listener = lab.listener(Side::Ex, &format!("{SERVER}:21"));
    let mut talk = Talk::outbound(&lab, &listener, "10.0.0.2:0");
    talk.agree(&[(Side::Ex, "220 ready"), (Side::In, "USER a"), (Side::Ex, "230 welcome")]);
    let mut reader = BufReader::new(talk.outside.try_clone().unwrap());
    let mut writer = talk.inside.try_clone().unwrap();
    let lines = "PORT 10,0,0,2,34,184\r\n".repeat(10_000);
    let announced = thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(lines.as_bytes()).unwrap();
            writer.write_all(b"QUIT\r\n").unwrap();
        });
        let mut announced = Vec::new();
        loop {
            let line = line_of(&mut reader);
            match line.as_str() {
                "QUIT" => break announced,
                "PORT 10,0,0,2,34,184" => {}
                _ => announced.push(endpoint_of(&line)),
            }
        }
    });
    assert_eq!(lab.counter("alg.ftp.too_many_outstanding"), 1);
    assert!(!announced.is_empty() && announced.len() <= 64, "{} were taken", announced.len());
    assert_nothing_open(&lab, "nobody answered");
    let mut knocks = Knocks::default();
    for endpoint in announced {
        knocks.knock(&lab, endpoint);
    }
    knocks.expect_nobody_in(&victim, "nobody answered");
    lab.stop();
}

/// A lab with a forward to a TCP port of the internal host, which this program listens on.
fn with_server_inside(l4_port: u16) -> Option<(Lab, TcpListener)> {
    let mut lab = Lab::up()?;
    let forward = format!(
        "\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:{l4_port}\"\ninternal = \"10.0.0.2:{l4_port}\"\n"
    );
    let config = config(&lab, &forward);
    lab.start_from(&config);
    let listener = lab.listener(Side::In, &format!("0.0.0.0:{l4_port}"));
    Some((lab, listener))
}

/// Whether a line that this counter counts is refused: it names an internal host, of which nobody outside should learn. What
/// does not parse names nothing.
fn is_refused((line, counter): Row) -> bool {
    counter != "alg.ftp.malformed" && (line.contains("10,0,0,") || line.contains("10.0.0."))
}

/// Knocks at the victim's services wherever one of them could be thought to be.
fn knock_everywhere(lab: &Lab, knocks: &mut Knocks, address: Ipv4Addr) {
    for l4_port in SERVICES.into_iter().chain([VICTIM_PORT]) {
        knocks.knock(lab, SocketAddrV4::new(address, l4_port));
    }
}

/// The next line, without its end.
fn line_of(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
