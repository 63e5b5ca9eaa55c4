//! TCP as RFC 5382 and RFC 7857 want it.

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_engine::drop_reason::DropReason;

use crate::common::packets::{ACK, FIN, RST, SYN, Seen, at, tcp, tcp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

const CLIENT: &str = "10.0.0.2:4000";
const SERVER: &str = "198.51.100.1:80";

/// A client inside, a server outside, and the client's external endpoint once it is known.
struct Dialogue {
    net: Net,
    external: SocketAddrV4,
}

impl Dialogue {
    /// The client's SYN has passed.
    fn begun() -> Self {
        let mut net = Net::new();
        let external = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN)).source;
        Self { net, external }
    }

    /// The handshake is complete.
    fn established() -> Self {
        let mut dialogue = Self::begun();
        dialogue.server(SYN | ACK);
        dialogue.client(ACK);
        dialogue
    }

    #[track_caller]
    fn client(&mut self, flags: u8) -> Seen {
        let out = self.net.one(INSIDE, &tcp(CLIENT, SERVER, flags));
        assert_eq!((out.source, out.destination, out.tcp_flags), (self.external, at(SERVER), flags));
        out
    }

    #[track_caller]
    fn server(&mut self, flags: u8) -> Seen {
        let seen = self.net.one(OUTSIDE, &tcp_between(at(SERVER), self.external, flags, b""));
        assert_eq!((seen.source, seen.destination, seen.tcp_flags), (at(SERVER), at(CLIENT), flags));
        seen
    }

    #[track_caller]
    fn is_in(&self, state: &str) {
        let sessions = self.net.sessions();
        assert_eq!(sessions.iter().map(|row| row.state).collect::<Vec<_>>(), [state]);
    }

    /// The session lives through `seconds` of silence, and not a second longer.
    #[track_caller]
    fn lives_for(&mut self, seconds: u64) {
        self.net.advance(Duration::from_secs(seconds));
        assert_eq!(self.net.sessions().len(), 1, "died before {seconds} s");
        self.net.advance(Duration::from_secs(1));
        assert_eq!(self.net.sessions().len(), 0, "lives after {seconds} s");
    }
}

#[test]
fn t_01_one_external_endpoint_for_all_remotes() {
    let mut net = Net::new();
    let first = net.one(INSIDE, &tcp(CLIENT, "198.51.100.1:80", SYN)).source;
    for remote in ["198.51.100.1:81", "198.51.100.2:80", "203.0.113.50:443"] {
        assert_eq!(net.one(INSIDE, &tcp(CLIENT, remote, SYN)).source, first);
    }
    assert_eq!(net.mappings().len(), 1);
}

#[test]
fn t_02_a_handshake_and_a_close_walk_through_the_states() {
    let mut dialogue = Dialogue::begun();
    dialogue.is_in("init");
    dialogue.client(SYN);
    dialogue.is_in("init");
    dialogue.server(SYN | ACK);
    dialogue.is_in("established");
    dialogue.server(SYN | ACK);
    dialogue.client(ACK);
    dialogue.is_in("established");
    dialogue.client(FIN | ACK);
    dialogue.is_in("fin_original");
    dialogue.server(ACK);
    dialogue.server(ACK);
    dialogue.is_in("fin_original");
    dialogue.server(FIN | ACK);
    dialogue.is_in("fin_both");
    dialogue.client(ACK);
    dialogue.lives_for(240);
}

#[test]
fn t_02_a_simultaneous_open_passes() {
    let mut dialogue = Dialogue::begun();
    dialogue.server(SYN);
    dialogue.is_in("established");
    dialogue.client(SYN | ACK);
    dialogue.server(SYN | ACK);
    dialogue.client(ACK);
    dialogue.is_in("established");
}

#[test]
fn t_02_a_half_closed_connection_lives_as_long_as_an_open_one() {
    let mut dialogue = Dialogue::established();
    dialogue.server(FIN | ACK);
    dialogue.is_in("fin_reply");
    dialogue.client(ACK);
    dialogue.lives_for(7440);
}

#[test]
fn t_02_a_connection_is_opened_anew_out_of_time_wait() {
    let mut dialogue = Dialogue::established();
    dialogue.client(FIN | ACK);
    dialogue.server(FIN | ACK);
    dialogue.client(ACK);
    dialogue.client(SYN);
    dialogue.is_in("init");
    dialogue.server(SYN | ACK);
    dialogue.is_in("established");
    dialogue.lives_for(7440);
}

