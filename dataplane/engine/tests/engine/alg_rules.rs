//! What a rule can do to a message, in every protocol: allow, deny with the protocol's own error, drop, a rate, an
//! alarm, a mask; and what becomes of messages that cannot be read.

use algate_alg::Ruling;
use algate_engine::alg_stage::records::{Exchange, Notice, What};
use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{SYN, at, tcp, udp, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};

/// One message that a rule is about, from a client inside.
struct Case {
    alg: &'static str,
    l4_port: u16,
    /// What is said before, by whom.
    opening: Vec<(usize, Vec<u8>)>,
    command: &'static str,
    argument: &'static str,
    message: Vec<u8>,
    /// How the server answers it.
    answer: &'static [u8],
    /// How the answer of a refusal begins.
    error: &'static [u8],
}

fn pptp(control_type: u16, size: u16, fields: &[u16]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [size, 1, 0x1a2b, 0x3c4d, control_type, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
    bytes.resize(usize::from(size), 0);
    bytes
}

fn sip(method: &str) -> Vec<u8> {
    format!(
        "{method} sip:0900@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:4000;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:b@b>\r\nCall-ID: 1@10.0.0.2\r\nCSeq: 1 {method}\r\nUser-Agent: Foo/1\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn over_tcp() -> [Case; 4] {
    [
        Case {
            alg: "ftp",
            l4_port: 21,
            opening: vec![(SERVER, b"220 Ready.\r\n".to_vec())],
            command: "RETR",
            argument: "*.exe",
            message: b"RETR a.exe\r\n".to_vec(),
            answer: b"226 Done.\r\n",
            error: b"550 Refused by policy.\r\n",
        },
        Case {
            alg: "irc",
            l4_port: 6667,
            opening: vec![
                (CLIENT, b"NICK al\r\nUSER al 0 * :Al\r\n".to_vec()),
                (SERVER, b":irc.example.net 001 al :Welcome\r\n".to_vec()),
            ],
            command: "DCC SEND",
            argument: "*.exe",
            message: b"PRIVMSG bob :\x01DCC SEND \"a b.exe\" 167772162 5000 12\x01\r\n".to_vec(),
            answer: b":bob!b@h PRIVMSG al :thanks\r\n",
            error: b":algate NOTICE * :DCC SEND refused by policy\r\n",
        },
        Case {
            alg: "rtsp",
            l4_port: 554,
            opening: vec![(CLIENT, b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_vec())],
            command: "DESCRIBE",
            argument: "rtsp://*/private/*",
            message: b"DESCRIBE rtsp://cam/pub/../private/1 RTSP/1.0\r\nCSeq: 2\r\n\r\n".to_vec(),
            answer: b"RTSP/1.0 200 OK\r\nCSeq: 2\r\n\r\n",
            error: b"RTSP/1.0 403 Forbidden\r\nCSeq: 2\r\n\r\n",
        },
        Case {
            alg: "pptp",
            l4_port: 1723,
            opening: vec![(CLIENT, pptp(1, 156, &[0x0100])), (SERVER, pptp(2, 156, &[0x0100, 0x0100]))],
            command: "Outgoing-Call-Request",
            argument: "*",
            message: pptp(7, 168, &[7, 1]),
            answer: b"",
            // Outgoing-Call-Reply
            error: &[0, 32, 0, 1, 0x1a, 0x2b, 0x3c, 0x4d, 0, 8, 0, 0, 0, 0, 0, 7, 7],
        },
    ]
}

fn over_udp() -> [Case; 2] {
    [
        Case {
            alg: "tftp",
            l4_port: 69,
            opening: vec![],
            command: "RRQ",
            argument: "secret*",
            message: b"\0\x01secret.cfg\0octet\0".to_vec(),
            answer: b"",
            error: b"\0\x05\0\x02Access violation\0",
        },
        Case {
            alg: "sip",
            l4_port: 5060,
            opening: vec![],
            command: "MESSAGE",
            argument: "sip:0900*",
            message: sip("MESSAGE"),
            answer: b"",
            error: b"SIP/2.0 403 Forbidden\r\n",
        },
    ]
}

impl Case {
    fn toml(&self, action: &str) -> String {
        let Self { alg, command, argument, .. } = self;
        format!(
            "[alg.{alg}]\nenabled = true\n[[alg.rule]]\nname = \"a\"\nalg = \"{alg}\"\ncommand = [\"{command}\"]\n\
             argument = [\"{argument}\"]\ninternal = [\"10.0.0.0/29\"]\npeer = [\"203.0.113.0/24\"]\n\
             direction = \"outbound\"\ntenant = 0\nalarm = true\naction = {action}\n"
        )
    }

    /// A control session behind its opening.
    fn open(&self, toml: &str) -> (Lab, Talk) {
        let mut lab = Lab::new(Net::with(toml, |_| {}), [10, 0, 0, 2], Faults::default(), 1);
        let server = at(&format!("203.0.113.50:{}", self.l4_port));
        let talk = Talk::open(&mut lab, (0, 4_000), server, (1, self.l4_port));
        for (from, bytes) in &self.opening {
            assert_eq!(talk.say(&mut lab, *from, bytes).len(), bytes.len(), "{}", self.alg);
        }
        (lab, talk)
    }

    /// What the server hears of the message, and the client of the answer that is not the server's.
    fn send(&self, lab: &mut Lab, talk: &Talk) -> [Vec<u8>; 2] {
        let heard = talk.say(lab, CLIENT, &self.message);
        [heard, talk.read(lab, CLIENT)]
    }

    /// The same over UDP.
    fn send_datagram(&self, net: &mut Net) -> [Vec<u8>; 2] {
        let server = format!("203.0.113.50:{}", self.l4_port);
        let mut heard = [Vec::new(), Vec::new()];
        for seen in net.send(INSIDE, &udp("10.0.0.2:4000", &server, &self.message)) {
            heard[usize::from(seen.nic_port != OUTSIDE)].extend(seen.payload);
        }
        heard
    }

    #[track_caller]
    fn check(&self, action: &str, [server, client]: &[Vec<u8>; 2]) {
        let alg = self.alg;
        assert_eq!(server.is_empty(), action != "allow", "{alg} {action}: {}", server.escape_ascii());
        let error = if action == "deny" { self.error } else { b"" };
        assert_eq!(client.is_empty(), error.is_empty(), "{alg} {action}: {}", client.escape_ascii());
        assert!(client.starts_with(error), "{alg} {action}: {}", client.escape_ascii());
    }
}

fn records(net: &Net) -> (Vec<Notice>, Vec<Exchange>) {
    let (mut notices, mut exchanges) = (Vec::new(), Vec::new());
    net.engine
        .oversight
        .records
        .drain(|notice| notices.push(notice), |exchange| exchanges.push(exchange.clone()));
    (notices, exchanges)
}

fn counter(net: &Net, name: &str) -> u64 {
    let rows = net.engine.counter_rows();
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}")).value
}

/// Each action, once in each protocol, with its count and its alarm.
#[test]
fn every_action_has_its_effect_in_every_protocol() {
    let rulings = [("allow", Ruling::Allow), ("deny", Ruling::Deny), ("drop", Ruling::Drop)];
    for (action, ruling) in rulings {
        let check = |case: &Case, heard: [Vec<u8>; 2], net: &Net| {
            case.check(action, &heard);
            let told: Vec<What> = records(net).0.iter().map(|notice| notice.what).collect();
            assert_eq!(told, [What::Rule { rule: 0, ruling }], "{} {action}", case.alg);
            assert_eq!(net.engine.oversight.hits(0), 1, "{} {action}", case.alg);
            let denied = counter(net, &format!("alg.{}.denied", case.alg));
            assert_eq!(denied, u64::from(action != "allow"), "{} {action}", case.alg);
        };
        for case in over_tcp() {
            let (mut lab, talk) = case.open(&case.toml(&format!("\"{action}\"")));
            let heard = case.send(&mut lab, &talk);
            check(&case, heard, &lab.net);
        }
        for case in over_udp() {
            let mut net = Net::with(&case.toml(&format!("\"{action}\"")), |_| {});
            let heard = case.send_datagram(&mut net);
            check(&case, heard, &net);
        }
    }
}

#[test]
fn a_rate_refuses_what_is_beyond_it_in_every_protocol() {
    const RATED: &str = "\"deny\"\nrate_per_second = 1\n";
    for case in over_tcp() {
        let (mut lab, talk) = case.open(&case.toml(RATED));
        case.check("allow", &case.send(&mut lab, &talk));
        talk.say(&mut lab, SERVER, case.answer);
        case.check("deny", &case.send(&mut lab, &talk));
    }
    for case in over_udp() {
        let mut net = Net::with(&case.toml(RATED), |_| {});
        case.check("allow", &case.send_datagram(&mut net));
        case.check("deny", &case.send_datagram(&mut net));
    }
}

/// Each thing that a rule may ask for, changed so that it does not match any more.
#[test]
fn a_rule_for_others_leaves_a_message_alone_in_every_protocol() {
    let others = [
        ("command = [", "command = [\"X\"]#"),
        ("argument = [", "argument = [\"x\"]#"),
        ("internal = [", "internal = [\"10.0.0.128/25\"]#"),
        ("peer = [", "peer = [\"198.51.100.0/24\"]#"),
        ("\"outbound\"", "\"inbound\""),
    ];
    for (from, to) in others {
        for case in over_udp() {
            let mut net = Net::with(&case.toml("\"deny\"").replace(from, to), |_| {});
            case.check("allow", &case.send_datagram(&mut net));
        }
        for case in over_tcp() {
            let (mut lab, talk) = case.open(&case.toml("\"deny\"").replace(from, to));
            case.check("allow", &case.send(&mut lab, &talk));
        }
    }
}

#[test]
fn a_mask_hides_what_an_end_runs_and_nothing_else_changes() {
    let rules = "[[alg.rule]]\nname = \"m\"\naction = \"mask\"\nlog = true\n\
                 [alg.ftp]\nenabled = true\n[alg.rtsp]\nenabled = true\n[alg.sip]\nenabled = true\n";
    let [_, _, rtsp, _] = over_tcp();
    for is_shadow in [false, true] {
        let toml = format!("[alg]\naudit_flows = 4\n{rules}");
        let toml = toml.replace("enabled = true", &format!("enabled = true\nshadow = {is_shadow}"));
        let mut lab = Lab::new(Net::with(&toml, |_| {}), [10, 0, 0, 2], Faults::default(), 1);
        let talk = Talk::open(&mut lab, (0, 4_000), at("203.0.113.50:21"), (1, 21));
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for (from, bytes) in [
            (SERVER, &b"220-Foo 1.2\r\n220 at your service\r\n"[..]),
            (CLIENT, b"FEAT\r\nSYST\r\n"),
            (SERVER, b"211-Foo has\r\n EPSV\r\n211 End\r\n215 FooOS\r\n"),
            (CLIENT, b"PWD\r\n"),
            (SERVER, b"257 \"/Foo\"\r\n"),
        ] {
            said.extend(bytes);
            heard.extend(talk.say(&mut lab, from, bytes));
        }
        let want = "220-Ready\r\n220 Ready\r\nFEAT\r\nSYST\r\n211-Features\r\n211 End\r\n215 UNKNOWN\r\nPWD\r\n257 \"/Foo\"\r\n";
        let want = if is_shadow { said } else { want.as_bytes().to_vec() };
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&want));
        assert_eq!((counter(&lab.net, "alg.ftp.masked"), lab.net.engine.oversight.hits(0)), (6, 6));
        let (notices, exchanges) = records(&lab.net);
        assert!(notices.iter().all(|notice| notice.what == What::Masked { rule: 0 }) && notices.len() == 6);
        let after: Vec<_> = exchanges.iter().map(|one| (one.is_shadow, one.after.len() > 9)).collect();
        assert_eq!(after.len(), 6);
        assert!(after.iter().all(|(shadow, _)| *shadow == is_shadow));
    }
    let (mut lab, talk) = rtsp.open(rules);
    let answer = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nServer: Foo/1.2 (Bar)\r\n\r\n";
    let heard = talk.say(&mut lab, SERVER, answer);
    assert_eq!(heard, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nServer: masked\r\n\r\n");

    let mut net = Net::with(rules, |_| {});
    let out = net.one(INSIDE, &udp("10.0.0.2:5060", "203.0.113.50:5060", &sip("OPTIONS")));
    let text = String::from_utf8(out.payload).unwrap();
    assert!(text.contains("\r\nUser-Agent: masked\r\nContent-Length: 0\r\n\r\n"), "{text}");
    let answer = text
        .replace("OPTIONS sip:0900@b SIP/2.0", "SIP/2.0 200 OK")
        .replace("User-Agent: masked", "Server: Foo");
    let back = net.one(OUTSIDE, &udp_between(out.destination, out.source, answer.as_bytes()));
    assert!(String::from_utf8_lossy(&back.payload).contains("\r\nServer: masked\r\n"));
}

