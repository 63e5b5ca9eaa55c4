//! The control socket: one JSON request in a line, one JSON reply, then the connection ends.
//!
//! Served by the main thread between its other duties, never by a worker. Nothing a client does can
//! hold it up: it waits for all clients together and not for long, requests are bounded, replies are written as the client
//! takes them, idle connections are closed, and there are only so many at a time.
//!
//! The socket has mode 0600: who can open it may read the tables, and nothing more.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::report::{Report, Subject};
use crate::reporter::Reporter;
use crate::setup_error::SetupError;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to show.
    pub show: Subject,
    /// At most so many rows of a table.
    #[serde(default = "default_limit")]
    pub limit: usize,
    /// Counters that are zero, too.
    #[serde(default)]
    pub all: bool,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// The report.
    Ok(Report),
    /// Why there is none.
    Error(String),
}

/// What a request means without a limit of its own.
#[must_use]
pub const fn default_limit() -> usize {
    1_000
}

/// Answers requests. [`Reporter`] does; tests put a table of their own there.
pub trait Responder {
    /// The answer.
    fn respond(&self, request: &Request) -> Reply;
}

impl Responder for Reporter {
    fn respond(&self, request: &Request) -> Reply {
        Reply::Ok(self.report(request.show, request.limit.min(MAX_ROWS), request.all))
    }
}

/// The listening socket and its connections.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    connections: Vec<Connection>,
}

impl ControlServer {
    /// Listens on `path`, whose directory is created. A socket left over by a process that is gone is
    /// replaced.
    ///
    /// # Errors
    /// When another process answers there, something other than a socket is there, or the file system
    /// refuses.
    pub fn bind(path: &Path) -> Result<Self, SetupError> {
        let refuse = |what: &str, error: io::Error| {
            SetupError::new(format!(
                "control.socket {}: {what} ({error}): choose another path",
                path.display()
            ))
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| refuse("its directory cannot be made", error))?;
        }
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                let sentence = "is there and is no socket: remove it, or choose another path";
                return Err(SetupError::new(format!("control.socket {} {sentence}", path.display())));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                let sentence = "is served by another process: stop it, or choose another path";
                return Err(SetupError::new(format!("control.socket {} {sentence}", path.display())));
            }
            _ => {}
        }
        // Bound under another name and moved, so that it never stands open under its own.
        let staging = path.with_extension(format!("{}.new", std::process::id()));
        let listener = UnixListener::bind(&staging).map_err(|error| refuse("cannot be bound", error))?;
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&staging, path))
            .and_then(|()| listener.set_nonblocking(true))
            .map_err(|error| refuse("cannot be made private", error))?;
        Ok(Self { listener, path: path.to_owned(), connections: Vec::new() })
    }

    /// Waits until a client wants something, a signal comes, or `patience` is over. Not to ask the kernel again and again matters: a
    /// look for clients in vain costs it a socket.
    pub fn wait(&self, patience: Duration) {
        let is_open = self.connections.len() < MAX_CONNECTIONS;
        let listener = is_open.then(|| PollFd::new(&self.listener, PollFlags::IN));
        let mut wanted: Vec<_> =
            listener.into_iter().chain(self.connections.iter().map(Connection::wanted)).collect();
        let timeout = Timespec::try_from(patience).ok();
        match event::poll(&mut wanted, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The kernel has no memory for it: no reason to spin.
            Err(_) => thread::sleep(patience),
        }
    }

    /// Does what can be done without waiting.
    pub fn serve(&mut self, responder: &impl Responder) {
        while self.connections.len() < MAX_CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => self.connections.extend(Connection::new(stream)),
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        log::debug!("control accept failed error=\"{error}\"");
                    }
                    break;
                }
            }
        }
        self.connections.retain_mut(|connection| connection.advance(responder));
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("control socket not removed path={} error=\"{error}\"", self.path.display());
        }
    }
}

