//! RTSP through the NAT: GStreamer's client, ffmpeg and aiortsp at GStreamer's server, media over UDP and inside the control
//! session. Only GStreamer's client sends nothing to the media's ports; the others would open a way for themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use lab::capture::{Capture, assert_nothing_internal, tcp_payload, udp_payload};
use lab::hardship::{Cables, Hardship};
use lab::{FORWARDED, Lab, SERVER, Side, is_full, phone};

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Player {
    GStreamer,
    Ffmpeg,
    Aiortsp,
}

/// A lab with the RTSP server on one side, filtering as narrowly as it can.
struct Cinema {
    lab: Lab,
    cables: Cables,
    server: Child,
}

impl Cinema {
    fn open(side: Side, tables: &str, hardship: Hardship) -> Option<Self> {
        let mut lab = Lab::up()?;
        // GStreamer waits in vain for the rest of a message whose line ends are cut, whatever is between.
        let cables = hardship.inflict(&lab, 554, "all-but-crlf");
        let rule = "pool = \"pool\"\n";
        let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
        let config = lab.config(hardship.settings()).replace(rule, &narrow) + tables;
        let server = lab
            .command(side, "/usr/bin/python3")
            .arg(program("rtsp_server.py"))
            .arg("554")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        lab.start_from(&config);
        lab.wait_for_listener(side, 554);
        Some(Self { lab, cables, server })
    }

    /// Plays the tone and returns how many bytes of it arrived.
    fn play(&self, player: Player, side: Side, host: &str, is_udp: bool) -> u64 {
        let file = self.lab.state.join("tone");
        let _ = fs::remove_file(&file);
        let url = format!("rtsp://{host}/tone");
        let transport = if is_udp { "udp" } else { "tcp" };
        // Each ends with the server's goodbye, or when it has waited in vain.
        let mut command = match player {
            Player::GStreamer => {
                let mut command = self.lab.timed(side, PLAY_SECONDS, "gst-launch-1.0");
                command
                    .args(["-q", "rtspsrc", &format!("location={url}"), &format!("protocols={transport}")])
                    .args(["nat-method=none", "timeout=10000000", "latency=50", "!", "rtppcmudepay", "!"])
                    .args(["filesink", &format!("location={}", file.display())]);
                command
            }
            Player::Ffmpeg => {
                let mut command = self.lab.timed(side, PLAY_SECONDS, "ffmpeg");
                command.args([
                    "-loglevel",
                    "error",
                    "-rtsp_transport",
                    transport,
                    "-timeout",
                    "20000000",
                    "-i",
                ]);
                command.args([&url, "-codec", "copy", "-f", "mulaw"]).arg(&file);
                command
            }
            Player::Aiortsp => {
                let scheme = if is_udp { "rtsp" } else { "rtspt" };
                let mut command = self.lab.timed(side, PLAY_SECONDS, phone::interpreter().to_str().unwrap());
                command
                    .arg(program("rtsp_client.py"))
                    .arg(format!("{scheme}://{host}/tone"))
                    .arg(&file)
                    .arg("8000");
                command
            }
        };
        let output = command.stdin(Stdio::null()).output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        eprintln!("{player:?} by {transport}: {}{messages}", output.status);
        file.metadata().map_or(0, |file| file.len())
    }

    /// Each player plays over UDP and interleaved; all arrives, and the cable outside shows nothing internal.
    fn play_both_ways(&self, players: &[Player], side: Side, host: &str, hardship: Hardship) {
        for (player, is_udp) in players.iter().flat_map(|player| [(*player, true), (*player, false)]) {
            let cables = [Side::In, Side::Ex].map(|side| Capture::start(&self.lab, side));
            let bytes = self.play(player, side, host, is_udp);
            let cables = cables.map(Capture::frames);
            let datagrams = cables.each_ref().map(|frames| media_datagrams(frames));
            let least = match (hardship, player) {
                (Hardship::Lossy, _) if is_udp => 6_000,
                // It reads the goodbye before the last packets.
                (_, Player::Ffmpeg) => 7_500,
                _ => 8_000,
            };
            // ffmpeg takes one that comes twice for another.
            let most = if hardship == Hardship::Lossy { 9_600 } else { 8_000 };
            let dialogue = || dialogue(&cables[1]);
            assert!(
                (least..=most).contains(&bytes),
                "{player:?}, udp {is_udp}: {bytes} bytes; {}",
                dialogue()
            );
            // The server itself sends one less now and then.
            if hardship != Hardship::Lossy {
                assert_eq!(datagrams[0], datagrams[1], "{player:?}: {}", dialogue());
            }
            let expected = if is_udp { 35..=55 } else { 0..=0 };
            assert!(expected.contains(&datagrams[0]), "{player:?}: {datagrams:?}");
            assert_nothing_internal(&cables[1]);
        }
    }

