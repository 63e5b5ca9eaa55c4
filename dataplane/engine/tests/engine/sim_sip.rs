//! SIP through the engine: phones that register, calls with media counted packet by packet, and who may not take part.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_config::{Assignment, Config, FilteringBehavior, MappingBehavior, PortBlocks};
use algate_engine::drop_reason::DropReason;

use crate::common::hosts::{Faults, Lab};
use crate::common::packets::{at, udp, udp_between};
use crate::common::talk::{CLIENT, SERVER, Talk};
use crate::common::{INSIDE, Net, OUTSIDE};

pub(crate) const SIP: &str = r#"
[alg.sip]
enabled = true

[[nat.forward]]
protocol = "udp"
external = "203.0.113.11:5060"
internal = "10.0.0.9:5060"
"#;

pub(crate) const PHONE: &str = "10.0.0.2:5060";
pub(crate) const PROXY: &str = "198.51.100.1:5060";
/// Where the other party's media are, and are not.
pub(crate) const FAR: &str = "198.51.100.9:30000";
pub(crate) const STRANGER: &str = "198.51.100.66:30000";

/// A message of these lines, with its Content-Length.
pub(crate) fn message(head: &str, body: &str) -> String {
    let lines = |text: &str| -> String {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\r\n"))
            .collect()
    };
    let body = lines(body);
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{}{kind}Content-Length: {}\r\n\r\n{body}", lines(head), body.len())
}

/// A description with one RTP stream.
pub(crate) fn audio(media: &str) -> String {
    let (address, l4_port) = media.split_once(':').unwrap();
    format!(
        "v=0\no=- 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio {l4_port} RTP/AVP 0\na=sendrecv"
    )
}

/// Where a message says that its sender's media are.
#[track_caller]
pub(crate) fn media_of(text: &str) -> SocketAddrV4 {
    let after = |key: &str| text.split(key).nth(1).unwrap_or_else(|| panic!("{key} in {text}"));
    let word = |text: &str| text.split([' ', '\r']).next().unwrap().to_owned();
    at(&format!("{}:{}", word(after("c=IN IP4 ")), word(after("m=audio "))))
}

pub(crate) fn register(contact: &str, expires: u32) -> String {
    let head = format!(
        "REGISTER sip:example.com SIP/2.0
        Via: SIP/2.0/UDP {contact};branch=z9hG4bKr;rport
        From: <sip:bob@example.com>;tag=r1
        To: <sip:bob@example.com>
        Call-ID: register
        CSeq: 1 REGISTER
        Contact: <sip:bob@{contact}>
        Expires: {expires}"
    );
    message(&head, "")
}

pub(crate) fn registered(contact: &str, expires: u32) -> String {
    let head = format!(
        "SIP/2.0 200 OK
        Via: SIP/2.0/UDP {contact};branch=z9hG4bKr;rport={}
        From: <sip:bob@example.com>;tag=r1
        To: <sip:bob@example.com>;tag=r2
        Call-ID: register
        CSeq: 1 REGISTER
        Contact: <sip:bob@{contact}>;expires={expires}",
        at(contact).port()
    );
    message(&head, "")
}

/// A request within `call`, from `from` to `to`, sent from `via`.
pub(crate) fn request(method: &str, call: &str, (via, to): (&str, &str), body: &str) -> String {
    let transport = if call.starts_with("tcp") { "TCP" } else { "UDP" };
    let head = format!(
        "{method} sip:bob@{to} SIP/2.0
        Via: SIP/2.0/{transport} {via};branch=z9hG4bK{call}{method};rport
        From: <sip:carol@example.com>;tag=from
        To: <sip:bob@example.com>{}
        Call-ID: {call}
        CSeq: {} {method}
        Contact: <sip:carol@{via}>",
        if method == "INVITE" { "" } else { ";tag=to" },
        if method == "BYE" { 2 } else { 1 },
    );
    message(&head, body)
}