/// One client.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// The request as far as it has come, then the reply as far as it has not gone.
    phase: Phase,
    /// When it is closed for want of progress.
    deadline: Instant,
}

#[derive(Debug)]
enum Phase {
    Reading(Vec<u8>),
    Writing { reply: Vec<u8>, sent: usize },
}

impl Connection {
    fn new(stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        Some(Self { stream, phase: Phase::Reading(Vec::new()), deadline: Instant::now() + REQUEST_TIME })
    }

    /// What it waits for.
    fn wanted(&self) -> PollFd<'_> {
        let flags = match self.phase {
            Phase::Reading(_) => PollFlags::IN,
            Phase::Writing { .. } => PollFlags::OUT,
        };
        PollFd::new(&self.stream, flags)
    }

    /// Goes on as far as it can. `false`: it is over.
    fn advance(&mut self, responder: &impl Responder) -> bool {
        if let Phase::Reading(request) = &mut self.phase {
            match read_line(&mut self.stream, request) {
                Ok(None) => return Instant::now() < self.deadline,
                Ok(Some(reply)) => {
                    let reply = reply.unwrap_or_else(|| answer(request, responder));
                    let mut reply = serde_json::to_vec(&reply).unwrap_or_default();
                    reply.push(b'\n');
                    self.phase = Phase::Writing { reply, sent: 0 };
                    self.deadline = Instant::now() + REPLY_TIME;
                }
                Err(_) => return false,
            }
        }
        let Phase::Writing { reply, sent } = &mut self.phase else {
            return false;
        };
        match write_some(&mut self.stream, reply.get(*sent..).unwrap_or_default()) {
            Ok(written) => *sent += written,
            Err(_) => return false,
        }
        *sent < reply.len() && Instant::now() < self.deadline
    }
}

/// Reads on. `Some(None)`: `request` holds a line; `Some(Some(reply))`: it never will.
fn read_line(stream: &mut UnixStream, request: &mut Vec<u8>) -> io::Result<Option<Option<Reply>>> {
    let mut bytes = [0; MAX_REQUEST_BYTES];
    match stream.read(&mut bytes) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => request.extend(bytes.iter().take(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    }
    if request.contains(&b'\n') {
        return Ok(Some(None));
    }
    let is_too_long = request.len() >= MAX_REQUEST_BYTES;
    let sentence = || format!("the request is longer than {MAX_REQUEST_BYTES} bytes");
    Ok(is_too_long.then(|| Some(Reply::Error(sentence()))))
}

fn answer(request: &[u8], responder: &impl Responder) -> Reply {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(line) {
        Ok(request) => responder.respond(&request),
        Err(error) => Reply::Error(format!("the request is not understood: {error}")),
    }
}

/// Writes what the client takes now, at most a slice of it: other connections want their turn.
fn write_some(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes.get(..WRITE_BYTES).unwrap_or(bytes)) {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Ok(written) => Ok(written),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Asks the algate that serves `socket`.
///
/// # Errors
/// A sentence: nobody answers there, or the answer is not understood.
pub fn ask(socket: &Path, request: &Request) -> Result<Report, String> {
    let path = socket.display();
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(CLIENT_TIME))?;
        stream.set_write_timeout(Some(CLIENT_TIME))?;
        stream.write_all(&[&serde_json::to_vec(request)?[..], b"\n"].concat())?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    };
    let reply = exchange().map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no algate answers at {path}: start one with algate run -c FILE, or name its socket with --socket PATH"
        ),
        ErrorKind::PermissionDenied => format!("{path} may not be opened: use the account algate runs under"),
        _ => format!("asking at {path} failed: {error}"),
    })?;
    match serde_json::from_slice(&reply) {
        Ok(Reply::Ok(report)) => Ok(report),
        Ok(Reply::Error(sentence)) => Err(sentence),
        Err(error) => {
            Err(format!("the answer from {path} is not understood ({error}): is it another version?"))
        }
    }
}