#[test]
fn t_03_a_stranger_opens_a_connection_to_a_mapped_endpoint() {
    let mut dialogue = Dialogue::established();
    let stranger = at("198.51.100.9:1234");
    let seen = dialogue.net.one(OUTSIDE, &tcp_between(stranger, dialogue.external, SYN, b""));
    assert_eq!(seen.destination, at(CLIENT));
    let back = dialogue.net.one(INSIDE, &tcp(CLIENT, "198.51.100.9:1234", SYN | ACK));
    assert_eq!((back.source, back.destination), (dialogue.external, stranger));
}

#[test]
fn t_04_an_unsolicited_syn_is_silently_refused() {
    let mut net = Net::new();
    net.refused(OUTSIDE, &tcp(SERVER, "203.0.113.10:4000", SYN), DropReason::NoMapping);
}

#[test]
fn t_05_an_established_session_lives_two_hours_and_four_minutes() {
    Dialogue::established().lives_for(7440);
}

#[test]
fn t_11c_a_half_open_session_lives_four_minutes() {
    Dialogue::begun().lives_for(240);
}

#[test]
fn t_10_a_reset_makes_a_session_transitory_and_data_brings_it_back() {
    let mut dialogue = Dialogue::established();
    dialogue.server(RST);
    dialogue.is_in("transitory");
    dialogue.net.advance(Duration::from_secs(10));
    dialogue.client(ACK);
    dialogue.is_in("established");
    dialogue.net.advance(Duration::from_secs(600));
    dialogue.client(RST);
    dialogue.is_in("transitory");
    dialogue.lives_for(240);
}

#[test]
fn t_10_every_packet_of_a_connection_keeps_it() {
    let mut dialogue = Dialogue::established();
    for _ in 0..3 {
        dialogue.net.advance(Duration::from_secs(7_000));
        dialogue.server(ACK);
    }
    dialogue.lives_for(7440);
}

#[test]
fn segments_without_syn_open_nothing() {
    let mut net = Net::new();
    for flags in [0, ACK, FIN, FIN | ACK, RST, RST | ACK, SYN | ACK, SYN | RST] {
        net.refused(INSIDE, &tcp(CLIENT, SERVER, flags), DropReason::TcpNoSession);
    }
}

/// The frame with another sequence number; its checksum is wrong then, which only the receiver minds.
fn with_seq(mut frame: Vec<u8>, seq: u32) -> Vec<u8> {
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame
}

#[test]
fn t_11_s_09_forged_resets_neither_pass_nor_change_the_state() {
    let mut dialogue = Dialogue::established();
    let reset = tcp_between(at(SERVER), dialogue.external, RST, b"");
    let window = 8_192;
    for seq in [1_001 + window + 1, 1_000, 0, 1_001 + (1 << 31), u32::MAX] {
        let forged = with_seq(reset.clone(), seq);
        dialogue.net.refused(OUTSIDE, &forged, DropReason::TcpRstOutOfWindow);
        dialogue.is_in("established");
    }
    // Nor do they keep it alive.
    dialogue.net.advance(Duration::from_secs(7_000));
    dialogue.net.refused(OUTSIDE, &with_seq(reset.clone(), 0), DropReason::TcpRstOutOfWindow);
    dialogue.lives_for(440);
}

#[test]
fn s_09_a_sweep_of_sequence_numbers_loses_no_session() {
    let mut dialogue = Dialogue::established();
    dialogue.net.verifies = false;
    let reset = tcp_between(at(SERVER), dialogue.external, RST, b"");
    let passed = (1..=640_u32)
        .filter(|step| {
            let forged = with_seq(reset.clone(), 100_000 + step * 6_000_000);
            !dialogue.net.send(OUTSIDE, &forged).is_empty()
        })
        .count();
    assert_eq!(passed, 0);
    dialogue.is_in("established");
}