/// The answer to an INVITE that came from `via`, by `contact`.
pub(crate) fn answer(status: &str, call: &str, (via, contact): (&str, &str), body: &str) -> String {
    let transport = if call.starts_with("tcp") { "TCP" } else { "UDP" };
    let head = format!(
        "SIP/2.0 {status}
        Via: SIP/2.0/{transport} {via};branch=z9hG4bK{call}INVITE;rport
        From: <sip:carol@example.com>;tag=from
        To: <sip:bob@example.com>;tag=to
        Call-ID: {call}
        CSeq: 1 INVITE
        Contact: <sip:bob@{contact}>"
    );
    message(&head, body)
}

/// A phone inside that speaks with its proxy.
pub(crate) struct Line {
    pub(crate) net: Net,
    pub(crate) phone: &'static str,
    /// The phone as its proxy sees it.
    pub(crate) seen: SocketAddrV4,
}

impl Line {
    /// A phone that has registered for `expires` seconds.
    pub(crate) fn registered(mut net: Net, phone: &'static str, expires: u32) -> Self {
        let out = net.one(INSIDE, &udp(phone, PROXY, register(phone, expires).as_bytes()));
        let (seen, text) = (out.source, String::from_utf8(out.payload).unwrap());
        assert_eq!(text, register(&seen.to_string(), expires), "Via and Contact are those the proxy sees");
        let mut line = Self { net, phone, seen };
        assert_eq!(line.hears(&registered(&seen.to_string(), expires)), registered(phone, expires));
        line
    }

    /// The phone sends, the proxy reads.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> String {
        let out = self.net.one(INSIDE, &udp(self.phone, PROXY, text.as_bytes()));
        assert_eq!((out.source, out.destination), (self.seen, at(PROXY)));
        String::from_utf8(out.payload).unwrap()
    }

    /// The proxy sends, the phone reads.
    #[track_caller]
    pub(crate) fn hears(&mut self, text: &str) -> String {
        let out = self.net.one(OUTSIDE, &udp_between(at(PROXY), self.seen, text.as_bytes()));
        assert_eq!((out.source, out.destination), (at(PROXY), at(self.phone)));
        String::from_utf8(out.payload).unwrap()
    }

    /// The phone is called; its media are at `own`, the caller's at `far`. Returns what the caller is told of the former.
    #[track_caller]
    pub(crate) fn is_called(&mut self, call: &str, own: &str, far: &str) -> SocketAddrV4 {
        let seen = self.seen.to_string();
        let heard = self.hears(&request("INVITE", call, (PROXY, &seen), &audio(far)));
        assert_eq!(heard, request("INVITE", call, (PROXY, self.phone), &audio(far)));
        let phone = self.phone;
        let told = self.says(&answer("200 OK", call, (PROXY, phone), &audio(own)));
        let announced = media_of(&told);
        assert_eq!(told, answer("200 OK", call, (PROXY, &seen), &audio(&announced.to_string())));
        assert_eq!((announced.ip(), announced.port() % 2), (self.seen.ip(), 0));
        self.hears(&request("ACK", call, (PROXY, &seen), ""));
        announced
    }

    /// The caller hangs up.
    pub(crate) fn is_left(&mut self, call: &str) {
        let seen = self.seen.to_string();
        self.hears(&request("BYE", call, (PROXY, &seen), ""));
    }

    pub(crate) fn talks(&mut self, own: &str, far: &str, announced: SocketAddrV4) {
        talk(&mut self.net, own, far, announced);
    }

    pub(crate) fn expected(&self) -> usize {
        self.net.engine.expectation_rows(self.net.now, usize::MAX).len()
    }
}

