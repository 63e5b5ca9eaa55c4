//! What a server tells about itself: its greeting, and its answers to FEAT (RFC 2389), SYST, HELP and STAT. Policy may hide it.
//!
//! Policy is asked about each line, without its code. In the first and the last line of an answer a hidden text gives way
//! to a neutral one, so that the answer keeps its code and its end; a hidden line between them is taken out. FEAT of which
//! some features are hidden stays what RFC 2389 section 3.2 says it is.
//!
//! The neutral system is UNKNOWN: a client that trusted another name would misread the server's lists.

use crate::decimal::Text;

use super::reply::{self, Code};
use super::verb::Verb;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// 220
    Greeting,
    /// FEAT
    Features,
    /// SYST
    System,
    /// HELP, with a command or without.
    Help,
    /// STAT without a path: with one it lists files.
    Status,
}

impl About {
    /// What a command asks for, if it is about the server itself.
    pub(super) fn of(verb: &[u8], argument: &[u8]) -> Option<Self> {
        match Verb::of(verb) {
            FEAT => Some(Self::Features),
            SYST => Some(Self::System),
            HELP => Some(Self::Help),
            STAT if argument.is_empty() => Some(Self::Status),
            _ => None,
        }
    }

    /// What rules call it: the command that asks for it.
    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Self::Greeting => b"greeting",
            Self::Features => b"FEAT",
            Self::System => b"SYST",
            Self::Help => b"HELP",
            Self::Status => b"STAT",
        }
    }

    /// Whether a reply with this code tells it (RFC 959 section 5.4, RFC 2389 section 3.2).
    pub(super) const fn is_told_by(self, code: Code) -> bool {
        match self {
            Self::Greeting => code == reply::READY,
            Self::Features => code == 211,
            Self::System => code == 215,
            Self::Help => matches!(code, 211 | 214),
            Self::Status => matches!(code, 211..=213),
        }
    }

    /// What stands in the place of a hidden text; `more`: of the first line of several.
    const fn neutral(self, more: bool) -> &'static [u8] {
        match (self, more) {
            (Self::Greeting, _) => b"Ready",
            (Self::Features, true) => b"Features",
            (Self::Features, false) => b"End",
            (Self::System, _) => b"UNKNOWN",
            (Self::Help | Self::Status, _) => b"Not shown",
        }
    }

    /// The text behind the code of `line`, with a line end if it `ends` the line. `None`: read again it would not be
    /// the line of a reply that it was.
    pub(super) fn written(self, line: &[u8], more: bool, ends: bool) -> Option<Text<16>> {
        let mut text = Text::new();
        text.push(self.neutral(more));
        if ends {
            text.push(b"\r\n");
        }
        let mut whole = Text::<24>::new();
        whole.push(line.get(..reply::TEXT_AT)?);
        whole.push(text.finished()?);
        (reply::parse(whole.finished()?) == reply::parse(line)).then_some(text)
    }
}

const FEAT: Verb = Verb::of(b"FEAT");
const SYST: Verb = Verb::of(b"SYST");
const HELP: Verb = Verb::of(b"HELP");
const STAT: Verb = Verb::of(b"STAT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_a_path_is_about_files() {
        let rows: [(&[u8], &[u8], Option<About>); 7] = [
            (b"feat", b"", Some(About::Features)),
            (b"SYST", b"x", Some(About::System)),
            (b"HELP", b"RETR", Some(About::Help)),
            (b"Stat", b"", Some(About::Status)),
            (b"STAT", b"/pub", None),
            (b"RETR", b"FEAT", None),
            (b"", b"", None),
        ];
        for (verb, argument, want) in rows {
            assert_eq!(About::of(verb, argument), want, "{}", verb.escape_ascii());
        }
    }

    #[test]
    fn what_is_written_keeps_the_code_and_its_end() {
        type Row<'a> = (&'a [u8], bool, bool, Option<&'a [u8]>);
        let rows: [Row<'_>; 5] = [
            (b"215 UNIX Type: L8", false, false, Some(b"UNKNOWN")),
            (b"215 UNIX Type: L8", false, true, Some(b"UNKNOWN\r\n")),
            (b"215-UNIX", true, false, Some(b"UNKNOWN")),
            (b"215", false, false, None),
            (b"21", false, false, None),
        ];
        for (line, more, ends, want) in rows {
            let written = About::System.written(line, more, ends);
            let written = written.as_ref().and_then(Text::finished);
            assert_eq!(written, want, "{}", line.escape_ascii());
        }
    }
}
