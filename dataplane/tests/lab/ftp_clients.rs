//! FTP clients that people use, each driven to fetch, store and list in every mode it has.

use std::path::Path;
use std::process::{Output, Stdio};

use super::ftp::Mode;
use super::{Lab, Side};

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

    /// Does one task in one session, expects success and returns what the program printed.
    pub fn run(self, lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> String {
        let output = match self {
            Self::Curl => curl(lab, side, host, mode, task),
            Self::Lftp => lftp(lab, side, host, mode, task),
            Self::Tnftp => tnftp(lab, side, host, mode, task),
            Self::Ncftp => ncftp(lab, side, host, mode, task),
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{self:?} {mode:?} {task:?}: {}\n{text}{}\nalgate's log:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            lab.log()
        );
        text
    }
}

fn curl(lab: &Lab, side: Side, host: &str, mode: Mode, task: Task<'_>) -> Output {
    let url = format!("ftp://{host}/pub/{}", if matches!(task, Task::List) { "" } else { "file" });
    let mut arguments = vec!["--silent", "--show-error", "--connect-timeout", "5", "--max-time", "50"];
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
    std::fs::write(&script, input).expect("the state directory is writable");
    lab.timed(side, 60, "env")
        .arg(format!("HOME={}", lab.state.display()))
        .args(variables)
        .args(command)
        .stdin(Stdio::from(std::fs::File::open(script).expect("it was written")))
        .output()
        .expect("ip starts")
}

fn name(file: &Path) -> &str {
    file.to_str().expect("the path is UTF-8")
}