    fn close(mut self) {
        self.cables.assert_were_hard();
        self.lab.stop();
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name)
}

/// How many datagrams of media a capture shows.
fn media_datagrams(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter_map(|frame| udp_payload(frame)).filter(|payload| payload.len() == 172).count()
}

/// Everything that passed on TCP, as text.
fn dialogue(frames: &[Vec<u8>]) -> String {
    let bytes: Vec<u8> = frames.iter().filter_map(|frame| tcp_payload(frame)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The players here: aiortsp only where it is installed.
fn players() -> Vec<Player> {
    let mut players = vec![Player::GStreamer, Player::Ffmpeg];
    match phone::obstacle() {
        None => players.push(Player::Aiortsp),
        Some(_) => eprintln!("aiortsp is not installed (scripts/setup lab)"),
    }
    players
}

fn forward() -> String {
    let forward =
        format!("protocol = \"tcp\"\nexternal = \"{FORWARDED}:554\"\ninternal = \"10.0.0.2:554\"\n");
    format!("{SERVED}[[nat.forward]]\n{forward}")
}

#[test]
fn clients_inside_play_over_udp_and_interleaved() {
    let Some(cinema) = Cinema::open(Side::Ex, SERVED, Hardship::None) else { return };
    cinema.play_both_ways(&players(), Side::In, SERVER, Hardship::None);
    cinema.close();
}

#[test]
fn a_client_inside_plays_two_streams_at_once() {
    let Some(cinema) = Cinema::open(Side::Ex, SERVED, Hardship::None) else { return };
    let capture = Capture::start(&cinema.lab, Side::Ex);
    let location = format!("location=rtsp://{SERVER}/chord");
    let files = ["low", "high"].map(|name| cinema.lab.state.join(name));
    let sinks = files.each_ref().map(|file| format!("location={}", file.display()));
    let client = cinema.lab.run(
        Side::In,
        "gst-launch-1.0",
        &[
            &[
                "-q",
                "rtspsrc",
                "name=source",
                &location,
                "protocols=udp",
                "nat-method=none",
                "timeout=10000000",
            ][..],
            &["source.", "!", "rtppcmudepay", "!", "filesink", &sinks[0]],
            &["source.", "!", "rtppcmudepay", "!", "filesink", &sinks[1]],
        ]
        .concat(),
    );
    let frames = capture.frames();
    for file in files {
        let bytes = file.metadata().map_or(0, |file| file.len());
        assert_eq!(bytes, 8_000, "{}: {client:?}\n{}", file.display(), dialogue(&frames));
    }
    assert_nothing_internal(&frames);
    cinema.close();
}

#[test]
fn without_the_alg_no_media_come() {
    let Some(cinema) = Cinema::open(Side::Ex, "", Hardship::None) else { return };
    assert_eq!(cinema.play(Player::GStreamer, Side::In, SERVER, true), 0);
    cinema.close();
}

#[test]
fn a_server_inside_plays_over_udp_and_interleaved() {
    let Some(cinema) = Cinema::open(Side::In, &forward(), Hardship::None) else { return };
    cinema.play_both_ways(&players(), Side::Ex, FORWARDED, Hardship::None);
    cinema.close();
}

#[test]
fn players_bear_hardships() {
    for hardship in [Hardship::OwnCore, Hardship::Cut, Hardship::Lossy].into_iter().filter(|one| one.shown())
    {
        let Some(cinema) = Cinema::open(Side::Ex, SERVED, hardship) else { return };
        let mut players = if is_full() { players() } else { vec![Player::GStreamer] };
        // aiortsp knows no message that comes in pieces so small, and waits for all of the tone.
        players.retain(|player| hardship == Hardship::OwnCore || *player != Player::Aiortsp);
        cinema.play_both_ways(&players, Side::In, SERVER, hardship);
        cinema.close();
        if is_full() {
            let Some(cinema) = Cinema::open(Side::In, &forward(), hardship) else { return };
            cinema.play_both_ways(&players, Side::Ex, FORWARDED, hardship);
            cinema.close();
        }
    }
}

/// How long a second of a tone may take where others have the processor, byte by byte.
const PLAY_SECONDS: u32 = 40;
const SERVED: &str = "\n[alg.rtsp]\nenabled = true\n";
