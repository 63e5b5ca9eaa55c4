use std::collections::HashMap;
use std::io::Write as _;

use algate_config::{Config, Machine};

use super::*;

#[test]
fn c_16_tells_the_host_the_forward_or_that_it_cannot_tell() {
    let text = r#"
        nic_port = [{ name = "n", device = { driver = "null" } }]
        [[interface]]
        name = "lan"
        nic_port = "n"
        side = "internal"
        addresses = ["10.0.0.1/24"]
        [[nat.pool]]
        name = "fixed"
        addresses = ["203.0.113.7"]
        block_size = 128
        assignment = "deterministic"
        [[nat.pool]]
        name = "free"
        addresses = ["203.0.113.8"]
        [[nat.static]]
        external = "203.0.113.16/30"
        internal = "10.0.0.240/30"
        [[nat.rule]]
        internal = "10.0.0.0/25"
        pool = "fixed"
        [[nat.rule]]
        internal = "10.0.0.128/25"
        pool = "free"
        [[nat.forward]]
        protocol = "tcp"
        external = "203.0.113.7:21"
        internal = "10.0.0.9:21"
        [[nat.forward]]
        protocol = "tcp+udp"
        external = "203.0.113.7:500-509"
        internal = ["10.0.0.9:600-609", "10.0.0.8:500-509"]
    "#;
    let config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
    for (address, l4_port, expected) in [
        ("203.0.113.7", 1024, "10.0.0.0 (pool \"fixed\")\n"),
        ("203.0.113.7", 1024 + 2 * 128 - 1, "10.0.0.1 (pool \"fixed\")\n"),
        ("203.0.113.7", 65_535, "given out by chance in pool \"fixed\": ask the records\n"),
        ("203.0.113.7", 80, "no dynamic port of pool \"fixed\"\n"),
        ("203.0.113.7", 21, "tcp: forwarded to 10.0.0.9:21\n"),
        ("203.0.113.7", 509, "tcp and udp: forwarded to 10.0.0.9:609 or 10.0.0.8:509\n"),
        ("203.0.113.7", 510, "no dynamic port of pool \"fixed\"\n"),
        ("203.0.113.18", 5000, "10.0.0.242 (static)\n"),
        ("203.0.113.8", 5000, "given out by chance in pool \"free\": ask the records\n"),
        ("203.0.113.9", 5000, "203.0.113.9 is in no pool of this configuration\n"),
    ] {
        assert_eq!(
            answer(&Configuration::of(&config.nat), address.parse().expect("an address"), l4_port),
            expected
        );
    }
}

#[test]
fn s_25_tells_the_tenant_of_the_host() {
    let text = r#"
        nic_port = [{ name = "n", device = { driver = "null" } }]
        [[interface]]
        name = "lan"
        nic_port = "n"
        side = "internal"
        addresses = ["10.0.0.1/24"]
        [[interface]]
        name = "shop"
        nic_port = "n"
        vlan = 7
        side = "internal"
        tenant = 7
        addresses = ["10.0.0.1/24"]
        [[nat.pool]]
        name = "fixed"
        addresses = ["203.0.113.7"]
        block_size = 128
        assignment = "deterministic"
        [[nat.rule]]
        internal = "10.0.0.0/25"
        tenant = 7
        pool = "fixed"
        [[nat.forward]]
        protocol = "tcp"
        external = "203.0.113.7:21"
        internal = "10.0.0.9:21"
        tenant = 7
    "#;
    let config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
    let address = Ipv4Addr::new(203, 0, 113, 7);
    assert_eq!(
        answer(&Configuration::of(&config.nat), address, 1024),
        "10.0.0.0 of tenant 7 (pool \"fixed\")\n"
    );
    assert_eq!(
        answer(&Configuration::of(&config.nat), address, 21),
        "tcp: forwarded to 10.0.0.9:21 of tenant 7\n"
    );
}

/// A log in memory, with a truth to compare with.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    now: i64,
    random: u64,
    held: HashMap<(u16, u16), (String, i64)>,
    /// Ports, host, from, until.
    truth: Vec<((u16, u16), String, i64, i64)>,
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
const START: i64 = 1_790_000_000_000;

impl Log {
    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn line(&mut self, rest: &str) {
        writeln!(self.bytes, "{{\"time\":\"{}\",{rest}}}", time_text(self.now)).expect("it is memory");
    }