#[test]
fn t_11b_a_refused_connection_fails_at_once_and_a_forged_refusal_does_not() {
    let mut dialogue = Dialogue::begun();
    let refusal = with_seq(tcp_between(at(SERVER), dialogue.external, RST | ACK, b""), 0);
    for ack in [1_000_u32, 1_002, 0, 2_000_000] {
        let mut forged = refusal.clone();
        forged[42..46].copy_from_slice(&ack.to_be_bytes());
        dialogue.net.refused(OUTSIDE, &forged, DropReason::TcpRstOutOfWindow);
    }
    let bare = with_seq(tcp_between(at(SERVER), dialogue.external, RST, b""), 0);
    dialogue.net.refused(OUTSIDE, &bare, DropReason::TcpRstOutOfWindow);
    dialogue.is_in("init");
    dialogue.net.verifies = false;
    let seen = dialogue.net.one(OUTSIDE, &refusal);
    assert_eq!((seen.destination, seen.tcp_flags), (at(CLIENT), RST | ACK));
    dialogue.is_in("transitory");
}

#[test]
fn s_09_a_forged_answer_or_end_does_not_change_the_state() {
    let mut dialogue = Dialogue::begun();
    dialogue.net.verifies = false;
    let mut answer = tcp_between(at(SERVER), dialogue.external, SYN | ACK, b"");
    answer[42..46].copy_from_slice(&7_u32.to_be_bytes());
    dialogue.net.send(OUTSIDE, &answer);
    dialogue.is_in("init");
    dialogue.server(SYN | ACK);
    dialogue.client(ACK);
    let end = with_seq(tcp_between(at(SERVER), dialogue.external, FIN | ACK, b""), 0x7000_0000);
    dialogue.net.send(OUTSIDE, &end);
    dialogue.is_in("established");
}

fn syn_with_options(options: &[u8]) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(4_000, 80, 1_000, 8_192);
    header.syn = true;
    header.set_options_raw(options).unwrap();
    let (client, server) = (at(CLIENT), at(SERVER));
    let builder = etherparse::PacketBuilder::ethernet2(
        crate::common::packets::mac_of(client.ip().octets()),
        crate::common::ROUTER_MACS[0],
    );
    let builder = builder.ipv4(client.ip().octets(), server.ip().octets(), 64).tcp_header(header);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"").unwrap();
    frame
}

#[test]
fn a_syn_announces_no_more_than_both_links_carry() {
    for (name, options, seen) in [
        ("lowered", vec![2, 4, 0x05, 0xb4], vec![2, 4, 0x04, 0xd8]),
        ("small already", vec![2, 4, 0x04, 0xd8], vec![2, 4, 0x04, 0xd8]),
        ("at an odd place", vec![1, 2, 4, 0x05, 0xb4, 1, 1, 1], vec![1, 2, 4, 0x04, 0xd8, 1, 1, 1]),
        ("behind others", vec![3, 3, 7, 1, 2, 4, 0x23, 0x28], vec![3, 3, 7, 1, 2, 4, 0x04, 0xd8]),
        ("none", vec![3, 3, 7, 1], vec![3, 3, 7, 1]),
        ("of impossible length", vec![2, 0, 0x05, 0xb4], vec![2, 0, 0x05, 0xb4]),
        ("cut off", vec![1, 1, 2, 4], vec![1, 1, 2, 4]),
        (
            "signed",
            [vec![2, 4, 0x05, 0xb4, 19, 18], vec![9; 16], vec![1, 1]].concat(),
            [vec![2, 4, 0x05, 0xb4, 19, 18], vec![9; 16], vec![1, 1]].concat(),
        ),
    ] {
        let mut net = Net::with("", |config| config.interfaces[1].mtu = 1280);
        let out = net.one(INSIDE, &syn_with_options(&options));
        assert_eq!(out.packet[40..], seen, "{name}");
    }
    let mut net = Net::with("[tcp]\nmss_clamp = false\n", |config| config.interfaces[1].mtu = 1280);
    let out = net.one(INSIDE, &syn_with_options(&[2, 4, 0x05, 0xb4]));
    assert_eq!(out.packet[40..], [2, 4, 0x05, 0xb4]);
}

