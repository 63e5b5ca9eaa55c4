//! What the lab tests share: namespaces with real programs in them, and algate between.
//!
//! The topology is `scripts/lab` (drawn in its `lib.sh`); this module only calls it. A lab is removed when its
//! [`Lab`] is dropped, and also when the test dies without unwinding: a guard process outside the test's process
//! group waits for the end of a pipe and then cleans up.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part, and nothing outside it")]

pub mod capture;
pub mod conversation;
pub mod drill;
pub mod ftp;
pub mod ftp_clients;
pub mod hardship;
pub mod irc;
pub mod lossy;
pub mod phone;
pub mod raw;
pub mod rtp;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// The server outside.
pub const SERVER: &str = "203.0.113.2";
/// An external address of the pool that port forwards use.
pub const FORWARDED: &str = "203.0.113.10";

/// How long a connection may take that may come to nothing.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long what must happen may take on a machine that has other work. It slows down nothing: who waits that long, fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The internal host, 10.0.0.2 and 10.0.0.3.
    In,
    /// Another internal host, if [`Lab::add_internal_host`] made one.
    In2,
    /// algate's own namespace.
    Gateway,
    /// The external host, 203.0.113.2 and 198.51.100.2.
    Ex,
    /// The host behind it, 192.0.2.2, if [`Lab::add_far_host`] made one.
    Far,
}

/// A lab that is up, perhaps with algate running in it.
pub struct Lab {
    name: String,
    /// Where the lab's files are.
    pub state: PathBuf,
    algate: Option<Child>,
    guard: Child,
}