/// RTP and RTCP, twenty packets of each in each direction; all arrive, from and at the announced ports.
#[track_caller]
pub(crate) fn talk(net: &mut Net, own: &str, far: &str, announced: SocketAddrV4) {
    for above in [0, 1] {
        let next = |endpoint: SocketAddrV4| SocketAddrV4::new(*endpoint.ip(), endpoint.port() + above);
        let [own, far, announced] = [at(own), at(far), announced].map(next);
        for n in 0..20_u8 {
            let heard = net.one(OUTSIDE, &udp_between(far, announced, &[0x80, above as u8, 0, n]));
            assert_eq!((heard.source, heard.destination), (far, own));
            assert_eq!(heard.payload, [0x80, above as u8, 0, n]);
            let said = net.one(INSIDE, &udp_between(own, far, &[0x80, above as u8, 1, n]));
            assert_eq!((said.source, said.destination), (announced, far));
        }
    }
}

pub(crate) fn strict(config: &mut Config) {
    for rule in &mut config.nat.rules {
        rule.mapping = MappingBehavior::AddressAndPortDependent;
        rule.filtering = FilteringBehavior::AddressAndPortDependent;
    }
}

fn blocks(config: &mut Config) {
    let assignment = Assignment::Dynamic;
    let blocks = PortBlocks { ports: 64, per_host: 4, idle_hold: Duration::from_secs(1), assignment };
    config.nat.pools[0].blocks = Some(blocks);
}

pub(crate) type Change = fn(&mut Config);

pub(crate) const SITES: [(&str, Change); 4] = [
    ("by default", |_| {}),
    ("strict", strict),
    ("blocks of ports", blocks),
    ("an ALG core", |config| config.workers.alg_cores = vec![2]),
];

fn line(change: fn(&mut Config)) -> Line {
    Line::registered(Net::with(SIP, change), PHONE, 3_600)
}

#[test]
fn a_04_a_registered_phone_is_called_and_both_speak_until_bye() {
    for (name, change) in SITES {
        let mut line = line(change);
        assert_eq!(line.expected(), 1, "{name}: the registration");
        let announced = line.is_called("one", "10.0.0.2:4000", FAR);
        line.talks("10.0.0.2:4000", FAR, announced);
        let rows = line.net.sessions();
        assert_eq!(rows.iter().filter(|row| row.is_child).count(), 2, "{name}: RTP and RTCP {rows:?}");
        line.is_left("one");
        assert_eq!(line.expected(), 1, "{name}: the registration stays");
        // What flowed may drain; nobody begins anew.
        let elsewhere = udp_between(at("198.51.100.9:31000"), announced, b"late");
        line.net.refused(OUTSIDE, &elsewhere, DropReason::NoMapping);
    }
}

#[test]
fn a_04_a_phone_calls_out_and_both_speak() {
    for (name, change) in SITES {
        let mut line = line(change);
        let seen = line.seen.to_string();
        let asked = line.says(&request("INVITE", "out", (PHONE, "example.com"), &audio("10.0.0.2:4000")));
        let announced = media_of(&asked);
        let (own, far) = ("10.0.0.2:4000", audio(FAR));
        assert_eq!(
            asked,
            request("INVITE", "out", (&seen, "example.com"), &audio(&announced.to_string())),
            "{name}"
        );
        // Early media come from where the answer says; before it, from the proxy only.
        line.net.refused(OUTSIDE, &udp_between(at(FAR), announced, b""), DropReason::ExpectationPeer);
        line.hears(&answer("183 Session Progress", "out", (&seen, PROXY), &far));
        line.talks(own, FAR, announced);
        let heard = line.hears(&answer("200 OK", "out", (&seen, PROXY), &far));
        assert_eq!(heard, answer("200 OK", "out", (PHONE, PROXY), &far), "{name}");
        line.talks(own, FAR, announced);
        line.says(&request("BYE", "out", (PHONE, PROXY), ""));
        assert_eq!(line.expected(), 1, "{name}");
    }
}

