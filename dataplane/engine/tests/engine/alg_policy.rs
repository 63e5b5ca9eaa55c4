//! The operator over the ALGs: rules, scopes, shadow, audit, and what becomes of an ALG that fails.

use std::time::Duration;

use algate_alg::testing::panic_at;
use algate_alg::{Protocol, ProtocolId, Ruling, Verdict};
use algate_engine::alg_stage::records::{Exchange, Notice, What};
use smoltcp::iface::SocketHandle;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{SYN, Seen, at, tcp, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const TFTP: &str = "[alg.tftp]\nenabled = true\n";
const FTP: &str = "[alg.ftp]\nenabled = true\n";
const SERVER: &str = "198.51.100.1:69";

fn rrq(name: &str) -> Vec<u8> {
    [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat()
}

fn request(l4_port: u16, name: &str) -> Vec<u8> {
    udp(&format!("10.0.0.2:{l4_port}"), SERVER, &rrq(name))
}

fn counter(net: &Net, name: &str) -> u64 {
    let rows = net.engine.counter_rows();
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}")).value
}

fn expected(net: &Net) -> usize {
    net.engine.expectation_rows(net.now, 99).len()
}

fn records(net: &Net) -> (Vec<Notice>, Vec<Exchange>) {
    let (mut notices, mut exchanges) = (Vec::new(), Vec::new());
    net.engine
        .oversight
        .records
        .drain(|notice| notices.push(notice), |exchange| exchanges.push(exchange.clone()));
    (notices, exchanges)
}

/// An FTP client inside and a server outside, line by line.
struct Ftp {
    lab: Lab,
    client: SocketHandle,
    server: SocketHandle,
}

impl Ftp {
    fn new(toml: &str) -> Self {
        let mut lab = Lab::new(Net::with(toml, |_| {}), [10, 0, 0, 2], Faults::default(), 1);
        let [inside, outside] = &mut lab.hosts;
        let (client, server) = (inside.tcp(), outside.tcp());
        outside.listen(server, 21);
        inside.connect(client, at("203.0.113.50:21"), 3_999);
        lab.run(5, |hosts| hosts[1].socket(server).may_send());
        let mut ftp = Self { lab, client, server };
        assert_eq!(ftp.says("220 Ready.\r\n"), "220 Ready.\r\n");
        ftp
    }

    /// What both ends hear of what one of them says.
    fn turn(&mut self, host: usize, text: &str) -> [String; 2] {
        let socket = [self.client, self.server][host];
        self.lab.hosts[host].socket(socket).send_slice(text.as_bytes()).unwrap();
        let mut heard = [Vec::new(), Vec::new()];
        for _ in 0..30 {
            self.lab.step();
            heard[0].extend(self.lab.hosts[0].read(self.client));
            heard[1].extend(self.lab.hosts[1].read(self.server));
        }
        heard.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What both ends hear of the client's words: client, server.
    fn asks(&mut self, text: &str) -> [String; 2] {
        self.turn(0, text)
    }

    /// What the client hears of the server's.
    fn says(&mut self, text: &str) -> String {
        let [client, server] = self.turn(1, text);
        assert_eq!(server, "");
        client
    }
}

#[test]
fn ftp_rules_refuse_commands_files_and_users_with_the_protocols_own_reply() {
    let rules = r#"
[[alg.rule]]
name = "staff"
alg = "ftp"
command = ["STOR"]
user = ["staff-*"]
action = "allow"
[[alg.rule]]
name = "no-uploads"
alg = "ftp"
command = ["STOR"]
action = "deny"
log = true
[[alg.rule]]
name = "no-programs"
file_type = ["exe"]
action = "deny"
[[alg.rule]]
name = "private"
argument = ["/private/*"]
action = "deny"
[[alg.rule]]
name = "silent"
command = ["SITE"]
action = "drop"
"#;
    let mut ftp = Ftp::new(&format!("{FTP}{rules}"));
    let refused = ["550 Refused by policy.\r\n".to_owned(), String::new()];
    for line in ["RETR a.EXE\r\n", "STOR a.txt\r\n", "RETR /pub/../private/a\r\n", "LIST \\private\\.\\a\r\n"]
    {
        assert_eq!(ftp.asks(line), refused, "{line}");
    }
    assert_eq!(ftp.asks("SITE CHMOD 777 a\r\n"), [String::new(), String::new()]);
    assert_eq!(ftp.asks("RETR a.txt\r\n"), ["", "RETR a.txt\r\n"]);
    assert_eq!(ftp.says("150 Go.\r\n226 Done.\r\n"), "150 Go.\r\n226 Done.\r\n");
    assert_eq!(ftp.asks("USER staff-1\r\n"), ["", "USER staff-1\r\n"]);
    ftp.says("331 Password?\r\n");
    assert_eq!(ftp.asks("PASS x\r\n"), ["", "PASS x\r\n"]);
    ftp.says("230 In.\r\n");
    assert_eq!(ftp.asks("STOR a.txt\r\n"), ["", "STOR a.txt\r\n"]);

    let oversight = &ftp.lab.net.engine.oversight;
    let hits: Vec<u64> = (0..5).map(|rule| oversight.hits(rule)).collect();
    assert_eq!(hits, [1, 1, 1, 2, 1]);
    let (notices, exchanges) = records(&ftp.lab.net);
    let logged: Vec<What> = notices.iter().map(|notice| notice.what).collect();
    assert_eq!(logged, [What::Rule { rule: 1, ruling: Ruling::Deny }], "only where the rule says so");
    assert!(exchanges.is_empty(), "no audit was asked for");
    assert_eq!(counter(&ftp.lab.net, "alg.ftp.denied"), 5);
}

#[test]
fn a_tftp_rule_answers_with_an_error_and_opens_nothing() {
    let rule = "[[alg.rule]]\nname = \"a\"\nalg = \"tftp\"\ncommand = [\"RRQ\"]\nargument = [\"secret*\"]\naction = \"deny\"\n";
    let mut net = Net::with(&format!("{TFTP}{rule}"), |_| {});
    let seen = net.send(INSIDE, &request(2070, "secret.cfg"));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].source, seen[0].destination), (at(SERVER), at("10.0.0.2:2070")));
    assert_eq!(seen[0].payload, b"\0\x05\0\x02Access violation\0");
    assert_eq!(expected(&net), 0);
    net.one(INSIDE, &request(2071, "public.cfg"));
    assert_eq!(expected(&net), 1);
}

