//! What policy asks about: who has logged in, and how a refused command is answered.
//!
//! A refused command never reaches the server, so its answer must come from here, and in its turn: it waits among the
//! outstanding commands until those before it are answered.

/// How a refused command is answered (RFC 959 section 4.2, RFC 2228 section 5, RFC 2577 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 501: syntax error in the argument.
    Syntax,
    /// 502: not implemented.
    Command,
    /// 504: not for this parameter. Nothing is opened for it.
    Endpoint,
    /// 530: not logged in.
    Login,
    /// 534: denied for policy reasons.
    Security,
    /// 550: not taken, file unavailable.
    File,
    /// 502, whatever policy says.
    Unsupported,
}

impl Refusal {
    /// How `verb` is refused.
    pub(super) fn of(verb: &[u8]) -> Self {
        let is_in = |verbs: &[&[u8]]| verbs.iter().any(|one| one.eq_ignore_ascii_case(verb));
        if is_in(LOGIN_VERBS) {
            Self::Login
        } else if is_in(SECURITY_VERBS) {
            Self::Security
        } else if is_in(FILE_VERBS) {
            Self::File
        } else {
            Self::Command
        }
    }

    /// The reply.
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Self::Syntax => b"501 Refused by policy.\r\n",
            Self::Command => b"502 Refused by policy.\r\n",
            Self::Endpoint => b"504 Cannot be opened.\r\n",
            Self::Login => b"530 Refused by policy.\r\n",
            Self::Security => b"534 Refused by policy.\r\n",
            Self::File => b"550 Refused by policy.\r\n",
            Self::Unsupported => b"502 Not implemented.\r\n",
        }
    }
}

/// A user's name, as far as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    bytes: [u8; NAME_BYTES],
    length: usize,
}

impl Name {
    /// Nobody's.
    pub(super) const NOBODY: Self = Self { bytes: [0; NAME_BYTES], length: 0 };

    /// A name; a longer one than is kept is nobody's.
    pub(super) fn new(name: &[u8]) -> Self {
        let mut new = Self::NOBODY;
        if let Some(room) = new.bytes.get_mut(..name.len()) {
            room.copy_from_slice(name);
            new.length = name.len();
        }
        new
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Bytes of a reply at most.
pub(super) const LONGEST_REFUSAL: usize = 24;
const NAME_BYTES: usize = 128;
const LOGIN_VERBS: &[&[u8]] = &[b"USER", b"PASS", b"ACCT"];
const SECURITY_VERBS: &[&[u8]] = &[b"AUTH", b"ADAT", b"PBSZ", b"PROT", b"CCC"];
const FILE_VERBS: &[&[u8]] = &[
    b"RETR", b"STOR", b"STOU", b"APPE", b"DELE", b"RNFR", b"RNTO", b"MKD", b"XMKD", b"RMD", b"XRMD", b"CWD",
    b"XCWD", b"CDUP", b"XCUP", b"LIST", b"NLST", b"MLSD", b"MLST", b"SIZE", b"MDTM", b"MFMT", b"MFCT",
    b"SMNT",
];