/// More wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 16;
const MAX_REQUEST_BYTES: usize = 4_096;
/// Rows in one report, whatever the client asks for.
const MAX_ROWS: usize = 100_000;
const WRITE_BYTES: usize = 256 * 1024;
/// In which a request must have come.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// In which a reply must have gone.
const REPLY_TIME: Duration = Duration::from_secs(10);
const CLIENT_TIME: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CounterRow;

    struct OneCounter;

    impl Responder for OneCounter {
        fn respond(&self, request: &Request) -> Reply {
            let rows = vec![CounterRow { name: "x".repeat(1_000), value: 7 }; request.limit];
            Reply::Ok(Report::Counters(rows))
        }
    }

    fn socket(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("algate-control-{}-{name}", std::process::id())).join("s.sock")
    }

    /// Serves until `client` returns.
    fn with_server<T: Send>(name: &str, client: impl FnOnce(&Path) -> T + Send) -> T {
        let path = socket(name);
        let mut server = ControlServer::bind(&path).unwrap();
        let result = thread::scope(|scope| {
            let client = scope.spawn(|| client(&path));
            while !client.is_finished() {
                server.wait(Duration::from_millis(1));
                server.serve(&OneCounter);
            }
            client.join().unwrap()
        });
        drop(server);
        assert!(!path.exists(), "the socket is removed");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        result
    }

    #[test]
    fn answers_a_request_larger_than_any_socket_buffer() {
        let request = Request { show: Subject::Counters, limit: 2_000, all: false };
        let report = with_server("large", |path| ask(path, &request)).unwrap();
        assert!(matches!(report, Report::Counters(rows) if rows.len() == 2_000));
    }

    #[test]
    fn hostile_clients_do_not_keep_others_waiting() {
        let request = Request { show: Subject::Counters, limit: 1, all: false };
        let (silent, report) = with_server("hostile", |path| {
            let mut silent: Vec<_> = (0..8).map(|_| UnixStream::connect(path).unwrap()).collect();
            // Half a request, and one that asks for much and reads nothing.
            silent[0].write_all(b"{\"show\":").unwrap();
            silent[1].write_all(b"{\"show\":\"counters\",\"limit\":5000}\n").unwrap();
            (silent, ask(path, &request))
        });
        assert!(matches!(report, Ok(Report::Counters(rows)) if rows.len() == 1));
        drop(silent);
    }

    #[test]
    fn refuses_what_is_no_request_with_a_sentence() {
        let rows = [
            ("nonsense\n".to_owned(), "the request is not understood"),
            ("{\"show\":\"secrets\"}\n".to_owned(), "the request is not understood"),
            ("{\"show\":\"alg\",\"reboot\":true}\n".to_owned(), "the request is not understood"),
            ("x".repeat(MAX_REQUEST_BYTES), "the request is longer than 4096 bytes"),
        ];
        for (request, expected) in rows {
            let reply = with_server("refuse", |path| {
                let mut stream = UnixStream::connect(path).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let mut reply = String::new();
                stream.read_to_string(&mut reply).unwrap();
                reply
            });
            assert!(reply.contains(expected), "{request}: {reply}");
        }
    }

    #[test]
    fn replaces_a_stale_socket_but_no_living_one_and_no_file() {
        let path = socket("stale");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let server = ControlServer::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = ControlServer::bind(&path).unwrap_err().to_string();
        assert!(error.contains("is served by another process"), "{error}");
        drop(server);
        fs::write(&path, "mine").unwrap();
        let error = ControlServer::bind(&path).unwrap_err().to_string();
        assert!(error.contains("is there and is no socket"), "{error}");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn says_what_to_do_when_nobody_answers() {
        let request = Request { show: Subject::Alg, limit: 1, all: false };
        assert_eq!(
            ask(Path::new("/nosuch/algate.sock"), &request),
            Err("no algate answers at /nosuch/algate.sock: start one with algate run -c FILE, \
                 or name its socket with --socket PATH"
                .to_owned())
        );
    }
}