#[test]
fn a_sip_rule_answers_with_403_and_a_rate_drops_what_is_beyond_it() {
    let rules = r#"
[alg.sip]
enabled = true
[[alg.rule]]
name = "no-premium"
alg = "sip"
command = ["INVITE"]
argument = ["sip:0900*"]
action = "deny"
[[alg.rule]]
name = "flood"
alg = "sip"
command = ["OPTIONS"]
action = "drop"
rate_per_second = 2
"#;
    let mut net = Net::with(rules, |_| {});
    let message = |method: &str, uri: &str| {
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:b@b>\r\nCall-ID: 1@10.0.0.2\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        udp("10.0.0.2:5060", "198.51.100.1:5060", text.as_bytes())
    };
    let answer = net.one(INSIDE, &message("INVITE", "sip:0900123@b"));
    assert_eq!(answer.destination, at("10.0.0.2:5060"));
    assert!(answer.payload.starts_with(b"SIP/2.0 403 "), "{}", answer.payload.escape_ascii());
    assert_eq!(net.one(INSIDE, &message("INVITE", "sip:123@b")).nic_port, OUTSIDE);
    let passed = (0..5).map(|_| net.send(INSIDE, &message("OPTIONS", "sip:b")).len()).sum::<usize>();
    assert_eq!(passed, 2);
    net.advance(Duration::from_millis(600));
    assert_eq!(net.send(INSIDE, &message("OPTIONS", "sip:b")).len(), 1);
}

#[test]
fn an_alg_reads_only_the_hosts_it_is_on_for() {
    let mut net = Net::with("[alg.tftp]\nenabled = true\ninternal = [\"10.0.0.3/32\"]\n", |_| {});
    net.one(INSIDE, &request(2070, "a"));
    assert_eq!((expected(&net), net.workers[0].alg_flows()), (0, 0));
    assert!(net.sessions().iter().all(|row| !row.is_alg), "it has gone to the fast path");
    net.one(INSIDE, &udp("10.0.0.3:2070", SERVER, &rrq("a")));
    assert_eq!((expected(&net), net.workers[0].alg_flows()), (1, 1));
    let mut tenants = Net::with("[alg.tftp]\nenabled = true\ntenants = [0]\n", |_| {});
    tenants.one(INSIDE, &request(2070, "a"));
    assert_eq!(expected(&tenants), 1);
    let mut others = Net::with("[alg.tftp]\nenabled = true\n", |config| config.alg.tftp.tenants = vec![7]);
    others.one(INSIDE, &request(2070, "a"));
    assert_eq!(expected(&others), 0);
}

