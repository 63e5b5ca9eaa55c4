//! A TCP dialogue written by hand, for what no real client would say.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::{Lab, PATIENCE, Side};

/// One connection: `socat` in a namespace, with TCP_NODELAY, driven line by line.
pub struct Conversation {
    socat: Child,
    to_peer: ChildStdin,
    from_peer: Receiver<String>,
}

impl Conversation {
    /// Connects; what is sent leaves in segments of at most `segment_bytes` bytes.
    pub fn open(lab: &Lab, side: Side, peer: &str, segment_bytes: usize) -> Self {
        let mut socat = lab
            .timed(side, 50, "socat")
            .args(["-b", &segment_bytes.to_string(), "-", &format!("TCP:{peer},nodelay,connect-timeout=5")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("ip starts");
        let to_peer = socat.stdin.take().expect("input is piped");
        let mut output = BufReader::new(socat.stdout.take().expect("output is piped"));
        let (sender, from_peer) = channel();
        thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { socat, to_peer, from_peer }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.to_peer.write_all(bytes).and_then(|()| self.to_peer.flush()).expect("the peer still listens");
    }

    /// The next line from the peer, without its end; an end of the connection or silence for [`PATIENCE`] fails.
    pub fn line(&mut self) -> String {
        self.from_peer.recv_timeout(PATIENCE).expect("the peer says something")
    }

    /// Expects the next line to begin like this, and returns it.
    pub fn expect(&mut self, beginning: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(beginning), "expected {beginning}..., got {line:?}");
        line
    }

    /// Sends one command line and expects the beginning of the reply.
    pub fn ask(&mut self, command: &str, reply: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.expect(reply)
    }

    /// Takes an anonymous user's first steps.
    pub fn log_in(&mut self) {
        self.expect("220");
        self.ask("USER anonymous", "331");
        self.ask("PASS guest@", "230");
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}