impl Lab {
    /// Makes a lab, or says why there can be none.
    pub fn up() -> Option<Self> {
        if let Some(obstacle) = obstacle() {
            eprintln!("SKIP {}: {obstacle}", env::args().next().unwrap_or_default());
            return None;
        }
        static LABS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}-{}", process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let guard = Command::new("setsid")
            .args(["sh", "-c", "cat >/dev/null; exec \"$0\" \"$1\""])
            .arg(script("lab/down"))
            .arg(&name)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the guard starts");
        let lab = Self { state: Path::new("/run/algate-lab").join(&name), name, algate: None, guard };
        succeed(Command::new(script("lab/up")).arg(&lab.name));
        Some(lab)
    }

    /// Adds a second internal host on a cable of its own, `int1`, with this address and gateway.
    pub fn add_internal_host(&self, address: &str, gateway: &str) {
        succeed(Command::new(script("lab/host")).args([self.name.as_str(), "in2", address, gateway]));
    }

    /// Adds a host behind the external one, which becomes a router.
    pub fn add_far_host(&self) {
        succeed(Command::new(script("lab/host")).args([self.name.as_str(), "far"]));
    }

    /// Runs something of this program in a namespace: the sockets it makes stay there.
    pub fn within<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/run/netns/algate-{}-{}", self.name, side.word()))
            .expect("the namespace is there");
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter");
                work()
            });
            worker.join().expect("the work ends well")
        })
    }

    /// A UDP socket in a namespace that waits for [`PATIENCE`] at most.
    pub fn udp(&self, side: Side, endpoint: &str) -> UdpSocket {
        let socket = self.within(side, || UdpSocket::bind(endpoint)).expect("the endpoint is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("it takes a timeout");
        socket
    }

    /// A listening TCP socket in a namespace.
    pub fn listener(&self, side: Side, endpoint: &str) -> TcpListener {
        self.within(side, || TcpListener::bind(endpoint)).expect("the endpoint is free")
    }

    /// A TCP connection from an endpoint of a namespace, port 0 for any, made in five seconds or not; it waits for [`PATIENCE`] at
    /// most for its peer's bytes.
    pub fn connect(&self, side: Side, source: &str, destination: &str) -> rustix::io::Result<TcpStream> {
        let endpoint = |text: &str| text.parse::<SocketAddrV4>().expect("an endpoint");
        let socket = self.within(side, || socket(AddressFamily::INET, SocketType::STREAM, None))?;
        set_socket_reuseaddr(&socket, true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_PATIENCE))?;
        bind(&socket, &endpoint(source))?;
        connect(&socket, &endpoint(destination))?;
        Ok(TcpStream::from(socket))
    }

    /// Resident memory of algate, in kilobytes.
    pub fn resident_kilobytes(&self) -> u64 {
        let child = self.algate.as_ref().expect("algate runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("algate runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Starts a real server by the name that `scripts/lab/serve` knows. Its files are below [`Self::home`].
    pub fn serve(&self, side: Side, server: &str) {
        succeed(Command::new(script("lab/serve")).args([self.name.as_str(), side.word(), server]));
    }

    /// The directory that servers of a side publish, `pub` in it.
    pub fn home(&self, side: Side) -> PathBuf {
        self.state.join(side.word()).join("pub")
    }

    /// The lab's `algate.toml` with these settings (see `scripts/lab/config`).
    pub fn config(&self, settings: &[&str]) -> String {
        let output = succeed(Command::new(script("lab/config")).arg(&self.name).args(settings));
        String::from_utf8(output.stdout).expect("a config is UTF-8")
    }

    /// Starts algate with these settings and waits until it answers.
    pub fn start(&mut self, settings: &[&str]) {
        self.start_from(&self.config(settings));
    }

    /// Starts algate from a config's text and waits until it answers.
    pub fn start_from(&mut self, config: &str) {
        self.spawn_algate(config);
        let answers = || self.algate(&["show", "ports"]).is_some_and(|output| output.status.success());
        if !wait_until(PATIENCE, answers) {
            panic!("algate does not answer; its log:\n{}", self.log());
        }
    }

    /// Starts algate from a config's text and waits for nothing.
    pub fn spawn_algate(&mut self, config: &str) {
        assert!(self.algate.is_none(), "algate runs already");
        let file = self.state.join("algate.toml");
        fs::write(&file, config).expect("the state directory is writable");
        let log =
            fs::File::options().create(true).append(true).open(self.state.join("algate.log")).expect("a log");
        let child = self
            .command(Side::Gateway, &binary())
            .arg("run")
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("ip starts");
        self.algate = Some(child);
    }

    /// What algate has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.state.join("algate.log")).unwrap_or_default()
    }

    /// Checks the ledger, ends algate with SIGTERM and expects exit code 0.
    pub fn stop(&mut self) {
        self.check_ledger();
        self.signal("TERM");
        let status = self.wait_for_end();
        assert_eq!(status.code(), Some(0), "algate's log:\n{}", self.log());
    }

    /// Sends algate a signal.
    pub fn signal(&self, signal: &str) {
        let child = self.algate.as_ref().expect("algate runs");
        succeed(Command::new("kill").args([format!("-{signal}"), child.id().to_string()]));
    }

    /// Waits until algate has ended.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.algate.take().expect("algate runs");
        let mut status = None;
        wait_until(PATIENCE, || {
            status = child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.unwrap_or_else(|| {
            child.kill().expect("a child can be killed");
            panic!("algate does not end; its log:\n{}", self.log())
        })
    }

    /// Runs an algate command with the lab's socket; `None` if it takes longer than ten seconds.
    pub fn algate(&self, arguments: &[&str]) -> Option<Output> {
        let output = self
            .timed(Side::Gateway, 10, &binary())
            .args(arguments)
            .arg("--socket")
            .arg(self.state.join("algate.sock"))
            .output()
            .expect("ip starts");
        (output.status.code() != Some(124)).then_some(output)
    }

    /// The rows of `algate show WHAT --json`.
    pub fn show(&self, what: &str) -> Vec<Value> {
        let output = self.algate(&["show", what, "--json", "--all"]).expect("algate answers in time");
        assert!(output.status.success(), "show {what}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("show --json prints JSON");
        report["rows"].as_array().expect("a report has rows").clone()
    }

    /// All counters by name.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let pair = |row: &Value| Some((row["name"].as_str()?.to_owned(), row["value"].as_u64()?));
        self.show("counters").iter().map(|row| pair(row).expect("a counter has name and value")).collect()
    }

    /// One counter.
    pub fn counter(&self, name: &str) -> u64 {
        *self.counters().get(name).unwrap_or_else(|| panic!("there is no counter {name}"))
    }

    /// How many frames came to algate's ends of its cables that it has not read: those that wait, and those that found no room.
    pub fn unread_frames(&self) -> u64 {
        let cables = self.expect(Side::Gateway, "ip", &["-json", "-stats", "link"]);
        let cables: Value = serde_json::from_str(&cables).expect("ip prints JSON");
        let ports = self.show("ports");
        let read = |name: &str| {
            let of_name =
                |port: &&Value| port["name"].as_str().is_some_and(|port| name == format!("{port}0"));
            ports.iter().find(of_name).and_then(|port| port["rx_packets"].as_u64())
        };
        let unread = |cable: &Value| {
            let came = cable["stats64"]["rx"]["packets"].as_u64()?;
            Some(came.saturating_sub(read(cable["ifname"].as_str()?)?))
        };
        cables.as_array().expect("an array").iter().filter_map(unread).sum()
    }

    /// Expects every frame received to be accounted for exactly once: passed on, answered, taken by the ALG stage, or dropped
    /// with a reason. Waits for what is on its way.
    pub fn check_ledger(&self) {
        let mut balance: (u64, u64) = (0, 0);
        let balances = || {
            let counters = self.counters();
            let is_outcome = |name: &str| OUTCOMES.contains(&name) || name.starts_with("drop.");
            let accounted: u64 =
                counters.iter().filter(|(name, _)| is_outcome(name)).map(|(_, value)| value).sum();
            // What was lost on its way out was forwarded before, or was no frame that was received.
            balance = (counters["received"] + counters["egress_drops"], accounted);
            balance.0 == balance.1
        };
        let is_balanced = wait_until(PATIENCE, balances);
        assert!(
            is_balanced,
            "{} frames received or lost on their way out, {} accounted for: {:?}",
            balance.0,
            balance.1,
            self.show("counters")
        );
    }

    /// A command in a namespace, without a time limit.
    pub fn command(&self, side: Side, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec"]).arg(format!("algate-{}-{}", self.name, side.word())).arg(program);
        command
    }

    /// A command in a namespace that is ended (exit code 124) after some seconds.
    pub fn timed(&self, side: Side, seconds: u32, program: &str) -> Command {
        let mut command = self.command(side, "timeout");
        command.arg("--kill-after=1").arg(seconds.to_string()).arg(program);
        command
    }

    /// Runs a command in a namespace and returns its output; a minute at most.
    pub fn run(&self, side: Side, program: &str, arguments: &[&str]) -> Output {
        self.timed(side, 60, program).args(arguments).stdin(Stdio::null()).output().expect("ip starts")
    }

    /// Runs a command in a namespace, expects success and returns what it printed.
    pub fn expect(&self, side: Side, program: &str, arguments: &[&str]) -> String {
        let output = self.run(side, program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}{}\nalgate's log:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until something listens on a TCP port of a side.
    pub fn wait_for_listener(&self, side: Side, l4_port: u16) {
        let listens = || !self.expect(side, "ss", &["-Hltn", &format!("sport = :{l4_port}")]).is_empty();
        assert!(wait_until(PATIENCE, listens), "nothing listens on {l4_port}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The guard cleans up at the end of its input; waiting for it keeps labs from overlapping.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        if let Some(mut algate) = self.algate.take() {
            let _ = algate.wait();
        }
    }
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::In2 => "in2",
            Self::Gateway => "gw",
            Self::Ex => "ex",
            Self::Far => "far",
        }
    }
}