#[test]
fn in_shadow_every_byte_stays_and_nothing_opens() {
    let toml = "[alg]\naudit_flows = 8\n[alg.ftp]\nenabled = true\nshadow = true\n\
                [[alg.rule]]\nname = \"a\"\ncommand = [\"RETR\"]\naction = \"deny\"\n";
    let mut ftp = Ftp::new(toml);
    for line in ["PORT 10,0,0,2,15,161\r\n", "RETR a\r\n", "EPRT |1|10.0.0.2|4001|\r\n"] {
        assert_eq!(ftp.asks(line), ["", line]);
        assert_eq!(ftp.says("200 Fine.\r\n"), "200 Fine.\r\n");
    }
    let net = &ftp.lab.net;
    assert_eq!((expected(net), net.mappings().len()), (0, 1), "the control session's mapping");
    assert_eq!((counter(net, "alg.ftp.rewritten"), net.engine.oversight.hits(0)), (2, 1), "what it would do");
    let (_, exchanges) = records(net);
    assert_eq!(exchanges.len(), 2);
    assert!(exchanges.iter().all(|exchange| exchange.is_shadow && exchange.is_outbound));
    assert_eq!(exchanges[0].before, b"PORT 10,0,0,2,15,161\r\n");
    let after = String::from_utf8_lossy(&exchanges[0].after).into_owned();
    assert!(after.starts_with("PORT 203,0,113,1"), "{after}");
}

#[test]
fn the_audit_shows_before_and_after_and_no_password() {
    let rule =
        "[alg]\naudit_flows = 8\n[[alg.rule]]\nname = \"a\"\ncommand = [\"PASS\"]\naction = \"deny\"\n";
    let mut ftp = Ftp::new(&format!("{rule}{FTP}"));
    assert_eq!(ftp.asks("PASS s3cret\r\n"), ["530 Refused by policy.\r\n", ""]);
    let [_, heard] = ftp.asks("PORT 10,0,0,2,15,161\r\n");
    let (_, exchanges) = records(&ftp.lab.net);
    let shown: Vec<_> =
        exchanges.iter().map(|one| (one.verdict, one.before.clone(), one.after.clone())).collect();
    assert_eq!(
        shown,
        [
            (Verdict::Remove, b"PASS ***\r\n".to_vec(), b"530 Refused by policy.\r\n".to_vec()),
            (Verdict::Rewrite, b"PORT 10,0,0,2,15,161\r\n".to_vec(), heard.into_bytes()),
        ]
    );
    assert!(!exchanges[0].is_shadow && exchanges[0].internal.address == 0x0a00_0002);
}