    fn milestone(&mut self, event: &str) {
        let pool = r#"{"name":"free","addresses":[["203.0.113.8","203.0.113.9"]],"l4_ports":[1024,65535]}"#;
        self.line(&format!(r#""event":"{event}","configuration":{{"pools":[{pool}],"forwards":[]}}"#));
        if event != "continued" {
            let now = self.now;
            let held = self.held.drain();
            self.truth.extend(held.map(|(ports, (host, since))| (ports, host, since, now)));
        }
    }

    /// One random thing happens.
    fn step(&mut self) {
        self.now += 1 + self.random(3_000) as i64;
        match self.random(400) {
            0 => return self.milestone("started"),
            1 => return self.milestone("continued"),
            2 => return self.line(r#""event":"quota_exceeded","internal":"10.0.0.9","cause":"quota_ports""#),
            // What another address's host does is nothing to us.
            3 => {
                let block = r#""internal":"10.0.9.9","external":"203.0.113.9","l4_ports":[1024,1087]"#;
                return self.line(&format!(r#""event":"block_assigned",{block}"#));
            }
            _ => {}
        }
        let first = 1024 + self.random(16) as u16 * 64;
        let is_block = first < 1024 + 8 * 64;
        let l4_ports = if is_block { (first, first + 63) } else { (first, first) };
        let host = format!("10.0.0.{}", self.random(250));
        let (word, host) = match self.held.remove(&l4_ports) {
            Some((host, since)) => {
                self.truth.push((l4_ports, host.clone(), since, self.now));
                (["block_released", "mapping_deleted"], host)
            }
            None => {
                let host = if is_block { host } else { format!("{host}:{}", 1 + self.random(60_000)) };
                self.held.insert(l4_ports, (host.clone(), self.now));
                (["block_assigned", "mapping_created"], host)
            }
        };
        let rest = if is_block {
            format!(r#""external":"{ADDRESS}","l4_ports":[{first},{}]"#, l4_ports.1)
        } else {
            format!(r#""protocol":"udp","external":"{ADDRESS}:{first}""#)
        };
        self.line(&format!(r#""event":"{}","internal":"{host}",{rest}"#, word[usize::from(!is_block)]));
    }
}

#[test]
fn c_16_a_million_endpoints_and_times_lead_to_the_host_that_had_them_by_the_log() {
    let mut found = 0;
    for seed in 0..4 {
        let mut log = Log { now: START, random: seed, ..Log::default() };
        log.milestone("started");
        (0..1_500).for_each(|_| log.step());
        let mut truth = log.truth.clone();
        truth.extend(log.held.iter().map(|(ports, (host, since))| (*ports, host.clone(), *since, i64::MAX)));
        for _ in 0..50 {
            let l4_port = 1020 + log.random(1_100) as u16;
            let of_port = |(first, last): (u16, u16)| (first..=last).contains(&l4_port);
            let truth: Vec<_> = truth.iter().filter(|(ports, ..)| of_port(*ports)).collect();
            let ask = |time: (i64, i64)| {
                let question = Question { address: ADDRESS, l4_port, time };
                let mut history = History::default();
                history.read(&question, log.bytes.as_slice(), |_| {}).expect("it is memory");
                history.finish(&question);
                assert_eq!(history.unreadable, 0);
                history.holdings
            };
            let holdings = ask((START, i64::MAX));
            let end = log.now;
            let mut hosts_at = |time: i64| {
                let had = truth.iter().filter(|(_, _, from, until)| *from <= time && time < *until);
                let had: Vec<&str> = had.map(|(_, host, ..)| host.as_str()).collect();
                found += had.len();
                had
            };
            let mut random = Log { random: u64::from(l4_port) ^ seed, ..Log::default() };
            for _ in 0..5_000 {
                let time = START + random.random((end - START) as u64) as i64;
                let until = |holding: &Holding| holding.until.unwrap_or(i64::MAX);
                let told = holdings.iter().filter(|holding| holding.since <= time && time < until(holding));
                let told = told.map(|holding| holding.internal.as_str());
                assert!(told.eq(hosts_at(time)), "port {l4_port} at {time}");
            }
            let time = START + random.random((end - START) as u64) as i64;
            let at_once = ask((time, time + 1));
            assert!(at_once.iter().map(|holding| holding.internal.as_str()).eq(hosts_at(time)));
        }
    }
    assert!(found > 100_000, "{found} of a million were somebody's");
}

/// The answer from a log's text.
fn ask(log: &str, l4_port: u16, time: &str) -> Result<String, String> {
    let time: Timestamp = time.parse().expect("a time");
    let question = Question { address: ADDRESS, l4_port, time: span_of(time) };
    let mut history = History::default();
    history.read(&question, log.as_bytes(), |_| {}).expect("it is memory");
    history.finish(&question);
    conclude(&history, &question)
}

#[test]
fn answers_tell_who_and_from_when_to_when_or_why_there_is_none() {
    let log = [
        r#"{"time":"2026-11-22T04:00:00.000Z","event":"started","configuration":{"pools":[{"name":"p","addresses":[["203.0.113.8","203.0.113.8"]],"l4_ports":[1024,65535],"deterministic":{"block_size":512,"hosts":[["10.0.0.0","10.0.0.15"]]}}],"forwards":[{"protocol":"tcp","external":"203.0.113.8:21","ports":2,"internal":["10.0.0.9:21"]}],"statics":[{"external":["203.0.113.64","203.0.113.71"],"internal":"10.0.0.240"}]}}"#,
        r#"{"time":"2026-11-22T04:10:00.250Z","event":"block_assigned","nat_event":16,"internal":"10.0.0.3","external":"203.0.113.8","l4_ports":[20480,20991]}"#,
        r#"{"time":"2026-11-22T04:20:00.750Z","event":"block_released","nat_event":17,"internal":"10.0.0.3","external":"203.0.113.8","l4_ports":[20480,20991]}"#,
        r#"{"time":"2026-11-22T04:30:00.000Z","event":"mapping_cre"#,
        r#"{"time":"2026-11-22T05:00:00.000Z","event":"started","configuration":{"pools":[{"name":"q","addresses":[["203.0.113.8","203.0.113.8"]],"l4_ports":[1024,65535]}],"forwards":[]}}"#,
        r#"{"time":"2026-11-22T05:10:00.500Z","event":"mapping_created","nat_event":8,"protocol":"udp","tenant":7,"internal":"10.0.0.4:5000","external":"203.0.113.8:20500"}"#,
    ]
    .join("\n");
    let block = "10.0.0.3 (block 20480-20991, from 2026-11-22T04:10:00.250Z to 2026-11-22T04:20:00.750Z)\n";
    let mapping = "udp: 10.0.0.4:5000 of tenant 7 (mapping, since 2026-11-22T05:10:00.500Z)\n";
    let nobody =
        |at| Err(format!("no block, mapping or session in the log covers 203.0.113.8:20500 at {at}"));
    for (l4_port, time, expected) in [
        (20_500, "2026-11-22T04:10:00Z", Ok(block.to_owned())),
        (20_500, "2026-11-22T04:20:00.749Z", Ok(block.to_owned())),
        (20_500, "2026-11-22T05:20:00.500+01:00", Ok(block.to_owned())),
        (20_500, "2026-11-22T04:20:00.750Z", nobody("2026-11-22T04:20:00.750Z")),
        (20_500, "2026-11-22T05:09:59Z", nobody("2026-11-22T05:09:59.000Z")),
        (20_500, "2026-11-22T05:10:00Z", Ok(mapping.to_owned())),
        (1_024, "2026-11-22T04:10:00Z", Ok("10.0.0.0 (pool \"p\")\n".to_owned())),
        (21, "2026-11-22T04:10:00Z", Ok("tcp: forwarded to 10.0.0.9:21\n".to_owned())),
        (21, "2026-11-22T05:10:00Z", Ok("no dynamic port of pool \"q\"\n".to_owned())),
    ] {
        assert_eq!(ask(&log, l4_port, time), expected, "{l4_port} at {time}");
    }
    let too_early = "the log begins at 2026-11-22T04:00:00.000Z, after 2026-11-22T03:59:58.000Z: name the one \
                     before it, too, with --log FILE";
    assert_eq!(ask(&log, 20_500, "2026-11-22T03:59:58Z"), Err(too_early.to_owned()));
    assert!(ask("", 1, "2026-11-22T03:59:59Z").is_err_and(|sentence| sentence.contains("is empty")));
}

#[test]
fn an_end_that_comes_a_moment_late_ends_the_holding_before_it() {
    let line = |time: u32, event: &str, host: &str| {
        format!(
            "{{\"time\":\"2026-11-22T04:00:00.{time:03}Z\",\"event\":\"{event}\",\"internal\":\"{host}\",\
             \"external\":\"203.0.113.8\",\"l4_ports\":[1024,1087]}}\n"
        )
    };
    let text = [
        line(100, "block_assigned", "10.0.0.2"),
        line(500, "block_assigned", "10.0.0.2"),
        line(499, "block_released", "10.0.0.2"),
    ]
    .concat();
    let question = Question { address: ADDRESS, l4_port: 1030, time: (START - 1_000_000_000_000, i64::MAX) };
    let mut history = History::default();
    history.read(&question, text.as_bytes(), |_| {}).expect("it is memory");
    history.finish(&question);
    let spans: Vec<_> = history
        .holdings
        .iter()
        .map(|holding| (holding.since % 1_000, holding.until.map(|until| until % 1_000)))
        .collect();
    assert_eq!(spans, [(100, Some(499)), (500, None)]);
}