/// The algate under test: this build's, or the file that `ALGATE` names.
pub fn binary() -> String {
    env::var("ALGATE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_algate").to_owned())
}

/// Whether an address is of the lab's pool, 203.0.113.10 to 203.0.113.20.
pub fn is_of_pool(address: impl Into<IpAddr>) -> bool {
    let pool = Ipv4Addr::new(203, 0, 113, 10)..=Ipv4Addr::new(203, 0, 113, 20);
    matches!(address.into(), IpAddr::V4(address) if pool.contains(&address))
}

/// Whether the whole matrix is asked for (`scripts/test --full`) or each case once.
pub fn is_full() -> bool {
    env::var("ALGATE_LAB").is_ok_and(|value| value == "full")
}

/// Asks `is_done` again and again until it is true or the time is up.
pub fn wait_until(limit: Duration, mut is_done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_done() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Writes a file of `size` bytes that differ everywhere: no byte of it can hide a repeated or missing segment.
pub fn write_random(file: &Path, size: u64) {
    let mut bytes = Vec::new();
    fs::File::open("/dev/urandom")
        .expect("random bytes")
        .take(size)
        .read_to_end(&mut bytes)
        .expect("random bytes");
    fs::File::create(file).and_then(|mut file| file.write_all(&bytes)).expect("the file is writable");
}

/// Expects two files to be equal, byte by byte.
pub fn assert_same(one: &Path, other: &Path) {
    let read = |file: &Path| fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (one_bytes, other_bytes) = (read(one), read(other));
    assert_eq!(one_bytes.len(), other_bytes.len(), "sizes of {} and {}", one.display(), other.display());
    let difference = one_bytes.iter().zip(&other_bytes).position(|(a, b)| a != b);
    assert_eq!(difference, None, "{} and {} differ", one.display(), other.display());
}

/// Why there can be no lab here, in the words of `scripts/lib.sh`.
fn obstacle() -> Option<String> {
    let output = Command::new("bash")
        .args(["-c", "source \"$0\"; lab_obstacle"])
        .arg(script("lib.sh"))
        .output()
        .expect("bash starts");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name)
}

fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Where a frame that was received can end, besides the drops.
const OUTCOMES: [&str; 4] = ["forwarded", "arp", "local", "alg.segments_in"];