/// A SIP message is kept as far as the operator wants, and its digest nowhere.
#[test]
fn the_audit_keeps_a_whole_sip_message_and_no_digest() {
    let message = |method: &str| {
        let text = format!(
            "{method} sip:bob:pa55@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:b@b>\r\nCall-ID: 1@10.0.0.2\r\nCSeq: 1 {method}\r\nContact: <sip:a@10.0.0.2:5060>\r\n\
             Subject: {}\r\nAuthorization: Digest username=\"a\",\r\n response=\"0123abcd\"\r\n\
             Proxy-Authorization: Digest response=\"4567cdef\"\r\nContent-Length: 0\r\n\r\n",
            "x".repeat(900)
        );
        udp("10.0.0.2:5060", "198.51.100.1:5060", text.as_bytes())
    };
    for (bytes, is_whole) in [(2_048, true), (64, false), (16_384, true)] {
        let toml = format!("[alg]\naudit_flows = 8\naudit_bytes = {bytes}\n[alg.sip]\nenabled = true\n");
        let mut net = Net::with(&toml, |_| {});
        net.one(INSIDE, &message("OPTIONS"));
        let (_, exchanges) = records(&net);
        assert_eq!(exchanges.len(), 1);
        for kept in [&exchanges[0].before, &exchanges[0].after] {
            let text = String::from_utf8_lossy(kept);
            assert_eq!(text.ends_with("Content-Length: 0\r\n\r\n"), is_whole, "{bytes}: {text}");
            assert_eq!(kept.len() == 64, !is_whole, "{text}");
            for secret in ["0123abcd", "4567cdef", "pa55"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

#[test]
fn the_audits_memory_goes_round_and_what_it_cannot_take_is_lost_and_counted() {
    let toml = "[alg]\naudit_flows = 8\naudit_bytes = 16384\n[alg.tftp]\nenabled = true\n\
                [[alg.rule]]\nname = \"a\"\naction = \"drop\"\n";
    let mut net = Net::with(toml, |_| {});
    for _ in 0..3 {
        for _ in 0..70 {
            net.send(INSIDE, &request(2_000, "a"));
        }
        assert_eq!(records(&net).1.len(), 64, "two mebibytes of twice 16 KiB");
    }
    assert_eq!(counter(&net, "alg.records_lost"), 18);
}

/// Every protocol is on for an interface, a prefix or a tenant only, on the ports that are its own.
#[test]
fn every_alg_is_on_for_its_interfaces_prefixes_tenants_and_ports_only() {
    for protocol in ProtocolId::ALL {
        let alg = protocol.name();
        let is_udp = protocol.transports().contains(&Protocol::Udp);
        let rows = [
            ("", true),
            ("internal_interfaces = [\"lan\"]", true),
            ("internal_interfaces = [\"wing\"]", false),
            ("internal_interfaces = [\"wing\", \"lan\"]", true),
            ("internal = [\"10.0.0.0/24\"]", true),
            ("internal = [\"10.0.0.128/25\"]", false),
            ("tenants = [0]", true),
            ("tenants = [7]", false),
            ("control_ports = [4444, 4321]", true),
            ("control_ports = [4321]", false),
            ("enabled = false", false),
        ];
        for (line, is_on) in rows {
            let enabled = if line.contains("enabled") { "" } else { "enabled = true\n" };
            let wing = "[[interface]]\nname = \"wing\"\nnic_port = \"p0\"\nvlan = 9\nside = \"internal\"\naddresses = [\"10.7.0.1/24\"]\n";
            let mut net = Net::with(&format!("{wing}[alg.{alg}]\n{enabled}{line}\n"), |_| {});
            let l4_port = if line.contains("ports") { 4_444 } else { protocol.default_l4_port() };
            let server = format!("198.51.100.1:{l4_port}");
            let first = if is_udp {
                udp("10.0.0.2:3000", &server, &rrq("a"))
            } else {
                tcp("10.0.0.2:3000", &server, SYN)
            };
            net.one(INSIDE, &first);
            let reads = net.sessions().iter().any(|row| row.is_alg);
            // SIP detaches at once from what is none of it.
            let was_read = counter(&net, &format!("alg.{alg}.detached")) > 0;
            assert_eq!(reads || was_read, is_on, "{alg} {line}");
        }
    }
}

#[test]
fn a_host_has_as_many_expectations_as_the_operator_lets_it() {
    for (line, most) in [("", 40), ("expectations_per_host = 3", 3)] {
        let toml = format!("[alg]\n{line}\n[alg.tftp]\nenabled = true\n");
        let mut net = Net::with(&toml, |config| config.tables.alg_flows = 64);
        for l4_port in 2_000..2_040 {
            net.one(INSIDE, &request(l4_port, "a"));
        }
        assert_eq!(expected(&net), most, "{line}");
        assert_eq!(counter(&net, "alg.tftp.expectation_refused"), 40 - most as u64);
        net.one(INSIDE, &udp("10.0.0.3:2000", SERVER, &rrq("a")));
        assert_eq!(expected(&net), most + 1, "another host has its own");
    }
}

/// What two hosts outside of any ALG send each other meanwhile.
fn other_traffic(net: &mut Net) {
    net.one(INSIDE, &udp("10.0.0.7:5000", "198.51.100.9:5001", b"hello"));
}

#[test]
fn s_24_a_panic_costs_a_message_then_the_session_then_the_alg_and_forwarding_never_stops() {
    let mut net = Net::with(&format!("{TFTP}{FTP}"), |_| {});
    panic_at(1);
    let out = net.one(INSIDE, &request(2070, "a"));
    assert_eq!(out.payload, rrq("a"), "it passes, unread");
    assert_eq!((expected(&net), counter(&net, "alg.tftp.panics")), (0, 1));
    net.one(INSIDE, &request(2070, "a"));
    assert_eq!(expected(&net), 1, "the next message is read");
    net.advance(Duration::from_secs(61));

    panic_at(1);
    net.one(INSIDE, &request(2070, "a"));
    other_traffic(&mut net);
    net.one(INSIDE, &request(2070, "a"));
    assert_eq!((expected(&net), counter(&net, "alg.tftp.flows")), (0, 1), "the session is no longer read");
    assert_eq!(counter(&net, "alg.tftp.off"), 0);
    net.one(INSIDE, &request(2071, "a"));
    assert_eq!(expected(&net), 1, "others are");

    panic_at(0b11);
    net.one(INSIDE, &request(2072, "a"));
    net.one(INSIDE, &request(2073, "a"));
    assert_eq!(counter(&net, "alg.tftp.off"), 1);
    for l4_port in [2071, 2072, 2074] {
        assert_eq!(net.one(INSIDE, &request(l4_port, "b")).payload, rrq("b"));
    }
    assert_eq!((expected(&net), net.workers[0].alg_flows()), (0, 0), "nothing is read any more");
    assert!(!net.engine.oversight.breaker.is_off(ProtocolId::Ftp));
    other_traffic(&mut net);
    let (notices, _) = records(&net);
    let told: Vec<What> = notices.iter().map(|notice| notice.what).collect();
    let panicked = What::Panicked;
    assert_eq!(told, [panicked, panicked, What::FlowOff, panicked, panicked, What::AlgOff]);
}

/// More headers are to be hidden than one message can have replacements: what is left shows, and is told.
#[test]
fn a_message_that_cannot_be_rewritten_as_meant_is_told() {
    for is_shadow in [false, true] {
        let toml = format!(
            "[alg.sip]\nenabled = true\nshadow = {is_shadow}\n[[alg.rule]]\nname = \"m\"\naction = \"mask\"\n"
        );
        let mut net = Net::with(&toml, |_| {});
        let headers = "Server: a\r\n".repeat(100);
        let message = format!("SIP/2.0 200 OK\r\n{headers}\r\n");
        net.one(INSIDE, &udp("10.0.0.2:5060", "198.51.100.1:5060", message.as_bytes()));
        assert!(counter(&net, "alg.sip.recheck_failed") > 0);
        let told: Vec<What> = records(&net).0.iter().map(|notice| notice.what).collect();
        assert_eq!(told, [What::RecheckFailed], "once a message");
    }
}

/// Every ALG over UDP, and FTP for those over TCP: whatever message it panics at, all bytes arrive.
#[test]
fn s_24_panics_at_random_lose_no_packet() {
    let toml = format!("{TFTP}[alg.sip]\nenabled = true\n");
    for seed in 1..40_u64 {
        let mut net = Net::with(&toml, |_| {});
        panic_at(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for number in 0..20_u16 {
            let server = if number % 2 == 0 { "198.51.100.1:69" } else { "198.51.100.1:5060" };
            let out: Seen =
                net.one(INSIDE, &udp(&format!("10.0.0.2:{}", 3_000 + number % 6), server, &rrq("a")));
            assert_eq!(out.payload, rrq("a"));
            let back = udp_between(out.destination, out.source, b"\0\x03\0\x01data");
            assert_eq!(net.one(OUTSIDE, &back).payload, b"\0\x03\0\x01data");
            other_traffic(&mut net);
        }
        panic_at(0);
    }
    for seed in 1..20_u64 {
        let mut ftp = Ftp::new(FTP);
        panic_at(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for number in 0..6 {
            let line = format!("NOOP {number}\r\n");
            assert_eq!(ftp.asks(&line), ["", &line]);
            assert_eq!(ftp.says("200 Fine.\r\n"), "200 Fine.\r\n");
        }
        panic_at(0);
    }
}

#[test]
fn s_24_a_sender_that_makes_too_much_work_loses_its_alg_and_nobody_else_does() {
    // A message of 16 KiB that never ends, a few bytes a segment.
    let mut ftp = Ftp::new("[alg.ftp]\nenabled = true\nline_bytes = 4096\n");
    ftp.asks("USER a\r\n");
    let mut sent = 0;
    while counter(&ftp.lab.net, "alg.ftp.work_budget") == 0 {
        assert!(sent < 16_000, "the budget is used up before the memory is");
        let piece = [b'A'; 4];
        ftp.lab.hosts[0].socket(ftp.client).send_slice(if sent == 0 { b"NOP " } else { &piece }).unwrap();
        ftp.lab.step();
        sent += 4;
    }
    assert!(!ftp.lab.net.engine.oversight.breaker.is_off(ProtocolId::Ftp));
}

#[test]
fn s_30_a_notice_has_no_byte_of_a_message() {
    let rule = "[[alg.rule]]\nname = \"a\"\naction = \"deny\"\nalarm = true\n";
    let mut net = Net::with(&format!("{TFTP}{rule}"), |_| {});
    for number in 0..1_500_u16 {
        net.send(INSIDE, &request(2_000 + number % 4, "a\r\nERROR forged=%n"));
    }
    let (notices, exchanges) = records(&net);
    // The main thread was not looking: the ring is full, the rest is lost and counted, and nobody has waited.
    assert_eq!((notices.len(), exchanges.len(), counter(&net, "alg.records_lost")), (1_024, 0, 476));
    let ruled = What::Rule { rule: 0, ruling: Ruling::Deny };
    assert!(notices.iter().all(|notice| notice.what == ruled && notice.protocol == ProtocolId::Tftp));
}