/// Linux's helper knew one media endpoint per signalling session: a second call took the first one's ports away.
#[test]
fn a_04_a_second_call_over_one_flow_leaves_the_first_its_media() {
    for (name, change) in SITES {
        let mut line = line(change);
        let first = line.is_called("one", "10.0.0.2:4000", FAR);
        line.talks("10.0.0.2:4000", FAR, first);
        let second = line.is_called("two", "10.0.0.2:4002", "198.51.100.8:20000");
        assert_ne!(first, second, "{name}");
        line.talks("10.0.0.2:4002", "198.51.100.8:20000", second);
        line.talks("10.0.0.2:4000", FAR, first);
        line.is_left("two");
        // The first call's media begin anew, from another port: it is still open.
        line.talks("10.0.0.2:4000", "198.51.100.9:30100", first);
        line.is_left("one");
        assert_eq!(line.expected(), 1, "{name}");
    }
}

#[test]
fn a_04_a_registered_phone_is_called_after_most_of_an_hour_in_silence() {
    for (name, change) in SITES {
        let mut line = line(change);
        line.net.advance(Duration::from_secs(3_500));
        let announced = line.is_called("late", "10.0.0.2:4000", FAR);
        line.talks("10.0.0.2:4000", FAR, announced);
        line.is_left("late");
        // It does not register again: what kept the session ends, and the session with it.
        line.net.advance(Duration::from_secs(700));
        assert_eq!(
            (line.expected(), line.net.sessions().len(), line.net.workers[0].alg_flows()),
            (0, 0, 0),
            "{name}"
        );
    }
}

#[test]
fn a_09_media_keep_their_signalling_and_outlive_it() {
    let mut line = line(strict);
    line.says(&register(PHONE, 0));
    let seen = line.seen.to_string();
    line.hears(&registered(&seen, 0));
    assert_eq!(line.expected(), 0);
    let announced = line.is_called("long", "10.0.0.2:4000", FAR);
    // Twenty minutes in which only RTP flows.
    for _ in 0..40 {
        line.net.advance(Duration::from_secs(30));
        talk(&mut line.net, "10.0.0.2:4000", FAR, announced);
    }
    line.is_left("long");
    assert_eq!(line.expected(), 0);
    for _ in 0..20 {
        line.net.advance(Duration::from_secs(30));
        talk(&mut line.net, "10.0.0.2:4000", FAR, announced);
    }
}

#[test]
fn a_09_unused_media_end_with_their_call_or_its_time() {
    let mut line = line(|_| {});
    let seen = line.seen.to_string();
    line.says(&request("INVITE", "busy", (PHONE, "example.com"), &audio("10.0.0.2:4000")));
    assert_eq!(line.expected(), 3);
    line.hears(&answer("486 Busy Here", "busy", (&seen, PROXY), ""));
    assert_eq!(line.expected(), 1);
    let asked = line.says(&request("INVITE", "lost", (PHONE, "example.com"), &audio("10.0.0.2:4000")));
    line.net.advance(Duration::from_secs(182));
    assert_eq!(line.expected(), 1, "nobody has answered");
    line.net.refused(OUTSIDE, &udp_between(at(PROXY), media_of(&asked), b""), DropReason::NoMapping);
}

#[test]
fn a_04_a_server_behind_a_forward_is_called_from_outside() {
    let mut net = Net::with(SIP, |_| {});
    let (server, forward) = ("10.0.0.9:5060", "203.0.113.11:5060");
    let invite = |to: &str| request("INVITE", "in", ("198.51.100.7:5060", to), &audio(FAR));
    let heard = net.one(OUTSIDE, &udp("198.51.100.7:5060", forward, invite(forward).as_bytes()));
    assert_eq!(heard.destination, at(server));
    assert_eq!(String::from_utf8(heard.payload).unwrap(), invite(server));
    let ok =
        |contact: &str, media: &str| answer("200 OK", "in", ("198.51.100.7:5060", contact), &audio(media));
    let told = net.one(INSIDE, &udp(server, "198.51.100.7:5060", ok(server, "10.0.0.9:4000").as_bytes()));
    assert_eq!(told.source, at(forward));
    let told = String::from_utf8(told.payload).unwrap();
    let announced = media_of(&told);
    assert_eq!(told, ok(forward, &announced.to_string()));
    talk(&mut net, "10.0.0.9:4000", FAR, announced);
    net.refused(OUTSIDE, &udp_between(at(STRANGER), announced, b""), DropReason::ExpectationPeer);
}

