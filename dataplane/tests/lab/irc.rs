//! Real IRC clients: weechat without a screen, and irssi on a screen that nobody looks at.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::capture::{assert_nothing_internal, tcp_payload};
use super::{Lab, PATIENCE, SERVER, Side, assert_same, wait_until};

/// A client, welcomed by the server.
pub struct Client {
    name: &'static str,
    kind: Kind,
    home: PathBuf,
    process: Child,
}

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// weechat-headless, told what to do through its pipe.
    Weechat,
    /// irssi, whose terminal is socat's.
    Irssi,
}

impl Client {
    /// Starts a client that calls itself `name`, and says that it is at `address`.
    pub fn start(lab: &Lab, side: Side, kind: Kind, (name, address): (&'static str, &str)) -> Self {
        let home = lab.state.join(name);
        fs::create_dir_all(home.join("received")).expect("the state directory is writable");
        let process = match kind {
            Kind::Weechat => weechat(lab, side, &home, (name, address)),
            Kind::Irssi => irssi(lab, side, &home, (name, address)),
        };
        let client = Self { name, kind, home, process };
        // The end of the message of the day, however the server puts it.
        client.expect("End of ");
        client
    }

    /// Offers a file to another.
    pub fn send(&mut self, other: &Self, file: &Path) {
        self.obey(&format!("dcc send {} {}", other.name, file.display()));
    }

    /// Offers a file to another who shall listen for it.
    pub fn send_passively(&mut self, other: &Self, file: &Path) {
        assert_eq!(self.kind, Kind::Irssi, "weechat has no passive DCC");
        self.obey(&format!("dcc send -passive {} {}", other.name, file.display()));
    }

    /// Begins to chat with another, and each says something.
    pub fn chat(&mut self, other: &mut Self) {
        self.obey(&format!("dcc chat {}", other.name));
        for (one, peer) in [(&*self, &*other), (&*other, &*self)] {
            one.expect(&format!("connected to {} ", peer.name));
        }
        self.say_by_chat(other, "can you hear me?");
        other.say_by_chat(self, "perfectly");
    }

    /// Waits until a file has come, whole.
    pub fn expect_file(&self, from: &Self, file: &Path) {
        let name = file.file_name().expect("a file").to_str().expect("a plain name");
        let name = if self.kind == Kind::Weechat { format!("{}.{name}", from.name) } else { name.to_owned() };
        let received = self.home.join("received").join(name);
        let wanted = file.metadata().expect("the file is there").len();
        let has_come = || received.metadata().is_ok_and(|file| file.len() == wanted);
        assert!(wait_until(PATIENCE, has_come), "{}: {}", self.name, self.said());
        assert_same(file, &received);
    }

    fn say_by_chat(&self, other: &Self, text: &str) {
        self.pipe(&format!("xfer.irc_dcc.lab.{} *{text}", other.name));
        other.expect(text);
    }

    fn obey(&mut self, command: &str) {
        match self.kind {
            Kind::Weechat => self.pipe(&format!("irc.server.lab */{command}")),
            Kind::Irssi => {
                let input = self.process.stdin.as_mut().expect("input is piped");
                write!(input, "/{command}\r").expect("the client listens");
            }
        }
    }

    /// Writes to weechat's pipe.
    fn pipe(&self, line: &str) {
        let mut pipe = fs::File::options().write(true).open(self.home.join("pipe")).expect("weechat reads");
        writeln!(pipe, "{line}").expect("weechat reads");
    }

    /// Waits until something has been written in one of its windows.
    fn expect(&self, text: &str) {
        let has_text = || self.said().contains(text);
        assert!(wait_until(PATIENCE, has_text), "{}: no '{text}' in {}", self.name, self.said());
    }

    /// What is written in its windows.
    fn said(&self) -> String {
        let read = |file: PathBuf| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        match self.kind {
            Kind::Irssi => read(self.home.join("screen")),
            Kind::Weechat => fs::read_dir(self.home.join("logs"))
                .map(|files| files.flatten().map(|file| read(file.path())).collect())
                .unwrap_or_default(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn weechat(lab: &Lab, side: Side, home: &Path, (name, address): (&str, &str)) -> Child {
    let directory = home.display();
    let settings = [
        format!("/set fifo.file.path {directory}/pipe"),
        "/set logger.file.flush_delay 0".to_owned(),
        "/set xfer.file.auto_accept_files on".to_owned(),
        "/set xfer.file.auto_accept_chats on".to_owned(),
        format!("/set xfer.file.download_path {directory}/received"),
        format!("/set xfer.network.own_ip {address}"),
        format!("/server add lab {SERVER}/6667 -nicks={name}"),
        "/connect lab".to_owned(),
    ];
    let mut weechat = lab.timed(side, 60, "weechat-headless");
    weechat.arg("--dir").arg(home).arg("--stdout");
    for setting in settings {
        weechat.args(["--run-command", &setting]);
    }
    // It locks its output: /dev/null would be locked for all.
    let output = fs::File::create(home.join("output")).expect("the state directory is writable");
    weechat.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn().expect("ip starts")
}

fn irssi(lab: &Lab, side: Side, home: &Path, (name, address): (&str, &str)) -> Child {
    let directory = home.display();
    // It takes the port 0 of a passive offer for a low one.
    let config = format!(
        r#"servers = ( {{ address = "{SERVER}"; chatnet = "lab"; port = "6667"; autoconnect = "yes"; }} );
chatnets = {{ lab = {{ type = "IRC"; nick = "{name}"; }}; }};
settings = {{
  core = {{ nick = "{name}"; user_name = "{name}"; real_name = "{name}"; }};
  "irc/dcc" = {{
    dcc_own_ip = "{address}"; dcc_autoget = "yes"; dcc_autoaccept_lowports = "yes"; dcc_download_path = "{directory}/received";
  }};
}};
"#
    );
    fs::write(home.join("config"), config).expect("the state directory is writable");
    let screen = fs::File::create(home.join("screen")).expect("the state directory is writable");
    lab.timed(side, 60, "socat")
        .arg(format!("EXEC:irssi --home={directory},pty,setsid,ctty"))
        .arg("STDIO")
        .env("TERM", "vt100")
        .stdin(Stdio::piped())
        .stdout(screen)
        .stderr(Stdio::null())
        .spawn()
        .expect("ip starts")
}

/// Expects nothing of this internal address in any frame: not as text, and in no offer as a number.
pub fn assert_hidden(frames: &[Vec<u8>], internal: &str) {
    assert_nothing_internal(frames);
    let number = internal.parse::<Ipv4Addr>().expect("an address").to_bits().to_string();
    for frame in frames {
        let text = String::from_utf8_lossy(tcp_payload(frame).unwrap_or_default());
        assert!(!text.contains("DCC") || !text.contains(&number), "internal address in {text:?}");
    }
}
