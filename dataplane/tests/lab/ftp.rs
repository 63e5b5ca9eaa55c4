//! FTP transfers with curl against vsftpd.

use std::fs;

use super::{FORWARDED, Lab, SERVER, Side, assert_same, write_random};

/// How the data connection is negotiated, with curl's options for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Port,
    Eprt,
    Pasv,
    Epsv,
}

/// Which way the file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Download,
    Upload,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Port, Self::Eprt, Self::Pasv, Self::Epsv];

    /// curl believes the address of a 227 reply only if told so.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Port => &["--ftp-port", "-", "--disable-eprt"],
            Self::Eprt => &["--ftp-port", "-"],
            Self::Pasv => &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
            Self::Epsv => &[],
        }
    }
}

/// Transfers one random file and compares both ends. The client is on `client`'s side, vsftpd on the other.
pub fn transfer(lab: &Lab, client: Side, mode: Mode, way: Way, bytes: u64) {
    let (host, server) = if client == Side::In { (SERVER, Side::Ex) } else { (FORWARDED, Side::In) };
    let remote = lab.home(server).join("file");
    let local = lab.state.join("file");
    for old in [&remote, &local] {
        let _ = fs::remove_file(old);
    }
    let url = format!("ftp://{host}/pub/file");
    let local_name = local.to_str().expect("the path is UTF-8");
    let mut arguments = vec!["--silent", "--show-error", "--connect-timeout", "5", "--max-time", "50"];
    arguments.extend(mode.options());
    match way {
        Way::Download => {
            write_random(&remote, bytes);
            arguments.extend(["--output", local_name, &url]);
        }
        Way::Upload => {
            write_random(&local, bytes);
            arguments.extend(["--upload-file", local_name, &url]);
        }
    }
    eprintln!("{mode:?} {way:?} {bytes} bytes");
    lab.expect(client, "curl", &arguments);
    assert_same(&remote, &local);
}
