//! FTP clients that people use, each driven to fetch, store and list in every mode it has.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use super::capture::{Capture, assert_nothing_internal, assert_streams_hidden, is_reset_beside, streams};
use super::ftp::Mode;
use super::{FORWARDED, Lab, SERVER, Side, write_random};

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Curl,
    Lftp,
    Tnftp,
    Ncftp,
}

/// What a client is to do.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// Fetches the server's `pub/file` into this file.
    Fetch(&'a Path),
    /// Stores this file as `pub/file`.
    Store(&'a Path),
    /// Prints the names in `pub`.
    List,
}

impl Client {
    pub const ALL: [Self; 4] = [Self::Curl, Self::Lftp, Self::Tnftp, Self::Ncftp];

    /// The modes it has for IPv4.
    pub fn modes(self) -> &'static [Mode] {
        match self {
            Self::Curl | Self::Tnftp => &Mode::ALL,
            Self::Lftp => &[Mode::Port, Mode::Pasv, Mode::Epsv],
            Self::Ncftp => &[Mode::Port, Mode::Pasv],
        }
    }

    /// Does one task in one session and returns what the program printed; if it failed, with what else is to be known.
    fn run(self, lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Result<String, String> {
        let output = match self {
            Self::Curl => curl(lab, side, host, mode, task),
            Self::Lftp => lftp(lab, side, host, mode, task),
            Self::Tnftp => tnftp(lab, side, host, mode, task),
            Self::Ncftp => ncftp(lab, side, host, mode, task),
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let log = lab.log();
        Err(format!("{self:?} {mode:?} {task:?}: {}\n{text}{errors}\nalgate's log:\n{log}", output.status))
    }
}

/// Fetches a file and stores one of each size, and lists; the server is on the other side. Every data connection must have
/// been announced in this mode, and outside with external endpoints only.
pub fn use_server(lab: &Lab, side: Side, client: Client, mode: Mode, sizes: &[u64]) {
    let again = work(lab, side, client, mode, sizes, |failure, _| panic!("{failure}"));
    assert_eq!(again, 0);
}

/// The same over a cable that repeats what it carries. A host whose data connection has ended may answer a repeated
/// acknowledgement with a reset, and a server that has not read the file to its end then throws it away: seen with pure-ftpd, all
/// bytes and the FIN acknowledged. Where the capture shows such a reset the task is tried again, twice at most.
pub fn use_server_over_a_bad_cable(lab: &Lab, side: Side, client: Client, mode: Mode, sizes: &[u64]) {
    let mut seen = 0;
    let again = work(lab, side, client, mode, sizes, |failure, frames| {
        let resets = frames.iter().filter(|frame| is_reset_beside(frame, 21)).count();
        assert!(resets > seen, "{failure}");
        println!("again: a host has reset its data connection");
        seen = resets;
    });
    assert!(again <= 2, "{client:?} {mode:?} failed {again} times");
}

/// Returns how many tasks were done again: of each that has failed `failed` is told, with what was seen outside.
fn work(
    lab: &Lab,
    side: Side,
    client: Client,
    mode: Mode,
    sizes: &[u64],
    mut failed: impl FnMut(String, &[Vec<u8>]),
) -> usize {
    let (host, other) = if side == Side::In { (SERVER, Side::Ex) } else { (FORWARDED, Side::In) };
    let (remote, local) = (lab.home(other).join("file"), lab.state.join("file"));
    let capture = Capture::start(lab, Side::Ex);
    let mut again = 0;
    let transfers =
        sizes.iter().flat_map(|bytes| [Task::Fetch(&local), Task::Store(&local)].map(|task| (task, *bytes)));
    for (task, bytes) in transfers.chain([(Task::List, 0)]) {
        loop {
            if bytes > 0 {
                for old in [&remote, &local] {
                    let _ = fs::remove_file(old);
                }
                write_random(if matches!(task, Task::Fetch(_)) { &remote } else { &local }, bytes);
            }
            let done = client.run(lab, side, host, mode, task).and_then(|text| match task {
                Task::List if text.contains("file") => Ok(()),
                Task::List => Err(format!("{client:?} {mode:?} lists {text:?}")),
                _ if is_same(&remote, &local) => Ok(()),
                _ => Err(format!("{client:?} {mode:?} {task:?}: the files differ")),
            });
            let Err(failure) = done else { break };
            failed(failure, &capture.peek());
            again += 1;
        }
    }
    let frames = capture.frames();
    assert_nothing_internal(&frames);
    let streams = streams(&frames);
    assert_streams_hidden(&streams);
    let announcements = announcements(&streams, side, mode);
    let tasks = 2 * sizes.len() + 1;
    let is_right = if again == 0 { announcements.len() == tasks } else { announcements.len() > tasks };
    assert!(is_right, "{client:?} {mode:?} announced {announcements:?}");
    again
}

/// Whether two files are there, and equal.
fn is_same(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(|file| fs::read(file).ok());
    one.is_some() && one == other
}

/// The lines that announced a data connection in this mode, as they were seen outside: with an address of the pool if who
/// announces is inside, else with the address that it has.
fn announcements(streams: &[Vec<u8>], client: Side, mode: Mode) -> Vec<String> {
    let is_active = matches!(mode, Mode::Port | Mode::Eprt);
    let beginning = match mode {
        Mode::Port => "PORT ",
        Mode::Eprt => "EPRT |1|",
        Mode::Pasv => "227 ",
        Mode::Epsv => "229 ",
    };
    let is_right = |line: &String| {
        let names_host_outside =
            line.replace(',', ".").contains("203.0.113.2.") || line.contains("203.0.113.2|");
        mode == Mode::Epsv || names_host_outside == (is_active == (client == Side::Ex))
    };
    let texts = streams.iter().map(|stream| String::from_utf8_lossy(stream));
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.starts_with(beginning) && is_right(line)).collect()
}

fn curl(lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Output {
    let url = format!("ftp://{host}/pub/{}", if matches!(task, Task::List) { "" } else { "file" });
    let mut arguments = vec!["--silent", "--show-error", "--connect-timeout", "20", "--max-time", "50"];
    arguments.extend(mode.options());
    match task {
        Task::Fetch(file) => arguments.extend(["--output", name(file)]),
        Task::Store(file) => arguments.extend(["--upload-file", name(file)]),
        Task::List => arguments.push("--list-only"),
    }
    arguments.push(&url);
    lab.run(side, "curl", &arguments)
}

/// lftp has EPRT for IPv6 only. Like curl it would not believe the address of a 227 reply.
fn lftp(lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Output {
    let is_passive = if mode == Mode::Port { "off" } else { "on" };
    let is_extended = if mode == Mode::Epsv { "on" } else { "off" };
    let work = match task {
        Task::Fetch(file) => format!("get pub/file -o {}", name(file)),
        Task::Store(file) => format!("put {} -o pub/file", name(file)),
        Task::List => "nlist pub".into(),
    };
    let script = format!(
        "set cmd:fail-exit yes; set net:max-retries 1; set net:timeout 20; set ftp:ssl-allow no; \
         set ftp:passive-mode {is_passive}; set ftp:prefer-epsv {is_extended}; set ftp:fix-pasv-address no; \
         set xfer:clobber yes; open {host}; {work}"
    );
    run(lab, side, &[], &["lftp", "-c", &script], "")
}

/// tnftp ends well whatever happened: who calls compares files.
fn tnftp(lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Output {
    let active = if matches!(mode, Mode::Port | Mode::Eprt) { "FTPMODE=active" } else { "FTPMODE=passive" };
    let extended = if matches!(mode, Mode::Eprt | Mode::Epsv) { "on" } else { "off" };
    let work = match task {
        Task::Fetch(file) => format!("get pub/file {}", name(file)),
        Task::Store(file) => format!("put {} pub/file", name(file)),
        Task::List => "nlist pub".into(),
    };
    let script = format!("epsv4 {extended}\nbinary\n{work}\nquit\n");
    run(lab, side, &[active], &["tnftp", "-a", host], &script)
}

fn ncftp(lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Output {
    let mode = if mode == Mode::Port { "-E" } else { "-F" };
    match task {
        Task::Fetch(file) => {
            run(lab, side, &[], &["ncftpget", mode, "-V", "-Z", "-C", host, "pub/file", name(file)], "")
        }
        Task::Store(file) => {
            run(lab, side, &[], &["ncftpput", mode, "-V", "-Z", "-C", host, name(file), "pub/file"], "")
        }
        // Asked for names alone it sends `NLST -1`, of which pure-ftpd makes a file's name.
        Task::List => run(lab, side, &[], &["ncftpls", mode, "-l", &format!("ftp://{host}/pub/")], ""),
    }
}

/// Runs a program with these variables, the lab's own home directory and this input.
fn run(lab: &Lab, side: Side, variables: &[&str], command: &[&str], input: &str) -> Output {
    let script = lab.state.join("input");
    fs::write(&script, input).expect("the state directory is writable");
    lab.timed(side, 60, "env")
        .arg(format!("HOME={}", lab.state.display()))
        .args(variables)
        .args(command)
        .stdin(Stdio::from(fs::File::open(script).expect("it was written")))
        .output()
        .expect("ip starts")
}

fn name(file: &Path) -> &str {
    file.to_str().expect("the path is UTF-8")
}