/// Either phone was told the other's external endpoint; their media turn round in algate.
#[test]
fn a_04_two_phones_inside_speak_through_a_proxy_outside() {
    for (name, change) in SITES {
        let mut first = Line::registered(Net::with(SIP, change), PHONE, 3_600);
        let first_seen = first.seen.to_string();
        let invite = request("INVITE", "both", (PHONE, "example.com"), &audio("10.0.0.2:4000"));
        let asked = media_of(&first.says(&invite));
        let mut second = Line::registered(first.net, "10.0.0.3:5060", 3_600);
        let told = second.is_called("both", "10.0.0.3:4000", &asked.to_string());
        first = Line { net: second.net, ..first };
        first.hears(&answer("200 OK", "both", (&first_seen, PROXY), &audio(&told.to_string())));
        let net = &mut first.net;
        let (a, b) = (at("10.0.0.2:4000"), at("10.0.0.3:4000"));
        for n in 0..20_u8 {
            let there = net.one(INSIDE, &udp_between(a, told, &[0x80, n]));
            assert_eq!((there.nic_port, there.source, there.destination), (INSIDE, asked, b), "{name}");
            let back = net.one(INSIDE, &udp_between(b, asked, &[0x81, n]));
            assert_eq!((back.nic_port, back.source, back.destination), (INSIDE, told, a), "{name}");
        }
        net.refused(OUTSIDE, &udp_between(at(STRANGER), told, b"voice"), DropReason::ExpectationPeer);
    }
}

#[test]
fn a_05_rport_and_received_are_those_each_end_knows() {
    let mut line = line(|_| {});
    let seen = line.seen.to_string();
    let options = |host: &str| {
        message(
            &format!(
                "OPTIONS sip:example.com SIP/2.0
                Via: SIP/2.0/UDP {host};branch=z9hG4bKo;rport
                From: <sip:bob@example.com>;tag=o
                To: <sip:example.com>
                Call-ID: o
                CSeq: 1 OPTIONS"
            ),
            "",
        )
    };
    assert_eq!(line.says(&options(PHONE)), options(&seen));
    let ok = |host: &str| {
        let host_at = at(host);
        message(
            &format!(
                "SIP/2.0 200 OK
                Via: SIP/2.0/UDP {host};branch=z9hG4bKo;rport={};received={}
                From: <sip:bob@example.com>;tag=o
                To: <sip:example.com>;tag=p
                Call-ID: o
                CSeq: 1 OPTIONS",
                host_at.port(),
                host_at.ip()
            ),
            "",
        )
    };
    assert_eq!(line.hears(&ok(&seen)), ok(PHONE), "one Via, and what it says");
}

#[test]
fn a_06_only_live_media_of_the_phone_itself_are_opened() {
    let mut line = line(|_| {});
    let offer = "v=0\no=- 1 1 IN IP4 10.0.0.2\ns=-\nc=IN IP4 10.0.0.2\nt=0 0\nm=audio 4000 RTP/AVP 0\n\
        a=rtcp:4444\nm=video 0 RTP/AVP 31\nm=video 5000 RTP/AVP 31\nc=IN IP4 10.0.0.7\nm=text 6000 RTP/AVP 98\nc=IN IP6 2001:db8::1";
    let asked = line.says(&request("INVITE", "sdp", (PHONE, "example.com"), offer));
    let announced = media_of(&asked);
    let rtcp: u16 = asked.split("a=rtcp:").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert_ne!(rtcp, 4444);
    let want = offer
        .replace("IP4 10.0.0.2", &format!("IP4 {}", announced.ip()))
        .replace("audio 4000", &format!("audio {}", announced.port()))
        .replace("rtcp:4444", &format!("rtcp:{rtcp}"));
    let seen = line.seen.to_string();
    assert_eq!(asked, request("INVITE", "sdp", (&seen, "example.com"), &want), "its length, too");
    let targets: Vec<_> =
        line.net.engine.expectation_rows(line.net.now, 9).iter().map(|row| row.target).collect();
    assert_eq!(targets.len(), 3, "{targets:?}");
    for open in [PHONE, "10.0.0.2:4000", "10.0.0.2:4444"] {
        assert!(targets.contains(&at(open)), "{targets:?}");
    }
}