#[test]
fn s_14_half_open_sessions_have_a_budget_of_their_own() {
    let mut net = Net::with("", |config| config.tables.half_open = 8);
    let server = at(SERVER);
    let open = |net: &mut Net, port: u16| {
        let client = SocketAddrV4::new(*at(CLIENT).ip(), port);
        let external = net.one(INSIDE, &tcp_between(client, server, SYN, b"")).source;
        net.one(OUTSIDE, &tcp_between(server, external, SYN | ACK, b""));
        net.one(INSIDE, &tcp_between(client, server, ACK, b""));
        (client, external)
    };
    let established: Vec<_> = (0..20).map(|port| open(&mut net, 4_000 + port)).collect();
    let flood = |net: &mut Net, port: u16| {
        net.send(INSIDE, &tcp_between(SocketAddrV4::new(*at("10.0.0.3:0").ip(), port), server, SYN, b""));
    };
    (0..100).for_each(|port| flood(&mut net, 1_000 + port));
    assert_eq!((net.sessions().len(), net.dropped(DropReason::HalfOpenFull)), (28, 92));
    for (client, external) in established {
        assert_eq!(net.one(OUTSIDE, &tcp_between(server, external, ACK, b"x")).destination, client);
    }
    // UDP is not concerned, and what was refused may come when the flood is over.
    net.one(INSIDE, &crate::common::packets::udp("10.0.0.2:1", "198.51.100.1:1", b""));
    net.advance(Duration::from_secs(242));
    assert_eq!(net.engine.nat.sessions.half_open(), 0);
    open(&mut net, 5_000);
}

#[test]
fn s_14_under_pressure_new_half_open_sessions_may_live_shorter() {
    let toml = "[tcp]\npressed_half_open = \"10s\"\n";
    let mut net = Net::with(toml, |config| config.tables.half_open = 8);
    for port in 0..8 {
        net.one(
            INSIDE,
            &tcp_between(SocketAddrV4::new(*at(CLIENT).ip(), 4_000 + port), at(SERVER), SYN, b""),
        );
    }
    net.advance(Duration::from_secs(12));
    assert_eq!(net.sessions().len(), 6, "those begun below three quarters live on");
    net.advance(Duration::from_secs(230));
    assert_eq!(net.sessions().len(), 0);
}

#[test]
fn s_14_a_session_that_opens_anew_counts_as_half_open_again() {
    let mut dialogue = Dialogue::established();
    assert_eq!(dialogue.net.engine.nat.sessions.half_open(), 0);
    dialogue.client(RST);
    dialogue.client(SYN);
    dialogue.is_in("init");
    assert_eq!(dialogue.net.engine.nat.sessions.half_open(), 1);
}

#[test]
fn t_04_an_unsolicited_syn_is_answered_after_six_seconds_of_silence() {
    let mut net = Net::with("[tcp]\nunsolicited_syn = \"unreachable\"\n", |_| {});
    let syn = tcp(SERVER, "203.0.113.10:4000", SYN);
    net.refused(OUTSIDE, &syn, DropReason::NoMapping);
    assert_eq!(net.advance(Duration::from_millis(5_900)), []);
    let answers = net.advance(Duration::from_millis(200));
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].icmp, answers[0].nic_port), (Some((3, 3)), OUTSIDE));
    assert_eq!(answers[0].payload[..28], syn[14..42]);
    assert_eq!(net.advance(Duration::from_secs(20)), []);
    // A flood is kept as far as there is room, and answered as fast as ICMP may be sent.
    for port in 1..2_000 {
        net.send(
            OUTSIDE,
            &tcp_between(SocketAddrV4::new(*at(SERVER).ip(), port), at("203.0.113.10:4000"), SYN, b""),
        );
    }
    assert!((1..=512).contains(&net.advance(Duration::from_secs(20)).len()));
}

#[test]
fn t_04_a_syn_from_inside_within_six_seconds_opens_and_nothing_else_is_said() {
    let mut net = Net::with("[tcp]\nunsolicited_syn = \"unreachable\"\n", |config| {
        config.nat.pools[0].l4_ports = (4_000, 4_000);
        config.nat.pools[0].ranges[0].1 = config.nat.pools[0].ranges[0].0;
    });
    net.refused(OUTSIDE, &tcp(SERVER, "203.0.113.10:4000", SYN), DropReason::NoMapping);
    assert_eq!(net.advance(Duration::from_secs(5)), []);
    let out = net.one(INSIDE, &tcp(CLIENT, SERVER, SYN));
    assert_eq!(out.source, at("203.0.113.10:4000"));
    let repeated = net.one(OUTSIDE, &tcp(SERVER, "203.0.113.10:4000", SYN));
    assert_eq!(repeated.destination, at(CLIENT));
    assert_eq!(net.advance(Duration::from_secs(10)), []);
}