/// Whoever is not of the protocol is no longer read, and passes; unless a rule wants nothing unread.
#[test]
fn what_is_not_of_the_protocol_ends_its_session_where_a_rule_wants_nothing_unread() {
    const STRICT: &str = "[[alg.rule]]\nname = \"a\"\nunreadable = true\naction = \"drop\"\n";
    let enabled =
        ["ftp", "irc", "rtsp", "pptp", "tftp", "sip"].map(|alg| format!("[alg.{alg}]\nenabled = true\n"));
    let enabled = enabled.concat();
    for case in over_tcp() {
        for toml in [enabled.clone(), format!("{enabled}{STRICT}")] {
            let mut lab = Lab::new(Net::with(&toml, |_| {}), [10, 0, 0, 2], Faults::default(), 1);
            let server = at(&format!("203.0.113.50:{}", case.l4_port));
            let talk = Talk::open(&mut lab, (0, 4_000), server, (1, case.l4_port));
            let post = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n";
            let heard = talk.say(&mut lab, CLIENT, post);
            let is_strict = toml.contains("unreadable");
            assert_eq!(heard == post, !is_strict, "{}: {}", case.alg, heard.escape_ascii());
            assert_eq!(talk.is_open(&mut lab), !is_strict, "{}", case.alg);
            assert_eq!(counter(&lab.net, &format!("alg.{}.denied", case.alg)), u64::from(is_strict));
        }
    }
    for case in over_udp() {
        let mut net = Net::with(&format!("{enabled}{STRICT}"), |_| {});
        let server = format!("203.0.113.50:{}", case.l4_port);
        net.refused(INSIDE, &udp("10.0.0.2:4000", &server, b"POST / HTTP/1.1\r\n"), DropReason::AlgRemoved);
        assert!(net.sessions().is_empty(), "{}", case.alg);
        case.check("allow", &case.send_datagram(&mut net));
    }
    // Traffic of no ALG is never asked about.
    let mut net = Net::with(&format!("{enabled}{STRICT}"), |_| {});
    net.one(INSIDE, &tcp("10.0.0.2:4000", "203.0.113.50:80", SYN));
}