#[test]
fn a_08_an_offer_with_candidates_passes_as_it_is() {
    let mut line = line(|_| {});
    let offer = format!("{}\na=candidate:1 1 UDP 2130706431 10.0.0.2 4000 typ host", audio("10.0.0.2:4000"));
    let asked = line.says(&request("INVITE", "ice", (PHONE, "example.com"), &offer));
    let seen = line.seen.to_string();
    assert_eq!(asked, request("INVITE", "ice", (&seen, "example.com"), &offer));
    assert_eq!(line.expected(), 1);
}

#[test]
fn s_06_media_are_for_who_was_named_and_nobody_else() {
    for (name, change) in SITES {
        let mut line = line(change);
        let announced = line.is_called("one", "10.0.0.2:4000", FAR);
        for above in [0, 1] {
            let to = SocketAddrV4::new(*announced.ip(), announced.port() + above);
            line.net.refused(OUTSIDE, &udp_between(at(STRANGER), to, b"voice"), DropReason::ExpectationPeer);
        }
        line.talks("10.0.0.2:4000", FAR, announced);
        // Once more, now that the mapping is in use.
        line.net.refused(
            OUTSIDE,
            &udp_between(at(STRANGER), announced, b"voice"),
            DropReason::ExpectationPeer,
        );
        assert_eq!(line.expected(), 3, "{name}");
    }
}

#[test]
fn s_06_a_description_opens_nothing_for_others_and_no_low_port() {
    let mut line = line(|_| {});
    let seen = line.seen.to_string();
    for (call, media) in [
        ("another", "10.0.0.3:4000"),
        ("world", "198.51.100.9:4000"),
        ("loopback", "127.0.0.1:4000"),
        ("low", "10.0.0.2:22"),
        ("desktop", "10.0.0.2:3389"),
    ] {
        let asked = line.says(&request("INVITE", call, (PHONE, "example.com"), &audio(media)));
        assert!(asked.contains(&audio(media).replace('\n', "\r\n")), "{call}: {asked}");
        assert_eq!(line.expected(), 1, "{call}");
        line.hears(&answer("486 Busy Here", call, (&seen, PROXY), ""));
    }
}

#[test]
fn s_05_a_storm_of_calls_leaves_room_for_others_and_nothing_behind() {
    let mut line = Line::registered(Net::with(SIP, |config| config.tables.expectations = 256), PHONE, 3_600);
    for n in 0..2_000 {
        let l4_port = 10_000 + 2 * (n % 400);
        let offer = audio(&format!("10.0.0.2:{l4_port}"));
        line.says(&request("INVITE", &format!("storm{n}"), (PHONE, "example.com"), &offer));
        assert!(line.expected() <= 64, "{n}");
    }
    // Another phone, and the first one.
    let (phone, seen) = (line.phone, line.seen);
    let mut other = Line::registered(line.net, "10.0.0.3:5060", 3_600);
    let announced = other.is_called("fine", "10.0.0.3:4000", FAR);
    other.talks("10.0.0.3:4000", FAR, announced);
    let mut line = Line { net: other.net, phone, seen };
    line.net.advance(Duration::from_secs(200));
    let announced = line.is_called("after", "10.0.0.2:4000", FAR);
    line.talks("10.0.0.2:4000", FAR, announced);
}

#[test]
fn s_05_registering_again_and_again_holds_one_expectation() {
    let mut line = line(|_| {});
    let seen = line.seen.to_string();
    for _ in 0..1_440 {
        line.says(&register(PHONE, 120));
        line.hears(&registered(&seen, 120));
        line.net.now = line.net.now.plus(Duration::from_secs(60));
        line.net.advance(Duration::from_millis(600));
    }
    assert_eq!((line.expected(), line.net.sessions().len(), line.net.mappings().len()), (1, 1, 2));
}

/// A phone inside with a connection to its proxy.
fn connected() -> (Lab, Talk, String) {
    let mut lab = Lab::new(Net::with(SIP, |_| {}), [10, 0, 0, 2], Faults::default(), 3);
    let talk = Talk::open(&mut lab, (0, 49_152), at("203.0.113.50:5060"), (1, 5060));
    let seen = talk.client_seen.to_string();
    (lab, talk, seen)
}

pub(crate) const STREAM_PHONE: &str = "10.0.0.2:49152";

#[test]
fn a_04_a_phone_calls_out_over_tcp() {
    let (mut lab, phone, seen) = connected();
    let own = audio("10.0.0.2:4000");
    let asked =
        phone.say(&mut lab, CLIENT, request("INVITE", "tcp", (STREAM_PHONE, "example.com"), &own).as_bytes());
    let asked = String::from_utf8(asked).unwrap();
    let announced = media_of(&asked);
    assert_eq!(asked, request("INVITE", "tcp", (&seen, "example.com"), &audio(&announced.to_string())));
    let far = "203.0.113.50:30000";
    let ok = |via: &str| answer("200 OK", "tcp", (via, "203.0.113.50:5060"), &audio(far));
    let heard = phone.say(&mut lab, SERVER, ok(&seen).as_bytes());
    assert_eq!(String::from_utf8(heard).unwrap(), ok(STREAM_PHONE));
    talk(&mut lab.net, "10.0.0.2:4000", far, announced);
    phone.close(&mut lab);
    lab.net.advance(Duration::from_secs(1));
    assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9).len(), 0, "they end with the connection");
    talk(&mut lab.net, "10.0.0.2:4000", far, announced);
}

#[test]
fn a_05_messages_over_tcp_are_read_however_they_are_cut() {
    let (mut lab, phone, seen) = connected();
    let own = audio("10.0.0.2:4000");
    let invite = request("INVITE", "tcp", (STREAM_PHONE, "example.com"), &own);
    let mut want = None;
    for cut in 1..invite.len() {
        let pieces = [&invite.as_bytes()[..cut], &invite.as_bytes()[cut..]];
        let asked = String::from_utf8(phone.say_in_pieces(&mut lab, CLIENT, &pieces)).unwrap();
        let want = want.get_or_insert_with(|| {
            request("INVITE", "tcp", (&seen, "example.com"), &audio(&media_of(&asked).to_string()))
        });
        assert_eq!(&asked, want, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = invite.as_bytes().chunks(1).collect();
    let asked = phone.say_in_pieces(&mut lab, CLIENT, &bytes);
    assert_eq!(String::from_utf8(asked).ok(), want, "byte by byte");
}

#[test]
fn s_04_lengths_that_overflow_end_the_reading() {
    for length in ["4294967328", "18446744073709551648", "-1", "99999", "0x20", "32\r\nContent-Length: 33"] {
        let (mut lab, phone, _) = connected();
        let smuggled = request("INVITE", "tcp", (STREAM_PHONE, "example.com"), &audio("10.0.0.2:4000"));
        let options =
            message("OPTIONS sip:example.com SIP/2.0\nVia: SIP/2.0/TCP a.example.com\nCall-ID: o", "");
        let text = options.replace("Content-Length: 0", &format!("Content-Length: {length}")) + &smuggled;
        let arrived = phone.say(&mut lab, CLIENT, text.as_bytes());
        assert_eq!(String::from_utf8(arrived).unwrap(), text, "{length}: byte for byte");
        assert_eq!(lab.net.engine.expectation_rows(lab.net.now, 9).len(), 0, "{length}");
    }
}
